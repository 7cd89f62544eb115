//! `sync` against a model: whatever is edited, and wherever a run dies, the next runs make both sides alike, and what
//! is restored elsewhere is the source.
#![allow(clippy::disallowed_methods, reason = "tests ask for the time and write files of their own")]

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use sidekey::ErrorKind;
use sidekey::location::Location;
use sidekey::location::argument::Target as LocationTarget;
use sidekey::ops::events::{Event, Observer, Silent};
use sidekey::ops::filter::{Filter, Rule};
use sidekey::ops::get::{GetOptions, Overwrite, Source, Which, get};
use sidekey::ops::put::{PutOptions, Target};
use sidekey::ops::sync::{Compare, SyncOptions, SyncSummary, pull, push};
use sidekey::random::OsRandom;
use sidekey::store::faulty::{Fault, Faulty, Operation};
use sidekey::store::memory::{Features, MemoryStore};
use sidekey::vault::{MasterKey, NamesMode, Vault, VaultId};

use crate::common::{Place, noise, same_trees};
use crate::edits::{Dice, edit};
use crate::put;

fn memory(versions: bool) -> MemoryStore {
    MemoryStore::new(Features { versions, conditions: true })
}

/// A source `src`, a state folder, and a location whose calls can be made to fail.
struct World {
    place: Place,
    memory: MemoryStore,
    store: Faulty<MemoryStore>,
    vault: Option<Arc<Vault>>,
}

impl World {
    fn new(versions: bool) -> Self {
        let place = Place::with_keys();
        place.mkdir("src");
        let memory = memory(versions);
        let store = Faulty::new(Arc::new(memory.clone()));
        Self { place, memory, store, vault: None }
    }

    fn location(&self) -> Location {
        let location = Location::new(Arc::new(self.store.clone()), "some/prefix").unwrap();
        match &self.vault {
            Some(vault) => location.in_vault(Arc::clone(vault)),
            None => location,
        }
    }

    fn put_options(&self) -> PutOptions {
        PutOptions {
            location: self.location(),
            target: Target::Below(vec![b"sub".to_vec()]),
            now: SystemTime::now(),
            ..put::options(&self.place, &self.memory)
        }
    }

    fn options(&self) -> SyncOptions {
        SyncOptions {
            compare: Compare::SizeMtime,
            delete: true,
            keep_days: None,
            max_delete: None,
            force: true,
            filter: Filter::default(),
            exclude_caches: false,
            one_file_system: false,
            dry_run: false,
            jobs: 2,
            state: self.place.path("state"),
            now: SystemTime::now(),
        }
    }

    fn push(&self) -> SyncSummary {
        self.push_with(&self.options())
    }

    fn push_with(&self, options: &SyncOptions) -> SyncSummary {
        push(&self.place.path("src"), &self.put_options(), options, &Silent).unwrap()
    }

    fn get_options(&self) -> GetOptions {
        GetOptions {
            identities: vec![self.place.private("old")],
            which: Which::Current,
            overwrite: Overwrite::Always,
            filter: Filter::default(),
            strict: true,
            resume: true,
            salvage: false,
            dry_run: false,
            recipe: sidekey::recipe::Named::default(),
            jobs: Some(2),
        }
    }

    fn target(&self) -> LocationTarget {
        LocationTarget::new(self.location(), b"sub/").unwrap()
    }

    fn pull(&self, folder: &str, options: &SyncOptions) -> SyncSummary {
        pull(&self.target(), &self.place.path(folder), &self.get_options(), options, &Silent).unwrap()
    }

    /// What is there, restored by `get` into a new folder, is the source.
    #[track_caller]
    fn is_restored(&self) {
        let _ = std::fs::remove_dir_all(self.place.path("back"));
        self.place.mkdir("back");
        if !self.place.tree("src").is_empty() {
            let sources = [Source::new(self.target())];
            let summary = get(&sources, &self.place.path("back"), &self.get_options(), &Silent).unwrap();
            assert_eq!((summary.failed, summary.integrity), (0, 0), "{summary:?}");
        }
        same_trees(&self.place.tree("back"), &self.place.tree("src"), false);
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::create_dir_all(self.place.path("src").join(name).parent().unwrap()).unwrap();
        self.place.write(format!("src/{name}"), bytes);
    }

