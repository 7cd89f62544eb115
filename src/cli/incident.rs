//! `sidekey incident`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::thread::available_parallelism;

use serde::Serialize;
use sidekey::location::argument::Service;
use sidekey::location::range::Range;
use sidekey::ops::audit::Subject;
use sidekey::ops::inventory::{Calls, Inventory, Prices, inventory};
use sidekey::ops::rewrap::Prove;
use sidekey::ops::rotate::Ledger;
use sidekey::random::{OsRandom, Random as _};
use sidekey::recipe::Named;
use sidekey::rewrap::Rotation;
use sidekey::{Error, ErrorKind, Result};

use super::identity::{load_identities, load_recipients};
use super::location::Place;
use super::passphrase::PassphraseArgs;
use super::report::Report;
use super::rewrap::{Locations, rotate_location};
use super::work;
use super::{audit, guard, prompt};

/// a private key leaked: count, plan, rewrap, purge, audit, and say what cannot be undone
///
/// Does for all locations that are named what rewrap and audit do, one after the other, and asks once before anything is
/// changed, when it is known how much there is and what it takes. It can be stopped and run again.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey incident -i old.pem --to new.pub.pem nas:photos b2://bucket/archive --dry-run
  sidekey incident -i old.pem --to new.pub.pem nas:photos b2://bucket/archive --report incident.jsonl

exit code 4: it is done, but something remains for the old key or could not be judged; each is listed")]
pub(crate) struct Args {
    /// locations; a path is a location too
    #[arg(value_name = "LOCATION", required = true)]
    locations: Vec<OsString>,
    /// the private key that leaked (repeatable)
    #[arg(short, long, value_name = "FILE", required = true)]
    identity: Vec<PathBuf>,
    /// a new public key (repeatable)
    #[arg(long, value_name = "FILE", required = true)]
    to: Vec<PathBuf>,
    /// show the plan, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// do not ask before anything is changed
    #[arg(short, long)]
    yes: bool,
    /// append what is done to each envelope, as JSON lines
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// how many threads work; by default one a processor, 16 at most
    #[arg(long, value_name = "N", value_parser = work::parse_jobs)]
    jobs: Option<usize>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

#[derive(Serialize)]
struct PlanRow<'a> {
    r#type: &'static str,
    location: &'a str,
    names: u64,
    containers: u64,
    old_containers: u64,
    bytes: u64,
    envelopes: u64,
    old_envelopes: u64,
    others: u64,
    failed: u64,
    rewrap: Estimate,
    reencrypt: Estimate,
}

#[derive(Serialize)]
struct Estimate {
    writes: u64,
    reads: u64,
    deletes: u64,
    lists: u64,
    bytes: u64,
    seconds: u64,
    dollars: Option<f64>,
    prices_of: Option<&'static str>,
}

/// What to do after an interrupt.
const AGAIN: &str = "run the same again: it goes on where it was stopped";

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        let places: Vec<Place> =
            self.locations.iter().map(|typed| Place::open(typed)).collect::<Result<_>>()?;
        let new = load_recipients(&self.to)?;
        let old = load_identities(&self.identity, &self.passphrase, report)?;
        let subject = Subject::Keys(old.iter().map(|key| key.share()).collect::<Result<_>>()?);
        let rotation = Rotation::new(old, new)?;
        for (place, typed) in places.iter().zip(&self.locations) {
            let found = inventory(&place.target)?;
            show_plan(report, &typed.to_string_lossy(), place, &found, place.jobs(self.jobs));
        }
        if self.dry_run {
            report.note("nothing was changed");
            return Ok(());
        }
        self.ask()?;
        guard::say_when_interrupted(report, AGAIN);
        let mut seed = [0; 16];
        OsRandom.fill(&mut seed)?;
        let ledger = self.report.as_deref().map(Ledger::open).transpose()?;
        let how = Locations {
            rotation: &rotation,
            range: Range::default(),
            dry_run: false,
            purge: true,
            compare: true,
            resume: true,
            jobs: self.jobs,
            prove: Prove::Sample,
            seed,
            ledger: ledger.as_ref(),
            adopt: false,
            recipe: Named::default(),
            suffix: None,
        };
        for (place, typed) in places.iter().zip(&self.locations) {
            if let Err(error) = rotate_location(place, &typed.to_string_lossy(), &how, report) {
                report.failure(&error);
            }
        }
        let mut clean = true;
        for (place, typed) in places.iter().zip(&self.locations) {
            clean &= audit::check(place, typed, &subject, self.jobs, report);
        }
        for line in cannot_be_undone(clean) {
            report.note(line);
        }
        Ok(())
    }

    fn ask(&self) -> Result<()> {
        if self.yes {
            return Ok(());
        }
        match prompt::agreed("rewrap all of this, and delete what the old key opens?")? {
            Some(true) => Ok(()),
            Some(false) => Err(Error::new(ErrorKind::Interrupted, "nothing was changed")),
            None => Err(Error::usage("there is no terminal to ask on, and nothing was changed")
                .hint("--yes goes on without asking")),
        }
    }
}

