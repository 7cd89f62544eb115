//! Big files on their way from a store: a part file that a later run goes on with.
//!
//! `.NAME.sidekey-part` (0600) stands beside its target. The plaintext begins at byte 0, each section at its place; behind
//! the room for all of it, from the next multiple of 4 KiB on, stand two slots that say in turn which container it is and
//! how much of it is there (length, JSON, SHA-256 of the JSON). A slot is written when the plaintext that it speaks of is
//! on the disk. It names the container by its key commitment and holds the SHA-256 of that plaintext, which is compared
//! before anything is added: what was not written from authentic sections is not gone on with. When the file is whole the
//! slots are cut off and it gets its name. The file is locked while a run writes it.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::format::{Header, Metadata};
use crate::open::Done;
use crate::ops::atomic::{AtomicFile, Mode, publish_new, publish_replacing, sync};
use crate::ops::pair_files::folder_of;
use crate::ops::restore;
use crate::{Error, IoContext as _, Result, hex};

const SUFFIX: &[u8] = b".sidekey-part";
/// The longest name that file systems take, in bytes.
const NAME_MAX: usize = 255;
/// The room of one slot, in bytes.
const SLOT: usize = 16 << 10;
/// How often a part file is opened that is another one by the time it is locked.
const TRIES: usize = 8;
/// So many more bytes on the disk are worth a new slot.
const STEP: u64 = 64 << 20;

/// Whether `name` is that of a part file.
pub fn is_part_name(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(b".") && name.ends_with(SUFFIX) && name.len() > SUFFIX.len() + 1
}

/// The part file of a target; nothing where its name would be too long.
pub fn part_path(target: &Path) -> Option<PathBuf> {
    let name = target.file_name()?;
    let name = [b".", name.as_bytes(), SUFFIX].concat();
    (name.len() <= NAME_MAX).then(|| target.with_file_name(OsString::from_vec(name)))
}

/// What a slot says.
#[derive(Serialize, Deserialize)]
struct Slot {
    v: u32,
    /// For people: where the container is.
    object: String,
    version: String,
    data_id: String,
    commitment: String,
    total: u64,
    sections: u64,
    sha256: String,
}

/// The container that a part file is of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) object: &'a str,
    pub(crate) version: &'a str,
    pub(crate) header: &'a Header,
    /// The length of the plaintext, in bytes.
    pub(crate) total: u64,
}

/// A part file that is being written.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    file: File,
    path: PathBuf,
    target: PathBuf,
    source: Source<'a>,
    /// What the newest slot speaks of, and how many slots were written.
    saved: u64,
    slots: u64,
    /// Whether there is nothing to keep when it is dropped.
    discard: bool,
}

impl<'a> Part<'a> {
    /// Opens the part file of `target`, and says how much of it is there and good.
    ///
    /// # Errors
    /// `Conflict` when something else has its name, or another run writes it; else what the operating system says.
    pub(crate) fn open(path: PathBuf, target: &Path, source: Source<'a>) -> Result<(Self, Done)> {
        let file = locked(&path, opened)?;
        let mut part =
            Self { file, path, target: target.to_owned(), source, saved: 0, slots: 0, discard: false };
        let done = match part.newest().and_then(|slot| part.verified(&slot)) {
            Some(done) => done,
            None => {
                part.discard = true;
                part.start()?;
                Done::default()
            }
        };
        Ok((part, done))
    }

