//! What commands ask of the credentials and of names before they do anything.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use sidekey::format::section::DigestKind;
use sidekey::location::Location;
use sidekey::location::argument::Target;
use sidekey::location::customer::PairEncryption;
use sidekey::location::drive::IfExists;
use sidekey::ops::audit::{Subject, audit};
use sidekey::ops::cat::{ByteRange, CatOptions, cat};
use sidekey::ops::clean::{CleanOptions, plan};
use sidekey::ops::events::{Event, Observer, Silent};
use sidekey::ops::filter::Filter;
use sidekey::ops::get::{GetOptions, Overwrite, Source, Which, get};
use sidekey::ops::ls::{LsOptions, ls};
use sidekey::ops::put::{self, PutOptions};
use sidekey::ops::remove::{RemoveOptions, remove};
use sidekey::ops::verify::{Level, VerifyOptions, verify};
use sidekey::recipe::Named;
use sidekey::store::layer::Layer;
use sidekey::store::memory::{Features, MemoryStore};
use sidekey::store::{self, Right, Store, Upload, Written};
use sidekey::{Error, ErrorKind, Result};

use crate::common::Place;

/// A store whose credentials lack one right, and whose names hold no `#`. It notes what is asked and what is sent.
#[derive(Clone, Debug)]
struct Bound {
    inner: MemoryStore,
    lacks: Option<Right>,
    asked: Arc<Mutex<Vec<String>>>,
    written: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Layer for Bound {
    fn below(&self) -> &dyn Store {
        &self.inner
    }

    async fn put(&self, key: &str, body: Bytes, options: &store::PutOptions) -> Result<Written> {
        self.written.lock().unwrap().push(key.to_owned());
        self.inner.put(key, body, options).await
    }

    async fn upload(&self, key: &str, options: &store::PutOptions) -> Result<Box<dyn Upload>> {
        self.written.lock().unwrap().push(key.to_owned());
        self.inner.upload(key, options).await
    }

    fn check_key(&self, key: &str) -> Result<()> {
        match key.contains('#') {
            true => Err(Error::input("a # is not possible there").about(key).hint("rename it")),
            false => Ok(()),
        }
    }

    async fn require(&self, prefix: &str, rights: &[Right]) -> Result<()> {
        self.asked.lock().unwrap().push(format!("{prefix} {rights:?}"));
        match self.lacks.filter(|lacks| rights.contains(lacks)) {
            Some(lacks) => Err(Error::new(ErrorKind::Permission, format!("{lacks:?} is missing"))),
            None => Ok(()),
        }
    }
}

struct Vault {
    place: Place,
    store: Bound,
}

impl Vault {
    fn new(versions: bool, lacks: Option<Right>) -> Self {
        let place = Place::with_keys();
        place.mkdir("in");
        place.write("in/a", "one");
        let inner = MemoryStore::new(Features { versions, conditions: true });
        let store = Bound { inner, lacks, asked: Arc::default(), written: Arc::default() };
        Self { place, store }
    }

    fn location(&self) -> Location {
        Location::new(Arc::new(self.store.clone()), "p").unwrap()
    }

    fn source(&self, path: &str) -> Source {
        Source::new(Target::new(self.location(), path.as_bytes()).unwrap())
    }

    /// What was asked since the last time.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.store.asked.lock().unwrap())
    }

    fn put(&self, if_exists: IfExists, dry_run: bool, observer: &dyn Observer) -> Result<u64> {
        let options = PutOptions {
            journals: None,
            location: self.location(),
            target: put::Target::Below(vec![b"d".to_vec()]),
            except: None,
            recipients: vec![self.place.public("old")],
            if_exists,
            filter: Filter::default(),
            exclude_caches: false,
            one_file_system: false,
            follow: false,
            folder_metadata: false,
            digest: DigestKind::Sha256,
            encryption: PairEncryption::ByDefault,
            jobs: 1,
            dry_run,
            now: SystemTime::UNIX_EPOCH,
        };
        let inputs = std::fs::read_dir(self.place.path("in")).unwrap().map(|entry| entry.unwrap().path());
        put::put(&inputs.collect::<Vec<_>>(), &options, observer).map(|summary| summary.done)
    }

