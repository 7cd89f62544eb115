//! Puts, rewraps, removals and cleaning of one name in a location.

use std::time::Instant;

use sidekey::pair::IfExists::{Fail, Replace};
use sidekey::store::memory::Features;

use crate::explore::{Visited, explore};
use crate::world::{
    BESIDE, Process, Rules, Weak, World, clean, deleting, hiding, located_name, put, rewrap, unseen,
};

const FEATURES: [Features; 4] = [
    Features { versions: false, conditions: false },
    Features { versions: false, conditions: true },
    Features { versions: true, conditions: false },
    Features { versions: true, conditions: true },
];

/// A name, processes, and how many faults and ticks they meet.
struct Scenario {
    name: &'static str,
    /// Whether something is there before, and in which form.
    before: Before,
    processes: Vec<Process>,
    faults: u8,
    ticks: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Pair,
    /// With its envelope in the second form.
    Beside,
    /// Two containers, where versions are kept.
    Two,
    /// An envelope alone.
    Orphan,
}

impl Scenario {
    fn world(&self, features: Features) -> World {
        let (first, second) = (located_name(0), located_name(9));
        let (containers, envelopes): (&[u8], Vec<(&str, u8)>) = match self.before {
            Before::Nothing => (&[], vec![]),
            Before::Pair => (&[0], vec![(&first, 0)]),
            Before::Beside => (&[0], vec![(BESIDE, 0)]),
            Before::Two => (&[9, 0], vec![(&second, 9), (&first, 0)]),
            Before::Orphan => (&[], vec![(&first, 0)]),
        };
        World::new(features, containers, &envelopes, self.processes.clone())
    }
}

fn scenario(name: &'static str, before: Before, processes: Vec<Process>, faults: u8, ticks: u8) -> Scenario {
    Scenario { name, before, processes, faults, ticks }
}

/// What there is without time: puts, rewraps and removals.
fn quick(versions: bool) -> Vec<Scenario> {
    use Before::{Beside, Nothing, Pair, Two};
    let over = |data| put(data, Replace, false, false);
    let new = |data| put(data, Replace, false, true);
    let create = |data| put(data, Fail, false, false);
    let mut all = vec![
        scenario("put", Pair, vec![over(1)], 5, 0),
        scenario("put put", Pair, vec![over(1), over(2)], 4, 0),
        scenario("put put put", Pair, vec![over(1), over(2), new(3)], 2, 0),
        scenario("put unseen", Nothing, vec![unseen(1)], 4, 0),
        scenario("put unseen over", Pair, vec![unseen(1)], 5, 0),
        scenario("put unseen unseen", Pair, vec![unseen(1), unseen(2)], 3, 0),
        scenario("put unseen put", Nothing, vec![unseen(1), over(2)], 3, 0),
        scenario("put unseen delete", Pair, vec![unseen(1), deleting()], 3, 0),
        scenario("put unseen rewrap delete", Pair, vec![unseen(1), rewrap(), deleting()], 1, 0),
        scenario("create create", Nothing, vec![create(1), create(2)], 3, 0),
        scenario("create put", Nothing, vec![create(1), new(2)], 3, 0),
        scenario("rewrap", Two, vec![rewrap()], 3, 0),
        scenario("put rewrap", Pair, vec![over(1), rewrap()], 3, 0),
        scenario("rewrap rewrap", Pair, vec![rewrap(), rewrap()], 3, 0),
        scenario("put rewrap rewrap", Pair, vec![over(1), rewrap(), rewrap()], 1, 0),
        scenario("put put rewrap", Pair, vec![over(1), new(2), rewrap()], 1, 0),
        scenario("delete", Two, vec![deleting()], 3, 0),
        scenario("put delete", Pair, vec![over(1), deleting()], 3, 0),
        scenario("rewrap delete", Pair, vec![rewrap(), deleting()], 3, 0),
        scenario("delete delete", Two, vec![deleting(), deleting()], 3, 0),
        scenario("put rewrap delete", Pair, vec![over(1), rewrap(), deleting()], 1, 0),
        scenario("put put delete", Pair, vec![over(1), over(2), deleting()], 1, 0),
        scenario("put put rewrap delete", Pair, vec![over(1), new(2), rewrap(), deleting()], 1, 0),
        scenario("beside: rewrap", Beside, vec![rewrap()], 3, 0),
        scenario("beside: rewrap rewrap", Beside, vec![rewrap(), rewrap()], 3, 0),
        scenario("beside: put rewrap", Beside, vec![over(1), rewrap()], 2, 0),
        scenario("beside: rewrap delete", Beside, vec![rewrap(), deleting()], 2, 0),
        scenario("beside: put delete", Beside, vec![over(1), deleting()], 2, 0),
    ];
    if versions {
        all.push(scenario("hide", Pair, vec![hiding()], 3, 0));
        all.push(scenario("put hide", Pair, vec![over(1), hiding()], 2, 0));
        all.push(scenario("put hide delete", Pair, vec![over(1), hiding(), deleting()], 1, 0));
        all.push(scenario("put rewrap hide", Pair, vec![over(1), rewrap(), hiding()], 1, 0));
    }
    all
}

