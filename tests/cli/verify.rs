//! `sidekey verify` and `sidekey audit` on local folders by the real binary, and on the store in memory where versions
//! are needed.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use sidekey::format::{Envelope, Header};
use sidekey::keys::PublicKey;
use sidekey::location::Location;
use sidekey::location::argument::Target;
use sidekey::ops::audit::{AuditSummary, Subject, Verdict, audit};
use sidekey::ops::events::{Event, Observer};
use sidekey::ops::verify::{Level, Outcome, VerifyOptions, VerifySummary, verify};
use sidekey::random::OsRandom;
use sidekey::secret::FileKey;
use sidekey::store::layer::Layer;
use sidekey::store::memory::{Features, MemoryStore};
use sidekey::store::{Info, ListOptions, Listed, OnlyIf, Store};
use sidekey::wrap::wrap;
use sidekey::{DataId, KeyId, Result};

use crate::common::{Ended, Place, noise, objects};

/// Three files and a link, encrypted into the folder `vault` for the keys `old` and `escrow`.
fn place() -> Place {
    let place = Place::with_keys();
    place.mkdir("src/a");
    place.write("src/x", "hello");
    place.write("src/y", noise(200_000, 1));
    place.write("src/a/z", noise(65_536, 2));
    place.shell("ln -s x src/link").good();
    place.sidekey("encrypt -r keys/old.pub.pem -r keys/escrow.pub.pem src/ -o vault").good();
    place
}

/// Object and result of each line but the summary's, sorted.
fn results(ended: &Ended) -> Vec<String> {
    let mut results: Vec<String> = objects(&ended.stdout)
        .iter()
        .filter(|row| row["type"] != "summary")
        .map(|row| format!("{} {}", row["object"].as_str().unwrap(), row["result"].as_str().unwrap()))
        .collect();
    results.sort();
    results
}

/// What is not ok, and the exit code.
#[track_caller]
fn faults(place: &Place, line: &str) -> (Vec<String>, i32) {
    let ended = place.sidekey(&format!("{line} --json"));
    let faults = results(&ended).into_iter().filter(|result| !result.ends_with(" ok")).collect();
    (faults, ended.code.unwrap())
}

fn summary(ended: &Ended) -> serde_json::Map<String, serde_json::Value> {
    objects(&ended.stdout).into_iter().find(|row| row["type"] == "summary").unwrap()
}

fn envelope_for(data_id: DataId, recipient: &PublicKey) -> String {
    let key = FileKey::generate(&OsRandom).unwrap();
    wrap(&key, &data_id, std::slice::from_ref(recipient), SystemTime::UNIX_EPOCH).unwrap().to_text().unwrap()
}

/// Moves what `rename` names, `from to` a line, within the vault.
fn rename(place: &Place, moves: &[(&str, &str)]) {
    for (from, to) in moves {
        std::fs::rename(place.path("vault").join(from), place.path("vault").join(to)).unwrap();
    }
}

/// Changes one byte.
fn damage(place: &Place, name: &str, at: usize) {
    let mut bytes = place.read(name);
    bytes[at] ^= 1;
    place.write(name, bytes);
}

#[test]
fn what_is_whole_is_whole_at_every_level() {
    let place = place();
    let before = place.fingerprint("vault");
    for (line, says) in [
        ("verify vault", "sidekey: vault: 4 containers whole\n"),
        ("verify vault/", "sidekey: vault/: 4 containers whole\n"),
        ("verify vault/x", "sidekey: vault/x: 1 container whole\n"),
        ("verify vault/x.key.enc", "sidekey: vault/x.key.enc: 1 container whole\n"),
        (
            "verify vault -i keys/old.pem",
            "sidekey: vault: 4 containers whole, 4 of them decrypted to the last byte\n",
        ),
        ("verify vault -i keys/escrow.pem --level pairs", "sidekey: vault: 4 containers whole\n"),
        (
            "verify vault -i keys/escrow.pem --strict --jobs 3",
            "sidekey: vault: 4 containers whole, 4 of them decrypted to the last byte\n",
        ),
        ("verify vault --level read", "sidekey: vault: 0 containers whole, 4 not checkable without a key\n"),
    ] {
        let ended = place.sidekey(line).good();
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", says), "{line}");
    }
    assert_eq!(place.fingerprint("vault"), before);
}

