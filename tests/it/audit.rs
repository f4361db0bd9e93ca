//! The audit trail: what is in it, who may read it, and that whoever alters it is found out.

use serde_json::{Value, json};

use crate::client::{Client, send};
use crate::company::company;
use crate::harness::{Cluster, PASSWORD, until};

async fn entries(client: &Client, query: &str) -> Vec<Value> {
    client.get(query).await.ok().body["items"].as_array().unwrap().clone()
}

/// The one entry of this kind about this target.
async fn only(client: &Client, action: &str, target: &str) -> Value {
    let found = entries(client, &format!("/v1/tenants/default/audit?action={action}&target={target}&limit=1000")).await;
    assert_eq!(found.len(), 1, "{action} {target}: {found:?}");
    found[0].clone()
}

/// Waits until all entries are hashed; gives what `audit verify` says.
async fn verified(cluster: &Cluster) -> String {
    until("all entries are hashed", async || {
        let (code, said) = cluster.operate(&["audit", "verify"]);
        assert_eq!(code, 0, "{said}");
        (!said.contains("not hashed")).then_some(said)
    })
    .await
}

#[tokio::test]
async fn each_alteration_is_told_with_who_from_where_and_by_which_request() {
    let cluster = Cluster::without_broker().await;
    let (root, _) = company(&cluster).await;
    let named = |id: &str| {
        let request = root.request(reqwest::Method::PUT, "/v1/tenants/default/users/cleo/roles/editor");
        request.header("X-Request-Id", id.to_owned()).json(&json!({"expires_at": "2199-01-01T00:00:00Z"}))
    };
    send(named("order-66")).await.ok();
    let granted = entries(&root, "/v1/tenants/default/audit?actor=default/root&action=role&target=cleo").await;
    let entry = granted.last().unwrap();
    assert_eq!(entry["action"], "role.granted", "{entry}");
    assert_eq!((&entry["actor"], &entry["address"]), (&json!("default/root"), &json!("127.0.0.1")), "{entry}");
    assert_eq!((&entry["request"], &entry["before"]), (&json!("order-66"), &Value::Null), "{entry}");
    assert_eq!(entry["after"], json!({"role": "editor", "expires_at": "2199-01-01T00:00:00.000Z"}), "{entry}");

    root.patch("/v1/tenants/default/users/ben", json!({"email": "ben@example.com"})).await.ok();
    let changed = only(&root, "user.changed", "ben").await;
    assert_eq!((&changed["before"]["email"], &changed["after"]["email"]), (&Value::Null, &json!("ben@example.com")));
    root.patch("/v1/tenants/default/users/ben", json!({"password": "another long enough one"})).await.ok();
    let password = only(&root, "user.password", "ben").await;
    assert_eq!(password["after"], json!({"password": true}), "no entry holds a secret");

    root.delete("/v1/tenants/default/roles/checkers").await.ok();
    let deleted = only(&root, "role.deleted", "checkers").await;
    assert_eq!((&deleted["before"]["permissions"], &deleted["after"]), (&json!(["permcast:check"]), &Value::Null));

    cluster.sql("DELETE FROM user_roles WHERE user = (SELECT no FROM users WHERE id = 'max')");
    let taken = only(&root, "role.taken", "max").await;
    assert_eq!(
        (&taken["actor"], &taken["address"], &taken["before"]["role"]),
        (&json!("sql"), &Value::Null, &json!("admins"))
    );

    root.put_json("/v1/lockdown", json!({"enabled": true, "tenant": "acme", "retry_after_s": 7})).await.ok();
    root.put_json("/v1/lockdown", json!({"enabled": false})).await.ok();
    root.post("/v1/keys/rotate", json!({"revoke": false, "sessions": false})).await.ok();
    let actions: Vec<_> = entries(&root, "/v1/audit?limit=1000").await.iter().map(|e| e["action"].clone()).collect();
    for expected in ["tenant.created", "lockdown.begun", "lockdown.lifted", "key.created", "key.changed"] {
        assert!(actions.contains(&json!(expected)), "{expected}: {actions:?}");
    }
}

