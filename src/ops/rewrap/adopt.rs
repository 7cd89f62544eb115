//! Pairs of the OpenSSL recipe that get an envelope.

use std::io::Write as _;
use std::path::Path;

use super::judge::recipe_container_of;
use super::{Prove, Rewrapping, read, reason};
use crate::format::Envelope;
use crate::ops::atomic::{AtomicFile, Mode};
use crate::ops::events::Event;
use crate::ops::pair_files::{self, PairPaths};
use crate::ops::recipe_files::{self, Settled};
use crate::pair::RewrapOutcome;
use crate::recipe::detect_key_file;
use crate::wrap::adopted_entry;
use crate::{Error, IoContext as _, Result};

impl Rewrapping<'_> {
    /// Turns a pair of the recipe into a container with an envelope: the envelope first, read back, then the key file
    /// goes.
    pub(super) fn adopt(&self, path: &Path, settled: &Settled) -> Result<()> {
        let rotation = &self.options.rotation;
        let before = read(path)?;
        let key_file =
            detect_key_file(&before).ok_or_else(|| Error::conflict("changed while it was read").at(path))?;
        if !recipe_files::opens_to_text(&key_file, &rotation.old) {
            self.count(|summary| summary.not_ours += 1);
            self.observer.event(Event::Skipped { path, why: reason(RewrapOutcome::NotOurs) });
            return Ok(());
        }
        let container = recipe_container_of(path).ok_or_else(|| {
            Error::integrity("cannot be adopted without its container")
                .at(path)
                .hint("the .enc file belongs beside it; without --adopt the key file is rewrapped alone")
        })?;
        let blocks = key_file.open(&rotation.old)?;
        let sample = recipe_files::sample_of(&container)?;
        let decision = settled.decide(&container, &blocks, &sample)?;
        let kdf = decision.parameters().kdf.to_string();
        let payload = decision.key().payload();
        let make =
            |recipient| adopted_entry(recipient, payload.expose(), &sample.data_id(), &kdf, self.options.now);
        let envelope = Envelope { blocks: rotation.new.iter().map(make).collect::<Result<_>>()? };
        let target = PairPaths::of(&container, &sample.data_id())?.located;
        if !self.options.dry_run {
            publish_adopted(path, &before, &target, &envelope.to_text()?)?;
            match self.options.prove {
                Prove::All => self.try_on(&target)?,
                Prove::Sample => self.offer(&target),
            }
        }
        self.count(|summary| {
            summary.rewrapped += 1;
            summary.checked += 1;
        });
        if let Some(message) = decision.warning() {
            self.observer.event(Event::Warning { path, message });
        }
        self.observer.event(Event::Done { input: path, output: &target });
        Ok(())
    }
}

/// The envelope durable and read back, only then the key file removed, if it is still what was read.
fn publish_adopted(key_file: &Path, before: &[u8], target: &Path, text: &str) -> Result<()> {
    let mut file = AtomicFile::create(target, Mode::Data)?;
    file.write_all(text.as_bytes()).context("cannot write", target)?;
    let _lock = pair_files::lock_folder(target)?;
    // One that is there already was left by a run that was stopped before it removed the key file.
    file.commit_replace()?;
    if read(target)? != text.as_bytes() {
        return Err(Error::conflict("was changed by another writer right after it was written").at(target));
    }
    if read(key_file)? != before {
        return Err(Error::conflict("changed while its container was adopted; it was kept").at(key_file));
    }
    std::fs::remove_file(key_file).context("cannot remove the key file", key_file)
}
