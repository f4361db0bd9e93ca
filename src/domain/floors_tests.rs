//! Floors against a model that remembers every change and looks through all of them.

use std::sync::atomic::AtomicBool;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::domain::change::Effect;
use crate::domain::clock::Timestamp;

const TENANTS: [&str; 2] = ["acme", "other"];
const USERS: [&str; 3] = ["ada", "ben", "cleo"];
const ROLES: [&str; 3] = ["viewer", "editor", "admin"];
const SEQ_MAX: u64 = 24;

fn at(generation: u16, seq: u64) -> Stamp {
    Stamp::new(generation, Seq::new(seq).unwrap())
}

fn change(seq: u64, target: Target, effect: Effect) -> Change {
    Change { seq: Seq::new(seq).unwrap(), at: Timestamp::default(), target, effect }
}

fn user_change(seq: u64, tenant: &str, user: &str) -> Change {
    change(seq, Target::User { tenant: tenant.parse().unwrap(), user: user.parse().unwrap() }, Effect::Changed)
}

/// Each user has one session in each tenant, and no two share one.
fn session_of(tenant: &str, user: &str) -> SessionId {
    let byte = |name: &str| name.as_bytes()[0];
    let mut bits = [0; 16];
    (bits[0], bits[1]) = (byte(tenant), byte(user));
    SessionId::from_random(bits)
}

