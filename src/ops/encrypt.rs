//! `encrypt`: files, folders and pipes of this machine into pairs.

mod batch;

use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use self::batch::{Batch, Staged};
use crate::crypto::recipe::WRITTEN_ROUNDS;
use crate::crypto::rsa::PublicKey;
use crate::format::section::DigestKind;
use crate::format::{FileType, Metadata};
use crate::name::{self, ObjectName};
use crate::ops::atomic::{self, AtomicFile, Mode, Output};
use crate::ops::events::{Counting, Event, Observer, Summary, Watched, Written};
use crate::ops::pair_files::{PairPaths, Publishing};
use crate::ops::parallel;
use crate::ops::source::{Exactly, describe, open_file, unchanged};
use crate::ops::walk::{self, Destination, Found, IsResult, Walk};
use crate::pair::{Form, IfExists, Put};
use crate::random::{OsRandom, Pooled, Random};
use crate::recipe::{ContainerEncoding, KeyFileForm, NewPair};
use crate::seal::{SealOptions, seal};
use crate::secret::FileKey;
use crate::wrap::wrap;
use crate::{DataId, Error, IoContext as _, Result};

/// From this size on one file is encrypted by all threads, one such file at a time.
const LARGE: u64 = 4 << 20;

/// Below this size a file learns that its result is there when it is to get its name: so little is encrypted in vain that to
/// ask for each costs more.
const SMALL: u64 = 16 << 10;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// Containers and envelopes.
    Sidekey,
    /// Files that OpenSSL alone can decrypt, with the container in this encoding. They are not authenticated and keep
    /// nothing about the file.
    OpenSsl(ContainerEncoding),
}

/// How to encrypt.
#[derive(Debug)]
pub struct EncryptOptions {
    /// Who can open the results.
    pub recipients: Vec<PublicKey>,
    /// Where the results go.
    pub destination: Destination,
    /// Where the envelope goes, when not beside its container.
    pub envelope: Option<PathBuf>,
    /// What becomes of results that are there already.
    pub if_exists: IfExists,
    /// Whether symlinks are followed instead of kept.
    pub follow: bool,
    /// Whether every folder gets a container of its own, not only empty ones.
    pub folder_metadata: bool,
    /// What is written.
    pub format: Format,
    /// Which digest of the plaintext is kept.
    pub digest: DigestKind,
    /// How many threads work.
    pub jobs: usize,
    /// The time that envelopes say they were created.
    pub now: SystemTime,
}

/// Encrypts every file at and below `inputs`. One that fails does not stop the others; the observer is told of each.
///
/// # Errors
/// `Usage` when the options do not fit the inputs. What happens to single files is in the summary.
pub fn encrypt(inputs: &[PathBuf], options: &EncryptOptions, observer: &dyn Observer) -> Result<Summary> {
    if options.recipients.is_empty() {
        return Err(
            Error::usage("no recipient: nobody could open this").hint("name a public key with --recipient")
        );
    }
    if options.envelope.is_some() && !matches!(options.destination, Destination::File(_)) {
        return Err(Error::usage("--envelope goes with one input and --output FILE"));
    }
    options.check_format()?;
    if matches!(options.destination, Destination::Folder(_)) {
        walk::refuse_same_names(inputs)?;
    }
    walk::mind_links(inputs, options.follow, observer)?;
    let counting = Counting::new(observer);
    let run = Encrypting::new(options, &counting);
    let except = match &options.destination {
        Destination::Folder(folder) => Some(folder.as_path()),
        _ => None,
    };
    let beside = options.destination == Destination::Beside;
    let results = beside.then_some((options.now, walk::is_ours as IsResult));
    let found = walk::find(inputs, Walk { follow: options.follow, except, results, ..Walk::default() });
    let begin = || Batch::new(options.jobs, &counting);
    let work = |batch: &mut Batch<'_>, found: Result<Found>| {
        if found.as_ref().is_ok_and(is_large) {
            // The small ones do not wait for it.
            batch.publish();
        }
        match found.and_then(|found| run.one(&found)) {
            Ok(staged) => staged.into_iter().for_each(|staged| batch.add(staged)),
            Err(error) => counting.event(Event::Failed(&error)),
        }
    };
    parallel::for_each_with(options.jobs, found, begin, work, |mut batch| batch.publish());
    Ok(counting.summary())
}

