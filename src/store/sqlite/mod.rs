//! The store on SQLite: one file, one writer at a time, any number of processes on one host.
//!
//! - [`place`]: the file, its connections, migrations
//! - [`writer`], [`direct`]: the queue of writes and the group commit, and the connection that it is done on
//! - [`facts`], [`decide`], [`unit`]: an operation is two statements: what it is decided from, and what it comes to
//! - [`log`], [`read`], [`sessions`], [`keys`]: what is read and written beside
//! - [`disk`]: how long the disk takes
//! - [`restore`], [`anew`]: a backup is put back, and the log begins anew

mod anew;
mod decide;
mod direct;
mod disk;
mod facts;
mod keys;
mod log;
mod place;
mod read;
mod restore;
mod sessions;
mod sql;
mod unit;
mod writer;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use sqlx::sqlite::SqlitePool;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::domain::operation::PasswordHash;
use crate::domain::records::{
    GrantRecord, Identity, LockdownRecord, Page, ReplicaRecord, RoleRecord, SessionRecord, TenantRecord, UserRecord,
};
use crate::domain::{
    Actor, Change, Clock, Effect, Epoch, LogRow, Random, RoleName, RoleNo, Seq, SessionId, TenantName, Timestamp, Unit,
    UserId, Version,
};

use super::{
    Bound, Credentials, KeyRotation, LiveSession, Loaded, NewSession, Restored, RoleFacts, Rotation, Store, StoreError,
    StoreOptions, StoredKey, TailPage, TokenDigest, UserFacts, WholeUser, WriteError, Written,
};
use place::{Open, Place};
use sql::failed;
use writer::{Queue, Writer};

/// A database in one file.
pub struct SqliteStore {
    place: Place,
    open: Arc<ArcSwap<Open>>,
    clock: Arc<dyn Clock>,
    queue: Queue,
    /// Cancelled when the writer has ended, in whatever way.
    writer: CancellationToken,
}

impl SqliteStore {
    /// Opens the database at `sqlite://<path>` or a path; creates and migrates it where that is to be done, and draws the
    /// epoch of a new one.
    pub async fn open(
        address: &str,
        options: StoreOptions,
        clock: Arc<dyn Clock>,
        random: &dyn Random,
    ) -> Result<Self, StoreError> {
        Self::at(Place::new(address, options.deadline)?, options, clock, random).await
    }

    /// Writes a copy of the database, of one moment, while it is in use. Nothing may be at `path` yet.
    pub async fn backup(&self, path: &std::path::Path) -> Result<(), StoreError> {
        if path.exists() {
            return Err(StoreError::Unusable(format!("{} exists already", path.display())));
        }
        let Some(text) = path.to_str() else {
            return Err(StoreError::Unusable("the path of a backup must be UTF-8".to_owned()));
        };
        self.place.copy_to(text).await
    }

    /// Puts a backup in the place of the database at `address`, while it is in use or where there is none yet: a new epoch,
    /// a new seal, and unless they are to be kept no session goes on.
    pub async fn restore(
        address: &str,
        backup: &std::path::Path,
        keep_sessions: bool,
        deadline: Duration,
        clock: &dyn Clock,
        random: &dyn Random,
    ) -> Result<Restored, StoreError> {
        Place::new(address, deadline)?.restore(backup, keep_sessions, clock.now(), random).await
    }

