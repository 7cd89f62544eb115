//! `sidekey sync` by the real program: what it prints, its lock, what kills leave, and what it asks of services.
#![allow(clippy::disallowed_methods, reason = "tests ask for the time and write files of their own")]

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Ended, Killed, LIMIT, Place, SIDEKEY, ended, noise, objects, same_trees};
use crate::s3_server::{self, Versions};
use crate::server::World;

const PUSH: &str = "sync -r keys/old.pub.pem src vault/ --delete";

fn planted() -> Place {
    let place = Place::with_keys();
    place.mkdir("src/sub/empty");
    place.write("src/a", "a");
    place.write("src/sub/b", noise(70_000, 1));
    symlink("a", place.path("src/link")).unwrap();
    // What is changed while a run begins is looked at again by the next.
    std::thread::sleep(Duration::from_millis(50));
    place
}

pub(crate) fn totals(ended: &Ended) -> BTreeMap<String, u64> {
    let summary = objects(&ended.stdout).into_iter().find(|object| object["type"] == "summary");
    let summary = summary.unwrap_or_else(|| panic!("{ended:?}"));
    summary.into_iter().filter_map(|(name, value)| Some((name, value.as_u64()?))).collect()
}

#[test]
fn a_folder_goes_there_and_back_and_each_run_says_what_it_did() {
    let place = planted();
    let first = place.sidekey(&format!("-v {PUSH}")).good();
    for line in ["+ a\n", "+ link\n", "+ sub/b\n", "+ sub/empty/\n", "extended attributes"] {
        assert!(first.stderr.contains(line), "{line}: {first:?}");
    }
    assert!(first.stderr.contains("4 new, 0 changed, 0 moved, 0 removed; 0 unchanged"), "{first:?}");
    let second = place.sidekey(&format!("--json {PUSH}")).good();
    let second = totals(&second);
    assert_eq!((second["unchanged"], second["new"], second["bytes"]), (4, 0, 0), "{second:?}");
    place.write("src/a", "another");
    std::fs::remove_file(place.path("src/link")).unwrap();
    let plan = place.sidekey(&format!("{PUSH} --dry-run")).good();
    assert_eq!(plan.stdout, "~ a\n- link\n", "{plan:?}");
    place.sidekey(PUSH).good();
    place.sidekey("get -i keys/old.pem vault/ back").good();
    same_trees(&place.tree("back"), &place.tree("src"), false);
    let url = format!("file://{}", place.path("vault").display());
    let pulled = place.sidekey(&format!("--json sync -i keys/old.pem {url} pulled")).good();
    assert_eq!(totals(&pulled)["new"], 3, "{pulled:?}");
    same_trees(&place.tree("pulled"), &place.tree("src"), false);
    let pulled = place.sidekey(&format!("--json sync -i keys/old.pem {url} pulled --delete")).good();
    assert_eq!((totals(&pulled)["unchanged"], totals(&pulled)["bytes"]), (3, 0), "{pulled:?}");
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let place = planted();
    let said = |line: &str, code: i32, text: &str| {
        let ended = place.sidekey(line);
        assert_eq!(ended.code, Some(code), "{line}: {ended:?}");
        assert!(ended.stderr.contains(text), "{line}: {ended:?}");
    };
    said("sync src vault/", 2, "no recipient");
    said("sync -r keys/old.pub.pem src/a vault/", 2, "is no folder");
    said("sync -r keys/old.pub.pem nothing vault/", 1, "nothing: cannot read");
    said("sync -r keys/old.pub.pem src src", 2, "would be put into itself");
    said("sync -i keys/old.pem -r keys/old.pub.pem file:///x file:///x/y", 2, "is in the other location");
    said("sync -r keys/old.pub.pem src vault/ --keep-days 3 --delete", 2, "keeps no versions");
    said("sync -r keys/old.pub.pem src vault/ --max-delete 3", 2, "--delete");
    said("sync -r keys/old.pub.pem src vault/ --bwlimit much", 2, "500K or 2M");
    place.sidekey(PUSH).good();
    place.mkdir("nothing");
    std::fs::rename(place.path("src"), place.path("away")).unwrap();
    std::fs::rename(place.path("nothing"), place.path("src")).unwrap();
    said(PUSH, 1, "holds nothing, and all 4 objects on the other side would be removed");
    place.sidekey("get -i keys/old.pem vault/ back").good();
    same_trees(&place.tree("back"), &place.tree("away"), false);
}

