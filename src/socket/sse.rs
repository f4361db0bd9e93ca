//! The same connection as server-sent events (HTML, 9.2): one way, the token in a header.

use std::convert::Infallible;
use std::sync::Arc;

use actix_web::http::header;
use actix_web::web::Bytes;
use actix_web::{HttpResponse, HttpResponseBuilder, http};
use futures_util::stream;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::{Carrier, Received, Refused, Sockets, task};
use crate::hub::Seat;
use crate::protocol::frame::TextFrame;
use crate::protocol::socket::CloseCode;
use crate::token::Verified;

/// Events between the connection's task and the response: the rest waits where it is merged.
const QUEUE: usize = 2;

/// The head of the answer.
pub fn head() -> HttpResponseBuilder {
    let mut head = HttpResponse::build(http::StatusCode::OK);
    head.content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // nginx would otherwise hold events back.
        .insert_header(("X-Accel-Buffering", "no"));
    head
}

/// Answers with a stream of the connection's messages, and runs it.
pub fn accept(sockets: &Arc<Sockets>, seat: Seat, token: Arc<Verified>) -> HttpResponse {
    let (sender, receiver) = mpsc::channel::<Bytes>(QUEUE);
    sockets.run(task::drive(Arc::clone(sockets), seat, Some(token), Events(Some(sender))));
    let body = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|event| (Ok::<_, Infallible>(event), receiver))
    });
    head().streaming(body)
}

struct Events(Option<mpsc::Sender<Bytes>>);

impl Carrier for Events {
    async fn receive(&mut self) -> Received {
        if let Some(sender) = &self.0 {
            sender.closed().await;
        }
        Received::Gone
    }

    async fn send(&mut self, frame: TextFrame) -> Result<(), Refused> {
        let sender = self.0.as_ref().ok_or(Refused)?;
        sender.send(event(&frame.text()).into()).await.map_err(|_| Refused)
    }

    async fn close(&mut self, _: CloseCode) {
        self.0 = None;
    }
}

/// `event:` is the message's type, `data:` the rest, `id:` its version.
pub(super) fn event(text: &str) -> String {
    let mut members: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    let kind = members.remove("type");
    let kind = kind.as_ref().and_then(Value::as_str).unwrap_or("error");
    let id = members.get("pv").and_then(Value::as_str).map(|pv| format!("id: {pv}\n")).unwrap_or_default();
    format!("event: {kind}\n{id}data: {}\n\n", Value::Object(members))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_named_after_its_message() {
        assert_eq!(
            event(r#"{"type":"heartbeat","pv":"abcd2345.42"}"#),
            "event: heartbeat\nid: abcd2345.42\ndata: {\"pv\":\"abcd2345.42\"}\n\n"
        );
        assert_eq!(event(r#"{"type":"unlocked","within_ms":7}"#), "event: unlocked\ndata: {\"within_ms\":7}\n\n");
    }
}
