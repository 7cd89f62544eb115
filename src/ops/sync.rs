//! `sync`: one side becomes like the other, and only what differs is moved.
//!
//! The location is listed once, the tree is walked once, and what is remembered of both (`state`) says what is unchanged
//! without a look at any contents. What has to be done is a pure function of these (`plan`). It is done by the machinery of
//! `put`, `get` and `rm`, and remembered when it is confirmed: a run that is interrupted is gone on with by the next.

mod between;
mod gone;
mod learn;
mod options;
mod plan;
mod pull;
mod purge;
mod push;
mod scan;
mod sides;
mod state;

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::runtime::Handle;

pub use self::between::between;
pub use self::options::{Change, SyncOptions, SyncSummary};
pub use self::plan::Compare;
pub use self::pull::pull;
pub use self::push::push;

use self::learn::Learning;
use self::plan::{Key, Known, Stored, There};
use self::scan::Scan;
use self::state::{Act, Listed, State, Todo};
use crate::location::drive::{self, RemoveOptions};
use crate::location::listing::{Entry, EnvelopeObject, PairEntry, Scope, list};
use crate::location::{Location, vault};
use crate::name::ObjectName;
use crate::ops::events::{Counting, Event, Observer};
use crate::ops::get::no_name;
use crate::ops::parallel;
use crate::ops::put::choose::Chooser;
use crate::ops::twins::Twins;
use crate::ops::walk::Found;
use crate::store::Object;
use crate::{Error, ErrorKind, Result};

/// The kernel's clock for files lags behind by a tick.
const TICK: Duration = Duration::from_millis(20);

/// What both directions have in common.
struct Run<'a> {
    options: &'a SyncOptions,
    location: &'a Location,
    /// The plain path of the folder that is synchronised.
    below: &'a [Vec<u8>],
    state: State,
    handle: &'a Handle,
    observer: &'a Counting<'a>,
    counts: Counts,
    /// What is on both sides that looks alike.
    twins: Arc<Twins>,
    /// The first error of the state, which single files cannot be told.
    fault: Mutex<Option<Error>>,
}

#[derive(Default)]
struct Counts {
    new: AtomicU64,
    changed: AtomicU64,
    moved: AtomicU64,
    deleted: AtomicU64,
    kept: AtomicU64,
    unchanged: AtomicU64,
    learned: AtomicU64,
    purged: AtomicU64,
}

impl<'a> Run<'a> {
    fn begin(
        options: &'a SyncOptions,
        (location, below): (&'a Location, &'a [Vec<u8>]),
        sides: [&str; 2],
        handle: &'a Handle,
        observer: &'a Counting<'a>,
    ) -> Result<Self> {
        if options.keep_days.is_some() && !options.delete {
            return Err(Error::usage("--keep-days says for how long what --delete hides is kept")
                .hint("add --delete"));
        }
        let (state, set_aside) = State::open(&options.state, sides[0], sides[1])?;
        if let Some(message) = set_aside {
            observer.event(Event::Warning { path: Path::new(sides[0]), message: &message });
        }
        let (counts, fault) = (Counts::default(), Mutex::default());
        let twins = Arc::default();
        Ok(Self { options, location, below, state, handle, observer, counts, twins, fault })
    }

    /// Lists the location, once. What cannot be listed whole is not synchronised. Where info records are listed too, they say
    /// what is there of that of which nothing is remembered. `foreign` is told of what is no pair.
    fn list(&self, learning: Learning, foreign: impl Fn(&Object)) -> Result<u64> {
        let scope = Scope::below(self.location, self.below);
        let mut listed = list(self.location, &scope);
        let entries = std::iter::from_fn(|| self.handle.block_on(listed.next()));
        self.state.list(entries.filter_map(|entry| match entry {
            Ok(Entry::Pair(pair)) => self.listed(&pair, learning).transpose(),
            Ok(Entry::Foreign(object)) => {
                foreign(&object);
                None
            }
            Ok(Entry::Folder(_)) => None,
            Err(error) => Some(Err(not_whole(error))),
        }))
    }

    /// Something in the location that is copied from. Under a name that cannot be read may be what would count as gone.
    fn foreign(&self, source: &Location, object: &Object) {
        if let Some(error) = no_name(source, object) {
            self.fail(&error);
        }
    }

