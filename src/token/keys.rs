//! The signing keys: made at the first start, kept in the database, shared by all replicas, rotated without a gap.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::signature::ParsedPublicKey;
use serde::Serialize;

use super::algorithm::{Algorithm, KeyRefused, PrivateKey, PublicKey};
use super::vault::{Vault, VaultError};
use crate::domain::limits::CLOCK_LEEWAY;
use crate::domain::{Actor, Boottime, Clock, Random, Timestamp};
use crate::store::{KeyRotation, KeyState, Store, StoreError, StoredKey, WriteError, Written};

/// Least time between two reloads for a `kid` that is not known: anybody can make one up.
const UNKNOWN_KID_RELOAD_EVERY: Duration = Duration::from_secs(1);

/// Signatures made to see how long one takes: RSA's slow ones fit into 20 ms, too.
const SIGNATURES_MEASURED: usize = 16;

/// Why the keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Its parts do not fit together.
    #[error("the signing key {kid:?} in the database is not a key")]
    Unreadable { kid: String },
    /// The table has keys, but none that signs.
    #[error("the database holds no current signing key")]
    NoCurrent,
    /// A key could not be made.
    #[error(transparent)]
    Refused(#[from] KeyRefused),
}

/// Why the keys were not rotated.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A key that verifies.
#[derive(Debug)]
pub(super) struct VerifyingKey {
    pub(super) kid: String,
    pub(super) algorithm: Algorithm,
    pub(super) parsed: ParsedPublicKey,
    /// From when on it verifies nothing.
    pub(super) retire_at: Option<Timestamp>,
    public: PublicKey,
}

/// The key that signs.
pub(super) struct SigningKey {
    pub(super) kid: String,
    pub(super) private: PrivateKey,
}

/// The keys as of one reading.
pub(super) struct Keys {
    /// Counts the readings that found other keys than the one before.
    pub(super) generation: u64,
    pub(super) signing: SigningKey,
    /// When they were rotated last: then the next one was made.
    rotated_at: Timestamp,
    /// A handful: a search costs less than a hash.
    verifying: Vec<VerifyingKey>,
}

impl Keys {
    /// The key of this `kid`, unless it is retired.
    pub(super) fn find(&self, kid: &str, now: Timestamp) -> Option<&VerifyingKey> {
        self.alive(now).find(|key| key.kid == kid)
    }

    fn alive(&self, now: Timestamp) -> impl Iterator<Item = &VerifyingKey> {
        self.verifying.iter().filter(move |key| key.retire_at.is_none_or(|at| now < at))
    }

    fn same_keys(&self, other: &Self) -> bool {
        let facts =
            |keys: &Self| -> Vec<_> { keys.verifying.iter().map(|key| (key.kid.clone(), key.retire_at)).collect() };
        self.signing.kid == other.signing.kid && facts(self) == facts(other)
    }
}

/// The signing keys of this replica, as of its last reading of the database.
pub struct KeySet {
    store: Arc<dyn Store>,
    vault: Arc<Vault>,
    /// Of keys to be made.
    algorithm: Algorithm,
    /// How long a key that signs no more must go on verifying: the longest life of an access token.
    verifies_for: Duration,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    keys: ArcSwap<Keys>,
    /// Reloads are one at a time, so that a later one always shows a later state. Holds when the last one for an unknown
    /// `kid` was.
    reloading: tokio::sync::Mutex<Option<Boottime>>,
}

/// The keys that are in the database; a current and a next one are made where there is none at all.
async fn stored(
    store: &dyn Store,
    algorithm: Algorithm,
    vault: &Vault,
    clock: &dyn Clock,
    random: &dyn Random,
) -> Result<Vec<StoredKey>, KeyError> {
    let stored = store.keys().await?.value;
    if !stored.is_empty() {
        return Ok(stored);
    }
    let current = make(algorithm, KeyState::Current, vault, clock, random).await?;
    let next = make(algorithm, KeyState::Next, vault, clock, random).await?;
    Ok(store.ensure_keys(vec![current, next]).await?)
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySet").field("current", &self.keys.load().signing.kid).finish_non_exhaustive()
    }
}

