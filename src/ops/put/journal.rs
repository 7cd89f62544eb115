//! What an upload in parts leaves on this machine until both halves are there: its one-time keys and its name with the
//! store, so that a run that died can be gone on with, by a host that holds no private key.
//!
//! A journal is a hint. Whatever does not fit it (another source, other recipients, an envelope that is gone, too much time)
//! makes the upload begin anew with a new file key; losing one costs work and nothing else. It is wiped when both halves
//! are there, as far as a disk lets anything be wiped.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::location::drive::{Begun, UploadMemory};
use crate::pair::LATEST;
use crate::secret::{FileKey, IvKey};
use crate::store::Unfinished;
use crate::{DataId, IoContext as _, Result, hex};

/// A longer one is none of ours.
const MAX_LEN: u64 = 64 << 10;

/// The journal of one name in one location, held by this process alone.
pub(super) struct Journal {
    path: PathBuf,
    file: Mutex<File>,
    now: SystemTime,
    entry: Mutex<Option<Entry>>,
    /// What an earlier run began, and this one goes on with.
    begun: Option<Begun>,
}

/// What the upload is of: only the same again is the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Subject {
    /// Where it goes, as people write it.
    pub(super) object: String,
    /// Device, inode, size, and when it was changed (seconds and nanoseconds; contents, then anything).
    pub(super) source: [i64; 7],
    /// SHA-256 of what the container says about the file, in hex.
    pub(super) metadata: String,
    /// Which digest of the plaintext it keeps.
    pub(super) digest: u8,
    /// How the service is asked to encrypt it, without any key.
    pub(super) encryption: String,
    /// The key ids of those who can open it.
    pub(super) recipients: Vec<String>,
}

/// The one-time keys of a container, and its name.
#[derive(Debug)]
pub(super) struct OneTime {
    pub(super) data_id: DataId,
    pub(super) file_key: FileKey,
    pub(super) iv_key: IvKey,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    v: u8,
    subject: Subject,
    data_id: String,
    /// The file key, then the key of the IVs, in hex.
    #[serde(with = "secret_text")]
    keys: Zeroizing<String>,
    /// When the envelope was about to be written, in seconds since 1970.
    since: u64,
    upload: Option<Upload>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Upload {
    key: String,
    id: String,
    part_len: u64,
}

mod secret_text {
    use serde::{Deserialize as _, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(super) fn serialize<S: Serializer>(text: &Zeroizing<String>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(text)
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Zeroizing<String>, D::Error> {
        String::deserialize(from).map(Zeroizing::new)
    }
}

impl Journal {
    /// The journal of `object` in `folder`, which is made when it is not there. Nothing when another process holds it.
    ///
    /// # Errors
    /// What the operating system says.
    pub(super) fn open(folder: &Path, object: &str, now: SystemTime) -> Result<Option<Self>> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).context("cannot make", folder)?;
        let name = hex(&Sha256::digest(object)[..16]);
        let path = folder.join(format!("{name}.json"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .context("cannot open", &path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(_) => return Ok(None),
        }
        Ok(Some(Self { path, file: Mutex::new(file), now, entry: Mutex::default(), begun: None }))
    }

    /// What an earlier run left, if it was about to store the same thing and there is time left; else the upload that it
    /// began, to be thrown away.
    pub(super) fn read(&mut self, subject: &Subject) -> Result<OneTime, Option<Unfinished>> {
        let entry = self.parse().ok_or(None)?;
        let upload = entry.upload.clone();
        let stale = || {
            let upload = upload.clone()?;
            Some(Unfinished { key: upload.key, id: upload.id, started: SystemTime::UNIX_EPOCH })
        };
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(entry.since);
        let age = self.now.duration_since(since).unwrap_or(Duration::ZERO);
        if entry.v != 1 || entry.subject != *subject || age >= LATEST {
            return Err(stale());
        }
        let one_time = one_time(&entry).ok_or_else(stale)?;
        self.begun = stale().zip(upload.as_ref()).map(|(unfinished, upload)| Begun {
            upload: unfinished,
            part_len: upload.part_len,
            age,
        });
        match self.begun {
            Some(_) => {
                *self.entry() = Some(entry);
                Ok(one_time)
            }
            None => Err(None),
        }
    }

    /// Remembers what is about to be stored; it is written when the upload begins.
    pub(super) fn prepare(&self, subject: Subject, data_id: &DataId, file_key: &FileKey, iv_key: &IvKey) {
        let mut keys = Zeroizing::new(String::with_capacity(128));
        for byte in file_key.expose().iter().chain(iv_key.expose()) {
            for digit in [byte >> 4, byte & 15] {
                keys.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
            }
        }
        let since = self.now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let data_id = data_id.to_string();
        *self.entry() = Some(Entry { v: 1, subject, data_id, keys, since, upload: None });
    }

    /// What was read cannot be gone on with after all.
    pub(super) fn start_anew(&mut self) {
        self.begun = None;
    }

    /// Wipes and removes it.
    pub(super) fn forget(&self) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let len = file.metadata().map_or(0, |found| found.len().min(MAX_LEN)) as usize;
        let _ = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&vec![0; len]));
        let _ = file.sync_data();
        let _ = file.set_len(0);
        let _ = std::fs::remove_file(&self.path);
    }

