//! The checker bites: histories made by hand, each with one promise broken.

use std::sync::Arc;
use std::time::Duration;

use super::checker::{Bounds, Broken, Verdict, check};
use super::history::{
    Admission, Blinds, Connection, Decision, Effect, Fault, Glance, History, Moment, Operation, Outcome, Row, Said,
    Seq, Set, Ticket, Touch, Visit,
};
use super::model::{Role, State, User};

const BOUNDS: Bounds = Bounds { staleness: Duration::from_secs(1), told: Duration::from_secs(2), memory: 1_000_000 };

fn ms(milliseconds: u64) -> Moment {
    Duration::from_millis(milliseconds)
}

/// User 0 holds role 0, which gives permission 0; each change is committed at its `seq`'s second.
struct Story(History);

impl Story {
    fn new() -> Self {
        let user = User { active: true, roles: Set::of(&[0]), permissions: Set::default() };
        let role = Role { exists: true, permissions: Set::of(&[0]), includes: Set::default() };
        let other = Role { exists: true, ..Role::default() };
        let before = State { users: vec![user, User { active: true, ..User::default() }], roles: vec![role, other] };
        let after = before.clone();
        Self(History { before, after, ..History::default() }).seen(0)
    }

    /// The log's end is seen, exactly when it is reached.
    fn seen(mut self, seq: Seq) -> Self {
        self.0.glances.push(Glance { begun: ms(seq * 1000), ended: ms(seq * 1000), head: seq });
        self
    }

    fn row(mut self, seq: Seq, actor: &str, touch: Touch) -> Self {
        self.0.log.push(Row { seq, actor: actor.to_owned(), touch, ends: false });
        self
    }

    /// An operation and its row, both as they should be.
    fn did(self, seq: Seq, effect: &Effect) -> Self {
        let touch = self.0.after.clone().apply(effect).pop().expect("it is a change");
        let mut story = self.row(seq, "w", touch).seen(seq).asked(vec![effect.clone()], Outcome::Done(Some(seq)));
        story.0.after.apply(effect);
        story
    }

    fn asked(mut self, effects: Vec<Effect>, outcome: Outcome) -> Self {
        let at = self.0.glances.last().map_or(Moment::ZERO, |glance| glance.ended);
        self.0.operations.push(Operation { actor: "w".to_owned(), effects, begun: at, ended: at, outcome });
        self
    }

    /// He is told what he has, with a token as old as `of`.
    fn me(mut self, at: Moment, of: Seq, pv: Seq, permissions: &[u8]) -> Self {
        let said = Said::All { roles: Set::of(&[0]), permissions: Set::of(permissions) };
        let (begun, ended) = (at, at + ms(1));
        self.0.decisions.push(Decision { replica: 0, begun, ended, ticket: ticket(of), about: 0, said, pv: Some(pv) });
        self
    }

    fn connected(mut self, opened: Moment, of: Seq, told: &[(Moment, Seq)], ended: Moment) -> Self {
        let tokens = vec![(opened, ticket(of))];
        self.0.connections.push(Connection { replica: 0, ended, tokens, told: told.to_vec() });
        self
    }

    fn with(mut self, change: impl FnOnce(&mut History)) -> Self {
        change(&mut self.0);
        self
    }

    fn verdict(mut self) -> Verdict {
        // Whoever watches does so to the end.
        let head = self.0.glances.last().map_or(0, |glance| glance.head);
        self.0.glances.push(Glance { begun: ms(99_000), ended: ms(99_000), head });
        check(&self.0, &BOUNDS)
    }

    #[track_caller]
    fn holds(self) -> Verdict {
        let verdict = self.verdict();
        assert!(verdict.violations.is_empty(), "{:#?}", verdict.violations);
        verdict
    }

    #[track_caller]
    fn breaks(self, broken: Broken) {
        let verdict = self.verdict();
        let found: Vec<_> = verdict.violations.iter().map(|violation| violation.broken).collect();
        assert_eq!(found, [broken], "{:#?}", verdict.violations);
    }
}

fn ticket(pv: Seq) -> Arc<Ticket> {
    let rests_on = vec![Touch::user(0), Touch::role(0), Touch::new("session", "s"), Touch::everyone()];
    Arc::new(Ticket { owner: "u0".to_owned(), pv, rests_on })
}

fn add(permission: u8) -> Effect {
    Effect::Add { role: 0, permission }
}

fn remove(permission: u8) -> Effect {
    Effect::Remove { role: 0, permission }
}

