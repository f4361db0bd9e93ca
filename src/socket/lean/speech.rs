//! How a connection's messages are written on its socket. Pure.

use actix_http::ws::{CloseReason, Parser};
use actix_web::web::{Bytes, BytesMut};

use crate::protocol::frame::TextFrame;
use crate::protocol::socket::CloseCode;
use crate::socket::sse;

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    /// Frames both ways (RFC 6455).
    WebSocket,
    /// Server-sent events as an answer in chunks (RFC 9112, 7.1), or as one that ends with its connection. What the client
    /// says more is not heard.
    Events { chunked: bool },
}

impl Speech {
    /// A message.
    pub(super) fn text(self, frame: &TextFrame) -> Bytes {
        match self {
            Self::WebSocket => frame.whole().clone(),
            Self::Events { chunked: false } => sse::event(&frame.text()).into(),
            Self::Events { chunked: true } => {
                let event = sse::event(&frame.text());
                format!("{:x}\r\n{event}\r\n", event.len()).into()
            }
        }
    }

    /// The last word.
    pub(super) fn close(self, code: CloseCode) -> Bytes {
        match self {
            Self::WebSocket => {
                let mut frame = BytesMut::new();
                let reason = CloseReason { code: code.code().into(), description: Some(code.reason().to_owned()) };
                Parser::write_close(&mut frame, Some(reason), false);
                frame.freeze()
            }
            Self::Events { chunked: true } => Bytes::from_static(b"0\r\n\r\n"),
            // An empty line more is no event.
            Self::Events { chunked: false } => Bytes::from_static(b"\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_chunk_of_its_length() {
        let frame = TextFrame::new(r#"{"type":"heartbeat","pv":"abcd2345.42"}"#);
        let event = "event: heartbeat\nid: abcd2345.42\ndata: {\"pv\":\"abcd2345.42\"}\n\n";
        assert_eq!(Speech::Events { chunked: false }.text(&frame), event);
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        assert_eq!(Speech::Events { chunked: true }.text(&frame), chunk);
        assert_eq!(Speech::WebSocket.text(&frame), frame.whole());
    }
}
