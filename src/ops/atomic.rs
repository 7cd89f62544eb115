//! Local output: written without a name, synced, then given its name in one step.
//!
//! Nothing ever stands half-written under a final name. A dropped [`AtomicFile`] leaves nothing. Where the file system has no
//! files without names, and for what replaces a file, it has a temporary name beside its target, and a killed process leaves
//! that, which [`is_temporary_name`] recognises.

use std::ffi::OsStr;
use std::fs::{File, FileTimes, OpenOptions, Permissions};
use std::io::{self, Seek as _, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::disk::Disk;
use crate::temporary::{self, Temporary, rename_new};
pub use crate::temporary::{is_temporary_name, remove_all_temporary};
use crate::{Error, IoContext as _, Result, unnamed};

/// What to do about a result that exists already.
pub(crate) const EXISTS_HINT: &str =
    "--force replaces it, --if-exists skip leaves it and goes on; --output DIR writes elsewhere";

/// Who may read what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// What the process's umask leaves of 0666.
    Data,
    /// Exactly these permission bits, whatever the umask says; 0600 until the file is published.
    Exact(u32),
    /// 0600.
    Secret,
}

/// A file that gets its name only when it is whole.
///
/// ```
/// # fn main() -> sidekey::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// use std::io::Write as _;
///
/// use sidekey::ops::atomic::{AtomicFile, Mode};
///
/// let target = dir.path().join("key.pem");
/// let mut file = AtomicFile::create(&target, Mode::Secret)?;
/// file.write_all(b"whole").unwrap();
/// assert!(!target.exists());
/// file.commit_new()?;
/// assert_eq!(std::fs::read(&target).unwrap(), b"whole");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AtomicFile {
    file: File,
    /// Its name until it gets the one of its target; nothing where it has none.
    temporary: Option<Temporary>,
    target: PathBuf,
    order: u64,
    /// Permission bits that are still to be set.
    unsettled: Option<u32>,
    synced: bool,
}

impl AtomicFile {
    /// Opens a new file (for reading, too) on the disk that the folder of `target` is on. `target` itself is not looked at; a
    /// symlink there would be replaced, not followed.
    ///
    /// # Errors
    /// The kind of what the operating system says; `Usage` when `target` has no file name; here or when it gets its name,
    /// `Interrupted` after [`remove_all_temporary`].
    pub fn create(target: &Path, mode: Mode) -> Result<Self> {
        Self::open(target, mode, unnamed::open)
    }

    /// The same for what is to replace something: only a file with a name can, so it has one from the begin.
    ///
    /// # Errors
    /// Those of [`Self::create`].
    pub(crate) fn create_named(target: &Path, mode: Mode) -> Result<Self> {
        Self::open(target, mode, |_, _| None)
    }

