//! Grants to users, and their end.

use std::time::Duration;

use crate::domain::limits::EXPIRED_AT_ONCE;
use crate::domain::operation::Resource;
use crate::domain::rules::Refusal;

use super::bench::{Bench, rows};
use super::company::company;
use super::words::{forbid, give, give_until, permit, permit_until, role, take, tenant, user};

pub(crate) async fn a_role_is_given_and_taken(bench: Bench) {
    company(&bench).await;
    let written = bench.does([give("cleo", "viewer")]).await;
    assert_eq!(rows(&written), ["user default/cleo changed"]);
    let resource = Resource::RoleGrant { user: user("cleo"), role: role("viewer"), expires_at: None };
    assert_eq!(written.outcomes[0].resource, resource);
    assert_eq!(bench.holds("cleo").await.unwrap(), ["invoices:read"]);
    let again = bench.does([give("cleo", "viewer")]).await;
    assert_eq!((again.changes.len(), &again.outcomes[0].resource), (0, &resource));
    assert_eq!(bench.rows(take("cleo", "viewer")).await, ["user default/cleo changed"]);
    assert!(bench.rows(take("cleo", "viewer")).await.is_empty());
    assert_eq!(bench.holds("cleo").await.unwrap(), Vec::<String>::new());
    assert!(matches!(bench.refused(give("cleo", "nothing")).await, Refusal::UnknownRole(_)));
    assert!(matches!(bench.refused(take("cleo", "nothing")).await, Refusal::UnknownRole(_)));
}

pub(crate) async fn a_permission_is_given_and_taken(bench: Bench) {
    company(&bench).await;
    assert_eq!(bench.rows(permit("cleo", "a:*")).await, ["user default/cleo changed"]);
    assert!(bench.rows(permit("cleo", "a:*")).await.is_empty());
    assert_eq!(bench.holds("cleo").await.unwrap(), ["a:*"]);
    assert!(bench.rows(forbid("cleo", "a:b")).await.is_empty(), "it is not that grant");
    assert_eq!(bench.rows(forbid("cleo", "a:*")).await, ["user default/cleo changed"]);
    assert!(bench.rows(forbid("cleo", "a:*")).await.is_empty());
}

pub(crate) async fn another_expiry_is_a_change(bench: Bench) {
    company(&bench).await;
    let later = Some(bench.after(Duration::from_mins(1)));
    for operation in [give_until("cleo", "viewer", later), permit_until("cleo", "a", later)] {
        assert_eq!(bench.rows(operation.clone()).await, ["user default/cleo changed"]);
        assert!(bench.rows(operation).await.is_empty());
    }
    for operation in [give("cleo", "viewer"), permit("cleo", "a")] {
        assert_eq!(bench.rows(operation).await, ["user default/cleo changed"]);
    }
    assert_eq!(bench.store.next_expiry().await.unwrap(), None);
}

pub(crate) async fn grants_are_listed_roles_first(bench: Bench) {
    company(&bench).await;
    let later = Some(bench.after(Duration::from_mins(1)));
    bench
        .does([permit("cleo", "b"), give("cleo", "viewer"), permit_until("cleo", "a", later), give("cleo", "editor")])
        .await;
    assert_eq!(bench.granted("cleo").await, ["role editor", "role viewer", "permission a", "permission b"]);
    let records = bench.store.grants(&tenant("default"), &user("cleo")).await.unwrap().unwrap();
    assert_eq!(records.iter().map(|record| record.expires_at).collect::<Vec<_>>(), [None, None, later, None]);
    assert_eq!(bench.store.grants(&tenant("default"), &user("nobody")).await.unwrap(), None);
    assert_eq!(bench.store.grants(&tenant("acme"), &user("cleo")).await.unwrap(), None);
}

pub(crate) async fn a_grant_past_its_time_gives_nothing(bench: Bench) {
    company(&bench).await;
    let (soon, later) = (bench.after(Duration::from_mins(1)), bench.after(Duration::from_mins(2)));
    bench.does([give_until("cleo", "viewer", Some(soon)), permit_until("cleo", "a", Some(later))]).await;
    let facts = async || bench.store.load_user(&tenant("default"), &user("cleo")).await.unwrap().value.unwrap();
    assert_eq!(facts().await.first_expiry, Some(soon));
    assert_eq!(bench.store.next_expiry().await.unwrap(), Some(soon));
    assert!(bench.expire().await.is_empty(), "nothing is over yet");

    bench.pass(Duration::from_mins(1));
    assert_eq!(bench.holds("cleo").await.unwrap(), ["a"], "it holds no more, deleted or not");
    assert_eq!(facts().await.first_expiry, Some(later));
    assert_eq!(bench.granted("cleo").await, ["permission a"]);
    assert_eq!(bench.expire().await, ["user default/cleo changed"]);
    assert!(bench.expire().await.is_empty());
    assert_eq!(bench.store.next_expiry().await.unwrap(), Some(later));

    bench.pass(Duration::from_mins(1));
    assert_eq!(bench.expire().await, ["user default/cleo changed"]);
    assert_eq!((facts().await.first_expiry, bench.store.next_expiry().await.unwrap()), (None, None));
}

pub(crate) async fn each_user_whose_grants_are_over_is_a_row(bench: Bench) {
    company(&bench).await;
    let soon = Some(bench.after(Duration::from_secs(1)));
    bench
        .does([
            permit_until("cleo", "a", soon),
            permit_until("cleo", "b", soon),
            give_until("ben", "viewer", soon),
            super::words::within("acme", permit_until("yan", "a", soon)),
        ])
        .await;
    bench.pass(Duration::from_secs(1));
    let mut rows = bench.expire().await;
    rows.sort();
    assert_eq!(rows, ["user acme/yan changed", "user default/ben changed", "user default/cleo changed"]);
}

pub(crate) async fn what_is_over_goes_in_portions(bench: Bench) {
    company(&bench).await;
    let soon = Some(bench.after(Duration::from_secs(1)));
    let names: Vec<String> = (0..EXPIRED_AT_ONCE + 50).map(|n| format!("p{n}")).collect();
    for chunk in names.chunks(250) {
        bench.does(chunk.iter().map(|name| permit_until("cleo", name, soon))).await;
    }
    bench.pass(Duration::from_secs(1));
    for left in [soon, None] {
        assert_eq!(bench.expire().await, ["user default/cleo changed"]);
        assert_eq!(bench.store.next_expiry().await.unwrap(), left);
    }
    assert!(bench.expire().await.is_empty());
}

pub(crate) async fn a_user_has_room_for_so_many(bench: Bench) {
    company(&bench).await;
    for chunk in (0..crate::domain::limits::GRANTS_MAX).collect::<Vec<_>>().chunks(250) {
        bench.does(chunk.iter().map(|n| permit("cleo", &format!("p{n}")))).await;
    }
    assert!(matches!(bench.refused(permit("cleo", "more")).await, Refusal::Invalid(_)));
    assert!(matches!(bench.refused(give("cleo", "viewer")).await, Refusal::Invalid(_)));
    bench.does([permit_until("cleo", "p7", Some(bench.after(Duration::from_mins(1))))]).await;
    bench.does([forbid("cleo", "p7"), give("cleo", "viewer")]).await;
}
