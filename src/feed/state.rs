//! What is to be done with what was heard and read. Pure: no clock, no waiting.

use std::collections::BTreeMap;

use crate::domain::{Boottime, Change, Effect, Epoch, Seq, Target, Timestamp};
use crate::store::TailPage;

/// Hints that are remembered until the tail shows the same; what is forgotten is applied again, which costs nothing.
const HINTED_MAX: usize = 65_536;

/// The position of one replica in one epoch of the log.
#[derive(Debug)]
pub struct State {
    epoch: Epoch,
    /// Everything up to here is applied.
    applied: Seq,
    /// The tail has shown everything up to here.
    read: Seq,
    /// What hints said beyond that, applied too: the tail has the last word on each.
    hinted: BTreeMap<Seq, Change>,
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
        Self { epoch, applied, read: applied, hinted: BTreeMap::new(), seen: Seen::default() }
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
        Question { after: self.read, known, seen: self.seen.for_sure(), begun }
    }

    /// Takes changes that were committed here, in the order of their commits.
    pub fn on_commit(&mut self, epoch: Epoch, changes: Vec<Change>) -> Plan {
        if epoch == self.epoch {
            self.seen.commit(&changes);
        }
        self.on_hint(epoch, changes)
    }

    /// Takes changes that a commit here or a sealed message spoke of. They may come twice, late, out of order or not at all;
    /// and where somebody lets a copy of the database talk on the same broker, they may not even be true.
    pub fn on_hint(&mut self, epoch: Epoch, changes: Vec<Change>) -> Plan {
        if epoch != self.epoch {
            // One of us is behind a restore; the tail knows who.
            return Plan { applied: self.applied, fetch: true, ..Plan::default() };
        }
        let mut apply = Vec::with_capacity(changes.len());
        for change in changes {
            if change.seq > self.read && !self.was_hinted(&change) {
                self.hinted.insert(change.seq, change.clone());
                apply.push(change);
            }
        }
        self.close_up();
        Plan { apply, applied: self.applied, fetch: self.lacks_some(), ..Plan::default() }
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
            if change.seq > self.read && !self.was_hinted(&change) {
                plan.apply.push(change);
            }
        }
        if page.complete {
            plan.missing += self.missing_between(read, page.head.next(), written, &mut plan.apply);
            read = read.max(page.head);
            plan.confirm = Some(begun);
        }
        self.read = self.read.max(read);
        self.hinted = self.hinted.split_off(&self.read.next());
        self.applied = self.applied.max(self.read);
        self.close_up();
        plan.applied = self.applied;
        plan.fetch = !page.complete || self.lacks_some();
        Verdict::Go(plan)
    }

    /// Positions strictly between the two, which the log lacks. What they touched cannot be known, whatever a hint said of
    /// them, so everyone.
    fn missing_between(&self, read: Seq, next: Seq, at: Timestamp, apply: &mut Vec<Change>) -> u64 {
        let first = read.max(self.read).next();
        if first >= next {
            return 0;
        }
        let seq = Seq::new(next.get() - 1).expect("a position below another is a position");
        apply.push(Change { seq, at, target: Target::Everyone, effect: Effect::Changed });
        next.get() - first.get()
    }

    /// Moves up over what was applied ahead of something that was missing.
    fn close_up(&mut self) {
        while self.hinted.contains_key(&self.applied.next()) {
            self.applied = self.applied.next();
        }
        while self.hinted.len() > HINTED_MAX {
            self.hinted.pop_last();
        }
    }

    /// Whether a hint said the same of this position. One that said otherwise counts for nothing.
    fn was_hinted(&self, change: &Change) -> bool {
        let said = self.hinted.get(&change.seq);
        said.is_some_and(|said| said.target == change.target && said.effect == change.effect)
    }

    /// Whether a hint was ahead of something that nobody has shown yet.
    fn lacks_some(&self) -> bool {
        self.hinted.last_key_value().is_some_and(|(&last, _)| last > self.applied)
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