#[test]
fn json_has_a_line_an_object_and_a_summary() {
    let place = place();
    place.write("vault/notes.txt", "not ours");
    let ended = place.sidekey("verify vault -i keys/old.pem --json").good();
    assert_eq!(
        results(&ended),
        [
            "vault/a/z.enc ok",
            "vault/link.enc ok",
            "vault/notes.txt foreign",
            "vault/x.enc ok",
            "vault/y.enc ok"
        ]
    );
    let row = objects(&ended.stdout).into_iter().find(|row| row["object"] == "vault/x.enc").unwrap();
    assert_eq!((&row["type"], &row["level"], &row["detail"]), (&"verify".into(), &"full".into(), &().into()));
    let summary = summary(&ended);
    for (field, count) in [("ok", 4), ("deep", 4), ("foreign", 1), ("damaged", 0), ("failed", 0)] {
        assert_eq!(summary[field], count, "{field}");
    }
    assert!(summary["bytes"].as_u64().unwrap() > 265_000);
}

#[test]
fn each_damage_has_its_result() {
    type Do = fn(&Place);
    type Found = (&'static [&'static str], i32);
    let cases: [(&str, Do, Found, Found); 12] = [
        (
            "a changed byte of data",
            |place| damage(place, "vault/y.enc", 70_000),
            (&[], 0),
            (&["vault/y.enc damaged"], 3),
        ),
        (
            "a changed commitment",
            |place| damage(place, "vault/y.enc", 40),
            (&[], 0),
            (&["vault/y.enc damaged"], 3),
        ),
        (
            "another magic",
            |place| damage(place, "vault/y.enc", 0),
            (&["vault/y.enc damaged"], 3),
            (&["vault/y.enc damaged"], 3),
        ),
        (
            "another data id in the header",
            |place| damage(place, "vault/x.enc", 20),
            (&["vault/x.enc no-envelope", "vault/x.key.enc no-container"], 3),
            (&["vault/x.enc no-envelope", "vault/x.key.enc no-container"], 3),
        ),
        (
            "cut short in the middle of a block",
            |place| place.write("vault/x.enc", &place.read("vault/x.enc")[..500]),
            (&["vault/x.enc damaged"], 3),
            (&["vault/x.enc damaged"], 3),
        ),
        (
            "cut short by a whole section",
            |place| place.write("vault/y.enc", &place.read("vault/y.enc")[..64 + 304 + 65_584 + 96]),
            (&[], 0),
            (&["vault/y.enc damaged"], 3),
        ),
        (
            "no envelope",
            |place| std::fs::remove_file(place.path("vault/x.key.enc")).unwrap(),
            (&["vault/x.enc no-envelope"], 3),
            (&["vault/x.enc no-envelope"], 3),
        ),
        (
            "no container",
            |place| std::fs::remove_file(place.path("vault/x.enc")).unwrap(),
            (&["vault/x.key.enc no-container"], 4),
            (&["vault/x.key.enc no-container"], 4),
        ),
        (
            "another file's envelope",
            |place| place.write("vault/x.key.enc", place.read("vault/y.key.enc")),
            (&["vault/x.enc no-envelope", "vault/x.key.enc no-container"], 3),
            (&["vault/x.enc no-envelope", "vault/x.key.enc no-container"], 3),
        ),
        (
            "both envelopes swapped",
            |place| {
                rename(place, &[("x.key.enc", "t"), ("y.key.enc", "x.key.enc"), ("t", "y.key.enc")]);
            },
            (
                &[
                    "vault/x.enc no-envelope",
                    "vault/x.key.enc no-container",
                    "vault/y.enc no-envelope",
                    "vault/y.key.enc no-container",
                ],
                3,
            ),
            (
                &[
                    "vault/x.enc no-envelope",
                    "vault/x.key.enc no-container",
                    "vault/y.enc no-envelope",
                    "vault/y.key.enc no-container",
                ],
                3,
            ),
        ),
        (
            "no envelope by its text",
            |place| place.write("vault/x.key.enc", "nothing of the kind"),
            (&["vault/x.enc no-envelope", "vault/x.key.enc damaged"], 3),
            (&["vault/x.enc no-envelope", "vault/x.key.enc damaged"], 3),
        ),
        (
            "an attacker's envelope for the right data id",
            |place| {
                let id = place.header("vault/x.enc").data_id();
                place.write("vault/x.key.enc", envelope_for(id, &place.public("new")));
            },
            (&[], 0),
            (&["vault/x.enc unchecked"], 1),
        ),
    ];
    for (what, act, pairs, full) in cases {
        let place = place();
        act(&place);
        let expect =
            |(faults, code): (&[&str], i32)| (faults.iter().map(ToString::to_string).collect(), code);
        assert_eq!(faults(&place, "verify vault"), expect(pairs), "{what}, pairs");
        assert_eq!(faults(&place, "verify vault -i keys/old.pem"), expect(full), "{what}, full");
    }
}

