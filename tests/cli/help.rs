//! What the program says of itself, word for word: `tests/cmd/*.txt` are its help texts. After a wanted change,
//! `UPDATE=1 cargo test --release --test cli_help` writes them anew, to be read in the diff.

use crate::common;
use std::path::{Path, PathBuf};

use crate::common::{Ended, Place, ended, failed};

fn help(place: &Place, args: &[&str]) -> Ended {
    // The width of a terminal is not what this is about.
    ended(place.command(common::SIDEKEY, args).env_remove("COLUMNS")).good()
}

/// The commands that `sidekey --help` names.
fn commands(help: &str) -> Vec<String> {
    let listed = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let named = listed.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    named.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "UPDATE=1 writes the texts anew")]
fn every_help_text_is_the_one_that_was_read() {
    let place = Place::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cmd");
    let update = std::env::var_os("UPDATE").is_some();
    let all = help(&place, &["--help"]);
    let mut texts = vec![("sidekey".to_owned(), all.stdout.clone())];
    for command in commands(&all.stdout) {
        let text = help(&place, &[&command, "--help"]);
        assert_eq!(text.stderr, "");
        for below in if text.stdout.contains("Commands:\n") { commands(&text.stdout) } else { vec![] } {
            let text = help(&place, &[&command, &below, "--help"]);
            texts.push((format!("{command}-{below}"), text.stdout));
        }
        texts.push((command, text.stdout));
    }
    assert!(texts.len() >= 10, "{}", texts.len());
    let mut files = Vec::new();
    for (name, text) in &texts {
        let path = folder.join(format!("{name}.txt"));
        if update {
            std::fs::write(&path, text).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(*text, committed, "sidekey {name} --help; see the head of this test");
        files.push(path);
    }
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    found.sort();
    assert_eq!(found, files, "a help text of no command");
}

#[test]
fn help_is_a_command_as_elsewhere() {
    let place = Place::new();
    for (typed, meant) in [
        (&["help"][..], &["--help"][..]),
        (&["help", "put"], &["put", "--help"]),
        (&["help", "vault", "join"], &["vault", "join", "--help"]),
    ] {
        assert_eq!(help(&place, typed), help(&place, meant));
    }
    let unknown = place.sidekey("help nonsense");
    assert!(unknown.code == Some(2) && unknown.stderr.contains("unknown command nonsense"), "{unknown:?}");
}

#[test]
fn help_lines_fit_and_every_command_has_one_more_than_its_name() {
    let place = Place::new();
    let all = help(&place, &["--help"]);
    for command in commands(&all.stdout) {
        let long = help(&place, &[&command, "--help"]).stdout;
        let short = help(&place, &[&command, "-h"]).stdout;
        for text in [&long, &short] {
            assert!(text.lines().all(|line| line.chars().count() <= 120), "{command}: {text}");
            assert!(!text.contains(".\n\nOptions") || text.contains("Usage: sidekey"), "{text}");
        }
        assert!(long.contains(&format!("Usage: sidekey {command}")), "{long}");
    }
}

#[test]
fn every_conflict_of_options_has_its_message() {
    let place = Place::with_keys();
    place.write("a", "a");
    place.write("b", "b");
    place.mkdir("folder");
    let shows = |command: &str| format!("sidekey {command} --help shows what there is");
    let before = place.fingerprint(".");
    for (line, says, hint) in [
        ("encrypt", "PATH is missing", shows("encrypt")),
        ("decrypt", "PATH is missing", shows("decrypt")),
        ("inspect", "PATH is missing", shows("inspect")),
        ("rewrap", "--identity FILE, --to FILE, PATH|LOCATION are missing", shows("rewrap")),
        ("rm", "LOCATION is missing", shows("rm")),
        ("clean", "LOCATION is missing", shows("clean")),
        ("clean a b", "one argument too many: b", shows("clean")),
        ("clean a --yes --dry-run", "--yes and --dry-run exclude each other", shows("clean")),
        ("remote", "a command is missing", shows("remote")),
        (
            "recipients add vault/",
            "one argument too many: vault/",
            "the location comes first: sidekey recipients LOCATION add".into(),
        ),
        ("remote add home", "LOCATION is missing", shows("remote")),
        ("remote rn home", "unknown command rn", shows("remote")),
        ("rewrap a --to b", "--identity FILE is missing", shows("rewrap")),
        ("rewrap a -i b", "--to FILE is missing", shows("rewrap")),
        (
            "encrypt a",
            "no recipient: nobody could open the result",
            "name a public key with --recipient; sidekey keygen makes a pair".into(),
        ),
        ("decrypt a", "no private key", "name one with --identity".into()),
        ("encrypt a -r keys/old.pub.pem -o x -o y", "--output is given twice", shows("encrypt")),
        ("encrypt a --digest md5", "--digest: md5 is not one of sha256, none", shows("encrypt")),
        (
            "encrypt a --format opensl",
            "--format: opensl is not one of sidekey, openssl, openssl-raw",
            "did you mean openssl?".into(),
        ),
        ("encrypt a --recipent x", "unknown option --recipent", "did you mean --recipient?".into()),
        ("encrypt -q -v a", "--quiet and --verbose exclude each other", shows("encrypt")),
        (
            "encrypt a -r keys/old.pub.pem --envelope e",
            "--envelope goes with one input and --output FILE",
            String::new(),
        ),
        (
            "encrypt a b -r keys/old.pub.pem -o x --envelope e",
            "--envelope goes with one input and --output FILE",
            String::new(),
        ),
        (
            "encrypt folder -r keys/old.pub.pem -o x --envelope e",
            "--envelope goes with one input and --output FILE",
            String::new(),
        ),
        (
            "encrypt a -r keys/old.pub.pem -o folder --envelope e",
            "--envelope goes with one input and --output FILE",
            String::new(),
        ),
        (
            "decrypt a b -i keys/old.pem -o x --envelope e",
            "--envelope goes with one input and --output FILE",
            String::new(),
        ),
        (
            "encrypt - a -r keys/old.pub.pem",
            "- is standard input and goes with no other input",
            "write ./- for a file of that name".into(),
        ),
        (
            "decrypt - a -i keys/old.pem",
            "- is standard input and goes with no other input",
            "write ./- for a file of that name".into(),
        ),
        (
            "encrypt - -r keys/old.pub.pem",
            "an input without a name needs --output FILE",
            "write -o NAME.enc, or -o - with --envelope FILE".into(),
        ),
        (
            "decrypt - -i keys/old.pem -o x",
            "an input without a name needs --envelope FILE and --output FILE",
            "write -o NAME, or -o - for standard output".into(),
        ),
        (
            "encrypt a -r keys/old.pub.pem -r keys/new.pub.pem --format openssl",
            "a key file of OpenSSL's holds one recipient",
            "give one --recipient, or leave --format openssl out".into(),
        ),
        (
            "decrypt a -i keys/old.pem --recipe-kdf sha1",
            "--recipe-kdf sha1: no key derivation of the OpenSSL recipe is called \"sha1\"",
            shows("decrypt"),
        ),
        (
            "decrypt a -i keys/old.pem --recipe-password all",
            "--recipe-password all: no reading of the recipe's password is called \"all\"",
            shows("decrypt"),
        ),
        (
            "rewrap a -i keys/old.pem --to keys/new.pub.pem --prove some",
            "--prove: some is not one of sample, all",
            "did you mean sample?".into(),
        ),
        (
            "decrypt a -i keys/old.pem --passphrase-fd x",
            "--passphrase-fd x: invalid digit found in string",
            shows("decrypt"),
        ),
        ("encrypt a -i keys/old.pem", "unknown option -i", shows("encrypt")),
        ("decrypt a -r keys/old.pub.pem", "unknown option -r", shows("decrypt")),
        ("inspect a -i keys/old.pem", "unknown option -i", shows("inspect")),
    ] {
        let run = place.sidekey(line);
        let hint = if hint.is_empty() { hint } else { format!("sidekey: hint: {hint}\n") };
        assert_eq!(run, failed(2, &format!("sidekey: {says}\n{hint}")), "{line}");
    }
    // One that only the work itself shows is part of its batch.
    for (line, says) in [
        (
            "encrypt a -r keys/old.pub.pem -o -",
            "-: a container that goes to a pipe or device needs --envelope FILE",
        ),
        (
            "encrypt a -r keys/old.pub.pem -o /dev/null",
            "/dev/null: a container that goes to a pipe or device needs --envelope FILE",
        ),
        (
            "encrypt a -r keys/old.pub.pem -o x",
            "x: a container's name ends in .enc\n\
             sidekey: hint: name the output NAME.enc, or say with --envelope where its envelope goes",
        ),
    ] {
        let run = place.sidekey(&format!("{line} -q"));
        assert_eq!(run, failed(2, &format!("sidekey: {says}\n")), "{line}");
    }
    assert_eq!(place.fingerprint("."), before);
}
