//! Durable writes: administrators at the store, SQLite alone, and the disk itself.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};

use super::report::{Group, Row, Times};
use super::{Deaf, LabError, options};
use crate::domain::operation::NewUser;
use crate::domain::permission::OPERATOR;
use crate::domain::records::{Status, UserKind};
use crate::domain::{Actor, Clock as _, Operation, Origin, Random, SessionId, TenantName, Unit, UserId};
use crate::runtime::{SystemClock, SystemRandom};
use crate::store::sqlite::SqliteStore;
use crate::store::{NewSession, Store, WriteError};

/// How many write at once in the last row.
const MANY: u32 = 32;
/// A page of the disk.
const PAGE_BYTES: usize = 4096;

fn row(what: &str, times: &Times, took: Duration) -> Option<Row> {
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    let rate = times.len() as f64 / took.as_secs_f64();
    Row::times(what, times).map(|row| row.rate(rate))
}

/// Administrators who each give a permission and take it again, checked, logged and on the disk before it is answered.
pub(super) async fn writes(directory: &Path, period: Duration) -> Result<Group, LabError> {
    let mut rows = Vec::new();
    let store = Arc::new(company(&directory.join("writes.db")).await?);
    for (what, writers) in [("one administrator at a time", 1), ("32 at a time, sharing commits", MANY)] {
        let (times, took) = administrators(&store, writers, period).await?;
        rows.extend(row(what, &times, took));
    }
    store.close().await;
    let (times, took) = single_rows(&directory.join("single.db"), period).await?;
    rows.extend(row("SQLite alone, one row a commit", &times, took).map(Row::into_floor));
    let (times, took) = synced_pages(&directory.join("pages"), period)?;
    rows.extend(row("the disk alone: 4 KiB written and synced", &times, took));
    Ok(Group { title: "Durable writes", rows })
}

fn synced_pages(path: &Path, period: Duration) -> Result<(Times, Duration), LabError> {
    let (clock, mut file) = (SystemClock, std::fs::File::create(path)?);
    let (mut times, begun) = (Vec::new(), clock.boottime());
    loop {
        let one = clock.boottime();
        file.write_all(&[0x5a; PAGE_BYTES])?;
        file.sync_data()?;
        let now = clock.boottime();
        times.push(now.since(one));
        if now.since(begun) >= period {
            return Ok((times.into_iter().collect(), now.since(begun)));
        }
    }
}

async fn single_rows(path: &Path, period: Duration) -> Result<(Times, Duration), LabError> {
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .connect()
        .await?;
    connection.execute("CREATE TABLE row (no INTEGER PRIMARY KEY, text TEXT)").await?;
    let clock = SystemClock;
    let (mut times, begun) = (Vec::new(), clock.boottime());
    while clock.boottime().since(begun) < period {
        let one = clock.boottime();
        sqlx::query("INSERT INTO row (text) VALUES ('permission granted')").execute(&mut connection).await?;
        times.push(clock.boottime().since(one));
    }
    let took = clock.boottime().since(begun);
    connection.close().await?;
    Ok((times.into_iter().collect(), took))
}

fn create(home: &TenantName, id: &UserId) -> Operation {
    let user = NewUser {
        id: id.clone(),
        name: String::new(),
        email: None,
        kind: UserKind::Person,
        password: None,
        status: Status::Active,
        identities: Vec::new(),
    };
    Operation::CreateUser { tenant: home.clone(), user }
}

fn member(number: u32) -> UserId {
    format!("u{number}").parse().expect("it is a user's id")
}

/// A store with users to write about, and one who may.
async fn company(path: &Path) -> Result<SqliteStore, LabError> {
    let address = path.to_str().ok_or(LabError::Path)?;
    let store = SqliteStore::open(address, options(Arc::new(Deaf)), Arc::new(SystemClock), &SystemRandom).await?;
    let home = TenantName::first();
    let ada: UserId = "ada".parse().expect("it is a user's id");
    let mut operations: Vec<Operation> = (0..MANY).map(|number| create(&home, &member(number))).collect();
    operations.push(create(&home, &ada));
    let permission = OPERATOR.parse().expect("it is a permission");
    operations.push(Operation::GrantPermission { tenant: home, user: ada, permission, expires_at: None });
    store.write(Unit { actor: Actor::System("lab"), operations }).await?;
    Ok(store)
}

async fn administrators(
    store: &Arc<SqliteStore>,
    writers: u32,
    period: Duration,
) -> Result<(Times, Duration), LabError> {
    let (clock, home) = (SystemClock, TenantName::first());
    let ada: UserId = "ada".parse().expect("it is a user's id");
    let random: &dyn Random = &SystemRandom;
    let session = SessionId::from_random(random.bytes());
    let opened = store
        .open_session(NewSession {
            id: session.clone(),
            tenant: home.clone(),
            user: ada.clone(),
            refresh: None,
            password: None,
            address: String::new(),
            user_agent: String::new(),
            request: None,
            by: None,
            idle: None,
            ends_at: clock.now().plus(Duration::from_hours(1)),
        })
        .await?;
    debug_assert!(opened.is_some(), "ada is active");
    let actor = Actor::User { tenant: home.clone(), user: ada, session, origin: Origin::default() };
    let begun = clock.boottime();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let (store, actor, tenant, user) = (Arc::clone(store), actor.clone(), home.clone(), member(writer));
        tasks.spawn(async move {
            let (mut times, mut granted) = (Vec::new(), false);
            // What was given is taken again, so that the next row begins as this one did.
            while granted || clock.boottime().since(begun) < period {
                let (tenant, user) = (tenant.clone(), user.clone());
                let permission = "invoices:read".parse().expect("it is a permission");
                let operation = if granted {
                    Operation::RevokePermission { tenant, user, permission }
                } else {
                    Operation::GrantPermission { tenant, user, permission, expires_at: None }
                };
                granted = !granted;
                let one = clock.boottime();
                store.write(Unit { actor: actor.clone(), operations: vec![operation] }).await?;
                times.push(clock.boottime().since(one));
            }
            Ok::<_, WriteError>(times)
        });
    }
    let mut all = Vec::new();
    while let Some(times) = tasks.join_next().await {
        all.extend(times.map_err(|_| LabError::Stopped)??);
    }
    Ok((all.into_iter().collect(), clock.boottime().since(begun)))
}
