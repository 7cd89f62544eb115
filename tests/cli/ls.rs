//! `sidekey ls` on local folders by the real binary, and on the store in memory where versions are needed.

use crate::common;
use std::sync::Arc;

use bytes::Bytes;
use sidekey::location::Location;
use sidekey::location::argument::Target;
use sidekey::ops::ls::{Kind, Line, LsOptions, LsSummary, ls};
use sidekey::store::memory::{Features, MemoryStore};
use sidekey::store::{Info, OnlyIf};
use sidekey::{ErrorKind, KeyId};

use crate::common::{Place, failed, noise, objects, on_a_terminal, path_of};

/// Files, a folder, an empty folder and a link, encrypted into the folder `vault`.
fn place() -> Place {
    let place = Place::with_keys();
    place.mkdir("src/a/b");
    place.mkdir("src/empty");
    place.write("src/x", "hello");
    place.write("src/nothing", "");
    place.write("src/a/y", noise(100_000, 1));
    place.write("src/a/b/z", noise(65_536, 2));
    place.shell("ln -s x src/link").good();
    place.sidekey("encrypt -r keys/old.pub.pem -r keys/new.pub.pem src/ -o vault").good();
    place
}

fn id(place: &Place, name: &str) -> KeyId {
    place.public(name).id()
}

#[test]
fn names_come_one_a_line_and_folders_are_entered_on_request() {
    let place = place();
    let list = |line: &str| place.sidekey(line).good().stdout;
    assert_eq!(list("ls vault"), "a/\nempty/\nlink\nnothing\nx\n");
    assert_eq!(list("ls vault/a/"), "b/\ny\n");
    assert_eq!(list("ls -R vault"), "a/b/z\na/y\nempty/\nlink\nnothing\nx\n");
    assert_eq!(list("ls -R vault/a vault/x"), "vault/a/b/z\nvault/a/y\nvault/x\n");
    assert_eq!(list("ls vault/x"), "x\n");
    // As the shell completes it.
    assert_eq!(list("ls vault/x.enc vault/x.key.enc"), "vault/x\nvault/x\n");
    let file_url = format!("file://{}/vault/a/", place.root().display());
    assert_eq!(list(&format!("ls {file_url}")), "b/\ny\n");
    let gone = place.sidekey("ls vault/gone vault/x");
    assert_eq!(gone.code, Some(1));
    assert_eq!(gone.stdout, "vault/x\n");
    assert_eq!(
        gone.stderr,
        "sidekey: vault/gone.enc: there is nothing under that name\nsidekey: hint: sidekey ls shows what is there\n"
    );
}

#[test]
fn a_file_and_a_folder_of_one_name_are_both_listed() {
    let place = place();
    place.write("src/a.txt", "beside the folder a");
    place.write("a", "a file called as the folder");
    place.sidekey("encrypt -r keys/old.pub.pem a -o vault/").good();
    place.sidekey("encrypt -r keys/old.pub.pem src/a.txt -o vault/").good();
    assert_eq!(place.sidekey("ls vault").good().stdout, "a\na.txt\na/\nempty/\nlink\nnothing\nx\n");
    assert_eq!(place.sidekey("ls --json vault/x").good().stdout.lines().count(), 1);
}

#[test]
fn long_lines_have_sizes_times_and_recipients() {
    let place = place();
    let listed = place.sidekey("ls -lR vault").good();
    let (old, new) = (id(&place, "old").short(), id(&place, "new").short());
    let rows: Vec<Vec<&str>> = listed.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let names: Vec<&str> = rows.iter().map(|row| row[3]).collect();
    assert_eq!(names, ["a/b/z", "a/y", "empty/", "link", "nothing", "x"]);
    // Exact where a last section has no padding to hide in: none at all, or full.
    let sizes: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(sizes, ["65536", "~100015", "0", "0", "0", "~15"]);
    for row in rows {
        assert_eq!(row[2], format!("{old},{new}"));
        humantime::parse_rfc3339(row[1]).unwrap();
    }
    for row in objects(&place.sidekey("ls -lR --json vault").good().stdout) {
        let name = row["name"].as_str().unwrap();
        let plain = place.path("src").join(name);
        let is = if plain.is_symlink() || plain.is_dir() { 0 } else { plain.metadata().unwrap().len() };
        let (min, max) = (row["size_min"].as_u64().unwrap(), row["size_max"].as_u64().unwrap());
        assert!(min <= is && is <= max && max - min < 16, "{name}: {min} to {max}, is {is}");
        assert_eq!(row["recipients"].as_array().unwrap().len(), 2, "{name}");
        assert_eq!(row["problem"], serde_json::Value::Null);
        assert_eq!(row["latest"], true);
        let stored = place.path("vault").join(row["object"].as_str().unwrap());
        assert_eq!(row["stored_size"].as_u64().unwrap(), stored.metadata().unwrap().len());
    }
}