#[test]
fn the_messages_say_what_and_what_to_do() {
    let place = place();
    damage(&place, "vault/y.enc", 70_000);
    std::fs::remove_file(place.path("vault/x.key.enc")).unwrap();
    std::fs::remove_file(place.path("vault/link.enc")).unwrap();
    let link = place.envelope("vault/link.key.enc").entries().next().unwrap().data_id;
    let id = place.header("vault/x.enc").data_id();
    let ended = place.sidekey("verify vault -i keys/old.pem --jobs 1");
    assert_eq!(ended.code, Some(3));
    for says in [
        "vault/y.enc: section 2 at byte 65952 fails authentication\nsidekey: hint: the 2 sections before it are sound;"
            .to_owned(),
        format!("vault/x.enc: has no envelope for its data id {id}\nsidekey: hint: without its envelope nobody can"),
        format!(
            "warning: vault/link.key.enc: is an envelope without its container (data id {link})\nsidekey: hint: if it was \
             removed or overwritten, sidekey clean takes it away 30 days"
        ),
        "vault: 1 container whole, 1 of them decrypted to the last byte, 1 damaged, 1 without an envelope, 1 envelope \
         without a container\n"
            .to_owned(),
    ] {
        assert!(ended.stderr.contains(&says), "{says}\n{}", ended.stderr);
    }
}

#[test]
fn a_planted_envelope_does_not_hide_the_real_one() {
    let place = place();
    let id = place.header("vault/x.enc").data_id();
    // Under the name of the first form, which readers try first, with the right data id.
    place.write(format!("vault/x.{}.key.enc", id.short()), envelope_for(id, &place.public("old")));
    place.sidekey("verify vault -i keys/old.pem").good();
    place.write(format!("vault/x.{}.key.enc", id.short()), "no envelope at all");
    let damaged = format!("vault/x.{}.key.enc damaged", id.short());
    assert_eq!(faults(&place, "verify vault -i keys/old.pem"), (vec![damaged], 3));
    // The real one is in the first form, and the planted one in the second.
    rename(&place, &[("x.key.enc", &format!("x.{}.key.enc", id.short()))]);
    place.write("vault/x.key.enc", envelope_for(id, &place.public("new")));
    place.sidekey("verify vault -i keys/old.pem").good();
}

#[test]
fn an_envelope_that_was_rolled_back_is_not_this_containers() {
    let place = place();
    let older = place.read("vault/x.key.enc");
    place.sidekey("encrypt -r keys/old.pub.pem src/x -o vault/ --force").good();
    place.sidekey("verify vault").good();
    place.write("vault/x.key.enc", older);
    assert_eq!(
        faults(&place, "verify vault"),
        (vec!["vault/x.enc no-envelope".into(), "vault/x.key.enc no-container".into()], 3)
    );
}

#[test]
fn whole_pairs_that_were_swapped_or_planted_are_noticed_by_their_names() {
    let place = place();
    rename(
        &place,
        &[
            ("x.enc", "t.enc"),
            ("x.key.enc", "t.key.enc"),
            ("y.enc", "x.enc"),
            ("y.key.enc", "x.key.enc"),
            ("t.enc", "y.enc"),
            ("t.key.enc", "y.key.enc"),
        ],
    );
    place.sidekey("verify vault").good();
    let warned = place.sidekey("verify vault -i keys/old.pem").good();
    assert!(warned.stderr.contains("warning: vault/x.enc: was encrypted under the name y\n"), "{warned:?}");
    assert!(warned.stderr.contains("warning: vault/y.enc: was encrypted under the name x\n"), "{warned:?}");
    assert_eq!(
        faults(&place, "verify vault -i keys/old.pem --strict"),
        (vec!["vault/x.enc damaged".into(), "vault/y.enc damaged".into()], 3)
    );
}

#[test]
fn a_wrong_key_is_no_damage() {
    let place = place();
    let ended = place.sidekey("verify vault/x -i keys/new.pem");
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("vault/x.enc: wrapped for key "), "{ended:?}");
    assert!(
        ended
            .stderr
            .ends_with("vault/x: 0 containers whole, 0 of them decrypted to the last byte, 1 not checked\n"),
        "{ended:?}"
    );
    let ended = place.sidekey("verify vault --level full");
    assert_eq!(
        ended.said(),
        (Some(2), "sidekey: no private key to decrypt with\nsidekey: hint: name it with --identity\n")
    );
}

#[test]
fn what_cannot_be_read_is_not_called_damaged_or_missing() {
    let place = place();
    place.shell("chmod 000 vault/x.key.enc vault/a vault/y.enc").good();
    let ended = place.run_bound("verify vault --json");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(
        results(&ended),
        ["vault/link.enc ok", "vault/x.enc unchecked", "vault/x.key.enc unchecked", "vault/y.enc unchecked"]
    );
    assert!(ended.stderr.contains("vault/a"), "{ended:?}");
    assert_eq!(summary(&ended)["failed"], 1);
}

