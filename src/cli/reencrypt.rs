//! `sidekey reencrypt`.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::Serialize;
use sidekey::Result;
use sidekey::ops::reencrypt::{ReencryptOptions, ReencryptSummary, journal, reencrypt};
use sidekey::ops::rotate::{Journal, Ledger};

use super::identity::{load_identities, load_recipients};
use super::location::Place;
use super::passphrase::PassphraseArgs;
use super::report::Report;
use super::work::{self, RangeArgs, Watcher};
use super::{config, guard};

/// encrypt what stands in locations anew: new file keys, new contents of containers, new envelopes
///
/// For when envelopes themselves were copied: whoever has one, and its private key, opens that container for ever, and
/// rewrap does not change that. All of it is downloaded and uploaded once more, through memory. Each new pair is read
/// back and compared before its old version goes.
///
/// Only the recipients of --to can open the results: nobody else is carried over. Older versions with other contents are
/// kept, and listed as what is left; --purge-versions deletes them.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey reencrypt nas:photos -i new.pem --to new.pub.pem --dry-run
  sidekey reencrypt b2://bucket/photos -i old.pem -i new.pem --to new.pub.pem --report reencrypt.jsonl
  sidekey reencrypt nas: -i new.pem --to new.pub.pem --to escrow.pub.pem --purge-versions

exit code 4: it is done, but something remains that the private keys open; each is listed")]
pub(crate) struct Args {
    /// locations, or something in them; a path is a location too
    #[arg(value_name = "LOCATION", required = true)]
    locations: Vec<OsString>,
    /// a private key that opens what is there (repeatable)
    #[arg(short, long, value_name = "FILE", required = true)]
    identity: Vec<PathBuf>,
    /// a public key that the results are encrypted for (repeatable)
    #[arg(long, value_name = "FILE", required = true)]
    to: Vec<PathBuf>,
    /// say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// leave the old pairs where they are, as older versions: exit code 4
    #[arg(long, conflicts_with = "purge_versions")]
    no_purge: bool,
    /// delete older versions too, which hold other contents than the current ones: these are lost
    #[arg(long)]
    purge_versions: bool,
    /// append what is done to each container, as JSON lines
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// do everything again, also what an earlier run did
    #[arg(long)]
    no_resume: bool,
    #[command(flatten)]
    range: RangeArgs,
    /// how many threads work; by default one a processor, 16 at most
    #[arg(long, value_name = "N", value_parser = work::parse_jobs)]
    jobs: Option<usize>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

#[derive(Serialize)]
struct Totals<'a> {
    r#type: &'static str,
    dry_run: bool,
    location: String,
    reencrypted: u64,
    not_ours: u64,
    resumed: u64,
    residue: u64,
    failed: u64,
    purged: u64,
    envelopes: u64,
    bytes: u64,
    head: Option<&'a str>,
}

/// What to do after an interrupt.
const AGAIN: &str = "run the same again: what is done already is left as it is";

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        let places: Vec<Place> =
            self.locations.iter().map(|typed| Place::open(typed)).collect::<Result<_>>()?;
        let range = self.range.range()?;
        let recipients = load_recipients(&self.to)?;
        let identities = load_identities(&self.identity, &self.passphrase, report)?;
        let ledger = self.report.as_deref().map(Ledger::open).transpose()?;
        guard::say_when_interrupted(report, AGAIN);
        for (place, typed) in places.iter().zip(&self.locations) {
            let journal = self.journal(place, &identities, &recipients, report);
            let options = ReencryptOptions {
                identities: &identities,
                recipients: &recipients,
                encryption: place.encryption()?,
                range: &range,
                dry_run: self.dry_run,
                purge: !self.no_purge,
                purge_versions: self.purge_versions,
                jobs: place.jobs(self.jobs),
                now: work::now(),
                journal: journal.as_ref(),
                ledger: ledger.as_ref(),
            };
            let watcher =
                Watcher::new(report, None, if self.dry_run { "would reencrypt" } else { "reencrypted" });
            let done = reencrypt(&place.target, &options, &watcher);
            drop(watcher);
            match done {
                Ok(summary) => self.tell(report, &typed.to_string_lossy(), &summary),
                Err(error) => report.failure(&error),
            }
        }
        Ok(())
    }

    /// The journal saves work and nothing else: a run without one is as good.
    fn journal(
        &self,
        place: &Place,
        identities: &[sidekey::keys::PrivateKey],
        recipients: &[sidekey::keys::PublicKey],
        report: &Report,
    ) -> Option<Journal> {
        let folder = config::state_folder().filter(|_| !self.no_resume)?;
        match journal(&folder, &place.target.location, identities, recipients) {
            Ok(journal) => Some(journal),
            Err(error) => {
                report.warning(&error.hint("without a journal a second run does everything again"));
                None
            }
        }
    }

    fn tell(&self, report: &Report, location: &str, summary: &ReencryptSummary) {
        let totals = Totals {
            r#type: "summary",
            dry_run: self.dry_run,
            location: location.to_owned(),
            reencrypted: summary.reencrypted,
            not_ours: summary.not_ours,
            resumed: summary.resumed,
            residue: summary.residue,
            failed: summary.failed,
            purged: summary.purged,
            envelopes: summary.envelopes,
            bytes: summary.bytes,
            head: summary.head.as_deref(),
        };
        let verb = if self.dry_run { "would reencrypt" } else { "reencrypted" };
        report.done(
            &totals,
            format_args!(
                "{location}: {verb} {} of {} bytes; {} were done by an earlier run, {} are not opened by the keys given, {} \
                 have residue, {} failed",
                work::count(summary.reencrypted, "container"),
                summary.bytes,
                summary.resumed,
                summary.not_ours,
                summary.residue,
                summary.failed
            ),
        );
        if !self.dry_run {
            report.note(format_args!(
                "every new pair was read back and compared; deleted {} of containers and {} of envelopes",
                work::count(summary.purged, "old version"),
                summary.envelopes
            ));
        }
        if let Some(head) = &summary.head {
            report.note(format_args!(
                "the report's last line has the hash {head}: keep it apart from the report"
            ));
        }
        if summary.residue > 0 {
            report.remains();
        }
    }
}
