//! Which of this replica's connections a change touches, and what each has yet to be told.
//!
//! A connection is registered under the keys that its snapshot rests on, the same as [`Floors`] knows. A change is told
//! by lifting the mailbox of each connection under its key; no queue, no history, no I/O. The feed tells, after floors
//! and cache; a connection's task registers first and compares its token with the floors second, so that a change between
//! the two is seen at least once.

mod frames;
mod look;
mod mailbox;
mod receipts;
mod registry;
mod seats;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

pub use self::look::{Seen, Told};
pub use self::mailbox::{Lock, Mail, Mailbox, Notice};
pub use self::registry::{ConnectionId, Footing, Holder};
pub use self::seats::{Full, Limits, Seat, Totals};

use self::frames::Frames;
use self::mailbox::Progress;
use self::receipts::Receipts;
use self::registry::{Entry, Key, Shard, Slot};
use self::seats::Seats;
use crate::domain::floors::{FloorKey, Folded};
use crate::domain::records::LockdownRecord;
use crate::domain::sync::{Mutex, MutexGuard};
use crate::domain::{Change, Clock, Effect, Floors, SessionId, Stamp, Target, TenantName, Timestamp, UserId};
use crate::protocol::bus::Receipt;
use crate::protocol::frame::TextFrame;
use crate::protocol::socket::Reason;

/// Locks that connections are spread over, by user.
const SHARDS: usize = 16;

/// Refreshes a second that the whole deployment takes, until it is said.
const REFRESH_BUDGET: u32 = 2_000;

/// All connections of this replica.
pub struct Hub {
    floors: Arc<Floors>,
    clock: Arc<dyn Clock>,
    shards: [Mutex<Shard>; SHARDS],
    seats: Arc<Seats>,
    next_id: AtomicU64,
    lockdown: Mutex<Option<Arc<LockdownRecord>>>,
    receipts: Mutex<Receipts>,
    frames: Frames,
    refresh_budget: AtomicU32,
    live_replicas: AtomicU32,
}

/// What a change does to one connection, found before it is told because the delay depends on how many there are.
struct Hit {
    id: ConnectionId,
    mailbox: Arc<Mailbox>,
    /// Whether it is told even if it was told this version before: a thin token was told then to read anew what the
    /// cache holds, now it must be refreshed itself.
    again: bool,
    outcome: Outcome,
}

#[derive(Clone, Copy)]
enum Outcome {
    /// Its session is over.
    End(Effect),
    /// Its token must reach this.
    Tell { stamp: Stamp, reason: Reason, at: Timestamp },
}

impl Outcome {
    fn merged(self, other: Self) -> Self {
        match (self, other) {
            (Self::End(effect), _) | (_, Self::End(effect)) => Self::End(effect),
            (Self::Tell { stamp, reason, at }, Self::Tell { stamp: stamp_b, reason: reason_b, at: at_b }) => {
                let (stamp, at) = if stamp_b > stamp { (stamp_b, at_b) } else { (stamp, at) };
                Self::Tell { stamp, reason: reason.max(reason_b), at }
            }
        }
    }

