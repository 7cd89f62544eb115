//! Every kind of fault at the first, middle and last call of every part of the B2 API that an operation uses: it ends
//! right, or with the right kind of error; nothing is lost, nothing is written twice, and no wrong byte is believed.
//!
//! Each operation runs once without faults, which tells what it calls and how often, and once for each fault, with a
//! store that knows nothing yet, so that signing in is among the calls.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::json;
use sidekey::secret::SecretBytes;
use sidekey::store::retry::{Policy, Retry};
use sidekey::store::{GetOptions, Info, ListOptions, Listed, PutOptions, Store, Unfinished, b2};
use sidekey::{ErrorKind, Result};

use crate::server::World;
use crate::store_suite::{block_on, bytes_of};

const PART: usize = 1000;
const PARTS: u32 = 5;
const FILES: usize = 6;
/// So many requests of one operation at a time.
const TASKS: usize = 3;

/// Waits that a test can afford.
fn impatient() -> Policy {
    Policy {
        first: Duration::from_millis(1),
        most: Duration::from_millis(8),
        total: Duration::from_secs(60),
        tries: 8,
        seed: 1,
    }
}

fn open(world: &World) -> Arc<dyn Store> {
    let settings = b2::Settings {
        bucket: world.bucket.clone(),
        key_id: world.key_id.clone(),
        key: SecretBytes::new(world.key.clone().into_bytes()),
        endpoint: Some(world.url.clone()),
        connections: TASKS,
    };
    b2::open(settings).unwrap()
}

fn store(world: &World) -> Arc<dyn Store> {
    Arc::new(Retry::new(open(world), impatient()))
}

/// What happens to a call.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    /// How the operation may end but well.
    may_end: &'static [ErrorKind],
}

const fn kind(name: &'static str, may_end: &'static [ErrorKind]) -> Kind {
    Kind { name, may_end }
}

const KINDS: [Kind; 14] = [
    kind("service_unavailable", &[]),
    kind("too_many_requests", &[]),
    kind("request_timeout", &[]),
    kind("internal_error", &[]),
    kind("expired_auth_token", &[]),
    kind("reset_before", &[]),
    kind("reset_in_body", &[]),
    kind("lost_answer", &[]),
    kind("truncated", &[]),
    kind("slow", &[]),
    kind("corrupted", &[ErrorKind::Integrity]),
    kind("bad_auth_token", &[ErrorKind::Permission, ErrorKind::Auth]),
    kind("cap_exceeded", &[ErrorKind::Refused]),
    kind("transaction_cap_exceeded", &[ErrorKind::Refused]),
];

impl Kind {
    /// Whether it makes sense for this call.
    fn fits(self, api: &str) -> bool {
        match self.name {
            // A range has no SHA-1 that a store could compare; the tags of a container tell there.
            "corrupted" => api == "b2_download_file_by_name",
            "expired_auth_token" => api != "b2_authorize_account",
            _ => true,
        }
    }

    /// Whether the work of a call that met it may have been done.
    fn may_have_done_it(self) -> bool {
        matches!(self.name, "lost_answer" | "truncated")
    }
}

/// Does something to a store below a prefix, and returns what it read.
type Run = for<'a> fn(&'a dyn Store, &'a str) -> BoxFuture<'a, Result<Vec<String>>>;

/// What is done to a store.
struct Operation {
    name: &'static str,
    /// Without faults.
    before: for<'a> fn(&'a dyn Store, &'a str) -> BoxFuture<'a, ()>,
    /// With one. What it returns as read is compared with that of the run without.
    run: Run,
}

const OPERATIONS: [Operation; 9] = [
    Operation { name: "put", before: nothing, run: |store, prefix| Box::pin(put_files(store, prefix)) },
    Operation { name: "upload", before: nothing, run: |store, prefix| Box::pin(upload_large(store, prefix)) },
    Operation { name: "get", before: planted, run: |store, prefix| Box::pin(get_files(store, prefix)) },
    Operation { name: "list", before: planted, run: |store, prefix| Box::pin(list_all(store, prefix)) },
    Operation { name: "stat", before: planted, run: |store, prefix| Box::pin(stat_files(store, prefix)) },
    Operation { name: "hide", before: planted, run: |store, prefix| Box::pin(hide_files(store, prefix)) },
    Operation { name: "delete", before: planted, run: |store, prefix| Box::pin(delete_files(store, prefix)) },
    Operation { name: "copy", before: planted, run: |store, prefix| Box::pin(copy_files(store, prefix)) },
    Operation {
        name: "resume",
        before: begun,
        run: |store, prefix| Box::pin(resume_and_abort(store, prefix)),
    },
];

fn body(number: usize) -> Bytes {
    Bytes::from(vec![b'a' + number as u8; 100 + number])
}

