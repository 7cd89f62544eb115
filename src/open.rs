//! Reading a container: `header || sections` in, authenticated plaintext out (docs/format.md, "Container").
//!
//! The order is fixed by types: a [`Header`] is read, an [`Opener`] exists only for the file key that the header
//! commits to, and plaintext leaves it only from sections whose tag was good.

mod salvage;

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::crypto::derive::Derivation;
use crate::crypto::lanes::same;
use crate::crypto::sections::{SectionOpener, Slot};
use crate::format::section::{self, END_LEN, End, FRAMING, Kind, Next};
use crate::format::{HEADER_LEN, Header, Metadata};
use crate::pipeline;
use crate::seal::{affordable, batch_sections, read_full};
use crate::secret::FileKey;
use crate::{Error, ErrorKind, Result};

pub use self::salvage::Salvaged;

/// Reads the header at the start of a container.
///
/// # Errors
/// `Integrity` when it is too short or not a header of this format.
pub fn read_header(source: &mut impl Read) -> Result<Header> {
    let mut bytes = [0; HEADER_LEN];
    let len = read_full(source, &mut bytes).map_err(|source| Error::io("cannot read", source))?;
    if len < HEADER_LEN {
        return Err(Error::integrity(format!("is truncated: {len} bytes are less than a header")));
    }
    Header::parse(&bytes)
}

/// Whether `file_key` is the one that `header` commits to, in constant time.
pub fn commits_to(header: &Header, file_key: &FileKey) -> bool {
    same(&Derivation::new(file_key, &header.salt()).commitment(), &header.commitment)
}

/// Opens the sections of one container.
#[derive(Debug)]
pub struct Opener {
    header: Header,
    sections: SectionOpener,
}

/// What was read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Opened {
    /// The length of the plaintext, in bytes.
    pub plain_len: u64,
    /// SHA-256 of the plaintext, where the container has it; it was compared.
    pub digest: Option<[u8; 32]>,
}

/// How much of a container's plaintext is there already.
#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    /// The sections that are, from the first.
    pub(crate) sections: u64,
    /// SHA-256, so far, of what they hold.
    pub(crate) digest: Sha256,
}

