use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What somebody may do with a wheel.
#[derive(Debug, Clone)]
enum Step {
    Insert,
    Remove(usize),
    Set(usize, Option<u64>),
    Advance(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let far = prop_oneof![0..40_u64, 0..5000_u64, Just(u64::MAX)];
    let step = prop_oneof![
        2 => Just(Step::Insert),
        1 => (0..64_usize).prop_map(Step::Remove),
        4 => ((0..64_usize), proptest::option::of(far)).prop_map(|(which, after)| Step::Set(which, after)),
        3 => prop_oneof![0..20_u64, 0..3000_u64].prop_map(Step::Advance),
    ];
    proptest::collection::vec(step, 1..200)
}

proptest! {
    /// Against a list of alarms and when they are to ring: each rings in the very step that reaches it, those beyond a
    /// turn not later than that, and nothing else rings.
    #[test]
    fn it_rings_as_a_list_of_alarms_would(steps in steps(), start in 0..10_000_u64) {
        let mut wheel = Wheel::new(start);
        let mut model: BTreeMap<u64, (Alarm, Option<u64>)> = BTreeMap::new();
        let (mut now, mut next) = (start, 0);
        for step in steps {
            let nth = |model: &BTreeMap<u64, (Alarm, Option<u64>)>, which: usize| {
                model.iter().nth(which % model.len().max(1)).map(|(&id, &(alarm, _))| (id, alarm))
            };
            match step {
                Step::Insert => {
                    model.insert(next, (wheel.insert(next), None));
                    next += 1;
                }
                Step::Remove(which) => {
                    if let Some((id, alarm)) = nth(&model, which) {
                        prop_assert_eq!(wheel.remove(alarm), Some(id));
                        model.remove(&id);
                    }
                }
                Step::Set(which, after) => {
                    if let Some((id, alarm)) = nth(&model, which) {
                        let at = after.map(|after| now.saturating_add(after));
                        // Beyond a turn it rings once a turn before; at once is the next tick.
                        let rings = at.map(|at| at.clamp(now + 1, now + SLOTS as u64));
                        prop_assert_eq!(wheel.set(alarm, at), rings.unwrap_or(0));
                        model.insert(id, (alarm, rings));
                    }
                }
                Step::Advance(by) => {
                    now += by;
                    let rang = RefCell::new(Vec::new());
                    wheel.advance(now, |&id| rang.borrow_mut().push(id));
                    let mut rang = rang.into_inner();
                    rang.sort_unstable();
                    let due: Vec<u64> = model.iter().filter(|(_, (_, at))| at.is_some_and(|at| at <= now)).map(|(&id, _)| id).collect();
                    prop_assert_eq!(&rang, &due);
                    for id in due {
                        model.entry(id).and_modify(|(_, at)| *at = None);
                    }
                }
            }
            prop_assert_eq!(wheel.len(), model.len());
            let mut values: Vec<u64> = wheel.values().copied().collect();
            values.sort_unstable();
            prop_assert_eq!(values, model.keys().copied().collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_place_is_used_again() {
    let mut wheel = Wheel::new(0);
    let first = wheel.insert('a');
    wheel.set(first, Some(3));
    assert_eq!(wheel.remove(first), Some('a'));
    let second = wheel.insert('b');
    assert_eq!(first, second);
    wheel.advance(10, |_| panic!("the alarm went with its owner"));
    wheel.set(second, Some(7));
    let mut rang = 0;
    wheel.advance(11, |_| rang += 1);
    assert_eq!(rang, 1, "what is past rings at the next tick");
}
