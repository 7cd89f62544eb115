//! Stores: opaque bytes under names, in a folder of this machine, in memory, and with a service.
//!
//! A [`Store`] knows nothing of containers, envelopes or keys. What it can do is asked ([`Store::capabilities`]), not
//! guessed. Its errors say what the caller does next ([`ErrorKind`]): `NotFound`, `Conflict` (a
//! condition did not hold, nothing was changed), `Permission`, `Transient` (nothing was changed, the same again may
//! work), `Unsure` (no answer: it may have been done, or may still be), `Integrity` (what arrived is not what was sent)
//! and `Refused` (never, however often).
//!
//! Futures of a store may block the thread that polls them, as those of a local folder do: operations poll them on
//! threads of their own.

#[cfg(feature = "b2")]
pub mod b2;
pub mod encryption;
pub mod facts;
pub mod faulty;
pub mod layer;
pub mod local;
pub mod memory;
pub mod retry;
#[cfg(feature = "s3")]
pub mod s3;
pub mod throttled;
pub mod traced;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

pub use self::encryption::{CustomerKey, DefaultEncryption, Encryption};
use self::facts::Facts;

use crate::{Error, ErrorKind, Result};

/// Names one version of an object in its store. Where there are no versions it stands for what was there when it was
/// read: another write gives another one.
pub type VersionId = String;

/// What a store keeps beside an object: few and short pairs of text.
pub type Info = BTreeMap<String, String>;

/// Under this name an object's [`Info`] holds the data id of a container, 32 hex digits: a hint, never believed unseen.
pub const DATA_ID_INFO: &str = "sidekey-id";

/// A place that keeps bytes under keys. Keys are UTF-8, `/` between segments, without a `/` at either end.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// How people write `key` in this store (`b2://bucket/key`), for messages.
    fn show(&self, key: &str) -> String;

    /// What the store can do. It may be asked of the service, and is remembered. Nothing is written for it.
    async fn capabilities(&self) -> Result<Capabilities>;

    /// Which conditions on changes the store honours; remembered too. Services do not say, so that a small object may be
    /// written and removed again to find out: only whoever is about to change something asks.
    async fn conditions(&self) -> Result<Conditions>;

    /// Writes a whole object. What is said to be written survives a power cut, and is what was sent: the store checked it,
    /// or it was read back.
    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<Written>;

    /// Begins to write an object of any length in parts.
    async fn upload(&self, key: &str, options: &PutOptions) -> Result<Box<dyn Upload>>;

    /// Reads an object, or a range of it.
    async fn get(&self, key: &str, options: &GetOptions) -> Result<Download>;

    /// What a `get` would find, without the bytes, and without the customer's key that it may need. A delete marker, hidden file or nothing at all is `NotFound`.
    async fn stat(&self, key: &str, version: Option<&VersionId>) -> Result<Object>;

    /// Lists keys in the order of their bytes, and of one key the newest version first, a page at a time. What cannot be
    /// read is an error in its place, and the list goes on where it can.
    fn list(&self, options: ListOptions) -> BoxStream<'_, Result<Listed>>;

    /// Deletes one version for ever. Where [`Conditions::delete_if`] is false and there are no versions, it deletes what
    /// is there, whatever that is by then. A version that is gone already is no error.
    async fn delete(&self, key: &str, version: &VersionId) -> Result<()>;

    /// Hides an object behind a delete marker; `Refused` where there are no versions.
    async fn hide(&self, key: &str) -> Result<VersionId>;

    /// Copies the bytes of one version, or of the current one, within the store; info and condition are those of
    /// `options`.
    async fn copy(
        &self,
        from: &str,
        version: Option<&VersionId>,
        to: &str,
        options: &PutOptions,
    ) -> Result<Written>;

    /// Uploads that were begun under `prefix` and neither completed nor aborted, from any host.
    fn unfinished(&self, prefix: &str) -> BoxStream<'_, Result<Unfinished>>;

    /// Throws away an unfinished upload. One that is gone already is no error.
    async fn abort(&self, unfinished: &Unfinished) -> Result<()>;

    /// Goes on with an unfinished upload, begun with the same `options` by this or another process. `NotFound` when it was
    /// completed or aborted; `Refused` where the store cannot go on with any.
    async fn resume(&self, unfinished: &Unfinished, options: &PutOptions) -> Result<Resumed> {
        let _ = options;
        let error = Error::new(ErrorKind::Refused, "cannot go on with an upload of another run");
        Err(error.about(self.show(&unfinished.key)))
    }

    /// Whether an object can have this key: `Input` when the store has no room for it or forbids it. It asks nobody.
    fn check_key(&self, key: &str) -> Result<()> {
        let _ = key;
        Ok(())
    }

    /// Whether the credentials at hand may do this to what is below `prefix`, as far as the store tells without trying:
    /// `Permission`, naming what is missing.
    async fn require(&self, prefix: &str, rights: &[Right]) -> Result<()> {
        let _ = (prefix, rights);
        Ok(())
    }

    /// What it tells of itself and its settings, as far as they concern what is below `prefix`. Nothing is written.
    async fn facts(&self, prefix: &str) -> Result<Facts> {
        let _ = prefix;
        Ok(Facts::default())
    }

    /// The bucket that it is in, where it is in one.
    fn bucket(&self) -> Option<&dyn Bucket> {
        None
    }
}

