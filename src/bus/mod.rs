//! The fast path between replicas. Trusted for nothing: what it loses, repeats or reorders costs time alone, and what it
//! carries without our seal is dropped.

mod link;
pub mod nats;

use std::pin::Pin;

use futures_util::Stream;

use crate::protocol::bus::{ChangesMessage, ReplicaMessage, RollCallMessage, Sealer};

/// What comes in over the bus, its seal checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Another replica committed changes.
    Changes(ChangesMessage),
    /// Another replica says how far it is.
    Replica(ReplicaMessage),
    /// Another replica asks who is connected, or answers.
    RollCall(RollCallMessage),
    /// The connection stands again: whatever was said meanwhile was missed.
    Reconnected,
}

/// All that comes in, for the feed. Never ends.
pub type Hearing = Pin<Box<dyn Stream<Item = Heard> + Send + Sync>>;

/// How a part of the service stands, as `/readyz` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    Up,
    Down,
    /// Not configured.
    Off,
}

/// A way to tell all other replicas. Never blocks; a message that finds no room is dropped and counted.
pub trait Bus: Send + Sync + 'static {
    /// Tells of changes that were committed here.
    fn publish_changes(&self, message: &ChangesMessage);
    /// Tells how far this replica is.
    fn announce(&self, message: &ReplicaMessage);
    /// Asks the others who is connected, or answers them.
    fn call(&self, message: &RollCallMessage);
    /// Seals and believes by this from now on.
    fn reseal(&self, sealer: Sealer);
    /// Whether it is connected.
    fn standing(&self) -> Standing;
}

/// The bus of a process that has none.
#[derive(Debug, Clone)]
pub struct NoBus;

impl NoBus {
    /// What is heard over it: nothing.
    pub fn hearing() -> Hearing {
        Box::pin(futures_util::stream::pending())
    }
}

impl Bus for NoBus {
    fn publish_changes(&self, _: &ChangesMessage) {}
    fn announce(&self, _: &ReplicaMessage) {}
    fn call(&self, _: &RollCallMessage) {}
    fn reseal(&self, _: Sealer) {}
    fn standing(&self) -> Standing {
        Standing::Off
    }
}
