//! The connection that writes, and how a batch is done on it.
//!
//! A batch is one transaction. Its first statement locks the log, so what is decided in it rests on all that was committed
//! before, and the order of `seq` is the order of commits, over all replicas. It is done without savepoints at first, for
//! each is a trip to the server; where a statement fails, the batch is done once more with one around each job.
//!
//! A commit whose answer did not come may have been done. Each batch notes in its own transaction which one it is, and on
//! another connection the database is asked for the last one that it has. Where it has not that one, and another server answers
//! by now, nobody is told whether it was done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Column as _, Row as _};
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};

use crate::domain::{Epoch, Origin, Random};
use crate::store::StoreError;
use crate::store::sql::failure::{Reach, reach};
use crate::store::sql::statement::{Arg, Ask as _, OwnRow, Statements, args, get, parsed, statements};
use crate::store::sql::writer::{Batch, Committed, Guard, Pen};

use super::place::{Place, Server, refined, server};
use super::query::{owned, query};
use super::script::script;

/// How often a batch is done anew that met another transaction.
const TRIES: u32 = 5;
/// How often to ask what became of a commit.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// Before a batch of which nothing must outlive a power cut: the disk is not waited for.
const LIGHTLY: &str = "SET LOCAL synchronous_commit = off; ";

/// What writes into a database of PostgreSQL.
pub(super) struct ServerPen {
    place: Arc<Place>,
    /// Counts how often the database was opened anew.
    opened: Arc<AtomicU64>,
    runtime: Runtime,
    held: Option<Held>,
    /// By what the database knows this process, and counts its batches.
    writer: i64,
    batches: i64,
}

struct Held {
    opened: u64,
    connection: PgConnection,
}

/// A transaction that was begun.
struct Begun {
    epoch: Epoch,
    batch: i64,
    server: Option<Server>,
}

/// What became of a transaction whose commit was not answered.
enum Fate {
    /// It was done; asked on this connection.
    Committed(Box<PgConnection>),
    Aborted,
    /// The server that answers does not have it, and is not the one that was asked to commit.
    Untold,
}

impl ServerPen {
    pub(super) fn new(place: Arc<Place>, opened: Arc<AtomicU64>, random: &dyn Random) -> std::io::Result<Self> {
        // Its own, on the writer's thread: who writes waits for the server, and for nothing else.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let writer = i64::from_le_bytes(random.bytes());
        Ok(Self { place, opened, runtime, held: None, writer, batches: 0 })
    }

    /// Does something within the deadline.
    fn wait<T>(&self, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
        wait(&self.runtime, self.place.deadline, work)
    }

    fn connect(&mut self) -> Result<Held, sqlx::Error> {
        let opened = self.opened.load(Ordering::Acquire);
        if let Some(held) = self.held.take().filter(|held| held.opened == opened) {
            return Ok(held);
        }
        let connection = self.wait(self.place.connect(true))?;
        Ok(Held { opened, connection })
    }

    /// Begins a transaction, and waits for the log's lock as long as somebody waits for a job. A connection that was lost
    /// while it was idle is replaced.
    fn begin(&mut self, held: &mut Held, batch: &mut Batch<'_>) -> Result<Begun, sqlx::Error> {
        let settings = if batch.lasts() { "" } else { LIGHTLY };
        let mut fresh = false;
        loop {
            match self.begin_once(held, settings) {
                Ok(begun) => {
                    let same = self.place.recognise(begun.server);
                    return same.map(|()| begun).map_err(|error| sqlx::Error::Configuration(error.into()));
                }
                Err(error) => match reach(&error) {
                    Reach::Wait | Reach::Again => {
                        batch.dismiss_late();
                        if batch.is_empty() {
                            return Err(error);
                        }
                        self.roll_back(held)?;
                    }
                    Reach::Whole if !fresh => {
                        held.connection = self.wait(self.place.connect(true))?;
                        fresh = true;
                    }
                    Reach::Whole | Reach::Statement => return Err(error),
                },
            }
        }
    }

    /// One message to the server.
    fn begin_once(&mut self, held: &mut Held, settings: &str) -> Result<Begun, sqlx::Error> {
        self.batches += 1;
        let (writer, batch) = (self.writer, self.batches);
        let sql = format!(
            concat!(
                "BEGIN; {}SELECT b.epoch, server.standby, server.system, server.timeline FROM begin_batch({}, {}) b CROSS JOIN ",
                server!()
            ),
            settings, writer, batch
        );
        self.wait(async {
            let row = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(&mut held.connection).await?;
            Ok(Begun { epoch: parsed(&row, "epoch")?, batch, server: Server::read(&row)? })
        })
    }

    fn roll_back(&self, held: &mut Held) -> Result<(), sqlx::Error> {
        self.wait(async { query("ROLLBACK", vec![]).execute(&mut held.connection).await.map(drop) })
    }