#[test]
fn every_byte_is_read_where_no_key_is_at_hand() {
    let place = place();
    let ended = place.sidekey("verify vault --level read --json").good();
    let summary = summary(&ended);
    assert_eq!((&summary["ok"], &summary["unchecked"]), (&0.into(), &4.into()));
    let stored = ["x", "y", "a/z", "link"].map(|name| place.read(format!("vault/{name}.enc")).len() as u64);
    assert_eq!(summary["bytes"].as_u64().unwrap(), stored.iter().sum::<u64>());
}

#[test]
fn a_seed_draws_the_same_sample_and_one_at_least() {
    let place = Place::with_keys();
    place.mkdir("src");
    for number in 0..40 {
        place.write(format!("src/{number}"), number.to_string());
    }
    place.sidekey("encrypt -r keys/old.pub.pem src/ -o vault").good();
    let drawn = |options: &str| {
        let ended = place.sidekey(&format!("verify vault -i keys/old.pem --json {options}")).good();
        let full = objects(&ended.stdout)
            .into_iter()
            .filter(|row| row["type"] == "verify" && row["level"] == "full");
        let mut names: Vec<String> = full.map(|row| row["object"].as_str().unwrap().to_owned()).collect();
        names.sort();
        let summary = summary(&ended);
        assert_eq!((&summary["ok"], &summary["deep"]), (&40.into(), &names.len().into()));
        (names, summary["seed"].as_str().unwrap().to_owned())
    };
    let (first, seed) = drawn("--sample 30%");
    assert!((1..30).contains(&first.len()), "{}", first.len());
    assert_eq!(drawn(&format!("--sample 30% --seed {seed}")).0, first);
    assert_eq!(drawn(&format!("--sample 100% --seed {seed}")).0.len(), 40);
    let (least, _) = drawn(&format!("--sample 0.0001% --seed {seed}"));
    assert_eq!(least.len(), 1);
    assert!(first.contains(&least[0]), "the smallest hash is in every sample of the seed");
    // What the sample leaves out is still checked as a pair.
    std::fs::remove_file(place.path("vault/7.key.enc")).unwrap();
    assert_eq!(
        faults(&place, "verify vault -i keys/old.pem --sample 0.0001%"),
        (vec!["vault/7.enc no-envelope".into()], 3)
    );
    for (line, says) in [
        ("--sample 5%", "sidekey: --sample is for the levels read and full: pairs are checked all\n"),
        ("-i keys/old.pem --sample 0%", "sidekey: --sample 0%: is not a percentage from 0.0001% to 100%\n"),
    ] {
        let ended = place.sidekey(&format!("verify vault {line}"));
        assert_eq!(ended.code, Some(2));
        assert!(ended.stderr.starts_with(says), "{ended:?}");
    }
}

#[test]
fn files_here_are_compared_by_content_and_by_name() {
    let place = place();
    let same = "verify vault -i keys/old.pem --against src";
    let whole = "sidekey: vault: 4 containers whole, 4 of them decrypted to the last byte\n";
    assert_eq!(place.sidekey(same).good().stderr, whole);
    assert_eq!(place.sidekey("verify vault/x -i keys/old.pem --against src/x").good().stdout, "");
    // Other bytes of the same length, a longer file, another time, a file less, and three more.
    place.write("src/a/z", noise(65_536, 9));
    place.shell("printf more >> src/y; rm src/x; touch -d 2001-02-03T04:05:06Z src/link -h").good();
    place.shell("printf new > src/new; mkdir src/hollow; touch -d 2001-02-03T04:05:06Z src/a").good();
    assert_eq!(
        faults(&place, same),
        (
            vec![
                "src/hollow extra".into(),
                "src/new extra".into(),
                "vault/a/z.enc differs".into(),
                "vault/x.enc missing".into(),
                "vault/y.enc differs".into(),
            ],
            1
        )
    );
    let ended = place.sidekey(same);
    for says in [
        "vault/a/z.enc: src/a/z: is different from byte ",
        " on; 65536 bytes changed ",
        "vault/y.enc: src/y: has 200004 bytes there and 200000 bytes here, which are the same as far as they go",
        "vault/x.enc: there is no src/x",
        "src/new: is not in the location",
        "1 container whole, 1 of them decrypted to the last byte, 2 different here, 1 missing here, 2 only here",
    ] {
        assert!(ended.stderr.contains(says), "{says}\n{}", ended.stderr);
    }
}

#[test]
fn other_times_are_told_and_other_kinds_are_different() {
    let place = place();
    place.shell("touch -d 2001-02-03T04:05:06Z src/x; ln -sf y src/link; rm src/y; mkdir src/y").good();
    let ended = place.sidekey("verify vault -i keys/old.pem --against src");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for says in [
        "warning: vault/x.enc: src/x: has the same bytes, changed 2001-02-03T04:05:06Z there and ",
        "vault/link.enc: src/link: points to y there",
        "vault/y.enc: src/y: is a dir there and a file here",
    ] {
        assert!(ended.stderr.contains(says), "{says}\n{}", ended.stderr);
    }
    let usage = place.sidekey("verify vault --against src");
    assert_eq!(usage.code, Some(2));
    assert!(usage.stderr.contains("comparing with files needs their contents"), "{usage:?}");
    let usage = place.sidekey("verify vault -i keys/old.pem --against src/x");
    assert_eq!(usage.code, Some(2));
    assert!(
        usage.stderr.contains("src/x: is a file, and the location to compare it with is a folder"),
        "{usage:?}"
    );
}