    fn is_wide(self) -> bool {
        matches!(self, Self::Tell { reason: Reason::Role | Reason::Tenant | Reason::Everyone, .. })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// No connections. The keys are those of `floors`.
    pub fn new(floors: Arc<Floors>, clock: Arc<dyn Clock>, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            floors,
            clock,
            shards: Default::default(),
            seats: Seats::new(limits),
            next_id: AtomicU64::new(1),
            lockdown: Mutex::default(),
            receipts: Mutex::default(),
            frames: Frames::default(),
            refresh_budget: AtomicU32::new(REFRESH_BUDGET),
            live_replicas: AtomicU32::new(1),
        })
    }

    /// Refreshes a second that the deployment takes, over which the tabs of a wide change are spread.
    pub fn set_refresh_budget(&self, per_second: u32) {
        self.refresh_budget.store(per_second.max(1), Ordering::Relaxed);
    }

    /// Refreshes a second that the deployment takes.
    pub fn refresh_budget(&self) -> u32 {
        self.refresh_budget.load(Ordering::Relaxed)
    }

    /// How many replicas share the budget.
    pub fn set_live_replicas(&self, replicas: u32) {
        self.live_replicas.store(replicas.max(1), Ordering::Relaxed);
    }

    /// The time over which this many of our connections may come back: their number ÷ (budget ÷ live replicas).
    pub fn spread(&self, connections: usize) -> Duration {
        let replicas = u64::from(self.live_replicas.load(Ordering::Relaxed));
        let budget = u64::from(self.refresh_budget.load(Ordering::Relaxed));
        Duration::from_millis(connections as u64 * replicas * 1000 / budget)
    }

    // Connections.

    /// Room for a connection of which only the address is known.
    pub fn admit(&self, address: IpAddr) -> Result<Seat, Full> {
        self.seats.take(address, self.clock.boottime())
    }

    /// Registers a connection under all that its snapshot rests on. Compare with the floors after that, not before.
    pub fn register(self: &Arc<Self>, mut seat: Seat, holder: &Holder, footing: Footing) -> Result<Connection, Full> {
        seat.assign(&holder.tenant)?;
        let tenant = self.floors.tenant_key(&holder.tenant);
        let user = self.floors.user_key(&holder.user);
        let keys = [Key::tenant(tenant), Key::within(tenant, user)];
        let roles: Vec<Key> = footing.roles.iter().map(|&role| Key::within(tenant, role)).collect();
        let mailbox = Arc::new(Mailbox::default());
        let mut shard = self.shard(user);
        // Numbered under the lock, so that the oldest of a user has the lowest number.
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.lock_out(&holder.tenant, &footing, &mailbox);
        let slot = shard.insert(id, holder.clone(), keys, roles.into_iter(), footing, Arc::clone(&mailbox));
        if let Some(oldest) = shard.displace(keys[1], self.seats.limits().per_user) {
            oldest.mailbox.displace();
        }
        drop(shard);
        Ok(Connection { hub: Arc::clone(self), tenant, user, id, slot, mailbox, _seat: seat })
    }

    /// Whether a session has a connection here.
    pub fn connected(&self, tenant: &TenantName, user: &UserId, session: &SessionId) -> bool {
        let user = self.floors.user_key(user);
        let session = self.floors.session_key(session);
        let key = Key::within(self.floors.tenant_key(tenant), user);
        self.shard(user).members(key).any(|entry| entry.footing.session == Some(session))
    }

    /// How many connections there are.
    pub fn totals(&self) -> Totals {
        self.seats.totals()
    }

    fn shard(&self, user: FloorKey) -> MutexGuard<'_, Shard> {
        let number = (user.get() >> 32) as usize % SHARDS;
        lock(&self.shards[number])
    }

    // Changes.

    /// Tells the connections that these changes touch. Each is told once, however many of them touch it.
    pub fn tell(&self, changes: &[Change], generation: u16) {
        let mut hits = Vec::new();
        for change in changes {
            self.touch(change, Stamp::new(generation, change.seq), &mut hits);
        }
        if changes.len() > 1 {
            hits.sort_unstable_by_key(|hit| hit.id);
            hits.dedup_by(|later, kept| {
                let same = later.id == kept.id;
                if same {
                    kept.outcome = kept.outcome.merged(later.outcome);
                }
                same
            });
        }
        self.deliver(hits);
    }

    /// Tells a tenant's connections that its floors were folded: whatever is below is stale, thin tokens too.
    pub fn tell_folded(&self, folded: &Folded) {
        let key = Key::tenant(self.floors.tenant_key(&folded.tenant));
        self.tell_all_below(folded.stamp, Reason::Tenant, |shard, found| shard.members(key).for_each(found));
    }

    /// Tells everyone that a new epoch has begun: no token of the former one is fresh.
    pub fn begin_epoch(&self, generation: u16) {
        let first = Stamp::new(generation, crate::domain::Seq::ZERO);
        self.tell_all_below(first, Reason::Everyone, |shard, found| shard.all().for_each(found));
    }

    fn tell_all_below(&self, stamp: Stamp, reason: Reason, visit: impl Fn(&Shard, &mut dyn FnMut(&Entry))) {
        let outcome = Outcome::Tell { stamp, reason, at: self.clock.now() };
        let mut hits = Vec::new();
        for shard in &self.shards {
            visit(&lock(shard), &mut |entry| {
                if entry.footing.token < stamp {
                    hits.push(Hit { again: entry.footing.thin, ..Hit::new(entry, outcome) });
                }
            });
        }
        self.deliver(hits);
    }

    /// A lockdown begins, changes or (`None`) ends.
    pub fn lockdown(&self, lockdown: Option<LockdownRecord>) {
        let lockdown = lockdown.map(Arc::new);
        lock(&self.lockdown).clone_from(&lockdown);
        let mut opened = Vec::new();
        for shard in &self.shards {
            for entry in lock(shard).all() {
                if let Some(record) =
                    lockdown.as_ref().filter(|record| locks_out(record, &entry.holder.tenant, &entry.footing))
                {
                    entry.mailbox.lock(Lock::Locked { retry_after_s: record.retry_after_s });
                } else if entry.mailbox.is_locked() {
                    opened.push(Arc::clone(&entry.mailbox));
                }
            }
        }
        let within = self.spread(opened.len());
        for mailbox in opened {
            mailbox.lock(Lock::Open { within });
        }
    }

    /// Brings a connection's mailbox to how the lockdown stands. Under its shard's lock, so that a lockdown that begins
    /// meanwhile either is seen here or sees the connection.
    fn lock_out(&self, tenant: &TenantName, footing: &Footing, mailbox: &Mailbox) {
        let lockdown = lock(&self.lockdown);
        match lockdown.as_ref().filter(|record| locks_out(record, tenant, footing)) {
            Some(record) => mailbox.lock(Lock::Locked { retry_after_s: record.retry_after_s }),
            None => mailbox.lock(Lock::Open { within: Duration::ZERO }),
        }
    }

    /// Finds whom a change touches, and opens its receipt.
    fn touch(&self, change: &Change, stamp: Stamp, hits: &mut Vec<Hit>) {
        let first = hits.len();
        let mut found =
            |entry: &Entry| hits.extend(outcome(change, stamp, entry).map(|outcome| Hit::new(entry, outcome)));
        match &change.target {
            Target::User { tenant, user } | Target::Session { tenant, user, .. } => {
                let session = match &change.target {
                    Target::Session { session, .. } => Some(self.floors.session_key(session)),
                    _ => None,
                };
                let user = self.floors.user_key(user);
                let key = Key::within(self.floors.tenant_key(tenant), user);
                let shard = self.shard(user);
                let entries = shard.members(key);
                entries.filter(|entry| session.is_none() || session == entry.footing.session).for_each(found);
            }
            Target::Role { tenant, role } => {
                let key = Key::within(self.floors.tenant_key(tenant), self.floors.role_key(role));
                self.shards.iter().for_each(|shard| lock(shard).members(key).for_each(&mut found));
            }
            Target::Tenant { tenant } => {
                let key = Key::tenant(self.floors.tenant_key(tenant));
                self.shards.iter().for_each(|shard| lock(shard).members(key).for_each(&mut found));
            }
            Target::Everyone => self.shards.iter().for_each(|shard| lock(shard).all().for_each(&mut found)),
            Target::Keys | Target::Lockdown { .. } => {}
        }
        self.open_receipt(stamp, &hits[first..]);
    }

    fn open_receipt(&self, stamp: Stamp, hits: &[Hit]) {
        if hits.is_empty() {
            return;
        }
        let mut receipts = lock(&self.receipts);
        if !receipts.open(stamp) {
            return;
        }
        receipts.affected(stamp, hits.len() as u64);
        for hit in hits {
            let progress = hit.mailbox.owe(stamp);
            receipts.notified(&progress.notified);
            receipts.refreshed(&progress.refreshed);
        }
    }

    fn deliver(&self, hits: Vec<Hit>) {
        let spread = self.spread(hits.iter().filter(|hit| hit.outcome.is_wide()).count());
        for Hit { mailbox, again, outcome, .. } in hits {
            match outcome {
                Outcome::End(effect) => mailbox.end(effect),
                Outcome::Tell { stamp, reason, at } => {
                    let refresh_within = if reason == Reason::User { Duration::ZERO } else { spread };
                    mailbox.lift(Notice { stamp, reason, refresh_within, at }, again);
                }
            }
        }
    }

    // What goes out.

    /// The frame of a notice: of a wide change, the same one for all connections.
    pub fn frame(&self, notice: Notice, build: impl FnOnce() -> String) -> TextFrame {
        if notice.reason == Reason::User { TextFrame::new(&build()) } else { self.frames.get(notice, build) }
    }

    /// How far a change has come with this replica's connections.
    pub fn receipt(&self, stamp: Stamp) -> Receipt {
        lock(&self.receipts).get(stamp)
    }

    /// Receipts of the epoch that moved since the last call, the newest first, at most `max`.
    pub fn take_receipts(&self, generation: u16, max: usize) -> Vec<Receipt> {
        lock(&self.receipts).take_moved(generation, max)
    }

    fn record(&self, progress: &Progress) {
        if progress.notified.is_empty() && progress.refreshed.is_empty() {
            return;
        }
        let mut receipts = lock(&self.receipts);
        receipts.notified(&progress.notified);
        receipts.refreshed(&progress.refreshed);
    }
}

