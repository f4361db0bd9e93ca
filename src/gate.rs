//! Who may pass, and with what: a token, the floors, the staleness clock and the lockdown together.
//!
//! Every decision of permcast goes through here, over HTTP and over sockets alike.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::cache::{Bearer, Found, PermissionCache};
use crate::domain::limits::CLOCK_LEEWAY;
use crate::domain::{Access, Boottime, Clock, Floors, Freshness, Stamp, TenantName, UserId, Version};
use crate::feed::{Controls, Feed};
use crate::issuer::{Assertion, Issuers, ProvisionError, Use};
use crate::store::StoreError;
use crate::token::{Backing, Claims, Permissions, PermissionsError, TokenError, Verified, Verifier};

/// What a replica does that may have missed a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStale {
    /// Nothing: 503.
    Deny,
    /// Reads the database for every decision.
    Lookup,
    /// Decides all the same, and says so.
    Serve,
}

/// Why somebody does not pass.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// The token does not hold by itself.
    #[error(transparent)]
    Token(TokenError),
    /// A later change touched it.
    #[error("permissions changed")]
    Stale {
        /// What a token must reach.
        needed: Version,
    },
    /// Its session is over.
    #[error("session ended")]
    Ended,
    /// Only operators pass at the moment.
    #[error("locked down")]
    Locked {
        /// What `Retry-After` says.
        retry_after_s: u32,
    },
    /// This replica may have missed a change and does not decide.
    #[error("this replica is beyond its bound of staleness")]
    PastBound,
    /// The database would have had to be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One who passes.
#[derive(Debug, Clone)]
pub struct Caller {
    pub verified: Arc<Verified>,
    /// What he may do.
    pub access: Arc<Access>,
    /// The version applied here when it was looked at.
    pub version: Version,
    /// Whether the replica is beyond its bound and serves all the same.
    pub stale: bool,
}

/// One whose token holds, fresh or not.
#[derive(Debug, Clone)]
pub struct Identified {
    pub verified: Arc<Verified>,
    /// Never [`Freshness::Ended`].
    pub freshness: Freshness,
}

/// Where this replica stands against its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Within it.
    Memory,
    /// Past it, and the database is to be asked.
    Database,
    /// Past it, and memory is used all the same.
    Marked,
}

/// The gate. One for each replica.
pub struct Gate {
    verifier: Arc<Verifier>,
    issuers: Arc<Issuers>,
    floors: Arc<Floors>,
    cache: Arc<PermissionCache>,
    feed: Feed,
    controls: Arc<Controls>,
    clock: Arc<dyn Clock>,
    max_staleness: Duration,
    on_stale: OnStale,
}

impl Gate {
    /// Over everything that has a say.
    #[expect(clippy::too_many_arguments, reason = "this is where they meet")]
    pub fn new(
        verifier: Arc<Verifier>,
        issuers: Arc<Issuers>,
        floors: Arc<Floors>,
        cache: Arc<PermissionCache>,
        feed: Feed,
        controls: Arc<Controls>,
        clock: Arc<dyn Clock>,
        max_staleness: Duration,
        on_stale: OnStale,
    ) -> Self {
        Self { verifier, issuers, floors, cache, feed, controls, clock, max_staleness, on_stale }
    }

    /// Lets pass whose token is good for a decision now.
    pub async fn caller(&self, token: &str) -> Result<Caller, Denied> {
        let mut trust = self.trust()?;
        loop {
            let begun = self.clock.boottime();
            let caller = self.decide(token, trust).await?;
            match self.trust_after(trust, begun)? {
                Trust::Database if trust != Trust::Database => trust = Trust::Database,
                after => return Ok(Caller { stale: after == Trust::Marked, ..caller }),
            }
        }
    }

