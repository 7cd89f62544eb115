//! The conformance suite on every store of this machine.

#[macro_use]
mod store_suite;

use sidekey::store::memory::{Features, MemoryStore};

fn memory(versions: bool, conditions: bool) -> (MemoryStore, ()) {
    (MemoryStore::new(Features { versions, conditions }), ())
}

store_suite!(memory_plain, memory(false, false));
store_suite!(memory_conditions, memory(false, true));
store_suite!(memory_versions, memory(true, false));
store_suite!(memory_versions_and_conditions, memory(true, true));
