//! Rotation on servers: calls counted by the server, and other processes that go on writing meanwhile.

use std::process::{Command, Stdio};

use serde_json::json;

use crate::common::{Ended, LIMIT, Place, SIDEKEY, ended, objects};
use crate::s3_server::{self, Counting, Versions};
use crate::server::World;

pub(crate) const REWRAP: &str = "rewrap --json @ -i keys/old.pem --to keys/new.pub.pem";

/// A location, and how the program reaches it; `@` in a command line stands for it.
pub(crate) struct Service {
    pub(crate) location: String,
    pub(crate) environment: Vec<(&'static str, String)>,
    /// How many seconds a command may take.
    pub(crate) limit: u64,
}

impl Service {
    pub(crate) fn folder(place: &Place) -> Self {
        place.mkdir("vault");
        Self {
            location: format!("file://{}/", place.path("vault").display()),
            environment: vec![],
            limit: LIMIT,
        }
    }

    pub(crate) fn b2(world: &World) -> Self {
        Self {
            location: format!("b2://{}/backup/", world.bucket),
            environment: world.environment().into(),
            limit: LIMIT,
        }
    }

    /// Of a server that listens there.
    pub(crate) fn s3(bucket: &str, address: &str) -> Self {
        let environment = [
            ("AWS_ENDPOINT_URL_S3", address.to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".into()),
            ("AWS_SECRET_ACCESS_KEY", "test".into()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_EC2_METADATA_DISABLED", "true".into()),
        ];
        Self { location: format!("s3://{bucket}/backup/"), environment: environment.into(), limit: LIMIT }
    }

    pub(crate) fn args(&self, line: &str) -> Vec<String> {
        line.split(' ').map(|word| word.replace('@', &self.location)).collect()
    }

    pub(crate) fn command(&self, place: &Place, line: &str) -> Command {
        self.reached(place.command_within(self.limit, SIDEKEY, &self.args(line)))
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

/// Puts small files for `old`, and of every tenth an older version.
pub(crate) fn fill(service: &Service, place: &Place, envelopes: u64) {
    place.mkdir("tree");
    let write = |version: &str| {
        for number in (0..envelopes).filter(|number| version == "new" || number % 10 == 0) {
            place.write(format!("tree/{number:04}"), format!("{version} contents of {number}"));
        }
        service.run(place, "put -q -r keys/old.pub.pem tree/ @").good();
    };
    write("old");
    write("new");
}

/// What the summary of a run counts.
pub(crate) fn count(run: &Ended, name: &str) -> u64 {
    let summary = objects(&run.stdout).pop().unwrap_or_else(|| panic!("{run:?}"));
    summary.get(name).and_then(|value| value.as_u64()).unwrap_or_else(|| panic!("{name}: {run:?}"))
}

/// A place whose small files are stored for `old`, each once.
fn stored_once(service: &Service, files: u64) -> Place {
    let place = Place::with_keys();
    place.mkdir("tree");
    for number in 0..files {
        place.write(format!("tree/{number}"), format!("contents of {number}"));
    }
    service.run(&place, "put -q -r keys/old.pub.pem tree/ @").good();
    place
}

#[test]
fn each_envelope_takes_the_calls_that_the_docs_say() {
    const FILES: u64 = 40;
    let world = World::new(&json!({}));
    let service = Service::b2(&world);
    let place = stored_once(&service, FILES);
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
fn each_envelope_on_s3_takes_the_calls_that_the_docs_say() {
    const FILES: u64 = 40;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    // Deletes go together where they wait for a connection, and each by itself where there are connections enough.
    for (versions, connections, deleted) in
        [(Versions::On, 64, FILES..FILES + 10), (Versions::On, 2, 1..FILES), (Versions::Off, 64, 0..10)]
    {
        let (counting, bucket) = (Counting::start(), runtime.block_on(s3_server::bucket(versions)));
        let service = Service::s3(&bucket, &counting.address);
        let place = stored_once(&service, FILES);
        counting.counts();
        let run = service.run(&place, &format!("{REWRAP} --jobs 2 --connections {connections}")).good();
        assert_eq!((count(&run, "rewrapped"), count(&run, "tried")), (FILES, FILES));
        let calls = counting.counts();
        println!("{versions:?}, {connections} connections: {calls:?}");
        // A few more try the bucket's conditions, and list.
        let of = |method: &str| calls.get(method).copied().unwrap_or_default();
        assert!((4 * FILES..4 * FILES + 20).contains(&of("GET")), "{versions:?}: {calls:?}");
        assert!((FILES..FILES + 10).contains(&of("PUT")), "{versions:?}: {calls:?}");
        assert!(deleted.contains(&(of("DELETE") + of("POST"))), "{versions:?}, {connections}: {calls:?}");
        assert_eq!(of("HEAD"), 0, "{versions:?}: {calls:?}");
    }
}

/// Plans, rewraps, and audits what is there with an older version of every tenth; and once more when all is done.
fn incident_on(service: &Service) {
    const FILES: u64 = 20;
    let place = Place::with_keys();
    fill(service, &place, FILES);
    let line = "incident --json @ -i keys/old.pem --to keys/new.pub.pem";
    let plan = service.run(&place, &format!("{line} --dry-run")).good();
    let row = objects(&plan.stdout).into_iter().find(|row| row["type"] == "plan").unwrap();
    let number = |name: &str| row[name].as_u64().unwrap();
    // Two versions of every tenth container, and an envelope of its own for each.
    let all = FILES + FILES / 10;
    assert_eq!(
        (number("containers"), number("old_containers"), number("envelopes")),
        (all, FILES / 10, all),
        "{row:?}"
    );
    assert_eq!(row["rewrap"]["writes"].as_u64(), Some(all), "{row:?}");
    assert!(row["rewrap"]["dollars"].as_f64().is_some_and(|dollars| dollars > 0.0), "{row:?}");
    service.run(&place, "get -q -i keys/old.pem @ planned/").good();
    assert_eq!(place.names_in("planned").len() as u64, FILES);

    let asked = service.run(&place, line);
    assert_eq!(asked.code, Some(2), "nobody agreed: {asked:?}");
    let run = service.run(&place, &format!("{line} --yes --report r.jsonl")).good();
    let rows = objects(&run.stdout);
    let rewrapped: Vec<u64> = rows.iter().filter_map(|row| row.get("rewrapped")?.as_u64()).collect();
    assert_eq!(rewrapped, [all], "{run:?}");
    let opened: Vec<u64> = rows.iter().filter_map(|row| row.get("opened")?.as_u64()).collect();
    assert_eq!(opened, [0, 0], "by the sample of rewrap and by the audit: {run:?}");
    place.sidekey("report verify r.jsonl").good();
    service.run(&place, "get -q -i keys/new.pem @ back/").good();
    for number in 0..FILES {
        assert_eq!(place.text(format!("back/{number:04}")), format!("new contents of {number}"));
    }
    assert_ne!(service.run(&place, "get -q -i keys/old.pem @ nothing/").code, Some(0));

    let again = service.run(&place, &format!("{line} --yes")).good();
    let rewrapped: Vec<u64> =
        objects(&again.stdout).iter().filter_map(|row| row.get("rewrapped")?.as_u64()).collect();
    assert_eq!(rewrapped, [0], "{again:?}");
}

#[test]
fn an_incident_on_b2() {
    let world = World::new(&json!({}));
    incident_on(&Service::b2(&world));
    assert_eq!(world.calls().violations, [""; 0]);
}

#[test]
fn an_incident_on_s3() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let bucket = runtime.block_on(s3_server::bucket(Versions::On));
    incident_on(&Service::s3(&bucket, s3_server::address()));
}

#[test]
fn what_other_processes_do_meanwhile_is_safe() {
    const FILES: u64 = 60;
    let world = World::new(&json!({}));
    let service = Service::b2(&world);
    let place = Place::with_keys();
    fill(&service, &place, FILES);
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
