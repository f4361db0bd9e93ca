//! Signing keys are rotated as their time comes.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::keys::{KeySet, RotateError};
use crate::domain::{Actor, Clock, Random};
use crate::store::WriteError;

/// Longest sleep, so that a rotation by hand meanwhile is seen.
const LOOK_EVERY: Duration = Duration::from_hours(1);
/// Replicas come within this time of each other; the first rotates, the rest find it done.
const JITTER: Duration = Duration::from_secs(5);
const RETRY_AFTER: Duration = Duration::from_mins(1);

/// Rotates whenever the last rotation is `every` ago, until told to stop.
pub async fn rotate_keys(
    keys: Arc<KeySet>,
    every: Duration,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    stop: CancellationToken,
) {
    loop {
        let left = keys.rotated_at().plus(every).since(clock.now());
        let mut sleep = left.min(LOOK_EVERY) + random.up_to(JITTER);
        if left.is_zero() {
            match keys.rotate(Actor::System("system"), false, false).await {
                Ok(written) => {
                    tracing::info!(version = %written.version, "the signing keys were rotated in their time");
                }
                // Another replica was faster. What it wrote is read with the log.
                Err(RotateError::Write(WriteError::Refused { .. })) => {}
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "the signing keys were not rotated");
                    sleep = RETRY_AFTER;
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(sleep) => {}
            () = stop.cancelled() => return,
        }
    }
}
