//! Is this snapshot fresh?
//!
//! A floor is the highest position at which something was touched. A snapshot that rests on it is fresh when its own
//! position is not below. Floors only rise, so changes may be raised twice, late or out of order.
//!
//! One writer (the feed) raises; any number of readers ask, without a lock and without waiting for the writer. Within a
//! raise the detailed floor is written before the tenant's `moved`, and a reader looks at `moved` first: who sees that
//! something moved also sees what.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;

use super::change::{Change, Target};
use super::name::{RoleName, SessionId, TenantName, UserId};
use super::sync::{AtomicU64, Mutex, RwLock, Swap};
use super::version::{Seq, Stamp};

/// A word that only rises.
#[derive(Debug, Default)]
struct Floor(AtomicU64);

impl Floor {
    fn raise(&self, stamp: Stamp) {
        self.0.fetch_max(stamp.to_word(), Ordering::AcqRel);
    }

    fn get(&self) -> Stamp {
        Stamp::from_word(self.0.load(Ordering::Acquire))
    }
}

/// The name of one floor within a tenant: a keyed hash, never 0. Two names that collide share a floor, which can make a
/// snapshot stale too often but never fresh too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FloorKey(u64);

impl FloorKey {
    /// The hash, to key other tables by the same names.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// An open-addressed table of floors: one writer, readers without locks. Never full, never shrinks in place.
#[derive(Debug)]
struct Table {
    mask: usize,
    slots: Box<[(AtomicU64, AtomicU64)]>,
}

impl Table {
    fn with_room_for(entries: usize) -> Self {
        let size = (entries * 2).next_power_of_two().max(8);
        Self { mask: size - 1, slots: (0..size).map(|_| Default::default()).collect() }
    }

    fn get(&self, key: FloorKey) -> Stamp {
        #[expect(clippy::cast_possible_truncation, reason = "the low bits are what the mask keeps")]
        let mut at = key.0 as usize & self.mask;
        loop {
            let (slot, floor) = &self.slots[at];
            match slot.load(Ordering::Acquire) {
                0 => return Stamp::NEVER,
                found if found == key.0 => return Stamp::from_word(floor.load(Ordering::Acquire)),
                _ => at = (at + 1) & self.mask,
            }
        }
    }

    /// Raises one floor; tells whether it is a new entry. Only ever called by the one writer, with room left.
    fn raise(&self, key: FloorKey, stamp: Stamp) -> bool {
        #[expect(clippy::cast_possible_truncation, reason = "the low bits are what the mask keeps")]
        let mut at = key.0 as usize & self.mask;
        loop {
            let (slot, floor) = &self.slots[at];
            match slot.load(Ordering::Acquire) {
                0 => {
                    floor.store(stamp.to_word(), Ordering::Release);
                    slot.store(key.0, Ordering::Release);
                    return true;
                }
                found if found == key.0 => {
                    floor.fetch_max(stamp.to_word(), Ordering::AcqRel);
                    return false;
                }
                _ => at = (at + 1) & self.mask,
            }
        }
    }

    fn entries(&self) -> impl Iterator<Item = (FloorKey, Stamp)> + '_ {
        self.slots.iter().filter_map(|(slot, floor)| match slot.load(Ordering::Acquire) {
            0 => None,
            key => Some((FloorKey(key), Stamp::from_word(floor.load(Ordering::Acquire)))),
        })
    }
}

/// The floors of one tenant. Lives as long as the process, because snapshots hold on to it.
#[derive(Debug)]
struct TenantFloors {
    /// Highest position of anything in this tenant: at or below a snapshot's, nothing else needs a look.
    moved: Floor,
    /// Highest change of the tenant as a whole.
    changed: Floor,
    /// Highest position at which all of the tenant's sessions ended.
    ended: Floor,
    /// Floors up to here were given up to save memory: below it nothing is known to be fresh.
    folded: Floor,
    /// Users, roles, sessions, and the sessions of users.
    items: Swap<Table>,
}

