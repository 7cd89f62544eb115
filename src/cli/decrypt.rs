//! `sidekey decrypt`.

use std::io;
use std::path::{Path, PathBuf};

use sidekey::ops::decrypt::{DecryptOptions, decrypt, decrypt_stream};
use sidekey::ops::walk::Destination;
use sidekey::{Error, Result};

use super::exists::{self, ExistsArgs};
use super::guard;
use super::identity::load_identities;
use super::passphrase::PassphraseArgs;
use super::report::Report;
use super::work::{self, RecipeArgs, Watcher};

/// decrypt containers, folders of them or a pipe with a private key
///
/// NAME.enc with its NAME.key.enc becomes NAME again, beside it or below --output, with its time and mode. Every part is
/// authenticated before it is written, and a file gets its name only when all of it was good.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey decrypt -i backup.pem encrypted/ -o restored
  sidekey decrypt -i backup.pem letter.odt.enc
  sidekey decrypt -i backup.pem shop.sql.enc -o - | psql shop

DIR keeps its own name below --output, DIR/ puts its contents there. Results that exist already
are not touched, and fail, without --if-exists or --force.")]
pub(crate) struct Args {
    /// containers and folders of them; - is standard input
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// a private key (repeatable)
    #[arg(short, long, value_name = "FILE")]
    identity: Vec<PathBuf>,
    /// write below this folder, or a single result to this file; - is standard output
    #[arg(short, long, value_name = "DIR|FILE")]
    output: Option<PathBuf>,
    /// the envelope of a single container, when it is not beside it
    #[arg(long, value_name = "FILE")]
    envelope: Option<PathBuf>,
    #[command(flatten)]
    exists: ExistsArgs,
    /// refuse a container that was encrypted under another name than it has
    #[arg(long)]
    strict: bool,
    /// how many threads work; by default one a processor, 16 at most
    #[arg(long, value_name = "N", value_parser = work::parse_jobs)]
    jobs: Option<usize>,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        let stdin = work::is_stdin(&self.paths)?;
        if self.identity.is_empty() {
            return Err(Error::usage("no private key").hint("name one with --identity"));
        }
        if self.output.as_deref() == Some(Path::new("-")) {
            report.stdout_is_data();
        }
        let options = DecryptOptions {
            identities: load_identities(&self.identity, &self.passphrase, report)?,
            destination: match &self.output {
                Some(file) if stdin => Destination::File(file.clone()),
                output => Destination::from_argument(output.as_deref(), &self.paths),
            },
            envelope: self.envelope,
            if_exists: self.exists.value(),
            strict: self.strict,
            recipe: self.recipe.named(),
            jobs: work::jobs(self.jobs),
            now: work::now(),
        };
        guard::say_when_interrupted(report, exists::RESUME);
        let watcher = Watcher::of_files(report, &self.paths, "decrypted");
        let summary = match stdin {
            true => decrypt_stream(io::stdin(), &options, &watcher)?,
            false => decrypt(&self.paths, &options, &watcher)?,
        };
        watcher.finish(&summary);
        Ok(())
    }
}
