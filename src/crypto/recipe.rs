//! The arithmetic of the OpenSSL recipe: what `openssl enc -aes-256-cbc` derives from a password, and its CBC chain.
//!
//! Nothing here is authenticated: a wrong key or a changed byte shows, at best, as a padding fault in the last block,
//! and a wrong key passes even that once in 255 times. Which derivation a file was made with is settled by
//! [`crate::recipe`], which also owns the files' outer form.

use std::fmt;
use std::str::FromStr;

use md5::Md5;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::lanes::{Block, CbcDecryptor, CbcEncryptor, CbcLane};
use crate::secret::{EncKey, SecretBytes};
use crate::{DataId, Error, Result};

/// The length of an AES block, in bytes (FIPS 197).
pub const BLOCK: usize = 16;
/// The length of the salt behind `Salted__`, in bytes.
pub const SALT: usize = 8;
/// What `openssl enc -pbkdf2` uses when no `-iter` is given.
pub const OPENSSL_ROUNDS: u32 = 10_000;
/// What sidekey writes.
pub const WRITTEN_ROUNDS: u32 = 600_000;
/// The most PBKDF2 rounds that are ever run for a file; a key file may come from anyone.
pub const MAX_ROUNDS: u32 = 10_000_000;

/// How the recipe makes a key from a password and a salt.
///
/// ```
/// use sidekey::crypto::recipe::Kdf;
/// assert_eq!("pbkdf2:10000".parse::<Kdf>()?, Kdf::Pbkdf2 { rounds: 10_000 });
/// assert_eq!(Kdf::EvpMd5.to_string(), "md5");
/// # Ok::<(), sidekey::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kdf {
    /// EVP_BytesToKey with MD5 and one round: OpenSSL before 1.1.0, or `-md md5`.
    EvpMd5,
    /// EVP_BytesToKey with SHA-256 and one round: OpenSSL since 1.1.0.
    EvpSha256,
    /// PBKDF2-HMAC-SHA-256 (RFC 8018, section 5.2): `-pbkdf2`, 10,000 rounds unless `-iter` says otherwise.
    Pbkdf2 {
        /// The iteration count.
        rounds: u32,
    },
}

impl fmt::Display for Kdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EvpMd5 => f.write_str("md5"),
            Self::EvpSha256 => f.write_str("sha256"),
            Self::Pbkdf2 { rounds } => write!(f, "pbkdf2:{rounds}"),
        }
    }
}

impl FromStr for Kdf {
    type Err = Error;

    /// Reads `md5`, `sha256`, `pbkdf2` (10,000 rounds) or `pbkdf2:ROUNDS`.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "md5" => Ok(Self::EvpMd5),
            "sha256" => Ok(Self::EvpSha256),
            "pbkdf2" => Ok(Self::Pbkdf2 { rounds: OPENSSL_ROUNDS }),
            _ => text
                .strip_prefix("pbkdf2:")
                .filter(|rounds| {
                    rounds.bytes().all(|digit| digit.is_ascii_digit()) && !rounds.starts_with('0')
                })
                .and_then(|rounds| rounds.parse().ok())
                .filter(|rounds| *rounds <= MAX_ROUNDS)
                .map(|rounds| Self::Pbkdf2 { rounds })
                .ok_or_else(|| {
                    Error::input(format!("no key derivation of the OpenSSL recipe is called {text:?}"))
                        .hint(format!("md5, sha256 and pbkdf2:ROUNDS are, with at most {MAX_ROUNDS} rounds"))
                }),
        }
    }
}

/// The AES-256 key and the IV of one file of the recipe; also what a `recipe-key` entry of an envelope carries.
///
/// Wiped when dropped, never printed.
pub struct RecipeKey(Box<KeyAndIv>);

#[derive(Default, Zeroize, ZeroizeOnDrop)]
struct KeyAndIv {
    key: [u8; 32],
    iv: [u8; BLOCK],
}

impl RecipeKey {
    /// The length of [`RecipeKey::payload`], in bytes.
    pub const LEN: usize = 48;

    /// Takes what an envelope's entry carried: AES key || IV.
    ///
    /// # Errors
    /// `Integrity` when it is not 48 bytes long.
    pub fn from_payload(payload: &[u8]) -> Result<Self> {
        let payload: &[u8; Self::LEN] = payload.try_into().map_err(|_| {
            Error::integrity(format!("a recipe key has 48 bytes, but its entry carries {}", payload.len()))
        })?;
        Ok(Self::from_bytes(payload))
    }

