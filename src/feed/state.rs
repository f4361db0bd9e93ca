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
    /// What was seen with own eyes: what nobody else needs to be believed for.
    seen: Seen,
}

/// Changes that must be in the log, if it is still the same.
#[derive(Debug, Default)]
struct Seen {
    /// The highest that the tail has shown.
    read: Option<Change>,
    /// The first that was committed here and the tail has not shown yet: later ones may be of a log taken back meanwhile.
    committed: Option<Change>,
    /// The last that was committed here.
    last: Option<Change>,
    /// One that cannot be in it any more.
    lost: Option<Change>,
}

/// What a read of the tail is to answer, as of its begin: what it misses of this, or what happens later, it cannot answer
/// for.
#[derive(Debug)]
pub struct Question {
    /// Read from here on.
    pub after: Seq,
    /// The highest position that is known to exist, by whatever was believed.
    pub known: Seq,
    /// What must be in the log.
    pub seen: Vec<Change>,
    pub begun: Boottime,
}

impl Question {
    /// Whose rows are to be shown beside: by them the log is known again.
    pub fn anchors(&self) -> [Seq; 2] {
        let mut seen = self.seen.iter().map(|seen| seen.seq);
        [seen.next().unwrap_or(self.after), seen.next().unwrap_or(self.after)]
    }
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
    /// It has not, or no more, what was read from it or committed to it: it was taken back.
    TakenBack(Change),
}

impl State {
    /// At a position from which on every row will be read.
    pub fn new(epoch: Epoch, applied: Seq) -> Self {
        Self { epoch, applied, ahead: BTreeSet::new(), seen: Seen::default() }
    }

    /// The epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Everything up to here is applied.
    pub fn applied(&self) -> Seq {
        self.applied
    }

    /// What to ask the tail for, now.
    pub fn ask(&self, known: Seq, begun: Boottime) -> Question {
        Question { after: self.applied, known, seen: self.seen.for_sure(), begun }
    }

    /// Takes changes that were committed here, in the order of their commits.
    pub fn on_commit(&mut self, epoch: Epoch, changes: Vec<Change>) -> Plan {
        if epoch == self.epoch {
            self.seen.commit(&changes);
        }
        self.on_hint(epoch, changes)
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

    /// Takes what the tail answered.
    pub fn on_tail(&mut self, page: TailPage, question: Question) -> Verdict {
        let Question { after, known, seen, begun } = question;
        if page.epoch != self.epoch {
            return Verdict::NewEpoch(page.epoch);
        }
        // What was seen since the read began may be missing in it, but nothing else may stand in its place.
        let asked = seen.into_iter().find(|seen| page.contradicts(seen));
        let since = || self.seen.all().find(|seen| page.has_another_for(seen)).cloned();
        if let Some(lost) = asked.or_else(since) {
            return Verdict::TakenBack(lost);
        }
        if page.head < known.max(after) {
            return Verdict::Behind;
        }
        self.seen.read(page.changes.last().or(page.known.iter().max_by_key(|known| known.seq)));
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

impl Seen {
    fn for_sure(&self) -> Vec<Change> {
        let read = self.lost.as_ref().or(self.read.as_ref());
        read.into_iter().chain(&self.committed).cloned().collect()
    }

    fn all(&self) -> impl Iterator<Item = &Change> {
        [&self.lost, &self.read, &self.committed, &self.last].into_iter().flatten()
    }

    /// Commits come in their order, so one at a place where there was one has taken its place.
    fn commit(&mut self, changes: &[Change]) {
        let (Some(first), Some(last)) = (changes.first(), changes.last()) else { return };
        if let Some(before) = self.last.as_ref().filter(|before| first.seq <= before.seq) {
            self.lost = Some(before.clone());
            return;
        }
        let is_new = |change: &&Change| self.read.as_ref().is_none_or(|read| change.seq > read.seq);
        if self.committed.is_none() {
            self.committed = changes.iter().find(is_new).cloned();
        }
        self.last = Some(last.clone());
    }

    /// The tail has shown everything up to here.
    fn read(&mut self, highest: Option<&Change>) {
        let Some(highest) = highest else { return };
        if self.read.as_ref().is_none_or(|read| read.seq < highest.seq) {
            self.read = Some(highest.clone());
        }
        self.committed.take_if(|committed| committed.seq <= highest.seq);
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
