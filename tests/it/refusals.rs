//! Every 4xx of the contract: a clear error, and nothing changed.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Deployment, PASSWORD};

fn is_problem(answer: &crate::harness::Answer, status: u16) {
    assert_eq!(answer.status.as_u16(), status, "{answer:?}");
    assert_eq!(answer.headers["content-type"], "application/problem+json", "{answer:?}");
    assert_eq!(answer.body["status"], status, "{answer:?}");
    assert!(answer.body["type"].as_str().unwrap().starts_with("/problems/"), "{answer:?}");
}

#[tokio::test]
async fn a_bad_request_gets_its_status_and_changes_nothing() {
    let d = Deployment::start(1, false).await;
    d.make_user("ben").await;
    d.make_role("editor", &["invoices:edit"]).await;
    d.make_role("viewer", &["invoices:read"]).await;
    d.administer(0, Method::PUT, "roles/editor/includes/viewer", None).await.ok();
    let (ben, _) = d.login(0, "ben").await;
    let ada = d.login(0, "ada").await.0;
    let before = d.head();
    let cases: &[(u16, Method, &str, Option<Value>)] = &[
        (404, Method::GET, "/v1/tenants/nowhere", None),
        (404, Method::GET, "/v1/tenants/default/users/nobody", None),
        (404, Method::PUT, "/v1/tenants/default/users/ben/roles/nothing", None),
        (404, Method::DELETE, "/v1/tenants/default/roles/nothing", None),
        (404, Method::GET, "/v1/no/such/path", None),
        (405, Method::PUT, "/v1/me", None),
        (409, Method::POST, "/v1/tenants/default/users", Some(json!({ "id": "ben" }))),
        (409, Method::POST, "/v1/tenants/default/roles", Some(json!({ "name": "editor" }))),
        (409, Method::PUT, "/v1/tenants/default/roles/viewer/includes/editor", None),
        (409, Method::PUT, "/v1/tenants/default/roles/viewer/includes/viewer", None),
        (409, Method::DELETE, "/v1/tenants/default/users/ada", None),
        (409, Method::PATCH, "/v1/tenants/default/users/ada", Some(json!({ "status": "suspended" }))),
        (409, Method::DELETE, "/v1/tenants/default/users/ada/permissions/permcast:operator", None),
        (422, Method::POST, "/v1/tenants/default/users", Some(json!({ "id": "no spaces" }))),
        (422, Method::POST, "/v1/tenants/default/users", Some(json!({ "id": "x", "wings": 2 }))),
        (422, Method::POST, "/v1/tenants/default/roles", Some(json!({ "name": "x", "permissions": ["A:B"] }))),
        (422, Method::PUT, "/v1/tenants/default/users/ben/permissions/A", None),
        (422, Method::PUT, "/v1/tenants/default/users/ben/roles/editor", Some(json!({ "expires_at": "tomorrow" }))),
        (422, Method::GET, "/v1/tenants/default/users?limit=0", None),
        (422, Method::GET, "/v1/tenants/default/users?limit=1001", None),
        (422, Method::GET, "/v1/forward-auth", None),
    ];
    for (status, method, path, body) in cases {
        let answer = d.call(0, method.clone(), path, &ada, body.clone()).await;
        is_problem(&answer, *status);
    }
    for (path, method) in [("/v1/tenants/default/users", Method::GET), ("/v1/lockdown", Method::GET)] {
        is_problem(&d.call(0, method.clone(), path, "", None).await, 401);
        is_problem(&d.call(0, method.clone(), path, "not.a.token", None).await, 401);
        is_problem(&d.call(0, method, path, &ben, None).await, 403);
    }
    is_problem(&d.call(0, Method::GET, "/v1/tenants/other/users", &ben, None).await, 404);
    assert_eq!(d.head(), before);
}

