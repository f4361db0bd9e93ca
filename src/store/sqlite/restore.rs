//! A backup is put back: its rows, under our own schema, in one transaction of the live database.
//!
//! Whoever has the database open goes on with it, finds the new epoch in it at his next read, and never sees anything in
//! between; a crash leaves what was there. Files moved into place would do neither: who had the old one open would go on
//! with that. SQLite's backup API would copy pages as they are, the old epoch and an older schema among them, and so need a
//! second copy to be made ready first. And a backup whose triggers are gone or altered cannot bring that in.

use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use crate::domain::{Epoch, Random, Timestamp, Version};
use crate::store::sql::anew::{self, Beginning};
use crate::store::sql::failure::{CORRUPT, NOT_A_DATABASE, code, failed};
use crate::store::sql::log;
use crate::store::sql::statement::{args, get, parsed};
use crate::store::{Restored, StoreError};

use super::place::{Place, Schema};
use super::query::query;

const DOING: &str = "restoring the database";

impl Place {
    /// Puts the backup in the place of whatever is here.
    pub(super) async fn restore(
        &self,
        backup: &Path,
        keep_sessions: bool,
        now: Timestamp,
        random: &dyn Random,
    ) -> Result<Restored, StoreError> {
        let taken = self.look_at(backup).await?;
        let mut connection = self.begin_restoring().await?;
        // Read-only: a backup is not altered by being put back.
        let address = format!("file:{}?mode=ro", utf8_percent_encode(&backup.to_string_lossy(), NON_ALPHANUMERIC));
        let attached = query("ATTACH $1 AS backup", args![address]).execute(&mut connection).await;
        attached.map_err(failed("opening the backup"))?;

        self.lock(&mut connection).await?;
        let opened = self.file();
        let before = self.what_is_here(&mut connection).await?;
        let epoch = Epoch::from_random(random.bytes());
        let beginning = Beginning { actor: "cli", summary: "restored from a backup", keep_sessions };
        let put_back = async {
            empty(&mut connection).await?;
            copy(&mut connection, &self.steps[..taken]).await?;
            for step in &self.steps[taken..] {
                run(&mut connection, step).await?;
            }
            mark_as_ours(&mut connection, self.steps.len()).await?;
            anew::begin(&mut connection, epoch, now, beginning).await?;
            what_came(&mut connection).await
        };
        // Dropped without a commit, the connection rolls back.
        let (after, users) = put_back.await.map_err(failed(DOING))?;
        query("COMMIT", vec![]).execute(&mut connection).await.map_err(failed("committing"))?;
        // Whatever was moved away meanwhile has it, and nobody will read it there.
        if opened.is_none() || self.file() != opened {
            return Err(StoreError::Replaced("its file was moved while the backup was put back"));
        }
        connection.close().await.map_err(failed("closing a connection"))?;
        Ok(Restored { before, after, users })
    }

    /// Makes sure that it is a whole database of ours; answers how many steps its schema has taken.
    async fn look_at(&self, backup: &Path) -> Result<usize, StoreError> {
        let shown = backup.display();
        let unusable = |why: &str| StoreError::Unusable(format!("{shown} {why}"));
        if !backup.is_file() {
            return Err(unusable("is no file"));
        }
        if Self::at_path(backup).file().is_some_and(|found| self.file() == Some(found)) {
            return Err(unusable("is the database itself"));
        }
        let reading = SqliteConnectOptions::new().filename(backup).read_only(true).busy_timeout(self.deadline);
        let looked = async {
            let mut connection = reading.connect().await?;
            let schema = Schema::read(&mut connection).await?;
            let row = query("SELECT integrity_check FROM pragma_integrity_check LIMIT 1", vec![]);
            let found: String = get(&row.fetch_one(&mut connection).await?, "integrity_check")?;
            connection.close().await?;
            Ok::<_, sqlx::Error>((schema, found))
        };
        let (schema, found) = match looked.await {
            Ok(looked) => looked,
            Err(error) if code(&error) == Some(NOT_A_DATABASE) => {
                return Err(unusable("is no SQLite database"));
            }
            Err(error) if code(&error) == Some(CORRUPT) => return Err(unusable("is damaged")),
            Err(error) => return Err(failed("reading the backup")(error)),
        };
        if !schema.is_ours() || schema.is_empty() {
            return Err(unusable("is no backup of permcast"));
        }
        if found != "ok" {
            return Err(unusable(&format!("is damaged: {found}")));
        }
        schema.steps_known(self.steps.len()).ok_or_else(|| unusable("was written by a newer permcast: use that one"))
    }

