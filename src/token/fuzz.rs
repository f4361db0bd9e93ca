//! Tokens as strangers bring them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::claims::WireClaims;
use super::jws::Parts;
use super::refresh::RefreshTokens;

/// What is taken apart is put together as the same text, so no two texts are one token; claims that are read agree with each
/// other; nothing that was made up is a refresh token.
pub fn tokens(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    assert!(RefreshTokens::of(b"a secret that the fuzzer does not know").read(text).is_none(), "a refresh token");
    let claims = |payload: &[u8]| {
        let Ok(claims) = serde_json::from_slice::<WireClaims>(payload) else { return };
        let tenant = claims.tenant.clone();
        let subject = claims.sub.clone();
        let Some((claims, access)) = claims.into_domain("kid".to_owned()) else { return };
        assert_eq!(claims.tenant, tenant);
        assert_eq!(format!("{tenant}/{}", claims.user), subject, "of another user than it says");
        assert!(access.is_none_or(|access| access.tenant == tenant && access.user == claims.user));
    };
    // Bare, so that the fuzzer need not learn base64.
    claims(data);
    let Some(parts) = Parts::of(text) else { return };
    let mut again = text.split('.').next().unwrap_or_default().to_owned();
    for part in [&parts.payload, &parts.signature] {
        again.push('.');
        URL_SAFE_NO_PAD.encode_string(part, &mut again);
    }
    assert_eq!(again, text, "two texts are one token");
    let header: serde_json::Value = serde_json::from_slice(
        &URL_SAFE_NO_PAD.decode(text.split('.').next().unwrap_or_default()).expect("it was decoded before"),
    )
    .expect("it was read before");
    if let Some(members) = header.as_object() {
        assert_eq!(members.len(), 3, "a header of more than three members");
    }
    claims(&parts.payload);
}
