//! The local folder store: what is special about folders of a machine. What every store does is in tests/store.rs.
#![expect(clippy::disallowed_methods, reason = "tests make their own files")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::LocalBoxFuture;
use proptest::prelude::*;
use sidekey::ops::atomic::is_temporary_name;
use sidekey::store::local::LocalStore;
use sidekey::store::memory::{Features, MemoryStore};
use sidekey::store::{
    Body, GetOptions, ListOptions, Listed, Object, OnlyIf, PutOptions, Store, Unfinished, Upload, VersionId,
};
use sidekey::{Error, ErrorKind, Result};
use tempfile::TempDir;

/// A store in a folder of its own, beside the build: on a disk, as a rule.
struct Place {
    store: LocalStore,
    root: PathBuf,
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let root = dir.path().join("root");
        let store = LocalStore::create(&root).unwrap();
        Self { store, root, dir }
    }

    /// A folder beside the root that nothing of the store may touch.
    fn outside(&self) -> PathBuf {
        let outside = self.dir.path().join("outside");
        fs::create_dir_all(&outside).unwrap();
        outside
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    // In a box, so that the compiler has one runtime to translate and not one for each test.
    let future: LocalBoxFuture<'_, T> = Box::pin(future);
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn put_if(store: &dyn Store, key: &str, body: &str, only_if: OnlyIf) -> Result<VersionId> {
    let options = PutOptions { only_if, ..PutOptions::default() };
    block_on(store.put(key, Bytes::copy_from_slice(body.as_bytes()), &options)).map(|written| written.version)
}

fn put(store: &dyn Store, key: &str, body: &str) -> VersionId {
    put_if(store, key, body, OnlyIf::Always).unwrap()
}

fn begin(store: &dyn Store, key: &str) -> Box<dyn Upload> {
    block_on(store.upload(key, &PutOptions::default())).unwrap()
}

/// The bytes, and the version that they are.
fn read(store: &dyn Store, key: &str) -> Result<(String, VersionId)> {
    let download = block_on(store.get(key, &GetOptions::default()))?;
    let Body::File(file, left) = download.body else { panic!("a local file is a file") };
    let mut text = String::new();
    file.take(left).read_to_string(&mut text).unwrap();
    Ok((text, download.object.version))
}

fn list(store: &dyn Store, options: ListOptions) -> Vec<Result<Listed>> {
    block_on(store.list(options).collect())
}

/// What is listed, one line each, errors too.
fn lines(listed: &[Result<Listed>]) -> Vec<String> {
    let line = |listed: &Result<Listed>| match listed {
        Ok(Listed::Object(object)) => object.key.clone(),
        Ok(Listed::Folder(folder)) => folder.clone(),
        Err(error) => format!("{:?} {}", error.kind(), error.line()),
    };
    listed.iter().map(line).collect()
}

fn all(store: &dyn Store) -> Vec<String> {
    lines(&list(store, ListOptions::default()))
}

fn unfinished(store: &dyn Store) -> Vec<Unfinished> {
    block_on(store.unfinished("").collect::<Vec<_>>()).into_iter().collect::<Result<_>>().unwrap()
}

/// Everything below a folder, sorted.
fn tree(root: &Path) -> Vec<String> {
    let entries = walkdir::WalkDir::new(root).min_depth(1).sort_by_file_name();
    let name = |entry: walkdir::Result<walkdir::DirEntry>| {
        entry.unwrap().path().strip_prefix(root).unwrap().to_string_lossy().into_owned()
    };
    entries.into_iter().map(name).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[track_caller]
fn fails<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind, line: &str) -> Error {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.line().as_str()), (kind, line));
    error
}

#[test]
fn files_and_folders_are_the_users_alone() {
    let Place { store, root, .. } = &Place::new();
    put(store, "a/b/x.enc", "x");
    let upload = begin(store, "a/c/y.enc");
    block_on(upload.part(1, "y".into())).unwrap();
    for folder in ["", "a", "a/b", "a/c"] {
        assert_eq!(mode(&root.join(folder)), 0o700, "{folder:?}");
    }
    for file in tree(root).iter().map(|name| root.join(name)).filter(|path| path.is_file()) {
        assert_eq!(mode(&file), 0o600, "{file:?}");
    }
    block_on(upload.complete(1)).unwrap();
    assert_eq!(tree(root), ["a", "a/b", "a/b/x.enc", "a/c", "a/c/y.enc"]);
}

