//! The recipes for many workers in docs/rotation.md, run as they stand there but for the names of places.

use std::path::Path;

use crate::common::{Ended, Place, ended};

const FILES: usize = 24;
const WORKERS: usize = 4;

/// What stands for `aws s3 cp`: a folder beside.
const AWS: &str = r#"#!/bin/sh
[ "$1 $2" = "s3 cp" ] || exit 2
place() { case $1 in s3://rotation-work/*) echo "work/${1#s3://rotation-work/}" ;; *) echo "$1" ;; esac; }
exec cp "$(place "$3")" "$(place "$4")"
"#;

/// The block of the text that holds this.
fn recipe(with: &str) -> String {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rotation.md")).unwrap();
    let mut found = text.split("\n```").skip(1).step_by(2).filter(|block| block.contains(with));
    let block = found.next().unwrap_or_else(|| panic!("no recipe with {with:?}"));
    assert_eq!(found.next(), None, "{with:?}");
    let (_, lines) = block.split_once('\n').unwrap();
    lines.replace("64", &WORKERS.to_string())
}

/// A location with some files for `old`, which is the remote of the recipes, a plan of shards, and the programs that they call.
fn stored() -> Place {
    let place = Place::with_keys();
    for number in 0..FILES {
        place.mkdir(format!("plain/{}", number % 3));
        place.write(format!("plain/{}/it's {number}", number % 3), format!("contents of {number}"));
    }
    place.sidekey("remote add nas nas/").good();
    place.sidekey("put -q -r keys/old.pub.pem plain/ nas:photos").good();
    place.mkdir("bin");
    place.write("bin/aws", AWS);
    place.chmod("bin/aws", 0o700);
    place.shell("ln -s \"$PROGRAM\" bin/sidekey && cp keys/* .").good();
    place.shell(&format!("bin/sidekey report plan-shards {WORKERS} nas:photos > shards")).good();
    assert_eq!(place.text("shards").lines().count(), WORKERS);
    place
}

impl Place {
    fn recipe(&self, script: &str, env: &[(&str, &str)]) -> Ended {
        let mut command = self.command("sh", &["-c", &format!("PATH=$PWD/bin:$PATH\n{script}")]);
        ended(command.envs(env.iter().copied())).good()
    }

    /// Every file is for the new key alone, and these reports say so.
    fn is_rotated(&self, reports: &str) {
        self.shell(&format!("bin/sidekey report merge {reports} -o whole.jsonl")).good();
        self.sidekey("audit -i keys/old.pem nas:photos").good();
        self.sidekey("get -q -i keys/new.pem nas:photos/ out/").good();
        assert_eq!(self.tree("out").len(), self.tree("plain").len());
    }
}

#[test]
fn gnu_parallel_shares_a_rotation() {
    let place = stored();
    place.recipe(&recipe("parallel --joblog"), &[]);
    place.is_rotated("report-*.jsonl");
}

#[test]
fn several_hosts_share_a_rotation() {
    let place = stored();
    for host in 1..=WORKERS {
        let script = recipe("# host 1 of 4").replace("'1~4p'", &format!("'{host}~4p'"));
        place.recipe(&script.replace("host1", &format!("host{host}")), &[]);
    }
    place.is_rotated("report-host*.jsonl");
}

#[test]
fn an_indexed_job_shares_a_rotation() {
    let place = stored();
    let yaml = recipe("completionMode: Indexed");
    // A plain scalar: its lines are joined by blanks.
    let (_, script) = yaml.split_once("args:\n            - ").unwrap();
    let (script, _) = script.split_once("\n          envFrom:").unwrap();
    let script = script.split('\n').map(str::trim).collect::<Vec<_>>().join(" ");
    let script =
        script.replace("b2://bucket/photos", "nas:photos").replace("/plan/", "").replace("/keys/", "keys/");
    for index in 0..WORKERS {
        place.recipe(&script.replace("/reports/", ""), &[("JOB_COMPLETION_INDEX", &index.to_string())]);
    }
    place.is_rotated("report-*.jsonl");
}

#[test]
fn an_array_job_shares_a_rotation() {
    let place = stored();
    place.shell("mkdir work && mv shards work").good();
    let script = recipe("AWS_BATCH_JOB_ARRAY_INDEX").replace("s3://bucket/photos", "nas:photos");
    for index in 0..WORKERS {
        place.recipe(&script, &[("AWS_BATCH_JOB_ARRAY_INDEX", &index.to_string())]);
    }
    place.is_rotated("work/report-*.jsonl");
}
