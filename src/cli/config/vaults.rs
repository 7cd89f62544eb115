//! The vaults that this machine takes part in: one file each, 0600, in `vaults/` beside the configuration file, with the
//! master key and what is pinned. Whoever reads such a file reads all names of the vault, and no contents.

use std::fs::{DirBuilder, File};
use std::io::{ErrorKind as IoErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sidekey::keys::PublicKey;
use sidekey::ops::atomic::{AtomicFile, Mode};
use sidekey::ops::vault::Opened;
use sidekey::vault::settings::Settings;
use sidekey::vault::{MasterKey, Vault};
use sidekey::{Error, IoContext as _, Result};
use zeroize::{Zeroize as _, Zeroizing};

use super::Config;

/// A longer file is none of ours.
const MAX_LEN: u64 = 1 << 20;

/// What is pinned of one vault.
#[derive(Debug)]
pub(crate) struct PinnedVault {
    /// Where it is, as it is written in the configuration.
    pub(crate) location: String,
    pub(crate) settings: Settings,
    pub(crate) master: MasterKey,
    pub(crate) recipients: Vec<PublicKey>,
    /// Whether the vault is known to keep a private key.
    pub(crate) escrow: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    v: u8,
    location: String,
    vault: String,
    generation: u8,
    names: String,
    recipients: Vec<String>,
    #[serde(default)]
    escrow: bool,
    master: String,
}

impl Drop for Written {
    fn drop(&mut self) {
        self.master.zeroize();
    }
}

impl PinnedVault {
    /// Reads the text of such a file.
    ///
    /// # Errors
    /// `Input` when it is of another form.
    pub(crate) fn parse(text: &[u8]) -> Result<Self> {
        // What the parser says may hold what it read.
        let bad = || Error::input("is not what sidekey writes for a vault");
        let written: Written = serde_json::from_slice(text).map_err(|_| bad())?;
        if written.v != 1 {
            return Err(bad().hint("a newer sidekey wrote it"));
        }
        let mut master = Zeroizing::new([0; 32]);
        for (byte, pair) in master.iter_mut().zip(written.master.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| bad())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| bad())?;
        }
        if written.master.len() != 64 || written.generation == 0 {
            return Err(bad());
        }
        let recipients = written.recipients.iter().map(|pem| PublicKey::from_pem(pem.as_bytes()));
        Ok(Self {
            location: written.location.clone(),
            settings: Settings {
                id: written.vault.parse()?,
                generation: written.generation,
                names: written.names.parse()?,
            },
            master: MasterKey::from_bytes(&master),
            recipients: recipients.collect::<Result<_>>()?,
            escrow: written.escrow,
        })
    }

    /// The text of such a file: a secret.
    pub(crate) fn to_text(&self) -> Zeroizing<Vec<u8>> {
        let Settings { id, generation, names } = self.settings;
        let mut master = String::with_capacity(64);
        for byte in self.master.expose() {
            for digit in [byte >> 4, byte & 15] {
                master.push(char::from_digit(digit.into(), 16).unwrap_or_default());
            }
        }
        let written = Written {
            v: 1,
            location: self.location.clone(),
            vault: id.to_string(),
            generation,
            names: names.to_string(),
            recipients: self.recipients.iter().map(PublicKey::to_pem).collect(),
            escrow: self.escrow,
            master,
        };
        let mut text = Zeroizing::new(Vec::with_capacity(16 << 10));
        // Structs of strings and numbers are always JSON.
        let _ = serde_json::to_writer_pretty(&mut *text, &written);
        text.push(b'\n');
        text
    }

    /// The vault.
    pub(crate) fn vault(&self) -> Vault {
        let Settings { id, generation, names } = self.settings;
        Vault::new(&self.master, id, generation, names)
    }

    /// What is to be pinned of a vault.
    pub(crate) fn of(opened: Opened, location: String, recipients: Vec<PublicKey>, escrow: bool) -> Self {
        Self { location, settings: opened.vault.settings(), master: opened.master, recipients, escrow }
    }
}

impl Config {
    /// The vaults that are pinned on this machine.
    ///
    /// # Errors
    /// What reading their files says; `Permission` for one that others can read.
    pub(crate) fn vaults(&self) -> Result<Vec<PinnedVault>> {
        let Some(folder) = self.vaults_folder() else { return Ok(vec![]) };
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(vec![]),
            read => read.context("cannot read", &folder)?,
        };
        let mut vaults = vec![];
        for entry in entries {
            let path = entry.context("cannot read", &folder)?.path();
            if path.extension().is_some_and(|end| end == "json") {
                vaults.push(read(&path)?);
            }
        }
        Ok(vaults)
    }

    /// Pins a vault: its file is there, durable, when this returns.
    ///
    /// # Errors
    /// What writing fails with; `Usage` where there is no home.
    pub(crate) fn pin(&self, vault: &PinnedVault) -> Result<PathBuf> {
        self.path()?;
        let folder = self.vaults_folder().unwrap_or_default();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .context("cannot make the folder", &folder)?;
        let path = folder.join(format!("{}.json", vault.settings.id));
        let mut file = AtomicFile::create(&path, Mode::Secret)?;
        file.write_all(&vault.to_text()).context("cannot write", &path)?;
        file.commit_replace()?;
        Ok(path)
    }

    /// Takes back what [`Self::pin`] wrote.
    pub(crate) fn unpin(&self, vault: &PinnedVault) {
        if let Some(folder) = self.vaults_folder() {
            // What stays is a key of a vault that is not there.
            let _ = std::fs::remove_file(folder.join(format!("{}.json", vault.settings.id)));
        }
    }

    fn vaults_folder(&self) -> Option<PathBuf> {
        let path = self.place.path.as_deref()?;
        Some(path.parent().unwrap_or(Path::new(".")).join("vaults"))
    }
}

/// Reads what was pinned or exported.
///
/// # Errors
/// `Permission` when others can read it; what reading and [`PinnedVault::parse`] say.
pub(crate) fn read(path: &Path) -> Result<PinnedVault> {
    let file = File::open(path).context("cannot read", path)?;
    let mode = file.metadata().context("cannot read", path)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Error::new(
            sidekey::ErrorKind::Permission,
            format!("other users can read this vault's master key (mode {mode:04o})"),
        )
        .at(path)
        .hint(format!("chmod 600 {}", path.display())));
    }
    let mut text = Zeroizing::new(Vec::with_capacity(16 << 10));
    file.take(MAX_LEN).read_to_end(&mut text).context("cannot read", path)?;
    PinnedVault::parse(&text).map_err(|error| error.at(path))
}

#[cfg(test)]
mod tests {
    use sidekey::vault::{NamesMode, VaultId};

    use super::*;

    #[test]
    fn what_is_pinned_comes_back_and_shows_no_key() {
        let settings = Settings { id: VaultId([7; 16]), generation: 2, names: NamesMode::Encrypted };
        let master = MasterKey::from_bytes(&[0xab; 32]);
        let pinned =
            PinnedVault { location: "b2://x/y".into(), settings, master, recipients: vec![], escrow: true };
        let back = PinnedVault::parse(&pinned.to_text()).unwrap();
        assert!(back.master.same_as(&pinned.master));
        assert_eq!((back.settings, &*back.location), (settings, "b2://x/y"));
        assert!(!format!("{pinned:?}").contains("abab"));
        for bad in ["", "{}", "{\"v\":1}", &"x".repeat(99)] {
            assert!(PinnedVault::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
