//! Where the two sides are, and whether one is in the other.

use std::path::{Component, Path, PathBuf};

use crate::location::Location;
use crate::location::argument::Target;
use crate::{Error, IoContext as _, Result};

/// A place of a location by a name that does not depend on the current folder, nor on which part of a path is there yet.
pub(super) fn named(shown: &str) -> String {
    if is_url(shown) {
        return shown.to_owned();
    }
    let whole = real(Path::new(if shown.is_empty() { "." } else { shown })).display().to_string();
    whole.trim_end_matches('/').to_owned()
}

/// Whether it is a place of a service, as its store shows it.
fn is_url(shown: &str) -> bool {
    shown.split_once("://").is_some_and(|(scheme, _)| !scheme.contains('/'))
}

/// A path without symlinks and `..`. In the part that is not there yet there are no links.
fn real(path: &Path) -> PathBuf {
    let found = path.ancestors().find_map(|above| {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        Some((above.canonicalize().ok()?, path.strip_prefix(above).unwrap_or(path)))
    });
    let Some((mut whole, rest)) = found else { return path.to_owned() };
    for part in rest.components() {
        match part {
            Component::ParentDir => drop(whole.pop()),
            Component::CurDir => {}
            part => whole.push(part),
        }
    }
    whole
}

/// The folder of this machine that `stored` is in a location; nothing where that is in a service.
pub(super) fn folder_of_disk(location: &Location, stored: &str) -> Option<PathBuf> {
    let (store, root) = (location.store(), location.store().show(""));
    let is_local = !is_url(&root) && Path::new(&root).is_dir();
    is_local.then(|| PathBuf::from(store.show(&location.key(stored))))
}

/// Refuses a folder of this machine that is not there: it is not one that holds nothing. A service knows no folders.
pub(super) fn require_source(source: &Target) -> Result<()> {
    let Some(folder) = folder_of_disk(&source.location, &source.stored_prefix()) else { return Ok(()) };
    let shown = source.show();
    match folder.metadata().context("cannot read", &shown)?.is_dir() {
        true => Ok(()),
        false => Err(Error::usage("is no folder").about(shown)),
    }
}

/// Whether one place is in the other.
pub(super) fn overlap(a: &str, b: &str) -> bool {
    let folder = |text: &str| text.trim_end_matches('/').to_owned() + "/";
    let (a, b) = (folder(a), folder(b));
    a.starts_with(&b) || b.starts_with(&a)
}

/// The same of folders of this machine, however they are written.
pub(super) fn is_within(a: &Path, b: &Path) -> bool {
    let (a, b) = (real(a), real(b));
    a.starts_with(&b) || b.starts_with(&a)
}
