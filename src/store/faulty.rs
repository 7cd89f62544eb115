//! A store that fails where it is told to, for tests of whatever stands on a store.
//!
//! Every call is counted: each page of a list, part and completion of an upload too. A test runs once without a fault,
//! asks for [`Faulty::calls`], and runs again for each of them and each [`Fault`].

use std::fmt;
use std::future::Future;
use std::io::Read as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};

use super::facts::Facts;
use super::{
    Body, Bucket, Capabilities, Conditions, Download, GetOptions, ListOptions, Listed, Object, OnlyIf,
    PutOptions, Resumed, Right, Store, Unfinished, Upload, VersionId, Written,
};
use crate::{Error, ErrorKind, Result};

/// A store that passes calls on, and fails those that it is told to. Clones share calls, plan and contents.
pub struct Faulty<S: ?Sized> {
    inner: Arc<S>,
    control: Control,
    page: usize,
    part: u64,
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Nothing is done, and it fails.
    Before(ErrorKind),
    /// It fails in the middle: a `put` leaves an unfinished upload with half of the bytes, the bytes of a `get` and the
    /// items of a list break off. Where there is no middle, as `Before`.
    HalfWay(ErrorKind),
    /// It is done, but the reply is lost.
    After(ErrorKind),
    /// As `Before(Transient)`, and the store asks to be left alone for so long.
    Busy(Duration),
    /// The bytes of a `get` end half-way as if they were all. Anything else fails as `Before(Transient)`.
    Short,
    /// The call panics, and nothing is done.
    Panic,
}

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "they are called as what they call")]
pub enum Operation {
    Capabilities,
    Conditions,
    Put,
    Upload,
    Part,
    Complete,
    AbortUpload,
    Get,
    Stat,
    List,
    Delete,
    Hide,
    Copy,
    Unfinished,
    Abort,
    Resume,
}

/// A call that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which one, from 1.
    pub number: u64,
    /// What was called.
    pub operation: Operation,
    /// The key or prefix that it was about; of a copy the one written to, empty for `capabilities`.
    pub key: String,
    /// Whether it writes under another condition than [`OnlyIf::Always`].
    pub conditional: bool,
    /// What happened to it.
    pub fault: Option<Fault>,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?} {:?}", self.number, self.operation, self.key)?;
        match self.fault {
            Some(fault) => write!(f, " ({fault:?})"),
            None => Ok(()),
        }
    }
}

#[derive(Clone)]
struct Control(Arc<Mutex<Calls>>);

#[derive(Default)]
struct Calls {
    log: Vec<Call>,
    plan: Option<Plan>,
    dies_at: Option<u64>,
    dead: bool,
}

type Plan = Box<dyn FnMut(&Call) -> Option<Fault> + Send>;

impl<S: Store + ?Sized> Faulty<S> {
    /// A store that passes every call on to `inner`.
    pub fn new(inner: Arc<S>) -> Self {
        Self { inner, control: Control(Arc::default()), page: 1000, part: u64::MAX }
    }

    /// The same store with lists whose pages have so many items.
    #[must_use]
    pub fn pages_of(mut self, items: usize) -> Self {
        self.page = items.max(1);
        self
    }

    /// The same store that takes parts of at most so many bytes.
    #[must_use]
    pub fn parts_of(mut self, bytes: u64) -> Self {
        self.part = bytes.max(1);
        self
    }

    /// Forgets calls, plan and death; the contents stay. So does a new process see them.
    pub fn restart(&self) {
        *self.control.lock() = Calls::default();
    }

    /// Fails the `number`th call, counted from 1, and no other.
    pub fn fail_at(&self, number: u64, fault: Fault) {
        self.plan(move |call| (call.number == number).then_some(fault));
    }

    /// As [`fail_at`](Self::fail_at), and every later call fails too: the process died there.
    pub fn die_at(&self, number: u64, fault: Fault) {
        self.fail_at(number, fault);
        self.control.lock().dies_at = Some(number);
    }

