//! One name in a location: the store in memory, processes that step the real machines over it, and what is on its way.
//!
//! A process that dies is one that takes no further step. As every world is checked, not only the last ones, each process
//! dies everywhere.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use sidekey::DataId;
use sidekey::name::{containers_of, envelope_name};
use sidekey::pair::{
    Clean, CleanReply, CleanStep, ContainerVersion, EnvelopeId, EnvelopeVersion, Finding, IfExists, LATEST,
    LocatedPut, LocatedPutOutcome, LocatedPutReply, LocatedPutStep, Needs, ORPHANED, Relocate,
    RelocateOutcome, RelocateReply, RelocateStep, Remove, RemoveReply, RemoveStep, Rewrap, RewrapOutcome,
    RewrapReply, RewrapStep, SETTLED, Serves, VersionId,
};
use sidekey::store::memory::{Features, State};
use sidekey::store::{Info, ListOptions, Listed, Object, OnlyIf};

pub(crate) const CONTAINER: &str = "x.enc";
pub(crate) const BESIDE: &str = "x.key.enc";
const ONLY: &str = "only";
/// How much time passes at once: more than late deliveries last.
pub(crate) const TICK: Duration = Duration::from_secs(8 * 24 * 60 * 60);

/// What the explorer may let happen, and what it weakens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) features: Features,
    /// How many steps of a run may fail, be lost or be the last of their process.
    pub(crate) faults: u8,
    /// How often eight days pass.
    pub(crate) ticks: u8,
    /// How many writes of envelopes arrive late, at the most. Then an old text may come back after a rewrap, which only a
    /// second pass finds; but nothing may be lost.
    pub(crate) late_texts: u8,
    pub(crate) weak: Option<Weak>,
}

/// A rule broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weak {
    /// The container before its envelope.
    ContainerFirst,
    /// A put deletes the envelope of what it replaced.
    TidyAtOnce,
    /// A write without an answer is said to have failed.
    DoneSaidFailed,
    /// An upload that took too long gets its name all the same.
    NoConfirm,
    /// A rewrap deletes what it read before it writes.
    PurgeFirst,
    /// A rewrap deletes nothing.
    NoPurge,
    /// A removal takes the envelope of a container that is not settled.
    YoungRemoved,
    /// A removal does not list again.
    NoSecondList,
    /// Cleaning takes envelopes of any age.
    CleanAtOnce,
    /// Cleaning takes what could not be read for absent.
    UnknownIsAbsent,
    /// Cleaning looks at the current version of a container alone.
    CurrentAlone,
    /// A move deletes before it reads back.
    MoveBlindly,
}

/// What stands in a version of an envelope: whose file key, and which keys open it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Text {
    pub(crate) data: u8,
    pub(crate) old: bool,
    pub(crate) new: bool,
}

impl Text {
    pub(crate) fn old(data: u8) -> Self {
        Self { data, old: true, new: false }
    }

    fn body(self) -> Bytes {
        Bytes::copy_from_slice(&[self.data, u8::from(self.old), u8::from(self.new)])
    }

    fn read(body: &[u8]) -> Self {
        Self { data: body[0], old: body[1] == 1, new: body[2] == 1 }
    }
}

pub(crate) fn data_id(data: u8) -> DataId {
    DataId([data; 16])
}

