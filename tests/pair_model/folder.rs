//! Pairs in a folder of this machine, on a model of it.
//!
//! One name, a few processes. After each step: every container that is there has an envelope, in either form, that an old
//! or a new key opens; what a rewrap reported as done no old key opens; and a put that reported that nothing was stored
//! has stored nothing. The rules are then weakened one by one, to see that the search would notice.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use sidekey::pair::{
    Finding, Form, Put, PutOutcome, PutReply, PutStep, Rewrap, RewrapOutcome, RewrapReply, RewrapStep,
};

/// The name of an envelope object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Object {
    Located(u8),
    Beside,
}

/// What stands in a version of an envelope: whose file key, and which keys open it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Text {
    data: u8,
    old: bool,
    new: bool,
}

/// What the explorer may let happen, and what it weakens.
#[derive(Clone, Copy, Debug, Default)]
struct Rules {
    versioned: bool,
    /// Whether a rewrap's write is refused when the newest version is another one.
    conditional: bool,
    /// A folder of this machine: a put holds a lock, and nothing arrives late.
    local: bool,
    /// Whether writes of envelopes arrive late too. Then an old text may come back after a rewrap, which only a second
    /// pass finds; but nothing may be lost.
    late_texts: bool,
    /// How many steps of a run may fail, be lost or be the last of their process.
    faults: u8,
    weak: Option<Weak>,
}

