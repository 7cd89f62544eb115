//! `sidekey cat`.

use std::path::{Path, PathBuf};

use sidekey::Result;
use sidekey::ops::atomic::{Mode, Output};
use sidekey::ops::cat::{ByteRange, CatOptions, Source, cat};

use super::from::{From, WhichArgs, identities};
use super::passphrase::PassphraseArgs;
use super::report::Report;
use super::work::{self, RecipeArgs, SuffixArgs, Watcher};

/// print what is in files of a location, or a range of it
///
/// Every byte is authenticated before it is printed. Of a range only the sections that it touches are read; the file's
/// end, which says that it is whole, is authenticated before.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey cat -i backup.pem vault/shop.sql | psql shop
  sidekey cat -i backup.pem vault/disk.img --range 0-511 | file -
  sidekey cat nas:logs/today.log --range -4096")]
pub(crate) struct Args {
    /// files of locations
    #[arg(value_name = "LOCATION", required = true)]
    paths: Vec<PathBuf>,
    /// a private key (repeatable)
    #[arg(short, long, value_name = "FILE")]
    identity: Vec<PathBuf>,
    /// only these bytes, counted from 0: A-B with B itself, A- to the end, -N the last N
    #[arg(long, value_name = "A-B", value_parser = parse_range, allow_hyphen_values = true)]
    range: Option<ByteRange>,
    /// refuse a container that was encrypted under another name than it has
    #[arg(long)]
    strict: bool,
    /// how many threads work; by default one a processor, 16 at most
    #[arg(long, value_name = "N", value_parser = work::parse_jobs)]
    jobs: Option<usize>,
    #[command(flatten)]
    which: WhichArgs,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    suffix: SuffixArgs,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

fn parse_range(text: &str) -> Result<ByteRange, String> {
    text.parse().map_err(|error: sidekey::Error| error.to_string())
}

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        report.stdout_is_data();
        let from = From::open_all(&self.paths)?;
        let options = CatOptions {
            identities: identities(&from, &self.identity, &self.passphrase, report)?,
            which: self.which.which(),
            range: self.range.unwrap_or_default(),
            strict: self.strict,
            recipe: self.recipe.named(),
            jobs: work::jobs(self.jobs),
        };
        let sources: Vec<Source> =
            from.into_iter().map(|from| from.source.with_recipe_suffix(self.suffix.suffix())).collect();
        let mut out = Output::open(Path::new("-"), Mode::Data)?;
        let watcher = Watcher::new(report, None, "printed");
        let summary = cat(&sources, &options, &mut out, &watcher)?;
        watcher.finish(&summary);
        Ok(())
    }
}
