//! Sections: their framing, their lengths and their order (docs/format.md, "Sections"). Sizes are arithmetic.

use super::header::{HEADER_LEN, Header};
use crate::{Error, Result};

/// IV, one block of padding and tag: what a section of whole blocks adds to its plaintext, in bytes.
pub const FRAMING: usize = 48;
/// The stored length of the end section, in bytes.
pub const END_LEN: usize = 96;
/// The metadata text is padded to a multiple of this, in bytes.
pub const METADATA_UNIT: usize = 256;
/// The most plaintext a container may hold, in bytes (2^44 AES blocks under one key).
pub const MAX_PLAIN: u64 = 1 << 48;

/// What a section holds; part of what its tag covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// JSON about the file; at most one, first.
    Metadata = 1,
    /// Plaintext of the file.
    Data = 2,
    /// Total length and digest; always, last.
    End = 3,
}

/// The first block of what a section's tag covers: where it stands, what it is and how long it is, so that sections
/// cannot be moved, repeated, dropped or relabelled.
pub fn tag_prefix(index: u64, kind: Kind, ciphertext_len: u32) -> [u8; 16] {
    let mut prefix = [0; 16];
    let kind = [kind as u8, 0, 0, 0];
    let fields = index.to_le_bytes().into_iter().chain(kind).chain(ciphertext_len.to_le_bytes());
    for (to, from) in prefix.iter_mut().zip(fields) {
        *to = from;
    }
    prefix
}

/// What stands next in a container of which `rest` bytes are left after the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A full data section: `S + 48` bytes.
    Full,
    /// The last data section, of this stored length.
    Last(usize),
    /// The end section.
    End,
}

/// The rule by which a reader finds the sections: kind and length follow from the bytes that are left.
///
/// # Errors
/// `Integrity` when no sequence of sections has this length.
pub fn next(rest: u64, section_size: usize) -> Result<Next> {
    let end = END_LEN as u64;
    let full = (section_size as u64).saturating_add(FRAMING as u64);
    if rest == end {
        return Ok(Next::End);
    }
    if rest >= full.saturating_add(end) {
        return Ok(Next::Full);
    }
    if rest < end.saturating_add(FRAMING as u64) || !rest.is_multiple_of(16) {
        return Err(Error::integrity(format!(
            "its last {rest} bytes are no section: it was cut short, or something was added"
        ))
        .hint("fetch it again, whole, or restore an older version"));
    }
    usize::try_from(rest.saturating_sub(end))
        .map(Next::Last)
        .map_err(|_| Error::integrity("a section is too long"))
}

/// The stored length of a data section of `plain` bytes.
pub fn stored_len(plain: u64) -> u64 {
    (plain / 16).saturating_add(3).saturating_mul(16)
}

/// The exact length of a container of `plain` bytes with this section size and stored metadata length.
/// `None` when `plain` is more than a container may hold.
pub fn container_len(plain: u64, section_size: usize, metadata_len: u32) -> Option<u64> {
    if plain > MAX_PLAIN {
        return None;
    }
    let size = section_size as u64;
    let (full, last) = (plain.checked_div(size)?, plain.checked_rem(size)?);
    let data =
        full.checked_mul(stored_len(size))?.checked_add(if last > 0 { stored_len(last) } else { 0 })?;
    (HEADER_LEN as u64).checked_add(metadata_len.into())?.checked_add(data)?.checked_add(END_LEN as u64)
}

/// The shortest and the longest plaintext that a container of `len` bytes can hold; the padding hides which.
///
/// # Errors
/// `Integrity` when no container has this length.
pub fn plain_len(len: u64, header: &Header) -> Result<(u64, u64)> {
    let truncated = || Error::integrity(format!("is truncated: no container is {len} bytes long"));
    let size = header.section_size();
    let full = (size as u64).saturating_add(FRAMING as u64);
    let front = (HEADER_LEN as u64).saturating_add(header.metadata_len().into());
    let rest =
        len.checked_sub(front).and_then(|rest| rest.checked_sub(END_LEN as u64)).ok_or_else(truncated)?;
    let sections = rest.checked_div(full).ok_or_else(truncated)?;
    let whole = sections.checked_mul(size as u64).ok_or_else(truncated)?;
    let last = rest.saturating_sub(sections.saturating_mul(full));
    if last == 0 {
        return Ok((whole, whole));
    }
    if last < FRAMING as u64 || !last.is_multiple_of(16) {
        return Err(truncated());
    }
    let padded = last.saturating_sub(32);
    let shortest = padded.saturating_sub(16).max(1);
    let longest = padded.saturating_sub(1).min((size as u64).saturating_sub(1));
    Ok((whole.saturating_add(shortest), whole.saturating_add(longest)))
}

