//! `kill -9` of the real program in a rotation, on a folder and on servers, and what the next run makes of it.
//!
//! Moments are drawn by what a run has noted in its journal, so that each is at work and all of them share the progress,
//! however fast the machine is. `ROTATE_KILLS` and `ROTATE_ENVELOPES` make it longer, `ROTATE_SEED` draws the same again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use sidekey::location::Location;
use sidekey::store::{ListOptions, Listed};

use crate::chance::{dice, number};
use crate::common::{Ended, Killed, LIMIT, Place};
use crate::edits::Dice;
use crate::rotate_servers::{REWRAP, Service, count, fill};
use crate::s3_server::{self, Counting, Versions};
use crate::server::World;

/// A run that is to do no envelope is killed within this time: it starts, lists and reads.
const BEGINS: Duration = Duration::from_millis(300);

/// How many kills, and how many envelopes; of every tenth of these an older one.
fn how_much(usual: u64) -> (u64, u64) {
    (number("ROTATE_KILLS", 8), number("ROTATE_ENVELOPES", usual))
}

/// How long a command may take that works on all of them, in seconds.
fn limit(envelopes: u64) -> u64 {
    LIMIT + envelopes / 2
}

fn with_older(envelopes: u64) -> u64 {
    envelopes + envelopes.div_ceil(10)
}

fn sleep(dice: &mut Dice, most: Duration) {
    std::thread::sleep(Duration::from_micros(dice.roll(most.as_micros() as usize) as u64));
}

/// What runs note in their journal: a line with `+` before an envelope is written, one with `=` when it is done.
struct Noted<'p> {
    place: &'p Place,
    /// How much of it was read, in bytes.
    read: u64,
    done: u64,
    /// Texts that this run began to write and has not seen written.
    on_their_way: BTreeSet<String>,
}

impl<'p> Noted<'p> {
    fn new(place: &'p Place) -> Self {
        Self { place, read: 0, done: 0, on_their_way: BTreeSet::new() }
    }

    /// How many envelopes are done by now.
    fn done(&mut self) -> u64 {
        let Ok(entries) = std::fs::read_dir(self.place.path(".local/state/sidekey")) else { return 0 };
        let mut names = entries.map(|entry| entry.unwrap().path());
        let is_journal = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("rewrap-");
        let Some(path) = names.find(is_journal) else { return 0 };
        let (mut file, mut text) = (File::open(path).unwrap(), String::new());
        file.seek(SeekFrom::Start(self.read)).unwrap();
        file.read_to_string(&mut text).unwrap();
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            self.read += line.len() as u64;
            self.take(line.trim_end());
        }
        self.done
    }

    fn take(&mut self, line: &str) {
        if let Some(text) = line.strip_prefix('+') {
            self.on_their_way.insert(text.to_owned());
        } else if let Some((_, text)) = line.strip_prefix('=').and_then(|line| line.split_once(' ')) {
            self.done += 1;
            self.on_their_way.remove(text);
        }
    }
}

/// Kills run after run, each after its share of the envelopes: at most twice what is left, divided by the kills that are
/// left. `after` each looks at what is there. Says how many texts were on their way then, which may be written twice.
fn kill_again_and_again(
    (service, place, what): (&Service, &Place, &str),
    (kills, envelopes): (u64, u64),
    mut after: impl FnMut(),
) -> u64 {
    let (mut dice, mut noted) = (dice("ROTATE_SEED", what), Noted::new(place));
    let (mut killed, mut done, mut unsure) = (0, vec![], 0);
    for kill in 0..kills {
        noted.on_their_way.clear();
        let at = noted.done();
        let share = dice.roll((2 * envelopes.saturating_sub(at) / (kills - kill) + 1) as usize) as u64;
        let mut command = service.program(place, REWRAP);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut run = Killed::spawn(&mut command);
        if share == 0 {
            sleep(&mut dice, BEGINS);
        }
        while noted.done() < at + share && run.0.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        sleep(&mut dice, Duration::from_millis(2));
        run.0.kill().unwrap();
        killed += u64::from(run.0.wait().unwrap().code().is_none());
        done.push(noted.done());
        unsure += noted.on_their_way.len() as u64;
        after();
    }
    println!("{what}: {killed} of {kills} runs killed, when they had done {done:?} of {envelopes}");
    assert!(killed * 10 >= kills * 8, "{what}: only {killed} of {kills} were killed");
    let at_work = done.iter().filter(|done| (1..envelopes).contains(*done)).count() as u64;
    assert!(
        at_work * 2 >= kills,
        "{what}: only {at_work} of {kills} were killed while there was something to do"
    );
    unsure
}

/// A last run; nothing of the old key is left after it.
fn last_run(service: &Service, place: &Place) -> Ended {
    let last = service.run(place, &format!("{REWRAP} --prove all")).good();
    assert_eq!((count(&last, "residue"), count(&last, "opened")), (0, 0), "{last:?}");
    last
}

