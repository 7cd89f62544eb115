//! What a container holds, compared with a file of this machine while it is decrypted.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::Outcome;
use crate::format::{FileType, Metadata};
use crate::location::argument::Target;
use crate::name::ObjectName;
use crate::ops::look;
use crate::ops::source::open_file;
use crate::ops::walk::{self, Found, Walk};
use crate::{Error, ErrorKind, IoContext as _, Result};

/// A file or folder of this machine that a target is compared with.
#[derive(Debug)]
pub(super) struct Local<'a> {
    root: PathBuf,
    target: &'a Target,
    arguments: [PathBuf; 1],
}

impl<'a> Local<'a> {
    /// Compares what is below the target with what is below `root`; a target that is one file, with `root` itself.
    ///
    /// # Errors
    /// What looking at `root` fails with.
    pub(super) fn new(root: &Path, target: &'a Target) -> Result<Self> {
        let found = std::fs::metadata(root).context("cannot read", root)?;
        if !found.is_dir() && target.folder {
            return Err(Error::usage("is a file, and the location to compare it with is a folder")
                .at(root)
                .hint("name the folder that was put there"));
        }
        // With a slash at its end, what it is called is no part of the names below it.
        let mut slash = root.as_os_str().to_owned();
        if found.is_dir() {
            slash.push("/");
        }
        Ok(Self { root: root.to_owned(), target, arguments: [PathBuf::from(slash)] })
    }

    /// Begins to compare one container; what it holds is then written.
    pub(super) fn compare(&self, name: &ObjectName, metadata: Option<&Metadata>) -> Comparison {
        let mut path = self.root.clone();
        path.extend(look::below(self.target, name).iter().map(|segment| OsStr::from_bytes(segment)));
        let expected = metadata.map_or(FileType::File, |metadata| metadata.file_type);
        let mtime = metadata.and_then(|metadata| metadata.mtime);
        let target = metadata.and_then(|metadata| metadata.target.clone());
        Comparison::begin(path, expected, mtime, target.as_deref())
    }

    /// Every file, symlink and empty folder below the root, and the name that its container would have.
    pub(super) fn files(&self) -> impl Iterator<Item = Result<(PathBuf, ObjectName)>> + Send {
        walk::find(&self.arguments, Walk::default()).filter_map(|found| match found {
            Ok(found) => self.stored(found).transpose(),
            Err(error) => Some(Err(error)),
        })
    }

    fn stored(&self, found: Found) -> Result<Option<(PathBuf, ObjectName)>> {
        let kind = found.metadata.file_type();
        if found.named && kind.is_dir() {
            return Ok(None);
        }
        // The root itself is called like the target, whatever it is called here.
        let below = if found.named { &[] } else { found.segments.as_slice() };
        let segments: Vec<&Vec<u8>> = self.target.path.iter().chain(below).collect();
        let at = |error: Error| error.at(&found.path);
        let name = match () {
            () if kind.is_file() || kind.is_symlink() => ObjectName::file(&segments).map_err(at)?,
            () if kind.is_dir() && is_empty(&found.path)? => ObjectName::folder(&segments).map_err(at)?,
            () => return Ok(None),
        };
        Ok(Some((found.path, name)))
    }
}

fn is_empty(folder: &Path) -> Result<bool> {
    Ok(std::fs::read_dir(folder).context("cannot read", folder)?.next().is_none())
}

/// A file of this machine beside the contents of a container, which are written to it.
#[derive(Debug)]
pub(super) struct Comparison {
    path: PathBuf,
    /// When it was changed, by the container and by the file.
    mtimes: (Option<i128>, Option<i128>),
    file: Option<BufReader<File>>,
    size: u64,
    at: u64,
    /// What is found to be different so far.
    differs: Option<(Outcome, String)>,
}

impl Comparison {
    fn begin(path: PathBuf, expected: FileType, mtime: Option<i128>, target: Option<&[u8]>) -> Self {
        let mut comparison = Self { path, mtimes: (mtime, None), file: None, size: 0, at: 0, differs: None };
        let looked = comparison.look(expected, target);
        comparison.differs = looked.unwrap_or_else(|error| match error.kind() {
            ErrorKind::NotFound => {
                Some((Outcome::Missing, format!("there is no {}", comparison.path.display())))
            }
            _ => Some((Outcome::Unchecked, error.line())),
        });
        comparison
    }

