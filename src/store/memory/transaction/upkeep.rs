//! What passes by itself: refresh tokens that follow one another, and what is over when its time has come.

use crate::domain::limits::EXPIRED_AT_ONCE;
use crate::domain::{Effect, SessionId, Target};
use crate::store::{KeyState, LiveSession, Rotation, TokenDigest};

use super::super::state::holds;
use super::Transaction;

impl Transaction<'_> {
    /// Presents a refresh token, and what its successor would be.
    pub(in super::super) fn rotate(
        &mut self,
        id: &SessionId,
        presented: &TokenDigest,
        successor: &TokenDigest,
    ) -> Rotation {
        let grace = self.options.refresh_grace;
        let (now, head) = (self.now, self.head());
        let live = self.state.live_session(id, now);
        let Some(session) = self.state.sessions.get_mut(id) else { return Rotation::Unknown };
        let Some(live) = live else { return Rotation::Over };
        let Some(chain) = &mut session.refresh else { return Rotation::Unknown };
        if *presented == chain.current {
            if now.since(chain.issued_at) < grace {
                return Rotation::Kept(live);
            }
            chain.previous = Some((chain.current, now));
            chain.current = *successor;
            chain.issued_at = now;
            session.last_refresh_at = now;
            session.seq = head;
            if let Some(idle) = session.idle {
                session.expires_at = now.plus(idle).min(session.ends_at);
            }
            return Rotation::Rotated(LiveSession { expires_at: session.expires_at, ..live });
        }
        if chain.previous.is_some_and(|(previous, used)| previous == *presented && now.since(used) < grace) {
            return Rotation::Succeeded(live);
        }
        self.end_session(id, Effect::RefreshReuse);
        Rotation::Reused(live)
    }

    /// Deletes what is over.
    pub(in super::super) fn delete_expired(&mut self) {
        let now = self.now;
        let mut targets = Vec::new();
        let (mut roles, mut grants) = (EXPIRED_AT_ONCE, EXPIRED_AT_ONCE);
        let stays = |at, room: &mut u32| holds(at, now) || take_one(room).is_none();
        for (name, tenant) in &mut self.state.tenants {
            for (id, user) in &mut tenant.users {
                let before = user.roles.len() + user.grants.len();
                user.roles.retain(|_, at| stays(*at, &mut roles));
                user.grants.retain(|_, at| stays(*at, &mut grants));
                if user.roles.len() + user.grants.len() < before {
                    targets.push(Target::User { tenant: name.clone(), user: id.clone() });
                }
            }
        }
        if let Some(over) = self.state.lockdown.take_if(|lockdown| !holds(lockdown.until, now)) {
            targets.push(Target::Lockdown { tenant: over.tenant });
        }
        let mut retired = false;
        for key in &mut self.state.keys {
            if key.state == KeyState::Previous && !holds(key.retire_at, now) {
                key.state = KeyState::Retired;
                retired = true;
            }
        }
        if retired {
            targets.push(Target::Keys);
        }
        for target in targets {
            self.log(target, Effect::Changed);
        }
    }
}

/// One less.
fn take_one(room: &mut u32) -> Option<()> {
    *room = room.checked_sub(1)?;
    Some(())
}
