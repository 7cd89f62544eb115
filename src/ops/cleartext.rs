//! Reading files that the service alone encrypts. They have no sections and no tags: what was read is believed when all of
//! it has the SHA-256 that its writer sealed into the envelope.

use std::io::{Read, Write};

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::location::cleartext::Cleartext;
use crate::{Error, Result};

/// Up to this size nothing is written before all of it was checked.
const HELD: u64 = 16 << 20;
/// How much of a longer one is read at a time.
const CHUNK: usize = 256 << 10;

/// Copies all of an object of `size` bytes. Of one that is longer than 16 MiB, what was written is to be believed only when
/// this returns without an error.
///
/// # Errors
/// `Integrity` when it has another length or SHA-256; what the reader or writer fails with.
pub(crate) fn copy(
    cleartext: &Cleartext,
    size: u64,
    source: impl Read,
    out: &mut (impl Write + ?Sized),
) -> Result<()> {
    cleartext.check_size(size)?;
    // A store may send more than it said.
    let mut source = source.take(size.saturating_add(1));
    match size <= HELD {
        true => {
            let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(size + 1).unwrap_or(CHUNK)));
            source.read_to_end(&mut bytes).map_err(|source| Error::io("cannot read", source))?;
            cleartext.check_size(bytes.len() as u64)?;
            cleartext.check_digest(&Sha256::digest(&*bytes).into())?;
            out.write_all(&bytes).map_err(|source| Error::io("cannot write", source))?;
        }
        false => {
            let (mut bytes, mut digest) = (Zeroizing::new(vec![0; CHUNK]), Sha256::new());
            loop {
                let len = source.read(&mut bytes).map_err(|source| Error::io("cannot read", source))?;
                let Some(read) = bytes.get(..len).filter(|read| !read.is_empty()) else { break };
                digest.update(read);
                out.write_all(read).map_err(|source| Error::io("cannot write", source))?;
            }
            cleartext.check_size(size.saturating_add(1).saturating_sub(source.limit()))?;
            cleartext.check_digest(&digest.finalize().into())?;
        }
    }
    out.flush().map_err(|source| Error::io("cannot write", source))
}
