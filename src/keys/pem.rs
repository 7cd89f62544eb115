//! PEM (RFC 7468, with the headers of RFC 1421) for key files: strict inside a block, indifferent outside.
//!
//! The `pem` crate serves envelopes; here what is decoded may be a private key, so every buffer is wiped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::secret::SecretBytes;
use crate::{Error, Result};

/// One block.
pub(super) struct Block {
    /// What stands after `BEGIN`.
    pub(super) label: String,
    /// Names and values, in order.
    pub(super) headers: Vec<(String, String)>,
    /// The decoded bytes.
    pub(super) der: SecretBytes,
}

impl Block {
    /// The value of the header `name`.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// All blocks of `text`; what stands between them (comments, `openssl x509 -text`) is skipped.
///
/// # Errors
/// `Integrity`, with the number of the line, for a block that does not end or holds anything but headers and base64.
pub(super) fn blocks(text: &[u8]) -> Result<Vec<Block>> {
    let mut lines = (1_usize..).zip(text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii));
    let mut blocks = Vec::new();
    while let Some((start, line)) = lines.next() {
        // A byte-order mark is what Windows editors put before the first line.
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        let Some(label) = marked(line, b"-----BEGIN ") else { continue };
        let mut headers = Vec::new();
        let mut base64 = Zeroizing::new(Vec::with_capacity(text.len()));
        loop {
            let Some((number, line)) = lines.next() else {
                return Err(damaged(start, format!("there is no -----END {label}-----")));
            };
            if let Some(end) = marked(line, b"-----END ") {
                if end != label {
                    return Err(damaged(number, format!("-----END {end}----- ends a block of {label}")));
                }
                break;
            }
            match header(line) {
                Some(header) if base64.is_empty() => headers.push(header),
                _ => base64.extend_from_slice(line),
            }
        }
        let der = decode(&base64).ok_or_else(|| damaged(start, "the block is not base64"))?;
        blocks.push(Block { label, headers, der });
    }
    Ok(blocks)
}

/// One block of `der`, in lines of 64 characters.
pub(super) fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let mut base64 = Zeroizing::new(String::with_capacity(der.len().div_ceil(3) * 4));
    STANDARD.encode_string(der, &mut base64);
    let mut text = Zeroizing::new(String::with_capacity(base64.len() / 64 * 65 + 2 * label.len() + 65 + 40));
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

fn decode(base64: &[u8]) -> Option<SecretBytes> {
    // The capacity is what keeps the vector from growing and leaving a copy behind.
    let mut der = Zeroizing::new(Vec::with_capacity(base64.len().div_ceil(4) * 3));
    STANDARD.decode_vec(base64, &mut der).ok()?;
    Some(SecretBytes::from(der))
}

/// The label of a `-----BEGIN label-----` or `-----END label-----` line.
fn marked(line: &[u8], start: &[u8]) -> Option<String> {
    let label = line.strip_prefix(start)?.strip_suffix(b"-----")?;
    std::str::from_utf8(label).ok().map(str::to_owned)
}

/// `Name: value`; a colon is no base64.
fn header(line: &[u8]) -> Option<(String, String)> {
    let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
    Some((name.to_owned(), value.trim().to_owned()))
}

fn damaged(line: usize, what: impl std::fmt::Display) -> Error {
    Error::integrity(format!("is damaged: line {line}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_read_back_at_every_length() {
        for len in 0..200 {
            let der: Vec<u8> = (0..len).collect();
            let text = encode("X", &der);
            let block = blocks(text.as_bytes()).unwrap().remove(0);
            assert_eq!((block.label.as_str(), block.der.expose()), ("X", der.as_slice()));
            assert!(text.lines().all(|line| line.len() <= 64));
        }
    }

    #[test]
    fn comments_headers_and_line_ends_of_windows_are_read() {
        let text = b"\xef\xbb\xbf-----BEGIN A-----\r\nProc-Type: 4,ENCRYPTED\r\nDEK-Info: X,01\r\n\r\nAAEC\r\nAw==\r\n-----END A-----\r\n\
                     some words\n-----BEGIN B-----\n-----END B-----";
        let blocks = blocks(text).unwrap();
        assert_eq!(blocks.len(), 2);
        assert_eq!(blocks[0].header("DEK-Info"), Some("X,01"));
        assert_eq!(blocks[0].header("Dek-Info"), None);
        assert_eq!(blocks[0].der.expose(), [0, 1, 2, 3]);
        assert!(blocks[1].der.expose().is_empty());
    }

    #[test]
    fn a_broken_block_names_its_line() {
        for (text, message) in [
            ("\n-----BEGIN A-----\nAAEC\n", "is damaged: line 2: there is no -----END A-----"),
            ("-----BEGIN A-----\nAAE\n-----END A-----\n", "is damaged: line 1: the block is not base64"),
            (
                "-----BEGIN A-----\nAA=C\nAA: B\n-----END A-----\n",
                "is damaged: line 1: the block is not base64",
            ),
            ("-----BEGIN A-----\n-----END B-----\n", "is damaged: line 2: -----END B----- ends a block of A"),
        ] {
            let error = blocks(text.as_bytes()).err().unwrap();
            assert_eq!((error.kind(), error.to_string().as_str()), (crate::ErrorKind::Integrity, message));
        }
    }
}
