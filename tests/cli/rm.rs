//! `rm` and `clean` by the real program on local folders. The clock of a local folder is the time of its files, which is
//! what the tests set.
#![allow(clippy::disallowed_methods, reason = "tests ask for the time and write files of their own")]

use crate::common;
use std::fs::File;
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use crate::common::{Ended, Place, failed, objects, on_a_terminal};

const YOUNG: &str = "younger than a week: envelopes of such stay until sidekey clean finds them old enough";

/// With `vault`, in which are these files, each with its own name as contents.
fn vault(names: &[&str]) -> Place {
    let place = Place::with_keys();
    for name in names {
        if let Some((folder, _)) = name.rsplit_once('/') {
            place.mkdir(format!("plain/{folder}"));
        }
        place.mkdir("plain");
        place.write(format!("plain/{name}"), name);
    }
    put(&place, "plain/");
    place
}

fn put(place: &Place, sources: &str) {
    place.mkdir("vault");
    place.sidekey(&format!("put -q -r keys/old.pub.pem {sources} vault/")).good();
}

impl Place {
    /// Makes a file `days` days old.
    fn age(&self, name: &str, days: u64) {
        let then = SystemTime::now() - Duration::from_secs(days * 86_400);
        File::open(self.path(name)).unwrap().set_modified(then).unwrap();
    }

    /// The name of the one envelope of a container in `vault`.
    fn envelope_of(&self, name: &str) -> String {
        let id = self.header(format!("vault/{name}.enc")).data_id().short();
        format!("vault/{name}.{id}.key.enc")
    }

    /// The files below `vault` by their names, envelopes as `NAME.KEY`.
    fn stored(&self) -> Vec<String> {
        let short = |path: &std::path::Path| match path.to_str().unwrap().strip_suffix(".key.enc") {
            Some(front) => format!("{}.KEY", front.rsplit_once('.').map_or(front, |(name, _)| name)),
            None => path.to_str().unwrap().to_owned(),
        };
        let tree = self.tree("vault");
        let files = tree.iter().filter(|(_, node)| matches!(node.content, common::Content::File(_)));
        let mut names: Vec<_> = files.map(|(path, _)| short(path)).collect();
        names.sort();
        names
    }

    fn get(&self, name: &str) -> String {
        self.sidekey(&format!("cat -i keys/old.pem vault/{name}")).good().stdout
    }
}

fn says(stderr: &str) -> Ended {
    Ended { code: Some(0), stdout: String::new(), stderr: stderr.to_owned() }
}

#[test]
fn a_young_object_goes_and_its_envelope_stays_for_clean() {
    let place = vault(&["a", "b"]);
    assert_eq!(
        place.sidekey("rm vault/a"),
        says(&format!("sidekey: removed 1 object and 0 envelopes\nsidekey: 1 object {YOUNG}\n"))
    );
    assert_eq!(place.stored(), ["a.KEY", "b.KEY", "b.enc"]);
    assert_eq!(place.get("b"), "b");
    // The same again has nothing to do, and says so.
    let again = place.sidekey("rm vault/a");
    assert_eq!((again.code, again.stdout.as_str()), (Some(1), ""));
    assert!(
        again.stderr.starts_with("sidekey: vault/a.enc: there is nothing under that name\n"),
        "{again:?}"
    );

    // A month later it is no longer needed by anything.
    let orphan = place.names_in("vault").into_iter().find(|name| name.starts_with("a.")).unwrap();
    place.age(&format!("vault/{orphan}"), 29);
    assert_eq!(place.sidekey("clean vault --yes"), says("sidekey: there is nothing to clean up\n"));
    place.age(&format!("vault/{orphan}"), 31);
    let cleaned = place.sidekey("clean vault --yes");
    assert_eq!(cleaned.stdout, format!("vault/{orphan}: an envelope without a container, 31 days old\n"));
    assert_eq!((cleaned.code, cleaned.stderr.as_str()), (Some(0), "sidekey: deleted 1 leftover\n"));
    assert_eq!(place.stored(), ["b.KEY", "b.enc"]);
    place.sidekey("verify vault").good();
}

