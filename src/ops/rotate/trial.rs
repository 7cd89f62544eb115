//! Trials: what the old keys still open, whatever its label and whatever it is called.

use std::path::Path;

use super::known::State;
use super::{Pass, Rotating, is_good, states_of};
use crate::format::envelope::MAX_BYTES;
use crate::location::drive;
use crate::name::is_envelope_name;
use crate::ops::events::Event;
use crate::ops::ledger::{Entries, Line};
use crate::ops::look::{self, Text};
use crate::ops::recipe_files;
use crate::pair::RewrapOutcome;
use crate::store::Object;
use crate::{ErrorKind, Result};

impl Rotating<'_> {
    /// Something with a name that nothing of ours has is left alone, whatever it is; but it is looked at.
    pub(super) async fn foreign(&self, object: &Object, pass: Pass) {
        let Some(stored) = self.location.relative(&object.key) else { return };
        let named = is_envelope_name(stored);
        if !named && object.size > MAX_BYTES as u64 {
            return;
        }
        let state = State::of(stored, [&object.version]);
        if self.known.is_done(&state) || (pass == Pass::Second && self.known.is_settled(&state)) {
            return;
        }
        let residue = match look::text(self.location, object).await {
            Ok(text) => self.opens(&text).then(|| "an old key opens it".to_owned()),
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) if error.kind() == ErrorKind::Integrity => {
                named.then(|| format!("it cannot be judged: {}", error.line()))
            }
            Err(error) => {
                self.known.settle(state);
                return self.failed(&error);
            }
        };
        let Some(why) = residue else {
            return self.known.done(state, true, self.options.dry_run);
        };
        self.known.settle(state);
        self.tally.add(|tally| tally.residue += 1);
        let message = format!("{why}, but its name is none that sidekey gives: it was left alone");
        let versions = std::slice::from_ref(&object.version);
        self.write_down(&Line {
            entries: Some(Entries::default()),
            why: vec![message.clone()],
            ..Line::new(stored, "residue", versions)
        });
        let shown = self.location.show(stored);
        self.observer.event(Event::Warning { path: Path::new(&shown), message: &message });
    }

    /// Tries the old keys on what now stands there. One that was taken as done by its labels, and opens all the same, is
    /// rewrapped after all. Says whether one opens it still, or may.
    pub(super) async fn try_on(&self, stored: &str, object: &Object) -> bool {
        if self.options.rotation.keys_stay() {
            return false;
        }
        let opens = match self.still_opens(object).await {
            Ok(true) => match self.rewrap_untold(stored).await {
                Ok(opens) => opens,
                Err(error) => {
                    self.failed(&error);
                    true
                }
            },
            Ok(false) => false,
            Err(error) if error.kind() == ErrorKind::NotFound => return false,
            Err(error) => {
                self.failed(&error);
                return true;
            }
        };
        self.tally.add(|tally| {
            tally.tried += 1;
            tally.opened += u64::from(opens);
        });
        if opens {
            let shown = self.location.show(stored);
            let message = "an old key still opens it";
            self.observer.event(Event::Warning { path: Path::new(&shown), message });
        }
        opens
    }

    /// Rewraps an envelope that has an old key's entry under another label; says whether an old key still opens it.
    pub(super) async fn rewrap_untold(&self, stored: &str) -> Result<bool> {
        let options = self.drive_options(Pass::Second, true);
        let mut opens = false;
        for done in drive::rewrap(self.location, stored, &options).await? {
            self.show(&done);
            if done.outcome == RewrapOutcome::Rewrapped {
                self.tally.add(|tally| tally.already = tally.already.saturating_sub(1));
                self.count(&done);
            }
            opens |= !is_good(&done) || done.outcome != RewrapOutcome::Rewrapped;
            for state in states_of(stored, std::slice::from_ref(&done)) {
                self.known.done(State::of(&state.0, &state.1), false, opens);
            }
        }
        Ok(opens)
    }

    pub(super) async fn still_opens(&self, object: &Object) -> Result<bool> {
        look::text(self.location, object).await.map(|text| self.opens(&text))
    }

    pub(super) fn opens(&self, text: &Text) -> bool {
        let rotation = self.options.rotation;
        match text {
            _ if rotation.keys_stay() => false,
            Text::Ours(envelope) => rotation.still_opens(envelope),
            Text::Recipe(key_file) => recipe_files::opens_to_text(key_file, &rotation.old),
            Text::Container => false,
        }
    }
}
