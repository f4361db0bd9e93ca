//! A load generator for push: the real program with thousands of real connections, and beside it, under the same load, the
//! WebSocket listener of nats-server as the yardstick and a bare loop as the floor.
//!
//! `cargo bench --bench push -- --help`; needs `nats-server` on the PATH. Clients are processes of their own, so that
//! neither side runs out of files; they come from several loopback addresses, so that neither runs out of ports.

#![allow(clippy::unwrap_used, missing_docs, reason = "whoever measures wants to see where it broke")]
#![allow(unreachable_pub, reason = "a program")]

mod ask;
mod bare;
mod clock;
mod connection;
mod http;
mod load;
mod pair;
mod probe;
mod process;
mod replica;
mod report;
mod seed;
mod subject;
#[path = "../../src/store/postgres/testing.rs"]
mod testing;
mod unicast;
mod wire;
mod worker;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use serde_json::json;

use self::process::Worker;
use self::report::Row;
use self::subject::{Place, Subject};

/// Measures push: memory, fan-out, latency, storms, refreshes, losses.
#[derive(Parser)]
struct Options {
    /// What to measure; all of it where nothing is said.
    #[arg(value_enum)]
    measures: Vec<Measure>,
    /// Connections to one process. Above about 19,000 the usual limit of open files is in the way.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Connections of the reconnect storm.
    #[arg(long, default_value_t = 15_000)]
    storm: usize,
    /// Connections that are idle.
    #[arg(long, default_value_t = 18_000)]
    idle: usize,
    /// Seconds that they are idle.
    #[arg(long, default_value_t = 50)]
    idle_seconds: u64,
    /// Connections to two replicas.
    #[arg(long, default_value_t = 36_000)]
    pair: usize,
    /// Fan-outs; the median counts.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Measures over PostgreSQL, too, where that makes a difference; its programs must be installed.
    #[arg(long)]
    postgres: bool,
    /// Writes the figures as JSON there.
    #[arg(long)]
    json: Option<PathBuf>,
    #[arg(long, value_enum, hide = true)]
    role: Option<Role>,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measure {
    /// Memory a connection, fan-out of a role edit, refresh herd.
    Fanout,
    /// All connections come back at once, and paced.
    Storm,
    /// One user's change to his tab.
    Unicast,
    /// Memory and processor of many idle connections.
    Idle,
    /// Server-sent events.
    Events,
    /// Two replicas; one of them is killed.
    Pair,
    /// Three replicas; one of them is restarted.
    Rolling,
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    Clients,
    Bare,
    Replica,
}

fn main() {
    let options = Options::parse();
    match options.role {
        Some(Role::Clients) => return worker::run(),
        Some(Role::Bare) => return bare::run(),
        Some(Role::Replica) => return replica::run(),
        None => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rows = runtime.block_on(measure(&options));
    println!();
    report::print(&rows);
    if let Some(path) = &options.json {
        let settings = json!({
            "connections": options.connections, "storm": options.storm, "idle": options.idle, "pair": options.pair,
            "rounds": options.rounds, "cores": std::thread::available_parallelism().map_or(0, usize::from),
        });
        std::fs::write(path, format!("{:#}\n", report::json(&rows, &settings))).unwrap();
    }
}

async fn measure(options: &Options) -> Vec<Row> {
    let mut rows = Vec::new();
    let wanted = |measure| options.measures.is_empty() || options.measures.contains(&measure);
    if wanted(Measure::Fanout) {
        eprintln!("memory, fan-out and refreshes of {} connections", options.connections);
        for which in SUBJECTS {
            let place = Place::new();
            let mut subject = which.start(&place, options.connections).await;
            rows.extend(fanout(options, &place, &mut subject).await);
        }
    }
    if wanted(Measure::Storm) {
        eprintln!("{} connections come back", options.storm);
        for which in &SUBJECTS[..2] {
            let place = Place::new();
            let subject = which.start(&place, options.storm).await;
            let mut worker = clients(&place).await;
            load::open(&subject, &mut worker, options.storm, Some(4_000)).await;
            rows.extend(load::storm(&subject, &mut worker, options.storm, 8_000).await);
        }
    }
    if wanted(Measure::Unicast) {
        eprintln!("500 changes a second, each of one user of {}", options.connections);
        let place = Place::new();
        let mut observed = Subject::observed(&place, options.connections).await;
        let mut worker = clients(&place).await;
        rows.push(unicast::run(&mut observed, &mut worker, options.connections, 500, 3_000).await);
        drop(observed);
        let mut nats = Subject::nats(place.folder.path()).await;
        let mut worker = clients(&place).await;
        rows.push(unicast::run(&mut nats, &mut worker, options.connections, 500, 3_000).await);
    }
    if wanted(Measure::Idle) {
        eprintln!("{} idle connections", options.idle);
        let place = Place::new();
        let subject = Subject::permcast(&place, options.idle, &[]).await;
        let mut worker = clients(&place).await;
        rows.extend(load::idle(&subject, &mut worker, options.idle, options.idle_seconds).await);
    }
    if wanted(Measure::Events) {
        eprintln!("server-sent events");
        rows.extend(pair::events(options.connections.min(5_000)).await);
    }
    if wanted(Measure::Pair) {
        eprintln!("two replicas");
        rows.push(pair::death(options.connections).await);
        rows.push(pair::wide(options.pair).await);
    }
    if wanted(Measure::Rolling) {
        eprintln!("one of three replicas is restarted");
        rows.push(pair::rolling(options.connections, Place::new(), "permcast").await);
        if options.postgres {
            rows.push(pair::rolling(options.connections, Place::on_server(), "on PostgreSQL").await);
        }
    }
    rows.sort_by_key(|row| rows_order(row.measure));
    rows
}

fn rows_order(measure: &str) -> usize {
    ["memory", "memory after fan-outs", "fan-out of one role edit"]
        .iter()
        .position(|name| *name == measure)
        .unwrap_or(9)
}

async fn fanout(options: &Options, place: &Place, subject: &mut Subject) -> Vec<Row> {
    let mut worker = clients(place).await;
    let empty = subject.process.memory();
    let mut rows = vec![load::memory(subject, &mut worker, options.connections).await];
    rows.extend(load::fan_out(subject, &mut worker, options.connections, options.rounds, empty).await);
    if load::operator(subject).is_some() {
        rows.push(load::herd(subject, &mut worker, options.connections).await);
    }
    rows
}

/// A process of clients, with tokens where there are some.
async fn clients(place: &Place) -> Worker {
    let tokens = place.tokens();
    if tokens.exists() { Worker::with(&tokens).await } else { Worker::start() }
}

#[derive(Clone, Copy)]
enum Which {
    Permcast,
    Nats,
    Bare,
}

const SUBJECTS: [Which; 3] = [Which::Permcast, Which::Nats, Which::Bare];

impl Which {
    async fn start(self, place: &Place, users: usize) -> Subject {
        match self {
            Self::Permcast => Subject::permcast(place, users, &[]).await,
            Self::Nats => Subject::nats(place.folder.path()).await,
            Self::Bare => Subject::bare().await,
        }
    }
}
