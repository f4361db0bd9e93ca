//! The change log as it is read.

use sqlx::sqlite::{SqliteConnection, SqlitePool};

use crate::domain::limits::TAIL_PAGE_ROWS;
use crate::domain::{Change, Effect, LogRow, Seq, Target, TenantName, Timestamp, Version};
use crate::store::TailPage;

use super::direct::Direct;
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

/// Rows after `$1`, at most `$2`.
pub(super) const TAIL: &str = "SELECT seq, at, tenant, kind, target, user, effect FROM changes \
     WHERE seq > $1 ORDER BY seq LIMIT $2";

/// Rows after `after`, and those at it and at the anchors, in one fresh transaction.
pub(super) fn tail(connection: &Direct, after: Seq, anchors: [Seq; 2]) -> Result<TailPage, sqlx::Error> {
    const HEAD: &str = "SELECT epoch, (SELECT COALESCE(MAX(seq), 0) FROM changes) AS head FROM meta";
    const KNOWN: &str = "SELECT seq, at, tenant, kind, target, user, effect FROM changes WHERE seq IN ($1, $2, $3)";
    let [one, other] = anchors.map(number);
    connection.reading(|connection| {
        let mut page = None;
        connection.each(HEAD, &[], &mut |row| {
            let (epoch, head) = (parsed(row, "epoch")?, seq(row, "head")?);
            let (known, changes) = (Vec::new(), Vec::new());
            page = Some(TailPage { epoch, head, known, changes, unreadable: 0, complete: false });
            Ok(())
        })?;
        let mut page = page.ok_or(sqlx::Error::RowNotFound)?;
        connection.each(KNOWN, &[number(after).into(), one.into(), other.into()], &mut |row| {
            page.known.push(change(row)?.0);
            Ok(())
        })?;
        connection.each(TAIL, &[number(after).into(), i64::from(TAIL_PAGE_ROWS).into()], &mut |row| {
            let (change, readable) = change(row)?;
            page.unreadable += u32::from(!readable);
            page.changes.push(change);
            Ok(())
        })?;
        page.complete = page.changes.last().map_or(after, |last| last.seq) >= page.head;
        Ok(page)
    })
}

/// The epoch, the head, and of all rows the one at `at`, where there is one.
pub(super) async fn row_at(connection: &mut SqliteConnection, at: Seq) -> Result<TailPage, sqlx::Error> {
    const ROW: &str = "SELECT m.epoch, (SELECT COALESCE(MAX(seq), 0) FROM changes) AS head, \
         c.seq, c.at, c.tenant, c.kind, c.target, c.user, c.effect FROM meta m LEFT JOIN changes c ON c.seq = $1";
    let row = query(ROW, args![number(at)]).fetch_one(connection).await?;
    let found = get::<Option<i64>>(&row, "seq")?.is_some();
    let known = if found { vec![change(&row)?.0] } else { Vec::new() };
    let (epoch, head) = (parsed(&row, "epoch")?, seq(&row, "head")?);
    Ok(TailPage { epoch, head, known, changes: Vec::new(), unreadable: 0, complete: false })
}

/// The highest position such that it and all before it were written before `time`.
pub(super) async fn position_at(readers: &SqlitePool, time: Timestamp) -> Result<Version, sqlx::Error> {
    const POSITION: &str = "SELECT epoch, COALESCE((SELECT MIN(seq) - 1 FROM ( \
         SELECT seq FROM changes WHERE at >= $1 UNION ALL SELECT seq FROM changes WHERE at IS NULL)), \
         (SELECT MAX(seq) FROM changes), 0) AS seq FROM meta";
    let row = query(POSITION, args![time]).fetch_one(readers).await?;
    Ok(Version { epoch: parsed(&row, "epoch")?, seq: seq(&row, "seq")? })
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
