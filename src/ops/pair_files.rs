//! Performs the steps of [`crate::pair`] on files of this machine.
//!
//! Whoever publishes a pair or rewrites an envelope holds an advisory lock on the folder while it does, so that
//! processes of ours on one machine do not come between each other's steps.

mod together;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

pub use self::together::run_together;
use crate::ops::atomic::{self, AtomicFile, EXISTS_HINT, Mode};
use crate::pair::{Form, Put, PutOutcome, PutReply, PutStep};
use crate::{DataId, Error, ErrorKind, IoContext as _, Result, name};

/// The paths of a pair.
#[derive(Clone, Debug)]
pub struct PairPaths {
    /// `NAME.enc`.
    pub container: PathBuf,
    /// `NAME.key.enc`.
    pub beside: PathBuf,
    /// `NAME.<16 hex>.key.enc`.
    pub located: PathBuf,
}

impl PairPaths {
    /// For a container with this path, which ends in `.enc`.
    ///
    /// # Errors
    /// `Usage` when it does not, and no envelope can be named after it.
    pub fn of(container: &Path, data_id: &DataId) -> Result<Self> {
        let sibling = |data_id| {
            let name = container.file_name()?.to_str()?;
            Some(container.with_file_name(name::envelope_name(name, data_id)?))
        };
        match (sibling(None), sibling(Some(data_id))) {
            (Some(beside), Some(located)) => Ok(Self { container: container.into(), beside, located }),
            _ => Err(Error::usage("a container's name ends in .enc")
                .at(container)
                .hint("name the output NAME.enc, or say with --envelope where its envelope goes")),
        }
    }

    /// With the envelope at a path of the user's.
    pub fn with_envelope(container: &Path, envelope: &Path, data_id: &DataId) -> Self {
        let mut located = envelope.as_os_str().to_owned();
        located.push(format!(".{}.key.enc", data_id.short()));
        Self { container: container.into(), beside: envelope.into(), located: located.into() }
    }

    /// # Errors
    /// `Conflict` when either half is there.
    pub(crate) fn refuse_existing(&self) -> Result<()> {
        self.refuse_container()?;
        match is_there(&self.beside) {
            true => Err(Error::conflict("exists already, and its container does not").at(&self.beside).hint(
                "--force replaces it, after a run that was interrupted here; if its container was moved, this is its key",
            )),
            false => Ok(()),
        }
    }

    /// # Errors
    /// `Conflict` when the container is there.
    pub(crate) fn refuse_container(&self) -> Result<()> {
        match is_there(&self.container) {
            true => Err(Error::conflict("exists already").at(&self.container).hint(EXISTS_HINT)),
            false => Ok(()),
        }
    }

    fn envelope(&self, form: Form) -> &Path {
        match form {
            Form::Beside => &self.beside,
            Form::Located => &self.located,
        }
    }
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// A pair on its way to its names: the container is whole in a temporary file.
#[derive(Debug)]
pub struct Publishing {
    paths: PairPaths,
    envelope: Vec<u8>,
    container: Option<AtomicFile>,
    /// The envelope, in a temporary file too.
    staged: Option<AtomicFile>,
    error: Option<Error>,
}

impl Publishing {
    /// Takes the finished container and the bytes of its envelope or key file.
    pub fn new(paths: PairPaths, container: AtomicFile, envelope: impl Into<Vec<u8>>) -> Self {
        Self { paths, envelope: envelope.into(), container: Some(container), staged: None, error: None }
    }

    /// Performs all steps of `put` under the folder's lock.
    ///
    /// # Errors
    /// `Conflict` when something has one of the names or a pair is to be replaced where there are no locks; else what the
    /// operating system says. Nothing is changed then, unless the error is that a folder could not be written to the disk.
    pub fn run(self, put: Put) -> Result<PutOutcome> {
        let outcome = run_together(vec![(self, put)]).pop();
        outcome.unwrap_or_else(|| Err(Error::conflict("was not stored")))
    }

    /// Performs one step.
    pub fn perform(&mut self, step: PutStep) -> PutReply {
        let changed = self.change(step);
        let synced = match &changed {
            Ok(()) => atomic::sync(folder_of(self.changes(step))),
            Err(_) => Ok(()),
        };
        self.reply(changed, synced)
    }

    /// Changes names for one step, which may or may not survive a power cut.
    fn change(&mut self, step: PutStep) -> Result<()> {
        match step {
            PutStep::CreateEnvelope(form) => {
                if self.staged.is_none() {
                    self.stage(form)?;
                }
                self.staged.take().map_or(Ok(()), AtomicFile::new_unsynced)
            }
            PutStep::CreateContainer => self.take()?.new_unsynced(),
            PutStep::ReplaceContainer => self.take()?.replace_unsynced(),
            PutStep::SettleEnvelope => std::fs::rename(&self.paths.located, &self.paths.beside)
                .context("cannot rename the envelope", &self.paths.located),
            PutStep::RemoveEnvelope(form) => {
                let path = self.paths.envelope(form);
                std::fs::remove_file(path).context("cannot remove the envelope", path)
            }
            PutStep::Finished(_) => Ok(()),
        }
    }

    /// Where a step changes a name.
    fn changes(&self, step: PutStep) -> &Path {
        match step {
            PutStep::CreateContainer | PutStep::ReplaceContainer => &self.paths.container,
            _ => &self.paths.beside,
        }
    }

    /// What became of a step, from how the change and the sync of its folder went.
    fn reply(&mut self, changed: Result<()>, synced: Result<()>) -> PutReply {
        // A name that was given but not synced may stand or not after a power cut: from then on nothing is taken back.
        let reply = match &changed {
            Ok(()) => PutReply::Unknown,
            Err(error) if error.kind() == ErrorKind::Conflict => PutReply::Exists,
            Err(_) => PutReply::Failed,
        };
        match changed.and(synced) {
            Ok(()) => PutReply::Done,
            Err(error) => {
                self.error.get_or_insert(error);
                reply
            }
        }
    }

    /// Writes the envelope into a file that lacks only its name, and the sync.
    fn stage(&mut self, form: Form) -> Result<()> {
        let path = self.paths.envelope(form);
        let mut file = AtomicFile::create(path, Mode::Data)?;
        file.write_all(&self.envelope).context("cannot write", path)?;
        self.staged = Some(file);
        Ok(())
    }

    fn take(&mut self) -> Result<AtomicFile> {
        self.container.take().ok_or_else(|| Error::conflict("is stored already").at(&self.paths.container))
    }

    fn finish(self, outcome: PutOutcome) -> Result<PutOutcome> {
        match (outcome, self.error) {
            (PutOutcome::Stored(_), _) => Ok(outcome),
            (PutOutcome::Exists, error) => {
                self.paths.refuse_existing()?;
                Err(error.unwrap_or_else(|| Error::conflict("exists already").at(&self.paths.container)))
            }
            (_, error) => {
                Err(error.unwrap_or_else(|| Error::conflict("was not stored").at(&self.paths.container)))
            }
        }
    }
}

/// Holds the folder of `path` until dropped. Where the folder cannot be read, or the file system has no locks, nothing
/// is held.
pub(crate) fn lock_folder(path: &Path) -> Result<Option<File>> {
    match File::open(folder_of(path)) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(None),
        opened => {
            let folder = opened.context("cannot open the folder", folder_of(path))?;
            Ok(folder.lock().is_ok().then_some(folder))
        }
    }
}

/// The folder in which `path` stands.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
