//! A connection that is used on the thread that asks: with one that lives on a thread of its own, each statement of a write
//! and every few rows of the tail would cost two wake-ups.

use std::borrow::Cow;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags};
use sqlx::error::{DatabaseError, ErrorKind};

use crate::store::sql::statement::{Arg, OwnRow, Owned, Row, Statements, Value, malformed, place, statements};

/// Statements that are kept compiled: all that the writer has.
const STATEMENTS: usize = 256;

pub(super) struct Direct(Connection);

impl Direct {
    /// Opens a database that is there, for reading. Waits for a lock no longer than this.
    pub(super) fn reader(path: &Path, wait: Duration) -> Result<Self, sqlx::Error> {
        Self::open(path, OpenFlags::SQLITE_OPEN_READ_ONLY, wait, None)
    }

    /// Opens a database that is there, for writing. Does not wait for anybody's lock.
    pub(super) fn writer(path: &Path, pages_max: Option<u32>) -> Result<Self, sqlx::Error> {
        Self::open(path, OpenFlags::SQLITE_OPEN_READ_WRITE, Duration::ZERO, pages_max)
    }

    fn open(path: &Path, mode: OpenFlags, wait: Duration, pages_max: Option<u32>) -> Result<Self, sqlx::Error> {
        let opened = || {
            let connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
            connection.busy_timeout(wait)?;
            connection.pragma_update(None, "foreign_keys", true)?;
            connection.pragma_update(None, "synchronous", "full")?;
            connection.pragma_update(None, "temp_store", "memory")?;
            if let Some(pages) = pages_max {
                connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
            }
            connection.set_prepared_statement_cache_capacity(STATEMENTS);
            Ok(connection)
        };
        opened().map(Self).map_err(failure)
    }

    /// Hands over the rows of one statement, one by one and without a copy.
    pub(super) fn each(
        &self,
        sql: &'static str,
        args: &[Arg],
        take: &mut dyn FnMut(&dyn Row) -> Result<(), sqlx::Error>,
    ) -> Result<(), sqlx::Error> {
        self.run(sql, args, |columns, row| take(&Lent { columns, row }))
    }

    /// Does something that reads as of one moment.
    pub(super) fn reading<T>(&self, read: impl FnOnce(&Self) -> Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        self.run("BEGIN", &[], |_, _| Ok(()))?;
        let result = read(self);
        // A connection that is left in a transaction would see nothing new ever again.
        self.run("COMMIT", &[], |_, _| Ok(()))?;
        result
    }

    fn run(
        &self,
        statement: &str,
        args: &[Arg],
        mut take: impl FnMut(&Arc<[String]>, &rusqlite::Row<'_>) -> Result<(), sqlx::Error>,
    ) -> Result<(), sqlx::Error> {
        let mut statement = self.0.prepare_cached(statement).map_err(failure)?;
        for at in 1..=statement.parameter_count() {
            let number = statement.parameter_name(at).and_then(|name| name[1..].parse::<usize>().ok());
            let arg = number.and_then(|number| args.get(number.checked_sub(1)?)).unwrap_or(&Arg::Int(None));
            let value = match arg {
                Arg::Int(Some(number)) => ValueRef::Integer(*number),
                Arg::Text(Some(text)) => ValueRef::Text(text.as_bytes()),
                Arg::Blob(Some(bytes)) => ValueRef::Blob(bytes),
                Arg::Int(None) | Arg::Text(None) | Arg::Blob(None) => ValueRef::Null,
            };
            statement.raw_bind_parameter(at, ToSqlOutput::Borrowed(value)).map_err(failure)?;
        }
        let columns: Arc<[String]> = statement.column_names().into_iter().map(str::to_owned).collect();
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next().map_err(failure)? {
            take(&columns, row)?;
        }
        Ok(())
    }
}

impl Statements for Direct {
    fn all(&mut self, sql: &'static str, args: &[Arg]) -> Result<Vec<OwnRow>, sqlx::Error> {
        let mut found = Vec::new();
        for statement in statements(sql) {
            self.run(statement, args, |columns, row| {
                let values = (0..columns.len()).map(|at| row.get_ref(at).map(owned)).collect::<Result<_, _>>();
                found.push(OwnRow { columns: Arc::clone(columns), values: values.map_err(failure)? });
                Ok(())
            })?;
        }
        Ok(found)
    }
}

/// Text that is none is kept as it is, and then reads as nothing.
fn owned(value: ValueRef<'_>) -> Owned {
    match value {
        ValueRef::Null => Owned::Null,
        ValueRef::Integer(number) => Owned::Int(number),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Owned::Text(text.to_owned()),
            Err(_) => Owned::Blob(bytes.to_owned()),
        },
        ValueRef::Blob(bytes) => Owned::Blob(bytes.to_owned()),
        ValueRef::Real(_) => Owned::Other,
    }
}

/// A row that is looked at while the statement stands on it.
struct Lent<'a> {
    columns: &'a [String],
    row: &'a rusqlite::Row<'a>,
}

impl Row for Lent<'_> {
    fn value(&self, column: &'static str) -> Result<Value<'_>, sqlx::Error> {
        match self.row.get_ref(place(self.columns, column)?).map_err(failure)? {
            ValueRef::Null => Ok(Value::Null),
            ValueRef::Integer(number) => Ok(Value::Int(number)),
            ValueRef::Text(text) => std::str::from_utf8(text).map(Value::Text).map_err(|_| malformed(column)),
            ValueRef::Blob(bytes) => Ok(Value::Blob(bytes)),
            ValueRef::Real(_) => Err(malformed(column)),
        }
    }
}

/// What SQLite says is wrong, as the other connections say it.
#[derive(Debug)]
struct Failure {
    code: String,
    message: String,
}

fn failure(error: rusqlite::Error) -> sqlx::Error {
    match error {
        rusqlite::Error::SqliteFailure(cause, message) => sqlx::Error::Database(Box::new(Failure {
            code: cause.extended_code.to_string(),
            message: message.unwrap_or_else(|| cause.to_string()),
        })),
        other => sqlx::Error::Protocol(other.to_string()),
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "(code: {}) {}", self.code, self.message)
    }
}

impl Error for Failure {}

impl DatabaseError for Failure {
    fn message(&self) -> &str {
        &self.message
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&self.code))
    }

    fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}
