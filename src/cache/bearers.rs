//! Whose an identity at a trusted issuer is: held as long as nothing about the user has changed.
//!
//! A change of identities is a change of the user who loses one and of the user who gets it, so the entry of one that is
//! somebody's is fresh by that user's floor. Of one that is nobody's nothing could tell when it becomes somebody's: it is
//! not held.

use std::sync::Arc;

use quick_cache::sync::Cache;

use super::{Entry, Loads, PermissionCache};
use crate::domain::records::Identity;
use crate::domain::{Stamp, TenantName, Timestamp, UserId};
use crate::store::{Bound, Loaded, StoreError};

type Key = (TenantName, Identity);

/// The user to whom an identity belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    pub user: UserId,
    /// What was begun before is over.
    pub ended_at: Option<Timestamp>,
    /// The position as of which it holds.
    pub stamp: Stamp,
}

/// The identities at hand.
pub(super) struct Bearers {
    entries: Cache<Key, Arc<Entry<Bound>>>,
    loads: Loads<Key, Entry<Bound>>,
}

impl Bearers {
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: Cache::new(capacity), loads: Loads::default() }
    }
}

impl PermissionCache {
    /// Whose an identity is now; `None` where it is nobody's, or he or the tenant is not active.
    pub async fn bearer(&self, tenant: &TenantName, identity: &Identity) -> Result<Option<Bearer>, StoreError> {
        // Before anything is looked at: what is found fresh after this holds as of it.
        let applied = self.applied.stamp();
        let key = (tenant.clone(), identity.clone());
        let Bearers { entries, loads } = &self.bearers;
        let is_usable = |entry: &Entry<Bound>| entry.facts.is_some() && self.floors.is_fresh(&entry.basis);
        let held = entries.get(&key).filter(|entry| is_usable(entry));
        let entry = if let Some(entry) = held {
            entry
        } else {
            let load = || async {
                let Loaded { version, value } = self.store.load_identity(tenant, identity).await?;
                let stamp = self.applied.stamp_of(version).unwrap_or(Stamp::NEVER);
                let user = value.as_ref().map(|bound| &bound.user);
                let basis = self.floors.entry_basis(stamp, tenant, user, [].into_iter());
                Ok(Entry { basis, facts: value, until: None })
            };
            let entry = loads.load(&key, &self.permits, is_usable, load).await?;
            if entry.facts.is_some() {
                entries.insert(key, Arc::clone(&entry));
            }
            entry
        };
        let stamp = self.stamp_of(&entry.basis, applied);
        Ok(entry.facts.clone().map(|Bound { user, ended_at }| Bearer { user, ended_at, stamp }))
    }

    /// The same read from the database, whatever is held here; and the position that was read at.
    pub async fn read_bearer(
        &self,
        tenant: &TenantName,
        identity: &Identity,
    ) -> Result<(Stamp, Option<Bearer>), StoreError> {
        let Loaded { version, value } = self.store.load_identity(tenant, identity).await?;
        let stamp = self.applied.stamp_of(version).unwrap_or(Stamp::NEVER);
        Ok((stamp, value.map(|Bound { user, ended_at }| Bearer { user, ended_at, stamp })))
    }
}
