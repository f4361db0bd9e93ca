//! Reads both accounts, and says where they differ.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::state::{Account, Difference, Next, State, Verdict, compare, suspect, what};
use crate::cache::{PermissionCache, Subject};
use crate::domain::{Boottime, Clock, Floors, Random};
use crate::feed::Feed;
use crate::hub::{Hub, Seen, Told};
use crate::store::{Store, StoreError};

/// Longest wait for the feed to apply what was read.
const APPLIED_WITHIN: Duration = Duration::from_millis(500);
/// Time for one look.
const LOOK_WITHIN: Duration = Duration::from_secs(2);
/// Sessions of one user that are looked through.
const SESSIONS_MAX: u32 = 1000;

/// All that is compared.
pub struct SelfCheck {
    pub store: Arc<dyn Store>,
    pub floors: Arc<Floors>,
    pub cache: Arc<PermissionCache>,
    pub hub: Arc<Hub>,
    pub feed: Feed,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    /// The bound of staleness: past it the database has other worries, and nothing held is used.
    pub max_staleness: Duration,
}

/// Looks so many times a second until told to stop.
pub async fn run(check: SelfCheck, per_second: u32, stop: CancellationToken) {
    let pause = Duration::from_secs(1) / per_second.max(1);
    let mut state = State::default();
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        if check.feed.lag() > check.max_staleness {
            continue;
        }
        if tokio::time::timeout(LOOK_WITHIN, check.look(&mut state)).await.is_err() {
            skipped("slow");
        }
    }
}

fn skipped(why: &'static str) {
    metrics::counter!("permcast_audit_skipped_total", "why" => why).increment(1);
}

fn count(what: &'static str, verdict: &Verdict) {
    match verdict {
        Verdict::Skipped(why) => return skipped(why),
        Verdict::Agrees => {}
        Verdict::Differs(_) => metrics::counter!("permcast_audit_mismatches_total", "what" => what).increment(1),
    }
    metrics::counter!("permcast_audit_checked_total", "what" => what).increment(1);
}

impl SelfCheck {
    async fn look(&self, state: &mut State) {
        match state.next() {
            Next::Draw => {
                self.cache.each_subject(|subject| state.offer(subject, self.number()));
                state.drawn();
            }
            Next::Subject(subject) => self.look_at_entry(&subject).await,
            Next::Connection => {
                if let Some(seen) = self.hub.some(self.number()) {
                    self.look_at_connection(state, seen, None).await;
                }
            }
            Next::Suspect(suspect) => self.look_at_connection(state, suspect.seen, Some(suspect.since)).await,
        }
    }

    fn number(&self) -> u64 {
        u64::from_le_bytes(self.random.bytes())
    }

    /// What is held and fresh holds as of every position that is applied. So once the position of the read is, and the
    /// floors still call it fresh, no change lies between the two, and they must agree.
    async fn look_at_entry(&self, subject: &Subject) {
        let Some(held) = self.cache.held(subject) else { return };
        let verdict = match self.cache.read_anew(subject, &held).await {
            Err(error) => unavailable(&error),
            Ok(None) => Verdict::Skipped("changed"),
            Ok(Some((version, read))) => {
                if self.feed.wait_for(version, APPLIED_WITHIN).await.is_err() {
                    Verdict::Skipped("behind")
                } else if self.cache.would_use(&held) {
                    let difference = compare(&held.content, &read);
                    if let Some(difference) = difference {
                        tracing::error!(
                            ?subject, %difference, held = ?held.content, held_at = %self.feed.version_of(held.stamp()),
                            ?read, read_at = %version,
                            "self-check: what is held is not what the database says, and no change says why; forgotten"
                        );
                        // Whatever the reason, it is not used again.
                        self.cache.forget(subject);
                    }
                    difference.map_or(Verdict::Agrees, Verdict::Differs)
                } else {
                    Verdict::Skipped("changed")
                }
            }
        };
        count(what(subject), &verdict);
    }

    async fn look_at_connection(&self, state: &mut State, seen: Seen, since: Option<Boottime>) {
        let found = match self.found_of(&seen).await {
            Ok(Ok(found)) => found,
            Ok(Err(why)) => return skipped(why),
            Err(error) => return count("connection", &unavailable(&error)),
        };
        let holder = seen.holder.clone();
        let rests_on = self.feed.version_of(seen.footing.access);
        let verdict = state.judge(seen, since, found, self.clock.boottime());
        if let Verdict::Differs(difference) = &verdict {
            tracing::error!(
                tenant = %holder.tenant, user = %holder.user, %difference, %rests_on, applied = %self.feed.applied(),
                "self-check: a connection rests on what the database does not say, and its client was not told"
            );
        }
        count("connection", &verdict);
    }

    /// In what a connection differs from the database without its client being told.
    async fn found_of(&self, seen: &Seen) -> Result<Result<Option<Difference>, &'static str>, StoreError> {
        let (tenant, user) = (&seen.holder.tenant, &seen.holder.user);
        // The sessions first, so that the version that is waited for is not below the read of them.
        let sessions = self.store.sessions(tenant, user, None, SESSIONS_MAX).await?;
        let sessions = sessions
            .next
            .is_none()
            .then(|| sessions.items.iter().map(|session| self.floors.session_key(&session.id)).collect::<Vec<_>>());
        let Some((version, access)) = self.cache.read_user(tenant, user).await? else { return Ok(Err("changed")) };
        if self.feed.wait_for(version, APPLIED_WITHIN).await.is_err() {
            return Ok(Err("behind"));
        }
        let told = self.hub.told(seen);
        if told == Told::Gone {
            return Ok(Err("changed"));
        }
        let account = Account {
            operator: access.as_ref().is_some_and(|(access, _)| access.permissions.is_operator()),
            roles: access.map(|(access, _)| access.roles.iter().map(|role| self.floors.role_key(role)).collect()),
            sessions,
        };
        let found = suspect(&seen.footing, &account, told);
        let is_over = |at| at <= self.clock.now();
        if found.is_some() && self.store.next_expiry().await?.is_some_and(is_over) {
            // What is over is read by nobody any more, and the change that tells of it comes with its deletion.
            return Ok(Err("unsettled"));
        }
        Ok(Ok(found))
    }
}

fn unavailable(error: &StoreError) -> Verdict {
    tracing::debug!(%error, "self-check: the database did not answer");
    Verdict::Skipped("unavailable")
}
