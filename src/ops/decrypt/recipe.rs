//! Pairs of the OpenSSL recipe.

use std::fs::File;
use std::sync::atomic::Ordering;

use super::{Decrypting, Naming, find_envelopes};
use crate::ops::atomic::Mode;
use crate::ops::events::{Event, Watched, Written};
use crate::ops::recipe_files::{self, Settled};
use crate::ops::walk::{self, Found};
use crate::recipe::{Basis, Reader};
use crate::{IoContext as _, Result};

impl Decrypting<'_> {
    /// A pair of the OpenSSL recipe; everything else was done before.
    pub(super) fn recipe(&self, found: &Found, settled: &Settled) -> Result<()> {
        let path = &found.path;
        if !found.metadata.is_file()
            || self.made(path)
            || !walk::sniff(path).is_ok_and(|start| recipe_files::is_container(&start))
        {
            return Ok(());
        }
        let sample = recipe_files::sample_of(path)?;
        let identities = &self.options.identities;
        let envelopes = find_envelopes(path, &sample.data_id()).unwrap_or_default();
        let mut naming = Naming::Bare;
        let key = match recipe_files::adopted_key(&sample, &envelopes, identities) {
            Some(key) => key,
            None => {
                let blocks =
                    recipe_files::key_file_of(path)?.open(identities).map_err(|error| error.at(path))?;
                let decision = settled.decide(path, &blocks, &sample)?;
                if let Some(message) = decision.warning() {
                    self.observer.event(Event::Warning { path, message });
                }
                // What sidekey wrote itself has its names escaped; a script's names are as they are.
                if decision.basis() == Basis::Declared {
                    naming = Naming::Escaped;
                }
                decision.into_key()
            }
        };
        if !self.told.swap(true, Ordering::Relaxed) {
            self.observer.event(Event::Warning { path, message: recipe_files::NOT_AUTHENTICATED });
        }
        let target = self.target(found, naming)?;
        if self.stays(path, &target)? {
            return Ok(());
        }
        self.tree.make_parents(&target)?;
        let mut out = self.open(&target, Mode::Data)?;
        let file = File::open(path).context("cannot read", path)?;
        let source = Watched { inner: file, observer: self.observer };
        let mut written = Written::new(&mut out, &target);
        Reader::new(source)
            .and_then(|reader| reader.decrypt(&key, &mut written))
            .map_err(|error| written.blame(error).at(path))?;
        self.commit(out)?;
        self.observer.event(Event::Done { input: path, output: &target });
        Ok(())
    }
}