#[test]
fn an_old_object_takes_its_envelope_along_but_never_that_of_another() {
    let place = vault(&["a", "d/b"]);
    for name in ["a", "d/b"] {
        let envelope = place.envelope_of(name);
        place.age(&envelope, 8);
        place.age(&format!("vault/{name}.enc"), 8);
    }
    // The envelope of b under the name of one of a, too: whose it is says the data id in it.
    let b = place.read(place.envelope_of("d/b"));
    place.write("vault/a.key.enc", &b);
    place.age("vault/a.key.enc", 8);
    let removed = place.sidekey("rm vault/a -v");
    assert_eq!(removed.code, Some(0), "{removed:?}");
    assert!(removed.stderr.contains("sidekey: removed vault/a.enc\n"), "{removed:?}");
    assert!(place.path("vault/a.key.enc").exists(), "{removed:?}");
    assert_eq!(place.get("d/b"), "d/b");
    place.sidekey("rm vault/d/b").good();
    assert_eq!(place.stored(), ["a.KEY"]);
    assert!(place.path("vault/a.key.enc").exists());
}

#[test]
fn folders_need_r_and_all_is_looked_up_before_anything_goes() {
    let place = vault(&["a", "d/b", "d/e/c", "x", "x.enc/y"]);
    let before = place.fingerprint("vault");
    for (line, code, says) in [
        ("rm vault", 2, "vault/: is a folder\nsidekey: hint: -r removes what is in it"),
        ("rm vault/a vault/d", 2, "vault/d/: is a folder\nsidekey: hint: -r removes what is in it"),
        (
            "rm vault/a vault/none",
            1,
            "vault/none.enc: there is nothing under that name\nsidekey: hint: sidekey ls shows what is there",
        ),
        (
            "rm -r vault/.sidekey/x",
            2,
            ".sidekey/x: .sidekey at the root of a location is sidekey's own\n\
             sidekey: hint: name the location itself, or a folder of yours in it",
        ),
        ("rm", 2, "LOCATION is missing\nsidekey: hint: sidekey rm --help shows what there is"),
        (
            "rm home:x",
            2,
            "no remote home\nsidekey: hint: for a file write ./home:…; sidekey remote ls shows the remotes there are",
        ),
    ] {
        let run = place.sidekey(line);
        let expected = failed(code, &format!("sidekey: {says}\n"));
        let spelled = Ended {
            stderr: run.stderr.replacen("vault: is", "vault/: is", 1).replacen("d: is", "d/: is", 1),
            ..run
        };
        assert_eq!(spelled, expected, "{line}");
    }
    assert_eq!(place.fingerprint("vault"), before);

    place.sidekey("rm -r vault/d/ vault/x.enc/").good();
    assert_eq!(
        place.stored().iter().filter(|name| name.ends_with(".enc")).collect::<Vec<_>>(),
        ["a.enc", "x.enc"]
    );
    assert_eq!(place.get("a"), "a");
}

#[test]
fn an_object_and_a_folder_of_one_name_have_two_spellings() {
    let place = vault(&["x"]);
    place.mkdir("more/x");
    place.write("more/x/y", "y");
    put(&place, "more/");
    for line in ["rm vault/x", "rm -r vault/x"] {
        let said = place.sidekey(line);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(
            said.stderr.ends_with("hint: write …/x.enc for the object, …/x/ for what is in the folder\n"),
            "{said:?}"
        );
    }
    place.sidekey("rm vault/x.enc").good();
    assert_eq!(place.get("x/y"), "y");
    place.sidekey("rm -r vault/x/").good();
    assert_eq!(place.stored(), ["x.KEY", "x/y.KEY"]);
    // The envelopes that stayed are no folder.
    put(&place, "plain/");
    place.sidekey("rm vault/x").good();
    assert_eq!(place.stored(), ["x.KEY", "x.KEY", "x/y.KEY"]);
}