/// Encrypts a stream that has no name, such as a pipe, into one container.
///
/// # Errors
/// What reading or writing fails with; `Usage` when it is not clear where the envelope goes.
pub fn encrypt_stream(
    source: impl Read + Send,
    options: &EncryptOptions,
    observer: &dyn Observer,
) -> Result<Summary> {
    let Destination::File(target) = &options.destination else {
        return Err(Error::usage("an input without a name needs --output FILE")
            .hint("write -o NAME.enc, or -o - with --envelope FILE"));
    };
    options.check_format()?;
    let counting = Counting::new(observer);
    let run = Encrypting::new(options, &counting);
    let metadata = Metadata::new(FileType::File);
    let name = Path::new("-");
    let source = Watched { inner: source, observer: &counting };
    let staged = run.stage(name, target, &metadata, source, None, options.jobs, || Ok(()))?;
    staged.into_iter().try_for_each(|staged| staged.publish(&counting))?;
    Ok(counting.summary())
}

impl EncryptOptions {
    fn check_format(&self) -> Result<()> {
        match self.format {
            Format::OpenSsl(_) if self.recipients.len() != 1 => {
                Err(Error::usage("a key file of OpenSSL's holds one recipient")
                    .hint("give one --recipient, or leave --format openssl out"))
            }
            _ => Ok(()),
        }
    }
}

struct Encrypting<'a> {
    options: &'a EncryptOptions,
    observer: &'a dyn Observer,
    random: Pooled<'a>,
    /// Held while a large file keeps all threads busy, so that memory stays bounded.
    large: Mutex<()>,
    /// The folder that was made last.
    made: Mutex<Option<PathBuf>>,
}

impl<'a> Encrypting<'a> {
    fn new(options: &'a EncryptOptions, observer: &'a dyn Observer) -> Self {
        let random = Pooled::new(&OsRandom);
        Self { options, observer, random, large: Mutex::new(()), made: Mutex::default() }
    }

    /// Whatever was found, by its type.
    fn one(&self, found: &Found) -> Result<Option<Staged>> {
        let kind = found.metadata.file_type();
        if kind.is_dir() {
            return self.folder(found);
        }
        // Beside their sources results would be encrypted again and again; anywhere else they are files like others.
        let beside = self.options.destination == Destination::Beside;
        if beside && kind.is_file() && walk::is_ours(&found.path) {
            self.observer.event(Event::Skipped { path: &found.path, why: "is a result of sidekey already" });
            return Ok(None);
        }
        if kind.is_symlink() {
            return self.symlink(found);
        }
        if !kind.is_file() {
            return Err(Error::input(format!("is {}; skipped", walk::special(kind))).at(&found.path));
        }
        self.file(found)
    }

    fn file(&self, found: &Found) -> Result<Option<Staged>> {
        let path = &found.path;
        let (file, before) = open_file(path, self.options.follow)?;
        let metadata = describe(found, &before, FileType::File);
        let target = self.target(found)?;
        let size = before.len();
        let _alone = (size >= LARGE).then(|| self.large.lock().unwrap_or_else(PoisonError::into_inner));
        let threads = if size >= LARGE { self.options.jobs } else { 1 };
        let mut source = Exactly { inner: &file, left: size };
        let source = Watched { inner: &mut source, observer: self.observer };
        self.stage(path, &target, &metadata, source, Some(size), threads, || unchanged(&file, &before, path))
    }

    fn folder(&self, found: &Found) -> Result<Option<Staged>> {
        // The walk itself reports one that it cannot enter.
        let Ok(mut entries) = std::fs::read_dir(&found.path) else { return Ok(None) };
        if !self.options.folder_metadata && entries.next().is_some() {
            return Ok(None);
        }
        let metadata = describe(found, &found.metadata, FileType::Dir);
        let target = self.target(found)?;
        self.stage(&found.path, &target, &metadata, io::empty(), Some(0), 1, || Ok(()))
    }

    fn symlink(&self, found: &Found) -> Result<Option<Staged>> {
        let link = std::fs::read_link(&found.path).context("cannot read", &found.path)?;
        let mut metadata = describe(found, &found.metadata, FileType::Symlink);
        metadata.mode = None;
        metadata.target = Some(link.as_os_str().as_bytes().to_vec());
        let target = self.target(found)?;
        self.stage(&found.path, &target, &metadata, io::empty(), Some(0), 1, || Ok(()))
    }