fn options(size: usize) -> PutOptions {
    let info: Info = [("sidekey-id".to_owned(), "0".repeat(32))].into();
    PutOptions { info, size: Some(size as u64), ..PutOptions::default() }
}

fn nothing<'a>(_: &'a dyn Store, _: &'a str) -> BoxFuture<'a, ()> {
    Box::pin(async {})
}

fn planted<'a>(store: &'a dyn Store, prefix: &'a str) -> BoxFuture<'a, ()> {
    Box::pin(async move {
        put_files(store, prefix).await.unwrap();
    })
}

fn begun<'a>(store: &'a dyn Store, prefix: &'a str) -> BoxFuture<'a, ()> {
    Box::pin(async move {
        for name in ["one", "other"] {
            let size = PART * PARTS as usize;
            let upload = store.upload(&format!("{prefix}{name}"), &options(size)).await.unwrap();
            upload.part(1, part(1)).await.unwrap();
        }
    })
}

async fn put_files(store: &dyn Store, prefix: &str) -> Result<Vec<String>> {
    let puts = (0..FILES).map(|number| async move {
        let body = body(number);
        let options = options(body.len());
        store.put(&format!("{prefix}{number}"), body, &options).await
    });
    let done: Vec<Result<_>> = futures_util::stream::iter(puts).buffered(TASKS).collect().await;
    done.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(Vec::new())
}

fn part(number: u32) -> Bytes {
    Bytes::from(vec![b'0' + number as u8; if number == PARTS { 1 } else { PART }])
}

async fn upload_large(store: &dyn Store, prefix: &str) -> Result<Vec<String>> {
    let size = PART * (PARTS as usize - 1) + 1;
    let upload = store.upload(&format!("{prefix}large"), &options(size)).await?;
    let parts = (1..=PARTS).map(|number| upload.part(number, part(number)));
    let done: Vec<Result<()>> = futures_util::stream::iter(parts).buffer_unordered(TASKS).collect().await;
    done.into_iter().collect::<Result<()>>()?;
    let written = upload.complete(PARTS).await?;
    // Asked again, it is the same.
    assert_eq!(upload.complete(PARTS).await?, written);
    Ok(Vec::new())
}

/// Whole and in ranges, of the current version and of a named one.
async fn get_files(store: &dyn Store, prefix: &str) -> Result<Vec<String>> {
    let gets = (0..FILES).map(|number| async move {
        let key = format!("{prefix}{number}");
        let whole = store.get(&key, &GetOptions::default()).await?;
        let version = Some(whole.object.version.clone());
        let read = bytes_of(whole.body).await?;
        let range = GetOptions { version, range: Some(10..60), ..GetOptions::default() };
        let middle = bytes_of(store.get(&key, &range).await?.body).await?;
        assert_eq!(
            (&read, &middle),
            (&body(number), &body(number).slice(10..60)),
            "a wrong byte was believed"
        );
        Result::Ok(format!("{number}: {} bytes", read.len()))
    });
    join_all(gets).await.into_iter().collect()
}

async fn list_all(store: &dyn Store, prefix: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for versions in [false, true] {
        let options = ListOptions { prefix: prefix.to_owned(), versions, ..ListOptions::default() };
        let listed: Vec<Listed> = store.list(options).try_collect().await?;
        found.extend(listed.into_iter().map(|each| match each {
            Listed::Object(object) => format!("{} {}", &object.key[prefix.len()..], object.size),
            Listed::Folder(name) => name,
        }));
    }
    Ok(found)
}

async fn stat_files(store: &dyn Store, prefix: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for number in 0..FILES {
        let key = format!("{prefix}{number}");
        let current = store.stat(&key, None).await?;
        assert_eq!(store.stat(&key, Some(&current.version)).await?.version, current.version);
        found.push(format!("{number}: {} {:?}", current.size, current.info));
    }
    Ok(found)
}

async fn hide_files(store: &dyn Store, prefix: &str) -> Result<Vec<String>> {
    for number in 0..FILES {
        store.hide(&format!("{prefix}{number}")).await?;
    }
    Ok(Vec::new())
}

async fn delete_files(store: &dyn Store, prefix: &str) -> Result<Vec<String>> {
    let options = ListOptions { prefix: prefix.to_owned(), versions: true, ..ListOptions::default() };
    let listed: Vec<Listed> = store.list(options).try_collect().await?;
    for each in listed {
        if let Listed::Object(object) = each {
            store.delete(&object.key, &object.version).await?;
        }
    }
    Ok(Vec::new())
}

