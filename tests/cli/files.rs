//! `encrypt`, `decrypt` and `inspect` on real trees and pipes, by the real binary: what comes back is what went in.

use crate::common;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::common::{Ended, Place, Tree, failed, noise, objects, on_a_terminal, path_of, same_trees};

/// `tree`: every kind of name, content, mode and time that must survive.
fn plant(place: &Place) {
    place.mkdir("tree/sub/deep/deeper");
    place.mkdir("tree/empty folder/inner");
    place.mkdir("tree/a.enc");
    place.mkdir("tree/a.enc~");
    place.mkdir("tree/b.enc");
    place.write("tree/b.enc/inner", "beside, this folder keeps its name");
    place.write("tree/empty", "");
    place.write("tree/a", "a\n");
    place.write("tree/a.enc/inner", "in a folder that is called like a container");
    place.write("tree/a.enc~/inner", "one more");
    place.write("tree/large", noise((5 << 20) + 17, 1));
    place.write("tree/one section", noise(65536, 2));
    place.write("tree/sub/deep/deeper/x", "deep");
    for name in [
        ".hidden",
        ".folder",
        ".folder~",
        "server",
        "server.key",
        "server.key~",
        "x.key.key",
        "%b64~plain",
        "ümlaut",
        "-r",
        "two  blanks",
        "back\\slash",
        "~",
        "%",
        "\u{1b}]0;title\u{7}",
        "line\nsidekey: all is well",
        "\u{202e}gpj.exe",
    ] {
        place.write(Path::new("tree").join(name), format!("contents of {name}"));
    }
    for name in [&b"\xff\xfe"[..], b"latin1-\xe9.txt", b"\xed\xa0\x80"] {
        place.write(Path::new("tree").join(path_of(name)), name);
    }
    place.mkdir(Path::new("tree").join(path_of(b"folder-\xff/in")));
    place.write(Path::new("tree").join(path_of(b"folder-\xff/in/file")), "x");
    for (name, target) in [
        ("link", "a"),
        ("dangling", "nowhere/at all"),
        ("absolute", "/etc/hostname"),
        ("to a folder", "sub"),
        ("loop", "loop"),
        ("up", ".."),
        ("sub/link.enc", "../a"),
    ] {
        symlink(target, place.path("tree").join(name)).unwrap();
    }
    symlink(path_of(b"\xff/\xfe"), place.path("tree/raw target")).unwrap();
    for (name, mode) in
        [("empty", 0o600), ("a", 0o4755), ("server", 0o444), ("sub/deep/deeper/x", 0o1666), ("large", 0o640)]
    {
        place.chmod(Path::new("tree").join(name), mode);
    }
    place.chmod("tree/empty folder/inner", 0o3750);
    let epoch = SystemTime::UNIX_EPOCH;
    for (name, time) in [
        ("a", epoch + Duration::new(1_600_000_000, 123_456_789)),
        ("empty", epoch - Duration::new(157_766_400, 999_999_999)),
        ("server", epoch),
        ("large", epoch + Duration::new(4_102_444_800, 1)),
        ("empty folder/inner", epoch - Duration::new(1, 1)),
        ("sub", epoch + Duration::new(1_000_000_000, 5)),
    ] {
        let file = std::fs::File::open(place.path("tree").join(name)).unwrap();
        file.set_modified(time).unwrap();
    }
    let touched = Command::new("touch")
        .args(["-hd", "2001-02-03T04:05:06.789 UTC"])
        .arg(place.path("tree/link"))
        .status();
    assert!(touched.unwrap().success());
}

fn planted() -> (Place, Tree) {
    let place = Place::with_keys();
    plant(&place);
    let tree = place.tree("tree");
    assert!(tree.len() >= 40, "{}", tree.len());
    (place, tree)
}

const ENCRYPT: &str = "encrypt -r keys/old.pub.pem";
const DECRYPT: &str = "decrypt -i keys/old.pem";

