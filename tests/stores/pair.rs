//! Stops after, before and in the middle of every single store call of put, overwrite, rm, rewrap and clean.
//!
//! Afterwards the old or the new content opens, with real keys; old versions still open; a second run finishes the work;
//! and once time has passed `clean` leaves nothing behind that is of no use.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use sidekey::format::{Envelope, HEADER_LEN, Header};
use sidekey::keys::{KeyFile, PrivateKey, PublicKey};
use sidekey::location::Location;
use sidekey::location::drive::{
    CleanOptions, Content, IfExists, PartSource, PutRequest, RemoveOptions, RewrapOptions, Stored, clean,
    plan_clean, put, remove, rewrap, store_time,
};
use sidekey::name::envelope_name;
use sidekey::pair::RewrapOutcome;
use sidekey::random::OsRandom;
use sidekey::rewrap::Rotation;
use sidekey::seal::{SealOptions, seal};
use sidekey::secret::FileKey;
use sidekey::store::faulty::{Fault, Faulty, Operation as Call};
use sidekey::store::layer::Layer;
use sidekey::store::local::LocalStore;
use sidekey::store::memory::{Features, MemoryStore, State};
use sidekey::store::retry::{Policy, Retry};
use sidekey::store::{
    Body, Capabilities, Conditions, Download, GetOptions, ListOptions, Listed, Object, OnlyIf, PutOptions,
    Store, Unfinished, Upload, VersionId, Written,
};
use sidekey::{DataId, ErrorKind, Result, wrap};
use tokio::runtime::{Builder, Runtime};

use crate::b2::{once, trying};
use crate::s3_server::{self, Versions};
use crate::server::World;

const DAYS_40: Duration = Duration::from_secs(40 * 24 * 60 * 60);
/// Later than any clock here.
const FAR: Duration = Duration::from_secs(10_000_000_000);

/// A container and its envelope.
#[derive(Clone)]
struct Pair {
    id: DataId,
    container: Bytes,
    envelope: Bytes,
}

/// Keys, and the pairs that a run stores.
struct Fixture {
    rotation: Rotation,
    identities: Vec<PrivateKey>,
    pairs: BTreeMap<&'static str, Pair>,
    /// What the private keys said of these bytes: the same ones are met after most stops.
    tried: Mutex<HashMap<Vec<u8>, bool>>,
}

fn private_key(name: &str) -> PrivateKey {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/keys").join(name);
    KeyFile::parse(&fs::read(path).unwrap()).unwrap().open(None).unwrap()
}

fn public(key: &PrivateKey) -> PublicKey {
    PublicKey::from_pem(key.public().to_pem().as_bytes()).unwrap()
}

impl Fixture {
    /// What is put in parts holds `long` bytes.
    fn new(long: usize) -> Self {
        let (old, new) = (private_key("pkcs8.pem"), private_key("c-worked-example.pem"));
        let names = ["older", "old", "orphan", "beside", "new", "again", "long", "long again"];
        let pair = |name: &'static str| {
            let (id, key) = (DataId::generate(&OsRandom).unwrap(), FileKey::generate(&OsRandom).unwrap());
            let plain = if name.starts_with("long") { vec![7; long] } else { name.as_bytes().to_vec() };
            let mut container = Vec::new();
            seal(&key, id, None, plain.as_slice(), &mut container, &OsRandom, &SealOptions::default())
                .unwrap();
            let recipients = [public(&old)];
            let envelope = wrap::wrap(&key, &id, &recipients, SystemTime::UNIX_EPOCH).unwrap();
            let envelope = envelope.to_text().unwrap().into();
            (name, Pair { id, container: container.into(), envelope })
        };
        Self {
            pairs: names.into_iter().map(pair).collect(),
            rotation: Rotation::new(vec![private_key("pkcs8.pem")], vec![public(&new)]).unwrap(),
            identities: vec![old, new],
            tried: Mutex::default(),
        }
    }

    fn old_opens(&self, envelope: &[u8]) -> bool {
        self.once(envelope.to_vec(), || self.rotation.still_opens(&Envelope::parse(envelope).unwrap()))
    }

    fn opens(&self, header: &[u8; HEADER_LEN], envelopes: &[&Vec<u8>]) -> bool {
        let about =
            [header.as_slice()].into_iter().chain(envelopes.iter().map(|envelope| envelope.as_slice()));
        self.once(about.collect::<Vec<_>>().concat(), || {
            let envelopes: Vec<_> = envelopes.iter().map(|text| Envelope::parse(text).unwrap()).collect();
            wrap::unwrap(&Header::parse(header).unwrap(), &envelopes, &self.identities).is_ok()
        })
    }

    fn once(&self, about: Vec<u8>, find_out: impl FnOnce() -> bool) -> bool {
        if let Some(known) = self.tried.lock().unwrap().get(&about) {
            return *known;
        }
        let found = find_out();
        self.tried.lock().unwrap().insert(about, found);
        found
    }

    fn name_of(&self, id: DataId) -> &'static str {
        self.pairs.iter().find(|(_, pair)| pair.id == id).map_or("?", |(name, _)| name)
    }
}

