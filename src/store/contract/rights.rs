//! Who may do what, decided inside the write.

use crate::domain::operation::{NewLockdown, NewUser, Operation, UserPatch};
use crate::domain::permission::{ADMIN, CHECK, OPERATOR};
use crate::domain::records::{Status, UserKind};
use crate::domain::rules::Refusal;
use crate::domain::{Actor, Effect, Origin};

use super::bench::{Bench, SESSION_LIFE, password};
use super::company::company;
use super::words::{
    add_role, add_tenant, add_user, create_user, delete_role, delete_tenant, delete_user, describe_role, exclude,
    forbid, give, grant, identity, include, new_user, patch_role, patch_user, permit, role_gains, role_loses,
    set_status, set_tenant_status, sign_out, suspend, take, tenant, user, within,
};

fn for_operators() -> Vec<Operation> {
    vec![
        add_tenant("new"),
        set_tenant_status("acme", Status::Suspended),
        delete_tenant("acme"),
        Operation::SetLockdown(Some(NewLockdown { tenant: None, retry_after_s: 1, until: None })),
        Operation::SetLockdown(None),
    ]
}

/// One of each that an administrator does; none of them touches what he does not hold.
fn for_administrators() -> Vec<Operation> {
    vec![
        add_user("new"),
        patch_user("ben", UserPatch { name: Some("B".to_owned()), ..UserPatch::default() }),
        suspend("cleo"),
        give("ben", "viewer"),
        take("ben", "editor"),
        permit("ben", "x"),
        forbid("ben", "reports:read"),
        add_role("new", &["x"], &["viewer"]),
        patch_role("viewer", Some(&["x"]), None),
        role_gains("viewer", "y"),
        role_loses("viewer", "x"),
        include("new", "editor"),
        exclude("new", "editor"),
        delete_role("new"),
        sign_out("ben"),
        delete_user("ben"),
    ]
}

pub(crate) async fn an_administrator_does_all_in_his_tenant(bench: Bench) {
    company(&bench).await;
    let max = bench.actor("default", "max").await;
    bench.does_as(&max, for_administrators()).await;
}

pub(crate) async fn another_tenant_is_unknown_to_him(bench: Bench) {
    company(&bench).await;
    let zoe = bench.actor("acme", "zoe").await;
    for operation in for_administrators() {
        assert_eq!(bench.refused_as(&zoe, operation.clone()).await, Refusal::UnknownTenant);
        assert_eq!(bench.refused_as(&zoe, within("nowhere", operation)).await, Refusal::UnknownTenant);
    }
}

pub(crate) async fn nobody_else_does_anything(bench: Bench) {
    company(&bench).await;
    bench.does([permit("cleo", "*"), permit("cleo", "permcast:*"), permit("cleo", "permcast")]).await;
    for id in ["ben", "cleo", "vera"] {
        let actor = bench.actor("default", id).await;
        for operation in for_administrators() {
            assert_eq!(bench.refused_as(&actor, operation).await, Refusal::NotAllowed(ADMIN), "{id}");
        }
        for operation in for_operators() {
            assert_eq!(bench.refused_as(&actor, operation).await, Refusal::NotAllowed(OPERATOR), "{id}");
        }
    }
}

pub(crate) async fn only_an_operator_does_what_is_for_operators(bench: Bench) {
    company(&bench).await;
    for (home, id) in [("default", "max"), ("acme", "zoe")] {
        let actor = bench.actor(home, id).await;
        for operation in for_operators() {
            assert_eq!(bench.refused_as(&actor, operation).await, Refusal::NotAllowed(OPERATOR));
        }
    }
    let ada = bench.actor("default", "ada").await;
    bench.does_as(&ada, for_operators()).await;
    bench.does_as(&ada, for_administrators()).await;
    assert_eq!(bench.refused_as(&ada, within("nowhere", add_user("x"))).await, Refusal::UnknownTenant);
}

pub(crate) async fn a_right_that_was_lost_meanwhile_is_lost(bench: Bench) {
    company(&bench).await;
    let max = bench.actor("default", "max").await;
    bench.does_as(&max, [add_user("one")]).await;
    bench.does([take("max", "admins")]).await;
    assert_eq!(bench.refused_as(&max, add_user("two")).await, Refusal::NotAllowed(ADMIN));
    let soon = bench.after(std::time::Duration::from_secs(1));
    bench.does([super::words::permit_until("max", ADMIN, Some(soon))]).await;
    bench.does_as(&max, [add_user("two")]).await;
    bench.pass(std::time::Duration::from_secs(1));
    assert_eq!(bench.refused_as(&max, add_user("three")).await, Refusal::NotAllowed(ADMIN));
}

