//! What a place that was typed holds: the object of that name, or what is in the folder.

use std::time::SystemTime;

use futures_util::StreamExt as _;
use tokio::runtime::Handle;

use crate::crypto::rsa::PrivateKey;
use crate::location::Location;
use crate::location::argument::Target;
use crate::location::listing::{Entry, PairEntry, Scope, list};
use crate::name::{ObjectName, RecipeSuffix};
use crate::store::{Object, VersionId};
use crate::{Error, ErrorKind, Result};

/// A place that was typed.
#[derive(Clone, Debug)]
pub struct Source {
    /// The object that may be meant; nothing where only a folder can be.
    pub object: Option<Target>,
    /// The folder that may be meant.
    pub folder: Target,
    /// The name under which what is in the folder stands below the destination; without, it stands there itself.
    pub name: Option<Vec<u8>>,
}

impl Source {
    /// The place of a location: `x` is the object `x` or the folder, which keeps its name; `x/` what is in the folder.
    pub fn new(target: Target) -> Self {
        let object = target.file().map(|_| target.clone());
        let name = object.as_ref().and_then(|object| object.path.last().cloned());
        Self { object, folder: target.into_folder(), name }
    }
}

impl Source {
    /// The same, where a script gave the pairs of the OpenSSL recipe other names.
    #[must_use]
    pub fn with_recipe_suffix(self, suffix: Option<RecipeSuffix>) -> Self {
        let object = self.object.map(|object| object.with_recipe_suffix(suffix.clone()));
        Self { object, folder: self.folder.with_recipe_suffix(suffix), name: self.name }
    }

    /// The same, where private keys open what the service keeps under keys of its own.
    pub(crate) fn unlocked(&self, identities: &[PrivateKey]) -> Result<Self> {
        let object = self.object.as_ref().map(|object| object.unlocked(identities)).transpose()?;
        Ok(Self { object, folder: self.folder.unlocked(identities)?, name: self.name.clone() })
    }
}

/// Which version is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// The current one.
    #[default]
    Current,
    /// This one, of one object.
    Version(VersionId),
    /// Of each object the newest that was written at this time or before.
    At(SystemTime),
}

impl Which {
    /// The version of a pair's container that is wanted.
    pub(crate) fn of<'p>(&self, pair: &'p PairEntry) -> Option<&'p Object> {
        match self {
            Self::Current => pair.current(),
            Self::Version(version) => pair.containers.iter().find(|object| object.version == *version),
            Self::At(time) => pair.containers.iter().find(|object| object.modified <= *time),
        }
        .filter(|object| !object.marker)
    }
}

/// What is at a place.
pub(crate) enum Place<'a> {
    /// One object.
    Object { location: &'a Location, name: ObjectName, version: Object },
    /// What is in a folder, below this name.
    Folder { target: &'a Target, name: Option<&'a [u8]> },
}

impl Place<'_> {
    pub(crate) fn location(&self) -> &Location {
        match self {
            Self::Object { location, .. } => location,
            Self::Folder { target, .. } => &target.location,
        }
    }
}

/// Looks places up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lookup<'a> {
    pub(crate) which: &'a Which,
    pub(crate) handle: &'a Handle,
}

