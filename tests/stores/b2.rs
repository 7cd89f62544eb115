//! Backblaze B2: the conformance suite, and what only this store does.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future;
use serde_json::json;
use sidekey::secret::SecretBytes;
use sidekey::store::b2::{Settings, open};
use sidekey::store::retry::{Policy, Retry};
use sidekey::store::{
    Bucket, CustomerKey, DefaultEncryption, Encryption, GetOptions, ListOptions, Listed, OnlyIf, PutOptions,
    Right, Store,
};
use sidekey::{ErrorKind, Result};

use crate::server::{Key, World};
use crate::store_suite::{
    assert_kind, block_on, bytes_of, info, noise, put, read, read_as, unfinished, versions,
};

const CONNECTIONS: usize = 8;

fn settings(world: &World) -> Settings {
    settings_of(world, &Key { key_id: world.key_id.clone(), key: world.key.clone() })
}

fn settings_of(world: &World, key: &Key) -> Settings {
    Settings {
        bucket: world.bucket.clone(),
        key_id: key.key_id.clone(),
        key: SecretBytes::new(key.key.clone().into()),
        endpoint: Some(world.url.clone()),
        connections: CONNECTIONS,
    }
}

/// A store that tries once.
pub(crate) fn once(world: &World) -> Arc<dyn Store> {
    open(settings(world)).unwrap()
}

/// The same with an application key of its own.
fn limited(world: &World, capabilities: &[&str], prefix: &str) -> Arc<dyn Store> {
    open(settings_of(world, &world.new_key(capabilities, prefix))).unwrap()
}

pub(crate) fn trying(store: Arc<dyn Store>) -> Retry<dyn Store> {
    let policy = Policy {
        first: Duration::from_millis(1),
        most: Duration::from_millis(20),
        total: Duration::from_secs(60),
        tries: 10,
        seed: 0,
    };
    Retry::new(store, policy)
}

fn suite() -> (Retry<dyn Store>, World) {
    let world = World::with_small_parts();
    (trying(once(&world)), world)
}

store_suite!(backblaze_b2, suite());

/// What an object says about its encryption, from the server.
fn encryption_of(world: &World, name: &str) -> String {
    let found = world.versions().into_iter().find(|version| version.name == name).unwrap();
    found.encryption.unwrap()
}

fn customer(byte: u8) -> CustomerKey {
    CustomerKey::new(&[byte; 32], Some(format!("key-{byte}")))
}

fn encrypted(encryption: Encryption) -> PutOptions {
    PutOptions { encryption: Some(encryption), ..PutOptions::default() }
}

fn with_key(key: Option<CustomerKey>) -> GetOptions {
    GetOptions { customer_key: key, ..GetOptions::default() }
}

#[test]
fn a_lost_answer_is_found_by_listing() {
    let world = World::with_small_parts();
    let store = once(&world);
    block_on(async {
        put(&*store, "a", "of before").await;
        put(&*store, "a", "the very same").await;
        world.fault("b2_upload_file", 1, "lost_answer");
        let version = put(&*store, "a", "of now").await;
        assert_eq!(read(&*store, "a").await.unwrap(), "of now");
        assert_eq!(store.stat("a", None).await.unwrap().version, version);
    });
    assert_eq!(world.versions().len(), 3);
    assert_eq!(world.calls().violations, Vec::<String>::new());
}

#[test]
fn what_was_there_long_before_is_not_taken_for_a_lost_answer() {
    // By the service's clock all that is there was uploaded two minutes before.
    let world = World::new(&json!({"clock_skew_seconds": 120}));
    let store = once(&world);
    block_on(async {
        put(&*store, "a", "the same").await;
        world.fault("b2_upload_file", 1, "reset_in_body");
        assert_kind(store.put("a", "the same".into(), &PutOptions::default()).await, ErrorKind::Transient);
        put(&*store, "a", "the same").await;
    });
    assert_eq!(world.versions().len(), 2);
}

