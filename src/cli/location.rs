//! What was typed for a location, opened: the disk and the configuration are asked what it means.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sidekey::keys::PublicKey;
use sidekey::location::Location;
use sidekey::location::argument::{Argument, Target, no_remote, split};
use sidekey::location::customer::PairEncryption;
use sidekey::location::outside::Outside;
use sidekey::store::Store;
use sidekey::store::local::LocalStore;
use sidekey::store::traced::Traced;
use sidekey::{Error, ErrorKind, IoContext as _, KeyId, Result};

use super::config::{self, JOBS, Pinned, PinnedVault, Remote, Setting};
use super::identity::load_recipients;
use super::report::Report;
use super::vaults::{self, Address, Within};
use super::{services, sse, work};

/// A place in a location, and what is configured for it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) target: Target,
    /// The folder of this machine that the location is, where it is one.
    pub(crate) folder: Option<PathBuf>,
    /// The remote by which it was named.
    remote: Option<&'static Remote>,
    /// The vault of this machine that it is in.
    pub(crate) vault: Option<Arc<PinnedVault>>,
}

impl Place {
    /// Opens what is there.
    ///
    /// # Errors
    /// `Usage` for what is no location, and for a vault that this machine does not take part in; what opening the folder
    /// says; `Integrity` for a vault that is not the pinned one.
    pub(crate) fn open(typed: &OsStr) -> Result<Self> {
        Self::find(typed, LocalStore::open, false)
    }

    /// The same, to write: the folder of a remote is made when it is not there. (Of a path that was typed, the part that
    /// is not there is plain names.)
    ///
    /// # Errors
    /// Those of [`Self::open`].
    pub(crate) fn open_to_write(typed: &OsStr) -> Result<Self> {
        Self::find(typed, LocalStore::create, true)
    }

    /// What stands at exactly this place, as a location of its own without a vault: for those who make or open one.
    ///
    /// # Errors
    /// `Usage` for what is no location; what opening the folder says.
    pub(crate) fn root(typed: &OsStr, to_write: bool) -> Result<Self> {
        let (address, remote) = address(typed)?;
        let location = match &address {
            Address::Local(root) => {
                if to_write && !root.exists() {
                    std::fs::create_dir_all(root).context("cannot make the folder", root)?;
                }
                Location::new(Traced::over(Arc::new(LocalStore::open(root)?)), "")?
            }
            Address::Bucket(service, bucket, path) => {
                Location::new(services::open(*service, bucket, remote)?, utf8(path)?)?
            }
        };
        let folder = match address {
            Address::Local(root) => Some(root),
            Address::Bucket(..) => None,
        };
        Ok(Self { target: Target::new(location, b"")?, folder, remote, vault: None })
    }

    /// What is wrong with the keys that the vault of this place keeps; nothing outside of vaults.
    ///
    /// # Errors
    /// What reading them fails with.
    pub(crate) fn vault_faults(&self) -> Result<Vec<Error>> {
        match &self.vault {
            None => Ok(vec![]),
            Some(pinned) => {
                sidekey::ops::vault::faults(&self.target.location, pinned.settings.generation, pinned.escrow)
            }
        }
    }

    /// What is pinned of a vault with its root at exactly this place.
    ///
    /// # Errors
    /// `Usage` for what is no location; what reading the configuration of vaults fails with.
    pub(crate) fn pinned_root(typed: &OsStr) -> Result<Option<PinnedVault>> {
        let within = vaults::find(&address(typed)?.0)?;
        Ok(within.filter(|within| within.path.is_empty()).map(|within| within.pinned))
    }

