//! `reencrypt`: the store in memory, every call of it the last one, failed or lost, and what others do meanwhile.
#![expect(clippy::disallowed_methods, reason = "how young an envelope is, the store tells by its clock")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use sidekey::format::{Envelope, FileType, Header, Metadata};
use sidekey::keys::PrivateKey;
use sidekey::location::Location;
use sidekey::location::argument::Target;
use sidekey::location::customer::PairEncryption;
use sidekey::location::range::Range;
use sidekey::name::envelope_name;
use sidekey::open::Opener;
use sidekey::ops::events::Silent;
use sidekey::ops::reencrypt::{ReencryptOptions, ReencryptSummary, journal, reencrypt};
use sidekey::ops::reports::read;
use sidekey::ops::rotate::{Journal, Ledger};
use sidekey::random::OsRandom;
use sidekey::seal::{SealOptions, seal};
use sidekey::secret::FileKey;
use sidekey::store::faulty::{Fault, Faulty, Operation};
use sidekey::store::memory::{Features, MemoryStore, State};
use sidekey::store::{Info, ListOptions, Listed, OnlyIf, Store as _};
use sidekey::{DataId, ErrorKind, Result, wrap};

use crate::common::Place;

const VERSIONS: Features = Features { versions: true, conditions: true };

/// Longer than what is encrypted whole in memory.
const LARGE: usize = (1 << 20) + 100_000;

/// The longest part of an upload that the store takes, in bytes.
const PART: u64 = 300_000;

struct Vault {
    place: Place,
    memory: MemoryStore,
    faulty: Faulty<MemoryStore>,
}

#[derive(Clone, Copy)]
struct How {
    dry_run: bool,
    purge: bool,
    purge_versions: bool,
    journal: bool,
}

const USUAL: How = How { dry_run: false, purge: true, purge_versions: false, journal: false };

impl Vault {
    fn new(features: Features) -> Self {
        Self::with(Place::with_keys(), State::new(features))
    }

    fn with(place: Place, state: State) -> Self {
        let memory = MemoryStore::from_state(state);
        Self { place, faulty: Faulty::new(Arc::new(memory.clone())).parts_of(PART), memory }
    }

    fn fresh(&self) -> Self {
        Self::with(Place::with_keys(), self.memory.state().clone())
    }

    fn target(&self) -> Target {
        Target::new(Location::new(Arc::new(self.faulty.clone()), "p").unwrap(), b"").unwrap()
    }

    fn write(&self, name: &str, bytes: impl Into<Bytes>) {
        let key = format!("p/{name}");
        self.memory.state().put(&key, bytes.into(), &OnlyIf::Always, &Info::new()).unwrap();
    }

    /// A pair of `name` for `old`.
    fn store(&self, name: &str, contents: &[u8]) -> DataId {
        let (id, key) = (DataId::generate(&OsRandom).unwrap(), FileKey::generate(&OsRandom).unwrap());
        let metadata = Metadata {
            mtime: Some(1_234_567_890),
            mode: Some(0o640),
            name: Some(name.into()),
            ..Metadata::new(FileType::File)
        };
        let mut container = Vec::new();
        seal(&key, id, Some(&metadata), contents, &mut container, &OsRandom, &SealOptions::default())
            .unwrap();
        let envelope = wrap::wrap(&key, &id, &[self.place.public("old")], SystemTime::UNIX_EPOCH).unwrap();
        let container_name = format!("{name}.enc");
        self.write(&envelope_name(&container_name, Some(&id)).unwrap(), envelope.to_text().unwrap());
        self.write(&container_name, container);
        id
    }

    fn grow_old(&self) {
        self.memory.state().advance(Duration::from_secs(8 * 24 * 60 * 60));
    }

    fn run(&self, how: How) -> Result<ReencryptSummary> {
        self.run_with(how, None)
    }

