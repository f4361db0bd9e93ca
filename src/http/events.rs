//! `GET /v1/events` as the first request of a connection: it is answered on the socket itself, past the router and the HTTP
//! connection, whose buffers would stay as long as the answer, which does not end.
//!
//! Seen by a look at the first bytes, before anything is read. Whoever asks for events on a connection that was used before, or
//! under TLS, is answered by the router to the same effect.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use actix_codec::Framed;
use actix_http::body::BodySize;
use actix_http::{ConnectionType, ResponseHead, ServiceConfig, h1};
use actix_web::ResponseError as _;
use actix_web::http::Version;
use actix_web::web::BytesMut;
use futures_util::StreamExt as _;
use tokio::net::TcpStream;
use tokio_util::codec::Encoder as _;

use super::edge::Seen;
use super::problem::Problem;
use super::push::admit_to_events;
use super::upgrade::{Door, Handed, REFUSED_WITHIN, send_away};
use crate::socket::lean::{self, Speech, Worker};
use crate::socket::sse;

const PATH: &str = "/v1/events";
/// How such a request begins, up to what ends its path.
const BEGINS: &[u8] = b"GET /v1/events";

/// Whether the first bytes, once there are any, ask for events. Of fewer bytes than tell, not.
pub(super) async fn are_asked_for(socket: &TcpStream) -> bool {
    let mut first = [0; BEGINS.len() + 1];
    let there = socket.peek(&mut first).await.unwrap_or(0);
    there == first.len() && first.starts_with(BEGINS) && matches!(first[BEGINS.len()], b' ' | b'?')
}

/// Answers the request that lies ready, and goes on with the socket.
pub(super) async fn answer(
    door: &Door,
    worker: &Rc<Worker>,
    config: ServiceConfig,
    socket: TcpStream,
    peer: Option<SocketAddr>,
    within: Duration,
) {
    let mut framed: Handed<TcpStream> = Framed::new(socket, h1::Codec::new(config));
    let request = match tokio::time::timeout(within, framed.next()).await {
        Ok(Some(Ok(h1::Message::Item(request)))) => request,
        Ok(Some(Err(_))) => {
            let refused = Problem::malformed("this is no HTTP request").error_response().into();
            let _ = tokio::time::timeout(REFUSED_WITHIN, send_away(framed, refused, false)).await;
            return;
        }
        _ => return,
    };
    let head = request.head();
    let client = door.proxies.address_of(peer.map_or(IpAddr::from([0; 4]), |peer| peer.ip()), head.headers());
    let seen = door.services.as_ref().map(|services| Seen::new(head, client, Some(&door.origins), services));
    let around = |response: &mut ResponseHead| {
        if let (Some(seen), Some(services)) = (&seen, &door.services) {
            seen.decorate(response.headers_mut(), services);
            seen.record(response.status, PATH.to_owned(), services);
        }
    };
    match admit_to_events(head, client, &door.sockets, &door.origins).await {
        Ok((seat, token)) => {
            let chunked = head.version == Version::HTTP_11;
            let mut answer = actix_http::Response::from(sse::head().finish()).drop_body();
            around(answer.head_mut());
            answer.head_mut().set_connection_type(ConnectionType::Close);
            let mut parts = framed.into_parts();
            let mut bytes = BytesMut::new();
            let _ = parts.codec.encode(h1::Message::Item((answer, BodySize::Stream)), &mut bytes);
            lean::accept(worker, parts.io, Speech::Events { chunked }, bytes.freeze(), b"", seat, Some(token));
        }
        Err(problem) => {
            let mut refused = actix_http::Response::from(problem.error_response());
            around(refused.head_mut());
            let _ = tokio::time::timeout(REFUSED_WITHIN, send_away(framed, refused, false)).await;
        }
    }
}
