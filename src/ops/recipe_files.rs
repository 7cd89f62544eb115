//! Pairs of the OpenSSL recipe as files: how they were made is settled by all of a run's files, folder by folder.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::crypto::recipe::RecipeKey;
use crate::crypto::rsa::PrivateKey;
use crate::format::Entry;
use crate::recipe::{
    Decision, KEY_FILE_LIMIT, KeyFile, Named, PasswordBlock, Sample, Settler, detect_container,
    detect_key_file,
};
use crate::{Error, IoContext as _, Result, name};

pub(crate) use crate::location::recipe::adopted_key;

/// Said once a run that reads such files.
pub(crate) const NOT_AUTHENTICATED: &str = "is a file of the OpenSSL recipe, which is not authenticated: only its \
     padding was checked, a change within it would go unnoticed";

/// Whether a file with this beginning is a container of the recipe.
pub(crate) fn is_container(start: &[u8]) -> bool {
    detect_container(start).is_some()
}

/// The key file beside a container of the recipe.
///
/// # Errors
/// `Integrity` when there is none, or it is not one.
pub(crate) fn key_file_of(container: &Path) -> Result<KeyFile> {
    let last = container.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let beside = name::envelope_name(&last, None).map(|name| container.with_file_name(name));
    let missing = || {
        Error::integrity("has no key file beside it")
            .at(container)
            .hint("without its .key.enc file it cannot be opened; fetch that too")
    };
    let path = beside.filter(|path| path.exists()).ok_or_else(missing)?;
    let bytes = read_start(&path, KEY_FILE_LIMIT as u64 + 1)?;
    detect_key_file(&bytes)
        .ok_or_else(|| Error::integrity("is not a key file of the OpenSSL recipe").at(path))
}

/// At most `limit` bytes from the start of a file.
pub(crate) fn read_start(path: &Path, limit: u64) -> Result<Vec<u8>> {
    // Envelopes are about 1 KB; a buffer that has to grow costs a system call a step.
    let mut bytes = Vec::with_capacity(4 << 10);
    File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .context("cannot read", path)?;
    Ok(bytes)
}

/// Both ends of a container.
pub(crate) fn sample_of(container: &Path) -> Result<Sample> {
    let mut file = File::open(container).context("cannot read", container)?;
    Sample::read(&mut file).map_err(|error| error.at(container))
}

/// Whether a private key makes text of a key file. Random bytes, which a wrong key gives now and then, are not.
pub(crate) fn opens_to_text<'k>(key_file: &KeyFile, keys: impl IntoIterator<Item = &'k PrivateKey>) -> bool {
    key_file.open(keys).is_ok_and(|blocks| blocks.iter().any(PasswordBlock::is_text))
}

/// Whether `payload`, which an entry carried, deciphers the end of its container; nothing when that is not at hand.
pub(crate) fn judge_payload(entry: &Entry, payload: &[u8], containers: &[PathBuf]) -> Option<bool> {
    let sample = containers
        .iter()
        .find_map(|container| sample_of(container).ok().filter(|sample| sample.data_id() == entry.data_id))?;
    Some(RecipeKey::from_payload(payload).is_ok_and(|key| sample.padding(&key).is_some()))
}

/// Counts what the pairs of each folder agree on.
#[derive(Debug)]
pub(crate) struct Survey {
    named: Named,
    folders: Mutex<HashMap<PathBuf, Settler>>,
}

impl Survey {
    pub(crate) fn new(named: Named) -> Self {
        Self { named, folders: Mutex::default() }
    }

    /// Counts one pair; one that cannot be read is reported when it is decrypted.
    pub(crate) fn add(&self, container: &Path, identities: &[PrivateKey]) {
        let folder = container.parent().unwrap_or(Path::new("")).to_owned();
        let settler = self.lock().entry(folder.clone()).or_insert_with(|| Settler::new(self.named)).clone();
        let blocks = key_file_of(container).and_then(|key_file| key_file.open(identities));
        if let (Ok(blocks), Ok(sample)) = (blocks, sample_of(container)) {
            let ballot = settler.examine(&blocks, &sample);
            if let Some(settler) = self.lock().get_mut(&folder) {
                settler.count(&ballot);
            }
        }
    }

    /// Counts the pair of a key file, if its container is beside it; a later pass looks at the key file all the same.
    pub(crate) fn add_key_file(&self, key_file: &Path, identities: &[PrivateKey]) {
        let last = key_file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        if let Some(container) = name::containers_of(&last).pop() {
            self.add(&key_file.with_file_name(container), identities);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Settler>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there was anything to count.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// What was settled.
    pub(crate) fn finish(self) -> Settled {
        let folders = self.folders.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut all = Settler::new(self.named);
        folders.values().for_each(|folder| all.absorb(folder));
        Settled { folders, all }
    }
}

/// How the recipe's files of a run were made: what their folder agrees on, else what all folders do.
#[derive(Debug)]
pub(crate) struct Settled {
    folders: HashMap<PathBuf, Settler>,
    all: Settler,
}

impl Settled {
    /// Decides for one pair.
    pub(crate) fn decide(
        &self,
        container: &Path,
        blocks: &[PasswordBlock],
        sample: &Sample,
    ) -> Result<Decision> {
        let folder = container.parent().and_then(|folder| self.folders.get(folder));
        let settler = folder.filter(|folder| !folder.settled().is_empty()).unwrap_or(&self.all);
        settler.decide(blocks, sample).map_err(|error| error.at(container))
    }
}
