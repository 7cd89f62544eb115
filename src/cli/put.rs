//! `sidekey put`.

use std::io;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;
use sidekey::format::section::DigestKind;
use sidekey::location::customer::PairEncryption;
use sidekey::ops::events::{Event, Observer};
use sidekey::ops::put::{PutOptions, Target, put, put_stream};
use sidekey::pair::IfExists;
use sidekey::{Error, Result};

use super::config::{self, IF_EXISTS};
use super::exists::{IfExistsName, RESUME};
use super::filter::FilterArgs;
use super::guard;
use super::location::Place;
use super::report::Report;
use super::work::{self, Watcher};

/// put files, folders or a pipe into a location, encrypted for one or more public keys
///
/// Every file becomes a pair in the location: NAME.enc with its contents, and its key in an envelope of its own beside
/// it, which is written first. The originals are not touched. Times, modes, symlinks and empty folders are kept. Only
/// public keys are needed here. What is there under a name is replaced once the new pair is complete; an interrupted run
/// leaves nothing half-written under a final name.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey put -r backup.pub.pem ~/Documents ./vault/
  sidekey put -r backup.pub.pem photos/ ./vault/photos --exclude '*.tmp' --if-exists skip
  sidekey put letter.odt nas:letters/
  sidekey put -r backup.pub.pem photos/ b2://bucket/photos/ --sse c
  sidekey put -r backup.pub.pem movies/ b2://bucket/movies/ --sse c --cleartext
  pg_dump shop | sidekey put -r backup.pub.pem - ./vault/shop.sql

where things go, when vault is a folder:
  put DIR vault          vault/DIR/...
  put DIR/ vault         vault/...
  put DIR/ vault/new     vault/new/...
  put a vault            vault/a
  put a vault/b          vault/b
  put a vault/new/       vault/new/a
  put a b vault/new      vault/new/a, vault/new/b

A location is a folder, or NAME:PATH for a configured remote, whose recipients are used without -r.