#[test]
fn two_runs_on_the_same_two_exclude_each_other() {
    let place = planted();
    place.write("src/large", noise(3 << 20, 5));
    let mut command = Command::new(SIDEKEY);
    command.args(format!("{PUSH} --bwlimit 100K").split(' ')).current_dir(place.root());
    command.env("HOME", place.root()).env_remove("XDG_STATE_HOME").env_remove("XDG_CONFIG_HOME");
    let run = Killed::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
    let began = Instant::now();
    // The lock holds the number of the process as soon as the run has it.
    let has_lock = || {
        let files = std::fs::read_dir(place.path(".local/state/sidekey/sync")).into_iter().flatten();
        let number = format!("{}\n", run.0.id()).into_bytes();
        files.flatten().any(|file| std::fs::read(file.path()).is_ok_and(|content| content == number))
    };
    while !has_lock() {
        assert!(began.elapsed() < Duration::from_secs(LIMIT));
        std::thread::sleep(Duration::from_millis(2));
    }
    let second = place.sidekey(PUSH);
    assert_eq!(second.code, Some(1), "{second:?}");
    let process = format!("by process {}", run.0.id());
    assert!(second.stderr.contains(&process), "{second:?}");
    drop(run);
    place.sidekey(PUSH).good();
}

#[test]
fn whatever_a_kill_leaves_the_next_run_goes_on() {
    let place = Place::with_keys();
    let spawn = || {
        let mut command = Command::new(SIDEKEY);
        command.args(PUSH.split(' ')).current_dir(place.root());
        command.env("HOME", place.root()).env_remove("XDG_STATE_HOME").env_remove("XDG_CONFIG_HOME");
        Killed::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()))
    };
    place.mkdir("src");
    let change = |version: u64| {
        for number in 0..150 {
            if (number + version).is_multiple_of(3) {
                place.mkdir(format!("src/{}", number % 5));
                let len = if number % 50 == 0 { 5 << 20 } else { 2000 };
                place.write(format!("src/{}/{number}", number % 5), noise(len, number + version));
            }
        }
        let _ = std::fs::remove_file(place.path(format!("src/{0}/{0}", version % 5)));
        let _ = std::fs::rename(place.path(format!("src/{}", version % 5)), place.path("src/moved"));
    };
    change(0);
    let began = Instant::now();
    assert!(spawn().0.wait().unwrap().success());
    let mut whole = began.elapsed();
    let mut died = 0;
    for at in 0..12 {
        change(u64::from(at) + 1);
        let mut run = spawn();
        std::thread::sleep(whole * (at + 1) / 12);
        run.0.kill().unwrap();
        died += u32::from(!run.0.wait().unwrap().success());
        if at % 3 == 2 {
            let began = Instant::now();
            assert!(spawn().0.wait().unwrap().success());
            // The machine may have been busy the first time.
            whole = whole.min(began.elapsed());
            let _ = std::fs::remove_dir_all(place.path("back"));
            place.sidekey("get -i keys/old.pem vault/ back").good();
            same_trees(&place.tree("back"), &place.tree("src"), false);
        }
    }
    println!("{died} of 12 runs were killed, {whole:?} a whole run");
    assert!(died >= 2);
    // Nothing was forgotten that both sides have.
    let again = place.sidekey(&format!("--json {PUSH}")).good();
    let again = totals(&again);
    assert_eq!((again["new"], again["changed"], again["deleted"]), (0, 0, 0), "{again:?}");
}

