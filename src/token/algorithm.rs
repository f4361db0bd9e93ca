//! The three signature algorithms, and keys of each.

use std::str::FromStr;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// How tokens are signed (RFC 7518, RFC 8037). There is no `none` and nothing symmetric to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Algorithm {
    /// Ed25519.
    #[default]
    EdDsa,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// RSASSA-PKCS1-v1_5 with 2048 bits and SHA-256.
    Rs256,
}

impl Algorithm {
    /// The word of JOSE.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }
}

/// A word that names none of the three.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a token algorithm is EdDSA, ES256 or RS256")]
pub struct UnknownAlgorithm;

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;
    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        [Self::EdDsa, Self::Es256, Self::Rs256].into_iter().find(|one| one.as_str() == text).ok_or(UnknownAlgorithm)
    }
}

/// The library refused a key or could not make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cryptographic library refused the key")]
pub struct KeyRefused;

impl From<aws_lc_rs::error::Unspecified> for KeyRefused {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self
    }
}

impl From<aws_lc_rs::error::KeyRejected> for KeyRefused {
    fn from(_: aws_lc_rs::error::KeyRejected) -> Self {
        Self
    }
}

/// A private key.
pub(super) enum PrivateKey {
    EdDsa(Ed25519KeyPair),
    Es256(EcdsaKeyPair),
    Rs256(rsa::KeyPair),
}

impl PrivateKey {
    /// A new one. An RSA key takes a while.
    pub(super) fn generate(algorithm: Algorithm) -> Result<Self, KeyRefused> {
        Ok(match algorithm {
            Algorithm::EdDsa => Self::EdDsa(Ed25519KeyPair::generate()?),
            Algorithm::Es256 => Self::Es256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?),
            Algorithm::Rs256 => Self::Rs256(rsa::KeyPair::generate(rsa::KeySize::Rsa2048)?),
        })
    }

    pub(super) fn from_pkcs8(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, KeyRefused> {
        Ok(match algorithm {
            Algorithm::EdDsa => Self::EdDsa(Ed25519KeyPair::from_pkcs8(bytes)?),
            Algorithm::Es256 => Self::Es256(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, bytes)?),
            Algorithm::Rs256 => Self::Rs256(rsa::KeyPair::from_pkcs8(bytes)?),
        })
    }

    pub(super) fn to_pkcs8(&self) -> Result<Vec<u8>, KeyRefused> {
        Ok(match self {
            Self::EdDsa(pair) => pair.to_pkcs8()?.as_ref().to_vec(),
            Self::Es256(pair) => pair.to_pkcs8v1()?.as_ref().to_vec(),
            Self::Rs256(pair) => pair.as_der()?.as_ref().to_vec(),
        })
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        match self {
            Self::EdDsa(_) => Algorithm::EdDsa,
            Self::Es256(_) => Algorithm::Es256,
            Self::Rs256(_) => Algorithm::Rs256,
        }
    }

    /// The signature as JWS writes it.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyRefused> {
        Ok(match self {
            Self::EdDsa(pair) => pair.try_sign(message)?.as_ref().to_vec(),
            Self::Es256(pair) => pair.sign(&SystemRandom::new(), message)?.as_ref().to_vec(),
            Self::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)?;
                signature
            }
        })
    }

    pub(super) fn public(&self) -> PublicKey {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::EdDsa(pair) => {
                PublicKey::Okp { crv: Ed25519::Word, kty: Okp::Word, x: text(pair.public_key().as_ref()) }
            }
            Self::Es256(pair) => {
                // SEC 1: a byte that says "uncompressed", then both coordinates.
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                PublicKey::Ec { crv: P256::Word, kty: Ec::Word, x: text(x), y: text(y) }
            }
            Self::Rs256(pair) => {
                let public = pair.public_key();
                let text = |number: aws_lc_rs::io::Positive<'_>| {
                    URL_SAFE_NO_PAD.encode(number.big_endian_without_leading_zero())
                };
                PublicKey::Rsa { e: text(public.exponent()), kty: Rsa::Word, n: text(public.modulus()) }
            }
        }
    }
}

macro_rules! words {
    ($($name:ident = $word:literal),+) => {$(
        #[doc = concat!("The word `", $word, "`.")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub(super) enum $name {
            #[serde(rename = $word)]
            Word,
        }
    )+};
}
words!(Okp = "OKP", Ec = "EC", Rsa = "RSA", Ed25519 = "Ed25519", P256 = "P-256");

/// A public key: the members of its JWK that RFC 7638 makes the thumbprint of, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum PublicKey {
    Ec { crv: P256, kty: Ec, x: String, y: String },
    Okp { crv: Ed25519, kty: Okp, x: String },
    Rsa { e: String, kty: Rsa, n: String },
}

impl PublicKey {
    /// As it is stored: exactly the text that the thumbprint is made of.
    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a public key holds strings only")
    }

    /// Its RFC 7638 thumbprint, which is its `kid`.
    pub(super) fn thumbprint(&self) -> String {
        URL_SAFE_NO_PAD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.to_json()))
    }

    /// The one algorithm that it may verify.
    pub(super) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Okp { .. } => Algorithm::EdDsa,
            Self::Ec { .. } => Algorithm::Es256,
            Self::Rsa { .. } => Algorithm::Rs256,
        }
    }

    /// Ready to verify.
    pub(super) fn parse(&self) -> Result<ParsedPublicKey, KeyRefused> {
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyRefused);
        Ok(match self {
            Self::Okp { x, .. } => ParsedPublicKey::new(&ED25519, bytes(x)?)?,
            Self::Ec { x, y, .. } => {
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, [&[4], &*bytes(x)?, &*bytes(y)?].concat())?
            }
            Self::Rsa { n, e, .. } => rsa::PublicKeyComponents { n: bytes(n)?, e: bytes(e)? }
                .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)?,
        })
    }
}
