//! Several replicas: as many connections as a machine's limits let two processes carry, and the death of one of them, or its end.

use std::net::SocketAddr;
use std::time::Duration;

use super::ask::{Ask, Opened, Speech, Stand, Tokens, Told};
use super::clock::{millis, now};
use super::load;
use super::process::{Process, Worker};
use super::report::{Row, quantile};
use super::subject::{Place, Subject};

/// Both over one database, with a broker between them.
async fn both(place: &Place, users: usize) -> (Process, Subject, Process) {
    let nats = Process::nats(place.folder.path()).await;
    let url = format!("nats://{}", nats.also.expect("it has one"));
    let a = Process::permcast(place, "a", Some(&url), &[]).await;
    let b = Process::permcast(place, "b", Some(&url), &[]).await;
    (nats, Subject::seeded(a, place, users).await, b)
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("connections of one machine"))
}

/// All of them, each to the first of these that answers; `spread`: to one after the other of these.
fn opening(speech: Speech, servers: Vec<SocketAddr>, spread: bool, count: usize) -> Ask {
    Ask::Open { speech, servers, spread, from: 0, count, per_second: Some(4_000), in_flight: 1_500, within_ms: 60_000 }
}

/// Half of the connections at each, a process of clients for each.
pub async fn wide(connections: usize) -> Row {
    let place = Place::new();
    let half = connections / 2;
    // Each user has a tab at both.
    let (_nats, mut a, b) = both(&place, half).await;
    let mut workers = [Worker::with(&place.tokens()).await, Worker::with(&place.tokens()).await];
    let before = a.process.memory() + b.memory();
    let mut welcome = 0;
    for (worker, server) in workers.iter_mut().zip([a.process.address, b.address]) {
        welcome += worker.ask::<Opened>(&opening(a.speech, vec![server], false, half)).await.welcomed_at.len();
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = a.process.memory() + b.memory();
    let begun = now();
    let want = Ask::Told { want: half, within_ms: 20_000 };
    let [one, two] = &mut workers;
    let (Told(one), Told(two), ()) = tokio::join!(one.ask(&want), two.ask(&want), a.tell_all());
    let at: Vec<u64> = one.iter().chain(&two).map(|(_, _, at)| at.saturating_sub(begun)).collect();
    Row::new(
        "two replicas",
        "permcast",
        &[
            ("connections", number(welcome)),
            (
                "bytes a connection",
                (number(usize::try_from(after.saturating_sub(before)).expect("memory of one machine") / connections)),
            ),
            ("fan-out p50 ms", millis(quantile(&at, 0.5))),
            ("last ms", millis(at.iter().copied().max().unwrap_or_default())),
            ("lost", number(connections - at.len().min(connections))),
        ],
    )
}

/// One is killed, and a role is edited while its clients are on their way to the other.
pub async fn death(connections: usize) -> Row {
    let place = Place::new();
    let (_nats, mut a, b) = both(&place, connections).await;
    let mut worker = Worker::with(&place.tokens()).await;
    let servers = vec![a.process.address, b.address];
    worker.ask::<Opened>(&opening(a.speech, servers, false, connections)).await;
    let begun = now();
    a.process.kill().await;
    // From now on the other one answers.
    a.process = b;
    a.retarget();
    a.tell_all().await;
    let back: Opened = worker.ask(&Ask::Back { want: connections, within_ms: 60_000 }).await;
    let Told(told) = worker.ask(&Ask::Told { want: connections, within_ms: 10_000 }).await;
    let clients: std::collections::HashSet<usize> = told.iter().map(|(client, _, _)| *client).collect();
    let last = back.welcomed_at.iter().max().copied().unwrap_or_default();
    Row::new(
        "one of two replicas is killed",
        "permcast",
        &[
            ("until all are back ms", millis(last.saturating_sub(begun))),
            ("told ms", millis(told.iter().map(|(_, _, at)| at - begun).max().unwrap_or_default())),
            ("not back", number(connections.saturating_sub(back.welcomed_at.len()))),
            ("missed the change", number(connections.saturating_sub(clients.len()))),
            ("attempts repeated", number(usize::try_from(back.again).expect("few"))),
        ],
    )
}

/// One of three is restarted, as in a rollout, while others ask through a balancer.
pub async fn rolling(connections: usize, place: Place, name: &'static str) -> Row {
    const DRAIN: &[(&str, &str)] = &[("PERMCAST_DRAIN_DELAY", "1s"), ("PERMCAST_DRAIN_SPREAD", "5s")];
    let nats = Process::nats(place.folder.path()).await;
    let url = format!("nats://{}", nats.also.expect("it has one"));
    let mut a = Process::permcast(&place, "a", Some(&url), DRAIN).await;
    let b = Process::permcast(&place, "b", Some(&url), DRAIN).await;
    let c = Process::permcast(&place, "c", Some(&url), DRAIN).await;
    let servers = vec![a.address, b.address, c.address];
    let subject = Subject::seeded(c, &place, connections).await;
    let mut worker = Worker::with(&place.tokens()).await;
    worker.ask::<Opened>(&opening(subject.speech, servers.clone(), true, connections)).await;
    let tokens: Vec<Tokens> = serde_json::from_slice(&std::fs::read(place.tokens()).unwrap()).unwrap();
    let balancer = Balancer::new(servers);
    let (over, mut asking) = (tokio_util::sync::CancellationToken::new(), tokio::task::JoinSet::new());
    for tokens in tokens.into_iter().take(8) {
        asking.spawn(std::sync::Arc::clone(&balancer).ask(tokens.access, over.clone()));
    }
    let begun = now();
    a.end().await;
    let ended = now();
    let moved = connections.div_ceil(3);
    let back: Opened = worker.ask(&Ask::Back { want: moved, within_ms: 60_000 }).await;
    let anew = Process::permcast(&place, "a", Some(&url), DRAIN).await;
    let stand: Stand = worker.ask(&Ask::Stand).await;
    over.cancel();
    let (mut asked, mut failed) = (0, 0);
    while let Some(one) = asking.join_next().await {
        let (good, bad) = one.unwrap();
        (asked, failed) = (asked + good + bad, failed + bad);
    }
    drop((anew, b, subject));
    let last = back.welcomed_at.iter().max().copied().unwrap_or_default();
    Row::new(
        "one of three replicas is restarted",
        name,
        &[
            ("clients moved", number(back.welcomed_at.len())),
            ("until all are live ms", millis(last.saturating_sub(begun))),
            ("until it had ended ms", millis(ended - begun)),
            ("not live", number(connections.saturating_sub(stand.live))),
            ("requests", number(asked)),
            ("failed", number(failed)),
        ],
    )
}

/// Gives requests to those replicas that say that they are ready.
struct Balancer {
    http: reqwest::Client,
    ready: std::sync::Mutex<Vec<SocketAddr>>,
}

impl Balancer {
    fn new(servers: Vec<SocketAddr>) -> std::sync::Arc<Self> {
        let balancer =
            std::sync::Arc::new(Self { http: reqwest::Client::new(), ready: std::sync::Mutex::new(servers.clone()) });
        let looking = std::sync::Arc::downgrade(&balancer);
        tokio::spawn(async move {
            while let Some(balancer) = looking.upgrade() {
                let mut ready = Vec::new();
                for server in &servers {
                    let answer = balancer.http.get(format!("http://{server}/readyz")).send().await;
                    ready.extend(answer.is_ok_and(|answer| answer.status().is_success()).then_some(*server));
                }
                *balancer.ready.lock().unwrap() = ready;
                drop(balancer);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        balancer
    }

    /// Asks without a pause until it is over; how often that went well, and how often not.
    async fn ask(
        self: std::sync::Arc<Self>,
        token: String,
        over: tokio_util::sync::CancellationToken,
    ) -> (usize, usize) {
        let (mut good, mut bad) = (0, 0);
        while !over.is_cancelled() {
            let ready = self.ready.lock().unwrap().clone();
            let server = ready[(good + bad) % ready.len()];
            let answer = self.http.get(format!("http://{server}/v1/me")).bearer_auth(&token).send().await;
            match answer {
                Ok(answer) if answer.status() == 200 => good += 1,
                other => {
                    eprintln!("a request failed: {other:?}");
                    bad += 1;
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (good, bad)
    }
}

/// Server-sent events.
pub async fn events(connections: usize) -> Vec<Row> {
    let place = Place::new();
    let mut subject = Subject::permcast(&place, connections, &[]).await;
    subject.speech = super::ask::Speech::Events;
    subject.name = "events";
    let mut worker = Worker::with(&place.tokens()).await;
    let empty = subject.process.memory();
    let memory = load::memory(&subject, &mut worker, connections).await;
    let mut rows = vec![memory];
    rows.extend(load::fan_out(&mut subject, &mut worker, connections, 3, empty).await);
    rows
}
