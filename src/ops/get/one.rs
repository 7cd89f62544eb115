//! One object: opened, authenticated, and put in its place.

use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use super::{Getting, Item, Overwrite, Restored, Which, existing, object_name, processors};
use crate::format::section::End;
use crate::format::{FileType, HEADER_LEN, Metadata};
use crate::location::read::{self, FRONT, Reader};
use crate::open::{Opener, Salvaged};
use crate::ops::atomic::{AtomicFile, Output};
use crate::ops::events::{Event, Watched, Written};
use crate::ops::pair_files::folder_of;
use crate::ops::part::{self, Part};
use crate::ops::recipe_objects::RecipeObject;
use crate::ops::{cleartext, restore};
use crate::{Error, ErrorKind, IoContext as _, Result};

/// Containers up to this size are fetched by one request.
const WHOLE: u64 = 1 << 20;

/// From this size on one file is decrypted by all threads, one such file at a time, and can be gone on with after an
/// interruption.
const LARGE: u64 = 64 << 20;

/// A container that a key opens.
struct Opened {
    opener: Opener,
    reader: Reader,
    /// Where it is, for messages.
    shown: String,
}

impl<'a> Getting<'a> {
    /// Gets one object.
    pub(super) fn one(&self, item: &Item<'a>, jobs: usize) -> Result<()> {
        let target = self.destination.path(&item.segments);
        let shown = object_name(item.location, &item.object);
        let new = self.overwrite == Overwrite::Never && !item.name.is_folder();
        if new && target.symlink_metadata().is_ok() && !self.is_special(&target) {
            return Err(self.tree.exists(&target));
        }
        if self.options.dry_run {
            let (size, replaces) = (item.object.size, target.symlink_metadata().is_ok());
            self.observer.event(Event::WouldGet { object: &shown, output: &target, size, replaces });
            return Ok(());
        }
        let reader = self.reader(item).map_err(|error| error.about(&*shown))?;
        let cleartext = item.location.cleartext(reader.object());
        if cleartext.is_none() && RecipeObject::is_one(&reader) {
            return self.recipe(item, reader, &target, false).map_err(|error| error.about(&*shown));
        }
        let restored = match &cleartext {
            Some(cleartext) => self.cleartext(item, reader, cleartext, &target, &shown),
            None => self.open(item, reader, &shown).and_then(|opened| match self.options.salvage {
                true => self.salvage(opened, item, &target),
                false => self.restore(opened, item, &target, jobs),
            }),
        };
        if restored.map_err(|error| error.about(&*shown))? {
            self.observer.event(Event::Done { input: Path::new(&shown), output: &target });
        }
        Ok(())
    }

    /// Reads one object to its end: what would keep it from being restored is known then.
    #[cfg_attr(not(feature = "sync"), allow(dead_code, reason = "for sync"))]
    pub(super) fn check(&self, item: &Item<'a>) -> Result<()> {
        let shown = object_name(item.location, &item.object);
        self.read_all(item, &shown).map_err(|error| error.about(shown))
    }

    fn read_all(&self, item: &Item<'a>, shown: &str) -> Result<()> {
        let reader = self.reader(item)?;
        let object = reader.object().clone();
        if let Some(cleartext) = item.location.cleartext(&object) {
            file_type(item, Some(&cleartext.metadata))?;
            return cleartext::copy(&cleartext, object.size, reader, &mut io::sink());
        }
        if RecipeObject::is_one(&reader) {
            // Nothing authenticates its contents: more than that a key opens it cannot be known.
            let object = RecipeObject::new(item.location, reader, self.options.which == Which::Current)?;
            self.recipes.count(&object);
            return self.recipes.find(&object).map(drop);
        }
        let Opened { opener, mut reader, .. } = self.open(item, reader, shown)?;
        let end = opener.end(&mut reader, object.size)?;
        reader.seek(SeekFrom::Start(HEADER_LEN as u64)).context("cannot read", shown)?;
        file_type(item, opener.metadata(&mut reader)?.as_ref())?;
        opener.copy(reader, io::sink(), Some(&end), 1).map(drop)
    }

    /// Fetches the beginning of a container.
    pub(super) fn reader(&self, item: &Item<'_>) -> Result<Reader> {
        let (store, key) = (item.location.shared_store(), &item.object.key);
        let pinned = self.options.which != Which::Current;
        let version = pinned.then(|| item.object.version.clone());
        let front = match item.object.size {
            size if size <= WHOLE => size.max(HEADER_LEN as u64),
            _ => FRONT,
        };
        Reader::open(self.handle.clone(), store, key, version, front)
    }

    /// Finds the key of a container.
    fn open(&self, item: &Item<'_>, mut reader: Reader, shown: &str) -> Result<Opened> {
        let header = reader.header()?;
        let (key, identities) = (&item.object.key, &self.options.identities);
        let file_key = read::file_key(self.handle, item.location, key, &header, identities)?;
        Ok(Opened { opener: Opener::new(header, &file_key)?, reader, shown: shown.to_owned() })
    }

