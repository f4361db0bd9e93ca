//! The log's tail, in one statement and so as of one moment: each row says where the log stands and which server says so.

use sqlx::postgres::PgConnection;

use crate::domain::Seq;
use crate::store::TailPage;
use crate::store::sql::log::{Page, tail_args};
use crate::store::sql::statement::{Ask as _, get};

use super::place::{Server, server};

const TAIL: &str = concat!(
    "SELECT server.standby, server.system, server.timeline, m.epoch, \
         (SELECT COALESCE(MAX(seq), 0) FROM changes) AS head, \
         c.known, c.seq, c.at, c.tenant, c.kind, c.target, c.\"user\", c.effect \
     FROM meta m CROSS JOIN ",
    server!(),
    " LEFT JOIN ( \
         (SELECT TRUE AS known, seq, at, tenant, kind, target, \"user\", effect FROM changes WHERE seq IN ($1, $2, $3)) \
         UNION ALL \
         (SELECT FALSE, seq, at, tenant, kind, target, \"user\", effect FROM changes \
             WHERE seq > $1 ORDER BY seq LIMIT $4)) c ON TRUE \
     ORDER BY c.seq"
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
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let server = Server::read(first)?;
    let mut page = Page::begin(first)?;
    for row in &rows {
        match get::<Option<bool>>(row, "known")? {
            None => {}
            Some(true) => page.know(row)?,
            Some(false) => page.add(row)?,
        }
    }
    Ok((server, page.end(after)))
}
