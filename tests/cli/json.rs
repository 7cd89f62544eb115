//! docs/json.md is what `--json` prints: every object has exactly the fields of its table.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::common::{Place, fixture_bytes, objects};

type Fields = BTreeSet<String>;

/// Of each command, or of every one under the empty name, the fields of each type.
fn documented() -> BTreeMap<(String, String), Fields> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut documented = BTreeMap::new();
    let mut commands = vec![String::new()];
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            commands = match heading {
                "Of every command" => vec![String::new()],
                names => names.split(", ").map(str::to_owned).collect(),
            };
        }
        let Some((r#type, fields)) = line.strip_prefix("| `").and_then(|row| row.split_once("` | ")) else {
            continue;
        };
        let fields: Fields = fields.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        assert!(!fields.is_empty(), "{line}");
        for command in &commands {
            documented.insert((command.clone(), r#type.to_owned()), fields.clone());
        }
    }
    documented
}

#[test]
fn every_object_has_the_fields_that_the_document_names() {
    let documented = documented();
    assert!(documented.len() > 40, "{} types are not all of them", documented.len());
    let place = Place::with_keys();
    place.mkdir("in/sub");
    place.write("in/a", "a");
    place.write("in/sub/b", "b");
    place.write("recipe.key.enc", fixture_bytes("pkcs8.pem"));
    place.mkdir("foreign");
    place.write("foreign/readme", "not ours");
    place.write("config.toml", "");
    let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
    let mut run = |line: &str| {
        let command = line.split_whitespace().next().unwrap().to_owned();
        let ended = place.sidekey(&format!("--json --config config.toml {line}"));
        // What `cat` prints on standard output is the file.
        let results = if command == "cat" { vec![] } else { objects(&ended.stdout) };
        let lines = results.into_iter().chain(objects(&ended.stderr));
        let mut count = 0;
        for object in lines {
            count += 1;
            let r#type = object["type"].as_str().unwrap().to_owned();
            let fields: Fields = object.keys().filter(|key| *key != "type").cloned().collect();
            let of_it = (command.clone(), r#type.clone());
            let of_all = (String::new(), r#type.clone());
            let (key, expected) = documented
                .get_key_value(&of_it)
                .or_else(|| documented.get_key_value(&of_all))
                .unwrap_or_else(|| panic!("{line}: {type} is in no table: {object:?}"));
            assert_eq!(fields, *expected, "{line}: {type}");
            seen.insert(key.clone());
        }
        assert!(count > 0, "{line} printed nothing: {ended:?}");
    };
    for line in [
        "keygen -o made --bits 2048 --no-passphrase",
        "pubkey made.pem",
        "passwd made.pem --no-passphrase",
        "put -r keys/old.pub.pem in/ vault/ --dry-run",
        "put -r keys/old.pub.pem in/ vault/",
        "put -r keys/old.pub.pem in/ vault/ --if-exists skip",
        "put -r keys/old.pub.pem in/ vault/ --explain-config",
        "ls -l vault/",
        "ls foreign/",
        "verify vault/",
        "verify vault/ -i keys/old.pem --against in/",
        "audit vault/ -i keys/old.pem",
        "doctor vault/",
        "get -i keys/old.pem vault/ out/ --dry-run",
        "get -i keys/old.pem vault/ out/",
        "get -i keys/old.pem vault/ out/",
        "cat -i keys/old.pem vault/a",
        "recipients vault/ list",
        "recipients vault/ add --to keys/new.pub.pem -i keys/old.pem --dry-run",
        "rewrap vault/ -i keys/old.pem --to keys/new.pub.pem",
        "sync -r keys/old.pub.pem in/ synced/ --dry-run",
        "sync -r keys/old.pub.pem in/ synced/",
        "cp synced/a synced/a2 --dry-run",
        "cp synced/a synced/a2",
        "mv synced/a2 synced/a3 --dry-run",
        "mv synced/a2 synced/a3",
        "incident vault/ -i keys/old.pem --to keys/new.pub.pem --dry-run",
        "report plan-shards 2 vault/",
        "reencrypt vault/ -i keys/new.pem --to keys/new.pub.pem --report report.jsonl",
        "report merge report.jsonl",
        "report show --all report.jsonl",
        "report verify report.jsonl",
        "rm vault/a --dry-run",
        "rm vault/a",
        "clean vault/ --age 1s --dry-run",
        "clean vault/ --yes",
        "encrypt -r keys/new.pub.pem in/a",
        "inspect in/a.enc",
        "inspect in/a.key.enc",
        "decrypt -i keys/new.pem in/a.enc -o back",
        "remote add home vault -r keys/new.pub.pem",
        "remote ls",
        "remote rm home",
        "init boxed -r keys/new.pub.pem --dry-run",
        "init boxed -r keys/new.pub.pem",
        "vault show boxed",
        "vault export-config boxed -o exported.json",
        "vault join boxed --exported exported.json",
        "put in/a boxed/",
        "restore boxed -i keys/new.pem restored --dry-run",
        "restore boxed -i keys/new.pem restored",
        "inspect none",
    ] {
        run(line);
    }
    // What these runs do not come upon: damage, an interrupted big file, files of the recipe, leftovers of another time, and what only a
    // service has.
    let rare = [
        "encryption",
        "encryption-set",
        "lost",
        "resumed",
        "would-delete",
        "deleted",
        "kept",
        "escrow-vault",
        "passwd-vault",
        "recipe-container",
        "recipe-key-file",
        "skipped",
        "warning",
    ];
    let missing: Vec<_> = documented
        .keys()
        .filter(|(command, r#type)| {
            !seen.contains(&(command.clone(), r#type.clone())) && !rare.contains(&r#type.as_str())
        })
        // Tables that two commands share: each prints its own.
        .filter(|(_, r#type)| !seen.iter().any(|(_, other)| other == r#type))
        .collect();
    assert!(missing.is_empty(), "documented and never printed: {missing:?}");
    println!("{} of {} documented objects compared", seen.len(), documented.len());
}
