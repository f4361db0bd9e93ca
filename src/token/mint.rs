//! Making access tokens.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::algorithm::KeyRefused;
use super::claims::{WireClaims, subject};
use super::jws;
use super::keys::KeySet;
use crate::domain::limits::{CLOCK_LEEWAY, TOKEN_BYTES_ACCEPTED, TOKEN_BYTES_MAX};
use crate::domain::{Access, Clock, Random, SessionId, Timestamp, Version};

/// Whether tokens carry roles and permissions (`PERMCAST_TOKEN_PERMISSIONS`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TokenPermissions {
    /// While the token stays small enough for a header.
    #[default]
    Auto,
    /// Always, as far as any reader accepts its size.
    Claims,
    /// Never: a thin token.
    None,
}

/// A word that names none of the three.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("token permissions are auto, claims or none")]
pub struct UnknownTokenPermissions;

impl FromStr for TokenPermissions {
    type Err = UnknownTokenPermissions;
    fn from_str(text: &str) -> Result<Self, UnknownTokenPermissions> {
        match text {
            "auto" => Ok(Self::Auto),
            "claims" => Ok(Self::Claims),
            "none" => Ok(Self::None),
            _ => Err(UnknownTokenPermissions),
        }
    }
}

/// What all tokens have in common.
#[derive(Debug, Clone)]
pub struct TokenSettings {
    /// `iss`.
    pub issuer: String,
    /// `aud`.
    pub audience: String,
    /// Their longest life.
    pub ttl: Duration,
    pub permissions: TokenPermissions,
}

/// What one token is made from.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub access: Arc<Access>,
    pub session: SessionId,
    /// When the session is over at the latest.
    pub session_expires_at: Timestamp,
    /// The lowest position of anything it rests on, the session's being alive included.
    pub version: Version,
    pub client_id: String,
}

/// A token that was made.
#[derive(Clone)]
pub struct Minted {
    pub token: String,
    /// Whole seconds until it expires.
    pub expires_in: u64,
    pub expires_at: Timestamp,
    /// Its `pv`.
    pub version: Version,
    /// Whether roles and permissions are left out.
    pub thin: bool,
}

impl std::fmt::Debug for Minted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Minted").field("version", &self.version).field("thin", &self.thin).finish_non_exhaustive()
    }
}

/// A token could not be signed.
#[derive(Debug, thiserror::Error)]
#[error("the token could not be signed")]
pub struct MintError(#[from] KeyRefused);

/// Makes access tokens.
pub struct Mint {
    keys: Arc<KeySet>,
    settings: TokenSettings,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Mint {
    pub fn new(keys: Arc<KeySet>, settings: TokenSettings, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self { keys, settings, clock, random }
    }

    /// What all its tokens have in common.
    pub fn settings(&self) -> &TokenSettings {
        &self.settings
    }

    /// Makes a token.
    pub fn mint(&self, snapshot: &Snapshot) -> Result<Minted, MintError> {
        let now = self.clock.now();
        let bytes_max = match self.settings.permissions {
            TokenPermissions::Auto => TOKEN_BYTES_MAX,
            TokenPermissions::Claims => TOKEN_BYTES_ACCEPTED,
            TokenPermissions::None => return self.sign(now, snapshot, life(now, self.settings.ttl, snapshot), None),
        };
        let whole = life(now, self.settings.ttl, snapshot);
        let cut = snapshot.access.first_expiry.map(|at| at.minus(CLOCK_LEEWAY));
        let fat = whole.min(cut.unwrap_or(whole));
        if fat.seconds() > now.seconds() {
            let minted = self.sign(now, snapshot, fat, Some(Permissions::Carried))?;
            if minted.token.len() <= bytes_max {
                return Ok(minted);
            }
            return self.sign(now, snapshot, whole, Some(Permissions::Omitted));
        }
        // A grant of his has less than the leeway to live: a token that carries it would be born dead. A thin one lives
        // until just after that moment, when a fat one can be had again.
        let thin = whole.min(snapshot.access.first_expiry.map_or(whole, |at| at.plus(CLOCK_LEEWAY)));
        self.sign(now, snapshot, thin, Some(Permissions::Omitted))
    }

    fn sign(
        &self,
        now: Timestamp,
        snapshot: &Snapshot,
        expires_at: Timestamp,
        permissions: Option<Permissions>,
    ) -> Result<Minted, MintError> {
        let access = &snapshot.access;
        let carried = permissions == Some(Permissions::Carried);
        let claims = WireClaims {
            iss: self.settings.issuer.clone(),
            sub: subject(&access.tenant, &access.user),
            aud: self.settings.audience.clone(),
            exp: expires_at.seconds(),
            iat: now.seconds(),
            nbf: None,
            jti: URL_SAFE_NO_PAD.encode(self.random.bytes::<16>()),
            client_id: snapshot.client_id.clone(),
            sid: snapshot.session.clone(),
            tenant: access.tenant.clone(),
            pv: snapshot.version,
            roles: carried.then(|| access.roles.to_vec()),
            permissions: carried.then(|| access.permissions.grants().to_vec()),
            permissions_omitted: (permissions == Some(Permissions::Omitted)).then_some(true),
        };
        let payload = serde_json::to_vec(&claims).expect("claims hold strings and numbers only");
        let token = jws::sign(&self.keys.keys().signing, jws::ACCESS_TOKEN_TYPE, &payload)?;
        let expires_in = u64::try_from(claims.exp - claims.iat).unwrap_or(0);
        let expires_at = Timestamp::from_millis(claims.exp * 1000);
        Ok(Minted { token, expires_in, expires_at, version: snapshot.version, thin: !carried })
    }
}

/// How a token of a mode that carries permissions stands to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Permissions {
    Carried,
    /// `permissions_omitted: true`.
    Omitted,
}

/// When a token is over at the latest: its own life, and its session's.
fn life(now: Timestamp, ttl: Duration, snapshot: &Snapshot) -> Timestamp {
    now.plus(ttl).min(snapshot.session_expires_at)
}

#[cfg(test)]
#[path = "size_tests.rs"]
mod size_tests;
#[cfg(test)]
#[path = "mint_tests.rs"]
mod tests;
