//! `/v1/tenants/{tenant}/users`.

use actix_web::{HttpRequest, HttpResponse, web};

use super::Services;
use super::auth::Caller;
use super::fields::{Email, Line, Password};
use super::json::Object;
use super::operation::{Draft, user_id};
use super::problem::Problem;
use super::query::{Query, page};
use super::route::Routes;
use super::{mutate, tenants};
use crate::domain::operation::{NewUser, UserPatch};
use crate::domain::records::{Identity, Status, UserKind};
use crate::domain::rules::Refusal;
use crate::domain::{Operation, TenantName, UserId};

pub(super) fn routes(routes: &mut Routes) {
    routes
        .get("/v1/tenants/{tenant}/users", list)
        .post("/v1/tenants/{tenant}/users", mutate::one)
        .get("/v1/tenants/{tenant}/users/{user}", show)
        .patch("/v1/tenants/{tenant}/users/{user}", mutate::one)
        .delete("/v1/tenants/{tenant}/users/{user}", mutate::one);
}

async fn list(
    request: HttpRequest,
    path: web::Path<String>,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    let tenant = tenants::managed(&caller, &services, &path).await?;
    let asked = Query::of(&request).page()?;
    let users = services.store.users(&tenant, asked.after.as_deref(), asked.limit).await?;
    Ok(HttpResponse::Ok().json(page(users)))
}

async fn show(
    path: web::Path<(String, String)>,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    let tenant = tenants::managed(&caller, &services, &path.0).await?;
    let user = user_id(&path.1)?;
    let record = services.store.user(&tenant, &user).await?;
    Ok(HttpResponse::Ok().json(record.ok_or_else(|| Refusal::UnknownUser(user.to_string()))?))
}

/// `POST users`.
pub(super) fn create(tenant: TenantName, mut body: Object) -> Result<Draft, Problem> {
    let id = body.required::<UserId>("id");
    let name = body.optional::<Line>("name").map(|line| line.0).unwrap_or_default();
    let email = body.nullable::<Email>("email").flatten().map(|email| email.0);
    let kind = body.optional("kind").unwrap_or(UserKind::Person);
    let password = body.nullable::<Password>("password").flatten();
    let status = body.optional("status").unwrap_or(Status::Active);
    let identities = identities(&mut body).unwrap_or_default();
    let user = id.map(|id| NewUser { id, name, email, kind, password: None, status, identities });
    let user = body.finish(user)?;
    Ok(Draft::with_password(Operation::CreateUser { tenant, user }, password))
}

/// `PATCH users/{user}`.
pub(super) fn patch(tenant: TenantName, user: UserId, mut body: Object) -> Result<Draft, Problem> {
    body.unchanged("id", user.as_str());
    let password = body.nullable::<Password>("password");
    let patch = UserPatch {
        name: body.optional::<Line>("name").map(|line| line.0),
        email: body.nullable::<Email>("email").map(|email| email.map(|email| email.0)),
        kind: body.optional("kind"),
        password: matches!(password, Some(None)).then_some(None),
        status: body.optional("status"),
        identities: identities(&mut body),
    };
    let patch = body.finish(Some(patch))?;
    Ok(Draft::with_password(Operation::PatchUser { tenant, user, patch }, password.flatten()))
}

/// A set: sorted, none twice.
fn identities(body: &mut Object) -> Option<Vec<Identity>> {
    let mut identities: Vec<Identity> = body.optional("identities")?;
    identities.sort_unstable();
    identities.dedup();
    Some(identities)
}
