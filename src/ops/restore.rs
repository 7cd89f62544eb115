//! What restoring has in common wherever the containers come from: folders, symlinks, modes and times.
//!
//! Nothing below the destination is written through a symlink: folders are looked at before anything is put in them, and
//! symlinks are made when all else is there.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs::{File, FileTimes, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::format::{FileType, Metadata};
use crate::location::Location;
use crate::name::ObjectName;
use crate::ops::atomic::{self, Mode};
use crate::ops::events::{Event, Observer};
use crate::ops::pair_files;
use crate::{Error, ErrorKind, IoContext as _, Result};

/// The tree that a run restores.
pub(crate) struct Restoring<'a> {
    /// Below it folders are made; nothing when the results are not below one folder.
    root: Option<&'a Path>,
    /// Whether results replace what has their names.
    replace: bool,
    /// What to do about a result that exists already.
    exists_hint: &'static str,
    observer: &'a dyn Observer,
    later: Mutex<Later>,
    /// Folders that are there, and no symlinks: nothing of ours changes that before the end.
    seen: Mutex<HashSet<PathBuf>>,
    /// The folders whose names are not on the disk yet: once for all files is enough.
    changed: Mutex<BTreeSet<PathBuf>>,
}

/// What is done when everything else has been restored.
#[derive(Default)]
struct Later {
    symlinks: Vec<(PathBuf, Metadata)>,
    folders: Vec<(PathBuf, Metadata)>,
}

impl<'a> Restoring<'a> {
    pub(crate) fn new(
        root: Option<&'a Path>,
        replace: bool,
        exists_hint: &'static str,
        observer: &'a dyn Observer,
    ) -> Self {
        Self {
            root,
            replace,
            exists_hint,
            observer,
            later: Mutex::default(),
            seen: Mutex::default(),
            changed: Mutex::default(),
        }
    }

    /// Takes a folder, which is made now, or a symlink, which is made last.
    pub(crate) fn put_later(&self, target: &Path, metadata: Metadata) -> Result<()> {
        let mut later = self.later.lock().unwrap_or_else(PoisonError::into_inner);
        match metadata.file_type {
            FileType::Symlink => later.symlinks.push((target.into(), metadata)),
            _ => {
                self.make_parents(&target.join(".folder"))?;
                std::fs::create_dir_all(target).context("cannot make the folder", target)?;
                later.folders.push((target.into(), metadata));
            }
        }
        Ok(())
    }

    /// Makes the folders above `target`; below the destination no symlink is written through.
    pub(crate) fn make_parents(&self, target: &Path) -> Result<()> {
        let (Some(root), Some(parent)) = (self.root, target.parent()) else { return Ok(()) };
        if self.seen().contains(parent) {
            return Ok(());
        }
        std::fs::create_dir_all(root).context("cannot make the folder", root)?;
        let mut path = root.to_owned();
        for segment in parent.strip_prefix(root).unwrap_or(Path::new("")).iter() {
            path.push(segment);
            match std::fs::create_dir(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(error).context("cannot make the folder", &path);
                }
                Err(_) => {}
                Ok(()) => self.changed(pair_files::folder_of(&path)),
            }
            if !path.symlink_metadata().context("cannot read", &path)?.is_dir() {
                return Err(
                    Error::conflict("is in the way: a folder is needed there, not a file or link").at(&path)
                );
            }
        }
        self.seen().insert(parent.to_owned());
        Ok(())
    }

    fn seen(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that names changed in a folder: they are on the disk when the run ends.
    pub(crate) fn changed(&self, folder: &Path) {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if !changed.contains(folder) {
            changed.insert(folder.to_owned());
        }
    }

    /// Symlinks, then the modes and times of folders, the deepest first; then all that was made reaches the disk.
    pub(crate) fn finish(&self) {
        let later = std::mem::take(&mut *self.later.lock().unwrap_or_else(PoisonError::into_inner));
        for (path, metadata) in &later.symlinks {
            if let Err(error) = self.symlink(path, metadata) {
                self.observer.event(Event::Failed(&error));
            }
        }
        let mut folders = later.folders;
        folders.sort_by_key(|(path, _)| std::cmp::Reverse(path.components().count()));
        for (path, metadata) in &folders {
            if let Err(error) = set_folder(path, metadata) {
                self.observer.event(Event::Failed(&error));
            }
        }
        let changed = std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner));
        for folder in changed {
            if let Err(error) = atomic::sync(&folder) {
                self.observer.event(Event::Failed(&error));
            }
        }
    }

    fn symlink(&self, path: &Path, metadata: &Metadata) -> Result<()> {
        let target =
            metadata
                .target
                .as_deref()
                .filter(|target| !target.is_empty() && !target.contains(&0))
                .ok_or_else(|| Error::integrity("the metadata has no target for the symlink").at(path))?;
        self.make_parents(path)?;
        let _lock = pair_files::lock_folder(path)?;
        let mtime = metadata.mtime.and_then(timespec);
        let made = atomic::symlink(OsStr::from_bytes(target), path, mtime, self.replace);
        made.map_err(|error| match error.kind() {
            ErrorKind::Conflict => self.exists(path),
            _ => error,
        })?;
        self.changed(pair_files::folder_of(path));
        Ok(())
    }

    /// The error about a result that exists already.
    pub(crate) fn exists(&self, path: &Path) -> Error {
        Error::conflict("exists already").at(path).hint(self.exists_hint)
    }
}

