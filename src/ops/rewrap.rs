//! `rewrap`: every envelope below some folders moved to new recipients, and the proof that the old key opens none.

mod adopt;
mod batch;
mod envelope_file;
mod judge;

use std::collections::{BTreeSet, BinaryHeap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use rustix::process::{getegid, geteuid};
use sha2::{Digest as _, Sha256};

use self::batch::Batch;
use self::envelope_file::EnvelopeFile;
use crate::format::{Envelope, envelope, header};
use crate::ops::atomic::sync;
use crate::ops::events::{Event, Observer};
use crate::ops::parallel;
use crate::ops::recipe_files::{self, Settled, Survey};
use crate::ops::walk::{self, Found, Walk};
use crate::pair::RewrapOutcome;
use crate::recipe::{KEY_FILE_LIMIT, Named, detect_key_file};
use crate::rewrap::Rotation;
use crate::{Error, IoContext as _, Result, name};

/// How many envelopes the old key is tried on after the run, unless all are asked for.
pub const SAMPLE: usize = 1000;

/// How many folders wait to be synced at the most.
const MOST_FOLDERS: usize = 256;

/// The one version that a file of this machine has.
const FILE: &str = "file";

/// On how many envelopes the old key is tried after they were rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prove {
    /// On [`SAMPLE`] of them, drawn by the seed.
    Sample,
    /// On each.
    All,
}

/// How to rewrap.
#[derive(Debug)]
pub struct RewrapOptions {
    /// From whom to whom.
    pub rotation: Rotation,
    /// Whether only to say what would be done.
    pub dry_run: bool,
    /// How many threads work.
    pub jobs: usize,
    /// Whether key files of the OpenSSL recipe become envelopes, instead of staying what they are.
    pub adopt: bool,
    /// How files of the OpenSSL recipe were made, where the user says so.
    pub recipe: Named,
    /// How much is tried.
    pub prove: Prove,
    /// Draws the sample: the envelopes with the smallest SHA-256(seed || path).
    pub seed: [u8; 16],
    /// The time that new entries say they were created.
    pub now: SystemTime,
}

/// What a rewrap came to. Everything is a number of envelopes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RewrapSummary {
    /// Rewritten, or with a dry run: would be.
    pub rewrapped: u64,
    /// For the new recipients already.
    pub already: u64,
    /// That no old key opens.
    pub not_ours: u64,
    /// With something left for an old key, or something that cannot be judged.
    pub residue: u64,
    /// Failed.
    pub failed: u64,
    /// Whose key was compared with its container's commitment.
    pub checked: u64,
    /// Whose container was not there to compare with.
    pub unchecked: u64,
    /// On which the old key was tried after the run.
    pub tried: u64,
    /// Of those, which it opened.
    pub opened: u64,
}

/// Rewraps every envelope at and below `inputs`. One that fails does not stop the others; the observer is told of each.
///
/// # Errors
/// None for single envelopes: these are in the summary.
pub fn rewrap(inputs: &[PathBuf], options: &RewrapOptions, observer: &dyn Observer) -> Result<RewrapSummary> {
    let run = Rewrapping {
        inputs,
        options,
        observer,
        summary: Mutex::default(),
        sample: Mutex::default(),
        folders: Mutex::default(),
        user: (geteuid().as_raw(), getegid().as_raw()),
    };
    let survey = Survey::new(options.recipe);
    run.each(Pass::First, |found, batch| run.envelope(found, &survey, batch));
    if !survey.is_empty() {
        let settled = survey.finish();
        run.each(Pass::Second, |found, batch| run.key_file(found, &settled, batch));
    }
    if !options.dry_run {
        sync_all(&mut run.folders.lock().unwrap_or_else(PoisonError::into_inner))?;
        run.try_sample();
    }
    Ok(run.summary.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn sync_all(folders: &mut BTreeSet<PathBuf>) -> Result<()> {
    std::mem::take(folders).iter().try_for_each(|folder| sync(folder))
}

fn has_envelope_name(path: &Path) -> bool {
    path.file_name().is_some_and(is_envelope_name)
}

fn is_envelope_name(name: &OsStr) -> bool {
    name.as_bytes().ends_with(b".key.enc")
}

/// Files of the OpenSSL recipe need a second look, once all of them have been seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    First,
    Second,
}

struct Rewrapping<'a> {
    inputs: &'a [PathBuf],
    options: &'a RewrapOptions,
    observer: &'a dyn Observer,
    summary: Mutex<RewrapSummary>,
    /// The smallest hashes so far, the largest of them on top.
    sample: Mutex<BinaryHeap<([u8; 32], PathBuf)>>,
    /// The folders in which something was replaced, synced together before anything is said to be done: what a power
    /// cut brings back before that is whole, and still there for the next run.
    folders: Mutex<BTreeSet<PathBuf>>,
    /// Whose files new ones are.
    user: (u32, u32),
}

