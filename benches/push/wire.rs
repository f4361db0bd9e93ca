//! As much of HTTP and WebSocket as a client under measurement needs. Bytes in, bytes out: nothing waits here.

/// What a connection has received and not understood yet; empty, and without memory, most of the time.
#[derive(Default)]
pub struct Unread(Vec<u8>);

/// A frame of the server's: its opcode and what it carries.
pub type Frame<'a> = (u8, &'a [u8]);

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

impl Unread {
    /// Takes what came, and hands on each frame that is whole.
    pub fn frames(&mut self, bytes: &[u8], mut each: impl FnMut(Frame<'_>)) {
        if self.0.is_empty() {
            let used = split(bytes, &mut each);
            self.0.extend_from_slice(&bytes[used..]);
        } else {
            self.0.extend_from_slice(bytes);
            let used = split(&self.0, &mut each);
            self.0.drain(..used);
        }
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
    }

    /// Takes what came of a response's head; once that is whole, its status and what follows it.
    pub fn head(&mut self, bytes: &[u8]) -> Option<(u16, String, Vec<u8>)> {
        self.0.extend_from_slice(bytes);
        let end = find(&self.0, b"\r\n\r\n")? + 4;
        let rest = self.0.split_off(end);
        let head = String::from_utf8_lossy(&std::mem::take(&mut self.0)).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        Some((status, head, rest))
    }
}

fn split(bytes: &[u8], each: &mut impl FnMut(Frame<'_>)) -> usize {
    let mut at = 0;
    while let Some((frame, length)) = first(&bytes[at..]) {
        each(frame);
        at += length;
    }
    at
}

fn first(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let [one, two, ..] = *bytes else { return None };
    let (length, head) = match two & 127 {
        126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?, 10),
        short => (usize::from(short), 2),
    };
    let payload = bytes.get(head..head + length)?;
    Some(((one & 15, payload), head + length))
}

/// A client's frame; its mask is zero, so that it costs the client nothing.
pub fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    framed(opcode, payload, 128)
}

/// A server's frame.
pub fn unmasked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    framed(opcode, payload, 0)
}

fn framed(opcode: u8, payload: &[u8], mask: u8) -> Vec<u8> {
    let mut frame = vec![128 | opcode];
    match u16::try_from(payload.len()).expect("no message here is longer") {
        short @ 0..126 => frame.push(mask | u8::try_from(short).expect("below 126")),
        long => {
            frame.push(mask | 0x7e);
            frame.extend(long.to_be_bytes());
        }
    }
    if mask != 0 {
        frame.extend([0; 4]);
    }
    frame.extend_from_slice(payload);
    frame
}

/// The request of a WebSocket handshake.
pub fn handshake(path: &str, subprotocol: Option<&str>) -> String {
    let subprotocol = subprotocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n")).unwrap_or_default();
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{subprotocol}\r\n"
    )
}

/// The number in the first `"pv":"<epoch>.<seq>"` of a message.
pub fn seq(message: &[u8]) -> Option<u64> {
    let at = find(message, b"\"pv\":\"")?;
    let digits = message[at..].iter().skip_while(|&&byte| byte != b'.').skip(1);
    let digits = digits.take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// The whole number behind a member's name.
pub fn number(message: &[u8], name: &str) -> Option<u64> {
    let at = find(message, format!("\"{name}\":").as_bytes())? + name.len() + 3;
    let digits = message[at..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// Where `part` begins in `bytes`.
pub fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
