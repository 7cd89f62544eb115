//! `kill -9` and signals at any moment: the old file or the new one is there, whole, with an envelope that opens it.

use crate::common;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use sidekey::DataId;
use sidekey::ops::atomic::{AtomicFile, Mode, is_temporary_name};
use sidekey::ops::pair_files::{PairPaths, Publishing};
use sidekey::pair::{Form, Put, PutOutcome, PutStep};
use sidekey::random::OsRandom;
use sidekey::seal::{SealOptions, seal};
use sidekey::secret::FileKey;
use sidekey::wrap::{unwrap, wrap};

use crate::chance::number;
use crate::common::{Killed, LIMIT, Place, SIDEKEY, noise};

/// scripts/soak takes more.
fn kills() -> u32 {
    number("KILLS", 12) as u32
}

fn spawn(place: &Place, line: &str, stdin: Stdio) -> Killed {
    let mut command = Command::new(SIDEKEY);
    command.args(line.split_whitespace()).current_dir(place.root());
    command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::null());
    Killed::spawn(&mut command)
}

/// Runs `line` again and again, killed at moments spread over the time that it takes; each time after `prepare` and
/// before `check`.
fn killed(place: &Place, line: &str, prepare: impl Fn(), check: impl Fn(u32)) {
    prepare();
    let start = Instant::now();
    assert!(spawn(place, line, Stdio::null()).0.wait().unwrap().success());
    let mut whole = start.elapsed();
    let (kills, mut died, mut finished) = (kills(), 0, 0);
    for at in 0..kills {
        prepare();
        let mut run = spawn(place, line, Stdio::null());
        std::thread::sleep(whole * (at + 1) / kills);
        run.0.kill().unwrap();
        match run.0.wait().unwrap().signal() {
            Some(9) => died += 1,
            // The first run may have met a busy machine.
            _ => (finished, whole) = (finished + 1, whole * 3 / 4),
        }
        check(at);
        for left in place.temporary() {
            std::fs::remove_file(left).unwrap();
        }
    }
    println!("{line}: {died} killed, {finished} finished before, {whole:?} a run");
    assert!(died >= kills / 3, "{line}: {died} killed, {finished} finished before");
}

const NAMES: u64 = 24;

/// The contents of each file in their first and second version: of one byte, of some sections, of some megabytes.
fn contents(number: u64, version: u64) -> Vec<u8> {
    let len = match number % 8 {
        0 => 3 << 20,
        1..4 => 150_000,
        _ => 10,
    };
    noise(len, 1 + 2 * number + 1000 * version)
}

fn write_all(place: &Place, folder: &str, version: u64) {
    place.mkdir(folder);
    for number in 0..NAMES {
        place.write(format!("{folder}/{number}"), contents(number, version));
    }
}

fn clear(place: &Place, folder: &str) {
    let _ = std::fs::remove_dir_all(place.path(folder));
}

/// Every container in `in` opens with an envelope beside it, to one of the versions; returns how many there are.
fn all_open(place: &Place, versions: &[u64]) -> usize {
    clear(place, "check");
    place.mkdir("check");
    place.sidekey("decrypt -q -i keys/old.pem in/ -o check").good();
    let containers =
        place.names_in("in").into_iter().filter(|name| name.ends_with(".enc") && !name.ends_with(".key.enc"));
    let restored = place.names_in("check");
    assert_eq!(containers.count(), restored.len());
    for name in &restored {
        let bytes = place.read(format!("check/{name}"));
        let number = name.parse().unwrap();
        assert!(versions.iter().any(|version| bytes == contents(number, *version)), "{name} is not whole");
    }
    restored.len()
}

