//! The one writer, and how concurrent writes share a commit.
//!
//! Who wants to write puts a job into a bounded queue. The writer takes what is there, does all of it in one transaction,
//! each job in a savepoint of its own, commits once, and only then tells the listener and answers: "no change" and
//! refusals too, since they rest on what was read in that transaction. A job that fails rolls back alone; a full disk or a
//! failed commit fails all of them.
//!
//! A job whose caller has gone before it began is not done; one that has begun is done whether or not anybody waits.

use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::domain::rules::Refusal;
use crate::domain::{Actor, Change, Clock, Epoch, Seq, Timestamp, Version};
use crate::store::{StoreError, StoreOptions, WriteError, Written};

use super::direct::{Direct, OwnRow};
use super::log;
use super::place::{Files, Open, Place};
use super::sql::{self, Arg, args, failed, get, parsed};

/// Jobs that may wait. Above it callers wait for room: 1024 small writes are less than a tenth of a second's work.
const QUEUE: usize = 1024;
/// Jobs that share a commit at most: bounds the time that another process waits for the lock.
const BATCH: usize = 128;
/// How often to ask for the writer's lock while another process has it.
const RETRY_AFTER: Duration = Duration::from_millis(1);
/// Pause after a batch where another process writes, too: long enough for it to ask for the lock.
const COURTESY: Duration = Duration::from_millis(2);

/// Why a job was not done.
#[derive(Debug)]
pub(super) enum Fault {
    Refused { index: usize, refusal: Refusal },
    Store(StoreError),
    Sql(sqlx::Error),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Fault> for WriteError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused { index, refusal } => Self::Refused { index, refusal },
            Fault::Store(error) => Self::Store(error),
            Fault::Sql(error) => Self::Store(failed("writing")(error)),
        }
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match WriteError::from(fault) {
            WriteError::Store(error) => error,
            WriteError::Refused { refusal, .. } => Self::Inconsistent(refusal.to_string()),
        }
    }
}

/// One thing to be written.
pub(super) trait Work: Send + 'static {
    type Answer: Send + 'static;
    /// Whether it must outlive a power cut. The disk is not waited for where nothing in a batch must: a process that is
    /// stopped while it waits keeps the writer's lock from all others.
    const LASTS: bool = true;
    /// Does it inside the batch's transaction. On a failure all that it did is rolled back.
    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<Self::Answer, Fault>;
}

/// A work in the queue. The writer does not know its answer's type.
trait Job: Send {
    /// Whether nobody waits for it any more, or he waited too long.
    fn is_abandoned(&self) -> bool;
    /// Whether it must outlive a power cut.
    fn lasts(&self) -> bool;
    /// Does it; fails only with what fails the whole batch.
    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<(), sqlx::Error>;
    /// Answers: after the commit, or with what failed the whole batch.
    fn settle(self: Box<Self>, failure: Option<StoreError>);
}

struct Pending<W: Work> {
    work: W,
    give_up_at: Instant,
    answer: Option<Result<W::Answer, Fault>>,
    reply: oneshot::Sender<Result<W::Answer, Fault>>,
}

impl<W: Work> Job for Pending<W> {
    fn is_abandoned(&self) -> bool {
        self.reply.is_closed() || Instant::now() > self.give_up_at
    }

    fn lasts(&self) -> bool {
        W::LASTS
    }

    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<(), sqlx::Error> {
        let before = transaction.changes.len();
        let answer = match self.work.run(transaction) {
            Ok(answer) => Ok(answer),
            Err(Fault::Sql(error)) if sql::is_of_the_whole(&error) => return Err(error),
            Err(fault) => {
                transaction.roll_back()?;
                transaction.changes.truncate(before);
                Err(fault)
            }
        };
        self.answer = Some(answer);
        Ok(())
    }

    fn settle(self: Box<Self>, failure: Option<StoreError>) {
        let answer = match failure {
            Some(error) => Err(Fault::Store(error)),
            None => self.answer.expect("a job is settled without a failure only after it was run"),
        };
        // Who asked may have gone meanwhile.
        let _ = self.reply.send(answer);
    }
}

