//! `GET /v1/audit` and `/v1/tenants/{tenant}/audit`: the audit trail, of all for operators, of one tenant for its
//! administrators.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::auth::Caller;
use super::problem::Problem;
use super::query::Query;
use super::route::Routes;
use super::{Services, tenants};
use crate::domain::{TenantName, Timestamp};
use crate::store::audit::{AuditEntry, AuditQuery};

pub(super) fn routes(routes: &mut Routes) {
    routes.get("/v1/audit", of_all).get("/v1/tenants/{tenant}/audit", of_one);
}

async fn of_all(request: HttpRequest, caller: Caller, services: web::Data<Services>) -> Result<HttpResponse, Problem> {
    caller.may_act(None)?;
    list(&request, &services, None).await
}

async fn of_one(
    request: HttpRequest,
    path: web::Path<String>,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    let tenant = tenants::managed(&caller, &services, &path).await?;
    list(&request, &services, Some(tenant)).await
}

async fn list(request: &HttpRequest, services: &Services, tenant: Option<TenantName>) -> Result<HttpResponse, Problem> {
    let query = Query::of(request);
    let text = |name: &str| query.get(name).map(str::to_owned).filter(|text| !text.contains('\0'));
    let time = |name: &'static str, pointer| -> Result<Option<Timestamp>, Problem> {
        let parsed = query
            .get(name)
            .map(|text| text.parse().map_err(|_| Problem::invalid_at(pointer, "a time (RFC 3339) is wanted")));
        parsed.transpose()
    };
    let limit = query.limit()?;
    let asked = AuditQuery {
        tenant,
        actor: text("actor"),
        action: text("action"),
        target: text("target"),
        since: time("since", "?since")?,
        until: time("until", "?until")?,
        after: query.after()?.map_or(0, |after| i64::try_from(after.get()).unwrap_or(i64::MAX)),
        // One more than asked for tells whether more follow.
        limit: limit + 1,
    };
    let mut entries = services.store.audit(&asked).await?;
    let more = entries.len() > limit as usize;
    entries.truncate(limit as usize);
    let next = entries.last().filter(|_| more).map(|entry| entry.id.to_string());
    let items: Vec<Value> = entries.iter().map(shown).collect();
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next_cursor": next })))
}

/// An entry as programs read it, over HTTP and in an export.
pub fn shown(entry: &AuditEntry) -> Value {
    // What a shell wrote there and is no JSON is shown as the text that it is.
    let value = |text: &Option<String>| {
        let Some(text) = text else { return Value::Null };
        let mut value = serde_json::from_str(text).unwrap_or_else(|_| json!(text));
        // The database writes times as it keeps them.
        for (name, member) in value.as_object_mut().into_iter().flatten() {
            if let Some(millis) = member.as_i64().filter(|_| name.ends_with("_at") || name == "until") {
                *member = json!(Timestamp::from_millis(millis));
            }
        }
        value
    };
    json!({
        "id": entry.id,
        "at": entry.at,
        "actor": entry.actor,
        "address": entry.address,
        "request": entry.request,
        "action": entry.action,
        "tenant": entry.tenant,
        "target": entry.target,
        "before": value(&entry.before),
        "after": value(&entry.after),
    })
}
