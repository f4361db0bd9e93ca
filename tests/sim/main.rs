//! The guarantee in a simulator: many replicas on virtual time, every choice from one seed. Three of them, and with
//! `PERMCAST_SIM_REPLICAS` (beside `PERMCAST_SIM_SCHEDULES`, `PERMCAST_SIM_SEED`) any number.
//!
//! Real in it: `feed::state`, `domain::{Floors, Applied}`, the hub and its mailboxes. Modelled, as `feed::task`, `cache` and
//! `token::sessions` do it: the driving of the feed, the cache's entries of users and roles, the making of tokens from what
//! was found fresh or is read at several moments. The database is the truth: a log, and what it speaks of.
//!
//! Faults: hints lost, doubled, late by longer than any token lives, of another epoch, untrue at a position of this log;
//! replicas that are heard by nobody or hear nobody; reads of the log slow, failing, cut
//! into pages; an older copy in the database's place before one replica or before all, a restore; rows missing in the log; replicas that crash, start late,
//! stop for a while, are cut off; writes past every replica; floors at their hard cap.
//!
//! Oracles: nothing that an applied change touched passes; nothing that a change older than the bound touched passes on a
//! replica within it; positions, horizon and staleness never go back; after the faults all come to the head and every
//! stale connection was told; floors stay within their limit. What was read is known from the database, not from stamps.
//!
//! Not modelled: threads (a replica does one thing at a time), the socket's states and refreshes in place, thin
//! connections, single-flight loads, expiring grants, keys and lockdown, forged messages (the seal stops them before the
//! feed), a copy that is younger than everything known here (the file's identity tells that one), what a replica makes between something untrue that it
//! heard and its next read of the log, the loss of what no replica
//! has read yet, be it known to some by a hint.

#![allow(clippy::unwrap_used)]

mod database;
mod mutants;
mod replica;
mod rng;
mod schedule;
mod world;

use mutants::{ALL, Mutant};

const SCHEDULES: u64 = 10_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Plays one seed; where it fails says how to play it again, and what of it is enough.
fn prove(seed: u64) {
    let (steps, floors_max) = schedule::draw(seed);
    if let Err(why) = schedule::play(&steps, floors_max, None) {
        let fewer = schedule::shrink(steps, floors_max, None);
        let still = schedule::play(&fewer, floors_max, None).unwrap_err();
        let schedule = fewer.iter().map(|step| format!("  {step:?}")).collect::<Vec<_>>().join("\n");
        panic!(
            "{why}\nPERMCAST_SIM_SEED={seed} cargo nextest run --test sim no_schedule\n\
             shrunk to {} steps, at most {floors_max} floors:\n{schedule}\n{still}",
            fewer.len()
        );
    }
}

#[test]
fn no_schedule_breaks_the_guarantee() {
    if let Some(seed) = number("PERMCAST_SIM_SEED") {
        return prove(seed);
    }
    (0..number("PERMCAST_SIM_SCHEDULES").unwrap_or(SCHEDULES)).for_each(prove);
}

#[test]
fn seeds_that_once_failed_do_not_fail_again() {
    let seeds = include_str!("seeds.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    seeds.for_each(|line| prove(line.split_whitespace().next().unwrap().parse().unwrap()));
}

fn first_caught(mutant: Mutant) -> Option<(u64, String)> {
    (0..SCHEDULES).find_map(|seed| {
        let (steps, floors_max) = schedule::draw(seed);
        schedule::play(&steps, floors_max, Some(mutant)).err().map(|why| (seed, why))
    })
}

#[test]
fn every_deliberate_bug_is_caught() {
    let mut missed = Vec::new();
    for &mutant in ALL {
        match first_caught(mutant) {
            Some((seed, why)) => println!("{mutant:?}: seed {seed}, {why}"),
            None => missed.push(mutant),
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
