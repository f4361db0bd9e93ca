//! The change log as it is read.

use std::time::Duration;

use crate::domain::limits::TAIL_PAGE_ROWS;
use crate::domain::{Change, Effect, LogRow, Seq, Target, TenantName, Timestamp, Version};
use crate::store::TailPage;

use super::statement::{Arg, Ask, Row, args, get, malformed, maybe_parsed, parsed};
use super::transaction::Transaction;
use super::writer::{Fault, Work};

/// A position as it is stored.
pub(in crate::store) fn seq(row: &dyn Row, column: &'static str) -> Result<Seq, sqlx::Error> {
    position(get(row, column)?, column)
}

pub(in crate::store) fn position(number: i64, column: &'static str) -> Result<Seq, sqlx::Error> {
    u64::try_from(number).ok().and_then(Seq::new).ok_or_else(|| malformed(column))
}

/// A position as a statement's argument.
pub(in crate::store) fn number(seq: Seq) -> i64 {
    i64::try_from(seq.get()).expect("a position has 48 bits")
}

/// A row of the log, and whether it could be read. One that could not touches everyone.
pub(in crate::store) fn change(row: &dyn Row) -> Result<(Change, bool), sqlx::Error> {
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

/// Where the log stands.
pub(in crate::store) const HEAD: &str = "SELECT epoch, (SELECT COALESCE(MAX(seq), 0) FROM changes) AS head FROM meta";
/// The rows at three positions.
pub(in crate::store) const KNOWN: &str =
    "SELECT seq, at, tenant, kind, target, \"user\", effect FROM changes WHERE seq IN ($1, $2, $3)";
/// Rows after `$1`, at most `$2`.
pub(in crate::store) const TAIL: &str = "SELECT seq, at, tenant, kind, target, \"user\", effect FROM changes \
     WHERE seq > $1 ORDER BY seq LIMIT $2";

/// A page of the tail, as its rows come: those of [`HEAD`], [`KNOWN`], [`TAIL`], in one transaction.
pub(in crate::store) struct Page(TailPage);

impl Page {
    pub(in crate::store) fn begin(head: &dyn Row) -> Result<Self, sqlx::Error> {
        let (epoch, head) = (parsed(head, "epoch")?, seq(head, "head")?);
        let (known, changes) = (Vec::new(), Vec::new());
        Ok(Self(TailPage { epoch, head, known, changes, unreadable: 0, complete: false }))
    }

    pub(in crate::store) fn know(&mut self, row: &dyn Row) -> Result<(), sqlx::Error> {
        self.0.known.push(change(row)?.0);
        Ok(())
    }

    pub(in crate::store) fn add(&mut self, row: &dyn Row) -> Result<(), sqlx::Error> {
        let (change, readable) = change(row)?;
        self.0.unreadable += u32::from(!readable);
        self.0.changes.push(change);
        Ok(())
    }

    pub(in crate::store) fn end(mut self, after: Seq) -> TailPage {
        // Where parts of a statement are put together, no order is promised. As a rule this finds nothing to do.
        self.0.changes.sort_by_key(|change| change.seq);
        self.0.complete = self.0.changes.last().map_or(after, |last| last.seq) >= self.0.head;
        self.0
    }
}

/// The arguments of [`KNOWN`] and of [`TAIL`].
pub(in crate::store) fn tail_args(after: Seq, anchors: [Seq; 2]) -> (Vec<Arg>, Vec<Arg>) {
    let [one, other] = anchors.map(number);
    (args![number(after), one, other], args![number(after), i64::from(TAIL_PAGE_ROWS)])
}

/// The epoch, the head, and of all rows the one at `at`, where there is one.
pub(in crate::store) async fn row_at(connection: &mut impl Ask, at: Seq) -> Result<TailPage, sqlx::Error> {
    const ROW: &str = "SELECT m.epoch, (SELECT COALESCE(MAX(seq), 0) FROM changes) AS head, \
         c.seq, c.at, c.tenant, c.kind, c.target, c.\"user\", c.effect FROM meta m LEFT JOIN changes c ON c.seq = $1";
    let row = connection.one(ROW, args![number(at)]).await?;
    let found = get::<Option<i64>>(&row, "seq")?.is_some();
    let known = if found { vec![change(&row)?.0] } else { Vec::new() };
    let (epoch, head) = (parsed(&row, "epoch")?, seq(&row, "head")?);
    Ok(TailPage { epoch, head, known, changes: Vec::new(), unreadable: 0, complete: false })
}

/// The highest position such that it and all before it were written before `time`.
pub(in crate::store) async fn position_at(readers: &mut impl Ask, time: Timestamp) -> Result<Version, sqlx::Error> {
    const POSITION: &str = "SELECT epoch, COALESCE((SELECT MIN(seq) - 1 FROM ( \
         SELECT seq FROM changes WHERE at >= $1 UNION ALL SELECT seq FROM changes WHERE at IS NULL) late), \
         (SELECT MAX(seq) FROM changes), 0) AS seq FROM meta";
    let row = readers.one(POSITION, args![time]).await?;
    Ok(Version { epoch: parsed(&row, "epoch")?, seq: seq(&row, "seq")? })
}

/// The log as one tenant's administrators may read it, or all of it.
pub(in crate::store) async fn changes(
    readers: &mut impl Ask,
    tenant: Option<&TenantName>,
    after: Seq,
    limit: u32,
) -> Result<Vec<LogRow>, sqlx::Error> {
    const ALL: &str = "SELECT seq, at, actor, tenant, kind, target, \"user\", effect, summary FROM changes \
         WHERE seq > $1 ORDER BY seq LIMIT $2";
    const OF_ONE: &str = "SELECT seq, at, actor, tenant, kind, target, \"user\", effect, summary FROM ( \
         SELECT * FROM (SELECT * FROM changes WHERE tenant = $3 AND seq > $1 ORDER BY seq LIMIT $2) own \
         UNION ALL \
         SELECT * FROM (SELECT * FROM changes WHERE tenant IS NULL AND seq > $1 ORDER BY seq LIMIT $2) everyones) found \
         ORDER BY seq LIMIT $2";
    let (after, limit) = (number(after), i64::from(limit));
    let rows = match tenant {
        None => readers.all(ALL, args![after, limit]).await?,
        Some(tenant) => readers.all(OF_ONE, args![after, limit, tenant.as_str()]).await?,
    };
    rows.iter()
        .map(|row| {
            let text = |column| maybe_parsed::<String>(row, column).ok().flatten().unwrap_or_default();
            Ok(LogRow { change: change(row)?.0, actor: text("actor"), summary: text("summary") })
        })
        .collect()
}

/// The position of the oldest row.
pub(in crate::store) async fn oldest(readers: &mut impl Ask) -> Result<Seq, sqlx::Error> {
    seq(&readers.one("SELECT COALESCE(MIN(seq), 0) AS seq FROM changes", vec![]).await?, "seq")
}

/// Takes rows away that are old enough, from the oldest on, so that what is left has no gap.
pub(in crate::store) struct Pruning {
    pub(in crate::store) keep: Duration,
    pub(in crate::store) limit: u32,
}

impl Work for Pruning {
    type Answer = u64;

    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<u64, Fault> {
        const HEAD: &str = "SELECT seq, at FROM changes ORDER BY seq DESC LIMIT 1";
        const OLDEST: &str = "SELECT seq, at FROM changes ORDER BY seq LIMIT $1";
        const PRUNE: &str = "INSERT INTO retention (upto) VALUES ($1); DELETE FROM changes WHERE seq < $1; \
             DELETE FROM retention";
        // A time that cannot be read says nothing.
        let at = |row: &dyn Row| get::<Option<i64>>(row, "at").ok().flatten().map(Timestamp::from_millis);
        let Some(head) = transaction.all(HEAD, vec![])?.pop() else { return Ok(0) };
        // A clock that is ahead of those that wrote the log must not take it away.
        let newest = at(&head).map_or(transaction.now, |at| at.min(transaction.now));
        let (head, until) = (seq(&head, "seq")?, newest.minus(self.keep));
        let mut old = 0;
        let mut upto = Seq::ZERO;
        for row in transaction.all(OLDEST, args![i64::from(self.limit)])? {
            let this = seq(&row, "seq")?;
            if this >= head || at(&row).is_some_and(|at| at >= until) {
                break;
            }
            (old, upto) = (old + 1, this.next());
        }
        if old > 0 {
            transaction.execute(PRUNE, args![number(upto)])?;
        }
        Ok(old)
    }
}
