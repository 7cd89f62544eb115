//! Folders of the store, held open: what is found, made and published is relative to them, and no symlink is followed
//! on the way.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::disk::Disk;

/// How many folders are held open: of many small files, those next to each other share one.
const HELD: usize = 64;

/// An open folder and the way to it.
#[derive(Debug)]
pub(super) struct Folder {
    /// Empty for the root.
    key: String,
    fd: Arc<OwnedFd>,
    identity: (u64, u64),
    disk: Disk,
    /// The folder it is in, and its name there; nothing for the root.
    parent: Option<(Arc<Self>, String)>,
    /// Whether its own name is known to survive a power cut.
    durable: AtomicBool,
}

impl Folder {
    /// The root of a store, reached in whatever way its user wrote.
    pub(super) fn root(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = readable_or_not(|more| rustix::fs::open(path, flags | more, Mode::empty()))?;
        let identity = identity(&rustix::fs::fstat(&fd)?);
        let disk = Disk::of(&fd);
        let durable = AtomicBool::new(true);
        Ok(Self { key: String::new(), fd: Arc::new(fd), identity, disk, parent: None, durable })
    }

    /// The same on another kind of disk.
    #[cfg(test)]
    pub(super) fn on(self, disk: Disk) -> Self {
        Self { disk, ..self }
    }

    /// The folder with this name in it. `Errno::LOOP` for a symlink.
    fn child(self: &Arc<Self>, name: &str) -> Result<Self, Errno> {
        let fd = readable_or_not(|more| open_folder(&self.fd, name, more))?;
        let identity = identity(&rustix::fs::fstat(&fd)?);
        let disk = if identity.0 == self.identity.0 { self.disk } else { Disk::of(&fd) };
        let key = if self.key.is_empty() { name.to_owned() } else { format!("{}/{name}", self.key) };
        let parent = Some((Arc::clone(self), name.to_owned()));
        Ok(Self { key, fd: Arc::new(fd), identity, disk, parent, durable: AtomicBool::new(false) })
    }

    pub(super) fn fd(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// The folder it is in, and its name there.
    pub(super) fn parent(&self) -> Option<(&Arc<Self>, &str)> {
        self.parent.as_ref().map(|(parent, name)| (parent, name.as_str()))
    }

    /// Device and inode.
    pub(super) fn identity(&self) -> (u64, u64) {
        self.identity
    }

    pub(super) fn disk(&self) -> Disk {
        self.disk
    }

    /// Whether the way from the root still leads here.
    pub(super) fn stands(&self) -> Result<bool, Errno> {
        let mut folder = self;
        while let Some((parent, name)) = &folder.parent {
            match rustix::fs::statat(&parent.fd, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) if identity(&found) == folder.identity => folder = parent,
                Ok(_) | Err(Errno::NOENT) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// This folder and those above it whose names must be synced before what is in it survives a power cut.
    pub(super) fn unsynced(self: &Arc<Self>) -> Vec<Arc<Self>> {
        let mut folders = vec![Arc::clone(self)];
        let mut folder = self;
        while let (Some((parent, _)), false) = (&folder.parent, folder.durable.load(Ordering::Relaxed)) {
            folders.push(Arc::clone(parent));
            folder = parent;
        }
        folders
    }

    /// Says that [`Self::unsynced`] were synced.
    pub(super) fn is_durable(&self) {
        let mut folder = Some(self);
        while let Some(this) = folder.filter(|this| !this.durable.swap(true, Ordering::Relaxed)) {
            folder = this.parent.as_ref().map(|(parent, _)| &**parent);
        }
    }

    /// Holds the folder until the guard is dropped, against other processes and other stores of this one; nothing where
    /// the file system has no locks. Whoever calls it holds the store's own gate.
    pub(super) fn lock(&self) -> Option<Locked<'_>> {
        loop {
            match rustix::fs::flock(&self.fd, FlockOperation::LockExclusive) {
                Ok(()) => return Some(Locked(&self.fd)),
                Err(Errno::INTR) => {}
                Err(_) => return None,
            }
        }
    }

    /// Whether folders can be locked there.
    pub(super) fn has_locks(&self) -> bool {
        match rustix::fs::flock(&self.fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => rustix::fs::flock(&self.fd, FlockOperation::Unlock).is_ok(),
            Err(error) => error == Errno::WOULDBLOCK,
        }
    }
}

/// A folder's lock.
#[derive(Debug)]
pub(super) struct Locked<'f>(&'f OwnedFd);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(self.0, FlockOperation::Unlock);
    }
}

/// The folders used last.
#[derive(Debug)]
pub(super) struct Folders {
    root: Arc<Folder>,
    /// The one used last is first.
    held: Mutex<VecDeque<Arc<Folder>>>,
    whole_path: bool,
}

impl Folders {
    pub(super) fn new(root: Folder) -> Self {
        let whole_path = has_openat2(root.fd());
        Self { root: Arc::new(root), held: Mutex::default(), whole_path }
    }