    fn listed(&self, pair: &PairEntry, learning: Learning) -> Result<Option<Listed>> {
        if pair.incomplete {
            let shown = self.location.show(&self.location.stored(&pair.name));
            return Err(not_whole(Error::integrity("could not be listed whole").about(shown)));
        }
        let Some(object) = pair.current() else { return Ok(None) };
        let segments = pair.name.segments().get(self.below.len()..).unwrap_or_default();
        let key = Key::new(segments, pair.name.is_folder());
        if !self.is_filtered(&key) {
            for twin in self.twins.note(segments) {
                let (path, message) = (self.location.show(&object.key), twin.to_string());
                self.observer.event(Event::Warning { path: Path::new(&path), message: &message });
            }
        }
        // Whose envelopes are there, by the data ids in their names; one beside its container may be anybody's.
        let short = |envelope: &EnvelopeObject| {
            let current = envelope.object.latest && !envelope.object.marker;
            current.then(|| envelope.short.clone().unwrap_or_else(|| "*".into()))
        };
        let envelopes: Vec<String> = pair.envelopes.iter().filter_map(short).collect();
        let stored = Stored { version: object.version.clone(), size: object.size };
        let record = match learning {
            Learning::Records => vault::listed(self.location, object),
            Learning::Nothing => None,
        };
        let learned = record.and_then(|(data_id, info)| Known::learned(data_id, &info));
        Ok(Some(Listed { key, stored, envelopes: envelopes.join(" "), learned }))
    }

