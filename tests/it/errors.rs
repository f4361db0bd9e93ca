//! Every 4xx of the contract. None of them changes anything, and all are told alike.

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Client, send};
use crate::company::company;
use crate::harness::{Cluster, PASSWORD};

/// Everything that can be read, to see that it is as it was.
pub(crate) async fn everything(root: &Client) -> Vec<Value> {
    let mut all = Vec::new();
    for path in [
        "/v1/tenants?limit=1000",
        "/v1/tenants/default/changes?limit=1000",
        "/v1/tenants/default/users?limit=1000",
        "/v1/tenants/default/roles?limit=1000",
        "/v1/tenants/acme/users?limit=1000",
        "/v1/tenants/default/users/ben/permissions",
        "/v1/lockdown",
    ] {
        let mut body = root.get(path).await.ok().body;
        if let Some(members) = body.as_object_mut() {
            members.remove("pv");
        }
        all.push(body);
    }
    all
}

const USERS: &str = "/v1/tenants/default/users";
const ROLES: &str = "/v1/tenants/default/roles";

#[tokio::test]
async fn what_is_not_well_formed_is_400() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let before = everything(&root).await;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for body in ["", "{", "nul", "{\"id\": }", "{\"id\": \"x\"} {}", "{\"id\": \"\\ud800\"}", deep.as_str()] {
        for path in [USERS, ROLES, "/v1/tenants", "/v1/tenants/default/batch", "/access/v1/evaluation", "/v1/login"] {
            let request = root.request(Method::POST, path).header("Content-Type", "application/json");
            let answer = send(request.body(body.to_owned())).await;
            assert!(matches!(answer.status.as_u16(), 400 | 422), "{path} {body:.20}: {answer:?}");
            assert!(!body.starts_with('{') || answer.status == 400, "{path} {body:.20}: {answer:?}");
        }
    }
    let request = root.request(Method::POST, USERS).header("Content-Type", "application/json");
    send(request.body(vec![0xff, 0xfe, 0x7b])).await.problem(400, "malformed");
    assert_eq!(everything(&root).await, before);
}

#[tokio::test]
async fn without_a_token_nothing_is_answered() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let before = everything(&root).await;
    let nobody = cluster.b.client();
    for (method, path) in [
        (Method::GET, "/v1/me"),
        (Method::GET, "/v1/me/freshness"),
        (Method::GET, "/v1/events"),
        (Method::GET, "/v1/tenants"),
        (Method::GET, USERS),
        (Method::GET, "/v1/tenants/nowhere/users"),
        (Method::POST, USERS),
        (Method::DELETE, "/v1/tenants/default/users/ben"),
        (Method::PUT, "/v1/tenants/default/users/ben/roles/viewer"),
        (Method::POST, "/v1/tenants/default/batch"),
        (Method::GET, "/v1/tenants/default/changes"),
        (Method::GET, "/v1/tenants/default/changes/stream"),
        (Method::GET, "/v1/replicas"),
        (Method::GET, "/v1/lockdown"),
        (Method::PUT, "/v1/lockdown"),
        (Method::POST, "/access/v1/evaluation"),
        (Method::POST, "/access/v1/evaluations"),
        (Method::POST, "/v1/logout"),
    ] {
        let answer = send(nobody.request(method.clone(), path).json(&json!({}))).await;
        answer.problem(401, "unauthenticated");
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{method} {path}");
        let basic = nobody.request(method, path).basic_auth("root", Some(PASSWORD)).json(&json!({}));
        send(basic).await.problem(401, "unauthenticated");
    }
    assert_eq!(everything(&root).await, before);
}

