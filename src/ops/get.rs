//! `get`: objects of locations become files, folders and symlinks again.

mod existing;
mod one;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use futures_util::StreamExt as _;
use tokio::runtime::Handle;

use crate::crypto::rsa::PrivateKey;
use crate::location::Location;
use crate::location::argument::Target;
use crate::location::listing::{Entry, PairEntry, Scope, list};
use crate::name::{ObjectName, is_container_name, is_envelope_name};
use crate::ops::events::{Counting, Event, Observer, Summary};
use crate::ops::filter::Filter;
use crate::ops::restore::Restoring;
use crate::ops::{atomic, parallel};
use crate::store::{Object, VersionId};
use crate::{Error, ErrorKind, Result};

/// What to do about a result that exists already.
const EXISTS_HINT: &str = "--overwrite always replaces it, --overwrite if-different where it is another one";

/// The most threads that work unless the user says otherwise: most of the time they wait for a store.
const MOST_JOBS: usize = 16;

/// What to get: a place that was typed.
#[derive(Clone, Debug)]
pub struct Source {
    /// The object that may be meant; nothing where only a folder can be.
    pub object: Option<Target>,
    /// The folder that may be meant.
    pub folder: Target,
    /// The name under which what is in the folder stands below the destination; without, it stands there itself.
    pub name: Option<Vec<u8>>,
}

impl Source {
    /// The place of a location: `x` is the object `x` or the folder, which keeps its name; `x/` what is in the folder.
    pub fn new(target: Target) -> Self {
        let object = target.file().map(|_| target.clone());
        let name = object.as_ref().and_then(|object| object.path.last().cloned());
        Self { object, folder: target.into_folder(), name }
    }
}

/// What to do with results that exist already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overwrite {
    /// Leave them alone: an error.
    #[default]
    Never,
    /// Leave those alone that are the same, by size and time or by digest; replace the others.
    IfDifferent,
    /// Replace them.
    Always,
}

/// Which version to get.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// The current one.
    #[default]
    Current,
    /// This one, of one object.
    Version(VersionId),
    /// Of each object the newest that was written at this time or before.
    At(SystemTime),
}

/// How to get.
#[derive(Debug)]
pub struct GetOptions {
    /// The private keys at hand.
    pub identities: Vec<PrivateKey>,
    /// Which version.
    pub which: Which,
    /// What to do with results that exist already.
    pub overwrite: Overwrite,
    /// What to take of folders.
    pub filter: Filter,
    /// Whether a name in the metadata that differs from the object's is an error.
    pub strict: bool,
    /// Whether interrupted big files are gone on with, and can be later.
    pub resume: bool,
    /// Whether damaged files are restored as far as they are good.
    pub salvage: bool,
    /// Whether to say only what would be done.
    pub dry_run: bool,
    /// How many threads work; nothing for as many as the store takes requests, within reason.
    pub jobs: Option<usize>,
}

/// Gets everything at and below `sources` to `destination`: a folder when it is one, ends in `/` or there is more than one
/// result, `-` for standard output, else the file. An object that fails does not stop the others; the observer is told of
/// each. Symlinks are made last, and the modes and times of folders are set after what is in them.
///
/// # Errors
/// `Usage` when the options do not fit the sources; `NotFound` when there is nothing at one of them. What happens to
/// single objects is in the summary.
pub fn get(
    sources: &[Source],
    destination: &Path,
    options: &GetOptions,
    observer: &dyn Observer,
) -> Result<Summary> {
    refuse_same_names(sources)?;
    if matches!(options.which, Which::Version(_)) && sources.len() != 1 {
        return Err(Error::usage("a version is of one object").hint("name one object, or use --at TIME"));
    }
    let runtime = runtime::start()?;
    let finder = Finder { which: &options.which, handle: runtime.handle() };
    let places: Vec<Place<'_>> = sources.iter().map(|source| finder.find(source)).collect::<Result<_>>()?;
    let destination = Destination::new(destination, &places)?;
    let counting = Counting::new(observer);
    let run = Getting {
        options,
        observer: &counting,
        tree: Restoring::new(
            destination.root(),
            options.overwrite != Overwrite::Never,
            EXISTS_HINT,
            &counting,
        ),
        destination: &destination,
        large: Mutex::new(()),
        folders: Mutex::default(),
    };
    let jobs = options.jobs(&places)?;
    parallel::for_each(jobs, places.iter().flat_map(|place| run.items(place)), |item| {
        if let Err(error) = item.and_then(|item| run.one(&item, jobs)) {
            counting.event(Event::Failed(&error));
        }
    });
    run.finish();
    Ok(counting.summary())
}

/// What is at a source.
enum Place<'a> {
    Object { location: &'a Location, name: ObjectName, version: Option<Object> },
    Folder { target: &'a Target, name: Option<&'a [u8]> },
}

