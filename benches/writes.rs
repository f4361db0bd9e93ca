//! Durable writes a second: how much concurrent administrators, and sessions that are refreshed, gain from sharing commits,
//! beside what the database itself does with one row a commit.
//!
//! `cargo bench --bench writes [seconds per row of the table] [postgres]`; for PostgreSQL its programs must be installed.

#[allow(clippy::unwrap_used, reason = "written for tests")]
#[path = "../src/store/postgres/testing.rs"]
mod testing;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use permcast::app::App;
use permcast::config::{Config, Settings};
use permcast::domain::operation::{NewUser, Operation};
use permcast::domain::permission::OPERATOR;
use permcast::domain::records::{Status, UserKind};
use permcast::domain::{Actor, Change, Epoch, Origin, Random, SessionId, TenantName, Timestamp, Unit, UserId};
use permcast::runtime::{SystemClock, SystemRandom};
use permcast::store::postgres::PostgresStore;
use permcast::store::sqlite::SqliteStore;
use permcast::store::{CommitListener, NewSession, Rotation, Store, StoreOptions, TokenDigest};
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};

struct Deaf;

impl CommitListener for Deaf {
    fn committed(&self, _: Epoch, _: &[Change]) {}
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(3);
    let period = Duration::from_secs(seconds);
    let on_server = std::env::args().any(|argument| argument == "postgres");
    let directory = tempfile::tempdir_in(".")?;
    let databases = on_server.then(|| [(); 3].map(|()| testing::database()));
    println!("{:<44} {:>9} {:>8} {:>8} {:>8}", "", "writes/s", "p50 µs", "p99 µs", "× one");
    let [kept, served] = if let Some([bare, kept, served]) = &databases {
        for connections in [1, 32] {
            let floor = rows_side_by_side(bare.url(), connections, period).await?;
            floor.show(&format!("one row a commit, PostgreSQL alone, {connections} (floor)"), None);
        }
        [kept, served].map(|database| database.url().to_owned())
    } else {
        let floor = single_rows(&directory.path().join("floor.db"), period).await?;
        floor.show("one row a commit, SQLite alone (the floor)", None);
        ["permcast.db", "rest.db"].map(|name| format!("sqlite://{}", directory.path().join(name).display()))
    };

    let store = company(&kept).await?;
    let mut one = None;
    for writers in [1, 2, 8, 32, 128] {
        let measured = administrators(&store, writers, period).await?;
        measured.show(&format!("{writers} at a time, checked and logged"), one);
        one = one.or(Some(measured.rate()));
    }
    let mut one = None;
    for sessions in [1, 32] {
        let measured = refreshes(&store, sessions, period).await?;
        measured.show(&format!("{sessions} sessions refreshed at a time"), one);
        one = one.or(Some(measured.rate()));
    }
    store.close().await;

    let (app, client) = replica(served).await?;
    let mut one = None;
    for writers in [1, 32] {
        let measured = through_rest(&client, writers, period).await?;
        measured.show(&format!("{writers} at a time, through REST"), one);
        one = one.or(Some(measured.rate()));
    }
    app.stop().await;
    Ok(())
}

struct Measured {
    times: Histogram<u64>,
    took: Duration,
}

impl Measured {
    /// All that was measured side by side.
    async fn of(
        begun: Instant,
        mut tasks: tokio::task::JoinSet<Histogram<u64>>,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let mut times = Histogram::new(3)?;
        while let Some(own) = tasks.join_next().await {
            times.add(own?)?;
        }
        Ok(Self { times, took: begun.elapsed() })
    }

    fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        let writes = self.times.len() as f64;
        writes / self.took.as_secs_f64()
    }

    fn show(&self, what: &str, one: Option<f64>) {
        let (p50, p99) = (self.times.value_at_quantile(0.5), self.times.value_at_quantile(0.99));
        let gain = one.map_or(String::new(), |one| format!("{:.1}", self.rate() / one));
        println!("{what:<44} {:>9.0} {p50:>8} {p99:>8} {gain:>8}", self.rate());
    }
}

fn micros(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX)
}

