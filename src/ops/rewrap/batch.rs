//! Envelopes that lack only their names, which a thread gives to several at a time.

use super::Rewrapping;
use super::envelope_file::{EnvelopeFile, publish};
use crate::ops::folders::most_together;

/// Those of one thread.
pub(super) struct Batch<'r> {
    run: &'r Rewrapping<'r>,
    most: usize,
    staged: Vec<EnvelopeFile<'r>>,
}

impl<'r> Batch<'r> {
    pub(super) fn new(run: &'r Rewrapping<'r>) -> Self {
        Self { run, most: most_together(run.options.jobs), staged: vec![] }
    }

    pub(super) fn add(&mut self, file: EnvelopeFile<'r>) {
        self.staged.push(file);
        if self.staged.len() >= self.most {
            self.publish();
        }
    }

    /// Gives all that wait their names, and takes each through what is left of its steps.
    pub(super) fn publish(&mut self) {
        publish(&mut self.staged);
        for mut file in self.staged.drain(..) {
            let outcome = file.drive();
            if let Err(error) = self.run.finish(file, outcome) {
                self.run.failed(&error);
            }
        }
    }
}
