//! The claims of an access token (RFC 9068), between the wire and the domain.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::records::Identity;
use crate::domain::{Access, Grant, RoleName, SessionId, TenantName, Timestamp, UserId, Version};

/// What stands behind a token: with its end the token is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backing {
    /// A session of ours.
    Session(SessionId),
    /// An identity at a trusted issuer, whose own token it is. Only the user's end ends it here.
    Identity(Identity),
}

/// What a token says, beside its permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    pub tenant: TenantName,
    pub user: UserId,
    pub backing: Backing,
    /// The lowest position of anything that it rests on (`pv`).
    pub version: Version,
    pub client_id: String,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    /// The key that signed it.
    pub kid: String,
    pub jti: String,
}

impl Claims {
    /// The session, where one of ours is behind it.
    pub fn session(&self) -> Option<&SessionId> {
        match &self.backing {
            Backing::Session(session) => Some(session),
            Backing::Identity(_) => None,
        }
    }
}

/// The claims as the wire has them. A known member twice is refused by the derived reader; unknown ones are ignored,
/// so that a newer replica may add some.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireClaims {
    pub(super) iss: String,
    pub(super) sub: String,
    pub(super) aud: String,
    pub(super) exp: i64,
    pub(super) iat: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) nbf: Option<i64>,
    pub(super) jti: String,
    pub(super) client_id: String,
    pub(super) sid: SessionId,
    pub(super) tenant: TenantName,
    pub(super) pv: Version,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) roles: Option<Vec<RoleName>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) permissions: Option<Vec<Grant>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) permissions_omitted: Option<bool>,
}

/// `sub`: a user id alone would name another person in another tenant.
pub(super) fn subject(tenant: &TenantName, user: &UserId) -> String {
    format!("{tenant}/{user}")
}

impl WireClaims {
    /// The claims and, of a fat token, the permissions; `None` where the parts contradict each other.
    pub(super) fn into_domain(self, kid: String) -> Option<(Claims, Option<Arc<Access>>)> {
        let (tenant, user) = self.sub.split_once('/')?;
        let user: UserId = user.parse().ok()?;
        if tenant != self.tenant.as_str() {
            return None;
        }
        let access = match (self.roles, self.permissions) {
            (Some(roles), Some(permissions)) => Some(Arc::new(Access {
                tenant: self.tenant.clone(),
                user: user.clone(),
                roles: roles.into(),
                permissions: Arc::new(permissions.into_iter().collect()),
                // Its `exp` was cut to it.
                first_expiry: None,
            })),
            (None, None) => None,
            _ => return None,
        };
        let time = |seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1000));
        let claims = Claims {
            tenant: self.tenant,
            user,
            backing: Backing::Session(self.sid),
            version: self.pv,
            client_id: self.client_id,
            issued_at: time(self.iat),
            expires_at: time(self.exp),
            kid,
            jti: self.jti,
        };
        Some((claims, access))
    }
}
