//! Statements with their arguments, and what comes back.

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Decode, Row as _, Sqlite, Type};

use crate::domain::{Grant, Timestamp};
use crate::store::StoreError;

/// One argument of a statement.
#[derive(Debug, Clone)]
pub(super) enum Arg {
    Null,
    Int(i64),
    Text(String),
    Blob(Vec<u8>),
}

impl From<i64> for Arg {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<Timestamp> for Arg {
    fn from(time: Timestamp) -> Self {
        Self::Int(time.millis())
    }
}

impl From<&str> for Arg {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Arg {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&[u8]> for Arg {
    fn from(bytes: &[u8]) -> Self {
        Self::Blob(bytes.to_vec())
    }
}

impl<T: Into<Arg>> From<Option<T>> for Arg {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Arguments of any type, in order.
macro_rules! args {
    ($($value:expr),* $(,)?) => { vec![$($crate::store::sqlite::sql::Arg::from($value)),*] };
}
pub(super) use args;

/// A statement, or several separated by `;` whose `$1`, `$2` … share the arguments. (Not `?1`: where a statement does not
/// use all numbers, sqlx takes the gaps for arguments.)
pub(super) fn query(sql: &'static str, args: Vec<Arg>) -> Query<'static, Sqlite, SqliteArguments> {
    args.into_iter().fold(sqlx::query(sql), |query, arg| match arg {
        Arg::Null => query.bind(None::<i64>),
        Arg::Int(number) => query.bind(number),
        Arg::Text(text) => query.bind(text),
        Arg::Blob(bytes) => query.bind(bytes),
    })
}

/// A column's value.
pub(super) fn get<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(
    row: &'r SqliteRow,
    column: &'static str,
) -> Result<T, sqlx::Error> {
    row.try_get(column)
}

/// A column's text as one of our types; what does not read is an error.
pub(super) fn parsed<T: std::str::FromStr>(row: &SqliteRow, column: &'static str) -> Result<T, sqlx::Error> {
    parse(get::<&str>(row, column)?, column)
}

/// The same where it may be NULL.
pub(super) fn maybe_parsed<T: std::str::FromStr>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<T>, sqlx::Error> {
    get::<Option<&str>>(row, column)?.map(|text| parse(text, column)).transpose()
}

fn parse<T: std::str::FromStr>(text: &str, column: &'static str) -> Result<T, sqlx::Error> {
    text.parse().map_err(|_| malformed(column))
}

/// A column with a time.
pub(super) fn time(row: &SqliteRow, column: &'static str) -> Result<Timestamp, sqlx::Error> {
    Ok(Timestamp::from_millis(get(row, column)?))
}

/// A column with a time or NULL.
pub(super) fn maybe_time(row: &SqliteRow, column: &'static str) -> Result<Option<Timestamp>, sqlx::Error> {
    Ok(get::<Option<i64>>(row, column)?.map(Timestamp::from_millis))
}

/// A column with JSON that we built in the statement.
pub(super) fn json<T: serde::de::DeserializeOwned>(row: &SqliteRow, column: &'static str) -> Result<T, sqlx::Error> {
    serde_json::from_str(get::<&str>(row, column)?).map_err(|_| malformed(column))
}

/// A column with a JSON array of grants. One that is none (written past the API) grants nothing.
pub(super) fn grants(row: &SqliteRow, column: &'static str) -> Result<Vec<Grant>, sqlx::Error> {
    let texts: Vec<String> = json(row, column)?;
    Ok(texts.iter().filter_map(|text| text.parse().ok()).collect())
}

/// What was read is not what the schema promises.
pub(super) fn malformed(column: &'static str) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: "not of the expected form".into() }
}

/// What a failure is for the one who asked.
pub(super) fn failed(doing: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |error| match error {
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::RowNotFound => {
            StoreError::Inconsistent(error.to_string())
        }
        sqlx::Error::Database(ref cause) if !is_of_the_whole(&error) => StoreError::Inconsistent(cause.to_string()),
        _ => StoreError::Unavailable { doing, source: Some(Box::new(error)) },
    }
}

/// The primary result code of SQLite, where it is what failed.
pub(super) fn code(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

pub(super) const BUSY: i32 = 5;
pub(super) const CORRUPT: i32 = 11;
pub(super) const NOT_A_DATABASE: i32 = 26;

/// Whether a failure is not the statement's own but the connection's, the file's or the disk's.
pub(super) fn is_of_the_whole(error: &sqlx::Error) -> bool {
    const PERMISSION: i32 = 3;
    const LOCKED: i32 = 6;
    const NO_MEMORY: i32 = 7;
    const READ_ONLY: i32 = 8;
    const INTERRUPTED: i32 = 9;
    const IO: i32 = 10;
    const FULL: i32 = 13;
    const CANNOT_OPEN: i32 = 14;
    const PROTOCOL: i32 = 15;
    match code(error) {
        Some(code) => matches!(
            code,
            PERMISSION
                | BUSY
                | LOCKED
                | NO_MEMORY
                | READ_ONLY
                | INTERRUPTED
                | IO
                | CORRUPT
                | FULL
                | CANNOT_OPEN
                | PROTOCOL
                | NOT_A_DATABASE
        ),
        None => !matches!(error, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::RowNotFound),
    }
}