    fn find(typed: &OsStr, open: impl Fn(&Path) -> Result<LocalStore>, to_write: bool) -> Result<Self> {
        let (address, remote) = address(typed)?;
        if let Some(within) = vaults::find(&address)? {
            return Self::within(within, remote);
        }
        let at = |root: &Path, path: &[u8]| {
            Target::new(Location::new(Traced::over(Arc::new(open(root)?)), "")?, path)
        };
        let (root, path) = match (Argument::parse(typed)?, remote) {
            (Argument::Local(path), _) => {
                vaults::refuse_folder(&path)?;
                let (root, rest) = split(&path, Path::is_dir)?;
                let target = at(&root, &rest)?;
                refuse_file(&root, &target, &rest)?;
                return Ok(Self { target, folder: Some(root), remote: None, vault: None });
            }
            (Argument::Service(service, bucket, path), _) => {
                let mut location = Location::new(services::open(service, &bucket, None)?, "")?;
                match to_write {
                    true => vaults::refuse_bucket(&location, &path)?,
                    false => location = Location::new(outside(location.shared_store(), &path), "")?,
                }
                let target = Target::new(location, &path)?;
                return Ok(Self { target, folder: None, remote: None, vault: None });
            }
            (Argument::Remote(_, path), Some(remote)) => {
                (Argument::parse(remote.location.as_os_str())?, path)
            }
            (Argument::Remote(name, _), None) => return Err(no_remote(&name)),
        };
        match root {
            Argument::Local(root) => {
                vaults::refuse_folder(&root)?;
                let target = at(&root, &path).map_err(|error| match (error.kind(), remote) {
                    (ErrorKind::NotFound, Some(remote)) => error.hint(format!(
                        "the remote {} is there; the first put to it makes the folder, or is a disk not mounted?",
                        remote.name
                    )),
                    _ => error,
                })?;
                Ok(Self { target, folder: Some(root), remote, vault: None })
            }
            // What was configured is taken literally, as a folder is.
            Argument::Service(service, bucket, prefix) => {
                let store = services::open(service, &bucket, remote)?;
                let prefix = utf8(&prefix)?;
                let location = match to_write {
                    true => {
                        vaults::refuse_bucket(&Location::new(Arc::clone(&store), "")?, prefix.as_bytes())?;
                        Location::new(store, prefix)?
                    }
                    false => {
                        let parts = [prefix.trim_end_matches('/').as_bytes(), &*path];
                        let parts: Vec<&[u8]> = parts.into_iter().filter(|part| !part.is_empty()).collect();
                        Location::new(outside(store, &parts.join(&b'/')), prefix)?
                    }
                };
                Ok(Self { target: Target::new(location, &path)?, folder: None, remote, vault: None })
            }
            Argument::Remote(name, _) => Err(remote_of_remote(&name)),
        }
    }

    /// A place in a vault of this machine. What the store says of the vault must be what is pinned.
    fn within(within: Within, remote: Option<&'static Remote>) -> Result<Self> {
        let Within { pinned, vault, root, path } = within;
        let (location, folder) = match root {
            Address::Local(root) => {
                (Location::new(Traced::over(Arc::new(LocalStore::open(&root)?)), "")?, Some(root))
            }
            Address::Bucket(service, bucket, prefix) => {
                (Location::new(services::open(service, &bucket, remote)?, utf8(&prefix)?)?, None)
            }
        };
        let location = location.in_vault(vault);
        sidekey::ops::vault::check(&location)?;
        Ok(Self { target: Target::new(location, &path)?, folder, remote, vault: Some(Arc::new(pinned)) })
    }

    /// For whom to encrypt: the keys of these files when some were typed, else those that the remote pins.
    ///
    /// # Errors
    /// `Usage` when there is nobody; `Integrity` when a file does not hold the key that is pinned; those of reading keys.
    pub(crate) fn recipients(&self, typed: &[PathBuf], report: &Report) -> Result<Vec<PublicKey>> {
        let keys = match (typed.is_empty(), self.remote) {
            (true, Some(remote)) => pinned(remote)?,
            _ => load_recipients(typed)?,
        };
        let keys = match (keys.is_empty(), &self.vault) {
            (true, Some(vault)) => {
                let copy = |key: &PublicKey| PublicKey::from_pem(key.to_pem().as_bytes());
                vault.recipients.iter().map(copy).collect::<Result<_>>()?
            }
            _ => keys,
        };
        if keys.is_empty() {
            return Err(Error::usage("no recipient: nobody could open the result")
                .hint("name a public key with --recipient; sidekey keygen makes a pair"));
        }
        if let Some(remote) = self.remote.filter(|remote| !remote.recipients.is_empty()) {
            let usual: Option<BTreeSet<_>> = remote.recipients.iter().map(key_id).collect();
            if !typed.is_empty() && usual != Some(keys.iter().map(PublicKey::id).collect()) {
                let warning = Error::usage("the keys of --recipient are not those that the remote pins");
                report.warning(
                    &warning.about(&remote.name).hint("sidekey remote ls shows whose keys are pinned"),
                );
            }
        }
        Ok(keys)
    }

