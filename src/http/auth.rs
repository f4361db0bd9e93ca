//! Who calls: the bearer token, what it demands of freshness, and how long an answer may still be given.

use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::time::Duration;

use actix_web::http::header::{self, HeaderMap};
use actix_web::{FromRequest, HttpRequest, dev, web};

use super::edge;
use super::problem::Problem;
use crate::domain::limits::{AT_LEAST_WAIT, PREFER_WAIT_MAX};
use crate::domain::rules::Rights;
use crate::domain::{Access, Actor, Origin, TenantName, UserId, Version};
use crate::feed::{Feed, WaitError};
use crate::gate::{self, Denied, Gate};
use crate::protocol::problem::ProblemType;
use crate::token::{Backing, TokenError};

/// Of the demand for freshness.
const AT_LEAST: &str = "Permcast-At-Least";

/// A caller whose token holds and is fresh, at the version that he demanded or a later one.
pub struct Caller {
    inner: gate::Caller,
    token: String,
    origin: Origin,
}

/// A caller whose token holds, be it stale. For the few paths that accept one.
pub struct Known {
    inner: gate::Identified,
    token: String,
}

impl Deref for Caller {
    type Target = gate::Caller;
    fn deref(&self) -> &gate::Caller {
        &self.inner
    }
}

impl Deref for Known {
    type Target = gate::Identified;
    fn deref(&self) -> &gate::Identified {
        &self.inner
    }
}

impl Known {
    /// The token as it came.
    pub fn token(&self) -> &str {
        &self.token
    }
}

impl Caller {
    /// Authenticates a request. For handlers that must do so before they look at the body; the rest extract.
    pub async fn of(request: &HttpRequest) -> Result<Self, Problem> {
        let token = bearer(request.headers())?.to_owned();
        let gate = service::<Gate>(request)?;
        let mut inner = gate.caller(&token).await?;
        if let Some(version) = at_least(request.headers())? {
            service::<Feed>(request)?.wait_for(version, AT_LEAST_WAIT).await?;
            inner = gate.caller(&token).await?;
        }
        Ok(Self { inner, token, origin: edge::origin(request) })
    }

    /// His tenant.
    pub fn tenant(&self) -> &TenantName {
        &self.verified.claims.tenant
    }

    /// His id.
    pub fn user(&self) -> &UserId {
        &self.verified.claims.user
    }

    /// The token as it came.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// He, as the log and the audit trail name him.
    pub fn actor(&self) -> Actor {
        let claims = &self.verified.claims;
        let (tenant, user, origin) = (claims.tenant.clone(), claims.user.clone(), self.origin.clone());
        match &claims.backing {
            Backing::Session(session) => Actor::User { tenant, user, session: session.clone(), origin },
            Backing::Identity(identity) => {
                Actor::Bearer { tenant, user, identity: identity.clone(), as_of: claims.version.seq, origin }
            }
        }
    }

    /// 403, or 404 for another's tenant, unless he may manage `tenant`; with `None` unless he is an operator. As this
    /// replica knows it: where something is written, the store asks again under its lock.
    pub fn may_act(&self, tenant: Option<&TenantName>) -> Result<(), Problem> {
        may_act(&self.access, tenant)
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { Self::of(&request).await })
    }
}

impl FromRequest for Known {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let token = bearer(request.headers())?.to_owned();
            let inner = service::<Gate>(&request)?.identify(&token).await?;
            Ok(Self { inner, token })
        })
    }
}

/// Whether one with this access may manage `tenant`; with `None` whether he is an operator.
pub fn may_act(access: &Access, tenant: Option<&TenantName>) -> Result<(), Problem> {
    let reserved = access.permissions.grants().iter().filter(|grant| grant.is_reserved());
    let rights = Rights::User { tenant: access.tenant.clone(), permissions: reserved.cloned().collect() };
    Ok(rights.may_act(tenant)?)
}

/// A service that the composition root handed in.
pub fn service<T: 'static>(request: &HttpRequest) -> Result<&web::Data<T>, Problem> {
    request.app_data::<web::Data<T>>().ok_or_else(|| {
        tracing::error!(service = std::any::type_name::<T>(), "a service was not handed in");
        Problem::new(ProblemType::Internal, "a part of the service is missing")
    })
}

