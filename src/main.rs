//! The edge of the process: no core dumps, no half-written files after a signal, and an exit code.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::guard::no_core_dumps();
    cli::guard::clean_up_on_signals();
    cli::run(std::env::args_os())
}
