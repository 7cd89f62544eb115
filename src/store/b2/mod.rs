//! Backblaze B2, by its native API.
//!
//! A version is a file of the service, its id the file's id; a delete marker is a hide marker. The service has no
//! conditions on writes and keeps what a write replaces. Which calls each operation makes, what rights they need and how
//! faults are sorted stands in docs/design.md, "Backblaze B2".
//!
//! Every upload and part goes with its SHA-1, which the service compares before it answers. Of a large file it knows no
//! SHA-1 of the whole: that could only be sent when the upload begins, before all bytes are known. The tags of a
//! container are what tells whether its bytes are right.
//!
//! When an upload gets no answer, the versions of its name are looked at before it is sent again; a large file is known
//! by its id. Proxies are those of the environment (`HTTPS_PROXY`, `NO_PROXY`), except to this machine itself.

mod bucket;
mod copy;
mod date;
mod examine;
mod failure;
mod get;
mod http;
mod large;
mod list;
mod look;
mod put;
mod rights;
mod session;
mod sse;
mod text;
mod urls;
mod wire;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use serde_json::json;

use self::failure::Failure;
use self::large::LargeUpload;
use self::put::Puts;
use self::session::Session;
use self::wire::{Action, DELETE_FILE_VERSION, File, HIDE_FILE, Nothing};
use super::facts::Facts;
use super::{
    Bucket, Capabilities, Conditions, Download, GetOptions, ListOptions, Listed, Object, PutOptions, Resumed,
    Right, Store, Unfinished, Upload, VersionId, Written,
};
use crate::secret::SecretBytes;
use crate::{Error, ErrorKind, Result};

/// How to reach a bucket.
#[derive(Debug)]
pub struct Settings {
    /// The bucket's name.
    pub bucket: String,
    /// The id of the application key.
    pub key_id: String,
    /// The application key.
    pub key: SecretBytes,
    /// The address of another realm than Backblaze's.
    pub endpoint: Option<String>,
    /// How many requests are under way at the most.
    pub connections: usize,
}

/// The store of a bucket. Nobody is asked before the first call.
///
/// # Errors
/// `Usage` when an address is none.
pub fn open(settings: Settings) -> Result<Arc<dyn Store>> {
    let session = Arc::new(Session::new(settings)?);
    let puts = Arc::new(Puts::new(&session));
    Ok(Arc::new(B2Store { session, puts }))
}

/// A bucket of Backblaze B2.
#[derive(Debug)]
struct B2Store {
    session: Arc<Session>,
    puts: Arc<Puts>,
}

impl B2Store {
    fn about(&self, key: &str, error: impl Into<Error>) -> Error {
        error.into().about(self.show(key))
    }

    fn about_bucket(&self, error: impl Into<Error>) -> Error {
        error.into().about(format!("b2://{}", self.session.bucket))
    }

