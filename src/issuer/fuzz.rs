//! Documents and tokens of identity providers.

use std::sync::OnceLock;

use super::jwks::Jwks;
use super::{Use, jwt};
use crate::config::{Issuer, TenantRule};
use crate::domain::{TenantName, Timestamp};

/// The public key of RFC 8037, A.2, whose other half no fuzzer finds.
const KEY: &[u8] =
    br#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

struct Trusted {
    issuer: Issuer,
    keys: Jwks,
}

fn trusted() -> &'static Trusted {
    static TRUSTED: OnceLock<Trusted> = OnceLock::new();
    TRUSTED.get_or_init(|| {
        let algorithms = ["EdDSA", "ES256", "RS256"].map(str::to_owned).to_vec();
        let keys = Jwks::parse(KEY, &algorithms).expect("it is a key set");
        let issuer = Issuer {
            issuer: "https://idp.example".to_owned(),
            jwks_uri: None,
            audiences: vec!["permcast".to_owned()],
            algorithms,
            user_claim: "sub".to_owned(),
            tenant: TenantRule::Fixed(TenantName::first()),
            create_users: false,
            default_role: None,
        };
        Trusted { issuer, keys }
    })
}

/// A document of keys is read or is not; no token that somebody made up holds.
pub fn issuer_tokens(data: &[u8]) {
    let Trusted { issuer, keys } = trusted();
    let theirs = Jwks::parse(data, &issuer.algorithms);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let named = jwt::issuer_of(text);
    assert!(named.is_none() || text.matches('.').count() >= 1);
    for r#use in [Use::Bearer, Use::AccessToken, Use::IdToken, Use::Any] {
        let told = jwt::verify(text, issuer, keys, r#use, Timestamp::from_millis(0));
        assert!(told.is_err(), "a token that nobody signed");
        if let Ok(theirs) = &theirs {
            let _ = jwt::verify(text, issuer, theirs, r#use, Timestamp::from_millis(0));
        }
    }
}
