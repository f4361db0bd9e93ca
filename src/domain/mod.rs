//! What permcast is about, as pure types: no I/O, no async, no ambient clock or randomness.
//!
//! Read in this order: names and permissions, versions and changes, the snapshot's basis, the floors.

pub mod access;
pub mod applied;
pub mod change;
pub mod clock;
pub mod floors;
pub mod limits;
pub mod name;
pub mod operation;
pub mod pace;
pub mod permission;
pub mod records;
pub mod rules;
pub mod sync;
pub mod version;

pub use access::{Access, PermissionSet};
pub use applied::Applied;
pub use change::{Change, Effect, Kind, LogRow, Target};
pub use clock::{Boottime, Clock, Random, Timestamp};
pub use floors::{Basis, Floors, Freshness};
pub use name::{InvalidName, RoleName, RoleNo, SessionId, TenantName, UserId, UserNo};
pub use operation::{Actor, Operation, Origin, Unit};
pub use permission::{Grant, Permission};
pub use version::{Epoch, Seq, Stamp, Version};
