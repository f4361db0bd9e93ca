//! The store over an engine: what every engine does alike.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::domain::operation::PasswordHash;
use crate::domain::records::{
    GrantRecord, Identity, LockdownRecord, Page, ReplicaRecord, RoleRecord, SessionRecord, TenantRecord, UserRecord,
};
use crate::domain::{
    Actor, Change, Clock, Effect, Epoch, LogRow, Origin, RoleName, RoleNo, Seq, SessionId, TenantName, Timestamp, Unit,
    UserId, Version,
};
use crate::store::audit::{AuditEntry, AuditLink, AuditQuery, RefusedSignIns};
use crate::store::{
    Bound, Credentials, KeyRotation, LiveSession, Loaded, NewSession, RoleFacts, Rotation, Store, StoreError,
    StoreOptions, StoredKey, TailPage, TokenDigest, UserFacts, WholeUser, WriteError, Written,
};

use super::failure::failed;
use super::statement::{Ask, get};
use super::writer::{Pen, Queue, Writer};
use super::{audit, keys, log, read, sessions, unit};

/// What is one engine's own. What it does is not bounded in time, except where it says so.
pub(in crate::store) trait Engine: Send + Sync + 'static {
    /// The connections that read.
    type Readers: Ask;
    /// One read transaction on one of them.
    type Snapshot: Ask;
    /// Which database is open.
    type Opened: Copy + Send + Sync;

    /// The connections that read, and to what they were opened.
    fn readers(&self) -> (Self::Readers, Self::Opened);
    /// Begins to read as of one moment.
    fn snapshot(readers: Self::Readers) -> impl Future<Output = Result<Self::Snapshot, sqlx::Error>> + Send;
    /// Fails where something else has taken the place of what was opened.
    fn check(&self, opened: Self::Opened) -> Result<(), StoreError>;
    /// A read on these connections was given up.
    fn suspect(&self, opened: Self::Opened);
    /// Reads the tail, as [`Store::tail_beside`] says.
    fn tail(&self, after: Seq, anchors: [Seq; 2]) -> impl Future<Output = Result<TailPage, StoreError>> + Send;
    /// Begins the log anew, as [`Store::begin_anew`] says; bounded in time.
    fn begin_anew(
        &self,
        epoch: Epoch,
        seen: Option<&Change>,
        anew: Epoch,
        now: Timestamp,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Opens anew, and lets go of what was open; bounded in time.
    fn reopen(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// How long a refresh takes, as [`Store::refresh_takes`] says.
    fn refresh_takes(&self, within: Duration, clock: Arc<dyn Clock>) -> impl Future<Output = Option<Duration>> + Send;
    /// Lets go of what is open.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// A database behind an engine: reads go to its connections for that, writes through one queue to one writer.
pub struct SqlStore<E> {
    pub(in crate::store) engine: E,
    clock: Arc<dyn Clock>,
    deadline: Duration,
    queue: Queue,
    /// Cancelled when the writer has ended, in whatever way.
    writer: CancellationToken,
}

impl<E> SqlStore<E> {
    /// Starts the writer.
    pub(in crate::store) fn start(engine: E, pen: impl Pen, options: StoreOptions, clock: Arc<dyn Clock>) -> Self {
        let deadline = options.deadline;
        let (queue, writer) = Writer::new(pen, options, Arc::clone(&clock));
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        // Owned by this store: `close` stops it and waits. A thread, for what is done in a batch is done on the thread that
        // asks.
        std::thread::spawn(move || {
            let _guard = guard;
            writer.run();
        });
        Self { engine, clock, deadline, queue, writer: ended }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    #[cfg(test)]
    pub(in crate::store) fn queue(&self) -> &Queue {
        &self.queue
    }

    async fn in_time<T>(&self, doing: &'static str, work: impl Future<Output = T>) -> Result<T, StoreError> {
        timeout(self.deadline, work).await.map_err(|_| StoreError::Unavailable { doing, source: None })
    }
}

#[expect(private_bounds, reason = "engines are this room's own")]
impl<E: Engine> SqlStore<E> {
    /// Asks the readers, within the deadline.
    async fn read<T, F>(&self, doing: &'static str, ask: impl FnOnce(E::Readers) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        let (readers, opened) = self.engine.readers();
        let read = self.in_time(doing, ask(readers)).await.inspect_err(|_| self.engine.suspect(opened))?;
        // What another has taken the place of, or nothing, is the database no more.
        self.engine.check(opened)?;
        read.map_err(failed(doing))
    }
}

#[async_trait]
impl<E: Engine> Store for SqlStore<E> {
    async fn tail_beside(&self, after: Seq, anchors: [Seq; 2]) -> Result<TailPage, StoreError> {
        self.in_time("reading the log's tail", self.engine.tail(after, anchors)).await?
    }

    async fn position_at(&self, time: Timestamp) -> Result<Version, StoreError> {
        self.read("reading the log", async move |mut readers| log::position_at(&mut readers, time).await).await
    }

    async fn changes(&self, tenant: Option<&TenantName>, after: Seq, limit: u32) -> Result<Vec<LogRow>, StoreError> {
        self.read("reading the log", async move |mut readers| log::changes(&mut readers, tenant, after, limit).await)
            .await
    }

    async fn oldest_change(&self) -> Result<Seq, StoreError> {
        self.read("reading the log", async move |mut readers| log::oldest(&mut readers).await).await
    }

    async fn prune_log(&self, keep: Duration, limit: u32) -> Result<u64, StoreError> {
        Ok(self.queue.write(log::Pruning { keep, limit }).await?)
    }

    async fn begin_anew(&self, epoch: Epoch, seen: Option<&Change>, anew: Epoch) -> Result<bool, StoreError> {
        self.engine.begin_anew(epoch, seen, anew, self.now()).await
    }

    async fn reopen(&self) -> Result<(), StoreError> {
        self.engine.reopen().await
    }

    async fn load_user(&self, tenant: &TenantName, user: &UserId) -> Result<Loaded<Option<UserFacts>>, StoreError> {
        let now = self.now();
        self.read("loading a user", async move |mut readers| read::user_facts(&mut readers, tenant, user, now).await)
            .await
    }

    async fn load_identity(
        &self,
        tenant: &TenantName,
        identity: &Identity,
    ) -> Result<Loaded<Option<Bound>>, StoreError> {
        let now = self.now();
        self.read("finding an identity", async move |mut readers| {
            read::bound(&mut readers, tenant, identity, now).await
        })
        .await
    }

    async fn load_role(&self, role: RoleNo) -> Result<Loaded<Option<RoleFacts>>, StoreError> {
        self.read("loading a role", async move |mut readers| read::role_facts(&mut readers, role).await).await
    }

    async fn load_whole(&self, tenant: &TenantName, user: &UserId) -> Result<Loaded<Option<WholeUser>>, StoreError> {
        let now = self.now();
        self.read("loading a user with his roles", async move |readers| {
            read::whole_user(&mut E::snapshot(readers).await?, tenant, user, now).await
        })
        .await
    }

    async fn load_session(&self, session: &SessionId) -> Result<Loaded<Option<LiveSession>>, StoreError> {
        let now = self.now();
        self.read("loading a session", async move |mut readers| sessions::load(&mut readers, session, now).await).await
    }

    async fn write(&self, unit: Unit) -> Result<Written, WriteError> {
        Ok(self.queue.write(unit).await?)
    }

    async fn delete_expired(&self) -> Result<Written, StoreError> {
        Ok(self.queue.write(unit::DeleteExpired).await?)
    }

    async fn next_expiry(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read("reading the next expiry", async move |mut readers| read::next_expiry(&mut readers).await).await
    }

    async fn credentials(&self, tenant: &TenantName, login: &str) -> Result<Option<Credentials>, StoreError> {
        self.read("reading credentials", async move |mut readers| {
            sessions::credentials(&mut readers, tenant, login).await
        })
        .await
    }

    async fn renew_hash(
        &self,
        tenant: &TenantName,
        user: &UserId,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> Result<bool, StoreError> {
        let work =
            sessions::RenewHash { tenant: tenant.clone(), user: user.clone(), old: old.clone(), new: new.clone() };
        Ok(self.queue.write(work).await?)
    }

    async fn open_session(&self, session: NewSession) -> Result<Option<LiveSession>, StoreError> {
        Ok(self.queue.write(sessions::Opening(session)).await?)
    }

    async fn rotate(
        &self,
        session: &SessionId,
        presented: &TokenDigest,
        successor: &TokenDigest,
        from: &Origin,
    ) -> Result<Rotation, StoreError> {
        let work = sessions::Rotating {
            session: session.clone(),
            presented: *presented,
            successor: *successor,
            from: from.clone(),
        };
        Ok(self.queue.write(work).await?)
    }

    async fn end_session(&self, session: &SessionId, effect: Effect, from: &Origin) -> Result<Written, StoreError> {
        Ok(self.queue.write(sessions::Ending { session: session.clone(), effect, from: from.clone() }).await?)
    }

    async fn sessions(
        &self,
        tenant: &TenantName,
        user: &UserId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<SessionRecord>, StoreError> {
        let now = self.now();
        self.read("listing sessions", async move |mut readers| {
            sessions::list(&mut readers, tenant, user, after, limit, now).await
        })
        .await
    }

    async fn tenant(&self, tenant: &TenantName) -> Result<Option<TenantRecord>, StoreError> {
        self.read("reading a tenant", async move |mut readers| read::tenant(&mut readers, tenant).await).await
    }

    async fn tenants(&self, after: Option<&str>, limit: u32) -> Result<Page<TenantRecord>, StoreError> {
        self.read("listing tenants", async move |mut readers| read::tenants(&mut readers, after, limit).await).await
    }

    async fn user(&self, tenant: &TenantName, user: &UserId) -> Result<Option<UserRecord>, StoreError> {
        self.read("reading a user", async move |mut readers| read::user(&mut readers, tenant, user).await).await
    }

    async fn users(
        &self,
        tenant: &TenantName,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<UserRecord>, StoreError> {
        self.read("listing users", async move |mut readers| read::users(&mut readers, tenant, after, limit).await).await
    }

    async fn role(&self, tenant: &TenantName, role: &RoleName) -> Result<Option<RoleRecord>, StoreError> {
        self.read("reading a role", async move |mut readers| read::role(&mut readers, tenant, role).await).await
    }

    async fn roles(
        &self,
        tenant: &TenantName,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<RoleRecord>, StoreError> {
        self.read("listing roles", async move |mut readers| read::roles(&mut readers, tenant, after, limit).await).await
    }

    async fn grants(&self, tenant: &TenantName, user: &UserId) -> Result<Option<Vec<GrantRecord>>, StoreError> {
        let now = self.now();
        self.read("listing grants", async move |mut readers| read::grants_of(&mut readers, tenant, user, now).await)
            .await
    }

    async fn keys(&self) -> Result<Loaded<Vec<StoredKey>>, StoreError> {
        self.read("reading the keys", async move |mut readers| keys::all(&mut readers).await).await
    }

    async fn ensure_keys(&self, proposed: Vec<StoredKey>) -> Result<Vec<StoredKey>, StoreError> {
        Ok(self.queue.write(keys::EnsureKeys(proposed)).await?)
    }

    async fn rotate_keys(&self, rotation: KeyRotation) -> Result<Written, WriteError> {
        Ok(self.queue.write(rotation).await?)
    }

    async fn retire_key(&self, actor: &Actor, kid: &str) -> Result<Written, WriteError> {
        Ok(self.queue.write(keys::Retirement { actor: actor.clone(), kid: kid.to_owned() }).await?)
    }

    async fn ensure_secret(&self, name: &str, proposed: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        Ok(self.queue.write(keys::EnsureSecret { name: name.to_owned(), proposed }).await?)
    }

    async fn setting(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.read("reading a setting", async move |mut readers| keys::setting(&mut readers, name).await).await
    }

    async fn ensure_setting(&self, name: &str, proposed: &str) -> Result<String, StoreError> {
        Ok(self.queue.write(keys::EnsureSetting { name: name.to_owned(), proposed: proposed.to_owned() }).await?)
    }

    async fn has_operator(&self) -> Result<bool, StoreError> {
        self.read("looking for an operator", async move |mut readers| {
            get(&readers.one(unit::HAS_OPERATOR, vec![]).await?, "found")
        })
        .await
    }

    async fn lockdown(&self) -> Result<Option<LockdownRecord>, StoreError> {
        let now = self.now();
        self.read("reading the lockdown", async move |mut readers| read::lockdown(&mut readers, now).await).await
    }

    async fn audit(&self, asked: &AuditQuery) -> Result<Vec<AuditEntry>, StoreError> {
        self.read("reading the audit trail", async move |mut readers| audit::entries(&mut readers, asked).await).await
    }

    async fn audit_links(&self, after: i64, limit: u32) -> Result<Vec<AuditLink>, StoreError> {
        self.read("reading the audit trail", async move |mut readers| audit::links(&mut readers, after, limit).await)
            .await
    }

    async fn chain_audit(&self) -> Result<usize, StoreError> {
        // So that nobody writes where there is nothing to be done.
        if !self.read("reading the audit trail", async move |mut readers| audit::is_open(&mut readers).await).await? {
            return Ok(0);
        }
        Ok(self.queue.write(audit::Chain).await?)
    }

    async fn note_refused(&self, refused: Vec<RefusedSignIns>) -> Result<(), StoreError> {
        Ok(self.queue.write(audit::Refusals(refused)).await?)
    }

    async fn renew_replica(&self, replica: &ReplicaRecord) -> Result<(), StoreError> {
        Ok(self.queue.write(keys::RenewReplica(replica.clone())).await?)
    }

    async fn remove_replica(&self, id: &str) -> Result<(), StoreError> {
        Ok(self.queue.write(keys::RemoveReplica(id.to_owned())).await?)
    }

    async fn replicas(&self, within: Duration) -> Result<Vec<ReplicaRecord>, StoreError> {
        let now = self.now();
        self.read("listing replicas", async move |mut readers| keys::replicas(&mut readers, within, now).await).await
    }

    async fn refresh_takes(&self, within: Duration) -> Option<Duration> {
        self.engine.refresh_takes(within, Arc::clone(&self.clock)).await
    }

    async fn ended(&self) {
        self.writer.cancelled().await;
    }

    async fn close(&self) {
        self.queue.close().await;
        self.writer.cancelled().await;
        self.engine.close().await;
    }
}