/// A store that takes short parts only, so that a short object has several.
#[derive(Debug)]
struct Narrow(Arc<dyn Store>);

#[async_trait]
impl Layer for Narrow {
    fn below(&self) -> &dyn Store {
        self.0.as_ref()
    }

    async fn capabilities(&self) -> Result<Capabilities> {
        Ok(Capabilities { max_part: 1 << 16, ..self.0.capabilities().await? })
    }
}

/// A store whose objects can be made older than they are, for a service that has one clock for all.
#[derive(Debug)]
struct Aging {
    below: Arc<dyn Store>,
    /// Whether conditions of writes arrive; some services ignore them.
    conditions: bool,
    /// The objects by key and version, and the unfinished uploads by key and id, that are forty days older each time.
    older: Mutex<Vec<BTreeSet<(String, String)>>>,
}

impl Aging {
    fn new(below: Arc<dyn Store>, conditions: bool) -> Self {
        Self { below, conditions, older: Mutex::default() }
    }

    async fn age(&self) {
        let all = ListOptions { versions: true, ..ListOptions::default() };
        let objects = self.below.list(all).map_ok(|line| match line {
            Listed::Object(object) => (object.key, object.version),
            Listed::Folder(folder) => unreachable!("{folder}"),
        });
        let unfinished = self.below.unfinished("").map_ok(|unfinished| (unfinished.key, unfinished.id));
        let these = objects.chain(unfinished).try_collect().await.unwrap();
        self.older.lock().unwrap().push(these);
    }

    fn aged(&self, key: &str, id: &str, time: SystemTime) -> SystemTime {
        let this = (key.to_owned(), id.to_owned());
        let times = self.older.lock().unwrap().iter().filter(|these| these.contains(&this)).count();
        time - DAYS_40 * u32::try_from(times).unwrap()
    }

    fn heard(&self, options: &PutOptions) -> PutOptions {
        let only_if = if self.conditions { options.only_if.clone() } else { OnlyIf::Always };
        PutOptions { only_if, ..options.clone() }
    }

    fn object(&self, object: Object) -> Object {
        Object { modified: self.aged(&object.key, &object.version, object.modified), ..object }
    }
}

#[async_trait]
impl Layer for Aging {
    fn below(&self) -> &dyn Store {
        self.below.as_ref()
    }

    async fn conditions(&self) -> Result<Conditions> {
        let honoured = self.below.conditions().await?;
        Ok(if self.conditions { honoured } else { Conditions::default() })
    }

    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<Written> {
        self.below.put(key, body, &self.heard(options)).await
    }

    async fn upload(&self, key: &str, options: &PutOptions) -> Result<Box<dyn Upload>> {
        self.below.upload(key, &self.heard(options)).await
    }

