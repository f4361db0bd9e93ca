//! Statements on SQLx's connections, and what comes back.

use sqlx::postgres::{PgArguments, PgConnection, PgPool, PgRow};
use sqlx::query::Query;
use sqlx::{Decode, Postgres as Sql, Row as _, Transaction, TypeInfo as _, ValueRef as _};

use crate::store::sql::statement::{Arg, Ask, Owned, Row, Value, malformed};

/// One statement. Of its arguments only those are sent that it may use; PostgreSQL wants no gaps, and needs no more.
pub(super) fn query(sql: &'static str, args: Vec<Arg>) -> Query<'static, Sql, PgArguments> {
    args.into_iter().take(used(sql)).fold(sqlx::query(sql), |query, arg| match arg {
        Arg::Int(number) => query.bind(number),
        Arg::Text(text) => query.bind(text.map(sayable)),
        Arg::Blob(bytes) => query.bind(bytes),
    })
}

/// NUL, which PostgreSQL has no way to say, is asked for as a character that stands for none. Nothing that is to be stored
/// has it, by the time that it comes here.
pub(super) fn sayable(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{FFFF}") } else { text }
}

/// The highest `$` number in a statement.
fn used(sql: &str) -> usize {
    let numbers = sql.split('$').skip(1).filter_map(|rest| {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        rest[..digits].parse().ok()
    });
    numbers.max().unwrap_or(0)
}

impl Ask for PgPool {
    type Row = PgRow;

    async fn all(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<Vec<PgRow>, sqlx::Error> {
        // One that was lost while it was idle is tried again: when a server restarts, that is each connection of the pool.
        for _ in 0..self.options().get_max_connections() {
            match query(sql, args.clone()).fetch_all(&*self).await {
                Err(error) if is_lost(&error) => {}
                result => return result,
            }
        }
        query(sql, args).fetch_all(&*self).await
    }
}

/// Whether the connection is gone, so that another may do.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => true,
        // The server goes down, or has ended what idled.
        sqlx::Error::Database(cause) => cause.code().is_some_and(|state| state.starts_with("57P") || state == "25P03"),
        _ => false,
    }
}

impl Ask for PgConnection {
    type Row = PgRow;

    async fn all(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<Vec<PgRow>, sqlx::Error> {
        query(sql, args).fetch_all(&mut *self).await
    }
}

impl Ask for Transaction<'_, Sql> {
    type Row = PgRow;

    async fn all(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<Vec<PgRow>, sqlx::Error> {
        query(sql, args).fetch_all(&mut **self).await
    }
}

/// What our schema is made of.
enum Kind {
    Long,
    Short,
    Bool,
    Text,
    Bytes,
}

fn kind(name: &str) -> Option<Kind> {
    Some(match name {
        "INT8" => Kind::Long,
        "INT4" => Kind::Short,
        "BOOL" => Kind::Bool,
        "TEXT" | "VARCHAR" | "NAME" => Kind::Text,
        "BYTEA" => Kind::Bytes,
        _ => return None,
    })
}

impl Row for PgRow {
    fn value(&self, column: &'static str) -> Result<Value<'_>, sqlx::Error> {
        let raw = self.try_get_raw(column)?;
        if raw.is_null() {
            return Ok(Value::Null);
        }
        let Some(kind) = kind(raw.type_info().name()) else { return Err(malformed(column)) };
        let unreadable = |_| malformed(column);
        match kind {
            Kind::Long => <i64 as Decode<'_, Sql>>::decode(raw).map(Value::Int).map_err(unreadable),
            Kind::Short => {
                <i32 as Decode<'_, Sql>>::decode(raw).map(|number| Value::Int(number.into())).map_err(unreadable)
            }
            Kind::Bool => <bool as Decode<'_, Sql>>::decode(raw).map(|yes| Value::Int(yes.into())).map_err(unreadable),
            Kind::Text => <&str as Decode<'_, Sql>>::decode(raw).map(Value::Text).map_err(unreadable),
            Kind::Bytes => <&[u8] as Decode<'_, Sql>>::decode(raw).map(Value::Blob).map_err(unreadable),
        }
    }
}

/// A value of a row, kept.
pub(super) fn owned(row: &PgRow, at: usize) -> Owned {
    let Ok(raw) = row.try_get_raw(at) else { return Owned::Other };
    if raw.is_null() {
        return Owned::Null;
    }
    let Some(kind) = kind(raw.type_info().name()) else { return Owned::Other };
    let kept = match kind {
        Kind::Long => <i64 as Decode<'_, Sql>>::decode(raw).map(Owned::Int),
        Kind::Short => <i32 as Decode<'_, Sql>>::decode(raw).map(|number| Owned::Int(number.into())),
        Kind::Bool => <bool as Decode<'_, Sql>>::decode(raw).map(|yes| Owned::Int(yes.into())),
        Kind::Text => <String as Decode<'_, Sql>>::decode(raw).map(Owned::Text),
        Kind::Bytes => <Vec<u8> as Decode<'_, Sql>>::decode(raw).map(Owned::Blob),
    };
    kept.unwrap_or(Owned::Other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_sent_the_arguments_that_it_may_use() {
        assert_eq!(used("SELECT 1"), 0);
        assert_eq!(used("SELECT $1, $12 WHERE $3 = '$'"), 12);
    }
}