    /// The calls of one run, by what they do.
    fn calls(&self, run: impl FnOnce()) -> Vec<Operation> {
        self.store.restart();
        run();
        let log = self.store.log();
        log.into_iter().map(|call| call.operation).filter(|call| *call != Operation::Capabilities).collect()
    }
}

/// Edits and runs, some of which die at a random call of the store; a whole run and a restore after each.
fn model(versions: bool, seed: u64, rounds: usize) {
    let world = World::new(versions);
    let mut dice = Dice(seed);
    let (mut edits, mut deaths) = (0, 0);
    for round in 0..rounds {
        for _ in 0..1 + dice.roll(12) {
            edit(&world.place.path("src"), &mut dice);
            edits += 1;
        }
        for _ in 0..dice.roll(3) {
            let faults = [
                Fault::Before(ErrorKind::Transient),
                Fault::HalfWay(ErrorKind::Transient),
                Fault::After(ErrorKind::Unsure),
            ];
            world.store.restart();
            world.store.die_at(1 + dice.roll(30) as u64, faults[dice.roll(3)]);
            let _ = push(&world.place.path("src"), &world.put_options(), &world.options(), &Silent);
            deaths += u32::from(world.store.is_dead());
            world.store.restart();
            edit(&world.place.path("src"), &mut dice);
        }
        // A link that is made while a run begins is stored once more by the next.
        std::thread::sleep(Duration::from_millis(30));
        let summary = world.push();
        assert_eq!(summary.failed, 0, "seed {seed}, round {round}: {summary:?}");
        world.is_restored();
        let again = world.push();
        let done = again.new + again.changed + again.moved + again.deleted;
        assert_eq!(done, 0, "seed {seed}, round {round}: {again:?}");
        if round % 4 == 0 {
            let mut options = world.options();
            options.state = world.place.path("state-of-pull");
            assert_eq!(world.pull("pulled", &options).failed, 0);
            same_trees(&world.place.tree("pulled"), &world.place.tree("src"), false);
        }
    }
    println!("versions {versions}, seed {seed}: {rounds} rounds, {edits} edits, {deaths} deaths");
    assert!(deaths > 0);
}

#[test]
fn whatever_is_edited_and_wherever_a_run_dies_both_sides_become_alike() {
    model(false, 0x5eed, 25);
    model(true, 0xfeed, 25);
}

#[test]
fn nothing_unchanged_is_read_and_one_listing_is_all() {
    let world = World::new(false);
    for number in 0..20 {
        world.write(&format!("folder{}/{number}", number % 3), noise(100, number));
    }
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(world.push().new, 20);
    let calls = world.calls(|| {
        let summary = world.push();
        assert_eq!((summary.unchanged, summary.bytes, summary.new), (20, 0, 0), "{summary:?}");
    });
    assert_eq!(calls, [Operation::List]);
}

#[test]
fn a_renamed_folder_is_copied_there_and_a_renamed_file_is_stored_anew() {
    let world = World::new(false);
    world.write("old/a", noise(5000, 1));
    world.write("old/b", noise(5000, 2));
    world.write("c", noise(5000, 3));
    std::thread::sleep(Duration::from_millis(30));
    world.push();
    std::fs::rename(world.place.path("src/old"), world.place.path("src/new")).unwrap();
    std::fs::rename(world.place.path("src/c"), world.place.path("src/d")).unwrap();
    let calls = world.calls(|| {
        let summary = world.push();
        assert_eq!(
            (summary.moved, summary.new, summary.deleted, summary.bytes),
            (2, 1, 3, 5000),
            "{summary:?}"
        );
    });
    assert_eq!(calls.iter().filter(|call| **call == Operation::Copy).count(), 2);
    world.is_restored();
    assert_eq!(world.push().unchanged, 3);
}

#[test]
fn where_the_store_cannot_copy_what_was_moved_is_stored_again() {
    let world = World::new(false);
    world.write("old/a", noise(5000, 1));
    std::thread::sleep(Duration::from_millis(30));
    world.push();
    std::fs::rename(world.place.path("src/old"), world.place.path("src/new")).unwrap();
    world.store.restart();
    world.store.plan(|call| (call.operation == Operation::Copy).then_some(Fault::Before(ErrorKind::Refused)));
    let summary = world.push();
    assert_eq!((summary.moved, summary.new, summary.deleted, summary.failed), (0, 1, 1, 0), "{summary:?}");
    world.store.restart();
    world.is_restored();
}