pub(crate) fn located_name(data: u8) -> String {
    envelope_name(CONTAINER, Some(&data_id(data))).unwrap()
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) store: State,
    pub(crate) processes: Vec<Process>,
    /// Writes that may arrive, again or at last.
    late: BTreeSet<Late>,
    /// The envelopes that a rewrap reported as done.
    pub(crate) done: BTreeSet<String>,
    pub(crate) faults: u8,
    pub(crate) ticks: u8,
    /// How many writes of envelopes have arrived late.
    late_texts: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Late {
    key: String,
    body: Bytes,
    absent: bool,
    over: Option<VersionId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Process {
    Put(Putting),
    Rewrap { names: Option<Vec<String>>, one: Option<One> },
    Remove { machine: Remove, read: Vec<EnvelopeVersion> },
    Clean { names: Option<Vec<String>>, one: Option<(String, Clean)> },
    Over(Option<(u8, LocatedPutOutcome)>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Putting {
    machine: LocatedPut,
    text: Text,
    /// When the envelope was written, in ticks.
    began: u8,
}

/// One envelope being rewrapped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum One {
    Located { name: String, machine: Rewrap, text: Option<Text>, written: VersionId },
    Beside { left: Vec<(VersionId, Text)>, machine: Relocate, text: Text },
}

/// How a step goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Luck {
    Fine,
    /// It takes no effect, and the process knows.
    Refused,
    /// Its reply is lost.
    Lost {
        done: bool,
    },
}

/// What leads from one world to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Move {
    Step { process: usize, luck: Luck },
    Arrives(usize),
    TimePasses,
}

pub(crate) fn put(data: u8, if_exists: IfExists, in_parts: bool, new: bool) -> Process {
    let text = Text { data, old: !new, new };
    Process::Put(Putting { machine: LocatedPut::new(if_exists, in_parts), text, began: 0 })
}

/// One that looks at what has the name only when it is taken.
pub(crate) fn unseen(data: u8) -> Process {
    let text = Text { data, old: true, new: false };
    Process::Put(Putting { machine: LocatedPut::most_likely_new(), text, began: 0 })
}

pub(crate) fn rewrap() -> Process {
    Process::Rewrap { names: None, one: None }
}

pub(crate) fn hiding() -> Process {
    Process::Remove { machine: Remove::hiding(), read: vec![] }
}

pub(crate) fn deleting() -> Process {
    Process::Remove { machine: Remove::deleting(), read: vec![] }
}

pub(crate) fn clean() -> Process {
    Process::Clean { names: None, one: None }
}

const LUCKS: [Luck; 4] = [Luck::Fine, Luck::Refused, Luck::Lost { done: true }, Luck::Lost { done: false }];

impl Process {
    /// Whether the next step changes nothing in the store: it fails, or it does not.
    fn is_reading(&self) -> bool {
        match self {
            Self::Put(put) => !matches!(
                put.machine.step(),
                LocatedPutStep::CreateEnvelope | LocatedPutStep::WriteContainer { .. }
            ),
            Self::Rewrap { one: Some(One::Located { machine, .. }), .. } => {
                !matches!(machine.step(), RewrapStep::Write { .. } | RewrapStep::Delete(_))
            }
            Self::Rewrap { one: Some(One::Beside { machine, .. }), .. } => !matches!(
                machine.step(),
                RelocateStep::Create | RelocateStep::Join { .. } | RelocateStep::Delete
            ),
            Self::Remove { machine, .. } => !matches!(
                machine.step(),
                RemoveStep::Hide | RemoveStep::DeleteContainer(_) | RemoveStep::DeleteEnvelope(_)
            ),
            Self::Clean { one: Some((_, machine)), .. } => !matches!(machine.step(), CleanStep::Delete(_)),
            Self::Rewrap { one: None, .. } | Self::Clean { one: None, .. } | Self::Over(_) => true,
        }
    }
}

