//! The one place that reads the environment.

use std::ffi::OsString;

/// The value of the environment variable `name`, if it is set.
#[expect(clippy::disallowed_methods, reason = "this is the one reader of the environment")]
pub(super) fn env(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}
