//! Whether what this replica holds is what the database says: a few entries of the cache and a few connections a second,
//! compared at the positions at which they were read.
//!
//! Floors say that an entry is fresh; this asks whether that is true. Nothing else depends on it, and it finds nothing as
//! long as everybody keeps to the guarantee and its assumptions (triggers left enabled, one database). `state` decides,
//! `task` reads.

mod state;
mod task;

pub use task::{SelfCheck, run};
