//! Everything moves from a file of SQLite to a server of PostgreSQL, under the same epoch: tokens and sessions stay good.
//!
//! - [`table`]: what is copied, and in which pieces
//! - [`source`], [`target`]: the two sides
//!
//! There is one thing that is done, and it is done twice: piece by piece, in the order of the keys, the target is made like
//! the source; a piece that is the same on both sides is left alone. The first time nobody is kept from writing to the file.
//! The second time its writer's lock is held, so that little is left to copy, and each row has been compared with what the
//! server holds when the file is marked as moved. Then the server's side is opened: there is never a moment in which both go
//! on.
//!
//! Each piece is a transaction of its own on the target. Whatever stops it leaves the source as it was, and in use; the same
//! command, given again, finds the pieces that are there already, whatever has happened to the source meanwhile. Until the
//! end the target bears a mark in the place of its epoch, with which nobody starts on it. The mark names who is at it: who
//! begins takes the target over, and another who is still at it finds that with his next piece.

mod source;
mod table;
mod target;

use std::time::Duration;

use self::source::Source;
use self::table::{Piece, Table};
use self::target::Target;
use super::StoreError;
use crate::domain::{Epoch, Random, Version};

/// What was moved.
#[derive(Debug)]
pub struct Moved {
    /// Where the log stands.
    pub version: Version,
    /// Rows; none where it had been moved before.
    pub rows: Option<Rows>,
}

/// How many rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rows {
    /// All that there are.
    pub all: u64,
    /// Of these, what an earlier attempt had brought over.
    pub before: u64,
}

/// From where to where.
#[derive(Debug, Clone, Copy)]
pub struct Move<'a> {
    /// `sqlite://…`
    pub from: &'a str,
    /// `postgres://…`
    pub to: &'a str,
    /// The same without a password, for whoever looks for the database at its old place.
    pub shown: &'a str,
    /// Longest wait for anything.
    pub deadline: Duration,
}

/// Which of the two times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// The source is written to meanwhile.
    Copying,
    /// It is not.
    Comparing,
}

/// How far a table is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    pub pass: Pass,
    pub table: &'a str,
    /// Rows that are the same on both sides now, of how many.
    pub done: u64,
    pub of: u64,
    /// Of these, how many were there already.
    pub found: u64,
}

/// Hears how far it is.
pub type Tell<'a> = dyn FnMut(Progress<'_>) + Send + 'a;

/// Moves it.
pub async fn relocate(
    Move { from, to, shown, deadline }: Move<'_>,
    random: &dyn Random,
    tell: &mut Tell<'_>,
) -> Result<Moved, StoreError> {
    let mut source = Source::open(from, deadline).await?;
    let begun = source.snapshot().await?;
    if let Some(other) = begun.moved_to.as_ref().filter(|other| *other != shown) {
        return Err(StoreError::Unusable(format!("{from} was moved to {other} already")));
    }
    let epoch = begun.version.epoch;
    let taken = target::take(to, shown, epoch, begun.moved_to.is_some(), deadline, random).await?;
    let mut target = match taken {
        target::Taken::Done(version) => return Ok(Moved { version, rows: None }),
        target::Taken::Open(target) => target,
    };
    let tables = target.tables().await?;

    let mut first = Rows::default();
    for table in &tables {
        let rows = level(&mut source, &mut target, table, Pass::Copying, tell).await?;
        first = Rows { all: first.all + rows.all, before: first.before + rows.before };
    }
    target.analyze().await?;

    let last = source.lock().await?;
    if last.version.epoch != epoch {
        return Err(StoreError::Unusable(format!(
            "{from} began a new epoch meanwhile: nothing was moved; begin again, into an empty database"
        )));
    }
    let mut all = 0;
    for table in &tables {
        all += level(&mut source, &mut target, table, Pass::Comparing, tell).await?.all;
    }
    let opening = target.open(epoch, source.counts().await?).await?;
    source.mark(&format!("moved {epoch} {shown}")).await?;
    opening.commit().await?;
    Ok(Moved { version: last.version, rows: Some(Rows { all, before: first.before }) })
}

/// Where it was moved to, if this is what a database that was moved has in the place of its epoch.
pub(super) fn moved_to(epoch: &str) -> Option<(&str, &str)> {
    epoch.strip_prefix("moved ")?.split_once(' ')
}

/// What a database has in the place of its epoch while another is moved into it; the second names who is at it.
fn mark(epoch: Epoch, mover: Epoch) -> String {
    format!("receiving {epoch} {mover}")
}

/// The epoch of what is moved into a database, if this is such a mark.
pub(super) fn received(epoch: &str) -> Option<&str> {
    Some(epoch.strip_prefix("receiving ")?.split_once(' ')?.0)
}

/// Makes a table of the target like the source's.
///
/// What differs is taken away first and put in last, since a key that must be there once may have gone from one piece to
/// another; behind the last row of the target there is nothing to be in the way, and so each piece is put in at once.
async fn level(
    source: &mut Source,
    target: &mut Target,
    table: &Table,
    pass: Pass,
    tell: &mut Tell<'_>,
) -> Result<Rows, StoreError> {
    let of = source.count(table).await?;
    let mut rows = Rows::default();
    let mut differing = Vec::new();
    let mut fresh = false;
    let mut after = None;
    loop {
        let upto = source.key_after(table, after.as_ref()).await?;
        let piece = Piece { after: after.take(), upto: upto.clone() };
        let here = source.read(table, &piece).await?;
        let there = if fresh { Vec::new() } else { target.read(table, &piece).await? };
        if !fresh && here.lines == there {
            rows.before += here.rows;
            rows.all += here.rows;
        } else {
            fresh = fresh || (there.is_empty() && !target.has_behind(table, &piece).await?);
            if fresh {
                target.put(table, &piece, &here.lines).await?;
                rows.all += here.rows;
            } else {
                target.clear(table, &piece).await?;
                differing.push(piece);
            }
        }
        tell(Progress { pass, table: &table.name, done: rows.all, of, found: rows.before });
        let Some(next) = upto else { break };
        after = Some(next);
    }
    for piece in differing {
        let here = source.read(table, &piece).await?;
        target.put(table, &piece, &here.lines).await?;
        rows.all += here.rows;
        tell(Progress { pass, table: &table.name, done: rows.all, of, found: rows.before });
    }
    Ok(rows)
}
