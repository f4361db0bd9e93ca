//! The log, the epoch that it is of, and what it has led to.

use std::time::Duration;

use crate::domain::limits::TAIL_PAGE_ROWS;
use crate::domain::{Change, Effect, Epoch, LogRow, Seq, Target, Timestamp};
use crate::store::{SEAL_SECRET, TailPage};

use super::state::State;

pub(super) struct Inner {
    pub(super) epoch: Epoch,
    pub(super) state: State,
    pub(super) log: Vec<LogRow>,
}

impl Inner {
    pub(super) fn head(&self) -> Seq {
        self.log.last().map_or(Seq::ZERO, |row| row.change.seq)
    }

    pub(super) fn tail(&self, after: Seq, anchors: [Seq; 2]) -> TailPage {
        let rows = self.log.iter().map(|row| &row.change);
        let known = rows.clone().filter(|change| change.seq == after || anchors.contains(&change.seq));
        let later = rows.clone().filter(|change| change.seq > after);
        let changes: Vec<Change> = later.take(TAIL_PAGE_ROWS as usize).cloned().collect();
        let head = self.head();
        let complete = changes.last().map_or(after, |last| last.seq) >= head;
        TailPage { epoch: self.epoch, head, known: known.cloned().collect(), changes, unreadable: 0, complete }
    }

    /// Takes away what is old enough, but the head.
    pub(super) fn prune(&mut self, now: Timestamp, keep: Duration, limit: u32) -> u64 {
        let Some(head) = self.log.last() else { return 0 };
        let until = head.change.at.min(now).minus(keep);
        let before_head = self.log[..self.log.len() - 1].iter().take(limit as usize);
        let old = before_head.take_while(|row| row.change.at < until).count();
        self.log.drain(..old);
        old as u64
    }

    /// Begins anew, if it is this epoch's and contradicts what was seen of it.
    pub(super) fn begin_anew(&mut self, epoch: Epoch, seen: Option<&Change>, anew: Epoch, now: Timestamp) -> bool {
        let changes = self.log.iter().map(|row| row.change.clone()).collect();
        let (head, known) = (self.head(), Vec::new());
        let whole = TailPage { epoch: self.epoch, head, known, changes, unreadable: 0, complete: true };
        if self.epoch != epoch || !seen.is_none_or(|seen| whole.contradicts(seen)) {
            return false;
        }
        let seq = head.next();
        let change = Change { seq, at: now, target: Target::Everyone, effect: Effect::KeysRevoked };
        self.log.push(LogRow { change, actor: "system".to_owned(), summary: "the database was taken back".to_owned() });
        self.epoch = anew;
        self.state.ended_before = seq;
        self.state.secrets.remove(SEAL_SECRET);
        self.state.replicas.values_mut().for_each(|replica| replica.applied = Seq::ZERO);
        true
    }
}
