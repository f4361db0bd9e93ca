//! The floors under every order of a writer's and a reader's steps.

use std::sync::Arc;

use loom::thread;

use super::super::change::Effect;
use super::super::sync::{explore, explore_weakened};
use super::super::version::Epoch;
use super::super::{Applied, Timestamp};
use super::*;

fn stamp(seq: u64) -> Stamp {
    Stamp::new(1, Seq::new(seq).unwrap())
}

fn tenant() -> TenantName {
    TenantName::first()
}

fn user(name: &str) -> UserId {
    name.parse().unwrap()
}

fn touch(seq: u64, name: &str) -> Change {
    Change {
        seq: Seq::new(seq).unwrap(),
        at: Timestamp::from_millis(0),
        target: Target::User { tenant: tenant(), user: user(name) },
        effect: Effect::Changed,
    }
}

fn epoch(text: &str) -> Epoch {
    text.parse().unwrap()
}

/// The feed's and everybody's view of one replica, with these users touched already.
fn replica(entries_max: usize, touched: &[&str]) -> (Arc<Floors>, Arc<Applied>) {
    let floors = Arc::new(Floors::new(7, entries_max));
    for (seq, name) in (1..).zip(touched) {
        assert!(floors.raise(&touch(seq, name), 1).is_empty());
    }
    let applied = Arc::new(Applied::new(epoch("aaaaaaaa")));
    applied.advance(Seq::new(touched.len() as u64).unwrap());
    (floors, applied)
}

fn basis(floors: &Floors, at: Stamp, name: &str) -> Basis {
    floors.entry_basis(at, &tenant(), Some(&user(name)), [].into_iter())
}

fn raise_beside_a_reader() {
    let (floors, applied) = replica(100, &[]);
    let feed = thread::spawn({
        let (floors, applied) = (Arc::clone(&floors), Arc::clone(&applied));
        move || {
            let _ = floors.raise(&touch(1, "ben"), 1);
            applied.advance(Seq::new(1).unwrap());
        }
    });
    let old = basis(&floors, Stamp::NEVER, "ben");
    let applied_before = applied.stamp() >= stamp(1);
    let fresh = floors.is_fresh(&old);
    assert!(!(applied_before && fresh), "applied, and yet what is older is believed");
    assert!(fresh || !floors.is_fresh(&old), "stale once, and fresh again");
    feed.join().unwrap();
}

#[test]
fn who_sees_a_position_applied_sees_its_floors() {
    explore(raise_beside_a_reader);
}

#[test]
#[should_panic(expected = "applied, and yet what is older is believed")]
fn the_model_of_a_raise_bites() {
    explore_weakened(raise_beside_a_reader);
}

/// Without `applied`, which orders all by itself: the tenant's word alone must lead to the floor.
fn moved_before_the_floor() {
    let (floors, _) = replica(100, &[]);
    let old = basis(&floors, Stamp::NEVER, "ben");
    let feed = thread::spawn({
        let floors = Arc::clone(&floors);
        move || drop(floors.raise(&touch(1, "ben"), 1))
    });
    if old.tenant.moved.get() >= stamp(1) {
        assert_ne!(floors.freshness(&old), Freshness::Fresh, "something moved, and what is not to be seen");
    }
    feed.join().unwrap();
}

#[test]
fn who_sees_that_something_moved_sees_what() {
    explore(moved_before_the_floor);
}

#[test]
#[should_panic(expected = "something moved, and what is not to be seen")]
fn the_model_of_what_moved_bites() {
    explore_weakened(moved_before_the_floor);
}

/// The fourth name makes the table grow.
fn growth_beside_a_reader() {
    let (floors, applied) = replica(100, &["ada", "eve", "joe"]);
    let (first, fourth) = (basis(&floors, Stamp::NEVER, "ada"), basis(&floors, stamp(3), "ben"));
    let slots = first.tenant.items.load_full().slots.len();
    let feed = thread::spawn({
        let (floors, applied) = (Arc::clone(&floors), Arc::clone(&applied));
        move || {
            let _ = floors.raise(&touch(4, "ben"), 1);
            applied.advance(Seq::new(4).unwrap());
        }
    });
    let applied_before = applied.stamp() >= stamp(4);
    assert!(!floors.is_fresh(&first), "a floor is lost while the table grows");
    assert!(!(applied_before && floors.is_fresh(&fourth)), "the floor that made it grow is lost");
    feed.join().unwrap();
    assert!(first.tenant.items.load_full().slots.len() > slots, "the model no longer makes the table grow");
}

#[test]
fn a_growing_table_loses_nothing() {
    explore(growth_beside_a_reader);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn the_model_of_growth_bites() {
    explore_weakened(growth_beside_a_reader);
}

fn folding_beside_a_reader() {
    let (floors, _) = replica(100, &["ada", "ben"]);
    let (folded, kept) = (basis(&floors, Stamp::NEVER, "ada"), basis(&floors, stamp(1), "ben"));
    let feed = thread::spawn({
        let floors = Arc::clone(&floors);
        move || floors.fold(stamp(1))
    });
    assert!(!floors.is_fresh(&folded), "what is folded away is believed again");
    assert!(!floors.is_fresh(&kept), "what is above the horizon is believed again");
    feed.join().unwrap();
    assert_eq!(floors.len(), 1, "the model no longer folds");
}

#[test]
fn folding_makes_nothing_fresh() {
    explore(folding_beside_a_reader);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn the_model_of_folding_bites() {
    explore_weakened(folding_beside_a_reader);
}

/// There is room for two names: the third folds the tenant.
#[test]
fn a_tenant_that_is_folded_stays_stale() {
    explore(|| {
        let (floors, _) = replica(3, &["ada", "eve"]);
        let old = basis(&floors, Stamp::NEVER, "ada");
        let feed = thread::spawn({
            let floors = Arc::clone(&floors);
            move || assert_eq!(floors.raise(&touch(3, "ben"), 1).len(), 1, "the model no longer folds")
        });
        assert!(!floors.is_fresh(&old));
        feed.join().unwrap();
    });
}

fn epoch_beside_a_reader() {
    let (floors, applied) = replica(100, &["ada"]);
    let feed = thread::spawn({
        let (floors, applied) = (Arc::clone(&floors), Arc::clone(&applied));
        move || {
            floors.begin_epoch(applied.next_generation());
            applied.begin_epoch(epoch("bbbbbbbb"));
        }
    });
    let old = basis(&floors, stamp(9), "ben");
    let begun = applied.generation() == 2;
    assert!(!(begun && floors.is_fresh(&old)), "the former epoch is believed in the next");
    let version = applied.version();
    assert_eq!(version.seq.get() == 1, version.epoch == epoch("aaaaaaaa"), "epoch and position of two epochs");
    feed.join().unwrap();
}

#[test]
fn who_sees_the_next_epoch_believes_nothing_of_the_last() {
    explore(epoch_beside_a_reader);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn the_model_of_epochs_bites() {
    explore_weakened(epoch_beside_a_reader);
}
