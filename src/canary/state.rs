//! Whose turn it is, what is done, and what a probe came to. Pure.

use std::time::Duration;

use crate::domain::operation::{NewTenant, NewUser};
use crate::domain::records::{Status, UserKind};
use crate::domain::{Grant, Operation, TenantName, Timestamp, UserId};
use crate::feed::Report;

/// Who is flipped.
#[derive(Debug, Clone)]
pub(super) struct Bird {
    pub(super) tenant: TenantName,
    pub(super) user: UserId,
    permission: Grant,
}

impl Bird {
    pub(super) fn new() -> Self {
        Self {
            tenant: "permcast-canary".parse().expect("it follows the grammar"),
            user: "canary".parse().expect("it follows the grammar"),
            permission: "canary:sings".parse().expect("it follows the grammar"),
        }
    }

    /// What makes it, one after the other; each may be there already.
    pub(super) fn making(&self) -> [Operation; 2] {
        let description = "permcast's own, to measure how soon changes arrive".to_owned();
        let tenant = NewTenant { name: self.tenant.clone(), description, status: Status::Active };
        let user = NewUser {
            id: self.user.clone(),
            name: String::new(),
            email: None,
            kind: UserKind::Service,
            // So that nobody can sign in.
            password: None,
            status: Status::Active,
            identities: Vec::new(),
        };
        [Operation::CreateTenant(tenant), Operation::CreateUser { tenant: self.tenant.clone(), user }]
    }

    /// What flips it.
    pub(super) fn flip(&self, sings: bool) -> Operation {
        let (tenant, user, permission) = (self.tenant.clone(), self.user.clone(), self.permission.clone());
        if sings {
            Operation::GrantPermission { tenant, user, permission, expires_at: None }
        } else {
            Operation::RevokePermission { tenant, user, permission }
        }
    }
}

/// How long after its commit a change was where; `None`: not in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Applied on the replica that committed it.
    pub applied: Option<Duration>,
    /// Applied on every replica that is registered as running.
    pub all_replicas: Option<Duration>,
    /// Read from a client's socket.
    pub socket: Option<Duration>,
}

impl Arrival {
    /// By the names that metrics give them.
    pub fn stages(&self) -> [(&'static str, Option<Duration>); 3] {
        [("applied", self.applied), ("all_replicas", self.all_replicas), ("socket", self.socket)]
    }

    /// Whether it was everywhere in time.
    pub fn is_complete(&self) -> bool {
        self.stages().iter().all(|(_, took)| took.is_some())
    }
}

/// How long until the next turn of anybody, so that all replicas count the same turns.
pub(super) fn until_next(now: Timestamp, interval: Duration) -> Duration {
    let step = millis(interval);
    Duration::from_millis((step - now.millis().rem_euclid(step)).unsigned_abs())
}

/// Whether this turn is ours, of those that run. Where replicas do not agree on who runs, two probe at once or none does,
/// which harms nobody.
pub(super) fn is_ours(own: &str, running: &[String], now: Timestamp, interval: Duration) -> bool {
    let mut running: Vec<&str> = running.iter().map(String::as_str).collect();
    running.sort_unstable();
    let Some(place) = running.iter().position(|id| *id == own) else { return running.is_empty() };
    let turn = now.millis().div_euclid(millis(interval));
    turn.rem_euclid(i64::try_from(running.len()).unwrap_or(1)) == i64::try_from(place).unwrap_or(0)
}

fn millis(interval: Duration) -> i64 {
    i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1)
}

/// When every replica had it. What the replicas said is exact to the announcement; where one of them did not say, as
/// without a broker, when this one found out.
pub(super) fn all_applied(report: &Report, found_out: Duration) -> Option<Duration> {
    if !report.complete {
        return None;
    }
    let times: Option<Vec<f64>> = report.replicas.iter().map(|replica| replica.ms).collect();
    Some(times.map_or(found_out, |times| Duration::from_secs_f64(times.into_iter().fold(0.0, f64::max) / 1000.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::{Connections, ReplicaProgress};

    const STEP: Duration = Duration::from_secs(5);

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn the_replicas_take_turns() {
        let running: Vec<String> = ["b", "a", "c"].map(str::to_owned).to_vec();
        let turns: Vec<&str> = (0..6)
            .map(|turn| {
                let now = at(turn * 5000 + 3);
                let ours: Vec<&str> =
                    ["a", "b", "c"].into_iter().filter(|id| is_ours(id, &running, now, STEP)).collect();
                assert_eq!(ours.len(), 1, "one at a time");
                ours[0]
            })
            .collect();
        assert_eq!(turns, ["a", "b", "c", "a", "b", "c"]);
        assert!(!is_ours("new", &running, at(3), STEP), "who is not known to run yet waits");
        assert!(is_ours("alone", &[], at(3), STEP));
        assert_eq!(until_next(at(12_000), STEP), Duration::from_secs(3));
        assert_eq!(until_next(at(15_000), STEP), STEP);
    }

    #[test]
    fn what_replicas_say_is_believed_only_if_all_have_said_it() {
        let report = |complete, times: &[Option<f64>]| Report {
            complete,
            elapsed_ms: 0.0,
            replicas: times.iter().map(|&ms| ReplicaProgress { id: String::new(), applied: true, ms }).collect(),
            connections: Connections::default(),
        };
        let found_out = Duration::from_millis(50);
        assert_eq!(all_applied(&report(true, &[Some(1.0), Some(2.0)]), found_out), Some(Duration::from_millis(2)));
        assert_eq!(all_applied(&report(true, &[Some(1.0), None]), found_out), Some(found_out));
        assert_eq!(all_applied(&report(false, &[Some(1.0)]), found_out), None);
    }
}
