//! The file that everything moves from.

use std::time::Duration;

use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::moved_to;
use super::table::{Key, Piece, Table};
use crate::domain::{Seq, Version};
use crate::store::sql::failure::failed;
use crate::store::{StoreError, sqlite};

/// Rows of a piece. As many are in memory twice.
const ROWS: u32 = 8192;

/// The file.
pub(super) struct Source {
    file: sqlite::Existing,
}

/// Where it stands.
pub(super) struct Standing {
    pub(super) version: Version,
    /// Where it was moved to, if it was.
    pub(super) moved_to: Option<String>,
}

/// Lines, and how many they are.
pub(super) struct Lines {
    pub(super) rows: u64,
    pub(super) lines: Vec<u8>,
}

/// What each engine keeps in its own way: when everyone was signed out, and the last numbers that were given.
pub(super) struct Counts {
    pub(super) sign_outs: i64,
    pub(super) ended_before: i64,
    pub(super) last_no: i64,
}

fn reading() -> impl FnOnce(sqlx::Error) -> StoreError {
    failed("reading the source")
}

impl Source {
    pub(super) async fn open(address: &str, deadline: Duration) -> Result<Self, StoreError> {
        Ok(Self { file: sqlite::Existing::open(address, deadline).await? })
    }

    /// Shows from here on what there is now. Nobody is kept from writing.
    pub(super) async fn snapshot(&mut self) -> Result<Standing, StoreError> {
        self.file.begin(false).await?;
        self.standing().await.map_err(reading())
    }

    /// From here on there is nobody else who writes.
    pub(super) async fn lock(&mut self) -> Result<Standing, StoreError> {
        self.run("ROLLBACK").await.map_err(reading())?;
        self.file.begin(true).await?;
        self.standing().await.map_err(reading())
    }

    /// Marks it as moved: nobody decides by it any more.
    pub(super) async fn mark(mut self, mark: &str) -> Result<(), StoreError> {
        let marking = || failed("marking the source as moved");
        let set = sqlx::query("UPDATE meta SET epoch = $1").bind(mark.to_owned());
        set.execute(&mut self.file.connection).await.map_err(marking())?;
        self.run("COMMIT").await.map_err(marking())
    }

    async fn run(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        sqlx::query(statement).execute(&mut self.file.connection).await.map(drop)
    }

    async fn one(&mut self, statement: String) -> Result<SqliteRow, sqlx::Error> {
        sqlx::query(AssertSqlSafe(statement)).fetch_one(&mut self.file.connection).await
    }

    async fn standing(&mut self) -> Result<Standing, sqlx::Error> {
        const HEAD: &str = "SELECT epoch, (SELECT COALESCE(MAX(seq), 0) FROM changes) AS seq FROM meta";
        let malformed = || sqlx::Error::Decode("no position in a log".into());
        let row = self.one(HEAD.to_owned()).await?;
        let epoch: String = row.try_get("epoch")?;
        let seq: i64 = row.try_get("seq")?;
        let (own, other) = match moved_to(&epoch) {
            Some((own, other)) => (own, Some(other.to_owned())),
            None => (epoch.as_str(), None),
        };
        let seq = u64::try_from(seq).ok().and_then(Seq::new).ok_or_else(malformed)?;
        let version = Version { epoch: own.parse().map_err(|_| malformed())?, seq };
        Ok(Standing { version, moved_to: other })
    }

    pub(super) async fn counts(&mut self) -> Result<Counts, StoreError> {
        let row = self.one("SELECT sign_outs, ended_before, last_no FROM meta".to_owned()).await.map_err(reading())?;
        let count = |column| row.try_get(column).map_err(reading());
        Ok(Counts { sign_outs: count("sign_outs")?, ended_before: count("ended_before")?, last_no: count("last_no")? })
    }

    /// How many rows a table has.
    pub(super) async fn count(&mut self, table: &Table) -> Result<u64, StoreError> {
        let counted = self.one(format!("SELECT count(*) AS rows FROM {}", table.quoted())).await;
        let rows: i64 = counted.and_then(|row| row.try_get("rows")).map_err(reading())?;
        Ok(rows.unsigned_abs())
    }

    /// The last key of the piece that begins behind a key; none if it is the table's last piece.
    pub(super) async fn key_after(&mut self, table: &Table, after: Option<&Key>) -> Result<Option<Key>, StoreError> {
        let behind = table.in_source(&Piece { after: after.cloned(), upto: None });
        let statement = format!(
            "SELECT {} AS in_source, {} AS in_target FROM {} WHERE {behind} ORDER BY {} LIMIT 1 OFFSET {}",
            table.key_written(false),
            table.key_written(true),
            table.quoted(),
            table.key(),
            ROWS - 1
        );
        let found = sqlx::query(AssertSqlSafe(statement)).fetch_optional(&mut self.file.connection).await;
        let key =
            |row: SqliteRow| Ok(Key { in_source: row.try_get("in_source")?, in_target: row.try_get("in_target")? });
        found.and_then(|row| row.map(key).transpose()).map_err(reading())
    }

    /// A piece's rows, in the order of their keys.
    pub(super) async fn read(&mut self, table: &Table, piece: &Piece) -> Result<Lines, StoreError> {
        let statement = format!(
            "SELECT count(*) AS rows, group_concat(line || char(10), '') AS lines \
             FROM (SELECT {} AS line FROM {} WHERE {} ORDER BY {})",
            table.line(),
            table.quoted(),
            table.in_source(piece),
            table.key()
        );
        let row = self.one(statement).await.map_err(reading())?;
        let rows: i64 = row.try_get("rows").map_err(reading())?;
        let lines: Option<String> = row.try_get("lines").map_err(reading())?;
        Ok(Lines { rows: rows.unsigned_abs(), lines: lines.unwrap_or_default().into_bytes() })
    }
}
