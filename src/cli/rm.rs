//! `sidekey rm`.

use std::path::PathBuf;

use serde::Serialize;
use sidekey::Result;
use sidekey::location::drive::Removed;
use sidekey::ops::events::{Event, Observer};
use sidekey::ops::remove::{RemoveOptions, RemoveSummary, Source, remove};

use super::filter::FilterArgs;
use super::from::From;
use super::guard;
use super::report::Report;
use super::work::{self, Watcher};

/// remove files and folders from a location
///
/// On a store that keeps versions what is removed is only hidden, until --versions deletes all of it. Elsewhere it is gone.
/// An envelope goes with its container when that was older than a week; a younger one stays, for a late upload may still
/// need it, and sidekey clean removes it later.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey rm vault/Documents/letter.odt
  sidekey rm -r vault/Documents --dry-run
  sidekey rm -r nas:photos/ --include '*.tmp'

Where x is a file and x/ a folder, vault/x.enc is the file. Patterns see names as get would write them. All
that is named is looked up first: when one is not there, nothing is removed.")]
pub(crate) struct Args {
    /// files of locations, and with -r folders
    #[arg(value_name = "LOCATION", required = true)]
    locations: Vec<PathBuf>,
    /// remove all that is in folders
    #[arg(short, long)]
    recursive: bool,
    /// delete every version where the store keeps them, hidden ones too
    #[arg(long)]
    versions: bool,
    /// only tell what would be removed
    #[arg(long)]
    dry_run: bool,
    /// how many threads work; by default one a processor, 16 at most
    #[arg(long, value_name = "N", value_parser = work::parse_jobs)]
    jobs: Option<usize>,
    #[command(flatten)]
    filter: FilterArgs,
}

/// What to do after an interrupt.
const AGAIN: &str = "run the same again to remove the rest";

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        let options = RemoveOptions {
            recursive: self.recursive,
            versions: self.versions,
            filter: self.filter.filter()?,
            dry_run: self.dry_run,
            jobs: work::jobs(self.jobs),
            now: work::now(),
        };
        let sources: Vec<Source> =
            From::open_all(&self.locations)?.into_iter().map(|from| from.source).collect();
        guard::say_when_interrupted(report, AGAIN);
        let removing = Removing { report, watcher: Watcher::new(report, None, "removed") };
        let summary = remove(&sources, &options, &removing)?;
        removing.finish(&summary, self.dry_run);
        Ok(())
    }
}

/// Tells a [`Report`] what is removed; the rest as any command does.
struct Removing<'a> {
    report: &'a Report,
    watcher: Watcher<'a>,
}

#[derive(Serialize)]
struct Gone<'a> {
    r#type: &'a str,
    object: &'a str,
    hidden: bool,
    versions: usize,
    envelopes: usize,
    kept: usize,
}

#[derive(Serialize)]
struct Totals<'a> {
    r#type: &'a str,
    dry_run: bool,
    removed: u64,
    hidden: u64,
    versions: u64,
    envelopes: u64,
    kept: u64,
    skipped: u64,
    failed: u64,
}

impl<'a> Gone<'a> {
    fn new(r#type: &'a str, object: &'a str, removed: &Removed) -> Self {
        Self {
            r#type,
            object,
            hidden: removed.hidden,
            versions: removed.containers.len(),
            envelopes: removed.envelopes.len(),
            kept: removed.kept.len(),
        }
    }
}

impl Observer for Removing<'_> {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Removed { object, removed } => {
                let text = format!("{} {object}", if removed.hidden { "hid" } else { "removed" });
                self.report.each(&Gone::new("removed", object, removed), text);
            }
            Event::WouldRemove { object, removed } => {
                let text =
                    format!("{object}: would be {}", if removed.hidden { "hidden" } else { "removed" });
                self.report.result(&Gone::new("would-remove", object, removed), [text]);
            }
            event => self.watcher.event(event),
        }
    }
}

impl Removing<'_> {
    /// Ends with one line for people, or one JSON object.
    fn finish(self, summary: &RemoveSummary, dry_run: bool) {
        drop(self.watcher);
        let RemoveSummary { removed, hidden, versions, envelopes, kept, skipped, failed, .. } = *summary;
        let totals = Totals {
            r#type: "summary",
            dry_run,
            removed,
            hidden,
            versions,
            envelopes,
            kept,
            skipped,
            failed,
        };
        let would = if dry_run { "would have " } else { "" };
        let mut text = format!("{would}removed {}", work::count(removed, "object"));
        if versions != removed {
            text.push_str(&format!(" ({})", work::count(versions, "version")));
        }
        text.push_str(&format!(" and {}", work::count(envelopes, "envelope")));
        if hidden > 0 {
            text.push_str(&format!(", hidden {}", work::count(hidden, "object")));
        }
        for (count, what) in [(skipped, "skipped"), (failed, "failed")] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        self.report.done(&totals, text);
        if kept > 0 {
            let verb = if kept == 1 { "stays" } else { "stay" };
            self.report.note(format_args!(
                "{} {verb}: what is not long settled may still be needed; sidekey clean removes what nothing needs",
                work::count(kept, "envelope")
            ));
        }
    }
}
