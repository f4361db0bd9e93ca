//! The log does not grow for ever, where it is set so: rows that are too old for any token to rest on are taken away.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::Random;
use crate::store::Store;

/// Rows that are taken away in one write. It holds the others up for a few milliseconds.
const ROWS_AT_ONCE: u32 = 1_000;
/// Pause between two such writes, so that they are a small part of all.
const PAUSE: Duration = Duration::from_millis(100);
/// How often it is looked whether there are any.
const LOOK_EVERY: Duration = Duration::from_mins(10);

/// Takes rows of the log away that are older than `keep`, until told to stop.
pub async fn retain(store: Arc<dyn Store>, keep: Duration, random: Arc<dyn Random>, stop: CancellationToken) {
    let mut pause = random.up_to(PAUSE);
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        pause = match store.prune_log(keep, ROWS_AT_ONCE).await {
            Ok(taken) => {
                metrics::counter!("permcast_log_pruned_total").increment(taken);
                if taken == u64::from(ROWS_AT_ONCE) { PAUSE } else { LOOK_EVERY + random.up_to(LOOK_EVERY) }
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot take old rows of the log away");
                LOOK_EVERY
            }
        };
    }
}
