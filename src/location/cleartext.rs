//! Files that the service alone encrypts, with a key that comes with every request (docs/format.md, "Cleartext under a
//! key of the customer").
//!
//! Nothing in such an object is ours: no header, no tags. What it must be stands in its envelope, sealed under the file
//! key, which the service never sees: what it is given is derived from it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::customer::derived;
use crate::crypto::derive::Derivation;
use crate::crypto::lanes::same;
use crate::format::section::End;
use crate::format::{Entry, FileType, Metadata};
use crate::id::{hex, parse_hex};
use crate::secret::FileKey;
use crate::store::CustomerKey;
use crate::vault::{Info, siv_open, siv_seal};
use crate::{DataId, Error, Result};

/// The header of an entry that commits to its file key.
const COMMITMENT: &str = "Cleartext-Commitment";
/// The header that holds the record.
const RECORD: &str = "Cleartext-Record";
/// The longest name that a record has room for, in bytes.
const LONGEST_NAME: usize = 255;

/// What such a file must be, as its writer sealed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleartext {
    /// The data id of its envelope.
    pub data_id: DataId,
    /// The key under which the service keeps it.
    pub key: CustomerKey,
    /// Its length in bytes.
    pub size: u64,
    /// The SHA-256 of it.
    pub digest: [u8; 32],
    /// Its name, time and mode, as far as they were known.
    pub metadata: Metadata,
}

impl Cleartext {
    /// The headers that say of a file, in every entry of its envelope, that it is one of these.
    pub fn headers(
        file_key: &FileKey,
        data_id: &DataId,
        metadata: &Metadata,
        size: u64,
        digest: [u8; 32],
    ) -> [(String, String); 2] {
        let derivation = Derivation::by_data_id(file_key, data_id);
        let commitment = derivation.commitment();
        let name = metadata.name.clone().filter(|name| !name.is_empty() && name.len() <= LONGEST_NAME);
        let info = Info {
            size: Some(size),
            mtime: metadata.mtime,
            mode: metadata.mode,
            kind: FileType::File,
            digest: Some(digest),
            name,
            commitment,
        };
        let record = siv_seal(&derivation.record_key(), &[&data_id.0], &info.to_bytes());
        [(COMMITMENT.into(), hex(&commitment)), (RECORD.into(), URL_SAFE_NO_PAD.encode(record))]
    }

    /// Whether an entry says that its file is one of these.
    pub fn is_marked(entry: &Entry) -> bool {
        entry.extra.iter().any(|(name, _)| name == RECORD || name == COMMITMENT)
    }

    /// What the entry that this file key came from says.
    ///
    /// # Errors
    /// `Integrity` when the file key is not the one that it commits to, or did not seal its record.
    pub fn open(entry: &Entry, file_key: &FileKey) -> Result<Self> {
        let find = |wanted: &str| {
            let found = entry.extra.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
            found.ok_or_else(|| Error::integrity(format!("its envelope has no header {wanted}")))
        };
        let (commitment, record) = (find(COMMITMENT)?, find(RECORD)?);
        let derivation = Derivation::by_data_id(file_key, &entry.data_id);
        let wanted = derivation.commitment();
        if !parse_hex::<32>(commitment.as_bytes()).is_some_and(|said| same(&said, &wanted)) {
            return Err(Error::integrity("its envelope does not commit to the key in it")
                .hint("the envelope is damaged, or somebody planted the entry"));
        }
        let info = URL_SAFE_NO_PAD
            .decode(record)
            .ok()
            .and_then(|record| siv_open(&derivation.record_key(), &[&entry.data_id.0], &record))
            .and_then(|plain| Info::from_bytes(&plain))
            .filter(|info| info.kind == FileType::File && same(&info.commitment, &wanted));
        let damaged = || {
            Error::integrity("the record of it in its envelope is damaged")
                .hint("restore an older version of the .key.enc file")
        };
        let info = info.ok_or_else(damaged)?;
        let (Some(size), Some(digest)) = (info.size, info.digest) else { return Err(damaged()) };
        let mut metadata = Metadata::new(FileType::File);
        (metadata.name, metadata.mtime, metadata.mode) = (info.name, info.mtime, info.mode);
        Ok(Self { data_id: entry.data_id, key: derived(file_key, &entry.data_id), size, digest, metadata })
    }

    /// Whether it is under the key that this secret gives.
    pub(super) fn is_opened_by(&self, secret: &[u8]) -> bool {
        let secret = <&[u8; 32]>::try_from(secret).ok();
        secret.is_some_and(|secret| derived(&FileKey::from_bytes(secret), &self.data_id) == self.key)
    }

