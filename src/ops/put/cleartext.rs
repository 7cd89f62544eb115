//! Files that the service alone encrypts: stored as they are, under a key of their own.
//!
//! Their envelope, which is written first, holds what they must be. So each is read twice: once for its SHA-256, and once
//! to be sent. A pipe can be read only once, and is held in memory.

use std::fs::{File, Metadata as FileMetadata};
use std::io::{self, Read, Seek as _, Write};
use std::path::Path;
use std::thread::Scope;

use sha2::{Digest as _, Sha256};

use super::pair::{FirstHalf, NewPair};
use super::parts::{Ended, PartWriter};
use super::{LARGE, Named, Origin, Putting};
use crate::crypto::lanes::same;
use crate::format::{FileType, Metadata};
use crate::location::cleartext::Cleartext;
use crate::location::drive::{Content, UploadMemory};
use crate::ops::events::Watched;
use crate::ops::source::{Exactly, open_file, unchanged};
use crate::ops::walk::Found;
use crate::random::{OsRandom, Random};
use crate::seal::read_full;
use crate::secret::FileKey;
use crate::wrap::wrap_with;
use crate::{DataId, Error, IoContext as _, Result};

/// The most that is held of a source that can be read only once.
const HELD: u64 = 32 << 20;

/// How much is read at a time.
const CHUNK: usize = 256 << 10;

impl NewPair {
    /// The first half of a file that the service alone encrypts.
    fn cleartext(run: &Putting<'_>, metadata: &Metadata, size: u64, digest: [u8; 32]) -> Result<Self> {
        let random: &dyn Random = &OsRandom;
        let (data_id, file_key) = (DataId::generate(random)?, FileKey::generate(random)?);
        let options = run.options;
        let mut headers = options.encryption.headers();
        headers.extend(Cleartext::headers(&file_key, &data_id, metadata, size, digest));
        let envelope = wrap_with(&file_key, &data_id, &options.recipients, options.now, &headers)?;
        let half = FirstHalf::new(options, data_id, &file_key, envelope.to_text()?.into());
        Ok(Self { file_key, half })
    }
}

impl Putting<'_> {
    /// A file of this machine.
    pub(super) async fn cleartext_file<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        found: &Found,
        Named { name, stored }: &Named,
    ) -> Result<()> {
        let _turn = self.turn(found.metadata.len()).await?;
        let (mut file, before) = open_file(&found.path, self.options.follow)?;
        let size = before.len();
        let metadata = super::describe_as(found, &before, FileType::File, name);
        if size < LARGE {
            let source = Watched { inner: Exactly { inner: &file, left: size }, observer: self.observer };
            let bytes =
                read_all(source, size).map_err(|source| Error::io("cannot read", source).at(&found.path))?;
            unchanged(&file, &before, &found.path)?;
            return self.cleartext_whole(Origin::Found(found, &before), stored, &metadata, bytes).await;
        }
        let digest = copy(Exactly { inner: &file, left: size }, &mut io::sink());
        let Ended { digest, .. } = digest.map_err(|error| error.at(&found.path))?;
        let digest = digest.unwrap_or_default();
        unchanged(&file, &before, &found.path)?;
        file.rewind().context("cannot read", &found.path)?;
        let mut journal = self.journal(&found.path, stored);
        // An upload is gone on with only where its envelope holds the SHA-256 of these very bytes.
        let subject = self.subject(stored, &before, &metadata, &digest)?;
        let new = || NewPair::cleartext(self, &metadata, size, digest);
        let (NewPair { half, .. }, _) = self.pair_of(journal.as_mut(), stored, subject, new).await?;
        let (path, observer) = (found.path.clone(), self.observer);
        let as_read = before.clone();
        let send = move |out: &mut PartWriter| {
            let source = Watched { inner: Exactly { inner: &file, left: size }, observer };
            send(source, (&file, &before, &path), &digest, out)
        };
        let memory = journal.as_ref().map(|journal| journal as &dyn UploadMemory);
        let origin = Origin::Found(found, &as_read);
        let done = self.parts(scope, origin, stored, half, Some(size), memory, send).await;
        if let Some(journal) = journal.filter(|_| done.is_ok()) {
            journal.forget();
        }
        done.map(drop)
    }

    /// A stream that can be read only once, up to 32 MiB of it.
    pub(super) async fn cleartext_stream(&self, source: impl Read, stored: &str) -> Result<()> {
        let source = Watched { inner: source.take(HELD + 1), observer: self.observer };
        let bytes =
            read_all(source, 0).map_err(|source| Error::io("cannot read", source).about("standard input"))?;
        if bytes.len() as u64 > HELD {
            return Err(Error::input(format!(
                "is longer than {} MiB, and what --cleartext stores is read whole before it is sent",
                HELD >> 20
            ))
            .about("standard input")
            .hint("write it to a file and put that, or leave out --cleartext"));
        }
        self.cleartext_whole(Origin::Unnamed, stored, &Metadata::new(FileType::File), bytes).await
    }

    async fn cleartext_whole(
        &self,
        origin: Origin<'_>,
        stored: &str,
        metadata: &Metadata,
        bytes: Vec<u8>,
    ) -> Result<()> {
        let (len, digest) = (bytes.len() as u64, Sha256::digest(&bytes).into());
        let NewPair { half, .. } = NewPair::cleartext(self, metadata, len, digest)?;
        let data_id = half.data_id;
        if let Some(written) =
            self.store(origin.path(), stored, half, Content::Whole(bytes.into()), None).await?
        {
            self.told(origin, stored, Ended { len, digest: Some(digest) }, data_id, &written, len);
        }
        Ok(())
    }
}

fn read_all(mut source: impl Read, likely: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(likely).unwrap_or(0));
    source.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Sends a file that was read before, and must be the same still.
fn send(
    source: impl Read,
    (file, before, path): (&File, &FileMetadata, &Path),
    digest: &[u8; 32],
    out: &mut PartWriter,
) -> Result<Ended> {
    let ended = copy(source, out).map_err(|error| error.at(path))?;
    unchanged(file, before, path)?;
    match ended.digest.is_some_and(|found| same(&found, digest)) {
        true => Ok(ended),
        false => Err(Error::conflict("changed while it was read; it was not stored")
            .at(path)
            .hint("put it again when nothing writes to it, or put a snapshot")),
    }
}

fn copy(mut source: impl Read, out: &mut impl Write) -> Result<Ended> {
    let (mut bytes, mut digest, mut len) = (vec![0; CHUNK], Sha256::new(), 0);
    loop {
        let read = read_full(&mut source, &mut bytes).map_err(|source| Error::io("cannot read", source))?;
        let Some(read) = bytes.get(..read).filter(|read| !read.is_empty()) else { break };
        digest.update(read);
        out.write_all(read).map_err(|source| Error::io("cannot write", source))?;
        len += read.len() as u64;
    }
    Ok(Ended { len, digest: Some(digest.finalize().into()) })
}
