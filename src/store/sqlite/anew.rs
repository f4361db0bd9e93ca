//! The log begins anew: after a restore, and where the database was taken back under our feet.

use std::time::Duration;

use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::domain::{Change, Epoch, Seq, Timestamp};
use crate::store::{SEAL_SECRET, StoreError};

use super::log;
use super::place::{Files, Place};
use super::sql::{args, failed, query};

/// Why it begins anew, as the log tells it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beginning {
    pub(super) actor: &'static str,
    pub(super) summary: &'static str,
    /// Sessions that are known here go on.
    pub(super) keep_sessions: bool,
}

/// Draws the line inside a transaction: another epoch, so that whatever was read before is stale; one row of the log that
/// touches everyone; no seal, so that the next who needs one makes a new one; and no replica has applied anything yet.
pub(super) async fn begin(
    connection: &mut SqliteConnection,
    epoch: Epoch,
    now: Timestamp,
    beginning: Beginning,
) -> Result<(), sqlx::Error> {
    const BEGIN: &str = "UPDATE acting SET label = $1, session = NULL, at = $2, summary = $3, \
             mark = (SELECT COALESCE(MAX(seq), 0) FROM changes); \
         UPDATE meta SET epoch = $4; \
         INSERT INTO log (kind, effect) SELECT 'everyone', 'changed' WHERE $5 = 1; \
         UPDATE meta SET sign_outs = sign_outs + 1 WHERE $5 = 0; \
         DELETE FROM secrets WHERE name = $6; \
         UPDATE replicas SET applied = 0; \
         UPDATE acting SET label = NULL, session = NULL, at = NULL, summary = NULL, mark = NULL";
    let Beginning { actor, summary, keep_sessions } = beginning;
    let args = args![actor, now, summary, epoch.as_str(), i64::from(keep_sessions), SEAL_SECRET];
    query(BEGIN, args).execute(connection).await.map(drop)
}

impl Place {
    /// Begins the log anew, if it is this epoch's and contradicts what was seen of it.
    pub(super) async fn begin_anew(
        &self,
        opened: Files,
        (epoch, seen): (Epoch, Option<&Change>),
        anew: Epoch,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        const DOING: &str = "beginning the log anew";
        let beginning = Beginning { actor: "system", summary: "the database was taken back", keep_sessions: false };
        let mut connection = self.options().busy_timeout(Duration::ZERO).connect().await.map_err(failed(DOING))?;
        self.check(opened)?;
        // Dropped without a commit, the connection rolls back.
        self.lock(&mut connection).await?;
        let page =
            log::row_at(&mut connection, seen.map_or(Seq::ZERO, |seen| seen.seq)).await.map_err(failed(DOING))?;
        if page.epoch != epoch || !seen.is_none_or(|seen| page.contradicts(seen)) {
            return Ok(false);
        }
        begin(&mut connection, anew, now, beginning).await.map_err(failed(DOING))?;
        query("COMMIT", vec![]).execute(&mut connection).await.map_err(failed("committing"))?;
        self.check(opened)?;
        connection.close().await.map_err(failed("closing a connection"))?;
        Ok(true)
    }
}