    async fn get(&self, key: &str, options: &GetOptions) -> Result<Download> {
        let found = self.below.get(key, options).await?;
        Ok(Download { object: self.object(found.object), body: found.body })
    }

    async fn stat(&self, key: &str, version: Option<&VersionId>) -> Result<Object> {
        Ok(self.object(self.below.stat(key, version).await?))
    }

    fn list(&self, options: ListOptions) -> BoxStream<'_, Result<Listed>> {
        let aged = move |line| match line {
            Listed::Object(object) => Listed::Object(self.object(object)),
            folder @ Listed::Folder(_) => folder,
        };
        self.below.list(options).map_ok(aged).boxed()
    }

    fn unfinished(&self, prefix: &str) -> BoxStream<'_, Result<Unfinished>> {
        let aged = move |found: Unfinished| {
            let started = self.aged(&found.key, &found.id, found.started);
            Unfinished { started, ..found }
        };
        self.below.unfinished(prefix).map_ok(aged).boxed()
    }
}

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Memory(Features),
    Local,
    /// Backblaze B2, as the test server has it.
    B2,
    /// S3, as LocalStack has it.
    S3 {
        versions: Versions,
        conditions: bool,
    },
}

const KINDS: [Kind; 5] = [
    Kind::Memory(Features { versions: false, conditions: false }),
    Kind::Memory(Features { versions: false, conditions: true }),
    Kind::Memory(Features { versions: true, conditions: false }),
    Kind::Memory(Features { versions: true, conditions: true }),
    Kind::Local,
];

/// A store, and what it is made of.
struct Site {
    store: Arc<dyn Store>,
    backing: Backing,
}

enum Backing {
    Memory(MemoryStore),
    Folder(tempfile::TempDir),
    B2(World),
    S3(Arc<Aging>),
}

impl Site {
    fn empty(kind: Kind) -> Self {
        match kind {
            Kind::Memory(features) => Self::memory(State::new(features)),
            Kind::Local => Self::folder(tempfile::tempdir().unwrap()),
            Kind::B2 => {
                let world = World::with_small_parts();
                let store = Arc::new(Narrow(Arc::new(trying(once(&world)))));
                Self { store, backing: Backing::B2(world) }
            }
            Kind::S3 { versions, conditions } => {
                let bucket = run(s3_server::bucket(versions));
                let store = Retry::new(s3_server::store(&bucket), Policy::default());
                let aging = Arc::new(Aging::new(Arc::new(store), conditions));
                Self { store: Arc::<Aging>::clone(&aging), backing: Backing::S3(aging) }
            }
        }
    }

    fn memory(state: State) -> Self {
        let memory = MemoryStore::from_state(state);
        Self { store: Arc::new(Narrow(Arc::new(memory.clone()))), backing: Backing::Memory(memory) }
    }

    fn folder(folder: tempfile::TempDir) -> Self {
        let store = LocalStore::open(folder.path()).unwrap();
        Self { store: Arc::new(Narrow(Arc::new(store))), backing: Backing::Folder(folder) }
    }

    fn copy(&self) -> Self {
        match &self.backing {
            Backing::Memory(memory) => Self::memory(memory.state().clone()),
            Backing::Folder(folder) => {
                let copy = tempfile::tempdir().unwrap();
                copy_folder(folder.path(), copy.path());
                Self::folder(copy)
            }
            Backing::B2(_) | Backing::S3(_) => unreachable!("a service's contents are not copied"),
        }
    }

    /// Everything that is there becomes forty days older.
    fn age(&self) {
        match &self.backing {
            Backing::Memory(memory) => memory.state().advance(DAYS_40),
            Backing::Folder(folder) => age_folder(folder.path()),
            Backing::B2(world) => world.age(DAYS_40),
            Backing::S3(aging) => run(aging.age()),
        }
    }

