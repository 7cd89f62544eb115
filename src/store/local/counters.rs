//! How often the disk had to catch up.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

use crate::disk::Disk;

/// How often a local store made the disk catch up, or would have where nothing is kept on a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncCounts {
    /// Groups of files that got their names together.
    pub groups: u64,
    /// Syncs of one file, or of all files of a file system.
    pub data: u64,
    /// Syncs of a folder.
    pub folders: u64,
}

/// The running [`SyncCounts`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) groups: AtomicU64,
    data: AtomicU64,
    folders: AtomicU64,
}

impl Counters {
    pub(super) fn read(&self) -> SyncCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SyncCounts { groups: read(&self.groups), data: read(&self.data), folders: read(&self.folders) }
    }

    /// [`Disk::sync_file`].
    pub(super) fn file(&self, disk: Disk, file: impl AsFd) -> Result<(), Errno> {
        self.data.fetch_add(1, Ordering::Relaxed);
        disk.sync_file(file)
    }

    /// [`Disk::sync_all_files`].
    pub(super) fn all_files(&self, disk: Disk, file: impl AsFd) -> Result<(), Errno> {
        self.data.fetch_add(1, Ordering::Relaxed);
        disk.sync_all_files(file)
    }

    /// [`Disk::sync_folder`].
    pub(super) fn folder(&self, disk: Disk, folder: &OwnedFd) -> Result<(), Errno> {
        self.folders.fetch_add(1, Ordering::Relaxed);
        disk.sync_folder(folder)
    }
}
