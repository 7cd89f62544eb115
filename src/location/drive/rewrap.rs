//! Moves one envelope of a location to new recipients.

use std::time::SystemTime;

use bytes::Bytes;

use super::examine::{Judged, ReadVersion, judge};
use super::fetch;
use crate::format::envelope::MAX_BYTES;
use crate::format::{Envelope, Header};
use crate::location::Location;
use crate::name::{containers_of, envelope_name};
use crate::pair::{
    Finding, Relocate, RelocateOutcome, RelocateReply, RelocateStep, Rewrap, RewrapOutcome, RewrapReply,
    RewrapStep,
};
use crate::rewrap::Rotation;
use crate::store::{OnlyIf, PutOptions, Store, VersionId};
use crate::{DataId, Error, ErrorKind, Result};

/// What stands for the one version that a store without versions has: what replaces it has no older one to delete.
const ONLY: &str = "only";

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
    /// How many keys were compared with their container's commitment.
    pub checked: u64,
    /// How many were not, because the container could not be read.
    pub unchecked: u64,
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
    let location = &unlocked;
    let versions = read_versions(location, stored).await?;
    if versions.is_empty() {
        return Err(Error::not_found("there is no such envelope").about(location.show(stored)));
    }
    if is_beside(stored, &versions) {
        return beside(location, stored, versions, options).await;
    }
    Ok(vec![located(location, stored, options).await?])
}

/// Whether all versions belong under another name: that of their own data ids.
fn is_beside(stored: &str, versions: &[ReadVersion]) -> bool {
    let [likely, _] = containers_of(stored).try_into().unwrap_or_default();
    versions.iter().all(|version| match data_id(&version.bytes) {
        Some(id) => envelope_name(&likely, Some(&id)).as_deref() != Some(stored),
        None => likely.is_empty(),
    })
}

/// The one data id of all entries.
fn data_id(bytes: &[u8]) -> Option<DataId> {
    let envelope = Envelope::parse(bytes).ok()?;
    let first = envelope.entries().next()?.data_id;
    envelope.entries().all(|entry| entry.data_id == first).then_some(first)
}

/// All versions of an envelope, newest first.
async fn read_versions(location: &Location, stored: &str) -> Result<Vec<ReadVersion>> {
    let (store, key) = (location.store(), location.key(stored));
    let mut versions = Vec::new();
    for object in fetch::versions(store, &key).await? {
        if !object.marker {
            let (_, bytes) = fetch::start(store, &key, Some(&object.version), MAX_BYTES + 1).await?;
            versions.push(ReadVersion { object, bytes });
        }
    }
    Ok(versions)
}

/// Takes an envelope with a name of its own through the steps of [`Rewrap`].
async fn located(location: &Location, stored: &str, options: &RewrapOptions<'_>) -> Result<Rewrapped> {
    let mut file = Located::new(location, stored, options).await?;
    let mut machine = Rewrap::new();
    let outcome = loop {
        let reply = match machine.step() {
            RewrapStep::Read => file.read().await,
            RewrapStep::Write { .. } if options.dry_run => break RewrapOutcome::Rewrapped,
            RewrapStep::Delete(_) if options.dry_run => break RewrapOutcome::Rewrapped,
            RewrapStep::Write { .. } => file.write().await,
            RewrapStep::ReadBack(_) => file.read_back().await,
            RewrapStep::Delete(version) => file.delete(version).await,
            RewrapStep::List => file.list().await,
            RewrapStep::Finished(outcome) => break *outcome,
        };
        machine.reply(file.note(reply));
    };
    file.finish(outcome)
}

struct Located<'a> {
    location: &'a Location,
    store: &'a dyn Store,
    stored: &'a str,
    key: String,
    options: &'a RewrapOptions<'a>,
    keeps_versions: bool,
    replace_if: bool,
    /// The newest version that was read, and what was written.
    newest: VersionId,
    written: VersionId,
    new: Bytes,
    judged: Option<Judged>,
    error: Option<Error>,
}

impl<'a> Located<'a> {
    async fn new(location: &'a Location, stored: &'a str, options: &'a RewrapOptions<'a>) -> Result<Self> {
        let capabilities = location.store().capabilities().await?;
        Ok(Self {
            location,
            store: location.store(),
            stored,
            key: location.key(stored),
            options,
            keeps_versions: capabilities.versions,
            replace_if: capabilities.replace_if,
            newest: VersionId::new(),
            written: VersionId::new(),
            new: Bytes::new(),
            judged: None,
            error: None,
        })
    }

    async fn read(&mut self) -> Result<RewrapReply> {
        let versions = read_versions(self.location, self.stored).await?;
        let headers: Vec<Header> = fetch::headers(self.location, self.stored).await?;
        let RewrapOptions { rotation, created, all, .. } = *self.options;
        let mut judged = judge(&versions, &headers, rotation, created, all)?;
        if let Some(new) = judged.new.take() {
            self.new = new.to_text()?.into();
        }
        if let Some(newest) = versions.first() {
            self.newest.clone_from(&newest.object.version);
        }
        let reply = RewrapReply::FoundSome {
            versions: versions.iter().map(|version| self.named(&version.object.version)).collect(),
            keep: judged.keep.iter().map(|version| self.named(version)).collect(),
            finding: judged.finding,
        };
        self.judged = Some(judged);
        Ok(reply)
    }

