//! The report: what a run did to each envelope, as JSON lines of which each holds the hash of the one before. A line that
//! is lost or changed shows; that nobody wrote all of it anew shows only to who kept the last hash.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::RotateOptions;
use crate::crypto::rsa::{PrivateKey, PublicKey};
use crate::location::drive::Rewrapped;
use crate::ops::reports::Chain;
use crate::pair::RewrapOutcome;
use crate::store::VersionId;
use crate::{Error, IoContext as _, KeyId, Result};

/// After how many lines they are synced.
const BATCH: u32 = 256;

/// A file that runs append their reports to.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    state: Mutex<Appending>,
}

#[derive(Debug)]
struct Appending {
    file: File,
    chain: Chain,
    unsynced: u32,
    error: Option<Error>,
}

/// What was done to one envelope.
#[derive(Debug, Default, Serialize)]
pub(super) struct Line<'a> {
    r#type: &'static str,
    name: &'a str,
    result: &'static str,
    versions: &'a [VersionId],
    entries: Vec<String>,
    new_entries: Vec<String>,
    written: Option<&'a str>,
    purged: &'a [VersionId],
    why: Vec<String>,
}

impl<'a> Line<'a> {
    pub(super) fn of(done: &'a Rewrapped, dry_run: bool) -> Self {
        let facts = &done.facts;
        let rewrapped = done.outcome == RewrapOutcome::Rewrapped;
        Self {
            r#type: "envelope",
            name: &done.stored,
            result: match done.outcome {
                RewrapOutcome::Rewrapped if dry_run => "would-rewrap",
                RewrapOutcome::Rewrapped if done.residue.is_empty() => "rewrapped",
                RewrapOutcome::AlreadyDone if done.residue.is_empty() => "already",
                RewrapOutcome::NotOurs if done.residue.is_empty() => "not-ours",
                _ => "residue",
            },
            versions: &facts.seen,
            entries: hex(&facts.before),
            new_entries: if rewrapped || facts.written.is_some() { hex(&facts.after) } else { vec![] },
            written: facts.written.as_deref(),
            purged: &facts.purged,
            why: done.residue.clone(),
        }
    }

    pub(super) fn failed(name: &'a str, versions: &'a [VersionId], error: &Error) -> Self {
        Self {
            r#type: "envelope",
            name,
            result: "failed",
            versions,
            why: vec![error.line()],
            ..Self::default()
        }
    }

    pub(super) fn foreign(name: &'a str, version: &'a VersionId, why: &str) -> Self {
        Self {
            r#type: "envelope",
            name,
            result: "residue",
            versions: std::slice::from_ref(version),
            why: vec![why.to_owned()],
            ..Self::default()
        }
    }
}

#[derive(Serialize)]
struct Run<'a> {
    r#type: &'static str,
    location: &'a str,
    from: Option<&'a str>,
    until: Option<&'a str>,
    time: String,
    dry_run: bool,
    old: Vec<String>,
    new: Vec<String>,
    drop: Vec<String>,
    seed: String,
}

impl Ledger {
    /// Opens a file, new or with the reports of earlier runs.
    ///
    /// # Errors
    /// What the operating system fails with; `Input` when it is no plain file.
    pub fn open(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        let options = options.read(true).append(true).create(true).mode(0o600);
        let mut file = options.open(path).context("cannot open the report", path)?;
        let metadata = file.metadata().context("cannot open the report", path)?;
        if !metadata.is_file() {
            return Err(Error::input("is no file that a report can be appended to").at(path));
        }
        if metadata.len() > 0 {
            end_line(&mut file).context("cannot write the report", path)?;
        }
        let state = Appending { file, chain: Chain::default(), unsynced: 0, error: None };
        Ok(Self { path: path.to_owned(), state: Mutex::new(state) })
    }

    /// Begins a chain with what the run is about.
    pub(super) fn begin(&self, location: &str, options: &RotateOptions<'_>) -> Result<()> {
        let rotation = options.rotation;
        self.begin_run(&Run {
            r#type: "run",
            location,
            from: options.range.from.as_deref(),
            until: options.range.until.as_deref(),
            time: humantime::format_rfc3339_seconds(options.now).to_string(),
            dry_run: options.dry_run,
            old: rotation.old.iter().map(PrivateKey::id).map(|id| id.to_string()).collect(),
            new: rotation.new.iter().map(PublicKey::id).map(|id| id.to_string()).collect(),
            drop: rotation.dropped().map(ToString::to_string).collect(),
            seed: options.seed.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    /// Begins a chain with this line.
    pub(in crate::ops) fn begin_run(&self, run: &impl Serialize) -> Result<()> {
        self.lock().chain = Chain::default();
        self.write(run);
        self.result()
    }

    /// Appends one line. That it could not be written is told at the end.
    pub(in crate::ops) fn write(&self, line: &impl Serialize) {
        let mut state = self.lock();
        if state.error.is_none()
            && let Err(error) = state.append(line, &self.path)
        {
            state.error = Some(error);
        }
    }

    /// Ends the chain with the summary, and says what its head is: the hash of the last line.
    pub(in crate::ops) fn finish(&self, summary: &impl Serialize) -> Result<String> {
        self.write(summary);
        self.result()?;
        let state = self.lock();
        state.file.sync_all().context("cannot write the report", &self.path)?;
        Ok(state.chain.head())
    }

    fn result(&self) -> Result<()> {
        self.lock().error.take().map_or(Ok(()), Err)
    }

    fn lock(&self) -> MutexGuard<'_, Appending> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Appending {
    fn append(&mut self, line: &impl Serialize, path: &Path) -> Result<()> {
        let text = self.chain.next(line)?;
        self.file.write_all(text.as_bytes()).context("cannot write the report", path)?;
        self.unsynced += 1;
        if self.unsynced >= BATCH {
            self.unsynced = 0;
            self.file.sync_data().context("cannot write the report", path)?;
        }
        Ok(())
    }
}

/// Ends a line that a crash left open.
pub(super) fn end_line(file: &mut File) -> std::io::Result<()> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(());
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    if last != *b"\n" {
        file.write_all(b"\n")?;
    }
    Ok(())
}

fn hex(ids: &[KeyId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}
