//! One connection of push: what it says and when it ends ([`state`], pure), what it asks and tells in the house
//! (`driver`), and what carries it: a socket of its own ([`lean`]), an HTTP connection that became a WebSocket ([`ws`]),
//! or server-sent events ([`sse`]).

pub mod client;
mod driver;
pub mod lean;
mod live;
pub mod sse;
pub mod state;
pub mod task;
#[cfg(test)]
pub(crate) mod testing;
pub mod ws;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytestring::ByteString;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cache::Found;
use crate::domain::{Applied, Clock, Floors, Random, TenantName, UserId};
use crate::gate::{Denied, Gate};
use crate::hub::Hub;
use crate::protocol::frame::TextFrame;
use crate::protocol::socket::CloseCode;
use crate::token::Verified;

pub use state::{Refusal, Settings};

/// What a connection asks about tokens and permissions: the gate, in a process.
#[async_trait]
pub trait Authority: Send + Sync + 'static {
    /// Whether a token's signature, session and expiry hold; a stale one passes. From memory, but for one of a trusted
    /// issuer that was not seen before.
    async fn identify(&self, token: &str) -> Result<Arc<Verified>, Refusal>;
    /// What a user may do now, for a thin token; `None` where there is no such active user.
    async fn access_of(&self, tenant: &TenantName, user: &UserId) -> Result<Option<Found>, Refusal>;
}

#[async_trait]
impl Authority for Gate {
    async fn identify(&self, token: &str) -> Result<Arc<Verified>, Refusal> {
        Self::identify_once(self, token).await.map(|identified| identified.verified).map_err(|denied| refusal(&denied))
    }

    async fn access_of(&self, tenant: &TenantName, user: &UserId) -> Result<Option<Found>, Refusal> {
        Self::access_of(self, tenant, user).await.map_err(|denied| refusal(&denied))
    }
}

fn refusal(denied: &Denied) -> Refusal {
    match denied {
        Denied::Token(_) | Denied::Stale { .. } => Refusal::Token,
        Denied::Ended => Refusal::Ended,
        Denied::Locked { .. } | Denied::PastBound | Denied::Store(_) => Refusal::Unavailable,
    }
}

/// How long a connection waits for what it does not decide.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// For a write: who does not read for so long is closed.
    pub write: Duration,
    /// For a look-up of permissions.
    pub look_up: Duration,
    /// The time over which connections are told to come back when the server stops.
    pub drain: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { write: Duration::from_secs(5), look_up: Duration::from_secs(5), drain: Duration::from_secs(2) }
    }
}

/// What all connections of a replica share.
pub struct Sockets {
    pub authority: Arc<dyn Authority>,
    pub hub: Arc<Hub>,
    pub floors: Arc<Floors>,
    pub applied: Arc<Applied>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub settings: Arc<Settings>,
    /// The life of a token that nothing cut short.
    pub token_life: Duration,
    pub deadlines: Deadlines,
    tasks: TaskTracker,
    draining: CancellationToken,
}

impl Sockets {
    /// No connections yet.
    #[expect(clippy::too_many_arguments, reason = "called once, by the composition root")]
    pub fn new(
        authority: Arc<dyn Authority>,
        hub: Arc<Hub>,
        floors: Arc<Floors>,
        applied: Arc<Applied>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        settings: Settings,
        token_life: Duration,
        deadlines: Deadlines,
    ) -> Self {
        Self {
            authority,
            hub,
            floors,
            applied,
            clock,
            random,
            settings: Arc::new(settings),
            token_life,
            deadlines,
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
        }
    }

    /// Tells all connections to come back later, spread over the time for it, and waits until they are closed.
    pub async fn drain(&self) {
        self.draining.cancel();
        self.tasks.close();
        let within = self.deadlines.drain + self.deadlines.write;
        if tokio::time::timeout(within, self.tasks.wait()).await.is_err() {
            tracing::warn!(left = self.tasks.len(), "connections were not closed in time");
        }
    }

    /// Whether connections are being closed because the server stops.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Runs a connection on this thread, as a task that draining waits for.
    fn run(&self, connection: impl Future<Output = ()> + 'static) {
        self.tasks.spawn_local(connection);
    }
}

/// What came from the client.
#[cfg_attr(test, derive(Debug))]
enum Received {
    Text(ByteString),
    Binary,
    /// What says nothing by itself: a ping or its answer, or a part of a message.
    Part,
    TooLarge,
    /// Bytes that are no WebSocket's.
    Violation,
    NotUtf8,
    Gone,
}

/// The client takes no more: gone, or too slow.
#[derive(Debug)]
struct Refused;

/// What carries one connection's messages.
trait Carrier {
    /// The next message. Safe to cancel.
    async fn receive(&mut self) -> Received;
    /// Writes one message.
    async fn send(&mut self, frame: TextFrame) -> Result<(), Refused>;
    /// Says why it ends. Does not wait.
    async fn close(&mut self, code: CloseCode);
}