    fn open(target: &Path, mode: Mode, unnamed: impl FnOnce(&Path, u32) -> Option<File>) -> Result<Self> {
        if target.file_name().is_none() || target.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(Error::usage("is not the name of a file").at(target));
        }
        static ORDER: AtomicU64 = AtomicU64::new(0);
        let order = ORDER.fetch_add(1, Ordering::Relaxed);
        let bits = if mode == Mode::Data { 0o666 } else { 0o600 };
        let (file, temporary) = match unnamed(folder(target), bits) {
            Some(file) => (file, None),
            None => {
                let temporary = Temporary::beside(folder(target))?;
                let mut options = OpenOptions::new();
                options
                    .read(true)
                    .write(true)
                    .create_new(true)
                    .mode(bits)
                    .custom_flags((OFlags::NOFOLLOW | OFlags::CLOEXEC).bits().cast_signed());
                let made = temporary.make(|path| options.open(path))?;
                (made.context("cannot create a file there", target)?, Some(temporary))
            }
        };
        let unsettled = match mode {
            Mode::Exact(mode) => Some(mode & 0o7777),
            Mode::Data | Mode::Secret => None,
        };
        Ok(Self { file, temporary, target: target.to_owned(), order, unsettled, synced: false })
    }

    /// The open file, at the position of the last write.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Counts up in the order in which files were opened.
    pub(crate) fn order(&self) -> u64 {
        self.order
    }

    /// The name that the file will get.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Publishes the file if nothing has its name yet.
    ///
    /// # Errors
    /// `Conflict` "exists already"; otherwise what the operating system says. What was written is then gone.
    pub fn commit_new(self) -> Result<()> {
        self.commit(Publish::New)
    }

    /// Publishes the file in place of what has its name, if anything has.
    ///
    /// # Errors
    /// What the operating system says. What was written is then gone.
    pub fn commit_replace(self) -> Result<()> {
        self.commit(Publish::Replacing)
    }

    /// Sets the permissions and syncs the contents now, so that publishing later takes less time.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn sync(&mut self) -> Result<()> {
        self.sync_on(Disk::Files)
    }

    /// Sets the permissions now, which a sync does otherwise.
    pub(crate) fn settle_mode(&mut self) -> Result<()> {
        let Some(mode) = self.unsettled else { return Ok(()) };
        let set = self.file.set_permissions(Permissions::from_mode(mode));
        set.context("cannot set the permissions", &self.target)?;
        self.unsettled = None;
        Ok(())
    }

    /// The same on a disk that is known; where that keeps nothing, or was synced already, nobody waits for it.
    pub(crate) fn sync_on(&mut self, disk: Disk) -> Result<()> {
        self.settle_mode()?;
        disk.sync_file(&self.file)
            .map_err(io::Error::from)
            .context("cannot write to the disk", &self.target)?;
        self.synced = true;
        Ok(())
    }

    /// [`Self::commit_new`] without the sync of the folder; see [`Self::replace_unsynced`].
    ///
    /// # Errors
    /// Those of [`Self::commit_new`].
    pub(crate) fn new_unsynced(mut self) -> Result<()> {
        self.settle(Publish::New)
    }

    /// [`Self::commit_replace`] without the sync of the folder: until the caller has done [`sync`], a power
    /// cut may bring back what was replaced.
    ///
    /// # Errors
    /// Those of [`Self::commit_replace`].
    pub(crate) fn replace_unsynced(mut self) -> Result<()> {
        self.settle(Publish::Replacing)
    }

    fn commit(mut self, publish: Publish) -> Result<()> {
        self.settle(publish)?;
        sync(folder(&self.target))
    }

    /// Everything but the sync of the folder.
    fn settle(&mut self, publish: Publish) -> Result<()> {
        if !self.synced {
            self.sync()?;
        }
        let target = &self.target;
        match (&mut self.temporary, publish) {
            (Some(temporary), Publish::New) => temporary.publish(|from| publish_new(from, target)),
            (Some(temporary), Publish::Replacing) => {
                temporary.publish(|from| publish_replacing(from, target))
            }
            (None, Publish::New) => match temporary::together(|| unnamed::link(&self.file, target))? {
                Ok(()) => Ok(()),
                Err(error) => self.copy_with_name(error)?.settle(publish),
            },
            (None, Publish::Replacing) => {
                let mut temporary = Temporary::beside(folder(target))?;
                match temporary.make(|path| unnamed::link(&self.file, path))? {
                    Ok(()) => temporary.publish(|from| publish_replacing(from, target)),
                    Err(error) => self.copy_with_name(error)?.settle(publish),
                }
            }
        }
    }

    /// The same contents, permissions and times in a file with a temporary name, where the file system has files without names
    /// but gives them none.
    fn copy_with_name(&mut self, error: Errno) -> Result<Self> {
        let target = &self.target;
        match error {
            Errno::NOENT | Errno::PERM | Errno::ACCESS | Errno::NOTSUP | Errno::NOSYS | Errno::INVAL => {}
            _ => return Err(nameless(error, target)),
        }
        let found = self.file.metadata().context("cannot read", target)?;
        let mut copy = Self::create_named(target, Mode::Exact(found.mode() & 0o7777))?;
        self.file.rewind().context("cannot read", target)?;
        io::copy(&mut self.file, &mut copy.file).context("cannot write", target)?;
        let times = FileTimes::new().set_modified(found.modified().context("cannot read", target)?);
        copy.file.set_times(times).context("cannot set the time", target)?;
        Ok(copy)
    }
}

/// What becomes of something that has the name.
#[derive(Clone, Copy, Debug)]
enum Publish {
    New,
    Replacing,
}

