//! Group commit: files that are ready at about the same time get on the disk, and get their names, together; and those
//! that are deleted lose theirs.
//!
//! Whoever has a file ready adds it to those that wait and gives way once, so that others that are polled by the same
//! thread can do so too. Then the first to be polled takes all that wait, also for other threads, syncs their
//! contents, changes the names under their folders' locks, syncs the folders and tells each what became of its file.

use std::future::poll_fn;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;
use tokio::sync::oneshot;

use super::counters::Counters;
use super::fault::{self, failed};
use super::folder::Folder;
use super::stamp::{self, stamp};
use crate::disk::Disk;
use crate::store::{OnlyIf, VersionId};
use crate::temporary::{Temporary, rename_new};
use crate::{Error, ErrorKind, Result};

/// A whole file that lacks only its name.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) file: OwnedFd,
    pub(super) temporary: Temporary,
    pub(super) folder: Arc<Folder>,
    pub(super) name: String,
    /// For messages.
    pub(super) path: PathBuf,
    pub(super) only_if: OnlyIf,
    /// Counts up in the order in which files were opened: taken after the file was opened and before it was written.
    pub(super) order: u64,
    /// Whether its contents are on the disk.
    pub(super) synced: bool,
}

/// A file that is to lose its name, if it is this version.
#[derive(Debug)]
pub(super) struct Unwanted {
    pub(super) folder: Arc<Folder>,
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) version: VersionId,
}

/// A name that is to change.
#[derive(Debug)]
pub(super) enum Change {
    Publish(Ready),
    Remove(Unwanted),
}

/// Why a name did not change.
#[derive(Debug)]
pub(super) enum Unchanged {
    /// Its folder is not where it was: nothing was done.
    Moved,
    /// Anything else.
    Failed(Error),
}

/// The version that was published; of what was removed, nothing.
type Outcome = Result<VersionId, Unchanged>;

/// Those that wait, and whoever works for them.
#[derive(Debug, Default)]
pub(super) struct Group {
    forming: Mutex<Forming>,
    /// One group at a time: a folder's lock keeps out other processes and stores, but not threads of this one.
    gate: Mutex<()>,
}

#[derive(Debug, Default)]
struct Forming {
    waiting: Vec<Waiting>,
    counter: u64,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    change: Change,
    reply: oneshot::Sender<Outcome>,
}

impl Group {
    /// Changes a name, together with others.
    pub(super) async fn change(&self, change: Change, counters: &Counters) -> Outcome {
        let (reply, outcome) = oneshot::channel();
        let place = self.join(change, reply);
        give_way().await;
        if place.is_waiting() {
            let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
            commit(self.take(), counters);
            drop(gate);
        }
        outcome.await.unwrap_or_else(|_| {
            Err(Unchanged::Failed(Error::new(ErrorKind::Unsure, "another thread failed while it was stored")))
        })
    }

    fn join(&self, change: Change, reply: oneshot::Sender<Outcome>) -> Place<'_> {
        let mut forming = self.forming();
        forming.counter += 1;
        let id = forming.counter;
        forming.waiting.push(Waiting { id, change, reply });
        Place { group: self, id }
    }

    fn take(&self) -> Vec<Waiting> {
        std::mem::take(&mut self.forming().waiting)
    }

    fn forming(&self) -> MutexGuard<'_, Forming> {
        self.forming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among those that wait; dropped before its turn, its file is not published.
struct Place<'g> {
    group: &'g Group,
    id: u64,
}

impl Place<'_> {
    fn is_waiting(&self) -> bool {
        self.group.forming().waiting.iter().any(|waiting| waiting.id == self.id)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut forming = self.group.forming();
        let given_up = forming.waiting.iter().position(|waiting| waiting.id == self.id);
        let given_up = given_up.map(|at| forming.waiting.remove(at));
        drop(forming);
        drop(given_up);
    }
}

