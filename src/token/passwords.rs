//! Passwords and their hashes: argon2id, off the async threads, a few at a time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use argon2::Params;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::Semaphore;

use super::argon::Memory;
use crate::domain::Random;
use crate::domain::operation::PasswordHash;

/// How hard hashing is, and how much of it is borne. The defaults are those of OWASP's cheat sheet.
#[derive(Debug, Clone, Copy)]
pub struct PasswordSettings {
    pub memory_kib: u32,
    pub iterations: u32,
    pub lanes: u32,
    /// Hashes at once: each takes `memory_kib` and a core.
    pub at_once: usize,
    /// How many may wait; beyond that one is told to come back.
    pub waiting: usize,
}

impl Default for PasswordSettings {
    fn default() -> Self {
        Self { memory_kib: 19 * 1024, iterations: 2, lanes: 1, at_once: 2, waiting: 64 }
    }
}

/// The hash was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too many wait already.
    #[error("too many passwords are being hashed at this moment")]
    Busy,
    /// The settings are none that argon2 takes.
    #[error("argon2 does not take these parameters")]
    Settings,
}

/// Marks the hash of a generated secret: 256 random bits need no slow hash.
const GENERATED: &str = "$permcast-sha256$";
/// What generated secrets begin with, so that scanners can find one that leaked.
const SECRET_PREFIX: &str = "pcs_";

/// Hashes and compares passwords.
pub struct Passwords {
    params: Params,
    random: Arc<dyn Random>,
    /// Room for those that are hashed and those that wait.
    admitted: Semaphore,
    running: Arc<Semaphore>,
    /// What those that run do not use of the memory; never more than run at once.
    free: Arc<Mutex<Vec<Memory>>>,
    /// A hash of nobody's password, compared with where there is no user.
    nobody: PasswordHash,
    runs: Arc<AtomicU64>,
}

impl Passwords {
    /// Makes one hash, so that it takes a moment.
    pub fn new(settings: PasswordSettings, random: Arc<dyn Random>) -> Result<Self, PasswordError> {
        let params = Params::new(settings.memory_kib, settings.iterations, settings.lanes, None)
            .map_err(|_| PasswordError::Settings)?;
        let mut memory = Memory::default();
        let nobody = hash(&mut memory, &params, &random.bytes::<32>(), random.bytes())?;
        Ok(Self {
            params,
            random,
            admitted: Semaphore::new(settings.at_once + settings.waiting),
            running: Arc::new(Semaphore::new(settings.at_once)),
            free: Arc::new(Mutex::new(vec![memory])),
            nobody,
            runs: Arc::default(),
        })
    }

    /// The hash of a password that somebody chose.
    pub async fn hash(&self, password: String) -> Result<PasswordHash, PasswordError> {
        let (params, salt) = (self.params.clone(), self.random.bytes());
        self.run(move |memory| hash(memory, &params, password.as_bytes(), salt)).await?
    }

    /// Whether it is the password. Without a hash, of a user who is not there, the same work is done in vain.
    pub async fn verify(&self, password: String, against: Option<PasswordHash>) -> Result<bool, PasswordError> {
        if let Some(expected) = against.as_ref().and_then(|hash| hash.0.strip_prefix(GENERATED)) {
            let actual = URL_SAFE_NO_PAD.encode(digest(&SHA256, password.as_bytes()));
            return Ok(verify_slices_are_equal(actual.as_bytes(), expected.as_bytes()).is_ok());
        }
        let is_somebody = against.is_some();
        let against = against.unwrap_or_else(|| self.nobody.clone());
        let equal = self.run(move |memory| memory.verify(password.as_bytes(), &against.0)).await?;
        Ok(equal && is_somebody)
    }

    /// Whether the hash of a password was made with other parameters than those in force.
    pub fn is_outdated(&self, hash: &PasswordHash) -> bool {
        let (memory, passes, lanes) = (self.params.m_cost(), self.params.t_cost(), self.params.p_cost());
        !is_generated(hash) && !hash.0.starts_with(&format!("$argon2id$v=19$m={memory},t={passes},p={lanes}$"))
    }

    /// A secret for a program, and its hash. The secret is shown once.
    pub fn generate_secret(&self) -> (String, PasswordHash) {
        let secret = format!("{SECRET_PREFIX}{}", URL_SAFE_NO_PAD.encode(self.random.bytes::<32>()));
        let hash = URL_SAFE_NO_PAD.encode(digest(&SHA256, secret.as_bytes()));
        (secret, PasswordHash(format!("{GENERATED}{hash}")))
    }

