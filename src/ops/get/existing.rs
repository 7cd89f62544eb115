//! Whether what has a result's name already is that result.

use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

use crate::format::Metadata;
use crate::format::section::End;
use crate::ops::{restore, source};
use crate::{IoContext as _, Result};

/// Why nothing has to be written; nothing when it has.
///
/// # Errors
/// What reading the file fails with.
pub(super) fn same(target: &Path, end: &End, metadata: Option<&Metadata>) -> Result<Option<&'static str>> {
    let Ok(found) = target.symlink_metadata() else { return Ok(None) };
    if !found.is_file() || found.len() != end.total {
        return Ok(None);
    }
    let mtime = i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec());
    if metadata.and_then(|metadata| metadata.mtime) == Some(mtime) {
        return Ok(Some("is there already, with this size and time"));
    }
    let Some(digest) = end.digest else { return Ok(None) };
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(target)
        .context("cannot read", target)?;
    if source::sha256(&file).context("cannot read", target)? != digest {
        return Ok(None);
    }
    if let Some(times) = metadata.and_then(restore::file_times) {
        file.set_times(times).context("cannot set the time", target)?;
    }
    Ok(Some("is there already, with these contents"))
}
