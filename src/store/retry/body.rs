//! Downloads that go on where they broke.

use std::fmt;
use std::fs::File;
use std::io::Read as _;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};

use super::{Retry, Tries};
use crate::store::{Body, CustomerKey, Download, GetOptions, Object, Store};
use crate::{Error, ErrorKind, Result};

const CHUNK: usize = 256 * 1024;

type Chunks = BoxStream<'static, Result<Bytes>>;

impl<S: Store + ?Sized + 'static> Retry<S> {
    /// The same download, which is begun again at the byte where it breaks. A file is read by who gets it.
    pub(super) fn resuming(&self, download: Download, options: &GetOptions) -> Download {
        let Download { object, body } = download;
        let chunks = match body {
            Body::File(..) => return Download { object, body },
            Body::Stream(chunks) => chunks,
        };
        let end = options.range.as_ref().map_or(object.size, |range| range.end.min(object.size));
        let at = options.range.as_ref().map_or(0, |range| range.start.min(end));
        let tries = self.stream("reading", &object.key);
        let resuming = Resuming {
            retry: self.clone(),
            object: object.clone(),
            customer_key: options.customer_key.clone(),
            at,
            end,
            chunks: Some(chunks),
            tries,
            ended: false,
        };
        let chunks = stream::unfold(resuming, |mut resuming| async {
            resuming.next().await.map(|chunk| (chunk, resuming))
        });
        Download { object, body: Body::Stream(chunks.boxed()) }
    }
}

struct Resuming<S: ?Sized> {
    retry: Retry<S>,
    object: Object,
    customer_key: Option<CustomerKey>,
    /// The next byte.
    at: u64,
    /// Behind the last one.
    end: u64,
    /// Nothing after a break.
    chunks: Option<Chunks>,
    tries: Tries,
    ended: bool,
}

impl<S: Store + ?Sized + 'static> Resuming<S> {
    async fn next(&mut self) -> Option<Result<Bytes>> {
        while !self.ended {
            match self.chunk().await {
                Ok(Some(chunk)) => {
                    self.at += chunk.len() as u64;
                    self.tries.progress();
                    return Some(Ok(chunk));
                }
                Ok(None) => self.ended = true,
                // Every byte is here: what failed is the farewell.
                Err(error) if self.at == self.end && is_passing(&error) => self.ended = true,
                Err(error) => {
                    if let Err(error) = self.tries.failed(error, true).await {
                        self.ended = true;
                        return Some(Err(error));
                    }
                }
            }
        }
        None
    }

    /// The next bytes; nothing behind the last of them.
    async fn chunk(&mut self) -> Result<Option<Bytes>> {
        let mut chunks = match self.chunks.take() {
            Some(chunks) => chunks,
            None => self.reopened().await?,
        };
        let chunk = chunks.next().await.transpose()?;
        let left = self.end - self.at;
        match chunk {
            Some(chunk) if chunk.len() as u64 > left => {
                Err(Error::integrity(format!("more than the {} bytes of it came", self.object.size)))
            }
            None if left > 0 => Err(ended_early(self.at, self.end)),
            chunk => {
                self.chunks = Some(chunks);
                Ok(chunk)
            }
        }
    }

    /// What is left of the same version.
    async fn reopened(&mut self) -> Result<Chunks> {
        let Object { key, version, size, .. } = &self.object;
        let options = GetOptions {
            version: Some(version.clone()),
            range: Some(self.at..self.end),
            customer_key: self.customer_key.clone(),
        };
        let replaced = || Error::conflict("was replaced or deleted while it was read").hint("read it again");
        match self.retry.inner.get(key, &options).await {
            Ok(download) if download.object.version != *version || download.object.size != *size => {
                Err(replaced())
            }
            Ok(Download { body: Body::Stream(chunks), .. }) => Ok(chunks),
            Ok(Download { body: Body::File(file, left), .. }) => Ok(file_chunks(file, left)),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(replaced().because(error)),
            Err(error) => Err(error),
        }
    }
}

fn is_passing(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Transient | ErrorKind::Unsure)
}

/// Whether a body that is to be as long as `expected` is these bytes.
pub(super) async fn equals(body: Body, expected: &[u8]) -> Result<bool> {
    let mut chunks = match body {
        Body::Stream(chunks) => chunks,
        Body::File(file, left) => file_chunks(file, left),
    };
    let mut left = expected;
    while let Some(chunk) = chunks.next().await.transpose()? {
        match left.strip_prefix(&*chunk) {
            Some(rest) => left = rest,
            None => return Ok(false),
        }
    }
    match left {
        [] => Ok(true),
        _ => Err(ended_early(expected.len() - left.len(), expected.len())),
    }
}

fn ended_early(at: impl fmt::Display, end: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Transient, format!("the bytes ended at {at}, where {end} were to come"))
}

fn file_chunks(file: File, left: u64) -> Chunks {
    stream::unfold(file.take(left), |mut file| async {
        let mut chunk = vec![0; CHUNK];
        match file.read(&mut chunk) {
            Ok(0) => None,
            Ok(len) => {
                chunk.truncate(len);
                Some((Ok(chunk.into()), file))
            }
            Err(source) => Some((Err(Error::io("cannot read", source)), file)),
        }
    })
    .boxed()
}