    fn try_commit(&mut self, held: &mut Held, batch: &mut Batch<'_>) -> Result<Committed, StoreError> {
        let mut guard = Guard::Units;
        let mut tries = TRIES;
        loop {
            let begun = self.begin(held, batch).map_err(refined("waiting for the log's lock"))?;
            let mut asked =
                Asked { runtime: &self.runtime, deadline: self.place.deadline, connection: &mut held.connection };
            let error = match batch.run(&mut asked, begun.epoch, guard) {
                Ok(changes) => match self.end(held, &begun) {
                    Ok(()) => return Ok(Committed { epoch: begun.epoch, changes, others: false }),
                    Err(error) if reach(&error) == Reach::Again && tries > 0 => error,
                    Err(error) => return Err(refined("committing")(error)),
                },
                Err(error) => error,
            };
            match reach(&error) {
                Reach::Again if tries > 0 => tries -= 1,
                Reach::Statement | Reach::Wait if guard == Guard::Units => guard = Guard::Jobs,
                _ => return Err(refined("writing")(error)),
            }
            self.roll_back(held).map_err(refined("writing"))?;
        }
    }

    /// Commits; where no answer comes, finds out whether it was done.
    fn end(&self, held: &mut Held, begun: &Begun) -> Result<(), sqlx::Error> {
        let committed = self.wait(async { query("COMMIT", vec![]).execute(&mut held.connection).await.map(drop) });
        let Err(error) = committed else { return Ok(()) };
        if was_refused(&error) {
            return Err(error);
        }
        tracing::warn!(error = &error as &dyn std::error::Error, "a commit was not answered: finding out");
        match self.wait(self.committed(begun)) {
            Ok(Fate::Committed(connection)) => {
                held.connection = *connection;
                Ok(())
            }
            Ok(Fate::Aborted) => Err(error),
            Ok(Fate::Untold) | Err(_) => {
                let undecided = StoreError::Undecided("the server did not answer the commit, and does not know of it");
                Err(sqlx::Error::Configuration(undecided.into()))
            }
        }
    }

    /// What became of that transaction. Asks as long as it is under way and no server answers.
    async fn committed(&self, begun: &Begun) -> Result<Fate, sqlx::Error> {
        const LAST: &str = concat!(
            "SELECT server.standby, server.system, server.timeline, l.batch FROM last_batch($1) l CROSS JOIN ",
            server!()
        );
        loop {
            let asked = async {
                let mut connection = self.place.connect(true).await?;
                // Answered when it is committed itself.
                let row = connection.one(LAST, args![self.writer]).await?;
                let (server, last) = (Server::read(&row)?, get::<Option<i64>>(&row, "batch")?);
                Ok::<_, sqlx::Error>((server, last, connection))
            };
            if let Ok((server, last, connection)) = asked.await {
                return Ok(match last {
                    Some(last) if last == begun.batch => Fate::Committed(Box::new(connection)),
                    _ if server == begun.server => Fate::Aborted,
                    _ => Fate::Untold,
                });
            }
            sleep(ASK_EVERY).await;
        }
    }
}

/// Whether the server said of a COMMIT that it was not done: whatever it says, but that it goes down.
fn was_refused(error: &sqlx::Error) -> bool {
    let state = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    state.is_some_and(|state| !["57", "58", "XX"].contains(&state.get(..2).unwrap_or_default()))
}

impl Pen for ServerPen {
    fn commit(&mut self, batch: &mut Batch<'_>) -> Result<Committed, StoreError> {
        let mut held = self.connect().map_err(refined("connecting to the database"))?;
        let committed = self.try_commit(&mut held, batch)?;
        self.held = Some(held);
        Ok(committed)
    }

    fn let_go(&mut self) {
        self.held = None;
    }
}

fn wait<T>(
    runtime: &Runtime,
    deadline: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    runtime.block_on(async { timeout(deadline, work).await }).unwrap_or_else(|_| {
        Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "the server did not answer in time")))
    })
}

/// A connection that is asked from a thread which waits.
struct Asked<'a> {
    runtime: &'a Runtime,
    deadline: Duration,
    connection: &'a mut PgConnection,
}

impl Statements for Asked<'_> {
    fn all(&mut self, sql: &'static str, args: &[Arg]) -> Result<Vec<OwnRow>, sqlx::Error> {
        let mut found = Vec::new();
        for statement in statements(sql) {
            let asked = query(statement, args.to_vec()).fetch_all(&mut *self.connection);
            found.extend(kept(&wait(self.runtime, self.deadline, asked)?));
        }
        Ok(found)
    }

    fn operate(
        &mut self,
        origin: &Origin,
        _: bool,
        sql: &'static str,
        args: &[Arg],
    ) -> Result<Vec<OwnRow>, sqlx::Error> {
        // What the first one says and the last one asks for is the function's own.
        let mut own: Vec<_> = statements(sql).skip(1).collect();
        own.pop();
        let asked = script(origin, &own, args).fetch_all(&mut *self.connection);
        Ok(kept(&wait(self.runtime, self.deadline, asked)?))
    }
}

fn kept(rows: &[PgRow]) -> Vec<OwnRow> {
    let Some(first) = rows.first() else { return Vec::new() };
    let columns: Arc<[String]> = first.columns().iter().map(|column| column.name().to_owned()).collect();
    let values = |row| (0..columns.len()).map(|at| owned(row, at)).collect();
    rows.iter().map(|row| OwnRow { columns: Arc::clone(&columns), values: values(row) }).collect()
}

#[cfg(test)]
#[path = "pen_tests.rs"]
mod tests;
