//! `rewrap` of locations by the real binary: folders as URLs and as remotes, the report and the journal.

use std::collections::BTreeMap;

use crate::common::{Ended, Place, SIDEKEY, failed, objects};

const KEYS: &str = "-i keys/old.pem --to keys/new.pub.pem";

/// A location with these files in it, for `old`.
fn stored(names: &[&str]) -> Place {
    let place = Place::with_keys();
    place.mkdir("plain");
    for name in names {
        place.write(format!("plain/{name}"), format!("contents of {name}"));
    }
    place.mkdir("vault");
    place.sidekey("put -q -r keys/old.pub.pem plain/ vault/").good();
    place
}

impl Place {
    fn url(&self) -> String {
        format!("file://{}", self.path("vault").display())
    }

    fn rotate(&self, options: &str) -> Ended {
        self.sidekey(&format!("rewrap --json {} {KEYS} {options}", self.url()))
    }

    /// How many files a key restores.
    fn restored(&self, key: &str) -> usize {
        let _ = std::fs::remove_dir_all(self.path("out"));
        self.sidekey(&format!("get -q -i keys/{key}.pem vault/ out/"));
        let found = if self.path("out").exists() { self.names_in("out") } else { vec![] };
        for name in &found {
            assert_eq!(self.text(format!("out/{name}")), format!("contents of {name}"));
        }
        found.len()
    }
}

/// The counts of a summary that are not zero.
fn counts(run: &Ended) -> BTreeMap<String, u64> {
    let summary = objects(&run.stdout).pop().unwrap_or_else(|| panic!("{run:?}"));
    assert_eq!(summary["type"], "summary", "{run:?}");
    let numbers = summary.into_iter().filter_map(|(name, value)| Some((name, value.as_u64()?)));
    numbers.filter(|(_, number)| *number > 0).collect()
}

#[track_caller]
fn counted(run: &Ended, code: i32, expected: &[(&str, u64)]) {
    let expected: BTreeMap<_, _> =
        expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    assert_eq!((counts(run), run.code), (expected, Some(code)), "{run:?}");
}

#[test]
fn a_location_moves_and_its_journal_spares_the_second_run() {
    let place = stored(&["a", "b", "c"]);
    let before = place.fingerprint("vault");
    counted(&place.rotate("--dry-run"), 0, &[("rewrapped", 3), ("checked", 3)]);
    assert_eq!(place.fingerprint("vault"), before);

    counted(&place.rotate("--prove all"), 0, &[("rewrapped", 3), ("checked", 3), ("tried", 3)]);
    assert_eq!((place.restored("new"), place.restored("old")), (3, 0));
    let state = ".local/state/sidekey";
    let [journal] = &place.names_in(state)[..] else { panic!("{:?}", place.names_in(state)) };
    assert_eq!((place.mode(state), place.mode(&format!("{state}/{journal}"))), (0o700, 0o600));

    let after = place.fingerprint("vault");
    counted(&place.rotate(""), 0, &[("resumed", 3)]);
    counted(&place.rotate("--no-resume"), 0, &[("already", 3), ("tried", 3)]);
    assert_eq!(place.fingerprint("vault"), after);
    place.sidekey("put -q -r keys/old.pub.pem plain/a vault/").good();
    counted(&place.rotate(""), 0, &[("rewrapped", 1), ("checked", 1), ("resumed", 3), ("tried", 1)]);
}

#[test]
fn a_remote_is_a_location_and_a_bare_path_is_not() {
    let place = stored(&["a"]);
    place.sidekey("remote add home vault -r keys/old.pub.pem").good();
    counted(
        &place.sidekey(&format!("rewrap --json home: {KEYS} --dry-run")),
        0,
        &[("rewrapped", 1), ("checked", 1)],
    );
    let both = place.sidekey(&format!("rewrap --json home: vault {KEYS} --dry-run")).good();
    let summaries: Vec<_> =
        objects(&both.stdout).into_iter().filter(|line| line["type"] == "summary").collect();
    assert_eq!(summaries.len(), 2, "{both:?}");
    assert_eq!((&summaries[0]["location"], summaries[1]["location"].is_null()), (&"home:".into(), true));

    for option in ["--report r", "--no-purge", "--trust-envelopes", "--no-resume"] {
        let name = option.split(' ').next().unwrap();
        let refused = place.sidekey(&format!("rewrap vault {KEYS} {option}"));
        let says = format!(
            "sidekey: vault: {name} is for locations, and this is a path\n\
             sidekey: hint: write a folder as file:///FOLDER to treat it as a location\n"
        );
        assert_eq!(refused, failed(2, &says));
    }
    assert!(!place.path("r").exists());
    let nothing = place.sidekey(&format!("rewrap home:nothing {KEYS}"));
    assert_eq!(nothing.code, Some(1), "{nothing:?}");
    assert!(nothing.stderr.contains("there is nothing under that name"), "{nothing:?}");
}

#[test]
fn one_object_of_a_location_moves_alone() {
    let place = stored(&["a", "b"]);
    place.sidekey("remote add home vault -r keys/old.pub.pem").good();
    counted(
        &place.sidekey(&format!("rewrap --json home:a {KEYS}")),
        0,
        &[("rewrapped", 1), ("checked", 1), ("tried", 1)],
    );
    assert_eq!((place.restored("new"), place.restored("old")), (1, 1));
}