#[test]
fn an_answer_that_nobody_could_look_for_is_looked_for_again() {
    let world = World::with_small_parts();
    let store = once(&world);
    world.faults(&json!([
        {"api": "b2_upload_file", "nth": 1, "kind": "lost_answer"},
        {"api": "b2_list_file_versions", "nth": 1, "kind": "internal_error"},
    ]));
    block_on(async {
        assert_kind(store.put("a", "once".into(), &PutOptions::default()).await, ErrorKind::Unsure);
        assert_eq!(world.versions().len(), 1, "it was done");
        let version = put(&*store, "a", "once").await;
        assert_eq!(store.stat("a", None).await.unwrap().version, version);
        assert_eq!(world.versions().len(), 1, "and not again");
        put(&*store, "a", "once").await;
        assert_eq!(world.versions().len(), 2, "another call is another version");
    });
}

#[test]
fn a_lost_answer_of_finish_and_copy_is_found() {
    let world = World::with_small_parts();
    let store = once(&world);
    block_on(async {
        let upload = store.upload("a", &PutOptions::default()).await.unwrap();
        upload.part(1, noise(1, 2000)).await.unwrap();
        upload.part(2, noise(2, 10)).await.unwrap();
        world.fault("b2_finish_large_file", 1, "lost_answer");
        let written = upload.complete(2).await.unwrap();
        assert_eq!(upload.complete(2).await.unwrap(), written);
        assert_eq!(store.stat("a", None).await.unwrap().version, written.version);

        world.fault("b2_copy_file", 1, "lost_answer");
        let copied = store.copy("a", None, "b", &PutOptions::default()).await.unwrap();
        assert_eq!(store.stat("b", None).await.unwrap().version, copied.version);
    });
    assert_eq!(world.versions().len(), 2);
}

#[test]
fn upload_urls_are_used_again_and_dropped_after_faults() {
    let world = World::with_small_parts();
    let store = trying(once(&world));
    let puts = |from: usize| {
        let store = &store;
        future::join_all((from..from + 40).map(move |number| async move {
            put(store, &format!("n{number}"), noise(number as u64, 100)).await;
        }))
    };
    block_on(puts(0));
    let calls = world.calls();
    assert!(calls.of("b2_get_upload_url") <= CONNECTIONS as u64, "{calls:?}");
    let before = calls.of("b2_get_upload_url");
    let kinds = [
        "service_unavailable",
        "too_many_requests",
        "request_timeout",
        "internal_error",
        "reset_in_body",
        "reset_before",
        "bad_auth_token",
        "lost_answer",
    ];
    let faults: Vec<_> = (1..)
        .step_by(4)
        .zip(kinds)
        .map(|(nth, kind)| json!({"api": "b2_upload_file", "nth": nth, "kind": kind}))
        .collect();
    world.faults(&json!(faults));
    block_on(puts(100));
    let calls = world.calls();
    assert_eq!(calls.faults(), kinds.len() as u64);
    assert_eq!(calls.violations, Vec::<String>::new());
    println!(
        "{before} upload URLs for 40 tasks, {} in all after {} faults",
        calls.of("b2_get_upload_url"),
        kinds.len()
    );
    assert_eq!(world.versions().len(), 80, "nothing is uploaded twice");
}

#[test]
fn a_token_that_is_over_is_had_again_once_for_all() {
    let world = World::with_small_parts();
    let store = once(&world);
    block_on(async {
        put(&*store, "a", "x").await;
        world.expire_tokens();
        let stats = future::join_all((0..20).map(|_| store.stat("a", None))).await;
        assert!(stats.into_iter().all(|stat| stat.is_ok()));
        world.expire_tokens();
        put(&*store, "b", "y").await;
        assert_eq!(read(&*store, "b").await.unwrap(), "y");
        world.expire_tokens();
        let nothing = GetOptions { range: Some(0..0), ..GetOptions::default() };
        assert_eq!(store.get("b", &nothing).await.unwrap().object.size, 1, "where the refusal has no code");
    });
    assert_eq!(world.calls().of("b2_authorize_account"), 4);
}

#[test]
fn a_token_that_is_never_good_is_not_asked_for_for_ever() {
    let world = World::with_small_parts();
    let store = once(&world);
    let from_now_on = |kind| json!([{"api": "b2_list_file_names", "from": 1, "count": 0, "kind": kind}]);
    world.faults(&from_now_on("bad_auth_token"));
    assert_kind(block_on(store.stat("a", None)), ErrorKind::Permission);
    world.faults(&from_now_on("expired_auth_token"));
    assert_kind(block_on(store.stat("a", None)), ErrorKind::Transient);
    let calls = world.calls();
    assert!(calls.of("b2_authorize_account") <= 6, "{calls:?}");
}

