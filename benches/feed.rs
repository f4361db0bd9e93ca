//! What a feed can take: changes a second from hints in batches, the start with a long log inside the horizon, and the time
//! until all is applied that was missed while the broker was away.
//!
//! `cargo bench --bench feed [rows of the log] [postgres]`; needs `nats-server` and `sqlite3` on the PATH. With PostgreSQL, whose
//! programs must be installed, only the start is measured: the rest asks no database.

#![allow(clippy::unwrap_used, clippy::cast_precision_loss, missing_docs)]

#[path = "../src/store/postgres/testing.rs"]
mod testing;

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use permcast::app::App;
use permcast::bus::{Hearing, NoBus};
use permcast::cache::{CacheLimits, PermissionCache};
use permcast::config::{Config, Settings};
use permcast::domain::{
    Applied, Change, Clock, Effect, Epoch, Floors, Random, Seq, SessionId, Stamp, Target, TenantName, Timestamp,
    UserId, Version,
};
use permcast::feed::{Controls, Feed, FeedSettings, FeedTask, Inbox, Peers, Propagation, RollCall};
use permcast::hub::{Connection, Footing, Holder, Hub, Limits};
use permcast::protocol::bus::{ChangesMessage, Sealer};
use permcast::runtime::{SystemClock, SystemRandom};
use permcast::store::memory::MemoryStore;
use permcast::store::sqlite::SqliteStore;
use permcast::store::{CommitListener, Store, StoreOptions};
use permcast::token::{Algorithm, KeySet, Vault};
use sqlx::{Connection as _, PgConnection};
use tokio_util::sync::CancellationToken;

/// Users that the changes go round.
const USERS: u64 = 250_000;
const CONNECTIONS: u64 = 10_000;
const HOUR: Duration = Duration::from_hours(1);

struct Nobody;

impl CommitListener for Nobody {
    fn committed(&self, _: Epoch, _: &[Change]) {}
}

fn row(name: &str, figure: f64, unit: &str) {
    println!("{name:<66}{figure:>12.0} {unit}");
}

fn change(seq: u64) -> Change {
    Change {
        seq: Seq::new(seq).unwrap(),
        at: Timestamp::from_millis(0),
        target: Target::User { tenant: TenantName::first(), user: format!("user-{}", seq % USERS).parse().unwrap() },
        effect: Effect::Changed,
    }
}

fn options(listener: Arc<dyn CommitListener>) -> StoreOptions {
    StoreOptions { id_rest: HOUR, refresh_grace: Duration::ZERO, deadline: Duration::from_mins(1), listener }
}

/// A feed with all that hangs on it, over a store in memory, and some connections that nothing reads.
struct Bench {
    feed: Feed,
    epoch: Epoch,
    inbox: Arc<Inbox>,
    stop: CancellationToken,
    _connections: Vec<Connection>,
}

