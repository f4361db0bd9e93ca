//! Everything moves from a file of SQLite to a server of PostgreSQL, under the same epoch: tokens and sessions stay good.
//!
//! One transaction on each side. That of the file has the writer's lock all the time, so that what is copied is all that
//! there is; replicas on it go on deciding meanwhile, and refuse writes. When every row has been read back from the server
//! and compared, the file is marked as moved first, and then the server's side commits: so there is never a moment in which
//! both go on. Whatever happens before leaves all as it was; if it happens between the two, the same command, given again,
//! finishes.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use futures_util::StreamExt as _;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::sql::failure::failed;
use super::{StoreError, postgres, sqlite};
use crate::domain::{Epoch, Random, Seq, Version};

/// Tables that say nothing beyond the moment, or that each engine keeps in its own way.
const OWN: &[&str] = &["meta", "counter", "unnumbered", "audit_unnumbered", "permcast_schema", "retention", "replicas"];
/// How much is sent to the server at once.
const PIECE: usize = 64 * 1024;

/// What was moved.
#[derive(Debug)]
pub struct Moved {
    /// Where the log stands.
    pub version: Version,
    /// Rows; none where it had been moved before.
    pub rows: Option<u64>,
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
    pub deadline: Duration,
}

/// Moves it. `tell` hears how many rows of a table have gone, of how many.
pub async fn relocate(
    Move { from, to, shown, deadline }: Move<'_>,
    random: &dyn Random,
    tell: &mut (dyn FnMut(&str, u64, u64) + Send),
) -> Result<Moved, StoreError> {
    let mut source = sqlite::locked(from, deadline).await?;
    let (there, marked) = head_of(&mut source).await.map_err(failed("reading the source"))?;
    let mut connection = postgres::migrated(to, deadline, random).await?;
    let doing = || failed("writing to the target");
    let mut target = connection.begin().await.map_err(doing())?;
    let standing = sqlx::query("SELECT l.epoch, (SELECT seq FROM counter) AS seq FROM lock_log() l");
    let here = version(&standing.fetch_one(&mut *target).await.map_err(doing())?).map_err(doing())?;
    if here.epoch == there.epoch && marked {
        return Ok(Moved { version: here, rows: None });
    }
    if here.seq > Seq::ZERO {
        return Err(StoreError::Unusable(format!("{shown} holds something already: move into an empty database")));
    }
    sqlx::raw_sql(TRIGGERS_OFF).execute(&mut *target).await.map_err(doing())?;
    let mut rows = 0;
    for table in tables(&mut target).await.map_err(doing())? {
        rows += copy(&mut source, &mut target, &table, tell).await?;
    }
    counts(&mut source, &mut target, there.epoch).await.map_err(doing())?;
    sqlx::raw_sql(TRIGGERS_ON).execute(&mut *target).await.map_err(doing())?;

    let mark = format!("moved {} {shown}", there.epoch);
    sqlx::query("UPDATE meta SET epoch = $1").bind(mark).execute(&mut source).await.map_err(failed("marking"))?;
    sqlx::query("COMMIT").execute(&mut source).await.map_err(failed("marking the source as moved"))?;
    target.commit().await.map_err(failed("committing (the source is marked already: give the same command again)"))?;
    Ok(Moved { version: there, rows: Some(rows) })
}

/// Where it was moved to, if this is what a database that was moved has in the place of its epoch.
pub(super) fn moved_to(epoch: &str) -> Option<(&str, &str)> {
    epoch.strip_prefix("moved ")?.split_once(' ')
}

const TRIGGERS_OFF: &str = "DO $$ DECLARE found record; BEGIN \
     FOR found IN SELECT oid::regclass AS relation FROM pg_class \
         WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' LOOP \
         EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER', found.relation); \
     END LOOP; END $$";
const TRIGGERS_ON: &str = "DO $$ DECLARE found record; BEGIN \
     FOR found IN SELECT t.tgname, t.tgrelid::regclass AS relation FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
         WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND NOT t.tgisinternal LOOP \
         EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', found.relation, found.tgname); \
     END LOOP; END $$";

