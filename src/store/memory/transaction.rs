//! One write: operations applied to a copy of the state, and the rows that they add to the log.

mod roles;
mod upkeep;

use std::collections::BTreeMap;

use crate::domain::clock::Timestamp;
use crate::domain::limits::GRANTS_MAX;
use crate::domain::operation::{NewLockdown, NewTenant, NewUser, Operation, Resource, TenantPatch, UserPatch};
use crate::domain::records::{LockdownRecord, Status};
use crate::domain::rules::{Refusal, Rights};
use crate::domain::{
    Actor, Change, Effect, Grant, LogRow, RoleName, RoleNo, Seq, SessionId, Target, TenantName, UserId, UserNo,
};
use crate::store::StoreOptions;

use super::state::{State, Tenant, User, holds};

type Done = Result<Resource, Refusal>;

pub(super) struct Transaction<'a> {
    pub(super) state: State,
    pub(super) rows: Vec<LogRow>,
    pub(super) now: Timestamp,
    head: Seq,
    actor: Actor,
    rights: Rights,
    options: &'a StoreOptions,
}

impl<'a> Transaction<'a> {
    /// Begins a write. What the actor may do is read once, here.
    pub(super) fn begin(
        state: State,
        head: Seq,
        now: Timestamp,
        actor: Actor,
        options: &'a StoreOptions,
    ) -> Result<Self, Refusal> {
        let rights = match &actor {
            Actor::System(_) => Rights::System,
            Actor::Provisioning => Rights::Provisioning,
            Actor::Bearer { tenant, user, identity, as_of, .. } => {
                let (bearer, ended_before) = state.bearer(tenant, identity).ok_or(Refusal::SessionOver)?;
                if bearer != user || ended_before > *as_of {
                    return Err(Refusal::SessionOver);
                }
                let (home, facts) = state.user(tenant, user).ok_or(Refusal::SessionOver)?;
                let permissions = home.held(facts, |at| holds(at, now)).into_iter().collect();
                Rights::User { tenant: tenant.clone(), permissions }
            }
            Actor::User { tenant, user, session, .. } => {
                let live = state.live_session(session, now).filter(|s| s.tenant == *tenant && s.user == *user);
                live.ok_or(Refusal::SessionOver)?;
                let (home, facts) = state.user(tenant, user).ok_or(Refusal::SessionOver)?;
                let permissions = home.held(facts, |at| holds(at, now)).into_iter().collect();
                Rights::User { tenant: tenant.clone(), permissions }
            }
        };
        Ok(Self { state, rows: Vec::new(), now, head, actor, rights, options })
    }

    /// Whether the actor is an operator.
    pub(super) fn for_operators(&self) -> Result<(), Refusal> {
        self.rights.may_act(None)
    }

    pub(super) fn head(&self) -> Seq {
        self.head
    }

    /// Adds a row to the log.
    pub(super) fn log(&mut self, target: Target, effect: Effect) -> Seq {
        self.head = self.head.next();
        let summary = format!("{} {} {}", target.kind(), target.name(), effect.as_str());
        let change = Change { seq: self.head, at: self.now, target, effect };
        self.rows.push(LogRow { change, actor: self.actor.label(), summary });
        self.head
    }

    /// Does one operation. On a refusal the whole transaction is to be thrown away.
    pub(super) fn apply(&mut self, operation: Operation) -> Done {
        self.rights.may_act(operation.tenant())?;
        if let Some(tenant) = operation.tenant() {
            self.tenant(tenant)?;
        }
        let had_operator = self.state.has_operator();
        let done = self.perform(operation)?;
        if had_operator && !self.state.has_operator() {
            return Err(Refusal::LastOperator);
        }
        Ok(done)
    }

