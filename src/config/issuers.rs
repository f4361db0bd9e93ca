//! Trusted identity providers: how they are written, and what must hold of them.

use std::net::IpAddr;
use std::str::FromStr;

use serde::Deserialize;
use url::{Host, Url};

use crate::domain::{RoleName, TenantName};

/// The providers as they are written: a JSON array in the environment, `[[issuers]]` in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Issuers(pub Vec<IssuerSettings>);

/// One provider as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IssuerSettings {
    pub issuer: String,
    pub jwks_uri: Option<String>,
    pub audiences: Vec<String>,
    pub algorithms: Option<Vec<String>>,
    pub user_claim: Option<String>,
    pub tenant: Option<String>,
    pub tenant_claim: Option<String>,
    pub create_users: bool,
    pub default_role: Option<String>,
}

/// The text is no JSON array of providers.
#[derive(Debug, thiserror::Error)]
#[error("a JSON array of providers is wanted: {0}")]
pub struct NotIssuers(String);

impl FromStr for Issuers {
    type Err = NotIssuers;
    fn from_str(text: &str) -> Result<Self, NotIssuers> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_str(text).map_err(|error| NotIssuers(error.to_string()))
    }
}

/// How tokens may be signed, unless a provider's settings say otherwise. Nothing symmetric can be chosen.
pub(super) const ALGORITHMS: [&str; 5] = ["EdDSA", "ES256", "ES384", "PS256", "RS256"];

/// Which tenant a provider's users belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantRule {
    Fixed(TenantName),
    /// A claim of the token names it: whoever decides what that claim says decides about tenants.
    Claim(String),
}

/// A provider that is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// `iss` of its tokens, byte by byte.
    pub issuer: String,
    /// Where its keys are; `None`: found by discovery.
    pub jwks_uri: Option<Url>,
    /// Whom its tokens must be for: one of these.
    pub audiences: Vec<String>,
    /// Some of [`ALGORITHMS`].
    pub algorithms: Vec<String>,
    /// The claim that names the user.
    pub user_claim: String,
    pub tenant: TenantRule,
    /// Whether who is not known is made a user.
    pub create_users: bool,
    /// What he is given then.
    pub default_role: Option<RoleName>,
}

/// Checks all providers; tells every fault.
pub(super) fn check(written: Vec<IssuerSettings>, fault: &mut dyn FnMut(String)) -> Vec<Issuer> {
    let mut issuers: Vec<Issuer> = Vec::new();
    for settings in written {
        let name = settings.issuer.clone();
        let mut faults = Vec::new();
        let issuer = one(settings, &mut faults);
        if issuers.iter().any(|other| other.issuer == issuer.issuer) {
            faults.push("is there twice".to_owned());
        }
        for what in faults {
            fault(format!("{name:?}: {what}"));
        }
        issuers.push(issuer);
    }
    issuers
}

fn one(settings: IssuerSettings, faults: &mut Vec<String>) -> Issuer {
    let s = settings;
    if location(&s.issuer).is_none_or(|url| url.query().is_some()) {
        faults.push("issuer: an https URL without query and fragment (http on the loopback address alone)".to_owned());
    }
    let jwks_uri = s.jwks_uri.as_deref().and_then(location);
    if s.jwks_uri.is_some() && jwks_uri.is_none() {
        faults.push("jwks_uri: an https URL without fragment (http on the loopback address alone)".to_owned());
    }
    if s.audiences.is_empty() || s.audiences.iter().any(String::is_empty) {
        faults.push("audiences: at least one, for a token that is for somebody else says nothing here".to_owned());
    }
    let algorithms = s.algorithms.unwrap_or_else(|| ALGORITHMS.map(str::to_owned).to_vec());
    if algorithms.is_empty() || algorithms.iter().any(|word| !ALGORITHMS.contains(&word.as_str())) {
        faults.push(format!("algorithms: one or more of {}", ALGORITHMS.join(", ")));
    }
    let user_claim = s.user_claim.unwrap_or_else(|| "sub".to_owned());
    if user_claim.is_empty() {
        faults.push("user_claim: the name of a claim".to_owned());
    }
    let tenant = match (s.tenant, s.tenant_claim) {
        (Some(_), Some(_)) => {
            faults.push("tenant: not beside tenant_claim".to_owned());
            None
        }
        (None, Some(claim)) if claim.is_empty() => {
            faults.push("tenant_claim: the name of a claim".to_owned());
            None
        }
        (None, Some(claim)) => Some(TenantRule::Claim(claim)),
        (Some(name), None) => match name.parse() {
            Ok(name) => Some(TenantRule::Fixed(name)),
            Err(error) => {
                faults.push(format!("tenant: {error}"));
                None
            }
        },
        (None, None) => None,
    };
    let default_role = s.default_role.and_then(|name| match name.parse() {
        Ok(role) => Some(role),
        Err(error) => {
            faults.push(format!("default_role: {error}"));
            None
        }
    });
    if default_role.is_some() && !s.create_users {
        faults.push("default_role: goes with create_users".to_owned());
    }
    Issuer {
        issuer: s.issuer,
        jwks_uri,
        audiences: s.audiences,
        algorithms,
        user_claim,
        tenant: tenant.unwrap_or_else(|| TenantRule::Fixed(TenantName::first())),
        create_users: s.create_users,
        default_role,
    }
}

