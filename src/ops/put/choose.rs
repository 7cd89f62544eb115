//! What of the sources is put, and under names that the location can keep.

use std::collections::HashSet;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::location::{Location, RESERVED};
use crate::name::{ObjectName, envelope_name};
use crate::ops::events::{Event, Observer};
use crate::ops::filter::Filter;
use crate::ops::twins::Twins;
use crate::ops::walk::{Found, root_segments};
use crate::{DataId, Error, Result};

/// The file that marks a cache, and how it begins (bford.info/cachedir).
const CACHE_TAG: &str = "CACHEDIR.TAG";
const CACHE_SIGNATURE: &[u8; 43] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// Says of everything that is found whether it is left out, and tells why.
pub(in crate::ops) struct Chooser<'a> {
    /// What to take.
    pub(in crate::ops) filter: &'a Filter,
    /// Whether to leave out folders that are marked as caches.
    pub(in crate::ops) exclude_caches: bool,
    /// Whether to stay on the file system of each source.
    pub(in crate::ops) one_file_system: bool,
    pub(in crate::ops) observer: &'a dyn Observer,
    /// The file system of the source that is being walked.
    pub(in crate::ops) device: AtomicU64,
    /// The names that were chosen.
    pub(in crate::ops) twins: Arc<Twins>,
}

/// Why something is left out.
pub(in crate::ops) enum LeftOut {
    /// It is sidekey's own.
    Reserved,
    /// By the patterns, which see names alone.
    Filtered(String),
    /// By what it is on this machine.
    Here(String),
}

impl<'a> Chooser<'a> {
    /// Everything is asked about in the order of the walk.
    pub(in crate::ops) fn leaves_out(&self, found: &Found) -> bool {
        self.why(found).is_some()
    }

    /// The same with the reason, which the observer is told.
    pub(in crate::ops) fn why(&self, found: &Found) -> Option<LeftOut> {
        let path = &found.path;
        let Some(why) = self.judge(found) else {
            for twin in self.twins.note(&found.segments) {
                self.observer.event(Event::Warning { path, message: &twin.to_string() });
            }
            return None;
        };
        match &why {
            LeftOut::Reserved => {
                // Whoever backs up a whole location may believe that it is in there.
                let message =
                    "is the folder that sidekey keeps for itself in every location; it was left out";
                self.observer.event(Event::Warning { path, message });
            }
            LeftOut::Filtered(why) | LeftOut::Here(why) => self.observer.event(Event::Skipped { path, why }),
        }
        Some(why)
    }

    fn judge(&self, found: &Found) -> Option<LeftOut> {
        if is_reserved(found) {
            return Some(LeftOut::Reserved);
        }
        let metadata = &found.metadata;
        if found.named {
            self.device.store(metadata.dev(), Ordering::Relaxed);
        }
        if metadata.is_file() && is_part(&found.path) {
            return Some(LeftOut::Here("is a file that sidekey get has not finished".into()));
        }
        if let Some(why) = self.filter.leaves_out(&found.segments, metadata.is_dir()) {
            return Some(LeftOut::Filtered(why));
        }
        if metadata.is_dir() && self.exclude_caches && is_cache(&found.path) {
            return Some(LeftOut::Here(format!("is a cache, says its {CACHE_TAG}")));
        }
        if self.one_file_system && metadata.dev() != self.device.load(Ordering::Relaxed) {
            return Some(LeftOut::Here("is on another file system".into()));
        }
        None
    }
}

/// Whether it is called like the folder of a location that is sidekey's own. That is left out wherever it stands: any
/// folder of a local location can be named as a location itself.
fn is_reserved(found: &Found) -> bool {
    found.metadata.is_dir() && found.segments.last().is_some_and(|name| name == RESERVED.as_bytes())
}

/// Whether it has a name that unfinished files of `get` have: `.NAME.sidekey-part`.
fn is_part(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.as_bytes()).unwrap_or_default();
    name.starts_with(b".") && name.ends_with(b".sidekey-part")
}

fn is_cache(folder: &Path) -> bool {
    let mut start = [0; CACHE_SIGNATURE.len()];
    let read = std::fs::File::open(folder.join(CACHE_TAG)).and_then(|mut tag| tag.read_exact(&mut start));
    read.is_ok() && start == *CACHE_SIGNATURE
}

/// The names that were given away in this run, as digests: of millions, too, they are few bytes.
#[derive(Default)]
pub(super) struct Names {
    taken: Mutex<HashSet<[u8; 16]>>,
}

impl Names {
    /// Whether two of these sources could want one name: where there are several, and one gives its contents without its
    /// own name.
    pub(super) fn needed(inputs: &[PathBuf]) -> bool {
        inputs.len() > 1 && inputs.iter().any(|input| root_segments(input).is_empty())
    }

    /// Takes a name; false when it is taken.
    pub(super) fn take(&self, stored: &str) -> bool {
        let digest = Sha256::digest(stored);
        let mut short = [0; 16];
        short.copy_from_slice(&digest[..16]);
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(short)
    }
}

/// Refuses stored names that the location's store has no room for, or forbids: that of the container, and the longer one
/// of its envelope.
pub(super) fn check_names(location: &Location, name: &ObjectName, stored: &str) -> Result<()> {
    if let Some(vault) = location.vault() {
        vault.check(name)?;
    }
    let any_id = DataId([0; 16]);
    let envelope = envelope_name(stored, Some(&any_id));
    for name in [Some(stored), envelope.as_deref()].into_iter().flatten() {
        location.store().check_key(&location.key(name)).map_err(|error| impossible(&error))?;
    }
    Ok(())
}

/// The same error, about the file that has the name here.
fn impossible(error: &Error) -> Error {
    let line = error.line();
    let why = error.subject().and_then(|subject| line.strip_prefix(subject)?.strip_prefix(": "));
    let why = format!("cannot be called so in the location: {}", why.unwrap_or(&line));
    let hint = error.remedy().unwrap_or("rename it, or put it as LOCATION/NAME");
    Error::new(error.kind(), why).hint(hint)
}
