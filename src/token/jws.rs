//! The compact form of a signed token (RFC 7515): taken apart strictly, put together plainly.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::algorithm::KeyRefused;
use super::keys::SigningKey;

/// `typ` of an access token (RFC 9068).
pub(super) const ACCESS_TOKEN_TYPE: &str = "at+jwt";

/// The header of our tokens: these three members and nothing else. So whatever could name another key or another way to
/// verify (`jwk`, `jku`, `x5u`, `x5c`, `crit`, `b64`) is refused before it could be believed, and so is a member twice.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) typ: String,
    pub(super) kid: String,
}

/// A token taken apart; nothing of it is believed yet.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) header: Header,
    pub(super) payload: Vec<u8>,
    /// What the signature is over.
    pub(super) signed: &'a [u8],
    pub(super) signature: Vec<u8>,
}

impl<'a> Parts<'a> {
    /// Takes a token apart; `None` where it is not of the form.
    pub(super) fn of(token: &'a str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        Some(Self {
            header: serde_json::from_slice(&decode(header)?).ok()?,
            payload: decode(payload)?,
            signed: signed.as_bytes(),
            signature: decode(signature)?,
        })
    }
}

/// Signs a payload.
pub(super) fn sign(key: &SigningKey, typ: &str, payload: &[u8]) -> Result<String, KeyRefused> {
    let header = Header { alg: key.private.algorithm().as_str().into(), typ: typ.into(), kid: key.kid.clone() };
    let header = serde_json::to_vec(&header).expect("a header holds strings only");
    let mut token = URL_SAFE_NO_PAD.encode(header);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut token);
    let signature = key.private.sign(token.as_bytes())?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Ok(token)
}
