//! A house without database, keys or network, for tests of push: tokens are words, changes are told by hand.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use super::{Authority, Deadlines, Refusal, Settings, Sockets};
use crate::cache::Found;
use crate::domain::records::UserKind;
use crate::domain::{
    Access, Applied, Boottime, Change, Clock, Effect, Floors, Random, RoleName, Seq, SessionId, Stamp, Target,
    TenantName, Timestamp, UserId, Version,
};
use crate::hub::{Hub, Limits};
use crate::token::{Backing, Claims, Verified};

/// Goes with the runtime's time, which a test may pause.
pub(crate) struct TestClock(tokio::time::Instant);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::default().plus(self.0.elapsed())
    }
    fn boottime(&self) -> Boottime {
        Boottime(self.0.elapsed())
    }
}

struct Zero;

impl Random for Zero {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(0);
    }
}

#[derive(Default)]
struct TestAuthority {
    tokens: Mutex<HashMap<String, Arc<Verified>>>,
    users: Mutex<HashMap<UserId, Found>>,
}

#[async_trait]
impl Authority for TestAuthority {
    async fn identify(&self, token: &str) -> Result<Arc<Verified>, Refusal> {
        self.tokens.lock().unwrap().get(token).cloned().ok_or(Refusal::Token)
    }

    async fn access_of(&self, _: &TenantName, user: &UserId) -> Result<Option<Found>, Refusal> {
        Ok(self.users.lock().unwrap().get(user).cloned())
    }
}

/// The house.
pub(crate) struct House {
    pub(crate) sockets: Arc<Sockets>,
    authority: Arc<TestAuthority>,
    next: AtomicU64,
}

pub(crate) fn tenant() -> TenantName {
    "acme".parse().unwrap()
}

pub(crate) fn session(user: &str) -> SessionId {
    SessionId::from_random([user.as_bytes()[0]; 16])
}

impl House {
    pub(crate) fn new(deadlines: Deadlines, limits: Limits) -> Self {
        let authority = Arc::new(TestAuthority::default());
        let floors = Arc::new(Floors::new(3, 10_000));
        let clock: Arc<dyn Clock> = Arc::new(TestClock(tokio::time::Instant::now()));
        let applied = Arc::new(Applied::new("abcd2345".parse().unwrap()));
        applied.advance(Seq::new(10).unwrap());
        let settings = Settings {
            replica: "r1".into(),
            heartbeat: Duration::from_secs(25),
            reconnect_within: Duration::from_millis(1500),
        };
        let sockets = Arc::new(Sockets::new(
            Arc::clone(&authority) as Arc<dyn Authority>,
            Hub::new(Arc::clone(&floors), Arc::clone(&clock), limits),
            floors,
            applied,
            clock,
            Arc::new(Zero),
            settings,
            Duration::from_mins(15),
            deadlines,
        ));
        Self { sockets, authority, next: AtomicU64::new(11) }
    }

    fn access(user: &str, roles: &[&str]) -> Arc<Access> {
        let roles: Vec<RoleName> = roles.iter().map(|role| role.parse().unwrap()).collect();
        Arc::new(Access {
            tenant: tenant(),
            user: user.parse().unwrap(),
            roles: roles.into(),
            permissions: Arc::default(),
            first_expiry: None,
        })
    }

    fn stamp(seq: u64) -> Stamp {
        Stamp::new(1, Seq::new(seq).unwrap())
    }

    /// A token with its roles in it, of this position; answers it.
    pub(crate) fn token(&self, user: &str, seq: u64, roles: &[&str]) -> String {
        self.add_token(user, seq, Some(roles))
    }

    /// A thin token.
    pub(crate) fn thin(&self, user: &str, seq: u64) -> String {
        self.add_token(user, seq, None)
    }

    fn add_token(&self, user: &str, seq: u64, roles: Option<&[&str]>) -> String {
        let (stamp, session, id) = (Self::stamp(seq), session(user), user.parse().unwrap());
        let access = roles.map(|roles| Self::access(user, roles));
        let floors = &self.sockets.floors;
        let basis = match &access {
            Some(access) => floors.token_basis(stamp, &tenant(), &id, &session, access.roles.iter()),
            None => floors.thin_basis(stamp, &tenant(), &id, &session),
        };
        let issued_at = self.sockets.clock.now();
        let claims = Claims {
            tenant: tenant(),
            user: id,
            backing: Backing::Session(session),
            version: Version { epoch: self.sockets.applied.epoch(), seq: Seq::new(seq).unwrap() },
            client_id: "test".into(),
            issued_at,
            expires_at: issued_at.plus(Duration::from_mins(15)),
            kid: "k".into(),
            jti: "j".into(),
        };
        let token = format!("{user}.{seq}.{}", access.map_or("thin".into(), |access| access.roles.len().to_string()));
        let verified = Verified { claims, access: roles.map(|roles| Self::access(user, roles)), basis };
        self.authority.tokens.lock().unwrap().insert(token.clone(), Arc::new(verified));
        token
    }

    /// What the cache says of a user.
    pub(crate) fn cached(&self, user: &str, seq: u64, roles: &[&str]) {
        let found = Found { access: Self::access(user, roles), kind: UserKind::Person, stamp: Self::stamp(seq) };
        self.authority.users.lock().unwrap().insert(user.parse().unwrap(), found);
    }

    /// A change, by the way of all changes: floors, then hub; answers its position.
    pub(crate) fn change(&self, target: Target, effect: Effect) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let seq = Seq::new(number).unwrap();
        let change = Change { seq, at: self.sockets.clock.now(), target, effect };
        assert!(self.sockets.floors.raise(&change, 1).is_empty());
        self.sockets.applied.advance(seq);
        self.sockets.hub.tell(&[change], 1);
        number
    }

    pub(crate) fn change_role(&self, role: &str) -> u64 {
        self.change(Target::Role { tenant: tenant(), role: role.parse().unwrap() }, Effect::Changed)
    }

    pub(crate) fn change_user(&self, user: &str) -> u64 {
        self.change(Target::User { tenant: tenant(), user: user.parse().unwrap() }, Effect::Changed)
    }

    pub(crate) fn end_session(&self, user: &str) -> u64 {
        let target = Target::Session { tenant: tenant(), user: user.parse().unwrap(), session: session(user) };
        self.change(target, Effect::SignedOut)
    }
}
