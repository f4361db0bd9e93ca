//! permcast: permission changes that reach every token, cache and browser tab in milliseconds.
//!
//! The map of the house, from the pure rooms to the outside. A room knows only the rooms above it in this list.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod domain;
pub mod hub;
pub mod protocol;
pub mod socket;
pub mod store;

pub mod bus;
pub mod cache;
pub mod token;

pub mod feed;
pub mod gate;

pub mod config;
pub mod runtime;
pub mod telemetry;

pub mod http;
