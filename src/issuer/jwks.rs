//! A provider's keys (RFC 7517): what of its document can verify something here.

use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

/// Keys of one document that are looked at; providers have a handful.
const KEYS_MAX: usize = 64;

/// A key as the document has it, what is of no use here left out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

/// The document holds no list of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no JSON Web Key Set")]
pub(super) struct NoKeySet;

/// A key that verifies with one algorithm and no other.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) kid: Option<String>,
    pub(super) algorithm: &'static str,
    parsed: ParsedPublicKey,
}

impl Key {
    pub(super) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(signed, signature).is_ok()
    }
}

/// The keys of one document.
#[derive(Debug, Default)]
pub(super) struct Jwks {
    source: Vec<Jwk>,
    keys: Vec<Key>,
}

impl Jwks {
    /// Reads a document. A key that cannot be used here (another type, for encryption, malformed) is passed over, for
    /// providers show more than one kind; `algorithms` are those that may be believed.
    pub(super) fn parse(bytes: &[u8], algorithms: &[String]) -> Result<Self, NoKeySet> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let document: Document = serde_json::from_slice(bytes).map_err(|_| NoKeySet)?;
        let read = document.keys.into_iter().take(KEYS_MAX).filter_map(|key| serde_json::from_value(key).ok());
        let source: Vec<Jwk> = read.filter(Jwk::verifies_signatures).collect();
        let keys = source.iter().flat_map(|jwk| jwk.keys(algorithms)).collect();
        Ok(Self { source, keys })
    }

    /// The keys that a token with this header may be verified with: the named one; without a name the only one that fits.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: &str) -> Option<&Key> {
        let mut fitting = self.keys.iter().filter(|key| key.algorithm == algorithm);
        match kid {
            Some(kid) => fitting.find(|key| key.kid.as_deref() == Some(kid)),
            None => fitting.next().filter(|_| fitting.next().is_none()),
        }
    }

    /// Whether another reading shows the same keys.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.source == other.source
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl Jwk {
    fn verifies_signatures(&self) -> bool {
        self.purpose.as_deref().is_none_or(|purpose| purpose == "sig")
            && self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"))
    }

    /// The key for each algorithm that fits its type, that it allows and that is allowed.
    fn keys(&self, allowed: &[String]) -> Vec<Key> {
        let fitting: &[&'static str] = match (self.kty.as_str(), self.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => &["EdDSA"],
            ("EC", Some("P-256")) => &["ES256"],
            ("EC", Some("P-384")) => &["ES384"],
            ("RSA", _) => &["RS256", "PS256"],
            _ => &[],
        };
        let mine = |algorithm: &&&'static str| {
            self.alg.as_deref().is_none_or(|own| own == **algorithm) && allowed.iter().any(|word| word == **algorithm)
        };
        let made = fitting.iter().filter(mine).filter_map(|&algorithm| {
            let parsed = self.parse(algorithm)?;
            Some(Key { kid: self.kid.clone(), algorithm, parsed })
        });
        made.collect()
    }

    fn parse(&self, algorithm: &str) -> Option<ParsedPublicKey> {
        let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_ref()?).ok();
        // SEC 1: a byte that says "uncompressed", then both coordinates.
        let point = || Some([&[4], &*bytes(&self.x)?, &*bytes(&self.y)?].concat());
        let rsa = || Some(rsa::PublicKeyComponents { n: bytes(&self.n)?, e: bytes(&self.e)? });
        match algorithm {
            "EdDSA" => ParsedPublicKey::new(&ED25519, bytes(&self.x)?).ok(),
            "ES256" => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point()?).ok(),
            "ES384" => ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point()?).ok(),
            "RS256" => rsa()?.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).ok(),
            "PS256" => rsa()?.to_parsed_public_key(&RSA_PSS_2048_8192_SHA256).ok(),
            _ => None,
        }
    }
}
