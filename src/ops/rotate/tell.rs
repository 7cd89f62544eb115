//! What a run says: to the observer, to the report, and in the summary.

use std::path::Path;

use super::{Pass, Rotating};
use crate::Error;
use crate::location::drive::Rewrapped;
use crate::ops::events::Event;
use crate::ops::ledger::{Entries, Line};
use crate::pair::RewrapOutcome;
use crate::store::Object;

/// What is said once when the store will do no more.
pub(super) const STOPPED: &str =
    "the store refuses to go on, so the rest was not tried; the same again goes on here";

impl Rotating<'_> {
    pub(super) fn tell(&self, done: &Rewrapped, newest: &Object, pass: Pass) {
        self.count(done);
        self.show(done);
        if pass != Pass::Second || done.outcome != RewrapOutcome::Rewrapped {
            return;
        }
        self.tally.add(|tally| tally.late += 1);
        let time = crate::rfc3339(newest.modified);
        let shown = self.location.show(&done.stored);
        let message = match self.options.rotation.keys_stay() {
            true => format!("came while this ran, at {time}, and is changed too"),
            false => format!(
                "was written for the old key while this ran, at {time}, and is rewrapped; the host that wrote it still \
                 has the old public key as its recipient"
            ),
        };
        self.observer.event(Event::Warning { path: Path::new(&shown), message: &message });
    }

    pub(super) fn count(&self, done: &Rewrapped) {
        self.tally.add(|tally| tally.count(done, self.options.dry_run));
        self.write_down(&line_of(done, self.options.dry_run));
    }

    pub(super) fn show(&self, done: &Rewrapped) {
        let shown = self.location.show(&done.stored);
        let path = Path::new(&shown);
        for message in done.notes.iter().chain(&done.residue) {
            self.observer.event(Event::Warning { path, message });
        }
        self.observer.event(match done.outcome {
            RewrapOutcome::Rewrapped => Event::Done { input: path, output: path },
            outcome => {
                let why = reason(outcome, self.options.rotation.keys_stay());
                Event::Skipped { path, why }
            }
        });
    }

    pub(super) fn write_down(&self, line: &Line<'_>) {
        if let Some(ledger) = self.options.ledger {
            ledger.write(line);
        }
    }

    pub(super) fn failed(&self, error: &Error) {
        self.tally.add(|tally| tally.failed += 1);
        self.observer.event(Event::Failed(error));
    }
}

/// What the report says of one envelope.
fn line_of(done: &Rewrapped, dry_run: bool) -> Line<'_> {
    let facts = &done.facts;
    let clean = done.residue.is_empty();
    let result = match done.outcome {
        RewrapOutcome::Rewrapped if dry_run => "would-rewrap",
        RewrapOutcome::Rewrapped if clean => "rewrapped",
        RewrapOutcome::AlreadyDone if clean => "already",
        RewrapOutcome::NotOurs if clean => "not-ours",
        _ => "residue",
    };
    let is_new = done.outcome == RewrapOutcome::Rewrapped || facts.written.is_some();
    Line {
        entries: Some(Entries::new(&facts.before, if is_new { &facts.after } else { &[] })),
        written: facts.written.as_deref(),
        purged: &facts.purged,
        why: done.residue.clone(),
        ..Line::new(&done.stored, result, &facts.seen)
    }
}

fn reason(outcome: RewrapOutcome, keys_stay: bool) -> &'static str {
    match outcome {
        RewrapOutcome::AlreadyDone if keys_stay => "is as it should be already",
        RewrapOutcome::AlreadyDone => "is for the new recipients already",
        RewrapOutcome::NotOurs if keys_stay => "is not opened by the keys given",
        RewrapOutcome::NotOurs => "is not for the old key",
        RewrapOutcome::Residue => "is rewritten, but not alone",
        _ => "was not rewritten",
    }
}