#[tokio::test]
async fn who_may_not_is_403_and_anothers_tenant_is_404() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let before = everything(&root).await;
    let client = cluster.b.client();
    let ben = client.with(&client.login("ben").await);
    let max = client.with(&client.login("max").await);
    let zoe = client.with(&client.login_in("acme", "zoe").await);
    for (method, path, body) in [
        (Method::GET, USERS.to_owned(), json!(null)),
        (Method::GET, format!("{USERS}/ben"), json!(null)),
        (Method::GET, format!("{USERS}/ben/permissions"), json!(null)),
        (Method::GET, format!("{USERS}/ben/sessions"), json!(null)),
        (Method::GET, ROLES.to_owned(), json!(null)),
        (Method::GET, "/v1/tenants/default/changes".to_owned(), json!(null)),
        (Method::GET, "/v1/tenants/default/changes/stream".to_owned(), json!(null)),
        (Method::POST, USERS.to_owned(), json!({"id": "x"})),
        (Method::PATCH, format!("{USERS}/ben"), json!({"name": "x"})),
        (Method::DELETE, format!("{USERS}/ben"), json!(null)),
        (Method::PUT, format!("{USERS}/ben/roles/viewer"), json!(null)),
        (Method::DELETE, format!("{USERS}/ben/roles/editor"), json!(null)),
        (Method::PUT, format!("{USERS}/ben/permissions/x"), json!(null)),
        (Method::DELETE, format!("{USERS}/ben/sessions"), json!(null)),
        (Method::POST, ROLES.to_owned(), json!({"name": "x"})),
        (Method::PATCH, format!("{ROLES}/viewer"), json!({"permissions": []})),
        (Method::PUT, format!("{ROLES}/viewer/includes/checkers"), json!(null)),
        (Method::DELETE, format!("{ROLES}/viewer"), json!(null)),
        (
            Method::POST,
            "/v1/tenants/default/batch".to_owned(),
            json!({"operations": [{"op": "delete", "path": "users/ben"}]}),
        ),
    ] {
        let ask = |who: &Client, path: &str| {
            let request = who.request(method.clone(), path);
            send(if body.is_null() { request } else { request.json(&body) })
        };
        ask(&ben, &path).await.problem(403, "forbidden");
        let foreign = ask(&zoe, &path).await;
        foreign.problem(404, "unknown-tenant");
        let unknown = ask(&zoe, &path.replace("default", "nowhere")).await;
        assert_eq!(unknown.body, foreign.body, "an unknown one and another's are the same");
        ask(&root, &path.replace("default", "nowhere")).await.problem(404, "unknown-tenant");
        ask(&root, &path.replace("default", "NO%20TENANT")).await.problem(404, "unknown-tenant");
    }
    for (method, path, body) in [
        (Method::GET, "/v1/tenants", json!(null)),
        (Method::POST, "/v1/tenants", json!({"name": "mine"})),
        (Method::PATCH, "/v1/tenants/default", json!({"description": "mine"})),
        (Method::DELETE, "/v1/tenants/default", json!(null)),
        (Method::GET, "/v1/replicas", json!(null)),
        (Method::GET, "/v1/lockdown", json!(null)),
        (Method::PUT, "/v1/lockdown", json!({"enabled": true})),
    ] {
        for who in [&ben, &max] {
            let request = who.request(method.clone(), path);
            send(if body.is_null() { request } else { request.json(&body) }).await.problem(403, "forbidden");
        }
    }
    assert_eq!(everything(&root).await, before);
}

