use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::TenantName;

fn seq(number: u64) -> Seq {
    Seq::new(number).unwrap()
}

fn change(number: u64) -> Change {
    Change {
        seq: seq(number),
        at: Timestamp::from_millis(0),
        target: Target::User { tenant: TenantName::first(), user: "ben".parse().unwrap() },
        effect: Effect::Changed,
    }
}

fn epoch() -> Epoch {
    "abcd2345".parse().unwrap()
}

fn page(numbers: &[u64], head: u64, complete: bool) -> TailPage {
    TailPage {
        epoch: epoch(),
        head: seq(head),
        known: Vec::new(),
        changes: numbers.iter().copied().map(change).collect(),
        unreadable: 0,
        complete,
    }
}

fn go(verdict: Verdict) -> Plan {
    match verdict {
        Verdict::Go(plan) => plan,
        other => panic!("{other:?}"),
    }
}

/// Without anything seen.
fn asked(after: Seq, known: Seq) -> Question {
    Question { after, known, seen: Vec::new(), begun: BEGUN }
}

const BEGUN: Boottime = Boottime(Duration::from_secs(7));

#[test]
fn a_hint_out_of_order_is_applied_and_asks_for_what_is_missing() {
    let mut state = State::new(epoch(), seq(1));
    let plan = state.on_hint(epoch(), vec![change(3)]);
    assert_eq!((plan.apply.len(), plan.applied, plan.fetch), (1, seq(1), true));
    let plan = state.on_hint(epoch(), vec![change(3), change(2), change(2)]);
    assert_eq!((plan.apply, plan.applied, plan.fetch), (vec![change(2)], seq(3), false));
}

#[test]
fn a_read_confirms_as_of_its_begin_and_only_when_it_reached_the_end() {
    let mut state = State::new(epoch(), Seq::ZERO);
    let plan = go(state.on_tail(page(&[1, 2], 3, false), asked(Seq::ZERO, Seq::ZERO)));
    assert_eq!((plan.confirm, plan.fetch, plan.applied), (None, true, seq(2)));
    let plan = go(state.on_tail(page(&[3], 3, true), asked(seq(2), Seq::ZERO)));
    assert_eq!((plan.confirm, plan.fetch, plan.applied), (Some(BEGUN), false, seq(3)));
}

#[test]
fn a_log_that_ends_before_what_is_known_is_not_believed() {
    let mut state = State::new(epoch(), seq(3));
    assert_eq!(state.on_tail(page(&[], 3, true), asked(seq(3), seq(4))), Verdict::Behind);
    assert_eq!(state.on_tail(page(&[], 2, true), asked(seq(3), Seq::ZERO)), Verdict::Behind);
}

#[test]
fn a_log_that_lacks_what_was_seen_of_it_was_taken_back() {
    let other = |number| Change { at: Timestamp::from_millis(1), ..change(number) };
    for from_the_tail in [true, false] {
        let mut state = State::new(epoch(), seq(3));
        if from_the_tail {
            go(state.on_tail(page(&[4, 5], 5, true), state.ask(Seq::ZERO, BEGUN)));
        } else {
            let _ = state.on_commit(epoch(), vec![change(4), change(5)]);
        }
        let last = if from_the_tail { 5 } else { 4 };
        let mut ask = |page| state.on_tail(page, state.ask(Seq::ZERO, BEGUN));
        assert_eq!(ask(page(&[], 3, true)), Verdict::TakenBack(change(last)));
        // Others have written since it was taken back.
        assert_eq!(ask(TailPage { known: vec![other(last)], ..page(&[6], 6, true) }), Verdict::TakenBack(change(last)));
        go(ask(TailPage { known: vec![change(5)], ..page(&[6], 6, true) }));
        assert_eq!(ask(TailPage { known: vec![other(6)], ..page(&[], 6, true) }), Verdict::TakenBack(change(6)));
    }
}

