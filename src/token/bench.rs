//! Everything around tokens, put together for tests: the memory store, a clock that stands, and a feed of one line.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;

use super::{
    Algorithm, Client, GuessLimits, Issued, KeySet, Login, Mint, PasswordSettings, Passwords, Permissions,
    PermissionsError, Secret, SessionError, SessionParts, SessionSettings, Sessions, TokenPermissions, TokenSettings,
    Vault, Verifier,
};
use crate::domain::operation::{NewRole, NewTenant, NewUser, Operation};
use crate::domain::permission::CHECK;
use crate::domain::records::{Status, UserKind};
use crate::domain::{
    Access, Actor, Applied, Boottime, Change, Clock, Epoch, Floors, Origin, Stamp, TenantName, Timestamp, Unit, UserId,
};
use crate::runtime::SystemRandom;
use crate::store::memory::MemoryStore;
use crate::store::{CommitListener, Store, StoreError, StoreOptions, Written};

pub(crate) const ISSUER: &str = "http://issuer.test";
pub(crate) const TTL: Duration = Duration::from_mins(15);
pub(crate) const REFRESH_TTL: Duration = Duration::from_hours(24);

/// A clock that stands still unless it is moved.
#[derive(Default)]
pub(crate) struct StandingClock(Mutex<Duration>);

impl StandingClock {
    pub(crate) fn pass(&self, duration: Duration) {
        *self.0.lock().unwrap() += duration;
    }
}

impl Clock for StandingClock {
    fn now(&self) -> Timestamp {
        "2026-11-24T20:00:00Z".parse::<Timestamp>().unwrap().plus(*self.0.lock().unwrap())
    }

    fn boottime(&self) -> Boottime {
        Boottime(Duration::from_hours(1) + *self.0.lock().unwrap())
    }
}

/// Applies each commit at once, as the feed of a lone replica does; unless it is held.
pub(crate) struct Feed {
    pub(crate) floors: Arc<Floors>,
    applied: OnceLock<Arc<Applied>>,
    held: Mutex<Option<Vec<Change>>>,
}

impl Feed {
    /// From now on this replica is behind.
    pub(crate) fn hold(&self) {
        *self.held.lock().unwrap() = Some(Vec::new());
    }

    /// It catches up.
    pub(crate) fn release(&self) {
        let held = self.held.lock().unwrap().take().unwrap_or_default();
        self.apply(&held);
    }

    fn apply(&self, changes: &[Change]) {
        for change in changes {
            assert!(self.floors.raise(change, 1).is_empty());
            self.applied.get().unwrap().advance(change.seq);
        }
    }
}

impl CommitListener for Feed {
    fn committed(&self, _: Epoch, changes: &[Change]) {
        match &mut *self.held.lock().unwrap() {
            Some(held) => held.extend_from_slice(changes),
            None => self.apply(changes),
        }
    }
}

/// A cache as naive as can be: what was asked before the feed was held is answered the same while it is held.
struct Naive {
    store: Arc<dyn Store>,
    feed: Arc<Feed>,
    answers: Mutex<HashMap<(TenantName, UserId), Answer>>,
}

type Answer = Option<(Arc<Access>, Stamp)>;

#[async_trait]
impl Permissions for Naive {
    async fn access(&self, tenant: &TenantName, user: &UserId) -> Result<Answer, PermissionsError> {
        let key = (tenant.clone(), user.clone());
        if self.feed.held.lock().unwrap().is_some()
            && let Some(answer) = self.answers.lock().unwrap().get(&key)
        {
            return Ok(answer.clone());
        }
        let answer = self.load(tenant, user).await?;
        self.answers.lock().unwrap().insert(key, answer.clone());
        Ok(answer)
    }
}

