//! The store on SQLite: one file, one writer at a time, any number of processes on one host.
//!
//! - [`place`]: the file, its connections, migrations
//! - [`direct`], [`query`]: statements on the thread that asks, and on connections that SQLx keeps
//! - [`writer`]: how a batch of writes is done
//! - [`log`]: the log's tail
//! - [`disk`]: how long the disk takes
//! - [`restore`], [`anew`]: a backup is put back, and the log begins anew

mod anew;
mod direct;
mod disk;
mod log;
mod place;
mod query;
mod restore;
mod writer;

use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use sqlx::{Sqlite as Sql, Transaction};
use tokio::time::timeout;

use crate::domain::{Change, Clock, Epoch, Random, Seq, Timestamp};

use super::sql::failure::failed;
use super::sql::store::{Engine, SqlStore};
use super::{Restored, StoreError, StoreOptions, TailPage};
use place::{Files, Open, Place};
use writer::FilePen;

/// Refreshes that share a commit under load; what else they take is far less than the disk does.
const SHARE_A_COMMIT: u32 = 32;

/// A database in one file.
pub type SqliteStore = SqlStore<Sqlite>;

/// A database that is there already, also one that was moved.
pub(super) struct Existing {
    place: Place,
    pub(super) connection: SqliteConnection,
}

impl Existing {
    pub(super) async fn open(address: &str, deadline: Duration) -> Result<Self, StoreError> {
        let place = Place::new(address, deadline)?;
        let connection = place.existing().await?;
        Ok(Self { place, connection })
    }

    /// Begins a transaction, with the writer's lock or only to read; the schema is up to date in it.
    pub(super) async fn begin(&mut self, to_write: bool) -> Result<(), StoreError> {
        if to_write {
            self.place.lock(&mut self.connection).await?;
        } else {
            let begun = sqlx::query("BEGIN").execute(&mut self.connection).await;
            begun.map_err(failed("reading the schema"))?;
        }
        self.place.is_up_to_date(&mut self.connection).await
    }
}

/// The file and what is open of it.
pub struct Sqlite {
    place: Place,
    open: Arc<ArcSwap<Open>>,
}

impl SqliteStore {
    /// Opens the database at `sqlite://<path>` or a path; creates and migrates it where that is to be done, and draws the
    /// epoch of a new one.
    pub async fn open(
        address: &str,
        options: StoreOptions,
        clock: Arc<dyn Clock>,
        random: &dyn Random,
    ) -> Result<Self, StoreError> {
        Self::at(Place::new(address, options.deadline)?, options, clock, random).await
    }

    /// Writes a copy of the database, of one moment, while it is in use. Nothing may be at `path` yet.
    pub async fn backup(&self, path: &Path) -> Result<(), StoreError> {
        if path.exists() {
            return Err(StoreError::Unusable(format!("{} exists already", path.display())));
        }
        let Some(text) = path.to_str() else {
            return Err(StoreError::Unusable("the path of a backup must be UTF-8".to_owned()));
        };
        self.engine.place.copy_to(text).await
    }

    /// Puts a backup in the place of the database at `address`, while it is in use or where there is none yet: a new epoch,
    /// a new seal, and unless they are to be kept no session goes on.
    pub async fn restore(
        address: &str,
        backup: &Path,
        keep_sessions: bool,
        deadline: Duration,
        clock: &dyn Clock,
        random: &dyn Random,
    ) -> Result<Restored, StoreError> {
        Place::new(address, deadline)?.restore(backup, keep_sessions, clock.now(), random).await
    }

    async fn at(
        place: Place,
        options: StoreOptions,
        clock: Arc<dyn Clock>,
        random: &dyn Random,
    ) -> Result<Self, StoreError> {
        place.prepare(random).await?;
        let open = Arc::new(ArcSwap::from_pointee(place.open(None).await?));
        let pen = FilePen::new(place.clone(), Arc::clone(&open));
        Ok(Self::start(Sqlite { place, open }, pen, options, clock))
    }
}

impl Engine for Sqlite {
    type Readers = SqlitePool;
    type Snapshot = Transaction<'static, Sql>;
    type Opened = Files;

    fn readers(&self) -> (SqlitePool, Files) {
        let open = self.open.load();
        (open.readers.clone(), open.files)
    }

    async fn snapshot(readers: SqlitePool) -> Result<Self::Snapshot, sqlx::Error> {
        readers.begin().await
    }

    fn check(&self, opened: Files) -> Result<(), StoreError> {
        self.place.check(opened)
    }

    fn suspect(&self, _: Files) {
        // A file does not vanish without a word.
    }

    async fn tail(&self, after: Seq, anchors: [Seq; 2]) -> Result<TailPage, StoreError> {
        const DOING: &str = "reading the log's tail";
        let (open, place) = (self.open.load_full(), self.place.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let connection = open.tail.lock().unwrap_or_else(PoisonError::into_inner);
            place.check(open.files)?;
            let page = log::tail(&connection, after, anchors).map_err(failed(DOING))?;
            // Once more: it may have been replaced meanwhile.
            place.check(open.files)?;
            Ok(page)
        });
        reading.await.map_err(|error| StoreError::Unavailable { doing: DOING, source: Some(Box::new(error)) })?
    }

    async fn begin_anew(
        &self,
        epoch: Epoch,
        seen: Option<&Change>,
        anew: Epoch,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let opened = self.open.load().files;
        self.place.begin_anew(opened, (epoch, seen), anew, now).await
    }

    async fn reopen(&self) -> Result<(), StoreError> {
        let before = self.open.load().files;
        let old = self.open.swap(Arc::new(self.place.open(Some(before)).await?));
        // The writer follows by itself: it compares files before each batch.
        let closed = timeout(self.place.deadline, old.readers.close()).await;
        closed.map_err(|_| StoreError::Unavailable { doing: "closing the old database", source: None })
    }

    async fn refresh_takes(&self, within: Duration, clock: Arc<dyn Clock>) -> Option<Duration> {
        let place = self.place.clone();
        let measured = tokio::task::spawn_blocking(move || disk::takes(place.path(), within, &*clock));
        // A disk that has not answered by then is at least so slow; the write is not waited for.
        let write = match timeout(within * 2, measured).await {
            Ok(Ok(takes)) => takes.ok(),
            Ok(Err(_)) => None,
            Err(_) => Some(within * 2),
        };
        write.map(|write| write / SHARE_A_COMMIT)
    }

    async fn close(&self) {
        self.open.load().readers.close().await;
    }
}

#[cfg(test)]
mod file_tests;
#[cfg(test)]
mod shell_tests;
#[cfg(test)]
mod tests;
