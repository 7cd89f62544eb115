//! The two ends of a container: enough to try a key on it, without reading what lies between.

use std::io::{Read, Seek, SeekFrom};

use super::base64::{cannot_read, decode, read_full};
use super::{ContainerEncoding, Reader};
use crate::crypto::recipe::{BLOCK, RecipeKey, SALT};
use crate::{DataId, Error, Result};

/// What the head and the last two blocks of a container say.
///
/// ```
/// # use std::io::Cursor;
/// # use sidekey::crypto::recipe::{Kdf, derive};
/// # use sidekey::recipe::{ContainerEncoding, Sample, encrypt};
/// # let mut file = Vec::new();
/// # let made = derive(Kdf::EvpMd5, b"secret", &[7; 8]);
/// # encrypt(&b"hello"[..], &made, &[7; 8], ContainerEncoding::Raw, &mut file)?;
/// let sample = Sample::read(&mut Cursor::new(file))?;
/// let key = derive(Kdf::EvpMd5, b"secret", sample.salt());
/// assert_eq!(sample.padding(&key), Some(11));
/// # Ok::<(), sidekey::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sample {
    encoding: ContainerEncoding,
    data_id: DataId,
    salt: [u8; SALT],
    previous: Option<[u8; BLOCK]>,
    last: [u8; BLOCK],
}

impl Sample {
    /// Reads both ends of the container that `src` is from its first byte to its last; where `src` stands before and
    /// after does not matter.
    ///
    /// # Errors
    /// As [`Reader::new`]; `Integrity` also when the length shows that the container is truncated.
    pub fn read(src: &mut (impl Read + Seek)) -> Result<Self> {
        let len = src.seek(SeekFrom::End(0)).map_err(cannot_read)?;
        src.rewind().map_err(cannot_read)?;
        let mut reader = Reader::new(&mut *src)?;
        let (encoding, data_id, salt) = (reader.encoding(), reader.data_id(), *reader.salt());
        let blocks = match encoding {
            _ if len <= WINDOW as u64 => reader.short_ciphertext(WINDOW)?,
            ContainerEncoding::Raw => raw_end(src, len)?,
            _ => base64_end(src, len, encoding)?,
        };
        let (before, last) = blocks.split_last_chunk().ok_or_else(|| ends_inside_a_block(len))?;
        let previous = before.split_last_chunk().map(|(_, previous)| *previous);
        Ok(Self { encoding, data_id, salt, previous, last: *last })
    }

    /// The same from a container's first bytes and its last ones, [`END_LEN`](Self::END_LEN) each or all there are, where
    /// it is `len` bytes long. Nothing when only reading all of it can tell: its lines are none that OpenSSL writes, or it
    /// is truncated.
    ///
    /// # Errors
    /// Those of [`Sample::read`].
    pub fn from_ends(len: u64, front: &[u8], end: &[u8]) -> Result<Option<Self>> {
        if front.len() as u64 == len {
            return Self::read(&mut std::io::Cursor::new(front)).map(Some);
        }
        let reader = Reader::new(front)?;
        let (encoding, data_id, salt) = (reader.encoding(), reader.data_id(), *reader.salt());
        let blocks = match encoding {
            ContainerEncoding::Raw if !len.is_multiple_of(BLOCK as u64) => {
                return Err(ends_inside_a_block(len));
            }
            ContainerEncoding::Raw => end.to_vec(),
            _ if is_odd(len, end, encoding) => return Ok(None),
            _ => last_groups(end.to_vec())?,
        };
        let (before, last) = blocks.split_last_chunk().ok_or_else(|| ends_inside_a_block(len))?;
        let previous = before.split_last_chunk().map(|(_, previous)| *previous);
        Ok(Some(Self { encoding, data_id, salt, previous, last: *last }))
    }

    /// How many bytes of each end [`from_ends`](Self::from_ends) wants.
    pub const END_LEN: u64 = WINDOW as u64;

