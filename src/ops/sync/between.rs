//! A location into another one, with other keys: decrypted and encrypted again through memory.

use std::io::{Seek as _, SeekFrom};
use std::path::Path;

use futures_util::StreamExt as _;

use super::learn::Learning;
use super::plan::{Compare, Differs, Facts, Finding, Here, Key, Known, Stored, compare};
use super::state::{Act, Todo};
use super::{Change, Run, SyncOptions, SyncSummary, Telling, not_whole, purge, sides};
use crate::format::section::End;
use crate::format::{FileType, HEADER_LEN, Metadata};
use crate::location::argument::Target as LocationTarget;
use crate::location::listing::{Entry, Scope, list};
use crate::location::read::{self, FRONT, Reader};
use crate::open::Opener;
use crate::ops::events::{Counting, Observer, Watched};
use crate::ops::get::GetOptions;
use crate::ops::put::{PutOptions, Target, put_read};
use crate::ops::source::Exactly;
use crate::ops::{parallel, restore, rights, runtime};
use crate::store::Right;
use crate::{Error, ErrorKind, IoContext as _, Result};

/// Makes the folder of a location that `put` names like that of another location. `get` has the keys for the one, `put` those
/// for the other.
///
/// # Errors
/// `Usage` when one is in the other; `NotFound` when the first is no folder of this machine; `Conflict` when another run works on the same two, and when more would be removed than may be; what listing one of them
/// fails with: nothing was done then. What happens to single objects is in the summary.
pub fn between(
    source: &LocationTarget,
    get: &GetOptions,
    put: &PutOptions,
    options: &SyncOptions,
    observer: &dyn Observer,
) -> Result<SyncSummary> {
    let Target::Below(below) = &put.target else {
        return Err(Error::usage("a folder is synchronised with a folder"));
    };
    put.check(&[])?;
    let source = source.unlocked(&get.identities)?;
    let runtime = runtime::start()?;
    let handle = runtime.handle();
    let location = &put.location;
    let keeps_versions = handle.block_on(location.store().capabilities())?.versions;
    options.check_keep_days(location, keeps_versions)?;
    let from = sides::named(&source.location.show(&source.stored_prefix()));
    let to = sides::named(&location.show(&location.stored_folder(below)));
    let folder_of = sides::folder_of_disk;
    let folders = folder_of(&source.location, &source.stored_prefix())
        .zip(folder_of(location, &location.stored_folder(below)));
    if sides::overlap(&from, &to) || folders.is_some_and(|(from, to)| sides::is_within(&from, &to)) {
        return Err(Error::usage("is in the other location").about(to).hint("choose one that is not"));
    }
    sides::require_source(&source)?;
    let read: &[Right] = if options.dry_run { &[Right::List] } else { &[Right::List, Right::Read] };
    handle.block_on(rights::require(&source, read))?;
    let wanted = options.rights(keeps_versions);
    handle.block_on(rights::require_below(location, below, true, wanted))?;
    let telling = Telling(observer);
    let counting = Counting::new(&telling);
    let run = Run::begin(options, (location, below), [&from, &to], handle, &counting)?;
    let between = Between { run, source: &source, get, put };
    let unchanged = between.plan(&from)?;
    match options.dry_run {
        true => between.run.tell_plan(|_| Ok(None))?,
        false => between.perform()?,
    }
    between.run.finish(unchanged)
}

/// What is copied.
const ACTS: [Act; 3] = [Act::New, Act::Change, Act::Unknown];

struct Between<'a> {
    run: Run<'a>,
    source: &'a LocationTarget,
    get: &'a GetOptions,
    put: &'a PutOptions,
}

