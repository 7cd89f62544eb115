//! Pairs that lack only their names, which a thread gives to several at a time.

use std::path::PathBuf;

use crate::Result;
use crate::ops::events::{Event, Observer};
use crate::ops::folders::most_together;
use crate::ops::pair_files::{Publishing, run_together};
use crate::pair::Put;

/// So many bytes of input do not wait for more.
const ENOUGH: u64 = 16 << 20;

/// An encrypted pair that lacks only its names.
pub(super) struct Staged {
    pub(super) input: PathBuf,
    pub(super) target: PathBuf,
    /// The length of the input.
    pub(super) bytes: u64,
    pub(super) publishing: Publishing,
    pub(super) put: Put,
}

impl Staged {
    pub(super) fn publish(self, observer: &dyn Observer) -> Result<()> {
        self.publishing.run(self.put)?;
        observer.event(Event::Done { input: &self.input, output: &self.target });
        Ok(())
    }
}

/// Those of one thread, in the order in which they were begun.
pub(super) struct Batch<'o> {
    observer: &'o dyn Observer,
    most: usize,
    staged: Vec<Staged>,
    bytes: u64,
}

impl<'o> Batch<'o> {
    pub(super) fn new(jobs: usize, observer: &'o dyn Observer) -> Self {
        let most = most_together(jobs);
        Self { observer, most, staged: Vec::with_capacity(most), bytes: 0 }
    }

    pub(super) fn add(&mut self, staged: Staged) {
        self.bytes = self.bytes.saturating_add(staged.bytes);
        self.staged.push(staged);
        if self.staged.len() >= self.most || self.bytes >= ENOUGH {
            self.publish();
        }
    }

    /// Gives all that wait their names.
    pub(super) fn publish(&mut self) {
        self.bytes = 0;
        let (paths, pairs): (Vec<_>, Vec<_>) =
            self.staged.drain(..).map(|of| ((of.input, of.target), (of.publishing, of.put))).unzip();
        for ((input, output), outcome) in paths.iter().zip(run_together(pairs)) {
            match &outcome {
                Ok(_) => self.observer.event(Event::Done { input, output }),
                Err(error) => self.observer.event(Event::Failed(error)),
            }
        }
    }
}
