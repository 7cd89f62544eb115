//! The stores of services, with what is configured for them.

use std::sync::Arc;

use sidekey::location::argument::Service;
use sidekey::store::Store;
use sidekey::store::retry::{Policy, Retry};
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

fn s3(bucket: &str, _remote: Option<&'static Remote>) -> Result<Arc<dyn Store>> {
    Err(Error::usage("s3:// is not built yet in this version").about(bucket))
}
