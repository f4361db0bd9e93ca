//! Each change can be answered for: where it is applied, and how far its connections have come.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::Feed;
use super::replicas::{GONE_AFTER, Peers};
use crate::domain::{Boottime, Clock, Seq, Stamp, Version};
use crate::hub::Hub;
use crate::protocol::bus::Receipt;
use crate::store::{Store, StoreError};

/// Changes whose times are remembered.
pub(super) const REMEMBERED: usize = 4096;
/// How often the database is asked while no announcement comes.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// The receipt of one change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Every replica that is registered as running has applied it.
    pub complete: bool,
    /// Since this replica first knew of it, until the last of them had it; until now where one has not.
    pub elapsed_ms: f64,
    pub replicas: Vec<ReplicaProgress>,
    pub connections: Connections,
}

/// How far one replica is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReplicaProgress {
    pub id: String,
    /// Whether it has applied the change.
    pub applied: bool,
    /// How long that took, as seen from here; absent where it is not known.
    pub ms: Option<f64>,
}

/// The connections of all replicas that the change touched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Connections {
    pub affected: u64,
    pub notified: u64,
    pub refreshed: u64,
}

/// When this replica learnt of the newest changes and had applied them.
#[derive(Default)]
pub(super) struct Timeline {
    times: HashMap<Seq, (Boottime, Option<Boottime>)>,
    order: VecDeque<Seq>,
}

impl Timeline {
    pub(super) fn learnt(&mut self, seq: Seq, at: Boottime) {
        if self.times.contains_key(&seq) {
            return;
        }
        if self.order.len() == REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.times.remove(&oldest);
        }
        self.order.push_back(seq);
        self.times.insert(seq, (at, None));
    }

    pub(super) fn applied(&mut self, seq: Seq, at: Boottime) {
        if let Some((_, applied)) = self.times.get_mut(&seq) {
            applied.get_or_insert(at);
        }
    }
}

/// Answers for changes.
pub struct Propagation {
    own: String,
    feed: Feed,
    hub: Arc<Hub>,
    peers: Arc<Peers>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    /// Whoever was not heard of for so long decides nothing any more.
    gone_after: Duration,
    pub(super) timeline: Mutex<Timeline>,
}

impl Propagation {
    /// Over what this replica and the others say. A replica that is frozen may decide again when it wakes within its bound of
    /// staleness, so nothing is complete without it before that is over.
    pub fn new(
        own: String,
        feed: Feed,
        hub: Arc<Hub>,
        peers: Arc<Peers>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        max_staleness: Duration,
    ) -> Self {
        let gone_after = GONE_AFTER.max(max_staleness);
        Self { own, feed, hub, peers, store, clock, gone_after, timeline: Mutex::default() }
    }

    /// Waits until a change has reached every replica that is registered as running, at most `within`; answers how far
    /// it has come then.
    pub async fn wait(&self, version: Version, within: Duration) -> Result<Report, StoreError> {
        let until = self.clock.boottime().0 + within;
        let mut advanced = self.feed.watch();
        loop {
            let moved = self.peers.moved.notified();
            let report = self.report(version.seq).await?;
            let left = until.saturating_sub(self.clock.boottime().0);
            if report.complete || left.is_zero() {
                return Ok(report);
            }
            tokio::select! {
                () = moved => {}
                _ = advanced.changed() => {}
                () = tokio::time::sleep(left.min(ASK_EVERY)) => {}
            }
        }
    }

    /// When this replica learnt of a change: of one of its own, when its commit was done.
    pub fn learnt(&self, seq: Seq) -> Option<Boottime> {
        let timeline = self.timeline.lock().unwrap_or_else(PoisonError::into_inner);
        timeline.times.get(&seq).map(|&(learnt, _)| learnt)
    }

    /// How far a change has come by now.
    pub async fn report(&self, seq: Seq) -> Result<Report, StoreError> {
        let running = self.store.replicas(self.gone_after).await?;
        let version = self.feed.applied();
        let (learnt, applied_here) = {
            let timeline = self.timeline.lock().unwrap_or_else(PoisonError::into_inner);
            timeline.times.get(&seq).copied().unzip()
        };
        let since_learnt = |at: Boottime| learnt.map(|learnt| millis(at.since(learnt)));
        let mut connections = Connections::default();
        let mut add = |receipt: Option<Receipt>| {
            let Some(receipt) = receipt else { return };
            connections.affected += receipt.affected;
            connections.notified += receipt.notified;
            connections.refreshed += receipt.refreshed;
        };
        add(Some(self.hub.receipt(Stamp::new(self.feed.applied_stamp().generation(), seq))));
        let mut replicas = vec![ReplicaProgress {
            id: self.own.clone(),
            applied: version.seq >= seq,
            ms: applied_here.flatten().and_then(since_learnt),
        }];
        for other in running.into_iter().filter(|other| other.id != self.own) {
            let said = self.peers.progress(&other.id, version.epoch, seq);
            let reached = said.as_ref().and_then(|said| said.reached);
            replicas.push(ReplicaProgress {
                applied: other.applied >= seq || said.as_ref().is_some_and(|said| said.applied >= seq),
                ms: reached.and_then(since_learnt),
                id: other.id,
            });
            add(said.and_then(|said| said.receipt));
        }
        let complete = replicas.iter().all(|replica| replica.applied);
        let slowest = replicas.iter().filter_map(|replica| replica.ms).fold(0.0, f64::max);
        let elapsed_ms = match since_learnt(self.clock.boottime()) {
            Some(now) if !complete => now,
            _ => slowest,
        };
        Ok(Report { complete, elapsed_ms, replicas, connections })
    }
}

/// Milliseconds to the microsecond.
fn millis(duration: Duration) -> f64 {
    let micros = u32::try_from(duration.as_micros()).unwrap_or(u32::MAX);
    f64::from(micros) / 1000.0
}
