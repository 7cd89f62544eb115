//! The credentials of services, which only the environment holds.

use std::os::unix::ffi::OsStringExt as _;

use sidekey::secret::SecretBytes;
use sidekey::{Error, Result};

use super::filled;

/// What reaches a bucket of Backblaze B2.
#[derive(Debug)]
pub(crate) struct B2Credentials {
    pub(crate) key_id: String,
    pub(crate) key: SecretBytes,
    /// The address of another realm.
    pub(crate) endpoint: Option<String>,
}

/// The application key in the environment.
///
/// # Errors
/// `Usage` when a part of it is missing or no text.
pub(crate) fn b2_credentials() -> Result<B2Credentials> {
    let missing = |name: &str| {
        Error::usage("is not set")
            .about(name)
            .hint("B2_APPLICATION_KEY_ID and B2_APPLICATION_KEY hold an application key of Backblaze B2")
    };
    let key_id = text("B2_APPLICATION_KEY_ID")?.ok_or_else(|| missing("B2_APPLICATION_KEY_ID"))?;
    let key = filled("B2_APPLICATION_KEY").ok_or_else(|| missing("B2_APPLICATION_KEY"))?;
    let endpoint = text("B2_ENDPOINT")?;
    Ok(B2Credentials { key_id, key: SecretBytes::new(key.into_vec()), endpoint })
}

fn text(name: &str) -> Result<Option<String>> {
    let text = filled(name).map(|value| value.into_string()).transpose();
    text.map_err(|_| Error::usage("is not UTF-8").about(name))
}
