//! What was typed, and what is wrong with it in the words of this program.

use std::error::Error as _;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, CommandFactory as _, FromArgMatches as _};
use sidekey::{Error, IoContext as _, Result};

use super::Command;
use super::config::{SETTINGS, SSE, SSE_C_KEY_FILE, Setting, Typed as TypedSettings};
use super::log::LEVELS;
use super::report::Settings;

/// encrypts backups on this machine, and moves them to a new key pair by rewriting only their small key files.
#[derive(clap::Parser)]
#[command(
    name = "sidekey",
    version,
    disable_help_flag = true,
    disable_help_subcommand = true,
    disable_version_flag = true,
    after_help = "\
examples:
  sidekey keygen -o backup                                  makes backup.pem (keep it safe) and backup.pub.pem
  sidekey encrypt -r backup.pub.pem photos/ -o encrypted    needs the public key alone
  sidekey decrypt -i backup.pem encrypted/ -o restored      needs the private key
  sidekey keygen -o new                                     when backup.pem was compromised:
  sidekey rewrap encrypted/ -i backup.pem --to new.pub.pem  rewrites the small key files alone

exit codes:
  0 done, 1 failed in part or whole, 2 wrong usage, 3 damaged data or a missing half of a pair,
  4 done but something remains, 130 interrupted"
)]
struct Typed {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
    /// print the version
    #[arg(short = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,
}

// Not a doc comment: clap would make it the program's description.
// The options of every command.
#[derive(clap::Args)]
struct Global {
    /// print results as JSON on standard output, and warnings and errors as JSON on standard error, one object a line
    #[arg(long, global = true, help_heading = "Options of every command")]
    json: bool,
    /// print errors and warnings only, and no progress
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Options of every command")]
    quiet: bool,
    /// print more about what is done
    #[arg(short, long, global = true, help_heading = "Options of every command")]
    verbose: bool,
    /// read the configuration from FILE instead of ~/.config/sidekey/config.toml
    #[arg(long, value_name = "FILE", global = true, help_heading = "Options of every command")]
    config: Option<PathBuf>,
    /// append what is done, and what happens to it, to FILE
    #[arg(long, value_name = "FILE", global = true, help_heading = "Options of every command")]
    log_file: Option<PathBuf>,
    /// how much is logged: error, warn, info (the default), or debug, which tells of every call of a store
    #[arg(long, value_name = "LEVEL", value_parser = LEVELS, hide_possible_values = true, global = true, help_heading = "Options of every command")]
    log_level: Option<String>,
    /// print every setting, its value and where that came from, and do nothing else
    #[arg(long, global = true, help_heading = "Options of every command")]
    explain_config: bool,
    /// print help
    #[arg(short, long, global = true, action = ArgAction::Help, help_heading = "Options of every command")]
    help: Option<bool>,
}

/// What a command line says.
pub(super) struct Line {
    pub(super) settings: Settings,
    /// The name of the command; empty where none was typed.
    pub(super) command: String,
    /// The configuration file that it names.
    pub(super) config: Option<PathBuf>,
    /// What it says for settings.
    pub(super) typed: TypedSettings,
    pub(super) wanted: Wanted,
}

/// What is to be done.
pub(super) enum Wanted {
    Run(Box<Command>),
    /// Explain the configuration.
    Explain,
}

