//! What `sync` and `ls -l` ask of a vault, counted: with the database of this machine, and without it.
#![allow(clippy::disallowed_methods, reason = "tests write files of their own")]

use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::{Ended, Place, SIDEKEY, ended, objects, same_trees};
use crate::http_stub::{Answer, Stub};
use crate::s3::stubbed;
use crate::s3_requests::{Objects, bucket};
use crate::server::World;
use crate::sync::totals;

const FILES: u64 = 300;
/// With a link and an empty folder.
const NAMES: u64 = FILES + 2;

fn planted() -> Place {
    let place = Place::with_keys();
    place.mkdir("src/empty");
    for number in 0..FILES {
        place.mkdir(format!("src/{}", number % 7));
        place.write(format!("src/{}/{number}", number % 7), format!("the file {number}"));
    }
    symlink("somewhere", place.path("src/link")).unwrap();
    // What is changed while a run begins is looked at again by the next.
    std::thread::sleep(Duration::from_millis(50));
    place
}

fn lose_the_database(place: &Place) {
    std::fs::remove_dir_all(place.path(".local/state/sidekey/sync")).unwrap();
}

/// Unchanged, learned, new and changed.
fn found(ended: Ended) -> [u64; 4] {
    let totals = totals(&ended.good());
    assert_eq!(totals["failed"], 0, "{totals:?}");
    ["unchanged", "learned", "new", "changed"].map(|name| totals[name])
}

#[test]
fn on_b2_listings_are_all_that_an_unchanged_tree_costs_even_without_the_database() {
    let (world, place) = (World::new(&serde_json::json!({})), planted());
    let at = |line: &str| line.replace('@', &format!("b2://{}/backup", world.bucket));
    let run_in = |place: &Place, line: &str| {
        let line = at(line);
        ended(place.command(SIDEKEY, &line.split(' ').collect::<Vec<_>>()).envs(world.environment()))
    };
    let run = |line: &str| run_in(&place, line);
    run("init @ -r keys/old.pub.pem").good();
    let push = "--json sync src @ --delete";
    // What else is asked: who one is, and once a run whether the settings are still those of the vault.
    let listings_only = |what: &str| {
        let calls = world.calls();
        let listings = calls.of("b2_list_file_names");
        println!("b2, {what}, {NAMES} names: {} calls, {listings} of them listings", calls.all());
        assert!((1..=3).contains(&listings), "{calls:?}");
        let around = ["b2_authorize_account", "b2_list_buckets", "b2_download_file_by_name"];
        let around = around.map(|api| calls.of(api));
        assert!(around[2] <= 2, "{calls:?}");
        assert_eq!(calls.all(), listings + around.iter().sum::<u64>(), "{calls:?}");
        world.reset_calls();
    };
    assert_eq!(found(run(push)), [0, 0, NAMES, 0]);
    world.reset_calls();
    assert_eq!(found(run(push)), [NAMES, 0, 0, 0]);
    listings_only("sync, unchanged");
    lose_the_database(&place);
    assert_eq!(found(run(push)), [NAMES, NAMES, 0, 0]);
    listings_only("sync without the database");
    run("ls -lR @").good();
    listings_only("ls -lR");

    lose_the_database(&place);
    place.write("src/1/1", "another file 1");
    assert_eq!(found(run(push)), [NAMES - 1, NAMES - 1, 0, 1]);
    let uploads = world.calls().of("b2_upload_file");
    println!("b2, one changed without the database: {uploads} uploads");
    assert_eq!(uploads, 2, "an envelope and a container");

    // Another machine, with the vault's configuration and a copy of the files: other inodes, the same times.
    let other = Place::new();
    let copied = format!("cp -a '{0}/src' '{0}/keys' '{0}/.config' .", place.root().display());
    other.shell(&copied).good();
    world.reset_calls();
    assert_eq!(found(run_in(&other, push)), [NAMES, NAMES, 0, 0]);
    listings_only("sync on a new machine");
    // And from there to here.
    world.reset_calls();
    assert_eq!(found(run_in(&other, "--json sync -i keys/old.pem @ src --delete")), [NAMES, NAMES, 0, 0]);
    listings_only("sync to a new machine");
    same_trees(&other.tree("src"), &place.tree("src"), false);
}

