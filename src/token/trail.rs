//! What the audit trail needs beside its triggers: sign-ins that were refused are told to it, and its entries are chained.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Sessions;
use crate::store::{Store, StoreError};

/// How often. So long may somebody at the database alter an entry unseen.
const EVERY: Duration = Duration::from_secs(1);

/// Keeps the trail until told to stop, and then once more.
pub async fn keep_trail(sessions: Arc<Sessions>, store: Arc<dyn Store>, stop: CancellationToken) {
    loop {
        let last = tokio::select! {
            () = tokio::time::sleep(EVERY) => false,
            () = stop.cancelled() => true,
        };
        if let Err(error) = keep(&sessions, &*store).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the audit trail was not chained");
        }
        if last {
            return;
        }
    }
}

async fn keep(sessions: &Sessions, store: &dyn Store) -> Result<(), StoreError> {
    let refused = sessions.take_refused();
    if !refused.is_empty() {
        store.note_refused(refused).await?;
    }
    while store.chain_audit().await? > 0 {}
    Ok(())
}