#[test]
fn without_delete_nothing_is_removed_and_an_empty_source_removes_nothing() {
    let world = World::new(false);
    world.write("a", "a");
    world.write("b", "b");
    world.push();
    std::fs::remove_file(world.place.path("src/a")).unwrap();
    let summary = world.push_with(&SyncOptions { delete: false, ..world.options() });
    assert_eq!((summary.deleted, summary.kept), (0, 1));
    let count = || world.memory.state().list(&sidekey::store::ListOptions::default()).len();
    let before = count();
    std::fs::remove_file(world.place.path("src/b")).unwrap();
    let refused = |options: SyncOptions| {
        push(&world.place.path("src"), &world.put_options(), &options, &Silent).unwrap_err()
    };
    let error = refused(SyncOptions { force: false, ..world.options() });
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    let error = refused(SyncOptions { max_delete: Some(1), ..world.options() });
    assert!(error.line().contains("2 objects would be removed"), "{error:?}");
    let error = refused(SyncOptions { keep_days: Some(1), ..world.options() });
    assert!(error.line().contains("keeps no versions"), "{error:?}");
    assert_eq!(count(), before);
    std::fs::remove_dir(world.place.path("src")).unwrap();
    assert_eq!(refused(world.options()).kind(), ErrorKind::NotFound);
    assert_eq!(count(), before);
    world.place.mkdir("src");
    assert_eq!(world.push().deleted, 2);
}

#[test]
fn what_cannot_be_read_or_is_left_out_does_not_count_as_gone() {
    let world = World::new(false);
    for name in ["a", "cache/x", "keep.tmp", "gone"] {
        world.write(name, name);
    }
    world.push();
    world.place.write("src/cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55");
    std::fs::remove_file(world.place.path("src/gone")).unwrap();
    let filter = || Filter::new(&[Rule::Exclude("*.tmp".into())]).unwrap();
    let options = SyncOptions { exclude_caches: true, filter: filter(), ..world.options() };
    let summary = world.push_with(&options);
    assert_eq!((summary.deleted, summary.new), (1, 0), "{summary:?}");
    std::fs::remove_file(world.place.path("src/keep.tmp")).unwrap();
    assert_eq!(world.push_with(&SyncOptions { filter: filter(), ..world.options() }).deleted, 0);
}

#[test]
fn a_lost_envelope_is_noticed_in_the_listing_and_the_file_stored_again() {
    let world = World::new(false);
    world.write("a", "contents");
    world.push();
    {
        let mut state = world.memory.state();
        let listed = state.list(&sidekey::store::ListOptions::default());
        for line in listed {
            let sidekey::store::Listed::Object(object) = line else { continue };
            if object.key.ends_with(".key.enc") {
                state.delete(&object.key, &object.version);
            }
        }
    }
    assert_eq!(world.push().changed, 1);
    world.is_restored();
}

