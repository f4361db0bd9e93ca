//! Errors as `application/problem+json` (RFC 9457). The one place where an error becomes an answer.

use std::borrow::Cow;
use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use serde::Serialize;
use serde_json::json;

use crate::domain::InvalidName;
use crate::domain::rules::Refusal;
use crate::hub::Full;
use crate::protocol::problem::ProblemType;
use crate::store::{StoreError, WriteError};
use crate::token::PasswordError;

/// The media type.
pub const PROBLEM_JSON: &str = "application/problem+json";
/// What is said to one who brought no token at all (RFC 6750, 3).
const CHALLENGE: &str = r#"Bearer realm="permcast""#;
/// How long to wait before trying again, where nothing better is known.
const RETRY_AFTER_S: u32 = 1;

/// One fault of a body or query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// JSON pointer (RFC 6901) to the member; for a query parameter `?<name>`.
    pub pointer: String,
    /// Which rule it breaks.
    pub detail: Cow<'static, str>,
}

/// An answer above 399.
#[derive(Debug, Clone)]
pub struct Problem {
    kind: ProblemType,
    /// Overrides the type's, for what only actix knows.
    status: Option<StatusCode>,
    detail: Cow<'static, str>,
    errors: Vec<Fault>,
    /// Which operation of a batch it is about.
    index: Option<usize>,
    challenge: Option<Cow<'static, str>>,
    retry_after_s: Option<u32>,
    allow: Option<Box<str>>,
}

impl Problem {
    /// A problem with what is special about this case. A 401 bears a challenge, a 429 or 503 a `Retry-After`.
    pub fn new(kind: ProblemType, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            status: None,
            detail: detail.into(),
            errors: Vec::new(),
            index: None,
            challenge: (kind.status() == 401).then_some(Cow::Borrowed(CHALLENGE)),
            retry_after_s: matches!(kind.status(), 429 | 503).then_some(RETRY_AFTER_S),
            allow: None,
        }
    }

    /// One of which nothing but the status is known.
    pub fn of_status(status: StatusCode) -> Self {
        let kind = ProblemType::of_status(status.as_u16());
        Self { status: Some(status), ..Self::new(kind, kind.title()) }
    }

    /// 422 with all that is wrong about the request.
    pub fn invalid(errors: Vec<Fault>) -> Self {
        let detail = match errors.as_slice() {
            [only] if only.pointer.is_empty() => only.detail.clone(),
            [only] => format!("{}: {}", only.pointer, only.detail).into(),
            _ => "several rules are broken".into(),
        };
        Self { errors, ..Self::new(ProblemType::Invalid, detail) }
    }

    /// 422 with one fault.
    pub fn invalid_at(pointer: impl Into<String>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::invalid(vec![Fault { pointer: pointer.into(), detail: detail.into() }])
    }

    /// 405 with the methods that the path does serve.
    pub fn method_not_allowed(allow: String) -> Self {
        let detail = format!("served here: {allow}");
        Self { allow: Some(allow.into()), ..Self::new(ProblemType::MethodNotAllowed, detail) }
    }

    /// 401 by RFC 6750: a token was brought, but it does not hold.
    pub fn invalid_token(kind: ProblemType, description: &'static str, pv: Option<&dyn fmt::Display>) -> Self {
        let mut challenge = format!(r#"Bearer error="invalid_token", error_description="{description}""#);
        if let Some(pv) = pv {
            use std::fmt::Write as _;
            let _ = write!(challenge, r#", pv="{pv}""#);
        }
        Self { challenge: Some(challenge.into()), ..Self::new(kind, description) }
    }

    /// Not well-formed.
    pub fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ProblemType::Malformed, detail)
    }

    /// To be tried again after so many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The same about one operation of a batch: it is named by its index, and pointers lead through it.
    #[must_use]
    pub fn at_operation(mut self, index: usize) -> Self {
        self.index = Some(index);
        if self.errors.is_empty() {
            self.errors.push(Fault { pointer: String::new(), detail: self.detail.clone() });
        }
        for fault in &mut self.errors {
            fault.pointer.insert_str(0, &format!("/operations/{index}"));
        }
        self
    }

    /// When to try again, in seconds.
    pub fn retry_after_s(&self) -> Option<u32> {
        self.retry_after_s
    }

    /// Its type.
    pub fn kind(&self) -> ProblemType {
        self.kind
    }

    /// All faults of the request.
    pub fn errors(&self) -> &[Fault] {
        &self.errors
    }

    /// What is special about this case.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.title(), self.detail)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        let of_kind = || StatusCode::from_u16(self.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        self.status.unwrap_or_else(of_kind)
    }

    fn error_response(&self) -> HttpResponse {
        let status = self.status_code();
        let mut body = json!({
            "type": self.kind.uri(),
            "title": self.kind.title(),
            "status": status.as_u16(),
            "detail": self.detail,
        });
        if !self.errors.is_empty() {
            body["errors"] = json!(self.errors);
        }
        if let Some(index) = self.index {
            body["index"] = json!(index);
        }
        let mut answer = HttpResponseBuilder::new(status);
        answer.insert_header((header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON)));
        if let Some(challenge) = &self.challenge {
            answer.insert_header((header::WWW_AUTHENTICATE, challenge.as_ref()));
        }
        if let Some(seconds) = self.retry_after_s {
            answer.insert_header((header::RETRY_AFTER, seconds));
        }
        if let Some(allow) = &self.allow {
            answer.insert_header((header::ALLOW, allow.as_ref()));
        }
        answer.body(body.to_string())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let kind = match &refusal {
            Refusal::UnknownTenant => ProblemType::UnknownTenant,
            Refusal::UnknownUser(_) => ProblemType::UnknownUser,
            Refusal::UnknownRole(_) => ProblemType::UnknownRole,
            Refusal::UnknownSession(_) => ProblemType::UnknownSession,
            Refusal::NotAllowed(_) | Refusal::Escalation(_) => ProblemType::Forbidden,
            Refusal::SessionOver => {
                return Self::invalid_token(ProblemType::SessionEnded, "session ended", None);
            }
            Refusal::Exists(_) => ProblemType::Exists,
            Refusal::Cycle | Refusal::LastOperator | Refusal::TooSoon(_) | Refusal::FirstTenant => {
                ProblemType::Conflict
            }
            Refusal::Invalid(rule) => return Self::invalid_at("", *rule),
        };
        Self::new(kind, refusal.to_string())
    }
}

