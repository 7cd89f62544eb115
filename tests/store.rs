//! The conformance suite on every store of this machine.

#[macro_use]
mod store_suite;

use std::path::Path;

use sidekey::store::local::LocalStore;
use sidekey::store::memory::{Features, MemoryStore};
use tempfile::TempDir;

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
