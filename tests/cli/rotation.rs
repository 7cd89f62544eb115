//! Rotation by many and in full: shards and their reports, `reencrypt`, `incident`.

use std::collections::BTreeSet;

use crate::common::{Ended, Place, objects};

const KEYS: &str = "-i keys/old.pem --to keys/new.pub.pem";
const FILES: usize = 24;

/// A location with some files for `old`.
fn stored() -> Place {
    let place = Place::with_keys();
    place.mkdir("plain/sub");
    for number in 0..FILES {
        let folder = if number % 3 == 0 { "plain/sub" } else { "plain" };
        place.write(format!("{folder}/f{number:02}"), format!("contents of {number}"));
    }
    place.mkdir("vault");
    place.sidekey("put -q -r keys/old.pub.pem plain/ vault/").good();
    place
}

impl Place {
    fn vault(&self) -> String {
        format!("file://{}", self.path("vault").display())
    }

    /// How many files a key restores.
    fn readable(&self, key: &str) -> usize {
        let _ = std::fs::remove_dir_all(self.path("out"));
        self.sidekey(&format!("get -q -i keys/{key}.pem vault/ out/"));
        (0..FILES)
            .filter(|number| {
                let folder = if number % 3 == 0 { "out/sub" } else { "out" };
                let path = format!("{folder}/f{number:02}");
                self.path(&path).exists() && self.text(path) == format!("contents of {number}")
            })
            .count()
    }

    /// Does the work of the shards of a plan, each with its own report.
    fn workers(&self, plan: &str, skip: Option<usize>) {
        for (number, options) in plan.lines().enumerate().filter(|(number, _)| Some(*number) != skip) {
            let options = options.replace('\'', "");
            let words: Vec<&str> = options.split(' ').collect();
            let [from, from_name, until, until_name] = words[..] else { panic!("{options}") };
            let (vault, report) = (self.vault(), format!("report-{number}.jsonl"));
            let mut args = vec!["rewrap", "-q", &vault, "--report", &report];
            args.extend(KEYS.split(' '));
            args.extend([from, from_name, until, until_name]);
            self.run(&args).good();
        }
    }
}

fn last(run: &Ended) -> serde_json::Map<String, serde_json::Value> {
    let text = serde_json::to_value(objects(&run.stdout).pop().unwrap_or_else(|| panic!("{run:?}"))).unwrap();
    text.as_object().unwrap().clone()
}

