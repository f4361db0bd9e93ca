//! Decisions: OpenID AuthZEN Authorization API 1.0, `/v1/me`, and the answers that proxies ask for.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use serde_json::{Map, Value, json};

use super::Services;
use super::auth::Caller;
use super::evaluation::{self, Question, Semantic};
use super::json::JsonBody;
use super::mutate::VERSION_HEADER;
use super::problem::Problem;
use super::query::Query;
use super::route::Routes;
use crate::domain::permission::CHECK;
use crate::domain::rules::Refusal;
use crate::domain::{Access, Permission, TenantName, UserId};
use crate::protocol::socket::millis;

/// On every decision: for how many milliseconds this replica cannot say that it has missed nothing.
const LAG_HEADER: &str = "Permcast-Lag";

pub(super) fn routes(routes: &mut Routes) {
    routes
        .post("/access/v1/evaluation", one)
        .post("/access/v1/evaluations", many)
        .get("/.well-known/authzen-configuration", configuration)
        .get("/v1/me", me)
        .get("/v1/forward-auth", forward_auth);
}

async fn one(caller: Caller, services: web::Data<Services>, body: JsonBody) -> Result<HttpResponse, Problem> {
    let question = evaluation::read_one(body.0)?;
    let decision = Decider::new(&caller, &services).decide(&question).await?;
    Ok(answer(&services).json(shown(decision, &caller)))
}

async fn many(caller: Caller, services: web::Data<Services>, body: JsonBody) -> Result<HttpResponse, Problem> {
    let asked = evaluation::read_many(body.0)?;
    let mut decider = Decider::new(&caller, &services);
    let Some(questions) = asked.questions else {
        // Without a list it is a single evaluation.
        return Ok(answer(&services).json(shown(decider.decide(&asked.default?).await?, &caller)));
    };
    let mut evaluations = Vec::with_capacity(questions.len());
    for question in &questions {
        let decision = decider.decide(question).await?;
        evaluations.push(shown(decision, &caller));
        let last = match asked.semantic {
            Semantic::ExecuteAll => false,
            Semantic::DenyOnFirstDeny => !decision,
            Semantic::PermitOnFirstPermit => decision,
        };
        if last {
            break;
        }
    }
    Ok(answer(&services).json(json!({ "evaluations": evaluations })))
}

/// A decision's answer, with the lag as of now.
fn answer(services: &Services) -> HttpResponseBuilder {
    let mut answer = HttpResponse::Ok();
    answer.insert_header((LAG_HEADER, millis(services.feed.lag())));
    answer
}

fn shown(decision: bool, caller: &Caller) -> Value {
    json!({ "decision": decision, "context": { "pv": caller.version, "stale": caller.stale } })
}

/// Decides for one request. Asked again about one subject it has his access at hand.
struct Decider<'a> {
    caller: &'a Caller,
    services: &'a Services,
    last: Option<(TenantName, UserId, Option<Arc<Access>>)>,
}

impl<'a> Decider<'a> {
    fn new(caller: &'a Caller, services: &'a Services) -> Self {
        Self { caller, services, last: None }
    }

    /// What is no tenant, no user or no permission is not allowed. It is not an error, either.
    async fn decide(&mut self, question: &Question) -> Result<bool, Problem> {
        let own = self.caller.tenant();
        let tenant = match &question.tenant {
            None => Some(own.clone()),
            Some(text) if text == own.as_str() => Some(own.clone()),
            Some(text) if self.caller.access.permissions.is_operator() => text.parse().ok(),
            Some(_) => return Err(Refusal::UnknownTenant.into()),
        };
        let himself = tenant.as_ref() == Some(own) && question.subject == self.caller.user().as_str();
        if !himself && !self.caller.access.permissions.may_check() {
            return Err(Refusal::NotAllowed(CHECK).into());
        }
        let Some(permission) = question.permission() else { return Ok(false) };
        if himself {
            return Ok(self.caller.access.permissions.allows(&permission));
        }
        let Some((tenant, user)) = tenant.zip(question.subject.parse().ok()) else { return Ok(false) };
        let access = self.access_of(tenant, user).await?;
        Ok(access.is_some_and(|access| access.permissions.allows(&permission)))
    }

    async fn access_of(&mut self, tenant: TenantName, user: UserId) -> Result<Option<Arc<Access>>, Problem> {
        if let Some((_, _, access)) = self.last.as_ref().filter(|(t, u, _)| *t == tenant && *u == user) {
            return Ok(access.clone());
        }
        let access = self.services.gate.access_of(&tenant, &user).await?.map(|found| found.access);
        self.last = Some((tenant, user, access.clone()));
        Ok(access)
    }
}

async fn configuration(services: web::Data<Services>) -> HttpResponse {
    let base = services.issuer.trim_end_matches('/');
    HttpResponse::Ok().json(json!({
        "policy_decision_point": base,
        "access_evaluation_endpoint": format!("{base}/access/v1/evaluation"),
        "access_evaluations_endpoint": format!("{base}/access/v1/evaluations"),
    }))
}

async fn me(caller: Caller, services: web::Data<Services>) -> HttpResponse {
    let mut body = Map::new();
    body.insert("tenant".into(), json!(caller.tenant()));
    body.insert("user".into(), json!(caller.user()));
    body.insert("roles".into(), json!(caller.access.roles));
    body.insert("permissions".into(), json!(caller.access.permissions.grants()));
    body.insert("pv".into(), json!(caller.version));
    body.insert("session".into(), json!(caller.verified.claims.session()));
    if caller.stale {
        body.insert("stale".into(), Value::Bool(true));
    }
    answer(&services).json(body)
}

/// All that is asked for must hold. What is asked for stands in the URL, which the proxy's own configuration writes.
async fn forward_auth(
    request: HttpRequest,
    caller: Caller,
    services: web::Data<Services>,
) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request);
    let required: Result<Vec<Permission>, _> = query.all("require").map(str::parse).collect();
    let required = required.map_err(|rule| Problem::invalid_at("?require", rule.0))?;
    if required.is_empty() {
        return Err(Problem::invalid_at("?require", "is missing"));
    }
    if let Some(missing) = required.iter().find(|permission| !caller.access.permissions.allows(permission)) {
        let detail = format!("this takes {missing}");
        return Err(Problem::new(crate::protocol::problem::ProblemType::Forbidden, detail));
    }
    Ok(answer(&services)
        .insert_header(("Permcast-User", caller.user().as_str()))
        .insert_header(("Permcast-Tenant", caller.tenant().as_str()))
        .insert_header((VERSION_HEADER, caller.version.to_string()))
        .finish())
}
