//! What a file is, as far as its folder says: the version ids of this store.

use std::time::{Duration, SystemTime};

use rustix::fs::{FileType, Stat};

use crate::store::{Object, VersionId};

/// Inode, size, and the times of the last change of contents and of anything. Another write makes another file, so it
/// gives another one.
pub(super) fn stamp(found: &Stat) -> VersionId {
    format!(
        "{}-{}-{}.{:09}-{}.{:09}",
        found.st_ino, found.st_size, found.st_mtime, found.st_mtime_nsec, found.st_ctime, found.st_ctime_nsec
    )
}

pub(super) fn kind(found: &Stat) -> FileType {
    FileType::from_raw_mode(found.st_mode)
}

pub(super) fn object(key: String, found: &Stat) -> Object {
    Object {
        key,
        version: stamp(found),
        latest: true,
        marker: false,
        size: size(found),
        modified: modified(found),
        info: None,
    }
}

pub(super) fn size(found: &Stat) -> u64 {
    u64::try_from(found.st_size).unwrap_or(0)
}

#[allow(clippy::unnecessary_cast, reason = "the types of the fields differ between systems")]
pub(super) fn modified(found: &Stat) -> SystemTime {
    let (seconds, nanos) = (found.st_mtime as i64, found.st_mtime_nsec as u64);
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let start = match seconds < 0 {
        true => SystemTime::UNIX_EPOCH.checked_sub(whole),
        false => SystemTime::UNIX_EPOCH.checked_add(whole),
    };
    start.and_then(|start| start.checked_add(Duration::from_nanos(nanos))).unwrap_or(SystemTime::UNIX_EPOCH)
}