    fn entry(&self) -> MutexGuard<'_, Option<Entry>> {
        self.entry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parse(&self) -> Option<Entry> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let len = file.metadata().ok().map(|found| found.len()).filter(|len| (1..=MAX_LEN).contains(len))?;
        let mut text = Zeroizing::new(vec![0; len as usize]);
        file.seek(SeekFrom::Start(0)).ok()?;
        file.read_exact(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }

    fn write(&self, entry: &Entry) -> Result<()> {
        // With room enough from the start, no copy of a key is left behind by growing.
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_LEN as usize));
        serde_json::to_writer(&mut *text, entry)
            .map_err(|error| crate::Error::input("cannot be written as JSON").because(error))?;
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(&text))
            .and_then(|()| file.sync_all())
            .context("cannot write", &self.path)
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("path", &self.path).finish_non_exhaustive()
    }
}

/// One that holds nothing is not left lying about.
impl Drop for Journal {
    fn drop(&mut self) {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.metadata().is_ok_and(|found| found.len() == 0 && found.nlink() > 0) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl UploadMemory for Journal {
    fn begun(&self) -> Option<Begun> {
        self.begun.clone()
    }

    fn begin(&self, upload: &Unfinished, part_len: u64) -> Result<()> {
        let mut entry = self.entry();
        let Some(entry) = entry.as_mut() else { return Ok(()) };
        entry.upload = Some(Upload { key: upload.key.clone(), id: upload.id.clone(), part_len });
        self.write(entry)
    }
}

fn one_time(entry: &Entry) -> Option<OneTime> {
    let mut keys = Zeroizing::new([0; 64]);
    let digits = entry.keys.as_bytes();
    if digits.len() != 128 {
        return None;
    }
    for (byte, pair) in keys.iter_mut().zip(digits.chunks(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    let (file_key, iv_key) = keys.split_first_chunk::<32>()?;
    Some(OneTime {
        data_id: entry.data_id.parse().ok()?,
        file_key: FileKey::from_bytes(file_key),
        iv_key: IvKey::from_bytes(iv_key.first_chunk()?),
    })
}

/// Removes the journals of `folder` that are too old to be gone on with. What cannot be removed stays.
pub(super) fn expire(folder: &Path, now: SystemTime) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|found| found.modified());
        let age = modified.ok().and_then(|modified| now.duration_since(modified).ok());
        let object = entry.path();
        if age.is_some_and(|age| age >= LATEST)
            && object.extension().is_some_and(|extension| extension == "json")
        {
            let _ = std::fs::remove_file(object);
        }
    }
}
