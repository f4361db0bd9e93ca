//! Drives the feed: hears, reads, and does what `state` decides.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{MaybeDone, maybe_done};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::controls::Controls;
use super::inbox::{Hint, Outlet};
use super::propagation::{Propagation, REMEMBERED};
use super::replicas::Peers;
use super::rollcall::RollCall;
use super::state::{Plan, Question, State, Verdict};
use super::{Feed, Shared};
use crate::bus::{Heard, Hearing};
use crate::cache::PermissionCache;
use crate::domain::{Boottime, Change, Epoch, Floors, Kind, Random, Seq, Stamp, Version};
use crate::hub::Hub;
use crate::store::{Store, StoreError, TailPage};

/// Wake-ups within this time are one read of the tail.
const WAKE_MERGE: Duration = Duration::from_millis(1);
/// Pause before a failed read is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(20);
/// How often floors that no living token can reach are folded.
const FOLD_EVERY: Duration = Duration::from_secs(30);

/// How often to read and how long to remember.
#[derive(Debug, Clone, Copy)]
pub struct FeedSettings {
    /// The tail is read at least this often.
    pub poll_interval: Duration,
    /// The longest life of an access token, with leeway: floors older than this are folded.
    pub remember: Duration,
}

/// The feed's task and all that it hands changes to.
pub struct FeedTask {
    pub settings: FeedSettings,
    pub feed: Feed,
    pub store: Arc<dyn Store>,
    pub floors: Arc<Floors>,
    pub cache: Arc<PermissionCache>,
    pub hub: Arc<Hub>,
    pub controls: Arc<Controls>,
    pub peers: Arc<Peers>,
    pub roll_call: Arc<RollCall>,
    pub propagation: Arc<Propagation>,
    pub outlet: Outlet,
    pub random: Arc<dyn Random>,
    pub heard: Hearing,
}

/// A read of the tail under way.
struct Reading {
    question: Question,
    page: Pin<Box<MaybeDone<Page>>>,
}

type Page = Pin<Box<dyn Future<Output = Result<TailPage, StoreError>> + Send>>;

impl Reading {
    /// Has it begin now, and not only when it is waited for.
    async fn begin(&mut self) {
        poll_fn(|context| {
            let _ = self.page.as_mut().poll(context);
            Poll::Ready(())
        })
        .await;
    }
}

/// What comes after a page.
enum Next {
    /// The usual time.
    Usual,
    Within(Duration),
    /// There is more, and it is being read already.
    Reading(Reading),
    Stop,
}