    /// The private key files to use: those that were typed, else those of the remote.
    pub(crate) fn identities<'a>(&'a self, typed: &'a [PathBuf]) -> &'a [PathBuf] {
        match self.remote {
            Some(remote) if typed.is_empty() => &remote.identities,
            _ => typed,
        }
    }

    /// How the service is asked to encrypt what is put there.
    ///
    /// # Errors
    /// `Usage` where there is no service; those of reading a key.
    pub(crate) fn encryption(&self) -> Result<PairEncryption> {
        sse::of_pairs(self.remote, self.folder.is_some())
    }

    /// What is configured for a setting, where anything is.
    pub(crate) fn configured(&self, setting: &Setting) -> Option<String> {
        config::current().get(setting, self.remote)
    }

    /// The number of threads to work with.
    pub(crate) fn jobs(&self, asked: Option<usize>) -> usize {
        work::jobs(asked.or_else(|| config::current().get(&JOBS, self.remote)))
    }
}

/// A name that is to be a folder's, as the slash behind it says, is not that of a file.
fn refuse_file(root: &Path, target: &Target, typed: &[u8]) -> Result<()> {
    let stored = target.stored_prefix();
    let first = root.join(stored.split('/').next().unwrap_or_default());
    match typed.contains(&b'/') && first.is_file() {
        true => Err(Error::usage("is a file, not a folder").at(first)),
        false => Ok(()),
    }
}

/// Where that is which was typed, and the remote by which it was named.
fn address(typed: &OsStr) -> Result<(Address, Option<&'static Remote>)> {
    let (remote, root, path) = match Argument::parse(typed)? {
        Argument::Local(path) => return Ok((Address::Local(path), None)),
        Argument::Service(service, bucket, path) => {
            return Ok((Address::Bucket(service, bucket, path), None));
        }
        Argument::Remote(name, path) => {
            let remote = config::current().remote(&name)?;
            (remote, Argument::parse(remote.location.as_os_str())?, path)
        }
    };
    let address = match root {
        Argument::Local(root) if path.is_empty() => Address::Local(root),
        Argument::Local(root) => Address::Local(root.join(OsStr::from_bytes(&path))),
        Argument::Service(service, bucket, prefix) => {
            let prefix = prefix.strip_suffix(b"/").unwrap_or(&prefix);
            let parts: Vec<&[u8]> = [prefix, &*path].into_iter().filter(|part| !part.is_empty()).collect();
            Address::Bucket(service, bucket, parts.join(&b'/'))
        }
        Argument::Remote(name, _) => return Err(remote_of_remote(&name)),
    };
    Ok((address, Some(remote)))
}

fn remote_of_remote(name: &str) -> Error {
    Error::input("is a remote whose location is another remote")
        .about(name)
        .hint("write its folder or URL into the configuration")
}

/// The same store, which says when what is read there is in a vault of others.
fn outside(store: Arc<dyn Store>, path: &[u8]) -> Arc<dyn Store> {
    // The folders above what is no UTF-8 can be in one all the same.
    Outside::over(store, &String::from_utf8_lossy(path))
}

fn utf8(prefix: &[u8]) -> Result<&str> {
    let read = std::str::from_utf8(prefix);
    read.map_err(|_| Error::input("is a prefix that is not UTF-8").about(String::from_utf8_lossy(prefix)))
}

