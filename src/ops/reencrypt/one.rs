//! One container: opened, encrypted anew, put over itself, and proven.

use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{Done, Reencrypting, SUPERSEDED};
use crate::crypto::lanes::same;
use crate::format::envelope::{Block, Envelope};
use crate::format::section::{DigestKind, End};
use crate::format::{HEADER_LEN, Metadata};
use crate::location::cleartext::Cleartext;
use crate::location::customer::Unlocking;
use crate::location::drive::{self, Content, IfExists, PutRequest, Stored};
use crate::location::read::{self, FRONT, Reader};
use crate::location::vault;
use crate::open::Opener;
use crate::ops::events::Event;
use crate::ops::put::pair::Described;
use crate::ops::put::parts::{Ended, PartWriter, Parts};
use crate::ops::rotate::State;
use crate::random::{OsRandom, Pooled};
use crate::seal::{SealOptions, seal, sealed_len};
use crate::secret::FileKey;
use crate::store::{CustomerKey, Encryption, Object, Store, VersionId};
use crate::wrap::wrap_with;
use crate::{DataId, Error, ErrorKind, Result};

/// Containers up to this size are encrypted whole in memory, and fetched by one request.
const SMALL: u64 = 1 << 20;

/// How much plaintext is decrypted at a time.
const CHUNK: u64 = 512 << 10;

/// How often one is begun again because somebody else was faster.
const TRIES: u32 = 3;

/// A container that a key opens.
struct Opened {
    opener: Opener,
    reader: Reader,
    end: End,
    metadata: Option<Metadata>,
}

impl Opened {
    /// How a container with the same contents is made.
    fn seal_options(&self) -> SealOptions {
        let Self { opener, end, .. } = self;
        let mut options = SealOptions { size: Some(end.total), ..SealOptions::default() };
        options.section_log2 = opener.header().section_size().trailing_zeros() as u8;
        options.digest = if end.digest.is_some() { DigestKind::Sha256 } else { DigestKind::None };
        options
    }
}

/// What a key opens.
enum Kind {
    /// A container.
    Container(Box<Opened>),
    /// A file that the service alone encrypts.
    Cleartext(Arc<Cleartext>),
}

