//! `sync` of the real program against a model, on a disk, B2 and S3: random edits, runs that are killed at any moment, writers
//! beside each other, a rewrap meanwhile. Whatever happened, the next whole run makes both sides alike, and what is restored
//! elsewhere is the source. `SYNC_SECONDS` makes it longer, `SYNC_SEED` draws the same edits again.
#![expect(clippy::disallowed_methods, reason = "a test writes files of its own")]

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::chance::{dice, number};
use crate::common::{Killed, Place, ended, noise, objects, same_trees};
use crate::edits::{Dice, edit};
use crate::rotate_servers::Service;
use crate::s3_server::{self, Versions};
use crate::server::World;
use crate::sync::totals;

const PUSH: &str = "--json sync src @ --delete --force";

fn s3(versions: Versions) -> Service {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    Service::s3(&runtime.block_on(s3_server::bucket(versions)), s3_server::address())
}

/// What is changed while a run begins is looked at again by the next.
fn settle() {
    std::thread::sleep(Duration::from_millis(30));
}

fn restored(service: &Service, place: &Place, key: &str, what: &str) {
    let _ = std::fs::remove_dir_all(place.path("back"));
    place.mkdir("back");
    if !place.tree("src").is_empty() {
        let got = service.run(place, &format!("get --strict -i keys/{key}.pem @ back/"));
        assert_eq!(got.code, Some(0), "{what}: {got:?}");
    }
    same_trees(&place.tree("back"), &place.tree("src"), false);
}

/// Rounds of edits and killed runs, then a whole run and a restore; as long as there is time.
fn model(service: &Service, place: &Place, what: &str) {
    let (mut dice, began) = (dice("SYNC_SEED", what), Instant::now());
    let seed = dice.0;
    let time = Duration::from_secs(number("SYNC_SECONDS", 6));
    place.mkdir("src");
    place.write("src/begin", "something");
    service.run(place, "init @ -r keys/old.pub.pem").good();
    // How long a whole run takes at least, however busy the machine is now and then.
    let mut whole = Duration::MAX;
    let push = |whole: &mut Duration, what: &str| {
        let begun = Instant::now();
        let run = service.run(place, PUSH);
        *whole = begun.elapsed().min(*whole);
        assert_eq!(run.code, Some(0), "{what}: {run:?}");
    };
    push(&mut whole, what);
    let (mut rounds, mut edits, mut deaths, mut lost) = (0, 0, 0, 0);
    while rounds < 3 || began.elapsed() < time {
        let what = format!("{what}, SYNC_SEED={seed}, round {rounds}");
        for _ in 0..1 + dice.roll(20) {
            edit(&place.path("src"), &mut dice);
            edits += 1;
        }
        if dice.roll(4) == 0 {
            let large = noise((5 << 20) + dice.roll(1 << 20), dice.0);
            // Something else may have the name.
            let _ = std::fs::write(place.path("src/large"), large);
        }
        for _ in 0..2 {
            let mut command = service.program(place, PUSH);
            let mut run = Killed::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
            std::thread::sleep(whole * dice.roll(70) as u32 / 100);
            run.0.kill().unwrap();
            deaths += u32::from(!run.0.wait().unwrap().success());
            edit(&place.path("src"), &mut dice);
            edits += 1;
        }
        if dice.roll(4) == 0 {
            let _ = std::fs::remove_dir_all(place.path(".local/state/sidekey/sync"));
            lost += 1;
        }
        settle();
        push(&mut whole, &what);
        restored(service, place, "old", &what);
        rounds += 1;
    }
    settle();
    let again = totals(&service.run(place, PUSH).good());
    let done = ["new", "changed", "moved", "deleted", "failed"].map(|name| again[name]);
    assert_eq!(done, [0; 5], "{what}, SYNC_SEED={seed}: {again:?}");
    // What killed runs left is whole: envelopes without containers at most.
    let verified = service.run(place, "verify -i keys/old.pem @ --level full");
    assert!(matches!(verified.code, Some(0 | 4)), "{what}, SYNC_SEED={seed}: {verified:?}");
    println!("{what}: {rounds} rounds, {edits} edits, {deaths} runs killed, the database lost {lost} times");
    assert!(deaths > 0);
}

#[test]
fn whatever_is_edited_and_killed_a_vault_on_a_disk_becomes_alike() {
    let place = Place::with_keys();
    place.mkdir("vault");
    model(&Service::folder(&place), &place, "disk");
}

#[test]
fn whatever_is_edited_and_killed_a_vault_on_b2_becomes_alike() {
    let world = World::with_small_parts();
    model(&Service::b2(&world), &Place::with_keys(), "b2");
}

#[test]
fn whatever_is_edited_and_killed_a_vault_on_s3_becomes_alike() {
    model(&s3(Versions::Off), &Place::with_keys(), "s3");
}