    /// The path of the container.
    fn target(&self, found: &Found) -> Result<PathBuf> {
        let is_folder = found.metadata.is_dir();
        let name = |segments: &[Vec<u8>]| match is_folder {
            true => ObjectName::folder(segments),
            false => ObjectName::file(segments),
        };
        match &self.options.destination {
            Destination::File(path) => Ok(path.clone()),
            Destination::Folder(folder) => Ok(folder.join(name(&found.segments)?.container())),
            Destination::Beside if is_folder => Ok(found.path.join(name(&[])?.container())),
            Destination::Beside => {
                let last = found.segments.last().cloned().unwrap_or_default();
                Ok(found.path.with_file_name(name(&[last])?.container()))
            }
        }
    }

    /// Encrypts one source into the pair that is to stand at `target`, and asks `unchanged` at the end. Nothing is returned
    /// where nothing is left to do.
    #[allow(
        clippy::too_many_arguments,
        reason = "one call site a kind of source; a struct would only rename them"
    )]
    fn stage(
        &self,
        input: &Path,
        target: &Path,
        metadata: &Metadata,
        source: impl Read + Send,
        size: Option<u64>,
        threads: usize,
        unchanged: impl FnOnce() -> Result<()>,
    ) -> Result<Option<Staged>> {
        let random: &dyn Random = &self.random;
        let data_id = DataId::generate(random)?;
        let writing =
            Writing::new(self.options, metadata.file_type, random).map_err(|error| error.at(input))?;
        let envelope = writing.envelope(self.options, &data_id)?;
        let write_into = |out: &mut Output| {
            let mut seal_options =
                SealOptions { digest: self.options.digest, threads, ..SealOptions::default() };
            seal_options.size = size;
            let mut out = Written::new(out, target);
            let written = writing.write(data_id, metadata, source, &mut out, random, &seal_options);
            written.map_err(|error| out.blame(error).at(input))
        };

        self.check_outputs(input, target)?;
        if self.options.if_exists == IfExists::Skip && is_whole_pair(target, self.options.envelope.as_deref())
        {
            self.observer.event(Event::Skipped { path: input, why: "is encrypted there already" });
            return Ok(None);
        }
        let mut out = self.open(target)?;
        if let Some(path) = self.options.envelope.as_deref().filter(|_| !out.is_atomic()) {
            // Nothing of a container may be anywhere before its key is safe.
            write_envelope(path, &envelope, self.options.if_exists.replaces())?;
            write_into(&mut out)?;
            unchanged()?;
            self.observer.event(Event::Done { input, output: target });
            Ok(None)
        } else {
            let paths = match &self.options.envelope {
                Some(envelope) => PairPaths::with_envelope(target, envelope, &data_id),
                None => PairPaths::of(target, &data_id)?,
            };
            match size {
                _ if self.options.if_exists.replaces() => {}
                Some(size) if size < SMALL => {}
                // Of an envelope alone, which is rare, it learns when it is to get its names.
                Some(size) if size < LARGE => paths.refuse_container()?,
                _ => paths.refuse_existing()?,
            }
            write_into(&mut out)?;
            unchanged()?;
            let Output::Atomic(container) = out else {
                return Err(Error::usage("a container that goes to a pipe or device needs --envelope FILE"));
            };
            let put = Put::new(Form::Beside, self.options.if_exists.replaces());
            let publishing = Publishing::new(paths, container, envelope);
            let (input, target, bytes) = (input.into(), target.into(), size.unwrap_or(0));
            Ok(Some(Staged { input, target, bytes, publishing, put }))
        }
    }

    /// Results that the user named take neither the input's place nor each other's.
    fn check_outputs(&self, input: &Path, target: &Path) -> Result<()> {
        let named = |path: &&Path| *path != Path::new("-");
        let needed: Vec<&Path> = [input].into_iter().filter(named).collect();
        if let Destination::File(target) = &self.options.destination
            && named(&target.as_path())
        {
            atomic::refuse_same(target, &needed)?;
        }
        let Some(envelope) = &self.options.envelope else { return Ok(()) };
        atomic::refuse_same(envelope, &needed)?;
        if envelope == target || atomic::same_file(envelope, target)? {
            return Err(Error::usage("is both the container and its envelope").at(envelope));
        }
        match envelope.metadata() {
            Ok(found) if !found.is_file() => {
                Err(Error::usage("is no regular file, which an envelope needs").at(envelope))
            }
            _ => Ok(()),
        }
    }

    fn open(&self, target: &Path) -> Result<Output> {
        if let (Destination::Folder(_), Some(parent)) = (&self.options.destination, target.parent()) {
            let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
            if made.as_deref() != Some(parent) {
                std::fs::create_dir_all(parent).context("cannot make the folder", parent)?;
                *made = Some(parent.into());
            }
        }
        let out = match &self.options.destination {
            Destination::File(_) => Output::open(target, Mode::Data)?,
            // Whatever has the name of one of many results is in its way, and is not written to.
            _ => Output::Atomic(AtomicFile::create(target, Mode::Data)?),
        };
        if !out.is_atomic() && self.options.envelope.is_none() {
            return Err(
                Error::usage("a container that goes to a pipe or device needs --envelope FILE").at(target)
            );
        }
        Ok(out)
    }
}

