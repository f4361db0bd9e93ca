//! Says what a history proves, and what it breaks. Pure, and ignorant of how permcast works: it knows the rules of
//! [`super::model`], the log, and when each row of it was first seen and last not seen.
//!
//! A doubt is always in the accused's favour: a decision is taken to have been made when its request was sent where its age
//! is asked for, and when its answer came where it is asked what it could know; a change counts as committed when a look
//! at the log found it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::commits::Commits;
use super::guests;
use super::history::{self, Effect, History, Moment, Operation, Outcome, Row, Seq, Touch};
use super::judge::{self, Truth};
use super::model::{State, Timeline};

/// What was promised.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// No decision is older.
    pub(crate) staleness: Duration,
    /// A connected client is told so soon, where its replica can know.
    pub(crate) told: Duration,
    /// No replica uses more bytes.
    pub(crate) memory: u64,
}

/// Which promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Broken {
    /// Acknowledged, and not in the log.
    ChangeLost,
    /// Only a part of an operation is in the log, or another thing than was asked for.
    HalfApplied,
    /// Answered as not done, and done.
    RefusedYetDone,
    /// In the log, and by nobody.
    ByNobody,
    /// The tables are not what the operations amount to.
    WrongTables,
    /// Right at no version that there was when it was given.
    NeverRight,
    /// From permissions older than the version that it states.
    BelowItsVersion,
    /// From permissions older than the bound.
    TooOld,
    /// States a version that there was not yet.
    AheadOfTheLog,
    /// A replica stated an older version than it had stated before.
    WentBack,
    /// A connected client was neither told nor cut off.
    Untold,
    /// A permission outlived its time.
    Overstayed,
    TooMuchMemory,
    /// Did not come to rest after the faults.
    Unsettled,
}

#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) broken: Broken,
    pub(crate) at: Moment,
    pub(crate) account: String,
}

/// What was seen while one kind of fault acted, or none.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) faults: usize,
    pub(crate) decisions: usize,
    /// Answers that the head of the log already contradicted.
    pub(crate) stale: usize,
    /// The oldest of them that allowed what was allowed no more.
    pub(crate) worst_allow: Duration,
    pub(crate) worst: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) violations: Vec<Violation>,
    pub(crate) seen: BTreeMap<&'static str, Seen>,
    /// Operations that were acknowledged, and that took place without an answer.
    pub(crate) acknowledged: usize,
    pub(crate) unanswered: usize,
    /// Pairs of a change and a connection that it touched.
    pub(crate) to_be_told: usize,
    pub(crate) slowest_told: Duration,
    /// The latest yes after a permission's time was over.
    pub(crate) longest_overstay: Duration,
}

impl Verdict {
    pub(crate) fn count(&self, broken: Broken) -> usize {
        self.violations.iter().filter(|violation| violation.broken == broken).count()
    }

    pub(super) fn add(&mut self, broken: Broken, at: Moment, account: String) {
        self.violations.push(Violation { broken, at, account });
    }
}

pub(crate) fn check(history: &History, bounds: &Bounds) -> Verdict {
    let mut verdict = Verdict::default();
    let took_place = attribute(history, &mut verdict);
    let truth = replay(history, took_place, &mut verdict);
    judge::decisions(history, &truth, bounds, &mut verdict);
    judge::positions(history, &mut verdict);
    judge::connections(history, &truth, bounds, &mut verdict);
    guests::check(history, bounds, &mut verdict);
    if history.memory > bounds.memory {
        verdict.add(Broken::TooMuchMemory, Moment::ZERO, format!("{} bytes in one replica", history.memory));
    }
    for what in &history.unsettled {
        verdict.add(Broken::Unsettled, Moment::MAX, what.clone());
    }
    verdict.violations.sort_by_key(|violation| violation.at);
    verdict
}

