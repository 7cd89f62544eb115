//! A store with bad spots: keys that it cannot list, each an error in its place, and keys of which it gives the version
//! that is there, whichever was asked for.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use sidekey::store::layer::Layer;
use sidekey::store::memory::MemoryStore;
use sidekey::store::{Download, GetOptions, ListOptions, Listed, Store, Unfinished};
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
impl Layer for Spotted {
    fn below(&self) -> &dyn Store {
        self.0.as_ref()
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

    fn list(&self, options: ListOptions) -> BoxStream<'_, Result<Listed>> {
        let spotted = |listed: Result<Listed>| match listed? {
            Listed::Object(object) => spot(&object.key.clone(), Listed::Object(object)),
            folder => Ok(folder),
        };
        self.0.list(options).map(spotted).boxed()
    }

    fn unfinished(&self, prefix: &str) -> BoxStream<'_, Result<Unfinished>> {
        self.0.unfinished(prefix).map(|found| found.and_then(|found| spot(&found.key.clone(), found))).boxed()
    }
}
