//! `sidekey recipients`.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::Serialize;
use sidekey::ops::recipients::{Recipients, recipients};
use sidekey::ops::rewrap::Prove;
use sidekey::ops::rotate::{Ledger, RotateOptions, RotateSummary, rotate};
use sidekey::recipe::Named;
use sidekey::rewrap::Rotation;
use sidekey::{KeyId, Result};

use super::guard;
use super::identity::{load_identities, load_recipients};
use super::location::Place;
use super::passphrase::PassphraseArgs;
use super::report::Report;
use super::vaults;
use super::work::{self, RangeArgs, Watcher};

/// show, add and remove those who can open a location
///
/// Only the envelopes are rewritten, as rewrap does it. This changes what is stored; for whom new files are encrypted says
/// --recipient, or the configuration.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey recipients vault/ list
  sidekey recipients nas:photos add --to escrow.pub.pem -i backup.pem
  sidekey recipients nas:photos remove 9ab1…64 hex digits… -i backup.pem

exit code 4: it is done, but something remains or could not be judged; each is listed")]
pub(crate) struct Args {
    /// a location, or something in one
    #[arg(value_name = "LOCATION")]
    location: OsString,
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// count the envelopes of each recipient, by their labels
    List {
        /// how many threads work; by default one a processor, 16 at most
        #[arg(long, value_name = "N", value_parser = work::parse_jobs)]
        jobs: Option<usize>,
        #[command(flatten)]
        range: RangeArgs,
    },
    /// add recipients to every envelope
    Add {
        /// a public key to add (repeatable)
        #[arg(long, value_name = "FILE", required = true)]
        to: Vec<PathBuf>,
        #[command(flatten)]
        change: Change,
    },
    /// remove recipients from every envelope, older versions included
    Remove {
        /// key ids of 64 hex digits, as list shows them
        #[arg(value_name = "ID", required = true)]
        ids: Vec<KeyId>,
        #[command(flatten)]
        change: Change,
    },
}

// Not a doc comment: clap would make it the description of the commands that take these options.
// How recipients are changed.
#[derive(clap::Args, Debug)]
struct Change {
    /// a private key that opens the envelopes, of a recipient who stays (repeatable)
    #[arg(short, long, value_name = "FILE", required = true)]
    identity: Vec<PathBuf>,
    /// say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// append what is done to each envelope, as JSON lines
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// how many threads work; by default one a processor, 16 at most
    #[arg(long, value_name = "N", value_parser = work::parse_jobs)]
    jobs: Option<usize>,
    #[command(flatten)]
    range: RangeArgs,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

#[derive(Serialize)]
struct Row<'a> {
    r#type: &'a str,
    key_id: String,
    envelopes: u64,
    old_versions: u64,
}

#[derive(Serialize)]
struct Listed<'a> {
    r#type: &'a str,
    envelopes: u64,
    old_versions: u64,
    recipe: u64,
    failed: u64,
}

#[derive(Serialize)]
struct Changed<'a> {
    r#type: &'a str,
    dry_run: bool,
    changed: u64,
    already: u64,
    not_opened: u64,
    residue: u64,
    failed: u64,
    checked: u64,
    unchecked: u64,
    purged: u64,
    head: Option<&'a str>,
}

/// What to do after an interrupt.
const AGAIN: &str = "run the same again: what is done already is left as it is";

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        let place = Place::open(&self.location)?;
        match self.action {
            Action::List { jobs, range } => {
                let watcher = Watcher::new(report, None, "read");
                let found = recipients(&place.target, &range.range()?, place.jobs(jobs), &watcher)?;
                drop(watcher);
                show(report, &found);
                Ok(())
            }
            Action::Add { to, change } => {
                let new = load_recipients(&to)?;
                change.run(&place, report, |keys| Rotation::among(keys, new, &[]))
            }
            Action::Remove { ids, change } => {
                change.run(&place, report, |keys| Rotation::among(keys, vec![], &ids))
            }
        }
    }
}

impl Change {
    fn run(
        self,
        place: &Place,
        report: &Report,
        rotation: impl FnOnce(Vec<sidekey::keys::PrivateKey>) -> Result<Rotation>,
    ) -> Result<()> {
        let rotation = rotation(load_identities(&self.identity, &self.passphrase, report)?)?;
        let ledger = self.report.as_deref().map(Ledger::open).transpose()?;
        guard::say_when_interrupted(report, AGAIN);
        let range = self.range.range()?;
        let options = RotateOptions {
            adopt: false,
            recipe: Named::default(),
            rotation: &rotation,
            range: &range,
            dry_run: self.dry_run,
            purge: true,
            compare: true,
            jobs: place.jobs(self.jobs),
            // The keys stay, so there is nothing to try.
            prove: Prove::Sample,
            seed: [0; 16],
            now: work::now(),
            journal: None,
            ledger: ledger.as_ref(),
        };
        let watcher = Watcher::new(report, None, "rewrapped");
        let summary = rotate(&place.target, &options, &watcher)?;
        drop(watcher);
        tell(report, self.dry_run, &summary);
        if !self.dry_run {
            vaults::follow(place, &rotation, report)?;
        }
        if summary.residue + summary.not_ours > 0 {
            report.remains();
        }
        Ok(())
    }
}

fn show(report: &Report, found: &Recipients) {
    for (key_id, share) in &found.keys {
        let key_id = key_id.to_string();
        let (envelopes, old_versions) = (share.envelopes, share.old_versions);
        let text = format!("{key_id}  {}{}", work::count(envelopes, "envelope"), older(old_versions));
        report.result(&Row { r#type: "recipient", key_id, envelopes, old_versions }, [text]);
    }
    let totals = Listed {
        r#type: "total",
        envelopes: found.all.envelopes,
        old_versions: found.all.old_versions,
        recipe: found.recipe,
        failed: found.failed,
    };
    let mut text =
        format!("{}{}", work::count(found.all.envelopes, "envelope"), older(found.all.old_versions));
    for (count, what) in
        [(found.recipe, "key files of the OpenSSL recipe, which name nobody"), (found.failed, "failed")]
    {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    report.done(&totals, text);
}

fn older(versions: u64) -> String {
    match versions {
        0 => String::new(),
        versions => format!(" and {}", work::count(versions, "older version")),
    }
}

fn tell(report: &Report, dry_run: bool, summary: &RotateSummary) {
    let totals = Changed {
        r#type: "summary",
        dry_run,
        changed: summary.rewrapped,
        already: summary.already,
        not_opened: summary.not_ours,
        residue: summary.residue,
        failed: summary.failed,
        checked: summary.checked,
        unchecked: summary.unchecked,
        purged: summary.purged,
        head: summary.head.as_deref(),
    };
    let verb = if dry_run { "would change" } else { "changed" };
    let text = format!(
        "{verb} {}; {} were so already, {} are not opened by the keys given, {} have residue, {} failed",
        work::count(summary.rewrapped, "envelope"),
        summary.already,
        summary.not_ours,
        summary.residue,
        summary.failed
    );
    report.done(&totals, text);
    if summary.rewrapped > 0 && !dry_run {
        report.note("who was removed can still open what they copied before; new files need --recipient too");
    }
}