impl Opener {
    /// For the container with this header.
    ///
    /// # Errors
    /// `Integrity` when the header does not commit to `file_key`; nothing is decrypted then.
    pub fn new(header: Header, file_key: &FileKey) -> Result<Self> {
        let derivation = Derivation::new(file_key, &header.salt());
        if !same(&derivation.commitment(), &header.commitment) {
            return Err(Error::integrity("the header does not commit to this file key")
                .hint("the header is damaged, or the envelope belongs to another container"));
        }
        Ok(Self { header, sections: SectionOpener::new(&derivation) })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Reads the metadata section, which follows the header; nothing is read when the container has none.
    ///
    /// # Errors
    /// `Integrity` when it is cut, fails authentication or is not metadata.
    pub fn metadata(&self, source: &mut impl Read) -> Result<Option<Metadata>> {
        let len = self.header.metadata_len() as usize;
        if len == 0 {
            return Ok(None);
        }
        let mut bytes = Zeroizing::new(vec![0; len]);
        if read_full(source, &mut bytes).map_err(|source| Error::io("cannot read", source))? < len {
            return Err(Error::integrity("is truncated: it ends within its metadata"));
        }
        let text = self
            .open_one(0, Kind::Metadata, &mut bytes)
            .ok_or_else(|| Error::integrity("the metadata section at byte 64 fails authentication"))?;
        Metadata::parse(text).map(Some)
    }

    /// Decrypts all that follows the metadata into `out`. What is written is authentic, but it is the whole file only
    /// when this returns without an error.
    ///
    /// `end` is what [`Self::end`] said, where the source could be read from its end: a digest is then made only when
    /// there is one to compare with.
    ///
    /// # Errors
    /// `Integrity`, naming the section and its byte, when something is damaged, moved, missing or added; what the
    /// reader or writer fails with.
    pub fn copy(
        &self,
        source: impl Read + Send,
        mut out: impl Write + Send,
        end: Option<&End>,
        threads: usize,
    ) -> Result<Opened> {
        let mut input = Input::new(&self.header, source);
        let mut output = Output {
            total: 0,
            digest: end.is_none_or(|end| end.digest.is_some()).then(Sha256::new),
            end: None,
        };
        pipeline::run(
            affordable(threads, self.header.section_size()),
            || Batch::new(self.header.section_size(), end.map(|end| end.total)),
            |batch| input.read(batch),
            |batch| batch.open(&self.sections, self.header.section_size()),
            |batch| {
                output.each(batch, |plain| {
                    out.write_all(plain).map_err(|source| Error::io("cannot write", source))
                })
            },
        )?;
        out.flush().map_err(|source| Error::io("cannot write", source))?;
        output.finish(end)
    }

    /// Decrypts all sections but the first `done.sections` and gives each to `write_at`, with its place in the plaintext,
    /// in any order; `source` begins with the first of them. `progress` is told, again and again, what stands whole
    /// before the first gap.
    ///
    /// # Errors
    /// Those of [`Self::copy`], and what `progress` fails with.
    pub(crate) fn copy_at(
        &self,
        source: impl Read + Send,
        write_at: impl Fn(&[u8], u64) -> io::Result<()> + Sync,
        end: &End,
        done: Done,
        threads: usize,
        mut progress: impl FnMut(&Done) -> Result<()> + Send,
    ) -> Result<Opened> {
        let size = self.header.section_size();
        let first = first_data_index(&self.header);
        let mut input = Input::new(&self.header, source);
        input.index += done.sections;
        input.at += done.sections * (size + FRAMING) as u64;
        let mut sections = done.sections;
        let mut output =
            Output { total: end.total.min(sections * size as u64), digest: Some(done.digest), end: None };
        pipeline::run(
            affordable(threads, size),
            || Batch::new(size, Some(end.total)),
            |batch| input.read(batch),
            |batch| {
                batch.open(&self.sections, size)?;
                for (section, (kind, start, len)) in batch.sections.iter().zip(&batch.plain) {
                    if *kind == Kind::Data {
                        let plain = &batch.bytes[*start..start + len];
                        write_at(plain, (section.index - first) * size as u64)
                            .map_err(|source| Error::io("cannot write", source))?;
                    }
                }
                Ok(())
            },
            |batch| {
                output.each(batch, |_| {
                    sections += 1;
                    Ok(())
                })?;
                match &output.digest {
                    Some(digest) => progress(&Done { sections, digest: digest.clone() }),
                    None => Ok(()),
                }
            },
        )?;
        output.finish(Some(end))
    }

    /// Where the sections stand in the container that hold the plaintext bytes `start..start + len`.
    pub fn stored_range(&self, start: u64, len: u64) -> Range<u64> {
        let size = self.header.section_size() as u64;
        let at = |section: u64| {
            let front = (HEADER_LEN as u64) + u64::from(self.header.metadata_len());
            front.saturating_add(section.saturating_mul(size + FRAMING as u64))
        };
        at(start / size)..at(start.saturating_add(len).div_ceil(size))
    }

    /// Authenticates and reads the end section of a container of `len` bytes in all.
    ///
    /// # Errors
    /// `Integrity` when it is not there, fails authentication or does not agree with `len`.
    pub fn end(&self, source: &mut (impl Read + Seek), len: u64) -> Result<End> {
        let (_, longest) = section::plain_len(len, &self.header)?;
        let at = len.saturating_sub(END_LEN as u64);
        let mut bytes = [0; END_LEN];
        source
            .seek(SeekFrom::Start(at))
            .and_then(|_| source.read_exact(&mut bytes))
            .map_err(|source| Error::io("cannot read", source))?;
        let index = first_data_index(&self.header) + longest.div_ceil(self.header.section_size() as u64);
        let text = self.open_one(index, Kind::End, &mut bytes).ok_or_else(|| {
            Error::integrity(format!("the end section at byte {at} fails authentication"))
                .hint("the container is damaged or was cut short; fetch it again or restore an older version")
        })?;
        let end = End::parse(text)?;
        if section::container_len(end.total, self.header.section_size(), self.header.metadata_len())
            != Some(len)
        {
            return Err(Error::integrity(format!(
                "the end section speaks of {} bytes of plaintext, which a container of {len} bytes does not hold",
                end.total
            )));
        }
        Ok(end)
    }

    /// Decrypts the plaintext bytes `start..start + len` of a container whose end section was read, into `out`;
    /// every section that it touches is authenticated whole.
    ///
    /// # Errors
    /// `Input` when the range passes the end; otherwise as [`Self::copy`].
    pub fn copy_range(
        &self,
        source: &mut (impl Read + Seek),
        end: &End,
        start: u64,
        len: u64,
        out: &mut impl Write,
    ) -> Result<()> {
        let stop = start.checked_add(len).filter(|stop| *stop <= end.total).ok_or_else(|| {
            Error::input(format!("the range passes the end of {} bytes of plaintext", end.total))
        })?;
        let size = self.header.section_size() as u64;
        let front = (HEADER_LEN as u64) + u64::from(self.header.metadata_len());
        let mut bytes = Zeroizing::new(Vec::new());
        for data in (start / size)..stop.div_ceil(size) {
            let (from, to) = (data * size, end.total.min((data + 1) * size));
            let at = front + data * (size + FRAMING as u64);
            bytes.resize(section::stored_len(to - from) as usize, 0);
            source
                .seek(SeekFrom::Start(at))
                .and_then(|_| source.read_exact(&mut bytes))
                .map_err(|source| Error::io("cannot read", source))?;
            let index = first_data_index(&self.header) + data;
            let text = self
                .open_one(index, Kind::Data, &mut bytes)
                .filter(|text| text.len() as u64 == to - from)
                .ok_or_else(|| unauthentic(index, at))?;
            let part = &text[(start.max(from) - from) as usize..(stop.min(to) - from) as usize];
            out.write_all(part).map_err(|source| Error::io("cannot write", source))?;
        }
        Ok(())
    }

    fn open_one<'b>(&self, index: u64, kind: Kind, bytes: &'b mut [u8]) -> Option<&'b mut [u8]> {
        let authentic = self.sections.check(vec![Slot { index, kind, bytes }]).pop()??;
        self.sections.decrypt(authentic)
    }
}

