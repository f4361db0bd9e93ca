//! What runs the house: one owner of all tasks, the system's clocks, its randomness.

mod lifecycle;
mod system;

pub use lifecycle::Lifecycle;
pub use system::{SystemClock, SystemRandom, stop_signal};
