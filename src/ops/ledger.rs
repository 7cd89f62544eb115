//! The report: what a run did to each envelope, as JSON lines of which each holds the hash of the one before. A line that
//! is lost or changed shows; that nobody wrote all of it anew shows only to who kept the last hash.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::Serialize;

use crate::crypto::rsa::{PrivateKey, PublicKey};
use crate::location::range::Range;
use crate::ops::reports::Chain;
use crate::store::VersionId;
use crate::{Error, IoContext as _, KeyId, Result, hex, rfc3339};

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

/// The first line of a run.
#[derive(Debug, Serialize)]
pub(super) struct Run<'a> {
    r#type: &'static str,
    /// Where it is another one than `rewrap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'static str>,
    location: &'a str,
    from: Option<&'a str>,
    until: Option<&'a str>,
    time: String,
    dry_run: bool,
    old: Vec<String>,
    new: Vec<String>,
    drop: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<String>,
}

/// What a run is about, whatever it does.
#[derive(Debug)]
pub(super) struct About<'a> {
    pub(super) location: &'a str,
    pub(super) range: &'a Range,
    pub(super) now: SystemTime,
    pub(super) dry_run: bool,
    pub(super) old: &'a [PrivateKey],
    pub(super) new: &'a [PublicKey],
}

impl<'a> Run<'a> {
    pub(super) fn new(about: &About<'a>) -> Self {
        Self {
            r#type: "run",
            command: None,
            location: about.location,
            from: about.range.from.as_deref(),
            until: about.range.until.as_deref(),
            time: rfc3339(about.now),
            dry_run: about.dry_run,
            old: about.old.iter().map(|key| key.id().to_string()).collect(),
            new: about.new.iter().map(|key| key.id().to_string()).collect(),
            drop: vec![],
            seed: None,
        }
    }

    pub(super) fn of_command(self, command: &'static str) -> Self {
        Self { command: Some(command), ..self }
    }

    pub(super) fn dropping<'i>(self, ids: impl Iterator<Item = &'i KeyId>, seed: &[u8]) -> Self {
        Self { drop: ids.map(ToString::to_string).collect(), seed: Some(hex(seed)), ..self }
    }
}

/// What was done to one envelope or container.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    pub(super) r#type: &'static str,
    pub(super) name: &'a str,
    pub(super) result: &'static str,
    pub(super) versions: &'a [VersionId],
    /// Of envelopes alone: whom the labels of their entries name, before and after.
    #[serde(flatten)]
    pub(super) entries: Option<Entries>,
    pub(super) written: Option<&'a str>,
    pub(super) purged: &'a [VersionId],
    pub(super) why: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Entries {
    entries: Vec<String>,
    new_entries: Vec<String>,
}

impl Entries {
    pub(super) fn new(before: &[KeyId], after: &[KeyId]) -> Self {
        let hex = |ids: &[KeyId]| ids.iter().map(ToString::to_string).collect();
        Self { entries: hex(before), new_entries: hex(after) }
    }
}

impl<'a> Line<'a> {
    pub(super) fn new(name: &'a str, result: &'static str, versions: &'a [VersionId]) -> Self {
        Self {
            r#type: "envelope",
            name,
            result,
            versions,
            entries: None,
            written: None,
            purged: &[],
            why: vec![],
        }
    }

    pub(super) fn failed(name: &'a str, versions: &'a [VersionId], error: &Error) -> Self {
        Self { why: vec![error.line()], ..Self::new(name, "failed", versions) }
    }
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

    /// Begins a chain with this line.
    pub(super) fn begin(&self, run: &Run<'_>) -> Result<()> {
        self.lock().chain = Chain::default();
        self.write(run);
        self.result()
    }

    /// Appends one line. That it could not be written is told at the end.
    pub(super) fn write(&self, line: &impl Serialize) {
        let mut state = self.lock();
        if state.error.is_none()
            && let Err(error) = state.append(line, &self.path)
        {
            state.error = Some(error);
        }
    }

    /// Ends the chain with the summary, and says what its head is: the hash of the last line.
    pub(super) fn finish(&self, summary: &impl Serialize) -> Result<String> {
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
