//! Trusted identity providers: does a token of one of them hold by itself, and whom does it name?
//!
//! The providers know nothing of permissions. What their tokens come to is asked elsewhere: whose the identity is, of the
//! cache; what he may do, of the gate.

mod address;
mod fetch;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod jwks;
mod jwt;
mod keys;
mod provision;

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use quick_cache::sync::Cache;
use tokio_rustls::rustls;
use tokio_util::sync::CancellationToken;

use crate::config::Issuer;
use crate::domain::limits::{CLOCK_LEEWAY, VERIFIED_TOKENS_MAX};
use crate::domain::records::Identity;
use crate::domain::{Clock, TenantName, Timestamp};
use crate::store::Store;
use crate::token::TokenError;
use fetch::Fetcher;
use keys::{KeyRing, REFRESH_EVERY};

pub use provision::ProvisionError;

/// What a token is presented as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// As the token of a request.
    Bearer,
    /// As an access token to be exchanged.
    AccessToken,
    /// As an ID token to be exchanged.
    IdToken,
    /// As either of both to be exchanged.
    Any,
}

/// What a token of a trusted issuer says. It holds; whose the identity is, is another question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assertion {
    pub identity: Identity,
    /// The tenant that the issuer's rule yields.
    pub tenant: TenantName,
    /// What he is called.
    pub name: Option<String>,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    pub client_id: String,
    pub jti: String,
    pub kid: String,
}

struct Provider {
    settings: Arc<Issuer>,
    keys: KeyRing,
}

/// A token that was verified, and what by.
struct Kept {
    assertion: Arc<Assertion>,
    provider: usize,
    generation: u64,
    until: Timestamp,
}

/// The trusted issuers of this deployment.
pub struct Issuers {
    providers: Vec<Provider>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    /// By digest, so that none is kept in the clear.
    verified: Cache<[u8; 32], Arc<Kept>>,
}

impl Issuers {
    /// Their keys are not read yet.
    pub fn new(issuers: Vec<Issuer>, store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Result<Self, rustls::Error> {
        let mut providers = Vec::new();
        // The system's certificates are read only where somebody is to be asked.
        let fetcher = if issuers.is_empty() { None } else { Some(Arc::new(Fetcher::new()?)) };
        for settings in issuers {
            if settings.user_claim != "sub" {
                tracing::warn!(
                    issuer = settings.issuer,
                    claim = settings.user_claim,
                    "users are told apart by a claim that is not `sub`: whoever can change it at the provider can become \
                     another user here"
                );
            }
            let (settings, Some(fetcher)) = (Arc::new(settings), &fetcher) else { continue };
            let keys = KeyRing::new(Arc::clone(&settings), Arc::clone(fetcher), Arc::clone(&clock));
            providers.push(Provider { settings, keys });
        }
        Ok(Self { providers, store, clock, verified: Cache::new(VERIFIED_TOKENS_MAX) })
    }

    /// Reads the keys of all, now and from time to time.
    pub async fn keep_keys(self: Arc<Self>, stop: CancellationToken) {
        let reading = async {
            loop {
                futures_util::future::join_all(self.providers.iter().map(|provider| provider.keys.refresh())).await;
                tokio::time::sleep(REFRESH_EVERY).await;
            }
        };
        stop.run_until_cancelled(reading).await;
    }

    /// Whether the token names one of them. Nothing of it is believed by that.
    pub fn names_one(&self, token: &str) -> bool {
        self.provider_of(token).is_some()
    }

    /// What the token says, if it holds.
    pub async fn verify(&self, token: &str, r#use: Use) -> Result<Arc<Assertion>, TokenError> {
        let key = <[u8; 32]>::try_from(digest(&SHA256, token.as_bytes()).as_ref()).expect("SHA-256 is 32 bytes");
        let kept = self.verified.get(&key).filter(|_| r#use == Use::Bearer);
        let now = self.clock.now();
        if let Some(kept) = kept
            && kept.generation == self.providers[kept.provider].keys.keys().1
            && now < kept.until
        {
            return Ok(Arc::clone(&kept.assertion));
        }
        let index = self.provider_of(token).ok_or(TokenError::NotForUs)?;
        let provider = &self.providers[index];
        let look = || {
            let (keys, generation) = provider.keys.keys();
            jwt::verify(token, &provider.settings, &keys, r#use, now).map(|assertion| (assertion, generation))
        };
        let mut found = look();
        if matches!(found, Err(TokenError::UnknownKey { .. })) && provider.keys.refresh_for_unknown().await {
            found = look();
        }
        let (assertion, generation) = found?;
        let assertion = Arc::new(assertion);
        if r#use == Use::Bearer {
            let until = assertion.expires_at.plus(CLOCK_LEEWAY);
            let kept = Kept { assertion: Arc::clone(&assertion), provider: index, generation, until };
            self.verified.insert(key, Arc::new(kept));
        }
        Ok(assertion)
    }

    fn provider_of(&self, token: &str) -> Option<usize> {
        if self.providers.is_empty() {
            return None;
        }
        let issuer = jwt::issuer_of(token)?;
        self.providers.iter().position(|provider| provider.settings.issuer == issuer)
    }
}
