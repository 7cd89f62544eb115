//! Names in a vault (docs/format.md, "Encrypted names"): each segment by itself, with the stored path of its folder as
//! associated data. So folders stay folders, equal names in different folders look different, and a name that was moved
//! to another folder is not read there.
//!
//! What is encrypted are the bytes of the name as they are, without normalisation. A folder's own metadata is the name
//! `.folder`; a file that is called so, with any number of `~` behind it, gets one more.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::sync::PoisonError;

use super::{NamesMode, Vault, hmac_of, siv_open, siv_seal};
use crate::name::{self, ObjectName};
use crate::{Error, Result};

/// The longest segment that is kept in the object's own name, in bytes: with the suffix of an envelope it makes a segment
/// of 250 bytes, the most that Backblaze B2 takes. It is the same for every store, so that a vault can be copied.
pub const LONGEST: usize = 152;
/// The longest name that a file can have, in bytes.
pub const MOST: usize = 255;

const CONTAINER: &str = ".enc";
const FOLDER: &[u8] = b".folder";
/// What a long name is padded to before it is encrypted, so that its length is not seen.
const PADDED: usize = 256;

/// A long name, as it is kept apart from the object: where, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LongName {
    /// Its segment: `h` and 43 characters.
    pub segment: String,
    /// The record that holds the name, encrypted.
    pub record: Vec<u8>,
}

impl Vault {
    /// The stored name of the container of `name`.
    pub fn stored(&self, name: &ObjectName) -> String {
        if self.names == NamesMode::Plain {
            return name.container();
        }
        let (folders, last) = match (name.is_folder(), name.segments().split_last()) {
            (false, Some((last, folders))) => (folders, escape(last)),
            _ => (name.segments(), FOLDER.to_vec()),
        };
        let mut stored = self.stored_folder(folders);
        let segment = self.segment(stored.strip_suffix('/').unwrap_or_default(), &last);
        stored.push_str(&segment);
        stored + CONTAINER
    }

    /// What the stored names of everything below a folder begin with: nothing for the root, else a `/` at its end.
    pub fn stored_folder<S: AsRef<[u8]>>(&self, path: &[S]) -> String {
        if self.names == NamesMode::Plain {
            return path.iter().map(|segment| name::stored_folder(segment.as_ref()) + "/").collect();
        }
        if let Ok(last) = self.last_stored.read()
            && last.0.iter().map(Vec::as_slice).eq(path.iter().map(AsRef::as_ref))
        {
            return last.1.clone();
        }
        let mut stored = String::new();
        for segment in path {
            let segment = self.segment(stored.strip_suffix('/').unwrap_or_default(), segment.as_ref());
            stored.push_str(&segment);
            stored.push('/');
        }
        if let Ok(mut last) = self.last_stored.write() {
            *last = (path.iter().map(|segment| segment.as_ref().to_vec()).collect(), stored.clone());
        }
        stored
    }

    /// Reads the stored name of a container; nothing when it is none of this vault, or a long name that was not
    /// [learned](Self::learn).
    pub fn parse(&self, stored: &str) -> Option<ObjectName> {
        if self.names == NamesMode::Plain {
            return ObjectName::parse(stored);
        }
        let (folder, last) = stored.rsplit_once('/').unwrap_or(("", stored));
        let mut segments = self.same_folder(folder)?;
        let last = self.plain_segment(folder, last.strip_suffix(CONTAINER)?)?;
        if last == FOLDER {
            return ObjectName::folder(&segments).ok();
        }
        segments.push(unescape(last));
        ObjectName::file(&segments).ok()
    }

    /// As [`Self::plain_folder`], which is not asked again for the folder of the name before.
    fn same_folder(&self, stored: &str) -> Option<Vec<Vec<u8>>> {
        if let Ok(last) = self.last_folder.read()
            && last.0 == stored
        {
            return Some(last.1.clone());
        }
        let plain = self.plain_folder(stored)?;
        if let Ok(mut last) = self.last_folder.write() {
            *last = (stored.to_owned(), plain.clone());
        }
        Some(plain)
    }

