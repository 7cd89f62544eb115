//! `get` and `cat` as library calls on the store in memory: versions, hostile listings, how much is read, and going on
//! after a failure.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use sidekey::format::section::DigestKind;
use sidekey::format::{FileType, Metadata};
use sidekey::keys::{KeyFile, PrivateKey, PublicKey};
use sidekey::location::Location;
use sidekey::location::argument::Target;
use sidekey::name::envelope_name;
use sidekey::ops::cat::{ByteRange, CatOptions, cat};
use sidekey::ops::events::{Event, Observer, Summary};
use sidekey::ops::filter::Filter;
use sidekey::ops::get::{GetOptions, Overwrite, Source, Which, get};
use sidekey::random::OsRandom;
use sidekey::recipe::Named;
use sidekey::seal::{SealOptions, seal};
use sidekey::secret::FileKey;
use sidekey::store::layer::Layer;
use sidekey::store::memory::{Features, MemoryStore};
use sidekey::store::{
    Body, Download, GetOptions as Read, Info, ListOptions, Listed, OnlyIf, Store, VersionId,
};
use sidekey::wrap::wrap;
use sidekey::{DataId, Error, ErrorKind, Result};

use crate::common::{fixture_bytes, noise};

fn private() -> PrivateKey {
    KeyFile::parse(&fixture_bytes("pkcs8.pem")).unwrap().open(None).unwrap()
}

fn other() -> PrivateKey {
    KeyFile::parse(&fixture_bytes("c-worked-example.pem")).unwrap().open(None).unwrap()
}

fn public(key: &PrivateKey) -> PublicKey {
    PublicKey::from_pem(key.public().to_pem().as_bytes()).unwrap()
}

fn me() -> PublicKey {
    public(&private())
}

/// A container of `plain`, its data id, and its envelope for these recipients.
struct Pair {
    container: Bytes,
    data_id: DataId,
    envelope: Bytes,
}

fn sealed(name: &str, plain: &[u8], recipients: &[PublicKey]) -> Pair {
    let mut metadata = Metadata::new(FileType::File);
    metadata.name = Some(name.as_bytes().to_vec());
    metadata.mtime = Some(1_600_000_000_123_456_789);
    with_metadata(&metadata, plain, recipients)
}

fn with_metadata(metadata: &Metadata, plain: &[u8], recipients: &[PublicKey]) -> Pair {
    let (file_key, data_id) = (FileKey::generate(&OsRandom).unwrap(), DataId::generate(&OsRandom).unwrap());
    let mut container = vec![];
    let mut options = SealOptions::default();
    options.digest = DigestKind::Sha256;
    seal(&file_key, data_id, Some(metadata), plain, &mut container, &OsRandom, &options).unwrap();
    let envelope = wrap(&file_key, &data_id, recipients, SystemTime::UNIX_EPOCH).unwrap();
    Pair { container: container.into(), data_id, envelope: envelope.to_text().unwrap().into() }
}

fn memory(versions: bool) -> MemoryStore {
    MemoryStore::new(Features { versions, conditions: true })
}

fn put(store: &MemoryStore, key: &str, body: &Bytes) -> VersionId {
    store.state().put(key, body.clone(), &OnlyIf::Always, &Info::new()).unwrap()
}

/// Puts a pair as `put` does; the version of its container.
fn put_pair(store: &MemoryStore, container: &str, pair: &Pair) -> VersionId {
    put(store, &envelope_name(container, Some(&pair.data_id)).unwrap(), &pair.envelope);
    put(store, container, &pair.container)
}

fn source(store: impl Store + 'static, path: &str) -> Source {
    let location = Location::new(Arc::new(store), "").unwrap();
    Source::new(Target::new(location, path.as_bytes()).unwrap())
}

fn options() -> GetOptions {
    GetOptions {
        recipe: Named::default(),
        identities: vec![private()],
        which: Which::Current,
        overwrite: Overwrite::Never,
        filter: Filter::default(),
        strict: false,
        resume: true,
        salvage: false,
        dry_run: false,
        jobs: Some(2),
    }
}

