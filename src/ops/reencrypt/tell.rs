//! What a run says: a line for each container in the report, and the summary.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::{Done, ReencryptOptions};
use crate::ops::ledger::{About, Line, Run};

/// What reencrypting came to. Unless it says otherwise, everything is a number of containers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ReencryptSummary {
    r#type: &'static str,
    /// Encrypted anew, or with a dry run: would be.
    pub reencrypted: u64,
    /// That no key given opens.
    pub not_ours: u64,
    /// That an earlier run did.
    pub resumed: u64,
    /// Of which something is left that the keys open.
    pub residue: u64,
    /// Failed.
    pub failed: u64,
    /// Versions of containers that were deleted.
    pub purged: u64,
    /// Versions of envelopes that were deleted.
    pub envelopes: u64,
    /// Bytes of plaintext.
    pub bytes: u64,
    /// The hash of the last line of the report, where there is one.
    #[serde(skip)]
    pub head: Option<String>,
}

impl Default for ReencryptSummary {
    fn default() -> Self {
        Self {
            r#type: "summary",
            reencrypted: 0,
            not_ours: 0,
            resumed: 0,
            residue: 0,
            failed: 0,
            purged: 0,
            envelopes: 0,
            bytes: 0,
            head: None,
        }
    }
}

/// The summary so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    summary: Mutex<ReencryptSummary>,
    any: AtomicBool,
    refused: AtomicBool,
}

impl Tally {
    pub(super) fn add(&self, count: impl FnOnce(&mut ReencryptSummary)) {
        self.any.store(true, Ordering::Relaxed);
        count(&mut self.summary.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn count(&self, done: &Done, dry_run: bool) {
        self.add(|summary| {
            summary.reencrypted += u64::from(done.reencrypted);
            summary.not_ours += u64::from(done.not_ours);
            summary.resumed += u64::from(done.resumed);
            summary.residue += u64::from(!done.left.is_empty());
            summary.purged += if dry_run { 0 } else { done.purged.len() as u64 };
            summary.bytes += done.bytes;
        });
    }

    /// Whether anything at all was there.
    pub(super) fn has_any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// The store will do no more: a cap is reached, or nobody paid.
    pub(super) fn refuse(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn into_summary(self) -> ReencryptSummary {
        self.summary.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first line of a run.
pub(super) fn begin<'a>(location: &'a str, options: &ReencryptOptions<'a>) -> Run<'a> {
    let ReencryptOptions { range, now, dry_run, identities: old, recipients: new, .. } = *options;
    Run::new(&About { location, range, now, dry_run, old, new }).of_command("reencrypt")
}

/// What was done to one container.
pub(super) fn line_of<'a>(name: &'a str, done: &'a Done, dry_run: bool) -> Line<'a> {
    let result = match done {
        Done { reencrypted: true, .. } if dry_run => "would-reencrypt",
        Done { left, .. } if !left.is_empty() => "residue",
        Done { reencrypted: true, .. } => "reencrypted",
        Done { resumed: true, .. } => "already",
        _ => "not-ours",
    };
    Line {
        written: done.written.as_deref(),
        purged: &done.purged,
        why: done.left.clone(),
        ..Line::new(name, result, &done.versions)
    }
}