#[test]
fn a_tree_comes_back_as_it_was() {
    let (place, was) = planted();
    for (encrypt, decrypt) in [("--jobs 1", "--jobs 4"), ("--jobs 4 --digest sha256", "--jobs 1 --strict")] {
        let done = place.sidekey(&format!("{ENCRYPT} tree -o stored {encrypt}")).good();
        let files = was.values().filter(|node| node.content != common::Content::Folder(false)).count();
        let bytes: usize = was
            .values()
            .map(|node| match &node.content {
                common::Content::File(bytes) => bytes.len(),
                _ => 0,
            })
            .sum();
        assert_eq!(done.stderr, format!("sidekey: encrypted {files} files, {bytes} bytes read\n"));
        assert_eq!(done.stdout, "");
        place.sidekey(&format!("{DECRYPT} stored -o back {decrypt}")).good();
        same_trees(&place.tree("back/stored/tree"), &was, false);
        place.sidekey(&format!("{DECRYPT} stored/tree/ -o bare {decrypt}")).good();
        same_trees(&place.tree("bare"), &was, false);
        same_trees(&place.tree("tree"), &was, true);
        assert_eq!(place.temporary(), Vec::<std::path::PathBuf>::new());
        for folder in ["stored", "back", "bare"] {
            std::fs::remove_dir_all(place.path(folder)).unwrap();
        }
    }
}

#[test]
fn names_are_stored_as_the_format_says() {
    let (place, _) = planted();
    place.sidekey(&format!("{ENCRYPT} tree -o stored")).good();
    let names = place.names_in("stored/tree");
    for name in [
        "server",
        "server.key~",
        "server.key~~",
        ".folder~",
        ".folder~~",
        ".hidden",
        "x.key.key~",
        "%b64~JWI2NH5wbGFpbg",
        "%b64~__4",
        "a",
        "link",
        "dangling",
    ] {
        for end in [".enc", ".key.enc"] {
            assert!(names.contains(&format!("{name}{end}")), "{name}{end}: {names:?}");
        }
    }
    assert!(names.contains(&"a.enc~".to_owned()) && names.contains(&"a.enc~~".to_owned()), "{names:?}");
    assert_eq!(place.names_in("stored/tree/empty folder/inner"), [".folder.enc", ".folder.key.enc"]);
    // The one that is called like a key and the one that it would be the envelope of are both there.
    for (plain, stored) in [("server", "server"), ("server.key", "server.key~")] {
        place.sidekey(&format!("{DECRYPT} stored/tree/{stored}.enc -o {plain}")).good();
        assert_eq!(place.text(plain), format!("contents of {plain}"));
    }
}

#[test]
fn all_folders_keep_times_and_modes_when_asked() {
    let (place, was) = planted();
    place.chmod("tree/sub", 0o500);
    place.chmod("tree/a.enc", 0o711);
    let was = Tree::from_iter(was.into_iter().map(|(path, mut node)| {
        match path.to_str() {
            Some("sub") => node.mode = 0o500,
            Some("a.enc") => node.mode = 0o711,
            _ => {}
        }
        (path, node)
    }));
    place.sidekey(&format!("{ENCRYPT} tree/ -o stored --folder-metadata")).good();
    place.sidekey(&format!("{DECRYPT} stored/ -o back")).good();
    same_trees(&place.tree("back"), &was, true);
}

#[test]
fn beside_its_sources_nothing_is_touched_and_a_second_run_does_not_encrypt_results() {
    let (place, was) = planted();
    std::fs::remove_dir_all(place.path("tree/a.enc")).unwrap();
    std::fs::remove_dir_all(place.path("tree/a.enc~")).unwrap();
    let was: Tree = was
        .into_iter()
        .filter(|(path, _)| !path.starts_with("a.enc") && !path.starts_with("a.enc~"))
        .collect();
    let files = was.values().filter(|node| !matches!(node.content, common::Content::Folder(false))).count();
    let first = place.sidekey(&format!("{ENCRYPT} tree"));
    assert_eq!(first.code, Some(0), "{first:?}");
    assert!(first.stderr.starts_with(&format!("sidekey: encrypted {files} files, ")), "{first:?}");
    assert!(!first.stderr.contains("skipped"), "{first:?}");
    let stored = place.tree("tree");
    for (path, node) in &was {
        match node.content {
            common::Content::Folder(_) => {}
            _ => assert_eq!(&stored[path], node, "{path:?}"),
        }
    }

    settle();
    let again = place.sidekey(&format!("{ENCRYPT} tree --json"));
    assert_eq!(again.code, Some(1));
    let results = objects(&again.stdout);
    let skipped = results.iter().filter(|line| line["type"] == "skipped").count();
    assert_eq!(skipped, 2 * files, "{:?}", results.last());
    assert_eq!(results.last().unwrap()["skipped"], skipped);
    assert!(
        objects(&again.stderr)
            .iter()
            .all(|line| line["message"].as_str().unwrap().ends_with(": exists already"))
    );
    same_trees(&place.tree("tree"), &stored, false);

    // The results alone, beside themselves: links that lead nowhere and the originals are in the way of nothing.
    place.mkdir("only");
    let moved = place.shell("cp -a tree only/ && find only/tree ! -type d ! -name '*.enc' -delete && find only/tree -name '*.enc' -type l -delete");
    assert_eq!(moved.code, Some(0), "{moved:?}");
    place.sidekey(&format!("{DECRYPT} only/tree")).good();
    let cleared = place.shell("find only/tree -type f -name '*.enc' -delete");
    assert_eq!(cleared.code, Some(0), "{cleared:?}");
    let without_folders = |mut tree: Tree| {
        tree.retain(|_, node| !matches!(node.content, common::Content::Folder(_)));
        tree
    };
    same_trees(&without_folders(place.tree("only/tree")), &without_folders(was.clone()), false);

    // Restored elsewhere from among their sources: these are no containers, and no failure.
    let restored = place.sidekey(&format!("{DECRYPT} tree/ -o elsewhere"));
    assert_eq!(restored.code, Some(0), "{restored:?}");
    same_trees(&place.tree("elsewhere"), &was, false);
}

