//! Drives a connection's state machine: fetches what happens, does what it says, decides nothing.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;

use super::state::{Action, Identity, Input, Now, Refusal, Standing, State, Unregistered};
use super::{Carrier, Received, Sockets};
use crate::cache::Found;
use crate::domain::floors::Freshness;
use crate::hub::{Connection, Footing, Holder, Seat};
use crate::protocol::socket::{ServerMessage, millis};
use crate::token::Verified;

/// Permissions that are being looked up for a thin token, and for what.
struct Look {
    purpose: Purpose,
    answer: Pin<Box<dyn Future<Output = Result<Option<Found>, Refusal>>>>,
}

enum Purpose {
    Register(Identity, Arc<Verified>),
    Rebase(Identity),
}

struct Task<C> {
    sockets: Arc<Sockets>,
    carrier: C,
    state: State,
    /// Room for the connection, until it is registered.
    seat: Option<Seat>,
    connection: Option<Connection>,
    /// The token that was identified last, until it is registered.
    verified: Option<Arc<Verified>>,
    look: Option<Look>,
}

/// Drives a connection to its end. A token that came with the handshake was identified there.
pub(super) async fn drive<C: Carrier>(sockets: Arc<Sockets>, seat: Seat, token: Option<Arc<Verified>>, carrier: C) {
    let state = State::new(Arc::clone(&sockets.settings), sockets.clock.boottime());
    let draining = sockets.draining.clone();
    let turn = sockets.random.up_to(sockets.deadlines.drain);
    let mut task = Task { sockets, carrier, state, seat: Some(seat), connection: None, verified: None, look: None };
    if let Some(verified) = token {
        let identity = task.identity(&verified);
        task.verified = Some(verified);
        task.happened(Input::Identified(Ok(identity))).await;
    }
    let drain = async {
        draining.cancelled().await;
        tokio::time::sleep(turn).await;
    };
    let mut drain = std::pin::pin!(drain);
    while !task.state.is_closing() {
        let now = task.sockets.clock.boottime();
        let wait = task.state.deadline().map(|deadline| deadline.since(now));
        let Task { carrier, connection, look, .. } = &mut task;
        tokio::select! {
            mail = async { match connection { Some(connection) => connection.mail().await, None => pending().await } } => {
                task.happened(Input::Mail(mail)).await;
            }
            answer = async { match look { Some(look) => look.answer.as_mut().await, None => pending().await } } => {
                task.looked_up(answer).await;
            }
            received = carrier.receive() => match received {
                Received::Text(text) => task.happened(Input::Text(&text)).await,
                Received::Binary => task.happened(Input::Binary).await,
                Received::TooLarge => task.happened(Input::TooLarge).await,
                Received::Violation => task.happened(Input::Violation).await,
                Received::Gone => task.happened(Input::Gone).await,
            },
            () = async { match wait { Some(wait) => tokio::time::sleep(wait).await, None => pending().await } } => {
                task.happened(Input::Tick).await;
            }
            () = &mut drain => task.happened(Input::Drain).await,
        }
    }
}

impl<C: Carrier> Task<C> {
    fn now(&self) -> Now {
        let Sockets { clock, applied, .. } = &*self.sockets;
        Now { wall: clock.now(), boot: clock.boottime(), applied: applied.version() }
    }

    /// Tells the state machine, and does what it says.
    async fn happened(&mut self, input: Input<'_>) {
        let mut actions = Vec::new();
        self.state.step(self.now(), input, &mut actions);
        self.act(actions).await;
    }

