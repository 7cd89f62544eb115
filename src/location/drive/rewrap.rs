//! Moves one envelope of a location to new recipients.

use std::fmt::Debug;
use std::time::SystemTime;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;

use super::examine::ReadVersion;
use super::fetch::Heads;
use super::located::{First, located};
use super::recipe::Recipes;
use super::{fetch, recipe, relocate};
use crate::format::envelope::MAX_BYTES;
use crate::format::{Envelope, Wrap};
use crate::location::Location;
use crate::location::recipe::sample;
use crate::location::vault::{MASTERS, is_master_below};
use crate::name::{containers_of, envelope_name};
use crate::pair::RewrapOutcome;
use crate::recipe::Sample;
use crate::rewrap::Rotation;
use crate::store::{Object, OnlyIf, PutOptions, Store, VersionId};
use crate::{DataId, Error, ErrorKind, KeyId, Result};

/// How to rewrap.
#[derive(Clone, Copy, Debug)]
pub struct RewrapOptions<'a> {
    /// From whom to whom.
    pub rotation: &'a Rotation,
    /// The time that new entries say they were created.
    pub created: SystemTime,
    /// Whether entries are tried even where nothing names an old key.
    pub all: bool,
    /// Whether only to say what would be done.
    pub dry_run: bool,
    /// Whether older versions are deleted.
    pub purge: bool,
    /// Whether keys are compared with their containers' commitments.
    pub compare: bool,
    /// Whether the versions are listed once more at the end. Who lists all of them later need not.
    pub list_again: bool,
    /// What becomes of key files of the OpenSSL recipe; without, they stay what they are, and each is judged by itself.
    pub recipes: Option<Recipes<'a>>,
    /// Who remembers what was written. Without, what a stopped run wrote is written once more, for nothing tells it from
    /// what somebody planted.
    pub memory: Option<&'a dyn RewrapMemory>,
}

/// Remembers the texts that runs of one change of recipients wrote.
pub trait RewrapMemory: Debug + Sync {
    /// Told before a text is written: its file keys are proven, and it holds all that was read under its name.
    fn begin(&self, stored: &str, text: &TextDigest);

    /// Whether a version was written so.
    fn has(&self, stored: &str, version: &VersionId, text: &TextDigest) -> bool;
}

/// The SHA-256 of the text of an envelope.
pub type TextDigest = [u8; 32];

impl<'a> RewrapOptions<'a> {
    /// The careful way.
    pub fn new(rotation: &'a Rotation, created: SystemTime) -> Self {
        Self {
            rotation,
            created,
            all: false,
            dry_run: false,
            purge: true,
            compare: true,
            list_again: true,
            recipes: None,
            memory: None,
        }
    }
}

/// How rewrapping one envelope ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrapped {
    /// The stored name that it now has.
    pub stored: String,
    /// How it ended.
    pub outcome: RewrapOutcome,
    /// What is left for an old key, or may be.
    pub residue: Vec<String>,
    /// What else the user should know.
    pub notes: Vec<String>,
    /// How many keys were compared with their container's commitment.
    pub checked: u64,
    /// How many were not, because the container could not be read.
    pub unchecked: u64,
    /// What was read and what was done.
    pub facts: Facts,
}

impl Rewrapped {
    /// A version to which nothing was done.
    pub(super) fn stays(stored: &str, version: &str, outcome: RewrapOutcome) -> Self {
        let versions = vec![version.to_owned()];
        Self {
            stored: stored.to_owned(),
            outcome,
            residue: vec![],
            notes: vec![],
            checked: 0,
            unchecked: 0,
            facts: Facts { seen: versions.clone(), left: versions, ..Facts::default() },
        }
    }

    /// The same with something that is left.
    pub(super) fn with(mut self, residue: String) -> Self {
        self.residue.push(residue);
        self
    }
}

/// What was read of an envelope and what was done to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The versions that were read, newest first.
    pub seen: Vec<VersionId>,
    /// Whom their entries say they are for, each once.
    pub before: Vec<KeyId>,
    /// Whom those of the new text are for.
    pub after: Vec<KeyId>,
    /// What was written.
    pub written: Option<VersionId>,
    /// The text that stays, where runs of this change wrote it and remember it.
    pub remembered: Option<TextDigest>,
    /// What was deleted.
    pub purged: Vec<VersionId>,
    /// The versions that it has now, newest first, as far as this run knows.
    pub left: Vec<VersionId>,
}