#[test]
fn a_folder_in_the_way_is_said_and_nothing_else_stops() {
    let place = Place::with_keys();
    place.mkdir("tree/a.enc");
    place.write("tree/a", "a");
    place.write("tree/b", "b");
    let run = place.sidekey(&format!("{ENCRYPT} tree"));
    assert_eq!(
        run,
        failed(
            1,
            "sidekey: tree/a.enc: exists already\n\
             sidekey: hint: --force replaces it, --if-exists skip leaves it and goes on; --output DIR writes elsewhere\n\
             sidekey: encrypted 2 files, 2 bytes read, 1 failed\n"
        )
    );
    assert_eq!(place.names_in("tree"), ["a", "a.enc", "b", "b.enc", "b.key.enc"]);
}

/// A run that was interrupted is gone on with: what is whole stays as it is, what is missing is made.
#[test]
fn what_is_there_already_is_skipped() {
    let place = Place::with_keys();
    place.mkdir("tree");
    for name in ["a", "b", "c"] {
        place.write(format!("tree/{name}"), name);
    }
    symlink("a", place.path("tree/link")).unwrap();
    place.sidekey(&format!("{ENCRYPT} tree/ -o stored")).good();
    let first = place.tree("stored");
    std::fs::remove_file(place.path("stored/b.enc")).unwrap();
    std::fs::remove_file(place.path("stored/b.key.enc")).unwrap();
    let run = place.sidekey(&format!("{ENCRYPT} tree/ -o stored --if-exists skip"));
    assert_eq!(run, failed(0, "sidekey: encrypted 1 file, 1 bytes read, 3 skipped\n"));
    let second = place.tree("stored");
    for name in first.keys() {
        assert_eq!(
            first.get(name) == second.get(name),
            !name.to_string_lossy().starts_with("b."),
            "{name:?}"
        );
    }

    place.sidekey(&format!("{DECRYPT} stored/ -o out")).good();
    std::fs::remove_file(place.path("out/c")).unwrap();
    place.write("out/a", "changed since");
    // No key is needed for what is there.
    let run = place.sidekey(&format!("{DECRYPT} stored/ -o out --if-exists skip"));
    assert_eq!(run, failed(0, "sidekey: decrypted 1 file, 448 bytes read, 3 skipped\n"));
    assert_eq!((place.read("out/a"), place.read("out/c")), (b"changed since".to_vec(), b"c".to_vec()));

    // Half a pair is looked at first: its container may be elsewhere.
    let key = place.read("stored/c.key.enc");
    std::fs::remove_file(place.path("stored/c.enc")).unwrap();
    let run = place.sidekey(&format!("{ENCRYPT} tree/ -o stored --if-exists skip"));
    assert_eq!(
        run,
        failed(
            1,
            "sidekey: stored/c.key.enc: exists already, and its container does not\n\
             sidekey: hint: --force replaces it, after a run that was interrupted here; if its container was moved, this is its key\n\
             sidekey: encrypted 0 files, 1 bytes read, 3 skipped, 1 failed\n"
        )
    );
    assert_eq!(place.read("stored/c.key.enc"), key);
}

