//! The tries of one call: how long to wait, and when to give up.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Again, Clock, Policy};
use crate::{Error, ErrorKind, Result};

type Tell = dyn Fn(&Again<'_>) + Send + Sync;

/// What all calls of a store share.
#[derive(Clone)]
pub(super) struct Waits {
    pub(super) policy: Policy,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) chance: Arc<AtomicU64>,
    pub(super) tell: Option<Arc<Tell>>,
}

impl Waits {
    /// The wait after so many failures: twice as long each time, less up to a half by chance.
    fn wait(&self, failures: u32) -> Duration {
        let doubled = self.policy.first.saturating_mul(1 << failures.saturating_sub(1).min(30));
        let full = doubled.min(self.policy.most);
        full - full.mul_f64(self.fraction() / 2.0)
    }

    /// A number from 0 to 1 (splitmix64): it spreads hosts in time and protects nothing.
    fn fraction(&self) -> f64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.chance.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

pub(super) struct Tries {
    waits: Waits,
    what: &'static str,
    subject: String,
    /// Whether it changes what others see.
    changes: bool,
    /// Since when it does not succeed; after some progress the next failure sets it.
    since: Option<Duration>,
    failures: u32,
    unsure: bool,
}

impl Tries {
    pub(super) fn new(waits: &Waits, what: &'static str, subject: String, changes: bool) -> Self {
        let since = Some(waits.clock.elapsed());
        Self { waits: waits.clone(), what, subject, changes, since, failures: 0, unsure: false }
    }

    /// Whether a try got no answer.
    pub(super) fn unsure(&self) -> bool {
        self.unsure
    }

    /// Nothing fails now: what failed before does not count any more.
    pub(super) fn progress(&mut self) {
        self.since = None;
        self.failures = 0;
    }

    /// Waits for the next try, unless this error is the last. `twice` tells whether it may be done again when it may
    /// have been done.
    pub(super) async fn failed(&mut self, error: Error, twice: bool) -> Result<()> {
        self.failures += 1;
        let again = match error.kind() {
            ErrorKind::Transient => true,
            ErrorKind::Unsure => {
                self.unsure = true;
                twice
            }
            _ => false,
        };
        let now = self.waits.clock.elapsed();
        let passed = now.saturating_sub(*self.since.get_or_insert(now));
        if !again {
            return Err(self.last(error, passed));
        }
        let wait = self.waits.wait(self.failures).max(error.retry_after().unwrap_or_default());
        let Policy { total, tries, .. } = self.waits.policy;
        if self.failures >= tries || passed.saturating_add(wait) > total {
            return Err(self.last(error, passed));
        }
        if let Some(tell) = &self.waits.tell {
            let (what, subject, tries) = (self.what, &*self.subject, self.failures);
            tell(&Again { what, subject, error: &error, tries, wait });
        }
        self.waits.clock.sleep(wait).await;
        Ok(())
    }

    /// After a try without an answer something else was found.
    pub(super) fn conflict(&self) -> Error {
        Error::conflict("changed in the meantime, and an earlier try got no answer").about(&*self.subject)
    }

    /// The error to return: with how often and how long it was tried, and `Unsure` when a change may have been made by
    /// a try before this one.
    fn last(&self, error: Error, passed: Duration) -> Error {
        let error = error.about(&*self.subject);
        let note = format!("{} failed {} times in {}", self.what, self.failures, Time(passed));
        match error.kind() {
            _ if self.failures == 1 => error,
            ErrorKind::Unsure => error.noted(note),
            // A conflict is an answer about all tries: who sees one looks whose it is.
            ErrorKind::Interrupted | ErrorKind::Conflict => error,
            _ if self.changes && self.unsure => error
                .noted(format_args!("{note}, and one of them got no answer"))
                .of_kind(ErrorKind::Unsure)
                .hint("look what is there before it is done again"),
            ErrorKind::Transient => error.noted(note),
            _ => error,
        }
    }
}

/// A time in units that people read.
struct Time(Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = match self.0.as_secs() {
            0..10 => Duration::from_millis(self.0.as_millis() as u64),
            seconds => Duration::from_secs(seconds),
        };
        humantime::format_duration(shown).fmt(f)
    }
}
