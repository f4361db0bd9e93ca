//! The connection that writes, and how a batch is done on it.
//!
//! A batch is one transaction. Its first statement locks the log, so what is decided in it rests on all that was committed
//! before, and the order of `seq` is the order of commits, over all replicas. It is done without savepoints at first, for
//! each is a trip to the server; where a statement fails, the batch is done once more with one around each job.
//!
//! A commit whose answer did not come may have been done. Each batch notes in its own transaction that it was, and on another
//! connection the database is asked for that note. Where there is none, and another server answers by now, nobody is told
//! whether it was done.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnection, PgDatabaseError, PgRow, PgSeverity};
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
/// Deadlines that one operation may take of which the server says that it is at it: enough for what a million rows hang on.
const LONGEST: u32 = 24;

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
    /// The server's process for this connection.
    process: i64,
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
                "BEGIN ISOLATION LEVEL READ COMMITTED; {}SELECT b.epoch, pg_backend_pid()::bigint AS process, \
                     server.standby, server.system, server.timeline FROM begin_batch({}, {}) b CROSS JOIN ",
                server!()
            ),
            settings, writer, batch
        );
        self.wait(async {
            let row = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(&mut held.connection).await?;
            let (epoch, process) = (parsed(&row, "epoch")?, get(&row, "process")?);
            Ok(Begun { epoch, batch, server: Server::read(&row)?, process })
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
            let mut asked = Asked {
                runtime: &self.runtime,
                place: &self.place,
                process: begun.process,
                connection: &mut held.connection,
            };
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
        const FIND: &str = concat!(
            "SELECT server.standby, server.system, server.timeline, b.done FROM find_batch($1, $2) b CROSS JOIN ",
            server!()
        );
        loop {
            let asked = async {
                let mut connection = self.place.connect(true).await?;
                // Answered when it is committed itself.
                let row = connection.one(FIND, args![self.writer, begun.batch]).await?;
                let (server, found) = (Server::read(&row)?, get::<bool>(&row, "done")?);
                Ok::<_, sqlx::Error>((server, found, connection))
            };
            if let Ok((server, found, connection)) = asked.await {
                return Ok(match found {
                    true => Fate::Committed(Box::new(connection)),
                    false if server == begun.server => Fate::Aborted,
                    false => Fate::Untold,
                });
            }
            sleep(ASK_EVERY).await;
        }
    }
}

/// Whether the server said of a COMMIT that it was not done: an error after which it goes on. What ends the connection may
/// come after the commit, and from something between.
fn was_refused(error: &sqlx::Error) -> bool {
    let said = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    said.is_some_and(|said| {
        let unclear = ["57", "58", "XX"].iter().any(|class| said.code().starts_with(class));
        said.severity() == PgSeverity::Error && !unclear
    })
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
    runtime.block_on(async { timeout(deadline, work).await }).unwrap_or_else(|_| Err(late()))
}

fn late() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "the server did not answer in time"))
}

/// A connection that is asked from a thread which waits.
struct Asked<'a> {
    runtime: &'a Runtime,
    place: &'a Place,
    process: i64,
    connection: &'a mut PgConnection,
}

/// Waits past the deadline as long as the server says on another connection that this process of its works: what hangs on a
/// tenant or a role may be much.
async fn patiently<T>(
    place: &Place,
    process: i64,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let mut work = pin!(work);
    for _ in 0..LONGEST {
        if let Ok(done) = timeout(place.deadline, &mut work).await {
            return done;
        }
        if !place.is_at_work(process).await {
            break;
        }
    }
    // It may have answered while the other was asked.
    timeout(place.deadline / 10, &mut work).await.unwrap_or_else(|_| Err(late()))
}

impl Statements for Asked<'_> {
    fn all(&mut self, sql: &'static str, args: &[Arg]) -> Result<Vec<OwnRow>, sqlx::Error> {
        let mut found = Vec::new();
        for statement in statements(sql) {
            let asked = query(statement, args.to_vec()).fetch_all(&mut *self.connection);
            found.extend(kept(&wait(self.runtime, self.place.deadline, asked)?));
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
        Ok(kept(&self.runtime.block_on(patiently(self.place, self.process, asked))?))
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
