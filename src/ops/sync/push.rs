//! A folder of this machine into a location.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use futures_util::stream;

use super::learn::{self, Learning};
use super::plan::{Differs, Facts, Finding, Here, Key, Known, Moves, Stored, There, compare};
use super::scan::{self, Folders, Scan};
use super::sides::named;
use super::state::{Act, Todo};
use super::{Change, Compare, Run, SyncOptions, SyncSummary, Telling, contents_of, purge};
use crate::location::drive::{self, CopyRequest, IfExists};
use crate::ops::events::{Counting, Event, Observer};
use crate::ops::put::{Confirmed, PutOptions, Target, put_found};
use crate::ops::walk::Found;
use crate::ops::{parallel, rights, runtime, source};
use crate::{Error, IoContext as _, Result};

/// Makes the folder of a location that `put` names like the folder `source`. How files are put is said by `put`; what of
/// them, by `options`.
///
/// # Errors
/// `NotFound` when there is no such folder; `Conflict` when another run works on the same two, and when more would be
/// removed than may be; what listing the location fails with: nothing was done then. What happens to single files is in the
/// summary.
pub fn push(
    source: &Path,
    put: &PutOptions,
    options: &SyncOptions,
    observer: &dyn Observer,
) -> Result<SyncSummary> {
    let Target::Below(below) = &put.target else {
        return Err(Error::usage("a folder is synchronised with a folder"));
    };
    if !source.metadata().context("cannot read", source)?.is_dir() {
        return Err(Error::usage("is no folder").at(source).hint("sidekey put stores single files"));
    }
    let roots = [contents_of(source)];
    put.check(&roots)?;
    let runtime = runtime::start()?;
    let handle = runtime.handle();
    let location = &put.location;
    let keeps_versions = handle.block_on(location.store().capabilities())?.versions;
    options.check_keep_days(location, keeps_versions)?;
    handle.block_on(rights::require_below(location, below, true, options.rights(keeps_versions)))?;
    let whole = source.canonicalize().context("cannot read", source)?;
    let sides = [&*whole.display().to_string(), &*named(&location.show(&location.stored_folder(below)))];
    let telling = Telling(observer);
    let counting = Counting::new(&telling);
    let run = Run::begin(options, (location, below), sides, handle, &counting)?;
    let push = Pushing { run, source, roots, put, scan: Scan::default() };
    let unchanged = push.plan()?;
    match options.dry_run {
        true => push.run.tell_plan(|todo| push.would_be(todo))?,
        false => push.perform()?,
    }
    push.run.finish(unchanged)
}

/// What is stored, unless its contents turn out to be the same.
const PUT: [Act; 5] = [Act::New, Act::Change, Act::Metadata, Act::Check, Act::Unknown];

struct Pushing<'a> {
    run: Run<'a>,
    source: &'a Path,
    roots: [PathBuf; 1],
    put: &'a PutOptions,
    scan: Scan,
}

