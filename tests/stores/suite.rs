//! The conformance suite on the reference store, and on a store that tries again when the one below it fails.

use std::path::Path;

use sidekey::store::local::LocalStore;
use std::panic::{AssertUnwindSafe, catch_unwind};

use sidekey::store::faulty::{Fault, Operation};
use sidekey::store::memory::{Features, MemoryStore};
use tempfile::TempDir;

use crate::store_suite::faults::{FAULTS, is_its_own, layers, leaves_no_trace};
use crate::store_suite::{Scenario, run, scenarios};

fn memory(versions: bool, conditions: bool) -> (MemoryStore, ()) {
    (MemoryStore::new(Features { versions, conditions }), ())
}

store_suite!(memory_plain, memory(false, false));
store_suite!(memory_conditions, memory(false, true));
store_suite!(memory_versions, memory(true, false));
store_suite!(memory_versions_and_conditions, memory(true, true));

/// A folder of this machine that is removed with the guard.
fn folder(parent: &Path) -> (LocalStore, TempDir) {
    let dir = tempfile::tempdir_in(parent).unwrap();
    (LocalStore::open(dir.path()).unwrap(), dir)
}

/// Beside the build, where files are on a disk as a rule; and where they are in memory, if there is such a place.
fn in_memory() -> &'static Path {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { shared } else { Path::new(env!("CARGO_TARGET_TMPDIR")) }
}

store_suite!(local_on_disk, folder(Path::new(env!("CARGO_TARGET_TMPDIR"))));
store_suite!(local_in_memory, folder(in_memory()));
#[test]
fn every_call_may_fail_once_without_versions_and_conditions() {
    every_call_may_fail_once(Features { versions: false, conditions: false });
}

#[test]
fn every_call_may_fail_once_without_versions() {
    every_call_may_fail_once(Features { versions: false, conditions: true });
}

#[test]
fn every_call_may_fail_once_without_conditions() {
    every_call_may_fail_once(Features { versions: true, conditions: false });
}

#[test]
fn every_call_may_fail_once_with_versions_and_conditions() {
    every_call_may_fail_once(Features { versions: true, conditions: true });
}

/// Every scenario holds with each of its calls failing in each way.
fn every_call_may_fail_once(features: Features) {
    let mut runs = 0;
    for (name, scenario) in scenarios() {
        let whole = layers(features, 3);
        run(&whole.retry, scenario);
        let calls = whole.faulty.log();
        for number in stops(calls.len() as u64) {
            let operation = calls[number as usize - 1].operation;
            for fault in FAULTS.into_iter().filter(|fault| is_its_own(*fault, operation)) {
                runs += usize::from(fails_once(features, (name, scenario), number, fault));
            }
        }
    }
    println!("{features:?}: {runs} runs with a fault");
    assert!(runs > 5_000, "{runs} runs are not every call");
}

/// Every call; of very many some, from the first to the last.
fn stops(calls: u64) -> Vec<u64> {
    let step = if calls <= 400 { 1 } else { calls / 6 };
    let mut stops: Vec<u64> = (1..=calls).step_by(step as usize).collect();
    stops.push(calls);
    stops.dedup();
    stops
}

/// Runs it, and tells whether the call failed.
fn fails_once(features: Features, (name, scenario): (&str, Scenario), number: u64, fault: Fault) -> bool {
    let layers = layers(features, 3);
    let is_stale_delete = name == "a_stale_delete_spares_what_came_after";
    layers.faulty.plan(move |call| {
        // Looking for what is gone, this store spares what another one would delete.
        let spared = is_stale_delete && call.operation == Operation::Delete;
        (call.number == number && leaves_no_trace(fault, call, features) && !spared).then_some(fault)
    });
    let ended = catch_unwind(AssertUnwindSafe(|| run(&layers.retry, scenario)));
    let log = layers.faulty.log();
    if ended.is_err() {
        let log: Vec<String> = log.iter().map(ToString::to_string).collect();
        panic!("{name} with {features:?} failed when call {number} failed {fault:?}:\n{}", log.join("\n"));
    }
    log.iter().any(|call| call.fault.is_some())
}
