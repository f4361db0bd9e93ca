//! The store on PostgreSQL: any number of replicas on any number of hosts.
//!
//! - [`place`]: the server, its connections, migrations; which server is the one to trust
//! - [`query`]: statements on SQLx's connections
//! - [`pen`]: how a batch of writes is done, and what became of a commit that was not answered
//! - [`script`]: several statements in one trip
//! - [`log`]: the log's tail
//! - [`standby`]: a second server, which follows and is only read from
//!
//! Nobody is woken by the database. NOTIFY takes a lock that is one for all databases of a server from before a commit to
//! after it, so that commits that notify go one after another, and the disk is waited for inside of that; done outside of
//! the transaction it would be one more trip and one more commit for each, for the sake of replicas that have no broker.
//! Those that have one hear of a commit from it; those that have none poll.

mod log;
mod pen;
mod place;
mod query;
mod script;
mod standby;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{Connection as _, Postgres as Sql, Transaction};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::domain::{Change, Clock, Epoch, Random, Seq, Timestamp, Version};

use super::sql::anew::{Beginning, begin, begin_where_taken_back};
use super::sql::log::seq;
use super::sql::statement::{Ask as _, get, parsed};
use super::sql::store::{Engine, SqlStore};
use super::{Restored, StoreError, StoreOptions, TailPage};
use pen::ServerPen;
use place::{Place, refined};
use query::is_lost;

pub use standby::PostgresStandby;

/// What the server computes for a refresh, which goes to it twice while it has the log's lock. Measured.
const REFRESH_WORK: Duration = Duration::from_micros(150);
/// More trips tell nothing more. In the first, the statement is prepared.
const TRIPS_MEASURED: usize = 16;

/// A database on a server.
pub type PostgresStore = SqlStore<Postgres>;

/// A connection for writing to a database whose schema is up to date; also to one that another is moved into.
pub(super) async fn for_a_move(
    address: &str,
    deadline: Duration,
    random: &dyn Random,
) -> Result<PgConnection, StoreError> {
    let place = Place::new(address, deadline)?;
    place.migrated(random).await?;
    place.in_time("opening the database", place.connect(true)).await
}

/// The server and the connections to it.
pub struct Postgres {
    place: Arc<Place>,
    readers: ArcSwap<Readers>,
    /// The connection that the tail is read on. Whoever reads takes it out, so that one which is given up midway is gone.
    tail: Mutex<Option<PgConnection>>,
    /// Counts how often the database was opened anew: by it the writer knows that it must, too.
    opened: Arc<AtomicU64>,
    /// Connections for reading at most.
    most: u32,
}

/// Connections for reading.
struct Readers {
    pool: PgPool,
    /// Counts up with each that takes the place of another.
    number: u64,
    /// How often the place had shown another server.
    turns: u64,
}

impl PostgresStore {
    /// Opens the database at `postgres://…`; migrates it where that is to be done, and draws the epoch of a new one.
    pub async fn open(
        address: &str,
        most: u32,
        options: StoreOptions,
        clock: Arc<dyn Clock>,
        random: &dyn Random,
    ) -> Result<Self, StoreError> {
        let place = Arc::new(Place::new(address, options.deadline)?);
        place.prepare(random).await?;
        let opened = Arc::new(AtomicU64::new(0));
        let pen = ServerPen::new(Arc::clone(&place), Arc::clone(&opened), random)
            .map_err(|error| StoreError::Unusable(format!("no thread for the writer: {error}")))?;
        let readers = Readers { pool: place.readers(most), number: 0, turns: place.turns() };
        let readers = ArcSwap::from_pointee(readers);
        Ok(Self::start(Postgres { place, readers, tail: Mutex::default(), opened, most }, pen, options, clock))
    }
}

impl PostgresStore {
    /// Begins a new epoch after a backup was put back by PostgreSQL's own tools: a new seal, and unless they are to be kept
    /// no session goes on.
    pub async fn restored(
        address: &str,
        keep_sessions: bool,
        deadline: Duration,
        clock: &dyn Clock,
        random: &dyn Random,
    ) -> Result<Restored, StoreError> {
        const COUNT: &str = "SELECT epoch, (SELECT COALESCE(MAX(seq), 0) FROM changes) AS head, \
             (SELECT count(*) FROM users) AS users FROM meta";
        let place = Arc::new(Place::new(address, deadline)?);
        place.prepare(random).await?;
        let beginning = Beginning { actor: "cli", summary: "restored from a backup", keep_sessions };
        let anew = Epoch::from_random(random.bytes());
        place
            .in_time("beginning the log anew", async {
                let mut connection = place.connect(true).await?;
                let mut transaction = connection.begin().await?;
                let ask = &mut *transaction;
                ask.all("SELECT epoch FROM lock_log()", vec![]).await?;
                let before = ask.one(COUNT, vec![]).await?;
                begin(ask, anew, clock.now(), beginning).await?;
                let after = ask.one(COUNT, vec![]).await?;
                let version =
                    |row| Ok::<_, sqlx::Error>(Version { epoch: parsed(row, "epoch")?, seq: seq(row, "head")? });
                let users = get::<i64>(&after, "users")?.unsigned_abs();
                let restored = Restored { before: Some(version(&before)?), after: version(&after)?, users };
                transaction.commit().await?;
                Ok(restored)
            })
            .await
    }
}

