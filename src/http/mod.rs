//! HTTP: one file per resource. Extractors authenticate and parse; [`problem`] turns every error into an answer.
//!
//! A resource exports `routes(&mut Routes)`; what its handlers need comes as `web::Data` of concrete services.

pub mod audit;
pub mod auth;
mod batch;
mod changes;
pub mod client;
mod decisions;
pub mod demo;
pub mod edge;
pub mod evaluation;
mod events;
pub mod fields;
mod grants;
mod health;
#[cfg(test)]
pub(crate) mod house;
pub mod json;
mod keys;
mod lockdown;
pub mod mutate;
pub mod oauth;
pub mod openapi;
pub mod operation;
pub mod origin;
mod pages;
pub mod problem;
mod problems;
pub mod push;
pub mod query;
mod replicas;
mod roles;
pub mod route;
pub mod server;
mod services;
mod sessions;
pub mod standing;
mod stream;
mod tenants;
pub mod tls;
mod upgrade;
mod users;

pub use services::Services;

use actix_web::web;

use route::Routes;

/// All that is served.
pub fn routes() -> Routes {
    let mut routes = Routes::default();
    for add in [
        audit::routes,
        batch::routes,
        changes::routes,
        decisions::routes,
        demo::routes,
        grants::routes,
        health::routes,
        keys::routes,
        lockdown::routes,
        oauth::routes,
        openapi::routes,
        problems::routes,
        push::routes,
        replicas::routes,
        roles::routes,
        sessions::routes,
        tenants::routes,
        users::routes,
    ] {
        add(&mut routes);
    }
    routes
}

/// Hands everything that is served to the router.
pub fn configure(cfg: &mut web::ServiceConfig) {
    routes().install(cfg);
}

#[cfg(test)]
mod admin_tests;
#[cfg(test)]
mod decisions_tests;
#[cfg(test)]
mod edge_tests;
#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod stream_tests;
