//! The public identifiers: [`DataId`] names one encryption of one file, [`KeyId`] one RSA key, [`VaultId`] one vault.

use std::fmt;
use std::str::FromStr;

use crate::random::Random;
use crate::{Error, Result};

/// 16 random bytes that name one encryption of one file; in hex, 32 lower-case digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DataId(pub [u8; 16]);

impl DataId {
    /// A new random data id.
    pub fn generate(random: &dyn Random) -> Result<Self> {
        let mut id = [0; 16];
        random.fill(&mut id)?;
        Ok(Self(id))
    }

    /// The first 16 hex digits, as they stand in the name of an envelope in a location.
    pub fn short(&self) -> String {
        let mut hex = self.to_string();
        hex.truncate(16);
        hex
    }
}

/// SHA-256 of the DER of a public key's SubjectPublicKeyInfo (RFC 5280, section 4.1); in hex, 64 lower-case digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub [u8; 32]);

impl KeyId {
    /// The first 16 hex digits, for messages.
    pub fn short(&self) -> String {
        let mut hex = self.to_string();
        hex.truncate(16);
        hex
    }
}

/// 15 random bytes and a zero that name one vault; in hex, 32 lower-case digits. The last byte is the place of the
/// generation in the data id of a master envelope.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VaultId(pub [u8; 16]);

impl VaultId {
    /// A new random vault id.
    ///
    /// # Errors
    /// What the source of randomness fails with.
    pub fn generate(random: &dyn Random) -> Result<Self> {
        let mut id = [0; 16];
        random.fill(&mut id)?;
        id[15] = 0;
        Ok(Self(id))
    }

    /// The data id of the envelope that holds the master key of this generation.
    pub fn data_id(&self, generation: u8) -> DataId {
        let mut id = self.0;
        id[15] = generation;
        DataId(id)
    }
}

macro_rules! hex_id {
    ($name:ident, $len:literal, $what:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
                let mut hex = [[0; 2]; size_of::<Self>()];
                for (pair, byte) in hex.iter_mut().zip(self.0) {
                    *pair = [digit(byte >> 4), digit(byte & 15)];
                }
                f.write_str(std::str::from_utf8(hex.as_flattened()).unwrap_or_default())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                parse_hex(text.as_bytes())
                    .map(Self)
                    .ok_or_else(|| Error::input(concat!($what, " is not ", $len, " lower-case hex digits")))
            }
        }
    };
}

hex_id!(DataId, "32", "data id");
hex_id!(KeyId, "64", "key id");
hex_id!(VaultId, "32", "vault id");

/// Two lower-case hex digits for each byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Exactly `N` bytes from `2 * N` lower-case hex digits.
pub(crate) fn parse_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_exact_and_lower_case() {
        let text = "000102030405060708090a0b0c0d0eff";
        assert_eq!(text.parse::<DataId>().unwrap().to_string(), text);
        for bad in ["", "00", "000102030405060708090A0B0C0D0EFF", "000102030405060708090a0b0c0d0ef ", "+0"] {
            assert!(bad.parse::<DataId>().is_err(), "{bad:?}");
        }
    }
}
