//! Visits every world that the moves lead to, in depth.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use sidekey::pair::LocatedPutOutcome;

use crate::world::{Move, Process, Rules, World};

/// A search of more states has not ended, and fails.
const CAP: usize = 3_000_000;

/// How many worlds there are, how many ways lead on from one to the next, and how they end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Visited {
    pub(crate) states: usize,
    /// Ways from the start to a world in which nothing can happen any more.
    pub(crate) schedules: f64,
    pub(crate) transitions: usize,
    pub(crate) stored: usize,
    pub(crate) not_stored: usize,
    pub(crate) rewrapped: usize,
    /// Ends in which a container is gone, and in which an envelope is gone that was there or written.
    pub(crate) removed: usize,
    pub(crate) cleaned: usize,
}

/// 64 bits, keyed: that two of three million worlds have the same hash has a chance of one to four million.
fn hash(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

/// A world on the way down, the moves that are left in it, and how many ways lead from it to an end so far.
struct Level {
    world: World,
    moves: Vec<Move>,
    id: u64,
    ways: f64,
}

impl Level {
    fn new(world: World, id: u64, rules: &Rules) -> Self {
        Self { moves: world.moves(rules), world, id, ways: 0.0 }
    }
}

/// Visits every world; or says what is wrong with one, and how it came to be.
pub(crate) fn explore(start: &World, rules: &Rules) -> Result<Visited, String> {
    let mut visited = Visited::default();
    let mut path: Vec<Move> = vec![];
    // With how many ways lead on from it: no move can be taken back, so what was seen before has been left before.
    let mut seen: HashMap<u64, f64> = HashMap::from([(hash(start), 0.0)]);
    let mut down = vec![Level::new(start.clone(), hash(start), rules)];
    while let Some(level) = down.last_mut() {
        let Some(step) = level.moves.pop() else {
            let ways = if level.ways == 0.0 { 1.0 } else { level.ways };
            seen.insert(level.id, ways);
            down.pop();
            path.pop();
            match down.last_mut() {
                Some(above) => above.ways += ways,
                None => visited.schedules = ways,
            }
            continue;
        };
        let Some(next) = level.world.after(step, rules) else { continue };
        visited.transitions += 1;
        let id = hash(&next);
        if let Some(ways) = seen.get(&id) {
            level.ways += ways;
            continue;
        }
        seen.insert(id, 0.0);
        assert!(seen.len() <= CAP, "the search does not end within {CAP} states: {rules:?}");
        path.push(step);
        if let Some(fault) = next.fault(rules) {
            return Err(format!("{fault}: after {path:?}: {next:?}"));
        }
        visited.count(&next);
        down.push(Level::new(next, id, rules));
    }
    visited.states = seen.len();
    Ok(visited)
}

impl Visited {
    fn count(&mut self, world: &World) {
        if !world.is_quiet() {
            return;
        }
        let with = |outcome: fn(&LocatedPutOutcome) -> bool| {
            let has = |process: &Process| matches!(process, Process::Over(Some((_, how))) if outcome(how));
            usize::from(world.processes.iter().any(has))
        };
        self.stored += with(|how| *how == LocatedPutOutcome::Stored);
        self.not_stored += with(|how| matches!(how, LocatedPutOutcome::Exists | LocatedPutOutcome::Failed));
        self.rewrapped += usize::from(!world.done.is_empty());
        let (containers, envelopes) = world.held();
        self.removed += usize::from(containers.is_empty());
        self.cleaned += usize::from(!envelopes.contains(&0));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.states += other.states;
        self.transitions += other.transitions;
        self.schedules += other.schedules;
        self.stored += other.stored;
        self.not_stored += other.not_stored;
        self.rewrapped += other.rewrapped;
        self.removed += other.removed;
        self.cleaned += other.cleaned;
    }
}