    /// The same where the kernel cannot open a whole path without symlinks.
    #[cfg(test)]
    pub(super) fn step_by_step(self) -> Self {
        Self { whole_path: false, ..self }
    }

    pub(super) fn root(&self) -> &Arc<Folder> {
        &self.root
    }

    /// The folder with this key, held open since an earlier use where it was used lately: [`Folder::stands`] says
    /// whether it is still there. With `make`, what is missing is made.
    pub(super) fn folder(&self, key: &str, make: bool) -> Result<Arc<Folder>, Errno> {
        let (mut folder, rest) = self.nearest(key);
        for name in rest.split('/').filter(|name| !name.is_empty()) {
            let child = match folder.child(name) {
                Err(Errno::NOENT) if make => {
                    match rustix::fs::mkdirat(folder.fd(), name, Mode::RWXU) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error),
                    }
                    folder.child(name)?
                }
                child => child?,
            };
            folder = Arc::new(child);
            self.hold(&folder);
        }
        Ok(folder)
    }

    /// Forgets what is held open: something is not where it was.
    pub(super) fn forget(&self) {
        self.held().clear();
    }

    /// Opens what has this key now, in one call where the kernel can see to it that the way holds no symlink.
    pub(super) fn open(&self, key: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if key.is_empty() {
            return rustix::fs::openat(self.root.fd(), ".", flags, Mode::empty());
        }
        if self.whole_path {
            match open_whole_path(self.root.fd(), key, flags) {
                // The kernel takes 4,096 bytes at once (PATH_MAX); what was written folder by folder may be longer.
                Err(Errno::NAMETOOLONG) => {}
                opened => return opened,
            }
        }
        self.open_step_by_step(key, flags)
    }

    /// Opens what has this key folder by folder, so that `Errno::NAMETOOLONG` is about a single name.
    fn open_step_by_step(&self, key: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let (folders, name) = key.rsplit_once('/').unwrap_or(("", key));
        let mut folder: Option<OwnedFd> = None;
        for step in folders.split('/').filter(|step| !step.is_empty()) {
            let from = folder.as_ref().map_or(self.root.fd().as_fd(), |folder| folder.as_fd());
            folder = Some(readable_or_not(|more| open_folder(from, step, more))?);
        }
        let from = folder.as_ref().map_or(self.root.fd().as_fd(), |folder| folder.as_fd());
        rustix::fs::openat(from, name, flags, Mode::empty())
    }

    /// The folder nearest to `key` on its way that is held open, and the rest of the way.
    fn nearest<'k>(&self, key: &'k str) -> (Arc<Folder>, &'k str) {
        let mut held = self.held();
        let mut end = key.len();
        while end > 0 {
            let found = held.iter().position(|folder| folder.key == key[..end]);
            if let Some(found) = found.and_then(|at| held.remove(at)) {
                held.push_front(Arc::clone(&found));
                return (found, &key[end..]);
            }
            end = key[..end].rfind('/').unwrap_or(0);
        }
        (Arc::clone(&self.root), key)
    }

    fn hold(&self, folder: &Arc<Folder>) {
        let mut held = self.held();
        held.retain(|other| other.key != folder.key);
        held.push_front(Arc::clone(folder));
        held.truncate(HELD);
    }

    #[cfg(test)]
    pub(super) fn held_now(&self) -> usize {
        self.held().len()
    }

    fn held(&self) -> MutexGuard<'_, VecDeque<Arc<Folder>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[allow(clippy::unnecessary_cast, reason = "the types of the fields differ between systems")]
pub(super) fn identity(found: &Stat) -> (u64, u64) {
    (found.st_dev as u64, found.st_ino as u64)
}

/// Opens a folder to read it, or else, where only that is not allowed, to work in it.
fn readable_or_not(open: impl Fn(OFlags) -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
    match open(OFlags::empty()) {
        #[cfg(target_os = "linux")]
        Err(Errno::ACCESS) => {
            let folder = open(OFlags::PATH)?;
            rustix::fs::accessat(&folder, ".", rustix::fs::Access::EXEC_OK, AtFlags::empty())?;
            Ok(folder)
        }
        opened => opened,
    }
}

/// Opens the folder `name` in `folder`. A symlink is `Errno::LOOP` on every kernel.
pub(super) fn open_folder(folder: impl AsFd, name: &str, more: OFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
    match rustix::fs::openat(&folder, name, flags, Mode::empty()) {
        Err(Errno::NOTDIR) => match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Symlink => Err(Errno::LOOP),
            _ => Err(Errno::NOTDIR),
        },
        opened => opened,
    }
}

#[cfg(target_os = "linux")]
fn open_whole_path(root: impl AsFd, key: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    use rustix::fs::ResolveFlags;

    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, key, flags, Mode::empty(), resolve)
}

#[cfg(not(target_os = "linux"))]
fn open_whole_path(_: impl AsFd, _: &str, _: OFlags) -> Result<OwnedFd, Errno> {
    Err(Errno::NOSYS)
}

/// Older kernels have no such call, and some sandboxes refuse it.
fn has_openat2(root: &OwnedFd) -> bool {
    open_whole_path(root, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC).is_ok()
}
