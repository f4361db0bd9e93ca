//! What an operation comes to, from facts read under the writer's lock: a script, or nothing to do, or a refusal. Pure.

mod grants;
mod roles;
mod tenants;
mod users;

pub(in crate::store) use grants::{Thing, grant, revoke};
pub(in crate::store) use roles::{RoleEdit, create_role, delete_role, edit_role};
pub(in crate::store) use tenants::{create_tenant, delete_tenant, end_tenant_sessions, patch_tenant, set_lockdown};
pub(in crate::store) use users::{create_user, delete_user, end_session, end_sessions, patch_user};

use crate::domain::operation::Resource;
use crate::domain::permission::OPERATOR;
use crate::domain::rules::Refusal;
use crate::domain::{Grant, Timestamp};

use super::writer::Script;

/// What to do.
pub(in crate::store) struct Plan {
    /// `None`: it is so already.
    pub(in crate::store) script: Option<Script>,
    /// What the operation leaves behind.
    pub(in crate::store) resource: Resource,
    /// Whether an operator could be lost by it.
    pub(in crate::store) may_lose_operator: bool,
}

type Decided = Result<Plan, Refusal>;

impl Plan {
    fn nothing(resource: Resource) -> Self {
        Self { script: None, resource, may_lose_operator: false }
    }

    fn script(sql: &'static str, args: Vec<super::statement::Arg>, resource: Resource) -> Self {
        Self { script: Some(Script { sql, args, summary: None }), resource, may_lose_operator: false }
    }

    fn named(mut self, summary: String) -> Self {
        if let Some(script) = &mut self.script {
            script.summary = Some(summary);
        }
        self
    }

    fn losing_operator_if(mut self, may: bool) -> Self {
        self.may_lose_operator = may && self.script.is_some();
        self
    }
}

/// Whether an operator's right is among these.
fn operates(grants: &[Grant]) -> bool {
    grants.iter().any(|grant| grant.as_str() == OPERATOR)
}

/// No thing holds more than so many.
fn has_room(count: usize) -> Result<(), Refusal> {
    if count > crate::domain::limits::GRANTS_MAX { Err(Refusal::Invalid("at most 1000 of these")) } else { Ok(()) }
}

/// Whether a grant with this expiry holds for ever.
fn is_lasting(expires_at: Option<Timestamp>) -> bool {
    expires_at.is_none()
}