impl Reencrypting<'_> {
    /// The current version, again when somebody replaced it meanwhile.
    pub(super) fn current(&self, stored: &str, listed: &Object, done: &mut Done) -> Result<()> {
        let mut over = listed.clone();
        for _ in 0..TRIES {
            match self.anew(stored, &over, done) {
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    let stat = self.handle.block_on(self.location.store().stat(&over.key, None));
                    match stat {
                        Ok(now) if now.version == over.version => return Err(error),
                        Ok(now) => over = now,
                        // Somebody removed it.
                        Err(gone) if gone.kind() == ErrorKind::NotFound => return Ok(()),
                        Err(other) => return Err(other),
                    }
                }
                ended => return ended,
            }
        }
        Err(Error::conflict("other writers replaced it again and again; nothing was deleted"))
    }

    /// The data id of a version, and whether a key opens it; nothing when that cannot be told.
    pub(super) fn judge(&self, object: &Object) -> Result<Option<(DataId, bool)>> {
        let store = self.location.shared_store();
        let version = Some(object.version.clone());
        let opened = Reader::open(self.handle.clone(), store, &object.key, version, HEADER_LEN as u64);
        if let Ok(reader) = &opened
            && let Some(cleartext) = self.location.cleartext(reader.object())
        {
            return Ok(Some((cleartext.data_id, true)));
        }
        let header = match opened.and_then(|mut reader| reader.header()) {
            Ok(header) => header,
            Err(error)
                if matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Auth | ErrorKind::Input) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let location = self.location;
        let key = read::file_key(self.handle, location, &object.key, &header, self.options.identities);
        match key {
            Ok(_) => Ok(Some((header.data_id(), true))),
            // Without an envelope for these keys nobody opens it with them.
            Err(error) if matches!(error.kind(), ErrorKind::Auth | ErrorKind::Integrity) => {
                Ok(Some((header.data_id(), false)))
            }
            Err(error) => Err(error),
        }
    }

    fn anew(&self, stored: &str, over: &Object, done: &mut Done) -> Result<()> {
        let opened = match self.open(over)? {
            Some(Kind::Container(opened)) => *opened,
            Some(Kind::Cleartext(old)) => return self.copied(stored, over, &old, done),
            None => {
                done.not_ours = true;
                return Ok(());
            }
        };
        if self.options.dry_run {
            (done.reencrypted, done.bytes) = (true, opened.end.total);
            return Ok(());
        }
        let (old_id, total) = (opened.opener.header().data_id(), opened.end.total);
        let alone = (total > SMALL).then(|| self.large.lock().unwrap_or_else(PoisonError::into_inner));
        let options = opened.seal_options();
        let new = New::generate(self, stored, &opened, &options)?;
        let (written, digest) = self.write(stored, over, opened, &new, &options)?;
        self.prove(stored, over, &written, |key| self.compare(key, &new, &written, &digest, total))?;
        drop(alone);
        done.bytes = total;
        self.observer.event(Event::Bytes(total));
        self.end(stored, over, &old_id, written, done)
    }

    /// Takes away what a proven new pair stands for.
    pub(super) fn end(
        &self,
        stored: &str,
        over: &Object,
        old_id: &DataId,
        written: VersionId,
        done: &mut Done,
    ) -> Result<()> {
        done.reencrypted = true;
        // From here on the new pair holds the contents, whatever becomes of the old one.
        if let Some(journal) = self.options.journal {
            journal.add(State::of(stored, [&SUPERSEDED.to_owned(), &over.version]));
            journal.add(State::of(stored, [&written]));
        }
        done.written = Some(written);
        if !self.options.purge {
            done.left.push("its old pair was not to be deleted".into());
            return Ok(());
        }
        self.supersede(stored, over, old_id, done)
    }

    /// Opens a version; nothing when it is not for the keys.
    fn open(&self, object: &Object) -> Result<Option<Kind>> {
        let store = self.location.shared_store();
        let front = if object.size <= SMALL { object.size.max(HEADER_LEN as u64) } else { FRONT };
        let version = Some(object.version.clone());
        let mut reader = match Reader::open(self.handle.clone(), store, &object.key, version, front) {
            // The service keeps it under a key that is in no envelope for these keys.
            Err(error) if error.kind() == ErrorKind::Auth => return Ok(None),
            opened => opened?,
        };
        if let Some(cleartext) = self.location.cleartext(reader.object()) {
            return Ok(Some(Kind::Cleartext(cleartext)));
        }
        let header = reader.header()?;
        let location = self.location;
        let key = match read::file_key(self.handle, location, &object.key, &header, self.options.identities) {
            Err(error) if error.kind() == ErrorKind::Auth => return Ok(None),
            found => found?,
        };
        let opener = Opener::new(header, &key)?;
        let end = opener.end(&mut reader, object.size)?;
        let rewind = reader.seek(SeekFrom::Start(HEADER_LEN as u64));
        rewind.map_err(|source| Error::io("cannot read", source))?;
        let metadata = opener.metadata(&mut reader)?;
        Ok(Some(Kind::Container(Box::new(Opened { opener, reader, end, metadata }))))
    }

    /// Puts the same contents over a version under a new key; says which version it became, and the digest of what was read.
    fn write(
        &self,
        stored: &str,
        over: &Object,
        opened: Opened,
        new: &New,
        options: &SealOptions,
    ) -> Result<(VersionId, [u8; 32])> {
        let Opened { opener, reader, end, metadata } = opened;
        let len = sealed_len(end.total, metadata.as_ref(), options)?;
        let small = end.total <= SMALL;
        let digest = Arc::new(Mutex::new(None));
        let plain = Plain::new(opener, reader, end, Arc::clone(&digest));
        let random = Pooled::new(&OsRandom);
        let put = if small {
            let mut container = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
            seal(&new.file_key, new.data_id, metadata.as_ref(), plain, &mut container, &random, options)?;
            self.put(stored, over, new, Content::Whole(container.into()))
        } else {
            std::thread::scope(|scope| {
                let mut parts = Parts::new(Some(len), |mut out: PartWriter| {
                    let (metadata, random) = (metadata.as_ref(), &random);
                    let work = move || {
                        let sealed =
                            seal(&new.file_key, new.data_id, metadata, plain, &mut out, random, options);
                        out.end(sealed.map(Ended::from));
                    };
                    let started = std::thread::Builder::new().spawn_scoped(scope, work);
                    started.map(drop).map_err(|error| Error::io("cannot start a thread", error))
                });
                self.put(stored, over, new, Content::Parts { size: Some(len), source: &mut parts })
            })
        };
        let Stored::Stored(written) = put? else {
            return Err(Error::conflict("was replaced by somebody else meanwhile"));
        };
        let digest = digest.lock().unwrap_or_else(PoisonError::into_inner).take();
        let digest = digest.ok_or_else(|| Error::integrity("was not read to its end"))?;
        Ok((written.version, digest))
    }

    /// Both halves, by the rules, in place of a version.
    pub(super) fn put<'c>(
        &self,
        stored: &'c str,
        over: &Object,
        new: &New,
        content: Content<'c>,
    ) -> Result<Stored> {
        let request = PutRequest {
            stored,
            data_id: new.data_id,
            envelope: new.envelope.clone(),
            content,
            envelope_encryption: self.options.encryption.of_envelope(),
            container_encryption: new.encryption.clone(),
            if_exists: IfExists::Replace,
            memory: None,
        };
        self.handle.block_on(drive::put_over(self.location, request, &over.version))
    }

    /// Reads both halves back and compares them. Where they are not as they were written, or hide what somebody else wrote
    /// meanwhile, the new container goes again.
    pub(super) fn prove(
        &self,
        stored: &str,
        over: &Object,
        written: &VersionId,
        compare: impl FnOnce(&str) -> Result<()>,
    ) -> Result<()> {
        let store = self.location.store();
        let key = self.location.key(stored);
        let alone = self.handle.block_on(drive::stands_over(self.location, stored, over, written))?;
        let compared = match alone {
            true => compare(&key),
            false => Err(Error::conflict("was replaced by somebody else meanwhile")),
        };
        let Err(error) = compared else { return Ok(()) };
        let bad = matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Conflict);
        if bad && self.versions {
            // What it stood for is the current version again.
            self.handle.block_on(store.delete(&key, written))?;
        }
        Err(error)
    }

    /// Whether the envelope of a new pair is what was written.
    pub(super) fn has_envelope(&self, store: &dyn Store, key: &str, new: &New) -> Result<Envelope> {
        let envelopes = self.handle.block_on(read::envelopes(store, key, &new.data_id))?;
        let written = envelopes.found.into_iter().find(|found| found.bytes == new.envelope);
        written
            .map(|found| found.envelope)
            .ok_or_else(|| Error::integrity("its new envelope is not what was written"))
    }

    fn compare(
        &self,
        key: &str,
        new: &New,
        written: &VersionId,
        digest: &[u8; 32],
        total: u64,
    ) -> Result<()> {
        let store: Arc<dyn Store> = match &new.encryption {
            Some(Encryption::Customer(customer)) => {
                Arc::new(Unlocking::with_key(self.location.shared_store(), customer.clone()))
            }
            _ => self.location.shared_store(),
        };
        let envelope = self.has_envelope(store.as_ref(), key, new)?;
        // What a store without versions says is the version may be another writer's by now.
        let version = self.versions.then(|| written.clone());
        let mut reader = Reader::open(self.handle.clone(), store, key, version, FRONT)?;
        let header = reader.header()?;
        if header.data_id() != new.data_id {
            return Err(Error::conflict("was replaced by somebody else meanwhile"));
        }
        vault::check(self.location, key, &header, [&envelope])?;
        let opener = Opener::new(header, &new.file_key)?;
        let len = reader.object().size;
        let end = opener.end(&mut reader, len)?;
        let rewind = reader.seek(SeekFrom::Start(HEADER_LEN as u64));
        rewind.map_err(|source| Error::io("cannot read", source))?;
        opener.metadata(&mut reader)?;
        let mut hashed = Hashed(Sha256::new());
        opener.copy(reader, &mut hashed, Some(&end), 1)?;
        let found: [u8; 32] = hashed.0.finalize().into();
        match end.total == total && same(&found, digest) {
            true => Ok(()),
            false => Err(Error::integrity("what was written does not hold what was read")),
        }
    }
}

