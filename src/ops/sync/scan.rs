//! The tree of this machine, in the order of its keys.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};

use super::plan::{Facts, Here, Key};
use crate::Result;
use crate::format::FileType;
use crate::ops::events::{Event, Observer};
use crate::ops::put::choose::{Chooser, LeftOut};
use crate::ops::walk::{self, Found, Walk};

/// Which folders count as something of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Folders {
    /// Empty ones: a file is what shows the others.
    Empty,
    /// All, the root too.
    All,
}

/// What one walk over a tree finds besides.
#[derive(Default)]
pub(super) struct Scan {
    /// How many things there are.
    pub(super) found: AtomicU64,
    /// How many could not be read: what is missing then is not known to be gone.
    pub(super) failed: AtomicU64,
    /// What is there and left out, for what it is on this machine: it is not gone.
    left_out: Mutex<BTreeSet<Vec<u8>>>,
}

impl Scan {
    /// Walks `root`, a folder's path with a `/` at its end.
    pub(super) fn walk<'a>(
        &'a self,
        root: &'a [PathBuf],
        except: Option<&'a Path>,
        folders: Folders,
        leave_out: &'a (dyn Fn(&Found) -> bool + Sync),
        observer: &'a dyn Observer,
    ) -> impl Iterator<Item = Here> + 'a {
        let walk = Walk { except, sorted: true, leave_out: Some(leave_out), ..Walk::default() };
        walk::find(root, walk).filter_map(move |found| match found {
            Ok(found) => self.here(&found, folders, observer),
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                observer.event(Event::Failed(&error));
                None
            }
        })
    }

    /// Whether it is left out; what is left out of what is there is remembered.
    pub(super) fn leaves_out(&self, chooser: &Chooser<'_>, found: &Found) -> bool {
        match chooser.why(found) {
            None => return false,
            // The other side's names are asked the same.
            Some(LeftOut::Filtered(_)) => {}
            Some(LeftOut::Reserved | LeftOut::Here(_)) => {
                self.keep(Key::new(&found.segments, found.metadata.is_dir()));
            }
        }
        true
    }

    /// Whether something that was not found is only left out, itself or with the folder that it is in.
    pub(super) fn is_kept(&self, key: &Key) -> bool {
        let left_out = self.left_out();
        !left_out.is_empty()
            && (left_out.contains(&key.0) || key.folders().any(|folder| left_out.contains(folder)))
    }

    fn here(&self, found: &Found, folders: Folders, observer: &dyn Observer) -> Option<Here> {
        let Found { path, segments, metadata, .. } = found;
        let kind = metadata.file_type();
        if kind.is_dir() && folders == Folders::Empty && (segments.is_empty() || !is_empty(path)) {
            return None;
        }
        let key = Key::new(segments, kind.is_dir());
        let Some(facts) = facts(metadata) else {
            let why = format!("is {}", walk::special(kind));
            observer.event(Event::Skipped { path, why: &why });
            self.keep(key);
            return None;
        };
        self.found.fetch_add(1, Ordering::Relaxed);
        Some(Here { key, facts })
    }

    fn keep(&self, key: Key) {
        self.left_out().insert(key.0);
    }

    fn left_out(&self) -> MutexGuard<'_, BTreeSet<Vec<u8>>> {
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So much is found ahead of those who compare it.
const AHEAD: usize = 1 << 16;

/// Walks on a thread of its own, so that `work` may list the other side meanwhile.
///
/// # Errors
/// Those of `work`, which end the walk.
pub(super) fn ahead<W, T>(
    walk: impl FnOnce() -> W + Send,
    work: impl FnOnce(mpsc::IntoIter<Here>) -> Result<T>,
) -> Result<T>
where
    W: Iterator<Item = Here>,
{
    let (ahead, found) = mpsc::sync_channel(AHEAD);
    std::thread::scope(|scope| {
        scope.spawn(move || drop(walk().try_for_each(|here| ahead.send(here))));
        work(found.into_iter())
    })
}

/// Whether a folder holds nothing. The walk itself reports one that it cannot enter.
fn is_empty(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

/// What something is; nothing for what is neither a file, a folder nor a symlink.
pub(super) fn facts(metadata: &Metadata) -> Option<Facts> {
    let kind = match metadata.file_type() {
        kind if kind.is_file() => FileType::File,
        kind if kind.is_dir() => FileType::Dir,
        kind if kind.is_symlink() => FileType::Symlink,
        _ => return None,
    };
    // The length of a folder is the file system's own affair.
    let size = if kind == FileType::Dir { 0 } else { metadata.len() };
    Some(Facts {
        kind,
        size,
        mtime: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        inode: metadata.ino(),
        mode: metadata.mode() & 0o7777,
        tag: String::new(),
    })
}

/// When anything of it was changed.
pub(super) fn changed(metadata: &Metadata) -> i64 {
    let contents = nanoseconds(metadata.mtime(), metadata.mtime_nsec());
    contents.max(nanoseconds(metadata.ctime(), metadata.ctime_nsec()))
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}
