//! `sidekey sync`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;
use sidekey::format::section::DigestKind;
use sidekey::location::RESERVED;
use sidekey::location::argument::{Argument, Target as LocationTarget};
use sidekey::location::drive::IfExists;
use sidekey::ops::events::{Event, Observer};
use sidekey::ops::filter::Filter;
use sidekey::ops::get::{GetOptions, Overwrite, Which};
use sidekey::ops::put::{PutOptions, Target};
use sidekey::ops::sync::{Change, Compare, SyncOptions, SyncSummary, between, pull, push};
use sidekey::recipe::Named;
use sidekey::{Error, Result};

use super::config;
use super::filter::FilterArgs;
use super::from::{From, identities};
use super::guard;
use super::location::Place;
use super::passphrase::PassphraseArgs;
use super::report::{Progress, Report};
use super::vaults;
use super::work::{self, count};

/// make a location like a folder, or a folder like a location, moving only what differs
///
/// What is in SRC goes into DST. The location is listed once; what both sides had alike the last time is remembered in a
/// database of this machine, so that nothing unchanged is read or moved. Files are stored as by put and restored as by get.
/// What is gone in SRC stays in DST unless --delete is given. An interrupted run is gone on with by the next.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey sync -r backup.pub.pem ~/Documents b2://bucket/Documents
  sidekey sync ~/Documents nas:Documents --delete --dry-run
  sidekey sync photos nas:photos --delete --keep-days 90 --exclude '*.tmp' --bwlimit 2M
  sidekey sync -i backup.pem b2://bucket/Documents restored
  sidekey sync -i backup.pem file:///mnt/disk/vault restored --delete
  sidekey sync -i backup.pem -r other.pub.pem nas:photos b2://bucket/photos