/// What was told, a line each.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Observer for Told {
    fn event(&self, event: Event<'_>) {
        let line = match event {
            Event::Bytes(_) | Event::Expected(_) | Event::Spared(_) => return,
            Event::Done { input, output } => {
                format!("done {} {}", input.display(), output.file_name().unwrap_or_default().display())
            }
            Event::Failed(error) => format!("failed {:?} {}", error.kind(), error.line()),
            Event::Warning { path, message } => format!("warning {}: {message}", path.display()),
            Event::Skipped { path, why } => format!("skipped {}: {why}", path.display()),
            Event::Resumed { bytes, .. } => format!("resumed {bytes}"),
            Event::Lost { range, .. } => format!("lost {range:?}"),
            other => format!("{other:?}"),
        };
        self.0.lock().unwrap().push(line);
    }
}

fn run(sources: &[Source], to: &Path, options: &GetOptions) -> (Result<Summary>, Vec<String>) {
    let told = Told::default();
    let summary = get(sources, to, options, &told);
    let mut lines = told.0.into_inner().unwrap();
    lines.sort();
    (summary, lines)
}

fn names(folder: &Path) -> Vec<PathBuf> {
    let walk = walkdir::WalkDir::new(folder).min_depth(1).sort_by_file_name();
    walk.into_iter().map(|entry| entry.unwrap().path().strip_prefix(folder).unwrap().to_owned()).collect()
}

#[test]
fn older_versions_open_by_id_and_by_time() {
    let store = memory(true);
    let me = [me()];
    let texts = ["one", "two", "three"];
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let mut versions = vec![];
    for text in texts {
        versions.push(put_pair(&store, "d/x.enc", &sealed("x", text.as_bytes(), &me)));
        store.state().advance(Duration::from_secs(100));
    }
    store.state().hide("d/x.enc").unwrap();
    // The envelope of the first version was hidden too: readers find it all the same.
    let hidden: Vec<String> = store
        .state()
        .list(&ListOptions { prefix: "d/x.".into(), ..ListOptions::default() })
        .into_iter()
        .filter_map(|listed| match listed {
            Listed::Object(object) if object.key.ends_with(".key.enc") => Some(object.key),
            _ => None,
        })
        .collect();
    assert_eq!(hidden.len(), 3);
    for key in &hidden {
        store.state().hide(key).unwrap();
    }

    let dir = tempfile::tempdir().unwrap();
    let fetched = |which: Which, path: &str| {
        let to = dir.path().join("out");
        let _ = std::fs::remove_dir_all(&to);
        let (summary, lines) =
            run(&[source(store.clone(), path)], &dir.path().join("out/"), &GetOptions { which, ..options() });
        summary.map(|summary| {
            assert_eq!(summary.failed, 0, "{lines:?}");
            let file =
                walkdir::WalkDir::new(&to).into_iter().flatten().find(|entry| entry.file_type().is_file());
            file.map(|entry| std::fs::read_to_string(entry.path()).unwrap()).unwrap_or_default()
        })
    };
    for (version, text) in versions.iter().zip(texts) {
        assert_eq!(fetched(Which::Version(version.clone()), "d/x").unwrap(), text);
    }
    for (after, text) in [(0, "one"), (99, "one"), (100, "two"), (250, "three")] {
        let at = Which::At(start + Duration::from_secs(after));
        for path in ["d/x", "d", "d/", ""] {
            assert_eq!(fetched(at.clone(), path).unwrap(), text, "{path} after {after}");
        }
    }
    // Before there was anything, and when it was deleted.
    for at in [start - Duration::from_secs(1), start + Duration::from_secs(300)] {
        let error = fetched(Which::At(at), "d/x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.line(), "memory:d/x.enc: there was nothing under that name at that time");
        assert_eq!(fetched(Which::At(at), "d/").unwrap(), "");
    }
    let error = fetched(Which::Current, "d/x").unwrap_err();
    assert_eq!(error.line(), "memory:d/x.enc: there is nothing under that name");
    let error = fetched(Which::Version("99".into()), "d/x").unwrap_err();
    assert_eq!(error.line(), "memory:d/x.enc: there is no such version of it");
    let error = fetched(Which::Version(versions[0].clone()), "d/").unwrap_err();
    assert_eq!(
        (error.kind(), error.line().ends_with("a version is of one object")),
        (ErrorKind::Usage, true)
    );
}

#[test]
fn a_store_without_versions_says_so() {
    let store = memory(false);
    put_pair(&store, "x.enc", &sealed("x", b"x", &[me()]));
    let dir = tempfile::tempdir().unwrap();
    for which in [Which::Version("1".into()), Which::At(SystemTime::UNIX_EPOCH)] {
        let (summary, _) =
            run(&[source(store.clone(), "x")], &dir.path().join("x"), &GetOptions { which, ..options() });
        let error = summary.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.line().ends_with("keeps no versions: there is only what is there now"), "{error:?}");
    }
}

