//! Clients as they should not be, and more of them than there is room for: each is bounded, and others are none the wiser.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::client::Client;
use crate::company::company;
use crate::harness::{Cluster, soon, until};
use crate::socket::{Socket, shake};

/// What a handshake that is not let in is answered with: status and `Retry-After`.
async fn sent_away(client: &Client, address: &str) -> Option<(u16, String)> {
    match shake(client, &[("X-Forwarded-For", address.to_owned())]).await {
        Ok(_) => None,
        Err(Error::Http(response)) => {
            let after = response.headers().get("retry-after").map(|after| after.to_str().unwrap().to_owned());
            Some((response.status().as_u16(), after.unwrap_or_default()))
        }
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_herd_is_let_in_by_and_by_and_decisions_go_on() {
    let cluster = Cluster::start_with(&[("PERMCAST_HANDSHAKES_PER_SECOND", "3")]).await;
    let client = cluster.a.client();
    let root = client.with(&client.login("root").await);
    let mut away = None;
    for _ in 0..20 {
        away = away.or(sent_away(&client, "").await);
        root.get("/v1/me").await.ok();
    }
    assert_eq!(away, Some((503, "1".to_owned())));
    Box::pin(until("a place", async || sent_away(&client, "").await.is_none().then_some(()))).await;
}

#[tokio::test]
async fn there_is_room_for_so_many_of_one_address_and_of_one_tenant() {
    let settings = [
        ("PERMCAST_TRUSTED_PROXIES", "127.0.0.1"),
        ("PERMCAST_CONNECTIONS_PER_ADDRESS", "1"),
        ("PERMCAST_CONNECTIONS_PER_TENANT", "1"),
    ];
    let cluster = Cluster::start_with(&settings).await;
    company(&cluster).await;
    let client = cluster.a.client();
    let _first = shake(&client, &[("X-Forwarded-For", "192.0.2.1".to_owned())]).await.unwrap();
    assert_eq!(sent_away(&client, "192.0.2.1").await, Some((429, "5".to_owned())));
    assert_eq!(sent_away(&client, "192.0.2.2").await, None);

    let _ben = Socket::hello(&client, &client.login("ben").await).await;
    let mut second = Socket::open(&client).await;
    second.say(json!({"type": "hello", "token": client.login("cleo").await.access})).await;
    assert_eq!(second.expect("error").await["code"], "too_many_connections");
    second.expect_close(1012).await;
    let _other_tenant = Socket::hello(&client, &client.login_in("acme", "zoe").await).await;
}

#[tokio::test]
async fn hello_needs_no_database() {
    let cluster = Cluster::start().await;
    company(&cluster).await;
    let client = cluster.a.client();
    let tokens = client.login("ben").await;
    // Of this token the replica has not heard.
    let elsewhere = cluster.b.client();
    let unheard = elsewhere.login("cleo").await;
    for suffix in ["", "-wal", "-shm"] {
        let name = format!("{}{suffix}", cluster.database().display());
        std::fs::rename(&name, format!("{name}.gone")).unwrap();
    }
    Socket::hello(&client, &tokens).await;
    Socket::hello(&client, &unheard).await;
}

/// A handshake in bytes.
async fn raw(client: &Client) -> TcpStream {
    let address = client.base().trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /v1/ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    // Byte by byte from the start.
    for byte in request.bytes() {
        stream.write_all(&[byte]).await.unwrap();
    }
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    stream
}

/// The code with which it is closed, after which the connection ends.
async fn closed(stream: &mut TcpStream) -> u16 {
    let mut heard = Vec::new();
    let _ = soon("the end", stream.read_to_end(&mut heard)).await;
    let close = heard.windows(2).rposition(|bytes| bytes[0] == 0x88 && bytes[1] < 126).expect("a close");
    u16::from_be_bytes([heard[close + 2], heard[close + 3]])
}

#[tokio::test]
async fn bad_clients_end_with_their_code_and_harm_nobody() {
    let cluster = Cluster::start().await;
    let (root, _) = company(&cluster).await;
    let client = cluster.a.client();
    let mut ben = Socket::hello(&client, &client.login("ben").await).await;
    let cleo = client.login("cleo").await;

    let mut silent = raw(&client).await;
    let mut half_closed = raw(&client).await;
    half_closed.shutdown().await.unwrap();
    let mut garbage = raw(&client).await;
    garbage.write_all(&b"\x16\x03\x01 this is no WebSocket\r\n".repeat(1000)).await.unwrap();
    let mut huge = raw(&client).await;
    huge.write_all(&[0x81, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255, 1, 2, 3, 4]).await.unwrap();
    let mut compressed = raw(&client).await;
    compressed.write_all(&[0xc1, 0x81, 0, 0, 0, 0, 0x7b]).await.unwrap();
    let mut pinging = raw(&client).await;
    let (mut reads, mut writes) = pinging.split();
    let pings = [0x89, 0x80, 0, 0, 0, 0].repeat(1_000_000);
    let mut heard = Vec::new();
    let (_, _) = soon("the end of a million pings", async {
        tokio::join!(writes.write_all(&pings), reads.read_to_end(&mut heard))
    })
    .await;
    assert!(heard.len() < 4096, "{} bytes", heard.len());
    // One who is signed in and asks without end.
    let mut asking = Socket::hello(&client, &cleo).await;
    for _ in 0..400 {
        if asking.try_send(Message::text(r#"{"type":"ping"}"#)).await.is_err() {
            break;
        }
    }
    asking.closes(1008).await;

    assert_eq!(closed(&mut garbage).await, 1002);
    assert_eq!(closed(&mut huge).await, 4413);
    assert_eq!(closed(&mut compressed).await, 1002);
    assert_eq!(closed(&mut silent).await, 4408);
    soon("the end", half_closed.read_to_end(&mut Vec::new())).await.unwrap();

    let version = root.put("/v1/tenants/default/users/ben/permissions/x").await.version();
    assert_eq!(ben.expect("permissions_changed").await["pv"], version);
    let gone = async || {
        let metrics = client.get("/metrics").await.ok().body.as_str().unwrap().to_owned();
        metrics.contains("\npermcast_connections 1\n").then_some(())
    };
    until("the end of all but one", gone).await;
}
