//! What administrators do, as REST shows it.

use serde_json::json;

use crate::company::company;
use crate::harness::Cluster;

#[tokio::test]
async fn a_user_lives_from_post_to_delete() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let body = json!({
        "id": "auth0|5f", "name": "Dora", "email": "Dora@Example.org", "kind": "service", "status": "active",
        "password": "a long enough password", "identities": [{"issuer": "https://idp.example", "subject": "7"}],
    });
    let made = root.post("/v1/tenants/default/users", body).await;
    assert_eq!(made.status, 201);
    made.version();
    assert_eq!(made.header("location"), "/v1/tenants/default/users/auth0%7C5f");
    assert_eq!((&made.body["id"], &made.body["email"]), (&json!("auth0|5f"), &json!("dora@example.org")));
    assert!(!made.body.to_string().contains("long enough"), "no password is ever shown");

    let path = "/v1/tenants/default/users/auth0%7C5f";
    let shown = root.get(path).await.ok().body;
    assert_eq!((&shown["name"], &shown["kind"]), (&json!("Dora"), &json!("service")));
    assert_eq!(shown["identities"], json!([{"issuer": "https://idp.example", "subject": "7"}]));
    let renamed = root.patch(path, json!({"name": "Dora D."})).await.ok();
    assert_eq!((renamed.status.as_u16(), &renamed.body["change"]), (200, &json!(null)));

    root.put(&format!("{path}/roles/viewer")).await.version();
    let given = root.put(&format!("{path}/permissions/reports:read")).await;
    given.version();
    assert_eq!((&given.body["user"], &given.body["permission"]), (&json!("auth0|5f"), &json!("reports:read")));
    let held = root.get(&format!("{path}/permissions")).await.ok().body;
    assert_eq!((&held["roles"], &held["permissions"]), (&json!(["viewer"]), &json!(["invoices:read", "reports:read"])));
    assert!(held["pv"].is_string());

    cluster.b.client().sign_in("default", "DORA@example.org", "a long enough password").await.ok();
    let sessions = root.get(&format!("{path}/sessions")).await.ok().body;
    let session = &sessions["items"][0];
    for name in ["id", "created_at", "last_refresh_at", "address", "user_agent", "pv", "connected"] {
        assert!(!session[name].is_null(), "{name}: {session}");
    }
    let ended = root.delete(&format!("{path}/sessions/{}", session["id"].as_str().unwrap())).await;
    ended.version();
    assert_eq!(root.get(&format!("{path}/sessions")).await.ok().body["items"], json!([]));

    root.delete(path).await.version();
    root.get(path).await.problem(404, "unknown-user");
    root.post("/v1/tenants/default/users", json!({"id": "auth0|5f"})).await.problem(409, "conflict");
}

#[tokio::test]
async fn a_role_lives_from_post_to_delete() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let body =
        json!({"name": "chief", "description": "all of it", "permissions": ["b:*", "a"], "includes": ["editor"]});
    let made = root.post("/v1/tenants/default/roles", body).await;
    assert_eq!(made.status, 201);
    made.version();
    let path = "/v1/tenants/default/roles/chief";
    let shown = root.get(path).await.ok().body;
    assert_eq!((&shown["permissions"], &shown["includes"]), (&json!(["a", "b:*"]), &json!(["editor"])));
    root.put(&format!("{path}/permissions/c")).await.version();
    root.delete(&format!("{path}/permissions/a")).await.version();
    root.put(&format!("{path}/includes/checkers")).await.version();
    root.delete(&format!("{path}/includes/editor")).await.version();
    let shown = root.get(path).await.ok().body;
    assert_eq!((&shown["permissions"], &shown["includes"]), (&json!(["b:*", "c"]), &json!(["checkers"])));
    let replaced = root.patch(path, json!({"permissions": ["d"], "includes": []})).await;
    replaced.version();
    assert_eq!((&replaced.body["permissions"], &replaced.body["description"]), (&json!(["d"]), &json!("all of it")));
    root.delete(path).await.version();
    root.get(path).await.problem(404, "unknown-role");
}

#[tokio::test]
async fn tenants_are_the_operators_business() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let made = root.post("/v1/tenants", json!({"name": "beta", "description": "to try"})).await;
    assert_eq!(made.status, 201);
    made.version();
    let names = |body: &serde_json::Value| {
        body["items"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&root.get("/v1/tenants").await.ok().body), ["acme", "beta", "default"]);
    let zoe = cluster.b.client().with(&cluster.b.client().login_in("acme", "zoe").await);
    zoe.get("/v1/tenants").await.problem(403, "forbidden");
    zoe.get("/v1/tenants/acme/users").await.ok();
    zoe.get("/v1/tenants/beta").await.problem(404, "unknown-tenant");
    root.patch("/v1/tenants/acme", json!({"status": "suspended"})).await.version();
    root.delete("/v1/tenants/beta").await.version();
    root.get("/v1/tenants/beta").await.problem(404, "unknown-tenant");
    assert_eq!(cluster.a.client().sign_in("acme", "zoe", crate::harness::PASSWORD).await.status, 401);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = root.get(&format!("/v1/tenants/default/users?limit=2{cursor}")).await.ok().body;
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        seen.extend(items.iter().map(|user| user["id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["ben", "cleo", "max", "root", "vera"]);
}

#[tokio::test]
async fn whoever_makes_his_own_token_stale_is_told() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let answer = root.put("/v1/tenants/default/users/root/permissions/x").await;
    let version = answer.version();
    assert_eq!(answer.body["stale"], true);
    assert_eq!(root.get("/v1/me").await.stale(), version);
    let other = cluster.a.client();
    let max = other.with(&other.login("max").await);
    let answer = max.put("/v1/tenants/default/users/ben/permissions/x").await;
    answer.version();
    assert!(answer.body["stale"].is_null());
}

#[tokio::test]
async fn a_batch_is_all_or_nothing() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let path = "/v1/tenants/default/batch";
    let log =
        async || root.get("/v1/tenants/default/changes?limit=1000").await.ok().body["items"].as_array().unwrap().len();
    let before = log().await;
    let operations = json!([
        {"op": "post", "path": "users", "body": {"id": "dora"}},
        {"op": "put", "path": "users/dora/roles/viewer"},
        {"op": "put", "path": "users/dora/roles/nothing"},
        {"op": "delete", "path": "users/ben"},
    ]);
    let refused = root.post(path, json!({"operations": operations})).await;
    refused.problem(404, "unknown-role");
    assert_eq!(refused.body["index"], 2, "{refused:?}");
    assert_eq!(log().await, before);
    root.get("/v1/tenants/default/users/dora").await.problem(404, "unknown-user");

    let operations = json!([
        {"op": "post", "path": "users", "body": {"id": "dora"}},
        {"op": "put", "path": "users/dora/roles/viewer", "body": {"expires_at": "2999-01-01T00:00:00Z"}},
        {"op": "patch", "path": "roles/viewer", "body": {"description": "who looks"}},
        {"op": "delete", "path": "users/ben/roles/editor"},
    ]);
    let done = root.post(path, json!({"operations": operations})).await;
    assert_eq!(done.status, 200);
    done.version();
    assert_eq!(log().await, before + 3);
}
