//! Does a token of a trusted issuer hold? (RFC 8725, RFC 9068, OpenID Connect Core) Without a clock and without waiting.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::jwks::Jwks;
use super::{Assertion, Use};
use crate::config::{Issuer, TenantRule};
use crate::domain::Timestamp;
use crate::domain::limits::{CLOCK_LEEWAY, TOKEN_BYTES_ACCEPTED};
use crate::domain::records::Identity;
use crate::token::TokenError;

/// A claim that names somebody, in bytes: as much as an identity may have.
const SUBJECT_BYTES_MAX: usize = 1024;

/// Members of a header that name another key or another way to verify: whoever sends them chooses what he is believed by.
const KEY_MEMBERS: [&str; 6] = ["jwk", "jku", "x5u", "x5c", "crit", "b64"];
/// Claims that ID tokens alone have: hashes of what was handed out beside them.
const ID_TOKEN_CLAIMS: [&str; 3] = ["at_hash", "c_hash", "s_hash"];

/// A JSON object, none of whose members is there twice.
struct Members(BTreeMap<String, Value>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member is there twice"));
                    }
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

impl Members {
    fn decode(text: &str) -> Option<Self> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// A NumericDate; parts of a second are cut off.
    fn time(&self, name: &str) -> Option<Timestamp> {
        let number = self.0.get(name)?;
        #[expect(clippy::cast_possible_truncation, reason = "a float as an integer is brought to the edge")]
        let seconds = number.as_i64().or_else(|| number.as_f64().map(|seconds| seconds as i64))?;
        Some(Timestamp::from_millis(seconds.saturating_mul(1000)))
    }

    fn has_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.0.contains_key(*name))
    }

    /// Whether `aud` names one of these.
    fn is_for(&self, audiences: &[String]) -> bool {
        let mine = |value: &Value| value.as_str().is_some_and(|text| audiences.iter().any(|own| own == text));
        match self.0.get("aud") {
            Some(Value::Array(all)) => all.iter().any(mine),
            Some(one) => mine(one),
            None => false,
        }
    }
}

/// Whose a token says that it is; not believed yet.
pub(super) fn issuer_of(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        iss: String,
    }
    if token.len() > TOKEN_BYTES_ACCEPTED {
        return None;
    }
    let mut parts = token.split('.');
    let (_, payload) = (parts.next()?, URL_SAFE_NO_PAD.decode(parts.next()?).ok()?);
    serde_json::from_slice::<Claims>(&payload).ok().map(|claims| claims.iss)
}

/// What the token says, if it holds.
pub(super) fn verify(
    token: &str,
    issuer: &Issuer,
    keys: &Jwks,
    r#use: Use,
    now: Timestamp,
) -> Result<Assertion, TokenError> {
    if token.len() > TOKEN_BYTES_ACCEPTED {
        return Err(TokenError::Invalid);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Invalid)?;
    let (header, payload) = signed.split_once('.').ok_or(TokenError::Invalid)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Invalid)?;
    let header = Members::decode(header).ok_or(TokenError::Invalid)?;
    let (Some(algorithm), false) = (header.text("alg"), header.has_any(&KEY_MEMBERS)) else {
        return Err(TokenError::Invalid);
    };
    // Before a key is looked for, so that nobody has keys fetched by an algorithm that would not be believed.
    if !issuer.algorithms.iter().any(|allowed| allowed == algorithm) {
        return Err(TokenError::Invalid);
    }
    let kid = match header.0.get("kid") {
        None => None,
        Some(kid) => Some(kid.as_str().ok_or(TokenError::Invalid)?),
    };
    let Some(key) = keys.find(kid, algorithm) else {
        return Err(TokenError::UnknownKey { kid: kid.unwrap_or_default().to_owned() });
    };
    if !key.verifies(signed.as_bytes(), &signature) {
        return Err(TokenError::Invalid);
    }
    let claims = Members::decode(payload).ok_or(TokenError::Invalid)?;
    if !is_of_kind(&header, &claims, r#use)
        || claims.text("iss") != Some(&issuer.issuer)
        || !claims.is_for(&issuer.audiences)
    {
        return Err(TokenError::NotForUs);
    }
    let (issued_at, expires_at) = times(&claims, now)?;
    let name = |claim: &str| {
        let name = claims
            .text(claim)
            .filter(|text| (1..=SUBJECT_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control));
        name.map(str::to_owned).ok_or(TokenError::NotForUs)
    };
    let tenant = match &issuer.tenant {
        TenantRule::Fixed(tenant) => tenant.clone(),
        TenantRule::Claim(claim) => name(claim)?.parse().map_err(|_| TokenError::NotForUs)?,
    };
    let client_id = claims.text("client_id").or_else(|| claims.text("azp")).unwrap_or(&issuer.issuer);
    Ok(Assertion {
        identity: Identity { issuer: issuer.issuer.clone(), subject: name(&issuer.user_claim)? },
        tenant,
        name: name("name").ok(),
        issued_at,
        expires_at,
        client_id: client_id.to_owned(),
        jti: claims.text("jti").unwrap_or_default().to_owned(),
        kid: kid.unwrap_or_default().to_owned(),
    })
}

/// Whether it is a token of the kind that was asked for, which nobody but its bearer need prove to have.
fn is_of_kind(header: &Members, claims: &Members, r#use: Use) -> bool {
    let typ = match header.0.get("typ") {
        None => String::from("jwt"),
        Some(typ) => typ.as_str().unwrap_or_default().to_ascii_lowercase(),
    };
    let fits = match (typ.strip_prefix("application/").unwrap_or(&typ), r#use) {
        ("jwt", Use::IdToken | Use::Any) | ("at+jwt", Use::Any) => true,
        ("jwt" | "at+jwt", Use::Bearer | Use::AccessToken) => !claims.has_any(&ID_TOKEN_CLAIMS),
        _ => false,
    };
    // One that is bound to a key (RFC 7800) is not its bearer's alone; one with events (RFC 8417) grants nothing.
    fits && !claims.has_any(&["cnf", "events"])
}

/// When it was issued and when it is over. Without the former nobody could say whether an end of everything came later.
fn times(claims: &Members, now: Timestamp) -> Result<(Timestamp, Timestamp), TokenError> {
    let (Some(issued_at), Some(expires_at)) = (claims.time("iat"), claims.time("exp")) else {
        return Err(TokenError::Invalid);
    };
    if now >= expires_at.plus(CLOCK_LEEWAY) {
        return Err(TokenError::Expired);
    }
    let not_before = if claims.0.contains_key("nbf") {
        claims.time("nbf").ok_or(TokenError::Invalid)?.max(issued_at)
    } else {
        issued_at
    };
    if now.plus(CLOCK_LEEWAY) < not_before {
        return Err(TokenError::NotYet);
    }
    Ok((issued_at, expires_at))
}