#[test]
fn what_is_wrong_is_said_and_is_no_failure() {
    let place = place();
    for gone in ["x.key.enc", "a/y.enc"] {
        std::fs::remove_file(place.path("vault").join(gone)).unwrap();
    }
    place.write("vault/notes.txt", "not ours");
    place.write("vault/.enc", "nor this");
    // Truncated: shorter than any container.
    place.write("vault/nothing.enc", &place.read("vault/nothing.enc")[..100]);
    let plain = place.sidekey("ls -R vault").good();
    assert_eq!(plain.stdout, "a/b/z\nempty/\nlink\nnothing\nx\n");
    assert_eq!(
        plain.stderr,
        "sidekey: warning: x: has no envelope: nobody can open it\n\
         sidekey: hint: sidekey verify tells more; look for its .key.enc file in other copies\n\
         sidekey: left out, listed with -l: envelopes without a container (1)\n\
         sidekey: left out, listed with -l: foreign objects (2)\n"
    );
    let long = place.sidekey("ls -lR vault").good();
    let problem = |name: &str| {
        let line =
            long.stdout.lines().find(|line| line.contains(&format!("  {name}  ("))).unwrap_or("").to_owned();
        line.split_once("  (")
            .map(|(_, problem)| problem.trim_end_matches(')').to_owned())
            .unwrap_or_default()
    };
    assert_eq!(problem("a/y"), "no container");
    assert_eq!(problem("x"), "no envelope");
    assert_eq!(problem("notes.txt"), "foreign object");
    assert_eq!(problem(".enc"), "foreign object");
    assert!(problem("nothing").contains("is truncated"), "{long:?}");
    assert_eq!(long.stderr, "");
    let kinds: Vec<String> = objects(&place.sidekey("ls --json vault/a/").good().stdout)
        .iter()
        .map(|row| format!("{} {} {}", row["kind"], row["name"], row["problem"]))
        .collect();
    assert_eq!(kinds, ["\"folder\" \"b/\" null", "\"envelope\" \"y\" \"no container\""]);
}

#[test]
fn a_plain_listing_opens_nothing() {
    let place = place();
    place.shell("chmod 000 vault/*.enc vault/a/*.enc").good();
    let plain = place.run_bound("ls vault");
    assert_eq!((plain.code, plain.stderr.as_str()), (Some(0), ""));
    assert_eq!(plain.stdout, "a/\nempty/\nlink\nnothing\nx\n");
    let long = place.run_bound("ls -l vault/x");
    assert_eq!(long.code, Some(0), "{long:?}");
    assert!(long.stdout.contains("ermission denied"), "{long:?}");
}

#[test]
fn folders_that_cannot_be_read_are_named_and_the_rest_is_listed() {
    let place = place();
    place.shell("chmod 000 vault/a").good();
    let listed = place.run_bound("ls -R vault");
    assert_eq!(listed.code, Some(1), "{listed:?}");
    assert_eq!(listed.stdout, "empty/\nlink\nnothing\nx\n");
    assert!(listed.stderr.contains("vault/a"), "{listed:?}");
}

#[test]
fn hostile_names_are_raw_in_pipes_and_escaped_on_terminals() {
    let place = place();
    place.mkdir("hostile/%b64~Li4");
    for name in [&b"a\x1b[2Jb"[..], b"c\nd", b"e\xe2\x80\xae", b"..x"] {
        for (from, to) in [("vault/x.enc", ".enc"), ("vault/x.key.enc", ".key.enc")] {
            let to = [b"hostile/", name, to.as_bytes()].concat();
            place.write(path_of(&to), place.read(from));
        }
    }
    // These two would be .. if they were believed.
    place.write("hostile/%b64~Li4.enc", place.read("vault/x.enc"));
    place.write("hostile/%b64~Li4/x.enc", place.read("vault/x.enc"));
    let piped = place.sidekey("ls -R hostile").good();
    assert_eq!(piped.stdout, "..x\na\x1b[2Jb\nc\nd\ne\u{202e}\n");
    assert!(piped.stderr.ends_with("foreign objects (2)\n"), "{piped:?}");
    let (code, shown) = on_a_terminal(&place, "\"$PROGRAM\" ls -R hostile", &[]);
    assert_eq!(code, Some(0));
    assert!(shown.starts_with("..x\na\\u{1b}[2Jb\nc\\nd\ne\\u{202e}\n"), "{shown}");
}

#[test]
fn names_that_are_no_text_and_names_like_ours_come_back() {
    let place = Place::with_keys();
    place.mkdir("src");
    for name in [&b"x"[..], b"x.key", b"x.enc", b"x.key.enc", b"\xff", b"%b64~", b".folder"] {
        place.write(path_of(&[b"src/", name].concat()), name);
    }
    place.sidekey("encrypt -r keys/old.pub.pem src/ -o vault").good();
    let mut command = place.command(common::SIDEKEY, &["ls", "vault"]);
    let stdout = command.output().unwrap().stdout;
    let mut names: Vec<&[u8]> = stdout.split(|byte| *byte == b'\n').filter(|name| !name.is_empty()).collect();
    names.sort();
    assert_eq!(names, [&b"%b64~"[..], b".folder", b"x", b"x.enc", b"x.key", b"x.key.enc", b"\xff"]);
    assert_eq!(place.sidekey("verify vault").good().stderr, "sidekey: vault: 7 containers whole\n");
}