#[test]
fn a_planted_envelope_hides_no_real_one() {
    let me = [me()];
    for versions in [false, true] {
        let store = memory(versions);
        let (real, planted) = (sealed("x", b"the contents", &me), sealed("x", b"other", &me));
        // A valid envelope with the right data id in its labels, and another key inside.
        let forged = String::from_utf8(planted.envelope.to_vec())
            .unwrap()
            .replace(&planted.data_id.to_string(), &real.data_id.to_string());
        let first = envelope_name("x.enc", Some(&real.data_id)).unwrap();
        let second = envelope_name("x.enc", None).unwrap();
        put(&store, "x.enc", &real.container);
        match versions {
            // Over the real one, which is an older version then.
            true => {
                put(&store, &first, &real.envelope);
                put(&store, &first, &forged.clone().into());
                put(&store, &second, &Bytes::from_static(b"no envelope at all"));
            }
            // In place of the first form, with the real one in the second.
            false => {
                put(&store, &first, &forged.clone().into());
                put(&store, &second, &real.envelope);
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let (summary, lines) = run(&[source(store.clone(), "x")], &dir.path().join("x"), &options());
        assert_eq!(summary.unwrap().done, 1, "{lines:?}");
        assert_eq!(std::fs::read(dir.path().join("x")).unwrap(), b"the contents");

        // Alone it opens nothing, and says what it is.
        let store = memory(versions);
        put(&store, "x.enc", &real.container);
        put(&store, &first, &forged.into());
        let (summary, lines) = run(&[source(store, "x")], &dir.path().join("y"), &options());
        assert_eq!(summary.unwrap().integrity, 1);
        let says = format!(
            "failed Integrity memory:x.enc: the envelope's entry for key {} is damaged",
            me[0].id().short()
        );
        assert_eq!(lines, [says]);
        assert!(!dir.path().join("y").exists());
    }
}

#[test]
fn names_that_no_file_can_have_are_not_restored() {
    let store = memory(false);
    let pair = sealed("x", b"evil", &[me()]);
    let hostile = [
        "../x.enc",
        "/etc/x.enc",
        "a/../../x.enc",
        "a//x.enc",
        "./x.enc",
        "..enc",
        "%b64~Li4.enc",
        "a/%b64~\u{1b}[2J.enc",
    ];
    for name in hostile {
        put_pair(&store, name, &pair);
    }
    put_pair(&store, "x.enc", &pair);
    put(&store, "README", &Bytes::from_static(b"hello"));
    let dir = tempfile::tempdir().unwrap();
    let (summary, lines) = run(&[source(store, "")], &dir.path().join("in/out/"), &options());
    let summary = summary.unwrap();
    assert_eq!(names(dir.path()), ["in", "in/out", "in/out/x"].map(PathBuf::from));
    // Their envelopes are called as they are, but one: that of `..enc` could belong to a file.
    assert_eq!((summary.done, summary.skipped), (1, 2), "{lines:#?}");
    assert!(lines.iter().any(|line| line == "skipped memory:README: is not a container"), "{lines:#?}");
    for name in hostile {
        let says = format!(
            "failed Integrity memory:{}: has a name that no file can have, and is not restored",
            name.escape_debug()
        );
        assert!(lines.contains(&says), "{says}: {lines:#?}");
    }
    assert!(lines.iter().all(|line| !line.contains('\u{1b}')), "{lines:#?}");
}

#[test]
fn an_object_and_a_folder_of_one_name_are_told_apart() {
    let store = memory(false);
    let me = [me()];
    put_pair(&store, "x.enc", &sealed("x", b"the object", &me));
    put_pair(&store, "x/y.enc", &sealed("y", b"in the folder", &me));
    let dir = tempfile::tempdir().unwrap();
    let (summary, _) = run(&[source(store.clone(), "x")], &dir.path().join("o/"), &options());
    let error = summary.unwrap_err();
    assert_eq!(
        (error.kind(), error.line()),
        (ErrorKind::Usage, "memory:x.enc: x is an object and a folder".into())
    );
    assert_eq!(error.remedy(), Some("write …/x.enc for the object, …/x/ for what is in the folder"));
    run(&[source(store.clone(), "x.enc")], &dir.path().join("o/"), &options()).0.unwrap();
    run(&[source(store, "x/")], &dir.path().join("o/"), &options()).0.unwrap();
    assert_eq!(std::fs::read(dir.path().join("o/x")).unwrap(), b"the object");
    assert_eq!(std::fs::read(dir.path().join("o/y")).unwrap(), b"in the folder");
}

#[test]
fn what_a_container_says_of_itself_is_not_believed() {
    let store = memory(false);
    let me = [me()];
    // A folder's metadata that is a file or a link: it would stand in the folder's place.
    let mut link = Metadata::new(FileType::Symlink);
    link.target = Some(b"/etc".to_vec());
    put_pair(&store, "d/.folder.enc", &with_metadata(&link, b"", &me));
    put_pair(&store, "e/.folder.enc", &sealed("e", b"text", &me));
    // A folder that holds data.
    put_pair(&store, "f.enc", &with_metadata(&Metadata::new(FileType::Dir), b"data", &me));
    // A link with the name of a folder, into which a file goes.
    link.target = Some(b"../outside".to_vec());
    put_pair(&store, "g.enc", &with_metadata(&link, b"", &me));
    put_pair(&store, "g/file.enc", &sealed("file", b"inside", &me));
    // A name that differs.
    put_pair(&store, "h.enc", &sealed("was h", b"h", &me));
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("outside")).unwrap();
    let (summary, lines) = run(&[source(store.clone(), "")], &dir.path().join("out/"), &options());
    assert_eq!(
        lines,
        [
            "done memory:g.enc g",
            "done memory:g/file.enc file",
            "done memory:h.enc h",
            &format!("failed Conflict {}: exists already", dir.path().join("out/g").display()),
            "failed Integrity memory:d/.folder.enc: is called like the metadata of a folder, but is of a symlink",
            "failed Integrity memory:e/.folder.enc: is called like the metadata of a folder, but is of a file",
            "failed Integrity memory:f.enc: is the container of a dir, but holds data",
            "warning memory:h.enc: was encrypted under the name was h",
        ],
        "{summary:?}"
    );
    assert_eq!(names(&dir.path().join("outside")), [] as [PathBuf; 0]);
    assert_eq!(std::fs::read(dir.path().join("out/g/file")).unwrap(), b"inside");
    let strict = GetOptions { strict: true, ..options() };
    let (summary, lines) = run(&[source(store, "h")], &dir.path().join("strict/"), &strict);
    assert_eq!(summary.unwrap().integrity, 1);
    assert_eq!(lines, ["failed Integrity memory:h.enc: was encrypted under the name was h"]);
}

/// A store that counts what it gives away, in small pieces, and stops when told to.
#[derive(Clone)]
struct Counting {
    inner: MemoryStore,
    given: Arc<AtomicU64>,
    /// After so many bytes every answer breaks off, with this kind of error.
    limit: Arc<AtomicU64>,
    fault: ErrorKind,
}

impl Counting {
    fn new(inner: MemoryStore, limit: u64, fault: ErrorKind) -> Self {
        Self { inner, given: Arc::default(), limit: Arc::new(limit.into()), fault }
    }

    fn given(&self) -> u64 {
        self.given.swap(0, Ordering::Relaxed)
    }
}

impl fmt::Debug for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counting")
    }
}

