//! Telling: whom changes touch, and what is put into their mailboxes.
//!
//! One shard after the other is looked through under its lock, and its connections are told after that, so that a client
//! which connects meanwhile waits for a look at a part of them and for nothing that is done with them.

use std::collections::HashMap;
use std::sync::Arc;

use super::mailbox::{Mailbox, Notice, Progress};
use super::registry::{Entry, Key, Shard};
use super::{Hub, lock};
use crate::domain::floors::{FloorKey, Folded};
use crate::domain::sync::Mutex;
use crate::domain::{Change, Effect, Seq, Stamp, Target, Timestamp};
use crate::protocol::socket::Reason;

/// Changes of one target, as they were written: each connection that rests on it is visited once for all of them.
struct News<'a> {
    target: &'a Target,
    changes: Vec<(Stamp, &'a Change)>,
}

/// Where a target's connections are.
struct Reach<'a> {
    shards: &'a [Mutex<Shard>],
    /// What they rest on; `None`: whatever they rest on.
    key: Option<Key>,
    /// Of which session they are; `None`: of any.
    session: Option<FloorKey>,
}

/// What news do to one connection.
struct Hit {
    mailbox: Arc<Mailbox>,
    outcome: Outcome,
    /// The first of the changes that touches it.
    first: usize,
}

#[derive(Clone, Copy)]
enum Outcome {
    /// Its session is over.
    End(Effect),
    /// Its token must reach this, even if its client was told so before (`again`): a thin token was told then to read anew
    /// what the cache holds, now it must be refreshed itself.
    Tell { stamp: Stamp, reason: Reason, at: Timestamp, again: bool },
}

impl Hub {
    /// Tells the connections that these changes touch. What several of them do to one connection is merged in its mailbox.
    pub fn tell(&self, changes: &[Change], generation: u16) {
        let news = News::of(changes, generation);
        let spread = self.spread(self.wide(&news));
        for news in &news {
            let mut receipt = None;
            Self::each_shard(
                &self.reach(news.target),
                |entry| news.hits(entry),
                |hits| {
                    let open: &[bool] = receipt.get_or_insert_with(|| self.open_receipts(news));
                    self.count(news, open, hits);
                    for hit in hits {
                        let owes = news.changes.iter().zip(open).skip(hit.first).filter(|(_, open)| **open);
                        self.put(hit, owes.map(|((stamp, _), _)| *stamp), spread);
                    }
                },
            );
        }
    }

    /// Tells a tenant's connections that its floors were folded: whatever is below is stale, thin tokens too.
    pub fn tell_folded(&self, folded: &Folded) {
        let reach = Reach::all(&self.shards).within(Key::tenant(self.floors.tenant_key(&folded.tenant)));
        self.tell_all_below(folded.stamp, Reason::Tenant, &reach);
    }

    /// Tells everyone that a new epoch has begun: no token of the former one is fresh.
    pub fn begin_epoch(&self, generation: u16) {
        self.tell_all_below(Stamp::new(generation, Seq::ZERO), Reason::Everyone, &Reach::all(&self.shards));
    }

    fn tell_all_below(&self, stamp: Stamp, reason: Reason, reach: &Reach<'_>) {
        let at = self.clock.now();
        let spread = self.spread(reach.len());
        let below = |entry: &Entry| {
            if entry.footing.token < stamp {
                return Some((Outcome::Tell { stamp, reason, at, again: entry.footing.thin }, 0));
            }
            None
        };
        Self::each_shard(reach, below, |hits| hits.iter().for_each(|hit| self.put(hit, std::iter::empty(), spread)));
    }