    fn perform(&mut self, operation: Operation) -> Done {
        use Operation as Op;
        match operation {
            Op::CreateTenant(new) => self.create_tenant(new),
            Op::PatchTenant { tenant, patch } => self.patch_tenant(&tenant, patch),
            Op::DeleteTenant { tenant } => self.delete_tenant(&tenant),
            Op::CreateUser { tenant, user } => self.create_user(&tenant, user),
            Op::PatchUser { tenant, user, patch } => self.patch_user(&tenant, &user, patch),
            Op::DeleteUser { tenant, user } => self.delete_user(&tenant, &user),
            Op::GrantRole { tenant, user, role, expires_at } => {
                self.set_role(&tenant, &user, role, Asked::Held(expires_at))
            }
            Op::RevokeRole { tenant, user, role } => self.set_role(&tenant, &user, role, Asked::Absent),
            Op::GrantPermission { tenant, user, permission, expires_at } => {
                self.set_permission(&tenant, &user, permission, Asked::Held(expires_at))
            }
            Op::RevokePermission { tenant, user, permission } => {
                self.set_permission(&tenant, &user, permission, Asked::Absent)
            }
            Op::CreateRole { tenant, role } => self.create_role(&tenant, role),
            Op::PatchRole { tenant, role, patch } => self.patch_role(&tenant, &role, patch),
            Op::DeleteRole { tenant, role } => self.delete_role(&tenant, &role),
            Op::AddRolePermission { tenant, role, permission } => {
                self.edit_role(&tenant, &role, None, |_, role| {
                    role.permissions.insert(permission.clone());
                    Ok(())
                })?;
                Ok(Resource::RolePermission { role, permission })
            }
            Op::RemoveRolePermission { tenant, role, permission } => {
                self.edit_role(&tenant, &role, None, |_, role| {
                    role.permissions.remove(&permission);
                    Ok(())
                })?;
                Ok(Resource::Nothing)
            }
            Op::AddInclude { tenant, role, other } => {
                self.edit_role(&tenant, &role, None, |home, role| {
                    role.includes.insert(role_no(home, &other)?);
                    Ok(())
                })?;
                Ok(Resource::Include { role, other })
            }
            Op::RemoveInclude { tenant, role, other } => {
                self.edit_role(&tenant, &role, Some(&other), |home, role| {
                    role.includes.remove(&role_no(home, &other)?);
                    Ok(())
                })?;
                Ok(Resource::Nothing)
            }
            Op::EndSession { tenant, user, session } => self.end_session_of(&tenant, &user, &session),
            Op::EndSessions { tenant, user } => self.end_sessions_of(&tenant, &user),
            Op::EndTenantSessions { tenant } => self.end_tenant_sessions(&tenant),
            Op::SetLockdown(new) => self.set_lockdown(new),
        }
    }

    // Finding things.

    fn tenant(&mut self, name: &TenantName) -> Result<&mut Tenant, Refusal> {
        self.state.tenants.get_mut(name).ok_or(Refusal::UnknownTenant)
    }

    fn user(&mut self, tenant: &TenantName, user: &UserId) -> Result<&mut User, Refusal> {
        let found = self.tenant(tenant)?.users.get_mut(user);
        found.ok_or_else(|| Refusal::UnknownUser(user.to_string()))
    }

    fn next_no(&mut self) -> i64 {
        self.state.last_no += 1;
        self.state.last_no
    }

    /// Whether the actor may do to this user what takes all that the user holds.
    fn may_touch_user(&mut self, tenant: &TenantName, user: &UserId) -> Result<(), Refusal> {
        self.user(tenant, user)?;
        let now = self.now;
        let (home, facts) = self.state.user(tenant, user).expect("it was found a moment ago");
        self.rights.may_touch(&home.held(facts, |at| holds(at, now)))
    }

    // Tenants.

    fn create_tenant(&mut self, new: NewTenant) -> Done {
        if self.state.tenants.contains_key(&new.name) {
            return Err(Refusal::Exists(format!("the tenant {:?}", new.name.as_str())));
        }
        let tenant = Tenant {
            description: new.description,
            status: new.status,
            created_at: self.now,
            ended_before: Seq::ZERO,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
        };
        let record = tenant.record(&new.name);
        self.state.tenants.insert(new.name.clone(), tenant);
        self.log(Target::Tenant { tenant: new.name }, Effect::Changed);
        Ok(Resource::Tenant(record))
    }

    fn patch_tenant(&mut self, name: &TenantName, patch: TenantPatch) -> Done {
        let tenant = self.tenant(name)?;
        if let Some(description) = patch.description {
            tenant.description = description;
        }
        if let Some(status) = patch.status.filter(|status| *status != tenant.status) {
            tenant.status = status;
            let target = Target::Tenant { tenant: name.clone() };
            match status {
                Status::Active => _ = self.log(target, Effect::Changed),
                Status::Suspended => {
                    let seq = self.log(target, Effect::Suspended);
                    self.tenant(name)?.ended_before = seq;
                }
            }
        }
        Ok(Resource::Tenant(self.tenant(name)?.record(name)))
    }

    fn end_tenant_sessions(&mut self, name: &TenantName) -> Done {
        self.tenant(name)?;
        let seq = self.log(Target::Tenant { tenant: name.clone() }, Effect::SignedOut);
        self.tenant(name)?.ended_before = seq;
        Ok(Resource::Nothing)
    }

    fn delete_tenant(&mut self, name: &TenantName) -> Done {
        if *name == TenantName::first() {
            return Err(Refusal::FirstTenant);
        }
        let gone = self.state.tenants.remove(name).ok_or(Refusal::UnknownTenant)?;
        for user in gone.users.into_keys() {
            self.state.departed.insert((name.clone(), user), self.now);
        }
        self.state.sessions.retain(|_, session| session.tenant != *name);
        self.log(Target::Tenant { tenant: name.clone() }, Effect::Deleted);
        Ok(Resource::Nothing)
    }

