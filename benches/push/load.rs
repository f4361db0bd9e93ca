//! The loads: each takes a program, and answers figures.

use std::time::Duration;

use super::ask::{Ask, Opened, Refreshed, Stand, Told};
use super::clock::{millis, now};
use super::probe;
use super::process::Worker;
use super::report::{Row, quantile};
use super::subject::{Subject, Way};

/// For what has to come to rest: buffers that are given back, connections whose end is noticed.
const REST: Duration = Duration::from_secs(2);
/// Who is not welcome, told or fresh by then never is; it is counted as lost.
const WITHIN_MS: u64 = 60_000;

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn float(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn count(number: usize) -> f64 {
    number as f64
}

fn each(before: u64, after: u64, connections: usize) -> f64 {
    (float(after) - float(before)) / count(connections)
}

pub async fn open(subject: &Subject, worker: &mut Worker, connections: usize, per_second: Option<u32>) -> Opened {
    let ask = Ask::Open {
        speech: subject.speech,
        servers: vec![subject.process.address],
        spread: false,
        from: 0,
        count: connections,
        per_second,
        // What the kernel's queue of half-open connections holds (tcp_max_syn_backlog): beyond it, it drops, and a second is
        // lost each time.
        in_flight: 1_500,
        within_ms: WITHIN_MS,
    };
    worker.ask(&ask).await
}

/// Memory a connection, as they come evenly.
pub async fn memory(subject: &Subject, worker: &mut Worker, connections: usize) -> Row {
    tokio::time::sleep(REST).await;
    let before = subject.process.memory();
    let opened = open(subject, worker, connections, Some(4_000)).await;
    tokio::time::sleep(REST).await;
    let after = subject.process.memory();
    Row::new(
        "memory",
        subject.name,
        &[
            ("connections", count(opened.welcomed_at.len())),
            ("bytes a connection", each(before, after, connections)),
            ("total MB", float(after) / 1e6),
        ],
    )
}

/// All are told, so many times; and what that leaves in memory.
pub async fn fan_out(
    subject: &mut Subject,
    worker: &mut Worker,
    connections: usize,
    rounds: usize,
    empty: u64,
) -> Vec<Row> {
    let mut rows = Vec::new();
    let want = Ask::Told { want: connections, within_ms: 10_000 };
    for _ in 0..rounds {
        let busy = subject.process.busy();
        let begun = now();
        let (Told(told), ()) = tokio::join!(worker.ask::<Told>(&want), subject.tell_all());
        let at: Vec<u64> = told.iter().map(|(_, _, at)| at.saturating_sub(begun)).collect();
        let last = at.iter().copied().max().unwrap_or_default().max(1);
        tokio::time::sleep(Duration::from_millis(300)).await;
        rows.push(Row::new(
            "fan-out of one role edit",
            subject.name,
            &[
                ("first ms", millis(at.iter().copied().min().unwrap_or_default())),
                ("p50 ms", millis(quantile(&at, 0.5))),
                ("p99 ms", millis(quantile(&at, 0.99))),
                ("last ms", millis(last)),
                ("messages/s", count(told.len()) * 1e9 / float(last)),
                ("CPU µs a message", float(subject.process.busy() - busy) / 1e3 / count(connections)),
                ("lost", count(connections.saturating_sub(told.len()))),
            ],
        ));
    }
    tokio::time::sleep(REST).await;
    let left = Row::new(
        "memory after fan-outs",
        subject.name,
        &[("bytes a connection", each(empty, subject.process.memory(), connections))],
    );
    vec![Row::median(&rows), left]
}

/// All come back at once, then paced; and what decisions take meanwhile.
pub async fn storm(subject: &Subject, worker: &mut Worker, connections: usize, pace: u32) -> Vec<Row> {
    let mut rows = Vec::new();
    let quiet = probe::run(&subject.way, subject.process.address, tokio::time::sleep(Duration::from_secs(3))).await.1;
    for (measure, pace) in [("all come back at once", None), ("all come back, paced", Some(pace))] {
        worker.ask::<Stand>(&Ask::Drop).await;
        tokio::time::sleep(REST).await;
        let (opened, busy) =
            probe::run(&subject.way, subject.process.address, open(subject, worker, connections, pace)).await;
        let last = opened.welcomed_at.iter().max().copied().unwrap_or_default();
        let mut figures = vec![
            ("welcome/s", count(opened.welcomed_at.len()) * 1e9 / float(last.saturating_sub(opened.began).max(1))),
            ("p50 ms", millis(quantile(&opened.took, 0.5))),
            ("p99 ms", millis(quantile(&opened.took, 0.99))),
            ("attempts repeated", float(opened.again)),
            ("lost", count(connections.saturating_sub(opened.welcomed_at.len()))),
        ];
        if !quiet.is_empty() {
            figures.push(("decisions p99 ms", millis(quantile(&busy, 0.99))));
            figures.push(("quiet p99 ms", millis(quantile(&quiet, 0.99))));
        }
        rows.push(Row::new(measure, subject.name, &figures));
    }
    rows
}

/// A role edit, after which every client comes for a fresh token as it was told to.
pub async fn herd(subject: &mut Subject, worker: &mut Worker, connections: usize) -> Row {
    let budget = probe::budget(subject.process.address).await;
    worker.ask::<Told>(&Ask::Told { want: 0, within_ms: 0 }).await;
    worker.ask::<bool>(&Ask::Act(true)).await;
    let begun = now();
    subject.tell_all().await;
    let refreshed: Refreshed = worker.ask(&Ask::Refreshed { want: connections, within_ms: 4 * WITHIN_MS }).await;
    worker.ask::<bool>(&Ask::Act(false)).await;
    let mut answered = refreshed.answered_at;
    answered.sort_unstable();
    // The most in any second.
    let mut first = 0;
    let peak = (0..answered.len()).map(|last| {
        while answered[last] - answered[first] >= 1_000_000_000 {
            first += 1;
        }
        last + 1 - first
    });
    let peak = count(peak.max().unwrap_or_default());
    let last = refreshed.fresh_at.iter().max().copied().unwrap_or_default();
    Row::new(
        "role edit until all tokens are fresh",
        subject.name,
        &[
            ("seconds", millis(last.saturating_sub(begun)) / 1e3),
            ("by the budget", count(connections) / budget),
            ("peak/s", peak),
            ("budget/s", budget),
            ("answered 429", float(refreshed.busy)),
            ("lost", count(connections.saturating_sub(refreshed.fresh_at.len()))),
        ],
    )
}

/// Many connections to which nothing happens but heartbeats.
pub async fn idle(subject: &Subject, worker: &mut Worker, connections: usize, seconds: u64) -> Vec<Row> {
    let memory = memory(subject, worker, connections).await;
    tokio::time::sleep(REST).await;
    let (busy, begun) = (subject.process.busy(), now());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let part = float(subject.process.busy() - busy) / float(now() - begun) * 100.0;
    let stand: Stand = worker.ask(&Ask::Stand).await;
    vec![memory, Row::new("idle", subject.name, &[("connections", count(stand.live)), ("CPU % of a core", part)])]
}

/// The operator's token and a client for requests.
pub fn operator(subject: &Subject) -> Option<&str> {
    match &subject.way {
        Way::Permcast { operator, .. } => Some(operator),
        _ => None,
    }
}