#[test]
fn credentials_and_buckets_that_do_not_fit_are_named() {
    let world = World::with_small_parts();
    let wrong = Key { key_id: world.key_id.clone(), key: "K005wrong-wrong-wrong".to_owned() };
    let error = block_on(open(settings_of(&world, &wrong)).unwrap().capabilities()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission, "{error:?}");
    assert!(error.line().contains("does not accept the application key"), "{error:?}");
    assert!(!format!("{error:?}{:?}", error.remedy()).contains("K005wrong"), "{error:?}");

    let gone = Settings { bucket: "no-such-bucket".to_owned(), ..settings(&world) };
    assert_kind(block_on(open(gone).unwrap().stat("a", None)), ErrorKind::Refused);

    let key = world.new_key(&["listFiles", "readFiles"], "");
    let other = Settings { bucket: "another-bucket".to_owned(), ..settings_of(&world, &key) };
    let error = block_on(open(other).unwrap().stat("a", None)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission);
    assert!(error.line().contains(&world.bucket), "{error:?}");
}

#[test]
fn an_upload_only_key_is_enough_to_put() {
    let world = World::with_small_parts();
    let store = limited(&world, &["writeFiles", "listFiles"], "");
    block_on(async {
        store.require("p/", &[Right::List, Right::Write]).await.unwrap();
        put(&*store, "a", "x").await;
        world.fault("b2_upload_file", 1, "lost_answer");
        put(&*store, "b", "y").await;
        let upload = store.upload("c", &PutOptions::default()).await.unwrap();
        upload.part(1, noise(1, 2000)).await.unwrap();
        upload.part(2, noise(2, 2)).await.unwrap();
        world.fault("b2_finish_large_file", 1, "lost_answer");
        upload.complete(2).await.unwrap();
        let abandoned = store.upload("d", &PutOptions::default()).await.unwrap();
        abandoned.part(1, noise(1, 2000)).await.unwrap();
        let found = unfinished(&*store, "d").await;
        let resumed = store.resume(&found[0], &PutOptions::default()).await.unwrap();
        resumed.upload.abort().await.unwrap();
        assert_eq!(store.stat("c", None).await.unwrap().size, 2002);

        let error = store.get("a", &GetOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permission);
        assert!(error.line().contains("lacks readFiles"), "{error:?}");
        let nothing = GetOptions { range: Some(0..0), ..GetOptions::default() };
        let error = store.get("a", &nothing).await.unwrap_err();
        assert!(error.line().contains("lacks readFiles"), "{error:?}");
        let error = store.require("", &[Right::List, Right::Read, Right::Delete]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permission);
        assert!(error.line().contains("lacks readFiles, deleteFiles"), "{error:?}");
    });
}

#[test]
fn who_may_not_read_writes_again_after_a_lost_answer() {
    let world = World::with_small_parts();
    let store = trying(limited(&world, &["writeFiles", "listFiles"], ""));
    world.faults(&json!([
        {"api": "b2_upload_file", "nth": 1, "kind": "lost_answer"},
        {"api": "b2_list_file_versions", "nth": 1, "kind": "internal_error"},
    ]));
    let options = PutOptions { only_if: OnlyIf::Absent, ..PutOptions::default() };
    block_on(store.put("a", "x".into(), &options)).unwrap();
    assert_eq!(world.versions().len(), 1, "the second look found it");
}

#[test]
fn each_missing_capability_is_named() {
    let world = World::with_small_parts();
    block_on(put(&*once(&world), "a", "x"));
    let all = ["listFiles", "readFiles", "writeFiles", "deleteFiles"];
    for missing in all {
        let rest: Vec<&str> = all.into_iter().filter(|capability| *capability != missing).collect();
        let store = limited(&world, &rest, "");
        let failed: Result<()> = block_on(async {
            match missing {
                "listFiles" => store.stat("a", None).await.map(drop),
                "readFiles" => store.get("a", &GetOptions::default()).await.map(drop),
                "writeFiles" => store.put("a", "x".into(), &PutOptions::default()).await.map(drop),
                _ => store.delete("a", &world.versions()[0].id).await,
            }
        });
        let error = failed.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permission, "{error:?}");
        assert!(error.line().contains(&format!("lacks {missing}")), "{error:?}");
        assert!(error.remedy().is_some());
    }
}