/// The number of bytes before the PKCS#7 padding (RFC 5652, section 6.3), or nothing when it is not well formed.
pub fn unpadded_len(plaintext: &[u8]) -> Option<usize> {
    let pad = *plaintext.last()?;
    let len = plaintext.len().checked_sub(pad.into())?;
    let padding = plaintext.get(len..)?;
    (1..=16).contains(&pad).then_some(())?;
    padding.iter().all(|byte| *byte == pad).then_some(len)
}

/// Which digest of the plaintext the end section holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DigestKind {
    /// None.
    #[default]
    None = 0,
    /// SHA-256.
    Sha256 = 1,
}

/// What the end section says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The length of the whole plaintext, in bytes.
    pub total: u64,
    /// SHA-256 of the whole plaintext, where the writer made one.
    pub digest: Option<[u8; 32]>,
}

impl End {
    /// The 48 bytes of plaintext.
    pub fn to_bytes(&self) -> [u8; 48] {
        let mut bytes = [0; 48];
        let kind = if self.digest.is_some() { DigestKind::Sha256 } else { DigestKind::None };
        let fields = self.total.to_le_bytes().into_iter().chain([kind as u8, 0, 0, 0, 0, 0, 0, 0]);
        for (to, from) in bytes.iter_mut().zip(fields.chain(self.digest.unwrap_or_default())) {
            *to = from;
        }
        bytes
    }

    /// Reads the 48 bytes; unknown digests and non-zero reserved bytes are errors.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let odd = |what: &str| Error::integrity(format!("end section: {what}"));
        let (total, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| odd("too short"))?;
        let (fixed, rest) = rest.split_first_chunk::<8>().ok_or_else(|| odd("too short"))?;
        let digest: [u8; 32] = rest.try_into().map_err(|_| odd("wrong length"))?;
        let digest = match fixed {
            [0, 0, 0, 0, 0, 0, 0, 0] if digest == [0; 32] => None,
            [1, 0, 0, 0, 0, 0, 0, 0] => Some(digest),
            [0 | 1, ..] => return Err(odd("reserved bytes are not zero")),
            [kind, ..] => return Err(odd(&format!("digest algorithm {kind} is unknown"))),
        };
        Ok(Self { total: u64::from_le_bytes(*total), digest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DataId;

    #[test]
    fn what_is_left_says_what_comes_next() {
        let s = 4096;
        for (rest, expected) in [
            (96, Some(Next::End)),
            (144, Some(Next::Last(48))),
            (160, Some(Next::Last(64))),
            (s + 48 + 96 - 16, Some(Next::Last(s as usize + 48 - 16))),
            (s + 48 + 96, Some(Next::Full)),
            (s + 48 + 97, Some(Next::Full)),
            (0, None),
            (95, None),
            (97, None),
            (112, None),
            (128, None),
            (150, None),
        ] {
            assert_eq!(next(rest, s as usize).ok(), expected, "{rest}");
        }
    }

    #[test]
    fn lengths_agree_both_ways() {
        for log2 in [12, 16] {
            let header = Header::new(log2, 304, DataId([0; 16])).unwrap();
            let size = header.section_size() as u64;
            for plain in
                [0, 1, 15, 16, 17, size - 17, size - 16, size - 1, size, size + 1, 2 * size, 3 * size + 5]
            {
                let len = container_len(plain, header.section_size(), 304).unwrap();
                let (shortest, longest) = plain_len(len, &header).unwrap();
                assert!(shortest <= plain && plain <= longest, "{plain}: {shortest}..={longest}");
                assert!(longest - shortest < 16);
            }
        }
        assert_eq!(container_len(MAX_PLAIN + 1, 4096, 0), None);
    }

    #[test]
    fn padding_is_whole_or_refused() {
        let block = |pad: u8, from: usize| {
            let mut block = [0; 16];
            block[from..].fill(pad);
            block
        };
        assert_eq!(unpadded_len(&block(16, 0)), Some(0));
        assert_eq!(unpadded_len(&block(1, 15)), Some(15));
        assert_eq!(unpadded_len(&block(4, 13)), None);
        assert_eq!(unpadded_len(&block(0, 0)), None);
        assert_eq!(unpadded_len(&block(17, 0)), None);
        assert_eq!(unpadded_len(&[]), None);
    }

    #[test]
    fn end_sections_keep_their_zeros() {
        for digest in [None, Some([7; 32])] {
            let end = End { total: 123_456_789, digest };
            assert_eq!(End::parse(&end.to_bytes()).unwrap(), end);
        }
        for at in [8, 9, 15, 16, 47] {
            let mut bytes = End { total: 1, digest: None }.to_bytes();
            bytes[at] = 2;
            assert!(End::parse(&bytes).is_err(), "byte {at}");
        }
        assert!(End::parse(&[0; 47]).is_err());
    }
}
