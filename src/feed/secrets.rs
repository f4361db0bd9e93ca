//! What replicas share beside the log and keep in memory: read anew where the log has begun anew, for the database may be
//! another one by then, and its seal is one epoch's.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Feed;
use crate::bus::Bus;
use crate::domain::{Epoch, Random};
use crate::protocol::bus::Sealer;
use crate::store::{SEAL_SECRET, Store};
use crate::token::{SecretError, Sessions, Vault};

const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Where the secrets are, and who uses them.
pub struct Secrets {
    pub store: Arc<dyn Store>,
    pub vault: Arc<Vault>,
    pub random: Arc<dyn Random>,
    pub sessions: Arc<Sessions>,
    pub bus: Arc<dyn Bus>,
    /// Whose tokens this replica makes; the database says it for all.
    pub issuer: String,
}

impl Secrets {
    /// Follows the epochs after `epoch`. Until the new seal is read, messages are dropped on both sides, which costs time
    /// alone. Ends before its time where this replica serves another issuer than the database's: it must start again.
    pub async fn follow(self, feed: Feed, mut epoch: Epoch, stop: CancellationToken) {
        let mut advanced = feed.watch();
        loop {
            let now = feed.applied().epoch;
            let waiting = if now == epoch {
                None
            } else {
                match self.read().await {
                    Ok(true) => {
                        epoch = now;
                        continue;
                    }
                    Ok(false) => return,
                    Err(error) => {
                        tracing::warn!(%error, "cannot read the new epoch's secrets yet");
                        Some(RETRY_AFTER)
                    }
                }
            };
            tokio::select! {
                _ = advanced.changed(), if waiting.is_none() => {}
                () = tokio::time::sleep(waiting.unwrap_or_default()), if waiting.is_some() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Reads them all; false where this is another issuer's database.
    async fn read(&self) -> Result<bool, SecretError> {
        let kept = self.store.ensure_setting("issuer", &self.issuer).await?;
        if kept != self.issuer {
            tracing::error!(here = self.issuer, there = kept, "the database that was put back is another issuer's");
            return Ok(false);
        }
        self.sessions.reload_secret(&self.vault).await?;
        let seal = self.vault.shared_secret(&*self.store, SEAL_SECRET, &*self.random).await?;
        self.bus.reseal(Sealer::new(&seal));
        Ok(true)
    }
}
