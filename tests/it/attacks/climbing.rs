//! Ways up: from a right that one has to one that one has not, or into another's tenant or account.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Scene, refused};
use crate::client::{Answer, Client, send};
use crate::harness::PASSWORD;

const USERS: &str = "/v1/tenants/default/users";
const ROLES: &str = "/v1/tenants/default/roles";
const BATCH: &str = "/v1/tenants/default/batch";

async fn ask(client: &Client, method: Method, path: &str, body: &Value) -> Answer {
    send(client.request(method, path).json(body)).await
}

async fn batch(client: &Client, operations: Value) -> Answer {
    client.post(BATCH, json!({"operations": operations})).await
}

/// A company with more to climb to: a role of operators, another administrator, a nested one, and an operator's email.
async fn tempting() -> Scene {
    let mut scene = Scene::start().await;
    let operations = json!([
        {"op": "post", "path": "roles", "body": {"name": "operators", "permissions": ["permcast:operator"]}},
        {"op": "post", "path": "roles", "body": {"name": "nested", "includes": ["operators"]}},
        {"op": "post", "path": "roles", "body": {"name": "empty"}},
        {"op": "post", "path": "users", "body": {"id": "olga", "password": PASSWORD, "email": "olga@example.org",
            "identities": [{"issuer": "https://idp.example", "subject": "o"}]}},
        {"op": "put", "path": "users/olga/roles/nested"},
        {"op": "post", "path": "users", "body": {"id": "star", "password": PASSWORD}},
        {"op": "put", "path": "users/star/permissions/*"},
        {"op": "put", "path": "users/star/permissions/*:*"},
    ]);
    batch(&scene.root, operations).await.ok();
    scene.mark().await;
    scene
}

/// Refused for who asks, or for there being no such thing to do; not for how he asks, of which nothing was read.
fn not_his(answer: &Answer, what: &str) {
    assert!(matches!(answer.status.as_u16(), 403..=405), "{what}: {answer:?}");
}

#[tokio::test]
async fn no_way_of_words_leads_up() {
    let scene = tempting().await;
    let max = scene.on_b("max").await;
    let in_batch = json!([
        {"op": "post", "path": "roles", "body": {"name": "a"}},
        {"op": "post", "path": "roles", "body": {"name": "b", "includes": ["a"]}},
        {"op": "put", "path": "users/max/roles/b"},
        {"op": "put", "path": "roles/a/includes/nested"},
    ]);
    for (what, method, path, body) in [
        ("by inclusion", Method::PUT, format!("{ROLES}/empty/includes/nested"), json!({})),
        ("by another's inclusion", Method::PUT, format!("{ROLES}/admins/includes/operators"), json!({})),
        ("by a patch of includes", Method::PATCH, format!("{ROLES}/empty"), json!({"includes": ["nested"]})),
        (
            "by a patch of permissions",
            Method::PATCH,
            format!("{ROLES}/empty"),
            json!({"permissions": ["permcast:check"]}),
        ),
        ("by a new role", Method::POST, ROLES.into(), json!({"name": "n", "includes": ["nested"]})),
        ("by a grant of the role", Method::PUT, format!("{USERS}/max/roles/nested"), json!({})),
        (
            "for a moment",
            Method::PUT,
            format!("{USERS}/max/roles/nested"),
            json!({"expires_at": "2099-01-01T00:00:00Z"}),
        ),
        ("by permission", Method::PUT, format!("{USERS}/max/permissions/permcast:operator"), json!({})),
        ("by the lesser one that he lacks", Method::PUT, format!("{USERS}/max/permissions/permcast:check"), json!({})),
        ("by something below it", Method::PUT, format!("{USERS}/max/permissions/permcast:operator:x"), json!({})),
        ("by encoding", Method::PUT, format!("{USERS}/max/permissions/permcast%3Aoperator"), json!({})),
        ("by encoding twice", Method::PUT, format!("{USERS}/max/permissions/permcast%253Aoperator"), json!({})),
        ("by capitals", Method::PUT, format!("{USERS}/max/permissions/Permcast:operator"), json!({})),
        ("by another's password", Method::PATCH, format!("{USERS}/olga"), json!({"password": "a new one, by max"})),
        ("by another's email", Method::PATCH, format!("{USERS}/olga"), json!({"email": "max@example.org"})),
        (
            "by another's identity",
            Method::PATCH,
            format!("{USERS}/olga"),
            json!({"identities": [{"issuer": "https://idp.example", "subject": "max"}]}),
        ),
        ("by nobody's identity", Method::PATCH, format!("{USERS}/olga"), json!({"identities": []})),
        ("by status", Method::PATCH, format!("{USERS}/olga"), json!({"status": "suspended"})),
        ("by kind", Method::PATCH, format!("{USERS}/olga"), json!({"kind": "service"})),
        ("by the end of sessions", Method::DELETE, format!("{USERS}/olga/sessions"), json!({})),
        ("by deletion", Method::DELETE, format!("{USERS}/olga"), json!({})),
        ("by deletion of the role between", Method::DELETE, format!("{ROLES}/nested"), json!({})),
        ("by a change of the role between", Method::PATCH, format!("{ROLES}/nested"), json!({"includes": []})),
        ("by taking the inclusion", Method::DELETE, format!("{ROLES}/nested/includes/operators"), json!({})),
        ("by taking the grant", Method::DELETE, format!("{USERS}/olga/roles/nested"), json!({})),
        ("by a batch", Method::POST, BATCH.into(), json!({"operations": in_batch})),
        ("by a path with dots", Method::PUT, format!("{USERS}/cleo/../max/permissions/permcast:operator"), json!({})),
        ("by keys", Method::POST, "/v1/keys/rotate".into(), json!({"revoke": true})),
        ("by lockdown", Method::PUT, "/v1/lockdown".into(), json!({"enabled": true, "tenant": "default"})),
        ("by another tenant", Method::POST, "/v1/tenants".into(), json!({"name": "mine"})),
        ("by his own tenant", Method::PATCH, "/v1/tenants/default".into(), json!({"status": "suspended"})),
    ] {
        refused(&ask(&max, method, &path, &body).await, what);
    }
    // Identities and emails that are an operator's already.
    for (what, body) in [
        ("an operator's email", json!({"email": "olga@example.org"})),
        ("an operator's email in capitals", json!({"email": "OLGA@example.org"})),
        ("an operator's identity", json!({"identities": [{"issuer": "https://idp.example", "subject": "o"}]})),
    ] {
        refused(&ask(&max, Method::PATCH, &format!("{USERS}/max"), &body).await, what);
        let mut user = body.clone();
        user["id"] = json!("newcomer");
        refused(&ask(&max, Method::POST, USERS, &user).await, what);
    }
    for id in ["olga", "Root ", " root", "root/", "root%00", "../root"] {
        refused(&ask(&max, Method::POST, USERS, &json!({"id": id, "password": PASSWORD})).await, id);
    }
    scene.is_as_it_was().await;
    max.get(USERS).await.ok();
}

