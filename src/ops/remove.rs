//! `rm`: objects of a location, one by one or all that is in a folder. What may go, and in which order, is decided in
//! [`crate::pair`].

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::runtime::Handle;

use crate::location::Location;
use crate::location::argument::Target;
use crate::location::drive::{self, RemoveOptions as DriveOptions, Removed, WhyKept};
use crate::location::listing::{Entry, PairEntry, Scope, list};
use crate::name::{is_container_name, is_envelope_name};
use crate::ops::events::{Event, Observer};
use crate::ops::filter::Filter;
use crate::ops::place::{Lookup, Place, Which};
use crate::ops::{parallel, rights, runtime};
use crate::store::Right;
use crate::{Error, ErrorKind, Result};

pub use crate::ops::place::Source;

/// How to remove.
#[derive(Debug)]
pub struct RemoveOptions {
    /// Whether what is in folders is removed.
    pub recursive: bool,
    /// Whether all versions are deleted where the store keeps them, instead of hiding what is there.
    pub versions: bool,
    /// What to take of folders.
    pub filter: Filter,
    /// Whether to say only what would be done.
    pub dry_run: bool,
    /// How many threads work.
    pub jobs: usize,
    /// The time.
    pub now: SystemTime,
}

/// What removing came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemoveSummary {
    /// Objects of which nothing is there any more.
    pub removed: u64,
    /// Objects that were hidden: their versions and envelopes are all there.
    pub hidden: u64,
    /// Versions of containers that were deleted.
    pub versions: u64,
    /// Versions of envelopes that were deleted.
    pub envelopes: u64,
    /// Objects that were younger than a week, so that their envelopes were left for `clean`.
    pub young: u64,
    /// Other versions of envelopes that were left: something else may need them.
    pub kept: u64,
    /// What was rightly left alone.
    pub skipped: u64,
    /// What failed.
    pub failed: u64,
}

/// Removes the object, or what is in the folder, at each of `sources`. All are looked up before anything is removed. An
/// object that fails does not stop the others; the observer is told of each.
///
/// # Errors
/// `NotFound` when nothing is at one of them; `Usage` for a folder without [`RemoveOptions::recursive`], and for a name
/// of both an object and a folder; what the store says when it cannot be asked for its time. Nothing was removed then.
pub fn remove(sources: &[Source], options: &RemoveOptions, observer: &dyn Observer) -> Result<RemoveSummary> {
    let runtime = runtime::start()?;
    let handle = runtime.handle();
    for source in sources {
        handle.block_on(may_remove(source, options))?;
    }
    let run = Removing { options, observer, counts: Counts::default() };
    let places = sources.iter().map(|source| run.find(source, handle)).collect::<Result<Vec<_>>>()?;
    let mut times = BTreeMap::new();
    for place in &places {
        let location = place.location();
        if let std::collections::btree_map::Entry::Vacant(time) = times.entry(location.show("")) {
            time.insert(handle.block_on(run.time(location))?);
        }
    }
    let mut at_once = usize::MAX;
    for place in &places {
        at_once = at_once.min(handle.block_on(place.location().store().capabilities())?.concurrency);
    }
    let items = stream::iter(places.iter().zip(sources)).flat_map(|(place, source)| {
        let now = times.get(&place.location().show("")).copied().unwrap_or(SystemTime::UNIX_EPOCH);
        run.items(place, source).map(move |item| (item, now))
    });
    let each = (at_once / options.jobs.max(1)).max(1);
    parallel::for_each_future(handle, options.jobs, each, items.boxed(), |(item, now)| run.one(item, now));
    Ok(run.counts.summary())
}

/// Whether the credentials at hand can do what was asked for.
async fn may_remove(source: &Source, options: &RemoveOptions) -> Result<()> {
    let keeps_versions = source.folder.location.store().capabilities().await?.versions;
    let hides = keeps_versions && !options.versions;
    let rights: &[Right] = match () {
        () if options.dry_run => &[Right::List],
        () if hides => &[Right::List, Right::Write],
        () => &[Right::List, Right::Delete],
    };
    rights::require_all(std::slice::from_ref(source), rights).await
}

/// The container of one object, by its stored name.
struct Item<'a> {
    location: &'a Location,
    stored: String,
}

struct Removing<'a> {
    options: &'a RemoveOptions,
    observer: &'a dyn Observer,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    removed: AtomicU64,
    hidden: AtomicU64,
    versions: AtomicU64,
    envelopes: AtomicU64,
    young: AtomicU64,
    kept: AtomicU64,
    skipped: AtomicU64,
    failed: AtomicU64,
}

impl Counts {
    fn summary(&self) -> RemoveSummary {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        RemoveSummary {
            removed: load(&self.removed),
            hidden: load(&self.hidden),
            versions: load(&self.versions),
            envelopes: load(&self.envelopes),
            young: load(&self.young),
            kept: load(&self.kept),
            skipped: load(&self.skipped),
            failed: load(&self.failed),
        }
    }
}

