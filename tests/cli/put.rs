//! `put` into folders, by the real binary: what comes back is what went in, and what goes wrong loses nothing.

use crate::common;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::common::{
    Content, Ended, Killed, Place, SIDEKEY, Tree, ended, failed, noise, objects, path_of, same_trees,
};

const PUT: &str = "put -r keys/old.pub.pem";
const DECRYPT: &str = "decrypt -i keys/old.pem";

/// `tree`: names, contents, modes and times that must survive.
fn planted() -> (Place, Tree) {
    let place = Place::with_keys();
    for folder in ["tree/sub/deep", "tree/empty/inner", "tree/a.enc"] {
        place.mkdir(folder);
    }
    place.write("tree/none", "");
    place.write("tree/a", "a\n");
    place.write("tree/a.enc/inner", "in a folder that is called like a container");
    place.write("tree/large", noise((9 << 20) + 17, 1));
    place.write("tree/section", noise(65536, 2));
    place.write("tree/sub/deep/x", "deep");
    for name in
        [".hidden", ".folder", "server", "server.key", "server.key~", "ümlaut", "-r", "a\u{1b}]0;x\u{7}\nb"]
    {
        place.write(Path::new("tree").join(name), format!("contents of {name}"));
    }
    place.write(Path::new("tree").join(path_of(b"\xff\xfe")), "not UTF-8");
    for (name, target) in [("link", "a"), ("dangling", "no/where"), ("to a folder", "sub"), ("loop", "loop")]
    {
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

/// The names of the containers below `vault`, as they are stored.
fn containers(place: &Place, vault: &str) -> Vec<String> {
    let all = place.tree(vault).into_keys().map(|path| path.to_str().unwrap().to_owned());
    all.filter(|name| name.ends_with(".enc") && !name.ends_with(".key.enc"))
        .filter(|name| place.path(vault).join(name).is_file())
        .collect()
}

/// Every container below `vault` has exactly one envelope, and nothing else is there.
#[track_caller]
fn all_paired(place: &Place, vault: &str) {
    let files: BTreeSet<String> = place
        .tree(vault)
        .into_iter()
        .filter(|(_, node)| matches!(node.content, Content::File(_)))
        .map(|(path, _)| path.to_str().unwrap().to_owned())
        .collect();
    let mut expected = BTreeSet::new();
    for name in containers(place, vault) {
        let id = place.header(Path::new(vault).join(&name)).data_id().short();
        expected.insert(format!("{}.{id}.key.enc", name.strip_suffix(".enc").unwrap()));
        expected.insert(name);
    }
    assert_eq!(files, expected);
}

fn restored(place: &Place, what: &str) -> Tree {
    let _ = std::fs::remove_dir_all(place.path("back"));
    place.sidekey(&format!("{DECRYPT} {what} -o back")).good();
    place.tree("back")
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let (place, was) = planted();
    let files = was.values().filter(|node| node.content != Content::Folder(false)).count();
    let bytes: usize =
        was.values().map(|node| if let Content::File(bytes) = &node.content { bytes.len() } else { 0 }).sum();
    for (put, back, folders) in [
        ("tree v1", "v1/tree/", false),
        ("tree/ v2/ --jobs 1 --digest none", "v2/", false),
        ("tree v3/below/it --jobs 5", "v3/below/it/tree/", false),
        ("tree/ v4/ --folder-metadata --digest sha256", "v4/", true),
    ] {
        let done = place.sidekey(&format!("{PUT} {put}")).good();
        if !folders {
            let expected = format!("sidekey: put {files} files, {bytes} bytes read\n");
            assert_eq!((done.stdout.as_str(), done.stderr), ("", expected));
        }
        all_paired(&place, back.split('/').next().unwrap());
        same_trees(&restored(&place, back), &was, folders);
        assert_eq!(place.temporary(), Vec::<std::path::PathBuf>::new());
    }
    same_trees(&place.tree("tree"), &was, true);
    // The digest is there unless it is not wanted.
    place.sidekey(&format!("{DECRYPT} v1/ -o strict --strict")).good();
    assert_eq!(place.mode("v1/tree/a.enc"), 0o600);
}

#[test]
fn where_things_go() {
    let place = Place::with_keys();
    place.mkdir("dir/sub");
    place.mkdir("there");
    place.mkdir("void");
    place.write("dir/x", "x");
    place.write("dir/sub/y", "y");
    place.write("one", "1");
    place.write("two", "2");
    symlink("dir", place.path("link")).unwrap();
    for (line, expected) in [
        ("dir there", &["there/dir/sub/y.enc", "there/dir/x.enc"][..]),
        ("dir/ there", &["there/sub/y.enc", "there/x.enc"]),
        ("dir/. there/", &["there/sub/y.enc", "there/x.enc"]),
        ("dir new", &["new/dir/sub/y.enc", "new/dir/x.enc"]),
        ("dir/ new/below/", &["new/below/sub/y.enc", "new/below/x.enc"]),
        ("one there", &["there/one.enc"]),
        ("one there/", &["there/one.enc"]),
        ("one there/1", &["there/1.enc"]),
        ("one new", &["new.enc"]),
        ("one new/", &["new/one.enc"]),
        ("one two new", &["new/one.enc", "new/two.enc"]),
        ("dir/x dir/sub there/n", &["there/n/sub/y.enc", "there/n/x.enc"]),
        ("one there/server.key", &["there/server.key~.enc"]),
        ("link there", &["there/link.enc"]),
        ("link there/l", &["there/l.enc"]),
        ("link there/l --follow", &["there/l/link/sub/y.enc", "there/l/link/x.enc"]),
        ("link/ there", &["there/sub/y.enc", "there/x.enc"]),
        ("void there", &["there/void/.folder.enc"]),
        ("void/ there", &["there/.folder.enc"]),
        ("one file:///PLACE/there/%6e", &["there/n.enc"]),
    ] {
        let line = line.replace("/PLACE", place.root().to_str().unwrap());
        let dry = place.sidekey(&format!("{PUT} {line} --dry-run")).good();
        assert_eq!(containers(&place, "."), Vec::<String>::new(), "{line}: {dry:?}");
        assert_eq!(dry.stdout.lines().count(), expected.len(), "{line}: {dry:?}");
        place.sidekey(&format!("{PUT} {line}")).good();
        assert_eq!(containers(&place, "."), expected, "{line}");
        for name in ["there", "new"] {
            let _ = std::fs::remove_dir_all(place.path(name));
        }
        let _ = place.shell("rm -f new.*enc");
        place.mkdir("there");
    }
}

#[test]
fn the_name_inside_is_the_one_in_the_location() {
    let place = Place::with_keys();
    place.write("one", "1");
    place.sidekey(&format!("{PUT} one vault/other")).good();
    // A reader that is strict about names finds nothing odd.
    let back = place.sidekey(&format!("{DECRYPT} vault/other.enc -o back/ --strict")).good();
    assert!(!back.stderr.contains("warning"), "{back:?}");
    assert_eq!(place.names_in("back"), ["other"]);
}

#[test]
fn what_is_there_is_replaced_skipped_or_refused() {
    let place = Place::with_keys();
    place.mkdir("tree");
    place.write("tree/x", "old");
    place.sidekey(&format!("{PUT} tree/ vault/")).good();
    place.write("tree/x", "new");
    place.write("tree/y", "y");
    let was = place.fingerprint("vault");

    let skipped = place.sidekey(&format!("{PUT} tree/ vault/ --if-exists skip -v")).good();
    assert!(skipped.stderr.contains("sidekey: tree/x: is in the location already; skipped\n"), "{skipped:?}");
    assert!(skipped.stderr.ends_with("put 1 file, 1 bytes read, 1 skipped\n"), "{skipped:?}");
    let now = place.fingerprint("vault");
    assert!(was.iter().all(|(path, file)| now[path] == *file), "what was there is as it was");

    let refused = place.sidekey(&format!("{PUT} tree/ vault/ --if-exists fail"));
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("vault/x.enc: exists already\n"), "{refused:?}");
    assert!(refused.stderr.contains("hint: --if-exists replace puts a new one in its place"), "{refused:?}");
    assert!(refused.stderr.ends_with("put 0 files, 0 bytes read, 2 failed\n"), "{refused:?}");
    assert_eq!(place.fingerprint("vault"), now);

    place.sidekey(&format!("{PUT} tree/ vault/")).good();
    assert_eq!(place.names_in("vault").len(), 6, "no envelope is ever deleted by put");
    same_trees(&restored(&place, "vault/x.enc vault/y.enc"), &place.tree("tree"), false);
    // What is configured counts where nothing is typed.
    let mut line = place.command(SIDEKEY, &format!("{PUT} tree/ vault/").split(' ').collect::<Vec<_>>());
    let skipped = ended(line.env("SIDEKEY_IF_EXISTS", "skip")).good();
    assert!(skipped.stderr.ends_with("put 0 files, 0 bytes read, 2 skipped\n"), "{skipped:?}");
}

#[test]
fn filters_choose_in_their_order() {
    let place = Place::with_keys();
    for folder in ["tree/d/cache", "tree/tagged", "tree/false"] {
        place.mkdir(folder);
    }
    for file in ["a.log", "keep.log", "x", "d/a.log", "d/x", "d/cache/keep.log"] {
        place.write(Path::new("tree").join(file), file);
    }
    place.write("tree/tagged/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55");
    place.write("tree/tagged/big", "x");
    place.write("tree/false/CACHEDIR.TAG", "Signature: none");
    place.write("patterns", "# logs\n*.log\n!keep.log\n/tree/x\n");
    let all = [
        "a.log",
        "d/a.log",
        "d/cache/keep.log",
        "d/x",
        "false/CACHEDIR.TAG",
        "keep.log",
        "tagged/CACHEDIR.TAG",
        "tagged/big",
        "x",
    ];
    for (options, expected) in [
        ("", &all[..]),
        ("--exclude *.log", &["d/x", "false/CACHEDIR.TAG", "tagged/CACHEDIR.TAG", "tagged/big", "x"]),
        ("--include *.log", &["a.log", "d/a.log", "d/cache/keep.log", "keep.log"]),
        ("--include *.log --exclude a.*", &["d/cache/keep.log", "keep.log"]),
        (
            "--exclude *.log --include keep.log --exclude tagged/ --exclude false/",
            &["d/cache/keep.log", "d/x", "keep.log", "x"],
        ),
        ("--include x --exclude /tree/d/", &["x"]),
        ("--include x --exclude /d/", &["d/x", "x"]),
        (
            "--exclude-from patterns --exclude CACHEDIR.TAG --exclude big",
            &["d/cache/keep.log", "d/x", "keep.log"],
        ),
        (
            "--exclude-caches --include *",
            &["a.log", "d/a.log", "d/cache/keep.log", "d/x", "false/CACHEDIR.TAG", "keep.log", "x"],
        ),
    ] {
        place.sidekey(&format!("{PUT} tree vault/ {options}")).good();
        let plain: Vec<_> = containers(&place, "vault/tree")
            .into_iter()
            .map(|name| name.strip_suffix(".enc").unwrap().to_owned())
            .collect();
        assert_eq!(plain, expected, "{options}");
        std::fs::remove_dir_all(place.path("vault")).unwrap();
    }
    // What was typed as an argument is chosen like anything else, and the reasons are told.
    let mut dry = place.sidekey(&format!(
        "{PUT} tree/a.log tree/x tree/tagged vault/ --exclude *.log --exclude-caches --dry-run"
    ));
    let mut lines: Vec<_> = dry.stdout.lines().collect();
    lines.sort_unstable();
    dry.stdout = lines.join("\n");
    assert_eq!(
        dry,
        Ended {
            code: Some(0),
            stdout: "tree/a.log: is excluded by *.log; skipped\n\
                     tree/tagged: is a cache, says its CACHEDIR.TAG; skipped\n\
                     tree/x: would become ./vault/x.enc"
                .into(),
            stderr: "sidekey: would put 1 file, 1 bytes, 2 skipped\n".into(),
        }
    );
    assert!(!place.path("vault").exists());
    for (option, says) in [
        ("--exclude [z-a]", "sidekey: pattern \"[z-a]\": is no pattern of gitignore(5)"),
        ("--include !x", "sidekey: pattern \"!x\": is not clear: ! turns a pattern round"),
    ] {
        let run = place.sidekey(&format!("{PUT} tree vault/ {option}"));
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.stderr.starts_with(says), "{run:?}");
    }
    let run = place.sidekey(&format!("{PUT} tree vault/ --exclude-from nowhere"));
    assert_eq!(
        (run.code, run.stderr.starts_with("sidekey: nowhere: cannot read: ")),
        (Some(1), true),
        "{run:?}"
    );
}

