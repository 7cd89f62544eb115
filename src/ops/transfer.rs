//! `cp` and `mv` within one location: the store copies the containers, and the envelopes keep their entries. Nothing is
//! decrypted, and no key is needed.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};

use crate::location::Location;
use crate::location::argument::Target;
use crate::location::customer::PairEncryption;
use crate::location::drive::{self, CopyRequest, IfExists, RemoveOptions, Stored};
use crate::location::listing::{Entry, Scope, list};
use crate::name::ObjectName;
use crate::ops::events::{Counting, Event, Observer, Summary};
use crate::ops::place::{Lookup, Place, Source, Which};
use crate::ops::{parallel, rights, runtime};
use crate::store::{Right, VersionId};
use crate::{Error, ErrorKind, Result};

/// How to copy or move.
#[derive(Debug)]
pub struct TransferOptions {
    /// Whether what was copied is removed where it was.
    pub remove: bool,
    /// Whether folders are taken, with all that is in them.
    pub recursive: bool,
    /// Whether what has a new name already is replaced.
    pub replace: bool,
    /// How the service is asked to encrypt the copies.
    pub encryption: PairEncryption,
    /// Whether only to tell what would be done.
    pub dry_run: bool,
    /// How many threads work.
    pub jobs: usize,
    /// The time.
    pub now: SystemTime,
}

/// Copies or moves what is at `source` to the name `to`, or below it where it is a folder's. Of each object the envelope is
/// copied first, then the container; the old name goes last. One that fails does not stop the others, and stays.
///
/// # Errors
/// `NotFound` when there is nothing; `Usage` for a folder without [`TransferOptions::recursive`], for what would be moved
/// into itself, and where the new name is one of a folder; what the store says. What happens to single objects is in the
/// summary.
pub fn transfer(
    source: &Source,
    to: &Target,
    options: &TransferOptions,
    observer: &dyn Observer,
) -> Result<Summary> {
    let runtime = runtime::start()?;
    let handle = runtime.handle();
    let location = &to.location;
    handle.block_on(may_transfer(source, to, options))?;
    let counting = Counting::new(observer);
    let place = Lookup { which: &Which::Current, handle }.find(source)?;
    let run = Transferring { options, location, observer: &counting, told: AtomicBool::new(false) };
    let (from, is_folder) = match &place {
        Place::Object { name, .. } => (name.segments().to_vec(), false),
        Place::Folder { target, .. } => (target.path.clone(), true),
    };
    let into = run.destination(&from, is_folder, to)?;
    if !to.folder && handle.block_on(holds_objects(to))? {
        return Err(Error::usage("is a folder")
            .about(to.show())
            .hint("write a / behind it to put something into it"));
    }
    let now = handle.block_on(run.time())?;
    let items: BoxStream<'_, Result<Item>> = match &place {
        Place::Object { name, version, .. } => {
            let to = ObjectName::file(&into);
            let item = to.map(|to| Item { from: name.clone(), to, version: version.version.clone() });
            stream::iter([item]).boxed()
        }
        Place::Folder { target, .. } => {
            let entries = list(&target.location, &Scope::below(&target.location, &target.path));
            entries.filter_map(|entry| std::future::ready(item(&from, &into, entry))).boxed()
        }
    };
    let concurrency = handle.block_on(location.store().capabilities())?.concurrency;
    let each = (concurrency / options.jobs.max(1)).max(1);
    parallel::for_each_future(handle, options.jobs, each, items, |item| async {
        if let Err(error) = run.one(item, now).await {
            run.observer.event(Event::Failed(&error));
        }
    });
    Ok(counting.summary())
}

async fn may_transfer(source: &Source, to: &Target, options: &TransferOptions) -> Result<()> {
    let keeps_versions = to.location.store().capabilities().await?.versions;
    let at_source: &[Right] = match (options.dry_run, options.remove) {
        (true, _) => &[Right::List],
        (false, false) => &[Right::List, Right::Read],
        (false, true) if keeps_versions => &[Right::List, Right::Read, Right::Write],
        (false, true) => &[Right::List, Right::Read, Right::Delete],
    };
    rights::require_all(std::slice::from_ref(source), at_source).await?;
    if options.dry_run { Ok(()) } else { rights::require(to, &[Right::List, Right::Write]).await }
}