impl Rewrapping<'_> {
    /// Does `work` for every file at and below `inputs` that has an envelope's name or was named itself, and tells of
    /// what fails.
    fn each<'r>(&'r self, pass: Pass, work: impl Fn(Found, &mut Batch<'r>) -> Result<()> + Sync) {
        let walk = Walk { follow_arguments: true, wanted: Some(is_envelope_name), ..Walk::default() };
        let found = walk::find(self.inputs, walk);
        let work = |batch: &mut Batch<'r>, found: Result<Found>| {
            let done = match found.and_then(|found| self.select(found)) {
                Ok(Some(found)) => work(found, batch),
                Err(error) if pass == Pass::First => Err(error),
                Ok(None) | Err(_) => Ok(()),
            };
            if let Err(error) = done {
                self.failed(&error);
            }
        };
        parallel::for_each_with(
            self.options.jobs,
            found,
            || Batch::new(self),
            work,
            |mut batch| batch.publish(),
        );
    }

    fn failed(&self, error: &Error) {
        self.count(|summary| summary.failed += 1);
        self.observer.event(Event::Failed(error));
    }

    /// What to work on, if what was found is an envelope by its name, or was named itself.
    fn select(&self, found: Found) -> Result<Option<Found>> {
        let kind = found.metadata.file_type();
        match () {
            () if kind.is_dir() => Ok(None),
            // What replaces the file would otherwise replace the link that leads to it.
            () if kind.is_file() && found.named && found.path.is_symlink() => {
                let path = found.path.canonicalize().context("cannot read", &found.path)?;
                Ok(Some(Found { path, ..found }))
            }
            () if kind.is_file() => Ok((found.named || has_envelope_name(&found.path)).then_some(found)),
            () if kind.is_symlink() && has_envelope_name(&found.path) => {
                Err(Error::input("is a symlink, which is not followed")
                    .at(&found.path)
                    .hint("name what it leads to, or the folder of that, to rewrap it too"))
            }
            () if found.named => {
                Err(Error::input(format!("is {}, not an envelope", walk::special(kind))).at(&found.path))
            }
            () => Ok(None),
        }
    }

    /// An envelope is rewrapped; a key file of the OpenSSL recipe is only counted: whether its password is its
    /// container's shows when all of them have been.
    fn envelope<'r>(&'r self, found: Found, survey: &Survey, batch: &mut Batch<'r>) -> Result<()> {
        let path = &found.path;
        let bytes = read(path)?;
        if recipe_files::is_container(&bytes) || bytes.starts_with(header::MAGIC) {
            // One that is called like an envelope: of a file whose own name ends in .key, written by a script.
            return match has_envelope_name(path) || self.envelope_is_given(path) {
                true => Ok(()),
                false => Err(Error::input("is a container, not an envelope")
                    .at(path)
                    .hint("name its .key.enc file, or the folder of both")),
            };
        }
        let ours = envelope::looks_like_envelope(&bytes);
        if !ours && detect_key_file(&bytes).is_some() {
            survey.add_key_file(path, &self.options.rotation.old);
            return Ok(());
        }
        match ours || has_envelope_name(path) {
            true => self.steps(found, Some(bytes), None, batch),
            false => Err(Error::input("is not an envelope").at(path)),
        }
    }

    /// Whether a container stands among the inputs because its envelope does, as `FOLDER/*` names both.
    fn envelope_is_given(&self, container: &Path) -> bool {
        let last = container.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let of_it = |input: &PathBuf| {
            let name = input.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
            input.parent() == container.parent()
                && name::containers_of(&name).iter().any(|name| *name == last)
        };
        self.inputs.iter().any(of_it)
    }

    /// A key file of the OpenSSL recipe; everything else was done before.
    fn key_file<'r>(&'r self, found: Found, settled: &'r Settled, batch: &mut Batch<'r>) -> Result<()> {
        match detect_key_file(&recipe_files::read_start(&found.path, KEY_FILE_LIMIT as u64 + 1)?) {
            Some(_) if self.options.adopt => self.adopt(&found.path, settled),
            Some(_) => self.steps(found, None, Some(settled), batch),
            None => Ok(()),
        }
    }

    /// Takes one file through its steps, or as far as to wait in the batch; `first` is what was read of it just now.
    fn steps<'r>(
        &'r self,
        found: Found,
        first: Option<Vec<u8>>,
        settled: Option<&'r Settled>,
        batch: &mut Batch<'r>,
    ) -> Result<()> {
        let mut file = EnvelopeFile::new(found.path, self, settled);
        (file.first, file.metadata) = (first, Some(found.metadata));
        match file.prepare() {
            Some(outcome) => self.finish(file, outcome),
            None => {
                batch.add(file);
                Ok(())
            }
        }
    }

    fn finish(&self, file: EnvelopeFile<'_>, outcome: RewrapOutcome) -> Result<()> {
        let path = file.path.as_path();
        let links = file.metadata.as_ref().map_or(1, MetadataExt::nlink);
        let Some(judged) = file.judged.filter(|_| outcome != RewrapOutcome::Failed) else {
            return Err(file.error.unwrap_or_else(|| {
                Error::conflict("other writers changed it again and again; nothing was written").at(path)
            }));
        };
        let mut residue = judged.residue;
        if outcome == RewrapOutcome::Residue {
            residue.push("an older version is still there".into());
        }
        if outcome == RewrapOutcome::Rewrapped && links > 1 {
            residue.push(format!(
                "it had {links} hard links; the others, such as those of snapshots, keep what the old key opens"
            ));
        }
        let rewritten = outcome == RewrapOutcome::Rewrapped;
        self.count(|summary| {
            summary.checked += judged.checked;
            summary.unchecked += judged.unchecked;
            *match outcome {
                RewrapOutcome::Rewrapped => &mut summary.rewrapped,
                RewrapOutcome::AlreadyDone => &mut summary.already,
                RewrapOutcome::NotOurs => &mut summary.not_ours,
                _ => &mut summary.failed,
            } += u64::from(!matches!(outcome, RewrapOutcome::Unproven | RewrapOutcome::Residue));
            summary.residue += u64::from(!residue.is_empty());
        });
        for message in &residue {
            self.observer.event(Event::Warning { path, message });
        }
        match rewritten {
            true => self.observer.event(Event::Done { input: path, output: path }),
            false => self.observer.event(Event::Skipped { path, why: reason(outcome) }),
        }
        if matches!(outcome, RewrapOutcome::Rewrapped | RewrapOutcome::AlreadyDone) && !self.options.dry_run {
            match self.options.prove {
                Prove::All => self.try_on(path)?,
                Prove::Sample => self.offer(path),
            }
        }
        Ok(())
    }

    fn count(&self, count: impl FnOnce(&mut RewrapSummary)) {
        count(&mut self.summary.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Keeps the envelopes with the smallest hashes under the seed: a random sample that the seed draws again.
    fn offer(&self, path: &Path) {
        let hash = Sha256::new()
            .chain_update(self.options.seed)
            .chain_update(path.as_os_str().as_bytes())
            .finalize();
        let mut sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner);
        if sample.len() < SAMPLE
            || sample.peek().is_some_and(|(largest, _)| hash.as_slice() < largest.as_slice())
        {
            sample.push((hash.into(), path.into()));
            if sample.len() > SAMPLE {
                sample.pop();
            }
        }
    }

    fn wrote_in(&self, folder: &Path) -> Result<()> {
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        if !folders.contains(folder) {
            folders.insert(folder.into());
        }
        match folders.len() < MOST_FOLDERS {
            true => Ok(()),
            false => sync_all(&mut folders),
        }
    }

    fn try_sample(&self) {
        let sample = std::mem::take(&mut *self.sample.lock().unwrap_or_else(PoisonError::into_inner));
        parallel::for_each(self.options.jobs, sample.into_iter(), |(_, path)| {
            if let Err(error) = self.try_on(&path) {
                self.failed(&error);
            }
        });
    }

    /// Tries the old keys on what now stands in the file. One that was taken as done by its labels, and opens all the
    /// same, is rewrapped after all.
    fn try_on(&self, path: &Path) -> Result<()> {
        let opens = self.opens(path)? && (!self.rewrap_untold(path) || self.opens(path)?);
        self.count(|summary| {
            summary.tried += 1;
            summary.opened += u64::from(opens);
        });
        if opens {
            self.observer.event(Event::Warning { path, message: "an old key still opens it" });
        }
        Ok(())
    }

    fn opens(&self, path: &Path) -> Result<bool> {
        let bytes = read(path)?;
        match detect_key_file(&bytes) {
            Some(key_file) => Ok(recipe_files::opens_to_text(&key_file, &self.options.rotation.old)),
            None => {
                let envelope = Envelope::parse(&bytes).map_err(|error| error.at(path))?;
                Ok(self.options.rotation.still_opens(&envelope))
            }
        }
    }

    /// Rewraps an envelope that has an old key's entry under another label; says whether it did.
    fn rewrap_untold(&self, path: &Path) -> bool {
        let mut file = EnvelopeFile::new(path.into(), self, None);
        file.all = true;
        let rewrapped = file.drive() == RewrapOutcome::Rewrapped;
        if let Some(judged) = file.judged.filter(|_| rewrapped) {
            self.count(|summary| {
                summary.already = summary.already.saturating_sub(1);
                summary.rewrapped += 1;
                summary.checked += judged.checked;
                summary.unchecked += judged.unchecked;
                summary.residue += u64::from(!judged.residue.is_empty());
            });
            for message in &judged.residue {
                self.observer.event(Event::Warning { path, message });
            }
            self.observer.event(Event::Done { input: path, output: path });
        }
        rewrapped
    }
}

fn reason(outcome: RewrapOutcome) -> &'static str {
    match outcome {
        RewrapOutcome::AlreadyDone => "is for the new recipients already",
        RewrapOutcome::NotOurs => "is not for the old key",
        _ => "was not rewritten",
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    recipe_files::read_start(path, envelope::MAX_BYTES as u64 + 1)
}
