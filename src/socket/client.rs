//! One who is connected to a replica as its clients are: for whoever measures what they see.

use std::net::SocketAddr;
use std::sync::Arc;

use actix_http::ws::{Codec, Frame, Message, ProtocolError};
use actix_web::web::BytesMut;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_util::codec::{Decoder as _, Encoder as _};

use crate::domain::{Random, Version};
use crate::protocol::socket::SUBPROTOCOL;

/// Bytes of an answer to a handshake at the most.
const HANDSHAKE_BYTES_MAX: usize = 8 * 1024;

/// Why the connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the connection broke")]
    Io(#[from] std::io::Error),
    #[error("the replica answers the handshake with {0:?}")]
    Handshake(String),
    #[error("no WebSocket is spoken here")]
    Protocol(#[from] ProtocolError),
    #[error("the replica closed the connection: {0:?}")]
    Closed(Option<u16>),
    #[error("the message is no JSON")]
    Json(#[from] serde_json::Error),
}

/// Bytes in and out.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A WebSocket.
pub struct SocketClient {
    stream: Box<dyn Stream>,
    codec: Codec,
    read: BytesMut,
}

impl SocketClient {
    /// Connects, says hello and is welcome.
    pub async fn connect(
        address: SocketAddr,
        tls: Option<&Arc<ClientConfig>>,
        token: &str,
        random: &dyn Random,
    ) -> Result<Self, ClientError> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let mut stream: Box<dyn Stream> = match tls {
            None => Box::new(socket),
            Some(config) => {
                let connector = TlsConnector::from(Arc::clone(config));
                Box::new(connector.connect(address.ip().into(), socket).await?)
            }
        };
        let key = STANDARD.encode(random.bytes::<16>());
        let handshake = format!(
            "GET /v1/ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
        );
        stream.write_all(handshake.as_bytes()).await?;
        stream.flush().await?;
        let mut read = BytesMut::with_capacity(1024);
        let head = loop {
            if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
                break read.split_to(end + 4);
            }
            if read.len() > HANDSHAKE_BYTES_MAX || stream.read_buf(&mut read).await? == 0 {
                break std::mem::take(&mut read);
            }
        };
        if !head.starts_with(b"HTTP/1.1 101 ") {
            let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
            return Err(ClientError::Handshake(line));
        }
        let mut client = Self { stream, codec: Codec::new().client_mode(), read };
        client.say(&json!({ "type": "hello", "token": token })).await?;
        client.expect("welcome").await?;
        Ok(client)
    }

    /// Says something.
    pub async fn say(&mut self, message: &Value) -> Result<(), ClientError> {
        self.send(Message::Text(message.to_string().into())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), ClientError> {
        let mut bytes = BytesMut::new();
        self.codec.encode(message, &mut bytes)?;
        self.stream.write_all(&bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// The next message.
    pub async fn next(&mut self) -> Result<Value, ClientError> {
        loop {
            match self.codec.decode(&mut self.read)? {
                Some(Frame::Text(text)) => return Ok(serde_json::from_slice(&text)?),
                Some(Frame::Ping(payload)) => self.send(Message::Pong(payload)).await?,
                Some(Frame::Close(reason)) => return Err(ClientError::Closed(reason.map(|reason| reason.code.into()))),
                Some(_) => {}
                None => {
                    if self.stream.read_buf(&mut self.read).await? == 0 {
                        return Err(ClientError::Closed(None));
                    }
                }
            }
        }
    }

    /// The next message of a type.
    pub async fn expect(&mut self, kind: &str) -> Result<Value, ClientError> {
        loop {
            let message = self.next().await?;
            if message["type"] == kind {
                return Ok(message);
            }
        }
    }

    /// Waits until it is told of a change at or past a version.
    pub async fn told_of(&mut self, version: Version) -> Result<(), ClientError> {
        loop {
            let message = self.expect("permissions_changed").await?;
            let pv = message["pv"].as_str().and_then(|text| text.parse::<Version>().ok());
            if pv.is_some_and(|pv| pv.epoch == version.epoch && pv.seq >= version.seq) {
                return Ok(());
            }
        }
    }

    /// Says goodbye.
    pub async fn close(mut self) -> Result<(), ClientError> {
        self.send(Message::Close(None)).await
    }
}
