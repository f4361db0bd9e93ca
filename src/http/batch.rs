//! `POST /v1/tenants/{tenant}/batch`: many changes in order, all or none. Decided once, so that whoever edits a role of
//! his own does not lose the right halfway.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value};

use super::json::{BatchBody, Object};
use super::mutate::{Change, change_json, members};
use super::operation::{self, Draft, Place, Verb};
use super::problem::Problem;
use super::route::Routes;
use crate::domain::limits::BATCH_OPERATIONS_MAX;
use crate::domain::{TenantName, Timestamp, Version};
use crate::store::WriteError;

pub(super) fn routes(routes: &mut Routes) {
    routes.post("/v1/tenants/{tenant}/batch", post);
}

async fn post(request: HttpRequest, payload: web::Payload) -> Result<HttpResponse, Problem> {
    let mut change = Change::by_caller(&request).await?;
    let (tenant, _) = change.place().await?;
    let body = BatchBody::read(&request, payload.into_inner()).await?;
    let drafts = drafts(&tenant, body, change.services().clock.now())?;
    let mut operations = Vec::with_capacity(drafts.len());
    for draft in drafts {
        operations.push(draft.hashed(&change.services().passwords).await?);
    }
    let written = change.write(operations).await.map_err(refused)?;
    let version = |seq| Version { epoch: written.version.epoch, seq };
    let results = written.outcomes.iter().map(|outcome| {
        let mut result = members(&outcome.resource);
        result.insert("change".to_owned(), change_json(outcome.change.map(version)));
        result
    });
    let mut body = Map::new();
    body.insert("results".to_owned(), results.collect());
    let last = written.outcomes.iter().filter_map(|outcome| outcome.change).max();
    change.answer(body, last, written.version).await
}

/// Reads all operations; the first that cannot be read is named.
fn drafts(tenant: &TenantName, body: Option<Value>, now: Timestamp) -> Result<Vec<Draft>, Problem> {
    let mut body = Object::body(body);
    let operations = body.required::<Vec<Value>>("operations");
    if operations.as_ref().is_some_and(|operations| !(1..=BATCH_OPERATIONS_MAX).contains(&operations.len())) {
        body.fault("operations", "1 to 1000 operations are wanted");
    }
    let operations = body.finish(operations)?;
    let read = |(index, operation)| draft(tenant, operation, now).map_err(|problem| problem.at_operation(index));
    operations.into_iter().enumerate().map(read).collect()
}

fn draft(tenant: &TenantName, operation: Value, now: Timestamp) -> Result<Draft, Problem> {
    let mut operation = Object::at("", operation);
    let op = operation.required::<String>("op");
    let verb = op.as_deref().and_then(Verb::from_word);
    if op.is_some() && verb.is_none() {
        operation.fault("op", "put, delete, post or patch is wanted");
    }
    let path = operation.required::<String>("path");
    let body = operation.nullable::<Value>("body").flatten();
    let (verb, path) = operation.finish(verb.zip(path))?;
    let segments = operation::segments(&path);
    let segments = segments.ok_or_else(|| Problem::invalid_at("/path", "the path is no text"))?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    operation::parse(verb, tenant, &segments, body, now, Place::BATCH)
}

/// A refused operation, named by its index.
fn refused(error: WriteError) -> Problem {
    match error {
        WriteError::Refused { index, refusal } => Problem::from(refusal).at_operation(index),
        WriteError::Store(error) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::problem::ProblemType;
    use serde_json::json;

    fn read(body: Value) -> Result<Vec<Draft>, Problem> {
        drafts(&TenantName::first(), Some(body), Timestamp::from_millis(0))
    }

    fn pointers(body: Value) -> Vec<String> {
        read(body).unwrap_err().errors().iter().map(|fault| fault.pointer.clone()).collect()
    }

    #[test]
    fn the_first_that_cannot_be_read_is_named() {
        let good = json!({"op": "put", "path": "users/ben/roles/editor"});
        let batch = |bad: Value| json!({"operations": [good.clone(), bad]});
        assert_eq!(read(batch(good.clone())).unwrap().len(), 2);
        assert_eq!(pointers(batch(json!(7))), ["/operations/1"]);
        assert_eq!(pointers(batch(json!({"op": "get", "path": "users"}))), ["/operations/1/op"]);
        assert_eq!(pointers(batch(json!({"op": "put"}))), ["/operations/1/path"]);
        assert_eq!(pointers(batch(json!({"op": "put", "path": "tenants/x"}))), ["/operations/1/path"]);
        assert_eq!(pointers(batch(json!({"op": "put", "path": "users/ben/permissions/A"}))), ["/operations/1/path"]);
        assert_eq!(
            pointers(batch(json!({"op": "post", "path": "users", "body": {"id": "x", "age": 1}}))),
            ["/operations/1/body/age"]
        );
        assert_eq!(pointers(json!({"operations": []})), ["/operations"]);
        assert_eq!(pointers(json!({"operations": vec![good.clone(); 1001]})), ["/operations"]);
        let unknown = read(batch(json!({"op": "delete", "path": "users/a%2Fb"}))).unwrap_err();
        assert_eq!(unknown.kind(), ProblemType::UnknownUser);
    }
}
