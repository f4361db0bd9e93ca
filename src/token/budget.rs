//! How many refreshes a second are taken, so that ten thousand tabs told at once do not arrive at once.

use std::time::Duration;

use crate::domain::Boottime;

/// The deployment's budget, of which each live replica has its share. One second's worth may come at once.
#[derive(Debug)]
pub(super) struct Budget {
    per_second: u32,
    replicas: u32,
    /// When all that was let in would have come, had it come evenly.
    spent_until: Boottime,
}

impl Budget {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second: per_second.max(1), replicas: 1, spent_until: Boottime::default() }
    }

    pub(super) fn set_live_replicas(&mut self, replicas: u32) {
        self.replicas = replicas.max(1);
    }

    /// Lets one in, or says how long until there is room.
    pub(super) fn admit(&mut self, now: Boottime) -> Result<(), Duration> {
        let each = Duration::from_secs(1) * self.replicas / self.per_second;
        let until = Boottime(self.spent_until.max(now).0 + each);
        let burst = Duration::from_secs(1).max(each);
        match until.since(now).checked_sub(burst) {
            Some(wait) if wait > Duration::ZERO => Err(wait),
            _ => {
                self.spent_until = until;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(budget: &mut Budget, now: Duration) -> usize {
        (0..10_000).filter(|_| budget.admit(Boottime(now)).is_ok()).count()
    }

    #[test]
    fn a_second_brings_a_seconds_worth_and_each_replica_has_its_share() {
        let mut budget = Budget::new(100);
        let at = |millis: u64| Duration::from_millis(1_000_000 + millis);
        assert_eq!(admitted(&mut budget, at(0)), 100);
        assert_eq!(budget.admit(Boottime(at(0))), Err(Duration::from_millis(10)));
        assert_eq!(admitted(&mut budget, at(500)), 50);
        budget.set_live_replicas(2);
        assert_eq!(admitted(&mut budget, at(1500)), 50);
    }

    #[test]
    fn a_share_below_one_a_second_still_lets_one_in() {
        let mut budget = Budget::new(1);
        budget.set_live_replicas(3);
        assert_eq!(admitted(&mut budget, Duration::from_secs(1000)), 1);
        assert_eq!(admitted(&mut budget, Duration::from_secs(1002)), 0);
        assert_eq!(admitted(&mut budget, Duration::from_secs(1003)), 1);
    }
}