#[test]
fn a_killed_encrypt_leaves_whole_pairs_and_a_second_run_completes() {
    let place = Place::with_keys();
    let prepare = || {
        clear(&place, "in");
        write_all(&place, "in", 1);
    };
    killed(&place, "encrypt -r keys/old.pub.pem in --jobs 2", prepare, |at| {
        all_open(&place, &[1]);
        for number in 0..NAMES {
            assert_eq!(place.read(format!("in/{number}")), contents(number, 1), "kill {at}");
        }
        if at % 5 == 0 {
            place.sidekey("encrypt -q -r keys/old.pub.pem in --force").good();
            assert_eq!(all_open(&place, &[1]), NAMES as usize);
        }
    });
}

#[test]
fn a_killed_encrypt_over_pairs_leaves_each_old_or_new() {
    let place = Place::with_keys();
    write_all(&place, "in", 1);
    place.sidekey("encrypt -q -r keys/old.pub.pem in").good();
    let stored = Command::new("cp").args(["-a", "in", "first"]).current_dir(place.root()).status().unwrap();
    assert!(stored.success());
    let prepare = || {
        clear(&place, "in");
        let copied =
            Command::new("cp").args(["-a", "first", "in"]).current_dir(place.root()).status().unwrap();
        assert!(copied.success());
        write_all(&place, "in", 2);
    };
    killed(&place, "encrypt -r keys/old.pub.pem in --force --jobs 2", prepare, |at| {
        assert_eq!(all_open(&place, &[1, 2]), NAMES as usize, "kill {at}");
        if at % 5 == 0 {
            place.sidekey("encrypt -q -r keys/old.pub.pem in --force").good();
            assert_eq!(all_open(&place, &[2]), NAMES as usize);
        }
    });
}

#[test]
fn a_killed_decrypt_leaves_each_file_old_or_new() {
    let place = Place::with_keys();
    write_all(&place, "in", 2);
    place.sidekey("encrypt -q -r keys/old.pub.pem in/ -o stored").good();
    for existing in [true, false] {
        let prepare = || {
            clear(&place, "out");
            if existing {
                write_all(&place, "out", 1);
            }
        };
        killed(&place, "decrypt -i keys/old.pem stored/ -o out --force --jobs 2", prepare, |at| {
            let names = if place.path("out").exists() { place.names_in("out") } else { vec![] };
            let whole = names.iter().filter(|name| !is_temporary_name(name.as_ref()));
            for name in whole.clone() {
                let (bytes, number) = (place.read(format!("out/{name}")), name.parse().unwrap());
                let old = existing && bytes == contents(number, 1);
                assert!(old || bytes == contents(number, 2), "{name} is not whole, kill {at}");
            }
            assert!(!existing || whole.count() == NAMES as usize);
            if at % 5 == 0 {
                place.sidekey("decrypt -q -i keys/old.pem stored/ -o out --force").good();
                for number in 0..NAMES {
                    assert_eq!(place.read(format!("out/{number}")), contents(number, 2));
                }
            }
        });
    }
}

#[test]
fn a_killed_rewrap_leaves_every_envelope_whole_and_a_second_run_completes() {
    let place = Place::with_keys();
    place.mkdir("plain");
    for number in 0..200 {
        place.write(format!("plain/{number}"), number.to_string());
    }
    place.sidekey("encrypt -q -r keys/old.pub.pem plain/ -o stored").good();
    let before: Vec<_> = (0..200).map(|number| place.read(format!("stored/{number}.key.enc"))).collect();
    let headers: Vec<_> = (0..200).map(|number| place.header(format!("stored/{number}.enc"))).collect();
    let (old, new) = ([place.private("old")], [place.private("new")]);
    let prepare = || {
        for (number, bytes) in before.iter().enumerate() {
            place.write(format!("stored/{number}.key.enc"), bytes);
        }
    };
    killed(&place, "rewrap stored -i keys/old.pem --to keys/new.pub.pem --jobs 2", prepare, |at| {
        let mut moved = 0;
        for (number, header) in headers.iter().enumerate() {
            let name = format!("stored/{number}.key.enc");
            if place.read(&name) == before[number] {
                continue;
            }
            moved += 1;
            let envelope = [place.envelope(&name)];
            unwrap(header, &envelope, &new).unwrap_or_else(|error| panic!("{name}, kill {at}: {error:?}"));
            assert!(unwrap(header, &envelope, &old).is_err(), "{name}, kill {at}");
        }
        assert_eq!(
            place.names_in("stored").iter().filter(|name| !is_temporary_name(name.as_ref())).count(),
            400
        );
        if at % 5 == 0 {
            let run = place.sidekey("rewrap --json stored -i keys/old.pem --to keys/new.pub.pem").good();
            let summary = common::objects(&run.stdout).pop().unwrap();
            let count = |name: &str| summary[name].as_u64().unwrap();
            assert_eq!((count("already"), count("rewrapped"), count("opened")), (moved, 200 - moved, 0));
        }
    });
}

