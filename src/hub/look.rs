//! A look at one connection from outside, for whoever compares it with the database.

use super::registry::Slot;
use super::{Footing, Holder, Hub, SHARDS, lock};

/// A registered connection as it stood when it was looked at.
#[derive(Debug)]
pub struct Seen {
    pub holder: Holder,
    pub footing: Footing,
    shard: usize,
    slot: Slot,
}

/// What its client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The connection is gone, or rests on something else by now.
    Gone,
    /// Of a change past what it rests on, or is about to be.
    Of,
    /// Of nothing since.
    Nothing,
}

impl Hub {
    /// Some connection; which one is up to the number.
    pub fn some(&self, number: u64) -> Option<Seen> {
        let first = usize::try_from(number % SHARDS as u64).unwrap_or_default();
        (first..SHARDS).chain(0..first).find_map(|number_of_shard| {
            let shard = lock(&self.shards[number_of_shard]);
            let (slot, entry) = shard.near(number / SHARDS as u64)?;
            Some(Seen { holder: entry.holder.clone(), footing: entry.footing.clone(), shard: number_of_shard, slot })
        })
    }

    /// What the client of a connection knows by now.
    pub fn told(&self, seen: &Seen) -> Told {
        let shard = lock(&self.shards[seen.shard]);
        match shard.get(seen.slot).filter(|entry| entry.footing == seen.footing) {
            None => Told::Gone,
            Some(entry) if entry.mailbox.is_past(seen.footing.access) => Told::Of,
            Some(_) => Told::Nothing,
        }
    }
}
