//! What `sidekey sync` must never do: remove or replace what it was not asked to, or lose the only copy of something.
#![allow(clippy::disallowed_methods, reason = "tests set times and write files of their own")]

use std::os::unix::fs::symlink;

use crate::common::{Ended, Place, same_trees};

/// A place with the folder `src`, whose files have their names as contents.
fn with_files(names: &[&str]) -> Place {
    let place = Place::with_keys();
    place.mkdir("src");
    for name in names {
        place.mkdir(std::path::Path::new("src").join(name).parent().unwrap());
        place.write(format!("src/{name}"), name);
    }
    // What is changed while a run begins is looked at again by the next.
    std::thread::sleep(std::time::Duration::from_millis(50));
    place
}

/// The same line with `@` for the URL of the place.
fn sidekey(place: &Place, line: &str) -> Ended {
    place.sidekey(&line.replace('@', &format!("file://{}", place.root().display())))
}

#[track_caller]
fn said(ended: &Ended, code: i32, text: &str) {
    assert_eq!(ended.code, Some(code), "{ended:?}");
    assert!(ended.stderr.contains(text), "{text}: {ended:?}");
}

#[test]
fn a_location_is_never_the_folder_that_becomes_like_it() {
    let place = with_files(&["a", "sub/b"]);
    place.mkdir("disk/plain");
    place.mkdir("disk/vault");
    place.sidekey("sync -r keys/old.pub.pem src disk/plain").good();
    place.sidekey("init disk/vault -r keys/old.pub.pem").good();
    place.sidekey("sync -r keys/old.pub.pem src disk/vault").good();
    symlink("disk/plain", place.path("link")).unwrap();
    let before = place.fingerprint("disk");
    for line in [
        "-i keys/new.pem @/disk/plain disk/plain",
        "-i keys/old.pem @/disk/plain disk/plain/",
        "-i keys/old.pem @/disk/plain disk",
        "-i keys/old.pem @/disk/plain disk/plain/new/deep",
        "-i keys/old.pem @/disk/plain nothing/../disk",
        "-i keys/old.pem @/disk/plain link",
        "-i keys/old.pem @/link disk/plain",
        "-i keys/old.pem @/disk/plain/sub disk/plain",
        "-i keys/old.pem disk/vault disk",
        "-i keys/old.pem disk/vault/sub disk",
        "-i keys/old.pem disk/vault disk/plain/..",
    ] {
        for delete in ["", " --delete", " --delete --force", " --dry-run"] {
            let ended = sidekey(&place, &format!("sync {line}{delete}"));
            said(&ended, 2, "are one in the other");
        }
    }
    let between = "sync -i keys/old.pem -r keys/old.pub.pem @/link @/disk/plain/x --delete";
    said(&sidekey(&place, between), 2, "is in the other location");
    assert_eq!(place.fingerprint("disk"), before);
    assert!(!place.path("nothing").exists() && !place.path("disk/plain/new").exists());
    sidekey(&place, "sync -i keys/old.pem @/disk/plain disk/plainer").good();
    same_trees(&place.tree("disk/plainer"), &place.tree("src"), false);
}

#[test]
fn a_folder_that_is_not_there_is_not_an_empty_one() {
    let place = with_files(&["a", "b"]);
    place.mkdir("vault");
    place.sidekey("init vault -r keys/old.pub.pem").good();
    place.sidekey("sync -r keys/old.pub.pem src other").good();
    let (src, other) = (place.fingerprint("src"), place.fingerprint("other"));
    for source in ["@/nothing", "vault/nothing"] {
        for more in ["", " --delete", " --delete --force", " --delete --force --dry-run"] {
            said(&sidekey(&place, &format!("sync -i keys/old.pem {source} src{more}")), 1, "nothing");
            let between = format!("sync -i keys/old.pem -r keys/old.pub.pem {source} @/other{more}");
            said(&sidekey(&place, &between), 1, "cannot read");
        }
    }
    assert_eq!((place.fingerprint("src"), place.fingerprint("other")), (src, other));
}

