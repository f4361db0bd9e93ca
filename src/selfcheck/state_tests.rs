use std::sync::Arc;

use super::*;
use crate::domain::records::UserKind;
use crate::domain::{Floors, RoleName, RoleNo, Seq, SessionId, Stamp, UserNo};
use crate::store::{RoleFacts, UserFacts};

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn user() -> UserFacts {
    UserFacts {
        no: UserNo(1),
        kind: UserKind::Person,
        active: true,
        roles: vec![RoleNo(1), RoleNo(2)],
        grants: vec!["invoices:read".parse().unwrap()],
        first_expiry: Some(time(10)),
    }
}

fn differs(change: impl FnOnce(&mut UserFacts)) -> Option<Difference> {
    let mut read = user();
    change(&mut read);
    compare(&Content::User(Some(user())), &Content::User(Some(read)))
}

#[test]
fn a_user_differs_in_whatever_bears_on_decisions() {
    assert_eq!(differs(|_| {}), None);
    assert_eq!(differs(|read| read.roles.reverse()), None, "the order says nothing");
    assert_eq!(differs(|read| read.no = UserNo(2)), Some(Difference::Kind), "another under the same id");
    assert_eq!(differs(|read| read.active = false), Some(Difference::Standing));
    assert_eq!(differs(|read| read.roles.truncate(1)), Some(Difference::Roles));
    assert_eq!(differs(|read| read.grants.clear()), Some(Difference::Grants));
    assert_eq!(compare(&Content::User(Some(user())), &Content::User(None)), Some(Difference::Existence));
    assert_eq!(compare(&Content::User(None), &Content::User(Some(user()))), Some(Difference::Existence));
}

#[test]
fn an_entry_may_end_too_soon_but_not_too_late() {
    assert_eq!(differs(|read| read.first_expiry = None), None);
    assert_eq!(differs(|read| read.first_expiry = Some(time(11))), None);
    assert_eq!(differs(|read| read.first_expiry = Some(time(9))), Some(Difference::Expiry));
}

#[test]
fn a_role_differs_in_what_it_includes_and_grants() {
    let role = |closure: &[&str], grants: &[&str]| {
        let closure = closure.iter().map(|name| name.parse().unwrap()).collect();
        let grants = grants.iter().map(|grant| grant.parse().unwrap()).collect();
        Content::Role(Some(RoleFacts { tenant: crate::domain::TenantName::first(), closure, grants }))
    };
    let held = role(&["editor", "viewer"], &["a"]);
    assert_eq!(compare(&held, &role(&["editor", "viewer"], &["a"])), None);
    assert_eq!(compare(&held, &role(&["editor"], &["a"])), Some(Difference::Roles));
    assert_eq!(compare(&held, &role(&["editor", "viewer"], &["a", "b"])), Some(Difference::Grants));
    assert_eq!(compare(&held, &Content::Role(None)), Some(Difference::Existence));
}

#[test]
fn a_connection_is_suspect_only_while_nobody_has_told_its_client() {
    let floors = Floors::new(1, 1000);
    let session = SessionId::from_random([1; 16]);
    let roles: Vec<RoleName> = ["viewer", "editor"].iter().map(|name| name.parse().unwrap()).collect();
    let stamp = Stamp::new(1, Seq::new(5).unwrap());
    let footing = Footing::fat(&floors, &session, stamp, &roles, false);
    let account = |names: &[&str]| Account {
        roles: Some(names.iter().map(|name| floors.role_key(&name.parse().unwrap())).collect()),
        operator: false,
        sessions: Some(vec![floors.session_key(&session)]),
    };
    let both = ["editor", "viewer"];
    assert_eq!(suspect(&footing, &account(&both), Told::Nothing), None);
    assert_eq!(suspect(&footing, &account(&["viewer"]), Told::Nothing), Some(Difference::Roles));
    assert_eq!(suspect(&footing, &account(&["viewer"]), Told::Of), None);
    let risen = Account { operator: true, ..account(&both) };
    assert_eq!(suspect(&footing, &risen, Told::Nothing), Some(Difference::Roles));
    let gone = Account { roles: None, ..account(&both) };
    assert_eq!(suspect(&footing, &gone, Told::Nothing), Some(Difference::Standing));
    let over = Account { sessions: Some(Vec::new()), ..account(&both) };
    assert_eq!(suspect(&footing, &over, Told::Nothing), Some(Difference::Session));
    let countless = Account { sessions: None, ..account(&both) };
    assert_eq!(suspect(&footing, &countless, Told::Nothing), None);
}

fn seen(hub: &Arc<crate::hub::Hub>, floors: &Floors) -> (crate::hub::Connection, Seen) {
    let seat = hub.admit("127.0.0.1".parse().unwrap()).unwrap();
    let holder = crate::hub::Holder { tenant: crate::domain::TenantName::first(), user: "ben".parse().unwrap() };
    let footing = Footing::fat(floors, &SessionId::from_random([1; 16]), Stamp::new(1, Seq::ZERO), &[], false);
    let connection = hub.register(seat, &holder, footing).unwrap();
    let seen = hub.some(17).unwrap();
    (connection, seen)
}

struct Still;

impl crate::domain::Clock for Still {
    fn now(&self) -> Timestamp {
        time(0)
    }
    fn boottime(&self) -> Boottime {
        Boottime(Duration::ZERO)
    }
}

#[test]
fn a_suspicion_has_to_stand_for_its_time() {
    let floors = Arc::new(Floors::new(1, 1000));
    let hub = crate::hub::Hub::new(Arc::clone(&floors), Arc::new(Still), crate::hub::Limits::default());
    let (_connection, seen) = seen(&hub, &floors);
    let at = |millis| Boottime(Duration::from_millis(millis));
    let mut state = State::default();
    assert_eq!(state.judge(seen, None, Some(Difference::Roles), at(0)), Verdict::Skipped("unsettled"));
    let suspect = (0..3).find_map(|_| match state.next() {
        Next::Suspect(suspect) => Some(suspect),
        _ => None,
    });
    let Suspect { seen, since } = suspect.expect("it comes up again");
    assert_eq!(state.judge(seen, Some(since), Some(Difference::Session), at(2000)), Verdict::Skipped("unsettled"));
    let seen = hub.some(3).unwrap();
    assert_eq!(state.judge(seen, Some(since), Some(Difference::Roles), at(2000)), Verdict::Differs(Difference::Roles));
    let seen = hub.some(4).unwrap();
    assert_eq!(state.judge(seen, Some(since), None, at(9000)), Verdict::Agrees);
}

#[test]
fn names_are_drawn_from_all_that_are_offered() {
    let mut state = State::default();
    let mut number = 0x9e37_79b9_7f4a_7c15_u64;
    for role in 0..10_000 {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.offer(Subject::Role(RoleNo(role)), number >> 20);
    }
    state.drawn();
    let drawn: Vec<i64> = std::iter::from_fn(|| state.bag.pop())
        .map(|subject| match subject {
            Subject::Role(RoleNo(number)) => number,
            other => panic!("{other:?} was never offered"),
        })
        .collect();
    assert_eq!(drawn.len(), DRAWN);
    let late = drawn.iter().filter(|&&number| number >= 5000).count();
    assert!((64..192).contains(&late), "{late} of {DRAWN} from the second half");
}
