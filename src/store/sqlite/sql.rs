//! Statements with their arguments, and what comes back.

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Decode, Row as _, Sqlite, TypeInfo as _, ValueRef as _};

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

/// What one column holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'r> {
    Null,
    Int(i64),
    Text(&'r str),
    Blob(&'r [u8]),
}

/// A row, whichever connection it was read on.
pub(super) trait Row {
    fn value(&self, column: &'static str) -> Result<Value<'_>, sqlx::Error>;
}

impl Row for SqliteRow {
    fn value(&self, column: &'static str) -> Result<Value<'_>, sqlx::Error> {
        let raw = self.try_get_raw(column)?;
        if raw.is_null() {
            return Ok(Value::Null);
        }
        let kind = raw.type_info().name().to_owned();
        let unreadable = |_| malformed(column);
        match kind.as_str() {
            "INTEGER" => <i64 as Decode<'_, Sqlite>>::decode(raw).map(Value::Int).map_err(unreadable),
            "TEXT" => <&str as Decode<'_, Sqlite>>::decode(raw).map(Value::Text).map_err(unreadable),
            "BLOB" => <&[u8] as Decode<'_, Sqlite>>::decode(raw).map(Value::Blob).map_err(unreadable),
            _ => Err(malformed(column)),
        }
    }
}

/// What a column can be read as.
pub(super) trait Read<'r>: Sized {
    fn read(value: Value<'r>) -> Option<Self>;
}

impl Read<'_> for i64 {
    fn read(value: Value<'_>) -> Option<Self> {
        if let Value::Int(number) = value { Some(number) } else { None }
    }
}

impl Read<'_> for u32 {
    fn read(value: Value<'_>) -> Option<Self> {
        i64::read(value)?.try_into().ok()
    }
}

impl Read<'_> for bool {
    fn read(value: Value<'_>) -> Option<Self> {
        i64::read(value).map(|number| number != 0)
    }
}

impl<'r> Read<'r> for &'r str {
    fn read(value: Value<'r>) -> Option<Self> {
        if let Value::Text(text) = value { Some(text) } else { None }
    }
}

impl Read<'_> for String {
    fn read(value: Value<'_>) -> Option<Self> {
        if let Value::Text(text) = value { Some(text.to_owned()) } else { None }
    }
}

impl<'r> Read<'r> for &'r [u8] {
    fn read(value: Value<'r>) -> Option<Self> {
        if let Value::Blob(bytes) = value { Some(bytes) } else { None }
    }
}

impl Read<'_> for Vec<u8> {
    fn read(value: Value<'_>) -> Option<Self> {
        if let Value::Blob(bytes) = value { Some(bytes.to_owned()) } else { None }
    }
}

impl<'r, T: Read<'r>> Read<'r> for Option<T> {
    fn read(value: Value<'r>) -> Option<Self> {
        if let Value::Null = value { Some(None) } else { T::read(value).map(Some) }
    }
}

/// A column's value.
pub(super) fn get<'r, T: Read<'r>>(row: &'r dyn Row, column: &'static str) -> Result<T, sqlx::Error> {
    T::read(row.value(column)?).ok_or_else(|| malformed(column))
}

/// A column's text as one of our types; what does not read is an error.
pub(super) fn parsed<T: std::str::FromStr>(row: &dyn Row, column: &'static str) -> Result<T, sqlx::Error> {
    parse(get::<&str>(row, column)?, column)
}

/// The same where it may be NULL.
pub(super) fn maybe_parsed<T: std::str::FromStr>(
    row: &dyn Row,
    column: &'static str,
) -> Result<Option<T>, sqlx::Error> {
    get::<Option<&str>>(row, column)?.map(|text| parse(text, column)).transpose()
}

fn parse<T: std::str::FromStr>(text: &str, column: &'static str) -> Result<T, sqlx::Error> {
    text.parse().map_err(|_| malformed(column))
}

/// A column with a time.
pub(super) fn time(row: &dyn Row, column: &'static str) -> Result<Timestamp, sqlx::Error> {
    Ok(Timestamp::from_millis(get(row, column)?))
}

/// A column with a time or NULL.
pub(super) fn maybe_time(row: &dyn Row, column: &'static str) -> Result<Option<Timestamp>, sqlx::Error> {
    Ok(get::<Option<i64>>(row, column)?.map(Timestamp::from_millis))
}

/// A column with JSON that we built in the statement.
pub(super) fn json<T: serde::de::DeserializeOwned>(row: &dyn Row, column: &'static str) -> Result<T, sqlx::Error> {
    serde_json::from_str(get::<&str>(row, column)?).map_err(|_| malformed(column))
}

/// A column with a JSON array of grants. One that is none (written past the API) grants nothing.
pub(super) fn grants(row: &dyn Row, column: &'static str) -> Result<Vec<Grant>, sqlx::Error> {
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