/// One object to get.
struct Item<'a> {
    location: &'a Location,
    name: ObjectName,
    /// The version, where it is known from a listing.
    object: Option<Object>,
    /// Whether exactly this version is wanted.
    pinned: bool,
    /// Where it goes below the destination.
    segments: Vec<Vec<u8>>,
}

/// Where results go.
enum Destination {
    Folder(PathBuf),
    File(PathBuf),
}

impl GetOptions {
    /// Looks up what is at a source: the object, else what is in the folder.
    fn resolve<'a>(&self, source: &'a Source) -> Result<Place<'a>> {
        let store = source.folder.location.store();
        if self.which != Which::Current && !self.handle.block_on(store.capabilities())?.versions {
            return Err(Error::usage("keeps no versions: there is only what is there now")
                .about(source.folder.show())
                .hint("leave out --version and --at"));
        }
        let object = source.object.as_ref().map(|target| self.object(target)).transpose()?.flatten();
        let has_folder = || self.is_folder(&source.folder);
        match (object, &source.object) {
            (Some(_), Some(target)) if has_folder()? => {
                let path = String::from_utf8_lossy(&target.path.join(&b'/')).into_owned();
                Err(Error::usage("is both an object and a folder")
                    .about(target.show())
                    .hint(format!("write {path}/ for what is in the folder; for the object, get the folder above it with --include /{path} and --exclude /{path}/")))
            }
            (Some(place), _) => Ok(place),
            (None, object) if object.is_none() || has_folder()? => {
                Ok(Place::Folder { target: &source.folder, name: source.name.as_deref() })
            }
            (None, object) => Err(self.nothing_at(object.as_ref().unwrap_or(&source.folder))),
        }
    }

    /// The object at `target`, in the version that is wanted.
    fn object<'a>(&self, target: &'a Target) -> Result<Option<Place<'a>>> {
        let Some(name) = target.file() else { return Ok(None) };
        let (location, store) = (&target.location, target.location.store());
        let key = location.container_key(&name);
        let stat = |version| match self.handle.block_on(store.stat(&key, version)) {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.about(store.show(&key))),
        };
        let version = match &self.which {
            Which::Current => stat(None)?,
            Which::Version(version) => stat(Some(version))?,
            Which::At(time) => {
                let mut scope = Scope::pair(&name);
                scope.versions = true;
                self.handle.block_on(async {
                    let mut listed = list(location, &scope);
                    while let Some(entry) = listed.next().await.transpose()? {
                        if let Entry::Pair(pair) = entry {
                            return Ok::<_, Error>(newest_at(&pair, *time).cloned());
                        }
                    }
                    Ok(None)
                })?
            }
        };
        Ok(version.map(|object| Place::Object { location, name, version: Some(object) }))
    }

    /// Whether anything is in a folder.
    fn is_folder(&self, target: &Target) -> Result<bool> {
        let mut scope = Scope::below(&target.path);
        scope.versions = self.which != Which::Current;
        let mut listed = list(&target.location, &scope);
        Ok(self.handle.block_on(listed.next()).transpose()?.is_some())
    }

    fn nothing_at(&self, target: &Target) -> Error {
        let error = match &self.which {
            Which::Current => Error::not_found("there is nothing under that name"),
            Which::Version(_) => Error::not_found("there is no such version of it"),
            Which::At(_) => Error::not_found("there was nothing under that name at that time"),
        };
        let bare = target.path.last().and_then(|last| last.strip_suffix(b".enc"));
        error.about(target.show()).hint(match bare {
            Some(bare) => format!("names are written without .enc: {}", String::from_utf8_lossy(bare)),
            None => "sidekey ls shows what is there".into(),
        })
    }

    /// How many threads work: as many as the store takes requests, since most of them wait for it.
    fn jobs(&self, places: &[Place<'_>]) -> Result<usize> {
        if let Some(jobs) = self.jobs {
            return Ok(jobs);
        }
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let mut jobs = processors;
        for place in places {
            let location = match place {
                Place::Object { location, .. } => location,
                Place::Folder { target, .. } => &target.location,
            };
            jobs = jobs.max(self.handle.block_on(location.store().capabilities())?.concurrency);
        }
        Ok(jobs.min(MOST_JOBS.max(processors)))
    }
}

/// The version of a container that was the current one at this time.
fn newest_at(pair: &PairEntry, time: SystemTime) -> Option<&Object> {
    pair.containers.iter().find(|object| object.modified <= time).filter(|object| !object.marker)
}

