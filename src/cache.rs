//! Snapshots at hand: users and roles apart, each fresh by its own floors.
//!
//! A fill that raced with a change is harmless: it carries its position, so it is not fresh when next looked at. No locks,
//! no leases, and eviction only saves memory.

mod bearers;
mod check;
mod standby;
#[cfg(test)]
#[path = "cache/standby_tests.rs"]
mod standby_tests;
#[cfg(test)]
#[path = "cache/whole_tests.rs"]
mod whole_tests;

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use quick_cache::sync::Cache;
use tokio::sync::{Semaphore, watch};

pub use check::{Content, Held, Subject};

use crate::domain::records::UserKind;
use crate::domain::{
    Access, Applied, Basis, Change, Clock, Floors, PermissionSet, RoleName, RoleNo, SessionId, Stamp, Target,
    TenantName, Timestamp, UserId,
};
use crate::store::standby::Standby;
use crate::store::{LiveSession, Loaded, RoleFacts, Store, StoreError, UserFacts};

pub use bearers::Bearer;

/// A user's permissions and the position as of which they hold.
#[derive(Debug, Clone)]
pub struct Found {
    /// Roles and permissions.
    pub access: Arc<Access>,
    /// Person or service.
    pub kind: UserKind,
    /// The lowest position of anything it rests on.
    pub stamp: Stamp,
}

/// Something loaded, and what it rests on.
#[derive(Debug)]
struct Entry<T> {
    basis: Basis,
    facts: Option<T>,
    /// From when on it must not be used, by the database's clock.
    until: Option<Timestamp>,
}

/// A user as assembled from his own entry and those of his roles; kept so that a repeated question costs no assembly.
#[derive(Debug)]
struct Assembled {
    basis: Basis,
    found: Option<(Arc<Access>, UserKind)>,
}

/// A user, by tenant and id.
pub type UserKey = (TenantName, UserId);

/// Permissions of users, loaded on demand.
pub struct PermissionCache {
    store: Arc<dyn Store>,
    second: Option<standby::Second>,
    floors: Arc<Floors>,
    applied: Arc<Applied>,
    clock: Arc<dyn Clock>,
    users: Cache<UserKey, Arc<Entry<UserFacts>>>,
    roles: Cache<RoleNo, Arc<Entry<RoleFacts>>>,
    assembled: Cache<UserKey, Arc<Assembled>>,
    user_loads: Loads<UserKey, Entry<UserFacts>>,
    role_loads: Loads<RoleNo, Entry<RoleFacts>>,
    bearers: bearers::Bearers,
    /// Bounds the loads under way at once.
    permits: Semaphore,
}

/// How much the cache may hold and do.
#[derive(Debug, Clone, Copy)]
pub struct CacheLimits {
    /// Users at the most.
    pub users: usize,
    /// Roles at the most.
    pub roles: usize,
    /// Loads from the database under way at once.
    pub loads: usize,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self { users: 100_000, roles: 10_000, loads: 16 }
    }
}

impl PermissionCache {
    /// An empty cache over a store.
    pub fn new(
        store: Arc<dyn Store>,
        floors: Arc<Floors>,
        applied: Arc<Applied>,
        clock: Arc<dyn Clock>,
        limits: CacheLimits,
    ) -> Self {
        Self {
            store,
            second: None,
            floors,
            applied,
            clock,
            users: Cache::new(limits.users),
            roles: Cache::new(limits.roles),
            assembled: Cache::new(limits.users),
            user_loads: Loads::default(),
            role_loads: Loads::default(),
            bearers: bearers::Bearers::new(limits.users),
            permits: Semaphore::new(limits.loads),
        }
    }

    /// The same, loading from a standby where that is as good.
    #[must_use]
    pub fn beside(mut self, standby: Arc<dyn Standby>) -> Self {
        self.second = Some(standby::Second::new(standby, Arc::clone(&self.clock)));
        self
    }

