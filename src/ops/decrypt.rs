//! `decrypt`: pairs of this machine back into files, folders and pipes.

mod recipe;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::crypto::rsa::PrivateKey;
use crate::format::header::MAGIC;
use crate::format::section::End;
use crate::format::{Envelope, FileType, Header, Metadata, envelope};
use crate::name::{self, ObjectName};
use crate::open::{self, Opener};
use crate::ops::atomic::{self, AtomicFile, Mode, Output};
use crate::ops::events::{Counting, Event, Observer, Summary, Watched, Written};
use crate::ops::pair_files::{PairPaths, folder_of};
use crate::ops::parallel;
use crate::ops::recipe_files::{self, Survey};
use crate::ops::restore::{self, Restoring};
use crate::ops::walk::{self, Destination, Found, IsResult, Walk};
use crate::pair::IfExists;
use crate::recipe::Named;
use crate::wrap::unwrap;
use crate::{DataId, Error, ErrorKind, IoContext as _, Result};

/// From this size on one container is decrypted by all threads, one such container at a time.
const LARGE: u64 = 4 << 20;

/// How to decrypt.
#[derive(Debug)]
pub struct DecryptOptions {
    /// The private keys at hand.
    pub identities: Vec<PrivateKey>,
    /// Where the results go.
    pub destination: Destination,
    /// Where the envelope is, when not beside its container.
    pub envelope: Option<PathBuf>,
    /// What becomes of results that are there already.
    pub if_exists: IfExists,
    /// Whether a name in the metadata that differs from the container's is an error.
    pub strict: bool,
    /// How files of the OpenSSL recipe were made, where the user says so.
    pub recipe: Named,
    /// How many threads work.
    pub jobs: usize,
    /// The time at which the run began.
    pub now: SystemTime,
}

/// Decrypts every container at and below `inputs`. One that fails does not stop the others; the observer is told of
/// each. Symlinks are made last, and the modes and times of folders are set after what is in them.
///
/// # Errors
/// `Usage` when the options do not fit the inputs. What happens to single files is in the summary.
pub fn decrypt(inputs: &[PathBuf], options: &DecryptOptions, observer: &dyn Observer) -> Result<Summary> {
    if options.envelope.is_some() && !matches!(options.destination, Destination::File(_)) {
        return Err(Error::usage("--envelope goes with one input and --output FILE"));
    }
    if matches!(options.destination, Destination::Folder(_)) {
        walk::refuse_same_names(inputs)?;
    }
    let counting = Counting::new(observer);
    let run = Decrypting::new(options, &counting);
    let survey = Survey::new(options.recipe);
    run.each(inputs, |found| run.one(&found?, &survey));
    if !survey.is_empty() {
        let settled = survey.finish();
        // What could not be found was reported the first time.
        run.each(inputs, |found| found.map_or(Ok(()), |found| run.recipe(&found, &settled)));
    }
    run.tree.finish();
    Ok(counting.summary())
}

/// Decrypts a stream that has no name, such as a pipe; its envelope is a file of its own.
///
/// # Errors
/// As [`decrypt`] for one file.
pub fn decrypt_stream(
    mut source: impl Read + Send,
    options: &DecryptOptions,
    observer: &dyn Observer,
) -> Result<Summary> {
    let (Destination::File(target), Some(envelope)) = (&options.destination, &options.envelope) else {
        return Err(Error::usage("an input without a name needs --envelope FILE and --output FILE")
            .hint("write -o NAME, or -o - for standard output"));
    };
    let counting = Counting::new(observer);
    let run = Decrypting::new(options, &counting);
    let name = Path::new("-");
    if run.stays(name, target)? {
        return Ok(counting.summary());
    }
    let opened = open::read_header(&mut source)
        .and_then(|header| run.opener(header, &[read_envelope(envelope)?]))
        .and_then(|opener| run.restore(&opener, source, None, target, options.jobs, None));
    opened.map_err(|error| error.at(name))?;
    counting.event(Event::Done { input: name, output: target });
    run.tree.finish();
    Ok(counting.summary())
}

struct Decrypting<'a> {
    options: &'a DecryptOptions,
    observer: &'a dyn Observer,
    /// Held while a large container keeps all threads busy, so that memory stays bounded.
    large: Mutex<()>,
    tree: Restoring<'a>,
    /// Results whose names are those of containers: the walk may come upon them.
    made: Mutex<BTreeSet<PathBuf>>,
    /// Whether the user was told about the recipe.
    told: AtomicBool,
}

