//! Is this token one of ours, for us, and in its time? (RFC 8725, RFC 9068)

use std::sync::Arc;

use super::claims::WireClaims;
use super::jws::{ACCESS_TOKEN_TYPE, Parts};
use super::keys::KeySet;
use super::mint::TokenSettings;
use super::verified::{Verified, VerifiedCache};
use crate::domain::limits::{CLOCK_LEEWAY, SIGNED_TOKENS_MAX, TOKEN_BYTES_ACCEPTED, VERIFIED_TOKENS_MAX};
use crate::domain::{Applied, Clock, Floors, Stamp, Timestamp};

/// Why a token is refused. Tells a client no more than it needs to get a better one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token of ours at all, or an altered one.
    #[error("the token is malformed or not signed by this issuer")]
    Invalid,
    /// Its key is not known here, or is retired.
    #[error("the token is signed with a key that is not in use")]
    UnknownKey {
        /// Its `kid`, not believed.
        kid: String,
    },
    /// For somebody else, or of another kind.
    #[error("the token is not an access token for this service")]
    NotForUs,
    /// Past `exp`.
    #[error("the token expired")]
    Expired,
    /// Before `nbf`.
    #[error("the token is not valid yet")]
    NotYet,
}

/// Verifies access tokens.
pub struct Verifier {
    keys: Arc<KeySet>,
    floors: Arc<Floors>,
    applied: Arc<Applied>,
    clock: Arc<dyn Clock>,
    issuer: String,
    audience: String,
    cache: VerifiedCache,
}

impl Verifier {
    pub fn new(
        keys: Arc<KeySet>,
        floors: Arc<Floors>,
        applied: Arc<Applied>,
        clock: Arc<dyn Clock>,
        settings: &TokenSettings,
    ) -> Self {
        let (issuer, audience) = (settings.issuer.clone(), settings.audience.clone());
        Self {
            keys,
            floors,
            applied,
            clock,
            issuer,
            audience,
            cache: VerifiedCache::new(VERIFIED_TOKENS_MAX, SIGNED_TOKENS_MAX),
        }
    }

    /// Whether the token holds by itself: signature, type, issuer, audience, time. Not whether it is fresh.
    pub fn verify(&self, token: &str) -> Result<Arc<Verified>, TokenError> {
        self.look_at(token, true)
    }

    /// The same for who brings a token once, as a connection of push does: what was verified is used where it is there, but of
    /// what was not only the signature's worth is kept, for when all connections come back at once.
    pub fn verify_once(&self, token: &str) -> Result<Arc<Verified>, TokenError> {
        self.look_at(token, false)
    }

    fn look_at(&self, token: &str, keep: bool) -> Result<Arc<Verified>, TokenError> {
        if token.len() > TOKEN_BYTES_ACCEPTED {
            return Err(TokenError::Invalid);
        }
        let now = self.clock.now();
        let keys = self.keys.keys();
        let cache_key = VerifiedCache::key(token);
        if let Some(verified) = self.cache.get(&cache_key, keys.generation, now) {
            return Ok(verified);
        }
        let parts = Parts::of(token).ok_or(TokenError::Invalid)?;
        let Some(key) = keys.find(&parts.header.kid, now) else {
            return Err(TokenError::UnknownKey { kid: parts.header.kid });
        };
        // The key says how it verifies; a header that says otherwise is an attack, not a wish.
        if parts.header.alg != key.algorithm.as_str() {
            return Err(TokenError::Invalid);
        }
        if !self.cache.is_signed(&cache_key, keys.generation) {
            key.parsed.verify_sig(parts.signed, &parts.signature).map_err(|_| TokenError::Invalid)?;
            if !keep {
                self.cache.note_signed(cache_key, keys.generation);
            }
        }
        if !is_access_token_type(&parts.header.typ) {
            return Err(TokenError::NotForUs);
        }
        let claims: WireClaims = serde_json::from_slice(&parts.payload).map_err(|_| TokenError::Invalid)?;
        if claims.iss != self.issuer || claims.aud != self.audience {
            return Err(TokenError::NotForUs);
        }
        let seconds = |seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1000));
        let until = seconds(claims.exp).plus(CLOCK_LEEWAY);
        if now >= until {
            return Err(TokenError::Expired);
        }
        if claims.nbf.is_some_and(|nbf| now.plus(CLOCK_LEEWAY) < seconds(nbf)) {
            return Err(TokenError::NotYet);
        }
        let verified = self.place(claims, parts.header.kid).ok_or(TokenError::Invalid)?;
        // A token of an epoch that is not known here (yet) is placed anew each time: the epoch may be our next one.
        if keep && verified.basis.stamp() != Stamp::NEVER {
            let until = key.retire_at.map_or(until, |at| at.min(until));
            self.cache.insert(cache_key, &verified, keys.generation, until);
        }
        Ok(verified)
    }

    /// The same; but where the key is not known here, the keys are read anew first, at most once a second.
    pub async fn verify_with_new_keys(&self, token: &str) -> Result<Arc<Verified>, TokenError> {
        match self.verify(token) {
            Err(TokenError::UnknownKey { kid }) => match self.keys.reload_for(&kid).await {
                Ok(true) => self.verify(token),
                Ok(false) => Err(TokenError::UnknownKey { kid }),
                Err(error) => {
                    tracing::warn!(%error, "the signing keys could not be read anew");
                    Err(TokenError::UnknownKey { kid })
                }
            },
            answer => answer,
        }
    }

    /// Puts a token's claims among the positions and floors of this process.
    fn place(&self, claims: WireClaims, kid: String) -> Option<Arc<Verified>> {
        let (claims, access) = claims.into_domain(kid)?;
        let stamp = self.applied.stamp_of(claims.version).unwrap_or(Stamp::NEVER);
        let (tenant, user) = (&claims.tenant, &claims.user);
        let basis = match (&access, claims.session()) {
            (Some(access), Some(session)) => self.floors.token_basis(stamp, tenant, user, session, access.roles.iter()),
            (_, session) => self.floors.thin_basis(stamp, tenant, user, session),
        };
        Some(Arc::new(Verified { claims, access, basis }))
    }
}

/// `at+jwt`, with or without the prefix that RFC 7515 lets one leave out; a media type has no case.
fn is_access_token_type(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    typ.strip_prefix("application/").unwrap_or(&typ) == ACCESS_TOKEN_TYPE
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
