//! The log begins anew: after a restore, and where the database was taken back under our feet.

use crate::domain::{Change, Epoch, Seq, Timestamp};
use crate::store::SEAL_SECRET;

use super::log;
use super::statement::{Ask, args, statements};

/// Why it begins anew, as the log tells it.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Beginning {
    pub(in crate::store) actor: &'static str,
    pub(in crate::store) summary: &'static str,
    /// Sessions that are known here go on.
    pub(in crate::store) keep_sessions: bool,
}

/// Draws the line inside a transaction: another epoch, so that whatever was read before is stale; one row of the log that
/// touches everyone; no seal, so that the next who needs one makes a new one; and no replica has applied anything yet.
pub(in crate::store) async fn begin(
    ask: &mut impl Ask,
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
    for statement in statements(BEGIN) {
        ask.all(statement, args.clone()).await?;
    }
    Ok(())
}

/// The beginning where the database was taken back.
const TAKEN_BACK: Beginning =
    Beginning { actor: "system", summary: "the database was taken back", keep_sessions: false };

/// Begins it inside a transaction that has the writer's lock, if it is this epoch's and contradicts what was seen of it.
pub(in crate::store) async fn begin_where_taken_back(
    ask: &mut impl Ask,
    (epoch, seen): (Epoch, Option<&Change>),
    anew: Epoch,
    now: Timestamp,
) -> Result<bool, sqlx::Error> {
    let page = log::row_at(ask, seen.map_or(Seq::ZERO, |seen| seen.seq)).await?;
    if page.epoch != epoch || !seen.is_none_or(|seen| page.contradicts(seen)) {
        return Ok(false);
    }
    begin(ask, anew, now, TAKEN_BACK).await?;
    Ok(true)
}
