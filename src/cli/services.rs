//! The stores of services, with what is configured for them.

use std::sync::Arc;

use sidekey::location::argument::Service;
use sidekey::store::retry::{Policy, Retry};
use sidekey::store::{Store, s3};
use sidekey::{Error, Result};

use super::config::Remote;

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
        Service::B2 => b2(bucket, remote)?,
        Service::S3 => s3(bucket, remote)?,
    };
    Ok(Arc::new(Retry::new(store, Policy::default())))
}

fn b2(bucket: &str, _remote: Option<&'static Remote>) -> Result<Arc<dyn Store>> {
    Err(Error::usage("b2:// is not built yet in this version").about(bucket))
}

/// Credentials, region and address come from where the `aws` tool takes them.
fn s3(bucket: &str, _remote: Option<&'static Remote>) -> Result<Arc<dyn Store>> {
    s3::open(s3::Settings { bucket: bucket.to_owned(), ..s3::Settings::default() })
}
