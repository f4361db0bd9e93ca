//! When each row of the log was committed: after a look at the log that did not find it began, before one that found it
//! ended.

use super::history::{Glance, Moment, Seq};

/// Looks that found the same end, as one.
struct Run {
    head: Seq,
    /// When the first of them had ended.
    seen: Moment,
    /// When the last of them began.
    last: Moment,
}

pub(crate) struct Commits(Vec<Run>);

impl Commits {
    pub(crate) fn new(glances: &[Glance]) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        for glance in glances {
            match runs.last_mut() {
                Some(run) if run.head == glance.head => run.last = glance.begun,
                _ => runs.push(Run { head: glance.head, seen: glance.ended, last: glance.begun }),
            }
        }
        Self(runs)
    }

    /// The log's end at this moment, or an earlier one: what had certainly been committed.
    pub(crate) fn surely_by(&self, moment: Moment) -> Seq {
        let next = self.0.partition_point(|run| run.seen <= moment);
        if next == 0 { 0 } else { self.0[next - 1].head }
    }

    /// The log's end at this moment, or a later one: nothing above it had been committed.
    pub(crate) fn possibly_by(&self, moment: Moment) -> Seq {
        self.0.get(self.0.partition_point(|run| run.last < moment)).map_or(Seq::MAX, |run| run.head)
    }

    /// When it was certainly there. What was there before anybody looked has always been.
    pub(crate) fn seen(&self, seq: Seq) -> Option<Moment> {
        self.0.get(self.0.partition_point(|run| run.head < seq)).map(|run| run.seen)
    }
}
