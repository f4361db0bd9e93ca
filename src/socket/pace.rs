//! How often a client may say something: a bucket that fills by time. Pure.

use std::time::Duration;

use crate::domain::Boottime;

/// What a client may say at once, and how long it takes until it may say one more: far above what a tab does, which says
/// a few words an hour, and far below what would cost others anything.
const BURST: u32 = 256;
const EVERY: Duration = Duration::from_millis(50);

/// One client's bucket, kept as the moment at which it will be full again (GCRA).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    /// In milliseconds.
    full_at: u64,
}

impl Pace {
    /// Takes one out; false where there is none.
    pub(super) fn take(&mut self, now: Boottime) -> bool {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let now = millis(now.0);
        let full_at = self.full_at.max(now).saturating_add(millis(EVERY));
        let within = full_at - now <= millis(EVERY) * u64::from(BURST);
        if within {
            self.full_at = full_at;
        }
        within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_a_flood_does_not() {
        let mut pace = Pace::default();
        let at = |millis| Boottime(Duration::from_millis(millis));
        assert_eq!((0..1000).filter(|_| pace.take(at(7))).count(), BURST as usize);
        assert!(pace.take(at(57)) && !pace.take(at(57)), "one more for its time");
        assert_eq!((0..1000).filter(|_| pace.take(at(1_000_000))).count(), BURST as usize, "it does not overflow");
    }
}