#[test]
fn pairs_of_the_recipe_are_there_and_not_checkable() {
    let place = Place::with_keys();
    place.write("letter", "dear reader");
    place.sidekey("encrypt --format openssl -r keys/old.pub.pem letter -o vault/").good();
    assert_eq!(faults(&place, "verify vault"), (vec!["vault/letter.enc unchecked".into()], 0));
    std::fs::remove_file(place.path("vault/letter.key.enc")).unwrap();
    assert_eq!(faults(&place, "verify vault"), (vec!["vault/letter.enc no-envelope".into()], 3));
    // A file that is called letter.key, encrypted by a script.
    place.write("vault/letter.key.enc", place.read("vault/letter.enc"));
    assert_eq!(
        faults(&place, "verify vault"),
        (vec!["vault/letter.enc no-envelope".into(), "vault/letter.key.enc foreign".into()], 3)
    );
}

// Audits.

#[test]
fn an_audit_finds_what_a_key_opens_and_nothing_after_a_rewrap() {
    let place = place();
    let found = place.sidekey("audit vault -i keys/old.pem");
    assert_eq!(found.code, Some(4));
    let mut names: Vec<&str> = found.stdout.lines().map(|line| line.split("  ").next().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["vault/a/z.key.enc", "vault/link.key.enc", "vault/x.key.enc", "vault/y.key.enc"]);
    let opens = format!("  opens with {}", place.public("old").id().short());
    assert!(found.stdout.lines().all(|line| line.ends_with(&opens)), "{found:?}");
    assert_eq!(place.sidekey("audit vault -i keys/new.pem").good().stdout, "");
    place.sidekey("rewrap vault -i keys/old.pem --to keys/new.pub.pem").good();
    let none = place.sidekey("audit vault/ -i keys/old.pem --jobs 3").good();
    assert_eq!(none.stdout, "");
    assert!(
        none.stderr.starts_with(
            "sidekey: vault/: tried on 4 versions of envelopes, 0 of them old: 0 are still opened, 4 other objects are \
             no envelopes\nsidekey: that holds as of now: "
        ),
        "{none:?}"
    );
    assert_eq!(place.sidekey("audit vault/x -i keys/new.pem").code, Some(4));
    assert_eq!(place.sidekey("audit vault/x.key.enc -i keys/new.pem").stdout.lines().count(), 1);
}

#[test]
fn labels_are_believed_only_where_there_is_no_key() {
    let place = place();
    let (old, new) = (place.public("old").id(), place.public("new").id());
    for name in ["vault/x.key.enc", "vault/y.key.enc"] {
        place.write(name, place.text(name).replace(&old.to_string(), &new.to_string()));
    }
    let rows = |line: &str| {
        let ended = place.sidekey(&format!("{line} --json"));
        (results(&ended), ended.code.unwrap())
    };
    let (by_key, code) = rows("audit vault -i keys/old.pem");
    assert_eq!((by_key.len(), code), (4, 4));
    let (by_label, code) = rows(&format!("audit vault --key-id {old}"));
    assert_eq!(
        (by_label, code),
        (vec!["vault/a/z.key.enc labelled".into(), "vault/link.key.enc labelled".into()], 4)
    );
    let (by_short, _) = rows(&format!("audit vault --key-id {}", new.short()));
    assert_eq!(by_short, ["vault/x.key.enc labelled", "vault/y.key.enc labelled"]);
    let none = place.sidekey(&format!("audit vault --key-id {}", "0".repeat(64))).good();
    assert!(none.stderr.contains("labels can be wrong"), "{none:?}");
    for (line, says) in [
        ("audit vault", "--identity FILE is missing"),
        ("audit vault --key-id 12", "--key-id 12: is not 16 to 64 hex digits"),
        ("audit vault -i keys/old.pem --key-id 0123456789abcdef", "exclude each other"),
    ] {
        let ended = place.sidekey(line);
        assert_eq!(ended.code, Some(2));
        assert!(ended.stderr.contains(says), "{ended:?}");
    }
}

