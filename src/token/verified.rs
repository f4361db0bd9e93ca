//! Tokens that were verified, kept so that the next request with the same one costs a hash and no signature; and of those that
//! are not kept, that their signature holds, which is little to remember.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use quick_cache::sync::Cache;

use super::claims::Claims;
use crate::domain::{Access, Basis, Timestamp};

/// A token whose signature and claims hold. Whether it is fresh is asked of the floors, each time.
#[derive(Debug, Clone)]
pub struct Verified {
    pub claims: Claims,
    /// Roles and permissions of a fat token.
    pub access: Option<Arc<Access>>,
    /// What it rests on.
    pub basis: Basis,
}

/// Tokens of this many bytes in digest form, so that none is kept in the clear.
type TokenKey = [u8; 32];

struct Entry {
    verified: Arc<Verified>,
    /// The key set that verified it: under another one it is verified again.
    generation: u64,
    /// When it or its key is over.
    until: Timestamp,
}

/// Verified tokens, bounded in number.
pub(super) struct VerifiedCache {
    whole: Cache<TokenKey, Arc<Entry>>,
    /// Tokens whose signature holds, under the key set of that generation.
    signed: Cache<TokenKey, u64>,
}

impl VerifiedCache {
    /// For so many whole tokens, and so many of which only that is known.
    pub(super) fn new(whole: usize, signed: usize) -> Self {
        Self { whole: Cache::new(whole), signed: Cache::new(signed) }
    }

    pub(super) fn key(token: &str) -> TokenKey {
        digest(&SHA256, token.as_bytes()).as_ref().try_into().expect("SHA-256 is 32 bytes")
    }

    /// The token, if it was verified under these very keys and is not over.
    pub(super) fn get(&self, key: &TokenKey, generation: u64, now: Timestamp) -> Option<Arc<Verified>> {
        let entry = self.whole.get(key)?;
        if entry.generation == generation && now < entry.until {
            return Some(Arc::clone(&entry.verified));
        }
        self.whole.remove(key);
        None
    }

    pub(super) fn insert(&self, key: TokenKey, verified: &Arc<Verified>, generation: u64, until: Timestamp) {
        self.whole.insert(key, Arc::new(Entry { verified: Arc::clone(verified), generation, until }));
    }

    /// Whether the signature was found to hold under these very keys.
    pub(super) fn is_signed(&self, key: &TokenKey, generation: u64) -> bool {
        self.signed.get(key) == Some(generation)
    }

    /// Its signature holds under these keys.
    pub(super) fn note_signed(&self, key: TokenKey, generation: u64) {
        self.signed.insert(key, generation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_under_the_keys_that_it_was_checked_with() {
        let cache = VerifiedCache::new(1, 2);
        let key = VerifiedCache::key("a token");
        cache.note_signed(key, 3);
        assert!(cache.is_signed(&key, 3) && !cache.is_signed(&key, 4));
        assert!(!cache.is_signed(&VerifiedCache::key("another"), 3));
    }
}
