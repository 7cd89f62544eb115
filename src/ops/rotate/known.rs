//! Which envelopes stand as a run left them: a few bytes for each, however long its name.

use std::sync::{Mutex, PoisonError, RwLock};

use sha2::{Digest as _, Sha256};

use super::Journal;
use crate::hex;
use crate::location::drive::{RewrapMemory, TextDigest};
use crate::store::VersionId;

/// An envelope and its versions: the first half of a SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::ops) struct State(pub(super) u128);

impl State {
    pub(in crate::ops) fn of<'v>(stored: &'v str, versions: impl IntoIterator<Item = &'v VersionId>) -> Self {
        let mut hash = Sha256::new();
        for part in std::iter::once(stored).chain(versions.into_iter().map(String::as_str)) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let hash: [u8; 32] = hash.finalize().into();
        Self(hash.first_chunk().map_or(0, |half| u128::from_le_bytes(*half)))
    }

    /// A text that was to be written under a name.
    pub(super) fn of_text(stored: &str, text: &TextDigest) -> Self {
        Self::of(stored, [&"text".to_owned(), &hex(text)])
    }

    /// The same as a number.
    pub(in crate::ops) fn number(&self) -> u128 {
        self.0
    }
}

/// What is known of envelopes: done by an earlier run, done by this one, or not to be looked at again.
#[derive(Debug)]
pub(super) struct Known<'j> {
    journal: Option<&'j Journal>,
    done: Set,
    /// Done too, and by a text that runs of this change wrote.
    written: Set,
    settled: Set,
}

impl<'j> Known<'j> {
    pub(super) fn new(journal: Option<&'j Journal>) -> Self {
        Self { journal, done: Set::default(), written: Set::default(), settled: Set::default() }
    }

    /// Whether it was done, by this run before [`Self::sort`] or by an earlier one.
    pub(super) fn is_done(&self, state: &State) -> bool {
        self.journal.is_some_and(|journal| journal.has(state))
            || self.done.has(state)
            || self.written.has(state)
    }

    /// Whether an earlier run came to its end, proof included, after it was done.
    pub(super) fn is_proven(&self, state: &State) -> bool {
        self.journal.is_some_and(|journal| journal.has_proven(state))
    }

    /// Whether this run has said all there is to say about it.
    pub(super) fn is_settled(&self, state: &State) -> bool {
        self.settled.has(state)
    }

    /// Notes what was done, for later runs too unless this one only says what it would do. Where something is not for the
    /// old keys there is nothing to prove.
    pub(super) fn done(&self, state: State, settled: bool, untold: bool) {
        if settled { &self.settled } else { &self.done }.add(state);
        if let Some(journal) = self.journal.filter(|_| !untold) {
            journal.add(state);
        }
    }

    /// Notes what stands there as runs of this change wrote it: this text, as the only version.
    pub(super) fn written(&self, state: State, text: State) {
        self.written.add(state);
        if let Some(journal) = self.journal {
            journal.add_written(state, text);
        }
    }

    /// Takes back what was noted for later runs.
    pub(super) fn undo(&self, state: State) {
        if let Some(journal) = self.journal {
            journal.take_back(state);
        }
    }

    /// Notes what is not to be looked at again by this run.
    pub(super) fn settle(&self, state: State) {
        self.settled.add(state);
    }

    /// Makes what was noted so far known.
    pub(super) fn sort(&self) {
        self.done.sort();
        self.written.sort();
        self.settled.sort();
    }
}

/// Without a journal nothing tells what a stopped run wrote, and nobody asks.
impl RewrapMemory for Known<'_> {
    fn begin(&self, stored: &str, text: &TextDigest) {
        if let Some(journal) = self.journal {
            journal.begin(State::of_text(stored, text));
        }
    }

    fn has(&self, stored: &str, version: &VersionId, text: &TextDigest) -> bool {
        self.journal.is_some_and(|journal| {
            let alone = State::of(stored, [version]);
            journal.has_begun(&State::of_text(stored, text))
                || journal.has_written(&alone)
                || self.written.has(&alone)
        })
    }
}

/// States that are looked up once they were sorted; 16 bytes each.
#[derive(Debug, Default)]
struct Set {
    sorted: RwLock<Vec<State>>,
    new: Mutex<Vec<State>>,
}

impl Set {
    fn add(&self, state: State) {
        self.new.lock().unwrap_or_else(PoisonError::into_inner).push(state);
    }

    fn has(&self, state: &State) -> bool {
        self.sorted.read().unwrap_or_else(PoisonError::into_inner).binary_search(state).is_ok()
    }

    fn sort(&self) {
        let mut new = std::mem::take(&mut *self.new.lock().unwrap_or_else(PoisonError::into_inner));
        let mut sorted = self.sorted.write().unwrap_or_else(PoisonError::into_inner);
        // The first time, which is when there is most, nothing is copied.
        match sorted.is_empty() {
            true => *sorted = new,
            false => sorted.append(&mut new),
        }
        sorted.sort_unstable();
    }
}
