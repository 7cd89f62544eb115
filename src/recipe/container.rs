//! The container of the recipe: `Salted__`, an 8-byte salt and one CBC chain, raw or in base64.
//!
//! A container is read once, front to back, in bounded memory. It is not authenticated: all that reading can notice is its form and the padding of
//! its last block, so a caller keeps the plaintext under a temporary name until [`Reader::decrypt`] has returned.

use std::fmt;
use std::io::{Chain, Cursor, Read, Write};

use zeroize::Zeroizing;

use super::base64::{Bytes, Encoder, cannot_write, read_full};
use crate::crypto::recipe::{self, BLOCK, Decryptor, Encryptor, RecipeKey, SALT};
use crate::{DataId, Error, Result};

/// How the bytes of a container are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContainerEncoding {
    /// The bytes themselves.
    Raw,
    /// Base64 in lines of 64 columns: `openssl enc -a`.
    Base64Wrapped,
    /// Base64 on one line: `openssl enc -a -A`.
    Base64OneLine,
}

/// How many bytes from the start of a file [`detect_container`] needs to tell all encodings apart.
pub const DETECT_LEN: usize = 128;

/// Says whether a file that begins with `first_bytes` is a container of the recipe, and in which encoding.
///
/// ```
/// use sidekey::recipe::{ContainerEncoding, detect_container};
/// assert_eq!(detect_container(b"Salted__12345678..."), Some(ContainerEncoding::Raw));
/// assert_eq!(detect_container(b"SIDEKEY\0"), None);
/// ```
pub fn detect_container(first_bytes: &[u8]) -> Option<ContainerEncoding> {
    if first_bytes.starts_with(MAGIC) {
        return Some(ContainerEncoding::Raw);
    }
    // Eight bytes are ten characters and four bits of the eleventh.
    let rest = first_bytes.strip_prefix(MAGIC_BASE64)?;
    matches!(rest.first(), Some(b'8' | b'9' | b'+' | b'/')).then_some(())?;
    let first = first_bytes.get(..DETECT_LEN).unwrap_or(first_bytes);
    match first.contains(&b'\n') {
        true => Some(ContainerEncoding::Base64Wrapped),
        false => Some(ContainerEncoding::Base64OneLine),
    }
}

/// The shortest and the longest plaintext that a container of `len` bytes may hold, as far as its length tells; nothing
/// when no container is so short.
///
/// ```
/// use sidekey::recipe::{ContainerEncoding, plain_len};
/// assert_eq!(plain_len(32, ContainerEncoding::Raw), Some((0, 15)));
/// assert_eq!(plain_len(45, ContainerEncoding::Base64Wrapped), Some((0, 15)));
/// ```
pub fn plain_len(len: u64, encoding: ContainerEncoding) -> Option<(u64, u64)> {
    let characters = match encoding {
        ContainerEncoding::Raw => None,
        ContainerEncoding::Base64Wrapped => Some(len - len.div_ceil(65)),
        ContainerEncoding::Base64OneLine => Some(len),
    };
    let bytes = characters.map_or(len, |characters| characters / 4 * 3);
    let blocks = (bytes / BLOCK as u64 * BLOCK as u64).checked_sub((HEAD + BLOCK) as u64)?;
    Some((blocks, blocks + BLOCK as u64 - 1))
}

/// A container that is being read from its start.
///
/// ```
/// # use sidekey::crypto::recipe::{Kdf, derive};
/// # use sidekey::recipe::{ContainerEncoding, Reader, encrypt};
/// # let (kdf, mut file) = (Kdf::EvpSha256, Vec::new());
/// # let made = derive(kdf, b"secret", &[7; 8]);
/// # encrypt(&b"hello"[..], &made, &[7; 8], ContainerEncoding::Base64Wrapped, &mut file)?;
/// let reader = Reader::new(&file[..])?;
/// let key = derive(kdf, b"secret", reader.salt());
/// let mut plaintext = Vec::new();
/// assert_eq!(reader.decrypt(&key, &mut plaintext)?, 5);
/// assert_eq!(plaintext, b"hello");
/// # Ok::<(), sidekey::Error>(())
/// ```
pub struct Reader<R> {
    bytes: Bytes<Chain<Cursor<Vec<u8>>, R>>,
    salt: [u8; SALT],
    /// The first decoded bytes, 64 or all there are: what the data id covers.
    first: Vec<u8>,
}

impl<R: Read> Reader<R> {
    /// Reads as far as the salt.
    ///
    /// # Errors
    /// `Input` when it is not a container of the recipe; `Integrity` when it ends before its first block does, or its
    /// base64 is damaged there; `Io` when `src` cannot be read.
    pub fn new(mut src: R) -> Result<Self> {
        let mut head = vec![0; DETECT_LEN];
        let len = read_full(&mut src, &mut head)?;
        head.truncate(len);
        let encoding = detect_container(&head).ok_or_else(|| {
            Error::input("not a container of the OpenSSL recipe: it does not begin with Salted__")
        })?;
        let mut bytes = Bytes::new(encoding, Cursor::new(head).chain(src));
        let mut first = vec![0; recipe::DATA_ID_COVERS];
        let len = bytes.fill(&mut first)?;
        first.truncate(len);
        match first.get(MAGIC.len()..).and_then(|rest| rest.split_first_chunk()) {
            Some((salt, [_, ..])) => Ok(Self { salt: *salt, bytes, first }),
            _ => Err(bytes.truncated("the container ends before its first block")),
        }
    }

