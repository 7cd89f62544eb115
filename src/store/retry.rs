//! A store that tries again, by the class of the fault.
//!
//! `Transient` is tried again whatever it was. `Unsure` is tried again where doing it twice is doing it once, or where a
//! look at the store tells whether it was done; never blindly under a condition. Everything else is returned at once.
//! What is sent again is the same bytes. A download that breaks goes on at the byte where it broke, of the same version;
//! a list goes on behind what was listed.

mod body;
mod list;
mod tries;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use super::facts::Facts;
use super::{
    Bucket, Capabilities, Conditions, Download, Encryption, GetOptions, ListOptions, Listed, Object, OnlyIf,
    PutOptions, Resumed, Right, Store, Unfinished, Upload, VersionId, Written,
};
use crate::{Error, ErrorKind, Result};
use tries::{Tries, Waits};

/// A store that tries again. Clones share their source of chance.
pub struct Retry<S: ?Sized> {
    inner: Arc<S>,
    waits: Waits,
}

/// How long to wait, and when to give up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The first wait; each is twice the one before, less up to a half by chance, so that hosts do not come back together.
    pub first: Duration,
    /// The longest wait, unless the store asks for a longer one.
    pub most: Duration,
    /// After so long it is given up. A list and a download begin anew with whatever they bring.
    pub total: Duration,
    /// After so many tries it is given up.
    pub tries: u32,
    /// Where chance begins: another number on every host and in every run.
    pub seed: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(250),
            most: Duration::from_secs(60),
            total: Duration::from_secs(15 * 60),
            tries: 40,
            seed: 0,
        }
    }
}

/// The time that passes, and how to wait: the runtime's, or a test's.
#[async_trait]
pub trait Clock: fmt::Debug + Send + Sync {
    /// How long it is since some moment that stays the same.
    fn elapsed(&self) -> Duration;

    /// Comes back when so much time has passed.
    async fn sleep(&self, wait: Duration);
}

/// The clock of the runtime that polls.
#[derive(Debug)]
struct RuntimeClock {
    start: tokio::time::Instant,
}

#[async_trait]
impl Clock for RuntimeClock {
    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    async fn sleep(&self, wait: Duration) {
        tokio::time::sleep(wait).await;
    }
}

/// A try that failed, and after which there is another: for logs.
#[derive(Debug)]
pub struct Again<'a> {
    /// What was tried, in words: "reading".
    pub what: &'static str,
    /// The key or prefix, as people write it.
    pub subject: &'a str,
    /// How it failed.
    pub error: &'a Error,
    /// How often, without a success between.
    pub tries: u32,
    /// How long it is until the next.
    pub wait: Duration,
}

