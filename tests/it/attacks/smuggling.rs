//! Requests that two readers would read differently: a proxy in front and permcast behind it.

use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Scene;
use crate::client::{Client, send};
use crate::harness::soon;

const AUTH: &str = "/v1/forward-auth?require=invoices:read";
/// What the operator is let through by, if he is taken for himself.
const OPERATORS: &str = "/v1/forward-auth?require=permcast:operator";

#[tokio::test]
async fn nobody_tells_forward_auth_who_he_is_or_what_to_ask() {
    let scene = Scene::start().await;
    let cleo = scene.on_b("cleo").await;
    let client = scene.cluster.b.client();
    let claims = [
        ("Permcast-User", "root"),
        ("Permcast-Tenant", "acme"),
        ("Permcast-Version", "zzzzzzzz.9"),
        ("X-Forwarded-User", "root"),
        ("X-Remote-User", "root"),
        ("X-Forwarded-Uri", AUTH),
        ("X-Forwarded-Method", "DELETE"),
        ("X-Original-URL", AUTH),
        ("X-Original-URI", AUTH),
        ("X-Rewrite-URL", AUTH),
        ("X-Forwarded-Host", "permcast.test"),
        ("Forwarded", "for=127.0.0.1;host=permcast.test"),
        ("require", "invoices:read"),
        ("Permcast-Require", "invoices:read"),
        ("Connection", "authorization"),
        ("Connection", "permcast-user, close"),
    ];
    for (name, value) in claims {
        // Without a token it stays nobody.
        let answer = send(client.request(Method::GET, AUTH).header(name, value)).await;
        answer.problem(401, "unauthenticated");
        assert!(answer.header("permcast-user").is_empty(), "{name}");
        // With one it stays who it is, and is asked what the URL says.
        let asked = send(cleo.request(Method::GET, AUTH).header(name, value)).await.ok();
        let named: Vec<_> = asked.headers.get_all("permcast-user").iter().collect();
        assert_eq!(named, ["cleo"], "{name}");
        assert_eq!(asked.headers.get_all("permcast-tenant").iter().collect::<Vec<_>>(), ["default"], "{name}");
        let more = cleo.request(Method::GET, "/v1/forward-auth?require=invoices:write").header(name, value);
        send(more).await.problem(403, "forbidden");
        let nothing = send(cleo.request(Method::GET, "/v1/forward-auth").header(name, value)).await;
        nothing.problem(422, "invalid");
    }
    scene.is_as_it_was().await;
}

#[tokio::test]
async fn all_that_is_required_must_hold_however_it_is_written() {
    let scene = Scene::start().await;
    let cleo = scene.on_b("cleo").await;
    for query in [
        "require=invoices:read&require=invoices:write",
        "require=invoices:write&require=invoices:read",
        "require=invoices:write",
        "require=invoices%3Awrite&require=invoices%3aread",
        "%72equire=invoices:write&require=invoices:read",
        "require=invoices:read&require=permcast:operator",
        "require=permcast:operator",
        "require=invoices",
        "require=invoices:*",
        "require=*",
        "require=",
        "require",
        "require[]=invoices:read",
        "REQUIRE=invoices:read",
        "require=invoices:read,invoices:write",
        "require=invoices:read%20invoices:write",
        "require=invoices:read%00",
        "require=invoices:read%0a",
        "require=INVOICES:READ",
        "require=invoices::read",
        "require=invoices:read;require=invoices:write",
        "",
    ] {
        let answer = cleo.get(&format!("/v1/forward-auth?{query}")).await;
        assert!(matches!(answer.status.as_u16(), 403 | 422), "{query}: {answer:?}");
        assert!(answer.header("permcast-user").is_empty(), "{query}");
    }
    for fine in ["require=invoices:read", "require=invoices:read:42&x=1", "require=invoices%3Aread#&require=nothing"] {
        cleo.get(&format!("/v1/forward-auth?{fine}")).await.ok();
    }
}

/// Bytes as they are; the statuses that come back until the end.
async fn raw(client: &Client, request: &str) -> Vec<u16> {
    let mut stream = TcpStream::connect(client.base().trim_start_matches("http://")).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let _ = soon("an answer", stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer);
    let statuses = answer.match_indices("HTTP/1.1 ").filter_map(|(at, _)| answer.get(at + 9..at + 12)?.parse().ok());
    statuses.collect()
}