    /// AES key || IV, for an envelope's entry.
    pub fn payload(&self) -> SecretBytes {
        SecretBytes::new([self.0.key.as_slice(), &self.0.iv].concat())
    }

    /// How many bytes of PKCS#7 padding (RFC 5652, section 6.3) the ciphertext block `last` ends in, 1 to 16, or
    /// nothing when it ends in none. `previous` is the block before it, or nothing when `last` is the only one.
    ///
    /// The answer is evidence, not proof: `n` bytes of padding stand there by chance once in 256^n times.
    pub fn padding(&self, previous: Option<&[u8; BLOCK]>, last: &[u8; BLOCK]) -> Option<u8> {
        let mut chain = Decryptor::with_iv(self, previous.unwrap_or(&self.0.iv));
        let mut block = Zeroizing::new(*last);
        chain.decrypt(block.as_mut_slice());
        padding_len(block.as_slice())
    }

    fn enc_key(&self) -> EncKey {
        EncKey::from_bytes(&self.0.key)
    }

    fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let mut parts = Box::<KeyAndIv>::default();
        let (key, iv) = bytes.split_at(parts.key.len());
        parts.key.copy_from_slice(key);
        parts.iv.copy_from_slice(iv);
        Self(parts)
    }
}

impl fmt::Debug for RecipeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecipeKey(..)")
    }
}

/// The key and IV that `openssl enc -aes-256-cbc` makes of `password` and the 8-byte salt.
pub fn derive(kdf: Kdf, password: &[u8], salt: &[u8; SALT]) -> RecipeKey {
    let mut bytes = Zeroizing::new([0; RecipeKey::LEN]);
    match kdf {
        Kdf::EvpMd5 => bytes_to_key::<Md5>(password, salt, bytes.as_mut_slice()),
        Kdf::EvpSha256 => bytes_to_key::<Sha256>(password, salt, bytes.as_mut_slice()),
        Kdf::Pbkdf2 { rounds } => {
            pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, rounds, bytes.as_mut_slice());
        }
    }
    RecipeKey::from_bytes(&bytes)
}

/// The data id of a recipe container: SHA-256(`sidekey/1 recipe` || its first 64 decoded bytes, or all)[..16]
/// (docs/format.md, "Recipe"). Bytes behind the first 64 are ignored.
pub fn data_id(container: &[u8]) -> DataId {
    let first = container.get(..DATA_ID_COVERS).unwrap_or(container);
    let digest: [u8; 32] =
        Sha256::new().chain_update(b"sidekey/1 recipe").chain_update(first).finalize().into();
    let mut id = DataId([0; 16]);
    id.0.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    id
}

/// How many bytes of the decoded container its [`data_id`] covers.
pub const DATA_ID_COVERS: usize = 64;

/// The deciphering half of the chain, from the first block on.
pub struct Decryptor {
    cbc: CbcDecryptor,
    before: Block,
}

impl Decryptor {
    /// Starts at the first block, with the key's own IV.
    pub fn new(key: &RecipeKey) -> Self {
        Self::with_iv(key, &key.0.iv)
    }

    /// Deciphers whole blocks in place.
    ///
    /// `bytes` must be a multiple of 16 long; a shorter tail stays as it is.
    pub fn decrypt(&mut self, bytes: &mut [u8]) {
        let (blocks, _tail) = bytes.as_chunks_mut::<BLOCK>();
        let Some(last) = blocks.last().copied() else { return };
        self.cbc.decrypt(&self.before, blocks);
        self.before = last;
    }

    fn with_iv(key: &RecipeKey, iv: &[u8; BLOCK]) -> Self {
        Self { cbc: CbcDecryptor::new(key.enc_key().expose()), before: *iv }
    }
}

impl fmt::Debug for Decryptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decryptor(..)")
    }
}

/// The enciphering half of the chain.
pub struct Encryptor {
    cbc: CbcEncryptor,
    before: Block,
}

impl Encryptor {
    /// Starts at the first block, with the key's own IV.
    pub fn new(key: &RecipeKey) -> Self {
        Self { cbc: CbcEncryptor::new(key.enc_key().expose()), before: key.0.iv }
    }

    /// Enciphers whole blocks in place.
    ///
    /// `bytes` must be a multiple of 16 long; a shorter tail stays as it is.
    pub fn encrypt(&mut self, bytes: &mut [u8]) {
        let (blocks, _tail) = bytes.as_chunks_mut::<BLOCK>();
        let mut lanes = [CbcLane { iv: self.before, blocks }];
        self.cbc.encrypt(&mut lanes);
        self.before = lanes[0].iv;
    }
}