impl<S: Store + ?Sized + 'static> Retry<S> {
    /// A store that does what `inner` does, by `policy`. It waits by the timers of the runtime that polls it.
    pub fn new(inner: Arc<S>, policy: Policy) -> Self {
        let clock = Arc::new(RuntimeClock { start: tokio::time::Instant::now() });
        let chance = Arc::new(AtomicU64::new(policy.seed));
        Self { inner, waits: Waits { policy, clock, chance, tell: None } }
    }

    /// The same by another clock.
    #[must_use]
    pub fn by_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.waits.clock = clock;
        self
    }

    /// The same, which tells of every try that is followed by another.
    #[must_use]
    pub fn tell(mut self, tell: impl Fn(&Again<'_>) + Send + Sync + 'static) -> Self {
        self.waits.tell = Some(Arc::new(tell));
        self
    }

    /// The tries of something that changes nothing that others see.
    fn harmless(&self, what: &'static str, key: &str) -> Tries {
        Tries::new(&self.waits, what, self.inner.show(key), false)
    }

    /// The tries of something that comes bit by bit, from whenever somebody asks for it.
    fn stream(&self, what: &'static str, key: &str) -> Tries {
        let mut tries = self.harmless(what, key);
        tries.progress();
        tries
    }

    /// The tries of a change: when one got no answer and the last was refused, nobody knows whether it was done.
    fn change(&self, what: &'static str, key: &str) -> Tries {
        Tries::new(&self.waits, what, self.inner.show(key), true)
    }

    /// What is there after a conditional write without an answer.
    async fn found(&self, key: &str, body: &Bytes, options: &PutOptions) -> Result<Found> {
        let only_if = &options.only_if;
        let customer_key = match &options.encryption {
            Some(Encryption::Customer(key)) => Some(key.clone()),
            _ => None,
        };
        let read = GetOptions { customer_key, ..GetOptions::default() };
        let download = match self.inner.get(key, &read).await {
            Ok(download) => download,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(if *only_if == OnlyIf::Absent { Found::AsBefore } else { Found::Other });
            }
            // Under another key, or under none.
            Err(error)
                if read.customer_key.is_some()
                    && matches!(error.kind(), ErrorKind::Auth | ErrorKind::Input) =>
            {
                let found = self.inner.stat(key, None).await?;
                let as_before = *only_if == OnlyIf::Version(found.version);
                return Ok(if as_before { Found::AsBefore } else { Found::Other });
            }
            Err(error) => return Err(error),
        };
        let version = download.object.version;
        if *only_if == OnlyIf::Version(version.clone()) {
            return Ok(Found::AsBefore);
        }
        let ours = download.object.size == body.len() as u64 && body::equals(download.body, body).await?;
        Ok(if ours { Found::Ours(Written { version }) } else { Found::Other })
    }

    /// Whether a write under a condition is one version more in any case: then nothing is lost by writing again without a
    /// look, as credentials have to that may not read.
    async fn keeps_both(&self) -> bool {
        let (capabilities, conditions) = (self.inner.capabilities().await, self.inner.conditions().await);
        capabilities.is_ok_and(|can| can.versions)
            && conditions.is_ok_and(|honoured| !honoured.create_new && !honoured.replace_if)
    }

    /// Whether a delete without an answer was done, on a store that deletes whatever is there.
    async fn is_gone(&self, key: &str, version: &VersionId) -> Result<bool> {
        if self.inner.capabilities().await?.versions || self.inner.conditions().await?.delete_if {
            return Ok(false); // It may be asked again without a look: it spares what came after.
        }
        match self.inner.stat(key, None).await {
            Ok(object) => Ok(object.version != *version),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The marker that hides an object now.
    async fn marker(&self, key: &str) -> Result<Option<VersionId>> {
        let options = ListOptions { prefix: key.to_owned(), versions: true, ..ListOptions::default() };
        match self.inner.list(options).next().await.transpose()? {
            Some(Listed::Object(object)) if object.key == key && object.marker => Ok(Some(object.version)),
            _ => Ok(None),
        }
    }
}

enum Found {
    /// What was to be written.
    Ours(Written),
    /// What the condition asks for.
    AsBefore,
    /// Neither.
    Other,
}

/// Tries until it is done or given up. `twice` tells whether doing it twice is doing it once.
async fn again<'a, T>(
    mut tries: Tries,
    twice: bool,
    call: impl Fn() -> BoxFuture<'a, Result<T>> + Send,
) -> Result<T> {
    loop {
        match call().await {
            Ok(value) => return Ok(value),
            Err(error) => tries.failed(error, twice).await?,
        }
    }
}

impl<S: ?Sized> Clone for Retry<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), waits: self.waits.clone() }
    }
}