pub(crate) async fn who_is_signed_out_does_nothing(bench: Bench) {
    company(&bench).await;
    let by_token = bench.actor("default", "max").await;
    let Actor::User { session, .. } = &by_token else { unreachable!() };
    bench.end(session, Effect::SignedOut).await;
    assert_eq!(bench.refused_as(&by_token, add_user("x")).await, Refusal::SessionOver);

    let signed_out = bench.actor("default", "max").await;
    bench.does([sign_out("max")]).await;
    assert_eq!(bench.refused_as(&signed_out, add_user("x")).await, Refusal::SessionOver);

    let suspended = bench.actor("default", "max").await;
    bench.does([suspend("max")]).await;
    assert_eq!(bench.refused_as(&suspended, add_user("x")).await, Refusal::SessionOver);
    bench.does([set_status("max", Status::Active)]).await;
    assert_eq!(bench.refused_as(&suspended, add_user("x")).await, Refusal::SessionOver);

    let expired = bench.actor("default", "max").await;
    bench.pass(SESSION_LIFE);
    assert_eq!(bench.refused_as(&expired, add_user("x")).await, Refusal::SessionOver);

    let deleted = bench.actor("default", "max").await;
    bench.does([delete_user("max")]).await;
    assert_eq!(bench.refused_as(&deleted, add_user("x")).await, Refusal::SessionOver);
}

pub(crate) async fn with_his_tenant_goes_his_right(bench: Bench) {
    company(&bench).await;
    let zoe = bench.actor("acme", "zoe").await;
    bench.does_as(&zoe, [within("acme", add_user("x"))]).await;
    bench.does([set_tenant_status("acme", Status::Suspended)]).await;
    assert_eq!(bench.refused_as(&zoe, within("acme", add_user("y"))).await, Refusal::SessionOver);
    bench.does([delete_tenant("acme")]).await;
    assert_eq!(bench.refused_as(&zoe, within("acme", add_user("y"))).await, Refusal::SessionOver);
}

pub(crate) async fn nobody_acts_in_anothers_session(bench: Bench) {
    company(&bench).await;
    let ben = bench.actor("default", "ben").await;
    let Actor::User { session, .. } = ben else { unreachable!() };
    let forged = Actor::User { tenant: tenant("default"), user: user("max"), session, origin: Origin::default() };
    assert_eq!(bench.refused_as(&forged, add_user("x")).await, Refusal::SessionOver);
}

fn operator_only() -> Refusal {
    Refusal::Escalation(grant(OPERATOR))
}

pub(crate) async fn no_administrator_gives_what_he_does_not_hold(bench: Bench) {
    company(&bench).await;
    let max = bench.actor("default", "max").await;
    bench.does([add_role("hidden", &[], &["operators"]), add_role("empty", &[], &[])]).await;
    for operation in [
        permit("max", OPERATOR),
        give("max", "operators"),
        give("max", "hidden"),
        role_gains("empty", OPERATOR),
        role_gains("admins", OPERATOR),
        include("empty", "operators"),
        include("admins", "hidden"),
        patch_role("empty", Some(&[OPERATOR]), None),
        patch_role("empty", None, Some(&["hidden"])),
        add_role("mine", &["x", OPERATOR], &[]),
        add_role("mine", &[], &["hidden"]),
    ] {
        assert_eq!(bench.refused_as(&max, operation).await, operator_only());
    }
    let check = Refusal::Escalation(grant(CHECK));
    assert_eq!(bench.refused_as(&max, permit("max", CHECK)).await, check);
    bench.does_as(&max, [permit("cleo", ADMIN), give("ben", "admins"), permit("max", "permcast:*")]).await;
}