fn cannot_be_undone(clean: bool) -> Vec<&'static str> {
    let mut lines = vec![
        "what cannot be undone:",
        "  envelopes that were copied before now: with the old private key each opens its container for ever. Where that may \
         have happened, sidekey reencrypt gives the files new keys",
        "  what was read with the old key already, and copies of the bucket elsewhere: replicas, backups, disks",
        "  hosts that still have the old public key go on writing for it: change them now, and run sidekey rewrap again \
         after at least 7 days",
    ];
    if clean {
        lines.push("keep the old private key until that run finds nothing to do; then destroy it");
    }
    lines
}

fn show_plan(report: &Report, location: &str, place: &Place, found: &Inventory, jobs: usize) {
    let service = service_of(place);
    let cores = available_parallelism().map_or(1, usize::from).min(jobs.max(1));
    let estimate = |calls: &Calls| {
        let prices = service.map(Prices::of);
        Estimate {
            writes: calls.writes,
            reads: calls.reads,
            deletes: calls.deletes,
            lists: calls.lists,
            bytes: calls.bytes,
            seconds: calls.duration(AT_ONCE, cores, service.is_some()).as_secs(),
            dollars: prices.map(|prices| calls.dollars(&prices)),
            prices_of: prices.map(|prices| prices.as_of),
        }
    };
    let row = PlanRow {
        r#type: "plan",
        location,
        names: found.names,
        containers: found.containers,
        old_containers: found.old_containers,
        bytes: found.bytes,
        envelopes: found.envelopes,
        old_envelopes: found.old_envelopes,
        others: found.others,
        failed: found.failed,
        rewrap: estimate(&Calls::of_rewrap(found, true)),
        reencrypt: estimate(&Calls::of_reencrypt(found)),
    };
    let lines = [
        format!(
            "{location}: {} envelopes and {} older versions of them, for {} containers ({} of them older versions; the \
             current ones are {} bytes)",
            found.envelopes, found.old_envelopes, found.containers, found.old_containers, found.bytes
        ),
        format!("{location}: rewrap and audit take at most {}", told(&row.rewrap)),
        format!("{location}: reencrypt would take {} (not part of this)", told(&row.reencrypt)),
    ];
    report.result(&row, lines);
}

/// How many calls to a service are taken to be under way at a time.
const AT_ONCE: usize = 64;

fn told(estimate: &Estimate) -> String {
    let Estimate { writes, reads, deletes, lists, bytes, seconds, dollars, prices_of } = estimate;
    let mut text = format!(
        "{writes} writes, {reads} reads, {deletes} deletions, {lists} listings, {bytes} bytes; about {} minutes",
        seconds.div_ceil(60).max(1)
    );
    if let (Some(dollars), Some(prices_of)) = (dollars, prices_of) {
        text.push_str(&format!(
            "; calls for about ${dollars:.2} by the prices of {prices_of}, traffic not counted"
        ));
    }
    text
}

fn service_of(place: &Place) -> Option<Service> {
    let shown = place.target.location.show("");
    [Service::B2, Service::S3]
        .into_iter()
        .find(|service| shown.starts_with(&format!("{}://", service.scheme())))
}