#[test]
fn a_root_is_a_folder_that_exists_or_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let (missing, file) = (dir.path().join("not/there"), dir.path().join("file"));
    fs::write(&file, "").unwrap();
    let error = LocalStore::open(&missing).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.line(), format!("{}: there is no such folder", missing.display()));
    assert!(error.remedy().is_some());
    for opened in [LocalStore::open(&file), LocalStore::create(&file)] {
        fails(opened, ErrorKind::Usage, &format!("{}: is not a folder", file.display()));
    }
    assert!(!missing.exists());
    for _ in 0..2 {
        let store = LocalStore::create(&missing).unwrap();
        put(&store, "x", "x");
        assert_eq!(store.show("a/x"), missing.join("a/x").display().to_string());
    }
    assert_eq!((mode(&missing), mode(missing.parent().unwrap())), (0o700, 0o700));
    // The root itself is the user's choice, symlink or not.
    let link = dir.path().join("link");
    symlink(&missing, &link).unwrap();
    assert_eq!(all(&LocalStore::open(&link).unwrap()), ["x"]);
}

#[test]
fn keys_that_lead_elsewhere_are_refused() {
    let place = Place::new();
    let outside = place.outside();
    fs::write(outside.join("x"), "secret").unwrap();
    for key in
        ["../outside/x", "..", ".", "a/../../outside/x", "/etc/passwd", "a//x", "a/", "", "x\0y", "./x"]
    {
        let refused = put_if(&place.store, key, "x", OnlyIf::Always).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Input, "{key:?}: {refused:?}");
        assert!(refused.line().contains("is not the name of an object"), "{refused:?}");
        assert_eq!(read(&place.store, key).unwrap_err().kind(), ErrorKind::Input, "{key:?}");
        assert_eq!(block_on(place.store.delete(key, &"1".into())).unwrap_err().kind(), ErrorKind::Input);
        let upload = block_on(place.store.upload(key, &PutOptions::default()));
        assert_eq!(upload.err().map(|error| error.kind()), Some(ErrorKind::Input), "{key:?}");
    }
    for prefix in ["../", "../outside/", "/etc/", "a/../../outside/", "./"] {
        let listed = list(&place.store, ListOptions { prefix: prefix.into(), ..ListOptions::default() });
        assert!(
            matches!(&listed[..], [Err(error)] if error.kind() == ErrorKind::Input),
            "{prefix}: {listed:?}"
        );
    }
    let reserved = ".0123456789abcdef.sidekey-tmp";
    assert_eq!(put_if(&place.store, reserved, "x", OnlyIf::Always).unwrap_err().kind(), ErrorKind::Input);
    assert_eq!(tree(&place.root), [""; 0]);
    assert_eq!(fs::read(outside.join("x")).unwrap(), b"secret");
}

#[test]
fn a_folder_replaced_by_a_symlink_leads_nowhere() {
    let place = Place::new();
    let Place { store, root, .. } = &place;
    let outside = place.outside();
    fs::write(outside.join("there"), "secret").unwrap();
    let version = put(store, "a/d/there", "ours");
    let upload = begin(store, "a/d/late");
    block_on(upload.part(1, "late".into())).unwrap();
    // The store has the folder open when it is replaced.
    fs::rename(root.join("a/d"), root.join("a/moved")).unwrap();
    symlink(&outside, root.join("a/d")).unwrap();

    let shown = |name: &str| root.join("a/d").join(name).display().to_string();
    let refused = put_if(store, "a/d/new", "new", OnlyIf::Always);
    let error = fails(
        refused,
        ErrorKind::Refused,
        &format!("{}: a symlink leads to it, which is not followed", shown("new")),
    );
    assert!(error.remedy().is_some());
    let refused = block_on(store.upload("a/d/new", &PutOptions::default())).err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    let moved = format!("{}: its folder was moved, replaced or removed in the meantime", shown("late"));
    fails(block_on(upload.complete(1)), ErrorKind::Transient, &moved);
    let link = format!("{}: is a symlink, which is not followed", shown("there"));
    fails(read(store, "a/d/there"), ErrorKind::Refused, &link);
    fails(block_on(store.stat("a/d/there", None)), ErrorKind::Refused, &link);
    assert_eq!(block_on(store.delete("a/d/there", &version)).unwrap_err().kind(), ErrorKind::Refused);
    let planted = Unfinished {
        key: "a/d/.0123456789abcdef.sidekey-tmp".into(),
        id: String::new(),
        started: SystemTime::UNIX_EPOCH,
    };
    fs::write(outside.join(".0123456789abcdef.sidekey-tmp"), "not ours").unwrap();
    assert!(block_on(store.abort(&planted)).is_err());

    let d = format!("{}: is a symlink, which is not followed", root.join("a/d").display());
    assert_eq!(all(store), [&*format!("Foreign {d}"), "a/moved/there"]);
    // What was asked for is behind it: that is no empty folder.
    let d = format!("Refused {d}");
    let inside = list(store, ListOptions { prefix: "a/d/".into(), ..ListOptions::default() });
    assert_eq!(lines(&inside), [d]);
    assert_eq!(tree(&outside), [".0123456789abcdef.sidekey-tmp", "there"]);
    assert_eq!(fs::read(outside.join("there")).unwrap(), b"secret");
    assert_eq!(tree(root), ["a", "a/d", "a/moved", "a/moved/there"], "nothing unfinished is left");
}

