//! The metadata section's text: JSON about the file, padded with spaces (docs/format.md, "Metadata").

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use super::section::METADATA_UNIT;
use crate::{Error, Result};

/// The longest metadata text, in bytes.
pub(super) const MAX_TEXT: usize = 256 * METADATA_UNIT;

/// What kind of file a container restores to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileType {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link.
    Symlink,
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "file",
            Self::Dir => "dir",
            Self::Symlink => "symlink",
        })
    }
}

/// What the writer knew about the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// What it restores to.
    pub file_type: FileType,
    /// The last segment of its name, raw; absent for pipes. Never used as a path.
    pub name: Option<Vec<u8>>,
    /// Nanoseconds since 1970, may be negative.
    pub mtime: Option<i128>,
    /// Permission bits, without the type.
    pub mode: Option<u32>,
    /// Where a symbolic link points, raw.
    pub target: Option<Vec<u8>>,
    /// Fields that this version does not know.
    pub other: Map<String, Value>,
}

impl Metadata {
    /// Metadata that says nothing but the type, as for a pipe.
    pub fn new(file_type: FileType) -> Self {
        Self { file_type, name: None, mtime: None, mode: None, target: None, other: Map::new() }
    }

    /// The padded text.
    ///
    /// # Errors
    /// `Input` when it is longer than 64 KiB.
    pub fn to_text(&self) -> Result<Vec<u8>> {
        let mut text = serde_json::to_vec(&Fields(self))
            .map_err(|error| Error::input("metadata cannot be written as JSON").because(error))?;
        text.resize(text.len().next_multiple_of(METADATA_UNIT), b' ');
        if text.len() > MAX_TEXT {
            return Err(Error::input(format!("metadata of {} bytes is too long", text.len())));
        }
        Ok(text)
    }

    /// Reads the padded text.
    ///
    /// # Errors
    /// `Integrity` when it is not such JSON, a key stands twice or a known field has no such value.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let odd = |what: &str| Error::integrity(format!("metadata: {what}"));
        if !text.len().is_multiple_of(METADATA_UNIT) {
            return Err(odd("not padded to a multiple of 256 bytes"));
        }
        let Unique(value) =
            serde_json::from_slice(text.trim_ascii_end()).map_err(|error| odd(&error.to_string()))?;
        let Value::Object(mut map) = value else { return Err(odd("not an object")) };
        if map.remove("v") != Some(1.into()) {
            return Err(odd("version is not 1"));
        }
        let file_type = match text_field(&mut map, "type")?.as_deref() {
            Some("file") => FileType::File,
            Some("dir") => FileType::Dir,
            Some("symlink") => FileType::Symlink,
            Some(_) => return Err(odd("type is not known")),
            None => return Err(odd("no type")),
        };
        let mtime = text_field(&mut map, "mtime")?
            .map(|text| parse_mtime(&text).ok_or_else(|| odd("mtime is not a decimal number")))
            .transpose()?;
        let mode = text_field(&mut map, "mode")?
            .map(|text| parse_mode(&text).ok_or_else(|| odd("mode is not octal")));
        let name = take_bytes(&mut map, "name", "name_b64")?;
        let target = take_bytes(&mut map, "target", "target_b64")?;
        if file_type == FileType::Symlink && target.as_ref().is_none_or(Vec::is_empty) {
            return Err(odd("a symlink without a target"));
        }
        Ok(Self { file_type, name, mtime, mode: mode.transpose()?, target, other: map })
    }
}

/// In the order in which they are written.
struct Fields<'a>(&'a Metadata);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Metadata { file_type, name, mtime, mode, target, other } = self.0;
        let mut fields = serializer.serialize_map(None)?;
        fields.serialize_entry("v", &1)?;
        fields.serialize_entry("type", &format_args!("{file_type}"))?;
        if let Some(name) = name {
            bytes_field(&mut fields, ("name", "name_b64"), name)?;
        }
        if let Some(mtime) = mtime {
            fields.serialize_entry("mtime", &format_args!("{mtime}"))?;
        }
        if let Some(mode) = mode {
            fields.serialize_entry("mode", &format_args!("{:04o}", mode & 0o7777))?;
        }
        if let Some(target) = target {
            bytes_field(&mut fields, ("target", "target_b64"), target)?;
        }
        for (name, value) in other {
            fields.serialize_entry(name, value)?;
        }
        fields.end()
    }
}

