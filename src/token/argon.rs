//! argon2id over memory that is kept. A hash takes 19 MB, and a general allocator would hold on to as much for every thread
//! on which one was ever made.

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;

/// What one hash at a time is made in. Grows to what the largest takes.
#[derive(Default)]
pub(super) struct Memory(Vec<Block>);

impl Memory {
    /// The hash in PHC form; `None` where argon2 does not take the parameters.
    pub(super) fn hash(&mut self, params: &Params, password: &[u8], salt: &[u8]) -> Option<String> {
        let length = params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
        let hash = self.derive(&Argon2::from(params.clone()), password, salt, length)?;
        let hash = PasswordHash {
            algorithm: Algorithm::default().ident(),
            version: Some(Version::default().into()),
            params: ParamsString::try_from(params).ok()?,
            salt: Some(Salt::new(salt).ok()?),
            hash: Some(Output::new(&hash).ok()?),
        };
        Some(hash.to_string())
    }

    /// Whether this is the password of a hash in PHC form; what is none fits no password.
    pub(super) fn verify(&mut self, password: &[u8], against: &str) -> bool {
        self.fits(password, against).unwrap_or(false)
    }

    #[cfg(test)]
    pub(super) fn is_blank(&self) -> bool {
        self.0.iter().all(|block| block.as_ref().iter().all(|word| *word == 0))
    }

    fn fits(&mut self, password: &[u8], against: &str) -> Option<bool> {
        let hash = PasswordHash::new(against).ok()?;
        let (salt, expected) = hash.salt.as_ref().zip(hash.hash.as_ref())?;
        let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
        let version = hash.version.map_or(Some(Version::default()), |version| Version::try_from(version).ok())?;
        let argon2 = Argon2::new(algorithm, version, Params::try_from(&hash).ok()?);
        let actual = self.derive(&argon2, password, salt.as_ref(), expected.len())?;
        Some(verify_slices_are_equal(&actual, expected.as_bytes()).is_ok())
    }

    fn derive(&mut self, argon2: &Argon2<'_>, password: &[u8], salt: &[u8], length: usize) -> Option<Vec<u8>> {
        let blocks = argon2.params().block_count();
        if self.0.len() < blocks {
            self.0 = vec![Block::new(); blocks];
        }
        let memory = &mut self.0[..blocks];
        let mut out = vec![0; length];
        let done = argon2.hash_password_into_with_memory(password, salt, &mut out, &mut *memory);
        // Nothing of a password stays behind.
        memory.fill(Block::new());
        done.is_ok().then_some(out)
    }
}