#[async_trait]
impl Layer for Counting {
    fn below(&self) -> &dyn Store {
        &self.inner
    }

    async fn get(&self, key: &str, options: &Read) -> Result<Download> {
        let Download { object, body } = self.inner.get(key, options).await?;
        let Body::Stream(mut whole) = body else { panic!("memory streams") };
        let whole = whole.next().await.transpose()?.unwrap_or_default();
        let pieces: Vec<Bytes> = whole.chunks(30_011).map(Bytes::copy_from_slice).collect();
        let Self { given, limit, fault, .. } = self.clone();
        let body = stream::iter(pieces).map(move |piece| {
            let before = given.fetch_add(piece.len() as u64, Ordering::Relaxed);
            match before >= limit.load(Ordering::Relaxed) {
                true => {
                    if fault == ErrorKind::Transient {
                        limit.fetch_add(1 << 20, Ordering::Relaxed);
                    }
                    Err(Error::new(fault, "the line broke"))
                }
                false => Ok(piece),
            }
        });
        Ok(Download { object, body: Body::Stream(body.boxed()) })
    }
}

#[test]
fn a_range_reads_its_sections_and_little_else() {
    const MIB: u64 = 1 << 20;
    const SECTION: u64 = 65536 + 48;
    let plain = noise(40 << 20, 3);
    let inner = memory(false);
    put_pair(&inner, "x.enc", &sealed("x", &plain, &[me()]));
    let store = Counting::new(inner, u64::MAX, ErrorKind::Io);
    let printed = |range: ByteRange| {
        let options = CatOptions {
            identities: vec![private()],
            which: Which::Current,
            range,
            strict: true,
            recipe: Named::default(),
            jobs: 2,
        };
        let (mut out, told) = (vec![], Told::default());
        let summary = cat(&[source(store.clone(), "x")], &options, &mut out, &told).unwrap();
        assert_eq!(summary.failed, 0, "{:?}", told.0.into_inner());
        out
    };
    for start in [0, 1, 65535, 65536, 10_000_000, 39 * MIB, 17 * MIB + 5] {
        let range = ByteRange::From(start, Some(start + MIB - 1));
        assert!(printed(range) == plain[start as usize..(start + MIB) as usize], "{start}");
        let given = store.given();
        assert!((MIB..=MIB + 4 * SECTION).contains(&given), "{given} bytes for 1 MiB at {start}");
    }
    for (range, expected) in [
        (ByteRange::From(5, Some(5)), &plain[5..6]),
        (ByteRange::Last(3), &plain[plain.len() - 3..]),
        (ByteRange::From(40 * MIB - 1, None), &plain[plain.len() - 1..]),
        (ByteRange::From(40 * MIB - 1, Some(u64::MAX)), &plain[plain.len() - 1..]),
    ] {
        assert_eq!(printed(range), expected);
        assert!(store.given() <= 4 * SECTION, "{range:?}");
    }
    assert!(printed(ByteRange::All) == plain);
}

