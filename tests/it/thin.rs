//! Tokens that carry no permissions: they are decided from the cache, and only the user, the session and the keys end them.

use base64::Engine as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Client, Tokens, send};
use crate::company::company;
use crate::harness::{Cluster, until};
use crate::socket::Socket;

fn claims(tokens: &Tokens) -> Value {
    let part = tokens.access.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

async fn may_write(ben: &Client, version: &str) -> Value {
    let question = json!({"subject": {"type": "user", "id": "ben"}, "resource": {"type": "invoices"}, "action": {"name": "write"}});
    let request = ben.request(Method::POST, "/access/v1/evaluation").header("Permcast-At-Least", version);
    send(request.json(&question)).await.ok().body["decision"].clone()
}

#[tokio::test]
async fn a_change_of_permissions_does_not_end_a_thin_token_and_is_followed() {
    let cluster = Cluster::start_with(&[("PERMCAST_TOKEN_PERMISSIONS", "none")]).await;
    let (root, _) = company(&cluster).await;
    let on_b = cluster.b.client();
    let tokens = on_b.login("ben").await;
    let claims = claims(&tokens);
    assert!(claims["roles"].is_null() && claims["permissions"].is_null(), "{claims}");
    let ben = on_b.with(&tokens);
    let mut socket = Socket::hello(&on_b, &tokens).await;
    assert_eq!(may_write(&ben, &tokens.pv).await, true);

    let etag = ben.get("/v1/me/freshness").await.ok().header("etag").to_owned();
    for (method, path, decision) in [
        (Method::DELETE, "users/ben/roles/editor", false),
        (Method::PUT, "users/ben/roles/editor", true),
        (Method::DELETE, "roles/editor/permissions/invoices:write", false),
        (Method::PUT, "roles/viewer/permissions/invoices:write", true),
        (Method::DELETE, "roles/editor/includes/viewer", false),
    ] {
        let version = send(root.request(method, &format!("/v1/tenants/default/{path}"))).await.version();
        assert_eq!(socket.expect("permissions_changed").await["pv"], version, "{path}");
        // By the same token, and never the old answer once it was told.
        assert_eq!(may_write(&ben, &tokens.pv).await, decision, "{path}");
        for client in [cluster.a.client(), on_b.clone()] {
            assert_eq!(may_write(&client.with(&tokens), &version).await, decision, "{path}");
            let status = client.with(&tokens).get("/v1/forward-auth?require=invoices:write").await.status.as_u16();
            assert_eq!(status, if decision { 200 } else { 403 }, "{path}");
        }
        let request = ben.request(Method::GET, "/v1/me/freshness").header("If-None-Match", &etag);
        let fresh = send(request).await.ok();
        assert_eq!(
            (fresh.status.as_u16(), &fresh.body["stale"]),
            (200, &json!(false)),
            "not stale, and to be read again"
        );
    }
    assert_eq!(ben.get("/v1/me").await.ok().body["permissions"], json!([]));
    socket.say(json!({"type": "ping"})).await;
    socket.expect_heartbeat().await;
}

#[tokio::test]
async fn the_end_of_its_session_or_user_ends_a_thin_token() {
    let cluster = Cluster::start_with(&[("PERMCAST_TOKEN_PERMISSIONS", "none")]).await;
    let (root, _) = company(&cluster).await;
    let (on_a, on_b) = (cluster.a.client(), cluster.b.client());
    for (user, reason) in [("ben", "signed_out"), ("cleo", "suspended"), ("max", "deleted")] {
        let tokens = on_b.login(user).await;
        on_b.with(&tokens).get("/v1/me").await.ok();
        let mut socket = Socket::hello(&on_b, &tokens).await;
        let path = format!("/v1/tenants/default/users/{user}");
        match reason {
            "signed_out" => root.delete(&format!("{path}/sessions")).await.version(),
            "suspended" => root.patch(&path, json!({"status": "suspended"})).await.version(),
            _ => root.delete(&path).await.version(),
        };
        on_a.with(&tokens).get("/v1/me").await.ended();
        assert_eq!(socket.expect("session_revoked").await["reason"], reason);
        socket.expect_close(4403).await;
        on_b.with(&tokens).get("/v1/me").await.ended();
        assert_eq!(on_b.try_refresh(&tokens.refresh).await.status, 400);
        Socket::open(&on_b).await.refused(&tokens.access, 4403).await;
    }
}

#[tokio::test]
async fn a_token_that_would_be_too_long_is_thin() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let operations: Vec<_> = (0..300)
        .map(|n| json!({"op": "put", "path": format!("users/ben/permissions/a-permission-with-a-long-name:{n}")}))
        .collect();
    let version = root.post("/v1/tenants/default/batch", json!({"operations": operations})).await.version();
    let on_b = cluster.b.client();
    let tokens = until("the change", async || {
        let tokens = on_b.login("ben").await;
        (crate::client::seq(&tokens.pv) >= crate::client::seq(&version)).then_some(tokens)
    })
    .await;
    let claims = claims(&tokens);
    assert_eq!(claims["permissions_omitted"], true, "{claims}");
    assert!(tokens.access.len() < 4096 && claims["permissions"].is_null());
    let me = on_b.with(&tokens).get("/v1/me").await.ok().body;
    assert_eq!(me["permissions"].as_array().unwrap().len(), 302);
    let version = root.put("/v1/tenants/default/users/ben/permissions/one-more").await.version();
    let request = on_b.with(&tokens).request(Method::GET, "/v1/me").header("Permcast-At-Least", version);
    assert_eq!(send(request).await.ok().body["permissions"].as_array().unwrap().len(), 303);
}