impl<S: Store + ?Sized> fmt::Debug for Retry<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").field("inner", &&*self.inner).field("policy", &self.waits.policy).finish()
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: Store + ?Sized + 'static> Store for Retry<S> {
    fn show(&self, key: &str) -> String {
        self.inner.show(key)
    }

    async fn capabilities(&self) -> Result<Capabilities> {
        again(self.harmless("asking what it can do", ""), true, || self.inner.capabilities()).await
    }

    async fn conditions(&self) -> Result<Conditions> {
        again(self.harmless("asking which conditions it honours", ""), true, || self.inner.conditions()).await
    }

    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<Written> {
        let mut tries = self.change("writing", key);
        if options.only_if == OnlyIf::Always {
            return again(tries, true, || self.inner.put(key, body.clone(), options)).await;
        }
        loop {
            if tries.unsure() {
                match self.found(key, &body, options).await {
                    Ok(Found::Ours(written)) => return Ok(written),
                    Ok(Found::AsBefore) => {}
                    Ok(Found::Other) => return Err(tries.conflict()),
                    Err(error) if error.kind() == ErrorKind::Permission && self.keeps_both().await => {}
                    Err(error) => {
                        tries.failed(error, true).await?;
                        continue;
                    }
                }
            }
            match self.inner.put(key, body.clone(), options).await {
                Ok(written) => return Ok(written),
                // Perhaps with our own bytes, which arrived after the look.
                Err(error) if error.kind() == ErrorKind::Conflict && tries.unsure() => {
                    tries.failed(error.of_kind(ErrorKind::Unsure), true).await?;
                }
                Err(error) => tries.failed(error, true).await?,
            }
        }
    }

    async fn upload(&self, key: &str, options: &PutOptions) -> Result<Box<dyn Upload>> {
        // One that was begun without an answer stays unfinished, as one of a process that died.
        let inner =
            again(self.harmless("beginning to upload", key), true, || self.inner.upload(key, options))
                .await?;
        Ok(Box::new(RetryUpload { inner, waits: self.waits.clone(), shown: self.show(key) }))
    }

    async fn get(&self, key: &str, options: &GetOptions) -> Result<Download> {
        let download = again(self.harmless("reading", key), true, || self.inner.get(key, options)).await?;
        Ok(self.resuming(download, options))
    }

    async fn stat(&self, key: &str, version: Option<&VersionId>) -> Result<Object> {
        again(self.harmless("looking", key), true, || self.inner.stat(key, version)).await
    }

    fn list(&self, options: ListOptions) -> BoxStream<'_, Result<Listed>> {
        self.listing(options)
    }

    async fn delete(&self, key: &str, version: &VersionId) -> Result<()> {
        let mut tries = self.change("deleting", key);
        loop {
            let deleted = match tries.unsure() {
                true => self.is_gone(key, version).await,
                false => Ok(false),
            };
            let deleted = match deleted {
                Ok(true) => Ok(()),
                Ok(false) => self.inner.delete(key, version).await,
                Err(error) => Err(error),
            };
            match deleted {
                Ok(()) => return Ok(()),
                Err(error) => tries.failed(error, true).await?,
            }
        }
    }

    async fn hide(&self, key: &str) -> Result<VersionId> {
        let mut tries = self.change("hiding", key);
        loop {
            let marker = match tries.unsure() {
                true => self.marker(key).await,
                false => Ok(None),
            };
            let marker = match marker {
                Ok(Some(marker)) => Ok(marker),
                Ok(None) => self.inner.hide(key).await,
                Err(error) => Err(error),
            };
            match marker {
                Ok(marker) => return Ok(marker),
                Err(error) => tries.failed(error, true).await?,
            }
        }
    }

    async fn copy(
        &self,
        from: &str,
        version: Option<&VersionId>,
        to: &str,
        options: &PutOptions,
    ) -> Result<Written> {
        // Of one version it is the same bytes again; the current one may be another by then.
        let twice = version.is_some() && options.only_if == OnlyIf::Always;
        again(self.change("copying", to), twice, || self.inner.copy(from, version, to, options)).await
    }

    fn unfinished(&self, prefix: &str) -> BoxStream<'_, Result<Unfinished>> {
        self.all_unfinished(prefix)
    }

    async fn abort(&self, unfinished: &Unfinished) -> Result<()> {
        again(self.harmless("throwing an upload away", &unfinished.key), true, || {
            self.inner.abort(unfinished)
        })
        .await
    }

    async fn resume(&self, unfinished: &Unfinished, options: &PutOptions) -> Result<Resumed> {
        let tries = self.harmless("going on with an upload", &unfinished.key);
        let Resumed { upload, parts } = again(tries, true, || self.inner.resume(unfinished, options)).await?;
        let shown = self.show(&unfinished.key);
        Ok(Resumed {
            upload: Box::new(RetryUpload { inner: upload, waits: self.waits.clone(), shown }),
            parts,
        })
    }

    fn check_key(&self, key: &str) -> Result<()> {
        self.inner.check_key(key)
    }

    async fn require(&self, prefix: &str, rights: &[Right]) -> Result<()> {
        again(self.harmless("asking for rights", prefix), true, || self.inner.require(prefix, rights)).await
    }

    async fn facts(&self, prefix: &str) -> Result<Facts> {
        again(self.harmless("asking for its settings", prefix), true, || self.inner.facts(prefix)).await
    }

    fn bucket(&self) -> Option<&dyn Bucket> {
        self.inner.bucket()
    }
}

struct RetryUpload {
    inner: Box<dyn Upload>,
    waits: Waits,
    shown: String,
}

impl RetryUpload {
    fn tries(&self, what: &'static str, changes: bool) -> Tries {
        Tries::new(&self.waits, what, self.shown.clone(), changes)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Upload for RetryUpload {
    async fn part(&self, number: u32, body: Bytes) -> Result<()> {
        again(self.tries("sending a part", false), true, || self.inner.part(number, body.clone())).await
    }

    async fn complete(&self, parts: u32) -> Result<Written> {
        again(self.tries("completing an upload", true), true, || self.inner.complete(parts)).await
    }

    async fn abort(&self) -> Result<()> {
        again(self.tries("throwing an upload away", false), true, || self.inner.abort()).await
    }

    fn id(&self) -> Option<&str> {
        self.inner.id()
    }
}
