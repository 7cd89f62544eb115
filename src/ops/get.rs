//! `get`: objects of locations become files, folders and symlinks again.

mod cleartext;
mod existing;
mod one;
mod recipe;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{self, SyncSender};

use futures_util::StreamExt as _;
use tokio::runtime::Handle;

use crate::crypto::rsa::PrivateKey;
use crate::format::Metadata;
use crate::format::section::End;
use crate::location::Location;
use crate::location::argument::Target;
use crate::location::listing::{Entry, Scope, list};
use crate::name::{ObjectName, is_container_name, is_envelope_name};
use crate::ops::events::{Counting, Event, Observer, Summary};
use crate::ops::filter::Filter;
use crate::ops::place::{Lookup, Place};
use crate::ops::recipe_objects::Recipes;
use crate::ops::restore::Restoring;
use crate::ops::{parallel, rights, runtime};
use crate::recipe::Named;
use crate::store::{Object, Right};
use crate::{DataId, Error, Result};

pub use crate::ops::place::{Source, Which};

/// What to do about a result that exists already.
const EXISTS_HINT: &str = "--overwrite always replaces it, --overwrite if-different where it is another one";

/// The most threads that work unless the user says otherwise: most of the time they wait for a store.
const MOST_JOBS: usize = 16;

/// How many objects are listed before somebody gets them: so many that the end of most lists is known early, and the time
/// that is left with it; so few that they fit.
const AHEAD: usize = 1 << 14;

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
    /// How files of the OpenSSL recipe were made, where the user says so.
    pub recipe: Named,
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
    let sources: Vec<Source> =
        sources.iter().map(|source| source.unlocked(&options.identities)).collect::<Result<_>>()?;
    let runtime = runtime::start()?;
    runtime.block_on(rights::require_all(&sources, &[Right::List, Right::Read]))?;
    let lookup = Lookup { which: &options.which, handle: runtime.handle() };
    let places: Vec<Place<'_>> = sources.iter().map(|source| lookup.find(source)).collect::<Result<_>>()?;
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
        handle: runtime.handle(),
        large: Mutex::new(()),
        overwrite: options.overwrite,
        confirm: None,
        recipes: Recipes::new(runtime.handle(), &options.identities, options.recipe, &counting),
        unsettled: Mutex::default(),
    };
    let jobs = options.jobs.map_or_else(|| default_jobs(&places, runtime.handle()), Ok)?;
    std::thread::scope(|scope| {
        let (ahead, items) = mpsc::sync_channel(AHEAD);
        let run = &run;
        scope.spawn(|| run.list_all(&places, ahead));
        parallel::for_each(jobs, items.into_iter(), |item| {
            if let Err(error) = item.and_then(|item| run.one(&item, jobs)) {
                run.observer.event(Event::Failed(&error));
            }
        });
    });
    run.settled(jobs);
    run.tree.finish();
    Ok(counting.summary())
}

/// Gets what was listed to below a folder.
#[cfg_attr(not(feature = "sync"), allow(dead_code, reason = "for sync"))]
pub(in crate::ops) fn get_listed<'a>(
    items: impl Iterator<Item = Result<Item<'a>>> + Send,
    destination: &Path,
    (options, overwrite): (&'a GetOptions, Overwrite),
    confirm: Confirm<'_>,
    observer: &dyn Observer,
) -> Result<()> {
    let runtime = runtime::start()?;
    let destination = Destination::Folder(destination.into());
    let run = Getting {
        confirm: Some(confirm),
        ..Getting::listed(&destination, (options, overwrite), runtime.handle(), observer)
    };
    let jobs = options.jobs.unwrap_or_else(processors);
    parallel::for_each(jobs, items, |item| {
        if let Err(error) = item.and_then(|item| run.one(&item, jobs)) {
            observer.event(Event::Failed(&error));
        }
    });
    run.settled(jobs);
    run.tree.finish();
    Ok(())
}