pub(crate) async fn nor_does_he_take_it(bench: Bench) {
    company(&bench).await;
    let max = bench.actor("default", "max").await;
    bench
        .does([
            add_role("hidden", &["x"], &["operators"]),
            add_user("second"),
            permit("second", OPERATOR),
            give("second", "hidden"),
        ])
        .await;
    for operation in [
        forbid("second", OPERATOR),
        take("ada", "operators"),
        take("second", "hidden"),
        role_loses("operators", OPERATOR),
        exclude("hidden", "operators"),
        role_gains("hidden", "y"),
        role_loses("hidden", "x"),
        include("hidden", "viewer"),
        patch_role("hidden", Some(&[]), None),
        patch_role("hidden", None, Some(&[])),
        describe_role("hidden", "mine now"),
        include("viewer", "hidden"),
        delete_role("hidden"),
        delete_role("operators"),
    ] {
        assert_eq!(bench.refused_as(&max, operation).await, operator_only());
    }
}

pub(crate) async fn nor_does_he_touch_who_holds_it(bench: Bench) {
    company(&bench).await;
    let max = bench.actor("default", "max").await;
    bench
        .does([
            add_role("hidden", &[], &["operators"]),
            add_user("direct"),
            add_user("nested"),
            permit("direct", OPERATOR),
            give("nested", "hidden"),
        ])
        .await;
    for id in ["ada", "direct", "nested"] {
        let session = bench.session(id).await;
        let patch = UserPatch::default();
        for operation in [
            patch_user(id, UserPatch { password: Some(Some(password("mine"))), ..patch.clone() }),
            patch_user(id, UserPatch { email: Some(Some("max@x.org".to_owned())), ..patch.clone() }),
            patch_user(id, UserPatch { kind: Some(UserKind::Service), ..patch.clone() }),
            patch_user(id, UserPatch { identities: Some(vec![identity("https://idp", "max")]), ..patch.clone() }),
            suspend(id),
            sign_out(id),
            Operation::EndSession { tenant: tenant("default"), user: user(id), session: session.clone() },
            delete_user(id),
        ] {
            assert_eq!(bench.refused_as(&max, operation).await, operator_only(), "{id}");
        }
        assert!(bench.is_live(&session).await);
        bench.does_as(&max, [patch_user(id, UserPatch { name: Some("X".to_owned()), ..patch })]).await;
    }
    bench.does([suspend("direct")]).await;
    let refused = bench.refused_as(&max, set_status("direct", Status::Active)).await;
    assert_eq!(refused, operator_only(), "one who is suspended holds it still");
}

pub(crate) async fn an_operator_deals_in_all_three(bench: Bench) {
    company(&bench).await;
    let ada = bench.actor("default", "ada").await;
    bench
        .does_as(
            &ada,
            [
                permit("cleo", CHECK),
                permit("cleo", ADMIN),
                give("cleo", "operators"),
                suspend("max"),
                delete_role("admins"),
                within("acme", permit("yan", OPERATOR)),
                within("acme", suspend("zoe")),
            ],
        )
        .await;
}

pub(crate) async fn a_batch_does_not_climb(bench: Bench) {
    company(&bench).await;
    let max = bench.actor("default", "max").await;
    let climb = vec![add_role("ladder", &["x"], &[]), give("max", "ladder"), include("ladder", "operators")];
    assert_eq!(bench.all_refused(&max, climb).await, (2, operator_only()));
    let takeover = vec![
        add_user("puppet"),
        patch_user("puppet", UserPatch { password: Some(Some(password("p"))), ..UserPatch::default() }),
        permit("puppet", ADMIN),
        permit("puppet", OPERATOR),
    ];
    assert_eq!(bench.all_refused(&max, takeover).await, (3, operator_only()));
}

pub(crate) async fn a_batch_is_decided_once(bench: Bench) {
    company(&bench).await;
    let max = bench.actor("default", "max").await;
    bench.does_as(&max, [take("max", "admins"), add_user("last")]).await;
    assert_eq!(bench.refused_as(&max, add_user("more")).await, Refusal::NotAllowed(ADMIN));
}

pub(crate) async fn the_log_names_who_did_it(bench: Bench) {
    company(&bench).await;
    let head = bench.head().await;
    let max = bench.actor("default", "max").await;
    bench.does_as(&max, [create_user(NewUser { ..new_user("x") })]).await;
    bench.does([add_user("y")]).await;
    let log = bench.store.changes(None, head, 10).await.unwrap();
    let actors: Vec<&str> = log.iter().map(|row| row.actor.as_str()).collect();
    assert_eq!(actors, ["default/max", "system"]);
    assert!(log.iter().all(|row| !row.summary.is_empty()));
}
