//! What runs have done, so that the next one need not read it again. A hint: whatever is listed otherwise than it stands
//! here is done again, and to lose the file costs work alone.

use std::collections::{BTreeSet, HashSet};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use super::known::State;
use crate::crypto::rsa::{PrivateKey, PublicKey};
use crate::location::range::Range;
use crate::ops::ledger::end_line;
use crate::rewrap::Rotation;
use crate::store::Store;
use crate::{Error, IoContext as _, KeyId, Result, hex};

/// After how many lines they are synced.
const BATCH: u32 = 1000;
/// Says that all lines before it were proven.
const PROVEN: &str = "proven";
/// Stands before a line that is taken back.
const BACK: char = '-';
/// Stands before a text that is about to be written.
const BEGUN: char = '+';
/// Stands before what was done by a text that was written, and that text.
const WRITTEN: char = '=';
/// No line of ours is longer, in bytes.
const LONGEST: u64 = 128;

/// The journal of one store and one change of recipients: a line for each envelope that is done, which is a hash of its
/// name and versions, and one for each text that was about to be written. Names do not stand in it.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// What stood in it: what a complete run did, and what came after that.
    proven: Vec<State>,
    unproven: Vec<State>,
    /// Of the unproven, what runs of this change wrote.
    written: Vec<State>,
    /// Texts of which it is not known whether they arrived.
    begun: Mutex<HashSet<State>>,
    state: Mutex<Appending>,
}

/// What stood in a journal.
#[derive(Debug, Default)]
struct Past {
    proven: Vec<State>,
    unproven: Vec<State>,
    written: Vec<State>,
    begun: HashSet<State>,
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
        let Past { proven, unproven, written, begun } =
            Past::read(&file).context("cannot read the journal", &path)?;
        end_line(&mut file).context("cannot write the journal", &path)?;
        let state = Mutex::new(Appending { file, unsynced: 0, error: None });
        Ok(Self { path, proven, unproven, written, begun: Mutex::new(begun), state })
    }

    pub(in crate::ops) fn has(&self, state: &State) -> bool {
        self.has_proven(state) || self.unproven.binary_search(state).is_ok() || self.has_written(state)
    }

    pub(super) fn has_proven(&self, state: &State) -> bool {
        self.proven.binary_search(state).is_ok()
    }

    /// Whether it was done by a text of this change, since the last complete run.
    pub(super) fn has_written(&self, state: &State) -> bool {
        self.written.binary_search(state).is_ok()
    }

    /// Whether this text was about to be written, and is not known to be done.
    pub(super) fn has_begun(&self, text: &State) -> bool {
        self.lock_begun().contains(text)
    }

    /// Appends that a text is about to be written.
    pub(super) fn begin(&self, text: State) {
        self.lock_begun().insert(text);
        self.append(&format!("{BEGUN}{:032x}\n", text.0));
    }

    /// Appends that something is done by a text that was begun.
    pub(super) fn add_written(&self, state: State, text: State) {
        self.append(&format!("{WRITTEN}{:032x} {:032x}\n", state.0, text.0));
        self.lock_begun().remove(&text);
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

    fn lock_begun(&self) -> MutexGuard<'_, HashSet<State>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
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
    hex(&hash.finalize()[..16])
}

impl Past {
    fn read(file: &File) -> std::io::Result<Self> {
        let (mut past, mut back) = (Self::default(), BTreeSet::new());
        let (mut reader, mut line) = (BufReader::new(file), Vec::with_capacity(LONGEST as usize));
        loop {
            line.clear();
            // A line that goes on for ever is none of ours.
            if (&mut reader).take(LONGEST).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            let text = line.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok());
            past.take(text.unwrap_or_default(), &mut back);
        }
        for states in [&mut past.proven, &mut past.unproven, &mut past.written] {
            states.retain(|state| !back.contains(state));
            states.sort_unstable();
        }
        Ok(past)
    }

    fn take(&mut self, line: &str, back: &mut BTreeSet<State>) {
        if line == PROVEN {
            // What was allocated for them goes with them, for there may be millions.
            for mut states in [std::mem::take(&mut self.unproven), std::mem::take(&mut self.written)] {
                match self.proven.is_empty() {
                    true => self.proven = states,
                    false => self.proven.append(&mut states),
                }
            }
        } else if let Some(hex) = line.strip_prefix(BACK) {
            back.extend(parse(hex));
        } else if let Some(hex) = line.strip_prefix(BEGUN) {
            self.begun.extend(parse(hex));
        } else if let Some((state, text)) = line.strip_prefix(WRITTEN).and_then(|line| line.split_once(' ')) {
            self.written.extend(parse(state));
            if let Some(text) = parse(text) {
                self.begun.remove(&text);
            }
        } else {
            self.unproven.extend(parse(line));
        }
    }
}

fn parse(hex: &str) -> Option<State> {
    u128::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 32).map(State)
}
