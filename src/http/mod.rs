//! HTTP: one file per resource. Extractors authenticate and parse; [`problem`] turns every error into an answer.
//!
//! A resource exports `routes(&mut Routes)`; what its handlers need comes as `web::Data` of concrete services.

pub mod auth;
pub mod client;
pub mod demo;
pub mod fields;
pub mod json;
pub mod oauth;
pub mod origin;
pub mod problem;
pub mod push;
pub mod query;
pub mod route;
mod services;

pub use services::Services;

use actix_web::web;

use route::Routes;

/// All that is served.
pub fn routes() -> Routes {
    let mut routes = Routes::default();
    oauth::routes(&mut routes);
    push::routes(&mut routes);
    demo::routes(&mut routes);
    routes
}

/// Hands everything that is served to the router.
pub fn configure(cfg: &mut web::ServiceConfig) {
    routes().install(cfg);
}
