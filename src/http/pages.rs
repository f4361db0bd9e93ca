//! The web app that is embedded in the binary, and where it was not built, a page that says how.

use std::fmt::Write as _;

use actix_web::http::header::{self, ContentType};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use rust_embed::RustEmbed;

use super::Services;
use super::problem::Problem;
use crate::protocol::problem::ProblemType;

/// The build of `web-demo`, as it was when the binary was built.
#[derive(RustEmbed)]
#[folder = "web-demo/dist"]
#[allow_missing = true]
struct Built;

const NOT_BUILT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>permcast</title>\
<meta name=\"viewport\" content=\"width=device-width\"><meta name=\"color-scheme\" content=\"light dark\">\
<body><h1>permcast is running</h1><p>This binary was built without the web app. To have it inside, run \
<code>make web</code> and build again; <code>make demo</code> does both.</p>\
<p>The API is described at <a href=\"/docs\">/docs</a>.</p></body></html>";

/// Files of the web app; everything else is not here.
pub(super) async fn page(request: HttpRequest, services: web::Data<Services>) -> Result<HttpResponse, Problem> {
    let nothing = || Problem::new(ProblemType::NotFound, "no such path is served");
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Err(nothing());
    }
    let path = request.path().trim_start_matches('/');
    let name = if path.is_empty() { "index.html" } else { path };
    let policy = policy(&services);
    let Some(file) = Built::get(name) else {
        if path.is_empty() {
            return Ok(html(StatusCode::OK, &policy).body(NOT_BUILT));
        }
        return Err(nothing());
    };
    // Files whose names hold a digest of their content never change; the page that names them does.
    let caching = if name.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, file.metadata.mimetype().to_owned()))
        .insert_header((header::CACHE_CONTROL, caching))
        .insert_header((header::CONTENT_SECURITY_POLICY, policy))
        .body(file.data.into_owned()))
}

pub(super) fn html(status: StatusCode, policy: &str) -> actix_web::HttpResponseBuilder {
    let mut builder = HttpResponse::build(status);
    builder
        .insert_header(ContentType::html())
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::CONTENT_SECURITY_POLICY, policy.to_owned()));
    builder
}

/// Everything from here alone; in the demo the page may also talk to the other replica.
fn policy(services: &Services) -> String {
    let mut connect = "'self'".to_owned();
    for replica in services.demo.iter().flat_map(|demo| &demo.replicas) {
        let socket = replica.url.replacen("http", "ws", 1);
        let _ = write!(connect, " {} {socket}", replica.url);
    }
    format!(
        "default-src 'self'; connect-src {connect}; img-src 'self' data:; base-uri 'none'; object-src 'none'; \
         frame-ancestors 'none'; form-action 'self'"
    )
}
