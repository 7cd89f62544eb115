//! Writing a container: plaintext in, `header || sections` out (docs/format.md, "Container").

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};
use zeroize::Zeroize as _;

use crate::crypto::derive::Derivation;
use crate::crypto::lanes::LANES;
use crate::crypto::sections::{SectionSealer, Slot};
use crate::format::header::DEFAULT_SECTION_LOG2;
use crate::format::section::{self, DigestKind, End, FRAMING, Kind};
use crate::format::{Header, Metadata};
use crate::pipeline::{self, InOrder};
use crate::random::Random;
use crate::secret::FileKey;
use crate::{DataId, Error, Result};

/// About how many bytes of plaintext one thread works on at a time.
const BATCH: usize = 8 << 16;

/// The most that the buffers of all threads take together, in bytes.
const BUFFERS: usize = 40 << 20;

/// How to write a container.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SealOptions {
    /// log2 of the section size in bytes, 12 to 24.
    pub section_log2: u8,
    /// Which digest of the plaintext goes into the end section.
    pub digest: DigestKind,
    /// How many threads encrypt; 1 makes no thread.
    pub threads: usize,
    /// The expected length of the plaintext in bytes, so that a small file takes little memory; a guess does no harm.
    pub size: Option<u64>,
}

impl Default for SealOptions {
    fn default() -> Self {
        Self { section_log2: DEFAULT_SECTION_LOG2, digest: DigestKind::None, threads: 1, size: None }
    }
}

/// What was written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Sealed {
    /// The header at its start.
    pub header: Header,
    /// The length of the plaintext, in bytes.
    pub plain_len: u64,
    /// The length of the container, in bytes.
    pub container_len: u64,
    /// The digest of the plaintext, where one was asked for.
    pub digest: Option<[u8; 32]>,
}

/// Encrypts all of `source` under `file_key` into a container on `out`.
///
/// A file key serves one container only: never call this twice with the same key, unless source and randomness are the
/// same bytes.
///
/// # Errors
/// What `source`, `out` or `random` fail with; `Input` when the plaintext passes 2^48 bytes.
pub fn seal(
    file_key: &FileKey,
    data_id: DataId,
    metadata: Option<&Metadata>,
    source: impl Read + Send,
    mut out: impl Write + Send,
    random: &dyn Random,
    options: &SealOptions,
) -> Result<Sealed> {
    let text = metadata.map(Metadata::to_text).transpose()?;
    let (header, derivation) = header_of(file_key, data_id, text.as_deref(), options)?;
    let sections = SectionSealer::new(&derivation);

    write(&mut out, &header.to_bytes())?;
    if let Some(text) = &text {
        write(&mut out, &seal_one(&sections, 0, Kind::Metadata, text, random)?)?;
    }
    let first_index = u64::from(text.is_some());
    let mut input = Input { source, section_size: header.section_size(), total: 0, ended: false };
    let digest = match options.digest {
        DigestKind::None => None,
        DigestKind::Sha256 => Some(InOrder::new(Sha256::new())),
    };
    pipeline::run(
        affordable(options.threads, header.section_size()),
        || Batch::new(header.section_size(), options.size),
        |batch| input.read(batch),
        |batch| {
            if let Some(digest) = &digest {
                let _watch = digest.watch();
                let next = batch.first + batch.plain.len() as u64;
                digest.turn(batch.first, next, |digest| batch.each(|plain| digest.update(plain)));
            }
            batch.seal(&sections, first_index, random)
        },
        |batch| write(&mut out, batch.stored()),
    )?;

    let digest = digest.map(|digest| digest.into_inner().finalize().into());
    let end = End { total: input.total, digest };
    let index = first_index + end.total.div_ceil(header.section_size() as u64);
    write(&mut out, &seal_one(&sections, index, Kind::End, &end.to_bytes(), random)?)?;
    out.flush().map_err(|source| Error::io("cannot write", source))?;
    let container_len =
        section::container_len(end.total, header.section_size(), header.metadata_len()).unwrap_or(0);
    Ok(Sealed { header, plain_len: end.total, container_len, digest: end.digest })
}

