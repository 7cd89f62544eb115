//! What `get` and `cat` read: places of locations as they are typed, versions, and the keys to open them.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use sidekey::crypto::rsa::PrivateKey;
use sidekey::location::RESERVED;
use sidekey::location::argument::{Argument, Target};
use sidekey::name::{plain_folder, stored_folder};
use sidekey::ops::get::{Source, Which};
use sidekey::{Error, Result};

use super::identity::load_identities;
use super::location::Place;
use super::passphrase::PassphraseArgs;
use super::report::Report;

/// One place that was typed.
pub(super) struct From {
    pub(super) place: Place,
    pub(super) source: Source,
}

impl From {
    /// Opens what was typed. A folder of the disk without a `/` behind it keeps its name, and an object may be called so
    /// too: its container stands in the folder above.
    pub(super) fn open(typed: &Path) -> Result<Self> {
        let place = Place::open(typed.as_os_str())?;
        if place.vault.is_some() {
            let folder = FolderOfDisk::find(typed)?.filter(|folder| !folder.slash);
            let mut source = Source::new(place.target.clone());
            if place.target.path.is_empty() {
                source.name = folder.map(|folder| folder.name);
            }
            return Ok(Self { place, source });
        }
        let Some(folder) = FolderOfDisk::find(typed)? else {
            let source = Source::new(place.target.clone());
            return Ok(Self { place, source });
        };
        let above = Place::open(folder.above.as_os_str())?.target;
        let below = |name: &[u8], end: &[u8]| {
            let path: Vec<&[u8]> = above.path.iter().map(Vec::as_slice).chain([name]).collect();
            Target::new(above.location.clone(), &[&path.join(&b'/'), end].concat())
        };
        let plain = plain_folder(&folder.name);
        let source = Source {
            object: below(&folder.name, b"").ok().filter(|_| !folder.slash),
            folder: match folder.has_reserved && stored_folder(&plain).as_bytes() == folder.name {
                true => below(&plain, b"/")?,
                false => place.target.clone(),
            },
            name: Some(plain).filter(|_| !folder.slash),
        };
        Ok(Self { place, source })
    }

    /// All that was typed.
    pub(super) fn open_all(typed: &[PathBuf]) -> Result<Vec<Self>> {
        typed.iter().map(|typed| Self::open(typed)).collect()
    }
}

/// A path that is a folder of the disk.
struct FolderOfDisk {
    above: PathBuf,
    name: Vec<u8>,
    /// Whether it was typed with a `/` behind it.
    slash: bool,
    /// Whether a folder in it has the name that is sidekey's own at the root of a location. If this is not the root, it
    /// is a folder like any other, and must not be missing. (If it is, nothing in it looks like a pair.)
    has_reserved: bool,
}

impl FolderOfDisk {
    fn find(typed: &Path) -> Result<Option<Self>> {
        let Argument::Local(path) = Argument::parse(typed.as_os_str())? else { return Ok(None) };
        let bytes = typed.as_os_str().as_bytes();
        let slash = bytes.ends_with(b"/") || bytes.ends_with(b"/.");
        let Some(Component::Normal(name)) = path.components().next_back() else { return Ok(None) };
        // A slash behind a link would lead through it.
        let link = || path.with_file_name(name).symlink_metadata().is_ok_and(|found| found.is_symlink());
        let has_reserved = path.join(RESERVED).is_dir() && !link();
        if !path.is_dir() || (slash && !has_reserved) {
            return Ok(None);
        }
        let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(Some(Self { above: above.to_owned(), name: name.as_bytes().to_vec(), slash, has_reserved }))
    }
}

/// The private keys to open them with: those that were typed, else those of the remotes.
///
/// # Errors
/// `Usage` when there are none; those of reading keys.
pub(super) fn identities(
    from: &[From],
    typed: &[PathBuf],
    passphrase: &PassphraseArgs,
    report: &Report,
) -> Result<Vec<PrivateKey>> {
    let mut paths: Vec<PathBuf> = vec![];
    for path in from.iter().flat_map(|from| from.place.identities(typed)) {
        if !paths.contains(path) {
            paths.push(path.clone());
        }
    }
    if paths.is_empty() {
        return Err(Error::usage("no private key").hint("name one with --identity"));
    }
    load_identities(&paths, passphrase, report)
}

// Not a doc comment: clap would make it the description of the command that takes these options.
// Which version, on stores that keep older ones.
#[derive(clap::Args, Debug, Default)]
pub(super) struct WhichArgs {
    /// this version, of one object; sidekey ls --versions shows them
    #[arg(long, value_name = "ID", conflicts_with = "at", help_heading = "Older versions")]
    version: Option<String>,
    /// the newest version that was there at this time: 2026-11-20T23:06:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_time, help_heading = "Older versions")]
    at: Option<SystemTime>,
}

impl WhichArgs {
    pub(super) fn which(&self) -> Which {
        match (&self.version, self.at) {
            (Some(version), _) => Which::Version(version.clone()),
            (None, Some(time)) => Which::At(time),
            (None, None) => Which::Current,
        }
    }
}

fn parse_time(text: &str) -> Result<SystemTime, String> {
    humantime::parse_rfc3339_weak(text).map_err(|_| "is not a time like 2026-11-20T23:06:00Z (UTC)".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc() {
        let seconds =
            |text: &str| parse_time(text).unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!(seconds("2001-09-09T01:46:40Z"), 1_000_000_000);
        assert_eq!(seconds("2001-09-09 01:46:40"), 1_000_000_000);
        for bad in ["", "yesterday", "2001-09-09T01:46:40+02:00", "1000000000"] {
            assert!(parse_time(bad).is_err(), "{bad:?}");
        }
    }
}