#[test]
fn a_true_history_holds() {
    let verdict = Story::new()
        .did(1, &add(1))
        .did(2, &remove(0))
        .me(ms(1500), 1, 1, &[0, 1])
        .me(ms(2900), 1, 1, &[0, 1])
        .me(ms(3500), 2, 2, &[1])
        .connected(ms(0), 0, &[(ms(1010), 1), (ms(2010), 2)], ms(9000))
        .holds();
    assert_eq!((verdict.acknowledged, verdict.to_be_told), (2, 2));
    let calm = verdict.seen["none"];
    assert_eq!((calm.decisions, calm.stale, calm.worst_allow), (3, 1, ms(900)));
    assert_eq!(verdict.slowest_told, ms(10));
}

#[test]
fn a_lost_change_is_found() {
    let lost = Outcome::Done(Some(1));
    Story::new().asked(vec![add(1)], lost).breaks(Broken::ChangeLost);
    Story::new().row(1, "another", Touch::new("keys", "")).asked(vec![add(1)], lost).breaks(Broken::ChangeLost);
    Story::new().asked(vec![add(1)], Outcome::Done(None)).breaks(Broken::ChangeLost);
    Story::new().asked(vec![add(0)], Outcome::Done(None)).holds();
}

#[test]
fn half_an_operation_is_found() {
    let both = vec![add(1), Effect::Grant { user: 1, permission: 1 }];
    for outcome in [Outcome::Done(Some(1)), Outcome::Unknown] {
        let story = Story::new().row(1, "w", Touch::role(0)).seen(1).asked(both.clone(), outcome);
        let story = story.with(|history| both.iter().for_each(|effect| drop(history.after.apply(effect))));
        story.breaks(Broken::HalfApplied);
    }
    let whole = Story::new().row(1, "w", Touch::role(0)).row(2, "w", Touch::user(1)).seen(2);
    let whole = whole.with(|history| both.iter().for_each(|effect| drop(history.after.apply(effect))));
    whole.asked(both, Outcome::Unknown).holds();
}

#[test]
fn what_was_refused_must_not_be_done() {
    Story::new().asked(vec![add(1)], Outcome::Refused).holds();
    let done = Story::new().row(1, "w", Touch::role(0)).seen(1).asked(vec![add(1)], Outcome::Refused);
    done.breaks(Broken::RefusedYetDone);
}

#[test]
fn a_change_by_nobody_is_found() {
    Story::new().row(1, "stranger", Touch::user(0)).seen(1).breaks(Broken::ByNobody);
    Story::new().row(1, "system", Touch::new("keys", "")).seen(1).holds();
}

#[test]
fn tables_that_tell_another_story_are_found() {
    let story = Story::new().did(1, &add(1));
    story.with(|history| history.after.users[0].active = false).breaks(Broken::WrongTables);
}

#[test]
fn an_answer_that_never_was_right_is_found() {
    Story::new().did(1, &add(1)).me(ms(1500), 1, 1, &[0, 1, 2]).breaks(Broken::NeverRight);
    // A batch is whole or not there.
    let ask = |allowed| Said::Each { asked: Set::of(&[1, 2]), allowed };
    let both = vec![Effect::Grant { user: 0, permission: 1 }, Effect::Grant { user: 0, permission: 2 }];
    let story = |allowed| {
        let story = Story::new().row(1, "w", Touch::user(0)).seen(1).asked(both.clone(), Outcome::Done(Some(1)));
        let story = story.with(|history| both.iter().for_each(|effect| drop(history.after.apply(effect))));
        story.me(ms(5000), 1, 1, &[]).with(|history| history.decisions[0].said = ask(allowed))
    };
    story(Set::of(&[1])).breaks(Broken::NeverRight);
    story(Set::of(&[1, 2])).holds();
}

#[test]
fn what_is_read_beside_a_token_may_be_newer_than_its_end() {
    let story = |rests_on: &[Touch], pv| {
        let ticket = Arc::new(Ticket { owner: "u1".to_owned(), pv: 0, rests_on: rests_on.to_vec() });
        let said = Said::Each { asked: Set::of(&[0]), allowed: Set::default() };
        let (begun, ended) = (ms(1900), ms(2100));
        let decision = Decision { replica: 0, begun, ended, ticket, about: 0, said, pv: Some(pv) };
        let story = Story::new().did(1, &Effect::Grant { user: 1, permission: 5 }).did(2, &remove(0));
        story.with(|history| history.decisions.push(decision))
    };
    story(&[Touch::user(1)], 0).holds();
    story(&[Touch::user(1)], 1).breaks(Broken::BelowItsVersion);
    story(&[Touch::user(1), Touch::user(0)], 0).breaks(Broken::NeverRight);
}

