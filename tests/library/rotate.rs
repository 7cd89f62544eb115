//! `rewrap` of a location: the store in memory with every feature on and off, faults at every call, what others do
//! meanwhile, the journal and the report.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use sidekey::format::envelope::{Block, Content};
use sidekey::format::{Entry, Envelope, Header, Wrap};
use sidekey::keys::PrivateKey;
use sidekey::location::Location;
use sidekey::location::argument::Target;
use sidekey::location::range::Range;
use sidekey::name::envelope_name;
use sidekey::open::Opener;
use sidekey::ops::events::{Event, Observer, Silent};
use sidekey::ops::recipients::{Share, recipients};
use sidekey::ops::rotate::{Journal, Ledger, Prove, RotateOptions, RotateSummary, rotate};
use sidekey::random::OsRandom;
use sidekey::recipe::{KeyFile, KeyFileForm, Named, PasswordBlock, detect_key_file};
use sidekey::rewrap::Rotation;
use sidekey::seal::{SealOptions, seal};
use sidekey::secret::FileKey;
use sidekey::store::faulty::{Call, Fault, Faulty, Operation};
use sidekey::store::memory::{Features, MemoryStore, State};
use sidekey::store::{Info, ListOptions, Listed, OnlyIf};
use sidekey::wrap::{new_entry, unwrap};
use sidekey::{DataId, ErrorKind, Result, wrap};

use crate::common::{Place, objects};

fn every_feature() -> impl Iterator<Item = Features> {
    [false, true]
        .into_iter()
        .flat_map(|versions| [false, true].map(|conditions| Features { versions, conditions }))
}

const VERSIONS: Features = Features { versions: true, conditions: true };

/// A location in memory, below a prefix, with some keys.
struct Vault {
    place: Place,
    memory: MemoryStore,
    faulty: Faulty<MemoryStore>,
    old: PrivateKey,
    new: PrivateKey,
}

/// A pair before it is stored.
#[derive(Clone)]
struct Pair {
    id: DataId,
    key: [u8; 32],
    container: Bytes,
    envelope: Bytes,
}

/// How one run is different from the usual one.
#[derive(Clone, Copy)]
struct How {
    purge: bool,
    compare: bool,
    dry_run: bool,
    prove: Prove,
    journal: bool,
    jobs: usize,
}

const USUAL: How =
    How { purge: true, compare: true, dry_run: false, prove: Prove::Sample, journal: false, jobs: 2 };

impl Vault {
    fn new(features: Features) -> Self {
        Self::with(Place::with_keys(), State::new(features))
    }

    fn with(place: Place, state: State) -> Self {
        let memory = MemoryStore::from_state(state);
        let faulty = Faulty::new(Arc::new(memory.clone()));
        let (old, new) = (place.private("old"), place.private("new"));
        Self { place, memory, faulty, old, new }
    }

    fn target(&self) -> Target {
        let location = Location::new(Arc::new(self.faulty.clone()), "some/prefix").unwrap();
        Target::new(location, b"").unwrap()
    }

    fn rotation(&self) -> Rotation {
        Rotation::new(vec![self.place.private("old")], vec![self.place.public("new")]).unwrap()
    }

    fn pair(&self, contents: &str, recipients: &[&str]) -> Pair {
        let (id, key) = (DataId::generate(&OsRandom).unwrap(), FileKey::generate(&OsRandom).unwrap());
        let mut container = Vec::new();
        let source = contents.as_bytes();
        seal(&key, id, None, source, &mut container, &OsRandom, &SealOptions::default()).unwrap();
        let recipients: Vec<_> = recipients.iter().map(|name| self.place.public(name)).collect();
        let envelope = wrap::wrap(&key, &id, &recipients, SystemTime::UNIX_EPOCH).unwrap();
        let envelope = envelope.to_text().unwrap().into();
        Pair { id, key: *key.expose(), container: container.into(), envelope }
    }

    fn write(&self, name: &str, bytes: impl Into<Bytes>) {
        let key = format!("some/prefix/{name}");
        self.memory.state().put(&key, bytes.into(), &OnlyIf::Always, &Info::new()).unwrap();
    }

    fn remove(&self, name: &str) {
        let prefix = format!("some/prefix/{name}");
        let mut state = self.memory.state();
        for listed in state.list(&ListOptions { prefix, versions: true, ..ListOptions::default() }) {
            let Listed::Object(object) = listed else { continue };
            state.delete(&object.key, &object.version);
        }
    }

    /// As `put` does it.
    fn store(&self, name: &str, pair: &Pair) {
        let container = format!("{name}.enc");
        self.write(&envelope_name(&container, Some(&pair.id)).unwrap(), pair.envelope.clone());
        self.write(&container, pair.container.clone());
    }

    fn put(&self, name: &str, contents: &str) -> Pair {
        let pair = self.pair(contents, &["old"]);
        self.store(name, &pair);
        pair
    }

    /// Newer versions of both halves: a container of the same data id under another key, and that key for `old`.
    fn plant(&self, name: &str, real: &Pair) {
        let key = FileKey::generate(&OsRandom).unwrap();
        let mut planted = Vec::new();
        seal(&key, real.id, None, &b"planted"[..], &mut planted, &OsRandom, &SealOptions::default()).unwrap();
        let envelope =
            wrap::wrap(&key, &real.id, &[self.place.public("old")], SystemTime::UNIX_EPOCH).unwrap();
        let envelope = envelope.to_text().unwrap().into();
        self.store(name, &Pair { id: real.id, key: *key.expose(), container: planted.into(), envelope });
    }

    fn run(&self, how: How) -> RotateSummary {
        self.try_run(how, &Silent).unwrap()
    }

    fn try_run(&self, how: How, observer: &dyn Observer) -> Result<RotateSummary> {
        self.run_for(&self.rotation(), how, None, observer)
    }

