//! The server on its listener: the router for requests, and for upgrades the door behind which a connection of push needs
//! no HTTP any more.

use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpService, Protocol, ServiceConfig};
use actix_server::GracefulShutdownSignal;
use actix_service::{
    IntoServiceFactory as _, Service, ServiceFactory as _, ServiceFactoryExt as _, fn_factory, fn_service, map_config,
};
use actix_web::dev::{AppConfig, Server};
use actix_web::{App, Error, web};
use tokio::net::TcpStream;

use super::events;
use super::stream::Stream;
use super::tls::{Tls, Turn};
pub use super::upgrade::Door;
use super::upgrade::upgrade;
use crate::socket::lean::{LINGER, Worker};

/// How long the kernel waits for a client to acknowledge what was sent. With the next heartbeat at the latest, one who
/// vanished without a word is noticed by that.
const VANISHED_WITHIN: Duration = Duration::from_secs(20);
/// Connections that the kernel holds ready until they are taken: a herd that comes back at once.
const BACKLOG: i32 = 4096;
/// Seconds for requests to be answered when the server stops.
const SHUTDOWN_SECONDS: u64 = 5;
/// Time for the head of a request.
const HEAD_WITHIN: Duration = Duration::from_secs(5);

/// Serves what [`super::configure`] lists, with the services that `services` hands to the router.
pub fn serve(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    door: Door,
    services: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
    workers: Option<usize>,
) -> std::io::Result<Server> {
    let address = listener.local_addr()?;
    // It listens already, but for fewer.
    rustix::net::listen(&listener, BACKLOG)?;
    let mut builder = Server::build().disable_signals().shutdown_timeout(SHUTDOWN_SECONDS);
    if let Some(workers) = workers {
        builder = builder.workers(workers);
    }
    let stopping = builder.graceful_shutdown_signal();
    // Called once on each worker thread.
    let builder = builder.listen("http", listener, move || {
        let (door, services, stopping) = (Rc::new(door.clone()), services.clone(), stopping.clone());
        let worker = Worker::new(door.sockets.clone().into_inner());
        let way = tls.clone().map(|tls| (tls, Turn::new())).map(Rc::new);
        let router = App::new()
            .wrap(actix_web::middleware::from_fn(super::edge::around))
            .configure(services)
            .configure(super::configure)
            .into_factory()
            .map_err(|error: Error| error.error_response());
        let (upgrading, at_work, ends) = (Rc::clone(&door), Rc::clone(&worker), stopping.clone());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = ends.clone();
                async move { stopping.notified().await }
            })
            .client_request_timeout(HEAD_WITHIN)
            // What is behind the last answer is read for a moment, so that the answer arrives.
            .client_disconnect_timeout(LINGER)
            .local_addr(address)
            .upgrade(fn_service(move |handed| upgrade(Rc::clone(&upgrading), Rc::clone(&at_work), handed)))
            .finish(map_config(router, move |()| AppConfig::default()));
        fn_factory(move || {
            let (door, worker, way, stopping) = (Rc::clone(&door), Rc::clone(&worker), way.clone(), stopping.clone());
            let making = http.new_service(());
            async move {
                let config = ServiceConfig::default();
                let entrance = Rc::new(Entrance { http: making.await?, door, worker, config, way, stopping });
                Ok::<_, ()>(fn_service(move |socket| enter(Rc::clone(&entrance), socket)))
            }
        })
    })?;
    Ok(builder.run())
}

/// Where sockets come in, on one worker thread.
struct Entrance<H> {
    http: H,
    door: Rc<Door>,
    worker: Rc<Worker>,
    /// Of answers that are written past the HTTP connection.
    config: ServiceConfig,
    way: Option<Rc<(Arc<Tls>, Turn)>>,
    stopping: GracefulShutdownSignal,
}

/// Leads a socket to where what is asked for first is answered.
async fn enter<H>(entrance: Rc<Entrance<H>>, socket: TcpStream) -> Result<(), DispatchError>
where
    H: Service<(Stream, Protocol, Option<SocketAddr>), Response = (), Error = DispatchError>,
{
    let Entrance { http, door, worker, config, way, stopping } = &*entrance;
    let (stream, protocol, peer) = greet(way.clone(), socket).await?;
    let stream = match stream {
        under_tls @ Stream::Tls(_) => under_tls,
        Stream::Plain(socket) => {
            let asked = tokio::select! {
                asked = tokio::time::timeout(HEAD_WITHIN, events::are_asked_for(&socket)) => asked,
                () = stopping.notified() => return Ok(()),
            };
            match asked {
                Ok(false) => Stream::Plain(socket),
                Ok(true) => {
                    events::answer(door, worker, config.clone(), socket, peer, HEAD_WITHIN).await;
                    return Ok(());
                }
                // Who says nothing is answered nothing.
                Err(_) => return Ok(()),
            }
        }
    };
    http.call((stream, protocol, peer)).await
}

/// What is done with a socket before there is HTTP on it.
async fn greet(
    way: Option<Rc<(Arc<Tls>, Turn)>>,
    socket: TcpStream,
) -> Result<(Stream, Protocol, Option<SocketAddr>), DispatchError> {
    let within = u32::try_from(VANISHED_WITHIN.as_millis()).unwrap_or(u32::MAX);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&socket, within);
    // A frame must not wait for the client to acknowledge the one before.
    let _ = socket.set_nodelay(true);
    let peer = socket.peer_addr().ok();
    let stream = match way.as_deref() {
        None => Stream::Plain(socket),
        Some((tls, turn)) => Stream::Tls(Box::new(tls.accept(turn, socket).await?)),
    };
    Ok((stream, Protocol::Http1, peer))
}