    async fn write(&mut self) -> Result<RewrapReply> {
        if !self.replace_if && !is_current(self.store, &self.key, &self.newest).await? {
            return Ok(RewrapReply::Changed);
        }
        match overwrite(self.store, &self.key, self.new.clone(), &self.newest).await {
            Ok(version) => {
                self.written = version;
                Ok(RewrapReply::Written(self.named(&self.written)))
            }
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(RewrapReply::Changed),
            Err(error) => Err(error),
        }
    }

    async fn read_back(&mut self) -> Result<RewrapReply> {
        read_back(self.store, &self.key, &self.written, &self.new).await.map(|()| RewrapReply::Same)
    }

    async fn delete(&mut self, version: &VersionId) -> Result<RewrapReply> {
        fetch::delete(self.store, &self.key, version).await.map(|()| RewrapReply::Deleted)
    }

    async fn list(&mut self) -> Result<RewrapReply> {
        let versions = fetch::versions(self.store, &self.key).await?;
        let versions = versions.iter().filter(|version| !version.marker);
        Ok(RewrapReply::Versions(versions.map(|version| self.named(&version.version)).collect()))
    }

    fn named(&self, version: &VersionId) -> VersionId {
        if self.keeps_versions { version.clone() } else { ONLY.into() }
    }

    fn note(&mut self, reply: Result<RewrapReply>) -> RewrapReply {
        reply.unwrap_or_else(|error| {
            self.error.get_or_insert(error);
            RewrapReply::Failed
        })
    }

    fn finish(self, outcome: RewrapOutcome) -> Result<Rewrapped> {
        let Some(judged) = self.judged.filter(|_| outcome != RewrapOutcome::Failed) else {
            let changed = "other writers changed it again and again; nothing was deleted";
            return Err(self
                .error
                .unwrap_or_else(|| Error::conflict(changed))
                .about(self.location.show(self.stored)));
        };
        let mut residue = judged.residue;
        if outcome == RewrapOutcome::Residue {
            residue.push(match self.error {
                Some(error) => format!("another version of it is still there: {}", error.line()),
                None => "another version of it is still there".into(),
            });
        }
        let Judged { checked, unchecked, .. } = judged;
        Ok(Rewrapped { stored: self.stored.into(), outcome, residue, checked, unchecked })
    }
}

/// Takes each version of an envelope beside its container through the steps of [`Relocate`].
async fn beside(
    location: &Location,
    stored: &str,
    versions: Vec<ReadVersion>,
    options: &RewrapOptions<'_>,
) -> Result<Vec<Rewrapped>> {
    let headers = fetch::headers(location, stored).await?;
    let container = containers_of(stored).pop().unwrap_or_default();
    let mut done = Vec::new();
    for version in versions {
        let RewrapOptions { rotation, created, all, .. } = *options;
        let judged = judge(std::slice::from_ref(&version), &headers, rotation, created, all)?;
        let name = data_id(&version.bytes).and_then(|id| envelope_name(&container, Some(&id)));
        let outcome = match (judged.finding, &judged.new, name) {
            (Finding::Opens, Some(new), Some(name)) => {
                Some(relocate(location, (stored, version), (&name, new), options).await?)
            }
            (Finding::Opens, ..) => None,
            _ => Some((stored.to_owned(), why(judged.finding))),
        };
        let (stored, outcome) = outcome.unwrap_or_else(|| (stored.to_owned(), RewrapOutcome::Unproven));
        let mut residue = judged.residue;
        if outcome == RewrapOutcome::Residue {
            residue.push("it is still there under its old name too".into());
        }
        let Judged { checked, unchecked, .. } = judged;
        done.push(Rewrapped { stored, outcome, residue, checked, unchecked });
    }
    Ok(done)
}

fn why(finding: Finding) -> RewrapOutcome {
    match finding {
        Finding::Done => RewrapOutcome::AlreadyDone,
        Finding::NotOurs => RewrapOutcome::NotOurs,
        Finding::Opens | Finding::Unproven => RewrapOutcome::Unproven,
    }
}

