//! A store on the bench, with a clock that the suite moves and a listener that remembers. Whatever is done through the
//! bench is held to what is true of every write: the log grew by what the write says, without a hole, the listener was
//! told exactly that; and of a refused one, nothing is otherwise than before.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::domain::operation::{Operation, PasswordHash};
use crate::domain::records::Granted;
use crate::domain::rules::Refusal;
use crate::domain::{
    Actor, Boottime, Change, Clock, Effect, Epoch, Origin, Random, RoleNo, Seq, SessionId, TenantName, Timestamp, Unit,
    Version,
};
use crate::store::{CommitListener, NewSession, Store, StoreError, StoreOptions, TokenDigest, WriteError, Written};

use super::words::{role, tenant, user};

/// A clock that stands still unless it is moved.
pub(crate) struct StandingClock(Mutex<Timestamp>);

impl Clock for StandingClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }

    fn boottime(&self) -> Boottime {
        Boottime(self.now().since(Timestamp::default()))
    }
}

/// Numbers that are never twice the same.
#[derive(Default)]
pub(crate) struct Counting(AtomicU64);

impl Random for Counting {
    fn fill(&self, buffer: &mut [u8]) {
        let number = self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for (byte, drawn) in buffer.iter_mut().zip(number.to_le_bytes().iter().cycle()) {
            *byte = *drawn;
        }
    }
}

/// Remembers what it is told.
#[derive(Default)]
pub(crate) struct Told(Mutex<Vec<Change>>);

impl CommitListener for Told {
    fn committed(&self, _: Epoch, changes: &[Change]) {
        self.0.lock().unwrap().extend_from_slice(changes);
    }
}

/// What a store is made of.
pub(crate) struct Parts {
    pub(crate) options: StoreOptions,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
}

/// A store, and what must live as long as it.
pub(crate) type Made = (Arc<dyn Store>, Box<dyn Any + Send + Sync>);

pub(crate) struct Bench {
    pub(crate) store: Arc<dyn Store>,
    clock: Arc<StandingClock>,
    random: Arc<Counting>,
    told: Arc<Told>,
    _kept: Box<dyn Any + Send + Sync>,
}

/// How long a deleted id rests on the bench.
pub(crate) const ID_REST: Duration = Duration::from_hours(24);
/// The grace of refresh tokens on the bench.
pub(crate) const GRACE: Duration = Duration::from_secs(10);
/// How long a session lives on the bench.
pub(crate) const SESSION_LIFE: Duration = Duration::from_hours(1);

