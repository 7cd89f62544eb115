//! `inspect`: what is public about a file, without any key.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::format::envelope::{self, Content};
use crate::format::header::MAGIC;
use crate::format::section::plain_len;
use crate::format::{Envelope, Header};
use crate::open::read_header;
use crate::ops::walk;
use crate::recipe::{ContainerEncoding, KeyFileForm, Reader, detect_container, detect_key_file};
use crate::{DataId, Error, IoContext as _, Result};

/// What a file turned out to be.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Inspected {
    /// A container.
    Container {
        /// Its header.
        header: Header,
        /// Its length, in bytes.
        len: u64,
        /// The shortest and longest plaintext it can hold, in bytes; an error's text when no container has its length.
        plain: Result<(u64, u64), String>,
    },
    /// An envelope.
    Envelope(Envelope),
    /// A container of the OpenSSL recipe.
    RecipeContainer {
        /// How its bytes are written down.
        encoding: ContainerEncoding,
        /// The data id that it has once it is adopted.
        data_id: DataId,
        /// Its length, in bytes.
        len: u64,
    },
    /// A key file of the OpenSSL recipe.
    RecipeKeyFile {
        /// How its RSA block is written down.
        form: KeyFileForm,
        /// The length of the modulus that it was made for, in bits.
        bits: usize,
    },
}

/// Looks at one file.
///
/// # Errors
/// `Input` when it is nothing of ours; `Integrity` when it is, but damaged.
pub fn inspect(path: &Path) -> Result<Inspected> {
    let found = path.metadata().context("cannot read", path)?;
    if found.is_dir() {
        return Err(Error::input("is a folder; name the files in it").at(path));
    }
    if !found.is_file() {
        return Err(
            Error::input(format!("is {}; a file is needed", walk::special(found.file_type()))).at(path)
        );
    }
    let file = File::open(path).context("cannot read", path)?;
    let mut start = Vec::new();
    (&file).take(envelope::MAX_BYTES as u64 + 1).read_to_end(&mut start).context("cannot read", path)?;
    if start.starts_with(MAGIC) {
        let header = read_header(&mut start.as_slice()).map_err(|error| error.at(path))?;
        let plain = plain_len(found.len(), &header).map_err(|error| error.to_string());
        return Ok(Inspected::Container { header, len: found.len(), plain });
    }
    if envelope::looks_like_envelope(&start) {
        return Envelope::parse(&start).map(Inspected::Envelope).map_err(|error| error.at(path));
    }
    if detect_container(&start).is_some() {
        let file = File::open(path).context("cannot read", path)?;
        let reader = Reader::new(file).map_err(|error| error.at(path))?;
        let (encoding, data_id) = (reader.encoding(), reader.data_id());
        return Ok(Inspected::RecipeContainer { encoding, data_id, len: found.len() });
    }
    if let Some(key_file) = detect_key_file(&start) {
        return Ok(Inspected::RecipeKeyFile { form: key_file.form(), bits: key_file.block_len() * 8 });
    }
    Err(Error::input("is neither a container nor an envelope").at(path))
}

/// What a block of an envelope is, in a word.
pub fn block_kind(content: &Content) -> &str {
    match content {
        Content::Entry(_) => "entry",
        Content::Info(_) => "info record",
        Content::Unknown(label) => label,
    }
}
