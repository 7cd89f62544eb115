//! The command line on Backblaze B2: what a run calls, what it needs rights for, and what faults leave of it.

use std::collections::BTreeSet;
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::common::{Content, Ended, Place, SIDEKEY, ended, noise, same_trees};
use crate::server::{Calls, Key, Version, World};

/// A command of which the first word is the name, with `@` for the location.
const PUT: &str = "put -r keys/old.pub.pem tree/ @";
const GET: &str = "get -i keys/old.pem @ back/";
const LS: &str = "ls -lR @";
const VERIFY: &str = "verify -i keys/old.pem @";
const RM: &str = "rm -r @";

/// Some small files and one that is sent in parts, below `tree`.
fn planted(small: usize) -> Place {
    let place = Place::with_keys();
    place.mkdir("tree/sub");
    for number in 0..small {
        let folder = if number % 2 == 0 { "tree" } else { "tree/sub" };
        place.write(format!("{folder}/{number}"), noise(100 + number, number as u64 + 1));
    }
    place
}

fn with_large(small: usize) -> Place {
    let place = planted(small);
    place.write("tree/large", noise((11 << 20) + 1, 77));
    place
}

fn run(place: &Place, world: &World, line: &str) -> Ended {
    run_as(place, world, line, &Key { key_id: world.key_id.clone(), key: world.key.clone() })
}

fn run_as(place: &Place, world: &World, line: &str, key: &Key) -> Ended {
    let location = format!("b2://{}/backup/", world.bucket);
    let args: Vec<String> = line.split(' ').map(|word| word.replace('@', &location)).collect();
    ended(place.command(SIDEKEY, &args).envs(world.environment_of(key)))
}

/// Name, action, size and number of versions: what a run has to leave the same, whatever happened to it.
fn shape(world: &World) -> Vec<(String, String, u64)> {
    // A data id stands in the name of an envelope, and is another one in every run.
    let name = |version: &Version| match version.name.strip_suffix(".key.enc") {
        Some(name) => format!("{}.*.key.enc", name.rsplit_once('.').unwrap().0),
        None => version.name.clone(),
    };
    let versions = world.versions();
    let mut shape: Vec<_> =
        versions.iter().map(|each| (name(each), each.action.clone(), each.size)).collect();
    shape.sort();
    shape
}

#[test]
fn a_tree_goes_there_and_comes_back() {
    let (place, world) = (with_large(5), World::new(&json!({})));
    run(&place, &world, PUT).good();
    run(&place, &world, GET).good();
    same_trees(&place.tree("back"), &place.tree("tree"), false);
    let listed = run(&place, &world, "ls -R @").good();
    assert_eq!(listed.stdout.lines().filter(|line| !line.ends_with('/')).count(), 6, "{}", listed.stdout);
    run(&place, &world, VERIFY).good();
    assert!(shape(&world).iter().all(|(_, action, _)| action == "upload"));
    run(&place, &world, RM).good();
    assert_eq!(run(&place, &world, "ls -R @").stdout, "");
    let hidden = shape(&world).iter().filter(|(_, action, _)| action == "hide").count();
    assert_eq!(hidden, 6, "containers are hidden, envelopes are kept: {:?}", shape(&world));
    assert_eq!(world.calls().violations, [""; 0]);
}

#[test]
fn a_small_file_is_two_uploads_and_nothing_else() {
    const FILES: usize = 100;
    let (place, world) = (planted(FILES), World::new(&json!({})));
    run(&place, &world, PUT).good();
    let calls = world.calls();
    assert_eq!(calls.of("b2_upload_file"), 2 * FILES as u64, "{calls:?}");
    assert_eq!(calls.of("b2_authorize_account"), 1, "{calls:?}");
    assert_eq!(calls.of("b2_list_file_names") + calls.of("b2_list_file_versions"), 0, "{calls:?}");
    // Nor is it asked what has the name: the service would keep it. Whether the place is in a vault is, once a run: names
    // that are to be encrypted must not be written in plain.
    let looks = calls.of("b2_download_file_by_name");
    assert!(looks == 2 && calls.bytes_in < 1 << 20, "{calls:?}");
    assert!(calls.upload_urls() <= 32, "{calls:?}");
    let others = calls.of("b2_authorize_account") + calls.of("b2_list_buckets");
    assert_eq!(calls.all(), 2 * FILES as u64 + looks + calls.upload_urls() + others, "{calls:?}");
    assert_eq!(calls.violations, [""; 0]);
    println!("put of {FILES} files: {:?}, at most {} at a time", calls.calls, calls.max_concurrent);
}

