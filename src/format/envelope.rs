//! Envelopes: the wrapped key of one container as PEM blocks, one a recipient (docs/format.md, "Envelope").
//!
//! What a reader does not know it keeps byte for byte: every block carries its own text. The blocks are read and written
//! here and not by the `pem` crate: its writer refuses a header value with a colon, such as a time, and its reader skips
//! what stands outside the blocks. The tests hold both against each other.

use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::{DataId, Error, KeyId, Result};

/// The largest envelope, in bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// The most blocks in an envelope.
pub const MAX_ENTRIES: usize = 1024;
/// How every envelope of ours begins.
pub const BEGIN: &str = "-----BEGIN SIDEKEY ";

/// Enough for most.
const USUAL_BYTES: usize = 1 << 10;

const ENTRY_LABEL: &str = "SIDEKEY WRAPPED KEY";
/// How many bytes make a line of base64, which has 64 characters.
const LINE: usize = 48;
const INFO_LABEL: &str = "SIDEKEY INFO";

/// How an entry carries its secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Wrap {
    /// `rsa-oaep-sha256`: the 32-byte file key.
    RsaOaepSha256,
    /// `recipe-key`: the 48-byte AES key and IV of an adopted OpenSSL file.
    RecipeKey,
    /// A kind that this version does not know.
    Other(String),
}

impl fmt::Display for Wrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RsaOaepSha256 => "rsa-oaep-sha256",
            Self::RecipeKey => "recipe-key",
            Self::Other(name) => name,
        })
    }
}

impl From<&str> for Wrap {
    fn from(name: &str) -> Self {
        match name {
            "rsa-oaep-sha256" => Self::RsaOaepSha256,
            "recipe-key" => Self::RecipeKey,
            other => Self::Other(other.into()),
        }
    }
}

/// One wrapped key: for which data, for whom, how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The container that it belongs to.
    pub data_id: DataId,
    /// The key that it says it was wrapped for; a label, not a proof.
    pub recipient: KeyId,
    /// How it was wrapped.
    pub wrap: Wrap,
    /// When, as RFC 3339 in UTC; a label.
    pub created: Option<String>,
    /// Headers beyond those, in order.
    pub extra: Vec<(String, String)>,
    /// The wrapped key.
    pub body: Vec<u8>,
}

/// What a block of an envelope is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// A wrapped key.
    Entry(Entry),
    /// A vault's info record.
    Info(Vec<u8>),
    /// A block with a label that this version does not know.
    Unknown(String),
}

/// A block with the text that it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What it is.
    pub content: Content,
    text: String,
}

impl Block {
    /// The block's own text, from BEGIN to END, with its line end.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Block {
    /// A vault's info record.
    pub fn info(record: Vec<u8>) -> Self {
        let mut text = format!("-----BEGIN {INFO_LABEL}-----\n");
        push_base64(&mut text, &record);
        text.push_str(&format!("-----END {INFO_LABEL}-----\n"));
        Self { content: Content::Info(record), text }
    }
}

/// Base64 in lines.
fn push_base64(text: &mut String, bytes: &[u8]) {
    for line in bytes.chunks(LINE) {
        STANDARD.encode_string(line, text);
        text.push('\n');
    }
}

impl From<Entry> for Block {
    fn from(entry: Entry) -> Self {
        let mut text = String::with_capacity(USUAL_BYTES);
        // Writing into a string never fails.
        let _ = write!(
            text,
            "-----BEGIN {ENTRY_LABEL}-----\nData-Id: {}\nRecipient: {}\nWrap: {}\n",
            entry.data_id, entry.recipient, entry.wrap
        );
        let created = entry.created.iter().map(|created| ("Created", created.as_str()));
        let extra = entry.extra.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in created.chain(extra) {
            for part in [name, ": ", value, "\n"] {
                text.push_str(part);
            }
        }
        text.push('\n');
        push_base64(&mut text, &entry.body);
        for part in ["-----END ", ENTRY_LABEL, "-----\n"] {
            text.push_str(part);
        }
        Self { content: Content::Entry(entry), text }
    }
}

/// The blocks of one envelope, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The blocks.
    pub blocks: Vec<Block>,
}

