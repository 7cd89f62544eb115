//! What files that get their names together share: the sync of their disk, the locks of their folders, the syncs of these.

use std::cell::Cell;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::disk::Disk;
use crate::ops::atomic::AtomicFile;
use crate::{IoContext as _, Result};

/// How many files of small size wait for each other at the most, where so many threads have some of their own. Each keeps
/// up to two files open.
pub(crate) fn most_together(jobs: usize) -> usize {
    (192 / jobs.max(1)).clamp(1, 32)
}

/// Open folders, which are named by the order in which they were opened.
#[derive(Default)]
pub(crate) struct Folders {
    open: Vec<Folder>,
}

struct Folder {
    path: PathBuf,
    /// Nothing where it may not be read, and so neither synced nor locked.
    file: Option<File>,
    /// Device and inode.
    identity: (u64, u64),
    disk: Disk,
    /// How the sync of this step went, once it was done.
    synced: Cell<Option<Result<(), Errno>>>,
}

/// A folder's lock, held until it is dropped.
pub(crate) struct Locked<'f> {
    folder: &'f File,
}

impl Folders {
    /// One folder by two paths is one, which can be locked only once.
    ///
    /// # Errors
    /// What the operating system says, other than that it may not be read.
    pub(crate) fn open(&mut self, path: &Path) -> Result<usize> {
        if let Some(known) = self.open.iter().rposition(|folder| folder.path == path) {
            return Ok(known);
        }
        let folder = Folder::open(path).context("cannot open the folder", path)?;
        let known = self.open.iter().position(|known| known.identity == folder.identity);
        Ok(known.unwrap_or_else(|| {
            self.open.push(folder);
            self.open.len() - 1
        }))
    }

    /// Gets the contents of files on the disk, of each device at once where it can do that. Each item is some files with
    /// their folders, of which all must get there.
    pub(crate) fn sync_contents(&self, items: Vec<Vec<(usize, &mut AtomicFile)>>) -> Vec<Result<()>> {
        let mut results: Vec<_> = items.iter().map(|_| Ok(())).collect();
        let mut files: Vec<_> = items
            .into_iter()
            .enumerate()
            .flat_map(|(item, files)| files.into_iter().map(move |(folder, file)| (item, folder, file)))
            .map(|(item, folder, file)| (item, &self.open[folder], file))
            .collect();
        files.sort_by_key(|(_, folder, file)| (folder.identity.0, file.order()));
        for of_one in files.chunk_by_mut(|(_, a, _), (_, b, _)| a.identity.0 == b.identity.0) {
            // The one that was opened first saw whatever went wrong with any of them.
            let together = of_one.first().is_some_and(|(_, folder, first)| {
                folder.disk.is_for_all(of_one.len()) && folder.disk.sync_all_files(first.file()).is_ok()
            });
            // Where that failed, perhaps for none of ours, each is asked by itself.
            for (item, folder, file) in of_one {
                let synced = file.sync_on(if together { Disk::Memory } else { folder.disk });
                results[*item] = std::mem::replace(&mut results[*item], Ok(())).and(synced);
            }
        }
        results
    }

    /// Locks one; nothing where that cannot be.
    pub(crate) fn lock(&self, folder: usize) -> Option<Locked<'_>> {
        let folder = self.open[folder].file.as_ref()?;
        folder.lock().is_ok().then_some(Locked { folder })
    }

    /// Locks all, in an order that is the same for whoever locks several.
    pub(crate) fn lock_all(&self) -> Vec<Option<Locked<'_>>> {
        let mut order: Vec<usize> = (0..self.open.len()).collect();
        order.sort_by_key(|folder| self.open[*folder].identity);
        let mut locked: Vec<_> = order.into_iter().map(|folder| (folder, self.lock(folder))).collect();
        locked.sort_by_key(|(folder, _)| *folder);
        locked.into_iter().map(|(_, locked)| locked).collect()
    }

    /// From here on names change that no sync was for.
    pub(crate) fn begin_step(&self) {
        self.open.iter().for_each(|folder| folder.synced.set(None));
    }

    /// Makes the names that changed in this step survive a power cut.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn sync(&self, folder: usize) -> Result<()> {
        let folder = &self.open[folder];
        let Some(file) = &folder.file else { return Ok(()) };
        let synced = folder.synced.get().unwrap_or_else(|| folder.disk.sync_folder(file));
        folder.synced.set(Some(synced));
        synced.map_err(io::Error::from).context("cannot write the folder to the disk", &folder.path)
    }

    /// A folder on a disk that fails.
    #[cfg(test)]
    pub(crate) fn on(path: &Path, disk: Disk) -> Self {
        Self { open: vec![Folder { disk, ..Folder::open(path).unwrap() }] }
    }
}

impl Folder {
    fn open(path: &Path) -> io::Result<Self> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
            opened => Some(opened?),
        };
        let metadata: Metadata = file.as_ref().map_or_else(|| path.metadata(), File::metadata)?;
        let disk = file.as_ref().map_or(Disk::Files, Disk::of);
        let identity = (metadata.dev(), metadata.ino());
        Ok(Self { path: path.into(), file, identity, disk, synced: Cell::new(None) })
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let _ = self.folder.unlock();
    }
}