/// Reads what was listed to its end and keeps nothing of it; what could not be got is told.
#[cfg_attr(not(feature = "sync"), allow(dead_code, reason = "for sync"))]
pub(in crate::ops) fn check_listed<'a>(
    items: impl Iterator<Item = Result<Item<'a>>> + Send,
    options: &'a GetOptions,
    observer: &dyn Observer,
) -> Result<()> {
    let runtime = runtime::start()?;
    let nowhere = Destination::Folder(PathBuf::new());
    let run = Getting::listed(&nowhere, (options, options.overwrite), runtime.handle(), observer);
    parallel::for_each(options.jobs.unwrap_or_else(processors), items, |item| {
        if let Err(error) = item.and_then(|item| run.check(&item)) {
            observer.event(Event::Failed(&error));
        }
    });
    Ok(())
}

/// Is told of what is restored, or was there already.
pub(in crate::ops) type Confirm<'a> = &'a (dyn Fn(&Restored<'_>) + Sync);

/// An object that is restored: a symlink, and the mode and time of a folder, when all else is.
#[cfg_attr(not(feature = "sync"), allow(dead_code, reason = "for sync"))]
pub(in crate::ops) struct Restored<'a> {
    pub(in crate::ops) item: &'a Item<'a>,
    /// The version that was read.
    pub(in crate::ops) object: &'a Object,
    pub(in crate::ops) target: &'a Path,
    pub(in crate::ops) metadata: Option<&'a Metadata>,
    pub(in crate::ops) end: &'a End,
    pub(in crate::ops) data_id: DataId,
}

/// One object to get.
#[derive(Clone)]
pub(in crate::ops) struct Item<'a> {
    pub(in crate::ops) location: &'a Location,
    pub(in crate::ops) name: ObjectName,
    /// The version that was found; unless one was asked for, what is there by then is taken.
    pub(in crate::ops) object: Object,
    /// Where it goes below the destination.
    pub(in crate::ops) segments: Vec<Vec<u8>>,
}

/// Where results go.
enum Destination {
    Folder(PathBuf),
    File(PathBuf),
}