/// A rule broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weak {
    DoneSaidFailed,
    NoLock,
    SettleFirst,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    /// Data ids, the last one is current.
    containers: Vec<u8>,
    /// Versions, newest first.
    envelopes: BTreeMap<Object, Vec<(u8, Text)>>,
    /// Container writes that may arrive, again or at last.
    late: BTreeSet<u8>,
    /// Envelope writes that may arrive, again or at last.
    late_texts: Vec<Text>,
    /// What rewraps reported as done.
    done: BTreeSet<(Object, u8)>,
    processes: Vec<Process>,
    lock: Option<usize>,
    faults: u8,
    serial: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Process {
    Put { machine: Put, text: Text },
    Rewrap { names: Option<Vec<Object>>, one: Option<Rewrapping> },
    Over(u8, Option<PutOutcome>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Rewrapping {
    object: Object,
    machine: Rewrap,
    read: Vec<(u8, Text)>,
    text: Option<Text>,
}

/// How a step goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Luck {
    Fine,
    /// It takes no effect, and the process knows.
    Refused,
    /// Its reply is lost.
    Lost {
        done: bool,
    },
    /// The process ends before it.
    Dies,
}

/// What leads from one world to the next.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "printed when a world is wrong")]
enum Move {
    Step { process: usize, luck: Luck },
    ContainerArrives(u8),
    EnvelopeArrives(u8),
}

impl World {
    fn new(containers: &[u8], envelopes: &[(Object, u8)], processes: Vec<Process>) -> Self {
        let text = |data| Text { data, old: true, new: false };
        Self {
            containers: containers.to_vec(),
            envelopes: envelopes.iter().map(|(object, data)| (*object, vec![(0, text(*data))])).collect(),
            late: BTreeSet::new(),
            late_texts: vec![],
            done: BTreeSet::new(),
            processes,
            lock: None,
            faults: 0,
            serial: 0,
        }
    }

    /// All worlds that one step leads to.
    fn next(&self, rules: &Rules) -> Vec<(Move, Self)> {
        let mut worlds = Vec::new();
        for at in 0..self.processes.len() {
            for luck in
                [Luck::Fine, Luck::Refused, Luck::Lost { done: true }, Luck::Lost { done: false }, Luck::Dies]
            {
                let mut world = self.clone();
                world.faults += u8::from(luck != Luck::Fine);
                if world.faults > rules.faults {
                    continue;
                }
                let mut process = world.processes[at].clone();
                let moved = match &mut process {
                    Process::Over(..) => false,
                    process if luck == Luck::Dies => {
                        let data = if let Process::Put { text, .. } = process { text.data } else { 0 };
                        *process = Process::Over(data, None);
                        world.lock = world.lock.filter(|holder| *holder != at);
                        true
                    }
                    Process::Put { machine, text } => match world.put(at, machine, *text, luck, rules) {
                        true => {
                            if let PutStep::Finished(outcome) = machine.step() {
                                world.lock = world.lock.filter(|holder| *holder != at);
                                process = Process::Over(text.data, Some(outcome));
                            }
                            true
                        }
                        false => false,
                    },
                    Process::Rewrap { names, one } => world.rewrap(names, one, luck, rules),
                };
                if moved {
                    if matches!(&process, Process::Rewrap { names: Some(names), one: None } if names.is_empty())
                    {
                        process = Process::Over(0, None);
                    }
                    world.processes[at] = process;
                    worlds.push((Move::Step { process: at, luck }, world));
                }
            }
        }
        for data in self.late.clone() {
            let mut world = self.clone();
            world.late.remove(&data);
            world.store_container(data, rules);
            worlds.push((Move::ContainerArrives(data), world));
        }
        for (at, text) in self.late_texts.iter().enumerate() {
            let mut world = self.clone();
            world.late_texts.remove(at);
            world.serial += 1;
            let versions = world.envelopes.entry(Object::Located(text.data)).or_default();
            if !rules.versioned {
                versions.clear();
            }
            versions.insert(0, (world.serial, *text));
            worlds.push((Move::EnvelopeArrives(text.data), world));
        }
        worlds
    }

    /// One step of a put; false when it cannot be taken now.
    fn put(&mut self, at: usize, machine: &mut Put, text: Text, luck: Luck, rules: &Rules) -> bool {
        if rules.local && rules.weak != Some(Weak::NoLock) {
            if self.lock.is_some_and(|holder| holder != at) {
                return false;
            }
            self.lock = Some(at);
        }
        let step = match (machine.step(), rules.weak) {
            (PutStep::ReplaceContainer, Some(Weak::SettleFirst)) => PutStep::SettleEnvelope,
            (PutStep::SettleEnvelope, Some(Weak::SettleFirst)) => PutStep::ReplaceContainer,
            (step, _) => step,
        };
        let exists = match step {
            PutStep::CreateEnvelope(form) => self.envelopes.contains_key(&object(form, text.data)),
            PutStep::CreateContainer => !self.containers.is_empty(),
            _ => false,
        };
        if exists {
            machine.reply(PutReply::Exists);
            return luck == Luck::Fine;
        }
        if matches!(luck, Luck::Fine | Luck::Lost { done: true }) {
            self.put_effect(step, text, rules);
        }
        let container = matches!(step, PutStep::CreateContainer | PutStep::ReplaceContainer);
        // A request without a reply may still be on its way, one that was answered may be delivered twice.
        if container && luck != Luck::Refused && !rules.local {
            self.late.insert(text.data);
        }
        if matches!(step, PutStep::CreateEnvelope(_)) && luck != Luck::Refused && rules.late_texts {
            self.late_texts.push(text);
        }
        machine.reply(match luck {
            Luck::Fine => PutReply::Done,
            Luck::Lost { done: true } if rules.weak == Some(Weak::DoneSaidFailed) => PutReply::Failed,
            Luck::Lost { .. } => PutReply::Unknown,
            Luck::Refused | Luck::Dies => PutReply::Failed,
        });
        true
    }

    fn put_effect(&mut self, step: PutStep, text: Text, rules: &Rules) {
        match step {
            PutStep::CreateEnvelope(form) => {
                self.serial += 1;
                self.envelopes.insert(object(form, text.data), vec![(self.serial, text)]);
            }
            PutStep::CreateContainer | PutStep::ReplaceContainer => {
                self.store_container(text.data, rules);
            }
            PutStep::SettleEnvelope => {
                if let Some(versions) = self.envelopes.remove(&Object::Located(text.data)) {
                    self.envelopes.insert(Object::Beside, versions);
                }
            }
            PutStep::RemoveEnvelope(form) => drop(self.envelopes.remove(&object(form, text.data))),
            PutStep::Finished(_) => {}
        }
    }

    fn store_container(&mut self, data: u8, rules: &Rules) {
        if !rules.versioned {
            self.containers.clear();
        }
        self.containers.push(data);
    }

    /// One step of a rewrap of all envelopes that were there when it began; false when it cannot be taken now.
    fn rewrap(
        &mut self,
        names: &mut Option<Vec<Object>>,
        one: &mut Option<Rewrapping>,
        luck: Luck,
        rules: &Rules,
    ) -> bool {
        let Some(names) = names else {
            *names = Some(self.envelopes.keys().copied().collect());
            return luck == Luck::Fine;
        };
        let Some(work) = one else {
            let Some(object) = names.pop() else { return false };
            *one = Some(Rewrapping { object, machine: Rewrap::new(), read: vec![], text: None });
            return luck == Luck::Fine;
        };
        let step = work.machine.step().clone();
        if matches!(step, RewrapStep::Write { .. }) && rules.local && self.lock.is_some() {
            return false;
        }
        let done = matches!(luck, Luck::Fine | Luck::Lost { done: true });
        let mut reply = if done { self.rewrap_effect(work, &step, rules) } else { RewrapReply::Failed };
        if luck != Luck::Fine {
            reply = RewrapReply::Failed;
        }
        work.machine.reply(reply);
        if let RewrapStep::Finished(outcome) = work.machine.step() {
            if matches!(outcome, RewrapOutcome::Rewrapped | RewrapOutcome::AlreadyDone) {
                self.done.extend(work.read.iter().map(|(_, text)| (work.object, text.data)));
            }
            *one = None;
        }
        true
    }

    fn rewrap_effect(&mut self, work: &mut Rewrapping, step: &RewrapStep, rules: &Rules) -> RewrapReply {
        let versions = self.envelopes.get(&work.object).cloned().unwrap_or_default();
        let id = |number: u8| if rules.versioned { number.to_string() } else { "file".into() };
        let ids = |versions: &[(u8, Text)]| versions.iter().map(|(number, _)| id(*number)).collect();
        match step {
            RewrapStep::Read if versions.is_empty() => RewrapReply::Failed,
            RewrapStep::Read => {
                work.text = versions.iter().find(|(_, text)| text.old).map(|(_, text)| Text {
                    old: false,
                    new: true,
                    ..*text
                });
                let finding = match (work.text, versions[0].1.new) {
                    (Some(_), _) => Finding::Opens,
                    (None, true) => Finding::Done,
                    (None, false) => Finding::NotOurs,
                };
                work.read = versions;
                RewrapReply::Found(ids(&work.read), finding)
            }
            RewrapStep::Write { over } => {
                let unchanged = versions.first() == work.read.first();
                assert!(*over == id(work.read[0].0));
                if rules.conditional && !unchanged {
                    return if versions.is_empty() { RewrapReply::Failed } else { RewrapReply::Changed };
                }
                self.serial += 1;
                let mut left = if rules.versioned { versions } else { vec![] };
                left.insert(0, (self.serial, work.text.unwrap()));
                self.envelopes.insert(work.object, left);
                RewrapReply::Written(id(self.serial))
            }
            RewrapStep::ReadBack(written) => {
                match versions.iter().find(|(number, _)| id(*number) == *written) {
                    Some((_, text)) if Some(*text) == work.text => RewrapReply::Same,
                    _ => RewrapReply::Failed,
                }
            }
            RewrapStep::Delete(version) => {
                assert!(rules.versioned && work.read.iter().any(|(number, _)| id(*number) == *version));
                if let Some(versions) = self.envelopes.get_mut(&work.object) {
                    versions.retain(|(number, _)| id(*number) != *version);
                }
                RewrapReply::Deleted
            }
            RewrapStep::List => RewrapReply::Versions(ids(&versions)),
            RewrapStep::Finished(_) => unreachable!("a finished machine takes no step"),
        }
    }

    /// What is wrong with this world, if anything.
    fn fault(&self, rules: &Rules) -> Option<String> {
        let versions = || {
            self.envelopes.iter().flat_map(|(object, all)| all.iter().map(move |(_, text)| (*object, *text)))
        };
        let opens = |data: u8| versions().any(|(_, text)| text.data == data && (text.old || text.new));
        if let Some(lost) = self.containers.iter().find(|data| !opens(**data)) {
            return Some(format!("container {lost} has no key"));
        }
        if let Some((object, text)) = versions()
            .find(|(object, text)| text.old && !rules.late_texts && self.done.contains(&(*object, text.data)))
        {
            return Some(format!("the old key opens {object:?} of {}, which was reported done", text.data));
        }
        let nothing = |process: &&Process| {
            matches!(process, Process::Over(_, Some(PutOutcome::Exists | PutOutcome::Failed)))
        };
        self.processes.iter().find(nothing).and_then(|process| match process {
            Process::Over(data, _) if self.containers.contains(data) => {
                Some(format!("container {data} was reported not stored"))
            }
            _ => None,
        })
    }
}

fn object(form: Form, data: u8) -> Object {
    match form {
        Form::Located => Object::Located(data),
        Form::Beside => Object::Beside,
    }
}

fn put(data: u8, form: Form, replace: bool, new: bool) -> Process {
    Process::Put { machine: Put::new(form, replace), text: Text { data, old: !new, new } }
}

fn rewrap() -> Process {
    Process::Rewrap { names: None, one: None }
}

/// How many worlds there are, and in how many of them everything is over and how.
#[derive(Debug, Default)]
struct Visited {
    states: usize,
    stored: usize,
    not_stored: usize,
    rewrapped: usize,
}

/// Visits every world, in depth; or says what is wrong with one, and how it came to be.
fn explore(start: &World, rules: &Rules) -> Result<Visited, String> {
    let (mut seen, mut visited) = (HashSet::from([start.clone()]), Visited::default());
    let mut path = vec![];
    let mut left = vec![start.next(rules)];
    while let Some(worlds) = left.last_mut() {
        let Some((how, world)) = worlds.pop() else {
            left.pop();
            path.pop();
            continue;
        };
        if !seen.insert(world.clone()) {
            continue;
        }
        assert!(seen.len() < 5_000_000, "the search does not end");
        path.push(how);
        if let Some(fault) = world.fault(rules) {
            return Err(format!("{fault}: {world:?} after {path:?}"));
        }
        visited.count(&world);
        left.push(world.next(rules));
    }
    Ok(Visited { states: seen.len(), ..visited })
}

impl Visited {
    fn count(&mut self, world: &World) {
        let ended = |process: &Process| matches!(process, Process::Over(..));
        if world.processes.iter().all(ended) {
            let with = |outcome: fn(&PutOutcome) -> bool| {
                let has = |process: &Process| matches!(process, Process::Over(_, Some(how)) if outcome(how));
                usize::from(world.processes.iter().any(has))
            };
            self.stored += with(|how| matches!(how, PutOutcome::Stored(_)));
            self.not_stored += with(|how| matches!(how, PutOutcome::Exists | PutOutcome::Failed));
            self.rewrapped += usize::from(!world.done.is_empty());
        }
    }

    /// Every way to end must have been there, else the search looked at nothing.
    fn assert_not_empty(&self, name: &str) {
        assert!(self.states > 8, "{name}: {self:?}");
        assert_eq!(
            self.stored > 0,
            name.contains("create") || name.contains("put") || name.contains("replace"),
            "{name}"
        );
        assert_eq!(self.rewrapped > 0, name.contains("rewrap"), "{name}: {self:?}");
    }
}

const BESIDE: &[(Object, u8)] = &[(Object::Beside, 0)];

/// Puts and rewraps in a folder of this machine.
fn local() -> Vec<(&'static str, World, u8)> {
    let form = |data, replace| put(data, Form::Beside, replace, false);
    let with = |processes| World::new(&[0], BESIDE, processes);
    // Another run ended before it could settle its envelope.
    let unsettled = |processes| World::new(&[0], &[(Object::Located(0), 0), (Object::Beside, 9)], processes);
    let orphan = |processes| World::new(&[], &[(Object::Beside, 9)], processes);
    let fresh = |processes| World::new(&[], &[], processes);
    vec![
        ("create", fresh(vec![form(1, false)]), 3),
        ("create create", fresh(vec![form(1, false), form(2, false)]), 3),
        ("create replace", fresh(vec![form(1, false), form(2, true)]), 3),
        ("create replace replace", fresh(vec![form(1, false), form(2, true), form(3, true)]), 3),
        ("orphan, create replace rewrap", orphan(vec![form(1, false), form(2, true), rewrap()]), 2),
        ("replace", with(vec![form(1, true)]), 3),
        ("replace replace", with(vec![form(1, true), form(2, true)]), 3),
        ("replace replace replace", with(vec![form(1, true), form(2, true), form(3, true)]), 2),
        ("replace rewrap", with(vec![form(1, true), rewrap()]), 3),
        ("replace rewrap rewrap", with(vec![form(1, true), rewrap(), rewrap()]), 2),
        ("replace replace rewrap", with(vec![form(1, true), form(2, true), rewrap()]), 2),
        ("unsettled, replace replace rewrap", unsettled(vec![form(1, true), form(2, true), rewrap()]), 2),
        ("unsettled, create replace rewrap", unsettled(vec![form(1, false), form(2, true), rewrap()]), 2),
        ("create replace rewrap", fresh(vec![form(1, false), form(2, true), rewrap()]), 2),
    ]
}

#[test]
fn in_a_folder_no_key_is_lost_and_none_survives_a_rewrap() {
    let (mut total, mut scenarios) = (0, 0);
    for (name, world, faults) in local() {
        let rules = Rules { local: true, conditional: true, faults, ..Rules::default() };
        let visited = explore(&world, &rules).unwrap_or_else(|fault| panic!("{name}, {rules:?}: {fault}"));
        visited.assert_not_empty(name);
        total += visited.states;
        scenarios += 1;
    }
    println!("{total} states of {scenarios} scenarios in a folder");
    assert!(total > 60_000 && scenarios == 14, "{total} {scenarios}");
}

#[test]
fn a_weakened_rule_is_noticed() {
    for (weak, says) in [
        (Weak::DoneSaidFailed, "container 1"),
        (Weak::SettleFirst, "has no key"),
        (Weak::NoLock, "has no key"),
    ] {
        let noticed = local().into_iter().find_map(|(name, world, faults)| {
            let rules =
                Rules { local: true, conditional: true, faults, weak: Some(weak), ..Rules::default() };
            explore(&world, &rules).err().map(|fault| (name, fault))
        });
        let (name, fault) = noticed.unwrap_or_else(|| panic!("{weak:?} was not noticed"));
        assert!(fault.contains(says), "{weak:?}: {fault}");
        println!("{weak:?} is noticed by: {name}");
    }
}
