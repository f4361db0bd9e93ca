//! `/v1/tenants/{tenant}/users/{user}/sessions`.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::auth::Caller;
use super::operation::user_id;
use super::problem::Problem;
use super::query::{Query, page};
use super::route::Routes;
use super::{Services, mutate, tenants};
use crate::domain::Version;
use crate::domain::records::Page;
use crate::domain::rules::Refusal;

pub(super) fn routes(routes: &mut Routes) {
    routes
        .get("/v1/tenants/{tenant}/users/{user}/sessions", list)
        .delete("/v1/tenants/{tenant}/users/{user}/sessions", mutate::one)
        .delete("/v1/tenants/{tenant}/users/{user}/sessions/{session}", mutate::one);
}

/// `connected` tells of all replicas' connections; `null` where nobody has one, and a replica did not answer.
async fn list(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    let tenant = tenants::managed(&caller, &services, &path.0).await?;
    let user = user_id(&path.1)?;
    let asked = Query::of(&request).page()?;
    services.store.user(&tenant, &user).await?.ok_or_else(|| Refusal::UnknownUser(user.to_string()))?;
    let epoch = services.feed.applied().epoch;
    let sessions = services.store.sessions(&tenant, &user, asked.after.as_deref(), asked.limit).await?;
    let ids: Vec<_> = sessions.items.iter().map(|session| session.id.clone()).collect();
    let present = services.roll_call.call(&tenant, &user, &ids).await?;
    let items: Vec<Value> = sessions
        .items
        .iter()
        .map(|session| {
            json!({
                "id": session.id,
                "created_at": session.created_at,
                "last_refresh_at": session.last_refresh_at,
                "address": session.address,
                "user_agent": session.user_agent,
                "pv": Version { epoch, seq: session.seq },
                "connected": present.has(&session.id),
            })
        })
        .collect();
    Ok(HttpResponse::Ok().json(page(Page { items, next: sessions.next })))
}
