//! How many refreshes a second are taken, so that ten thousand tabs told at once do not arrive at once.

use std::time::Duration;

use super::keys::{KeyError, KeySet};
use crate::domain::Boottime;
use crate::store::Store;

/// What of a second's worth may come at once: small, so that no second sees much more than the budget.
const BURST: Duration = Duration::from_millis(100);
/// Who would have to wait no longer than this is held, not sent away: arrivals at random overlap a little.
const HOLD: Duration = Duration::from_millis(250);

/// The deployment's budget, of which each live replica has its share.
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

    /// Lets one in after the time that is answered, or says how long until there is room.
    pub(super) fn admit(&mut self, now: Boottime) -> Result<Duration, Duration> {
        let each = Duration::from_secs(1) * self.replicas / self.per_second;
        let until = Boottime(self.spent_until.max(now).0 + each);
        let wait = until.since(now).saturating_sub(BURST.max(each));
        if wait > HOLD {
            return Err(wait);
        }
        self.spent_until = until;
        Ok(wait)
    }
}

/// What a refresh takes of a core beside the signature: HTTP, and two trips to the database. Measured.
const BESIDE: Duration = Duration::from_micros(230);
/// Less than this no machine is worth, however busy it was when it was measured; more than that nobody has measured.
const SANE: (u32, u32) = (200, 20_000);

/// How long the database is measured.
const MEASURE_WITHIN: Duration = Duration::from_millis(20);

/// Measures quickly what a refresh takes here, and answers how many a second this machine is good for.
pub async fn measured_budget(keys: &KeySet, store: &dyn Store, workers: Option<usize>) -> Result<u32, KeyError> {
    let signature = keys.signature_takes()?;
    let write = store.refresh_takes(MEASURE_WITHIN).await;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cores = workers.map_or(cores, |workers| workers.min(cores));
    let budget = affordable(signature, write, cores);
    tracing::info!(budget, ?signature, ?write, cores, "refreshes a second that are taken here");
    Ok(budget)
}

/// The refreshes a second that are taken with half of a machine's cores and half of what the database can do, so that decisions
/// and changes have the other.
fn affordable(signature: Duration, write: Option<Duration>, cores: usize) -> u32 {
    let half_a_second = 500_000_000_u128;
    let by_cores = half_a_second * cores as u128 / (BESIDE + signature).as_nanos();
    let by_database = |takes: Duration| half_a_second / takes.as_nanos().max(1);
    let least = write.map_or(by_cores, |takes| by_database(takes).min(by_cores));
    u32::try_from(least).unwrap_or(u32::MAX).clamp(SANE.0, SANE.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many are let in at once, and how many after a moment.
    fn admitted(budget: &mut Budget, now: Duration) -> (usize, usize) {
        let all: Vec<_> = (0..10_000).map_while(|_| budget.admit(Boottime(now)).ok()).collect();
        let at_once = all.iter().filter(|wait| wait.is_zero()).count();
        (at_once, all.len() - at_once)
    }

    #[test]
    fn a_second_brings_a_seconds_worth_and_each_replica_has_its_share() {
        let mut budget = Budget::new(100);
        let at = |millis: u64| Duration::from_millis(1_000_000 + millis);
        assert_eq!(admitted(&mut budget, at(0)), (10, 25));
        assert_eq!(budget.admit(Boottime(at(0))), Err(Duration::from_millis(260)));
        assert_eq!(admitted(&mut budget, at(500)), (10, 25), "what was not asked for is not saved up");
        budget.set_live_replicas(2);
        assert_eq!(admitted(&mut budget, at(1500)), (5, 12));
    }

    #[test]
    fn no_second_sees_more_than_a_tenth_above_the_budget() {
        let mut budget = Budget::new(100);
        let mut let_in: Vec<u128> = Vec::new();
        // Ten times as many come as there is room for.
        for millis in 0..5_000 {
            let now = Duration::from_millis(1_000_000 + millis);
            let_in.extend(budget.admit(Boottime(now)).ok().map(|wait| (now + wait).as_millis()));
        }
        let most =
            let_in.iter().map(|from| let_in.iter().filter(|at| (*from..*from + 1000).contains(at)).count()).max();
        assert!(most.unwrap() <= 110, "{most:?}");
        assert!(let_in.len() >= 500, "{}", let_in.len());
    }

    #[test]
    fn a_share_below_one_a_second_still_lets_one_in() {
        let mut budget = Budget::new(1);
        budget.set_live_replicas(3);
        assert_eq!(admitted(&mut budget, Duration::from_secs(1000)), (1, 0));
        assert_eq!(admitted(&mut budget, Duration::from_secs(1002)), (0, 0));
        assert_eq!(admitted(&mut budget, Duration::from_secs(1003)), (1, 0));
    }

    #[test]
    fn a_budget_is_half_of_what_the_slower_part_can_do() {
        let (micros, millis) = (Duration::from_micros, Duration::from_millis);
        assert_eq!(affordable(micros(20), Some(micros(8)), 2), 4_000);
        assert_eq!(affordable(micros(20), None, 4), 8_000);
        assert_eq!(affordable(micros(770), Some(micros(8)), 2), 1_000, "RS256");
        assert_eq!(affordable(micros(20), Some(micros(312)), 2), 1_602, "a disk that turns");
        assert_eq!(affordable(micros(20), Some(micros(700)), 16), 714, "a server, for however many cores");
        assert_eq!(affordable(millis(100), Some(millis(16)), 1), 200);
    }
}