/// How many threads work unless the user says: as many as the store takes requests, since most of them wait for it.
fn default_jobs(places: &[Place<'_>], handle: &Handle) -> Result<usize> {
    let processors = processors();
    let mut jobs = processors;
    for place in places {
        jobs = jobs.max(handle.block_on(place.location().store().capabilities())?.concurrency);
    }
    Ok(jobs.min(MOST_JOBS.max(processors)))
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Destination {
    fn new(path: &Path, places: &[Place<'_>]) -> Result<Self> {
        let single = matches!(places, [Place::Object { .. }]);
        let slash = path.as_os_str().as_bytes().ends_with(b"/");
        if path == Path::new("-") && !single {
            return Err(
                Error::usage("standard output takes one object").hint("name one object, or use sidekey cat")
            );
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
    handle: &'a Handle,
    /// Held while a large container keeps all threads busy, so that memory stays bounded.
    large: Mutex<()>,
    /// What to do with results that exist already.
    overwrite: Overwrite,
    confirm: Option<Confirm<'a>>,
    recipes: Recipes<'a>,
    /// Files of the OpenSSL recipe of which others have to tell how they were made.
    unsettled: Mutex<Vec<Item<'a>>>,
}

impl<'a> Getting<'a> {
    /// Of what was listed already.
    #[cfg_attr(not(feature = "sync"), allow(dead_code, reason = "for sync"))]
    fn listed(
        destination: &'a Destination,
        (options, overwrite): (&'a GetOptions, Overwrite),
        handle: &'a Handle,
        observer: &'a dyn Observer,
    ) -> Self {
        Self {
            options,
            observer,
            tree: Restoring::new(destination.root(), overwrite != Overwrite::Never, EXISTS_HINT, observer),
            destination,
            handle,
            large: Mutex::new(()),
            overwrite,
            confirm: None,
            recipes: Recipes::new(handle, &options.identities, options.recipe, observer),
            unsettled: Mutex::default(),
        }
    }

    /// The objects at all places, for those who get them; once all are listed, how much it is altogether is told.
    #[expect(clippy::needless_pass_by_value, reason = "its end tells those who wait that this was all")]
    fn list_all(&self, places: &'a [Place<'a>], ahead: SyncSender<Result<Item<'a>>>) {
        let mut bytes = 0;
        for item in places.iter().flat_map(|place| self.items(place)) {
            bytes += item.as_ref().map_or(0, |item| item.object.size);
            if ahead.send(item).is_err() {
                return;
            }
        }
        self.observer.event(Event::Expected(bytes));
    }

    /// The objects at a place, as they are listed.
    fn items(&self, place: &'a Place<'a>) -> Box<dyn Iterator<Item = Result<Item<'a>>> + Send + '_> {
        match place {
            Place::Object { location, name, version } => {
                let item = Item {
                    location,
                    name: name.clone(),
                    object: version.clone(),
                    segments: name.segments().last().cloned().into_iter().collect(),
                };
                Box::new(std::iter::once(Ok(item)))
            }
            Place::Folder { target, name } => {
                let mut scope = Scope::below(&target.location, &target.path);
                scope.versions = self.options.which != Which::Current;
                let mut listed = list(&target.location, &scope);
                let entries = std::iter::from_fn(move || self.handle.block_on(listed.next()));
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
        let Some(object) = self.options.which.of(&pair).cloned() else {
            if pair.containers.is_empty() && !pair.incomplete {
                self.skip(
                    &location.show(&location.stored(&pair.name)),
                    "has an envelope, but there is no container",
                );
            }
            return None;
        };
        let below = pair.name.segments().get(target.path.len()..).unwrap_or_default();
        let segments: Vec<Vec<u8>> =
            name.map(<[u8]>::to_vec).into_iter().chain(below.iter().cloned()).collect();
        if let Some(why) = self.options.filter.leaves_out(&segments, pair.name.is_folder()) {
            self.skip(&object_name(location, &object), &why);
            return None;
        }
        Some(Ok(Item { location, name: pair.name, object, segments }))
    }

    /// Something that has no name of ours. What is called like a container all the same is worth an error: the name may
    /// be an attack.
    fn foreign(&self, location: &Location, object: &Object) -> Option<Result<Item<'a>>> {
        if object.marker {
            return None;
        }
        if let Some(error) = no_name(location, object) {
            return Some(Err(error));
        }
        self.skip(&object_name(location, object), "is not a container");
        None
    }

    fn skip(&self, path: &str, why: &str) {
        self.observer.event(Event::Skipped { path: Path::new(path), why });
    }
}

/// The error about something that is called like one of a pair, and has no name of ours.
pub(in crate::ops) fn no_name(location: &Location, object: &Object) -> Option<Error> {
    let last = object.key.rsplit('/').next().unwrap_or_default();
    let shown = object_name(location, object);
    if !is_container_name(last) && !is_envelope_name(last) {
        return None;
    }
    if is_script_key_file(last) {
        let why =
            "is called like the key file of a file NAME.key that a script encrypted, and is not restored";
        return Some(Error::integrity(why).about(shown).hint(
            "fetch NAME.key.enc and NAME.key.key.enc with another tool, and run sidekey decrypt there",
        ));
    }
    Some(
        Error::integrity("has a name that no file can have, and is not restored")
            .about(shown.escape_debug().to_string())
            .hint("somebody else put it there; sidekey never writes such names"),
    )
}

/// Whether a script made it for a file called `NAME.key`; sidekey writes such names with a `~`.
fn is_script_key_file(last: &str) -> bool {
    last.strip_suffix(".key.enc").is_some_and(|bare| bare.len() > 4 && bare.ends_with(".key"))
}

fn object_name(location: &Location, object: &Object) -> String {
    location.show_key(&object.key)
}
