//! How files are named once encrypted (docs/format.md, "Names"): injective, and no container is ever called like an
//! envelope.
//!
//! Names are parsed once. What comes back from [`ObjectName::parse`] can be given to a file system: no segment is
//! empty, `.` or `..`, or holds a slash or a NUL.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::{DataId, Error, Result};

const CONTAINER: &str = ".enc";
const ENVELOPE: &str = ".key.enc";
const FOLDER: &str = ".folder";
const BASE64: &str = "%b64~";

/// A plain file or folder, and the name of its container relative to the root of what is stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// The plain path's segments, raw; a folder's own metadata has the folder's path.
    segments: Vec<Vec<u8>>,
    is_folder: bool,
}

impl ObjectName {
    /// The file with this path, segment by segment.
    ///
    /// # Errors
    /// `Input` when a segment could not be a file's name.
    pub fn file<S: AsRef<[u8]>>(segments: &[S]) -> Result<Self> {
        Self::new(segments, false)
    }

    /// The folder with this path; the empty path is the root.
    ///
    /// # Errors
    /// `Input` when a segment could not be a file's name.
    pub fn folder<S: AsRef<[u8]>>(segments: &[S]) -> Result<Self> {
        Self::new(segments, true)
    }

    fn new<S: AsRef<[u8]>>(segments: &[S], is_folder: bool) -> Result<Self> {
        let segments: Vec<Vec<u8>> = segments.iter().map(|segment| segment.as_ref().to_vec()).collect();
        if !segments.iter().all(|segment| is_segment(segment)) || (segments.is_empty() && !is_folder) {
            return Err(Error::input("is not a name that a file can have"));
        }
        Ok(Self { segments, is_folder })
    }

    /// Reads the name of a container relative to the root; nothing when no file of ours has that name.
    pub fn parse(stored: &str) -> Option<Self> {
        let (folders, last) = match stored.rsplit_once('/') {
            Some((folders, last)) => (Some(folders), last),
            None => (None, stored),
        };
        let mut segments = Vec::new();
        for folder in folders.into_iter().flat_map(|folders| folders.split('/')) {
            segments.push(decode_segment(folder_segment(folder)?)?);
        }
        let last = last.strip_suffix(CONTAINER)?;
        let last = strip_tilde(last, |bare| bare.ends_with(".key"))?;
        if last == FOLDER {
            return Some(Self { segments, is_folder: true });
        }
        let last = strip_tilde(last, |bare| bare == FOLDER)?;
        segments.push(decode_segment(last)?);
        Some(Self { segments, is_folder: false })
    }

    /// The plain path's segments, raw.
    pub fn segments(&self) -> &[Vec<u8>] {
        &self.segments
    }

    /// Whether it is the metadata of a folder.
    pub fn is_folder(&self) -> bool {
        self.is_folder
    }

    /// The name of the container, `/` between segments.
    pub fn container(&self) -> String {
        let (folders, last) = match (self.is_folder, self.segments.split_last()) {
            (false, Some((last, folders))) => (
                folders,
                add_tilde(add_tilde(encode_segment(last), |bare| bare == FOLDER), |bare| {
                    bare.ends_with(".key")
                }),
            ),
            _ => (self.segments.as_slice(), FOLDER.to_owned()),
        };
        let mut stored: Vec<String> = folders.iter().map(|folder| stored_folder(folder)).collect();
        stored.push(last + CONTAINER);
        stored.join("/")
    }
}

/// The stored name of one folder segment.
pub fn stored_folder(segment: &[u8]) -> String {
    add_tilde(encode_segment(segment), |bare| bare.ends_with(CONTAINER))
}

/// The plain name of one stored folder segment. One that is not in our form stays as it is: a tree that was encrypted
/// beside its sources has its folders' own names.
pub fn plain_folder(stored: &[u8]) -> Vec<u8> {
    let decoded = std::str::from_utf8(stored).ok().and_then(folder_segment).and_then(decode_segment);
    decoded.unwrap_or_else(|| stored.to_vec())
}

