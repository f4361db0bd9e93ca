//! Tokens and sessions: signing keys, minting, verifying, sign-in and refresh.
//!
//! A token is a snapshot with a signature around it. This room makes it and says whether the signature and all that
//! RFC 8725 asks for holds; whether the snapshot is still fresh is asked of the floors, each time, by others.

mod algorithm;
mod argon;
#[cfg(test)]
pub(crate) mod bench;
mod budget;
mod claims;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod jws;
mod keys;
mod limit;
mod mint;
mod passwords;
mod refresh;
mod refusals;
mod rotation;
mod sessions;
mod trail;
mod vault;
mod verified;
mod verify;

pub use algorithm::{Algorithm, UnknownAlgorithm};
pub use budget::measured_budget;
pub use claims::{Backing, Claims};
pub use keys::{KeyError, KeySet, RotateError};
pub use limit::{GuessLimits, Rate};
pub use mint::{Mint, MintError, Minted, Snapshot, TokenPermissions, TokenSettings};
pub use passwords::{PasswordError, PasswordSettings, Passwords};
pub use rotation::rotate_keys;
pub use sessions::{
    Authenticated, Client, Issued, Login, Parts as SessionParts, Permissions, PermissionsError, Secret, SessionError,
    SessionSettings, Sessions,
};
pub use trail::keep_trail;
pub use vault::{SecretError, Vault, VaultError};
pub use verified::Verified;
pub use verify::{TokenError, Verifier};