    /// Every other command on `d/a`, as far as it comes.
    fn command(&self, name: &str) -> Result<()> {
        let (source, target) = (self.source("d/a"), Target::new(self.location(), b"d/a").unwrap());
        let identities = || vec![self.place.private("old")];
        let filter = Filter::default;
        let which = Which::Current;
        let clean = CleanOptions { age: Duration::from_secs(1), now: SystemTime::UNIX_EPOCH };
        match name {
            "get" => {
                let options = GetOptions {
                    recipe: Named::default(),
                    identities: identities(),
                    which,
                    overwrite: Overwrite::Always,
                    filter: filter(),
                    strict: false,
                    resume: false,
                    salvage: false,
                    dry_run: false,
                    jobs: Some(1),
                };
                get(&[source], &self.place.path("out"), &options, &Silent).map(drop)
            }
            "cat" => {
                let range = ByteRange::All;
                let options = CatOptions {
                    identities: identities(),
                    which,
                    range,
                    strict: false,
                    recipe: Named::default(),
                    jobs: 1,
                };
                cat(&[source], &options, &mut std::io::sink(), &Silent).map(drop)
            }
            "ls" => ls(&target, LsOptions::default(), &mut |_| {}).map(drop),
            "rm" => {
                let now = SystemTime::UNIX_EPOCH;
                let (recursive, versions, dry_run, jobs) = (false, false, false, 1);
                let options = RemoveOptions { recursive, versions, filter: filter(), dry_run, jobs, now };
                remove(&[source], &options, &Silent).map(drop)
            }
            "verify" => {
                let options = VerifyOptions {
                    recipe: Named::default(),
                    level: Level::Pairs,
                    sample: None,
                    versions: false,
                    identities: vec![],
                    against: None,
                    strict: false,
                    jobs: 1,
                };
                verify(&target, &options, &Silent).map(drop)
            }
            "audit" => audit(&target, &Subject::Label("0".into()), 1, &Silent).map(drop),
            "clean" => plan(&self.source("d/").folder, clean, &Silent)?.clean(&mut |_, _| {}).map(drop),
            _ => panic!("{name}"),
        }
    }
}

#[test]
fn each_command_asks_for_what_it_needs_before_it_begins() {
    let vault = Vault::new(true, None);
    for (if_exists, dry_run, asked) in [
        (IfExists::Skip, true, "p/d/ [List]"),
        (IfExists::Replace, false, "p/d/ [Write]"),
        (IfExists::Skip, false, "p/d/ [Write, List]"),
    ] {
        vault.put(if_exists, dry_run, &Silent).unwrap();
        assert_eq!(vault.asked(), [asked]);
    }
    for (name, asked) in [
        ("get", &["p/d/a [List, Read]"][..]),
        ("cat", &["p/d/a [List, Read]"]),
        ("ls", &["p/d/a [List]"]),
        ("verify", &["p/d/a [List, Read]"]),
        ("audit", &["p/d/a [List, Read]"]),
        ("clean", &["p/d/ [List, Read]", "p/d/ [Write, Delete]"]),
        ("rm", &["p/d/a [List, Write]"]),
    ] {
        vault.command(name).unwrap();
        assert_eq!(vault.asked(), asked, "{name}");
    }
    let vault = Vault::new(false, None);
    vault.put(IfExists::Replace, false, &Silent).unwrap();
    vault.command("rm").unwrap();
    assert_eq!(vault.asked()[1..], ["p/d/a [List, Delete]"]);
}

#[test]
fn a_right_that_is_missing_ends_a_command_before_anything_is_done() {
    for (lacks, commands) in [
        (Right::List, &["get", "cat", "ls", "rm", "verify", "audit", "clean"][..]),
        (Right::Read, &["get", "cat", "verify", "audit", "clean"]),
        (Right::Delete, &["rm", "clean"]),
    ] {
        let mut vault = Vault::new(false, None);
        vault.put(IfExists::Replace, false, &Silent).unwrap();
        vault.store.lacks = Some(lacks);
        let before = vault.store.inner.state().clone();
        for name in commands {
            let error = vault.command(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Permission, "{name}: {error:?}");
            assert_eq!(error.line(), format!("{lacks:?} is missing"), "{name}");
        }
        assert_eq!(*vault.store.inner.state(), before, "{lacks:?}");
    }
    let vault = Vault::new(false, Some(Right::Write));
    assert_eq!(vault.put(IfExists::Replace, false, &Silent).unwrap_err().kind(), ErrorKind::Permission);
    assert_eq!(*vault.store.written.lock().unwrap(), [""; 0]);
}

#[test]
fn a_name_that_the_store_forbids_is_refused_before_anything_is_sent_for_it() {
    struct Failed(Mutex<Vec<String>>);
    impl Observer for Failed {
        fn event(&self, event: Event<'_>) {
            if let Event::Failed(error) = event {
                self.0.lock().unwrap().push(format!("{} ({})", error.line(), error.remedy().unwrap()));
            }
        }
    }
    let vault = Vault::new(false, None);
    vault.place.write("in/b#", "two");
    let failed = Failed(Mutex::default());
    assert_eq!(vault.put(IfExists::Replace, false, &failed).unwrap(), 1);
    let file = vault.place.path("in/b#").display().to_string();
    let says = "cannot be called so in the location: a # is not possible there (rename it)";
    assert_eq!(*failed.0.lock().unwrap(), [format!("{file}: {says}")]);
    let written = vault.store.written.lock().unwrap();
    assert_eq!(written.len(), 2);
    assert!(written.iter().all(|key| !key.contains('#')), "{written:?}");
}
