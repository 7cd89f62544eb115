//! `put`: files, folders, links and pipes of this machine into pairs of a location.
//!
//! Threads of its own read and encrypt; each keeps many pairs on their way at a time, so that a store has requests to
//! work on and a folder has groups to sync. Small files are encrypted whole in memory, large ones part by part, one such
//! file at a time: memory is bounded whatever there is to put.

pub(in crate::ops) mod choose;
mod cleartext;
mod contents;
mod journal;
mod options;
pub(super) mod pair;
pub(super) mod parts;

use std::fs::Metadata as FileMetadata;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::Scope;

use futures_util::{StreamExt as _, stream};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

pub use self::options::{PutOptions, Target};

use self::choose::{Names, check_names};
use self::pair::{Described, NewPair};
use self::parts::{Ended, PartWriter};
use crate::format::section::DigestKind;
use crate::format::{FileType, Metadata};
use crate::location::Location;
use crate::location::customer::PairEncryption;
use crate::location::drive::IfExists;
use crate::name::ObjectName;
use crate::ops::events::{Counting, Event, Observer, Summary, Watched};
use crate::ops::runtime;
use crate::ops::source::describe;
use crate::ops::walk::{self, Found, Walk};
use crate::random::{OsRandom, Pooled};
use crate::seal::{SealOptions, seal, sealed_len};
use crate::store::Written;
use crate::{DataId, Error, ErrorKind, IoContext as _, Result};

/// From this size on one file is encrypted by all threads and sent in parts.
const LARGE: u64 = 4 << 20;

/// The most that all small files on their way take together, in KiB.
const BUDGET: u32 = 24 << 10;

/// So many refusals in a row are not about single objects.
const REFUSALS: u32 = 64;

/// How many pairs one thread keeps on their way.
const IN_FLIGHT: usize = 32;

/// Puts every file at and below `inputs` into a location. One that fails does not stop the others, unless the store
/// refuses for good; the observer is told of each.
///
/// # Errors
/// `Usage` when the options do not fit the inputs; what the store says of itself fails with. What happens to single
/// files is in the summary.
pub fn put(inputs: &[PathBuf], options: &PutOptions, observer: &dyn Observer) -> Result<Summary> {
    options.check(inputs)?;
    walk::mind_links(inputs, options.follow, observer)?;
    let counting = Counting::new(observer);
    let chooser = options.chooser(&counting);
    let leave_out = |found: &Found| chooser.leaves_out(found);
    let walk = Walk {
        follow: options.follow,
        except: options.except.as_deref(),
        leave_out: Some(&leave_out),
        ..Walk::default()
    };
    put_found(walk::find(inputs, walk), Names::needed(inputs), options, None, &counting)?;
    Ok(counting.summary())
}

