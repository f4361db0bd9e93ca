//! How often something may happen: a bucket that fills by time (GCRA). Pure.

use std::time::Duration;

use super::clock::Boottime;

/// So many at once, and then one every so often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub burst: u32,
    pub every: Duration,
}

impl Rate {
    /// So many a second, and as many at once.
    pub const fn per_second(number: u32) -> Self {
        let number = if number == 0 { 1 } else { number };
        Self { burst: number, every: Duration::from_nanos(1_000_000_000 / number as u64) }
    }
}

/// A bucket, kept as the moment at which it will be full again, in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace(u64);

impl Pace {
    /// Takes one out; false where there is none.
    pub fn take(&mut self, now: Boottime, rate: Rate) -> bool {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let (now, every) = (nanos(now.0), nanos(rate.every));
        let full_at = self.0.max(now).saturating_add(every);
        let within = full_at - now <= every.saturating_mul(u64::from(rate.burst));
        if within {
            self.0 = full_at;
        }
        within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_a_flood_does_not() {
        let rate = Rate { burst: 256, every: Duration::from_millis(50) };
        let mut pace = Pace::default();
        let at = |millis| Boottime(Duration::from_millis(millis));
        assert_eq!((0..1000).filter(|_| pace.take(at(7), rate)).count(), 256);
        assert!(pace.take(at(57), rate) && !pace.take(at(57), rate), "one more for its time");
        assert_eq!((0..1000).filter(|_| pace.take(at(1_000_000), rate)).count(), 256, "it does not overflow");
    }

    #[test]
    fn a_second_brings_a_seconds_worth() {
        let rate = Rate::per_second(3);
        let mut pace = Pace::default();
        let at = |millis| Boottime(Duration::from_millis(millis));
        assert_eq!((0..10).filter(|_| pace.take(at(5000), rate)).count(), 3);
        assert_eq!((0..10).filter(|_| pace.take(at(5700), rate)).count(), 2);
    }
}
