//! The stores of services, with what is configured for them.

use std::sync::{Arc, OnceLock};

use sidekey::location::argument::Service;
use sidekey::location::customer::Unlocking;
use sidekey::random::{OsRandom, Random as _};
use sidekey::secret::SecretBytes;
use sidekey::store::retry::{Again, Policy, Retry};
use sidekey::store::traced::Traced;
use sidekey::store::{Store, b2, s3};
use sidekey::{Error, Result};
use tracing::warn;

use super::config::{
    self, B2_ENDPOINT, CA_FILE, CONNECTIONS, ENDPOINT, PATH_STYLE, PROFILE, REGION, Remote, Setting,
};
use super::report::Details;
use super::sse;

/// How many requests are under way unless the user says otherwise: small files wait for the service most of the time.
const DEFAULT_CONNECTIONS: usize = 32;

/// After so many tries of one call, some seconds, everybody is told that it waits.
const STALLED: u32 = 5;

static DETAILS: OnceLock<Details> = OnceLock::new();

/// From now on whoever asked for more is told what is tried again.
pub(super) fn tell_to(details: Details) {
    // A second one would be ignored.
    let _ = DETAILS.set(details);
}

/// Opens a bucket. Nobody is asked before the first request.
///
/// # Errors
/// `Usage` when something that is needed to reach it is neither typed nor configured; those of reading key files.
pub(super) fn open(
    service: Service,
    bucket: &str,
    remote: Option<&'static Remote>,
) -> Result<Arc<dyn Store>> {
    let store = match service {
        Service::B2 => b2(bucket, remote)?,
        Service::S3 => s3(bucket, remote)?,
    };
    let store = Arc::new(Retry::new(store, policy()?).tell(tell));
    let store = Traced::over(store);
    Ok(match sse::customer_key(remote)? {
        Some(key) => Arc::new(Unlocking::with_key(store, key)),
        None => store,
    })
}

fn b2(bucket: &str, remote: Option<&'static Remote>) -> Result<Arc<dyn Store>> {
    let missing = |what: String| {
        Error::usage(what)
            .about(format!("b2://{bucket}"))
            .hint("put an application key into the environment: its id and the key itself")
    };
    let (key_id, key) = match (text(B2_KEY_ID)?, text(B2_KEY)?) {
        (Some(key_id), Some(key)) => (key_id, key),
        (Some(_), None) => return Err(missing(format!("{B2_KEY} is not set"))),
        (None, Some(_)) => return Err(missing(format!("{B2_KEY_ID} is not set"))),
        (None, None) => return Err(missing(format!("{B2_KEY_ID} and {B2_KEY} are not set"))),
    };
    b2::open(b2::Settings {
        bucket: bucket.to_owned(),
        key_id,
        key: SecretBytes::new(key.into_bytes()),
        endpoint: setting(&B2_ENDPOINT, remote),
        connections: setting(&CONNECTIONS, remote).unwrap_or(DEFAULT_CONNECTIONS),
    })
}

fn s3(bucket: &str, remote: Option<&'static Remote>) -> Result<Arc<dyn Store>> {
    s3::open(s3::Settings {
        bucket: bucket.to_owned(),
        endpoint: setting(&ENDPOINT, remote),
        region: setting(&REGION, remote),
        profile: setting(&PROFILE, remote),
        path_style: setting(&PATH_STYLE, remote),
        ca_file: setting(&CA_FILE, remote),
        connections: setting(&CONNECTIONS, remote).unwrap_or(DEFAULT_CONNECTIONS),
        ..s3::Settings::default()
    })
}

/// The names that the `b2` tool reads too.
const B2_KEY_ID: &str = "B2_APPLICATION_KEY_ID";
const B2_KEY: &str = "B2_APPLICATION_KEY";

/// An environment variable that is set and not empty.
fn text(name: &str) -> Result<Option<String>> {
    let value = config::env(name).filter(|value| !value.is_empty());
    let value = value.map(|value| value.into_string().map_err(|_| Error::usage("is not UTF-8").about(name)));
    value.transpose()
}

fn setting<T: std::str::FromStr>(setting: &Setting, remote: Option<&Remote>) -> Option<T> {
    config::current().get(setting, remote)
}

/// Hosts and runs wait by chances of their own.
fn policy() -> Result<Policy> {
    let mut seed = [0; 8];
    OsRandom.fill(&mut seed)?;
    Ok(Policy { seed: u64::from_le_bytes(seed), ..Policy::default() })
}

/// Which call is tried again, why, and when.
fn tell(again: &Again<'_>) {
    let Again { what, subject, error, tries, wait } = again;
    let seconds = wait.as_secs_f64();
    warn!(target: "sidekey::retry", ?subject, what, tries, seconds, error = ?error.line(), "is tried again");
    let Some(details) = DETAILS.get() else { return };
    if *tries == STALLED {
        let minutes = Policy::default().total.as_secs() / 60;
        details.stalled(format_args!("{}; it is tried again for up to {minutes} minutes", error.line()));
    }
    details.tell(format_args!(
        "{subject}: {what} is tried again in {seconds:.1} s, after try {tries}: {}",
        error.line()
    ));
}