#[test]
fn an_empty_file_and_one_that_is_replaced() {
    let (place, world) = (Place::with_keys(), World::new(&json!({})));
    place.mkdir("tree");
    place.write("tree/empty", "");
    run(&place, &world, PUT).good();
    place.write("tree/empty", "more");
    run(&place, &world, PUT).good();
    run(&place, &world, GET).good();
    assert_eq!(place.text("back/empty"), "more");
    let containers = world.versions().into_iter().filter(|version| !version.name.ends_with(".key.enc"));
    assert_eq!(containers.count(), 2, "both versions are kept: {:?}", world.versions());
}

/// What a wrong byte of the service leads to: an error, or the right file, never a wrong one.
#[test]
fn no_wrong_byte_is_believed() {
    let (place, world) = (with_large(3), World::new(&json!({})));
    run(&place, &world, PUT).good();
    world.reset_calls();
    run(&place, &world, GET).good();
    let wanted = world.calls();
    let mut outcomes = BTreeSet::new();
    for api in ["b2_download_file_by_name", "b2_download_file_by_id"] {
        for nth in 1..=wanted.of(api) {
            for at in [0, 70, 99] {
                std::fs::remove_dir_all(place.path("back")).unwrap();
                world.faults(&json!([{ "api": api, "nth": nth, "kind": "corrupted", "at": at }]));
                let done = run(&place, &world, GET);
                let mut right = 0;
                for (path, node) in place.tree("back") {
                    if path.to_string_lossy().contains(".sidekey-part") {
                        continue;
                    }
                    let original = &place.tree("tree")[&path];
                    if let Content::File(bytes) = &node.content {
                        assert!(
                            original.content == Content::File(bytes.clone()),
                            "a wrong byte was believed: {path:?}, byte {at} of download {nth} by {api}"
                        );
                        right += 1;
                    }
                }
                assert!(done.code == Some(0) || done.code == Some(3) || done.code == Some(1), "{done:?}");
                assert!(done.code != Some(0) || right == 4, "{right} files, and {done:?}");
                outcomes.insert(format!("exit {:?}, {right} of 4 files", done.code.unwrap()));
            }
        }
    }
    println!("downloads with a flipped bit: {}", outcomes.into_iter().collect::<Vec<_>>().join("; "));
}

/// A command, and what there must be before it.
struct Scene {
    line: &'static str,
    before: &'static [&'static str],
}

const SCENES: [Scene; 5] = [
    Scene { line: PUT, before: &[] },
    Scene { line: GET, before: &[PUT] },
    Scene { line: LS, before: &[PUT] },
    Scene { line: VERIFY, before: &[PUT] },
    Scene { line: RM, before: &[PUT] },
];

impl Scene {
    fn name(&self) -> &'static str {
        self.line.split(' ').next().unwrap()
    }

    /// A world and a place in which everything is ready for it.
    fn set(&self) -> (Place, World) {
        let (place, world) = (with_large(3), World::new(&json!({ "max_files_per_page": 5 })));
        for line in self.before {
            run(&place, &world, line).good();
        }
        world.reset_calls();
        (place, world)
    }
}

/// The faults that a run meets: at the first, middle and last of its calls of each API. One token after the other that is
/// refused is given up after some tries, so of these there is only one for each API.
fn everywhere(calls: &Calls, kind: &str) -> Value {
    let of_tokens = kind.ends_with("_auth_token");
    let spared = |api: &str| of_tokens && api == "b2_authorize_account";
    let mut faults = Vec::new();
    for (api, count) in calls.calls.iter().filter(|(api, _)| !spared(api)) {
        let middle = count.div_ceil(2);
        let positions = if of_tokens { [middle; 3] } else { [1, middle, *count] };
        for nth in BTreeSet::from(positions) {
            faults.push(json!({ "api": api, "nth": nth, "kind": kind, "ms": 50 }));
        }
    }
    faults.into()
}

