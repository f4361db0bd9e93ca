//! `permcast token`, beside replicas that run.

use serde_json::{Value, json};

use crate::company::company;
use crate::harness::Cluster;

/// What `token inspect` says: the exit code, and the answer.
fn inspect(cluster: &Cluster, token: &str) -> (i32, Value) {
    let (code, said) = cluster.operate(&["token", "inspect", token]);
    let json = said.rfind('}').map_or("", |end| &said[..=end]);
    (code, serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {said}")))
}

#[tokio::test]
async fn a_token_is_issued_inspected_and_revoked_from_a_shell() {
    let cluster = Cluster::without_broker().await;
    let (root, _) = company(&cluster).await;
    let (code, said) = cluster.operate(&["token", "issue", "--user", "ben", "--ttl", "5m"]);
    assert_eq!(code, 0, "{said}");
    let token = said.trim();
    let me = cluster.b.client().bearing(token).get("/v1/me").await.ok().body;
    assert_eq!((&me["user"], &me["roles"]), (&json!("ben"), &json!(["editor", "viewer"])), "{me}");
    let (code, found) = inspect(&cluster, token);
    assert_eq!((code, &found["state"], &found["verified"]), (0, &json!("fresh"), &json!(true)), "{found}");
    assert_eq!(found["claims"]["sub"], "default/ben");
    let opened = root.get("/v1/tenants/default/audit?action=session.opened&actor=cli").await.ok().body;
    assert_eq!(opened["items"].as_array().unwrap().len(), 1, "{opened}");

    root.put("/v1/tenants/default/roles/viewer/permissions/reports:read").await.ok();
    let (code, found) = inspect(&cluster, token);
    assert_eq!((code, &found["state"]), (2, &json!("stale")), "{found}");
    assert_eq!((&found["change"]["kind"], &found["change"]["target"]), (&json!("role"), &json!("viewer")), "{found}");

    let (code, said) = cluster.operate(&["token", "revoke", token]);
    assert!(code == 0 && said.starts_with("ended at "), "{said}");
    assert_eq!(inspect(&cluster, token).1["state"], "ended");
    crate::harness::until("its tokens are refused", async || {
        let answer = cluster.b.client().bearing(token).get("/v1/me").await;
        (answer.body["type"] == "/problems/session-ended").then_some(())
    })
    .await;

    let forged = format!("{}AAAA", &token[..token.len() - 4]);
    let (code, found) = inspect(&cluster, &forged);
    assert_eq!((code, &found["state"], &found["verified"]), (2, &json!("refused"), &json!(false)), "{found}");
    let (code, said) = cluster.operate(&["token", "issue", "--user", "nobody"]);
    assert!(code == 2 && said.contains("no active user nobody"), "{said}");
}