impl KeySet {
    /// Reads the keys, and makes a current and a next one where there is none at all.
    pub async fn open(
        store: Arc<dyn Store>,
        vault: Arc<Vault>,
        algorithm: Algorithm,
        access_token_ttl: Duration,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, KeyError> {
        let stored = stored(&*store, algorithm, &vault, &*clock, &*random).await?;
        let keys = ArcSwap::from_pointee(read(&vault, &stored)?);
        Ok(Self {
            store,
            vault,
            algorithm,
            // Minted at the last moment by one clock, accepted until the leeway after its end by another.
            verifies_for: access_token_ttl + 2 * CLOCK_LEEWAY,
            clock,
            random,
            keys,
            reloading: tokio::sync::Mutex::new(None),
        })
    }

    /// Reads the keys anew. A change of the keys counts as applied only after this.
    pub async fn reload(&self) -> Result<(), KeyError> {
        let _one_at_a_time = self.reloading.lock().await;
        self.read_again().await
    }

    /// For a `kid` that is not known, which may be one that another replica has just begun to sign with: reads the keys
    /// anew, at most once a second. Tells whether the key is known now.
    pub(super) async fn reload_for(&self, kid: &str) -> Result<bool, KeyError> {
        let mut last = self.reloading.lock().await;
        let known = || self.keys().find(kid, self.clock.now()).is_some();
        let now = self.clock.boottime();
        if known() || last.is_some_and(|last| now.since(last) < UNKNOWN_KID_RELOAD_EVERY) {
            return Ok(known());
        }
        *last = Some(now);
        self.read_again().await?;
        Ok(known())
    }

    async fn read_again(&self) -> Result<(), KeyError> {
        // A database that was put in the other's place may have none yet.
        let stored = stored(&*self.store, self.algorithm, &self.vault, &*self.clock, &*self.random).await?;
        let mut keys = read(&self.vault, &stored)?;
        let before = self.keys();
        keys.generation = before.generation + u64::from(!keys.same_keys(&before));
        self.keys.store(Arc::new(keys));
        Ok(())
    }

    /// Makes the next key the current one and a new one the next. With `revoke` both are new, and all older ones verify
    /// nothing any more; with `sessions`, too, every session ends.
    pub async fn rotate(&self, actor: Actor, revoke: bool, sessions: bool) -> Result<Written, RotateError> {
        let make = |state| make(self.algorithm, state, &self.vault, &*self.clock, &*self.random);
        let stored = self.store.keys().await.map_err(KeyError::from)?.value;
        let next = stored.into_iter().find(|key| key.state == KeyState::Next);
        let current = match next {
            // Verifiers that keep the JWKS for a while know this one already.
            Some(next) if !revoke => StoredKey { state: KeyState::Current, ..next },
            _ => make(KeyState::Current).await?,
        };
        let next = make(KeyState::Next).await?;
        let retire_at = self.clock.now().plus(self.verifies_for);
        let written = self.store.rotate_keys(KeyRotation { actor, current, next, retire_at, revoke, sessions }).await?;
        self.reload().await?;
        Ok(written)
    }

    /// The public keys that verify, the next one among them (RFC 7517).
    pub fn jwks(&self) -> String {
        #[derive(Serialize)]
        struct Jwks<'a> {
            keys: Vec<Jwk<'a>>,
        }
        #[derive(Serialize)]
        struct Jwk<'a> {
            #[serde(flatten)]
            public: &'a PublicKey,
            r#use: &'static str,
            alg: &'static str,
            kid: &'a str,
        }
        let keys = self.keys();
        let keys = keys.alive(self.clock.now()).map(|key| Jwk {
            public: &key.public,
            r#use: "sig",
            alg: key.algorithm.as_str(),
            kid: &key.kid,
        });
        serde_json::to_string(&Jwks { keys: keys.collect() }).expect("a JWKS holds strings only")
    }

    /// Retires a key that signs no more, before its time: what it signed is refused from now on.
    pub async fn retire(&self, actor: Actor, kid: &str) -> Result<Written, RotateError> {
        let written = self.store.retire_key(&actor, kid).await?;
        self.reload().await?;
        Ok(written)
    }

    /// When the keys were rotated last, or made.
    pub fn rotated_at(&self) -> Timestamp {
        self.keys().rotated_at
    }

    /// The algorithm that signs now.
    pub fn algorithm(&self) -> Algorithm {
        self.keys().signing.private.algorithm()
    }

    /// How long a signature takes: the best of a few.
    pub fn signature_takes(&self) -> Result<Duration, KeyError> {
        let keys = self.keys();
        let mut best = Duration::MAX;
        for _ in 0..SIGNATURES_MEASURED {
            let before = self.clock.boottime();
            // No token: it is thrown away.
            keys.signing.private.sign(&[0; 512])?;
            best = best.min(self.clock.boottime().since(before));
        }
        Ok(best)
    }

    pub(super) fn keys(&self) -> Arc<Keys> {
        self.keys.load_full()
    }
}

