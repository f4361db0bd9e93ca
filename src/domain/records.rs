//! What the database holds, as REST shows it.

use serde::{Deserialize, Serialize};

use super::clock::Timestamp;
use super::name::{RoleName, SessionId, TenantName, UserId};
use super::permission::Grant;
use super::version::Seq;

/// Whether a tenant or user may act at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Active,
    Suspended,
}

/// A person or a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserKind {
    Person,
    Service,
}

impl Status {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }
}

impl UserKind {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Service => "service",
        }
    }
}

/// A user's identity at an identity provider. Unique within the tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// `iss` of the provider's tokens.
    pub issuer: String,
    /// `sub` of the provider's tokens.
    pub subject: String,
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TenantRecord {
    /// Its id.
    pub name: TenantName,
    pub description: String,
    pub status: Status,
    pub created_at: Timestamp,
}

/// A user or service account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UserRecord {
    pub id: UserId,
    pub name: String,
    pub email: Option<String>,
    pub kind: UserKind,
    pub status: Status,
    pub identities: Vec<Identity>,
    /// Whether a password is set; the password itself is never shown.
    pub has_password: bool,
    pub created_at: Timestamp,
}

/// A role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoleRecord {
    pub name: RoleName,
    pub description: String,
    /// Its own, sorted.
    pub permissions: Vec<Grant>,
    /// Its own, sorted.
    pub includes: Vec<RoleName>,
    pub created_at: Timestamp,
}

/// What a grant gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Granted {
    Role(RoleName),
    Permission(Grant),
}

/// A grant to a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GrantRecord {
    #[serde(flatten)]
    pub granted: Granted,
    /// When it is deleted.
    pub expires_at: Option<Timestamp>,
}

/// A session as its user's administrator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    pub id: SessionId,
    pub created_at: Timestamp,
    pub last_refresh_at: Timestamp,
    pub address: String,
    pub user_agent: String,
    /// Head of the log when its token was last refreshed.
    pub seq: Seq,
}

/// A process that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaRecord {
    /// `PERMCAST_REPLICA_ID`.
    pub id: String,
    pub started_at: Timestamp,
    /// When it last said so, by the database's clock.
    pub seen_at: Timestamp,
    /// The version that it had applied then, in the database's epoch.
    pub applied: Seq,
    /// The connections that it carried then.
    pub connections: u64,
}

/// A lockdown: all but operators are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockdownRecord {
    /// One tenant, or everyone.
    pub tenant: Option<TenantName>,
    /// What `Retry-After` says, in seconds.
    pub retry_after_s: u32,
    pub since: Timestamp,
    /// When it lifts by itself.
    pub until: Option<Timestamp>,
}

/// A part of a list, and where the next part begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// The key of the last item, where more follow.
    pub next: Option<String>,
}
