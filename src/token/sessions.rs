//! Sessions: sign-in, refresh, end. Each answers with a token that rests on what was read after everything else was done.

mod exchange;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;

use super::budget::Budget;
use super::limit::{Attempt, GuessLimits, Guesses};
use super::mint::{Mint, MintError, Minted, Snapshot};
use super::passwords::{PasswordError, Passwords, is_generated};
use super::refresh::{RefreshToken, RefreshTokens};
use super::refusals::Refusals;
use super::vault::{SecretError, Vault};
use crate::domain::limits::AT_LEAST_WAIT;
use crate::domain::records::UserKind;
use crate::domain::{Access, Applied, Clock, Effect, Origin, Random, SessionId, Stamp, TenantName, UserId, Version};
use crate::store::audit::RefusedSignIns;
use crate::store::{Credentials, NewSession, Rotation, Store, StoreError, Written};

/// `client_id` of tokens that a person got by signing in.
const FIRST_PARTY_CLIENT: &str = "permcast";
/// Between two looks at permissions that have not come far enough yet.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(2);
/// Over how long those come back for whom there was no room.
const BUSY_SPREAD: Duration = Duration::from_secs(3);
/// What is kept of a `User-Agent`, in characters.
const USER_AGENT_CHARS_MAX: usize = 256;

/// Where a user's permissions come from: the cache, in a process that serves.
#[async_trait]
pub trait Permissions: Send + Sync + 'static {
    /// What a user may do and the position as of which it holds; `None` where there is no such user, or he or his tenant
    /// is not active.
    async fn access(
        &self,
        tenant: &TenantName,
        user: &UserId,
    ) -> Result<Option<(Arc<Access>, Stamp)>, PermissionsError>;
}

/// Why permissions cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum PermissionsError {
    /// This replica may have missed a change and does not decide.
    #[error("this replica is beyond its bound of staleness")]
    PastBound,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<PermissionsError> for SessionError {
    fn from(error: PermissionsError) -> Self {
        match error {
            PermissionsError::PastBound => Self::PastBound,
            PermissionsError::Store(error) => Self::Store(error),
        }
    }
}

/// Why a session was not opened or a token not refreshed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Wrong password, unknown or suspended user: which of them is not told.
    #[error("wrong user name or password")]
    Refused,
    /// The refresh token is none, was used before, or its session is over.
    #[error("{0}")]
    InvalidGrant(&'static str),
    /// Too many wrong guesses.
    #[error("too many attempts")]
    TooMany {
        /// When the next one is let in.
        retry_after: Duration,
    },
    /// All but operators are locked out.
    #[error("locked down")]
    Locked { retry_after_s: u32 },
    /// More refreshes than the budget has room for.
    #[error("too many refreshes at this moment")]
    Busy { retry_after: Duration },
    /// This replica may have missed a change: what it knows is not to be put into a token.
    #[error("this replica is beyond its bound of staleness")]
    PastBound,
    /// No token can be made yet that is as new as it must be.
    #[error("the permissions have not come far enough yet")]
    Behind,
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Mint(#[from] MintError),
}

const SESSION_OVER: SessionError = SessionError::InvalidGrant("session ended");

/// Who asks, for the record of the session and for the limits on guessing.
#[derive(Debug, Clone)]
pub struct Client {
    pub address: IpAddr,
    pub user_agent: String,
    /// Its `X-Request-Id`.
    pub request: Option<String>,
}

/// A user's name and password, as typed. Names that no user can have are as wrong as any.
#[derive(Clone)]
pub struct Login {
    pub tenant: String,
    /// User id or email.
    pub user: String,
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("tenant", &self.tenant).field("user", &self.user).finish_non_exhaustive()
    }
}

/// Somebody whose password was right.
#[derive(Debug, Clone)]
pub struct Authenticated {
    pub tenant: TenantName,
    pub credentials: Credentials,
}

/// What a client gets.
#[derive(Debug, Clone)]
pub struct Issued {
    pub access: Minted,
    /// The one to use from now on.
    pub refresh_token: Option<Secret>,
    pub session: SessionId,
}

/// A text that is not shown by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Everything that sessions need.
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub permissions: Arc<dyn Permissions>,
    pub applied: Arc<Applied>,
    pub mint: Arc<Mint>,
    pub passwords: Arc<Passwords>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
}

/// Opens, refreshes and ends sessions.
pub struct Sessions {
    parts: Parts,
    refresh_tokens: ArcSwap<RefreshTokens>,
    settings: SessionSettings,
    guesses: Mutex<Guesses>,
    refusals: Mutex<Refusals>,
    budget: Mutex<Budget>,
}