    /// The file, for sections at their places.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Its name.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Notes what is there, where that is worth a sync.
    pub(crate) fn progress(&mut self, done: &Done) -> Result<()> {
        let bytes = done.sections.saturating_mul(self.source.header.section_size() as u64);
        if bytes < self.saved.saturating_add(STEP) || bytes >= self.source.total {
            return Ok(());
        }
        self.file.sync_data().context("cannot write to the disk", &self.path)?;
        let slot = Slot {
            v: 1,
            object: self.source.object.chars().take(1024).collect(),
            version: self.source.version.chars().take(1024).collect(),
            data_id: self.source.header.data_id().to_string(),
            commitment: hex(&self.source.header.commitment),
            total: self.source.total,
            sections: done.sections,
            sha256: hex(&done.digest.clone().finalize()),
        };
        let json =
            serde_json::to_vec(&slot).map_err(|error| Error::input("cannot make JSON").because(error))?;
        let mut bytes_of_slot = (json.len() as u64).to_le_bytes().to_vec();
        bytes_of_slot.extend_from_slice(&json);
        bytes_of_slot.extend_from_slice(&Sha256::digest(&json));
        let at = self.slot_at(self.slots);
        if bytes_of_slot.len() <= SLOT {
            self.file.write_all_at(&bytes_of_slot, at).context("cannot write", &self.path)?;
            self.slots += 1;
            self.discard = false;
        }
        self.saved = bytes;
        Ok(())
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// `Conflict` when something has the name and is not to be replaced; else what the operating system says.
    pub(crate) fn publish(mut self, metadata: Option<&Metadata>, replace: bool) -> Result<()> {
        let file = &self.file;
        file.set_len(self.source.total).context("cannot write", &self.path)?;
        // Without its slots it is worth nothing under this name.
        self.discard = true;
        if let Some(times) = metadata.and_then(restore::file_times) {
            file.set_times(times).context("cannot set the time", &self.target)?;
        }
        match restore::mode(metadata) {
            Mode::Exact(mode) => file.set_permissions(Permissions::from_mode(mode)),
            // What the umask leaves is seen on a new file alone.
            _ => AtomicFile::create(&self.target, Mode::Data)?
                .file()
                .metadata()
                .and_then(|new| file.set_permissions(new.permissions())),
        }
        .context("cannot set the permissions", &self.target)?;
        file.sync_all().context("cannot write to the disk", &self.target)?;
        match replace {
            true => publish_replacing(&self.path, &self.target)?,
            false => publish_new(&self.path, &self.target)?,
        }
        self.discard = false;
        sync(folder_of(&self.target))
    }

    /// Removes the file when this is dropped: what it holds is good for nothing.
    pub(crate) fn discard(&mut self) {
        self.discard = true;
    }

    /// An empty file with room for all.
    fn start(&self) -> Result<()> {
        self.file.set_len(0).context("cannot write", &self.path)?;
        self.file.set_len(self.slot_at(2)).context("cannot write", &self.path)
    }

    fn slot_at(&self, slot: u64) -> u64 {
        self.source.total.next_multiple_of(4096).saturating_add((slot % 2).saturating_mul(SLOT as u64))
    }

    /// What the newest slot says, if it speaks of this container.
    fn newest(&mut self) -> Option<Slot> {
        let slots: Vec<(u64, Slot)> =
            (0..2).filter_map(|number| Some((number, self.read_slot(self.slot_at(number))?))).collect();
        let (number, slot) = slots.into_iter().max_by_key(|(_, slot)| slot.sections)?;
        self.slots = number + 1;
        Some(slot)
    }

    fn read_slot(&self, at: u64) -> Option<Slot> {
        let mut len = [0; 8];
        self.file.read_exact_at(&mut len, at).ok()?;
        let len =
            usize::try_from(u64::from_le_bytes(len)).ok().filter(|len| *len > 0 && *len <= SLOT - 40)?;
        let mut bytes = vec![0; len + 32];
        self.file.read_exact_at(&mut bytes, at + 8).ok()?;
        let (json, sum) = bytes.split_at(len);
        if Sha256::digest(json).as_slice() != sum {
            return None;
        }
        let slot: Slot = serde_json::from_slice(json).ok()?;
        let header = self.source.header;
        let same = slot.v == 1
            && slot.data_id == header.data_id().to_string()
            && slot.commitment == hex(&header.commitment)
            && slot.total == self.source.total
            && slot.sections.saturating_mul(header.section_size() as u64) < slot.total;
        same.then_some(slot)
    }

    /// What the slot says is there, if it is.
    fn verified(&mut self, slot: &Slot) -> Option<Done> {
        let mut left = slot.sections.saturating_mul(self.source.header.section_size() as u64);
        let (mut at, mut digest, mut bytes) = (0, Sha256::new(), vec![0; 256 << 10]);
        self.saved = left;
        while left > 0 {
            let len = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            self.file.read_exact_at(&mut bytes[..len], at).ok()?;
            digest.update(&bytes[..len]);
            at += len as u64;
            left -= len as u64;
        }
        if hex(&digest.clone().finalize()) != slot.sha256 {
            self.saved = 0;
            return None;
        }
        Some(Done { sections: slot.sections, digest })
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        if self.discard {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The part file, which no other run writes. Before it was locked another one may have given it its name or removed it,
/// and what is open is then a finished file, or none.
fn locked(path: &Path, open: impl Fn(&Path) -> Result<File>) -> Result<File> {
    let is_written = || Error::conflict("another run of sidekey is writing it").at(path);
    for _ in 0..TRIES {
        let file = open(path)?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(is_written());
        }
        if leads_to(path, &file)? && file.metadata().context("cannot read", path)?.nlink() == 1 {
            return Ok(file);
        }
    }
    Err(is_written())
}

fn opened(path: &Path) -> Result<File> {
    let file = options().create(true).truncate(false).mode(0o600).open(path).map_err(|error| match error
        .raw_os_error()
    {
        Some(number) if number == rustix::io::Errno::LOOP.raw_os_error() => not_ours(path),
        _ => Error::io("cannot write", error).at(path),
    })?;
    let found = file.metadata().context("cannot read", path)?;
    let ours = found.is_file()
        && found.nlink() == 1
        && found.uid() == rustix::process::geteuid().as_raw()
        && found.mode() & 0o077 == 0;
    if ours { Ok(file) } else { Err(not_ours(path)) }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    options.read(true).write(true).custom_flags(flags.bits().cast_signed());
    options
}

/// Whether the name is still that of the open file.
fn leads_to(path: &Path, file: &File) -> Result<bool> {
    let open = file.metadata().context("cannot read", path)?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).context("cannot read", path),
    }
}

/// Removes the part file of a target, if there is one that no other run writes.
pub(crate) fn remove(target: &Path) -> Result<()> {
    let Some(path) = part_path(target) else { return Ok(()) };
    // What cannot be opened nobody writes. Held until it is removed.
    let open = options().open(&path).ok();
    if let Some(file) = &open
        && (matches!(file.try_lock(), Err(TryLockError::WouldBlock)) || !leads_to(&path, file)?)
    {
        return Ok(());
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context("cannot remove", &path)
        }
        _ => Ok(()),
    }
}

