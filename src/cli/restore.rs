//! `sidekey restore`.

use std::path::PathBuf;
use std::sync::Arc;

use sidekey::keys::PrivateKey;
use sidekey::location::argument::Target;
use sidekey::ops::filter::Filter;
use sidekey::ops::get::{GetOptions, Overwrite, Source, get};
use sidekey::ops::vault;
use sidekey::recipe::Named;
use sidekey::{Error, Result};

use super::escrow;
use super::from::WhichArgs;
use super::get::Getting;
use super::guard;
use super::identity::load_identities;
use super::location::Place;
use super::passphrase::PassphraseArgs;
use super::report::Report;
use super::work::{self, Watcher};

/// restore a vault or location on a new machine: the bucket and the passphrase are enough
///
/// Takes the private key out of the vault, where sidekey init --escrow or --passphrase-only put it, and asks for its
/// passphrase; or takes the one of --identity. Every file is authenticated before it gets its name. The same command goes on
/// where it was interrupted: files that are there already, the same by size and time or by contents, are left alone.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey restore b2://bucket/backup restored
  sidekey restore b2://bucket/backup Documents photos/2024 restored
  sidekey restore b2://bucket/backup -i backup.pem --at 2026-11-20T23:06:00Z restored
  sidekey restore b2://bucket/backup restored --dry-run       what there is

Without what another machine knows it cannot be told whether the store holds back newer files, or
is the vault that was meant: compare the fingerprint with the one that sidekey init printed.")]
pub(crate) struct Args {
    /// the root of the vault, files and folders in it (all by default), then where to put them
    #[arg(value_name = "LOCATION [PATH...] DIR", required = true)]
    paths: Vec<PathBuf>,
    /// a private key (repeatable); by default the one in the vault
    #[arg(short, long, value_name = "FILE")]
    identity: Vec<PathBuf>,
    /// refuse a vault with another fingerprint
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<String>,
    /// only tell what there is
    #[arg(long)]
    dry_run: bool,
    /// how many threads work; by default as many as the store takes requests, 16 at most
    #[arg(long, value_name = "N", value_parser = work::parse_jobs)]
    jobs: Option<usize>,
    #[command(flatten)]
    which: WhichArgs,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

impl Args {
    pub(crate) fn run(mut self, report: &Report) -> Result<()> {
        let (Some(destination), true) = (self.paths.pop(), !self.paths.is_empty()) else {
            return Err(Error::usage("DIR is missing").hint("the last argument says where to restore to"));
        };
        let typed = self.paths.remove(0);
        let place = Place::root(typed.as_os_str(), false)?;
        let is_vault = vault::settings(&place.target.location)?.is_some();
        let pinned = Place::pinned_root(typed.as_os_str())?;
        if !is_vault {
            self.refuse_without_settings(&place, pinned.is_some())?;
        }
        let identities = self.identities(&place, is_vault, report)?;
        let mut location = place.target.location.clone();
        if is_vault {
            let opened = vault::open(&location, &identities)?;
            let fingerprint = opened.vault.fingerprint();
            let of_pinned = pinned.map(|pinned| pinned.vault().fingerprint());
            let mut expected = self.fingerprint.iter().chain(&of_pinned);
            if expected.any(|expected| *expected != fingerprint) {
                return Err(Error::integrity(format!("has the fingerprint {fingerprint}"))
                    .at(&typed)
                    .hint("it is another vault than the one that was meant: nothing was restored"));
            }
            report.note(format_args!(
                "vault {}, fingerprint {fingerprint}, names {}",
                opened.vault.id(),
                opened.vault.names()
            ));
            location = location.in_vault(Arc::new(opened.vault));
        }
        let mut sources = vec![];
        for path in &self.paths {
            use std::os::unix::ffi::OsStrExt as _;
            sources.push(Source::new(Target::new(location.clone(), path.as_os_str().as_bytes())?));
        }
        if sources.is_empty() {
            sources.push(Source::new(Target::new(location, b"")?));
        }
        let options = GetOptions {
            identities,
            which: self.which.which(),
            overwrite: Overwrite::IfDifferent,
            filter: Filter::default(),
            recipe: Named::default(),
            strict: false,
            resume: true,
            salvage: false,
            dry_run: self.dry_run,
            jobs: self.jobs.or_else(work::jobs_configured),
        };
        guard::say_when_interrupted(report, RESUME_RESTORE);
        let done = if self.dry_run { "would restore" } else { "restored" };
        let watcher = Getting { report, watcher: Watcher::new(report, None, done), dry_run: self.dry_run };
        let summary = get(&sources, &destination, &options, &watcher)?;
        watcher.watcher.finish(&summary);
        if summary.failed > 0 {
            report.note(format_args!(
                "{} not restored; each is named above with why",
                work::count(summary.failed, "file")
            ));
        }
        report.note("whether the store held back newer files cannot be told from here");
        Ok(())
    }

    /// Whoever writes to the store may have taken the settings away, and with them what tells swapped and planted pairs.
    fn refuse_without_settings(&self, place: &Place, is_pinned: bool) -> Result<()> {
        let why = match (&self.fingerprint, is_pinned) {
            (Some(_), _) => "--fingerprint asks for one",
            (None, true) => "this machine takes part in one there",
            (None, false) if vault::has_master(&place.target.location)? => "a master key stands there",
            (None, false) => return Ok(()),
        };
        Err(Error::integrity(format!("holds no settings of a vault, and {why}: nothing was restored"))
            .about(place.target.show())
            .hint("put .sidekey/vault.json back, from an older version or another copy"))
    }

    fn identities(&self, place: &Place, is_vault: bool, report: &Report) -> Result<Vec<PrivateKey>> {
        match (self.identity.is_empty(), is_vault) {
            (false, _) => load_identities(&self.identity, &self.passphrase, report),
            (true, true) => Ok(vec![escrow::open(place, &self.passphrase, report)?]),
            (true, false) => Err(Error::usage("no private key to decrypt with")
                .about(place.target.show())
                .hint("name it with --identity; it is no vault that could hold one")),
        }
    }
}

/// What to do after an interrupt.
const RESUME_RESTORE: &str = "run the same again to go on where it stopped";
