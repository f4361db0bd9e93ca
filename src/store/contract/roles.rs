//! Roles: what they carry, what they include, and that their members never count.

use crate::domain::operation::Resource;
use crate::domain::rules::Refusal;

use super::bench::{Bench, rows};
use super::company::company;
use super::words::{
    add_role, add_user, delete_role, describe_role, exclude, give, grants, include, patch_role, role, role_gains,
    role_loses, roles, tenant, within,
};

pub(crate) async fn a_role_is_made_as_asked(bench: Bench) {
    bench.does([add_role("viewer", &["a:read"], &[]), add_role("other", &[], &[])]).await;
    let written = bench.does([add_role("editor", &["b:write", "a:*", "b:write"], &["viewer", "other"])]).await;
    assert_eq!(rows(&written), ["role default/editor changed"]);
    let record = bench.store.role(&tenant("default"), &role("editor")).await.unwrap().unwrap();
    assert_eq!(written.outcomes[0].resource, Resource::Role(record.clone()));
    assert_eq!(record.permissions, grants(&["a:*", "b:write"]));
    assert_eq!(record.includes, roles(&["other", "viewer"]));
    assert!(matches!(bench.refused(add_role("editor", &[], &[])).await, Refusal::Exists(_)));
    assert_eq!(bench.refused(add_role("x", &[], &["nothing"])).await, Refusal::UnknownRole("nothing".to_owned()));
}

pub(crate) async fn a_role_gives_all_that_it_includes(bench: Bench) {
    company(&bench).await;
    bench.does([add_role("chief", &["staff:*"], &["editor"]), give("cleo", "chief")]).await;
    assert_eq!(bench.holds("cleo").await.unwrap(), ["invoices:read", "invoices:write", "staff:*"]);
    let no = bench.role_no("cleo", "chief").await;
    let facts = bench.store.load_role(no).await.unwrap().value.unwrap();
    assert_eq!(facts.closure, roles(&["chief", "editor", "viewer"]));
    assert_eq!(facts.grants, grants(&["invoices:read", "invoices:write", "staff:*"]));
}

pub(crate) async fn a_role_reached_on_two_ways_counts_once(bench: Bench) {
    bench
        .does([
            add_role("base", &["a"], &[]),
            add_role("left", &["b"], &["base"]),
            add_role("right", &["b"], &["base"]),
            add_role("top", &["a"], &["left", "right"]),
            add_user("ben"),
            give("ben", "top"),
        ])
        .await;
    let facts = bench.store.load_role(bench.role_no("ben", "top").await).await.unwrap().value.unwrap();
    assert_eq!(facts.closure, roles(&["base", "left", "right", "top"]));
    assert_eq!(facts.grants, grants(&["a", "b"]));
}

pub(crate) async fn editing_a_role_is_one_row_and_members_hold_it(bench: Bench) {
    company(&bench).await;
    assert_eq!(bench.rows(role_gains("viewer", "archive:read")).await, ["role default/viewer changed"]);
    assert!(bench.rows(role_gains("viewer", "archive:read")).await.is_empty());
    assert!(bench.holds("ben").await.unwrap().contains(&"archive:read".to_owned()));
    assert_eq!(bench.rows(role_loses("viewer", "archive:read")).await, ["role default/viewer changed"]);
    assert!(bench.rows(role_loses("viewer", "archive:read")).await.is_empty());
    assert!(!bench.holds("ben").await.unwrap().contains(&"archive:read".to_owned()));
    assert_eq!(bench.rows(patch_role("viewer", Some(&["x", "y"]), None)).await, ["role default/viewer changed"]);
    assert!(bench.rows(patch_role("viewer", Some(&["y", "x"]), Some(&[]))).await.is_empty());
    assert!(bench.rows(describe_role("viewer", "who may look")).await.is_empty());
    let record = bench.store.role(&tenant("default"), &role("viewer")).await.unwrap().unwrap();
    assert_eq!((record.description.as_str(), record.permissions), ("who may look", grants(&["x", "y"])));
}

pub(crate) async fn inclusion_is_given_and_taken(bench: Bench) {
    company(&bench).await;
    bench.does([add_role("auditor", &["audit:read"], &[])]).await;
    assert_eq!(bench.rows(include("editor", "auditor")).await, ["role default/editor changed"]);
    assert!(bench.rows(include("editor", "auditor")).await.is_empty());
    assert!(bench.holds("ben").await.unwrap().contains(&"audit:read".to_owned()));
    assert_eq!(bench.rows(exclude("editor", "auditor")).await, ["role default/editor changed"]);
    assert!(bench.rows(exclude("editor", "auditor")).await.is_empty());
    assert!(!bench.holds("ben").await.unwrap().contains(&"audit:read".to_owned()));
    assert_eq!(bench.rows(patch_role("editor", None, Some(&["auditor"]))).await, ["role default/editor changed"]);
    let record = bench.store.role(&tenant("default"), &role("editor")).await.unwrap().unwrap();
    assert_eq!((record.includes, record.permissions), (roles(&["auditor"]), grants(&["invoices:write"])));
}