    /// Its length and digest, as the end section of a container holds them.
    pub fn end(&self) -> End {
        End { total: self.size, digest: Some(self.digest) }
    }

    /// Whether an object of this length can be it.
    ///
    /// # Errors
    /// `Integrity` when it cannot.
    pub fn check_size(&self, size: u64) -> Result<()> {
        match size == self.size {
            true => Ok(()),
            false => {
                Err(Error::integrity(format!("is {size} bytes long, but its writer stored {}", self.size))
                    .hint("it was cut, or replaced without sidekey; restore an older version"))
            }
        }
    }

    /// Whether these bytes' SHA-256 is the one that was sealed.
    ///
    /// # Errors
    /// `Integrity` when it is not.
    pub fn check_digest(&self, digest: &[u8; 32]) -> Result<()> {
        match same(digest, &self.digest) {
            true => Ok(()),
            false => Err(Error::integrity("does not have the SHA-256 that its envelope holds")
                .hint("it is damaged, or was replaced without sidekey; restore an older version")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::KeyId;
    use crate::format::Wrap;

    const ID: DataId = DataId([5; 16]);

    fn key(seed: u8) -> FileKey {
        FileKey::from_bytes(&[seed; 32])
    }

    fn metadata(name: &[u8]) -> Metadata {
        Metadata {
            name: Some(name.into()),
            mtime: Some(-5),
            mode: Some(0o640),
            ..Metadata::new(FileType::File)
        }
    }

    fn entry(data_id: DataId, extra: impl Into<Vec<(String, String)>>) -> Entry {
        let (recipient, wrap) = (KeyId([1; 32]), Wrap::RsaOaepSha256);
        Entry { data_id, recipient, wrap, created: None, extra: extra.into(), body: vec![] }
    }

    fn headers() -> Vec<(String, String)> {
        Cleartext::headers(&key(9), &ID, &metadata(b"a name"), 1 << 40, [7; 32]).into()
    }

    #[test]
    fn what_was_sealed_comes_back() {
        let opened = Cleartext::open(&entry(ID, headers()), &key(9)).unwrap();
        assert_eq!((opened.data_id, opened.size, opened.digest), (ID, 1 << 40, [7; 32]));
        assert_eq!(opened.metadata, metadata(b"a name"));
        assert_eq!(opened.end(), End { total: 1 << 40, digest: Some([7; 32]) });
        assert!(
            opened.is_opened_by(&[9; 32]) && !opened.is_opened_by(&[8; 32]) && !opened.is_opened_by(&[9; 31])
        );
        opened.check_size(1 << 40).unwrap();
        opened.check_digest(&[7; 32]).unwrap();
        for error in [opened.check_size(5).unwrap_err(), opened.check_digest(&[8; 32]).unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Integrity);
        }
    }

    #[test]
    fn names_that_do_not_fit_are_left_out() {
        for (name, kept) in [(vec![b'x'; 255], true), (vec![b'x'; 256], false), (vec![], false)] {
            let headers = Cleartext::headers(&key(9), &ID, &metadata(&name), 0, [0; 32]);
            let opened = Cleartext::open(&entry(ID, headers), &key(9)).unwrap();
            assert_eq!(opened.metadata.name, kept.then_some(name));
        }
    }

    #[test]
    fn what_the_file_key_did_not_seal_is_refused() {
        let good = headers();
        let other = |at: usize| if &good[1].1[at..=at] == "A" { "B" } else { "A" };
        let mut changed = good.clone();
        changed[1].1.replace_range(30..=30, other(30));
        let mut upper = good.clone();
        upper[0].1.make_ascii_uppercase();
        let mut longer = good.clone();
        longer[1].1.push('A');
        for (what, entry, key) in [
            ("another key", entry(ID, good.clone()), key(8)),
            ("another data id", entry(DataId([6; 16]), good.clone()), key(9)),
            ("a changed record", entry(ID, changed), key(9)),
            ("a longer record", entry(ID, longer), key(9)),
            ("a commitment in other letters", entry(ID, upper), key(9)),
            ("no record", entry(ID, good[..1].to_vec()), key(9)),
            ("no commitment", entry(ID, good[1..].to_vec()), key(9)),
        ] {
            assert!(Cleartext::is_marked(&entry), "{what}");
            assert_eq!(Cleartext::open(&entry, &key).unwrap_err().kind(), ErrorKind::Integrity, "{what}");
        }
        assert!(!Cleartext::is_marked(&entry(ID, [("Recipe-Kdf".into(), "md5".into())])));
    }
}