impl Bench {
    async fn start(heard: Hearing) -> Self {
        let (clock, random): (Arc<dyn Clock>, Arc<dyn Random>) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        let (inbox, outlet) = Inbox::new(Arc::clone(&clock));
        let inbox = Arc::new(inbox);
        let store: Arc<dyn Store> =
            Arc::new(MemoryStore::new(options(Arc::new(Nobody)), Arc::clone(&clock), Arc::clone(&random)));
        let epoch = store.keys().await.unwrap().version.epoch;
        let applied = Arc::new(Applied::new(epoch));
        let floors = Arc::new(Floors::new(7, 2_000_000));
        let cache = Arc::new(PermissionCache::new(
            Arc::clone(&store),
            Arc::clone(&floors),
            Arc::clone(&applied),
            Arc::clone(&clock),
            CacheLimits::default(),
        ));
        let keys = KeySet::open(
            Arc::clone(&store),
            Arc::new(Vault::plain()),
            Algorithm::EdDsa,
            HOUR,
            Arc::clone(&clock),
            Arc::clone(&random),
        );
        let hub = Hub::new(Arc::clone(&floors), Arc::clone(&clock), Limits::default());
        let controls = Arc::new(Controls::new(Arc::clone(&store), Arc::new(keys.await.unwrap()), Arc::clone(&hub)));
        let feed = Feed::new(applied, Arc::clone(&clock));
        let peers = Arc::new(Peers::default());
        let propagation = Arc::new(Propagation::new(
            "r1".into(),
            feed.clone(),
            Arc::clone(&hub),
            Arc::clone(&peers),
            Arc::clone(&store),
            clock,
            std::time::Duration::from_secs(1),
        ));
        let (calling, nobody) = (Arc::clone(&store), Arc::new(NoBus));
        let roll_call = RollCall::new("r1".into(), Arc::clone(&hub), calling, nobody, Arc::clone(&random));
        let connections = (0..CONNECTIONS).map(|number| connect(&hub, &floors, number)).collect();
        let settings = FeedSettings { poll_interval: HOUR, remember: HOUR };
        let task = FeedTask {
            settings,
            feed: feed.clone(),
            store,
            floors,
            cache,
            hub,
            controls,
            peers,
            roll_call,
            propagation,
            outlet,
            random,
            heard,
        };
        let stop = CancellationToken::new();
        tokio::spawn(task.run(stop.clone()));
        feed.confirmed().await;
        Self { feed, epoch, inbox, stop, _connections: connections }
    }

    async fn reach(&self, seq: u64) {
        let version = Version { epoch: self.epoch, seq: Seq::new(seq).unwrap() };
        self.feed.watch().wait_for(|applied| *applied >= self.feed.stamp_of(version)).await.unwrap();
    }
}

fn connect(hub: &Arc<Hub>, floors: &Floors, number: u64) -> Connection {
    let user: UserId = format!("user-{number}").parse().unwrap();
    let session = SessionId::from_random(u128::from(number).to_be_bytes());
    let footing = Footing::fat(floors, &session, Stamp::new(1, Seq::ZERO), [], false);
    let seat = hub.admit(IpAddr::from([127, 0, 0, 1])).unwrap();
    hub.register(seat, &Holder { tenant: TenantName::first(), user }, footing).unwrap()
}

fn batches(rows: u64, of: usize) -> Vec<Vec<Change>> {
    let all: Vec<Change> = (1..=rows).map(change).collect();
    all.chunks(of).map(<[Change]>::to_vec).collect()
}

/// Raising alone, with nothing told and nothing remembered.
fn raise_alone(batches: &[Vec<Change>]) -> f64 {
    let floors = Floors::new(7, 2_000_000);
    let begun = Instant::now();
    for change in batches.iter().flatten() {
        assert!(floors.raise(change, 1).is_empty());
    }
    rate(batches, begun)
}

fn rate(batches: &[Vec<Change>], begun: Instant) -> f64 {
    batches.iter().map(Vec::len).sum::<usize>() as f64 / begun.elapsed().as_secs_f64()
}

/// Hints of commits here: handed over while the feed works.
async fn own_hints(batches: &[Vec<Change>]) -> f64 {
    let bench = Bench::start(NoBus::hearing()).await;
    let begun = Instant::now();
    let mut handed = 0;
    for (number, batch) in batches.iter().enumerate() {
        bench.inbox.committed(bench.epoch, batch);
        handed += batch.len() as u64;
        // The feed's queue has room for more than this; beyond it hints are dropped.
        if number % 1000 == 999 {
            bench.reach(handed).await;
        }
    }
    bench.reach(handed).await;
    let rate = rate(batches, begun);
    bench.stop.cancel();
    rate
}