#[test]
fn a_key_for_some_names_says_which() {
    let world = World::with_small_parts();
    let store = limited(&world, &["listFiles", "readFiles", "writeFiles"], "mine/");
    block_on(async {
        store.require("mine/deep/", &[Right::Write]).await.unwrap();
        let error = store.require("other/", &[Right::Write]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permission);
        assert!(error.line().contains("\"mine/\""), "{error:?}");
        put(&*store, "mine/a", "x").await;
        assert_eq!(read(&*store, "mine/a").await.unwrap(), "x");
        assert_kind(store.put("other/a", "x".into(), &PutOptions::default()).await, ErrorKind::Permission);
    });
}

#[test]
fn caps_stop_at_once_with_a_remedy() {
    let world = World::with_small_parts();
    let store = trying(once(&world));
    block_on(put(&store, "a", "x"));
    for (api, kind) in [
        ("b2_upload_file", "storage_cap_exceeded"),
        ("b2_upload_file", "cap_exceeded"),
        ("b2_list_file_names", "transaction_cap_exceeded"),
        ("b2_download_file_by_name", "download_cap_exceeded"),
        ("b2_get_upload_url", "no_payment_history"),
    ] {
        let store = trying(once(&world)); // Without an upload URL yet.
        world.faults(&json!([{"api": api, "from": 1, "count": 0, "kind": kind}]));
        world.reset_calls();
        let error = block_on(async {
            match api {
                "b2_list_file_names" => store.stat("a", None).await.map(drop),
                "b2_download_file_by_name" => store.get("a", &GetOptions::default()).await.map(drop),
                _ => store.put("b", "x".into(), &PutOptions::default()).await.map(drop),
            }
        })
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error:?}");
        assert!(error.remedy().is_some(), "{error:?}");
        assert_eq!(world.calls().of(api), 1, "{kind} is asked once");
    }
}

#[test]
fn the_wait_is_the_one_that_is_asked_for() {
    let world = World::with_small_parts();
    let store = once(&world);
    world
        .faults(&json!([{"api": "b2_upload_file", "nth": 1, "kind": "too_many_requests", "retry_after": 7}]));
    let error = block_on(store.put("a", "x".into(), &PutOptions::default())).unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Transient, Some(Duration::from_secs(7))));
}

#[test]
fn downloads_are_as_long_as_they_are_and_what_was_sent() {
    let world = World::with_small_parts();
    let store = once(&world);
    let body = noise(5, 300_000);
    block_on(async {
        put(&*store, "a", body.clone()).await;
        for (kind, expected) in [
            ("truncated", ErrorKind::Transient),
            ("reset_in_body", ErrorKind::Transient),
            ("corrupted", ErrorKind::Integrity),
        ] {
            world.fault("b2_download_file_by_name", 1, kind);
            let download = store.get("a", &GetOptions::default()).await.unwrap();
            assert_kind(bytes_of(download.body).await, expected);
        }
        let store = trying(store.clone());
        for kind in ["truncated", "reset_in_body", "reset_before", "service_unavailable"] {
            world.fault("b2_download_file_by_name", 1, kind);
            assert!(read(&store, "a").await.unwrap() == body, "{kind}");
        }
    });
}

#[test]
fn a_large_file_of_one_part_or_none_is_a_file() {
    let world = World::with_small_parts();
    let store = once(&world);
    block_on(async {
        let one = store.upload("one", &PutOptions::default()).await.unwrap();
        one.part(1, "all of it".into()).await.unwrap();
        // As the service may say it.
        let refusal = json!([{"api": "b2_finish_large_file", "nth": 1, "kind": "error", "status": 400,
            "code": "bad_request", "message": "Large files must have at least two parts"}]);
        world.faults(&refusal);
        let written = one.complete(1).await.unwrap();
        assert_eq!(one.complete(1).await.unwrap(), written);
        assert_eq!(read(&*store, "one").await.unwrap(), "all of it");
        let none = store.upload("none", &PutOptions::default()).await.unwrap();
        none.complete(0).await.unwrap();
        assert_eq!(read(&*store, "none").await.unwrap(), "");
        assert_eq!(unfinished(&*store, "").await, []);
    });
    assert_eq!(world.versions().len(), 2);
}

