//! A connection that has said who it is: what it was told, and what it waits for. Pure, as [`super::state`] is.

use std::time::Duration;

use super::state::{Action, Identity, Now, Standing, Unregistered, after};
use crate::domain::limits::{CLOCK_LEEWAY, REFRESH_OVERDUE};
use crate::domain::{Boottime, Effect, Stamp};
use crate::hub::{Lock, Mail, Notice};
use crate::protocol::socket::{CloseCode, Reason, ServerMessage, millis};

/// How long before its end a token's expiry is announced, at the most; of a short life, a quarter.
const EXPIRING_LEAD: Duration = Duration::from_mins(1);
/// Pause before permissions are looked up again that could not be had, or had moved on meanwhile.
const REBASE_RETRY: Duration = Duration::from_millis(250);

/// It holds a token that waits, so it is not to be shown.
pub(super) struct Live {
    pub(super) identity: Identity,
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
    pub(super) busy: Busy,
    /// The newest token that waits for it.
    pub(super) waiting: Option<String>,
}

pub(super) enum Busy {
    Idle,
    Identify,
    Register(Box<Identity>),
    Rebase,
}

impl Live {
    pub(super) fn new(now: Now, identity: Identity, heartbeat: Duration) -> Self {
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

    pub(super) fn deadline(&self) -> Option<Boottime> {
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

    pub(super) fn tick(&mut self, now: Now, heartbeat: Duration, out: &mut Vec<Action>) -> Result<(), CloseCode> {
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

    pub(super) fn mail(&mut self, now: Now, mail: Mail, out: &mut Vec<Action>) -> Result<(), CloseCode> {
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
    pub(super) fn stands(&mut self, now: Now, standing: Standing, out: &mut Vec<Action>) {
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
    pub(super) fn replaced(&mut self, now: Now, standing: Standing, out: &mut Vec<Action>) {
        let Busy::Register(identity) = std::mem::replace(&mut self.busy, Busy::Idle) else { return };
        // One who comes further, though not far enough, has his time anew; one who brings the same again has not.
        if identity.stamp > self.identity.stamp || !matches!(standing, Standing::Stale(_)) {
            self.due = None;
        }
        let accepted = !matches!(standing, Standing::Stale(_));
        let pv = identity.version;
        self.identity = *identity;
        self.rebase_at = None;
        self.arm(now);
        if accepted {
            let ahead = pv.epoch == now.applied.epoch && pv.seq > now.applied.seq;
            out.push(Action::Send(ServerMessage::Refreshed { pv: if ahead { pv } else { now.applied } }));
        }
        self.stands(now, standing, out);
        self.go_on(now, out);
    }

    pub(super) fn rebased(
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

    pub(super) fn unavailable(&mut self, now: Now, out: &mut Vec<Action>) {
        self.busy = Busy::Idle;
        let detail = "the token could not be looked at; try again".to_owned();
        out.push(Action::Send(ServerMessage::Error { code: "unavailable".to_owned(), detail }));
        self.go_on(now, out);
    }

    /// Starts what waits, if nothing is under way. A new token comes before a look at what the old one rests on.
    pub(super) fn go_on(&mut self, now: Now, out: &mut Vec<Action>) {
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