#[test]
fn on_b2_an_unchanged_tree_costs_listings_alone() {
    let world = World::new(&serde_json::json!({}));
    let place = planted();
    for number in 0..60 {
        place.write(format!("src/sub/{number}"), noise(100, number + 1));
    }
    std::thread::sleep(Duration::from_millis(50));
    let run = |line: &str| {
        let line = line.replace('@', &format!("b2://{}/backup/", world.bucket));
        let args: Vec<&str> = line.split(' ').collect();
        ended(place.command(SIDEKEY, &args).envs(world.environment()))
    };
    let push = "--json sync -r keys/old.pub.pem src @ --delete";
    assert_eq!(totals(&run(push).good())["new"], 64);
    world.reset_calls();
    assert_eq!(totals(&run(push).good())["unchanged"], 64);
    let calls = world.calls();
    let listings = calls.of("b2_list_file_names");
    println!("b2, 64 unchanged: {} calls, {listings} of them listings", calls.all());
    assert!(listings >= 1);
    // Whether there is a vault is asked once a run, in the bucket and in the folder.
    let asked = calls.of("b2_download_file_by_name");
    assert_eq!((asked, calls.of("b2_upload_file") + calls.of("b2_download_file_by_id")), (2, 0));
    assert_eq!(
        calls.all() - listings - asked,
        calls.of("b2_authorize_account") + calls.of("b2_list_buckets"),
        "{calls:?}"
    );
    // A folder gets another name, a file other contents, one is gone: a copy, an upload, a hidden file.
    std::fs::rename(place.path("src/sub"), place.path("src/dir")).unwrap();
    place.write("src/a", "another");
    std::fs::remove_file(place.path("src/link")).unwrap();
    world.reset_calls();
    let third = totals(&run(push).good());
    assert_eq!((third["moved"], third["changed"], third["failed"]), (61, 1, 0), "{third:?}");
    assert_eq!(world.calls().of("b2_copy_file"), 61);
    run("get -i keys/old.pem @ back/").good();
    same_trees(&place.tree("back"), &place.tree("src"), false);
    // From there to here.
    let pulled = totals(&run("--json sync -i keys/old.pem @ pulled").good());
    assert_eq!(pulled["failed"], 0, "{pulled:?}");
    same_trees(&place.tree("pulled"), &place.tree("src"), false);
    world.reset_calls();
    run("sync -i keys/old.pem @ pulled --delete").good();
    assert_eq!(world.calls().of("b2_download_file_by_name") + world.calls().of("b2_download_file_by_id"), 0);
}

#[test]
fn on_s3_an_unchanged_tree_is_not_read() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for versions in [Versions::Off, Versions::On] {
        let bucket = runtime.block_on(s3_server::bucket(versions));
        let place = planted();
        let run = |line: &str| {
            let line = line.replace('@', &format!("s3://{bucket}/backup/"));
            let args: Vec<&str> = line.split(' ').collect();
            let mut command = place.command(SIDEKEY, &args);
            command
                .env("AWS_ENDPOINT_URL_S3", s3_server::address())
                .env("AWS_ACCESS_KEY_ID", "test")
                .env("AWS_SECRET_ACCESS_KEY", "test")
                .env("AWS_REGION", "us-east-1")
                .env("AWS_EC2_METADATA_DISABLED", "true");
            ended(&mut command)
        };
        let push = "--json sync -r keys/old.pub.pem src @ --delete";
        assert_eq!(totals(&run(push).good())["new"], 4);
        let second = totals(&run(push).good());
        assert_eq!((second["unchanged"], second["bytes"]), (4, 0), "{second:?}");
        std::fs::rename(place.path("src/sub"), place.path("src/dir")).unwrap();
        place.write("src/a", "another");
        let third = totals(&run(push).good());
        assert_eq!((third["moved"], third["changed"], third["failed"]), (1, 1, 0), "{third:?}");
        run("get -i keys/old.pem @ back/").good();
        same_trees(&place.tree("back"), &place.tree("src"), false);
    }
}

#[test]
fn objects_and_folders_get_other_names_within_a_location_without_a_key() {
    let place = planted();
    place.sidekey(PUSH).good();
    let names = || {
        let listed = place.sidekey("ls -R vault/").good().stdout;
        listed.lines().map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    let would = place.sidekey("mv vault/sub/b vault/sub/c --dry-run").good();
    assert!(would.stdout.contains("would move"), "{would:?}");
    let before = names();
    let moved = place.sidekey("mv vault/sub/b vault/sub/c").good();
    assert!(moved.stderr.contains("keeps its old name inside"), "{moved:?}");
    assert_ne!(names(), before);
    place.sidekey("mv vault/sub/c vault/sub/b").good();
    assert_eq!(names(), before);
    place.sidekey("cp -r vault/sub vault/copies/").good();
    place.sidekey("mv vault/copies/sub vault/copies/other").good();
    let refused = place.sidekey("cp vault/a vault/link");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("exists already"), "{refused:?}");
    for (line, text) in [
        ("cp vault/sub vault/x", "-r takes all that is in it"),
        ("mv vault/sub vault/sub/sub", "something in itself"),
        ("mv vault/a vault/a", "would become itself"),
        ("mv vault/a vault/sub", "is a folder"),
        ("mv vault/a b2://bucket/a", ""),
    ] {
        let ended = place.sidekey(line);
        assert_ne!(ended.code, Some(0), "{line}: {ended:?}");
        assert!(ended.stderr.contains(text), "{line}: {ended:?}");
    }
    place.sidekey("get -i keys/old.pem vault/copies/other back --strict").good();
    same_trees(&place.tree("back/other"), &place.tree("src/sub"), false);
    // Envelopes of what was moved are left to clean.
    let verified = place.sidekey("verify vault/ -i keys/old.pem --level full");
    assert_eq!(verified.code, Some(4), "{verified:?}");
    assert!(
        verified.stderr.contains("6 containers whole, 6 of them decrypted to the last byte"),
        "{verified:?}"
    );
    // What a next run of sync finds there is made like the source again.
    place.sidekey(PUSH).good();
    assert_eq!(names(), before);
}

