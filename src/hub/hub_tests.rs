use std::task::Waker;

use proptest::prelude::*;

use super::*;
use crate::domain::floors::Folded;
use crate::domain::floors::Freshness;
use crate::domain::{Basis, Boottime, Change, Effect, RoleName, Seq, Target, Timestamp};

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(7)
    }
    fn boottime(&self) -> Boottime {
        Boottime::default()
    }
}

fn hub_with(limits: Limits) -> Arc<Hub> {
    Hub::new(Arc::new(Floors::new(1, 1000)), Arc::new(Still), limits)
}

fn hub() -> Arc<Hub> {
    hub_with(Limits::default())
}

fn stamp(seq: u64) -> Stamp {
    Stamp::new(1, Seq::new(seq).unwrap())
}

fn session(number: u8) -> SessionId {
    SessionId::from_random([number; 16])
}

fn holder(tenant: &str, user: &str) -> Holder {
    Holder { tenant: tenant.parse().unwrap(), user: user.parse().unwrap() }
}

fn role(name: &str) -> RoleName {
    name.parse().unwrap()
}

fn change(seq: u64, target: Target, effect: Effect) -> Change {
    Change { seq: Seq::new(seq).unwrap(), at: Timestamp::from_millis(5), target, effect }
}

fn user_change(seq: u64, user: &str) -> Change {
    let Holder { tenant, user } = holder("acme", user);
    change(seq, Target::User { tenant, user }, Effect::Changed)
}

fn role_change(seq: u64, name: &str) -> Change {
    change(seq, Target::Role { tenant: "acme".parse().unwrap(), role: role(name) }, Effect::Changed)
}

fn connect(hub: &Arc<Hub>, user: &str, token: u64, roles: &[&str]) -> Connection {
    let roles: Vec<RoleName> = roles.iter().map(|name| role(name)).collect();
    let footing = Footing::fat(&hub.floors, &session(1), stamp(token), &roles, false);
    let seat = hub.admit("192.0.2.1".parse().unwrap()).unwrap();
    hub.register(seat, &holder("acme", user), footing).unwrap()
}

fn mail(connection: &Connection) -> Mail {
    match connection.poll_mail(Sleeper::Task(Waker::noop())) {
        Poll::Ready(mail) => mail,
        Poll::Pending => Mail::default(),
    }
}

#[test]
fn the_delay_is_the_number_of_own_connections_by_our_share_of_the_budget() {
    let hub = hub();
    hub.set_refresh_budget(100);
    hub.set_live_replicas(2);
    let connections: Vec<_> = (0..10).map(|n| connect(&hub, &format!("u{n}"), 1, &["a", "b"])).collect();
    // Two changes, ten connections touched by both, one of them by a change of its own.
    hub.tell(&[role_change(2, "a"), role_change(3, "b"), user_change(4, "u0")], 1);
    let notices: Vec<Notice> = connections.iter().map(|connection| mail(connection).notice.unwrap()).collect();
    assert_eq!(notices[0].refresh_within, Duration::ZERO, "his own change alone could not wait either");
    assert_eq!((notices[0].stamp, notices[0].reason), (stamp(4), Reason::Role));
    assert_eq!((notices[1].stamp, notices[1].refresh_within), (stamp(3), Duration::from_millis(200)));
    hub.tell(&[user_change(5, "u1")], 1);
    assert_eq!(mail(&connections[1]).notice.unwrap().refresh_within, Duration::ZERO);
}

#[test]
fn what_a_client_knows_is_seen_from_outside() {
    let hub = hub();
    let told = |name: &str| {
        let seen = (0..64).filter_map(|number| hub.some(number)).find(|seen| seen.holder.user.as_str() == name);
        let seen = seen.expect("it is registered, so that some number finds it");
        (hub.told(&seen), seen)
    };
    assert!(hub.some(5).is_none());
    let (ben, cleo) = (connect(&hub, "ben", 5, &["a"]), connect(&hub, "cleo", 5, &["a"]));
    assert_eq!((told("ben").0, told("cleo").0), (Told::Nothing, Told::Nothing));
    hub.tell(&[user_change(6, "ben")], 1);
    assert_eq!((told("ben").0, told("cleo").0), (Told::Of, Told::Nothing));
    mail(&ben);
    let (known, before) = told("ben");
    assert_eq!(known, Told::Of, "also while the frame is on its way");
    let acme = "acme".parse().unwrap();
    ben.move_to(&acme, Footing::fat(&hub.floors, &session(1), stamp(6), &[role("a")], false));
    assert_eq!((hub.told(&before), told("ben").0), (Told::Gone, Told::Nothing));
    let Holder { tenant, user } = holder("acme", "cleo");
    hub.tell(&[change(7, Target::Session { tenant, user, session: session(1) }, Effect::SignedOut)], 1);
    mail(&cleo);
    assert_eq!(told("cleo").0, Told::Of, "an end is to know something");
}

