//! `put` into the store in memory, which has every feature: what it stores opens, and what goes wrong stores nothing.

use crate::common;
use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use sidekey::format::section::DigestKind;
use sidekey::format::{Envelope, FileType, Metadata};
use sidekey::location::Location;
use sidekey::location::customer::PairEncryption;
use sidekey::location::drive::IfExists;
use sidekey::name::envelope_name;
use sidekey::open::{Opener, read_header};
use sidekey::ops::events::{Event, Observer, Silent};
use sidekey::ops::filter::{Filter, Rule};
use sidekey::ops::put::{PutOptions, Target, put, put_stream};
use sidekey::store::layer::Layer;
use sidekey::store::memory::{Features, MemoryStore};
use sidekey::store::{self, ListOptions, Listed, Store, Written};
use sidekey::wrap::unwrap;
use sidekey::{Error, ErrorKind, Result};

use crate::common::{Place, noise};

const ALL: Features = Features { versions: true, conditions: true };

fn every_feature() -> impl Iterator<Item = Features> {
    [false, true]
        .into_iter()
        .flat_map(|versions| [false, true].map(|conditions| Features { versions, conditions }))
}

pub(crate) fn options(place: &Place, store: &MemoryStore) -> PutOptions {
    PutOptions {
        journals: None,
        location: Location::new(Arc::new(store.clone()), "some/prefix").unwrap(),
        target: Target::Below(vec![]),
        except: None,
        recipients: vec![place.public("old")],
        if_exists: IfExists::Replace,
        filter: Filter::default(),
        exclude_caches: false,
        one_file_system: false,
        follow: false,
        folder_metadata: false,
        digest: DigestKind::Sha256,
        encryption: PairEncryption::ByDefault,
        jobs: 3,
        dry_run: false,
        now: SystemTime::UNIX_EPOCH,
    }
}

/// Everything that is stored, by key, newest first.
pub(crate) fn stored(store: &MemoryStore) -> BTreeMap<String, Vec<Vec<u8>>> {
    let state = store.state();
    let mut all: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for listed in state.list(&ListOptions { versions: true, ..ListOptions::default() }) {
        let Listed::Object(object) = listed else { panic!("{listed:?}") };
        let (_, bytes) = state.get(&object.key, Some(&object.version)).unwrap();
        all.entry(object.key).or_default().push(bytes.to_vec());
    }
    all
}

/// The metadata and contents of a container, opened with the envelope that has its name.
pub(crate) fn opened(
    place: &Place,
    all: &BTreeMap<String, Vec<Vec<u8>>>,
    key: &str,
    version: usize,
) -> (Metadata, Vec<u8>) {
    let mut source = Cursor::new(&all[key][version]);
    let header = read_header(&mut source).unwrap();
    let envelope = &all[&envelope_name(key, Some(&header.data_id())).unwrap()][0];
    let envelope = Envelope::parse(envelope).unwrap();
    let file_key = unwrap(&header, &[envelope], &[place.private("old")]).unwrap();
    let opener = Opener::new(header, &file_key).unwrap();
    let metadata = opener.metadata(&mut source).unwrap().unwrap();
    let mut plain = Vec::new();
    let done = opener.copy(source, &mut plain, None, 1).unwrap();
    assert!(done.digest.is_some());
    (metadata, plain)
}

pub(crate) fn unfinished(store: &MemoryStore) -> usize {
    store.unfinished("").count().now_or_never().unwrap()
}

/// What was told, one line each.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Observer for Told {
    fn event(&self, event: Event<'_>) {
        let line = match event {
            Event::Put { path, object, size, .. } => format!("put {} {object} {size}", path.display()),
            Event::WouldPut { path, object, size, replaces } => {
                format!("would put {} {object} {size:?} {replaces}", path.display())
            }
            Event::Skipped { path, why } => format!("skipped {}: {why}", path.display()),
            Event::Failed(error) => format!("failed {}", error.line()),
            _ => return,
        };
        self.0.lock().unwrap().push(line);
    }
}

impl Told {
    /// The lines in the order of the alphabet, without the folder that the test runs in.
    fn lines(&self, place: &Place) -> Vec<String> {
        let root = format!("{}/", place.root().display());
        let mut lines: Vec<_> = self.0.lock().unwrap().iter().map(|line| line.replace(&root, "")).collect();
        lines.sort();
        lines
    }
}

