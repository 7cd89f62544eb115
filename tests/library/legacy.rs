//! Key files of the OpenSSL recipe on a store: whatever call a rotation ends with, every version of the container still opens,
//! and the next run leaves nothing for the old key.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::{FutureExt as _, TryStreamExt as _};
use sidekey::crypto::recipe::{Kdf, derive};
use sidekey::format::Envelope;
use sidekey::keys::{KeyFile as Pem, PrivateKey, PublicKey};
use sidekey::location::Location;
use sidekey::location::argument::Target;
use sidekey::location::recipe::{find_key, sample};
use sidekey::ops::events::{Event, Observer};
use sidekey::ops::rotate::{Prove, RotateOptions, RotateSummary, rotate};
use sidekey::recipe::{
    ContainerEncoding, KeyFile, KeyFileForm, Named, PasswordBlock, Reader, Settler, detect_key_file, encrypt,
};
use sidekey::rewrap::Rotation;
use sidekey::store::faulty::{Fault, Faulty};
use sidekey::store::memory::{Features, MemoryStore, State};
use sidekey::store::{GetOptions, Info, ListOptions, Listed, Object, OnlyIf, Store};
use sidekey::{ErrorKind, Result};

const NAMED: Named = Named { kdf: Some(Kdf::EvpSha256), reading: None };
const UPLOADS: usize = 3;

fn key(name: &str) -> PrivateKey {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/keys").join(name);
    Pem::parse(&std::fs::read(path).unwrap()).unwrap().open(None).unwrap()
}

fn old() -> PrivateKey {
    key("pkcs8.pem")
}

fn new() -> PrivateKey {
    key("c-worked-example.pem")
}

fn public(key: &PrivateKey) -> PublicKey {
    PublicKey::from_pem(key.public().to_pem().as_bytes()).unwrap()
}

fn contents(upload: usize) -> Vec<u8> {
    vec![upload as u8; 6000 * upload + 4]
}

/// A script stored the same file again and again; where the store keeps no versions, the last upload is there.
fn uploaded(features: Features) -> State {
    let mut state = State::new(features);
    let mut put = |name: &str, bytes: Vec<u8>| {
        state.put(name, Bytes::from(bytes), &OnlyIf::Always, &Info::new()).unwrap();
    };
    for upload in 0..UPLOADS {
        let password = format!("the password of upload {upload}");
        let salt = [upload as u8; 8];
        let mut container = Vec::new();
        let derived = derive(Kdf::EvpSha256, password.as_bytes(), &salt);
        let encoding = ContainerEncoding::Base64Wrapped;
        encrypt(&contents(upload)[..], &derived, &salt, encoding, &mut container).unwrap();
        let block = PasswordBlock::from_bytes(format!("{password}\n").into_bytes());
        let key_file = KeyFile::wrap(&block, &public(&old()), KeyFileForm::Raw).unwrap().encode();
        put("p/x.enc", container);
        put("p/x.key.enc", key_file);
    }
    state
}

fn location(store: impl Store + 'static) -> Location {
    Location::new(Arc::new(store), "p").unwrap()
}

fn run(store: impl Store + 'static, adopt: bool) -> Result<RotateSummary> {
    let rotation = Rotation::new(vec![old()], vec![public(&new())]).unwrap();
    let options = RotateOptions {
        range: &Default::default(),
        rotation: &rotation,
        dry_run: false,
        purge: true,
        compare: true,
        adopt,
        recipe: NAMED,
        jobs: 1,
        prove: Prove::All,
        seed: [0; 16],
        now: SystemTime::UNIX_EPOCH,
        journal: None,
        ledger: None,
    };
    let said = Said::default();
    let summary = rotate(&Target::new(location(store), b"").unwrap(), &options, &said);
    let said = said.0.into_inner().unwrap();
    if let Some(summary) = summary.as_ref().ok().filter(|summary| summary.residue + summary.failed > 0) {
        println!("{summary:?}: {said:?}");
    }
    summary
}

/// What was warned of.
#[derive(Default)]
struct Said(Mutex<Vec<String>>);

impl Observer for Said {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Warning { message, .. } => self.0.lock().unwrap().push(message.to_owned()),
            Event::Failed(error) => self.0.lock().unwrap().push(error.line()),
            _ => {}
        }
    }
}