/// The key of one result, in the format that it is written in.
enum Writing {
    Sidekey(FileKey),
    OpenSsl(NewPair, ContainerEncoding),
}

impl Writing {
    fn new(options: &EncryptOptions, file_type: FileType, random: &dyn Random) -> Result<Self> {
        match options.format {
            Format::Sidekey => FileKey::generate(random).map(Self::Sidekey),
            Format::OpenSsl(_) if file_type != FileType::File => {
                Err(Error::input(format!("is a {file_type}, which OpenSSL's format cannot keep; skipped")))
            }
            Format::OpenSsl(encoding) => {
                NewPair::generate(random, WRITTEN_ROUNDS).map(|pair| Self::OpenSsl(pair, encoding))
            }
        }
    }

    /// The bytes of the envelope or key file.
    fn envelope(&self, options: &EncryptOptions, data_id: &DataId) -> Result<Vec<u8>> {
        match (self, options.recipients.as_slice()) {
            (Self::Sidekey(file_key), recipients) => {
                wrap(file_key, data_id, recipients, options.now)?.to_text().map(String::into_bytes)
            }
            (Self::OpenSsl(pair, _), [recipient, ..]) => {
                pair.key_file(recipient, KeyFileForm::Raw).map(|key_file| key_file.encode())
            }
            (Self::OpenSsl(..), []) => Err(Error::usage("no recipient")),
        }
    }

    fn write(
        self,
        data_id: DataId,
        metadata: &Metadata,
        source: impl Read + Send,
        out: impl Write + Send,
        random: &dyn Random,
        options: &SealOptions,
    ) -> Result<()> {
        match self {
            Self::Sidekey(file_key) => {
                // Header, metadata and the sections of a small file in one write; large batches pass through.
                let out = BufWriter::with_capacity(8 << 10, out);
                seal(&file_key, data_id, Some(metadata), source, out, random, options).map(drop)
            }
            Self::OpenSsl(pair, encoding) => pair.encrypt(source, encoding, out).map(drop),
        }
    }
}

fn is_large(found: &Found) -> bool {
    found.metadata.is_file() && found.metadata.len() >= LARGE
}

/// Whether both halves of a pair are there under the names that they would get.
fn is_whole_pair(container: &Path, envelope: Option<&Path>) -> bool {
    let is_file = |path: &Path| path.symlink_metadata().is_ok_and(|found| found.is_file());
    let beside = || name::envelope_name(container.file_name()?.to_str()?, None);
    match envelope {
        Some(envelope) => is_file(container) && is_file(envelope),
        None => beside().is_some_and(|name| is_file(container) && is_file(&container.with_file_name(name))),
    }
}

fn write_envelope(path: &Path, bytes: &[u8], force: bool) -> Result<()> {
    let mut file = AtomicFile::create(path, Mode::Data)?;
    file.write_all(bytes).context("cannot write", path)?;
    match force {
        true => file.commit_replace(),
        false => file.commit_new().map_err(|error| error.hint("--force replaces it")),
    }
}