/// The exact length of the container that [`seal`] makes of `plain` bytes.
///
/// # Errors
/// `Input` when the metadata or the plaintext is too long.
pub fn sealed_len(plain: u64, metadata: Option<&Metadata>, options: &SealOptions) -> Result<u64> {
    let metadata_len = metadata_len(metadata.map(Metadata::to_text).transpose()?.as_deref())?;
    let section_size = 1_usize.checked_shl(options.section_log2.into()).unwrap_or(0);
    section::container_len(plain, section_size, metadata_len).ok_or_else(too_long)
}

/// The header that [`seal`] writes: it holds the commitment to the file key.
///
/// # Errors
/// Those of [`Metadata::to_text`], and `Input` for a section size outside the format.
pub fn sealed_header(
    file_key: &FileKey,
    data_id: DataId,
    metadata: Option<&Metadata>,
    options: &SealOptions,
) -> Result<Header> {
    let text = metadata.map(Metadata::to_text).transpose()?;
    header_of(file_key, data_id, text.as_deref(), options).map(|(header, _)| header)
}

fn header_of(
    file_key: &FileKey,
    data_id: DataId,
    text: Option<&[u8]>,
    options: &SealOptions,
) -> Result<(Header, Derivation)> {
    let mut header = Header::new(options.section_log2, metadata_len(text)?, data_id)?;
    let derivation = Derivation::new(file_key, &header.salt());
    header.commitment = derivation.commitment();
    Ok((header, derivation))
}

fn metadata_len(text: Option<&[u8]>) -> Result<u32> {
    u32::try_from(text.map_or(0, |text| text.len() + FRAMING))
        .map_err(|_| Error::input("metadata is too long"))
}

fn too_long() -> Error {
    Error::input("is longer than the 2^48 bytes that one container may hold")
}

/// The plaintext.
struct Input<R> {
    source: R,
    section_size: usize,
    total: u64,
    ended: bool,
}

impl<R: Read> Input<R> {
    /// Reads the plaintext of the next sections into their slots; false at the end.
    fn read(&mut self, batch: &mut Batch) -> Result<bool> {
        batch.first = self.total / self.section_size as u64;
        batch.plain.clear();
        batch.sealed = false;
        for number in 0..batch.slots {
            if self.ended {
                break;
            }
            let room = batch.room(number, self.section_size);
            let mut len = self.fill(room)?;
            if len == room.len() && len < self.section_size {
                // More than was expected: the one short slot becomes a full one.
                batch.grow(self.section_size);
                len += self.fill(&mut batch.room(number, self.section_size)[len..])?;
            }
            self.ended = len < self.section_size;
            if len > 0 {
                self.total += len as u64;
                batch.plain.push(len);
            }
        }
        if self.total > section::MAX_PLAIN {
            return Err(too_long());
        }
        batch.sealed = batch.plain.is_empty();
        Ok(!batch.sealed)
    }
}

impl<R: Read> Input<R> {
    fn fill(&mut self, room: &mut [u8]) -> Result<usize> {
        read_full(&mut self.source, room).map_err(|source| Error::io("cannot read", source))
    }
}

