//! One shard's tables: which connections rest on a key. Pure; the hub holds the lock around it.
//!
//! A shard holds all connections of a user, so one lock registers, moves or removes a connection under all of its keys
//! at once, and a change of one user looks at one shard.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::mailbox::Mailbox;
use crate::domain::floors::FloorKey;
use crate::domain::{Floors, RoleName, SessionId, Stamp, TenantName, UserId};

/// A connection's number: later ones are higher.
pub type ConnectionId = u64;

/// A key of any tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key(u64);

impl Key {
    /// The whole tenant.
    pub(super) fn tenant(tenant: FloorKey) -> Self {
        Self(tenant.get())
    }

    /// Something within the tenant. Two that collide are told too often, never too rarely.
    pub(super) fn within(tenant: FloorKey, key: FloorKey) -> Self {
        Self(tenant.get().rotate_left(1) ^ key.get())
    }
}

/// Who holds a connection: does not change as long as it lives.
#[derive(Debug, Clone)]
pub struct Holder {
    pub tenant: TenantName,
    pub user: UserId,
}

/// What a connection's snapshot rests on, and as of when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footing {
    /// The session of its token; `None` where none of ours is behind it.
    pub session: Option<FloorKey>,
    /// The token's position.
    pub token: Stamp,
    /// The position of its permissions: the token's own, or for a thin one that of the cache.
    pub access: Stamp,
    /// Whether the permissions are not the token's own.
    pub thin: bool,
    /// Its roles, closed over inclusion.
    pub roles: Box<[FloorKey]>,
    /// Operators are not locked out.
    pub operator: bool,
}

impl Footing {
    /// Of a token that carries its permissions.
    pub fn fat<'a, 's>(
        floors: &Floors,
        session: impl Into<Option<&'s SessionId>>,
        token: Stamp,
        roles: impl IntoIterator<Item = &'a RoleName>,
        operator: bool,
    ) -> Self {
        let session = session.into().map(|session| floors.session_key(session));
        let mut roles: Vec<_> = roles.into_iter().map(|role| floors.role_key(role)).collect();
        roles.sort_unstable();
        roles.dedup();
        Self { session, token, access: token, thin: false, roles: roles.into(), operator }
    }

    /// Of a token whose permissions come from the cache, where they were found as of `access`.
    pub fn thin<'a, 's>(
        floors: &Floors,
        session: impl Into<Option<&'s SessionId>>,
        token: Stamp,
        access: Stamp,
        roles: impl IntoIterator<Item = &'a RoleName>,
        operator: bool,
    ) -> Self {
        Self { access, thin: true, ..Self::fat(floors, session, token, roles, operator) }
    }
}

/// One registered connection.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: ConnectionId,
    pub(super) holder: Holder,
    pub(super) footing: Footing,
    pub(super) mailbox: Arc<Mailbox>,
    /// The keys that it is found by, tenant and user first, and where it stands in each key's list.
    places: Vec<(Key, u32)>,
}

/// Where a connection is registered. The number tells whether it still is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    index: u32,
    id: ConnectionId,
}

/// The tables.
#[derive(Debug, Default)]
pub(super) struct Shard {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    members: HashMap<Key, Vec<u32>, FixedState>,
}