    fn location(&self) -> Location {
        Location::new(Arc::clone(&self.store), "p").unwrap()
    }
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), &to).unwrap();
            let modified = entry.metadata().unwrap().modified().unwrap();
            File::options().write(true).open(&to).unwrap().set_modified(modified).unwrap();
        }
    }
}

fn age_folder(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        if entry.file_type().unwrap().is_dir() {
            age_folder(&entry.path());
        } else {
            let modified = entry.metadata().unwrap().modified().unwrap();
            let file = File::options().write(true).open(entry.path()).unwrap();
            file.set_modified(modified - DAYS_40).unwrap();
        }
    }
}

/// Connections to a service outlive the run that opened them.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

fn run<T>(future: impl Future<Output = T>) -> T {
    // In a box, so that the compiler has one runtime to translate and not one for each test.
    let future: LocalBoxFuture<'_, T> = Box::pin(future);
    RUNTIME.block_on(future)
}

struct Cut(Bytes);

#[async_trait]
impl PartSource for Cut {
    async fn next(&mut self, len: usize) -> Result<Option<Bytes>> {
        let part = self.0.split_to(len.min(self.0.len()));
        Ok((!part.is_empty()).then_some(part))
    }
}

/// What is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    PutNew,
    Overwrite,
    OverwriteInParts,
    Rm,
    RmVersions,
    Rewrap,
    Clean,
}

const OPERATIONS: [Operation; 7] = [
    Operation::PutNew,
    Operation::Overwrite,
    Operation::OverwriteInParts,
    Operation::Rm,
    Operation::RmVersions,
    Operation::Rewrap,
    Operation::Clean,
];

async fn store(
    fixture: &Fixture,
    location: &Location,
    stored: &str,
    name: &str,
    if_exists: IfExists,
) -> Result<()> {
    let pair = fixture.pairs[name].clone();
    let mut source = Cut(pair.container.clone());
    let content = match name.starts_with("long") {
        true => Content::Parts { size: Some(pair.container.len() as u64), source: &mut source },
        false => Content::Whole(pair.container),
    };
    let request = PutRequest {
        stored,
        data_id: pair.id,
        envelope: pair.envelope,
        content,
        envelope_encryption: None,
        container_encryption: None,
        if_exists,
        memory: None,
    };
    match put(location, request).await? {
        Stored::Stored(_) => Ok(()),
        Stored::Exists => panic!("{stored} is there"),
    }
}

/// Does it once; a second run takes other file keys.
async fn perform(operation: Operation, fixture: &Fixture, location: &Location, again: bool) -> Result<()> {
    let (new, long) = if again { ("again", "long again") } else { ("new", "long") };
    let versions = operation == Operation::RmVersions;
    let now = SystemTime::UNIX_EPOCH + FAR;
    match operation {
        Operation::PutNew => store(fixture, location, "y.enc", new, IfExists::Replace).await,
        Operation::Overwrite => store(fixture, location, "x.enc", new, IfExists::Replace).await,
        Operation::OverwriteInParts => store(fixture, location, "x.enc", long, IfExists::Replace).await,
        Operation::Rm | Operation::RmVersions => {
            let now = store_time(location, now).await?;
            let removed = remove(location, "x.enc", RemoveOptions { versions, dry_run: false, now }).await;
            match removed {
                Err(error) if error.kind() == ErrorKind::NotFound && again => Ok(()),
                removed => removed.map(drop),
            }
        }
        Operation::Rewrap => {
            let rotation = &fixture.rotation;
            let options = RewrapOptions::new(rotation, SystemTime::UNIX_EPOCH);
            for stored in names(location).await?.into_iter().filter(|name| name.ends_with(".key.enc")) {
                for rewrapped in rewrap(location, &stored, &options).await? {
                    let good = [RewrapOutcome::Rewrapped, RewrapOutcome::AlreadyDone, RewrapOutcome::NotOurs];
                    // Without a container nothing proves which of two versions is right: both are kept.
                    let unproven = again && rewrapped.unchecked > 0;
                    if !good.contains(&rewrapped.outcome) && !unproven {
                        return Err(sidekey::Error::conflict(format!("{rewrapped:?}")));
                    }
                }
            }
            Ok(())
        }
        Operation::Clean => {
            let plan = plan_clean(location, &CleanOptions::new(now)).await?;
            let mut failures = Vec::new();
            let failed = !plan.failures.is_empty();
            clean(location, plan, now, &mut |_, done| failures.extend(done.err())).await?;
            match failures.pop() {
                Some(error) => Err(error),
                None if failed => Err(sidekey::Error::conflict("could not plan")),
                None => Ok(()),
            }
        }
    }
}

