//! Whatever is done through faults at random ends as it ends without them: no byte lost, none twice.

use std::time::Duration;

use futures_util::StreamExt as _;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use sidekey::store::faulty::Fault;
use sidekey::store::memory::{Features, MemoryStore};
use sidekey::store::retry::Policy;
use sidekey::store::{GetOptions, Info, ListOptions, Listed, OnlyIf, PutOptions, Store, VersionId};
use sidekey::{Error, ErrorKind, Result};

use crate::store_suite::faults::{ALL_FEATURES, FAULTS, Layers, layers_by, leaves_no_trace};
use crate::store_suite::{block_on, bytes_of, info, noise};

const KEYS: [&str; 5] = ["a", "a-b", "a/b", "a/c", "b"];

#[derive(Clone, Debug)]
enum Action {
    Put { key: usize, seed: u64, size: usize, when: When },
    Upload { key: usize, seed: u64, parts: usize, when: When, abort: bool },
    Get { key: usize, version: Option<usize>, range: Option<(u64, u64)> },
    Delete { key: usize, version: usize },
    Hide { key: usize },
    Copy { key: usize, version: Option<usize>, to: usize },
    List { delimiter: bool, versions: bool, after: Option<usize> },
}

#[derive(Clone, Copy, Debug)]
enum When {
    Always,
    Absent,
    /// Of so many versions, which one.
    Version(usize),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let key = 0..KEYS.len();
    let version = || prop::option::of(0usize..4);
    let when = || prop_oneof![2 => Just(When::Always), 1 => Just(When::Absent), 2 => (0usize..3).prop_map(When::Version)];
    let action = prop_oneof![
        4 => (key.clone(), any::<u64>(), 0usize..5000, when())
            .prop_map(|(key, seed, size, when)| Action::Put { key, seed, size, when }),
        2 => (key.clone(), any::<u64>(), 1usize..5, when(), prop::bool::weighted(0.2))
            .prop_map(|(key, seed, parts, when, abort)| Action::Upload { key, seed, parts, when, abort }),
        3 => (key.clone(), version(), prop::option::of((0u64..6000, 0u64..6000)))
            .prop_map(|(key, version, range)| Action::Get { key, version, range }),
        2 => (key.clone(), 0usize..3).prop_map(|(key, version)| Action::Delete { key, version }),
        1 => key.clone().prop_map(|key| Action::Hide { key }),
        1 => (key.clone(), version(), key.clone()).prop_map(|(key, version, to)| Action::Copy { key, version, to }),
        2 => (any::<bool>(), any::<bool>(), prop::option::of(key))
            .prop_map(|(delimiter, versions, after)| Action::List { delimiter, versions, after }),
    ];
    prop::collection::vec(action, 1..40)
}

type Digest = [u8; 32];

/// What came of an action, without what differs from store to store.
type Outcome = std::result::Result<String, ErrorKind>;

/// The ids of a key's versions, newest first, as they are in the store below.
fn ids(memory: &MemoryStore, key: &str) -> Vec<VersionId> {
    let options = ListOptions { prefix: key.to_owned(), versions: true, ..ListOptions::default() };
    let listed = memory.state().list(&options);
    let id = |listed| match listed {
        Listed::Object(object) if object.key == key => Some(object.version),
        _ => None,
    };
    listed.into_iter().filter_map(id).collect()
}

fn is_hidden(memory: &MemoryStore, key: &str) -> bool {
    ids(memory, key).first().is_some_and(|newest| memory.state().get(key, Some(newest)).is_err())
}

fn options(memory: &MemoryStore, key: &str, seed: u64, when: When) -> PutOptions {
    let only_if = match when {
        When::Always => OnlyIf::Always,
        When::Absent => OnlyIf::Absent,
        When::Version(which) => match ids(memory, key).get(which) {
            Some(version) => OnlyIf::Version(version.clone()),
            None => OnlyIf::Absent,
        },
    };
    PutOptions { only_if, info: info(&[("seed", &seed.to_string())]), size: None, ..PutOptions::default() }
}

