//! Cleaning up after one name of an envelope: a version goes that no container needs, when no container can still come.
//!
//! The plan comes first, and is shown. Each deletion looks again before it is done.

use super::{ContainerVersion, EnvelopeVersion, VersionId};

/// One step of cleaning up after an envelope.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CleanStep {
    /// Read all versions that have the envelope's name.
    ReadEnvelope,
    /// List all versions of every container that the envelope may belong to by its name, and read their headers.
    ReadContainers,
    /// Show that these versions would be deleted, and wait until that is wanted.
    Plan(Vec<VersionId>),
    /// The same as [`Self::ReadContainers`], right before this version is deleted.
    ReadAgain(VersionId),
    /// Delete this version, which was read.
    Delete(VersionId),
    /// It is over.
    Finished(CleanOutcome),
}

/// How a step of cleaning up went.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CleanReply {
    /// To [`CleanStep::ReadEnvelope`].
    Envelopes(Vec<EnvelopeVersion>),
    /// To [`CleanStep::ReadContainers`] and [`CleanStep::ReadAgain`].
    Containers(Vec<ContainerVersion>),
    /// To [`CleanStep::Plan`]: it is wanted. To [`CleanStep::Delete`]: it is gone.
    Done,
    /// It was not done, or may not have been.
    Failed,
}

/// How cleaning up after an envelope ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CleanOutcome {
    /// Nothing was to be deleted.
    Kept,
    /// All that was planned and is not needed after all is gone.
    Cleaned,
    /// Something that was to be deleted is still there, or may be.
    Failed,
}

/// Cleans up after one name of an envelope.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Clean {
    step: CleanStep,
    /// What may go, the oldest last: what is interrupted leaves the newest.
    candidates: Vec<EnvelopeVersion>,
    failed: bool,
}

impl Default for Clean {
    fn default() -> Self {
        Self::new()
    }
}

impl Clean {
    /// Starts with reading.
    pub fn new() -> Self {
        Self { step: CleanStep::ReadEnvelope, candidates: vec![], failed: false }
    }

    /// What to do next.
    pub fn step(&self) -> &CleanStep {
        &self.step
    }

    /// How [`Self::step`] went. A reply that does not belong to the step ends it, with nothing deleted after it.
    pub fn reply(&mut self, reply: CleanReply) {
        use {CleanOutcome as Outcome, CleanReply as Reply, CleanStep as Step};
        self.step = match (&self.step, reply) {
            (Step::ReadEnvelope, Reply::Envelopes(read)) => {
                // A key file of the recipe has no data id: nothing tells that its container is not on its way.
                let may_go = |envelope: &EnvelopeVersion| {
                    envelope.old && matches!(&envelope.serves, super::Serves::Data(ids) if !ids.is_empty())
                };
                self.candidates = read.into_iter().filter(may_go).collect();
                match self.candidates.is_empty() {
                    true => Step::Finished(Outcome::Kept),
                    false => Step::ReadContainers,
                }
            }
            (Step::ReadContainers, Reply::Containers(found)) => {
                self.candidates.retain(|envelope| !envelope.serves.needed(&found));
                match self.candidates.is_empty() {
                    true => Step::Finished(Outcome::Kept),
                    false => Step::Plan(self.candidates.iter().map(|one| one.id.version.clone()).collect()),
                }
            }
            (Step::Plan(_), Reply::Done) => self.next(),
            (Step::Plan(_), _) => Step::Finished(Outcome::Kept),
            (Step::ReadAgain(version), Reply::Containers(found)) => {
                match self.candidates.last().is_some_and(|envelope| !envelope.serves.needed(&found)) {
                    true => Step::Delete(version.clone()),
                    false => {
                        self.candidates.pop();
                        self.next()
                    }
                }
            }
            (Step::Delete(_), reply) => {
                self.failed |= reply != Reply::Done;
                self.candidates.pop();
                self.next()
            }
            (Step::Finished(outcome), _) => Step::Finished(*outcome),
            _ => Step::Finished(Outcome::Failed),
        };
    }

    /// What may go, in the order in which it was read.
    pub fn candidates(&self) -> &[EnvelopeVersion] {
        &self.candidates
    }

    fn next(&self) -> CleanStep {
        match self.candidates.last() {
            Some(envelope) => CleanStep::ReadAgain(envelope.id.version.clone()),
            None if self.failed => CleanStep::Finished(CleanOutcome::Failed),
            None => CleanStep::Finished(CleanOutcome::Cleaned),
        }
    }
}
