//! The runtime that futures of stores need. Operations poll them on threads of their own.

use tokio::runtime::{Builder, Runtime};

use crate::{Error, Result};

/// What a store's timers and connections run on, for one operation.
///
/// # Errors
/// What the operating system fails with.
pub(crate) fn start() -> Result<Runtime> {
    let runtime =
        Builder::new_multi_thread().worker_threads(1).thread_name("sidekey-io").enable_all().build();
    runtime.map_err(|error| Error::io("cannot start the threads that stores need", error))
}
