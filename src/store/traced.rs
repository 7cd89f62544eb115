//! A store that tells of every call what it was, how long it took and how it ended: `tracing` events of the level debug,
//! with the target `sidekey::store`. Bytes, keys of encryption and credentials are in none of them.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::time::Instant;
use tracing::{Level, debug, enabled};

use super::facts::Facts;
use super::{
    Bucket, Capabilities, Conditions, Download, GetOptions, ListOptions, Listed, Object, PutOptions, Resumed,
    Right, Store, Unfinished, Upload, VersionId, Written,
};
use crate::Result;

/// Under this name the events are filtered.
const TARGET: &str = "sidekey::store";

/// A store whose calls are told.
#[derive(Debug)]
pub struct Traced {
    inner: Arc<dyn Store>,
}

impl Traced {
    /// A store that does what `inner` does; `inner` itself where nobody listens.
    pub fn over(inner: Arc<dyn Store>) -> Arc<dyn Store> {
        match enabled!(target: TARGET, Level::DEBUG) {
            true => Arc::new(Self { inner }),
            false => inner,
        }
    }

    fn begin(&self, what: &'static str, key: &str, detail: impl Debug) -> Call {
        Call { what, subject: self.inner.show(key), detail: format!("{detail:?}"), start: Instant::now() }
    }
}

/// A call that is under way.
struct Call {
    what: &'static str,
    subject: String,
    detail: String,
    start: Instant,
}

impl Call {
    /// Tells how it ended; `told` says what came.
    fn end<T, D: Debug>(self, result: Result<T>, told: impl FnOnce(&T) -> D) -> Result<T> {
        let Self { what, subject, detail, start } = self;
        let ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        match &result {
            Ok(value) => {
                let gave = told(value);
                debug!(target: TARGET, ?subject, %detail, ms, ?gave, "{what}");
            }
            Err(error) => {
                debug!(target: TARGET, ?subject, %detail, ms, kind = ?error.kind(), error = ?error.line(), "{what}");
            }
        }
        result
    }
}

#[async_trait]
impl Store for Traced {
    fn show(&self, key: &str) -> String {
        self.inner.show(key)
    }

    async fn capabilities(&self) -> Result<Capabilities> {
        self.begin("capabilities", "", ()).end(self.inner.capabilities().await, Clone::clone)
    }

    async fn conditions(&self) -> Result<Conditions> {
        self.begin("conditions", "", ()).end(self.inner.conditions().await, |honoured| *honoured)
    }

    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<Written> {
        let call = self.begin("put", key, (body.len(), &options.only_if));
        call.end(self.inner.put(key, body, options).await, |written| written.version.clone())
    }

    async fn upload(&self, key: &str, options: &PutOptions) -> Result<Box<dyn Upload>> {
        let call = self.begin("upload", key, (options.size, &options.only_if));
        let upload =
            call.end(self.inner.upload(key, options).await, |upload| upload.id().map(str::to_owned))?;
        Ok(Box::new(TracedUpload { inner: upload, subject: self.show(key) }))
    }

    async fn get(&self, key: &str, options: &GetOptions) -> Result<Download> {
        let call = self.begin("get", key, (&options.version, &options.range));
        call.end(self.inner.get(key, options).await, |download| {
            (download.object.version.clone(), download.object.size)
        })
    }

    async fn stat(&self, key: &str, version: Option<&VersionId>) -> Result<Object> {
        let call = self.begin("stat", key, version);
        call.end(self.inner.stat(key, version).await, |object| (object.version.clone(), object.size))
    }