    /// What a user may do now; `None` where there is no such user, or he or his tenant is not active.
    pub async fn access(&self, tenant: &TenantName, user: &UserId) -> Result<Option<Found>, StoreError> {
        // Before anything is looked at: what is found fresh after this holds as of it.
        let applied = self.applied.stamp();
        let now = self.clock.now();
        let key = (tenant.clone(), user.clone());
        if let Some(assembled) = self.assembled.get(&key)
            && self.floors.is_fresh(&assembled.basis)
            && assembled.found.as_ref().is_none_or(|(access, _)| access.first_expiry.is_none_or(|at| now < at))
        {
            let stamp = assembled.basis.stamp().max(applied);
            return Ok(assembled.found.as_ref().map(|(access, kind)| Found {
                access: Arc::clone(access),
                kind: *kind,
                stamp,
            }));
        }
        self.assemble(key, now).await
    }

    /// What a user may do, read from the database, whatever is held here; and the position that was read at.
    pub async fn read_access(&self, tenant: &TenantName, user: &UserId) -> Result<(Stamp, Option<Found>), StoreError> {
        let (stamp, facts, roles) = self.read_at_once(tenant, user).await?;
        let Some(facts) = facts.filter(|facts| facts.active) else { return Ok((stamp, None)) };
        let access = gather(tenant.clone(), user.clone(), &facts, roles.iter());
        Ok((stamp, Some(Found { access: Arc::new(access), kind: facts.kind, stamp })))
    }

    /// A user and his roles as they were at one position. Parts of several may add up to what he never had: a role that he
    /// left, with what was put into it afterwards.
    async fn read_at_once(
        &self,
        tenant: &TenantName,
        user: &UserId,
    ) -> Result<(Stamp, Option<UserFacts>, Vec<RoleFacts>), StoreError> {
        let Loaded { version, value } = self.store.load_whole(tenant, user).await?;
        let stamp = self.applied.stamp_of(version).unwrap_or(Stamp::NEVER);
        Ok(value.map_or_else(|| (stamp, None, Vec::new()), |whole| (stamp, Some(whole.user), whole.roles)))
    }

    /// A session that is not over, read from the database; and the position that was read at.
    pub async fn read_session(&self, session: &SessionId) -> Result<(Stamp, Option<LiveSession>), StoreError> {
        let Loaded { version, value } = self.store.load_session(session).await?;
        Ok((self.applied.stamp_of(version).unwrap_or(Stamp::NEVER), value))
    }

    async fn assemble(&self, key: UserKey, now: Timestamp) -> Result<Option<Found>, StoreError> {
        let own = self.user(&key, now).await?;
        let mut roles = Vec::new();
        for &number in own.facts.iter().filter(|facts| facts.active).flat_map(|facts| &facts.roles) {
            roles.push(self.role(number, &key.0, now).await?);
        }
        let parts = std::iter::once(&own.basis).chain(roles.iter().map(|role| &role.basis));
        if let Some(stamp) = self.together(&parts) {
            let roles = roles.iter().filter_map(|role| role.facts.as_ref());
            return Ok(self.keep(key, stamp, own.facts.as_ref(), roles));
        }
        let _permit = self.permits.acquire().await.expect("the semaphore is never closed");
        let (stamp, facts, roles) = self.read_at_once(&key.0, &key.1).await?;
        Ok(self.keep(key, stamp, facts.as_ref(), roles.iter()))
    }

