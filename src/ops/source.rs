//! Files of this machine as what is read and encrypted: opened once, described, and watched for changes.

use std::fs::{File, Metadata as FileMetadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use crate::format::{FileType, Metadata};
use crate::ops::walk::Found;
use crate::{Error, IoContext as _, Result};

/// Opens a regular file, and says what it was when it was opened. A symlink is one only if it is to be followed.
pub(crate) fn open_file(path: &Path, follow: bool) -> Result<(File, FileMetadata)> {
    let follow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlags::NONBLOCK | follow).bits().cast_signed())
        .open(path)
        .context("cannot read", path)?;
    let before = file.metadata().context("cannot read", path)?;
    if !before.is_file() {
        return Err(Error::conflict("changed while it was read").at(path));
    }
    Ok((file, before))
}

/// What the container says about the file.
pub(crate) fn describe(found: &Found, metadata: &FileMetadata, file_type: FileType) -> Metadata {
    let mut described = Metadata::new(file_type);
    described.name = found.path.file_name().map(|name| name.as_bytes().to_vec());
    described.mtime = Some(i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()));
    described.mode = Some(metadata.mode() & 0o7777);
    described
}

/// Whether the file is still what it was when it was opened.
pub(crate) fn unchanged(file: &File, before: &FileMetadata, path: &Path) -> Result<()> {
    let after = file.metadata().context("cannot read", path)?;
    let what = |metadata: &FileMetadata| {
        (metadata.len(), metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec())
    };
    match what(before) == what(&after) {
        true => Ok(()),
        false => Err(Error::conflict("changed while it was read; nothing was written for it")
            .at(path)
            .hint("encrypt it again when nothing writes to it, or encrypt a snapshot")),
    }
}

/// The SHA-256 of what is left to read.
pub(crate) fn sha256(mut file: &File) -> io::Result<[u8; 32]> {
    let (mut digest, mut bytes) = (Sha256::new(), vec![0; 256 << 10]);
    loop {
        match file.read(&mut bytes)? {
            0 => return Ok(digest.finalize().into()),
            len => digest.update(&bytes[..len]),
        }
    }
}

/// A file that must have exactly the bytes that its size says: one that grows for ever ends, one that shrinks or lies
/// about its size (as in /proc) is an error.
pub(crate) struct Exactly<R> {
    pub(crate) inner: R,
    pub(crate) left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if self.left == 0 {
            return match self.inner.read(&mut [0])? {
                0 => Ok(0),
                _ => Err(io::Error::other("it holds more than its size says; is it still growing?")),
            };
        }
        let most = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let len = self.inner.read(&mut bytes[..most])?;
        if len == 0 {
            return Err(io::Error::other("it holds less than its size says; was it cut while it was read?"));
        }
        self.left -= len as u64;
        Ok(len)
    }
}