/// As anybody could check it.
const CHECK: &str = r#"
import hashlib, json, sys
previous, last = "0" * 64, None
for line in open(sys.argv[1], "rb").read().splitlines():
    entry = json.loads(line)
    if entry["type"] == "run":
        previous = "0" * 64
    assert entry["previous"] == previous, line
    previous, last = hashlib.sha256(line).hexdigest(), entry
assert last["type"] == "summary", last
print(previous)
"#;

#[test]
fn the_report_is_a_chain_that_other_programs_check() {
    let place = stored(&["a", "b"]);
    let run = place.rotate("--report report.jsonl");
    counted(&run, 0, &[("rewrapped", 2), ("checked", 2), ("tried", 2)]);
    let head = objects(&run.stdout).pop().unwrap()["head"].as_str().unwrap().to_owned();
    place.write("check.py", CHECK);
    let checked = place.shell("python3 check.py report.jsonl").good();
    assert_eq!(checked.stdout.trim(), head);
    assert_eq!(place.mode("report.jsonl"), 0o600);
    place.shell("sed -i 2d report.jsonl").good();
    assert_eq!(place.shell("python3 check.py report.jsonl").code, Some(1));

    let people = place.sidekey(&format!("rewrap {} {KEYS} --report report.jsonl", place.url())).good();
    assert!(people.stderr.contains("the report's last line has the hash "), "{people:?}");
}

#[test]
fn what_stays_for_the_old_key_is_exit_code_4_and_in_the_report() {
    let place = stored(&["a", "b"]);
    let names = place.names_in("vault");
    let envelope = names.iter().find(|name| name.starts_with("a.") && name.ends_with(".key.enc")).unwrap();
    place.write("vault/copy of it.txt", place.read(format!("vault/{envelope}")));
    place.write(format!("vault/{envelope}"), "damaged");
    let run = place.rotate("--report report.jsonl");
    counted(&run, 4, &[("rewrapped", 1), ("residue", 2), ("checked", 1), ("tried", 1)]);
    let lines = objects(&place.text("report.jsonl"));
    let results: Vec<_> = lines.iter().filter_map(|line| line.get("result")).collect();
    assert_eq!(results.iter().filter(|result| **result == "residue").count(), 2, "{lines:?}");
    assert_eq!(place.restored("new"), 1);
}

#[test]
fn without_a_home_and_without_a_place_for_the_journal_it_works_all_the_same() {
    let place = stored(&["a"]);
    place.write("no-folder", "a file");
    let line = format!("rewrap --json {} {KEYS} --dry-run", place.url());
    let args: Vec<&str> = line.split_whitespace().collect();
    let run = |home: &str, state: &str| {
        let mut command = place.command(SIDEKEY, &args);
        command.env("HOME", home).env("XDG_STATE_HOME", state);
        crate::common::ended(&mut command)
    };
    let nowhere = run("", "");
    counted(&nowhere, 0, &[("rewrapped", 1), ("checked", 1)]);
    assert_eq!(nowhere.stderr, "");
    let blocked = run("", place.path("no-folder").to_str().unwrap());
    counted(&blocked, 0, &[("rewrapped", 1), ("checked", 1)]);
    assert!(
        blocked.stderr.contains("\"warning\"") && blocked.stderr.contains("without a journal"),
        "{blocked:?}"
    );
}

#[test]
fn recipients_are_listed_added_and_removed() {
    let place = stored(&["a", "b"]);
    let [old, escrow] = ["old", "escrow"].map(|name| place.public(name).id().to_string());
    let list = || place.sidekey("recipients vault/ list").good();
    assert_eq!(list().stdout, format!("{old}  2 envelopes\n"));
    assert_eq!(list().stderr, "sidekey: 2 envelopes\n");

    let add = "recipients vault/ add --to keys/escrow.pub.pem -i keys/old.pem";
    let before = place.fingerprint("vault");
    place.sidekey(&format!("{add} --dry-run")).good();
    assert_eq!(place.fingerprint("vault"), before);
    place.sidekey(add).good();
    let both = list().stdout;
    assert!(
        both.contains(&format!("{old}  2 envelopes\n")) && both.contains(&format!("{escrow}  2 ")),
        "{both}"
    );
    assert_eq!((place.restored("old"), place.restored("escrow")), (2, 2));
    let after = place.fingerprint("vault");
    place.sidekey(add).good();
    assert_eq!(place.fingerprint("vault"), after);

    place.sidekey(&format!("recipients vault/ remove {old} -i keys/escrow.pem --report r.jsonl")).good();
    assert_eq!(list().stdout, format!("{escrow}  2 envelopes\n"));
    assert_eq!((place.restored("old"), place.restored("escrow")), (0, 2));
    assert_eq!(objects(&place.text("r.jsonl")).len(), 4);

    let last = place.sidekey(&format!("recipients vault/ remove {escrow} -i keys/escrow.pem"));
    assert_eq!(last.code, Some(2), "{last:?}");
    assert!(last.stderr.contains("opens the archive and is to be removed from it"), "{last:?}");
    // What the key does not open is left alone, and told.
    let before = place.fingerprint("vault");
    let wrong = place.sidekey("recipients vault/ add --to keys/new.pub.pem -i keys/old.pem");
    assert_eq!(wrong.code, Some(4), "{wrong:?}");
    assert!(wrong.stderr.contains("2 are not opened by the keys given"), "{wrong:?}");
    assert_eq!(place.fingerprint("vault"), before);
}