/// What there is as time passes: cleaning, and removals of what was written a while ago.
fn slow(versions: bool) -> Vec<Scenario> {
    use Before::{Beside, Nothing, Orphan, Pair};
    let over = |data| put(data, Replace, false, false);
    let long = |data| put(data, Replace, true, false);
    let mut all = vec![
        scenario("put, clean", Pair, vec![over(1), clean()], 2, 4),
        scenario("put unseen, clean", Pair, vec![unseen(1), clean()], 2, 4),
        scenario("long put, clean", Pair, vec![long(1), clean()], 2, 5),
        scenario("long put long put, clean", Pair, vec![long(1), long(2), clean()], 1, 4),
        scenario("create, clean", Nothing, vec![put(1, Fail, true, false), clean()], 2, 5),
        scenario("orphan, put clean", Orphan, vec![over(1), clean()], 2, 4),
        scenario("put, delete", Nothing, vec![over(1), deleting()], 2, 3),
        scenario("delete clean", Pair, vec![deleting(), clean()], 2, 4),
        scenario("put delete clean", Pair, vec![over(1), deleting(), clean()], 1, 4),
        scenario("rewrap clean", Pair, vec![rewrap(), clean()], 1, 4),
        scenario("put rewrap clean", Pair, vec![over(1), rewrap(), clean()], 1, 4),
        scenario("clean clean", Orphan, vec![clean(), clean()], 2, 4),
        scenario("beside: put clean", Beside, vec![over(1), clean()], 1, 4),
    ];
    if versions {
        all.push(scenario("put hide clean", Pair, vec![over(1), hiding(), clean()], 1, 4));
    }
    all
}

/// Explores all scenarios with all features, and prints what was there.
fn explore_all(scenarios: fn(bool) -> Vec<Scenario>, what: &str) -> Visited {
    let (mut total, mut count, began) = (Visited::default(), 0, Instant::now());
    for features in FEATURES {
        for scenario in scenarios(features.versions) {
            for late_texts in [0, 1] {
                let Scenario { name, faults, ticks, .. } = scenario;
                let faults = faults.saturating_sub(late_texts);
                let rules = Rules { features, late_texts, faults, ticks, weak: None };
                let started = Instant::now();
                let visited = explore(&scenario.world(features), &rules)
                    .unwrap_or_else(|fault| panic!("{name}, {rules:?}: {fault}"));
                if std::env::args().any(|argument| argument == "--nocapture") {
                    println!("{name}, {features:?}, {late_texts}: {visited:?} {:?}", started.elapsed());
                }
                assert!(visited.states > 3, "{name}: {visited:?}");
                assert_eq!(visited.stored > 0, name.contains("put") || name.contains("create"), "{name}");
                assert_eq!(visited.rewrapped > 0, name.contains("rewrap"), "{name}: {visited:?}");
                assert!(visited.removed > 0 || !name.contains("delete"), "{name}: {visited:?}");
                total.add(&visited);
                count += 1;
            }
        }
    }
    println!(
        "{what}: {count} explorations, {} states, {} transitions, in {:?}",
        total.states,
        total.transitions,
        began.elapsed()
    );
    total
}

#[test]
fn no_key_is_lost_and_none_survives_a_rewrap() {
    let total = explore_all(quick, "puts, rewraps and removals");
    assert!(total.states > 100_000);
}

#[test]
fn no_key_is_lost_as_time_passes() {
    let total = explore_all(slow, "cleaning");
    assert!(total.states > 100_000 && total.cleaned > 0);
}

#[test]
fn a_weakened_rule_is_noticed() {
    for (weak, at, says) in [
        (Weak::ContainerFirst, "put", "has no key"),
        (Weak::TidyAtOnce, "put put", "has no key"),
        (Weak::DoneSaidFailed, "put", "was reported not stored"),
        (Weak::NoConfirm, "long put, clean", "has no key"),
        (Weak::PurgeFirst, "rewrap", "has no key"),
        (Weak::NoPurge, "rewrap", "reported done"),
        (Weak::YoungRemoved, "put delete", "has no key"),
        (Weak::NoSecondList, "put, delete", "has no key"),
        (Weak::CleanAtOnce, "put, clean", "has no key"),
        (Weak::UnknownIsAbsent, "put, clean", "has no key"),
        (Weak::CurrentAlone, "put, clean", "has no key"),
        (Weak::MoveBlindly, "beside: rewrap", "has no key"),
    ] {
        let fault = FEATURES.iter().find_map(|features| {
            let scenarios = quick(features.versions).into_iter().chain(slow(features.versions));
            let scenario = scenarios.into_iter().find(|scenario| scenario.name == at)?;
            let Scenario { faults, ticks, .. } = scenario;
            let rules = Rules { features: *features, late_texts: 0, faults, ticks, weak: Some(weak) };
            explore(&scenario.world(*features), &rules).err()
        });
        let fault = fault.unwrap_or_else(|| panic!("{weak:?} was not noticed"));
        assert!(fault.contains(says), "{weak:?}: {fault}");
        println!("{weak:?} is noticed by: {at}");
    }
}