async fn copy_files(store: &dyn Store, prefix: &str) -> Result<Vec<String>> {
    for number in 0..FILES {
        let from = format!("{prefix}{number}");
        let version = store.stat(&from, None).await?.version;
        store.copy(&from, Some(&version), &format!("{prefix}copy-{number}"), &options(0)).await?;
    }
    Ok(Vec::new())
}

/// Goes on with one upload that another process began, and throws the other away.
async fn resume_and_abort(store: &dyn Store, prefix: &str) -> Result<Vec<String>> {
    let unfinished: Vec<Unfinished> = store.unfinished(prefix).try_collect().await?;
    let (one, other): (Vec<_>, Vec<_>) = unfinished.into_iter().partition(|each| each.key.ends_with("one"));
    let resumed = store.resume(&one[0], &options(PART * PARTS as usize)).await?;
    assert_eq!(resumed.parts.iter().map(|part| part.number).collect::<Vec<_>>(), [1]);
    for number in 2..=PARTS {
        resumed.upload.part(number, part(number)).await?;
    }
    resumed.upload.complete(PARTS).await?;
    store.abort(&other[0]).await?;
    Ok(vec![format!("{} unfinished", one.len() + other.len())])
}

/// What is below a prefix: name, action, size and SHA-1 of every version.
fn state(world: &World, prefix: &str) -> Vec<(String, String, u64, Option<String>)> {
    let versions = world.versions_below(prefix).into_iter();
    versions.map(|each| (each.name[prefix.len()..].to_owned(), each.action, each.size, each.sha1)).collect()
}