fn objects(store: &MemoryStore) -> Vec<Object> {
    let options = ListOptions { versions: true, ..ListOptions::default() };
    let listed: Vec<Listed> = store.list(options).try_collect().now_or_never().unwrap().unwrap();
    let object = |listed| if let Listed::Object(object) = listed { Some(object) } else { None };
    listed.into_iter().filter_map(object).collect()
}

/// Every version of the container opens with these keys, and the current one with what is current.
fn check(store: &MemoryStore, identities: &[PrivateKey], context: &str) {
    let location = location(store.clone());
    let containers: Vec<Object> =
        objects(store).into_iter().filter(|object| object.key == "p/x.enc").collect();
    for (back, object) in containers.iter().enumerate() {
        let found = async {
            let sample = sample(&location, object).await?;
            find_key(&location, object, false, &sample, identities, &Settler::new(NAMED)).await
        };
        let found = found.now_or_never().unwrap();
        let found = found.unwrap_or_else(|error| panic!("{back} back: {error:?}: {context}"));
        let (_, bytes) = store.state().get(&object.key, Some(&object.version)).unwrap();
        let mut plain = Vec::new();
        Reader::new(&bytes[..]).unwrap().decrypt(&found.key, &mut plain).unwrap();
        assert!(plain == contents(UPLOADS - 1 - back), "{back} back: {context}");
    }
}

/// How many versions of envelopes and key files a key opens.
fn opened(store: &MemoryStore, key: &PrivateKey) -> usize {
    let opens = |object: &Object| {
        let (_, bytes) = store.state().get(&object.key, Some(&object.version)).unwrap();
        match (detect_key_file(&bytes), Envelope::parse(&bytes)) {
            (Some(key_file), _) => {
                key_file.open([key]).is_ok_and(|blocks| blocks.iter().any(PasswordBlock::is_text))
            }
            (None, Ok(envelope)) => sidekey::rewrap::opens(key, &envelope),
            (None, Err(_)) => false,
        }
    };
    objects(store).iter().filter(|object| opens(object)).count()
}

#[test]
fn whatever_call_is_the_last_no_version_is_lost_and_the_next_run_ends_it() {
    let mut stops = 0;
    for features in
        [Features { versions: true, conditions: false }, Features { versions: true, conditions: true }]
    {
        let state = uploaded(features);
        for adopt in [false, true] {
            'calls: for number in 1.. {
                for fault in [Fault::Before(ErrorKind::Transient), Fault::After(ErrorKind::Unsure)] {
                    let store = MemoryStore::from_state(state.clone());
                    let faulty = Faulty::new(Arc::new(store.clone()) as Arc<dyn Store>);
                    faulty.die_at(number, fault);
                    let done = run(faulty.clone(), adopt);
                    if faulty.calls() < number {
                        break 'calls;
                    }
                    stops += 1;
                    let context = format!("{features:?} adopt {adopt} {fault:?} at {number}: {done:?}");
                    check(&store, &[old(), new()], &context);
                    let again = run(store.clone(), adopt).unwrap();
                    assert_eq!((again.residue, again.failed), (0, 0), "{again:?}: {context}");
                    check(&store, &[new()], &context);
                    assert_eq!(opened(&store, &old()), 0, "{context}");
                    let current = store.get("p/x.key.enc", &GetOptions::default()).now_or_never().unwrap();
                    assert_eq!(current.is_ok(), !adopt, "{context}");
                }
            }
        }
    }
    println!("{stops} stops");
    assert!(stops > 100, "{stops}");
}

#[test]
fn a_container_that_cannot_be_read_keeps_every_key_file() {
    let state = uploaded(Features { versions: true, conditions: false });
    let store = MemoryStore::from_state(state);
    let first = objects(&store).into_iter().rfind(|object| object.key == "p/x.enc").unwrap();
    // Its bytes may be of any upload whose key file is there.
    store.state().delete("p/x.enc", &first.version);
    store.state().put("p/x.enc", Bytes::from_static(b"Salted__cut"), &OnlyIf::Always, &Info::new()).unwrap();
    let summary = run(store.clone(), true).unwrap();
    assert_eq!((summary.purged, opened(&store, &old())), (0, UPLOADS), "{summary:?}");
    assert_eq!(summary.residue, 3, "{summary:?}");
}