    /// A position at which all of these hold: what is applied, where none was read later and no floor is above any; or
    /// that at which all of them were read.
    fn together<'a>(&self, parts: &(impl Iterator<Item = &'a Basis> + Clone)) -> Option<Stamp> {
        // Before the floors: what is fresh after this holds as of it.
        let applied = self.applied.stamp();
        let newest = parts.clone().map(Basis::stamp).max()?;
        if newest <= applied && parts.clone().all(|basis| self.floors.is_fresh(basis)) {
            return Some(applied);
        }
        parts.clone().all(|basis| basis.stamp() == newest).then_some(newest)
    }

    fn keep<'a>(
        &self,
        key: UserKey,
        stamp: Stamp,
        facts: Option<&UserFacts>,
        roles: impl Iterator<Item = &'a RoleFacts>,
    ) -> Option<Found> {
        let (tenant, user) = key.clone();
        let Some(facts) = facts.filter(|facts| facts.active) else {
            let basis = self.floors.entry_basis(stamp, &tenant, Some(&user), [].into_iter());
            self.assembled.insert(key, Arc::new(Assembled { basis, found: None }));
            return None;
        };
        let access = gather(tenant, user, facts, roles);
        let basis = self.floors.entry_basis(stamp, &access.tenant, Some(&access.user), access.roles.iter());
        let (access, kind) = (Arc::new(access), facts.kind);
        self.assembled.insert(key, Arc::new(Assembled { basis, found: Some((Arc::clone(&access), kind)) }));
        Some(Found { access, kind, stamp })
    }

    /// The position of an entry that was just loaded or found fresh: found fresh is as good as read at what was applied
    /// when it was looked at.
    fn stamp_of(&self, basis: &Basis, applied: Stamp) -> Stamp {
        if self.floors.is_fresh(basis) { basis.stamp().max(applied) } else { basis.stamp() }
    }

    async fn user(&self, key: &UserKey, now: Timestamp) -> Result<Arc<Entry<UserFacts>>, StoreError> {
        if let Some(entry) = self.users.get(key)
            && self.is_usable(&entry, now)
        {
            return Ok(entry);
        }
        let entry = self
            .user_loads
            .load(
                key,
                &self.permits,
                |entry| self.is_usable(entry, now),
                || async {
                    metrics::counter!("permcast_cache_loads_total", "kind" => "user").increment(1);
                    let near = self.standby().map(|standby| standby.load_user(&key.0, &key.1));
                    let far = self.store.load_user(&key.0, &key.1);
                    let entry = |Loaded { version, value }: Loaded<Option<UserFacts>>| {
                        let stamp = self.applied.stamp_of(version).unwrap_or(Stamp::NEVER);
                        Entry {
                            basis: self.floors.entry_basis(stamp, &key.0, Some(&key.1), [].into_iter()),
                            until: value.as_ref().and_then(|facts| facts.first_expiry),
                            facts: value,
                        }
                    };
                    self.loaded(near, far, entry).await
                },
            )
            .await?;
        self.users.insert(key.clone(), Arc::clone(&entry));
        Ok(entry)
    }

    async fn role(
        &self,
        number: RoleNo,
        tenant: &TenantName,
        now: Timestamp,
    ) -> Result<Arc<Entry<RoleFacts>>, StoreError> {
        if let Some(entry) = self.roles.get(&number)
            && self.is_usable(&entry, now)
        {
            return Ok(entry);
        }
        let entry = self
            .role_loads
            .load(
                &number,
                &self.permits,
                |entry| self.is_usable(entry, now),
                || async {
                    metrics::counter!("permcast_cache_loads_total", "kind" => "role").increment(1);
                    let near = self.standby().map(|standby| standby.load_role(number));
                    let far = self.store.load_role(number);
                    let entry = |Loaded { version, value }: Loaded<Option<RoleFacts>>| {
                        let stamp = self.applied.stamp_of(version).unwrap_or(Stamp::NEVER);
                        let closure = value.as_ref().map(|facts| facts.closure.as_slice()).unwrap_or_default();
                        let basis = self.floors.entry_basis(stamp, tenant, None, closure.iter());
                        Entry { basis, facts: value, until: None }
                    };
                    self.loaded(near, far, entry).await
                },
            )
            .await?;
        // The entry of a role that is gone rests on nothing: its number never comes back, so it is true for ever.
        self.roles.insert(number, Arc::clone(&entry));
        Ok(entry)
    }

    fn is_usable<T>(&self, entry: &Entry<T>, now: Timestamp) -> bool {
        self.floors.is_fresh(&entry.basis) && entry.until.is_none_or(|until| now < until)
    }

    /// Rows of the log that are known to be in it.
    pub fn saw(&self, rows: &[Change]) {
        if let Some(second) = &self.second {
            second.note(rows, self.applied.generation());
        }
    }

    /// Lets go of what these changes made stale. Only saves memory: what is stale is never used.
    pub fn evict(&self, changes: &[Change]) {
        if self.is_empty() {
            return;
        }
        for change in changes {
            if let Target::User { tenant, user } = &change.target {
                let key = (tenant.clone(), user.clone());
                self.users.remove(&key);
                self.assembled.remove(&key);
            }
        }
    }

    /// Marks what is fresh now as read now, so that folding the floors below does not make it stale.
    pub fn restamp(&self) {
        let applied = self.applied.stamp();
        let fresh = |basis: &Basis| self.floors.is_fresh(basis).then(|| basis.clone().restamped(applied));
        for (key, entry) in self.users.iter() {
            if let Some(basis) = fresh(&entry.basis) {
                let entry = Entry { basis, facts: entry.facts.clone(), until: entry.until };
                let _ = self.users.replace(key, Arc::new(entry), true);
            }
        }
        for (key, entry) in self.roles.iter() {
            if let Some(basis) = fresh(&entry.basis) {
                let entry = Entry { basis, facts: entry.facts.clone(), until: entry.until };
                let _ = self.roles.replace(key, Arc::new(entry), true);
            }
        }
        for (key, assembled) in self.assembled.iter() {
            if let Some(basis) = fresh(&assembled.basis) {
                let assembled = Assembled { basis, found: assembled.found.clone() };
                let _ = self.assembled.replace(key, Arc::new(assembled), true);
            }
        }
    }

    /// How many users and roles are held.
    pub fn len(&self) -> (usize, usize) {
        (self.users.len(), self.roles.len())
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.roles.is_empty() && self.assembled.is_empty()
    }
}

