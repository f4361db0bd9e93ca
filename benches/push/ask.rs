//! What the parent asks of a process of clients, and what that answers: a line of JSON each.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Whom the clients speak with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Speech {
    /// `permcast.v1` over a WebSocket.
    Socket,
    /// `permcast.v1` as server-sent events.
    Events,
    /// NATS over a WebSocket.
    Nats,
    /// The bare loop.
    Bare,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Reads the tokens of clients 0, 1, 2 …
    Tokens(PathBuf),
    /// Opens connections, and answers [`Opened`] when all are welcome or `within_ms` is over.
    Open {
        speech: Speech,
        /// Where to go; who is sent away or cut off goes to the next.
        servers: Vec<SocketAddr>,
        /// Whether each begins at the next of them, and not all at the first.
        #[serde(default)]
        spread: bool,
        /// The number of the first client.
        from: usize,
        count: usize,
        /// How many begin a second; all at once where it is not said.
        per_second: Option<u32>,
        /// So many may be on their way at once.
        in_flight: usize,
        within_ms: u64,
    },
    /// From now on who is told refreshes his token, as it is told; or not.
    Act(bool),
    /// Answers [`Told`] with what came since the last time, when it is so much or `within_ms` is over.
    Told { want: usize, within_ms: u64 },
    /// Answers [`Refreshed`] in the same way.
    Refreshed { want: usize, within_ms: u64 },
    /// Answers [`Stand`].
    Stand,
    /// Waits until so many are welcome again; answers [`Opened`].
    Back { want: usize, within_ms: u64 },
    /// Closes all connections; answers [`Stand`].
    Drop,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Opened {
    pub began: u64,
    /// When each was welcome, in the order in which they were.
    pub welcomed_at: Vec<u64>,
    /// How long each had waited for it.
    pub took: Vec<u64>,
    /// Attempts that were refused or failed, and repeated.
    pub again: u64,
}

/// Client, number of the change, time.
#[derive(Debug, Serialize, Deserialize)]
pub struct Told(pub Vec<(usize, u64, u64)>);

#[derive(Debug, Serialize, Deserialize)]
pub struct Refreshed {
    /// When a token was answered.
    pub answered_at: Vec<u64>,
    /// When the connection stood on it.
    pub fresh_at: Vec<u64>,
    /// Requests that were answered 429.
    pub busy: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Stand {
    pub live: usize,
    /// How often connections were closed, by code.
    pub closed: Vec<(u16, u64)>,
}

/// What a client signs in with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tokens {
    pub access: String,
    pub refresh: String,
}
