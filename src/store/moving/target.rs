//! The database on a server that everything moves into.

use std::time::Duration;

use futures_util::StreamExt as _;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Postgres, Row as _, Transaction};
use tokio::time::timeout;

use super::source::Counts;
use super::table::{Column, OWN, Piece, Table};
use super::{mark, received};
use crate::domain::{Epoch, Random, Seq, Version};
use crate::store::sql::failure::failed;
use crate::store::{StoreError, postgres};

const DOING: &str = "writing to the target";

/// The database, and the mark by which one knows that it is still one's own to write to.
pub(super) struct Target {
    connection: PgConnection,
    mark: String,
    deadline: Duration,
}

/// What was found at the target's address.
pub(super) enum Taken {
    /// It is to be written to, and nobody else does.
    Open(Target),
    /// Everything is there already.
    Done(Version),
}

/// All is there, and triggers fire again; as soon as it is committed.
pub(super) struct Opening<'a> {
    transaction: Transaction<'a, Postgres>,
    deadline: Duration,
}

/// What a piece is that was put in.
enum Put {
    Same,
    Different,
    /// Somebody else is at it.
    TakenOver,
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
/// Keys and bytes are written as they are read here; where nothing is known of a table yet, its key is still the way; and what
/// vacuums the tables is waited for until it gives way, which it does after a second (`deadlock_timeout`).
const SETTINGS: &str = "SET standard_conforming_strings = on; SET bytea_output = hex; SET lock_timeout = '4s'; \
     SET enable_seqscan = off; SET enable_bitmapscan = off";

/// Makes a database ready for what has this epoch. `marked`: the source says that it was moved here.
pub(super) async fn take(
    address: &str,
    shown: &str,
    epoch: Epoch,
    marked: bool,
    deadline: Duration,
    random: &dyn Random,
) -> Result<Taken, StoreError> {
    const STANDING: &str = "SELECT l.epoch, (SELECT COALESCE(MAX(seq), 0) FROM changes) AS seq FROM lock_log() l";
    let mut connection = postgres::for_a_move(address, deadline, random).await?;
    let mark = mark(epoch, Epoch::from_random(random.bytes()));
    let taking = async {
        let mut transaction = connection.begin().await?;
        // Another who was at it has the lock until the server has lost patience with him.
        sqlx::query("SET LOCAL lock_timeout = 0").execute(&mut *transaction).await?;
        let standing = sqlx::query(STANDING).fetch_one(&mut *transaction).await?;
        let (found, seq): (String, i64) = (standing.try_get("epoch")?, standing.try_get("seq")?);
        if found == epoch.as_str() && marked {
            let seq = u64::try_from(seq).ok().and_then(Seq::new);
            let seq = seq.ok_or_else(|| sqlx::Error::Decode("no position in a log".into()))?;
            return Ok(Err(Taken::Done(Version { epoch, seq })));
        }
        let refused = match received(&found) {
            Some(other) if other == epoch.as_str() => None,
            Some(_) => Some("holds part of another database: move into an empty one"),
            None if seq > 0 => Some("holds something already: move into an empty database"),
            None => None,
        };
        if let Some(why) = refused {
            return Ok(Ok(Some(why)));
        }
        sqlx::raw_sql(TRIGGERS_OFF).execute(&mut *transaction).await?;
        sqlx::query("UPDATE meta SET epoch = $1").bind(&mark).execute(&mut *transaction).await?;
        transaction.commit().await?;
        sqlx::raw_sql(SETTINGS).execute(&mut connection).await?;
        Ok(Ok(None))
    };
    match in_time(deadline * 2, taking).await? {
        Err(done) => Ok(done),
        Ok(Some(why)) => Err(StoreError::Unusable(format!("{shown} {why}"))),
        Ok(None) => Ok(Taken::Open(Target { connection, mark, deadline })),
    }
}

async fn in_time<T>(deadline: Duration, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
    let done = timeout(deadline, work).await;
    done.map_err(|_| StoreError::Unavailable { doing: DOING, source: None })?.map_err(failed(DOING))
}

fn taken_over() -> StoreError {
    StoreError::Unusable("another `permcast move` has taken the target over: nothing more was written to it".to_owned())
}

impl Target {
    /// What is to be copied.
    pub(super) async fn tables(&mut self) -> Result<Vec<Table>, StoreError> {
        const COLUMNS: &str = "SELECT c.relname::text AS table_name, a.attname::text AS column_name, \
             format_type(a.atttypid, NULL) AS kind, \
             array_position(i.indkey::smallint[], a.attnum)::bigint AS key \
             FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
             JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary \
             WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' ORDER BY c.relname, a.attnum";
        let reading = async {
            let mut tables: Vec<Table> = Vec::new();
            for row in sqlx::query(COLUMNS).fetch_all(&mut self.connection).await? {
                let name: String = row.try_get("table_name")?;
                if OWN.contains(&name.as_str()) {
                    continue;
                }
                if tables.last().is_none_or(|last| last.name != name) {
                    tables.push(Table::new(&name));
                }
                let (name, kind, key) = (row.try_get("column_name")?, row.try_get("kind")?, row.try_get("key")?);
                tables.last_mut().expect("one was pushed").push(Column { name, kind, key });
            }
            Ok(tables)
        };
        in_time(self.deadline, reading).await
    }