    async fn decide(&self, token: &str, trust: Trust) -> Result<Caller, Denied> {
        let verified = self.verify(token, trust).await?;
        // Before the floors are asked: what they say holds as of this version at least.
        let version = self.feed.applied();
        let claims = &verified.claims;
        match self.floors.freshness(&verified.basis) {
            Freshness::Fresh => {}
            Freshness::Stale { needed } => return Err(Denied::Stale { needed: self.feed.version_of(needed) }),
            Freshness::Ended { .. } => return Err(Denied::Ended),
        }
        let access = match (&verified.access, trust) {
            (_, Trust::Database) => {
                // An identity was read just now.
                if let Some(session) = claims.session() {
                    let known = self.feed.known();
                    let (read, session) = self.cache.read_session(session).await?;
                    believe(read, known)?;
                    if session.is_none() {
                        return Err(Denied::Ended);
                    }
                }
                self.read_access(&claims.tenant, &claims.user).await?.map(|found| found.access)
            }
            (Some(access), _) => Some(Arc::clone(access)),
            (None, _) => self.cache.access(&claims.tenant, &claims.user).await?.map(|found| found.access),
        };
        let access = access.ok_or(Denied::Ended)?;
        if let Some(retry_after_s) = self.controls.locked(&claims.tenant, self.clock.now())
            && !access.permissions.is_operator()
        {
            return Err(Denied::Locked { retry_after_s });
        }
        Ok(Caller { verified, access, version, stale: trust == Trust::Marked })
    }

    /// Says who it is, if signature, session and time hold; his token may be stale. From memory alone, but for a token of
    /// a trusted issuer that was not seen before.
    pub async fn identify(&self, token: &str) -> Result<Identified, Denied> {
        self.known(token, self.verifier.verify(token)).await
    }

    /// The same for who brings his token once, as a connection of push does.
    pub async fn identify_once(&self, token: &str) -> Result<Identified, Denied> {
        self.known(token, self.verifier.verify_once(token)).await
    }

    /// The same; where the token's key is not known here, the keys are read anew first.
    pub async fn identify_with_new_keys(&self, token: &str) -> Result<Identified, Denied> {
        self.look_at(&self.verify(token, Trust::Memory).await?)
    }

    async fn known(&self, token: &str, verified: Result<Arc<Verified>, TokenError>) -> Result<Identified, Denied> {
        match verified {
            Err(_) if self.issuers.names_one(token) => self.look_at(&self.foreign(token, Trust::Memory).await?),
            verified => self.look_at(&verified.map_err(Denied::Token)?),
        }
    }

    fn look_at(&self, verified: &Arc<Verified>) -> Result<Identified, Denied> {
        self.feed.saw(verified.claims.version);
        match self.floors.freshness(&verified.basis) {
            Freshness::Ended { .. } => Err(Denied::Ended),
            freshness => Ok(Identified { verified: Arc::clone(verified), freshness }),
        }
    }

    /// What another user may do now; `None` where there is no such user or he is not active.
    pub async fn access_of(&self, tenant: &TenantName, user: &UserId) -> Result<Option<Found>, Denied> {
        let mut trust = self.trust()?;
        loop {
            let begun = self.clock.boottime();
            let found = match trust {
                Trust::Database => self.read_access(tenant, user).await?,
                Trust::Memory | Trust::Marked => self.cache.access(tenant, user).await?,
            };
            match self.trust_after(trust, begun)? {
                Trust::Database if trust != Trust::Database => trust = Trust::Database,
                _ => return Ok(found),
            }
        }
    }

    async fn read_access(&self, tenant: &TenantName, user: &UserId) -> Result<Option<Found>, Denied> {
        let known = self.feed.known();
        let (read, found) = self.cache.read_access(tenant, user).await?;
        believe(read, known)?;
        Ok(found)
    }

    /// The lockdown's `Retry-After` in seconds for a tenant's users, operators excepted.
    pub fn locked(&self, tenant: &TenantName) -> Option<u32> {
        self.controls.locked(tenant, self.clock.now())
    }

    /// The bound of staleness.
    pub fn max_staleness(&self) -> Duration {
        self.max_staleness
    }

    /// Whether this replica is within its bound of staleness.
    pub fn is_within_bound(&self) -> bool {
        self.feed.lag() <= self.max_staleness
    }

    async fn verify(&self, token: &str, trust: Trust) -> Result<Arc<Verified>, Denied> {
        let verified = match self.verifier.verify(token) {
            Ok(verified) => verified,
            Err(_) if self.issuers.names_one(token) => self.foreign(token, trust).await?,
            Err(_) => self.verifier.verify_with_new_keys(token).await.map_err(Denied::Token)?,
        };
        // A token from a replica that is further than this one is a reason to read the tail.
        self.feed.saw(verified.claims.version);
        Ok(verified)
    }

