//! `POST /oauth/token`.

use actix_web::{HttpRequest, HttpResponse, web};

use super::super::auth::at_least;
use super::super::edge;
use super::super::problem::Problem;
use super::cookie::Cookie;
use super::error::OAuthError;
use super::form::Form;
use super::{client, exchange, token_response};
use crate::domain::limits::AT_LEAST_WAIT;
use crate::feed::Feed;
use crate::gate::Gate;
use crate::token::Sessions;

/// Exchanges a grant for tokens.
pub(super) async fn token(
    request: HttpRequest,
    form: Form,
    sessions: web::Data<Sessions>,
    feed: web::Data<Feed>,
    gate: web::Data<Gate>,
) -> Result<HttpResponse, OAuthError> {
    match form.require("grant_type")? {
        "refresh_token" => refresh(&request, &form, &sessions, &feed).await,
        "client_credentials" => {
            let login = form.client(request.headers())?;
            let issued = sessions.client_credentials(login, &client(&request)).await?;
            Ok(token_response(&issued, None))
        }
        exchange::GRANT_TYPE => exchange::exchange(&request, &form, &sessions, &gate).await,
        _ => Err(OAuthError::unsupported_grant_type(
            "grant_type is refresh_token, client_credentials or that of token exchange",
        )),
    }
}

async fn refresh(
    request: &HttpRequest,
    form: &Form,
    sessions: &Sessions,
    feed: &Feed,
) -> Result<HttpResponse, OAuthError> {
    let by_cookie = Cookie::of(sessions);
    let (token, cookie) = if let Some(token) = form.get("refresh_token") {
        (token.to_owned(), None)
    } else {
        let missing = || OAuthError::invalid_request("refresh_token is missing, and there is no cookie");
        let token = by_cookie.read(request).ok_or_else(missing)?;
        if !by_cookie.is_own_page(request) {
            return Err(OAuthError::foreign_page());
        }
        (token, Some(&by_cookie))
    };
    let at_least = at_least(request.headers())?;
    if let Some(version) = at_least {
        // Before the token is used up: who must come again later comes with the same one.
        feed.wait_for(version, AT_LEAST_WAIT).await.map_err(Problem::from)?;
    }
    match sessions.refresh(&token, at_least, &edge::origin(request)).await {
        Ok(issued) => Ok(token_response(&issued, cookie)),
        Err(error) => {
            let error = OAuthError::from(error);
            // Of a session that is over the browser need not keep the cookie.
            Err(match cookie {
                Some(cookie) if error.is_final() => error.with_cookie(cookie.clear()),
                _ => error,
            })
        }
    }
}
