//! `sidekey passwd`.

use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sidekey::keys::{DEFAULT_ROUNDS, Kdf, KeyFile, PrivateKey};
use sidekey::ops::atomic::{AtomicFile, Mode};
use sidekey::random::OsRandom;
use sidekey::secret::Passphrase;
use sidekey::{Error, IoContext as _, KeyId, Result};
use zeroize::Zeroizing;

use super::identity;
use super::kdf::KdfArgs;
use super::passphrase::{NewPassphraseArgs, PassphraseArgs, Passphrases, check_descriptors};
use super::report::Report;

/// change the passphrase of a private key file
///
/// The key itself stays the same, so nothing that was encrypted changes, and copies of the file keep the old passphrase. The
/// file is replaced in one step, keeps its mode, and becomes PKCS#8, whatever it was: under PBKDF2 with 600,000 rounds or
/// more, or under scrypt with --kdf scrypt, or where it was under one as strong. If somebody may have read the key together
/// with its passphrase, make a new pair and rewrap instead.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey passwd backup.pem
  sidekey passwd backup.pem --passphrase-file old.txt --new-passphrase-file new.txt")]
pub(crate) struct Args {
    /// the private key file
    #[arg(value_name = "KEY")]
    key: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    #[command(flatten)]
    new_passphrase: NewPassphraseArgs,
    #[command(flatten)]
    kdf: KdfArgs,
}

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        check_descriptors(&self.passphrase, &self.new_passphrase)?;
        // A symlink stays one: what it leads to is replaced.
        let path = self.key.canonicalize().context("cannot read", &self.key)?;
        let (before, file) = identity::read_private(&self.key, report)?;
        let mut passphrases = Passphrases::new(&self.passphrase, std::slice::from_ref(&self.key));
        let key = passphrases.open(&self.key, &file, report)?;
        let passphrase = self.new_passphrase.read(&self.key)?;
        let kdf = self.kdf.of_changed(DEFAULT_ROUNDS, &file);

        let replacement = write_beside(&path, &key, passphrase.as_ref(), kdf)?;
        if read_back(&replacement, passphrase.as_ref())? != key.id() {
            return Err(Error::integrity("the new file does not hold the same key; nothing was changed")
                .at(&self.key));
        }
        if *std::fs::read(&path).map(Zeroizing::new).context("cannot read", &self.key)? != *before {
            return Err(Error::conflict("changed in the meantime; nothing was written").at(&self.key));
        }
        replacement.commit_replace()?;
        self.tell(report, &file, &key, passphrase.is_some().then_some(kdf));
        Ok(())
    }

    fn tell(&self, report: &Report, old: &KeyFile, key: &PrivateKey, new: Option<Kdf>) {
        let path = self.key.display();
        let changed = Changed {
            key: path.to_string(),
            key_id: key.id().to_string(),
            encrypted: new.is_some(),
            rounds: match new {
                Some(Kdf::Pbkdf2 { rounds }) => Some(rounds),
                _ => None,
            },
            kdf: new.map(|kdf| kdf.to_string()),
        };
        match (&changed.kdf, old.kdf()) {
            (None, _) => report.done(&changed, format_args!("{path}: has no passphrase any more")),
            (Some(_), None) => report.done(&changed, format_args!("{path}: has a passphrase now")),
            (Some(now), Some(was)) => {
                report.done(&changed, format_args!("{path}: passphrase changed"));
                if *now != was {
                    report.note(format_args!("{path}: was {was}, now {now}"));
                }
            }
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "passwd")]
struct Changed {
    key: String,
    key_id: String,
    encrypted: bool,
    rounds: Option<u32>,
    kdf: Option<String>,
}

fn write_beside(
    path: &Path,
    key: &PrivateKey,
    passphrase: Option<&Passphrase>,
    kdf: Kdf,
) -> Result<AtomicFile> {
    let text = match passphrase {
        Some(passphrase) => Zeroizing::new(key.to_encrypted_pem(passphrase, kdf, &OsRandom)?),
        None => key.to_plain_pem()?,
    };
    let old = std::fs::metadata(path).context("cannot read", path)?;
    let mut file = AtomicFile::create(path, Mode::Exact(old.mode() & 0o7777))?;
    // Root may change the passphrase of somebody's key; it stays theirs. Others cannot give files away, nor need to.
    let _ = fchown(file.file(), Some(old.uid()), Some(old.gid()));
    file.write_all(text.as_bytes()).context("cannot write", path)?;
    Ok(file)
}

/// The id of the key that the written file really holds.
fn read_back(written: &AtomicFile, passphrase: Option<&Passphrase>) -> Result<KeyId> {
    let mut bytes = Zeroizing::new(Vec::new());
    let mut file = written.file();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut bytes))
        .context("cannot read back", written.target())?;
    let opened = KeyFile::parse(&bytes).and_then(|file| file.open(passphrase));
    opened.map(|key| key.id()).map_err(|error| error.at(written.target()))
}
