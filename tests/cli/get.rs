//! `get` and `cat` out of folders, by the real binary: what comes back is what went in, what is hostile changes nothing.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use crate::common::{
    Content, Ended, Killed, LIMIT, Place, SIDEKEY, Tree, noise, objects, on_a_terminal, path_of, same_trees,
};

const GET: &str = "get -i keys/old.pem";
const CAT: &str = "cat -q -i keys/old.pem";

/// `tree`: names, contents, modes and times that must survive.
fn planted() -> (Place, Tree) {
    let place = Place::with_keys();
    for folder in ["tree/sub/deep", "tree/empty/inner", "tree/a.enc", "tree/.sidekey"] {
        place.mkdir(folder);
    }
    place.write("tree/none", "");
    place.write("tree/a", "a\n");
    place.write("tree/a.enc/inner", "in a folder that is called like a container");
    place.write("tree/.sidekey/mine", "deeper in the location this name is like any other");
    place.write("tree/large", noise((5 << 20) + 17, 1));
    place.write("tree/section", noise(65536, 2));
    place.write("tree/sub/deep/x", "deep");
    for name in
        [".hidden", ".folder", "server", "server.key", "server.key~", "ümlaut", "-r", "a\u{1b}]0;x\u{7}\nb"]
    {
        place.write(Path::new("tree").join(name), format!("contents of {name}"));
    }
    place.write(Path::new("tree").join(path_of(b"\xff\xfe")), "not UTF-8");
    for (name, target) in [("link", "a"), ("dangling", "no/where"), ("to a folder", "sub"), ("up", "..")] {
        symlink(target, place.path("tree").join(name)).unwrap();
    }
    for (name, mode) in [("a", 0o4755), ("server", 0o444), ("large", 0o640), ("empty/inner", 0o3750)] {
        place.chmod(Path::new("tree").join(name), mode);
    }
    let epoch = SystemTime::UNIX_EPOCH;
    for (name, time) in [
        ("a", epoch + Duration::new(1_600_000_000, 123_456_789)),
        ("none", epoch - Duration::new(157_766_400, 999_999_999)),
        ("sub", epoch + Duration::new(1_000_000_000, 5)),
    ] {
        std::fs::File::open(place.path("tree").join(name)).unwrap().set_modified(time).unwrap();
    }
    let tree = place.tree("tree");
    (place, tree)
}

/// A location `vault` with these files, their pairs as `put` stores them.
fn vault(files: &[(&str, &[u8])]) -> Place {
    let place = Place::with_keys();
    place.mkdir("vault");
    for (name, plain) in files {
        let folder = Path::new("plain").join(name);
        place.mkdir(folder.parent().unwrap());
        place.write(&folder, plain);
    }
    if !files.is_empty() {
        place.sidekey("put -q -r keys/old.pub.pem plain/ vault/").good();
    }
    place
}

/// The envelope of a container of `vault` as `put` names it.
fn envelope_of(place: &Place, name: &str) -> PathBuf {
    let data_id = place.header(format!("vault/{name}.enc")).data_id();
    PathBuf::from(format!("vault/{name}.{}.key.enc", data_id.short()))
}

/// What was said before the summary.
#[track_caller]
fn said(run: &Ended, code: i32) -> Vec<&str> {
    assert_eq!(run.code, Some(code), "{run:?}");
    let mut lines: Vec<_> = run.stderr.lines().collect();
    assert!(lines.pop().is_some_and(|line| line.starts_with("sidekey: restored ")), "{run:?}");
    lines
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let (place, tree) = planted();
    // As `encrypt` leaves it, with one name for each envelope, and as `put` does, with another.
    place.sidekey("encrypt -q -r keys/old.pub.pem tree -o stored").good();
    place.sidekey("put -q -r keys/old.pub.pem tree vault/").good();
    // A folder of that name is what another location keeps for itself: `put` leaves it out, and says so.
    let mut put = tree.clone();
    put.retain(|path, _| !path.starts_with(".sidekey"));
    for (location, jobs, tree) in [("stored", "1", tree), ("vault", "4", put)] {
        let before = place.fingerprint(location);
        place.sidekey(&format!("{GET} --strict --jobs {jobs} {location}/tree {location}-1")).good();
        place.sidekey(&format!("{GET} --strict --jobs {jobs} {location}/tree/ {location}-2/")).good();
        place.sidekey(&format!("{GET} --strict {location}/ {location}-3")).good();
        same_trees(&place.tree(&format!("{location}-1/tree")), &tree, false);
        same_trees(&place.tree(&format!("{location}-2")), &tree, false);
        same_trees(&place.tree(&format!("{location}-3/tree")), &tree, false);
        assert_eq!(place.fingerprint(location), before);
    }
    assert_eq!(place.temporary(), [] as [PathBuf; 0]);
}

