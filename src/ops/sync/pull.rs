//! A location into a folder of this machine.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::learn::{self, Learning};
use super::plan::{Differs, Finding, Here, Key, Known, Stored, There, compare};
use super::scan::{self, Folders, Scan};
use super::state::{Act, Todo};
use super::{
    Change, Run, SyncOptions, SyncSummary, Telling, contents_of, folder_of_disk, is_within, named, overlap,
    require_source,
};
use crate::DataId;
use crate::format::FileType;
use crate::location::argument::Target;
use crate::ops::atomic::Mode;
use crate::ops::events::{Counting, Event, Observer};
use crate::ops::get::{GetOptions, Item, Overwrite, Restored, get_listed};
use crate::ops::{restore, rights, runtime};
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
        let listed = run.list(Learning::Records)?;
        let leave_out = run.leaves_out(&scan);
        let exists = self.destination.symlink_metadata().is_ok();
        let roots = if exists { &self.roots[..] } else { &[] };
        let here = scan.walk(roots, None, Folders::All, &leave_out, run.observer);
        let mut comparing = compare(here, run.there(), run.options.compare);
        let todo = comparing
            .by_ref()
            .filter_map(|finding| finding.and_then(|finding| self.todo(finding)).transpose());
        run.state.plan(todo)?;
        learn::from_envelopes(run, &|key| self.path(key), |_| Act::Unknown)?;
        run.may_delete(from, listed)?;
        if run.options.delete && scan.failed.load(Ordering::Relaxed) > 0 {
            return Err(Error::conflict("could not all be read; nothing was done").at(self.destination));
        }
        Ok(comparing.same)
    }

    fn todo(&self, finding: Finding) -> Result<Option<Todo>> {
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
        if self.run.options.delete {
            self.delete(|key| self.is_in_the_way(key))?;
        }
        self.run.expect(&GET)?;
        self.get_all(&[Act::New, Act::Unknown], Overwrite::IfDifferent, false)?;
        self.get_all(&[Act::Change, Act::Metadata], Overwrite::Always, false)?;
        match self.run.options.delete {
            // What was in the way has gone before.
            true => self.delete(|key| Ok(!self.is_in_the_way(key)?))?,
            false => super::add(&self.run.counts.kept, self.run.state.count(Act::Delete)?.0),
        }
        // The time of a folder is set when nothing in it changes any more.
        self.get_all(&GET, Overwrite::Always, true)
    }

    fn get_all(&self, acts: &[Act], overwrite: Overwrite, folders: bool) -> Result<()> {
        let run = &self.run;
        let todo = run.state.todo(acts).filter(|todo| match todo {
            Ok(todo) => todo.key.is_folder() == folders,
            Err(_) => true,
        });
        let items = todo.map(|todo| todo.and_then(|todo| self.item(&todo)));
        let confirm = |restored: &Restored<'_>| run.note(self.confirmed(restored));
        get_listed(items, self.destination, (self.get, overwrite), &confirm, run.observer)?;
        // By now symlinks and the times of folders are there too.
        let later = std::mem::take(&mut *self.later.lock().unwrap_or_else(PoisonError::into_inner));
        for (key, stored, data_id) in later {
            self.remember(&key, &stored, None, data_id)?;
        }
        Ok(())
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
                let set = std::fs::set_permissions(target, Permissions::from_mode(mode));
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

    /// Removes what is gone and meant, the deepest first.
    fn delete(&self, is_meant: impl Fn(&Key) -> Result<bool>) -> Result<()> {
        let mut gone = Vec::new();
        for todo in self.run.state.todo(&[Act::Delete]) {
            let key = todo?.key;
            if is_meant(&key)? {
                gone.push(key);
            }
        }
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
        Ok(())
    }

    fn path(&self, key: &Key) -> PathBuf {
        let segments = key.segments();
        segments
            .iter()
            .fold(self.destination.to_owned(), |path, segment| path.join(OsStr::from_bytes(segment)))
    }
}
