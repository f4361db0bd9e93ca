//! The batch's transaction, as works see it: who acts, what stands between an operation's statements, and to where what
//! fails goes back.

use crate::domain::{Actor, Change, Epoch, Origin, Seq, Timestamp, Version};
use crate::store::{StoreOptions, Written};

use super::failure::{Reach, reach};
use super::log;
use super::statement::{Arg, OwnRow, Statements, args};
use super::writer::{Fault, Work};

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
    /// From where it says that he acts, where that is known.
    told: Option<Origin>,
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
impl<'a> Transaction<'a> {
    /// One that was begun on this connection.
    pub(super) fn new(
        connection: &'a mut dyn Statements,
        options: &'a StoreOptions,
        epoch: Epoch,
        now: Timestamp,
        guard: Guard,
    ) -> Self {
        let (changes, told) = (Vec::new(), Some(Origin::default()));
        Self { connection, options, epoch, now, changes, guard, savepoint: None, acted: false, told }
    }

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
        self.operate_from(actor, actor.origin().unwrap_or(&Origin::default()), script)
    }

    /// The same where the actor does not know from where it is done.
    pub(in crate::store) fn operate_from(
        &mut self,
        actor: &Actor,
        from: &Origin,
        script: Script,
    ) -> Result<Vec<Change>, sqlx::Error> {
        let session = match actor {
            Actor::User { session, .. } => Some(session.as_str()),
            Actor::Bearer { .. } | Actor::Provisioning | Actor::System(_) => None,
        };
        let mut all = args![actor.label(), session, self.now, script.summary];
        all.extend(script.args);
        self.acted = true;
        let own = self.guard == Guard::Operations && self.set(OPERATION)?;
        let said = self.told.as_ref() == Some(from);
        let rows = self.connection.operate(from, said, script.sql, &all)?;
        self.told = Some(from.clone());
        if own {
            self.keep(OPERATION)?;
        }
        let changes = rows.iter().map(|row| Ok(log::change(row)?.0)).collect::<Result<Vec<_>, sqlx::Error>>()?;
        self.changes.extend_from_slice(&changes);
        Ok(changes)
    }

    /// Says who does what follows without an operation.
    pub(in crate::store) fn act(
        &mut self,
        label: &str,
        address: Option<&str>,
        request: Option<&str>,
    ) -> Result<(), sqlx::Error> {
        const ACT: &str =
            "UPDATE acting SET label = $1, at = $2, address = $3, request = $4, session = NULL, summary = NULL";
        self.acted = true;
        self.told = None;
        self.execute(ACT, args![label, self.now, address, request])
    }

    /// Makes all that follows one whole, which rolls back together.
    pub(in crate::store) fn begin_unit(&mut self) -> Result<(), sqlx::Error> {
        self.set(UNIT).map(drop)
    }

    /// Keeps the whole.
    pub(in crate::store) fn end_unit(&mut self) -> Result<(), sqlx::Error> {
        self.keep(UNIT)
    }

    /// Does a work whole or not at all; fails only with what loses the transaction.
    pub(super) fn attempt<W: Work>(&mut self, work: &mut W) -> Result<Result<W::Answer, Fault>, sqlx::Error> {
        let before = self.changes.len();
        match self.as_one_job(work) {
            Err(Fault::Sql(error)) if self.is_lost_by(&error) => Err(error),
            Err(fault) => {
                self.roll_back()?;
                self.changes.truncate(before);
                Ok(Err(fault))
            }
            done => Ok(done),
        }
    }

    /// What was written to the log; nobody acts any more.
    pub(super) fn end(mut self) -> Result<Vec<Change>, sqlx::Error> {
        const CLEAR: &str = "UPDATE acting SET label = NULL, session = NULL, at = NULL, summary = NULL, mark = NULL, \
             address = NULL, request = NULL";
        // PostgreSQL keeps it in settings that end with the transaction.
        if self.acted && self.guard == Guard::Operations {
            self.execute(CLEAR, vec![])?;
        }
        Ok(self.changes)
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
        self.told = None;
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