/// The token of `Authorization: Bearer` (RFC 6750, 2.1), or 401.
pub fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let missing = || Problem::new(ProblemType::Unauthenticated, "an access token is needed");
    let mut values = headers.get_all(header::AUTHORIZATION);
    let value = values.next().ok_or_else(missing)?;
    if values.next().is_some() {
        return Err(Problem::malformed("there is more than one Authorization header"));
    }
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(missing)?;
    let token = token.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() { Ok(token) } else { Err(missing()) }
}

/// `Permcast-At-Least`.
pub fn at_least(headers: &HeaderMap) -> Result<Option<Version>, Problem> {
    headers.get(AT_LEAST).map_or(Ok(None), |value| {
        let version = value.to_str().ok().and_then(|text| text.trim().parse().ok());
        version.map(Some).ok_or_else(|| Problem::malformed("Permcast-At-Least is <epoch>.<seq>"))
    })
}

/// `Prefer: wait=<seconds>` (RFC 7240), bounded. What cannot be read is not preferred.
pub fn prefers_wait(headers: &HeaderMap) -> Option<Duration> {
    let preferences = headers.get_all("Prefer").filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    preferences
        .filter_map(|preference| preference.split(';').next()?.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))
        .and_then(|(_, seconds)| seconds.trim().trim_matches('"').parse().ok())
        .map(|seconds| Duration::from_secs(seconds).min(PREFER_WAIT_MAX))
}

impl From<WaitError> for Problem {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::TimedOut => Self::new(ProblemType::Behind, "the demanded version is not applied here yet"),
            WaitError::OtherEpoch => {
                Self::new(ProblemType::UnreachableVersion, "the demanded version is of another epoch")
            }
            WaitError::AboveHead => {
                Self::new(ProblemType::UnreachableVersion, "the demanded version is above the head of the log")
            }
        }
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Token(error) => {
                let description = match error {
                    TokenError::Expired => "the token expired",
                    TokenError::NotYet => "the token is not valid yet",
                    TokenError::Invalid | TokenError::UnknownKey { .. } | TokenError::NotForUs => {
                        "the token does not hold"
                    }
                };
                Self::invalid_token(ProblemType::Unauthenticated, description, None)
            }
            Denied::Stale { needed } => {
                Self::invalid_token(ProblemType::StaleToken, "permissions changed", Some(&needed))
            }
            Denied::Ended => Self::invalid_token(ProblemType::SessionEnded, "session ended", None),
            Denied::Locked { retry_after_s } => {
                Self::new(ProblemType::Locked, "a lockdown is in force").retry_after(retry_after_s)
            }
            Denied::PastBound => {
                Self::new(ProblemType::TooStale, "this replica has lost touch with the log and decides nothing")
            }
            Denied::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_bearer_token_is_read_whatever_the_case_of_the_scheme() {
        assert_eq!(bearer(&headers(&[("authorization", "bearer a.b.c")])).unwrap(), "a.b.c");
        for bad in ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer\ta"] {
            let problem = bearer(&headers(&[("authorization", bad)])).unwrap_err();
            assert_eq!(problem.kind(), ProblemType::Unauthenticated, "{bad:?}");
        }
        let two = headers(&[("authorization", "Bearer a"), ("authorization", "Bearer b")]);
        assert_eq!(bearer(&two).unwrap_err().kind(), ProblemType::Malformed);
    }

    #[test]
    fn a_preferred_wait_is_bounded_and_tolerant() {
        let wait = |value| prefers_wait(&headers(&[("prefer", value)]));
        assert_eq!(wait("wait=5"), Some(Duration::from_secs(5)));
        assert_eq!(wait("respond-async, Wait=\"2\"; x=y"), Some(Duration::from_secs(2)));
        assert_eq!(wait("wait=99999"), Some(PREFER_WAIT_MAX));
        for none in ["", "wait", "wait=", "wait=-1", "wait=soon", "return=minimal"] {
            assert_eq!(wait(none), None, "{none}");
        }
    }

    #[test]
    fn a_demanded_version_that_cannot_be_read_is_malformed() {
        assert!(at_least(&headers(&[])).unwrap().is_none());
        assert!(at_least(&headers(&[("permcast-at-least", "abcd2345.7")])).unwrap().is_some());
        assert_eq!(at_least(&headers(&[("permcast-at-least", "7")])).unwrap_err().kind(), ProblemType::Malformed);
    }
}