fn unavailable(doing: &'static str) -> StoreError {
    StoreError::Unavailable { doing, source: None }
}

/// The batch's transaction, as a work sees it.
pub(super) struct Transaction<'a> {
    connection: &'a Direct,
    pub(super) options: &'a StoreOptions,
    pub(super) epoch: Epoch,
    /// By our clock, the same for the whole batch: one transaction, one time.
    pub(super) now: Timestamp,
    /// What the batch has written to the log.
    changes: Vec<Change>,
    /// The innermost savepoint, and how to roll back to it.
    savepoint: Option<&'static str>,
    /// Whether the row that says who acts was set.
    acted: bool,
}

/// What an operation's statements stand between. Arguments 1 to 4 are ours.
macro_rules! operation {
    ($($statements:expr),+ $(,)?) => {
        concat!(
            "SAVEPOINT operation; \
             UPDATE acting SET label = $1, session = $2, at = $3, summary = $4, \
                 mark = (SELECT COALESCE(MAX(seq), 0) FROM changes); ",
            $($statements, "; ",)+
            "SELECT seq, at, tenant, kind, target, user, effect FROM changes \
                 WHERE seq > (SELECT mark FROM acting) ORDER BY seq; \
             RELEASE operation;"
        )
    };
}
pub(super) use operation;

/// Statements made by [`operation!`], and their arguments from the fifth.
pub(super) struct Script {
    pub(super) sql: &'static str,
    pub(super) args: Vec<Arg>,
    /// What the log calls it, where its rows alone would not tell.
    pub(super) summary: Option<String>,
}

