//! `sidekey init`.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::Serialize;
use sidekey::keys::{PrivateKey, PublicKey};
use sidekey::ops::vault::{self, InitOptions};
use sidekey::random::OsRandom;
use sidekey::vault::NamesMode;
use sidekey::{Error, ErrorKind, Result};
use zeroize::Zeroizing;

use super::config::{self, PinnedVault};
use super::identity::{load_identities, load_recipients};
use super::kdf::KdfArgs;
use super::location::Place;
use super::passphrase::{NewPassphraseArgs, PassphraseArgs};
use super::remote::location_text;
use super::report::Report;
use super::{escrow, work};

/// make a vault: a location whose names and sizes only its writers can read
///
/// The vault's master key is drawn here, wrapped for every recipient in LOCATION/.sidekey/, and kept with what is pinned in
/// this machine's configuration (0600), so that put and ls need no private key. Its fingerprint is printed: whoever joins
/// from another machine compares it.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey init b2://bucket/backup -r backup.pub.pem
  sidekey init vault -r a.pub.pem -r b.pub.pem --names plain
  sidekey init b2://bucket/backup --escrow -i backup.pem
  sidekey init b2://bucket/backup --passphrase-only

Names are encrypted unless --names plain is given, or objects with plain names are there already.
With --escrow or --passphrase-only the bucket and the passphrase are all that sidekey restore
needs; whoever reads the bucket can guess the passphrase for as long as he likes, so it must be a
strong one.")]
pub(crate) struct Args {
    /// where to make it
    #[arg(value_name = "LOCATION")]
    location: OsString,
    /// encrypt for this public key (repeatable)
    #[arg(short, long, value_name = "FILE")]
    recipient: Vec<PathBuf>,
    /// how names are kept: encrypted or plain
    #[arg(long, value_name = "HOW", value_parser = names)]
    names: Option<NamesMode>,
    /// keep the private key of --identity in the vault too, encrypted under a new passphrase
    #[arg(long, requires = "identity")]
    escrow: bool,
    /// the private key to keep in the vault
    #[arg(short, long, value_name = "FILE", requires = "escrow")]
    identity: Option<PathBuf>,
    /// make the key pair too, and keep it in the vault alone
    #[arg(long, conflicts_with_all = ["escrow", "identity"])]
    passphrase_only: bool,
    /// only tell what would be made
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
struct Made {
    r#type: &'static str,
    location: String,
    vault: String,
    names: String,
    fingerprint: String,
    recipients: Vec<String>,
    escrow: bool,
    config: String,
}

#[derive(Serialize)]
struct Would {
    r#type: &'static str,
    location: String,
    names: &'static str,
}

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        if self.kdf.is_given() && !self.escrow && !self.passphrase_only {
            return Err(Error::usage("--kdf is for a private key that the vault is to hold")
                .hint("say --escrow or --passphrase-only too"));
        }
        let text = location_text(&self.location)?;
        let place = match Place::root(&self.location, !self.dry_run) {
            Err(error) if self.dry_run && error.kind() == ErrorKind::NotFound => {
                return self.would(text, self.names_of(false)?, report);
            }
            opened => opened?,
        };
        let location = &place.target.location;
        // An init that was interrupted goes on with what it pinned.
        let begun = Place::pinned_root(&self.location)?;
        vault::refuse_vault(location).map_err(|error| match &begun {
            Some(_) => error.hint("this machine takes part in it: sidekey vault show"),
            None => error,
        })?;
        let names = match &begun {
            Some(begun) => self.names_begun(begun.settings.names)?,
            None => self.names_of(vault::has_objects(location)?)?,
        };
        if begun.is_none() && self.names.is_none() && names == NamesMode::Plain {
            report.warning(
                &Error::conflict(
                    "holds objects already, so names are plain, and whoever reads the store reads them",
                )
                .about(&*text)
                .hint("an empty location has encrypted names; --names plain says that these are meant"),
            );
        }
        if self.dry_run {
            return self.would(text, names, report);
        }
        let mut recipients = load_recipients(&self.recipient)?;
        let (escrowed, sealed) = self.escrowed(&place, report)?.unzip();
        if let Some(key) = &escrowed
            && recipients.iter().all(|known| known.id() != key.id())
        {
            recipients.push(PublicKey::from_pem(key.public().to_pem().as_bytes())?);
        }
        if recipients.is_empty() {
            return Err(Error::usage("no recipient: nobody could open the vault's master key")
                .hint("name a public key with --recipient, or say --passphrase-only"));
        }
        let is_new = begun.is_none();
        let opened = match begun {
            Some(begun) => vault::Opened::new(begun.master, begun.settings),
            None => vault::draw(names, &OsRandom)?,
        };
        let fingerprint = opened.vault.fingerprint();
        let options = InitOptions {
            names,
            recipients: &recipients,
            escrow: sealed.as_ref().map(|text| text.as_str()),
            now: work::now(),
        };
        // Pinned first: a vault that nobody on this machine can write to helps nobody.
        let ids: Vec<String> = recipients.iter().map(|key| key.id().to_string()).collect();
        let pinned = PinnedVault::of(
            vault::Opened::new(
                sidekey::vault::MasterKey::from_bytes(opened.master.expose()),
                opened.vault.settings(),
            ),
            text.clone(),
            load_again(&recipients)?,
            escrowed.is_some(),
        );
        if is_new {
            config::current().pin(&pinned)?;
        }
        if let Err(error) = vault::publish(location, &opened, &options) {
            use ErrorKind::{Conflict, Input, Permission, Usage};
            // Nothing was written then. Else the master key is kept, for the same again to go on with.
            if is_new && matches!(error.kind(), Conflict | Input | Permission | Usage) {
                config::current().unpin(&pinned);
                return Err(error);
            }
            return Err(match error.remedy() {
                Some(_) => error,
                None => error.hint("run the same again to go on"),
            });
        }
        // What was pinned before may have been for other recipients.
        let config = config::current().pin(&pinned)?;
        let made = Made {
            r#type: "init",
            location: text.clone(),
            vault: opened.vault.id().to_string(),
            names: names.to_string(),
            fingerprint: fingerprint.clone(),
            recipients: ids,
            escrow: escrowed.is_some(),
            config: config.display().to_string(),
        };
        report.note(format_args!(
            "{text} is vault {} now, names {names}; {} holds its master key: keep it private",
            opened.vault.id(),
            config.display()
        ));
        if escrowed.is_none() {
            report.note(
                "keep the private key: without it and this configuration the names and the files are lost",
            );
        }
        report.result(&made, [format!("fingerprint {fingerprint}")]);
        Ok(())
    }

    fn would(&self, location: String, names: NamesMode, report: &Report) -> Result<()> {
        let text = format!("{location} would be a vault, names {names}");
        report.result(&Would { r#type: "would-init", location, names: names.word() }, [text]);
        Ok(())
    }

    fn names_of(&self, has_objects: bool) -> Result<NamesMode> {
        match (self.names, has_objects) {
            (Some(NamesMode::Encrypted), true) => {
                Err(Error::input("objects with plain names are there, and names would be encrypted")
                    .about(self.location.to_string_lossy())
                    .hint("take another location, or --names plain"))
            }
            (Some(names), _) => Ok(names),
            (None, true) => Ok(NamesMode::Plain),
            (None, false) => Ok(NamesMode::Encrypted),
        }
    }

    /// How an init that was interrupted was to keep names.
    fn names_begun(&self, begun: NamesMode) -> Result<NamesMode> {
        match self.names {
            Some(names) if names != begun => {
                Err(Error::conflict(format!("an init with names {begun} was interrupted here"))
                    .about(self.location.to_string_lossy())
                    .hint(format!("go on with --names {begun}")))
            }
            _ => Ok(begun),
        }
    }

    /// The private key that the vault is to hold, and its file under the new passphrase.
    fn escrowed(&self, place: &Place, report: &Report) -> Result<Option<(PrivateKey, Zeroizing<String>)>> {
        let mut given = None;
        if let Some(file) = self.identity.as_ref().filter(|_| self.escrow) {
            given = load_identities(std::slice::from_ref(file), &self.passphrase, report)?.pop();
        }
        if given.is_none() && !self.passphrase_only {
            return match vault::escrow(&place.target.location)? {
                None => Ok(None),
                Some(_) => Err(Error::conflict("a private key is there already")
                    .about(self.location.to_string_lossy())
                    .hint("an init with --escrow or --passphrase-only was interrupted: say so again")),
            };
        }
        if let Some((key, text)) = escrow::begun(&self.new_passphrase, place)? {
            return match given.is_none_or(|given| given.id() == key.id()) {
                true => Ok(Some((key, text))),
                false => Err(Error::conflict("another private key is there already")
                    .about(self.location.to_string_lossy())
                    .hint("name the one of the init that was interrupted with --identity")),
            };
        }
        let key = match given {
            Some(given) => given,
            None => PrivateKey::generate(escrow::BITS)?,
        };
        let text = escrow::seal(&key, &self.new_passphrase, self.kdf.of_new(escrow::ROUNDS), place)?;
        Ok(Some((key, text)))
    }
}

fn load_again(keys: &[PublicKey]) -> Result<Vec<PublicKey>> {
    keys.iter().map(|key| PublicKey::from_pem(key.to_pem().as_bytes())).collect()
}

fn names(typed: &str) -> Result<NamesMode, String> {
    typed.parse().map_err(|_| "is neither encrypted nor plain".to_owned())
}
