//! Forms, queries, paths and headers as strangers send them.

use actix_web::http::header::{self, HeaderMap, HeaderValue};
use serde_json::Value;

use super::super::operation::segments;
use super::super::origin::{Origins, is_same};
use super::form::{Form, basic};

/// A form has each parameter once; a header is read or is not; a path's segments are its own; who is ours is no stranger.
pub fn forms(data: &[u8]) {
    if let Ok(form) = Form::parse(data) {
        for name in ["grant_type", "refresh_token", "token", "client_id"] {
            assert!(form.get(name).is_none_or(|value| !value.is_empty()), "an empty {name} counts as none");
            let again: Vec<_> = url::form_urlencoded::parse(data).filter(|(key, _)| key == name).collect();
            assert!(again.len() <= 1, "{name} twice");
        }
    }
    let _ = serde_json::from_slice::<Value>(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(segments) = segments(text) {
        assert_eq!(segments.len(), text.split('/').count(), "an encoded slash parts no segments");
    }
    let origins = Origins::new("https://permcast.example", ["https://app.example"]);
    if origins.is_listed(text) {
        let is_ours = ["https://permcast.example", "https://app.example"];
        assert!(is_ours.iter().any(|own| own.eq_ignore_ascii_case(text)), "{text:?} is nobody's that we know");
    }
    if is_same(text, Some("permcast.example:8080")) {
        let text = text.to_ascii_lowercase();
        assert!(text == "http://permcast.example:8080" || text == "https://permcast.example:8080", "{text:?}");
    }
    let Ok(value) = HeaderValue::from_str(text) else { return };
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, value.clone());
    if let Ok(Some((user, _))) = basic(&headers) {
        assert!(text.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("basic ")), "{user:?}");
    }
    if let Ok(token) = super::super::auth::bearer(&headers) {
        assert!(text.ends_with(token) || text.trim_end().ends_with(token), "another token than the header's");
    }
    headers.insert(header::HeaderName::from_static("permcast-at-least"), value.clone());
    if let Ok(Some(version)) = super::super::auth::at_least(&headers) {
        assert_eq!(version.to_string(), text.trim());
    }
    headers.insert(header::HeaderName::from_static("prefer"), value);
    let _ = super::super::auth::prefers_wait(&headers);
}