    fn reach(&self, target: &Target) -> Reach<'_> {
        let all = Reach::all(&self.shards);
        match target {
            Target::User { tenant, user } | Target::Session { tenant, user, .. } => {
                let session = match target {
                    Target::Session { session, .. } => Some(self.floors.session_key(session)),
                    _ => None,
                };
                let user = self.floors.user_key(user);
                let shards = std::slice::from_ref(self.shard_of(user));
                Reach { shards, key: Some(Key::within(self.floors.tenant_key(tenant), user)), session }
            }
            Target::Role { tenant, role } => {
                all.within(Key::within(self.floors.tenant_key(tenant), self.floors.role_key(role)))
            }
            Target::Tenant { tenant } => all.within(Key::tenant(self.floors.tenant_key(tenant))),
            Target::Everyone => all,
            Target::Keys | Target::Lockdown { .. } => Reach { shards: &[], ..all },
        }
    }

    /// How many connections are told at once because something that many rest on has changed: at the most, for some may
    /// have gone on already.
    fn wide(&self, news: &[News<'_>]) -> usize {
        let wide = news.iter().filter(|news| news.reason().is_some_and(|reason| reason != Reason::User));
        wide.map(|news| self.reach(news.target).len()).sum::<usize>().min(self.totals().registered)
    }

    /// Looks through the shards, and hands out what was found in each.
    fn each_shard(
        reach: &Reach<'_>,
        outcome: impl Fn(&Entry) -> Option<(Outcome, usize)>,
        mut told: impl FnMut(&[Hit]),
    ) {
        let mut hits = Vec::new();
        for shard in reach.shards {
            let shard = lock(shard);
            // Each mailbox lies somewhere else, and each step below waits for its own; asked for together they come together.
            let mut fetched = 0;
            reach.visit(&shard, |entry| fetched += Arc::strong_count(&entry.mailbox));
            std::hint::black_box(fetched);
            reach.visit(&shard, |entry| {
                let hit =
                    outcome(entry).map(|(outcome, first)| Hit { mailbox: Arc::clone(&entry.mailbox), outcome, first });
                hits.extend(hit);
            });
            drop(shard);
            if !hits.is_empty() {
                told(&hits);
                hits.clear();
            }
        }
    }

    /// Opens the receipts of those changes that were not told before.
    fn open_receipts(&self, news: &News<'_>) -> Vec<bool> {
        let mut receipts = lock(&self.receipts);
        news.changes.iter().map(|(stamp, _)| receipts.open(*stamp)).collect()
    }

    fn count(&self, news: &News<'_>, open: &[bool], hits: &[Hit]) {
        let mut receipts = lock(&self.receipts);
        for (number, (stamp, _)) in news.changes.iter().enumerate().filter(|(number, _)| open[*number]) {
            receipts.affected(*stamp, hits.iter().filter(|hit| hit.first <= number).count() as u64);
        }
    }

    fn put(&self, hit: &Hit, owes: impl Iterator<Item = Stamp>, spread: std::time::Duration) {
        let progress = hit.mailbox.put(|pending| {
            let mut progress = Progress::default();
            owes.for_each(|stamp| pending.owe(stamp, &mut progress));
            match hit.outcome {
                Outcome::End(effect) => pending.end(effect),
                Outcome::Tell { stamp, reason, at, again } => {
                    let refresh_within = if reason == Reason::User { std::time::Duration::ZERO } else { spread };
                    pending.lift(Notice { stamp, reason, refresh_within, at }, again);
                }
            }
            progress
        });
        self.record(&progress);
    }
}

impl<'a> Reach<'a> {
    fn all(shards: &'a [Mutex<Shard>]) -> Self {
        Self { shards, key: None, session: None }
    }

    fn within(self, key: Key) -> Self {
        Self { key: Some(key), ..self }
    }

    fn visit(&self, shard: &Shard, mut visit: impl FnMut(&Entry)) {
        match (self.key, self.session) {
            (Some(key), None) => shard.members(key).for_each(visit),
            (Some(key), session) => {
                shard.members(key).filter(|entry| entry.footing.session == session).for_each(&mut visit);
            }
            (None, _) => shard.all().for_each(visit),
        }
    }

    /// How many there are.
    fn len(&self) -> usize {
        let count = |shard: &Mutex<Shard>| self.key.map_or_else(|| lock(shard).len(), |key| lock(shard).count(key));
        self.shards.iter().map(count).sum()
    }
}

impl<'a> News<'a> {
    /// The changes by what they touched, in the order in which that was touched first.
    fn of(changes: &'a [Change], generation: u16) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        let mut known: HashMap<&Target, usize> = HashMap::new();
        for change in changes {
            let at = *known.entry(&change.target).or_insert(all.len());
            if at == all.len() {
                all.push(Self { target: &change.target, changes: Vec::new() });
            }
            all[at].changes.push((Stamp::new(generation, change.seq), change));
        }
        for news in &mut all {
            news.changes.sort_unstable_by_key(|(stamp, _)| *stamp);
        }
        all
    }

    /// Why a client is told; `None` where its session is what has ended.
    fn reason(&self) -> Option<Reason> {
        match self.target {
            Target::Session { .. } => None,
            Target::User { .. } => Some(Reason::User),
            Target::Role { .. } => Some(Reason::Role),
            Target::Tenant { .. } => Some(Reason::Tenant),
            Target::Everyone | Target::Keys | Target::Lockdown { .. } => Some(Reason::Everyone),
        }
    }

    /// What they do to a connection that rests on their target, and from which of them on: nothing where its snapshot was
    /// read later.
    fn hits(&self, entry: &Entry) -> Option<(Outcome, usize)> {
        let (footing, reason) = (&entry.footing, self.reason());
        // A change of everyone makes a thin token stale, too: it stands for what cannot be known.
        let position =
            if reason == Some(Reason::Everyone) { footing.access.min(footing.token) } else { footing.access };
        let mut hit = None;
        for (number, &(stamp, change)) in self.changes.iter().enumerate() {
            let ends = reason.is_none() || (change.effect.ends_sessions() && reason != Some(Reason::Role));
            if ends && footing.token < stamp {
                let effect = if change.effect.ends_sessions() { change.effect } else { Effect::SignedOut };
                let first = hit.map_or(number, |(_, first)| first);
                return Some((Outcome::End(effect), first));
            }
            if let Some(reason) = reason.filter(|_| position < stamp) {
                let first = hit.map_or(number, |(_, first)| first);
                hit = Some((Outcome::Tell { stamp, reason, at: change.at, again: false }, first));
            }
        }
        hit
    }
}
