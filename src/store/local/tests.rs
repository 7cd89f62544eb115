//! What only shows inside: disks that fail, kernels and file systems that can do less, cancelled writes.
#![expect(clippy::disallowed_methods, reason = "tests make their own files")]

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use futures_util::StreamExt as _;
use futures_util::future::join_all;

use super::write::{TICK, set_apart, write_checked};
use super::*;
use crate::disk::{Broken, Disk};
use crate::store::OnlyIf;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn store_on(root: &Path, disk: Disk) -> LocalStore {
    let folders = Folders::new(Folder::root(root).unwrap().on(disk));
    LocalStore { inner: Arc::new(Inner::new(root, folders, true)) }
}

fn put_many(store: &LocalStore, keys: &[&str]) -> Vec<Result<Written>> {
    let options = PutOptions::default();
    block_on(join_all(keys.iter().map(|key| store.put(key, "new".into(), &options))))
}

fn names(root: &Path) -> Vec<String> {
    let names = walkdir::WalkDir::new(root)
        .min_depth(1)
        .sort_by_file_name()
        .into_iter()
        .map(|entry| entry.unwrap().path().strip_prefix(root).unwrap().to_str().unwrap().to_owned());
    names.collect()
}

#[test]
fn a_failed_sync_of_contents_gives_no_name_to_any_of_them() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "old").unwrap();
    let store = store_on(dir.path(), Disk::Broken(Broken::Data));
    for keys in [&["a"][..], &["a", "b", "c", "d", "e", "f"]] {
        for done in put_many(&store, keys) {
            let error = done.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io);
            assert!(
                error.line().ends_with("cannot write to the disk: Input/output error (os error 5)"),
                "{error:?}"
            );
        }
        assert_eq!(names(dir.path()), ["a"], "no file has a name, and no temporary one is left");
        assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"old");
    }
    let upload = block_on(store.upload("a", &PutOptions::default())).unwrap();
    block_on(upload.part(1, "new".into())).unwrap();
    assert_eq!(block_on(upload.complete(1)).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(names(dir.path()), ["a"]);
    assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"old");
}

#[test]
fn a_failed_sync_of_the_whole_file_system_is_asked_of_each_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_on(dir.path(), Disk::Broken(Broken::Whole));
    let keys = ["a", "b", "c", "d", "e", "f"];
    assert!(put_many(&store, &keys).into_iter().all(|done| done.is_ok()));
    let counts = store.sync_counts();
    assert!(counts.data > 6, "each file by itself after the failure: {counts:?}");
    assert_eq!(names(dir.path()), keys);
}

#[test]
fn a_failed_sync_of_a_folder_is_unsure() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_on(dir.path(), Disk::Broken(Broken::Folders));
    for done in put_many(&store, &["a", "b"]) {
        let error = done.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsure, "{error:?}");
        assert!(error.remedy().is_some());
    }
    let upload = block_on(store.upload("c", &PutOptions::default())).unwrap();
    block_on(upload.part(1, "new".into())).unwrap();
    for _ in 0..2 {
        let error = block_on(upload.complete(1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsure, "asked again, it is as unsure as before: {error:?}");
    }
    assert_eq!(names(dir.path()), ["a", "b", "c"]);
    let version = block_on(store.stat("a", None)).unwrap().version;
    assert_eq!(block_on(store.delete("a", &version)).unwrap_err().kind(), ErrorKind::Unsure);
}

#[test]
fn a_folder_used_first_is_synced_with_all_above_it_and_later_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_on(dir.path(), Disk::Memory);
    let folders = |store: &LocalStore| store.sync_counts().folders;
    put_many(&store, &["a/b/c/x"]).remove(0).unwrap();
    assert_eq!(folders(&store), 4, "c, b, a and the root");
    put_many(&store, &["a/b/c/y"]).remove(0).unwrap();
    assert_eq!(folders(&store), 5, "c alone");
    put_many(&store, &["a/b/d/y"]).remove(0).unwrap();
    assert_eq!(folders(&store), 7, "d, and b for its name");

    // What an earlier run made and could not sync any more is synced all the same.
    let again = store_on(dir.path(), Disk::Memory);
    put_many(&again, &["a/b/c/z"]).remove(0).unwrap();
    assert_eq!(folders(&again), 4);
}