#[test]
fn files_of_every_length_come_back() {
    let place = Place::with_keys();
    place.mkdir("tree");
    let part = 8 << 20;
    let lengths =
        [0, 1, 65536, 65537, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, part, part + 70_000, 3 * part + 5];
    let files: Vec<Vec<u8>> = lengths.iter().map(|len| noise(*len, *len as u64 + 1)).collect();
    for (len, bytes) in lengths.iter().zip(&files) {
        place.write(format!("tree/{len}"), bytes);
    }
    for features in every_feature() {
        let store = MemoryStore::new(features);
        let summary = put(&[place.path("tree")], &options(&place, &store), &Silent).unwrap();
        assert_eq!((summary.done, summary.failed, summary.skipped), (lengths.len() as u64, 0, 0));
        assert_eq!(summary.bytes, lengths.iter().sum::<usize>() as u64);
        let all = stored(&store);
        assert_eq!(all.len(), 2 * lengths.len());
        for (len, bytes) in lengths.iter().zip(&files) {
            let (metadata, plain) = opened(&place, &all, &format!("some/prefix/tree/{len}.enc"), 0);
            assert!(plain == *bytes, "{len}");
            assert_eq!((metadata.file_type, metadata.mode), (FileType::File, Some(0o600)));
            assert_eq!(metadata.name.unwrap(), len.to_string().into_bytes());
        }
        assert_eq!(unfinished(&store), 0);
    }
}

#[test]
fn streams_of_every_length_come_back() {
    let place = Place::with_keys();
    for len in [0, 1, 65536, 16 << 20, (40 << 20) + 11] {
        let store = MemoryStore::new(ALL);
        let named = Target::Named(vec![b"db".to_vec(), b"dump".to_vec()]);
        let options = PutOptions { target: named, ..options(&place, &store) };
        let bytes = noise(len, 7);
        let summary = put_stream(bytes.as_slice(), &options, &Silent).unwrap();
        assert_eq!((summary.done, summary.bytes), (1, len as u64));
        let (metadata, plain) = opened(&place, &stored(&store), "some/prefix/db/dump.enc", 0);
        assert!(plain == bytes, "{len}");
        assert_eq!(metadata, Metadata::new(FileType::File));
    }
    // One that is there, or only asked about, is not even read.
    let store = MemoryStore::new(ALL);
    let named = || PutOptions { target: Target::Named(vec![b"x".to_vec()]), ..options(&place, &store) };
    for dry_run in [true, false] {
        let done = put_stream(&b"1"[..], &PutOptions { dry_run, ..named() }, &Silent).unwrap();
        assert_eq!((done.done, stored(&store).len()), (1, if dry_run { 0 } else { 2 }));
    }
    for (if_exists, dry_run) in [(IfExists::Skip, false), (IfExists::Skip, true), (IfExists::Replace, true)] {
        let done = put_stream(Breaks(0), &PutOptions { if_exists, dry_run, ..named() }, &Silent).unwrap();
        assert_eq!((done.bytes, stored(&store).len()), (0, 2));
    }
    let error =
        put_stream(Breaks(0), &PutOptions { if_exists: IfExists::Fail, ..named() }, &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let nameless = options(&place, &MemoryStore::new(ALL));
    assert_eq!(put_stream(io::empty(), &nameless, &Silent).unwrap_err().kind(), ErrorKind::Usage);
}

/// Fails after so many bytes.
struct Breaks(u64);

impl Read for Breaks {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::Error::other("the disk is on fire"));
        }
        let len = bytes.len().min(self.0 as usize);
        self.0 -= len as u64;
        Ok(len)
    }
}

#[test]
fn a_stream_that_breaks_stores_nothing() {
    let place = Place::with_keys();
    for after in [0, 1, 100_000, 16 << 20, 50 << 20] {
        let store = MemoryStore::new(ALL);
        let options = PutOptions { target: Target::Named(vec![b"x".to_vec()]), ..options(&place, &store) };
        let error = put_stream(Breaks(after), &options, &Silent).unwrap_err();
        assert_eq!(error.line(), "standard input: cannot read: the disk is on fire");
        let containers: Vec<_> =
            stored(&store).into_keys().filter(|key| !key.ends_with(".key.enc")).collect();
        assert_eq!(containers, Vec::<String>::new());
        assert_eq!(unfinished(&store), 0);
    }
}