/// The stored names of all objects, each once.
async fn names(location: &Location) -> Result<BTreeSet<String>> {
    let found = objects(location).await?;
    let name = |object: &Object| location.relative(&object.key).map(str::to_owned);
    Ok(found.iter().filter(|object| !object.marker).filter_map(name).collect())
}

async fn objects(location: &Location) -> Result<Vec<Object>> {
    let options = ListOptions { prefix: location.prefix().into(), versions: true, ..ListOptions::default() };
    let lines: Vec<Listed> = location.store().list(options).try_collect().await?;
    let object = |line| match line {
        Listed::Object(object) => Some(object),
        Listed::Folder(_) => None,
    };
    Ok(lines.into_iter().filter_map(object).collect())
}

async fn read(store: &dyn Store, object: &Object) -> Vec<u8> {
    let options = GetOptions { version: Some(object.version.clone()), range: None, ..GetOptions::default() };
    match store.get(&object.key, &options).await.unwrap().body {
        Body::Stream(stream) => stream
            .try_fold(vec![], |mut all, bytes| async move {
                all.extend_from_slice(&bytes);
                Ok(all)
            })
            .await
            .unwrap(),
        Body::File(mut file, _) => {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
            bytes
        }
    }
}

/// What a location holds.
#[derive(Debug, Default)]
struct Held {
    /// Of each container its versions by the names of their contents, newest first; nothing where it is hidden.
    containers: BTreeMap<String, Vec<Option<&'static str>>>,
    /// Envelopes by the names of what they serve.
    envelopes: BTreeSet<&'static str>,
    /// Whether the old key opens some envelope, and which ones the new one opens.
    old_opens: bool,
    unfinished: usize,
}

impl Held {
    fn current(&self, stored: &str) -> Option<&'static str> {
        self.containers.get(stored).and_then(|versions| *versions.first()?)
    }
}

/// Reads everything. Every version of every container must be what was stored, and open.
async fn look(fixture: &Fixture, location: &Location) -> Held {
    let mut held = Held::default();
    let all = objects(location).await.unwrap();
    let mut envelopes: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for object in all.iter().filter(|object| object.key.ends_with(".key.enc") && !object.marker) {
        let text = read(location.store(), object).await;
        let envelope = Envelope::parse(&text).unwrap();
        held.envelopes.extend(envelope.entries().map(|entry| fixture.name_of(entry.data_id)));
        held.old_opens |= fixture.old_opens(&text);
        envelopes.entry(object.key.clone()).or_default().push(text);
    }
    for object in
        all.iter().filter(|object| object.key.ends_with(".enc") && !object.key.ends_with(".key.enc"))
    {
        let stored = location.relative(&object.key).unwrap();
        let versions = held.containers.entry(stored.into()).or_default();
        if object.marker {
            versions.push(None);
            continue;
        }
        let bytes = read(location.store(), object).await;
        let header = bytes.first_chunk().unwrap();
        let id = Header::parse(header).unwrap().data_id();
        let name = fixture.name_of(id);
        assert!(bytes == fixture.pairs[name].container, "{stored} is not what was stored");
        let forms = [Some(&id), None].map(|id| envelope_name(&object.key, id).unwrap());
        let found: Vec<&Vec<u8>> = forms.iter().filter_map(|name| envelopes.get(name)).flatten().collect();
        assert!(fixture.opens(header, &found), "{stored} {name} does not open");
        versions.push(Some(name));
    }
    held.unfinished = location.store().unfinished("").count().await;
    held
}

