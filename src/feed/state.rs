//! What is to be done with what was heard and read. Pure: no clock, no waiting.

use std::collections::BTreeSet;

use crate::domain::{Boottime, Change, Effect, Epoch, Seq, Target, Timestamp};
use crate::store::TailPage;

/// Positions above the applied one that are remembered; beyond it the tail shows them again, which costs nothing.
const AHEAD_MAX: usize = 65_536;

/// The position of one replica in one epoch of the log.
#[derive(Debug)]
pub struct State {
    epoch: Epoch,
    /// Everything up to here is applied.
    applied: Seq,
    /// Applied, too, though something before them is missing.
    ahead: BTreeSet<Seq>,
}

/// What to do, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To raise, evict and tell.
    pub apply: Vec<Change>,
    /// Applied up to here once that is done.
    pub applied: Seq,
    /// The replica has missed nothing as of this moment, once that is done.
    pub confirm: Option<Boottime>,
    /// Read the tail at once: something is missing.
    pub fetch: bool,
    /// Positions that the log itself lacks; counted as a change of everyone.
    pub missing: u64,
}

/// What a page of the tail means.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on where we are.
    Go(Plan),
    /// The log has begun anew.
    NewEpoch(Epoch),
    /// It ends before a position that is known to exist: this is not the database that it was.
    Behind,
}

impl State {
    /// At a position from which on every row will be read.
    pub fn new(epoch: Epoch, applied: Seq) -> Self {
        Self { epoch, applied, ahead: BTreeSet::new() }
    }

    /// The epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Everything up to here is applied.
    pub fn applied(&self) -> Seq {
        self.applied
    }

    /// Takes changes that a commit here or a sealed message spoke of. They are true, but may come twice, late, out of
    /// order or not at all.
    pub fn on_hint(&mut self, epoch: Epoch, changes: Vec<Change>) -> Plan {
        if epoch != self.epoch {
            // One of us is behind a restore; the tail knows who.
            return Plan { applied: self.applied, fetch: true, ..Plan::default() };
        }
        let mut apply = Vec::with_capacity(changes.len());
        for change in changes {
            if change.seq > self.applied && self.ahead.insert(change.seq) {
                apply.push(change);
            }
        }
        self.close_up();
        Plan { apply, applied: self.applied, fetch: !self.ahead.is_empty(), ..Plan::default() }
    }

    /// Takes a page of the tail that was read from `after` on, began at `begun`, when `known` was the highest position
    /// known to exist.
    pub fn on_tail(&mut self, page: TailPage, after: Seq, known: Seq, begun: Boottime) -> Verdict {
        if page.epoch != self.epoch {
            return Verdict::NewEpoch(page.epoch);
        }
        if page.head < known.max(after) {
            return Verdict::Behind;
        }
        let mut plan = Plan::default();
        let mut read = after;
        let mut written = Timestamp::default();
        for change in page.changes {
            plan.missing += self.missing_between(read, change.seq, change.at, &mut plan.apply);
            written = change.at;
            read = read.max(change.seq);
            if change.seq > self.applied && !self.ahead.contains(&change.seq) {
                plan.apply.push(change);
            }
        }
        if page.complete {
            plan.missing += self.missing_between(read, page.head.next(), written, &mut plan.apply);
            read = read.max(page.head);
            plan.confirm = Some(begun);
        }
        self.applied = self.applied.max(read);
        self.close_up();
        plan.applied = self.applied;
        plan.fetch = !page.complete || !self.ahead.is_empty();
        Verdict::Go(plan)
    }

    /// Positions strictly between the two that nobody has shown us. What they touched cannot be known, so everyone.
    fn missing_between(&self, read: Seq, next: Seq, at: Timestamp, apply: &mut Vec<Change>) -> u64 {
        let first = read.max(self.applied).next();
        if first >= next {
            return 0;
        }
        let shown = self.ahead.range(first..next).count() as u64;
        let missing = (next.get() - first.get()) - shown;
        if missing > 0 {
            let seq = Seq::new(next.get() - 1).expect("a position below another is a position");
            apply.push(Change { seq, at, target: Target::Everyone, effect: Effect::Changed });
        }
        missing
    }

    /// Moves up over what was applied ahead.
    fn close_up(&mut self) {
        while let Some(&first) = self.ahead.first()
            && first <= self.applied.next()
        {
            self.ahead.pop_first();
            self.applied = self.applied.max(first);
        }
        while self.ahead.len() > AHEAD_MAX {
            self.ahead.pop_last();
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
