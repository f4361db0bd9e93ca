//! A connection that is used on the thread that asks: with one that lives on a thread of its own, each statement of a write
//! and every few rows of the tail would cost two wake-ups.

use std::borrow::Cow;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, types};
use sqlx::error::{DatabaseError, ErrorKind};

use super::sql::{Arg, Row, Value, malformed};

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

    /// Runs statements separated by `;` whose `$1`, `$2` … share the arguments; the rows of all of them.
    pub(super) fn all(&self, sql: &'static str, args: &[Arg]) -> Result<Vec<OwnRow>, sqlx::Error> {
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
            let arg = number.and_then(|number| args.get(number.checked_sub(1)?)).unwrap_or(&Arg::Null);
            let value = match arg {
                Arg::Null => ValueRef::Null,
                Arg::Int(number) => ValueRef::Integer(*number),
                Arg::Text(text) => ValueRef::Text(text.as_bytes()),
                Arg::Blob(bytes) => ValueRef::Blob(bytes),
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

/// Text that is none is kept as it is, and then reads as nothing.
fn owned(value: ValueRef<'_>) -> types::Value {
    types::Value::try_from(value)
        .unwrap_or_else(|_| types::Value::Blob(value.as_bytes().unwrap_or_default().to_owned()))
}

/// A row with values of its own.
pub(super) struct OwnRow {
    columns: Arc<[String]>,
    values: Vec<types::Value>,
}

impl Row for OwnRow {
    fn value(&self, column: &'static str) -> Result<Value<'_>, sqlx::Error> {
        match &self.values[place(&self.columns, column)?] {
            types::Value::Null => Ok(Value::Null),
            types::Value::Integer(number) => Ok(Value::Int(*number)),
            types::Value::Text(text) => Ok(Value::Text(text)),
            types::Value::Blob(bytes) => Ok(Value::Blob(bytes)),
            types::Value::Real(_) => Err(malformed(column)),
        }
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

/// Where a column stands; the last of its name.
fn place(columns: &[String], column: &'static str) -> Result<usize, sqlx::Error> {
    let at = columns.iter().rposition(|name| name == column);
    at.ok_or_else(|| sqlx::Error::ColumnNotFound(column.to_owned()))
}

/// The statements of a script, for each is compiled and kept by itself.
fn statements(script: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let parts = script.split(move |c| {
        quoted ^= c == '\'';
        c == ';' && !quoted
    });
    parts.map(str::trim).filter(|statement| !statement.is_empty())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_cut_between_its_statements() {
        let script = "SELECT ';', 'it''s;'; UPDATE a SET b = 'permcast;' ;; ";
        let cut: Vec<_> = statements(script).collect();
        assert_eq!(cut, ["SELECT ';', 'it''s;'", "UPDATE a SET b = 'permcast;'"]);
    }
}
