//! Who may do what: the rules of the house once more, as plainly as they can be written.

use super::history::{Effect, Seq, Set, Touch};

/// All users and roles of the tenant, by number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct State {
    pub(crate) users: Vec<User>,
    pub(crate) roles: Vec<Role>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct User {
    pub(crate) active: bool,
    pub(crate) roles: Set,
    pub(crate) permissions: Set,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Role {
    pub(crate) exists: bool,
    pub(crate) permissions: Set,
    pub(crate) includes: Set,
}

/// What one user may do, all told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) active: bool,
    pub(crate) roles: Set,
    pub(crate) permissions: Set,
}

impl State {
    pub(crate) fn standing(&self, user: u8) -> Standing {
        let user = &self.users[usize::from(user)];
        let mut roles = Set::default();
        let mut reached: Vec<u8> = user.roles.iter().collect();
        while let Some(role) = reached.pop() {
            if !roles.has(role) {
                roles = roles.with(role);
                reached.extend(self.roles[usize::from(role)].includes.iter());
            }
        }
        let of_roles = roles.iter().map(|role| self.roles[usize::from(role)].permissions);
        let permissions = of_roles.fold(user.permissions, Set::and);
        Standing { active: user.active, roles, permissions }
    }

    /// Does it; tells what the log must say of it. Nothing, where it was so before.
    pub(crate) fn apply(&mut self, effect: &Effect) -> Vec<Touch> {
        let before = self.clone();
        let touch = match effect {
            Effect::Grant { user, permission } => {
                self.user(*user).permissions = self.user(*user).permissions.with(*permission);
                Touch::user(*user)
            }
            Effect::Revoke { user, permission } => {
                self.user(*user).permissions = self.user(*user).permissions.without(*permission);
                Touch::user(*user)
            }
            Effect::Join { user, role } => {
                if self.role(*role).exists {
                    self.user(*user).roles = self.user(*user).roles.with(*role);
                }
                Touch::user(*user)
            }
            Effect::Leave { user, role } => {
                self.user(*user).roles = self.user(*user).roles.without(*role);
                Touch::user(*user)
            }
            Effect::Activate { user } | Effect::Suspend { user } => {
                self.user(*user).active = matches!(effect, Effect::Activate { .. });
                Touch::user(*user)
            }
            Effect::Add { role, permission } => {
                self.role(*role).permissions = self.role(*role).permissions.with(*permission);
                Touch::role(*role)
            }
            Effect::Remove { role, permission } => {
                self.role(*role).permissions = self.role(*role).permissions.without(*permission);
                Touch::role(*role)
            }
            Effect::Include { role, other } => {
                self.role(*role).includes = self.role(*role).includes.with(*other);
                Touch::role(*role)
            }
            Effect::Exclude { role, other } => {
                self.role(*role).includes = self.role(*role).includes.without(*other);
                Touch::role(*role)
            }
            Effect::Edit { role, permissions } => {
                self.role(*role).permissions = *permissions;
                Touch::role(*role)
            }
            Effect::Make { role, permissions } => {
                *self.role(*role) = Role { exists: true, permissions: *permissions, includes: Set::default() };
                Touch::role(*role)
            }
            Effect::Drop { role } => {
                *self.role(*role) = Role::default();
                for user in &mut self.users {
                    user.roles = user.roles.without(*role);
                }
                for other in &mut self.roles {
                    other.includes = other.includes.without(*role);
                }
                Touch::role(*role)
            }
            // Nothing that a user has, but sessions and keys: always a change.
            Effect::SignOut { user } => return vec![Touch::user(*user)],
            Effect::EndSession { session } => return vec![Touch::new("session", session)],
            Effect::Rotate => return vec![Touch::new("keys", "")],
            Effect::RevokeKeys { .. } => return vec![Touch::new("keys", ""), Touch::everyone()],
            Effect::SignOutAll => return vec![Touch::everyone()],
        };
        if *self == before { Vec::new() } else { vec![touch] }
    }

    fn user(&mut self, number: u8) -> &mut User {
        &mut self.users[usize::from(number)]
    }

    fn role(&mut self, number: u8) -> &mut Role {
        &mut self.roles[usize::from(number)]
    }
}

/// A user's standing since each version at which it changed, oldest first.
pub(crate) struct Timeline(pub(crate) Vec<(Seq, Standing)>);

impl Timeline {
    pub(crate) fn note(&mut self, seq: Seq, standing: Standing) {
        if self.0.last().is_none_or(|(_, last)| *last != standing) {
            self.0.push((seq, standing));
        }
    }

    /// As of a version.
    pub(crate) fn at(&self, seq: Seq) -> Standing {
        let next = self.0.partition_point(|(since, _)| *since <= seq);
        self.0[next.max(1) - 1].1
    }
}