#[test]
fn copies_under_other_names_and_the_vaults_own_are_audited_too() {
    let place = place();
    for folder in ["vault/a", "vault/link.enc", "vault/link.key.enc", "vault/y.enc", "vault/y.key.enc"] {
        place.shell(&format!("rm -r {folder}")).good();
    }
    place.mkdir("vault/.sidekey");
    rename(&place, &[("x.key.enc", ".sidekey/master.1.key.enc")]);
    place.write("vault/copy of the envelope.txt", place.read("vault/.sidekey/master.1.key.enc"));
    place.write("vault/notes.txt", "not an envelope");
    let ended = place.sidekey("audit vault -i keys/old.pem --json");
    assert_eq!(
        results(&ended),
        ["vault/.sidekey/master.1.key.enc opens", "vault/copy of the envelope.txt opens"]
    );
    assert_eq!(ended.code, Some(4));
    let summary = summary(&ended);
    assert_eq!((&summary["audited"], &summary["others"]), (&2.into(), &2.into()));
}

#[test]
fn copies_that_are_called_like_containers_are_audited_too() {
    let place = place();
    let containers = ["vault/x.enc", "vault/y.enc", "vault/a/z.enc", "vault/link.enc"];
    assert!(containers.iter().all(|container| place.path(container).exists()));
    // A container without its envelope is still none.
    place.write("vault/alone.enc", place.read("vault/x.enc"));
    for copy in ["vault/keycopy.enc", "vault/a/x.0123456789abcdef.enc"] {
        place.write(copy, place.read("vault/x.key.enc"));
    }
    place.write("vault/a/x.0123456789abcdef.key.enc", place.read("vault/x.key.enc"));
    let one = place.sidekey("--json audit vault/keycopy.enc -i keys/old.pem");
    assert_eq!((results(&one), one.code), (vec!["vault/keycopy.enc opens".to_owned()], Some(4)));
    let ended = place.sidekey("--json --log-file log --log-level debug audit vault -i keys/old.pem");
    let expected = [
        "vault/a/x.0123456789abcdef.enc opens",
        "vault/a/x.0123456789abcdef.key.enc opens",
        "vault/a/z.key.enc opens",
        "vault/keycopy.enc opens",
        "vault/link.key.enc opens",
        "vault/x.key.enc opens",
        "vault/y.key.enc opens",
    ];
    assert_eq!((results(&ended), ended.code), (expected.map(str::to_owned).to_vec(), Some(4)));
    let summary = summary(&ended);
    assert_eq!((&summary["audited"], &summary["others"]), (&7.into(), &5.into()));
    // No container is read that has its envelope.
    let log = place.text("log");
    let read = |name: &str| format!("{name}\" detail=");
    let is_get = |line: &&str| line.contains("store: get ");
    let reads = |name: &str| log.lines().filter(is_get).filter(|line| line.contains(&read(name))).count();
    assert_eq!(containers.map(reads), [0; 4], "{log}");
    assert_eq!((reads("vault/alone.enc"), reads("vault/x.key.enc")), (1, 1), "{log}");
}

#[test]
fn what_cannot_be_judged_remains() {
    let place = place();
    let odd = "-----BEGIN SIDEKEY LATTICE-----\n\nAAAA\n-----END SIDEKEY LATTICE-----\n";
    place.write("vault/x.key.enc", odd);
    place.write("vault/y.key.enc", "no envelope");
    let ended = place.sidekey("audit vault -i keys/new.pem --json");
    assert_eq!(results(&ended), ["vault/x.key.enc unknown"]);
    // A damaged envelope may be whatever it was.
    assert_eq!(ended.code, Some(3));
    place.shell("rm vault/y.key.enc").good();
    assert_eq!(place.sidekey("audit vault -i keys/new.pem").code, Some(4));
}

#[test]
fn key_files_of_the_recipe_are_tried() {
    let place = Place::with_keys();
    place.write("letter", "dear reader");
    place.sidekey("encrypt --format openssl -r keys/old.pub.pem letter -o vault/").good();
    let audit = |options: &str| {
        let ended = place.sidekey(&format!("audit vault {options} --json"));
        (results(&ended), ended.code.unwrap())
    };
    assert_eq!(audit("-i keys/old.pem"), (vec!["vault/letter.key.enc opens".into()], 4));
    assert_eq!(audit("-i keys/new.pem"), (vec![], 0));
    assert_eq!(audit("--key-id 0123456789abcdef"), (vec!["vault/letter.key.enc unknown".into()], 4));
}

// Versions, which local folders do not keep.

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Observer for Told {
    fn event(&self, event: Event<'_>) {
        let line = match event {
            Event::Verified(checked) if checked.outcome == Outcome::Ok => return,
            Event::Verified(checked) => {
                format!(
                    "{} {} {}",
                    checked.object,
                    checked.version.as_deref().unwrap_or("-"),
                    checked.outcome
                )
            }
            Event::Audited(audited) => {
                let verdict = match &audited.verdict {
                    Verdict::Opens(_) => "opens",
                    Verdict::Labelled(_) => "labelled",
                    Verdict::Unknown(_) => "unknown",
                };
                format!("{} {} {verdict}", audited.object, audited.version)
            }
            Event::Failed(error) => format!("failed {error}"),
            _ => return,
        };
        self.0.lock().unwrap().push(line);
    }
}