/// Whether anything but what was removed is below a name.
async fn holds_objects(target: &Target) -> Result<bool> {
    let mut listed = list(&target.location, &Scope::below(&target.location, &target.path));
    while let Some(entry) = listed.next().await.transpose()? {
        if matches!(&entry, Entry::Pair(pair) if pair.current().is_some()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What becomes of one entry of the folder `from`.
fn item(from: &[Vec<u8>], into: &[Vec<u8>], entry: Result<Entry>) -> Option<Result<Item>> {
    let pair = match entry {
        Ok(Entry::Pair(pair)) => pair,
        Ok(Entry::Folder(_) | Entry::Foreign(_)) => return None,
        Err(error) => return Some(Err(error)),
    };
    let version = pair.current()?.version.clone();
    let below = pair.name.segments().get(from.len()..).unwrap_or_default();
    let segments = [into, below].concat();
    let to = match pair.name.is_folder() {
        true => ObjectName::folder(&segments),
        false => ObjectName::file(&segments),
    };
    Some(to.map(|to| Item { from: pair.name, to, version }))
}

/// One object.
struct Item {
    from: ObjectName,
    to: ObjectName,
    version: VersionId,
}

struct Transferring<'a> {
    options: &'a TransferOptions,
    location: &'a Location,
    observer: &'a dyn Observer,
    /// Whether it was said what another last name means.
    told: AtomicBool,
}

impl Transferring<'_> {
    /// The path that the source gets.
    fn destination(&self, from: &[Vec<u8>], is_folder: bool, to: &Target) -> Result<Vec<Vec<u8>>> {
        if is_folder && !self.options.recursive {
            let shown = String::from_utf8_lossy(&from.join(&b'/')).into_owned();
            return Err(Error::usage("is a folder").about(shown).hint("-r takes all that is in it"));
        }
        let mut into = to.path.clone();
        if to.folder {
            into.extend(from.last().cloned());
        }
        let inside = is_folder && into.len() >= from.len() && into[..from.len()] == *from;
        if inside || into == from {
            let error = Error::usage("would become itself, or something in itself").about(to.show());
            return Err(error.hint("name another place"));
        }
        Ok(into)
    }

    /// The time by the store's clock. Where it cannot be asked nothing counts as old, so that envelopes stay.
    async fn time(&self) -> Result<SystemTime> {
        let hides = self.location.store().capabilities().await?.versions;
        if self.options.dry_run || !self.options.remove || hides {
            return Ok(self.options.now);
        }
        match drive::store_time(self.location, self.options.now).await {
            Err(error) if error.kind() == ErrorKind::Permission => Ok(SystemTime::UNIX_EPOCH),
            time => time,
        }
    }

    async fn one(&self, item: Result<Item>, now: SystemTime) -> Result<()> {
        let Item { from, to, version } = item?;
        let (from_stored, to_stored) = (self.location.stored(&from), self.location.stored(&to));
        let (input, output) = (self.location.show(&from_stored), self.location.show(&to_stored));
        if self.options.dry_run {
            let replaces = drive::exists(self.location, &to_stored).await?;
            if replaces && !self.options.replace {
                return Err(exists_already(&output));
            }
            let path = Path::new(&input);
            self.observer.event(Event::WouldPut { path, object: &output, size: None, replaces });
            return Ok(());
        }
        let request = CopyRequest {
            from: &from_stored,
            version: Some(&version),
            to: &to_stored,
            encryption: &self.options.encryption,
            if_exists: if self.options.replace { IfExists::Replace } else { IfExists::Fail },
        };
        if drive::copy(self.location, request).await?.stored == Stored::Exists {
            return Err(exists_already(&output));
        }
        // In a vault the info record has the new name.
        let in_vault = self.location.vault().is_some();
        if !in_vault
            && from.segments().last() != to.segments().last()
            && !self.told.swap(true, Ordering::Relaxed)
        {
            let message = "keeps its old name inside of its container; get and verify will tell, and get --strict refuses it";
            self.observer.event(Event::Warning { path: Path::new(&output), message });
        }
        if self.options.remove {
            let options = RemoveOptions { versions: false, dry_run: false, now };
            let removed = drive::remove(self.location, &from_stored, options).await;
            removed
                .map_err(|error| error.noted("it was copied, and is still there under its old name too"))?;
        }
        self.observer.event(Event::Done { input: Path::new(&input), output: Path::new(&output) });
        Ok(())
    }
}

fn exists_already(shown: &str) -> Error {
    Error::conflict("exists already").about(shown).hint("--force replaces it")
}