impl World {
    /// Containers and envelopes that have been there for forty days, and processes.
    pub(crate) fn new(
        features: Features,
        containers: &[u8],
        envelopes: &[(&str, u8)],
        processes: Vec<Process>,
    ) -> Self {
        let mut store = State::new(features);
        for (name, data) in envelopes {
            store.put(name, Text::old(*data).body(), &OnlyIf::Always, &Info::new()).unwrap();
        }
        for data in containers {
            store.put(CONTAINER, Bytes::copy_from_slice(&[*data]), &OnlyIf::Always, &Info::new()).unwrap();
        }
        store.advance(TICK * 5);
        let (late, done) = (BTreeSet::new(), BTreeSet::new());
        Self { store, processes, late, done, faults: 0, ticks: 0, late_texts: 0 }
    }

    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + TICK * (5 + u32::from(self.ticks))
    }

    fn versions(&self, key: &str) -> Vec<Object> {
        let options = ListOptions { prefix: key.into(), versions: true, ..ListOptions::default() };
        let object = |listed| match listed {
            Listed::Object(object) if object.key == key => Some(object),
            _ => None,
        };
        self.store.list(&options).into_iter().filter_map(object).collect()
    }

    fn bodies(&self, key: &str) -> Vec<(Object, Bytes)> {
        let versions = self.versions(key).into_iter().filter(|object| !object.marker);
        versions.map(|object| self.store.get(key, Some(&object.version)).unwrap()).collect()
    }

    /// The names of all envelopes.
    fn envelopes(&self) -> BTreeSet<String> {
        let options = ListOptions { versions: true, ..ListOptions::default() };
        let name = |listed| match listed {
            Listed::Object(object) if !object.marker && object.key.ends_with(".key.enc") => Some(object.key),
            _ => None,
        };
        self.store.list(&options).into_iter().filter_map(name).collect()
    }

    /// All moves that may be possible.
    pub(crate) fn moves(&self, rules: &Rules) -> Vec<Move> {
        let mut moves = Vec::new();
        for (process, what) in self.processes.iter().enumerate() {
            if matches!(what, Process::Over(_)) {
                continue;
            }
            let lucks = match self.faults < rules.faults {
                false => &LUCKS[..1],
                true if what.is_reading() && rules.weak.is_none() => &LUCKS[..2],
                true => &LUCKS[..],
            };
            moves.extend(lucks.iter().map(|luck| Move::Step { process, luck: *luck }));
        }
        moves.extend((0..self.late.len()).map(Move::Arrives));
        if self.ticks < rules.ticks {
            moves.push(Move::TimePasses);
        }
        moves
    }

    /// The world after a move; nothing when it cannot be made, or changes nothing that another would not.
    pub(crate) fn after(&self, step: Move, rules: &Rules) -> Option<Self> {
        let mut world = self.clone();
        match step {
            Move::Arrives(at) => {
                let late = world.late.iter().nth(at)?.clone();
                world.late.remove(&late);
                if late.key != CONTAINER {
                    world.late_texts += 1;
                    // No more of them arrive.
                    let over = world.late_texts >= rules.late_texts;
                    world.late.retain(|late| !over || late.key == CONTAINER);
                }
                let only_if = match late.over {
                    Some(version) => OnlyIf::Version(version),
                    None if late.absent => OnlyIf::Absent,
                    None => OnlyIf::Always,
                };
                let _ = world.store.put(&late.key, late.body, &only_if, &Info::new());
            }
            Move::TimePasses => world.time_passes(),
            Move::Step { process: at, luck } => {
                world.faults += u8::from(luck != Luck::Fine);
                let mut process = world.processes[at].clone();
                if !world.step(&mut process, luck, rules) {
                    return None;
                }
                world.processes[at] = process;
            }
        }
        Some(world)
    }

    /// No request lasts so long.
    fn time_passes(&mut self) {
        self.store.advance(TICK);
        self.ticks += 1;
        self.late.clear();
    }

    fn step(&mut self, process: &mut Process, luck: Luck, rules: &Rules) -> bool {
        let (moved, over) = match process {
            Process::Put(put) => {
                let moved = self.put(put, luck, rules);
                match put.machine.step() {
                    LocatedPutStep::Finished(outcome) => (moved, Some(Some((put.text.data, outcome)))),
                    _ => (moved, None),
                }
            }
            Process::Rewrap { names, one } => {
                let moved = self.rewrap(names, one, luck, rules);
                let over = one.is_none() && names.as_ref().is_some_and(Vec::is_empty);
                (moved, over.then_some(None))
            }
            Process::Remove { machine, read } => {
                let moved = self.remove(machine, read, luck, rules);
                (moved, matches!(machine.step(), RemoveStep::Finished(_)).then_some(None))
            }
            Process::Clean { names, one } => {
                let moved = self.clean(names, one, luck, rules);
                let over = one.is_none() && names.as_ref().is_some_and(Vec::is_empty);
                (moved, over.then_some(None))
            }
            Process::Over(_) => (false, None),
        };
        if let Some(outcome) = over {
            *process = Process::Over(outcome);
        }
        moved
    }

    /// A write that is done now, or never, or now and once more.
    fn write(
        &mut self,
        key: &str,
        body: Bytes,
        only_if: &OnlyIf,
        luck: Luck,
        rules: &Rules,
    ) -> Option<Result<VersionId, ()>> {
        let done = matches!(luck, Luck::Fine | Luck::Lost { done: true });
        let written = done.then(|| self.store.put(key, body.clone(), only_if, &Info::new()).map_err(drop));
        // A request without a reply may still be on its way, one that was answered may be delivered twice.
        let wanted = key == CONTAINER || self.late_texts < rules.late_texts;
        if luck != Luck::Refused && wanted {
            let over = match only_if {
                OnlyIf::Version(version) => Some(version.clone()),
                _ => None,
            };
            self.late.insert(Late { key: key.into(), body, absent: *only_if == OnlyIf::Absent, over });
        }
        written
    }

    fn put(&mut self, put: &mut Putting, luck: Luck, rules: &Rules) -> bool {
        use {LocatedPutReply as Reply, LocatedPutStep as Step};
        let step = match (put.machine.step(), rules.weak) {
            (Step::CreateEnvelope, Some(Weak::ContainerFirst)) => Step::WriteContainer { replace: true },
            (Step::WriteContainer { .. }, Some(Weak::ContainerFirst)) => Step::CreateEnvelope,
            (step, _) => step,
        };
        let (name, body) = (located_name(put.text.data), Bytes::copy_from_slice(&[put.text.data]));
        let lost = match rules.weak {
            Some(Weak::DoneSaidFailed) => Reply::Failed,
            _ => Reply::Unknown,
        };
        let too_late =
            TICK * u32::from(self.ticks - put.began) >= LATEST && rules.weak != Some(Weak::NoConfirm);
        let reply = match step {
            Step::WriteContainer { .. } if too_late => Reply::Failed,
            Step::CreateEnvelope | Step::WriteContainer { .. } => {
                let before = self.bodies(CONTAINER).first().map(|(_, body)| body[0]);
                let written = match step {
                    Step::CreateEnvelope => {
                        put.began = self.ticks;
                        self.write(&name, put.text.body(), &OnlyIf::Absent, luck, rules)
                    }
                    Step::WriteContainer { replace: true } => {
                        self.write(CONTAINER, body, &OnlyIf::Always, luck, rules)
                    }
                    _ => self.write(CONTAINER, body, &OnlyIf::Absent, luck, rules),
                };
                if let (Some(Weak::TidyAtOnce), Step::WriteContainer { .. }, Some(Ok(_)), Some(before)) =
                    (rules.weak, step, &written, before)
                {
                    self.delete_all(&located_name(before));
                }
                match (luck, written) {
                    (Luck::Fine, Some(Ok(_))) => Reply::Done,
                    (Luck::Fine, _) => Reply::Exists,
                    (Luck::Lost { .. }, _) => lost,
                    _ => Reply::Failed,
                }
            }
            // Reading changes nothing: it fails, or it does not.
            _ if luck == Luck::Refused => Reply::Failed,
            _ if luck != Luck::Fine => return false,
            Step::Look => match self.store.get(CONTAINER, None) {
                Ok(_) => Reply::Exists,
                Err(_) => Reply::Absent,
            },
            Step::ReadEnvelope => match self.store.get(&name, None) {
                Ok((_, body)) if body == put.text.body() => Reply::Done,
                _ => Reply::Failed,
            },
            Step::SendParts => Reply::Done,
            Step::ConfirmEnvelope => {
                let good = !too_late && self.store.get(&name, None).is_ok();
                if good || rules.weak == Some(Weak::NoConfirm) { Reply::Done } else { Reply::Failed }
            }
            Step::FindContainer => {
                let found = self.bodies(CONTAINER).iter().any(|(_, have)| *have == body);
                if found { Reply::Done } else { Reply::Unknown }
            }
            Step::Finished(_) => return false,
        };
        put.machine.reply(reply);
        if put.machine.step() == Step::SendParts {
            put.machine.reply(Reply::Done);
        }
        true
    }

    fn delete_all(&mut self, name: &str) {
        for object in self.versions(name) {
            self.store.delete(name, &object.version);
        }
    }

    fn rewrap(
        &mut self,
        names: &mut Option<Vec<String>>,
        one: &mut Option<One>,
        luck: Luck,
        rules: &Rules,
    ) -> bool {
        let Some(names) = names else {
            *names = Some(self.envelopes().into_iter().collect());
            return luck == Luck::Fine;
        };
        if one.is_none() {
            let Some(name) = names.pop() else { return false };
            if name == BESIDE {
                let read =
                    self.bodies(&name).into_iter().map(|(object, body)| (object.version, Text::read(&body)));
                let left: Vec<_> = read.filter(|(_, text)| text.old).collect();
                if let Some((_, text)) = left.last().cloned() {
                    let text = Text { old: false, new: true, ..text };
                    *one = Some(One::Beside { left, machine: Relocate::new(), text });
                }
                return luck == Luck::Fine;
            }
            *one = Some(One::Located { name, machine: Rewrap::new(), text: None, written: VersionId::new() });
        }
        let Some(work) = one else { return false };
        let over = match work {
            One::Located { name, machine, text, written } => {
                let (name, step) = (name.clone(), machine.step().clone());
                let Some(reply) = self.rewrap_step(&name, &step, text, written, luck, rules) else {
                    return false;
                };
                machine.reply(reply);
                match machine.step() {
                    RewrapStep::Finished(RewrapOutcome::Rewrapped | RewrapOutcome::AlreadyDone) => {
                        self.done.insert(name);
                        true
                    }
                    RewrapStep::Finished(_) => true,
                    _ => false,
                }
            }
            One::Beside { left, machine, text } => {
                let step = machine.step().clone();
                let Some(reply) = self.relocate_step(left, &step, text, luck, rules) else { return false };
                machine.reply(reply);
                if let RelocateStep::Finished(outcome) = *machine.step() {
                    let (_, moved) = left.pop().unwrap();
                    if outcome == RelocateOutcome::Moved && !names.contains(&located_name(moved.data)) {
                        // What was there before may hold something for an old key too.
                        names.push(located_name(moved.data));
                    }
                    *machine = Relocate::new();
                    if let Some((_, next)) = left.last() {
                        *text = Text { old: false, new: true, ..*next };
                    }
                    left.is_empty()
                } else {
                    false
                }
            }
        };
        if over {
            *one = None;
        }
        true
    }

    fn rewrap_step(
        &mut self,
        name: &str,
        step: &RewrapStep,
        text: &mut Option<Text>,
        written: &mut VersionId,
        luck: Luck,
        rules: &Rules,
    ) -> Option<RewrapReply> {
        let versions = rules.features.versions;
        let named = |version: &VersionId| if versions { version.clone() } else { ONLY.into() };
        let read: Vec<(VersionId, Text)> =
            self.bodies(name).into_iter().map(|(object, body)| (object.version, Text::read(&body))).collect();
        let is_write = matches!(step, RewrapStep::Write { .. } | RewrapStep::Delete(_));
        if !is_write && luck != Luck::Fine {
            return (luck == Luck::Refused).then_some(RewrapReply::Failed);
        }
        Some(match step {
            RewrapStep::Read => {
                *text = read.iter().find(|(_, text)| text.old).map(|(_, text)| Text {
                    old: false,
                    new: true,
                    ..*text
                });
                let finding = match *text {
                    Some(_) => Finding::Opens,
                    None if read.len() == 1 && read[0].1.new => Finding::Done,
                    None => Finding::NotOurs,
                };
                RewrapReply::FoundSome {
                    versions: read.iter().map(|(version, _)| named(version)).collect(),
                    keep: vec![],
                    finding,
                }
            }
            RewrapStep::Write { over } => {
                if rules.weak == Some(Weak::PurgeFirst) {
                    self.delete_all(name);
                    if luck != Luck::Fine {
                        return Some(RewrapReply::Failed);
                    }
                }
                let body = text.unwrap().body();
                let over = if versions {
                    over.clone()
                } else {
                    read.first().map_or(ONLY.into(), |(v, _)| v.clone())
                };
                let only_if =
                    if rules.weak == Some(Weak::PurgeFirst) { OnlyIf::Always } else { OnlyIf::Version(over) };
                let done = self.write(name, body, &only_if, luck, rules);
                match (luck, done) {
                    (Luck::Fine, Some(Ok(version))) => {
                        *written = version;
                        RewrapReply::Written(named(written))
                    }
                    (Luck::Fine, _) => RewrapReply::Changed,
                    _ => RewrapReply::Failed,
                }
            }
            RewrapStep::ReadBack(_) => match self.store.get(name, Some(written)) {
                Ok((_, body)) if Some(Text::read(&body)) == *text => RewrapReply::Same,
                _ => RewrapReply::Failed,
            },
            RewrapStep::Delete(version) => {
                assert!(versions, "a store without versions has nothing to purge");
                if luck != Luck::Refused
                    && luck != (Luck::Lost { done: false })
                    && rules.weak != Some(Weak::NoPurge)
                {
                    self.store.delete(name, version);
                }
                if luck == Luck::Fine { RewrapReply::Deleted } else { RewrapReply::Failed }
            }
            RewrapStep::List if rules.weak == Some(Weak::NoPurge) => {
                RewrapReply::Versions(vec![named(written)])
            }
            RewrapStep::List => {
                RewrapReply::Versions(read.iter().map(|(version, _)| named(version)).collect())
            }
            RewrapStep::Finished(_) => return None,
        })
    }

    fn relocate_step(
        &mut self,
        left: &[(VersionId, Text)],
        step: &RelocateStep,
        text: &mut Text,
        luck: Luck,
        rules: &Rules,
    ) -> Option<RelocateReply> {
        let name = located_name(text.data);
        let is_write =
            matches!(step, RelocateStep::Create | RelocateStep::Join { .. } | RelocateStep::Delete);
        if !is_write && luck != Luck::Fine {
            return (luck == Luck::Refused).then_some(RelocateReply::Failed);
        }
        Some(match step {
            RelocateStep::Create | RelocateStep::Join { .. } => {
                if rules.weak == Some(Weak::MoveBlindly) {
                    self.store.delete(BESIDE, &left.last().unwrap().0);
                }
                let only_if = match step {
                    RelocateStep::Join { over } => OnlyIf::Version(over.clone()),
                    _ => OnlyIf::Absent,
                };
                if only_if == OnlyIf::Absent && !self.versions(&name).is_empty() {
                    return (luck == Luck::Fine).then_some(RelocateReply::Exists);
                }
                let done = self.write(&name, text.body(), &only_if, luck, rules);
                match (luck, done) {
                    (Luck::Fine, Some(Ok(version))) => RelocateReply::Version(version),
                    (Luck::Fine, _) => RelocateReply::Exists,
                    _ => RelocateReply::Failed,
                }
            }
            RelocateStep::ReadOther => match self.bodies(&name).first() {
                Some((object, body)) => {
                    let other = Text::read(body);
                    *text = Text { old: other.old, ..*text };
                    RelocateReply::Version(object.version.clone())
                }
                None => RelocateReply::Failed,
            },
            RelocateStep::ReadBack(version) => match self.store.get(&name, Some(version)) {
                Ok((_, body)) if Text::read(&body) == *text => RelocateReply::Done,
                _ => RelocateReply::Failed,
            },
            RelocateStep::Delete => {
                if matches!(luck, Luck::Fine | Luck::Lost { done: true }) {
                    self.store.delete(BESIDE, &left.last().unwrap().0);
                }
                if luck == Luck::Fine { RelocateReply::Done } else { RelocateReply::Failed }
            }
            RelocateStep::Finished(_) => return None,
        })
    }

    /// The versions of the containers that an envelope of one of these names may belong to.
    fn containers(&self, envelopes: &BTreeSet<String>) -> Vec<ContainerVersion> {
        let names: BTreeSet<String> = envelopes.iter().flat_map(|name| containers_of(name)).collect();
        names.iter().flat_map(|name| self.container_versions(name)).collect()
    }

    fn container_versions(&self, name: &str) -> Vec<ContainerVersion> {
        let seen = |object: Object| ContainerVersion {
            needs: match self.store.get(name, Some(&object.version)) {
                Ok((_, body)) => Needs::Key(data_id(body[0])),
                Err(_) => Needs::Nothing,
            },
            settled: self.is_older(&object, SETTLED),
            version: object.version,
            foreign: false,
        };
        self.versions(name).into_iter().map(seen).collect()
    }

    fn envelope_versions(&self, name: &str, age: Duration) -> Vec<EnvelopeVersion> {
        let seen = |(object, body): (Object, Bytes)| EnvelopeVersion {
            old: self.is_older(&object, age),
            id: EnvelopeId { stored: name.into(), version: object.version },
            serves: Serves::Data(vec![data_id(body[0])]),
        };
        self.bodies(name).into_iter().map(seen).collect()
    }

    fn is_older(&self, object: &Object, age: Duration) -> bool {
        self.now().duration_since(object.modified).unwrap() > age
    }

    fn remove(
        &mut self,
        machine: &mut Remove,
        read: &mut Vec<EnvelopeVersion>,
        luck: Luck,
        rules: &Rules,
    ) -> bool {
        let step = machine.step().clone();
        let done = matches!(luck, Luck::Fine | Luck::Lost { done: true });
        let is_write =
            matches!(step, RemoveStep::Hide | RemoveStep::DeleteContainer(_) | RemoveStep::DeleteEnvelope(_));
        if !is_write && luck != Luck::Fine {
            if luck == Luck::Refused {
                machine.reply(RemoveReply::Failed);
            }
            return luck == Luck::Refused;
        }
        let reply = match &step {
            RemoveStep::Look => match self.store.get(CONTAINER, None) {
                Ok(_) => RemoveReply::Done,
                Err(_) => RemoveReply::Absent,
            },
            RemoveStep::Hide => {
                if done {
                    self.store.hide(CONTAINER).unwrap();
                }
                RemoveReply::Done
            }
            RemoveStep::ListContainers => {
                let mut found = self.container_versions(CONTAINER);
                if rules.weak == Some(Weak::YoungRemoved) {
                    found.iter_mut().for_each(|version| version.settled = true);
                }
                RemoveReply::Containers(found)
            }
            RemoveStep::DeleteContainer(version) => {
                if done {
                    self.store.delete(CONTAINER, version);
                }
                RemoveReply::Done
            }
            RemoveStep::ReadEnvelopes(gone) => {
                let located = gone.iter().filter_map(|id| envelope_name(CONTAINER, Some(id)));
                let names: BTreeSet<String> = located.chain([BESIDE.to_owned()]).collect();
                *read = names.iter().flat_map(|name| self.envelope_versions(name, SETTLED)).collect();
                RemoveReply::Envelopes(read.clone())
            }
            RemoveStep::ListAgain if rules.weak == Some(Weak::NoSecondList) => {
                RemoveReply::Containers(vec![])
            }
            RemoveStep::ListAgain => {
                let names = read.iter().map(|envelope| envelope.id.stored.clone()).collect();
                RemoveReply::Containers(self.containers(&names))
            }
            RemoveStep::DeleteEnvelope(id) => {
                if done {
                    self.store.delete(&id.stored, &id.version);
                }
                RemoveReply::Done
            }
            RemoveStep::Finished(_) => return false,
        };
        machine.reply(if luck == Luck::Fine { reply } else { RemoveReply::Failed });
        true
    }

    fn clean(
        &mut self,
        names: &mut Option<Vec<String>>,
        one: &mut Option<(String, Clean)>,
        luck: Luck,
        rules: &Rules,
    ) -> bool {
        let Some(names) = names else {
            *names = Some(self.envelopes().into_iter().collect());
            return luck == Luck::Fine;
        };
        if one.is_none() {
            let Some(name) = names.pop() else { return false };
            *one = Some((name, Clean::new()));
        }
        let Some((name, machine)) = one else { return false };
        let step = machine.step().clone();
        let is_write = matches!(step, CleanStep::Delete(_));
        if !is_write && luck != Luck::Fine && rules.weak != Some(Weak::UnknownIsAbsent) {
            if luck != Luck::Refused {
                return false;
            }
            machine.reply(CleanReply::Failed);
        } else {
            let reply = match &step {
                CleanStep::ReadEnvelope => {
                    let mut found = self.envelope_versions(name, ORPHANED);
                    if rules.weak == Some(Weak::CleanAtOnce) {
                        found.iter_mut().for_each(|envelope| envelope.old = true);
                    }
                    CleanReply::Envelopes(found)
                }
                CleanStep::ReadContainers | CleanStep::ReadAgain(_) => {
                    let mut found = self.containers(&BTreeSet::from([name.clone()]));
                    match rules.weak {
                        Some(Weak::UnknownIsAbsent) if luck != Luck::Fine => found.clear(),
                        Some(Weak::CurrentAlone) => found.truncate(1),
                        _ => {}
                    }
                    CleanReply::Containers(found)
                }
                CleanStep::Plan(_) => CleanReply::Done,
                CleanStep::Delete(version) => {
                    if matches!(luck, Luck::Fine | Luck::Lost { done: true }) {
                        self.store.delete(name, version);
                    }
                    if luck == Luck::Fine { CleanReply::Done } else { CleanReply::Failed }
                }
                CleanStep::Finished(_) => return false,
            };
            machine.reply(reply);
        }
        if matches!(machine.step(), CleanStep::Plan(_)) {
            machine.reply(CleanReply::Done);
        }
        if matches!(machine.step(), CleanStep::Finished(_)) {
            *one = None;
        }
        true
    }

    /// What is wrong with this world, if anything.
    pub(crate) fn fault(&self, rules: &Rules) -> Option<String> {
        let texts: Vec<(String, Text)> = self
            .envelopes()
            .into_iter()
            .flat_map(|name| {
                let texts = self.bodies(&name).into_iter().map(|(_, body)| Text::read(&body));
                texts.map(|text| (name.clone(), text)).collect::<Vec<_>>()
            })
            .collect();
        let containers: Vec<u8> = self.bodies(CONTAINER).iter().map(|(_, body)| body[0]).collect();
        let opens = |data: u8| texts.iter().any(|(_, text)| text.data == data && (text.old || text.new));
        if let Some(lost) = containers.iter().find(|data| !opens(**data)) {
            return Some(format!("container {lost} has no key"));
        }
        if let Some((name, _)) =
            texts.iter().find(|(name, text)| text.old && rules.late_texts == 0 && self.done.contains(name))
        {
            return Some(format!("the old key opens {name}, which was reported done"));
        }
        self.processes.iter().find_map(|process| match process {
            Process::Over(Some((data, LocatedPutOutcome::Exists | LocatedPutOutcome::Failed)))
                if containers.contains(data) =>
            {
                Some(format!("container {data} was reported not stored"))
            }
            _ => None,
        })
    }

    /// Whether nothing can happen any more but that time passes.
    pub(crate) fn is_quiet(&self) -> bool {
        self.late.is_empty() && self.processes.iter().all(|process| matches!(process, Process::Over(_)))
    }

    /// The data ids of containers that are there, and of envelopes.
    pub(crate) fn held(&self) -> (BTreeSet<u8>, BTreeSet<u8>) {
        let containers = self.bodies(CONTAINER).iter().map(|(_, body)| body[0]).collect();
        let bodies = self.envelopes().into_iter().flat_map(|name| self.bodies(&name));
        (containers, bodies.map(|(_, body)| body[0]).collect())
    }
}