A URL (file:///DIR too), NAME:PATH of a configured remote, and a folder that holds .sidekey are
locations. Of two plain folders the second is the location. From one location into another all that
differs is decrypted and encrypted again in memory.

With --dry-run and with -v each line is a name: + new, ~ changed, > moved, - removed.

A file counts as changed when its size or time differ from those that are remembered; where only its
inode differs its contents are compared. Owners, extended attributes, hard links and holes of sparse
files are not kept. Patterns see names as they are below SRC; what they leave out is left alone.")]
pub(crate) struct Args {
    /// what to copy: a folder, or a location
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// what becomes like it: a location, or a folder
    #[arg(value_name = "DST")]
    destination: PathBuf,
    /// a public key that what is stored is encrypted for (repeatable)
    #[arg(short, long, value_name = "FILE")]
    recipient: Vec<PathBuf>,
    /// a private key, to restore (repeatable)
    #[arg(short, long, value_name = "FILE")]
    identity: Vec<PathBuf>,
    /// remove from DST what is gone in SRC; where versions are kept it is hidden
    #[arg(long)]
    delete: bool,
    /// remove for good what was hidden or replaced in DST more than N days ago; only where versions are kept
    #[arg(long, value_name = "N", requires = "delete")]
    keep_days: Option<u32>,
    /// do nothing at all when more than N objects would be removed
    #[arg(long, value_name = "N", requires = "delete")]
    max_delete: Option<u64>,
    /// with --delete: remove everything, too, because SRC is empty
    #[arg(long, requires = "delete")]
    force: bool,
    /// how changes are noticed
    #[arg(long, value_enum, default_value = "size-mtime")]
    compare: CompareName,
    /// only tell what would be done
    #[arg(long)]
    dry_run: bool,
    /// how many threads work; by default one a processor, 16 at most
    #[arg(long, value_name = "N", value_parser = work::parse_jobs)]
    jobs: Option<usize>,
    /// the most bytes a second to send to and fetch from the location: 500K, 2M
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    bwlimit: Option<u64>,
    /// keep the times and modes of all folders, not only of empty ones
    #[arg(long)]
    folder_metadata: bool,
    #[command(flatten)]
    filter: FilterArgs,
    /// leave out folders that a CACHEDIR.TAG marks as caches
    #[arg(long, help_heading = "Which files")]
    exclude_caches: bool,
    /// do not enter other file systems
    #[arg(long, help_heading = "Which files")]
    one_file_system: bool,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CompareName {
    /// by size and time
    SizeMtime,
    /// by contents: every file is read, and another time alone is no change
    Digest,
}

/// What to do after an interrupt.
const AGAIN: &str = "run the same again to go on where it stopped";

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        for path in [&self.source, &self.destination] {
            if path == Path::new("-") {
                return Err(
                    Error::usage("- cannot be synchronised").hint("write ./- for a folder of that name")
                );
            }
        }
        let from_location = is_location(&self.source)?;
        let to_location = is_location(&self.destination)?;
        match (from_location, to_location) {
            (false, _) => self.push(report),
            (true, false) => self.pull(report),
            (true, true) => self.between(report),
        }
    }

    fn push(self, report: &Report) -> Result<()> {
        let (put, options) = self.put_options(report)?;
        guard::say_when_interrupted(report, AGAIN);
        let watcher = Syncing::new(report, self.dry_run);
        let summary = push(&self.source, &put, &options, &watcher)?;
        watcher.finish(&summary, self.delete);
        Ok(())
    }

    fn between(self, report: &Report) -> Result<()> {
        let (target, get) = self.get_options(report)?;
        let (put, options) = self.put_options(report)?;
        guard::say_when_interrupted(report, AGAIN);
        let watcher = Syncing::new(report, self.dry_run);
        let summary = between(&target, &get, &put, &options, &watcher)?;
        watcher.finish(&summary, self.delete);
        Ok(())
    }

    /// How to store in the location that is DST.
    fn put_options(&self, report: &Report) -> Result<(PutOptions, SyncOptions)> {
        let place = match self.dry_run {
            true => Place::open(self.destination.as_os_str())?,
            false => Place::open_to_write(self.destination.as_os_str())?,
        };
        let state = config::state_folder();
        let location = match self.bwlimit {
            Some(rate) => place.target.location.limited(rate),
            None => place.target.location.clone(),
        };
        let except = place.folder.as_ref().map(|folder| folder.join(place.target.stored_prefix()));
        let jobs = place.jobs(self.jobs);
        let put = PutOptions {
            recipients: place.recipients(&self.recipient, report)?,
            target: Target::Below(place.target.path.clone()),
            location,
            if_exists: IfExists::Replace,
            filter: Filter::default(),
            exclude_caches: false,
            one_file_system: false,
            follow: false,
            folder_metadata: self.folder_metadata,
            digest: DigestKind::Sha256,
            encryption: place.encryption()?,
            jobs,
            dry_run: false,
            // A folder keeps nothing of an upload that dies.
            journals: state.clone().filter(|_| place.folder.is_none()).map(|state| state.join("uploads")),
            now: work::now(),
            except,
        };
        Ok((put, self.options(jobs)?))
    }

    fn pull(self, report: &Report) -> Result<()> {
        let (target, get) = self.get_options(report)?;
        let options = self.options(work::jobs(self.jobs))?;
        guard::say_when_interrupted(report, AGAIN);
        let watcher = Syncing::new(report, self.dry_run);
        let summary = pull(&target, &self.destination, &get, &options, &watcher)?;
        watcher.finish(&summary, self.delete);
        Ok(())
    }

    /// The location that is SRC, and how to read it.
    fn get_options(&self, report: &Report) -> Result<(LocationTarget, GetOptions)> {
        let from = From::open(&self.source)?;
        let mut target: LocationTarget = from.source.folder.clone();
        if let Some(rate) = self.bwlimit {
            target.location = target.location.limited(rate);
        }
        let get = GetOptions {
            identities: match self.dry_run {
                true => vec![],
                false => identities(std::slice::from_ref(&from), &self.identity, &self.passphrase, report)?,
            },
            which: Which::Current,
            overwrite: Overwrite::Always,
            filter: Filter::default(),
            strict: false,
            resume: true,
            salvage: false,
            dry_run: false,
            recipe: Named::default(),
            jobs: self.jobs.or_else(work::jobs_configured),
        };
        Ok((target, get))
    }

    fn options(&self, jobs: usize) -> Result<SyncOptions> {
        let state = config::state_folder().ok_or_else(|| {
            Error::usage("there is no place to remember what both sides have")
                .hint("set HOME or XDG_STATE_HOME to a folder of yours")
        })?;
        Ok(SyncOptions {
            compare: match self.compare {
                CompareName::SizeMtime => Compare::SizeMtime,
                CompareName::Digest => Compare::Digest,
            },
            delete: self.delete,
            keep_days: self.keep_days,
            max_delete: self.max_delete,
            force: self.force,
            filter: self.filter.filter()?,
            exclude_caches: self.exclude_caches,
            one_file_system: self.one_file_system,
            dry_run: self.dry_run,
            jobs,
            state: state.join("sync"),
            now: work::now(),
        })
    }
}

/// Whether what was typed is a location by itself.
fn is_location(typed: &Path) -> Result<bool> {
    Ok(match Argument::parse(typed.as_os_str())? {
        Argument::Remote(..) | Argument::Service(..) => true,
        Argument::Local(path) => {
            path.as_os_str() != typed.as_os_str() || path.join(RESERVED).is_dir() || vaults::has(&path)?
        }
    })
}