#[test]
fn a_dry_run_tells_what_a_run_does_and_changes_nothing() {
    let place = vault(&["d/a.txt", "d/b.tmp", "d/sub/c.tmp"]);
    place.write("vault/d/foreign", "somebody's");
    let before = place.fingerprint("vault");
    let line = "rm -r vault/d/ --include *.tmp";
    let told = place.sidekey(&format!("{line} --dry-run")).good();
    let mut lines: Vec<_> = told.stdout.lines().collect();
    lines.sort();
    assert_eq!(lines, ["vault/d/b.tmp.enc: would be removed", "vault/d/sub/c.tmp.enc: would be removed"]);
    assert_eq!(
        told.stderr,
        format!(
            "sidekey: would have removed 2 objects and 0 envelopes, 2 skipped\nsidekey: 2 objects {YOUNG}\n"
        )
    );
    assert_eq!(place.fingerprint("vault"), before);

    let done = place.sidekey(&format!("{line} --json")).good();
    let mut lines = objects(&done.stdout);
    let totals = lines.pop().unwrap();
    assert_eq!(
        (&totals["removed"], &totals["young"], &totals["skipped"], &totals["failed"]),
        (&2.into(), &2.into(), &2.into(), &0.into())
    );
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count();
    assert_eq!((of("removed"), of("skipped")), (2, 2), "{lines:?}");
    assert_eq!(place.stored(), ["d/a.txt.KEY", "d/a.txt.enc", "d/b.tmp.KEY", "d/foreign", "d/sub/c.tmp.KEY"]);
    assert_eq!(place.get("d/a.txt"), "d/a.txt");
}

#[test]
fn a_folder_keeps_its_own_metadata_while_patterns_leave_something_in_it() {
    let place = Place::with_keys();
    place.mkdir("plain/d");
    place.write("plain/d/a.tmp", "a");
    put(&place, "--folder-metadata plain/");
    assert!(place.path("vault/d/.folder.enc").exists());
    place.sidekey("rm -r vault/ --include *.tmp").good();
    assert!(place.path("vault/d/.folder.enc").exists());
    place.sidekey("rm -r vault/").good();
    assert!(!place.path("vault/d/.folder.enc").exists());
}

#[test]
fn a_remote_is_a_location_like_any() {
    let place = vault(&["a", "d/b"]);
    place.sidekey("remote add home vault").good();
    place.sidekey("rm home:a").good();
    place.sidekey("rm -r home:d/").good();
    assert_eq!(place.stored(), ["a.KEY", "d/b.KEY"]);
    place.sidekey("clean home: --dry-run").good();
    std::fs::remove_dir_all(place.path("vault")).unwrap();
    let said = place.sidekey("rm home:a");
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.stderr.contains("the remote home is there; the first put to it makes the folder"),
        "{said:?}"
    );
}

#[test]
fn what_is_no_container_is_not_removed() {
    let place = vault(&["a"]);
    place.write("vault/f.enc", "not encrypted at all");
    let before = place.fingerprint("vault");
    let said = place.sidekey("rm vault/f");
    assert_eq!(
        said,
        Ended {
            code: Some(1),
            stdout: String::new(),
            stderr: "sidekey: vault/f.enc: is not a container of sidekey; it was not removed\n\
                     sidekey: hint: remove it with the tool that wrote it, or with the store's own\n\
                     sidekey: removed 0 objects and 0 envelopes, 1 failed\n"
                .into(),
        }
    );
    assert_eq!(place.fingerprint("vault"), before);
}

#[test]
fn without_permission_nothing_goes() {
    let place = vault(&["d/a"]);
    place.chmod("vault/d", 0o500);
    let said = place.run_bound("rm -r vault/d/");
    assert_eq!(said.code, Some(1), "{said:?}");
    assert_eq!(place.stored(), ["d/a.KEY", "d/a.enc"]);
}

