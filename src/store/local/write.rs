//! Files of the store being written: under a temporary name, read back as they are written.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::fault::{failed, moved};
use super::group::{Change, Ready, Unchanged};
use super::stamp;
use super::{Inner, Named};
use crate::store::{OnlyIf, PutOptions, Upload, Written};
use crate::temporary::Temporary;
use crate::{Error, ErrorKind, Result};

/// So much is written and read back at a time, so that it is still in the processor's cache.
const STEP: usize = 256 << 10;

/// By less than this many nanoseconds the time of a file may be off.
pub(super) const TICK: u64 = 1_000_000;

/// Files from here on are synced by themselves before they join a group, so that small ones do not wait for them.
const LARGE: usize = 1 << 20;

impl Inner {
    /// Writes a whole object.
    pub(super) async fn write(&self, key: &str, body: &[u8], options: &PutOptions) -> Result<Written> {
        let named = self.named(key)?;
        for _ in 0..3 {
            let mut ready = self.begin(&named, &options.only_if)?;
            write_checked(&ready.file, 0, body, &named.path)?;
            set_apart(&ready)?;
            if body.len() >= LARGE {
                self.sync(&mut ready)?;
            }
            match self.group.change(Change::Publish(ready), &self.counters).await {
                Err(Unchanged::Moved) => self.folders.forget(),
                published => return Ok(Written { version: published? }),
            }
        }
        Err(moved().at(&named.path))
    }

    /// A new file without a name in the folder of its key, which is made where it is missing.
    pub(super) fn begin(&self, named: &Named<'_>, only_if: &OnlyIf) -> Result<Ready> {
        let mut tries = 0;
        loop {
            match self.begin_once(named, only_if) {
                // A folder that is held open was removed since it was last used, or somebody has that name.
                Err(Begin::Stale(_)) if tries < 10 => self.folders.forget(),
                Err(Begin::Stale(error)) => {
                    return Err(failed("cannot create a file there", error, &named.path));
                }
                Err(Begin::Failed(error)) => return Err(error),
                Ok(ready) => return Ok(ready),
            }
            tries += 1;
        }
    }

    fn begin_once(&self, named: &Named<'_>, only_if: &OnlyIf) -> Result<Ready, Begin> {
        let stale = |error| matches!(error, Errno::NOENT | Errno::STALE | Errno::EXIST);
        let folder = self.folders.folder(named.folder, true).map_err(|error| match stale(error) {
            true => Begin::Stale(error),
            false => Begin::Failed(cannot_make(error, &named.path)),
        })?;
        let temporary = Temporary::within(Arc::clone(folder.fd())).map_err(Begin::Failed)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = |path: &Path| rustix::fs::openat(folder.fd(), path, flags, Mode::RUSR | Mode::WUSR);
        let file = temporary.make(open).map_err(Begin::Failed)?.map_err(|error| match stale(error) {
            true => Begin::Stale(error),
            false => Begin::Failed(failed("cannot create a file there", error, &named.path)),
        })?;
        Ok(Ready {
            file,
            temporary,
            folder,
            name: named.name.to_owned(),
            path: named.path.clone(),
            only_if: only_if.clone(),
            order: self.next_order(),
            synced: false,
        })
    }

    fn sync(&self, ready: &mut Ready) -> Result<()> {
        let synced = self.counters.file(ready.folder.disk(), &ready.file);
        synced.map_err(|error| failed("cannot write to the disk", error, &ready.path))?;
        ready.synced = true;
        Ok(())
    }
}

/// Why a file was not begun.
enum Begin {
    /// What is held open may not be what is there now.
    Stale(Errno),
    Failed(Error),
}

/// Gives a file that replaces a certain version a time that no version before had. Without that, two replacements within
/// a tick of the kernel's clock (some milliseconds) could end in the inode, size and times of the first version, and a
/// third writer, who read that, would not notice.
pub(super) fn set_apart(ready: &Ready) -> Result<()> {
    if !matches!(ready.only_if, OnlyIf::Version(_)) {
        return Ok(());
    }
    let set = || {
        let found = rustix::fs::fstat(&ready.file)?;
        let nanos = found.st_mtime_nsec as u64;
        let nanos = nanos - nanos % TICK + ready.temporary.number() % TICK;
        let time = Timespec { tv_sec: found.st_mtime, tv_nsec: nanos as _ };
        rustix::fs::futimens(&ready.file, &Timestamps { last_access: time, last_modification: time })
    };
    set().map_err(|error| failed("cannot set the time", error, &ready.path))
}

fn cannot_make(error: Errno, path: &Path) -> Error {
    match error {
        Errno::NOTDIR => Error::conflict("a file has the name of its folder").at(path),
        Errno::LOOP => super::fault::symlink_above(path),
        error => failed("cannot open its folder", error, path),
    }
}

