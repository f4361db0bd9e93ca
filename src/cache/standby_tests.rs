//! Loads from a standby are worth what older entries are worth, or the primary is asked.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use super::{CacheLimits, PermissionCache};
use crate::domain::operation::Operation;
use crate::domain::records::UserKind;
use crate::domain::{Change, Clock, Grant, RoleNo, Seq, TenantName, UserId};
use crate::store::standby::{Sighted, Standby};
use crate::store::{RoleFacts, StoreError, UserFacts};
use crate::token::bench::Bench;

/// What only the standby says, so that one sees whence it came.
const MARK: &str = "from:standby";

/// Says what the primary said when it was copied, and marks it.
#[derive(Default)]
struct Copied {
    user: Mutex<Option<Sighted<Option<UserFacts>>>>,
    broken: AtomicBool,
    asked: AtomicU32,
}

impl Copied {
    fn answer<T>(&self, answer: Option<T>) -> Result<T, StoreError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let answer = answer.filter(|_| !self.broken.load(Ordering::Relaxed));
        answer.ok_or(StoreError::Unavailable { doing: "nothing", source: None })
    }
}

#[async_trait]
impl Standby for Copied {
    async fn load_user(&self, _: &TenantName, _: &UserId) -> Result<Sighted<Option<UserFacts>>, StoreError> {
        self.answer(self.user.lock().unwrap().clone())
    }

    async fn load_role(&self, _: RoleNo) -> Result<Sighted<Option<RoleFacts>>, StoreError> {
        self.answer(None)
    }

    async fn close(&self) {}
}

struct World {
    bench: Bench,
    copied: Arc<Copied>,
    cache: PermissionCache,
}

impl World {
    /// Ben has one permission; the standby knows nothing yet.
    async fn new() -> Self {
        let bench = Bench::new().await;
        bench.user("ben", UserKind::Person, &["own"]).await;
        bench.user("cleo", UserKind::Person, &[]).await;
        let clock: Arc<dyn Clock> = Arc::<crate::token::bench::StandingClock>::clone(&bench.clock);
        let (floors, applied) = (Arc::clone(&bench.feed.floors), Arc::clone(&bench.applied));
        let copied = Arc::new(Copied::default());
        let cache = PermissionCache::new(Arc::clone(&bench.store), floors, applied, clock, CacheLimits::default())
            .beside(Arc::<Copied>::clone(&copied));
        let world = Self { bench, copied, cache };
        world.cache.saw(&world.log().await);
        world
    }

    async fn log(&self) -> Vec<Change> {
        self.bench.store.tail(Seq::ZERO).await.unwrap().changes
    }

    /// From here on the standby stands still.
    async fn copy(&self, alter: impl FnOnce(&mut Sighted<Option<UserFacts>>)) {
        let loaded = self.bench.store.load_user(&TenantName::first(), &"ben".parse().unwrap()).await.unwrap();
        let mut sighted = Sighted { loaded, last: self.log().await.pop() };
        if let Some(facts) = &mut sighted.loaded.value {
            facts.grants.push(MARK.parse().unwrap());
        }
        alter(&mut sighted);
        *self.copied.user.lock().unwrap() = Some(sighted);
    }

    /// What ben may, loaded anew, and whether the standby said so.
    async fn loads(&self) -> (Vec<String>, bool) {
        self.cache.users.clear();
        self.cache.assembled.clear();
        let found = self.cache.access(&TenantName::first(), &"ben".parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(found.stamp, self.bench.applied.stamp(), "as good as what is applied");
        let mut grants: Vec<String> = found.access.permissions.grants().iter().map(Grant::to_string).collect();
        let before = grants.len();
        grants.retain(|grant| grant != MARK);
        let near = grants.len() < before;
        (grants, near)
    }

    /// A change that is applied here, and not there.
    async fn takes(&self, user: &str, permission: &str) {
        let (tenant, user, permission) = (TenantName::first(), user.parse().unwrap(), permission.parse().unwrap());
        let written = self.bench.does([Operation::RevokePermission { tenant, user, permission }]).await;
        self.cache.saw(&written.changes);
    }
}

#[tokio::test]
async fn what_nothing_has_touched_since_comes_from_it() {
    let world = World::new().await;
    world.copy(|_| {}).await;
    assert_eq!(world.loads().await, (vec!["own".to_owned()], true));
    world.bench.grant("cleo", "other", None).await;
    assert_eq!(world.loads().await, (vec!["own".to_owned()], true), "it is behind, and that makes no difference");
}

#[tokio::test]
async fn what_a_change_has_touched_does_not() {
    let world = World::new().await;
    world.copy(|_| {}).await;
    world.takes("ben", "own").await;
    assert_eq!(world.loads().await, (vec![], false));
}

#[tokio::test]
async fn a_log_that_ends_otherwise_is_another() {
    let world = World::new().await;
    let own = || (vec!["own".to_owned()], false);
    world.copy(|sighted| sighted.last.as_mut().unwrap().at = "2026-01-01T00:00:00Z".parse().unwrap()).await;
    assert_eq!(world.loads().await, own(), "another row at its place");
    world.copy(|sighted| sighted.last = None).await;
    assert_eq!(world.loads().await, own(), "none at all");
    let first = world.log().await.swap_remove(0);
    world.copy(|sighted| sighted.last = Some(first)).await;
    assert_eq!(world.loads().await, own(), "not the end of what was read");
    world.copy(|sighted| sighted.loaded.version.epoch = "aaaaaaaa".parse().unwrap()).await;
    assert_eq!(world.loads().await, own(), "another epoch");
    // What it knows and this replica does not: it may be true, or of a history that is not ours.
    world.bench.feed.hold();
    world.bench.grant("cleo", "ahead", None).await;
    world.copy(|_| {}).await;
    world.bench.feed.release();
    assert_eq!(world.loads().await, own(), "it was applied, but not seen");
    world.cache.saw(&world.log().await);
    assert!(world.loads().await.1);
}

#[tokio::test]
async fn what_is_not_there_yet_is_asked_of_the_primary() {
    let world = World::new().await;
    world.copy(|sighted| sighted.loaded.value = None).await;
    assert_eq!(world.loads().await, (vec!["own".to_owned()], false));
}

#[tokio::test]
async fn one_that_fails_is_left_alone_for_a_while() {
    let world = World::new().await;
    world.copy(|_| {}).await;
    world.copied.broken.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        assert_eq!(world.loads().await, (vec!["own".to_owned()], false));
    }
    assert_eq!(world.copied.asked.load(Ordering::Relaxed), 1);
    world.copied.broken.store(false, Ordering::Relaxed);
    world.bench.clock.pass(Duration::from_millis(1_001));
    assert!(world.loads().await.1);
}

#[tokio::test]
async fn a_row_that_is_told_twice_is_remembered_once_and_old_ones_are_forgotten() {
    let world = World::new().await;
    let log = world.log().await;
    let second = world.cache.second.as_ref().unwrap();
    for _ in 0..3 {
        world.cache.saw(&log);
    }
    assert_eq!(second.rows.lock().unwrap().len(), log.len());
    let last = log.last().unwrap();
    let later = |n: u64| Change { seq: Seq::new(last.seq.get() + n).unwrap(), ..last.clone() };
    world.cache.saw(&(1..=10_000).map(later).collect::<Vec<_>>());
    assert_eq!(second.rows.lock().unwrap().len(), 4096);
    world.copy(|_| {}).await;
    assert!(!world.loads().await.1, "it is further behind than is remembered");
}
