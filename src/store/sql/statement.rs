//! Statements with their arguments, and what comes back.

use std::sync::Arc;

use super::failure::moved;
use crate::domain::{Grant, Origin, Timestamp};
use crate::store::moving::{moved_to, received};

/// One argument of a statement. Nothing has a type, too: PostgreSQL asks for it.
#[derive(Debug, Clone)]
pub(in crate::store) enum Arg {
    Int(Option<i64>),
    Text(Option<String>),
    Blob(Option<Vec<u8>>),
}

/// What can be an argument.
pub(in crate::store) trait Bind {
    fn bind(value: Option<Self>) -> Arg
    where
        Self: Sized;
}

impl Bind for i64 {
    fn bind(value: Option<Self>) -> Arg {
        Arg::Int(value)
    }
}

impl Bind for Timestamp {
    fn bind(value: Option<Self>) -> Arg {
        Arg::Int(value.map(Self::millis))
    }
}

impl Bind for &str {
    fn bind(value: Option<Self>) -> Arg {
        Arg::Text(value.map(str::to_owned))
    }
}

impl Bind for String {
    fn bind(value: Option<Self>) -> Arg {
        Arg::Text(value)
    }
}

impl Bind for &[u8] {
    fn bind(value: Option<Self>) -> Arg {
        Arg::Blob(value.map(<[u8]>::to_vec))
    }
}

impl<T: Bind> From<T> for Arg {
    fn from(value: T) -> Self {
        T::bind(Some(value))
    }
}

impl<T: Bind> From<Option<T>> for Arg {
    fn from(value: Option<T>) -> Self {
        T::bind(value)
    }
}

/// Arguments of any type, in order.
macro_rules! args {
    ($($value:expr),* $(,)?) => { vec![$($crate::store::sql::statement::Arg::from($value)),*] };
}
pub(in crate::store) use args;

/// A connection that does what it is asked on the thread that asks.
pub(in crate::store) trait Statements {
    /// Runs statements separated by `;` whose `$1`, `$2` … share the arguments; the rows of all of them.
    fn all(&mut self, sql: &'static str, args: &[Arg]) -> Result<Vec<OwnRow>, sqlx::Error>;

    /// Runs the statements of an operation that is done from there: the first says who acts, the last asks for the rows of the
    /// log that it has written, and these are answered. `said`: from where it is done was said before.
    fn operate(
        &mut self,
        origin: &Origin,
        said: bool,
        sql: &'static str,
        args: &[Arg],
    ) -> Result<Vec<OwnRow>, sqlx::Error> {
        const ORIGIN: &str = "UPDATE acting SET address = $1, request = $2";
        if !said {
            let args: [Arg; 2] = [origin.address.clone().into(), origin.request.clone().into()];
            self.all(ORIGIN, &args)?;
        }
        self.all(sql, args)
    }
}

/// Who is asked what only reads.
pub(in crate::store) trait Ask: Send {
    type Row: Row + Send + Sync;

    /// The rows of one statement.
    fn all(
        &mut self,
        sql: &'static str,
        args: Vec<Arg>,
    ) -> impl Future<Output = Result<Vec<Self::Row>, sqlx::Error>> + Send;

    /// Its first row, if it has one.
    fn find(
        &mut self,
        sql: &'static str,
        args: Vec<Arg>,
    ) -> impl Future<Output = Result<Option<Self::Row>, sqlx::Error>> + Send {
        async move { Ok(self.all(sql, args).await?.into_iter().next()) }
    }

