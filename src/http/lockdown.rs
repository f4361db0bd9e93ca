//! `/v1/lockdown`: all but operators are refused. Operators only.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::Services;
use super::auth::Caller;
use super::json::{JsonBody, Object};
use super::mutate::Change;
use super::problem::Problem;
use super::route::Routes;
use crate::domain::limits::BODY_BYTES_MAX;
use crate::domain::operation::NewLockdown;
use crate::domain::records::LockdownRecord;
use crate::domain::{Operation, TenantName, Timestamp};

/// What is told where the body says nothing, in seconds.
const RETRY_AFTER_S: u32 = 60;
/// A day: a longer `Retry-After` helps nobody.
const RETRY_AFTER_MAX_S: u32 = 86_400;

pub(super) fn routes(routes: &mut Routes) {
    routes.get("/v1/lockdown", show).put("/v1/lockdown", put);
}

/// A lockdown, or that there is none.
pub(super) fn shown(lockdown: Option<&LockdownRecord>) -> Value {
    lockdown.map_or_else(
        || json!({ "enabled": false }),
        |record| {
            json!({
                "enabled": true,
                "tenant": record.tenant,
                "retry_after_s": record.retry_after_s,
                "since": record.since,
                "until": record.until,
            })
        },
    )
}

async fn show(caller: Caller, services: web::Data<Services>) -> Result<HttpResponse, Problem> {
    caller.may_act(None)?;
    Ok(HttpResponse::Ok().json(shown(services.store.lockdown().await?.as_ref())))
}

async fn put(request: HttpRequest, payload: web::Payload) -> Result<HttpResponse, Problem> {
    let change = Change::by_caller(&request).await?;
    change.caller().may_act(None)?;
    let body = JsonBody::<BODY_BYTES_MAX>::read(&request, payload.into_inner()).await?;
    let lockdown = read(Object::body(body), change.services().clock.now())?;
    change.commit(Operation::SetLockdown(lockdown)).await
}

fn read(mut body: Object, now: Timestamp) -> Result<Option<NewLockdown>, Problem> {
    let enabled = body.required::<bool>("enabled");
    let tenant = body.nullable::<TenantName>("tenant").flatten();
    let retry_after_s = body.optional::<u32>("retry_after_s").unwrap_or(RETRY_AFTER_S);
    let until = body.nullable::<Timestamp>("until").flatten();
    if !(1..=RETRY_AFTER_MAX_S).contains(&retry_after_s) {
        body.fault("retry_after_s", "1 to 86400 are wanted");
    }
    if until.is_some_and(|until| until <= now) {
        body.fault("until", "a time to come is wanted");
    }
    body.finish(enabled.map(|enabled| enabled.then_some(NewLockdown { tenant, retry_after_s, until })))
}