/// Reads until `bytes` is full or the source has ended; a short read alone means nothing.
pub(crate) fn read_full(source: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match source.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(len) => filled += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Consecutive data sections, laid out as they are stored.
struct Batch {
    bytes: Vec<u8>,
    /// Whether they hold no plaintext: nothing, or what was encrypted.
    sealed: bool,
    slots: usize,
    /// The number of data sections before them.
    first: u64,
    /// The plaintext length of each section.
    plain: Vec<usize>,
}

impl Batch {
    /// Room for as many sections as are worth it; for a plaintext expected to be shorter than one, for that and no more.
    fn new(section_size: usize, size: Option<u64>) -> Self {
        let slots = batch_sections(section_size, size);
        let len = match size.and_then(|size| usize::try_from(size).ok()) {
            Some(size) if size < section_size => stored_len(size),
            _ => slots * stored_len(section_size),
        };
        Self { bytes: vec![0; len], sealed: true, slots, first: 0, plain: Vec::new() }
    }

    /// Where the plaintext of a section goes, behind its IV and before padding and tag.
    fn room(&mut self, slot: usize, section_size: usize) -> &mut [u8] {
        let start = slot * stored_len(section_size) + 16;
        let end = (start + section_size).min(self.bytes.len() - 17);
        &mut self.bytes[start..end]
    }

    /// Gives the plaintext of each section.
    fn each(&self, mut give: impl FnMut(&[u8])) {
        let mut rest = self.bytes.as_slice();
        for plain in &self.plain {
            let (section, tail) = rest.split_at(stored_len(*plain));
            give(&section[16..16 + plain]);
            rest = tail;
        }
    }

    fn grow(&mut self, section_size: usize) {
        let mut bytes = vec![0; self.slots * stored_len(section_size)];
        bytes[..self.bytes.len()].copy_from_slice(&self.bytes);
        std::mem::replace(&mut self.bytes, bytes).zeroize();
    }

    fn seal(&mut self, sections: &SectionSealer, first_index: u64, random: &dyn Random) -> Result<()> {
        let mut ivs = [[0; 16]; LANES];
        random.fill_ivs(first_index + self.first, &mut ivs[..self.plain.len()])?;
        let mut slots = Vec::with_capacity(LANES);
        let mut rest = self.bytes.as_mut_slice();
        for ((plain, iv), index) in self.plain.iter().zip(ivs).zip(first_index + self.first..) {
            let (bytes, tail) = rest.split_at_mut(stored_len(*plain));
            bytes[..16].copy_from_slice(&iv);
            pad(bytes, *plain);
            slots.push(Slot { index, kind: Kind::Data, bytes });
            rest = tail;
        }
        sections.seal(&mut slots);
        self.sealed = true;
        Ok(())
    }

    fn stored(&self) -> &[u8] {
        &self.bytes[..self.plain.iter().map(|plain| stored_len(*plain)).sum()]
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if !self.sealed {
            self.bytes.zeroize();
        }
    }
}

/// As many of `threads` as keep all buffers together within bounds: whoever wrote a container chose its section size.
pub(crate) fn affordable(threads: usize, section_size: usize) -> usize {
    let buffer = batch_sections(section_size, None) * stored_len(section_size);
    threads.min(BUFFERS / buffer).max(1)
}

/// How many sections one thread works on at a time: as many as the kernel has lanes, fewer of large ones, and no more
/// than a plaintext of `size` bytes has.
pub(crate) fn batch_sections(section_size: usize, size: Option<u64>) -> usize {
    let have = size.map_or(LANES, |size| usize::try_from(size / section_size as u64 + 1).unwrap_or(LANES));
    (BATCH / section_size).clamp(1, LANES).min(have)
}

/// The stored form of one section.
fn seal_one(
    sections: &SectionSealer,
    index: u64,
    kind: Kind,
    plaintext: &[u8],
    random: &dyn Random,
) -> Result<Vec<u8>> {
    let mut bytes = vec![0; stored_len(plaintext.len())];
    let mut iv = [[0; 16]];
    random.fill_ivs(index, &mut iv)?;
    bytes[..16].copy_from_slice(iv.as_flattened());
    bytes[16..16 + plaintext.len()].copy_from_slice(plaintext);
    pad(&mut bytes, plaintext.len());
    sections.seal(&mut [Slot { index, kind, bytes: &mut bytes }]);
    Ok(bytes)
}

/// The stored length of a section of `plain` bytes: IV, padded plaintext, tag.
fn stored_len(plain: usize) -> usize {
    (plain / 16 + 3) * 16
}

/// PKCS#7 (RFC 5652, section 6.3) behind `plain` bytes of plaintext in a section's slot.
fn pad(slot: &mut [u8], plain: usize) {
    let end = slot.len() - 16;
    let pad = (end - 16 - plain) as u8;
    slot[16 + plain..end].fill(pad);
}

fn write(out: &mut impl Write, bytes: &[u8]) -> Result<()> {
    out.write_all(bytes).map_err(|source| Error::io("cannot write", source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_sections_get_fewer_threads() {
        for (log2, threads, expected) in
            [(16, 2, 2), (16, 16, 16), (24, 1, 1), (24, 2, 2), (24, 16, 2), (12, 16, 16)]
        {
            let section_size = 1 << log2;
            let affordable = affordable(threads, section_size);
            assert_eq!(affordable, expected, "2^{log2}, {threads} threads");
            assert!(affordable * batch_sections(section_size, None) * stored_len(section_size) <= BUFFERS);
        }
    }
}