impl Bench {
    pub(crate) async fn new(make: impl AsyncFnOnce(Parts) -> Made) -> Self {
        let start = "2026-11-24T20:00:00Z".parse().unwrap();
        let clock = Arc::new(StandingClock(Mutex::new(start)));
        let (random, told) = (Arc::new(Counting::default()), Arc::new(Told::default()));
        let options = StoreOptions {
            id_rest: ID_REST,
            refresh_grace: GRACE,
            deadline: Duration::from_secs(5),
            listener: Arc::<Told>::clone(&told),
        };
        let parts =
            Parts { options, clock: Arc::<StandingClock>::clone(&clock), random: Arc::<Counting>::clone(&random) };
        let (store, kept) = make(parts).await;
        Self { store, clock, random, told, _kept: kept }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// So much later.
    pub(crate) fn after(&self, duration: Duration) -> Timestamp {
        self.now().plus(duration)
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, duration: Duration) {
        let later = self.after(duration);
        *self.clock.0.lock().unwrap() = later;
    }

    pub(crate) async fn head(&self) -> Seq {
        let mut after = Seq::ZERO;
        loop {
            let page = self.store.tail(after).await.unwrap();
            if page.complete {
                return page.head;
            }
            after = page.changes.last().unwrap().seq;
        }
    }

    /// What the listener was told so far.
    pub(crate) fn told(&self) -> Vec<Change> {
        self.told.0.lock().unwrap().clone()
    }

    /// Runs a write and holds it to what is true of every write.
    async fn watch<E>(&self, write: impl Future<Output = Result<Written, E>>) -> Result<Written, E> {
        let (before, told) = (self.head().await, self.told().len());
        let written = write.await?;
        let page = self.store.tail(before).await.unwrap();
        assert_eq!(written.changes, page.changes, "the log grew by what the write says");
        assert_eq!(written.version, Version { epoch: page.epoch, seq: page.head });
        assert_eq!(self.told()[told..], written.changes, "the listener was told");
        let numbers: Vec<u64> = written.changes.iter().map(|change| change.seq.get()).collect();
        let expected: Vec<u64> = (before.get() + 1..=page.head.get()).collect();
        assert_eq!(numbers, expected, "the log has no hole");
        assert!(written.changes.iter().all(|change| change.at == self.now()), "{written:?}");
        Ok(written)
    }

    /// Does all operations as the actor, or tells which was refused and why.
    pub(crate) async fn attempt(&self, actor: &Actor, operations: Vec<Operation>) -> Result<Written, (usize, Refusal)> {
        let count = operations.len();
        let unit = Unit { actor: actor.clone(), operations };
        let written = match self.watch(self.store.write(unit)).await {
            Ok(written) => written,
            Err(WriteError::Refused { index, refusal }) => return Err((index, refusal)),
            Err(WriteError::Store(error)) => panic!("{error:?}"),
        };
        assert_eq!(written.outcomes.len(), count);
        let last = written.outcomes.iter().filter_map(|outcome| outcome.change).max();
        assert_eq!(last, written.changes.last().map(|change| change.seq), "every change is some operation's");
        Ok(written)
    }

    /// What must succeed, done by permcast itself.
    pub(crate) async fn does(&self, operations: impl IntoIterator<Item = Operation>) -> Written {
        self.does_as(&Actor::System("system"), operations).await
    }

    /// What must succeed.
    pub(crate) async fn does_as(&self, actor: &Actor, operations: impl IntoIterator<Item = Operation>) -> Written {
        self.attempt(actor, operations.into_iter().collect()).await.unwrap()
    }

    /// What one operation, done by permcast itself, writes to the log.
    pub(crate) async fn rows(&self, operation: Operation) -> Vec<String> {
        rows(&self.does([operation]).await)
    }

    /// What must be refused to permcast itself, leaving everything as it was.
    pub(crate) async fn refused(&self, operation: Operation) -> Refusal {
        self.refused_as(&Actor::System("system"), operation).await
    }

    /// What must be refused, leaving everything as it was.
    pub(crate) async fn refused_as(&self, actor: &Actor, operation: Operation) -> Refusal {
        let (index, refusal) = self.all_refused(actor, vec![operation]).await;
        assert_eq!(index, 0);
        refusal
    }

    /// What must be refused as a whole, leaving everything as it was.
    pub(crate) async fn all_refused(&self, actor: &Actor, operations: Vec<Operation>) -> (usize, Refusal) {
        let (before, told) = (self.dump().await, self.told().len());
        let asked = format!("{operations:?}");
        let refused = match self.attempt(actor, operations).await {
            Err(refused) => refused,
            Ok(written) => panic!("{asked} was done: {written:?}"),
        };
        assert_eq!(self.dump().await, before, "{asked}");
        assert_eq!(self.told().len(), told, "{asked}");
        refused
    }

    /// Deletes what is over, as the service does.
    pub(crate) async fn expire(&self) -> Vec<String> {
        rows(&self.watch(self.store.delete_expired()).await.unwrap())
    }

    /// Ends a session by possession of its token.
    pub(crate) async fn end(&self, session: &SessionId, effect: Effect) -> Vec<String> {
        rows(&self.watch(self.store.end_session(session, effect, &Origin::default())).await.unwrap())
    }

    /// Watches any other write.
    pub(crate) async fn watched(
        &self,
        write: impl Future<Output = Result<Written, WriteError>>,
    ) -> Result<Vec<String>, Refusal> {
        match self.watch(write).await {
            Ok(written) => Ok(rows(&written)),
            Err(WriteError::Refused { refusal, .. }) => Err(refusal),
            Err(WriteError::Store(error)) => panic!("{error:?}"),
        }
    }

    /// A session to be opened, with a token whose digest begins with `token`.
    pub(crate) fn new_session(&self, home: &str, id: &str, token: u8) -> NewSession {
        let random: Arc<dyn Random> = Arc::<Counting>::clone(&self.random);
        NewSession {
            id: SessionId::from_random(random.bytes()),
            tenant: tenant(home),
            user: user(id),
            refresh: Some(digest(token)),
            password: None,
            address: "192.0.2.1".to_owned(),
            user_agent: "bench".to_owned(),
            request: None,
            by: None,
            idle: None,
            ends_at: self.after(SESSION_LIFE),
        }
    }

    /// Opens a session of a user of the first tenant; its first refresh token's digest is `digest(1)`.
    pub(crate) async fn session(&self, id: &str) -> SessionId {
        self.session_in("default", id).await
    }

    pub(crate) async fn session_in(&self, home: &str, id: &str) -> SessionId {
        let head = self.head().await;
        let live = self.store.open_session(self.new_session(home, id, 1)).await.unwrap().unwrap();
        assert_eq!((live.tenant, live.user), (tenant(home), user(id)));
        assert_eq!(self.head().await, head, "a new session is no change");
        live.id
    }

    pub(crate) async fn is_live(&self, session: &SessionId) -> bool {
        let loaded = self.store.load_session(session).await.unwrap();
        assert_eq!(loaded.version.seq, self.head().await);
        loaded.value.is_some_and(|live| live.id == *session)
    }

    /// A user signed in.
    pub(crate) async fn actor(&self, home: &str, id: &str) -> Actor {
        Actor::User {
            tenant: tenant(home),
            user: user(id),
            session: self.session_in(home, id).await,
            origin: Origin::default(),
        }
    }

    /// All that a user of the first tenant may do by what is loaded, sorted; `None`: unknown or not active.
    pub(crate) async fn holds(&self, id: &str) -> Option<Vec<String>> {
        self.holds_in("default", id).await
    }

    pub(crate) async fn holds_in(&self, home: &str, id: &str) -> Option<Vec<String>> {
        let facts = self.store.load_user(&tenant(home), &user(id)).await.unwrap().value?;
        let mut held: Vec<String> = facts.grants.iter().map(ToString::to_string).collect();
        for no in facts.roles {
            let role = self.store.load_role(no).await.unwrap().value.expect("a user holds roles that exist");
            assert_eq!(role.tenant, tenant(home));
            held.extend(role.grants.iter().map(ToString::to_string));
        }
        held.sort();
        held.dedup();
        facts.active.then_some(held)
    }

    /// The number of a role that the user holds.
    pub(crate) async fn role_no(&self, id: &str, name: &str) -> RoleNo {
        let facts = self.store.load_user(&tenant("default"), &user(id)).await.unwrap().value.unwrap();
        for no in facts.roles {
            let closure = self.store.load_role(no).await.unwrap().value.unwrap().closure;
            if closure.contains(&role(name)) {
                return no;
            }
        }
        panic!("{id} does not hold {name}")
    }

    /// Everything that can be read, as text.
    pub(crate) async fn dump(&self) -> String {
        format!("head {}\n{}", self.head().await, self.records().await)
    }

    /// Everything that can be read but the log, as text.
    pub(crate) async fn records(&self) -> String {
        self.try_records().await.unwrap()
    }

    async fn try_records(&self) -> Result<String, StoreError> {
        use std::fmt::Write as _;
        let store = &self.store;
        let mut text = String::new();
        writeln!(text, "has operator {:?}", store.has_operator().await?).unwrap();
        writeln!(text, "lockdown {:?}", store.lockdown().await?).unwrap();
        writeln!(text, "next expiry {:?}", store.next_expiry().await?).unwrap();
        writeln!(text, "keys {:?}", store.keys().await?.value).unwrap();
        for home in store.tenants(None, 1000).await?.items {
            writeln!(text, "{} {:?} {:?}", home.name, home.status, home.description).unwrap();
            for role in store.roles(&home.name, None, 1000).await?.items {
                writeln!(text, "  {role:?}").unwrap();
            }
            for user in store.users(&home.name, None, 1000).await?.items {
                writeln!(text, "  {user:?}").unwrap();
                writeln!(text, "    {:?}", self.holds_in(home.name.as_str(), user.id.as_str()).await).unwrap();
                for grant in store.grants(&home.name, &user.id).await?.into_iter().flatten() {
                    writeln!(text, "    {grant:?}").unwrap();
                }
                for session in store.sessions(&home.name, &user.id, None, 1000).await?.items {
                    writeln!(text, "    {:?}", session.id).unwrap();
                }
            }
        }
        Ok(text)
    }

    /// A user's direct grants, as text.
    pub(crate) async fn granted(&self, id: &str) -> Vec<String> {
        let records = self.store.grants(&tenant("default"), &user(id)).await.unwrap().unwrap();
        let text = |granted: Granted| match granted {
            Granted::Role(role) => format!("role {role}"),
            Granted::Permission(grant) => format!("permission {grant}"),
        };
        records.into_iter().map(|record| text(record.granted)).collect()
    }
}

/// A refresh token's digest.
pub(crate) fn digest(first: u8) -> TokenDigest {
    [first; 32]
}

/// A password as it is stored.
pub(crate) fn password(text: &str) -> PasswordHash {
    PasswordHash(format!("$argon2id${text}"))
}

/// What a write wrote to the log, each thing once: `kind tenant/name effect`.
pub(crate) fn rows(written: &Written) -> Vec<String> {
    let mut rows: Vec<String> = Vec::new();
    for change in &written.changes {
        let home = change.target.tenant().map_or("", TenantName::as_str);
        let row = format!("{} {home}/{} {}", change.target.kind(), change.target.name(), change.effect.as_str());
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    rows
}
