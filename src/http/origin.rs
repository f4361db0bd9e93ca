//! Which browsers' pages may come: the one rule for push, sign-in by cookie and CORS.

use url::{Origin, Url};

/// Origins that are allowed beside the one that a request itself was sent to.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    allowed: Vec<Origin>,
}

impl Origins {
    /// The issuer's, and those of `PERMCAST_ALLOWED_ORIGINS`. One that is no web origin allows nobody.
    pub fn new<'a>(issuer: &'a str, allowed: impl IntoIterator<Item = &'a str>) -> Self {
        let all = std::iter::once(issuer).chain(allowed);
        Self { allowed: all.filter_map(parse).collect() }
    }

    /// Whether a page of `origin` may come: the issuer's, an allowed one, or one from the `Host` that was asked.
    pub fn allows(&self, origin: &str, host: Option<&str>) -> bool {
        self.is_listed(origin) || is_same(origin, host)
    }

    /// Whether it is the issuer's or an allowed one.
    pub fn is_listed(&self, origin: &str) -> bool {
        exact(origin).is_some_and(|origin| self.allowed.contains(&origin))
    }
}

/// Whether a page comes from the very host that it asks, in the way of one scheme or the other: behind a proxy that ends
/// TLS the scheme is not known here.
pub fn is_same(origin: &str, host: Option<&str>) -> bool {
    let (Some(origin), Some(host)) = (exact(origin), host) else { return false };
    ["http", "https"].iter().any(|scheme| parse(&format!("{scheme}://{host}")).is_some_and(|own| own == origin))
}

/// What a browser sends: an origin and nothing else.
fn exact(text: &str) -> Option<Origin> {
    parse(text).filter(|origin| origin.ascii_serialization().eq_ignore_ascii_case(text))
}

/// The origin of a URL.
fn parse(text: &str) -> Option<Origin> {
    let url = Url::parse(text).ok()?;
    let bare = url.username().is_empty() && url.password().is_none();
    Some(url.origin()).filter(|origin| bare && origin.is_tuple())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_issuer_the_host_and_the_listed_may_come() {
        let origins = Origins::new("https://id.example/permcast", ["https://app.example", "http://localhost:5173"]);
        for good in ["https://id.example", "https://app.example", "http://localhost:5173", "HTTPS://APP.EXAMPLE"] {
            assert!(origins.allows(good, Some("10.0.0.1:8080")), "{good}");
        }
        for bad in [
            "http://app.example",
            "https://app.example:8443",
            "https://app.example.evil",
            "https://evil.example/https://app.example",
            "https://user@app.example",
            "https://app.example/",
            "null",
            "",
            "https://",
            "file:///x",
            "https://app.example https://evil.example",
        ] {
            assert!(!origins.allows(bad, Some("10.0.0.1:8080")), "{bad}");
        }
    }

    #[test]
    fn a_page_from_the_host_that_is_asked_may_come() {
        assert!(is_same("http://a.localhost:8080", Some("a.localhost:8080")));
        assert!(is_same("https://a.example", Some("a.example")));
        assert!(is_same("http://[::1]:8080", Some("[::1]:8080")));
        assert!(!is_same("http://b.localhost:8080", Some("a.localhost:8080")));
        assert!(!is_same("http://a.localhost:8081", Some("a.localhost:8080")));
        assert!(!is_same("http://a.localhost", None));
        assert!(!is_same("http://evil.example", Some("x@evil.example")));
        assert!(!is_same("null", Some("null")));
    }
}
