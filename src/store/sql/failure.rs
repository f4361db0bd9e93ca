//! What a failure of the database is to the one who asked.

use sqlx::postgres::PgDatabaseError;

use crate::store::StoreError;

/// How far a failure reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Reach {
    /// The statement's own fault, or what it read is not what the schema promises.
    Statement,
    /// The statement waited too long for somebody's lock: only what it belongs to is not done.
    Wait,
    /// The transaction's: it met another, and is to be done once more.
    Again,
    /// The connection's, the file's, the disk's, the server's.
    Whole,
}

/// What a failure is for the one who asked.
pub(in crate::store) fn failed(doing: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |error| match (reach(&error), &error) {
        (Reach::Statement, sqlx::Error::Database(cause)) => StoreError::Inconsistent(cause.to_string()),
        (Reach::Statement, _) => StoreError::Inconsistent(error.to_string()),
        (_, sqlx::Error::Configuration(cause)) if cause.is::<Moved>() => {
            StoreError::Replaced("it was moved to a server, or is being moved to this one")
        }
        _ => StoreError::Unavailable { doing, source: Some(Box::new(error)) },
    }
}

/// What is read was moved elsewhere, and goes on there; or not all of it is there yet.
#[derive(Debug, thiserror::Error)]
#[error("it was moved to a server, or is being moved to this one")]
struct Moved;

/// What it is that the epoch of such a database cannot be read.
pub(in crate::store) fn moved() -> sqlx::Error {
    sqlx::Error::Configuration(Box::new(Moved))
}

/// How far a failure reaches.
pub(in crate::store) fn reach(error: &sqlx::Error) -> Reach {
    match error {
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::RowNotFound => Reach::Statement,
        sqlx::Error::Database(cause) => match cause.try_downcast_ref::<PgDatabaseError>() {
            Some(cause) => of_postgres(cause.code()),
            None => code(error).map_or(Reach::Whole, of_sqlite),
        },
        _ => Reach::Whole,
    }
}

/// By PostgreSQL's SQLSTATE.
fn of_postgres(state: &str) -> Reach {
    match state {
        // Lock not available within the time set for it.
        "55P03" => Reach::Wait,
        // Serialization failure, deadlock.
        "40001" | "40P01" => Reach::Again,
        // What a trigger refuses; wrong data; a constraint; a statement that is none.
        "P0001" => Reach::Statement,
        _ => match &state[..2.min(state.len())] {
            "21" | "22" | "23" | "42" | "44" => Reach::Statement,
            _ => Reach::Whole,
        },
    }
}

/// The primary result code of SQLite, where it is what failed.
pub(in crate::store) fn code(error: &sqlx::Error) -> Option<i32> {
    let cause = error.as_database_error()?;
    if cause.try_downcast_ref::<PgDatabaseError>().is_some() {
        return None;
    }
    let code: i32 = cause.code()?.parse().ok()?;
    Some(code & 0xff)
}

pub(in crate::store) const BUSY: i32 = 5;
pub(in crate::store) const CORRUPT: i32 = 11;
pub(in crate::store) const NOT_A_DATABASE: i32 = 26;

/// By SQLite's primary result code.
fn of_sqlite(code: i32) -> Reach {
    const PERMISSION: i32 = 3;
    const LOCKED: i32 = 6;
    const NO_MEMORY: i32 = 7;
    const READ_ONLY: i32 = 8;
    const INTERRUPTED: i32 = 9;
    const IO: i32 = 10;
    const FULL: i32 = 13;
    const CANNOT_OPEN: i32 = 14;
    const PROTOCOL: i32 = 15;
    match code {
        PERMISSION | BUSY | LOCKED | NO_MEMORY | READ_ONLY | INTERRUPTED | IO | CORRUPT | FULL | CANNOT_OPEN
        | PROTOCOL | NOT_A_DATABASE => Reach::Whole,
        _ => Reach::Statement,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_postgres_says_reaches_as_far_as_it_does() {
        for (state, far) in [
            ("23505", Reach::Statement),
            ("P0001", Reach::Statement),
            ("55P03", Reach::Wait),
            ("40P01", Reach::Again),
            // In recovery, no space, going down, no more connections.
            ("25006", Reach::Whole),
            ("53100", Reach::Whole),
            ("57P01", Reach::Whole),
            ("53300", Reach::Whole),
            ("", Reach::Whole),
        ] {
            assert_eq!(of_postgres(state), far, "{state}");
        }
    }
}