fn first_data_index(header: &Header) -> u64 {
    u64::from(header.metadata_len() > 0)
}

/// One text for a bad tag and for bad padding behind a good tag.
fn unauthentic(index: u64, at: u64) -> Error {
    let error = Error::integrity(format!("section {index} at byte {at} fails authentication"));
    error.hint(match index {
        0 => {
            "it is damaged, cut short or not what its writer made; fetch it again or restore an older version"
                .into()
        }
        1 => "the section before it is sound; fetch the container again or restore an older version, or save what is good of it with sidekey get --salvage".into(),
        _ => format!(
            "the {index} sections before it are sound; fetch the container again or restore an older version, or save what is good of it with sidekey get --salvage"
        ),
    })
}

/// Stored sections, and where they stand.
struct Input<R> {
    source: R,
    section_size: usize,
    /// What was read too far: never more than an end section.
    carry: Vec<u8>,
    index: u64,
    at: u64,
    ended: bool,
}

impl<R: Read> Input<R> {
    fn new(header: &Header, source: R) -> Self {
        Self {
            source,
            section_size: header.section_size(),
            carry: Vec::new(),
            index: first_data_index(header),
            at: (HEADER_LEN as u64) + u64::from(header.metadata_len()),
            ended: false,
        }
    }

    /// Reads the next sections. With an end section's length more than they need, all of them are known to be full
    /// data sections; otherwise the stream has ended and the bytes left say what they are.
    fn read(&mut self, batch: &mut Batch) -> Result<bool> {
        batch.sections.clear();
        batch.fault = None;
        if self.ended {
            return Ok(false);
        }
        let carried = self.carry.len();
        batch.bytes[..carried].copy_from_slice(&self.carry);
        let filled = carried
            + read_full(&mut self.source, &mut batch.bytes[carried..])
                .map_err(|source| Error::io("cannot read", source))?;
        self.ended = filled < batch.bytes.len();
        let keep = if self.ended { 0 } else { END_LEN };
        let mut start = 0;
        while start < filled - keep {
            let rest = filled - start;
            let (kind, len) = match section::next(rest as u64, self.section_size) {
                Ok(Next::Full) => (Kind::Data, self.section_size + FRAMING),
                Ok(Next::Last(len)) => (Kind::Data, len),
                Ok(Next::End) => (Kind::End, END_LEN),
                Err(error) => {
                    batch.fault = Some(error);
                    break;
                }
            };
            batch.sections.push(Section { start, len, kind, index: self.index, at: self.at });
            self.index += 1;
            self.at += len as u64;
            start += len;
        }
        if self.ended && filled == 0 {
            batch.fault = section::next(0, self.section_size).err();
        }
        self.carry.clear();
        self.carry.extend_from_slice(&batch.bytes[filled - keep..filled]);
        Ok(true)
    }
}

