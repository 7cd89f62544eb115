//! The 64 bytes at the start of every container (docs/format.md, "Header").

use super::metadata::MAX_TEXT;
use super::section::{FRAMING, METADATA_UNIT};
use crate::{DataId, Error, Result};

/// The length of the header, in bytes.
pub const HEADER_LEN: usize = 64;
/// How every container begins.
pub const MAGIC: &[u8; 8] = b"SIDEKEY\0";
/// The section size that is written unless another is asked for: 64 KiB.
pub const DEFAULT_SECTION_LOG2: u8 = 16;

const VERSION: u8 = 1;
const SUITE: u8 = 1;

/// A container's header: what is public about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    section_log2: u8,
    metadata_len: u32,
    data_id: DataId,
    /// HKDF of the file key over the bytes before it; public, but compared in constant time.
    pub commitment: [u8; 32],
}

impl Header {
    /// A header without its commitment yet. `metadata_len` is the stored length of the metadata section, 0 for none.
    ///
    /// # Errors
    /// `Input` when the section size or the metadata length is outside the format.
    pub fn new(section_log2: u8, metadata_len: u32, data_id: DataId) -> Result<Self> {
        if !(12..=24).contains(&section_log2) {
            return Err(Error::input(format!("section size 2^{section_log2} is not between 2^12 and 2^24")));
        }
        if !valid_metadata_len(metadata_len) {
            return Err(Error::input(format!("metadata length {metadata_len} is not a possible one")));
        }
        Ok(Self { section_log2, metadata_len, data_id, commitment: [0; 32] })
    }

    /// Reads the 64 bytes of `bytes`.
    ///
    /// # Errors
    /// `Integrity`, naming the field.
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self> {
        let mut rest = bytes.as_slice();
        if take::<8>(&mut rest) != *MAGIC {
            return Err(Error::integrity("not a sidekey container (no magic at byte 0)"));
        }
        let [version, suite, section_log2, reserved] = take(&mut rest);
        if version != VERSION {
            return Err(Error::integrity(format!("container version {version} at byte 8 is unknown"))
                .hint("it is damaged, or a newer sidekey wrote it; this one reads version 1"));
        }
        if suite != SUITE {
            return Err(Error::integrity(format!("cipher suite {suite} at byte 9 is unknown"))
                .hint("it is damaged, or a newer sidekey wrote it; this one reads suite 1"));
        }
        if reserved != 0 {
            return Err(Error::integrity("reserved byte 11 of the header is not zero"));
        }
        let metadata_len = u32::from_le_bytes(take(&mut rest));
        let data_id = DataId(take(&mut rest));
        let header = Self::new(section_log2, metadata_len, data_id)
            .map_err(|error| Error::integrity(format!("header: {error}")))?;
        Ok(Self { commitment: take(&mut rest), ..header })
    }

    /// The 64 bytes.
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        for (to, from) in bytes.iter_mut().zip(self.salt().iter().chain(&self.commitment)) {
            *to = *from;
        }
        bytes
    }

    /// The first 32 bytes: the salt of every derivation from the file key.
    pub fn salt(&self) -> [u8; 32] {
        let mut salt = [0; 32];
        let fixed = [VERSION, SUITE, self.section_log2, 0];
        let metadata_len = self.metadata_len.to_le_bytes();
        let fields = MAGIC.iter().chain(&fixed).chain(&metadata_len).chain(&self.data_id.0);
        for (to, from) in salt.iter_mut().zip(fields) {
            *to = *from;
        }
        salt
    }

    /// The length of the plaintext of a full data section, in bytes.
    pub fn section_size(&self) -> usize {
        1 << self.section_log2
    }

    /// The stored length of the metadata section in bytes, 0 for none.
    pub fn metadata_len(&self) -> u32 {
        self.metadata_len
    }

    /// The data id.
    pub fn data_id(&self) -> DataId {
        self.data_id
    }
}

/// 0, or 48 bytes of framing and padding around 1 to 256 units of 256 bytes.
fn valid_metadata_len(len: u32) -> bool {
    let text = usize::try_from(len).ok().and_then(|len| len.checked_sub(FRAMING));
    len == 0 || text.is_some_and(|text| (1..=MAX_TEXT).contains(&text) && text.is_multiple_of(METADATA_UNIT))
}

/// The next `N` bytes of a slice that is known to have them; zeros where it has not.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    match rest.split_first_chunk::<N>() {
        Some((bytes, tail)) => {
            *rest = tail;
            *bytes
        }
        None => [0; N],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn sample() -> Header {
        let mut header = Header::new(16, 48 + 256, DataId([9; 16])).unwrap();
        header.commitment = [5; 32];
        header
    }

    #[test]
    fn bytes_and_back() {
        let bytes = sample().to_bytes();
        assert_eq!(Header::parse(&bytes).unwrap(), sample());
        assert_eq!(&bytes[..16], b"SIDEKEY\0\x01\x01\x10\x00\x30\x01\x00\x00");
        assert_eq!(bytes[..32], sample().salt());
    }

    #[test]
    fn every_fixed_field_is_checked() {
        for (at, value, says) in [
            (0, b'X', "no magic"),
            (8, 2, "version 2"),
            (9, 0, "suite 0"),
            (10, 11, "2^11"),
            (10, 25, "2^25"),
            (11, 1, "reserved"),
            (12, 0x31, "metadata length"),
            (15, 1, "metadata length"),
        ] {
            let mut bytes = sample().to_bytes();
            bytes[at] = value;
            let error = Header::parse(&bytes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Integrity);
            assert!(error.to_string().contains(says), "{error}");
        }
    }

    #[test]
    fn metadata_lengths_are_units_of_256() {
        for (len, good) in
            [(0, true), (48, false), (304, true), (305, false), (48 + 65536, true), (48 + 65792, false)]
        {
            assert_eq!(valid_metadata_len(len), good, "{len}");
        }
    }
}
