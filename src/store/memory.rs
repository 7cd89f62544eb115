//! A store in memory: the reference that has everything a store can have, each feature on or off, and a clock of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use sha1::{Digest as _, Sha1};

use super::facts::{Facts, Told, Versions};
use super::{
    Body, Capabilities, Conditions, CustomerKey, Download, Encryption, GetOptions, Info, ListOptions, Listed,
    Object, OnlyIf, Part, PutOptions, Resumed, Store, Unfinished, Upload, VersionId, Written,
};
use crate::{Error, ErrorKind, Result, hex};

/// Which features a [`MemoryStore`] has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Features {
    /// Whether a write keeps what it replaces.
    pub versions: bool,
    /// Whether conditions on writes and deletes are honoured; without, they are ignored in silence, as some services do.
    pub conditions: bool,
}

/// A store in memory. Clones share their contents.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

/// What a [`MemoryStore`] holds: a plain value, so that a test can keep, compare and explore it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    features: Features,
    /// Of each key its versions, oldest first.
    objects: BTreeMap<String, Vec<Kept>>,
    /// Of each key how often it was written: a version's id, so that writes of two keys come to the same in any order.
    writes: BTreeMap<String, u64>,
    uploads: BTreeMap<u64, Started>,
    counter: u64,
    clock: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kept {
    version: u64,
    modified: Duration,
    info: Info,
    /// What was asked for; the bytes are kept as they came.
    encryption: Option<Encryption>,
    /// Nothing in a delete marker.
    body: Option<Bytes>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Started {
    key: String,
    at: Duration,
    options: (OnlyIf, Info, Option<Encryption>),
    parts: BTreeMap<u32, Bytes>,
}

impl State {
    /// An empty store.
    pub fn new(features: Features) -> Self {
        Self {
            features,
            objects: BTreeMap::new(),
            writes: BTreeMap::new(),
            uploads: BTreeMap::new(),
            counter: 0,
            clock: Duration::from_secs(1_700_000_000),
        }
    }

    /// [`Store::put`], with no wish about encryption.
    pub fn put(&mut self, key: &str, body: Bytes, only_if: &OnlyIf, info: &Info) -> Result<VersionId> {
        self.put_encrypted(key, body, only_if, info, None)
    }

    fn put_encrypted(
        &mut self,
        key: &str,
        body: Bytes,
        only_if: &OnlyIf,
        info: &Info,
        encryption: Option<&Encryption>,
    ) -> Result<VersionId> {
        let current = self.current(key).map(|kept| kept.version.to_string());
        let holds = match only_if {
            OnlyIf::Always => true,
            OnlyIf::Absent => current.is_none(),
            OnlyIf::Version(version) => current.as_ref() == Some(version),
        };
        if self.features.conditions && !holds {
            return Err(Error::conflict(match only_if {
                OnlyIf::Absent => "exists already",
                _ => "changed in the meantime",
            })
            .about(key));
        }
        Ok(self.keep(key, Some(body), info.clone(), encryption.cloned()))
    }

    /// All bytes of a version, whoever may read them.
    pub fn get(&self, key: &str, version: Option<&VersionId>) -> Result<(Object, Bytes)> {
        let (kept, latest) = self.find(key, version)?;
        Ok((self.object(key, kept, latest), kept.body.clone().unwrap_or_default()))
    }

    /// How a version was asked to be encrypted.
    pub fn encryption(&self, key: &str, version: Option<&VersionId>) -> Result<Option<Encryption>> {
        Ok(self.find(key, version)?.0.encryption.clone())
    }

    /// [`Store::get`] of all bytes.
    fn read(
        &self,
        key: &str,
        version: Option<&VersionId>,
        customer_key: Option<&CustomerKey>,
    ) -> Result<(Object, Bytes)> {
        let refused = match (&self.find(key, version)?.0.encryption, customer_key) {
            (Some(Encryption::Customer(right)), Some(given)) if right == given => None,
            (Some(Encryption::Customer(_)), Some(_)) => {
                Some(Error::auth("is encrypted with a key of the customer's, which is another one"))
            }
            (Some(Encryption::Customer(_)), None) => {
                Some(Error::auth("is encrypted with a key of the customer's, and none was given"))
            }
            (_, Some(_)) => Some(Error::input("is not encrypted with a key of the customer's")),
            (_, None) => None,
        };
        refused.map_or_else(|| self.get(key, version), |refused| Err(refused.about(key)))
    }

    fn find(&self, key: &str, version: Option<&VersionId>) -> Result<(&Kept, bool)> {
        let versions = self.objects.get(key).map_or(&[][..], Vec::as_slice);
        let found = match version {
            None => versions.last(),
            Some(version) => versions.iter().find(|kept| kept.version.to_string() == *version),
        };
        let kept = found.filter(|kept| kept.body.is_some());
        let kept = kept.ok_or_else(|| Error::not_found("there is nothing under that name").about(key))?;
        Ok((kept, versions.last() == Some(kept)))
    }

    /// [`Store::list`], all at once.
    pub fn list(&self, options: &ListOptions) -> Vec<Listed> {
        let mut listed: Vec<Listed> = Vec::new();
        for (key, versions) in self.objects.range(options.prefix.clone()..) {
            let Some(below) = key.strip_prefix(&options.prefix) else { break };
            if options.after.as_ref().is_some_and(|after| key <= after) {
                continue;
            }
            if let Some(at) = below.find('/').filter(|_| options.delimiter) {
                let folder = Listed::Folder(key[..options.prefix.len() + at + 1].to_owned());
                let seen = listed.last() == Some(&folder);
                if !seen && (options.versions || versions.last().is_some_and(|kept| kept.body.is_some())) {
                    listed.push(folder);
                }
                continue;
            }
            for (age, kept) in versions.iter().rev().enumerate() {
                if options.versions || (age == 0 && kept.body.is_some()) {
                    listed.push(Listed::Object(self.object(key, kept, age == 0)));
                }
            }
        }
        listed
    }

    /// [`Store::delete`].
    pub fn delete(&mut self, key: &str, version: &VersionId) {
        let unconditional = !self.features.versions && !self.features.conditions;
        if let Some(versions) = self.objects.get_mut(key) {
            versions.retain(|kept| !unconditional && kept.version.to_string() != *version);
            if versions.is_empty() {
                self.objects.remove(key);
            }
        }
    }

    /// [`Store::hide`].
    pub fn hide(&mut self, key: &str) -> Result<VersionId> {
        match self.features.versions {
            true => Ok(self.keep(key, None, Info::new(), None)),
            false => {
                Err(Error::new(ErrorKind::Refused, "keeps no versions, so nothing can be hidden").about(key))
            }
        }
    }

    /// Lets time pass.
    pub fn advance(&mut self, by: Duration) {
        self.clock += by;
    }

    fn current(&self, key: &str) -> Option<&Kept> {
        self.objects.get(key)?.last().filter(|kept| kept.body.is_some())
    }

    fn keep(
        &mut self,
        key: &str,
        body: Option<Bytes>,
        info: Info,
        encryption: Option<Encryption>,
    ) -> VersionId {
        let version = self.writes.entry(key.to_owned()).or_default();
        *version += 1;
        let version = *version;
        let kept = Kept { version, modified: self.clock, info, encryption, body };
        let versions = self.objects.entry(key.to_owned()).or_default();
        if !self.features.versions {
            versions.clear();
        }
        versions.push(kept);
        version.to_string()
    }

    fn object(&self, key: &str, kept: &Kept, latest: bool) -> Object {
        Object {
            key: key.to_owned(),
            version: kept.version.to_string(),
            latest,
            marker: kept.body.is_none(),
            size: kept.body.as_ref().map_or(0, |body| body.len() as u64),
            modified: SystemTime::UNIX_EPOCH + kept.modified,
            info: Some(kept.info.clone()),
        }
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new(features: Features) -> Self {
        Self::from_state(State::new(features))
    }

    /// A store that holds this.
    pub fn from_state(state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// What it holds now. Nothing panics while it holds this lock, so a poisoned one is as good as any.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn show(&self, key: &str) -> String {
        format!("memory:{key}")
    }

    async fn capabilities(&self) -> Result<Capabilities> {
        let versions = self.state().features.versions;
        Ok(Capabilities {
            versions,
            info: true,
            info_in_list: true,
            customer_keys: true,
            parallel_parts: true,
            min_part: 1,
            max_part: 1 << 30,
            max_parts: 10_000,
            concurrency: 16,
            remote: true,
        })
    }

    async fn conditions(&self) -> Result<Conditions> {
        let honoured = self.state().features.conditions;
        Ok(Conditions { create_new: honoured, replace_if: honoured, delete_if: honoured })
    }

    async fn facts(&self, prefix: &str) -> Result<Facts> {
        let _ = prefix;
        let state = self.state();
        let versions = if state.features.versions { Versions::On } else { Versions::Off };
        let clock = SystemTime::UNIX_EPOCH.checked_add(state.clock);
        Ok(Facts { versions: Told::Is(versions), clock, ..Facts::default() })
    }

    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<Written> {
        let PutOptions { only_if, info, encryption, .. } = options;
        let version = self.state().put_encrypted(key, body, only_if, info, encryption.as_ref())?;
        Ok(Written { version })
    }

    async fn upload(&self, key: &str, options: &PutOptions) -> Result<Box<dyn Upload>> {
        let mut state = self.state();
        state.counter += 1;
        let id = state.counter;
        let started = Started {
            key: key.to_owned(),
            at: state.clock,
            options: (options.only_if.clone(), options.info.clone(), options.encryption.clone()),
            parts: BTreeMap::new(),
        };
        state.uploads.insert(id, started);
        Ok(Box::new(MemoryUpload::new(self.clone(), id)))
    }

    async fn get(&self, key: &str, options: &GetOptions) -> Result<Download> {
        let (version, customer_key) = (options.version.as_ref(), options.customer_key.as_ref());
        let (object, body) = self.state().read(key, version, customer_key)?;
        let range = options.range.clone().unwrap_or(0..object.size);
        let (start, end) = (range.start.min(object.size), range.end.min(object.size));
        let body = body.slice(start as usize..end.max(start) as usize);
        Ok(Download { object, body: Body::Stream(stream::iter([Ok(body)]).boxed()) })
    }

    async fn stat(&self, key: &str, version: Option<&VersionId>) -> Result<Object> {
        Ok(self.state().get(key, version)?.0)
    }

    fn list(&self, options: ListOptions) -> BoxStream<'_, Result<Listed>> {
        let listed = self.state().list(&options);
        stream::iter(listed).map(Ok).boxed()
    }

    async fn delete(&self, key: &str, version: &VersionId) -> Result<()> {
        self.state().delete(key, version);
        Ok(())
    }

    async fn hide(&self, key: &str) -> Result<VersionId> {
        self.state().hide(key)
    }

    async fn copy(
        &self,
        from: &str,
        version: Option<&VersionId>,
        to: &str,
        options: &PutOptions,
    ) -> Result<Written> {
        let mut state = self.state();
        let (_, body) = state.read(from, version, options.source_key.as_ref())?;
        let PutOptions { only_if, info, encryption, .. } = options;
        let version = state.put_encrypted(to, body, only_if, info, encryption.as_ref())?;
        Ok(Written { version })
    }

    fn unfinished(&self, prefix: &str) -> BoxStream<'_, Result<Unfinished>> {
        let state = self.state();
        let uploads = state.uploads.iter().filter(|(_, started)| started.key.starts_with(prefix));
        let unfinished: Vec<_> = uploads
            .map(|(id, started)| Unfinished {
                key: started.key.clone(),
                id: id.to_string(),
                started: SystemTime::UNIX_EPOCH + started.at,
            })
            .collect();
        stream::iter(unfinished).map(Ok).boxed()
    }

    async fn abort(&self, unfinished: &Unfinished) -> Result<()> {
        self.state().uploads.retain(|id, _| id.to_string() != unfinished.id);
        Ok(())
    }

    async fn resume(&self, unfinished: &Unfinished, _: &PutOptions) -> Result<Resumed> {
        let state = self.state();
        let found = state.uploads.iter().find(|(id, _)| id.to_string() == unfinished.id);
        let gone = || Error::not_found("the upload was completed or aborted").about(&*unfinished.key);
        let (id, started) = found.ok_or_else(gone)?;
        let part = |(number, body): (&u32, &Bytes)| Part {
            number: *number,
            size: body.len() as u64,
            sha1: Some(hex(&Sha1::digest(body))),
        };
        let parts = started.parts.iter().map(part).collect();
        Ok(Resumed { upload: Box::new(MemoryUpload::new(self.clone(), *id)), parts })
    }
}

