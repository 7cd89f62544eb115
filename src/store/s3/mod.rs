//! S3, and services that speak it.

use std::path::PathBuf;
use std::sync::Arc;

use super::Store;
use crate::{Error, ErrorKind, Result};

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
    /// Whether the bucket stands in the path of requests, not in the name of their host; where nothing is said, it does
    /// with an `endpoint`.
    pub path_style: Option<bool>,
    /// A file of certificates (PEM) to trust besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// How many requests are under way at the most.
    pub connections: usize,
}

/// The store of a bucket. Nobody is asked before the first call.
///
/// # Errors
/// `Usage` when an address is none; `Io` when the file of certificates cannot be read.
pub fn open(settings: Settings) -> Result<Arc<dyn Store>> {
    Err(Error::new(ErrorKind::Refused, "s3:// is not built yet").about(settings.bucket))
}