#[test]
fn what_cannot_be_kept_is_reported_and_the_rest_is_done() {
    let place = Place::with_keys();
    place.mkdir("tree/sub");
    place.write("tree/a", "a");
    place.write("tree/z", "z");
    assert!(Command::new("mkfifo").arg(place.path("tree/fifo")).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(place.path("tree/sub/socket")).unwrap();
    let run = place.sidekey(&format!("{ENCRYPT} tree/ -o stored --jobs 1"));
    assert_eq!(run.code, Some(1));
    let mut lines: Vec<_> = run.stderr.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "sidekey: encrypted 2 files, 2 bytes read, 2 failed",
            "sidekey: tree/fifo: is a named pipe; skipped",
            "sidekey: tree/sub/socket: is a socket; skipped",
        ]
    );
    assert_eq!(place.names_in("stored"), ["a.enc", "a.key.enc", "z.enc", "z.key.enc"]);

    // Named for decryption, they are no containers; a pipe without a writer keeps nobody waiting.
    for name in ["fifo", "sub/socket"] {
        let run = place.sidekey(&format!("{DECRYPT} tree/{name} -o out"));
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(run.stderr.starts_with(&format!("sidekey: tree/{name}: is ")), "{run:?}");
        let run = place.sidekey(&format!("inspect tree/{name}"));
        assert_eq!(run.code, Some(1), "{run:?}");
    }
}

#[test]
fn an_unreadable_file_or_folder_is_reported_and_the_rest_is_done() {
    let place = Place::with_keys();
    place.mkdir("tree/closed");
    place.write("tree/a", "a");
    place.write("tree/secret", "s");
    place.chmod("tree/secret", 0);
    place.chmod("tree/closed", 0);
    place.write("tree/z", "z");
    let run = place.run_bound(&format!("{ENCRYPT} tree -o stored --jobs 1"));
    assert_eq!(run.code, Some(1), "{run:?}");
    let mut lines: Vec<_> = run.stderr.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "sidekey: encrypted 2 files, 2 bytes read, 2 failed",
            "sidekey: tree/closed: cannot read: Permission denied (os error 13)",
            "sidekey: tree/secret: cannot read: Permission denied (os error 13)",
        ]
    );
    assert_eq!(place.names_in("stored/tree"), ["a.enc", "a.key.enc", "z.enc", "z.key.enc"]);
    place.chmod("tree/closed", 0o700);
}

#[test]
fn followed_links_give_what_they_lead_to() {
    let place = Place::with_keys();
    place.mkdir("tree/sub");
    place.mkdir("other");
    place.write("tree/sub/x", "x");
    place.write("other/y", "y");
    symlink("../other", place.path("tree/there")).unwrap();
    symlink("sub/x", place.path("tree/file")).unwrap();
    symlink("..", place.path("tree/sub/back")).unwrap();
    symlink("nowhere", place.path("tree/dangling")).unwrap();
    let run = place.sidekey(&format!("{ENCRYPT} tree/ -o stored --follow --jobs 1"));
    assert_eq!(run.code, Some(1));
    let mut lines: Vec<_> = run.stderr.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "sidekey: encrypted 3 files, 3 bytes read, 2 failed",
            "sidekey: tree/dangling: cannot read: No such file or directory (os error 2)",
            "sidekey: tree/sub/back: is a symlink loop back to tree/",
        ]
    );
    place.sidekey(&format!("{DECRYPT} stored/ -o back")).good();
    assert_eq!(place.text("back/there/y"), "y");
    assert_eq!(place.text("back/file"), "x");
    assert!(place.tree("back").values().all(|node| !matches!(node.content, common::Content::Link(_))));
    // To decrypt, links are followed only where they are named.
    place.mkdir("links");
    symlink("../stored", place.path("links/to all")).unwrap();
    symlink("../stored/file.enc", place.path("links/file.enc")).unwrap();
    symlink("../stored/file.key.enc", place.path("links/file.key.enc")).unwrap();
    place.sidekey(&format!("{DECRYPT} links/file.enc -o followed")).good();
    assert_eq!(place.text("followed"), "x");
    let run = place.sidekey(&format!("{DECRYPT} links/ -o none")).good();
    assert_eq!(run.stderr, "sidekey: decrypted 0 files, 0 bytes read, 2 skipped\n");
    assert!(!place.path("none").exists());
    // Without it a link that was named is kept as one.
    place.sidekey(&format!("{ENCRYPT} tree/file -o link.enc")).good();
    place.sidekey(&format!("{DECRYPT} link.enc -o link")).good();
    assert_eq!(std::fs::read_link(place.path("link")).unwrap(), Path::new("sub/x"));
}