impl Destination {
    fn new(path: &Path, places: &[Place<'_>]) -> Result<Self> {
        let single = matches!(places, [Place::Object { .. }]);
        let slash = path.as_os_str().as_bytes().ends_with(b"/");
        if path == Path::new("-") && !single {
            return Err(Error::usage("standard output takes one object").hint("name one object, or use sidekey cat"));
        }
        Ok(match single && !slash && !path.is_dir() {
            true => Self::File(path.into()),
            false => Self::Folder(path.into()),
        })
    }

    /// The folder below which folders are made.
    fn root(&self) -> Option<&Path> {
        match self {
            Self::Folder(root) => Some(root),
            Self::File(_) => None,
        }
    }

    fn path(&self, segments: &[Vec<u8>]) -> PathBuf {
        match self {
            Self::Folder(root) => {
                segments.iter().fold(root.clone(), |path, segment| path.join(OsStr::from_bytes(segment)))
            }
            Self::File(path) => path.clone(),
        }
    }
}

/// Two sources whose results would have the same names: with `--overwrite` one would replace the other in silence.
fn refuse_same_names(sources: &[Source]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for source in sources {
        if let Some(name) = &source.name
            && !seen.insert(name)
        {
            return Err(Error::usage("another source has the same name, and so would their results")
                .about(source.folder.show())
                .hint("get them one by one, each to a folder of its own"));
        }
    }
    Ok(())
}

/// One run.
struct Getting<'a> {
    options: &'a GetOptions,
    observer: &'a dyn Observer,
    destination: &'a Destination,
    tree: Restoring<'a>,
    /// Held while a large container keeps all threads busy, so that memory stays bounded.
    large: Mutex<()>,
    /// The folders whose names are not on the disk yet: once for all files is enough.
    folders: Mutex<BTreeSet<PathBuf>>,
}

impl<'a> Getting<'a> {
    /// The objects at a place, as they are listed.
    fn items(&self, place: &'a Place<'a>) -> Box<dyn Iterator<Item = Result<Item<'a>>> + Send + '_> {
        match place {
            Place::Object { location, name, version } => {
                let item = Item {
                    location,
                    name: name.clone(),
                    object: version.clone(),
                    pinned: self.options.which != Which::Current,
                    segments: name.segments().last().cloned().into_iter().collect(),
                };
                Box::new(std::iter::once(Ok(item)))
            }
            Place::Folder { target, name } => {
                let mut scope = Scope::below(&target.path);
                scope.versions = self.options.which != Which::Current;
                let mut listed = list(&target.location, &scope);
                let entries =
                    std::iter::from_fn(move || self.options.handle.block_on(listed.next()));
                Box::new(entries.filter_map(move |entry| match entry {
                    Ok(entry) => self.item(target, *name, entry),
                    Err(error) => Some(Err(error)),
                }))
            }
        }
    }

    /// What to do about one entry of a listing; nothing when the observer was told already.
    fn item(&self, target: &'a Target, name: Option<&[u8]>, entry: Entry) -> Option<Result<Item<'a>>> {
        let location = &target.location;
        let pair = match entry {
            Entry::Pair(pair) => pair,
            Entry::Folder(_) => return None,
            Entry::Foreign(object) => return self.foreign(location, &object),
        };
        let object = match &self.options.which {
            Which::At(time) => newest_at(&pair, *time).cloned(),
            _ => pair.current().cloned(),
        };
        let Some(object) = object else {
            if pair.containers.is_empty() && !pair.incomplete {
                self.skip(&location.show(&pair.name.container()), "has an envelope, but there is no container");
            }
            return None;
        };
        let below = pair.name.segments().get(target.path.len()..).unwrap_or_default();
        let segments: Vec<Vec<u8>> = name.map(<[u8]>::to_vec).into_iter().chain(below.iter().cloned()).collect();
        if let Some(why) = self.options.filter.leaves_out(&segments, pair.name.is_folder()) {
            self.skip(&object_name(location, &object), &why);
            return None;
        }
        let pinned = self.options.which != Which::Current;
        Some(Ok(Item { location, name: pair.name, object: Some(object), pinned, segments }))
    }

    /// Something that has no name of ours. What is called like a container all the same is worth an error: the name may
    /// be an attack.
    fn foreign(&self, location: &Location, object: &Object) -> Option<Result<Item<'a>>> {
        let last = object.key.rsplit('/').next().unwrap_or_default();
        let shown = object_name(location, object);
        if object.marker {
            return None;
        }
        if is_container_name(last) || is_envelope_name(last) {
            return Some(Err(Error::integrity("has a name that no file can have, and is not restored")
                .about(shown.escape_debug().to_string())
                .hint("somebody else put it there; sidekey never writes such names")));
        }
        self.skip(&shown, "is not a container");
        None
    }

    fn skip(&self, path: &str, why: &str) {
        self.observer.event(Event::Skipped { path: Path::new(path), why });
    }

    /// Symlinks, modes and times of folders; then the names of all files reach the disk.
    fn finish(&self) {
        self.tree.finish();
        let folders = std::mem::take(&mut *self.folders.lock().unwrap_or_else(PoisonError::into_inner));
        for folder in folders {
            if let Err(error) = atomic::sync(&folder) {
                self.observer.event(Event::Failed(&error));
            }
        }
    }
}

fn object_name(location: &Location, object: &Object) -> String {
    location.store().show(&object.key)
}
