//! The log file: what is done and what happens to it, a line each, for those who look afterwards.
//!
//! Only what this program itself tells is written: the traces of libraries below it may hold credentials.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Mutex;

use sidekey::{IoContext as _, Result};
use tracing::{Level, info, level_filters::LevelFilter};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;

use super::config::{self, LOG_FILE, LOG_LEVEL};

/// The levels that can be asked for, and what each is for.
pub(super) const LEVELS: [&str; 4] = ["error", "warn", "info", "debug"];

/// Begins the log where one is wanted; `command` is the command's name.
///
/// # Errors
/// What opening the file fails with.
pub(super) fn start(command: &str) -> Result<()> {
    let settings = config::current();
    let Some(file): Option<String> = settings.get(&LOG_FILE, None) else { return Ok(()) };
    let level = settings.get::<String>(&LOG_LEVEL, None).and_then(|level| level.parse::<Level>().ok());
    let level = LevelFilter::from(level.unwrap_or(Level::INFO));
    let path = Path::new(&file);
    // Names of files are in it, and names may be private.
    let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(Mutex::new(opened.context("cannot open the log", path)?));
    let ours = Targets::new().with_target("sidekey", level);
    let all = tracing_subscriber::registry().with(lines).with(ours);
    // There is one run in a process, so there is no other.
    let _ = tracing::subscriber::set_global_default(all);
    info!(target: "sidekey", version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "begins: {command}");
    Ok(())
}
