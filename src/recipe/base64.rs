//! Base64 (RFC 4648, section 4) as `openssl enc -a` writes and reads it, in bounded memory and with byte offsets.
//!
//! White space is skipped wherever it stands, so lines may have any length and either line end.

use std::io::{Read, Write};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::ContainerEncoding;
use crate::{Error, Result};

/// Decodes text that arrives in pieces.
#[derive(Default)]
pub(super) struct Decoder {
    /// Characters that do not fill a group of four yet.
    group: Vec<u8>,
    padded: bool,
    offset: u64,
}

impl Decoder {
    /// Decodes `text` and appends what it holds to `out`.
    pub(super) fn push(&mut self, text: &[u8], out: &mut Vec<u8>) -> Result<()> {
        if !self.push_lines(text, out) {
            self.push_characters(text)?;
            self.decode_groups(&LENIENT, out).map_err(|reason| {
                Error::integrity(format!("damaged base64 before byte {}", self.offset)).because(reason)
            })?;
        }
        Ok(())
    }

    /// The fast way: takes for granted that `text` is lines of base64 without padding. Where it is not, nothing has
    /// happened.
    fn push_lines(&mut self, text: &[u8], out: &mut Vec<u8>) -> bool {
        let (characters, bytes) = (self.group.len(), out.len());
        for line in text.split(|byte| *byte == b'\n') {
            self.group.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        }
        let rest = &self.group[self.group.len() / 4 * 4..];
        if self.padded || !rest.iter().all(is_in_alphabet) || self.decode_groups(&UNPADDED, out).is_err() {
            self.group.truncate(characters);
            out.truncate(bytes);
            return false;
        }
        self.offset += text.len() as u64;
        true
    }

    /// The careful way: one character after the other, so that the first bad one is found.
    fn push_characters(&mut self, text: &[u8]) -> Result<()> {
        for byte in text {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => {}
                byte if is_in_alphabet(byte) && !self.padded => self.group.push(*byte),
                b'=' if self.group.len() % 4 >= 2 => {
                    self.padded = true;
                    self.group.push(*byte);
                }
                _ => return Err(Error::integrity(format!("damaged base64 at byte {}", self.offset))),
            }
            self.offset += 1;
        }
        Ok(())
    }

    /// Decodes the whole groups.
    fn decode_groups(
        &mut self,
        engine: &GeneralPurpose,
        out: &mut Vec<u8>,
    ) -> Result<(), base64::DecodeError> {
        let whole = self.group.len() / 4 * 4;
        engine.decode_vec(&self.group[..whole], out)?;
        self.group.drain(..whole);
        Ok(())
    }

    /// Says that the text is over.
    pub(super) fn finish(&self) -> Result<()> {
        match self.group.is_empty() {
            true => Ok(()),
            false => Err(Error::integrity(format!(
                "truncated at byte {}: the base64 ends in the middle of a group",
                self.offset
            ))),
        }
    }
}

/// All that `text` holds, or nothing when it is not base64 from end to end.
pub(super) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let (mut decoder, mut bytes) = (Decoder::default(), Vec::new());
    decoder.push(text, &mut bytes).ok()?;
    decoder.finish().ok()?;
    Some(bytes)
}

/// The decoded bytes of a container, whatever its encoding.
pub(super) struct Bytes<R> {
    src: R,
    pub(super) encoding: ContainerEncoding,
    decoder: Decoder,
    /// Decoded bytes that nobody has taken yet, and where they begin.
    decoded: Vec<u8>,
    taken: usize,
    offset: u64,
}

impl<R: Read> Bytes<R> {
    pub(super) fn new(encoding: ContainerEncoding, src: R) -> Self {
        Self { src, encoding, decoder: Decoder::default(), decoded: Vec::new(), taken: 0, offset: 0 }
    }

    /// Fills `out`, unless the file ends before; returns how many bytes it got.
    pub(super) fn fill(&mut self, out: &mut [u8]) -> Result<usize> {
        if self.encoding == ContainerEncoding::Raw {
            let len = read_full(&mut self.src, out)?;
            self.offset += len as u64;
            return Ok(len);
        }
        let mut filled = 0;
        while filled < out.len() {
            if self.taken == self.decoded.len() && !self.decode_more()? {
                break;
            }
            let len = (out.len() - filled).min(self.decoded.len() - self.taken);
            out[filled..filled + len].copy_from_slice(&self.decoded[self.taken..self.taken + len]);
            self.taken += len;
            filled += len;
        }
        Ok(filled)
    }

    /// How many bytes of the file, not of what they decode to, have been read.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The error for a container that ends where it was read to.
    pub(super) fn truncated(&self, what: &str) -> Error {
        Error::integrity(format!("truncated at byte {}: {what}", self.offset))
    }

