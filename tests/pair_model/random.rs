//! More writers than can be explored, in schedules drawn at random from a seed.

use sidekey::pair::IfExists::{Fail, Replace};
use sidekey::store::memory::Features;

use crate::world::{
    Luck, Move, Process, Rules, Weak, World, clean, deleting, hiding, located_name, put, rewrap,
};

const WALKS: u64 = 4_000;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }
}

fn processes(dice: &mut Dice, versions: bool) -> Vec<Process> {
    let count = 5 + dice.roll(5);
    let one = |data: usize| match dice.roll(10) {
        0..4 => put(data as u8 + 1, Replace, dice.roll(2) == 0, dice.roll(2) == 0),
        4 => put(data as u8 + 1, Fail, dice.roll(2) == 0, false),
        5 | 6 => rewrap(),
        7 if versions => hiding(),
        7 | 8 => deleting(),
        _ => clean(),
    };
    (0..count).map(one).collect()
}

/// Goes on until nothing can happen any more; says how many steps there were.
fn walk(world: &mut World, rules: &Rules, dice: &mut Dice) -> Result<usize, String> {
    let mut path = Vec::new();
    loop {
        let moves = world.moves(rules);
        // Time passes and late writes arrive now and then, and most steps go well.
        let likely: Vec<Move> = moves
            .iter()
            .copied()
            .filter(|step| matches!(step, Move::Step { luck: Luck::Fine, .. }) || dice.roll(6) == 0)
            .collect();
        let moves = if likely.is_empty() { moves } else { likely };
        if moves.is_empty() {
            return Ok(path.len());
        }
        let step = moves[dice.roll(moves.len())];
        let Some(next) = world.after(step, rules) else { continue };
        *world = next;
        path.push(step);
        if let Some(fault) = world.fault(rules) {
            return Err(format!("{fault}: after {path:?}: {world:?}"));
        }
    }
}

#[test]
fn the_dice_notice_a_weakened_rule() {
    for weak in [Weak::TidyAtOnce, Weak::CleanAtOnce, Weak::YoungRemoved, Weak::NoPurge] {
        let noticed = (0..WALKS).find(|seed| {
            let mut dice = Dice(*seed);
            let features = Features { versions: true, conditions: seed % 2 == 0 };
            let rules = Rules { features, late_texts: 0, faults: 5, ticks: 6, weak: Some(weak) };
            let processes = processes(&mut dice, true);
            let mut world = World::new(features, &[0], &[(&located_name(0), 0)], processes);
            walk(&mut world, &rules, &mut dice).is_err()
        });
        println!(
            "{weak:?} is noticed by seed {}",
            noticed.unwrap_or_else(|| panic!("{weak:?} was not noticed"))
        );
    }
}

#[test]
fn no_key_is_lost_whatever_the_dice_say() {
    let (mut steps, mut most, mut orphans) = (0, 0, 0);
    for seed in 0..WALKS {
        let mut dice = Dice(seed);
        let features = Features { versions: seed % 2 == 0, conditions: seed / 2 % 2 == 0 };
        let late_texts = (seed / 4 % 2) as u8 * 2;
        let rules = Rules { features, late_texts, faults: 5, ticks: 6, weak: None };
        let processes = processes(&mut dice, features.versions);
        most = most.max(processes.len());
        let mut world = World::new(features, &[0], &[(&located_name(0), 0)], processes);
        steps += walk(&mut world, &rules, &mut dice).unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
        assert!(world.is_quiet(), "seed {seed}");

        // Then forty days pass, and what is left is cleaned.
        let before = world.held();
        orphans += before.1.difference(&before.0).count();
        world.processes = vec![clean()];
        let later = Rules { faults: 0, ticks: world.ticks + 5, ..rules };
        while world.ticks < later.ticks {
            world = world.after(Move::TimePasses, &later).unwrap();
        }
        walk(&mut world, &later, &mut dice).unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
        let (containers, envelopes) = world.held();
        assert_eq!(containers, before.0, "seed {seed}");
        assert_eq!(envelopes, containers, "seed {seed}: what is not needed is gone");
    }
    println!("{WALKS} schedules of up to {most} processes, {steps} steps, {orphans} orphans cleaned");
    assert!(steps > 100_000 && orphans > 1_000, "{steps} {orphans}");
}
