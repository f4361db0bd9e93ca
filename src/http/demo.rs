//! `/demo.json`: what the pages need to offer the demo's sign-ins. Only in the demo.

use actix_web::{HttpResponse, web};
use serde::Serialize;

use super::Services;
use super::problem::Problem;
use super::route::Routes;
use crate::protocol::problem::ProblemType;

/// The demo's sign-ins and replicas.
#[derive(Debug, Clone, Serialize)]
pub struct Demo {
    pub password: String,
    pub users: Vec<DemoUser>,
    pub replicas: Vec<DemoReplica>,
}

/// Somebody to sign in as.
#[derive(Debug, Clone, Serialize)]
pub struct DemoUser {
    pub id: String,
    pub name: String,
    pub note: String,
}

/// Where to go.
#[derive(Debug, Clone, Serialize)]
pub struct DemoReplica {
    pub id: String,
    pub url: String,
}

pub(super) fn routes(routes: &mut Routes) {
    routes.get("/demo.json", show);
}

async fn show(services: web::Data<Services>) -> Result<HttpResponse, Problem> {
    match &services.demo {
        Some(demo) => Ok(HttpResponse::Ok().json(demo)),
        None => Err(Problem::new(ProblemType::NotFound, "this is no demo")),
    }
}