impl Told {
    fn sorted(self) -> Vec<String> {
        let mut told = self.0.into_inner().unwrap();
        told.sort();
        told
    }
}

fn put(store: &MemoryStore, key: &str, bytes: &[u8], info: &Info) -> String {
    store.state().put(key, Bytes::copy_from_slice(bytes), &OnlyIf::Always, info).unwrap()
}

fn whole(store: &MemoryStore) -> Target {
    Target::new(Location::new(Arc::new(store.clone()), "").unwrap(), b"").unwrap()
}

fn options(place: &Place, level: Level, versions: bool) -> VerifyOptions {
    VerifyOptions {
        recipe: sidekey::recipe::Named::default(),
        level,
        sample: None,
        versions,
        identities: vec![place.private("old")],
        against: None,
        strict: false,
        jobs: 2,
    }
}

fn verified(
    place: &Place,
    store: &MemoryStore,
    level: Level,
    versions: bool,
) -> (VerifySummary, Vec<String>) {
    let told = Told::default();
    let summary = verify(&whole(store), &options(place, level, versions), &told).unwrap();
    (summary, told.sorted())
}

/// Two encryptions of one file: each container with its envelope in the first form.
fn two(place: &Place) -> [(Vec<u8>, Vec<u8>, Header); 2] {
    place.write("one", "first");
    [(); 2].map(|()| {
        place.sidekey("encrypt -r keys/old.pub.pem one -o pair/ --force").good();
        (place.read("pair/one.enc"), place.read("pair/one.key.enc"), place.header("pair/one.enc"))
    })
}

fn located(header: &Header) -> String {
    format!("one.{}.key.enc", header.data_id().short())
}

#[test]
fn old_versions_need_their_envelopes_and_are_verified_on_request() {
    let place = Place::with_keys();
    let [(old, old_envelope, old_header), (new, new_envelope, new_header)] = two(&place);
    let store = MemoryStore::new(Features { versions: true, conditions: true });
    let none = Info::new();
    put(&store, &located(&old_header), &old_envelope, &none);
    put(&store, "one.enc", &old, &none);
    put(&store, &located(&new_header), &new_envelope, &none);
    put(&store, "one.enc", &new, &none);
    for level in [Level::Pairs, Level::Full] {
        let (summary, told) = verified(&place, &store, level, false);
        assert_eq!((summary.ok, told), (1, vec![]), "{level}");
        let (summary, told) = verified(&place, &store, level, true);
        assert_eq!((summary.ok, told), (2, vec![]), "{level}");
    }
    // Removed and overwritten: what old versions need is no orphan.
    store.state().hide("one.enc").unwrap();
    let (summary, told) = verified(&place, &store, Level::Pairs, false);
    assert_eq!((summary.no_container, told), (0, vec![]));
    let (_, envelope) =
        store.state().get(&located(&old_header), None).map(|(object, _)| ((), object)).unwrap();
    store.state().delete(&located(&old_header), &envelope.version);
    let (summary, told) = verified(&place, &store, Level::Full, true);
    assert_eq!((summary.ok, told), (1, vec!["memory:one.enc 1 no-envelope".to_owned()]));
}

#[test]
fn an_older_version_of_an_envelope_still_counts() {
    let place = Place::with_keys();
    let [(old, old_envelope, _), (_, new_envelope, _)] = two(&place);
    let store = MemoryStore::new(Features { versions: true, conditions: true });
    put(&store, "one.enc", &old, &Info::new());
    put(&store, "one.key.enc", &old_envelope, &Info::new());
    let planted = put(&store, "one.key.enc", &new_envelope, &Info::new());
    let (summary, told) = verified(&place, &store, Level::Full, false);
    assert_eq!((summary.ok, told), (1, vec![format!("memory:one.key.enc {planted} no-container")]));
    store.state().hide("one.key.enc").unwrap();
    assert_eq!(verified(&place, &store, Level::Full, false).0.ok, 1);
}

#[test]
fn the_stores_hint_is_compared_with_the_header() {
    let place = Place::with_keys();
    let [(old, old_envelope, header), _] = two(&place);
    let store = MemoryStore::new(Features { versions: false, conditions: true });
    let hint = |id: String| Info::from([(sidekey::store::DATA_ID_INFO.to_owned(), id)]);
    put(&store, "one.key.enc", &old_envelope, &Info::new());
    put(&store, "one.enc", &old, &hint(header.data_id().to_string()));
    assert_eq!(verified(&place, &store, Level::Pairs, false).1, Vec::<String>::new());
    let version = put(&store, "one.enc", &old, &hint("0".repeat(32)));
    assert_eq!(
        verified(&place, &store, Level::Pairs, false).1,
        [format!("memory:one.enc {version} damaged")]
    );
}