/// Makes the names in a folder survive a power cut.
pub(crate) fn sync(folder: &Path) -> Result<()> {
    sync_folder(folder).context("cannot write the folder to the disk", folder)
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.synced = false;
        self.file.write(bytes)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.synced = false;
        self.file.write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Where a result goes: a file of this machine, or something that has no final name to earn.
#[derive(Debug)]
#[non_exhaustive]
pub enum Output {
    /// A regular file.
    Atomic(AtomicFile),
    /// A device, pipe or open descriptor: written as it comes, never renamed or synced.
    Direct(File),
    /// Standard output, unbuffered.
    Stdout(File),
}

impl Output {
    /// Opens `path`; `-` is standard output.
    ///
    /// # Errors
    /// `Usage` for a folder, otherwise what the operating system says.
    pub fn open(path: &Path, mode: Mode) -> Result<Self> {
        if path == Path::new("-") || path == Path::new("/dev/stdout") {
            let stdout =
                io::stdout().as_fd().try_clone_to_owned().context("cannot write", "standard output")?;
            return Ok(Self::Stdout(stdout.into()));
        }
        // The names of open descriptors are symlinks, whose "folder" is no place for a temporary file.
        let descriptor = ["/dev/fd", "/dev/stderr", "/proc"].iter().any(|prefix| path.starts_with(prefix));
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => Err(Error::usage("is a folder; a file is needed").at(path)),
            Ok(found) if descriptor || is_special(&found) => {
                OpenOptions::new().write(true).open(path).context("cannot write", path).map(Self::Direct)
            }
            _ => AtomicFile::create(path, mode).map(Self::Atomic),
        }
    }

    /// Whether a rename is still to come.
    pub fn is_atomic(&self) -> bool {
        matches!(self, Self::Atomic(_))
    }

    /// Finishes; see [`AtomicFile::commit_new`].
    ///
    /// # Errors
    /// Those of [`AtomicFile::commit_new`].
    pub fn commit_new(self) -> Result<()> {
        match self {
            Self::Atomic(file) => file.commit_new(),
            Self::Direct(_) | Self::Stdout(_) => Ok(()),
        }
    }

    /// Finishes; see [`AtomicFile::commit_replace`].
    ///
    /// # Errors
    /// Those of [`AtomicFile::commit_replace`].
    pub fn commit_replace(self) -> Result<()> {
        match self {
            Self::Atomic(file) => file.commit_replace(),
            Self::Direct(_) | Self::Stdout(_) => Ok(()),
        }
    }

    fn file(&self) -> &File {
        match self {
            Self::Atomic(file) => file.file(),
            Self::Direct(file) | Self::Stdout(file) => file,
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.file().write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

/// Makes a symlink at `path` that leads to `leads_to`, in one step; with `replace`, in place of what is there.
///
/// # Errors
/// `Conflict` "exists already" without `replace`; otherwise what the operating system says.
pub fn symlink(leads_to: &OsStr, path: &Path, mtime: Option<Timespec>, replace: bool) -> Result<()> {
    let mut temporary = Temporary::beside(folder(path))?;
    temporary
        .make(|path| rustix::fs::symlink(leads_to, path))?
        .map_err(io::Error::from)
        .context("cannot make a symlink there", path)?;
    if let Some(mtime) = mtime {
        let times = Timestamps { last_access: mtime, last_modification: mtime };
        rustix::fs::utimensat(CWD, temporary.path(), &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(io::Error::from)
            .context("cannot set the time", path)?;
    }
    temporary.publish(|from| match replace {
        true => std::fs::rename(from, path).context("cannot replace the file", path),
        false => publish_new(from, path),
    })
}

/// Refuses a result that would take the place of something that the same run needs.
///
/// # Errors
/// `Usage`.
pub(crate) fn refuse_same(result: &Path, needed: &[&Path]) -> Result<()> {
    for needed in needed {
        if same_file(result, needed)? {
            return Err(Error::usage(format!("would replace {}, which this run needs", needed.display()))
                .at(result)
                .hint("choose another name for the result"));
        }
    }
    Ok(())
}

/// Whether both names lead to one file (device and inode, symlinks followed). What is not there is no file.
///
/// # Errors
/// What the operating system says, other than that there is nothing.
pub fn same_file(a: &Path, b: &Path) -> Result<bool> {
    let identity = |path: &Path| match std::fs::metadata(path) {
        Ok(found) => Ok(Some((found.dev(), found.ino()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("cannot read", path),
    };
    let (a, b) = (identity(a)?, identity(b)?);
    Ok(a.is_some() && a == b)
}

pub(crate) fn publish_new(from: &Path, to: &Path) -> Result<()> {
    rename_new(CWD, from, to).map_err(|error| nameless(error, to))
}

fn nameless(error: Errno, to: &Path) -> Error {
    match error {
        Errno::EXIST => Error::conflict("exists already").at(to),
        _ => Error::io("cannot give the finished file its name", error.into()).at(to),
    }
}

/// Makes a rename in `folder` durable. Some file systems cannot sync a folder, and a folder that may be written but
/// not read cannot be opened: the rename itself stands all the same.
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        opened => Disk::Files.sync_folder(&opened?).map_err(io::Error::from),
    }
}

pub(crate) fn publish_replacing(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).context("cannot replace the file", to)
}

fn is_special(found: &std::fs::Metadata) -> bool {
    let kind = found.file_type();
    kind.is_char_device() || kind.is_block_device() || kind.is_fifo() || kind.is_socket()
}

/// The folder of `target`; of a bare name, the current one.
fn folder(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make their own files")]
mod tests {
    use std::fs;

    use super::*;
    use crate::ErrorKind;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    /// All ways to open one: without a name, where it cannot be given one later, and with a temporary one.
    fn all_ways(target: &Path, mode: Mode) -> [AtomicFile; 3] {
        // O_EXCL is a promise that nobody will ask for a name.
        let never_named = |folder: &Path, mode: u32| {
            let flags = OFlags::TMPFILE | OFlags::EXCL | OFlags::RDWR;
            rustix::fs::openat(CWD, folder, flags, mode.into()).ok().map(File::from)
        };
        let [create, named] =
            [AtomicFile::create, AtomicFile::create_named].map(|open| open(target, mode).unwrap());
        [create, AtomicFile::open(target, mode, never_named).unwrap(), named]
    }

    #[test]
    fn nothing_has_the_final_name_before_commit_and_nothing_is_left_after_a_drop() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        for mut file in all_ways(&target, Mode::Secret) {
            file.write_all(b"half").unwrap();
            let found = names(dir.path());
            assert!(found.iter().all(|name| is_temporary_name(OsStr::new(name))), "{found:?}");
            // On most file systems, one.
            assert!(!found.is_empty());
        }
        assert!(names(dir.path()).is_empty());

        let mtime = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_007, 89);
        for mut file in all_ways(&target, Mode::Exact(0o640)) {
            file.write_all(b"wh").unwrap();
            file.write_all(b"ole").unwrap();
            file.file().set_modified(mtime).unwrap();
            file.commit_new().unwrap();
            assert_eq!(fs::read(&target).unwrap(), b"whole");
            assert_eq!(
                (mode_of(&target), fs::metadata(&target).unwrap().modified().unwrap()),
                (0o640, mtime)
            );
            fs::remove_file(&target).unwrap();
        }
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn commit_new_refuses_what_exists_and_commit_replace_replaces_it() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        for existing in ["file", "dangling symlink"] {
            match existing {
                "file" => fs::write(&target, "old").unwrap(),
                _ => std::os::unix::fs::symlink("nowhere", &target).unwrap(),
            }
            for file in all_ways(&target, Mode::Data) {
                let error = file.commit_new().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Conflict, "{existing}");
                assert_eq!(error.to_string(), format!("{}: exists already", target.display()));
            }
            assert_eq!(names(dir.path()), ["out"]);
            fs::remove_file(&target).unwrap();
        }
        fs::write(&target, "old").unwrap();
        for (number, mut file) in (0..).zip(all_ways(&target, Mode::Data)) {
            file.write_all(&[number]).unwrap();
            file.commit_replace().unwrap();
            assert_eq!(fs::read(&target).unwrap(), [number]);
        }
        assert_eq!(names(dir.path()), ["out"]);
    }

    #[test]
    fn permissions_are_those_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        for (mode, expected) in [
            (Mode::Secret, 0o600),
            (Mode::Exact(0o444), 0o444),
            (Mode::Exact(0o664), 0o664),
            (Mode::Exact(0o100_751), 0o751),
        ] {
            let target = dir.path().join(format!("{mode:?}"));
            for file in all_ways(&target, mode) {
                assert_eq!(file.file().metadata().unwrap().mode() & 0o777, 0o600);
                file.commit_new().unwrap();
                assert_eq!(mode_of(&target), expected, "{mode:?}");
                fs::remove_file(&target).unwrap();
            }
        }
    }

    #[test]
    fn a_name_without_a_file_and_a_folder_that_is_not_there_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let error = AtomicFile::create(&dir.path().join("a/b"), Mode::Data).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.line().contains("a/b: cannot create a file there: No such file"), "{error:?}");
        for bad in ["/", "..", "", "new/"] {
            assert_eq!(AtomicFile::create(Path::new(bad), Mode::Data).unwrap_err().kind(), ErrorKind::Usage);
        }
        assert_eq!(Output::open(dir.path(), Mode::Data).unwrap_err().kind(), ErrorKind::Usage);
    }

    #[test]
    fn a_full_device_is_an_io_error_and_a_device_is_not_replaced() {
        let mut full = Output::open(Path::new("/dev/full"), Mode::Data).unwrap();
        assert!(!full.is_atomic());
        let error = full.write_all(b"x").context("cannot write", "/dev/full").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.line().starts_with("/dev/full: cannot write: No space left"), "{error:?}");

        let mut null = Output::open(Path::new("/dev/null"), Mode::Secret).unwrap();
        null.write_all(b"x").unwrap();
        null.commit_replace().unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    }

    #[test]
    fn one_file_by_two_names_is_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("a"), "").unwrap();
        fs::write(path("b"), "").unwrap();
        fs::hard_link(path("a"), path("hard")).unwrap();
        std::os::unix::fs::symlink("a", path("soft")).unwrap();
        for (one, two, same) in
            [("a", "a", true), ("a", "hard", true), ("soft", "a", true), ("a", "b", false)]
        {
            assert_eq!(same_file(&path(one), &path(two)).unwrap(), same, "{one} {two}");
        }
        assert!(!same_file(&path("none"), &path("none")).unwrap());
    }
}
