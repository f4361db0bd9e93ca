//! permcast: permission changes that reach every token, cache and browser tab in milliseconds.
//!
//! The map of the house, from the pure rooms to the outside. A room knows only the rooms above it in this list; `config`,
//! `runtime` and `telemetry` may be used by any room that does I/O.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod domain;
pub mod protocol;

pub mod bus;
pub mod cache;
pub mod hub;
pub mod issuer;
pub mod store;
pub mod token;

pub mod feed;
pub mod gate;
pub mod selfcheck;
pub mod socket;

pub mod canary;

pub mod http;

pub mod app;
pub mod cli;
pub mod demo;
pub mod lab;

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;

pub mod config;
pub mod runtime;
pub mod telemetry;