/// What a command does to objects, for credentials that may not do everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// Lists names and versions.
    List,
    /// Reads bytes.
    Read,
    /// Writes and hides objects.
    Write,
    /// Deletes versions.
    Delete,
}

/// The settings of a bucket.
#[async_trait]
pub trait Bucket: Send + Sync {
    /// What becomes of objects that come without a wish.
    async fn default_encryption(&self) -> Result<DefaultEncryption>;

    /// Changes it. `Refused` where the service has no such thing, or does not let it be switched off.
    async fn set_default_encryption(&self, encryption: Option<&Encryption>) -> Result<()>;
}

/// An object on its way, in parts that are numbered from 1. All parts but the last have one length, between
/// [`Capabilities::min_part`] and [`Capabilities::max_part`]. Dropped, it stays unfinished until it is aborted.
#[async_trait]
pub trait Upload: Send + Sync {
    /// Sends a part. The same part may be sent again, with the same bytes. Where [`Capabilities::parallel_parts`] is
    /// false, parts come in their order, one at a time.
    async fn part(&self, number: u32, body: Bytes) -> Result<()>;

    /// Gives the object its name, with parts `1..=parts`; conditions are held to now. Where there are versions, it may stand
    /// behind those that were written since the upload began. After `Unsure` it may be asked
    /// again: when it was done, the answer is that of the first time, whatever has happened to the object since.
    async fn complete(&self, parts: u32) -> Result<Written>;

    /// Throws the parts away. An upload that was completed or aborted before is no error, and left as it is.
    async fn abort(&self) -> Result<()>;

    /// The store's name for it, as in [`Unfinished::id`]; nothing where it cannot be gone on with by another process.
    fn id(&self) -> Option<&str> {
        None
    }
}

/// An unfinished upload that is gone on with.
pub struct Resumed {
    /// The upload.
    pub upload: Box<dyn Upload>,
    /// The parts that the store has, in their order. Any may be sent again.
    pub parts: Vec<Part>,
}

impl fmt::Debug for Resumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resumed").field("parts", &self.parts).finish_non_exhaustive()
    }
}

/// A part that a store has of an unfinished upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// From 1.
    pub number: u32,
    /// Its length in bytes.
    pub size: u64,
    /// The SHA-1 of its bytes, lower-case hex, where the store tells.
    pub sha1: Option<String>,
}

