//! `/v1/tenants`: operators only.

use actix_web::{HttpRequest, HttpResponse, web};

use super::Services;
use super::auth::Caller;
use super::fields::Prose;
use super::json::{JsonBody, Object};
use super::mutate::Change;
use super::operation::tenant_name;
use super::problem::Problem;
use super::query::{Query, page};
use super::route::Routes;
use crate::domain::limits::BODY_BYTES_MAX;
use crate::domain::operation::{NewTenant, TenantPatch};
use crate::domain::records::{Status, TenantRecord};
use crate::domain::rules::Refusal;
use crate::domain::{Operation, TenantName};

pub(super) fn routes(routes: &mut Routes) {
    routes
        .get("/v1/tenants", list)
        .post("/v1/tenants", post)
        .get("/v1/tenants/{tenant}", show)
        .patch("/v1/tenants/{tenant}", change)
        .delete("/v1/tenants/{tenant}", remove)
        .delete("/v1/tenants/{tenant}/sessions", sign_out);
}

/// The tenant in a request's path, for a caller who may manage it.
pub(super) async fn managed(caller: &Caller, services: &Services, name: &str) -> Result<TenantName, Problem> {
    let tenant = tenant_name(name)?;
    caller.may_act(Some(&tenant))?;
    if &tenant != caller.tenant() {
        record(services, &tenant).await?;
    }
    Ok(tenant)
}

/// The tenant in a request's path, for an operator. To others it is unknown, unless it is their own.
fn operated(caller: &Caller, name: &str) -> Result<TenantName, Problem> {
    let tenant = tenant_name(name)?;
    caller.may_act(Some(&tenant))?;
    caller.may_act(None)?;
    Ok(tenant)
}

async fn record(services: &Services, tenant: &TenantName) -> Result<TenantRecord, Problem> {
    Ok(services.store.tenant(tenant).await?.ok_or(Refusal::UnknownTenant)?)
}

async fn list(request: HttpRequest, caller: Caller, services: web::Data<Services>) -> Result<HttpResponse, Problem> {
    caller.may_act(None)?;
    let asked = Query::of(&request).page()?;
    let tenants = services.store.tenants(asked.after.as_deref(), asked.limit).await?;
    Ok(HttpResponse::Ok().json(page(tenants)))
}

async fn show(path: web::Path<String>, caller: Caller, services: web::Data<Services>) -> Result<HttpResponse, Problem> {
    let tenant = operated(&caller, &path)?;
    Ok(HttpResponse::Ok().json(record(&services, &tenant).await?))
}

async fn post(request: HttpRequest, payload: web::Payload) -> Result<HttpResponse, Problem> {
    let change = Change::by_caller(&request).await?;
    change.caller().may_act(None)?;
    let body = JsonBody::<BODY_BYTES_MAX>::read(&request, payload.into_inner()).await?;
    change.commit(create(Object::body(body))?).await
}

async fn change(request: HttpRequest, path: web::Path<String>, payload: web::Payload) -> Result<HttpResponse, Problem> {
    let change = Change::by_caller(&request).await?;
    let tenant = operated(change.caller(), &path)?;
    let body = JsonBody::<BODY_BYTES_MAX>::read(&request, payload.into_inner()).await?;
    change.commit(patch(tenant, Object::body(body))?).await
}

async fn remove(request: HttpRequest, path: web::Path<String>) -> Result<HttpResponse, Problem> {
    let change = Change::by_caller(&request).await?;
    let tenant = operated(change.caller(), &path)?;
    change.commit(Operation::DeleteTenant { tenant }).await
}

/// All sessions of all users in it, operators' too.
async fn sign_out(request: HttpRequest, path: web::Path<String>) -> Result<HttpResponse, Problem> {
    let change = Change::by_caller(&request).await?;
    let tenant = operated(change.caller(), &path)?;
    change.commit(Operation::EndTenantSessions { tenant }).await
}

fn create(mut body: Object) -> Result<Operation, Problem> {
    let name = body.required("name");
    let description = body.optional::<Prose>("description").map(|text| text.0).unwrap_or_default();
    let status = body.optional("status").unwrap_or(Status::Active);
    body.finish(name.map(|name| Operation::CreateTenant(NewTenant { name, description, status })))
}

fn patch(tenant: TenantName, mut body: Object) -> Result<Operation, Problem> {
    body.unchanged("name", tenant.as_str());
    let description = body.optional::<Prose>("description").map(|text| text.0);
    let status = body.optional("status");
    body.finish(Some(Operation::PatchTenant { tenant, patch: TenantPatch { description, status } }))
}
