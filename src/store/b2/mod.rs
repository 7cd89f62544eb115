//! Backblaze B2, by its native API.

use std::sync::Arc;

use super::Store;
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
    Err(Error::new(ErrorKind::Refused, "b2:// is not built yet").about(settings.bucket))
}
