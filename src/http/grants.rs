//! `/v1/tenants/{tenant}/users/{user}/roles` and `…/permissions`: what a user was given.

use actix_web::{HttpResponse, web};
use serde_json::json;

use super::auth::Caller;
use super::json::Object;
use super::operation::user_id;
use super::problem::Problem;
use super::route::Routes;
use super::{Services, mutate, tenants};
use crate::domain::Timestamp;
use crate::domain::rules::Refusal;

pub(super) fn routes(routes: &mut Routes) {
    routes
        .get("/v1/tenants/{tenant}/users/{user}/permissions", show)
        .put("/v1/tenants/{tenant}/users/{user}/roles/{role}", mutate::one)
        .delete("/v1/tenants/{tenant}/users/{user}/roles/{role}", mutate::one)
        .put("/v1/tenants/{tenant}/users/{user}/permissions/{permission}", mutate::one)
        .delete("/v1/tenants/{tenant}/users/{user}/permissions/{permission}", mutate::one);
}

/// What he may do, closed over inclusion, and beside it what he was given and until when. Of a suspended user, who may
/// do nothing, there are the grants alone.
async fn show(
    path: web::Path<(String, String)>,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    let tenant = tenants::managed(&caller, &services, &path.0).await?;
    let user = user_id(&path.1)?;
    let pv = services.feed.applied();
    let grants = services.store.grants(&tenant, &user).await?;
    let grants = grants.ok_or_else(|| Refusal::UnknownUser(user.to_string()))?;
    let access = services.gate.access_of(&tenant, &user).await?.map(|found| found.access);
    let (roles, permissions) =
        access.as_ref().map_or((&[][..], &[][..]), |access| (&access.roles[..], access.permissions.grants()));
    Ok(HttpResponse::Ok().json(json!({ "roles": roles, "permissions": permissions, "pv": pv, "grants": grants })))
}

/// The body of a grant: until when.
pub(super) fn expiry(mut body: Object, now: Timestamp) -> Result<Option<Timestamp>, Problem> {
    let expires_at = body.nullable::<Timestamp>("expires_at").flatten();
    if expires_at.is_some_and(|time| time <= now) {
        body.fault("expires_at", "a time to come is wanted");
    }
    body.finish(Some(expires_at))
}