impl Hit {
    fn new(entry: &Entry, outcome: Outcome) -> Self {
        Self { id: entry.id, mailbox: Arc::clone(&entry.mailbox), again: false, outcome }
    }
}

/// What a change does to a connection under its key: nothing where its snapshot was read later.
fn outcome(change: &Change, stamp: Stamp, entry: &Entry) -> Option<Outcome> {
    let footing = &entry.footing;
    let reason = match change.target {
        Target::Session { .. } => None,
        Target::User { .. } => Some(Reason::User),
        Target::Role { .. } => Some(Reason::Role),
        Target::Tenant { .. } => Some(Reason::Tenant),
        Target::Everyone | Target::Keys | Target::Lockdown { .. } => Some(Reason::Everyone),
    };
    let ends = reason.is_none() || (change.effect.ends_sessions() && reason != Some(Reason::Role));
    if ends && footing.token < stamp {
        let effect = if change.effect.ends_sessions() { change.effect } else { Effect::SignedOut };
        return Some(Outcome::End(effect));
    }
    // A change of everyone makes a thin token stale, too: it stands for what cannot be known.
    let position = if reason == Some(Reason::Everyone) { footing.access.min(footing.token) } else { footing.access };
    reason.filter(|_| position < stamp).map(|reason| Outcome::Tell { stamp, reason, at: change.at })
}

