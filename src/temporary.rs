//! Files under a name that is not theirs yet: `.<16 hex digits>.sidekey-tmp`, known to this process until they have it,
//! so that nothing is left of them when it ends by a signal.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError,
};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, RenameFlags};
use rustix::io::Errno;

use crate::random::{OsRandom, Random as _};
use crate::{Error, ErrorKind, Result};

const SUFFIX: &str = ".sidekey-tmp";

/// A registered temporary name; dropped unpublished, its file is removed.
#[derive(Debug)]
pub(crate) struct Temporary {
    place: Arc<Place>,
    /// What its name is made of.
    number: u64,
    id: u64,
    published: bool,
}

/// A name relative to an open folder, or a path.
#[derive(Debug)]
struct Place {
    folder: Option<Arc<OwnedFd>>,
    name: PathBuf,
}

impl Temporary {
    /// A new name in the folder at this path, registered before the file exists, so that no file is ever unknown to
    /// [`remove_all_temporary`].
    pub(crate) fn beside(folder: &Path) -> Result<Self> {
        let number = new_number()?;
        Self::register(number, Place { folder: None, name: folder.join(name_of(number)) })
    }

    /// A new name in an open folder, wherever that is moved to.
    pub(crate) fn within(folder: Arc<OwnedFd>) -> Result<Self> {
        let number = new_number()?;
        Self::register(number, Place { folder: Some(folder), name: name_of(number).into() })
    }

    fn register(number: u64, place: Place) -> Result<Self> {
        let place = Arc::new(place);
        let mut live = live();
        live.counter += 1;
        let id = live.counter;
        live.places.insert(id, Arc::clone(&place));
        Ok(Self { place, number, id, published: false })
    }

    /// A number that no other temporary file has, of this process or, in all likelihood, of any other.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The name in the open folder, or the path.
    pub(crate) fn path(&self) -> &Path {
        &self.place.name
    }

    /// Lets `make` make the file. A signal waits for that, so that none comes up behind its back.
    pub(crate) fn make<T>(&self, make: impl FnOnce(&Path) -> T) -> Result<T> {
        let _working = working()?;
        Ok(make(&self.place.name))
    }

    /// Lets `rename` give it its final name. A signal waits for that, too, and finds it under one name or the other.
    pub(crate) fn publish(&mut self, rename: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let _working = working()?;
        rename(&self.place.name)?;
        live().places.remove(&self.id);
        self.published = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.published {
            self.place.remove();
            live().places.remove(&self.id);
        }
    }
}

impl Place {
    fn remove(&self) {
        let folder = self.folder.as_ref().map_or(CWD, |folder| folder.as_fd());
        let _ = rustix::fs::unlinkat(folder, &self.name, AtFlags::empty());
    }
}

/// Lets `all` make files and give them their names. A signal waits until it is through, so that it finds all of them or none.
pub(crate) fn together<T>(all: impl FnOnce() -> T) -> Result<T> {
    let _working = working()?;
    Ok(all())
}

/// Whether `name` is one that a file has until it is finished: `.<16 hex digits>.sidekey-tmp`.
pub fn is_temporary_name(name: &OsStr) -> bool {
    name.as_encoded_bytes()
        .strip_prefix(b".")
        .and_then(|rest| rest.strip_suffix(SUFFIX.as_bytes()))
        .is_some_and(|hex| {
            hex.len() == 16 && hex.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
}

/// Removes every temporary file of this process and lets no new one be made or published: for a signal handler's
/// thread, just before the process ends.
pub fn remove_all_temporary() {
    CLOSED.store(true, Ordering::SeqCst);
    let _nobody_works = until_nobody_works();
    let mut live = live();
    for place in std::mem::take(&mut live.places).into_values() {
        place.remove();
    }
}

/// Waits for the files that are being made or named, though not for ever: a disk that hangs must not keep the process from
/// ending.
fn until_nobody_works() -> Option<RwLockWriteGuard<'static, ()>> {
    (0..LONGEST_WAIT.as_millis()).find_map(|_| match WORKING.try_write() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
        Err(TryLockError::WouldBlock) => {
            std::thread::sleep(Duration::from_millis(1));
            None
        }
    })
}

/// Renames unless `to` exists. Both names are relative to `folder`.
pub(crate) fn rename_new(folder: BorrowedFd<'_>, from: &Path, to: &Path) -> Result<(), Errno> {
    match rustix::fs::renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => link_new(folder, from, to),
        done => done,
    }
}