    async fn act(&mut self, actions: Vec<Action>) {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            let answer = match action {
                Action::Identify(token) => Some(Input::Identified(self.identify(&token))),
                Action::Register(identity) => self.register(identity),
                Action::Rebase(identity) => {
                    self.look_up(Purpose::Rebase(identity));
                    None
                }
                Action::Send(message) => self.send(message.encode().into()).await,
                Action::Tell(notice) => {
                    let applied = Arc::clone(&self.sockets.applied);
                    let frame = self.sockets.hub.frame(notice, || {
                        let refresh_within_ms = millis(notice.refresh_within);
                        let pv = applied.version_of(notice.stamp);
                        let (reason, at) = (notice.reason, notice.at);
                        ServerMessage::PermissionsChanged { pv, reason, refresh_within_ms, at }.encode()
                    });
                    let failed = self.send(frame).await;
                    if failed.is_none()
                        && let Some(connection) = &self.connection
                    {
                        connection.told(notice.stamp);
                    }
                    failed
                }
                Action::Settled(stamp) => {
                    if let Some(connection) = &self.connection {
                        connection.settled(stamp);
                    }
                    None
                }
                Action::Close(code) => {
                    metrics::counter!("permcast_connections_closed_total", "code" => code.code().to_string())
                        .increment(1);
                    self.connection = None;
                    self.carrier.close(code).await;
                    None
                }
            };
            if let Some(input) = answer {
                let mut more = Vec::new();
                self.state.step(self.now(), input, &mut more);
                actions.extend(more);
            }
        }
    }

    /// One who does not take what is written to him is as good as gone: he comes back, and is told at welcome.
    async fn send(&mut self, text: bytestring::ByteString) -> Option<Input<'static>> {
        let written = tokio::time::timeout(self.sockets.deadlines.write, self.carrier.send(text)).await;
        match written {
            Ok(Ok(())) => None,
            Ok(Err(_)) => Some(Input::Gone),
            Err(_) => Some(Input::Stuck),
        }
    }

    fn identify(&mut self, token: &str) -> Result<Identity, Refusal> {
        let verified = self.sockets.authority.identify(token)?;
        let identity = self.identity(&verified);
        self.verified = Some(verified);
        Ok(identity)
    }

    fn identity(&self, verified: &Verified) -> Identity {
        let claims = &verified.claims;
        let life = claims.expires_at.since(claims.issued_at);
        Identity {
            tenant: claims.tenant.clone(),
            user: claims.user.clone(),
            session: claims.session.clone(),
            stamp: verified.basis.stamp(),
            version: claims.version,
            thin: verified.access.is_none(),
            issued_at: claims.issued_at,
            expires_at: claims.expires_at,
            cut: life + std::time::Duration::from_secs(1) < self.sockets.token_life,
        }
    }

    fn register(&mut self, identity: Identity) -> Option<Input<'static>> {
        let verified = self.verified.take()?;
        let Some(access) = &verified.access else {
            self.look_up(Purpose::Register(identity, verified));
            return None;
        };
        let floors = &self.sockets.floors;
        let operator = access.permissions.is_operator();
        let footing = Footing::fat(floors, &identity.session, identity.stamp, access.roles.iter(), operator);
        Some(Input::Registered(self.stand_on(&identity, footing).map(|id| {
            // Compared only now that a change can no longer get past.
            (id, standing(self.sockets.floors.freshness(&verified.basis)))
        })))
    }

    fn look_up(&mut self, purpose: Purpose) {
        let (Purpose::Register(identity, _) | Purpose::Rebase(identity)) = &purpose;
        let (tenant, user) = (identity.tenant.clone(), identity.user.clone());
        let authority = Arc::clone(&self.sockets.authority);
        let within = self.sockets.deadlines.look_up;
        let answer = Box::pin(async move {
            let looked = tokio::time::timeout(within, authority.access_of(&tenant, &user)).await;
            looked.unwrap_or(Err(Refusal::Unavailable))
        });
        self.look = Some(Look { purpose, answer });
    }

    async fn looked_up(&mut self, answer: Result<Option<Found>, Refusal>) {
        let Some(Look { purpose, .. }) = self.look.take() else { return };
        let found = match answer {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(Unregistered::Unknown),
            Err(_) => Err(Unregistered::Unavailable),
        };
        let input = match purpose {
            // What a client holds by a thin token it may have read as early as the token was made.
            Purpose::Register(identity, verified) => Input::Registered(found.and_then(|found| {
                let id = self.stand_on_cache(&identity, &found)?;
                Ok((id, self.thin_standing(&identity, &verified.basis, &found, found.stamp.min(identity.stamp))))
            })),
            Purpose::Rebase(identity) => Input::Rebased(found.and_then(|found| {
                self.stand_on_cache(&identity, &found)?;
                let Identity { stamp, tenant, user, session, .. } = &identity;
                let basis = self.sockets.floors.thin_basis(*stamp, tenant, user, session);
                Ok(self.thin_standing(&identity, &basis, &found, found.stamp))
            })),
        };
        self.happened(input).await;
    }

    fn stand_on_cache(&mut self, identity: &Identity, found: &Found) -> Result<u64, Unregistered> {
        let Found { access, stamp, .. } = found;
        let operator = access.permissions.is_operator();
        let floors = &self.sockets.floors;
        let footing = Footing::thin(floors, &identity.session, identity.stamp, *stamp, access.roles.iter(), operator);
        self.stand_on(identity, footing)
    }

    /// How a thin token stands, with permissions that the client has read as of `read`.
    fn thin_standing(
        &self,
        identity: &Identity,
        basis: &crate::domain::Basis,
        found: &Found,
        read: crate::domain::Stamp,
    ) -> Standing {
        let floors = &self.sockets.floors;
        match floors.freshness(basis) {
            Freshness::Fresh => {
                let Identity { tenant, user, .. } = identity;
                let entry = floors.entry_basis(read, tenant, Some(user), found.access.roles.iter());
                match floors.freshness(&entry) {
                    Freshness::Stale { needed } => Standing::Moved(needed),
                    Freshness::Fresh | Freshness::Ended { .. } => Standing::Fresh,
                }
            }
            freshness => standing(freshness),
        }
    }

    /// Registers the connection, or moves it where it is registered.
    fn stand_on(&mut self, identity: &Identity, footing: Footing) -> Result<u64, Unregistered> {
        if let Some(connection) = &self.connection {
            connection.move_to(&identity.tenant, footing);
            return Ok(connection.id());
        }
        let seat = self.seat.take().ok_or(Unregistered::Unavailable)?;
        let holder = Holder { tenant: identity.tenant.clone(), user: identity.user.clone() };
        let connection = self.sockets.hub.register(seat, &holder, footing).map_err(Unregistered::Full)?;
        Ok(self.connection.insert(connection).id())
    }
}

fn standing(freshness: Freshness) -> Standing {
    match freshness {
        Freshness::Fresh => Standing::Fresh,
        Freshness::Stale { needed } => Standing::Stale(needed),
        Freshness::Ended { .. } => Standing::Ended,
    }
}

#[cfg(test)]
#[path = "task_tests.rs"]
mod tests;