impl FeedTask {
    /// Runs until it is told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let Some(mut state) = self.begin(&stop).await else { return };
        let mut reading: Option<Reading> = Some(self.read(&state));
        let mut next_read = Instant::now();
        let feed = self.feed.clone();
        // Positions and when they were applied, oldest first: what is older than any token can be folded.
        let mut folds = Folds::default();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                // Before the hints, for no flood of them may keep the replica from confirming that it missed nothing.
                read = finished(&mut reading) => {
                    match self.take_page(&mut state, read, &stop).await {
                        Next::Usual => next_read = Instant::now() + self.settings.poll_interval,
                        Next::Within(soon) => next_read = Instant::now() + soon,
                        Next::Reading(more) => reading = Some(more),
                        Next::Stop => return,
                    }
                    self.fold(&mut folds);
                }
                hint = self.outlet.hints.recv() => {
                    let Some(hint) = hint else { return };
                    self.take_hint(&mut state, hint, &mut next_read).await;
                }
                heard = self.heard.next() => match heard {
                    None => return,
                    Some(heard) => self.take_heard(&mut state, heard, &mut next_read).await,
                },
                () = feed.shared.wake.notified(), if reading.is_none() => {
                    next_read = next_read.min(Instant::now() + WAKE_MERGE);
                }
                () = sleep_until(next_read), if reading.is_none() => reading = Some(self.read(&state)),
            }
        }
    }

    fn shared(&self) -> &Shared {
        &self.feed.shared
    }

    /// Finds the position from which on every row is read: anything older no living token can have been read before.
    async fn begin(&self, stop: &CancellationToken) -> Option<State> {
        loop {
            let since = self.shared().clock.now().minus(self.settings.remember);
            match self.store.position_at(since).await {
                Ok(Version { epoch, seq: start }) => {
                    for kind in [Kind::Keys, Kind::Lockdown] {
                        self.reload(kind).await;
                    }
                    let applied = &self.shared().applied;
                    if applied.epoch() != epoch {
                        let generation = applied.next_generation();
                        self.floors.begin_epoch(generation);
                        applied.begin_epoch(epoch);
                    }
                    self.floors.fold(Stamp::new(applied.generation(), start));
                    return Some(State::new(epoch, start));
                }
                Err(error) => {
                    if let Some(times) = self.shared().troubles.reading.again() {
                        tracing::error!(error = &error as &dyn std::error::Error, times, "cannot read the log yet");
                    }
                    if let StoreError::Replaced(_) = error {
                        self.reopen().await;
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = tokio::time::sleep(RETRY_AFTER) => {}
            }
        }
    }

    fn read(&self, state: &State) -> Reading {
        metrics::counter!("permcast_tail_reads_total").increment(1);
        // Before the read begins.
        let known = self.feed.known();
        let known = if known.generation() == self.shared().applied.generation() { known.seq() } else { Seq::ZERO };
        let question = state.ask(known, self.shared().clock.boottime());
        let (after, anchors, store) = (question.after, question.anchors(), Arc::clone(&self.store));
        let page: Page = Box::pin(async move { store.tail_beside(after, anchors).await });
        Reading { question, page: Box::pin(maybe_done(page)) }
    }

    async fn take_hint(&self, state: &mut State, hint: Hint, next_read: &mut Instant) {
        let plan = state.on_commit(hint.epoch, hint.changes);
        self.carry_out(plan, hint.committed, next_read).await;
        if self.outlet.take_lost() {
            *next_read = Instant::now();
        }
    }

    async fn take_heard(&self, state: &mut State, heard: Heard, next_read: &mut Instant) {
        let now = self.shared().clock.boottime();
        match heard {
            Heard::Changes(message) => {
                let plan = state.on_hint(message.epoch, message.changes);
                self.carry_out(plan, now, next_read).await;
            }
            Heard::Replica(message) => {
                self.feed.saw(Version { epoch: message.epoch, seq: message.applied });
                self.peers.heard(message, now);
            }
            Heard::RollCall(message) => self.roll_call.heard(message),
            Heard::Reconnected => *next_read = Instant::now(),
        }
    }

    async fn take_page(
        &self,
        state: &mut State,
        (reading, page): (Reading, Result<TailPage, StoreError>),
        stop: &CancellationToken,
    ) -> Next {
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                metrics::counter!("permcast_tail_errors_total").increment(1);
                if let Some(times) = self.shared().troubles.reading.again() {
                    let lag = self.feed.lag();
                    tracing::warn!(error = &error as &dyn std::error::Error, ?lag, times, "cannot read the log");
                }
                if let StoreError::Replaced(_) = error {
                    self.reopen().await;
                }
                return Next::Within(RETRY_AFTER);
            }
        };
        if page.unreadable > 0 {
            metrics::counter!("permcast_log_unreadable_total").increment(u64::from(page.unreadable));
        }
        let (head, seen) = (page.head, page.known.clone());
        let Question { known, begun, .. } = reading.question;
        match state.on_tail(page, reading.question) {
            Verdict::Go(plan) => {
                if let Some(failures) = self.shared().troubles.reading.over() {
                    tracing::info!(failures, "the log is read again");
                }
                let mut soon = Instant::now() + self.settings.poll_interval;
                let usual = soon;
                let generation = self.shared().applied.generation();
                self.cache.saw(&seen);
                let mut more = plan.confirm.is_none().then(|| self.read(state));
                if let Some(more) = &mut more {
                    more.begin().await;
                }
                self.carry_out(plan, begun, &mut soon).await;
                self.shared().tail.send_replace((begun, Stamp::new(generation, head)));
                match more {
                    Some(more) => Next::Reading(more),
                    None if soon < usual => Next::Within(WAKE_MERGE),
                    None => Next::Usual,
                }
            }
            // What was made in it since, it does not know: as if more had been seen of it than it holds.
            Verdict::NewEpoch(epoch) if self.shared().applied.has_lived(epoch) => {
                metrics::counter!("permcast_log_taken_back_total").increment(1);
                if let Some(times) = self.shared().troubles.reading.again() {
                    tracing::error!(%epoch, times, "the database was taken back to an epoch that was over");
                }
                self.reopen().await;
                self.begin_anew(epoch, None).await
            }
            Verdict::NewEpoch(epoch) => {
                metrics::counter!("permcast_epochs_total").increment(1);
                tracing::warn!(%epoch, "the log has begun anew: whatever was read before is stale");
                self.reopen().await;
                // Stale first, then the start of the new log; only then told.
                let Some(begun) = self.begin(stop).await else { return Next::Stop };
                *state = begun;
                self.hub.begin_epoch(self.shared().applied.generation());
                Next::Within(Duration::ZERO)
            }
            Verdict::Behind => {
                metrics::counter!("permcast_log_behind_total").increment(1);
                if let Some(times) = self.shared().troubles.reading.again() {
                    tracing::error!(%head, %known, times, "the log ends before what a token or another replica has shown: this is an \
                         older copy, and is not decided from; where it was put there on purpose, make a backup of it and \
                         restore that");
                }
                self.reopen().await;
                Next::Within(RETRY_AFTER)
            }
            Verdict::TakenBack(seen) => {
                metrics::counter!("permcast_log_taken_back_total").increment(1);
                if let Some(times) = self.shared().troubles.reading.again() {
                    tracing::error!(%head, seen = %seen.seq, times, "the database was taken back: what was read from it or committed \
                         to it is gone");
                }
                self.reopen().await;
                self.begin_anew(state.epoch(), Some(&seen)).await
            }
        }
    }

    /// Nothing of the epoch can be told from what was lost of it, so it ends.
    async fn begin_anew(&self, epoch: Epoch, seen: Option<&Change>) -> Next {
        let (anew, trouble) = (Epoch::from_random(self.random.bytes()), &self.shared().troubles.beginning);
        match self.store.begin_anew(epoch, seen, anew).await {
            Ok(begun) => {
                trouble.over();
                if begun {
                    tracing::warn!(%anew, "a new epoch has begun, and all sessions are over");
                }
                Next::Within(Duration::ZERO)
            }
            Err(error) => {
                if let Some(times) = trouble.again() {
                    tracing::error!(error = &error as &dyn std::error::Error, times, "cannot begin a new epoch yet");
                }
                Next::Within(RETRY_AFTER)
            }
        }
    }

    async fn reopen(&self) {
        let trouble = &self.shared().troubles.reopening;
        match self.store.reopen().await {
            Ok(()) => drop(trouble.over()),
            Err(error) => {
                if let Some(times) = trouble.again() {
                    tracing::error!(error = &error as &dyn std::error::Error, times, "cannot open the database anew");
                }
            }
        }
    }

    /// Floors, then cache, then hub, and only then does it count as applied.
    async fn carry_out(&self, plan: Plan, learnt: Boottime, next_read: &mut Instant) {
        let Plan { apply, applied, confirm, fetch, missing } = plan;
        if missing > 0 {
            metrics::counter!("permcast_log_missing_total").increment(missing);
            tracing::error!(missing, "numbers are missing in the log: taken as changes of everyone");
        }
        if !apply.is_empty() {
            self.apply(&apply, learnt).await;
        }
        let shared = self.shared();
        shared.applied.advance(applied);
        let stamp = shared.applied.stamp();
        shared.known.fetch_max(stamp.to_word(), Ordering::AcqRel);
        if let Some(begun) = confirm {
            let nanos = u64::try_from(begun.0.as_nanos()).unwrap_or(u64::MAX).max(1);
            shared.confirmed.fetch_max(nanos, Ordering::AcqRel);
        }
        shared.advanced.send_if_modified(|seen| {
            let moved = *seen != stamp;
            *seen = stamp;
            moved
        });
        if fetch {
            *next_read = (*next_read).min(Instant::now() + WAKE_MERGE);
        }
    }

    async fn apply(&self, changes: &[Change], learnt: Boottime) {
        let shared = self.shared();
        let generation = shared.applied.generation();
        let mut folded = Vec::new();
        for change in changes {
            folded.extend(self.floors.raise(change, generation));
        }
        self.cache.saw(changes);
        self.cache.evict(changes);
        for kind in [Kind::Keys, Kind::Lockdown] {
            if changes.iter().any(|change| change.target.kind() == kind) {
                self.reload(kind).await;
            }
        }
        if let Some(last) = changes.iter().map(|change| change.seq).max() {
            shared.known.fetch_max(Stamp::new(generation, last).to_word(), Ordering::AcqRel);
        }
        self.hub.tell(changes, generation);
        for folded in &folded {
            self.hub.tell_folded(folded);
        }
        metrics::counter!("permcast_changes_applied_total").increment(changes.len() as u64);
        let now = shared.clock.boottime();
        let mut timeline = self.propagation.timeline.lock().unwrap_or_else(PoisonError::into_inner);
        // Of more than are remembered only the last would stay.
        for change in &changes[changes.len().saturating_sub(REMEMBERED)..] {
            timeline.learnt(change.seq, learnt);
            timeline.applied(change.seq, now);
        }
    }

    /// A change of keys or lockdown counts as applied only when they were read anew; meanwhile nothing is confirmed, so
    /// the bound of staleness holds.
    async fn reload(&self, kind: Kind) {
        while let Err(error) = self.controls.reload(kind).await {
            tracing::error!(error = &error as &dyn std::error::Error, %kind, "cannot read anew what changed");
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    /// Gives up floors that no living token can be below.
    fn fold(&self, folds: &mut Folds) {
        let now = self.shared().clock.boottime();
        let stamp = self.shared().applied.stamp();
        if let Some(horizon) = folds.note(stamp, now, self.settings.remember) {
            self.cache.restamp();
            self.floors.fold(horizon);
        }
        metrics::gauge!("permcast_floors").set(to_f64(self.floors.len()));
    }
}

/// Which position was applied when, in steps of [`FOLD_EVERY`].
#[derive(Default)]
struct Folds {
    steps: std::collections::VecDeque<(Stamp, Boottime)>,
}

impl Folds {
    /// Notes where the replica is now; answers the position that has become too old to matter.
    fn note(&mut self, stamp: Stamp, now: Boottime, remember: Duration) -> Option<Stamp> {
        if self.steps.back().is_some_and(|&(_, at)| now.since(at) < FOLD_EVERY) {
            return None;
        }
        self.steps.push_back((stamp, now));
        let mut horizon = None;
        while let Some(&(stamp, at)) = self.steps.front()
            && now.since(at) > remember
        {
            horizon = Some(stamp);
            self.steps.pop_front();
        }
        horizon
    }
}

async fn finished(reading: &mut Option<Reading>) -> (Reading, Result<TailPage, StoreError>) {
    match reading {
        None => std::future::pending().await,
        Some(under_way) => {
            under_way.page.as_mut().await;
            let page = under_way.page.as_mut().take_output().expect("it is done, and its output taken once");
            let reading = reading.take().expect("it was there a line ago, and this is its only borrower");
            (reading, page)
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge; counts stay far below 2^52")]
fn to_f64(count: usize) -> f64 {
    count as f64
}
