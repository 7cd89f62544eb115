//! What every store has to do, one scenario a function. With `#[macro_use] mod store_suite;`, `store_suite!(name, make)`
//! runs them all on a store.
//!
//! A scenario asks the store for its capabilities and holds it to the documented behaviour for either answer. `make`
//! gives the store and whatever has to live as long as it does; each scenario has a prefix of its own and leaves
//! nothing behind below it, so that a store of the network can be shared.
#![allow(dead_code, unused_imports, unused_macros, reason = "every test file uses its own part of this")]

mod conditions;
mod encryption;
pub(crate) mod faults;
mod listing;
mod objects;
mod uploads;
mod versions;

use std::future::Future;
use std::io::Read as _;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::LocalBoxFuture;
use futures_util::stream;
use sidekey::store::{
    Body, GetOptions, Info, ListOptions, Listed, Object, OnlyIf, PutOptions, Store, Unfinished, VersionId,
};
use sidekey::{ErrorKind, Result};
use tokio::runtime::{Builder, Runtime};

/// One scenario on a store, with all its keys below the prefix, which ends in `/`.
pub(crate) type Scenario = for<'a> fn(&'a dyn Store, &'a str) -> LocalBoxFuture<'a, ()>;

/// The scenarios of all files, with a function that names them all and a macro that makes a test of each.
macro_rules! scenarios {
    ($dollar:tt $($file:ident: $($scenario:ident)*;)*) => {
        $(pub(crate) use $file::{$($scenario),*};)*

        /// Every scenario with its name.
        pub(crate) fn scenarios() -> Vec<(&'static str, Scenario)> {
            vec![$($((stringify!($scenario), |store, prefix| Box::pin($scenario(store, prefix)))),*),*]
        }

        /// Makes a module of tests, one a scenario, on the store that `make()` gives beside what has to live with it.
        macro_rules! store_suite {
            ($dollar name:ident, $dollar make:expr) => {
                mod $dollar name {
                    #[allow(unused_imports, reason = "the expression may name things of the file")]
                    use super::*;
                    $($(
                        #[test]
                        fn $scenario() {
                            let (store, _kept) = $dollar make;
                            crate::store_suite::run(&store, |store, prefix| {
                                Box::pin(crate::store_suite::$scenario(store, prefix))
                            });
                        }
                    )*)*
                }
            };
        }
    };
}

scenarios! { $
    objects: bytes_come_back ranges_are_cut_at_the_end another_write_is_another_version
        what_is_missing_is_not_found info_comes_back unusual_keys_are_kept times_go_forward copies_are_equal
        copies_are_of_one_version what_is_written_is_shown;
    conditions: creating_needs_nothing_there replacing_needs_the_version_there one_of_many_creators_wins
        one_of_many_replacers_wins uploads_are_conditional_when_completed copies_are_conditional;
    versions: a_version_is_deleted_alone what_is_gone_may_be_deleted a_stale_delete_spares_what_came_after
        hiding_keeps_the_versions a_marker_deleted_brings_the_object_back versions_are_listed_newest_first;
    listing: keys_come_in_the_order_of_their_bytes a_prefix_is_plain_text folders_stand_for_what_is_in_them
        lists_begin_after_a_key many_keys_come_in_pages nothing_there_lists_nothing hidden_keys_are_not_listed;
    uploads: one_part_is_an_upload many_parts_are_joined parts_come_in_any_order a_part_may_be_sent_again
        an_aborted_upload_is_gone completing_again_gives_the_same a_missing_part_is_no_object
        unfinished_uploads_are_listed_and_aborted a_dropped_upload_is_no_object
        what_was_there_stays_until_completion an_upload_keeps_info;
    encryption: a_customers_key_is_asked_for an_upload_is_under_a_customers_key
        copies_need_the_keys_of_both_sides versions_have_keys_of_their_own
        a_key_of_the_service_is_no_business_of_readers;
}

/// Runs one scenario below a prefix that no other run has, and deletes what it leaves there.
pub(crate) fn run(store: &dyn Store, scenario: Scenario) {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let prefix = format!("suite-{}-{}/", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
    block_on(async {
        scenario(store, &prefix).await;
        clean_up(store, &prefix).await;
    });
}

/// Polls on this thread, with the timers of a runtime behind it that all tests share.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<Runtime> =
        LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());
    // In a box, so that the compiler has one runtime to translate and not one for each test.
    let future: LocalBoxFuture<'_, T> = Box::pin(future);
    RUNTIME.block_on(future)
}

