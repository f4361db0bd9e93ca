//! The audit trail: its entries, and the chain by which it shows whether one was altered, removed or put in.
//!
//! Triggers write the entries. permcast hashes each together with the hash of the one before, soon after it was committed:
//! a shell has no hash function. Entries that are not hashed yet are named as such.

use aws_lc_rs::digest::{Context, SHA256};

use crate::domain::{TenantName, Timestamp, UserId};

/// The hash of an entry and all before it.
pub type ChainHash = [u8; 32];

/// What the first entry is chained to.
pub const CHAIN_BEGINS: ChainHash = [0; 32];

/// One entry, as it is stored: what a shell made of it, too, is to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its number; they count up by one.
    pub id: i64,
    pub at: Option<Timestamp>,
    /// `<tenant>/<user>`, `system`, `cli`, or `sql` for a write past the API.
    pub actor: Option<String>,
    /// From where he acted.
    pub address: Option<String>,
    /// The `X-Request-Id` of the request.
    pub request: Option<String>,
    /// What was done, such as `role.granted`.
    pub action: Option<String>,
    /// None where it bears on all of them.
    pub tenant: Option<String>,
    /// To whom: a user, a role, a key.
    pub target: Option<String>,
    /// JSON.
    pub before: Option<String>,
    /// JSON.
    pub after: Option<String>,
}

impl AuditEntry {
    /// The hash of this entry after those before it. Each part is told apart from the next by its length.
    pub fn hash_after(&self, before: &ChainHash) -> ChainHash {
        let mut context = Context::new(&SHA256);
        context.update(before);
        context.update(&self.id.to_be_bytes());
        let at = self.at.map(|at| at.millis().to_string());
        let texts = [
            &at,
            &self.actor,
            &self.address,
            &self.request,
            &self.action,
            &self.tenant,
            &self.target,
            &self.before,
            &self.after,
        ];
        for text in texts {
            match text {
                None => context.update(&[0]),
                Some(text) => {
                    context.update(&[1]);
                    context.update(&(text.len() as u64).to_be_bytes());
                    context.update(text.as_bytes());
                }
            }
        }
        context.finish().as_ref().try_into().expect("SHA-256 is 32 bytes")
    }
}

/// Which entries are asked for; what is `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// Only this tenant's.
    pub tenant: Option<TenantName>,
    pub actor: Option<String>,
    /// Exactly this one, or with `role` all that begin with `role.`.
    pub action: Option<String>,
    pub target: Option<String>,
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
    /// Behind this entry.
    pub after: i64,
    pub limit: u32,
}

/// A place in the trail: what stands there, and the hash that was made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLink {
    pub id: i64,
    pub entry: Option<AuditEntry>,
    pub hash: Option<ChainHash>,
}

/// Sign-ins that were refused: how many, for whom and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedSignIns {
    /// None where there is no such user: what was typed instead may be a password.
    pub user: Option<(TenantName, UserId)>,
    /// Empty where it is of several.
    pub address: String,
    pub count: u64,
}

/// What is wrong with the trail, at the first entry where something is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    #[error("entry {0} is missing: it was removed")]
    Missing(i64),
    #[error("entry {0} is not what it was when it was hashed: it, or its hash, was altered")]
    Altered(i64),
    #[error("entry {0} has no hash, though later ones have: it was put in, or its hash was removed")]
    Unhashed(i64),
    #[error("entry {0} has another hash than the one that was kept")]
    NotKept(i64),
    #[error("the trail ends before entry {0}, whose hash was kept: its end was removed")]
    Shortened(i64),
}

/// What was found so far, reading from the first entry on.
#[derive(Debug, Clone)]
pub struct ChainCheck {
    kept: Option<(i64, ChainHash)>,
    seen: i64,
    hash: ChainHash,
    unhashed: Option<i64>,
}

/// A trail in which nothing is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainReport {
    /// The last entry that is hashed, and its hash: keep it elsewhere, and its removal will show.
    pub last: (i64, ChainHash),
    /// Entries behind it that are not hashed yet.
    pub open: i64,
}

impl ChainCheck {
    /// Holds the trail against a hash that was kept elsewhere, where there is one.
    pub fn new(kept: Option<(i64, ChainHash)>) -> Self {
        Self { kept, seen: 0, hash: CHAIN_BEGINS, unhashed: None }
    }

    /// The next place.
    pub fn take(&mut self, link: &AuditLink) -> Result<(), ChainFault> {
        let expected = self.seen + 1;
        let Some(entry) = link.entry.as_ref().filter(|_| link.id == expected) else {
            return Err(ChainFault::Missing(expected));
        };
        self.seen = expected;
        let Some(hash) = link.hash else {
            self.unhashed.get_or_insert(expected);
            return Ok(());
        };
        if let Some(unhashed) = self.unhashed {
            return Err(ChainFault::Unhashed(unhashed));
        }
        if entry.hash_after(&self.hash) != hash {
            return Err(ChainFault::Altered(expected));
        }
        if self.kept.is_some_and(|(id, kept)| id == expected && kept != hash) {
            return Err(ChainFault::NotKept(expected));
        }
        self.hash = hash;
        Ok(())
    }

    /// There are no more.
    pub fn end(self) -> Result<ChainReport, ChainFault> {
        let last = self.unhashed.map_or(self.seen, |unhashed| unhashed - 1);
        match self.kept {
            Some((kept, _)) if kept > last => Err(ChainFault::Shortened(kept)),
            _ => Ok(ChainReport { last: (last, self.hash), open: self.seen - last }),
        }
    }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
