//! The API described by OpenAPI 3.1: `/openapi.json` for programs, `/docs` for people.

use std::fmt::Write as _;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, ContentType};
use serde_json::Value;

use super::pages;
use super::route::Routes;

/// The document. A test holds it to what is served.
pub const DOCUMENT: &str = include_str!("openapi.json");

/// The page is made of the document alone: no script, and style in the page itself.
pub(super) const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";

pub(super) const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;\
color-scheme:light dark;color:CanvasText;background:Canvas}h1{margin-bottom:0}h2{margin-top:2.5rem}\
details{border:1px solid color-mix(in srgb,CanvasText 20%,Canvas);border-radius:8px;padding:.5rem .8rem;margin:.5rem 0}\
summary{cursor:pointer;overflow-wrap:anywhere}code{font:14px ui-monospace,monospace}b{display:inline-block;min-width:4.2rem;\
font:600 13px ui-monospace,monospace}table{border-collapse:collapse;margin:.5rem 0}td{padding:.15rem .8rem .15rem 0;\
vertical-align:top}pre{overflow-x:auto;background:color-mix(in srgb,CanvasText 6%,Canvas);padding:.6rem;border-radius:6px}";

pub(super) fn routes(routes: &mut Routes) {
    routes.get("/openapi.json", document).get("/docs", docs);
}

async fn document() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header(ContentType::json())
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(DOCUMENT)
}

async fn docs() -> HttpResponse {
    pages::html(StatusCode::OK, POLICY).body(page())
}

/// The document as a page: every operation with what it takes and what it answers.
fn page() -> String {
    let document: Value = serde_json::from_str(DOCUMENT).unwrap_or_default();
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>permcast API</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style><h1>permcast API</h1>\
         <p>{} The same for programs: <a href=\"/openapi.json\">openapi.json</a>.</p>",
        text(&document["info"]["description"])
    );
    for tag in document["tags"].as_array().into_iter().flatten() {
        let _ = write!(page, "<h2>{}</h2>", text(&tag["name"]));
        for (path, operations) in document["paths"].as_object().into_iter().flatten() {
            for (method, operation) in operations.as_object().into_iter().flatten() {
                if operation["tags"][0] == tag["name"] {
                    page.push_str(&describe(method, path, operation, &document));
                }
            }
        }
    }
    page
}

fn describe(method: &str, path: &str, operation: &Value, document: &Value) -> String {
    let mut html = format!(
        "<details><summary><b>{}</b> <code>{path}</code> — {}</summary>",
        method.to_uppercase(),
        text(&operation["summary"])
    );
    if operation["description"].is_string() {
        let _ = write!(html, "<p>{}</p>", text(&operation["description"]));
    }
    for (kind, content) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
        let schema = resolved(&content["schema"], document);
        let shown = serde_json::to_string_pretty(&schema["properties"]).unwrap_or_default();
        let _ = write!(html, "<p>Body, <code>{kind}</code>:</p><pre>{}</pre>", escaped(&shown));
    }
    html.push_str("<table>");
    for (status, answer) in operation["responses"].as_object().into_iter().flatten() {
        let answer = resolved(answer, document);
        let _ = write!(html, "<tr><td><b>{status}</b><td>{}", text(&answer["description"]));
    }
    html.push_str("</table></details>");
    html
}

/// A part of the document, or what it refers to.
fn resolved<'a>(value: &'a Value, document: &'a Value) -> &'a Value {
    let target = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    target.and_then(|pointer| document.pointer(pointer)).unwrap_or(value)
}

fn text(value: &Value) -> String {
    escaped(value.as_str().unwrap_or_default())
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_document_lists_exactly_what_is_served() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let described: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, operations)| {
                operations.as_object().unwrap().keys().map(move |method| (path.clone(), method.to_uppercase()))
            })
            .collect();
        let served: BTreeSet<(String, String)> = crate::http::routes()
            .list()
            .into_iter()
            .map(|(path, method)| (path.replace(":.*}", "}"), method.to_string()))
            .collect();
        assert_eq!(described, served);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn check(value: &Value, document: &Value) {
            match value {
                Value::Object(members) => {
                    if let Some(reference) = value["$ref"].as_str() {
                        assert!(!resolved(value, document)["$ref"].is_string(), "{reference} leads nowhere");
                    }
                    members.values().for_each(|member| check(member, document));
                }
                Value::Array(items) => items.iter().for_each(|item| check(item, document)),
                _ => {}
            }
        }
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        check(&document, &document);
    }

    #[test]
    fn the_page_shows_every_operation() {
        let page = page();
        for (path, _) in crate::http::routes().list() {
            assert!(page.contains(path), "{path}");
        }
    }
}
