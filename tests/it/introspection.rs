//! What other services ask: introspection, and tokens of their own.

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Client, send, seq};
use crate::company::company;
use crate::harness::{Cluster, PASSWORD, until};

const SECRET: &str = "a secret of a service account";

/// A service account in `default` that may check; in `acme` one with the same id that may nothing.
async fn services(cluster: &Cluster) -> Client {
    let (root, _) = company(cluster).await;
    let service = |password: &str| json!({"id": "gateway", "kind": "service", "password": password});
    root.post("/v1/tenants/default/users", service(SECRET)).await.ok();
    root.post("/v1/tenants/acme/users", service("another secret of another one")).await.ok();
    let version = root.put("/v1/tenants/default/users/gateway/roles/checkers").await.version();
    let known = |base: Client| send(base.request(Method::GET, "/v1/me").header("Permcast-At-Least", version.clone()));
    let on_b = cluster.b.client();
    known(on_b.with(&on_b.login("vera").await)).await.ok();
    root
}

async fn introspect(by: &Client, token: &str) -> Answer {
    by.form("/oauth/introspect", &[("token", token)]).await
}

fn by_basic(client: &Client, user: &str, secret: &str, token: &str) -> reqwest::RequestBuilder {
    client.request(Method::POST, "/oauth/introspect").basic_auth(user, Some(secret)).form(&[("token", token)])
}

/// Nothing is said but that.
fn inactive(answer: &Answer) {
    assert_eq!((answer.status.as_u16(), &answer.body), (200, &json!({"active": false})), "{answer:?}");
}

#[tokio::test]
async fn introspection_tells_who_may_know_what_is_so_now() {
    let cluster = Cluster::start().await;
    let root = services(&cluster).await;
    let (on_a, on_b) = (cluster.a.client(), cluster.b.client());
    let (ben, zoe) = (on_b.login("ben").await, on_b.login_in("acme", "zoe").await);
    let vera = on_b.with(&on_b.login("vera").await);

    let told = introspect(&vera, &ben.access).await.ok();
    assert_eq!(told.header("cache-control"), "no-store");
    for (name, value) in [
        ("active", json!(true)),
        ("stale", json!(false)),
        ("token_type", json!("Bearer")),
        ("sub", json!("default/ben")),
        ("tenant", json!("default")),
        ("roles", json!(["editor", "viewer"])),
        ("permissions", json!(["invoices:read", "invoices:write"])),
    ] {
        assert_eq!(told.body[name], value, "{name}: {told:?}");
    }
    for name in ["iss", "aud", "exp", "iat", "jti", "client_id", "sid", "pv"] {
        assert!(!told.body[name].is_null(), "{name}: {told:?}");
    }

    // Stale is active, and what is told is what he may now.
    let taken = root.delete("/v1/tenants/default/users/ben/roles/editor").await.version();
    let stale = until("the change", async || {
        let told = introspect(&vera, &ben.access).await.ok();
        (told.body["stale"] == true).then_some(told)
    })
    .await;
    assert_eq!(
        (&stale.body["active"], &stale.body["roles"], &stale.body["permissions"]),
        (&json!(true), &json!([]), &json!([]))
    );
    assert!(seq(stale.body["pv"].as_str().unwrap()) >= seq(&taken));

    // Another tenant's, and by who has no right: as if there were none.
    inactive(&introspect(&vera, &zoe.access).await);
    let max = on_b.with(&on_b.login("max").await);
    inactive(&introspect(&max, &ben.access).await);
    inactive(&introspect(&on_b.with(&zoe), &ben.access).await);
    assert_eq!(introspect(&root, &zoe.access).await.ok().body["active"], true, "an operator may everywhere");

    // What is none.
    for none in ["nonsense", &ben.refresh, &format!("{}x", ben.access)] {
        inactive(&introspect(&vera, none).await);
    }
    let missing = vera.form("/oauth/introspect", &[]).await;
    assert_eq!((missing.status.as_u16(), &missing.body["error"]), (400, &json!("invalid_request")));

    // The service account by its secret, in its own tenant.
    let told = send(by_basic(&on_a, "gateway", SECRET, &ben.access)).await.ok();
    assert_eq!((&told.body["active"], &told.body["stale"]), (&json!(true), &json!(true)));
    inactive(&send(by_basic(&on_a, "gateway", SECRET, &zoe.access)).await);
    for (user, secret) in [("gateway", "wrong"), ("ben", PASSWORD), ("nobody", SECRET), ("gateway", "")] {
        let refused = send(by_basic(&on_a, user, secret, &ben.access)).await;
        assert_eq!((refused.status.as_u16(), &refused.body["error"]), (401, &json!("invalid_client")), "{user}");
        assert!(refused.header("www-authenticate").starts_with("Basic"), "{refused:?}");
    }
    let nobody = introspect(&on_a, &ben.access).await;
    assert_eq!((nobody.status.as_u16(), &nobody.body["error"]), (401, &json!("invalid_client")));

    // Ended is not active.
    send(on_a.with(&ben).request(Method::POST, "/v1/logout")).await;
    for client in [&on_a, &on_b] {
        let vera = client.with(&client.login("vera").await);
        until("the end", async || {
            let told = introspect(&vera, &ben.access).await.ok();
            (told.body["active"] == false).then(|| inactive(&told))
        })
        .await;
    }
}

