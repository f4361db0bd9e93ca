//! Refresh tokens: opaque to clients, stored only hashed, and each the father of exactly one successor.
//!
//! A token is its session's id, 256 bits, and a tag. The successor's bits are a keyed digest of the token's, so that
//! every replica answers a token that is used twice within the grace with the same successor, and none keeps it. The tag
//! tells what we once issued from what somebody made up: only the first, used out of turn, is theft.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::vault::{SecretError, Vault};
use crate::domain::{Random, SessionId};
use crate::store::{Store, TokenDigest};

const SECRET_NAME: &str = "refresh";
const SESSION: usize = 16;
const BITS: usize = 32;
const TAG: usize = 16;

/// A refresh token that we issued once.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct RefreshToken {
    pub(super) session: SessionId,
    bytes: [u8; SESSION + BITS + TAG],
}

impl std::fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RefreshToken").field("session", &self.session).finish_non_exhaustive()
    }
}

impl RefreshToken {
    /// As the client gets it.
    pub(super) fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.bytes)
    }

    /// As it is stored.
    pub(super) fn digest(&self) -> TokenDigest {
        digest(&SHA256, &self.bytes).as_ref().try_into().expect("SHA-256 is 32 bytes")
    }
}

/// Makes and reads refresh tokens.
pub(super) struct RefreshTokens {
    key: hmac::Key,
}

impl RefreshTokens {
    /// With the secret that is kept in the database, shared by all replicas; made at the first start.
    pub(super) async fn open(store: &dyn Store, vault: &Vault, random: &dyn Random) -> Result<Self, SecretError> {
        let secret = vault.shared_secret(store, SECRET_NAME, random).await?;
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &secret) })
    }

    /// With a secret of the caller's choice.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn of(secret: &[u8]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    /// The first token of a session.
    pub(super) fn first(&self, session: [u8; SESSION], random: &dyn Random) -> RefreshToken {
        self.assemble(session, random.bytes())
    }

    /// The one successor of a token.
    pub(super) fn successor(&self, of: &RefreshToken) -> RefreshToken {
        let session = *of.bytes.first_chunk().expect("a token is longer than its session's id");
        let bits = self.sign(b"successor", &of.bytes[..SESSION + BITS]);
        self.assemble(session, bits.as_ref().try_into().expect("HMAC-SHA-256 is 32 bytes"))
    }

    /// Reads what a client brings; `None` unless we issued it.
    pub(super) fn read(&self, text: &str) -> Option<RefreshToken> {
        let bytes: [u8; SESSION + BITS + TAG] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (content, tag) = bytes.split_at(SESSION + BITS);
        let expected = self.sign(b"tag", content);
        verify_slices_are_equal(&expected.as_ref()[..TAG], tag).ok()?;
        let session = SessionId::from_random(*bytes.first_chunk()?);
        Some(RefreshToken { session, bytes })
    }

    fn assemble(&self, session: [u8; SESSION], bits: [u8; BITS]) -> RefreshToken {
        let mut bytes = [0; SESSION + BITS + TAG];
        bytes[..SESSION].copy_from_slice(&session);
        bytes[SESSION..SESSION + BITS].copy_from_slice(&bits);
        let tag = self.sign(b"tag", &bytes[..SESSION + BITS]);
        bytes[SESSION + BITS..].copy_from_slice(&tag.as_ref()[..TAG]);
        RefreshToken { session: SessionId::from_random(session), bytes }
    }

    /// A digest for one purpose; the zero byte parts the purpose from what follows.
    fn sign(&self, purpose: &[u8], content: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(purpose);
        context.update(&[0]);
        context.update(content);
        context.sign()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::SystemRandom;

    fn tokens(secret: &[u8]) -> RefreshTokens {
        RefreshTokens::of(secret)
    }

    #[test]
    fn a_token_reads_back_and_nothing_else_does() {
        let tokens = tokens(b"secret");
        let token = tokens.first([7; 16], &SystemRandom);
        assert_eq!(tokens.read(&token.to_text()), Some(token.clone()));
        assert_eq!(token.session, SessionId::from_random([7; 16]));
        let mut bytes = token.bytes;
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert_eq!(tokens.read(&URL_SAFE_NO_PAD.encode(bytes)), None, "byte {at}");
            bytes[at] ^= 1;
        }
        for bad in ["", "x", &token.to_text()[1..], &format!("{}A", token.to_text()), &format!("{}==", token.to_text())]
        {
            assert_eq!(tokens.read(bad), None, "{bad}");
        }
        assert_eq!(self::tokens(b"another").read(&token.to_text()), None);
    }

    #[test]
    fn every_replica_makes_the_same_successor() {
        let first = tokens(b"secret").first([7; 16], &SystemRandom);
        let successor = tokens(b"secret").successor(&first);
        assert_eq!(successor, tokens(b"secret").successor(&first));
        assert_ne!(successor, tokens(b"another").successor(&first));
        assert_ne!(successor.digest(), first.digest());
        assert_ne!(successor, tokens(b"secret").successor(&successor));
        assert_eq!(successor.session, first.session);
        assert!(!format!("{first:?}").contains(&first.to_text()));
    }
}