    /// Opens the file; what is different without its contents is the result.
    fn look(&mut self, expected: FileType, target: Option<&[u8]>) -> Result<Option<(Outcome, String)>> {
        let found = self.path.symlink_metadata().context("cannot read", &self.path)?;
        let is = match () {
            () if found.is_file() => FileType::File,
            () if found.is_dir() => FileType::Dir,
            () if found.is_symlink() => FileType::Symlink,
            () => return Ok(Some(self.differs(&format!("is {} there", walk::special(found.file_type()))))),
        };
        if is != expected {
            return Ok(Some(self.differs(&format!("is a {is} there and a {expected} here"))));
        }
        if is == FileType::Symlink {
            let points = std::fs::read_link(&self.path).context("cannot read", &self.path)?;
            let same = target == Some(points.as_os_str().as_bytes());
            return Ok((!same).then(|| self.differs(&format!("points to {} there", points.display()))));
        }
        if is == FileType::File {
            let (file, found) = open_file(&self.path, false)?;
            self.mtimes.1 = Some(i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec()));
            self.size = found.len();
            self.file = Some(BufReader::with_capacity(128 << 10, file));
        }
        Ok(None)
    }

    fn differs(&self, how: &str) -> (Outcome, String) {
        (Outcome::Differs, format!("{}: {how}", self.path.display()))
    }

    /// What the comparison came to, after all `len` bytes of the container were written to it.
    pub(super) fn finish(self, len: u64) -> (Outcome, Option<String>) {
        let of_a_file = self.file.is_some();
        match self.differs {
            Some((Outcome::Differs, how)) if of_a_file => {
                let (here, there) = (shown(self.mtimes.0), shown(self.mtimes.1));
                let sizes =
                    format!("{} bytes changed {there} there, {len} bytes changed {here} here", self.size);
                (Outcome::Differs, Some(format!("{how}; {sizes}")))
            }
            Some((outcome, how)) => (outcome, Some(how)),
            None if of_a_file && self.size != len => {
                let how = format!(
                    "{}: has {} bytes there and {len} bytes here, which are the same as far as they go",
                    self.path.display(),
                    self.size
                );
                (Outcome::Differs, Some(how))
            }
            None if of_a_file && self.mtimes.0.is_some() && self.mtimes.0 != self.mtimes.1 => {
                let (here, there) = (shown(self.mtimes.0), shown(self.mtimes.1));
                let how = format!(
                    "{}: has the same bytes, changed {there} there and {here} here",
                    self.path.display()
                );
                (Outcome::Ok, Some(how))
            }
            None => (Outcome::Ok, None),
        }
    }

    /// Compares the next bytes of the container with the next ones of the file, which may end first.
    fn next(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(file) = self.file.as_mut().filter(|_| self.differs.is_none()) else { return Ok(()) };
        let mut theirs = vec![0; bytes.len()];
        let len = crate::seal::read_full(file, &mut theirs).context("cannot read", &self.path)?;
        if let Some(at) = bytes.iter().zip(&theirs[..len]).position(|(ours, theirs)| ours != theirs) {
            let at = self.at + at as u64;
            self.differs = Some(self.differs(&format!("is different from byte {at} on")));
        }
        self.at += bytes.len() as u64;
        Ok(())
    }
}

/// The container is authenticated to its end whatever the file is: only its own faults stop that.
impl Write for Comparison {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.next(bytes) {
            self.differs = Some((Outcome::Unchecked, error.line()));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A time in nanoseconds since 1970, to the second.
fn shown(mtime: Option<i128>) -> String {
    let Some(mtime) = mtime else { return "at an unknown time".into() };
    let seconds = mtime.div_euclid(1_000_000_000);
    let time = u64::try_from(seconds)
        .ok()
        .and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    match time {
        Some(time) if seconds < 253_402_300_800 => crate::rfc3339(time),
        _ => format!("{seconds} seconds from 1970"),
    }
}
