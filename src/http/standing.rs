//! Whether an answer that takes its time may still be given: decided again at each change.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_web::web;
use tokio::sync::watch;

use super::Services;
use super::auth::{Caller, may_act};
use crate::domain::{Access, Stamp, TenantName, Timestamp};
use crate::gate::Denied;

/// How often it is looked at whether token, lockdown and replica still hold, where no change calls for it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The standing of a caller during a stream or a wait.
pub struct Standing {
    services: web::Data<Services>,
    token: String,
    /// Where he must be able to manage; `None`: he must be an operator.
    tenant: Option<TenantName>,
    /// When his token's life ends.
    expires_at: Timestamp,
    advanced: watch::Receiver<Stamp>,
}

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// The log went on, and he may still be answered.
    Advanced,
    /// The time is up, and he may still be answered.
    Idle,
    /// He may not be answered any more.
    Lost,
}

impl Standing {
    /// That of a caller who was just found to have the right.
    pub fn new(caller: &Caller, services: web::Data<Services>, tenant: Option<TenantName>) -> Self {
        let mut advanced = services.feed.watch();
        // What was applied between the look at him and now is looked at again.
        advanced.mark_changed();
        let (token, expires_at) = (caller.token().to_owned(), caller.verified.claims.expires_at);
        Self { services, token, tenant, expires_at, advanced }
    }

    /// Waits for the next change, at most so long, and never beyond the token's life or the replica's.
    pub async fn wait(&mut self, at_most: Duration) -> Woken {
        let left = self.expires_at.since(self.services.clock.now());
        let advanced = tokio::select! {
            changed = self.advanced.changed() => match changed {
                Ok(()) => true,
                Err(_) => return Woken::Lost,
            },
            () = tokio::time::sleep(at_most.min(left)) => false,
        };
        match (self.holds().await, advanced) {
            (false, _) => Woken::Lost,
            (true, true) => Woken::Advanced,
            (true, false) => Woken::Idle,
        }
    }

    /// Returns when he may not be answered any more.
    pub async fn lost(mut self) {
        while self.wait(LOOK_EVERY).await != Woken::Lost {}
    }

    /// A stale token does not end it, for its bearer did not ask anew; the loss of the right does.
    async fn holds(&self) -> bool {
        if self.services.clock.now() >= self.expires_at || self.services.draining.load(Ordering::Acquire) {
            return false;
        }
        let access = match self.services.gate.caller(&self.token).await {
            Ok(caller) => Some(caller.access),
            Err(Denied::Stale { .. }) => self.access_now().await,
            Err(_) => None,
        };
        access.is_some_and(|access| may_act(&access, self.tenant.as_ref()).is_ok())
    }

    async fn access_now(&self) -> Option<Arc<Access>> {
        let identified = self.services.gate.identify(&self.token).await.ok()?;
        let claims = &identified.verified.claims;
        let found = self.services.gate.access_of(&claims.tenant, &claims.user).await.ok()??;
        let locked = self.services.gate.locked(&claims.tenant).is_some() && !found.access.permissions.is_operator();
        (!locked).then_some(found.access)
    }
}
