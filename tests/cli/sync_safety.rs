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
        "-i keys/old.pem disk/vault disk/vault/../vault/x",
        "-i keys/old.pem disk/vault/sub disk/vault/x",
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
