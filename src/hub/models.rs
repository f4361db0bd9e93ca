//! The hub under every order of the feed's and a connection's steps.

use std::sync::Arc;

use loom::thread;

use super::*;
use crate::domain::sync::explore;
use crate::domain::{Basis, Boottime, Change, Effect, RoleName, Seq, Target, Timestamp};

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::default()
    }
    fn boottime(&self) -> Boottime {
        Boottime::default()
    }
}

fn stamp(seq: u64) -> Stamp {
    Stamp::new(1, Seq::new(seq).unwrap())
}

fn holder() -> Holder {
    Holder { tenant: TenantName::first(), user: "ben".parse().unwrap() }
}

fn session() -> SessionId {
    SessionId::from_random([1; 16])
}

fn hub() -> Arc<Hub> {
    Hub::new(Arc::new(Floors::new(7, 100)), Arc::new(Still), Limits::default())
}

fn basis(hub: &Hub, at: u64, role: &RoleName) -> Basis {
    let Holder { tenant, user } = holder();
    hub.floors.token_basis(stamp(at), &tenant, &user, &session(), [role].into_iter())
}

fn footing(hub: &Hub, at: u64, role: &RoleName) -> Footing {
    Footing::fat(&hub.floors, &session(), stamp(at), [role], false)
}

fn register(hub: &Arc<Hub>, at: u64, role: &RoleName) -> Connection {
    let seat = hub.admit("192.0.2.1".parse().unwrap()).unwrap();
    hub.register(seat, &holder(), footing(hub, at, role)).unwrap()
}

/// What the feed does with a change.
fn apply(hub: &Hub, change: &Change) {
    let _ = hub.floors.raise(change, 1);
    hub.tell(std::slice::from_ref(change), 1);
}

fn change(seq: u64, target: Target, effect: Effect) -> Change {
    Change { seq: Seq::new(seq).unwrap(), at: Timestamp::default(), target, effect }
}

fn role_change(seq: u64, role: &RoleName) -> Change {
    change(seq, Target::Role { tenant: TenantName::first(), role: role.clone() }, Effect::Changed)
}

fn is_told(connection: &Connection) -> bool {
    connection.poll_mail(Sleeper::Task(std::task::Waker::noop())).is_ready()
}

fn change_beside(connect: impl Fn(&Arc<Hub>, &RoleName) -> (bool, Connection)) {
    let role: RoleName = "editor".parse().unwrap();
    let hub = hub();
    let feed = thread::spawn({
        let (hub, change) = (Arc::clone(&hub), role_change(2, &role));
        move || apply(&hub, &change)
    });
    let (fresh, connection) = connect(&hub, &role);
    feed.join().unwrap();
    assert!(!fresh || is_told(&connection), "a change between the two was seen by neither");
}

#[test]
fn who_registers_first_and_compares_second_misses_nothing() {
    explore(|| {
        change_beside(|hub, role| {
            let connection = register(hub, 1, role);
            (hub.floors.is_fresh(&basis(hub, 1, role)), connection)
        });
    });
}

#[test]
#[should_panic(expected = "a change between the two was seen by neither")]
fn who_compares_first_does() {
    explore(|| {
        change_beside(|hub, role| {
            let fresh = hub.floors.is_fresh(&basis(hub, 1, role));
            (fresh, register(hub, 1, role))
        });
    });
}

/// A refresh that brings other roles: the change is one of a role that only the new token has.
#[test]
fn who_moves_first_and_compares_second_misses_nothing() {
    explore(|| {
        change_beside(|hub, role| {
            let connection = register(hub, 1, &"viewer".parse().unwrap());
            connection.move_to(&holder().tenant, footing(hub, 1, role));
            (hub.floors.is_fresh(&basis(hub, 1, role)), connection)
        });
    });
}

/// A lockdown that begins while a connection comes: it is locked out, whichever is first.
#[test]
fn a_lockdown_meets_whoever_comes_meanwhile() {
    explore(|| {
        let hub = hub();
        let feed = thread::spawn({
            let hub = Arc::clone(&hub);
            move || {
                let since = Timestamp::default();
                hub.lockdown(Some(LockdownRecord { tenant: None, retry_after_s: 9, since, until: None }));
            }
        });
        let connection = register(&hub, 1, &"editor".parse().unwrap());
        feed.join().unwrap();
        assert!(connection.mailbox.is_locked());
    });
}
