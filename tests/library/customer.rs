//! Pairs whose containers the service keeps under a key of their own (SSE-C), in the store in memory.

use std::io::Cursor;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use sidekey::format::section::DigestKind;
use sidekey::format::{Envelope, HEADER_LEN, Header};
use sidekey::keys::PrivateKey;
use sidekey::location::Location;
use sidekey::location::argument::Target;
use sidekey::location::customer::{PairEncryption, Unlocking};
use sidekey::location::drive::{self, IfExists, RewrapOptions};
use sidekey::ops::audit::{Subject, audit};
use sidekey::ops::cat::{ByteRange, CatOptions, cat};
use sidekey::ops::clean::{CleanOptions, plan};
use sidekey::ops::events::{Event, Observer, Silent};
use sidekey::ops::filter::Filter;
use sidekey::ops::get::{GetOptions, Overwrite, Source, Which, get};
use sidekey::ops::ls::{LsOptions, ls};
use sidekey::ops::put::{self, PutOptions};
use sidekey::ops::remove::{RemoveOptions, remove};
use sidekey::ops::verify::{Level, VerifyOptions, VerifySummary, verify};
use sidekey::pair::RewrapOutcome;
use sidekey::recipe::Named;
use sidekey::rewrap::Rotation;
use sidekey::store::memory::{Features, MemoryStore};
use sidekey::store::{CustomerKey, DATA_ID_INFO, Encryption, ListOptions, Listed, Object, OnlyIf, Store};
use sidekey::{ErrorKind, Result};

use crate::common::Place;

pub(crate) const DAY: Duration = Duration::from_secs(86_400);
pub(crate) const BIG: usize = 5 << 20;

pub(crate) struct Vault {
    pub(crate) place: Place,
    pub(crate) store: MemoryStore,
}

impl Vault {
    pub(crate) fn new(versions: bool) -> Self {
        Self { place: Place::with_keys(), store: MemoryStore::new(Features { versions, conditions: true }) }
    }

    pub(crate) fn location(&self) -> Location {
        Location::new(Arc::new(self.store.clone()), "p").unwrap()
    }

    /// The location with one key for all.
    pub(crate) fn with_key(&self, seed: u8) -> Location {
        let store = Unlocking::with_key(Arc::new(self.store.clone()), CustomerKey::new(&[seed; 32], None));
        Location::new(Arc::new(store), "p").unwrap()
    }

    pub(crate) fn target(&self, path: &str) -> Target {
        Target::new(self.location(), path.as_bytes()).unwrap()
    }

    pub(crate) fn put_as(
        &self,
        name: &str,
        contents: impl AsRef<[u8]>,
        encryption: PairEncryption,
        if_exists: IfExists,
    ) -> [u64; 3] {
        self.place.mkdir("in");
        self.place.write(format!("in/{name}"), contents);
        let options = PutOptions {
            journals: None,
            location: self.location(),
            target: put::Target::Named(vec![name.as_bytes().to_vec()]),
            except: None,
            recipients: vec![self.place.public("old")],
            if_exists,
            filter: Filter::default(),
            exclude_caches: false,
            one_file_system: false,
            follow: false,
            folder_metadata: false,
            digest: DigestKind::Sha256,
            encryption,
            jobs: 2,
            dry_run: false,
            now: SystemTime::UNIX_EPOCH,
        };
        let summary = put::put(&[self.place.path(format!("in/{name}"))], &options, &Silent).unwrap();
        [summary.done, summary.skipped, summary.failed]
    }

    pub(crate) fn put(&self, name: &str, contents: &str) {
        assert_eq!(self.put_as(name, contents, PairEncryption::Customer(None), IfExists::Replace), [1, 0, 0]);
    }

    pub(crate) fn identities(&self, names: &[&str]) -> Vec<PrivateKey> {
        names.iter().map(|name| self.place.private(name)).collect()
    }

