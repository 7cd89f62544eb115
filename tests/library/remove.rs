//! `rm` and `clean` in the store in memory, which has every feature and a clock of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::{FutureExt as _, StreamExt as _};
use sidekey::format::section::DigestKind;
use sidekey::location::Location;
use sidekey::location::argument::Target;
use sidekey::location::customer::PairEncryption;
use sidekey::location::drive::IfExists;
use sidekey::ops::clean::{CleanOptions, CleanSummary, LeftoverKind, plan};
use sidekey::ops::events::{Event, Observer, Silent};
use sidekey::ops::filter::{Filter, Rule};
use sidekey::ops::put::{self, PutOptions};
use sidekey::ops::remove::{RemoveOptions, RemoveSummary, Source, remove};
use sidekey::store::memory::{Features, MemoryStore};
use sidekey::store::{self, ListOptions, Listed, Store as _};
use sidekey::{ErrorKind, Result};

use crate::common::Place;

const DAY: Duration = Duration::from_secs(86_400);

/// A location in memory below a prefix, and beside it an object of somebody else's.
struct Vault {
    place: Place,
    store: MemoryStore,
}

impl Vault {
    fn new(versions: bool, conditions: bool) -> Self {
        let store = MemoryStore::new(Features { versions, conditions });
        store.state().put("elsewhere", "x".into(), &store::OnlyIf::Always, &store::Info::new()).unwrap();
        Self { place: Place::with_keys(), store }
    }

    fn location(&self) -> Location {
        Location::new(Arc::new(self.store.clone()), "some/prefix").unwrap()
    }

    fn target(&self, path: &str) -> Target {
        Target::new(self.location(), path.as_bytes()).unwrap()
    }

    /// The time by the store's clock.
    fn now(&self) -> SystemTime {
        let mut state = self.store.state();
        state.put("clock", "x".into(), &store::OnlyIf::Always, &store::Info::new()).unwrap();
        let (object, _) = state.get("clock", None).unwrap();
        state.delete("clock", &object.version);
        object.modified
    }

    fn advance(&self, days: u32) {
        self.store.state().advance(DAY * days);
    }

    fn put(&self, name: &str, contents: &str) {
        let folder = self.place.path(format!("in/{name}")).parent().unwrap().to_owned();
        std::fs::create_dir_all(folder).unwrap();
        self.place.write(format!("in/{name}"), contents);
        let options = PutOptions {
            journals: None,
            location: self.location(),
            target: put::Target::Named(name.split('/').map(|segment| segment.as_bytes().to_vec()).collect()),
            except: None,
            recipients: vec![self.place.public("old")],
            if_exists: IfExists::Replace,
            filter: Filter::default(),
            exclude_caches: false,
            one_file_system: false,
            follow: false,
            folder_metadata: false,
            digest: DigestKind::Sha256,
            encryption: PairEncryption::ByDefault,
            jobs: 1,
            dry_run: false,
            now: self.now(),
        };
        let summary = put::put(&[self.place.path(format!("in/{name}"))], &options, &Silent).unwrap();
        assert_eq!((summary.done, summary.failed), (1, 0));
    }

    fn remove(&self, path: &str, versions: bool) -> Result<RemoveSummary> {
        let options = self.options(versions);
        remove(&[Source::new(self.target(path))], &options, &Silent)
    }

    fn options(&self, versions: bool) -> RemoveOptions {
        let filter = Filter::default();
        RemoveOptions { recursive: true, versions, filter, dry_run: false, jobs: 2, now: self.now() }
    }

    fn clean(&self) -> CleanSummary {
        let options = CleanOptions { age: DAY * 30, now: self.now() };
        plan(&self.target(""), options, &Silent).unwrap().clean(&mut |_, _| {}).unwrap()
    }

    /// How many versions each name has, envelopes without the data id; markers are counted behind a point.
    fn stored(&self) -> BTreeMap<String, String> {
        let mut all: BTreeMap<String, (u32, u32)> = BTreeMap::new();
        for listed in self.store.state().list(&ListOptions { versions: true, ..ListOptions::default() }) {
            let Listed::Object(object) = listed else { panic!("{listed:?}") };
            let name = match object.key.strip_suffix(".key.enc") {
                Some(front) => format!("{}.KEY", front.rsplit_once('.').unwrap().0),
                None => object.key,
            };
            let name = name.strip_prefix("some/prefix/").unwrap_or(&name).to_owned();
            let counts = all.entry(name).or_default();
            *(if object.marker { &mut counts.1 } else { &mut counts.0 }) += 1;
        }
        all.into_iter().map(|(name, (versions, markers))| (name, format!("{versions}.{markers}"))).collect()
    }
}