#[test]
fn where_results_go() {
    let place =
        vault(&[("a", b"the file a"), ("d/b", b"b"), ("d/e/c", b"c"), ("both", b"file"), ("both.d", b"")]);
    place.mkdir("there");
    for (line, made) in [
        ("vault/a new", "new"),
        ("vault/a there", "there/a"),
        ("vault/a fresh/", "fresh/a"),
        ("vault/a.enc stored-name", "stored-name"),
        ("vault/d folder", "folder/d/e/c"),
        ("vault/d/ contents", "contents/e/c"),
        ("vault/d/. dot", "dot/e/c"),
        ("vault/d/e/c one", "one"),
        ("vault all", "all/vault/d/e/c"),
        ("vault/ all2", "all2/d/e/c"),
        ("vault/a vault/d/b many", "many/b"),
        ("file:vault/a x", ""),
    ] {
        let run = place.sidekey(&format!("{GET} {line}"));
        match made {
            "" => assert_eq!(run.code, Some(2), "{line}: {run:?}"),
            made => {
                run.good();
                assert!(place.path(made).is_file(), "{line}");
            }
        }
    }
    let url = format!("file://{}/vault/a", place.root().display());
    place.sidekey(&format!("{GET} {url} by-url")).good();
    assert_eq!(place.text("by-url"), "the file a");
    let run = place.sidekey(&format!("{GET} -q vault/a -")).good();
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("the file a", ""));

    for (line, code, says, hint) in [
        (
            "vault/nothing x",
            1,
            "vault/nothing.enc: there is nothing under that name",
            "sidekey ls shows what is there",
        ),
        ("vault/d/nothing/ x", 0, "", ""),
        (
            "nowhere/a x",
            1,
            "./nowhere/a.enc: there is nothing under that name",
            "sidekey ls shows what is there",
        ),
        ("vault/a", 2, "DEST is missing", "the last argument says where to put the others"),
        ("vault/d -", 2, "standard output takes one object", "name one object, or use sidekey cat"),
        ("vault/a stored/../vault/a x", 2, "", ""),
        ("vault/d/b vault/d/b x/", 2, "another source has the same name, and so would their results", ""),
        ("nas:a x", 2, "no remote nas", ""),
        ("vault/a no/folder/x", 1, "cannot create a file there", ""),
        (
            "--version 1 vault/a x",
            2,
            "keeps no versions: there is only what is there now",
            "leave out --version and --at",
        ),
        ("--at 2026-01-01T00:00:00Z vault/ x", 2, "keeps no versions: there is only what is there now", ""),
        ("--at noon vault/ x", 2, "is not a time like 2026-11-20T23:06:00Z (UTC)", ""),
        ("--jobs 0 vault/a x", 2, "is not a number from 1 to 256", ""),
    ] {
        let run = place.sidekey(&format!("{GET} {line}"));
        assert_eq!(run.code, Some(code), "{line}: {run:?}");
        assert!(run.stderr.contains(says) && run.stderr.contains(hint), "{line}: {run:?}");
        assert!(!place.path("x").is_file(), "{line}");
    }
    let run = place.sidekey("get vault/a x");
    assert_eq!(run.said(), (Some(2), "sidekey: no private key\nsidekey: hint: name one with --identity\n"));
}