/// Changes a file once some of it was read.
struct Meddler<'a> {
    told: Told,
    file: &'a Path,
    done: Mutex<bool>,
    how: fn(&Path),
}

impl Observer for Meddler<'_> {
    fn event(&self, event: Event<'_>) {
        let mut done = self.done.lock().unwrap();
        if matches!(event, Event::Bytes(1..)) && !*done {
            *done = true;
            (self.how)(self.file);
        }
        self.told.event(event);
    }
}

fn rewritten(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    common::overwrite(path, &bytes);
}

fn grown(path: &Path) {
    io::Write::write_all(&mut std::fs::OpenOptions::new().append(true).open(path).unwrap(), b"more").unwrap();
}

fn cut(path: &Path) {
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(1).unwrap();
}

#[test]
fn a_file_that_changes_while_it_is_read_is_not_stored() {
    let place = Place::with_keys();
    place.mkdir("tree");
    for len in [100_000, 9 << 20] {
        for (how, says) in [
            (rewritten as fn(&Path), "changed while it was read"),
            (grown, "it holds more than its size says"),
            (cut, "it holds less than its size says"),
        ] {
            place.write("tree/a", noise(len, 1));
            place.write("tree/b", "stays");
            let file = place.path("tree/a");
            let store = MemoryStore::new(ALL);
            let before = put(&[place.path("tree/a")], &options(&place, &store), &Silent).unwrap();
            assert_eq!(before.done, 1);
            let was = stored(&store);

            let meddler = Meddler { told: Told::default(), file: &file, done: Mutex::new(false), how };
            let summary = put(std::slice::from_ref(&file), &options(&place, &store), &meddler).unwrap();
            assert_eq!((summary.done, summary.failed), (0, 1));
            let lines = meddler.told.lines(&place);
            assert!(lines[0].starts_with("failed tree/a: ") && lines[0].contains(says), "{lines:?}");
            let now = stored(&store);
            assert_eq!(now["some/prefix/a.enc"], was["some/prefix/a.enc"], "the old contents are gone");
            assert_eq!(unfinished(&store), 0);
            assert_eq!(put(&[place.path("tree/b")], &options(&place, &store), &Silent).unwrap().done, 1);
        }
    }
}

#[test]
fn what_is_there_is_replaced_skipped_or_refused() {
    let place = Place::with_keys();
    place.mkdir("tree");
    place.write("tree/x", "old");
    place.write("tree/large", noise(5 << 20, 1));
    for features in every_feature() {
        let store = MemoryStore::new(features);
        place.write("tree/x", "old");
        let _ = std::fs::remove_file(place.path("tree/y"));
        let tree = [place.path("tree/")];
        put(&tree, &options(&place, &store), &Silent).unwrap();
        let was = stored(&store);
        place.write("tree/x", "new");
        place.write("tree/y", "another");

        let told = Told::default();
        let summary =
            put(&tree, &PutOptions { if_exists: IfExists::Fail, ..options(&place, &store) }, &told).unwrap();
        assert_eq!((summary.done, summary.failed), (1, 2));
        assert_eq!(
            told.lines(&place),
            [
                "failed memory:some/prefix/large.enc: exists already",
                "failed memory:some/prefix/x.enc: exists already",
                "put tree/y memory:some/prefix/y.enc 7",
            ]
        );
        let told = Told::default();
        let summary =
            put(&tree, &PutOptions { if_exists: IfExists::Skip, ..options(&place, &store) }, &told).unwrap();
        assert_eq!((summary.done, summary.skipped, summary.failed), (0, 3, 0));
        assert_eq!(summary.bytes, 0, "what is skipped is not read");
        let now = stored(&store);
        assert_eq!(now.len(), was.len() + 2);
        assert!(was.iter().all(|(key, bytes)| now[key] == *bytes));

        put(&tree, &options(&place, &store), &Silent).unwrap();
        let now = stored(&store);
        assert_eq!(opened(&place, &now, "some/prefix/x.enc", 0).1, b"new");
        if features.versions {
            assert_eq!(opened(&place, &now, "some/prefix/x.enc", 1).1, b"old");
        }
        assert!(was.keys().all(|key| now.contains_key(key)), "no envelope was deleted");
    }
}

