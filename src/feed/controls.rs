//! What a change of `keys` or `lockdown` makes be read anew, before it counts as applied.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::domain::records::LockdownRecord;
use crate::domain::{Kind, TenantName, Timestamp};
use crate::hub::Hub;
use crate::store::{Store, StoreError};
use crate::token::{KeyError, KeySet};

/// Why what changed could not be read anew.
#[derive(Debug, thiserror::Error)]
pub enum ControlsError {
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The keys and the lockdown as this replica knows them.
pub struct Controls {
    store: Arc<dyn Store>,
    keys: Arc<KeySet>,
    hub: Arc<Hub>,
    lockdown: ArcSwapOption<LockdownRecord>,
}

impl Controls {
    /// Nothing read yet.
    pub fn new(store: Arc<dyn Store>, keys: Arc<KeySet>, hub: Arc<Hub>) -> Self {
        Self { store, keys, hub, lockdown: ArcSwapOption::empty() }
    }

    /// Reads what changes of this kind are about.
    pub async fn reload(&self, kind: Kind) -> Result<(), ControlsError> {
        match kind {
            Kind::Keys => Ok(self.keys.reload().await?),
            Kind::Lockdown => {
                let lockdown = self.store.lockdown().await?;
                self.hub.lockdown(lockdown.clone());
                self.lockdown.store(lockdown.map(Arc::new));
                Ok(())
            }
            Kind::User | Kind::Role | Kind::Tenant | Kind::Everyone | Kind::Session => Ok(()),
        }
    }

    /// Reads all of it.
    pub async fn reload_all(&self) -> Result<(), ControlsError> {
        self.reload(Kind::Keys).await?;
        self.reload(Kind::Lockdown).await
    }

    /// The `Retry-After` in seconds for a tenant's users, if they are locked out.
    pub fn locked(&self, tenant: &TenantName, now: Timestamp) -> Option<u32> {
        let lockdown = self.lockdown.load();
        let lockdown = lockdown.as_ref()?;
        let is_meant = lockdown.tenant.as_ref().is_none_or(|locked| locked == tenant);
        let is_over = lockdown.until.is_some_and(|until| until <= now);
        (is_meant && !is_over).then_some(lockdown.retry_after_s)
    }
}