#[test]
fn the_frame_of_a_wide_change_is_built_once() {
    let hub = hub();
    let (a, b) = (connect(&hub, "ben", 1, &["a"]), connect(&hub, "cleo", 1, &["a"]));
    hub.tell(&[role_change(2, "a")], 1);
    let (a, b) = (mail(&a).notice.unwrap(), mail(&b).notice.unwrap());
    let frame = hub.frame(a, || "frame".into());
    assert_eq!(hub.frame(b, || panic!("built twice")), frame);
}

#[test]
fn the_oldest_connection_of_a_user_gives_way() {
    let hub = hub_with(Limits { per_user: 2, ..Limits::default() });
    let first = connect(&hub, "ben", 1, &["a"]);
    let second = connect(&hub, "ben", 1, &["a"]);
    let other = connect(&hub, "cleo", 1, &["a"]);
    let third = connect(&hub, "ben", 1, &["a"]);
    assert!(mail(&first).displaced);
    assert!([&second, &other, &third].iter().all(|connection| mail(connection).is_empty()));
    // The fourth takes the place of the first in the table: the first's end must not take it out.
    let fourth = connect(&hub, "ben", 1, &["a"]);
    assert!(mail(&second).displaced);
    drop(first);
    hub.tell(&[role_change(2, "a")], 1);
    assert!([&other, &third, &fourth].iter().all(|connection| mail(connection).notice.is_some()));
}

#[test]
fn nothing_is_left_of_connections_that_are_gone() {
    let hub = hub();
    let connections: Vec<_> = (0..50).map(|n| connect(&hub, &format!("u{}", n % 7), 1, &["a", "b"])).collect();
    let acme = "acme".parse().unwrap();
    connections[3].move_to(&acme, Footing::fat(&hub.floors, &session(1), stamp(1), &[role("c")], false));
    assert_eq!(hub.totals(), Totals { connections: 50, registered: 50, addresses: 1, tenants: 1 });
    let user = "u3".parse().unwrap();
    assert!(hub.connected(&acme, &user, &session(1)));
    assert!(!hub.connected(&acme, &user, &session(2)));
    drop(connections);
    assert!(!hub.connected(&acme, &user, &session(1)));
    assert_eq!(hub.totals(), Totals::default());
    assert!(hub.shards.iter().all(|shard| lock(shard).keys() == 0));
}

#[test]
fn a_lockdown_shuts_out_all_but_operators() {
    let hub = hub();
    let record = |tenant: Option<&str>| {
        let tenant = tenant.map(|name| name.parse().unwrap());
        Some(LockdownRecord { tenant, retry_after_s: 30, since: Timestamp::default(), until: None })
    };
    let ben = connect(&hub, "ben", 1, &[]);
    let seat = hub.admit("192.0.2.1".parse().unwrap()).unwrap();
    let operator = Footing::fat(&hub.floors, &session(2), stamp(1), &[], true);
    let ada = hub.register(seat, &holder("acme", "ada"), operator).unwrap();
    hub.lockdown(record(Some("other")));
    assert_eq!((mail(&ben), mail(&ada)), (Mail::default(), Mail::default()));
    hub.lockdown(record(None));
    assert_eq!(mail(&ben).lock, Some(Lock::Locked { retry_after_s: 30 }));
    assert_eq!(mail(&ada), Mail::default());
    let late = connect(&hub, "cleo", 1, &[]);
    assert_eq!(mail(&late).lock, Some(Lock::Locked { retry_after_s: 30 }), "one that comes meanwhile");
    hub.set_refresh_budget(10);
    hub.lockdown(None);
    assert_eq!(mail(&ben).lock, Some(Lock::Open { within: Duration::from_millis(200) }));
    assert_eq!(mail(&ada), Mail::default());
}