    pub(crate) fn cat_as(
        &self,
        source: &Source,
        which: Which,
        identities: &[&str],
        range: ByteRange,
    ) -> Result<String> {
        let options = CatOptions {
            identities: self.identities(identities),
            which,
            range,
            strict: false,
            recipe: Named::default(),
            jobs: 1,
        };
        let (mut out, failures) = (Cursor::new(vec![]), Failures::default());
        cat(std::slice::from_ref(source), &options, &mut out, &failures)?;
        match failures.0.into_inner().unwrap().pop() {
            Some((kind, line)) => Err(sidekey::Error::new(kind, line)),
            None => Ok(String::from_utf8(out.into_inner()).unwrap()),
        }
    }

    pub(crate) fn cat(&self, name: &str, identities: &[&str]) -> Result<String> {
        self.cat_as(&Source::new(self.target(name)), Which::Current, identities, ByteRange::All)
    }

    pub(crate) fn objects(&self) -> Vec<Object> {
        let options = ListOptions { versions: true, ..ListOptions::default() };
        let object = |listed| match listed {
            Listed::Object(object) => object,
            Listed::Folder(folder) => panic!("{folder}"),
        };
        self.store.state().list(&options).into_iter().map(object).collect()
    }

    pub(crate) fn encryption(&self, object: &Object) -> Option<Encryption> {
        self.store.state().encryption(&object.key, Some(&object.version)).unwrap()
    }

    pub(crate) fn envelopes(&self) -> Vec<Object> {
        self.objects().into_iter().filter(|object| object.key.ends_with(".key.enc")).collect()
    }

    /// The same containers without what stands beside them.
    pub(crate) fn forget_hints(&self) {
        for object in self.objects().into_iter().filter(|object| !object.key.ends_with(".key.enc")) {
            let (_, bytes) = self.store.state().get(&object.key, Some(&object.version)).unwrap();
            let encryption = self.encryption(&object);
            let options = sidekey::store::PutOptions { encryption, ..sidekey::store::PutOptions::default() };
            self.store.put(&object.key, bytes, &options).now_or_never().unwrap().unwrap();
        }
    }

    pub(crate) fn verify(&self, level: Level, identities: &[&str]) -> VerifySummary {
        let options = VerifyOptions {
            recipe: Named::default(),
            level,
            sample: None,
            versions: true,
            identities: self.identities(identities),
            against: None,
            strict: true,
            jobs: 2,
        };
        verify(&self.target(""), &options, &Silent).unwrap()
    }

    pub(crate) fn rewrap(&self) -> Vec<RewrapOutcome> {
        let rotation =
            Rotation::new(vec![self.place.private("old")], vec![self.place.public("new")]).unwrap();
        let options = RewrapOptions { all: true, ..RewrapOptions::new(&rotation, SystemTime::UNIX_EPOCH) };
        let mut outcomes = vec![];
        for object in self.envelopes() {
            let stored = object.key.strip_prefix("p/").unwrap().to_owned();
            let location = self.location();
            let done = drive::rewrap(&location, &stored, &options).now_or_never().unwrap().unwrap();
            for rewrapped in done {
                assert_eq!((rewrapped.unchecked, rewrapped.residue), (0, vec![]), "{stored}");
                outcomes.push(rewrapped.outcome);
            }
        }
        outcomes
    }
}

#[derive(Default)]
struct Failures(Mutex<Vec<(ErrorKind, String)>>);

impl Observer for Failures {
    fn event(&self, event: Event<'_>) {
        if let Event::Failed(error) = event {
            let line = format!("{} ({})", error.line(), error.remedy().unwrap_or_default());
            self.0.lock().unwrap().push((error.kind(), line));
        }
    }
}