/// Changes one byte in the middle of a container.
fn damage(place: &Place, container: &str) {
    let mut bytes = place.read(container);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    place.write(container, bytes);
}

const HELD: &str = "so nothing counts as gone";

#[test]
fn a_renamed_file_that_cannot_be_stored_keeps_what_was_stored_under_its_old_name() {
    let place = with_files(&["a", "gone", "other"]);
    place.sidekey("sync -r keys/old.pub.pem src vault/").good();
    std::fs::rename(place.path("src/a"), place.path("src/b")).unwrap();
    std::fs::remove_file(place.path("src/gone")).unwrap();
    place.chmod("src/b", 0);
    let push = "sync -r keys/old.pub.pem src vault/ --delete";
    let ended = place.run_bound(push);
    said(&ended, 1, "src/b: cannot read");
    said(&ended, 1, "2 objects were not removed");
    assert!(ended.stderr.contains("0 removed") && ended.stderr.contains("2 gone but kept"), "{ended:?}");
    place.sidekey("get -i keys/old.pem vault/ back").good();
    assert_eq!((place.text("back/a"), place.text("back/gone")), ("a".into(), "gone".into()));
    place.chmod("src/b", 0o600);
    let ended = place.run_bound(push);
    said(&ended, 0, " 2 removed");
    std::fs::remove_dir_all(place.path("back")).unwrap();
    place.sidekey("get -i keys/old.pem vault/ back").good();
    same_trees(&place.tree("back"), &place.tree("src"), false);
}

#[test]
fn what_is_gone_stays_here_when_what_came_instead_cannot_be_fetched() {
    let place = with_files(&["a"]);
    place.sidekey("sync -r keys/old.pub.pem src loc").good();
    let pull = |key: &str| sidekey(&place, &format!("sync -i keys/{key}.pem @/loc out --delete"));
    pull("old").good();
    std::fs::rename(place.path("src/a"), place.path("src/b")).unwrap();
    place.sidekey("sync -r keys/old.pub.pem src loc --delete").good();
    let whole = place.read("loc/b.enc");
    damage(&place, "loc/b.enc");
    let ended = pull("old");
    said(&ended, 3, HELD);
    assert_eq!(place.names_in("out"), ["a"], "{ended:?}");
    place.write("loc/b.enc", whole);
    pull("old").good();
    assert_eq!(place.names_in("out"), ["b"]);
}

#[test]
fn what_is_in_the_way_stays_until_what_takes_its_place_was_read() {
    let place = with_files(&["x/1", "x/2", "x/sub/3", "y"]);
    place.sidekey("sync -r keys/old.pub.pem src loc").good();
    let pull = |key: &str| sidekey(&place, &format!("sync -i keys/{key}.pem @/loc out --delete"));
    pull("old").good();
    let before = place.tree("out");
    std::fs::remove_dir_all(place.path("src/x")).unwrap();
    std::fs::remove_file(place.path("src/y")).unwrap();
    place.mkdir("src/y/empty");
    place.write("src/x", "a file now");
    place.write("src/y/1", "in a folder now");
    place.sidekey("sync -r keys/old.pub.pem src loc --delete").good();
    let stays = |ended: &Ended, code: i32| {
        said(ended, code, HELD);
        same_trees(&place.tree("out"), &before, false);
    };
    stays(&pull("new"), 1);
    for name in ["x", "y/1"] {
        let container = format!("loc/{name}.enc");
        let whole = place.read(&container);
        damage(&place, &container);
        stays(&pull("old"), 3);
        place.write(&container, whole);
    }
    // What is left out keeps its folder; so nothing in it goes.
    place.write("out/x/own.tmp", "mine");
    let ended = sidekey(&place, "sync -i keys/old.pem @/loc out --delete --exclude *.tmp");
    said(&ended, 1, "out/x: is in the way of a file, and holds more than what is gone");
    std::fs::remove_file(place.path("out/x/own.tmp")).unwrap();
    same_trees(&place.tree("out"), &before, false);
    pull("old").good();
    same_trees(&place.tree("out"), &place.tree("src"), false);
}