#[test]
fn a_folder_and_a_file_of_one_name() {
    let place = vault(&[("x/y", b"in the folder")]);
    place.write("file", "the file");
    place.sidekey("put -q -r keys/old.pub.pem file vault/x.tmp").good();
    let envelope = envelope_of(&place, "x.tmp");
    let renamed = envelope.to_str().unwrap().replace("x.tmp", "x");
    std::fs::rename(place.path(&envelope), place.path(renamed)).unwrap();
    std::fs::rename(place.path("vault/x.tmp.enc"), place.path("vault/x.enc")).unwrap();
    let run = place.sidekey(&format!("{GET} vault/x out/"));
    assert_eq!(
        run.said(),
        (
            Some(2),
            "sidekey: vault/x.enc: x is an object and a folder\n\
             sidekey: hint: write …/x.enc for the object, …/x/ for what is in the folder\n"
        )
    );
    assert!(!place.path("out").exists());
    let run = place.sidekey(&format!("{GET} vault/x.enc out/")).good();
    assert!(run.stderr.contains("was encrypted under the name x.tmp"), "{run:?}");
    place.sidekey(&format!("{GET} vault/x/ out/")).good();
    assert_eq!((place.text("out/x"), place.text("out/y")), ("the file".into(), "in the folder".into()));
}

#[test]
fn what_is_there_is_replaced_only_on_request() {
    let place = vault(&[("a", b"from the vault"), ("b", b"bbb")]);
    std::fs::remove_dir_all(place.path("plain")).unwrap();
    place.mkdir("out");
    place.write("out/a", "mine");
    let run = place.sidekey(&format!("{GET} vault/ out"));
    let hint =
        "sidekey: hint: --overwrite always replaces it, --overwrite if-different where it is another one";
    assert_eq!(said(&run, 1), ["sidekey: out/a: exists already", hint]);
    assert_eq!((place.text("out/a"), place.text("out/b")), ("mine".into(), "bbb".into()));

    // The same size and time, the same contents, other contents of this size, another size.
    let inode = |name: &str| place.path(name).metadata().unwrap().ino();
    let before = inode("out/b");
    let run = place.sidekey(&format!("{GET} -v --overwrite if-different vault/b out/"));
    assert_eq!(said(&run.good(), 0), ["sidekey: out/b: is there already, with this size and time; skipped"]);
    let mtime = place.path("out/b").metadata().unwrap().modified().unwrap();
    std::fs::File::open(place.path("out/b")).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let run = place.sidekey(&format!("{GET} -v --overwrite if-different vault/b out/"));
    assert_eq!(said(&run.good(), 0), ["sidekey: out/b: is there already, with these contents; skipped"]);
    assert_eq!(
        (inode("out/b"), place.path("out/b").metadata().unwrap().modified().unwrap()),
        (before, mtime)
    );
    for mine in ["BBB", "longer than that"] {
        place.write("out/b", mine);
        place.sidekey(&format!("{GET} --overwrite if-different vault/b out/")).good();
        assert_eq!(place.text("out/b"), "bbb");
    }
    place.sidekey(&format!("{GET} --overwrite always vault/ out")).good();
    assert_eq!(place.text("out/a"), "from the vault");
    // A folder is not replaced.
    place.mkdir("dir/a");
    let run = place.sidekey(&format!("{GET} --overwrite always vault/a dir/"));
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.starts_with("sidekey: dir/a: cannot replace the file: "), "{run:?}");
    assert_eq!(place.temporary(), [] as [PathBuf; 0]);
}

