//! The keys that `-i` and `-r` name: files read, opened and freed of duplicates.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sidekey::keys::{KeyFile, MAX_FILE_LEN, PrivateKey, PublicKey};
use sidekey::{Error, IoContext as _, Result};
use zeroize::Zeroizing;

use super::passphrase::{PassphraseArgs, Passphrases};
use super::report::Report;

/// Opens the private keys of `paths`, each key once, and warns about files that others can read.
///
/// # Errors
/// The first that any of them gives, with its path.
pub(crate) fn load_identities(
    paths: &[PathBuf],
    args: &PassphraseArgs,
    report: &Report,
) -> Result<Vec<PrivateKey>> {
    let mut passphrases = Passphrases::new(args, paths);
    let mut seen = BTreeSet::new();
    let mut keys = Vec::new();
    for path in paths {
        let (_, file) = read_private(path, report)?;
        let key = passphrases.open(path, &file, report)?;
        if seen.insert(key.id()) {
            keys.push(key);
        }
    }
    Ok(keys)
}

/// Reads the public keys of `paths`, each key once.
///
/// # Errors
/// The first that any of them gives, with its path.
pub(crate) fn load_recipients(paths: &[PathBuf]) -> Result<Vec<PublicKey>> {
    let mut seen = BTreeSet::new();
    let mut keys = Vec::new();
    for path in paths {
        if path.is_dir() {
            return Err(Error::usage("is a folder; the file of a public key is needed")
                .at(path)
                .hint("-r names a recipient, it does not mean recursive: folders are always entered"));
        }
        let key = PublicKey::from_pem(&read(path)?).map_err(|error| error.at(path))?;
        if seen.insert(key.id()) {
            keys.push(key);
        }
    }
    Ok(keys)
}

/// The bytes of a private key file and what they are; warns when others than its owner can read it.
///
/// # Errors
/// What reading and [`KeyFile::parse`] say, with the path.
pub(crate) fn read_private(path: &Path, report: &Report) -> Result<(Zeroizing<Vec<u8>>, KeyFile)> {
    if path.is_dir() {
        return Err(Error::usage("is a folder; the file of a private key is needed").at(path));
    }
    let bytes = read(path)?;
    let file = KeyFile::parse(&bytes).map_err(|error| error.at(path))?;
    if let Ok(found) = std::fs::metadata(path) {
        let mode = found.permissions().mode() & 0o777;
        if found.is_file() && mode & 0o077 != 0 {
            let warning = Error::input(format!("other users can use this private key (mode {mode:04o})"));
            report.warning(&warning.at(path).hint(format!("chmod 600 {}", path.display())));
        }
    }
    Ok((bytes, file))
}

/// At most one byte more than a key file can have, so that its reader sees that it is too long.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(16 << 10));
    let file = File::open(path).context("cannot read", path)?;
    file.take(MAX_FILE_LEN as u64 + 1).read_to_end(&mut bytes).context("cannot read", path)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use sidekey::ErrorKind;

    use super::*;

    fn fixtures(names: &[&str]) -> Vec<PathBuf> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/keys");
        names.iter().map(|name| dir.join(name)).collect()
    }

    #[derive(clap::Parser)]
    struct Typed {
        #[command(flatten)]
        passphrase: PassphraseArgs,
    }

    #[test]
    fn one_passphrase_is_read_once_for_all_files_and_one_key_in_many_files_is_one() {
        let dir = tempfile::tempdir().unwrap();
        // The second run of this command would fail.
        let command = format!("mkdir '{}/once' && echo correct horse", dir.path().display());
        let typed = Typed::parse_from(["test", "--passphrase-command", &command]);
        let report = Report::new(crate::cli::report::Settings::default());
        let files = ["pkcs8-aes256.pem", "traditional-des3.pem", "pkcs1.pem", "pkcs8-scrypt.pem"];
        let keys = load_identities(&fixtures(&files), &typed.passphrase, &report).unwrap();
        assert_eq!(keys.len(), 1);
    }

    #[test]
    fn recipients_are_files_and_each_key_counts_once() {
        let keys = load_recipients(&fixtures(&["spki.pub.pem", "pkcs1.pub.pem"])).unwrap();
        assert_eq!(keys.len(), 1);
        let error = load_recipients(&fixtures(&["."])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.line().ends_with(": is a folder; the file of a public key is needed"), "{error:?}");
        assert!(error.remedy().unwrap().starts_with("-r names a recipient, it does not mean recursive"));
        let error = load_recipients(&fixtures(&["pkcs8.pem"])).unwrap_err();
        assert!(error.line().ends_with("pkcs8.pem: is a private key; a public one is needed"), "{error:?}");
    }
}
