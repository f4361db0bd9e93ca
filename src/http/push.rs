//! Push: `GET /v1/ws`, `GET /v1/events`, and for whom neither passes `GET /v1/me/freshness`. They accept stale tokens.

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::dev::RequestHead;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    self, CacheControl, CacheDirective, EntityTag, Header as _, HeaderMap, HeaderValue, IfNoneMatch,
};
use actix_web::{HttpRequest, HttpResponse, ResponseError as _, web};
use serde_json::json;

use super::auth::bearer;
use super::client::client_address;
use super::origin::Origins;
use super::problem::Problem;
use super::route::Routes;
use crate::domain::floors::Freshness;
use crate::hub::Seat;
use crate::protocol::problem::ProblemType;
use crate::protocol::socket::{BEARER_PREFIX, SUBPROTOCOL};
use crate::socket::{Refusal, Sockets, sse, ws};
use crate::token::Verified;

/// What is served here. Takes [`Sockets`] and [`Origins`].
pub fn routes(routes: &mut Routes) {
    routes.get("/v1/ws", web_socket).get("/v1/events", events).get("/v1/me/freshness", freshness);
}

/// The subprotocols that a handshake offers.
#[derive(Debug, PartialEq, Eq)]
struct Offer<'a> {
    /// Whether ours is among them.
    ours: bool,
    /// Whether there are any.
    any: bool,
    token: Option<&'a str>,
}

impl<'a> Offer<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        let mut offer = Self { ours: false, any: false, token: None };
        let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).filter_map(|value| value.to_str().ok());
        for protocol in values.flat_map(|value| value.split(',')).map(str::trim) {
            offer.any = true;
            offer.ours |= protocol == SUBPROTOCOL;
            offer.token = offer.token.or(protocol.strip_prefix(BEARER_PREFIX));
        }
        offer
    }
}

async fn web_socket(
    request: HttpRequest,
    payload: web::Payload,
    sockets: web::Data<Sockets>,
    origins: web::Data<Origins>,
) -> Result<HttpResponse, Problem> {
    match handshake(request.head(), client_address(&request), &sockets, &origins).await {
        Ok(Welcome { seat, token, .. }) => ws::accept(&sockets.into_inner(), &request, payload, seat, token)
            .map_err(|_| Problem::malformed("this is no WebSocket handshake")),
        Err(refused) => Ok(*refused),
    }
}

/// A handshake that was found valid.
pub(super) struct Welcome {
    pub(super) seat: Seat,
    /// The token that came with it.
    pub(super) token: Option<Arc<Verified>>,
    /// Whether our subprotocol is among those that are offered.
    pub(super) named: bool,
}

/// Looks at a handshake, whatever carries the connection after it.
pub(super) async fn handshake(
    head: &RequestHead,
    client: IpAddr,
    sockets: &Sockets,
    origins: &Origins,
) -> Result<Welcome, Box<HttpResponse>> {
    actix_http::ws::verify_handshake(head).map_err(|error| Box::new(no_handshake(error)))?;
    let looked_at = async {
        // First, so that a herd costs next to nothing before it is let in.
        let seat = admit(client, sockets)?;
        check_origin(head.headers(), origins)?;
        let offer = Offer::of(head.headers());
        if offer.any && !offer.ours {
            return Err(Problem::malformed("the subprotocol here is permcast.v1"));
        }
        let token = match offer.token {
            Some(token) => Some(sockets.authority.identify(token).await.map_err(refused)?),
            None => None,
        };
        Ok(Welcome { seat, token, named: offer.ours })
    };
    looked_at.await.map_err(|problem: Problem| Box::new(problem.error_response()))
}

async fn events(
    request: HttpRequest,
    sockets: web::Data<Sockets>,
    origins: web::Data<Origins>,
) -> Result<HttpResponse, Problem> {
    let (seat, token) = admit_to_events(request.head(), client_address(&request), &sockets, &origins).await?;
    Ok(sse::accept(&sockets.into_inner(), seat, token))
}

