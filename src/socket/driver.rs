//! A connection's state machine with what it asks and tells inside the house; how its messages travel is not known here.
//! Never waits: what is to be written is handed out, and what was written is told back.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;

use super::state::{Action, Identity, Input, Now, Refusal, Standing, State, Unregistered};
use super::{Received, Sockets};
use crate::cache::Found;
use crate::domain::floors::Freshness;
use crate::domain::limits::SOCKET_MESSAGES;
use crate::domain::pace::Pace;
use crate::domain::{Basis, Boottime, Stamp};
use crate::hub::{Connection, Footing, Holder, Seat, Sleeper};
use crate::protocol::frame::TextFrame;
use crate::protocol::socket::{CloseCode, ServerMessage, millis};
use crate::token::Verified;

/// What goes out, in order.
pub(super) enum Out {
    Text(TextFrame),
    /// `permissions_changed`; written out, it is to be noted as told.
    Notice(TextFrame, Stamp),
    /// The end.
    Close(CloseCode),
}

/// What is being looked up, one thing at a time; boxed once more, for most connections have none.
type Look = Pin<Box<dyn Future<Output = Seen>>>;

/// What was looked up.
enum Seen {
    /// Whose a token is.
    Token(Result<Arc<Verified>, Refusal>),
    /// Permissions for a thin token, and for what.
    Permissions(Purpose, Result<Option<Found>, Refusal>),
}

enum Purpose {
    Register(Identity, Arc<Verified>),
    Rebase(Identity),
}

/// Where the connection stands in the house.
enum Place {
    /// There is room for it.
    Admitted(Seat),
    Registered(Connection),
    Left,
}

pub(super) struct Driver {
    sockets: Arc<Sockets>,
    state: State,
    place: Place,
    /// The token that was identified last, until it is registered.
    verified: Option<Arc<Verified>>,
    look: Option<Box<Look>>,
    pace: Pace,
}

impl Driver {
    /// A connection that was admitted.
    pub(super) fn new(sockets: Arc<Sockets>, seat: Seat) -> Self {
        let state = State::new(Arc::clone(&sockets.settings), sockets.clock.boottime());
        Self { sockets, state, place: Place::Admitted(seat), verified: None, look: None, pace: Pace::default() }
    }

    /// The token that came with the handshake, and was identified there.
    pub(super) fn brought(&mut self, verified: Arc<Verified>, out: &mut VecDeque<Out>) {
        let identity = self.identity(&verified);
        self.verified = Some(verified);
        self.happened(Input::Identified(Ok(identity)), out);
    }

    /// Whether nothing more will come out.
    pub(super) fn is_closing(&self) -> bool {
        self.state.is_closing()
    }

    /// When a tick is wanted.
    pub(super) fn deadline(&self) -> Option<Boottime> {
        self.state.deadline()
    }

    /// Something comes from inside the house: mail, of which `sleeper` is told, or what was looked up. Ready where something
    /// happened.
    pub(super) fn poll_inside(
        &mut self,
        context: &mut Context<'_>,
        sleeper: Sleeper<'_>,
        out: &mut VecDeque<Out>,
    ) -> Poll<()> {
        if let Place::Registered(connection) = &self.place
            && let Poll::Ready(mail) = connection.poll_mail(sleeper)
        {
            self.happened(Input::Mail(mail), out);
            return Poll::Ready(());
        }
        if let Some(look) = &mut self.look
            && let Poll::Ready(seen) = look.as_mut().as_mut().poll(context)
        {
            self.look = None;
            self.looked_up(seen, out);
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// The client has been told that its token must reach this.
    pub(super) fn told(&self, stamp: Stamp) {
        if let Place::Registered(connection) = &self.place {
            connection.told(stamp);
        }
    }

    fn now(&self) -> Now {
        let Sockets { clock, applied, .. } = &*self.sockets;
        Now { wall: clock.now(), boot: clock.boottime(), applied: applied.version() }
    }

    /// Something came from the client.
    pub(super) fn received(&mut self, received: &Received, out: &mut VecDeque<Out>) {
        let input = match received {
            Received::Gone => Input::Gone,
            _ if !self.pace.take(self.sockets.clock.boottime(), SOCKET_MESSAGES) => Input::Flood,
            Received::Text(text) => Input::Text(text),
            Received::Binary => Input::Binary,
            Received::Part => return,
            Received::TooLarge => Input::TooLarge,
            Received::Violation => Input::Violation,
            Received::NotUtf8 => Input::NotUtf8,
        };
        self.happened(input, out);
    }

    /// Tells the state machine, and does what it says.
    pub(super) fn happened(&mut self, input: Input<'_>, out: &mut VecDeque<Out>) {
        let mut actions = Vec::new();
        self.state.step(self.now(), input, &mut actions);
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            if let Some(answer) = self.act(action, out) {
                let mut more = Vec::new();
                self.state.step(self.now(), answer, &mut more);
                actions.extend(more);
            }
        }
    }

    fn act(&mut self, action: Action, out: &mut VecDeque<Out>) -> Option<Input<'static>> {
        match action {
            Action::Identify(token) => return self.identify(token),
            Action::Register(identity) => return self.register(identity),
            Action::Rebase(identity) => self.look_up(Purpose::Rebase(identity)),
            Action::Send(message) => out.push_back(Out::Text(TextFrame::new(&message.encode()))),
            Action::Tell(notice) => {
                let applied = &self.sockets.applied;
                let frame = self.sockets.hub.frame(notice, || {
                    let refresh_within_ms = millis(notice.refresh_within);
                    let pv = applied.version_of(notice.stamp);
                    let (reason, at) = (notice.reason, notice.at);
                    ServerMessage::PermissionsChanged { pv, reason, refresh_within_ms, at }.encode()
                });
                out.push_back(Out::Notice(frame, notice.stamp));
            }
            Action::Settled(stamp) => {
                if let Place::Registered(connection) = &self.place {
                    connection.settled(stamp);
                }
            }
            Action::Close(code) => {
                metrics::counter!("permcast_connections_closed_total", "code" => code.code().to_string()).increment(1);
                out.push_back(Out::Close(code));
            }
        }
        None
    }