/// What of sessions can be set.
#[derive(Debug, Clone, Copy)]
pub struct SessionSettings {
    /// The longest life of a session, and so of its refresh tokens.
    pub refresh_ttl: Duration,
    /// How long one lives that is not refreshed.
    pub idle_ttl: Duration,
    /// Refreshes a second that the whole deployment takes.
    pub refresh_budget: u32,
    pub guesses: GuessLimits,
}

impl Sessions {
    /// Reads the secret behind the refresh tokens, and makes it at the first start.
    pub async fn open(parts: Parts, vault: &Vault, settings: SessionSettings) -> Result<Self, SecretError> {
        let refresh_tokens = ArcSwap::from_pointee(RefreshTokens::open(&*parts.store, vault, &*parts.random).await?);
        let guesses = Mutex::new(Guesses::new(settings.guesses));
        let budget = Mutex::new(Budget::new(settings.refresh_budget));
        Ok(Self { parts, refresh_tokens, settings, guesses, refusals: Mutex::default(), budget })
    }

    /// Reads that secret anew: where a backup was put back the database may hold another one.
    pub async fn reload_secret(&self, vault: &Vault) -> Result<(), SecretError> {
        let tokens = RefreshTokens::open(&*self.parts.store, vault, &*self.parts.random).await?;
        self.refresh_tokens.store(Arc::new(tokens));
        Ok(())
    }

    /// `iss` of the tokens.
    pub fn issuer(&self) -> &str {
        &self.parts.mint.settings().issuer
    }

    /// `aud` of the tokens.
    pub fn audience(&self) -> &str {
        &self.parts.mint.settings().audience
    }

    /// The longest life of a refresh token.
    pub fn refresh_ttl(&self) -> Duration {
        self.settings.refresh_ttl
    }

    /// Says how many replicas share the budget of refreshes and the limits on guessing.
    pub fn set_live_replicas(&self, replicas: u32) {
        self.guesses().set_live_replicas(replicas);
        self.budget().set_live_replicas(replicas);
    }

    fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn guesses(&self) -> MutexGuard<'_, Guesses> {
        self.guesses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sign-ins that were refused since this was last asked.
    pub fn take_refused(&self) -> Vec<RefusedSignIns> {
        self.refusals().take()
    }

    /// Signs a user in by his password.
    pub async fn sign_in(&self, login: Login, client: &Client) -> Result<Issued, SessionError> {
        // A generated secret is for programs, whose hash is fast: here it would betray by its speed that it is there.
        let password = login.password.clone();
        let mut somebody =
            self.authenticate(login, client, |hash| !hash.password.as_ref().is_some_and(is_generated)).await?;
        self.check_lockdown(&somebody.tenant, &somebody.credentials.user).await?;
        self.renew_hash(&mut somebody, password).await;
        let id = self.parts.random.bytes();
        let refresh = self.refresh_tokens.load().first(id, &*self.parts.random);
        self.begin(somebody, id, Some(refresh), self.settings.refresh_ttl, FIRST_PARTY_CLIENT.to_owned(), client).await
    }

    /// Gives a service account a token for its secret (RFC 6749, 4.4); without a refresh token, as it can come again.
    pub async fn client_credentials(&self, login: Login, client: &Client) -> Result<Issued, SessionError> {
        let somebody = self.authenticate_service(login, client).await?;
        let (id, client_id) = (self.parts.random.bytes(), somebody.credentials.user.to_string());
        let ttl = self.parts.mint.settings().ttl;
        self.begin(somebody, id, None, ttl, client_id, client).await
    }

    /// A session of a user of permcast's own, whom nobody has to trust: no password, no refresh. Refused where he is not
    /// there, not active, or has a password after all.
    pub async fn begin_own(
        &self,
        tenant: &TenantName,
        user: &UserId,
        ttl: Duration,
        client_id: &str,
    ) -> Result<Issued, SessionError> {
        let credentials = self.parts.store.credentials(tenant, user.as_str()).await?;
        let credentials = credentials.filter(|found| found.user == *user && found.active && found.password.is_none());
        let somebody = Authenticated { tenant: tenant.clone(), credentials: credentials.ok_or(SessionError::Refused)? };
        let client =
            Client { address: IpAddr::V4(Ipv4Addr::LOCALHOST), user_agent: client_id.to_owned(), request: None };
        self.begin(somebody, self.parts.random.bytes(), None, ttl, client_id.to_owned(), &client).await
    }

    /// A service account by its secret, unless it is locked out.
    pub async fn authenticate_service(&self, login: Login, client: &Client) -> Result<Authenticated, SessionError> {
        let service = |credentials: &Credentials| credentials.kind == UserKind::Service;
        let somebody = self.authenticate(login, client, service).await?;
        self.check_lockdown(&somebody.tenant, &somebody.credentials.user).await?;
        Ok(somebody)
    }