    fn run_for(
        &self,
        rotation: &Rotation,
        how: How,
        ledger: Option<&Ledger>,
        observer: &dyn Observer,
    ) -> Result<RotateSummary> {
        let journal = how.journal.then(|| self.journal());
        let options = RotateOptions {
            adopt: false,
            recipe: Named::default(),
            rotation,
            range: &Range::default(),
            dry_run: how.dry_run,
            purge: how.purge,
            compare: how.compare,
            jobs: how.jobs,
            prove: how.prove,
            seed: [7; 16],
            now: SystemTime::UNIX_EPOCH,
            journal: journal.as_ref(),
            ledger,
        };
        rotate(&self.target(), &options, observer)
    }

    fn journal(&self) -> Journal {
        Journal::open(&self.place.path("state"), &self.memory, &self.rotation(), &Range::default(), true)
            .unwrap()
    }

    fn journal_file(&self) -> PathBuf {
        let [name] = &self.place.names_in("state")[..] else { panic!("one journal") };
        self.place.path("state").join(name)
    }

    /// All versions of all objects, newest first, markers left out.
    fn stored(&self) -> Vec<(String, Bytes)> {
        let state = self.memory.state();
        let listed = state.list(&ListOptions { versions: true, ..ListOptions::default() });
        let objects = listed.into_iter().filter_map(|listed| match listed {
            Listed::Object(object) if !object.marker => Some(object),
            _ => None,
        });
        objects
            .map(|object| (object.key.clone(), state.get(&object.key, Some(&object.version)).unwrap().1))
            .collect()
    }

    fn envelopes_as_stored(&self) -> Vec<(String, Bytes)> {
        self.stored().into_iter().filter(|(key, _)| key.ends_with(".key.enc")).collect()
    }

    fn envelopes(&self) -> Vec<(String, Envelope)> {
        let stored = self.envelopes_as_stored().into_iter();
        stored.filter_map(|(key, bytes)| Some((key, Envelope::parse(&bytes).ok()?))).collect()
    }

    /// How many versions of envelopes a key opens.
    fn opened_by(&self, key: &PrivateKey) -> usize {
        let envelopes = self.envelopes();
        envelopes.iter().filter(|(_, envelope)| sidekey::rewrap::opens(key, envelope)).count()
    }

    /// The contents of every version of every container, opened with a key.
    fn contents(&self, key: &str) -> Vec<(String, String)> {
        let key = [self.place.private(key)];
        let envelopes: Vec<Envelope> = self.envelopes().into_iter().map(|(_, envelope)| envelope).collect();
        let is_container = |key: &str| key.ends_with(".enc") && !key.ends_with(".key.enc");
        let open = |(name, bytes): (String, Bytes)| {
            let header = Header::parse(bytes.first_chunk().unwrap()).unwrap();
            let file_key =
                unwrap(&header, &envelopes, &key).unwrap_or_else(|error| panic!("{name}: {error:?}"));
            let (source, mut plain) = (&bytes[64..], Vec::new());
            Opener::new(header, &file_key).unwrap().copy(source, &mut plain, None, 1).unwrap();
            (name.trim_start_matches("some/prefix/").to_owned(), String::from_utf8(plain).unwrap())
        };
        self.stored().into_iter().filter(|(key, _)| is_container(key)).map(open).collect()
    }

    /// All is well: the new key opens every version of every container, the old one nothing.
    #[track_caller]
    fn check(&self, context: &str) {
        assert_eq!(self.opened_by(&self.old), 0, "{context}");
        let contents = self.contents("new");
        assert!(!contents.is_empty(), "{context}");
        let mut versions: BTreeMap<String, usize> = BTreeMap::new();
        for (key, _) in self.envelopes() {
            *versions.entry(key).or_default() += 1;
        }
        assert_eq!(self.opened_by(&self.new), versions.values().sum::<usize>(), "{context}");
        versions.retain(|key, _| !key.contains("orphan"));
        assert!(versions.values().all(|count| *count == 1), "{context}: {versions:?}");
    }

    fn fresh(&self) -> Self {
        Self::with(Place::with_keys(), self.memory.state().clone())
    }

    /// How often the envelopes that have kept their names and their containers were written, by the ids that the store
    /// counts up.
    fn written(&self) -> u64 {
        let listed = self.memory.state().list(&ListOptions::default());
        let envelopes = listed.into_iter().filter_map(|listed| match listed {
            Listed::Object(object) if object.key.ends_with(".key.enc") => Some(object),
            _ => None,
        });
        let envelopes =
            envelopes.filter(|object| !["orphan", "beside"].iter().any(|name| object.key.contains(name)));
        envelopes.map(|object| object.version.parse::<u64>().unwrap()).sum()
    }

    /// How many writes were asked for, those left out that failed before.
    fn writes(&self) -> usize {
        let done = |call: &&Call| {
            call.operation == Operation::Put && matches!(call.fault, None | Some(Fault::After(_)))
        };
        self.faulty.log().iter().filter(done).count()
    }
}

fn counts(summary: &RotateSummary) -> BTreeMap<String, u64> {
    let value = serde_json::to_value(summary).unwrap();
    let numbers = value.as_object().unwrap().iter();
    numbers
        .filter_map(|(name, value)| Some((name.clone(), value.as_u64().filter(|count| *count > 0)?)))
        .collect()
}

#[track_caller]
fn counted(summary: &RotateSummary, expected: &[(&str, u64)]) {
    let expected = expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    assert_eq!(counts(summary), expected);
}

