//! Decisions: AuthZEN, `/v1/me`, forward-auth.

use serde_json::{Value, json};

use crate::company::company;
use crate::harness::Cluster;

fn question(id: &str, resource: &str, action: &str) -> Value {
    json!({"subject": {"type": "user", "id": id}, "resource": {"type": resource}, "action": {"name": action}})
}

#[tokio::test]
async fn decisions_follow_the_covering_rule() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    root.put("/v1/tenants/default/users/ben/permissions/reports:*:2026").await.ok();
    root.patch("/v1/tenants/default/users/cleo", json!({"status": "suspended"})).await.ok();
    let client = cluster.a.client();
    let vera = client.with(&client.login("vera").await);
    for (id, resource, action, decision) in [
        ("ben", "invoices", "read", true),
        ("ben", "invoices", "write", true),
        ("ben", "invoices", "delete", false),
        ("ben", "reports:monthly", "2026", true),
        ("ben", "reports:monthly", "2025", false),
        ("ben", "permcast", "admin", false),
        ("ben", "INVOICES", "read", false),
        ("ben", "*", "read", false),
        ("cleo", "invoices", "read", false),
        ("nobody", "invoices", "read", false),
        ("no/body", "invoices", "read", false),
    ] {
        let answer = vera.post("/access/v1/evaluation", question(id, resource, action)).await.ok();
        assert_eq!(answer.body["decision"], decision, "{id} {resource} {action}");
        assert!(answer.body["context"]["pv"].is_string());
        assert_eq!(answer.body["context"]["stale"], false);
    }
    let mut one = question("ben", "invoices", "read");
    one["resource"]["id"] = json!("42");
    assert_eq!(vera.post("/access/v1/evaluation", one).await.ok().body["decision"], true, "shorter covers longer");
}

#[tokio::test]
async fn many_questions_come_in_one() {
    let cluster = Cluster::start().await;
    company(&cluster).await;
    let client = cluster.b.client();
    let vera = client.with(&client.login("vera").await);
    let body = json!({
        "subject": {"type": "user", "id": "ben"},
        "action": {"name": "write"},
        "evaluations": [
            {"resource": {"type": "invoices"}},
            {"resource": {"type": "secrets"}},
            {"resource": {"type": "invoices"}, "subject": {"type": "user", "id": "cleo"}},
        ],
    });
    let answer = vera.post("/access/v1/evaluations", body).await.ok();
    let decisions: Vec<_> =
        answer.body["evaluations"].as_array().unwrap().iter().map(|one| one["decision"].clone()).collect();
    assert_eq!(decisions, [json!(true), json!(false), json!(false)]);
}

#[tokio::test]
async fn asking_about_others_takes_a_right_of_its_own() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let client = cluster.a.client();
    let ben = client.with(&client.login("ben").await);
    assert_eq!(
        ben.post("/access/v1/evaluation", question("ben", "invoices", "write")).await.ok().body["decision"],
        true
    );
    ben.post("/access/v1/evaluation", question("cleo", "invoices", "read")).await.problem(403, "forbidden");
    let max = client.with(&client.login("max").await);
    max.post("/access/v1/evaluation", question("ben", "invoices", "read")).await.problem(403, "forbidden");

    let elsewhere = |id: &str| {
        let mut body = question(id, "permcast", "admin");
        body["subject"]["properties"] = json!({"tenant": "acme"});
        body
    };
    let vera = client.with(&client.login("vera").await);
    vera.post("/access/v1/evaluation", elsewhere("zoe")).await.problem(404, "unknown-tenant");
    assert_eq!(root.post("/access/v1/evaluation", elsewhere("zoe")).await.ok().body["decision"], true);
}

#[tokio::test]
async fn forward_auth_lets_through_who_may() {
    let cluster = Cluster::start().await;
    company(&cluster).await;
    let client = cluster.a.client();
    let cleo = client.with(&client.login("cleo").await);
    let allowed = cleo.get("/v1/forward-auth?require=invoices:read&require=invoices:read:42").await.ok();
    assert_eq!((allowed.status.as_u16(), allowed.header("permcast-user")), (200, "cleo"));
    assert_eq!(allowed.header("permcast-tenant"), "default");
    assert!(allowed.header("permcast-version").contains('.'));
    cleo.get("/v1/forward-auth?require=invoices:read&require=invoices:write").await.problem(403, "forbidden");
    cleo.get("/v1/forward-auth").await.problem(422, "invalid");
    cleo.get("/v1/forward-auth?require=invoices:*").await.problem(422, "invalid");
    client.get("/v1/forward-auth?require=invoices:read").await.problem(401, "unauthenticated");
}