#[test]
fn another_file_system_is_not_entered() {
    let place = Place::with_keys();
    place.mkdir("tree");
    place.write("tree/x", "x");
    // Whatever the machine, this is another one.
    symlink("/proc/self/fdinfo", place.path("tree/other")).unwrap();
    let run = place.sidekey(&format!("{PUT} tree/ vault/ --follow --one-file-system -v")).good();
    assert!(run.stderr.contains("sidekey: tree/other: is on another file system; skipped\n"), "{run:?}");
    assert_eq!(containers(&place, "vault"), ["x.enc"]);
}

#[test]
fn standard_input_becomes_one_object() {
    let place = Place::with_keys();
    for (number, len) in [0, 5, 65536, 20 << 20].into_iter().enumerate() {
        place.write("in", noise(len, 3));
        let run = place.shell(&format!("$PROGRAM {PUT} - vault/dump{number} < in")).good();
        assert_eq!(run.stderr, format!("sidekey: put 1 file, {len} bytes read\n"));
        place.sidekey(&format!("{DECRYPT} vault/dump{number}.enc -o back{number}")).good();
        assert!(place.read(format!("back{number}")) == noise(len, 3), "{len}");
    }
    all_paired(&place, "vault");
    for (line, says) in [
        ("- vault/", "vault: standard input has no name, and a folder was typed to put it into"),
        ("- vault", "vault: standard input has no name, and a folder was typed to put it into"),
        ("- keys vault", "- is standard input and goes with no other input"),
        ("keys -", "- is no location"),
        ("keys", "PATH is missing"),
        ("", "PATH, LOCATION are missing"),
    ] {
        let run = place.sidekey(&format!("{PUT} {line}"));
        assert_eq!(run.code, Some(2), "{line}: {run:?}");
        assert!(run.stderr.starts_with(&format!("sidekey: {says}\nsidekey: hint: ")), "{line}: {run:?}");
    }
}