    /// How its bytes are written down.
    pub fn encoding(&self) -> ContainerEncoding {
        self.bytes.encoding
    }

    /// The salt that its key was derived with.
    pub fn salt(&self) -> &[u8; SALT] {
        &self.salt
    }

    /// The data id that names it once it is adopted.
    pub fn data_id(&self) -> DataId {
        recipe::data_id(&self.first)
    }

    /// Deciphers all of it into `dst` and returns the plaintext's length in bytes. The last block is written only when
    /// its padding is good; what was written before an error is worthless.
    ///
    /// # Errors
    /// `Integrity` when it is truncated, its base64 is damaged or the padding is wrong (a wrong key looks the same);
    /// `Io` when reading or writing fails.
    pub fn decrypt(mut self, key: &RecipeKey, mut dst: impl Write) -> Result<u64> {
        let mut chain = Decryptor::new(key);
        let mut buffer = Zeroizing::new(vec![0; CHUNK]);
        let mut total = 0;
        // One block is held back: only the end of the input tells which block is the last.
        let mut held = self.first.split_off(HEAD);
        loop {
            buffer[..held.len()].copy_from_slice(&held);
            let len = held.len() + self.bytes.fill(&mut buffer[held.len()..])?;
            if len < CHUNK {
                let last = &mut buffer[..len];
                return Ok(total + self.finish(chain, last, dst)?);
            }
            let (body, tail) = buffer.split_at_mut(CHUNK - BLOCK);
            held.clear();
            held.extend_from_slice(tail);
            chain.decrypt(body);
            dst.write_all(body).map_err(cannot_write)?;
            total += body.len() as u64;
        }
    }

    /// All of its ciphertext, when that is at most `limit` bytes.
    pub(super) fn short_ciphertext(&mut self, limit: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; limit];
        let held = self.first.get(HEAD..).unwrap_or_default();
        bytes[..held.len()].copy_from_slice(held);
        let len = held.len() + self.bytes.fill(&mut bytes[held.len()..])?;
        bytes.truncate(len);
        self.check_blocks(len)?;
        Ok(bytes)
    }

    /// Reads all of it and checks that it ends with a whole block.
    pub(super) fn check_length(mut self) -> Result<()> {
        let mut buffer = vec![0; CHUNK];
        loop {
            let len = self.bytes.fill(&mut buffer)?;
            if len < CHUNK {
                return self.check_blocks(self.first.len() + len);
            }
        }
    }

    /// Checks that what ends where the reader stands is made of whole blocks, and of one at least.
    fn check_blocks(&self, len: usize) -> Result<()> {
        if len == 0 || !len.is_multiple_of(BLOCK) {
            return Err(self.bytes.truncated("the container ends in the middle of a block"));
        }
        Ok(())
    }

    /// Deciphers what is left, checks the padding and writes the rest of the plaintext.
    fn finish(&self, mut chain: Decryptor, last: &mut [u8], mut dst: impl Write) -> Result<u64> {
        self.check_blocks(last.len())?;
        chain.decrypt(last);
        let padding = recipe::padding_len(&last[last.len() - BLOCK..]);
        let Some(padding) = padding else {
            let end = self.bytes.offset();
            return Err(Error::integrity(format!(
                "the last block, which ends at byte {end}, has no valid padding: \
                 the key is wrong or the container is damaged"
            )));
        };
        let text = &last[..last.len() - usize::from(padding)];
        dst.write_all(text).map_err(cannot_write)?;
        Ok(text.len() as u64)
    }
}

impl<R> fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader({:?})", self.bytes.encoding)
    }
}

/// Enciphers `src` into a container and returns the plaintext's length in bytes. `key` must be what
/// [`derive`](recipe::derive) makes of the password and the same `salt`, and both must be new for every file.
///
/// # Errors
/// `Io` when reading or writing fails.
pub fn encrypt(
    mut src: impl Read,
    key: &RecipeKey,
    salt: &[u8; SALT],
    encoding: ContainerEncoding,
    dst: impl Write,
) -> Result<u64> {
    let mut out = Encoder::new(encoding, dst);
    out.write(MAGIC)?;
    out.write(salt)?;
    let mut chain = Encryptor::new(key);
    let mut buffer = Zeroizing::new(vec![0; CHUNK + BLOCK]);
    let mut total = 0;
    loop {
        let len = read_full(&mut src, &mut buffer[..CHUNK])?;
        total += len as u64;
        if len == CHUNK {
            chain.encrypt(&mut buffer[..len]);
            out.write(&buffer[..len])?;
            continue;
        }
        let padding = BLOCK - len % BLOCK;
        buffer[len..len + padding].fill(padding as u8);
        chain.encrypt(&mut buffer[..len + padding]);
        out.write(&buffer[..len + padding])?;
        out.finish()?;
        return Ok(total);
    }
}

/// What every container begins with, and the ten characters that are certain of its base64.
pub(super) const MAGIC: &[u8; 8] = b"Salted__";
const MAGIC_BASE64: &[u8; 10] = b"U2FsdGVkX1";
/// The length of magic and salt, in bytes.
const HEAD: usize = MAGIC.len() + SALT;
/// How much is deciphered at a time, in bytes.
const CHUNK: usize = 64 * 1024;
