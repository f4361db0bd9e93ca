//! The other replicas: what they say of themselves, and what this one says.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Feed;
use crate::bus::{Bus, Standing};
use crate::domain::records::ReplicaRecord;
use crate::domain::{Boottime, Clock, Epoch, Seq, Timestamp};
use crate::hub::Hub;
use crate::protocol::bus::{Receipt, ReplicaMessage};
use crate::protocol::socket::millis;
use crate::store::Store;
use crate::token::Sessions;

/// How often a replica says in the database that it runs.
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// One that has not said so for this long is taken as gone.
pub const GONE_AFTER: Duration = Duration::from_secs(7);
/// How often it says so on the bus when nothing happens.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(1);
/// Advances within this time are announced together.
const ANNOUNCE_MERGE: Duration = Duration::from_millis(5);
/// Without a bus, advances within this time are written to the database together.
const RENEW_MERGE: Duration = Duration::from_millis(50);
/// Advances that are remembered of each replica, to say when it reached what.
const ADVANCES_MAX: usize = 1024;
/// Receipts in one announcement.
const RECEIPTS_MAX: usize = 64;
/// Replicas that are remembered; far above any deployment.
const PEERS_MAX: usize = 4096;

/// When a replica reached which position.
#[derive(Debug, Default)]
pub(super) struct Advances(VecDeque<(Seq, Boottime)>);

impl Advances {
    pub(super) fn push(&mut self, seq: Seq, at: Boottime) {
        if self.0.back().is_some_and(|&(last, _)| last >= seq) {
            return;
        }
        if self.0.len() == ADVANCES_MAX {
            self.0.pop_front();
        }
        self.0.push_back((seq, at));
    }

    /// When it first was at or past a position, as far as that is remembered.
    pub(super) fn reached(&self, seq: Seq) -> Option<Boottime> {
        let first = self.0.partition_point(|&(at, _)| at < seq);
        // The oldest that is remembered may have been reached long before.
        (first > 0 || self.0.len() < ADVANCES_MAX).then(|| self.0.get(first).map(|&(_, at)| at)).flatten()
    }
}

struct Peer {
    epoch: Epoch,
    applied: Seq,
    said_at: Timestamp,
    heard: Boottime,
    connections: u64,
    lag: Option<Duration>,
    advances: Advances,
    receipts: BTreeMap<Seq, Receipt>,
}

/// What is known of the other replicas from the bus.
#[derive(Default)]
pub struct Peers {
    peers: Mutex<HashMap<String, Peer>>,
    /// Told whenever one of them has come further.
    pub(super) moved: Notify,
}

/// How far another replica has come, as it said itself.
pub(super) struct PeerProgress {
    pub(super) applied: Seq,
    pub(super) reached: Option<Boottime>,
    pub(super) receipt: Option<Receipt>,
}

impl Peers {
    /// Takes what a replica said; one that is not newer than its last is dropped.
    pub fn heard(&self, message: ReplicaMessage, now: Boottime) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|_, peer| now.since(peer.heard) < GONE_AFTER);
        if peers.len() >= PEERS_MAX && !peers.contains_key(&message.id) {
            return;
        }
        let peer = peers.entry(message.id).or_insert_with(|| Peer {
            epoch: message.epoch,
            applied: Seq::ZERO,
            said_at: Timestamp::from_millis(i64::MIN),
            heard: now,
            connections: 0,
            lag: None,
            advances: Advances::default(),
            receipts: BTreeMap::new(),
        });
        if message.at <= peer.said_at && message.applied <= peer.applied && message.epoch == peer.epoch {
            return;
        }
        if message.epoch != peer.epoch {
            peer.epoch = message.epoch;
            peer.applied = Seq::ZERO;
            peer.advances = Advances::default();
            peer.receipts.clear();
        }
        peer.said_at = peer.said_at.max(message.at);
        peer.heard = now;
        peer.connections = message.connections;
        peer.lag = message.lag_ms.map(Duration::from_millis);
        peer.applied = peer.applied.max(message.applied);
        peer.advances.push(message.applied, now);
        for receipt in message.receipts {
            peer.receipts.insert(receipt.seq, receipt);
        }
        while peer.receipts.len() > ADVANCES_MAX {
            peer.receipts.pop_first();
        }
        drop(peers);
        self.moved.notify_waiters();
    }

    pub(super) fn progress(&self, id: &str, epoch: Epoch, seq: Seq) -> Option<PeerProgress> {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = peers.get(id).filter(|peer| peer.epoch == epoch)?;
        Some(PeerProgress {
            applied: peer.applied,
            reached: peer.advances.reached(seq),
            receipt: peer.receipts.get(&seq).copied(),
        })
    }

    /// Whether another replica can answer where this one, past the bound, cannot: it said just now that it is within, and it
    /// has read the log well after this one last could. What it said before an outage of the database that both have is no
    /// sign of that.
    pub fn any_within(&self, bound: Duration, own_lag: Duration, now: Boottime) -> bool {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.values().any(|peer| {
            let silent = now.since(peer.heard);
            silent < ANNOUNCE_EVERY * 3
                && peer.lag.is_some_and(|lag| lag <= bound && lag + silent + bound / 2 < own_lag)
        })
    }

    /// How many connections a replica said it carries.
    pub fn connections(&self, id: &str) -> Option<u64> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).get(id).map(|peer| peer.connections)
    }
}