/// Keeps what is said, as a kind, a subject and a message.
#[derive(Default)]
struct Listener(Mutex<Vec<(&'static str, String, String)>>);

impl Observer for Listener {
    fn event(&self, event: Event<'_>) {
        let said = match event {
            Event::Warning { path, message } => ("warning", path.display().to_string(), message.to_owned()),
            Event::Failed(error) => ("failed", error.subject().unwrap_or_default().to_owned(), error.line()),
            _ => return,
        };
        self.0.lock().unwrap().push(said);
    }
}

impl Listener {
    fn said(&self) -> Vec<(&'static str, String, String)> {
        self.0.lock().unwrap().clone()
    }
}

/// Names with several data versions, an envelope with an older version, one of the second form, and an orphan.
fn furnished(features: Features) -> Vault {
    let vault = Vault::new(features);
    for contents in ["first", "second", "third"] {
        vault.put("a", contents);
    }
    let twice = vault.put("dir/twice", "twice");
    vault.write(&envelope_name("dir/twice.enc", Some(&twice.id)).unwrap(), twice.envelope.clone());
    let beside = vault.pair("beside", &["old", "escrow"]);
    vault.write("beside.key.enc", beside.envelope.clone());
    vault.write("beside.enc", beside.container.clone());
    let orphan = vault.pair("orphan", &["old"]);
    vault.write(&envelope_name("orphan.enc", Some(&orphan.id)).unwrap(), orphan.envelope.clone());
    vault
}

#[test]
fn every_version_moves_to_the_new_key_and_a_second_run_finds_nothing_to_do() {
    for features in every_feature() {
        let vault = furnished(features);
        let before = vault.contents("old");
        assert_eq!(before.len(), if features.versions { 5 } else { 3 });
        let dry = vault.run(How { dry_run: true, ..USUAL });
        assert_eq!((dry.rewrapped, dry.purged, vault.contents("old")), (6, 0, before.clone()));
        assert_eq!(vault.writes(), 0);

        let summary = vault.run(USUAL);
        // The envelopes of versions that are gone have nothing to be compared with, nor has the orphan.
        let (checked, unchecked, purged) = if features.versions { (6, 1, 7) } else { (3, 3, 1) };
        let (checked, unchecked) = (("checked", checked), ("unchecked", unchecked));
        counted(&summary, &[("rewrapped", 6), checked, unchecked, ("purged", purged), ("tried", 6)]);
        vault.check(&format!("{features:?}"));
        assert_eq!(vault.contents("new"), before, "{features:?}");
        assert_eq!(vault.opened_by(&vault.place.private("escrow")), 1);

        let again = vault.run(How { prove: Prove::All, ..USUAL });
        counted(&again, &[("already", 6), ("tried", 6)]);
        assert_eq!(vault.writes(), 6);
    }
}

#[test]
fn a_run_can_be_stopped_at_every_call_and_does_no_work_twice() {
    let transient = ErrorKind::Transient;
    let stops = [
        (Fault::Before(transient), false),
        (Fault::After(ErrorKind::Unsure), false),
        (Fault::After(ErrorKind::Unsure), true),
    ];
    for features in every_feature() {
        let base = furnished(features);
        let written = base.written();
        let mut total = 0;
        'calls: for number in 1.. {
            for (fault, dies) in stops {
                let vault = base.fresh();
                let how = How { journal: true, jobs: 1, ..USUAL };
                match dies {
                    true => vault.faulty.die_at(number, fault),
                    false => vault.faulty.fail_at(number, fault),
                }
                let stopped = vault.try_run(how, &Silent);
                if vault.faulty.calls() < number {
                    break 'calls;
                }
                total += 1;
                let log = vault.faulty.log().last().map(ToString::to_string);
                let context = format!("{features:?} {fault:?} {dies} at {number}, last {log:?}: {stopped:?}");
                vault.faulty.restart();
                let listener = Listener::default();
                let mut again = vault.try_run(how, &listener).unwrap();
                if !again.is_proven() && features.versions {
                    // Without a container nothing tells which of two versions is right: both stay, and are told.
                    let said = listener.said();
                    assert!(said.iter().all(|(_, of, _)| of.contains("orphan")), "{said:?}: {context}");
                    again = vault.try_run(how, &Silent).unwrap();
                }
                assert!(again.is_proven(), "{again:?}: {context}");
                vault.check(&context);
                // Each of the four whose containers prove them once, wherever it stopped.
                assert_eq!(vault.written() - written, 4, "{context}");
                // Where the first run came to a good end, the second one has nothing to do.
                if stopped.is_ok_and(|summary| summary.is_proven()) {
                    assert_eq!(vault.writes(), 0, "{context}");
                }
            }
        }
        println!("{features:?}: {total} stops");
        assert!(total > 60, "{features:?}: {total}");
    }
}

/// A run is stopped while one envelope is on its way, which arrives before some call of the next run.
#[test]
fn what_a_stopped_run_wrote_is_known_whenever_it_arrives() {
    let how = How { journal: true, jobs: 1, ..USUAL };
    let (mut first, mut both) = (0, 0);
    for number in 1.. {
        let vault = Vault::new(VERSIONS);
        vault.put("a", "contents");
        let other = vault.fresh();
        other.run(how);
        let put = other.faulty.log().iter().find(|call| call.operation == Operation::Put).unwrap().number;
        vault.faulty.die_at(put, Fault::After(ErrorKind::Unsure));
        assert!(!vault.try_run(how, &Silent).is_ok_and(|summary| summary.is_proven()));
        let [(key, late), _] = &vault.envelopes_as_stored()[..] else { panic!("two versions") };
        let newest = vault.memory.state().get(key, None).unwrap().0.version;
        vault.memory.state().delete(key, &newest);
        vault.faulty.restart();
        let (memory, key, late) = (vault.memory.clone(), key.clone(), late.clone());
        vault.faulty.plan(move |call| {
            if call.number == number {
                memory.state().put(&key, late.clone(), &OnlyIf::Always, &Info::new()).unwrap();
            }
            None
        });
        let second = vault.try_run(how, &Silent).unwrap();
        if vault.faulty.calls() < number {
            break;
        }
        assert!(second.is_proven(), "before call {number}: {second:?}");
        match vault.writes() {
            0 => first += 1,
            writes => both += writes,
        }
        // What arrives behind the last listing is found by the next run.
        vault.run(how);
        vault.check(&format!("before call {number}"));
    }
    assert!(first > 0 && both > 5, "{first} {both}");
}

#[test]
fn what_somebody_planted_is_not_taken_for_what_a_stopped_run_wrote() {
    let how = How { journal: true, jobs: 1, ..USUAL };
    let vault = Vault::new(VERSIONS);
    let pair = vault.put("a", "contents");
    vault.run(how);
    let [(key, ours)] = &vault.envelopes_as_stored()[..] else { panic!("one version") };
    // The same labels, another key.
    let planted = wrap::wrap(
        &FileKey::generate(&OsRandom).unwrap(),
        &pair.id,
        &[vault.place.public("new")],
        SystemTime::UNIX_EPOCH,
    );
    let planted = planted.unwrap().to_text().unwrap();
    vault.write(key.trim_start_matches("some/prefix/"), planted);
    vault.run(how);
    let left = vault.envelopes_as_stored();
    assert_eq!(left.len(), 2);
    assert_eq!(left[1], (key.clone(), ours.clone()), "the good one is gone");
    vault.contents("new");
}

#[test]
fn each_of_three_data_versions_is_restored_after_a_rewrap() {
    let vault = Vault::new(VERSIONS);
    for name in ["a", "b", "dir/c.d"] {
        for version in 1..=3 {
            vault.put(name, &format!("{name} {version}"));
        }
    }
    counted(&vault.run(USUAL), &[("rewrapped", 9), ("checked", 9), ("purged", 9), ("tried", 9)]);
    let contents = vault.contents("new");
    let expected: Vec<_> = ["a", "b", "dir/c.d"]
        .iter()
        .flat_map(|name| {
            (1..=3).rev().map(move |version| (format!("{name}.enc"), format!("{name} {version}")))
        })
        .collect();
    assert_eq!(contents, expected);
}

#[test]
fn a_wrong_old_key_changes_nothing() {
    let vault = furnished(VERSIONS);
    let before = vault.stored();
    let rotation =
        Rotation::new(vec![vault.place.private("new")], vec![vault.place.public("escrow")]).unwrap();
    let summary = vault.run_for(&rotation, USUAL, None, &Silent).unwrap();
    counted(&summary, &[("not_ours", 5), ("already", 1), ("tried", 1)]);
    assert_eq!(vault.stored(), before);
    let same = Rotation::new(vec![vault.place.private("old")], vec![vault.place.public("old")]).unwrap_err();
    assert_eq!(same.kind(), ErrorKind::Usage);
}

#[test]
fn damaged_planted_and_foreign_envelopes_are_residue_and_all_others_are_done() {
    let vault = Vault::new(VERSIONS);
    for name in ["a", "b", "c"] {
        vault.put(name, name);
    }
    let damaged = vault.pair("damaged", &["old"]);
    vault.store("damaged", &damaged);
    vault.write(&envelope_name("damaged.enc", Some(&damaged.id)).unwrap(), "-----BEGIN SIDEKEY WRAPPED");
    // Anybody can wrap another key for the old public key.
    let planted = vault.pair("planted", &["new"]);
    let wrapped = |key: &str, secret: &[u8; 32]| -> Block {
        let to = vault.place.public(key);
        new_entry(&to, secret, &planted.id, Wrap::RsaOaepSha256, SystemTime::UNIX_EPOCH).unwrap().into()
    };
    vault.store("planted", &planted);
    let blocks = vec![wrapped("old", &[9; 32]), wrapped("old", &planted.key)];
    let text = Envelope { blocks }.to_text().unwrap();
    vault.write(&envelope_name("planted.enc", Some(&planted.id)).unwrap(), text);
    let copied = vault.pair("copied", &["old"]);
    vault.write("copy of an envelope.txt", copied.envelope);
    vault.write("readme.txt", "nothing of ours");

    let listener = Listener::default();
    let summary = vault.try_run(How { prove: Prove::All, ..USUAL }, &listener).unwrap();
    let said = listener.said();
    let about = |name: &str| said.iter().filter(|(_, subject, _)| subject.contains(name)).count();
    assert_eq!(
        (about("damaged"), about("planted"), about("copy of"), about("readme")),
        (2, 1, 1, 0),
        "{said:?}"
    );
    assert_eq!((summary.residue, summary.failed, summary.opened), (3, 0, 0), "{summary:?} {said:?}");
    assert!(!summary.is_proven());
    // Of the damaged one an older version is whole: it is kept, and was wrapped anew above it.
    for name in ["a", "b", "c", "planted", "damaged"] {
        assert!(vault.contents("new").contains(&(format!("{name}.enc"), name.to_owned())), "{name}");
    }
    // The planted key went no further.
    let entries = |key: &PrivateKey| {
        let of_it = vault.envelopes().into_iter().filter(|(key, _)| key.contains("planted"));
        of_it
            .flat_map(|(_, envelope)| envelope.entries().cloned().collect::<Vec<Entry>>())
            .filter_map(|entry| Some(key.unwrap(&entry.body, &entry.data_id)?.expose().to_vec()))
            .collect::<Vec<_>>()
    };
    assert_eq!(entries(&vault.new), [planted.key.to_vec()]);
    assert_eq!(entries(&vault.old), Vec::<Vec<u8>>::new());
}

#[test]
fn without_the_right_or_the_wish_to_delete_older_versions_are_residue() {
    for wish in [false, true] {
        let vault = furnished(VERSIONS);
        // Without its container nothing would tell which of its versions is right.
        vault.remove("orphan");
        if wish {
            let refuse = Fault::Before(ErrorKind::Permission);
            vault.faulty.plan(move |call| (call.operation == Operation::Delete).then_some(refuse));
        }
        let listener = Listener::default();
        let how = How { purge: wish, journal: true, ..USUAL };
        let summary = vault.try_run(how, &listener).unwrap();
        assert_eq!((summary.residue, summary.purged, summary.failed), (5, 0, 0), "{summary:?}");
        assert!(vault.contents("new").len() == 5 && vault.opened_by(&vault.old) == 6);
        let said = listener.said();
        assert_eq!(said.len(), 5, "{said:?}");
        let why = if wish { "an injected fault" } else { "not to be deleted" };
        assert!(said.iter().all(|(_, _, message)| message.contains(why)), "{said:?}");
        // Once it may, only the rest is done.
        let writes = vault.writes();
        vault.faulty.restart();
        let listener = Listener::default();
        let again = vault.try_run(How { journal: true, ..USUAL }, &listener).unwrap();
        assert!(again.is_proven(), "{again:?} {:?}", listener.said());
        vault.check("after");
        assert!(writes + vault.writes() <= 11, "{again:?}");
    }
}

#[test]
fn what_is_uploaded_meanwhile_is_found_and_told() {
    for features in every_feature() {
        let vault = furnished(features);
        let late = [vault.pair("late", &["old"]), vault.pair("over", &["old"])];
        let memory = Vault::with(Place::with_keys(), State::new(features));
        let memory = Vault { memory: vault.memory.clone(), ..memory };
        let mut left = Some(late);
        vault.faulty.plan(move |call| {
            if call.number == 20
                && let Some([late, over]) = left.take()
            {
                memory.store("late", &late);
                memory.store("a", &over);
            }
            None
        });
        let listener = Listener::default();
        let summary = vault.try_run(How { jobs: 1, ..USUAL }, &listener).unwrap();
        assert_eq!((summary.rewrapped, summary.late), (8, 2), "{summary:?}");
        assert!(summary.is_proven(), "{summary:?}");
        vault.check(&format!("{features:?}"));
        let said = listener.said();
        assert_eq!(
            said.iter().filter(|(_, _, message)| message.contains("2023-11-14T")).count(),
            2,
            "{said:?}"
        );
    }
}

#[test]
fn a_second_run_reads_nothing_of_what_the_journal_knows() {
    for features in every_feature() {
        let vault = furnished(features);
        let how = How { journal: true, ..USUAL };
        counted_only(&vault.run(how), "rewrapped", 6);
        let gets =
            |vault: &Vault| vault.faulty.log().iter().filter(|call| call.operation == Operation::Get).count();
        vault.faulty.restart();
        counted(&vault.run(how), &[("resumed", 6)]);
        assert_eq!((gets(&vault), vault.writes()), (0, 0), "{features:?}");

        // What was written since is done, and nothing else.
        vault.put("a", "fourth");
        let again = vault.run(how);
        assert_eq!((again.resumed, again.rewrapped, again.tried), (6, 1, 1), "{again:?}");

        // With all to be proven, all is tried.
        let all = vault.run(How { prove: Prove::All, ..how });
        assert_eq!((all.resumed, all.tried, all.opened), (7, 7, 0), "{all:?}");
    }
}

#[track_caller]
fn counted_only(summary: &RotateSummary, name: &str, count: u64) {
    assert_eq!(counts(summary).get(name), Some(&count), "{summary:?}");
}

#[test]
fn a_journal_that_is_lost_torn_or_stale_costs_work_and_nothing_else() {
    let vault = furnished(VERSIONS);
    let how = How { journal: true, ..USUAL };
    vault.run(how);
    let path = vault.journal_file();
    let whole = fs::read_to_string(&path).unwrap();
    assert!(whole.ends_with("proven\n"), "{whole}");
    let names = ["twice", "beside", "orphan", "prefix"];
    assert!(names.iter().all(|name| !whole.contains(name)), "names stand in the journal: {whole}");

    // Torn within a line: that one is read again.
    let lines: Vec<&str> = whole.lines().filter(|line| !line.starts_with('+')).collect();
    fs::remove_file(&path).unwrap();
    vault.place.write(&path, format!("{}\n{}", lines[..4].join("\n"), &lines[4][..13]));
    let torn = vault.run(how);
    assert_eq!((torn.resumed, torn.already, torn.rewrapped), (4, 2, 0), "{torn:?}");
    // Those that no run had proven are tried.
    assert_eq!(torn.tried, 6);
    let healed = vault.run(how);
    assert_eq!((healed.resumed, healed.already, healed.tried), (6, 0, 0), "{healed:?}");

    // Garbage is no line.
    let garbage = "x".repeat(10_000) + "\nproven\n\u{0}\n" + &"f".repeat(32) + "\n";
    fs::remove_file(&path).unwrap();
    vault.place.write(&path, &garbage);
    let lost = vault.run(how);
    assert_eq!((lost.resumed, lost.already), (0, 6), "{lost:?}");

    // Stale: an envelope that somebody put back is another version.
    let (key, _) = vault.envelopes().remove(0);
    let back = vault.pair("back", &["old"]);
    let name = key.trim_start_matches("some/prefix/");
    vault.write(name, back.envelope);
    let stale = vault.run(how);
    assert_eq!((stale.resumed, stale.failed), (5, 0), "{stale:?}");
    assert!(stale.rewrapped + stale.residue > 0, "{stale:?}");

    // Other keys, another journal.
    let other = Rotation::new(vec![vault.place.private("new")], vec![vault.place.public("escrow")]).unwrap();
    Journal::open(&vault.place.path("state"), &vault.memory, &other, &Range::default(), true).unwrap();
    assert_eq!(vault.place.names_in("state").len(), 2);
    assert_eq!((vault.place.mode("state"), vault.place.mode(path.to_str().unwrap())), (0o700, 0o600));
}

/// Checks a report as anybody could: each line holds the SHA-256 of the one before.
fn check_chain(text: &str, head: &str) -> bool {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut previous = "0".repeat(64);
    for line in text.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        if value["type"] == "run" {
            previous = "0".repeat(64);
        }
        if value["previous"] != previous {
            return false;
        }
        previous = hex(&Sha256::digest(line));
    }
    previous == head
}