fn map(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    let own = |(name, count): &(&str, &str)| ((*name).to_owned(), (*count).to_owned());
    all.iter().map(own).chain([("elsewhere".to_owned(), "1.0".to_owned())]).collect()
}

fn told(removed: u64, hidden: u64, versions: u64, envelopes: u64, young: u64) -> [u64; 5] {
    [removed, hidden, versions, envelopes, young]
}

fn counts(summary: &RemoveSummary) -> [u64; 5] {
    assert_eq!((summary.failed, summary.skipped, summary.kept), (0, 0, 0), "{summary:?}");
    told(summary.removed, summary.hidden, summary.versions, summary.envelopes, summary.young)
}

#[test]
fn where_there_are_versions_an_object_is_hidden_and_can_then_be_deleted_for_ever() {
    for conditions in [true, false] {
        let vault = Vault::new(true, conditions);
        vault.put("a", "old");
        vault.put("a", "new");
        vault.advance(8);
        assert_eq!(counts(&vault.remove("a", false).unwrap()), told(0, 1, 0, 0, 0));
        assert_eq!(vault.stored(), map(&[("a.KEY", "2.0"), ("a.enc", "2.1")]));
        // Hidden is gone for those who do not ask for versions.
        let again = vault.remove("a", false).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::NotFound);
        assert_eq!(vault.remove("", false).unwrap(), RemoveSummary::default());
        // A dry run changes nothing.
        let options = RemoveOptions { dry_run: true, ..vault.options(true) };
        let would = remove(&[Source::new(vault.target("a"))], &options, &Silent).unwrap();
        assert_eq!(would.removed, 1);
        assert_eq!(vault.stored(), map(&[("a.KEY", "2.0"), ("a.enc", "2.1")]));
        // The marker is young, and needs no key.
        let gone = vault.remove("a", true).unwrap();
        assert_eq!((gone.removed, gone.hidden, gone.failed), (1, 0, 0), "{gone:?}");
        assert!(!vault.stored().contains_key("a.enc"), "{:?}", vault.stored());
        vault.advance(31);
        vault.clean();
        assert_eq!(vault.stored(), map(&[]));
    }
}

#[test]
fn a_folder_is_removed_with_what_is_hidden_in_it() {
    let vault = Vault::new(true, true);
    for name in ["d/a", "d/b", "d/e/c", "x"] {
        vault.put(name, name);
    }
    vault.advance(8);
    assert_eq!(counts(&vault.remove("d/b", false).unwrap()), told(0, 1, 0, 0, 0));
    assert_eq!(counts(&vault.remove("d", false).unwrap()), told(0, 2, 0, 0, 0));
    // The envelopes are all that is listed now.
    assert_eq!(counts(&vault.remove("d", false).unwrap()), told(0, 0, 0, 0, 0));
    let gone = vault.remove("d", true).unwrap();
    assert_eq!((gone.removed, gone.failed), (3, 0), "{gone:?}");
    vault.advance(31);
    vault.clean();
    assert_eq!(vault.stored(), map(&[("x.KEY", "1.0"), ("x.enc", "1.0")]));
}

#[test]
fn without_versions_the_envelope_goes_when_the_container_was_old() {
    for conditions in [true, false] {
        let vault = Vault::new(false, conditions);
        vault.put("old", "1");
        vault.advance(8);
        vault.put("young", "2");
        assert_eq!(counts(&vault.remove("old", false).unwrap()), told(1, 0, 1, 1, 0));
        assert_eq!(counts(&vault.remove("young", false).unwrap()), told(1, 0, 1, 0, 1));
        assert_eq!(vault.stored(), map(&[("young.KEY", "1.0")]));
        vault.advance(30);
        assert_eq!(vault.clean(), CleanSummary::default());
        vault.advance(1);
        assert_eq!(vault.clean().envelopes, 1);
        assert_eq!(vault.stored(), map(&[]));
    }
}

