//! One connection as a state machine: `AwaitingHello -> Live -> Closing`. Never awaits, knows no socket and no clock.
//!
//! What happens comes in as [`Input`], with the moment; what is to be done goes out as [`Action`]s, in order. After a
//! close nothing goes out.

use std::sync::Arc;
use std::time::Duration;

use super::live::{Busy, Live};
use crate::domain::limits::HELLO_WITHIN;
use crate::domain::{Boottime, Effect, SessionId, Stamp, TenantName, Timestamp, UserId, Version};
use crate::hub::{ConnectionId, Full, Mail, Notice};
use crate::protocol::socket::{ClientMessage, CloseCode, ServerMessage, millis};

/// What all connections of a replica have in common.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This process's name.
    pub replica: String,
    /// How often it says that it is there.
    pub heartbeat: Duration,
    /// Over which time clients come back after a restart.
    pub reconnect_within: Duration,
}

/// The moment at which something happens.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub wall: Timestamp,
    pub boot: Boottime,
    /// The version applied here.
    pub applied: Version,
}

/// A verified token, as far as a connection cares. A stale one is one too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub tenant: TenantName,
    pub user: UserId,
    /// `None`: none of ours is behind its token.
    pub session: Option<SessionId>,
    /// Its position.
    pub stamp: Stamp,
    /// The same, as it says itself.
    pub version: Version,
    /// Whether its permissions are looked up in the cache.
    pub thin: bool,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    /// Whether a grant that ends sooner cut its life short, so that another one would live no longer.
    pub cut: bool,
}

/// Why a token was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It does not hold.
    Token,
    /// Its session is over.
    Ended,
    /// It could not be said.
    Unavailable,
}

/// Why a connection was not registered with its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unregistered {
    /// There is no room.
    Full(Full),
    /// There is no such active user.
    Unknown,
    /// His permissions could not be looked up.
    Unavailable,
}

/// How a registered connection stands with the floors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Fresh,
    /// Its token must be replaced by one that reaches this.
    Stale(Stamp),
    /// Its thin token holds, but the permissions are others since.
    Moved(Stamp),
    /// Its session is over.
    Ended,
}

/// What happened.
#[cfg_attr(test, derive(Debug))]
pub enum Input<'a> {
    Text(&'a str),
    Binary,
    /// A message larger than allowed.
    TooLarge,
    /// Bytes that are no WebSocket.
    Violation,
    /// A text that is none.
    NotUtf8,
    /// More messages than anybody needs to send.
    Flood,
    /// The client is gone.
    Gone,
    /// The client did not take what was written to it in time.
    Stuck,
    /// The answer to [`Action::Identify`], or to the token that came with the handshake.
    Identified(Result<Identity, Refusal>),
    /// The answer to [`Action::Register`], compared after registering.
    Registered(Result<(ConnectionId, Standing), Unregistered>),
    /// The answer to [`Action::Rebase`], compared after registering.
    Rebased(Result<Standing, Unregistered>),
    Mail(Mail),
    /// Time has passed.
    Tick,
    /// The server stops.
    Drain,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq)]
pub enum Action {
    /// Verify this token.
    Identify(String),
    /// Register the connection, or move it, to what this token rests on; then compare.
    Register(Identity),
    /// Look the permissions up again, move to what they rest on; then compare.
    Rebase(Identity),
    /// Write this message.
    Send(ServerMessage),
    /// Write `permissions_changed`, and note that it was told.
    Tell(Notice),
    /// Note that the token has reached all that is known here.
    Settled(Stamp),
    /// Close, and be done.
    Close(CloseCode),
}

/// By hand, because a token must not be shown.
impl std::fmt::Debug for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Identify(_) => f.write_str("Identify(..)"),
            Self::Register(identity) => write!(f, "Register({}/{})", identity.tenant, identity.user),
            Self::Rebase(identity) => write!(f, "Rebase({}/{})", identity.tenant, identity.user),
            Self::Send(message) => write!(f, "Send({})", message.encode()),
            Self::Tell(notice) => write!(f, "Tell({notice:?})"),
            Self::Settled(stamp) => write!(f, "Settled({stamp:?})"),
            Self::Close(code) => write!(f, "Close({code:?})"),
        }
    }
}

/// The connection.
pub struct State {
    settings: Arc<Settings>,
    phase: Phase,
}

enum Phase {
    AwaitingHello {
        until: Boottime,
        /// The token that is being looked at.
        asked: Asked,
    },
    Live(Box<Live>),
    Closing,
}

enum Asked {
    Nothing,
    Identify,
    Register(Box<Identity>),
}

pub(super) fn after(moment: Boottime, duration: Duration) -> Boottime {
    Boottime(moment.0.saturating_add(duration))
}

impl State {
    /// A connection that has yet to say who it is.
    pub fn new(settings: Arc<Settings>, opened_at: Boottime) -> Self {
        let until = after(opened_at, HELLO_WITHIN);
        Self { settings, phase: Phase::AwaitingHello { until, asked: Asked::Nothing } }
    }