/// Sealed messages of another replica: checked, read and applied.
async fn heard_hints(batches: &[Vec<Change>]) -> (f64, f64) {
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<(String, Vec<u8>)>(batches.len());
    let sealer = Sealer::new(b"a secret of the bench");
    let open = {
        let sealer = sealer.clone();
        move |(seal, payload): (String, Vec<u8>)| {
            assert!(sealer.is_valid(&seal, "changes", &payload));
            permcast::bus::Heard::Changes(ChangesMessage::decode(&payload).unwrap())
        }
    };
    let hearing = futures_util::stream::poll_fn({
        let open = open.clone();
        move |context| receiver.poll_recv(context).map(|message| message.map(&open))
    });
    let bench = Bench::start(Box::pin(hearing)).await;
    let messages: Vec<(String, Vec<u8>)> = batches
        .iter()
        .map(|batch| {
            let message = ChangesMessage { epoch: bench.epoch, origin: "r2".into(), changes: batch.clone() };
            let payload = message.encode();
            (sealer.seal("changes", &payload), payload)
        })
        .collect();
    let begun = Instant::now();
    for message in messages.clone() {
        std::hint::black_box(open(message));
    }
    let alone = rate(batches, begun);
    let begun = Instant::now();
    for message in messages {
        sender.try_send(message).unwrap();
    }
    bench.reach(batches.iter().map(|batch| batch.len() as u64).sum()).await;
    let rate = rate(batches, begun);
    bench.stop.cancel();
    (rate, alone)
}

