//! Forms of the OAuth endpoints, and how a client says who it is in them.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use actix_web::http::header::{self, HeaderMap};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, dev};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use url::form_urlencoded;

use super::super::json::read_bytes;
use super::error::OAuthError;
use crate::domain::TenantName;
use crate::domain::limits::BODY_BYTES_MAX;
use crate::token::Login;

/// The parameters of a form. An empty one counts as not being there; one that is there twice is refused (RFC 6749, 3.2).
/// Unknown ones are ignored.
pub(super) struct Form(BTreeMap<String, String>);

impl Form {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, OAuthError> {
        let mut parameters = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(bytes) {
            if parameters.insert(name.to_string(), value.into_owned()).is_some() {
                return Err(OAuthError::invalid_request(format!("{name:?} is there more than once")));
            }
        }
        parameters.retain(|_, value| !value.is_empty());
        Ok(Self(parameters))
    }

    /// A parameter that need not be there.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A parameter that must be there.
    pub(super) fn require(&self, name: &str) -> Result<&str, OAuthError> {
        self.get(name).ok_or_else(|| OAuthError::invalid_request(format!("{name} is missing")))
    }

    /// Who the client says it is: by `Basic` or in the form, not both.
    pub(super) fn client(&self, headers: &HeaderMap) -> Result<Login, OAuthError> {
        let tenant = self.get("tenant").map_or_else(|| TenantName::first().to_string(), str::to_owned);
        match (basic(headers)?, self.get("client_secret")) {
            (Some(_), Some(_)) => Err(OAuthError::invalid_request("the client authenticates in two ways")),
            (Some((user, password)), None) => Ok(Login { tenant, user, password }),
            (None, Some(secret)) => {
                let user = self.require("client_id")?.to_owned();
                Ok(Login { tenant, user, password: secret.to_owned() })
            }
            (None, None) => Err(OAuthError::invalid_client("the client does not say who it is")),
        }
    }
}

/// User and password of `Authorization: Basic` (RFC 7617), each percent-decoded (RFC 6749, 2.3.1).
pub(super) fn basic(headers: &HeaderMap) -> Result<Option<(String, String)>, OAuthError> {
    let Some(value) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) else {
        return Ok(None);
    };
    let Some((scheme, credentials)) = value.split_once(' ') else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case("basic") {
        return Ok(None);
    }
    let read = || {
        let text = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        let decode = |part: &str| percent_decode_str(part).decode_utf8().ok().map(std::borrow::Cow::into_owned);
        Some((decode(user)?, decode(password)?))
    };
    read().map(Some).ok_or_else(|| OAuthError::invalid_client("the Authorization header cannot be read"))
}

impl FromRequest for Form {
    type Error = OAuthError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, OAuthError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        let payload = payload.take();
        Box::pin(async move {
            let bytes = read_bytes(&request, payload, BODY_BYTES_MAX).await?;
            if !request.content_type().eq_ignore_ascii_case("application/x-www-form-urlencoded") {
                return Err(OAuthError::invalid_request("a body here is application/x-www-form-urlencoded"));
            }
            Self::parse(&bytes)
        })
    }
}
