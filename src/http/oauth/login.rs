//! `POST /v1/login` and `POST /v1/logout`.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};

use super::super::auth::bearer;
use super::super::edge;
use super::super::fields::Password;
use super::super::json::{JsonBody, Object};
use super::super::origin::Origins;
use super::super::problem::Problem;
use super::cookie::Cookie;
use super::{client, text, token_response};
use crate::domain::TenantName;
use crate::gate::Gate;
use crate::protocol::problem::ProblemType;
use crate::token::{Login, Sessions};

/// Signs a user in by his password.
pub(super) async fn login(
    request: HttpRequest,
    body: JsonBody,
    sessions: web::Data<Sessions>,
    origins: web::Data<Origins>,
) -> Result<HttpResponse, Problem> {
    let cookie = Cookie::of(&sessions);
    // Only JSON is read, which no page can send to another origin unasked; this is the second bolt.
    if let Some(origin) = text(&request, header::ORIGIN)
        && !origins.allows(origin, text(&request, header::HOST))
    {
        return Err(foreign());
    }
    let mut body = Object::body(body.0);
    let user = body.required::<String>("username");
    let password = body.required::<Password>("password");
    let tenant = body.optional::<String>("tenant").unwrap_or_else(|| TenantName::first().to_string());
    let by_cookie = body.optional::<bool>("cookie").unwrap_or(false);
    let login = user.zip(password).map(|(user, password)| Login { tenant, user, password: password.0 });
    let login = body.finish(login)?;
    if by_cookie && request.headers().contains_key(header::ORIGIN) && !cookie.is_own_page(&request) {
        return Err(foreign());
    }
    let issued = sessions.sign_in(login, &client(&request)).await?;
    Ok(token_response(&issued, by_cookie.then_some(&cookie)))
}

/// Ends the session of the token, be it stale; or, of a page of our own that has no token at hand, that of its cookie.
/// A token of a trusted issuer has none: it is for its issuer to end.
pub(super) async fn logout(
    request: HttpRequest,
    sessions: web::Data<Sessions>,
    gate: web::Data<Gate>,
) -> Result<HttpResponse, Problem> {
    let cookie = Cookie::of(&sessions);
    let session = match (request.headers().contains_key(header::AUTHORIZATION), cookie.read(&request)) {
        (false, Some(token)) if cookie.is_own_page(&request) => sessions.session_of(&token),
        _ => gate.identify_with_new_keys(bearer(request.headers())?).await?.verified.claims.session().cloned(),
    };
    if let Some(session) = session {
        sessions.end(&session, &edge::origin(&request)).await?;
    }
    Ok(HttpResponse::NoContent().insert_header((header::SET_COOKIE, cookie.clear())).finish())
}

fn foreign() -> Problem {
    Problem::new(ProblemType::Forbidden, "pages of this origin may not sign in here")
}