fn bytes_field<F: SerializeMap>(
    fields: &mut F,
    (plain, b64): (&'static str, &'static str),
    bytes: &[u8],
) -> Result<(), F::Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => fields.serialize_entry(plain, text),
        Err(_) => fields.serialize_entry(b64, &STANDARD.encode(bytes)),
    }
}

fn parse_mtime(text: &str) -> Option<i128> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    (1..=38).contains(&digits.len()).then_some(())?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn parse_mode(text: &str) -> Option<u32> {
    let mode = u32::from_str_radix(text, 8).ok()?;
    (mode <= 0o7777 && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(mode)
}

fn text_field(map: &mut Map<String, Value>, name: &str) -> Result<Option<String>> {
    match map.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Error::integrity(format!("metadata: {name} is not a string"))),
    }
}

fn take_bytes(map: &mut Map<String, Value>, plain: &str, b64: &str) -> Result<Option<Vec<u8>>> {
    match (text_field(map, plain)?, text_field(map, b64)?) {
        (Some(_), Some(_)) => Err(Error::integrity(format!("metadata: both {plain} and {b64}"))),
        (Some(text), None) => Ok(Some(text.into_bytes())),
        (None, Some(text)) => STANDARD
            .decode(text)
            .map(Some)
            .map_err(|_| Error::integrity(format!("metadata: {b64} is not base64"))),
        (None, None) => Ok(None),
    }
}

/// A JSON value in which no object has a key twice; `serde_json` alone would keep the last one.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate keys")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((key, Unique(value))) = access.next_entry::<String, Unique>()? {
            if map.insert(key.clone(), value).is_some() {
                return Err(de::Error::custom(format!("key {key} stands twice")));
            }
        }
        Ok(map.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Unique(value)) = access.next_element()? {
            list.push(value);
        }
        Ok(list.into())
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn padded(text: &str) -> Vec<u8> {
        let mut text = text.as_bytes().to_vec();
        text.resize(text.len().next_multiple_of(METADATA_UNIT), b' ');
        text
    }

    #[test]
    fn text_and_back() {
        let mut metadata = Metadata::new(FileType::Symlink);
        metadata.name = Some(b"caf\xc3\xa9 \"x\"\n".to_vec());
        metadata.mtime = Some(-1_500_000_001);
        metadata.mode = Some(0o4755);
        metadata.target = Some(b"\xff/up".to_vec());
        metadata.other.insert("later".into(), vec![1, 2].into());
        let text = metadata.to_text().unwrap();
        assert_eq!(text.len() % 256, 0);
        assert_eq!(Metadata::parse(&text).unwrap(), metadata);
        assert!(text.starts_with(br#"{"v":1,"type":"symlink","name":"#));
    }

    #[test]
    fn odd_text_is_refused() {
        for (text, says) in [
            (r#"{"v":1,"type":"file","v":1}"#, "v stands twice"),
            (r#"{"v":1,"type":"file","x":{"a":1,"a":2}}"#, "a stands twice"),
            (r#"{"v":2,"type":"file"}"#, "version"),
            (r#"{"type":"file"}"#, "version"),
            (r#"{"v":1}"#, "no type"),
            (r#"{"v":1,"type":"fifo"}"#, "type is not known"),
            (r#"{"v":1,"type":"file","mtime":5}"#, "mtime is not a string"),
            (r#"{"v":1,"type":"file","mtime":"+5"}"#, "decimal"),
            (r#"{"v":1,"type":"file","mtime":"-"}"#, "decimal"),
            (r#"{"v":1,"type":"file","mode":"0888"}"#, "octal"),
            (r#"{"v":1,"type":"file","mode":"+755"}"#, "octal"),
            (r#"{"v":1,"type":"file","name":"a","name_b64":"YQ=="}"#, "both name"),
            (r#"[1]"#, "not an object"),
            (r#"{"v":1,"type":"file"} x"#, "trailing"),
        ] {
            let error = Metadata::parse(&padded(text)).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(Metadata::parse(br#"{"v":1,"type":"file"}"#).unwrap_err().to_string().contains("padded"));
    }
}