#[test]
fn the_container_is_under_a_key_of_its_own_and_the_envelope_is_not() {
    let vault = Vault::new(true);
    vault.put("a", "one");
    vault.put("b", &"x".repeat(BIG));
    let mut names = vec![];
    for object in vault.objects() {
        let encryption = vault.encryption(&object);
        if object.key.ends_with(".key.enc") {
            assert_eq!(encryption, None, "{}", object.key);
            continue;
        }
        let (_, bytes) = vault.store.state().get(&object.key, None).unwrap();
        let header = Header::parse(bytes.first_chunk::<HEADER_LEN>().unwrap()).unwrap();
        let Some(Encryption::Customer(key)) = encryption else { panic!("{object:?}") };
        assert_eq!(key.id(), Some(&*header.data_id().to_string()));
        assert_eq!(object.info.unwrap()[DATA_ID_INFO], header.data_id().to_string());
        names.push(key.expose().to_vec());
    }
    assert_eq!(names.len(), 2);
    assert_ne!(names[0], names[1]);
}

#[test]
fn a_key_of_the_service_is_asked_for_both_halves() {
    let vault = Vault::new(true);
    let kms = Encryption::Kms(Some("k".into()));
    assert_eq!(vault.put_as("a", "one", PairEncryption::Both(kms.clone()), IfExists::Fail), [1, 0, 0]);
    assert_eq!(vault.objects().len(), 2);
    assert!(vault.objects().iter().all(|object| vault.encryption(object).as_ref() == Some(&kms)));
    assert_eq!(vault.cat("a", &["old"]).unwrap(), "one");
}

#[test]
fn the_private_key_reads_it_with_and_without_the_hint() {
    let vault = Vault::new(false);
    let big = "0123456789".repeat(BIG / 10);
    vault.put("a", "one");
    vault.put("b", &big);
    for forget in [false, true] {
        if forget {
            vault.forget_hints();
        }
        assert_eq!(vault.cat("a", &["new", "old"]).unwrap(), "one");
        assert_eq!(vault.cat("b", &["old"]).unwrap(), big);
        let range = ByteRange::From(4_000_000, Some(4_000_009));
        let source = Source::new(vault.target("b"));
        assert_eq!(vault.cat_as(&source, Which::Current, &["old"], range).unwrap(), "0123456789");
        let options = GetOptions {
            recipe: Named::default(),
            identities: vault.identities(&["old"]),
            which: Which::Current,
            overwrite: Overwrite::Always,
            filter: Filter::default(),
            strict: true,
            resume: true,
            salvage: false,
            dry_run: false,
            jobs: Some(2),
        };
        let out = vault.place.path("out");
        let summary = get(&[Source::new(vault.target(""))], &out, &options, &Silent).unwrap();
        assert_eq!((summary.done, summary.failed), (2, 0));
        assert_eq!(vault.place.text("out/a"), "one");
        assert!(vault.place.text("out/b") == big);
    }
}