    /// What was listed and is not left out by the patterns.
    fn there(&self) -> impl Iterator<Item = Result<There>> + Send + '_ {
        self.state.there().filter(|there| there.as_ref().map_or(true, |there| !self.is_filtered(&there.key)))
    }

    /// What of the tree of this machine is left out. The walk is to ask from one thread, in its own order.
    fn leaves_out<'r>(&'r self, scan: &'r Scan) -> impl Fn(&Found) -> bool + Sync + 'r {
        let chooser = Chooser {
            filter: &self.options.filter,
            exclude_caches: self.options.exclude_caches,
            one_file_system: self.options.one_file_system,
            observer: self.observer,
            device: AtomicU64::new(0),
            twins: Arc::clone(&self.twins),
        };
        move |found| scan.leaves_out(&chooser, found)
    }

    /// Whether something was changed so shortly before this run that a later change may not show in its time.
    fn is_racy(&self, metadata: &Metadata) -> bool {
        scan::changed(metadata) >= nanoseconds(self.options.now.checked_sub(TICK).unwrap_or(self.options.now))
    }

    /// Remembers which file of this machine it is that an info record told of.
    fn adopt(&self, key: &Key, stored: &Stored, known: &Known, path: &Path) -> Result<()> {
        let found = path.symlink_metadata().ok();
        if let Some((found, facts)) = found.as_ref().and_then(|found| Some((found, scan::facts(found)?))) {
            let racy = self.is_racy(found);
            let Known { digest, data_id, .. } = *known;
            self.state.record(key, stored, &Known { facts, racy, digest, data_id })?;
        }
        add(&self.counts.unchanged, 1);
        add(&self.counts.learned, 1);
        Ok(())
    }

    /// Whether the patterns leave it out.
    fn is_filtered(&self, key: &Key) -> bool {
        let filter = &self.options.filter;
        !filter.is_empty() && filter.leaves_out(&key.segments(), key.is_folder()).is_some()
    }

    /// The name in the location.
    fn name(&self, key: &Key) -> Result<ObjectName> {
        let segments = [self.below, &key.segments()].concat();
        match key.is_folder() {
            true => ObjectName::folder(&segments),
            false => ObjectName::file(&segments),
        }
    }

    /// The container's name as it is stored.
    fn stored(&self, key: &Key) -> Result<String> {
        Ok(self.location.stored(&self.name(key)?))
    }

    /// Refuses to remove what nobody can have meant to remove.
    fn may_delete(&self, source: &str, found: u64) -> Result<()> {
        let (count, _) = self.state.count(Act::Delete)?;
        if !self.options.delete || count == 0 {
            return Ok(());
        }
        if found == 0 && !self.options.force {
            return Err(Error::conflict(format!(
                "holds nothing, and all {count} objects on the other side would be removed; nothing was done"
            ))
            .about(source)
            .hint("is a disk not mounted? --force removes them all the same"));
        }
        if let Some(most) = self.options.max_delete.filter(|most| count > *most) {
            return Err(Error::conflict(format!(
                "{count} objects would be removed, more than the {most} of --max-delete; nothing was done"
            ))
            .about(source)
            .hint("--dry-run shows which"));
        }
        Ok(())
    }

    /// Tells what would be done about each name.
    fn tell_plan(&self, perhaps: impl Fn(&Todo) -> Result<Option<Change>>) -> Result<()> {
        let keeps = !self.options.delete || self.has_failed();
        for todo in self.state.todo(&Act::ALL) {
            let todo = todo?;
            let change = match todo.act {
                Act::New => Some(Change::New),
                Act::Change | Act::Unknown => Some(Change::Contents),
                Act::Metadata => Some(Change::Metadata),
                Act::Move | Act::Check => perhaps(&todo)?,
                Act::Delete if !keeps => Some(Change::Deleted),
                Act::Delete => {
                    add(&self.counts.kept, 1);
                    continue;
                }
            };
            let size = Some(todo.stored.size).filter(|_| matches!(todo.act, Act::New | Act::Change));
            match change {
                Some(change) => {
                    let from = todo.source.as_ref().filter(|_| change == Change::Moved);
                    self.tell(change, &todo.key, from, size);
                }
                None => add(&self.counts.unchanged, 1),
            }
        }
        Ok(())
    }

    /// One name is done, or in a dry run would be.
    fn tell(&self, change: Change, key: &Key, from: Option<&Key>, size: Option<u64>) {
        add(
            match change {
                Change::New => &self.counts.new,
                Change::Contents | Change::Metadata => &self.counts.changed,
                Change::Moved => &self.counts.moved,
                Change::Deleted => &self.counts.deleted,
            },
            1,
        );
        let (path, from) = (key.show(), from.map(Key::show));
        let dry_run = self.options.dry_run;
        self.observer.event(Event::Synced { change, path: &path, from: from.as_deref(), size, dry_run });
    }

    fn fail(&self, error: &Error) {
        self.observer.event(Event::Failed(error));
    }

    /// Keeps an error of the state.
    fn note(&self, done: Result<()>) {
        if let Err(error) = done {
            self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }

    /// Ends the run where the state could not be read.
    fn stop_at_fault(&self) -> Result<()> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }

    /// Whether anything failed so far.
    fn has_failed(&self) -> bool {
        self.observer.summary().failed > 0
    }

    /// Keeps so much that is gone where anything failed: under another name it may be what failed, and the last there is of it.
    fn keeps(&self, count: u64, path: &Path) -> bool {
        let keeps = count > 0 && self.has_failed();
        if keeps {
            add(&self.counts.kept, count);
            let message = format!(
                "not all of it was done, so nothing counts as gone: {count} objects were not removed"
            );
            self.observer.event(Event::Warning { path, message: &message });
        }
        keeps
    }

    /// Removes from the location what is gone on the side of `source`, where that is asked for and nothing failed.
    fn delete_gone(&self, source: &Path) -> Result<()> {
        let (count, _) = self.state.count(Act::Delete)?;
        if !self.options.delete {
            add(&self.counts.kept, count);
            return Ok(());
        }
        if count == 0 || self.keeps(count, source) {
            return Ok(());
        }
        let capabilities = self.handle.block_on(self.location.store().capabilities())?;
        let now = match capabilities.versions {
            true => self.options.now,
            false => self.handle.block_on(purge::store_time(self))?,
        };
        let options = RemoveOptions { versions: false, dry_run: false, now };
        let each = (capabilities.concurrency / self.options.jobs.max(1)).max(1);
        let todo = Box::pin(stream::iter(self.state.todo(&[Act::Delete])));
        parallel::for_each_future(self.handle, self.options.jobs, each, todo, |todo| async {
            let removed = async {
                let key = todo?.key;
                match drive::remove(self.location, &self.stored(&key)?, options).await {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    removed => drop(removed?),
                }
                self.state.forget(&key)?;
                self.tell(Change::Deleted, &key, None, None);
                Ok::<_, Error>(())
            };
            if let Err(error) = removed.await {
                self.fail(&error);
            }
        });
        Ok(())
    }

    /// Tells how many bytes there will be to read.
    fn expect(&self, acts: &[Act]) -> Result<()> {
        let mut bytes = 0_u64;
        for act in acts {
            bytes = bytes.saturating_add(self.state.count(*act)?.1);
        }
        self.observer.event(Event::Expected(bytes));
        Ok(())
    }

    /// Writes down what is left to write down.
    fn finish(self, unchanged: u64) -> Result<SyncSummary> {
        self.note(self.state.flush());
        if let Some(error) = self.fault.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let message = format!(
                "what was done is not all remembered, and is done again the next time: {}",
                error.line()
            );
            self.observer.event(Event::Warning { path: &self.options.state, message: &message });
        }
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (counts, of_all) = (&self.counts, self.observer.summary());
        Ok(SyncSummary {
            new: load(&counts.new),
            changed: load(&counts.changed),
            moved: load(&counts.moved),
            deleted: load(&counts.deleted),
            kept: load(&counts.kept),
            unchanged: unchanged + load(&counts.unchanged),
            learned: load(&counts.learned),
            purged: load(&counts.purged),
            skipped: of_all.skipped,
            failed: of_all.failed,
            integrity: of_all.integrity,
            bytes: of_all.bytes,
        })
    }
}

/// What the machinery of other commands tells, without what sync tells itself.
struct Telling<'a>(&'a dyn Observer);

impl Observer for Telling<'_> {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Put { .. } | Event::Done { .. } | Event::Removed { .. } => {}
            event => self.0.event(event),
        }
    }
}

fn not_whole(error: Error) -> Error {
    match error.remedy() {
        Some(_) => error,
        None => error
            .hint("nothing was done: what is missing in a list that is not whole is not known to be gone"),
    }
}

/// The root of a tree, so that a walk gives what is in it.
fn contents_of(folder: &Path) -> PathBuf {
    folder.join("")
}

fn add(count: &AtomicU64, by: u64) {
    count.fetch_add(by, Ordering::Relaxed);
}

/// Nanoseconds since 1970.
fn nanoseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Whether there is nothing, and rightly.
fn is_absent(error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound
}