/// `x` was overwritten once, and a put of it ended after its envelope; `z` has its envelope in the second form. All of it
/// is forty days old; an upload was left unfinished.
fn base(fixture: &Fixture, kind: Kind) -> Site {
    let site = Site::empty(kind);
    let location = site.location();
    run(async {
        store(fixture, &location, "x.enc", "older", IfExists::Fail).await.unwrap();
        store(fixture, &location, "x.enc", "old", IfExists::Replace).await.unwrap();
        let bare = async |name: &str, bytes: &Bytes| {
            let options = PutOptions { only_if: OnlyIf::Absent, ..PutOptions::default() };
            location.store().put(&location.key(name), bytes.clone(), &options).await.unwrap();
        };
        let (orphan, beside) = (&fixture.pairs["orphan"], &fixture.pairs["beside"]);
        bare(&envelope_name("x.enc", Some(&orphan.id)).unwrap(), &orphan.envelope).await;
        bare("z.key.enc", &beside.envelope).await;
        bare("z.enc", &beside.container).await;
        if kind != Kind::Local {
            let upload =
                location.store().upload(&location.key("x.enc"), &PutOptions::default()).await.unwrap();
            upload.part(1, Bytes::from_static(b"half of it")).await.unwrap();
        }
    });
    site.age();
    site
}

/// How an operation is stopped at a call.
#[derive(Clone, Copy, Debug)]
enum Stop {
    /// The call fails, and the process goes on.
    Fails(Fault),
    /// The call is its last.
    Dies(Fault),
    /// Of the calls that change something it is the last. A process that ends after a read leaves what the write before it left.
    DiesAfterWrite,
}

impl Stop {
    fn arm(self, store: &Faulty<dyn Store>, number: u64) {
        match self {
            Self::Fails(fault) => store.fail_at(number, fault),
            Self::Dies(fault) => store.die_at(number, fault),
            Self::DiesAfterWrite => {
                let mut writes = 0;
                store.plan(move |call| {
                    if writes == number {
                        return Some(Fault::Before(ErrorKind::Interrupted));
                    }
                    writes += u64::from(changes(call.operation));
                    (writes == number).then_some(Fault::After(ErrorKind::Unsure))
                });
            }
        }
    }
}

/// Whether a call may change what is there; to ask for conditions may write to try them.
fn changes(call: Call) -> bool {
    !matches!(
        call,
        Call::Capabilities | Call::Get | Call::Stat | Call::List | Call::Unfinished | Call::Resume
    )
}

const STOPS: [Stop; 7] = [
    Stop::Fails(Fault::Before(ErrorKind::Transient)),
    Stop::Fails(Fault::HalfWay(ErrorKind::Transient)),
    Stop::Fails(Fault::After(ErrorKind::Unsure)),
    Stop::Fails(Fault::Panic),
    Stop::Dies(Fault::Before(ErrorKind::Transient)),
    Stop::Dies(Fault::HalfWay(ErrorKind::Transient)),
    Stop::Dies(Fault::After(ErrorKind::Unsure)),
];

/// Whether services are stopped at calls that only read too, and buckets of all kinds at each: `STOPS=all`.
#[expect(clippy::disallowed_methods, reason = "how long it may take says who runs it")]
fn all_stops() -> bool {
    std::env::var_os("STOPS").is_some_and(|stops| stops == "all")
}

/// So many bytes are several parts of a [`Narrow`] store.
const LONG: usize = 150_000;

/// A part of S3 has no less than five MiB, but for the last.
const LONG_ON_S3: usize = (5 << 20) + 1_000;