/// What a new pair gets before its first byte is made.
pub(super) struct New {
    data_id: DataId,
    file_key: FileKey,
    envelope: Bytes,
    encryption: Option<Encryption>,
}

impl New {
    fn generate(
        run: &Reencrypting<'_>,
        stored: &str,
        opened: &Opened,
        options: &SealOptions,
    ) -> Result<Self> {
        let Opened { end, metadata, .. } = opened;
        let described = Described {
            stored,
            metadata: metadata.as_ref(),
            size: Some(end.total),
            digest: end.digest,
            seal: options,
        };
        Self::with(run, |_, _| vec![], |file_key, data_id| described.record(run.location, data_id, file_key))
    }

    /// The same for what the service alone encrypts, which no vault has.
    pub(super) fn cleartext(run: &Reencrypting<'_>, old: &Cleartext) -> Result<Self> {
        let headers = |file_key: &FileKey, data_id: &DataId| {
            Cleartext::headers(file_key, data_id, &old.metadata, old.size, old.digest).into()
        };
        Self::with(run, headers, |_, _| Ok(None))
    }

    /// The key of the customer's, where there is one.
    pub(super) fn customer_key(&self) -> Option<&CustomerKey> {
        match &self.encryption {
            Some(Encryption::Customer(key)) => Some(key),
            _ => None,
        }
    }