/// A prefix that nobody has yet.
fn new_prefix() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    format!("case-{:06}/", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// The first, middle and last of so many calls.
fn positions(calls: u64) -> BTreeSet<u64> {
    [1, calls.div_ceil(2), calls].into()
}

/// How an operation ended that met a fault; a panic when it must not end so.
fn meet(world: &World, operation: &Operation, wanted: &Wanted, api: &str, nth: u64, kind: Kind) -> String {
    let prefix = new_prefix();
    block_on((operation.before)(&*store(world), &prefix));
    let before = state(world, &prefix);
    world.reset_calls();
    world.faults(&json!([{ "api": api, "nth": nth, "kind": kind.name, "ms": 100 }]));
    let ended = block_on((operation.run)(&*store(world), &prefix));
    world.no_faults();

    let (calls, after) = (world.calls(), state(world, &prefix));
    let case = format!("{}: {} at call {nth} of {api}", operation.name, kind.name);
    // How many upload URLs are asked for hangs on which task is free when.
    assert!(calls.faults() == 1 || calls.of(api) < nth, "{case}: {calls:?}");
    assert_eq!(calls.violations, [""; 0], "{case}");
    // With a token that is refused all upload URLs are given up that came with it.
    let more = if kind.name.ends_with("_auth_token") { TASKS as u64 } else { 1 };
    let urls = calls.upload_urls();
    assert!(urls <= TASKS as u64 + more, "{case}: {urls} upload URLs");
    match ended {
        Ok(read) => {
            assert_eq!(read, wanted.read, "{case}");
            // One that was begun without an answer stays unfinished, as after a crash.
            let begun_twice = kind.may_have_done_it() && api == "b2_start_large_file";
            let after: Vec<_> = after.into_iter().filter(|each| !begun_twice || each.1 != "start").collect();
            assert_eq!(after, wanted.state, "{case}");
            "ok".to_owned()
        }
        Err(error) => {
            assert!(kind.may_end.contains(&error.kind()), "{case}: {error:?}");
            // What was not done is as it was, what was done is done once.
            for each in &after {
                assert!(
                    before.contains(each) || wanted.state.contains(each) || each.1 == "start",
                    "{case}: {each:?}"
                );
            }
            for each in before.iter().filter(|each| wanted.state.contains(each)) {
                assert!(after.contains(each), "{case}: lost {each:?}");
            }
            assert!(after.iter().collect::<BTreeSet<_>>().len() == after.len(), "{case}: twice: {after:?}");
            format!("{:?}", error.kind())
        }
    }
}

/// What an operation does when nothing goes wrong.
struct Wanted {
    calls: BTreeMap<String, u64>,
    read: Vec<String>,
    state: Vec<(String, String, u64, Option<String>)>,
}

fn undisturbed(world: &World, operation: &Operation) -> Wanted {
    let prefix = new_prefix();
    block_on((operation.before)(&*store(world), &prefix));
    world.reset_calls();
    let read = block_on((operation.run)(&*store(world), &prefix)).unwrap();
    let calls = world.calls();
    assert_eq!(calls.violations, [""; 0], "{}", operation.name);
    let urls = calls.upload_urls();
    assert!(urls <= TASKS as u64, "{}: {urls} upload URLs for {TASKS} tasks", operation.name);
    Wanted { calls: calls.calls, read, state: state(world, &prefix) }
}

/// All faults of an operation, in a world of its own; a line of the matrix for each.
fn disturbed(operation: &Operation) {
    let options =
        json!({ "minimum_part_size": PART, "recommended_part_size": PART, "max_files_per_page": 4 });
    let world = World::new(&options);
    let wanted = undisturbed(&world, operation);
    let mut cases = 0;
    println!("{}: {:?}", operation.name, wanted.calls);
    for kind in KINDS {
        let mut outcomes = Vec::new();
        for (api, calls) in wanted.calls.iter().filter(|(api, _)| kind.fits(api)) {
            let positions = positions(*calls);
            cases += positions.len();
            let ended: BTreeSet<String> =
                positions.into_iter().map(|nth| meet(&world, operation, &wanted, api, nth, kind)).collect();
            outcomes.push(format!(
                "{} {}",
                api.trim_start_matches("b2_"),
                ended.into_iter().collect::<Vec<_>>().join("/")
            ));
        }
        if !outcomes.is_empty() {
            println!("  {:25} {}", kind.name, outcomes.join(", "));
        }
    }
    println!("{}: {cases} faults", operation.name);
}

macro_rules! disturbed {
    ($($test:ident: $name:literal)*) => {$(
        #[test]
        fn $test() {
            disturbed(OPERATIONS.iter().find(|operation| operation.name == $name).unwrap());
        }
    )*};
}

disturbed! {
    every_fault_at_every_call_of_put: "put"
    every_fault_at_every_call_of_a_large_upload: "upload"
    every_fault_at_every_call_of_get: "get"
    every_fault_at_every_call_of_list: "list"
    every_fault_at_every_call_of_stat: "stat"
    every_fault_at_every_call_of_hide: "hide"
    every_fault_at_every_call_of_delete: "delete"
    every_fault_at_every_call_of_copy: "copy"
    every_fault_at_every_call_of_resume: "resume"
}

/// After a lost answer of `api` the store looks what arrived; that look meets faults too.
fn in_doubt(name: &str, api: &str) {
    let operation = OPERATIONS.iter().find(|operation| operation.name == name).unwrap();
    let world = World::new(&json!({ "minimum_part_size": PART, "recommended_part_size": PART }));
    let wanted = undisturbed(&world, operation);
    let look = "b2_list_file_versions";
    for kind in KINDS.iter().filter(|kind| kind.may_end.is_empty()) {
        let prefix = new_prefix();
        world.reset_calls();
        world.faults(&json!([
            { "api": api, "nth": 1, "kind": "lost_answer" },
            { "api": look, "from": 1, "count": 2, "kind": kind.name, "ms": 100 },
        ]));
        let read = block_on((operation.run)(&*store(&world), &prefix)).unwrap();
        world.no_faults();
        let calls = world.calls();
        assert!(calls.faults() >= 2 && calls.of(look) >= 1, "{}: {calls:?}", kind.name);
        assert_eq!(
            (read, state(&world, &prefix)),
            (wanted.read.clone(), wanted.state.clone()),
            "{}",
            kind.name
        );
        println!("{name}: no answer of {api}, then {}: found after {} looks", kind.name, calls.of(look));
    }
}

#[test]
fn a_lost_answer_of_an_upload_is_found_through_faults() {
    in_doubt("put", "b2_upload_file");
}

#[test]
fn a_lost_answer_of_the_end_of_a_large_upload_is_found_through_faults() {
    in_doubt("upload", "b2_finish_large_file");
}

#[test]
fn tokens_that_expire_all_at_once_are_renewed_once() {
    let world = World::with_small_parts();
    let store = store(&world);
    block_on(put_files(&*store, "a/")).unwrap();
    world.expire_tokens();
    world.reset_calls();
    let reads = (0..8).map(|_| list_all(&*store, "a/"));
    for read in block_on(join_all(reads)) {
        assert_eq!(read.unwrap().len(), 2 * FILES);
    }
    assert_eq!(world.calls().of("b2_authorize_account"), 1, "{:?}", world.calls());
}

#[test]
fn the_service_says_how_long_to_wait() {
    let world = World::with_small_parts();
    let waits = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&waits);
    let retry = Retry::new(open(&world), impatient());
    let retry = retry.tell(move |again| told.lock().unwrap().push(again.wait));
    world.faults(
        &json!([{ "api": "b2_upload_file", "nth": 1, "kind": "too_many_requests", "retry_after": 1 }]),
    );
    block_on(put_files(&retry, "a/")).unwrap();
    assert_eq!(*waits.lock().unwrap(), [Duration::from_secs(1)]);
    assert_eq!(state(&world, "a/").len(), FILES);
}
