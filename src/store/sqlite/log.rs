//! The change log as it is read.

use sqlx::sqlite::{SqliteConnection, SqlitePool};

use crate::domain::limits::TAIL_PAGE_ROWS;
use crate::domain::{Change, Effect, LogRow, Seq, Target, TenantName, Timestamp};
use crate::store::TailPage;

use super::sql::{Row, args, get, malformed, maybe_parsed, parsed, query};

/// A position as it is stored.
pub(super) fn seq(row: &dyn Row, column: &'static str) -> Result<Seq, sqlx::Error> {
    position(get(row, column)?, column)
}

pub(super) fn position(number: i64, column: &'static str) -> Result<Seq, sqlx::Error> {
    u64::try_from(number).ok().and_then(Seq::new).ok_or_else(|| malformed(column))
}

/// A position as a statement's argument.
pub(super) fn number(seq: Seq) -> i64 {
    i64::try_from(seq.get()).expect("a position has 48 bits")
}

/// A row of the log, and whether it could be read. One that could not touches everyone.
pub(super) fn change(row: &dyn Row) -> Result<(Change, bool), sqlx::Error> {
    let seq = seq(row, "seq")?;
    let at = get::<i64>(row, "at");
    let target = target(row);
    let effect = get::<&str>(row, "effect");
    let readable = at.is_ok() && effect.is_ok() && target.is_some();
    let change = Change {
        seq,
        at: Timestamp::from_millis(at.unwrap_or_default()),
        target: target.unwrap_or(Target::Everyone),
        effect: effect.map_or(Effect::Changed, Effect::from_word),
    };
    Ok((change, readable))
}

fn target(row: &dyn Row) -> Option<Target> {
    let name: Option<&str> = get(row, "target").ok()?;
    Target::parse(get(row, "kind").ok()?, get(row, "tenant").ok()?, name.unwrap_or(""), get(row, "user").ok()?)
}

/// Rows after `$1`, at most `$2`; one row without a `seq` where there are none.
pub(super) const TAIL: &str = "SELECT m.epoch, h.head, later.* \
     FROM meta m JOIN (SELECT COALESCE(MAX(seq), 0) AS head FROM changes) h \
     LEFT JOIN (SELECT seq, at, tenant, kind, target, user, effect FROM changes WHERE seq > $1 ORDER BY seq LIMIT $2) later ORDER BY later.seq";

/// Rows after `after`. One statement: one fresh transaction.
pub(super) async fn tail(connection: &mut SqliteConnection, after: Seq) -> Result<TailPage, sqlx::Error> {
    let rows = query(TAIL, args![number(after), i64::from(TAIL_PAGE_ROWS)]).fetch_all(connection).await?;
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let mut page = TailPage {
        epoch: parsed(first, "epoch")?,
        head: seq(first, "head")?,
        changes: Vec::new(),
        unreadable: 0,
        complete: false,
    };
    for row in rows.iter().filter(|row| !matches!(get::<Option<i64>>(*row, "seq"), Ok(None))) {
        let (change, readable) = change(row)?;
        page.unreadable += u32::from(!readable);
        page.changes.push(change);
    }
    page.complete = page.changes.last().map_or(after, |last| last.seq) >= page.head;
    Ok(page)
}

/// The highest position such that it and all before it were written before `time`.
pub(super) async fn position_at(readers: &SqlitePool, time: Timestamp) -> Result<Seq, sqlx::Error> {
    const POSITION: &str = "SELECT COALESCE((SELECT MIN(seq) - 1 FROM ( \
         SELECT seq FROM changes WHERE at >= $1 UNION ALL SELECT seq FROM changes WHERE at IS NULL)), \
         (SELECT MAX(seq) FROM changes), 0) AS seq";
    seq(&query(POSITION, args![time]).fetch_one(readers).await?, "seq")
}

/// The log as one tenant's administrators may read it, or all of it.
pub(super) async fn changes(
    readers: &SqlitePool,
    tenant: Option<&TenantName>,
    after: Seq,
    limit: u32,
) -> Result<Vec<LogRow>, sqlx::Error> {
    const ALL: &str = "SELECT seq, at, actor, tenant, kind, target, user, effect, summary FROM changes \
         WHERE seq > $1 ORDER BY seq LIMIT $2";
    const OF_ONE: &str = "SELECT seq, at, actor, tenant, kind, target, user, effect, summary FROM ( \
         SELECT * FROM (SELECT * FROM changes WHERE tenant = $3 AND seq > $1 ORDER BY seq LIMIT $2) \
         UNION ALL \
         SELECT * FROM (SELECT * FROM changes WHERE tenant IS NULL AND seq > $1 ORDER BY seq LIMIT $2)) \
         ORDER BY seq LIMIT $2";
    let (after, limit) = (number(after), i64::from(limit));
    let rows = match tenant {
        None => query(ALL, args![after, limit]),
        Some(tenant) => query(OF_ONE, args![after, limit, tenant.as_str()]),
    };
    let rows = rows.fetch_all(readers).await?;
    rows.iter()
        .map(|row| {
            let text = |column| maybe_parsed::<String>(row, column).ok().flatten().unwrap_or_default();
            Ok(LogRow { change: change(row)?.0, actor: text("actor"), summary: text("summary") })
        })
        .collect()
}
