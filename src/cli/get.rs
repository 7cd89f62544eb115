//! `sidekey get`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;
use sidekey::ops::events::{Event, Observer};
use sidekey::ops::get::{GetOptions, Overwrite, Source, get};
use sidekey::{Error, Result};

use super::filter::FilterArgs;
use super::from::{From, WhichArgs, identities};
use super::guard;
use super::passphrase::PassphraseArgs;
use super::report::Report;
use super::work::{self, RecipeArgs, SuffixArgs, Watcher};

/// get files and folders out of a location, decrypted with a private key
///
/// Every part is authenticated before it is written, and a file gets its name only when all of it was good, with its time
/// and mode. A big file that is interrupted leaves a part file beside its target, .NAME.sidekey-part, and the same
/// command goes on with it. Symlinks are made last.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey get -i backup.pem vault/Documents/letter.odt .    the file ./letter.odt
  sidekey get -i backup.pem vault/Documents restored/       restored/Documents/...
  sidekey get -i backup.pem vault/ restored                 what is in vault/, below restored/
  sidekey get nas:photos/ photos --overwrite if-different   what is missing there, or differs
  sidekey get -i backup.pem vault/shop.sql - | psql shop

  LOCATION   DEST              makes
  vault/x    x                 the file x
  vault/x    x/, or a folder   the file x below it
  vault/d    anything          the folder d and what is in it, below DEST
  vault/d/   anything          what is in d, below DEST

The last argument says where to put it, all others are locations. Where x is a file and x/ a
folder, vault/x.enc is the file. Patterns see names as they will be below DEST. After exit code 3
something is damaged or missing, and all else is there.")]
pub(crate) struct Args {
    /// files and folders of locations, then where to put them; - is standard output
    #[arg(value_name = "LOCATION... DEST", required = true)]
    paths: Vec<PathBuf>,
    /// a private key (repeatable)
    #[arg(short, long, value_name = "FILE")]
    identity: Vec<PathBuf>,
    /// what to do with files that are there already
    #[arg(long, value_enum, default_value = "never")]
    overwrite: OverwriteName,
    /// only tell what would be restored
    #[arg(long)]
    dry_run: bool,
    /// do not keep what was written of big files when it is interrupted, and do not go on with what was kept
    #[arg(long)]
    no_resume: bool,
    /// restore damaged files as far as they are good, with zeros where they are not
    #[arg(long)]
    salvage: bool,
    /// refuse a container that was encrypted under another name than it has
    #[arg(long)]
    strict: bool,
    /// how many threads work; by default as many as the store takes requests, 16 at most
    #[arg(long, value_name = "N", value_parser = work::parse_jobs)]
    jobs: Option<usize>,
    #[command(flatten)]
    which: WhichArgs,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    suffix: SuffixArgs,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OverwriteName {
    /// replace them
    Always,
    /// replace them where size and time, or the contents, are not the same
    IfDifferent,
    /// leave them: an error
    Never,
}

/// What to do after an interrupt.
const RESUME: &str = "run the same again with --overwrite if-different to go on where it stopped";

impl Args {
    pub(crate) fn run(mut self, report: &Report) -> Result<()> {
        let Some(destination) = self.paths.pop().filter(|_| !self.paths.is_empty()) else {
            return Err(
                Error::usage("DEST is missing").hint("the last argument says where to put the others")
            );
        };
        if destination == Path::new("-") {
            report.stdout_is_data();
        }
        let from = From::open_all(&self.paths)?;
        let options = GetOptions {
            identities: match self.dry_run {
                true => vec![],
                false => identities(&from, &self.identity, &self.passphrase, report)?,
            },
            which: self.which.which(),
            overwrite: match self.overwrite {
                OverwriteName::Always => Overwrite::Always,
                OverwriteName::IfDifferent => Overwrite::IfDifferent,
                OverwriteName::Never => Overwrite::Never,
            },
            filter: self.filter.filter()?,
            strict: self.strict,
            resume: !self.no_resume,
            salvage: self.salvage,
            dry_run: self.dry_run,
            recipe: self.recipe.named(),
            jobs: self.jobs.or_else(work::jobs_configured),
        };
        guard::say_when_interrupted(report, RESUME);
        let done = if self.dry_run { "would restore" } else { "restored" };
        let watcher = Getting { report, watcher: Watcher::new(report, None, done), dry_run: self.dry_run };
        let sources: Vec<Source> =
            from.into_iter().map(|from| from.source.with_recipe_suffix(self.suffix.suffix())).collect();
        let summary = get(&sources, &destination, &options, &watcher)?;
        watcher.watcher.finish(&summary);
        Ok(())
    }
}

/// Tells a [`Report`] what is restored; the rest as any command does.
pub(super) struct Getting<'a> {
    pub(super) report: &'a Report,
    pub(super) watcher: Watcher<'a>,
    pub(super) dry_run: bool,
}

#[derive(Serialize)]
struct WouldGet<'a> {
    r#type: &'a str,
    object: &'a str,
    output: String,
    size: u64,
    replaces: bool,
}

#[derive(Serialize)]
struct Resumed<'a> {
    r#type: &'a str,
    output: String,
    bytes: u64,
}

#[derive(Serialize)]
struct Lost<'a> {
    r#type: &'a str,
    output: String,
    start: u64,
    end: u64,
}

#[derive(Serialize)]
struct Skipped<'a> {
    r#type: &'a str,
    path: String,
    why: &'a str,
}

impl Observer for Getting<'_> {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::WouldGet { object, output, size, replaces } => {
                let output = output.display().to_string();
                let text =
                    format!("{object}: {} {output}", if replaces { "would replace" } else { "would become" });
                let value = WouldGet { r#type: "would-get", object, output, size, replaces };
                self.report.result(&value, [text]);
            }
            Event::Skipped { path, why } if self.dry_run => {
                let path = path.display().to_string();
                let text = format!("{path}: {why}; skipped");
                self.report.result(&Skipped { r#type: "skipped", path, why }, [text]);
            }
            Event::Resumed { output, bytes } => {
                let output = output.display().to_string();
                let text = format!("{output}: {bytes} bytes are there already; going on behind them");
                self.report.done(&Resumed { r#type: "resumed", output, bytes }, text);
            }
            Event::Lost { output, range } => {
                let text =
                    format!("bytes {} to {} are lost, and zeros stand there", range.start, range.end - 1);
                let warning = Error::integrity(text).at(output);
                let output = output.display().to_string();
                let lost = Lost { r#type: "lost", output, start: range.start, end: range.end };
                self.report.warning_with(&lost, &warning);
            }
            event => self.watcher.event(event),
        }
    }
}
