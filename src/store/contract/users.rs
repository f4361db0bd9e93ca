//! Users: being there, what is unique, what a change of them writes.

use std::time::Duration;

use crate::domain::operation::{NewUser, Operation, Resource, UserPatch};
use crate::domain::records::{Status, UserKind};
use crate::domain::rules::Refusal;

use super::bench::{Bench, ID_REST, password};
use super::company::company;
use super::words::{
    add_user, create_user, delete_user, give, identity, new_user, patch_user, set_status, suspend, tenant, user, within,
};

pub(crate) async fn a_user_is_made_as_asked(bench: Bench) {
    let asked = NewUser {
        name: "Ben".to_owned(),
        email: Some("ben@example.org".to_owned()),
        kind: UserKind::Service,
        password: Some(password("x")),
        identities: vec![identity("https://b", "2"), identity("https://a", "1")],
        ..new_user("ben")
    };
    let written = bench.does([create_user(asked)]).await;
    assert_eq!(super::bench::rows(&written), ["user default/ben changed"]);
    let record = bench.store.user(&tenant("default"), &user("ben")).await.unwrap().unwrap();
    assert_eq!(written.outcomes[0].resource, Resource::User(record.clone()));
    assert_eq!((record.name.as_str(), record.email.as_deref()), ("Ben", Some("ben@example.org")));
    assert_eq!((record.kind, record.status, record.has_password), (UserKind::Service, Status::Active, true));
    assert_eq!(record.created_at, bench.now());
    let mut identities = record.identities;
    identities.sort();
    assert_eq!(identities, [identity("https://a", "1"), identity("https://b", "2")]);
    assert_eq!(bench.holds("ben").await, Some(vec![]));
}

pub(crate) async fn a_user_is_made_once(bench: Bench) {
    company(&bench).await;
    assert!(matches!(bench.refused(add_user("ben")).await, Refusal::Exists(_)));
    bench.does([within("acme", add_user("ben"))]).await;
    assert_eq!(bench.holds_in("acme", "ben").await, Some(vec![]));
    assert_eq!(bench.refused(within("nowhere", add_user("ben"))).await, Refusal::UnknownTenant);
}

pub(crate) async fn a_deleted_id_rests(bench: Bench) {
    company(&bench).await;
    assert_eq!(bench.rows(delete_user("ben")).await, ["user default/ben deleted"]);
    assert_eq!(bench.store.user(&tenant("default"), &user("ben")).await.unwrap(), None);
    assert!(bench.store.load_user(&tenant("default"), &user("ben")).await.unwrap().value.is_none());
    assert!(matches!(bench.refused(delete_user("ben")).await, Refusal::UnknownUser(_)));
    assert_eq!(bench.refused(add_user("ben")).await, Refusal::TooSoon("ben".to_owned()));
    bench.pass(ID_REST.checked_sub(Duration::from_secs(1)).unwrap());
    assert_eq!(bench.refused(add_user("ben")).await, Refusal::TooSoon("ben".to_owned()));
    bench.pass(Duration::from_secs(1));
    bench.does([add_user("ben")]).await;
    assert_eq!(bench.holds("ben").await, Some(vec![]), "the new one inherits nothing");
}

pub(crate) async fn a_user_made_anew_is_another(bench: Bench) {
    company(&bench).await;
    let no = async || bench.store.load_user(&tenant("default"), &user("ben")).await.unwrap().value.unwrap().no;
    let before = no().await;
    let session = bench.session("ben").await;
    bench.does([delete_user("ben")]).await;
    assert!(!bench.is_live(&session).await);
    bench.pass(ID_REST);
    bench.does([add_user("ben")]).await;
    assert_ne!(no().await, before);
    assert!(!bench.is_live(&session).await);
}

pub(crate) async fn an_email_is_one_users(bench: Bench) {
    company(&bench).await;
    let email = |text: &str| UserPatch { email: Some(Some(text.to_owned())), ..UserPatch::default() };
    bench.does([patch_user("ben", email("b@x.org"))]).await;
    assert!(matches!(bench.refused(patch_user("cleo", email("b@x.org"))).await, Refusal::Exists(_)));
    let new = NewUser { email: Some("b@x.org".to_owned()), ..new_user("dora") };
    assert!(matches!(bench.refused(create_user(new.clone())).await, Refusal::Exists(_)));
    bench.does([within("acme", create_user(new.clone()))]).await;
    bench.does([patch_user("ben", UserPatch { email: Some(None), ..UserPatch::default() })]).await;
    bench.does([create_user(new)]).await;
}

