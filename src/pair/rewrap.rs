//! Moving one envelope to new recipients: write, read back, delete what was read, list again.

use super::VersionId;

/// One step of rewrapping one envelope.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RewrapStep {
    /// Read all versions with their ids, newest first, and try every old key on every entry.
    Read,
    /// Write the new text where the newest version is still the one that was read.
    Write {
        /// The newest version that was read.
        over: VersionId,
    },
    /// Read the version that was written and compare it byte for byte.
    ReadBack(VersionId),
    /// Delete this version, which was read before the write.
    Delete(VersionId),
    /// List the versions again.
    List,
    /// It is over.
    Finished(RewrapOutcome),
}

/// What reading an envelope's versions showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Finding {
    /// A version opens, and its key is the container's or cannot be compared.
    Opens,
    /// The newest version is for the new recipients already, and nothing names or opens with an old key.
    Done,
    /// No old key opens anything, and nothing names one.
    NotOurs,
    /// Something names an old key or opens with one, but no file key is proven: nothing may be written from it.
    Unproven,
}

/// How a step of rewrapping went.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RewrapReply {
    /// To [`RewrapStep::Read`]: the versions, newest first, and what they showed.
    Found(Vec<VersionId>, Finding),
    /// To [`RewrapStep::Read`], when not all versions may go.
    FoundSome {
        /// The versions, newest first.
        versions: Vec<VersionId>,
        /// Those of them that hold something which the new text does not.
        keep: Vec<VersionId>,
        /// What they showed.
        finding: Finding,
    },
    /// To [`RewrapStep::Write`]: the new version's id.
    Written(VersionId),
    /// To [`RewrapStep::Write`]: the newest version is another one; nothing was written.
    Changed,
    /// To [`RewrapStep::ReadBack`]: it is what was written.
    Same,
    /// To [`RewrapStep::Delete`]: it is gone.
    Deleted,
    /// To [`RewrapStep::List`]: the versions, newest first.
    Versions(Vec<VersionId>),
    /// It was not done, or not as it should be.
    Failed,
}

/// How rewrapping one envelope ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RewrapOutcome {
    /// The new version is the only one.
    Rewrapped,
    /// There was nothing to do.
    AlreadyDone,
    /// No old key opens it.
    NotOurs,
    /// The new version is there, but older ones are too.
    Residue,
    /// Something is left for the old key that could not be rewritten.
    Unproven,
    /// Nothing was deleted; what was read is still there.
    Failed,
}

/// How often a rewrap starts again because another writer was faster.
const TRIES: u8 = 5;

/// Moves one envelope to new recipients.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rewrap {
    step: RewrapStep,
    read: Vec<VersionId>,
    /// The version that stays.
    written: Option<VersionId>,
    wrote: bool,
    residue: bool,
    tries: u8,
}

impl Default for Rewrap {
    fn default() -> Self {
        Self::new()
    }
}

impl Rewrap {
    /// Starts with reading.
    pub fn new() -> Self {
        Self {
            step: RewrapStep::Read,
            read: vec![],
            written: None,
            wrote: false,
            residue: false,
            tries: TRIES,
        }
    }

    /// What to do next.
    pub fn step(&self) -> &RewrapStep {
        &self.step
    }

    /// How [`Self::step`] went. A reply that does not belong to the step ends it as failed, with nothing deleted
    /// after it.
    pub fn reply(&mut self, reply: RewrapReply) {
        use {RewrapOutcome as Outcome, RewrapReply as Reply, RewrapStep as Step};
        self.step = match (&self.step, reply) {
            (Step::Read, Reply::Found(versions, finding)) => self.found(versions, &[], finding),
            (Step::Read, Reply::FoundSome { versions, keep, finding }) => {
                self.found(versions, &keep, finding)
            }
            (Step::Write { .. }, Reply::Written(id)) => {
                // A store without versions has replaced what was read.
                self.read.retain(|version| *version != id);
                self.written = Some(id.clone());
                self.wrote = true;
                Step::ReadBack(id)
            }
            (Step::Write { .. }, Reply::Changed) if self.tries > 1 => {
                self.tries -= 1;
                Step::Read
            }
            (Step::ReadBack(_), Reply::Same) => self.next_delete(),
            (Step::Delete(version), Reply::Deleted) => {
                let version = version.clone();
                self.read.retain(|other| *other != version);
                self.next_delete()
            }
            (Step::Delete(version), Reply::Failed) => {
                let version = version.clone();
                self.read.retain(|other| *other != version);
                self.residue = true;
                self.next_delete()
            }
            (Step::List, Reply::Versions(versions)) => {
                let alone = versions.len() == 1 && versions.first() == self.written.as_ref();
                Step::Finished(match alone && !self.residue {
                    true if self.wrote => Outcome::Rewrapped,
                    true => Outcome::AlreadyDone,
                    false => Outcome::Residue,
                })
            }
            (Step::List, _) => Step::Finished(Outcome::Residue),
            (Step::Finished(outcome), _) => Step::Finished(*outcome),
            _ => Step::Finished(Outcome::Failed),
        };
    }

    fn found(&mut self, versions: Vec<VersionId>, keep: &[VersionId], finding: Finding) -> RewrapStep {
        let Some(newest) = versions.first().cloned() else {
            return RewrapStep::Finished(RewrapOutcome::Failed);
        };
        self.read = versions.into_iter().filter(|version| !keep.contains(version)).collect();
        match finding {
            Finding::Opens => RewrapStep::Write { over: newest },
            Finding::Done => {
                self.written = Some(newest);
                self.next_delete()
            }
            Finding::NotOurs => RewrapStep::Finished(RewrapOutcome::NotOurs),
            Finding::Unproven => RewrapStep::Finished(RewrapOutcome::Unproven),
        }
    }

    /// Deletes, one after the other, what was read and is not what was written; then lists.
    fn next_delete(&self) -> RewrapStep {
        match self.read.iter().find(|version| Some(*version) != self.written.as_ref()) {
            Some(version) => RewrapStep::Delete(version.clone()),
            None => RewrapStep::List,
        }
    }
}