fn secret_name(kid: &str) -> String {
    format!("the signing key {kid}")
}

async fn make(
    algorithm: Algorithm,
    state: KeyState,
    vault: &Vault,
    clock: &dyn Clock,
    random: &dyn Random,
) -> Result<StoredKey, KeyError> {
    // An RSA key takes tenths of a second.
    let private = tokio::task::spawn_blocking(move || PrivateKey::generate(algorithm)).await;
    let private = private.map_err(|_| KeyRefused)??;
    let public = private.public();
    let kid = public.thumbprint();
    Ok(StoredKey {
        algorithm: algorithm.as_str().to_owned(),
        private: vault.seal(&secret_name(&kid), &private.to_pkcs8()?, random),
        public: public.to_json(),
        kid,
        state,
        created_at: clock.now(),
        retire_at: None,
    })
}

/// Reads stored keys. Every one must be readable: a key that is silently missing would refuse good tokens.
fn read(vault: &Vault, stored: &[StoredKey]) -> Result<Keys, KeyError> {
    let mut signing = None;
    let mut verifying = Vec::new();
    let rotated_at = stored.iter().map(|key| key.created_at).max().unwrap_or_default();
    for key in stored.iter().filter(|key| key.state != KeyState::Retired) {
        let unreadable = || KeyError::Unreadable { kid: key.kid.clone() };
        let algorithm: Algorithm = key.algorithm.parse().map_err(|_| unreadable())?;
        let public: PublicKey = serde_json::from_slice(&key.public).map_err(|_| unreadable())?;
        if public.algorithm() != algorithm || public.thumbprint() != key.kid {
            return Err(unreadable());
        }
        let parsed = public.parse().map_err(|_| unreadable())?;
        // The next one's is opened, too, although it does not sign yet: better to fail now than at its rotation.
        if matches!(key.state, KeyState::Current | KeyState::Next) {
            let bytes = vault.open(&secret_name(&key.kid), &key.private)?;
            let private = PrivateKey::from_pkcs8(algorithm, &bytes).map_err(|_| unreadable())?;
            if private.public() != public {
                return Err(unreadable());
            }
            if key.state == KeyState::Current {
                signing = Some(SigningKey { kid: key.kid.clone(), private });
            }
        }
        let retire_at = key.retire_at.filter(|_| key.state == KeyState::Previous);
        verifying.push(VerifyingKey { kid: key.kid.clone(), algorithm, parsed, retire_at, public });
    }
    Ok(Keys { generation: 0, signing: signing.ok_or(KeyError::NoCurrent)?, rotated_at, verifying })
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