#[expect(clippy::needless_pass_by_value, reason = "arguments are made for one statement")]
impl Transaction<'_> {
    /// One row of a statement that only reads.
    pub(super) fn one(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<OwnRow, sqlx::Error> {
        one(self.connection, sql, &args)
    }

    /// All rows of a statement that only reads.
    pub(super) fn all(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<Vec<OwnRow>, sqlx::Error> {
        self.connection.all(sql, &args)
    }

    /// Statements that bear on nobody's permissions.
    pub(super) fn execute(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<(), sqlx::Error> {
        self.connection.all(sql, &args).map(drop)
    }

    /// Statements that the log tells of; answers what it tells.
    pub(super) fn operate(&mut self, actor: &Actor, script: Script) -> Result<Vec<Change>, sqlx::Error> {
        let session = match actor {
            Actor::User { session, .. } => Some(session.as_str()),
            Actor::Bearer { .. } | Actor::Provisioning | Actor::System(_) => None,
        };
        let mut all = args![actor.label(), session, self.now, script.summary];
        all.extend(script.args);
        self.acted = true;
        let outer = self.savepoint;
        self.savepoint = outer.or(Some("ROLLBACK TO operation; RELEASE operation"));
        let rows = self.all(script.sql, all)?;
        self.savepoint = outer;
        let changes = rows.iter().map(|row| Ok(log::change(row)?.0)).collect::<Result<Vec<_>, sqlx::Error>>()?;
        self.changes.extend_from_slice(&changes);
        Ok(changes)
    }

    /// Makes all that follows one whole, which rolls back together.
    pub(super) fn begin_unit(&mut self) -> Result<(), sqlx::Error> {
        if self.savepoint.is_none() {
            self.execute("SAVEPOINT unit", vec![])?;
            self.savepoint = Some("ROLLBACK TO unit; RELEASE unit");
        }
        Ok(())
    }

    /// Keeps the whole.
    pub(super) fn end_unit(&mut self) -> Result<(), sqlx::Error> {
        if self.savepoint.take().is_some() {
            self.execute("RELEASE unit", vec![])?;
        }
        Ok(())
    }

    fn roll_back(&mut self) -> Result<(), sqlx::Error> {
        match self.savepoint.take() {
            Some(statements) => self.execute(statements, vec![]),
            None => Ok(()),
        }
    }

    /// The log's head.
    pub(super) fn head(&mut self) -> Result<Seq, sqlx::Error> {
        log::seq(&self.one("SELECT COALESCE(MAX(seq), 0) AS head FROM changes", vec![])?, "head")
    }

    pub(super) fn version(&self, seq: Seq) -> Version {
        Version { epoch: self.epoch, seq }
    }

    /// A write that is told as its changes alone.
    pub(super) fn written(&mut self, changes: Vec<Change>) -> Result<Written, Fault> {
        let seq = match changes.last() {
            Some(last) => last.seq,
            None => self.head()?,
        };
        Ok(Written { version: self.version(seq), changes, outcomes: Vec::new() })
    }
}

/// The first row.
fn one(connection: &Direct, sql: &'static str, args: &[Arg]) -> Result<OwnRow, sqlx::Error> {
    connection.all(sql, args)?.into_iter().next().ok_or(sqlx::Error::RowNotFound)
}

/// What comes to the writer.
enum Order {
    Do(Box<dyn Job>),
    /// No new jobs; those that are in the queue are done.
    Stop,
}

/// Where jobs are put in.
pub(super) struct Queue {
    sender: mpsc::Sender<Order>,
    deadline: Duration,
}

impl Queue {
    /// Has a work done, and waits for its commit.
    pub(super) async fn write<W: Work>(&self, work: W) -> Result<W::Answer, Fault> {
        let closed = || Fault::Store(unavailable("the store is closed"));
        let give_up_at = Instant::now() + self.deadline;
        let (reply, answer) = oneshot::channel();
        let room = tokio::time::timeout_at(give_up_at, self.sender.reserve())
            .await
            .map_err(|_| Fault::Store(unavailable("the queue of writes is full")))?
            .map_err(|_| closed())?;
        room.send(Order::Do(Box::new(Pending { work, give_up_at, answer: None, reply })));
        // No deadline from here: once it has begun, only the commit tells whether it was done.
        answer.await.map_err(|_| closed())?
    }

    /// Has the writer end when it is done with what is in the queue.
    pub(super) async fn close(&self) {
        // It fails only where it has ended already.
        let _ = self.sender.send(Order::Stop).await;
    }
}

/// The connection that writes.
struct Held {
    files: Files,
    connection: Direct,
    /// Whether a commit waits for the disk.
    lasting: bool,
}

/// The writer: owns the connection that writes, and the thread that it runs on.
pub(super) struct Writer {
    queue: mpsc::Receiver<Order>,
    place: Place,
    open: Arc<ArcSwap<Open>>,
    options: StoreOptions,
    clock: Arc<dyn Clock>,
    connection: Option<Held>,
    /// SQLite's count of others' commits.
    data_version: Option<i64>,
}

impl Writer {
    pub(super) fn new(
        place: Place,
        open: Arc<ArcSwap<Open>>,
        options: StoreOptions,
        clock: Arc<dyn Clock>,
    ) -> (Queue, Self) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let deadline = options.deadline;
        let writer = Self { queue, place, open, options, clock, connection: None, data_version: None };
        (Queue { sender, deadline }, writer)
    }

    /// Runs until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let (mut orders, mut jobs): (Vec<Order>, Vec<Box<dyn Job>>) = Default::default();
        while self.queue.blocking_recv_many(&mut orders, BATCH) > 0 {
            for order in orders.drain(..) {
                match order {
                    Order::Do(job) => jobs.push(job),
                    Order::Stop => self.queue.close(),
                }
            }
            dismiss_late(&mut jobs);
            if !jobs.is_empty() && self.batch(&mut jobs) {
                sleep(COURTESY);
            }
        }
    }

    /// Does all jobs in one transaction, and answers them. Tells whether another process has written meanwhile.
    fn batch(&mut self, jobs: &mut Vec<Box<dyn Job>>) -> bool {
        match self.commit(jobs) {
            Ok((epoch, changes, others)) => {
                if !changes.is_empty() {
                    self.options.listener.committed(epoch, &changes);
                }
                jobs.drain(..).for_each(|job| job.settle(None));
                others
            }
            Err(error) => {
                // Whatever state the connection is in: closing it rolls back.
                self.connection = None;
                self.data_version = None;
                let error = Arc::new(error);
                jobs.drain(..).for_each(|job| job.settle(Some(shared(&error))));
                false
            }
        }
    }

    fn commit(&mut self, jobs: &mut Vec<Box<dyn Job>>) -> Result<(Epoch, Vec<Change>, bool), StoreError> {
        const COMMIT: &str = "COMMIT";
        const CLEAR_AND_COMMIT: &str =
            "UPDATE acting SET label = NULL, session = NULL, at = NULL, summary = NULL, mark = NULL; COMMIT";
        let opened = self.open.load().files;
        self.place.check(opened)?;
        let mut held = match self.connection.take() {
            Some(held) if held.files == opened => held,
            _ => {
                self.data_version = None;
                let connection = self.place.writer().map_err(failed("opening the database"))?;
                self.place.check(opened)?;
                Held { files: opened, connection, lasting: true }
            }
        };
        let lasting = jobs.iter().any(|job| job.lasts());
        if held.lasting != lasting {
            let set = if lasting { "PRAGMA synchronous = full" } else { "PRAGMA synchronous = normal" };
            held.connection.all(set, &[]).map_err(failed("opening the database"))?;
            held.lasting = lasting;
        }
        let (epoch, data_version) = begin(&held.connection, jobs).map_err(failed("waiting for the writer's lock"))?;
        let others = self.data_version.replace(data_version).is_some_and(|before| before != data_version);
        let mut transaction = Transaction {
            connection: &held.connection,
            options: &self.options,
            epoch,
            now: self.clock.now(),
            changes: Vec::new(),
            savepoint: None,
            acted: false,
        };
        for job in jobs {
            job.run(&mut transaction).map_err(failed("writing"))?;
        }
        let commit = if transaction.acted { CLEAR_AND_COMMIT } else { COMMIT };
        transaction.execute(commit, vec![]).map_err(failed("committing"))?;
        let changes = transaction.changes;
        // What went into a file that was taken away meanwhile is not acknowledged, for nobody will find it there.
        self.place.check(opened)?;
        self.connection = Some(held);
        Ok((epoch, changes, others))
    }
}