#[tokio::test]
async fn a_star_is_no_key() {
    let scene = tempting().await;
    let star = scene.on_b("star").await;
    star.get("/v1/forward-auth?require=anything:at:all").await.ok();
    for permission in ["permcast:admin", "permcast:operator", "permcast:check", "permcast:admin:x", "*", "*:*"] {
        refused(&star.get(&format!("/v1/forward-auth?require={permission}")).await, permission);
    }
    for (kind, action) in [("permcast", "operator"), ("permcast:admin", "*"), ("*", "operator"), ("permcast", "admin")]
    {
        let question =
            json!({"subject": {"type": "user", "id": "star"}, "resource": {"type": kind}, "action": {"name": action}});
        let told = star.post("/access/v1/evaluation", question).await.ok().body;
        assert_eq!(told["decision"], false, "{kind}:{action}");
    }
    let others =
        json!({"subject": {"type": "user", "id": "ben"}, "resource": {"type": "invoices"}, "action": {"name": "read"}});
    star.post("/access/v1/evaluation", others).await.problem(403, "forbidden");
    for path in [USERS, ROLES, "/v1/tenants", "/v1/replicas", "/v1/lockdown"] {
        refused(&star.get(path).await, path);
    }
    refused(&star.put(&format!("{USERS}/star/permissions/permcast:admin")).await, "a grant");
    // An administrator may give stars; they give no more than that.
    let max = scene.on_b("max").await;
    for wide in ["*", "permcast", "permcast:*", "*:operator", "permcast:*:*"] {
        let given = max.put(&format!("{USERS}/cleo/permissions/{wide}")).await;
        assert!(!given.status.is_server_error(), "{given:?}");
        let cleo = scene.on_b("cleo").await;
        for permission in ["permcast:admin", "permcast:operator", "permcast:check"] {
            refused(&cleo.get(&format!("/v1/forward-auth?require={permission}")).await, wide);
        }
        refused(&cleo.get(USERS).await, wide);
    }
}