#[test]
fn a_change_is_answered_for() {
    let hub = hub();
    let (ben, cleo) = (connect(&hub, "ben", 1, &["a"]), connect(&hub, "cleo", 1, &["a"]));
    let counts = |seq| {
        let receipt = hub.receipt(stamp(seq));
        (receipt.affected, receipt.notified, receipt.refreshed)
    };
    hub.tell(&[role_change(3, "a")], 1);
    hub.tell(&[role_change(3, "a")], 1);
    assert_eq!(counts(3), (2, 0, 0), "told twice, counted once");
    ben.told(stamp(3));
    assert_eq!(counts(3), (2, 1, 0));
    hub.tell(&[user_change(2, "ben")], 1);
    assert_eq!(counts(2), (1, 1, 0), "a late one is covered by what was told");
    ben.settled(stamp(3));
    cleo.settled(stamp(3));
    assert_eq!((counts(3), counts(2)), ((2, 2, 2), (1, 1, 1)));
    assert_eq!(hub.take_receipts(1, 10).len(), 2);
}

#[test]
fn several_changes_of_one_thing_are_told_at_once_and_each_is_answered_for() {
    let hub = hub();
    let (ben, cleo) = (connect(&hub, "ben", 2, &["a"]), connect(&hub, "cleo", 3, &["a"]));
    let counts = |seq| {
        let receipt = hub.receipt(stamp(seq));
        (receipt.affected, receipt.notified)
    };
    hub.tell(&[role_change(4, "a"), role_change(3, "a")], 1);
    assert_eq!((counts(3), counts(4)), ((1, 0), (2, 0)), "cleo's token was made after the first of them");
    assert_eq!([&ben, &cleo].map(|connection| mail(connection).notice.unwrap().stamp), [stamp(4); 2]);
    ben.told(stamp(4));
    cleo.told(stamp(4));
    assert_eq!((counts(3), counts(4)), ((1, 1), (2, 2)));
}

#[test]
fn a_new_epoch_and_folded_floors_reach_whoever_is_below() {
    let hub = hub();
    let old = connect(&hub, "ben", 5, &["a"]);
    let new = connect(&hub, "cleo", 9, &["a"]);
    hub.tell_folded(&Folded { tenant: "acme".parse().unwrap(), stamp: stamp(7) });
    assert_eq!(mail(&old).notice.map(|notice| (notice.stamp, notice.reason)), Some((stamp(7), Reason::Tenant)));
    assert_eq!(mail(&new), Mail::default());
    hub.begin_epoch(2);
    let first = Stamp::new(2, Seq::ZERO);
    for connection in [&old, &new] {
        let told = mail(connection).notice.map(|notice| (notice.stamp, notice.reason));
        assert_eq!(told, Some((first, Reason::Everyone)));
    }
}

// The model: what a change does to a connection is what it would do to its snapshot by the floors.

#[derive(Debug, Clone)]
struct Face {
    tenant: usize,
    user: usize,
    session: u8,
    token: u64,
    access: Option<u64>,
    roles: Vec<usize>,
}

const TENANTS: [&str; 2] = ["acme", "other"];
const USERS: [&str; 3] = ["ben", "cleo", "a"];
const ROLES: [&str; 3] = ["a", "b", "c"];

/// A session is one user's.
fn session_of(tenant: usize, user: usize, number: u8) -> SessionId {
    session(u8::try_from(tenant * 100 + user * 10).unwrap() + number)
}

impl Face {
    fn holder(&self) -> Holder {
        holder(TENANTS[self.tenant], USERS[self.user])
    }

    fn session(&self) -> SessionId {
        session_of(self.tenant, self.user, self.session)
    }

    fn roles(&self) -> Vec<RoleName> {
        self.roles.iter().map(|&at| role(ROLES[at])).collect()
    }

    fn footing(&self, floors: &Floors) -> Footing {
        let (session, token) = (self.session(), stamp(self.token));
        match self.access {
            None => Footing::fat(floors, &session, token, &self.roles(), false),
            Some(access) => Footing::thin(floors, &session, token, stamp(access), &self.roles(), false),
        }
    }

