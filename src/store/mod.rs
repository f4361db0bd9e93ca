//! Where permissions live, and the change log beside them.
//!
//! One trait of use-case operations, held by one contract suite ([`contract`]) that runs on every implementation. The log
//! is written by the database itself (triggers), so an implementation can neither forget a change nor make one up.

pub mod audit;
#[cfg(test)]
pub(crate) mod contract;
pub mod memory;
pub mod moving;
pub mod postgres;
mod sql;
pub mod sqlite;
pub mod standby;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::operation::{PasswordHash, Resource};
use crate::domain::records::{
    GrantRecord, Identity, LockdownRecord, Page, ReplicaRecord, RoleRecord, SessionRecord, TenantRecord, UserKind,
    UserRecord,
};
use crate::domain::rules::Refusal;
use crate::domain::{
    Actor, Change, Effect, Epoch, Grant, LogRow, Origin, RoleName, RoleNo, Seq, SessionId, TenantName, Timestamp, Unit,
    UserId, UserNo, Version,
};
use audit::{AuditEntry, AuditLink, AuditQuery, RefusedSignIns};

/// Why the database could not answer. Never the fault of what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Busy, locked, full, unreachable, too slow: nothing was done; to be tried again.
    #[error("the database is unavailable: {doing}")]
    Unavailable {
        doing: &'static str,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The database was lost over a commit: whether it was done is not known. Nothing that is acknowledged ends so.
    #[error("the database was lost, and whether it was done is not known: {0}")]
    Undecided(&'static str),
    /// What was read breaks a rule of the schema.
    #[error("the database holds what it cannot: {0}")]
    Inconsistent(String),
    /// The file at the path is no longer the file that is open, or the log is another one.
    #[error("the database was replaced: {0}")]
    Replaced(&'static str),
    /// It cannot be opened as it is; says what to do.
    #[error("{0}")]
    Unusable(String),
}

/// Why a write was not done. Nothing of it was, except where [`StoreError::Undecided`] says that nobody knows.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A rule of the whole forbids it.
    #[error("operation {index}: {refusal}")]
    Refused {
        /// Which of the unit's operations.
        index: usize,
        refusal: Refusal,
    },
    /// It could not be tried, or its commit failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A committed write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Head of the log right after it.
    pub version: Version,
    /// What it wrote to the log, in order. Empty: nothing changed.
    pub changes: Vec<Change>,
    /// One for each operation.
    pub outcomes: Vec<Outcome>,
}

/// What became of one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub resource: Resource,
    /// The last change that it made.
    pub change: Option<Seq>,
}

/// Something read in one read transaction, and the log's head in the same.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    pub version: Version,
    pub value: T,
}

/// One user's own part of his permissions: no role is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserFacts {
    pub no: UserNo,
    pub kind: UserKind,
    /// Whether user and tenant are both active.
    pub active: bool,
    /// His direct roles that are not past their time.
    pub roles: Vec<RoleNo>,
    /// His direct grants that are not past their time.
    pub grants: Vec<Grant>,
    /// The earliest time at which one of either is over.
    pub first_expiry: Option<Timestamp>,
}

/// One role with all that it includes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleFacts {
    pub tenant: TenantName,
    /// Itself and all that it includes, directly or through others; sorted.
    pub closure: Vec<RoleName>,
    /// The grants of all of them; sorted, without duplicates.
    pub grants: Vec<Grant>,
}

/// A user with all his roles, as they were at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeUser {
    pub user: UserFacts,
    /// None where he is not active.
    pub roles: Vec<RoleFacts>,
}

/// What sign-in compares with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    pub user: UserId,
    pub kind: UserKind,
    /// Whether user and tenant are both active.
    pub active: bool,
    pub password: Option<PasswordHash>,
}

/// Whose an identity is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    pub user: UserId,
    /// When all that he had begun was last ended (his sign-out, suspension, or that of his tenant or of everyone): what a
    /// trusted issuer gave him before that is over.
    pub ended_at: Option<Timestamp>,
}

/// A session to be opened.
#[derive(Debug, Clone)]
pub struct NewSession {
    pub id: SessionId,
    pub tenant: TenantName,
    pub user: UserId,
    /// Digest of its first refresh token; `None` for one that cannot be refreshed (client credentials).
    pub refresh: Option<TokenDigest>,
    /// The password that was checked: the session is refused if it is another one by now.
    pub password: Option<PasswordHash>,
    pub address: String,
    pub user_agent: String,
    /// The request by which it is opened.
    pub request: Option<String>,
    /// Who opens it, where that is not its user himself.
    pub by: Option<String>,
    /// How long it lives without a refresh; `None`: to its end.
    pub idle: Option<Duration>,
    /// When it is over at the latest.
    pub ends_at: Timestamp,
}

