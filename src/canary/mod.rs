//! The canary: a permission of a user of its own is flipped every few seconds through the real path, and how long that
//! takes to arrive is a figure on a dashboard.
//!
//! It has a tenant of its own, so that nobody else's floors move, and alters one user only. The replicas that run take
//! turns; each probes what clients see: a token, a WebSocket to its own listener, and the frame on it.

mod state;
mod task;

pub use state::Arrival;
pub use task::{Canary, ProbeError, run};