#[test]
fn workers_share_a_rotation_and_their_reports_tell_that_it_is_whole() {
    let place = stored();
    let plan = place.sidekey(&format!("report plan-shards 5 {}", place.vault())).good();
    assert_eq!(plan.stdout.lines().count(), 5, "{plan:?}");
    assert!(
        plan.stdout.starts_with("--from '' --until '") && plan.stdout.ends_with("--until ''\n"),
        "{plan:?}"
    );
    let json = place.sidekey(&format!("report plan-shards 5 --json {}", place.vault())).good();
    let names: u64 = objects(&json.stdout)
        .iter()
        .filter(|row| row["type"] == "shard")
        .filter_map(|row| row["names"].as_u64())
        .sum();
    assert_eq!(names, 2 * FILES as u64);

    // One worker never came.
    place.workers(&plan.stdout, Some(2));
    let reports = "report-0.jsonl report-1.jsonl report-3.jsonl report-4.jsonl";
    let gap = place.sidekey(&format!("report merge {reports} -o all.jsonl"));
    assert_eq!(gap.code, Some(4), "{gap:?}");
    let missing = plan.stdout.lines().nth(2).unwrap();
    assert!(gap.stdout.contains(&format!("nobody did {missing}")), "{gap:?}");
    assert!(place.readable("old") > 0 && place.readable("new") > 0);

    place.workers(&plan.stdout, None);
    assert_eq!((place.readable("old"), place.readable("new")), (0, FILES));
    let whole =
        place.sidekey(&format!("report merge {reports} report-2.jsonl -o all.jsonl --force --json")).good();
    let merged = last(&whole);
    assert_eq!(
        (&merged["whole"], &merged["runs"], &merged["superseded"]),
        (&true.into(), &5.into(), &4.into())
    );
    assert_eq!(merged["gaps"], serde_json::json!([]));
    assert_eq!((place.mode("all.jsonl"), &merged["counts"]["residue"]), (0o600, &0.into()));
    let counts = &merged["counts"];
    assert_eq!(counts["rewrapped"].as_u64().unwrap() + counts["resumed"].as_u64().unwrap(), FILES as u64);

    // The merged report is one, too: each envelope is in it.
    let shown = place.sidekey("report show --all --json all.jsonl").good();
    let rows = objects(&shown.stdout);
    let names: BTreeSet<String> = rows
        .iter()
        .filter(|row| row["type"] == "envelope" && row["result"] == "rewrapped")
        .map(|row| row["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names.len(), FILES, "{names:?}");
    let head = merged["head"].as_str().unwrap();
    place.sidekey(&format!("report verify all.jsonl --head {head}")).good();
    place.sidekey("report merge all.jsonl").good();
}

/// The same location and the same keys, and yet nothing of it is rotated.
#[test]
fn a_recipient_who_was_added_is_no_rotation() {
    let place = stored();
    let vault = place.vault();
    place
        .sidekey(&format!("recipients {vault} add --to keys/new.pub.pem -i keys/old.pem --report r.jsonl"))
        .good();
    place.sidekey(&format!("rewrap -q {vault} {KEYS} --from f1 --report r.jsonl")).good();
    let merged = place.sidekey("report merge r.jsonl --json");
    assert_eq!(merged.code, Some(4), "{merged:?}");
    let rows = objects(&merged.stdout);
    let rotations: Vec<_> = rows.iter().filter(|row| row["type"] == "rotation").collect();
    let told: Vec<_> =
        rotations.iter().map(|row| (row["command"].as_str(), row["whole"].as_bool())).collect();
    assert_eq!(told, [(Some("recipients"), Some(true)), (Some("rewrap"), Some(false))], "{merged:?}");
}

#[test]
fn a_changed_report_is_named_with_its_line() {
    let place = stored();
    place.sidekey(&format!("rewrap -q {} {KEYS} --report r.jsonl", place.vault())).good();
    place.sidekey("report verify r.jsonl").good();
    let text = place.text("r.jsonl");
    place.write("r.jsonl", text.replacen("\"rewrapped\"", "\"residue\"", 1));
    for line in ["report verify r.jsonl", "report merge r.jsonl", "report show r.jsonl"] {
        let run = place.sidekey(line);
        assert_eq!(run.code, Some(3), "{run:?}");
        assert!(
            run.stderr.contains("r.jsonl: line 3 does not hold the hash of the line before it"),
            "{run:?}"
        );
    }
    // A lost line, a lost end, another head, and no report at all.
    let mut lines: Vec<&str> = text.lines().collect();
    lines.remove(4);
    place.write("r.jsonl", lines.join("\n"));
    assert_eq!(place.sidekey("report verify r.jsonl").code, Some(3));
    let cut: Vec<&str> = text.lines().take(5).collect();
    place.write("r.jsonl", cut.join("\n"));
    let verified = place.sidekey("report verify r.jsonl").good();
    let says = "r.jsonl: unchanged as far as it goes, 1 run, 1 of which did not come to the end; head ";
    assert!(verified.stdout.starts_with(says), "{verified:?}");
    let shown = place.sidekey("report show r.jsonl").good();
    assert!(shown.stdout.contains(": did not come to its end, 4 lines; head "), "{shown:?}");
    let unfinished = place.sidekey("report merge r.jsonl");
    assert_eq!(unfinished.code, Some(4), "{unfinished:?}");
    assert!(unfinished.stdout.contains("a run did not come to its end: all names"), "{unfinished:?}");
    assert_eq!(place.sidekey(&format!("report verify r.jsonl --head {}", "0".repeat(64))).code, Some(3));
    place.write("r.jsonl", "{\"type\":\"run\"}\n");
    assert_eq!(place.sidekey("report verify r.jsonl").code, Some(1));
}

#[test]
fn ranges_are_for_locations_and_hold_something() {
    let place = stored();
    let path = place.sidekey(&format!("rewrap vault {KEYS} --from a"));
    assert_eq!(path.code, Some(2), "{path:?}");
    let empty = place.sidekey(&format!("rewrap {} {KEYS} --from b --until a", place.vault()));
    assert_eq!(empty.code, Some(2), "{empty:?}");
    assert!(empty.stderr.contains("no name is at or behind --from and before --until"), "{empty:?}");
    let some = place.sidekey("recipients vault/ list --json --from f1 --until f2").good();
    assert_eq!(last(&some)["envelopes"], 7);
}

#[test]
fn a_location_is_reencrypted_for_another_key_and_the_report_says_so() {
    let place = stored();
    let containers = |place: &Place| place.fingerprint("vault");
    let before = containers(&place);
    let line = format!("reencrypt --json vault/ {KEYS} --report r.jsonl");
    let planned = place.sidekey(&format!("{line} --dry-run")).good();
    assert_eq!(last(&planned)["reencrypted"], FILES as u64);
    assert_eq!(containers(&place), before);
    let run = place.sidekey(&line);
    let summary = last(&run);
    // They were stored a moment ago: their old envelopes wait for clean.
    assert_eq!(
        (run.code, &summary["reencrypted"], &summary["failed"]),
        (Some(4), &(FILES as u64).into(), &0.into())
    );
    assert_eq!(summary["residue"], FILES as u64);
    assert_eq!((place.readable("old"), place.readable("new")), (0, FILES));
    let modified = |name: &str| place.path(name).metadata().unwrap().modified().unwrap();
    assert_eq!(modified("out/f01"), modified("plain/f01"));
    let again = place.sidekey(&line).good();
    assert_eq!((&last(&again)["resumed"], &last(&again)["reencrypted"]), (&(FILES as u64).into(), &0.into()));
    place.sidekey("report verify r.jsonl").good();
    let wrong =
        place.sidekey("reencrypt --json --no-resume vault/ -i keys/old.pem --to keys/new.pub.pem").good();
    assert_eq!(last(&wrong)["not_ours"], FILES as u64);
}

#[test]
fn an_incident_is_planned_asked_for_done_and_audited() {
    let place = stored();
    let before = place.fingerprint("vault");
    let plan = place.sidekey(&format!("incident --json {KEYS} vault/ --dry-run")).good();
    let row = last(&plan);
    assert_eq!(
        (&row["type"], &row["envelopes"], &row["containers"]),
        (&"plan".into(), &(FILES as u64).into(), &(FILES as u64).into())
    );
    assert_eq!(
        (&row["rewrap"]["writes"], &row["rewrap"]["dollars"]),
        (&(FILES as u64).into(), &serde_json::Value::Null)
    );
    assert_eq!(place.fingerprint("vault"), before);

    let run = place.sidekey(&format!("incident {KEYS} vault/ --yes --report r.jsonl")).good();
    assert!(run.stderr.contains(&format!("rewrapped {FILES} envelopes")), "{run:?}");
    assert!(
        run.stderr
            .contains(&format!("tried on {FILES} versions of envelopes, 0 of them old: 0 are still opened")),
        "{run:?}"
    );
    assert!(
        run.stderr.contains("what cannot be undone:") && run.stderr.contains("sidekey reencrypt"),
        "{run:?}"
    );
    assert_eq!((place.readable("old"), place.readable("new")), (0, FILES));
    let again = place.sidekey(&format!("incident {KEYS} vault/ --yes")).good();
    assert!(again.stderr.contains("rewrapped 0 envelopes"), "{again:?}");
}
