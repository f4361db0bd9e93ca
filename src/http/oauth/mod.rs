//! Sign-in, tokens and what belongs to them (RFC 6749, 7009, 7517, 7662, 8414).

mod cookie;
mod error;
mod exchange;
mod form;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod introspect;
mod login;
mod metadata;
mod revoke;
mod token;

use actix_web::http::header::{self, CacheControl, CacheDirective};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use super::client::client_address;
use super::edge;
use super::route::Routes;
use crate::domain::{Origin, Version};
use crate::token::{Client, Issued};

/// What is served here. Takes [`Sessions`](crate::token::Sessions), [`KeySet`](crate::token::KeySet),
/// [`Verifier`](crate::token::Verifier), [`Gate`](crate::gate::Gate), [`Feed`](crate::feed::Feed) and
/// [`Origins`](super::origin::Origins).
pub fn routes(routes: &mut Routes) {
    routes
        .post("/v1/login", login::login)
        .post("/v1/logout", login::logout)
        .post("/oauth/token", token::token)
        .post("/oauth/revoke", revoke::revoke)
        .post("/oauth/introspect", introspect::introspect)
        .get("/.well-known/jwks.json", metadata::jwks)
        .get("/.well-known/oauth-authorization-server", metadata::metadata);
}

/// RFC 6749, 5.1.
#[derive(Serialize)]
struct TokenResponse<'a> {
    access_token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_token_type: Option<&'static str>,
    token_type: &'static str,
    expires_in: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    pv: Version,
}

/// The answer that bears tokens. With a cookie the refresh token goes into that, where no script can read it.
fn token_response(issued: &Issued, cookie: Option<&cookie::Cookie>) -> HttpResponse {
    respond(issued, cookie, None)
}

/// The same to a token exchange, which is told what it got (RFC 8693, 2.2.1).
fn exchanged_response(issued: &Issued, cookie: Option<&cookie::Cookie>) -> HttpResponse {
    respond(issued, cookie, Some(exchange::ACCESS_TOKEN))
}

fn respond(issued: &Issued, cookie: Option<&cookie::Cookie>, issued_token_type: Option<&'static str>) -> HttpResponse {
    let refresh_token = issued.refresh_token.as_ref().map(|token| token.0.as_str());
    let mut answer = HttpResponse::Ok();
    answer.insert_header(no_store());
    let in_body = match (cookie, refresh_token) {
        (Some(cookie), Some(token)) => {
            answer.insert_header((header::SET_COOKIE, cookie.set(token)));
            None
        }
        (_, token) => token,
    };
    answer.json(TokenResponse {
        access_token: &issued.access.token,
        issued_token_type,
        token_type: "Bearer",
        expires_in: issued.access.expires_in,
        refresh_token: in_body,
        pv: issued.access.version,
    })
}

fn no_store() -> CacheControl {
    CacheControl(vec![CacheDirective::NoStore])
}

/// Who asks.
fn client(request: &HttpRequest) -> Client {
    let agent = request.headers().get(header::USER_AGENT).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let Origin { request: id, .. } = edge::origin(request);
    Client { address: client_address(request), user_agent: agent.unwrap_or_default().into_owned(), request: id }
}

fn text(request: &HttpRequest, name: header::HeaderName) -> Option<&str> {
    request.headers().get(name)?.to_str().ok()
}

#[cfg(test)]
#[path = "oauth_tests.rs"]
mod tests;