/// Takes the writer's lock. SQLite's own way of waiting for it backs off for up to a tenth of a second, and so would
/// starve beside another process that writes all the time. Jobs whose time is up meanwhile are answered, and not done.
fn begin(connection: &Direct, jobs: &mut Vec<Box<dyn Job>>) -> Result<(Epoch, i64), sqlx::Error> {
    const BEGIN: &str = "BEGIN IMMEDIATE; \
         SELECT epoch, (SELECT data_version FROM pragma_data_version) AS data_version FROM meta";
    loop {
        match one(connection, BEGIN, &[]) {
            Ok(row) => return Ok((parsed(&row, "epoch")?, get(&row, "data_version")?)),
            Err(error) if sql::code(&error) == Some(sql::BUSY) => {
                dismiss_late(jobs);
                if jobs.is_empty() {
                    return Err(error);
                }
                sleep(RETRY_AFTER);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Answers those that waited too long; they are not done.
fn dismiss_late(jobs: &mut Vec<Box<dyn Job>>) {
    for late in jobs.extract_if(.., |job| job.is_abandoned()) {
        late.settle(Some(unavailable("waiting for a turn to write")));
    }
}

/// The same failure for each who waited on it.
fn shared(error: &Arc<StoreError>) -> StoreError {
    match &**error {
        StoreError::Unavailable { doing, .. } => {
            StoreError::Unavailable { doing, source: Some(Box::new(Arc::clone(error))) }
        }
        StoreError::Inconsistent(what) => StoreError::Inconsistent(what.clone()),
        StoreError::Replaced(what) => StoreError::Replaced(what),
        StoreError::Unusable(what) => StoreError::Unusable(what.clone()),
    }
}