pub(crate) async fn an_identity_is_one_users(bench: Bench) {
    company(&bench).await;
    let bind = |subject| UserPatch { identities: Some(vec![identity("https://idp", subject)]), ..UserPatch::default() };
    assert_eq!(bench.rows(patch_user("ben", bind("1"))).await, ["user default/ben changed"]);
    assert!(matches!(bench.refused(patch_user("cleo", bind("1"))).await, Refusal::Exists(_)));
    let new = NewUser { identities: vec![identity("https://idp", "1")], ..new_user("dora") };
    assert!(matches!(bench.refused(create_user(new.clone())).await, Refusal::Exists(_)));
    bench.does([within("acme", create_user(new.clone()))]).await;
    assert_eq!(bench.rows(patch_user("ben", bind("2"))).await, ["user default/ben changed"]);
    bench.does([create_user(new)]).await;
}

pub(crate) async fn what_is_no_matter_of_permission_writes_no_row(bench: Bench) {
    company(&bench).await;
    let patch = UserPatch {
        name: Some("Benjamin".to_owned()),
        email: Some(Some("ben@x.org".to_owned())),
        ..UserPatch::default()
    };
    assert!(bench.rows(patch_user("ben", patch)).await.is_empty());
    let record = bench.store.user(&tenant("default"), &user("ben")).await.unwrap().unwrap();
    assert_eq!((record.name.as_str(), record.email.as_deref()), ("Benjamin", Some("ben@x.org")));
}

pub(crate) async fn another_kind_is_a_change(bench: Bench) {
    company(&bench).await;
    let kind = |kind| patch_user("ben", UserPatch { kind: Some(kind), ..UserPatch::default() });
    assert_eq!(bench.rows(kind(UserKind::Service)).await, ["user default/ben changed"], "caches hold it, too");
    assert!(bench.rows(kind(UserKind::Service)).await.is_empty());
    let facts = bench.store.load_user(&tenant("default"), &user("ben")).await.unwrap().value.unwrap();
    assert_eq!(facts.kind, UserKind::Service);
}

pub(crate) async fn what_is_so_already_writes_no_row(bench: Bench) {
    company(&bench).await;
    assert!(bench.rows(patch_user("ben", UserPatch::default())).await.is_empty());
    assert!(bench.rows(set_status("ben", Status::Active)).await.is_empty());
    bench.does([suspend("ben")]).await;
    let session = bench.session("cleo").await;
    assert!(bench.rows(suspend("ben")).await.is_empty());
    let same = UserPatch { identities: Some(vec![]), password: Some(None), ..UserPatch::default() };
    assert!(bench.rows(patch_user("cleo", same)).await.is_empty());
    assert!(bench.is_live(&session).await);
}

pub(crate) async fn a_suspended_user_is_inactive_until_he_is_not(bench: Bench) {
    company(&bench).await;
    let before = bench.holds("ben").await;
    let session = bench.session("ben").await;
    assert_eq!(bench.rows(suspend("ben")).await, ["user default/ben suspended"]);
    assert_eq!(bench.holds("ben").await, None);
    assert!(!bench.is_live(&session).await);
    assert_eq!(bench.rows(set_status("ben", Status::Active)).await, ["user default/ben changed"]);
    assert_eq!(bench.holds("ben").await, before);
    assert!(!bench.is_live(&session).await, "what ended stays ended");
}

pub(crate) async fn nobody_is_patched_who_is_not_there(bench: Bench) {
    company(&bench).await;
    let unknown = || Refusal::UnknownUser("nobody".to_owned());
    assert_eq!(bench.refused(patch_user("nobody", UserPatch::default())).await, unknown());
    assert_eq!(bench.refused(delete_user("nobody")).await, unknown());
    assert_eq!(bench.refused(give("nobody", "viewer")).await, unknown());
    let sign_out = Operation::EndSessions { tenant: tenant("default"), user: user("nobody") };
    assert_eq!(bench.refused(sign_out).await, unknown());
}

pub(crate) async fn sign_in_finds_by_id_then_by_email(bench: Bench) {
    let mail = |id: &str, email: &str| {
        create_user(NewUser { email: Some(email.to_owned()), password: Some(password(id)), ..new_user(id) })
    };
    bench.does([mail("ben", "ben@x.org"), mail("eve@x.org", "eve@y.org"), mail("mallory", "eve@x.org")]).await;
    let found = async |login: &str| {
        let found = bench.store.credentials(&tenant("default"), login).await.unwrap();
        found.map(|c| (c.user.to_string(), c.password == Some(password(c.user.as_str()))))
    };
    assert_eq!(found("ben").await, Some(("ben".to_owned(), true)));
    assert_eq!(found("BEN@X.org").await, Some(("ben".to_owned(), true)));
    assert_eq!(found("eve@x.org").await, Some(("eve@x.org".to_owned(), true)), "an id comes before an email");
    assert_eq!(found("Ben").await, None, "ids are what they are");
    assert_eq!(found("").await, None);
    assert_eq!(bench.store.credentials(&tenant("nowhere"), "ben").await.unwrap(), None);
    bench.does([suspend("ben")]).await;
    assert!(!bench.store.credentials(&tenant("default"), "ben").await.unwrap().unwrap().active);
}
