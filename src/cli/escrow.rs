//! The private key that a vault holds, encrypted under a passphrase: the store can guess at it for ever.

use std::path::{Path, PathBuf};

use sidekey::keys::{Kdf, KeyFile, PrivateKey};
use sidekey::location::vault::escrow_name;
use sidekey::ops::vault::{self, Kept};
use sidekey::random::OsRandom;
use sidekey::secret::Passphrase;
use sidekey::{Error, Result};
use zeroize::Zeroizing;

use super::location::Place;
use super::passphrase::{NewPassphraseArgs, PassphraseArgs, Passphrases};
use super::report::Report;

/// The length of a key that is made for a vault, in bits.
pub(crate) const BITS: usize = 3072;
/// The rounds of PBKDF2 for a key that the store holds.
pub(crate) const ROUNDS: u32 = 2_000_000;
/// The shortest passphrase for it, in bytes.
const SHORTEST: usize = 12;
/// The fewest different bytes in it.
const FEWEST: usize = 6;

/// The text of the file, under a new passphrase; it opens again, or it is an error.
///
/// # Errors
/// `Input` for a weak passphrase; `Usage` for none; what reading it says.
pub(crate) fn seal(
    key: &PrivateKey,
    args: &NewPassphraseArgs,
    kdf: Kdf,
    place: &Place,
) -> Result<Zeroizing<String>> {
    let shown = shown(place);
    let passphrase = args
        .read(&shown)?
        .ok_or_else(|| Error::usage("a private key in a vault cannot be without a passphrase").at(&shown))?;
    check(&passphrase)?;
    let text = Zeroizing::new(key.to_encrypted_pem(&passphrase, kdf, &OsRandom)?);
    match KeyFile::parse(text.as_bytes())?.open(Some(&passphrase))?.id() == key.id() {
        true => Ok(text),
        false => Err(Error::integrity("the key does not open again; nothing was written")),
    }
}

/// The private key that an interrupted init left in the vault, and the text of its file; nothing where there is none.
///
/// # Errors
/// `Conflict` when the new passphrase does not open it; what reading says.
pub(crate) fn begun(
    args: &NewPassphraseArgs,
    place: &Place,
) -> Result<Option<(PrivateKey, Zeroizing<String>)>> {
    let Some(kept) = vault::escrow(&place.target.location)? else { return Ok(None) };
    let shown = shown(place);
    let file = parse(&kept.bytes, &shown)?;
    let passphrase = args.read(&shown)?;
    let key = file.open(passphrase.as_ref()).map_err(|error| {
        Error::conflict("is there already, and the new passphrase does not open it")
            .because(error)
            .at(&shown)
            .hint(
                "give the passphrase of the init that was interrupted; sidekey vault passwd changes it later",
            )
    })?;
    Ok(Some((key, Zeroizing::new(String::from_utf8_lossy(&kept.bytes).into_owned()))))
}

/// The escrowed private key of a vault, opened with its passphrase.
///
/// # Errors
/// `NotFound` when the vault holds none; what reading and opening it say.
pub(crate) fn open(place: &Place, args: &PassphraseArgs, report: &Report) -> Result<PrivateKey> {
    open_kept(place, args, report).map(|(key, ..)| key)
}

/// The same, its file, and what was read.
///
/// # Errors
/// Those of [`open`].
pub(crate) fn open_kept(
    place: &Place,
    args: &PassphraseArgs,
    report: &Report,
) -> Result<(PrivateKey, KeyFile, Kept)> {
    let shown = shown(place);
    let kept = vault::escrow(&place.target.location)?.ok_or_else(|| {
        Error::not_found("the vault holds no private key")
            .at(&shown)
            .hint("name the private key with --identity; sidekey init --escrow keeps one in the vault")
    })?;
    let file = parse(&kept.bytes, &shown)?;
    let key = Passphrases::new(args, std::slice::from_ref(&shown)).open(&shown, &file, report)?;
    Ok((key, file, kept))
}

/// A key file of the store's. What has no passphrase anybody can have put there.
fn parse(text: &[u8], shown: &Path) -> Result<KeyFile> {
    let file = KeyFile::parse(text).map_err(|error| error.at(shown))?;
    match file.is_encrypted() {
        true => Ok(file),
        false => Err(Error::integrity("is a private key without a passphrase; sidekey never puts one there")
            .at(shown)
            .hint("somebody else did: it is not used")),
    }
}

fn shown(place: &Place) -> PathBuf {
    let location = &place.target.location;
    Path::new(&location.store().show(&location.key(&escrow_name()))).to_owned()
}

/// Whoever reads the bucket can try passphrases for as long as he likes.
fn check(passphrase: &Passphrase) -> Result<()> {
    let bytes = passphrase.expose();
    let mut seen = [false; 256];
    bytes.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    let different = seen.iter().filter(|seen| **seen).count();
    match bytes.len() < SHORTEST || different < FEWEST {
        true => Err(Error::input(format!(
            "is too weak a passphrase for a key that the store holds: {SHORTEST} bytes and {FEWEST} different ones are the least"
        ))
        .about("the new passphrase")
        .hint("take six words of a list by chance, or 20 characters of a password manager")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_passphrases_are_refused() {
        for weak in ["", "short", "aaaaaaaaaaaaaaaaaaaa", "abababababab"] {
            assert!(check(&Passphrase::new(weak.into())).is_err(), "{weak}");
        }
        check(&Passphrase::new("correct horse battery".into())).unwrap();
    }
}