#[test]
fn a_write_that_is_dropped_on_its_way_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_on(dir.path(), Disk::Memory);
    let options = PutOptions::default();
    {
        let mut writing = pin!(store.put("a", "new".into(), &options));
        assert!(writing.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(names(dir.path()).len(), 1, "its temporary file");
    }
    assert_eq!(names(dir.path()), [""; 0]);
    put_many(&store, &["b"]).remove(0).unwrap();
    assert_eq!(names(dir.path()), ["b"]);
}

#[test]
fn others_commit_for_one_that_is_not_polled() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_on(dir.path(), Disk::Memory);
    let options = PutOptions::default();
    let mut first = pin!(store.put("first", "new".into(), &options));
    let context = &mut Context::from_waker(Waker::noop());
    assert!(first.as_mut().poll(context).is_pending());
    put_many(&store, &["second"]).remove(0).unwrap();
    assert_eq!(names(dir.path()), ["first", "second"]);
    assert!(matches!(first.as_mut().poll(context), Poll::Ready(Ok(_))));
    assert_eq!(store.sync_counts().groups, 1);
}

#[test]
fn what_is_read_back_must_be_what_was_written() {
    let device = |name: &str| OwnedFd::from(File::options().read(true).write(true).open(name).unwrap());
    let error = write_checked(&device("/dev/null"), 0, b"gone", Path::new("x")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert_eq!(error.line(), "x: what was read back is not what was written");
    assert!(write_checked(&device("/dev/zero"), 0, b"not zero", Path::new("x")).is_err());
    write_checked(&device("/dev/zero"), 0, &[0; 1000], Path::new("x")).unwrap();
    let error = write_checked(&device("/dev/full"), 0, b"full", Path::new("x")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(error.line(), "x: cannot write: No space left on device (os error 28)");
    assert_eq!(error.remedy(), Some("free some space there, or choose another location"));
}

/// Both ways to open a path follow no symlink, whichever the kernel has.
#[test]
fn paths_are_opened_alike_on_every_kernel() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::create_dir(dir.path().join("outside")).unwrap();
    fs::write(dir.path().join("outside/x"), "secret").unwrap();
    fs::write(root.join("a/b/x"), "x").unwrap();
    fs::write(root.join("file"), "x").unwrap();
    symlink("b/x", root.join("a/inside")).unwrap();
    symlink("../outside", root.join("out")).unwrap();
    symlink("b", root.join("a/link")).unwrap();
    symlink("/etc", root.join("etc")).unwrap();
    let stores = [true, false].map(|whole| {
        let folders = Folders::new(Folder::root(&root).unwrap());
        let folders = if whole { folders } else { folders.step_by_step() };
        LocalStore { inner: Arc::new(Inner::new(&root, folders, true)) }
    });
    for (key, expected) in [
        ("a/b/x", Ok(1)),
        ("file", Ok(1)),
        ("a/b", Err(ErrorKind::NotFound)),
        ("a/b/x/y", Err(ErrorKind::NotFound)),
        ("none/x", Err(ErrorKind::NotFound)),
        ("file/x", Err(ErrorKind::NotFound)),
        ("a/inside", Err(ErrorKind::Refused)),
        ("out", Err(ErrorKind::Refused)),
        ("out/x", Err(ErrorKind::Refused)),
        ("a/link/x", Err(ErrorKind::Refused)),
        ("etc/passwd", Err(ErrorKind::Refused)),
        ("..", Err(ErrorKind::Input)),
        ("../outside/x", Err(ErrorKind::Input)),
        ("a/../file", Err(ErrorKind::Input)),
        ("a//b/x", Err(ErrorKind::Input)),
        ("/etc/passwd", Err(ErrorKind::Input)),
        ("a/b/", Err(ErrorKind::Input)),
        ("", Err(ErrorKind::Input)),
        ("a\0b", Err(ErrorKind::Input)),
    ] {
        for store in &stores {
            let stat = block_on(store.stat(key, None)).map(|object| object.size);
            assert_eq!(stat.map_err(|error| error.kind()), expected, "{key:?}");
            let got = block_on(store.get(key, &GetOptions::default())).map(|download| download.object.size);
            assert_eq!(got.map_err(|error| error.kind()), expected, "{key:?}");
        }
    }
}

/// A kernel takes 4,096 bytes of a path at once; keys are written folder by folder, and may be longer.
#[test]
fn keys_longer_than_a_path_are_found_listed_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_on(dir.path(), Disk::Memory);
    let folder = ["a folder with a name of some length"; 150].join("/");
    let key = format!("{folder}/x");
    assert!(key.len() > 5_000);
    put_many(&store, &[&key]).remove(0).unwrap();
    let copied = block_on(store.copy(&key, None, &format!("{folder}/y"), &PutOptions::default()));
    copied.unwrap();
    assert_eq!(block_on(store.get(&key, &GetOptions::default())).unwrap().object.size, 3);
    for prefix in ["", &format!("{folder}/")] {
        let options = ListOptions { prefix: prefix.to_owned(), ..ListOptions::default() };
        let listed: Vec<_> = block_on(store.list(options).collect());
        assert!(matches!(&listed[..], [Ok(Listed::Object(x)), Ok(Listed::Object(_))] if x.key == key));
    }

    let (parent, name) = key.rsplit_once('/').unwrap();
    let parent = store.inner.folders.folder(parent, false).unwrap();
    rustix::fs::symlinkat(name, parent.fd(), "link").unwrap();
    for (missing, expected) in [
        (format!("{folder}/none"), ErrorKind::NotFound),
        (format!("{folder}/{}", "n".repeat(300)), ErrorKind::NotFound),
        (format!("{folder}/{}/x", "n".repeat(300)), ErrorKind::NotFound),
        (format!("{folder}/link"), ErrorKind::Refused),
        (format!("{folder}/link/x"), ErrorKind::Refused),
    ] {
        assert_eq!(block_on(store.stat(&missing, None)).unwrap_err().kind(), expected, "{missing}");
    }
    rustix::fs::unlinkat(parent.fd(), "link", AtFlags::empty()).unwrap();

    for name in ["x", "y"] {
        let key = format!("{folder}/{name}");
        let version = block_on(store.stat(&key, None)).unwrap().version;
        block_on(store.delete(&key, &version)).unwrap();
    }
    assert_eq!(names(dir.path()), [""; 0], "the folders went with what was in them");
}

