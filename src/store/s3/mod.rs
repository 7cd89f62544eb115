//! S3, and services that speak it.
//!
//! Every request is sent once and signed for itself; [`Retry`](super::retry::Retry) tries again. No `x-amz-checksum-*` is
//! sent, which some services refuse: `Content-MD5` has the service check what arrives.

mod bucket;
mod client;
mod copy;
mod deletes;
mod etags;
mod examine;
mod fault;
mod list;
mod names;
mod object;
mod probe;
mod sse;
mod upload;
mod versions;
mod whole;
mod why;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use tokio::sync::{OnceCell, Semaphore};

use self::client::{Certificates, Connected};
use self::deletes::Deletes;
use self::etags::Etags;
use self::fault::Fault;
use self::probe::{AlsoHonoured, Honoured};
use self::versions::Versioning;
use super::facts::Facts;
use super::{
    Bucket, Capabilities, Conditions, Download, Encryption, GetOptions, ListOptions, Listed, Object,
    PutOptions, Resumed, Store, Unfinished, Upload, VersionId, Written,
};
use crate::secret::SecretBytes;
use crate::{Error, ErrorKind, Result};

/// So long an answer may take, without the time for a body.
const WAIT: Duration = Duration::from_secs(60);
/// So long an answer may take to what makes the service copy or join bytes.
const WORK: Duration = Duration::from_secs(10 * 60);
/// The slowest upload that is waited for, in bytes a second.
const SLOWEST: u64 = 16 * 1024;

const MIN_PART: u64 = 5 << 20;
const MAX_PART: u64 = 5 << 30;
const MAX_PARTS: u32 = 10_000;
/// How many requests at a time make sense where nothing is said.
const CONNECTIONS: usize = 32;

/// How to reach a bucket. Credentials, region and profile come from where the `aws` tool takes them, unless named here.
#[derive(Debug, Default)]
pub struct Settings {
    /// The bucket's name.
    pub bucket: String,
    /// The address of a service that is not AWS.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// The profile of the AWS configuration.
    pub profile: Option<String>,
    /// The access key, where it is not to come from the environment or the profile.
    pub credentials: Option<AccessKey>,
    /// Whether the bucket stands in the path of requests, not in the name of their host; where nothing is said, it does
    /// with an `endpoint`.
    pub path_style: Option<bool>,
    /// A file of certificates (PEM) to trust besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// How many requests are under way at the most.
    pub connections: usize,
}

/// An access key and its secret.
#[derive(Debug)]
pub struct AccessKey {
    /// The name of the key, which is no secret.
    pub id: String,
    /// The secret.
    pub secret: SecretBytes,
}

/// The store of a bucket. Nobody is asked before the first call.
///
/// # Errors
/// `Usage` when an address is none; `Io` when the file of certificates cannot be read, `Input` when it holds none.
pub fn open(settings: Settings) -> Result<Arc<dyn Store>> {
    if settings.bucket.is_empty() || settings.bucket.contains('/') {
        return Err(Error::usage("is not the name of a bucket").about(settings.bucket));
    }
    if let Some(endpoint) = &settings.endpoint {
        check_address(endpoint)
            .map_err(|error| error.hint("it begins with https:// (or http:// on this machine)"))?;
    }
    let certificates = client::certificates(&settings)?;
    let permits = Semaphore::new(connections(&settings));
    let shared = Shared {
        settings,
        certificates: Mutex::new(certificates),
        connected: OnceCell::new(),
        versioning: OnceCell::new(),
        honoured: OnceCell::new(),
        also_honoured: OnceCell::new(),
        etags: Etags::default(),
        deletes: Deletes::default(),
        permits,
    };
    Ok(Arc::new(S3Store { shared: Arc::new(shared) }))
}