impl Shard {
    /// Puts a connection in under all of its keys.
    pub(super) fn insert(
        &mut self,
        id: ConnectionId,
        holder: Holder,
        keys: [Key; 2],
        roles: impl Iterator<Item = Key>,
        footing: Footing,
        mailbox: Arc<Mailbox>,
    ) -> Slot {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            u32::try_from(self.entries.len() - 1).expect("a process has fewer sockets than 2^32")
        });
        let mut places = Vec::with_capacity(keys.len() + footing.roles.len());
        for key in keys.into_iter().chain(roles) {
            places.push((key, self.join(key, index)));
        }
        self.entries[index as usize] = Some(Entry { id, holder, footing, mailbox, places });
        Slot { index, id }
    }

    /// Puts it under other roles. False where it is not registered any more.
    pub(super) fn replace(&mut self, slot: Slot, roles: impl Iterator<Item = Key>, footing: Footing) -> bool {
        let Some(entry) = self.get_mut(slot) else { return false };
        entry.footing = footing;
        let own = &mut entry.places;
        let former = own.split_off(2.min(own.len()));
        for (key, place) in former {
            self.leave(slot.index, key, place);
        }
        let joined: Vec<_> = roles.map(|key| (key, self.join(key, slot.index))).collect();
        if let Some(entry) = self.get_mut(slot) {
            entry.places.extend(joined);
        }
        true
    }

    /// Takes it out if it is still the one in its slot: compare and remove in one.
    pub(super) fn remove(&mut self, slot: Slot) -> Option<Entry> {
        self.get(slot)?;
        let entry = self.entries[slot.index as usize].take()?;
        for &(key, place) in &entry.places {
            self.leave(slot.index, key, place);
        }
        self.free.push(slot.index);
        Some(entry)
    }

    /// Removes the oldest connection of `user` where there are more than `max`.
    pub(super) fn displace(&mut self, user: Key, max: usize) -> Option<Entry> {
        let list = self.members.get(&user).filter(|list| list.len() > max)?;
        let oldest = list.iter().filter_map(|&index| self.slot(index)).min_by_key(|slot| slot.id)?;
        self.remove(oldest)
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Entry> {
        self.entries[slot.index as usize].as_ref().filter(|entry| entry.id == slot.id)
    }

    fn get_mut(&mut self, slot: Slot) -> Option<&mut Entry> {
        self.entries[slot.index as usize].as_mut().filter(|entry| entry.id == slot.id)
    }

    fn slot(&self, index: u32) -> Option<Slot> {
        self.entries[index as usize].as_ref().map(|entry| Slot { index, id: entry.id })
    }

    /// The connections that rest on a key.
    pub(super) fn members(&self, key: Key) -> impl Iterator<Item = &Entry> {
        let list = self.members.get(&key).map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(|&index| self.entries[index as usize].as_ref())
    }

    /// How many they are.
    pub(super) fn count(&self, key: Key) -> usize {
        self.members.get(&key).map_or(0, Vec::len)
    }

    /// How many there are in all.
    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// One of them: the first at or after a place, going round.
    pub(super) fn near(&self, place: u64) -> Option<(Slot, &Entry)> {
        let count = self.entries.len();
        let first = usize::try_from(place % (count.max(1) as u64)).unwrap_or_default();
        (first..count).chain(0..first).find_map(|index| {
            let index = u32::try_from(index).ok()?;
            let slot = self.slot(index)?;
            self.get(slot).map(|entry| (slot, entry))
        })
    }

    /// All connections.
    pub(super) fn all(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().flatten()
    }

    fn join(&mut self, key: Key, index: u32) -> u32 {
        let list = self.members.entry(key).or_default();
        list.push(index);
        u32::try_from(list.len() - 1).expect("a list is not longer than the table")
    }

    /// Takes one out of a key's list; the last of the list moves to its place.
    fn leave(&mut self, index: u32, key: Key, place: u32) {
        let Some(list) = self.members.get_mut(&key) else { return };
        debug_assert_eq!(list[place as usize], index);
        list.swap_remove(place as usize);
        let moved = list.get(place as usize).copied();
        if list.is_empty() {
            self.members.remove(&key);
        }
        if let Some(moved) = moved
            && let Some(entry) = &mut self.entries[moved as usize]
            && let Some(known) = entry.places.iter_mut().find(|(other, _)| *other == key)
        {
            known.1 = place;
        }
    }

    /// How many keys are held; for tests.
    #[cfg(test)]
    pub(super) fn keys(&self) -> usize {
        self.members.len()
    }
}
