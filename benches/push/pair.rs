//! Two replicas: as many connections as a machine's limits let two processes carry, and the death of one of them.

use std::time::Duration;

use super::ask::{Ask, Opened, Told};
use super::clock::{millis, now};
use super::load;
use super::process::{Process, Worker};
use super::report::{Row, quantile};
use super::subject::{Place, Subject};

/// Both over one database, with a broker between them.
async fn both(place: &Place, users: usize) -> (Process, Subject, Process) {
    let nats = Process::nats(place.folder.path()).await;
    let url = format!("nats://{}", nats.also.expect("it has one"));
    let database = place.database();
    let a = Process::permcast(&database, "a", Some(&url), &[]).await;
    let b = Process::permcast(&database, "b", Some(&url), &[]).await;
    (nats, Subject::seeded(a, place, users).await, b)
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("connections of one machine"))
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
        let ask = Ask::Open {
            speech: a.speech,
            servers: vec![server],
            from: 0,
            count: half,
            per_second: Some(4_000),
            in_flight: 1_500,
            within_ms: 60_000,
        };
        welcome += worker.ask::<Opened>(&ask).await.welcomed_at.len();
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
    let ask = Ask::Open {
        speech: a.speech,
        servers: vec![a.process.address, b.address],
        from: 0,
        count: connections,
        per_second: Some(4_000),
        in_flight: 1_500,
        within_ms: 60_000,
    };
    worker.ask::<Opened>(&ask).await;
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