    // Users.

    fn create_user(&mut self, tenant: &TenantName, new: NewUser) -> Done {
        if self.tenant(tenant)?.users.contains_key(&new.id) {
            return Err(Refusal::Exists(format!("the user {:?}", new.id.as_str())));
        }
        let departed = self.state.departed.get(&(tenant.clone(), new.id.clone()));
        if departed.is_some_and(|at| self.now < at.plus(self.options.id_rest)) {
            return Err(Refusal::TooSoon(new.id.to_string()));
        }
        let user = User {
            no: UserNo(self.next_no()),
            name: new.name,
            email: new.email,
            kind: new.kind,
            password: new.password,
            status: new.status,
            identities: new.identities.into_iter().collect(),
            created_at: self.now,
            ended_before: Seq::ZERO,
            roles: BTreeMap::new(),
            grants: BTreeMap::new(),
        };
        is_unique(self.tenant(tenant)?, &new.id, &user)?;
        let record = user.record(&new.id);
        self.tenant(tenant)?.users.insert(new.id.clone(), user);
        self.log(Target::User { tenant: tenant.clone(), user: new.id }, Effect::Changed);
        Ok(Resource::User(record))
    }

    fn patch_user(&mut self, tenant: &TenantName, id: &UserId, patch: UserPatch) -> Done {
        let old = self.user(tenant, id)?.clone();
        let mut new = old.clone();
        new.name = patch.name.unwrap_or(new.name);
        new.email = patch.email.unwrap_or(new.email);
        new.kind = patch.kind.unwrap_or(new.kind);
        new.password = patch.password.unwrap_or(new.password);
        new.status = patch.status.unwrap_or(new.status);
        new.identities = patch.identities.map_or(new.identities, |all| all.into_iter().collect());

        let new_status = new.status != old.status;
        let new_password = new.password != old.password;
        let new_identities = new.identities != old.identities;
        let new_kind = new.kind != old.kind;
        if new_status || new_password || new_identities || new_kind || new.email != old.email {
            self.may_touch_user(tenant, id)?;
        }
        is_unique(self.tenant(tenant)?, id, &new)?;
        *self.user(tenant, id)? = new.clone();

        if new_status && new.status == Status::Suspended {
            self.end_user(tenant, id, Effect::Suspended)?;
        } else if new_status || new_identities || new_kind {
            self.log(Target::User { tenant: tenant.clone(), user: id.clone() }, Effect::Changed);
        }
        if new_password {
            self.end_other_sessions(tenant, id)?;
        }
        Ok(Resource::User(self.user(tenant, id)?.record(id)))
    }

    /// Ends all sessions of a user with one row.
    fn end_user(&mut self, tenant: &TenantName, user: &UserId, effect: Effect) -> Result<(), Refusal> {
        let seq = self.log(Target::User { tenant: tenant.clone(), user: user.clone() }, effect);
        self.user(tenant, user)?.ended_before = seq;
        Ok(())
    }

