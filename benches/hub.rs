//! What the hub costs: registering, telling one user, telling a role that all connections rest on.
//!
//! `cargo bench --bench hub`. No sockets: what real ones cost, `benches/push` measures.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

use permcast::domain::pace::Rate;
use permcast::domain::{
    Change, Effect, Floors, RoleName, Seq, SessionId, Stamp, Target, TenantName, Timestamp, UserId,
};
use permcast::hub::{Connection, Footing, Holder, Hub, Limits, Sleeper};
use permcast::runtime::SystemClock;

const ROUNDS: u64 = 201;

/// Memory of this process that is its own, in bytes.
fn memory() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let field = |at| pages.split(' ').nth(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    (field(1) - field(2)) * 4096
}

/// The middle of what was measured, in microseconds, and the 99th part.
fn quantiles(mut nanos: Vec<u128>) -> (f64, f64) {
    nanos.sort_unstable();
    let at = |part: usize| nanos[(nanos.len() - 1) * part / 100] as f64 / 1000.0;
    (at(50), at(99))
}

fn measure(name: &str, mut round: impl FnMut(u64)) {
    let mut nanos = Vec::new();
    for number in 0..ROUNDS {
        let begun = Instant::now();
        round(number);
        nanos.push(begun.elapsed().as_nanos());
    }
    let (p50, p99) = quantiles(nanos);
    println!("  {name:<44} p50 {p50:>9.1} µs   p99 {p99:>9.1} µs");
}

fn main() {
    let tenant: TenantName = "acme".parse().expect("a name");
    let roles: Vec<RoleName> =
        ["viewer", "editor", "billing", "admin", "all"].map(|r| r.parse().expect("a name")).into();
    for connections in [1_000u64, 10_000, 100_000] {
        println!("{connections} connections, each of a user of its own with 5 roles");
        let floors = Arc::new(Floors::new(1, 2_000_000));
        let handshakes = Rate::per_second(u32::MAX);
        let limits = Limits { total: usize::MAX, per_tenant: usize::MAX, handshakes, ..Limits::default() };
        let hub = Hub::new(Arc::clone(&floors), Arc::new(SystemClock), limits);
        let user = |number: u64| -> UserId { format!("user-{number}").parse().expect("a name") };
        let (before, begun) = (memory(), Instant::now());
        let all: Vec<Connection> = (0..connections)
            .map(|number| {
                let session = SessionId::from_random(u128::from(number).to_le_bytes());
                let stamp = Stamp::new(1, Seq::ZERO);
                let footing = Footing::fat(&floors, &session, stamp, &roles, false);
                let seat = hub.admit([127, 0, 0, 1].into()).expect("there is room");
                let holder = Holder { tenant: tenant.clone(), user: user(number) };
                hub.register(seat, &holder, footing).expect("there is room")
            })
            .collect();
        let micros = begun.elapsed().as_micros() as f64 / connections as f64;
        let bytes = memory().saturating_sub(before) / connections;
        println!("  registering one: {micros:.2} µs; each holds {bytes} bytes");
        let mut seq = 0;
        let mut tell = |target: Target| {
            seq += 1;
            let seq = Seq::new(seq).expect("a small number");
            hub.tell(&[Change { seq, at: Timestamp::default(), target, effect: Effect::Changed }], 1);
        };
        measure("telling one user", |number| {
            tell(Target::User { tenant: tenant.clone(), user: user(number) });
        });
        measure("telling a role that nobody here has", |_| {
            tell(Target::Role { tenant: tenant.clone(), role: "nobody".parse().expect("a name") });
        });
        measure("telling a role that all have", |_| {
            tell(Target::Role { tenant: tenant.clone(), role: roles[4].clone() });
        });
        let told = all
            .iter()
            .filter(|connection| matches!(connection.poll_mail(Sleeper::Task(Waker::noop())), Poll::Ready(_)))
            .count();
        assert_eq!(told as u64, connections, "all were told");
        let begun = Instant::now();
        drop(all);
        println!("  taking one out: {:.2} µs", begun.elapsed().as_micros() as f64 / connections as f64);
    }
}
