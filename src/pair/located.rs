//! Storing a pair in a location: the envelope under a name that no other upload ever has, confirmed, then the container.
//!
//! It never deletes anything. An envelope whose container never came is [`Clean`](super::Clean)'s, once it is old enough
//! that the container cannot come any more.

/// What becomes of a container that has the name already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum IfExists {
    /// It is replaced; where the store keeps versions, it becomes an older one.
    #[default]
    Replace,
    /// It stays, and nothing is stored.
    Skip,
    /// It stays, and that is an error.
    Fail,
}

impl IfExists {
    /// Whether what is there is replaced.
    pub fn replaces(self) -> bool {
        self == Self::Replace
    }
}

/// One step of storing a pair in a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LocatedPutStep {
    /// See what has the container's name.
    Look,
    /// Write the envelope durably, if nothing has its name.
    CreateEnvelope,
    /// Read the envelope's name and compare it with what is to stand there.
    ReadEnvelope,
    /// Send the container's parts, without giving it its name.
    SendParts,
    /// See that the envelope is still there.
    ConfirmEnvelope,
    /// Give the container its name durably, in place of what has it; or only if nothing has it. And only if the envelope
    /// was written less than [`LATEST`](super::LATEST) ago.
    WriteContainer {
        /// Whether it may take the place of another one.
        replace: bool,
    },
    /// See whether a version of the container is the one that was sent.
    FindContainer,
    /// It is over.
    Finished(LocatedPutOutcome),
}

/// How a step of storing a pair in a location went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LocatedPutReply {
    /// It was done and is durable; what was looked for is there, as it should be.
    Done,
    /// Nothing has the name.
    Absent,
    /// It was not done: something has the name. To [`LocatedPutStep::Look`]: a container has it.
    Exists,
    /// It was not done, or what is there must not be replaced.
    Failed,
    /// It may have been done, or may still be.
    Unknown,
}

/// How storing a pair in a location ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LocatedPutOutcome {
    /// Both are there.
    Stored,
    /// A container has the name; none was stored.
    Exists,
    /// No container was stored.
    Failed,
    /// The container may be there, or may still come; its envelope is there.
    Unknown,
}

/// When it is seen what has the container's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Looks {
    /// Before anything is written.
    First,
    /// When the name turns out to be taken.
    IfTaken,
    /// It is taken, and the envelope is there.
    Taken,
}

/// Stores a new pair in a location, or a new container over an old one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LocatedPut {
    replace: bool,
    looks: Looks,
    in_parts: bool,
    /// Whether the envelope was confirmed by an earlier run.
    resumed: bool,
    step: LocatedPutStep,
}

impl LocatedPut {
    /// A pair whose container is sent at once, or `in_parts`.
    pub fn new(if_exists: IfExists, in_parts: bool) -> Self {
        let replace = if_exists == IfExists::Replace;
        Self { replace, looks: Looks::First, in_parts, resumed: false, step: LocatedPutStep::Look }
    }

    /// A pair that is sent at once and most likely replaces nothing, to a store that writes only what is absent when it is
    /// asked to: what has the name is looked at only if that refuses, and is then replaced.
    pub fn most_likely_new() -> Self {
        let put = Self::new(IfExists::Replace, false);
        Self { looks: Looks::IfTaken, step: LocatedPutStep::CreateEnvelope, ..put }
    }

    /// A pair whose envelope an earlier run wrote, before it died while it sent parts: no envelope is written twice.
    pub fn resumed(if_exists: IfExists) -> Self {
        Self { resumed: true, ..Self::new(if_exists, true) }
    }

    /// What to do next.
    pub fn step(&self) -> LocatedPutStep {
        self.step
    }

    /// How [`Self::step`] went; a reply that does not belong to the step ends it as failed, before the container is sent.
    pub fn reply(&mut self, reply: LocatedPutReply) {
        use {LocatedPutOutcome as Outcome, LocatedPutReply as Reply, LocatedPutStep as Step};
        self.step = match (self.step, reply) {
            (Step::Look, Reply::Absent) => self.begin(),
            (Step::Look, Reply::Exists) if self.replace => self.begin(),
            (Step::Look, Reply::Exists) => Step::Finished(Outcome::Exists),
            (Step::CreateEnvelope | Step::ReadEnvelope, Reply::Done) if self.in_parts => Step::SendParts,
            (Step::CreateEnvelope | Step::ReadEnvelope, Reply::Done) => self.write_container(),
            // Our own, twice on its way, or another's: its bytes tell.
            (Step::CreateEnvelope, Reply::Exists | Reply::Unknown) => Step::ReadEnvelope,
            (Step::SendParts, Reply::Done) => Step::ConfirmEnvelope,
            (Step::ConfirmEnvelope, Reply::Done) => self.write_container(),
            (Step::WriteContainer { .. } | Step::FindContainer, Reply::Done) => {
                Step::Finished(Outcome::Stored)
            }
            (Step::WriteContainer { .. }, Reply::Exists) if self.looks == Looks::IfTaken => {
                self.looks = Looks::Taken;
                Step::Look
            }
            (Step::WriteContainer { .. }, Reply::Exists) => Step::Finished(Outcome::Exists),
            (Step::WriteContainer { .. }, Reply::Unknown) => Step::FindContainer,
            // Not there yet is not never.
            (Step::FindContainer, _) => Step::Finished(Outcome::Unknown),
            (Step::Finished(outcome), _) => Step::Finished(outcome),
            // What was refused because of another container may be delivered once more when that is gone.
            _ if self.looks == Looks::Taken => Step::Finished(Outcome::Unknown),
            _ => Step::Finished(Outcome::Failed),
        };
    }

    fn begin(&self) -> LocatedPutStep {
        match self.looks {
            Looks::Taken => self.write_container(),
            _ if self.resumed => LocatedPutStep::SendParts,
            _ => LocatedPutStep::CreateEnvelope,
        }
    }

    fn write_container(&self) -> LocatedPutStep {
        LocatedPutStep::WriteContainer { replace: self.replace && self.looks != Looks::IfTaken }
    }
}