struct MemoryUpload {
    store: MemoryStore,
    id: u64,
    name: String,
    /// What `complete` answered, for when it is asked again.
    completed: OnceLock<Written>,
}

impl MemoryUpload {
    fn new(store: MemoryStore, id: u64) -> Self {
        Self { store, id, name: id.to_string(), completed: OnceLock::new() }
    }

    fn gone(&self) -> Error {
        Error::not_found("the upload was completed or aborted")
    }
}

#[async_trait]
impl Upload for MemoryUpload {
    async fn part(&self, number: u32, body: Bytes) -> Result<()> {
        let mut state = self.store.state();
        let started = state.uploads.get_mut(&self.id).ok_or_else(|| self.gone())?;
        started.parts.insert(number, body);
        Ok(())
    }

    async fn complete(&self, parts: u32) -> Result<Written> {
        let mut state = self.store.state();
        if let Some(written) = self.completed.get() {
            return Ok(written.clone());
        }
        let started = state.uploads.get(&self.id).ok_or_else(|| self.gone())?.clone();
        let bodies: Option<Vec<&Bytes>> = (1..=parts).map(|number| started.parts.get(&number)).collect();
        let bodies = bodies.filter(|bodies| bodies.len() == started.parts.len());
        let bodies = bodies
            .ok_or_else(|| Error::input("the parts are not those that were sent").about(&*started.key))?;
        let body: Vec<u8> = bodies.into_iter().flatten().copied().collect();
        let (only_if, info, encryption) = &started.options;
        let version = state.put_encrypted(&started.key, body.into(), only_if, info, encryption.as_ref())?;
        state.uploads.remove(&self.id);
        Ok(self.completed.get_or_init(|| Written { version }).clone())
    }

    async fn abort(&self) -> Result<()> {
        self.store.state().uploads.remove(&self.id);
        Ok(())
    }

    fn id(&self) -> Option<&str> {
        Some(&self.name)
    }
}