/// Writes `bytes` at `offset` and reads them back.
pub(super) fn write_checked(file: &OwnedFd, offset: u64, bytes: &[u8], path: &Path) -> Result<()> {
    let mut back = vec![0; bytes.len().min(STEP)];
    let mut at = offset;
    for step in bytes.chunks(STEP) {
        write_all(file, at, step).map_err(|error| failed("cannot write", error, path))?;
        let back = &mut back[..step.len()];
        let read = read_exact(file, at, back).map_err(|error| failed("cannot read back", error, path))?;
        if !read || back != step {
            return Err(Error::integrity("what was read back is not what was written")
                .at(path)
                .hint("the disk or the memory of this machine may be failing"));
        }
        at += step.len() as u64;
    }
    Ok(())
}

fn write_all(file: &OwnedFd, mut at: u64, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, at) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(written) => {
                bytes = bytes.get(written..).unwrap_or_default();
                at += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether there was as much as `bytes`.
pub(super) fn read_exact(file: &OwnedFd, mut at: u64, mut bytes: &mut [u8]) -> Result<bool, Errno> {
    while !bytes.is_empty() {
        match rustix::io::pread(file, &mut *bytes, at) {
            Ok(0) => return Ok(false),
            Ok(read) => {
                bytes = bytes.get_mut(read..).unwrap_or_default();
                at += read as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// An object on its way in parts, all into one file.
#[derive(Debug)]
pub(super) struct LocalUpload {
    store: Arc<Inner>,
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Open(Parts),
    /// Completed; the answer is kept for when it is asked again.
    Done(Written),
    /// It has its name, but its folder may not be on the disk.
    Unsure,
    Closed,
}

#[derive(Debug)]
struct Parts {
    ready: Ready,
    /// How many there are.
    count: u32,
    /// Where the last one begins.
    last: u64,
    /// Where it ends.
    end: u64,
}

/// What is left to do to complete an upload.
enum Finish {
    Now(Ready),
    Before(Written),
}

impl LocalUpload {
    pub(super) fn begin(store: &Arc<Inner>, key: &str, options: &PutOptions) -> Result<Self> {
        let named = store.named(key)?;
        let ready = store.begin(&named, &options.only_if)?;
        let parts = Parts { ready, count: 0, last: 0, end: 0 };
        Ok(Self { store: Arc::clone(store), path: named.path, state: Mutex::new(State::Open(parts)) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn closed(&self) -> Error {
        Error::not_found("the upload was completed or aborted").at(&self.path)
    }

    /// Takes the file, if it holds so many parts; or what was written, if that was done before.
    fn finish(&self, parts: u32) -> Result<Finish> {
        let mut state = self.state();
        match &*state {
            State::Open(open) if open.count != parts => {
                return Err(Error::input("the parts are not those that were sent").at(&self.path));
            }
            State::Open(open) => {
                let found = rustix::fs::fstat(&open.ready.file);
                let found = found.map_err(|error| failed("cannot read", error, &self.path))?;
                // A part that failed half-way may have left something behind the last good one.
                match stamp::size(&found) {
                    size if size < open.end => {
                        return Err(Error::integrity("is shorter than its parts").at(&self.path));
                    }
                    size if size > open.end => rustix::fs::ftruncate(&open.ready.file, open.end)
                        .map_err(|error| failed("cannot write", error, &self.path))?,
                    _ => {}
                }
            }
            State::Done(written) => return Ok(Finish::Before(written.clone())),
            State::Unsure => return Err(self.unsure()),
            State::Closed => {}
        }
        match std::mem::replace(&mut *state, State::Closed) {
            State::Open(open) => Ok(Finish::Now(open.ready)),
            _ => Err(self.closed()),
        }
    }

    fn unsure(&self) -> Error {
        Error::new(ErrorKind::Unsure, "has its name, but its folder could not be written to the disk")
            .at(&self.path)
    }
}

#[async_trait]
impl Upload for LocalUpload {
    async fn part(&self, number: u32, body: Bytes) -> Result<()> {
        let mut state = self.state();
        let State::Open(parts) = &mut *state else { return Err(self.closed()) };
        let begin = match number.checked_sub(parts.count) {
            Some(1) => parts.end,
            Some(0) if number > 0 && body.len() as u64 == parts.end - parts.last => parts.last,
            _ => {
                return Err(
                    Error::input(format!("part {number} cannot follow part {}", parts.count)).at(&self.path)
                );
            }
        };
        write_checked(&parts.ready.file, begin, &body, &self.path)?;
        (parts.count, parts.last, parts.end) = (number, begin, begin + body.len() as u64);
        Ok(())
    }

    async fn complete(&self, parts: u32) -> Result<Written> {
        let mut ready = match self.finish(parts)? {
            Finish::Now(ready) => ready,
            Finish::Before(written) => return Ok(written),
        };
        set_apart(&ready)?;
        self.store.sync(&mut ready)?;
        match self.store.group.change(Change::Publish(ready), &self.store.counters).await.map_err(Error::from)
        {
            Ok(version) => {
                let written = Written { version };
                *self.state() = State::Done(written.clone());
                Ok(written)
            }
            Err(error) => {
                if error.kind() == ErrorKind::Unsure {
                    *self.state() = State::Unsure;
                }
                Err(error.at(&self.path))
            }
        }
    }

    async fn abort(&self) -> Result<()> {
        let mut state = self.state();
        if matches!(*state, State::Open(_)) {
            *state = State::Closed;
        }
        Ok(())
    }
}
