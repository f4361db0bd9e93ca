//! Upgrades, which the server hands over with their sockets, past the router and all that is around it: `GET /v1/ws` goes
//! on as a connection of push, every other one is refused and closed.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use actix_codec::{AsyncRead, AsyncWrite, Framed};
use actix_http::body::{BodySize, BoxBody, MessageBody as _};
use actix_http::{Request, Response, ResponseHead, h1};
use actix_web::http::{Method, header};
use actix_web::web::{self, Bytes, BytesMut};
use actix_web::{HttpResponse, ResponseError as _, body};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::codec::Encoder as _;

use super::Services;
use super::client::TrustedProxies;
use super::edge::Seen;
use super::origin::Origins;
use super::problem::Problem;
use super::push::{Welcome, handshake};
use crate::protocol::socket::SUBPROTOCOL;
use crate::socket::Sockets;
use crate::socket::lean::{self, LINGER, Speech, Worker};

const PATH: &str = "/v1/ws";
/// Time for a refusal to be written.
pub(super) const REFUSED_WITHIN: Duration = Duration::from_secs(5);

/// What an upgrade is looked at with.
#[derive(Clone)]
pub struct Door {
    pub sockets: web::Data<Sockets>,
    pub origins: web::Data<Origins>,
    pub proxies: web::Data<TrustedProxies>,
    /// What is around every request: its id, the log. Without it an answer says less.
    pub services: Option<web::Data<Services>>,
}

/// The HTTP connection as the server hands it over.
pub(super) type Handed<S> = Framed<S, h1::Codec>;

/// Takes a socket in, or sends it away.
pub(super) async fn upgrade<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    door: Rc<Door>,
    worker: Rc<Worker>,
    (request, framed): (Request, Handed<S>),
) -> Result<(), Infallible> {
    let (head, peer) = (request.head(), request.peer_addr());
    let client =
        door.proxies.address_of(peer.map_or(IpAddr::from([0; 4]), |peer: SocketAddr| peer.ip()), head.headers());
    let seen = door.services.as_ref().map(|services| Seen::new(head, client, Some(&door.origins), services));
    let around = |response: &mut ResponseHead| {
        if let (Some(seen), Some(services)) = (&seen, &door.services) {
            seen.decorate(response.headers_mut(), services);
            let route = if head.uri.path() == PATH { PATH } else { "none" };
            seen.record(response.status, route.to_owned(), services);
        }
    };
    match look_at(&door, &request, client).await {
        Ok(Welcome { seat, token, named }) => {
            let mut answer = actix_http::ws::handshake_response(head);
            if named {
                answer.insert_header((header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL));
            }
            let mut answer = answer.message_body(()).unwrap_or_else(|_| Response::internal_server_error().drop_body());
            around(answer.head_mut());
            let parts = framed.into_parts();
            let mut codec = parts.codec;
            let mut bytes = BytesMut::from(&parts.write_buf[..]);
            let _ = codec.encode(h1::Message::Item((answer, BodySize::None)), &mut bytes);
            // The buffers go with the parts.
            lean::accept(&worker, parts.io, Speech::WebSocket, bytes.freeze(), &parts.read_buf, seat, token);
        }
        Err(refused) => {
            let mut refused = Response::<BoxBody>::from(*refused);
            around(refused.head_mut());
            let _ = tokio::time::timeout(REFUSED_WITHIN, send_away(framed, refused, head.method == Method::HEAD)).await;
        }
    }
    Ok(())
}

async fn look_at(door: &Door, request: &Request, client: IpAddr) -> Result<Welcome, Box<HttpResponse>> {
    if request.path() != PATH {
        return Err(Problem::malformed("only GET /v1/ws can be upgraded").error_response().into());
    }
    if request.method() != Method::GET {
        return Err(Problem::method_not_allowed("GET, HEAD, OPTIONS".to_owned()).error_response().into());
    }
    handshake(request.head(), client, &door.sockets, &door.origins).await
}

/// Writes an answer and ends the connection: behind an upgrade that is refused nothing can be trusted to be HTTP.
pub(super) async fn send_away<S: AsyncRead + AsyncWrite + Unpin>(
    framed: Handed<S>,
    mut refused: Response<BoxBody>,
    bare: bool,
) -> std::io::Result<()> {
    refused.head_mut().set_connection_type(actix_http::ConnectionType::Close);
    let size = refused.body().size();
    let (head, refusal) = refused.into_parts();
    let body: Bytes = body::to_bytes(refusal).await.unwrap_or_default();
    let mut parts = framed.into_parts();
    let mut bytes = parts.write_buf;
    parts.codec.encode(h1::Message::Item((head, size)), &mut bytes)?;
    if !bare {
        bytes.extend_from_slice(&body);
    }
    parts.io.write_all(&bytes).await?;
    parts.io.shutdown().await?;
    // Closing over what was not read would take the answer back.
    let mut rest = [0; 512];
    let read = async { while parts.io.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
    let _ = tokio::time::timeout(LINGER, read).await;
    Ok(())
}