impl Envelope {
    /// Reads the text of an envelope.
    ///
    /// # Errors
    /// `Integrity`, naming the line, when anything stands outside the blocks, a block is not whole, or a limit is
    /// passed.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > MAX_BYTES {
            return Err(Error::integrity(format!("an envelope of more than {MAX_BYTES} bytes is not read")));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Error::integrity("not an envelope: not text"))?;
        let mut blocks = Vec::new();
        let mut lines = text.split_inclusive('\n').enumerate();
        let mut read = 0_usize;
        while let Some((number, line)) = lines.next() {
            let (number, start) = (number.saturating_add(1), read);
            read = read.saturating_add(line.len());
            let bare = line.trim_end_matches(['\r', '\n']);
            if bare.is_empty() {
                continue;
            }
            let Some(label) = bare.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----"))
            else {
                return Err(Error::integrity(format!("envelope line {number} is outside every block")));
            };
            if blocks.len() == MAX_ENTRIES {
                return Err(Error::integrity(format!(
                    "an envelope of more than {MAX_ENTRIES} entries is not read"
                )));
            }
            let ended = lines.by_ref().any(|(_, line)| {
                read = read.saturating_add(line.len());
                ends(line) == Some(label)
            });
            if !ended {
                return Err(Error::integrity(format!("the block at envelope line {number} has no end")));
            }
            let block = text.get(start..read).unwrap_or_default();
            let content = parse_block(label, block)
                .map_err(|error| Error::integrity(format!("the block at envelope line {number}: {error}")))?;
            blocks.push(Block { content, text: block.into() });
        }
        if blocks.is_empty() {
            return Err(Error::integrity("an envelope without a block"));
        }
        let infos = blocks.iter().filter(|block| matches!(block.content, Content::Info(_))).count();
        if infos > 1 {
            return Err(Error::integrity("an envelope with more than one info record"));
        }
        Ok(Self { blocks })
    }

    /// The text: every block as it was read or made, a blank line between.
    ///
    /// # Errors
    /// `Input` when it would pass the limits that readers keep.
    pub fn to_text(&self) -> Result<String> {
        let bytes = self.blocks.iter().map(|block| block.text.len().saturating_add(2)).sum();
        let mut text = String::with_capacity(bytes);
        for block in &self.blocks {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&block.text);
            if !block.text.ends_with('\n') {
                text.push('\n');
            }
        }
        if self.blocks.len() > MAX_ENTRIES || text.len() > MAX_BYTES {
            return Err(Error::input(format!(
                "an envelope may have {MAX_ENTRIES} entries and {MAX_BYTES} bytes at most"
            )));
        }
        Ok(text)
    }

    /// The info record, where it is of a vault.
    pub fn info(&self) -> Option<&[u8]> {
        self.blocks.iter().find_map(|block| match &block.content {
            Content::Info(record) => Some(record.as_slice()),
            _ => None,
        })
    }

    /// The wrapped keys, in order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.blocks.iter().filter_map(|block| match &block.content {
            Content::Entry(entry) => Some(entry),
            _ => None,
        })
    }
}

/// The label of the block that ends with this line.
fn ends(line: &str) -> Option<&str> {
    line.trim_end_matches(['\r', '\n']).strip_prefix("-----END ")?.strip_suffix("-----")
}

/// Whether `bytes` begin as an envelope of ours does.
pub fn looks_like_envelope(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(BEGIN.as_bytes())
}