/// Where a section stands: in the batch, in the order of sections, in the container.
struct Section {
    start: usize,
    len: usize,
    kind: Kind,
    index: u64,
    at: u64,
}

/// Consecutive stored sections, decrypted in place.
struct Batch {
    bytes: Zeroizing<Vec<u8>>,
    sections: Vec<Section>,
    /// The plaintext of each good section: kind, start, length.
    plain: Vec<(Kind, usize, usize)>,
    /// What is wrong behind the good sections.
    fault: Option<Error>,
}

impl Batch {
    fn new(section_size: usize, size: Option<u64>) -> Self {
        let len = match size {
            // One byte more than there should be, so that the end is seen.
            Some(size) if size < section_size as u64 => section::stored_len(size) as usize + END_LEN + 1,
            _ => batch_sections(section_size, size) * (section_size + FRAMING) + END_LEN,
        };
        Self { bytes: Zeroizing::new(vec![0; len]), sections: Vec::new(), plain: Vec::new(), fault: None }
    }

    /// Checks all tags, then decrypts what stands before the first bad one.
    fn open(&mut self, opener: &SectionOpener, section_size: usize) -> Result<()> {
        self.plain.clear();
        let mut slots = Vec::with_capacity(self.sections.len());
        let mut rest = self.bytes.as_mut_slice();
        for section in &self.sections {
            let (bytes, tail) = rest.split_at_mut(section.len);
            slots.push(Slot { index: section.index, kind: section.kind, bytes });
            rest = tail;
        }
        for (section, authentic) in self.sections.iter().zip(opener.check(slots)) {
            let plain = authentic.and_then(|authentic| opener.decrypt(authentic)).map(|plain| plain.len());
            match plain.filter(|len| section.may_hold(*len, section_size)) {
                Some(len) => self.plain.push((section.kind, section.start + 16, len)),
                None => {
                    self.fault = Some(unauthentic(section.index, section.at));
                    break;
                }
            }
        }
        Ok(())
    }
}

impl Section {
    /// A full data section holds exactly the section size, any other at least one byte.
    fn may_hold(&self, plain: usize, section_size: usize) -> bool {
        match self.kind {
            Kind::Data if self.len == section_size + FRAMING => plain == section_size,
            Kind::Data => plain > 0,
            Kind::Metadata | Kind::End => true,
        }
    }
}

/// What was written, to be compared with the end section.
struct Output {
    total: u64,
    digest: Option<Sha256>,
    end: Option<End>,
}

impl Output {
    /// Gives each good data section of a batch; then what is wrong behind them.
    fn each(&mut self, batch: &mut Batch, mut give: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        for (kind, start, len) in &batch.plain {
            let plain = &batch.bytes[*start..start + len];
            if *kind == Kind::End {
                self.end = Some(End::parse(plain)?);
                continue;
            }
            self.total += *len as u64;
            if let Some(digest) = &mut self.digest {
                digest.update(plain);
            }
            give(plain)?;
        }
        batch.fault.take().map_or(Ok(()), Err)
    }

    fn finish(self, known: Option<&End>) -> Result<Opened> {
        let end = self.end.ok_or_else(|| Error::integrity("is truncated: it has no end section"))?;
        if known.is_some_and(|known| *known != end) {
            return Err(Error::new(ErrorKind::Conflict, "changed while it was read"));
        }
        if end.total != self.total {
            return Err(Error::integrity(format!(
                "the end section speaks of {} bytes of plaintext, but {} were there",
                end.total, self.total
            )));
        }
        let digest: Option<[u8; 32]> = self.digest.map(|digest| digest.finalize().into());
        if let (Some(expected), Some(digest)) = (end.digest, digest)
            && !same(&expected, &digest)
        {
            return Err(Error::integrity(
                "the plaintext does not have the SHA-256 that the end section says",
            ));
        }
        Ok(Opened { plain_len: self.total, digest: end.digest })
    }
}