/// Is told of what is stored, with all that is known of it.
pub(in crate::ops) type Confirm<'a> = &'a (dyn Fn(&Confirmed<'_>) + Sync);

/// Something that was found, once its pair is stored.
#[cfg_attr(not(feature = "sync"), allow(dead_code, reason = "for sync"))]
pub(in crate::ops) struct Confirmed<'a> {
    /// What was found.
    pub(in crate::ops) found: &'a Found,
    /// What it was when it was read: it did not change meanwhile.
    pub(in crate::ops) metadata: &'a FileMetadata,
    /// The SHA-256 of its contents.
    pub(in crate::ops) digest: Option<[u8; 32]>,
    pub(in crate::ops) data_id: DataId,
    /// The version of its container.
    pub(in crate::ops) written: &'a Written,
    /// The length of its container.
    pub(in crate::ops) stored_len: u64,
}

/// Puts what is found. Whoever wants to be told of what is stored also wants a file again that changes while it is read,
/// once.
pub(in crate::ops) fn put_found(
    found: impl Iterator<Item = Result<Found>> + Send,
    may_repeat_names: bool,
    options: &PutOptions,
    confirm: Option<Confirm<'_>>,
    observer: &dyn Observer,
) -> Result<()> {
    let runtime = runtime::start()?;
    let handle = runtime.handle();
    let mut run = handle.block_on(Putting::new(options, observer))?;
    run.confirm = confirm;
    run.names = may_repeat_names.then(Names::default);
    let found = Mutex::new(found);
    let next = || match run.is_over() {
        true => None,
        false => found.lock().unwrap_or_else(PoisonError::into_inner).next(),
    };
    std::thread::scope(|scope| {
        let (run, next) = (&run, &next);
        let work = move || {
            let pairs = stream::iter(std::iter::from_fn(next)).map(|found| run.one(scope, found));
            handle.block_on(pairs.buffer_unordered(run.in_flight).for_each(|()| std::future::ready(())));
        };
        for _ in 1..options.jobs {
            scope.spawn(work);
        }
        work();
    });
    if run.is_over() {
        let error =
            format!("the store refused {REFUSALS} objects one after the other; the rest was not tried");
        observer
            .event(Event::Failed(&Error::new(ErrorKind::Refused, error).about(options.location.show(""))));
    }
    Ok(())
}

/// Puts a stream that has no name, such as a pipe, into one object.
///
/// # Errors
/// What reading or writing fails with; `Usage` when the options name no object.
pub fn put_stream(
    source: impl Read + Send,
    options: &PutOptions,
    observer: &dyn Observer,
) -> Result<Summary> {
    let Target::Named(segments) = &options.target else {
        return Err(Error::usage("an input without a name needs one in the location")
            .hint("write LOCATION/NAME as the last argument, without a / at its end"));
    };
    options.check(&[])?;
    let counting = Counting::new(observer);
    let runtime = runtime::start()?;
    let handle = runtime.handle();
    let run = handle.block_on(Putting::new(options, &counting))?;
    let name = ObjectName::file(segments)?;
    let (path, stored) = (Path::new("-"), options.location.stored(&name));
    check_names(&options.location, &name, &stored)?;
    if !handle.block_on(run.wanted(path, None, &stored))? {
        return Ok(counting.summary());
    }
    if options.encryption == PairEncryption::Cleartext {
        handle.block_on(run.cleartext_stream(source, &stored))?;
        return Ok(counting.summary());
    }
    let (metadata, seal_options) = (Metadata::new(FileType::File), run.seal_options(None));
    let described = Described {
        stored: &stored,
        metadata: Some(&metadata),
        size: None,
        digest: None,
        seal: &seal_options,
    };
    let NewPair { file_key, half } = NewPair::generate(options, &described, &OsRandom)?;
    let data_id = half.data_id;
    let source = Watched { inner: source, observer: run.observer };
    let seal_all = move |out: &mut PartWriter| {
        let random = Pooled::new(&OsRandom);
        let sealed = seal(&file_key, data_id, Some(&metadata), source, out, &random, &seal_options);
        sealed.map(Ended::from).map_err(|error| error.about("standard input"))
    };
    std::thread::scope(|scope| {
        handle.block_on(run.parts(scope, Origin::Unnamed, &stored, half, None, None, seal_all))
    })?;
    Ok(counting.summary())
}

/// Puts so many bytes that a reader gives under a name; the version, data id and length of their container.
#[cfg_attr(not(feature = "sync"), allow(dead_code, reason = "for sync"))]
pub(in crate::ops) fn put_read(
    source: impl Read + Send,
    size: u64,
    metadata: &Metadata,
    name: &ObjectName,
    options: &PutOptions,
    observer: &dyn Observer,
) -> Result<(Written, DataId, u64)> {
    let handle = runtime::start()?.handle();
    let run = handle.block_on(Putting::new(options, observer))?;
    let stored = options.location.stored(name);
    check_names(&options.location, name, &stored)?;
    let seal_options = run.seal_options(Some(size));
    let described = Described {
        stored: &stored,
        metadata: Some(metadata),
        size: Some(size),
        digest: None,
        seal: &seal_options,
    };
    let NewPair { file_key, half } = NewPair::generate(options, &described, &OsRandom)?;
    let data_id = half.data_id;
    let len = sealed_len(size, Some(metadata), &seal_options)?;
    let seal_all = move |out: &mut PartWriter| {
        let random = Pooled::new(&OsRandom);
        seal(&file_key, data_id, Some(metadata), source, out, &random, &seal_options).map(Ended::from)
    };
    let written = std::thread::scope(|scope| {
        handle.block_on(run.parts(scope, Origin::Unnamed, &stored, half, Some(len), None, seal_all))
    })?;
    let written = written.ok_or_else(|| exists_already(&options.location, &stored))?;
    Ok((written, data_id, len))
}

/// One run.
struct Putting<'a> {
    options: &'a PutOptions,
    observer: &'a dyn Observer,
    confirm: Option<Confirm<'a>>,
    /// For small files.
    random: Pooled<'a>,
    /// The names that were given away, where two sources could want the same one.
    names: Option<Names>,
    in_flight: usize,
    /// Held by the one large file that keeps all threads busy.
    large: AsyncMutex<()>,
    /// KiB that small files may still take.
    budget: Semaphore,
    /// How often in a row the store refused.
    refused: AtomicU32,
}

