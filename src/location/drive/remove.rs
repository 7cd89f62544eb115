//! Removes a container.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::fetch;
use crate::location::Location;
use crate::name::{containers_of, envelope_name};
use crate::pair::{
    EnvelopeId, EnvelopeVersion, Remove, RemoveOutcome as Outcome, RemoveReply as Reply, RemoveStep as Step,
    SETTLED, Serves,
};
use crate::store::VersionId;
use crate::{DataId, Error, ErrorKind, Result};

/// How to remove a container.
#[derive(Clone, Copy, Debug)]
pub struct RemoveOptions {
    /// Whether all its versions are deleted where the store keeps them, instead of hiding it.
    pub versions: bool,
    /// Whether only to say what would be done.
    pub dry_run: bool,
    /// The time by the store's clock: see [`store_time`](super::store_time).
    pub now: SystemTime,
}

/// What was removed, or with a dry run: would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Whether it was hidden; its versions and envelopes are then all there.
    pub hidden: bool,
    /// The versions of the container that were deleted.
    pub containers: Vec<VersionId>,
    /// The envelopes that were deleted.
    pub envelopes: Vec<EnvelopeId>,
    /// The envelopes that were not.
    pub kept: Vec<Kept>,
    /// Whether a deleted version is younger than a week, so that its envelope was left for `clean`: the same version may
    /// still be delivered a second time, and needs it then.
    pub young: bool,
}

/// An envelope of a removed container that was not deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Which one.
    pub id: EnvelopeId,
    /// Why.
    pub why: WhyKept,
}

/// Why an envelope was not deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyKept {
    /// It serves, or may serve, something that was not deleted, or not long enough settled.
    MayBeNeeded,
    /// It could not be read, or is none of ours.
    Unknown,
    /// The store did not delete it.
    Failed,
}

/// Removes the container with this stored name: hides it where the store keeps versions, unless these are to go too;
/// else deletes every version that a listing shows, and the envelopes that nothing needs any more.
///
/// # Errors
/// `NotFound` when nothing has the name; `Conflict` when something has it that is not a container; else what the store
/// fails with. The same again finishes what was begun.
pub async fn remove(location: &Location, stored: &str, options: RemoveOptions) -> Result<Removed> {
    let keeps_versions = location.store().capabilities().await?.versions;
    let mut machine = match keeps_versions && !options.versions {
        true => Remove::hiding(),
        false => Remove::deleting(),
    };
    let mut removing = Removing::new(location, stored, options);
    loop {
        let reply = match machine.step() {
            Step::Look => removing.look().await,
            Step::Hide => removing.hide().await,
            Step::ListContainers => removing.list_containers().await,
            Step::DeleteContainer(version) => removing.delete_container(version).await,
            Step::ReadEnvelopes(gone) => removing.read_envelopes(gone).await,
            Step::ListAgain => removing.list_again().await,
            Step::DeleteEnvelope(id) => removing.delete_envelope(id).await,
            Step::Finished(outcome) => return removing.finish(*outcome),
        };
        machine.reply(removing.note(reply));
    }
}

struct Removing<'a> {
    location: &'a Location,
    stored: &'a str,
    options: RemoveOptions,
    read: Vec<EnvelopeVersion>,
    removed: Removed,
    /// The versions of the container that were settled.
    settled: BTreeSet<VersionId>,
    failed: BTreeSet<EnvelopeId>,
    error: Option<Error>,
}

impl<'a> Removing<'a> {
    fn new(location: &'a Location, stored: &'a str, options: RemoveOptions) -> Self {
        Self {
            location,
            stored,
            options,
            read: vec![],
            removed: Removed::default(),
            settled: BTreeSet::new(),
            failed: BTreeSet::new(),
            error: None,
        }
    }

    async fn look(&self) -> Result<Reply> {
        let key = self.location.key(self.stored);
        match fetch::start(self.location.store(), &key, None, fetch::TELLING).await {
            Ok((object, start))
                if fetch::is_container(&start) || self.location.cleartext(&object).is_some() =>
            {
                Ok(Reply::Done)
            }
            Ok(_) => Err(self.foreign()),
            Err(error) => match error.kind() {
                ErrorKind::NotFound => Ok(Reply::Absent),
                // Hiding can be undone, whatever it is.
                ErrorKind::Permission | ErrorKind::Auth => Ok(Reply::Done),
                _ => Err(error),
            },
        }
    }

