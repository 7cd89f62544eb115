//! A location into a folder of this machine.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::gone::Gone;
use super::learn::{self, Learning};
use super::plan::{Differs, Finding, Here, Key, Known, Stored, There, compare};
use super::scan::{self, Folders, Scan};
use super::sides::{folder_of_disk, is_within, named, overlap, require_source};
use super::state::{Act, Todo};
use super::{Change, Run, SyncOptions, SyncSummary, Telling, contents_of};
use crate::DataId;
use crate::format::FileType;
use crate::location::argument::Target;
use crate::ops::atomic::Mode;
use crate::ops::events::{Counting, Event, Observer};
use crate::ops::get::{GetOptions, Item, Overwrite, Restored, check_listed, get_listed};
use crate::ops::{restore, rights, runtime, source};
use crate::store::{Object, Right};
use crate::{Error, IoContext as _, Result};

/// Makes the folder `destination` like the folder of a location. With which keys and how files are restored is said by `get`;
/// what of them, by `options`. What is there and differs is replaced.
///
/// # Errors
/// `Usage` when one of the two is in the other; `NotFound` when there is no such folder on this machine; `Conflict` when another
/// run works on the same two, and when more would be removed than may be; what listing the location fails with: nothing was done
/// then. What happens to single files is in the summary.
pub fn pull(
    source: &Target,
    destination: &Path,
    get: &GetOptions,
    options: &SyncOptions,
    observer: &dyn Observer,
) -> Result<SyncSummary> {
    if options.keep_days.is_some() {
        return Err(Error::usage("keeps no versions: what is removed there is gone at once")
            .at(destination)
            .hint("leave out --keep-days"));
    }
    let source = source.unlocked(&get.identities)?;
    let runtime = runtime::start()?;
    let whole = named(&destination.display().to_string());
    let from = named(&source.location.show(&source.stored_prefix()));
    refuse_overlap(&source, destination, [&from, &whole])?;
    require_source(&source)?;
    let wanted: &[Right] = if options.dry_run { &[Right::List] } else { &[Right::List, Right::Read] };
    runtime.block_on(rights::require(&source, wanted))?;
    if !options.dry_run {
        std::fs::create_dir_all(destination).context("cannot make the folder", destination)?;
    }
    let sides = [&*from, &*whole];
    let telling = Telling(observer);
    let counting = Counting::new(&telling);
    let run = Run::begin(options, (&source.location, &source.path), sides, runtime.handle(), &counting)?;
    let pull = Pulling { run, destination, roots: [contents_of(destination)], get, later: Mutex::default() };
    let unchanged = pull.plan(&from)?;
    match options.dry_run {
        true => pull.run.tell_plan(|_| Ok(Some(Change::Contents)))?,
        false => pull.perform()?,
    }
    pull.run.finish(unchanged)
}

/// Refuses a destination in the location, or around it: what is in the location is not in it by its own name, and would count as
/// gone. All of a vault is one thing, whatever its folders are called on the disk.
fn refuse_overlap(source: &Target, destination: &Path, names: [&str; 2]) -> Result<()> {
    let stored = if source.location.vault().is_some() { String::new() } else { source.stored_prefix() };
    let folder = folder_of_disk(&source.location, &stored);
    match overlap(names[0], names[1]) || folder.is_some_and(|folder| is_within(&folder, destination)) {
        true => Err(Error::usage("and the location are one in the other")
            .at(destination)
            .hint("choose a folder that is neither in the location nor above it")),
        false => Ok(()),
    }
}

/// What is fetched, unless it is here.
const GET: [Act; 4] = [Act::New, Act::Unknown, Act::Change, Act::Metadata];

struct Pulling<'a> {
    run: Run<'a>,
    destination: &'a Path,
    roots: [PathBuf; 1],
    get: &'a GetOptions,
    /// What is made when all else is there: it is looked at then.
    later: Mutex<Vec<(Key, Stored, DataId)>>,
}