#[test]
fn the_report_says_what_was_done_and_a_change_of_it_shows() {
    let vault = furnished(VERSIONS);
    vault.write("readme.key.enc", "not an envelope at all");
    let path = vault.place.path("report.jsonl");
    let ledger = Ledger::open(&path).unwrap();
    let run = |how| vault.run_for(&vault.rotation(), how, Some(&ledger), &Silent).unwrap();
    let summary = run(USUAL);
    let text = vault.place.text("report.jsonl");
    assert_eq!(vault.place.mode("report.jsonl"), 0o600);
    assert!(check_chain(&text, summary.head.as_ref().unwrap()), "{text}");

    let lines = objects(&text);
    assert_eq!(lines.len(), 9, "{text}");
    assert_eq!((&lines[0]["type"], &lines[8]["type"]), (&"run".into(), &"summary".into()));
    assert_eq!(lines[0]["old"], serde_json::json!([vault.old.id().to_string()]));
    assert_eq!(lines[0]["new"], serde_json::json!([vault.new.id().to_string()]));
    assert_eq!((&lines[8]["rewrapped"], &lines[8]["residue"]), (&6.into(), &1.into()));
    let of = |name: &str| {
        lines
            .iter()
            .find(|line| line.get("name").and_then(|of| of.as_str()).is_some_and(|of| of.starts_with(name)))
    };
    let twice = of("dir/twice.").unwrap();
    assert_eq!(twice["result"], "rewrapped");
    assert_eq!(
        (&twice["versions"], &twice["purged"]),
        (&serde_json::json!(["2", "1"]), &serde_json::json!(["2", "1"]))
    );
    assert_eq!(twice["written"], "3");
    assert_eq!(twice["entries"], serde_json::json!([vault.old.id().to_string()]));
    assert_eq!(twice["new_entries"], serde_json::json!([vault.new.id().to_string()]));
    assert_eq!(of("readme.").unwrap()["result"], "residue");

    // A line lost, a byte changed, the end cut off.
    let head = summary.head.unwrap();
    let all: Vec<&str> = text.lines().collect();
    for lost in 0..all.len() {
        let mut rest = all.clone();
        rest.remove(lost);
        assert!(!check_chain(&rest.join("\n"), &head), "line {lost} can be left out");
    }
    assert!(!check_chain(&text.replacen("twice", "other", 1), &head));

    // A second run appends a chain of its own.
    let again = run(USUAL);
    let both = vault.place.text("report.jsonl");
    assert!(both.starts_with(&text) && check_chain(&both, again.head.as_ref().unwrap()), "{both}");
    drop(ledger);
    // Behind a torn line too.
    vault.place.write("report.jsonl", &both[..both.len() - 20]);
    let ledger = Ledger::open(&path).unwrap();
    vault.run_for(&vault.rotation(), USUAL, Some(&ledger), &Silent).unwrap();
    let last = vault.place.text("report.jsonl");
    assert_eq!(last.lines().filter(|line| line.contains("\"type\":\"run\"")).count(), 3, "{last}");
}

