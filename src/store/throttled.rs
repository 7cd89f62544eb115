//! A store that is given no more than so many bytes a second, and asked for no more.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;

use super::layer::Layer;
use super::{Body, Download, GetOptions, PutOptions, Resumed, Store, Unfinished, Upload, Written};
use crate::{Error, Result};

/// A store whose bodies keep to a rate, all of them together. What is listed does not count.
pub struct Throttled {
    inner: Arc<dyn Store>,
    rate: Arc<Rate>,
}

impl Throttled {
    /// At most so many bytes a second, in both directions together.
    pub fn new(inner: Arc<dyn Store>, bytes_a_second: u64) -> Self {
        Self { inner, rate: Arc::new(Rate { bytes_a_second: bytes_a_second.max(1), free: Mutex::new(None) }) }
    }
}

impl fmt::Debug for Throttled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttled").field("inner", &self.inner).finish_non_exhaustive()
    }
}

struct Rate {
    bytes_a_second: u64,
    /// When all that was let through so far is paid for.
    free: Mutex<Option<Instant>>,
}

impl Rate {
    /// Waits until it is these bytes' turn.
    async fn take(&self, bytes: u64) {
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_a_second);
        let cost = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let now = Instant::now();
        let turn = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = free.map_or(now, |free| free.max(now));
            *free = turn.checked_add(cost);
            turn
        };
        tokio::time::sleep(turn.duration_since(now)).await;
    }
}

#[async_trait]
impl Layer for Throttled {
    fn below(&self) -> &dyn Store {
        self.inner.as_ref()
    }

    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<Written> {
        self.rate.take(body.len() as u64).await;
        self.inner.put(key, body, options).await
    }

    async fn upload(&self, key: &str, options: &PutOptions) -> Result<Box<dyn Upload>> {
        let inner = self.inner.upload(key, options).await?;
        Ok(Box::new(ThrottledUpload { inner, rate: Arc::clone(&self.rate) }))
    }

    async fn get(&self, key: &str, options: &GetOptions) -> Result<Download> {
        let Download { object, body } = self.inner.get(key, options).await?;
        let body = match body {
            Body::File(file, left) => {
                self.rate.take(left).await;
                Body::File(file, left)
            }
            Body::Stream(stream) => {
                let rate = Arc::clone(&self.rate);
                let slow = stream.then(move |bytes| {
                    let rate = Arc::clone(&rate);
                    async move {
                        rate.take(bytes.as_ref().map_or(0, |bytes: &Bytes| bytes.len() as u64)).await;
                        bytes
                    }
                });
                Body::Stream(slow.boxed())
            }
        };
        Ok(Download { object, body })
    }

    async fn resume(&self, unfinished: &Unfinished, options: &PutOptions) -> Result<Resumed> {
        let Resumed { upload, parts } = self.inner.resume(unfinished, options).await?;
        let upload = Box::new(ThrottledUpload { inner: upload, rate: Arc::clone(&self.rate) });
        Ok(Resumed { upload, parts })
    }
}

struct ThrottledUpload {
    inner: Box<dyn Upload>,
    rate: Arc<Rate>,
}

#[async_trait]
impl Upload for ThrottledUpload {
    async fn part(&self, number: u32, body: Bytes) -> Result<(), Error> {
        self.rate.take(body.len() as u64).await;
        self.inner.part(number, body).await
    }

    async fn complete(&self, parts: u32) -> Result<Written> {
        self.inner.complete(parts).await
    }

    async fn abort(&self) -> Result<()> {
        self.inner.abort().await
    }

    fn id(&self) -> Option<&str> {
        self.inner.id()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::{Features, MemoryStore};

    #[test]
    fn all_bodies_together_keep_to_the_rate() {
        let memory = MemoryStore::new(Features { versions: false, conditions: true });
        let store: &dyn Store = &Throttled::new(Arc::new(memory), 100_000);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let began = Instant::now();
        runtime.block_on(async {
            for name in ["a", "b"] {
                store.put(name, vec![0; 10_000].into(), &PutOptions::default()).await.unwrap();
            }
            store.get("a", &GetOptions::default()).await.unwrap();
            store.put("c", Bytes::new(), &PutOptions::default()).await.unwrap();
        });
        // The first goes at once, and what comes after it waits until it is paid for.
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(190), "{took:?}");
    }
}