/// Says how far this replica is: on the bus at once when it advances and once a second, in the database every few
/// seconds, and there at once, too, while no broker carries it and others may wait for it.
#[expect(clippy::too_many_arguments, reason = "one task, started in one place")]
pub async fn announce(
    id: String,
    started_at: Timestamp,
    feed: Feed,
    hub: Arc<Hub>,
    sessions: Arc<Sessions>,
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let mut advanced = feed.watch();
    let mut renewed = Boottime::default();
    let mut others = false;
    loop {
        let version = feed.applied();
        bus.announce(&ReplicaMessage {
            id: id.clone(),
            epoch: version.epoch,
            applied: version.seq,
            connections: hub.totals().connections as u64,
            receipts: hub.take_receipts(feed.applied_stamp().generation(), RECEIPTS_MAX),
            lag_ms: Some(feed.lag()).filter(|&lag| lag != Duration::MAX).map(millis),
            at: clock.now(),
        });
        let since_renewed = clock.boottime().since(renewed);
        let carried = bus.standing() == Standing::Up;
        if since_renewed >= RENEW_EVERY || (!carried && others) {
            let record = ReplicaRecord {
                id: id.clone(),
                started_at,
                seen_at: clock.now(),
                applied: version.seq,
                connections: hub.totals().connections as u64,
            };
            match store.renew_replica(&record).await {
                Ok(()) => renewed = clock.boottime(),
                Err(error) => tracing::warn!(%error, "cannot say in the database that this replica runs"),
            }
            if let Ok(running) = store.replicas(GONE_AFTER).await {
                others = running.len() > 1;
                let replicas = u32::try_from(running.len()).unwrap_or(u32::MAX).max(1);
                hub.set_live_replicas(replicas);
                sessions.set_live_replicas(replicas);
            }
        }
        tokio::time::sleep(if carried || !others { ANNOUNCE_MERGE } else { RENEW_MERGE }).await;
        tokio::select! {
            _ = advanced.changed() => {}
            () = tokio::time::sleep(ANNOUNCE_EVERY) => {}
            () = stop.cancelled() => break,
        }
    }
    if let Err(error) = store.remove_replica(&id).await {
        tracing::warn!(%error, "cannot say in the database that this replica has stopped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_read_the_log_since_can_answer_in_ones_place() {
        let ms = Duration::from_millis;
        let bound = ms(1_000);
        let peer_said = |lag_ms| {
            let peers = Peers::default();
            let message = ReplicaMessage {
                id: "b".into(),
                epoch: Epoch::from_random([7; 8]),
                applied: Seq::ZERO,
                connections: 0,
                receipts: Vec::new(),
                lag_ms,
                at: Timestamp::default(),
            };
            peers.heard(message, Boottime(ms(10_000)));
            peers
        };
        let at = |millis| Boottime(ms(millis));
        assert!(peer_said(Some(20)).any_within(bound, ms(1_600), at(10_900)));
        assert!(!peer_said(Some(900)).any_within(bound, ms(1_050), at(10_200)), "both missed what came since");
        assert!(!peer_said(Some(0)).any_within(bound, ms(9_000), at(13_000)), "silent itself");
        for beyond in [Some(1_001), None] {
            assert!(!peer_said(beyond).any_within(bound, ms(9_000), at(10_100)), "{beyond:?}");
        }
    }
}