#[test]
fn an_entry_of_the_old_key_under_another_label_is_found_by_the_trial() {
    let vault = Vault::new(VERSIONS);
    let pair = vault.pair("a", &["old"]);
    vault.store("a", &pair);
    let to = |key: &str| {
        let to = vault.place.public(key);
        new_entry(&to, &pair.key, &pair.id, Wrap::RsaOaepSha256, SystemTime::UNIX_EPOCH).unwrap()
    };
    let lying = Entry { recipient: vault.place.public("escrow").id(), ..to("old") };
    let text = Envelope { blocks: vec![to("new").into(), lying.into()] }.to_text().unwrap();
    let name = envelope_name("a.enc", Some(&pair.id)).unwrap();
    let mut state = vault.memory.state();
    let (object, _) = state.get(&format!("some/prefix/{name}"), None).unwrap();
    state.delete(&object.key, &object.version);
    drop(state);
    vault.write(&name, text);

    let summary = vault.run(USUAL);
    assert_eq!(
        (summary.rewrapped, summary.already, summary.tried, summary.opened),
        (1, 0, 1, 0),
        "{summary:?}"
    );
    vault.check("after");
}

#[test]
fn only_the_named_recipients_are_dropped() {
    let vault = Vault::new(VERSIONS);
    let pair = vault.pair("a", &["old", "escrow"]);
    vault.store("a", &pair);
    let kept = vault.fresh();
    kept.run(USUAL);
    assert_eq!(kept.opened_by(&kept.place.private("escrow")), 1);
    // Byte for byte.
    let escrow = vault.place.public("escrow").id();
    let block = |vault: &Vault| {
        let (_, envelope) = vault.envelopes().remove(0);
        let is =
            |block: &&Block| matches!(&block.content, Content::Entry(entry) if entry.recipient == escrow);
        envelope.blocks.iter().find(is).map(|block| block.text().to_owned())
    };
    assert!(block(&vault).is_some() && block(&kept) == block(&vault));

    let rotation = vault.rotation().dropping([escrow]).unwrap();
    vault.run_for(&rotation, USUAL, None, &Silent).unwrap();
    vault.check("dropped");
    assert_eq!(block(&vault), None);
    let refused = vault.rotation().dropping([vault.new.id()]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Usage);
}