#[test]
fn filters_take_what_they_say_and_a_dry_run_takes_nothing() {
    let place =
        vault(&[("a.txt", b"1"), ("b.jpg", b"2"), ("d/c.txt", b"3"), ("d/d.jpg", b"4"), ("tmp/e.txt", b"5")]);
    let files = |folder: &str| -> Vec<String> {
        let tree = place.tree(folder);
        let files = tree.iter().filter(|(_, node)| matches!(node.content, Content::File(_)));
        files.map(|(path, _)| path.display().to_string()).collect()
    };
    for (number, (options, expected)) in [
        ("--include *.txt", &["a.txt", "d/c.txt", "tmp/e.txt"][..]),
        ("--exclude *.txt", &["b.jpg", "d/d.jpg"]),
        ("--exclude tmp/ --exclude *.jpg", &["a.txt", "d/c.txt"]),
        ("--exclude /d", &["a.txt", "b.jpg", "tmp/e.txt"]),
        ("--exclude * --include a.txt", &["a.txt"]),
    ]
    .into_iter()
    .enumerate()
    {
        place.sidekey(&format!("{GET} {options} vault/ out{number}")).good();
        assert_eq!(files(&format!("out{number}")), expected, "{options}");
    }
    // A dry run needs no key.
    let run = place.sidekey("get --dry-run --json --exclude *.txt vault/ dry").good();
    let lines = objects(&run.stdout);
    let types: Vec<_> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(types.iter().filter(|name| **name == "would-get").count(), 2, "{run:?}");
    assert_eq!(types.iter().filter(|name| **name == "skipped").count(), 3, "{run:?}");
    let first = lines.iter().find(|line| line["type"] == "would-get").unwrap();
    let mut keys: Vec<_> = first.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["object", "output", "replaces", "size", "type"]);
    place.mkdir("here");
    place.write("here/a.txt", "mine");
    let run = place.sidekey("get --dry-run --overwrite always vault/a.txt here/").good();
    assert_eq!(run.stdout, "vault/a.txt.enc: would replace here/a.txt\n");
    let run = place.sidekey("get --dry-run vault/a.txt here/");
    assert_eq!(run.code, Some(1), "{run:?}");
    assert_eq!((place.text("here/a.txt").as_str(), place.path("dry").exists()), ("mine", false));
}

#[test]
fn cat_prints_contents_and_ranges() {
    let plain = noise(300_000, 7);
    let place = vault(&[("big", &plain), ("x", b"0123456789"), ("none", b"")]);
    let printed = |line: &str| {
        let output =
            place.command(SIDEKEY, &format!("{CAT} {line}").split(' ').collect::<Vec<_>>()).output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        output.stdout
    };
    assert!(printed("vault/big") == plain);
    assert_eq!(printed("vault/x vault/none vault/x"), b"01234567890123456789");
    for (range, expected) in
        [("0-0", "0"), ("3-5", "345"), ("8-", "89"), ("-3", "789"), ("5-99", "56789"), ("-99", "0123456789")]
    {
        assert_eq!(String::from_utf8(printed(&format!("vault/x --range {range}"))).unwrap(), expected);
    }
    assert!(printed("vault/big --range 65530-131080") == plain[65530..=131080]);
    assert_eq!(printed("vault/none --range -5"), b"");
    for (line, code, says) in [
        ("vault/x --range 10-", 1, "vault/x.enc: the range begins at byte 10, and 10 bytes are there"),
        ("vault/x --range 5-3", 2, "--range 5-3: is not A-B, A- or -N: "),
        ("vault/", 2, "vault: is a folder"),
        ("vault/y", 1, "vault/y.enc: there is nothing under that name"),
    ] {
        let run = place.sidekey(&format!("{CAT} {line}"));
        assert!(run.code == Some(code) && run.stderr.contains(says), "{line}: {run:?}");
        assert_eq!(run.stdout, "");
    }
    // One that fails does not stop the others, and a damaged section is not printed.
    let mut container = place.read("vault/big.enc");
    container[64 + 304 + 65584 + 500] ^= 1;
    place.write("vault/big.enc", &container);
    let run =
        place.command("sh", &["-c", &format!("$PROGRAM {CAT} vault/big vault/x | wc -c")]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&run.stdout).trim(), (65536 + 10).to_string());
    assert!(
        String::from_utf8_lossy(&run.stderr)
            .contains("vault/big.enc: section 2 at byte 65952 fails authentication")
    );
    assert_eq!(printed("vault/big --range 0-9"), &plain[..10]);
    let run = place.sidekey(&format!("{CAT} vault/big --range 70000-70001"));
    assert_eq!((run.code, run.stdout.as_str()), (Some(3), ""), "{run:?}");
}