/// Somebody swaps a folder and a symlink all the time: nothing is written to, read from or deleted in the place that the
/// symlink leads to, whatever else comes of it.
#[test]
fn a_folder_that_is_swapped_all_the_time_leads_nowhere() {
    let place = Place::new();
    let Place { store, root, .. } = &place;
    let outside = place.outside();
    for number in 0..4 {
        fs::write(outside.join(format!("x{number}")), "secret").unwrap();
    }
    let before = tree(&outside);
    let (folder, aside, link) = (root.join("d"), root.join("aside"), root.join("link"));
    fs::create_dir(&folder).unwrap();
    symlink(&outside, &link).unwrap();
    let stop = AtomicBool::new(false);
    let (written, refused) = thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = fs::rename(&folder, &aside);
                let _ = fs::rename(&link, &folder);
                thread::yield_now();
                let _ = fs::rename(&folder, &link);
                let _ = fs::rename(&aside, &folder);
            }
        });
        let (mut written, mut refused, start) = (0, 0, Instant::now());
        while start.elapsed() < Duration::from_secs(2) && (written < 50 || refused < 50) {
            for number in 0..4 {
                let key = format!("d/x{number}");
                match put_if(store, &key, "ours", OnlyIf::Always) {
                    Ok(version) => {
                        written += 1;
                        let _ = block_on(store.delete(&key, &version));
                    }
                    Err(_) => refused += 1,
                }
                if let Ok((text, version)) = read(store, &key) {
                    assert_eq!(text, "ours");
                    let _ = block_on(store.delete(&key, &version));
                }
                for listed in list(store, ListOptions { prefix: "d/".into(), ..ListOptions::default() })
                    .into_iter()
                    .flatten()
                {
                    let Listed::Object(object) = listed else { panic!("{listed:?}") };
                    assert_eq!(object.size, 4, "{object:?}");
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        (written, refused)
    });
    // How many of each is the scheduler's affair.
    println!("{written} written, {refused} refused");
    assert!(written + refused > 0);
    assert_eq!(tree(&outside), before);
    for name in before {
        assert_eq!(fs::read(outside.join(name)).unwrap(), b"secret");
    }
}

#[test]
fn a_folder_that_is_removed_or_moved_is_made_again() {
    let Place { store, root, .. } = &Place::new();
    put(store, "a/b/x", "x");
    fs::remove_dir_all(root.join("a")).unwrap();
    put(store, "a/b/y", "y");
    assert_eq!(tree(root), ["a", "a/b", "a/b/y"]);
    fs::rename(root.join("a"), root.join("moved")).unwrap();
    put(store, "a/b/z", "z");
    assert_eq!(tree(root), ["a", "a/b", "a/b/z", "moved", "moved/b", "moved/b/y"]);
    let upload = begin(store, "a/b/late");
    block_on(upload.part(1, "late".into())).unwrap();
    fs::remove_dir_all(root.join("a")).unwrap();
    assert_eq!(block_on(upload.complete(1)).unwrap_err().kind(), ErrorKind::Transient);
}

#[test]
fn what_is_in_the_way_stays() {
    let Place { store, root, .. } = &Place::new();
    put(store, "file", "x");
    put(store, "folder/x", "x");
    let in_the_way = put_if(store, "file/x", "y", OnlyIf::Always);
    let line = format!("{}: a file has the name of its folder", root.join("file/x").display());
    fails(in_the_way, ErrorKind::Conflict, &line);
    let is_folder = put_if(store, "folder", "y", OnlyIf::Always);
    fails(is_folder, ErrorKind::Conflict, &format!("{}: is a folder", root.join("folder").display()));
    let exists = put_if(store, "folder", "y", OnlyIf::Absent);
    fails(exists, ErrorKind::Conflict, &format!("{}: exists already", root.join("folder").display()));
    // A symlink under a name that is written is replaced, not followed; an exclusive write leaves it.
    symlink("file", root.join("link")).unwrap();
    assert_eq!(put_if(store, "link", "y", OnlyIf::Absent).unwrap_err().kind(), ErrorKind::Conflict);
    put(store, "link", "new");
    assert_eq!(read(store, "file").unwrap().0, "x");
    assert_eq!(read(store, "link").unwrap().0, "new");
    assert_eq!(tree(root), ["file", "folder", "folder/x", "link"]);
}