/// Waits until the run has begun to write a result, and returns what it writes.
fn wait_for_unfinished(place: &Place, run: &Killed) -> Vec<PathBuf> {
    let deadline = Instant::now() + Duration::from_secs(LIMIT);
    loop {
        let found = place.unfinished(run.0.id());
        if !found.is_empty() || Instant::now() > deadline {
            return found;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_signal_ends_it_with_130_and_leaves_no_temporary_file() {
    let place = Place::with_keys();
    let plain = noise(4 << 20, 7);
    place.write("plain", &plain);
    place.sidekey("encrypt -q -r keys/old.pub.pem plain").good();
    let container = place.read("plain.enc");
    place.write("kept", "kept");
    let before = place.names();
    for (line, bytes) in [
        ("encrypt -r keys/old.pub.pem - -o new.enc", &plain),
        ("encrypt -r keys/old.pub.pem - -o kept.enc --envelope plain.key.enc --force", &plain),
        ("decrypt -i keys/old.pem - --envelope plain.key.enc -o new", &container),
        ("decrypt -i keys/old.pem - --envelope plain.key.enc -o kept --force", &container),
    ] {
        for signal in ["INT", "TERM", "HUP"] {
            let mut run = spawn(&place, line, Stdio::piped());
            // The end never comes: it waits for more when the signal does.
            let mut stdin = run.0.stdin.take().unwrap();
            stdin.write_all(&bytes[..bytes.len() - 96]).unwrap();
            let found = wait_for_unfinished(&place, &run);
            assert_eq!(found.len(), 1, "{line}");
            let pid = run.0.id().to_string();
            assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
            assert_eq!(run.0.wait().unwrap().code(), Some(130), "{line} {signal}");
            assert_eq!(place.names(), before, "{line} {signal}");
        }
    }
    assert_eq!(place.text("kept"), "kept");
    place.sidekey("decrypt -q -i keys/old.pem plain.enc -o again").good();
}

#[test]
fn a_signal_to_a_rewrap_leaves_every_envelope_whole() {
    let place = Place::with_keys();
    place.mkdir("plain");
    for number in 0..200 {
        place.write(format!("plain/{number}"), "x");
    }
    place.sidekey("encrypt -q -r keys/old.pub.pem plain/ -o stored").good();
    let mut run = spawn(&place, "rewrap stored -i keys/old.pem --to keys/new.pub.pem", Stdio::null());
    assert!(!wait_for_unfinished(&place, &run).is_empty());
    assert!(Command::new("kill").args(["-s", "INT", &run.0.id().to_string()]).status().unwrap().success());
    assert_eq!(run.0.wait().unwrap().code(), Some(130));
    assert_eq!(place.temporary(), Vec::<PathBuf>::new());
    let opens = place.sidekey("decrypt -q -i keys/old.pem -i keys/new.pem stored/ -o out").good();
    assert_eq!((opens.stderr.as_str(), place.names_in("out").len()), ("", 200));
}

/// A finished container in its temporary file, and its envelope.
fn container(place: &Place, target: &Path, plain: &[u8]) -> (AtomicFile, String, DataId) {
    let (key, id) = (FileKey::generate(&OsRandom).unwrap(), DataId::generate(&OsRandom).unwrap());
    let mut file = AtomicFile::create(target, Mode::Data).unwrap();
    seal(&key, id, None, plain, &mut file, &OsRandom, &SealOptions::default()).unwrap();
    let envelope = wrap(&key, &id, &[place.public("old")], SystemTime::UNIX_EPOCH).unwrap();
    (file, envelope.to_text().unwrap(), id)
}

/// What `x.enc` opens to, when it is there.
fn opens_to(place: &Place, envelope: &str) -> Option<String> {
    if !place.path("x.enc").exists() {
        return None;
    }
    Some(place.sidekey(&format!("decrypt -q -i keys/old.pem x.enc -o -{envelope}")).good().stdout)
}

/// Stores `new` in place of `old`, if there is to be an old one, and stops dead after so many steps; returns whether
/// that was the end.
fn stop_after(steps: usize, replace: bool, apart: bool) -> bool {
    let place = Place::with_keys();
    let target = place.path("x.enc");
    let option = if apart { " --envelope F" } else { "" };
    place.write("plain", "old");
    if replace {
        place.sidekey(&format!("encrypt -q -r keys/old.pub.pem plain -o x.enc{option}")).good();
    }
    let (file, envelope, id) = container(&place, &target, b"new");
    let paths = match apart {
        true => PairPaths::with_envelope(&target, &place.path("F"), &id),
        false => PairPaths::of(&target, &id).unwrap(),
    };
    let mut publishing = Publishing::new(paths, file, envelope);
    let mut put = Put::new(Form::Beside, replace);
    let mut left = steps;
    while left > 0 && !matches!(put.step(), PutStep::Finished(_)) {
        let reply = publishing.perform(put.step());
        put.reply(reply);
        left -= 1;
    }
    let finished = put.step() == PutStep::Finished(PutOutcome::Stored(Form::Beside));
    // As a killed process leaves it: nothing is cleaned up.
    std::mem::forget(publishing);
    let opened = opens_to(&place, option);
    match (replace, finished) {
        (_, true) => assert_eq!(opened.as_deref(), Some("new")),
        (true, false) => {
            assert!(matches!(opened.as_deref(), Some("old" | "new")), "step {steps}: {opened:?}");
        }
        (false, false) => assert_eq!(opened, None, "step {steps}"),
    }
    // Whatever it left, a second run completes.
    place.write("plain", "again");
    place.sidekey(&format!("encrypt -q -r keys/old.pub.pem plain -o x.enc --force{option}")).good();
    assert_eq!(opens_to(&place, option).as_deref(), Some("again"));
    finished
}

#[test]
fn a_pair_opens_after_every_step_of_storing_it() {
    for (replace, apart, expected) in [(false, false, 2), (true, false, 3), (false, true, 2), (true, true, 3)]
    {
        let steps = (0..10).take_while(|steps| !stop_after(*steps, replace, apart)).count();
        assert_eq!(steps, expected, "replace {replace}, envelope elsewhere {apart}");
    }
}

#[test]
fn a_name_taken_in_the_meantime_changes_nothing() {
    let place = Place::with_keys();
    let target = place.path("x.enc");
    let (file, envelope, id) = container(&place, &target, b"new");
    let mut publishing = Publishing::new(PairPaths::of(&target, &id).unwrap(), file, envelope);
    let mut put = Put::new(Form::Beside, false);
    let reply = publishing.perform(put.step());
    put.reply(reply);
    place.write("x.enc", "somebody else was faster");
    while !matches!(put.step(), PutStep::Finished(_)) {
        let reply = publishing.perform(put.step());
        put.reply(reply);
    }
    assert_eq!(put.step(), PutStep::Finished(PutOutcome::Exists));
    drop(publishing);
    assert_eq!(place.names(), ["keys", "x.enc"]);
    assert_eq!(place.text("x.enc"), "somebody else was faster");
}
