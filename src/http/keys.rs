//! `POST /v1/keys/rotate`. Operators only.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::Map;

use super::json::{JsonBody, Object};
use super::mutate::Change;
use super::problem::Problem;
use super::route::Routes;
use crate::domain::limits::BODY_BYTES_MAX;
use crate::protocol::problem::ProblemType;
use crate::token::RotateError;

pub(super) fn routes(routes: &mut Routes) {
    routes.post("/v1/keys/rotate", rotate);
}

async fn rotate(request: HttpRequest, payload: web::Payload) -> Result<HttpResponse, Problem> {
    let change = Change::by_caller(&request).await?;
    change.caller().may_act(None)?;
    let body = JsonBody::<BODY_BYTES_MAX>::read(&request, payload.into_inner()).await?;
    let (revoke, sessions) = read(Object::body(body))?;
    let written = change.services().keys.rotate(change.caller().actor(), revoke, sessions).await?;
    let last = written.changes.last().map(|change| change.seq);
    change.answer(Map::new(), last, written.version).await
}

fn read(mut body: Object) -> Result<(bool, bool), Problem> {
    let revoke = body.optional("revoke").unwrap_or(false);
    let sessions = body.optional("sessions").unwrap_or(false);
    if sessions && !revoke {
        body.fault("sessions", "is only ended together with revoke");
    }
    body.finish(Some((revoke, sessions)))
}

impl From<RotateError> for Problem {
    fn from(error: RotateError) -> Self {
        match error {
            RotateError::Write(error) => error.into(),
            RotateError::Key(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the keys were not rotated");
                Self::new(ProblemType::Internal, "the keys were not rotated")
            }
        }
    }
}
