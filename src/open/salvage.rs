//! What is left of a damaged container: every section that is still authentic, at its place.

use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;

use zeroize::Zeroizing;

use super::{Opener, first_data_index};
use crate::format::section::{self, END_LEN, FRAMING, Kind};
use crate::format::{HEADER_LEN, Metadata};
use crate::seal::read_full;
use crate::{Error, ErrorKind, Result};

/// What was saved.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Salvaged {
    /// The length of what was written, in bytes.
    pub written: u64,
    /// The bytes of the plaintext that were lost: zeros stand there.
    pub lost: Vec<Range<u64>>,
    /// Whether the end is missing: how much stood behind what was written is not known.
    pub truncated: bool,
    /// Whether the end section was lost: the length is known to within 16 bytes only where the last section is lost too.
    pub end_lost: bool,
    /// Whether there was metadata, and it was lost.
    pub metadata_lost: bool,
    /// The metadata.
    pub metadata: Option<Metadata>,
}

impl Salvaged {
    /// Whether nothing is missing.
    pub fn is_whole(&self) -> bool {
        self.lost.is_empty() && !self.truncated && !self.end_lost && !self.metadata_lost
    }

    /// How many bytes of the plaintext were lost, as far as that is known.
    pub fn bytes_lost(&self) -> u64 {
        self.lost.iter().map(|range| range.end.saturating_sub(range.start)).sum()
    }

    fn lose(&mut self, len: u64) {
        let range = self.written..self.written.saturating_add(len);
        match self.lost.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.lost.push(range.clone()),
        }
        self.written = range.end;
    }
}

impl Opener {
    /// Writes every authentic data section of a container of `len` bytes, and zeros in place of the others. What cannot be
    /// read counts as damaged.
    ///
    /// # Errors
    /// What `out` fails with; what the source fails with, unless it says that the bytes are bad.
    pub fn salvage(
        &self,
        source: &mut (impl Read + Seek),
        len: u64,
        out: &mut impl Write,
    ) -> Result<Salvaged> {
        let mut saved = Salvaged::default();
        let front = (HEADER_LEN as u64).saturating_add(self.header.metadata_len().into());
        source.seek(SeekFrom::Start(HEADER_LEN as u64)).map_err(|source| Error::io("cannot read", source))?;
        match self.metadata(source) {
            Ok(metadata) => saved.metadata = metadata,
            Err(error) if is_damage(&error) => saved.metadata_lost = true,
            Err(error) => return Err(error),
        }
        let total = match self.end(source, len) {
            Ok(end) => Some(end.total),
            Err(error) if is_damage(&error) => None,
            Err(error) => return Err(error),
        };
        saved.end_lost = total.is_none();
        let full = (self.header.section_size() as u64).saturating_add(FRAMING as u64);
        for section in 0.. {
            let at = front.saturating_add(full.saturating_mul(section));
            let rest = len.saturating_sub(at);
            if total.map_or(rest == 0, |total| saved.written >= total) {
                break;
            }
            let good = self.one_of(source, section, at, &self.lengths(rest, total))?;
            match good {
                Some(plain) => {
                    out.write_all(&plain).map_err(|source| Error::io("cannot write", source))?;
                    saved.written = saved.written.saturating_add(plain.len() as u64);
                    if plain.len() < self.header.section_size() {
                        break;
                    }
                }
                None => match self.expected(rest, total, saved.written) {
                    Some(len) if len > 0 => {
                        zeros(out, len)?;
                        saved.lose(len);
                    }
                    Some(_) => break,
                    None => {
                        saved.truncated = true;
                        break;
                    }
                },
            }
        }
        // Whole sections that end where the file does: what came behind them is not known.
        saved.truncated |= total.is_none() && section::plain_len(len, &self.header).is_err();
        Ok(saved)
    }

    /// The stored lengths that the next data section may have when `rest` bytes are left.
    fn lengths(&self, rest: u64, total: Option<u64>) -> Vec<usize> {
        let full = (self.header.section_size() as u64).saturating_add(FRAMING as u64);
        let end = END_LEN as u64;
        let mut lengths = vec![];
        if rest >= full {
            lengths.push(full);
        }
        if rest < full.saturating_add(end) {
            match total {
                Some(_) => lengths.extend(rest.checked_sub(end)),
                // The cut may be anywhere in the end section, or before it.
                None => lengths
                    .extend((rest.saturating_sub(end)..=rest).filter(|len| len.is_multiple_of(16)).rev()),
            }
        }
        lengths.retain(|len| (FRAMING as u64..=full).contains(len));
        lengths.dedup();
        lengths.into_iter().filter_map(|len| usize::try_from(len).ok()).collect()
    }

    /// How long the plaintext of a bad section was, at most; nothing when it is not known. 0 when there was none.
    fn expected(&self, rest: u64, total: Option<u64>, written: u64) -> Option<u64> {
        let size = self.header.section_size() as u64;
        if let Some(total) = total {
            return Some(total.saturating_sub(written).min(size));
        }
        match section::next(rest, self.header.section_size()).ok()? {
            section::Next::Full => Some(size),
            section::Next::Last(len) => Some((len as u64).saturating_sub(33).min(size.saturating_sub(1))),
            section::Next::End => Some(0),
        }
    }

    /// The plaintext of the section at `at`, when it is authentic with one of these stored lengths.
    fn one_of(
        &self,
        source: &mut (impl Read + Seek),
        section: u64,
        at: u64,
        lengths: &[usize],
    ) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let Some(longest) = lengths.iter().max() else { return Ok(None) };
        let mut stored = Zeroizing::new(vec![0; *longest]);
        let read = source.seek(SeekFrom::Start(at)).and_then(|_| read_full(source, &mut stored));
        match read.map_err(|source| Error::io("cannot read", source)) {
            Ok(len) => stored.truncate(len),
            Err(error) if is_damage(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
        let index = first_data_index(&self.header).saturating_add(section);
        for len in lengths {
            let Some(bytes) = stored.get(..*len) else { continue };
            let mut bytes = Zeroizing::new(bytes.to_vec());
            if let Some(plain) = self.open_one(index, Kind::Data, &mut bytes) {
                return Ok(Some(Zeroizing::new(plain.to_vec())));
            }
        }
        Ok(None)
    }
}

/// Whether bytes are bad, and not the way to them.
fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Io)
}

fn zeros(out: &mut impl Write, mut len: u64) -> Result<()> {
    const ZEROS: [u8; 4096] = [0; 4096];
    while len > 0 {
        let part = len.min(ZEROS.len() as u64);
        out.write_all(&ZEROS[..part as usize]).map_err(|source| Error::io("cannot write", source))?;
        len -= part;
    }
    Ok(())
}