#[test]
fn without_a_key_that_opens_it_the_error_says_what_is_missing() {
    let vault = Vault::new(false);
    vault.put("a", "one");
    let error = vault.cat("a", &["new"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth);
    for says in ["p/a.enc", "with a key of the customer's", "--identity", "--sse-c-key-file"] {
        assert!(error.line().contains(says), "{says}: {error:?}");
    }
    // Another service key than that of the envelope.
    let (_, bytes) = vault.store.state().get("p/a.enc", None).unwrap();
    let encryption = Some(Encryption::Customer(CustomerKey::new(&[9; 32], None)));
    let options = sidekey::store::PutOptions { encryption, ..sidekey::store::PutOptions::default() };
    vault.store.put("p/a.enc", bytes, &options).now_or_never().unwrap().unwrap();
    assert_eq!(vault.cat("a", &["old"]).unwrap_err().kind(), ErrorKind::Auth);
}

#[test]
fn every_version_is_read_with_its_own_key() {
    let vault = Vault::new(true);
    for contents in ["one", "two", "three"] {
        vault.put("a", contents);
    }
    let containers: Vec<Object> =
        vault.objects().into_iter().filter(|object| object.key == "p/a.enc").collect();
    let source = Source::new(vault.target("a"));
    for (object, contents) in containers.iter().zip(["three", "two", "one"]) {
        let which = Which::Version(object.version.clone());
        assert_eq!(vault.cat_as(&source, which, &["old"], ByteRange::All).unwrap(), contents);
    }
}

#[test]
fn one_key_for_all_files_reads_and_writes() {
    let vault = Vault::new(true);
    let fixed = PairEncryption::Customer(Some(CustomerKey::new(&[5; 32], None)));
    assert_eq!(vault.put_as("a", "one", fixed.clone(), IfExists::Fail), [1, 0, 0]);
    assert_eq!(vault.put_as("b", "two", fixed, IfExists::Fail), [1, 0, 0]);
    let mut ids = vec![];
    for object in vault.objects().iter().filter(|object| !object.key.ends_with(".key.enc")) {
        let Some(Encryption::Customer(key)) = vault.encryption(object) else { panic!("{object:?}") };
        assert_eq!(key.expose(), &[5; 32]);
        ids.push(key.id().unwrap().to_owned());
    }
    assert_ne!(ids[0], ids[1], "each has a name of its own");
    assert_eq!(vault.cat("a", &["old"]).unwrap_err().kind(), ErrorKind::Auth, "it is in no envelope");
    for (seed, read) in [(5, Some("one")), (6, None)] {
        let source = Source::new(Target::new(vault.with_key(seed), b"a").unwrap());
        let said = vault.cat_as(&source, Which::Current, &["old"], ByteRange::All);
        assert_eq!(said.ok().as_deref(), read);
    }
}

#[test]
fn rewrapping_copies_nothing_and_moves_the_key_too() {
    let vault = Vault::new(true);
    vault.put("a", "one");
    vault.put("a", "two");
    let before: Vec<Object> = vault.objects().into_iter().filter(|object| object.key == "p/a.enc").collect();
    assert_eq!(vault.rewrap(), [RewrapOutcome::Rewrapped, RewrapOutcome::Rewrapped]);
    let after: Vec<Object> = vault.objects().into_iter().filter(|object| object.key == "p/a.enc").collect();
    assert_eq!(after, before);
    for envelope in vault.envelopes() {
        let (_, text) = vault.store.state().get(&envelope.key, None).unwrap();
        assert_eq!(Envelope::parse(&text).unwrap().entries().count(), 1);
    }
    assert_eq!(vault.cat("a", &["new"]).unwrap(), "two");
    assert_eq!(vault.cat("a", &["old"]).unwrap_err().kind(), ErrorKind::Auth);
    let source = Source::new(vault.target("a"));
    let which = Which::Version(before[1].version.clone());
    assert_eq!(vault.cat_as(&source, which, &["new"], ByteRange::All).unwrap(), "one");
    let summary = audit(&vault.target(""), &Subject::Keys(vault.identities(&["old"])), 2, &Silent).unwrap();
    assert_eq!((summary.audited, summary.opened, summary.unknown, summary.failed), (2, 0, 0, 0));
}

#[test]
fn what_has_the_name_is_known_to_be_ours_without_its_key() {
    for forget in [false, true] {
        let vault = Vault::new(false);
        vault.put("a", "one");
        if forget {
            vault.forget_hints();
        }
        let again = |if_exists| vault.put_as("a", "two", PairEncryption::Customer(None), if_exists);
        assert_eq!(again(IfExists::Skip), [0, 1, 0]);
        assert_eq!(again(IfExists::Fail), [0, 0, 1]);
        assert_eq!(vault.cat("a", &["old"]).unwrap(), "one");
        assert_eq!(again(IfExists::Replace), [1, 0, 0]);
        assert_eq!(vault.cat("a", &["old"]).unwrap(), "two");
    }
    // Somebody else's, of which nothing says that it is ours.
    let vault = Vault::new(false);
    let encryption = Some(Encryption::Customer(CustomerKey::new(&[9; 32], None)));
    let options = sidekey::store::PutOptions { encryption, ..sidekey::store::PutOptions::default() };
    vault.store.put("p/a.enc", "theirs".into(), &options).now_or_never().unwrap().unwrap();
    assert_eq!(vault.put_as("a", "two", PairEncryption::Customer(None), IfExists::Replace), [0, 0, 1]);
    // Nor do the envelopes that were written before the name turned out to be taken.
    for _ in 0..2 {
        assert_eq!(vault.put_as("a", "two", PairEncryption::ByDefault, IfExists::Replace), [0, 0, 1]);
    }
    assert_eq!(vault.envelopes().len(), 2);
    for encryption in [PairEncryption::Customer(None), PairEncryption::Cleartext] {
        assert_eq!(vault.put_as("a", "two", encryption, IfExists::Replace), [0, 0, 1]);
    }
    assert_eq!(vault.envelopes().len(), 2);
    assert_eq!(vault.store.state().get("p/a.enc", None).unwrap().1, "theirs");
}

#[test]
fn verifying_needs_the_key_for_more_than_names() {
    let vault = Vault::new(true);
    vault.put("a", "one");
    vault.put("b", "two");
    let summary = vault.verify(Level::Full, &["old"]);
    assert_eq!((summary.ok, summary.deep, summary.unchecked, summary.failed), (2, 2, 0, 0));
    let summary = vault.verify(Level::Pairs, &[]);
    assert_eq!((summary.ok, summary.unchecked, summary.damaged, summary.no_container), (0, 2, 0, 0));
    let summary = vault.verify(Level::Pairs, &["old"]);
    assert_eq!((summary.ok, summary.unchecked), (2, 0));
    // An envelope that is gone is missed without any key.
    let lost = vault.envelopes().remove(0);
    vault.store.state().delete(&lost.key, &lost.version);
    let summary = vault.verify(Level::Pairs, &[]);
    assert_eq!((summary.no_envelope, summary.unchecked), (1, 1));
}

#[test]
fn listings_say_whom_it_is_for_without_a_key() {
    let vault = Vault::new(false);
    vault.put("a", "one");
    let mut lines = vec![];
    let options = LsOptions { long: true, ..LsOptions::default() };
    ls(&vault.target(""), options, &mut |line| lines.push(line.unwrap())).unwrap();
    assert_eq!(lines.len(), 1);
    assert!(lines[0].problem.is_none(), "{:?}", lines[0]);
    assert_eq!(lines[0].recipients, [vault.place.public("old").id()]);
    assert_eq!(lines[0].size, None);
}

#[test]
fn nothing_is_deleted_because_its_container_cannot_be_read() {
    for versions in [false, true] {
        for forget in [false, true] {
            let vault = Vault::new(versions);
            vault.put("a", "one");
            if forget {
                vault.forget_hints();
            }
            vault.store.state().advance(DAY * 100);
            let now = || {
                let mut state = vault.store.state();
                state.put("clock", "x".into(), &OnlyIf::Always, &sidekey::store::Info::new()).unwrap();
                let (object, _) = state.get("clock", None).unwrap();
                state.delete("clock", &object.version);
                object.modified
            };
            let clean = || {
                let options = CleanOptions { age: DAY * 30, now: now() };
                plan(&vault.target(""), options, &Silent).unwrap().clean(&mut |_, _| {}).unwrap()
            };
            assert_eq!(clean().envelopes, 0);
            assert_eq!(vault.cat("a", &["old"]).unwrap(), "one");

            let options = RemoveOptions {
                recursive: false,
                versions: false,
                filter: Filter::default(),
                dry_run: false,
                jobs: 1,
                now: now(),
            };
            let summary = remove(&[Source::new(vault.target("a"))], &options, &Silent).unwrap();
            assert_eq!((summary.hidden + summary.removed, summary.failed), (1, 0), "{summary:?}");
            // What is hidden is still there, and so is its key; what is gone lets it go once that can be told.
            vault.store.state().advance(DAY * 100);
            let cleaned = clean();
            match versions {
                true => assert_eq!((cleaned.envelopes, vault.envelopes().len()), (0, 1)),
                false => assert_eq!(vault.envelopes(), vec![]),
            }
        }
    }
}
