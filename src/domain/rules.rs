//! The rules of the whole: what no operation may break, whoever asks and whatever runs beside it. Pure; the stores ask
//! them with facts read inside the write transaction, after the writer's lock.

use super::access::PermissionSet;
use super::name::TenantName;
use super::permission::Grant;

/// Why an operation was not done. Nothing of its unit was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 404. Also another's tenant, to one who is no operator.
    #[error("there is no such tenant")]
    UnknownTenant,
    /// 404.
    #[error("there is no user {0:?}")]
    UnknownUser(String),
    /// 404.
    #[error("there is no role {0:?}")]
    UnknownRole(String),
    /// 404.
    #[error("there is no session {0:?}")]
    UnknownSession(String),
    /// 403: the actor lacks the right that the operation takes.
    #[error("this takes {0}")]
    NotAllowed(&'static str),
    /// 403: the thing bears a `permcast:` permission that the actor does not hold.
    #[error("only one who holds {0} may do this")]
    Escalation(Grant),
    /// 401: the actor's session is over, or he was suspended or deleted meanwhile.
    #[error("the session is over")]
    SessionOver,
    /// 409.
    #[error("{0} exists already")]
    Exists(String),
    /// 409.
    #[error("a role cannot include itself, directly or through others")]
    Cycle,
    /// 409.
    #[error("the last operator cannot be lost")]
    LastOperator,
    /// 409: an id may return only when no refresh token of its last bearer can still live.
    #[error("the id {0:?} was deleted too recently to be used again")]
    TooSoon(String),
    /// 409.
    #[error("the tenant \"default\" cannot be deleted")]
    FirstTenant,
    /// 422.
    #[error("{0}")]
    Invalid(&'static str),
}

/// What an actor may do, read inside the write transaction.
#[derive(Debug, Clone)]
pub enum Rights {
    /// permcast itself or the command line: everything.
    System,
    /// permcast itself, making a user whom a trusted issuer vouches for: in any one tenant, and nothing that is reserved.
    Provisioning,
    /// A user with what he holds now.
    User {
        /// His own.
        tenant: TenantName,
        /// All that he holds now.
        permissions: PermissionSet,
    },
}

impl Rights {
    /// Whether he may do an operation that takes `permcast:admin` of `tenant`, or of one that only operators do (`None`).
    pub fn may_act(&self, in_tenant: Option<&TenantName>) -> Result<(), Refusal> {
        let (own, permissions) = match self {
            Self::System => return Ok(()),
            Self::Provisioning if in_tenant.is_some() => return Ok(()),
            Self::Provisioning => return Err(Refusal::NotAllowed(super::permission::OPERATOR)),
            Self::User { tenant, permissions } => (tenant, permissions),
        };
        match in_tenant {
            _ if permissions.is_operator() => Ok(()),
            None => Err(Refusal::NotAllowed(super::permission::OPERATOR)),
            Some(tenant) if tenant != own => Err(Refusal::UnknownTenant),
            Some(_) if permissions.is_admin() => Ok(()),
            Some(_) => Err(Refusal::NotAllowed(super::permission::ADMIN)),
        }
    }

    /// Whether he may give, take away or alter something through which these permissions are held: he must hold each
    /// `permcast:` permission among them himself. To be asked with what the thing bore before and what it bears after.
    pub fn may_touch<'a>(&self, bears: impl IntoIterator<Item = &'a Grant>) -> Result<(), Refusal> {
        let controls = |grant: &Grant| match self {
            Self::System => true,
            Self::Provisioning => false,
            Self::User { permissions, .. } => permissions.controls(grant),
        };
        // The least of them, so that it is the same in whatever order they come.
        match bears.into_iter().filter(|grant| grant.is_reserved() && !controls(grant)).min() {
            Some(grant) => Err(Refusal::Escalation(grant.clone())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::permission::{ADMIN, CHECK, OPERATOR};

    fn rights(grants: &[&str]) -> Rights {
        Rights::User {
            tenant: "acme".parse().unwrap(),
            permissions: grants.iter().map(|g| g.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn another_tenant_is_unknown_to_all_but_operators() {
        let (own, other) = ("acme".parse().unwrap(), "other".parse().unwrap());
        assert_eq!(rights(&[ADMIN]).may_act(Some(&own)), Ok(()));
        assert_eq!(rights(&[ADMIN]).may_act(Some(&other)), Err(Refusal::UnknownTenant));
        assert_eq!(rights(&["*"]).may_act(Some(&own)), Err(Refusal::NotAllowed(ADMIN)));
        assert_eq!(rights(&[ADMIN]).may_act(None), Err(Refusal::NotAllowed(OPERATOR)));
        assert_eq!(rights(&[OPERATOR]).may_act(Some(&other)), Ok(()));
        assert_eq!(rights(&[OPERATOR]).may_act(None), Ok(()));
    }

    #[test]
    fn nobody_deals_in_what_he_does_not_hold() {
        let check: Grant = CHECK.parse().unwrap();
        let plain: Grant = "invoices:read".parse().unwrap();
        assert_eq!(rights(&[ADMIN]).may_touch([&plain]), Ok(()));
        assert_eq!(rights(&[ADMIN]).may_touch([&plain, &check]), Err(Refusal::Escalation(check.clone())));
        assert_eq!(rights(&[ADMIN, CHECK]).may_touch([&check]), Ok(()));
        assert_eq!(rights(&[OPERATOR]).may_touch([&check]), Ok(()));
        assert_eq!(Rights::System.may_touch([&check]), Ok(()));
        assert_eq!(Rights::Provisioning.may_touch([&plain, &check]), Err(Refusal::Escalation(check)));
        assert_eq!(Rights::Provisioning.may_touch([&plain]), Ok(()));
        assert_eq!(Rights::Provisioning.may_act(None), Err(Refusal::NotAllowed(OPERATOR)));
    }
}