/// What a listing showed of an envelope.
#[derive(Debug)]
pub struct Listed<'h> {
    /// Its versions, newest first, delete markers left out.
    pub versions: Vec<Object>,
    /// The headers that it is compared with.
    pub headers: &'h Headers,
}

/// The headers of some containers, read when they are first asked for; of adopted ones both ends.
#[derive(Debug, Default)]
pub struct Headers {
    containers: Vec<Object>,
    read: OnceCell<Heads>,
    samples: OnceCell<Vec<Sample>>,
}

/// What tells whether a key is its container's.
#[derive(Clone, Debug, Default)]
pub(super) struct Proofs {
    pub(super) heads: Heads,
    /// Of containers of the OpenSSL recipe.
    pub(super) samples: Vec<Sample>,
}

impl Headers {
    /// Those of these versions of containers.
    pub fn of(containers: Vec<Object>) -> Self {
        Self { containers, read: OnceCell::new(), samples: OnceCell::new() }
    }

    /// The versions of containers.
    pub(super) fn objects(&self) -> &[Object] {
        &self.containers
    }

    async fn get(&self, location: &Location) -> &Heads {
        self.read.get_or_init(|| fetch::heads_of(location, &self.containers)).await
    }

    async fn samples(&self, location: &Location) -> &[Sample] {
        let read = || async {
            let mut samples = vec![];
            for object in self.containers.iter().filter(|object| !object.marker) {
                samples.extend(sample(location, object).await.ok());
            }
            samples
        };
        self.samples.get_or_init(read).await
    }
}

/// Rewraps the envelope with this stored name, all its versions. One that stands beside its container (`NAME.key.enc`)
/// gets the name that no other upload has; of those each version is an envelope of its own.
///
/// # Errors
/// `NotFound` when nothing has the name; else what the store fails with. Nothing was deleted then that was not
/// replaced, and the same again finishes what was begun.
pub async fn rewrap(
    location: &Location,
    stored: &str,
    options: &RewrapOptions<'_>,
) -> Result<Vec<Rewrapped>> {
    // What the service keeps under keys of its own has its headers read with the keys in the envelopes.
    let unlocked = match location.store().capabilities().await?.customer_keys {
        true => location.unlocked(&options.rotation.old)?,
        false => location.clone(),
    };
    rewrap_listed(&unlocked, stored, None, options).await
}

/// The same for an envelope of which a listing showed the versions, in a location that is unlocked where that matters. They are read as listed; where they are not there any
/// more, it is as if nothing had been listed.
///
/// # Errors
/// Those of [`rewrap`].
pub async fn rewrap_listed(
    location: &Location,
    stored: &str,
    listed: Option<Listed<'_>>,
    options: &RewrapOptions<'_>,
) -> Result<Vec<Rewrapped>> {
    let (store, key) = (location.store(), location.key(stored));
    let (mut versions, mut headers) = (vec![], None);
    if let Some(listed) = listed {
        match read_all(store, &key, listed.versions).await {
            Ok(read) => (versions, headers) = (read, Some(listed.headers)),
            // Somebody else was here since.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    if versions.is_empty() {
        versions = read_versions(location, stored).await?;
        headers = None;
    }
    if versions.is_empty() {
        return Err(Error::not_found("there is no such envelope").about(location.show(stored)));
    }
    if recipe::has_key_file(&versions) {
        return recipe::rewrap(location, stored, versions, headers, options).await;
    }
    if is_beside(stored, &versions) {
        return relocate::beside(location, stored, versions, headers, options).await;
    }
    let first = First { versions, headers };
    Ok(vec![located(location, stored, Some(first), options).await?])
}

/// Whether all versions belong under another name: that of their own data ids.
fn is_beside(stored: &str, versions: &[ReadVersion]) -> bool {
    // The envelope of a vault's master key has its own name.
    if stored.starts_with(MASTERS) || is_master_below(stored) {
        return false;
    }
    let [likely, _] = containers_of(stored).try_into().unwrap_or_default();
    versions.iter().all(|version| match data_id(&version.bytes) {
        Some(id) => envelope_name(&likely, Some(&id)).as_deref() != Some(stored),
        None => likely.is_empty(),
    })
}

/// The one data id of all entries.
pub(super) fn data_id(bytes: &[u8]) -> Option<DataId> {
    let envelope = Envelope::parse(bytes).ok()?;
    let first = envelope.entries().next()?.data_id;
    envelope.entries().all(|entry| entry.data_id == first).then_some(first)
}

/// Whom some texts say they are for, each once.
pub(super) fn recipients<'t>(texts: impl IntoIterator<Item = &'t Bytes>) -> Vec<KeyId> {
    let mut all: Vec<KeyId> = vec![];
    for envelope in texts.into_iter().filter_map(|text| Envelope::parse(text).ok()) {
        for entry in envelope.entries() {
            if !all.contains(&entry.recipient) {
                all.push(entry.recipient);
            }
        }
    }
    all
}