#[tokio::test]
async fn a_service_account_gets_a_token_for_its_secret() {
    let cluster = Cluster::start().await;
    let root = services(&cluster).await;
    let on_b = cluster.b.client();
    let grant = ("grant_type", "client_credentials");
    let by_basic = on_b.request(Method::POST, "/oauth/token").basic_auth("gateway", Some(SECRET)).form(&[grant]);
    let fields = [grant, ("client_id", "gateway"), ("client_secret", SECRET), ("tenant", "default")];
    for answer in [send(by_basic).await.ok(), on_b.form("/oauth/token", &fields).await.ok()] {
        assert_eq!((&answer.body["token_type"], &answer.body["refresh_token"]), (&json!("Bearer"), &Value::Null));
        assert_eq!(answer.header("cache-control"), "no-store");
        let me = on_b.bearing(answer.body["access_token"].as_str().unwrap()).get("/v1/me").await.ok().body;
        assert_eq!((&me["user"], &me["permissions"]), (&json!("gateway"), &json!(["permcast:check"])));
    }
    let refused = async |fields: &[(&str, &str)]| {
        let answer = on_b.form("/oauth/token", fields).await;
        assert_eq!((answer.status.as_u16(), &answer.body["error"]), (401, &json!("invalid_client")), "{fields:?}");
    };
    refused(&[grant, ("client_id", "gateway"), ("client_secret", "wrong")]).await;
    refused(&[grant, ("client_id", "gateway"), ("client_secret", SECRET), ("tenant", "acme")]).await;
    refused(&[grant, ("client_id", "gateway"), ("client_secret", SECRET), ("tenant", "nowhere")]).await;
    refused(&[grant, ("client_id", "ben"), ("client_secret", PASSWORD)]).await;
    // A token of one's own goes by the same rules: it is refused once touched, and over with the account.
    let token = on_b.form("/oauth/token", &fields).await.ok().body["access_token"].as_str().unwrap().to_owned();
    let gateway = on_b.bearing(&token);
    let version = root.put("/v1/tenants/default/users/gateway/permissions/x").await.version();
    assert_eq!(until_refused(&gateway).await.stale(), version);
    let token = on_b.form("/oauth/token", &fields).await.ok().body["access_token"].as_str().unwrap().to_owned();
    root.patch("/v1/tenants/default/users/gateway", json!({"status": "suspended"})).await.version();
    until_refused(&on_b.bearing(&token)).await.ended();
    refused(&fields).await;
}

async fn until_refused(client: &Client) -> Answer {
    until("a refusal", async || {
        let answer = client.get("/v1/me").await;
        (answer.status == 401).then_some(answer)
    })
    .await
}