impl fmt::Debug for Encryptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encryptor(..)")
    }
}

/// How many bytes of PKCS#7 padding the deciphered text ends in, 1 to 16, or nothing.
///
/// Not constant-time: the recipe has no authentication, so whoever can ask often and change the file has an oracle in
/// the plaintext itself; sidekey reads such files for their owner, on the owner's machine.
pub fn padding_len(text: &[u8]) -> Option<u8> {
    let len = *text.last()?;
    let start = text.len().checked_sub(len.into())?;
    let sound = (1..=BLOCK).contains(&len.into()) && text.get(start..)?.iter().all(|byte| *byte == len);
    sound.then_some(len)
}

/// EVP_BytesToKey with one round: `D_i = H(D_(i-1) || password || salt)`, joined until `out` is full.
fn bytes_to_key<H: Digest>(password: &[u8], salt: &[u8; SALT], out: &mut [u8]) {
    let mut digest = Zeroizing::new(Vec::new());
    for part in out.chunks_mut(<H as Digest>::output_size()) {
        let mut next = H::new().chain_update(&*digest).chain_update(password).chain_update(salt).finalize();
        digest.zeroize();
        digest.extend_from_slice(&next);
        next.as_mut_slice().zeroize();
        part.iter_mut().zip(digest.iter()).for_each(|(to, from)| *to = *from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `openssl enc -aes-256-cbc -P -S 0102030405060708 -pass pass:secret`, with the options of each derivation.
    #[test]
    fn keys_are_those_that_openssl_prints() {
        for (kdf, expected) in [
            (
                "md5",
                "c9e5a1bd216dbe1317e230cef48f38ee7f0e17ad64022144bccec4a1aa2879abe24b32bbbc4ef02ecbcb6576523ad893",
            ),
            (
                "sha256",
                "03b375940cb96c16f84faa87f5ef39cc0bc7066ccd3e14456d9d74e438e35832904aebc6e588fdb49fd15806bb4fee6f",
            ),
            (
                "pbkdf2",
                "655ec7e9609ad23d787efd751f2dad3fb5f58e5e8ef9cf1cfc23cb9c51a76151af2e5e3689dc0d8752f500b39ab332c1",
            ),
            (
                "pbkdf2:1234",
                "be4bd57bff3a57f18b59c2f11c543900d244d4287e75fc5277d078e508dfab436f294b9eb5ea4480fe604bb8a9374905",
            ),
        ] {
            let key = derive(kdf.parse().unwrap(), b"secret", &[1, 2, 3, 4, 5, 6, 7, 8]);
            let hex: String = key.payload().expose().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, expected, "{kdf}");
        }
    }

    #[test]
    fn derivations_print_as_they_are_read() {
        for text in ["md5", "sha256", "pbkdf2:1", "pbkdf2:10000", "pbkdf2:10000000"] {
            assert_eq!(text.parse::<Kdf>().unwrap().to_string(), text);
        }
        for text in ["", "MD5", "sha1", "pbkdf2:", "pbkdf2:0", "pbkdf2:010", "pbkdf2:+1", "pbkdf2:10000001"] {
            let error = text.parse::<Kdf>().unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Input);
            assert_eq!(
                error.to_string(),
                format!("no key derivation of the OpenSSL recipe is called {text:?}")
            );
        }
    }

    #[test]
    fn padding_is_one_to_sixteen_equal_bytes() {
        for (text, expected) in [
            (&[7, 7, 1][..], Some(1)),
            (&[2, 2][..], Some(2)),
            (&[16; 16][..], Some(16)),
            (&[2][..], None),
            (&[1, 2][..], None),
            (&[5, 0][..], None),
            (&[17; 32][..], None),
            (&[][..], None),
        ] {
            assert_eq!(padding_len(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_payload_is_48_bytes_and_is_not_shown() {
        let payload: Vec<u8> = (0..48).collect();
        let key = RecipeKey::from_payload(&payload).unwrap();
        assert_eq!(key.payload().expose(), payload);
        assert_eq!(format!("{key:?}"), "RecipeKey(..)");
        let error = RecipeKey::from_payload(&payload[1..]).unwrap_err();
        assert_eq!(error.to_string(), "a recipe key has 48 bytes, but its entry carries 47");
    }
}
