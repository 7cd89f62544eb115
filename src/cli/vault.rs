//! `sidekey vault`.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sidekey::keys::PublicKey;
use sidekey::ops::atomic::{AtomicFile, Mode};
use sidekey::ops::vault::{self, Kept, Replaced};
use sidekey::{Error, IoContext as _, Result};

use super::config::{self, PinnedVault};
use super::escrow;
use super::identity::{load_identities, load_recipients};
use super::kdf::KdfArgs;
use super::location::Place;
use super::passphrase::{NewPassphraseArgs, PassphraseArgs};
use super::remote::location_text;
use super::report::Report;

/// show a vault, take part in it, change the private key that it holds, or its passphrase
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey vault show b2://bucket/backup
  sidekey vault join b2://bucket/backup -i backup.pem -r backup.pub.pem
  sidekey vault passwd b2://bucket/backup
  sidekey vault escrow b2://bucket/backup -i new.pem --replace")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    Show(Show),
    Join(Join),
    ExportConfig(ExportConfig),
    Passwd(Passwd),
    Escrow(Escrow),
}

/// show what is pinned of a vault, and check that the store says the same
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey vault show b2://bucket/backup
  sidekey vault show vault --json")]
struct Show {
    /// a place in the vault
    #[arg(value_name = "LOCATION")]
    location: OsString,
}

/// take part in a vault from this machine
///
/// With a private key of one of its recipients, or with what vault export-config wrote on another machine. Compare the
/// fingerprint that is printed with the one that sidekey init printed: whoever can write to the store can put a vault of
/// his own there.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey vault join b2://bucket/backup -i backup.pem -r backup.pub.pem
  sidekey vault join b2://bucket/backup --exported laptop.json
  sidekey vault join b2://bucket/backup -i backup.pem -r backup.pub.pem --fingerprint 1f2e-…")]
struct Join {
    /// the root of the vault
    #[arg(value_name = "LOCATION")]
    location: OsString,
    /// a private key of one of its recipients (repeatable)
    #[arg(short, long, value_name = "FILE")]
    identity: Vec<PathBuf>,
    /// encrypt for this public key (repeatable); by default for the keys of --identity
    #[arg(short, long, value_name = "FILE")]
    recipient: Vec<PathBuf>,
    /// what vault export-config wrote
    #[arg(long, value_name = "FILE", conflicts_with_all = ["identity", "recipient"])]
    exported: Option<PathBuf>,
    /// refuse a vault with another fingerprint
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<String>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

/// write what another machine needs to take part in a vault, its master key too, to a file of mode 0600
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey vault export-config b2://bucket/backup -o laptop.json")]
struct ExportConfig {
    /// a place in the vault
    #[arg(value_name = "LOCATION")]
    location: OsString,
    /// where to write it; never over a file
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// change the passphrase of the private key that a vault holds
///
/// That one object is written anew and its older versions are deleted. A copy that somebody made of it before opens with
/// the old passphrase for ever: if that is known to others, rewrap to a new key pair.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey vault passwd b2://bucket/backup
  sidekey vault passwd b2://bucket/backup --dry-run")]
struct Passwd {
    /// the root of the vault
    #[arg(value_name = "LOCATION")]
    location: OsString,
    /// only check the old passphrase
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    #[command(flatten)]
    new_passphrase: NewPassphraseArgs,
    #[command(flatten)]
    kdf: KdfArgs,
}

/// keep a private key in a vault, under a passphrase, in place of the one that is there
///
/// For after a rotation, and for a vault that was made without. The key must be one that opens the vault. With --replace the key
/// that is there goes, older versions of it too: what is only for that key is lost with it, unless there is another copy. Wait
/// until a second rewrap, at least 7 days after the first, finds nothing to do.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey vault escrow b2://bucket/backup -i backup.pem
  sidekey vault escrow b2://bucket/backup -i new.pem --replace")]
struct Escrow {
    /// the root of the vault
    #[arg(value_name = "LOCATION")]
    location: OsString,
    /// the private key to keep there
    #[arg(short, long, value_name = "FILE", required = true)]
    identity: PathBuf,
    /// take the place of the private key that is there
    #[arg(long)]
    replace: bool,
    /// only check that the key opens the vault
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    #[command(flatten)]
    new_passphrase: NewPassphraseArgs,
    #[command(flatten)]
    kdf: KdfArgs,
}

#[derive(Serialize)]
struct Shown {
    r#type: &'static str,
    location: String,
    vault: String,
    generation: u8,
    names: String,
    fingerprint: String,
    recipients: Vec<String>,
}

#[derive(Serialize)]
struct Changed {
    r#type: &'static str,
    purged: u64,
    left: Vec<String>,
}

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        match self.what {
            What::Show(show) => show.run(report),
            What::Join(join) => join.run(report),
            What::ExportConfig(export) => export.run(report),
            What::Passwd(passwd) => passwd.run(report),
            What::Escrow(escrow) => escrow.run(report),
        }
    }
}