    fn run_with(&self, how: How, ledger: Option<&Ledger>) -> Result<ReencryptSummary> {
        let (identities, recipients) = ([self.place.private("old")], [self.place.public("new")]);
        let target = self.target();
        let journal: Option<Journal> = how
            .journal
            .then(|| journal(&self.place.path("state"), &target.location, &identities, &recipients).unwrap());
        let options = ReencryptOptions {
            identities: &identities,
            recipients: &recipients,
            encryption: PairEncryption::ByDefault,
            range: &Range::default(),
            dry_run: how.dry_run,
            purge: how.purge,
            purge_versions: how.purge_versions,
            jobs: 1,
            now: SystemTime::now(),
            journal: journal.as_ref(),
            ledger,
        };
        reencrypt(&target, &options, &Silent)
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

    /// How many uploads were begun and neither completed nor thrown away.
    fn unfinished(&self) -> usize {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(futures_util::StreamExt::count(self.memory.unfinished("")))
    }

    fn opened_by(&self, key: &str) -> usize {
        let key: PrivateKey = self.place.private(key);
        let envelopes = self.stored().into_iter().filter(|(key, _)| key.ends_with(".key.enc"));
        envelopes.filter(|(_, bytes)| sidekey::rewrap::opens(&key, &Envelope::parse(bytes).unwrap())).count()
    }

    /// Of each name the contents of its versions, newest first, opened by any of these keys; every one must open.
    fn contents(&self, keys: &[&str]) -> BTreeMap<String, Vec<Vec<u8>>> {
        let keys: Vec<PrivateKey> = keys.iter().map(|key| self.place.private(key)).collect();
        let stored = self.stored();
        let envelopes: Vec<Envelope> = stored
            .iter()
            .filter(|(key, _)| key.ends_with(".key.enc"))
            .map(|(_, bytes)| Envelope::parse(bytes).unwrap())
            .collect();
        let mut found: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
        // What tells the store's time may be left.
        let is_container = |key: &str| !key.ends_with(".key.enc") && !key.contains("/.sidekey/");
        for (name, bytes) in stored.iter().filter(|(key, _)| is_container(key)) {
            let header = Header::parse(bytes.first_chunk().unwrap()).unwrap();
            let file_key =
                wrap::unwrap(&header, &envelopes, &keys).unwrap_or_else(|error| panic!("{name}: {error:?}"));
            let opener = Opener::new(header, &file_key).unwrap();
            let (mut source, mut plain) = (&bytes[64..], Vec::new());
            let metadata = opener.metadata(&mut source).unwrap().unwrap();
            assert_eq!((metadata.mtime, metadata.mode), (Some(1_234_567_890), Some(0o640)), "{name}");
            opener.copy(source, &mut plain, None, 1).unwrap();
            found.entry(name.clone()).or_default().push(plain);
        }
        found
    }
}

fn every_feature() -> impl Iterator<Item = Features> {
    [false, true]
        .into_iter()
        .flat_map(|versions| [false, true].map(|conditions| Features { versions, conditions }))
}

fn large() -> Vec<u8> {
    (0..LARGE).map(|at| (at % 251) as u8).collect()
}

#[test]
fn every_pair_gets_a_new_key_and_keeps_its_contents() {
    for features in every_feature() {
        let vault = Vault::new(features);
        let ids = [vault.store("a", b"first"), vault.store("d/empty", b""), vault.store("large", &large())];
        vault.grow_old();
        let before = vault.contents(&["old"]);
        let planned = vault.run(How { dry_run: true, ..USUAL }).unwrap();
        assert_eq!((planned.reencrypted, planned.bytes), (3, LARGE as u64 + 5), "{features:?}");
        assert_eq!(vault.contents(&["old"]), before);

        let summary = vault.run(USUAL).unwrap();
        assert_eq!(
            (summary.reencrypted, summary.residue, summary.failed),
            (3, 0, 0),
            "{features:?} {summary:?}"
        );
        assert_eq!(summary.purged, if features.versions { 3 } else { 0 });
        assert_eq!(summary.envelopes, 3);
        assert_eq!(vault.contents(&["new"]), before, "{features:?}");
        assert_eq!((vault.opened_by("old"), vault.opened_by("new")), (0, 3));
        for (name, bytes) in vault.stored().iter().filter(|(key, _)| !key.ends_with(".key.enc")) {
            let header = Header::parse(bytes.first_chunk().unwrap()).unwrap();
            assert!(!ids.contains(&header.data_id()), "{name}");
        }
        let again = vault.run(USUAL).unwrap();
        assert_eq!((again.reencrypted, again.not_ours, again.residue), (0, 3, 0), "{again:?}");
    }
}

#[test]
fn what_is_young_keeps_its_old_envelope_and_older_versions_are_kept_and_told() {
    let vault = Vault::new(VERSIONS);
    vault.store("young", b"contents");
    let summary = vault.run(USUAL).unwrap();
    assert_eq!((summary.reencrypted, summary.purged, summary.envelopes, summary.residue), (1, 1, 0, 1));
    assert_eq!(vault.contents(&["new"])["p/young.enc"], [b"contents"]);

    let vault = Vault::new(VERSIONS);
    for contents in ["one", "two", "three"] {
        vault.store("a", contents.as_bytes());
    }
    vault.grow_old();
    let kept = vault.run(USUAL).unwrap();
    assert_eq!((kept.reencrypted, kept.purged, kept.residue), (1, 1, 1), "{kept:?}");
    let expected: Vec<Vec<u8>> = ["three", "two", "one"].map(Vec::from).into();
    assert_eq!(vault.contents(&["new", "old"])["p/a.enc"], expected);
    let purged = vault.run(How { purge_versions: true, ..USUAL }).unwrap();
    assert_eq!((purged.reencrypted, purged.purged, purged.residue), (0, 2, 0), "{purged:?}");
    assert_eq!(vault.contents(&["new"])["p/a.enc"], expected[..1]);
    assert_eq!(vault.opened_by("old"), 0);
}

#[test]
fn without_purge_everything_stays_and_the_journal_tells_what_was_replaced() {
    let vault = Vault::new(VERSIONS);
    vault.store("a", b"contents");
    vault.store("b", b"contents of b");
    vault.grow_old();
    let how = How { journal: true, ..USUAL };
    let kept = vault.run(How { purge: false, ..how }).unwrap();
    assert_eq!((kept.reencrypted, kept.purged, kept.residue), (2, 0, 2), "{kept:?}");
    assert_eq!(vault.contents(&["new", "old"])["p/a.enc"], [b"contents", b"contents"]);
    // What it replaced holds nothing that the new one does not: it may go without --purge-versions.
    let done = vault.run(how).unwrap();
    assert_eq!((done.reencrypted, done.resumed, done.purged, done.residue), (0, 2, 2, 0), "{done:?}");
    assert_eq!(vault.opened_by("old"), 0);
    assert_eq!(vault.run(how).unwrap().resumed, 2);
}

/// Every version that was there is there still, or its contents are; and the current contents are the same.
#[track_caller]
fn nothing_is_lost(vault: &Vault, before: &BTreeMap<String, Vec<Vec<u8>>>, context: &str) {
    let now = vault.contents(&["old", "new"]);
    for (name, versions) in before {
        assert_eq!(now[name][0], versions[0], "{context}: {name}");
        for version in versions {
            assert!(now[name].contains(version), "{context}: a version of {name} is lost");
        }
    }
}

/// How a call goes wrong, and whether the run dies there.
const STOPS: [(Fault, bool); 5] = [
    (Fault::Before(ErrorKind::Transient), true),
    (Fault::After(ErrorKind::Transient), true),
    (Fault::Before(ErrorKind::Transient), false),
    (Fault::After(ErrorKind::Unsure), false),
    (Fault::HalfWay(ErrorKind::Transient), false),
];

#[test]
fn nothing_is_lost_wherever_a_large_upload_ends() {
    let origin = Vault::new(VERSIONS);
    origin.store("large", &large());
    origin.grow_old();
    let before = origin.contents(&["old"]);
    let how = How { journal: true, ..USUAL };
    let (mut stopped_at, mut unfinished) = (BTreeSet::new(), 0);
    for number in 1.. {
        let (fault, dies) = STOPS[number as usize % 5];
        let vault = origin.fresh();
        match dies {
            true => vault.faulty.die_at(number, fault),
            false => vault.faulty.fail_at(number, fault),
        }
        let stopped = vault.run(how);
        if vault.faulty.calls() < number {
            break;
        }
        let call = vault.faulty.log().swap_remove(number as usize - 1);
        let context = format!("{dies} at {call}: {stopped:?}");
        stopped_at.insert(format!("{:?}", call.operation));
        let left = vault.unfinished();
        unfinished += left;
        assert!(
            left == 0 || dies || call.operation == Operation::AbortUpload,
            "{left} unfinished: {context}"
        );
        nothing_is_lost(&vault, &before, &context);
        vault.faulty.restart();
        let again = vault.run(how).unwrap();
        assert_eq!(again.failed, 0, "{again:?}: {context}");
        vault.run(How { purge_versions: true, ..how }).unwrap();
        let after = vault.contents(&["new"]);
        assert!(after["p/large.enc"].iter().all(|version| *version == before["p/large.enc"][0]), "{context}");
    }
    println!("stopped at {stopped_at:?}, {unfinished} uploads were left unfinished");
    for operation in ["Upload", "Part", "Complete"] {
        assert!(stopped_at.contains(operation), "{stopped_at:?}");
    }
    assert!(unfinished > 0);
}

#[test]
fn nothing_is_lost_wherever_a_run_ends() {
    for features in [VERSIONS, Features { versions: false, conditions: false }] {
        let origin = Vault::new(features);
        origin.store("a", b"first");
        if features.versions {
            origin.store("a", b"second");
        }
        origin.grow_old();
        let before = origin.contents(&["old"]);
        let how = How { journal: true, ..USUAL };
        let mut total = 0;
        'calls: for number in 1.. {
            // Of the ways to stop, two at each call, all of them in turn.
            for (fault, dies) in [STOPS[number as usize % 5], STOPS[(number as usize + 2) % 5]] {
                let vault = origin.fresh();
                match dies {
                    true => vault.faulty.die_at(number, fault),
                    false => vault.faulty.fail_at(number, fault),
                }
                let stopped = vault.run(how);
                if vault.faulty.calls() < number {
                    break 'calls;
                }
                total += 1;
                let context = format!("{features:?} {fault:?} {dies} at {number}: {stopped:?}");
                nothing_is_lost(&vault, &before, &context);
                vault.faulty.restart();
                let again = vault.run(how).unwrap();
                assert_eq!(again.failed, 0, "{again:?}: {context}");
                nothing_is_lost(&vault, &before, &context);
                // What is current is for the new key, and once more with older versions gone too.
                vault.run(How { purge_versions: true, ..how }).unwrap();
                let current: BTreeMap<_, _> =
                    before.iter().map(|(name, all)| (name.clone(), all[0].clone())).collect();
                let left = vault.contents(&["new"]);
                assert!(left.values().all(|all| all.iter().all(|one| *one == all[0])), "{context}");
                let left: BTreeMap<_, _> =
                    left.into_iter().map(|(name, mut all)| (name, all.swap_remove(0))).collect();
                assert_eq!(left, current, "{context}");
            }
        }
        assert!(total > 30, "{total}");
    }
}

