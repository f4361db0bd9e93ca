//! One who is connected by WebSocket.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::client::{Client, Tokens};
use crate::harness::soon;

pub(crate) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// What comes next.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    Message(Value),
    /// With its code.
    Closed(u16),
}

/// Shakes hands with these headers beside the protocol's own.
pub(crate) async fn shake(client: &Client, headers: &[(&'static str, String)]) -> Result<(Socket, Response), Error> {
    let url = format!("{}/v1/ws", client.base().replacen("http", "ws", 1));
    let mut request = url.into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let (stream, response) = soon("a handshake", tokio_tungstenite::connect_async(request)).await?;
    Ok((Socket { stream }, response))
}

impl Socket {
    /// Connects without a token.
    pub(crate) async fn open(client: &Client) -> Self {
        shake(client, &[("Sec-WebSocket-Protocol", "permcast.v1".to_owned())]).await.unwrap().0
    }

    /// Connects, says hello and is welcome.
    pub(crate) async fn hello(client: &Client, tokens: &Tokens) -> Self {
        Self::welcomed(client, tokens).await.0
    }

    /// The same, with the welcome.
    pub(crate) async fn welcomed(client: &Client, tokens: &Tokens) -> (Self, Value) {
        let mut socket = Self::open(client).await;
        socket.say(json!({"type": "hello", "token": tokens.access})).await;
        let welcome = socket.expect("welcome").await;
        (socket, welcome)
    }

    /// Says hello and is sent away with this code.
    pub(crate) async fn refused(mut self, token: &str, code: u16) {
        self.say(json!({"type": "hello", "token": token})).await;
        self.closes(code).await;
    }

    pub(crate) async fn say(&mut self, message: Value) {
        self.send(Message::text(message.to_string())).await;
    }

    pub(crate) async fn send(&mut self, message: Message) {
        soon("a send", self.stream.send(message)).await.unwrap();
    }

    /// The same to a connection that may be over.
    pub(crate) async fn try_send(&mut self, message: Message) -> Result<(), Error> {
        soon("a send", self.stream.send(message)).await
    }

    /// The next message that is no heartbeat, or the end.
    pub(crate) async fn next(&mut self) -> Next {
        loop {
            match soon("a message", self.stream.next()).await {
                Some(Ok(Message::Text(text))) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    if message["type"] != "heartbeat" {
                        return Next::Message(message);
                    }
                }
                Some(Ok(Message::Close(frame))) => return Next::Closed(frame.map_or(1005, |frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(error)) => panic!("{error}"),
                None => return Next::Closed(1006),
            }
        }
    }

    /// The next message, which must be of this type.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        match self.next().await {
            Next::Message(message) if message["type"] == kind => message,
            other => panic!("{other:?}, but {kind} was to come"),
        }
    }

    /// Heartbeats included.
    pub(crate) async fn expect_heartbeat(&mut self) -> Value {
        loop {
            if let Message::Text(text) = soon("a heartbeat", self.stream.next()).await.unwrap().unwrap() {
                let message: Value = serde_json::from_str(&text).unwrap();
                if message["type"] == "heartbeat" {
                    return message;
                }
            }
        }
    }

    /// A heartbeat comes before anything else.
    pub(crate) async fn expect_heartbeat_next(&mut self) {
        loop {
            match soon("a heartbeat", self.stream.next()).await.unwrap().unwrap() {
                Message::Text(text) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    return assert_eq!(message["type"], "heartbeat", "{message}");
                }
                Message::Close(frame) => panic!("{frame:?}"),
                _ => {}
            }
        }
    }

    /// It is closed with this code, whatever is said before.
    pub(crate) async fn closes(&mut self, code: u16) {
        loop {
            if let Next::Closed(closed) = self.next().await {
                return assert_eq!(closed, code);
            }
        }
    }

    /// After the close frames the server ends the connection.
    pub(crate) async fn ends(&mut self) {
        while soon("the end of a connection", self.stream.next()).await.is_some() {}
    }

    /// It is closed with this code, with nothing said before.
    pub(crate) async fn expect_close(&mut self, code: u16) {
        assert_eq!(self.next().await, Next::Closed(code));
    }
}