/// Looks at who asks for events, whatever carries them.
pub(super) async fn admit_to_events(
    head: &RequestHead,
    client: IpAddr,
    sockets: &Sockets,
    origins: &Origins,
) -> Result<(Seat, Arc<Verified>), Problem> {
    let seat = admit(client, sockets)?;
    check_origin(head.headers(), origins)?;
    Ok((seat, identify(head.headers(), sockets).await?))
}

async fn freshness(request: HttpRequest, sockets: web::Data<Sockets>) -> Result<HttpResponse, Problem> {
    let token = identify(request.headers(), &sockets).await?;
    let (floors, applied) = (&sockets.floors, &sockets.applied);
    let own = token.basis.stamp();
    let (needed, stale) = match floors.freshness(&token.basis) {
        Freshness::Ended { .. } => return Err(refused(Refusal::Ended)),
        Freshness::Stale { needed } => (needed, true),
        Freshness::Fresh if token.access.is_some() => (own, false),
        // A thin token never goes stale by them, but what it stands for is to be read again when they change.
        Freshness::Fresh => {
            let (tenant, user) = (&token.claims.tenant, &token.claims.user);
            let found = sockets.authority.access_of(tenant, user).await.map_err(refused)?;
            let roles = found.as_ref().map(|found| &*found.access.roles).unwrap_or_default();
            (floors.highest(&floors.entry_basis(own, tenant, Some(user), roles.iter())).max(own), false)
        }
    };
    let pv = if needed == own && !stale { token.claims.version } else { applied.version_of(needed) };
    let tag = EntityTag::new_strong(format!("{pv}{}", if stale { "-stale" } else { "" }));
    let known = match IfNoneMatch::parse(&request) {
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(&tag)),
        Ok(IfNoneMatch::Any) | Err(_) => false,
    };
    let mut response = HttpResponse::build(if known { StatusCode::NOT_MODIFIED } else { StatusCode::OK });
    response
        .insert_header(header::ETag(tag))
        .insert_header(CacheControl(vec![CacheDirective::Private, CacheDirective::NoCache]))
        .insert_header((header::VARY, "Authorization"));
    Ok(if known { response.finish() } else { response.json(json!({ "pv": pv, "stale": stale })) })
}

/// What a request that is no handshake is told: of which kind it would have to be (RFC 9110, 15.5.22; RFC 6455, 4.4).
fn no_handshake(error: actix_http::ws::HandshakeError) -> HttpResponse {
    use actix_http::ws::HandshakeError;
    let upgrade = matches!(
        error,
        HandshakeError::NoWebsocketUpgrade | HandshakeError::NoConnectionUpgrade | HandshakeError::UnsupportedVersion
    );
    if !upgrade {
        return Problem::malformed("this is no WebSocket handshake").error_response();
    }
    let mut response = Problem::of_status(StatusCode::UPGRADE_REQUIRED).error_response();
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}

/// 403 for a page of another origin. Programs send none.
fn check_origin(headers: &HeaderMap, origins: &Origins) -> Result<(), Problem> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let foreign = headers.get_all(header::ORIGIN).any(|origin| !origin.to_str().is_ok_and(|o| origins.allows(o, host)));
    if foreign { Err(Problem::new(ProblemType::Forbidden, "this origin is not allowed")) } else { Ok(()) }
}

async fn identify(headers: &HeaderMap, sockets: &Sockets) -> Result<Arc<Verified>, Problem> {
    sockets.authority.identify(bearer(headers)?).await.map_err(refused)
}

fn refused(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::Token => Problem::invalid_token(ProblemType::Unauthenticated, "the token does not hold", None),
        Refusal::Ended => Problem::invalid_token(ProblemType::SessionEnded, "session ended", None),
        Refusal::Unavailable => Problem::new(ProblemType::Unavailable, "the token could not be looked at"),
    }
}

fn admit(client: IpAddr, sockets: &Sockets) -> Result<Seat, Problem> {
    if sockets.is_draining() {
        return Err(Problem::new(ProblemType::Unavailable, "this replica is about to stop"));
    }
    sockets.hub.admit(client).map_err(|full| {
        metrics::counter!("permcast_connections_refused_total", "why" => full.word()).increment(1);
        full.into()
    })
}

#[cfg(test)]
#[path = "push_tests.rs"]
mod tests;