#[test]
fn several_recipients_and_pinned_ones_can_open_it() {
    let place = Place::with_keys();
    place.write("x", "for both");
    place.sidekey("put -r keys/old.pub.pem -r keys/new.pub.pem x vault/").good();
    for key in ["old", "new"] {
        place.sidekey(&format!("decrypt -i keys/{key}.pem vault/x.enc -o {key}")).good();
        assert_eq!(place.text(key), "for both");
    }
    place.sidekey("--config c remote add nas there -r keys/new.pub.pem").good();
    place.sidekey("--config c put x nas:a/b").good();
    place.sidekey("decrypt -i keys/new.pem there/a/b.enc -o pinned").good();
    assert_eq!(place.text("pinned"), "for both");
    let nobody = place.sidekey("put x vault/");
    assert_eq!(
        nobody,
        failed(
            2,
            "sidekey: no recipient: nobody could open the result\n\
             sidekey: hint: name a public key with --recipient; sidekey keygen makes a pair\n"
        )
    );
    let unknown = place.sidekey(&format!("{PUT} x nowhere:a"));
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert!(unknown.stderr.starts_with("sidekey: no remote nowhere\n"), "{unknown:?}");
}

#[test]
fn json_lines_tell_what_was_stored() {
    let place = Place::with_keys();
    place.mkdir("tree/empty");
    place.write("tree/x", "four");
    place.write("tree/large", noise(5 << 20, 1));
    symlink("x", place.path("tree/link")).unwrap();
    place.write("tree/y.tmp", "");
    let run = place.sidekey(&format!("{PUT} tree vault/ --json --exclude *.tmp")).good();
    assert_eq!(run.stderr, "");
    let mut lines = objects(&run.stdout);
    let summary = lines.pop().unwrap();
    assert_eq!(
        serde_json::Value::from(summary).to_string(),
        format!(r#"{{"bytes":{},"done":4,"failed":0,"skipped":1,"type":"summary"}}"#, 4 + (5 << 20))
    );
    lines.sort_by_key(|line| line["path"].to_string());
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            let text = |name: &str| line.get(name).and_then(|value| value.as_str()).unwrap_or("-").to_owned();
            if let Some(data_id) = line.get("data_id") {
                let header = place.header(text("object"));
                assert_eq!(*data_id, header.data_id().to_string());
            }
            format!(
                "{} {} {} {}",
                text("type"),
                text("path"),
                text("object"),
                line.get("size").map_or("-".into(), ToString::to_string)
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "put tree/empty ./vault/tree/empty/.folder.enc 0",
            "put tree/large ./vault/tree/large.enc 5242880",
            "put tree/link ./vault/tree/link.enc 0",
            "put tree/x ./vault/tree/x.enc 4",
            "skipped tree/y.tmp - -",
        ]
    );
    let dry = place.sidekey(&format!("{PUT} tree/x tree/y.tmp vault/tree --json --dry-run")).good();
    assert_eq!(
        dry.stdout,
        "{\"type\":\"would-put\",\"path\":\"tree/x\",\"object\":\"vault/tree/x.enc\",\"size\":4,\"replaces\":true}\n\
         {\"type\":\"would-put\",\"path\":\"tree/y.tmp\",\"object\":\"vault/tree/y.tmp.enc\",\"size\":0,\"replaces\":false}\n\
         {\"type\":\"summary\",\"done\":2,\"skipped\":0,\"failed\":0,\"bytes\":4}\n"
    );
}