/// Finds each operation's rows. An actor does one thing at a time and nothing after one that was not answered, so that
/// all of his rows up to the one that was acknowledged are that operation's.
fn attribute<'a>(history: &'a History, verdict: &mut Verdict) -> Vec<(&'a Operation, Vec<&'a Row>)> {
    let mut rows: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    let guests: Vec<_> = (0..guests::GUESTS).map(history::guest_name).collect();
    let of_guests = |row: &Row| row.touch.kind == "user" && guests.contains(&row.touch.target);
    for row in history.log.iter().filter(|row| row.seq > history.origin && !of_guests(row)) {
        rows.entry(&row.actor).or_default().push(row);
    }
    let mut took_place: Vec<(&Operation, Vec<&Row>)> = Vec::new();
    let mut refused: BTreeMap<&str, &Operation> = BTreeMap::new();
    for operation in &history.operations {
        let own = rows.entry(&operation.actor).or_default();
        match operation.outcome {
            Outcome::Done(None) => verdict.acknowledged += 1,
            Outcome::Done(Some(seq)) => {
                verdict.acknowledged += 1;
                let later = own.split_off(own.partition_point(|row| row.seq <= seq));
                let claimed = std::mem::replace(own, later);
                if claimed.last().is_some_and(|row| row.seq == seq) {
                    took_place.push((operation, claimed));
                } else {
                    let account = format!("{operation:?} was acknowledged, and row {seq} of the log is not its own");
                    verdict.add(Broken::ChangeLost, operation.ended, account);
                }
            }
            Outcome::Refused => {
                refused.insert(&operation.actor, operation);
            }
            Outcome::Unknown if own.is_empty() => {}
            Outcome::Unknown => {
                verdict.unanswered += 1;
                took_place.push((operation, std::mem::take(own)));
            }
        }
    }
    for (actor, left) in rows {
        // Keys age and sessions end by themselves; neither gives anybody anything.
        for row in left.iter().filter(|row| !["keys", "session", "lockdown"].contains(&row.touch.kind.as_str())) {
            match refused.get(actor) {
                Some(operation) => {
                    let account = format!("{row:?} is by an actor whose last refused operation was {operation:?}");
                    verdict.add(Broken::RefusedYetDone, operation.ended, account);
                }
                None => verdict.add(Broken::ByNobody, Moment::ZERO, format!("{row:?}")),
            }
        }
    }
    took_place
}

fn replay(history: &History, mut took_place: Vec<(&Operation, Vec<&Row>)>, verdict: &mut Verdict) -> Truth {
    took_place.sort_by_key(|(_, rows)| rows.last().map(|row| row.seq));
    let mut state = history.before.clone();
    let users = || 0..u8::try_from(history.before.users.len()).expect("there are few users");
    let mut timelines: Vec<_> = users().map(|user| Timeline(vec![(history.origin, state.standing(user))])).collect();
    let mut states = vec![(history.origin, state.clone())];
    for (operation, rows) in took_place {
        let mut expected: Vec<Touch> = operation.effects.iter().flat_map(|effect| state.apply(effect)).collect();
        let mut found: Vec<Touch> = rows.iter().map(|row| row.touch.clone()).collect();
        for touches in [&mut expected, &mut found] {
            touches.sort();
            touches.dedup();
        }
        let Some(last) = rows.last() else { continue };
        if expected != found {
            let account = format!("{operation:?} should have told of {expected:?}, and the log tells of {found:?}");
            verdict.add(Broken::HalfApplied, operation.ended, account);
        }
        for user in users() {
            timelines[usize::from(user)].note(last.seq, state.standing(user));
        }
        states.push((last.seq, state.clone()));
    }
    if state != history.after {
        let account = format!("the operations amount to {state:?}, the tables hold {:?}", history.after);
        verdict.add(Broken::WrongTables, Moment::MAX, account);
    }
    let mut touches: BTreeMap<Touch, Vec<Seq>> = BTreeMap::new();
    for row in &history.log {
        touches.entry(row.touch.clone()).or_default().push(row.seq);
        if row.ends && row.touch.kind == "user" {
            touches.entry(Touch::end_of(&row.touch.target)).or_default().push(row.seq);
        }
    }
    let truth = Truth { timelines, touches, commits: Commits::new(&history.glances) };
    changed_nothing(history, &states, &truth.commits, verdict);
    truth
}

/// Who is told that it was so already must have been told so at a moment when it was.
fn changed_nothing(history: &History, states: &[(Seq, State)], commits: &Commits, verdict: &mut Verdict) {
    let nothing = history.operations.iter().filter(|operation| operation.outcome == Outcome::Done(None));
    for operation in nothing {
        let from = commits.surely_by(operation.begun);
        let to = commits.possibly_by(operation.ended);
        let first = states.partition_point(|(seq, _)| *seq <= from).max(1) - 1;
        let last = states.partition_point(|(seq, _)| *seq <= to);
        let was_so = states[first..last.max(first + 1)].iter().any(|(_, state)| {
            let mut state = state.clone();
            operation
                .effects
                .iter()
                .all(|effect| matches!(effect, Effect::EndSession { .. }) || state.apply(effect).is_empty())
        });
        if !was_so {
            let account = format!("{operation:?} was acknowledged as no change, and it would have been one");
            verdict.add(Broken::ChangeLost, operation.ended, account);
        }
    }
}