    /// After a new password: who gave it to himself stays signed in where he did.
    fn end_other_sessions(&mut self, tenant: &TenantName, user: &UserId) -> Result<(), Refusal> {
        let own = match &self.actor {
            Actor::User { tenant: t, user: u, session, .. } if t == tenant && u == user => session.clone(),
            _ => return self.end_user(tenant, user, Effect::SignedOut),
        };
        let live = self.state.sessions.iter().filter(|(id, session)| {
            **id != own && session.tenant == *tenant && session.user == *user && !self.state.is_over(session)
        });
        for session in live.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.end_session(&session, Effect::SignedOut);
        }
        Ok(())
    }

    fn delete_user(&mut self, tenant: &TenantName, user: &UserId) -> Done {
        self.may_touch_user(tenant, user)?;
        self.tenant(tenant)?.users.remove(user);
        self.state.sessions.retain(|_, session| session.tenant != *tenant || session.user != *user);
        self.state.departed.insert((tenant.clone(), user.clone()), self.now);
        self.log(Target::User { tenant: tenant.clone(), user: user.clone() }, Effect::Deleted);
        Ok(Resource::Nothing)
    }

    // Grants.

    fn set_role(&mut self, tenant: &TenantName, user: &UserId, role: RoleName, asked: Asked) -> Done {
        self.user(tenant, user)?;
        let home = self.tenant(tenant)?;
        let no = role_no(home, &role)?;
        let bears = home.closed_permissions(no);
        self.rights.may_touch(&bears)?;
        let facts = self.user(tenant, user)?;
        if asked.set(&mut facts.roles, no) {
            self.granted(tenant, user)?;
        }
        Ok(match asked {
            Asked::Held(expires_at) => Resource::RoleGrant { user: user.clone(), role, expires_at },
            Asked::Absent => Resource::Nothing,
        })
    }

    fn set_permission(&mut self, tenant: &TenantName, user: &UserId, permission: Grant, asked: Asked) -> Done {
        self.user(tenant, user)?;
        self.rights.may_touch([&permission])?;
        let facts = self.user(tenant, user)?;
        if asked.set(&mut facts.grants, permission.clone()) {
            self.granted(tenant, user)?;
        }
        Ok(match asked {
            Asked::Held(expires_at) => Resource::PermissionGrant { user: user.clone(), permission, expires_at },
            Asked::Absent => Resource::Nothing,
        })
    }

    /// After a grant was given, altered or taken away.
    fn granted(&mut self, tenant: &TenantName, user: &UserId) -> Result<(), Refusal> {
        let facts = self.user(tenant, user)?;
        has_room(facts.roles.len() + facts.grants.len())?;
        self.log(Target::User { tenant: tenant.clone(), user: user.clone() }, Effect::Changed);
        Ok(())
    }

    // Sessions.

    fn end_session_of(&mut self, tenant: &TenantName, user: &UserId, session: &SessionId) -> Done {
        self.may_touch_user(tenant, user)?;
        let found = self.state.sessions.get(session);
        if !found.is_some_and(|s| s.tenant == *tenant && s.user == *user) {
            return Err(Refusal::UnknownSession(session.to_string()));
        }
        self.end_session(session, Effect::SignedOut);
        Ok(Resource::Nothing)
    }

    fn end_sessions_of(&mut self, tenant: &TenantName, user: &UserId) -> Done {
        self.may_touch_user(tenant, user)?;
        self.end_user(tenant, user, Effect::SignedOut)?;
        Ok(Resource::Nothing)
    }

    /// Ends a session, unless it is over.
    pub(super) fn end_session(&mut self, id: &SessionId, effect: Effect) {
        let Some(session) = self.state.sessions.get(id).filter(|session| !self.state.is_over(session)) else { return };
        let target =
            Target::Session { tenant: session.tenant.clone(), user: session.user.clone(), session: id.clone() };
        self.state.sessions.get_mut(id).expect("it was found a moment ago").ended = Some(effect);
        self.log(target, effect);
    }

    // Lockdown.

    fn set_lockdown(&mut self, new: Option<NewLockdown>) -> Done {
        if let Some(tenant) = new.as_ref().and_then(|new| new.tenant.as_ref()) {
            self.tenant(tenant)?;
        }
        let old = self.state.lockdown.clone();
        let same = match (&old, &new) {
            (Some(old), Some(new)) => {
                old.tenant == new.tenant && old.retry_after_s == new.retry_after_s && old.until == new.until
            }
            (None, None) => true,
            _ => false,
        };
        if !same {
            let tenant = new.as_ref().map_or_else(|| old.and_then(|old| old.tenant), |new| new.tenant.clone());
            self.state.lockdown = new.map(|new| LockdownRecord {
                tenant: new.tenant,
                retry_after_s: new.retry_after_s,
                since: self.now,
                until: new.until,
            });
            self.log(Target::Lockdown { tenant }, Effect::Changed);
        }
        Ok(Resource::Lockdown(self.state.lockdown.clone()))
    }
}

/// How a grant is to be.
#[derive(Clone, Copy)]
enum Asked {
    /// With this expiry.
    Held(Option<Timestamp>),
    Absent,
}

impl Asked {
    /// Makes it so; tells whether it was otherwise.
    fn set<K: Ord>(self, grants: &mut BTreeMap<K, Option<Timestamp>>, key: K) -> bool {
        match self {
            Self::Held(expires_at) => grants.insert(key, expires_at) != Some(expires_at),
            Self::Absent => grants.remove(&key).is_some(),
        }
    }
}

fn role_no(home: &Tenant, name: &RoleName) -> Result<RoleNo, Refusal> {
    home.role_named(name).ok_or_else(|| Refusal::UnknownRole(name.to_string()))
}

fn has_room(used: usize) -> Result<(), Refusal> {
    if used > GRANTS_MAX { Err(Refusal::Invalid("at most 1000 of these")) } else { Ok(()) }
}

/// No two users of a tenant share an email or an identity.
fn is_unique(home: &Tenant, id: &UserId, user: &User) -> Result<(), Refusal> {
    for (_, other) in home.users.iter().filter(|(other, _)| *other != id) {
        if let Some(email) = user.email.as_ref().filter(|email| other.email.as_ref() == Some(email)) {
            return Err(Refusal::Exists(format!("a user with the email {email:?}")));
        }
        if let Some(identity) = user.identities.intersection(&other.identities).next() {
            return Err(Refusal::Exists(format!("a user with the identity {:?}", identity.subject)));
        }
    }
    Ok(())
}
