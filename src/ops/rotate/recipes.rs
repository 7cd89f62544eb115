//! Key files of the OpenSSL recipe, of which all are counted before it is known how they were made.

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::recipe::{Named, Settler};

/// Key files of the OpenSSL recipe.
pub(super) struct Counted {
    pub(super) counted: Mutex<Settler>,
    settled: OnceLock<Settler>,
    /// Whether there are any.
    pub(super) seen: AtomicBool,
}

impl Counted {
    pub(super) fn new(named: Named) -> Self {
        Self {
            counted: Mutex::new(Settler::new(named)),
            settled: OnceLock::new(),
            seen: AtomicBool::new(false),
        }
    }

    /// Ends the counting.
    pub(super) fn settle(&self) -> &Settler {
        let counted = || self.counted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.settled.get_or_init(counted)
    }
}