async fn single_rows(path: &Path, period: Duration) -> Result<Measured, Box<dyn std::error::Error>> {
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .connect()
        .await?;
    connection.execute("CREATE TABLE row (no INTEGER PRIMARY KEY, text TEXT)").await?;
    let (begun, mut times) = (Instant::now(), Histogram::new(3)?);
    while begun.elapsed() < period {
        let one = Instant::now();
        sqlx::query("INSERT INTO row (text) VALUES ($1)").bind("permission granted").execute(&mut connection).await?;
        times.record(micros(one))?;
    }
    let took = begun.elapsed();
    connection.close().await?;
    Ok(Measured { times, took })
}

/// The same on a server, over so many connections.
async fn rows_side_by_side(
    url: &str,
    connections: usize,
    period: Duration,
) -> Result<Measured, Box<dyn std::error::Error>> {
    let mut first = PgConnection::connect(url).await?;
    first.execute("CREATE TABLE IF NOT EXISTS row (no BIGSERIAL PRIMARY KEY, text TEXT)").await?;
    first.close().await?;
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let mut connection = PgConnection::connect(url).await?;
        tasks.spawn(async move {
            let mut times = Histogram::<u64>::new(3).expect("three digits are allowed");
            while begun.elapsed() < period {
                let one = Instant::now();
                let insert = sqlx::query("INSERT INTO row (text) VALUES ($1)").bind("permission granted");
                insert.execute(&mut connection).await.expect("the disk has room");
                times.record(micros(one)).expect("it took less than an age");
            }
            times
        });
    }
    Measured::of(begun, tasks).await
}

async fn company(url: &str) -> Result<Arc<dyn Store>, Box<dyn std::error::Error>> {
    let options = StoreOptions {
        id_rest: Duration::from_hours(720),
        // Each token may be used as soon as it is there.
        refresh_grace: Duration::ZERO,
        deadline: Duration::from_secs(10),
        listener: Arc::new(Deaf),
    };
    let clock = Arc::new(SystemClock);
    let store: Arc<dyn Store> = if url.starts_with("sqlite:") {
        Arc::new(SqliteStore::open(url, options, clock, &SystemRandom).await?)
    } else {
        Arc::new(PostgresStore::open(url, 8, options, clock, &SystemRandom).await?)
    };
    let home = TenantName::first();
    let mut operations: Vec<Operation> = (0..500).map(|n| create(&home, &format!("u{n}"))).collect();
    operations.push(create(&home, "ada"));
    operations.push(Operation::GrantPermission {
        tenant: home,
        user: "ada".parse()?,
        permission: OPERATOR.parse()?,
        expires_at: None,
    });
    store.write(Unit { actor: Actor::System("system"), operations }).await?;
    Ok(store)
}

fn create(home: &TenantName, id: &str) -> Operation {
    let user = NewUser {
        id: id.parse().expect("it is a user's id"),
        name: String::new(),
        email: None,
        kind: UserKind::Person,
        password: None,
        status: Status::Active,
        identities: Vec::new(),
    };
    Operation::CreateUser { tenant: home.clone(), user }
}

/// So many administrators, each giving a permission and taking it again.
async fn administrators(
    store: &Arc<dyn Store>,
    writers: usize,
    period: Duration,
) -> Result<Measured, Box<dyn std::error::Error>> {
    let (home, ada) = (TenantName::first(), "ada".parse::<UserId>()?);
    let session = session(store, &ada, None).await?;
    let actor = Actor::User { tenant: home.clone(), user: ada, session, origin: Origin::default() };
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let (store, actor, home) = (Arc::clone(store), actor.clone(), home.clone());
        tasks.spawn(async move {
            let user: UserId = format!("u{writer}").parse().expect("it is a user's id");
            let mut times = Histogram::<u64>::new(3).expect("three digits are allowed");
            for turn in 0_u64.. {
                // What was given is taken again, so that the next row of the table begins as this one did.
                if turn.is_multiple_of(2) && begun.elapsed() >= period {
                    break;
                }
                let (tenant, user) = (home.clone(), user.clone());
                let permission = "invoices:read".parse().expect("it is a permission");
                let operation = if turn.is_multiple_of(2) {
                    Operation::GrantPermission { tenant, user, permission, expires_at: None }
                } else {
                    Operation::RevokePermission { tenant, user, permission }
                };
                let one = Instant::now();
                let written = store.write(Unit { actor: actor.clone(), operations: vec![operation] }).await;
                assert_eq!(written.expect("the disk has room").changes.len(), 1);
                times.record(micros(one)).expect("it took less than an age");
            }
            times
        });
    }
    Measured::of(begun, tasks).await
}