#[tokio::test]
async fn one_request_is_one_request() {
    let scene = Scene::start().await;
    let client = scene.cluster.b.client();
    let token = client.login("root").await.access;
    let host = client.base().trim_start_matches("http://").to_owned();
    let auth = format!("Authorization: Bearer {token}");
    // The second request of each, if it were read as one, would take a role away; the first has no right to do anything.
    let smuggled =
        format!("DELETE /v1/tenants/default/users/ben/roles/editor HTTP/1.1\r\nHost: {host}\r\n{auth}\r\n\r\n");
    let chunked = format!("0\r\n\r\n{smuggled}");
    let login = |headers: &str, body: &str| {
        format!("POST /v1/login HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{headers}\r\n\r\n{body}")
    };
    let length = |body: &str| format!("Content-Length: {}", body.len());
    for (what, request) in [
        ("both lengths", login(&format!("{}\r\nTransfer-Encoding: chunked", length(&chunked)), &chunked)),
        ("both, the other way round", login(&format!("Transfer-Encoding: chunked\r\n{}", length(&chunked)), &chunked)),
        ("two lengths", login(&format!("Content-Length: 0\r\n{}", length(&smuggled)), &smuggled)),
        ("two lengths in one", login(&format!("Content-Length: 0, {}", smuggled.len()), &smuggled)),
        ("a length with a sign", login(&format!("Content-Length: +{}", smuggled.len()), &smuggled)),
        ("a length in hexadecimal", login(&format!("Content-Length: 0x{:x}", smuggled.len()), &smuggled)),
        ("an encoding that is none", login("Transfer-Encoding: xchunked", &chunked)),
        ("an encoding with more", login("Transfer-Encoding: chunked, identity", &chunked)),
        ("an encoding twice", login("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", &chunked)),
        ("an encoding after a space", login("Transfer-Encoding : chunked", &chunked)),
        ("an encoding on a folded line", login("Transfer-Encoding:\r\n chunked", &chunked)),
        ("a chunk of no size", login("Transfer-Encoding: chunked", &format!("\r\n\r\n{smuggled}"))),
        ("a chunk of a huge size", login("Transfer-Encoding: chunked", &format!("fffffffffffffffff\r\n{smuggled}"))),
        ("a chunk with a sign", login("Transfer-Encoding: chunked", &format!("-1\r\n{smuggled}"))),
    ] {
        let statuses = raw(&client, &request).await;
        assert!(statuses.iter().all(|status| (400..500).contains(status)), "{what}: {statuses:?}");
    }
    for (what, head) in [
        (
            "two tokens",
            format!("GET {OPERATORS} HTTP/1.1\r\nHost: {host}\r\n{auth}\r\nAuthorization: Bearer x\r\n\r\n"),
        ),
        (
            "a token on a folded line",
            format!("GET {OPERATORS} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer\r\n {token}\r\n\r\n"),
        ),
        (
            "a name with a space",
            format!("GET {OPERATORS} HTTP/1.1\r\nHost: {host}\r\nAuthorization : Bearer {token}\r\n\r\n"),
        ),
        ("two tokens in one", format!("GET {OPERATORS} HTTP/1.1\r\nHost: {host}\r\n{auth}, Bearer x\r\n\r\n")),
        ("a zero byte", format!("GET {OPERATORS} HTTP/1.1\r\nHost: {host}\r\n{auth}\0\r\n\r\n")),
        (
            "a line inside",
            format!("GET {OPERATORS} HTTP/1.1\r\nHost: {host}\r\nX: a\rAuthorization: Bearer {token}\r\n\r\n"),
        ),
        ("another method", format!("TRACE {OPERATORS} HTTP/1.1\r\nHost: {host}\r\n{auth}\r\n\r\n")),
        ("a method in small letters", format!("get {OPERATORS} HTTP/1.1\r\nHost: {host}\r\n{auth}\r\n\r\n")),
        ("a tunnel", format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n{auth}\r\n\r\n")),
        (
            "an upgrade",
            format!(
                "GET {OPERATORS} HTTP/1.1\r\nHost: {host}\r\n{auth}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            ),
        ),
        ("the other protocol", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
    ] {
        let statuses = raw(&client, &head).await;
        assert!(statuses.iter().all(|status| (400..500).contains(status)), "{what}: {statuses:?}");
    }
    scene.is_as_it_was().await;
    // No other protocol is spoken here: who asks for one is answered in this one, and what follows is read as ever.
    let upgrade =
        format!("{auth}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n");
    let get = |more: &str| format!("GET {OPERATORS} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n");
    assert_eq!(raw(&client, &format!("{}{}", get(&upgrade), get(""))).await, [200, 401]);
    // Two honest ones on one connection are two.
    let two = format!("{}{}", get(""), get(&format!("{auth}\r\n")));
    assert_eq!(raw(&client, &two).await, [401, 200]);
}