#[tokio::test]
async fn no_path_leads_into_another_tenant() {
    let scene = tempting().await;
    let client = scene.cluster.b.client();
    let zoe = client.with(&client.login_in("acme", "zoe").await);
    let max = scene.on_b("max").await;
    let elsewhere = "/v1/tenants/acme";
    for (method, path, body) in [
        (Method::GET, elsewhere.to_owned(), json!({})),
        (Method::GET, format!("{elsewhere}/users"), json!({})),
        (Method::GET, format!("{elsewhere}/users/zoe/sessions"), json!({})),
        (Method::GET, format!("{elsewhere}/changes"), json!({})),
        (Method::GET, format!("{elsewhere}/changes/stream"), json!({})),
        (Method::PATCH, format!("{elsewhere}/users/zoe"), json!({"password": "a new one, by max"})),
        (Method::PUT, format!("{elsewhere}/users/zoe/permissions/a:b"), json!({})),
        (Method::DELETE, format!("{elsewhere}/users/zoe"), json!({})),
        (Method::POST, format!("{elsewhere}/batch"), json!({"operations": [{"op": "delete", "path": "users/zoe"}]})),
        (Method::GET, "/v1/tenants/default/../acme/users".to_owned(), json!({})),
        (Method::GET, "/v1/tenants/default%2f..%2facme/users".to_owned(), json!({})),
        (Method::GET, "/v1/tenants/default/users/..%2f..%2facme%2fusers%2fzoe".to_owned(), json!({})),
        (Method::GET, "/v1/tenants/ACME/users".to_owned(), json!({})),
        (Method::GET, "/v1/tenants/acme%00/users".to_owned(), json!({})),
        (Method::GET, "/v1/tenants/default/users/zoe".to_owned(), json!({})),
    ] {
        refused(&ask(&max, method, &path, &body).await, &path);
    }
    for path in [
        "/v1/tenants/acme/users/zoe",
        "../acme/users/zoe",
        "users/../../acme/users/zoe",
        "users%2Fzoe",
        "users/zoe%00",
        "users//zoe",
        "/users/zoe",
        "tenants/acme",
        "",
    ] {
        refused(&batch(&max, json!([{"op": "delete", "path": path}])).await, path);
    }
    // Asking about them is no way, either: not for who may check at home.
    let vera = scene.on_b("vera").await;
    let about = |tenant: &str| {
        json!({"subject": {"type": "user", "id": "zoe", "properties": {"tenant": tenant}},
            "resource": {"type": "a"}, "action": {"name": "b"}})
    };
    for tenant in ["acme", "nowhere"] {
        vera.post("/access/v1/evaluation", about(tenant)).await.problem(404, "unknown-tenant");
    }
    assert_eq!(max.get("/v1/tenants/acme").await.status, max.get("/v1/tenants/nowhere").await.status);
    // Namesakes are two.
    let token = client.login_in("acme", "zoe").await;
    refused(&client.sign_in("default", "zoe", PASSWORD).await, "another tenant's password");
    let told = vera.form("/oauth/introspect", &[("token", &token.access)]).await.ok().body;
    assert_eq!(told, json!({"active": false}));
    scene.is_as_it_was().await;
    zoe.get("/v1/tenants/acme/users").await.ok();
}

#[tokio::test]
async fn who_has_no_right_has_none_by_any_method() {
    let scene = tempting().await;
    for user in ["ben", "vera", "star"] {
        let client = scene.on_b(user).await;
        for path in [
            USERS.to_owned(),
            format!("{USERS}/{user}"),
            format!("{USERS}/{user}/permissions/a:b"),
            format!("{USERS}/{user}/roles/editor"),
            format!("{USERS}/{user}/sessions"),
            ROLES.to_owned(),
            format!("{ROLES}/viewer"),
            format!("{ROLES}/viewer/includes/editor"),
            BATCH.to_owned(),
            "/v1/tenants".to_owned(),
            "/v1/tenants/default".to_owned(),
            "/v1/keys/rotate".to_owned(),
            "/v1/lockdown".to_owned(),
        ] {
            for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
                let body = json!({"name": "x", "id": "x", "operations": [{"op": "delete", "path": "users/cleo"}]});
                not_his(&ask(&client, method.clone(), &path, &body).await, &format!("{user}: {method} {path}"));
            }
            // What is asked for as something else is what it came as.
            for name in ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"] {
                let request = client.request(Method::POST, &path).header(name, "DELETE").json(&json!({}));
                not_his(&send(request).await, &path);
            }
        }
    }
    scene.is_as_it_was().await;
}