#[test]
fn keys_are_compared_with_their_containers_unless_they_are_trusted() {
    let vault = furnished(VERSIONS);
    let headers = |vault: &Vault| {
        let is_header = |call: &&Call| call.operation == Operation::Get && !call.key.ends_with(".key.enc");
        vault.faulty.log().iter().filter(is_header).count()
    };
    let trusting = vault.fresh();
    counted_only(&trusting.run(How { compare: false, ..USUAL }), "unchecked", 7);
    assert_eq!(headers(&trusting), 0);
    vault.run(USUAL);
    // One ranged read for each version of a container.
    assert_eq!(headers(&vault), 5);
}

#[test]
fn an_envelope_costs_one_read_one_write_one_read_back_one_delete_and_one_header() {
    let vault = Vault::new(Features { versions: true, conditions: false });
    for number in 0..50 {
        vault.put(&format!("dir/{number}"), "contents");
    }
    let summary = vault.run(How { prove: Prove::Sample, ..USUAL });
    assert_eq!((summary.rewrapped, summary.tried), (50, 50));
    let count = |operation| vault.faulty.log().iter().filter(|call| call.operation == operation).count();
    // The trial of all fifty reads each once more; the listings are whole ones.
    assert_eq!((count(Operation::Get), count(Operation::Put), count(Operation::Delete)), (200, 50, 50));
    // Twice the location, and twice the master keys that a vault would have.
    assert_eq!((count(Operation::Stat), count(Operation::List)), (0, 4));
}

