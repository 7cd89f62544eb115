//! Which envelopes the old keys are tried on: a sample that anybody can draw again.

use std::collections::{BinaryHeap, HashSet};
use std::sync::{Mutex, PoisonError, RwLock};

use sha2::{Digest as _, Sha256};

use super::SAMPLE;

/// The envelopes with the smallest hashes under a seed.
#[derive(Debug)]
pub(super) struct Sample {
    seed: [u8; 16],
    /// The smallest so far, the largest of them on top.
    smallest: Mutex<BinaryHeap<([u8; 32], String)>>,
    drawn: RwLock<HashSet<String>>,
}

impl Sample {
    pub(super) fn new(seed: [u8; 16]) -> Self {
        Self { seed, smallest: Mutex::default(), drawn: RwLock::default() }
    }

    pub(super) fn offer(&self, stored: &str) {
        let hash: [u8; 32] = Sha256::new().chain_update(self.seed).chain_update(stored).finalize().into();
        let mut smallest = self.smallest.lock().unwrap_or_else(PoisonError::into_inner);
        if smallest.len() < SAMPLE || smallest.peek().is_some_and(|(largest, _)| hash < *largest) {
            smallest.push((hash, stored.to_owned()));
            if smallest.len() > SAMPLE {
                smallest.pop();
            }
        }
    }

    /// Ends the offers.
    pub(super) fn draw(&self) {
        let smallest = std::mem::take(&mut *self.smallest.lock().unwrap_or_else(PoisonError::into_inner));
        let names = smallest.into_iter().map(|(_, stored)| stored).collect();
        *self.drawn.write().unwrap_or_else(PoisonError::into_inner) = names;
    }

    pub(super) fn is_drawn(&self, stored: &str) -> bool {
        self.drawn.read().unwrap_or_else(PoisonError::into_inner).contains(stored)
    }
}