impl From<StoreError> for Problem {
    /// What went wrong inside is logged, and not told.
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Unavailable { .. } | StoreError::Replaced(_) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the database did not answer");
                Self::new(ProblemType::Unavailable, "the database did not answer; nothing was done")
            }
            StoreError::Undecided(_) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the database was lost over a commit");
                let told = "the database was lost while this was being done: look whether it was before you try again";
                Self::new(ProblemType::Internal, told)
            }
            StoreError::Inconsistent(_) | StoreError::Unusable(_) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the database cannot be used");
                Self::new(ProblemType::Internal, "the database cannot be used")
            }
        }
    }
}

impl From<WriteError> for Problem {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Refused { refusal, .. } => refusal.into(),
            WriteError::Store(error) => error.into(),
        }
    }
}

impl From<Full> for Problem {
    fn from(full: Full) -> Self {
        let (kind, retry_after_s) = match full {
            Full::Total => (ProblemType::Unavailable, 5),
            Full::Rush => (ProblemType::Unavailable, 1),
            Full::Address | Full::Tenant => (ProblemType::TooManyRequests, 5),
        };
        Self::new(kind, full.to_string()).retry_after(retry_after_s)
    }
}

impl From<PasswordError> for Problem {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Self::new(ProblemType::TooManyRequests, "too many passwords are being hashed"),
            PasswordError::Settings => {
                tracing::error!(error = &error as &dyn std::error::Error, "passwords cannot be hashed");
                Self::new(ProblemType::Internal, "passwords cannot be hashed")
            }
        }
    }
}

impl From<InvalidName> for Problem {
    fn from(error: InvalidName) -> Self {
        Self::invalid_at("", error.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::body::to_bytes;

    async fn shown(problem: Problem) -> (StatusCode, header::HeaderMap, serde_json::Value) {
        let answer = problem.error_response();
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = to_bytes(answer.into_body()).await.unwrap();
        (status, headers, serde_json::from_slice(&body).unwrap())
    }

    #[actix_web::test]
    async fn a_problem_says_where_the_fault_is() {
        let (status, headers, body) = shown(Problem::invalid_at("/name", "too long")).await;
        assert_eq!(status, 422);
        assert_eq!(headers.get(header::CONTENT_TYPE).unwrap(), PROBLEM_JSON);
        assert_eq!(body["type"], "/problems/invalid");
        assert_eq!(body["status"], 422);
        assert_eq!(body["errors"], json!([{"pointer": "/name", "detail": "too long"}]));
    }

    #[actix_web::test]
    async fn the_challenge_is_as_the_contract_writes_it() {
        let problem = Problem::invalid_token(ProblemType::StaleToken, "permissions changed", Some(&"abcd2345.42"));
        let (status, headers, _) = shown(problem).await;
        assert_eq!(status, 401);
        assert_eq!(
            headers.get(header::WWW_AUTHENTICATE).unwrap(),
            r#"Bearer error="invalid_token", error_description="permissions changed", pv="abcd2345.42""#
        );
        let (_, headers, _) = shown(Refusal::SessionOver.into()).await;
        assert_eq!(
            headers.get(header::WWW_AUTHENTICATE).unwrap(),
            r#"Bearer error="invalid_token", error_description="session ended""#
        );
    }

    #[actix_web::test]
    async fn what_is_unavailable_says_when_to_return_and_nothing_of_the_inside() {
        let source = Some("disk /var/secret is full".into());
        let (status, headers, body) = shown(StoreError::Unavailable { doing: "insert into x", source }.into()).await;
        assert_eq!(status, 503);
        assert_eq!(headers.get(header::RETRY_AFTER).unwrap(), "1");
        assert!(!body.to_string().contains("secret") && !body.to_string().contains("insert"));
        let (status, _, body) = shown(StoreError::Undecided("its file is gone").into()).await;
        assert_eq!(status, 500);
        assert!(body["detail"].as_str().unwrap().contains("look whether it was"), "it may have been done: {body}");
        let (status, _, body) = shown(StoreError::Inconsistent("role 7 of nobody".into()).into()).await;
        assert_eq!(status, 500);
        assert!(!body.to_string().contains("role 7"));
    }
}