#[test]
fn listing_a_hundred_thousand_pairs_takes_little_memory() {
    let mut names = list::Names::default();
    for number in (0..100_000).rev() {
        names.push(format!("a file of usual length {number:06}.enc").as_bytes()).unwrap();
        names
            .push(format!("a file of usual length {number:06}.0123456789abcdef.key.enc").as_bytes())
            .unwrap();
    }
    names.sort();
    assert!(names.held_bytes() < 32 << 20, "{}", names.held_bytes());
    assert_eq!(names.next().unwrap().unwrap(), "a file of usual length 000000.0123456789abcdef.key.enc");
    assert_eq!(names.next().unwrap().unwrap(), "a file of usual length 000000.enc");
}

#[test]
fn without_locks_the_store_says_so_and_still_compares() {
    let dir = tempfile::tempdir().unwrap();
    let folders = Folders::new(Folder::root(dir.path()).unwrap());
    let store = LocalStore { inner: Arc::new(Inner::new(dir.path(), folders, false)) };
    let conditions = block_on(store.conditions()).unwrap();
    assert!(!conditions.replace_if && !conditions.delete_if && conditions.create_new);
    let put = |body: &'static str, only_if| {
        let options = PutOptions { only_if, ..PutOptions::default() };
        block_on(store.put("a", body.into(), &options)).map(|written| written.version)
    };
    let first = put("1", OnlyIf::Absent).unwrap();
    put("2", OnlyIf::Version(first.clone())).unwrap();
    assert_eq!(put("3", OnlyIf::Version(first.clone())).unwrap_err().kind(), ErrorKind::Conflict);
    block_on(store.delete("a", &first)).unwrap();
    assert_eq!(names(dir.path()), ["a"]);
}

#[test]
fn what_replaces_a_version_has_a_time_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_on(dir.path(), Disk::Memory);
    for _ in 0..3 {
        let named = store.inner.named("x").unwrap();
        let ready = store.inner.begin(&named, &OnlyIf::Version("1".into())).unwrap();
        set_apart(&ready).unwrap();
        let found = rustix::fs::fstat(&ready.file).unwrap();
        assert_eq!(found.st_mtime_nsec as u64 % TICK, ready.temporary.number() % TICK);
    }
}

#[test]
fn folders_are_held_open_up_to_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_on(dir.path(), Disk::Memory);
    for number in 0..200 {
        put_many(&store, &[format!("{number}/x").as_str()]).remove(0).unwrap();
    }
    assert_eq!(store.inner.folders.held_now(), 64);
    let listed: Vec<_> = block_on(store.list(ListOptions::default()).collect());
    assert_eq!(listed.len(), 200);
}