/// What a command line says; nothing when it only asked for help or the version, which are then printed.
///
/// # Errors
/// `Usage`, with a hint.
pub(super) fn parse(typed: &[OsString]) -> Result<Option<Line>> {
    let parsed = command().try_get_matches_from(help_as_others_have_it(typed)).and_then(|matches| {
        let parsed = Typed::from_arg_matches(&matches)?;
        let name = matches.subcommand_name().unwrap_or_default().to_owned();
        Ok((parsed, name, typed_settings(&matches)))
    });
    match parsed {
        Ok((Typed { global, command, .. }, name, typed)) => {
            let Global { json, quiet, verbose, config, explain_config, .. } = global;
            let wanted = match command {
                _ if explain_config => Wanted::Explain,
                Some(command) => Wanted::Run(Box::new(command)),
                None => {
                    return Err(
                        Error::usage("a command is missing").hint("sidekey --help shows what there is")
                    );
                }
            };
            Ok(Some(Line {
                settings: Settings { json, quiet, verbose },
                command: name,
                config,
                typed,
                wanted,
            }))
        }
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => match error.print() {
                Err(gone) if gone.kind() == std::io::ErrorKind::BrokenPipe => Ok(None),
                printed => printed.context("cannot write", "standard output").map(|()| None),
            },
            _ => Err(in_our_words(&error, typed)),
        },
    }
}

/// `help COMMAND` means `COMMAND --help`, as hands know it from other tools.
fn help_as_others_have_it(typed: &[OsString]) -> Vec<OsString> {
    match typed {
        [program, help, commands @ ..] if help == "help" => {
            [program].into_iter().chain(commands).cloned().chain(["--help".into()]).collect()
        }
        _ => typed.to_vec(),
    }
}

/// The settings that stand on the command line, of the command and its subcommands.
fn typed_settings(matches: &ArgMatches) -> TypedSettings {
    let mut found = TypedSettings::new();
    let mut level = Some(matches);
    while let Some(matches) = level {
        for setting in SETTINGS {
            let id = setting.id();
            let typed = matches.try_contains_id(&id).is_ok_and(|known| known)
                && matches.value_source(&id) == Some(ValueSource::CommandLine);
            let value = matches.try_get_raw(&id).ok().flatten().and_then(|mut values| values.next());
            if let Some(value) = value.filter(|_| typed) {
                found.insert(setting.key, value.to_string_lossy().into_owned());
            }
        }
        if let Some(how) = as_s3cmd_says(matches) {
            found.insert(SSE.key, how);
        }
        level = matches.subcommand().map(|(_, matches)| matches);
    }
    found
}

/// What `--sse` is called by `s3cmd`.
const S3CMD_SSE: &str = "server-side-encryption";
const S3CMD_KMS: &str = "server-side-encryption-kms-id";

fn as_s3cmd_says(matches: &ArgMatches) -> Option<String> {
    let key = matches.try_get_one::<String>(S3CMD_KMS).ok().flatten();
    let flag = matches.try_get_one::<bool>(S3CMD_SSE).ok().flatten();
    key.map(|key| format!("kms:{key}")).or_else(|| flag.filter(|set| **set).map(|_| "s3".to_owned()))
}

/// The options of `s3cmd`, for scripts that know them.
fn s3cmd_options() -> [clap::Arg; 2] {
    let option =
        |name: &'static str| clap::Arg::new(name).long(name).help_heading("Stores").conflicts_with(SSE.key);
    [
        option(S3CMD_SSE).action(ArgAction::SetTrue).help("the same as --sse s3, as s3cmd calls it"),
        option(S3CMD_KMS).value_name("ID").help("the same as --sse kms:ID, as s3cmd calls it"),
    ]
}

/// The commands that take a location.
const ON_LOCATIONS: [&str; 21] = [
    "put",
    "get",
    "cat",
    "ls",
    "rm",
    "cp",
    "mv",
    "sync",
    "verify",
    "audit",
    "clean",
    "doctor",
    "bucket",
    "rewrap",
    "recipients",
    "reencrypt",
    "incident",
    "report",
    "init",
    "vault",
    "restore",
];

/// The whole command line as clap knows it, for completions and manual pages too. What is said of stores is read through
/// the configuration, not by the commands.
pub(super) fn command() -> clap::Command {
    ON_LOCATIONS.into_iter().fold(Typed::command(), |all, name| {
        all.mut_subcommand(name, |command| {
            let options = SETTINGS.into_iter().filter(|setting| has_use_for(name, setting));
            let s3cmd = s3cmd_options().into_iter().filter(|_| name == "put");
            command.args(options.filter_map(Setting::option)).args(s3cmd)
        })
    })
}

