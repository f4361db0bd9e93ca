//! Token exchange (RFC 8693): a trusted issuer's token for a session of ours.

use actix_web::{HttpRequest, HttpResponse};

use super::cookie::Cookie;
use super::error::OAuthError;
use super::form::Form;
use super::{client, exchanged_response};
use crate::gate::{Denied, Gate};
use crate::issuer::Use;
use crate::token::Sessions;

/// The grant type.
pub(super) const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// What is issued.
pub(super) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// Opens a session for whom the subject token names.
pub(super) async fn exchange(
    request: &HttpRequest,
    form: &Form,
    sessions: &Sessions,
    gate: &Gate,
) -> Result<HttpResponse, OAuthError> {
    let token = form.require("subject_token")?;
    let r#use = match form.require("subject_token_type")? {
        ACCESS_TOKEN => Use::AccessToken,
        ID_TOKEN => Use::IdToken,
        JWT => Use::Any,
        _ => return Err(OAuthError::invalid_request("subject_token_type is access_token, id_token or jwt")),
    };
    if form.get("requested_token_type").is_some_and(|wanted| wanted != ACCESS_TOKEN) {
        return Err(OAuthError::invalid_request("requested_token_type is access_token"));
    }
    if form.get("actor_token").is_some() {
        return Err(OAuthError::invalid_request("nobody acts for another here: there is no actor_token"));
    }
    let is_ours = |target: &str| target == sessions.audience() || target == sessions.issuer();
    if [form.get("audience"), form.get("resource")].into_iter().flatten().any(|target| !is_ours(target)) {
        return Err(OAuthError::invalid_target());
    }
    let cookie = match form.get("cookie") {
        Some("true") => {
            let cookie = Cookie::of(sessions);
            // Else a page of another origin could sign its visitor in as somebody else.
            if !cookie.is_own_page(request) {
                return Err(OAuthError::foreign_page());
            }
            Some(cookie)
        }
        _ => None,
    };
    let named = async {
        match gate.subject(token, r#use).await {
            Ok(subject) => Ok(Some(subject)),
            // Unknown, suspended, signed out, or a token that does not hold: which of them is not told.
            Err(Denied::Token(_) | Denied::Ended) => Ok(None),
            Err(denied) => Err(OAuthError::from(denied)),
        }
    };
    let issued = sessions.exchange(token, &client(request), named).await?;
    Ok(exchanged_response(&issued, cookie.as_ref()))
}
