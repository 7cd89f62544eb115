//! Moves an envelope that stands beside its container to the name that no other upload has.

use bytes::Bytes;

use super::examine::{Judged, ReadVersion, judge};
use super::fetch;
use super::located::located_again;
use super::rewrap::{
    Facts, Headers, RewrapOptions, Rewrapped, data_id, is_current, overwrite, proofs_for, read_back,
    read_versions, recipients,
};
use crate::format::Envelope;
use crate::location::Location;
use crate::name::{containers_of, envelope_name};
use crate::pair::{Finding, Relocate, RelocateOutcome, RelocateReply, RelocateStep, RewrapOutcome};
use crate::store::{OnlyIf, PutOptions, Store, VersionId};
use crate::{Error, ErrorKind, Result};

/// Takes each version of an envelope beside its container through the steps of [`Relocate`].
pub(super) async fn beside(
    location: &Location,
    stored: &str,
    versions: Vec<ReadVersion>,
    known: Option<&Headers>,
    options: &RewrapOptions<'_>,
) -> Result<Vec<Rewrapped>> {
    let proofs = proofs_for(location, stored, known, &versions, options).await?;
    let container = containers_of(stored).pop().unwrap_or_default();
    let mut done = Vec::new();
    for version in versions {
        let RewrapOptions { rotation, created, all, .. } = *options;
        let judged = judge(std::slice::from_ref(&version), &proofs, rotation, created, all, false)?;
        let name = data_id(&version.bytes).and_then(|id| envelope_name(&container, Some(&id)));
        let before = recipients([&version.bytes]);
        let seen = version.object.version.clone();
        let moved = match (judged.finding, &judged.new, name) {
            (Finding::Opens, Some(new), Some(name)) => {
                relocate(location, (stored, version), (&name, new), options).await?
            }
            (Finding::Opens, ..) => Moved::stays(stored, &seen, RewrapOutcome::Unproven),
            _ => Moved::stays(stored, &seen, why(judged.finding)),
        };
        let mut residue = judged.residue;
        residue.extend(moved.residue);
        let Judged { checked, unchecked, .. } = judged;
        let facts = Facts { seen: vec![seen], before, ..moved.facts };
        done.push(Rewrapped {
            stored: moved.stored,
            outcome: moved.outcome,
            residue,
            notes: vec![],
            checked,
            unchecked,
            facts,
        });
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

/// What became of one version.
pub(super) struct Moved {
    pub(super) stored: String,
    pub(super) outcome: RewrapOutcome,
    pub(super) residue: Vec<String>,
    pub(super) facts: Facts,
}

impl Moved {
    fn stays(stored: &str, version: &VersionId, outcome: RewrapOutcome) -> Self {
        let facts = Facts { left: vec![version.clone()], ..Facts::default() };
        Self { stored: stored.to_owned(), outcome, residue: vec![], facts }
    }
}

/// Moves one version to a name of its own.
pub(super) async fn relocate(
    location: &Location,
    (stored, version): (&str, ReadVersion),
    (name, new): (&str, &Envelope),
    options: &RewrapOptions<'_>,
) -> Result<Moved> {
    let from = version.object.version.clone();
    let mut moving = Moving {
        location,
        store: location.store(),
        from: location.key(stored),
        to: location.key(name),
        version,
        new: new.clone(),
        text: new.to_text()?.into(),
        written: None,
        joined: false,
        purge: options.purge,
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
    let mut moved = Moved {
        stored: name.to_owned(),
        outcome: RewrapOutcome::Rewrapped,
        residue: vec![],
        facts: Facts {
            after: recipients([&moving.text]),
            written: moving.written.clone(),
            left: moving.written.iter().cloned().collect(),
            ..Facts::default()
        },
    };
    match outcome {
        RelocateOutcome::Moved if options.dry_run => {}
        RelocateOutcome::Moved => moved.facts.purged.push(from),
        RelocateOutcome::Residue => {
            moved.outcome = RewrapOutcome::Residue;
            moved.residue.push(match (&moving.error, options.purge) {
                (Some(error), _) => format!("it is still there under its old name too: {}", error.line()),
                (None, true) => "it is still there under its old name too".into(),
                (None, false) => "under its old name it was not to be deleted".into(),
            });
        }
        RelocateOutcome::Failed => {
            let changed = "was changed by other writers again and again";
            let error = moving.error.unwrap_or_else(|| Error::conflict(changed));
            return Err(error.about(location.show(stored)));
        }
    }
    // What was there before may hold something for an old key too.
    if moving.joined {
        let again = located_again(location, name, options).await?;
        if !matches!(again.outcome, RewrapOutcome::AlreadyDone | RewrapOutcome::Rewrapped) {
            moved.outcome = again.outcome;
        }
        moved.residue.extend(again.residue);
        moved.facts.written = again.facts.written.or(moved.facts.written);
        moved.facts.left = again.facts.left;
        moved.facts.purged.extend(again.facts.purged);
    }
    Ok(moved)
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
    written: Option<VersionId>,
    joined: bool,
    purge: bool,
    error: Option<Error>,
}

impl Moving<'_> {
    async fn create(&mut self) -> Result<RelocateReply> {
        // Where the store cannot tell, something that is there would be replaced.
        if !self.store.conditions().await?.create_new
            && !fetch::versions(self.store, &self.to).await?.is_empty()
        {
            return Ok(RelocateReply::Exists);
        }
        let options = PutOptions { only_if: OnlyIf::Absent, ..PutOptions::default() };
        match self.store.put(&self.to, self.text.clone(), &options).await {
            Ok(written) => Ok(self.wrote(written.version)),
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
        if !self.store.conditions().await?.replace_if && !is_current(self.store, &self.to, over).await? {
            return Ok(RelocateReply::Exists);
        }
        match overwrite(self.store, &self.to, self.text.clone(), over).await {
            Ok(version) => Ok(self.wrote(version)),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(RelocateReply::Exists),
            Err(error) => Err(error),
        }
    }

    async fn read_back(&mut self, version: &VersionId) -> Result<RelocateReply> {
        read_back(self.store, &self.to, version, &self.text).await.map(|()| RelocateReply::Done)
    }

    fn wrote(&mut self, version: VersionId) -> RelocateReply {
        self.written = Some(version.clone());
        RelocateReply::Version(version)
    }

    async fn delete(&mut self) -> Result<RelocateReply> {
        if !self.purge {
            return Ok(RelocateReply::Failed);
        }
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
