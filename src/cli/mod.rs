//! The command line: what was typed becomes plain options, a library call, and a report.
//!
//! A new command is a file with a documented `Args` (its doc comment is its help) and `Args::run`, plus its `mod` line
//! and its line in `commands!` here.

mod args;
mod config;
mod escrow;
mod exists;
mod filter;
mod from;
pub(crate) mod guard;
mod identity;
mod kdf;
mod location;
mod log;
mod passphrase;
mod prompt;
mod report;
mod services;
mod sse;
mod transfer;
mod vaults;
mod work;

mod audit;
mod bucket;
mod cat;
mod clean;
mod completions;
mod cp;
mod decrypt;
mod doctor;
mod encrypt;
mod get;
mod incident;
mod init;
mod inspect;
mod keygen;
mod ls;
mod man;
mod mv;
mod passwd;
mod pubkey;
mod put;
mod recipients;
mod reencrypt;
mod remote;
mod reports;
mod restore;
mod rewrap;
mod rm;
mod sync;
mod vault;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

use self::args::{Line, Wanted};
use self::config::Config;
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
    Put => put,
    Get => get,
    Cat => cat,
    Ls => ls,
    Rm => rm,
    Restore => restore,
    Cp => cp,
    Mv => mv,
    Sync => sync,
    Verify => verify,
    Audit => audit,
    Clean => clean,
    Doctor => doctor,
    Bucket => bucket,
    Rewrap => rewrap,
    Recipients => recipients,
    Reencrypt => reencrypt,
    Incident => incident,
    Report => reports,
    Encrypt => encrypt,
    Decrypt => decrypt,
    Inspect => inspect,
    Init => init,
    Vault => vault,
    Remote => remote,
    Completions => completions,
    Man => man,
}

/// Runs one command line, the name of the program first.
pub(crate) fn run(typed: impl Iterator<Item = OsString>) -> ExitCode {
    let typed: Vec<_> = typed.collect();
    match args::parse(&typed) {
        Ok(Some(line)) => {
            let report = Report::new(line.settings);
            if let Err(error) = obey(line, &report) {
                report.failure(&error);
            }
            report.end()
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

fn obey(line: Line, report: &Report) -> sidekey::Result<()> {
    // The one command that makes the file.
    let may_be_missing = matches!(&line.wanted, Wanted::Run(command) if matches!(**command, Command::Remote(_) | Command::Init(_) | Command::Vault(_)));
    config::set(Config::load(line.config.as_deref(), may_be_missing, line.typed)?);
    log::start(&line.command)?;
    services::tell_to(report.details());
    match line.wanted {
        Wanted::Run(command) => command.run(report),
        Wanted::Explain => {
            config::current().explain(report);
            Ok(())
        }
    }
}
