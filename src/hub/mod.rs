//! Which of this replica's connections a change touches, and what each has yet to be told.
//!
//! A connection is registered under the keys that its snapshot rests on, the same as [`Floors`] knows. A change is told
//! by lifting the mailbox of each connection under its key; no queue, no history, no I/O. The feed tells, after floors
//! and cache; a connection's task registers first and compares its token with the floors second, so that a change between
//! the two is seen at least once.

mod bell;
mod frames;
mod look;
mod mailbox;
mod receipts;
mod registry;
mod seats;
mod tell;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::Poll;
use std::time::Duration;

pub use self::bell::{Bell, Sleeper};
pub use self::look::{Seen, Told};
pub use self::mailbox::{Lock, Mail, Mailbox, Notice};
pub use self::registry::{ConnectionId, Footing, Holder};
pub use self::seats::{Full, Limits, Seat, Totals};

use self::frames::Frames;
use self::mailbox::Progress;
use self::receipts::Receipts;
use self::registry::{Key, Shard, Slot};
use self::seats::Seats;
use crate::domain::floors::FloorKey;
use crate::domain::records::LockdownRecord;
use crate::domain::sync::{Mutex, MutexGuard};
use crate::domain::{Clock, Floors, SessionId, Stamp, TenantName, UserId};
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
        lock(self.shard_of(user))
    }

    fn shard_of(&self, user: FloorKey) -> &Mutex<Shard> {
        &self.shards[(user.get() >> 32) as usize % SHARDS]
    }

    // The lockdown.

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

    /// What it has yet to be told. Pending, and whoever sleeps is woken when there is something.
    pub fn poll_mail(&self, sleeper: Sleeper<'_>) -> Poll<Mail> {
        self.mailbox.poll_take(sleeper)
    }

    /// What it has yet to be told. Safe to cancel.
    pub async fn mail(&self) -> Mail {
        std::future::poll_fn(|context| self.poll_mail(Sleeper::from(&*context))).await
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