#[test]
fn a_dry_run_tells_all_and_writes_nothing() {
    let place = Place::with_keys();
    place.mkdir("tree/cache/deep");
    place.mkdir("tree/empty");
    place.write("tree/cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n# x");
    place.write("tree/a", "1");
    place.write("tree/b.log", "12");
    place.write("tree/.b.sidekey-part", "12");
    let store = MemoryStore::new(ALL);
    put(&[place.path("tree/a")], &options(&place, &store), &Silent).unwrap();
    let was = stored(&store);
    let told = Told::default();
    let options = PutOptions {
        dry_run: true,
        exclude_caches: true,
        filter: Filter::new(&[Rule::Exclude("*.log".into())]).unwrap(),
        ..options(&place, &store)
    };
    let summary = put(&[place.path("tree/")], &options, &told).unwrap();
    assert_eq!((summary.done, summary.skipped, summary.bytes), (2, 3, 1));
    assert_eq!(
        told.lines(&place),
        [
            "skipped tree/.b.sidekey-part: is a file that sidekey get has not finished",
            "skipped tree/b.log: is excluded by *.log",
            "skipped tree/cache: is a cache, says its CACHEDIR.TAG",
            "would put tree/a memory:some/prefix/a.enc Some(1) true",
            "would put tree/empty memory:some/prefix/empty/.folder.enc None false",
        ]
    );
    assert_eq!(stored(&store), was);
}

#[test]
fn two_sources_never_share_a_name() {
    let place = Place::with_keys();
    for name in ["one", "two", "two/sub"] {
        place.mkdir(name);
    }
    place.write("one/x", "1");
    place.write("two/x", "2");
    place.write("two/y", "2");
    place.write("two/sub/x", "3");
    let store = MemoryStore::new(ALL);
    let told = Told::default();
    let sources: Vec<PathBuf> = ["one/", "two/", "two/sub/x"].iter().map(|name| place.path(name)).collect();
    let summary = put(&sources, &PutOptions { jobs: 1, ..options(&place, &store) }, &told).unwrap();
    assert_eq!((summary.done, summary.failed), (3, 2));
    assert_eq!(opened(&place, &stored(&store), "some/prefix/x.enc", 0).1, b"1");
    let failed = told.lines(&place).into_iter().filter(|line| line.starts_with("failed")).collect::<Vec<_>>();
    assert!(
        failed.iter().all(|line| line.contains("has the name in the location that another source")),
        "{failed:?}"
    );
    // By their own names they do not meet.
    let sources = [place.path("one"), place.path("two")];
    assert_eq!(put(&sources, &options(&place, &store), &Silent).unwrap().done, 4);
    let twice = [place.path("one/x"), place.path("two/x")];
    assert_eq!(put(&twice, &options(&place, &store), &Silent).unwrap_err().kind(), ErrorKind::Usage);
}

/// A store that takes so many objects and no more.
#[derive(Debug)]
struct Full {
    store: MemoryStore,
    left: AtomicI64,
}

#[async_trait::async_trait]
impl Layer for Full {
    fn below(&self) -> &dyn Store {
        &self.store
    }

    async fn put(&self, key: &str, body: Bytes, options: &store::PutOptions) -> Result<Written> {
        match self.left.fetch_sub(1, Ordering::Relaxed) > 0 {
            true => self.store.put(key, body, options).await,
            false => Err(Error::new(ErrorKind::Refused, "the cap is reached").about(self.store.show(key))),
        }
    }
}

#[test]
fn a_store_that_refuses_for_good_ends_the_run() {
    let place = Place::with_keys();
    place.mkdir("tree");
    for number in 0..500 {
        place.write(format!("tree/{number}"), "x");
    }
    let store = Full { store: MemoryStore::new(ALL), left: AtomicI64::new(20) };
    let mut options = options(&place, &MemoryStore::new(ALL));
    options.location = Location::new(Arc::new(store), "").unwrap();
    let told = Told::default();
    let summary = put(&[place.path("tree")], &options, &told).unwrap();
    // Those that were under way end; no new ones begin.
    assert!(summary.failed > 64 && summary.done + summary.failed < 250, "{summary:?}");
    assert!(told.lines(&place).iter().any(|line| line.ends_with("; the rest was not tried")));
}
