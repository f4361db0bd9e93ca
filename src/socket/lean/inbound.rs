//! What came from a client and is no message yet. Pure; there is none of it while the client says nothing.
//!
//! The frames are read by `actix_http`'s codec, which holds masks, reserved bits, opcodes, fragments and control frames to
//! RFC 6455. It waits for the whole of a frame before it looks at its size, so that is done here, at the head.

use actix_http::ws::{Codec, Frame, Item, Parser, ProtocolError};
use actix_web::web::{Bytes, BytesMut};
use bytestring::ByteString;
use tokio_util::codec::Decoder as _;

use crate::domain::limits::SOCKET_MESSAGE_BYTES_MAX;
use crate::socket::Received;

/// Bytes, and the parts of a message.
pub(super) struct Inbound {
    codec: Codec,
    bytes: BytesMut,
    /// The parts of a text that came so far.
    parts: Option<BytesMut>,
}

/// What a client did.
#[cfg_attr(test, derive(Debug))]
pub(super) enum Said {
    Received(Received),
    /// To be answered with the same.
    Ping(Bytes),
    /// It ends, for this reason; to be answered with the same.
    Close(Bytes),
}

impl Inbound {
    /// Nothing but what came so far.
    pub(super) fn new(bytes: &[u8]) -> Self {
        let codec = Codec::new().max_size(SOCKET_MESSAGE_BYTES_MAX);
        Self { codec, bytes: BytesMut::from(bytes), parts: None }
    }

    /// More came.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether it may be forgotten.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.parts.is_none()
    }

    /// The next thing that is whole. After what ends the connection it is not to be asked again.
    pub(super) fn next(&mut self) -> Option<Said> {
        let parts = self.parts.as_ref().map_or(0, BytesMut::len);
        if announced(&self.bytes).is_some_and(|length| length > (SOCKET_MESSAGE_BYTES_MAX - parts) as u64)
            && self.bytes[1] & 0x80 != 0
        {
            return Some(Said::Received(Received::TooLarge));
        }
        let received = match self.codec.decode(&mut self.bytes) {
            Ok(None) => return None,
            Ok(Some(Frame::Text(text))) => whole(text),
            Ok(Some(Frame::Binary(_) | Frame::Continuation(Item::FirstBinary(_)))) => Received::Binary,
            Ok(Some(Frame::Continuation(Item::FirstText(part)))) => {
                self.parts = Some(BytesMut::from(&part[..]));
                Received::Part
            }
            Ok(Some(Frame::Continuation(Item::Continue(part)))) => {
                self.parts.get_or_insert_default().extend_from_slice(&part);
                Received::Part
            }
            Ok(Some(Frame::Continuation(Item::Last(part)))) => {
                let mut all = self.parts.take().unwrap_or_default();
                all.extend_from_slice(&part);
                whole(all.freeze())
            }
            Ok(Some(Frame::Ping(bytes))) => return Some(Said::Ping(bytes)),
            Ok(Some(Frame::Pong(_))) => Received::Part,
            Ok(Some(Frame::Close(reason))) => {
                let mut frame = BytesMut::new();
                Parser::write_close(&mut frame, reason, false);
                return Some(Said::Close(frame.freeze()));
            }
            Err(ProtocolError::Overflow) => Received::TooLarge,
            Err(_) => Received::Violation,
        };
        Some(Said::Received(received))
    }
}

/// A text that came to its end.
fn whole(text: Bytes) -> Received {
    ByteString::try_from(text).map_or(Received::NotUtf8, Received::Text)
}

/// The size that the next frame says it has, once its head is there.
fn announced(bytes: &[u8]) -> Option<u64> {
    match bytes.get(1)? & 0x7f {
        126 => Some(u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => Some(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        short => Some(u64::from(short)),
    }
}
