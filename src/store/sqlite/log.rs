//! The log's tail, read on the thread that asks.

use crate::domain::Seq;
use crate::store::TailPage;
use crate::store::sql::log::{HEAD, KNOWN, Page, TAIL, tail_args};

use super::direct::Direct;

/// Rows after `after`, and those at it and at the anchors, in one fresh transaction.
pub(super) fn tail(connection: &Direct, after: Seq, anchors: [Seq; 2]) -> Result<TailPage, sqlx::Error> {
    connection.reading(|connection| {
        let (mut page, (known, tail)) = (None, tail_args(after, anchors));
        connection.each(HEAD, &[], &mut |row| {
            page = Some(Page::begin(row)?);
            Ok(())
        })?;
        let mut page = page.ok_or(sqlx::Error::RowNotFound)?;
        connection.each(KNOWN, &known, &mut |row| page.know(row))?;
        connection.each(TAIL, &tail, &mut |row| page.add(row))?;
        Ok(page.end(after))
    })
}