#[test]
fn files_that_are_called_like_each_others_halves_all_come_back() {
    let place = Place::with_keys();
    place.mkdir("tree");
    for name in ["x", "x.key", "x.enc", "x.key.enc", "x.0123456789abcdef", "x.0123456789abcdef.key.enc"] {
        place.write(Path::new("tree").join(name), format!("contents of {name}"));
    }
    let was = place.tree("tree");
    for _ in 0..2 {
        place.sidekey(&format!("{PUT} tree/ vault/")).good();
        same_trees(&restored(&place, "vault/"), &was, false);
    }
    assert_eq!(containers(&place, "vault").len(), 6);
}

#[test]
fn what_cannot_be_put_is_named_and_the_rest_is_put() {
    let place = Place::with_keys();
    place.mkdir("tree/locked");
    place.mkdir("tree/round");
    let (fits, long) = ("f".repeat(230), "l".repeat(231));
    for name in ["a", "secret", "locked/inside", fits.as_str(), long.as_str()] {
        place.write(Path::new("tree").join(name), "x");
    }
    place.shell("mkfifo tree/fifo").good();
    let _socket = UnixListener::bind(place.path("tree/socket")).unwrap();
    symlink("../round", place.path("tree/round/again")).unwrap();
    symlink("nowhere", place.path("tree/dangling")).unwrap();
    place.chmod("tree/secret", 0);
    place.chmod("tree/locked", 0);
    let run = place.run_bound(&format!("{PUT} tree vault/ --follow"));
    assert_eq!(run.code, Some(1), "{run:?}");
    let mut lines: Vec<_> = run.stderr.lines().filter(|line| !line.contains("hint:")).collect();
    lines.sort_unstable();
    let too_long = format!(
        "sidekey: tree/{long}: cannot be called so in the location: a name of 256 bytes is too long: 255 are possible there"
    );
    assert_eq!(
        lines,
        [
            "sidekey: put 2 files, 2 bytes read, 7 failed",
            "sidekey: tree/dangling: cannot read: No such file or directory (os error 2)",
            "sidekey: tree/fifo: is a named pipe; skipped",
            too_long.as_str(),
            "sidekey: tree/locked: cannot read: Permission denied (os error 13)",
            "sidekey: tree/round/again: is a symlink loop back to tree/round",
            "sidekey: tree/secret: cannot read: Permission denied (os error 13)",
            "sidekey: tree/socket: is a socket; skipped",
        ]
    );
    assert!(
        run.stderr.contains(
            "hint: shorten the name; .enc and .<16 hex digits>.key.enc are added to it, so that 230 bytes"
        ),
        "{run:?}"
    );
    assert_eq!(containers(&place, "vault/tree"), ["a.enc".to_owned(), format!("{fits}.enc")]);
    let nothing = place.sidekey(&format!("{PUT} nothing vault/"));
    assert_eq!(
        nothing.said(),
        (
            Some(1),
            "sidekey: nothing: cannot read: No such file or directory (os error 2)\nsidekey: put 0 files, 0 bytes read, 1 failed\n"
        )
    );
}