/// A place that keys may be fetched from. What goes in the clear could be altered on its way, but for the way to oneself.
fn location(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    (plain && is_safe_to_fetch(&url)).then_some(url)
}

/// https, or http to the loopback address.
pub fn is_safe_to_fetch(url: &Url) -> bool {
    match url.scheme() {
        "https" => url.has_host(),
        "http" => match url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
            Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
            None => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<Issuer>, Vec<String>) {
        let mut faults = Vec::new();
        let Issuers(written) = text.parse().unwrap();
        let issuers = check(written, &mut |fault| faults.push(fault));
        (issuers, faults)
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let (issuers, faults) = read(r#"[{"issuer": "https://idp.example/", "audiences": ["api"]}]"#);
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(issuers[0].user_claim, "sub");
        assert_eq!(issuers[0].tenant, TenantRule::Fixed(TenantName::first()));
        assert_eq!(issuers[0].algorithms, ALGORITHMS);
        assert!(!issuers[0].create_users);
        assert_eq!("".parse::<Issuers>().unwrap(), Issuers::default());
    }

    #[test]
    fn all_faults_of_all_providers_are_told() {
        let (_, faults) = read(
            r#"[{"issuer": "http://idp.example", "algorithms": ["HS256"], "tenant": "a", "tenant_claim": "b"},
                {"issuer": "https://b.example", "audiences": ["x"], "default_role": "R"},
                {"issuer": "https://b.example", "audiences": ["x"], "jwks_uri": "https://user@b.example/", "user_claim": ""}]"#,
        );
        for (name, what) in [
            ("http://idp.example", "issuer"),
            ("http://idp.example", "audiences"),
            ("http://idp.example", "algorithms"),
            ("http://idp.example", "tenant"),
            ("https://b.example", "default_role"),
            ("https://b.example", "is there twice"),
            ("https://b.example", "jwks_uri"),
            ("https://b.example", "user_claim"),
        ] {
            let start = format!("{name:?}: {what}");
            assert!(faults.iter().any(|fault| fault.starts_with(&start)), "{start} in {faults:?}");
        }
    }

    #[test]
    fn a_word_that_is_none_of_ours_is_refused() {
        assert!(r#"[{"issuer": "https://a", "audience": ["x"]}]"#.parse::<Issuers>().is_err());
        assert!(r#"{"issuer": "https://a"}"#.parse::<Issuers>().is_err());
    }

    #[test]
    fn only_the_way_to_oneself_may_be_in_the_clear() {
        for (text, safe) in [
            ("https://idp.example/jwks", true),
            ("http://127.0.0.1:8/x", true),
            ("http://localhost/x", true),
            ("http://[::1]/x", true),
            ("http://idp.example/jwks", false),
            ("http://10.0.0.1/x", false),
            ("http://localhost.example/x", false),
            ("file:///etc/passwd", false),
        ] {
            assert_eq!(is_safe_to_fetch(&Url::parse(text).unwrap()), safe, "{text}");
        }
    }
}
