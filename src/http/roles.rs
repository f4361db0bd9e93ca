//! `/v1/tenants/{tenant}/roles`, with what they permit and include.

use actix_web::{HttpRequest, HttpResponse, web};

use super::Services;
use super::auth::Caller;
use super::fields::Prose;
use super::json::{Member, Object};
use super::operation::role_name;
use super::problem::Problem;
use super::query::{Query, page};
use super::route::Routes;
use super::{mutate, tenants};
use crate::domain::limits::GRANTS_MAX;
use crate::domain::operation::{NewRole, RolePatch};
use crate::domain::rules::Refusal;
use crate::domain::{Operation, RoleName, TenantName};

pub(super) fn routes(routes: &mut Routes) {
    routes
        .get("/v1/tenants/{tenant}/roles", list)
        .post("/v1/tenants/{tenant}/roles", mutate::one)
        .get("/v1/tenants/{tenant}/roles/{role}", show)
        .patch("/v1/tenants/{tenant}/roles/{role}", mutate::one)
        .delete("/v1/tenants/{tenant}/roles/{role}", mutate::one)
        .put("/v1/tenants/{tenant}/roles/{role}/permissions/{permission}", mutate::one)
        .delete("/v1/tenants/{tenant}/roles/{role}/permissions/{permission}", mutate::one)
        .put("/v1/tenants/{tenant}/roles/{role}/includes/{other}", mutate::one)
        .delete("/v1/tenants/{tenant}/roles/{role}/includes/{other}", mutate::one);
}

async fn list(
    request: HttpRequest,
    path: web::Path<String>,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    let tenant = tenants::managed(&caller, &services, &path).await?;
    let asked = Query::of(&request).page()?;
    let roles = services.store.roles(&tenant, asked.after.as_deref(), asked.limit).await?;
    Ok(HttpResponse::Ok().json(page(roles)))
}

async fn show(
    path: web::Path<(String, String)>,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    let tenant = tenants::managed(&caller, &services, &path.0).await?;
    let role = role_name(&path.1)?;
    let record = services.store.role(&tenant, &role).await?;
    Ok(HttpResponse::Ok().json(record.ok_or_else(|| Refusal::UnknownRole(role.to_string()))?))
}

/// `POST roles`.
pub(super) fn create(tenant: TenantName, mut body: Object) -> Result<Operation, Problem> {
    let name = body.required("name");
    let description = body.optional::<Prose>("description").map(|text| text.0).unwrap_or_default();
    let permissions = set(&mut body, "permissions").unwrap_or_default();
    let includes = set(&mut body, "includes").unwrap_or_default();
    let role = body.finish(name.map(|name| NewRole { name, description, permissions, includes }))?;
    Ok(Operation::CreateRole { tenant, role })
}

/// `PATCH roles/{role}`.
pub(super) fn patch(tenant: TenantName, role: RoleName, mut body: Object) -> Result<Operation, Problem> {
    body.unchanged("name", role.as_str());
    let patch = RolePatch {
        description: body.optional::<Prose>("description").map(|text| text.0),
        permissions: set(&mut body, "permissions"),
        includes: set(&mut body, "includes"),
    };
    let patch = body.finish(Some(patch))?;
    Ok(Operation::PatchRole { tenant, role, patch })
}

/// A set: sorted, none twice, bounded.
fn set<T: Member + Ord>(body: &mut Object, name: &'static str) -> Option<Vec<T>> {
    let mut items: Vec<T> = body.optional(name)?;
    items.sort_unstable();
    items.dedup();
    if items.len() > GRANTS_MAX {
        body.fault(name, "at most 1000 are wanted");
    }
    Some(items)
}
