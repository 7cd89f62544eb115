//! What the folder stands on, for `doctor`.

use rustix::fs::StatVfsMountFlags;

use super::fault::failed;
use super::{LocalStore, Result};
use crate::disk::Disk;
use crate::store::facts::{Facts, Folder};

impl LocalStore {
    pub(super) fn examine(&self) -> Result<Facts> {
        let (root, inner) = (self.inner.folders.root(), &self.inner);
        let about = |error| failed("cannot ask what it stands on", error, &inner.root);
        let disk = rustix::fs::fstatvfs(root.fd()).map_err(about)?;
        let found = rustix::fs::fstat(root.fd()).map_err(about)?;
        let folder = Folder {
            in_memory: root.disk() == Disk::Memory,
            syncs_together: root.disk() == Disk::Whole,
            read_only: disk.f_flag.contains(StatVfsMountFlags::RDONLY),
            locks: inner.has_locks,
            mode: found.st_mode & 0o7777,
            free: disk.f_bavail.saturating_mul(disk.f_frsize),
            total: disk.f_blocks.saturating_mul(disk.f_frsize),
            longest_name: inner.longest_name,
        };
        Ok(Facts { folder: Some(folder), ..Facts::default() })
    }
}
