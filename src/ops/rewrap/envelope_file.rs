//! One envelope or key file of this machine, taken through the steps of a rewrap.

use std::fs::Metadata;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::PathBuf;

use super::judge::{Judged, judge_envelope, judge_key_file};
use super::{FILE, Rewrapping, read};
use crate::ops::atomic::{AtomicFile, Mode};
use crate::ops::folders::Folders;
use crate::ops::pair_files::folder_of;
use crate::ops::recipe_files::Settled;
use crate::pair::{Rewrap, RewrapOutcome, RewrapReply, RewrapStep};
use crate::{Error, IoContext as _, Result};

/// Performs the steps of a rewrap on one file.
pub(super) struct EnvelopeFile<'r> {
    pub(super) path: PathBuf,
    run: &'r Rewrapping<'r>,
    /// For a key file of the OpenSSL recipe.
    settled: Option<&'r Settled>,
    /// Whether entries are tried even where nothing names an old key.
    pub(super) all: bool,
    pub(super) first: Option<Vec<u8>>,
    /// Mode and owner, where the walk has just asked for them.
    pub(super) metadata: Option<Metadata>,
    machine: Rewrap,
    read: Vec<u8>,
    new: Vec<u8>,
    /// The new text in a file that lacks only its name, and the sync.
    staged: Option<AtomicFile>,
    pub(super) judged: Option<Judged>,
    pub(super) error: Option<Error>,
}

/// Gives files that [`EnvelopeFile::prepare`] left waiting their names, in place of what was read, under their folders' locks.
/// Their contents get on the disk together.
pub(super) fn publish(files: &mut [EnvelopeFile<'_>]) {
    let mut folders = Folders::default();
    let opened: Vec<_> = files.iter().map(|file| folders.open(folder_of(&file.path))).collect();
    let items = files.iter_mut().zip(&opened).map(|(file, folder)| file.staged_in(folder)).collect();
    let synced = folders.sync_contents(items);
    let ready = opened.into_iter().zip(synced).map(|(opened, synced)| synced.and(opened));
    let mut ready: Vec<_> = ready.zip(files).collect();
    ready.sort_by_key(|(folder, _)| folder.as_ref().ok().copied());
    for of_one in ready.chunk_by_mut(|(a, _), (b, _)| a.as_ref().ok() == b.as_ref().ok()) {
        let folder = of_one.first().and_then(|(folder, _)| folder.as_ref().ok());
        let _locked = folder.and_then(|folder| folders.lock(*folder));
        for (folder, file) in of_one {
            let folder = std::mem::replace(folder, Ok(0));
            let written = folder.and_then(|_| file.swap());
            file.reply(written);
        }
    }
}

impl<'r> EnvelopeFile<'r> {
    pub(super) fn new(path: PathBuf, run: &'r Rewrapping<'r>, settled: Option<&'r Settled>) -> Self {
        Self {
            path,
            run,
            settled,
            all: false,
            first: None,
            metadata: None,
            machine: Rewrap::new(),
            read: vec![],
            new: vec![],
            staged: None,
            judged: None,
            error: None,
        }
    }

    /// Performs all steps; with a dry run, up to the write.
    pub(super) fn drive(&mut self) -> RewrapOutcome {
        loop {
            match self.prepare() {
                Some(outcome) => return outcome,
                None => publish(std::slice::from_mut(self)),
            }
        }
    }

    /// Performs steps until it is over. Where nothing is returned it waits to be published first.
    pub(super) fn prepare(&mut self) -> Option<RewrapOutcome> {
        loop {
            let done = match self.machine.step() {
                RewrapStep::Finished(outcome) => return Some(*outcome),
                RewrapStep::Write { .. } if self.run.options.dry_run => {
                    return Some(RewrapOutcome::Rewrapped);
                }
                RewrapStep::Write { .. } => match self.stage() {
                    Ok(()) => return None,
                    Err(error) => Err(error),
                },
                RewrapStep::Read => self.examine(),
                RewrapStep::ReadBack(_) => self.read_back(),
                RewrapStep::List => Ok(RewrapReply::Versions(vec![FILE.into()])),
                RewrapStep::Delete(_) => Ok(RewrapReply::Failed),
            };
            self.reply(done);
        }
    }

    fn reply(&mut self, done: Result<RewrapReply>) {
        self.machine.reply(done.unwrap_or_else(|error| {
            self.error = Some(error);
            RewrapReply::Failed
        }));
    }

    fn examine(&mut self) -> Result<RewrapReply> {
        let path = &self.path;
        self.read = self.first.take().map_or_else(|| read(path), Ok)?;
        let judged = match self.settled {
            Some(settled) => judge_key_file(path, &self.read, &self.run.options.rotation, settled),
            None => judge_envelope(path, &self.read, self.run.options, self.all),
        };
        let mut judged = judged.map_err(|error| error.at(path))?;
        let finding = judged.finding;
        self.new = judged.new.take().unwrap_or_default();
        self.judged = Some(judged);
        Ok(RewrapReply::Found(vec![FILE.into()], finding))
    }

    /// Writes the new text where it lacks only its name.
    fn stage(&mut self) -> Result<()> {
        let path = &self.path;
        let asked;
        let old = match &self.metadata {
            Some(metadata) => metadata,
            None => {
                asked = std::fs::metadata(path).context("cannot read", path)?;
                &asked
            }
        };
        let mut file = AtomicFile::create_named(path, Mode::Exact(old.mode() & 0o7777))?;
        let (uid, gid) = (old.uid(), old.gid());
        if (uid, gid) != self.run.user {
            // Root may rewrap somebody's archive; it stays theirs. Others cannot give files away, nor need to.
            let _ = fchown(file.file(), Some(uid), Some(gid));
        }
        file.write_all(&self.new).context("cannot write", path)?;
        file.settle_mode()?;
        self.staged = Some(file);
        Ok(())
    }

    /// What waits to be published, with its folder if that could be opened.
    fn staged_in(&mut self, folder: &Result<usize>) -> Vec<(usize, &mut AtomicFile)> {
        folder.as_ref().ok().copied().zip(self.staged.as_mut()).into_iter().collect()
    }

    /// Compare and swap, under the folder's lock.
    fn swap(&mut self) -> Result<RewrapReply> {
        let staged = self.staged.take();
        if read(&self.path)? != self.read {
            return Ok(RewrapReply::Changed);
        }
        staged.map_or(Ok(()), AtomicFile::replace_unsynced)?;
        self.run.wrote_in(folder_of(&self.path))?;
        Ok(RewrapReply::Written(FILE.into()))
    }

    fn read_back(&self) -> Result<RewrapReply> {
        match read(&self.path)? == self.new {
            true => Ok(RewrapReply::Same),
            false => {
                Err(Error::conflict("was changed by another writer right after it was rewritten")
                    .at(&self.path))
            }
        }
    }
}