#[test]
fn an_answer_that_breaks_off_is_asked_for_again() {
    let plain = noise(5 << 20, 4);
    let inner = memory(false);
    put_pair(&inner, "x.enc", &sealed("x", &plain, &[me()]));
    let dir = tempfile::tempdir().unwrap();
    let store = Counting::new(inner.clone(), 1 << 20, ErrorKind::Transient);
    let (summary, lines) = run(&[source(store.clone(), "x")], &dir.path().join("x"), &options());
    assert_eq!(summary.unwrap().done, 1, "{lines:?}");
    assert!(std::fs::read(dir.path().join("x")).unwrap() == plain);
    assert!(store.given() < 6 << 20, "what came is not asked for again");

    // Other failures are not tried again, and leave nothing.
    let store = Counting::new(inner, 1 << 20, ErrorKind::Permission);
    let (_, lines) = run(&[source(store, "x")], &dir.path().join("y"), &options());
    assert_eq!(lines, ["failed Permission memory:x.enc: the line broke"]);
    assert_eq!(names(dir.path()), [PathBuf::from("x")]);
}

#[test]
fn a_big_file_goes_on_where_it_stopped() {
    const MIB: u64 = 1 << 20;
    let plain = noise((150 << 20) + 7, 5);
    let me = [me()];
    let inner = memory(false);
    put_pair(&inner, "x.enc", &sealed("x", &plain, &me));
    let dir = tempfile::tempdir().unwrap();
    let (target, part) = (dir.path().join("x"), dir.path().join(".x.sidekey-part"));
    let broken = |limit: u64| {
        let store = Counting::new(inner.clone(), limit, ErrorKind::Permission);
        let (_, lines) = run(&[source(store, "x")], &target, &options());
        assert_eq!(lines[0], "failed Permission memory:x.enc: the line broke");
    };
    let whole = |options: GetOptions| {
        let store = Counting::new(inner.clone(), u64::MAX, ErrorKind::Io);
        let (summary, lines) = run(&[source(store.clone(), "x")], &target, &options);
        assert_eq!(summary.unwrap().done, 1, "{lines:?}");
        assert!(std::fs::read(&target).unwrap() == plain);
        assert_eq!(names(dir.path()), [PathBuf::from("x")]);
        let modified = target.metadata().unwrap().modified().unwrap();
        assert_eq!(modified, SystemTime::UNIX_EPOCH + Duration::from_nanos(1_600_000_000_123_456_789));
        std::fs::remove_file(&target).unwrap();
        let resumed: Vec<u64> =
            lines.iter().filter_map(|line| line.strip_prefix("resumed ")?.parse().ok()).collect();
        (resumed, store.given())
    };

    // What was written before a slot was is nothing.
    broken(40 * MIB);
    assert_eq!(names(dir.path()), [] as [PathBuf; 0]);

    // Twice interrupted, then done: only the rest is read.
    broken(100 * MIB);
    assert_eq!(names(dir.path()), [PathBuf::from(".x.sidekey-part")]);
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(part.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    broken(80 * MIB);
    let (resumed, given) = whole(options());
    assert!(matches!(resumed[..], [bytes] if (128 * MIB..150 * MIB).contains(&bytes)), "{resumed:?}");
    assert!(given < 24 * MIB, "{given}");

    // One changed byte of what is there, and all of it is fetched again.
    broken(100 * MIB);
    let file = std::fs::OpenOptions::new().write(true).open(&part).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[plain[1000] ^ 1], 1000).unwrap();
    let (resumed, given) = whole(options());
    assert_eq!((resumed.len(), given > 150 * MIB), (0, true));

    // So it is when the part file is of something else, or of nothing.
    for junk in [&b""[..], &plain[..1 << 20]] {
        let file = tempfile::Builder::new().tempfile_in(dir.path()).unwrap();
        std::io::Write::write_all(&mut file.as_file(), junk).unwrap();
        file.persist(&part).unwrap();
        assert_eq!(whole(options()).0, [0; 0]);
    }
    broken(100 * MIB);
    put_pair(&inner, "x.enc", &sealed("x", &plain, &me));
    assert_eq!(whole(options()).0, [0; 0]);

    // And on request.
    broken(100 * MIB);
    assert_eq!(whole(GetOptions { resume: false, ..options() }).0, [0; 0]);

    // Damage is not gone on with.
    broken(100 * MIB);
    let mut damaged = inner.state().get("x.enc", None).unwrap().1.to_vec();
    damaged[120 << 20] ^= 1;
    put(&inner, "x.enc", &damaged.into());
    let (summary, lines) = run(&[source(inner.clone(), "x")], &target, &options());
    assert_eq!(summary.unwrap().integrity, 1);
    assert!(lines[0].starts_with("failed Integrity memory:x.enc: section "), "{lines:?}");
    assert_eq!(names(dir.path()), [] as [PathBuf; 0]);

    // What others can write, or is a link, is nobody's part file.
    std::os::unix::fs::symlink("elsewhere", &part).unwrap();
    let (summary, lines) = run(&[source(inner.clone(), "x")], &target, &options());
    assert_eq!(summary.unwrap().failed, 1);
    let says = "is in the way: it is no part file that this user alone can write";
    assert!(lines[0].ends_with(says), "{lines:?}");
    assert!(!dir.path().join("elsewhere").exists());
}

