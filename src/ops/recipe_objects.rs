//! Files of the OpenSSL recipe in a location: how they were made is settled by all of a run's files.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::runtime::Handle;

use crate::Result;
use crate::crypto::rsa::PrivateKey;
use crate::location::Location;
use crate::location::read::Reader;
use crate::location::recipe::{FoundKey, find_key, open_key_files, sample_of};
use crate::ops::events::{Event, Observer, Watched};
use crate::ops::recipe_files::{self, NOT_AUTHENTICATED};
use crate::recipe::{self, Basis, Named, Sample, Settler};
use crate::store::Object;

/// What one run knows of such files.
pub(crate) struct Recipes<'a> {
    handle: &'a Handle,
    identities: &'a [PrivateKey],
    observer: &'a dyn Observer,
    settler: Mutex<Settler>,
    /// Whether the user was told about the recipe.
    told: AtomicBool,
}

/// One version of a container that is being read.
pub(crate) struct RecipeObject<'a> {
    pub(crate) location: &'a Location,
    pub(crate) object: Object,
    /// Whether it is what has the name now, so that what its key file's name has is its own.
    pub(crate) is_current: bool,
    pub(crate) sample: Sample,
    reader: Reader,
}

impl<'a> RecipeObject<'a> {
    /// Whether what is being read is a container of the recipe.
    pub(crate) fn is_one(reader: &Reader) -> bool {
        recipe_files::is_container(reader.front())
    }

    /// Reads both its ends.
    pub(crate) fn new(location: &'a Location, mut reader: Reader, is_current: bool) -> Result<Self> {
        let sample = sample_of(&mut reader)?;
        Ok(Self { location, object: reader.object().clone(), is_current, sample, reader })
    }
}

impl<'a> Recipes<'a> {
    pub(crate) fn new(
        handle: &'a Handle,
        identities: &'a [PrivateKey],
        named: Named,
        observer: &'a dyn Observer,
    ) -> Self {
        let settler = Mutex::new(Settler::new(named));
        Self { handle, identities, observer, settler, told: AtomicBool::new(false) }
    }

    /// Counts how one was made; one that cannot be opened is reported when it is.
    pub(crate) fn count(&self, of: &RecipeObject<'_>) {
        let opening = open_key_files(of.location, &of.object.key, !of.is_current, self.identities);
        let Ok(opened) = self.handle.block_on(opening) else { return };
        let settler = self.settler();
        for blocks in &opened {
            let ballot = settler.examine(blocks, &of.sample);
            self.settler.lock().unwrap_or_else(PoisonError::into_inner).count(&ballot);
        }
    }

    /// Finds the key of one.
    pub(crate) fn find(&self, of: &RecipeObject<'_>) -> Result<FoundKey> {
        let RecipeObject { location, object, is_current, sample, .. } = of;
        let settler = self.settler();
        self.handle.block_on(find_key(location, object, *is_current, sample, self.identities, &settler))
    }

    /// Deciphers one into `out` and returns the length of its plaintext.
    pub(crate) fn decrypt(&self, of: RecipeObject<'_>, found: &FoundKey, out: impl Write) -> Result<u64> {
        let shown = of.location.show_key(&of.object.key);
        let path = Path::new(&shown);
        if let Some(message) = &found.warning {
            self.observer.event(Event::Warning { path, message });
        }
        if !self.told.swap(true, Ordering::Relaxed) {
            self.observer.event(Event::Warning { path, message: NOT_AUTHENTICATED });
        }
        self.decrypt_untold(of, found, out)
    }

    /// The same without a word.
    pub(crate) fn decrypt_untold(
        &self,
        of: RecipeObject<'_>,
        found: &FoundKey,
        out: impl Write,
    ) -> Result<u64> {
        let source = Watched { inner: of.reader, observer: self.observer };
        recipe::Reader::new(source).and_then(|reader| reader.decrypt(&found.key, out))
    }

    fn settler(&self) -> Settler {
        self.settler.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether files that are still to come change nothing about it.
pub(crate) fn is_sure(found: &FoundKey) -> bool {
    found.warning.is_none() && found.basis != Some(Basis::Alone)
}