#[test]
fn a_name_that_is_too_long_says_so_before_anything_is_written() {
    let Place { store, root, .. } = &Place::new();
    let long = "x".repeat(256);
    for key in [long.clone(), format!("{long}/x"), format!("a/{long}")] {
        let error = put_if(store, &key, "x", OnlyIf::Always).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input, "{error:?}");
        assert!(
            error.line().ends_with("a name of 256 bytes is too long: 255 are possible there"),
            "{error:?}"
        );
        assert!(error.remedy().is_some_and(|hint| hint.starts_with("shorten the name")));
        assert!(block_on(store.upload(&key, &PutOptions::default())).is_err());
        assert_eq!(read(store, &key).unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(tree(root), [""; 0]);
    put(store, &long[..255], "x");
    assert_eq!(all(store), [&long[..255]]);
}

#[test]
fn a_list_goes_on_behind_what_it_cannot_read() {
    let Place { store, root, .. } = &Place::new();
    for key in ["a", "b/x", "b.x", "z"] {
        put(store, key, "x");
    }
    symlink("a", root.join("b/link")).unwrap();
    symlink("b", root.join("c")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("d"), rustix::fs::Mode::RUSR).unwrap();
    fs::write(root.join(OsStr::from_bytes(b"e\xff")), "x").unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    fs::write(root.join("b/.0123456789abcdef.sidekey-tmp"), "x").unwrap();
    fs::write(root.join("b/.hidden.sidekey-tmp"), "x").unwrap();
    let shown = |name: &str| root.join(name).display().to_string();
    let expected = [
        "a".to_owned(),
        "b.x".to_owned(),
        "b/.hidden.sidekey-tmp".to_owned(),
        format!("Foreign {}: is a symlink, which is not followed", shown("b/link")),
        "b/x".to_owned(),
        format!("Foreign {}: is a symlink, which is not followed", shown("c")),
        format!("Foreign {}: is not a regular file", shown("d")),
        format!("Input {}: its name is not UTF-8, so it is no object of this store", shown("e\u{fffd}")),
        "z".to_owned(),
    ];
    assert_eq!(all(store), expected);
    let folders = lines(&list(store, ListOptions { delimiter: true, ..ListOptions::default() }));
    assert_eq!(folders[..3], ["a", "b.x", "b/"]);
    assert_eq!(folders[3..], expected[5..], "an empty folder is none");
    let after = ListOptions { after: Some("d".into()), ..ListOptions::default() };
    assert_eq!(lines(&list(store, after)), expected[7..]);
    assert_eq!(
        fails(read(store, "d"), ErrorKind::Refused, &format!("{}: is not a regular file", shown("d")))
            .remedy(),
        None
    );
}

/// The first of many comes soon, as files are looked at one by one; what is gone by then is left out.
#[test]
fn files_are_looked_at_when_their_turn_comes() {
    let Place { store, root, .. } = &Place::new();
    for number in 0..500 {
        fs::write(root.join(format!("{number:03}")), "x").unwrap();
    }
    let mut listed = store.list(ListOptions::default());
    let first = block_on(listed.next()).unwrap().unwrap();
    assert!(matches!(first, Listed::Object(object) if object.key == "000"));
    for number in 1..499 {
        fs::remove_file(root.join(format!("{number:03}"))).unwrap();
    }
    let rest: Vec<Result<Listed>> = block_on(listed.collect());
    assert_eq!(lines(&rest), ["499"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever is listed how, a folder lists what the reference store does.
    #[test]
    fn lists_are_those_of_the_reference_store(
        keys in prop::collection::btree_set("[ab.0-]{1,2}(/[ab.0-]{1,2}){0,2}", 0..12),
        options in prop::collection::vec(
            ("([ab.0-]{1,2}/){0,2}[ab.0-]{0,2}", prop::option::of("[ab.0-]{0,2}(/[ab.0-]{0,2}){0,2}"), any::<bool>()),
            8,
        ),
    ) {
        let leads_elsewhere = |key: &str| key.split('/').any(|segment| matches!(segment, "." | ".."));
        let folder_of = |key: &String, other: &String| other.strip_prefix(key.as_str()).is_some_and(|rest| rest.starts_with('/'));
        let keys: Vec<&String> = keys
            .iter()
            .filter(|key| !leads_elsewhere(key) && !keys.iter().any(|other| folder_of(key, other)))
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let (store, reference) = (
            LocalStore::open(dir.path()).unwrap(),
            MemoryStore::new(Features { versions: false, conditions: true }),
        );
        for key in keys {
            fs::create_dir_all(dir.path().join(key).parent().unwrap()).unwrap();
            fs::write(dir.path().join(key), "x").unwrap();
            put(&reference, key, "x");
        }
        for (prefix, after, delimiter) in options {
            if leads_elsewhere(prefix.rsplit_once('/').map_or("", |(folders, _)| folders)) {
                continue;
            }
            let options = ListOptions { prefix, delimiter, versions: false, after };
            let found = lines(&list(&store, options.clone()));
            prop_assert_eq!(found, lines(&list(&reference, options.clone())), "{:?}", options);
        }
    }
}

#[test]
fn a_delete_removes_folders_that_became_empty() {
    let Place { store, root, .. } = &Place::new();
    let [x, y, z] = ["a/b/c/x", "a/b/c/y", "a/z"].map(|key| put(store, key, key));
    block_on(store.delete("a/b/c/x", &x)).unwrap();
    assert_eq!(tree(root), ["a", "a/b", "a/b/c", "a/b/c/y", "a/z"]);
    block_on(store.delete("a/b/c/y", &y)).unwrap();
    assert_eq!(tree(root), ["a", "a/z"]);
    block_on(store.delete("a/z", &z)).unwrap();
    assert_eq!(tree(root), [""; 0]);
    assert!(root.is_dir(), "the root stays");
    put(store, "a/b/c/x", "again");
    assert_eq!(all(store), ["a/b/c/x"]);

    // What is no file of this version is left alone.
    fs::create_dir(root.join("folder")).unwrap();
    symlink("a/b/c/x", root.join("link")).unwrap();
    for key in ["folder", "link", "a/b/c/x", "a/b/c", "none/none"] {
        block_on(store.delete(key, &x)).unwrap();
    }
    assert_eq!(tree(root), ["a", "a/b", "a/b/c", "a/b/c/x", "folder", "link"]);
}

#[test]
fn any_change_of_a_file_is_another_version() {
    let Place { store, root, .. } = &Place::new();
    let versions: Vec<VersionId> = (0..50).map(|number| put(store, "x", &number.to_string())).collect();
    let current = block_on(store.stat("x", None)).unwrap().version;
    assert_eq!(Some(&current), versions.last());
    // Somebody else writes into the file.
    let time = fs::metadata(root.join("x")).unwrap().modified().unwrap();
    thread::sleep(Duration::from_millis(20));
    fs::write(root.join("x"), "??").unwrap();
    File::options().write(true).open(root.join("x")).unwrap().set_modified(time).unwrap();
    assert_eq!(
        put_if(store, "x", "y", OnlyIf::Version(current.clone())).unwrap_err().kind(),
        ErrorKind::Conflict
    );
    block_on(store.delete("x", &current)).unwrap();
    assert_eq!(read(store, "x").unwrap().0, "??");
}

/// Adds so often one to the number in `counter`, each time on the condition that nobody else did since it was read.
fn count(store: &LocalStore, times: usize) {
    for _ in 0..times {
        loop {
            let (text, version) = read(store, "d/counter").unwrap();
            let next = format!("{:06}", text.parse::<usize>().unwrap() + 1);
            match put_if(store, "d/counter", &next, OnlyIf::Version(version)) {
                Ok(_) => break,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}"),
            }
        }
    }
}

/// On a disk, and in memory, where more writes come within one tick of the clock.
#[test]
fn no_update_is_lost_between_threads_stores_and_processes() {
    if let Some(root) = as_child() {
        return counts_in_another_process(&root);
    }
    let shared = Path::new("/dev/shm");
    let memory = shared.is_dir().then(|| tempfile::tempdir_in(shared).unwrap());
    let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for (root, times) in [(Some(disk.path()), 40), (memory.as_ref().map(|dir| dir.path()), 300)] {
        let Some(root) = root else { continue };
        let stores = [LocalStore::open(root).unwrap(), LocalStore::open(root).unwrap()];
        put(&stores[0], "d/counter", "000000");
        let mut other = child("no_update_is_lost_between_threads_stores_and_processes", root);
        let mut other = other.env("TIMES", times.to_string()).stdout(Stdio::null()).spawn().unwrap();
        thread::scope(|scope| {
            for store in [&stores[0], &stores[0], &stores[1]] {
                scope.spawn(move || count(store, times));
            }
        });
        assert!(other.wait().unwrap().success());
        assert_eq!(read(&stores[1], "d/counter").unwrap().0, format!("{:06}", 4 * times));
        assert_eq!(tree(root), ["d", "d/counter"]);
    }
}

/// The part of [`no_update_is_lost_between_threads_stores_and_processes`] that runs in a process of its own.
fn counts_in_another_process(root: &Path) {
    count(&LocalStore::open(root).unwrap(), std::env::var("TIMES").unwrap().parse().unwrap());
}

#[test]
fn whoever_holds_the_folder_is_waited_for() {
    let Place { store, root, .. } = &Place::new();
    let version = put(store, "d/x", "1");
    let folder = File::open(root.join("d")).unwrap();
    folder.lock().unwrap();
    thread::scope(|scope| {
        let replace = scope.spawn(|| put_if(store, "d/x", "2", OnlyIf::Version(version)).unwrap());
        thread::sleep(Duration::from_millis(100));
        assert!(!replace.is_finished());
        assert_eq!(read(store, "d/x").unwrap().0, "1", "readers do not wait");
        folder.unlock().unwrap();
        replace.join().unwrap();
    });
    assert_eq!(read(store, "d/x").unwrap().0, "2");
}

#[test]
fn parts_come_in_their_order() {
    let Place { store, root, .. } = &Place::new();
    let upload = begin(store, "a/x");
    assert_eq!(block_on(upload.part(2, "no".into())).unwrap_err().kind(), ErrorKind::Input);
    assert_eq!(block_on(upload.part(0, "no".into())).unwrap_err().kind(), ErrorKind::Input);
    block_on(upload.part(1, "one,".into())).unwrap();
    block_on(upload.part(2, "two,".into())).unwrap();
    assert_eq!(block_on(upload.part(1, "one,".into())).unwrap_err().kind(), ErrorKind::Input);
    assert_eq!(block_on(upload.part(2, "longer".into())).unwrap_err().kind(), ErrorKind::Input);
    block_on(upload.part(2, "TWO,".into())).unwrap();
    block_on(upload.part(3, "3".into())).unwrap();
    for parts in [0, 2, 4] {
        assert_eq!(block_on(upload.complete(parts)).unwrap_err().kind(), ErrorKind::Input);
    }
    block_on(upload.complete(3)).unwrap();
    assert_eq!(read(store, "a/x").unwrap().0, "one,TWO,3");
    assert_eq!(block_on(upload.part(4, "no".into())).unwrap_err().kind(), ErrorKind::NotFound);
    let empty = begin(store, "empty");
    block_on(empty.complete(0)).unwrap();
    assert_eq!(read(store, "empty").unwrap().0, "");
    drop(begin(store, "dropped"));
    assert_eq!(tree(root), ["a", "a/x", "empty"]);
}

#[test]
fn large_files_are_copied_in_parts() {
    let Place { store, root, .. } = &Place::new();
    let bytes: Vec<u8> = (0..(20_u32 << 20)).map(|at| (at / 7 + at / 8192) as u8).collect();
    fs::write(root.join("x"), &bytes).unwrap();
    let version = block_on(store.stat("x", None)).unwrap().version;
    let new = PutOptions { only_if: OnlyIf::Absent, ..PutOptions::default() };
    block_on(store.copy("x", Some(&version), "a/y", &new)).unwrap();
    assert!(fs::read(root.join("a/y")).unwrap() == bytes);
    assert_eq!(block_on(store.copy("x", None, "a/y", &new)).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(
        block_on(store.copy("x", Some(&"1".into()), "z", &new)).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(tree(root), ["a", "a/y", "x"]);
}

/// Where this process is to work as the part of a test that needs one of its own.
fn as_child() -> Option<PathBuf> {
    std::env::var_os("ROOT").map(PathBuf::from)
}

/// This binary again, for the part of this test that runs in a process of its own.
fn child(test: &str, root: &Path) -> Command {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", &format!("local::{test}"), "--nocapture"]).env("ROOT", root);
    child
}

#[test]
fn what_a_killed_process_leaves_is_unfinished_and_no_object() {
    if let Some(root) = as_child() {
        return dies_while_it_uploads(&root);
    }
    let Place { store, root, .. } = &Place::new();
    put(store, "d/x", "old");
    let ended = child("what_a_killed_process_leaves_is_unfinished_and_no_object", root).output().unwrap();
    assert!(!ended.status.success(), "{ended:?}");
    assert_eq!(all(store), ["d/x"]);
    assert_eq!(read(store, "d/x").unwrap().0, "old");
    let left = unfinished(store);
    assert_eq!(left.len(), 1, "{left:?}");
    let (folder, name) = left[0].key.rsplit_once('/').unwrap();
    assert!(folder == "d" && is_temporary_name(OsStr::new(name)), "{left:?}");
    assert_eq!(left[0].id, root.join(&left[0].key).display().to_string());
    assert!(left[0].started.elapsed().unwrap() < Duration::from_secs(600));

    // Nothing else is ever removed as unfinished.
    let not_one = Unfinished { key: "d/x".into(), ..left[0].clone() };
    assert_eq!(block_on(store.abort(&not_one)).unwrap_err().kind(), ErrorKind::Input);
    assert_eq!(read(store, "d/x").unwrap().0, "old");
    for _ in 0..2 {
        block_on(store.abort(&left[0])).unwrap();
    }
    assert_eq!(tree(root), ["d", "d/x"]);
}

/// The part of [`what_a_killed_process_leaves_is_unfinished_and_no_object`] that runs in a process of its own.
fn dies_while_it_uploads(root: &Path) {
    let store = LocalStore::open(root).unwrap();
    let upload = begin(&store, "d/x");
    block_on(upload.part(1, "new".into())).unwrap();
    std::process::abort();
}

#[test]
fn a_signal_leaves_nothing() {
    if let Some(root) = as_child() {
        return is_interrupted_while_it_uploads(&root);
    }
    let Place { store, root, .. } = &Place::new();
    put(store, "d/x", "old");
    let ended = child("a_signal_leaves_nothing", root).output().unwrap();
    assert!(!ended.status.success(), "{ended:?}");
    assert!(String::from_utf8_lossy(&ended.stdout).contains("Interrupted Interrupted"), "{ended:?}");
    assert_eq!(tree(root), ["d", "d/x"]);
    assert_eq!(read(store, "d/x").unwrap().0, "old");
}

/// The part of [`a_signal_leaves_nothing`] that runs in a process of its own.
fn is_interrupted_while_it_uploads(root: &Path) {
    let store = LocalStore::open(root).unwrap();
    let upload = begin(&store, "d/x");
    block_on(upload.part(1, "new".into())).unwrap();
    sidekey::ops::atomic::remove_all_temporary();
    let completed = block_on(upload.complete(1)).unwrap_err().kind();
    let written = put_if(&store, "d/x", "new", OnlyIf::Always).unwrap_err().kind();
    println!("{completed:?} {written:?}");
    std::process::abort();
}

/// Runs the part of a test where `mount` was done before, in a name space of its own: as root, or as one's own root.
fn mounted(test: &str, root: &Path, mount: &str) -> Output {
    let script = format!("{mount} || exit 99\nexec \"$0\" --exact local::{test} --nocapture");
    let run = |flags: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args([flags, "sh", "-c", &script]).arg(std::env::current_exe().unwrap());
        unshare.env("ROOT", root).output().unwrap()
    };
    let first = run("-Urm");
    if first.status.success() { first } else { run("-m") }
}

#[track_caller]
fn succeeded(ended: &Output) {
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(
        ended.status.success() && said.contains("1 passed"),
        "this test needs user name spaces or root, to mount: {said}{}",
        String::from_utf8_lossy(&ended.stderr)
    );
}

#[test]
fn a_full_disk_takes_nothing_away() {
    if let Some(root) = as_child() {
        return on_a_full_disk(&root);
    }
    let Place { root, .. } = &Place::new();
    succeeded(&mounted(
        "a_full_disk_takes_nothing_away",
        root,
        "mount -t tmpfs -o size=256k tmpfs \"$ROOT\"",
    ));
}

/// The part of [`a_full_disk_takes_nothing_away`] that runs in a process of its own.
fn on_a_full_disk(root: &Path) {
    let store = LocalStore::open(root).unwrap();
    put(&store, "x", "old");
    let large = Bytes::from(vec![1; 1 << 20]);
    let full = |error: Error| {
        assert_eq!(error.kind(), ErrorKind::Io);
        let line =
            format!("{}: cannot write: No space left on device (os error 28)", root.join("x").display());
        assert_eq!(error.line(), line);
        assert_eq!(error.remedy(), Some("free some space there, or choose another location"));
    };
    full(block_on(store.put("x", large.clone(), &PutOptions::default())).unwrap_err());
    assert_eq!(tree(root), ["x"]);
    let upload = begin(&store, "x");
    block_on(upload.part(1, large.slice(..100_000))).unwrap();
    full(block_on(upload.part(2, large.slice(..300_000))).unwrap_err());
    // The part failed half-way; what it left is cut off when the upload is completed without it.
    block_on(upload.complete(1)).unwrap();
    assert_eq!(block_on(store.stat("x", None)).unwrap().size, 100_000);
    assert_eq!(tree(root), ["x"]);
}

#[test]
fn a_read_only_folder_is_read() {
    if let Some(root) = as_child() {
        return on_a_read_only_disk(&root);
    }
    let Place { store, root, .. } = &Place::new();
    put(store, "d/x", "x");
    let mount = "mount --bind \"$ROOT\" \"$ROOT\" && mount -o remount,bind,ro \"$ROOT\"";
    succeeded(&mounted("a_read_only_folder_is_read", root, mount));
    assert_eq!(tree(root), ["d", "d/x"]);
}

/// The part of [`a_read_only_folder_is_read`] that runs in a process of its own.
fn on_a_read_only_disk(root: &Path) {
    let store = LocalStore::create(root).unwrap();
    assert_eq!(all(&store), ["d/x"]);
    let (text, version) = read(&store, "d/x").unwrap();
    assert_eq!(text, "x");
    let refused = |result: Result<()>, key: &str, doing: &str| {
        let path = root.join(key).display().to_string();
        let error = fails(
            result,
            ErrorKind::Permission,
            &format!("{path}: {doing}: Read-only file system (os error 30)"),
        );
        assert!(error.remedy().unwrap().contains("read-only"));
    };
    refused(put_if(&store, "d/x", "y", OnlyIf::Always).map(drop), "d/x", "cannot create a file there");
    refused(put_if(&store, "e/x", "y", OnlyIf::Always).map(drop), "e/x", "cannot open its folder");
    refused(block_on(store.delete("d/x", &version)), "d/x", "cannot remove the file");
    assert_eq!(read(&store, "d/x").unwrap().0, "x");
}

/// In a name space where nobody has any rights beyond those of the owner.
#[test]
fn without_permission_it_is_said_and_the_list_goes_on() {
    if let Some(root) = as_child() {
        return without_permission(&root);
    }
    let Place { store, root, .. } = &Place::new();
    for key in ["a/x", "shut/x", "sealed/x", "z"] {
        put(store, key, "x");
    }
    put(store, "secret", "x");
    fs::set_permissions(root.join("shut"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(root.join("sealed"), fs::Permissions::from_mode(0o500)).unwrap();
    fs::set_permissions(root.join("secret"), fs::Permissions::from_mode(0o000)).unwrap();
    let mut unshare = Command::new("unshare");
    unshare.arg("-U").arg(std::env::current_exe().unwrap());
    unshare.args(["--exact", "local::without_permission_it_is_said_and_the_list_goes_on", "--nocapture"]);
    let ended = unshare.env("ROOT", root).output().unwrap();
    fs::set_permissions(root.join("shut"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(root.join("sealed"), fs::Permissions::from_mode(0o700)).unwrap();
    succeeded(&ended);
    assert_eq!(all(store), ["a/x", "sealed/x", "secret", "shut/x", "z"]);
}

/// The part of [`without_permission_it_is_said_and_the_list_goes_on`] that runs in a process of its own.
fn without_permission(root: &Path) {
    let store = LocalStore::open(root).unwrap();
    let denied = |result: Result<()>, key: &str, doing: &str| {
        let line = format!("{}: {doing}: Permission denied (os error 13)", root.join(key).display());
        assert!(fails(result, ErrorKind::Permission, &line).remedy().is_some());
    };
    let shut = format!(
        "Permission {}: cannot open the folder: Permission denied (os error 13)",
        root.join("shut").display()
    );
    assert_eq!(all(&store), ["a/x", "sealed/x", "secret", &shut, "z"]);
    let version = block_on(store.stat("sealed/x", None)).unwrap().version;
    denied(read(&store, "secret").map(drop), "secret", "cannot open the file");
    denied(read(&store, "shut/x").map(drop), "shut/x", "cannot open the file");
    denied(
        put_if(&store, "sealed/y", "y", OnlyIf::Absent).map(drop),
        "sealed/y",
        "cannot create a file there",
    );
    denied(put_if(&store, "shut/y", "y", OnlyIf::Absent).map(drop), "shut/y", "cannot open its folder");
    denied(block_on(store.delete("sealed/x", &version)), "sealed/x", "cannot remove the file");
    denied(LocalStore::open(&root.join("shut")).map(drop), "shut", "cannot open the folder");
}

/// Puts pairs of small objects from this many threads, each with this many on their way.
fn put_pairs(store: &LocalStore, pairs: usize, threads: usize, at_once: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let body = Bytes::from(vec![7; 4096 + 1_000]);
    thread::scope(|scope| {
        for thread in 0..threads {
            let (body, runtime) = (&body, &runtime);
            scope.spawn(move || {
                let one = |number: usize| async move {
                    let name = format!("folder-{:02}/{number:06}", number / 1_000);
                    let new = PutOptions { only_if: OnlyIf::Absent, ..PutOptions::default() };
                    let envelope = format!("{name}.0123456789abcdef.key.enc");
                    store.put(&envelope, body.slice(..1_000), &new).await.unwrap();
                    store.put(&format!("{name}.enc"), body.clone(), &PutOptions::default()).await.unwrap();
                };
                let mine = (0..pairs).filter(|number| number % threads == thread);
                let all = futures_util::stream::iter(mine.map(one)).buffer_unordered(at_once);
                runtime.block_on(all.collect::<Vec<()>>());
            });
        }
    });
}

#[test]
fn many_small_files_share_their_syncs() {
    let Place { store, root, .. } = &Place::new();
    put_pairs(store, 1_000, 2, 32);
    let counts = store.sync_counts();
    println!("{counts:?} for 2000 files");
    assert!(counts.data + counts.folders < 2_000 / 5, "fewer than one sync for five files: {counts:?}");
    assert!(counts.groups >= 2_000 / 64, "no group holds more than what is on its way: {counts:?}");
    assert_eq!(tree(root).len(), 2_001);
    let objects = list(store, ListOptions::default()).into_iter().map(|listed| match listed.unwrap() {
        Listed::Object(object) => object,
        Listed::Folder(folder) => panic!("{folder}"),
    });
    let objects: Vec<Object> = objects.collect();
    assert_eq!(objects.len(), 2_000);
    let size = |object: &Object| if object.key.ends_with(".key.enc") { 1_000 } else { 5_096 };
    assert!(objects.iter().all(|object| object.size == size(object)));

    let deletions = objects.iter().map(|object| store.delete(&object.key, &object.version));
    let done: Vec<Result<()>> =
        block_on(futures_util::stream::iter(deletions).buffer_unordered(32).collect());
    assert!(done.into_iter().all(|done| done.is_ok()));
    let both = store.sync_counts();
    println!("{both:?} when they are deleted");
    assert_eq!(both.data, counts.data);
    assert!(both.folders - counts.folders < 2_000 / 5, "{both:?}");
    assert_eq!(tree(root), [""; 0]);
}
