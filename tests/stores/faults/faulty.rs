//! Every fault happens where it was asked for, once, and does what it says.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use futures_util::StreamExt as _;
use sidekey::ErrorKind;
use sidekey::store::faulty::{Fault, Faulty, Operation};
use sidekey::store::memory::Features;
use sidekey::store::{GetOptions, ListOptions, PutOptions, Store};

use crate::store_suite::faults::{ALL_FEATURES, Layers, layers};
use crate::store_suite::{
    assert_kind, block_on, bytes_of, is_there, noise, put, put_if, read, unfinished, versions,
};

const FEATURES: Features = Features { versions: true, conditions: true };

fn faulty() -> (sidekey::store::memory::MemoryStore, Faulty<sidekey::store::memory::MemoryStore>) {
    let Layers { memory, faulty, .. } = layers(FEATURES, 3);
    (memory, faulty)
}

/// One of every call, whatever comes of it; how many went well.
async fn one_of_each(store: &dyn Store) -> usize {
    let options = PutOptions::default();
    let mut good = 0;
    let mut count = |went_well: bool| good += usize::from(went_well);
    count(store.capabilities().await.is_ok());
    let version = store.put("a", "body".into(), &options).await;
    count(version.is_ok());
    let version = version.map(|written| written.version).unwrap_or_default();
    match store.upload("b", &options).await {
        Err(_) => count(false),
        Ok(upload) => {
            count(true);
            count(upload.part(1, "part".into()).await.is_ok());
            count(upload.complete(1).await.is_ok());
            count(upload.abort().await.is_ok());
        }
    }
    match store.get("a", &GetOptions::default()).await {
        Err(_) => count(false),
        Ok(download) => count(bytes_of(download.body).await.is_ok_and(|bytes| bytes == "body")),
    }
    count(store.stat("a", None).await.is_ok());
    count(store.list(ListOptions::default()).all(|listed| async move { listed.is_ok() }).await);
    count(store.copy("a", None, "c", &options).await.is_ok());
    count(store.hide("a").await.is_ok());
    count(store.delete("a", &version).await.is_ok());
    count(store.unfinished("").all(|found| async move { found.is_ok() }).await);
    let found = sidekey::store::Unfinished {
        key: "x".into(),
        id: "none".into(),
        started: std::time::SystemTime::UNIX_EPOCH,
    };
    count(store.abort(&found).await.is_ok());
    good
}

const EACH: [Operation; 14] = [
    Operation::Capabilities,
    Operation::Put,
    Operation::Upload,
    Operation::Part,
    Operation::Complete,
    Operation::AbortUpload,
    Operation::Get,
    Operation::Stat,
    Operation::List,
    Operation::Copy,
    Operation::Hide,
    Operation::Delete,
    Operation::Unfinished,
    Operation::Abort,
];

#[test]
fn every_call_is_counted_and_can_fail() {
    let (_, faulty) = faulty();
    assert_eq!(block_on(one_of_each(&faulty)), EACH.len());
    let log = faulty.log();
    assert_eq!(log.iter().map(|call| call.operation).collect::<Vec<_>>(), EACH);
    assert_eq!(log.iter().map(|call| call.number).collect::<Vec<_>>(), (1..=14).collect::<Vec<_>>());
    for number in 1..=14 {
        for fault in [
            Fault::Before(ErrorKind::Transient),
            Fault::HalfWay(ErrorKind::Io),
            Fault::After(ErrorKind::Unsure),
            Fault::Busy(Duration::from_secs(1)),
        ] {
            let (_, faulty) = self::faulty();
            faulty.fail_at(number, fault);
            assert!(block_on(one_of_each(&faulty)) < EACH.len(), "{fault:?} at {number}");
            let failed: Vec<_> = faulty.log().into_iter().filter(|call| call.fault.is_some()).collect();
            let [failed] = &failed[..] else { panic!("{failed:?}") };
            assert_eq!((failed.number, failed.fault), (number, Some(fault)));
        }
    }
}

