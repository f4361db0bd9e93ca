//! What runs the house: one owner of all tasks, the system's clocks, its randomness.

mod files;
mod lifecycle;
mod system;

pub use files::{open_files_max, resident_bytes};
pub use lifecycle::Lifecycle;
pub use system::{SystemClock, SystemRandom, stop_signal};