/// Deletes every version and unfinished upload below a prefix, and looks whether they are gone.
pub(crate) async fn clean_up(store: &dyn Store, prefix: &str) {
    for unfinished in unfinished(store, prefix).await {
        store.abort(&unfinished).await.unwrap();
    }
    let found = versions(store, prefix).await;
    let deletions = found.iter().map(|object| store.delete(&object.key, &object.version));
    let done: Vec<Result<()>> =
        stream::iter(deletions).buffer_unordered(concurrency(store).await).collect().await;
    done.into_iter().collect::<Result<()>>().unwrap();
    assert_eq!(versions(store, prefix).await, []);
    assert_eq!(unfinished(store, prefix).await, []);
}

pub(crate) async fn concurrency(store: &dyn Store) -> usize {
    store.capabilities().await.unwrap().concurrency.max(1)
}

/// Writes in any case.
pub(crate) async fn put(store: &dyn Store, key: &str, body: impl Into<Bytes>) -> VersionId {
    put_if(store, key, body, OnlyIf::Always).await.unwrap()
}

pub(crate) async fn put_if(
    store: &dyn Store,
    key: &str,
    body: impl Into<Bytes>,
    only_if: OnlyIf,
) -> Result<VersionId> {
    let body = body.into();
    let options = PutOptions { only_if, size: Some(body.len() as u64), ..PutOptions::default() };
    store.put(key, body, &options).await.map(|written| written.version)
}

/// The current bytes; nothing when there are none.
pub(crate) async fn read(store: &dyn Store, key: &str) -> Option<Bytes> {
    read_as(store, key, GetOptions::default()).await
}

/// The bytes of one version; nothing when it is not there.
pub(crate) async fn read_version(store: &dyn Store, key: &str, version: &VersionId) -> Option<Bytes> {
    read_as(store, key, GetOptions { version: Some(version.clone()), range: None, ..GetOptions::default() })
        .await
}

pub(crate) async fn read_as(store: &dyn Store, key: &str, options: GetOptions) -> Option<Bytes> {
    match store.get(key, &options).await {
        Ok(download) => Some(bytes_of(download.body).await.unwrap()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => panic!("get {key} {options:?}: {error:?}"),
    }
}

/// All bytes of a body.
pub(crate) async fn bytes_of(body: Body) -> Result<Bytes> {
    let mut bytes = Vec::new();
    match body {
        Body::Stream(mut chunks) => {
            while let Some(chunk) = chunks.next().await {
                bytes.extend_from_slice(&chunk?);
            }
        }
        Body::File(file, left) => {
            file.take(left).read_to_end(&mut bytes).unwrap();
        }
    }
    Ok(bytes.into())
}

/// Whether something is there, as `stat` and `get` agree.
pub(crate) async fn is_there(store: &dyn Store, key: &str) -> bool {
    let stat = match store.stat(key, None).await {
        Ok(object) => Some(object.size),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => panic!("stat {key}: {error:?}"),
    };
    let bytes = read(store, key).await;
    assert_eq!(stat, bytes.map(|bytes| bytes.len() as u64), "stat and get disagree about {key}");
    stat.is_some()
}

pub(crate) async fn list(store: &dyn Store, options: ListOptions) -> Vec<Listed> {
    let listed: Vec<Result<Listed>> = store.list(options).collect().await;
    listed.into_iter().collect::<Result<_>>().unwrap()
}

/// What a list names, `latest` objects as their keys.
pub(crate) async fn names(store: &dyn Store, options: ListOptions) -> Vec<String> {
    let listed = list(store, options).await;
    let name = |listed| match listed {
        Listed::Object(object) => {
            assert!(object.latest && !object.marker, "{object:?}");
            object.key
        }
        Listed::Folder(folder) => folder,
    };
    listed.into_iter().map(name).collect()
}

/// Every version below a prefix, delete markers too.
pub(crate) async fn versions(store: &dyn Store, prefix: &str) -> Vec<Object> {
    let options = ListOptions { prefix: prefix.to_owned(), versions: true, ..ListOptions::default() };
    let object = |listed| match listed {
        Listed::Object(object) => object,
        Listed::Folder(folder) => panic!("{folder} is listed without a delimiter"),
    };
    list(store, options).await.into_iter().map(object).collect()
}

pub(crate) async fn unfinished(store: &dyn Store, prefix: &str) -> Vec<Unfinished> {
    let found: Vec<Result<Unfinished>> = store.unfinished(prefix).collect().await;
    found.into_iter().collect::<Result<_>>().unwrap()
}

/// Bytes that are the same for the same seed, and differ from place to place.
pub(crate) fn noise(seed: u64, len: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    std::iter::repeat_with(byte).take(len).collect::<Vec<u8>>().into()
}

pub(crate) fn info(pairs: &[(&str, &str)]) -> Info {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[track_caller]
pub(crate) fn assert_kind<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind) {
    match result {
        Ok(value) => panic!("{value:?} where {kind:?} was to come"),
        Err(error) => assert_eq!(error.kind(), kind, "{error:?}"),
    }
}
