//! Roles and permissions, given to users and taken from them.

use crate::domain::operation::Resource;
use crate::domain::rules::{Refusal, Rights};
use crate::domain::{Grant, RoleName, Timestamp, UserId};

use super::super::facts::{GrantFacts, Standing};
use super::super::statement::{Arg, args};
use super::super::writer::operation;
use super::{Decided, Plan, has_room, is_lasting, operates};

/// What is given or taken.
#[derive(Clone, Copy)]
pub(in crate::store) enum Thing<'a> {
    Role(&'a RoleName),
    Permission(&'a Grant),
}

/// User, and role or permission, as a script's arguments; fails where one of them does not exist or may not be dealt in.
fn key(rights: &Rights, facts: &GrantFacts, id: &UserId, thing: Thing<'_>) -> Result<(Vec<Arg>, bool), Refusal> {
    let user = facts.user.ok_or_else(|| Refusal::UnknownUser(id.to_string()))?;
    match thing {
        Thing::Role(name) => {
            let role = facts.role.ok_or_else(|| Refusal::UnknownRole(name.to_string()))?;
            rights.may_touch(&facts.bears)?;
            Ok((args![user, role], operates(&facts.bears)))
        }
        Thing::Permission(grant) => {
            rights.may_touch([grant])?;
            Ok((args![user, grant.as_str()], operates(std::slice::from_ref(grant))))
        }
    }
}

pub(in crate::store) fn grant(
    rights: &Rights,
    facts: &GrantFacts,
    id: &UserId,
    thing: Thing<'_>,
    expires_at: Option<Timestamp>,
) -> Decided {
    let (mut args, operates) = key(rights, facts, id, thing)?;
    let resource = match thing {
        Thing::Role(role) => Resource::RoleGrant { user: id.clone(), role: role.clone(), expires_at },
        Thing::Permission(grant) => {
            Resource::PermissionGrant { user: id.clone(), permission: grant.clone(), expires_at }
        }
    };
    if facts.stands == Some(Standing { expires_at }) {
        return Ok(Plan::nothing(resource));
    }
    if facts.stands.is_none() {
        has_room(usize::try_from(facts.count).unwrap_or(usize::MAX).saturating_add(1))?;
    }
    args.push(expires_at.into());
    let sql = match thing {
        Thing::Role(_) => operation!(
            "INSERT INTO user_roles (\"user\", role, expires_at) VALUES ($5, $6, $7) \
                 ON CONFLICT (\"user\", role) DO UPDATE SET expires_at = excluded.expires_at"
        ),
        Thing::Permission(_) => operation!(
            "INSERT INTO user_permissions (\"user\", permission, expires_at) VALUES ($5, $6, $7) \
                 ON CONFLICT (\"user\", permission) DO UPDATE SET expires_at = excluded.expires_at"
        ),
    };
    let shortened = facts.stands.is_some_and(|old| is_lasting(old.expires_at)) && !is_lasting(expires_at);
    Ok(Plan::script(sql, args, resource).losing_operator_if(operates && shortened))
}

pub(in crate::store) fn revoke(rights: &Rights, facts: &GrantFacts, id: &UserId, thing: Thing<'_>) -> Decided {
    let (args, operates) = key(rights, facts, id, thing)?;
    let Some(Standing { expires_at }) = facts.stands else { return Ok(Plan::nothing(Resource::Nothing)) };
    let sql = match thing {
        Thing::Role(_) => operation!("DELETE FROM user_roles WHERE \"user\" = $5 AND role = $6"),
        Thing::Permission(_) => operation!("DELETE FROM user_permissions WHERE \"user\" = $5 AND permission = $6"),
    };
    Ok(Plan::script(sql, args, Resource::Nothing).losing_operator_if(operates && is_lasting(expires_at)))
}