#[test]
fn another_process_goes_on_with_an_upload() {
    let world = World::with_small_parts();
    let options =
        PutOptions { info: info(&[("sidekey-id", "00")]), ..encrypted(Encryption::Customer(customer(1))) };
    let body = noise(9, 2500);
    block_on(async {
        let first = once(&world);
        let begun = first.upload("a/b", &options).await.unwrap();
        begun.part(1, body.slice(..1000)).await.unwrap();
        begun.part(3, body.slice(2000..)).await.unwrap();
        let id = begun.id().unwrap().to_owned();
        drop((begun, first));

        let store = once(&world);
        let found = unfinished(&*store, "a/").await;
        assert_eq!((found.len(), &found[0].id, found[0].key.as_str()), (1, &id, "a/b"));
        let resumed = store.resume(&found[0], &options).await.unwrap();
        let parts: Vec<_> = resumed.parts.iter().map(|part| (part.number, part.size)).collect();
        assert_eq!(parts, [(1, 1000), (3, 500)]);
        assert!(resumed.parts.iter().all(|part| part.sha1.as_ref().is_some_and(|sha1| sha1.len() == 40)));
        resumed.upload.part(2, body.slice(1000..2000)).await.unwrap();
        let written = resumed.upload.complete(3).await.unwrap();
        assert_eq!(written.version, id);
        assert!(read_as(&*store, "a/b", with_key(Some(customer(1)))).await.unwrap() == body);
        assert_kind(store.resume(&found[0], &options).await, ErrorKind::NotFound);
        store.abort(&found[0]).await.unwrap();
        assert_eq!(store.stat("a/b", None).await.unwrap().info.unwrap()["sse_c_key_id"], "key-1");
    });
}

#[test]
fn the_service_encrypts_as_it_is_asked() {
    let world = World::new(&json!({"minimum_part_size": 1000, "bucket_encryption": "none"}));
    let store = once(&world);
    block_on(async {
        put(&*store, "plain", "x").await;
        store.put("service", "x".into(), &encrypted(Encryption::Service)).await.unwrap();
        store.put("customer", "x".into(), &encrypted(Encryption::Customer(customer(1)))).await.unwrap();
        let kms = store.put("kms", "x".into(), &encrypted(Encryption::Kms(None))).await;
        assert_kind(kms, ErrorKind::Input);
        for (name, encryption) in
            [("large-service", Encryption::Service), ("large-customer", Encryption::Customer(customer(1)))]
        {
            let upload = store.upload(name, &encrypted(encryption)).await.unwrap();
            upload.part(1, noise(1, 1000)).await.unwrap();
            upload.part(2, noise(2, 5)).await.unwrap();
            upload.complete(2).await.unwrap();
        }
    });
    for (name, expected) in [
        ("plain", "none"),
        ("service", "SSE-B2"),
        ("customer", "SSE-C"),
        ("large-service", "SSE-B2"),
        ("large-customer", "SSE-C"),
    ] {
        assert_eq!(encryption_of(&world, name), expected, "{name}");
    }
}

#[test]
fn a_customers_key_is_wanted_and_the_right_one() {
    let world = World::with_small_parts();
    let store = once(&world);
    block_on(async {
        let version = store
            .put("a", "secret".into(), &encrypted(Encryption::Customer(customer(1))))
            .await
            .unwrap()
            .version;
        put(&*store, "plain", "x").await;
        for version in [None, Some(version)] {
            for range in [None, Some(0..3), Some(0..0), Some(9..10)] {
                let get =
                    |key| GetOptions { version: version.clone(), range: range.clone(), customer_key: key };
                let right = store.get("a", &get(Some(customer(1)))).await.unwrap();
                let expected = &b"secret"[range
                    .as_ref()
                    .map_or(0..6, |range| range.start.min(6) as usize..range.end.min(6) as usize)];
                assert_eq!(bytes_of(right.body).await.unwrap(), expected);
                assert_eq!(right.object.info.unwrap()["sse_c_key_id"], "key-1");
                let none = store.get("a", &get(None)).await.unwrap_err();
                assert_eq!(none.kind(), ErrorKind::Auth);
                assert!(none.line().contains("none is given"), "{none:?}");
                let wrong = store.get("a", &get(Some(customer(2)))).await.unwrap_err();
                assert_eq!(wrong.kind(), ErrorKind::Auth);
                assert!(wrong.line().contains("not the one"), "{wrong:?}");
            }
        }
        assert_eq!(store.stat("a", None).await.unwrap().size, 6, "what it is needs no key");
        let none = store.get("plain", &with_key(Some(customer(1)))).await.unwrap_err();
        assert_eq!(none.kind(), ErrorKind::Auth, "{none:?}");
        assert!(none.line().contains("does not take the key"), "{none:?}");
    });
}