fn not_ours(path: &Path) -> Error {
    Error::conflict("is in the way: it is no part file that this user alone can write")
        .at(path)
        .hint("look at it and remove it, or do without with --no-resume")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::ErrorKind;

    fn place() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("big");
        let path = part_path(&target).unwrap();
        (folder, target, path)
    }

    /// Opens, and then does what another run may do before the file is locked.
    fn late(times: usize, between: impl Fn(&Path)) -> impl Fn(&Path) -> Result<File> {
        let left = Cell::new(times);
        move |path| {
            let file = opened(path)?;
            if left.get() > 0 {
                left.set(left.get() - 1);
                between(path);
            }
            Ok(file)
        }
    }

    #[test]
    fn a_file_that_another_run_has_published_is_not_written_to() {
        let (_folder, target, path) = place();
        opened(&path).unwrap().write_all_at(b"all of it", 0).unwrap();
        let publish = |path: &Path| std::fs::rename(path, &target).unwrap();
        let file = locked(&path, late(1, publish)).unwrap();
        file.set_len(0).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"all of it");
        assert!(leads_to(&path, &file).unwrap(), "a part file of its own");
    }

    #[test]
    fn a_file_that_has_another_name_already_is_not_written_to() {
        let (_folder, target, path) = place();
        opened(&path).unwrap();
        // As file systems publish one that know no renaming that replaces nothing, when a run dies in between.
        let link = |path: &Path| std::fs::hard_link(path, &target).unwrap();
        assert_eq!(locked(&path, late(1, link)).unwrap_err().kind(), ErrorKind::Conflict);
    }

    #[test]
    fn a_file_that_is_removed_again_and_again_is_given_up() {
        let (_folder, _, path) = place();
        let remove = |path: &Path| std::fs::remove_file(path).unwrap();
        assert!(leads_to(&path, &locked(&path, late(TRIES - 1, remove)).unwrap()).unwrap());
        let error = locked(&path, late(TRIES, remove)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
        assert!(error.line().contains("another run of sidekey is writing it"), "{error:?}");
    }

    #[test]
    fn what_another_run_writes_is_not_removed() {
        let (_folder, target, path) = place();
        let file = locked(&path, opened).unwrap();
        remove(&target).unwrap();
        assert!(leads_to(&path, &file).unwrap());
        drop(file);
        remove(&target).unwrap();
        assert!(!path.exists());
        remove(&target).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        remove(&target).unwrap();
        assert!(path.symlink_metadata().is_err(), "what is no part file was in the way");
    }
}