/// Only what writes containers has something to ask the service for, and only what reads or writes them needs keys.
fn has_use_for(command: &str, setting: &Setting) -> bool {
    match setting.key {
        key if key == SSE.key => matches!(command, "put" | "cp" | "mv" | "sync" | "reencrypt"),
        key if key == SSE_C_KEY_FILE.key => {
            !matches!(command, "bucket" | "doctor" | "report" | "init" | "vault")
        }
        _ => true,
    }
}

fn in_our_words(error: &clap::Error, typed: &[OsString]) -> Error {
    let text = |kind| error.get(kind).map(ToString::to_string).unwrap_or_default();
    let arg = text(ContextKind::InvalidArg);
    let value = text(ContextKind::InvalidValue);
    let message = match error.kind() {
        ErrorKind::UnknownArgument if arg.starts_with('-') => format!("unknown option {arg}"),
        ErrorKind::UnknownArgument => format!("one argument too many: {arg}"),
        ErrorKind::InvalidSubcommand => format!("unknown command {}", text(ContextKind::InvalidSubcommand)),
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            "a command is missing".to_owned()
        }
        ErrorKind::MissingRequiredArgument if arg.contains(", ") => format!("{} are missing", plain(&arg)),
        ErrorKind::MissingRequiredArgument => format!("{} is missing", plain(&arg)),
        ErrorKind::InvalidValue if value.is_empty() => format!("{} needs a value", option(&arg)),
        ErrorKind::InvalidValue => {
            format!("{}: {value} is not one of {}", option(&arg), text(ContextKind::ValidValue))
        }
        ErrorKind::ValueValidation => {
            let why = error.source().map(ToString::to_string).unwrap_or_default();
            format!("{} {value}: {why}", option(&arg))
        }
        ErrorKind::ArgumentConflict if arg == text(ContextKind::PriorArg) => {
            format!("{} is given twice", option(&arg))
        }
        ErrorKind::ArgumentConflict => {
            format!("{} and {} exclude each other", option(&arg), option(&text(ContextKind::PriorArg)))
        }
        _ => {
            let rendered = error.render().to_string();
            rendered.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
        }
    };
    let suggested =
        [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue];
    let suggested: Vec<_> = suggested.into_iter().map(text).filter(|text| !text.is_empty()).collect();
    Error::usage(message).hint(match (place_first(typed), suggested.first()) {
        (Some(hint), _) => hint,
        (None, Some(near)) => format!("did you mean {near}?"),
        (None, None) => format!("{} --help shows what there is", used(typed)),
    })
}

/// What to say where `sidekey recipients add PLACE` was typed for `sidekey recipients PLACE add`.
fn place_first(typed: &[OsString]) -> Option<String> {
    let root = command();
    let mut words = typed.iter().skip(1);
    let command = words.find_map(|word| root.find_subcommand(word))?;
    let place = command.get_positionals().next()?.get_id().as_str().to_uppercase();
    let within = command.find_subcommand(words.next()?)?.get_name();
    let name = command.get_name();
    Some(format!("the {} comes first: sidekey {name} {place} {within}", place.to_lowercase()))
}

/// `<KEY>`, `<PATH>...` and `--output <NAME>` without brackets and dots.
fn plain(arg: &str) -> String {
    arg.replace(['<', '>'], "").replace("...", "")
}

/// `--output <NAME>` without its value; `<KEY>` without the brackets.
fn option(arg: &str) -> String {
    match arg.split_once([' ', '=', '[']) {
        Some((option, _)) if option.starts_with('-') => option.to_owned(),
        _ => plain(arg),
    }
}

/// The program and its command, as far as one was typed.
fn used(typed: &[OsString]) -> String {
    let root = command();
    let name = typed.iter().skip(1).find_map(|arg| root.find_subcommand(arg));
    name.map_or("sidekey".to_owned(), |command| format!("sidekey {}", command.get_name()))
}