#[test]
fn copies_go_from_each_encryption_to_each() {
    let world = World::with_small_parts();
    let store = once(&world);
    let modes = [None, Some(Encryption::Service), Some(Encryption::Customer(customer(1)))];
    let key_of = |mode: &Option<Encryption>| match mode {
        Some(Encryption::Customer(key)) => Some(key.clone()),
        _ => None,
    };
    block_on(async {
        for (from, source) in modes.iter().enumerate() {
            let name = format!("from-{from}");
            let options = PutOptions { encryption: source.clone(), ..PutOptions::default() };
            store.put(&name, "body".into(), &options).await.unwrap();
            for (to, target) in modes.iter().enumerate() {
                let target = match target {
                    Some(Encryption::Customer(_)) => Some(Encryption::Customer(customer(7))),
                    other => other.clone(),
                };
                let copy = format!("copy-{from}-{to}");
                let options = PutOptions {
                    encryption: target.clone(),
                    source_key: key_of(source),
                    ..PutOptions::default()
                };
                store.copy(&name, None, &copy, &options).await.unwrap();
                assert_eq!(read_as(&*store, &copy, with_key(key_of(&target))).await.unwrap(), "body");
            }
        }
        for key in [None, Some(customer(9))] {
            let options = PutOptions { source_key: key, ..PutOptions::default() };
            assert_kind(store.copy("from-2", None, "never", &options).await, ErrorKind::Auth);
        }
    });
}

#[test]
fn the_default_encryption_of_a_bucket_is_shown_and_set() {
    let world = World::new(&json!({"bucket_encryption": "none"}));
    let store = once(&world);
    block_on(async {
        let bucket: &dyn Bucket = store.bucket().unwrap();
        assert_eq!(bucket.default_encryption().await.unwrap(), DefaultEncryption::Off);
        bucket.set_default_encryption(Some(&Encryption::Service)).await.unwrap();
        assert_eq!(bucket.default_encryption().await.unwrap(), DefaultEncryption::On(Encryption::Service));
        let off = bucket.set_default_encryption(None).await.unwrap_err();
        assert_eq!(off.kind(), ErrorKind::Refused);
        assert!(off.remedy().unwrap().contains("cannot be set to none"), "{off:?}");
        let customers = Encryption::Customer(customer(1));
        assert_kind(bucket.set_default_encryption(Some(&customers)).await, ErrorKind::Refused);

        let blind = limited(&world, &["listBuckets", "listFiles"], "");
        assert_eq!(blind.bucket().unwrap().default_encryption().await.unwrap(), DefaultEncryption::Hidden);
        let set =
            blind.bucket().unwrap().set_default_encryption(Some(&Encryption::Service)).await.unwrap_err();
        assert_eq!(set.kind(), ErrorKind::Permission);
        assert!(set.line().contains("lacks writeBuckets"), "{set:?}");
    });
}

#[test]
fn names_with_dots_between_slashes_are_those_names() {
    let world = World::with_small_parts();
    let store = once(&world);
    block_on(async {
        for key in ["a/../b", "./a", "a/.", "b", "a"] {
            put(&*store, key, key.to_owned()).await;
        }
        for key in ["a/../b", "./a", "a/.", "b", "a"] {
            assert_eq!(read(&*store, key).await.unwrap(), key);
        }
    });
}