/// Stops an operation at every of these calls; says how many times. Every case begins with what `base` makes.
fn stop_everywhere(
    fixture: &Fixture,
    kind: Kind,
    operation: Operation,
    stops_at: &[Stop],
    calls: impl Iterator<Item = u64>,
    base: impl Fn() -> Site,
) -> usize {
    let mut stops = 0;
    for number in calls {
        let mut reached = false;
        for stop in stops_at {
            let site = base();
            let faulty = Faulty::new(Arc::clone(&site.store));
            stop.arm(&faulty, number);
            let location = Location::new(Arc::new(faulty.clone()), "p").unwrap();
            let done = catch_unwind(AssertUnwindSafe(|| run(perform(operation, fixture, &location, false))));
            let log = faulty.log();
            let Some(log) = log.iter().find(|call| call.fault.is_some()) else {
                break;
            };
            reached = true;
            stops += 1;
            let context = format!("{kind:?} {operation:?} {stop:?} at {number}, {log}: {done:?}");
            let held = run(look(fixture, &site.location()));
            check_stopped(kind, operation, &held, done.ok().as_ref(), &context);
            run(perform(operation, fixture, &site.location(), true))
                .unwrap_or_else(|error| panic!("a second run: {error:?} {:?}: {context}", error.remedy()));
            let held = run(look(fixture, &site.location()));
            check_done(kind, operation, &held, &context);
            if let Backing::B2(world) = &site.backing {
                assert_eq!(world.calls().violations, [""; 0], "{context}");
            }
            site.age();
            run(perform(Operation::Clean, fixture, &site.location(), false)).unwrap();
            check_clean(&run(look(fixture, &site.location())), &context);
        }
        if !reached {
            break;
        }
    }
    stops
}

fn keeps_versions(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::B2 | Kind::S3 { versions: Versions::On, .. } | Kind::Memory(Features { versions: true, .. })
    )
}

/// After a stop: the old content is there or the new one, and all older versions.
fn check_stopped(kind: Kind, operation: Operation, held: &Held, done: Option<&Result<()>>, context: &str) {
    let (x, y) = (held.current("x.enc"), held.current("y.enc"));
    assert_eq!(held.current("z.enc"), Some("beside"), "{context}");
    let new = [Some("new"), Some("long")];
    let now = if operation == Operation::PutNew { y } else { x };
    match operation {
        Operation::PutNew | Operation::Overwrite | Operation::OverwriteInParts => {
            let before = if operation == Operation::PutNew { None } else { Some("old") };
            match done {
                Some(Ok(())) => assert!(new.contains(&now), "{context}"),
                Some(Err(error)) if error.kind() != ErrorKind::Unsure => assert_eq!(now, before, "{context}"),
                _ => assert!(now == before || new.contains(&now), "{context}: {now:?}"),
            }
        }
        Operation::Rm | Operation::RmVersions => {
            assert!([Some("old"), None].contains(&x), "{context}: {x:?}");
        }
        Operation::Rewrap | Operation::Clean => assert_eq!(x, Some("old"), "{context}"),
    }
    if keeps_versions(kind) && operation != Operation::RmVersions {
        for kept in ["older", "old"] {
            assert!(held.containers["x.enc"].contains(&Some(kept)), "{context}: {kept}");
        }
    }
}

/// After a second run: all is as if nothing had happened.
fn check_done(kind: Kind, operation: Operation, held: &Held, context: &str) {
    let x = held.current("x.enc");
    match operation {
        Operation::PutNew => assert_eq!(held.current("y.enc"), Some("again"), "{context}"),
        Operation::Overwrite => assert_eq!(x, Some("again"), "{context}"),
        Operation::OverwriteInParts => assert_eq!(x, Some("long again"), "{context}"),
        Operation::Rm => assert_eq!(x, None, "{context}"),
        Operation::RmVersions => assert!(!held.containers.contains_key("x.enc"), "{context}: {held:?}"),
        Operation::Rewrap => assert!(!held.old_opens, "{context}"),
        // What the stopped run left of its own is not old yet.
        Operation::Clean => assert!(!held.envelopes.contains("orphan") && held.unfinished <= 1, "{context}"),
    }
    if keeps_versions(kind) && operation != Operation::RmVersions {
        assert!(held.containers["x.enc"].contains(&Some("older")), "{context}");
    }
}