fn parse_block(label: &str, text: &str) -> Result<Content> {
    if label != ENTRY_LABEL && label != INFO_LABEL {
        return Ok(Content::Unknown(label.into()));
    }
    // The first line is BEGIN. Headers end with an empty line; where there is none, there are no headers.
    let mut lines = text.lines().skip(1);
    let mut headers: Vec<(&str, &str)> = Vec::new();
    if text.lines().any(str::is_empty) {
        for line in lines.by_ref().take_while(|line| !line.is_empty()) {
            let (name, value) =
                line.split_once(": ").ok_or_else(|| Error::integrity("has a line that is no header"))?;
            if headers.iter().any(|(before, _)| *before == name) {
                return Err(Error::integrity(format!("has two headers {name}")));
            }
            headers.push((name, value));
        }
    }
    let mut base64 = String::with_capacity(text.len());
    lines.take_while(|line| !line.starts_with("-----END ")).for_each(|line| base64.push_str(line));
    let body =
        STANDARD.decode(&base64).map_err(|_| Error::integrity("is damaged: its body is not base64"))?;
    if label == INFO_LABEL {
        return Ok(Content::Info(body));
    }
    let find = |name: &str| headers.iter().find(|(have, _)| *have == name).map(|(_, value)| *value);
    let need = |name: &str| find(name).ok_or_else(|| Error::integrity(format!("has no header {name}")));
    Ok(Content::Entry(Entry {
        data_id: need("Data-Id")?.parse()?,
        recipient: need("Recipient")?.parse()?,
        wrap: need("Wrap")?.into(),
        created: find("Created").map(Into::into),
        extra: headers
            .iter()
            .filter(|(name, _)| !["Data-Id", "Recipient", "Wrap", "Created"].contains(name))
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect(),
        body,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn entry(recipient: u8) -> Entry {
        Entry {
            data_id: DataId([1; 16]),
            recipient: KeyId([recipient; 32]),
            wrap: Wrap::RsaOaepSha256,
            created: Some("2026-11-20T23:06:00Z".into()),
            extra: vec![],
            body: vec![recipient; 384],
        }
    }

    fn sample() -> String {
        Envelope { blocks: vec![entry(1).into(), entry(2).into()] }.to_text().unwrap()
    }

    #[test]
    fn text_and_back_is_the_same_text() {
        let text = sample();
        let envelope = Envelope::parse(text.as_bytes()).unwrap();
        assert_eq!(envelope.entries().cloned().collect::<Vec<_>>(), [entry(1), entry(2)]);
        assert_eq!(envelope.to_text().unwrap(), text);
        assert!(text.starts_with("-----BEGIN SIDEKEY WRAPPED KEY-----\nData-Id: 0101"), "{text}");
    }

    #[test]
    fn the_pem_crate_reads_the_same() {
        let text = sample();
        let blocks = pem::parse_many(&text).unwrap();
        assert_eq!(blocks.len(), 2);
        for (block, expected) in blocks.iter().zip([entry(1), entry(2)]) {
            assert_eq!(block.tag(), ENTRY_LABEL);
            assert_eq!(block.contents(), expected.body);
            assert_eq!(block.headers().get("Recipient"), Some(expected.recipient.to_string().as_str()));
        }
    }

    #[test]
    fn crlf_is_read_and_kept() {
        let text = sample().replace('\n', "\r\n");
        let envelope = Envelope::parse(text.as_bytes()).unwrap();
        assert_eq!(envelope.entries().count(), 2);
        assert!(envelope.blocks[0].text().contains("\r\n"));
    }

    #[test]
    fn what_is_not_known_is_kept_byte_for_byte() {
        let odd =
            "-----BEGIN SIDEKEY FUTURE-----\nAny: thing\n\n!!! not base64\n-----END SIDEKEY FUTURE-----\n";
        let text = format!("{odd}\n{}", sample().replace("Created:", "X-New: 1\nCreated:"));
        let envelope = Envelope::parse(text.as_bytes()).unwrap();
        assert_eq!(envelope.to_text().unwrap(), text);
        assert_eq!(envelope.entries().next().unwrap().extra, [("X-New".into(), "1".into())]);
    }

    #[test]
    fn everything_else_is_refused_with_its_line() {
        let text = sample();
        for (bad, says) in [
            (format!("hello\n{text}"), "line 1 is outside"),
            (format!("\u{feff}{text}"), "line 1 is outside"),
            (format!("{text}\ntrailing"), "is outside every block"),
            (text.replace("-----END SIDEKEY WRAPPED KEY-----", ""), "no end"),
            (text.replace("Data-Id", "data-id"), "no header Data-Id"),
            (text.replace("Wrap:", "Recipient:"), "two headers Recipient"),
            (text.replacen("0101", "01g1", 1), "data id is not"),
            (text.replacen("AQEB", "A!EB", 1), "is damaged"),
            (String::new(), "without a block"),
            ("x".repeat(MAX_BYTES + 1), "more than 1048576 bytes"),
            ("-----BEGIN A-----\n-----END A-----\n".repeat(MAX_ENTRIES + 1), "more than 1024 entries"),
        ] {
            let error = Envelope::parse(bad.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Integrity);
            assert!(error.to_string().contains(says), "{error} / {says}");
        }
    }
}
