//! One connection as a state machine: `AwaitingHello -> Live -> Closing`. Never awaits, knows no socket and no clock.
//!
//! What happens comes in as [`Input`], with the moment; what is to be done goes out as [`Action`]s, in order. After a
//! close nothing goes out.

use std::time::Duration;

use crate::domain::limits::{CLOCK_LEEWAY, HELLO_WITHIN, REFRESH_OVERDUE};
use crate::domain::{Boottime, Effect, SessionId, Stamp, TenantName, Timestamp, UserId, Version};
use crate::hub::{ConnectionId, Full, Lock, Mail, Notice};
use crate::protocol::socket::{ClientMessage, CloseCode, Reason, ServerMessage, millis};

/// How long before its end a token's expiry is announced, at the most; of a short life, a quarter.
const EXPIRING_LEAD: Duration = Duration::from_mins(1);
/// Pause before permissions are looked up again that could not be had, or had moved on meanwhile.
const REBASE_RETRY: Duration = Duration::from_millis(250);

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
    pub session: SessionId,
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
#[derive(Debug)]
pub enum Input<'a> {
    Text(&'a str),
    Binary,
    /// A message larger than allowed.
    TooLarge,
    /// Bytes that are no WebSocket.
    Violation,
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
#[derive(Debug)]
pub struct State {
    settings: std::sync::Arc<Settings>,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    AwaitingHello {
        until: Boottime,
        /// The token that is being looked at.
        asked: Asked,
    },
    Live(Box<Live>),
    Closing,
}

#[derive(Debug)]
enum Asked {
    Nothing,
    Identify,
    Register(Identity),
}

#[derive(Debug)]
struct Live {
    identity: Identity,
    /// The highest version that was told.
    told: Stamp,
    /// Until when the client must have brought another token, if it must.
    due: Option<Boottime>,
    /// The lockdown that was told.
    locked: Option<u32>,
    heartbeat_at: Boottime,
    expiring_at: Option<Boottime>,
    expires_at: Boottime,
    rebase_at: Option<Boottime>,
    /// What is being looked up. One at a time.
    busy: Busy,
    /// The newest token that waits for it.
    waiting: Option<String>,
}

#[derive(Debug)]
enum Busy {
    Idle,
    Identify,
    Register(Identity),
    Rebase,
}

fn after(moment: Boottime, duration: Duration) -> Boottime {
    Boottime(moment.0.saturating_add(duration))
}

impl State {
    /// A connection that has yet to say who it is.
    pub fn new(settings: std::sync::Arc<Settings>, opened_at: Boottime) -> Self {
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
            (_, Input::Binary | Input::Violation) => self.close(CloseCode::BadMessage, out),
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
            Phase::AwaitingHello { asked, .. } => *asked = Asked::Register(identity.clone()),
            Phase::Live(live) => {
                if (&live.identity.tenant, &live.identity.user) != (&identity.tenant, &identity.user) {
                    return self.close(CloseCode::TokenRefused, out);
                }
                live.busy = Busy::Register(identity.clone());
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
                let mut live = Live::new(now, identity, self.settings.heartbeat);
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

impl Live {
    fn new(now: Now, identity: Identity, heartbeat: Duration) -> Self {
        let mut live = Self {
            told: Stamp::NEVER,
            due: None,
            locked: None,
            heartbeat_at: after(now.boot, heartbeat),
            expiring_at: None,
            expires_at: now.boot,
            rebase_at: None,
            busy: Busy::Idle,
            waiting: None,
            identity,
        };
        live.arm(now);
        live
    }

    /// Sets the alarms of its token.
    fn arm(&mut self, now: Now) {
        let Identity { issued_at, expires_at, cut, .. } = self.identity;
        let left = expires_at.since(now.wall);
        let lead = EXPIRING_LEAD.min(expires_at.since(issued_at) / 4);
        // A refresh would not lengthen the life of one that is cut: the grant's end is told as a change, which takes its
        // place, and has its own time.
        self.expiring_at = (!cut).then(|| after(now.boot, left.saturating_sub(lead)));
        let grace = if cut { CLOCK_LEEWAY + REFRESH_OVERDUE } else { CLOCK_LEEWAY };
        self.expires_at = after(now.boot, expires_at.plus(grace).since(now.wall));
    }

    fn deadline(&self) -> Option<Boottime> {
        let rebase_at = self.rebase_at.filter(|_| matches!(self.busy, Busy::Idle));
        [Some(self.heartbeat_at), Some(self.expires_at), self.overdue_at(), self.expiring_at, rebase_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// While a lockdown keeps it from refreshing, it cannot be late.
    fn overdue_at(&self) -> Option<Boottime> {
        self.due.filter(|_| self.locked.is_none())
    }

    fn tick(&mut self, now: Now, heartbeat: Duration, out: &mut Vec<Action>) -> Result<(), CloseCode> {
        let passed = |moment: Boottime| moment <= now.boot;
        if passed(self.expires_at) || self.overdue_at().is_some_and(passed) {
            return Err(CloseCode::TokenRefused);
        }
        if self.expiring_at.is_some_and(passed) {
            self.expiring_at = None;
            let expires_in_ms = millis(self.identity.expires_at.since(now.wall));
            out.push(Action::Send(ServerMessage::TokenExpiring { expires_in_ms }));
        }
        if passed(self.heartbeat_at) {
            self.heartbeat_at = after(now.boot, heartbeat);
            out.push(Action::Send(ServerMessage::Heartbeat { pv: now.applied }));
        }
        if self.rebase_at.is_some_and(passed) {
            self.go_on(now, out);
        }
        Ok(())
    }

    fn mail(&mut self, now: Now, mail: Mail, out: &mut Vec<Action>) -> Result<(), CloseCode> {
        if let Some(reason) = mail.over {
            out.push(Action::Send(ServerMessage::SessionRevoked { reason }));
            return Err(CloseCode::SessionOver);
        }
        if mail.displaced {
            return Err(CloseCode::TooManyConnections);
        }
        match mail.lock {
            Some(Lock::Locked { retry_after_s }) if self.locked != Some(retry_after_s) => {
                self.locked = Some(retry_after_s);
                out.push(Action::Send(ServerMessage::Locked { retry_after_s }));
            }
            Some(Lock::Open { within }) if self.locked.is_some() => {
                self.locked = None;
                self.due = self.due.map(|due| due.max(after(now.boot, within + REFRESH_OVERDUE)));
                out.push(Action::Send(ServerMessage::Unlocked { within_ms: millis(within) }));
            }
            _ => {}
        }
        match mail.notice {
            // A token that has reached it needs no telling; a thin one says nothing of what the client has read.
            Some(notice) if self.identity.thin || notice.stamp > self.identity.stamp => {
                let needs_token = !self.identity.thin || notice.reason == Reason::Everyone;
                self.tell(now, notice, needs_token, out);
            }
            _ => {}
        }
        Ok(())
    }

    /// Tells the client. Versions that are told never go back.
    fn tell(&mut self, now: Now, notice: Notice, needs_token: bool, out: &mut Vec<Action>) {
        self.told = self.told.max(notice.stamp);
        out.push(Action::Tell(Notice { stamp: self.told, ..notice }));
        if needs_token {
            let due = after(now.boot, notice.refresh_within + REFRESH_OVERDUE);
            self.due = Some(self.due.map_or(due, |former| former.min(due)));
        }
        if self.identity.thin {
            self.rebase_at = Some(now.boot);
            self.go_on(now, out);
        }
    }

    /// Takes in how it stands after registering.
    fn stands(&mut self, now: Now, standing: Standing, out: &mut Vec<Action>) {
        let (needed, needs_token) = match standing {
            Standing::Fresh | Standing::Ended => {
                self.due = None;
                return out.push(Action::Settled(self.identity.stamp));
            }
            Standing::Stale(needed) => (needed, true),
            Standing::Moved(needed) => (needed, false),
        };
        // What touched it is not known any more, and one client needs no spreading.
        let notice = Notice { stamp: needed, reason: Reason::User, refresh_within: Duration::ZERO, at: now.wall };
        self.tell(now, notice, needs_token, out);
    }

    /// Another token takes the place of the former.
    fn replaced(&mut self, now: Now, standing: Standing, out: &mut Vec<Action>) {
        let Busy::Register(identity) = std::mem::replace(&mut self.busy, Busy::Idle) else { return };
        // One who comes further, though not far enough, has his time anew; one who brings the same again has not.
        if identity.stamp > self.identity.stamp || !matches!(standing, Standing::Stale(_)) {
            self.due = None;
        }
        let accepted = !matches!(standing, Standing::Stale(_));
        let pv = identity.version;
        self.identity = identity;
        self.rebase_at = None;
        self.arm(now);
        if accepted {
            let ahead = pv.epoch == now.applied.epoch && pv.seq > now.applied.seq;
            out.push(Action::Send(ServerMessage::Refreshed { pv: if ahead { pv } else { now.applied } }));
        }
        self.stands(now, standing, out);
        self.go_on(now, out);
    }

    fn rebased(
        &mut self,
        now: Now,
        answer: Result<Standing, Unregistered>,
        out: &mut Vec<Action>,
    ) -> Result<(), CloseCode> {
        if !matches!(self.busy, Busy::Rebase) {
            return Ok(());
        }
        self.busy = Busy::Idle;
        match answer {
            Ok(Standing::Ended) => {
                out.push(Action::Send(ServerMessage::SessionRevoked { reason: Effect::SignedOut }));
                return Err(CloseCode::SessionOver);
            }
            Ok(Standing::Fresh) => out.push(Action::Settled(self.told)),
            Ok(Standing::Moved(needed)) if needed <= self.told => self.rebase_at = Some(after(now.boot, REBASE_RETRY)),
            Ok(Standing::Stale(needed)) if needed <= self.told => {
                self.due.get_or_insert(after(now.boot, REFRESH_OVERDUE));
            }
            Ok(standing) => self.stands(now, standing, out),
            // That the user is gone is told as the end of his session.
            Err(_) => self.rebase_at = Some(after(now.boot, REBASE_RETRY)),
        }
        self.go_on(now, out);
        Ok(())
    }

    fn unavailable(&mut self, now: Now, out: &mut Vec<Action>) {
        self.busy = Busy::Idle;
        let detail = "the token could not be looked at; try again".to_owned();
        out.push(Action::Send(ServerMessage::Error { code: "unavailable".to_owned(), detail }));
        self.go_on(now, out);
    }

    /// Starts what waits, if nothing is under way. A new token comes before a look at what the old one rests on.
    fn go_on(&mut self, now: Now, out: &mut Vec<Action>) {
        if !matches!(self.busy, Busy::Idle) {
            return;
        }
        if let Some(token) = self.waiting.take() {
            self.busy = Busy::Identify;
            out.push(Action::Identify(token));
        } else if self.rebase_at.is_some_and(|at| at <= now.boot) {
            self.rebase_at = None;
            self.busy = Busy::Rebase;
            out.push(Action::Rebase(self.identity.clone()));
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
