use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use super::*;
use crate::domain::operation::{NewRole, NewUser};
use crate::domain::records::Status;
use crate::domain::{Actor, Epoch, Operation, Unit};
use crate::runtime::{SystemClock, SystemRandom};
use crate::store::sqlite::SqliteStore;
use crate::store::{CommitListener, StoreOptions};

/// Applies each commit at once, as the feed of its replica does.
#[derive(Clone)]
struct Feed {
    floors: Arc<Floors>,
    applied: Arc<OnceLock<Arc<Applied>>>,
}

impl CommitListener for Feed {
    fn committed(&self, _: Epoch, changes: &[Change]) {
        let Some(applied) = self.applied.get() else { return };
        for change in changes {
            drop(self.floors.raise(change, applied.generation()));
            applied.advance(change.seq);
        }
    }
}

/// He leaves a role before it is given something, and joins it after that was taken away: he never may do it. Whoever puts
/// together what he was at one moment with what the role was at another finds that he may.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn parts_of_different_moments_are_never_put_together() {
    let directory = tempfile::tempdir().unwrap();
    let feed = Feed { floors: Arc::new(Floors::new(7, 10_000)), applied: Arc::default() };
    let options = StoreOptions {
        id_rest: Duration::ZERO,
        refresh_grace: Duration::ZERO,
        deadline: Duration::from_secs(20),
        listener: Arc::new(feed.clone()),
    };
    let path = directory.path().join("permcast.db");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = SqliteStore::open(path.to_str().unwrap(), options, Arc::clone(&clock), &SystemRandom).await.unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let (home, ben): (TenantName, UserId) = (TenantName::first(), "ben".parse().unwrap());
    let does = async |operation| {
        let unit = Unit { actor: Actor::System("system"), operations: vec![operation] };
        store.write(unit).await.unwrap();
    };
    let role: RoleName = "keeper".parse().unwrap();
    let new = NewRole { name: role.clone(), description: String::new(), permissions: vec![], includes: vec![] };
    does(Operation::CreateRole { tenant: home.clone(), role: new }).await;
    let new = NewUser {
        id: ben.clone(),
        name: String::new(),
        email: None,
        kind: UserKind::Person,
        password: None,
        status: Status::Active,
        identities: vec![],
    };
    does(Operation::CreateUser { tenant: home.clone(), user: new }).await;
    let head = store.tail(crate::domain::Seq::MAX).await.unwrap();
    let applied = Arc::new(Applied::new(head.epoch));
    feed.floors.begin_epoch(1);
    applied.advance(head.head);
    assert!(feed.applied.set(Arc::clone(&applied)).is_ok());
    let cache = Arc::new(PermissionCache::new(
        Arc::clone(&store),
        Arc::clone(&feed.floors),
        applied,
        clock,
        CacheLimits::default(),
    ));

    let (over, held, asked) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (cache, over, held, asked) =
                (Arc::clone(&cache), Arc::clone(&over), Arc::clone(&held), Arc::clone(&asked));
            let (home, ben) = (home.clone(), ben.clone());
            tokio::spawn(async move {
                let forbidden = "vault:open".parse().unwrap();
                while !over.load(Ordering::Relaxed) {
                    let held_now = cache.access(&home, &ben).await.unwrap().unwrap();
                    assert!(!held_now.access.permissions.allows(&forbidden), "he never could: {:?}", held_now.stamp);
                    held.fetch_add(u32::from(!held_now.access.roles.is_empty()), Ordering::Relaxed);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let (tenant, user) = (home.clone(), ben.clone());
    for _ in 0..400 {
        let (tenant, user, role) = (tenant.clone(), user.clone(), role.clone());
        let permission = || "vault:open".parse().unwrap();
        does(Operation::GrantRole { tenant: tenant.clone(), user: user.clone(), role: role.clone(), expires_at: None })
            .await;
        does(Operation::RevokeRole { tenant: tenant.clone(), user, role: role.clone() }).await;
        does(Operation::AddRolePermission { tenant: tenant.clone(), role: role.clone(), permission: permission() })
            .await;
        does(Operation::RemoveRolePermission { tenant, role, permission: permission() }).await;
    }
    over.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    assert!(held.load(Ordering::Relaxed) > 0 && asked.load(Ordering::Relaxed) > 400, "they met");
}