#[test]
fn what_the_service_has_no_room_for_is_not_sent() {
    let world = World::new(&json!({"bucket_encryption": "none"}));
    let store = once(&world);
    let options = PutOptions { info: info(&[("note", &"x".repeat(2100))]), ..PutOptions::default() };
    let sealed = PutOptions { encryption: Some(Encryption::Service), ..options.clone() };
    let wide = "x".repeat(251);
    block_on(async {
        assert_kind(store.put("a", "x".into(), &sealed).await, ErrorKind::Input);
        assert!(store.upload("a", &sealed).await.is_err());
        for key in ["a//b", "/a", "a/", "a\tb", &wide] {
            assert_kind(store.check_key(key), ErrorKind::Input);
            assert_kind(store.put(key, "x".into(), &PutOptions::default()).await, ErrorKind::Input);
        }
        assert_eq!(world.calls().of("b2_upload_file"), 0);
        store.put("a", "x".into(), &options).await.unwrap();
    });
}

#[test]
fn listings_of_many_pages_know_the_newest() {
    let world = World::new(&json!({"max_files_per_page": 3}));
    let store = once(&world);
    block_on(async {
        for round in 0..4 {
            for key in ["a", "b/1", "b/2", "c"] {
                put(&*store, key, format!("{key} {round}")).await;
            }
        }
        store.hide("c").await.unwrap();
        let begun = store.upload("b/1", &PutOptions::default()).await.unwrap();
        let listed = versions(&*store, "").await;
        assert_eq!(listed.len(), 17);
        let newest: Vec<_> =
            listed.iter().filter(|object| object.latest).map(|object| object.key.as_str()).collect();
        assert_eq!(newest, ["a", "b/1", "b/2", "c"]);
        let oldest = &listed[3].version;
        let stat = store.stat("a", Some(oldest)).await.unwrap();
        assert!(!stat.latest && stat.version == *oldest);
        let options = ListOptions { delimiter: true, ..ListOptions::default() };
        let folders: Vec<Listed> = crate::store_suite::list(&*store, options).await;
        assert!(matches!(&folders[1], Listed::Folder(folder) if folder == "b/"), "{folders:?}");
        begun.abort().await.unwrap();
    });
}

#[test]
fn many_unfinished_uploads_come_in_pages() {
    let world = World::with_small_parts();
    let store = trying(once(&world));
    block_on(async {
        future::join_all((0..130).map(|number| {
            let store = &store;
            async move { drop(store.upload(&format!("p/{number:03}"), &PutOptions::default()).await.unwrap()) }
        }))
        .await;
        drop(store.upload("other", &PutOptions::default()).await.unwrap());
        assert_eq!(unfinished(&store, "p/").await.len(), 130);
    });
}

#[test]
fn nobody_there_is_tried_again_and_nothing_secret_is_shown() {
    let world = World::with_small_parts();
    let nobody = Settings { endpoint: Some("http://127.0.0.1:1/b2".to_owned()), ..settings(&world) };
    let store = open(nobody).unwrap();
    let error = block_on(store.put("a", "x".into(), &PutOptions::default())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient, "{error:?}");
    let shown = format!("{store:?} {error:?} {:?}", settings(&world));
    assert!(!shown.contains(&world.key), "{shown}");
    for endpoint in ["http://example.com", "ftp://127.0.0.1", "nonsense"] {
        let settings = Settings { endpoint: Some(endpoint.to_owned()), ..settings(&world) };
        assert_kind(open(settings).map(drop), ErrorKind::Usage);
    }
}

#[test]
fn deletes_and_hides_without_an_answer_are_done_once() {
    let world = World::with_small_parts();
    let store = trying(once(&world));
    block_on(async {
        let version = put(&store, "a", "x").await;
        put(&store, "b", Bytes::from_static(b"y")).await;
        world.fault("b2_delete_file_version", 1, "lost_answer");
        store.delete("a", &version).await.unwrap();
        world.fault("b2_hide_file", 1, "lost_answer");
        let marker = store.hide("b").await.unwrap();
        assert_eq!(once(&world).hide("b").await.unwrap(), marker, "what is hidden has its marker already");
        assert_eq!(versions(&store, "").await.len(), 2);
        assert_kind(store.hide("never").await, ErrorKind::NotFound);
    });
}
