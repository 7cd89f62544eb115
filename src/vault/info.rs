//! Info records (docs/format.md, "Info records"): what a listing tells of an object, bound to the vault, to its stored name
//! and to its data id, and holding the commitment of its container. Without a valid one an object is not of the vault.

use super::{Vault, names, siv_open, siv_seal};
use crate::format::FileType;
use crate::{DataId, Error, Result};

/// Under this name the objects of stores whose listings return it hold the info record, in base64url.
pub const INFO_INFO: &str = "sidekey-record";

const VERSION: u8 = 1;
/// The length of the fields before the name.
const FIXED: usize = 128;
const SIZE: u8 = 1;
const MTIME: u8 = 2;
const MODE: u8 = 4;
const DIGEST: u8 = 8;
const KNOWN: u8 = SIZE | MTIME | MODE | DIGEST;
const CONTAINER: &str = ".enc";

/// What is known of an object without its container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The length of the file in bytes; nothing where it was not known before the upload (pipes).
    pub size: Option<u64>,
    /// Nanoseconds since 1970, may be negative.
    pub mtime: Option<i128>,
    /// Permission bits, without the type.
    pub mode: Option<u32>,
    /// What it restores to.
    pub kind: FileType,
    /// The SHA-256 of the file, where it was known before the upload.
    pub digest: Option<[u8; 32]>,
    /// The whole last segment of a long name.
    pub name: Option<Vec<u8>>,
    /// The key commitment of the container: this record is of no other.
    pub commitment: [u8; 32],
}

impl Vault {
    /// The record of the container with this stored name and data id.
    pub fn seal_info(&self, stored: &str, data_id: &DataId, info: &Info) -> Vec<u8> {
        let name = stored.strip_suffix(CONTAINER).unwrap_or(stored);
        let data: [&[u8]; 3] = [&self.id.0, name.as_bytes(), &data_id.0];
        let mut record = vec![self.generation];
        record.extend(siv_seal(&self.info_key, &data, &info.to_bytes()));
        record
    }

    /// Reads the record of the container with this stored name and data id.
    ///
    /// # Errors
    /// `Integrity` when it is not of this vault, this name and this data id, or not of a form that this version knows.
    pub fn open_info(&self, stored: &str, data_id: &DataId, record: &[u8]) -> Result<Info> {
        let name = stored.strip_suffix(CONTAINER).unwrap_or(stored);
        let data: [&[u8]; 3] = [&self.id.0, name.as_bytes(), &data_id.0];
        let plain = match record.split_first() {
            Some((generation, sealed)) if *generation == self.generation => {
                siv_open(&self.info_key, &data, sealed)
            }
            Some((generation, _)) => {
                return Err(Error::integrity(format!(
                    "its info record is of generation {generation} of the vault's master key, not of {}",
                    self.generation
                ))
                .hint("the vault got a new master key meanwhile, or an old record was put back"));
            }
            None => None,
        };
        let plain = plain.ok_or_else(|| {
            Error::integrity("its info record is not of this vault and this name")
                .hint("the object was swapped with another, planted, or brought from another vault")
        })?;
        Info::from_bytes(&plain)
            .ok_or_else(|| Error::integrity("its info record is of a form that this version does not know"))
    }
}

