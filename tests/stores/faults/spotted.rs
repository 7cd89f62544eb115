//! A store with bad spots: keys that it cannot list, each an error in its place, and keys of which it gives the version
//! that is there, whichever was asked for.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use sidekey::store::memory::MemoryStore;
use sidekey::store::{
    Capabilities, Conditions, Download, GetOptions, ListOptions, Listed, Object, PutOptions, Store,
    Unfinished, Upload, VersionId, Written,
};
use sidekey::{Error, ErrorKind, Result};

/// Cannot list keys that end in `!`, nor uploads of them, and ignores the version of those that end in `?`.
#[derive(Debug)]
pub(crate) struct Spotted(pub(crate) Arc<MemoryStore>);

fn spot<T>(key: &str, item: T) -> Result<T> {
    match key.ends_with('!') {
        true => Err(Error::new(ErrorKind::Permission, "may not be read").about(key)),
        false => Ok(item),
    }
}

#[async_trait]
impl Store for Spotted {
    fn show(&self, key: &str) -> String {
        self.0.show(key)
    }

    async fn capabilities(&self) -> Result<Capabilities> {
        self.0.capabilities().await
    }

    async fn conditions(&self) -> Result<Conditions> {
        self.0.conditions().await
    }

    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<Written> {
        self.0.put(key, body, options).await
    }

    async fn upload(&self, key: &str, options: &PutOptions) -> Result<Box<dyn Upload>> {
        self.0.upload(key, options).await
    }

    async fn get(&self, key: &str, options: &GetOptions) -> Result<Download> {
        match key.ends_with('?') {
            true => {
                self.0
                    .get(
                        key,
                        &GetOptions { version: None, range: options.range.clone(), ..GetOptions::default() },
                    )
                    .await
            }
            false => self.0.get(key, options).await,
        }
    }

    async fn stat(&self, key: &str, version: Option<&VersionId>) -> Result<Object> {
        self.0.stat(key, version).await
    }

    fn list(&self, options: ListOptions) -> BoxStream<'_, Result<Listed>> {
        let spotted = |listed: Result<Listed>| match listed? {
            Listed::Object(object) => spot(&object.key.clone(), Listed::Object(object)),
            folder => Ok(folder),
        };
        self.0.list(options).map(spotted).boxed()
    }

    async fn delete(&self, key: &str, version: &VersionId) -> Result<()> {
        self.0.delete(key, version).await
    }

    async fn hide(&self, key: &str) -> Result<VersionId> {
        self.0.hide(key).await
    }

    async fn copy(
        &self,
        from: &str,
        version: Option<&VersionId>,
        to: &str,
        options: &PutOptions,
    ) -> Result<Written> {
        self.0.copy(from, version, to, options).await
    }

    fn unfinished(&self, prefix: &str) -> BoxStream<'_, Result<Unfinished>> {
        self.0.unfinished(prefix).map(|found| found.and_then(|found| spot(&found.key.clone(), found))).boxed()
    }

    async fn abort(&self, unfinished: &Unfinished) -> Result<()> {
        self.0.abort(unfinished).await
    }
}