    /// How often argon2 was run since the start.
    pub fn runs(&self) -> u64 {
        self.runs.load(Ordering::Relaxed)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Memory) -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let _admitted = self.admitted.try_acquire().map_err(|_| PasswordError::Busy)?;
        let running = Arc::clone(&self.running).acquire_owned().await.map_err(|_| PasswordError::Busy)?;
        let (runs, free) = (Arc::clone(&self.runs), Arc::clone(&self.free));
        let done = tokio::task::spawn_blocking(move || {
            // Held by the work itself: it goes on when the client that asked for it has left.
            let _running = running;
            runs.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("permcast_password_hashes_total").increment(1);
            let mut memory = held(&free).pop().unwrap_or_default();
            let done = work(&mut memory);
            held(&free).push(memory);
            done
        });
        done.await.map_err(|_| PasswordError::Busy)
    }
}

/// Whether this is the hash of a generated secret.
pub(super) fn is_generated(hash: &PasswordHash) -> bool {
    hash.0.starts_with(GENERATED)
}

fn held(free: &Mutex<Vec<Memory>>) -> MutexGuard<'_, Vec<Memory>> {
    free.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hash(memory: &mut Memory, params: &Params, password: &[u8], salt: [u8; 16]) -> Result<PasswordHash, PasswordError> {
    memory.hash(params, password, &salt).map(PasswordHash).ok_or(PasswordError::Settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::SystemRandom;

    fn passwords(waiting: usize) -> Passwords {
        let settings = PasswordSettings { memory_kib: 64, iterations: 1, lanes: 1, at_once: 1, waiting };
        Passwords::new(settings, Arc::new(SystemRandom)).unwrap()
    }

    #[tokio::test]
    async fn a_password_is_told_from_another() {
        let passwords = passwords(8);
        let hash = passwords.hash("right".into()).await.unwrap();
        assert!(hash.0.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{}", hash.0);
        assert_ne!(hash, passwords.hash("right".into()).await.unwrap(), "salted");
        assert!(passwords.verify("right".into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("wrong".into(), Some(hash)).await.unwrap());
        assert!(!passwords.verify("right".into(), Some(PasswordHash("garbage".into()))).await.unwrap());
    }

    #[tokio::test]
    async fn memory_is_used_again_and_holds_nothing() {
        let settings = PasswordSettings { memory_kib: 64, iterations: 1, lanes: 1, at_once: 2, waiting: 64 };
        let passwords = Passwords::new(settings, Arc::new(SystemRandom)).unwrap();
        let hash = passwords.hash("right".into()).await.unwrap();
        let all = futures_util::future::join_all((0..20).map(|_| passwords.verify("right".into(), Some(hash.clone()))));
        assert!(all.await.iter().all(|right| *right == Ok(true)));
        let free = passwords.free.lock().unwrap();
        assert!((1..=2).contains(&free.len()), "{} hashes were made at once", free.len());
        assert!(free.iter().all(Memory::is_blank));
    }

    #[tokio::test]
    async fn a_hash_is_outdated_when_the_parameters_are_others() {
        let (old, new) = (passwords(8), {
            let settings = PasswordSettings { memory_kib: 64, iterations: 2, ..PasswordSettings::default() };
            Passwords::new(settings, Arc::new(SystemRandom)).unwrap()
        });
        let hash = old.hash("right".into()).await.unwrap();
        assert!(!old.is_outdated(&hash) && new.is_outdated(&hash));
        assert!(!new.is_outdated(&new.generate_secret().1), "a generated secret has none");
    }

    #[tokio::test]
    async fn nobody_costs_as_much_as_somebody() {
        let passwords = passwords(8);
        let hash = passwords.hash("right".into()).await.unwrap();
        let before = passwords.runs();
        passwords.verify("wrong".into(), Some(hash)).await.unwrap();
        assert_eq!(passwords.runs(), before + 1);
        assert!(!passwords.verify("wrong".into(), None).await.unwrap());
        assert_eq!(passwords.runs(), before + 2);
    }

    #[tokio::test]
    async fn a_generated_secret_needs_no_slow_hash() {
        let passwords = passwords(8);
        let (secret, hash) = passwords.generate_secret();
        assert!(is_generated(&hash) && !hash.0.contains(&secret));
        assert!(passwords.verify(secret, Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("pcs_".into(), Some(hash)).await.unwrap());
        assert_eq!(passwords.runs(), 0);
    }

    #[tokio::test]
    async fn who_finds_the_queue_full_is_told_at_once() {
        let passwords = passwords(1);
        let answers = futures_util::future::join_all((0..5).map(|_| passwords.verify("x".into(), None))).await;
        assert_eq!(answers.iter().filter(|answer| **answer == Err(PasswordError::Busy)).count(), 3);
        assert_eq!(passwords.verify("x".into(), None).await, Ok(false), "and there is room again");
    }
}
