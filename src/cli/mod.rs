//! The command line: what was typed becomes plain options, a library call, and a report.
//!
//! A new command is a file with a documented `Args` (its doc comment is its help) and `Args::run`, plus its `mod` line
//! and its line in `commands!` here.

mod args;
mod config;
pub(crate) mod guard;
mod identity;
mod passphrase;
mod report;
mod work;

mod completions;
mod decrypt;
mod encrypt;
mod inspect;
mod keygen;
mod man;
mod passwd;
mod pubkey;
mod rewrap;

use std::ffi::OsString;
use std::process::ExitCode;

use self::report::Report;

macro_rules! commands {
    ($($name:ident => $module:ident,)*) => {
        #[derive(clap::Subcommand)]
        enum Command {
            $($name($module::Args),)*
        }

        impl Command {
            fn run(self, report: &Report) -> sidekey::Result<()> {
                match self {
                    $(Self::$name(args) => args.run(report),)*
                }
            }
        }
    };
}

commands! {
    Keygen => keygen,
    Pubkey => pubkey,
    Passwd => passwd,
    Encrypt => encrypt,
    Decrypt => decrypt,
    Inspect => inspect,
    Rewrap => rewrap,
    Completions => completions,
    Man => man,
}

/// Runs one command line, the name of the program first.
pub(crate) fn run(typed: impl Iterator<Item = OsString>) -> ExitCode {
    let typed: Vec<_> = typed.collect();
    match args::parse(&typed) {
        Ok(Some((settings, command))) => {
            let report = Report::new(settings);
            if let Err(error) = command.run(&report) {
                report.failure(&error);
            }
            report.exit_code()
        }
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => {
            // What was typed did not parse, so whether it asked for JSON is a guess, but a good one.
            let json = typed.iter().any(|arg| arg == "--json");
            let report = Report::new(report::Settings { json, ..Default::default() });
            report.failure(&error);
            report.exit_code()
        }
    }
}