#[test]
fn who_commits_at_a_place_where_he_has_committed_before_has_lost_that() {
    let mut state = State::new(epoch(), seq(3));
    let other = |number| Change { at: Timestamp::from_millis(1), ..change(number) };
    let _ = state.on_commit(epoch(), vec![change(4)]);
    let _ = state.on_commit(epoch(), vec![change(5), change(6)]);
    assert_eq!(state.ask(Seq::ZERO, BEGUN).seen, [change(4)]);
    let _ = state.on_commit(epoch(), vec![other(6), other(7)]);
    let _ = state.on_commit(epoch(), vec![other(8)]);
    let question = state.ask(Seq::ZERO, BEGUN);
    let page = TailPage { known: vec![other(6)], ..page(&[], 8, true) };
    assert_eq!(state.on_tail(page, question), Verdict::TakenBack(change(6)));
}

#[test]
fn what_others_claim_takes_nothing_back() {
    let mut state = State::new(epoch(), seq(3));
    let _ = state.on_hint(epoch(), vec![change(4), change(5)]);
    let question = state.ask(seq(9), BEGUN);
    assert_eq!(question.seen, []);
    assert_eq!(state.on_tail(page(&[], 4, true), question), Verdict::Behind);
    let _ = state.on_commit("zzzzzzzz".parse().unwrap(), vec![change(9)]);
    assert_eq!(state.ask(Seq::ZERO, BEGUN).seen, [], "of another epoch");
}

#[test]
fn what_is_seen_while_a_read_is_under_way_is_not_asked_of_it() {
    let mut state = State::new(epoch(), seq(3));
    let question = state.ask(Seq::ZERO, BEGUN);
    let _ = state.on_commit(epoch(), vec![change(4)]);
    assert_eq!(go(state.on_tail(page(&[], 3, true), question)).confirm, Some(BEGUN));
}

#[test]
fn another_epoch_is_no_continuation() {
    let mut state = State::new(epoch(), seq(3));
    let other: Epoch = "zzzzzzzz".parse().unwrap();
    let plan = state.on_hint(other, vec![change(4)]);
    assert!(plan.apply.is_empty() && plan.fetch);
    let verdict = state.on_tail(TailPage { epoch: other, ..page(&[4], 4, true) }, asked(seq(3), Seq::ZERO));
    assert_eq!(verdict, Verdict::NewEpoch(other));
}

#[test]
fn a_number_missing_in_the_log_touches_everyone() {
    for (numbers, head, everyone_at, missing) in
        [(&[1, 4][..], 4, 3, 2), (&[2][..], 2, 1, 1), (&[1][..], 3, 3, 2), (&[][..], 2, 2, 2)]
    {
        let mut state = State::new(epoch(), Seq::ZERO);
        let plan = go(state.on_tail(page(numbers, head, true), asked(Seq::ZERO, Seq::ZERO)));
        let everyone: Vec<_> = plan.apply.iter().filter(|change| change.target == Target::Everyone).collect();
        assert_eq!(everyone.len(), 1, "{numbers:?}");
        assert_eq!((everyone[0].seq, plan.missing, plan.applied), (seq(everyone_at), missing, seq(head)));
    }
}

#[test]
fn what_only_a_hint_has_shown_is_missing_all_the_same() {
    let mut state = State::new(epoch(), Seq::ZERO);
    let _ = state.on_hint(epoch(), vec![change(2)]);
    let plan = go(state.on_tail(page(&[1, 3], 3, true), asked(Seq::ZERO, Seq::ZERO)));
    let everyone = Change { target: Target::Everyone, ..change(2) };
    assert_eq!((plan.missing, plan.apply, plan.applied), (1, vec![change(1), everyone, change(3)], seq(3)));
}

/// The same position, and something else that happened.
fn otherwise(number: u64) -> Change {
    Change { target: Target::User { tenant: TenantName::first(), user: "cleo".parse().unwrap() }, ..change(number) }
}

