//! The log begins anew: after a restore, and where the database was taken back under our feet.

use sqlx::sqlite::SqliteConnection;

use crate::domain::{Epoch, Timestamp};
use crate::store::SEAL_SECRET;

use super::sql::{args, query};

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