    /// Restores a container that has to be whole; whether there was anything to do.
    fn restore(&self, mut opened: Opened, item: &Item<'_>, target: &Path, jobs: usize) -> Result<bool> {
        let (object, data_id) = (opened.reader.object().clone(), opened.opener.header().data_id());
        let end = opened.opener.end(&mut opened.reader, object.size)?;
        opened.reader.seek(SeekFrom::Start(HEADER_LEN as u64)).context("cannot read", &opened.shown)?;
        let metadata = opened.opener.metadata(&mut opened.reader)?;
        let metadata = metadata.as_ref();
        let restored = self.restore_all(opened, item, target, (&end, metadata), jobs)?;
        if let Some(confirm) = self.confirm {
            confirm(&Restored { item, object: &object, target, metadata, end: &end, data_id });
        }
        Ok(restored)
    }

    fn restore_all(
        &self,
        opened: Opened,
        item: &Item<'_>,
        target: &Path,
        (end, metadata): (&End, Option<&Metadata>),
        jobs: usize,
    ) -> Result<bool> {
        let shown = &opened.shown;
        self.compare_name(item, metadata, shown)?;
        let file_type = file_type(item, metadata)?;
        if file_type != FileType::File && !self.is_special(target) {
            if end.total > 0 {
                return Err(Error::integrity(format!("is the container of a {file_type}, but holds data")));
            }
            let metadata = metadata.cloned().unwrap_or_else(|| Metadata::new(file_type));
            return self.tree.put_later(target, metadata).map(|()| true);
        }
        // Before anything below is looked at: what a link leads to is not the result.
        self.tree.make_parents(target)?;
        if self.overwrite == Overwrite::IfDifferent
            && let Some(why) = existing::same(target, end, metadata)?
        {
            self.skip(&target.display().to_string(), why);
            self.observer.event(Event::Spared(opened.reader.object().size));
            return Ok(false);
        }
        let _alone = (end.total >= LARGE).then(|| self.large.lock().unwrap_or_else(PoisonError::into_inner));
        if !self.options.resume {
            part::remove(target)?;
        } else if end.total >= LARGE
            && let Some(path) = part::part_path(target).filter(|_| !self.is_special(target))
        {
            return self.resumable(opened, end, target, path, metadata, jobs).map(|()| true);
        }
        let threads = if end.total >= LARGE { jobs.min(processors()) } else { 1 };
        self.file(opened, end, target, metadata, threads).map(|()| true)
    }

    /// A file that appears whole, or goes to a pipe or device as it comes.
    fn file(
        &self,
        opened: Opened,
        end: &End,
        target: &Path,
        metadata: Option<&Metadata>,
        threads: usize,
    ) -> Result<()> {
        let mut out = self.output(target, metadata)?;
        let mut written = Written::new(&mut out, target);
        let source = Watched { inner: opened.reader, observer: self.observer };
        opened.opener.copy(source, &mut written, Some(end), threads).map_err(|error| written.blame(error))?;
        self.publish(out, metadata)
    }

    pub(super) fn output(&self, target: &Path, metadata: Option<&Metadata>) -> Result<Output> {
        match self.destination.root() {
            None => Output::open(target, restore::mode(metadata)),
            // Whatever has the name of one of many results is in its way, and is not written to.
            Some(_) => AtomicFile::create(target, restore::mode(metadata)).map(Output::Atomic),
        }
    }

    /// Gives a finished file its time and name. The folder is synced when all files are there.
    pub(super) fn publish(&self, out: Output, metadata: Option<&Metadata>) -> Result<()> {
        let Output::Atomic(file) = out else { return Ok(()) };
        let target = file.target().to_owned();
        if let Some(times) = metadata.and_then(restore::file_times) {
            file.file().set_times(times).context("cannot set the time", &target)?;
        }
        match self.overwrite {
            Overwrite::Never => file.new_unsynced(),
            Overwrite::Always | Overwrite::IfDifferent => file.replace_unsynced(),
        }
        .map_err(|error| self.in_the_way(error, &target))?;
        self.tree.changed(folder_of(&target));
        Ok(())
    }

    fn in_the_way(&self, error: Error, target: &Path) -> Error {
        match error.kind() {
            ErrorKind::Conflict => self.tree.exists(target),
            _ => error,
        }
    }