#[test]
fn the_log_has_the_last_word_on_what_a_hint_said() {
    let mut state = State::new(epoch(), Seq::ZERO);
    let plan = state.on_hint(epoch(), vec![change(1), otherwise(2), change(3)]);
    assert_eq!((plan.apply.len(), plan.applied), (3, seq(3)));
    // A second hint may know better, and is not the last word, either.
    assert_eq!(state.on_hint(epoch(), vec![change(2), change(3)]).apply, [change(2)]);
    assert_eq!(state.on_hint(epoch(), vec![otherwise(2)]).apply, [otherwise(2)]);
    let plan = go(state.on_tail(page(&[1, 2, 3], 3, true), state.ask(seq(3), BEGUN)));
    assert_eq!((plan.apply, plan.applied, plan.missing), (vec![change(2)], seq(3), 0));
    let question = state.ask(seq(3), BEGUN);
    assert_eq!(question.after, seq(3), "and has said it");
    assert!(state.on_hint(epoch(), vec![otherwise(1), otherwise(3)]).apply.is_empty());
}

proptest! {
    /// Whatever hints say, true or not: what the tail has shown was applied as the log has it.
    #[test]
    fn what_the_tail_has_shown_is_applied_whatever_was_said(
        steps in proptest::collection::vec((0..3u8, 1..30u64, 0..5u64), 0..60),
        head in 1..30u64,
    ) {
        let mut state = State::new(epoch(), Seq::ZERO);
        let mut applied = BTreeSet::new();
        for (kind, at, length) in steps {
            let numbers = at..=(at + length).min(head);
            let plan = match kind {
                0 => state.on_hint(epoch(), numbers.map(change).collect()),
                1 => state.on_hint(epoch(), numbers.map(otherwise).collect()),
                _ => {
                    let after = state.ask(Seq::ZERO, BEGUN).after;
                    let end = (after.get() + length).min(head);
                    let numbers: Vec<u64> = (after.get() + 1..=end).collect();
                    go(state.on_tail(page(&numbers, head, end == head), asked(after, Seq::ZERO)))
                }
            };
            applied.extend(plan.apply.iter().filter(|own| **own == change(own.seq.get())).map(|own| own.seq.get()));
            for number in 1..=state.ask(Seq::ZERO, BEGUN).after.get() {
                prop_assert!(applied.contains(&number), "{number} passed over");
            }
        }
    }

    /// However hints are lost, repeated and reordered and pages cut: each change of the log is applied exactly once, the
    /// applied position never passes one that is not, and a last complete read brings everything.
    #[test]
    fn every_change_is_applied_once_and_none_is_passed_over(
        steps in proptest::collection::vec((any::<bool>(), 1..30u64, 0..5u64), 0..60),
        head in 0..30u64,
    ) {
        let mut state = State::new(epoch(), Seq::ZERO);
        let mut applied = BTreeSet::new();
        let mut position = Seq::ZERO;
        let mut check = |plan: Plan| {
            for change in &plan.apply {
                prop_assert!(applied.insert(change.seq), "{} twice", change.seq);
            }
            prop_assert!(plan.applied >= position, "the position went back");
            position = plan.applied;
            for number in 1..=position.get() {
                prop_assert!(applied.contains(&seq(number)), "{number} passed over");
            }
            Ok(())
        };
        for (is_hint, at, length) in steps {
            if is_hint {
                let hint = (at..=(at + length).min(head)).map(change).collect();
                check(state.on_hint(epoch(), hint))?;
            } else {
                let after = state.ask(Seq::ZERO, BEGUN).after;
                let end = (after.get() + length).min(head);
                let numbers: Vec<u64> = (after.get() + 1..=end).collect();
                check(go(state.on_tail(page(&numbers, head, end == head), asked(after, Seq::ZERO))))?;
            }
        }
        let after = state.ask(Seq::ZERO, BEGUN).after;
        let numbers: Vec<u64> = (after.get() + 1..=head).collect();
        let plan = go(state.on_tail(page(&numbers, head, true), asked(after, Seq::ZERO)));
        prop_assert!(!plan.fetch && plan.confirm == Some(BEGUN));
        check(plan)?;
        prop_assert_eq!(state.applied(), seq(head));
    }
}