/// Which key is pinned, as far as that can be said.
fn key_id(pinned: &Pinned) -> Option<KeyId> {
    let of_file =
        || load_recipients(std::slice::from_ref(pinned.file.as_ref()?)).ok()?.first().map(PublicKey::id);
    pinned.key_id.or_else(of_file)
}

/// The keys that a remote pins.
fn pinned(remote: &Remote) -> Result<Vec<PublicKey>> {
    let mut keys: Vec<PublicKey> = Vec::new();
    for pinned in &remote.recipients {
        let Some(file) = &pinned.file else {
            return Err(Error::usage(format!("{pinned} is pinned without the file of its public key"))
                .about(&remote.name)
                .hint("name that file with --recipient, or in the configuration: { file = \"…\", key-id = \"…\" }"));
        };
        for key in load_recipients(std::slice::from_ref(file))? {
            if pinned.key_id.is_some_and(|key_id| key_id != key.id()) {
                return Err(Error::integrity(format!(
                    "holds another key than the one that {} pins",
                    remote.name
                ))
                .at(file)
                .hint(
                    "find out who changed it; if it was you: sidekey remote add --force pins the new key",
                ));
            }
            if keys.iter().all(|known| known.id() != key.id()) {
                keys.push(key);
            }
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was typed, below a folder that holds `vault/photos/`, `vault/a.enc~/` and the file `vault/x.enc`.
    #[test]
    fn what_was_typed_is_a_store_and_plain_names_below_it() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["vault/photos", "vault/a.enc~"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        std::fs::copy(file!(), dir.path().join("vault/x.enc")).unwrap();
        // Typed, the store's folder, the plain path, whether only a folder is meant.
        let cases: [(&str, &str, &[&str], bool); 12] = [
            ("vault", "vault", &[], true),
            ("vault/", "vault", &[], true),
            ("vault/x", "vault", &["x"], false),
            ("vault/x.enc", "vault", &["x.enc"], false),
            ("vault/x/", "vault", &["x"], true),
            ("vault/photos", "vault/photos", &[], true),
            ("vault/photos/2024/a.jpg", "vault/photos", &["2024", "a.jpg"], false),
            ("vault/a.enc/b", "vault", &["a.enc", "b"], false),
            ("vault/a.enc~/b", "vault/a.enc~", &["b"], false),
            ("vault/../vault/./x", "vault/../vault/.", &["x"], false),
            ("new", "", &["new"], false),
            ("new/", "", &["new"], true),
        ];
        for (typed, root, path, folder) in cases {
            let place = Place::open(dir.path().join(typed).as_os_str()).unwrap();
            let whole = |name: &str| dir.path().join(name).to_str().unwrap().trim_end_matches('/').to_owned();
            assert_eq!(place.folder.as_ref().unwrap().to_str().unwrap(), whole(root), "{typed}");
            assert_eq!(
                place.target.path,
                path.iter().map(|name| name.as_bytes()).collect::<Vec<_>>(),
                "{typed}"
            );
            assert_eq!(place.target.folder, folder, "{typed}");
            let url = format!("file://{}", whole("").to_owned() + "/" + typed);
            assert_eq!(Place::open(url.as_ref()).unwrap().target.path, place.target.path, "{url}");
        }
    }

    #[test]
    fn nothing_is_made_by_looking() {
        let dir = tempfile::tempdir().unwrap();
        for typed in ["new/x", "new/"] {
            Place::open(dir.path().join(typed).as_os_str()).unwrap();
            Place::open_to_write(dir.path().join(typed).as_os_str()).unwrap();
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let error = Place::open("nowhere:x".as_ref()).unwrap_err();
        assert_eq!((error.kind(), error.line()), (ErrorKind::Usage, "no remote nowhere".to_owned()));
        assert!(error.remedy().unwrap().starts_with("for a file write ./nowhere:…"), "{error:?}");
    }
}
