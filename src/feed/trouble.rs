//! How often to tell of what fails again and again: at its first, second, fourth, eighth… time, and when it is over. What is
//! tried fifty times a second would drown in the log whatever else is said there.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts failures in a row.
#[derive(Default)]
pub(super) struct Trouble {
    failures: AtomicU64,
}

impl Trouble {
    /// It failed once more; how often in a row, if that is to be told.
    pub(super) fn again(&self) -> Option<u64> {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        failures.is_power_of_two().then_some(failures)
    }

    /// It succeeded; how often it had failed before, if it had.
    pub(super) fn over(&self) -> Option<u64> {
        let failures = self.failures.swap(0, Ordering::Relaxed);
        (failures > 0).then_some(failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_ever_more_rarely_and_when_it_is_over() {
        let trouble = Trouble::default();
        assert_eq!(trouble.over(), None);
        let told: Vec<u64> = std::iter::repeat_with(|| trouble.again()).take(100).flatten().collect();
        assert_eq!(told, [1, 2, 4, 8, 16, 32, 64]);
        assert_eq!(trouble.over(), Some(100));
        assert_eq!(trouble.over(), None);
        assert_eq!(trouble.again(), Some(1), "the next one is new");
    }
}
