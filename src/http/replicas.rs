//! `GET /v1/replicas`: the processes that run. Operators only.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::Services;
use super::auth::Caller;
use super::problem::Problem;
use super::route::Routes;
use crate::domain::Version;
use crate::feed::GONE_AFTER;

pub(super) fn routes(routes: &mut Routes) {
    routes.get("/v1/replicas", list);
}

/// What the database says of them; of itself and of those that it hears by the bus this replica knows better.
async fn list(caller: Caller, services: web::Data<Services>) -> Result<HttpResponse, Problem> {
    caller.may_act(None)?;
    let applied = services.feed.applied();
    let running = services.store.replicas(GONE_AFTER).await?;
    let items: Vec<Value> = running
        .into_iter()
        .map(|replica| {
            let own = replica.id == services.replica;
            let heard = || services.peers.connections(&replica.id);
            let here = || services.hub.totals().connections as u64;
            let seq = if own { applied.seq } else { replica.applied };
            json!({
                "started_at": replica.started_at,
                "seen_at": replica.seen_at,
                "applied": Version { epoch: applied.epoch, seq },
                "connections": if own { here() } else { heard().unwrap_or(replica.connections) },
                "self": own,
                "id": replica.id,
            })
        })
        .collect();
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next_cursor": null })))
}
