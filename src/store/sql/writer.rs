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

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::domain::rules::Refusal;
use crate::domain::{Actor, Change, Clock, Epoch, Seq, Timestamp, Version};
use crate::store::{StoreError, StoreOptions, WriteError, Written};

use super::failure::{Reach, failed, reach};
use super::log;
use super::statement::{Arg, OwnRow, Statements, args};

/// Jobs that may wait. Above it callers wait for room: 1024 small writes are less than a tenth of a second's work.
const QUEUE: usize = 1024;
/// Jobs that share a commit at most: bounds the time that another process waits for the lock.
const BATCH: usize = 128;
/// Pause after a batch where another process writes, too: long enough for it to ask for the lock.
const COURTESY: Duration = Duration::from_millis(2);

/// Why a job was not done.
#[derive(Debug)]
pub(in crate::store) enum Fault {
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
pub(in crate::store) trait Work: Send + 'static {
    type Answer: Send + 'static;
    /// Whether it must outlive a power cut. The disk is not waited for where nothing in a batch must: a process that is
    /// stopped while it waits keeps the writer's lock from all others.
    const LASTS: bool = true;
    /// Does it inside the batch's transaction. On a failure all that it did is rolled back.
    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<Self::Answer, Fault>;
}

/// A work in the queue. The writer does not know its answer's type.
pub(in crate::store) trait Job: Send {
    /// Whether nobody waits for it any more, or he waited too long.
    fn is_abandoned(&self) -> bool;
    /// Whether it must outlive a power cut.
    fn lasts(&self) -> bool;
    /// Does it; fails only with what fails the whole batch.
    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<(), sqlx::Error>;
    /// Answers: after the commit, or with what failed the whole batch.
    fn settle(self: Box<Self>, failure: Option<StoreError>);
}

/// The jobs of a batch.
pub(in crate::store) type Jobs = Vec<Box<dyn Job>>;

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
        let answer = match transaction.as_one_job(&mut self.work) {
            Ok(answer) => Ok(answer),
            Err(Fault::Sql(error)) if transaction.is_lost_by(&error) => return Err(error),
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

/// How what may fail by itself is kept apart in a batch's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Guard {
    /// A statement that fails takes only itself back, and a savepoint costs nothing: each operation has one.
    Operations,
    /// A statement that fails loses the transaction, and a savepoint is one more trip to the server: only what a rule may
    /// yet undo has one. What is lost so is done once more by [`Guard::Jobs`].
    Units,
    /// Each job has a savepoint.
    Jobs,
}

/// A point to go back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Savepoint {
    set: &'static str,
    keep: &'static str,
    undo: &'static str,
}

macro_rules! savepoint {
    ($name:literal) => {
        Savepoint {
            set: concat!("SAVEPOINT ", $name),
            keep: concat!("RELEASE ", $name),
            undo: concat!("ROLLBACK TO ", $name, "; RELEASE ", $name),
        }
    };
}
const OPERATION: Savepoint = savepoint!("operation");
const UNIT: Savepoint = savepoint!("unit");
const JOB: Savepoint = savepoint!("job");

/// The batch's transaction, as a work sees it.
pub(in crate::store) struct Transaction<'a> {
    connection: &'a mut dyn Statements,
    pub(in crate::store) options: &'a StoreOptions,
    pub(in crate::store) epoch: Epoch,
    /// By our clock, the same for the whole batch: one transaction, one time.
    pub(in crate::store) now: Timestamp,
    /// What the batch has written to the log.
    changes: Vec<Change>,
    guard: Guard,
    /// The outermost savepoint of the job.
    savepoint: Option<Savepoint>,
    /// Whether the row that says who acts was set.
    acted: bool,
}

/// What an operation's statements stand between. Arguments 1 to 4 are ours.
macro_rules! operation {
    ($($statements:expr),+ $(,)?) => {
        concat!(
            "UPDATE acting SET label = $1, session = $2, at = $3, summary = $4, \
                 mark = (SELECT COALESCE(MAX(seq), 0) FROM changes); ",
            $($statements, "; ",)+
            "SELECT seq, at, tenant, kind, target, \"user\", effect FROM changes \
                 WHERE seq > (SELECT mark FROM acting) ORDER BY seq"
        )
    };
}
pub(in crate::store) use operation;