#[test]
fn an_empty_tree_is_kept() {
    let place = Place::with_keys();
    place.mkdir("void");
    place.chmod("void", 0o750);
    let run = place.sidekey(&format!("{PUT} void vault/")).good();
    assert_eq!(run.stderr, "sidekey: put 1 file, 0 bytes read\n");
    assert_eq!(containers(&place, "vault"), ["void/.folder.enc"]);
    let back = restored(&place, "vault/");
    assert_eq!(
        (&back[Path::new("void")].content, back[Path::new("void")].mode),
        (&Content::Folder(true), 0o750)
    );
}

#[test]
fn our_own_files_are_left_out() {
    let place = Place::with_keys();
    place.mkdir("tree/.sidekey");
    place.mkdir("tree/sub/.sidekey/deep");
    for name in [
        "a",
        ".b.sidekey-part",
        ".0123456789abcdef.sidekey-tmp",
        ".sidekey/vault.json",
        "sub/.sidekey/x",
        ".sidekey-not",
    ] {
        place.write(Path::new("tree").join(name), "x");
    }
    let run = place.sidekey(&format!("{PUT} tree/ vault/ -v")).good();
    for line in [
        "sidekey: warning: tree/.sidekey: is the folder that sidekey keeps for itself in every location; it was left out",
        "sidekey: warning: tree/sub/.sidekey: is the folder that sidekey keeps for itself in every location; it was left out",
        "sidekey: tree/.b.sidekey-part: is a file that sidekey get has not finished; skipped",
    ] {
        assert!(run.stderr.lines().any(|said| said == line), "{line}: {run:?}");
    }
    assert_eq!(containers(&place, "vault"), [".sidekey-not.enc", "a.enc"]);
    // A file of that name is like any other.
    place.write("tree/sub/file", "x");
    place.write(".sidekey", "x");
    place.sidekey(&format!("{PUT} .sidekey vault/")).good();
    assert_eq!(containers(&place, "vault"), [".sidekey-not.enc", ".sidekey.enc", "a.enc"]);
}

