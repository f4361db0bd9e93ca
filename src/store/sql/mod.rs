//! What the engines share: one SQL text, one way to decide, one writer.
//!
//! - [`store`]: the trait `Store` over an engine, and what an engine is
//! - [`writer`]: the queue of writes and the group commit
//! - [`facts`], [`decide`], [`unit`]: an operation is two statements: what it is decided from, and what it comes to
//! - [`log`], [`read`], [`sessions`], [`keys`]: what is read and written beside
//! - [`audit`]: the audit trail
//! - [`transaction`]: what a work sees of the batch's transaction
//! - [`statement`], [`failure`]: statements, their arguments, rows, and what went wrong
//!
//! The text keeps to what SQLite and PostgreSQL understand alike. `"user"` is quoted, for in PostgreSQL it is a word of the
//! language; `json_each`, `json_extract` and `json_group_array` are SQLite's, and PostgreSQL's migrations define them.

pub(super) mod anew;
mod audit;
mod decide;
pub(super) mod facts;
pub(super) mod failure;
mod keys;
pub(super) mod log;
pub(super) mod read;
mod sessions;
pub(super) mod statement;
pub(super) mod store;
mod transaction;
pub(super) mod unit;
pub(super) mod writer;
