//! What is left to chance, and how long: as the environment says, with a seed that is printed.
#![expect(clippy::disallowed_methods, reason = "the environment says, and the clock where no seed is named")]

use std::time::{SystemTime, UNIX_EPOCH};

use crate::edits::Dice;

/// A number from the environment, or the usual one.
pub(crate) fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(usual)
}

/// Dice whose seed is the variable's, or the time's.
pub(crate) fn dice(variable: &str, what: &str) -> Dice {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number(variable, now.as_nanos() as u64) | 1;
    println!("{what}: {variable}={seed}");
    Dice(seed)
}