async fn act(store: &dyn Store, memory: &MemoryStore, action: &Action) -> Outcome {
    let shown = match *action {
        Action::Put { key, seed, size, when } => {
            let options = options(memory, KEYS[key], seed, when);
            store.put(KEYS[key], noise(seed, size), &options).await.map(|_| "put".to_owned())
        }
        Action::Upload { key, seed, parts, when, abort } => {
            let options = options(memory, KEYS[key], seed, when);
            upload(store, KEYS[key], (seed, parts), &options, abort).await
        }
        Action::Get { key, version, range } => {
            let version = version.map(|which| ids(memory, KEYS[key]).get(which).cloned().unwrap_or_default());
            let range = range.map(|(start, end)| start..end);
            get(store, KEYS[key], GetOptions { version, range, ..GetOptions::default() }).await
        }
        Action::Delete { key, version } => match ids(memory, KEYS[key]).get(version) {
            Some(version) => store.delete(KEYS[key], version).await.map(|()| "deleted".to_owned()),
            None => Ok("nothing to delete".to_owned()),
        },
        // Who asks again after a lost answer takes a marker that is there for his own.
        Action::Hide { key } if is_hidden(memory, KEYS[key]) => Ok("hidden already".to_owned()),
        Action::Hide { key } => store.hide(KEYS[key]).await.map(|_| "hidden".to_owned()),
        Action::Copy { key, version, to } => {
            let version = version.map(|which| ids(memory, KEYS[key]).get(which).cloned().unwrap_or_default());
            let options = PutOptions::default();
            store.copy(KEYS[key], version.as_ref(), KEYS[to], &options).await.map(|_| "copied".to_owned())
        }
        Action::List { delimiter, versions, after } => {
            let after = after.map(|key| KEYS[key].to_owned());
            list(store, ListOptions { prefix: String::new(), delimiter, versions, after }).await
        }
    };
    shown.map_err(|error: Error| error.kind())
}

async fn upload(
    store: &dyn Store,
    key: &str,
    (seed, parts): (u64, usize),
    options: &PutOptions,
    abort: bool,
) -> Result<String> {
    let upload = store.upload(key, options).await?;
    for number in 1..=parts {
        upload.part(number as u32, noise(seed + number as u64, 300)).await?;
    }
    match abort {
        true => upload.abort().await.map(|()| "aborted".to_owned()),
        false => upload.complete(parts as u32).await.map(|_| "completed".to_owned()),
    }
}

async fn get(store: &dyn Store, key: &str, options: GetOptions) -> Result<String> {
    let download = store.get(key, &options).await?;
    let object = download.object;
    let bytes = bytes_of(download.body).await?;
    let digest = Sha256::digest(&bytes);
    Ok(format!(
        "{} {} {} {:?} {} {digest:x?}",
        object.key,
        object.size,
        object.latest,
        object.info,
        bytes.len()
    ))
}

async fn list(store: &dyn Store, options: ListOptions) -> Result<String> {
    let mut lines = String::new();
    let mut listed = store.list(options);
    while let Some(listed) = listed.next().await.transpose()? {
        let line = match listed {
            Listed::Folder(folder) => folder,
            Listed::Object(object) => {
                format!(
                    "{} {} {} {} {:?}",
                    object.key, object.size, object.latest, object.marker, object.info
                )
            }
        };
        lines = format!("{lines}{line}\n");
    }
    Ok(lines)
}

/// Everything that is kept, oldest last, without ids.
fn contents(memory: &MemoryStore) -> Vec<(String, bool, Info, Digest)> {
    let mut found = Vec::new();
    for key in KEYS {
        for version in ids(memory, key) {
            let kept = memory.state().get(key, Some(&version));
            found.push(match kept {
                Ok((object, bytes)) => {
                    (object.key, object.latest, object.info.unwrap_or_default(), Sha256::digest(bytes).into())
                }
                Err(_) => (key.to_owned(), false, info(&[("marker", "")]), Digest::default()),
            });
        }
    }
    found
}

/// So many calls of a hundred fail, in all ways that leave no trace.
fn faults(layers: &Layers, features: Features, mut chance: u64, often: u64) {
    layers.faulty.plan(move |call| {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        let fault: Fault = FAULTS[(chance >> 40) as usize % FAULTS.len()];
        ((chance >> 20) % 100 < often && leaves_no_trace(fault, call, features)).then_some(fault)
    });
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        max_shrink_iters: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn faults_change_nothing(
        actions in actions(),
        which in 0..ALL_FEATURES.len(),
        chance in 1u64..,
        often in prop_oneof![Just(5u64), Just(25), Just(50)],
        page in 2usize..6,
    ) {
        let features = ALL_FEATURES[which];
        let quiet = MemoryStore::new(features);
        // The versions of one key have to be listed in one go, which may take many tries of small pages.
        let policy = Policy { total: Duration::MAX, tries: u32::MAX, ..Policy::default() };
        let layers = layers_by(features, page, policy);
        faults(&layers, features, chance, often);
        block_on(async {
            for action in &actions {
                let expected = act(&quiet, &quiet, action).await;
                let found = act(&layers.retry, &layers.memory, action).await;
                prop_assert_eq!(&found, &expected, "{:?} {:?}", features, action);
                prop_assert_eq!(contents(&layers.memory), contents(&quiet), "{:?}", action);
            }
            Ok(())
        })?;
    }
}