#[test]
fn salvage_keeps_every_good_section_in_its_place() {
    const SECTION: usize = 65536;
    const FULL: usize = SECTION + 48;
    let plain = noise(5 * SECTION + 1000, 6);
    let pair = sealed("x", &plain, &[me()]);
    let front = 64 + 304;
    let dir = tempfile::tempdir().unwrap();
    let saved = |damage: &dyn Fn(&mut Vec<u8>)| {
        let store = memory(false);
        let mut container = pair.container.to_vec();
        damage(&mut container);
        put(&store, &envelope_name("x.enc", Some(&pair.data_id)).unwrap(), &pair.envelope);
        put(&store, "x.enc", &container.into());
        let out = dir.path().join("x");
        let _ = std::fs::remove_file(&out);
        let (summary, lines) =
            run(&[source(store.clone(), "x")], &out, &GetOptions { salvage: true, ..options() });
        // Without --salvage nothing appears.
        let (strict, _) = run(&[source(store, "x")], &dir.path().join("y"), &options());
        let summary = summary.unwrap();
        assert_eq!(summary.failed, strict.unwrap().failed);
        assert_eq!(dir.path().join("y").exists(), summary.failed == 0);
        let _ = std::fs::remove_file(dir.path().join("y"));
        let mut expected = plain.clone();
        for line in &lines {
            if let Some((start, end)) = line.strip_prefix("lost ").and_then(|range| range.split_once("..")) {
                let end = end.parse::<usize>().unwrap().min(plain.len());
                expected[start.parse().unwrap()..end].fill(0);
            }
        }
        let bytes = std::fs::read(&out).unwrap();
        (bytes, expected, lines.into_iter().filter(|line| !line.starts_with("done")).collect::<Vec<_>>())
    };
    let failed = |what: &str| {
        format!("failed Integrity {}: is restored in part: {what}", dir.path().join("x").display())
    };

    let (bytes, expected, lines) = saved(&|_| {});
    assert!(bytes == expected && lines.is_empty(), "{lines:?}");

    let (bytes, expected, lines) = saved(&|container| {
        for section in [0, 2, 3] {
            container[front + section * FULL + 100] ^= 1;
        }
    });
    assert!(bytes == expected);
    assert_eq!(
        lines,
        [
            failed("196608 bytes in 2 ranges are lost, and zeros stand there"),
            "lost 0..65536".into(),
            "lost 131072..262144".into(),
        ]
    );

    // The last section: its length is known by the end section.
    let (bytes, expected, lines) = saved(&|container| container[front + 5 * FULL + 20] ^= 1);
    assert!(bytes == expected && bytes.len() == plain.len());
    assert_eq!(lines[1], format!("lost {}..{}", 5 * SECTION, plain.len()));

    let (bytes, _, lines) = saved(&|container| *container.last_mut().unwrap() ^= 1);
    assert!(bytes == plain);
    assert_eq!(lines, [failed("its end section is damaged or missing")]);

    // Cut within the end section, before it, and within or between sections.
    let end = "its end section is damaged or missing".to_owned();
    let behind = |kept: usize| format!("all behind byte {kept} is lost, however much it was");
    for (cut, kept, says) in [
        (10, plain.len(), end.clone()),
        (96, plain.len(), end),
        (96 + 24, 5 * SECTION, behind(5 * SECTION)),
        (96 + 1100, 4 * SECTION, behind(4 * SECTION)),
        (96 + 1040, 5 * SECTION, behind(5 * SECTION)),
        (96 + 1040 + FULL, 4 * SECTION, behind(4 * SECTION)),
    ] {
        let (bytes, _, lines) = saved(&|container| container.truncate(container.len() - cut));
        assert!(bytes == plain[..kept], "{cut}: {}", bytes.len());
        assert_eq!(lines, [failed(&says)], "{cut}");
    }

    // Cut so that it could be a shorter container with a bad end: as much as that one could hold is lost.
    let (bytes, _, lines) = saved(&|container| container.truncate(container.len() - 96 - 16));
    let most = 5 * SECTION + 1040 - 16 - 96 - 33;
    assert!(bytes[..5 * SECTION] == plain[..5 * SECTION] && bytes.len() == most);
    assert_eq!(lines[1], format!("lost {}..{most}", 5 * SECTION));

    // Something was put in: what follows it is lost, what is before it is not.
    let (bytes, _, lines) =
        saved(&|container| container.splice(front + FULL..front + FULL, [0; 16]).for_each(drop));
    assert!(
        bytes[..SECTION] == plain[..SECTION] && bytes[SECTION..].iter().all(|byte| *byte == 0),
        "{lines:?}"
    );

    let (bytes, _, lines) = saved(&|container| container[100] ^= 1);
    assert!(bytes == plain);
    assert_eq!(lines, [failed("its time and mode are lost")]);
}

