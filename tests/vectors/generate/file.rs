//! The form of a vector file (docs/format.md, "Test vectors").

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

/// The first fault that a reader meets, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Expect {
    Ok,
    Header,
    Envelope,
    Key,
    Commitment,
    Metadata,
    Section,
    Truncated,
    End,
}

impl Expect {
    /// All of them, with their names in files.
    pub(crate) const ALL: [(Self, &'static str); 9] = [
        (Self::Ok, "ok"),
        (Self::Header, "header"),
        (Self::Envelope, "envelope"),
        (Self::Key, "key"),
        (Self::Commitment, "commitment"),
        (Self::Metadata, "metadata"),
        (Self::Section, "section"),
        (Self::Truncated, "truncated"),
        (Self::End, "end"),
    ];

    /// Its name in files.
    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(expect, _)| *expect == self).unwrap().1
    }
}

/// One vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vector {
    pub(crate) comment: String,
    pub(crate) expect: Expect,
    /// SHA-256 and length of the plaintext; after a fault, of the plaintext that a streaming reader released before.
    pub(crate) digest: [u8; 32],
    pub(crate) len: u64,
    pub(crate) file_key: Option<[u8; 32]>,
    pub(crate) envelope: Option<Vec<u8>>,
    pub(crate) identity: Option<String>,
    pub(crate) container: Vec<u8>,
}

impl Vector {
    /// A vector whose plaintext, or whose released plaintext, is `plain`.
    pub(crate) fn new(comment: &str, expect: Expect, plain: &[u8], container: Vec<u8>) -> Self {
        Self {
            comment: comment.into(),
            expect,
            digest: Sha256::digest(plain).into(),
            len: plain.len() as u64,
            file_key: None,
            envelope: None,
            identity: None,
            container,
        }
    }

    /// The bytes of the file.
    pub(crate) fn print(&self) -> Vec<u8> {
        let what = if self.expect == Expect::Ok { "plain" } else { "released" };
        let mut head = format!("comment: {}\nexpect: {}\n", self.comment, self.expect.name());
        head += &format!("{what}-sha256: {}\n{what}-len: {}\n", hex(&self.digest), self.len);
        for (key, value) in [
            ("file-key", self.file_key.map(|key| hex(&key))),
            ("envelope", self.envelope.as_ref().map(|text| STANDARD.encode(text))),
            ("identity", self.identity.clone()),
        ] {
            if let Some(value) = value {
                head += &format!("{key}: {value}\n");
            }
        }
        [head.as_bytes(), b"\n", &self.container].concat()
    }

    /// Reads the bytes of the file; an odd one is a mistake in the repository and ends the run.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let split = bytes.windows(2).position(|pair| pair == b"\n\n").expect("an empty line");
        let head = std::str::from_utf8(&bytes[..split]).expect("a head of text");
        let lines: Vec<(&str, &str)> =
            head.lines().map(|line| line.split_once(": ").expect("key: value")).collect();
        let find = |key: &str| lines.iter().find(|(have, _)| *have == key).map(|(_, value)| *value);
        let need = |key: &str| find(key).unwrap_or_else(|| panic!("no {key} in the head"));
        let name = need("expect");
        let (expect, _) = *Expect::ALL.iter().find(|(_, known)| *known == name).expect("a known class");
        let what = if expect == Expect::Ok { "plain" } else { "released" };
        let vector = Self {
            comment: need("comment").into(),
            expect,
            digest: unhex(need(&format!("{what}-sha256"))),
            len: need(&format!("{what}-len")).parse().unwrap(),
            file_key: find("file-key").map(unhex),
            envelope: find("envelope").map(|text| STANDARD.decode(text).unwrap()),
            identity: find("identity").map(Into::into),
            container: bytes[split + 2..].to_vec(),
        };
        assert_eq!(vector.print(), bytes, "unknown keys, or another order");
        vector
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> [u8; 32] {
    let bytes: Vec<u8> =
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect();
    bytes.try_into().expect("32 bytes of hex")
}