/// What a store can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether a write keeps what it replaces as an older version.
    pub versions: bool,
    /// Whether objects keep [`Info`].
    pub info: bool,
    /// Whether listings return it.
    pub info_in_list: bool,
    /// Whether [`PutOptions::encryption`] may ask for a key of the customer's.
    pub customer_keys: bool,
    /// Whether parts of an upload may be sent at the same time.
    pub parallel_parts: bool,
    /// The smallest part but the last, in bytes.
    pub min_part: u64,
    /// The largest part, and the largest object that `put` takes, in bytes.
    pub max_part: u64,
    /// The most parts.
    pub max_parts: u32,
    /// How many requests at a time make sense.
    pub concurrency: usize,
    /// Whether every call is a request to a service, with its time and its price: one that can be spared is.
    pub remote: bool,
}

/// Which conditions on changes a store honours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Whether [`OnlyIf::Absent`] is honoured.
    pub create_new: bool,
    /// Whether [`OnlyIf::Version`] is honoured.
    pub replace_if: bool,
    /// Whether `delete` without versions deletes only what has the version id.
    pub delete_if: bool,
}

/// When a write is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnlyIf {
    /// In any case.
    #[default]
    Always,
    /// If nothing has the name. Where the store cannot tell ([`Conditions::create_new`]), in any case.
    Absent,
    /// If the current version is this one. Where the store cannot tell ([`Conditions::replace_if`]), in any case.
    Version(VersionId),
}

/// How to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// When.
    pub only_if: OnlyIf,
    /// What to keep beside the bytes.
    pub info: Info,
    /// The length in bytes, where it is known before: parts are chosen by it.
    pub size: Option<u64>,
    /// How the service is to encrypt it; its own default where there is nothing here.
    pub encryption: Option<Encryption>,
    /// The key of what is copied, where one of the customer's encrypted it ([`Store::copy`]).
    pub source_key: Option<CustomerKey>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The version that it became.
    pub version: VersionId,
}

/// How to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GetOptions {
    /// Which version; the current one where there is nothing here.
    pub version: Option<VersionId>,
    /// Which bytes; all where there is nothing here. A range that passes the end is cut there; one that begins there or
    /// behind gives no bytes.
    pub range: Option<Range<u64>>,
    /// The key that encrypted it, where that is one of the customer's.
    pub customer_key: Option<CustomerKey>,
}

/// An object being read.
#[derive(Debug)]
pub struct Download {
    /// What is being read; its size is that of the whole object.
    pub object: Object,
    /// The bytes.
    pub body: Body,
}

/// The bytes of an object, or of a range.
pub enum Body {
    /// As they come.
    Stream(BoxStream<'static, Result<Bytes>>),
    /// In a file of this machine, open at the first of them; so many are left.
    File(std::fs::File, u64),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(_) => f.write_str("Stream"),
            Self::File(_, left) => write!(f, "File({left})"),
        }
    }
}

/// One version of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Object {
    /// Its key.
    pub key: String,
    /// Which version.
    pub version: VersionId,
    /// Whether it is the newest of its key.
    pub latest: bool,
    /// Whether it is a delete marker or hidden file, which has no bytes.
    pub marker: bool,
    /// Its length in bytes.
    pub size: u64,
    /// When it was written, by the store's clock.
    pub modified: SystemTime,
    /// What is kept beside it, where the request returned it.
    pub info: Option<Info>,
}

/// What to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// Only keys that begin with it: plain text, not a folder unless it ends in `/`.
    pub prefix: String,
    /// Whether keys that hold a `/` behind the prefix are listed as that folder alone.
    pub delimiter: bool,
    /// Whether older versions and delete markers are listed too.
    pub versions: bool,
    /// Only keys greater than this one, which need not be there. Behind the name of a folder that is listed for what is
    /// in it, that folder may come again.
    pub after: Option<String>,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// A version of an object.
    Object(Object),
    /// A folder, with the `/` at its end, when keys are listed up to a delimiter.
    Folder(String),
}

/// An upload that was begun and not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// The key that the object would get.
    pub key: String,
    /// The store's name for it.
    pub id: String,
    /// When it was begun.
    pub started: SystemTime,
}
