//! `/healthz`, `/readyz` and `/metrics`: for balancers, orchestrators and dashboards.

use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_web::http::header::ContentType;
use actix_web::{HttpResponse, web};
use serde_json::json;

use super::Services;
use super::route::Routes;
use crate::bus::Standing;
use crate::protocol::socket::millis;

/// Where no other replica can answer, this one goes on taking requests for so long: one database's outage must not take
/// every replica out at once.
const ALONE_READY_FOR: Duration = Duration::from_secs(30);
/// Longest wait for a sign of life of the database.
const PING_WITHIN: Duration = Duration::from_millis(500);

pub(super) fn routes(routes: &mut Routes) {
    routes.get("/healthz", alive).get("/readyz", ready).get("/metrics", metrics);
}

async fn alive() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "up" }))
}

/// Ready: within the bound of staleness, and not stopping.
async fn ready(services: web::Data<Services>) -> HttpResponse {
    let lag = services.feed.lag();
    let within = services.gate.is_within_bound();
    let ping = tokio::time::timeout(PING_WITHIN, services.store.next_expiry()).await;
    let standing = |up| if up { Standing::Up } else { Standing::Down };
    let draining = services.draining.load(Ordering::Acquire);
    let spared = || {
        let bound = services.gate.max_staleness();
        lag < ALONE_READY_FOR && !services.peers.any_within(bound, lag, services.clock.boottime())
    };
    let ready = !draining && (within || spared());
    let body = json!({
        "status": if ready { "ready" } else if draining { "draining" } else { "unready" },
        "replica": services.replica,
        "pv": services.feed.applied(),
        "lag_ms": if lag == Duration::MAX { None } else { Some(millis(lag)) },
        "database": standing(matches!(ping, Ok(Ok(_)))),
        "broker": services.bus.standing(),
        "feed": standing(within),
    });
    if ready { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() }.json(body)
}

/// What changes by itself is read when it is asked for; the rest was counted when it happened.
#[expect(clippy::cast_precision_loss, reason = "gauges; counts stay far below 2^52")]
async fn metrics(services: web::Data<Services>) -> HttpResponse {
    let lag = services.feed.lag();
    if lag != Duration::MAX {
        metrics::gauge!("permcast_lag_seconds").set(lag.as_secs_f64());
    }
    metrics::gauge!("permcast_max_staleness_seconds").set(services.gate.max_staleness().as_secs_f64());
    metrics::gauge!("permcast_applied_seq").set(services.feed.applied().seq.get() as f64);
    metrics::gauge!("permcast_known_seq").set(services.feed.known().seq().get() as f64);
    metrics::gauge!("permcast_ready").set(f64::from(u8::from(services.gate.is_within_bound())));
    metrics::gauge!("permcast_broker_up").set(f64::from(u8::from(services.bus.standing() == Standing::Up)));
    let totals = services.hub.totals();
    metrics::gauge!("permcast_connections").set(totals.connections as f64);
    metrics::gauge!("permcast_connections_registered").set(totals.registered as f64);
    if let Some(resident) = crate::runtime::resident_bytes() {
        metrics::gauge!("permcast_resident_bytes").set(resident as f64);
        let since = resident.saturating_sub(services.resident_at_start) / totals.connections.max(1) as u64;
        metrics::gauge!("permcast_connection_bytes").set(if totals.connections == 0 { 0.0 } else { since as f64 });
    }
    metrics::gauge!("permcast_refresh_budget").set(f64::from(services.hub.refresh_budget()));
    let (users, roles) = services.cache.len();
    metrics::gauge!("permcast_cache_entries", "kind" => "user").set(users as f64);
    metrics::gauge!("permcast_cache_entries", "kind" => "role").set(roles as f64);
    let content_type: ContentType =
        "text/plain; version=0.0.4; charset=utf-8".parse().map_or_else(|_| ContentType::plaintext(), ContentType);
    HttpResponse::Ok().insert_header(content_type).body(services.metrics.render())
}