#[test]
fn before_leaves_everything_as_it_was_and_after_is_done() {
    block_on(async {
        for (fault, done) in [
            (Fault::Before(ErrorKind::Transient), false),
            (Fault::Busy(Duration::from_secs(9)), false),
            (Fault::Short, false),
            (Fault::After(ErrorKind::Unsure), true),
        ] {
            for operation in
                [Operation::Put, Operation::Copy, Operation::Hide, Operation::Delete, Operation::Complete]
            {
                let (memory, faulty) = faulty();
                let version = put(&memory, "a", "first").await;
                let upload = faulty.upload("a", &PutOptions::default()).await.unwrap();
                upload.part(1, "by parts".into()).await.unwrap();
                let before = memory.state().clone();
                faulty.plan(move |call| (call.operation == operation).then_some(fault));
                let error = match operation {
                    Operation::Put => put_if(&faulty, "a", "x", Default::default()).await.map(drop),
                    Operation::Copy => faulty.copy("a", None, "b", &PutOptions::default()).await.map(drop),
                    Operation::Hide => faulty.hide("a").await.map(drop),
                    Operation::Delete => faulty.delete("a", &version).await,
                    _ => upload.complete(1).await.map(drop),
                };
                let error = error.unwrap_err();
                assert_eq!(*memory.state() != before, done, "{operation:?} {fault:?}");
                match fault {
                    Fault::Busy(wait) => assert_eq!(error.retry_after(), Some(wait)),
                    Fault::After(kind) => assert_eq!(error.kind(), kind),
                    _ => assert_eq!(error.kind(), ErrorKind::Transient),
                }
                assert!(error.subject().is_some_and(|subject| subject.starts_with("memory:")), "{error:?}");
            }
        }
    });
}

#[test]
fn what_fails_of_itself_is_not_called_done() {
    block_on(async {
        let (_, faulty) = faulty();
        faulty.plan(|_| Some(Fault::After(ErrorKind::Unsure)));
        assert_kind(faulty.stat("missing", None).await, ErrorKind::NotFound);
    });
}

#[test]
fn a_put_half_way_leaves_an_unfinished_upload() {
    block_on(async {
        for size in [0, 1, 1000] {
            let (memory, faulty) = faulty();
            put(&memory, "a", "what was there").await;
            faulty.fail_at(1, Fault::HalfWay(ErrorKind::Unsure));
            assert_kind(put_if(&faulty, "a", noise(1, size), Default::default()).await, ErrorKind::Unsure);
            assert_eq!(read(&memory, "a").await.unwrap(), "what was there");
            assert_eq!(versions(&memory, "a").await.len(), 1);
            let left = unfinished(&memory, "").await;
            assert_eq!(left.iter().map(|unfinished| &*unfinished.key).collect::<Vec<_>>(), ["a"]);
        }
    });
}

#[test]
fn a_get_half_way_gives_the_first_half() {
    block_on(async {
        let (memory, faulty) = faulty();
        let body = noise(2, 1001);
        put(&memory, "a", body.clone()).await;
        for (range, half) in
            [(None, 0..500), (Some(100..201), 100..150), (Some(900..5000), 900..950), (Some(7..7), 7..7)]
        {
            for fault in [Fault::HalfWay(ErrorKind::Transient), Fault::Short] {
                faulty.plan(move |_| Some(fault));
                let options = GetOptions { version: None, range: range.clone(), ..GetOptions::default() };
                let download = faulty.get("a", &options).await.unwrap();
                let sidekey::store::Body::Stream(mut chunks) = download.body else { panic!("a file") };
                let mut bytes = Vec::new();
                let mut broken = None;
                while let Some(chunk) = chunks.next().await {
                    match chunk {
                        Ok(chunk) => bytes.extend_from_slice(&chunk),
                        Err(error) => broken = Some(error.kind()),
                    }
                }
                assert_eq!(bytes, body[half.clone()], "{range:?}");
                assert_eq!(broken.is_some(), fault != Fault::Short);
            }
        }
    });
}