impl Pulling<'_> {
    /// Finds out what there is to do; how much there is not.
    fn plan(&self, from: &str) -> Result<u64> {
        let (run, scan) = (&self.run, Scan::default());
        let listed = run.list(Learning::Records, |object| run.foreign(run.location, object))?;
        let leave_out = run.leaves_out(&scan);
        let exists = self.destination.symlink_metadata().is_ok();
        let roots = if exists { &self.roots[..] } else { &[] };
        let here = scan.walk(roots, None, Folders::All, &leave_out, run.observer);
        let mut comparing = compare(here, run.there(), run.options.compare);
        let todo = comparing
            .by_ref()
            .filter_map(|finding| finding.and_then(|finding| self.todo(finding, &scan)).transpose());
        run.state.plan(todo)?;
        learn::from_envelopes(run, &|key| self.path(key), |_| Act::Unknown)?;
        run.may_delete(from, listed)?;
        if run.options.delete && scan.failed.load(Ordering::Relaxed) > 0 {
            return Err(Error::conflict("could not all be read; nothing was done").at(self.destination));
        }
        Ok(comparing.same)
    }

    fn todo(&self, finding: Finding, scan: &Scan) -> Result<Option<Todo>> {
        let nothing = || Stored { version: String::new(), size: 0 };
        let (key, act, stored) = match finding {
            // A folder stays as long as there is anything in it.
            Finding::OnlyHere(here)
                if here.key.is_folder() && self.run.state.is_listed_below(&here.key.0)? =>
            {
                return Ok(None);
            }
            Finding::OnlyHere(here) if here.key.segments().is_empty() => return Ok(None),
            Finding::OnlyHere(here) => (here.key, Act::Delete, nothing()),
            // The walk is past all names before this one.
            Finding::OnlyThere(there) if scan.is_kept(&there.key) => return Ok(None),
            Finding::OnlyThere(there) => (there.key, Act::New, there.stored),
            Finding::Differs(
                Here { key, .. },
                There { stored, known: Some(known), .. },
                Differs::Learned,
            ) => {
                return self.run.adopt(&key, &stored, &known, &self.path(&key)).map(|()| None);
            }
            // What a record does not tell, the container does.
            Finding::Differs(here, There { stored, known: Some(known), .. }, _) if known.is_learned() => {
                (here.key, Act::Unknown, stored)
            }
            Finding::Differs(here, there, Differs::Unknown) => (here.key, Act::Unknown, there.stored),
            Finding::Differs(here, there, Differs::Metadata) => (here.key, Act::Metadata, there.stored),
            Finding::Differs(here, there, _) => (here.key, Act::Change, there.stored),
        };
        Ok(Some(Todo { key, act, stored, source: None }))
    }

    fn perform(&self) -> Result<()> {
        let run = &self.run;
        run.expect(&GET)?;
        let gone = self.gone()?;
        self.get_files(|key| !gone.blocks(key))?;
        let mut left = gone.other.len() as u64;
        if !gone.in_the_way.is_empty() {
            match self.make_way(&gone)? {
                true => self.get_files(|key| gone.blocks(key))?,
                false => left += gone.in_the_way.len() as u64,
            }
        }
        if !run.keeps(left, self.destination) {
            self.delete(&gone.other);
        }
        // The time of a folder is set when nothing in it changes any more.
        self.get_all(&GET, Overwrite::Always, Key::is_folder)
    }

    fn get_files(&self, is_meant: impl Fn(&Key) -> bool + Sync) -> Result<()> {
        let is_meant = |key: &Key| !key.is_folder() && is_meant(key);
        self.get_all(&[Act::New, Act::Unknown], Overwrite::IfDifferent, is_meant)?;
        self.get_all(&[Act::Change, Act::Metadata], Overwrite::Always, is_meant)
    }

    fn get_all(
        &self,
        acts: &[Act],
        overwrite: Overwrite,
        is_meant: impl Fn(&Key) -> bool + Send,
    ) -> Result<()> {
        let run = &self.run;
        let confirm = |restored: &Restored<'_>| run.note(self.confirmed(restored));
        let items = self.items(acts, is_meant);
        get_listed(items, self.destination, (self.get, overwrite), &confirm, run.observer)?;
        // By now symlinks and the times of folders are there too.
        let later = std::mem::take(&mut *self.later.lock().unwrap_or_else(PoisonError::into_inner));
        for (key, stored, data_id) in later {
            self.remember(&key, &stored, None, data_id)?;
        }
        Ok(())
    }

    fn items(
        &self,
        acts: &[Act],
        is_meant: impl Fn(&Key) -> bool + Send,
    ) -> impl Iterator<Item = Result<Item<'_>>> + Send {
        let todo = self.run.state.todo(acts);
        let todo = todo.filter(move |todo| todo.as_ref().map_or(true, |todo| is_meant(&todo.key)));
        todo.map(|todo| todo.and_then(|todo| self.item(&todo)))
    }

    fn item(&self, todo: &Todo) -> Result<Item<'_>> {
        let (run, name) = (&self.run, self.run.name(&todo.key)?);
        let object = Object {
            key: run.location.container_key(&name),
            version: todo.stored.version.clone(),
            latest: true,
            marker: false,
            size: todo.stored.size,
            modified: SystemTime::UNIX_EPOCH,
            info: None,
        };
        Ok(Item { location: run.location, name, object, segments: todo.key.segments() })
    }

    fn confirmed(&self, restored: &Restored<'_>) -> Result<()> {
        let Restored { item, object, target, metadata, end, data_id } = restored;
        let key = Key::new(&item.segments, item.name.is_folder());
        let stored = Stored { version: object.version.clone(), size: object.size };
        let act = self.run.state.act(&key)?;
        let change = match act {
            Some(Act::New) => Change::New,
            Some(Act::Metadata) => Change::Metadata,
            _ => Change::Contents,
        };
        let file_type = metadata.map_or(FileType::File, |metadata| metadata.file_type);
        if file_type == FileType::File {
            // What was there already may have another mode.
            if let Mode::Exact(mode) = restore::mode(*metadata)
                && target.symlink_metadata().is_ok_and(|found| found.mode() & 0o777 != mode)
            {
                let (file, _) = source::open_file(target, false)?;
                let set = file.set_permissions(Permissions::from_mode(mode));
                set.context("cannot set the permissions", target)?;
            }
            self.remember(&key, &stored, end.digest, *data_id)?;
        } else {
            let mut later = self.later.lock().unwrap_or_else(PoisonError::into_inner);
            later.push((key.clone(), stored, *data_id));
        }
        self.run.tell(change, &key, None, Some(end.total).filter(|_| file_type == FileType::File));
        Ok(())
    }

    /// Remembers what is here now of something that is there.
    fn remember(&self, key: &Key, stored: &Stored, digest: Option<[u8; 32]>, data_id: DataId) -> Result<()> {
        let found = self.path(key).symlink_metadata().ok();
        let Some(facts) = found.as_ref().and_then(scan::facts) else { return Ok(()) };
        // Its time is that of the original: a change right after this one has another.
        self.run.state.record(key, stored, &Known { facts, digest, data_id: Some(data_id), racy: false })
    }

    /// Whether something that is gone has the place of something that is to come.
    fn is_in_the_way(&self, key: &Key) -> Result<bool> {
        let state = &self.run.state;
        let below = [key.0.as_slice(), &[0]].concat();
        if !key.is_folder() && state.is_listed_below(&below)? {
            return Ok(true);
        }
        let own = key.is_folder().then_some(key.0.as_slice());
        for folder in key.folders().chain(own) {
            if folder.split_last().is_some_and(|(_, file)| !file.is_empty())
                && state.is_listed(&folder[..folder.len() - 1])?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What is gone, where that is to be removed.
    fn gone(&self) -> Result<Gone> {
        let mut gone = Gone::default();
        if !self.run.options.delete {
            super::add(&self.run.counts.kept, self.run.state.count(Act::Delete)?.0);
            return Ok(gone);
        }
        for todo in self.run.state.todo(&[Act::Delete]) {
            let key = todo?.key;
            match self.is_in_the_way(&key)? {
                true => gone.in_the_way.insert(key),
                false => gone.other.insert(key),
            };
        }
        Ok(gone)
    }

    /// Removes what is in the way, if nothing failed so far and what takes its place was read to its end: whether a key opens it
    /// and it is whole is known then, and at a kill the next run can fetch it. Whether it did.
    fn make_way(&self, gone: &Gone) -> Result<bool> {
        let run = &self.run;
        if !run.has_failed() {
            for folder in gone.in_the_way.iter().filter(|key| key.is_folder()) {
                if let Err(error) = self.goes_whole(folder, gone) {
                    run.fail(&error);
                }
            }
            check_listed(self.items(&GET, |key| gone.blocks(key)), self.get, run.observer)?;
        }
        let may = !run.has_failed();
        if may {
            self.delete(&gone.in_the_way);
        }
        Ok(may)
    }

    /// What is left out, or has come since, keeps the folder that it is in where it is.
    fn goes_whole(&self, folder: &Key, gone: &Gone) -> Result<()> {
        let path = self.path(folder);
        for entry in path.read_dir().context("cannot read", &path)? {
            let name = entry.context("cannot read", &path)?.file_name();
            if !gone.takes(folder, name.as_bytes()) {
                return Err(Error::conflict("is in the way of a file, and holds more than what is gone")
                    .at(path)
                    .hint("move elsewhere what is in it, or leave out that file"));
            }
        }
        Ok(())
    }

    /// Removes what is gone, the deepest first.
    fn delete(&self, gone: &BTreeSet<Key>) {
        for key in gone.iter().rev() {
            let path = self.path(key);
            let removed = match key.is_folder() {
                true => std::fs::remove_dir(&path),
                false => std::fs::remove_file(&path),
            };
            match removed {
                Ok(()) => self.run.tell(Change::Deleted, key, None, None),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                // What is left out, or has come since, stays.
                Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
                    let why = "is not empty, and stays";
                    self.run.observer.event(Event::Skipped { path: &path, why });
                }
                Err(error) => self.run.fail(&Error::io("cannot remove", error).at(&path)),
            }
        }
    }

    fn path(&self, key: &Key) -> PathBuf {
        let segments = key.segments();
        segments
            .iter()
            .fold(self.destination.to_owned(), |path, segment| path.join(OsStr::from_bytes(segment)))
    }
}