#[test]
fn a_slash_after_a_folder_leaves_its_name_out() {
    let place = Place::with_keys();
    place.mkdir("dir");
    place.write("dir/x", "x");
    for (argument, stored) in [
        ("dir", "dir/x.enc"),
        ("dir/", "x.enc"),
        ("dir/.", "x.enc"),
        ("./dir", "dir/x.enc"),
        ("dir/x", "x.enc"),
        ("dir/../dir", "dir/x.enc"),
    ] {
        place.sidekey(&format!("{ENCRYPT} {argument} -o out/")).good();
        assert!(place.path("out").join(stored).exists(), "{argument}: {:?}", place.tree("out"));
        std::fs::remove_dir_all(place.path("out")).unwrap();
    }
}

#[test]
fn every_recipient_opens_it_and_no_other() {
    let place = Place::with_keys();
    place.write("a", "for two");
    place.sidekey("encrypt -r keys/old.pub.pem --recipient keys/escrow.pub.pem -r keys/old.pub.pem a").good();
    assert_eq!(place.envelope("a.key.enc").entries().count(), 2);
    for key in ["old", "escrow"] {
        let run = place.sidekey(&format!("decrypt -i keys/{key}.pem a.enc -o -")).good();
        assert_eq!(run.stdout, "for two");
    }
    place.sidekey("decrypt -i keys/new.pem -i keys/escrow.pem a.enc -o b").good();
    let [old, escrow, new] = ["old", "escrow", "new"].map(|name| place.private(name).id().short());
    let run = place.sidekey("decrypt -i keys/new.pem a.enc -o c");
    assert_eq!(
        run,
        failed(
            1,
            &format!(
                "sidekey: a.enc: wrapped for key {old}, {escrow}, but the keys given are {new}\n\
                 sidekey: hint: give the private key of one of those recipients with --identity\n\
                 sidekey: decrypted 0 files, 0 bytes read, 1 failed\n"
            )
        )
    );
    assert!(!place.path("c").exists());
}

