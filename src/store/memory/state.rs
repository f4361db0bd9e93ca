//! What the database holds, as plain maps, and the questions asked of it. Everything is found by looking through all of
//! it: slow, and hard to get wrong.

use std::collections::{BTreeMap, BTreeSet};

use std::time::Duration;

use crate::domain::operation::PasswordHash;
use crate::domain::records::{
    GrantRecord, Granted, Identity, LockdownRecord, Page, ReplicaRecord, RoleRecord, Status, TenantRecord, UserKind,
    UserRecord,
};
use crate::domain::{Effect, Grant, LogRow, RoleName, RoleNo, Seq, SessionId, TenantName, Timestamp, UserId, UserNo};
use crate::store::{Bound, LiveSession, StoredKey, TokenDigest};

/// Everything but the log. Cloned by each write, and put back only if all of it was done.
#[derive(Clone, Default)]
pub(super) struct State {
    pub(super) tenants: BTreeMap<TenantName, Tenant>,
    /// Users that were deleted, and when.
    pub(super) departed: BTreeMap<(TenantName, UserId), Timestamp>,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    /// Sessions of anybody that began below are over.
    pub(super) ended_before: Seq,
    /// The last number that was given to a user or role.
    pub(super) last_no: i64,
    pub(super) keys: Vec<StoredKey>,
    pub(super) secrets: BTreeMap<String, Vec<u8>>,
    pub(super) settings: BTreeMap<String, String>,
    pub(super) lockdown: Option<LockdownRecord>,
    pub(super) replicas: BTreeMap<String, ReplicaRecord>,
}

#[derive(Clone)]
pub(super) struct Tenant {
    pub(super) description: String,
    pub(super) status: Status,
    pub(super) created_at: Timestamp,
    /// Sessions of its users that began below are over.
    pub(super) ended_before: Seq,
    pub(super) users: BTreeMap<UserId, User>,
    pub(super) roles: BTreeMap<RoleNo, Role>,
}

#[derive(Clone)]
pub(super) struct User {
    pub(super) no: UserNo,
    pub(super) name: String,
    pub(super) email: Option<String>,
    pub(super) kind: UserKind,
    pub(super) password: Option<PasswordHash>,
    pub(super) status: Status,
    pub(super) identities: BTreeSet<Identity>,
    pub(super) created_at: Timestamp,
    /// His sessions that began below are over.
    pub(super) ended_before: Seq,
    /// With the time at which each is over.
    pub(super) roles: BTreeMap<RoleNo, Option<Timestamp>>,
    pub(super) grants: BTreeMap<Grant, Option<Timestamp>>,
}

#[derive(Clone)]
pub(super) struct Role {
    pub(super) name: RoleName,
    pub(super) description: String,
    pub(super) created_at: Timestamp,
    pub(super) permissions: BTreeSet<Grant>,
    pub(super) includes: BTreeSet<RoleNo>,
}

#[derive(Clone)]
pub(super) struct Session {
    pub(super) tenant: TenantName,
    pub(super) user: UserId,
    /// Head of the log when it was opened.
    pub(super) begun: Seq,
    pub(super) ended: Option<Effect>,
    pub(super) refresh: Option<RefreshChain>,
    pub(super) address: String,
    pub(super) user_agent: String,
    pub(super) created_at: Timestamp,
    pub(super) last_refresh_at: Timestamp,
    pub(super) seq: Seq,
    pub(super) expires_at: Timestamp,
    pub(super) idle: Option<Duration>,
    pub(super) ends_at: Timestamp,
}

/// The refresh tokens of one session.
#[derive(Clone)]
pub(super) struct RefreshChain {
    pub(super) current: TokenDigest,
    pub(super) issued_at: Timestamp,
    /// The one before it, and when it was first used.
    pub(super) previous: Option<(TokenDigest, Timestamp)>,
}

/// Whether a grant with this expiry still holds.
pub(super) fn holds(expires_at: Option<Timestamp>, now: Timestamp) -> bool {
    expires_at.is_none_or(|at| at > now)
}

/// Items above `after`, at most `limit`.
pub(super) fn page<T>(sorted: impl Iterator<Item = (String, T)>, after: Option<&str>, limit: u32) -> Page<T> {
    let mut rest = sorted.filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
    let items: Vec<_> = rest.by_ref().take(limit as usize).collect();
    let next = items.last().map(|(key, _)| key.clone()).filter(|_| rest.next().is_some());
    Page { items: items.into_iter().map(|(_, item)| item).collect(), next }
}

impl State {
    /// The first tenant, and nothing else.
    pub(super) fn new(now: Timestamp) -> Self {
        let first = Tenant {
            description: String::new(),
            status: Status::Active,
            created_at: now,
            ended_before: Seq::ZERO,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
        };
        Self { tenants: BTreeMap::from([(TenantName::first(), first)]), ..Self::default() }
    }

    pub(super) fn user(&self, tenant: &TenantName, user: &UserId) -> Option<(&Tenant, &User)> {
        let tenant = self.tenants.get(tenant)?;
        Some((tenant, tenant.users.get(user)?))
    }

    /// Whose an identity is, if he and his tenant are active, and below which position all that he had begun is over.
    pub(super) fn bearer(&self, tenant: &TenantName, identity: &Identity) -> Option<(&UserId, Seq)> {
        let home = self.tenants.get(tenant)?;
        let (id, user) = home.users.iter().find(|(_, user)| user.identities.contains(identity))?;
        let active = home.status == Status::Active && user.status == Status::Active;
        active.then_some((id, user.ended_before.max(home.ended_before).max(self.ended_before)))
    }

