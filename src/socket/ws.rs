//! A connection over a WebSocket. Thin: the protocol is in [`super::state`], the framing in `actix_ws`.

use std::io::ErrorKind;
use std::sync::Arc;

use actix_web::web::{self, BytesMut};
use actix_web::{HttpRequest, HttpResponse};
use actix_ws::{CloseReason, Item, Message, MessageStream, ProtocolError, Session};
use bytestring::ByteString;
use futures_util::FutureExt as _;

use super::{Carrier, Received, Refused, Sockets, task};
use crate::domain::limits::SOCKET_MESSAGE_BYTES_MAX;
use crate::hub::Seat;
use crate::protocol::frame::TextFrame;
use crate::protocol::socket::{CloseCode, SUBPROTOCOL};
use crate::token::Verified;

/// Answers a handshake that was found valid, and runs the connection.
pub fn accept(
    sockets: &Arc<Sockets>,
    request: &HttpRequest,
    payload: web::Payload,
    seat: Seat,
    token: Option<Arc<Verified>>,
) -> Result<HttpResponse, actix_web::Error> {
    let (response, session, stream) = actix_ws::handle_with_protocols(request, payload, &[SUBPROTOCOL])?;
    let stream = stream.max_frame_size(SOCKET_MESSAGE_BYTES_MAX);
    let carrier = WebSocket { session, stream, fragments: None };
    sockets.run(task::drive(Arc::clone(sockets), seat, token, carrier));
    Ok(response)
}

struct WebSocket {
    session: Session,
    stream: MessageStream,
    /// The parts of a text that came so far.
    fragments: Option<BytesMut>,
}

impl Carrier for WebSocket {
    async fn receive(&mut self) -> Received {
        match self.stream.recv().await {
            Some(Ok(message)) => self.message(message),
            Some(Err(ProtocolError::Overflow)) => Received::TooLarge,
            Some(Err(ProtocolError::Io(error))) if error.kind() != ErrorKind::InvalidData => Received::Gone,
            Some(Err(ProtocolError::Io(error))) if is_utf8_error(&error) => Received::NotUtf8,
            Some(Err(_)) => Received::Violation,
            None => Received::Gone,
        }
    }

    async fn send(&mut self, frame: TextFrame) -> Result<(), Refused> {
        self.session.text(frame.text()).await.map_err(|_| Refused)
    }

    async fn close(&mut self, code: CloseCode) {
        let reason = CloseReason { code: code.code().into(), description: Some(code.reason().to_owned()) };
        // Its clones share the channel. Where that is full nobody reads, and there is nothing to wait for.
        let _ = self.session.clone().close(Some(reason)).now_or_never();
    }
}

impl WebSocket {
    fn message(&mut self, message: Message) -> Received {
        match message {
            Message::Text(text) => return Received::Text(text),
            Message::Binary(_) | Message::Continuation(Item::FirstBinary(_)) => return Received::Binary,
            Message::Continuation(Item::FirstText(part)) => self.fragments = Some(BytesMut::from(&part[..])),
            Message::Continuation(Item::Continue(part)) => return self.append(&part).err().unwrap_or(Received::Part),
            Message::Continuation(Item::Last(part)) => {
                let whole = self.append(&part).map(|()| self.fragments.take().unwrap_or_default().freeze());
                return whole.map_or_else(
                    |refused| refused,
                    |whole| ByteString::try_from(whole).map_or(Received::NotUtf8, Received::Text),
                );
            }
            // One who pings and does not read is not answered.
            Message::Ping(bytes) => drop(self.session.pong(&bytes).now_or_never()),
            Message::Close(reason) => {
                let _ = self.session.clone().close(reason).now_or_never();
                return Received::Gone;
            }
            Message::Pong(_) | Message::Nop => {}
        }
        Received::Part
    }

    fn append(&mut self, part: &[u8]) -> Result<(), Received> {
        let fragments = self.fragments.get_or_insert_default();
        fragments.extend_from_slice(part);
        if fragments.len() > SOCKET_MESSAGE_BYTES_MAX { Err(Received::TooLarge) } else { Ok(()) }
    }
}

/// Whether a text was none; of other faults of the bytes the kind is the same.
fn is_utf8_error(error: &std::io::Error) -> bool {
    error.get_ref().and_then(|source| source.downcast_ref::<std::str::Utf8Error>()).is_some()
}