impl Pushing<'_> {
    /// Finds out what there is to do; how much there is not.
    fn plan(&self) -> Result<u64> {
        let Self { run, scan, .. } = self;
        let nothing_known = run.state.is_empty()?;
        let leave_out = run.leaves_out(scan);
        let folders = if self.put.folder_metadata { Folders::All } else { Folders::Empty };
        let walk = || scan.walk(&self.roots, self.put.except.as_deref(), folders, &leave_out, run.observer);
        let unchanged = scan::ahead(walk, |here| {
            self.warn(nothing_known, run.list(Learning::Records, |_| {})?);
            let mut comparing = compare(here, run.there(), run.options.compare);
            let todo = comparing.by_ref().filter_map(|finding| match finding {
                Ok(finding) => self.todo(finding).transpose(),
                Err(error) => Some(Err(error)),
            });
            run.state.plan(todo)?;
            Ok(comparing.same)
        })?;
        learn::from_envelopes(run, &|key| self.path(key), act)?;
        run.may_delete(&self.source.display().to_string(), scan.found.load(Ordering::Relaxed))?;
        self.plan_moves()?;
        Ok(unchanged)
    }

    /// Says so where nothing tells what is there already.
    fn warn(&self, nothing_known: bool, listed: u64) {
        let run = &self.run;
        if nothing_known && listed > 0 && run.location.vault().is_none() {
            let message = format!(
                "nothing is remembered of the {listed} objects that are there already: those that have names of the source are stored again"
            );
            run.observer.event(Event::Warning { path: self.source, message: &message });
        }
    }

    fn todo(&self, finding: Finding) -> Result<Option<Todo>> {
        let (key, act, stored) = match finding {
            Finding::OnlyHere(here) => {
                (here.key, Act::New, Stored { version: String::new(), size: here.facts.size })
            }
            Finding::OnlyThere(There { key, .. }) if self.scan.is_kept(&key) => return Ok(None),
            Finding::OnlyThere(There { key, stored, .. }) => (key, Act::Delete, stored),
            Finding::Differs(
                Here { key, .. },
                There { stored, known: Some(known), .. },
                Differs::Learned,
            ) => {
                return self.run.adopt(&key, &stored, &known, &self.path(&key)).map(|()| None);
            }
            Finding::Differs(here, there, differs) => {
                (here.key, act(differs), Stored { size: here.facts.size, ..there.stored })
            }
        };
        Ok(Some(Todo { key, act, stored, source: None }))
    }

    /// Finds among what is gone what has only another name now.
    fn plan_moves(&self) -> Result<()> {
        let state = &self.run.state;
        let mut moves = Moves::default();
        for todo in state.todo(&[Act::Delete]) {
            let Todo { key, stored, .. } = todo?;
            if let Some((of, known)) = state.known(&key)?
                && of == stored
            {
                moves.gone(There { key, stored, known: Some(known) });
            }
        }
        if moves.is_empty() {
            return Ok(());
        }
        let moved = state.todo(&[Act::New]).filter_map(|todo| {
            let todo = match todo {
                Ok(todo) => todo,
                Err(error) => return Some(Err(error)),
            };
            let facts = scan::facts(&self.path(&todo.key).symlink_metadata().ok()?)?;
            let source = moves.source(&facts, |from| self.may_copy(from, &todo.key))?;
            Some(Ok(Todo { act: Act::Move, source: Some(source.key), stored: source.stored, ..todo }))
        });
        state.plan(moved)
    }

    /// Whether a copy is as good as a new container: inside of one stands the last segment of its name. Outside of vaults,
    /// where another one is read, nothing tells it from a pair that somebody swapped; in a vault the info record does.
    fn may_copy(&self, from: &Key, to: &Key) -> bool {
        self.run.location.vault().is_some() || from.segments().last() == to.segments().last()
    }

    fn perform(&self) -> Result<()> {
        self.move_all()?;
        self.run.expect(&PUT)?;
        self.put_all()?;
        self.run.delete_gone(self.source)?;
        if let Some(days) = self.run.options.keep_days {
            purge::older_than(&self.run, days)?;
        }
        Ok(())
    }

    /// Copies within the store what was moved; where that does not work, it is stored again.
    fn move_all(&self) -> Result<()> {
        let run = &self.run;
        let concurrency = run.handle.block_on(run.location.store().capabilities())?.concurrency;
        let each = (concurrency / run.options.jobs.max(1)).max(1);
        let todo = Box::pin(stream::iter(run.state.todo(&[Act::Move])));
        parallel::for_each_future(run.handle, run.options.jobs, each, todo, |todo| async {
            match todo {
                Ok(todo) => {
                    if self.copy(&todo).await.is_err() {
                        run.note(run.state.set_act(&todo.key, Act::New));
                    }
                }
                Err(error) => run.fail(&error),
            }
        });
        Ok(())
    }

    async fn copy(&self, todo: &Todo) -> Result<()> {
        let run = &self.run;
        let gone = || Error::not_found("is not known any more");
        let from = todo.source.as_ref().ok_or_else(gone)?;
        let (stored, known) = self.moved(todo, from)?.ok_or_else(gone)?;
        let (from_stored, to) = (run.stored(from)?, run.stored(&todo.key)?);
        let request = CopyRequest {
            from: &from_stored,
            version: Some(&stored.version),
            to: &to,
            encryption: &self.put.encryption,
            if_exists: IfExists::Replace,
        };
        let copied = drive::copy(run.location, request).await?;
        let drive::Stored::Stored(written) = copied.stored else { return Err(gone()) };
        let now = self.path(&todo.key).symlink_metadata().ok();
        if now.as_ref().and_then(scan::facts).as_ref() != Some(&known.facts) {
            return Err(gone());
        }
        let stored = Stored { version: written.version, size: copied.size };
        run.state.record(&todo.key, &stored, &known)?;
        run.tell(Change::Moved, &todo.key, Some(from), None);
        Ok(())
    }

    /// What is known of the file that was moved; nothing where another one is here. An inode is given to a new file as soon as the
    /// old one is removed, and a time can be set: so the contents tell.
    fn moved(&self, todo: &Todo, from: &Key) -> Result<Option<(Stored, Known)>> {
        let Some((stored, known)) = self.run.state.known(from)? else { return Ok(None) };
        let path = self.path(&todo.key);
        let (file, metadata) = source::open_file(&path, false)?;
        let Some(facts) = scan::facts(&metadata).filter(|facts| is_same_file(facts, &known.facts)) else {
            return Ok(None);
        };
        if Some(source::sha256(&file).context("cannot read", &path)?) != known.digest {
            return Ok(None);
        }
        source::unchanged(&file, &metadata, &path)?;
        Ok(Some((stored, Known { facts, ..known })))
    }

    /// What would become of something of which only the contents tell.
    fn would_be(&self, todo: &Todo) -> Result<Option<Change>> {
        match &todo.source {
            None => self.differs(todo),
            Some(from) => Ok(match self.moved(todo, from) {
                Ok(Some(_)) => Some(Change::Moved),
                _ => Some(Change::New),
            }),
        }
    }

    /// Stores what is new or changed.
    fn put_all(&self) -> Result<()> {
        let run = &self.run;
        let found = run.state.todo(&PUT).filter_map(|todo| match todo {
            Ok(todo) => self.found(&todo).transpose(),
            Err(error) => Some(Err(error)),
        });
        let confirm = |confirmed: &Confirmed<'_>| run.note(self.confirmed(confirmed));
        put_found(found, false, self.put, Some(&confirm), run.observer)
    }

    /// What is to be put, as it is now; nothing where there is nothing to put any more.
    fn found(&self, todo: &Todo) -> Result<Option<Found>> {
        let path = self.path(&todo.key);
        let metadata = match path.symlink_metadata().context("cannot read", &path) {
            Err(error) if super::is_absent(&error) => {
                let why = "is gone since it was found";
                self.run.observer.event(Event::Spared(todo.stored.size));
                self.run.observer.event(Event::Skipped { path: &path, why });
                return Ok(None);
            }
            found => found?,
        };
        if todo.act == Act::Check && self.differs(todo)?.is_none() {
            super::add(&self.run.counts.unchanged, 1);
            self.run.observer.event(Event::Spared(todo.stored.size));
            return Ok(None);
        }
        Ok(Some(Found { path, segments: todo.key.segments(), named: false, metadata }))
    }

    /// How something differs of which only the contents tell; what does not is remembered as it is now.
    fn differs(&self, todo: &Todo) -> Result<Option<Change>> {
        let (run, path) = (&self.run, self.path(&todo.key));
        let Some((stored, known)) = run.state.known(&todo.key)? else { return Ok(Some(Change::Contents)) };
        let Some(digest) = known.digest else { return Ok(Some(Change::Contents)) };
        let (file, metadata) = source::open_file(&path, false)?;
        if source::sha256(&file).context("cannot read", &path)? != digest {
            return Ok(Some(Change::Contents));
        }
        source::unchanged(&file, &metadata, &path)?;
        let Some(facts) = scan::facts(&metadata) else { return Ok(Some(Change::Contents)) };
        // Under another time the container would be stored anew, but for one who asked to compare contents alone.
        let other_time = facts.mtime != known.facts.mtime && run.options.compare == Compare::SizeMtime;
        if other_time || facts.mode != known.facts.mode {
            return Ok(Some(Change::Metadata));
        }
        if !run.options.dry_run {
            let racy = run.is_racy(&metadata);
            run.note(run.state.record(&todo.key, &stored, &Known { facts, racy, ..known }));
        }
        Ok(None)
    }

    fn confirmed(&self, confirmed: &Confirmed<'_>) -> Result<()> {
        let Confirmed { found, metadata, digest, data_id, written, stored_len } = confirmed;
        let key = Key::new(&found.segments, metadata.is_dir());
        let act = self.run.state.act(&key)?;
        if let Some(facts) = scan::facts(metadata) {
            let stored = Stored { version: written.version.clone(), size: *stored_len };
            let racy = self.run.is_racy(metadata);
            let known = Known { facts, digest: *digest, data_id: Some(*data_id), racy };
            self.run.state.record(&key, &stored, &known)?;
        }
        let change = match act {
            Some(Act::New | Act::Move) | None => Change::New,
            Some(Act::Metadata) => Change::Metadata,
            Some(_) => Change::Contents,
        };
        self.run.tell(change, &key, None, Some(metadata.len()).filter(|_| metadata.is_file()));
        Ok(())
    }

    fn path(&self, key: &Key) -> PathBuf {
        key.segments()
            .iter()
            .fold(self.source.to_owned(), |path, segment| path.join(OsStr::from_bytes(segment)))
    }
}

/// What becomes of what differs so.
fn act(differs: Differs) -> Act {
    match differs {
        Differs::Unknown => Act::Unknown,
        Differs::Contents => Act::Change,
        Differs::Perhaps | Differs::Learned => Act::Check,
        Differs::Metadata => Act::Metadata,
    }
}

/// Whether it is the file that has moved, untouched.
fn is_same_file(now: &Facts, was: &Facts) -> bool {
    (now.inode, now.size, now.mtime, now.mode) == (was.inode, was.size, was.mtime, was.mode)
}
