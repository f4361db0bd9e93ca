//! One committed alteration of anybody's permissions, as the change log tells it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::clock::Timestamp;
use super::name::{RoleName, SessionId, TenantName, UserId};
use super::version::Seq;

/// What a change touched. A row whose target cannot be read is taken as [`Target::Everyone`]: too much is evicted,
/// never too little.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// One user: his grants, his status, his being there.
    User { tenant: TenantName, user: UserId },
    /// One role: its permissions, its inclusions, its being there.
    Role { tenant: TenantName, role: RoleName },
    /// All users of one tenant.
    Tenant { tenant: TenantName },
    /// All users of all tenants.
    Everyone,
    /// The end of one session.
    Session { tenant: TenantName, user: UserId, session: SessionId },
    /// The signing keys; raises no floor by itself.
    Keys,
    /// The lockdown; raises no floor by itself.
    Lockdown { tenant: Option<TenantName> },
}

/// The word for a [`Target`] in the log and on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    User,
    Role,
    Tenant,
    Everyone,
    Session,
    Keys,
    Lockdown,
}

/// What happened to the target. All but `Changed` end sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Permissions may be others now.
    Changed,
    /// Signed out, by himself or by an administrator.
    SignedOut,
    /// User or tenant suspended.
    Suspended,
    /// User or tenant deleted.
    Deleted,
    /// A refresh token was used twice (RFC 9700, 4.14.2).
    RefreshReuse,
    /// The signing keys were revoked, and with them the sessions.
    KeysRevoked,
}

/// One row of the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Change {
    /// Its position.
    pub seq: Seq,
    /// When it was written, by the database's clock.
    pub at: Timestamp,
    /// What it touched.
    pub target: Target,
    /// What happened to it.
    pub effect: Effect,
}

/// One row of the log with what only people read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    /// The change.
    pub change: Change,
    /// Who did it: `<tenant>/<user>`, `system`, or `sql` for a write past the API.
    pub actor: String,
    /// What was done, for people.
    pub summary: String,
}

impl Target {
    /// The word for it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::User { .. } => Kind::User,
            Self::Role { .. } => Kind::Role,
            Self::Tenant { .. } => Kind::Tenant,
            Self::Everyone => Kind::Everyone,
            Self::Session { .. } => Kind::Session,
            Self::Keys => Kind::Keys,
            Self::Lockdown { .. } => Kind::Lockdown,
        }
    }

    /// The tenant that it lies in; `None` where it touches every tenant.
    pub fn tenant(&self) -> Option<&TenantName> {
        match self {
            Self::User { tenant, .. }
            | Self::Role { tenant, .. }
            | Self::Tenant { tenant }
            | Self::Session { tenant, .. } => Some(tenant),
            Self::Lockdown { tenant } => tenant.as_ref(),
            Self::Everyone | Self::Keys => None,
        }
    }

    /// The name within the tenant: the user's id, the role's name, the session's id; empty for the rest.
    pub fn name(&self) -> &str {
        match self {
            Self::User { user, .. } => user.as_str(),
            Self::Role { role, .. } => role.as_str(),
            Self::Session { session, .. } => session.as_str(),
            Self::Tenant { tenant } => tenant.as_str(),
            Self::Everyone | Self::Keys | Self::Lockdown { .. } => "",
        }
    }

    /// From the parts that the log and the wire carry. Anything that does not fit together is `Everyone`.
    pub fn from_parts(kind: &str, tenant: Option<&str>, name: &str, user: Option<&str>) -> Self {
        Self::parse(kind, tenant, name, user).unwrap_or(Self::Everyone)
    }

    /// From the parts; `None` for a kind that this reader does not know or parts that do not fit together.
    pub fn parse(kind: &str, tenant: Option<&str>, name: &str, user: Option<&str>) -> Option<Self> {
        let tenant = match tenant {
            Some(text) => Some(text.parse::<TenantName>().ok()?),
            None => None,
        };
        Some(match kind {
            "user" => Self::User { tenant: tenant?, user: name.parse().ok()? },
            "role" => Self::Role { tenant: tenant?, role: name.parse().ok()? },
            "tenant" => Self::Tenant { tenant: tenant? },
            "everyone" => Self::Everyone,
            "session" => Self::Session { tenant: tenant?, user: user?.parse().ok()?, session: name.parse().ok()? },
            "keys" => Self::Keys,
            "lockdown" => Self::Lockdown { tenant },
            _ => return None,
        })
    }
}

impl Kind {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Role => "role",
            Self::Tenant => "tenant",
            Self::Everyone => "everyone",
            Self::Session => "session",
            Self::Keys => "keys",
            Self::Lockdown => "lockdown",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Effect {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::SignedOut => "signed_out",
            Self::Suspended => "suspended",
            Self::Deleted => "deleted",
            Self::RefreshReuse => "refresh_reuse",
            Self::KeysRevoked => "keys_revoked",
        }
    }

    /// From the word. One that this reader does not know is `Changed`, which every target can bear.
    pub fn from_word(word: &str) -> Self {
        match word {
            "signed_out" => Self::SignedOut,
            "suspended" => Self::Suspended,
            "deleted" => Self::Deleted,
            "refresh_reuse" => Self::RefreshReuse,
            "keys_revoked" => Self::KeysRevoked,
            _ => Self::Changed,
        }
    }

    /// Whether the target's sessions are over with it.
    pub fn ends_sessions(self) -> bool {
        self != Self::Changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_touches_everyone() {
        for (kind, tenant, name, user) in [
            ("wormhole", Some("default"), "x", None),
            ("user", None, "ben", None),
            ("user", Some("DEFAULT"), "ben", None),
            ("role", Some("default"), "", None),
            ("session", Some("default"), "AAAAAAAAAAAAAAAAAAAAAA", None),
        ] {
            assert_eq!(Target::from_parts(kind, tenant, name, user), Target::Everyone, "{kind} {name}");
        }
    }

    #[test]
    fn a_target_reads_back_from_its_parts() {
        let tenant: TenantName = "acme".parse().unwrap();
        for target in [
            Target::User { tenant: tenant.clone(), user: "ben".parse().unwrap() },
            Target::Role { tenant: tenant.clone(), role: "editor".parse().unwrap() },
            Target::Tenant { tenant: tenant.clone() },
            Target::Everyone,
            Target::Session {
                tenant: tenant.clone(),
                user: "ben".parse().unwrap(),
                session: SessionId::from_random([7; 16]),
            },
            Target::Keys,
            Target::Lockdown { tenant: Some(tenant) },
            Target::Lockdown { tenant: None },
        ] {
            let user = match &target {
                Target::Session { user, .. } => Some(user.as_str()),
                _ => None,
            };
            let tenant = target.tenant().map(TenantName::as_str);
            assert_eq!(Target::parse(target.kind().as_str(), tenant, target.name(), user), Some(target.clone()));
        }
    }
}