    fn with(
        run: &Reencrypting<'_>,
        more: impl FnOnce(&FileKey, &DataId) -> Vec<(String, String)>,
        record: impl FnOnce(&FileKey, &DataId) -> Result<Option<Vec<u8>>>,
    ) -> Result<Self> {
        let data_id = DataId::generate(&OsRandom)?;
        let file_key = FileKey::generate(&OsRandom)?;
        let mut headers = run.options.encryption.headers();
        headers.extend(more(&file_key, &data_id));
        let mut envelope = wrap_with(&file_key, &data_id, run.options.recipients, run.options.now, &headers)?;
        envelope.blocks.extend(record(&file_key, &data_id)?.map(Block::info));
        let encryption = run.options.encryption.of_container(&file_key, &data_id);
        Ok(Self { data_id, file_key, envelope: envelope.to_text()?.into(), encryption })
    }
}

/// The plaintext of a container, section by section, each authenticated before a byte of it is given. Its end is an error
/// when it is not what the digest says.
struct Plain {
    opener: Opener,
    reader: Reader,
    end: End,
    at: u64,
    chunk: Zeroizing<Vec<u8>>,
    taken: usize,
    digest: Sha256,
    found: Arc<Mutex<Option<[u8; 32]>>>,
}

impl Plain {
    fn new(opener: Opener, reader: Reader, end: End, found: Arc<Mutex<Option<[u8; 32]>>>) -> Self {
        let room = usize::try_from(end.total.min(CHUNK.max(opener.header().section_size() as u64)));
        let chunk = Zeroizing::new(Vec::with_capacity(room.unwrap_or(0)));
        Self { opener, reader, end, at: 0, chunk, taken: 0, digest: Sha256::new(), found }
    }

    fn fill(&mut self) -> Result<()> {
        let size = self.opener.header().section_size() as u64;
        let len = (CHUNK / size).max(1).saturating_mul(size).min(self.end.total - self.at);
        self.chunk.clear();
        self.taken = 0;
        if len == 0 {
            return self.finish();
        }
        self.opener.copy_range(&mut self.reader, &self.end, self.at, len, &mut *self.chunk)?;
        self.digest.update(&*self.chunk);
        self.at += len;
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let found: [u8; 32] = self.digest.clone().finalize().into();
        if self.end.digest.is_some_and(|digest| !same(&digest, &found)) {
            return Err(Error::integrity(
                "its plaintext does not have the digest that its end section holds",
            ));
        }
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        Ok(())
    }
}

impl Read for Plain {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.chunk.len() {
            self.fill().map_err(io::Error::other)?;
        }
        let rest = &self.chunk[self.taken..];
        let len = rest.len().min(into.len());
        into[..len].copy_from_slice(&rest[..len]);
        self.taken += len;
        Ok(len)
    }
}

struct Hashed(Sha256);

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
