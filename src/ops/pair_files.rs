//! Performs the steps of [`crate::pair`] on files of this machine.
//!
//! Whoever publishes a pair or rewrites an envelope holds an advisory lock on the folder while it does, so that
//! processes of ours on one machine do not come between each other's steps.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::ops::atomic::{AtomicFile, Mode, sync, sync_open_folder};
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

    fn envelope(&self, form: Form) -> &Path {
        match form {
            Form::Beside => &self.beside,
            Form::Located => &self.located,
        }
    }
}

/// A pair on its way to its names: the container is whole in a temporary file.
#[derive(Debug)]
pub struct Publishing {
    paths: PairPaths,
    envelope: Vec<u8>,
    container: Option<AtomicFile>,
    /// The envelope, in a temporary file too.
    staged: Option<AtomicFile>,
    /// Locked while names change.
    folder: Option<File>,
    error: Option<Error>,
}

impl Publishing {
    /// Takes the finished container and the bytes of its envelope or key file.
    pub fn new(paths: PairPaths, container: AtomicFile, envelope: impl Into<Vec<u8>>) -> Self {
        Self {
            paths,
            envelope: envelope.into(),
            container: Some(container),
            staged: None,
            folder: None,
            error: None,
        }
    }

    /// Performs all steps of `put` under the folder's lock.
    ///
    /// # Errors
    /// `Conflict` when something has one of the names or a pair is to be replaced where there are no locks; else what the
    /// operating system says. Nothing is changed then, unless the error is that a folder could not be written to the disk.
    pub fn run(mut self, mut put: Put) -> Result<PutOutcome> {
        // What takes time is done before the lock.
        if let Some(container) = &mut self.container {
            container.sync()?;
        }
        if let PutStep::CreateEnvelope(form) = put.step() {
            self.staged = Some(stage(self.paths.envelope(form), &self.envelope)?);
        }
        self.folder = lock_folder(&self.paths.container)?;
        if self.folder.is_none() && matches!(put.step(), PutStep::CreateEnvelope(Form::Located)) {
            return Err(Error::conflict(
                "its folder cannot be locked, so replacing a pair there could lose a key",
            )
            .at(&self.paths.container)
            .hint("remove the old pair first, or write elsewhere with --output"));
        }
        loop {
            match put.step() {
                PutStep::Finished(outcome @ PutOutcome::Stored(_)) => return Ok(outcome),
                PutStep::Finished(_) => {
                    return Err(self
                        .error
                        .unwrap_or_else(|| Error::conflict("exists already").at(&self.paths.container)));
                }
                step => put.reply(self.perform(step)),
            }
        }
    }

    /// Performs one step.
    pub fn perform(&mut self, step: PutStep) -> PutReply {
        let done = match step {
            PutStep::CreateEnvelope(form) => {
                let staged =
                    self.staged.take().map_or_else(|| stage(self.paths.envelope(form), &self.envelope), Ok);
                staged.and_then(AtomicFile::new_unsynced)
            }
            PutStep::CreateContainer => self.take().and_then(AtomicFile::new_unsynced),
            PutStep::ReplaceContainer => self.take().and_then(AtomicFile::replace_unsynced),
            PutStep::SettleEnvelope => std::fs::rename(&self.paths.located, &self.paths.beside)
                .context("cannot rename the envelope", &self.paths.located),
            PutStep::RemoveEnvelope(form) => {
                let path = self.paths.envelope(form);
                std::fs::remove_file(path).context("cannot remove the envelope", path)
            }
            PutStep::Finished(_) => return PutReply::Done,
        };
        // A name that was given but not synced may stand or not after a power cut: from then on nothing is taken back.
        let reply = match &done {
            Ok(()) => PutReply::Unknown,
            Err(error) if error.kind() == ErrorKind::Conflict => PutReply::Exists,
            Err(_) => PutReply::Failed,
        };
        match done.and_then(|()| self.sync(step)) {
            Ok(()) => PutReply::Done,
            Err(error) => {
                self.error.get_or_insert(error);
                reply
            }
        }
    }

    /// Syncs the folder in which a name was changed.
    fn sync(&self, step: PutStep) -> Result<()> {
        let path = match step {
            PutStep::CreateEnvelope(form) | PutStep::RemoveEnvelope(form) => self.paths.envelope(form),
            PutStep::SettleEnvelope => &self.paths.beside,
            _ => &self.paths.container,
        };
        match &self.folder {
            Some(open) if folder_of(path) == folder_of(&self.paths.container) => {
                sync_open_folder(open).context("cannot write the folder to the disk", path)
            }
            _ => sync(folder_of(path)),
        }
    }

    fn take(&mut self) -> Result<AtomicFile> {
        self.container.take().ok_or_else(|| Error::conflict("is stored already").at(&self.paths.container))
    }
}

/// A file that lacks only its name.
fn stage(path: &Path, bytes: &[u8]) -> Result<AtomicFile> {
    let mut file = AtomicFile::create(path, Mode::Data)?;
    file.write_all(bytes).context("cannot write", path)?;
    file.sync()?;
    Ok(file)
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
