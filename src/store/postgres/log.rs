//! The log's tail, in one statement and so as of one moment.

use sqlx::postgres::{PgConnection, PgRow};

use crate::domain::Seq;
use crate::store::TailPage;
use crate::store::sql::log::{Page, tail_args};
use crate::store::sql::statement::{Ask as _, get};

use super::place::{Server, server};

/// A row that says where the log stands and which server says so, then rows of the log, which say nothing of that: each comes
/// as it is found, and is neither sorted nor joined.
const TAIL: &str = concat!(
    "SELECT server.standby, server.system, server.timeline, m.epoch, \
         (SELECT COALESCE(MAX(seq), 0) FROM changes) AS head, NULL::boolean AS known, \
         NULL::bigint AS seq, NULL::bigint AS at, NULL AS tenant, NULL AS kind, NULL AS target, NULL AS \"user\", \
         NULL AS effect \
     FROM meta m CROSS JOIN ",
    server!(),
    " UNION ALL \
     SELECT NULL, NULL, NULL, NULL, NULL, TRUE, seq, at, tenant, kind, target, \"user\", effect FROM changes \
         WHERE seq IN ($1, $2, $3) \
     UNION ALL \
     (SELECT NULL, NULL, NULL, NULL, NULL, FALSE, seq, at, tenant, kind, target, \"user\", effect FROM changes \
         WHERE seq > $1 ORDER BY seq LIMIT $4)"
);

/// Rows after `after`, and those at it and at the anchors; and which server says so, if it is no standby.
pub(super) async fn tail(
    connection: &mut PgConnection,
    after: Seq,
    anchors: [Seq; 2],
) -> Result<(Option<Server>, TailPage), sqlx::Error> {
    let (mut args, mut limit) = tail_args(after, anchors);
    args.extend(limit.pop());
    let rows = connection.all(TAIL, args).await?;
    let known = |row: &PgRow| get::<Option<bool>>(row, "known");
    let standing = rows.iter().find(|row| matches!(known(row), Ok(None))).ok_or(sqlx::Error::RowNotFound)?;
    let server = Server::read(standing)?;
    let mut page = Page::begin(standing)?;
    for row in &rows {
        match known(row)? {
            None => {}
            Some(true) => page.know(row)?,
            Some(false) => page.add(row)?,
        }
    }
    Ok((server, page.end(after)))
}