/// A user's own part and his roles, put together.
fn gather<'a>(
    tenant: TenantName,
    user: UserId,
    facts: &UserFacts,
    roles: impl Iterator<Item = &'a RoleFacts>,
) -> Access {
    let mut grants = facts.grants.clone();
    let mut names: Vec<RoleName> = Vec::new();
    for role in roles {
        names.extend(role.closure.iter().cloned());
        grants.extend(role.grants.iter().cloned());
    }
    names.sort_unstable();
    names.dedup();
    Access {
        tenant,
        user,
        roles: names.into(),
        permissions: Arc::new(grants.into_iter().collect::<PermissionSet>()),
        first_expiry: facts.first_expiry,
    }
}

/// The outcome of one load, shared with all who waited for it. An error goes to the one who loaded; the rest try again.
type Outcome<T> = Option<Result<Arc<T>, ()>>;

/// Single-flight: of those who want the same thing at the same time one loads and the rest wait.
///
/// A waiter takes the result of a load that was under way when he came only if it is still usable. That of a load which
/// began after he asked is never older than his question: he takes it even when a change has overtaken it meanwhile, so
/// that steady change starves nobody.
struct Loads<K, T> {
    under_way: Mutex<HashMap<K, watch::Receiver<Outcome<T>>>>,
}

impl<K, T> Default for Loads<K, T> {
    fn default() -> Self {
        Self { under_way: Mutex::default() }
    }
}

impl<K: Clone + Eq + Hash, T> Loads<K, T> {
    async fn load<F, Fut>(
        &self,
        key: &K,
        permits: &Semaphore,
        is_usable: impl Fn(&T) -> bool,
        read: F,
    ) -> Result<Arc<T>, StoreError>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, StoreError>>,
    {
        let mut joined_before = false;
        loop {
            let mut joined = match self.join_or_lead(key) {
                Err(joined) => joined,
                Ok(lead) => {
                    let _permit = permits.acquire().await.expect("the semaphore is never closed");
                    let result = read().await.map(Arc::new);
                    lead.finish(result.as_ref().map(Arc::clone).map_err(|_| ()));
                    return result;
                }
            };
            let outcome = joined.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
            let began_after_the_question = std::mem::replace(&mut joined_before, true);
            if let Some(Ok(value)) = outcome
                && (began_after_the_question || is_usable(&value))
            {
                return Ok(value);
            }
        }
    }

    fn join_or_lead(&self, key: &K) -> Result<Lead<'_, K, T>, watch::Receiver<Outcome<T>>> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(joined) = under_way.get(key) {
            return Err(joined.clone());
        }
        let (sender, receiver) = watch::channel(None);
        under_way.insert(key.clone(), receiver);
        Ok(Lead { loads: self, key: key.clone(), sender })
    }
}

/// The right and duty to load; given up without a result when its holder is cancelled.
struct Lead<'a, K: Clone + Eq + Hash, T> {
    loads: &'a Loads<K, T>,
    key: K,
    sender: watch::Sender<Outcome<T>>,
}

impl<K: Clone + Eq + Hash, T> Lead<'_, K, T> {
    fn finish(self, result: Result<Arc<T>, ()>) {
        self.sender.send_replace(Some(result));
    }
}

impl<K: Clone + Eq + Hash, T> Drop for Lead<'_, K, T> {
    fn drop(&mut self) {
        self.loads.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
#[path = "cache/cache_tests.rs"]
mod tests;
