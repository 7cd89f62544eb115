//! What `sidekey cp` and `sidekey mv` have in common.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use sidekey::location::Location;
use sidekey::location::argument::{Argument, Target, split};
use sidekey::name::plain_folder;
use sidekey::ops::events::{Event, Observer};
use sidekey::ops::remove::Source;
use sidekey::ops::transfer::{TransferOptions, transfer};
use sidekey::store::local::LocalStore;
use sidekey::{Error, IoContext as _, Result};

use super::guard;
use super::location::Place;
use super::report::Report;
use super::vaults;
use super::work::{self, Watcher};

// Not a doc comment: clap would make it the description of the commands that take these options.
// What to copy or move, and where to.
#[derive(clap::Args, Debug)]
pub(super) struct TransferArgs {
    /// an object, or a folder
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// its new name in the same location; with a / at its end, a folder to put it into
    #[arg(value_name = "DST")]
    destination: PathBuf,
    /// replace what has a new name already
    #[arg(long)]
    force: bool,
    /// only tell what would be done
    #[arg(long)]
    dry_run: bool,
    /// how many threads work; by default one a processor, 16 at most
    #[arg(long, value_name = "N", value_parser = work::parse_jobs)]
    jobs: Option<usize>,
}

impl TransferArgs {
    /// Copies, and removes what was copied if that is meant.
    pub(super) fn run(self, report: &Report, remove: bool, recursive: bool) -> Result<()> {
        let place = Place::open(self.destination.as_os_str())?;
        let (source, to) = both(&self.source, &self.destination, &place)?;
        let options = TransferOptions {
            remove,
            recursive,
            replace: self.force,
            encryption: place.encryption()?,
            dry_run: self.dry_run,
            jobs: place.jobs(self.jobs),
            now: work::now(),
        };
        guard::say_when_interrupted(report, AGAIN);
        let done = match (self.dry_run, remove) {
            (true, true) => "would move",
            (true, false) => "would copy",
            (false, true) => "moved",
            (false, false) => "copied",
        };
        let watcher = Watcher::new(report, None, done);
        let watcher = Transferring { report, watcher, would: done };
        let summary = transfer(&Source::new(source), &to, &options, &watcher)?;
        watcher.watcher.finish(&summary);
        Ok(())
    }
}

/// What to do after an interrupt.
const AGAIN: &str = "run the same again with --force to go on where it stopped";

/// Both names in one location. Only a `/` at its end makes the second one a folder, whatever the disk holds.
fn both(source: &Path, destination: &Path, place: &Place) -> Result<(Target, Target)> {
    let (from, to) = (Argument::parse(source.as_os_str())?, Argument::parse(destination.as_os_str())?);
    let is_folder = |path: &Path| path.as_os_str().as_encoded_bytes().ends_with(b"/");
    if let (Argument::Local(from), Argument::Local(to)) = (&from, &to)
        && !vaults::has(from)?
        && !vaults::has(to)?
    {
        let (from, to) = (Disk::find(from)?, Disk::find(to)?);
        let common: PathBuf = from
            .root
            .components()
            .zip(to.root.components())
            .take_while(|(a, b)| a == b)
            .map(|(a, _)| a)
            .collect();
        let location = Location::new(Arc::new(LocalStore::open(&common)?), "")?;
        let target = |disk: &Disk, folder: bool| {
            let mut target = Target::new(location.clone(), &disk.path_below(&common))?;
            target.folder = folder || target.path.is_empty();
            Ok::<_, Error>(target)
        };
        return Ok((target(&from, is_folder(source))?, target(&to, is_folder(destination))?));
    }
    let source = Place::open(source.as_os_str())?.target;
    let to = place.target.clone();
    if source.location.show("") != to.location.show("") {
        return Err(Error::usage("are not in one location")
            .about(format!("{} and {}", source.show(), to.show()))
            .hint("get it, and put it there; or sidekey sync"));
    }
    Ok((source, to))
}

/// A path of this machine: the folder that is there, and plain names below it.
struct Disk {
    root: PathBuf,
    rest: Vec<u8>,
}

impl Disk {
    fn find(path: &Path) -> Result<Self> {
        let (root, rest) = split(path, Path::is_dir)?;
        let root = root.canonicalize().context("cannot read", &root)?;
        Ok(Self { root, rest })
    }

    /// The plain path below a folder that this one is in.
    fn path_below(&self, above: &Path) -> Vec<u8> {
        let below = self.root.strip_prefix(above).unwrap_or(Path::new(""));
        let mut path = Vec::new();
        for component in below.components() {
            if let Component::Normal(name) = component {
                path.extend(plain_folder(name.as_encoded_bytes()));
                path.push(b'/');
            }
        }
        path.extend(&self.rest);
        path
    }
}

/// Tells a [`Report`] what is copied; the rest as any command does.
struct Transferring<'a> {
    report: &'a Report,
    watcher: Watcher<'a>,
    would: &'static str,
}

#[derive(Serialize)]
struct Would<'a> {
    r#type: &'a str,
    input: String,
    output: &'a str,
    replaces: bool,
}

impl Observer for Transferring<'_> {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::WouldPut { path, object, replaces, .. } => {
                let input = path.display().to_string();
                let over = if replaces { ", which is there already" } else { "" };
                let text = format!("{} {input} to {object}{over}", self.would);
                let r#type = if self.would.ends_with("move") { "would-move" } else { "would-copy" };
                self.report.result(&Would { r#type, input, output: object, replaces }, [text]);
            }
            event => self.watcher.event(event),
        }
    }
}