    /// Asks `plan` about every call from now on.
    pub fn plan(&self, plan: impl FnMut(&Call) -> Option<Fault> + Send + 'static) {
        self.control.lock().plan = Some(Box::new(plan));
    }

    /// Fails every later call with `Interrupted`.
    pub fn die(&self) {
        self.control.lock().dead = true;
    }

    /// Whether every call fails.
    pub fn is_dead(&self) -> bool {
        self.control.lock().dead
    }

    /// How many calls there were, those of the dead left out.
    pub fn calls(&self) -> u64 {
        self.control.lock().log.len() as u64
    }

    /// The calls themselves.
    pub fn log(&self) -> Vec<Call> {
        self.control.lock().log.clone()
    }

    async fn around<T>(
        &self,
        operation: Operation,
        key: &str,
        only_if: &OnlyIf,
        inner: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let fault = self.control.call(operation, key, only_if);
        done(fault, inner).await.map_err(|error| error.about(self.inner.show(key)))
    }

    fn paged<'a, T: Send + 'a>(
        &'a self,
        operation: Operation,
        key: String,
        items: BoxStream<'a, Result<T>>,
    ) -> BoxStream<'a, Result<T>> {
        let (control, page, shown) = (self.control.clone(), self.page, self.show(&key));
        let pages = Pages { control, operation, key, shown, items, page, left: 0, then: None, ended: false };
        stream::unfold(pages, |mut pages| async { pages.next().await.map(|item| (item, pages)) }).boxed()
    }
}

impl Control {
    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call and says what is to happen to it.
    #[allow(clippy::panic, reason = "it was asked for")]
    fn call(&self, operation: Operation, key: &str, only_if: &OnlyIf) -> Result<Option<Fault>> {
        let fault = self.lock().call(operation, key, *only_if != OnlyIf::Always)?;
        if fault == Some(Fault::Panic) {
            panic!("an injected panic: {operation:?} {key:?}");
        }
        Ok(fault)
    }
}

impl Calls {
    fn call(&mut self, operation: Operation, key: &str, conditional: bool) -> Result<Option<Fault>> {
        if self.dead {
            return Err(Error::new(ErrorKind::Interrupted, "an injected fault: the process is dead"));
        }
        let number = self.log.len() as u64 + 1;
        let mut call = Call { number, operation, key: key.to_owned(), conditional, fault: None };
        call.fault = self.plan.as_mut().and_then(|plan| plan(&call));
        self.dead = self.dies_at == Some(number);
        let fault = call.fault;
        self.log.push(call);
        Ok(fault)
    }
}

fn injected(kind: ErrorKind, when: &str) -> Error {
    Error::new(kind, format!("an injected fault {when}"))
}

fn nothing_done(fault: Fault) -> Error {
    let before = |kind| injected(kind, "before anything was done");
    match fault {
        Fault::Before(kind) | Fault::HalfWay(kind) | Fault::After(kind) => before(kind),
        Fault::Busy(wait) => before(ErrorKind::Transient).after(wait),
        Fault::Short | Fault::Panic => before(ErrorKind::Transient),
    }
}

/// What comes of a call that has no middle.
async fn done<T>(fault: Result<Option<Fault>>, inner: impl Future<Output = Result<T>> + Send) -> Result<T> {
    match fault? {
        None => inner.await,
        Some(Fault::After(kind)) => {
            inner.await?;
            Err(injected(kind, "after it was done"))
        }
        Some(fault) => Err(nothing_done(fault)),
    }
}

impl<S: ?Sized> Clone for Faulty<S> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            control: self.control.clone(),
            page: self.page,
            part: self.part,
        }
    }
}