impl NewSession {
    /// When it is over, if nothing refreshes it after `now`.
    pub(crate) fn expires_at(&self, now: Timestamp) -> Timestamp {
        self.idle.map_or(self.ends_at, |idle| now.plus(idle).min(self.ends_at))
    }
}

/// SHA-256 of a refresh token.
pub type TokenDigest = [u8; 32];

/// A session that is not over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSession {
    pub id: SessionId,
    pub tenant: TenantName,
    pub user: UserId,
    pub expires_at: Timestamp,
}

/// What presenting a refresh token came to. Decided in one atomic statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rotation {
    /// The current one, old enough: its successor is current now.
    Rotated(LiveSession),
    /// The current one, younger than the grace: it stays.
    Kept(LiveSession),
    /// The one before, within the grace of its first use: the current one is its successor.
    Succeeded(LiveSession),
    /// Any other: theft. The session was ended with it.
    Reused(LiveSession),
    /// The session is over.
    Over,
    /// There is no such session.
    Unknown,
}

/// How a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyState {
    /// Shown in the JWKS, does not sign yet.
    Next,
    /// Signs.
    Current,
    /// Signs no more; what it signed is good until `retire_at`.
    Previous,
    /// Verifies nothing.
    Retired,
}

/// A signing key as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredKey {
    pub kid: String,
    /// `EdDSA`, `ES256` or `RS256`.
    pub algorithm: String,
    /// The private key, sealed where a key encryption key is set. Opaque to the store.
    pub private: Vec<u8>,
    /// The public key, as the JWKS needs it. Opaque to the store.
    pub public: Vec<u8>,
    pub state: KeyState,
    pub created_at: Timestamp,
    /// When a previous key is retired.
    pub retire_at: Option<Timestamp>,
}

impl std::fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredKey").field("kid", &self.kid).field("state", &self.state).finish_non_exhaustive()
    }
}

/// A rotation of the signing keys.
#[derive(Debug, Clone)]
pub struct KeyRotation {
    pub actor: Actor,
    /// The key that signs from now on: new, or the one that was next.
    pub current: StoredKey,
    /// The key after that.
    pub next: StoredKey,
    /// Until when the one before still verifies. Ignored with `revoke`.
    pub retire_at: Timestamp,
    /// All older keys are retired at once; one `everyone` row makes every access token stale.
    pub revoke: bool,
    /// With `revoke`: every session ends, too.
    pub sessions: bool,
}

/// A read of the log's end, in a fresh transaction on a connection of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailPage {
    pub epoch: Epoch,
    /// The highest position in the log.
    pub head: Seq,
    /// The rows at the asked position itself and at the anchors, where the log still has them: by them a reader knows it again.
    pub known: Vec<Change>,
    /// Rows after the asked position, ascending; a row that could not be read is one that touches everyone.
    pub changes: Vec<Change>,
    /// How many of them could not be read.
    pub unreadable: u32,
    /// Whether `changes` reaches the head.
    pub complete: bool,
}

/// A key is retired that is not there.
pub(crate) const UNKNOWN_KEY: Refusal = Refusal::Invalid("there is no such key");
/// A key is retired that signs, or will.
pub(crate) const KEY_IN_USE: Refusal = Refusal::Invalid("this key signs, or will be the next to sign; rotate first");

impl TailPage {
    /// Whether this log cannot be the one in which that change was seen: it ends before it, or has another in its place.
    pub fn contradicts(&self, seen: &Change) -> bool {
        self.head < seen.seq || self.has_another_for(seen)
    }

    /// Whether another row stands in that change's place.
    pub fn has_another_for(&self, seen: &Change) -> bool {
        self.known.iter().chain(&self.changes).any(|row| row.seq == seen.seq && row != seen)
    }
}

/// The name of the secret that seals messages between replicas. It is one epoch's: with the epoch it goes.
pub const SEAL_SECRET: &str = "seal";

/// A backup that was put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Where the log stood before, if there was one.
    pub before: Option<Version>,
    /// Where it stands now, in its new epoch.
    pub after: Version,
    pub users: u64,
}

/// Told of each commit, in commit order, right after it and before its writer is answered. Must not block.
pub trait CommitListener: Send + Sync + 'static {
    /// These changes are in the log.
    fn committed(&self, epoch: Epoch, changes: &[Change]);
}

/// What a store needs to know beside where it is.
#[derive(Clone)]
pub struct StoreOptions {
    /// How long a deleted user's id stays taken: the longest life of a refresh token.
    pub id_rest: Duration,
    /// Grace of a used or new refresh token.
    pub refresh_grace: Duration,
    /// Longest wait for the writer's lock and for any statement.
    pub deadline: Duration,
    /// Told of each commit.
    pub listener: Arc<dyn CommitListener>,
}