impl<'a> Putting<'a> {
    async fn new(options: &'a PutOptions, observer: &'a dyn Observer) -> Result<Self> {
        let capabilities = options.location.store().capabilities().await?;
        if let Some(folder) = &options.journals {
            journal::expire(folder, options.now);
        }
        options.require(&capabilities).await?;
        let each = capabilities.concurrency.div_ceil(options.jobs.max(1));
        Ok(Self {
            options,
            observer,
            confirm: None,
            random: Pooled::new(&OsRandom),
            names: None,
            in_flight: each.clamp(1, IN_FLIGHT),
            large: AsyncMutex::new(()),
            budget: Semaphore::new(BUDGET as usize),
            refused: AtomicU32::new(0),
        })
    }

    /// Whether the store refuses whatever it is: a cap is reached, nobody paid, the bucket is gone.
    fn is_over(&self) -> bool {
        self.refused.load(Ordering::Relaxed) >= REFUSALS
    }

    /// Whatever was found; failures are told, not returned.
    async fn one<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, found: Result<Found>) {
        let done = match found {
            Ok(found) => self.once_more(scope, found).await,
            Err(error) => Err(error),
        };
        match done {
            Err(error) => {
                if error.kind() == ErrorKind::Refused {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                }
                self.observer.event(Event::Failed(&error));
            }
            Ok(()) => self.refused.store(0, Ordering::Relaxed),
        }
    }

    /// One thing that was found, and once more where somebody keeps count and it changed while it was read.
    async fn once_more<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, found: Found) -> Result<()> {
        match self.found(scope, &found).await {
            Err(error) if error.kind() == ErrorKind::Conflict && self.confirm.is_some() => {
                let metadata = found.path.symlink_metadata().context("cannot read", &found.path)?;
                match metadata.is_file() && found.metadata.is_file() {
                    true => self.found(scope, &Found { metadata, ..found }).await,
                    false => Err(error),
                }
            }
            done => done,
        }
    }

    /// One thing that was found, by its type.
    async fn found<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, found: &Found) -> Result<()> {
        let kind = found.metadata.file_type();
        if kind.is_dir() && !self.keeps_folder(&found.path) {
            return Ok(());
        }
        if !kind.is_dir() && !kind.is_symlink() && !kind.is_file() {
            return Err(Error::input(format!("is {}; skipped", walk::special(kind))).at(&found.path));
        }
        let named = self.name(found)?;
        let size = kind.is_file().then_some(found.metadata.len());
        if !self.wanted(&found.path, size, &named.stored).await? {
            return Ok(());
        }
        if kind.is_file() && self.options.encryption == PairEncryption::Cleartext {
            return self.cleartext_file(scope, found, &named).await;
        }
        if kind.is_file() {
            return self.file(scope, found, &named).await;
        }
        let metadata = if kind.is_dir() {
            describe_as(found, &found.metadata, FileType::Dir, &named.name)
        } else {
            let link = std::fs::read_link(&found.path).context("cannot read", &found.path)?;
            let mut metadata = describe_as(found, &found.metadata, FileType::Symlink, &named.name);
            metadata.mode = None;
            metadata.target = Some(link.as_os_str().as_bytes().to_vec());
            metadata
        };
        let origin = Origin::Found(found, &found.metadata);
        self.whole(origin, &named.stored, &metadata, io::empty(), 0, || Ok(())).await
    }

    /// Whether a folder gets a container. The walk itself reports one that it cannot enter.
    fn keeps_folder(&self, path: &Path) -> bool {
        let Ok(mut entries) = std::fs::read_dir(path) else { return false };
        self.options.folder_metadata || entries.next().is_none()
    }

    /// The name in the location.
    fn name(&self, found: &Found) -> Result<Named> {
        let segments = match &self.options.target {
            Target::Named(segments) => segments.clone(),
            Target::Below(folder) => [folder.as_slice(), &found.segments].concat(),
        };
        let name = match found.metadata.is_dir() {
            true => ObjectName::folder(&segments),
            false => ObjectName::file(&segments),
        };
        let name = name.map_err(|error| error.at(&found.path))?;
        let stored = self.options.location.stored(&name);
        check_names(&self.options.location, &name, &stored).map_err(|error| error.at(&found.path))?;
        if self.names.as_ref().is_some_and(|names| !names.take(&stored)) {
            return Err(Error::conflict("has the name in the location that another source of this run has")
                .at(&found.path)
                .hint("put them one by one, or without the / at the end, which keeps the folder's name"));
        }
        Ok(Named { name, stored })
    }

    /// Whether there is anything to do for this name: not where something has it that is to stay, nor in a dry run, which
    /// only tells.
    async fn wanted(&self, path: &Path, size: Option<u64>, stored: &str) -> Result<bool> {
        let Self { options, observer, .. } = self;
        if options.if_exists == IfExists::Replace && !options.dry_run {
            return Ok(true);
        }
        let location = &options.location;
        let exists = self.exists(stored).await? == Some(true);
        match options.if_exists {
            IfExists::Skip if exists => self.skip(path),
            IfExists::Fail if exists => return Err(exists_already(location, stored)),
            _ if options.dry_run => {
                let object = location.show(stored);
                observer.event(Event::WouldPut { path, object: &object, size, replaces: exists });
            }
            _ => return Ok(true),
        }
        Ok(false)
    }

    fn skip(&self, path: &Path) {
        self.observer.event(Event::Skipped { path, why: "is in the location already" });
    }

    /// How a source of `size` bytes is encrypted.
    fn seal_options(&self, size: Option<u64>) -> SealOptions {
        let large = size.is_none_or(|size| size >= LARGE);
        // The digest is taken by one thread after the other, and the store's own thread writes beside them: with one more
        // it is not waited for.
        let waits = self.options.digest != DigestKind::None && self.options.jobs > 1;
        let threads = if large { self.options.jobs + usize::from(waits) } else { 1 };
        SealOptions { digest: self.options.digest, threads, size, ..SealOptions::default() }
    }
}

/// Where the bytes come from.
#[derive(Clone, Copy)]
enum Origin<'a> {
    /// Something that was found, and what it was when it was read.
    Found(&'a Found, &'a FileMetadata),
    /// Standard input.
    Unnamed,
}

impl<'a> Origin<'a> {
    fn path(self) -> &'a Path {
        match self {
            Self::Found(found, _) => &found.path,
            Self::Unnamed => Path::new("-"),
        }
    }
}

/// A name in the location, and how it is stored.
struct Named {
    name: ObjectName,
    stored: String,
}

/// What the container says about the file: its name is the one in the location.
fn describe_as(found: &Found, metadata: &FileMetadata, file_type: FileType, name: &ObjectName) -> Metadata {
    Metadata { name: name.segments().last().cloned(), ..describe(found, metadata, file_type) }
}

fn exists_already(location: &Location, stored: &str) -> Error {
    Error::conflict("exists already")
        .about(location.show(stored))
        .hint("--if-exists replace puts a new one in its place; --if-exists skip leaves it")
}