/// Everything that a snapshot rests on. Fresh as long as no floor of it is above its position.
#[derive(Debug, Clone)]
pub struct Basis {
    tenant: Arc<TenantFloors>,
    stamp: Stamp,
    /// Its end: the session itself, all sessions of its user. None for a cache entry, which belongs to no session.
    session: Option<[FloorKey; 2]>,
    /// Whose changes make it stale: user and roles. Empty for a thin token, whose permissions are looked up.
    permissions: Option<Box<[FloorKey]>>,
}

impl Basis {
    /// Its position: the lowest of anything it rests on.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The same basis, found fresh when `stamp` was applied, so as good as read there.
    #[must_use]
    pub fn restamped(mut self, stamp: Stamp) -> Self {
        self.stamp = self.stamp.max(stamp);
        self
    }

    /// The keys whose changes make it stale, user first.
    pub fn permission_keys(&self) -> &[FloorKey] {
        self.permissions.as_deref().unwrap_or_default()
    }
}

/// The answer to "has a later change touched this snapshot?"
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Nothing that it rests on has moved past it.
    Fresh,
    /// Something has; a fresh one must reach `needed`.
    Stale {
        /// The highest floor that is above it.
        needed: Stamp,
    },
    /// Its session is over since `at`: no newer snapshot can be had.
    Ended {
        /// Where the session ended.
        at: Stamp,
    },
}

/// A tenant whose floors took too much room and were folded into one; to be told as a change of that tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded {
    /// Whose.
    pub tenant: TenantName,
    /// Up to where.
    pub stamp: Stamp,
}

/// All floors of a replica.
pub struct Floors {
    hash: SeedableRandomState,
    entries_max: usize,
    /// Highest of the three below: the one word that a fast look reads.
    moved: Floor,
    /// Highest change of everyone.
    changed: Floor,
    /// Highest position at which everyone's sessions ended.
    ended: Floor,
    /// Floors up to here were folded away: a snapshot below it is never fresh.
    horizon: Floor,
    tenants: RwLock<HashMap<TenantName, Arc<TenantFloors>>>,
    /// The writer's own. Its lock makes the writer one.
    writer: Mutex<Counts>,
}

/// How many item floors each tenant has, and all together.
#[derive(Debug, Default)]
struct Counts {
    by_tenant: HashMap<TenantName, usize>,
    total: usize,
}

impl Floors {
    /// No floors at all. `seed` keys the hash; `entries_max` bounds the floors of users, roles and sessions.
    pub fn new(seed: u64, entries_max: usize) -> Self {
        static SHARED: SharedSeed = SharedSeed::from_u64(0x7065_726d_6361_7374);
        Self {
            hash: SeedableRandomState::with_seed(seed, &SHARED),
            entries_max,
            moved: Floor::default(),
            changed: Floor::default(),
            ended: Floor::default(),
            horizon: Floor::default(),
            tenants: RwLock::default(),
            writer: Mutex::default(),
        }
    }

    /// A user's floor.
    pub fn user_key(&self, user: &UserId) -> FloorKey {
        self.key(b'u', user.as_str())
    }

    /// A role's floor.
    pub fn role_key(&self, role: &RoleName) -> FloorKey {
        self.key(b'r', role.as_str())
    }

    /// A session's floor.
    pub fn session_key(&self, session: &SessionId) -> FloorKey {
        self.key(b's', session.as_str())
    }

    /// A tenant, to key other tables that hold several tenants' keys.
    pub fn tenant_key(&self, tenant: &TenantName) -> FloorKey {
        self.key(b't', tenant.as_str())
    }

    /// The floor below which all sessions of a user are over.
    fn sessions_key(&self, user: &UserId) -> FloorKey {
        self.key(b'e', user.as_str())
    }

    fn key(&self, kind: u8, name: &str) -> FloorKey {
        let mut hasher = self.hash.build_hasher();
        hasher.write_u8(kind);
        hasher.write(name.as_bytes());
        FloorKey(hasher.finish().max(1))
    }

