//! The way of a change inside a replica: floors, then cache, then hub.
//!
//! A commit, a message and a page of the log's tail are the same thing here: changes to apply. `state` decides, `task`
//! drives it; nothing else applies changes.

mod controls;
mod expiry;
mod inbox;
mod propagation;
mod replicas;
mod retention;
mod rollcall;
mod secrets;
pub mod state;
mod task;
mod trouble;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

pub use controls::{Controls, ControlsError};
pub use expiry::expire;
pub use inbox::{Hint, Inbox, Outlet};
pub use propagation::{Connections, Propagation, ReplicaProgress, Report};
pub use replicas::{GONE_AFTER, Peers, announce};
pub use retention::retain;
pub use rollcall::{Present, RollCall};
pub use secrets::Secrets;
pub use task::{FeedSettings, FeedTask};

use crate::domain::{Applied, Boottime, Clock, Stamp, Version};
use trouble::Trouble;

/// Why a version was not reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// Not within the time.
    #[error("the version was not reached in time")]
    TimedOut,
    /// It is a version of another epoch.
    #[error("the version belongs to another epoch of the log")]
    OtherEpoch,
    /// The log does not reach it.
    #[error("the version is above the head of the log")]
    AboveHead,
}

/// What everybody may know of the feed. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Feed {
    shared: Arc<Shared>,
}

struct Shared {
    applied: Arc<Applied>,
    clock: Arc<dyn Clock>,
    /// The highest position of this epoch that is known to exist: own commits, sealed messages, tokens.
    known: AtomicU64,
    /// Until when this replica is known to have missed nothing, in nanoseconds of boot time; 0 is never.
    confirmed: AtomicU64,
    /// Wakes the reader of the tail.
    wake: Notify,
    /// Follows `applied`.
    advanced: watch::Sender<Stamp>,
    /// The begin and the head of the last good read of the tail.
    tail: watch::Sender<(Boottime, Stamp)>,
    troubles: Troubles,
}

/// What its task may fail at again and again.
#[derive(Default)]
struct Troubles {
    reading: Trouble,
    reopening: Trouble,
    beginning: Trouble,
}

impl Feed {
    /// A feed that has confirmed nothing yet.
    pub fn new(applied: Arc<Applied>, clock: Arc<dyn Clock>) -> Self {
        let stamp = applied.stamp();
        Self {
            shared: Arc::new(Shared {
                applied,
                clock,
                known: AtomicU64::new(stamp.to_word()),
                confirmed: AtomicU64::new(0),
                wake: Notify::new(),
                advanced: watch::channel(stamp).0,
                tail: watch::channel((Boottime::default(), stamp)).0,
                troubles: Troubles::default(),
            }),
        }
    }

    /// The version applied here.
    pub fn applied(&self) -> Version {
        self.shared.applied.version()
    }

    /// The same as a position of this process.
    pub fn applied_stamp(&self) -> Stamp {
        self.shared.applied.stamp()
    }

    /// A version as a position of this process; never fresh for another epoch's.
    pub fn stamp_of(&self, version: Version) -> Stamp {
        self.shared.applied.stamp_of(version).unwrap_or(Stamp::NEVER)
    }

    /// A position of this process as a version.
    pub fn version_of(&self, stamp: Stamp) -> Version {
        self.shared.applied.version_of(stamp)
    }

    /// Follows the applied position.
    pub fn watch(&self) -> watch::Receiver<Stamp> {
        self.shared.advanced.subscribe()
    }

    /// A token or an answer that can be believed showed this version: if it is not applied here, the tail is read.
    pub fn saw(&self, version: Version) {
        match self.shared.applied.stamp_of(version) {
            Some(stamp) if stamp <= self.shared.applied.stamp() => {}
            Some(stamp) => {
                self.shared.known.fetch_max(stamp.to_word(), Ordering::AcqRel);
                self.shared.wake.notify_one();
            }
            None => self.shared.wake.notify_one(),
        }
    }

    /// How long ago this replica last knew that it had missed nothing.
    pub fn lag(&self) -> Duration {
        match self.shared.confirmed.load(Ordering::Acquire) {
            0 => Duration::MAX,
            nanos => self.shared.clock.boottime().since(Boottime(Duration::from_nanos(nanos))),
        }
    }

    /// Waits until the log was read to its end once.
    pub async fn confirmed(&self) {
        let mut tail = self.shared.tail.subscribe();
        while self.lag() == Duration::MAX {
            if tail.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until a version is applied here. Reads the tail to tell apart what is late from what is not there.
    pub async fn wait_for(&self, version: Version, within: Duration) -> Result<(), WaitError> {
        let stamp = self.shared.applied.stamp_of(version).ok_or(WaitError::OtherEpoch)?;
        if stamp <= self.shared.applied.stamp() {
            return Ok(());
        }
        let asked = self.shared.clock.boottime();
        let (mut advanced, mut tail) = (self.shared.advanced.subscribe(), self.shared.tail.subscribe());
        self.shared.wake.notify_one();
        let reached = async {
            let _ = advanced.wait_for(|&applied| applied >= stamp).await;
            if self.shared.applied.stamp_of(version).is_some() { Ok(()) } else { Err(WaitError::OtherEpoch) }
        };
        let refuted = async {
            let _ = tail.wait_for(|&(begun, head)| begun >= asked && head < stamp).await;
            Err(WaitError::AboveHead)
        };
        tokio::time::timeout(within, async {
            tokio::select! {
                biased;
                outcome = reached => outcome,
                outcome = refuted => outcome,
            }
        })
        .await
        .unwrap_or(Err(WaitError::TimedOut))
    }

    /// As after a read of the tail that began now and reached its end.
    #[cfg(test)]
    pub(crate) fn confirm(&self) {
        let nanos = u64::try_from(self.shared.clock.boottime().0.as_nanos()).unwrap();
        self.shared.confirmed.store(nanos, Ordering::Release);
    }

    /// The highest position that is known to exist.
    pub fn known(&self) -> Stamp {
        Stamp::from_word(self.shared.known.load(Ordering::Acquire))
    }
}