/// Opens a session of that user.
async fn session(
    store: &Arc<dyn Store>,
    user: &UserId,
    refresh: Option<TokenDigest>,
) -> Result<SessionId, Box<dyn std::error::Error>> {
    let random: &dyn Random = &SystemRandom;
    let id = SessionId::from_random(random.bytes());
    let opened = store
        .open_session(NewSession {
            id: id.clone(),
            tenant: TenantName::first(),
            user: user.clone(),
            refresh,
            password: None,
            address: String::new(),
            user_agent: String::new(),
            request: None,
            by: None,
            idle: None,
            ends_at: Timestamp::from_millis(i64::MAX),
        })
        .await?;
    opened.ok_or("he may not sign in")?;
    Ok(id)
}

/// So many sessions, each with its refresh token used as soon as it has another.
async fn refreshes(
    store: &Arc<dyn Store>,
    sessions: usize,
    period: Duration,
) -> Result<Measured, Box<dyn std::error::Error>> {
    let random: &'static dyn Random = &SystemRandom;
    let mut opened = Vec::new();
    for number in 0..sessions {
        let token: TokenDigest = random.bytes();
        opened.push((session(store, &format!("u{number}").parse()?, Some(token)).await?, token));
    }
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for (id, mut token) in opened {
        let store = Arc::clone(store);
        tasks.spawn(async move {
            let mut times = Histogram::<u64>::new(3).expect("three digits are allowed");
            while begun.elapsed() < period {
                let successor = random.bytes();
                let one = Instant::now();
                let rotated = store.rotate(&id, &token, &successor, &Origin::default()).await;
                assert!(matches!(rotated, Ok(Rotation::Rotated(_))), "{rotated:?}");
                times.record(micros(one)).expect("it took less than an age");
                token = successor;
            }
            times
        });
    }
    Measured::of(begun, tasks).await
}

/// Where administrators write, and as whom.
struct Rest {
    http: reqwest::Client,
    users: String,
    token: String,
}

/// A replica with users `u0` and on, and its operator signed in.
async fn replica(url: String) -> Result<(App, Rest), Box<dyn std::error::Error>> {
    const PASSWORD: &str = "a bench password";
    let settings = Settings {
        database_url: Some(url),
        bootstrap_user: Some("ada".into()),
        bootstrap_password: Some(PASSWORD.into()),
        drain_delay: Some("0s".into()),
        ..Settings::default()
    };
    let app = App::start(Config::new(settings)?, std::net::TcpListener::bind("127.0.0.1:0")?, None).await?;
    let base = format!("http://{}", app.address());
    let http = reqwest::Client::new();
    let login = serde_json::json!({ "username": "ada", "password": PASSWORD });
    let tokens: serde_json::Value = http.post(format!("{base}/v1/login")).json(&login).send().await?.json().await?;
    let token = tokens["access_token"].as_str().ok_or("no token")?.to_owned();
    let rest = Rest { http, users: format!("{base}/v1/tenants/default/users"), token };
    for number in 0..32 {
        let user = serde_json::json!({ "id": format!("u{number}") });
        rest.http.post(&rest.users).bearer_auth(&rest.token).json(&user).send().await?.error_for_status()?;
    }
    Ok((app, rest))
}

/// The same as [`administrators`], each over a connection of his own.
async fn through_rest(rest: &Rest, writers: usize, period: Duration) -> Result<Measured, Box<dyn std::error::Error>> {
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let (http, token) = (rest.http.clone(), rest.token.clone());
        let url = format!("{}/u{writer}/permissions/invoices:read", rest.users);
        tasks.spawn(async move {
            let mut times = Histogram::<u64>::new(3).expect("three digits are allowed");
            let mut granted = false;
            // An even number of turns, so that the next row begins from the same state.
            while begun.elapsed() < period || granted {
                let one = Instant::now();
                let request = if granted { http.delete(&url) } else { http.put(&url) };
                let answer = request.bearer_auth(&token).send().await.expect("the replica answers");
                let answer: serde_json::Value = answer.json().await.expect("it answers in JSON");
                assert!(answer["change"]["seq"].is_u64(), "{answer}");
                times.record(micros(one)).expect("it took less than an age");
                granted = !granted;
            }
            times
        });
    }
    Measured::of(begun, tasks).await
}
