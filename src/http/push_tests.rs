use std::net::SocketAddr;

use actix_web::{App, HttpServer, dev::ServerHandle};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::*;
use crate::config::TlsFiles;
use crate::http::server::Door;
use crate::http::tls::Tls;
use crate::hub::Limits;
use crate::socket::Deadlines;
use crate::socket::testing::House;

/// A house with a door to the street.
struct Server {
    house: House,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
    handle: ServerHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
    }
}

/// What carries the WebSockets.
#[derive(Debug, Clone, Copy)]
enum Over {
    /// The socket itself, as in the program.
    Socket,
    /// The same under TLS.
    Tls,
    /// `actix_ws`, as in somebody's own `App`.
    App,
}

/// Runs each of these once over either carrier, and once under TLS.
macro_rules! over_all {
    ($($test:ident),+ $(,)?) => {
        mod over_a_socket {
            $(#[actix_web::test] async fn $test() { super::$test(super::Over::Socket).await })+
        }
        mod over_tls {
            $(#[actix_web::test] async fn $test() { super::$test(super::Over::Tls).await })+
        }
        mod over_an_app {
            $(#[actix_web::test] async fn $test() { super::$test(super::Over::App).await })+
        }
    };
}

#[path = "push_tests/carrier.rs"]
mod carrier;

over_all! {
    a_change_travels_to_the_client,
    a_token_may_come_with_the_handshake,
    a_page_of_another_origin_is_refused,
    bad_messages_end_the_connection_with_their_code,
    connections_are_counted_and_their_end_is_noticed,
    a_server_that_stops_says_so,
    a_stream_of_events_ends_with_the_server_and_with_its_client,
}

fn serve_with(over: Over, limits: Limits) -> Server {
    serve_house(over, House::new(Deadlines { drain: std::time::Duration::ZERO, ..Deadlines::default() }, limits))
}

fn serve_house(over: Over, house: House) -> Server {
    let sockets = web::Data::from(Arc::clone(&house.sockets));
    let origins = web::Data::new(Origins::new("https://id.example", ["https://app.example"]));
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let door = Door { sockets, origins, proxies: web::Data::default(), services: None };
    let (sockets, origins) = (door.sockets.clone(), door.origins.clone());
    let services = move |cfg: &mut web::ServiceConfig| {
        cfg.app_data(sockets.clone()).app_data(origins.clone());
    };
    let tls = matches!(over, Over::Tls).then(certificate);
    let under = tls.clone();
    let server = match over {
        Over::Socket | Over::Tls => super::super::server::serve(listener, tls, door, services, Some(1)).unwrap(),
        Over::App => {
            let app = move || App::new().configure(services.clone()).configure(super::super::configure);
            HttpServer::new(app).workers(1).disable_signals().listen(listener).unwrap().run()
        }
    };
    let handle = server.handle();
    actix_web::rt::spawn(server);
    Server { house, address, tls: under, handle }
}

/// A certificate of its own.
fn certificate() -> Arc<Tls> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    Arc::new(Tls::open(TlsFiles { certificate, key }).unwrap())
}

fn serve(over: Over) -> Server {
    serve_with(over, Limits::default())
}

/// Bytes in and out.
trait Bytes: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Bytes for S {}

struct Client(WebSocketStream<Box<dyn Bytes>>);

/// An HTTP answer to a handshake: status and problem type.
type Refused = (u16, String);

impl Server {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A connection with nothing said.
    async fn dial(&self) -> Box<dyn Bytes> {
        let socket = TcpStream::connect(self.address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let Some(tls) = &self.tls else { return Box::new(socket) };
        let connector = TlsConnector::from(tls.for_itself().unwrap());
        Box::new(connector.connect(self.address.ip().into(), socket).await.unwrap())
    }

    async fn handshake(&self, headers: &[(&'static str, &str)]) -> Result<(Client, Option<String>), Refused> {
        let mut request = format!("ws://{}/v1/ws", self.address).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        match client_async(request, self.dial().await).await {
            Ok((socket, response)) => {
                let chosen = response.headers().get("sec-websocket-protocol");
                Ok((Client(socket), chosen.map(|value| value.to_str().unwrap().to_owned())))
            }
            Err(Error::Http(response)) => {
                let problem: Value = serde_json::from_slice(response.body().as_deref().unwrap_or_default()).unwrap();
                Err((response.status().as_u16(), problem["type"].as_str().unwrap().to_owned()))
            }
            Err(other) => panic!("{other}"),
        }
    }

    async fn connect(&self) -> Client {
        self.handshake(&[]).await.map(|(client, _)| client).unwrap()
    }

    async fn greeted(&self, token: &str) -> Client {
        let mut client = self.connect().await;
        client.say("hello", token).await;
        assert_eq!(client.hear().await["type"], "welcome");
        client
    }
}

impl Client {
    async fn send(&mut self, message: Message) {
        self.0.send(message).await.unwrap();
    }

    async fn say(&mut self, kind: &str, token: &str) {
        self.send(Message::text(json!({"type": kind, "token": token}).to_string())).await;
    }

    /// The next message; a close as `{"close": code}`.
    async fn hear(&mut self) -> Value {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Close(frame))) => {
                    return json!({ "close": frame.map(|frame| u16::from(frame.code)) });
                }
                Some(Ok(Message::Pong(_))) => return json!("pong"),
                Some(Ok(_)) => {}
                other => panic!("the connection broke: {other:?}"),
            }
        }
    }
}

fn closed(code: u16) -> Value {
    json!({ "close": code })
}

async fn a_change_travels_to_the_client(over: Over) {
    let server = serve(over);
    let mut ben = server.connect().await;
    ben.say("hello", &server.house.token("ben", 10, &["editor"])).await;
    let welcome = ben.hear().await;
    assert_eq!(
        (&welcome["type"], &welcome["replica"], &welcome["pv"], &welcome["heartbeat_ms"]),
        (&json!("welcome"), &json!("r1"), &json!("abcd2345.10"), &json!(25_000))
    );
    assert!(welcome["connection"].is_string());
    server.house.change_role("editor");
    let told = ben.hear().await;
    assert_eq!(
        (&told["type"], &told["pv"], &told["reason"]),
        (&json!("permissions_changed"), &json!("abcd2345.11"), &json!("role"))
    );
    assert!(told["refresh_within_ms"].is_u64() && told["at"].is_string());
    ben.say("refresh", &server.house.token("ben", 11, &["editor"])).await;
    assert_eq!(ben.hear().await, json!({"type": "refreshed", "pv": "abcd2345.11"}));
    server.house.change_user("ben");
    let told = ben.hear().await;
    assert_eq!((&told["reason"], &told["refresh_within_ms"]), (&json!("user"), &json!(0)));
    server.house.end_session("ben");
    assert_eq!(ben.hear().await, json!({"type": "session_revoked", "reason": "signed_out"}));
    assert_eq!(ben.hear().await, closed(4403));
}

async fn a_token_may_come_with_the_handshake(over: Over) {
    let server = serve(over);
    let token = server.house.token("ben", 10, &["editor"]);
    server.house.change_role("editor");
    for offer in [format!("permcast.v1, bearer.{token}"), format!("bearer.{token},permcast.v1,other")] {
        let (mut client, chosen) = server.handshake(&[("sec-websocket-protocol", &offer)]).await.ok().unwrap();
        assert_eq!(chosen.as_deref(), Some("permcast.v1"));
        assert_eq!(client.hear().await["type"], "welcome");
        assert_eq!(client.hear().await["type"], "permissions_changed", "a stale one is accepted");
    }
    let refused = |offer: &'static str| async { server.handshake(&[("sec-websocket-protocol", offer)]).await.err() };
    assert_eq!(refused("permcast.v1, bearer.nonsense").await, Some((401, "/problems/unauthenticated".into())));
    assert_eq!(refused("other").await, Some((400, "/problems/malformed".into())));
    let mut liar = server.connect().await;
    liar.say("hello", "nonsense").await;
    assert_eq!(liar.hear().await, closed(4401));
}

async fn a_page_of_another_origin_is_refused(over: Over) {
    let server = serve(over);
    let own = format!("http://{}", server.address);
    for origin in [&own, "https://id.example", "https://app.example"] {
        assert!(server.handshake(&[("origin", origin)]).await.is_ok(), "{origin}");
    }
    for origin in ["https://evil.example", "null", "http://127.0.0.1:1"] {
        let refused = server.handshake(&[("origin", origin)]).await.err();
        assert_eq!(refused, Some((403, "/problems/forbidden".into())), "{origin}");
    }
}

async fn bad_messages_end_the_connection_with_their_code(over: Over) {
    let server = serve(over);
    let token = server.house.token("ben", 10, &[]);
    let text = |bytes: usize| Message::text(format!(r#"{{"type":"x","pad":"{}"}}"#, "p".repeat(bytes - 21)));
    assert_eq!(text(100).len(), 100);
    let frame = |data, last| Message::Frame(Frame::message(vec![b' '; 9000], OpCode::Data(data), last));
    for (messages, code) in [
        (vec![Message::binary(vec![1])], 4400),
        (vec![Message::text("nonsense")], 4400),
        (vec![Message::text("[]")], 4400),
        (vec![Message::Frame(Frame::message(vec![0xff], OpCode::Data(Data::Text), true))], 1007),
        (vec![text(16 * 1024 + 1)], 4413),
        (vec![text(2 * 1024 * 1024)], 4413),
        (vec![frame(Data::Text, false), frame(Data::Continue, false)], 4413),
        (vec![frame(Data::Text, false), frame(Data::Continue, true)], 4413),
    ] {
        let mut client = server.greeted(&token).await;
        for message in messages {
            let _ = client.0.send(message).await;
        }
        assert_eq!(client.hear().await, closed(code));
    }
    let mut client = server.greeted(&token).await;
    client.send(text(16 * 1024)).await;
    client.send(Message::Frame(Frame::message(r#"{"type":"#, OpCode::Data(Data::Text), false))).await;
    client.send(Message::Ping(vec![7].into())).await;
    client.send(Message::Frame(Frame::message(r#""ping"}"#, OpCode::Data(Data::Continue), true))).await;
    assert_eq!(client.hear().await, json!("pong"));
    assert_eq!(client.hear().await, json!({"type": "heartbeat", "pv": "abcd2345.10"}));
}

async fn connections_are_counted_and_their_end_is_noticed(over: Over) {
    let server = serve_with(over, Limits { total: 2, ..Limits::default() });
    let token = server.house.token("ben", 10, &[]);
    let mut first = server.greeted(&token).await;
    let second = server.greeted(&token).await;
    assert_eq!(server.handshake(&[]).await.err(), Some((503, "/problems/unavailable".into())));
    // One says goodbye, one just goes.
    first.0.close(None).await.unwrap();
    assert_eq!(first.hear().await, json!({ "close": null }));
    drop(second);
    while server.house.sockets.hub.totals().connections > 0 {
        tokio::task::yield_now().await;
    }
}

async fn a_server_that_stops_says_so(over: Over) {
    let server = serve(over);
    let mut ben = server.greeted(&server.house.token("ben", 10, &[])).await;
    server.house.sockets.drain().await;
    assert_eq!(ben.hear().await, json!({"type": "draining", "reconnect_within_ms": 1500}));
    assert_eq!(ben.hear().await, closed(1012));
    assert_eq!(server.handshake(&[]).await.err(), Some((503, "/problems/unavailable".into())));
}

#[actix_web::test]
async fn what_is_no_handshake_is_told_what_it_takes() {
    for over in [Over::Socket, Over::App] {
        let server = serve(over);
        let client = reqwest::Client::new();
        let plain = client.get(server.url("/v1/ws")).send().await.unwrap();
        assert_eq!((plain.status().as_u16(), &plain.headers()["upgrade"]), (426, &"websocket".parse().unwrap()));
        let post = client.post(server.url("/v1/ws")).header("upgrade", "websocket").send().await.unwrap();
        assert_eq!(post.status().as_u16(), 405);
        let other = client.get(server.url("/v1/ws")).header("connection", "upgrade").header("upgrade", "h2c");
        assert_eq!(other.send().await.unwrap().status().as_u16(), 426);
    }
}

/// The next event of a stream, in lines.
async fn event(
    stream: &mut (impl futures_util::Stream<Item = reqwest::Result<web::Bytes>> + Unpin),
    rest: &mut String,
) -> Option<Vec<String>> {
    loop {
        if let Some((event, after)) = rest.split_once("\n\n") {
            let lines = event.lines().map(str::to_owned).collect();
            *rest = after.to_owned();
            return Some(lines);
        }
        rest.push_str(std::str::from_utf8(&stream.next().await?.unwrap()).unwrap());
    }
}

#[actix_web::test]
async fn the_same_comes_as_server_sent_events() {
    for over in [Over::Socket, Over::App] {
        events_come(over).await;
    }
}

async fn events_come(over: Over) {
    let server = serve(over);
    let token = server.house.token("ben", 10, &["editor"]);
    let client = reqwest::Client::new();
    let unknown = client.get(server.url("/v1/events")).bearer_auth("nonsense").send().await.unwrap();
    assert_eq!(unknown.status().as_u16(), 401);
    assert!(unknown.headers()["www-authenticate"].to_str().unwrap().contains("invalid_token"));
    let none = client.get(server.url("/v1/events")).send().await.unwrap();
    assert_eq!(none.status().as_u16(), 401);
    let response = client.get(server.url("/v1/events")).bearer_auth(&token).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let (mut stream, mut rest) = (response.bytes_stream(), String::new());
    let welcome = event(&mut stream, &mut rest).await.unwrap();
    assert_eq!(welcome[..2], ["event: welcome", "id: abcd2345.10"]);
    assert!(welcome[2].starts_with("data: {") && !welcome[2].contains("\"type\""));
    server.house.change_role("editor");
    let told = event(&mut stream, &mut rest).await.unwrap();
    assert_eq!(told[..2], ["event: permissions_changed", "id: abcd2345.11"]);
    server.house.end_session("ben");
    let over = event(&mut stream, &mut rest).await.unwrap();
    assert_eq!(over, ["event: session_revoked", r#"data: {"reason":"signed_out"}"#]);
    assert_eq!(event(&mut stream, &mut rest).await, None);
}

async fn a_stream_of_events_ends_with_the_server_and_with_its_client(over: Over) {
    let server = serve(over);
    let token = server.house.token("ben", 10, &["editor"]);
    let ask = format!(
        "GET /v1/events?x=y HTTP/1.1\r\nHost: permcast\r\nAuthorization: Bearer {token}\r\nOrigin: https://app.example\r\n\r\n"
    );
    let mut streams = Vec::new();
    // At once, and as it comes over a slow line: what is seen first tells nothing then.
    for cuts in [vec![ask.as_bytes()], vec![&ask.as_bytes()[..7], &ask.as_bytes()[7..]]] {
        let mut raw = server.dial().await;
        for part in cuts {
            raw.write_all(part).await.unwrap();
            raw.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut said = String::new();
        while !said.contains("event: welcome") {
            let mut some = [0; 1024];
            let read = raw.read(&mut some).await.unwrap();
            assert!(read > 0, "{said}");
            said.push_str(std::str::from_utf8(&some[..read]).unwrap());
        }
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.contains("transfer-encoding: chunked\r\n"), "{said}");
        streams.push(raw);
    }
    assert_eq!(server.house.sockets.hub.totals().registered, 2);
    drop(streams.pop());
    // In somebody's own `App` a client may close his half, and is found gone by what is written to him.
    while !matches!(over, Over::App) && server.house.sockets.hub.totals().registered != 1 {
        tokio::task::yield_now().await;
    }
    let mut rest = Vec::new();
    let mut last = streams.pop().unwrap();
    // The connection itself may be kept for another request.
    let read_on = async {
        while !rest.ends_with(b"0\r\n\r\n") {
            assert!(last.read_buf(&mut rest).await.unwrap() > 0);
        }
    };
    tokio::join!(server.house.sockets.drain(), read_on);
    let rest = String::from_utf8(rest).unwrap();
    assert!(rest.contains("event: draining"), "{rest}");
}

#[actix_web::test]
async fn freshness_can_be_asked_for() {
    let server = serve(Over::Socket);
    let client = reqwest::Client::new();
    let ask = async |token: &str, tag: Option<&str>| {
        let mut request = client.get(server.url("/v1/me/freshness")).bearer_auth(token);
        if let Some(tag) = tag {
            request = request.header("if-none-match", tag);
        }
        let response = request.send().await.unwrap();
        let tag = response.headers()["etag"].to_str().unwrap().to_owned();
        let status = response.status().as_u16();
        (status, response.json::<Value>().await.unwrap_or_default(), tag)
    };
    let token = server.house.token("ben", 10, &["editor"]);
    let (status, body, fresh) = ask(&token, None).await;
    assert_eq!((status, body), (200, json!({"pv": "abcd2345.10", "stale": false})));
    server.house.change_role("viewer");
    assert_eq!(ask(&token, Some(&fresh)).await.0, 304, "nothing of his has changed");
    server.house.change_role("editor");
    let (status, body, stale) = ask(&token, Some(&fresh)).await;
    assert_eq!((status, body), (200, json!({"pv": "abcd2345.12", "stale": true})));
    assert_eq!(ask(&token, Some(&stale)).await.0, 304);
    let refreshed = server.house.token("ben", 12, &["editor"]);
    let (status, body, _) = ask(&refreshed, Some(&stale)).await;
    assert_eq!((status, body), (200, json!({"pv": "abcd2345.12", "stale": false})));
    // A thin token stays fresh, and yet its client learns that there is something to read.
    server.house.cached("cleo", 12, &["viewer"]);
    let thin = server.house.thin("cleo", 12);
    let (_, body, fresh) = ask(&thin, None).await;
    assert_eq!(body, json!({"pv": "abcd2345.12", "stale": false}));
    server.house.change_role("editor");
    assert_eq!(ask(&thin, Some(&fresh)).await.0, 304);
    server.house.change_role("viewer");
    assert_eq!(ask(&thin, Some(&fresh)).await.1, json!({"pv": "abcd2345.14", "stale": false}));
    server.house.end_session("ben");
    let ended = client.get(server.url("/v1/me/freshness")).bearer_auth(&refreshed).send().await.unwrap();
    assert_eq!(ended.status().as_u16(), 401);
    assert!(ended.headers()["www-authenticate"].to_str().unwrap().contains("session ended"));
}
