//! The rules by which a container and its envelope are stored together, as step machines without I/O.
//!
//! A machine asks for one step at a time ([`Put::step`], [`Rewrap::step`]) and is told how it went. Whoever performs
//! the steps (`ops::pair_files` for a folder of this machine; stores) decides nothing. The machines hold no secrets and
//! no bytes, are `Clone + Hash`, and so can be explored state by state.
//!
//! The rules (docs/design.md, "Storing a pair"):
//! - the envelope is confirmed before the container gets its name, so that no container is ever without a key;
//! - an upload never overwrites or deletes an envelope that another container may need;
//! - a rewrap writes, reads back byte for byte, only then deletes the versions that it read, and lists again.

/// Where an envelope stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// `NAME.<16 hex of the data id>.key.enc`: a name that no other upload ever has.
    Located,
    /// `NAME.key.enc`: beside its container on this machine.
    Beside,
}

/// One step of storing a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PutStep {
    /// Write the envelope durably, if nothing has its name.
    CreateEnvelope(Form),
    /// Give the container its name durably, if nothing has it.
    CreateContainer,
    /// Give the container its name durably, in place of what has it.
    ReplaceContainer,
    /// Rename our [`Form::Located`] envelope to [`Form::Beside`], in place of the replaced container's.
    SettleEnvelope,
    /// Remove the envelope that this machine created: its container never got its name.
    RemoveEnvelope(Form),
    /// It is over.
    Finished(PutOutcome),
}

/// How a step of storing a pair went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PutReply {
    /// It was done and is durable.
    Done,
    /// It was not done: something has the name.
    Exists,
    /// It was not done.
    Failed,
    /// It may have been done, or may still be.
    Unknown,
}

/// How storing a pair ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PutOutcome {
    /// Both are there; the envelope in this form.
    Stored(Form),
    /// Something has the name; nothing was changed.
    Exists,
    /// Nothing was changed.
    Failed,
    /// The envelope is there, and perhaps the container.
    Unknown(Form),
}

/// Stores a new pair, or a new container over an old one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Put {
    form: Form,
    replace: bool,
    step: PutStep,
}

impl Put {
    /// A pair whose envelope ends up in this form. With `replace`, what has the container's name is replaced.
    pub fn new(form: Form, replace: bool) -> Self {
        // Over an old pair the new envelope first stands beside the old one: at no moment is a container without.
        let first = if replace { Form::Located } else { form };
        Self { form, replace, step: PutStep::CreateEnvelope(first) }
    }

    /// What to do next.
    pub fn step(&self) -> PutStep {
        self.step
    }

    /// How [`Self::step`] went; a reply to [`PutStep::Finished`] changes nothing.
    pub fn reply(&mut self, reply: PutReply) {
        use {PutOutcome as Outcome, PutReply as Reply, PutStep as Step};
        let first = if self.replace { Form::Located } else { self.form };
        self.step = match (self.step, reply) {
            (Step::CreateEnvelope(_), Reply::Done) if self.replace => Step::ReplaceContainer,
            (Step::CreateEnvelope(_), Reply::Done) => Step::CreateContainer,
            (Step::CreateEnvelope(_), Reply::Exists) => Step::Finished(Outcome::Exists),
            (Step::CreateEnvelope(_), Reply::Failed) => Step::Finished(Outcome::Failed),
            (Step::CreateEnvelope(form), Reply::Unknown) => Step::Finished(Outcome::Unknown(form)),
            (Step::CreateContainer | Step::ReplaceContainer, Reply::Done) if first != self.form => {
                Step::SettleEnvelope
            }
            (Step::CreateContainer | Step::ReplaceContainer, Reply::Done) => {
                Step::Finished(Outcome::Stored(first))
            }
            (Step::CreateContainer | Step::ReplaceContainer, Reply::Exists | Reply::Failed) => {
                Step::RemoveEnvelope(first)
            }
            // A write that may still arrive needs its envelope.
            (Step::CreateContainer | Step::ReplaceContainer, Reply::Unknown) => {
                Step::Finished(Outcome::Unknown(first))
            }
            (Step::SettleEnvelope, Reply::Done) => Step::Finished(Outcome::Stored(Form::Beside)),
            // Readers try both forms: an envelope that could not be renamed serves as it is.
            (Step::SettleEnvelope, _) => Step::Finished(Outcome::Stored(Form::Located)),
            (Step::RemoveEnvelope(_), _) if self.replace => Step::Finished(Outcome::Failed),
            (Step::RemoveEnvelope(_), _) => Step::Finished(Outcome::Exists),
            (Step::Finished(outcome), _) => Step::Finished(outcome),
        };
    }
}

/// Names one version of an envelope in its store.
pub type VersionId = String;

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
            (Step::Read, Reply::Found(versions, finding)) => match (finding, versions.first()) {
                (Finding::Opens, Some(newest)) => {
                    let over = newest.clone();
                    self.read = versions;
                    Step::Write { over }
                }
                (Finding::Done, Some(newest)) => {
                    self.written = Some(newest.clone());
                    self.read = versions;
                    self.next_delete()
                }
                (Finding::NotOurs, _) => Step::Finished(Outcome::NotOurs),
                (Finding::Unproven, _) => Step::Finished(Outcome::Unproven),
                (_, None) => Step::Finished(Outcome::Failed),
            },
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

    /// Deletes, one after the other, what was read and is not what was written; then lists.
    fn next_delete(&self) -> RewrapStep {
        match self.read.iter().find(|version| Some(*version) != self.written.as_ref()) {
            Some(version) => RewrapStep::Delete(version.clone()),
            None => RewrapStep::List,
        }
    }
}