/// Writes rows into the log of a database on a server, past the triggers, which would count each.
async fn fill_server(url: &str, rows: u64) {
    let sql = format!(
        "ALTER TABLE changes DISABLE TRIGGER USER; \
         INSERT INTO changes (seq, at, actor, tenant, kind, target, \"user\", effect, summary) \
         SELECT h.seq + i, (extract(epoch FROM now()) * 1000)::bigint, 'bench', 'default', 'user', 'user-' || (i % {USERS}), \
         'user-' || (i % {USERS}), 'changed', '' FROM (SELECT max(seq) AS seq FROM changes) h CROSS JOIN generate_series(1, {rows}) i; \
         ANALYZE changes"
    );
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// What PostgreSQL alone takes to send the same rows.
async fn send_alone(url: &str) -> f64 {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let begun = Instant::now();
    let rows = sqlx::query("SELECT seq, at, tenant, kind, target, \"user\", effect FROM changes ORDER BY seq");
    let count = rows.fetch(&mut connection).try_fold(0_u64, |count, _| async move { Ok(count + 1) }).await.unwrap();
    let took = millis(begun);
    assert!(count > 0);
    connection.close().await.unwrap();
    took
}

/// Writes rows into the log of a database, as a shell would.
fn fill(path: &Path, rows: u64) {
    let sql = format!(
        "PRAGMA synchronous = off; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
         INSERT INTO changes (at, actor, tenant, kind, target, user, effect, summary) \
         SELECT (SELECT now FROM clock), 'bench', 'default', 'user', 'user-' || (i % {USERS}), 'user-' || (i % {USERS}), \
         'changed', '' FROM n;"
    );
    assert!(Command::new("sqlite3").arg(path).arg(sql).status().unwrap().success());
}

/// What SQLite alone takes to read the same rows.
fn read_alone(path: &Path) -> f64 {
    let sql =
        "SELECT sum(length(kind) + length(tenant) + length(target) + length(user) + length(effect) + at) FROM changes";
    let begun = Instant::now();
    assert!(Command::new("sqlite3").arg(path).arg(sql).stdout(Stdio::null()).status().unwrap().success());
    millis(begun)
}

fn millis(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1000.0
}

async fn database(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("bench.db");
    let store =
        SqliteStore::open(path.to_str().unwrap(), options(Arc::new(Nobody)), Arc::new(SystemClock), &SystemRandom);
    store.await.unwrap().close().await;
    path
}

fn settings(url: String) -> Settings {
    Settings {
        listen: Some("127.0.0.1:0".into()),
        database_url: Some(url),
        drain_delay: Some("0s".into()),
        drain_spread: Some("0s".into()),
        ..Settings::default()
    }
}

async fn start(settings: Settings) -> App {
    App::start(Config::new(settings).unwrap(), TcpListener::bind("127.0.0.1:0").unwrap(), None).await.unwrap()
}

fn address(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}

async fn start_up(rows: u64) {
    let folder = tempfile::tempdir().unwrap();
    let path = database(folder.path()).await;
    let empty = empty(address(&path)).await;
    fill(&path, rows);
    let alone = read_alone(&path);
    full(address(&path), rows, empty).await;
    row("  floor: SQLite alone reads these rows", alone, "ms");
}

async fn start_up_on_server(rows: u64) {
    let database = testing::database();
    let url = || database.url().to_owned();
    let empty = empty(url()).await;
    fill_server(database.url(), rows).await;
    let alone = send_alone(database.url()).await;
    full(url(), rows, empty).await;
    row("  floor: PostgreSQL alone sends these rows", alone, "ms");
}

/// Starts and stops it with an empty log.
async fn empty(url: String) -> f64 {
    // The first start makes the keys, which is not what is measured.
    start(settings(url.clone())).await.stop().await;
    let begun = Instant::now();
    start(settings(url)).await.stop().await;
    millis(begun)
}

async fn full(url: String, rows: u64, empty: f64) {
    let begun = Instant::now();
    let app = start(settings(url)).await;
    row(&format!("start until ready, {rows} rows in the horizon"), millis(begun), "ms");
    row("  start and stop with an empty log", empty, "ms");
    app.stop().await;
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn nats(port: u16) -> (Killed, u16) {
    let mut child = Command::new("nats-server")
        .args(["--addr", "127.0.0.1", "--port", &if port == 0 { "-1".into() } else { port.to_string() }])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let child = Killed(child);
    let mark = "Listening for client connections on ";
    let at = lines.find_map(|line| line.unwrap().split_once(mark).map(|(_, rest)| rest.trim().to_owned())).unwrap();
    std::thread::spawn(move || lines.for_each(drop));
    (child, at.rsplit_once(':').unwrap().1.parse().unwrap())
}

/// The tail is read so seldom here that only the broker's return makes the replica look.
async fn after_an_outage(missed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let path = database(folder.path()).await;
    let (server, port) = nats(0);
    let app = start(Settings {
        nats_url: Some(format!("nats://127.0.0.1:{port}")),
        poll_interval: Some("300s".into()),
        max_staleness: Some("600s".into()),
        ..settings(address(&path))
    })
    .await;
    let url = format!("http://{}/readyz", app.address());
    let until = async |up: bool| {
        loop {
            let ready: serde_json::Value = reqwest::get(&url).await.unwrap().json().await.unwrap();
            if (ready["broker"] == "up") == up {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    until(true).await;
    drop(server);
    until(false).await;
    fill(&path, missed);
    let (_server, _) = nats(port);
    let begun = Instant::now();
    let last = Seq::new(missed).unwrap();
    while app.propagation().learnt(last).is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    row(&format!("the broker is back, until {missed} missed changes are applied"), millis(begun), "ms");
    app.stop().await;
}

#[tokio::main]
async fn main() {
    let rows: u64 = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000);
    if std::env::args().any(|argument| argument == "postgres") {
        return start_up_on_server(rows).await;
    }
    for of in [128, 1000] {
        let batches = batches(rows.min(1_000_000), of);
        row(
            &format!("applied from own commits, batches of {of}, {CONNECTIONS} connections"),
            own_hints(&batches).await,
            "/s",
        );
        let (heard, alone) = heard_hints(&batches).await;
        row(&format!("applied from sealed messages of {of}"), heard, "/s");
        row("  floor: checking and reading them alone", alone, "/s");
        row("  floor: raising alone", raise_alone(&batches), "/s");
    }
    start_up(rows).await;
    Box::pin(after_an_outage(10_000)).await;
}