impl<S: Store + ?Sized> fmt::Debug for Faulty<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").field("inner", &&*self.inner).field("calls", &self.calls()).finish()
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: Store + ?Sized> Store for Faulty<S> {
    fn show(&self, key: &str) -> String {
        self.inner.show(key)
    }

    async fn capabilities(&self) -> Result<Capabilities> {
        let capabilities =
            self.around(Operation::Capabilities, "", &OnlyIf::Always, self.inner.capabilities()).await?;
        Ok(Capabilities { max_part: capabilities.max_part.min(self.part), ..capabilities })
    }

    async fn conditions(&self) -> Result<Conditions> {
        self.around(Operation::Conditions, "", &OnlyIf::Always, self.inner.conditions()).await
    }

    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<Written> {
        let fault = self.control.call(Operation::Put, key, &options.only_if);
        if let Ok(Some(Fault::HalfWay(kind))) = fault {
            let upload = self.inner.upload(key, options).await?;
            let half = body.slice(..body.len().div_ceil(2));
            if !half.is_empty() {
                upload.part(1, half).await?;
            }
            return Err(injected(kind, "half-way").about(self.show(key)));
        }
        done(fault, self.inner.put(key, body, options)).await.map_err(|error| error.about(self.show(key)))
    }

    async fn upload(&self, key: &str, options: &PutOptions) -> Result<Box<dyn Upload>> {
        let inner = self.inner.upload(key, options);
        let inner = self.around(Operation::Upload, key, &options.only_if, inner).await?;
        let (key, shown) = (key.to_owned(), self.show(key));
        let only_if = options.only_if.clone();
        Ok(Box::new(FaultyUpload { inner, control: self.control.clone(), key, shown, only_if }))
    }

    async fn get(&self, key: &str, options: &GetOptions) -> Result<Download> {
        let fault = self.control.call(Operation::Get, key, &OnlyIf::Always);
        let shown = |error: Error| error.about(self.show(key));
        let breaks = match fault {
            Ok(Some(Fault::HalfWay(kind))) => Some(shown(injected(kind, "half-way"))),
            Ok(Some(Fault::Short)) => None,
            _ => return done(fault, self.inner.get(key, options)).await.map_err(shown),
        };
        let Download { object, body } = self.inner.get(key, options).await?;
        let end = options.range.as_ref().map_or(object.size, |range| range.end.min(object.size));
        let start = options.range.as_ref().map_or(0, |range| range.start.min(end));
        Ok(Download { object, body: half(body, (end - start) / 2, breaks)? })
    }

    async fn stat(&self, key: &str, version: Option<&VersionId>) -> Result<Object> {
        self.around(Operation::Stat, key, &OnlyIf::Always, self.inner.stat(key, version)).await
    }

    fn list(&self, options: ListOptions) -> BoxStream<'_, Result<Listed>> {
        self.paged(Operation::List, options.prefix.clone(), self.inner.list(options))
    }

    async fn delete(&self, key: &str, version: &VersionId) -> Result<()> {
        self.around(Operation::Delete, key, &OnlyIf::Always, self.inner.delete(key, version)).await
    }

    async fn hide(&self, key: &str) -> Result<VersionId> {
        self.around(Operation::Hide, key, &OnlyIf::Always, self.inner.hide(key)).await
    }

    async fn copy(
        &self,
        from: &str,
        version: Option<&VersionId>,
        to: &str,
        options: &PutOptions,
    ) -> Result<Written> {
        let inner = self.inner.copy(from, version, to, options);
        self.around(Operation::Copy, to, &options.only_if, inner).await
    }

    fn unfinished(&self, prefix: &str) -> BoxStream<'_, Result<Unfinished>> {
        self.paged(Operation::Unfinished, prefix.to_owned(), self.inner.unfinished(prefix))
    }

    async fn abort(&self, unfinished: &Unfinished) -> Result<()> {
        self.around(Operation::Abort, &unfinished.key, &OnlyIf::Always, self.inner.abort(unfinished)).await
    }

    async fn resume(&self, unfinished: &Unfinished, options: &PutOptions) -> Result<Resumed> {
        let key = &unfinished.key;
        let inner = self.inner.resume(unfinished, options);
        let Resumed { upload, parts } = self.around(Operation::Resume, key, &options.only_if, inner).await?;
        let upload = FaultyUpload {
            inner: upload,
            control: self.control.clone(),
            key: key.clone(),
            shown: self.show(key),
            only_if: options.only_if.clone(),
        };
        Ok(Resumed { upload: Box::new(upload), parts })
    }

    fn check_key(&self, key: &str) -> Result<()> {
        self.inner.check_key(key)
    }

    async fn require(&self, prefix: &str, rights: &[Right]) -> Result<()> {
        self.inner.require(prefix, rights).await
    }

    async fn facts(&self, prefix: &str) -> Result<Facts> {
        self.inner.facts(prefix).await
    }

    fn bucket(&self) -> Option<&dyn Bucket> {
        self.inner.bucket()
    }
}