/// The database. All methods are safe to cancel: a write either commits or leaves nothing.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    // The log.

    /// Rows after `after`, at most [`TAIL_PAGE_ROWS`](crate::domain::limits::TAIL_PAGE_ROWS). Fails with
    /// [`StoreError::Replaced`] where the open database is not the one at its address any more.
    async fn tail(&self, after: Seq) -> Result<TailPage, StoreError> {
        self.tail_beside(after, [after; 2]).await
    }
    /// The same, with the rows at the anchors among those that are known.
    async fn tail_beside(&self, after: Seq, anchors: [Seq; 2]) -> Result<TailPage, StoreError>;
    /// The highest position such that it and all before it were written before `time`; zero if none was.
    async fn position_at(&self, time: Timestamp) -> Result<Version, StoreError>;
    /// The log as one tenant's administrators may read it: its own rows and those that touch every tenant; `None`: all.
    async fn changes(&self, tenant: Option<&TenantName>, after: Seq, limit: u32) -> Result<Vec<LogRow>, StoreError>;
    /// The position of the oldest row that the log still has; [`Seq::ZERO`] where it has none.
    async fn oldest_change(&self) -> Result<Seq, StoreError>;
    /// Takes rows of the log away that were written longer than `keep` before its head and before now, the oldest first, at
    /// most `limit`; answers how many. The head stays.
    async fn prune_log(&self, keep: Duration, limit: u32) -> Result<u64, StoreError>;
    /// Begins the log anew, because it was taken back: in `epoch` it ends before a change that was seen of it, or has another
    /// in its place; or (`None`) that epoch was over already. From then on it is `anew`'s, no session goes on, and the seal is
    /// gone. False where that is not so, as when another replica was faster.
    async fn begin_anew(&self, epoch: Epoch, seen: Option<&Change>, anew: Epoch) -> Result<bool, StoreError>;
    /// Opens the database anew after [`StoreError::Replaced`], keeping what others hold of this store valid.
    async fn reopen(&self) -> Result<(), StoreError>;

    // Snapshots.

    /// A user's own part; `None` where there is no such user.
    async fn load_user(&self, tenant: &TenantName, user: &UserId) -> Result<Loaded<Option<UserFacts>>, StoreError>;
    /// A role with all that it includes; `None` where there is no such role (any more).
    async fn load_role(&self, role: RoleNo) -> Result<Loaded<Option<RoleFacts>>, StoreError>;
    /// A user and his roles in one read transaction: parts that were read at different moments may together allow what
    /// nobody was ever allowed.
    async fn load_whole(&self, tenant: &TenantName, user: &UserId) -> Result<Loaded<Option<WholeUser>>, StoreError>;
    /// Whose an identity is in a tenant; `None` where it is nobody's, or he or the tenant is not active.
    async fn load_identity(
        &self,
        tenant: &TenantName,
        identity: &Identity,
    ) -> Result<Loaded<Option<Bound>>, StoreError>;
    /// A session, unless it is over, its user or tenant is not active, or its time is up.
    async fn load_session(&self, session: &SessionId) -> Result<Loaded<Option<LiveSession>>, StoreError>;

    // Writes.

    /// Does all operations in order, or none. Rights and the rules of the whole are checked under the writer's lock.
    async fn write(&self, unit: Unit) -> Result<Written, WriteError>;
    /// Deletes the grants whose time has come, at most [`EXPIRED_AT_ONCE`](crate::domain::limits::EXPIRED_AT_ONCE) of roles and
    /// of permissions: where there were any, there may be more. Idempotent.
    async fn delete_expired(&self) -> Result<Written, StoreError>;
    /// The earliest time at which a grant, a lockdown or a previous key is over.
    async fn next_expiry(&self) -> Result<Option<Timestamp>, StoreError>;

    // Sessions.

    /// What sign-in compares with: by id, else by email in lower case.
    async fn credentials(&self, tenant: &TenantName, login: &str) -> Result<Option<Credentials>, StoreError>;
    /// Puts another hash of the same password in the place of `old`, if that is still the one; no change, and no session
    /// ends. Tells whether it did.
    async fn renew_hash(
        &self,
        tenant: &TenantName,
        user: &UserId,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> Result<bool, StoreError>;
    /// Opens a session, unless user or tenant is not active or the password was changed meanwhile: `None`.
    async fn open_session(&self, session: NewSession) -> Result<Option<LiveSession>, StoreError>;
    /// Presents a refresh token of that session, which is known to have been issued once, and what its successor would be; and
    /// whence it came, for the trail of a theft. So one that is neither the current one nor the one before has been used.
    async fn rotate(
        &self,
        session: &SessionId,
        presented: &TokenDigest,
        successor: &TokenDigest,
        from: &Origin,
    ) -> Result<Rotation, StoreError>;
    /// Ends a session by possession of its token; no change where it is over already.
    async fn end_session(&self, session: &SessionId, effect: Effect, from: &Origin) -> Result<Written, StoreError>;
    /// A user's sessions that are not over, by id.
    async fn sessions(
        &self,
        tenant: &TenantName,
        user: &UserId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<SessionRecord>, StoreError>;

    // Records. `None`: there is no such tenant, user or role. Lists are ordered by name, after `after`.

    async fn tenant(&self, tenant: &TenantName) -> Result<Option<TenantRecord>, StoreError>;
    async fn tenants(&self, after: Option<&str>, limit: u32) -> Result<Page<TenantRecord>, StoreError>;
    async fn user(&self, tenant: &TenantName, user: &UserId) -> Result<Option<UserRecord>, StoreError>;
    async fn users(&self, tenant: &TenantName, after: Option<&str>, limit: u32)
    -> Result<Page<UserRecord>, StoreError>;
    async fn role(&self, tenant: &TenantName, role: &RoleName) -> Result<Option<RoleRecord>, StoreError>;
    async fn roles(&self, tenant: &TenantName, after: Option<&str>, limit: u32)
    -> Result<Page<RoleRecord>, StoreError>;
    /// A user's direct grants, roles first; those past their time left out.
    async fn grants(&self, tenant: &TenantName, user: &UserId) -> Result<Option<Vec<GrantRecord>>, StoreError>;

    // Keys, secrets, settings.

    /// All keys that are not retired.
    async fn keys(&self) -> Result<Loaded<Vec<StoredKey>>, StoreError>;
    /// Puts these keys in if there is none at all, whoever comes first; answers those that are there.
    async fn ensure_keys(&self, proposed: Vec<StoredKey>) -> Result<Vec<StoredKey>, StoreError>;
    /// Rotates the keys; one `keys` row, and with `revoke` one `everyone` row. The actor must be an operator.
    async fn rotate_keys(&self, rotation: KeyRotation) -> Result<Written, WriteError>;
    /// Retires a key that signs no more, before its time: what it signed is refused. The actor must be an operator.
    async fn retire_key(&self, actor: &Actor, kid: &str) -> Result<Written, WriteError>;
    /// Puts a secret in if there is none of this name, whoever comes first; answers the one that is there.
    async fn ensure_secret(&self, name: &str, proposed: Vec<u8>) -> Result<Vec<u8>, StoreError>;
    /// A setting, if it was put in.
    async fn setting(&self, name: &str) -> Result<Option<String>, StoreError>;
    /// Puts a setting in if there is none of this name, whoever comes first; answers the one that is there.
    async fn ensure_setting(&self, name: &str, proposed: &str) -> Result<String, StoreError>;
    /// Whether an active user of an active tenant holds `permcast:operator` without expiry.
    async fn has_operator(&self) -> Result<bool, StoreError>;
    /// The lockdown in force.
    async fn lockdown(&self) -> Result<Option<LockdownRecord>, StoreError>;

    // The audit trail. Databases keep one; the reference model, which forgets everything, does not.

    /// Its entries as they are asked for, in order.
    async fn audit(&self, _asked: &AuditQuery) -> Result<Vec<AuditEntry>, StoreError> {
        Ok(Vec::new())
    }
    /// Its places behind `after`, in order, also those where only a hash is left.
    async fn audit_links(&self, _after: i64, _limit: u32) -> Result<Vec<AuditLink>, StoreError> {
        Ok(Vec::new())
    }
    /// Hashes entries that have no hash yet; answers how many. Not durable by itself: what is lost is done again.
    async fn chain_audit(&self) -> Result<usize, StoreError> {
        Ok(0)
    }
    /// Tells it of sign-ins that were refused. Not durable by itself.
    async fn note_refused(&self, _refused: Vec<RefusedSignIns>) -> Result<(), StoreError> {
        Ok(())
    }

    // Replicas.

    /// Says that this replica is running and how far it has come (`seen_at` is the database's to say). A durable write
    /// outside the log. `applied` lets a barrier be kept when no broker carries announcements.
    async fn renew_replica(&self, replica: &ReplicaRecord) -> Result<(), StoreError>;
    /// Says that this replica has stopped.
    async fn remove_replica(&self, id: &str) -> Result<(), StoreError>;
    /// The replicas that renewed within the last `within`.
    async fn replicas(&self, within: Duration) -> Result<Vec<ReplicaRecord>, StoreError>;

    /// How long the database takes for one refresh of many that are written at the same time, measured within this time; `None`
    /// where that cannot be told.
    async fn refresh_takes(&self, _within: Duration) -> Option<Duration> {
        None
    }

    /// Ends when this store can write no more: closed, or by a fault of its own, after which its process is of no use.
    async fn ended(&self) {
        std::future::pending::<()>().await;
    }

    /// Closes connections after what is under way.
    async fn close(&self);
}