pub(crate) async fn no_role_includes_itself(bench: Bench) {
    company(&bench).await;
    bench.does([add_role("chief", &[], &["editor"])]).await;
    assert_eq!(bench.refused(include("viewer", "viewer")).await, Refusal::Cycle);
    assert_eq!(bench.refused(include("viewer", "editor")).await, Refusal::Cycle);
    assert_eq!(bench.refused(include("viewer", "chief")).await, Refusal::Cycle);
    assert_eq!(bench.refused(patch_role("viewer", None, Some(&["chief"]))).await, Refusal::Cycle);
    assert_eq!(bench.refused(patch_role("viewer", None, Some(&["viewer"]))).await, Refusal::Cycle);
    bench.does([include("chief", "viewer")]).await;
    bench.does([exclude("editor", "viewer"), exclude("chief", "viewer"), include("viewer", "chief")]).await;
}

pub(crate) async fn deleting_a_role_is_one_row_however_many_hold_it(bench: Bench) {
    company(&bench).await;
    for n in 0..50 {
        let id = format!("u{n}");
        bench.does([add_user(&id), give(&id, "viewer")]).await;
    }
    let written = bench.does([delete_role("viewer")]).await;
    assert_eq!(written.changes.len(), 1, "{written:?}");
    assert_eq!(rows(&written), ["role default/viewer changed"]);
    assert_eq!(written.outcomes[0].resource, Resource::Nothing);
    assert_eq!(bench.holds("u7").await.unwrap(), Vec::<String>::new());
    assert_eq!(bench.granted("u7").await, Vec::<String>::new());
    assert_eq!(bench.holds("ben").await.unwrap(), ["invoices:write", "reports:read"], "nor does it come by inclusion");
    let record = bench.store.role(&tenant("default"), &role("editor")).await.unwrap().unwrap();
    assert_eq!(record.includes, []);
    assert_eq!(bench.refused(delete_role("viewer")).await, Refusal::UnknownRole("viewer".to_owned()));
}

pub(crate) async fn a_role_made_anew_has_no_members(bench: Bench) {
    company(&bench).await;
    let before = bench.role_no("ben", "editor").await;
    bench.does([delete_role("editor"), add_role("editor", &["invoices:write"], &[])]).await;
    assert_eq!(bench.granted("ben").await, ["permission reports:read"]);
    assert!(bench.store.load_role(before).await.unwrap().value.is_none());
    bench.does([give("ben", "editor")]).await;
    assert_ne!(bench.role_no("ben", "editor").await, before);
}

pub(crate) async fn what_is_no_role_here_is_unknown(bench: Bench) {
    company(&bench).await;
    bench.does([within("acme", add_role("foreign", &[], &[]))]).await;
    let unknown = |name: &str| Refusal::UnknownRole(name.to_owned());
    assert_eq!(bench.refused(patch_role("nothing", None, None)).await, unknown("nothing"));
    assert_eq!(bench.refused(role_gains("nothing", "x")).await, unknown("nothing"));
    assert_eq!(bench.refused(role_loses("nothing", "x")).await, unknown("nothing"));
    assert_eq!(bench.refused(include("nothing", "viewer")).await, unknown("nothing"));
    assert_eq!(bench.refused(include("viewer", "foreign")).await, unknown("foreign"));
    assert_eq!(bench.refused(exclude("viewer", "foreign")).await, unknown("foreign"));
    assert_eq!(bench.refused(give("ben", "foreign")).await, unknown("foreign"));
    assert_eq!(bench.refused(patch_role("viewer", None, Some(&["foreign"]))).await, unknown("foreign"));
    assert_eq!(bench.store.role(&tenant("default"), &role("foreign")).await.unwrap(), None);
    assert_eq!(bench.store.role(&tenant("nowhere"), &role("viewer")).await.unwrap(), None);
}

pub(crate) async fn a_role_has_room_for_so_many(bench: Bench) {
    let texts: Vec<String> = (0..crate::domain::limits::GRANTS_MAX).map(|n| format!("p{n}")).collect();
    let full: Vec<&str> = texts.iter().map(String::as_str).collect();
    bench.does([add_role("full", &full, &[])]).await;
    assert!(matches!(bench.refused(role_gains("full", "more")).await, Refusal::Invalid(_)));
}
