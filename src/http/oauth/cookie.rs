//! The refresh token as a cookie: out of reach of scripts, sent by our own pages alone.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header;

use super::super::origin::{Origins, is_same};
use super::text;
use crate::token::Sessions;

/// How the cookie is written here.
#[derive(Debug, Clone)]
pub(super) struct Cookie {
    /// Over HTTPS the browser holds `__Host-` to: from this host, for this host alone.
    secure: bool,
    max_age: Duration,
    issuer: String,
}

impl Cookie {
    pub(super) fn of(sessions: &Sessions) -> Self {
        Self::new(sessions.issuer(), sessions.refresh_ttl())
    }

    pub(super) fn new(issuer: &str, max_age: Duration) -> Self {
        Self { secure: issuer.starts_with("https:"), max_age, issuer: issuer.to_owned() }
    }

    fn name(&self) -> &'static str {
        if self.secure { "__Host-permcast" } else { "permcast" }
    }

    /// `Set-Cookie` with the token.
    pub(super) fn set(&self, token: &str) -> String {
        self.write(token, self.max_age.as_secs())
    }

    /// `Set-Cookie` that takes it away.
    pub(super) fn clear(&self) -> String {
        self.write("", 0)
    }

    fn write(&self, value: &str, max_age: u64) -> String {
        let secure = if self.secure { "; Secure" } else { "" };
        format!("{}={value}; Max-Age={max_age}; Path=/; HttpOnly; SameSite=Strict{secure}", self.name())
    }

    /// The token that the browser sent.
    pub(super) fn read(&self, request: &HttpRequest) -> Option<String> {
        let cookies = request.headers().get_all(header::COOKIE).filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs
            .find(|(name, _)| *name == self.name())
            .map(|(_, value)| value.to_owned())
            .filter(|value| !value.is_empty())
    }

    /// Whether a page of our own sent the request: a browser says so of every POST, and lets no page say otherwise.
    pub(super) fn is_own_page(&self, request: &HttpRequest) -> bool {
        text(request, header::ORIGIN).is_some_and(|origin| {
            is_same(origin, text(request, header::HOST)) || Origins::new(&self.issuer, []).is_listed(origin)
        })
    }
}
