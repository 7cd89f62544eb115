//! What runs have done, so that the next one need not read it again. A hint: whatever is listed otherwise than it stands
//! here is done again, and to lose the file costs work alone.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use super::known::State;
use super::ledger::end_line;
use crate::crypto::rsa::{PrivateKey, PublicKey};
use crate::location::range::Range;
use crate::rewrap::Rotation;
use crate::store::Store;
use crate::{Error, IoContext as _, KeyId, Result};

/// After how many lines they are synced.
const BATCH: u32 = 1000;
/// Says that all lines before it were proven.
const PROVEN: &str = "proven";
/// Stands before a line that is taken back.
const BACK: char = '-';

/// The journal of one store and one change of recipients: a line for each envelope that is done, which is a hash of its
/// name and versions. Names do not stand in it.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// What stood in it: what a complete run did, and what came after that.
    proven: Vec<State>,
    unproven: Vec<State>,
    state: Mutex<Appending>,
}

#[derive(Debug)]
struct Appending {
    file: File,
    unsynced: u32,
    error: Option<Error>,
}

impl Journal {
    /// Opens the journal of this change in this store, in `folder`, which is made when it is not there. A line that is not
    /// whole, as a crash leaves one, is as good as none.
    ///
    /// # Errors
    /// What the operating system fails with.
    pub fn open(
        folder: &Path,
        store: &dyn Store,
        rotation: &Rotation,
        range: &Range,
        compare: bool,
    ) -> Result<Self> {
        Self::named(folder, &format!("rewrap-{}", subject(store, rotation, range, compare)))
    }

    /// The journal of something else that is done object by object, told apart by its name.
    pub(in crate::ops) fn named(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(name);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .context("cannot make the folder", folder)?;
        let mut options = OpenOptions::new();
        let options = options.read(true).append(true).create(true).mode(0o600);
        let mut file = options.open(&path).context("cannot open the journal", &path)?;
        let (mut proven, mut unproven) = (vec![], vec![]);
        read(&file, &mut proven, &mut unproven).context("cannot read the journal", &path)?;
        end_line(&mut file).context("cannot write the journal", &path)?;
        proven.sort_unstable();
        unproven.sort_unstable();
        Ok(Self { path, proven, unproven, state: Mutex::new(Appending { file, unsynced: 0, error: None }) })
    }

    pub(in crate::ops) fn has(&self, state: &State) -> bool {
        self.has_proven(state) || self.unproven.binary_search(state).is_ok()
    }

    pub(super) fn has_proven(&self, state: &State) -> bool {
        self.proven.binary_search(state).is_ok()
    }

    /// Appends a line. That it could not be written is told at the end.
    pub(in crate::ops) fn add(&self, state: State) {
        if !self.has(&state) {
            self.append(&format!("{:032x}\n", state.0));
        }
    }

    /// Appends that a line is not so after all.
    pub(super) fn take_back(&self, state: State) {
        self.append(&format!("{BACK}{:032x}\n", state.0));
    }

    /// Syncs what was appended; with `proven` all of it counts as proven from now on.
    ///
    /// # Errors
    /// The first that any write gave.
    pub(in crate::ops) fn finish(&self, proven: bool) -> Result<()> {
        if proven {
            self.append(&format!("{PROVEN}\n"));
        }
        let mut state = self.lock();
        let synced = state.file.sync_data();
        match state.error.take() {
            Some(error) => Err(error),
            None => synced.context("cannot write the journal", &self.path),
        }
    }

    fn append(&self, line: &str) {
        let mut state = self.lock();
        let state = &mut *state;
        state.unsynced += 1;
        let mut written = state.file.write_all(line.as_bytes());
        if written.is_ok() && state.unsynced >= BATCH {
            state.unsynced = 0;
            written = state.file.sync_data();
        }
        if let Err(error) = written.context("cannot write the journal", &self.path) {
            state.error.get_or_insert(error);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Appending> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names the store, the keys and what else makes one run's work another's.
fn subject(store: &dyn Store, rotation: &Rotation, range: &Range, compare: bool) -> String {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    add("sidekey rewrap 2");
    add(&store.show(""));
    let sorted = |mut ids: Vec<KeyId>| {
        ids.sort_unstable();
        ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    add(&sorted(rotation.old.iter().map(PrivateKey::id).collect()));
    add(&sorted(rotation.new.iter().map(PublicKey::id).collect()));
    add(&sorted(rotation.dropped().copied().collect()));
    add(&format!("{} {compare}", rotation.keys_stay()));
    // Workers on one machine each have their own: what one has proven says nothing of another's.
    for border in [&range.from, &range.until] {
        add(border.as_deref().unwrap_or_default());
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn read(file: &File, proven: &mut Vec<State>, unproven: &mut Vec<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(file);
    let (mut line, mut back) = (Vec::with_capacity(64), BTreeSet::new());
    loop {
        line.clear();
        // A line that goes on for ever is none of ours.
        if (&mut reader).take(64).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let text = line.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok());
        match text {
            Some(PROVEN) => proven.append(unproven),
            Some(line) => match line.strip_prefix(BACK) {
                Some(hex) => back.extend(parse(hex)),
                None => unproven.extend(parse(line)),
            },
            None => {}
        }
    }
    proven.retain(|state| !back.contains(state));
    unproven.retain(|state| !back.contains(state));
    Ok(())
}

fn parse(hex: &str) -> Option<State> {
    u128::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 32).map(State)
}