#[test]
fn another_location_keeps_what_is_gone_when_what_came_instead_is_damaged() {
    let place = with_files(&["a"]);
    place.sidekey("sync -r keys/old.pub.pem src loc").good();
    let line = "sync -i keys/old.pem -r keys/new.pub.pem @/loc @/other --delete";
    sidekey(&place, line).good();
    std::fs::rename(place.path("src/a"), place.path("src/b")).unwrap();
    place.sidekey("sync -r keys/old.pub.pem src loc --delete").good();
    let whole = place.read("loc/b.enc");
    damage(&place, "loc/b.enc");
    said(&sidekey(&place, line), 3, HELD);
    assert!(place.path("other/a.enc").exists() && !place.path("other/b.enc").exists());
    place.write("loc/b.enc", whole);
    sidekey(&place, line).good();
    place.sidekey("get -i keys/new.pem other/b one").good();
    assert!(!place.path("other/a.enc").exists());
}

#[test]
fn what_has_a_name_that_cannot_be_read_does_not_count_as_gone() {
    let place = with_files(&["a", "b"]);
    for vault in ["vault", "other"] {
        place.mkdir(vault);
        place.sidekey(&format!("init {vault} -r keys/old.pub.pem")).good();
    }
    place.sidekey("sync src vault").good();
    let pull = "sync -i keys/old.pem vault out";
    let between = "sync -i keys/old.pem vault other";
    place.sidekey(pull).good();
    place.sidekey(between).good();
    let (out, other) = (place.tree("out"), place.fingerprint("other"));
    let containers: Vec<String> = place.names_in("vault");
    let name = containers.iter().find(|name| name.ends_with(".enc") && !name.contains(".key")).unwrap();
    let stored = name.strip_suffix(".enc").unwrap();
    for name in containers.iter().filter(|name| name.starts_with(stored)) {
        let changed = format!("{}AAAA{}", &name[..1], &name[5..]);
        std::fs::rename(place.path("vault").join(name), place.path("vault").join(changed)).unwrap();
    }
    for line in [pull, between] {
        for more in ["", " --delete", " --delete --dry-run"] {
            let ended = place.sidekey(&format!("{line}{more}"));
            said(&ended, 3, "has a name that no file can have");
            assert!(
                ended.stderr.contains("0 removed") && ended.stderr.contains("1 gone but kept"),
                "{ended:?}"
            );
        }
    }
    assert_eq!(place.fingerprint("other"), other);
    same_trees(&place.tree("out"), &out, false);
}

#[test]
fn a_swapped_pair_is_told_of_and_its_copy_shows_it_too() {
    let place = with_files(&["a", "b"]);
    place.sidekey("sync -r keys/old.pub.pem src loc").good();
    std::fs::rename(place.path("loc"), place.path("was")).unwrap();
    place.mkdir("loc");
    for name in place.names_in("was") {
        let other = if name.starts_with('a') { "b" } else { "a" };
        let to = format!("loc/{other}{}", &name[1..]);
        std::fs::rename(place.path("was").join(&name), place.path(to)).unwrap();
    }
    let line = "sync -i keys/old.pem -r keys/new.pub.pem @/loc @/other";
    let ended = sidekey(&place, line);
    said(&ended, 0, "loc/a.enc: was encrypted under the name b");
    said(&ended, 0, "loc/b.enc: was encrypted under the name a");
    for name in ["a", "b"] {
        let ended = place.sidekey(&format!("get --strict -i keys/new.pem other/{name} back/"));
        said(&ended, 3, "was encrypted under the name");
    }
}

