//! Storing a pair: the envelope first, the container second.

use super::Form;

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
