//! The real binary, killed at every system call that changes something: strace kills it at the n-th call of each kind, for
//! every n. Whatever was done until then is what a crash leaves, and nothing that was stored may be lost by it.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{LIMIT, Place, SIDEKEY, alone, noise};

/// The calls that change what others see. What makes it durable changes nothing for who reads after a kill.
const CALLS: [&str; 10] = [
    "linkat",
    "renameat2",
    "rename",
    "renameat",
    "unlink",
    "unlinkat",
    "mkdirat",
    "pwrite64",
    "write",
    "fchmod",
];

/// The most calls of one kind in one thread of a run here.
const MOST: usize = 120;

/// Runs `line` killed at each such call, each time after `prepare` and before `check`; says how often it died.
fn killed_everywhere(place: &Place, line: &str, prepare: impl Fn(), check: impl Fn(&str)) {
    let mut stops = 0;
    for call in CALLS {
        for nth in 1..=MOST {
            prepare();
            let mut command = Command::new("strace");
            command.args(["-f", "-qq", "-o", "/dev/null", "-e"]).arg(format!("trace={call}"));
            command.arg("-e").arg(format!("inject={call}:signal=KILL:when={nth}"));
            command
                .args(["timeout", "--foreground", &LIMIT.to_string(), SIDEKEY])
                .args(line.split_whitespace());
            command
                .current_dir(place.root())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            alone(&mut command, place.root());
            let status = command.status().expect("strace runs");
            let killed = status.signal() == Some(9) || status.code() == Some(137);
            assert!(killed || status.success(), "{line}: {status} at {call} {nth}");
            check(&format!("{line}: killed at {call} {nth}"));
            if !killed {
                break;
            }
            stops += 1;
            assert!(nth < MOST, "{line}: more than {MOST} times {call}");
        }
    }
    println!("{line}: stopped at {stops} places");
    assert!(stops >= 5, "{line}: {stops} stops are not every call; does strace work?");
}