    /// Decodes the next piece of the file; false at its end.
    fn decode_more(&mut self) -> Result<bool> {
        let mut text = [0; TEXT];
        self.decoded.clear();
        self.taken = 0;
        while self.decoded.is_empty() {
            let len = read_full(&mut self.src, &mut text)?;
            self.offset += len as u64;
            if len == 0 {
                self.decoder.finish()?;
                return Ok(false);
            }
            self.decoder.push(&text[..len], &mut self.decoded)?;
        }
        Ok(true)
    }
}

/// Writes bytes down in an encoding.
pub(super) struct Encoder<W> {
    dst: W,
    encoding: ContainerEncoding,
    /// Bytes that do not fill a line, or a group of three, yet.
    pending: Vec<u8>,
}

impl<W: Write> Encoder<W> {
    pub(super) fn new(encoding: ContainerEncoding, dst: W) -> Self {
        Self { dst, encoding, pending: Vec::new() }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.encoding == ContainerEncoding::Raw {
            return self.dst.write_all(bytes).map_err(cannot_write);
        }
        self.pending.extend_from_slice(bytes);
        let whole = self.pending.len() / LINE * LINE;
        let text = encode(&self.pending[..whole], self.encoding);
        self.pending.drain(..whole);
        self.dst.write_all(text.as_bytes()).map_err(cannot_write)
    }

    pub(super) fn finish(mut self) -> Result<()> {
        let text = encode(&self.pending, self.encoding);
        self.dst.write_all(text.as_bytes()).map_err(cannot_write)?;
        self.dst.flush().map_err(cannot_write)
    }
}

/// The base64 of `bytes`: lines of 64 columns, each with its LF, or everything on one line without one.
pub(super) fn encode(bytes: &[u8], encoding: ContainerEncoding) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(LINE) * 65);
    for line in bytes.chunks(LINE) {
        base64::engine::general_purpose::STANDARD.encode_string(line, &mut text);
        if encoding == ContainerEncoding::Base64Wrapped {
            text.push('\n');
        }
    }
    text
}

/// Fills `out`, unless `src` ends before; returns how many bytes it got.
pub(super) fn read_full(src: &mut impl Read, out: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < out.len() {
        match src.read(&mut out[filled..]) {
            Ok(0) => break,
            Ok(len) => filled += len,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(cannot_read(error)),
        }
    }
    Ok(filled)
}

pub(super) fn cannot_read(source: std::io::Error) -> Error {
    Error::io("cannot read", source)
}

pub(super) fn cannot_write(source: std::io::Error) -> Error {
    Error::io("cannot write", source)
}

fn is_in_alphabet(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

/// How many bytes make a line of 64 columns.
const LINE: usize = 48;
/// How much text is decoded at a time, in bytes.
const TEXT: usize = 32 * 1024;
/// OpenSSL does not look at the bits behind the last byte, so neither do we.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);
/// Takes no padding at all.
const UNPADDED: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded_in_steps(text: &[u8], step: usize) -> Result<Vec<u8>> {
        let (mut decoder, mut bytes) = (Decoder::default(), Vec::new());
        for piece in text.chunks(step) {
            decoder.push(piece, &mut bytes)?;
        }
        decoder.finish().map(|()| bytes)
    }

    #[test]
    fn any_line_form_and_any_step_decodes_to_the_same() {
        let bytes: Vec<u8> = (0..200).collect();
        let lf = encode(&bytes, ContainerEncoding::Base64Wrapped);
        let one = encode(&bytes, ContainerEncoding::Base64OneLine);
        for text in [lf.replace('\n', "\r\n"), lf, one.clone(), format!(" {one}\t\n\n")] {
            for step in [1, 2, 3, 4, 5, 63, 64, 65, 1000] {
                assert_eq!(decoded_in_steps(text.as_bytes(), step).unwrap(), bytes, "{text:?} by {step}");
            }
        }
    }

    #[test]
    fn damage_is_named_with_its_offset() {
        for (text, message) in [
            ("QUJD*A==", "damaged base64 at byte 4"),
            ("QUJD\nQ===", "damaged base64 at byte 6"),
            ("QUI=QUJD", "damaged base64 at byte 4"),
            ("QUI==", "damaged base64 at byte 4"),
            ("=", "damaged base64 at byte 0"),
            ("QUJDQ", "truncated at byte 5: the base64 ends in the middle of a group"),
            ("QUI", "truncated at byte 3: the base64 ends in the middle of a group"),
            ("QU=", "truncated at byte 3: the base64 ends in the middle of a group"),
            ("QU=A", "damaged base64 at byte 3"),
            ("QUJD\0", "damaged base64 at byte 4"),
        ] {
            for step in [1, 3, 100] {
                let error = decoded_in_steps(text.as_bytes(), step).unwrap_err();
                assert_eq!(error.kind(), crate::ErrorKind::Integrity);
                assert_eq!(error.to_string(), message, "{text:?} by {step}");
            }
        }
    }

    #[test]
    fn bits_behind_the_last_byte_do_not_matter() {
        assert_eq!(decode(b"QR=="), Some(b"A".to_vec()));
    }
}