    /// A piece's rows, in the order of their keys.
    pub(super) async fn read(&mut self, table: &Table, piece: &Piece) -> Result<Vec<u8>, StoreError> {
        in_time(self.deadline, lines(&mut self.connection, table, piece)).await
    }

    /// Whether there is anything from the beginning of a piece on.
    pub(super) async fn has_behind(&mut self, table: &Table, piece: &Piece) -> Result<bool, StoreError> {
        let behind = table.in_target(&Piece { after: piece.after.clone(), upto: None });
        let statement = format!("SELECT EXISTS (SELECT 1 FROM {} WHERE {behind})", table.quoted());
        let asking = sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&mut self.connection);
        in_time(self.deadline, asking).await
    }

    /// Takes a piece's rows away.
    pub(super) async fn clear(&mut self, table: &Table, piece: &Piece) -> Result<(), StoreError> {
        self.write(table, piece, &[]).await
    }

    /// Puts these in a piece's place, and reads them back.
    pub(super) async fn put(&mut self, table: &Table, piece: &Piece, lines: &[u8]) -> Result<(), StoreError> {
        self.write(table, piece, lines).await
    }

    async fn write(&mut self, table: &Table, piece: &Piece, sent: &[u8]) -> Result<(), StoreError> {
        let writing = async {
            let Some(mut transaction) = still_ours(&mut self.connection, &self.mark).await? else {
                return Ok(Put::TakenOver);
            };
            let (name, rows) = (table.quoted(), table.in_target(piece));
            let delete = AssertSqlSafe(format!("DELETE FROM {name} WHERE {rows}"));
            sqlx::query(delete).persistent(false).execute(&mut *transaction).await?;
            if !sent.is_empty() {
                let copy = format!("COPY {name} ({}) FROM STDIN", table.columns());
                let mut copying = transaction.copy_in_raw(&copy).await?;
                copying.send(sent).await?;
                copying.finish().await?;
            }
            if lines(&mut transaction, table, piece).await? != sent {
                return Ok(Put::Different);
            }
            transaction.commit().await?;
            Ok(Put::Same)
        };
        match in_time(self.deadline, writing).await? {
            Put::Same => Ok(()),
            Put::TakenOver => Err(taken_over()),
            Put::Different => Err(StoreError::Inconsistent(format!(
                "what came of {} is not what went: nothing was moved",
                table.name
            ))),
        }
    }

    /// So that the server knows how to find what it has.
    pub(super) async fn analyze(&mut self) -> Result<(), StoreError> {
        in_time(self.deadline * 6, async { sqlx::raw_sql("ANALYZE").execute(&mut self.connection).await.map(drop) })
            .await
    }

    /// Does what is left, so that to commit it is all.
    pub(super) async fn open(&mut self, epoch: Epoch, counts: Counts) -> Result<Opening<'_>, StoreError> {
        let Self { connection, mark, deadline } = self;
        let opening = async {
            let Some(mut transaction) = still_ours(connection, mark).await? else { return Ok(None) };
            let target = &mut *transaction;
            sqlx::query("UPDATE meta SET epoch = $1, sign_outs = $2, ended_before = $3")
                .bind(epoch.as_str())
                .bind(counts.sign_outs)
                .bind(counts.ended_before)
                .execute(&mut *target)
                .await?;
            sqlx::query("SELECT setval('numbers', $1)").bind(counts.last_no).execute(&mut *target).await?;
            sqlx::raw_sql(TRIGGERS_ON).execute(&mut *target).await?;
            Ok(Some(transaction))
        };
        let transaction = in_time(*deadline, opening).await?.ok_or_else(taken_over)?;
        Ok(Opening { transaction, deadline: *deadline })
    }
}

impl Opening<'_> {
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        const DOING: &str = "committing (the source is marked already: give the same command again)";
        let done = timeout(self.deadline, self.transaction.commit()).await;
        done.map_err(|_| StoreError::Unavailable { doing: DOING, source: None })?.map_err(failed(DOING))
    }
}

/// Begins a transaction, in which nobody takes the database over; none where somebody has.
async fn still_ours<'a>(
    connection: &'a mut PgConnection,
    mark: &str,
) -> Result<Option<Transaction<'a, Postgres>>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let found: String = sqlx::query_scalar("SELECT epoch FROM lock_log()").fetch_one(&mut *transaction).await?;
    Ok((found == mark).then_some(transaction))
}

async fn lines(connection: &mut PgConnection, table: &Table, piece: &Piece) -> Result<Vec<u8>, sqlx::Error> {
    let (columns, name, rows, key) = (table.columns(), table.quoted(), table.in_target(piece), table.key());
    let copy = format!("COPY (SELECT {columns} FROM {name} WHERE {rows} ORDER BY {key}) TO STDOUT");
    let mut copying = connection.copy_out_raw(&copy).await?;
    let mut lines = Vec::new();
    while let Some(bytes) = copying.next().await {
        lines.extend_from_slice(&bytes?);
    }
    Ok(lines)
}