/// What to say of a pair that was given another name, or swapped with another one: it shows in the metadata.
pub(crate) fn renamed(object: &ObjectName, metadata: &Metadata) -> Option<String> {
    let inside = metadata.name.as_ref()?;
    let same = object.is_folder() || object.segments().last() == Some(inside);
    (!same).then(|| format!("was encrypted under the name {}", String::from_utf8_lossy(inside)))
}

/// Says so, or with `strict` fails, when the pair of `object` was given another name. In a vault the info record, without
/// which nothing is opened there, tells whether it may have its name; the one inside may be older.
///
/// # Errors
/// `Integrity`.
pub(crate) fn compare_name(
    location: &Location,
    object: &ObjectName,
    metadata: &Metadata,
    shown: &str,
    strict: bool,
    observer: &dyn Observer,
) -> Result<()> {
    match renamed(object, metadata).filter(|_| location.vault().is_none()) {
        None => Ok(()),
        Some(message) if strict => Err(Error::integrity(message)
            .about(shown)
            .hint("somebody renamed or swapped it; without --strict this is a warning")),
        Some(message) => {
            observer.event(Event::Warning { path: Path::new(shown), message: &message });
            Ok(())
        }
    }
}

/// Who may read the restored file.
pub(crate) fn mode(metadata: Option<&Metadata>) -> Mode {
    metadata.and_then(|metadata| metadata.mode).map_or(Mode::Data, |mode| Mode::Exact(mode & 0o777))
}

fn set_folder(path: &Path, metadata: &Metadata) -> Result<()> {
    let folder = File::open(path).context("cannot read", path)?;
    if let Some(mode) = metadata.mode {
        folder
            .set_permissions(Permissions::from_mode(mode & 0o777))
            .context("cannot set the permissions", path)?;
    }
    if let Some(times) = file_times(metadata) {
        folder.set_times(times).context("cannot set the time", path)?;
    }
    Ok(())
}

/// The times to set on it.
pub(crate) fn file_times(metadata: &Metadata) -> Option<FileTimes> {
    let time = system_time(metadata.mtime?)?;
    Some(FileTimes::new().set_modified(time))
}

fn system_time(nanoseconds: i128) -> Option<SystemTime> {
    let distance = nanoseconds.unsigned_abs();
    let duration = Duration::new(
        u64::try_from(distance / 1_000_000_000).ok()?,
        u32::try_from(distance % 1_000_000_000).ok()?,
    );
    match nanoseconds < 0 {
        true => SystemTime::UNIX_EPOCH.checked_sub(duration),
        false => SystemTime::UNIX_EPOCH.checked_add(duration),
    }
}

fn timespec(nanoseconds: i128) -> Option<rustix::fs::Timespec> {
    Some(rustix::fs::Timespec {
        tv_sec: i64::try_from(nanoseconds.div_euclid(1_000_000_000)).ok()?,
        tv_nsec: i64::try_from(nanoseconds.rem_euclid(1_000_000_000)).ok()?,
    })
}