/// A bucket. Clones share its connections.
#[derive(Clone)]
struct S3Store {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    certificates: Mutex<Option<Certificates>>,
    connected: OnceCell<Connected>,
    versioning: OnceCell<Versioning>,
    honoured: OnceCell<Honoured>,
    also_honoured: OnceCell<AlsoHonoured>,
    etags: Etags,
    deletes: Deletes,
    /// One for each request that may be under way.
    permits: Semaphore,
}

impl S3Store {
    async fn client(&self) -> Result<&Client> {
        Ok(&self.connected().await?.client)
    }

    async fn connected(&self) -> Result<&Connected> {
        let shared = &self.shared;
        let connect = || {
            let certificates = shared.certificates.lock().unwrap_or_else(PoisonError::into_inner).clone();
            client::connect(&shared.settings, certificates)
        };
        shared.connected.get_or_try_init(connect).await
    }

    /// Sends a request when there is a connection for it, and waits for the head of its answer.
    async fn answer<T, E>(
        &self,
        limit: Duration,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, Fault>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        // Nobody closes it.
        let _permit = self.shared.permits.acquire().await;
        fault::answer(limit, request).await
    }

    fn bucket_name(&self) -> &str {
        &self.shared.settings.bucket
    }

    fn show_bucket(&self) -> String {
        format!("s3://{}", self.bucket_name())
    }

    /// A key of the customer's is a secret that goes with the request: never over a line that others can read.
    async fn may_send_keys(&self) -> Result<()> {
        let Some(endpoint) = &self.connected().await?.endpoint else { return Ok(()) };
        match line_to(endpoint) {
            Some(Line::Encrypted | Line::Here) => Ok(()),
            Some(Line::Open) | None => {
                Err(Error::new(ErrorKind::Refused, "a customer's key (SSE-C) is not sent over http://")
                    .about(endpoint)
                    .hint("reach the service by https://"))
            }
        }
    }

    async fn may_send(&self, encryption: Option<&Encryption>) -> Result<()> {
        match sse::customer_key(encryption) {
            Some(_) => self.may_send_keys().await,
            None => Ok(()),
        }
    }
}

/// What lies between this machine and a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Encrypted,
    /// It is this machine.
    Here,
    /// Others can read what goes there.
    Open,
}

/// How an address is reached; nothing when it is none of a service. The case of a scheme and a host means nothing.
fn line_to(endpoint: &str) -> Option<Line> {
    let (scheme, rest) = endpoint.split_once("://").filter(|(_, rest)| !rest.is_empty())?;
    match scheme {
        _ if scheme.eq_ignore_ascii_case("https") => Some(Line::Encrypted),
        _ if !scheme.eq_ignore_ascii_case("http") => None,
        _ if is_this_machine(rest) => Some(Line::Here),
        _ => Some(Line::Open),
    }
}

fn check_address(endpoint: &str) -> Result<()> {
    match line_to(endpoint) {
        Some(_) => Ok(()),
        None => Err(Error::usage("is not the address of a service").about(endpoint)),
    }
}

/// Whether the host of an address, with its port and path, is this one.
fn is_this_machine(address: &str) -> bool {
    let authority = address.split(['/', '?', '#']).next().unwrap_or_default();
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if is_port(port) => host,
        _ => authority,
    };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

fn connections(settings: &Settings) -> usize {
    match settings.connections {
        0 => CONNECTIONS,
        connections => connections.min(Semaphore::MAX_PERMITS),
    }
}