    /// What the floors say once this change alone is raised.
    fn expected(&self, change: &Change) -> Freshness {
        let floors = Floors::new(9, 1000);
        assert!(floors.raise(change, 1).is_empty());
        let Holder { tenant, user } = self.holder();
        let (session, token, roles) = (self.session(), stamp(self.token), self.roles());
        let bases: Vec<Basis> = match self.access {
            None => vec![floors.token_basis(token, &tenant, &user, &session, roles.iter())],
            Some(access) => vec![
                floors.thin_basis(token, &tenant, &user, &session),
                floors.entry_basis(stamp(access), &tenant, Some(&user), roles.iter()),
            ],
        };
        let all = bases.iter().map(|basis| floors.freshness(basis));
        all.fold(Freshness::Fresh, |worst, next| if worst == Freshness::Fresh { next } else { worst })
    }
}

fn face() -> impl Strategy<Value = Face> {
    (
        0..TENANTS.len(),
        0..USERS.len(),
        0..4u8,
        0..12u64,
        proptest::option::of(0..12u64),
        proptest::sample::subsequence(vec![0, 1, 2], 0..=3),
    )
        .prop_map(|(tenant, user, session, token, access, roles)| Face {
            tenant,
            user,
            session,
            token,
            access,
            roles,
        })
}

fn any_change() -> impl Strategy<Value = Change> {
    let effect = prop_oneof![3 => Just(Effect::Changed), 1 => Just(Effect::Suspended)];
    (1..12u64, 0..5usize, 0..TENANTS.len(), 0..USERS.len(), 0..4u8, effect).prop_map(
        |(seq, kind, tenant, name, number, effect)| {
            let session = session_of(tenant, name, number);
            let Holder { tenant, user } = holder(TENANTS[tenant], USERS[name]);
            let target = match kind {
                0 => Target::User { tenant, user },
                1 => Target::Role { tenant, role: role(ROLES[name]) },
                2 => Target::Tenant { tenant },
                3 => Target::Everyone,
                _ => Target::Session { tenant, user, session },
            };
            change(seq, target, effect)
        },
    )
}

#[derive(Debug, Clone)]
enum Step {
    Register(Face),
    Move(usize, Vec<usize>, u64),
    Drop(usize),
    Tell(Vec<Change>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => face().prop_map(Step::Register),
        1 => (0..8usize, proptest::sample::subsequence(vec![0, 1, 2], 0..=3), 0..12u64)
            .prop_map(|(at, roles, token)| Step::Move(at, roles, token)),
        1 => (0..8usize).prop_map(Step::Drop),
        2 => proptest::collection::vec(any_change(), 1..4).prop_map(Step::Tell),
    ]
}

proptest! {
    #[test]
    fn a_change_reaches_exactly_the_connections_whose_snapshot_rests_on_it(
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let hub = hub();
        let mut living: Vec<(Face, Connection)> = Vec::new();
        for step in steps {
            match step {
                Step::Register(face) => {
                    let seat = hub.admit("192.0.2.1".parse().unwrap()).unwrap();
                    let connection = hub.register(seat, &face.holder(), face.footing(&hub.floors)).unwrap();
                    living.push((face, connection));
                }
                Step::Move(at, roles, token) if !living.is_empty() => {
                    let at = at % living.len();
                    let (face, connection) = &mut living[at];
                    (face.roles, face.token, face.access) = (roles, token, None);
                    connection.move_to(&face.holder().tenant, face.footing(&hub.floors));
                }
                Step::Drop(at) if !living.is_empty() => {
                    let at = at % living.len();
                    living.swap_remove(at);
                }
                Step::Tell(changes) => {
                    hub.tell(&changes, 1);
                    for (face, connection) in &living {
                        let all: Vec<Freshness> = changes.iter().map(|change| face.expected(change)).collect();
                        let ended = all.iter().any(|one| matches!(one, Freshness::Ended { .. }));
                        let needed = all.iter().filter_map(|one| match one {
                            Freshness::Stale { needed } => Some(*needed),
                            _ => None,
                        }).max();
                        let told = connection.mailbox.told(Stamp::NEVER);
                        prop_assert!(told.notified.is_empty());
                        let mail = mail(connection);
                        prop_assert_eq!(mail.over.is_some(), ended);
                        if !ended {
                            prop_assert_eq!(mail.notice.map(|notice| notice.stamp), needed);
                        }
                    }
                }
                Step::Move(..) | Step::Drop(_) => {}
            }
        }
    }
}