/// The first `len` bytes of a body, then the error, if there is one.
fn half(body: Body, len: u64, breaks: Option<Error>) -> Result<Body> {
    let whole = match body {
        Body::Stream(chunks) => chunks,
        Body::File(file, left) => {
            let mut bytes = Vec::new();
            file.take(left.min(len))
                .read_to_end(&mut bytes)
                .map_err(|source| Error::io("cannot read", source))?;
            stream::iter([Ok(bytes.into())]).boxed()
        }
    };
    let cut = whole.scan(len, |left, chunk| {
        let chunk: Result<Bytes> = chunk.map(|mut chunk| chunk.split_to(chunk.len().min(*left as usize)));
        *left -= chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        std::future::ready(Some(chunk))
    });
    Ok(Body::Stream(cut.chain(stream::iter(breaks.map(Err))).boxed()))
}

struct FaultyUpload {
    inner: Box<dyn Upload>,
    control: Control,
    key: String,
    shown: String,
    only_if: OnlyIf,
}

impl FaultyUpload {
    async fn around<T>(
        &self,
        operation: Operation,
        inner: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let fault = self.control.call(operation, &self.key, &self.only_if);
        done(fault, inner).await.map_err(|error| error.about(&*self.shown))
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Upload for FaultyUpload {
    async fn part(&self, number: u32, body: Bytes) -> Result<()> {
        self.around(Operation::Part, self.inner.part(number, body)).await
    }

    async fn complete(&self, parts: u32) -> Result<Written> {
        self.around(Operation::Complete, self.inner.complete(parts)).await
    }

    async fn abort(&self) -> Result<()> {
        self.around(Operation::AbortUpload, self.inner.abort()).await
    }

    fn id(&self) -> Option<&str> {
        self.inner.id()
    }
}

/// A list whose pages are calls.
struct Pages<'a, T> {
    control: Control,
    operation: Operation,
    key: String,
    shown: String,
    items: BoxStream<'a, Result<T>>,
    page: usize,
    /// How many items are left of the page.
    left: usize,
    /// What comes behind them and ends the list.
    then: Option<Error>,
    ended: bool,
}

impl<T> Pages<'_, T> {
    async fn next(&mut self) -> Option<Result<T>> {
        while self.left == 0 && !self.ended && self.then.is_none() {
            self.turn();
        }
        if self.left > 0 && !self.ended {
            self.left -= 1;
            if let Some(item) = self.items.next().await {
                return Some(item);
            }
        }
        self.ended = true;
        self.then.take().map(Err)
    }

    /// Asks for another page.
    fn turn(&mut self) {
        let (left, then) = match self.control.call(self.operation, &self.key, &OnlyIf::Always) {
            Err(dead) => (0, Some(dead)),
            Ok(None | Some(Fault::Panic)) => (self.page, None),
            Ok(Some(Fault::HalfWay(kind))) => (self.page / 2, Some(injected(kind, "within a page"))),
            Ok(Some(Fault::After(kind))) => (self.page, Some(injected(kind, "after a page"))),
            Ok(Some(fault)) => (0, Some(nothing_done(fault))),
        };
        self.left = left;
        self.then = then.map(|error: Error| error.about(&*self.shown));
    }
}
