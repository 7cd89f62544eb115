//! Rotation on servers: `kill -9` of the real program at any moment, calls counted by the server, and other processes that
//! go on writing meanwhile. `ROTATE_KILLS` and `ROTATE_ENVELOPES` make it longer, `ROTATE_SEED` draws the same moments again.
#![expect(
    clippy::disallowed_methods,
    reason = "moments are drawn by the clock, or by what the environment says"
)]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use sidekey::location::Location;
use sidekey::store::{ListOptions, Listed};

use crate::common::{Ended, Killed, Place, SIDEKEY, ended, objects};
use crate::s3_server::{self, Versions};
use crate::server::World;

const REWRAP: &str = "rewrap --json @ -i keys/old.pem --to keys/new.pub.pem";

/// A service with a bucket, and how the program reaches it.
pub(crate) struct Service {
    pub(crate) location: String,
    environment: Vec<(&'static str, String)>,
}

impl Service {
    pub(crate) fn b2(world: &World) -> Self {
        Self { location: format!("b2://{}/backup/", world.bucket), environment: world.environment().into() }
    }

    pub(crate) fn s3(bucket: &str) -> Self {
        let environment = [
            ("AWS_ENDPOINT_URL_S3", s3_server::address().to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".into()),
            ("AWS_SECRET_ACCESS_KEY", "test".into()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_EC2_METADATA_DISABLED", "true".into()),
        ];
        Self { location: format!("s3://{bucket}/backup/"), environment: environment.into() }
    }

    pub(crate) fn args(&self, line: &str) -> Vec<String> {
        line.split(' ').map(|word| word.replace('@', &self.location)).collect()
    }

    pub(crate) fn command(&self, place: &Place, line: &str) -> Command {
        self.reached(place.command(SIDEKEY, &self.args(line)))
    }

    /// To be killed.
    pub(crate) fn program(&self, place: &Place, line: &str) -> Command {
        self.reached(place.program(&self.args(line)))
    }

    pub(crate) fn reached(&self, mut command: Command) -> Command {
        for name in ["AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_CONFIG_FILE"] {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(crate) fn run(&self, place: &Place, line: &str) -> Ended {
        ended(&mut self.command(place, line))
    }
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(usual)
}

/// Numbers that look like any; the seed is printed.
struct Dice(u64);

impl Dice {
    fn new(what: &str) -> Self {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = number("ROTATE_SEED", clock.as_nanos() as u64) | 1;
        println!("{what}: ROTATE_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end.max(1)
    }
}

/// Small files for `old`, and of every tenth an older version.
fn filled(service: &Service, envelopes: u64) -> Place {
    let place = Place::with_keys();
    place.mkdir("tree");
    let write = |version: &str| {
        for number in (0..envelopes).filter(|number| version == "new" || number % 10 == 0) {
            place.write(format!("tree/{number:04}"), format!("{version} contents of {number}"));
        }
        service.run(&place, "put -q -r keys/old.pub.pem tree/ @").good();
    };
    write("old");
    write("new");
    place
}

/// What the summary of a run counts.
fn count(run: &Ended, name: &str) -> u64 {
    let summary = objects(&run.stdout).pop().unwrap_or_else(|| panic!("{run:?}"));
    summary.get(name).and_then(|value| value.as_u64()).unwrap_or_else(|| panic!("{name}: {run:?}"))
}

/// Everything opens with the new key and nothing with the old one, in any version; so many older versions are there, for the
/// new key.
#[track_caller]
fn check(service: &Service, place: &Place, envelopes: u64, twice: u64) {
    let _ = std::fs::remove_dir_all(place.path("back"));
    service.run(place, "get -q -i keys/new.pem @ back/").good();
    for number in 0..envelopes {
        assert_eq!(place.text(format!("back/{number:04}")), format!("new contents of {number}"));
    }
    let audit = service.run(place, "audit --json -i keys/old.pem @");
    assert_eq!((audit.code, count(&audit, "opened"), count(&audit, "unknown")), (Some(0), 0, 0), "{audit:?}");
    assert_eq!(count(&audit, "old_versions"), twice, "{audit:?}");
    // No version of the contents became unreadable.
    let verify = service.run(place, "verify -q --versions -i keys/new.pem @");
    assert!(matches!(verify.code, Some(0 | 4)), "{verify:?}");
    let old = service.run(place, "get -q -i keys/old.pem @ nothing/");
    assert_ne!(old.code, Some(0), "{old:?}");
}

/// Stops run after run; says how many were killed before they ended.
fn kill_again_and_again(service: &Service, place: &Place, kills: u64, what: &str) -> u64 {
    let mut dice = Dice::new(what);
    let mut killed = 0;
    // How long a run takes that is not stopped, less the start of the program.
    let start = Instant::now();
    service.run(place, &REWRAP.replace("--json", "--json --dry-run")).good();
    let whole = start.elapsed().as_millis() as u64 * 2;
    for _ in 0..kills {
        let mut command = service.program(place, REWRAP);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut run = Killed::spawn(&mut command);
        std::thread::sleep(Duration::from_millis(20 + dice.below(whole)));
        run.0.kill().unwrap();
        killed += u64::from(run.0.wait().unwrap().code().is_none());
    }
    killed
}

#[test]
fn a_run_on_b2_that_is_killed_is_gone_on_with() {
    let (kills, envelopes) = (number("ROTATE_KILLS", 15), number("ROTATE_ENVELOPES", 60));
    let world = World::new(&json!({}));
    let service = Service::b2(&world);
    let place = filled(&service, envelopes);
    let all = envelopes + envelopes.div_ceil(10);
    world.reset_calls();
    let killed = kill_again_and_again(&service, &place, kills, "b2");
    let last = service.run(&place, &format!("{REWRAP} --prove all")).good();
    let uploads = world.calls().of("b2_upload_file");
    println!("{killed} of {kills} runs killed, {uploads} uploads for {all} envelopes");
    assert_eq!((count(&last, "residue"), count(&last, "opened")), (0, 0), "{last:?}");
    // What was on its way when a run was killed may be uploaded once more; what was done is not.
    assert!(uploads >= all && uploads <= all + killed * 64, "{uploads} uploads for {all} envelopes");
    let doubled = uploads - all;
    assert!(doubled <= all / 2 + killed * 8, "{doubled} of {all} were uploaded twice");
    let versions = world.versions();
    let left = versions.iter().filter(|version| version.name.ends_with(".key.enc")).count() as u64;
    println!("{} versions for the new key twice", left - all);
    // Two versions for the new key, of which one arrived when its run was dead, cannot be compared without that key.
    assert!(left >= all && left - all <= doubled, "{left} versions of {all} envelopes");
    check(&service, &place, envelopes, left - all);
    assert_eq!(world.calls().violations, [""; 0]);
}

#[test]
fn a_run_on_s3_that_is_killed_is_gone_on_with() {
    let (kills, envelopes) = (number("ROTATE_KILLS", 15), number("ROTATE_ENVELOPES", 60));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let bucket = runtime.block_on(s3_server::bucket(Versions::On));
    let service = Service::s3(&bucket);
    let place = filled(&service, envelopes);
    let killed = kill_again_and_again(&service, &place, kills, "s3");
    let last = service.run(&place, &format!("{REWRAP} --prove all")).good();
    println!("{killed} of {kills} runs killed");
    assert_eq!((count(&last, "residue"), count(&last, "opened")), (0, 0), "{last:?}");
    let location = Location::new(s3_server::store(&bucket), "").unwrap();
    let keys: Vec<String> = runtime.block_on(async {
        let options = ListOptions { prefix: "backup/".into(), versions: true, ..ListOptions::default() };
        let listed: Vec<_> = futures_util::StreamExt::collect(location.store().list(options)).await;
        let keys = listed.into_iter().filter_map(|listed| match listed.unwrap() {
            Listed::Object(object) => Some(object.key),
            Listed::Folder(_) => None,
        });
        keys.filter(|key| key.ends_with(".key.enc")).collect()
    });
    let mut names = keys.clone();
    names.dedup();
    let twice = (keys.len() - names.len()) as u64;
    println!("{twice} versions for the new key twice");
    assert!(twice <= killed * 8, "{twice} older versions of envelopes are left");
    check(&service, &place, envelopes, twice);
}

#[test]
fn each_envelope_takes_the_calls_that_the_docs_say() {
    const FILES: u64 = 40;
    let world = World::new(&json!({}));
    let service = Service::b2(&world);
    let place = Place::with_keys();
    place.mkdir("tree");
    for number in 0..FILES {
        place.write(format!("tree/{number}"), format!("contents of {number}"));
    }
    service.run(&place, "put -q -r keys/old.pub.pem tree/ @").good();
    world.reset_calls();
    let run = service.run(&place, &format!("{REWRAP} --jobs 2")).good();
    assert_eq!(
        (count(&run, "rewrapped"), count(&run, "checked"), count(&run, "tried")),
        (FILES, FILES, FILES)
    );
    let calls = world.calls();
    println!("{:?}", calls.calls);
    let downloads = calls.of("b2_download_file_by_id") + calls.of("b2_download_file_by_name");
    // The envelope, the container's first 64 bytes, the read-back; and once more each of the sample, which is all of them.
    assert_eq!(downloads, 3 * FILES + FILES, "{:?}", calls.calls);
    assert_eq!(calls.of("b2_upload_file"), FILES, "{:?}", calls.calls);
    assert_eq!(calls.of("b2_delete_file_version"), FILES, "{:?}", calls.calls);
    // 80 names and versions, twice.
    let listings = calls.of("b2_list_file_versions") + calls.of("b2_list_file_names");
    assert!(listings <= 4, "{:?}", calls.calls);
    assert_eq!(calls.violations, [""; 0]);
}

#[test]
fn what_other_processes_do_meanwhile_is_safe() {
    const FILES: u64 = 60;
    let world = World::new(&json!({}));
    let service = Service::b2(&world);
    let place = filled(&service, FILES);
    // One that uploads for the old key, one that overwrites, one that removes.
    place.mkdir("more");
    for number in 0..20 {
        place.write(format!("more/late {number}"), format!("late {number}"));
        place.write(format!("more/{number:04}"), format!("newer contents of {number}"));
    }
    let mut rewrap = service.command(&place, REWRAP);
    rewrap.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = rewrap.spawn().unwrap();
    service.run(&place, "put -q -r keys/old.pub.pem more/ @").good();
    service.run(&place, "rm -q @0059").good();
    let first = run.wait_with_output().unwrap();
    assert!(matches!(first.status.code(), Some(0 | 4)), "{first:?}");
    let last = service.run(&place, &format!("{REWRAP} --prove all")).good();
    assert_eq!(
        (count(&last, "residue"), count(&last, "opened"), count(&last, "failed")),
        (0, 0, 0),
        "{last:?}"
    );
    service.run(&place, "get -q -i keys/new.pem @ back/").good();
    for number in 0..20 {
        assert_eq!(place.text(format!("back/late {number}")), format!("late {number}"));
        assert_eq!(place.text(format!("back/{number:04}")), format!("newer contents of {number}"));
    }
    assert!(!place.path("back/0059").exists());
    let audit = service.run(&place, "audit --json -i keys/old.pem @").good();
    assert_eq!(count(&audit, "opened"), 0);
}
