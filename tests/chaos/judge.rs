//! Judges what was decided and told, by what was so.

use std::collections::BTreeMap;
use std::time::Duration;

use super::checker::{Bounds, Broken, Verdict};
use super::commits::Commits;
use super::history::{Blinds, Connection, Decision, History, Moment, Said, Seq, Set, Ticket, Touch};
use super::model::{Standing, Timeline};

/// What is seen without any fault.
pub(crate) const CALM: &str = "none";
/// So long after its end a fault may still show.
const AFTERMATH: Duration = Duration::from_secs(2);

/// All that is known about what was so, and since when.
pub(super) struct Truth {
    pub(super) timelines: Vec<Timeline>,
    /// Which rows of the log name what.
    pub(super) touches: BTreeMap<Touch, Vec<Seq>>,
    pub(super) commits: Commits,
}

impl Truth {
    /// The first change after a token that touches what it rests on: from there on it must be refused.
    fn end_of(&self, ticket: &Ticket) -> Seq {
        let later = |seqs: &&[Seq]| seqs.get(seqs.partition_point(|&seq| seq <= ticket.pv)).copied();
        self.touching(ticket).filter_map(|seqs| later(&seqs)).min().unwrap_or(Seq::MAX)
    }

    /// All of them, up to a position.
    fn stale_by(&self, ticket: &Ticket, upto: Seq) -> Vec<Seq> {
        let later = |&&seq: &&Seq| seq > ticket.pv && seq <= upto;
        let mut found: Vec<Seq> = self.touching(ticket).flat_map(|seqs| seqs.iter().filter(later)).copied().collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    fn touching<'a>(&'a self, ticket: &'a Ticket) -> impl Iterator<Item = &'a [Seq]> {
        ticket.rests_on.iter().filter_map(|touch| self.touches.get(touch)).map(Vec::as_slice)
    }
}

fn effective(standing: Standing) -> Set {
    if standing.active { standing.permissions } else { Set::default() }
}

impl Said {
    fn fits(&self, standing: Standing) -> bool {
        match *self {
            Self::All { roles, permissions } => {
                standing.active && roles == standing.roles && permissions == standing.permissions
            }
            Self::Each { asked, allowed } => allowed == asked.beyond(asked.beyond(effective(standing))),
        }
    }

