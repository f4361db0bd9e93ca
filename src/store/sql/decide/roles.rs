//! Roles. Every edit of a role is the same: its lists before, its lists after, and the difference written.

use crate::domain::operation::{NewRole, Resource, RolePatch};
use crate::domain::records::RoleRecord;
use crate::domain::rules::{Refusal, Rights};
use crate::domain::{Grant, RoleName, Timestamp};

use super::super::facts::{RoleFacts, names_json};
use super::super::statement::args;
use super::super::writer::operation;
use super::{Decided, Plan, has_room, operates};

/// One edit.
#[derive(Clone, Copy)]
pub(in crate::store) enum RoleEdit<'a> {
    Patch(&'a RolePatch),
    AddPermission(&'a Grant),
    RemovePermission(&'a Grant),
    AddInclude(&'a RoleName),
    RemoveInclude(&'a RoleName),
}

impl RoleEdit<'_> {
    /// The roles that it names.
    pub(in crate::store) fn named(&self) -> &[RoleName] {
        match self {
            Self::Patch(patch) => patch.includes.as_deref().unwrap_or_default(),
            Self::AddInclude(other) | Self::RemoveInclude(other) => std::slice::from_ref(*other),
            Self::AddPermission(_) | Self::RemovePermission(_) => &[],
        }
    }

    fn apply(&self, role: &mut RoleRecord) {
        match *self {
            Self::Patch(patch) => {
                if let Some(description) = &patch.description {
                    role.description.clone_from(description);
                }
                if let Some(permissions) = &patch.permissions {
                    role.permissions.clone_from(permissions);
                }
                if let Some(includes) = &patch.includes {
                    role.includes.clone_from(includes);
                }
            }
            Self::AddPermission(grant) => role.permissions.push(grant.clone()),
            Self::RemovePermission(grant) => role.permissions.retain(|own| own != grant),
            Self::AddInclude(other) => role.includes.push(other.clone()),
            Self::RemoveInclude(other) => role.includes.retain(|own| own != other),
        }
        tidy(role);
    }

    fn resource(&self, role: RoleRecord) -> Resource {
        match *self {
            Self::Patch(_) => Resource::Role(role),
            Self::AddPermission(grant) => Resource::RolePermission { role: role.name, permission: grant.clone() },
            Self::AddInclude(other) => Resource::Include { role: role.name, other: other.clone() },
            Self::RemovePermission(_) | Self::RemoveInclude(_) => Resource::Nothing,
        }
    }
}

/// Each once, in order.
fn tidy(role: &mut RoleRecord) {
    role.permissions.sort();
    role.permissions.dedup();
    role.includes.sort();
    role.includes.dedup();
}

fn all_known(facts: &RoleFacts, named: &[RoleName]) -> Result<(), Refusal> {
    match named.iter().find(|name| !facts.known.contains(name)) {
        Some(name) => Err(Refusal::UnknownRole(name.to_string())),
        None => Ok(()),
    }
}

fn permissions_json(role: &RoleRecord) -> String {
    names_json(role.permissions.iter().map(Grant::as_str))
}

fn includes_json(role: &RoleRecord) -> String {
    names_json(role.includes.iter().map(RoleName::as_str))
}

pub(in crate::store) fn create_role(
    rights: &Rights,
    place: i64,
    facts: &RoleFacts,
    new: &NewRole,
    now: Timestamp,
) -> Decided {
    if facts.role.is_some() {
        return Err(Refusal::Exists(format!("the role {:?}", new.name.as_str())));
    }
    if new.includes.contains(&new.name) {
        return Err(Refusal::Cycle);
    }
    all_known(facts, &new.includes)?;
    let mut record = RoleRecord {
        name: new.name.clone(),
        description: new.description.clone(),
        permissions: new.permissions.clone(),
        includes: new.includes.clone(),
        created_at: now,
    };
    tidy(&mut record);
    has_room(record.permissions.len())?;
    has_room(record.includes.len())?;
    rights.may_touch(facts.bears.iter().chain(&record.permissions))?;
    Ok(Plan::script(
        operation!(
            "INSERT INTO roles (tenant, name, description, created_at) VALUES ($5, $6, $7, $8)",
            "INSERT INTO role_permissions (role, permission) \
                 SELECT r.no, j.value FROM roles r CROSS JOIN json_each($9) j WHERE r.tenant = $5 AND r.name = $6",
            "INSERT INTO role_includes (role, other) SELECT r.no, o.no FROM roles r CROSS JOIN json_each($10) j \
                 JOIN roles o ON o.tenant = $5 AND o.name = j.value WHERE r.tenant = $5 AND r.name = $6"
        ),
        args![
            place,
            new.name.as_str(),
            new.description.as_str(),
            now,
            permissions_json(&record),
            includes_json(&record)
        ],
        Resource::Role(record),
    )
    .named(format!("role {} created", new.name)))
}

pub(in crate::store) fn edit_role(rights: &Rights, facts: &RoleFacts, name: &RoleName, edit: RoleEdit<'_>) -> Decided {
    let (no, old) = facts.role.as_ref().ok_or_else(|| Refusal::UnknownRole(name.to_string()))?;
    all_known(facts, edit.named())?;
    let mut new = old.clone();
    edit.apply(&mut new);
    let gains = !matches!(edit, RoleEdit::RemoveInclude(_));
    if gains && facts.loops {
        return Err(Refusal::Cycle);
    }
    has_room(new.permissions.len())?;
    has_room(new.includes.len())?;
    rights.may_touch(facts.bears.iter().chain(&new.permissions))?;
    if new == *old {
        return Ok(Plan::nothing(edit.resource(new)));
    }
    let many = matches!(edit, RoleEdit::Patch(_));
    let args = args![*no, new.description.as_str(), permissions_json(&new), includes_json(&new)];
    let plan = Plan::script(
        operation!(
            "UPDATE roles SET description = $6 WHERE no = $5 AND description <> $6",
            "DELETE FROM role_permissions WHERE role = $5 AND permission NOT IN (SELECT value FROM json_each($7))",
            "INSERT INTO role_permissions (role, permission) SELECT $5, j.value FROM json_each($7) j \
                 WHERE NOT EXISTS (SELECT 1 FROM role_permissions p WHERE p.role = $5 AND p.permission = j.value)",
            "DELETE FROM role_includes WHERE role = $5 AND other NOT IN ( \
                 SELECT o.no FROM roles r CROSS JOIN json_each($8) j JOIN roles o ON o.tenant = r.tenant AND o.name = j.value \
                 WHERE r.no = $5)",
            "INSERT INTO role_includes (role, other) SELECT r.no, o.no FROM roles r CROSS JOIN json_each($8) j \
                 JOIN roles o ON o.tenant = r.tenant AND o.name = j.value WHERE r.no = $5 \
                 AND NOT EXISTS (SELECT 1 FROM role_includes i WHERE i.role = r.no AND i.other = o.no)"
        ),
        args,
        edit.resource(new),
    )
    .losing_operator_if(operates(&facts.bears));
    Ok(if many { plan.named(format!("role {name} edited")) } else { plan })
}

pub(in crate::store) fn delete_role(rights: &Rights, facts: &RoleFacts, name: &RoleName) -> Decided {
    let (no, _) = facts.role.as_ref().ok_or_else(|| Refusal::UnknownRole(name.to_string()))?;
    rights.may_touch(&facts.bears)?;
    let sql = operation!("DELETE FROM roles WHERE no = $5");
    Ok(Plan::script(sql, args![*no], Resource::Nothing).losing_operator_if(operates(&facts.bears)))
}
