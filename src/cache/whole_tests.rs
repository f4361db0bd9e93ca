//! A user and his roles are put together as they were at one position, or not at all.

use std::sync::Arc;

use super::{CacheLimits, PermissionCache};
use crate::domain::operation::Operation;
use crate::domain::records::UserKind;
use crate::domain::{Clock, TenantName};
use crate::token::bench::Bench;

fn cache(bench: &Bench) -> PermissionCache {
    let clock: Arc<dyn Clock> = Arc::<crate::token::bench::StandingClock>::clone(&bench.clock);
    let (floors, applied) = (Arc::clone(&bench.feed.floors), Arc::clone(&bench.applied));
    PermissionCache::new(Arc::clone(&bench.store), floors, applied, clock, CacheLimits::default())
}

async fn permissions(cache: &PermissionCache) -> Vec<String> {
    let found = cache.access(&TenantName::first(), &"ben".parse().unwrap()).await.unwrap().unwrap();
    found.access.permissions.grants().iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn what_one_left_is_not_filled_behind_him() {
    let bench = Bench::new().await;
    bench.user("ben", UserKind::Person, &["own"]).await;
    bench.role("ben", "editor", &["write"]).await;
    let cache = cache(&bench);
    assert_eq!(permissions(&cache).await, ["own", "write"]);

    // He leaves the role, and it gets a permission that he never had; nothing of both has come to this replica, and of the
    // parts only the role's is read anew.
    bench.feed.hold();
    let (tenant, role) = (TenantName::first(), "editor".parse().unwrap());
    let user = "ben".parse().unwrap();
    bench.does([Operation::RevokeRole { tenant: tenant.clone(), user, role }]).await;
    let role = "editor".parse().unwrap();
    bench.does([Operation::AddRolePermission { tenant, role, permission: "secret".parse().unwrap() }]).await;
    cache.roles.clear();
    cache.assembled.clear();
    assert_eq!(permissions(&cache).await, ["own"]);
    bench.feed.release();
    assert_eq!(permissions(&cache).await, ["own"]);
}

#[tokio::test]
async fn what_is_held_and_fresh_is_not_read_again() {
    let bench = Bench::new().await;
    bench.user("ben", UserKind::Person, &["own"]).await;
    bench.role("ben", "editor", &["write"]).await;
    let cache = cache(&bench);
    permissions(&cache).await;
    bench.role("ben", "other", &["read"]).await;
    cache.assembled.clear();
    assert_eq!(permissions(&cache).await, ["own", "read", "write"], "one part is of another position");
    let found = cache.access(&TenantName::first(), &"ben".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(found.stamp, bench.applied.stamp());
}