    async fn begin_restoring(&self) -> Result<SqliteConnection, StoreError> {
        self.refuse_network_file_systems()?;
        self.create_for_its_owner()?;
        // Foreign keys would have every table emptied row by row, and in their order.
        let options = self.options().foreign_keys(false).busy_timeout(std::time::Duration::ZERO);
        let mut connection = options.connect().await.map_err(failed("opening the database"))?;
        self.write_ahead(&mut connection).await?;
        Ok(connection)
    }

    /// Where what is here stands, if it is a database of ours; nothing else is written over.
    async fn what_is_here(&self, connection: &mut SqliteConnection) -> Result<Option<Version>, StoreError> {
        let schema = Schema::read(&mut *connection).await.map_err(failed(DOING))?;
        if schema.is_empty() {
            return Ok(None);
        }
        if !schema.is_ours() {
            return Err(self.foreign());
        }
        // A newer one is written over, too, and may not tell.
        Ok(what_came(connection).await.ok().map(|(version, _)| version))
    }
}

async fn run(connection: &mut SqliteConnection, statements: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(connection).await.map(drop)
}

/// The marks of a database of ours that has taken so many steps.
pub(super) async fn mark_as_ours(connection: &mut SqliteConnection, taken: usize) -> Result<(), sqlx::Error> {
    let application = super::place::APPLICATION_ID;
    run(connection, &format!("PRAGMA user_version = {taken}; PRAGMA application_id = {application}")).await
}

/// Names from the schema, in quotes.
async fn names(connection: &mut SqliteConnection, list: &'static str) -> Result<Vec<String>, sqlx::Error> {
    let rows = query(list, vec![]).fetch_all(connection).await?;
    rows.iter().map(|row| Ok(format!("\"{}\"", get::<String>(row, "name")?.replace('"', "\"\"")))).collect()
}

/// Takes away all that is here. The replicas that run are remembered: they go on.
async fn empty(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    const KEEP: &str = "CREATE TEMP TABLE running AS SELECT id, started_at, seen_at, connections FROM main.replicas";
    const NONE: &str = "CREATE TEMP TABLE running (id, started_at, seen_at, connections)";
    const VIEWS: &str = "SELECT name FROM main.sqlite_schema WHERE type = 'view'";
    const TABLES: &str = "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name NOT GLOB 'sqlite_*'";
    if run(connection, KEEP).await.is_err() {
        run(connection, NONE).await?;
    }
    for (kind, list) in [("VIEW", VIEWS), ("TABLE", TABLES)] {
        for name in names(connection, list).await? {
            run(connection, &format!("DROP {kind} main.{name}")).await?;
        }
    }
    Ok(())
}

/// Builds the backup's schema from our own steps, and fills its tables while there are no triggers.
async fn copy(connection: &mut SqliteConnection, steps: &[&str]) -> Result<(), sqlx::Error> {
    const TRIGGERS: &str = "SELECT name, sql FROM main.sqlite_schema WHERE type = 'trigger' ORDER BY rowid";
    const TABLES: &str = "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name NOT GLOB 'sqlite_*'";
    const RUNNING: &str = "DELETE FROM main.replicas; \
         INSERT INTO main.replicas (id, started_at, seen_at, applied, connections) \
             SELECT id, started_at, seen_at, 0, connections FROM temp.running; \
         DROP TABLE temp.running";
    for step in steps {
        run(connection, step).await?;
    }
    let rows = query(TRIGGERS, vec![]).fetch_all(&mut *connection).await?;
    let triggers = rows.iter().map(|row| get::<String>(row, "sql")).collect::<Result<Vec<_>, _>>()?;
    for name in names(connection, TRIGGERS).await? {
        run(connection, &format!("DROP TRIGGER main.{name}")).await?;
    }
    for name in names(connection, TABLES).await? {
        run(connection, &format!("DELETE FROM main.{name}; INSERT INTO main.{name} SELECT * FROM backup.{name}"))
            .await?;
    }
    run(connection, RUNNING).await?;
    for trigger in triggers {
        run(connection, &trigger).await?;
    }
    Ok(())
}

/// Where the log stands, and how many users there are.
async fn what_came(connection: &mut SqliteConnection) -> Result<(Version, u64), sqlx::Error> {
    const COUNT: &str = "SELECT epoch, (SELECT COALESCE(MAX(seq), 0) FROM main.changes) AS head, \
         (SELECT count(*) FROM main.users) AS users FROM main.meta";
    let row = query(COUNT, vec![]).fetch_one(connection).await?;
    let version = Version { epoch: parsed(&row, "epoch")?, seq: log::seq(&row, "head")? };
    Ok((version, get::<i64>(&row, "users")?.unsigned_abs()))
}

#[cfg(test)]
#[path = "restore_tests.rs"]
mod tests;