impl Show {
    fn run(self, report: &Report) -> Result<()> {
        let place = Place::open(&self.location)?;
        let pinned = pinned_in(&place, &self.location)?;
        tell("vault", &pinned, report);
        place.vault_faults()?.iter().for_each(|fault| report.failure(fault));
        Ok(())
    }
}

impl Join {
    fn run(self, report: &Report) -> Result<()> {
        let text = location_text(&self.location)?;
        let place = Place::root(&self.location, false)?;
        let pinned = match &self.exported {
            Some(file) => PinnedVault { location: text, ..config::read_vault(file)? },
            None => self.opened(&place, text, report)?,
        };
        let vault = pinned.vault();
        if self.fingerprint.as_ref().is_some_and(|expected| *expected != vault.fingerprint()) {
            return Err(Error::integrity(format!("has the fingerprint {}", vault.fingerprint()))
                .about(&pinned.location)
                .hint("it is another vault than the one that was meant: do not join it"));
        }
        let location = place.target.location.clone().in_vault(std::sync::Arc::new(vault));
        vault::check(&location)?;
        let file = config::current().pin(&pinned)?;
        report.note(format_args!("pinned in {}; compare the fingerprint", file.display()));
        tell("joined", &pinned, report);
        Ok(())
    }

    fn opened(&self, place: &Place, text: String, report: &Report) -> Result<PinnedVault> {
        let identities = match self.identity.is_empty() {
            true => vec![escrow::open(place, &self.passphrase, report)?],
            false => load_identities(&self.identity, &self.passphrase, report)?,
        };
        let opened = vault::open(&place.target.location, &identities)?;
        let mut recipients = load_recipients(&self.recipient)?;
        if recipients.is_empty() {
            for key in &identities {
                recipients.push(PublicKey::from_pem(key.public().to_pem().as_bytes())?);
            }
        }
        let escrow = vault::escrow(&place.target.location)?.is_some();
        Ok(PinnedVault::of(opened, text, recipients, escrow))
    }
}

impl ExportConfig {
    fn run(self, report: &Report) -> Result<()> {
        let pinned = pinned_at(&self.location)?;
        let mut file = AtomicFile::create(&self.output, Mode::Secret)?;
        file.write_all(&pinned.to_text()).context("cannot write", &self.output)?;
        file.commit_new()?;
        report.note(format_args!(
            "{} holds the master key: whoever reads it reads all names, and can write to the vault as you do",
            self.output.display()
        ));
        tell("exported", &pinned, report);
        Ok(())
    }
}