    /// Its first row.
    fn one(
        &mut self,
        sql: &'static str,
        args: Vec<Arg>,
    ) -> impl Future<Output = Result<Self::Row, sqlx::Error>> + Send {
        async move { self.find(sql, args).await?.ok_or(sqlx::Error::RowNotFound) }
    }
}

/// The statements of a script, for each is compiled and kept by itself.
pub(in crate::store) fn statements(script: &'static str) -> impl Iterator<Item = &'static str> {
    let mut quoted = false;
    let parts = script.split(move |c| {
        quoted ^= c == '\'';
        c == ';' && !quoted
    });
    parts.map(str::trim).filter(|statement| !statement.is_empty())
}

/// What one column holds.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) enum Value<'r> {
    Null,
    Int(i64),
    Text(&'r str),
    Blob(&'r [u8]),
}

/// A row, whichever connection it was read on.
pub(in crate::store) trait Row {
    fn value(&self, column: &'static str) -> Result<Value<'_>, sqlx::Error>;
}

/// A row with values of its own.
pub(in crate::store) struct OwnRow {
    pub(in crate::store) columns: Arc<[String]>,
    pub(in crate::store) values: Vec<Owned>,
}

/// A value of its own.
pub(in crate::store) enum Owned {
    Null,
    Int(i64),
    Text(String),
    Blob(Vec<u8>),
    /// Nothing that we store.
    Other,
}

impl Row for OwnRow {
    fn value(&self, column: &'static str) -> Result<Value<'_>, sqlx::Error> {
        match &self.values[place(&self.columns, column)?] {
            Owned::Null => Ok(Value::Null),
            Owned::Int(number) => Ok(Value::Int(*number)),
            Owned::Text(text) => Ok(Value::Text(text)),
            Owned::Blob(bytes) => Ok(Value::Blob(bytes)),
            Owned::Other => Err(malformed(column)),
        }
    }
}

/// Where a column stands; the last of its name.
pub(in crate::store) fn place(columns: &[String], column: &'static str) -> Result<usize, sqlx::Error> {
    let at = columns.iter().rposition(|name| name == column);
    at.ok_or_else(|| sqlx::Error::ColumnNotFound(column.to_owned()))
}

/// What a column can be read as.
pub(in crate::store) trait Read<'r>: Sized {
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
pub(in crate::store) fn get<'r, T: Read<'r>>(row: &'r dyn Row, column: &'static str) -> Result<T, sqlx::Error> {
    T::read(row.value(column)?).ok_or_else(|| malformed(column))
}

/// A column's text as one of our types; what does not read is an error.
pub(in crate::store) fn parsed<T: std::str::FromStr>(row: &dyn Row, column: &'static str) -> Result<T, sqlx::Error> {
    parse(get::<&str>(row, column)?, column)
}

/// The same where it may be NULL.
pub(in crate::store) fn maybe_parsed<T: std::str::FromStr>(
    row: &dyn Row,
    column: &'static str,
) -> Result<Option<T>, sqlx::Error> {
    get::<Option<&str>>(row, column)?.map(|text| parse(text, column)).transpose()
}

fn parse<T: std::str::FromStr>(text: &str, column: &'static str) -> Result<T, sqlx::Error> {
    text.parse()
        .map_err(|_| if moved_to(text).is_some() || received(text).is_some() { moved() } else { malformed(column) })
}

/// A column with a time.
pub(in crate::store) fn time(row: &dyn Row, column: &'static str) -> Result<Timestamp, sqlx::Error> {
    Ok(Timestamp::from_millis(get(row, column)?))
}

/// A column with a time or NULL.
pub(in crate::store) fn maybe_time(row: &dyn Row, column: &'static str) -> Result<Option<Timestamp>, sqlx::Error> {
    Ok(get::<Option<i64>>(row, column)?.map(Timestamp::from_millis))
}

/// A column with JSON that we built in the statement.
pub(in crate::store) fn json<T: serde::de::DeserializeOwned>(
    row: &dyn Row,
    column: &'static str,
) -> Result<T, sqlx::Error> {
    serde_json::from_str(get::<&str>(row, column)?).map_err(|_| malformed(column))
}

/// A column with a JSON array of grants. One that is none (written past the API) grants nothing.
pub(in crate::store) fn grants(row: &dyn Row, column: &'static str) -> Result<Vec<Grant>, sqlx::Error> {
    let texts: Vec<String> = json(row, column)?;
    Ok(texts.iter().filter_map(|text| text.parse().ok()).collect())
}

/// What was read is not what the schema promises.
pub(in crate::store) fn malformed(column: &'static str) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: "not of the expected form".into() }
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
