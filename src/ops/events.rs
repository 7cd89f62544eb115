//! What operations on many files tell while they run. Operations print nothing.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::location::drive::Removed;
use crate::ops::audit::Audited;
use crate::ops::verify::Checked;
use crate::{DataId, Error, ErrorKind};

/// Something that happened to one file.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// So many more bytes of input were read.
    Bytes(u64),
    /// So many bytes of input there are altogether, counted from the begin of the run.
    Expected(u64),
    /// So many of the bytes that were expected need not be read.
    Spared(u64),
    /// `output` was made from `input`.
    Done {
        /// What was read.
        input: &'a Path,
        /// What was made.
        output: &'a Path,
    },
    /// A file, folder or link was put into a location.
    Put {
        /// What was read.
        path: &'a Path,
        /// The container, as the store shows it.
        object: &'a str,
        /// The length of its plaintext, in bytes.
        size: u64,
        /// The container's data id.
        data_id: DataId,
    },
    /// It would be put into a location; nothing was written.
    WouldPut {
        /// What would be read.
        path: &'a Path,
        /// The container, as the store shows it.
        object: &'a str,
        /// Its length, in bytes, if that is known.
        size: Option<u64>,
        /// Whether something has the container's name already.
        replaces: bool,
    },
    /// Nothing was done, and rightly.
    Skipped {
        /// What was skipped.
        path: &'a Path,
        /// Why.
        why: &'a str,
    },
    /// It was done, but the user should know.
    Warning {
        /// What it is about.
        path: &'a Path,
        /// What to know.
        message: &'a str,
    },
    /// It would be restored; nothing was read but the listing.
    WouldGet {
        /// The container, as the store shows it.
        object: &'a str,
        /// What would be made.
        output: &'a Path,
        /// The length of the container, in bytes.
        size: u64,
        /// Whether something has that name already.
        replaces: bool,
    },
    /// It goes on where an earlier run was interrupted.
    Resumed {
        /// What is made.
        output: &'a Path,
        /// How many bytes of it were there already.
        bytes: u64,
    },
    /// Bytes of what was made are lost: zeros stand there.
    Lost {
        /// What was made.
        output: &'a Path,
        /// The lost bytes of it.
        range: Range<u64>,
    },
    /// An object was removed from a location.
    Removed {
        /// The container, as the store shows it.
        object: &'a str,
        /// What of it is gone, and what not.
        removed: &'a Removed,
    },
    /// It would be removed; nothing was.
    WouldRemove {
        /// The container, as the store shows it.
        object: &'a str,
        /// What of it would be gone, and what not.
        removed: &'a Removed,
    },
    /// It was not done.
    Failed(&'a Error),
    /// An object was verified.
    Verified(&'a Checked),
    /// A version of an envelope was found that a key still opens, or that could not be judged.
    Audited(&'a Audited),
}

/// Is told of every event, from any thread.
pub trait Observer: Sync {
    /// One event.
    fn event(&self, event: Event<'_>);
}

/// Nobody listens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: Event<'_>) {}
}

/// Counts events on their way to another observer.
pub(crate) struct Counting<'a> {
    next: &'a dyn Observer,
    done: AtomicU64,
    skipped: AtomicU64,
    failed: AtomicU64,
    integrity: AtomicU64,
    bytes: AtomicU64,
}

/// What an operation on many files came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Files done.
    pub done: u64,
    /// Files rightly skipped.
    pub skipped: u64,
    /// Files that failed.
    pub failed: u64,
    /// Of those, files whose bytes are not what their writer made.
    pub integrity: u64,
    /// Bytes of input read, or, in a dry run, to be read.
    pub bytes: u64,
}

impl<'a> Counting<'a> {
    pub(crate) fn new(next: &'a dyn Observer) -> Self {
        let zero = || AtomicU64::new(0);
        Self { next, done: zero(), skipped: zero(), failed: zero(), integrity: zero(), bytes: zero() }
    }

    pub(crate) fn summary(&self) -> Summary {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Summary {
            done: load(&self.done),
            skipped: load(&self.skipped),
            failed: load(&self.failed),
            integrity: load(&self.integrity),
            bytes: load(&self.bytes),
        }
    }
}

impl Observer for Counting<'_> {
    fn event(&self, event: Event<'_>) {
        let (counter, by) = match &event {
            Event::Bytes(bytes) => (&self.bytes, *bytes),
            Event::Done { .. } | Event::Put { .. } | Event::WouldGet { .. } => (&self.done, 1),
            Event::Skipped { .. } => (&self.skipped, 1),
            Event::Failed(error) => {
                if error.kind() == ErrorKind::Integrity {
                    self.integrity.fetch_add(1, Ordering::Relaxed);
                }
                (&self.failed, 1)
            }
            Event::WouldPut { size, .. } => {
                self.bytes.fetch_add(size.unwrap_or(0), Ordering::Relaxed);
                (&self.done, 1)
            }
            _ => (&self.bytes, 0),
        };
        counter.fetch_add(by, Ordering::Relaxed);
        self.next.event(event);
    }
}

/// A reader that tells an observer how much was read.
pub(crate) struct Watched<'o, R> {
    pub(crate) inner: R,
    pub(crate) observer: &'o dyn Observer,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(bytes)?;
        self.observer.event(Event::Bytes(len as u64));
        Ok(len)
    }
}

impl<R: Seek> Seek for Watched<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

/// A writer that remembers that it failed, so that the error names what was written and not what was read.
pub(crate) struct Written<'t, W> {
    inner: W,
    target: &'t Path,
    failed: bool,
}

impl<'t, W> Written<'t, W> {
    pub(crate) fn new(inner: W, target: &'t Path) -> Self {
        Self { inner, target, failed: false }
    }

    /// Whether writing failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }

    /// `error` about the target, if that failed.
    pub(crate) fn blame(&self, error: Error) -> Error {
        match self.failed {
            true if self.target == Path::new("-") => error.about("standard output"),
            true => error.at(self.target),
            false => error,
        }
    }

    fn note<T>(&mut self, done: io::Result<T>) -> io::Result<T> {
        self.failed |= done.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted);
        done
    }
}

impl<W: Write> Write for Written<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let done = self.inner.write(bytes);
        self.note(done)
    }

    fn flush(&mut self) -> io::Result<()> {
        let done = self.inner.flush();
        self.note(done)
    }
}