#[test]
fn an_answer_from_the_future_is_found() {
    Story::new().me(ms(500), 0, 7, &[0]).breaks(Broken::AheadOfTheLog);
    // Right only by a change that was not there yet.
    Story::new().seen(0).me(ms(500), 0, 0, &[0, 1]).did(1, &add(1)).breaks(Broken::NeverRight);
}

#[test]
fn an_answer_below_the_version_that_it_states_is_found() {
    Story::new().did(1, &remove(0)).me(ms(1500), 0, 1, &[0]).breaks(Broken::BelowItsVersion);
    Story::new().did(1, &remove(0)).me(ms(1500), 0, 0, &[0]).holds();
}

#[test]
fn a_stale_token_is_to_be_refused_even_where_it_is_right() {
    let story = |pv| Story::new().did(1, &Effect::Grant { user: 0, permission: 0 }).me(ms(1500), 0, pv, &[0]);
    story(1).breaks(Broken::BelowItsVersion);
    story(0).holds();
}

#[test]
fn an_answer_older_than_the_bound_is_found() {
    Story::new().did(1, &remove(0)).me(ms(2001), 0, 0, &[0]).breaks(Broken::TooOld);
    Story::new().did(1, &add(1)).me(ms(2001), 0, 0, &[0]).breaks(Broken::TooOld);
}

#[test]
fn the_end_of_a_session_counts() {
    let ended = Effect::EndSession { session: "s".to_owned() };
    Story::new().did(1, &ended).me(ms(2500), 0, 0, &[0]).breaks(Broken::TooOld);
    Story::new().did(1, &ended).me(ms(2500), 1, 1, &[0]).holds();
    Story::new().did(1, &Effect::SignOutAll).me(ms(2500), 0, 0, &[0]).breaks(Broken::TooOld);
}

#[test]
fn one_who_is_suspended_has_nothing() {
    let suspended = Effect::Suspend { user: 0 };
    Story::new().did(1, &suspended).me(ms(1500), 1, 1, &[0]).breaks(Broken::BelowItsVersion);
    let none = |history: &mut History| {
        history.decisions[0].said = Said::Each { asked: Set::of(&[0]), allowed: Set::default() };
    };
    Story::new().did(1, &suspended).me(ms(2500), 1, 1, &[0]).with(none).holds();
}

#[test]
fn a_replica_that_goes_back_is_found() {
    let story = || Story::new().did(1, &Effect::Grant { user: 1, permission: 3 });
    story().me(ms(1500), 0, 1, &[0]).me(ms(1600), 0, 0, &[0]).breaks(Broken::WentBack);
    let other = |history: &mut History| history.decisions[1].replica = 1;
    story().me(ms(1500), 0, 1, &[0]).me(ms(1600), 0, 0, &[0]).with(other).holds();
    let at_once = |history: &mut History| history.decisions[0].ended = ms(1700);
    story().me(ms(1500), 0, 1, &[0]).me(ms(1600), 0, 0, &[0]).with(at_once).holds();
}

#[test]
fn a_client_that_is_not_told_is_found() {
    let story = || Story::new().did(1, &add(1));
    story().connected(ms(0), 0, &[], ms(9000)).breaks(Broken::Untold);
    story().connected(ms(0), 0, &[(ms(3500), 1)], ms(9000)).breaks(Broken::Untold);
    story().connected(ms(0), 0, &[(ms(500), 0)], ms(9000)).breaks(Broken::Untold);
    story().connected(ms(0), 0, &[], ms(2900)).holds();
    story().connected(ms(0), 1, &[], ms(9000)).holds();
    // One who comes back with a stale token.
    story().connected(ms(5000), 0, &[(ms(5010), 1)], ms(9000)).holds();
    story().connected(ms(5000), 0, &[], ms(9000)).breaks(Broken::Untold);
    let renewed = |history: &mut History| history.connections[0].tokens.push((ms(1200), ticket(1)));
    story().connected(ms(0), 0, &[], ms(9000)).with(renewed).holds();
}