#[test]
fn what_somebody_puts_meanwhile_stays_the_current_version() {
    // Before each call of the run somebody else puts a new pair over the one that is worked on.
    for features in [VERSIONS, Features { versions: true, conditions: false }] {
        for number in 1.. {
            let vault = Vault::new(features);
            vault.store("a", b"mine");
            vault.grow_old();
            let theirs = Vault {
                place: Place::with_keys(),
                memory: vault.memory.clone(),
                faulty: vault.faulty.clone(),
            };
            vault.faulty.plan(move |call| {
                if call.number == number {
                    theirs.store("a", b"theirs");
                }
                None
            });
            let summary = vault.run(USUAL).unwrap();
            let calls = vault.faulty.calls();
            let context = format!("{features:?} at {number} of {calls}: {summary:?}");
            let log: Vec<String> = vault.faulty.log().iter().map(ToString::to_string).collect();
            // The plan holds the other writer, who holds the store with the plan.
            vault.faulty.plan(|_| None);
            let now = vault.contents(&["old", "new"]);
            if number <= calls {
                assert_eq!(now["p/a.enc"][0], b"theirs", "{context} {log:#?}");
            } else {
                break;
            }
        }
    }
}

#[test]
fn the_report_is_one_that_merge_reads() {
    let vault = Vault::new(VERSIONS);
    vault.store("a", b"contents");
    vault.grow_old();
    let path = vault.place.path("report.jsonl");
    let ledger = Ledger::open(&path).unwrap();
    let summary = vault.run_with(USUAL, Some(&ledger)).unwrap();
    let mut results = vec![];
    let runs = read(&path, |line| {
        results.extend(line.value.get("result").cloned());
        Ok(())
    })
    .unwrap();
    assert_eq!((runs.len(), &runs[0].head), (1, summary.head.as_ref().unwrap()));
    assert_eq!((runs[0].count("reencrypted"), results), (1, vec!["reencrypted".into()]));
}

#[test]
fn a_key_that_opens_nothing_changes_nothing() {
    let vault = Vault::new(VERSIONS);
    vault.store("a", b"contents");
    let before = vault.stored();
    let other =
        Vault { place: Place::with_keys(), memory: vault.memory.clone(), faulty: vault.faulty.clone() };
    std::fs::copy(other.place.path("keys/new.pem"), other.place.path("keys/old.pem")).unwrap();
    let summary = other.run(USUAL).unwrap();
    assert_eq!((summary.reencrypted, summary.not_ours, summary.failed), (0, 1, 0), "{summary:?}");
    let clock = |(key, _): &(String, Bytes)| !key.contains(".sidekey");
    assert_eq!(vault.stored().into_iter().filter(clock).collect::<Vec<_>>(), before);
}
