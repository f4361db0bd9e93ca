//! RFC 6455 byte by byte, over either carrier: the cases of the Autobahn suite that apply to a server of short texts.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

over_all! {
    what_breaks_the_standard_is_closed,
    a_message_may_come_in_parts_with_pings_in_between,
    a_close_is_answered_with_the_same,
    bytes_may_come_one_by_one_or_all_at_once,
    compression_is_never_agreed_on,
    a_flood_of_messages_is_closed,
}

const TEXT: u8 = 0x81;
const PING: u8 = 0x89;
const CLOSE: u8 = 0x88;
/// What a client says of whom nothing is known.
const SAID: &str = r#"{"type":"hello","token":"nonsense"}"#;

fn request(path: &str, more: &str) -> Vec<u8> {
    format!(
        "{path} HTTP/1.1\r\nHost: permcast\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
    .into_bytes()
}

/// A frame of a client: its first byte as it is, its payload masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let mut bytes = vec![first];
    match u16::try_from(payload.len()).unwrap() {
        short @ ..126 => bytes.push(0x80 | u8::try_from(short).unwrap()),
        length => {
            bytes.push(0x80 | 0x7e);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// One who speaks in bytes.
struct Raw(Box<dyn Bytes>);

impl Raw {
    async fn open(server: &Server, more: &str) -> (Self, String) {
        let mut raw = Self(server.dial().await);
        raw.send(&request("GET /v1/ws", more)).await;
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        (raw, head)
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// The head of an answer.
    async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    /// The next frame: its first byte and its payload, which is short.
    async fn hear(&mut self) -> (u8, Vec<u8>) {
        let (first, length) = (self.0.read_u8().await.unwrap(), self.0.read_u8().await.unwrap());
        assert!(length < 126, "a server does not mask");
        let mut payload = vec![0; length.into()];
        self.0.read_exact(&mut payload).await.unwrap();
        (first, payload)
    }

    async fn closed(&mut self) -> u16 {
        let (first, payload) = self.hear().await;
        assert_eq!(first, CLOSE, "{payload:?}");
        u16::from_be_bytes([payload[0], payload[1]])
    }

    /// Nothing more comes, but the end.
    async fn ended(&mut self) {
        let mut rest = Vec::new();
        // That the end comes as a reset is no matter: there was something left to read.
        let _ = self.0.read_to_end(&mut rest).await;
        assert_eq!(rest, b"");
    }
}

async fn what_breaks_the_standard_is_closed(over: Over) {
    let server = serve(over);
    let mut unmasked = frame(TEXT, b"{}");
    unmasked[1] &= 0x7f;
    let mut cases = vec![
        ("an unmasked frame", unmasked, 1002),
        ("a part of nothing", frame(0x80, b"x"), 1002),
        ("a part of nothing, not the last", frame(0x00, b"x"), 1002),
        ("a text within a text", [frame(0x01, b"x"), frame(TEXT, b"x")].concat(), 1002),
        ("a binary within a text", [frame(0x01, b"x"), frame(0x02, b"x")].concat(), 1002),
        ("a ping in parts", frame(0x09, b"x"), 1002),
        ("a close in parts", frame(0x08, &[3, 232]), 1002),
        ("a long ping", frame(PING, &[0; 126]), 1002),
        ("a long close", frame(CLOSE, &[3; 126]), 1002),
        ("a close of one byte", frame(CLOSE, &[3]), 1002),
        ("a reason that is no text", frame(CLOSE, &[3, 232, 0xff]), 1002),
        ("a text that is none", frame(TEXT, &[b'{', 0xff]), 1007),
        ("half a character", frame(TEXT, &[0xc3]), 1007),
        ("a surrogate", frame(TEXT, &[0xed, 0xa0, 0x80]), 1007),
        ("an overlong character", frame(TEXT, &[0xc0, 0xaf]), 1007),
        ("parts that are no text", [frame(0x01, &[0xce]), frame(0x80, b"x")].concat(), 1007),
        ("binary", frame(0x82, b"x"), 4400),
        ("binary in parts", frame(0x02, b"x"), 4400),
        ("an empty text", frame(TEXT, b""), 4400),
        ("a large text", frame(TEXT, &[b' '; 16 * 1024 + 1]), 4413),
        ("garbage", b"GET / HTTP/1.1\r\n\r\n".to_vec(), 1002),
    ];
    for reserved in [0x10, 0x20, 0x40, 0x70] {
        cases.push(("a reserved bit", frame(TEXT | reserved, b"{}"), 1002));
        cases.push(("a ping with a reserved bit", frame(PING | reserved, b""), 1002));
    }
    for opcode in (3..8).chain(11..16) {
        cases.push(("a reserved opcode", frame(0x80 | opcode, b""), 1002));
    }
    for code in [0, 999, 1004, 1005, 1006, 1016, 1100, 2999, 5000, 65_535_u16] {
        cases.push(("a code that is not for closing", frame(CLOSE, &code.to_be_bytes()), 1002));
    }
    // At the same time, for each lingers before it is over.
    let each = cases.into_iter().map(async |(what, bytes, code)| {
        let (mut raw, _) = Raw::open(&server, "").await;
        raw.send(&bytes).await;
        assert_eq!(raw.closed().await, code, "{what}");
        raw.ended().await;
    });
    futures_util::future::join_all(each).await;
}

async fn a_message_may_come_in_parts_with_pings_in_between(over: Over) {
    let server = serve(over);
    let said = SAID.replace("nonsense", "é");
    // The character of two bytes is torn apart, too.
    let middle = said.find('é').unwrap() + 1;
    let (mut raw, _) = Raw::open(&server, "").await;
    raw.send(&frame(0x01, &said.as_bytes()[..middle])).await;
    raw.send(&frame(PING, b"are you there")).await;
    assert_eq!(raw.hear().await, (0x8a, b"are you there".to_vec()));
    raw.send(&frame(0x00, b"")).await;
    raw.send(&frame(0x8a, b"a pong that nobody asked for")).await;
    raw.send(&frame(PING, &[7; 125])).await;
    assert_eq!(raw.hear().await, (0x8a, vec![7; 125]));
    raw.send(&frame(0x80, &said.as_bytes()[middle..])).await;
    assert_eq!(raw.closed().await, 4401, "it was put together, and looked at");
}

async fn a_close_is_answered_with_the_same(over: Over) {
    let server = serve(over);
    for payload in [&b""[..], &[3, 232], &[3, 233, b'b', b'y', b'e'], &[0x0f, 0xa0]] {
        let (mut raw, _) = Raw::open(&server, "").await;
        raw.send(&frame(CLOSE, payload)).await;
        assert_eq!(raw.hear().await, (CLOSE, payload.to_vec()));
        raw.ended().await;
    }
}

async fn bytes_may_come_one_by_one_or_all_at_once(over: Over) {
    let server = serve(over);
    let (mut slow, _) = Raw::open(&server, "").await;
    for byte in frame(TEXT, SAID.as_bytes()) {
        slow.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(slow.closed().await, 4401);
    // Behind the handshake, in one piece.
    let mut quick = Raw(server.dial().await);
    quick
        .send(&[request("GET /v1/ws", ""), frame(PING, b"1"), frame(PING, b"2"), frame(TEXT, SAID.as_bytes())].concat())
        .await;
    assert!(quick.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(quick.hear().await, (0x8a, b"1".to_vec()));
    assert_eq!(quick.hear().await, (0x8a, b"2".to_vec()));
    assert_eq!(quick.closed().await, 4401);
}

async fn compression_is_never_agreed_on(over: Over) {
    let server = serve(over);
    let (mut raw, head) = Raw::open(&server, "Sec-WebSocket-Extensions: permessage-deflate\r\n").await;
    assert!(!head.to_ascii_lowercase().contains("extensions"), "{head}");
    raw.send(&frame(TEXT | 0x40, &[0; 16])).await;
    assert_eq!(raw.closed().await, 1002);
}

async fn a_flood_of_messages_is_closed(over: Over) {
    let server = serve(over);
    let token = server.house.token("ben", 10, &[]);
    for said in [frame(TEXT, br#"{"type":"ping"}"#), frame(PING, b""), frame(0x8a, b"")] {
        let mut other = server.greeted(&token).await;
        let (raw, _) = Raw::open(&server, "").await;
        let (mut read, mut write) = tokio::io::split(raw.0);
        let flood = said.repeat(10_000);
        let mut heard = Vec::new();
        // It may be cut off before all is said.
        let (_, _) = tokio::join!(write.write_all(&flood), read.read_to_end(&mut heard));
        let end = heard.windows(4).any(|bytes| bytes[0] == CLOSE && bytes[2..] == 1008_u16.to_be_bytes());
        // In actix_ws the answers to the flood may leave no room for a last word.
        assert!(end || matches!(over, Over::App), "it is told why");
        other.send(Message::text(r#"{"type":"ping"}"#)).await;
        assert_eq!(other.hear().await["type"], "heartbeat", "others are none the wiser");
    }
}

/// Over the kernel's own buffers: they take what they take, and then nothing waits here but one version.
#[actix_web::test]
async fn who_does_not_read_is_closed_and_others_are_served() {
    let second = std::time::Duration::from_secs(1);
    let deadlines = Deadlines { write: second, ..Deadlines::default() };
    let server = serve_house(Over::Socket, House::new(deadlines, Limits::default()));
    let began = std::time::Instant::now();
    let small = tokio::net::TcpSocket::new_v4().unwrap();
    small.set_recv_buffer_size(4096).unwrap();
    let mut slow = Raw(Box::new(small.connect(server.address).await.unwrap()));
    slow.send(&request("GET /v1/ws", "")).await;
    assert!(slow.head().await.starts_with("HTTP/1.1 101 "));
    let token = server.house.token("ben", 10, &["editor"]);
    slow.send(&frame(TEXT, json!({"type": "hello", "token": token}).to_string().as_bytes())).await;
    let mut cleo = server.greeted(&server.house.token("cleo", 10, &["editor"])).await;
    let mut changes = 0;
    while server.house.sockets.hub.totals().connections > 1 {
        let seq = server.house.change_role("editor");
        assert_eq!(cleo.hear().await["type"], "permissions_changed");
        if changes % 1000 == 999 {
            // Else she would be closed as one who does not refresh.
            cleo.say("refresh", &server.house.token("cleo", seq, &["editor"])).await;
            assert_eq!(cleo.hear().await["type"], "refreshed");
        }
        changes += 1;
    }
    // The kernel itself ends such a connection after twenty.
    assert!(began.elapsed() < 20 * second, "{:?}", began.elapsed());
    let mut taken = Vec::new();
    let _ = slow.0.read_to_end(&mut taken).await;
    let told = taken.windows(19).filter(|bytes| bytes == b"permissions_changed").count();
    assert!((1..changes).contains(&told), "{told} of {changes}: what came after was merged");
}

#[actix_web::test]
async fn a_size_that_is_announced_is_not_waited_for() {
    let server = serve(Over::Socket);
    for head in [&[TEXT, 0x80 | 0x7f, 0x3f, 255, 255, 255, 255, 255, 255, 255][..], &[TEXT, 0x80 | 0x7e, 0x40, 1]] {
        let (mut raw, _) = Raw::open(&server, "").await;
        raw.send(head).await;
        assert_eq!(raw.closed().await, 4413);
    }
}

#[actix_web::test]
async fn no_other_upgrade_passes() {
    let server = serve(Over::Socket);
    for (path, more, status) in [
        ("POST /v1/ws", "", 405),
        ("HEAD /v1/ws", "", 405),
        ("GET /", "", 400),
        ("GET /v1/me", "", 400),
        ("GET /v1/ws/", "", 400),
        ("GET /v1/ws", "Sec-WebSocket-Protocol: other\r\n", 400),
        ("GET /v1/ws", "Origin: https://evil.example\r\n", 403),
        ("GET /v1/ws", "Sec-WebSocket-Protocol: permcast.v1, bearer.nonsense\r\n", 401),
    ] {
        let mut raw = Raw(server.dial().await);
        // What comes behind it is not answered.
        raw.send(&[request(path, more), request("GET /v1/ws", "")].concat()).await;
        let mut answer = String::new();
        raw.0.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {more}: {answer}");
        assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("application/problem+json"), "{answer}");
        assert!(path.starts_with("HEAD") || serde_json::from_str::<Value>(body).is_ok(), "{answer}");
    }
    for (request, status) in [
        ("CONNECT example.com:80 HTTP/1.1\r\nHost: example.com\r\n\r\n", 400),
        ("GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n", 426),
        (
            "GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 8\r\n\r\n",
            426,
        ),
        (
            "GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n",
            400,
        ),
    ] {
        let mut raw = Raw(server.dial().await);
        raw.send(request.as_bytes()).await;
        let mut answer = String::new();
        raw.0.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
    }
    assert_eq!(server.house.sockets.hub.totals().connections, 0);
}

#[actix_web::test]
async fn a_request_before_the_handshake_is_answered_first() {
    let server = serve(Over::Socket);
    let mut raw = Raw(server.dial().await);
    let before = b"GET /v1/me/freshness HTTP/1.1\r\nHost: permcast\r\n\r\n";
    raw.send(&[&before[..], &request("GET /v1/ws", ""), &frame(PING, b"")].concat()).await;
    let head = raw.head().await;
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
    let length = head
        .to_ascii_lowercase()
        .split_once("content-length: ")
        .unwrap()
        .1
        .split("\r\n")
        .next()
        .unwrap()
        .parse()
        .unwrap();
    raw.0.read_exact(&mut vec![0; length]).await.unwrap();
    assert!(raw.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(raw.hear().await, (0x8a, Vec::new()));
}