    /// Hashes a password anew whose hash was made with other parameters than today's. Who signs in does not depend on it.
    async fn renew_hash(&self, somebody: &mut Authenticated, password: String) {
        let Parts { store, passwords, .. } = &self.parts;
        let Some(old) = somebody.credentials.password.as_ref().filter(|hash| passwords.is_outdated(hash)) else {
            return;
        };
        let Ok(new) = passwords.hash(password).await else { return };
        match store.renew_hash(&somebody.tenant, &somebody.credentials.user, old, &new).await {
            Ok(true) => somebody.credentials.password = Some(new),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "a password's hash was not renewed"),
        }
    }

    /// What an authenticated user may do.
    pub async fn access(&self, tenant: &TenantName, user: &UserId) -> Result<Option<Arc<Access>>, SessionError> {
        Ok(self.parts.permissions.access(tenant, user).await?.map(|(access, _)| access))
    }

    /// Compares a password, within the limits on guessing. For whoever is not there, not active or not `eligible` the
    /// same work is done in vain, so that the time tells nothing.
    async fn authenticate(
        &self,
        login: Login,
        client: &Client,
        eligible: fn(&Credentials) -> bool,
    ) -> Result<Authenticated, SessionError> {
        let Parts { store, passwords, clock, .. } = &self.parts;
        let attempt = Attempt::new(&login.tenant, &login.user, client.address);
        self.guesses()
            .admit(&attempt, clock.boottime())
            .map_err(|retry_after| SessionError::TooMany { retry_after })?;
        let decided = async {
            let tenant: Option<TenantName> = login.tenant.parse().ok();
            // No email or id is longer; what is goes no further.
            let found = match &tenant {
                Some(tenant) if login.user.len() <= 254 => store.credentials(tenant, &login.user).await?,
                _ => None,
            };
            let named = tenant.clone().zip(found.as_ref().map(|credentials| credentials.user.clone()));
            let found = found.filter(|credentials| credentials.active && eligible(credentials));
            let hash = found.as_ref().and_then(|credentials| credentials.password.clone());
            let right = passwords.verify(login.password, hash).await?;
            Ok::<_, SessionError>(tenant.zip(found).filter(|_| right).ok_or(named))
        };
        match decided.await {
            Ok(Ok((tenant, credentials))) => {
                self.guesses().succeeded(&attempt, clock.boottime());
                Ok(Authenticated { tenant, credentials })
            }
            Ok(Err(named)) => {
                self.refusals().add(named, client.address);
                metrics::counter!("permcast_sign_ins_refused_total").increment(1);
                Err(SessionError::Refused)
            }
            Err(error) => {
                self.guesses().undecided(&attempt, clock.boottime());
                Err(error)
            }
        }
    }

    /// Whether a lockdown lets him in. Asked only after the password was right, or the refresh token one of ours.
    async fn check_lockdown(&self, tenant: &TenantName, user: &UserId) -> Result<(), SessionError> {
        let Some(lockdown) = self.parts.store.lockdown().await? else { return Ok(()) };
        if lockdown.tenant.as_ref().is_some_and(|locked| locked != tenant) {
            return Ok(());
        }
        let access = self.access(tenant, user).await?;
        if access.is_some_and(|access| access.permissions.is_operator()) {
            return Ok(());
        }
        Err(SessionError::Locked { retry_after_s: lockdown.retry_after_s })
    }

    async fn begin(
        &self,
        somebody: Authenticated,
        id: [u8; 16],
        refresh: Option<RefreshToken>,
        ttl: Duration,
        client_id: String,
        client: &Client,
    ) -> Result<Issued, SessionError> {
        let session = NewSession {
            id: SessionId::from_random(id),
            tenant: somebody.tenant,
            user: somebody.credentials.user,
            refresh: refresh.as_ref().map(RefreshToken::digest),
            password: somebody.credentials.password,
            address: client.address.to_string(),
            user_agent: shown(&client.user_agent).take(USER_AGENT_CHARS_MAX).collect(),
            request: client.request.clone(),
            by: None,
            idle: Some(self.settings.idle_ttl).filter(|idle| *idle < ttl),
            ends_at: self.parts.clock.now().plus(ttl),
        };
        // Suspended or given another password since the comparison: refused like a wrong one.
        let live = self.parts.store.open_session(session).await?.ok_or(SessionError::Refused)?;
        let access = self.mint(&live.id, client_id, None).await?;
        Ok(Issued { access, refresh_token: refresh.map(|token| Secret(token.to_text())), session: live.id })
    }

    /// Exchanges a refresh token for a new access token, never older than `at_least`, and for its successor.
    pub async fn refresh(&self, token: &str, at_least: Option<Version>, from: &Origin) -> Result<Issued, SessionError> {
        let store = &self.parts.store;
        let not_ours = SessionError::InvalidGrant("the refresh token is not one of ours");
        let presented = self.refresh_tokens.load().read(token).ok_or(not_ours)?;
        let admitted = self.budget().admit(self.parts.clock.boottime());
        // Spread, so that those who are told to wait do not come back together.
        let busy = |wait| SessionError::Busy { retry_after: wait + self.parts.random.up_to(BUSY_SPREAD) };
        let wait = admitted.map_err(busy)?;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        // Before the rotation: who is locked out keeps a token that is good when the lockdown is lifted.
        if store.lockdown().await?.is_some() {
            let live = store.load_session(&presented.session).await?.value.ok_or(SESSION_OVER)?;
            self.check_lockdown(&live.tenant, &live.user).await?;
        }
        let successor = self.refresh_tokens.load().successor(&presented);
        let (own, next) = (presented.digest(), successor.digest());
        let current = match store.rotate(&presented.session, &own, &next, from).await? {
            Rotation::Kept(_) => presented,
            Rotation::Rotated(_) | Rotation::Succeeded(_) => successor,
            Rotation::Reused(session) => {
                metrics::counter!("permcast_refresh_reuse_total").increment(1);
                tracing::warn!(
                    tenant = %session.tenant, user = %session.user, session = %session.id,
                    "a refresh token was used again after its time; its session was ended, for somebody stole it"
                );
                return Err(SESSION_OVER);
            }
            Rotation::Over | Rotation::Unknown => return Err(SESSION_OVER),
        };
        let access = self.mint(&current.session, FIRST_PARTY_CLIENT.to_owned(), at_least).await?;
        Ok(Issued { access, refresh_token: Some(Secret(current.to_text())), session: current.session })
    }

    /// Makes a token from what is so now. The session is looked at after everything that was written, and the token
    /// rests on the lower of both positions, so that an end of it that comes meanwhile is never outrun.
    async fn mint(
        &self,
        session: &SessionId,
        client_id: String,
        at_least: Option<Version>,
    ) -> Result<Minted, SessionError> {
        let Parts { store, permissions, applied, .. } = &self.parts;
        let reach = async {
            loop {
                let loaded = store.load_session(session).await?;
                let live = loaded.value.ok_or(SESSION_OVER)?;
                let before = applied.stamp();
                let found = permissions.access(&live.tenant, &live.user).await?;
                // Without a position the session was read in an epoch that has not begun here yet.
                match (found, applied.stamp_of(loaded.version)) {
                    // Both in one epoch, which the token names: another that begins meanwhile lends it nothing.
                    (Some((access, as_of)), Some(alive_at)) if as_of.generation() == alive_at.generation() => {
                        let version = Version { seq: as_of.min(alive_at).seq(), ..loaded.version };
                        let far_enough = |wanted: Version| wanted.epoch == version.epoch && wanted.seq <= version.seq;
                        if at_least.is_none_or(far_enough) {
                            return Ok((access, version, live));
                        }
                    }
                    // He is not there, and no later than when his session was seen alive.
                    (None, Some(alive_at)) if before >= alive_at => return Err(SESSION_OVER),
                    _ => {}
                }
                tokio::time::sleep(LOOK_AGAIN_AFTER).await;
            }
        };
        let (access, version, live) =
            tokio::time::timeout(AT_LEAST_WAIT, reach).await.unwrap_or(Err(SessionError::Behind))?;
        Ok(self.parts.mint.mint(&Snapshot {
            access,
            session: live.id,
            session_expires_at: live.expires_at,
            version,
            client_id,
        })?)
    }

    /// The session of a refresh token that we issued, current or not: who holds it may end it.
    pub fn session_of(&self, refresh_token: &str) -> Option<SessionId> {
        self.refresh_tokens.load().read(refresh_token).map(|token| token.session)
    }

    /// Ends a session for one who holds a token of it. No change where it is over already.
    pub async fn end(&self, session: &SessionId, from: &Origin) -> Result<Written, SessionError> {
        Ok(self.parts.store.end_session(session, Effect::SignedOut, from).await?)
    }
}

/// What a program calls itself, without what would command the terminal of whoever reads it, or turn its text around.
fn shown(user_agent: &str) -> impl Iterator<Item = char> {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    user_agent.chars().filter(move |&c| !c.is_control() && !turns(c))
}

#[cfg(test)]
#[path = "sessions_tests.rs"]
mod tests;