impl Lookup<'_> {
    /// What is at a source: the object, else what is in the folder.
    ///
    /// # Errors
    /// `NotFound` when there is nothing; `Usage` when both are there, or versions are asked for where there are none;
    /// what the store says.
    pub(crate) fn find<'a>(&self, source: &'a Source) -> Result<Place<'a>> {
        if *self.which != Which::Current && !self.has_versions(&source.folder)? {
            return Err(Error::usage("keeps no versions: there is only what is there now")
                .about(source.folder.show())
                .hint("leave out --version and --at"));
        }
        let object = source.object.as_ref().map(|target| self.object(target)).transpose()?.flatten();
        match (object, &source.object) {
            (Some(place), Some(target)) => match target.file().is_some_and(|name| place.is(&name)) {
                true if self.has_objects(&source.folder)? => Err(both(target)),
                _ => Ok(place),
            },
            (None, Some(target)) if !self.is_folder(&source.folder)? => Err(self.nothing_at(target)),
            _ if matches!(self.which, Which::Version(_)) => {
                Err(Error::usage("is a folder, and a version is of one object")
                    .about(source.folder.show())
                    .hint("name the object, or use --at TIME for a folder as it was"))
            }
            _ => Ok(Place::Folder { target: &source.folder, name: source.name.as_deref() }),
        }
    }

    fn has_versions(&self, target: &Target) -> Result<bool> {
        Ok(self.handle.block_on(target.location.store().capabilities())?.versions)
    }

    /// The object at `target` in the version that is wanted: under its own name, or as `x.enc` is called in the store.
    fn object<'a>(&self, target: &'a Target) -> Result<Option<Place<'a>>> {
        let location = &target.location;
        for name in target.file().into_iter().chain(stored_name(target)) {
            if let Some(version) = self.version(location, &name)? {
                return Ok(Some(Place::Object { location, name, version }));
            }
        }
        Ok(None)
    }

    fn version(&self, location: &Location, name: &ObjectName) -> Result<Option<Object>> {
        let store = location.store();
        let version = match self.which {
            Which::Current => None,
            Which::Version(version) => Some(version),
            Which::At(_) => return self.listed(location, name),
        };
        for key in location.container_keys(name) {
            match self.handle.block_on(store.stat(&key, version)) {
                Ok(object) => return Ok(Some(object)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error.about(store.show(&key))),
            }
        }
        Ok(None)
    }

    /// The version of one name out of a listing.
    fn listed(&self, location: &Location, name: &ObjectName) -> Result<Option<Object>> {
        let mut scope = Scope::pair(location, name);
        scope.versions = true;
        self.handle.block_on(async {
            let mut listed = list(location, &scope);
            while let Some(entry) = listed.next().await.transpose()? {
                if let Entry::Pair(pair) = entry {
                    return Ok(self.which.of(&pair).cloned());
                }
            }
            Ok(None)
        })
    }

    /// Whether anything is in a folder.
    fn is_folder(&self, target: &Target) -> Result<bool> {
        let mut scope = Scope::below(&target.location, &target.path);
        scope.versions = *self.which != Which::Current;
        let mut listed = list(&target.location, &scope);
        Ok(self.handle.block_on(listed.next()).transpose()?.is_some())
    }

    /// Whether there is more in a folder than envelopes, which stay for a while when their containers were removed.
    fn has_objects(&self, target: &Target) -> Result<bool> {
        let mut scope = Scope::below(&target.location, &target.path);
        scope.versions = *self.which != Which::Current;
        let mut listed = list(&target.location, &scope);
        self.handle.block_on(async {
            while let Some(entry) = listed.next().await.transpose()? {
                let removed =
                    matches!(&entry, Entry::Pair(pair) if pair.containers.is_empty() && !pair.incomplete);
                if !removed {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    fn nothing_at(&self, target: &Target) -> Error {
        let error = match self.which {
            Which::Current => Error::not_found("there is nothing under that name"),
            Which::Version(_) => Error::not_found("there is no such version of it"),
            Which::At(_) => Error::not_found("there was nothing under that name at that time"),
        };
        error.about(target.show()).hint(match self.which {
            Which::Current => "sidekey ls shows what is there",
            _ => "sidekey ls --versions shows what there was",
        })
    }
}

impl Place<'_> {
    fn is(&self, wanted: &ObjectName) -> bool {
        matches!(self, Self::Object { name, .. } if name == wanted)
    }
}

/// The object whose container is called as the last segment says: `x.enc`, as the shell completes it.
fn stored_name(target: &Target) -> Option<ObjectName> {
    let (last, folders) = target.path.split_last()?;
    let folders = target.location.stored_folder(folders);
    let stored = folders + std::str::from_utf8(last).ok()?;
    target.location.parse(&stored).filter(|name| !name.is_folder())
}

/// The error about `x` that is an object and a folder.
fn both(target: &Target) -> Error {
    let name = String::from_utf8_lossy(target.path.last().map_or(&[], Vec::as_slice)).into_owned();
    let stored = target.file().map(|name| target.location.stored(&name)).unwrap_or_default();
    let stored = stored.rsplit('/').next().unwrap_or_default().to_owned();
    Error::usage(format!("{name} is an object and a folder"))
        .about(target.show())
        .hint(format!("write …/{stored} for the object, …/{name}/ for what is in the folder"))
}
