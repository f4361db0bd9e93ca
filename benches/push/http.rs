//! HTTP requests one after another on a connection that is kept. Leaner than a library's client, which would take of the
//! cores what is to be measured.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Far above what any answer takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection; opened anew where the server has closed it.
pub struct Http {
    server: SocketAddr,
    stream: Option<TcpStream>,
}

pub struct Answer {
    pub status: u16,
    pub retry_after: Option<Duration>,
    pub body: Vec<u8>,
}

impl Answer {
    /// As JSON, which it must be.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// It went well.
    pub fn ok(self) -> Self {
        assert!((200..300).contains(&self.status), "{}: {}", self.status, String::from_utf8_lossy(&self.body));
        self
    }
}

impl Http {
    pub fn new(server: SocketAddr) -> Self {
        Self { server, stream: None }
    }

    pub async fn json(&mut self, method: &str, path: &str, token: &str, body: Option<&serde_json::Value>) -> Answer {
        let body = body.map(ToString::to_string).unwrap_or_default();
        self.send(method, path, token, "application/json", &body).await
    }

    pub async fn form(&mut self, path: &str, body: &str) -> Answer {
        self.send("POST", path, "", "application/x-www-form-urlencoded", body).await
    }

    async fn send(&mut self, method: &str, path: &str, token: &str, kind: &str, body: &str) -> Answer {
        let bearer = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
        let kind = if body.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{bearer}{kind}Content-Length: {length}\r\n\r\n{body}"
        );
        for _ in 0..5 {
            match tokio::time::timeout(PATIENCE, self.exchange(request.as_bytes())).await {
                Ok(Ok(answer)) => return answer,
                // Closed meanwhile, as a server may that nobody has asked for a while; or full.
                _ => self.stream = None,
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Answer { status: 0, retry_after: None, body: format!("{method} {path}: no answer").into_bytes() }
    }

    async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(self.server).await?;
            stream.set_nodelay(true)?;
            self.stream = Some(stream);
        }
        let stream = self.stream.as_mut().expect("it was opened above");
        stream.write_all(request).await?;
        let mut read = Vec::with_capacity(4096);
        let head = loop {
            if let Some(end) = super::wire::find(&read, b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        let retry_after = field("retry-after:").and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let length: usize = field("content-length:").and_then(|text| text.parse().ok()).unwrap_or_default();
        while read.len() < head + length {
            if stream.read_buf(&mut read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(Answer { status, retry_after, body: read.split_off(head) })
    }
}