#[test]
fn pipes_carry_containers_and_contents() {
    let place = Place::with_keys();
    let plain = noise(3 << 20, 9);
    place.write("plain", &plain);
    let run = place.shell(
        r#"set -e
        cat plain | "$PROGRAM" encrypt -q -r keys/old.pub.pem - -o NAME.enc
        "$PROGRAM" decrypt -q -i keys/old.pem NAME.enc -o - | cmp - plain
        cat plain | "$PROGRAM" encrypt -q -r keys/old.pub.pem - -o - --envelope F |
            "$PROGRAM" decrypt -q -i keys/old.pem - --envelope F -o - | cmp - plain
        "$PROGRAM" encrypt -q -r keys/old.pub.pem plain -o - --envelope G > container
        "$PROGRAM" decrypt -q -i keys/old.pem container --envelope G -o restored
        "$PROGRAM" decrypt -q -i keys/old.pem - --envelope G -o /dev/stdout < container | cmp - plain
        "$PROGRAM" encrypt -q -r keys/old.pub.pem plain -o /dev/null --envelope H
        : | "$PROGRAM" encrypt -q -r keys/old.pub.pem - -o none.enc
        "$PROGRAM" decrypt -q -i keys/old.pem none.enc"#,
    );
    assert_eq!(run, failed(0, ""));
    assert_eq!(place.read("restored"), plain);
    assert_eq!(place.read("none"), b"");
    // A pipe has no name, and no time to give.
    let inside = place.shell(r#"grep -c plain NAME.enc; true"#);
    assert_eq!(inside.stdout, "0\n");
    for (line, says, hint) in [
        (
            "encrypt -r keys/old.pub.pem -",
            "an input without a name needs --output FILE",
            "write -o NAME.enc, or -o - with --envelope FILE",
        ),
        (
            "encrypt -r keys/old.pub.pem plain -o -",
            "-: a container that goes to a pipe or device needs --envelope FILE",
            "",
        ),
        (
            "encrypt -r keys/old.pub.pem - plain -o x.enc",
            "- is standard input and goes with no other input",
            "write ./- for a file of that name",
        ),
        (
            "decrypt -i keys/old.pem - -o x",
            "an input without a name needs --envelope FILE and --output FILE",
            "write -o NAME, or -o - for standard output",
        ),
        (
            "encrypt -r keys/old.pub.pem keys -o x --envelope F",
            "--envelope goes with one input and --output FILE",
            "",
        ),
        (
            "encrypt plain",
            "no recipient: nobody could open the result",
            "name a public key with --recipient; sidekey keygen makes a pair",
        ),
        ("decrypt plain.enc", "no private key", "name one with --identity"),
        (
            "encrypt -r keys plain",
            "keys: is a folder; the file of a public key is needed",
            "-r names a recipient, it does not mean recursive: folders are always entered",
        ),
    ] {
        let run = place.sidekey(line);
        let hint = if hint.is_empty() { String::new() } else { format!("sidekey: hint: {hint}\n") };
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{line}: {run:?}");
        assert!(run.stderr.starts_with(&format!("sidekey: {says}\n{hint}")), "{line}: {run:?}");
    }
    assert_eq!(place.temporary(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_reader_that_goes_away_ends_it_at_once_and_leaves_no_name() {
    let place = Place::with_keys();
    place.write("plain", noise(8 << 20, 3));
    place.sidekey(&format!("{ENCRYPT} plain")).good();
    for (command, says) in [
        (
            "encrypt -r keys/old.pub.pem plain -o - --envelope F",
            "standard output: cannot write: Broken pipe (os error 32)",
        ),
        (
            "decrypt -i keys/old.pem plain.enc -o -",
            "standard output: cannot write: Broken pipe (os error 32)",
        ),
        ("cat -i keys/old.pem plain", "standard output: cannot write: Broken pipe (os error 32)"),
    ] {
        let run =
            place.shell(&format!(r#"{{ "$PROGRAM" {command}; echo $? >&2; }} | head -c 100000 > /dev/null"#));
        let lines: Vec<_> = run.stderr.lines().collect();
        assert_eq!((lines[0], lines.last()), (format!("sidekey: {says}").as_str(), Some(&"1")), "{run:?}");
    }
}

#[test]
fn names_are_escaped_on_a_terminal_and_raw_on_a_pipe() {
    let place = Place::with_keys();
    let name = "a\u{1b}]0;x\u{7}\nsidekey: all is well";
    place.mkdir("in");
    place.write(Path::new("in").join(name), "x");
    let piped = place.sidekey(&format!("{ENCRYPT} -v in -o stored")).good();
    assert!(piped.stderr.contains(&format!("encrypted in/{name} to stored/in/{name}.enc\n")), "{piped:?}");
    let (code, shown) = on_a_terminal(&place, &format!(r#""$PROGRAM" {DECRYPT} -v stored -o back"#), &[]);
    assert_eq!(code, Some(0));
    let escaped = "a\\u{1b}]0;x\\u{7}\\nsidekey: all is well";
    assert!(shown.contains(&format!("{escaped}.enc to back/stored/in/{escaped}\n")), "{shown:?}");
    assert!(!shown.contains("]0;x\u{7}"), "{shown:?}");
    let line = r#""$PROGRAM" inspect stored/in/*.key.enc"#;
    let (code, shown) = on_a_terminal(&place, line, &[]);
    assert_eq!(code, Some(0));
    assert!(shown.starts_with(&format!("stored/in/{escaped}.key.enc: envelope, 1 entry\n")), "{shown:?}");
    // A container is not text.
    let line = format!(r#""$PROGRAM" {ENCRYPT} keys/old.pem -o - --envelope F"#);
    let (code, shown) = on_a_terminal(&place, &line, &[]);
    assert_eq!(code, Some(2));
    assert_eq!(
        shown,
        "sidekey: a container is not text; standard output is a terminal\n\
         sidekey: hint: redirect it, or write --output FILE\n"
    );
    assert!(!place.path("F").exists());
}

/// What was made a moment before a run may count as its own result.
fn settle() {
    std::thread::sleep(Duration::from_millis(50));
}

fn keys(object: &serde_json::Map<String, serde_json::Value>) -> Vec<&str> {
    object.keys().map(String::as_str).collect()
}

/// A folder that is backed up may hold pairs of its own, ours or the recipe's: elsewhere they are files like others.
#[test]
fn pairs_among_the_sources_are_kept_too_when_the_results_go_elsewhere() {
    let place = Place::with_keys();
    place.mkdir("in");
    place.write("in/a", "a");
    place.sidekey(&format!("{ENCRYPT} in")).good();
    place.sidekey(&format!("{ENCRYPT} --format openssl in/a -o in/b.enc")).good();
    let run = place.sidekey(&format!("{ENCRYPT} --json in -o stored")).good();
    let summary = objects(&run.stdout).pop().unwrap();
    assert_eq!((&summary["done"], &summary["skipped"]), (&5.into(), &0.into()), "{run:?}");
    place.sidekey("decrypt -i keys/old.pem stored/ -o out").good();
    for name in ["a", "a.enc", "a.key.enc", "b.enc", "b.key.enc"] {
        let (before, after) = (place.path(format!("in/{name}")), place.path(format!("out/in/{name}")));
        assert_eq!(std::fs::read(before).unwrap(), std::fs::read(after).unwrap(), "{name}");
    }
}

#[test]
fn two_inputs_of_one_name_do_not_replace_each_other() {
    let place = Place::with_keys();
    for folder in ["one", "two"] {
        place.mkdir(folder);
        place.write(format!("{folder}/x"), folder);
    }
    let run = place.sidekey(&format!("{ENCRYPT} --force one/x two/x -o stored"));
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(
        run.stderr.starts_with("sidekey: one/x and two/x have the same name, and so would their results\n")
    );
    assert!(!place.path("stored").exists());
}

#[test]
fn json_lines_have_their_keys() {
    let place = Place::with_keys();
    place.mkdir("in");
    place.write("in/a", "a");
    place.write("in/b.enc", "SIDEKEY\0");
    settle();
    let lines = |run: &Ended| objects(&run.stdout);
    let run = place.sidekey(&format!("{ENCRYPT} --json in")).good();
    assert_eq!(run.stderr, "");
    let [done, skipped, summary] = <[_; 3]>::try_from(sorted(lines(&run))).unwrap();
    assert_eq!(keys(&done), ["input", "output", "type"]);
    assert_eq!(
        (&done["type"], &done["input"], &done["output"]),
        (&"encrypted".into(), &"in/a".into(), &"in/a.enc".into())
    );
    assert_eq!(keys(&skipped), ["path", "type", "why"]);
    assert_eq!(
        (&skipped["path"], &skipped["why"]),
        (&"in/b.enc".into(), &"is a result of sidekey already".into())
    );
    assert_eq!(keys(&summary), ["bytes", "done", "failed", "skipped", "type"]);
    assert_eq!((&summary["done"], &summary["skipped"], &summary["bytes"]), (&1.into(), &1.into(), &1.into()));

    let run = place.sidekey("inspect --json in/a.enc in/a.key.enc none").said().0;
    assert_eq!(run, Some(1));
    let run = place.sidekey("inspect --json in/a.enc in/a.key.enc none");
    let [container, envelope] = <[_; 2]>::try_from(lines(&run)).unwrap();
    assert_eq!(
        keys(&container),
        [
            "data_id",
            "len",
            "metadata_len",
            "path",
            "plain_len_max",
            "plain_len_min",
            "section_size",
            "suite",
            "type",
            "version"
        ]
    );
    assert_eq!(container["data_id"], place.header("in/a.enc").data_id().to_string());
    assert_eq!((&container["plain_len_min"], &container["plain_len_max"]), (&1.into(), &15.into()));
    assert_eq!(keys(&envelope), ["entries", "path", "type"]);
    let entry = envelope["entries"][0].as_object().unwrap();
    assert_eq!(keys(entry), ["bits", "created", "data_id", "kind", "recipient", "wrap"]);
    assert_eq!(entry["recipient"], place.private("old").id().to_string());
    let error = &objects(&run.stderr)[0];
    assert_eq!(keys(error), ["hint", "kind", "message", "subject", "type"]);
    assert_eq!((&error["kind"], &error["subject"]), (&"not-found".into(), &"none".into()));

    // When standard output is data, the lines go to standard error.
    let run = place.sidekey(&format!("{DECRYPT} --json in/a.enc -o -")).good();
    assert_eq!(run.stdout, "a");
    let lines = objects(&run.stderr);
    assert_eq!((&lines[0]["type"], &lines[0]["output"]), (&"decrypted".into(), &"-".into()));
    assert_eq!(lines[1]["type"], "summary");

    let run = place.sidekey("rewrap --json in -i keys/old.pem --to keys/new.pub.pem").good();
    let lines = objects(&run.stdout);
    assert_eq!(keys(&lines[0]), ["input", "output", "type"]);
    assert_eq!(
        keys(&lines[1]),
        [
            "already",
            "checked",
            "dry_run",
            "failed",
            "head",
            "late",
            "location",
            "not_ours",
            "opened",
            "purged",
            "residue",
            "resumed",
            "rewrapped",
            "seed",
            "tried",
            "type",
            "unchecked"
        ]
    );
}

fn sorted(
    mut lines: Vec<serde_json::Map<String, serde_json::Value>>,
) -> Vec<serde_json::Map<String, serde_json::Value>> {
    lines.sort_by_key(|line| line["type"].to_string());
    lines
}

#[test]
fn an_output_folder_inside_the_input_is_not_encrypted_itself() {
    let place = Place::with_keys();
    for at in 0..40 {
        place.mkdir(format!("tree/{at}/sub"));
        place.write(format!("tree/{at}/sub/x"), "x");
    }
    for (line, count) in [
        (format!("{ENCRYPT} tree -o tree/out --jobs 4"), 40),
        (format!("{ENCRYPT} tree/ -o tree/10/out --jobs 4 --folder-metadata"), 40),
    ] {
        let run = place.sidekey(&format!("{line} --json"));
        let output = line.split_whitespace().nth(5).unwrap().to_owned();
        assert_eq!(run.code, Some(0), "{run:?}");
        let inside = format!("{output}/");
        for object in objects(&run.stdout).iter().filter(|object| object["type"] == "encrypted") {
            assert!(!object["input"].as_str().unwrap().starts_with(&inside), "{object:?}");
        }
        let files = place.tree(&output).keys().filter(|path| path.ends_with("x.enc")).count();
        assert_eq!(files, count, "{line}");
        std::fs::remove_dir_all(place.path(&output)).unwrap();
    }
    place.sidekey(&format!("{ENCRYPT} tree/ -o stored")).good();
    place.sidekey(&format!("{DECRYPT} stored -o stored/1/back")).good();
    assert_eq!(place.tree("stored/1/back").keys().filter(|path| path.ends_with("x")).count(), 40);
}

#[test]
fn an_envelope_given_beside_its_container_is_no_error() {
    let place = Place::with_keys();
    place.mkdir("in");
    place.write("in/a", "a");
    place.write("in/b", "b");
    place.sidekey(&format!("{ENCRYPT} in/a in/b")).good();
    let run = place.shell(&format!(r#""$PROGRAM" {DECRYPT} in/*.enc -o out"#));
    assert_eq!(run, failed(0, "sidekey: decrypted 2 files, 2 bytes read\n").with_bytes(&run));
    std::fs::remove_file(place.path("in/a.enc")).unwrap();
    let run = place.sidekey(&format!("{DECRYPT} in/a.key.enc in/b.enc -o again"));
    assert_eq!(run.code, Some(3));
    assert!(
        run.stderr.starts_with(
            "sidekey: in/a.key.enc: is an envelope whose container is not beside it\n\
             sidekey: hint: the .enc file with the data belongs beside it; the envelope alone holds only a key\n"
        ),
        "{run:?}"
    );
    assert_eq!(place.names_in("again"), ["b"]);
}

impl Ended {
    /// With the number of bytes that `other` says: lengths of containers are not what a test is about.
    fn with_bytes(mut self, other: &Self) -> Self {
        let number = |text: &str| text.split(", ").nth(1).map(str::to_owned).unwrap_or_default();
        self.stderr = self.stderr.replace(&number(&self.stderr.clone()), &number(&other.stderr));
        self
    }
}

#[test]
fn a_name_too_long_is_said_with_its_name() {
    let place = Place::with_keys();
    let long = "n".repeat(252);
    place.write(&long, "x");
    let run = place.sidekey(&format!("{ENCRYPT} {long}"));
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.starts_with(&format!("sidekey: {long}.key.enc: ")), "{run:?}");
    assert!(run.stderr.contains("File name too long (os error 36)\n"), "{run:?}");
    assert_eq!(place.names(), ["keys".to_owned(), long]);
}

#[test]
fn sizes_and_times_need_no_guess() {
    let place = Place::with_keys();
    for len in [0, 1, 15, 16, 65535, 65536, 65537, 131_072] {
        place.write("x", noise(len, 5));
        place.sidekey(&format!("{ENCRYPT} x --force")).good();
        let run = place.sidekey(&format!("{DECRYPT} x.enc -o y --force")).good();
        assert_eq!(run.stdout, "");
        assert_eq!(place.read("y"), place.read("x"), "{len}");
        let [x, y] = ["x", "y"].map(|name| std::fs::metadata(place.path(name)).unwrap());
        assert_eq!((x.mtime(), x.mtime_nsec()), (y.mtime(), y.mtime_nsec()));
    }
}