#[test]
fn a_recipient_is_added_and_removed_while_the_keys_stay() {
    let vault = furnished(VERSIONS);
    let escrow = vault.place.private("escrow");
    let (total, contents) = (7, vault.contents("old"));
    assert_eq!((vault.opened_by(&vault.old), vault.opened_by(&escrow)), (total, 1));
    let keys = || vec![vault.place.private("old")];
    let change =
        |rotation: Result<Rotation>| vault.run_for(&rotation.unwrap(), USUAL, None, &Silent).unwrap();

    let added = change(Rotation::among(keys(), vec![vault.place.public("escrow")], &[]));
    assert_eq!((added.rewrapped, added.already, added.residue), (5, 1, 0), "{added:?}");
    // The one that had two versions has one now; what nobody changed is as it was.
    assert_eq!((vault.opened_by(&vault.old), vault.opened_by(&escrow)), (6, 6));
    assert_eq!((vault.contents("old"), vault.contents("escrow")), (contents.clone(), contents.clone()));
    let again = change(Rotation::among(keys(), vec![vault.place.public("escrow")], &[]));
    counted(&again, &[("already", 6)]);

    let found = recipients(&vault.target(), &Range::default(), 2, &Silent).unwrap();
    let share = Share { envelopes: 6, old_versions: 0 };
    assert_eq!(found.keys, [(vault.old.id(), share), (escrow.id(), share)].into_iter().collect());

    let removed = change(Rotation::among(keys(), vec![], &[escrow.id()]));
    assert_eq!((removed.rewrapped, removed.residue), (6, 0), "{removed:?}");
    assert_eq!((vault.opened_by(&vault.old), vault.opened_by(&escrow)), (6, 0));
    assert_eq!(vault.contents("old"), contents);

    // Nobody is left without a key that is known to open it.
    let last = Rotation::among(keys(), vec![], &[vault.old.id()]).unwrap_err();
    assert_eq!(last.kind(), ErrorKind::Usage);
    let other = || vec![vault.place.private("new")];
    let listener = Listener::default();
    let rotation = Rotation::among(other(), vec![], &[vault.old.id()]).unwrap();
    let refused = vault.run_for(&rotation, USUAL, None, &listener).unwrap();
    assert_eq!((refused.rewrapped, refused.residue), (0, 6), "{refused:?}");
    assert!(listener.said().iter().all(|(_, _, why)| why.contains("no key that was given opens it")));
    assert_eq!(vault.opened_by(&vault.old), 6);
}

#[test]
fn a_store_that_refuses_to_go_on_is_not_asked_for_the_rest() {
    let vault = Vault::new(VERSIONS);
    for number in 0..40 {
        vault.put(&format!("{number}"), "contents");
    }
    let mut puts = 0;
    vault.faulty.plan(move |call| {
        puts += u32::from(call.operation == Operation::Put);
        (call.operation == Operation::Put && puts > 10).then_some(Fault::Before(ErrorKind::Refused))
    });
    let listener = Listener::default();
    let how = How { journal: true, jobs: 1, ..USUAL };
    let summary = vault.try_run(how, &listener).unwrap();
    assert_eq!(summary.rewrapped, 10, "{summary:?}");
    assert!(summary.failed > 0 && !summary.is_proven());
    let said = listener.said();
    let stopped = said.iter().filter(|(_, _, message)| message.contains("the rest was not tried")).count();
    assert_eq!(stopped, 1, "{said:?}");
    // Some in a row, those that were under way already, and no more.
    assert!(said.len() <= 24, "{said:?}");
    assert!(!summary.listed_again);
    vault.faulty.restart();
    let again = vault.run(how);
    assert_eq!((again.resumed, again.rewrapped, again.failed), (10, 30, 0), "{again:?}");
    vault.check("again");
}

#[test]
fn a_key_file_of_the_recipe_moves_in_place_and_its_older_versions_stay() {
    let vault = Vault::new(VERSIONS);
    let file = |key: &str, password: &str| {
        let block = PasswordBlock::from_bytes(password.as_bytes().to_vec());
        KeyFile::wrap(&block, &vault.place.public(key), KeyFileForm::Base64OneLine).unwrap().encode()
    };
    vault.write("one.key.enc", file("old", "the password of one\n"));
    vault.write("two.key.enc", file("old", "the password of an older upload\n"));
    vault.write("two.key.enc", file("old", "the password of two\n"));
    vault.write("other.key.enc", file("escrow", "the password of somebody else\n"));
    let listener = Listener::default();
    let summary = vault.try_run(USUAL, &listener).unwrap();
    let said = listener.said();
    assert_eq!(
        (summary.rewrapped, summary.residue, summary.not_ours, summary.opened),
        (1, 1, 1, 0),
        "{said:?}"
    );
    assert!(said.iter().all(|(_, of, _)| of.contains("two")), "{said:?}");
    let opened = |key: &PrivateKey| -> Vec<(String, String)> {
        let open = |(name, bytes): (String, Bytes)| {
            let blocks = detect_key_file(&bytes)?.open([key]).ok()?;
            let text = blocks.iter().find(|block| block.is_text())?;
            Some((name, String::from_utf8(text.expose().to_vec()).unwrap()))
        };
        vault.stored().into_iter().filter_map(open).collect()
    };
    let of = |name: &str, password: &str| (format!("some/prefix/{name}.key.enc"), format!("{password}\n"));
    assert_eq!(opened(&vault.new), [of("one", "the password of one"), of("two", "the password of two")]);
    // The current one was replaced and deleted; the older upload's is all that is left of it.
    assert_eq!(opened(&vault.old), [of("two", "the password of an older upload")]);
}

