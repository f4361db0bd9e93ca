//! The connections that SQLx keeps: statements, and what comes back.

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{Decode, Row as _, Sqlite, Transaction, TypeInfo as _, ValueRef as _};

use crate::store::sql::statement::{Arg, Ask, Row, Value, malformed};

/// A statement, or several separated by `;` whose `$1`, `$2` … share the arguments. (Not `?1`: where a statement does not
/// use all numbers, sqlx takes the gaps for arguments.)
pub(super) fn query(sql: &'static str, args: Vec<Arg>) -> Query<'static, Sqlite, SqliteArguments> {
    args.into_iter().fold(sqlx::query(sql), |query, arg| match arg {
        Arg::Int(number) => query.bind(number),
        Arg::Text(text) => query.bind(text),
        Arg::Blob(bytes) => query.bind(bytes),
    })
}

impl Ask for SqlitePool {
    type Row = SqliteRow;

    async fn all(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<Vec<SqliteRow>, sqlx::Error> {
        query(sql, args).fetch_all(&*self).await
    }

    async fn find(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<Option<SqliteRow>, sqlx::Error> {
        query(sql, args).fetch_optional(&*self).await
    }
}

impl Ask for SqliteConnection {
    type Row = SqliteRow;

    async fn all(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<Vec<SqliteRow>, sqlx::Error> {
        query(sql, args).fetch_all(&mut *self).await
    }
}

impl Ask for Transaction<'static, Sqlite> {
    type Row = SqliteRow;

    async fn all(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<Vec<SqliteRow>, sqlx::Error> {
        query(sql, args).fetch_all(&mut **self).await
    }
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