/// Everything opens with the new key and nothing with the old one, in any version; no envelope has an older version.
#[track_caller]
fn check(service: &Service, place: &Place, envelopes: u64) {
    service.run(place, "get -q -i keys/new.pem @ back/").good();
    for number in 0..envelopes {
        assert_eq!(place.text(format!("back/{number:04}")), format!("new contents of {number}"));
    }
    let audit = service.run(place, "audit --json -i keys/old.pem @");
    assert_eq!((audit.code, count(&audit, "opened"), count(&audit, "unknown")), (Some(0), 0, 0), "{audit:?}");
    assert_eq!(count(&audit, "old_versions"), 0, "{audit:?}");
    // No version of the contents became unreadable.
    let verify = service.run(place, "verify -q --versions -i keys/new.pem @");
    assert!(matches!(verify.code, Some(0 | 4)), "{verify:?}");
    let old = service.run(place, "get -q -i keys/old.pem @ nothing/");
    assert_ne!(old.code, Some(0), "{old:?}");
}

#[test]
fn a_run_on_a_folder_that_is_killed_is_gone_on_with() {
    let (kills, envelopes) = how_much(300);
    let place = Place::with_keys();
    let service = Service { limit: limit(envelopes), ..Service::folder(&place) };
    fill(&service, &place, envelopes);
    let all = with_older(envelopes);
    let stored = || -> BTreeMap<String, Vec<u8>> {
        let names = place.names_in("vault").into_iter().filter(|name| name.ends_with(".key.enc"));
        names.map(|name| (name.clone(), place.read(format!("vault/{name}")))).collect()
    };
    let (mut rewritten, mut before) = (0, stored());
    assert_eq!(before.len() as u64, all);
    let mut look = || {
        let now = stored();
        assert!(now.keys().eq(before.keys()));
        rewritten += now.iter().filter(|(name, text)| before[*name] != **text).count() as u64;
        before = now;
    };
    // Older versions of containers are gone there, and their envelopes are proven by nothing: they are not noted so.
    kill_again_and_again((&service, &place, "folder"), (kills, envelopes), &mut look);
    last_run(&service, &place);
    look();
    assert_eq!(rewritten, all, "work was done twice");
    check(&service, &place, envelopes);
    let left = place.names_in("vault").into_iter().filter(|name| !name.ends_with(".enc")).count();
    println!("{left} temporary files are left");
    let again = service.run(&place, REWRAP).good();
    assert_eq!((count(&again, "resumed"), count(&again, "rewrapped")), (all, 0), "{again:?}");
}

#[test]
fn a_run_on_b2_that_is_killed_is_gone_on_with() {
    let (kills, envelopes) = how_much(150);
    let world = World::new(&json!({}));
    let (service, place) = (Service { limit: limit(envelopes), ..Service::b2(&world) }, Place::with_keys());
    fill(&service, &place, envelopes);
    let all = with_older(envelopes);
    world.reset_calls();
    let unsure = kill_again_and_again((&service, &place, "b2"), (kills, all), || ());
    last_run(&service, &place);
    let calls = world.calls();
    let uploads = calls.of("b2_upload_file");
    println!("{uploads} uploads for {all} envelopes, {unsure} were on their way at the kills");
    assert!((all..=all + unsure).contains(&uploads), "{uploads} uploads for {all} envelopes");
    let left = world.versions().iter().filter(|version| version.name.ends_with(".key.enc")).count() as u64;
    assert_eq!(left, all, "older versions of envelopes are left");
    assert_eq!(calls.violations, [""; 0]);
    check(&service, &place, envelopes);
}

#[test]
fn a_run_on_s3_that_is_killed_is_gone_on_with() {
    let (kills, envelopes) = how_much(100);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let bucket = runtime.block_on(s3_server::bucket(Versions::On));
    let counting = Counting::start();
    let service = Service { limit: limit(envelopes), ..Service::s3(&bucket, &counting.address) };
    let place = Place::with_keys();
    fill(&service, &place, envelopes);
    let all = with_older(envelopes);
    counting.counts();
    let unsure = kill_again_and_again((&service, &place, "s3"), (kills, all), || ());
    last_run(&service, &place);
    let calls = counting.counts();
    let uploads = calls["PUT"];
    println!("{uploads} uploads for {all} envelopes, {unsure} were on their way at the kills; {calls:?}");
    assert!((all..=all + unsure).contains(&uploads), "{uploads} uploads for {all} envelopes");
    let location = Location::new(s3_server::store(&bucket), "").unwrap();
    let left = runtime.block_on(async {
        let options = ListOptions { prefix: "backup/".into(), versions: true, ..ListOptions::default() };
        let listed: Vec<_> = futures_util::StreamExt::collect(location.store().list(options)).await;
        let is_envelope = |listed: &&Result<Listed, _>| match listed {
            Ok(Listed::Object(object)) => object.key.ends_with(".key.enc"),
            Ok(Listed::Folder(_)) => false,
            Err(error) => panic!("{error:?}"),
        };
        listed.iter().filter(is_envelope).count() as u64
    });
    assert_eq!(left, all, "older versions of envelopes are left");
    check(&service, &place, envelopes);
}
