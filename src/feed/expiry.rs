//! Expiring grants are deleted when their time comes, so that expiry is a change like any other.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Feed;
use crate::domain::{Clock, Random};
use crate::store::Store;

/// Replicas wake for the same expiry within this time of each other; the first deletes, the rest find nothing to do.
const JITTER: Duration = Duration::from_millis(20);
/// Longest sleep: the database's clock may not run like ours, and a shell may have moved a time.
const SLEEP_MAX: Duration = Duration::from_secs(30);
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Deletes grants as their time comes, until told to stop.
pub async fn expire(
    feed: Feed,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    stop: CancellationToken,
) {
    let mut advanced = feed.watch();
    loop {
        advanced.mark_unchanged();
        let sleep = match store.next_expiry().await {
            Ok(None) => SLEEP_MAX,
            Ok(Some(at)) => {
                let left = at.since(clock.now());
                if left.is_zero() {
                    match store.delete_expired().await {
                        // One deletion may be a moment early by the database's clock.
                        Ok(written) if written.changes.is_empty() => JITTER,
                        Ok(_) => continue,
                        Err(error) => {
                            tracing::warn!(%error, "cannot delete what has expired");
                            RETRY_AFTER
                        }
                    }
                } else {
                    (left + random.up_to(JITTER)).min(SLEEP_MAX)
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot read what expires next");
                RETRY_AFTER
            }
        };
        tokio::select! {
            () = tokio::time::sleep(sleep) => {}
            // A change may have brought an earlier expiry.
            _ = advanced.changed() => {}
            () = stop.cancelled() => return,
        }
    }
}
