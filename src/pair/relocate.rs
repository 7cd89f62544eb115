//! Moving one version of an envelope beside a container (`NAME.key.enc`) to the name that no other upload has.
//!
//! Each version there may be another upload's only key. One goes only when its key was read back under the other name.

use super::VersionId;

/// One step of moving an envelope.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RelocateStep {
    /// Write the new text under the other name, if nothing has it.
    Create,
    /// Read what has the other name, and join what it holds with the new text.
    ReadOther,
    /// Write the joined text where the newest version is still the one that was read.
    Join {
        /// The newest version that was read.
        over: VersionId,
    },
    /// Read the version that was written and compare it byte for byte.
    ReadBack(VersionId),
    /// Delete the version that was moved.
    Delete,
    /// It is over.
    Finished(RelocateOutcome),
}

/// How a step of moving an envelope went.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RelocateReply {
    /// To a write: the new version's id. To [`RelocateStep::ReadOther`]: the id of what was read.
    Version(VersionId),
    /// To [`RelocateStep::Create`]: something has the name. To [`RelocateStep::Join`]: it is another one by now.
    Exists,
    /// It is what was written; it is gone.
    Done,
    /// It was not done, or not as it should be.
    Failed,
}

/// How moving an envelope ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RelocateOutcome {
    /// It stands under the other name alone.
    Moved,
    /// It stands under both.
    Residue,
    /// Nothing was deleted.
    Failed,
}

/// How often what has the other name is read again because another writer was faster.
const TRIES: u8 = 5;

/// Moves one version of an envelope.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Relocate {
    step: RelocateStep,
    tries: u8,
}

impl Default for Relocate {
    fn default() -> Self {
        Self::new()
    }
}

impl Relocate {
    /// Starts with writing.
    pub fn new() -> Self {
        Self { step: RelocateStep::Create, tries: TRIES }
    }

    /// What to do next.
    pub fn step(&self) -> &RelocateStep {
        &self.step
    }

    /// How [`Self::step`] went. A reply that does not belong to the step ends it as failed, with nothing deleted after it.
    pub fn reply(&mut self, reply: RelocateReply) {
        use {RelocateOutcome as Outcome, RelocateReply as Reply, RelocateStep as Step};
        self.step = match (&self.step, reply) {
            (Step::Create | Step::Join { .. }, Reply::Version(version)) => Step::ReadBack(version),
            (Step::Create | Step::Join { .. }, Reply::Exists) if self.tries > 0 => {
                self.tries -= 1;
                Step::ReadOther
            }
            (Step::ReadOther, Reply::Version(over)) => Step::Join { over },
            (Step::ReadBack(_), Reply::Done) => Step::Delete,
            (Step::Delete, Reply::Done) => Step::Finished(Outcome::Moved),
            (Step::Delete, _) => Step::Finished(Outcome::Residue),
            (Step::Finished(outcome), _) => Step::Finished(*outcome),
            _ => Step::Finished(Outcome::Failed),
        };
    }
}