/// Reads `500K`: bytes, or with K, M or G behind them so many powers of 1024.
fn parse_rate(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.trim_end_matches(['K', 'M', 'G', 'k', 'm', 'g']) {
        number if number.len() + 1 >= text.len() => (number, &text[number.len()..]),
        _ => ("", ""),
    };
    let shift = match unit.to_ascii_uppercase().as_str() {
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => 0,
    };
    let rate = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    rate.filter(|rate| *rate > 0).ok_or_else(|| "is not a number of bytes a second like 500K or 2M".into())
}

/// Tells a [`Report`] what is synchronised.
struct Syncing<'a> {
    report: &'a Report,
    progress: Progress,
    dry_run: bool,
}

#[derive(Serialize)]
struct Synced<'a> {
    r#type: &'a str,
    change: &'a str,
    path: &'a str,
    from: Option<&'a str>,
    size: Option<u64>,
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
    new: u64,
    changed: u64,
    moved: u64,
    deleted: u64,
    kept: u64,
    unchanged: u64,
    learned: u64,
    purged: u64,
    skipped: u64,
    failed: u64,
    bytes: u64,
}

impl<'a> Syncing<'a> {
    fn new(report: &'a Report, dry_run: bool) -> Self {
        report.detail(
            "owners, extended attributes, hard links and holes of sparse files are not kept: each name becomes a file of its own",
        );
        Self { report, progress: report.progress(None), dry_run }
    }

    fn finish(self, summary: &SyncSummary, delete: bool) {
        drop(self.progress);
        let SyncSummary {
            new,
            changed,
            moved,
            deleted,
            kept,
            unchanged,
            learned,
            purged,
            skipped,
            failed,
            bytes,
            ..
        } = *summary;
        let totals = Totals {
            r#type: "summary",
            new,
            changed,
            moved,
            deleted,
            kept,
            unchanged,
            learned,
            purged,
            skipped,
            failed,
            bytes,
        };
        let would = if self.dry_run { "would be " } else { "" };
        let mut text = format!(
            "{would}{new} new, {changed} changed, {moved} moved, {deleted} removed; {unchanged} unchanged"
        );
        if learned > 0 {
            text.push_str(&format!(", {learned} of them by their info records"));
        }
        let versions = count(purged, "old version");
        let gone = format!("gone but kept{}", if delete { "" } else { " without --delete" });
        for (count, what) in [(kept, &*gone), (skipped, "skipped"), (failed, "failed")] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        if purged > 0 {
            text.push_str(&format!(", {versions} removed for good"));
        }
        self.report.done(&totals, text);
    }
}

impl Observer for Syncing<'_> {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Bytes(bytes) => self.progress.add(bytes),
            Event::Expected(bytes) => self.progress.expect(bytes),
            Event::Spared(bytes) => self.progress.spare(bytes),
            Event::Synced { change, path, from, size, dry_run } => {
                let (sign, name) = match change {
                    Change::New => ("+", "new"),
                    Change::Contents => ("~", "changed"),
                    Change::Metadata => ("~", "metadata"),
                    Change::Moved => (">", "moved"),
                    Change::Deleted => ("-", "removed"),
                    _ => ("?", "other"),
                };
                let text = match from {
                    Some(from) => format!("{sign} {path} (from {from})"),
                    None => format!("{sign} {path}"),
                };
                let r#type = if dry_run { "would-sync" } else { "synced" };
                let value = Synced { r#type, change: name, path, from, size };
                match dry_run {
                    true => self.report.result(&value, [text]),
                    false => {
                        self.progress.file();
                        self.report.each(&value, text);
                    }
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_bytes_a_second() {
        for (text, rate) in [("1", 1), ("500K", 500 << 10), ("2M", 2 << 20), ("1g", 1 << 30)] {
            assert_eq!(parse_rate(text), Ok(rate));
        }
        for bad in ["", "0", "K", "2MM", "2.5M", "-1", "99999999999999999999G", "2Mb"] {
            assert!(parse_rate(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_a_location_and_what_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let vault = dir.path().join("vault");
        std::fs::create_dir_all(vault.join(RESERVED)).unwrap();
        for (typed, expected) in [
            (dir.path().to_str().unwrap(), false),
            (vault.to_str().unwrap(), true),
            ("nothing/there", false),
            ("nas:x", true),
            ("b2://bucket/x", true),
            ("file:///x", true),
        ] {
            assert_eq!(is_location(Path::new(typed)).unwrap(), expected, "{typed}");
        }
    }
}
