//! One envelope or key file of this machine, taken through the steps of a rewrap.

use std::fs::Metadata;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::Path;

use super::judge::{Judged, judge_envelope, judge_key_file};
use super::{FILE, Rewrapping, read};
use crate::ops::atomic::{AtomicFile, Mode};
use crate::ops::pair_files::{self, folder_of};
use crate::ops::recipe_files::Settled;
use crate::pair::{Rewrap, RewrapOutcome, RewrapReply, RewrapStep};
use crate::{Error, IoContext as _, Result};

/// Performs the steps of a rewrap on one file.
pub(super) struct EnvelopeFile<'p, 'r> {
    pub(super) path: &'p Path,
    run: &'r Rewrapping<'r>,
    /// For a key file of the OpenSSL recipe.
    settled: Option<&'r Settled>,
    /// Whether entries are tried even where nothing names an old key.
    pub(super) all: bool,
    pub(super) first: Option<Vec<u8>>,
    /// Mode and owner, where the walk has just asked for them.
    pub(super) metadata: Option<&'p Metadata>,
    read: Vec<u8>,
    new: Vec<u8>,
    pub(super) judged: Option<Judged>,
    pub(super) error: Option<Error>,
}

impl<'p, 'r> EnvelopeFile<'p, 'r> {
    pub(super) fn new(path: &'p Path, run: &'r Rewrapping<'r>, settled: Option<&'r Settled>) -> Self {
        Self {
            path,
            run,
            settled,
            all: false,
            first: None,
            metadata: None,
            read: vec![],
            new: vec![],
            judged: None,
            error: None,
        }
    }

    /// Performs all steps; with a dry run, up to the write.
    pub(super) fn drive(&mut self) -> RewrapOutcome {
        let mut machine = Rewrap::new();
        loop {
            match machine.step() {
                RewrapStep::Finished(outcome) => return *outcome,
                RewrapStep::Write { .. } if self.run.options.dry_run => return RewrapOutcome::Rewrapped,
                step => {
                    let reply = self.perform(step);
                    machine.reply(reply);
                }
            }
        }
    }

    fn perform(&mut self, step: &RewrapStep) -> RewrapReply {
        let reply = match step {
            RewrapStep::Read => self.examine(),
            RewrapStep::Write { .. } => self.write(),
            RewrapStep::ReadBack(_) => self.read_back(),
            RewrapStep::List => Ok(RewrapReply::Versions(vec![FILE.into()])),
            RewrapStep::Delete(_) | RewrapStep::Finished(_) => Ok(RewrapReply::Failed),
        };
        reply.unwrap_or_else(|error| {
            self.error = Some(error);
            RewrapReply::Failed
        })
    }

    fn examine(&mut self) -> Result<RewrapReply> {
        self.read = self.first.take().map_or_else(|| read(self.path), Ok)?;
        let judged = match self.settled {
            Some(settled) => judge_key_file(self.path, &self.read, &self.run.options.rotation, settled),
            None => judge_envelope(self.path, &self.read, self.run.options, self.all),
        };
        let mut judged = judged.map_err(|error| error.at(self.path))?;
        let finding = judged.finding;
        self.new = judged.new.take().unwrap_or_default();
        self.judged = Some(judged);
        Ok(RewrapReply::Found(vec![FILE.into()], finding))
    }

    /// Compare and swap, under the folder's lock.
    fn write(&self) -> Result<RewrapReply> {
        let asked;
        let old = match self.metadata {
            Some(metadata) => metadata,
            None => {
                asked = std::fs::metadata(self.path).context("cannot read", self.path)?;
                &asked
            }
        };
        let mut file = AtomicFile::create(self.path, Mode::Exact(old.mode() & 0o7777))?;
        let (uid, gid) = (old.uid(), old.gid());
        if (uid, gid) != self.run.user {
            // Root may rewrap somebody's archive; it stays theirs. Others cannot give files away, nor need to.
            let _ = fchown(file.file(), Some(uid), Some(gid));
        }
        file.write_all(&self.new).context("cannot write", self.path)?;
        // Before the lock: other threads do not wait for the disk.
        file.sync()?;
        let _lock = pair_files::lock_folder(self.path)?;
        if read(self.path)? != self.read {
            return Ok(RewrapReply::Changed);
        }
        file.replace_unsynced()?;
        self.run.wrote_in(folder_of(self.path))?;
        Ok(RewrapReply::Written(FILE.into()))
    }

    fn read_back(&self) -> Result<RewrapReply> {
        match read(self.path)? == self.new {
            true => Ok(RewrapReply::Same),
            false => {
                Err(Error::conflict("was changed by another writer right after it was rewritten")
                    .at(self.path))
            }
        }
    }
}
