//! What the commands on many files have in common: their inputs, their threads, and telling what happens.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use serde::Serialize;
use sidekey::crypto::recipe::Kdf;
use sidekey::location::range::Range;
use sidekey::name::RecipeSuffix;
use sidekey::ops::events::{Event, Observer, Summary};
use sidekey::recipe::{Named, PasswordReading};
use sidekey::{Error, Result};

use super::config;
use super::report::{Progress, Report};

/// How many threads work unless the user says otherwise.
const MOST_JOBS: usize = 16;

/// The most that anybody may ask for: more would not be faster, and some number of them the system refuses.
const JOBS_LIMIT: usize = 256;

/// Reads what `--jobs` says.
pub(crate) fn parse_jobs(text: &str) -> Result<usize, String> {
    let jobs = text.parse().ok().filter(|jobs| (1..=JOBS_LIMIT).contains(jobs));
    jobs.ok_or_else(|| format!("is not a number from 1 to {JOBS_LIMIT}"))
}

/// The number of threads to work with: what was typed, else what is configured.
pub(crate) fn jobs(asked: Option<usize>) -> usize {
    let available = || std::thread::available_parallelism().map_or(1, usize::from).min(MOST_JOBS);
    asked.or_else(|| config::current().get(&config::JOBS, None)).unwrap_or_else(available)
}

/// The number of threads that is configured for all commands.
pub(crate) fn jobs_configured() -> Option<usize> {
    config::current().get(&config::JOBS, None)
}

/// The one reading of the clock.
#[expect(clippy::disallowed_methods, reason = "this is the one reader of the clock")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// Whether standard input is the input; it goes with no other.
///
/// # Errors
/// `Usage` when `-` stands among other inputs.
pub(crate) fn is_stdin(inputs: &[PathBuf]) -> Result<bool> {
    let stdin = |path: &PathBuf| path == Path::new("-");
    match inputs {
        [only] => Ok(stdin(only)),
        many if many.iter().any(stdin) => {
            Err(Error::usage("- is standard input and goes with no other input")
                .hint("write ./- for a file of that name"))
        }
        _ => Ok(false),
    }
}

/// The bytes to read, where all inputs are single files.
fn total(inputs: &[PathBuf]) -> Option<u64> {
    inputs
        .iter()
        .map(|path| path.metadata().ok().filter(|found| found.is_file()).map(|found| found.len()))
        .sum()
}

/// The bytes of all files at and below the inputs; nothing when it is over before they are counted.
fn total_below(inputs: &[PathBuf], over: &AtomicBool) -> Option<u64> {
    let mut total = 0;
    for entry in inputs.iter().flat_map(walkdir::WalkDir::new).flatten() {
        if over.load(Ordering::Relaxed) {
            return None;
        }
        let size = || entry.metadata().map_or(0, |found| found.len());
        total += if entry.file_type().is_file() { size() } else { 0 };
    }
    Some(total)
}

// Not a doc comment: clap would make it the description of the command that takes these options.
// How files of the OpenSSL recipe were made.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct RecipeArgs {
    /// how openssl enc derived the keys: md5, sha256, pbkdf2 or pbkdf2:ROUNDS; found out where enough files agree
    #[arg(long, value_name = "KDF", help_heading = "Files of the OpenSSL recipe")]
    recipe_kdf: Option<Kdf>,
    /// which part of a password of several lines was used: joined or first-line
    #[arg(long, value_name = "READING", help_heading = "Files of the OpenSSL recipe")]
    recipe_password: Option<PasswordReading>,
}

impl RecipeArgs {
    pub(crate) fn named(&self) -> Named {
        Named { kdf: self.recipe_kdf, reading: self.recipe_password }
    }
}

// Not a doc comment: clap would make it the description of the command that takes these options.
// What a script called the pairs of the OpenSSL recipe in a location.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct SuffixArgs {
    /// what a script called containers and key files where it is not .enc,.key.enc: .data.enc,.key.enc or
    /// .enc,.key-{name}.enc
    #[arg(long, value_name = "CONTAINER,KEY", value_parser = parse_suffix, help_heading = "Files of the OpenSSL recipe")]
    recipe_suffix: Option<RecipeSuffix>,
}

impl SuffixArgs {
    pub(crate) fn suffix(&self) -> Option<RecipeSuffix> {
        self.recipe_suffix.clone()
    }
}

fn parse_suffix(text: &str) -> Result<RecipeSuffix, String> {
    text.parse().map_err(|error: Error| match error.remedy() {
        Some(remedy) => format!("{error}; {remedy}"),
        None => error.to_string(),
    })
}