Patterns see names as they are below LOCATION, such as photos/2026/a.jpg. One with a slash at its
start or within is matched from there, any other against last names. The last pattern that matches
decides; what is below a folder that is left out stays out. A folder that is called .sidekey is
always left out, with a warning.")]
pub(crate) struct Args {
    /// files and folders; - is standard input
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// where to put them
    #[arg(value_name = "LOCATION")]
    location: PathBuf,
    /// a public key that the results are encrypted for (repeatable)
    #[arg(short, long, value_name = "FILE")]
    recipient: Vec<PathBuf>,
    /// what to do where the location has the name already; by default replace
    #[arg(long, value_enum, value_name = "WHAT")]
    if_exists: Option<IfExistsName>,
    /// only tell what would be put, and what left out and why
    #[arg(long)]
    dry_run: bool,
    /// the digest of the contents to keep inside the container
    #[arg(long, value_enum, default_value = "sha256")]
    digest: Digest,
    /// store files as they are, for the service alone to encrypt: needs --sse c
    #[arg(long, conflicts_with = "digest")]
    cleartext: bool,
    /// how many threads work; by default one a processor, 16 at most
    #[arg(long, value_name = "N", value_parser = work::parse_jobs)]
    jobs: Option<usize>,
    /// put what symlinks lead to instead of the links
    #[arg(long)]
    follow: bool,
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
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Digest {
    /// SHA-256
    Sha256,
    /// none: every section is authenticated anyway
    None,
}

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        let stdin = work::is_stdin(&self.paths)?;
        if self.location == Path::new("-") {
            return Err(Error::usage("- is no location").hint("write ./- for a folder of that name"));
        }
        let place = match self.dry_run {
            true => Place::open(self.location.as_os_str())?,
            false => Place::open_to_write(self.location.as_os_str())?,
        };
        let except = place.folder.as_ref().map(|folder| folder.join(place.target.stored_prefix()));
        let options = PutOptions {
            recipients: place.recipients(&self.recipient, report)?,
            target: self.target(&place, stdin)?,
            location: place.target.location.clone(),
            if_exists: self.if_exists(&place),
            filter: self.filter.filter()?,
            exclude_caches: self.exclude_caches,
            one_file_system: self.one_file_system,
            follow: self.follow,
            folder_metadata: self.folder_metadata,
            digest: match self.digest {
                Digest::Sha256 => DigestKind::Sha256,
                Digest::None => DigestKind::None,
            },
            encryption: self.encryption(&place)?,
            jobs: place.jobs(self.jobs),
            dry_run: self.dry_run,
            // A folder keeps nothing of an upload that dies.
            journals: config::state_folder()
                .filter(|_| place.folder.is_none())
                .map(|state| state.join("uploads")),
            now: work::now(),
            except,
        };
        guard::say_when_interrupted(report, RESUME);
        let watcher = match self.dry_run {
            true => Watcher::dry_run(report, "would put"),
            // What is left out does not count, and is not known before.
            false if self.filter.leaves_out() => Watcher::new(report, None, "put"),
            false => Watcher::of_files(report, &self.paths, "put"),
        };
        let watcher = Putting { report, watcher, dry_run: self.dry_run };
        let summary = match stdin {
            true => put_stream(io::stdin(), &options, &watcher)?,
            false => put(&self.paths, &options, &watcher)?,
        };
        watcher.watcher.finish(&summary);
        Ok(())
    }

    /// One source that is no folder gets the name that was typed, unless that is a folder's.
    fn target(&self, place: &Place, stdin: bool) -> Result<Target> {
        let path = place.target.path.clone();
        let is_dir = |path: &PathBuf| match self.follow {
            true => path.metadata().is_ok_and(|found| found.is_dir()),
            false => path.symlink_metadata().is_ok_and(|found| found.is_dir()),
        };
        Ok(match (self.paths.as_slice(), place.target.folder) {
            ([only], false) if stdin || !is_dir(only) => Target::Named(path),
            (_, true) if stdin => {
                return Err(Error::usage(
                    "standard input has no name, and a folder was typed to put it into",
                )
                .about(place.target.show())
                .hint("write LOCATION/NAME, without a / at its end"));
            }
            _ => Target::Below(path),
        })
    }

    /// How the service is asked to encrypt what is put; whether nobody else does.
    fn encryption(&self, place: &Place) -> Result<PairEncryption> {
        let encryption = place.encryption()?;
        match encryption {
            _ if !self.cleartext => Ok(encryption),
            PairEncryption::Customer(None) => Ok(PairEncryption::Cleartext),
            PairEncryption::Customer(Some(_)) => {
                Err(Error::usage("--cleartext and --sse-c-key-file exclude each other")
                    .hint("with --cleartext each file has a key of its own, which is in its envelope"))
            }
            _ if place.folder.is_some() => Err(Error::usage(
                "--cleartext is for services that encrypt, and the location is a folder of this machine",
            )
            .hint("leave it out: what is put is encrypted before it is stored")),
            _ => Err(Error::usage("--cleartext needs --sse c: nothing else would encrypt what is put")
                .hint("give --sse c too, or leave out --cleartext")),
        }
    }

    /// What was typed, else what is configured.
    fn if_exists(&self, place: &Place) -> IfExists {
        let configured =
            || place.configured(&IF_EXISTS).and_then(|name| IfExistsName::from_str(&name, false).ok());
        self.if_exists.or_else(configured).unwrap_or(IfExistsName::Replace).value()
    }
}

/// Tells a [`Report`] what is put; the rest as any command does.
struct Putting<'a> {
    report: &'a Report,
    watcher: Watcher<'a>,
    dry_run: bool,
}

#[derive(Serialize)]
struct Put<'a> {
    r#type: &'a str,
    path: String,
    object: &'a str,
    size: u64,
    data_id: String,
}

#[derive(Serialize)]
struct WouldPut<'a> {
    r#type: &'a str,
    path: String,
    object: &'a str,
    size: Option<u64>,
    replaces: bool,
}

#[derive(Serialize)]
struct Skipped<'a> {
    r#type: &'a str,
    path: String,
    why: &'a str,
}

impl Observer for Putting<'_> {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Put { path, object, size, data_id } => {
                self.watcher.file_done();
                let path = path.display().to_string();
                let text = format!("put {path} as {object}");
                self.report
                    .each(&Put { r#type: "put", path, object, size, data_id: data_id.to_string() }, text);
            }
            Event::WouldPut { path, object, size, replaces } => {
                let path = path.display().to_string();
                let text =
                    format!("{path}: {} {object}", if replaces { "would replace" } else { "would become" });
                self.report.result(&WouldPut { r#type: "would-put", path, object, size, replaces }, [text]);
            }
            Event::Skipped { path, why } if self.dry_run => {
                let path = path.display().to_string();
                let text = format!("{path}: {why}; skipped");
                self.report.result(&Skipped { r#type: "skipped", path, why }, [text]);
            }
            event => self.watcher.event(event),
        }
    }
}