    /// Whom a trusted issuer's token that is to be exchanged names, read from the database: a session is to be opened.
    pub async fn subject(&self, token: &str, r#use: Use) -> Result<(TenantName, UserId), Denied> {
        let assertion = self.issuers.verify(token, r#use).await.map_err(Denied::Token)?;
        let bearer = self.bearer(&assertion, Trust::Database).await?;
        Ok((assertion.tenant.clone(), bearer.user))
    }

    /// A trusted issuer's own token, as a thin one of the user whose the identity is.
    async fn foreign(&self, token: &str, trust: Trust) -> Result<Arc<Verified>, Denied> {
        let assertion = self.issuers.verify(token, Use::Bearer).await.map_err(Denied::Token)?;
        let Bearer { user, stamp, .. } = self.bearer(&assertion, trust).await?;
        let Assertion { identity, tenant, client_id, jti, kid, .. } = &*assertion;
        let basis = self.floors.thin_basis(stamp, tenant, &user, None);
        let claims = Claims {
            tenant: tenant.clone(),
            user,
            backing: Backing::Identity(identity.clone()),
            version: self.feed.version_of(stamp),
            client_id: client_id.clone(),
            issued_at: assertion.issued_at,
            expires_at: assertion.expires_at,
            kid: kid.clone(),
            jti: jti.clone(),
        };
        Ok(Arc::new(Verified { claims, access: None, basis }))
    }

    /// The user whose the identity is, made first where he is to be made.
    async fn bearer(&self, assertion: &Assertion, trust: Trust) -> Result<Bearer, Denied> {
        let found = match self.look_for(assertion, trust).await? {
            None if self.issuers.provision(assertion).await? => self.look_for(assertion, trust).await?,
            found => found,
        };
        let bearer = found.ok_or(Denied::Token(TokenError::NotForUs))?;
        // By the provider's clock, which may be ahead: what was issued right after an end is refused with what was before.
        match bearer.ended_at {
            Some(at) if assertion.issued_at <= at.plus(CLOCK_LEEWAY) => Err(Denied::Ended),
            _ => Ok(bearer),
        }
    }

    async fn look_for(&self, assertion: &Assertion, trust: Trust) -> Result<Option<Bearer>, Denied> {
        let Assertion { tenant, identity, .. } = assertion;
        if trust != Trust::Database {
            return Ok(self.cache.bearer(tenant, identity).await?);
        }
        let known = self.feed.known();
        let (read, bearer) = self.cache.read_bearer(tenant, identity).await?;
        believe(read, known)?;
        Ok(bearer)
    }

    fn trust(&self) -> Result<Trust, Denied> {
        if self.is_within_bound() {
            return Ok(Trust::Memory);
        }
        match self.on_stale {
            OnStale::Deny => Err(Denied::PastBound),
            OnStale::Lookup => Ok(Trust::Database),
            OnStale::Serve => Ok(Trust::Marked),
        }
    }

    /// How a decision stands once it is made, for waiting may have taken the replica past its bound. What memory said then
    /// is to be asked of the database; what the database said has an age, too.
    fn trust_after(&self, trust: Trust, begun: Boottime) -> Result<Trust, Denied> {
        if trust != Trust::Database {
            return self.trust();
        }
        let age = self.clock.boottime().since(begun);
        if age <= self.max_staleness { Ok(trust) } else { Err(Denied::PastBound) }
    }
}

impl From<ProvisionError> for Denied {
    fn from(error: ProvisionError) -> Self {
        match error {
            ProvisionError::Refused(refusal) => {
                tracing::warn!(error = &refusal as &dyn std::error::Error, "a user of a trusted issuer was not made");
                Self::Token(TokenError::NotForUs)
            }
            ProvisionError::Store(error) => Self::Store(error),
        }
    }
}

/// What was read is believed where it is not below what was known to exist: an older copy may be in the database's place.
fn believe(read: Stamp, known: Stamp) -> Result<(), Denied> {
    if read >= known { Ok(()) } else { Err(Denied::PastBound) }
}

/// What goes into a token passes the gate, too: a replica that may have missed a change puts nothing into one.
#[async_trait]
impl Permissions for Gate {
    async fn access(
        &self,
        tenant: &TenantName,
        user: &UserId,
    ) -> Result<Option<(Arc<Access>, Stamp)>, PermissionsError> {
        match self.access_of(tenant, user).await {
            Ok(found) => Ok(found.map(|found| (found.access, found.stamp))),
            Err(Denied::Store(error)) => Err(error.into()),
            Err(_) => Err(PermissionsError::PastBound),
        }
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
