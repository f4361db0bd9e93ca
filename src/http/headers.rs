//! What every answer carries: CORS for allowed origins, and what browsers are told not to do.

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse, web};

use super::origin::Origins;

const EXPOSED: HeaderValue = HeaderValue::from_static("WWW-Authenticate, Permcast-Version, Retry-After, ETag");
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "Authorization, Content-Type, Permcast-At-Least, Prefer, If-None-Match, Last-Event-ID, Traceparent",
);
/// How long a browser may remember a preflight, in seconds.
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// Answers preflights, and adds the headers to everything else. Without credentials: cookies work on our own origin only.
pub async fn headers<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let begun = tracing::enabled!(tracing::Level::DEBUG).then(|| (request.method().clone(), request.path().to_owned()));
    let allowed = request
        .headers()
        .get(header::ORIGIN)
        .filter(|origin| {
            let origins = request.app_data::<web::Data<Origins>>();
            origin.to_str().is_ok_and(|text| origins.is_some_and(|origins| origins.is_listed(text)))
        })
        .cloned();
    let is_preflight =
        request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match &allowed {
        Some(_) if is_preflight => {
            let mut answer = HttpResponse::build(StatusCode::NO_CONTENT);
            answer
                .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, METHODS))
                .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS))
                .insert_header((header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE));
            request.into_response(answer.finish()).map_into_right_body()
        }
        _ => next.call(request).await?.map_into_left_body(),
    };
    if let Some((method, path)) = begun {
        // The path alone: a query may hold what is nobody's business.
        tracing::debug!(%method, path, status = response.status().as_u16(), "answered");
    }
    add(response.headers_mut(), allowed);
    Ok(response)
}

fn add(headers: &mut HeaderMap, allowed: Option<HeaderValue>) {
    if let Some(origin) = allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin"));
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}