#[tokio::test]
async fn nobody_climbs() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let operators = json!({"name": "operators", "permissions": ["permcast:operator"]});
    root.post(ROLES, operators).await.ok();
    let before = everything(&root).await;
    let client = cluster.b.client();
    let max = client.with(&client.login("max").await);
    let request = |method: Method, path: &str| max.request(method, path);
    for request in [
        request(Method::PUT, &format!("{USERS}/max/permissions/permcast:operator")),
        request(Method::PUT, &format!("{USERS}/max/roles/operators")),
        request(Method::PUT, &format!("{ROLES}/admins/permissions/permcast:operator")),
        request(Method::PUT, &format!("{ROLES}/admins/includes/operators")),
        request(Method::POST, ROLES).json(&json!({"name": "mine", "permissions": ["permcast:operator"]})),
        request(Method::POST, ROLES).json(&json!({"name": "mine", "includes": ["operators"]})),
        request(Method::PATCH, &format!("{ROLES}/operators")).json(&json!({"permissions": []})),
        request(Method::DELETE, &format!("{ROLES}/operators")),
        request(Method::PATCH, &format!("{USERS}/root")).json(&json!({"password": "mine, all of it"})),
        request(Method::PATCH, &format!("{USERS}/root")).json(&json!({"status": "suspended"})),
        request(Method::PATCH, &format!("{USERS}/root")).json(&json!({"email": "max@example.org"})),
        request(Method::PATCH, &format!("{USERS}/root"))
            .json(&json!({"identities": [{"issuer": "https://idp", "subject": "max"}]})),
        request(Method::DELETE, &format!("{USERS}/root/sessions")),
        request(Method::DELETE, &format!("{USERS}/root")),
        request(Method::POST, "/v1/tenants/default/batch").json(&json!({"operations": [
            {"op": "post", "path": "roles", "body": {"name": "ladder"}},
            {"op": "put", "path": "users/max/roles/ladder"},
            {"op": "put", "path": "roles/ladder/includes/operators"},
        ]})),
    ] {
        send(request).await.problem(403, "forbidden");
    }
    assert_eq!(everything(&root).await, before);
}

#[tokio::test]
async fn what_is_not_there_is_404() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let before = everything(&root).await;
    for (method, path, slug) in [
        (Method::GET, format!("{USERS}/nobody"), "unknown-user"),
        (Method::GET, format!("{USERS}/no%2Fbody"), "unknown-user"),
        (Method::GET, format!("{USERS}/nobody/permissions"), "unknown-user"),
        (Method::GET, format!("{USERS}/nobody/sessions"), "unknown-user"),
        (Method::PATCH, format!("{USERS}/nobody"), "unknown-user"),
        (Method::DELETE, format!("{USERS}/nobody"), "unknown-user"),
        (Method::PUT, format!("{USERS}/nobody/roles/viewer"), "unknown-user"),
        (Method::PUT, format!("{USERS}/nobody/permissions/x"), "unknown-user"),
        (Method::PUT, format!("{USERS}/ben/roles/nothing"), "unknown-role"),
        (Method::DELETE, format!("{USERS}/ben/roles/nothing"), "unknown-role"),
        (Method::DELETE, format!("{USERS}/ben/sessions/AAAAAAAAAAAAAAAAAAAAAA"), "unknown-session"),
        (Method::GET, format!("{ROLES}/nothing"), "unknown-role"),
        (Method::PATCH, format!("{ROLES}/nothing"), "unknown-role"),
        (Method::DELETE, format!("{ROLES}/NOTHING"), "unknown-role"),
        (Method::PUT, format!("{ROLES}/nothing/permissions/x"), "unknown-role"),
        (Method::PUT, format!("{ROLES}/viewer/includes/nothing"), "unknown-role"),
        (Method::GET, "/v1/tenants/default/changes/999999/propagation".to_owned(), "not-found"),
        (Method::GET, "/v1/nothing".to_owned(), "not-found"),
        (Method::GET, "/v2/me".to_owned(), "not-found"),
    ] {
        let request = root.request(method.clone(), &path);
        let request = if method == Method::PATCH { request.json(&json!({})) } else { request };
        send(request).await.problem(404, slug);
    }
    root.post(ROLES, json!({"name": "x", "includes": ["nothing"]})).await.problem(404, "unknown-role");
    let answer = send(root.request(Method::PATCH, "/v1/me")).await;
    answer.problem(405, "method-not-allowed");
    assert!(answer.header("allow").contains("GET"));
    assert_eq!(everything(&root).await, before);
}

