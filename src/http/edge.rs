//! What every request passes first and every answer last: request id, CORS, security headers, the access log.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::body::{BodySize, BoxBody, EitherBody, MessageBody};
use actix_web::dev::{RequestHead, ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _, HttpRequest, HttpResponse, ResponseError as _, web};

use super::Services;
use super::client::client_address;
use super::origin::Origins;
use super::problem::Problem;
use crate::domain::Origin;

/// Names a request in logs and answers. One that a client or proxy sends is kept (AuthZEN, "Request Identification").
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What pages of other origins may read of an answer.
const EXPOSED: &str =
    "WWW-Authenticate, Permcast-Version, Retry-After, ETag, Location, Preference-Applied, X-Request-ID";
/// What pages of other origins may send.
const ALLOWED_HEADERS: &str = "Authorization, Content-Type, Permcast-At-Least, Prefer, If-None-Match, Last-Event-ID, X-Request-ID, traceparent, tracestate";
const ALLOWED_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
/// An answer of the API is no page: nothing of it may run or be framed.
const API_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// What a request is called.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) String);

/// From where a request comes, and its name, as the audit trail tells it.
pub(super) fn origin(request: &HttpRequest) -> Origin {
    let name = request.extensions().get::<RequestId>().map(|id| id.0.clone());
    Origin { address: Some(client_address(request).to_string()), request: name }
}

/// Of a request, what its answer needs.
pub(super) struct Seen {
    method: Method,
    /// Without the query, which may hold what is nobody's business.
    path: String,
    id: HeaderValue,
    /// The origin of a page that may read the answer.
    origin: Option<HeaderValue>,
    since: crate::domain::Boottime,
    client: IpAddr,
}

/// The middleware. For `middleware::from_fn`, around everything.
pub async fn around<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B, BoxBody>>, Error> {
    let Some(services) = request.app_data::<web::Data<Services>>().cloned() else {
        return next.call(request).await.map(ServiceResponse::map_into_left_body);
    };
    let origins = request.app_data::<web::Data<Origins>>();
    let seen =
        Seen::new(request.head(), client_address(request.request()), origins.map(|origins| &***origins), &services);
    request.extensions_mut().insert(RequestId(seen.id.to_str().unwrap_or_default().to_owned()));
    let mut response = if is_preflight(&request) {
        request.into_response(preflight()).map_into_right_body()
    } else {
        // HEAD is GET without the body; an upgrade has no HEAD.
        if seen.method == Method::HEAD && !request.headers().contains_key(header::UPGRADE) {
            request.head_mut().method = Method::GET;
        }
        finished(next.call(request).await?, &seen.method)
    };
    seen.decorate(response.headers_mut(), &services);
    let route = response.request().match_pattern().unwrap_or_else(|| "none".to_owned());
    seen.record(response.status(), route, &services);
    Ok(response)
}

impl Seen {
    pub(super) fn new(head: &RequestHead, client: IpAddr, origins: Option<&Origins>, services: &Services) -> Self {
        Self {
            method: head.method.clone(),
            path: head.uri.path().to_owned(),
            id: request_id(head.headers(), services),
            origin: page_origin(head.headers(), origins),
            since: services.clock.boottime(),
            client,
        }
    }

    /// What every answer says.
    pub(super) fn decorate(&self, headers: &mut HeaderMap, services: &Services) {
        if let Some(origin) = &self.origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        headers.insert(REQUEST_ID, self.id.clone());
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        headers.insert(header::CROSS_ORIGIN_OPENER_POLICY, HeaderValue::from_static("same-origin"));
        let mut unless_said = |name, value| {
            if !headers.contains_key(&name) {
                headers.insert(name, HeaderValue::from_static(value));
            }
        };
        unless_said(header::CACHE_CONTROL, "no-store");
        unless_said(header::CONTENT_SECURITY_POLICY, API_POLICY);
        if services.issuer.starts_with("https://") {
            unless_said(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
        }
    }

    /// Changes and refusals are told, what only asks is not: it may come a hundred thousand times a second.
    pub(super) fn record(&self, status: StatusCode, route: String, services: &Services) {
        let took = services.clock.boottime().since(self.since);
        let (status, request_id) = (status.as_u16(), self.id.to_str().unwrap_or("-"));
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // Sums, not histograms: what nobody scrapes must not grow.
        metrics::counter!("permcast_http_request_microseconds_total", "route" => route.clone()).increment(micros);
        metrics::counter!("permcast_http_requests_total", "route" => route, "status" => status.to_string())
            .increment(1);
        let (method, path, client) = (&self.method, &self.path, self.client);
        match status {
            500.. => tracing::warn!(%method, path, status, micros, %client, request_id, "answered"),
            400..500 => tracing::info!(%method, path, status, micros, %client, request_id, "answered"),
            _ if !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
                && path.starts_with("/v1/tenants") =>
            {
                tracing::info!(%method, path, status, micros, %client, request_id, "answered");
            }
            _ => tracing::debug!(%method, path, status, micros, %client, request_id, "answered"),
        }
    }
}

/// Answers that the framework makes by itself become problems; those to HEAD lose a body that has no end.
fn finished<B: MessageBody + 'static>(
    response: ServiceResponse<B>,
    method: &Method,
) -> ServiceResponse<EitherBody<B, BoxBody>> {
    let status = response.status();
    let bare = !response.headers().contains_key(header::CONTENT_TYPE);
    if status.as_u16() >= 400 && bare {
        let mut problem = Problem::of_status(status).error_response();
        for (name, value) in response.headers() {
            problem.headers_mut().insert(name.clone(), value.clone());
        }
        return response.into_response(problem).map_into_right_body();
    }
    if method == Method::HEAD && matches!(response.response().body().size(), BodySize::Stream) {
        return response.map_body(|_, _| EitherBody::right(BoxBody::new(())));
    }
    response.map_into_left_body()
}

fn request_id(headers: &HeaderMap, services: &Services) -> HeaderValue {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let sane = |value: &&HeaderValue| {
        (1..=128).contains(&value.len())
            && value.as_bytes().iter().all(|&b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
    };
    headers.get(&REQUEST_ID).filter(sane).cloned().unwrap_or_else(|| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:x}-{number:x}", services.started_at.millis());
        HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("-"))
    })
}

/// The origin of the page that asks, if its answers may be read there.
fn page_origin(headers: &HeaderMap, origins: Option<&Origins>) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    origins?.is_listed(origin.to_str().ok()?).then(|| origin.clone())
}

fn is_preflight(request: &ServiceRequest) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// To a page that may not come the origin is not named, and its browser asks no further.
fn preflight() -> HttpResponse {
    HttpResponse::build(StatusCode::NO_CONTENT)
        .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS))
        .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS))
        .insert_header((header::ACCESS_CONTROL_MAX_AGE, "600"))
        .finish()
}