#[test]
fn on_s3_two_small_reads_a_name_take_the_place_of_the_database() {
    let (place, objects_there) = (planted(), Objects::default());
    let stub = Stub::new(bucket(&objects_there));
    let run = |line: &str| ended(&mut stubbed(&place, &stub.address, line));
    run("init s3://bucket/x -r keys/old.pub.pem").good();
    let push = "--json sync src s3://bucket/x --delete";
    let counted = |what: &str, line: &str| {
        let before = stub.log().len();
        let ended = run(line).good();
        let log = &stub.log()[before..];
        let of_vault = |path: &str| path.contains("/.sidekey/") || path.contains("?versioning");
        let count = |keep: &dyn Fn(&str, &str) -> bool| {
            log.iter().filter(|request| keep(&request.method, &request.path)).count() as u64
        };
        let listings = count(&|_, path| path.contains("list-type"));
        let reads = count(&|method, path| {
            matches!(method, "GET" | "HEAD") && !path.contains("list-type") && !of_vault(path)
        });
        let writes = count(&|method, _| !matches!(method, "GET" | "HEAD"));
        println!("s3, {what}, {NAMES} names: {listings} listings, {reads} reads, {writes} writes");
        (ended, [listings, reads, writes])
    };
    assert_eq!(found(run(push)), [0, 0, NAMES, 0]);
    let (unchanged, counts) = counted("sync, unchanged", push);
    assert_eq!((found(unchanged), counts), ([NAMES, 0, 0, 0], [1, 0, 0]));
    lose_the_database(&place);
    let (learned, counts) = counted("sync without the database", push);
    assert_eq!((found(learned), counts), ([NAMES, NAMES, 0, 0], [1, 2 * NAMES, 0]));
    let (unchanged, counts) = counted("sync, unchanged again", push);
    assert_eq!((found(unchanged), counts), ([NAMES, 0, 0, 0], [1, 0, 0]));
    // No private key is there to be used.
    std::fs::remove_dir_all(place.path("keys")).unwrap();
    let (listed, counts) = counted("ls -lR", "--json ls -lR s3://bucket/x");
    let files = objects(&listed.stdout);
    assert_eq!(files.iter().filter(|object| object["kind"] == "file").count() as u64, FILES + 1);
    // The listing itself, and whether there is an object of the folder's own name.
    assert!(counts[0] <= 2, "{counts:?}");
    assert_eq!(counts[1..], [2 * NAMES, 0]);
}

#[test]
fn who_may_not_read_stores_again_without_asking_for_every_name() {
    let (place, objects_there) = (planted(), Objects::default());
    let (may_read, bucket) = (Arc::new(AtomicBool::new(true)), bucket(&objects_there));
    let allowed = Arc::clone(&may_read);
    let stub = Stub::new(move |request| {
        let reads =
            request.method == "GET" && request.path.contains(".enc") && !request.path.contains(".sidekey");
        match reads && !allowed.load(Ordering::Relaxed) {
            true => Answer::error(403, "AccessDenied"),
            false => bucket(request),
        }
    });
    let run = |line: &str| ended(&mut stubbed(&place, &stub.address, line));
    run("init s3://bucket/x -r keys/old.pub.pem").good();
    let push = "--json sync src s3://bucket/x --delete";
    assert_eq!(found(run(push)), [0, 0, NAMES, 0]);
    lose_the_database(&place);
    may_read.store(false, Ordering::Relaxed);
    let before = stub.log().len();
    // With nothing to remove, the dry run asks for nothing else.
    let would = totals(&run(&format!("{push} --dry-run")).good());
    assert_eq!((would["changed"], would["learned"]), (NAMES, 0), "{would:?}");
    let refused = stub.log()[before..].iter().filter(|request| request.path.contains(".enc")).count();
    println!("s3, refused, {NAMES} names: {refused} reads");
    assert!((1..NAMES as usize / 2).contains(&refused), "{refused}");
}

#[test]
fn a_vault_on_a_disk_needs_no_database_and_says_what_it_found_out() {
    let place = planted();
    place.mkdir("vault");
    place.sidekey("init vault -r keys/old.pub.pem").good();
    let push = "sync src vault --delete";
    place.sidekey(push).good();
    lose_the_database(&place);
    let said = place.sidekey(&format!("{push} --dry-run")).good();
    assert_eq!(said.stdout, "", "{said:?}");
    assert!(
        said.stderr.contains(&format!("{NAMES} unchanged, {NAMES} of them by their info records")),
        "{said:?}"
    );
    place.write("src/2/2", "another file 2");
    lose_the_database(&place);
    assert_eq!(found(place.sidekey(&format!("--json {push}"))), [NAMES - 1, NAMES - 1, 0, 1]);
    place.sidekey("get -i keys/old.pem vault/ back").good();
    same_trees(&place.tree("back"), &place.tree("src"), false);
    // An envelope that somebody took away: nothing is known of its container.
    let envelope = walkdir::WalkDir::new(place.path("vault"))
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .find(|path| {
            path.to_string_lossy().ends_with(".key.enc") && !path.to_string_lossy().contains(".sidekey")
        });
    std::fs::remove_file(envelope.unwrap()).unwrap();
    lose_the_database(&place);
    let again = found(place.sidekey(&format!("--json {push}")));
    assert_eq!(again, [NAMES - 1, NAMES - 1, 0, 1]);
}
