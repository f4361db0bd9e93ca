//! Who is who at a trusted issuer, and acts by its tokens.

use std::time::Duration;

use crate::domain::operation::UserPatch;
use crate::domain::permission::{ADMIN, OPERATOR};
use crate::domain::records::{Identity, Status};
use crate::domain::rules::Refusal;
use crate::domain::{Actor, Origin, Seq, Timestamp};
use crate::store::Bound;

use super::bench::Bench;
use super::company::company;
use super::words::{
    add_user, create_user, delete_user, give, grant, identity, new_user, patch_user, set_status, set_tenant_status,
    sign_out, suspend, tenant, user, within,
};

const ISSUER: &str = "https://idp";

async fn bound(bench: &Bench, home: &str, subject: &str) -> Option<Bound> {
    let loaded = bench.store.load_identity(&tenant(home), &identity(ISSUER, subject)).await.unwrap();
    assert_eq!(loaded.version.seq, bench.head().await);
    loaded.value
}

fn of(id: &str, ended_at: Option<Timestamp>) -> Bound {
    Bound { user: user(id), ended_at }
}

async fn bind(bench: &Bench, id: &str, subjects: &[&str]) {
    bind_in(bench, "default", id, subjects).await;
}

async fn bind_in(bench: &Bench, home: &str, id: &str, subjects: &[&str]) {
    let identities: Vec<Identity> = subjects.iter().map(|subject| identity(ISSUER, subject)).collect();
    let patch = UserPatch { identities: Some(identities), ..UserPatch::default() };
    bench.does([within(home, patch_user(id, patch))]).await;
}

fn bearer(id: &str, subject: &str, as_of: Seq) -> Actor {
    Actor::Bearer {
        tenant: tenant("default"),
        user: user(id),
        identity: identity(ISSUER, subject),
        as_of,
        origin: Origin::default(),
    }
}

pub(crate) async fn an_identity_is_found_in_its_tenant_alone(bench: Bench) {
    company(&bench).await;
    bind(&bench, "ben", &["1", "2"]).await;
    assert_eq!(bound(&bench, "default", "1").await, Some(of("ben", None)));
    assert_eq!(bound(&bench, "default", "2").await, Some(of("ben", None)));
    for (home, subject) in [("default", "3"), ("acme", "1"), ("nowhere", "1")] {
        assert_eq!(bound(&bench, home, subject).await, None, "{home} {subject}");
    }
    let elsewhere = bench.store.load_identity(&tenant("default"), &identity("https://other", "1")).await.unwrap();
    assert_eq!(elsewhere.value, None);
    bind(&bench, "ben", &["2"]).await;
    bind(&bench, "cleo", &["1"]).await;
    assert_eq!(bound(&bench, "default", "1").await, Some(of("cleo", None)));
}

pub(crate) async fn what_an_issuer_gave_ends_with_all_that_was_begun(bench: Bench) {
    company(&bench).await;
    bind(&bench, "ben", &["1"]).await;
    bench.pass(Duration::from_secs(10));
    bench.does([sign_out("ben")]).await;
    let signed_out_at = bench.now();
    bench.pass(Duration::from_secs(10));
    bench.does([add_user("x")]).await;
    assert_eq!(bound(&bench, "default", "1").await, Some(of("ben", Some(signed_out_at))));
    bind_in(&bench, "acme", "yan", &["1"]).await;
    bench.does([set_tenant_status("acme", Status::Suspended)]).await;
    assert_eq!(bound(&bench, "acme", "1").await, None, "not active");
    let suspended_at = bench.now();
    bench.pass(Duration::from_secs(10));
    bench.does([set_tenant_status("acme", Status::Active)]).await;
    assert_eq!(bound(&bench, "acme", "1").await, Some(of("yan", Some(suspended_at))));
    bench.does([suspend("ben")]).await;
    assert_eq!(bound(&bench, "default", "1").await, None, "not active");
    let suspended_at = bench.now();
    bench.does([set_status("ben", Status::Active)]).await;
    assert_eq!(bound(&bench, "default", "1").await, Some(of("ben", Some(suspended_at))));
    bench.does([delete_user("ben")]).await;
    assert_eq!(bound(&bench, "default", "1").await, None);
}

pub(crate) async fn a_bearer_acts_as_his_user_while_his_token_holds(bench: Bench) {
    company(&bench).await;
    bind(&bench, "max", &["m"]).await;
    let since = bench.head().await;
    let max = bearer("max", "m", since);
    bench.does_as(&max, [add_user("one")]).await;
    assert_eq!(bench.refused_as(&max, within("acme", add_user("two"))).await, Refusal::UnknownTenant);
    for forged in [bearer("max", "other", since), bearer("ben", "m", since)] {
        assert_eq!(bench.refused_as(&forged, add_user("x")).await, Refusal::SessionOver);
    }
    bench.does([sign_out("max")]).await;
    assert_eq!(bench.refused_as(&max, add_user("x")).await, Refusal::SessionOver);
    let again = bearer("max", "m", bench.head().await);
    bench.does_as(&again, [add_user("two")]).await;
    bind(&bench, "max", &[]).await;
    assert_eq!(bench.refused_as(&again, add_user("x")).await, Refusal::SessionOver, "no longer his identity");
    bind(&bench, "max", &["m"]).await;
    bench.does([suspend("max")]).await;
    let suspended = bearer("max", "m", bench.head().await);
    assert_eq!(bench.refused_as(&suspended, add_user("x")).await, Refusal::SessionOver);
    bind(&bench, "ben", &["b"]).await;
    let ben = bearer("ben", "b", bench.head().await);
    assert_eq!(bench.refused_as(&ben, add_user("x")).await, Refusal::NotAllowed(ADMIN));
}

pub(crate) async fn who_is_vouched_for_gets_nothing_reserved(bench: Bench) {
    company(&bench).await;
    let new = |id: &str| {
        let mut new = new_user(id);
        new.identities = vec![identity(ISSUER, id)];
        create_user(new)
    };
    bench.does_as(&Actor::Provisioning, [new("dora"), give("dora", "viewer")]).await;
    assert_eq!(bound(&bench, "default", "dora").await, Some(of("dora", None)));
    let climbing = [new("eve"), give("eve", "admins")];
    let refused = bench.all_refused(&Actor::Provisioning, climbing.into()).await;
    assert_eq!(refused, (1, Refusal::Escalation(grant(ADMIN))));
    assert_eq!(bound(&bench, "default", "eve").await, None, "all or nothing");
    let not_his = bench.refused_as(&Actor::Provisioning, super::words::add_tenant("more")).await;
    assert_eq!(not_his, Refusal::NotAllowed(OPERATOR));
    assert!(matches!(bench.refused_as(&Actor::Provisioning, new("ben")).await, Refusal::Exists(_)));
}
