//! Removing a container: hiding it where there are versions; else deleting it, and its envelopes once nothing needs them.

use super::{ContainerVersion, EnvelopeId, EnvelopeVersion, Needs, Serves, VersionId};
use crate::DataId;

/// One step of removing a container.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RemoveStep {
    /// See whether a container has the name.
    Look,
    /// Hide it behind a delete marker.
    Hide,
    /// List all versions of the container and read their headers.
    ListContainers,
    /// Delete this version, which was read.
    DeleteContainer(VersionId),
    /// Read all versions of the envelopes that containers of these data ids have, in both forms.
    ReadEnvelopes(Vec<DataId>),
    /// List and read again all containers that the envelopes may belong to.
    ListAgain,
    /// Delete this version of an envelope, which was read.
    DeleteEnvelope(EnvelopeId),
    /// It is over.
    Finished(RemoveOutcome),
}

/// How a step of removing a container went.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RemoveReply {
    /// It was done; what was looked for is there.
    Done,
    /// Nothing has the name.
    Absent,
    /// To [`RemoveStep::ListContainers`] and [`RemoveStep::ListAgain`]: the versions, newest first.
    Containers(Vec<ContainerVersion>),
    /// To [`RemoveStep::ReadEnvelopes`]: the versions.
    Envelopes(Vec<EnvelopeVersion>),
    /// It was not done, or may not have been.
    Failed,
}

/// How removing a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RemoveOutcome {
    /// It is hidden; its versions and their envelopes are there.
    Hidden,
    /// All versions that were there are gone. Envelopes that could not go yet are `clean`'s.
    Removed,
    /// Nothing had the name.
    Absent,
    /// Some version is still there, or may be.
    Failed,
}

/// Removes a container.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Remove {
    step: RemoveStep,
    /// Versions of the container that are still to be deleted, the newest last: what is interrupted brings nothing back.
    left: Vec<ContainerVersion>,
    deleted: Vec<ContainerVersion>,
    failed: bool,
    /// Versions of envelopes that are still to be deleted.
    candidates: Vec<EnvelopeVersion>,
}

impl Remove {
    /// Hides the container, in a store that keeps versions.
    pub fn hiding() -> Self {
        Self::starting(RemoveStep::Look)
    }

    /// Deletes all versions of the container, in a store that keeps one or many.
    pub fn deleting() -> Self {
        Self::starting(RemoveStep::ListContainers)
    }

    fn starting(step: RemoveStep) -> Self {
        Self { step, left: vec![], deleted: vec![], failed: false, candidates: vec![] }
    }

    /// What to do next.
    pub fn step(&self) -> &RemoveStep {
        &self.step
    }

    /// How [`Self::step`] went. A reply that does not belong to the step ends it, with nothing deleted after it.
    pub fn reply(&mut self, reply: RemoveReply) {
        use {RemoveOutcome as Outcome, RemoveReply as Reply, RemoveStep as Step};
        self.step = match (&self.step, reply) {
            (Step::Look, Reply::Done) => Step::Hide,
            (Step::Look, Reply::Absent) => Step::Finished(Outcome::Absent),
            (Step::Hide, Reply::Done) => Step::Finished(Outcome::Hidden),
            (Step::ListContainers, Reply::Containers(found)) if found.is_empty() => {
                Step::Finished(Outcome::Absent)
            }
            (Step::ListContainers, Reply::Containers(found)) => {
                self.failed = found.iter().any(|version| version.foreign);
                self.left = found.into_iter().filter(|version| !version.foreign).collect();
                self.next_container()
            }
            (Step::DeleteContainer(_), reply) => {
                match (self.left.pop(), reply) {
                    (Some(version), Reply::Done) => self.deleted.push(version),
                    _ => self.failed = true,
                }
                self.next_container()
            }
            (Step::ReadEnvelopes(gone), Reply::Envelopes(read)) => {
                let may_go = |envelope: &EnvelopeVersion| match &envelope.serves {
                    Serves::Data(ids) => ids.iter().all(|id| gone.contains(id)),
                    Serves::Recipe => envelope.old && self.deleted.iter().all(|version| version.settled),
                    Serves::Unknown => false,
                };
                self.candidates = read.into_iter().filter(may_go).collect();
                if self.candidates.is_empty() { self.finished() } else { Step::ListAgain }
            }
            (Step::ListAgain, Reply::Containers(found)) => {
                self.candidates.retain(|envelope| !envelope.serves.needed(&found));
                self.next_envelope()
            }
            (Step::DeleteEnvelope(_), _) => {
                self.candidates.pop();
                self.next_envelope()
            }
            (Step::ReadEnvelopes(_) | Step::ListAgain, _) => self.finished(),
            (Step::Finished(outcome), _) => Step::Finished(*outcome),
            _ => Step::Finished(Outcome::Failed),
        };
    }

    fn next_container(&self) -> RemoveStep {
        match self.left.last() {
            Some(version) => RemoveStep::DeleteContainer(version.version.clone()),
            None if self.deleted.iter().any(|version| version.settled) => {
                RemoveStep::ReadEnvelopes(self.gone())
            }
            None => self.finished(),
        }
    }

    /// The data ids of what was deleted, of which no late delivery can come any more.
    fn gone(&self) -> Vec<DataId> {
        let young = |id: DataId| {
            self.deleted.iter().any(|version| version.needs == Needs::Key(id) && !version.settled)
        };
        let mut gone: Vec<DataId> = Vec::new();
        for version in &self.deleted {
            if let Needs::Key(id) = version.needs
                && !young(id)
                && !gone.contains(&id)
            {
                gone.push(id);
            }
        }
        gone
    }

    fn next_envelope(&self) -> RemoveStep {
        match self.candidates.last() {
            Some(envelope) => RemoveStep::DeleteEnvelope(envelope.id.clone()),
            None => self.finished(),
        }
    }

    fn finished(&self) -> RemoveStep {
        RemoveStep::Finished(if self.failed { RemoveOutcome::Failed } else { RemoveOutcome::Removed })
    }
}
