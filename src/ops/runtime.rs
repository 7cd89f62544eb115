//! The runtime that futures of stores need. Operations poll them on threads of their own.

use std::io;
use std::sync::LazyLock;

use tokio::runtime::{Builder, Runtime};

use crate::{Error, Result};

/// One for the whole process: the connections of a store outlive the operation that opened them.
static RUNTIME: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    Builder::new_multi_thread().worker_threads(1).thread_name("sidekey-io").enable_all().build()
});

/// What a store's timers and connections run on.
///
/// # Errors
/// What the operating system fails with.
pub(crate) fn start() -> Result<&'static Runtime> {
    let again = |error: &io::Error| io::Error::new(error.kind(), error.to_string());
    RUNTIME.as_ref().map_err(|error| Error::io("cannot start the threads that stores need", again(error)))
}