impl<'a> Removing<'a> {
    /// What is at a source. With all versions, what is hidden is there too.
    fn find<'s>(&self, source: &'s Source, handle: &Handle) -> Result<Place<'s>> {
        let found = Lookup { which: &Which::Current, handle }.find(source);
        let place = match found {
            Err(error) if error.kind() == ErrorKind::NotFound && self.options.versions => {
                handle.block_on(hidden(source))?.ok_or(error)
            }
            found => found,
        };
        match place? {
            Place::Folder { target, .. } if !self.options.recursive => {
                Err(Error::usage("is a folder").about(target.show()).hint("-r removes what is in it"))
            }
            place => Ok(place),
        }
    }

    /// The time by the store's clock. Where it cannot be asked nothing counts as old, so that envelopes stay.
    async fn time(&self, location: &Location) -> Result<SystemTime> {
        let hides = location.store().capabilities().await?.versions && !self.options.versions;
        if self.options.dry_run || hides {
            return Ok(self.options.now);
        }
        match drive::store_time(location, self.options.now).await {
            Err(error) if error.kind() == ErrorKind::Permission => Ok(SystemTime::UNIX_EPOCH),
            time => time,
        }
    }

    /// What is to be removed at a place.
    fn items<'s>(&'s self, place: &'s Place<'s>, source: &'s Source) -> BoxStream<'s, Result<Item<'s>>> {
        match place {
            Place::Object { location, name, .. } => {
                stream::iter([Ok(Item { location, stored: location.stored(&name) })]).boxed()
            }
            Place::Folder { target, .. } => {
                let scope = Scope::below(&target.location, &target.path).with_versions(self.options.versions);
                let wanted = move |entry| std::future::ready(self.item(target, source, entry));
                list(&target.location, &scope).filter_map(wanted).boxed()
            }
        }
    }

    /// What to do about one entry of a listing; nothing when the observer was told already.
    fn item<'s>(
        &self,
        target: &'s Target,
        source: &Source,
        entry: Result<Entry>,
    ) -> Option<Result<Item<'s>>> {
        let location = &target.location;
        let pair = match entry {
            Ok(Entry::Pair(pair)) => pair,
            Ok(Entry::Folder(_)) => return None,
            Ok(Entry::Foreign(object)) if object.marker => return None,
            Ok(Entry::Foreign(object)) => {
                let last = object.key.rsplit('/').next().unwrap_or_default();
                let why = match is_container_name(last) || is_envelope_name(last) {
                    true => "has a name that sidekey never writes, and is left alone",
                    false => "is not sidekey's, and is left alone",
                };
                self.skip(&location.show_key(&object.key), why);
                return None;
            }
            Err(error) => return Some(Err(error)),
        };
        let stored = location.stored(&pair.name);
        if pair.containers.iter().all(|object| object.marker) {
            if self.options.versions && !pair.containers.is_empty() {
                return Some(Ok(Item { location, stored }));
            }
            return None;
        }
        if let Some(why) = self.leaves_out(target, source, &pair) {
            self.skip(&location.show(&stored), &why);
            return None;
        }
        Some(Ok(Item { location, stored }))
    }

    /// Patterns see a name as `get` would write it. A folder's own metadata goes only when no pattern leaves it out, as a
    /// folder and by itself: what stays in the folder may need it.
    fn leaves_out(&self, target: &Target, source: &Source, pair: &PairEntry) -> Option<String> {
        let below = pair.name.segments().get(target.path.len()..).unwrap_or_default();
        let segments: Vec<Vec<u8>> = source.name.iter().chain(below).cloned().collect();
        let filter = &self.options.filter;
        let as_folder = filter.leaves_out(&segments, true).filter(|_| pair.name.is_folder());
        as_folder.or_else(|| filter.leaves_out(&segments, false))
    }

    async fn one(&self, item: Result<Item<'_>>, now: SystemTime) {
        let removed = match &item {
            Ok(Item { location, stored }) => {
                let options =
                    DriveOptions { versions: self.options.versions, dry_run: self.options.dry_run, now };
                drive::remove(location, stored, options).await.map(|removed| (location.show(stored), removed))
            }
            Err(_) => Err(Error::not_found("")),
        };
        match (item, removed) {
            (Ok(_), Ok((object, removed))) => self.tell(&object, &removed),
            (Err(error), _) | (Ok(_), Err(error)) => {
                add(&self.counts.failed, 1);
                self.observer.event(Event::Failed(&error));
            }
        }
    }

    fn tell(&self, object: &str, removed: &Removed) {
        let counts = &self.counts;
        add(if removed.hidden { &counts.hidden } else { &counts.removed }, 1);
        add(&counts.versions, removed.containers.len());
        add(&counts.envelopes, removed.envelopes.len());
        add(&counts.young, usize::from(removed.young));
        add(&counts.kept, removed.kept.len());
        self.observer.event(match self.options.dry_run {
            true => Event::WouldRemove { object, removed },
            false => Event::Removed { object, removed },
        });
        for kept in removed.kept.iter().filter(|kept| kept.why == WhyKept::Failed) {
            let message =
                format!("its envelope {} could not be deleted; sidekey clean tries again", kept.id.stored);
            self.observer.event(Event::Warning { path: Path::new(object), message: &message });
        }
    }

    fn skip(&self, object: &str, why: &str) {
        add(&self.counts.skipped, 1);
        self.observer.event(Event::Skipped { path: Path::new(object), why });
    }
}

/// What is at a source of which nothing is current.
async fn hidden(source: &Source) -> Result<Option<Place<'_>>> {
    if let Some((target, name)) = source.object.as_ref().and_then(|target| Some((target, target.file()?))) {
        let location = &target.location;
        let mut listed = list(location, &Scope::pair(location, &name).with_versions(true));
        while let Some(entry) = listed.next().await.transpose()? {
            if let Entry::Pair(PairEntry { containers, .. }) = entry
                && let Some(version) = containers.into_iter().next()
            {
                return Ok(Some(Place::Object { location, name, version }));
            }
        }
    }
    let folder = &source.folder;
    let first = list(&folder.location, &Scope::below(&folder.location, &folder.path).with_versions(true))
        .next()
        .await;
    let name = source.name.as_deref();
    Ok(first.transpose()?.map(|_| Place::Folder { target: folder, name }))
}

fn add(count: &AtomicU64, by: usize) {
    count.fetch_add(by as u64, Ordering::Relaxed);
}