impl Between<'_> {
    fn plan(&self, from: &str) -> Result<u64> {
        let (run, source) = (&self.run, self.source);
        run.list(Learning::Nothing, |_| {})?;
        let mut listed = list(&source.location, &Scope::below(&source.location, &source.path));
        let entries = std::iter::from_fn(|| run.handle.block_on(listed.next()));
        let found = run.state.list_source(entries.filter_map(|entry| match entry {
            Ok(Entry::Pair(pair)) if pair.incomplete => {
                let shown = source.location.show(&source.location.stored(&pair.name));
                Some(Err(not_whole(Error::integrity("could not be listed whole").about(shown))))
            }
            Ok(Entry::Pair(pair)) => {
                let object = pair.current()?;
                let segments = pair.name.segments().get(source.path.len()..).unwrap_or_default();
                let stored = Stored { version: object.version.clone(), size: object.size };
                Some(Ok((Key::new(segments, pair.name.is_folder()), stored)))
            }
            Ok(Entry::Foreign(object)) => {
                run.foreign(&source.location, &object);
                None
            }
            Ok(Entry::Folder(_)) => None,
            Err(error) => Some(Err(not_whole(error))),
        }))?;
        let here = run.state.source().map_while(|found| match found {
            Ok((key, stored)) => Some(Here { facts: facts(&key, &stored), key }),
            Err(error) => {
                run.note(Err(error));
                None
            }
        });
        let here = here.filter(|here| !run.is_filtered(&here.key));
        let mut comparing = compare(here, run.there(), Compare::SizeMtime);
        run.state.plan(comparing.by_ref().map(|finding| finding.map(todo)))?;
        run.stop_at_fault()?;
        run.may_delete(from, found)?;
        Ok(comparing.same)
    }

    fn perform(&self) -> Result<()> {
        let run = &self.run;
        run.expect(&ACTS)?;
        parallel::for_each(run.options.jobs, run.state.todo(&ACTS), |todo| {
            if let Err(error) = todo.and_then(|todo| self.one(&todo)) {
                run.fail(&error);
            }
        });
        run.delete_gone(Path::new(&self.source.show()))?;
        match run.options.keep_days {
            Some(days) => purge::older_than(run, days),
            None => Ok(()),
        }
    }

    /// Opens one container, and seals what is in it anew.
    fn one(&self, todo: &Todo) -> Result<()> {
        let (run, location) = (&self.run, &self.source.location);
        let segments = [self.source.path.as_slice(), &todo.key.segments()].concat();
        let name = match todo.key.is_folder() {
            true => crate::name::ObjectName::folder(&segments),
            false => crate::name::ObjectName::file(&segments),
        }?;
        let key = location.container_key(&name);
        let shown = location.store().show(&key);
        let about = |error: Error| error.about(&*shown);
        let mut reader =
            Reader::open(run.handle.clone(), location.shared_store(), &key, None, FRONT).map_err(about)?;
        let header = reader.header().map_err(about)?;
        let identities = &self.get.identities;
        let file_key = read::file_key(run.handle, location, &key, &header, identities).map_err(about)?;
        let opener = Opener::new(header, &file_key).map_err(about)?;
        let object = reader.object().clone();
        let end = opener.end(&mut reader, object.size).map_err(about)?;
        reader.seek(SeekFrom::Start(HEADER_LEN as u64)).context("cannot read", &shown)?;
        let metadata = opener.metadata(&mut reader).map_err(about)?;
        let mut metadata = metadata.unwrap_or_else(|| Metadata::new(FileType::File));
        restore::compare_name(location, &name, &metadata, &shown, self.get.strict, run.observer)?;
        // What was renamed in a vault has its old name inside, which would be wrong elsewhere. Outside of vaults another name
        // inside is the only trace of a swapped pair, and the copy has it, too.
        if location.vault().is_some() || restore::renamed(&name, &metadata).is_none() {
            metadata.name = name.segments().last().cloned().or(metadata.name);
        }
        let stored = self.copy((&opener, reader), &end, &metadata, &todo.key).map_err(about)?;
        let was = Stored { version: object.version, size: object.size };
        let known =
            Known { facts: facts(&todo.key, &was), digest: end.digest, data_id: Some(stored.1), racy: false };
        run.state.record(&todo.key, &stored.0, &known)?;
        let change = if todo.act == Act::New { Change::New } else { Change::Contents };
        run.tell(change, &todo.key, None, Some(end.total));
        Ok(())
    }

    /// One thread decrypts into a pipe, and what comes out of it is encrypted. The end is believed only when all that
    /// the end section promises came.
    fn copy(
        &self,
        (opener, reader): (&Opener, Reader),
        end: &End,
        metadata: &Metadata,
        key: &Key,
    ) -> Result<(Stored, crate::DataId)> {
        let name = self.run.name(key)?;
        let (plain, mut out) = std::io::pipe().map_err(|error| Error::io("cannot make a pipe", error))?;
        std::thread::scope(|scope| {
            let decrypt = move || {
                let source = Watched { inner: reader, observer: self.run.observer };
                opener.copy(source, &mut out, Some(end), 1).map(drop)
            };
            let decrypting = scope.spawn(decrypt);
            let source = Exactly { inner: plain, left: end.total };
            let put = put_read(source, end.total, metadata, &name, self.put, self.run.observer);
            let decrypted = decrypting
                .join()
                .unwrap_or_else(|_| Err(Error::usage("the thread that decrypts has stopped")));
            match (put, decrypted) {
                (Ok((written, data_id, size)), Ok(())) => {
                    Ok((Stored { version: written.version, size }, data_id))
                }
                // Who reads no more is why nobody can write any more.
                (Err(error), Err(other)) if other.kind() == ErrorKind::Io => Err(error),
                (_, Err(error)) | (Err(error), Ok(())) => Err(error),
            }
        })
    }
}

/// What an object is, as far as its listing says: the version tells.
fn facts(key: &Key, stored: &Stored) -> Facts {
    let kind = if key.is_folder() { FileType::Dir } else { FileType::File };
    let Stored { version, size } = stored;
    Facts { kind, size: *size, mtime: 0, inode: 0, mode: 0, tag: version.clone() }
}

fn todo(finding: Finding) -> Todo {
    let (key, act, stored) = match finding {
        Finding::OnlyHere(here) => {
            (here.key, Act::New, Stored { version: String::new(), size: here.facts.size })
        }
        Finding::OnlyThere(there) => (there.key, Act::Delete, there.stored),
        Finding::Differs(here, there, Differs::Unknown) => (here.key, Act::Unknown, there.stored),
        Finding::Differs(here, there, _) => (here.key, Act::Change, there.stored),
    };
    Todo { key, act, stored, source: None }
}
