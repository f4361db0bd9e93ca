//! The feed's one way in: bounded, and losing from it costs time alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use crate::domain::{Boottime, Change, Clock, Epoch};
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
        (Self { hints: sender, lost: Arc::clone(&lost), clock }, Outlet { hints: receiver, lost })
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
        let hint = Hint { epoch, changes: changes.to_vec(), committed: self.clock.boottime() };
        if self.hints.try_send(hint).is_err() {
            self.lost.store(true, Ordering::Release);
            metrics::counter!("permcast_channel_dropped_total", "channel" => "hints").increment(1);
        }
    }
}