/// Where the source's log stands, and whether it is marked as moved.
async fn head_of(source: &mut SqliteConnection) -> Result<(Version, bool), sqlx::Error> {
    const HEAD: &str = "SELECT epoch, (SELECT COALESCE(MAX(seq), 0) FROM changes) AS seq FROM meta";
    let row = sqlx::query(HEAD).fetch_one(source).await?;
    let epoch: String = row.try_get("epoch")?;
    let (own, marked) = moved_to(&epoch).map_or((epoch.as_str(), false), |(own, _)| (own, true));
    Ok((position(own, row.try_get("seq")?)?, marked))
}

fn version(row: &sqlx::postgres::PgRow) -> Result<Version, sqlx::Error> {
    position(row.try_get("epoch")?, row.try_get("seq")?)
}

fn position(epoch: &str, seq: i64) -> Result<Version, sqlx::Error> {
    let malformed = || sqlx::Error::Decode("no position in a log".into());
    let seq = u64::try_from(seq).ok().and_then(Seq::new).ok_or_else(malformed)?;
    Ok(Version { epoch: epoch.parse().map_err(|_| malformed())?, seq })
}

/// A table, and for each of its columns how SQLite is to write it as PostgreSQL does when it copies.
struct Table {
    name: String,
    columns: Vec<(String, String)>,
}

async fn tables(target: &mut PgConnection) -> Result<Vec<Table>, sqlx::Error> {
    const COLUMNS: &str = "SELECT c.table_name::text AS table_name, c.column_name::text AS column_name, \
         c.data_type::text AS data_type FROM information_schema.columns c JOIN information_schema.tables t \
         ON t.table_schema = c.table_schema AND t.table_name = c.table_name AND t.table_type = 'BASE TABLE' \
         WHERE c.table_schema = current_schema() ORDER BY c.table_name, c.ordinal_position";
    let mut tables: Vec<Table> = Vec::new();
    for row in sqlx::query(COLUMNS).fetch_all(target).await? {
        let (name, column, kind): (String, String, String) =
            (row.try_get("table_name")?, row.try_get("column_name")?, row.try_get("data_type")?);
        if OWN.contains(&name.as_str()) {
            continue;
        }
        if tables.last().is_none_or(|last| last.name != name) {
            tables.push(Table { name: name.clone(), columns: Vec::new() });
        }
        let written = written(&column, &kind, name == "changes");
        let table = tables.last_mut().expect("one was pushed");
        table.columns.push((column, written));
    }
    Ok(tables)
}

/// What a column cannot hold in PostgreSQL is sent as it is, and so refused; but a row of the log that nobody can read
/// stays one, and touches everyone.
fn written(column: &str, kind: &str, log: bool) -> String {
    let column = format!("\"{column}\"");
    let (number, nothing) = (format!("CAST({column} AS TEXT)"), "'\\N'");
    let escapes = [(92, "\\\\"), (8, "\\b"), (9, "\\t"), (10, "\\n"), (11, "\\v"), (12, "\\f"), (13, "\\r")];
    let text = escapes
        .iter()
        .fold(number.clone(), |text, (code, escaped)| format!("replace({text}, char({code}), '{escaped}')"));
    let value = match kind {
        "bigint" if log => {
            return format!("CASE typeof({column}) WHEN 'integer' THEN {number} ELSE {nothing} END");
        }
        "bigint" => format!("CASE typeof({column}) WHEN 'integer' THEN {number} ELSE 'no number' END"),
        "bytea" => format!("'\\\\x' || lower(hex({column}))"),
        _ if log => {
            return format!(
                "CASE WHEN typeof({column}) = 'text' AND instr(CAST({column} AS BLOB), x'00') = 0 THEN {text} \
                 ELSE {nothing} END"
            );
        }
        _ => text,
    };
    format!("CASE WHEN {column} IS NULL THEN {nothing} ELSE {value} END")
}

/// Lines, in whatever order.
#[derive(Default, PartialEq, Eq)]
struct Sum {
    lines: u64,
    digest: [u64; 4],
}

