//! Private keys and secrets at rest: sealed where a key encryption key is set, else plain and marked as such.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::domain::Random;
use crate::store::{Store, StoreError};

const PLAIN: &[u8] = b"plain:";
const SEALED: &[u8] = b"a256gcm:";

/// Why a secret cannot be read. The text never holds any of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The setting is no key.
    #[error("PERMCAST_KEY_ENCRYPTION_KEY is 32 bytes in base64, such as `openssl rand -base64 32` prints")]
    NotAKey,
    /// It was sealed, and there is no key here.
    #[error("{0} is sealed in the database: set PERMCAST_KEY_ENCRYPTION_KEY to the key that it was sealed with")]
    NeedsKey(String),
    /// It was sealed with another key, for another name, or altered.
    #[error("{0} in the database was not sealed with this PERMCAST_KEY_ENCRYPTION_KEY, or was altered")]
    WrongKey(String),
    /// It was not written by this program.
    #[error("{0} in the database is of no form that this version knows")]
    UnknownForm(String),
}

/// Why a shared secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// Seals secrets with AES-256-GCM. Each is bound to its name, so that one cannot be put in another's place.
pub struct Vault {
    key: Option<LessSafeKey>,
}

impl Vault {
    /// A vault that stores plain: whoever can read the database can read the keys.
    pub fn plain() -> Self {
        Self { key: None }
    }

    /// A vault with the key that the operator keeps elsewhere, in base64.
    pub fn with_key(base64: &str) -> Result<Self, VaultError> {
        let bytes = STANDARD.decode(base64.trim()).map_err(|_| VaultError::NotAKey)?;
        let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| VaultError::NotAKey)?;
        Ok(Self { key: Some(LessSafeKey::new(key)) })
    }

    /// A secret of 256 bits that all replicas share: made at the first start, kept in the database.
    pub async fn shared_secret(
        &self,
        store: &dyn Store,
        name: &str,
        random: &dyn Random,
    ) -> Result<Vec<u8>, SecretError> {
        let proposed = self.seal(name, &random.bytes::<32>(), random);
        let stored = store.ensure_secret(name, proposed).await?;
        Ok(self.open(name, &stored)?)
    }

    /// The secret as it is stored under this name.
    pub(super) fn seal(&self, name: &str, secret: &[u8], random: &dyn Random) -> Vec<u8> {
        let Some(key) = &self.key else { return [PLAIN, secret].concat() };
        // Secrets are few (keys and their rotations), so that random nonces of 96 bits never meet.
        let nonce: [u8; NONCE_LEN] = random.bytes();
        let mut sealed = secret.to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name.as_bytes()), &mut sealed)
            .expect("a secret is far shorter than what AES-GCM can seal");
        [SEALED, &nonce, &sealed].concat()
    }

    /// The secret that is stored under this name.
    pub(super) fn open(&self, name: &str, stored: &[u8]) -> Result<Vec<u8>, VaultError> {
        if let Some(secret) = stored.strip_prefix(PLAIN) {
            return Ok(secret.to_vec());
        }
        let Some((nonce, sealed)) = stored.strip_prefix(SEALED).and_then(<[u8]>::split_first_chunk::<NONCE_LEN>) else {
            return Err(VaultError::UnknownForm(name.to_owned()));
        };
        let key = self.key.as_ref().ok_or_else(|| VaultError::NeedsKey(name.to_owned()))?;
        let mut sealed = sealed.to_vec();
        let secret = key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(name.as_bytes()), &mut sealed)
            .map_err(|_| VaultError::WrongKey(name.to_owned()))?;
        Ok(secret.to_vec())
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.key.is_some() { "Vault(sealing)" } else { "Vault(plain)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::SystemRandom;

    fn vault(byte: u8) -> Vault {
        Vault::with_key(&STANDARD.encode([byte; 32])).unwrap()
    }

    #[test]
    fn a_secret_opens_with_its_key_under_its_name_alone() {
        let sealed = vault(1).seal("key a", b"secret", &SystemRandom);
        assert!(!sealed.windows(6).any(|w| w == b"secret"));
        assert_eq!(vault(1).open("key a", &sealed).unwrap(), b"secret");
        assert_eq!(vault(1).open("key b", &sealed), Err(VaultError::WrongKey("key b".into())));
        assert_eq!(vault(2).open("key a", &sealed), Err(VaultError::WrongKey("key a".into())));
        assert_eq!(Vault::plain().open("key a", &sealed), Err(VaultError::NeedsKey("key a".into())));
        for at in SEALED.len()..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(vault(1).open("key a", &altered).is_err(), "byte {at}");
        }
    }

    #[test]
    fn what_was_stored_plain_is_read_with_and_without_a_key() {
        let plain = Vault::plain().seal("x", b"secret", &SystemRandom);
        assert_eq!(Vault::plain().open("x", &plain).unwrap(), b"secret");
        assert_eq!(vault(1).open("x", &plain).unwrap(), b"secret");
        for unknown in [&b""[..], b"secret", b"a256gcm:", b"a256gcm:short"] {
            assert_eq!(vault(1).open("x", unknown), Err(VaultError::UnknownForm("x".into())));
        }
    }

    #[test]
    fn a_key_is_32_bytes() {
        for bad in ["", "x", &STANDARD.encode([0; 31]), &STANDARD.encode([0; 33])] {
            assert_eq!(Vault::with_key(bad).err(), Some(VaultError::NotAKey), "{bad}");
        }
    }
}
