//! `/v1/tenants/{tenant}/changes`: the log, its stream, and how far each change has come.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::auth::Caller;
use super::client::client_address;
use super::problem::Problem;
use super::query::Query;
use super::route::Routes;
use super::standing::{Standing, Woken};
use super::{Services, tenants};
use crate::domain::{Epoch, LogRow, Seq, Target, TenantName};
use crate::hub::Seat;
use crate::protocol::problem::ProblemType;

/// Rows read at once by a stream.
const STREAM_ROWS: u32 = 100;
/// A comment is sent after so long without a change: it keeps the connection open in proxies, and finds out whose client
/// is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

pub(super) fn routes(routes: &mut Routes) {
    routes
        .get("/v1/tenants/{tenant}/changes", list)
        .get("/v1/tenants/{tenant}/changes/stream", follow)
        .get("/v1/tenants/{tenant}/changes/{seq}/propagation", propagation);
}

async fn list(
    request: HttpRequest,
    path: web::Path<String>,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    let tenant = tenants::managed(&caller, &services, &path).await?;
    let query = Query::of(&request);
    let (after, limit) = (query.after()?.unwrap_or_default(), query.limit()?);
    // One more than asked for tells whether more follow.
    let mut rows = services.store.changes(Some(&tenant), after, limit + 1).await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let pruned = pruned(&services, after).await?;
    let next = rows.last().filter(|_| more).map(|row| row.change.seq.to_string());
    let items: Vec<Value> = rows.iter().map(shown).collect();
    let mut body = json!({ "items": items, "next_cursor": next });
    if let Some(before) = pruned {
        body["pruned_before"] = json!(before);
    }
    Ok(HttpResponse::Ok().json(body))
}

/// Before which position the log has nothing any more, where that is behind the cursor: who reads on from there has missed
/// something.
async fn pruned(services: &Services, after: Seq) -> Result<Option<Seq>, Problem> {
    Ok(Some(services.store.oldest_change().await?).filter(|&oldest| after.next() < oldest))
}

fn shown(row: &LogRow) -> Value {
    let change = &row.change;
    let mut shown = json!({
        "seq": change.seq,
        "at": change.at,
        "actor": row.actor,
        "tenant": change.target.tenant(),
        "kind": change.target.kind(),
        "target": change.target.name(),
        "effect": change.effect,
        "summary": row.summary,
    });
    if let Target::Session { user, .. } = &change.target {
        shown["user"] = json!(user);
    }
    shown
}

async fn propagation(
    path: web::Path<(String, String)>,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    let tenant = tenants::managed(&caller, &services, &path.0).await?;
    let unknown = || Problem::new(ProblemType::NotFound, "there is no such change in this tenant's log");
    let seq = path.1.parse::<u64>().ok().filter(|&seq| seq > 0).and_then(Seq::new).ok_or_else(unknown)?;
    let before = Seq::new(seq.get() - 1).unwrap_or_default();
    let row = services.store.changes(Some(&tenant), before, 1).await?;
    if row.first().is_none_or(|row| row.change.seq != seq) {
        return Err(unknown());
    }
    Ok(HttpResponse::Ok().json(services.propagation.report(seq).await?))
}

/// A stream of the log under way.
struct Following {
    services: web::Data<Services>,
    standing: Standing,
    tenant: TenantName,
    epoch: Epoch,
    /// Told up to here.
    after: Seq,
    /// Whether there may be rows to read without a further change.
    more: bool,
    /// It counts as a connection.
    _seat: Seat,
}

async fn follow(
    request: HttpRequest,
    path: web::Path<String>,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    let tenant = tenants::managed(&caller, &services, &path).await?;
    let applied = services.feed.applied();
    let last = request.headers().get("Last-Event-ID").and_then(|id| id.to_str().ok()?.parse().ok()).and_then(Seq::new);
    let after = match last {
        Some(seq) => seq,
        None => Query::of(&request).after()?.unwrap_or(applied.seq),
    };
    let pruned = pruned(&services, after).await?;
    let seat = services.hub.admit(client_address(&request))?;
    let following = Following {
        standing: Standing::new(&caller, services.clone(), Some(tenant.clone())),
        services,
        tenant,
        epoch: applied.epoch,
        after,
        more: true,
        _seat: seat,
    };
    let events = stream::unfold(following, |mut following| async move {
        let events = following.next().await?;
        Some((Ok::<_, Infallible>(web::Bytes::from(events)), following))
    });
    // The first bytes go out at once, so that the client knows that it is connected.
    let mut first = ": connected\n\n".to_owned();
    if let Some(before) = pruned {
        let _ = write!(first, "event: pruned\ndata: {}\n\n", json!({ "pruned_before": before }));
    }
    let events = stream::iter([Ok(web::Bytes::from(first))]).chain(events);
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(events))
}

impl Following {
    /// The next events, or a comment where there was none for long; `None` where the stream is over.
    async fn next(&mut self) -> Option<String> {
        loop {
            let woken = self.standing.wait(if self.more { Duration::ZERO } else { KEEP_ALIVE }).await;
            if woken == Woken::Lost || self.services.feed.applied().epoch != self.epoch {
                return None;
            }
            if woken == Woken::Idle && !self.more {
                return Some(":\n\n".to_owned());
            }
            let rows = self.read().await?;
            self.more = rows.len() == STREAM_ROWS as usize;
            if let Some(last) = rows.last() {
                self.after = last.change.seq;
                return Some(rows.iter().map(event).collect());
            }
        }
    }

    /// A database that does not answer ends the stream: the client comes back with the last id.
    async fn read(&self) -> Option<Vec<LogRow>> {
        let rows = self.services.store.changes(Some(&self.tenant), self.after, STREAM_ROWS).await;
        rows.inspect_err(|error| {
            tracing::warn!(error = error as &dyn std::error::Error, "a stream of changes could not go on");
        })
        .ok()
    }
}

fn event(row: &LogRow) -> String {
    format!("event: change\nid: {}\ndata: {}\n\n", row.change.seq, shown(row))
}