#[tokio::test]
async fn what_would_break_the_whole_is_409() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    root.patch(&format!("{USERS}/ben"), json!({"email": "ben@example.org"})).await.ok();
    root.post(USERS, json!({"id": "gone"})).await.ok();
    root.delete(&format!("{USERS}/gone")).await.ok();
    let before = everything(&root).await;
    root.post(USERS, json!({"id": "ben"})).await.problem(409, "exists");
    root.post(USERS, json!({"id": "dora", "email": "BEN@example.org"})).await.problem(409, "exists");
    root.patch(&format!("{USERS}/cleo"), json!({"email": "ben@example.org"})).await.problem(409, "exists");
    root.post(USERS, json!({"id": "gone"})).await.problem(409, "conflict");
    root.post(ROLES, json!({"name": "viewer"})).await.problem(409, "exists");
    root.post("/v1/tenants", json!({"name": "acme"})).await.problem(409, "exists");
    root.put(&format!("{ROLES}/viewer/includes/viewer")).await.problem(409, "conflict");
    root.put(&format!("{ROLES}/viewer/includes/editor")).await.problem(409, "conflict");
    root.patch(&format!("{ROLES}/viewer"), json!({"includes": ["editor"]})).await.problem(409, "conflict");
    root.delete("/v1/tenants/default").await.problem(409, "conflict");
    // The last operator, by every route.
    root.delete(&format!("{USERS}/root")).await.problem(409, "conflict");
    root.patch(&format!("{USERS}/root"), json!({"status": "suspended"})).await.problem(409, "conflict");
    root.patch("/v1/tenants/default", json!({"status": "suspended"})).await.problem(409, "conflict");
    let path = format!("{USERS}/root/permissions/permcast:operator");
    root.delete(&path).await.problem(409, "conflict");
    root.put_json(&path, json!({"expires_at": "2999-01-01T00:00:00Z"})).await.problem(409, "conflict");
    assert_eq!(everything(&root).await, before);
}

