//! `sidekey clean`.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use sidekey::ops::clean::{CleanOptions, CleanSummary, LeftoverKind, Planned, plan};
use sidekey::{Error, Result, rfc3339};

use super::location::Place;
use super::prompt;
use super::report::Report;
use super::work::{self, Watcher};

/// delete what nothing needs: envelopes without a container, and what was never finished
///
/// It first shows what it would delete, and then asks. An envelope goes when every version of its container was read, none
/// needs it, and it is older than 30 days by the location's own clock. Uploads that were never finished and the part files
/// of get, .NAME.sidekey-part, go when they are older than --age. In a vault the records of long names that nothing has any more are set aside, and go 30
/// days after that. What cannot be read is never deleted.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey clean vault/ --dry-run
  sidekey clean vault/ --yes
  sidekey clean restored/ --age 1d     part files of interrupted gets")]
pub(crate) struct Args {
    /// a location, or a folder in one
    #[arg(value_name = "LOCATION")]
    location: PathBuf,
    /// leave unfinished uploads and part files that are younger: 12h, 30d
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = parse_age)]
    age: Duration,
    /// only tell what would be deleted
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// delete it without asking
    #[arg(short, long)]
    yes: bool,
}

fn parse_age(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "is not a time like 12h or 30d".to_owned())
}

#[derive(Serialize)]
struct Shown<'a> {
    r#type: &'a str,
    kind: &'a str,
    object: &'a str,
    since: String,
}

#[derive(Serialize)]
struct Totals<'a> {
    r#type: &'a str,
    dry_run: bool,
    planned: u64,
    envelopes: u64,
    uploads: u64,
    parts: u64,
    names: u64,
    kept: u64,
    failed: u64,
}

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        let place = Place::open(self.location.as_os_str())?;
        let now = work::now();
        let watcher = Watcher::new(report, None, "cleaned");
        let plan = plan(&place.target, CleanOptions { age: self.age, now }, &watcher)?;
        drop(watcher);
        let mut planned = 0;
        for leftover in plan.deletions() {
            planned += 1;
            let age = age(leftover.since, now);
            let text = format!("{}: {}, {age} old", leftover.object, what(leftover.kind));
            report.result(&shown("would-delete", &leftover), [text]);
        }
        if planned == 0 || self.dry_run {
            report.done(
                &totals(true, planned, &CleanSummary::default()),
                match planned {
                    0 => "there is nothing to clean up".to_owned(),
                    _ => format!("would delete {}", work::count(planned, "leftover")),
                },
            );
            return Ok(());
        }
        if !self.yes && !agreed(planned)? {
            report.note("nothing was deleted");
            return Ok(());
        }
        let summary = plan.clean(&mut |leftover, done| match done {
            Ok(true) => report.each(&shown("deleted", leftover), format!("deleted {}", leftover.object)),
            Ok(false) => {
                report.each(
                    &shown("kept", leftover),
                    format!("{}: changed in the meantime; kept", leftover.object),
                );
            }
            Err(error) => report.failure(&error.about(&leftover.object)),
        })?;
        report.done(&totals(false, planned, &summary), tell(&summary));
        Ok(())
    }
}

/// Whether the user agrees, on the terminal.
///
/// # Errors
/// `Usage` where nobody can be asked.
fn agreed(planned: u64) -> Result<bool> {
    let question = format!("delete {}?", work::count(planned, "leftover"));
    prompt::agreed(&question)?.ok_or_else(|| {
        Error::usage("nothing was deleted: there is no terminal to ask on")
            .hint("--yes deletes without asking, --dry-run only tells")
    })
}

fn shown<'a>(r#type: &'a str, leftover: &'a Planned) -> Shown<'a> {
    let kind = match leftover.kind {
        LeftoverKind::Envelope => "envelope",
        LeftoverKind::Upload => "upload",
        LeftoverKind::Part => "part",
        LeftoverKind::Name => "name",
    };
    let since = rfc3339(leftover.since);
    Shown { r#type, kind, object: &leftover.object, since }
}

fn what(kind: LeftoverKind) -> &'static str {
    match kind {
        LeftoverKind::Envelope => "an envelope without a container",
        LeftoverKind::Upload => "never finished",
        LeftoverKind::Part => "what an interrupted get left to go on with",
        LeftoverKind::Name => "the record of a long name that nothing has",
    }
}

/// `3 days`, `5 hours`.
fn age(since: SystemTime, now: SystemTime) -> String {
    let seconds = now.duration_since(since).unwrap_or_default().as_secs();
    match seconds / 86_400 {
        0 => work::count(seconds / 3_600, "hour"),
        days => work::count(days, "day"),
    }
}

fn totals(dry_run: bool, planned: u64, summary: &CleanSummary) -> Totals<'static> {
    Totals {
        r#type: "summary",
        dry_run,
        planned,
        envelopes: summary.envelopes,
        uploads: summary.uploads,
        parts: summary.parts,
        names: summary.names,
        kept: summary.kept,
        failed: summary.failed,
    }
}

fn tell(summary: &CleanSummary) -> String {
    let mut text = format!("deleted {}", work::count(summary.deleted(), "leftover"));
    for (count, what) in
        [(summary.kept, "kept, for they changed in the meantime"), (summary.failed, "failed")]
    {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text
}