    fn tenant(&self, name: &TenantName) -> Arc<TenantFloors> {
        if let Some(found) = self.tenants.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Arc::clone(found);
        }
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(tenants.entry(name.clone()).or_insert_with(|| {
            Arc::new(TenantFloors {
                moved: Floor::default(),
                changed: Floor::default(),
                ended: Floor::default(),
                folded: Floor::default(),
                items: Swap::from_pointee(Table::with_room_for(0)),
            })
        }))
    }

    /// What a token with its permissions in it rests on.
    pub fn token_basis<'a>(
        &self,
        stamp: Stamp,
        tenant: &TenantName,
        user: &UserId,
        session: &SessionId,
        roles: impl Iterator<Item = &'a RoleName>,
    ) -> Basis {
        let mut basis = self.thin_basis(stamp, tenant, user, session);
        basis.permissions = Some(self.permission_keys(Some(user), roles));
        basis
    }

    /// What a thin token rests on: its session alone, and that of all of its user's that they go on. The latter alone
    /// where no session of ours is behind it.
    pub fn thin_basis<'a>(
        &self,
        stamp: Stamp,
        tenant: &TenantName,
        user: &UserId,
        session: impl Into<Option<&'a SessionId>>,
    ) -> Basis {
        let sessions = self.sessions_key(user);
        let session = session.into().map_or(sessions, |session| self.session_key(session));
        Basis { tenant: self.tenant(tenant), stamp, session: Some([session, sessions]), permissions: None }
    }

    /// What a cached user (his own roles and direct grants) or role (its closed permissions) rests on.
    pub fn entry_basis<'a>(
        &self,
        stamp: Stamp,
        tenant: &TenantName,
        user: Option<&UserId>,
        roles: impl Iterator<Item = &'a RoleName>,
    ) -> Basis {
        Basis {
            tenant: self.tenant(tenant),
            stamp,
            session: None,
            permissions: Some(self.permission_keys(user, roles)),
        }
    }

    fn permission_keys<'a>(&self, user: Option<&UserId>, roles: impl Iterator<Item = &'a RoleName>) -> Box<[FloorKey]> {
        user.map(|user| self.user_key(user)).into_iter().chain(roles.map(|role| self.role_key(role))).collect()
    }

    /// Whether nothing that the snapshot rests on has moved past it.
    #[inline]
    pub fn is_fresh(&self, basis: &Basis) -> bool {
        self.moved.get().max(basis.tenant.moved.get()) <= basis.stamp || self.look_closer(basis) == Freshness::Fresh
    }

    /// Whether the snapshot is fresh, and if not, why and what it takes.
    pub fn freshness(&self, basis: &Basis) -> Freshness {
        if self.moved.get().max(basis.tenant.moved.get()) <= basis.stamp {
            return Freshness::Fresh;
        }
        self.look_closer(basis)
    }

    #[cold]
    fn look_closer(&self, basis: &Basis) -> Freshness {
        let tenant = &*basis.tenant;
        let items = tenant.items.load();
        if let Some([session, sessions_of_user]) = basis.session {
            let at = items.get(session).max(items.get(sessions_of_user)).max(tenant.ended.get()).max(self.ended.get());
            if at > basis.stamp {
                return Freshness::Ended { at };
            }
        }
        // A change of everyone touches a thin token, too: it stands for what cannot be known, such as a row that the log
        // lacks, which may have ended a session.
        let mut needed = tenant.folded.get().max(self.horizon.get()).max(self.changed.get());
        if let Some(keys) = &basis.permissions {
            needed = needed.max(tenant.changed.get());
            for &key in keys {
                needed = needed.max(items.get(key));
            }
        }
        if needed > basis.stamp { Freshness::Stale { needed } } else { Freshness::Fresh }
    }

    /// The highest change of anything that the permissions of a snapshot rest on, as far as it was not folded away.
    pub fn highest(&self, basis: &Basis) -> Stamp {
        let items = basis.tenant.items.load();
        let whole = basis.tenant.changed.get().max(self.changed.get());
        basis.permission_keys().iter().fold(whole, |highest, &key| highest.max(items.get(key)))
    }

    /// Lifts the floors that a change touches. Where that takes more room than there is, the tenants with the most
    /// floors are folded, and told.
    #[must_use = "a folded tenant must be told"]
    pub fn raise(&self, change: &Change, generation: u16) -> Vec<Folded> {
        let stamp = Stamp::new(generation, change.seq);
        let ends = change.effect.ends_sessions();
        match &change.target {
            Target::User { tenant, user } => {
                let sessions = ends.then(|| self.sessions_key(user));
                self.raise_items(tenant, stamp, [Some(self.user_key(user)), sessions])
            }
            Target::Role { tenant, role } => self.raise_items(tenant, stamp, [Some(self.role_key(role)), None]),
            Target::Session { tenant, session, .. } => {
                self.raise_items(tenant, stamp, [Some(self.session_key(session)), None])
            }
            Target::Tenant { tenant } => {
                let tenant = self.tenant(tenant);
                if ends {
                    tenant.ended.raise(stamp);
                }
                tenant.changed.raise(stamp);
                tenant.moved.raise(stamp);
                Vec::new()
            }
            Target::Everyone => {
                if ends {
                    self.ended.raise(stamp);
                }
                self.changed.raise(stamp);
                self.moved.raise(stamp);
                Vec::new()
            }
            Target::Keys | Target::Lockdown { .. } => Vec::new(),
        }
    }

    fn raise_items(&self, name: &TenantName, stamp: Stamp, keys: [Option<FloorKey>; 2]) -> Vec<Folded> {
        let mut counts = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let folded = self.make_room(&mut counts, keys.len(), stamp);
        let tenant = self.tenant(name);
        let count = counts.by_tenant.entry(name.clone()).or_default();
        let mut items = tenant.items.load_full();
        if (*count + keys.len()) * 2 > items.slots.len() {
            let grown = Table::with_room_for((*count + keys.len()) * 2);
            for (key, floor) in items.entries() {
                grown.raise(key, floor);
            }
            items = Arc::new(grown);
            tenant.items.store(Arc::clone(&items));
        }
        let mut added = 0;
        for key in keys.into_iter().flatten() {
            added += usize::from(items.raise(key, stamp));
        }
        *count += added;
        counts.total += added;
        tenant.moved.raise(stamp);
        folded
    }

    fn make_room(&self, counts: &mut Counts, wanted: usize, at: Stamp) -> Vec<Folded> {
        let mut folded = Vec::new();
        while counts.total + wanted > self.entries_max {
            let noisiest = counts.by_tenant.iter().max_by(|a, b| a.1.cmp(b.1).then_with(|| b.0.cmp(a.0)));
            let Some(name) = noisiest.map(|(name, _)| name.clone()) else { break };
            counts.total -= counts.by_tenant.remove(&name).unwrap_or_default();
            folded.push(self.fold_tenant(name, at));
        }
        folded
    }

    fn fold_tenant(&self, name: TenantName, at: Stamp) -> Folded {
        let tenant = self.tenant(&name);
        let stamp = tenant.moved.get().max(at);
        tenant.folded.raise(stamp);
        tenant.moved.raise(stamp);
        tenant.items.store(Arc::new(Table::with_room_for(0)));
        Folded { tenant: name, stamp }
    }

    /// Gives up all floors at or below `horizon`: from now on no snapshot below it is fresh. For positions that no
    /// living token can still have.
    pub fn fold(&self, horizon: Stamp) {
        let mut counts = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.horizon.raise(horizon);
        self.moved.raise(horizon);
        counts.by_tenant.retain(|name, count| {
            let tenant = self.tenant(name);
            let old = tenant.items.load_full();
            let kept: Vec<_> = old.entries().filter(|&(_, floor)| floor > horizon).collect();
            if kept.len() < *count {
                let table = Table::with_room_for(kept.len());
                for &(key, floor) in &kept {
                    table.raise(key, floor);
                }
                tenant.items.store(Arc::new(table));
                *count = kept.len();
            }
            *count > 0
        });
        counts.total = counts.by_tenant.values().sum();
    }

    /// Starts the process's next epoch: whatever was read in an earlier one is never fresh again.
    pub fn begin_epoch(&self, generation: u16) {
        self.fold(Stamp::new(generation, Seq::ZERO));
    }

    /// The position below which nothing is fresh.
    pub fn horizon(&self) -> Stamp {
        self.horizon.get()
    }

    /// How many floors of users, roles and sessions are held.
    pub fn len(&self) -> usize {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).total
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
#[path = "floors_tests.rs"]
mod tests;

#[cfg(all(test, feature = "loom"))]
#[path = "floors_models.rs"]
mod models;