/// How long to wait for the answer to so many bytes.
fn wait_for(len: usize) -> Duration {
    WAIT + Duration::from_secs(len as u64 / SLOWEST)
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Store").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for S3Store {
    fn show(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket_name())
    }

    async fn capabilities(&self) -> Result<Capabilities> {
        Ok(Capabilities {
            // What was kept before versions were suspended is listed, read and deleted by its id.
            versions: self.versioning().await? != Versioning::Off,
            info: true,
            info_in_list: false,
            customer_keys: true,
            parallel_parts: true,
            min_part: MIN_PART,
            max_part: MAX_PART,
            max_parts: MAX_PARTS,
            concurrency: connections(&self.shared.settings),
            remote: true,
        })
    }

    async fn conditions(&self) -> Result<Conditions> {
        Ok(self.honoured().await?.into())
    }

    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<Written> {
        self.put_object(key, body, options).await.map_err(|error| error.about(self.show(key)))
    }

    async fn upload(&self, key: &str, options: &PutOptions) -> Result<Box<dyn Upload>> {
        let upload = self.begin(key, options).await.map_err(|error| error.about(self.show(key)))?;
        Ok(Box::new(upload))
    }

    async fn get(&self, key: &str, options: &GetOptions) -> Result<Download> {
        self.get_object(key, options).await.map_err(|error| error.about(self.show(key)))
    }

    async fn stat(&self, key: &str, version: Option<&VersionId>) -> Result<Object> {
        self.stat_object(key, version).await.map_err(|error| error.about(self.show(key)))
    }

    fn list(&self, options: ListOptions) -> BoxStream<'_, Result<Listed>> {
        self.listing(options)
    }

    async fn delete(&self, key: &str, version: &VersionId) -> Result<()> {
        self.delete_version(key, version).await.map_err(|error| error.about(self.show(key)))
    }

    async fn hide(&self, key: &str) -> Result<VersionId> {
        self.put_marker(key).await.map_err(|error| error.about(self.show(key)))
    }

    async fn copy(
        &self,
        from: &str,
        version: Option<&VersionId>,
        to: &str,
        options: &PutOptions,
    ) -> Result<Written> {
        self.copy_object(from, version, to, options).await.map_err(|error| error.about(self.show(to)))
    }

    fn unfinished(&self, prefix: &str) -> BoxStream<'_, Result<Unfinished>> {
        self.uploads(prefix)
    }

    async fn abort(&self, unfinished: &Unfinished) -> Result<()> {
        let aborted = self.abort_upload(&unfinished.key, &unfinished.id).await;
        aborted.map_err(|error| error.about(self.show(&unfinished.key)))
    }

    async fn resume(&self, unfinished: &Unfinished, options: &PutOptions) -> Result<Resumed> {
        let resumed = self.resume_upload(unfinished, options).await;
        resumed.map_err(|error| error.about(self.show(&unfinished.key)))
    }

    fn check_key(&self, key: &str) -> Result<()> {
        names::check(key).map_err(|error| error.about(self.show(key)))
    }

    async fn facts(&self, prefix: &str) -> Result<Facts> {
        self.examine(prefix).await
    }

    fn bucket(&self) -> Option<&dyn Bucket> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sent_in_clear_to_this_machine_alone() {
        for here in ["localhost", "LocalHost:9000/x", "127.0.0.1:80", "127.1.2.3", "[::1]", "[::1]:9000"] {
            assert!(is_this_machine(here), "{here}");
        }
        for there in
            ["127.example.com", "localhost.example.com:80", "localhost@example.com", "10.0.0.1:9000", ""]
        {
            assert!(!is_this_machine(there), "{there}");
        }
    }

    #[test]
    fn a_line_is_open_however_its_address_is_written() {
        for (endpoint, line) in [
            ("https://a.example", Some(Line::Encrypted)),
            ("HttpS://a.example", Some(Line::Encrypted)),
            ("http://127.0.0.1:9000", Some(Line::Here)),
            ("HTTP://[::1]:9000", Some(Line::Here)),
            ("http://a.example", Some(Line::Open)),
            ("HTTP://a.example", Some(Line::Open)),
            ("hTTp://localhost@a.example", Some(Line::Open)),
            ("https://", None),
            ("ftp://a.example", None),
            (" https://a.example", None),
            ("a.example", None),
            ("", None),
        ] {
            assert_eq!(line_to(endpoint), line, "{endpoint:?}");
        }
    }
}