#[test]
fn wrong_locations_say_what_is_wrong() {
    let place = place();
    let said = |line: &str| {
        let ended = place.sidekey(line);
        (ended.code, ended.stderr.lines().next().unwrap_or_default().to_owned())
    };
    assert_eq!(
        place.sidekey("ls"),
        failed(2, "sidekey: LOCATION is missing\nsidekey: hint: sidekey ls --help shows what there is\n")
    );
    assert_eq!(said("ls nobody:x"), (Some(2), "sidekey: no remote nobody".into()));
    assert_eq!(said("ls vault/../../x").0, Some(1));
    assert_eq!(said("ls vault/.sidekey").0, Some(2));
    place.mkdir("empty-vault");
    assert_eq!(place.sidekey("ls empty-vault").good().stdout, "");
}

// Versions, which local folders do not keep.

fn put(store: &MemoryStore, key: &str, bytes: &[u8]) {
    store.state().put(key, Bytes::copy_from_slice(bytes), &OnlyIf::Always, &Info::new()).unwrap();
}

fn listed(store: &MemoryStore, path: &str, options: LsOptions) -> (LsSummary, Vec<Line>) {
    let location = Location::new(Arc::new(store.clone()), "p").unwrap();
    let target = Target::new(location, path.as_bytes()).unwrap();
    let mut lines = vec![];
    let summary = ls(&target, options, &mut |line| lines.push(line.unwrap())).unwrap();
    (summary, lines)
}

fn shown(lines: &[Line]) -> Vec<String> {
    let show = |line: &Line| {
        let name = String::from_utf8_lossy(&line.path.join(&b'/')).into_owned();
        let marker = if line.object.as_ref().is_some_and(|object| object.marker) { " deleted" } else { "" };
        let problem = line.problem.as_ref().map(|problem| format!(" ({problem})")).unwrap_or_default();
        format!("{:?} {name}{marker}{problem}", line.kind)
    };
    lines.iter().map(show).collect()
}

#[test]
fn versions_and_delete_markers_are_listed_on_request() {
    let place = place();
    let (container, envelope) = (place.read("vault/x.enc"), place.read("vault/x.key.enc"));
    let store = MemoryStore::new(Features { versions: true, conditions: true });
    for key in ["p/x.enc", "p/x.enc", "p/gone.enc"] {
        put(&store, key, &container);
    }
    for key in ["p/x.key.enc", "p/gone.key.enc"] {
        put(&store, key, &envelope);
    }
    store.state().hide("p/gone.enc").unwrap();
    let (summary, lines) = listed(&store, "", LsOptions::default());
    assert_eq!(shown(&lines), ["File x"]);
    assert_eq!((summary.files, summary.hidden, summary.no_container), (1, 1, 0));
    let versions = LsOptions { versions: true, long: true, ..LsOptions::default() };
    let (summary, lines) = listed(&store, "", versions);
    assert_eq!(shown(&lines), ["File gone deleted", "File gone", "File x", "File x"]);
    assert_eq!((summary.files, summary.hidden), (4, 0));
    assert_eq!(lines[1].recipients, [id(&place, "old"), id(&place, "new")]);
    assert_eq!(lines[2].object.as_ref().unwrap().version, "2");
}

#[test]
fn an_envelope_that_was_hidden_is_still_found() {
    let place = place();
    let store = MemoryStore::new(Features { versions: true, conditions: true });
    put(&store, "p/x.enc", &place.read("vault/x.enc"));
    put(&store, "p/x.key.enc", &place.read("vault/x.key.enc"));
    put(&store, "p/y.enc", &place.read("vault/a/y.enc"));
    store.state().hide("p/x.key.enc").unwrap();
    for long in [false, true] {
        let (summary, lines) = listed(&store, "", LsOptions { long, ..LsOptions::default() });
        assert_eq!(shown(&lines), ["File x", "File y (no envelope)"]);
        assert_eq!(summary.no_envelope, 1);
    }
}

#[test]
fn a_hostile_listing_leads_nowhere() {
    let store = MemoryStore::new(Features { versions: false, conditions: true });
    let container = b"anything";
    for key in ["p/../x.enc", "p//etc/passwd.enc", "p/./x.enc", "p/x\0.enc", "p/.sidekey/x.enc", "q/x.enc"] {
        put(&store, key, container);
    }
    let (summary, lines) = listed(&store, "", LsOptions { recursive: true, ..LsOptions::default() });
    let kinds: Vec<Kind> = lines.iter().map(|line| line.kind).collect();
    assert_eq!(kinds, [Kind::Foreign; 4]);
    assert_eq!((summary.foreign, summary.files), (4, 0));
    let location = Location::new(Arc::new(store), "p").unwrap();
    let target = Target::new(location, b"etc/passwd").unwrap();
    let error = ls(&target, LsOptions::default(), &mut |line| panic!("{line:?}")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