/// The same where the file system has no such rename (NFS): a hard link is as good. Where it has no links either
/// (some FUSE ones), looking first is all that is left.
fn link_new(folder: BorrowedFd<'_>, from: &Path, to: &Path) -> Result<(), Errno> {
    match rustix::fs::linkat(folder, from, folder, to, AtFlags::empty()) {
        Ok(()) => rustix::fs::unlinkat(folder, from, AtFlags::empty()),
        Err(Errno::PERM | Errno::NOSYS | Errno::NOTSUP | Errno::MLINK) => {
            match rustix::fs::statat(folder, to, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Err(Errno::EXIST),
                Err(Errno::NOENT) => rustix::fs::renameat(folder, from, folder, to),
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

/// The temporary files that exist now.
struct Live {
    places: BTreeMap<u64, Arc<Place>>,
    counter: u64,
}

/// Whether the process ends: no file is made or named any more.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// Held, together with others, by who makes or names a file.
static WORKING: RwLock<()> = RwLock::new(());

/// How long an ending process waits for those: the folders of many files are synced twice meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

static LIVE: Mutex<Live> = Mutex::new(Live { places: BTreeMap::new(), counter: 0 });

/// Nothing panics while it holds this lock, so a poisoned one is as good as any.
fn live() -> MutexGuard<'static, Live> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// That this thread makes or names a file, until it is dropped.
struct Working {
    /// Nothing where this thread works already: what it began it may end.
    guard: Option<RwLockReadGuard<'static, ()>>,
}

thread_local! {
    static THIS_THREAD_WORKS: Cell<bool> = const { Cell::new(false) };
}

fn working() -> Result<Working> {
    if THIS_THREAD_WORKS.get() {
        return Ok(Working { guard: None });
    }
    let guard = WORKING.read().unwrap_or_else(PoisonError::into_inner);
    if CLOSED.load(Ordering::SeqCst) {
        return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
    }
    THIS_THREAD_WORKS.set(true);
    Ok(Working { guard: Some(guard) })
}

impl Drop for Working {
    fn drop(&mut self) {
        if self.guard.is_some() {
            THIS_THREAD_WORKS.set(false);
        }
    }
}

fn name_of(number: u64) -> String {
    format!(".{number:016x}{SUFFIX}")
}

/// From one draw for each process: no two numbers are alike, and ten thousand of them cost one system call.
fn new_number() -> Result<u64> {
    static START: OnceLock<u64> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let start = match START.get() {
        Some(start) => *start,
        None => {
            let mut random = [0; 8];
            OsRandom.fill(&mut random)?;
            *START.get_or_init(|| u64::from_le_bytes(random))
        }
    };
    // An odd factor: all values differ, and they do not look like a row.
    let step = COUNT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Ok(start.wrapping_add(step))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make their own files")]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn only_our_temporary_names_are_temporary() {
        let names: BTreeSet<String> = (0..1000).map(|_| name_of(new_number().unwrap())).collect();
        assert_eq!(names.len(), 1000);
        assert!(names.iter().all(|name| is_temporary_name(OsStr::new(name))));
        for not in [
            ".sidekey-tmp",
            ".0123.sidekey-tmp",
            "0123456789abcdef.sidekey-tmp",
            "a",
            ".0123456789ABCDEF.sidekey-tmp",
        ] {
            assert!(!is_temporary_name(OsStr::new(not)), "{not}");
        }
        assert!(!is_temporary_name(OsStr::from_bytes(b".\xff")));
    }

    #[test]
    fn publishing_by_link_refuses_what_exists_and_leaves_one_name() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, "new").unwrap();
        fs::write(&to, "old").unwrap();
        assert_eq!(link_new(CWD, &from, &to), Err(Errno::EXIST));
        assert_eq!(fs::read(&to).unwrap(), b"old");
        fs::remove_file(&to).unwrap();
        link_new(CWD, &from, &to).unwrap();
        assert!(!from.exists());
        assert_eq!(fs::read(&to).unwrap(), b"new");
    }

    #[test]
    fn what_is_dropped_is_removed_even_from_a_folder_that_moved() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        fs::create_dir(&old).unwrap();
        let folder = Arc::new(OwnedFd::from(fs::File::open(&old).unwrap()));
        let temporary = Temporary::within(Arc::clone(&folder)).unwrap();
        fs::write(old.join(temporary.path()), "half").unwrap();
        fs::rename(&old, &new).unwrap();
        assert!(live().places.contains_key(&temporary.id));
        let id = temporary.id;
        drop(temporary);
        assert_eq!(fs::read_dir(&new).unwrap().count(), 0);
        assert!(!live().places.contains_key(&id));
    }
}