#[test]
fn the_same_contents_in_another_file_are_not_stored_again_but_another_time_or_mode_is_noticed() {
    let world = World::new(false);
    world.write("a", "contents");
    let path = world.place.path("src/a");
    std::thread::sleep(Duration::from_millis(30));
    world.push();
    let time = path.metadata().unwrap().modified().unwrap();
    // Another inode, the same size and time: the contents tell.
    let again = |bytes: &str| {
        std::fs::write(world.place.path("other"), bytes).unwrap();
        std::fs::set_permissions(world.place.path("other"), PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::File::open(world.place.path("other")).unwrap().set_modified(time).unwrap();
        std::fs::rename(world.place.path("other"), &path).unwrap();
    };
    again("contents");
    assert_eq!((world.push().changed, world.push().unchanged), (0, 1));
    again("c0ntents");
    assert_eq!(world.push().changed, 1);
    world.is_restored();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    assert_eq!(world.push().changed, 1);
    world.is_restored();
    // Contents alone, where that is asked for.
    std::fs::File::open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let by_digest = || SyncOptions { compare: Compare::Digest, ..world.options() };
    assert_eq!(world.push_with(&by_digest()).changed, 0);
    std::fs::write(&path, "CONTENTS").unwrap();
    std::fs::File::open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(world.push().unchanged, 0, "the time of change is this run's");
    assert_eq!(world.push_with(&by_digest()).unchanged, 1);
    world.is_restored();
}

#[test]
fn a_database_that_is_lost_or_damaged_costs_work_and_loses_nothing() {
    let world = World::new(true);
    world.write("a", "a");
    world.push();
    for entry in std::fs::read_dir(world.place.path("state")).unwrap().flatten() {
        if entry.path().extension().is_some_and(|end| end == "sqlite") {
            std::fs::write(entry.path(), noise(9000, 3)).unwrap();
        }
    }
    #[derive(Default)]
    struct Warnings(Mutex<Vec<String>>);
    impl Observer for Warnings {
        fn event(&self, event: Event<'_>) {
            if let Event::Warning { message, .. } = event {
                self.0.lock().unwrap().push(message.to_owned());
            }
        }
    }
    let warnings = Warnings::default();
    let summary = push(&world.place.path("src"), &world.put_options(), &world.options(), &warnings).unwrap();
    assert_eq!((summary.changed, summary.failed), (1, 0));
    let warnings = warnings.0.into_inner().unwrap();
    assert!(
        warnings[0].contains("set aside") && warnings[1].contains("nothing is remembered"),
        "{warnings:?}"
    );
    assert_eq!(world.push().unchanged, 1);
    world.is_restored();
}

#[test]
fn a_dry_run_tells_the_plan_and_does_nothing() {
    #[derive(Default)]
    struct Plan(Mutex<BTreeSet<String>>);
    impl Observer for Plan {
        fn event(&self, event: Event<'_>) {
            if let Event::Synced { change, path, from, dry_run: true, .. } = event {
                self.0.lock().unwrap().insert(format!("{change:?} {path} {}", from.unwrap_or("-")));
            }
        }
    }
    let world = World::new(false);
    for name in ["same", "mode", "changed", "gone", "old/moved"] {
        world.write(name, name);
    }
    std::thread::sleep(Duration::from_millis(30));
    world.push();
    world.write("changed", "longer than before");
    world.write("new", "new");
    std::fs::remove_file(world.place.path("src/gone")).unwrap();
    std::fs::rename(world.place.path("src/old"), world.place.path("src/young")).unwrap();
    std::fs::set_permissions(world.place.path("src/mode"), PermissionsExt::from_mode(0o640)).unwrap();
    let plan = Plan::default();
    let options = SyncOptions { dry_run: true, ..world.options() };
    let mut summary = None;
    let calls = world.calls(|| {
        summary = Some(push(&world.place.path("src"), &world.put_options(), &options, &plan).unwrap());
    });
    assert_eq!(calls, [Operation::List]);
    let expected = [
        "Contents changed -",
        "Deleted gone -",
        "Deleted old/moved -",
        "Metadata mode -",
        "Moved young/moved old/moved",
        "New new -",
    ];
    assert_eq!(plan.0.into_inner().unwrap().into_iter().collect::<Vec<_>>(), expected);
    let would = summary.unwrap();
    let done = world.push();
    let counts =
        |all: &SyncSummary| (all.new, all.changed, all.moved, all.deleted, all.unchanged, all.failed);
    assert_eq!(counts(&would), counts(&done));
}

#[test]
fn kept_days_remove_for_good_what_was_hidden_or_replaced_before_them() {
    let world = World::new(true);
    world.write("replaced", "1");
    world.write("gone", "1");
    world.write("stays", "1");
    world.push();
    world.write("replaced", "22");
    std::fs::remove_file(world.place.path("src/gone")).unwrap();
    assert_eq!(world.push().deleted, 1);
    let containers = || {
        let all = put::stored(&world.memory);
        all.iter()
            .filter(|(key, _)| !key.ends_with(".key.enc"))
            .map(|(_, versions)| versions.len())
            .sum::<usize>()
    };
    let keep = || SyncOptions { keep_days: Some(30), ..world.options() };
    assert_eq!(world.push_with(&keep()).purged, 0);
    world.memory.state().advance(Duration::from_secs(31 * 86_400));
    let mut options = keep();
    options.now = SystemTime::now() + Duration::from_secs(31 * 86_400);
    let summary = world.push_with(&options);
    assert_eq!(summary.purged, 2, "{summary:?}");
    let _ = containers;
    world.is_restored();
}

#[test]
fn a_location_comes_into_a_folder_and_only_what_differs_is_fetched() {
    let world = World::new(false);
    for name in ["a", "sub/b", "sub/c", "empty/x"] {
        world.write(name, noise(500, name.len() as u64));
    }
    symlink("a", world.place.path("src/link")).unwrap();
    std::fs::remove_file(world.place.path("src/empty/x")).unwrap();
    world.push();
    let options = || SyncOptions { state: world.place.path("pull-state"), ..world.options() };
    let first = world.pull("dst", &options());
    assert_eq!((first.new, first.failed), (5, 0), "{first:?}");
    same_trees(&world.place.tree("dst"), &world.place.tree("src"), false);
    let calls = world.calls(|| {
        let second = world.pull("dst", &options());
        assert_eq!((second.unchanged, second.bytes), (5, 0), "{second:?}");
    });
    assert_eq!(calls, [Operation::List]);
    // Types change, one is changed here, one there, one is gone.
    world.write("sub/b", "changed there");
    std::fs::remove_file(world.place.path("src/a")).unwrap();
    world.write("a/now/a/folder", "x");
    std::fs::remove_dir_all(world.place.path("src/empty")).unwrap();
    world.write("empty", "now a file");
    std::fs::remove_file(world.place.path("src/link")).unwrap();
    std::fs::write(world.place.path("dst/sub/c"), "changed here").unwrap();
    std::fs::create_dir_all(world.place.path("dst/only/here")).unwrap();
    std::fs::write(world.place.path("dst/only/here/too"), "x").unwrap();
    world.push();
    let kept = world.pull("dst", &SyncOptions { delete: false, dry_run: true, ..options() });
    assert_eq!(kept.deleted, 0);
    let third = world.pull("dst", &options());
    assert_eq!(third.failed, 0, "{third:?}");
    same_trees(&world.place.tree("dst"), &world.place.tree("src"), false);
}

#[test]
fn in_a_vault_a_copy_gets_a_record_for_its_new_name_and_no_name_is_in_the_clear() {
    let mut world = World::new(false);
    let master = MasterKey::generate(&OsRandom).unwrap();
    world.vault = Some(Arc::new(Vault::new(&master, VaultId([7; 16]), 1, NamesMode::Encrypted)));
    let long = "a very long name ".repeat(12);
    for name in ["secret-folder/plans", &format!("secret-folder/{long}"), "other"] {
        world.write(name, noise(3000, name.len() as u64));
    }
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(world.push().new, 3);
    world.is_restored();
    std::fs::rename(world.place.path("src/secret-folder"), world.place.path("src/secret-place")).unwrap();
    let summary = world.push();
    assert_eq!((summary.moved, summary.new, summary.failed), (2, 0, 0), "{summary:?}");
    world.is_restored();
    let calls = world.calls(|| assert_eq!(world.push().unchanged, 3));
    assert_eq!(calls.iter().filter(|call| **call != Operation::List).count(), 0, "{calls:?}");
    let options = SyncOptions { state: world.place.path("pull-state"), ..world.options() };
    assert_eq!(world.pull("pulled", &options).failed, 0);
    same_trees(&world.place.tree("pulled"), &world.place.tree("src"), false);
    for (key, versions) in put::stored(&world.memory) {
        let text = [key.as_bytes(), &versions.concat()].concat();
        for plain in ["secret", "plans", "very long"] {
            assert!(!text.windows(plain.len()).any(|window| window == plain.as_bytes()), "{key}: {plain}");
        }
    }
}

#[test]
fn in_a_vault_a_renamed_file_is_copied_there_with_a_record_for_its_new_name() {
    let mut world = World::new(false);
    let master = MasterKey::generate(&OsRandom).unwrap();
    world.vault = Some(Arc::new(Vault::new(&master, VaultId([8; 16]), 1, NamesMode::Encrypted)));
    let long = |end: &str| "a very long name ".repeat(12) + end;
    for name in ["a", "short", &long("1")] {
        world.write(name, noise(3000, name.len() as u64));
    }
    std::thread::sleep(Duration::from_millis(30));
    world.push();
    let rename = |from: &str, to: &str| {
        std::fs::rename(world.place.path("src").join(from), world.place.path("src").join(to)).unwrap();
    };
    rename("a", "b");
    rename("short", &long("2"));
    rename(&long("1"), "now short");
    let summary = world.push();
    assert_eq!((summary.moved, summary.new, summary.bytes, summary.failed), (3, 0, 0, 0), "{summary:?}");
    // With `strict`: the record is what counts, and not the name inside of the container.
    world.is_restored();
    // Two that change places.
    rename("b", "between");
    rename("now short", "b");
    rename("between", "now short");
    assert_eq!(world.push().failed, 0);
    world.is_restored();
    assert_eq!(world.push().unchanged, 3);
}

#[test]
fn in_a_vault_a_lost_database_is_found_out_from_info_records() {
    for versions in [false, true] {
        let mut world = World::new(versions);
        let master = MasterKey::generate(&OsRandom).unwrap();
        world.vault = Some(Arc::new(Vault::new(&master, VaultId([9; 16]), 1, NamesMode::Encrypted)));
        for number in 0..20 {
            world.write(&format!("folder{}/{number}", number % 3), noise(100 * number, number as u64));
        }
        world.write("large", noise(5 << 20, 3));
        world.place.mkdir("src/empty");
        symlink("somewhere", world.place.path("src/link")).unwrap();
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(world.push().new, 23);
        let lose = || std::fs::remove_dir_all(world.place.path("state")).unwrap();
        lose();
        let calls = world.calls(|| {
            let summary = world.push();
            assert_eq!((summary.unchanged, summary.learned, summary.bytes), (23, 23, 0), "{summary:?}");
        });
        assert!(calls.iter().all(|call| *call == Operation::List), "{calls:?}");
        // From then on it is remembered, the inode too.
        let summary = world.push();
        assert_eq!((summary.unchanged, summary.learned), (23, 0), "{summary:?}");
        let rename = |from: &str, to: &str| {
            let path = |name: &str| world.place.path("src").join(name);
            std::fs::rename(path(from), path(to)).unwrap();
        };
        rename("folder0/18", "folder0/renamed");
        assert_eq!(world.push().moved, 1);
        // The record of a large file has no digest, so that nothing tells whether it is the same one.
        rename("large", "larger");
        let summary = world.push();
        assert_eq!((summary.moved, summary.new, summary.deleted), (0, 1, 1), "{summary:?}");
        // What is another one now is stored, and nothing else.
        lose();
        world.write("folder1/1", noise(100, 99));
        let mode = PermissionsExt::from_mode(0o640);
        std::fs::set_permissions(world.place.path("src/folder2/2"), mode).unwrap();
        std::fs::remove_file(world.place.path("src/link")).unwrap();
        symlink("elsewhere", world.place.path("src/link")).unwrap();
        let summary = world.push();
        assert_eq!((summary.changed, summary.learned, summary.new), (3, 20, 0), "{summary:?}");
        world.is_restored();
        // The same contents under another time: by digest they are the same.
        lose();
        let file = std::fs::File::open(world.place.path("src/folder0/3")).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let digest = || SyncOptions { compare: Compare::Digest, ..world.options() };
        let summary = world.push_with(&digest());
        // A link's target and the digest of a large file, which is not known before it is sent, are in no record.
        assert_eq!((summary.changed, summary.unchanged, summary.failed), (2, 21, 0), "{summary:?}");
        // In the other direction nothing is fetched that is here, nor what is another one kept.
        std::fs::create_dir(world.place.path("pulled")).unwrap();
        let options = || SyncOptions { state: world.place.path("pull-state"), ..world.options() };
        assert_eq!(world.pull("pulled", &options()).new, 23);
        std::fs::remove_dir_all(world.place.path("pull-state")).unwrap();
        let calls = world.calls(|| {
            let summary = world.pull("pulled", &options());
            assert_eq!((summary.unchanged, summary.learned, summary.bytes), (23, 23, 0), "{summary:?}");
        });
        assert!(calls.iter().all(|call| *call == Operation::List), "{calls:?}");
        std::fs::remove_dir_all(world.place.path("pull-state")).unwrap();
        std::fs::write(world.place.path("pulled/folder1/1"), "edited here").unwrap();
        let summary = world.pull("pulled", &options());
        assert_eq!((summary.changed, summary.unchanged), (1, 22), "{summary:?}");
        assert_eq!(std::fs::read(world.place.path("pulled/folder1/1")).unwrap(), noise(100, 99));
    }
}
