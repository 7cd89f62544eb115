//! A streaming reader put together from the library's parts, which says which fault it met.

use std::io::{self, Read, Write};
use std::sync::Mutex;

use sidekey::crypto::rsa::PrivateKey;
use sidekey::format::{Envelope, FileType, HEADER_LEN, Header, Metadata};
use sidekey::keys::KeyFile;
use sidekey::open::{self, Opener};
use sidekey::random::Random;
use sidekey::secret::FileKey;
use sidekey::{Error, Result, wrap};

use crate::generate::{Expect, Vector};

/// What a sound container had.
pub(crate) struct Opened {
    pub(crate) metadata: Option<Metadata>,
    pub(crate) len: u64,
    pub(crate) digest: bool,
}

/// Reads a vector's container from `source` into `out`.
pub(crate) fn read(
    vector: &Vector,
    mut source: impl Read + Send,
    out: &mut (impl Write + Send),
    threads: usize,
) -> Result<Opened, (Expect, Error)> {
    let opener = opener(vector)?;
    source.read_exact(&mut [0; HEADER_LEN]).unwrap();
    let metadata = opener.metadata(&mut source).map_err(|error| {
        let cut = error.to_string().contains("is truncated");
        (if cut { Expect::Truncated } else { Expect::Metadata }, error)
    })?;
    // Folders and symlinks have no data: whatever they hold is not released.
    let is_file = metadata.as_ref().is_none_or(|metadata| metadata.file_type == FileType::File);
    let opened = match is_file {
        true => opener.copy(source, out, None, threads),
        false => opener.copy(source, io::sink(), None, threads),
    };
    let opened = opened.map_err(|error| (class(&error, vector), error))?;
    if !is_file && opened.plain_len > 0 {
        return Err((Expect::Section, Error::integrity("has data sections, but is no file")));
    }
    Ok(Opened { metadata, len: opened.plain_len, digest: opened.digest.is_some() })
}

/// Up to the commitment.
pub(crate) fn opener(vector: &Vector) -> Result<Opener, (Expect, Error)> {
    let header = open::read_header(&mut &vector.container[..]).map_err(|error| (Expect::Header, error))?;
    let file_key = match &vector.envelope {
        None => FileKey::from_bytes(&vector.file_key.unwrap()),
        Some(text) => {
            let envelope = Envelope::parse(text).map_err(|error| (Expect::Envelope, error))?;
            let identity = identity(vector.identity.as_deref());
            let found = wrap::unwrap(&header, &[envelope], &[identity]);
            let file_key = found.map_err(|error| (unwrap_class(&error), error))?;
            assert!(vector.file_key.is_none_or(|expected| expected == *file_key.expose()));
            file_key
        }
    };
    Opener::new(header, &file_key).map_err(|error| (Expect::Commitment, error))
}

/// A private key of the fixtures.
pub(crate) fn identity(name: Option<&str>) -> PrivateKey {
    let name = name.unwrap_or("c-worked-example.pem");
    let path = format!("{}/fixtures/keys/{name}", env!("CARGO_MANIFEST_DIR"));
    KeyFile::parse(&std::fs::read(path).unwrap()).unwrap().open(None).unwrap()
}

fn unwrap_class(error: &Error) -> Expect {
    let line = error.to_string();
    match () {
        () if line.contains("does not commit") => Expect::Commitment,
        () if line.contains("belongs to data id") || line.contains("no entry for this container") => {
            Expect::Envelope
        }
        () => Expect::Key,
    }
}

/// Which part of a container an error of [`Opener::copy`] is about.
fn class(error: &Error, vector: &Vector) -> Expect {
    let line = error.to_string();
    let end = format!(" at byte {} fails", vector.container.len().saturating_sub(96));
    match () {
        () if line.contains("are no section") => Expect::Truncated,
        () if line.contains("end section") || line.contains(&end) => Expect::End,
        () => Expect::Section,
    }
}

/// Gives one byte a read.
pub(crate) struct ByteByByte<'a>(pub(crate) &'a [u8]);

impl Read for ByteByByte<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let len = bytes.len().min(1);
        self.0.read(&mut bytes[..len])
    }
}

/// The IVs of a container, in their order, as if they had just been drawn.
pub(crate) struct Replay(Mutex<Vec<u8>>);

impl Replay {
    pub(crate) fn of(container: &[u8], header: &Header) -> Self {
        let (mut ivs, mut at) = (Vec::new(), HEADER_LEN);
        let mut len = header.metadata_len() as usize;
        while at < container.len() {
            if len > 0 {
                ivs.extend_from_slice(&container[at..at + 16]);
                at += len;
            }
            let rest = container.len() - at;
            let full = header.section_size() + 48;
            len = if rest == 96 {
                96
            } else if rest >= full + 96 {
                full
            } else {
                rest.saturating_sub(96)
            };
        }
        Self(Mutex::new(ivs))
    }
}

impl Random for Replay {
    fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        let mut ivs = self.0.lock().unwrap();
        bytes.copy_from_slice(&ivs[..bytes.len()]);
        ivs.drain(..bytes.len());
        Ok(())
    }
}
