//! Two real replicas over one SQLite file and a real `nats-server`, spoken to as their clients speak: HTTP, WebSocket,
//! NATS, the `sqlite3` shell.

#![allow(clippy::unwrap_used)]

mod admin;
mod attacks;
mod audit;
mod brokers;
mod canary;
mod client;
mod company;
mod crashes;
mod database;
mod decisions;
mod deployments;
mod errors;
mod faults;
mod frames;
mod harness;
mod herd;
mod hints;
mod introspection;
mod issuers;
mod issuers_https;
mod issuers_refused;
mod lab;
mod metrics;
mod moving;
mod operators;
mod operators_tokens;
mod outages;
mod postgres;
mod postgres_faults;
mod postgres_own;
mod propagation;
mod provider;
mod proxy;
mod push;
mod races;
mod reads;
mod restore;
mod retention;
mod rights;
mod rollcall;
mod selfcheck;
mod shell;
mod socket;
mod stopped;
mod strangers;
mod swaps;
mod theft;
mod thin;
mod tidy;
mod tls;
mod tokens;
mod wire;
mod witness;