    /// The plain path of a stored folder, with or without the `/` at its end; nothing where [`Self::parse`] gives none.
    pub fn plain_folder(&self, stored: &str) -> Option<Vec<Vec<u8>>> {
        let stored = stored.strip_suffix('/').unwrap_or(stored);
        let mut segments = vec![];
        let mut at = 0;
        while at < stored.len() {
            let rest = stored.get(at..)?;
            let segment = rest.split('/').next()?;
            segments.push(match self.names {
                NamesMode::Plain => name::plain_folder(segment.as_bytes()),
                NamesMode::Encrypted => self.plain_segment(stored.get(..at.saturating_sub(1))?, segment)?,
            });
            at = at.saturating_add(segment.len()).saturating_add(1);
        }
        Some(segments)
    }

    /// The folder and the segment of each long name in the stored name of a container, envelope or folder that is not yet
    /// known, the outermost first.
    pub fn unknown<'s>(&self, stored: &'s str) -> Vec<(&'s str, &'s str)> {
        let mut unknown = vec![];
        if self.names == NamesMode::Plain {
            return unknown;
        }
        let mut at = 0;
        for segment in stored.split('/') {
            let folder = stored.get(..at).and_then(|path| path.strip_suffix('/')).unwrap_or_default();
            at = at.saturating_add(segment.len()).saturating_add(1);
            let bare = segment.split('.').next().unwrap_or_default();
            if is_long(bare) && self.learned(bare).is_none() {
                unknown.push((folder, bare));
            }
        }
        unknown
    }

    /// The long names in the path of `name`, to be kept where readers find them; known from now on.
    pub fn long_names(&self, name: &ObjectName) -> Vec<LongName> {
        // One tilde more makes none of these long.
        let none = name.segments().iter().all(|segment| segment.len() < LONGEST);
        if self.names == NamesMode::Plain || none {
            return vec![];
        }
        let mut long = vec![];
        let mut folder = String::new();
        for (at, plain) in name.segments().iter().enumerate() {
            let last = !name.is_folder() && at.saturating_add(1) == name.segments().len();
            let plain = if last { escape(plain) } else { plain.clone() };
            let within = folder.strip_suffix('/').unwrap_or_default();
            let segment = self.segment(within, &plain);
            if is_long(&segment) {
                let mut padded = plain;
                padded.resize(PADDED.max(padded.len()), 0);
                let record = siv_seal(&self.names_key, &[within.as_bytes()], &padded);
                long.push(LongName { segment: segment.clone(), record });
            }
            folder.push_str(&segment);
            folder.push('/');
        }
        long
    }

    /// Reads the record of a long name, and knows it from now on.
    ///
    /// # Errors
    /// `Integrity` when the record is not that of this name.
    pub fn learn(&self, folder: &str, segment: &str, record: &[u8]) -> Result<()> {
        let plain = siv_open(&self.names_key, &[folder.as_bytes()], record);
        self.learn_plain(folder, segment, &plain.as_deref().map(unpadded).unwrap_or_default())
    }

    /// The same of a name that an info record tells.
    ///
    /// # Errors
    /// `Integrity` when it is not the name that the segment stands for.
    pub fn learn_plain(&self, folder: &str, segment: &str, plain: &[u8]) -> Result<()> {
        if plain.is_empty() || self.segment(folder, plain) != segment {
            return Err(Error::integrity("the record of a long name is not that of this vault and folder")
                .about(segment)
                .hint("it was damaged or replaced; get and restore still find the object by its name"));
        }
        Ok(())
    }

    /// Holds a record that was read before it is known in which folder its name is.
    pub(crate) fn hold(&self, segment: &str, record: Vec<u8>) {
        self.ahead.write().unwrap_or_else(PoisonError::into_inner).insert(segment.to_owned(), record);
    }

    /// Takes a record that was held.
    pub(crate) fn held(&self, segment: &str) -> Option<Vec<u8>> {
        self.ahead.write().unwrap_or_else(PoisonError::into_inner).remove(segment)
    }

    /// Notes that the record of a long name stands in the store.
    pub(crate) fn keep(&self, segment: &str) {
        self.kept.write().unwrap_or_else(PoisonError::into_inner).insert(segment.to_owned());
    }

    /// Whether that was noted.
    pub(crate) fn is_kept(&self, segment: &str) -> bool {
        self.kept.read().unwrap_or_else(PoisonError::into_inner).contains(segment)
    }

    /// Whether the stored name of a container or folder ends in a long name's segment.
    pub fn ends_long(&self, stored: &str) -> bool {
        let last = stored.strip_suffix('/').unwrap_or(stored).rsplit('/').next().unwrap_or_default();
        self.names == NamesMode::Encrypted && is_long(last.split('.').next().unwrap_or_default())
    }

    /// Whether files can have these names at all.
    ///
    /// # Errors
    /// `Input` for a segment of more than 255 bytes.
    pub fn check(&self, name: &ObjectName) -> Result<()> {
        match name.segments().iter().find(|segment| segment.len() > MOST) {
            Some(segment) if self.names == NamesMode::Encrypted => {
                Err(Error::input(format!("a name of {} bytes is longer than any file's", segment.len()))
                    .hint(format!("names have {MOST} bytes at the most")))
            }
            _ => Ok(()),
        }
    }

    /// The stored form of one segment in the stored folder `folder` (without a `/` at its end). A long one is known from
    /// now on.
    fn segment(&self, folder: &str, plain: &[u8]) -> String {
        if plain.len() <= LONGEST {
            let sealed = siv_seal(&self.names_key, &[folder.as_bytes()], plain);
            return format!("s{}", URL_SAFE_NO_PAD.encode(sealed));
        }
        let tag = hmac_of(&self.long_key, &[folder.as_bytes(), &[0], plain]);
        let segment = format!("h{}", URL_SAFE_NO_PAD.encode(tag));
        let mut long = self.long.write().unwrap_or_else(PoisonError::into_inner);
        long.entry(segment.clone()).or_insert_with(|| plain.to_vec());
        segment
    }

    fn plain_segment(&self, folder: &str, stored: &str) -> Option<Vec<u8>> {
        if is_long(stored) {
            return self.learned(stored).filter(|plain| self.segment(folder, plain) == stored);
        }
        let sealed = URL_SAFE_NO_PAD.decode(stored.strip_prefix('s')?).ok()?;
        let plain = siv_open(&self.names_key, &[folder.as_bytes()], &sealed)?;
        (plain.len() <= LONGEST).then_some(plain)
    }

    fn learned(&self, segment: &str) -> Option<Vec<u8>> {
        self.long.read().unwrap_or_else(PoisonError::into_inner).get(segment).cloned()
    }
}