#[test]
fn half_pairs_foreign_files_and_damage_are_said_and_the_rest_is_restored() {
    let place = vault(&[
        ("good", b"good"),
        ("alone", b"x"),
        ("cut", b"some text"),
        ("bad", b"more text"),
        ("orphan", b""),
    ]);
    std::fs::remove_file(place.path(envelope_of(&place, "alone"))).unwrap();
    std::fs::remove_file(place.path("vault/orphan.enc")).unwrap();
    let mut cut = place.read("vault/cut.enc");
    cut.truncate(cut.len() - 1);
    place.write("vault/cut.enc", cut);
    let mut bad = place.read("vault/bad.enc");
    bad[64 + 304 + 20] ^= 1;
    place.write("vault/bad.enc", bad);
    place.write("vault/README.md", "hello");
    place.write(
        "vault/foreign.enc",
        "not a container, but called like one, and longer than a header would be: so",
    );
    place.write("vault/..enc", "a name that no file can have");
    place.write("vault/%b64~\u{1b}[2J.enc", "likewise");
    let before = place.fingerprint("vault");
    let run = place.sidekey(&format!("{GET} -v --jobs 1 vault/ out"));
    let mut lines = said(&run, 3);
    lines.retain(|line| !line.starts_with("sidekey: hint: "));
    lines.sort_unstable();
    let length = place.read("vault/cut.enc").len();
    assert_eq!(
        lines,
        [
            "sidekey: restored vault/good.enc to out/good",
            "sidekey: vault/%b64~\\u{1b}[2J.enc: has a name that no file can have, and is not restored",
            "sidekey: vault/..enc: has a name that no file can have, and is not restored",
            "sidekey: vault/README.md: is not a container; skipped",
            "sidekey: vault/alone.enc: has no envelope",
            "sidekey: vault/bad.enc: section 1 at byte 368 fails authentication",
            &format!("sidekey: vault/cut.enc: is truncated: no container is {length} bytes long"),
            "sidekey: vault/foreign.enc: not a sidekey container (no magic at byte 0)",
            "sidekey: vault/orphan.enc: has an envelope, but there is no container; skipped",
        ]
    );
    assert_eq!(place.names_in("out"), ["good"]);
    assert_eq!(place.fingerprint("vault"), before);

    let run = place.sidekey(&format!("{GET} --salvage --json vault/bad vault/good saved/"));
    assert_eq!(run.code, Some(3), "{run:?}");
    assert_eq!((place.read("saved/bad"), place.text("saved/good")), (vec![0; 9], "good".into()));
    let lost = objects(&run.stdout).into_iter().find(|line| line["type"] == "lost").unwrap();
    assert_eq!((&lost["output"], &lost["start"], &lost["end"]), (&"saved/bad".into(), &0.into(), &9.into()));
    let run = place.sidekey(&format!("{GET} --salvage vault/bad again"));
    assert!(run.stderr.contains("warning: again: bytes 0 to 8 are lost, and zeros stand there"), "{run:?}");
    assert!(run.stderr.contains("again: is restored in part: 9 bytes in 1 range are lost"), "{run:?}");
}

