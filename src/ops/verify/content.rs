//! What is in a container: every byte read, or decrypted and authenticated.

use std::io::Read as _;
use std::sync::PoisonError;

use super::{Outcome, Verifying};
use crate::format::{FileType, Header, Metadata};
use crate::location::Location;
use crate::location::cleartext::Cleartext;
use crate::location::read::{self, FRONT, Reader};
use crate::name::ObjectName;
use crate::open::Opener;
use crate::ops::cleartext;
use crate::ops::events::Watched;
use crate::ops::recipe_objects::{RecipeObject, is_sure};
use crate::store::Object;
use crate::{Error, Result};

/// Up to this size one request fetches a container whole.
const SMALL: u64 = 1 << 20;

/// From this size on a container is decrypted by all threads, one such container at a time.
const LARGE: u64 = 64 << 20;

/// What became of it, and what else to know.
type Told = (Outcome, Option<String>);

impl Verifying<'_> {
    /// Reads every byte. No store of this version holds a checksum that says what they should be.
    pub(super) fn read(&self, object: &Object) -> Result<Told> {
        let mut reader = Watched { inner: self.open(object)?, observer: self.observer };
        let mut bytes = vec![0; 256 << 10];
        let mut total = 0;
        loop {
            match reader.read(&mut bytes).map_err(|source| Error::io("cannot read", source))? {
                0 => break,
                len => total += len as u64,
            }
        }
        self.count(|summary| summary.bytes += total);
        match total == object.size {
            true => Ok((
                Outcome::Unchecked,
                Some("was read whole; the store holds no checksum, so more needs the private key".into()),
            )),
            false => {
                Err(Error::integrity(format!("gives {total} bytes where the store lists {}", object.size)))
            }
        }
    }

    /// Decrypts all of it, to nowhere or into a comparison.
    pub(super) fn decrypt(&self, name: &ObjectName, object: &Object, header: &Header) -> Result<Told> {
        let location = &self.target.location;
        let file_key = read::file_key(self.handle, location, &object.key, header, &self.options.identities)?;
        let mut reader = self.open(object)?;
        let opener = Opener::new(reader.header()?, &file_key)?;
        let metadata = opener.metadata(&mut reader)?;
        let mut note = metadata.as_ref().and_then(|metadata| name_differs(location, name, metadata));
        if let Some(differs) = note.take_if(|_| self.options.strict) {
            return Err(renamed(&differs));
        }
        let mut comparison = self.local.as_ref().map(|local| local.compare(name, metadata.as_ref()));
        let large = object.size >= LARGE;
        let _alone = large.then(|| self.large.lock().unwrap_or_else(PoisonError::into_inner));
        let threads = if large { self.options.jobs } else { 1 };
        let reader = Watched { inner: reader, observer: self.observer };
        let opened = match &mut comparison {
            Some(comparison) => opener.copy(reader, comparison, None, threads),
            None => opener.copy(reader, std::io::sink(), None, threads),
        }?;
        self.count(|summary| summary.bytes += object.size);
        match comparison.map(|comparison| comparison.finish(opened.plain_len)) {
            None => Ok((Outcome::Ok, note)),
            Some((outcome, compared)) => Ok((outcome, compared.or(note))),
        }
    }

    /// Reads a file that the service alone encrypts, and compares it with the SHA-256 in its envelope.
    pub(super) fn compare_digest(
        &self,
        name: &ObjectName,
        object: &Object,
        cleartext: &Cleartext,
    ) -> Result<Told> {
        let metadata = &cleartext.metadata;
        let note = name_differs(&self.target.location, name, metadata);
        if let Some(differs) = note.as_ref().filter(|_| self.options.strict) {
            return Err(renamed(differs));
        }
        let mut comparison = self.local.as_ref().map(|local| local.compare(name, Some(metadata)));
        let reader = Watched { inner: self.open(object)?, observer: self.observer };
        match &mut comparison {
            Some(comparison) => cleartext::copy(cleartext, object.size, reader, comparison),
            None => cleartext::copy(cleartext, object.size, reader, &mut std::io::sink()),
        }?;
        self.count(|summary| summary.bytes += object.size);
        match comparison.map(|comparison| comparison.finish(cleartext.size)) {
            None => Ok((Outcome::Ok, note)),
            Some((outcome, compared)) => Ok((outcome, compared.or(note))),
        }
    }

    /// Deciphers a container of the OpenSSL recipe to nowhere; nothing when others have to be seen before.
    pub(super) fn decrypt_recipe(&self, object: &Object, last: bool) -> Result<Option<Told>> {
        let of = RecipeObject::new(&self.target.location, self.open(object)?, object.latest)?;
        if !last && !self.recipes.count(&of) {
            return Ok(None);
        }
        let found = self.recipes.find(&of);
        if !last && !found.as_ref().is_ok_and(is_sure) {
            return Ok(None);
        }
        let found = found?;
        let mut note =
            "deciphers to the end, and its padding is good; the OpenSSL recipe authenticates no more"
                .to_owned();
        if let Some(warning) = &found.warning {
            note = format!("{note} ({warning})");
        }
        self.recipes.decrypt_untold(of, &found, std::io::sink())?;
        self.count(|summary| summary.bytes += object.size);
        Ok(Some((Outcome::Unchecked, Some(note))))
    }

    fn open(&self, object: &Object) -> Result<Reader> {
        let front = if object.size <= SMALL { object.size } else { FRONT };
        let (store, version) = (self.target.location.shared_store(), Some(object.version.clone()));
        Reader::open(self.handle.clone(), store, &object.key, version, front)
    }
}

fn renamed(differs: &str) -> Error {
    Error::integrity(differs)
        .hint("somebody renamed, swapped or planted it; without --strict this is a warning")
}

/// A pair that was given another name, swapped with another one or planted shows in its metadata; in a vault its info record
/// has told, and the last name inside may be an older one.
fn name_differs(location: &Location, name: &ObjectName, metadata: &Metadata) -> Option<String> {
    let is_folder = metadata.file_type == FileType::Dir;
    if is_folder != name.is_folder() {
        return Some(format!("was encrypted as a {}, which its name is not", metadata.file_type));
    }
    if location.vault().is_some() {
        return None;
    }
    let (inside, object) = (metadata.name.as_ref()?, name.segments().last()?);
    (inside != object).then(|| format!("was encrypted under the name {}", String::from_utf8_lossy(inside)))
}