#[test]
fn a_list_breaks_off_before_within_and_after_a_page() {
    block_on(async {
        let (memory, _) = faulty();
        for number in 0..10 {
            put(&memory, &format!("{number}"), "x").await;
        }
        let faulty = Faulty::new(std::sync::Arc::new(memory)).pages_of(4);
        for (page, fault, given) in [
            (1, Fault::Before(ErrorKind::Transient), 0),
            (1, Fault::HalfWay(ErrorKind::Transient), 2),
            (1, Fault::After(ErrorKind::Transient), 4),
            (2, Fault::Before(ErrorKind::Transient), 4),
            (3, Fault::HalfWay(ErrorKind::Transient), 10),
            (3, Fault::After(ErrorKind::Transient), 10),
        ] {
            faulty.restart();
            faulty.fail_at(page, fault);
            let listed: Vec<_> = faulty.list(ListOptions::default()).collect().await;
            let (last, items) = listed.split_last().unwrap();
            assert_eq!(last.as_ref().unwrap_err().kind(), ErrorKind::Transient, "{fault:?} at {page}");
            assert!(items.iter().all(Result::is_ok));
            assert_eq!((items.len(), faulty.calls()), (given, page), "{fault:?} at {page}");
        }
        faulty.restart();
        assert_eq!(faulty.list(ListOptions::default()).count().await, 10);
        assert_eq!(faulty.calls(), 3);
    });
}

#[test]
fn the_dead_do_nothing_until_they_are_restarted() {
    block_on(async {
        for (fault, done) in [(Fault::Before(ErrorKind::Io), false), (Fault::After(ErrorKind::Io), true)] {
            let (memory, faulty) = faulty();
            faulty.die_at(2, fault);
            put(&faulty, "first", "x").await;
            let options = PutOptions::default();
            let upload = faulty.upload("upload", &options);
            assert!(!faulty.is_dead());
            assert_kind(put_if(&faulty, "second", "x", Default::default()).await, ErrorKind::Io);
            assert!(faulty.is_dead());
            assert_eq!(is_there(&memory, "second").await, done);
            assert!(upload.await.is_err());
            let before = memory.state().clone();
            assert_eq!(one_of_each(&faulty).await, 0);
            assert_eq!(*memory.state(), before);
            assert_kind(faulty.stat("first", None).await, ErrorKind::Interrupted);
            assert_eq!(faulty.calls(), 2, "calls of the dead do not count");
            faulty.restart();
            assert_eq!(read(&faulty, "first").await.unwrap(), "x");
            assert_eq!(faulty.calls(), 1);
        }
        let (_, faulty) = faulty();
        let open = faulty.clone();
        let upload = open.upload("a", &PutOptions::default()).await.unwrap();
        faulty.die();
        assert_kind(upload.part(1, "x".into()).await, ErrorKind::Interrupted);
        assert_kind(upload.complete(1).await, ErrorKind::Interrupted);
    });
}

#[test]
fn a_panic_leaves_the_store_usable() {
    for features in ALL_FEATURES {
        let Layers { memory, faulty, .. } = layers(features, 3);
        faulty.fail_at(1, Fault::Panic);
        let panicked = catch_unwind(AssertUnwindSafe(|| block_on(put(&faulty, "a", "x"))));
        let message = panicked.unwrap_err().downcast::<String>().unwrap();
        assert_eq!(*message, "an injected panic: Put \"a\"");
        block_on(async {
            assert!(!is_there(&memory, "a").await);
            put(&faulty, "a", "x").await;
        });
        let log: Vec<String> = faulty.log().iter().map(ToString::to_string).collect();
        assert_eq!(log, ["1: Put \"a\" (Panic)", "2: Put \"a\""]);
    }
}
