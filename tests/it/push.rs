//! The socket as its clients know it: handshakes, hello, refresh, closing; and the ways around it.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::client::{Tokens, seq};
use crate::company::company;
use crate::harness::{Cluster, soon};
use crate::socket::{Socket, shake};

fn protocols(tokens: &Tokens) -> (&'static str, String) {
    ("Sec-WebSocket-Protocol", format!("permcast.v1, bearer.{}", tokens.access))
}

#[tokio::test]
async fn the_token_may_come_with_the_handshake() {
    let cluster = Cluster::start().await;
    company(&cluster).await;
    let client = cluster.b.client();
    let tokens = client.login("ben").await;
    let (mut socket, response) = shake(&client, &[protocols(&tokens)]).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "permcast.v1", "it alone: the token is not repeated");
    socket.expect("welcome").await;

    let forged = Tokens { access: format!("{}x", tokens.access), ..tokens };
    assert_eq!(handshake_status(shake(&client, &[protocols(&forged)]).await.err()), 401);
}

fn handshake_status(error: Option<Error>) -> u16 {
    match error {
        Some(Error::Http(response)) => response.status().as_u16(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_page_of_another_origin_is_refused() {
    let cluster = Cluster::start_with(&[("PERMCAST_ALLOWED_ORIGINS", "https://app.example.com")]).await;
    company(&cluster).await;
    let client = cluster.a.client();
    let protocol = || ("Sec-WebSocket-Protocol", "permcast.v1".to_owned());
    for origin in ["https://evil.example", "null", "https://app.example.com.evil.example", "http://app.example.com"] {
        let refused = shake(&client, &[protocol(), ("Origin", origin.to_owned())]).await;
        assert_eq!(handshake_status(refused.err()), 403, "{origin}");
    }
    for origin in ["https://app.example.com", crate::harness::ISSUER, client.base()] {
        assert!(shake(&client, &[protocol(), ("Origin", origin.to_owned())]).await.is_ok(), "{origin}");
    }
}

#[tokio::test]
async fn what_is_no_handshake_is_told_so() {
    let cluster = Cluster::start().await;
    let client = cluster.a.client();
    let answer = client.get("/v1/ws").await;
    assert_eq!(answer.status, 426);
    assert_eq!(answer.header("content-type"), "application/problem+json");
}

#[tokio::test]
async fn bad_messages_close_the_connection_with_their_code() {
    let cluster = Cluster::start().await;
    company(&cluster).await;
    let client = cluster.b.client();
    let tokens = client.login("ben").await;

    Socket::open(&client).await.refused("no token at all", 4401).await;
    for bad in ["", "hello", "[]", "{}", r#"{"type":"hello"}"#, r#"{"type":"refresh"}"#, r#"{"type":7}"#] {
        let mut socket = Socket::hello(&client, &tokens).await;
        socket.send(Message::text(bad)).await;
        socket.closes(4400).await;
    }
    let mut socket = Socket::hello(&client, &tokens).await;
    socket.send(Message::binary(vec![1, 2, 3])).await;
    socket.closes(4400).await;
    let mut socket = Socket::hello(&client, &tokens).await;
    socket.send(Message::text(format!(r#"{{"type":"ping","pad":"{}"}}"#, "x".repeat(20_000)))).await;
    socket.closes(4413).await;

    let mut socket = Socket::hello(&client, &tokens).await;
    socket.say(json!({"type": "from_the_future"})).await;
    socket.say(json!({"type": "ping", "and": "more"})).await;
    socket.expect_heartbeat().await;
}

#[tokio::test]
async fn who_does_not_say_hello_is_closed() {
    let cluster = Cluster::start().await;
    let mut socket = Socket::open(&cluster.a.client()).await;
    socket.expect_close(4408).await;
}

#[tokio::test]
async fn a_closed_connection_ends_soon() {
    let cluster = Cluster::start().await;
    let mut socket = Socket::open(&cluster.a.client()).await;
    socket.send(Message::binary(vec![1])).await;
    socket.closes(4400).await;
    let closed = std::time::Instant::now();
    socket.ends().await;
    // A browser tells its page of the close only now.
    assert!(closed.elapsed() < Duration::from_millis(900), "{:?}", closed.elapsed());
}

#[tokio::test]
async fn a_connection_stays_one_users() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let client = cluster.b.client();
    let (ben, cleo) = (client.login("ben").await, client.login("cleo").await);
    let mut socket = Socket::hello(&client, &ben).await;
    socket.say(json!({"type": "refresh", "token": cleo.access})).await;
    socket.closes(4401).await;

    // A stale token is answered by what it needs, again.
    let mut socket = Socket::hello(&client, &ben).await;
    let version = root.put("/v1/tenants/default/users/ben/permissions/x").await.version();
    assert_eq!(socket.expect("permissions_changed").await["pv"], version);
    socket.say(json!({"type": "refresh", "token": ben.access})).await;
    assert_eq!(socket.expect("permissions_changed").await["pv"], version);
    let fresh = client.refresh(&ben).await;
    socket.say(json!({"type": "refresh", "token": fresh.access})).await;
    socket.expect("refreshed").await;
}

#[tokio::test]
async fn a_user_has_so_many_connections() {
    let cluster = Cluster::start_with(&[("PERMCAST_CONNECTIONS_PER_USER", "2")]).await;
    company(&cluster).await;
    let client = cluster.a.client();
    let tokens = client.login("ben").await;
    let mut oldest = Socket::hello(&client, &tokens).await;
    let mut second = Socket::hello(&client, &tokens).await;
    let mut third = Socket::hello(&client, &tokens).await;
    oldest.closes(4429).await;
    for socket in [&mut second, &mut third] {
        socket.say(json!({"type": "ping"})).await;
        socket.expect_heartbeat().await;
    }
}

#[tokio::test]
async fn server_sent_events_say_the_same() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let client = cluster.b.client();
    let tokens = client.login("ben").await;
    let mut response = client.with(&tokens).request(Method::GET, "/v1/events").send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &"text/event-stream".parse().unwrap())
    );
    let version = root.delete("/v1/tenants/default/users/ben/roles/editor").await.version();
    let mut text = String::new();
    let told = async {
        while !text.split("\n\n").any(|event| event.contains("permissions_changed") && text.ends_with("\n\n")) {
            text.push_str(std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap());
        }
    };
    soon("an event", told).await;
    let event = text.split("\n\n").find(|event| event.contains("permissions_changed")).unwrap();
    let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!((field("event:"), field("id:")), ("permissions_changed".to_owned(), version.clone()));
    let data: serde_json::Value = serde_json::from_str(&field("data:")).unwrap();
    assert_eq!((&data["pv"], &data["reason"]), (&json!(version), &json!("user")));
    assert!(text.contains("event: welcome") || text.contains("event:welcome"));
}

#[tokio::test]
async fn freshness_can_be_polled() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let client = cluster.b.client();
    let tokens = client.login("ben").await;
    let ben = client.with(&tokens);
    let first = ben.get("/v1/me/freshness").await.ok();
    assert_eq!(first.body["stale"], false);
    let again = |tag: &str| {
        let request = ben.request(Method::GET, "/v1/me/freshness").header("If-None-Match", tag);
        crate::client::send(request)
    };
    assert_eq!(again(first.header("etag")).await.status, 304);
    let request = root.request(Method::DELETE, "/v1/tenants/default/users/ben/roles/editor");
    let version = crate::client::send(request.header("Prefer", "wait=10")).await.version();
    let stale = again(first.header("etag")).await.ok();
    assert_eq!(stale.status, 200);
    assert_eq!((&stale.body["stale"], &stale.body["pv"]), (&json!(true), &json!(version)));
    let fresh = client.refresh(&tokens).await;
    let now = client.with(&fresh).get("/v1/me/freshness").await.ok();
    assert_eq!(now.body["stale"], false);
    assert!(seq(now.body["pv"].as_str().unwrap()) >= seq(&version));
}

#[tokio::test]
async fn a_replica_that_stops_sends_its_clients_away() {
    let mut cluster = Cluster::start().await;
    company(&cluster).await;
    let client = cluster.b.client();
    let tokens = client.login("ben").await;
    let mut socket = Socket::hello(&client, &tokens).await;
    cluster.b.terminate();
    assert!(socket.expect("draining").await["reconnect_within_ms"].is_u64());
    socket.expect_close(1012).await;
    assert_eq!(cluster.b.exited().await, Some(0));
    // The other one takes him.
    let (_, welcome) = Socket::welcomed(&cluster.a.client(), &tokens).await;
    assert_eq!(welcome["replica"], "a");
}

#[tokio::test]
async fn freshness_is_told_from_memory_alone() {
    let cluster = Cluster::start().await;
    company(&cluster).await;
    let client = cluster.b.client();
    let ben = client.with(&client.login("ben").await);
    let first = ben.get("/v1/me/freshness").await.ok();
    // Whatever is asked of the database from now on fails.
    std::fs::rename(cluster.database(), cluster.directory.path().join("away.db")).unwrap();
    crate::harness::until("the replica misses its database", async || {
        (ben.get("/v1/me").await.status == 503).then_some(())
    })
    .await;
    assert_eq!(ben.get("/v1/me/freshness").await.ok().body, first.body);
    let request = ben.request(Method::GET, "/v1/me/freshness").header("If-None-Match", first.header("etag"));
    assert_eq!(crate::client::send(request).await.status, 304);
}