/// What a snapshot was read from.
#[derive(Debug, Clone)]
enum Read {
    /// A token with its permissions in it.
    Fat(&'static str, Vec<&'static str>),
    /// A token without.
    Thin(&'static str),
    /// A user in the cache.
    User(&'static str),
    /// A role in the cache, with what it includes.
    Role(Vec<&'static str>),
}

#[derive(Debug, Clone)]
struct Snapshot {
    tenant: &'static str,
    read: Read,
    stamp: Stamp,
}

impl Snapshot {
    fn basis(&self, floors: &Floors) -> Basis {
        let tenant: TenantName = self.tenant.parse().unwrap();
        let roles = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<RoleName>>();
        match &self.read {
            Read::Fat(user, names) => {
                let session = session_of(self.tenant, user);
                floors.token_basis(self.stamp, &tenant, &user.parse().unwrap(), &session, roles(names).iter())
            }
            Read::Thin(user) => {
                let session = session_of(self.tenant, user);
                floors.thin_basis(self.stamp, &tenant, &user.parse().unwrap(), &session)
            }
            Read::User(user) => floors.entry_basis(self.stamp, &tenant, Some(&user.parse().unwrap()), [].iter()),
            Read::Role(names) => floors.entry_basis(self.stamp, &tenant, None, roles(names).iter()),
        }
    }

    /// The rule, in words: does the change end the session?
    fn is_ended_by(&self, change: &Change) -> bool {
        let (Read::Fat(user, _) | Read::Thin(user)) = self.read else { return false };
        let ends = change.effect != Effect::Changed;
        match &change.target {
            Target::Session { tenant, session, .. } => {
                tenant.as_str() == self.tenant && *session == session_of(self.tenant, user)
            }
            Target::User { tenant, user: whose } => ends && tenant.as_str() == self.tenant && whose.as_str() == user,
            Target::Tenant { tenant } => ends && tenant.as_str() == self.tenant,
            Target::Everyone => ends,
            Target::Role { .. } | Target::Keys | Target::Lockdown { .. } => false,
        }
    }

    /// The rule, in words: does the change touch the permissions that were read?
    fn is_touched_by(&self, change: &Change) -> bool {
        let (user, roles) = match &self.read {
            Read::Fat(user, roles) => (Some(*user), roles.as_slice()),
            Read::User(user) => (Some(*user), [].as_slice()),
            Read::Role(roles) => (None, roles.as_slice()),
            // Not what it may do, but whether its session is over cannot be known.
            Read::Thin(_) => return change.target == Target::Everyone,
        };
        match &change.target {
            Target::User { tenant, user: whose } => tenant.as_str() == self.tenant && Some(whose.as_str()) == user,
            Target::Role { tenant, role } => tenant.as_str() == self.tenant && roles.contains(&role.as_str()),
            Target::Tenant { tenant } => tenant.as_str() == self.tenant,
            Target::Everyone => true,
            Target::Session { .. } | Target::Keys | Target::Lockdown { .. } => false,
        }
    }
}

/// Every change that was raised, whatever was folded since.
#[derive(Debug, Default)]
struct Model {
    raised: Vec<(u16, Change)>,
    horizon: Stamp,
}

impl Model {
    fn freshness(&self, snapshot: &Snapshot) -> Freshness {
        let later = |(generation, change): &&(u16, Change)| Stamp::new(*generation, change.seq) > snapshot.stamp;
        let highest = |which: &dyn Fn(&Change) -> bool| {
            let those = self.raised.iter().filter(later).filter(|(_, change)| which(change));
            those.map(|(generation, change)| Stamp::new(*generation, change.seq)).max()
        };
        if let Some(at) = highest(&|change| snapshot.is_ended_by(change)) {
            return Freshness::Ended { at };
        }
        let horizon = Some(self.horizon).filter(|horizon| *horizon > snapshot.stamp);
        match highest(&|change| snapshot.is_touched_by(change)).max(horizon) {
            Some(needed) => Freshness::Stale { needed },
            None => Freshness::Fresh,
        }
    }

    /// The highest floor that one tenant may have.
    fn highest_of(&self, tenant: &TenantName) -> Stamp {
        let those = self.raised.iter().filter(|(_, change)| match &change.target {
            Target::Lockdown { .. } => false,
            target => target.tenant() == Some(tenant),
        });
        those.map(|(generation, change)| Stamp::new(*generation, change.seq)).max().unwrap_or_default()
    }

    /// Not below anything that anybody knows of.
    fn top(&self) -> Stamp {
        self.raised
            .iter()
            .map(|(generation, change)| Stamp::new(*generation, change.seq))
            .max()
            .max(Some(self.horizon))
            .unwrap()
    }
}

fn targets() -> impl Strategy<Value = Target> {
    let (tenant, user, role) = (select(&TENANTS), select(&USERS), select(&ROLES));
    let place = (tenant, user, role);
    (0..12, place).prop_map(|(kind, (tenant, user, role))| {
        let home: TenantName = tenant.parse().unwrap();
        match kind {
            0..=3 => Target::User { tenant: home, user: user.parse().unwrap() },
            4..=6 => Target::Role { tenant: home, role: role.parse().unwrap() },
            7..=8 => Target::Session { session: session_of(tenant, user), tenant: home, user: user.parse().unwrap() },
            9 => Target::Tenant { tenant: home },
            10 => Target::Everyone,
            _ => Target::Lockdown { tenant: Some(home) },
        }
    })
}

fn changes() -> impl Strategy<Value = Change> {
    let effects =
        select(&[Effect::Changed, Effect::Changed, Effect::Suspended, Effect::SignedOut, Effect::KeysRevoked]);
    (1..=SEQ_MAX, targets(), effects).prop_map(|(seq, target, effect)| change(seq, target, effect))
}

fn snapshots(generations: std::ops::RangeInclusive<u16>) -> impl Strategy<Value = Snapshot> {
    let roles = || subsequence(ROLES.to_vec(), 0..=ROLES.len());
    let read = prop_oneof![
        3 => (select(&USERS), roles()).prop_map(|(user, roles)| Read::Fat(user, roles)),
        1 => select(&USERS).prop_map(Read::Thin),
        1 => select(&USERS).prop_map(Read::User),
        1 => roles().prop_map(Read::Role),
    ];
    (select(&TENANTS), read, generations, 0..=SEQ_MAX).prop_map(|(tenant, read, generation, seq)| Snapshot {
        tenant,
        read,
        stamp: at(generation, seq),
    })
}

/// One thing that happens to the floors.
#[derive(Debug, Clone)]
enum Step {
    Raise(Change),
    Fold(u64),
    NewEpoch,
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => changes().prop_map(Step::Raise),
        2 => (0..=SEQ_MAX).prop_map(Step::Fold),
        1 => Just(Step::NewEpoch),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever the order, however often: floors answer as one who looks through all changes.
    #[test]
    fn without_folding_floors_agree_with_the_model(
        raised in proptest::collection::vec(changes(), 0..40),
        snapshots in proptest::collection::vec(snapshots(1..=1), 1..8),
    ) {
        let floors = Floors::new(7, usize::MAX);
        let mut model = Model::default();
        let bases: Vec<Basis> = snapshots.iter().map(|snapshot| snapshot.basis(&floors)).collect();
        for change in raised {
            prop_assert_eq!(floors.raise(&change, 1), vec![]);
            model.raised.push((1, change));
            for (snapshot, basis) in snapshots.iter().zip(&bases) {
                let expected = model.freshness(snapshot);
                prop_assert_eq!(floors.freshness(basis), expected, "{:?}", snapshot);
                prop_assert_eq!(floors.is_fresh(basis), expected == Freshness::Fresh);
                prop_assert_eq!(floors.freshness(&snapshot.basis(&floors)), expected, "made now or earlier");
            }
        }
    }

    /// Folding and epochs forget what was, never that something was.
    #[test]
    fn with_folding_and_epochs_nothing_is_fresh_that_is_not(
        steps in proptest::collection::vec(steps(), 0..60),
        snapshots in proptest::collection::vec(snapshots(1..=3), 1..8),
        entries_max in prop_oneof![Just(usize::MAX), 2..12_usize],
    ) {
        let floors = Floors::new(7, entries_max);
        let mut model = Model::default();
        let mut generation = 1;
        let bases: Vec<Basis> = snapshots.iter().map(|snapshot| snapshot.basis(&floors)).collect();
        for step in steps {
            match step {
                Step::Raise(change) => {
                    let folded = floors.raise(&change, generation);
                    for folded in &folded {
                        prop_assert!(folded.stamp >= model.highest_of(&folded.tenant), "it covers all that it forgets");
                    }
                    model.raised.push((generation, change));
                    for folded in folded {
                        prop_assert!(folded.stamp <= model.top());
                        for (snapshot, basis) in snapshots.iter().zip(&bases) {
                            let told = snapshot.tenant == folded.tenant.as_str() && snapshot.stamp < folded.stamp;
                            prop_assert!(!(told && floors.is_fresh(basis)), "who is told is stale: {:?}", snapshot);
                        }
                    }
                }
                Step::Fold(seq) => {
                    let horizon = at(generation, seq);
                    floors.fold(horizon);
                    model.horizon = model.horizon.max(horizon);
                }
                Step::NewEpoch => {
                    generation += 1;
                    floors.begin_epoch(generation);
                    model.horizon = model.horizon.max(at(generation, 0));
                }
            }
            prop_assert_eq!(floors.horizon(), model.horizon);
            prop_assert!(floors.len() <= entries_max);
            for (snapshot, basis) in snapshots.iter().zip(&bases) {
                let answer = floors.freshness(basis);
                prop_assert_eq!(floors.is_fresh(basis), answer == Freshness::Fresh);
                match (model.freshness(snapshot), answer) {
                    (Freshness::Fresh, Freshness::Fresh) => {}
                    (Freshness::Fresh, Freshness::Stale { .. }) => {
                        prop_assert!(entries_max != usize::MAX, "only the cap makes too much stale: {:?}", snapshot);
                    }
                    (Freshness::Stale { needed }, Freshness::Stale { needed: told }) => prop_assert!(told >= needed),
                    (Freshness::Ended { at }, Freshness::Ended { at: told }) => prop_assert!(told <= at),
                    (Freshness::Ended { at }, Freshness::Stale { needed }) => prop_assert!(needed >= at),
                    (expected, answer) => prop_assert!(false, "{answer:?}, but {expected:?}: {snapshot:?}"),
                }
                let newest = basis.clone().restamped(model.top());
                prop_assert_eq!(floors.freshness(&newest), Freshness::Fresh, "a new one is always to be had");
            }
        }
    }

    /// What is folded was below the horizon; what is above it is known as before.
    #[test]
    fn folding_forgets_nothing_above_the_horizon(
        raised in proptest::collection::vec(changes(), 0..40),
        horizon in 0..=SEQ_MAX,
        snapshots in proptest::collection::vec(snapshots(1..=1), 1..8),
    ) {
        let floors = Floors::new(7, usize::MAX);
        for change in &raised {
            prop_assert_eq!(floors.raise(change, 1), vec![]);
        }
        let before: Vec<_> = snapshots.iter().map(|snapshot| floors.freshness(&snapshot.basis(&floors))).collect();
        floors.fold(at(1, horizon));
        for (snapshot, before) in snapshots.iter().zip(before) {
            if snapshot.stamp >= at(1, horizon) {
                prop_assert_eq!(floors.freshness(&snapshot.basis(&floors)), before, "{:?}", snapshot);
            } else {
                prop_assert!(!floors.is_fresh(&snapshot.basis(&floors)));
            }
        }
    }
}

#[test]
fn a_cache_entry_outlives_the_folding_if_it_was_found_fresh_before() {
    let floors = Floors::new(1, usize::MAX);
    let entry = Snapshot { tenant: "acme", read: Read::User("ben"), stamp: at(1, 3) }.basis(&floors);
    assert_eq!(floors.raise(&user_change(9, "acme", "ada"), 1), vec![]);
    assert!(floors.is_fresh(&entry));
    let kept = entry.clone().restamped(at(1, 9));
    floors.fold(at(1, 8));
    assert!(!floors.is_fresh(&entry) && floors.is_fresh(&kept));
    assert_eq!(kept.clone().restamped(at(1, 2)).stamp(), at(1, 9), "a stamp only rises");
}

#[test]
fn memory_follows_the_changes_above_the_horizon() {
    let floors = Floors::new(1, usize::MAX);
    for seq in 1..=1000 {
        assert_eq!(floors.raise(&user_change(seq, "acme", &format!("u{seq}")), 1), vec![]);
    }
    assert_eq!(floors.len(), 1000);
    floors.fold(at(1, 990));
    assert_eq!(floors.len(), 10);
    floors.begin_epoch(2);
    assert!(floors.is_empty());
}

#[test]
fn the_cap_folds_the_noisiest_tenant_alone() {
    let floors = Floors::new(1, 100);
    let quiet = Snapshot { tenant: "other", read: Read::User("ben"), stamp: at(1, 1) }.basis(&floors);
    let touched = Snapshot { tenant: "other", read: Read::User("ada"), stamp: at(1, 1) }.basis(&floors);
    let loud = Snapshot { tenant: "acme", read: Read::User("ben"), stamp: at(1, 1) }.basis(&floors);
    let mut folded = floors.raise(&user_change(2, "other", "ada"), 1);
    for seq in 3..=300 {
        folded.extend(floors.raise(&user_change(seq, "acme", &format!("u{seq}")), 1));
        assert!(floors.len() <= 100);
    }
    assert!(folded.len() >= 2 && folded.iter().all(|folded| folded.tenant.as_str() == "acme"), "{folded:?}");
    assert!(!floors.is_fresh(&loud));
    assert!(floors.is_fresh(&quiet) && !floors.is_fresh(&touched));
}

/// Readers beside the writer, who grows tables, folds and hits the cap: what was raised before a reader looked is never
/// fresh to it.
#[test]
fn a_reader_never_finds_fresh_what_an_applied_change_touched() {
    const PEOPLE: u64 = 300;
    const LAST: u64 = 60_000;
    let floors = Floors::new(1, 250);
    let applied = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    let (tenant, session) = ("acme".parse().unwrap(), SessionId::from_random([1; 16]));
    let people: Vec<UserId> = (0..PEOPLE).map(|n| format!("u{n}").parse().unwrap()).collect();
    std::thread::scope(|scope| {
        for reader in 0..3 {
            let (floors, applied, done, tenant, session, people) =
                (&floors, &applied, &done, &tenant, &session, &people);
            scope.spawn(move || {
                let mut turn: u64 = reader;
                while !done.load(Ordering::Acquire) {
                    turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let head = applied.load(Ordering::Acquire);
                    let whose = (turn >> 33) % PEOPLE;
                    // Change n touched person n mod PEOPLE; this is the last that touched this one.
                    let Some(touched) =
                        (head + PEOPLE - whose).checked_rem(PEOPLE).and_then(|past| head.checked_sub(past))
                    else {
                        continue;
                    };
                    if touched == 0 {
                        continue;
                    }
                    let user = &people[usize::try_from(whose).unwrap()];
                    let basis = if turn & 1 == 0 {
                        floors.token_basis(at(1, touched - 1), tenant, user, session, [].iter())
                    } else {
                        floors.entry_basis(at(1, touched - 1), tenant, Some(user), [].iter())
                    };
                    assert!(!floors.is_fresh(&basis), "{user} was touched at {touched}, applied {head}");
                    let future = basis.restamped(at(1, LAST + 1));
                    assert!(floors.is_fresh(&future), "nothing is above it");
                }
            });
        }
        for seq in 1..=LAST {
            let user = people[usize::try_from(seq % PEOPLE).unwrap()].clone();
            let _ = floors.raise(&change(seq, Target::User { tenant: tenant.clone(), user }, Effect::Changed), 1);
            applied.store(seq, Ordering::Release);
            if seq % 1000 == 0 {
                floors.fold(at(1, seq - 100));
            }
        }
        done.store(true, Ordering::Release);
    });
}

#[test]
fn a_change_of_everyone_touches_thin_tokens_for_it_may_stand_for_the_end_of_a_session() {
    let floors = Floors::new(1, 100);
    let (tenant, session) = (TenantName::first(), SessionId::from_random([7; 16]));
    let at = |number| Stamp::new(1, Seq::new(number).unwrap());
    let basis = |number| floors.thin_basis(at(number), &tenant, &"ben".parse().unwrap(), &session);
    let everyone = Change {
        seq: Seq::new(3).unwrap(),
        at: Timestamp::from_millis(0),
        target: Target::Everyone,
        effect: Effect::Changed,
    };
    assert!(floors.raise(&everyone, 1).is_empty());
    assert_eq!(floors.freshness(&basis(2)), Freshness::Stale { needed: at(3) });
    assert!(floors.is_fresh(&basis(3)));
}