impl Sum {
    fn add(&mut self, line: &[u8]) {
        self.lines += 1;
        for (sum, part) in self.digest.iter_mut().zip(digest(&SHA256, line).as_ref().chunks_exact(8)) {
            *sum = sum.wrapping_add(u64::from_be_bytes(part.try_into().expect("a part has 8 bytes")));
        }
    }
}

/// Copies a table, reads it back, and compares.
async fn copy(
    source: &mut SqliteConnection,
    target: &mut PgConnection,
    table: &Table,
    tell: &mut (dyn FnMut(&str, u64, u64) + Send),
) -> Result<u64, StoreError> {
    let (reading, writing) = (|| failed("reading the source"), || failed("writing to the target"));
    let name = format!("\"{}\"", table.name);
    let names: Vec<String> = table.columns.iter().map(|(column, _)| format!("\"{column}\"")).collect();
    let names = names.join(", ");
    let lines: Vec<&str> = table.columns.iter().map(|(_, written)| written.as_str()).collect();
    let lines = lines.join(" || char(9) || ");
    let of: i64 = sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {name}")))
        .fetch_one(&mut *source)
        .await
        .map_err(reading())?;
    sqlx::query(AssertSqlSafe(format!("DELETE FROM {name}"))).execute(&mut *target).await.map_err(writing())?;

    let mut sent = Sum::default();
    let mut copying = target.copy_in_raw(&format!("COPY {name} ({names}) FROM STDIN")).await.map_err(writing())?;
    let mut rows = sqlx::query(AssertSqlSafe(format!("SELECT {lines} AS line FROM {name}"))).fetch(&mut *source);
    let mut piece = Vec::with_capacity(PIECE + 4096);
    while let Some(row) = rows.next().await {
        let line: String = row.and_then(|row| row.try_get("line")).map_err(reading())?;
        sent.add(line.as_bytes());
        piece.extend_from_slice(line.as_bytes());
        piece.push(b'\n');
        if piece.len() >= PIECE {
            copying.send(&piece[..]).await.map_err(writing())?;
            piece.clear();
            tell(&table.name, sent.lines, of.unsigned_abs());
        }
    }
    copying.send(&piece[..]).await.map_err(writing())?;
    copying.finish().await.map_err(writing())?;
    drop(rows);

    let mut came = Sum::default();
    let mut rest = Vec::new();
    let mut back =
        target.copy_out_raw(&format!("COPY (SELECT {names} FROM {name}) TO STDOUT")).await.map_err(writing())?;
    while let Some(bytes) = back.next().await {
        rest.extend_from_slice(&bytes.map_err(writing())?);
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            came.add(&rest[..end]);
            rest.drain(..=end);
        }
    }
    if sent != came {
        return Err(StoreError::Inconsistent(format!(
            "what came of {} is not what went: nothing was moved",
            table.name
        )));
    }
    tell(&table.name, sent.lines, of.unsigned_abs());
    Ok(sent.lines)
}

/// What each engine keeps in its own way: the epoch, when everyone was signed out, and the last numbers that were given.
async fn counts(source: &mut SqliteConnection, target: &mut PgConnection, epoch: Epoch) -> Result<(), sqlx::Error> {
    const KEPT: &str = "SELECT sign_outs, ended_before, last_no FROM meta";
    let row = sqlx::query(KEPT).fetch_one(source).await?;
    sqlx::query("UPDATE meta SET epoch = $1, sign_outs = $2, ended_before = $3")
        .bind(epoch.as_str())
        .bind(row.try_get::<i64, _>("sign_outs")?)
        .bind(row.try_get::<i64, _>("ended_before")?)
        .execute(&mut *target)
        .await?;
    sqlx::query("SELECT setval('numbers', $1)").bind(row.try_get::<i64, _>("last_no")?).execute(&mut *target).await?;
    sqlx::query("UPDATE counter SET seq = (SELECT COALESCE(MAX(seq), 0) FROM changes)").execute(target).await.map(drop)
}