#[test]
fn a_clock_of_this_machine_that_is_ahead_makes_nothing_old() {
    let vault = Vault::new(false, true);
    vault.put("a", "1");
    let options = RemoveOptions { now: vault.now() + DAY * 365, ..vault.options(false) };
    let summary = remove(&[Source::new(vault.target("a"))], &options, &Silent).unwrap();
    assert_eq!(counts(&summary), told(1, 0, 1, 0, 1));
    let options = CleanOptions { age: DAY * 30, now: vault.now() + DAY * 365 };
    let plan = plan(&vault.target(""), options, &Silent).unwrap();
    assert_eq!(plan.deletions().count(), 1);
    let summary = plan.clean(&mut |_, done| assert!(!done.unwrap())).unwrap();
    assert_eq!((summary.kept, summary.deleted()), (1, 0));
    assert_eq!(vault.stored(), map(&[("a.KEY", "1.0")]));
}

/// What was told, one line each.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Observer for Told {
    fn event(&self, event: Event<'_>) {
        let line = match event {
            Event::Removed { object, .. } => format!("removed {object}"),
            Event::Skipped { path, why } => format!("skipped {}: {why}", path.display()),
            Event::Failed(error) => format!("failed {}", error.line()),
            other => format!("{other:?}"),
        };
        self.0.lock().unwrap().push(line);
    }
}

#[test]
fn patterns_and_foreign_objects_are_left_alone() {
    let vault = Vault::new(false, true);
    for name in ["d/a.txt", "d/b.tmp", "d/tmp/c.txt"] {
        vault.put(name, name);
    }
    for key in ["some/prefix/d/theirs", "some/prefix/d/%b64~YQ.enc"] {
        vault.store.state().put(key, "x".into(), &store::OnlyIf::Always, &store::Info::new()).unwrap();
    }
    let rules = ["*.tmp", "tmp/"].map(|pattern| Rule::Exclude(pattern.into()));
    let options = RemoveOptions { filter: Filter::new(&rules).unwrap(), ..vault.options(false) };
    let told = Told::default();
    let summary = remove(&[Source::new(vault.target("d"))], &options, &told).unwrap();
    assert_eq!((summary.removed, summary.skipped, summary.failed), (1, 4, 0));
    let mut told = told.0.into_inner().unwrap();
    told.sort();
    assert_eq!(
        told,
        [
            "removed memory:some/prefix/d/a.txt.enc",
            "skipped memory:some/prefix/d/%b64~YQ.enc: has a name that sidekey never writes, and is left alone",
            "skipped memory:some/prefix/d/b.tmp.enc: is excluded by *.tmp",
            "skipped memory:some/prefix/d/theirs: is not sidekey's, and is left alone",
            "skipped memory:some/prefix/d/tmp/c.txt.enc: is excluded by tmp/",
        ]
    );
}

#[test]
fn uploads_of_a_location_that_nobody_finished_go_when_they_are_old() {
    let vault = Vault::new(true, true);
    for key in ["some/prefix/a.enc", "some/other/b.enc"] {
        let options = store::PutOptions::default();
        let upload = vault.store.upload(key, &options);
        drop(upload.now_or_never().unwrap().unwrap());
    }
    vault.advance(30);
    assert_eq!(vault.clean(), CleanSummary::default());
    vault.advance(1);
    vault.put("d/x", "x");
    let options = CleanOptions { age: DAY * 30, now: vault.now() };
    let planned: Vec<_> = plan(&vault.target(""), options, &Silent).unwrap().deletions().collect();
    assert_eq!(planned.len(), 1);
    assert_eq!(
        (planned[0].kind, planned[0].object.as_str()),
        (LeftoverKind::Upload, "memory:some/prefix/a.enc")
    );
    // Of a folder only what is in it.
    assert_eq!(plan(&vault.target("d/"), options, &Silent).unwrap().deletions().count(), 0);
    assert_eq!(plan(&vault.target("e/"), options, &Silent).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(vault.clean().uploads, 1);
    assert_eq!(vault.store.unfinished("").count().now_or_never().unwrap(), 1);
}