#[test]
fn every_command_survives_every_fault() {
    const KINDS: [&str; 11] = [
        "service_unavailable",
        "too_many_requests",
        "request_timeout",
        "internal_error",
        "expired_auth_token",
        "bad_auth_token",
        "reset_before",
        "reset_in_body",
        "lost_answer",
        "truncated",
        "slow",
    ];
    let lines = Mutex::new(Vec::new());
    for scene in &SCENES {
        let (place, world) = scene.set();
        let wanted = run(&place, &world, scene.line).good();
        let (calls, left) = (world.calls(), shape(&world));
        std::thread::scope(|scope| {
            for kind in KINDS {
                let (calls, left, lines, wanted) = (&calls, &left, &lines, &wanted);
                scope.spawn(move || {
                    let (place, world) = scene.set();
                    world.faults(&everywhere(calls, kind));
                    let done = run(&place, &world, scene.line);
                    world.no_faults();
                    let met = world.calls();
                    let case = format!("{} with {kind}", scene.name());
                    assert_eq!(done.code, Some(0), "{case}: {done:?} {met:?}");
                    assert_eq!(
                        done.stdout.lines().count(),
                        wanted.stdout.lines().count(),
                        "{case}: {done:?}"
                    );
                    assert_eq!(met.violations, [""; 0], "{case}");
                    assert!(met.faults() > 0, "{case}: {met:?}");
                    // A large file that was begun without an answer stays unfinished, for clean to find.
                    let is: Vec<_> = shape(&world).into_iter().filter(|each| each.1 != "start").collect();
                    assert_eq!(is, *left, "{case}: {met:?}");
                    if scene.name() == "get" {
                        same_trees(&place.tree("back"), &place.tree("tree"), false);
                    } else {
                        assert!(matches!(scene.name(), "put" | "ls" | "verify" | "rm"));
                    }
                    lines.lock().unwrap().push(format!("{case}: right, after {} faults", met.faults()));
                });
            }
        });
    }
    for line in lines.into_inner().unwrap() {
        println!("{line}");
    }
}

#[test]
fn a_cap_ends_a_run_at_once_with_a_remedy() {
    for scene in &SCENES {
        let (place, world) = scene.set();
        let before = shape(&world);
        world.faults(&json!([{ "api": "*", "from": 2, "count": 0, "kind": "transaction_cap_exceeded" }]));
        let done = run(&place, &world, scene.line);
        assert_eq!(done.code, Some(1), "{}: {done:?}", scene.name());
        assert!(done.stderr.contains("cap"), "{}: {done:?}", scene.name());
        assert!(world.calls().all() < 100, "{}: {:?}", scene.name(), world.calls());
        assert_eq!(shape(&world), before, "{}", scene.name());
    }
}

/// A large file that was neither finished nor cancelled.
fn leave_unfinished(place: &Place, world: &World) {
    let kind = "cap_exceeded";
    world.faults(&json!([
        { "api": "b2_finish_large_file", "count": 0, "kind": kind },
        { "api": "b2_cancel_large_file", "count": 0, "kind": kind },
    ]));
    assert_eq!(run(place, world, PUT).code, Some(1));
    world.no_faults();
    assert_eq!(shape(world).iter().filter(|each| each.1 == "start").count(), 1);
}

const CLEAN: Scene = Scene { line: "clean --yes --age 0s @", before: &[] };

#[test]
fn the_error_names_the_capability_that_is_missing() {
    for (scene, needed) in [
        (&SCENES[0], &["writeFiles"][..]),
        (&SCENES[1], &["listFiles", "readFiles"]),
        (&Scene { line: "ls -R @", before: &[PUT] }, &["listFiles"]),
        (&SCENES[3], &["listFiles", "readFiles"]),
        (&SCENES[4], &["listFiles", "writeFiles"]),
        (&Scene { line: "rm -r --versions @", before: &[PUT] }, &["listFiles", "deleteFiles"]),
        (&CLEAN, &["listFiles", "readFiles", "writeFiles", "deleteFiles"]),
    ] {
        let (place, world) = scene.set();
        if scene.name() == "clean" {
            leave_unfinished(&place, &world);
        }
        for missing in needed {
            let rest: Vec<&str> = needed.iter().copied().filter(|each| each != missing).collect();
            let before = shape(&world);
            let done = run_as(&place, &world, scene.line, &world.new_key(&rest, ""));
            println!("{} without {missing}: {:?} {}", scene.name(), done.code, done.stderr.trim());
            assert_eq!(done.code, Some(1), "{} without {missing}: {done:?}", scene.line);
            assert!(done.stderr.contains(missing), "{} without {missing}: {done:?}", scene.line);
            assert_eq!(shape(&world), before, "{} without {missing}", scene.line);
        }
        // The service's time is asked at the root of the bucket, by an object of sidekey's own.
        let prefix = if scene.name() == "clean" { "" } else { "backup/" };
        let done = run_as(&place, &world, scene.line, &world.new_key(needed, prefix));
        assert_eq!(done.code, Some(0), "{} with {needed:?} alone: {done:?}", scene.line);
    }
    // A long list reads the beginning of every file.
    let (place, world) = SCENES[2].set();
    let done = run_as(&place, &world, LS, &world.new_key(&["listFiles"], ""));
    assert_eq!((done.code, done.stderr.contains("lacks readFiles")), (Some(1), true), "{done:?}");
}
