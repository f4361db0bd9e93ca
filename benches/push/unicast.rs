//! One user's change to his tab, beside thousands that it does not concern.

use std::collections::HashMap;
use std::time::Duration;

use super::ask::{Ask, Told};
use super::clock::{millis, now};
use super::http::Http;
use super::load;
use super::process::Worker;
use super::report::{Row, quantile};
use super::subject::{Subject, Way, message};

/// Administrators at work.
const AT_ONCE: usize = 32;
/// Rounds; of each, the times of all changes are remembered by the replica.
const ROUNDS: usize = 3;

/// A change on its way: when it was sent, and which.
struct Sent {
    at: u64,
    seq: u64,
}

/// Changes at an even pace, each of another user.
pub async fn run(
    subject: &mut Subject,
    worker: &mut Worker,
    connections: usize,
    per_second: u32,
    changes: usize,
) -> Row {
    load::open(subject, worker, connections, Some(4_000)).await;
    let (mut whole, mut committed) = (Vec::new(), Vec::new());
    let mut lost = 0;
    for round in 0..ROUNDS {
        worker.ask::<Told>(&Ask::Told { want: 0, within_ms: 0 }).await;
        let first = round * changes;
        let sent = match &subject.way {
            Way::Permcast { operator, .. } => {
                let part = |part| edit(subject, operator, first, part, changes, connections, per_second);
                futures_util::future::join_all((0..AT_ONCE).map(part)).await.into_iter().flatten().collect::<Vec<_>>()
            }
            Way::Nats(client) => publish(client, first, changes, connections, per_second).await,
            Way::Bare => unreachable!("it knows no users"),
        };
        let Told(told) = worker.ask(&Ask::Told { want: changes, within_ms: 5_000 }).await;
        let at: HashMap<u64, u64> = told.into_iter().map(|(_, seq, at)| (seq, at)).collect();
        let commits = commits(subject, &sent).await;
        for Sent { at: begun, seq } in &sent {
            let Some(arrived) = at.get(seq) else {
                lost += 1;
                continue;
            };
            whole.push(arrived - begun);
            if let Some(commit) = commits.get(seq) {
                committed.push(arrived.saturating_sub(*commit));
            }
        }
    }
    let mut figures = vec![
        ("p50 ms", millis(quantile(&whole, 0.5))),
        ("p99 ms", millis(quantile(&whole, 0.99))),
        ("p99.9 ms", millis(quantile(&whole, 0.999))),
        ("lost", f64::from(lost)),
    ];
    if !committed.is_empty() {
        figures.push(("from the commit p50 ms", millis(quantile(&committed, 0.5))));
        figures.push(("p99 ms", millis(quantile(&committed, 0.99))));
        figures.push(("p99.9 ms", millis(quantile(&committed, 0.999))));
    }
    Row::new("one user's change to his tab", subject.name, &figures)
}

async fn until(at: u64) {
    // A timer wakes a millisecond late at the latest.
    while let Some(left) = at.checked_sub(now()) {
        tokio::time::sleep(Duration::from_nanos(left)).await;
    }
}

async fn edit(
    subject: &Subject,
    operator: &str,
    first: usize,
    part: usize,
    changes: usize,
    connections: usize,
    per_second: u32,
) -> Vec<Sent> {
    let mut http = Http::new(subject.process.address);
    let begun = now();
    let mut sent = Vec::new();
    for number in (part..changes).step_by(AT_ONCE) {
        until(begun + number as u64 * 1_000_000_000 / u64::from(per_second)).await;
        let user = (first + number) % connections;
        let path = format!("/v1/tenants/default/users/u{user}/permissions/invoices:{}", (first + number) / connections);
        let at = now();
        let answer = http.json("PUT", &path, operator, None).await.ok().json();
        sent.push(Sent { at, seq: answer["change"]["seq"].as_u64().expect("it is a change") });
    }
    sent
}

async fn publish(
    client: &async_nats::Client,
    first: usize,
    changes: usize,
    connections: usize,
    per_second: u32,
) -> Vec<Sent> {
    let begun = now();
    let mut sent = Vec::new();
    for number in 0..changes {
        until(begun + number as u64 * 1_000_000_000 / u64::from(per_second)).await;
        let seq = (first + number) as u64;
        sent.push(Sent { at: now(), seq });
        client.publish(format!("u.{}", (first + number) % connections), message(seq).into()).await.unwrap();
    }
    sent
}

/// When each was committed, where the program can say it.
async fn commits(subject: &mut Subject, sent: &[Sent]) -> HashMap<u64, u64> {
    let seqs = || sent.iter().map(|sent| sent.seq);
    let (Way::Permcast { .. }, Some(first), Some(last)) = (&subject.way, seqs().min(), seqs().max()) else {
        return HashMap::new();
    };
    let line = subject.process.hear(&format!("{first} {last}")).await;
    let learnt: Vec<Option<u64>> = serde_json::from_str(&line).unwrap();
    (first..=last).zip(learnt).filter_map(|(seq, at)| Some((seq, at?))).collect()
}