#[test]
fn envelopes_that_do_not_belong_open_nothing() {
    let place = vault(&[("a", b"contents of a"), ("b", b"contents of b")]);
    let (of_a, of_b) = (envelope_of(&place, "a"), envelope_of(&place, "b"));
    let (old_a, old_b) = (place.read(&of_a), place.read(&of_b));
    let refused = |says: &str, code: i32| {
        let run = place.sidekey(&format!("{GET} vault/a out"));
        assert!(said(&run, code)[0].starts_with(&format!("sidekey: vault/a.enc: {says}")), "{run:?}");
        assert!(!place.path("out").exists());
    };
    // Another file's.
    place.write(&of_a, &old_b);
    refused("the envelope belongs to data id ", 3);
    // An attacker's, for his own key.
    place.write("evil", "evil");
    place.sidekey("encrypt -q -r keys/escrow.pub.pem evil").good();
    let his = place.header("evil.enc").data_id().to_string();
    let data_id = place.header("vault/a.enc").data_id().to_string();
    let forged = place.text("evil.key.enc").replace(&his, &data_id);
    place.write(&of_a, &forged);
    refused("wrapped for key ", 1);
    // Junk, and a huge one.
    place.write(&of_a, "junk");
    refused("envelope line 1 is outside every block", 3);
    place.write(&of_a, vec![b'x'; 2 << 20]);
    refused("an envelope of more than 1048576 bytes is not read", 3);
    // The real one is found beside any of these.
    place.write("vault/a.key.enc", &old_a);
    place.sidekey(&format!("{GET} vault/a found")).good();
    assert_eq!(place.text("found"), "contents of a");
    std::fs::remove_file(place.path("vault/a.key.enc")).unwrap();

    // An older envelope over a newer container.
    place.write(&of_a, &old_a);
    place.write("plain/a", "newer contents");
    place.sidekey("put -q -r keys/old.pub.pem plain/a vault/").good();
    let new_a = envelope_of(&place, "a");
    assert_ne!(new_a, of_a);
    place.write(&new_a, &old_a);
    refused("the envelope belongs to data id ", 3);

    // Both swapped: it opens, and is said.
    let place = vault(&[("a", b"contents of a"), ("b", b"contents of b")]);
    let (of_a, of_b) = (envelope_of(&place, "a"), envelope_of(&place, "b"));
    let swap = |a: &Path, b: &Path| {
        std::fs::rename(place.path(a), place.path("tmp")).unwrap();
        std::fs::rename(place.path(b), place.path(a)).unwrap();
        std::fs::rename(place.path("tmp"), place.path(b)).unwrap();
    };
    swap(Path::new("vault/a.enc"), Path::new("vault/b.enc"));
    let renamed = |path: &Path, from: &str, to: &str| {
        let name = path.file_name().unwrap().to_str().unwrap();
        std::fs::rename(place.path(path), place.path(path.with_file_name(name.replacen(from, to, 1))))
            .unwrap();
    };
    renamed(&of_a, "a", "b");
    renamed(&of_b, "b", "a");
    let run = place.sidekey(&format!("{GET} vault/a swapped"));
    assert_eq!(said(&run, 0), ["sidekey: warning: vault/a.enc: was encrypted under the name b"]);
    let run = place.sidekey(&format!("{GET} --strict vault/a strict"));
    assert_eq!(
        said(&run, 3),
        [
            "sidekey: vault/a.enc: was encrypted under the name b",
            "sidekey: hint: somebody renamed or swapped it; without --strict this is a warning"
        ]
    );
    assert!(!place.path("strict").exists());
    let run = place.sidekey("cat -i keys/old.pem --strict vault/a");
    assert_eq!((run.code, run.stdout.as_str()), (Some(3), ""), "{run:?}");
}

#[test]
fn nothing_is_written_through_a_symlink() {
    let place = vault(&[("sub/x", b"from the vault"), ("y", b"from the vault"), ("z", &noise(65 << 20, 8))]);
    place.mkdir("out");
    place.mkdir("elsewhere");
    place.write("victim", "mine");
    symlink("../elsewhere", place.path("out/sub")).unwrap();
    symlink("../victim", place.path("out/y")).unwrap();
    symlink("../victim", place.path("out/.z.sidekey-part")).unwrap();
    let run = place.sidekey(&format!("{GET} --overwrite always vault/ out"));
    let mut lines = said(&run, 1);
    lines.retain(|line| !line.starts_with("sidekey: hint: "));
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "sidekey: out/.z.sidekey-part: is in the way: it is no part file that this user alone can write",
            "sidekey: out/sub: is in the way: a folder is needed there, not a file or link",
        ]
    );
    assert_eq!((place.text("victim").as_str(), place.names_in("elsewhere").len()), ("mine", 0));
    assert!(place.path("out/y").symlink_metadata().unwrap().is_file());
    assert_eq!(place.text("out/y"), "from the vault");
    place.sidekey(&format!("{GET} --no-resume --overwrite always vault/z out/")).good();
    assert_eq!(
        (place.text("victim").as_str(), place.names_in("out")),
        ("mine", vec!["sub".into(), "y".into(), "z".to_owned()])
    );
}

