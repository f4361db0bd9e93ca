//! Query parameters, and the pages that lists come in.

use actix_web::HttpRequest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::{Value, json};

use super::problem::Problem;
use crate::domain::Seq;
use crate::domain::limits::{PAGE_DEFAULT, PAGE_MAX};
use crate::domain::records::Page;

/// The parameters of a request.
pub struct Query(Vec<(String, String)>);

/// Which part of a list is asked for.
pub struct Asked {
    /// The key after which it begins.
    pub after: Option<String>,
    /// How many items at the most.
    pub limit: u32,
}

impl Query {
    /// Those of this request; of the URL alone, never of a header.
    pub fn of(request: &HttpRequest) -> Self {
        Self(url::form_urlencoded::parse(request.query_string().as_bytes()).into_owned().collect())
    }

    /// All values of one name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first value of one name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// `limit`.
    pub fn limit(&self) -> Result<u32, Problem> {
        let Some(text) = self.get("limit") else { return Ok(PAGE_DEFAULT) };
        let limit = text.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
        limit.ok_or_else(|| Problem::invalid_at("?limit", "a whole number from 1 to 1000 is wanted"))
    }

    /// `after`: a position in the log.
    pub fn after(&self) -> Result<Option<Seq>, Problem> {
        let Some(text) = self.get("after") else { return Ok(None) };
        let seq = text.parse().ok().and_then(Seq::new);
        seq.map(Some).ok_or_else(|| Problem::invalid_at("?after", "a position in the log is wanted"))
    }

    /// `limit` and `cursor`.
    pub fn page(&self) -> Result<Asked, Problem> {
        let after = self.get("cursor").map(|cursor| {
            let key = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let key = key.filter(|key| !key.contains('\0'));
            key.ok_or_else(|| Problem::invalid_at("?cursor", "a next_cursor of this list is wanted"))
        });
        Ok(Asked { after: after.transpose()?, limit: self.limit()? })
    }
}

/// A page as the wire shows it. The cursor is opaque, so that what it holds may change.
pub fn page<T: Serialize>(page: Page<T>) -> Value {
    json!({ "items": page.items, "next_cursor": page.next.map(|key| URL_SAFE_NO_PAD.encode(key)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn query(text: &str) -> Query {
        Query::of(&TestRequest::with_uri(&format!("/x?{text}")).to_http_request())
    }

    #[test]
    fn a_cursor_leads_to_where_its_page_ended() {
        let shown = page(Page { items: vec![1], next: Some("auth0|5f".into()) });
        let cursor = shown["next_cursor"].as_str().unwrap();
        let asked = query(&format!("cursor={cursor}&limit=7")).page().unwrap();
        assert_eq!((asked.after.as_deref(), asked.limit), (Some("auth0|5f"), 7));
        assert!(page(Page::<u8> { items: vec![], next: None })["next_cursor"].is_null());
    }

    #[test]
    fn bounds_of_a_page_are_held() {
        assert_eq!(query("").page().unwrap().limit, 100);
        for bad in ["limit=0", "limit=1001", "limit=x", "limit=", "limit=-1", "cursor=%25", "cursor=_w", "cursor=AA"] {
            assert!(query(bad).page().is_err(), "{bad}");
        }
        assert!(query("after=281474976710656").after().is_err());
        assert_eq!(query("after=42").after().unwrap().map(Seq::get), Some(42));
    }
}
