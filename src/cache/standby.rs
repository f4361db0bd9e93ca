//! What a standby of the database is good for: loads, as long as nobody could tell them from older entries of this cache.
//!
//! Something that was read from a standby at a position is exactly what would be held here if it had been loaded from the
//! primary at that position: usable as long as no floor above it has been raised. Where that is not so the primary is asked,
//! and so it is wherever that would not be the whole truth:
//!
//! - The standby follows another history, after a failover that this replica knows nothing of: the last row of its log is not
//!   the one that was applied here. One that is ahead of this replica is not believed either, for the same reason.
//! - It does not know of something (yet): no floor tells when that comes to be.
//!
//! Nothing else rests on a standby: neither how far this replica has come, nor sessions, credentials or writes.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Entry, PermissionCache};
use crate::domain::{Change, Clock, Stamp};
use crate::store::standby::{Sighted, Standby};
use crate::store::{Loaded, StoreError};

/// Rows of the log that are remembered: as far as a standby may be behind.
const REMEMBERED: usize = 4096;
/// After it has failed, the standby is left alone for so long.
const PAUSE: Duration = Duration::from_secs(1);

/// A standby, and what this replica knows of the log.
pub(super) struct Second {
    standby: Arc<dyn Standby>,
    clock: Arc<dyn Clock>,
    /// Digests of the rows that were applied here last.
    pub(super) rows: Mutex<BTreeMap<Stamp, u64>>,
    hasher: RandomState,
    /// Milliseconds of boot time before which it is not asked.
    rests_until: AtomicU64,
}

/// Why the primary was asked after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shortcoming {
    /// A change has touched what was read, since.
    Behind,
    /// What was asked for is not there.
    Absent,
    /// Its log does not end with a row that was applied here.
    OtherLog,
    /// It did not answer, or not in time.
    Failed,
}

impl Shortcoming {
    fn name(self) -> &'static str {
        match self {
            Self::Behind => "behind",
            Self::Absent => "absent",
            Self::OtherLog => "other_log",
            Self::Failed => "failed",
        }
    }
}

impl Second {
    pub(super) fn new(standby: Arc<dyn Standby>, clock: Arc<dyn Clock>) -> Self {
        let (rows, hasher) = (Mutex::default(), RandomState::new());
        Self { standby, clock, rows, hasher, rests_until: AtomicU64::new(0) }
    }

    /// Notes rows of the log that are applied here.
    pub(super) fn note(&self, changes: &[Change], generation: u16) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        for change in &changes[changes.len().saturating_sub(REMEMBERED)..] {
            rows.insert(Stamp::new(generation, change.seq), self.hasher.hash_one(change));
        }
        while rows.len() > REMEMBERED {
            rows.pop_first();
        }
    }

    fn knows(&self, last: &Change, generation: u16) -> bool {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.get(&Stamp::new(generation, last.seq)) == Some(&self.hasher.hash_one(last))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.boottime().0.as_millis()).unwrap_or(u64::MAX)
    }

    fn rest(&self, error: &StoreError) {
        let pause = u64::try_from(PAUSE.as_millis()).unwrap_or(u64::MAX);
        self.rests_until.store(self.now().saturating_add(pause), Ordering::Release);
        tracing::warn!(
            error = error as &dyn std::error::Error,
            "cannot load from the standby; the primary is asked for a second"
        );
    }
}

impl PermissionCache {
    /// The standby, where there is one that is worth being asked.
    pub(super) fn standby(&self) -> Option<&dyn Standby> {
        let second = self.second.as_ref()?;
        (second.rests_until.load(Ordering::Acquire) <= second.now()).then_some(&*second.standby)
    }

    /// An entry made of what the standby says, if that is as good as an entry held here; else of what the primary says.
    pub(super) async fn loaded<T>(
        &self,
        near: Option<impl Future<Output = Result<Sighted<Option<T>>, StoreError>>>,
        far: impl Future<Output = Result<Loaded<Option<T>>, StoreError>>,
        entry: impl Fn(Loaded<Option<T>>) -> Entry<T>,
    ) -> Result<Entry<T>, StoreError> {
        if let (Some(near), Some(second)) = (near, &self.second) {
            let found = match near.await {
                Ok(sighted) => self.as_good(second, sighted, &entry),
                Err(error) => {
                    second.rest(&error);
                    Err(Shortcoming::Failed)
                }
            };
            let outcome = found.as_ref().map_or_else(|why| why.name(), |_| "used");
            metrics::counter!("permcast_standby_loads_total", "outcome" => outcome).increment(1);
            if let Ok(found) = found {
                return Ok(found);
            }
        }
        Ok(entry(far.await?))
    }

    fn as_good<T>(
        &self,
        second: &Second,
        Sighted { loaded, last }: Sighted<Option<T>>,
        entry: impl Fn(Loaded<Option<T>>) -> Entry<T>,
    ) -> Result<Entry<T>, Shortcoming> {
        if loaded.value.is_none() {
            return Err(Shortcoming::Absent);
        }
        let stamp = self.applied.stamp_of(loaded.version).ok_or(Shortcoming::OtherLog)?;
        if !last.is_some_and(|last| last.seq == stamp.seq() && second.knows(&last, stamp.generation())) {
            return Err(Shortcoming::OtherLog);
        }
        let entry = entry(loaded);
        if self.floors.is_fresh(&entry.basis) { Ok(entry) } else { Err(Shortcoming::Behind) }
    }
}