#[tokio::test]
async fn sign_ins_their_failures_and_theft_are_told() {
    let cluster = Cluster::without_broker().await;
    let (root, _) = company(&cluster).await;
    let nobody = cluster.a.client();
    let tokens = nobody.login("ben").await;
    let opened = only(&root, "session.opened", "ben").await;
    assert_eq!((&opened["actor"], &opened["address"]), (&json!("default/ben"), &json!("127.0.0.1")), "{opened}");
    assert!(opened["request"].is_string() && opened["after"]["session"].is_string(), "{opened}");

    for guess in ["wrong", "still wrong"] {
        nobody.sign_in("default", "ben", guess).await.problem(401, "unauthenticated");
    }
    nobody.sign_in("default", PASSWORD, "ben").await.problem(401, "unauthenticated");
    let refused = until("refusals are told", async || {
        let found = entries(&root, "/v1/audit?action=sign_in.refused").await;
        let count: u64 = found.iter().map(|entry| entry["after"]["count"].as_u64().unwrap()).sum();
        (count == 3).then_some(found)
    })
    .await;
    assert!(refused.iter().all(|entry| entry["address"] == "127.0.0.1" && entry["actor"] == "anonymous"));
    assert!(refused.iter().any(|entry| entry["target"] == "ben"), "{refused:?}");
    assert!(!json!(refused).to_string().contains(PASSWORD), "what was typed for a name may be a password");

    nobody.with(&tokens).post("/v1/logout", json!({})).await.ok();
    let ended = only(&root, "session.ended", "ben").await;
    assert_eq!((&ended["after"], &ended["address"]), (&json!({"reason": "signed_out"}), &json!("127.0.0.1")));
    assert!(ended["request"].is_string(), "{ended}");
}

#[tokio::test]
async fn it_is_read_by_pages_and_by_whom_it_concerns() {
    let cluster = Cluster::without_broker().await;
    let (root, _) = company(&cluster).await;
    let zoe = cluster.a.client().login_in("acme", "zoe").await;
    let zoe = cluster.a.client().with(&zoe);
    zoe.get("/v1/audit").await.problem(403, "forbidden");
    zoe.get("/v1/tenants/default/audit").await.problem(404, "unknown-tenant");
    let own = entries(&zoe, "/v1/tenants/acme/audit").await;
    assert!(!own.is_empty() && own.iter().all(|entry| entry["tenant"] == "acme"), "{own:?}");
    let ben = cluster.a.client().login("ben").await;
    cluster.a.client().with(&ben).get("/v1/tenants/default/audit").await.problem(403, "forbidden");

    let all = entries(&root, "/v1/audit?limit=1000").await;
    let mut paged = Vec::new();
    let mut after = json!("0");
    while let Some(cursor) = after.as_str() {
        let page = root.get(&format!("/v1/audit?limit=7&after={cursor}")).await.ok().body;
        paged.extend(page["items"].as_array().unwrap().clone());
        after = page["next_cursor"].clone();
    }
    assert_eq!(paged, all);
    let middle = all[all.len() / 2]["at"].as_str().unwrap().to_owned();
    let (earlier, later) = (
        entries(&root, &format!("/v1/audit?limit=1000&until={middle}")).await,
        entries(&root, &format!("/v1/audit?limit=1000&since={middle}")).await,
    );
    assert_eq!([earlier, later].concat(), all);
    root.get("/v1/audit?since=yesterday").await.problem(422, "invalid");

    let (code, exported) = cluster.operate(&["audit", "export", "--tenant", "acme"]);
    let lines: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, lines), (0, entries(&zoe, "/v1/tenants/acme/audit?limit=1000").await));
}

#[tokio::test]
async fn whoever_alters_it_is_found_out() {
    let cluster = Cluster::without_broker().await;
    company(&cluster).await;
    let said = verified(&cluster).await;
    let kept = said.lines().last().unwrap().split_whitespace().last().unwrap().to_owned();
    let says = |arguments: &[&str]| cluster.operate(&[&["audit", "verify"], arguments].concat());
    assert_eq!(says(&["--kept", &kept]).0, 0);

    let refused = std::process::Command::new("sqlite3")
        .args([cluster.database().to_str().unwrap(), "UPDATE audit SET actor = 'default/eve' WHERE id = 3"])
        .output()
        .unwrap();
    assert!(!refused.status.success(), "with its triggers it is never altered");

    let actor = cluster.sql("SELECT actor FROM audit WHERE id = 3");
    cluster.sql("DROP TRIGGER audit_stays_update; UPDATE audit SET actor = 'default/eve' WHERE id = 3");
    let (code, said) = says(&[]);
    assert!(code != 0 && said.contains("entry 3 is not what it was"), "{said}");
    cluster.sql(&format!("UPDATE audit SET actor = '{}' WHERE id = 3", actor.trim()));
    assert_eq!(says(&[]).0, 0);

    let last: i64 = kept.split_once(':').unwrap().0.parse().unwrap();
    cluster.sql(&format!(
        "DROP TRIGGER audit_stays_delete; DROP TRIGGER audit_chain_stays_delete; \
         DELETE FROM audit WHERE id >= {last}; DELETE FROM audit_chain WHERE id >= {last}"
    ));
    let (code, said) = says(&["--kept", &kept]);
    assert!(code != 0 && said.contains(&format!("ends before entry {last}")), "{said}");
    cluster.sql("DELETE FROM audit WHERE id = 5");
    let (code, said) = says(&[]);
    assert!(code != 0 && said.contains("entry 5 is missing"), "{said}");
}