impl Naive {
    async fn load(&self, tenant: &TenantName, user: &UserId) -> Result<Answer, StoreError> {
        let stamp = self.feed.applied.get().unwrap().stamp();
        let facts = self.store.load_user(tenant, user).await?.value;
        let Some(facts) = facts.filter(|facts| facts.active) else { return Ok(None) };
        let (mut roles, mut grants) = (Vec::new(), facts.grants);
        for role in facts.roles {
            let role = self.store.load_role(role).await?.value.unwrap();
            roles.extend(role.closure);
            grants.extend(role.grants);
        }
        let access = Access {
            tenant: tenant.clone(),
            user: user.clone(),
            roles: roles.into(),
            permissions: Arc::new(grants.into_iter().collect()),
            first_expiry: facts.first_expiry,
        };
        Ok(Some((Arc::new(access), stamp)))
    }
}

/// One replica's tokens.
pub(crate) struct Bench {
    pub(crate) clock: Arc<StandingClock>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) applied: Arc<Applied>,
    pub(crate) keys: Arc<KeySet>,
    pub(crate) mint: Arc<Mint>,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) passwords: Arc<Passwords>,
    pub(crate) sessions: Arc<Sessions>,
}

/// What a test wants otherwise.
#[derive(Default)]
pub(crate) struct Wishes {
    pub(crate) algorithm: Algorithm,
    pub(crate) permissions: TokenPermissions,
    pub(crate) limits: GuessLimits,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(Wishes::default()).await
    }

    pub(crate) async fn with(wishes: Wishes) -> Self {
        let clock = Arc::new(StandingClock::default());
        let floors = Arc::new(Floors::new(7, 10_000));
        floors.begin_epoch(1);
        let feed = Arc::new(Feed { floors, applied: OnceLock::new(), held: Mutex::default() });
        let options = StoreOptions {
            id_rest: REFRESH_TTL,
            refresh_grace: Duration::from_secs(10),
            deadline: Duration::from_secs(5),
            listener: Arc::<Feed>::clone(&feed),
        };
        let store: Arc<dyn Store> =
            Arc::new(MemoryStore::new(options, Arc::<StandingClock>::clone(&clock), Arc::new(SystemRandom)));
        Self::over(store, feed, clock, wishes).await
    }

    /// Another replica over the same store, which shares only the floors.
    pub(crate) async fn sibling(&self) -> Self {
        Self::over(Arc::clone(&self.store), Arc::clone(&self.feed), Arc::clone(&self.clock), Wishes::default()).await
    }

    async fn over(store: Arc<dyn Store>, feed: Arc<Feed>, clock: Arc<StandingClock>, wishes: Wishes) -> Self {
        let epoch = store.keys().await.unwrap().version.epoch;
        let applied = Arc::clone(feed.applied.get_or_init(|| Arc::new(Applied::new(epoch))));
        let any_clock = || -> Arc<dyn Clock> { Arc::<StandingClock>::clone(&clock) };
        let random = Arc::new(SystemRandom);
        let vault = Arc::new(Vault::plain());
        let opened = KeySet::open(
            Arc::clone(&store),
            Arc::clone(&vault),
            wishes.algorithm,
            TTL,
            any_clock(),
            Arc::<SystemRandom>::clone(&random),
        );
        let keys = Arc::new(opened.await.unwrap());
        let settings = TokenSettings {
            issuer: ISSUER.into(),
            audience: "audience".into(),
            ttl: TTL,
            permissions: wishes.permissions,
        };
        let verifier = Arc::new(Verifier::new(
            Arc::clone(&keys),
            Arc::clone(&feed.floors),
            Arc::clone(&applied),
            any_clock(),
            &settings,
        ));
        let mint = Arc::new(Mint::new(Arc::clone(&keys), settings, any_clock(), Arc::<SystemRandom>::clone(&random)));
        let settings = PasswordSettings { memory_kib: 8, iterations: 1, ..PasswordSettings::default() };
        let passwords = Arc::new(Passwords::new(settings, Arc::<SystemRandom>::clone(&random)).unwrap());
        let settings = SessionSettings {
            refresh_ttl: REFRESH_TTL,
            idle_ttl: REFRESH_TTL,
            refresh_budget: 2000,
            guesses: wishes.limits,
        };
        let permissions: Arc<dyn Permissions> =
            Arc::new(Naive { store: Arc::clone(&store), feed: Arc::clone(&feed), answers: Mutex::default() });
        let parts = SessionParts {
            store: Arc::clone(&store),
            permissions,
            applied: Arc::clone(&applied),
            mint: Arc::clone(&mint),
            passwords: Arc::clone(&passwords),
            clock: any_clock(),
            random,
        };
        let sessions = Arc::new(Sessions::open(parts, &vault, settings).await.unwrap());
        Self { clock, store, feed, applied, keys, mint, verifier, passwords, sessions }
    }

    pub(crate) async fn does(&self, operations: impl IntoIterator<Item = Operation>) -> Written {
        let operations = operations.into_iter().collect();
        self.store.write(Unit { actor: Actor::System("system"), operations }).await.unwrap()
    }

    /// A user of the first tenant whose password is `secret of <id>`, with these direct grants.
    pub(crate) async fn user(&self, id: &str, kind: UserKind, grants: &[&str]) {
        let password = self.passwords.hash(format!("secret of {id}")).await.unwrap();
        let user = NewUser {
            id: id.parse().unwrap(),
            name: id.to_owned(),
            email: Some(format!("{id}@example.test")),
            kind,
            password: Some(password),
            status: Status::Active,
            identities: Vec::new(),
        };
        self.does([Operation::CreateUser { tenant: TenantName::first(), user }]).await;
        for grant in grants {
            self.grant(id, grant, None).await;
        }
    }

    /// Another tenant with a service account that may check.
    pub(crate) async fn tenant_with_checker(&self, tenant: &str, id: &str) {
        let name: TenantName = tenant.parse().unwrap();
        let new = NewTenant { name: name.clone(), description: String::new(), status: Status::Active };
        let user = NewUser {
            id: id.parse().unwrap(),
            name: id.to_owned(),
            email: None,
            kind: UserKind::Service,
            password: Some(self.passwords.hash(format!("secret of {id}")).await.unwrap()),
            status: Status::Active,
            identities: Vec::new(),
        };
        let (tenant, user_id, permission) = (name.clone(), user.id.clone(), CHECK.parse().unwrap());
        self.does([
            Operation::CreateTenant(new),
            Operation::CreateUser { tenant: name, user },
            Operation::GrantPermission { tenant, user: user_id, permission, expires_at: None },
        ])
        .await;
    }

    pub(crate) async fn grant(&self, id: &str, grant: &str, expires_at: Option<Timestamp>) -> Written {
        let (tenant, user, permission) = (TenantName::first(), id.parse().unwrap(), grant.parse().unwrap());
        self.does([Operation::GrantPermission { tenant, user, permission, expires_at }]).await
    }

    /// A role with these permissions, given to the user.
    pub(crate) async fn role(&self, id: &str, name: &str, grants: &[&str]) {
        let permissions = grants.iter().map(|grant| grant.parse().unwrap()).collect();
        let role = NewRole { name: name.parse().unwrap(), description: String::new(), permissions, includes: vec![] };
        let (tenant, user) = (TenantName::first(), id.parse().unwrap());
        self.does([
            Operation::CreateRole { tenant: tenant.clone(), role },
            Operation::GrantRole { tenant, user, role: name.parse().unwrap(), expires_at: None },
        ])
        .await;
    }

    pub(crate) async fn sign_in(&self, user: &str) -> Result<Issued, SessionError> {
        self.sessions.sign_in(login(user), &client()).await
    }

    pub(crate) async fn refresh(&self, token: &Secret) -> Result<Issued, SessionError> {
        self.sessions.refresh(&token.0, None, &Origin::default()).await
    }
}

pub(crate) fn login(user: &str) -> Login {
    Login { tenant: "default".into(), user: user.into(), password: format!("secret of {user}") }
}

pub(crate) fn client() -> Client {
    Client { address: "192.0.2.1".parse().unwrap(), user_agent: "bench".into(), request: None }
}