    /// A big file: what an earlier run wrote is checked and kept, and what this run writes can be gone on with.
    fn resumable(
        &self,
        opened: Opened,
        end: &End,
        target: &Path,
        path: PathBuf,
        metadata: Option<&Metadata>,
        jobs: usize,
    ) -> Result<()> {
        let Opened { opener, mut reader, shown } = opened;
        let object = reader.object().clone();
        let source = part::Source {
            object: &shown,
            version: &object.version,
            header: opener.header(),
            total: end.total,
        };
        let (mut part, done) = Part::open(path, target, source)?;
        let size = opener.header().section_size() as u64;
        if done.sections > 0 {
            let bytes = done.sections.saturating_mul(size);
            self.observer.event(Event::Resumed { output: target, bytes });
            self.observer.event(Event::Bytes(bytes));
        }
        let start = opener.stored_range(done.sections.saturating_mul(size), 0).start;
        reader.seek(SeekFrom::Start(start)).context("cannot read", &shown)?;
        let source = Watched { inner: reader, observer: self.observer };
        let file = part.file().try_clone().context("cannot write", part.path())?;
        let write_at = |plain: &[u8], at: u64| {
            file.write_all_at(plain, at)
                .map_err(|source| io::Error::other(Error::io("cannot write", source).at(target)))
        };
        let threads = jobs.min(processors());
        let copied = opener.copy_at(source, write_at, end, done, threads, |done| part.progress(done));
        if let Err(error) = copied {
            // Bad bytes do not get better: nothing is worth going on with.
            if matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Conflict) {
                part.discard();
            }
            return Err(error);
        }
        let replace = self.overwrite != Overwrite::Never;
        part.publish(metadata, replace).map_err(|error| self.in_the_way(error, target))
    }

    /// Restores what is good of a container, with zeros where it is not; whether it was all of it.
    fn salvage(&self, opened: Opened, item: &Item<'_>, target: &Path) -> Result<bool> {
        let Opened { opener, mut reader, shown } = opened;
        let len = reader.object().size;
        self.tree.make_parents(target)?;
        reader.seek(SeekFrom::Start(HEADER_LEN as u64)).context("cannot read", &shown)?;
        let metadata = opener.metadata(&mut reader).unwrap_or_default();
        let mut file = self.output(target, metadata.as_ref())?;
        let mut source = io::BufReader::with_capacity(64 << 10, reader);
        let mut written = Written::new(&mut file, target);
        let saved = opener.salvage(&mut source, len, &mut written).map_err(|error| written.blame(error))?;
        self.observer.event(Event::Bytes(len));
        self.compare_name(item, saved.metadata.as_ref(), &shown)?;
        let file_type = file_type(item, saved.metadata.as_ref())?;
        if file_type != FileType::File && !self.is_special(target) {
            let metadata = saved.metadata.clone().unwrap_or_else(|| Metadata::new(file_type));
            self.tree.put_later(target, metadata)?;
        } else {
            self.publish(file, saved.metadata.as_ref())?;
        }
        for range in &saved.lost {
            self.observer.event(Event::Lost { output: target, range: range.clone() });
        }
        match saved.is_whole() {
            true => Ok(true),
            false => Err(Error::integrity(what_was_lost(&saved)).at(target)),
        }
    }

    pub(super) fn compare_name(
        &self,
        item: &Item<'_>,
        metadata: Option<&Metadata>,
        shown: &str,
    ) -> Result<()> {
        let Some(metadata) = metadata else { return Ok(()) };
        let strict = self.options.strict;
        restore::compare_name(item.location, &item.name, metadata, shown, strict, self.observer)
    }

    /// Standard output and devices, where one was named: they have no name to earn. Below a folder nothing is.
    pub(super) fn is_special(&self, target: &Path) -> bool {
        let special = || target.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir());
        self.destination.root().is_none() && (target == Path::new("-") || special())
    }
}

/// What an object restores to. What is called like the metadata of a folder can be nothing else.
pub(super) fn file_type(item: &Item<'_>, metadata: Option<&Metadata>) -> Result<FileType> {
    let file_type = metadata.map_or(FileType::File, |metadata| metadata.file_type);
    match item.name.is_folder() && file_type != FileType::Dir {
        true => {
            Err(Error::integrity(format!("is called like the metadata of a folder, but is of a {file_type}"))
                .hint("somebody renamed it"))
        }
        false => Ok(file_type),
    }
}

/// One sentence on what is missing in a restored file.
fn what_was_lost(saved: &Salvaged) -> String {
    let mut faults = vec![];
    if !saved.lost.is_empty() {
        let ranges = if saved.lost.len() == 1 { "range" } else { "ranges" };
        faults.push(format!(
            "{} bytes in {} {ranges} are lost, and zeros stand there",
            saved.bytes_lost(),
            saved.lost.len()
        ));
    }
    if saved.truncated {
        faults.push(format!("all behind byte {} is lost, however much it was", saved.written));
    } else if saved.end_lost {
        faults.push("its end section is damaged or missing".into());
    }
    if saved.metadata_lost {
        faults.push("its time and mode are lost".into());
    }
    format!("is restored in part: {}", faults.join("; "))
}