/// Lets everything else that is ready on this thread run once.
async fn give_way() {
    let mut given = false;
    poll_fn(|context| {
        if given {
            return Poll::Ready(());
        }
        given = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A file on its way through a commit.
struct Member {
    change: Change,
    reply: oneshot::Sender<Outcome>,
    outcome: Outcome,
}

/// A failed sync fails every file that it was for: nothing gets a name whose contents may not be on the disk.
fn commit(waiting: Vec<Waiting>, counters: &Counters) {
    if waiting.is_empty() {
        return;
    }
    counters.groups.fetch_add(1, Ordering::Relaxed);
    let mut members: Vec<Member> = waiting
        .into_iter()
        .map(|Waiting { change, reply, .. }| Member { change, reply, outcome: Ok(VersionId::new()) })
        .collect();
    // Within a folder those who came first are first.
    members.sort_by_key(|member| member.change.folder().identity());
    for of_one_system in members.chunk_by_mut(|a, b| device(a) == device(b)) {
        sync_contents(of_one_system, counters);
    }
    for of_one_folder in
        members.chunk_by_mut(|a, b| a.change.folder().identity() == b.change.folder().identity())
    {
        change_in_folder(of_one_folder);
    }
    sync_folders(&mut members, counters);
    for Member { reply, outcome, .. } in members {
        // Whoever asked may be gone.
        let _ = reply.send(outcome);
    }
}

fn device(member: &Member) -> u64 {
    member.change.folder().identity().0
}

fn sync_contents(members: &mut [Member], counters: &Counters) {
    let disk = members.first().map_or(Disk::Files, |member| member.change.folder().disk());
    let mut unsynced: Vec<(&Ready, &mut Outcome)> = members.iter_mut().filter_map(Member::unsynced).collect();
    if disk.is_for_all(unsynced.len()) {
        // The one that was opened first saw whatever went wrong with any of them.
        let first = unsynced.iter().min_by_key(|(ready, _)| ready.order);
        let synced = first.map(|(first, _)| counters.all_files(disk, &first.file));
        if synced == Some(Ok(())) {
            return;
        }
        // Something on that file system failed, perhaps none of ours: each is asked by itself.
    }
    for (ready, outcome) in &mut unsynced {
        if let Err(error) = counters.file(disk, &ready.file) {
            **outcome = Err(Unchanged::Failed(failed("cannot write to the disk", error, &ready.path)));
        }
    }
}

/// Names change under the folder's lock, so that no other process of ours comes between looking and renaming.
fn change_in_folder(members: &mut [Member]) {
    let Some(folder) = members.first().map(|member| Arc::clone(member.change.folder())) else { return };
    let _locked = folder.lock();
    let stands = folder.stands();
    for member in members.iter_mut().filter(|member| member.outcome.is_ok()) {
        match stands {
            Ok(true) => member.outcome = member.change.perform().map_err(Unchanged::Failed),
            Ok(false) => member.outcome = Err(Unchanged::Moved),
            Err(error) => member.fail(|path| failed("cannot look up the folder", error, path)),
        }
    }
}

fn sync_folders(members: &mut [Member], counters: &Counters) {
    let mut synced: Vec<((u64, u64), Result<(), Errno>)> = Vec::new();
    for of_one_folder in
        members.chunk_by_mut(|a, b| a.change.folder().identity() == b.change.folder().identity())
    {
        let Some(folder) = of_one_folder.iter().find(|member| member.outcome.is_ok()) else { continue };
        let folder = Arc::clone(folder.change.folder());
        let mut done = Ok(());
        for needed in folder.unsynced() {
            let before = synced.iter().find(|(identity, _)| *identity == needed.identity());
            let this =
                before.map(|(_, done)| *done).unwrap_or_else(|| counters.folder(needed.disk(), needed.fd()));
            if before.is_none() {
                synced.push((needed.identity(), this));
            }
            done = done.and(this);
        }
        match done {
            Ok(()) => folder.is_durable(),
            Err(error) => {
                for member in of_one_folder.iter_mut().filter(|member| member.outcome.is_ok()) {
                    member.fail(|path| unsure(error, path));
                }
            }
        }
    }
}

/// It has its name, but a power cut may bring back what was there before.
fn unsure(error: Errno, path: &Path) -> Error {
    Error::new(ErrorKind::Unsure, "cannot write the folder to the disk")
        .because(std::io::Error::from(error))
        .at(path)
        .hint("the disk may be failing; see the system's log")
}

impl Member {
    fn fail(&mut self, error: impl FnOnce(&Path) -> Error) {
        self.outcome = Err(Unchanged::Failed(error(self.change.path())));
    }

    fn unsynced(&mut self) -> Option<(&Ready, &mut Outcome)> {
        match &self.change {
            Change::Publish(ready) if !ready.synced => Some((ready, &mut self.outcome)),
            _ => None,
        }
    }
}

impl Change {
    fn folder(&self) -> &Arc<Folder> {
        match self {
            Self::Publish(ready) => &ready.folder,
            Self::Remove(unwanted) => &unwanted.folder,
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Publish(ready) => &ready.path,
            Self::Remove(unwanted) => &unwanted.path,
        }
    }

    fn perform(&mut self) -> Result<VersionId> {
        match self {
            Self::Publish(ready) => ready.publish(),
            Self::Remove(unwanted) => unwanted.remove().map(|()| VersionId::new()),
        }
    }
}

impl Unwanted {
    fn remove(&self) -> Result<()> {
        let (folder, name) = (self.folder.fd(), self.name.as_str());
        match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) if stamp::kind(&found) == FileType::RegularFile && stamp(&found) == self.version => {}
            Ok(_) | Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(failed("cannot read", error, &self.path)),
        }
        match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failed("cannot remove the file", error, &self.path)),
        }
    }
}

impl Ready {
    fn publish(&mut self) -> Result<VersionId> {
        let (name, path) = (Path::new(&self.name), &self.path);
        let folder = self.folder.fd().as_fd();
        self.temporary.publish(|from| match &self.only_if {
            OnlyIf::Always => replace(folder, from, name, path),
            OnlyIf::Absent => rename_new(folder, from, name).map_err(|error| match error {
                Errno::EXIST => Error::conflict("exists already").at(path),
                error => failed("cannot give the finished file its name", error, path),
            }),
            OnlyIf::Version(version) => match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) if stamp(&found) == *version => replace(folder, from, name, path),
                Ok(_) | Err(Errno::NOENT) => Err(Error::conflict("changed in the meantime").at(path)),
                Err(error) => Err(failed("cannot read", error, path)),
            },
        })?;
        // A rename changes the stamp, so it is taken now.
        let found = rustix::fs::fstat(&self.file).map_err(|error| failed("cannot read", error, path))?;
        Ok(stamp(&found))
    }
}

fn replace(folder: BorrowedFd<'_>, from: &Path, name: &Path, path: &Path) -> Result<()> {
    rustix::fs::renameat(folder, from, folder, name).map_err(|error| match error {
        Errno::ISDIR | Errno::NOTEMPTY => Error::conflict("is a folder").at(path),
        error => failed("cannot give the finished file its name", error, path),
    })
}

impl From<Unchanged> for Error {
    fn from(unchanged: Unchanged) -> Self {
        match unchanged {
            Unchanged::Failed(error) => error,
            Unchanged::Moved => fault::moved(),
        }
    }
}
