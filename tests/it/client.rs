//! One who speaks HTTP with a replica.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::harness::PASSWORD;

/// Somebody, or nobody yet, before one replica.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

/// What a sign-in or refresh gave.
#[derive(Debug, Clone)]
pub(crate) struct Tokens {
    pub(crate) access: String,
    pub(crate) refresh: String,
    pub(crate) pv: String,
}

impl Tokens {
    /// The `sid` of the access token.
    pub(crate) fn session(&self) -> String {
        let claims = self.access.split('.').nth(1).unwrap();
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        claims["sid"].as_str().unwrap().to_owned()
    }
}

impl Client {
    pub(crate) fn new(base: &str) -> Self {
        // A connection that has idled is not used in the moment in which the server ends it, after five seconds.
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .pool_idle_timeout(Duration::from_secs(3))
            .build()
            .unwrap();
        Self { http, base: base.to_owned(), token: None }
    }

    /// The same with this token.
    pub(crate) fn with(&self, tokens: &Tokens) -> Self {
        self.bearing(&tokens.access)
    }

    pub(crate) fn bearing(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn put(&self, path: &str) -> Answer {
        send(self.request(Method::PUT, path)).await
    }

    pub(crate) async fn put_json(&self, path: &str, body: Value) -> Answer {
        send(self.request(Method::PUT, path).json(&body)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        send(self.request(Method::POST, path).json(&body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        send(self.request(Method::PATCH, path).json(&body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        send(self.request(Method::DELETE, path)).await
    }

    pub(crate) async fn form(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        send(self.request(Method::POST, path).form(fields)).await
    }

    /// Tries to sign in.
    pub(crate) async fn sign_in(&self, tenant: &str, user: &str, password: &str) -> Answer {
        self.post("/v1/login", json!({"tenant": tenant, "username": user, "password": password})).await
    }

    /// Signs in to the first tenant, which must succeed.
    pub(crate) async fn login(&self, user: &str) -> Tokens {
        self.login_in("default", user).await
    }

    pub(crate) async fn login_in(&self, tenant: &str, user: &str) -> Tokens {
        self.sign_in(tenant, user, PASSWORD).await.ok().tokens()
    }

    pub(crate) async fn try_refresh(&self, refresh: &str) -> Answer {
        self.form("/oauth/token", &[("grant_type", "refresh_token"), ("refresh_token", refresh)]).await
    }

    /// Refreshes, which must succeed.
    pub(crate) async fn refresh(&self, tokens: &Tokens) -> Tokens {
        self.try_refresh(&tokens.refresh).await.ok().tokens()
    }
}

pub(crate) async fn send(request: RequestBuilder) -> Answer {
    let response = crate::harness::soon("an answer", request.send()).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = response.bytes().await.unwrap();
    let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into()));
    Answer { status, headers, body }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// It succeeded.
    pub(crate) fn ok(self) -> Self {
        assert!(self.status.is_success(), "{self:?}");
        self
    }

    /// What a sign-in or refresh gave.
    pub(crate) fn tokens(self) -> Tokens {
        let text = |name: &str| self.body[name].as_str().unwrap_or_else(|| panic!("{name}: {self:?}")).to_owned();
        assert_eq!(self.body["token_type"], "Bearer");
        Tokens { access: text("access_token"), refresh: text("refresh_token"), pv: text("pv") }
    }

    /// The version of the change that it made.
    pub(crate) fn version(&self) -> String {
        assert!(self.status.is_success(), "{self:?}");
        let version = self.body["change"]["version"].as_str().unwrap_or_else(|| panic!("no change: {self:?}"));
        assert_eq!(self.header("permcast-version"), version);
        assert_eq!(version.rsplit_once('.').unwrap().1, self.body["change"]["seq"].to_string());
        version.to_owned()
    }

    /// It is this problem, told as RFC 9457 wants it.
    pub(crate) fn problem(&self, status: u16, slug: &str) {
        assert_eq!(
            (self.status.as_u16(), &self.body["type"]),
            (status, &json!(format!("/problems/{slug}"))),
            "{self:?}"
        );
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        assert_eq!(self.body["status"], status);
        assert!(self.body["title"].is_string() && self.body["detail"].is_string(), "{self:?}");
    }

    /// The token is refused as stale; gives what it needs.
    pub(crate) fn stale(&self) -> String {
        self.problem(401, "stale-token");
        let challenge = self.header("www-authenticate");
        let needed = challenge
            .strip_prefix(r#"Bearer error="invalid_token", error_description="permissions changed", pv=""#)
            .and_then(|rest| rest.strip_suffix('"'));
        needed.unwrap_or_else(|| panic!("{challenge}")).to_owned()
    }

    /// The token's session is over.
    pub(crate) fn ended(&self) {
        self.problem(401, "session-ended");
        let challenge = r#"Bearer error="invalid_token", error_description="session ended""#;
        assert_eq!(self.header("www-authenticate"), challenge);
    }
}

/// The number in a version.
pub(crate) fn seq(version: &str) -> u64 {
    version.rsplit_once('.').unwrap().1.parse().unwrap()
}
