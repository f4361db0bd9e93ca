//! One replica: the real feed state, floors, position and hub, driven as `feed::task` drives them, beside a model of the
//! cache. Every deliberate bug of the glue is named where it would sit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use permcast::domain::{Applied, Basis, Boottime, Change, Clock, Floors, Seq, Stamp, Target, Timestamp, Version};
use permcast::feed::state::{Plan, Question, State, Verdict};
use permcast::hub::{Connection, Hub, Limits};
use permcast::store::TailPage;

use crate::database::{Database, NAMES, Part, epoch_of, role_names, seq};
use crate::mutants::Mutant;

/// The times of the simulation are those of production, made smaller.
pub(crate) const POLL: u64 = 1_000;
pub(crate) const RETRY: u64 = 100;
pub(crate) const MAX_STALENESS: u64 = 3_000;
pub(crate) const TOKEN_LIFE: u64 = 12_000;
/// Life, staleness at the minting, and the minting's own time.
pub(crate) const REMEMBER: u64 = 20_000;
const FOLD_EVERY: u64 = 2_000;

#[derive(Debug)]
struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        Timestamp::default()
    }
    fn boottime(&self) -> Boottime {
        Boottime::default()
    }
}

/// The database did not answer.
pub(crate) struct Failed;

/// A read of the log under way.
pub(crate) struct Reading {
    question: Question,
    /// When its transaction begins, and when its answer is here.
    pub(crate) take_at: u64,
    pub(crate) due: u64,
    pub(crate) taken: Option<Result<TailPage, Failed>>,
}

/// What the cache keeps of a user (his roles as bits) or of a role (its closure).
pub(crate) struct Entry {
    pub(crate) basis: Basis,
    pub(crate) roles: u8,
    pub(crate) part: Part,
}

/// A connection, and whether its client was told.
pub(crate) struct Client {
    pub(crate) connection: Option<Connection>,
    pub(crate) token: usize,
    pub(crate) compare_at: Option<u64>,
    pub(crate) told: bool,
}

/// Tenant and user, or tenant and role.
pub(crate) type Key = (bool, usize, usize);

pub(crate) struct Replica {
    pub(crate) mutant: Option<Mutant>,
    pub(crate) applied: Applied,
    pub(crate) floors: Arc<Floors>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) state: Option<State>,
    pub(crate) known: Stamp,
    pub(crate) confirmed: Option<u64>,
    pub(crate) entries: BTreeMap<Key, Entry>,
    pub(crate) clients: Vec<Client>,
    pub(crate) reading: Option<Reading>,
    pub(crate) next_read: u64,
    pub(crate) paused: bool,
    /// Time that a clock which stops with the process would not have counted.
    pub(crate) slept: u64,
    pub(crate) slept_since: u64,
    pub(crate) failing_until: u64,
    pub(crate) cut_off_until: u64,
    /// Until when nobody hears what it says.
    pub(crate) mute_until: u64,
    /// Positions of which it was told something untrue, until the log has shown them.
    pub(crate) misled: BTreeSet<u64>,
    /// The head of an older copy that lies at the database's place.
    pub(crate) copy: Option<u64>,
    /// The history from which it last read.
    pub(crate) life: usize,
    /// Whether it has heard of another since.
    pub(crate) mixed: bool,
    folds: VecDeque<(Stamp, u64)>,
    /// Bases of verified tokens, and whether one was found stale.
    pub(crate) verified: BTreeMap<usize, (Basis, bool)>,
    pub(crate) seen: (Stamp, Stamp),
    pub(crate) floors_max: usize,
}