#[test]
fn who_is_blind_need_not_tell_meanwhile() {
    let stopped = |on, kind| Fault { kind, begun: ms(900), ended: ms(6000), blinds: on };
    let story = |fault: Fault| {
        let story = Story::new().did(1, &add(1)).connected(ms(0), 0, &[(ms(6500), 1)], ms(9000));
        story.with(|history| history.faults.push(fault))
    };
    story(stopped(Blinds::Replica(0), "replica-stop")).holds();
    story(stopped(Blinds::Everybody, "database-gone")).holds();
    story(stopped(Blinds::Replica(1), "replica-stop")).breaks(Broken::Untold);
    story(stopped(Blinds::Nobody, "nats-kill")).breaks(Broken::Untold);
}

#[test]
fn decisions_are_counted_under_the_faults_that_acted() {
    let fault = |kind, begun, ended| Fault { kind, begun: ms(begun), ended: ms(ended), blinds: Blinds::Nobody };
    let verdict = Story::new()
        .did(1, &remove(0))
        .me(ms(100), 0, 0, &[0])
        .me(ms(1700), 0, 0, &[0])
        .with(|history| history.faults.extend([fault("a", 1500, 1600), fault("a", 1650, 1900), fault("b", 1600, 1700)]))
        .holds();
    let figures = |kind| (verdict.seen[kind].faults, verdict.seen[kind].decisions, verdict.seen[kind].worst_allow);
    assert_eq!(figures("a"), (2, 1, ms(700)));
    assert_eq!(figures("b"), (1, 1, ms(700)));
    assert_eq!(figures("none"), (0, 1, ms(0)));
}

#[test]
fn memory_and_rest_are_looked_at() {
    Story::new().with(|history| history.memory = 2_000_000).breaks(Broken::TooMuchMemory);
    Story::new().with(|history| history.unsettled.push("replica 1".to_owned())).breaks(Broken::Unsettled);
}

#[test]
fn a_permission_that_outlives_its_time_is_seen() {
    let asked = |begun: u64| {
        let mut story = Story::new();
        let guest = "x0".to_owned();
        story.0.visits.push(Visit { guest: guest.clone(), begun: ms(100), until: ms(2000) });
        story.0.admissions.push(Admission { guest, replica: 0, begun: ms(begun), ended: ms(begun + 5) });
        check(&story.0, &BOUNDS).count(Broken::Overstayed)
    };
    assert_eq!(asked(1500), 0);
    assert_eq!(asked(2900), 0, "within the bound");
    assert_eq!(asked(3100), 1);
    assert_eq!(asked(10), 1, "before it was given");
}

#[test]
fn a_token_without_permissions_ends_with_its_user_alone() {
    let shown_after = |ends: bool| {
        let mut story = Story::new().row(1, "sql", Touch::user(0)).seen(1).seen(2);
        story.0.log[0].ends = ends;
        let effect = Effect::SignOut { user: 0 };
        story.0.operations.push(Operation {
            actor: "sql".to_owned(),
            effects: vec![effect],
            begun: ms(900),
            ended: ms(1000),
            outcome: Outcome::Done(Some(1)),
        });
        let ticket = Ticket { owner: "u0".to_owned(), pv: 0, rests_on: vec![Touch::end_of("u0"), Touch::everyone()] };
        let said = Said::All { roles: Set::of(&[0]), permissions: Set::of(&[0]) };
        let (begun, ended) = (ms(2500), ms(2501));
        let decision = Decision { replica: 0, begun, ended, ticket: Arc::new(ticket), about: 0, said, pv: None };
        story.0.decisions.push(decision);
        check(&story.0, &BOUNDS).count(Broken::TooOld)
    };
    assert_eq!(shown_after(false), 0, "a change of what he may do does not make it stale");
    assert_eq!(shown_after(true), 1);
}

#[test]
fn who_has_gone_on_to_another_token_need_not_be_told() {
    let untold = |rests_on_it: bool| {
        let mut story = Story::new().row(5, "w", Touch::role(0)).seen(5).seen(12);
        let ticket = |pv, roles: &[Touch]| Arc::new(Ticket { owner: "u0".to_owned(), pv, rests_on: roles.to_vec() });
        let next = if rests_on_it { vec![Touch::role(0)] } else { vec![Touch::role(1)] };
        let tokens = vec![(ms(4000), ticket(0, &[Touch::role(0)])), (ms(5500), ticket(4, &next))];
        story.0.connections.push(Connection { replica: 0, ended: ms(12000), tokens, told: Vec::new() });
        check(&story.0, &BOUNDS).count(Broken::Untold)
    };
    assert_eq!(untold(false), 0);
    assert!(untold(true) > 0);
}