impl Passwd {
    fn run(self, report: &Report) -> Result<()> {
        super::passphrase::check_descriptors(&self.passphrase, &self.new_passphrase)?;
        let place = Place::root(&self.location, false)?;
        let (key, file, before) = escrow::open_kept(&place, &self.passphrase, report)?;
        if self.dry_run {
            report.note("the old passphrase is right; nothing was written");
            return Ok(());
        }
        let kdf = self.kdf.of_changed(escrow::ROUNDS, &file);
        let text = escrow::seal(&key, &self.new_passphrase, kdf, &place)?;
        let replaced = replace_escrow(&place, &text, Some(&before), report)?;
        report.note(
            "a copy that somebody made of it before opens with the old passphrase for ever; if that is known to others, \
             rewrap to a new key pair",
        );
        let text = format!("the passphrase is changed; {} older versions were deleted", replaced.purged);
        let changed = Changed { r#type: "passwd-vault", purged: replaced.purged, left: replaced.left };
        report.done(&changed, text);
        Ok(())
    }
}

impl Escrow {
    fn run(self, report: &Report) -> Result<()> {
        super::passphrase::check_descriptors(&self.passphrase, &self.new_passphrase)?;
        let place = Place::root(&self.location, false)?;
        let keys = load_identities(std::slice::from_ref(&self.identity), &self.passphrase, report)?;
        vault::open(&place.target.location, &keys)?;
        let Some(key) = keys.first() else { return Ok(()) };
        if self.dry_run {
            report.note("the key opens the vault; nothing was written");
            return Ok(());
        }
        // It may be the only copy.
        let before = vault::escrow(&place.target.location)?;
        if !self.replace && before.is_some() {
            return Err(Error::conflict("keeps a private key already, and what is only for that one would be lost")
                .about(place.target.show())
                .hint("--replace takes its place; first rewrap, and again after 7 days, until there is nothing to do"));
        }
        let text = escrow::seal(key, &self.new_passphrase, self.kdf.of_new(escrow::ROUNDS), &place)?;
        let replaced = replace_escrow(&place, &text, before.as_ref(), report)?;
        if let Some(pinned) = Place::pinned_root(&self.location)? {
            config::current().pin(&PinnedVault { escrow: true, ..pinned })?;
        }
        let text = format!(
            "the vault keeps key {} under the new passphrase; {} older versions were deleted",
            key.id().short(),
            replaced.purged
        );
        let changed = Changed { r#type: "escrow-vault", purged: replaced.purged, left: replaced.left };
        report.done(&changed, text);
        Ok(())
    }
}

/// Writes the private key that a vault holds, and tells what could not be deleted of what was there.
fn replace_escrow(place: &Place, text: &str, before: Option<&Kept>, report: &Report) -> Result<Replaced> {
    let location = &place.target.location;
    let replaced = vault::replace_escrow(location, text, before)?;
    for left in &replaced.left {
        report.warning(
            &Error::input(format!("still opens with the old passphrase: {left}"))
                .about(location.show(""))
                .hint("delete it with a key that may, or by the rules of the bucket"),
        );
    }
    if !replaced.left.is_empty() {
        report.remains();
    }
    Ok(replaced)
}

/// What is pinned of the vault that a place is in; the store says the same, or it is an error.
fn pinned_at(typed: &OsString) -> Result<std::sync::Arc<PinnedVault>> {
    pinned_in(&Place::open(typed)?, typed)
}

fn pinned_in(place: &Place, typed: &OsString) -> Result<std::sync::Arc<PinnedVault>> {
    place.vault.clone().ok_or_else(|| {
        Error::usage("is in no vault of this machine")
            .at(Path::new(typed))
            .hint("sidekey vault join takes part in one")
    })
}

fn tell(what: &'static str, pinned: &PinnedVault, report: &Report) {
    let vault = pinned.vault();
    let shown = Shown {
        r#type: what,
        location: pinned.location.clone(),
        vault: vault.id().to_string(),
        generation: vault.generation(),
        names: vault.names().to_string(),
        fingerprint: vault.fingerprint(),
        recipients: pinned.recipients.iter().map(|key| key.id().to_string()).collect(),
    };
    let mut lines = vec![
        format!("{}: vault {}", shown.location, shown.vault),
        format!("    fingerprint {}", shown.fingerprint),
        format!("    names {}, generation {}", shown.names, shown.generation),
    ];
    lines.extend(shown.recipients.iter().map(|id| format!("    recipient {id}")));
    report.result(&shown, lines);
}