#[tokio::test]
async fn a_bad_body_is_told_apart() {
    let d = Deployment::start(1, false).await;
    let before = d.head();
    let post = |body: &'static str, content_type: &'static str| {
        d.request(0, Method::POST, "/v1/tenants/default/users")
            .bearer_auth(&d.ada)
            .header("Content-Type", content_type)
            .body(body)
    };
    is_problem(&Deployment::answer(post("{", "application/json")).await, 400);
    is_problem(&Deployment::answer(post("{\"id\":\"x\"}", "text/plain")).await, 415);
    let invalid = Deployment::answer(post("{\"id\":7}", "application/json")).await;
    is_problem(&invalid, 422);
    assert_eq!(invalid.body["errors"][0]["pointer"], "/id", "{invalid:?}");
    let large = d.request(0, Method::POST, "/v1/tenants/default/users").bearer_auth(&d.ada);
    let large = large.json(&json!({ "id": "x", "name": "x".repeat(70_000) }));
    is_problem(&Deployment::answer(large).await, 413);
    assert_eq!(d.head(), before);
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_are_refused_alike() {
    let d = Deployment::start(1, false).await;
    d.make_user("ben").await;
    let mut answers = Vec::new();
    for (user, password) in [("ben", "wrong"), ("nobody", PASSWORD)] {
        let body = json!({ "username": user, "password": password });
        let answer = d.call(0, Method::POST, "/v1/login", "", Some(body)).await;
        assert_eq!(answer.status, 401);
        answers.push(answer.body);
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test]
async fn a_version_that_cannot_be_reached_is_412() {
    let d = Deployment::start(1, false).await;
    let me = d.call(0, Method::GET, "/v1/me", &d.ada, None).await.ok();
    let epoch = me["pv"].as_str().unwrap().split_once('.').unwrap().0.to_owned();
    for version in ["zzzzzzzz.1".to_owned(), format!("{epoch}.999999")] {
        let headers = [("Permcast-At-Least", version.as_str())];
        is_problem(&d.call_with(0, Method::GET, "/v1/me", &d.ada, None, &headers).await, 412);
    }
}

#[tokio::test]
async fn nobody_gives_what_he_does_not_hold() {
    let d = Deployment::start(1, false).await;
    d.make_user("cleo").await;
    d.make_user("ben").await;
    d.administer(0, Method::PUT, "users/cleo/permissions/permcast:admin", None).await.ok();
    d.make_role("ops", &["permcast:operator"]).await;
    let (cleo, _) = d.login(0, "cleo").await;
    let before = d.head();
    let t = "/v1/tenants/default";
    let cases: &[(Method, String, Option<Value>)] = &[
        (Method::PUT, format!("{t}/users/ben/permissions/permcast:operator"), None),
        (Method::PUT, format!("{t}/users/cleo/permissions/permcast:check"), None),
        (Method::PUT, format!("{t}/users/cleo/roles/ops"), None),
        (Method::DELETE, format!("{t}/roles/ops"), None),
        (Method::PATCH, format!("{t}/roles/ops"), Some(json!({ "permissions": [] }))),
        (Method::POST, format!("{t}/roles"), Some(json!({ "name": "mine", "includes": ["ops"] }))),
        (Method::POST, format!("{t}/roles"), Some(json!({ "name": "mine", "permissions": ["permcast:operator"] }))),
        (Method::PATCH, format!("{t}/users/ada"), Some(json!({ "password": "a new password for ada" }))),
        (Method::PATCH, format!("{t}/users/ada"), Some(json!({ "email": "cleo@example.com" }))),
        (Method::DELETE, format!("{t}/users/ada/sessions"), None),
        (Method::GET, "/v1/tenants".to_owned(), None),
        (Method::POST, "/v1/keys/rotate".to_owned(), Some(json!({ "revoke": true }))),
        (Method::PUT, "/v1/lockdown".to_owned(), Some(json!({ "enabled": true }))),
    ];
    for (method, path, body) in cases {
        let answer = d.call(0, method.clone(), path, &cleo, body.clone()).await;
        assert_eq!(answer.status, 403, "{method} {path}: {answer:?}");
    }
    assert_eq!(d.head(), before);
    // A wildcard holds nothing of permcast's own.
    d.administer(0, Method::PUT, "users/ben/permissions/*", None).await.ok();
    let (ben, _) = d.login(0, "ben").await;
    assert_eq!(d.call(0, Method::GET, &format!("{t}/users"), &ben, None).await.status, 403);
}
