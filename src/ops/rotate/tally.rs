//! What a run came to.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::location::drive::Rewrapped;
use crate::pair::RewrapOutcome;

/// What rewrapping a location came to. Unless it says otherwise, everything is a number of envelopes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RotateSummary {
    r#type: &'static str,
    /// Rewritten, or with a dry run: would be.
    pub rewrapped: u64,
    /// Of those, written by others for the old key while this ran.
    pub late: u64,
    /// For the new recipients already.
    pub already: u64,
    /// That no old key opens.
    pub not_ours: u64,
    /// Not looked at, for an earlier run did them and they are listed as it left them.
    pub resumed: u64,
    /// With something left for an old key, or something that cannot be judged.
    pub residue: u64,
    /// Failed.
    pub failed: u64,
    /// Whose key was compared with its container's commitment.
    pub checked: u64,
    /// Whose container was not there to compare with, or was not to be.
    pub unchecked: u64,
    /// Older versions that were deleted.
    pub purged: u64,
    /// On which the old key was tried after the run.
    pub tried: u64,
    /// Of those, which it opened.
    pub opened: u64,
    /// Whether all was listed again at the end.
    #[serde(skip)]
    pub listed_again: bool,
    /// The hash of the last line of the report, where there is one.
    #[serde(skip)]
    pub head: Option<String>,
}

impl Default for RotateSummary {
    fn default() -> Self {
        Self {
            r#type: "summary",
            rewrapped: 0,
            late: 0,
            already: 0,
            not_ours: 0,
            resumed: 0,
            residue: 0,
            failed: 0,
            checked: 0,
            unchecked: 0,
            purged: 0,
            tried: 0,
            opened: 0,
            listed_again: false,
            head: None,
        }
    }
}

impl RotateSummary {
    /// Whether the old keys open nothing any more, as of the last listing.
    pub fn is_proven(&self) -> bool {
        self.residue + self.failed + self.opened == 0
    }

    pub(super) fn count(&mut self, done: &Rewrapped, dry_run: bool) {
        self.checked += done.checked;
        self.unchecked += done.unchecked;
        self.purged += if dry_run { 0 } else { done.facts.purged.len() as u64 };
        match done.outcome {
            RewrapOutcome::Rewrapped => self.rewrapped += 1,
            RewrapOutcome::AlreadyDone => self.already += 1,
            RewrapOutcome::NotOurs => self.not_ours += 1,
            RewrapOutcome::Residue | RewrapOutcome::Unproven | RewrapOutcome::Failed => {}
        }
        self.residue += u64::from(!super::is_good(done));
    }
}

/// The summary so far.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<RotateSummary>);

impl Tally {
    pub(super) fn add(&self, count: impl FnOnce(&mut RotateSummary)) {
        count(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn has_failures(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).failed > 0
    }

    pub(super) fn into_summary(self) -> RotateSummary {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
