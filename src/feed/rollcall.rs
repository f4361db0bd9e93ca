//! The roll call: which of a user's sessions have a connection, on whichever replica it is.
//!
//! Nobody writes down who is connected, for that would be a write for each who comes and goes. Whoever wants to know asks
//! all replicas, and waits a moment for their answers. A replica that does not answer is not taken as one without
//! connections: then the answer is that nobody knows.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::replicas::GONE_AFTER;
use crate::bus::{Bus, Standing};
use crate::domain::{Random, SessionId, TenantName, UserId};
use crate::hub::Hub;
use crate::protocol::bus::RollCallMessage;
use crate::store::{Store, StoreError};

/// How long the others' answers are waited for.
const ANSWERED_WITHIN: Duration = Duration::from_millis(250);
/// Calls that are open at a time; whoever comes on top is told what is known here.
const CALLS_MAX: usize = 256;

/// What is known of the connections of some sessions.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Present {
    connected: HashSet<SessionId>,
    /// Whether every replica that runs has answered.
    all_answered: bool,
}

impl Present {
    /// Whether a session has a connection; `None` where nobody knows of one, and not everybody was heard.
    pub fn has(&self, session: &SessionId) -> Option<bool> {
        if self.connected.contains(session) { Some(true) } else { self.all_answered.then_some(false) }
    }
}

/// A call that waits for answers.
struct Call {
    missing: HashSet<String>,
    connected: HashSet<SessionId>,
    answered: Arc<Notify>,
}

/// Calls, and answers those of others.
pub struct RollCall {
    own: String,
    hub: Arc<Hub>,
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    random: Arc<dyn Random>,
    calls: Mutex<HashMap<String, Call>>,
}

impl RollCall {
    /// Of the replica named `own`.
    pub fn new(
        own: String,
        hub: Arc<Hub>,
        store: Arc<dyn Store>,
        bus: Arc<dyn Bus>,
        random: Arc<dyn Random>,
    ) -> Arc<Self> {
        Arc::new(Self { own, hub, store, bus, random, calls: Mutex::default() })
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<String, Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which of these sessions of a user have a connection anywhere.
    pub async fn call(
        &self,
        tenant: &TenantName,
        user: &UserId,
        sessions: &[SessionId],
    ) -> Result<Present, StoreError> {
        let connected = self.here(tenant, user, sessions.to_vec()).into_iter().collect();
        let running = self.store.replicas(GONE_AFTER).await?;
        let missing: HashSet<String> =
            running.into_iter().map(|replica| replica.id).filter(|id| *id != self.own).collect();
        let all_answered = missing.is_empty() || sessions.is_empty();
        if all_answered || self.bus.standing() != Standing::Up {
            return Ok(Present { connected, all_answered });
        }
        let answered = Arc::new(Notify::new());
        let id = format!("{:032x}", u128::from_le_bytes(self.random.bytes()));
        let call = match self.open(id, Call { missing, connected, answered: Arc::clone(&answered) }) {
            Ok(call) => call,
            Err(Call { connected, .. }) => return Ok(Present { connected, all_answered }),
        };
        self.bus.call(&RollCallMessage::Called {
            id: call.id.clone(),
            by: self.own.clone(),
            tenant: tenant.clone(),
            user: user.clone(),
            sessions: sessions.to_vec(),
        });
        let _ = tokio::time::timeout(ANSWERED_WITHIN, answered.notified()).await;
        Ok(call.close())
    }

    /// Opens a call, and gives it back where there are too many.
    fn open(&self, id: String, call: Call) -> Result<Open<'_>, Call> {
        let mut calls = self.calls();
        if calls.len() >= CALLS_MAX {
            return Err(call);
        }
        calls.insert(id.clone(), call);
        Ok(Open { roll: self, id })
    }

    fn here(&self, tenant: &TenantName, user: &UserId, mut sessions: Vec<SessionId>) -> Vec<SessionId> {
        sessions.retain(|session| self.hub.connected(tenant, user, session));
        sessions
    }

    /// Another replica calls, or answers.
    pub fn heard(&self, message: RollCallMessage) {
        match message {
            RollCallMessage::Called { by, .. } if by == self.own => {}
            RollCallMessage::Called { id, tenant, user, sessions, .. } => {
                let sessions = self.here(&tenant, &user, sessions);
                self.bus.call(&RollCallMessage::Answered { id, by: self.own.clone(), sessions });
            }
            RollCallMessage::Answered { id, by, sessions } => {
                let mut calls = self.calls();
                if let Some(call) = calls.get_mut(&id)
                    && call.missing.remove(&by)
                {
                    call.connected.extend(sessions);
                    if call.missing.is_empty() {
                        call.answered.notify_one();
                    }
                }
            }
        }
    }
}

/// A call that is open; nobody waits for answers to it once this is gone.
struct Open<'a> {
    roll: &'a RollCall,
    id: String,
}

impl Open<'_> {
    fn close(self) -> Present {
        let call = self.roll.calls().remove(&self.id);
        call.map(|call| Present { connected: call.connected, all_answered: call.missing.is_empty() })
            .unwrap_or_default()
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.roll.calls().remove(&self.id);
    }
}
