//! Errors of the OAuth endpoints (RFC 6749, 5.2), and of sessions where the rest of the API asks for them.

use std::borrow::Cow;
use std::fmt;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use serde_json::json;

use super::super::problem::Problem;
use super::no_store;
use crate::gate::Denied;
use crate::protocol::problem::ProblemType;
use crate::token::{PasswordError, SessionError};

/// An answer above 399 of an OAuth endpoint.
#[derive(Debug)]
pub(super) struct OAuthError {
    status: StatusCode,
    error: &'static str,
    description: Cow<'static, str>,
    challenge: Option<&'static str>,
    retry_after_s: Option<u64>,
    set_cookie: Option<String>,
}

impl OAuthError {
    fn new(status: StatusCode, error: &'static str, description: impl Into<Cow<'static, str>>) -> Self {
        let description = description.into();
        Self { status, error, description, challenge: None, retry_after_s: None, set_cookie: None }
    }

    pub(super) fn invalid_request(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", description)
    }

    pub(super) fn unsupported_grant_type(description: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "unsupported_grant_type", description)
    }

    /// A token for somebody else was asked for (RFC 8693, 2.2.2).
    pub(super) fn invalid_target() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_target", "tokens are issued for this service alone")
    }

    /// The client's own authentication failed, or it brought none.
    pub(super) fn invalid_client(description: &'static str) -> Self {
        let challenge = Some(r#"Basic realm="permcast", charset="UTF-8""#);
        Self { challenge, ..Self::new(StatusCode::UNAUTHORIZED, "invalid_client", description) }
    }

    /// A page of another origin sent our cookie.
    pub(super) fn foreign_page() -> Self {
        let description = "the cookie works for pages of its own origin only";
        Self::new(StatusCode::FORBIDDEN, "invalid_request", description)
    }

    /// The same, taking the cookie away.
    pub(super) fn with_cookie(mut self, cookie: String) -> Self {
        self.set_cookie = Some(cookie);
        self
    }

    /// Whether trying again with the same token is in vain.
    pub(super) fn is_final(&self) -> bool {
        self.error == "invalid_grant"
    }
}

impl fmt::Display for OAuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.error, self.description)
    }
}

impl ResponseError for OAuthError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status);
        answer.insert_header(no_store());
        if let Some(challenge) = self.challenge {
            answer.insert_header((header::WWW_AUTHENTICATE, challenge));
        }
        if let Some(seconds) = self.retry_after_s {
            answer.insert_header((header::RETRY_AFTER, seconds));
        }
        if let Some(cookie) = &self.set_cookie {
            answer.insert_header((header::SET_COOKIE, cookie.as_str()));
        }
        answer.json(json!({"error": self.error, "error_description": self.description}))
    }
}

/// What the rest of the API says, in the words of OAuth.
impl From<Problem> for OAuthError {
    fn from(problem: Problem) -> Self {
        let status = problem.status_code();
        let error = match status.as_u16() {
            401 => return Self::invalid_client("the caller's own token does not hold"),
            429 => "slow_down",
            500 => "server_error",
            501.. => "temporarily_unavailable",
            _ => "invalid_request",
        };
        let retry_after_s = problem.retry_after_s().map(u64::from);
        Self { retry_after_s, ..Self::new(status, error, problem.detail().to_owned()) }
    }
}

impl From<Denied> for OAuthError {
    fn from(denied: Denied) -> Self {
        Problem::from(denied).into()
    }
}

impl From<SessionError> for OAuthError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Refused => Self::invalid_client("unknown client or wrong secret"),
            SessionError::InvalidGrant(why) => Self::new(StatusCode::BAD_REQUEST, "invalid_grant", why),
            other => Problem::from(other).into(),
        }
    }
}

impl From<SessionError> for Problem {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Refused => Self::new(ProblemType::Unauthenticated, "wrong user name or password"),
            SessionError::InvalidGrant(why) => Self::new(ProblemType::SessionEnded, why),
            SessionError::TooMany { retry_after } | SessionError::Busy { retry_after } => {
                // Rounded up: who comes back when he was told must not be too early.
                let seconds = retry_after.as_millis().div_ceil(1000).max(1);
                Self::new(ProblemType::TooManyRequests, "too many attempts; wait a little")
                    .retry_after(u32::try_from(seconds).unwrap_or(u32::MAX))
            }
            SessionError::Locked { retry_after_s } => {
                Self::new(ProblemType::Locked, "a lockdown is in force").retry_after(retry_after_s)
            }
            SessionError::Behind => Self::new(ProblemType::Behind, "the demanded version is not applied here yet"),
            SessionError::PastBound => {
                Self::new(ProblemType::TooStale, "this replica has lost touch with the log and decides nothing")
            }
            SessionError::Password(PasswordError::Busy) => {
                Self::new(ProblemType::Unavailable, "too many sign-ins at this moment")
            }
            SessionError::Store(error) => error.into(),
            SessionError::Password(PasswordError::Settings) | SessionError::Mint(_) => {
                tracing::error!(error = &error as &dyn std::error::Error, "no token can be made");
                Self::new(ProblemType::Internal, "no token can be made")
            }
        }
    }
}