/// A location with everything that may be left over, old and young.
fn leftovers() -> Place {
    let place = vault(&["orphan", "young", "whole", "d/deep"]);
    for name in ["orphan", "young", "whole", "d/deep"] {
        let envelope = place.envelope_of(name);
        place.age(&envelope, if name == "young" { 20 } else { 40 });
    }
    for name in ["orphan", "young", "d/deep"] {
        std::fs::remove_file(place.path(format!("vault/{name}.enc"))).unwrap();
    }
    for (name, days) in [
        (".0123456789abcdef.sidekey-tmp", 31),
        (".1123456789abcdef.sidekey-tmp", 29),
        (".film.sidekey-part", 31),
        ("d/.film.sidekey-part", 29),
        ("theirs.txt", 400),
    ] {
        place.write(format!("vault/{name}"), "x");
        place.age(&format!("vault/{name}"), days);
    }
    place
}

#[test]
fn clean_shows_its_plan_and_does_it_when_it_is_told_to() {
    let place = leftovers();
    let before = place.fingerprint("vault");
    let told = place.sidekey("clean vault --dry-run").good();
    let told_lines = told.stdout.lines().map(|line| line.split(": ").nth(1).unwrap()).collect::<Vec<_>>();
    assert_eq!(
        told_lines,
        [
            "an envelope without a container, 40 days old",
            "an envelope without a container, 40 days old",
            "never finished, 31 days old",
            "what an interrupted get left to go on with, 31 days old"
        ]
    );
    assert_eq!(told.stderr, "sidekey: would delete 4 leftovers\n");

    // Nobody to ask, and somebody who says no.
    let asked = place.sidekey("clean vault");
    assert_eq!(asked.code, Some(2));
    assert_eq!(asked.stdout, told.stdout);
    assert_eq!(
        asked.stderr,
        "sidekey: nothing was deleted: there is no terminal to ask on\n\
         sidekey: hint: --yes deletes without asking, --dry-run only tells\n"
    );
    for answer in ["", "n", "nonsense"] {
        let (code, shown) = on_a_terminal(&place, "exec $PROGRAM clean vault", &[("[y/N] ", answer)]);
        assert_eq!(code, Some(0), "{shown}");
        assert!(shown.contains("delete 4 leftovers? [y/N] "), "{shown}");
        assert!(shown.ends_with("sidekey: nothing was deleted\n"), "{shown}");
    }
    assert_eq!(place.fingerprint("vault"), before);

    let (code, shown) = on_a_terminal(&place, "exec $PROGRAM clean vault", &[("[y/N] ", "y")]);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.ends_with("sidekey: deleted 4 leftovers\n"), "{shown}");
    assert_eq!(
        place.stored(),
        [
            ".1123456789abcdef.sidekey-tmp",
            "d/.film.sidekey-part",
            "theirs.txt",
            "whole.KEY",
            "whole.enc",
            "young.KEY"
        ]
    );
    assert_eq!(place.get("whole"), "whole");
    assert_eq!(place.sidekey("clean vault"), says("sidekey: there is nothing to clean up\n"));
}

#[test]
fn age_and_folder_say_what_is_looked_at() {
    let place = leftovers();
    let all = place.sidekey("clean vault --age 28d --dry-run").good();
    assert_eq!(all.stderr, "sidekey: would delete 6 leftovers\n");
    let json = place.sidekey("clean vault/d --age 28d --yes --json").good();
    let lines = objects(&json.stdout);
    let kinds: Vec<_> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["would-delete", "would-delete", "deleted", "deleted", "summary"], "{lines:?}");
    assert_eq!((&lines[0]["kind"], &lines[1]["kind"]), (&"envelope".into(), &"part".into()));
    assert_eq!(
        (&lines[4]["envelopes"], &lines[4]["parts"], &lines[4]["uploads"]),
        (&1.into(), &1.into(), &0.into())
    );
    assert!(place.path("vault/.film.sidekey-part").exists());
    for (line, code, says) in [
        (
            "clean vault/none",
            1,
            "vault/none/: there is no such folder\nsidekey: hint: sidekey ls shows what is there",
        ),
        (
            "clean vault --age soon",
            2,
            "--age soon: is not a time like 12h or 30d\nsidekey: hint: sidekey clean --help shows what there is",
        ),
        (
            "clean vault --yes --dry-run",
            2,
            "--yes and --dry-run exclude each other\nsidekey: hint: sidekey clean --help shows what there is",
        ),
    ] {
        let run = place.sidekey(line);
        let spelled = Ended { stderr: run.stderr.replacen("none: ", "none/: ", 1), ..run };
        assert_eq!(spelled, failed(code, &format!("sidekey: {says}\n")), "{line}");
    }
}

