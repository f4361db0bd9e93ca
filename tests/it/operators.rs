//! What operators do to everybody at once, as connected clients of both replicas see it: keys and lockdown.

use serde_json::{Value, json};

use crate::client::{Answer, Client, Tokens};
use crate::company::company;
use crate::harness::{Cluster, OPERATOR, PASSWORD, until};
use crate::socket::Socket;

/// Somebody who is connected at one replica.
struct Connected {
    client: Client,
    tokens: Tokens,
    socket: Socket,
}

impl Connected {
    async fn new(client: Client, tenant: &str, user: &str) -> Self {
        let tokens = client.login_in(tenant, user).await;
        let socket = Socket::hello(&client, &tokens).await;
        Self { client, tokens, socket }
    }

    async fn me(&self) -> Answer {
        self.client.with(&self.tokens).get("/v1/me").await
    }

    /// Nothing was said to him.
    async fn is_left_alone(&mut self) {
        self.socket.say(json!({"type": "ping"})).await;
        self.socket.expect_heartbeat_next().await;
    }

    async fn refresh(&mut self) {
        self.tokens = self.client.refresh(&self.tokens).await;
        self.socket.say(json!({"type": "refresh", "token": self.tokens.access})).await;
        self.socket.expect("refreshed").await;
    }
}

/// `ben` at `a` and `cleo` at `b`.
async fn connected(cluster: &Cluster) -> [Connected; 2] {
    [
        Connected::new(cluster.a.client(), "default", "ben").await,
        Connected::new(cluster.b.client(), "default", "cleo").await,
    ]
}

async fn kids(client: &Client) -> Vec<String> {
    let keys = client.get("/.well-known/jwks.json").await.ok().body;
    let kid = |key: &Value| key["kid"].as_str().unwrap().to_owned();
    let mut kids: Vec<_> = keys["keys"].as_array().unwrap().iter().map(kid).collect();
    kids.sort();
    kids
}

#[tokio::test]
async fn a_rotation_of_keys_is_felt_by_nobody() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let (on_a, on_b) = (cluster.a.client(), cluster.b.client());
    let mut clients = connected(&cluster).await;
    let mut before = kids(&on_b).await;
    assert_eq!(before.len(), 2, "the present one and the next, so that verifiers know it in time");
    for _ in 0..2 {
        root.post("/v1/keys/rotate", json!({"revoke": false})).await.version();
        // Signed by the new key on one replica, it holds on the other at once; and so do the old ones.
        let fresh = on_a.login("max").await;
        on_b.with(&fresh).get("/v1/me").await.ok();
        for client in &mut clients {
            client.me().await.ok();
            client.is_left_alone().await;
        }
        let after = until("the keys", async || {
            let (at_a, at_b) = (kids(&on_a).await, kids(&on_b).await);
            (at_a == at_b && at_a != before).then_some(at_a)
        })
        .await;
        assert!(before.iter().all(|kid| after.contains(kid)), "what they signed holds until it ends");
        before = after;
    }
}

#[tokio::test]
async fn a_revocation_of_keys_refuses_every_token_and_keeps_the_sessions() {
    let cluster = Cluster::start().await;
    let (root, root_tokens) = company(&cluster).await;
    let mut clients = connected(&cluster).await;
    let before = kids(&cluster.b.client()).await;
    let version = root.post("/v1/keys/rotate", json!({"revoke": true})).await.version();
    assert_eq!(root.get("/v1/me").await.status, 401, "the operator's own, too");
    for client in &mut clients {
        let told = client.socket.expect("permissions_changed").await;
        assert_eq!((&told["pv"], &told["reason"]), (&json!(version), &json!("everyone")));
        assert!(told["refresh_within_ms"].is_u64());
        let refused = client.me().await;
        assert_eq!(refused.status, 401, "{refused:?}");
        client.refresh().await;
        client.me().await.ok();
    }
    for replica in [&cluster.a, &cluster.b] {
        let client = replica.client();
        assert_eq!(client.with(&root_tokens).get("/v1/me").await.status, 401);
        assert!(!kids(&client).await.contains(&signed_by(&root_tokens)), "its key is not to be believed");
    }
    assert_ne!(kids(&cluster.b.client()).await, before);
    cluster.b.client().refresh(&root_tokens).await;
}

fn signed_by(tokens: &Tokens) -> String {
    use base64::Engine as _;
    let header = tokens.access.split('.').next().unwrap();
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header).unwrap();
    serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_revocation_of_keys_may_end_all_sessions() {
    let cluster = Cluster::start().await;
    let (root, root_tokens) = company(&cluster).await;
    let mut clients = connected(&cluster).await;
    root.post("/v1/keys/rotate", json!({"revoke": true, "sessions": true})).await.version();
    for client in &mut clients {
        assert_eq!(client.socket.expect("session_revoked").await["reason"], "keys_revoked");
        client.socket.expect_close(4403).await;
        assert_eq!(client.me().await.status, 401);
        assert_eq!(client.client.try_refresh(&client.tokens.refresh).await.status, 400);
    }
    for client in [cluster.a.client(), cluster.b.client()] {
        assert_eq!(client.with(&root_tokens).get("/v1/me").await.status, 401);
        assert_eq!(client.try_refresh(&root_tokens.refresh).await.status, 400);
    }
    connected(&cluster).await;
}

#[tokio::test]
async fn a_lockdown_is_told_at_both_replicas_and_binds_those_it_names() {
    let cluster = Cluster::start().await;
    let (root, root_tokens) = company(&cluster).await;
    let mut clients = connected(&cluster).await;
    let mut zoe = Connected::new(cluster.b.client(), "acme", "zoe").await;
    let lock = |tenant: Option<&str>| json!({"enabled": true, "tenant": tenant, "retry_after_s": 9});

    root.put_json("/v1/lockdown", lock(Some("default"))).await.version();
    for client in &mut clients {
        assert_eq!(client.socket.expect("locked").await["retry_after_s"], 9);
        let refused = client.me().await;
        refused.problem(503, "locked");
        assert_eq!(refused.header("retry-after"), "9");
        let refused = client.client.try_refresh(&client.tokens.refresh).await;
        assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "9"), "{refused:?}");
        // Who comes now is told, too.
        let mut late = Socket::hello(&client.client, &client.tokens).await;
        assert_eq!(late.expect("locked").await["retry_after_s"], 9);
    }
    zoe.me().await.ok();
    zoe.is_left_alone().await;

    root.put_json("/v1/lockdown", lock(None)).await.version();
    assert_eq!(zoe.socket.expect("locked").await["retry_after_s"], 9);
    zoe.me().await.problem(503, "locked");
    let on_b = cluster.b.client();
    on_b.with(&root_tokens).get("/v1/me").await.ok();
    on_b.login(OPERATOR).await;
    assert_eq!(on_b.sign_in("acme", "zoe", PASSWORD).await.status, 503);
    assert_eq!(on_b.sign_in("acme", "zoe", "wrong").await.status, 401, "only after the password was right");

    root.put_json("/v1/lockdown", json!({"enabled": false})).await.version();
    for client in clients.iter_mut().chain([&mut zoe]) {
        assert!(client.socket.expect("unlocked").await["within_ms"].is_u64());
        client.me().await.ok();
        client.refresh().await;
    }
}