// Not a doc comment: clap would make it the description of the command that takes these options.
// Which stored names of a location, where others do the rest.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct RangeArgs {
    /// do only the stored names from this one on: as they are in the store below LOCATION, by their bytes
    #[arg(long, value_name = "NAME", help_heading = "Sharing the work")]
    pub(crate) from: Option<String>,
    /// do only the stored names before this one; every name is in exactly one of ranges that adjoin
    #[arg(long, value_name = "NAME", help_heading = "Sharing the work")]
    pub(crate) until: Option<String>,
}

impl RangeArgs {
    /// The range that was typed; an empty border is none.
    ///
    /// # Errors
    /// `Usage` when nothing can be in it.
    pub(crate) fn range(&self) -> Result<Range> {
        let border = |typed: &Option<String>| typed.clone().filter(|name| !name.is_empty());
        let range = Range { from: border(&self.from), until: border(&self.until) };
        match range.is_empty() {
            false => Ok(range),
            true => Err(Error::usage("no name is at or behind --from and before --until")
                .hint("names are compared by their bytes; sidekey report plan-shards makes ranges that fit")),
        }
    }
}

/// Tells a [`Report`] what an operation says.
pub(crate) struct Watcher<'a> {
    report: &'a Report,
    progress: Progress,
    /// What is done to each file, in the past: "encrypted".
    done: &'static str,
    /// What the number of bytes counts.
    bytes: &'static str,
}

#[derive(Serialize)]
struct Done<'a> {
    r#type: &'a str,
    input: String,
    output: String,
}

#[derive(Serialize)]
struct Skipped<'a> {
    r#type: &'a str,
    path: String,
    why: &'a str,
}

#[derive(Serialize)]
struct Totals<'a> {
    r#type: &'a str,
    done: u64,
    skipped: u64,
    failed: u64,
    bytes: u64,
}

impl<'a> Watcher<'a> {
    pub(crate) fn new(report: &'a Report, total: Option<u64>, done: &'static str) -> Self {
        Self { report, progress: report.progress(total), done, bytes: "bytes read" }
    }

    /// The same for files and folders of this machine: when their bytes are counted, the time that is left is shown.
    pub(crate) fn of_files(report: &'a Report, inputs: &[PathBuf], done: &'static str) -> Self {
        let total = total(inputs);
        let mut watcher = Self::new(report, total, done);
        if total.is_none() && inputs != [Path::new("-")] {
            let inputs = inputs.to_vec();
            watcher.progress.count(move |over| total_below(&inputs, over));
        }
        watcher
    }

    /// The same for a run that only tells: `would` is what it would do to each file.
    pub(crate) fn dry_run(report: &'a Report, would: &'static str) -> Self {
        Self { bytes: "bytes", ..Self::new(report, None, would) }
    }

    /// One more file is done, whoever tells of it.
    pub(crate) fn file_done(&self) {
        self.progress.file();
    }

    /// Ends with one line for people, or one JSON object.
    pub(crate) fn finish(self, summary: &Summary) {
        drop(self.progress);
        let totals = Totals {
            r#type: "summary",
            done: summary.done,
            skipped: summary.skipped,
            failed: summary.failed,
            bytes: summary.bytes,
        };
        let mut text =
            format!("{} {}, {} {}", self.done, count(summary.done, "file"), summary.bytes, self.bytes);
        for (count, what) in [(summary.skipped, "skipped"), (summary.failed, "failed")] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        self.report.done(&totals, text);
    }
}

/// `1 file`, `2 files`.
pub(crate) fn count(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

impl Observer for Watcher<'_> {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Bytes(bytes) => self.progress.add(bytes),
            Event::Expected(bytes) => self.progress.expect(bytes),
            Event::Spared(bytes) => self.progress.spare(bytes),
            Event::Done { input, output } => {
                self.progress.file();
                let (input, output) = (input.display().to_string(), output.display().to_string());
                let text = format!("{} {input} to {output}", self.done);
                self.report.each(&Done { r#type: self.done, input, output }, text);
            }
            Event::Skipped { path, why } => {
                let path = path.display().to_string();
                let text = format!("{path}: {why}; skipped");
                self.report.each(&Skipped { r#type: "skipped", path, why }, text);
            }
            Event::Warning { path, message } => self.report.warning(&Error::input(message).at(path)),
            Event::Failed(error) => self.report.failure(error),
            _ => {}
        }
    }
}
