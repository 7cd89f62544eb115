//! What protects secrets and files from the end of the process.

use std::io::Write as _;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, setrlimit};

use super::report::Report;

/// Forbids core dumps: they would hold keys and passphrases. A system that refuses has no worse process than before.
pub(crate) fn no_core_dumps() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// What to say when a signal ends the process.
static LAST_WORDS: OnceLock<String> = OnceLock::new();

/// From now on a signal makes the process say how to go on, with its last line.
pub(crate) fn say_when_interrupted(report: &Report, hint: &str) {
    // A command says it once.
    let _ = LAST_WORDS.set(report.interrupted(hint));
}

/// On SIGINT, SIGTERM and SIGHUP: removes the temporary files, gives the terminal its echo back, and exits with 130.
pub(crate) fn clean_up_on_signals() {
    // Without a handler the default action still ends the process; only temporary files would stay.
    let _ = ctrlc::set_handler(|| {
        sidekey::ops::atomic::remove_all_temporary();
        super::passphrase::restore_terminal();
        if let Some(words) = LAST_WORDS.get() {
            // Where standard error is closed there is nowhere left to say so.
            let _ = std::io::stderr().write_all(words.as_bytes());
        }
        #[expect(
            clippy::exit,
            clippy::disallowed_methods,
            reason = "a signal ends the process, wherever it is"
        )]
        std::process::exit(130);
    });
}
