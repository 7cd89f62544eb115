//! Faults under a store that tries again, and a clock that does not wait.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sidekey::ErrorKind;
use sidekey::store::faulty::{Call, Fault, Faulty, Operation};
use sidekey::store::memory::{Features, MemoryStore};
use sidekey::store::retry::{Clock, Policy, Retry};

/// Time passes when somebody sleeps.
#[derive(Debug, Default)]
pub(crate) struct TestClock {
    waits: Mutex<Vec<Duration>>,
}

impl TestClock {
    pub(crate) fn waits(&self) -> Vec<Duration> {
        self.waits.lock().unwrap().clone()
    }
}

#[async_trait]
impl Clock for TestClock {
    fn elapsed(&self) -> Duration {
        self.waits.lock().unwrap().iter().sum()
    }

    async fn sleep(&self, wait: Duration) {
        self.waits.lock().unwrap().push(wait);
    }
}

/// A store in memory that tries again, and all that is under it.
#[derive(Debug)]
pub(crate) struct Layers {
    pub(crate) memory: MemoryStore,
    pub(crate) faulty: Faulty<MemoryStore>,
    pub(crate) retry: Retry<Faulty<MemoryStore>>,
    pub(crate) clock: Arc<TestClock>,
}

pub(crate) fn layers(features: Features, page: usize) -> Layers {
    layers_by(features, page, Policy::default())
}

pub(crate) fn layers_by(features: Features, page: usize, policy: Policy) -> Layers {
    let memory = MemoryStore::new(features);
    let faulty = Faulty::new(Arc::new(memory.clone())).pages_of(page);
    let clock = Arc::new(TestClock::default());
    let retry = Retry::new(Arc::new(faulty.clone()), policy).by_clock(clock.clone());
    Layers { memory, faulty, retry, clock }
}

pub(crate) const ALL_FEATURES: [Features; 4] = [
    Features { versions: false, conditions: false },
    Features { versions: false, conditions: true },
    Features { versions: true, conditions: false },
    Features { versions: true, conditions: true },
];

/// Faults that keep to the contract: what is `Transient` was not done.
pub(crate) const FAULTS: [Fault; 7] = [
    Fault::Before(ErrorKind::Transient),
    Fault::Before(ErrorKind::Unsure),
    Fault::HalfWay(ErrorKind::Transient),
    Fault::HalfWay(ErrorKind::Unsure),
    Fault::After(ErrorKind::Unsure),
    Fault::Busy(Duration::from_secs(5)),
    Fault::Short,
];

/// Whether a fault is another one for this operation than those before it in [`FAULTS`].
pub(crate) fn is_its_own(fault: Fault, operation: Operation) -> bool {
    match fault {
        Fault::HalfWay(_) => {
            matches!(operation, Operation::Put | Operation::Get | Operation::List | Operation::Unfinished)
        }
        Fault::Short => operation == Operation::Get,
        _ => true,
    }
}

/// Whether a fault leaves no trace when the call is tried again: neither a second version or unfinished upload, nor
/// `Unsure`, nor a conflict on a store that knows none.
pub(crate) fn leaves_no_trace(fault: Fault, call: &Call, features: Features) -> bool {
    let (unsure, done) = match fault {
        Fault::Before(kind) | Fault::HalfWay(kind) => (kind == ErrorKind::Unsure, false),
        Fault::After(kind) => (kind == ErrorKind::Unsure, true),
        Fault::Busy(_) | Fault::Short => (false, false),
        Fault::Panic => return false,
    };
    match call.operation {
        Operation::Put if call.conditional => !unsure || features.conditions,
        Operation::Put => !done || !features.versions,
        Operation::Copy => !unsure,
        Operation::Upload => !done,
        Operation::Hide => !unsure || features.versions,
        _ => true,
    }
}
