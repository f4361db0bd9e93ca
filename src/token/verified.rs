//! Tokens that were verified, kept so that the next request with the same one costs a hash and no signature.

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
pub(super) struct VerifiedCache(Cache<TokenKey, Arc<Entry>>);

impl VerifiedCache {
    pub(super) fn new(capacity: usize) -> Self {
        Self(Cache::new(capacity))
    }

    pub(super) fn key(token: &str) -> TokenKey {
        digest(&SHA256, token.as_bytes()).as_ref().try_into().expect("SHA-256 is 32 bytes")
    }

    /// The token, if it was verified under these very keys and is not over.
    pub(super) fn get(&self, key: &TokenKey, generation: u64, now: Timestamp) -> Option<Arc<Verified>> {
        let entry = self.0.get(key)?;
        if entry.generation == generation && now < entry.until {
            return Some(Arc::clone(&entry.verified));
        }
        self.0.remove(key);
        None
    }

    pub(super) fn insert(&self, key: TokenKey, verified: &Arc<Verified>, generation: u64, until: Timestamp) {
        self.0.insert(key, Arc::new(Entry { verified: Arc::clone(verified), generation, until }));
    }
}