/// Whether a segment is one of a long name: `h` and the 43 characters of an HMAC.
pub fn is_long(segment: &str) -> bool {
    segment.len() == 44 && segment.starts_with('h') && is_base64url(segment)
}

/// Whether the stored segment of a folder, container or envelope can be an encrypted one; whose, says only its key.
pub fn is_encrypted(segment: &str) -> bool {
    let bare = segment.split('.').next().unwrap_or_default();
    // A tag of 16 bytes and one byte of a name at the least.
    let is_short = bare.len() >= 24 && bare.len() % 4 != 2 && bare.starts_with('s') && is_base64url(bare);
    is_short || is_long(bare)
}

fn is_base64url(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// A file's own name, told from that of its folder's metadata.
fn escape(plain: &[u8]) -> Vec<u8> {
    let mut escaped = plain.to_vec();
    if without_tildes(plain) == FOLDER {
        escaped.push(b'~');
    }
    escaped
}

/// The reverse of [`escape`].
fn unescape(mut stored: Vec<u8>) -> Vec<u8> {
    if without_tildes(&stored) == FOLDER {
        stored.pop();
    }
    stored
}

fn without_tildes(name: &[u8]) -> &[u8] {
    name.get(..name.iter().rposition(|byte| *byte != b'~').map_or(0, |last| last.saturating_add(1)))
        .unwrap_or_default()
}

/// A long name without its padding.
pub(super) fn unpadded(padded: &[u8]) -> Vec<u8> {
    let end = padded.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
    padded.get(..end).unwrap_or_default().to_vec()
}

/// A long name with its padding.
pub(super) fn padded(plain: &[u8]) -> Vec<u8> {
    let mut padded = plain.to_vec();
    padded.resize(PADDED.max(plain.len()), 0);
    padded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ErrorKind;
    use crate::secret::MasterKey;
    use crate::vault::VaultId;

    fn vault() -> Vault {
        Vault::new(&MasterKey::from_bytes(&[9; 32]), VaultId([3; 16]), 1, NamesMode::Encrypted)
    }

    fn file(segments: &[&[u8]]) -> ObjectName {
        ObjectName::file(segments).unwrap()
    }

    #[test]
    fn folders_stay_folders_and_equal_names_differ_by_folder() {
        let vault = vault();
        let stored = vault.stored(&file(&[b"a", b"x"]));
        assert!(stored.starts_with(&vault.stored_folder(&["a"])), "{stored}");
        assert_ne!(vault.stored_folder(&["a", "a"]).split('/').nth(1), stored.split('/').next());
        let (folder, last) = stored.split_once('/').unwrap();
        assert!(vault.parse(last).is_none() && vault.parse(&stored).is_some());
        assert!(vault.parse(&format!("{folder}x/{last}")).is_none());
        // The file `a` and the folder `a` are one name.
        assert_eq!(vault.stored(&file(&[b"a"])), format!("{folder}.enc"));
    }

    #[test]
    fn the_folder_before_is_taken_for_no_other() {
        let one = vault();
        let long = vec![b'l'; 200];
        let paths: [&[&[u8]]; 7] =
            [&[b"a"], &[b"a", b"b"], &[], &[b"ab"], &[b"a", b"b"], &[&long, b"b"], &[&long, b"b"]];
        for path in paths {
            assert_eq!(one.stored_folder(path), vault().stored_folder(path), "{path:?}");
            let name = file(&[path, &[b"x"]].concat());
            assert_eq!(one.stored(&name), vault().stored(&name));
            assert_eq!(one.long_names(&name), vault().long_names(&name));
        }
    }

    #[test]
    fn names_are_kept_byte_for_byte() {
        let vault = vault();
        // U+00E9, and e with U+0301.
        let (composed, decomposed) = (file(&[b"caf\xc3\xa9"]), file(&[b"cafe\xcc\x81"]));
        assert_ne!(vault.stored(&composed), vault.stored(&decomposed));
        for name in [composed, decomposed] {
            assert_eq!(vault.parse(&vault.stored(&name)), Some(name));
        }
    }

    #[test]
    fn a_folders_metadata_and_a_file_called_so_differ() {
        let vault = vault();
        for name in [
            ObjectName::folder(&["a"]).unwrap(),
            ObjectName::folder::<&str>(&[]).unwrap(),
            file(&[b"a", b".folder"]),
            file(&[b".folder~~"]),
            file(&[b".folder", b"x"]),
            file(&[b"x.key"]),
            file(&[b"x.enc"]),
        ] {
            let stored = vault.stored(&name);
            assert!(!stored.contains("folder") && !stored.contains("key"), "{stored}");
            assert_eq!(vault.parse(&stored), Some(name));
        }
    }

    #[test]
    fn every_length_and_every_byte_comes_back() {
        for length in 1..=MOST {
            let name: Vec<u8> = (0..length).map(|at| [b'a', 0xff, b'~', 1][at % 4]).collect();
            let name = file(&[b"folder", &name]);
            let stored = vault().stored(&name);
            let last = stored.rsplit('/').next().unwrap();
            assert!(last.len() + ".0123456789abcdef.key".len() <= 250, "{length}: {}", last.len());
            let reader = vault();
            for LongName { segment, record } in vault().long_names(&name) {
                let unknown = reader.unknown(&stored);
                assert_eq!(unknown, [(stored.split('/').next().unwrap(), segment.as_str())]);
                assert_eq!(reader.parse(&stored), None);
                assert_eq!(record.len(), 272);
                reader.learn(unknown[0].0, &segment, &record).unwrap();
            }
            assert_eq!(reader.parse(&stored), Some(name), "{length}");
        }
        for byte in (1..=255u8).filter(|byte| *byte != b'/') {
            for name in [vec![byte; 3], [vec![b'x'; 200], vec![byte]].concat()] {
                let vault = vault();
                let name = file(&[&name]);
                assert_eq!(vault.parse(&vault.stored(&name)), Some(name), "{byte}");
            }
        }
    }

    #[test]
    fn the_record_of_another_name_is_refused() {
        let (long, other) = (vec![b'l'; 200], vec![b'o'; 200]);
        let names = [file(&[b"a", &long]), file(&[b"a", &other]), file(&[b"b", &long])];
        let [right, other, elsewhere] = names.map(|name| vault().long_names(&name).remove(0));
        let folder = vault().stored_folder(&["a"]);
        let folder = folder.trim_end_matches('/');
        let reader = vault();
        for wrong in [&other.record[..], &elsewhere.record, &right.record[1..], b""] {
            let error = reader.learn(folder, &right.segment, wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Integrity);
        }
        let stored = format!("{folder}/{}.enc", right.segment);
        assert_eq!(reader.parse(&stored), None);
        reader.learn(folder, &right.segment, &right.record).unwrap();
        assert!(reader.parse(&stored).is_some());
        // Known in its folder alone.
        assert_eq!(reader.parse(&format!("{}.enc", right.segment)), None);
    }

    #[test]
    fn plain_names_stay_as_they_are() {
        let vault = Vault::new(&MasterKey::from_bytes(&[9; 32]), VaultId([3; 16]), 1, NamesMode::Plain);
        let name = file(&[b"a.enc", b"x.key"]);
        assert_eq!(vault.stored(&name), "a.enc~/x.key~.enc");
        assert_eq!(vault.parse("a.enc~/x.key~.enc"), Some(name));
        assert_eq!(vault.stored_folder(&["a.enc"]), "a.enc~/");
        assert_eq!(vault.plain_folder("a.enc~/"), Some(vec![b"a.enc".to_vec()]));
    }

    fn segment() -> impl Strategy<Value = Vec<u8>> {
        let byte = (1..=255u8).prop_filter("no slash", |byte| *byte != b'/');
        proptest::collection::vec(byte, 1..=MOST).prop_filter("no dots", |name| name != b"." && name != b"..")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn any_path_comes_back(path in proptest::collection::vec(segment(), 1..5), is_folder: bool) {
            let vault = vault();
            let name = if is_folder { ObjectName::folder(&path) } else { ObjectName::file(&path) }.unwrap();
            let stored = vault.stored(&name);
            prop_assert!(stored.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_/.".contains(&byte)));
            prop_assert_eq!(vault.parse(&stored), Some(name));
            prop_assert_eq!(vault.plain_folder(&vault.stored_folder(&path)), Some(path));
        }

        #[test]
        fn what_is_not_ours_is_no_name(stored in "[sh][A-Za-z0-9_-]{20,60}\\.enc") {
            prop_assert_eq!(vault().parse(&stored), None);
        }
    }
}