impl<'a> Decrypting<'a> {
    fn new(options: &'a DecryptOptions, observer: &'a dyn Observer) -> Self {
        let root = match &options.destination {
            Destination::Folder(root) => Some(root.as_path()),
            _ => None,
        };
        Self {
            options,
            observer,
            large: Mutex::new(()),
            tree: Restoring::new(root, options.if_exists.replaces(), atomic::EXISTS_HINT, observer),
            made: Mutex::default(),
            told: AtomicBool::new(false),
        }
    }

    /// Does `work` for everything at and below `inputs`, and tells of what fails.
    fn each(&self, inputs: &[PathBuf], work: impl Fn(Result<Found>) -> Result<()> + Sync) {
        let except = match &self.options.destination {
            Destination::Folder(folder) => Some(folder.as_path()),
            _ => None,
        };
        let no_container: IsResult = |path| !path.as_os_str().as_bytes().ends_with(b".enc");
        let beside = self.options.destination == Destination::Beside;
        let results = beside.then_some((self.options.now, no_container));
        let found = walk::find(inputs, Walk { follow_arguments: true, except, results, ..Walk::default() });
        parallel::for_each(self.options.jobs, found, |found| {
            if let Err(error) = work(found) {
                self.observer.event(Event::Failed(&error));
            }
        });
    }

    /// Whatever was found: containers are restored, envelopes go with them, a folder's other files are not ours. Pairs
    /// of the OpenSSL recipe are only counted: how they were made shows when all of them have been.
    fn one(&self, found: &Found, survey: &Survey) -> Result<()> {
        let kind = found.metadata.file_type();
        if kind.is_symlink() && found.path.as_os_str().as_bytes().ends_with(b".enc") {
            let why = "is a symlink, which is not followed unless it is named";
            self.observer.event(Event::Skipped { path: &found.path, why });
            return Ok(());
        }
        if !kind.is_file() {
            return match found.named && !kind.is_dir() {
                true => Err(Error::input(format!("is {}, not a container", walk::special(kind)))
                    .at(&found.path)
                    .hint("- reads a container from standard input, with --envelope FILE")),
                false => Ok(()),
            };
        }
        if self.made(&found.path) {
            return Ok(());
        }
        let last = found.path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let start = walk::sniff(&found.path).context("cannot read", &found.path)?;
        if recipe_files::is_container(&start) {
            survey.add(&found.path, &self.options.identities);
            return Ok(());
        }
        if start.starts_with(MAGIC) || name::is_container_name(&last) {
            return self.container(found);
        }
        if name::is_envelope_name(&last) {
            return self.envelope_given(found, &last);
        }
        match found.named {
            true => Err(Error::input("is not a sidekey container").at(&found.path)),
            false => {
                self.observer.event(Event::Skipped { path: &found.path, why: "is not a container" });
                Ok(())
            }
        }
    }

    /// An envelope is no work of its own; but one that was named and has no container is half a pair.
    fn envelope_given(&self, found: &Found, last: &str) -> Result<()> {
        let has_container =
            name::containers_of(last).iter().any(|container| found.path.with_file_name(container).exists());
        match has_container || !found.named {
            true => Ok(()),
            false => Err(Error::integrity("is an envelope whose container is not beside it")
                .at(&found.path)
                .hint("the .enc file with the data belongs beside it; the envelope alone holds only a key")),
        }
    }

    fn container(&self, found: &Found) -> Result<()> {
        let path = &found.path;
        let mut file = File::open(path).context("cannot read", path)?;
        let len = file.metadata().context("cannot read", path)?.len();
        let header = open::read_header(&mut file).map_err(|error| error.at(path))?;
        let envelopes = match &self.options.envelope {
            Some(envelope) => named_envelopes(envelope, path, &header.data_id())?,
            None => find_envelopes(path, &header.data_id())?,
        };
        let target = self.target(found, Naming::Escaped)?;
        if let Destination::File(target) = &self.options.destination {
            let siblings = sibling_envelopes(path, &header.data_id());
            let envelopes = siblings.iter().chain(&self.options.envelope).map(PathBuf::as_path);
            let needed: Vec<&Path> = envelopes.chain([path.as_path()]).collect();
            atomic::refuse_same(target, &needed)?;
        }
        if self.stays(path, &target)? {
            return Ok(());
        }
        let opener = self.opener(header, &envelopes).map_err(|error| error.at(path))?;
        let end = opener.end(&mut file, len).map_err(|error| error.at(path))?;
        file.seek(SeekFrom::Start(crate::format::HEADER_LEN as u64)).context("cannot read", path)?;
        let _alone = (len >= LARGE).then(|| self.large.lock().unwrap_or_else(PoisonError::into_inner));
        let threads = if len >= LARGE { self.options.jobs } else { 1 };
        let source = file.take(len - crate::format::HEADER_LEN as u64);
        self.restore(&opener, source, Some(&end), &target, threads, Some(found))
            .map_err(|error| error.at(path))?;
        self.observer.event(Event::Done { input: path, output: &target });
        Ok(())
    }