impl Postgres {
    /// Has reads go to connections that are made from now on; gives those that they went to.
    fn renew(&self, turns: u64) -> Arc<Readers> {
        let number = self.readers.load().number + 1;
        self.readers.swap(Arc::new(Readers { pool: self.place.readers(self.most), number, turns }))
    }

    /// The same for writes, too.
    fn turn(&self) -> Arc<Readers> {
        let turns = self.place.turns();
        self.opened.fetch_add(1, Ordering::AcqRel);
        self.renew(turns)
    }
}

impl Engine for Postgres {
    type Readers = PgPool;
    type Snapshot = Transaction<'static, Sql>;
    type Opened = u64;

    fn readers(&self) -> (PgPool, u64) {
        let readers = self.readers.load();
        (readers.pool.clone(), readers.number)
    }

    async fn snapshot(readers: PgPool) -> Result<Self::Snapshot, sqlx::Error> {
        const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        match readers.begin_with(BEGIN).await {
            // The pool drops what it finds lost; the next one may do.
            Err(error) if is_lost(&error) => readers.begin_with(BEGIN).await,
            begun => begun,
        }
    }

    fn check(&self, _: u64) -> Result<(), StoreError> {
        Ok(())
    }

    fn suspect(&self, number: u64) {
        // One that answers no more is waited for again as it goes back to its pool, for as long as TCP has patience.
        let readers = self.readers.load();
        if readers.number == number {
            drop(self.renew(readers.turns));
        }
    }

    async fn tail(&self, after: Seq, anchors: [Seq; 2]) -> Result<TailPage, StoreError> {
        const DOING: &str = "reading the log's tail";
        let mut held = self.tail.lock().await;
        let before = held.take();
        let idle = before.is_some();
        let mut connection = match before {
            Some(connection) => connection,
            None => self.place.connect(false).await.map_err(refined(DOING))?,
        };
        let read = match log::tail(&mut connection, after, anchors).await {
            // It may have been lost while nobody used it.
            Err(error) if idle && is_lost(&error) => {
                connection = self.place.connect(false).await.map_err(refined(DOING))?;
                log::tail(&mut connection, after, anchors).await
            }
            read => read,
        };
        let (server, page) = read.map_err(refined(DOING))?;
        self.place.recognise(server)?;
        *held = Some(connection);
        // Another server has taken over: what leads to the one before is let go, and not found out one by one.
        if self.readers.load().turns != self.place.turns() {
            drop(self.turn());
        }
        Ok(page)
    }

    async fn begin_anew(
        &self,
        epoch: Epoch,
        seen: Option<&Change>,
        anew: Epoch,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.place
            .in_time("beginning the log anew", async {
                let mut connection = self.place.connect(true).await?;
                // Dropped without a commit, it rolls back.
                let mut transaction = connection.begin().await?;
                (*transaction).all("SELECT epoch FROM lock_log()", vec![]).await?;
                if !begin_where_taken_back(&mut *transaction, (epoch, seen), anew, now).await? {
                    return Ok(false);
                }
                transaction.commit().await?;
                Ok(true)
            })
            .await
    }

    async fn reopen(&self) -> Result<(), StoreError> {
        const DOING: &str = "opening the database";
        // Where nothing answers, what is open stays.
        let connection = self.place.in_time(DOING, self.place.connect(false)).await?;
        *self.tail.lock().await = Some(connection);
        let old = self.turn();
        let closed = timeout(self.place.deadline, old.pool.close()).await;
        closed.map_err(|_| StoreError::Unavailable { doing: "closing the old connections", source: None })
    }

    async fn refresh_takes(&self, within: Duration, clock: Arc<dyn Clock>) -> Option<Duration> {
        let mut trips = Vec::new();
        let measuring = async {
            let mut connection = self.place.connect(false).await?;
            for _ in 0..=TRIPS_MEASURED {
                let begun = clock.boottime();
                connection.all("SELECT 1", vec![]).await?;
                trips.push(clock.boottime().since(begun));
            }
            Ok::<_, sqlx::Error>(())
        };
        // One that has not answered by then says nothing of the way to it.
        let _ = timeout(self.place.deadline.min(within * 10), measuring).await;
        trips.into_iter().min().map(|trip| trip * 2 + REFRESH_WORK)
    }

    async fn close(&self) {
        drop(self.tail.lock().await.take());
        self.readers.load().pool.close().await;
    }
}

#[cfg(test)]
mod order_tests;
#[cfg(test)]
mod relay;
#[cfg(test)]
mod shell_tests;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trips_tests;