    async fn hide(&mut self) -> Result<Reply> {
        if !self.options.dry_run {
            self.location.store().hide(&self.location.key(self.stored)).await?;
        }
        self.removed.hidden = true;
        Ok(Reply::Done)
    }

    async fn list_containers(&mut self) -> Result<Reply> {
        let found = fetch::containers(self.location, self.stored, self.options.now).await?;
        if found.iter().any(|version| version.foreign) {
            self.error.get_or_insert(self.foreign());
        }
        let settled = found.iter().filter(|version| version.settled);
        self.settled = settled.map(|version| version.version.clone()).collect();
        Ok(Reply::Containers(found))
    }

    async fn delete_container(&mut self, version: &VersionId) -> Result<Reply> {
        if !self.options.dry_run {
            fetch::delete(self.location.store(), &self.location.key(self.stored), version).await?;
        }
        self.removed.young |= !self.settled.contains(version);
        self.removed.containers.push(version.clone());
        Ok(Reply::Done)
    }

    /// In both forms. One that stands under two names is read under each.
    async fn read_envelopes(&mut self, gone: &[DataId]) -> Result<Reply> {
        let forms = gone.iter().map(Some).chain([None]);
        let names: BTreeSet<String> = forms.filter_map(|id| envelope_name(self.stored, id)).collect();
        for name in names {
            let found = fetch::envelopes(self.location, &name, SETTLED, self.options.now).await?;
            self.read.extend(found.into_iter().map(|(_, envelope)| envelope));
        }
        Ok(Reply::Envelopes(self.read.clone()))
    }

    async fn list_again(&mut self) -> Result<Reply> {
        let names: BTreeSet<String> =
            self.read.iter().flat_map(|envelope| containers_of(&envelope.id.stored)).collect();
        let mut found = Vec::new();
        for name in names {
            let versions = fetch::containers(self.location, &name, self.options.now).await?;
            let pretended = |version: &VersionId| {
                self.options.dry_run && name == self.stored && self.removed.containers.contains(version)
            };
            found.extend(versions.into_iter().filter(|container| !pretended(&container.version)));
        }
        Ok(Reply::Containers(found))
    }

    async fn delete_envelope(&mut self, id: &EnvelopeId) -> Result<Reply> {
        if !self.options.dry_run {
            let key = self.location.key(&id.stored);
            let deleted = fetch::delete(self.location.store(), &key, &id.version).await;
            if let Err(error) = deleted {
                self.failed.insert(id.clone());
                return Err(error);
            }
        }
        self.removed.envelopes.push(id.clone());
        Ok(Reply::Done)
    }

    fn finish(mut self, outcome: Outcome) -> Result<Removed> {
        let shown = self.location.show(self.stored);
        match outcome {
            Outcome::Hidden | Outcome::Removed => {}
            Outcome::Absent => return Err(Error::not_found("there is no such object").about(shown)),
            Outcome::Failed => {
                let unknown = || Error::new(ErrorKind::Transient, "was not removed");
                return Err(self.error.unwrap_or_else(unknown).about(shown));
            }
        }
        for envelope in self.read {
            if !self.removed.envelopes.contains(&envelope.id) {
                let why = match envelope.serves {
                    Serves::Unknown => WhyKept::Unknown,
                    _ if self.failed.contains(&envelope.id) => WhyKept::Failed,
                    _ => WhyKept::MayBeNeeded,
                };
                self.removed.kept.push(Kept { id: envelope.id, why });
            }
        }
        Ok(self.removed)
    }

    fn foreign(&self) -> Error {
        Error::conflict("is not a container of sidekey; it was not removed")
            .about(self.location.show(self.stored))
            .hint("remove it with the tool that wrote it, or with the store's own")
    }

    /// Keeps the error that a step ended with, and replies for it.
    fn note(&mut self, reply: Result<Reply>) -> Reply {
        reply.unwrap_or_else(|error| {
            self.error.get_or_insert(error);
            Reply::Failed
        })
    }
}
