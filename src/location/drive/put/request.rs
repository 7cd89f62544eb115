//! What is to be stored, and how that ended.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::pair::IfExists;
use crate::store::{CustomerKey, Encryption, Unfinished, VersionId, Written};
use crate::{DataId, Result};

/// A pair to store.
#[derive(Debug)]
pub struct PutRequest<'a> {
    /// The stored name of the container, relative to the location.
    pub stored: &'a str,
    /// The container's data id.
    pub data_id: DataId,
    /// The text of its envelope.
    pub envelope: Bytes,
    /// The container.
    pub content: Content<'a>,
    /// How the service is asked to encrypt the envelope.
    pub envelope_encryption: Option<Encryption>,
    /// How it is asked to encrypt the container. Its own key must not be the only way to the envelope.
    pub container_encryption: Option<Encryption>,
    /// What becomes of a container that has the name already.
    pub if_exists: IfExists,
    /// Where the upload of parts is remembered, so that another run can go on with it.
    pub memory: Option<&'a dyn UploadMemory>,
}

/// Remembers an upload on this machine.
pub trait UploadMemory: fmt::Debug + Send + Sync {
    /// What an earlier run began: with the same file key, the same parts, and an envelope that is there.
    fn begun(&self) -> Option<Begun>;

    /// An upload has begun. It is sent only when this is kept.
    ///
    /// # Errors
    /// What keeping it fails with.
    fn begin(&self, upload: &Unfinished, part_len: u64) -> Result<()>;
}

/// An upload that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The store's name for it.
    pub upload: Unfinished,
    /// The length of its parts but the last, in bytes.
    pub part_len: u64,
    /// How long ago its envelope was about to be written.
    pub age: Duration,
}

/// The bytes of a container.
pub enum Content<'a> {
    /// All of them.
    Whole(Bytes),
    /// As they are made.
    Parts {
        /// How many there are in all, where it is known.
        size: Option<u64>,
        /// Makes them.
        source: &'a mut dyn PartSource,
    },
    /// Those of a container that is there under another name.
    Copy(Copied),
}

/// A container that is copied within its store.
#[derive(Clone, Debug)]
pub struct Copied {
    /// Its key.
    pub key: String,
    /// Which version.
    pub version: VersionId,
    /// Its first bytes: its header.
    pub head: Bytes,
    /// Its length in bytes.
    pub size: u64,
    /// The key under which the service keeps it, where it has one of its own.
    pub source_key: Option<CustomerKey>,
}

impl fmt::Debug for Content<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(bytes) => write!(f, "Whole({})", bytes.len()),
            Self::Parts { size, .. } => write!(f, "Parts({size:?})"),
            Self::Copy(copied) => write!(f, "Copy({copied:?})"),
        }
    }
}

/// Makes a container in parts, each once.
#[async_trait]
pub trait PartSource: Send {
    /// The next part: exactly `len` bytes, but for the last; nothing at the end.
    ///
    /// # Errors
    /// Whatever ends the upload: the container then never gets its name.
    async fn next(&mut self, len: usize) -> Result<Option<Bytes>>;
}

/// How a put ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// The pair is there, and durable.
    Stored(Written),
    /// A container has the name already, and was to stay.
    Exists,
}