/// Two processes with states of their own, which know nothing of each other.
fn two_writers(service: &Service, first: &Place, what: &str) {
    for name in ["one", "two", "src"] {
        first.mkdir(name);
    }
    service.run(first, "init @ -r keys/old.pub.pem").good();
    let second = Place::new();
    second.shell(&format!("cp -a '{0}/.config' '{0}/keys' .", first.root().display())).good();
    std::fs::create_dir(second.path("two")).unwrap();
    let mut dice = Dice(0x2_5eed);
    let long = "a very long folder ".repeat(10);
    for round in 0..3 {
        for (place, name) in [(first, "one"), (&second, "two")] {
            // The same long names in both: their records are made by whoever comes first.
            // Edits may have made something else of the folder, or in it.
            let folder = format!("{name}/{long}");
            let _ = std::fs::remove_file(place.path(&folder));
            let _ = std::fs::remove_dir_all(place.path(&folder));
            place.mkdir(&folder);
            for file in 0..8 {
                place.write(format!("{folder}/{file}"), noise(dice.roll(5000), dice.0));
            }
            for _ in 0..15 {
                edit(&place.path(name), &mut dice);
            }
        }
        settle();
        let line = |name: &str| PUSH.replace("src @", &format!("{name} @{name}"));
        let mut one = service.program(first, &line("one"));
        let one = Killed::spawn(one.stdout(Stdio::null()).stderr(Stdio::null()));
        let two = ended(&mut service.command(&second, &line("two")));
        assert_eq!(two.code, Some(0), "{what}, round {round}: {two:?}");
        let mut one = one;
        assert!(one.0.wait().unwrap().success(), "{what}, round {round}");
        let _ = std::fs::remove_dir_all(first.path("src"));
        first
            .shell(&format!("mkdir src && cp -a one src/ && cp -a '{}/two' src/", second.root().display()))
            .good();
        // A folder stands there by what is in it, or by its own record.
        restored(service, first, "old", what);
    }
    for (place, name) in [(first, "one"), (&second, "two")] {
        let line = PUSH.replace("src @", &format!("{name} @{name}"));
        let again = totals(&service.run(place, &line).good());
        let done = ["new", "changed", "moved", "deleted", "failed"].map(|name| again[name]);
        assert_eq!(done, [0; 5], "{what}, {name}: {again:?}");
    }
}

#[test]
fn two_writers_of_different_folders_of_one_vault_do_not_disturb_each_other() {
    let place = Place::with_keys();
    place.mkdir("vault");
    two_writers(&Service::folder(&place), &place, "disk");
    let world = World::with_small_parts();
    two_writers(&Service::b2(&world), &Place::with_keys(), "b2");
    two_writers(&s3(Versions::On), &Place::with_keys(), "s3");
}

/// Both are real processes. What the old key still opens when both are done came too late for the first rewrap, and is what
/// the next one does.
fn rewrapped_meanwhile(service: &Service, place: &Place, what: &str) {
    const FILES: usize = 60;
    place.mkdir("src");
    let write = |version: u64| {
        for number in (0..FILES).filter(|number| version == 0 || number % 2 == 0) {
            place.write(format!("src/{number}"), noise(2000, number as u64 + 100 * version));
        }
    };
    write(0);
    service.run(place, "init @ -r keys/old.pub.pem").good();
    service.run(place, PUSH).good();
    write(1);
    std::fs::rename(place.path("src/1"), place.path("src/renamed")).unwrap();
    settle();
    let mut sync = service.program(place, &format!("{PUSH} --bwlimit 60K"));
    let mut sync = Killed::spawn(sync.stdout(Stdio::null()).stderr(Stdio::null()));
    let rewrap = "--json rewrap @ -i keys/old.pem --to keys/new.pub.pem";
    let first = service.run(place, rewrap);
    assert!(matches!(first.code, Some(0 | 4)), "{what}: {first:?}");
    assert!(sync.0.wait().unwrap().success(), "{what}");
    let summary = |stdout: &str, field: &str| {
        let lines = objects(stdout);
        let found = lines.iter().rev().find(|line| line["type"] == "summary" && line.contains_key(field));
        found.and_then(|line| line[field].as_u64()).unwrap_or_else(|| panic!("{what}: {field}: {stdout}"))
    };
    let audited = service.run(place, "--json audit -i keys/old.pem @");
    let late = summary(&audited.stdout, "opened");
    let second = service.run(place, rewrap);
    assert!(matches!(second.code, Some(0 | 4)), "{what}: {second:?}");
    let done = [&first, &second].map(|run| summary(&run.stdout, "rewrapped"));
    println!("{what}: {} rewrapped while sync ran, {late} came too late, {} by the next", done[0], done[1]);
    assert!(done[0] > 0 && done[1] >= late.min(1), "{what}: {second:?}");
    let audited = service.run(place, "--json audit -i keys/old.pem @");
    assert_eq!(summary(&audited.stdout, "opened"), 0, "{what}: {audited:?}");
    restored(service, place, "new", what);
    // To be encrypted for others is no change of a file.
    let again = totals(&service.run(place, PUSH).good());
    let done = ["new", "changed", "moved", "deleted", "failed"].map(|name| again[name]);
    assert_eq!(done, [0; 5], "{what}: {again:?}");
}

#[test]
fn a_rewrap_while_sync_runs_leaves_nothing_that_the_new_key_does_not_open() {
    let place = Place::with_keys();
    place.mkdir("vault");
    rewrapped_meanwhile(&Service::folder(&place), &place, "disk");
    let world = World::with_small_parts();
    rewrapped_meanwhile(&Service::b2(&world), &Place::with_keys(), "b2");
    rewrapped_meanwhile(&s3(Versions::Off), &Place::with_keys(), "s3");
}
