//! Secrets are types: wiped when dropped, never cloned, never printed.
//!
//! A secret's bytes sit on the heap behind a `Box`, so that moving the value does not leave copies on the stack.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::Result;
use crate::random::Random;

macro_rules! secret_key {
    ($(#[$doc:meta])* $name:ident) => {
        secret_key!($(#[$doc])* $name, 32);
    };
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        pub struct $name(Box<Zeroizing<[u8; $len]>>);

        impl $name {
            /// Takes the bytes that `fill` writes; nothing else ever holds them.
            pub fn from_fill<E>(fill: impl FnOnce(&mut [u8; $len]) -> Result<(), E>) -> Result<Self, E> {
                let mut key = Self(Box::new(Zeroizing::new([0; $len])));
                fill(&mut key.0)?;
                Ok(key)
            }

            /// Copies `bytes`.
            pub fn from_bytes(bytes: &[u8; $len]) -> Self {
                let mut key = Self(Box::new(Zeroizing::new([0; $len])));
                key.0.copy_from_slice(bytes);
                key
            }

            /// The raw bytes; every use is a place to look at.
            pub fn expose(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

secret_key!(
    /// The random one-time key of one container (docs/format.md, "File key").
    FileKey
);
secret_key!(
    /// The AES-256 key of a container's sections, derived from its [`FileKey`].
    EncKey
);
secret_key!(
    /// The CMAC key of a container's sections, derived from its [`FileKey`].
    MacKey
);
secret_key!(
    /// What the initialization vectors of one container come from, where it may have to be made a second time.
    IvKey
);
secret_key!(
    /// The key under which a service keeps one container, where it is asked to (SSE-C), derived from its [`FileKey`].
    SseKey
);
secret_key!(
    /// The key of a vault, from which those for names, info records and settings are derived (docs/format.md, "Vaults").
    MasterKey
);
secret_key!(
    /// An AES-256-SIV key (RFC 5297): the halves for S2V and for CTR.
    SivKey, 64
);
secret_key!(
    /// A key of HMAC-SHA-256.
    HmacKey
);

impl MasterKey {
    /// A new random master key.
    ///
    /// # Errors
    /// What the source of randomness fails with.
    pub fn generate(random: &dyn Random) -> Result<Self> {
        Self::from_fill(|key| random.fill(key))
    }

    /// Whether both are the same key, in constant time.
    pub fn same_as(&self, other: &Self) -> bool {
        self.expose().ct_eq(other.expose()).into()
    }
}

impl IvKey {
    /// A new random key.
    pub fn generate(random: &dyn Random) -> Result<Self> {
        Self::from_fill(|key| random.fill(key))
    }
}

impl FileKey {
    /// A new random file key.
    pub fn generate(random: &dyn Random) -> Result<Self> {
        Self::from_fill(|key| random.fill(key))
    }

    /// Whether both are the same key, in constant time.
    pub fn same_as(&self, other: &Self) -> bool {
        self.expose().ct_eq(other.expose()).into()
    }
}

/// Bytes of any length that are wiped when dropped: decrypted key files, one-time passwords.
#[derive(Default)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes over `bytes`.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The raw bytes; every use is a place to look at.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<Zeroizing<Vec<u8>>> for SecretBytes {
    fn from(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(..)")
    }
}

/// A passphrase, as bytes: what OpenSSL hashes is bytes, whatever their encoding.
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// Takes over `bytes` as they are.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The first line of `bytes` without its line end (LF or CRLF), as a passphrase file holds it.
    pub fn first_line(mut bytes: Vec<u8>) -> Self {
        let mut end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        if end > 0 && end < bytes.len() && bytes.get(end - 1) == Some(&b'\r') {
            end -= 1;
        }
        let line = Self(Zeroizing::new(bytes.get(..end).unwrap_or_default().to_vec()));
        bytes.zeroize();
        line
    }

    /// The raw bytes; every use is a place to look at.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether it has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_shows_no_byte_of_a_secret() {
        let key = FileKey::from_bytes(&[0xAB; 32]);
        assert_eq!(format!("{key:?}"), "FileKey(..)");
        assert_eq!(format!("{:?}", Passphrase::new(b"hunter2".to_vec())), "Passphrase(..)");
        assert_eq!(format!("{:?}", SecretBytes::new(b"hunter2".to_vec())), "SecretBytes(..)");
    }

    #[test]
    fn a_passphrase_file_is_its_first_line() {
        for (file, expected) in
            [("one\ntwo", "one"), ("one\r\n", "one"), ("one", "one"), ("\n", ""), ("a b \n", "a b ")]
        {
            assert_eq!(Passphrase::first_line(file.into()).expose(), expected.as_bytes(), "{file:?}");
        }
    }
}
