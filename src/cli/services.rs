//! The stores of services, with what is configured for them.

use std::sync::Arc;

use sidekey::location::argument::Service;
use sidekey::store::retry::{Policy, Retry};
use sidekey::store::{Store, b2};
use sidekey::{Error, Result};

use super::config::{self, Remote};

/// How many requests are under way at the most: small files wait for the service most of the time.
const CONNECTIONS: usize = 32;

/// Opens a bucket. Nobody is asked before the first request.
///
/// # Errors
/// `Usage` when something that is needed to reach it is neither typed nor configured.
pub(super) fn open(
    service: Service,
    bucket: &str,
    remote: Option<&'static Remote>,
) -> Result<Arc<dyn Store>> {
    let store = match service {
        Service::B2 => backblaze(bucket, remote)?,
        Service::S3 => s3(bucket, remote)?,
    };
    Ok(Arc::new(Retry::new(store, Policy::default())))
}

fn backblaze(bucket: &str, _remote: Option<&'static Remote>) -> Result<Arc<dyn Store>> {
    let config::B2Credentials { key_id, key, endpoint } = config::b2_credentials()?;
    let bucket = bucket.to_owned();
    b2::open(b2::Settings { bucket, key_id, key, endpoint, connections: CONNECTIONS })
}

fn s3(bucket: &str, _remote: Option<&'static Remote>) -> Result<Arc<dyn Store>> {
    Err(Error::usage("s3:// is not built yet in this version").about(bucket))
}