/// All versions of an envelope, newest first.
pub(super) async fn read_versions(location: &Location, stored: &str) -> Result<Vec<ReadVersion>> {
    let (store, key) = (location.store(), location.key(stored));
    let versions = fetch::versions(store, &key).await?;
    read_all(store, &key, versions.into_iter().filter(|object| !object.marker).collect()).await
}

async fn read_all(store: &dyn Store, key: &str, versions: Vec<Object>) -> Result<Vec<ReadVersion>> {
    let mut read = Vec::new();
    for object in versions {
        let (_, bytes) = fetch::start(store, key, Some(&object.version), MAX_BYTES + 1).await?;
        read.push(ReadVersion { object, bytes });
    }
    Ok(read)
}

/// Reads what keys are compared with, unless nothing is to be compared.
pub(super) async fn proofs_for(
    location: &Location,
    stored: &str,
    known: Option<&Headers>,
    versions: &[ReadVersion],
    options: &RewrapOptions<'_>,
) -> Result<Proofs> {
    let is_done = |version: &ReadVersion| {
        Envelope::parse(&version.bytes).is_ok_and(|text| options.rotation.is_done_by_labels(&text))
    };
    let untried = !options.all && matches!(versions, [only] if is_done(only));
    if !options.compare || untried {
        return Ok(Proofs::default());
    }
    let found;
    let known = match known {
        Some(known) => known,
        None => {
            found = Headers::of(fetch::containers_beside(location, stored).await?);
            &found
        }
    };
    let is_adopted = |version: &ReadVersion| {
        Envelope::parse(&version.bytes)
            .is_ok_and(|text| text.entries().any(|entry| entry.wrap == Wrap::RecipeKey))
    };
    let heads = known.get(location).await.clone();
    let samples = match versions.iter().any(is_adopted) {
        true => known.samples(location).await.to_vec(),
        false => vec![],
    };
    Ok(Proofs { heads, samples })
}

pub(super) fn digest_of(text: &[u8]) -> TextDigest {
    Sha256::digest(text).into()
}

/// Writes over what was read.
pub(super) async fn overwrite(
    store: &dyn Store,
    key: &str,
    text: Bytes,
    over: &VersionId,
) -> Result<VersionId> {
    let size = Some(text.len() as u64);
    let options = PutOptions { only_if: OnlyIf::Version(over.clone()), size, ..PutOptions::default() };
    Ok(store.put(key, text, &options).await?.version)
}

pub(super) async fn is_current(store: &dyn Store, key: &str, version: &VersionId) -> Result<bool> {
    Ok(store.stat(key, None).await?.version == *version)
}

/// Reads what was written, by its id, and compares it byte for byte.
pub(super) async fn read_back(store: &dyn Store, key: &str, version: &VersionId, text: &Bytes) -> Result<()> {
    let (_, bytes) = fetch::start(store, key, Some(version), MAX_BYTES + 1).await?;
    match bytes == *text {
        true => Ok(()),
        false => Err(Error::integrity("is not what was written").about(store.show(key))),
    }
}