/// Moves one version to a name of its own.
async fn relocate(
    location: &Location,
    (stored, version): (&str, ReadVersion),
    (name, new): (&str, &Envelope),
    options: &RewrapOptions<'_>,
) -> Result<(String, RewrapOutcome)> {
    let mut moving = Moving {
        location,
        store: location.store(),
        from: location.key(stored),
        to: location.key(name),
        version,
        new: new.clone(),
        text: new.to_text()?.into(),
        joined: false,
        error: None,
    };
    let mut machine = Relocate::new();
    let outcome = loop {
        let reply = match machine.step() {
            _ if options.dry_run => break RelocateOutcome::Moved,
            RelocateStep::Create => moving.create().await,
            RelocateStep::ReadOther => moving.read_other(name).await,
            RelocateStep::Join { over } => moving.join(over).await,
            RelocateStep::ReadBack(version) => moving.read_back(version).await,
            RelocateStep::Delete => moving.delete().await,
            RelocateStep::Finished(outcome) => break *outcome,
        };
        machine.reply(moving.note(reply));
    };
    match outcome {
        // What was there before may hold something for an old key too.
        RelocateOutcome::Moved if moving.joined => {
            Ok((name.to_owned(), located(location, name, options).await?.outcome)).map(|(name, outcome)| {
                let outcome =
                    if outcome == RewrapOutcome::AlreadyDone { RewrapOutcome::Rewrapped } else { outcome };
                (name, outcome)
            })
        }
        RelocateOutcome::Moved => Ok((name.to_owned(), RewrapOutcome::Rewrapped)),
        RelocateOutcome::Residue => Ok((name.to_owned(), RewrapOutcome::Residue)),
        RelocateOutcome::Failed => {
            let changed = "was changed by other writers again and again";
            Err(moving.error.unwrap_or_else(|| Error::conflict(changed)).about(location.show(stored)))
        }
    }
}

struct Moving<'a> {
    location: &'a Location,
    store: &'a dyn Store,
    from: String,
    to: String,
    version: ReadVersion,
    new: Envelope,
    /// What is written under the other name.
    text: Bytes,
    joined: bool,
    error: Option<Error>,
}

impl Moving<'_> {
    async fn create(&mut self) -> Result<RelocateReply> {
        // Where the store cannot tell, something that is there would be replaced.
        let capabilities = self.store.capabilities().await?;
        if !capabilities.create_new && !fetch::versions(self.store, &self.to).await?.is_empty() {
            return Ok(RelocateReply::Exists);
        }
        let options = PutOptions { only_if: OnlyIf::Absent, ..PutOptions::default() };
        match self.store.put(&self.to, self.text.clone(), &options).await {
            Ok(written) => Ok(RelocateReply::Version(written.version)),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(RelocateReply::Exists),
            Err(error) => Err(error),
        }
    }

    /// The new entries and all that stands there already: neither may hide the other.
    async fn read_other(&mut self, name: &str) -> Result<RelocateReply> {
        let versions = read_versions(self.location, name).await?;
        let Some(newest) = versions.first() else { return Err(self.changed()) };
        let mut joined =
            Envelope::parse(&newest.bytes).map_err(|error| error.about(self.store.show(&self.to)))?;
        let fresh = self.new.blocks.iter().filter(|block| !joined.blocks.contains(block));
        joined.blocks = fresh.cloned().chain(joined.blocks.iter().cloned()).collect();
        self.text = joined.to_text()?.into();
        self.joined = true;
        Ok(RelocateReply::Version(newest.object.version.clone()))
    }

    async fn join(&mut self, over: &VersionId) -> Result<RelocateReply> {
        if !self.store.capabilities().await?.replace_if && !is_current(self.store, &self.to, over).await? {
            return Ok(RelocateReply::Exists);
        }
        match overwrite(self.store, &self.to, self.text.clone(), over).await {
            Ok(version) => Ok(RelocateReply::Version(version)),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(RelocateReply::Exists),
            Err(error) => Err(error),
        }
    }

    async fn read_back(&mut self, version: &VersionId) -> Result<RelocateReply> {
        read_back(self.store, &self.to, version, &self.text).await.map(|()| RelocateReply::Done)
    }

    async fn delete(&mut self) -> Result<RelocateReply> {
        let version = &self.version.object.version;
        fetch::delete(self.store, &self.from, version).await.map(|()| RelocateReply::Done)
    }

    fn changed(&self) -> Error {
        Error::conflict("was changed by another writer").about(self.store.show(&self.to))
    }

    fn note(&mut self, reply: Result<RelocateReply>) -> RelocateReply {
        reply.unwrap_or_else(|error| {
            self.error.get_or_insert(error);
            RelocateReply::Failed
        })
    }
}

/// Writes over what was read.
async fn overwrite(store: &dyn Store, key: &str, text: Bytes, over: &VersionId) -> Result<VersionId> {
    let size = Some(text.len() as u64);
    let options = PutOptions { only_if: OnlyIf::Version(over.clone()), size, ..PutOptions::default() };
    Ok(store.put(key, text, &options).await?.version)
}

async fn is_current(store: &dyn Store, key: &str, version: &VersionId) -> Result<bool> {
    Ok(store.stat(key, None).await?.version == *version)
}

/// Reads what was written, by its id, and compares it byte for byte.
async fn read_back(store: &dyn Store, key: &str, version: &VersionId, text: &Bytes) -> Result<()> {
    let (_, bytes) = fetch::start(store, key, Some(version), MAX_BYTES + 1).await?;
    match bytes == *text {
        true => Ok(()),
        false => Err(Error::integrity("is not what was written").about(store.show(key))),
    }
}