/// The name of the envelope beside a container: with the data id as in a location, without as `encrypt` makes it.
pub fn envelope_name(container: &str, data_id: Option<&DataId>) -> Option<String> {
    let bare = container.strip_suffix(CONTAINER)?;
    Some(match data_id {
        Some(data_id) => format!("{bare}.{}{ENVELOPE}", data_id.short()),
        None => format!("{bare}{ENVELOPE}"),
    })
}

/// The names of the containers that an envelope of this name may belong to, the likelier first; none when it is not
/// an envelope's name.
pub fn containers_of(envelope: &str) -> Vec<String> {
    let Some(bare) = envelope.strip_suffix(ENVELOPE) else { return vec![] };
    let named = |bare: &str| format!("{bare}{CONTAINER}");
    match bare.rsplit_once('.') {
        Some((front, hex)) if is_short_id(hex) => vec![named(front), named(bare)],
        _ => vec![named(bare)],
    }
}

/// Whether a last segment is one that envelopes have.
pub fn is_envelope_name(name: &str) -> bool {
    name.ends_with(ENVELOPE)
}

/// Whether a last segment is one that containers have.
pub fn is_container_name(name: &str) -> bool {
    name.ends_with(CONTAINER) && !is_envelope_name(name)
}

/// What scripts other than the recipe's own call the halves of a pair: what stands behind `NAME` in each.
///
/// ```
/// use sidekey::name::RecipeSuffix;
/// let suffix: RecipeSuffix = ".data.enc,.key-{name}.enc".parse()?;
/// assert_eq!(suffix.container_of("a/x.key-office.enc").as_deref(), Some("a/x.data.enc"));
/// assert_eq!(suffix.plain("a/x.data.enc"), Some("a/x"));
/// # Ok::<(), sidekey::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipeSuffix {
    container: String,
    /// What stands before and, where a name may stand in it, behind that.
    key: (String, Option<String>),
}

impl RecipeSuffix {
    /// The name without the container's suffix, if it is a container's.
    pub fn plain<'n>(&self, stored: &'n str) -> Option<&'n str> {
        let bare = stored.strip_suffix(&*self.container)?;
        (!bare.is_empty() && !bare.ends_with('/') && self.bare_of_key(stored).is_none()).then_some(bare)
    }

    /// The name of the container whose key file is called `stored`, if one is.
    pub fn container_of(&self, stored: &str) -> Option<String> {
        Some(self.bare_of_key(stored)?.to_owned() + &self.container)
    }

    /// What the names of the key files of a container begin with; one has this name exactly, unless names may differ.
    pub(crate) fn key_prefix(&self, container: &str) -> Option<String> {
        Some(self.plain(container)?.to_owned() + &self.key.0)
    }

    /// Whether key files carry a name of their own.
    pub(crate) fn has_name(&self) -> bool {
        self.key.1.is_some()
    }

    /// The name of the container of a file that is called so.
    pub(crate) fn container(&self, bare: &str) -> String {
        bare.to_owned() + &self.container
    }

    fn bare_of_key<'n>(&self, stored: &'n str) -> Option<&'n str> {
        let bare = match &self.key {
            (front, None) => stored.strip_suffix(&**front)?,
            (front, Some(back)) => {
                let (bare, name) = stored.strip_suffix(&**back)?.rsplit_once(&**front)?;
                (!name.is_empty() && !name.contains('/')).then_some(bare)?
            }
        };
        (!bare.is_empty() && !bare.ends_with('/')).then_some(bare)
    }
}

impl std::str::FromStr for RecipeSuffix {
    type Err = Error;

