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
use crate::domain::{Change, Clock, Epoch};
use crate::store::{StoreError, StoreOptions, WriteError};

use super::failure::failed;
use super::statement::Statements;
pub(in crate::store) use super::transaction::{Guard, Script, Transaction, operation};

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
        self.answer = Some(transaction.attempt(&mut self.work)?);
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
        let mut transaction = Transaction::new(connection, self.options, epoch, self.clock.now(), guard);
        for job in self.jobs.iter_mut() {
            job.run(&mut transaction)?;
        }
        transaction.end()
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
        StoreError::Undecided(what) => StoreError::Undecided(what),
        StoreError::Inconsistent(what) => StoreError::Inconsistent(what.clone()),
        StoreError::Replaced(what) => StoreError::Replaced(what),
        StoreError::Unusable(what) => StoreError::Unusable(what.clone()),
    }
}