/// The script of the README, as it stands there, with a key that can only list and write.
#[test]
fn the_nightly_backup_of_the_readme_runs_as_written() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let section = readme.split("## Nightly backup from cron").nth(1).unwrap().split("\n## ").next().unwrap();
    let blocks: Vec<&str> =
        section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap()).collect();
    let [setup, script] = blocks[..] else { panic!("{blocks:?}") };
    let (rights, setup) = setup.trim().split_once('\n').unwrap();
    let rights: Vec<&str> = rights.rsplit(' ').next().unwrap().split(',').collect();
    let world = World::new(&serde_json::json!({}));
    let key = world.new_key(&rights, "");
    let place = Place::with_keys();
    std::fs::copy(place.path("keys/old.pub.pem"), place.path("backup.pub.pem")).unwrap();
    place.mkdir("Documents/sub");
    place.write("Documents/sub/a", "a");
    place.write("Documents/b", "b");
    place.mkdir("bin");
    symlink(SIDEKEY, place.path("bin/sidekey")).unwrap();
    place.mkdir(".config/sidekey");
    let environment: BTreeMap<&str, String> = world.environment_of(&key).into_iter().collect();
    let secrets = |name: &str| format!("{name}={}\n", environment[name]);
    place.write(".config/sidekey/b2.env", secrets("B2_APPLICATION_KEY_ID") + &secrets("B2_APPLICATION_KEY"));
    let shell = |text: &str| {
        let path = format!("{}:{}", place.path("bin").display(), std::env::var("PATH").unwrap());
        let mut command = place.command("sh", &["-c", text]);
        // What says where the server is.
        command.envs(environment.iter().filter(|(name, _)| !name.starts_with("B2_APPLICATION")));
        ended(command.env("PATH", path))
    };
    shell(&setup.replace("my-bucket", &world.bucket)).good();
    place.write("bin/nightly-backup", script);
    place.chmod("bin/nightly-backup", 0o700);
    shell("nightly-backup").good();
    std::fs::remove_file(place.path("Documents/b")).unwrap();
    std::fs::rename(place.path("Documents/sub"), place.path("Documents/moved")).unwrap();
    shell("nightly-backup").good();
    let location = format!("b2://{}/laptop/", world.bucket);
    let mut get = place.command(SIDEKEY, &["get", "-i", "keys/old.pem", &location, "back/"]);
    ended(get.envs(world.environment())).good();
    same_trees(&place.tree("back"), &place.tree("Documents"), false);
}

#[test]
fn a_location_goes_into_another_one_for_another_key() {
    let place = planted();
    place.write("src/large", noise(9 << 20, 7));
    place.sidekey(PUSH).good();
    let url = |name: &str| format!("file://{}", place.path(name).display());
    let line =
        format!("--json sync -i keys/old.pem -r keys/new.pub.pem {} {} --delete", url("vault"), url("other"));
    let first = totals(&place.sidekey(&line).good());
    assert_eq!((first["new"], first["failed"]), (5, 0), "{first:?}");
    place.sidekey("get -i keys/new.pem other/ back").good();
    same_trees(&place.tree("back"), &place.tree("src"), false);
    assert_eq!(place.sidekey("get -i keys/old.pem other/a one").code, Some(1));
    let second = totals(&place.sidekey(&line).good());
    assert_eq!((second["unchanged"], second["bytes"]), (5, 0), "{second:?}");
    place.write("src/a", "another");
    std::fs::remove_file(place.path("src/large")).unwrap();
    place.sidekey(PUSH).good();
    let third = totals(&place.sidekey(&line).good());
    assert_eq!((third["changed"], third["deleted"]), (1, 1), "{third:?}");
    std::fs::remove_dir_all(place.path("back")).unwrap();
    place.sidekey("get -i keys/new.pem other/ back").good();
    same_trees(&place.tree("back"), &place.tree("src"), false);
}