fn locks_out(lockdown: &LockdownRecord, tenant: &TenantName, footing: &Footing) -> bool {
    !footing.operator && lockdown.tenant.as_ref().is_none_or(|locked| locked == tenant)
}

/// A registered connection. Dropping it takes it out.
pub struct Connection {
    hub: Arc<Hub>,
    tenant: FloorKey,
    user: FloorKey,
    id: ConnectionId,
    slot: Slot,
    mailbox: Arc<Mailbox>,
    _seat: Seat,
}

impl Connection {
    /// Its number in this process.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Its snapshot rests on other things from now on. In one step: at no moment is it registered under neither. What
    /// is pending stays so. Compare with the floors after that, not before.
    pub fn move_to(&self, tenant: &TenantName, footing: Footing) {
        let roles: Vec<Key> = footing.roles.iter().map(|&role| Key::within(self.tenant, role)).collect();
        let mut shard = self.hub.shard(self.user);
        if shard.get(self.slot).is_some() {
            self.hub.lock_out(tenant, &footing, &self.mailbox);
            shard.replace(self.slot, roles.into_iter(), footing);
        }
    }

    /// The client was told that its token must reach `stamp`.
    pub fn told(&self, stamp: Stamp) {
        self.hub.record(&self.mailbox.told(stamp));
    }

    /// Its token, which has position `reached`, was found fresh.
    pub fn settled(&self, reached: Stamp) {
        self.hub.record(&self.mailbox.settle(reached));
    }

    /// What it has yet to be told; pending until there is something.
    pub fn poll_mail(&self, context: &mut Context<'_>) -> Poll<Mail> {
        self.mailbox.poll_take(context)
    }

    /// What it has yet to be told. Safe to cancel.
    pub async fn mail(&self) -> Mail {
        std::future::poll_fn(|context| self.poll_mail(context)).await
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        drop(self.hub.shard(self.user).remove(self.slot));
    }
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;

#[cfg(all(test, feature = "loom"))]
mod models;