/// Statements made by [`operation!`], and their arguments from the fifth.
pub(in crate::store) struct Script {
    pub(in crate::store) sql: &'static str,
    pub(in crate::store) args: Vec<Arg>,
    /// What the log calls it, where its rows alone would not tell.
    pub(in crate::store) summary: Option<String>,
}

#[expect(clippy::needless_pass_by_value, reason = "arguments are made for one statement")]
impl Transaction<'_> {
    /// One row of a statement that only reads.
    pub(in crate::store) fn one(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<OwnRow, sqlx::Error> {
        self.connection.all(sql, &args)?.into_iter().next().ok_or(sqlx::Error::RowNotFound)
    }

    /// All rows of a statement that only reads.
    pub(in crate::store) fn all(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<Vec<OwnRow>, sqlx::Error> {
        self.connection.all(sql, &args)
    }

    /// Statements that bear on nobody's permissions.
    pub(in crate::store) fn execute(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<(), sqlx::Error> {
        self.connection.all(sql, &args).map(drop)
    }

    /// Statements that the log tells of; answers what it tells.
    pub(in crate::store) fn operate(&mut self, actor: &Actor, script: Script) -> Result<Vec<Change>, sqlx::Error> {
        let session = match actor {
            Actor::User { session, .. } => Some(session.as_str()),
            Actor::Bearer { .. } | Actor::Provisioning | Actor::System(_) => None,
        };
        let mut all = args![actor.label(), session, self.now, script.summary];
        all.extend(script.args);
        self.acted = true;
        let own = self.guard == Guard::Operations && self.set(OPERATION)?;
        let rows = self.all(script.sql, all)?;
        if own {
            self.keep(OPERATION)?;
        }
        let changes = rows.iter().map(|row| Ok(log::change(row)?.0)).collect::<Result<Vec<_>, sqlx::Error>>()?;
        self.changes.extend_from_slice(&changes);
        Ok(changes)
    }

    /// Makes all that follows one whole, which rolls back together.
    pub(in crate::store) fn begin_unit(&mut self) -> Result<(), sqlx::Error> {
        self.set(UNIT).map(drop)
    }

    /// Keeps the whole.
    pub(in crate::store) fn end_unit(&mut self) -> Result<(), sqlx::Error> {
        self.keep(UNIT)
    }

    fn as_one_job<W: Work>(&mut self, work: &mut W) -> Result<W::Answer, Fault> {
        if self.guard == Guard::Jobs {
            self.set(JOB)?;
        }
        let answer = work.run(self)?;
        self.keep(JOB)?;
        Ok(answer)
    }

    /// Whether the transaction cannot go on after a job failed in this way.
    fn is_lost_by(&self, error: &sqlx::Error) -> bool {
        match reach(error) {
            Reach::Statement | Reach::Wait => self.guard == Guard::Units,
            Reach::Again | Reach::Whole => true,
        }
    }

    /// Makes a point to go back to, where there is none yet.
    fn set(&mut self, savepoint: Savepoint) -> Result<bool, sqlx::Error> {
        if self.savepoint.is_some() {
            return Ok(false);
        }
        self.execute(savepoint.set, vec![])?;
        self.savepoint = Some(savepoint);
        Ok(true)
    }

    /// Keeps what was done since that point, where it was made.
    fn keep(&mut self, savepoint: Savepoint) -> Result<(), sqlx::Error> {
        if self.savepoint == Some(savepoint) {
            self.execute(savepoint.keep, vec![])?;
            self.savepoint = None;
        }
        Ok(())
    }

    fn roll_back(&mut self) -> Result<(), sqlx::Error> {
        match self.savepoint.take() {
            Some(savepoint) => self.execute(savepoint.undo, vec![]),
            None => Ok(()),
        }
    }

    /// The log's head.
    pub(in crate::store) fn head(&mut self) -> Result<Seq, sqlx::Error> {
        log::seq(&self.one("SELECT COALESCE(MAX(seq), 0) AS head FROM changes", vec![])?, "head")
    }

    pub(in crate::store) fn version(&self, seq: Seq) -> Version {
        Version { epoch: self.epoch, seq }
    }

    /// A write that is told as its changes alone.
    pub(in crate::store) fn written(&mut self, changes: Vec<Change>) -> Result<Written, Fault> {
        let seq = match changes.last() {
            Some(last) => last.seq,
            None => self.head()?,
        };
        Ok(Written { version: self.version(seq), changes, outcomes: Vec::new() })
    }
}

/// What comes to the writer.
enum Order {
    Do(Box<dyn Job>),
    /// No new jobs; those that are in the queue are done.
    Stop,
}

/// Where jobs are put in.
pub(in crate::store) struct Queue {
    sender: mpsc::Sender<Order>,
    deadline: Duration,
}

impl Queue {
    /// Has a work done, and waits for its commit.
    pub(in crate::store) async fn write<W: Work>(&self, work: W) -> Result<W::Answer, Fault> {
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
    pub(in crate::store) async fn close(&self) {
        // It fails only where it has ended already.
        let _ = self.sender.send(Order::Stop).await;
    }
}

/// What a batch came to.
pub(in crate::store) struct Committed {
    pub(in crate::store) epoch: Epoch,
    pub(in crate::store) changes: Vec<Change>,
    /// Whether another process waits for its turn to write, too.
    pub(in crate::store) others: bool,
}

/// The connection that writes.
pub(in crate::store) trait Pen: Send + 'static {
    /// Does all jobs of a batch in one transaction.
    fn commit(&mut self, batch: &mut Batch<'_>) -> Result<Committed, StoreError>;
    /// Forgets the connection, in whatever state it is.
    fn let_go(&mut self);
}

/// Jobs that are to share a commit.
pub(in crate::store) struct Batch<'a> {
    jobs: &'a mut Jobs,
    options: &'a StoreOptions,
    clock: &'a dyn Clock,
}

impl Batch<'_> {
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Whether any of it must outlive a power cut.
    pub(in crate::store) fn lasts(&self) -> bool {
        self.jobs.iter().any(|job| job.lasts())
    }

    /// Answers those that waited too long; they are not done.
    pub(in crate::store) fn dismiss_late(&mut self) {
        dismiss_late(self.jobs);
    }

    /// Does all jobs in a transaction that was begun; answers what they wrote to the log.
    pub(in crate::store) fn run(
        &mut self,
        connection: &mut dyn Statements,
        epoch: Epoch,
        guard: Guard,
    ) -> Result<Vec<Change>, sqlx::Error> {
        const CLEAR: &str = "UPDATE acting SET label = NULL, session = NULL, at = NULL, summary = NULL, mark = NULL";
        let mut transaction = Transaction {
            connection,
            options: self.options,
            epoch,
            now: self.clock.now(),
            changes: Vec::new(),
            guard,
            savepoint: None,
            acted: false,
        };
        for job in self.jobs.iter_mut() {
            job.run(&mut transaction)?;
        }
        // PostgreSQL keeps it in settings that end with the transaction.
        if transaction.acted && guard == Guard::Operations {
            transaction.execute(CLEAR, vec![])?;
        }
        Ok(transaction.changes)
    }
}

/// The writer: owns the connection that writes, and the thread that it runs on.
pub(in crate::store) struct Writer<P> {
    queue: mpsc::Receiver<Order>,
    pen: P,
    options: StoreOptions,
    clock: Arc<dyn Clock>,
}

impl<P: Pen> Writer<P> {
    pub(in crate::store) fn new(pen: P, options: StoreOptions, clock: Arc<dyn Clock>) -> (Queue, Self) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let deadline = options.deadline;
        (Queue { sender, deadline }, Self { queue, pen, options, clock })
    }

    /// Runs until the queue is closed and empty.
    pub(in crate::store) fn run(mut self) {
        let (mut orders, mut jobs): (Vec<Order>, Jobs) = Default::default();
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
    fn batch(&mut self, jobs: &mut Jobs) -> bool {
        let mut batch = Batch { jobs, options: &self.options, clock: &*self.clock };
        match self.pen.commit(&mut batch) {
            Ok(Committed { epoch, changes, others }) => {
                if !changes.is_empty() {
                    self.options.listener.committed(epoch, &changes);
                }
                jobs.drain(..).for_each(|job| job.settle(None));
                others
            }
            Err(error) => {
                // Whatever state the connection is in: closing it rolls back.
                self.pen.let_go();
                let error = Arc::new(error);
                jobs.drain(..).for_each(|job| job.settle(Some(shared(&error))));
                false
            }
        }
    }
}

/// Answers those that waited too long; they are not done.
fn dismiss_late(jobs: &mut Jobs) {
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
