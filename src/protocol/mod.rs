//! The wire: bytes to types and back. The only place that knows the wire's names.

pub mod bus;
pub mod frame;
pub mod problem;
pub mod socket;