    /// The same, as it is asked for.
    pub(super) fn bound(&self, tenant: &TenantName, identity: &Identity, log: &[LogRow]) -> Option<Bound> {
        let (user, ended_before) = self.bearer(tenant, identity)?;
        let row = log.iter().find(|row| row.change.seq >= ended_before && ended_before > Seq::ZERO);
        Some(Bound { user: user.clone(), ended_at: row.map(|row| row.change.at) })
    }

    pub(super) fn role_by_no(&self, no: RoleNo) -> Option<(&TenantName, &Tenant)> {
        self.tenants.iter().find(|(_, tenant)| tenant.roles.contains_key(&no))
    }

    /// Whether somebody could act as an operator for ever.
    pub(super) fn has_operator(&self) -> bool {
        self.tenants.values().filter(|tenant| tenant.status == Status::Active).any(|tenant| {
            let mut active = tenant.users.values().filter(|user| user.status == Status::Active);
            active.any(|user| {
                tenant
                    .held(user, |expires_at| expires_at.is_none())
                    .iter()
                    .any(|g| g.as_str() == crate::domain::permission::OPERATOR)
            })
        })
    }

    /// Whether the session can never be used again, its time aside.
    pub(super) fn is_over(&self, session: &Session) -> bool {
        let Some((tenant, user)) = self.user(&session.tenant, &session.user) else { return true };
        session.ended.is_some() || session.begun < self.ended_before.max(tenant.ended_before).max(user.ended_before)
    }

    /// The session, if it can be used now.
    pub(super) fn live_session(&self, id: &SessionId, now: Timestamp) -> Option<LiveSession> {
        let session = self.sessions.get(id)?;
        let (tenant, user) = self.user(&session.tenant, &session.user)?;
        let active = tenant.status == Status::Active && user.status == Status::Active;
        (active && session.expires_at > now && !self.is_over(session)).then(|| LiveSession {
            id: id.clone(),
            tenant: session.tenant.clone(),
            user: session.user.clone(),
            expires_at: session.expires_at,
        })
    }

    pub(super) fn lockdown_in_force(&self, now: Timestamp) -> Option<LockdownRecord> {
        self.lockdown.clone().filter(|lockdown| holds(lockdown.until, now))
    }
}

impl Tenant {
    pub(super) fn role_named(&self, name: &RoleName) -> Option<RoleNo> {
        self.roles.iter().find(|(_, role)| role.name == *name).map(|(no, _)| *no)
    }

    /// The role and all that it includes, directly or through others.
    pub(super) fn closure(&self, role: RoleNo) -> BTreeSet<RoleNo> {
        let mut reached = BTreeSet::new();
        let mut to_visit = vec![role];
        while let Some(no) = to_visit.pop() {
            if let Some(role) = self.roles.get(&no)
                && reached.insert(no)
            {
                to_visit.extend(&role.includes);
            }
        }
        reached
    }

    /// The permissions of the role and of all that it includes.
    pub(super) fn closed_permissions(&self, role: RoleNo) -> BTreeSet<Grant> {
        self.closure(role).iter().flat_map(|no| self.roles[no].permissions.iter().cloned()).collect()
    }

    /// All that a user holds through grants whose expiry counts.
    pub(super) fn held(&self, user: &User, counts: impl Fn(Option<Timestamp>) -> bool) -> BTreeSet<Grant> {
        let direct = user.grants.iter().filter(|&(_, &at)| counts(at)).map(|(grant, _)| grant.clone());
        let roles = user.roles.iter().filter(|&(_, &at)| counts(at));
        direct.chain(roles.flat_map(|(&no, _)| self.closed_permissions(no))).collect()
    }

    pub(super) fn record(&self, name: &TenantName) -> TenantRecord {
        TenantRecord {
            name: name.clone(),
            description: self.description.clone(),
            status: self.status,
            created_at: self.created_at,
        }
    }

    pub(super) fn role_record(&self, role: &Role) -> RoleRecord {
        let mut includes: Vec<RoleName> = role.includes.iter().map(|no| self.roles[no].name.clone()).collect();
        includes.sort();
        RoleRecord {
            name: role.name.clone(),
            description: role.description.clone(),
            permissions: role.permissions.iter().cloned().collect(),
            includes,
            created_at: role.created_at,
        }
    }

    /// A user's direct grants that still hold, roles first.
    pub(super) fn grant_records(&self, user: &User, now: Timestamp) -> Vec<GrantRecord> {
        let mut roles: Vec<_> = user.roles.iter().map(|(no, &at)| (self.roles[no].name.clone(), at)).collect();
        roles.sort();
        let roles = roles.into_iter().map(|(role, at)| GrantRecord { granted: Granted::Role(role), expires_at: at });
        let grants = user
            .grants
            .iter()
            .map(|(grant, &at)| GrantRecord { granted: Granted::Permission(grant.clone()), expires_at: at });
        roles.chain(grants).filter(|grant| holds(grant.expires_at, now)).collect()
    }
}

impl User {
    pub(super) fn record(&self, id: &UserId) -> UserRecord {
        UserRecord {
            id: id.clone(),
            name: self.name.clone(),
            email: self.email.clone(),
            kind: self.kind,
            status: self.status,
            identities: self.identities.iter().cloned().collect(),
            has_password: self.password.is_some(),
            created_at: self.created_at,
        }
    }
}