#[test]
fn what_cannot_be_read_is_never_absent() {
    let place = vault(&["a", "b"]);
    let [a, b] = ["a", "b"].map(|name| {
        let envelope = place.envelope_of(name);
        place.age(&envelope, 40);
        envelope
    });
    // The container of a cannot be read; where that of b was stands a symlink.
    place.chmod("vault/a.enc", 0);
    std::fs::remove_file(place.path("vault/b.enc")).unwrap();
    symlink("nowhere", place.path("vault/b.enc")).unwrap();
    let said = place.run_bound("clean vault --yes -v");
    assert!(place.path(&a).exists() && place.path(&b).exists(), "{said:?}");
    assert!(said.stderr.contains("nothing to clean up"), "{said:?}");
    // An envelope that is text of somebody else's.
    place.write("vault/c.0123456789abcdef.key.enc", "not PEM");
    place.age("vault/c.0123456789abcdef.key.enc", 400);
    assert!(place.sidekey("clean vault --yes").stderr.contains("nothing to clean up"));
    assert!(place.path("vault/c.0123456789abcdef.key.enc").exists());
}

#[test]
fn an_envelope_whose_name_may_be_read_in_two_ways_is_kept_while_either_container_needs_it() {
    // The envelope of "x.0123456789abcdef" in the form that encrypt makes is called like one of "x".
    let place = Place::with_keys();
    place.mkdir("vault");
    place.write("x.0123456789abcdef", "x");
    place.sidekey("encrypt -q -r keys/old.pub.pem x.0123456789abcdef -o vault/x.0123456789abcdef.enc").good();
    place.age("vault/x.0123456789abcdef.key.enc", 40);
    assert_eq!(place.sidekey("clean vault --yes"), says("sidekey: there is nothing to clean up\n"));
    std::fs::remove_file(place.path("vault/x.0123456789abcdef.enc")).unwrap();
    let cleaned = place.sidekey("clean vault --yes").good();
    assert_eq!(cleaned.stderr, "sidekey: deleted 1 leftover\n");
    assert!(place.names_in("vault").is_empty());
}

#[test]
fn clean_leaves_the_master_key_of_a_vault_below() {
    let place = Place::with_keys();
    place.mkdir("vault/below");
    place.sidekey("init -q -r keys/old.pub.pem vault/below").good();
    place.age("vault/below/.sidekey/master.1.key.enc", 40);
    let cleaned = place.sidekey(&format!("clean --yes file://{}", place.path("vault").display())).good();
    assert!(cleaned.stderr.contains("nothing to clean up"), "{cleaned:?}");
    assert!(place.path("vault/below/.sidekey/master.1.key.enc").exists());
}

#[test]
fn what_is_dated_before_1970_is_shown_and_cleaned_up() {
    let place = vault(&["a", "b"]);
    let orphan = place.envelope_of("a");
    std::fs::remove_file(place.path("vault/a.enc")).unwrap();
    let before = SystemTime::UNIX_EPOCH - Duration::from_secs(86_400);
    for name in [&*orphan, "vault/b.enc"] {
        File::open(place.path(name)).unwrap().set_modified(before).unwrap();
    }
    for line in ["ls -l vault", "--json ls vault", "--json clean vault --dry-run", "--json clean vault --yes"]
    {
        let said = place.sidekey(line).good();
        assert!(said.stdout.contains("1970-01-01T00:00:00Z"), "{line}: {said:?}");
    }
    assert!(!place.path(&orphan).exists());
    assert_eq!(place.get("b"), "b");
}