#[tokio::test]
async fn what_is_too_large_is_413_and_what_is_no_json_415() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let before = everything(&root).await;
    let large = format!(r#"{{"id": "x", "name": "{}"}}"#, "x".repeat(70_000));
    let json = |path: &str| root.request(Method::POST, path).header("Content-Type", "application/json");
    send(json(USERS).body(large.clone())).await.problem(413, "too-large");
    send(json("/v1/login").body(large.clone())).await.problem(413, "too-large");
    send(json("/access/v1/evaluation").body(large.clone())).await.problem(413, "too-large");
    let larger = format!(r#"{{"operations": [], "pad": "{}"}}"#, "x".repeat(1_100_000));
    send(json("/v1/tenants/default/batch").body(larger)).await.problem(413, "too-large");
    // What comes in pieces, with no length said before, is no larger.
    let pieces = futures_util::stream::iter((0..80).map(|_| Ok::<_, std::io::Error>("x".repeat(1024))));
    send(json(USERS).body(reqwest::Body::wrap_stream(pieces))).await.problem(413, "too-large");

    for media in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "multipart/form-data"] {
        for path in [USERS, "/v1/login", "/access/v1/evaluation", "/v1/tenants/default/batch"] {
            let request = root.request(Method::POST, path).header("Content-Type", media).body("{}");
            send(request).await.problem(415, "unsupported-media-type");
        }
    }
    let charset = root.request(Method::POST, USERS).header("Content-Type", "application/json; charset=utf-8");
    send(charset.body(r#"{"id": "BEN!"}"#)).await.problem(422, "invalid");
    assert_eq!(everything(&root).await, before);
}

#[tokio::test]
async fn what_is_against_a_rule_is_422_and_says_where() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let before = everything(&root).await;
    let long = "x".repeat(129);
    for (method, path, body, pointer) in [
        (Method::POST, USERS.to_owned(), json!({}), "/id"),
        (Method::POST, USERS.to_owned(), json!({"id": ""}), "/id"),
        (Method::POST, USERS.to_owned(), json!({"id": "a/b"}), "/id"),
        (Method::POST, USERS.to_owned(), json!({"id": long}), "/id"),
        (Method::POST, USERS.to_owned(), json!({"id": 7}), "/id"),
        (Method::POST, USERS.to_owned(), json!({"id": null}), "/id"),
        (Method::POST, USERS.to_owned(), json!({"id": "x", "status": "asleep"}), "/status"),
        (Method::POST, USERS.to_owned(), json!({"id": "x", "kind": "robot"}), "/kind"),
        (Method::POST, USERS.to_owned(), json!({"id": "x", "email": "no address"}), "/email"),
        (Method::POST, USERS.to_owned(), json!({"id": "x", "age": 7}), "/age"),
        (Method::POST, USERS.to_owned(), json!({"id": "x", "identities": "y"}), "/identities"),
        (Method::POST, ROLES.to_owned(), json!({"name": "Viewer"}), "/name"),
        (Method::POST, ROLES.to_owned(), json!({"name": "x", "permissions": ["a", "B"]}), "/permissions"),
        (Method::POST, ROLES.to_owned(), json!({"name": "x", "permissions": ["a:b:c:d:e:f:g:h:i"]}), "/permissions"),
        (Method::POST, ROLES.to_owned(), json!({"name": "x", "permissions": "a"}), "/permissions"),
        (Method::PATCH, format!("{ROLES}/viewer"), json!({"includes": ["-"]}), "/includes"),
        (Method::PATCH, format!("{USERS}/ben"), json!({"status": null}), "/status"),
        (Method::POST, "/v1/tenants".to_owned(), json!({"name": "_x"}), "/name"),
        (Method::PUT, format!("{USERS}/ben/roles/viewer"), json!({"expires_at": "tomorrow"}), "/expires_at"),
        (
            Method::PUT,
            format!("{USERS}/ben/roles/viewer"),
            json!({"expires_at": "2001-01-01T00:00:00Z"}),
            "/expires_at",
        ),
        (Method::PUT, format!("{USERS}/ben/permissions/x"), json!({"until": "2999-01-01T00:00:00Z"}), "/until"),
        (Method::PUT, "/v1/lockdown".to_owned(), json!({}), "/enabled"),
        (Method::PUT, "/v1/lockdown".to_owned(), json!({"enabled": "yes"}), "/enabled"),
        (Method::POST, "/v1/tenants/default/batch".to_owned(), json!({}), "/operations"),
        (
            Method::POST,
            "/v1/tenants/default/batch".to_owned(),
            json!({"operations": [{"op": "put", "path": "users/ben/roles/viewer"}, {"op": "fly", "path": "x"}]}),
            "/operations/1",
        ),
        (Method::POST, "/access/v1/evaluation".to_owned(), json!({}), "/subject"),
        (
            Method::POST,
            "/access/v1/evaluation".to_owned(),
            json!({"subject": {"type": "user", "id": "ben"}, "resource": {"type": 7}, "action": {"name": "x"}}),
            "/resource",
        ),
        (Method::POST, "/v1/login".to_owned(), json!({"username": "ben"}), "/password"),
    ] {
        let answer = send(root.request(method.clone(), &path).json(&body)).await;
        answer.problem(422, "invalid");
        let errors = answer.body["errors"].as_array().unwrap();
        assert!(!errors.is_empty() && errors.iter().all(|error| error["detail"].is_string()), "{answer:?}");
        assert!(errors[0]["pointer"].as_str().unwrap().starts_with(pointer), "{method} {path} {body}: {answer:?}");
    }
    for path in [
        format!("{USERS}?limit=0"),
        format!("{USERS}?limit=1001"),
        format!("{USERS}?limit=x"),
        format!("{ROLES}?cursor=%25"),
        "/v1/tenants/default/changes?after=-1".to_owned(),
    ] {
        root.get(&path).await.problem(422, "invalid");
    }
    for path in [format!("{USERS}/ben/permissions/A"), format!("{ROLES}/viewer/permissions/a%20b")] {
        root.put(&path).await.problem(422, "invalid");
    }
    assert_eq!(everything(&root).await, before);
}

#[tokio::test]
async fn who_guesses_is_slowed_down() {
    let cluster = Cluster::start().await;
    company(&cluster).await;
    let client = cluster.a.client();
    for _ in 0..200 {
        let answer = client.sign_in("default", "ben", "a guess").await;
        if answer.status == 429 {
            answer.problem(429, "too-many-requests");
            assert!(answer.header("retry-after").parse::<u32>().unwrap() > 0);
            client.login("cleo").await;
            return;
        }
        answer.problem(401, "unauthenticated");
    }
    panic!("200 guesses were answered");
}