    /// Whether nothing more will come out.
    pub fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing)
    }

    /// When a tick is wanted.
    pub fn deadline(&self) -> Option<Boottime> {
        match &self.phase {
            Phase::AwaitingHello { until, asked: Asked::Nothing } => Some(*until),
            Phase::AwaitingHello { .. } | Phase::Closing => None,
            Phase::Live(live) => live.deadline(),
        }
    }

    /// Something happened: what is to be done, in order, is added to `out`.
    pub fn step(&mut self, now: Now, input: Input<'_>, out: &mut Vec<Action>) {
        match (&mut self.phase, input) {
            (Phase::Closing, _) => {}
            (_, Input::Gone) => self.phase = Phase::Closing,
            (_, Input::Binary) => self.close(CloseCode::BadMessage, out),
            (_, Input::Violation) => self.close(CloseCode::Protocol, out),
            (_, Input::NotUtf8) => self.close(CloseCode::NotUtf8, out),
            (_, Input::Flood) => self.close(CloseCode::Flood, out),
            (_, Input::Stuck) => self.close(CloseCode::Restart, out),
            (_, Input::TooLarge) => self.close(CloseCode::TooLarge, out),
            (_, Input::Drain) => {
                let reconnect_within_ms = millis(self.settings.reconnect_within);
                out.push(Action::Send(ServerMessage::Draining { reconnect_within_ms }));
                self.close(CloseCode::Restart, out);
            }
            (_, Input::Text(text)) => match ClientMessage::decode(text) {
                Some(message) => self.said(now, message, out),
                None => self.close(CloseCode::BadMessage, out),
            },
            (_, Input::Identified(Err(refusal))) => self.refused(now, refusal, out),
            (_, Input::Identified(Ok(identity))) => self.identified(identity, out),
            (_, Input::Registered(Ok((id, standing)))) => self.registered(now, id, standing, out),
            (_, Input::Registered(Err(unregistered))) => self.unregistered(now, unregistered, out),
            (Phase::Live(live), input) => {
                let end = match input {
                    Input::Rebased(answer) => live.rebased(now, answer, out),
                    Input::Mail(mail) => live.mail(now, mail, out),
                    _ => live.tick(now, self.settings.heartbeat, out),
                };
                if let Err(code) = end {
                    self.close(code, out);
                }
            }
            (Phase::AwaitingHello { until, asked: Asked::Nothing }, Input::Tick) if *until <= now.boot => {
                self.close(CloseCode::NoHello, out);
            }
            (Phase::AwaitingHello { .. }, _) => {}
        }
    }

    fn close(&mut self, code: CloseCode, out: &mut Vec<Action>) {
        out.push(Action::Close(code));
        self.phase = Phase::Closing;
    }

    fn said(&mut self, now: Now, message: ClientMessage, out: &mut Vec<Action>) {
        match (&mut self.phase, message) {
            (Phase::AwaitingHello { asked, .. }, ClientMessage::Hello { token }) => {
                if matches!(asked, Asked::Nothing) {
                    *asked = Asked::Identify;
                    out.push(Action::Identify(token));
                }
            }
            (Phase::AwaitingHello { .. }, ClientMessage::Refresh { .. }) => self.close(CloseCode::BadMessage, out),
            // One who brought his token with the handshake may say hello as well.
            (Phase::Live(live), ClientMessage::Hello { token } | ClientMessage::Refresh { token }) => {
                live.waiting = Some(token);
                live.go_on(now, out);
            }
            (Phase::Live(_), ClientMessage::Ping) => {
                out.push(Action::Send(ServerMessage::Heartbeat { pv: now.applied }));
            }
            _ => {}
        }
    }

    fn refused(&mut self, now: Now, refusal: Refusal, out: &mut Vec<Action>) {
        match (refusal, &mut self.phase) {
            (Refusal::Token, _) => self.close(CloseCode::TokenRefused, out),
            (Refusal::Ended, _) => self.revoked(out),
            (Refusal::Unavailable, Phase::Live(live)) => live.unavailable(now, out),
            (Refusal::Unavailable, _) => self.close(CloseCode::Restart, out),
        }
    }

    fn revoked(&mut self, out: &mut Vec<Action>) {
        out.push(Action::Send(ServerMessage::SessionRevoked { reason: Effect::SignedOut }));
        self.close(CloseCode::SessionOver, out);
    }

    fn identified(&mut self, identity: Identity, out: &mut Vec<Action>) {
        match &mut self.phase {
            Phase::AwaitingHello { asked, .. } => *asked = Asked::Register(Box::new(identity.clone())),
            Phase::Live(live) => {
                if (&live.identity.tenant, &live.identity.user) != (&identity.tenant, &identity.user) {
                    return self.close(CloseCode::TokenRefused, out);
                }
                live.busy = Busy::Register(Box::new(identity.clone()));
            }
            Phase::Closing => return,
        }
        out.push(Action::Register(identity));
    }

    fn registered(&mut self, now: Now, id: ConnectionId, standing: Standing, out: &mut Vec<Action>) {
        if standing == Standing::Ended {
            return self.revoked(out);
        }
        match &mut self.phase {
            Phase::AwaitingHello { asked, .. } => {
                let Asked::Register(identity) = std::mem::replace(asked, Asked::Nothing) else { return };
                out.push(Action::Send(ServerMessage::Welcome {
                    connection: id.to_string(),
                    replica: self.settings.replica.clone(),
                    pv: now.applied,
                    heartbeat_ms: millis(self.settings.heartbeat),
                }));
                let mut live = Live::new(now, *identity, self.settings.heartbeat);
                live.stands(now, standing, out);
                self.phase = Phase::Live(Box::new(live));
            }
            Phase::Live(live) => live.replaced(now, standing, out),
            Phase::Closing => {}
        }
    }

    fn unregistered(&mut self, now: Now, why: Unregistered, out: &mut Vec<Action>) {
        match (why, &mut self.phase) {
            (Unregistered::Unknown, _) => self.close(CloseCode::TokenRefused, out),
            (Unregistered::Unavailable, Phase::Live(live)) => live.unavailable(now, out),
            (Unregistered::Unavailable, _) => self.close(CloseCode::Restart, out),
            (Unregistered::Full(full), _) => {
                let code = "too_many_connections".to_owned();
                out.push(Action::Send(ServerMessage::Error { code, detail: full.to_string() }));
                self.close(CloseCode::Restart, out);
            }
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