    /// Whether it allows what one of this standing may not do.
    fn exceeds(&self, standing: Standing) -> bool {
        let (Self::All { permissions: allowed, .. } | Self::Each { allowed, .. }) = *self;
        allowed.beyond(effective(standing)) != Set::default()
    }
}

pub(super) fn decisions(history: &History, truth: &Truth, bounds: &Bounds, verdict: &mut Verdict) {
    for decision in &history.decisions {
        let kinds = acting(history, decision);
        let (age, allows) = age(decision, history, truth, bounds, &kinds, verdict);
        for kind in kinds {
            let seen = verdict.seen.entry(kind).or_default();
            seen.decisions += 1;
            seen.stale += usize::from(age > Duration::ZERO);
            seen.worst = seen.worst.max(age);
            if allows {
                seen.worst_allow = seen.worst_allow.max(age);
            }
        }
    }
    for fault in &history.faults {
        verdict.seen.entry(fault.kind).or_default().faults += 1;
    }
}

/// Which kinds of fault can show in it.
fn acting(history: &History, decision: &Decision) -> Vec<&'static str> {
    let faults = history.faults.iter();
    let acts = faults.filter(|fault| fault.begun <= decision.ended && decision.begun <= fault.ended + AFTERMATH);
    let mut kinds: Vec<_> = acts.map(|fault| fault.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    if kinds.is_empty() {
        kinds.push(CALM);
    }
    kinds
}

/// Was it right at some version, and for how long not any more? Also tells whether it allows what is allowed no more.
fn age(
    decision: &Decision,
    history: &History,
    truth: &Truth,
    bounds: &Bounds,
    kinds: &[&str],
    verdict: &mut Verdict,
) -> (Duration, bool) {
    let mut fails = |broken, what: String| {
        let account = format!("{decision:?}\n  {what}\n  under: {}", kinds.join(", "));
        verdict.add(broken, decision.ended, account);
    };
    let ceiling = truth.commits.possibly_by(decision.ended);
    if decision.pv.is_some_and(|pv| pv > ceiling) {
        fails(Broken::AheadOfTheLog, format!("the log's end was {ceiling} at the most"));
    }
    let end_of_token = truth.end_of(&decision.ticket);
    let timeline = &truth.timelines[usize::from(decision.about)];
    let reached = timeline.0.partition_point(|(since, _)| *since <= ceiling);
    // What a token says was so before its end. What is read beside it, of another user or for a token without permissions, may be
    // newer than where the token was looked at: that it ends meanwhile is one thing, how old the answer is another, and both are
    // held to their own below.
    let is_read = !decision.ticket.rests_on.contains(&Touch::user(decision.about));
    let may_be = |at: usize| timeline.0[at].0 < end_of_token || is_read;
    let fits = |&at: &usize| may_be(at) && decision.said.fits(timeline.0[at].1);
    let Some(at) = (0..reached).rev().find(fits) else {
        let lately = &timeline.0[reached.saturating_sub(4)..reached];
        fails(
            Broken::NeverRight,
            format!(
                "right at no version up to {ceiling}; the token ends with {end_of_token}; lately it was {lately:?}"
            ),
        );
        return (Duration::ZERO, false);
    };
    let until = timeline.0.get(at + 1).map_or(Seq::MAX, |(since, _)| *since).min(end_of_token);
    if decision.pv.is_some_and(|pv| until <= pv) {
        fails(
            Broken::BelowItsVersion,
            format!("right until {:?}, which the answer says was applied", history.row(until)),
        );
    }
    let age = truth.commits.seen(until).map_or(Duration::ZERO, |seen| decision.begun.saturating_sub(seen));
    if age > bounds.staleness {
        fails(
            Broken::TooOld,
            format!("right until {:?}, which had been in the log for {age:?} when it was asked", history.row(until)),
        );
    }
    let surely = truth.commits.surely_by(decision.begun);
    (age, end_of_token <= surely || decision.said.exceeds(timeline.at(surely)))
}

/// No replica goes back behind what it once said it had applied.
pub(super) fn positions(history: &History, verdict: &mut Verdict) {
    let mut by_replica: BTreeMap<usize, Vec<(&Decision, Seq)>> = BTreeMap::new();
    for decision in &history.decisions {
        if let Some(pv) = decision.pv {
            by_replica.entry(decision.replica).or_default().push((decision, pv));
        }
    }
    for decisions in by_replica.values_mut() {
        let mut ended = decisions.clone();
        ended.sort_by_key(|(decision, _)| decision.ended);
        decisions.sort_by_key(|(decision, _)| decision.begun);
        let (mut before, mut highest) = (ended.into_iter().peekable(), 0);
        for (decision, pv) in decisions {
            while let Some((_, said)) = before.next_if(|(former, _)| former.ended < decision.begun) {
                highest = highest.max(said);
            }
            if *pv < highest {
                let account = format!("{decision:?}\n  the same replica had stated {highest} before it was asked");
                verdict.add(Broken::WentBack, decision.ended, account);
            }
        }
    }
}

pub(super) fn connections(history: &History, truth: &Truth, bounds: &Bounds, verdict: &mut Verdict) {
    for connection in &history.connections {
        let blind = blind(history, connection.replica);
        for (at, (since, ticket)) in connection.tokens.iter().enumerate() {
            let until = connection.tokens.get(at + 1).map_or(connection.ended, |(next, _)| *next);
            for seq in truth.stale_by(ticket, truth.commits.surely_by(until)) {
                let Some(seen) = truth.commits.seen(seq) else { continue };
                let stale_since = seen.max(*since);
                verdict.to_be_told += 1;
                // Whoever has gone on to a token that does not rest on it has nothing to be told any more.
                let next = connection.tokens.get(at + 1);
                let moved_on =
                    next.filter(|(_, ticket)| !truth.stale_by(ticket, seq).contains(&seq)).map(|(at, _)| *at);
                let knew = knew(connection, seq, stale_since).min(moved_on.unwrap_or(Moment::MAX)).max(stale_since);
                verdict.slowest_told = verdict.slowest_told.max(sighted(stale_since, knew, &blind));
                if sighted(stale_since, knew, &blind) > bounds.told {
                    let account = format!(
                        "{connection:?}\n  its token was stale by {:?} since {stale_since:?}, and until {knew:?} it \
                         was neither told nor cut off",
                        history.row(seq)
                    );
                    verdict.add(Broken::Untold, stale_since, account);
                }
            }
        }
    }
}

/// When it was told of a change, had a token that has it, or ended.
fn knew(connection: &Connection, seq: Seq, stale_since: Moment) -> Moment {
    let told = connection.told.iter().filter(|(_, pv)| *pv >= seq).map(|(at, _)| *at);
    let renewed = connection.tokens.iter().filter(|(_, ticket)| ticket.pv >= seq).map(|(at, _)| *at);
    told.chain(renewed).min().unwrap_or(connection.ended).min(connection.ended).max(stale_since)
}

/// When a replica could learn of nothing: in order, without overlap.
fn blind(history: &History, replica: usize) -> Vec<(Moment, Moment)> {
    let blinds = |blinds| matches!(blinds, Blinds::Everybody) || blinds == Blinds::Replica(replica);
    let mut spans: Vec<_> =
        history.faults.iter().filter(|fault| blinds(fault.blinds)).map(|fault| (fault.begun, fault.ended)).collect();
    spans.sort_unstable();
    let mut whole: Vec<(Moment, Moment)> = Vec::new();
    for (begun, ended) in spans {
        match whole.last_mut() {
            Some(last) if begun <= last.1 => last.1 = last.1.max(ended),
            _ => whole.push((begun, ended)),
        }
    }
    whole
}

/// How long it was between two moments, without the times of blindness.
fn sighted(from: Moment, to: Moment, blind: &[(Moment, Moment)]) -> Duration {
    let overlap = |(begun, ended): &(Moment, Moment)| to.min(*ended).saturating_sub(from.max(*begun));
    to.saturating_sub(from).saturating_sub(blind.iter().map(overlap).sum())
}
