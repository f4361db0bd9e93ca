//! Short words for what the suite asks of a store. Everything is in the first tenant unless `within` another.

use crate::domain::operation::{NewRole, NewTenant, NewUser, Operation, RolePatch, TenantPatch, UserPatch};
use crate::domain::records::{Identity, Status, UserKind};
use crate::domain::{Grant, RoleName, TenantName, Timestamp, UserId};

pub(crate) fn tenant(name: &str) -> TenantName {
    name.parse().unwrap()
}

pub(crate) fn user(id: &str) -> UserId {
    id.parse().unwrap()
}

pub(crate) fn role(name: &str) -> RoleName {
    name.parse().unwrap()
}

pub(crate) fn grant(text: &str) -> Grant {
    text.parse().unwrap()
}

pub(crate) fn grants(texts: &[&str]) -> Vec<Grant> {
    texts.iter().map(|text| grant(text)).collect()
}

pub(crate) fn roles(names: &[&str]) -> Vec<RoleName> {
    names.iter().map(|name| role(name)).collect()
}

pub(crate) fn identity(issuer: &str, subject: &str) -> Identity {
    Identity { issuer: issuer.to_owned(), subject: subject.to_owned() }
}

/// The same in another tenant.
pub(crate) fn within(name: &str, mut operation: Operation) -> Operation {
    use Operation as Op;
    match &mut operation {
        Op::PatchTenant { tenant: t, .. }
        | Op::DeleteTenant { tenant: t }
        | Op::EndTenantSessions { tenant: t }
        | Op::CreateUser { tenant: t, .. }
        | Op::PatchUser { tenant: t, .. }
        | Op::DeleteUser { tenant: t, .. }
        | Op::GrantRole { tenant: t, .. }
        | Op::RevokeRole { tenant: t, .. }
        | Op::GrantPermission { tenant: t, .. }
        | Op::RevokePermission { tenant: t, .. }
        | Op::CreateRole { tenant: t, .. }
        | Op::PatchRole { tenant: t, .. }
        | Op::DeleteRole { tenant: t, .. }
        | Op::AddRolePermission { tenant: t, .. }
        | Op::RemoveRolePermission { tenant: t, .. }
        | Op::AddInclude { tenant: t, .. }
        | Op::RemoveInclude { tenant: t, .. }
        | Op::EndSession { tenant: t, .. }
        | Op::EndSessions { tenant: t, .. } => *t = tenant(name),
        Op::CreateTenant(_) | Op::SetLockdown(_) => panic!("it lies in no tenant"),
    }
    operation
}

fn first() -> TenantName {
    TenantName::first()
}

pub(crate) fn add_tenant(name: &str) -> Operation {
    Operation::CreateTenant(NewTenant { name: tenant(name), description: String::new(), status: Status::Active })
}

pub(crate) fn set_tenant_status(name: &str, status: Status) -> Operation {
    let patch = TenantPatch { status: Some(status), ..TenantPatch::default() };
    Operation::PatchTenant { tenant: tenant(name), patch }
}

pub(crate) fn delete_tenant(name: &str) -> Operation {
    Operation::DeleteTenant { tenant: tenant(name) }
}

pub(crate) fn new_user(id: &str) -> NewUser {
    NewUser {
        id: user(id),
        name: String::new(),
        email: None,
        kind: UserKind::Person,
        password: None,
        status: Status::Active,
        identities: Vec::new(),
    }
}

pub(crate) fn create_user(user: NewUser) -> Operation {
    Operation::CreateUser { tenant: first(), user }
}

pub(crate) fn add_user(id: &str) -> Operation {
    create_user(new_user(id))
}

pub(crate) fn patch_user(id: &str, patch: UserPatch) -> Operation {
    Operation::PatchUser { tenant: first(), user: user(id), patch }
}

pub(crate) fn set_status(id: &str, status: Status) -> Operation {
    patch_user(id, UserPatch { status: Some(status), ..UserPatch::default() })
}

pub(crate) fn suspend(id: &str) -> Operation {
    set_status(id, Status::Suspended)
}

pub(crate) fn delete_user(id: &str) -> Operation {
    Operation::DeleteUser { tenant: first(), user: user(id) }
}

pub(crate) fn give(id: &str, name: &str) -> Operation {
    give_until(id, name, None)
}

pub(crate) fn give_until(id: &str, name: &str, expires_at: Option<Timestamp>) -> Operation {
    Operation::GrantRole { tenant: first(), user: user(id), role: role(name), expires_at }
}

pub(crate) fn take(id: &str, name: &str) -> Operation {
    Operation::RevokeRole { tenant: first(), user: user(id), role: role(name) }
}

pub(crate) fn permit(id: &str, permission: &str) -> Operation {
    permit_until(id, permission, None)
}

pub(crate) fn permit_until(id: &str, permission: &str, expires_at: Option<Timestamp>) -> Operation {
    Operation::GrantPermission { tenant: first(), user: user(id), permission: grant(permission), expires_at }
}

pub(crate) fn forbid(id: &str, permission: &str) -> Operation {
    Operation::RevokePermission { tenant: first(), user: user(id), permission: grant(permission) }
}

pub(crate) fn add_role(name: &str, permissions: &[&str], includes: &[&str]) -> Operation {
    let role = NewRole {
        name: role(name),
        description: String::new(),
        permissions: grants(permissions),
        includes: roles(includes),
    };
    Operation::CreateRole { tenant: first(), role }
}

pub(crate) fn patch_role(name: &str, permissions: Option<&[&str]>, includes: Option<&[&str]>) -> Operation {
    let patch = RolePatch { description: None, permissions: permissions.map(grants), includes: includes.map(roles) };
    Operation::PatchRole { tenant: first(), role: role(name), patch }
}

pub(crate) fn describe_role(name: &str, description: &str) -> Operation {
    let patch = RolePatch { description: Some(description.to_owned()), ..RolePatch::default() };
    Operation::PatchRole { tenant: first(), role: role(name), patch }
}

pub(crate) fn delete_role(name: &str) -> Operation {
    Operation::DeleteRole { tenant: first(), role: role(name) }
}

pub(crate) fn role_gains(name: &str, permission: &str) -> Operation {
    Operation::AddRolePermission { tenant: first(), role: role(name), permission: grant(permission) }
}

pub(crate) fn role_loses(name: &str, permission: &str) -> Operation {
    Operation::RemoveRolePermission { tenant: first(), role: role(name), permission: grant(permission) }
}

pub(crate) fn include(name: &str, other: &str) -> Operation {
    Operation::AddInclude { tenant: first(), role: role(name), other: role(other) }
}

pub(crate) fn exclude(name: &str, other: &str) -> Operation {
    Operation::RemoveInclude { tenant: first(), role: role(name), other: role(other) }
}

pub(crate) fn sign_out(id: &str) -> Operation {
    Operation::EndSessions { tenant: first(), user: user(id) }
}

pub(crate) fn sign_out_tenant(name: &str) -> Operation {
    Operation::EndTenantSessions { tenant: tenant(name) }
}