impl Info {
    /// The plaintext of a record.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let known = [
            (self.size.is_some(), SIZE),
            (self.mtime.is_some(), MTIME),
            (self.mode.is_some(), MODE),
            (self.digest.is_some(), DIGEST),
        ];
        let known = known.iter().filter(|(is_known, _)| *is_known).fold(0, |all, (_, bit)| all | bit);
        let mut bytes = Vec::with_capacity(FIXED);
        bytes.extend([VERSION, kind_byte(self.kind), known, 0]);
        bytes.extend((self.mode.unwrap_or(0) & 0o7777).to_le_bytes());
        bytes.extend(self.size.unwrap_or(0).to_le_bytes());
        bytes.extend(self.mtime.unwrap_or(0).to_le_bytes());
        bytes.extend(self.digest.unwrap_or_default());
        bytes.extend(self.commitment);
        // Room for what comes, so that all records without a long name have one length.
        bytes.resize(FIXED, 0);
        if let Some(name) = &self.name {
            bytes.extend(names::padded(name));
        }
        bytes
    }

    /// The reverse; nothing for another form.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (fixed, name) = bytes.split_at_checked(FIXED)?;
        let &[VERSION, kind, known, 0] = fixed.get(..4)? else { return None };
        let has = |bit: u8| known & bit != 0;
        let mode = u32::from_le_bytes(field(fixed, 4)?);
        let size = u64::from_le_bytes(field(fixed, 8)?);
        let mtime = i128::from_le_bytes(field(fixed, 16)?);
        let digest: [u8; 32] = field(fixed, 32)?;
        let commitment = field(fixed, 64)?;
        let rest: [u8; FIXED - 96] = field(fixed, 96)?;
        let unused = [
            known & !KNOWN != 0,
            mode > 0o7777 || (mode != 0 && !has(MODE)),
            size != 0 && !has(SIZE),
            mtime != 0 && !has(MTIME),
            digest != [0; 32] && !has(DIGEST),
            rest != [0; FIXED - 96],
        ];
        if unused.contains(&true) {
            return None;
        }
        let name = match name.len() {
            0 => None,
            _ => Some(names::unpadded(name)).filter(|plain| names::padded(plain) == name).map(Some)?,
        };
        Some(Self {
            size: has(SIZE).then_some(size),
            mtime: has(MTIME).then_some(mtime),
            mode: has(MODE).then_some(mode),
            kind: kind_of(kind)?,
            digest: has(DIGEST).then_some(digest),
            name,
            commitment,
        })
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn kind_byte(kind: FileType) -> u8 {
    match kind {
        FileType::File => 0,
        FileType::Dir => 1,
        FileType::Symlink => 2,
    }
}

fn kind_of(byte: u8) -> Option<FileType> {
    [FileType::File, FileType::Dir, FileType::Symlink].get(usize::from(byte)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::secret::MasterKey;
    use crate::vault::{NamesMode, VaultId};

    const ID: DataId = DataId([5; 16]);

    fn vault(id: u8, generation: u8) -> Vault {
        let master = MasterKey::from_bytes(&[9; 32]);
        Vault::new(&master, VaultId([id; 16]), generation, NamesMode::Encrypted)
    }

    fn info() -> Info {
        Info {
            size: Some(12),
            mtime: Some(-1),
            mode: Some(0o644),
            kind: FileType::File,
            digest: Some([2; 32]),
            name: None,
            commitment: [3; 32],
        }
    }

    #[test]
    fn every_form_comes_back() {
        let bare = Info { size: None, mtime: None, mode: None, digest: None, ..info() };
        let long = Info { name: Some(vec![0xff; 255]), kind: FileType::Dir, ..info() };
        let zero = Info { size: Some(0), mtime: Some(0), mode: Some(0), digest: Some([0; 32]), ..info() };
        for (info, len) in [(info(), 145), (bare, 145), (long, 401), (zero, 145)] {
            let record = vault(1, 1).seal_info("a/x.enc", &ID, &info);
            assert_eq!(record.len(), len);
            assert_eq!(vault(1, 1).open_info("a/x.enc", &ID, &record).unwrap(), info);
            // The record is of the name, with or without the container's suffix.
            assert_eq!(vault(1, 1).open_info("a/x", &ID, &record).unwrap(), info);
        }
    }

    #[test]
    fn a_record_is_of_one_vault_name_and_data_id() {
        let record = vault(1, 1).seal_info("a/x.enc", &ID, &info());
        let mut changed = record.clone();
        changed[40] ^= 1;
        for (vault, stored, id, record) in [
            (vault(2, 1), "a/x.enc", ID, &record[..]),
            (vault(1, 2), "a/x.enc", ID, &record),
            (vault(1, 1), "a/y.enc", ID, &record),
            (vault(1, 1), "x.enc", ID, &record),
            (vault(1, 1), "a/x.enc", DataId([6; 16]), &record),
            (vault(1, 1), "a/x.enc", ID, &changed),
            (vault(1, 1), "a/x.enc", ID, &record[..20]),
            (vault(1, 1), "a/x.enc", ID, &[]),
        ] {
            let error = vault.open_info(stored, &id, record).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Integrity);
        }
    }

    #[test]
    fn what_is_not_canonical_is_refused() {
        let good = info().to_bytes();
        assert!(Info::from_bytes(&good).is_some());
        for (at, value) in [(0, 2), (1, 3), (2, 16), (2, 14), (3, 1), (5, 0x10), (100, 1)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(Info::from_bytes(&bad), None, "{at}");
        }
        assert_eq!(Info::from_bytes(&good[..127]), None);
        assert_eq!(Info::from_bytes(&[&good[..], b"short"].concat()), None);
    }
}