#[test]
fn a_file_is_no_folder() {
    let place = Place::with_keys();
    place.write("a", "a");
    place.write("x", "x");
    let is_a_file = failed(2, "sidekey: ./a: is a file, not a folder\n");
    for line in [format!("{PUT} x a/"), format!("{PUT} x a/b/c"), "ls a/".into(), "ls a/b".into()] {
        assert_eq!(place.sidekey(&line), is_a_file, "{line}");
    }
    // The folder of that plain name has another one in the location.
    place.mkdir("vault");
    place.sidekey(&format!("{PUT} a vault/")).good();
    place.sidekey(&format!("{PUT} x vault/a.enc/")).good();
    assert_eq!(containers(&place, "vault"), ["a.enc", "a.enc~/x.enc"]);
}

#[test]
fn nothing_is_put_into_itself() {
    let place = Place::with_keys();
    place.mkdir("work/src");
    place.write("work/src/x", "x");
    for line in ["work .", "work/ work", "work work/..", "work work", "work/src work", "./work/src work/"] {
        let before = place.fingerprint("work");
        let run = place.sidekey(&format!("{PUT} {line}"));
        assert_eq!(run.code, Some(2), "{line}: {run:?}");
        assert!(run.stderr.contains(": would be put into itself\n"), "{line}: {run:?}");
        assert_eq!(place.fingerprint("work"), before);
    }
    // A location within is left out, the first time and later.
    for _ in 0..3 {
        place.sidekey(&format!("{PUT} work/ work/vault/")).good();
        assert_eq!(containers(&place, "work/vault"), ["src/x.enc"]);
    }
    // A file beside its container is no trouble.
    place.sidekey(&format!("{PUT} work/src/x work/src")).good();
    assert_eq!(containers(&place, "work/src"), ["x.enc"]);
}

#[test]
fn what_is_foreign_is_not_replaced() {
    let place = Place::with_keys();
    place.mkdir("vault/d.enc");
    place.write("vault/x.enc", "somebody else's");
    symlink("x.enc", place.path("vault/l.enc")).unwrap();
    for (name, says) in [
        ("x", "vault/x.enc: is there and not a container of sidekey; it was not replaced"),
        ("l", "vault/l.enc: is a symlink, which is not followed"),
        ("d", "vault/d.enc: "),
    ] {
        place.write(name, "mine");
        for option in ["--if-exists replace", "--if-exists skip", "--if-exists fail", "--dry-run"] {
            // A folder has no bytes to look at: only the write meets it.
            let (code, says) =
                if (name, option) == ("d", "--dry-run") { (0, "would put") } else { (1, says) };
            let run = place.sidekey(&format!("{PUT} {name} vault {option}"));
            assert_eq!(run.code, Some(code), "{option}: {run:?}");
            assert!(run.stderr.starts_with(&format!("sidekey: {says}")), "{option}: {run:?}");
        }
    }
    assert_eq!(place.text("vault/x.enc"), "somebody else's");
    assert_eq!(std::fs::read_link(place.path("vault/l.enc")).unwrap(), Path::new("x.enc"));
    assert_eq!(containers(&place, "vault"), ["l.enc", "x.enc"]);
}

#[test]
fn a_read_only_location_says_so() {
    let place = Place::with_keys();
    place.write("x", "x");
    place.mkdir("vault");
    place.chmod("vault", 0o500);
    let run = place.run_bound(&format!("{PUT} x vault"));
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("vault") && run.stderr.contains("Permission denied"), "{run:?}");
    assert!(run.stderr.contains("sidekey: hint: "), "{run:?}");
    assert_eq!(place.names_in("vault"), Vec::<String>::new());
}