    fn opener(&self, header: Header, envelopes: &[Envelope]) -> Result<Opener> {
        let file_key = unwrap(&header, envelopes, &self.options.identities)?;
        Opener::new(header, &file_key)
    }

    /// Restores what follows the header to `target`.
    fn restore(
        &self,
        opener: &Opener,
        source: impl Read + Send,
        end: Option<&End>,
        target: &Path,
        threads: usize,
        found: Option<&Found>,
    ) -> Result<()> {
        let mut source = Watched { inner: source, observer: self.observer };
        let metadata = opener.metadata(&mut source)?;
        if let (Some(found), Some(metadata)) = (found, &metadata) {
            self.compare_name(found, metadata)?;
        }
        let file_type = metadata.as_ref().map_or(FileType::File, |metadata| metadata.file_type);
        if file_type == FileType::File || target == Path::new("-") {
            return self.file(opener, source, end, target, threads, metadata.as_ref());
        }
        let opened = opener.copy(source, std::io::sink(), end, 1)?;
        if opened.plain_len > 0 {
            return Err(Error::integrity(format!("is the container of a {file_type}, but holds data")));
        }
        self.tree.put_later(target, metadata.unwrap_or_else(|| Metadata::new(file_type)))
    }

    fn file(
        &self,
        opener: &Opener,
        source: impl Read + Send,
        end: Option<&End>,
        target: &Path,
        threads: usize,
        metadata: Option<&Metadata>,
    ) -> Result<()> {
        self.tree.make_parents(target)?;
        let mut out = self.open(target, restore::mode(metadata))?;
        let mut written = Written::new(&mut out, target);
        opener.copy(source, &mut written, end, threads).map_err(|error| written.blame(error))?;
        if let (Output::Atomic(file), Some(times)) = (&out, metadata.and_then(restore::file_times)) {
            file.file().set_times(times).context("cannot set the time", target)?;
        }
        self.commit(out)
    }

    /// Whether a result is there and is left, which costs no private-key operation to find out.
    fn stays(&self, input: &Path, target: &Path) -> Result<bool> {
        let found = match target.symlink_metadata() {
            Ok(found) if target != Path::new("-") => found,
            _ => return Ok(false),
        };
        // A symlink that was named may lead to a device.
        let named = matches!(self.options.destination, Destination::File(_));
        let is_result = found.is_file() || (found.is_symlink() && !named);
        match self.options.if_exists {
            _ if !is_result => Ok(false),
            IfExists::Replace => Ok(false),
            IfExists::Fail => Err(self.tree.exists(target)),
            IfExists::Skip => {
                self.observer.event(Event::Skipped { path: input, why: "is decrypted there already" });
                Ok(true)
            }
        }
    }

    fn open(&self, target: &Path, mode: Mode) -> Result<Output> {
        let out = match &self.options.destination {
            Destination::File(_) => Output::open(target, mode)?,
            // Whatever has the name of one of many results is in its way, and is not written to.
            _ => Output::Atomic(AtomicFile::create(target, mode)?),
        };
        match out.is_atomic() && !self.options.if_exists.replaces() && target.symlink_metadata().is_ok() {
            true => Err(self.tree.exists(target)),
            false => Ok(out),
        }
    }

    /// The folder reaches the disk when all files are there.
    fn commit(&self, out: Output) -> Result<()> {
        let Output::Atomic(file) = out else { return Ok(()) };
        let folder = folder_of(file.target()).to_owned();
        match self.options.if_exists.replaces() {
            true => file.replace_unsynced(),
            false => file.new_unsynced(),
        }?;
        self.tree.changed(&folder);
        Ok(())
    }

    fn made(&self, path: &Path) -> bool {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }

    /// Where a container is restored to. The name in the metadata has no say in it.
    fn target(&self, found: &Found, naming: Naming) -> Result<PathBuf> {
        let foreign = || {
            Error::input("is not the name of a container of ours")
                .at(&found.path)
                .hint("rename it to NAME.enc, or say with --output where the result goes")
        };
        let text = |segment: &Vec<u8>| String::from_utf8(segment.clone()).map_err(|_| foreign());
        let join = |root: &Path, segments: &[Vec<u8>]| {
            segments.iter().fold(root.to_owned(), |path, segment| path.join(OsStr::from_bytes(segment)))
        };
        let (last, folders) = found.segments.split_last().ok_or_else(foreign)?;
        let name = || naming.parse(&text(last)?).ok_or_else(foreign);
        match &self.options.destination {
            Destination::File(path) => Ok(path.clone()),
            Destination::Folder(root) => {
                let folders: Vec<Vec<u8>> = folders.iter().map(|folder| naming.folder(folder)).collect();
                Ok(join(&join(root, &folders), name()?.segments()))
            }
            Destination::Beside => {
                let target = join(found.path.parent().unwrap_or(Path::new("")), name()?.segments());
                if target.as_os_str().as_bytes().ends_with(b".enc") {
                    self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(target.clone());
                }
                Ok(target)
            }
        }
    }

    /// A pair that was given another name, or swapped with another one, shows in its metadata.
    fn compare_name(&self, found: &Found, metadata: &Metadata) -> Result<()> {
        let last = found.path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let Some(message) = ObjectName::parse(&last).and_then(|object| restore::renamed(&object, metadata))
        else {
            return Ok(());
        };
        if self.options.strict {
            return Err(Error::integrity(message)
                .at(&found.path)
                .hint("somebody renamed or swapped it; without --strict this is a warning"));
        }
        self.observer.event(Event::Warning { path: &found.path, message: &message });
        Ok(())
    }
}

/// How the name of a container is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Naming {
    /// As sidekey writes names.
    Escaped,
    /// As a script writes them: whatever stands before `.enc`.
    Bare,
}

impl Naming {
    fn folder(self, stored: &[u8]) -> Vec<u8> {
        match self {
            Self::Escaped => name::plain_folder(stored),
            Self::Bare => stored.to_vec(),
        }
    }

    /// Of a last segment.
    fn parse(self, stored: &str) -> Option<ObjectName> {
        match self {
            Self::Escaped => ObjectName::parse(stored),
            Self::Bare => ObjectName::file(&[stored.strip_suffix(".enc")?]).ok(),
        }
    }
}

/// All envelopes that may belong to a container: both forms, and neither hides the other. One that cannot be read as an
/// envelope counts only when there is no other.
fn find_envelopes(container: &Path, data_id: &DataId) -> Result<Vec<Envelope>> {
    let mut envelopes = Vec::new();
    let mut fault = None;
    for path in sibling_envelopes(container, data_id) {
        match read_envelope(&path) {
            Ok(envelope) => envelopes.push(envelope),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => fault = Some(error),
        }
    }
    match (envelopes.is_empty(), fault) {
        (false, _) => Ok(envelopes),
        (true, Some(fault)) => Err(fault),
        (true, None) => Err(Error::integrity("has no envelope beside it").at(container).hint(
            "without its .key.enc file it cannot be opened; fetch that too, or name it with --envelope",
        )),
    }
}

/// Where envelopes of a container may stand beside it.
fn sibling_envelopes(container: &Path, data_id: &DataId) -> Vec<PathBuf> {
    let last = container.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let names = [name::envelope_name(&last, None), name::envelope_name(&last, Some(data_id))];
    names.into_iter().flatten().map(|name| container.with_file_name(name)).collect()
}

/// The envelope that the user named, and the one that a run of `encrypt --force` leaves beside it when it is stopped
/// before the last of its steps.
fn named_envelopes(envelope: &Path, container: &Path, data_id: &DataId) -> Result<Vec<Envelope>> {
    let unsettled = PairPaths::with_envelope(container, envelope, data_id).located;
    let mut envelopes = vec![read_envelope(envelope)?];
    envelopes.extend(read_envelope(&unsettled).ok());
    Ok(envelopes)
}

fn read_envelope(path: &Path) -> Result<Envelope> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(envelope::MAX_BYTES as u64 + 1).read_to_end(&mut bytes))
        .context("cannot read", path)?;
    Envelope::parse(&bytes).map_err(|error| error.at(path))
}
