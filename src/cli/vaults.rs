//! Which vault of this machine a location is in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sidekey::keys::PublicKey;
use sidekey::location::Location;
use sidekey::location::argument::{Argument, Service};
use sidekey::location::outside::outside;
use sidekey::location::vault::settings_name;
use sidekey::ops::vault;
use sidekey::rewrap::Rotation;
use sidekey::vault::{NamesMode, Vault};
use sidekey::{Error, Result};

use super::config::{self, PinnedVault};
use super::location::Place;
use super::report::Report;

/// What was typed, with every remote looked up: where it is, whatever it is called.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    /// A path of this machine.
    Local(PathBuf),
    /// A path in a bucket.
    Bucket(Service, String, Vec<u8>),
}

/// A vault of this machine, and the plain path below its root.
pub(crate) struct Within {
    pub(crate) pinned: PinnedVault,
    pub(crate) vault: Arc<Vault>,
    pub(crate) root: Address,
    pub(crate) path: Vec<u8>,
}

/// The vault that an address is in, the innermost where there are several; nothing outside of all.
///
/// # Errors
/// What reading the configuration of vaults fails with.
pub(crate) fn find(address: &Address) -> Result<Option<Within>> {
    let mut best: Option<(usize, PinnedVault, Address, Vec<u8>)> = None;
    for pinned in config::current().vaults()? {
        let Some((root, path)) = below(address, &pinned.location)? else { continue };
        let len = pinned.location.len();
        if best.as_ref().is_none_or(|(most, ..)| len > *most) {
            best = Some((len, pinned, root, path));
        }
    }
    Ok(best.map(|(_, pinned, root, path)| {
        let vault = Arc::new(pinned.vault());
        let path = plain(&vault, path);
        Within { pinned, vault, root, path }
    }))
}

/// The path of an address below the root of a vault.
fn below(address: &Address, root: &str) -> Result<Option<(Address, Vec<u8>)>> {
    match (address, Argument::parse(root.as_ref())?) {
        (Address::Local(typed), Argument::Local(root)) => {
            let rest =
                [std::path::absolute(typed).ok(), real(typed)].into_iter().flatten().find_map(|typed| {
                    let roots = [Some(root.clone()), std::fs::canonicalize(&root).ok()].into_iter().flatten();
                    roots.filter_map(|root| Some(typed.strip_prefix(root).ok()?.to_owned())).next()
                });
            Ok(rest.map(|rest| {
                use std::os::unix::ffi::OsStrExt as _;
                let mut path = rest.as_os_str().as_bytes().to_vec();
                if typed.as_os_str().as_bytes().ends_with(b"/") && !path.is_empty() {
                    path.push(b'/');
                }
                (Address::Local(root), path)
            }))
        }
        (Address::Bucket(service, bucket, path), Argument::Service(of, name, prefix))
            if *service == of && *bucket == name =>
        {
            let prefix = prefix.strip_suffix(b"/").unwrap_or(&prefix).to_vec();
            let rest = match path.strip_prefix(prefix.as_slice()) {
                Some(rest) if prefix.is_empty() => Some(rest),
                Some([]) => Some(&[][..]),
                Some([b'/', rest @ ..]) => Some(rest),
                _ => None,
            };
            Ok(rest.map(|rest| (Address::Bucket(of, name, prefix), rest.to_vec())))
        }
        _ => Ok(None),
    }
}

/// A path with its links followed as far as it is there.
fn real(typed: &Path) -> Option<PathBuf> {
    let typed = std::path::absolute(typed).ok()?;
    typed.ancestors().find_map(|there| {
        let rest = typed.strip_prefix(there).ok()?;
        Some(std::fs::canonicalize(there).ok()?.join(rest))
    })
}

/// A path as the shell completes it in a folder of this machine is made of encrypted names.
fn plain(vault: &Vault, path: Vec<u8>) -> Vec<u8> {
    let stored = std::str::from_utf8(&path).ok().filter(|_| vault.names() == NamesMode::Encrypted);
    let Some(folders) = stored.and_then(|stored| vault.plain_folder(stored)) else { return path };
    let mut plain = folders.join(&b'/');
    if path.ends_with(b"/") {
        plain.push(b'/');
    }
    plain
}

/// Whether a path of this machine is in a vault, whoever takes part in it.
///
/// # Errors
/// What reading the configuration of vaults fails with.
pub(crate) fn has(path: &Path) -> Result<bool> {
    Ok(refuse_folder(path).is_err() || find(&Address::Local(path.to_owned()))?.is_some())
}

/// Refuses a folder in a vault that this machine does not take part in: names would be wrong both ways.
///
/// # Errors
/// `Usage` when it is in one.
pub(crate) fn refuse_folder(typed: &Path) -> Result<()> {
    let Some(real) = real(typed) else { return Ok(()) };
    match real.ancestors().find(|folder| folder.join(settings_name()).is_file()) {
        Some(root) => Err(outside().at(root)),
        None => Ok(()),
    }
}

/// The same for a place in a bucket, where that can be told.
///
/// # Errors
/// `Usage` when it is in one.
pub(crate) fn refuse_bucket(store: &Location, path: &[u8]) -> Result<()> {
    let Ok(path) = std::str::from_utf8(path) else { return Ok(()) };
    match vault::above(store, path)? {
        Some(root) => Err(outside().about(store.store().show(&root))),
        None => Ok(()),
    }
}

/// What this machine stores from now on is for those who have what is there: a vault's recipients change with its archive.
///
/// # Errors
/// What writing what is pinned fails with.
pub(crate) fn follow(place: &Place, rotation: &Rotation, report: &Report) -> Result<()> {
    let Some(pinned) = place.vault.as_ref().filter(|_| place.target.path.is_empty()) else { return Ok(()) };
    let ids = |keys: &[PublicKey]| keys.iter().map(|key| key.id().short()).collect::<Vec<_>>();
    let mut next = PinnedVault::parse(&pinned.to_text())?;
    next.recipients.retain(|key| !rotation.leaves(&key.id()));
    for key in &rotation.new {
        if next.recipients.iter().all(|known| known.id() != key.id()) {
            next.recipients.push(PublicKey::from_pem(key.to_pem().as_bytes())?);
        }
    }
    if ids(&next.recipients) == ids(&pinned.recipients) {
        return Ok(());
    }
    config::current().pin(&next)?;
    report.note(format_args!(
        "this machine encrypts for key {} there from now on; others do after sidekey vault join",
        ids(&next.recipients).join(", ")
    ));
    Ok(())
}

/// The private key that a vault holds under a passphrase does not change with its archive.
///
/// # Errors
/// What asking the store fails with.
pub(crate) fn mind_escrow(place: &Place, report: &Report) -> Result<()> {
    let Some(pinned) = place.vault.as_ref().filter(|_| place.target.path.is_empty()) else { return Ok(()) };
    if vault::escrow(&place.target.location)?.is_some() {
        report.warning(
            &Error::conflict(
                "keeps a private key under a passphrase, which was not changed: if it is the old one, that \
                 passphrase opens nothing any more",
            )
            .about(&pinned.location)
            .hint(format!(
                "sidekey vault escrow {} -i NEW.pem --replace puts the new one there; first let a second run find nothing to do",
                pinned.location
            )),
        );
    }
    Ok(())
}