/// The files of a version: an empty one, a small one, one of some sections, one that is stored in parts.
fn contents(version: u64) -> [(&'static str, Vec<u8>); 4] {
    let lens = [("empty", 0), ("small", 10), ("sub/sections", 200_000), ("sub/parts", 4_500_000)];
    lens.map(|(name, len)| (name, noise(len, 77 + 2 * version)))
}

fn write_version(place: &Place, folder: &str, version: u64) {
    place.mkdir(format!("{folder}/sub"));
    for (name, bytes) in contents(version) {
        place.write(format!("{folder}/{name}"), bytes);
    }
}

fn remove(place: &Place, folder: &str) {
    let _ = std::fs::remove_dir_all(place.path(folder));
}

/// Everything in `vault` was written 40 days ago.
fn age(place: &Place) {
    let aged = place.shell("find vault -exec touch -d '40 days ago' {} +");
    assert_eq!(aged.code, Some(0), "{aged:?}");
}

fn copy(place: &Place, from: &str, to: &str) {
    remove(place, to);
    assert_eq!(place.shell(&format!("cp -a {from} {to}")).code, Some(0));
}

/// Nothing in `vault` is damaged or without its key; there may be envelopes and unfinished files that nobody needs.
fn all_opens(place: &Place, at: &str) {
    let verified = place.sidekey("verify -q -i keys/old.pem -i keys/new.pem --level full vault/");
    assert!(matches!(verified.code, Some(0 | 4)), "{at}: {verified:?}");
}

/// What is in `vault` are these versions of some of the files, or all of them.
fn holds(place: &Place, versions: &[u64], all: bool, at: &str) {
    remove(place, "out");
    let got = place.sidekey("get -q -i keys/old.pem -i keys/new.pem vault/ out/");
    assert!(got.code == Some(0) || !all, "{at}: {got:?}");
    for (number, (name, _)) in contents(0).into_iter().enumerate() {
        let path = place.path(Path::new("out").join(name));
        match std::fs::read(&path) {
            Ok(bytes) => {
                let is = |version: &u64| contents(*version)[number].1 == bytes;
                assert!(versions.iter().any(is), "{at}: {name} is no version that was put");
            }
            Err(_) => assert!(!all, "{at}: {name} is missing"),
        }
    }
}

#[test]
fn a_signal_waits_for_the_pairs_that_get_their_names_together() {
    const FILES: usize = 8;
    let place = Place::with_keys();
    place.mkdir("in");
    for number in 0..FILES {
        place.write(format!("in/{number}"), "x");
    }
    // While envelopes get their names, between them and the containers, and while these do.
    for nth in [1, FILES / 2, FILES, FILES + 1, FILES + FILES / 2] {
        remove(&place, "stored");
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=linkat,renameat2"]);
        command.arg("-e").arg(format!("inject=linkat,renameat2:signal=INT:delay_exit=20000:when={nth}+"));
        command.args(["timeout", "--foreground", &LIMIT.to_string(), SIDEKEY]);
        command.args(["encrypt", "-q", "-r", "keys/old.pub.pem", "in/", "-o", "stored", "--jobs", "1"]);
        command.current_dir(place.root()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        alone(&mut command, place.root());
        let ended = command.status().expect("strace runs");
        // Whether the end or the handler comes first, when the last has its name, is chance.
        assert!(matches!(ended.code(), Some(0 | 130)), "{nth}: {ended}");
        let names = place.names_in("stored");
        let expected = (0..FILES).flat_map(|number| [format!("{number}.enc"), format!("{number}.key.enc")]);
        assert_eq!(names, expected.collect::<Vec<_>>(), "{nth}");
    }
    place.sidekey("decrypt -q -i keys/old.pem stored/ -o out").good();
    assert_eq!(place.names_in("out").len(), FILES);
}

#[test]
fn a_killed_put_loses_nothing_and_a_second_one_completes() {
    let place = Place::with_keys();
    write_version(&place, "one", 1);
    let put = "put -q --jobs 1 -r keys/old.pub.pem one/ vault/";
    let check = |at: &str| {
        if place.path("vault").exists() {
            all_opens(&place, at);
            holds(&place, &[1], false, at);
        }
    };
    killed_everywhere(&place, put, || remove(&place, "vault"), check);
    place.sidekey(put).good();
    holds(&place, &[1], true, "a second run");
}

#[test]
fn a_killed_put_over_files_leaves_each_old_or_new() {
    let place = Place::with_keys();
    write_version(&place, "one", 1);
    write_version(&place, "two", 2);
    place.sidekey("put -q -r keys/old.pub.pem one/ vault/").good();
    copy(&place, "vault", "before");
    let put = "put -q --jobs 1 -r keys/old.pub.pem two/ vault/";
    killed_everywhere(
        &place,
        put,
        || copy(&place, "before", "vault"),
        |at| {
            all_opens(&place, at);
            holds(&place, &[1, 2], true, at);
        },
    );
    place.sidekey(put).good();
    holds(&place, &[2], true, "a second run");
    age(&place);
    place.sidekey("clean -q --yes vault/").good();
    place.sidekey("verify -q vault/").good();
    holds(&place, &[2], true, "after clean");
    assert!(place.temporary().is_empty(), "{:?}", place.temporary());
}

#[test]
fn a_killed_rm_leaves_whole_pairs_and_a_second_one_completes() {
    let place = Place::with_keys();
    write_version(&place, "one", 1);
    place.sidekey("put -q -r keys/old.pub.pem one/ vault/").good();
    age(&place);
    copy(&place, "vault", "before");
    let rm = "rm -q --jobs 1 -r vault/sub";
    killed_everywhere(
        &place,
        rm,
        || copy(&place, "before", "vault"),
        |at| {
            all_opens(&place, at);
            holds(&place, &[1], false, at);
            assert!(place.path("vault/small.enc").exists(), "{at}");
        },
    );
    place.sidekey("clean -q --yes vault/").good();
    place.sidekey("verify -q vault/").good();
    let left = place.sidekey("ls -R vault/").good().stdout;
    assert_eq!(left, "empty\nsmall\n");
}

#[test]
fn a_killed_rewrap_of_a_location_leaves_every_pair_open_and_a_second_one_completes() {
    let place = Place::with_keys();
    write_version(&place, "one", 1);
    place.sidekey("put -q -r keys/old.pub.pem one/ vault/").good();
    copy(&place, "vault", "before");
    let rewrap = "rewrap -q --jobs 1 vault/ -i keys/old.pem --to keys/new.pub.pem";
    killed_everywhere(
        &place,
        rewrap,
        || copy(&place, "before", "vault"),
        |at| {
            all_opens(&place, at);
            holds(&place, &[1], true, at);
        },
    );
    place.sidekey(rewrap).good();
    place.sidekey("audit -q vault/ -i keys/old.pem").good();
    holds(&place, &[1], true, "a second run");
}

#[test]
fn a_killed_clean_takes_nothing_that_is_needed_and_a_second_one_completes() {
    let place = Place::with_keys();
    write_version(&place, "one", 1);
    write_version(&place, "two", 2);
    place.sidekey("put -q -r keys/old.pub.pem one/ vault/").good();
    place.sidekey("put -q -r keys/old.pub.pem two/ vault/").good();
    age(&place);
    copy(&place, "vault", "before");
    let clean = "clean -q --yes vault/";
    killed_everywhere(
        &place,
        clean,
        || copy(&place, "before", "vault"),
        |at| {
            all_opens(&place, at);
            holds(&place, &[2], true, at);
        },
    );
    place.sidekey(clean).good();
    place.sidekey("verify -q vault/").good();
    holds(&place, &[2], true, "a second run");
}