#[test]
fn the_keys_of_others_and_files_of_others_are_said() {
    let store = memory(false);
    put_pair(&store, "x.enc", &sealed("x", b"x", &[public(&other())]));
    put(&store, "y.enc", &Bytes::from_static(b"Salted__12345678................"));
    put(&store, "z.enc", &sealed("z", b"z", &[me()]).container);
    put(&store, "w.0123456789abcdef.key.enc", &sealed("w", b"w", &[me()]).envelope);
    let dir = tempfile::tempdir().unwrap();
    let (summary, lines) = run(&[source(store, "")], &dir.path().join("out/"), &options());
    assert_eq!((summary.unwrap().failed, names(dir.path()).len()), (3, 0));
    let (wrapped, given) = (other().public().id().short(), private().public().id().short());
    assert_eq!(
        lines,
        [
            &format!("failed Auth memory:x.enc: wrapped for key {wrapped}, but the keys given are {given}"),
            "failed Integrity memory:y.enc: has no key file",
            "failed Integrity memory:z.enc: has no envelope",
            "skipped memory:w.enc: has an envelope, but there is no container",
        ]
    );
}

#[test]
fn an_envelope_of_another_file_does_not_open_this_one() {
    let me = [me()];
    let (a, b) = (sealed("a", b"a", &me), sealed("b", b"b", &me));
    let store = memory(false);
    put(&store, "a.enc", &a.container);
    put(&store, &envelope_name("a.enc", Some(&a.data_id)).unwrap(), &b.envelope);
    let dir = tempfile::tempdir().unwrap();
    let (_, lines) = run(&[source(store, "a")], &dir.path().join("a"), &options());
    let says = format!("the envelope belongs to data id {}, the container is {}", b.data_id, a.data_id);
    assert_eq!(lines, [format!("failed Integrity memory:a.enc: {says}")]);
}
