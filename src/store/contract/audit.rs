//! The audit trail, which databases keep and the model does not.

use std::time::Duration;

use serde_json::{Value, json};

use super::bench::Bench;
use super::words::*;
use crate::domain::{Actor, Effect, Origin};
use crate::store::Rotation;
use crate::store::audit::{AuditEntry, AuditQuery, ChainCheck, RefusedSignIns};

async fn trail(bench: &Bench, asked: AuditQuery) -> Vec<AuditEntry> {
    bench.store.audit(&AuditQuery { limit: 1_000, ..asked }).await.unwrap()
}

/// What was done to whom, with before and after.
fn shown(entry: &AuditEntry) -> Value {
    let value = |text: &Option<String>| -> Value {
        text.as_ref().map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
    };
    json!([entry.action, entry.tenant, entry.target, value(&entry.before), value(&entry.after)])
}

/// What the operations of a test have added.
async fn added(bench: &Bench, after: i64) -> Vec<Value> {
    trail(bench, AuditQuery { after, ..AuditQuery::default() }).await.iter().map(shown).collect()
}

async fn end(bench: &Bench) -> i64 {
    trail(bench, AuditQuery::default()).await.last().map_or(0, |entry| entry.id)
}

pub(crate) async fn it_tells_who_did_what_from_where(bench: Bench) {
    bench.does([add_user("ben"), add_role("editor", &[], &[])]).await;
    let mut actor = bench.actor("default", "ben").await;
    let opened = trail(&bench, AuditQuery { action: Some("session".into()), ..AuditQuery::default() }).await;
    assert_eq!(opened.len(), 1);
    assert_eq!((opened[0].actor.as_deref(), opened[0].address.as_deref()), (Some("default/ben"), Some("192.0.2.1")));
    bench.does([permit("ben", "permcast:admin")]).await;
    let before = end(&bench).await;
    if let Actor::User { origin, .. } = &mut actor {
        *origin = Origin { address: Some("198.51.100.7".into()), request: Some("r-1".into()) };
    }
    bench.does_as(&actor, [give("ben", "editor")]).await;
    bench.does([take("ben", "editor")]).await;
    let given = json!({"role": "editor", "expires_at": null});
    assert_eq!(
        added(&bench, before).await,
        [json!(["role.granted", "default", "ben", null, given]), json!(["role.taken", "default", "ben", given, null]),]
    );
    let entries = trail(&bench, AuditQuery { after: before, ..AuditQuery::default() }).await;
    let who = |entry: &AuditEntry| [entry.actor.clone(), entry.address.clone(), entry.request.clone()];
    assert_eq!(who(&entries[0]), [Some("default/ben".into()), Some("198.51.100.7".into()), Some("r-1".into())]);
    assert_eq!(who(&entries[1]), [Some("system".into()), None, None], "the next one's origin is his own");
    assert!(entries.iter().all(|entry| entry.at == Some(bench.now())));
}

pub(crate) async fn what_was_refused_leaves_no_entry(bench: Bench) {
    bench.does([add_user("ben"), add_role("editor", &[], &[])]).await;
    let before = end(&bench).await;
    let unit = vec![give("ben", "editor"), give("ben", "nothing")];
    bench.all_refused(&Actor::System("system"), unit).await;
    bench.does([take("ben", "editor")]).await;
    assert_eq!(added(&bench, before).await, [] as [Value; 0], "nor does what is so already");
}

pub(crate) async fn sessions_and_refusals_are_in_it(bench: Bench) {
    bench.does([add_user("ben")]).await;
    let session = bench.session("ben").await;
    let before = end(&bench).await;
    bench.end(&session, Effect::RefreshReuse).await;
    let ben = Some((tenant("default"), user("ben")));
    let refused = vec![
        RefusedSignIns { user: ben, address: "192.0.2.9".into(), count: 3 },
        RefusedSignIns { user: None, address: String::new(), count: 1 },
    ];
    bench.store.note_refused(refused).await.unwrap();
    let ended = json!({"session": session, "address": "192.0.2.1"});
    assert_eq!(
        added(&bench, before).await,
        [
            json!(["session.ended", "default", "ben", ended, {"reason": "refresh_reuse"}]),
            json!(["sign_in.refused", "default", "ben", null, {"count": 3}]),
            json!(["sign_in.refused", null, null, null, {"count": 1}]),
        ]
    );
}

pub(crate) async fn a_theft_is_told_with_where_the_thief_was(bench: Bench) {
    bench.does([add_user("ben")]).await;
    let session = bench.session("ben").await;
    let rotate = async |presented: u8, from: &Origin| {
        bench.store.rotate(&session, &[presented; 32], &[presented + 1; 32], from).await.unwrap()
    };
    bench.pass(Duration::from_mins(1));
    assert!(matches!(rotate(1, &Origin::default()).await, Rotation::Rotated(_)));
    bench.pass(Duration::from_mins(1));
    let thief = Origin { address: Some("198.51.100.7".into()), request: Some("r-9".into()) };
    assert!(matches!(rotate(1, &thief).await, Rotation::Reused(_)));
    let asked = AuditQuery { action: Some("session.ended".into()), limit: 10, ..AuditQuery::default() };
    let told = bench.store.audit(&asked).await.unwrap().pop().unwrap();
    let said = (told.address.as_deref(), told.request.as_deref());
    assert_eq!(said, (Some("198.51.100.7"), Some("r-9")));
}

pub(crate) async fn it_is_chained_once(bench: Bench) {
    bench.does([add_user("ben"), add_role("editor", &[], &[]), give("ben", "editor")]).await;
    let entries = end(&bench).await;
    let (one, other) = tokio::join!(bench.store.chain_audit(), bench.store.chain_audit());
    assert_eq!(i64::try_from(one.unwrap() + other.unwrap()).unwrap(), entries, "whoever comes first");
    assert_eq!(bench.store.chain_audit().await.unwrap(), 0);
    bench.does([take("ben", "editor")]).await;
    let mut check = ChainCheck::new(None);
    let first = bench.store.audit_links(0, 2).await.unwrap();
    assert_eq!(first.len(), 2);
    let rest = bench.store.audit_links(2, 1_000).await.unwrap();
    first.iter().chain(&rest).for_each(|link| check.take(link).unwrap());
    let report = check.end().unwrap();
    assert_eq!((report.last.0, report.open), (entries, 1));
}