/// What is left in `vault` after a run that could not write all: containers that were there, all of which open.
#[track_caller]
fn old_ones_open(place: &Place, expected: &[&str]) {
    assert_eq!(containers(place, "vault"), expected);
    for name in expected {
        place.sidekey(&format!("{DECRYPT} vault/{name} -o opened --force")).good();
        assert_eq!(place.text("opened"), format!("old {name}"));
    }
    assert_eq!(place.temporary(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_full_disk_leaves_the_old_contents() {
    let place = Place::with_keys();
    for name in ["small", "large"] {
        place.write(name, format!("old {name}.enc"));
    }
    place.sidekey(&format!("{PUT} small large vault/")).good();
    place.write("small", noise(300_000, 1));
    place.write("large", noise(9 << 20, 1));
    // Files may not grow beyond 100 KiB: the write fails as it does on a full disk.
    let run = place.shell(&format!("trap '' XFSZ; ulimit -f 200; exec $PROGRAM {PUT} small large vault/"));
    assert_eq!(run.code, Some(1), "{run:?}");
    for name in ["small", "large"] {
        let says = format!("vault/{name}.enc: cannot write: File too large (os error 27)\n");
        assert!(run.stderr.contains(&says), "{run:?}");
    }
    assert!(run.stderr.ends_with("2 failed\n"), "{run:?}");
    old_ones_open(&place, &["large.enc", "small.enc"]);

    let script = format!(
        "mount -t tmpfs -o size=1m none full && cp -a vault/. full/ || exit 99\n\
         $PROGRAM {PUT} large full/; code=$?; cp -a full/. vault/; exit $code"
    );
    place.mkdir("full");
    let run = ended(&mut place.command("unshare", &["-rm", "sh", "-c", &script]));
    if matches!(run.code, Some(1)) && !run.stderr.contains("unshare:") {
        assert!(
            run.stderr.contains("full/large.enc: cannot write: No space left on device (os error 28)\n"),
            "{run:?}"
        );
        assert!(run.stderr.contains("hint: free some space there"), "{run:?}");
        old_ones_open(&place, &["large.enc", "small.enc"]);
    } else {
        eprintln!("NOT TESTED: no small file system can be mounted here: {run:?}");
    }
}

#[test]
fn a_file_that_grows_while_it_is_read_is_not_stored() {
    let place = Place::with_keys();
    place.write("log", "old log.enc");
    place.sidekey(&format!("{PUT} log vault/")).good();
    let file = std::fs::OpenOptions::new().append(true).open(place.path("log")).unwrap();
    file.set_len(64 << 20).unwrap();
    let stop = AtomicBool::new(false);
    let run = std::thread::scope(|scope| {
        scope.spawn(|| {
            let started = Instant::now();
            while !stop.load(Ordering::Relaxed) && started.elapsed() < Duration::from_secs(60) {
                (&file).write_all(b"x").unwrap();
            }
        });
        while file.metadata().unwrap().len() == 64 << 20 {}
        let run = place.sidekey(&format!("{PUT} log vault/"));
        stop.store(true, Ordering::Relaxed);
        run
    });
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.starts_with("sidekey: log: cannot read: it holds more than its size says"), "{run:?}");
    old_ones_open(&place, &["log.enc"]);
}

/// `put` of a pipe that stays open, once `len` bytes went in.
fn fed(place: &Place, len: usize, options: &[&str]) -> (Killed, std::process::ChildStdin) {
    let mut args = vec!["put", "-r", "keys/old.pub.pem", "-", "vault/dump"];
    args.extend(options);
    let mut command = Command::new(SIDEKEY);
    command.args(args).current_dir(place.root()).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut run = Killed::spawn(&mut command);
    let mut stdin = run.0.stdin.take().unwrap();
    let block = noise(1 << 20, 5);
    for _ in 0..len >> 20 {
        stdin.write_all(&block).unwrap();
    }
    (run, stdin)
}

#[test]
fn an_interrupt_leaves_nothing_under_a_final_name_and_says_how_to_go_on() {
    let place = Place::with_keys();
    place.write("dump", "old dump.enc");
    place.sidekey(&format!("{PUT} dump vault/")).good();
    for (json, says) in [
        (
            &[][..],
            "sidekey: interrupted\nsidekey: hint: run the same again with --if-exists skip to go on where it stopped\n",
        ),
        (
            &["--json"],
            "{\"type\":\"error\",\"kind\":\"interrupted\",\"subject\":null,\"message\":\"interrupted\",\
             \"hint\":\"run the same again with --if-exists skip to go on where it stopped\"}\n",
        ),
    ] {
        let (mut run, stdin) = fed(&place, 40 << 20, json);
        Command::new("kill").args(["-INT", &run.0.id().to_string()]).status().unwrap();
        assert_eq!(run.0.wait().unwrap().code(), Some(130));
        drop(stdin);
        let mut said = String::new();
        run.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, says);
        old_ones_open(&place, &["dump.enc"]);
    }
}

#[test]
fn memory_is_bounded_whatever_comes_out_of_a_pipe() {
    let place = Place::with_keys();
    let (mut run, stdin) = fed(&place, 300 << 20, &["--jobs", "4"]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", run.0.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!("{peak} KiB at most for 300 MiB of a pipe");
    assert!(peak < 64 << 10, "{peak} KiB");
    drop(stdin);
    assert_eq!(run.0.wait().unwrap().code(), Some(0));
}

#[test]
fn an_interrupted_run_is_completed_by_the_next() {
    let place = Place::with_keys();
    place.mkdir("tree");
    for number in 0..300 {
        place.write(format!("tree/{number}"), noise(20_000, number + 1));
    }
    let mut command = Command::new(SIDEKEY);
    command
        .args(["put", "-r", "keys/old.pub.pem", "tree/", "vault/", "--jobs", "2"])
        .current_dir(place.root());
    let mut run = Killed::spawn(command.stderr(Stdio::null()));
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(30)
        && place.path("vault").read_dir().map_or(0, Iterator::count) < 40
    {}
    Command::new("kill").args(["-INT", &run.0.id().to_string()]).status().unwrap();
    let code = run.0.wait().unwrap().code();
    assert!(matches!(code, Some(130 | 0)), "{code:?}");
    assert_eq!(place.temporary(), Vec::<std::path::PathBuf>::new());
    let before = containers(&place, "vault").len();
    println!("{before} of 300 were there after the interrupt");
    let again = place.sidekey(&format!("{PUT} tree/ vault/ --if-exists skip")).good();
    let expected = format!("sidekey: put {} file", 300 - before);
    assert!(again.stderr.starts_with(&expected), "{before}: {again:?}");
    same_trees(&restored(&place, "vault/"), &place.tree("tree"), false);
}

#[test]
fn hostile_names_cannot_write_to_the_terminal() {
    let (place, _) = planted();
    let (code, shown) =
        common::on_a_terminal(&place, &format!("$PROGRAM {PUT} tree vault/ -v --dry-run"), &[]);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("\\u{1b}]0;x\\u{7}\\nb"), "{shown}");
    assert!(!shown.contains("\u{1b}]0"), "{shown}");
}

#[test]
fn a_terminal_shows_files_bytes_and_rate_while_it_runs() {
    let place = Place::with_keys();
    place.mkdir("tree");
    for number in 0..600 {
        place.write(format!("tree/{number}"), "some text");
    }
    let (code, shown) = common::on_a_terminal(&place, &format!("$PROGRAM {PUT} tree vault/"), &[]);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains(" files, ") && shown.contains("iB/s"), "{shown:?}");
    assert!(shown.contains(" of 5.27 KiB") && shown.contains(" left"), "{shown:?}");
    assert!(shown.ends_with("sidekey: put 600 files, 5400 bytes read\n"), "{shown:?}");
}