    async fn delete_version(&self, key: &str, version: &str) -> Result<()> {
        let arguments = json!({"fileName": key, "fileId": version});
        match self.session.call::<Nothing>(&DELETE_FILE_VERSION, &arguments).await {
            Err(Failure::Refused(refusal)) if refusal.is_not_found() => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    async fn hide_file(&self, key: &str) -> Result<VersionId> {
        text::check_key(key)?;
        let arguments = json!({"bucketId": self.session.bucket_id().await?, "fileName": key});
        let marker = match self.session.call::<File>(&HIDE_FILE, &arguments).await {
            Ok(marker) => Some(marker),
            Err(failure) if failure.refusal().is_some_and(|refusal| refusal.code == "already_hidden") => {
                let mut versions = self.session.versions(key, None, 2).await?.0.into_iter();
                versions
                    .find(|file| file.action() != Action::Start)
                    .filter(|file| file.action() == Action::Hide)
            }
            Err(failure) => return Err(failure.into()),
        };
        let id = marker.and_then(|marker| marker.file_id);
        id.ok_or_else(|| Error::new(ErrorKind::Unsure, "the service gave the hide marker no id"))
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Store for B2Store {
    fn show(&self, key: &str) -> String {
        large::show(&self.session, key)
    }

    async fn capabilities(&self) -> Result<Capabilities> {
        let account = self.session.account().await.map_err(|failure| self.about_bucket(failure))?;
        Ok(Capabilities {
            versions: true,
            info: true,
            info_in_list: true,
            customer_keys: true,
            parallel_parts: true,
            min_part: account.min_part,
            max_part: put::MAX_PIECE,
            max_parts: large::MAX_PARTS,
            concurrency: self.session.http.connections(),
            remote: true,
        })
    }

    /// The service knows none.
    async fn conditions(&self) -> Result<Conditions> {
        Ok(Conditions::default())
    }

    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<Written> {
        let written = self.puts.put(&self.session, key, body, options).await;
        written.map_err(|error| self.about(key, error))
    }

    async fn upload(&self, key: &str, options: &PutOptions) -> Result<Box<dyn Upload>> {
        let upload = LargeUpload::start(&self.session, &self.puts, key, options).await;
        Ok(Box::new(upload.map_err(|error| self.about(key, error))?))
    }

    async fn get(&self, key: &str, options: &GetOptions) -> Result<Download> {
        get::get(&self.session, key, options).await.map_err(|error| self.about(key, error))
    }

    async fn stat(&self, key: &str, version: Option<&VersionId>) -> Result<Object> {
        let found = self.session.stat(key, version.map(String::as_str)).await;
        found.map_err(|error| self.about(key, error))
    }

    fn list(&self, options: ListOptions) -> BoxStream<'_, Result<Listed>> {
        let prefix = options.prefix.clone();
        let listed = list::list(&self.session, options);
        listed.map(move |listed| listed.map_err(|error| self.about(&prefix, error))).boxed()
    }

    async fn delete(&self, key: &str, version: &VersionId) -> Result<()> {
        self.delete_version(key, version).await.map_err(|error| self.about(key, error))
    }

    async fn hide(&self, key: &str) -> Result<VersionId> {
        self.hide_file(key).await.map_err(|error| self.about(key, error))
    }

    async fn copy(
        &self,
        from: &str,
        version: Option<&VersionId>,
        to: &str,
        options: &PutOptions,
    ) -> Result<Written> {
        let copied = copy::copy(&self.session, from, version.map(String::as_str), to, options).await;
        copied.map_err(|error| self.about(if error.kind() == ErrorKind::NotFound { from } else { to }, error))
    }

    fn unfinished(&self, prefix: &str) -> BoxStream<'_, Result<Unfinished>> {
        let named = prefix.to_owned();
        let found = list::unfinished(&self.session, prefix);
        found.map(move |found| found.map_err(|error| self.about(&named, error))).boxed()
    }

    async fn abort(&self, unfinished: &Unfinished) -> Result<()> {
        let cancelled = large::cancel(&self.session, &unfinished.id).await;
        cancelled.map_err(|error| self.about(&unfinished.key, error))
    }

    async fn resume(&self, unfinished: &Unfinished, options: &PutOptions) -> Result<Resumed> {
        let resumed = LargeUpload::resume(&self.session, &self.puts, unfinished, options).await;
        resumed.map_err(|error| self.about(&unfinished.key, error))
    }

    fn check_key(&self, key: &str) -> Result<()> {
        text::check_key(key).map_err(|error| self.about(key, error))
    }

    async fn require(&self, prefix: &str, rights: &[Right]) -> Result<()> {
        rights::require(&self.session, prefix, rights).await.map_err(|error| self.about_bucket(error))
    }

    async fn facts(&self, prefix: &str) -> Result<Facts> {
        let _ = prefix;
        examine::examine(&self.session).await.map_err(|error| self.about_bucket(error))
    }

    fn bucket(&self) -> Option<&dyn Bucket> {
        Some(self)
    }
}