    async fn at(
        place: Place,
        options: StoreOptions,
        clock: Arc<dyn Clock>,
        random: &dyn Random,
    ) -> Result<Self, StoreError> {
        place.prepare(random).await?;
        let open = Arc::new(ArcSwap::from_pointee(place.open(None).await?));
        let (queue, writer) = Writer::new(place.clone(), Arc::clone(&open), options, Arc::clone(&clock));
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        // Owned by this store: `close` stops it and waits. A thread, for SQLite works on the thread that asks.
        std::thread::spawn(move || {
            let _guard = guard;
            writer.run();
        });
        Ok(Self { place, open, clock, queue, writer: ended })
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Asks the readers, within the deadline.
    async fn read<T, F>(&self, doing: &'static str, ask: impl FnOnce(SqlitePool) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        let open = self.open.load_full();
        let read = self.in_time(doing, ask(open.readers.clone())).await?;
        // What another file has taken the place of, or nothing, is the database no more.
        self.place.check(open.files)?;
        read.map_err(failed(doing))
    }

    async fn in_time<T>(&self, doing: &'static str, work: impl Future<Output = T>) -> Result<T, StoreError> {
        timeout(self.place.deadline, work).await.map_err(|_| StoreError::Unavailable { doing, source: None })
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn tail_beside(&self, after: Seq, anchors: [Seq; 2]) -> Result<TailPage, StoreError> {
        const DOING: &str = "reading the log's tail";
        let (open, place) = (self.open.load_full(), self.place.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let connection = open.tail.lock().unwrap_or_else(PoisonError::into_inner);
            place.check(open.files)?;
            let page = log::tail(&connection, after, anchors).map_err(failed(DOING))?;
            // Once more: it may have been replaced meanwhile.
            place.check(open.files)?;
            Ok(page)
        });
        let read = self.in_time(DOING, reading).await?;
        read.map_err(|error| StoreError::Unavailable { doing: DOING, source: Some(Box::new(error)) })?
    }

    async fn position_at(&self, time: Timestamp) -> Result<Version, StoreError> {
        self.read("reading the log", async move |readers| log::position_at(&readers, time).await).await
    }

    async fn changes(&self, tenant: Option<&TenantName>, after: Seq, limit: u32) -> Result<Vec<LogRow>, StoreError> {
        self.read("reading the log", async move |readers| log::changes(&readers, tenant, after, limit).await).await
    }

    async fn begin_anew(&self, epoch: Epoch, seen: Option<&Change>, anew: Epoch) -> Result<bool, StoreError> {
        let opened = self.open.load().files;
        self.place.begin_anew(opened, (epoch, seen), anew, self.now()).await
    }

    async fn reopen(&self) -> Result<(), StoreError> {
        let before = self.open.load().files;
        let old = self.open.swap(Arc::new(self.place.open(Some(before)).await?));
        // The writer follows by itself: it compares files before each batch.
        self.in_time("closing the old database", old.readers.close()).await
    }

    async fn load_user(&self, tenant: &TenantName, user: &UserId) -> Result<Loaded<Option<UserFacts>>, StoreError> {
        let now = self.now();
        self.read("loading a user", async move |readers| read::user_facts(&readers, tenant, user, now).await).await
    }

    async fn load_identity(
        &self,
        tenant: &TenantName,
        identity: &Identity,
    ) -> Result<Loaded<Option<Bound>>, StoreError> {
        let now = self.now();
        self.read("finding an identity", async move |readers| read::bound(&readers, tenant, identity, now).await).await
    }

    async fn load_role(&self, role: RoleNo) -> Result<Loaded<Option<RoleFacts>>, StoreError> {
        self.read("loading a role", async move |readers| read::role_facts(&readers, role).await).await
    }

    async fn load_whole(&self, tenant: &TenantName, user: &UserId) -> Result<Loaded<Option<WholeUser>>, StoreError> {
        let now = self.now();
        self.read("loading a user with his roles", async move |readers| {
            read::whole_user(&readers, tenant, user, now).await
        })
        .await
    }

    async fn load_session(&self, session: &SessionId) -> Result<Loaded<Option<LiveSession>>, StoreError> {
        let now = self.now();
        self.read("loading a session", async move |readers| sessions::load(&readers, session, now).await).await
    }

    async fn write(&self, unit: Unit) -> Result<Written, WriteError> {
        Ok(self.queue.write(unit).await?)
    }

    async fn delete_expired(&self) -> Result<Written, StoreError> {
        Ok(self.queue.write(unit::DeleteExpired).await?)
    }

    async fn next_expiry(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read("reading the next expiry", async move |readers| read::next_expiry(&readers).await).await
    }

    async fn credentials(&self, tenant: &TenantName, login: &str) -> Result<Option<Credentials>, StoreError> {
        self.read("reading credentials", async move |readers| sessions::credentials(&readers, tenant, login).await)
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
    ) -> Result<Rotation, StoreError> {
        let work = sessions::Rotating { session: session.clone(), presented: *presented, successor: *successor };
        Ok(self.queue.write(work).await?)
    }

    async fn end_session(&self, session: &SessionId, effect: Effect) -> Result<Written, StoreError> {
        Ok(self.queue.write(sessions::Ending { session: session.clone(), effect }).await?)
    }

    async fn sessions(
        &self,
        tenant: &TenantName,
        user: &UserId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<SessionRecord>, StoreError> {
        let now = self.now();
        self.read("listing sessions", async move |readers| {
            sessions::list(&readers, tenant, user, after, limit, now).await
        })
        .await
    }

    async fn tenant(&self, tenant: &TenantName) -> Result<Option<TenantRecord>, StoreError> {
        self.read("reading a tenant", async move |readers| read::tenant(&readers, tenant).await).await
    }

    async fn tenants(&self, after: Option<&str>, limit: u32) -> Result<Page<TenantRecord>, StoreError> {
        self.read("listing tenants", async move |readers| read::tenants(&readers, after, limit).await).await
    }

    async fn user(&self, tenant: &TenantName, user: &UserId) -> Result<Option<UserRecord>, StoreError> {
        self.read("reading a user", async move |readers| read::user(&readers, tenant, user).await).await
    }

    async fn users(
        &self,
        tenant: &TenantName,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<UserRecord>, StoreError> {
        self.read("listing users", async move |readers| read::users(&readers, tenant, after, limit).await).await
    }

    async fn role(&self, tenant: &TenantName, role: &RoleName) -> Result<Option<RoleRecord>, StoreError> {
        self.read("reading a role", async move |readers| read::role(&readers, tenant, role).await).await
    }

    async fn roles(
        &self,
        tenant: &TenantName,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<RoleRecord>, StoreError> {
        self.read("listing roles", async move |readers| read::roles(&readers, tenant, after, limit).await).await
    }

    async fn grants(&self, tenant: &TenantName, user: &UserId) -> Result<Option<Vec<GrantRecord>>, StoreError> {
        let now = self.now();
        self.read("listing grants", async move |readers| read::grants_of(&readers, tenant, user, now).await).await
    }

    async fn keys(&self) -> Result<Loaded<Vec<StoredKey>>, StoreError> {
        self.read("reading the keys", async move |readers| keys::all(&readers).await).await
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

    async fn ensure_setting(&self, name: &str, proposed: &str) -> Result<String, StoreError> {
        Ok(self.queue.write(keys::EnsureSetting { name: name.to_owned(), proposed: proposed.to_owned() }).await?)
    }

    async fn has_operator(&self) -> Result<bool, StoreError> {
        self.read("looking for an operator", async move |readers| {
            sql::get(&sql::query(unit::HAS_OPERATOR, vec![]).fetch_one(&readers).await?, "found")
        })
        .await
    }

    async fn lockdown(&self) -> Result<Option<LockdownRecord>, StoreError> {
        let now = self.now();
        self.read("reading the lockdown", async move |readers| read::lockdown(&readers, now).await).await
    }

    async fn renew_replica(&self, replica: &ReplicaRecord) -> Result<(), StoreError> {
        Ok(self.queue.write(keys::RenewReplica(replica.clone())).await?)
    }

    async fn remove_replica(&self, id: &str) -> Result<(), StoreError> {
        Ok(self.queue.write(keys::RemoveReplica(id.to_owned())).await?)
    }

    async fn replicas(&self, within: Duration) -> Result<Vec<ReplicaRecord>, StoreError> {
        let now = self.now();
        self.read("listing replicas", async move |readers| keys::replicas(&readers, within, now).await).await
    }

    async fn durable_write_takes(&self, within: Duration) -> Option<Duration> {
        let (place, clock) = (self.place.clone(), Arc::clone(&self.clock));
        let measured = tokio::task::spawn_blocking(move || disk::takes(place.path(), within, &*clock));
        // A disk that has not answered by then is at least so slow; the write is not waited for.
        match timeout(within * 2, measured).await {
            Ok(Ok(takes)) => takes.ok(),
            Ok(Err(_)) => None,
            Err(_) => Some(within * 2),
        }
    }

    async fn ended(&self) {
        self.writer.cancelled().await;
    }

    async fn close(&self) {
        self.queue.close().await;
        self.writer.cancelled().await;
        self.open.load().readers.close().await;
    }
}

#[cfg(test)]
mod file_tests;
#[cfg(test)]
mod shell_tests;
#[cfg(test)]
mod tests;