#[test]
fn what_a_pull_leaves_out_is_not_replaced() {
    let place = with_files(&["a", "c/f", "c/sub/g", "d"]);
    place.sidekey("sync -r keys/old.pub.pem src loc").good();
    let pull = "sync -i keys/old.pem @/loc out --exclude-caches --delete";
    sidekey(&place, pull).good();
    place.write("out/c/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55");
    place.write("out/c/f", "edited here");
    std::fs::remove_file(place.path("out/c/sub/g")).unwrap();
    std::fs::remove_file(place.path("out/d")).unwrap();
    let ended = sidekey(&place, &format!("-v {pull}")).good();
    assert!(ended.stderr.contains("1 new, 0 changed, 0 moved, 0 removed"), "{ended:?}");
    assert_eq!((place.text("out/c/f"), place.text("out/d")), ("edited here".into(), "d".into()));
    assert!(!place.path("out/c/sub/g").exists(), "{ended:?}");
}

/// As where the inode of a removed file is given to a new one at once.
#[test]
fn another_file_with_the_inode_of_one_that_is_gone_was_not_moved() {
    let place = with_files(&["old", "moved"]);
    place.mkdir("vault");
    place.sidekey("init vault -r keys/old.pub.pem").good();
    let push = "sync src vault --delete";
    place.sidekey(push).good();
    let modified = |name: &str| place.path(name).metadata().unwrap().modified().unwrap();
    let replace = |from: &str, to: &str, bytes: &str| {
        let time = modified(from);
        std::fs::rename(place.path(from), place.path(to)).unwrap();
        place.write(to, bytes);
        std::fs::File::open(place.path(to)).unwrap().set_modified(time).unwrap();
    };
    replace("src/old", "src/new", "NEW");
    std::fs::rename(place.path("src/moved"), place.path("src/elsewhere")).unwrap();
    let would = place.sidekey(&format!("{push} --dry-run")).good();
    assert_eq!(would.stdout, "> elsewhere (from moved)\n- moved\n+ new\n- old\n", "{would:?}");
    let ended = place.sidekey(&format!("-v {push}")).good();
    assert!(ended.stderr.contains("1 new, 0 changed, 1 moved, 2 removed"), "{ended:?}");
    place.sidekey("get -i keys/old.pem vault/ back").good();
    same_trees(&place.tree("back"), &place.tree("src"), false);
    replace("src/new", "src/newest", "NEU");
    place.sidekey(&format!("{push} --compare digest")).good();
    std::fs::remove_dir_all(place.path("back")).unwrap();
    place.sidekey("get -i keys/old.pem vault/ back").good();
    same_trees(&place.tree("back"), &place.tree("src"), false);
}

#[test]
fn nothing_behind_a_link_is_touched_outside_of_the_destination() {
    let place = with_files(&["d/f"]);
    place.chmod("src/d/f", 0o666);
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
    std::fs::File::open(place.path("src/d/f")).unwrap().set_modified(old).unwrap();
    place.sidekey("sync -r keys/old.pub.pem src loc").good();
    place.mkdir("outside");
    place.write("outside/f", "d/f");
    place.mkdir("out");
    symlink("../outside", place.path("out/d")).unwrap();
    let before = place.fingerprint("outside");
    for line in [
        "sync -i keys/old.pem @/loc out",
        "get --overwrite if-different -i keys/old.pem loc/ out",
        "get --overwrite always -i keys/old.pem loc/ out",
    ] {
        said(&sidekey(&place, line), 1, "out/d: is in the way: a folder is needed there, not a file or link");
        assert_eq!(place.fingerprint("outside"), before, "{line}");
        assert_eq!(place.mode("outside/f"), 0o600, "{line}");
    }
    sidekey(&place, "sync -i keys/old.pem @/loc out --delete").good();
    assert_eq!((place.fingerprint("outside"), place.mode("out/d/f")), (before, 0o666));
}