/// After `clean`: every envelope serves a container, and no upload is unfinished.
fn check_clean(held: &Held, context: &str) {
    let contents: BTreeSet<&str> = held.containers.values().flatten().flatten().copied().collect();
    assert_eq!(held.envelopes, contents, "{context}");
    assert_eq!(held.unfinished, 0, "{context}");
}

fn stop_all(operations: &[Operation]) {
    let fixture = Fixture::new(LONG);
    std::panic::set_hook(Box::new({
        let usual = std::panic::take_hook();
        move |info| {
            // Those that a store was told to have.
            if !info.to_string().contains("an injected panic") {
                usual(info);
            }
        }
    }));
    for kind in KINDS {
        let site = base(&fixture, kind);
        for operation in operations {
            let stops = stop_everywhere(&fixture, kind, *operation, &STOPS, 1.., || site.copy());
            println!("{kind:?} {operation:?}: {stops} stops");
            assert!(stops > 20, "{kind:?} {operation:?}: {stops}");
        }
    }
}

#[test]
fn a_put_can_be_stopped_everywhere() {
    stop_all(&OPERATIONS[..2]);
}

#[test]
fn a_put_in_parts_can_be_stopped_everywhere() {
    stop_all(&OPERATIONS[2..3]);
}

#[test]
fn a_removal_can_be_stopped_everywhere() {
    stop_all(&OPERATIONS[3..5]);
}

#[test]
fn a_rewrap_can_be_stopped_everywhere() {
    stop_all(&OPERATIONS[5..6]);
}

#[test]
fn cleaning_can_be_stopped_everywhere() {
    stop_all(&OPERATIONS[6..]);
}

/// The same over HTTP, for a process that dies at the calls from `first` on, `each` apart.
fn stop_on_a_service(kind: Kind, long: usize, (first, each): (u64, usize)) {
    let fixture = Fixture::new(long);
    let stops_at = match all_stops() {
        true => [Stop::Dies(Fault::After(ErrorKind::Unsure))],
        false => [Stop::DiesAfterWrite],
    };
    let mut all = 0;
    for operation in &OPERATIONS {
        let calls = (first..).step_by(each);
        let stops = stop_everywhere(&fixture, kind, *operation, &stops_at, calls, || base(&fixture, kind));
        println!("{kind:?} {operation:?}: {stops} stops");
        assert!(stops > 0, "{operation:?}");
        all += stops;
    }
    println!("{kind:?}: {all} stops");
}

#[test]
fn every_call_on_b2_can_be_the_last() {
    stop_on_a_service(Kind::B2, LONG, (1, 1));
}

/// Buckets with and without conditions take turns.
fn stop_on_s3(versions: Versions, conditions: bool) {
    let calls = match all_stops() {
        true => (1, 1),
        false => (if conditions { 1 } else { 2 }, 2),
    };
    stop_on_a_service(Kind::S3 { versions, conditions }, LONG_ON_S3, calls);
}

#[test]
fn every_call_on_s3_can_be_the_last() {
    stop_on_s3(Versions::Off, true);
}

#[test]
fn every_call_on_s3_without_conditions_can_be_the_last() {
    stop_on_s3(Versions::Off, false);
}

#[test]
fn every_call_on_s3_with_versions_can_be_the_last() {
    stop_on_s3(Versions::On, true);
}

#[test]
fn every_call_on_s3_with_versions_without_conditions_can_be_the_last() {
    stop_on_s3(Versions::On, false);
}
