//! What one connection has yet to be told: a level, not a queue.
//!
//! However many changes hit a connection before its task comes to write, there is one notice: the highest version, the
//! widest reason, the shortest delay. The end of the session beats it.

use std::sync::PoisonError;
use std::task::Poll;
use std::time::Duration;

use smallvec::SmallVec;

use super::bell::{Asleep, Sleeper};
use crate::domain::sync::{Mutex, MutexGuard};
use crate::domain::{Effect, Stamp, Timestamp};
use crate::protocol::socket::Reason;

/// Changes that a connection has to be told of, merged into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Notice {
    /// What a token must reach.
    pub stamp: Stamp,
    /// The widest reach among them.
    pub reason: Reason,
    /// The client draws its delay from zero to this.
    pub refresh_within: Duration,
    /// When the latest of them was written.
    pub at: Timestamp,
}

impl Notice {
    /// One notice that stands for both.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        let later = if other.stamp > self.stamp { other } else { self };
        Self {
            stamp: later.stamp,
            at: later.at,
            reason: self.reason.max(other.reason),
            refresh_within: self.refresh_within.min(other.refresh_within),
        }
    }
}

/// Whether a lockdown shuts the connection's user out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// It does not; where it did, the client comes back within this time.
    Open { within: Duration },
    /// It does, and says when to try again.
    Locked { retry_after_s: u32 },
}

/// What the mailbox held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mail {
    /// The session is over.
    pub over: Option<Effect>,
    /// A newer connection of the same user took its place.
    pub displaced: bool,
    /// How the lockdown stands now, if that changed.
    pub lock: Option<Lock>,
    /// Its token must reach a later version.
    pub notice: Option<Notice>,
}

impl Mail {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A change that touched the connection and that its token has not reached, for the receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owed {
    stamp: Stamp,
    notified: bool,
}

/// Changes that one connection can owe at a time; of older ones its receipt stays open.
const OWED_MAX: usize = 64;

/// How one connection stands with changes that touched it: the numbers of those that came further just now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) notified: Stamps,
    pub(super) refreshed: Stamps,
}

/// Mostly one.
type Stamps = SmallVec<[Stamp; 2]>;

/// The mailbox without its lock and who sleeps: pure.
#[derive(Debug, Default)]
pub(super) struct Pending {
    mail: Mail,
    locked: bool,
    /// Whether an end was put in, also after it was taken out.
    ended: bool,
    /// The highest version that was put in, also after it was taken out.
    lifted: Stamp,
    /// The highest version that the client was told to reach.
    told: Stamp,
    /// The version that its token has reached.
    reached: Stamp,
    owed: SmallVec<[Owed; 1]>,
}

impl Pending {
    /// A change has touched it.
    pub(super) fn owe(&mut self, stamp: Stamp, progress: &mut Progress) {
        let notified = stamp <= self.told.max(self.reached);
        if notified {
            progress.notified.push(stamp);
        }
        if stamp <= self.reached {
            progress.refreshed.push(stamp);
        } else {
            if self.owed.len() == OWED_MAX {
                self.owed.remove(0);
            }
            self.owed.push(Owed { stamp, notified });
        }
    }

    /// Its token must reach a later version. Nothing happens where the client was told so before, except `again`.
    pub(super) fn lift(&mut self, notice: Notice, again: bool) {
        self.lifted = self.lifted.max(notice.stamp);
        if again || notice.stamp > self.told {
            self.mail.notice = Some(self.mail.notice.map_or(notice, |pending| pending.merged(notice)));
        }
    }

    /// The session is over.
    pub(super) fn end(&mut self, effect: Effect) {
        self.ended = true;
        self.mail.over.get_or_insert(effect);
    }

    fn told(&mut self, stamp: Stamp) -> Progress {
        self.told = self.told.max(stamp);
        self.mail.notice = self.mail.notice.filter(|pending| pending.stamp > stamp);
        let mut progress = Progress::default();
        for owed in self.owed.iter_mut().filter(|owed| !owed.notified && owed.stamp <= stamp) {
            owed.notified = true;
            progress.notified.push(owed.stamp);
        }
        progress
    }

    /// The token was found fresh, so it owes nothing that was raised until then.
    fn settle(&mut self, reached: Stamp) -> Progress {
        self.reached = self.reached.max(reached);
        let mut progress = Progress::default();
        // Room that was needed once is needed again.
        for owed in self.owed.drain(..) {
            if !owed.notified {
                progress.notified.push(owed.stamp);
            }
            progress.refreshed.push(owed.stamp);
        }
        progress
    }

    fn lock(&mut self, lock: Lock) {
        let locked = matches!(lock, Lock::Locked { .. });
        if locked || self.locked {
            self.mail.lock = Some(lock);
        }
        self.locked = locked;
    }
}

#[derive(Debug, Default)]
struct Inner {
    pending: Pending,
    asleep: Option<Asleep>,
}

/// One connection's mailbox. Many may put in, one task takes out.
#[derive(Debug, Default)]
pub struct Mailbox(Mutex<Inner>);

impl Mailbox {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts something in and wakes the task if that left it something to do.
    pub(super) fn put<T>(&self, change: impl FnOnce(&mut Pending) -> T) -> T {
        let mut inner = self.inner();
        let answer = change(&mut inner.pending);
        let asleep = if inner.pending.mail.is_empty() { None } else { inner.asleep.take() };
        drop(inner);
        if let Some(asleep) = asleep {
            asleep.wake();
        }
        answer
    }

    /// A newer connection took its place.
    pub(super) fn displace(&self) {
        self.put(|pending| pending.mail.displaced = true);
    }

    /// How the lockdown stands.
    pub(super) fn lock(&self, lock: Lock) {
        self.put(|pending| pending.lock(lock));
    }

    pub(super) fn is_locked(&self) -> bool {
        self.inner().pending.locked
    }

    /// Whether its client was told of something past this position, or is about to be.
    pub(super) fn is_past(&self, stamp: Stamp) -> bool {
        let pending = &self.inner().pending;
        pending.ended || pending.lifted.max(pending.told) > stamp
    }

    /// The client was told to reach `stamp`.
    pub(super) fn told(&self, stamp: Stamp) -> Progress {
        self.inner().pending.told(stamp)
    }

    /// Its token was found fresh, with all changes up to `reached` looked at.
    pub(super) fn settle(&self, reached: Stamp) -> Progress {
        self.inner().pending.settle(reached)
    }

    /// Takes everything out; where there is nothing, notes who is to be woken when there is. For one task.
    pub fn poll_take(&self, sleeper: Sleeper<'_>) -> Poll<Mail> {
        let mut inner = self.inner();
        if inner.pending.mail.is_empty() {
            Asleep::note(&mut inner.asleep, sleeper);
            return Poll::Pending;
        }
        Poll::Ready(std::mem::take(&mut inner.pending.mail))
    }
}

#[cfg(test)]
#[path = "mailbox_tests.rs"]
mod tests;

#[cfg(all(test, feature = "loom"))]
#[path = "mailbox_models.rs"]
mod models;