    /// How the container's bytes are written down.
    pub fn encoding(&self) -> ContainerEncoding {
        self.encoding
    }

    /// The data id that names the container once it is adopted.
    pub fn data_id(&self) -> DataId {
        self.data_id
    }

    /// The salt that its key was derived with.
    pub fn salt(&self) -> &[u8; SALT] {
        &self.salt
    }

    /// How many bytes of padding, 1 to 16, the container ends in when `key` deciphers it, or nothing when it ends in
    /// none. A wrong key ends in `n` bytes of padding once in 256^n times.
    pub fn padding(&self, key: &RecipeKey) -> Option<u8> {
        key.padding(self.previous.as_ref(), &self.last)
    }
}

/// The last two blocks of a raw container.
fn raw_end(src: &mut (impl Read + Seek), len: u64) -> Result<Vec<u8>> {
    if !len.is_multiple_of(BLOCK as u64) {
        return Err(ends_inside_a_block(len));
    }
    window(src, len, 2 * BLOCK)
}

/// The last two blocks, or some more bytes, of a container in base64.
fn base64_end(src: &mut (impl Read + Seek), len: u64, encoding: ContainerEncoding) -> Result<Vec<u8>> {
    let text = window(src, len, WINDOW)?;
    if is_odd(len, &text, encoding) {
        // Unless the lines in the middle differ from those at the end.
        src.rewind().map_err(cannot_read)?;
        Reader::new(&mut *src)?.check_length()?;
    }
    last_groups(text)
}

/// Whether text of this length, which ends so, seems to hold no whole blocks.
fn is_odd(len: u64, end: &[u8], encoding: ContainerEncoding) -> bool {
    decoded_len(len, end, encoding)
        .is_some_and(|decoded| !decoded.is_some_and(|decoded| decoded.is_multiple_of(BLOCK as u64)))
}

/// What the end of a text in base64 holds.
fn last_groups(text: Vec<u8>) -> Result<Vec<u8>> {
    // Groups of four are counted from the end, where padding makes the last one whole.
    let mut characters: Vec<u8> = text.into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect();
    characters.drain(..characters.len() % 4);
    decode(&characters).ok_or_else(|| Error::integrity(format!("damaged base64 in the last {WINDOW} bytes")))
}

/// The length that text of the two forms OpenSSL writes decodes to: nothing when `window`, its end, shows another
/// form, so that only reading it all would tell; nothing inside when it ends in the middle of a group.
fn decoded_len(len: u64, window: &[u8], encoding: ContainerEncoding) -> Option<Option<u64>> {
    let text = window.trim_ascii_end();
    let text_len = len - (window.len() - text.len()) as u64;
    let line = match encoding {
        ContainerEncoding::Base64Wrapped if text.contains(&b'\r') => 66,
        ContainerEncoding::Base64Wrapped => 65,
        _ => u64::MAX,
    };
    let start = text_len - text.len() as u64;
    let regular = (start..).zip(text).all(|(at, byte)| {
        let in_line = at % line < 64 || line == u64::MAX;
        in_line != byte.is_ascii_whitespace()
    });
    let characters = text_len / line * 64 + (text_len % line);
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count() as u64;
    let groups = characters.is_multiple_of(4).then_some(characters / 4);
    regular.then_some(groups.map(|groups| (groups * 3).saturating_sub(padding)))
}

/// The last `count` bytes of `src`, which is `len` bytes long.
fn window(src: &mut (impl Read + Seek), len: u64, count: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    src.seek(SeekFrom::Start(len.saturating_sub(count as u64))).map_err(cannot_read)?;
    match read_full(src, &mut bytes)? {
        got if got == count => Ok(bytes),
        _ => Err(Error::conflict("the container became shorter while it was read")),
    }
}

fn ends_inside_a_block(len: u64) -> Error {
    Error::integrity(format!("truncated at byte {len}: the container ends in the middle of a block"))
}

/// How many bytes are read at the end of text, and up to which length a container is read whole.
const WINDOW: usize = 4096;
