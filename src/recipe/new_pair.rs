//! Writing a pair that two commands of OpenSSL's decrypt.

use std::fmt;
use std::io::{Read, Write};

use super::{ContainerEncoding, KeyFile, KeyFileForm, PasswordBlock, PasswordReading, encrypt};
use crate::Result;
use crate::crypto::recipe::{Kdf, RecipeKey, SALT, derive};
use crate::crypto::rsa::PublicKey;
use crate::random::Random;

/// A new password, salt and key: for one container, and as many key files as it has recipients.
///
/// What it writes opens with OpenSSL alone (`-a` for base64, without it for raw):
///
/// ```text
/// openssl pkeyutl -decrypt -inkey priv.pem -in NAME.key.enc |
///   openssl enc -d -aes-256-cbc -a -pbkdf2 -iter 600000 -pass stdin -in NAME.enc -out NAME
/// ```
pub struct NewPair {
    password: PasswordBlock,
    salt: [u8; SALT],
    key: RecipeKey,
}

impl NewPair {
    /// A new random password and salt, and the key that PBKDF2 makes of them in `rounds` rounds
    /// ([`WRITTEN_ROUNDS`](crate::crypto::recipe::WRITTEN_ROUNDS) unless there is a reason).
    ///
    /// # Errors
    /// `Usage` when `rounds` is out of range; `Io` when there is no randomness.
    pub fn generate(random: &dyn Random, rounds: u32) -> Result<Self> {
        let password = PasswordBlock::generate(random, rounds)?;
        let mut salt = [0; SALT];
        random.fill(&mut salt)?;
        let bytes = password.password(PasswordReading::FirstLine);
        let key = derive(Kdf::Pbkdf2 { rounds }, bytes.expose(), &salt);
        Ok(Self { password, salt, key })
    }

    /// The key file for `recipient`.
    pub fn key_file(&self, recipient: &PublicKey, form: KeyFileForm) -> Result<KeyFile> {
        KeyFile::wrap(&self.password, recipient, form)
    }

    /// Enciphers `src` into the container and returns the plaintext's length in bytes. By value: a key and salt serve
    /// one container only.
    ///
    /// # Errors
    /// `Io` when reading or writing fails.
    pub fn encrypt(self, src: impl Read, encoding: ContainerEncoding, dst: impl Write) -> Result<u64> {
        encrypt(src, &self.key, &self.salt, encoding, dst)
    }
}

impl fmt::Debug for NewPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewPair(..)")
    }
}