    fn list(&self, options: ListOptions) -> BoxStream<'_, Result<Listed>> {
        let call = self.begin("list", &options.prefix, (options.delimiter, options.versions, &options.after));
        counted(call, self.inner.list(options))
    }

    async fn delete(&self, key: &str, version: &VersionId) -> Result<()> {
        let call = self.begin("delete", key, version);
        call.end(self.inner.delete(key, version).await, |()| ())
    }

    async fn hide(&self, key: &str) -> Result<VersionId> {
        self.begin("hide", key, ()).end(self.inner.hide(key).await, Clone::clone)
    }

    async fn copy(
        &self,
        from: &str,
        version: Option<&VersionId>,
        to: &str,
        options: &PutOptions,
    ) -> Result<Written> {
        let call = self.begin("copy", from, (version, self.show(to), &options.only_if));
        call.end(self.inner.copy(from, version, to, options).await, |written| written.version.clone())
    }

    fn unfinished(&self, prefix: &str) -> BoxStream<'_, Result<Unfinished>> {
        counted(self.begin("unfinished", prefix, ()), self.inner.unfinished(prefix))
    }

    async fn abort(&self, unfinished: &Unfinished) -> Result<()> {
        let call = self.begin("abort", &unfinished.key, &unfinished.id);
        call.end(self.inner.abort(unfinished).await, |()| ())
    }

    async fn resume(&self, unfinished: &Unfinished, options: &PutOptions) -> Result<Resumed> {
        let call = self.begin("resume", &unfinished.key, &unfinished.id);
        let resumed = self.inner.resume(unfinished, options).await;
        let Resumed { upload, parts } = call.end(resumed, |resumed| resumed.parts.len())?;
        let upload = Box::new(TracedUpload { inner: upload, subject: self.show(&unfinished.key) });
        Ok(Resumed { upload, parts })
    }

    fn check_key(&self, key: &str) -> Result<()> {
        self.inner.check_key(key)
    }

    async fn require(&self, prefix: &str, rights: &[Right]) -> Result<()> {
        self.begin("require", prefix, rights).end(self.inner.require(prefix, rights).await, |()| ())
    }

    async fn facts(&self, prefix: &str) -> Result<Facts> {
        self.begin("facts", prefix, ()).end(self.inner.facts(prefix).await, Clone::clone)
    }

    fn bucket(&self) -> Option<&dyn Bucket> {
        self.inner.bucket()
    }
}

/// A list, told once when it is over, or its reader left it.
fn counted<'a, T: Send + 'a>(call: Call, list: BoxStream<'a, Result<T>>) -> BoxStream<'a, Result<T>> {
    let mut counter = Counter { call: Some(call), items: 0, faults: 0 };
    list.inspect(move |item| counter.count(item.is_ok())).boxed()
}

struct Counter {
    call: Option<Call>,
    items: u64,
    faults: u64,
}

impl Counter {
    fn count(&mut self, is_item: bool) {
        *if is_item { &mut self.items } else { &mut self.faults } += 1;
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let (items, faults) = (self.items, self.faults);
        if let Some(call) = self.call.take() {
            drop(call.end(Ok(()), |()| (items, faults)));
        }
    }
}

/// An upload whose calls are told.
struct TracedUpload {
    inner: Box<dyn Upload>,
    subject: String,
}

impl TracedUpload {
    fn begin(&self, what: &'static str, detail: impl Debug) -> Call {
        let (subject, detail) = (self.subject.clone(), format!("{detail:?}"));
        Call { what, subject, detail, start: Instant::now() }
    }
}

#[async_trait]
impl Upload for TracedUpload {
    async fn part(&self, number: u32, body: Bytes) -> Result<()> {
        let call = self.begin("part", (number, body.len()));
        call.end(self.inner.part(number, body).await, |()| ())
    }

    async fn complete(&self, parts: u32) -> Result<Written> {
        let call = self.begin("complete", parts);
        call.end(self.inner.complete(parts).await, |written| written.version.clone())
    }

    async fn abort(&self) -> Result<()> {
        self.begin("abort", ()).end(self.inner.abort().await, |()| ())
    }

    fn id(&self) -> Option<&str> {
        self.inner.id()
    }
}