#[test]
fn a_link_that_is_named_is_told_of_and_one_to_a_stream_is_refused() {
    let place = Place::with_keys();
    place.mkdir("vault");
    place.mkdir("real");
    place.write("real/a", "contents");
    place.shell("ln -s real Documents").good();
    for command in
        ["put -r keys/old.pub.pem Documents vault/", "encrypt -r keys/old.pub.pem -o out Documents"]
    {
        let run = place.sidekey(command).good();
        assert!(run.stderr.contains("Documents: is a symlink, and the link alone is kept"), "{run:?}");
        // What it leads to was meant by all other ways to write it.
        let followed = place.sidekey(&format!("{command} --follow --force").replace("put", "put --dry-run"));
        assert!(!followed.stderr.contains("is a symlink"), "{followed:?}");
    }
    place.mkdir("streams");
    for source in ["/dev/stdin", "<(echo data)"] {
        let line = format!("echo data | \"$0\" put -r keys/old.pub.pem {source} streams/dump");
        let program = env!("CARGO_BIN_EXE_sidekey");
        let run = ended(&mut place.command("bash", &["-c", &line, program]));
        assert_eq!(run.code, Some(2), "{source}: {run:?}");
        assert!(run.stderr.contains("leads to a stream"), "{source}: {run:?}");
    }
    assert!(place.names_in("streams").is_empty());
}
