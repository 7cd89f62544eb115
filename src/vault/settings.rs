//! `.sidekey/vault.json`: what a vault is, with an HMAC under a key that is derived from its master key
//! (docs/format.md, "Settings of a vault").

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use super::{NamesMode, Vault, VaultId, hmac_of};
use crate::{Error, Result, hex};

/// The most bytes of the file that are read.
pub const MAX_BYTES: u64 = 4096;

/// What the file says; true only once [`Vault::check_settings`] said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which vault.
    pub id: VaultId,
    /// Which master key of it, from 1.
    pub generation: u8,
    /// How names are kept.
    pub names: NamesMode,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    v: u8,
    vault: String,
    generation: u8,
    names: String,
    hmac: String,
}

impl Settings {
    /// Reads the file.
    ///
    /// # Errors
    /// `Integrity` when it is not of the form that this version knows.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let file = read(bytes)?;
        let unknown = |_| Error::integrity("are settings that this version does not know");
        Ok(Self {
            id: file.vault.parse().map_err(unknown)?,
            generation: file.generation,
            names: file.names.parse().map_err(unknown)?,
        })
    }

    /// What the HMAC is of: the file without it, exactly so.
    fn text(&self) -> String {
        format!(
            r#"{{"v":1,"vault":"{}","generation":{},"names":"{}"}}"#,
            self.id, self.generation, self.names
        )
    }
}

impl Vault {
    /// What the vault is, for its file.
    pub fn settings(&self) -> Settings {
        Settings { id: self.id, generation: self.generation, names: self.names }
    }

    /// The file.
    pub fn settings_file(&self) -> Vec<u8> {
        let text = self.settings().text();
        let hmac = hex(&hmac_of(&self.settings_key, &[text.as_bytes()]));
        let bare = text.strip_suffix('}').unwrap_or(&text);
        format!("{bare},\"hmac\":\"{hmac}\"}}\n").into_bytes()
    }

    /// Whether the file is this vault's own, made by who has its master key.
    ///
    /// # Errors
    /// `Integrity` when it is of another vault or another generation, keeps names otherwise, or was not made with this
    /// master key.
    pub fn check_settings(&self, bytes: &[u8]) -> Result<()> {
        let (ours, theirs) = (self.settings(), Settings::parse(bytes)?);
        let hint = "nothing was read or written; if it was you: sidekey vault join takes what is there now";
        if theirs.id != ours.id {
            let error = Error::integrity(format!("is of vault {}, not of the pinned {}", theirs.id, ours.id));
            return Err(error.hint(hint));
        }
        if theirs.generation != ours.generation {
            let word = if theirs.generation < ours.generation { "rolled back to" } else { "of" };
            let error = Error::integrity(format!(
                "is {word} generation {}; pinned is {}",
                theirs.generation, ours.generation
            ));
            return Err(error.hint(hint));
        }
        if theirs.names != ours.names {
            let error =
                Error::integrity(format!("says that names are {}; pinned is {}", theirs.names, ours.names));
            return Err(error.hint(hint));
        }
        let made = hex(&hmac_of(&self.settings_key, &[theirs.text().as_bytes()]));
        match bool::from(made.as_bytes().ct_eq(read(bytes)?.hmac.as_bytes())) {
            true => Ok(()),
            false => {
                Err(Error::integrity("was not made with the master key of this vault: its HMAC is wrong")
                    .hint(hint))
            }
        }
    }
}

fn read(bytes: &[u8]) -> Result<File> {
    let file: File = serde_json::from_slice(bytes)
        .map_err(|error| Error::integrity("are no settings of a vault").because(error))?;
    match file.v {
        1 => Ok(file),
        version => Err(Error::integrity(format!("are settings of version {version}, which is not known"))
            .hint("a newer sidekey reads them")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::secret::MasterKey;

    fn vault(master: u8, id: u8, generation: u8, names: NamesMode) -> Vault {
        Vault::new(&MasterKey::from_bytes(&[master; 32]), VaultId([id; 16]), generation, names)
    }

    #[test]
    fn the_file_is_believed_with_its_own_master_key_only() {
        let ours = vault(1, 1, 2, NamesMode::Encrypted);
        let file = ours.settings_file();
        ours.check_settings(&file).unwrap();
        assert_eq!(Settings::parse(&file).unwrap(), ours.settings());
        let text = String::from_utf8(file.clone()).unwrap();
        let plain = text.replace("encrypted", "plain");
        for (file, says) in [
            (vault(2, 1, 2, NamesMode::Encrypted).settings_file(), "HMAC is wrong"),
            (vault(1, 2, 2, NamesMode::Encrypted).settings_file(), "is of vault 0202"),
            (vault(1, 1, 1, NamesMode::Encrypted).settings_file(), "rolled back to generation 1"),
            (vault(1, 1, 3, NamesMode::Encrypted).settings_file(), "is of generation 3"),
            (vault(1, 1, 2, NamesMode::Plain).settings_file(), "names are plain"),
            (plain.clone().into_bytes(), "names are plain"),
            (text.replace("\"v\":1", "\"v\":2").into_bytes(), "version 2"),
            (text.replace("\"v\":1", "\"v\":1,\"x\":1").into_bytes(), "no settings"),
            (b"{}".to_vec(), "no settings"),
            (vec![], "no settings"),
        ] {
            let error = ours.check_settings(&file).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Integrity);
            assert!(error.line().contains(says), "{error:?} / {says}");
        }
        // A downgrade that only changes the words is caught by who has no pin as well.
        let joining = vault(1, 1, 2, NamesMode::Plain);
        assert!(joining.check_settings(plain.as_bytes()).unwrap_err().line().contains("HMAC is wrong"));
    }
}
