//! The running program, from outside: real replicas, a real nats-server, real HTTP and sockets.

#![allow(clippy::unwrap_used, missing_docs)]

mod faults;
mod harness;
mod propagation;
mod refusals;
mod tidy;
