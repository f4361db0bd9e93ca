//! `Floors::is_fresh`: what a decision costs, beside a plain concurrent map with string keys, in one run.
//!
//! `cargo bench --bench floors`

#![allow(clippy::unwrap_used, clippy::cast_precision_loss, missing_docs)]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use permcast::domain::{
    Basis, Change, Effect, Floors, RoleName, Seq, SessionId, Stamp, Target, TenantName, Timestamp, UserId,
};

const ROUNDS: usize = 7;
const USERS: u64 = 1_000_000;

fn user(number: u64) -> UserId {
    format!("user-{number}").parse().unwrap()
}

fn change(seq: u64, number: u64) -> Change {
    Change {
        seq: Seq::new(seq).unwrap(),
        at: Timestamp::from_millis(0),
        target: Target::User { tenant: TenantName::first(), user: user(number) },
        effect: Effect::Changed,
    }
}

fn roles() -> Vec<RoleName> {
    (0..5).map(|number| format!("role-{number}").parse().unwrap()).collect()
}

/// Snapshots of users spread over all there are, so that a look-up finds a cold line as it would in life.
fn snapshots(floors: &Floors, stamp: Stamp) -> Vec<Basis> {
    let roles = roles();
    let session = SessionId::from_random([1; 16]);
    (0..4096)
        .map(|i| floors.token_basis(stamp, &TenantName::first(), &user(USERS + i * 7919), &session, roles.iter()))
        .collect()
}

/// Nanoseconds a question: the median of some rounds.
fn measure(mut question: impl FnMut(usize) -> bool) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let (mut asked, begun) = (0usize, Instant::now());
            while begun.elapsed() < Duration::from_millis(200) {
                for _ in 0..1000 {
                    assert!(black_box(question(black_box(asked))), "every snapshot here is fresh");
                    asked += 1;
                }
            }
            begun.elapsed().as_nanos() as f64 / asked as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

fn with_floors(count: u64) -> (Floors, Vec<Basis>) {
    let floors = Floors::new(42, 2_000_000);
    for number in 0..count {
        assert!(floors.raise(&change(number + 1, number), 1).is_empty());
    }
    // Below the newest change, so that a close look is needed, and above nothing that it rests on.
    let stamp = Stamp::new(1, Seq::new(count.saturating_sub(1)).unwrap());
    let bases = snapshots(&floors, stamp);
    (floors, bases)
}

fn main() {
    println!("{:<58}{:>12}", "a decision's freshness: user, session, 5 roles", "ns, median");
    let (floors, bases) = with_floors(0);
    let quiet = measure(|i| floors.is_fresh(&bases[i % bases.len()]));
    println!("{:<58}{quiet:>12.1}", "nothing in the tenant has moved");
    for count in [10_000, USERS] {
        let (floors, bases) = with_floors(count);
        let one = measure(|i| floors.is_fresh(&bases[i % bases.len()]));
        println!("{:<58}{one:>12.1}", format!("{count} floors in the tenant, none of them its own"));
        let (beside, raises) = beside_a_writer(&floors, &bases, count);
        println!("{:<58}{beside:>12.1}", format!("  the same beside {raises:.0} raises a second"));
    }
    println!("{:<58}{:>12.1}", "floor: std RwLock<HashMap<String, u64>>, 1 million", string_map());
}

/// The same question while another thread raises 10,000 floors a second.
fn beside_a_writer(floors: &Floors, bases: &[Basis], count: u64) -> (f64, f64) {
    let (stop, raised) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let begun = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                let number = raised.fetch_add(1, Ordering::Relaxed);
                let _ = floors.raise(&change(count + 1 + number, number % count), 1);
                let due = Duration::from_micros(100 * (number + 1));
                std::thread::sleep(due.saturating_sub(begun.elapsed()));
            }
            raised.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
        });
        let nanos = measure(|i| floors.is_fresh(&bases[i % bases.len()]));
        stop.store(true, Ordering::Relaxed);
        (nanos, writer.join().unwrap())
    })
}

/// What a plain concurrent map with string keys takes for the same six look-ups.
fn string_map() -> f64 {
    let map: RwLock<HashMap<String, u64>> =
        RwLock::new((0..USERS).map(|number| (format!("default/user-{number}"), number)).collect());
    let users: Vec<String> = (0..4096).map(|i| format!("default/user-{}", (i * 7919) % USERS)).collect();
    let roles: Vec<String> = (0..5).map(|number| format!("default/role-{number}")).collect();
    measure(|i| {
        let map = map.read().unwrap();
        let floor = |name: &String| map.get(name).copied().unwrap_or_default();
        let highest = roles.iter().map(floor).max().unwrap_or_default().max(floor(&users[i % users.len()]));
        highest <= USERS
    })
}
