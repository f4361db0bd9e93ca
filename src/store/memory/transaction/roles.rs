//! Roles: made, altered by whoever holds what they bear, and deleted with all that hangs on them.

use std::collections::BTreeSet;

use crate::domain::operation::{NewRole, Resource, RolePatch};
use crate::domain::rules::Refusal;
use crate::domain::{Effect, RoleName, RoleNo, Target, TenantName};

use super::super::state::{Role, Tenant};
use super::{Done, Transaction, has_room, role_no};

impl Transaction<'_> {
    pub(super) fn create_role(&mut self, tenant: &TenantName, new: NewRole) -> Done {
        if self.tenant(tenant)?.role_named(&new.name).is_some() {
            return Err(Refusal::Exists(format!("the role {:?}", new.name.as_str())));
        }
        if new.includes.contains(&new.name) {
            return Err(Refusal::Cycle);
        }
        let no = RoleNo(self.next_no());
        let role = Role {
            name: new.name.clone(),
            description: new.description,
            created_at: self.now,
            permissions: BTreeSet::new(),
            includes: BTreeSet::new(),
        };
        self.tenant(tenant)?.roles.insert(no, role);
        self.log(Target::Role { tenant: tenant.clone(), role: new.name.clone() }, Effect::Changed);
        let lists = RolePatch { description: None, permissions: Some(new.permissions), includes: Some(new.includes) };
        self.patch_role(tenant, &new.name, lists)
    }

    pub(super) fn patch_role(&mut self, tenant: &TenantName, name: &RoleName, patch: RolePatch) -> Done {
        self.edit_role(tenant, name, None, |home, role| {
            if let Some(description) = patch.description {
                role.description = description;
            }
            if let Some(permissions) = patch.permissions {
                role.permissions = permissions.into_iter().collect();
            }
            if let Some(includes) = patch.includes {
                role.includes = includes.iter().map(|other| role_no(home, other)).collect::<Result<_, _>>()?;
            }
            Ok(())
        })?;
        let home = self.tenant(tenant)?;
        let no = role_no(home, name)?;
        Ok(Resource::Role(home.role_record(&home.roles[&no])))
    }

    /// Alters a role, by one who holds all `permcast:` permissions that it bears before and after.
    /// `parted`: one that it shall not include any more, whether or not it does: he must be allowed to touch that, too.
    pub(super) fn edit_role(
        &mut self,
        tenant: &TenantName,
        name: &RoleName,
        parted: Option<&RoleName>,
        edit: impl FnOnce(&Tenant, &mut Role) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let home = self.tenant(tenant)?;
        let no = role_no(home, name)?;
        let mut bore = home.closed_permissions(no);
        let old = home.roles[&no].clone();
        let mut new = old.clone();
        edit(home, &mut new)?;
        if let Some(parted) = parted {
            bore.extend(home.closed_permissions(role_no(home, parted)?));
        }
        if new.includes.iter().any(|&other| home.closure(other).contains(&no)) {
            return Err(Refusal::Cycle);
        }
        has_room(new.permissions.len())?;
        has_room(new.includes.len())?;
        let touched = new.permissions != old.permissions || new.includes != old.includes;
        home.roles.insert(no, new);
        let bears = home.closed_permissions(no);
        self.rights.may_touch(bore.union(&bears))?;
        if touched {
            self.log(Target::Role { tenant: tenant.clone(), role: name.clone() }, Effect::Changed);
        }
        Ok(())
    }

    pub(super) fn delete_role(&mut self, tenant: &TenantName, name: &RoleName) -> Done {
        let home = self.tenant(tenant)?;
        let no = role_no(home, name)?;
        let bears = home.closed_permissions(no);
        self.rights.may_touch(&bears)?;
        let home = self.tenant(tenant)?;
        home.roles.remove(&no);
        home.roles.values_mut().for_each(|role| _ = role.includes.remove(&no));
        home.users.values_mut().for_each(|user| _ = user.roles.remove(&no));
        self.log(Target::Role { tenant: tenant.clone(), role: name.clone() }, Effect::Changed);
        Ok(Resource::Nothing)
    }
}
