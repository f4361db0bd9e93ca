//! What one user may do, as of one position: the thing that decisions are made from.

use std::collections::HashSet;
use std::sync::Arc;

use super::clock::Timestamp;
use super::name::{RoleName, TenantName, UserId};
use super::permission::{ADMIN, CHECK, Grant, OPERATOR, Permission};

/// A set of grants, arranged so that a question costs a look-up per segment and not one per grant.
#[derive(Debug, Clone, Default)]
pub struct PermissionSet {
    /// Sorted, without duplicates.
    grants: Box<[Grant]>,
    /// Grants without `*` (trailing ones taken off, which changes nothing): each covers itself and all below it.
    plain: HashSet<Box<str>, foldhash::fast::RandomState>,
    /// The rest, tried one by one.
    wild: Box<[Grant]>,
    /// A grant of `*` alone.
    all: bool,
}

impl FromIterator<Grant> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = Grant>>(grants: I) -> Self {
        let mut grants: Vec<Grant> = grants.into_iter().collect();
        grants.sort_unstable();
        grants.dedup();
        let mut set = Self::default();
        let mut wild = Vec::new();
        for grant in &grants {
            let mut text = grant.as_str();
            while let Some(shorter) = text.strip_suffix(":*") {
                text = shorter;
            }
            if text == "*" {
                set.all = true;
            } else if text.contains('*') {
                wild.push(grant.clone());
            } else {
                set.plain.insert(text.into());
            }
        }
        set.wild = wild.into();
        set.grants = grants.into();
        set
    }
}

impl PermissionSet {
    /// Whether any grant covers the request. `permcast:operator` implies the other two built-in permissions.
    pub fn allows(&self, request: &Permission) -> bool {
        let text = request.as_str();
        if request.is_reserved() {
            return self.has(text) || (matches!(text, ADMIN | CHECK) && self.has(OPERATOR));
        }
        self.all
            || text.match_indices(':').any(|(end, _)| self.plain.contains(&text[..end]))
            || self.plain.contains(text)
            || self.wild.iter().any(|grant| grant.covers(request))
    }

    /// The grants, sorted.
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// Whether exactly this grant is there.
    fn has(&self, text: &str) -> bool {
        self.grants.binary_search_by(|grant| grant.as_str().cmp(text)).is_ok()
    }

    /// May manage all tenants, keys, lockdown, replicas.
    pub fn is_operator(&self) -> bool {
        self.has(OPERATOR)
    }

    /// May manage his own tenant.
    pub fn is_admin(&self) -> bool {
        self.has(ADMIN) || self.is_operator()
    }

    /// May ask about others in his own tenant.
    pub fn may_check(&self) -> bool {
        self.has(CHECK) || self.is_operator()
    }

    /// Whether he may give, take away or alter what grants `reserved`: he holds it, or as an operator all built-in ones.
    pub fn controls(&self, reserved: &Grant) -> bool {
        self.has(reserved.as_str()) || (matches!(reserved.as_str(), ADMIN | CHECK) && self.is_operator())
    }
}

/// One user's roles and permissions.
#[derive(Debug, Clone)]
pub struct Access {
    /// Whose.
    pub tenant: TenantName,
    /// Whose.
    pub user: UserId,
    /// Roles, closed over inclusion, sorted.
    pub roles: Arc<[RoleName]>,
    /// All grants: direct ones and those of the roles.
    pub permissions: Arc<PermissionSet>,
    /// The first moment at which one of the grants is over.
    pub first_expiry: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_set_allows_what_any_of_its_grants_covers(
            grants in proptest::collection::vec(
                proptest::collection::vec(prop_oneof![Just("*"), Just("a"), Just("b"), Just("permcast"), Just("x")], 1..=4), 0..6),
            request in proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("permcast"), Just("x")], 1..=5),
        ) {
            let grants: Vec<Grant> = grants.iter().map(|g| g.join(":").parse().unwrap()).collect();
            let request: Permission = request.join(":").parse().unwrap();
            let set: PermissionSet = grants.iter().cloned().collect();
            prop_assert_eq!(set.allows(&request), grants.iter().any(|grant| grant.covers(&request)));
        }
    }

    #[test]
    fn an_operator_needs_no_other_built_in_permission() {
        let set: PermissionSet = [OPERATOR.parse().unwrap()].into_iter().collect();
        assert!(set.is_admin() && set.may_check());
        assert!(set.allows(&ADMIN.parse().unwrap()));
        assert!(set.controls(&CHECK.parse().unwrap()));
        let admin: PermissionSet = [ADMIN.parse().unwrap(), "*".parse().unwrap()].into_iter().collect();
        assert!(!admin.is_operator() && !admin.may_check());
        assert!(!admin.controls(&OPERATOR.parse().unwrap()));
    }
}
