use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::cache::CacheLimits;
use crate::domain::operation::Operation;
use crate::domain::records::UserKind;
use crate::domain::{Seq, Timestamp};
use crate::hub::{Hub, Limits};
use crate::token::bench::{Bench, StandingClock};

const BOUND: Duration = Duration::from_secs(1);

/// Stands still, until it has been asked so many times: then it is far ahead, as if the process had been stopped.
struct Stopping {
    clock: Arc<StandingClock>,
    left: AtomicUsize,
}

impl Stopping {
    /// Answers so many times yet before the stop.
    fn stop_after(&self, answers: usize) {
        self.left.store(answers, Ordering::Relaxed);
    }
}

impl Clock for Stopping {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn boottime(&self) -> Boottime {
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        Boottime(self.clock.boottime().0 + if left.is_err() { BOUND * 3 } else { Duration::ZERO })
    }
}

/// A replica that has missed nothing as of a moment ago, and then does not hear that ben's grant is taken.
struct House {
    bench: Bench,
    feed: Feed,
    gate: Gate,
    token: String,
    /// Tells how long ago the tail was read.
    of_the_log: Arc<Stopping>,
    /// Tells how long ago the database was asked.
    of_the_gate: Arc<Stopping>,
}

async fn house(on_stale: OnStale) -> House {
    let bench = Bench::new().await;
    bench.user("ben", UserKind::Person, &["invoices:read"]).await;
    let token = bench.sign_in("ben").await.unwrap().access.token;
    let clock = || Arc::new(Stopping { clock: Arc::clone(&bench.clock), left: AtomicUsize::new(usize::MAX) });
    let (of_the_log, of_the_gate) = (clock(), clock());
    let (store, floors, applied) = (&bench.store, &bench.feed.floors, &bench.applied);
    let (on_log, on_gate) = (Arc::<Stopping>::clone(&of_the_log), Arc::<Stopping>::clone(&of_the_gate));
    let feed = Feed::new(Arc::clone(applied), on_log);
    feed.confirm();
    let limits = CacheLimits::default();
    let cache = PermissionCache::new(Arc::clone(store), Arc::clone(floors), Arc::clone(applied), clock(), limits);
    let hub = Hub::new(Arc::clone(floors), clock(), Limits::default());
    let gate = Gate::new(
        Arc::clone(&bench.verifier),
        Arc::new(Issuers::new(Vec::new(), Arc::clone(store), clock()).unwrap()),
        Arc::clone(floors),
        Arc::new(cache),
        feed.clone(),
        Arc::new(Controls::new(Arc::clone(store), Arc::clone(&bench.keys), hub)),
        on_gate,
        BOUND,
        on_stale,
    );
    let (tenant, user) = ben();
    assert!(may_read(&gate.access_of(&tenant, &user).await.unwrap().unwrap().access), "it is in the cache now");
    bench.feed.hold();
    bench.does([Operation::RevokePermission { tenant, user, permission: "invoices:read".parse().unwrap() }]).await;
    House { bench, feed, gate, token, of_the_log, of_the_gate }
}

impl House {
    async fn caller(&self) -> Result<Caller, Denied> {
        self.gate.caller(&self.token).await
    }

    async fn access(&self) -> Result<Arc<Access>, Denied> {
        let (tenant, user) = ben();
        Ok(self.gate.access_of(&tenant, &user).await?.expect("there is a ben").access)
    }
}

fn ben() -> (TenantName, UserId) {
    (TenantName::first(), "ben".parse().unwrap())
}

fn may_read(access: &Access) -> bool {
    access.permissions.allows(&"invoices:read".parse().unwrap())
}

#[tokio::test]
async fn past_the_bound_nothing_is_decided_from_memory() {
    for waits in [0, 1] {
        let house = house(OnStale::Deny).await;
        assert!(may_read(&house.caller().await.unwrap().access), "within the bound");
        house.of_the_log.stop_after(waits);
        assert!(matches!(house.caller().await, Err(Denied::PastBound)), "after {waits}");
        house.of_the_log.stop_after(waits);
        assert!(matches!(house.access().await, Err(Denied::PastBound)), "after {waits}");
    }
}

#[tokio::test]
async fn past_the_bound_the_database_is_asked_also_of_one_who_came_within_it() {
    for waits in [0, 1] {
        let house = house(OnStale::Lookup).await;
        house.of_the_log.stop_after(waits);
        let caller = house.caller().await.unwrap();
        assert!(!may_read(&caller.access) && !caller.stale, "after {waits}");
        house.of_the_log.stop_after(waits);
        assert!(!may_read(&house.access().await.unwrap()), "after {waits}");
    }
}

#[tokio::test]
async fn past_the_bound_memory_may_serve_and_says_so() {
    for waits in [0, 1] {
        let house = house(OnStale::Serve).await;
        house.of_the_log.stop_after(waits);
        let caller = house.caller().await.unwrap();
        assert!(may_read(&caller.access) && caller.stale, "after {waits}");
    }
}

#[tokio::test]
async fn what_the_database_said_has_an_age_too() {
    let house = house(OnStale::Lookup).await;
    house.of_the_log.stop_after(0);
    house.of_the_gate.stop_after(1);
    assert!(matches!(house.caller().await, Err(Denied::PastBound)));
    house.of_the_gate.stop_after(1);
    assert!(matches!(house.access().await, Err(Denied::PastBound)));
}

#[tokio::test]
async fn a_database_below_what_is_known_is_not_believed() {
    let house = house(OnStale::Lookup).await;
    house.of_the_log.stop_after(0);
    let head = house.bench.store.tail(Seq::ZERO).await.unwrap().head;
    let epoch = house.feed.applied().epoch;
    house.feed.saw(Version { epoch, seq: head });
    assert!(!may_read(&house.access().await.unwrap()));
    house.feed.saw(Version { epoch, seq: head.next() });
    assert!(matches!(house.caller().await, Err(Denied::PastBound)));
    assert!(matches!(house.access().await, Err(Denied::PastBound)));
}
