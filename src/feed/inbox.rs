//! The feed's one way in: bounded, and losing from it costs time alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;

use crate::bus::Bus;
use crate::domain::{Boottime, Change, Clock, Epoch};
use crate::protocol::bus::ChangesMessage;
use crate::store::CommitListener;

/// Batches that wait for the feed. Beyond it they are dropped, and the tail is read instead.
const HINT_BATCHES: usize = 4096;

/// Changes that were committed here.
#[derive(Debug)]
pub struct Hint {
    pub epoch: Epoch,
    pub changes: Vec<Change>,
    /// When their commit was done.
    pub committed: Boottime,
}

/// The sending side, handed to the store.
pub struct Inbox {
    hints: mpsc::Sender<Hint>,
    lost: Arc<AtomicBool>,
    clock: Arc<dyn Clock>,
    /// Where the other replicas hear of it, and who tells them. It comes later than the store, in which its seal is.
    bus: OnceLock<(Arc<dyn Bus>, String)>,
}

/// The receiving side, handed to the feed's task.
pub struct Outlet {
    pub(super) hints: mpsc::Receiver<Hint>,
    lost: Arc<AtomicBool>,
}

impl Inbox {
    /// Both sides.
    pub fn new(clock: Arc<dyn Clock>) -> (Self, Outlet) {
        let (sender, receiver) = mpsc::channel(HINT_BATCHES);
        let lost = Arc::new(AtomicBool::new(false));
        (Self { hints: sender, lost: Arc::clone(&lost), clock, bus: OnceLock::new() }, Outlet { hints: receiver, lost })
    }
}

impl Inbox {
    /// From now on tells the other replicas, too.
    pub fn publish_over(&self, bus: Arc<dyn Bus>, replica: String) {
        // A second time there is none: the bus lives as long as the process.
        let _ = self.bus.set((bus, replica));
    }
}

impl Outlet {
    /// Whether something was dropped since this was last asked.
    pub(super) fn take_lost(&self) -> bool {
        self.lost.swap(false, Ordering::AcqRel)
    }
}

impl CommitListener for Inbox {
    fn committed(&self, epoch: Epoch, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        let committed = self.clock.boottime();
        // The others first, right where the commit is done: what is told is true, and nobody need be ahead of them.
        if let Some((bus, replica)) = self.bus.get() {
            bus.publish_changes(&ChangesMessage { epoch, origin: replica.clone(), changes: changes.to_vec() });
        }
        let hint = Hint { epoch, changes: changes.to_vec(), committed };
        if self.hints.try_send(hint).is_err() {
            self.lost.store(true, Ordering::Release);
            metrics::counter!("permcast_channel_dropped_total", "channel" => "hints").increment(1);
        }
    }
}