#[test]
fn an_envelope_whose_name_has_two_readings_is_told_by_its_data_id() {
    let place = Place::with_keys();
    let [(one, one_envelope, header), (other, other_envelope, _)] = two(&place);
    let short = header.data_id().short();
    let store = MemoryStore::new(Features { versions: false, conditions: true });
    let none = Info::new();
    // `one` with its envelope in the first form, which is also the second form of a file called `one.<16 hex>`.
    put(&store, "one.enc", &one, &none);
    put(&store, &located(&header), &one_envelope, &none);
    put(&store, &format!("one.{short}.enc"), &other, &none);
    let missing = format!("memory:one.{short}.enc 1 no-envelope");
    assert_eq!(verified(&place, &store, Level::Pairs, false).1, [missing]);
    put(&store, "one.key.enc", &one_envelope, &none);
    let version = put(&store, &located(&header), &other_envelope, &none);
    assert_eq!(verified(&place, &store, Level::Pairs, false).1, Vec::<String>::new(), "{version}");
    put(&store, &located(&header), envelope_for(DataId([7; 16]), &place.public("old")).as_bytes(), &none);
    let told = verified(&place, &store, Level::Pairs, false).1;
    let expected = [
        format!("memory:one.{short}.enc 1 no-envelope"),
        format!("memory:one.{short}.key.enc 3 no-container"),
    ];
    assert_eq!(told, expected);
}

fn audited(store: &MemoryStore, subject: &Subject) -> (AuditSummary, Vec<String>) {
    let told = Told::default();
    let summary = audit(&whole(store), subject, 2, &told).unwrap();
    (summary, told.sorted())
}

#[test]
fn old_versions_of_envelopes_are_audited() {
    let place = Place::with_keys();
    let [(_, envelope, header), _] = two(&place);
    let store = MemoryStore::new(Features { versions: true, conditions: true });
    let key = located(&header);
    let old = put(&store, &key, &envelope, &Info::new());
    put(&store, &key, envelope_for(header.data_id(), &place.public("new")).as_bytes(), &Info::new());
    put(&store, "gone.key.enc", &envelope, &Info::new());
    store.state().hide("gone.key.enc").unwrap();
    let (summary, told) = audited(&store, &Subject::Keys(vec![place.private("old")]));
    assert_eq!(told, ["memory:gone.key.enc 1 opens".to_owned(), format!("memory:{key} {old} opens")]);
    assert_eq!((summary.audited, summary.old_versions, summary.opened), (3, 2, 2));
    let label: KeyId = place.public("new").id();
    let (summary, told) = audited(&store, &Subject::Label(label.to_string()));
    assert_eq!(told, [format!("memory:{key} 2 labelled")]);
    assert_eq!(summary.opened, 1);
    Envelope::parse(&envelope).unwrap();
}

/// A store whose first listing is what it held before: the time between a listing and what is read by it.
#[derive(Debug)]
struct Stale {
    now: MemoryStore,
    before: Mutex<Option<MemoryStore>>,
}

#[async_trait::async_trait]
impl Layer for Stale {
    fn below(&self) -> &dyn Store {
        &self.now
    }

    fn list(&self, options: ListOptions) -> BoxStream<'_, Result<Listed>> {
        let store = self.before.lock().unwrap().take().unwrap_or_else(|| self.now.clone());
        let listed = store.state().list(&options);
        futures_util::stream::iter(listed.into_iter().map(Ok)).boxed()
    }
}

#[test]
fn what_writers_change_between_two_looks_is_no_damage() {
    let place = Place::with_keys();
    let [(old, old_envelope, old_header), (new, new_envelope, new_header)] = two(&place);
    let none = Info::new();
    let features = Features { versions: false, conditions: true };
    let before = MemoryStore::new(features);
    put(&before, "one.enc", &old, &none);
    put(&before, &located(&old_header), &old_envelope, &none);
    put(&before, "removed.enc", &old, &none);
    // Overwritten, cleaned up, and removed.
    let now = MemoryStore::new(features);
    for _ in 0..5 {
        put(&now, "one.enc", &new, &none);
    }
    put(&now, &located(&new_header), &new_envelope, &none);
    for level in [Level::Pairs, Level::Full] {
        let store = Stale { now: now.clone(), before: Mutex::new(Some(before.clone())) };
        let target = Target::new(Location::new(Arc::new(store), "").unwrap(), b"").unwrap();
        let told = Told::default();
        let options = options(&place, level, false);
        let summary = verify(&target, &options, &told).unwrap();
        assert_eq!((summary.ok, told.sorted()), (1, vec![]), "{level}");
    }
}
