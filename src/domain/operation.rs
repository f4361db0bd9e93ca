//! The language of change: what an administrator can ask of the database, one operation at a time or many together.

use super::clock::Timestamp;
use super::name::{RoleName, SessionId, TenantName, UserId};
use super::permission::Grant;
use super::records::{Identity, LockdownRecord, Status, UserKind};
use super::version::Seq;

/// From where somebody acts, and by which request: for the audit trail alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    pub address: Option<String>,
    pub request: Option<String>,
}

/// Who acts. The store checks inside the write transaction that a user still may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// A signed-in user.
    User {
        tenant: TenantName,
        user: UserId,
        /// The session that he acts in, which must not be over.
        session: SessionId,
        origin: Origin,
    },
    /// A user by a token of a trusted issuer: no session of ours stands behind him.
    Bearer {
        tenant: TenantName,
        user: UserId,
        /// Whose bearer he is; it must still be the user's.
        identity: Identity,
        /// Where the log was when his token was found to hold: nothing may have ended it since.
        as_of: Seq,
        origin: Origin,
    },
    /// permcast itself, making a user whom a trusted issuer vouches for. It deals in nothing that is reserved.
    Provisioning,
    /// permcast itself or the command line, with the word that the log shows, such as `system` or `bootstrap`.
    System(&'static str),
}

impl Actor {
    /// How the log names him.
    pub fn label(&self) -> String {
        match self {
            Self::User { tenant, user, .. } | Self::Bearer { tenant, user, .. } => format!("{tenant}/{user}"),
            Self::Provisioning => "provisioning".to_owned(),
            Self::System(word) => (*word).to_owned(),
        }
    }

    /// From where; unknown where permcast itself acts.
    pub fn origin(&self) -> Option<&Origin> {
        match self {
            Self::User { origin, .. } | Self::Bearer { origin, .. } => Some(origin),
            Self::Provisioning | Self::System(_) => None,
        }
    }
}

/// An argon2id hash in PHC form. Never shown, never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(pub String);

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

/// A tenant to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTenant {
    pub name: TenantName,
    pub description: String,
    pub status: Status,
}

/// A user to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUser {
    pub id: UserId,
    pub name: String,
    /// Lower-cased.
    pub email: Option<String>,
    pub kind: UserKind,
    pub password: Option<PasswordHash>,
    pub status: Status,
    pub identities: Vec<Identity>,
}

/// What is to be otherwise about a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantPatch {
    pub description: Option<String>,
    pub status: Option<Status>,
}

/// What is to be otherwise about a user; `Some(None)` takes a thing away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserPatch {
    pub name: Option<String>,
    pub email: Option<Option<String>>,
    pub kind: Option<UserKind>,
    pub password: Option<Option<PasswordHash>>,
    pub status: Option<Status>,
    pub identities: Option<Vec<Identity>>,
}

/// A role to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRole {
    pub name: RoleName,
    pub description: String,
    pub permissions: Vec<Grant>,
    pub includes: Vec<RoleName>,
}

/// What is to be otherwise about a role; the lists replace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RolePatch {
    pub description: Option<String>,
    pub permissions: Option<Vec<Grant>>,
    pub includes: Option<Vec<RoleName>>,
}

/// One thing to be done to the database. What is already so is no change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    CreateTenant(NewTenant),
    PatchTenant {
        tenant: TenantName,
        patch: TenantPatch,
    },
    DeleteTenant {
        tenant: TenantName,
    },

    CreateUser {
        tenant: TenantName,
        user: NewUser,
    },
    PatchUser {
        tenant: TenantName,
        user: UserId,
        patch: UserPatch,
    },
    DeleteUser {
        tenant: TenantName,
        user: UserId,
    },

    GrantRole {
        tenant: TenantName,
        user: UserId,
        role: RoleName,
        expires_at: Option<Timestamp>,
    },
    RevokeRole {
        tenant: TenantName,
        user: UserId,
        role: RoleName,
    },
    GrantPermission {
        tenant: TenantName,
        user: UserId,
        permission: Grant,
        expires_at: Option<Timestamp>,
    },
    RevokePermission {
        tenant: TenantName,
        user: UserId,
        permission: Grant,
    },

    CreateRole {
        tenant: TenantName,
        role: NewRole,
    },
    PatchRole {
        tenant: TenantName,
        role: RoleName,
        patch: RolePatch,
    },
    DeleteRole {
        tenant: TenantName,
        role: RoleName,
    },
    AddRolePermission {
        tenant: TenantName,
        role: RoleName,
        permission: Grant,
    },
    RemoveRolePermission {
        tenant: TenantName,
        role: RoleName,
        permission: Grant,
    },
    AddInclude {
        tenant: TenantName,
        role: RoleName,
        other: RoleName,
    },
    RemoveInclude {
        tenant: TenantName,
        role: RoleName,
        other: RoleName,
    },

    /// Ends one session of a user.
    EndSession {
        tenant: TenantName,
        user: UserId,
        session: SessionId,
    },
    /// Ends all sessions of a user; one row in the log.
    EndSessions {
        tenant: TenantName,
        user: UserId,
    },

    /// Ends all sessions of a tenant, those of operators in it too; one row in the log.
    EndTenantSessions {
        tenant: TenantName,
    },

    /// `None` lifts it.
    SetLockdown(Option<NewLockdown>),
}

/// A lockdown to be put in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLockdown {
    pub tenant: Option<TenantName>,
    pub retry_after_s: u32,
    pub until: Option<Timestamp>,
}

impl Operation {
    /// The tenant whose `permcast:admin` may do it; `None`: operators alone.
    pub fn tenant(&self) -> Option<&TenantName> {
        match self {
            Self::CreateTenant(_)
            | Self::PatchTenant { .. }
            | Self::DeleteTenant { .. }
            | Self::EndTenantSessions { .. }
            | Self::SetLockdown(_) => None,
            Self::CreateUser { tenant, .. }
            | Self::PatchUser { tenant, .. }
            | Self::DeleteUser { tenant, .. }
            | Self::GrantRole { tenant, .. }
            | Self::RevokeRole { tenant, .. }
            | Self::GrantPermission { tenant, .. }
            | Self::RevokePermission { tenant, .. }
            | Self::CreateRole { tenant, .. }
            | Self::PatchRole { tenant, .. }
            | Self::DeleteRole { tenant, .. }
            | Self::AddRolePermission { tenant, .. }
            | Self::RemoveRolePermission { tenant, .. }
            | Self::AddInclude { tenant, .. }
            | Self::RemoveInclude { tenant, .. }
            | Self::EndSession { tenant, .. }
            | Self::EndSessions { tenant, .. } => Some(tenant),
        }
    }
}

/// Operations that are done together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Who acts.
    pub actor: Actor,
    /// In this order.
    pub operations: Vec<Operation>,
}

/// What an operation left behind, as it stood right after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    Tenant(super::records::TenantRecord),
    User(super::records::UserRecord),
    Role(super::records::RoleRecord),
    RoleGrant {
        user: UserId,
        role: RoleName,
        expires_at: Option<Timestamp>,
    },
    PermissionGrant {
        user: UserId,
        permission: Grant,
        expires_at: Option<Timestamp>,
    },
    RolePermission {
        role: RoleName,
        permission: Grant,
    },
    Include {
        role: RoleName,
        other: RoleName,
    },
    Lockdown(Option<LockdownRecord>),
    /// Of a deletion.
    Nothing,
}
