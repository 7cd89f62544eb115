//! `sidekey rewrap`.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::Serialize;
use sidekey::Result;
use sidekey::ops::rewrap::{Prove, RewrapOptions, RewrapSummary, rewrap};
use sidekey::random::{OsRandom, Random as _};
use sidekey::rewrap::Rotation;

use super::identity::{load_identities, load_recipients};
use super::passphrase::PassphraseArgs;
use super::report::Report;
use super::work::{self, RecipeArgs, Watcher};

/// move envelopes from an old private key to new public keys
///
/// Rewrites only the small .key.enc files: each file's key is unwrapped with the old private key, compared with its
/// container where that is there, and wrapped for the new recipients; other recipients stay. At the end the old key is
/// tried on a random sample of 1,000 envelopes, or with --prove all on each. It can be stopped and run again.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey rewrap encrypted/ -i old.pem --to new.pub.pem --dry-run
  sidekey rewrap encrypted/ -i old.pem --to new.pub.pem --to escrow.pub.pem --prove all

exit code 4: it is done, but something remains for the old key or could not be judged; each is listed")]
pub(crate) struct Args {
    /// envelopes and folders of them
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// an old private key: its recipient is dropped (repeatable)
    #[arg(short, long, value_name = "FILE", required = true)]
    identity: Vec<PathBuf>,
    /// a new public key (repeatable)
    #[arg(long, value_name = "FILE", required = true)]
    to: Vec<PathBuf>,
    /// say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// turn key files of the OpenSSL recipe into envelopes: OAEP instead of PKCS#1 v1.5, and several recipients
    #[arg(long, help_heading = "Files of the OpenSSL recipe")]
    adopt: bool,
    #[command(flatten)]
    recipe: RecipeArgs,
    /// on which envelopes the old key is tried at the end
    #[arg(long, value_enum, default_value = "sample")]
    prove: Proof,
    /// how many threads work; by default one a processor, 16 at most
    #[arg(long, value_name = "N", value_parser = work::parse_jobs)]
    jobs: Option<usize>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Proof {
    /// on a random sample of 1,000
    Sample,
    /// on all
    All,
}

#[derive(Serialize)]
struct Totals {
    r#type: &'static str,
    dry_run: bool,
    rewrapped: u64,
    already: u64,
    not_ours: u64,
    residue: u64,
    failed: u64,
    checked: u64,
    unchecked: u64,
    tried: u64,
    opened: u64,
    seed: String,
}

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        let new = load_recipients(&self.to)?;
        let old = load_identities(&self.identity, &self.passphrase, report)?;
        let mut seed = [0; 16];
        OsRandom.fill(&mut seed)?;
        let options = RewrapOptions {
            rotation: Rotation::new(old, new)?,
            dry_run: self.dry_run,
            adopt: self.adopt,
            recipe: self.recipe.named(),
            jobs: work::jobs(self.jobs),
            prove: match self.prove {
                Proof::Sample => Prove::Sample,
                Proof::All => Prove::All,
            },
            seed,
            now: work::now(),
        };
        let watcher = Watcher::new(report, None, "rewrapped");
        let summary = rewrap(&self.paths, &options, &watcher)?;
        drop(watcher);
        tell(report, &options, &summary);
        if summary.residue + summary.opened > 0 {
            report.remains();
        }
        Ok(())
    }
}

fn tell(report: &Report, options: &RewrapOptions, summary: &RewrapSummary) {
    let seed: String = options.seed.iter().map(|byte| format!("{byte:02x}")).collect();
    let totals = Totals {
        r#type: "summary",
        dry_run: options.dry_run,
        rewrapped: summary.rewrapped,
        already: summary.already,
        not_ours: summary.not_ours,
        residue: summary.residue,
        failed: summary.failed,
        checked: summary.checked,
        unchecked: summary.unchecked,
        tried: summary.tried,
        opened: summary.opened,
        seed: seed.clone(),
    };
    let verb = if options.dry_run { "would rewrap" } else { "rewrapped" };
    report.done(
        &totals,
        format_args!(
            "{verb} {} envelopes; {} were done already, {} are not for the old key, {} have residue, {} failed",
            summary.rewrapped, summary.already, summary.not_ours, summary.residue, summary.failed
        ),
    );
    report.note(format_args!(
        "compared {} keys with their containers; for {} the container was not there",
        summary.checked, summary.unchecked
    ));
    if options.dry_run {
        return;
    }
    report.note(format_args!(
        "every rewritten envelope was read back; the old key was tried on {} of {} and opened {} (sample seed {seed})",
        summary.tried,
        summary.rewrapped + summary.already,
        summary.opened
    ));
    if summary.rewrapped > 0 {
        report.note(
            "whoever copied an envelope before now can still open that copy with the old key: where that matters, \
             reencrypt the file, with a new key of its own",
        );
        report.note(
            "keep the old private key until a second run, at least 7 days from now, finds nothing to do",
        );
    }
}