#[test]
fn one_object_that_the_store_refuses_does_not_stop_the_others() {
    let vault = Vault::new(VERSIONS);
    for number in 0..40 {
        vault.put(&format!("{number:02}"), "contents");
    }
    vault.faulty.plan(|call| {
        let is_archived = call.operation == Operation::Get && call.key.contains("/07.");
        is_archived.then_some(Fault::Before(ErrorKind::Refused))
    });
    let summary = vault.run(USUAL);
    assert_eq!((summary.rewrapped, summary.failed), (39, 1), "{summary:?}");
    assert!(summary.listed_again && !summary.is_proven());
    assert_eq!(vault.opened_by(&vault.old), 1);
}

#[test]
fn a_listing_that_the_store_refuses_is_no_empty_one() {
    for at in 0..4 {
        let vault = Vault::new(VERSIONS);
        for number in 0..6 {
            vault.put(&format!("{number}"), "contents");
        }
        let mut lists = 0;
        vault.faulty.plan(move |call| {
            lists += u32::from(call.operation == Operation::List);
            (call.operation == Operation::List && lists == at + 1)
                .then_some(Fault::Before(ErrorKind::Refused))
        });
        if let Ok(summary) = vault.try_run(USUAL, &Silent) {
            let asked = vault.faulty.log().iter().filter(|call| call.operation == Operation::List).count();
            assert!(summary.failed > 0 || asked <= at as usize, "{at}: {summary:?}");
        }
    }
}

#[test]
fn the_master_key_of_a_vault_below_stays_where_it_is() {
    let vault = Vault::new(VERSIONS);
    vault.put("a", "contents");
    let master = vault.pair("", &["old"]).envelope;
    vault.write("below/.sidekey/master.1.key.enc", master.clone());
    let listener = Listener::default();
    let summary = vault.try_run(USUAL, &listener).unwrap();
    assert_eq!((summary.rewrapped, summary.failed), (1, 1), "{summary:?}");
    let kept: Vec<_> = vault.stored().into_iter().filter(|(key, _)| key.contains("master")).collect();
    assert_eq!(kept, [("some/prefix/below/.sidekey/master.1.key.enc".to_owned(), master)]);
    let said = listener.said();
    assert!(said[0].2.contains("a vault that stands below this location"), "{said:?}");
}

/// Somebody who may write and not delete makes another key look right: a container of the same data id that commits to it,
/// and an envelope that holds it.
#[test]
fn a_planted_container_of_the_same_data_id_costs_no_key() {
    let vault = Vault::new(VERSIONS);
    let real = vault.put("a", "the real contents");
    vault.plant("a", &real);
    let summary = vault.run(USUAL);
    assert_eq!(summary.residue, 1, "{summary:?}");
    let mut contents: Vec<String> = vault.contents("new").into_iter().map(|(_, contents)| contents).collect();
    contents.sort();
    assert_eq!(contents, ["planted", "the real contents"]);
}

/// The same, where the real container cannot be read at the moment.
#[test]
fn a_version_that_holds_a_key_which_looks_wrong_is_kept() {
    let vault = Vault::new(VERSIONS);
    let real = vault.put("a", "the real contents");
    vault.plant("a", &real);
    let mut gets = 0;
    vault.faulty.plan(move |call| {
        let is_container = call.key.ends_with("/a.enc") && call.operation == Operation::Get;
        gets += u32::from(is_container);
        // Newest first.
        (is_container && gets % 2 == 0).then_some(Fault::Before(ErrorKind::Permission))
    });
    let summary = vault.run(USUAL);
    assert!(summary.residue + summary.failed > 0, "{summary:?}");
    vault.faulty.restart();
    let left = vault.envelopes();
    let opens = |(_, envelope): &(String, Envelope)| {
        [&vault.old, &vault.new].iter().any(|key| {
            let secrets = envelope.entries().filter_map(|entry| key.unwrap(&entry.body, &entry.data_id));
            secrets.into_iter().any(|secret| secret.expose() == real.key)
        })
    };
    assert!(left.iter().any(opens), "the real key is gone");
}

#[test]
fn what_else_an_entry_says_is_kept_beside_one_that_says_less() {
    let vault = Vault::new(VERSIONS);
    let pair = vault.pair("contents", &["old"]);
    let plain = Envelope::parse(&pair.envelope).unwrap();
    let entry = plain.entries().next().unwrap().clone();
    let said = vec![("X-Of-Another-Version".to_owned(), "more".to_owned())];
    let more = Envelope { blocks: vec![Entry { extra: said.clone(), ..entry }.into()] };
    vault.store("a", &Pair { envelope: more.to_text().unwrap().into(), ..pair.clone() });
    vault.write(&envelope_name("a.enc", Some(&pair.id)).unwrap(), pair.envelope.clone());
    vault.run(USUAL);
    vault.check("after");
    let envelopes = vault.envelopes();
    let extras: Vec<_> = envelopes[0].1.entries().map(|entry| entry.extra.clone()).collect();
    assert_eq!(extras, [said, vec![]]);
    let again = vault.run(USUAL);
    assert_eq!((again.rewrapped, again.residue), (0, 0), "{again:?}");
}