    /// It is over: others may have its place.
    pub(super) fn leave(&mut self) {
        self.place = Place::Left;
        self.look = None;
    }

    /// At once where memory alone tells whose the token is.
    fn identify(&mut self, token: String) -> Option<Input<'static>> {
        let authority = Arc::clone(&self.sockets.authority);
        let mut asked = Box::pin(async move { authority.identify(&token).await });
        if let Some(answer) = asked.as_mut().now_or_never() {
            return Some(Input::Identified(self.identified(answer)));
        }
        let within = self.sockets.deadlines.look_up;
        self.look = Some(Box::new(Box::pin(async move {
            Seen::Token(tokio::time::timeout(within, asked).await.unwrap_or(Err(Refusal::Unavailable)))
        })));
        None
    }

    fn identified(&mut self, answer: Result<Arc<Verified>, Refusal>) -> Result<Identity, Refusal> {
        let verified = answer?;
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
            session: claims.session().cloned(),
            stamp: verified.basis.stamp(),
            version: claims.version,
            thin: verified.access.is_none(),
            issued_at: claims.issued_at,
            expires_at: claims.expires_at,
            // How long a trusted issuer lets its tokens live is its own affair.
            cut: claims.session().is_some() && life + std::time::Duration::from_secs(1) < self.sockets.token_life,
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
        let footing = Footing::fat(floors, identity.session.as_ref(), identity.stamp, access.roles.iter(), operator);
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
        self.look = Some(Box::new(Box::pin(async move {
            let looked = tokio::time::timeout(within, authority.access_of(&tenant, &user)).await;
            Seen::Permissions(purpose, looked.unwrap_or(Err(Refusal::Unavailable)))
        })));
    }

    fn looked_up(&mut self, seen: Seen, out: &mut VecDeque<Out>) {
        let input = match seen {
            Seen::Token(answer) => Input::Identified(self.identified(answer)),
            Seen::Permissions(purpose, answer) => self.settle(purpose, answer),
        };
        self.happened(input, out);
    }

    fn settle(&mut self, purpose: Purpose, answer: Result<Option<Found>, Refusal>) -> Input<'static> {
        let found = match answer {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(Unregistered::Unknown),
            Err(_) => Err(Unregistered::Unavailable),
        };
        match purpose {
            // What a client holds by a thin token it may have read as early as the token was made.
            Purpose::Register(identity, verified) => Input::Registered(found.and_then(|found| {
                let id = self.stand_on_cache(&identity, &found)?;
                Ok((id, self.thin_standing(&identity, &verified.basis, &found, found.stamp.min(identity.stamp))))
            })),
            Purpose::Rebase(identity) => Input::Rebased(found.and_then(|found| {
                self.stand_on_cache(&identity, &found)?;
                let Identity { stamp, tenant, user, session, .. } = &identity;
                let basis = self.sockets.floors.thin_basis(*stamp, tenant, user, session.as_ref());
                Ok(self.thin_standing(&identity, &basis, &found, found.stamp))
            })),
        }
    }

    fn stand_on_cache(&mut self, identity: &Identity, found: &Found) -> Result<u64, Unregistered> {
        let Found { access, stamp, .. } = found;
        let operator = access.permissions.is_operator();
        let floors = &self.sockets.floors;
        let (session, roles) = (identity.session.as_ref(), access.roles.iter());
        let footing = Footing::thin(floors, session, identity.stamp, *stamp, roles, operator);
        self.stand_on(identity, footing)
    }

    /// How a thin token stands, with permissions that the client has read as of `read`.
    fn thin_standing(&self, identity: &Identity, basis: &Basis, found: &Found, read: Stamp) -> Standing {
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
        if let Place::Registered(connection) = &self.place {
            connection.move_to(&identity.tenant, footing);
            return Ok(connection.id());
        }
        let Place::Admitted(seat) = std::mem::replace(&mut self.place, Place::Left) else {
            return Err(Unregistered::Unavailable);
        };
        let holder = Holder { tenant: identity.tenant.clone(), user: identity.user.clone() };
        let connection = self.sockets.hub.register(seat, &holder, footing).map_err(Unregistered::Full)?;
        let id = connection.id();
        self.place = Place::Registered(connection);
        Ok(id)
    }
}

fn standing(freshness: Freshness) -> Standing {
    match freshness {
        Freshness::Fresh => Standing::Fresh,
        Freshness::Stale { needed } => Standing::Stale(needed),
        Freshness::Ended { .. } => Standing::Ended,
    }
}
