//! `POST /oauth/introspect` (RFC 7662): what another service needs to know of a token, as it stands now.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::super::auth::bearer;
use super::error::OAuthError;
use super::form::{Form, basic};
use super::{client, no_store};
use crate::domain::{Access, Freshness};
use crate::feed::Feed;
use crate::gate::{Denied, Gate, Identified};
use crate::token::{Backing, Sessions};

/// What is so about a token, for one who may ask.
pub(super) async fn introspect(
    request: HttpRequest,
    form: Form,
    sessions: web::Data<Sessions>,
    gate: web::Data<Gate>,
    feed: web::Data<Feed>,
) -> Result<HttpResponse, OAuthError> {
    let caller = caller(&request, &form, &sessions, &gate).await?;
    let token = form.require("token")?;
    let known = gate.identify_with_new_keys(token).await.ok();
    let answer = match known.filter(|known| may_ask(&caller, known)) {
        Some(known) => describe(&known, &sessions, &gate, &feed).await?,
        None => None,
    };
    Ok(HttpResponse::Ok().insert_header(no_store()).json(answer.unwrap_or_else(|| json!({"active": false}))))
}

/// Who asks: by a token, or as a service account by its secret.
async fn caller(
    request: &HttpRequest,
    form: &Form,
    sessions: &Sessions,
    gate: &Gate,
) -> Result<Arc<Access>, OAuthError> {
    let headers = request.headers();
    if basic(headers)?.is_none() && form.get("client_secret").is_none() {
        let token = bearer(headers).map_err(|_| OAuthError::invalid_client("the caller does not say who it is"))?;
        return Ok(gate.caller(token).await?.access);
    }
    let somebody = sessions.authenticate_service(form.client(headers)?, &client(request)).await?;
    let found = gate.access_of(&somebody.tenant, &somebody.credentials.user).await?;
    found.map(|found| found.access).ok_or_else(|| OAuthError::invalid_client("the caller is not active"))
}

fn may_ask(caller: &Access, known: &Identified) -> bool {
    let permissions = &caller.permissions;
    permissions.is_operator() || (caller.tenant == known.verified.claims.tenant && permissions.may_check())
}

/// The token as it is, its user's roles and permissions as they are now. `None`: he is not active.
async fn describe(known: &Identified, sessions: &Sessions, gate: &Gate, feed: &Feed) -> Result<Option<Value>, Denied> {
    let claims = &known.verified.claims;
    let pv = feed.applied();
    let Some(found) = gate.access_of(&claims.tenant, &claims.user).await? else { return Ok(None) };
    let (issuer, subject) = match &claims.backing {
        Backing::Session(_) => (sessions.issuer().to_owned(), format!("{}/{}", claims.tenant, claims.user)),
        Backing::Identity(identity) => (identity.issuer.clone(), identity.subject.clone()),
    };
    Ok(Some(json!({
        "active": true,
        "token_type": "Bearer",
        "iss": issuer,
        "aud": sessions.audience(),
        "sub": subject,
        "username": claims.user,
        "client_id": claims.client_id,
        "iat": claims.issued_at.seconds(),
        "exp": claims.expires_at.seconds(),
        "jti": claims.jti,
        "tenant": claims.tenant,
        "sid": claims.session(),
        "pv": pv,
        "stale": known.freshness != Freshness::Fresh,
        "roles": found.access.roles,
        "permissions": found.access.permissions.grants(),
    })))
}
