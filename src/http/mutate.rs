//! The way of every change: who, what, the write, and the answer that says how far it has come.

use std::time::Duration;

use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value, json};

use super::Services;
use super::auth::{Caller, prefers_wait, service};
use super::json::JsonBody;
use super::operation::{self, Place, Verb};
use super::problem::Problem;
use super::standing::Standing;
use super::tenants;
use crate::domain::limits::{BODY_BYTES_MAX, OWN_WRITE_WAIT};
use crate::domain::operation::Resource;
use crate::domain::{Freshness, Operation, Seq, TenantName, Unit, Version};
use crate::feed::Report;
use crate::protocol::problem::ProblemType;
use crate::store::{WriteError, Written};

/// The version that an answer speaks of.
pub const VERSION_HEADER: &str = "Permcast-Version";

/// A change about to be made by a caller.
pub struct Change {
    caller: Caller,
    services: web::Data<Services>,
    /// How long he wants to wait for the replicas.
    wait: Option<Duration>,
    /// The tenant that he manages by it; `None`: he acts as an operator.
    right_in: Option<TenantName>,
    method: Method,
    path: String,
}

/// One change below a tenant, as the path and the body say.
pub async fn one(request: HttpRequest, payload: web::Payload) -> Result<HttpResponse, Problem> {
    let mut change = Change::by_caller(&request).await?;
    let (tenant, rest) = change.place().await?;
    let body = JsonBody::<BODY_BYTES_MAX>::read(&request, payload.into_inner()).await?;
    let verb = Verb::of(request.method()).ok_or_else(|| Problem::of_status(StatusCode::METHOD_NOT_ALLOWED))?;
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let now = change.services.clock.now();
    let draft = operation::parse(verb, &tenant, &rest, body, now, Place::REQUEST)?;
    let operation = draft.hashed(&change.services.passwords).await?;
    change.commit(operation).await
}

impl Change {
    /// Authenticates the caller.
    pub async fn by_caller(request: &HttpRequest) -> Result<Self, Problem> {
        let caller = Caller::of(request).await?;
        Ok(Self {
            caller,
            services: service::<Services>(request)?.clone(),
            wait: prefers_wait(request.headers()),
            right_in: None,
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
        })
    }

    /// Who makes it.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What it is made with.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// The tenant in the path, which the caller may manage, and the segments below it.
    pub async fn place(&mut self) -> Result<(TenantName, Vec<String>), Problem> {
        let nowhere = || Problem::new(ProblemType::NotFound, "the path is no text");
        let segments = operation::segments(&self.path).ok_or_else(nowhere)?;
        // The first is empty, then come `v1` and `tenants`: the route says so.
        let mut segments = segments.into_iter().skip(3);
        let tenant = tenants::managed(&self.caller, &self.services, &segments.next().unwrap_or_default()).await?;
        self.right_in = Some(tenant.clone());
        Ok((tenant, segments.collect()))
    }

    /// Does one operation and answers with what it made.
    pub async fn commit(self, operation: Operation) -> Result<HttpResponse, Problem> {
        let mut written = self.write(vec![operation]).await?;
        let Some(outcome) = written.outcomes.pop() else { return self.answer(Map::new(), None, written.version).await };
        self.answer(members(&outcome.resource), outcome.change, written.version).await
    }

    /// Does all operations or none.
    pub async fn write(&self, operations: Vec<Operation>) -> Result<Written, WriteError> {
        let unit = Unit { actor: self.caller.actor(), operations };
        self.services.store.write(unit).await
    }

    /// The answer to a change: what it made, where it stands in the log, and how far it has come.
    pub async fn answer(
        self,
        mut body: Map<String, Value>,
        change: Option<Seq>,
        head: Version,
    ) -> Result<HttpResponse, Problem> {
        let version = change.map_or(head, |seq| Version { epoch: head.epoch, seq });
        // Whoever writes here reads his own write here.
        if self.services.feed.wait_for(version, OWN_WRITE_WAIT).await.is_err() {
            tracing::warn!(%version, "a change of our own was not applied here in time");
        }
        body.insert("change".to_owned(), change_json(change.map(|_| version)));
        if self.made_own_token_stale().await {
            body.insert("stale".to_owned(), Value::Bool(true));
        }
        let mut answer = match (&self.method, self.location(&body)) {
            (&Method::POST, Some(location)) => {
                let mut answer = HttpResponse::Created();
                answer.insert_header((header::LOCATION, location));
                answer
            }
            _ => HttpResponse::Ok(),
        };
        answer.insert_header((VERSION_HEADER, version.to_string()));
        if let Some(within) = self.wait {
            answer.insert_header(("Preference-Applied", format!("wait={}", within.as_secs())));
            body.insert("propagation".to_owned(), json!(self.reached(version, within).await));
        }
        Ok(answer.json(body))
    }

    async fn made_own_token_stale(&self) -> bool {
        let identified = self.services.gate.identify(self.caller.token()).await;
        identified.map_or(true, |identified| identified.freshness != Freshness::Fresh)
    }

    /// How far the change has come within the time; as far as is known where the caller loses his right meanwhile.
    async fn reached(&self, version: Version, within: Duration) -> Option<Report> {
        let standing = Standing::new(&self.caller, self.services.clone(), self.right_in.clone());
        let report = tokio::select! {
            report = self.services.propagation.wait(version, within) => report,
            () = standing.lost() => self.services.propagation.report(version.seq).await,
        };
        // The change is made, whatever is known of its way.
        report.inspect_err(|error| tracing::warn!(error = error as &dyn std::error::Error, "a receipt is missing")).ok()
    }

    /// Where the thing that a POST made can be read.
    fn location(&self, body: &Map<String, Value>) -> Option<String> {
        let key = body.get("id").or_else(|| body.get("name"))?.as_str()?;
        let key = percent_encoding::utf8_percent_encode(key, percent_encoding::NON_ALPHANUMERIC);
        Some(format!("{}/{key}", self.path))
    }
}

/// `{"version", "seq"}`, or `null` where nothing changed.
pub fn change_json(version: Option<Version>) -> Value {
    version.map_or(Value::Null, |version| json!({ "version": version, "seq": version.seq }))
}

/// The members of what an operation left behind.
pub fn members(resource: &Resource) -> Map<String, Value> {
    let value = match resource {
        Resource::Tenant(record) => json!(record),
        Resource::User(record) => json!(record),
        Resource::Role(record) => json!(record),
        Resource::RoleGrant { user, role, expires_at } => {
            json!({ "user": user, "role": role, "expires_at": expires_at })
        }
        Resource::PermissionGrant { user, permission, expires_at } => {
            json!({ "user": user, "permission": permission, "expires_at": expires_at })
        }
        Resource::RolePermission { role, permission } => json!({ "role": role, "permission": permission }),
        Resource::Include { role, other } => json!({ "role": role, "other": other }),
        Resource::Lockdown(record) => super::lockdown::shown(record.as_ref()),
        Resource::Nothing => json!({}),
    };
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
