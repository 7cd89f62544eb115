//! What protects secrets and files from the end of the process.

use rustix::process::{Resource, Rlimit, setrlimit};

/// Forbids core dumps: they would hold keys and passphrases. A system that refuses has no worse process than before.
pub(crate) fn no_core_dumps() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// On SIGINT, SIGTERM and SIGHUP: removes the temporary files, gives the terminal its echo back, and exits with 130.
pub(crate) fn clean_up_on_signals() {
    // Without a handler the default action still ends the process; only temporary files would stay.
    let _ = ctrlc::set_handler(|| {
        sidekey::ops::atomic::remove_all_temporary();
        super::passphrase::restore_terminal();
        #[expect(
            clippy::exit,
            clippy::disallowed_methods,
            reason = "a signal ends the process, wherever it is"
        )]
        std::process::exit(130);
    });
}
