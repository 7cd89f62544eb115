//! Contents into pairs: small ones encrypted whole in memory, large ones by a thread of their own while parts are stored.

use std::fs::Metadata as FileMetadata;
use std::io::Read;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread::Scope;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::{MutexGuard, SemaphorePermit};

use super::journal::{Journal, OneTime, Subject};
use super::pair::{Described, FirstHalf, NewPair};
use super::parts::{Ended, PartWriter, Parts};
use super::{Confirmed, LARGE, Named, Origin, Putting, describe_as, exists_already};
use crate::crypto::ivs::RepeatableIvs;
use crate::format::{FileType, Metadata};
use crate::location::drive::{self, Content, IfExists, PutRequest, Stored, UploadMemory};
use crate::location::vault;
use crate::ops::events::{Event, Watched};
use crate::ops::source::{Exactly, open_file, unchanged};
use crate::ops::walk::Found;
use crate::random::OsRandom;
use crate::seal::{seal, sealed_len};
use crate::secret::{FileKey, IvKey};
use crate::store::Written;
use crate::{DataId, Error, ErrorKind, Result, hex};

impl Putting<'_> {
    /// Waits until a file may be opened, so that those that wait keep nothing open: a small one pays for the memory that it
    /// takes, a large one is the only one.
    pub(super) async fn turn(&self, size: u64) -> Result<(SemaphorePermit<'_>, Option<MutexGuard<'_, ()>>)> {
        let (cost, large) = if size < LARGE { (1 + (size >> 10) as u32, false) } else { (0, true) };
        let paid = self.budget.acquire_many(cost).await.map_err(|_| Error::usage("the run is over"))?;
        let alone = if large { Some(self.large.lock().await) } else { None };
        Ok((paid, alone))
    }

    pub(super) async fn file<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        found: &Found,
        Named { name, stored }: &Named,
    ) -> Result<()> {
        let (_paid, mut alone) = self.turn(found.metadata.len()).await?;
        let (file, before) = open_file(&found.path, self.options.follow)?;
        let size = before.len();
        let metadata = describe_as(found, &before, FileType::File, name);
        if size < LARGE {
            let source = Watched { inner: Exactly { inner: &file, left: size }, observer: self.observer };
            let unchanged = || unchanged(&file, &before, &found.path);
            let origin = Origin::Found(found, &before);
            return self.whole(origin, stored, &metadata, source, size, unchanged).await;
        }
        if alone.is_none() {
            alone = Some(self.large.lock().await);
        }
        let (path, observer) = (found.path.clone(), self.observer);
        let as_read = before.clone();
        let options = self.seal_options(Some(size));
        let len = sealed_len(size, Some(&metadata), &options)?;
        let mut journal = self.journal(&found.path, stored);
        let subject = self.subject(stored, &before, &metadata, &[])?;
        let described =
            Described { stored, metadata: Some(&metadata), size: Some(size), digest: None, seal: &options };
        let new = || NewPair::generate(self.options, &described, &OsRandom);
        let (new, iv_key) = self.pair_of(journal.as_mut(), stored, subject, new).await?;
        let NewPair { file_key, half } = new;
        let data_id = half.data_id;
        let seal_all = move |out: &mut PartWriter| {
            let source = Watched { inner: Exactly { inner: &file, left: size }, observer };
            let random = RepeatableIvs::new(&iv_key, &OsRandom);
            let sealed = seal(&file_key, data_id, Some(&metadata), source, out, &random, &options)
                .map_err(|error| error.at(&path))?;
            unchanged(&file, &before, &path)?;
            Ok(Ended::from(sealed))
        };
        let memory = journal.as_ref().map(|journal| journal as &dyn UploadMemory);
        let origin = Origin::Found(found, &as_read);
        let done = self.parts(scope, origin, stored, half, Some(len), memory, seal_all).await;
        if let Some(journal) = journal.filter(|_| done.is_ok()) {
            journal.forget();
        }
        drop(alone);
        done.map(drop)
    }

    /// Where the upload of a large file is remembered. Without such a place it is stored all the same.
    pub(super) fn journal(&self, path: &Path, stored: &str) -> Option<Journal> {
        let folder = self.options.journals.as_ref()?;
        let opened = Journal::open(folder, &self.options.location.show(stored), self.options.now);
        opened.unwrap_or_else(|error| {
            let message = format!("is not remembered, and cannot be gone on with: {}", error.line());
            self.observer.event(Event::Warning { path, message: &message });
            None
        })
    }

    /// The pair that an earlier run began to store, where it can be gone on with; else a new one.
    pub(super) async fn pair_of(
        &self,
        journal: Option<&mut Journal>,
        stored: &str,
        subject: Subject,
        new: impl Fn() -> Result<NewPair>,
    ) -> Result<(NewPair, IvKey)> {
        let new = || Ok((new()?, IvKey::generate(&OsRandom)?));
        let Some(journal) = journal else { return new() };
        let location = &self.options.location;
        match journal.read(&subject) {
            Ok(OneTime { data_id, file_key, iv_key })
                if drive::has_envelope(location, stored, &data_id).await? =>
            {
                let half = FirstHalf::new(self.options, data_id, &file_key, Bytes::new());
                return Ok((NewPair { file_key, half }, iv_key));
            }
            Ok(_) => journal.start_anew(),
            Err(Some(unfinished)) => {
                // What cannot be thrown away now is found by `clean`.
                let _ = location.store().abort(&unfinished).await;
            }
            Err(None) => {}
        }
        let (pair, iv_key) = new()?;
        journal.prepare(subject, &pair.half.data_id, &pair.file_key, &iv_key);
        Ok((pair, iv_key))
    }

    /// What is uploaded: the source, what is said of it, and its SHA-256 where that is known and sealed before.
    pub(super) fn subject(
        &self,
        stored: &str,
        source: &FileMetadata,
        metadata: &Metadata,
        digest: &[u8],
    ) -> Result<Subject> {
        let metadata = Sha256::new().chain_update(metadata.to_text()?).chain_update(digest).finalize();
        let number = u64::cast_signed;
        Ok(Subject {
            object: self.options.location.show(stored),
            source: [
                number(source.dev()),
                number(source.ino()),
                number(source.len()),
                source.mtime(),
                source.mtime_nsec(),
                source.ctime(),
                source.ctime_nsec(),
            ],
            metadata: hex(&metadata),
            digest: self.options.digest as u8,
            encryption: format!("{:?}", self.options.encryption),
            recipients: self.options.recipients.iter().map(|key| key.id().to_string()).collect(),
        })
    }

    /// A source that is encrypted in memory before anything is stored; `unchanged` is asked between.
    pub(super) async fn whole(
        &self,
        origin: Origin<'_>,
        stored: &str,
        metadata: &Metadata,
        source: impl Read + Send,
        size: u64,
        unchanged: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let random = &self.random;
        let (data_id, file_key) = (DataId::generate(random)?, FileKey::generate(random)?);
        let mut container = Vec::with_capacity(size as usize + (size / 1024) as usize + 1024);
        let options = self.seal_options(Some(size));
        let sealed = seal(&file_key, data_id, Some(metadata), source, &mut container, random, &options)
            .map_err(|error| error.at(origin.path()))?;
        unchanged()?;
        let stored_len = container.len() as u64;
        let digest = sealed.digest;
        let described =
            Described { stored, metadata: Some(metadata), size: Some(size), digest, seal: &options };
        let NewPair { half, .. } = NewPair::of(self.options, &described, data_id, file_key)?;
        let content = Content::Whole(container.into());
        if let Some(written) = self.store(origin.path(), stored, half, content, None).await? {
            self.told(origin, stored, Ended::from(sealed), data_id, &written, stored_len);
        }
        Ok(())
    }

    /// A source that is encrypted part by part, by a thread of its own, while parts before are stored.
    #[allow(clippy::too_many_arguments, reason = "two call sites; a struct would only rename them")]
    pub(super) async fn parts<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        origin: Origin<'_>,
        stored: &str,
        half: FirstHalf,
        size: Option<u64>,
        memory: Option<&dyn UploadMemory>,
        seal_all: impl FnOnce(&mut PartWriter) -> Result<Ended> + Send + 'scope,
    ) -> Result<Option<Written>> {
        let mut parts = Parts::new(size, |mut out: PartWriter| {
            let work = move || {
                let sealed = seal_all(&mut out);
                out.end(sealed);
            };
            let started = std::thread::Builder::new().spawn_scoped(scope, work);
            started.map(drop).map_err(|error| Error::io("cannot start a thread", error))
        });
        let content = Content::Parts { size, source: &mut parts };
        let data_id = half.data_id;
        let written = self.store(origin.path(), stored, half, content, memory).await?;
        if let Some(written) = &written {
            self.told(origin, stored, parts.ended(), data_id, written, size.unwrap_or(0));
        }
        Ok(written)
    }

    /// Both halves, by the rules; nothing when what was there stays.
    pub(super) async fn store<'c>(
        &self,
        path: &Path,
        stored: &'c str,
        half: FirstHalf,
        content: Content<'c>,
        memory: Option<&'c dyn UploadMemory>,
    ) -> Result<Option<Written>> {
        let (location, if_exists) = (&self.options.location, self.options.if_exists);
        let FirstHalf { data_id, envelope, envelope_encryption, container_encryption } = half;
        if let Some(name) = location.parse(stored).filter(|_| location.vault().is_some()) {
            vault::keep_names(location, &name).await?;
        }
        let request = PutRequest {
            stored,
            data_id,
            envelope,
            content,
            envelope_encryption,
            container_encryption,
            if_exists,
            memory,
        };
        if let Stored::Stored(written) = drive::put(location, request).await? {
            return Ok(Some(written));
        }
        match self.exists(stored).await? {
            Some(false) => Err(Error::conflict("something that is no file has its name")
                .about(location.show(stored))
                .hint("move it away, or store under another name")),
            _ if if_exists == IfExists::Skip => {
                self.skip(path);
                Ok(None)
            }
            _ => Err(exists_already(location, stored)),
        }
    }

    /// Whether a container has the name, where that can be told: who may only write finds out by writing.
    pub(super) async fn exists(&self, stored: &str) -> Result<Option<bool>> {
        match drive::exists(&self.options.location, stored).await {
            Err(error) if error.kind() == ErrorKind::Permission => Ok(None),
            looked => looked.map(Some),
        }
    }

    pub(super) fn told(
        &self,
        origin: Origin<'_>,
        stored: &str,
        Ended { len, digest }: Ended,
        data_id: DataId,
        written: &Written,
        stored_len: u64,
    ) {
        if let (Some(confirm), Origin::Found(found, metadata)) = (self.confirm, origin) {
            confirm(&Confirmed { found, metadata, digest, data_id, written, stored_len });
        }
        let object = self.options.location.show(stored);
        self.observer.event(Event::Put { path: origin.path(), object: &object, size: len, data_id });
    }
}
