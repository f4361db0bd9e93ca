//! One clock for all processes of a run: nanoseconds since the machine was started.

use permcast::domain::Clock as _;
use permcast::runtime::SystemClock;

/// Now.
pub fn now() -> u64 {
    u64::try_from(SystemClock.boottime().0.as_nanos()).expect("a machine runs for less than 500 years")
}

/// A span of nanoseconds, in milliseconds.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}