impl Replica {
    pub(crate) fn new(life: usize, epoch: usize, now: u64, floors_max: usize, mutant: Option<Mutant>) -> Self {
        let floors = Arc::new(Floors::new(7, floors_max));
        let hub = Hub::new(Arc::clone(&floors), Arc::new(StoppedClock), Limits::default());
        let applied = Applied::new(epoch_of(epoch));
        let seen = (applied.stamp(), Stamp::NEVER);
        Self {
            mutant,
            known: applied.stamp(),
            applied,
            floors,
            hub,
            state: None,
            confirmed: None,
            entries: BTreeMap::new(),
            clients: Vec::new(),
            reading: None,
            next_read: now,
            paused: false,
            slept: 0,
            slept_since: 0,
            failing_until: 0,
            cut_off_until: 0,
            mute_until: 0,
            misled: BTreeSet::new(),
            copy: None,
            life,
            mixed: false,
            folds: VecDeque::new(),
            verified: BTreeMap::new(),
            seen,
            floors_max,
        }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    pub(crate) fn can_read(&self, now: u64) -> bool {
        now >= self.failing_until && self.copy.is_none()
    }

    /// As `FeedTask::begin`.
    pub(crate) fn begin(&mut self, database: &Database, now: u64) {
        if !self.can_read(now) {
            self.next_read = now + RETRY;
            return;
        }
        let start = database.position_at(now.saturating_sub(REMEMBER));
        let epoch = epoch_of(database.epoch);
        (self.life, self.mixed) = (database.life, false);
        self.misled.clear();
        if self.applied.epoch() != epoch {
            let generation = self.applied.next_generation();
            if !self.is(Mutant::EpochWithoutFloors) {
                self.floors.begin_epoch(generation);
            }
            self.applied.begin_epoch(epoch);
        }
        if !self.is(Mutant::StartWithoutHorizon) && !self.is(Mutant::EpochWithoutFloors) {
            self.floors.fold(Stamp::new(self.applied.generation(), seq(start)));
        }
        self.state = Some(State::new(epoch, seq(start)));
        self.next_read = now;
    }

    pub(crate) fn read(&mut self, now: u64, take_after: u64, due_after: u64) {
        let Some(state) = &self.state else { return };
        let same = self.known.generation() == self.applied.generation();
        let known = if same && !self.is(Mutant::IgnoreKnown) { self.known.seq() } else { Seq::ZERO };
        let mut question = state.ask(known, Boottime(Duration::from_millis(now)));
        if self.is(Mutant::IgnoreSeen) {
            question.seen.clear();
        }
        if self.is(Mutant::BelieveHints) {
            question.after = state.applied();
        }
        let take_at = now + take_after;
        self.reading = Some(Reading { question, take_at, due: take_at + due_after, taken: None });
    }

    /// The page as its transaction sees it.
    pub(crate) fn take(&mut self, database: &Database, now: u64, rows_max: usize) {
        let failing = now < self.failing_until;
        let head = self.copy.unwrap_or(database.head()).min(database.head());
        let Some(reading) = &mut self.reading else { return };
        let after = reading.question.after.get();
        let kept = || database.rows.iter().filter(|row| row.kept && row.seq <= head);
        let anchors = reading.question.anchors();
        let known =
            kept().filter(|row| row.seq == after || anchors.contains(&seq(row.seq))).map(crate::database::Row::change);
        let known = known.collect();
        let shown = kept().filter(|row| row.seq > after);
        let mut changes: Vec<Change> = shown.map(crate::database::Row::change).collect();
        let complete = changes.len() <= rows_max;
        changes.truncate(rows_max);
        let page =
            TailPage { epoch: epoch_of(database.epoch), head: seq(head), known, changes, unreadable: 0, complete };
        reading.taken = Some(if failing { Err(Failed) } else { Ok(page) });
    }

    /// As `FeedTask::take_page`; gives what is no more where the log was taken back.
    pub(crate) fn finish(&mut self, database: &Database, now: u64) -> Option<Change> {
        let Reading { mut question, taken, .. } = self.reading.take()?;
        let Some(Ok(page)) = taken else {
            self.next_read = now + RETRY;
            return None;
        };
        if self.is(Mutant::ConfirmAtEnd) {
            question.begun = Boottime(Duration::from_millis(now));
        }
        let begun = question.begun;
        let complete = page.complete;
        let state = self.state.as_mut()?;
        let shown: Vec<Change> = page.changes.clone();
        let verdict = state.on_tail(page, question);
        let read = state.ask(Seq::ZERO, begun).after.get();
        match verdict {
            Verdict::Go(mut plan) => {
                self.misled.retain(|&seq| seq > read);
                if self.copy.is_none() {
                    (self.life, self.mixed) = (database.life, false);
                }
                if self.is(Mutant::SkipMissing) && plan.missing > 0 {
                    plan.apply.retain(|change| change.target != Target::Everyone || shown.contains(change));
                }
                if self.is(Mutant::ConfirmWhenCut) && !complete {
                    plan.confirm = Some(begun);
                }
                self.next_read = now + if plan.fetch { 1 } else { POLL };
                self.carry_out(&plan, true);
                self.fold(now);
            }
            Verdict::NewEpoch(_) => {
                self.begin(database, now);
                if !self.is(Mutant::EpochUntold) {
                    self.hub.begin_epoch(self.applied.generation());
                }
            }
            Verdict::Behind => self.next_read = now + RETRY,
            Verdict::TakenBack(seen) => {
                self.next_read = now + RETRY;
                // A copy that lies before this replica alone cannot be written here.
                return self.copy.is_none().then_some(seen);
            }
        }
        None
    }

    pub(crate) fn hint(&mut self, epoch: usize, own: bool, changes: Vec<Change>, now: u64) {
        let Some(state) = &mut self.state else { return };
        let highest = changes.iter().map(|change| change.seq).max();
        let epoch = if self.mutant == Some(Mutant::HintOfAnyEpoch) { state.epoch() } else { epoch_of(epoch) };
        let mut plan = if own { state.on_commit(epoch, changes) } else { state.on_hint(epoch, changes) };
        if self.is(Mutant::AdvanceOverGap) && epoch == self.applied.epoch() {
            plan.applied = plan.applied.max(highest.unwrap_or_default());
        }
        if plan.fetch {
            self.next_read = self.next_read.min(now + 1);
        }
        self.carry_out(&plan, false);
    }

    /// It hears something of this epoch that is not true.
    pub(crate) fn mislead(&mut self, epoch: usize, change: Change, now: u64) {
        let Some(state) = &self.state else { return };
        if change.seq > state.ask(Seq::ZERO, Boottime::default()).after {
            self.misled.insert(change.seq.get());
        }
        self.hint(epoch, false, vec![change], now);
    }

    /// As `Feed::saw`.
    pub(crate) fn saw(&mut self, version: Version, now: u64) {
        match self.applied.stamp_of(version) {
            Some(stamp) if stamp <= self.applied.stamp() => return,
            Some(stamp) => self.known = self.known.max(stamp),
            None => {}
        }
        self.next_read = self.next_read.min(now + 1);
    }

    /// The highest change that it has seen with own eyes.
    pub(crate) fn seen(&self) -> Option<Change> {
        self.state.as_ref()?.ask(Seq::ZERO, Boottime::default()).seen.pop()
    }

    fn carry_out(&mut self, plan: &Plan, from_tail: bool) {
        let generation = self.applied.generation();
        let mut folded = Vec::new();
        for change in &plan.apply {
            let forgotten = match change.target {
                Target::User { .. } => self.is(Mutant::EvictWithoutRaise),
                Target::Session { .. } => self.is(Mutant::DropSessionEnds),
                _ => false,
            };
            if !forgotten {
                folded.extend(self.floors.raise(change, generation));
            }
            if let Target::User { tenant, user } = &change.target {
                let tenant = NAMES.tenants.iter().position(|name| name == tenant).unwrap();
                let user = NAMES.users.iter().position(|name| name == user).unwrap();
                self.entries.remove(&(false, tenant, user));
            }
            self.known = self.known.max(Stamp::new(generation, change.seq));
        }
        if !(from_tail && self.is(Mutant::TailUntold)) {
            self.hub.tell(&plan.apply, generation);
        }
        if !self.is(Mutant::FoldedUntold) {
            for folded in &folded {
                self.hub.tell_folded(folded);
            }
        }
        self.applied.advance(plan.applied);
        self.known = self.known.max(self.applied.stamp());
        if let Some(begun) = plan.confirm {
            let begun = u64::try_from(begun.0.as_millis()).unwrap();
            self.confirmed = Some(self.confirmed.map_or(begun, |at| at.max(begun)));
        }
    }

    fn fold(&mut self, now: u64) {
        if self.folds.back().is_some_and(|&(_, at)| now - at < FOLD_EVERY) {
            return;
        }
        self.folds.push_back((self.applied.stamp(), now));
        let mut horizon = None;
        while let Some(&(stamp, at)) = self.folds.front()
            && now - at > REMEMBER
        {
            horizon = Some(stamp);
            self.folds.pop_front();
        }
        let Some(horizon) = horizon else { return };
        for entry in self.entries.values_mut() {
            let fresh = self.misled.is_empty() && self.floors.is_fresh(&entry.basis);
            if fresh || self.mutant == Some(Mutant::RestampAll) {
                entry.basis = entry.basis.clone().restamped(self.applied.stamp());
            }
        }
        self.floors.fold(horizon);
    }

    pub(crate) fn lag(&self, now: u64) -> u64 {
        let asleep = if self.is(Mutant::ClockStopsAsleep) { self.slept } else { 0 };
        self.confirmed.map_or(u64::MAX, |at| (now - at).saturating_sub(asleep))
    }

    pub(crate) fn entry_basis(&self, stamp: Stamp, key: Key, roles: u8) -> Basis {
        let (is_role, tenant, number) = key;
        let roles = if self.is(Mutant::ForgetRoles) || !is_role { 0 } else { roles };
        let user = (!is_role).then(|| &NAMES.users[number]);
        self.floors.entry_basis(stamp, &NAMES.tenants[tenant], user, role_names(roles))
    }

    /// As `PermissionCache::stamp_of`: found fresh is as good as read at what was applied.
    pub(crate) fn stamp_of(&self, basis: &Basis, applied: Stamp) -> Stamp {
        if self.floors.is_fresh(basis) { basis.stamp().max(applied) } else { basis.stamp() }
    }
}