#[test]
fn what_the_system_refuses_is_said() {
    let place = vault(&[("a", b"a"), ("closed", b"x")]);
    place.chmod("vault/closed.enc", 0);
    place.mkdir("full");
    place.chmod("full", 0o555);
    for (line, says) in
        [("vault/closed x", "vault/closed.enc: "), ("vault/a full/", "full/a: cannot create a file there: ")]
    {
        let run = place.run_bound(&format!("{GET} {line}"));
        assert!(run.code == Some(1) && run.stderr.contains(says), "{line}: {run:?}");
        assert!(run.stderr.contains("ermission denied"), "{line}: {run:?}");
    }
    let run = place.shell("$PROGRAM get -i keys/old.pem vault/a /dev/full");
    assert!(run.code == Some(1) && run.stderr.contains("/dev/full: cannot write: No space left"), "{run:?}");
    let run = place.sidekey(&format!("{CAT} vault/a")).good();
    assert_eq!(run.stdout, "a");
}

#[test]
fn names_are_escaped_on_a_terminal() {
    let place = vault(&[("a\u{1b}]0;x\u{7}", b"x")]);
    let (code, shown) = on_a_terminal(&place, "$PROGRAM get -v -i keys/old.pem vault/ out", &[]);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("a\\u{1b}]0;x\\u{7}") && !shown.contains("\u{1b}]0;"), "{shown:?}");
}

#[test]
fn an_interrupted_big_file_is_gone_on_with() {
    const SIZE: usize = 200 << 20;
    let plain = noise(SIZE, 9);
    let place = vault(&[("big", &plain)]);
    let part = place.path("out/.big.sidekey-part");
    let slot = (SIZE.next_multiple_of(4096)) as u64;
    // A slot is there once its length is.
    let has_slot = || {
        let Ok(file) = std::fs::File::open(&part) else { return false };
        let mut len = [0; 8];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut len, slot).is_ok() && len != [0; 8]
    };
    for signal in ["INT", "KILL"] {
        let mut interrupted = false;
        for _ in 0..20 {
            let _ = std::fs::remove_dir_all(place.path("out"));
            place.mkdir("out");
            let mut command = Command::new(SIDEKEY);
            command.args(GET.split(' ')).args(["--jobs", "1", "vault/big", "out/"]).current_dir(place.root());
            command.stdin(Stdio::null()).stderr(Stdio::piped());
            let mut child = Killed::spawn(&mut command);
            let started = Instant::now();
            while !has_slot() && child.0.try_wait().unwrap().is_none() {
                assert!(started.elapsed() < Duration::from_secs(LIMIT));
                std::thread::sleep(Duration::from_millis(1));
            }
            // Once it was waited for, its number may be another's.
            if child.0.try_wait().unwrap().is_none() {
                let pid = child.0.id().to_string();
                assert!(Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success());
            }
            let ended = child.0.wait().unwrap();
            if ended.success() {
                continue;
            }
            interrupted = true;
            if signal == "INT" {
                let mut said = String::new();
                std::io::Read::read_to_string(child.0.stderr.as_mut().unwrap(), &mut said).unwrap();
                assert_eq!(ended.code(), Some(130), "{said}");
                assert!(said.contains("run the same again with --overwrite if-different to go on"), "{said}");
            }
            break;
        }
        assert!(interrupted, "{signal}: it was always done before");
        assert_eq!(place.names_in("out"), [".big.sidekey-part"]);
        assert_eq!(part.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let run = place.sidekey(&format!("{GET} --overwrite if-different vault/ out")).good();
        let lines = said(&run, 0);
        assert!(
            matches!(lines[..], [line] if line.starts_with("sidekey: out/big: ") && line.ends_with(" bytes are there already; going on behind them")),
            "{run:?}"
        );
        assert_eq!(place.names_in("out"), ["big"]);
        assert!(place.read("out/big") == plain);
    }
}
