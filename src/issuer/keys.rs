//! A provider's keys at hand: fetched at the start, read anew from time to time and for a key that is not known, kept for
//! a while where the provider does not answer.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use super::fetch::{FetchError, Fetcher, Reach};
use super::jwks::{Jwks, NoKeySet};
use crate::config::Issuer;
use crate::domain::{Boottime, Clock};

/// How often they are read anew: so long a key that the provider has taken back may still be believed.
pub(super) const REFRESH_EVERY: Duration = Duration::from_mins(5);
/// How long they are good where they cannot be read anew.
const KEPT_FOR: Duration = Duration::from_hours(1);
/// Least time between two readings for a key that is not known: anybody can name one.
const UNKNOWN_KEY_EVERY: Duration = Duration::from_secs(10);

/// Why the keys were not read.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("discovery failed")]
    Discovery(#[source] FetchError),
    #[error("what discovery found is no document of this issuer")]
    NotItsDocument,
    #[error("the keys were not fetched")]
    Keys(#[source] FetchError),
    #[error(transparent)]
    NoKeySet(#[from] NoKeySet),
}

/// The keys as of one reading.
#[derive(Debug, Default)]
struct Reading {
    /// Counts the readings.
    number: u64,
    /// Counts those that found other keys than the one before.
    generation: u64,
    /// `None`: there was none yet.
    at: Option<Boottime>,
    keys: Arc<Jwks>,
}

/// One provider's keys.
pub(super) struct KeyRing {
    issuer: Arc<Issuer>,
    fetcher: Arc<Fetcher>,
    clock: Arc<dyn Clock>,
    reading: ArcSwap<Reading>,
    /// One reading at a time. Holds when the last one for an unknown key was.
    under_way: Mutex<Option<Boottime>>,
}

impl KeyRing {
    pub(super) fn new(issuer: Arc<Issuer>, fetcher: Arc<Fetcher>, clock: Arc<dyn Clock>) -> Self {
        Self { issuer, fetcher, clock, reading: ArcSwap::default(), under_way: Mutex::default() }
    }

    /// The keys, which are none where they were not read for too long; and which generation they are.
    pub(super) fn keys(&self) -> (Arc<Jwks>, u64) {
        let reading = self.reading.load();
        let good = reading.at.is_some_and(|at| self.clock.boottime().since(at) < KEPT_FOR);
        if good { (Arc::clone(&reading.keys), reading.generation) } else { (Arc::default(), 0) }
    }

    /// Reads the keys anew.
    pub(super) async fn refresh(&self) {
        let _one = self.under_way.lock().await;
        self.read().await;
    }

    /// Reads the keys anew for a token whose key is not known, unless that was done a moment ago. Tells whether the token
    /// is worth another look.
    pub(super) async fn refresh_for_unknown(&self) -> bool {
        let before = self.reading.load().number;
        let mut last = self.under_way.lock().await;
        // Somebody else was faster.
        if self.reading.load().number != before {
            return true;
        }
        let now = self.clock.boottime();
        if last.is_some_and(|at| now.since(at) < UNKNOWN_KEY_EVERY) {
            return false;
        }
        *last = Some(now);
        self.read().await
    }

    async fn read(&self) -> bool {
        let fetched = self.fetch().await;
        let outcome = if fetched.is_ok() { "read" } else { "failed" };
        metrics::counter!("permcast_issuer_keys_total", "outcome" => outcome).increment(1);
        let keys = match fetched {
            Ok(keys) => keys,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(issuer = self.issuer.issuer, error, "the keys of an identity provider were not read");
                return false;
            }
        };
        if keys.is_empty() {
            tracing::warn!(issuer = self.issuer.issuer, "the identity provider shows no key that may be believed");
        }
        let old = self.reading.load();
        let generation = old.generation + u64::from(old.at.is_none() || !old.keys.is_same(&keys));
        let at = Some(self.clock.boottime());
        self.reading.store(Arc::new(Reading { number: old.number + 1, generation, at, keys: Arc::new(keys) }));
        true
    }

    async fn fetch(&self) -> Result<Jwks, ReadError> {
        let bytes = if let Some(url) = &self.issuer.jwks_uri {
            self.fetcher.get(url, Reach::Anywhere).await
        } else {
            let (url, reach) = self.discover().await?;
            self.fetcher.get(&url, reach).await
        };
        Ok(Jwks::parse(&bytes.map_err(ReadError::Keys)?, &self.issuer.algorithms)?)
    }

    /// Where the issuer's own document says that its keys are (OpenID Connect Discovery). It is believed as to its own
    /// host; another one must be in the world.
    async fn discover(&self) -> Result<(Url, Reach), ReadError> {
        #[derive(Deserialize)]
        struct Document {
            issuer: String,
            jwks_uri: String,
        }
        let issuer = &self.issuer.issuer;
        let place = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let place = Url::parse(&place).map_err(|_| ReadError::NotItsDocument)?;
        let bytes = self.fetcher.get(&place, Reach::Anywhere).await.map_err(ReadError::Discovery)?;
        let document: Document = serde_json::from_slice(&bytes).map_err(|_| ReadError::NotItsDocument)?;
        if document.issuer != *issuer {
            return Err(ReadError::NotItsDocument);
        }
        let keys = Url::parse(&document.jwks_uri).map_err(|_| ReadError::NotItsDocument)?;
        let own = keys.origin() == place.origin();
        Ok((keys, if own { Reach::Anywhere } else { Reach::World }))
    }
}