    /// Reads `CONTAINER,KEY`, both beginning with a dot; `{name}` in the latter stands for any text.
    fn from_str(text: &str) -> Result<Self> {
        let odd = || {
            Error::usage(
                "is not two suffixes with a comma between: that of containers, and that of key files",
            )
            .hint("write for example .data.enc,.key.enc or .enc,.key-{name}.enc")
        };
        let (container, key) = text.split_once(',').ok_or_else(odd)?;
        let is_suffix =
            |text: &str| text.len() > 1 && text.starts_with('.') && !text.contains(['/', ',', '\0']);
        let (front, back) = match key.split_once(NAME_IN_SUFFIX) {
            Some((front, back)) => (front, Some(back.to_owned())),
            None => (key, None),
        };
        let sound = is_suffix(container)
            && is_suffix(front)
            && container != key
            && back.as_ref().is_none_or(|back| !back.is_empty() && !back.contains(['{', '/', ',']));
        match sound && !front.contains('{') && !container.contains('{') {
            true => Ok(Self { container: container.to_owned(), key: (front.to_owned(), back) }),
            false => Err(odd()),
        }
    }
}

/// Stands for any text in the suffix of key files.
const NAME_IN_SUFFIX: &str = "{name}";

fn is_short_id(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_segment(segment: &[u8]) -> bool {
    !segment.is_empty()
        && segment != b"."
        && segment != b".."
        && !segment.contains(&b'/')
        && !segment.contains(&0)
}

/// A folder's segment without the tilde that keeps it from looking like a container.
fn folder_segment(stored: &str) -> Option<&str> {
    strip_tilde(stored, |bare| bare.ends_with(CONTAINER))
}

/// One tilde more behind a name that is special, however many tildes it has already.
fn add_tilde(name: String, special: impl Fn(&str) -> bool) -> String {
    if special(name.trim_end_matches('~')) { name + "~" } else { name }
}

/// The reverse of [`add_tilde`]; nothing when a special name has no tilde. `.folder` alone stays as it is: it is the
/// name of a folder's own metadata.
fn strip_tilde(name: &str, special: impl Fn(&str) -> bool) -> Option<&str> {
    match special(name.trim_end_matches('~')) {
        true => name.strip_suffix('~'),
        false => Some(name),
    }
}

/// Raw bytes as text: themselves, unless they are not UTF-8 or look like an escape.
fn encode_segment(raw: &[u8]) -> String {
    match std::str::from_utf8(raw) {
        Ok(text) if !text.starts_with(BASE64) => text.to_owned(),
        _ => format!("{BASE64}{}", URL_SAFE_NO_PAD.encode(raw)),
    }
}

/// The reverse of [`encode_segment`]; nothing when it is not what that makes.
fn decode_segment(stored: &str) -> Option<Vec<u8>> {
    let raw = match stored.strip_prefix(BASE64) {
        Some(text) => URL_SAFE_NO_PAD.decode(text).ok()?,
        None => stored.as_bytes().to_vec(),
    };
    (is_segment(&raw) && encode_segment(&raw) == stored).then_some(raw)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stored(path: &[u8]) -> String {
        let segments: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        ObjectName::file(&segments).unwrap().container()
    }

    #[test]
    fn names_are_as_the_format_says() {
        for (plain, expected) in [
            (&b"x"[..], "x.enc"),
            (b"server.key", "server.key~.enc"),
            (b"server.key~", "server.key~~.enc"),
            (b"server.keys", "server.keys.enc"),
            (b".folder", ".folder~.enc"),
            (b".folder~", ".folder~~.enc"),
            (b"a.enc", "a.enc.enc"),
            (b"a.enc/b", "a.enc~/b.enc"),
            (b"a.enc~/b", "a.enc~~/b.enc"),
            (b"a.key/b", "a.key/b.enc"),
            (b"x.key.enc", "x.key.enc.enc"),
            (b"\xff", "%b64~_w.enc"),
            (b"%b64~", "%b64~JWI2NH4.enc"),
            (b".key", ".key~.enc"),
        ] {
            assert_eq!(stored(plain), expected);
            let back = ObjectName::parse(expected).unwrap();
            assert_eq!(back.segments().join(&b'/'), plain, "{expected}");
        }
        assert_eq!(ObjectName::folder(&["a", "b.enc"]).unwrap().container(), "a/b.enc~/.folder.enc");
        assert_eq!(ObjectName::folder::<&str>(&[]).unwrap().container(), ".folder.enc");
        assert!(ObjectName::parse("a/.folder.enc").unwrap().is_folder());
    }

    #[test]
    fn names_that_are_not_ours_are_foreign() {
        for name in [
            "x",
            ".enc",
            "..enc",
            "...enc",
            "x.key.enc",
            "a.enc/b.enc",
            "../x.enc",
            "a//b.enc",
            "/x.enc",
            "./x.enc",
            "%b64~!.enc",
            "%b64~YQ.enc",
            "%b64~_w==.enc",
            "%b64~Li4.enc",
            "a/%b64~Li4/b.enc",
            "x\0.enc",
        ] {
            assert_eq!(ObjectName::parse(name), None, "{name:?}");
        }
    }

    #[test]
    fn envelopes_have_two_forms() {
        let id: DataId = "0123456789abcdef0123456789abcdef".parse().unwrap();
        assert_eq!(envelope_name("d/x.enc", None).unwrap(), "d/x.key.enc");
        assert_eq!(envelope_name("d/x.enc", Some(&id)).unwrap(), "d/x.0123456789abcdef.key.enc");
        assert_eq!(containers_of("x.key.enc"), ["x.enc"]);
        assert_eq!(containers_of("x.0123456789abcdef.key.enc"), ["x.enc", "x.0123456789abcdef.enc"]);
        assert_eq!(containers_of("x.0123456789ABCDEF.key.enc"), ["x.0123456789ABCDEF.enc"]);
        assert!(containers_of("x.enc").is_empty());
    }

    #[test]
    fn suffixes_of_other_scripts_lead_from_one_half_to_the_other() {
        let suffix = |text: &str| text.parse::<RecipeSuffix>();
        let data = suffix(".data.enc,.key.enc").unwrap();
        assert_eq!(data.container_of("d/x.key.enc").unwrap(), "d/x.data.enc");
        assert_eq!(data.plain("d/x.data.enc"), Some("d/x"));
        assert_eq!(data.key_prefix("d/x.data.enc").unwrap(), "d/x.key.enc");
        for other in ["d/x.enc", "d/.data.enc", ".data.enc", "x.key.enc"] {
            assert_eq!(data.plain(other), None, "{other}");
        }
        let named = suffix(".enc,.key-{name}.enc").unwrap();
        assert_eq!(named.container_of("x.key-a.b.enc").unwrap(), "x.enc");
        assert_eq!((named.plain("x.enc"), named.plain("x.key-a.enc")), (Some("x"), None));
        for none in ["x.key-.enc", "x.key.enc", ".key-a.enc", "d/.key-a.enc", "x.key-a/b.enc"] {
            assert_eq!(named.container_of(none), None, "{none}");
        }
        for bad in
            ["", ".enc", ".enc,", ",.key", "enc,.key", ".enc,.enc", ".a,.k{name}", ".a,.k{x}.e", ".a/b,.k"]
        {
            assert!(suffix(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_name_comes_back_and_no_two_are_alike(
            path in prop::collection::vec(
                prop_oneof![
                    "[a.~%k]{1,6}",
                    Just(".folder".to_owned()),
                    "(a|\\.folder|%b64~)?(\\.key|\\.enc)?~{0,2}",
                ],
                1..3,
            ),
            raw in prop::option::of(prop::collection::vec(1u8..255, 1..4)),
            is_folder in any::<bool>(),
        ) {
            let mut segments: Vec<Vec<u8>> = path.into_iter().map(String::into_bytes).collect();
            segments.extend(raw);
            if let Ok(name) = ObjectName::new(&segments, is_folder) {
                let stored = name.container();
                prop_assert_eq!(ObjectName::parse(&stored), Some(name));
                prop_assert!(is_container_name(stored.rsplit('/').next().unwrap()));
            }
        }
    }
}
