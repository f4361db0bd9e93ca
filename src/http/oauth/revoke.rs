//! `POST /oauth/revoke` (RFC 7009): who holds a token may end its session.

use actix_web::{HttpRequest, HttpResponse, web};

use super::super::edge;
use super::error::OAuthError;
use super::form::Form;
use super::no_store;
use crate::token::{Sessions, Verifier};

/// Ends the session of a token of either kind. One that is no token, or no longer, is revoked enough.
pub(super) async fn revoke(
    request: HttpRequest,
    form: Form,
    sessions: web::Data<Sessions>,
    verifier: web::Data<Verifier>,
) -> Result<HttpResponse, OAuthError> {
    let token = form.require("token")?;
    let session = match sessions.session_of(token) {
        Some(session) => Some(session),
        None => verifier.verify_with_new_keys(token).await.ok().and_then(|verified| verified.claims.session().cloned()),
    };
    if let Some(session) = session {
        sessions.end(&session, &edge::origin(&request)).await?;
    }
    Ok(HttpResponse::Ok().insert_header(no_store()).finish())
}
