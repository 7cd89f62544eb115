//! Conditional writes: honoured exactly where the store says so.

use std::thread;

use sidekey::store::{OnlyIf, PutOptions, Store, Written};
use sidekey::{ErrorKind, Result};
use tokio::runtime::Handle;

use super::*;

const WRITERS: usize = 6;

pub(crate) async fn creating_needs_nothing_there(store: &dyn Store, prefix: &str) {
    let (capabilities, conditions) = (store.capabilities().await.unwrap(), store.conditions().await.unwrap());
    let key = format!("{prefix}object");
    let first = put_if(store, &key, "first", OnlyIf::Absent).await.unwrap();
    let second = put_if(store, &key, "the second", OnlyIf::Absent).await;
    match conditions.create_new {
        true => {
            assert_kind(second, ErrorKind::Conflict);
            assert_eq!(read(store, &key).await.unwrap(), "first");
            assert_eq!(store.stat(&key, None).await.unwrap().version, first);
            assert_eq!(versions(store, &key).await.len(), 1, "a refused write leaves nothing");
        }
        false => {
            assert_ne!(second.unwrap(), first);
            assert_eq!(read(store, &key).await.unwrap(), "the second");
        }
    }
    for object in versions(store, &key).await {
        store.delete(&key, &object.version).await.unwrap();
    }
    put_if(store, &key, "after a delete", OnlyIf::Absent).await.unwrap();
    if capabilities.versions {
        store.hide(&key).await.unwrap();
        put_if(store, &key, "what is hidden is not there", OnlyIf::Absent).await.unwrap();
        assert_eq!(read(store, &key).await.unwrap(), "what is hidden is not there");
    }
}

pub(crate) async fn replacing_needs_the_version_there(store: &dyn Store, prefix: &str) {
    let honoured = store.conditions().await.unwrap().replace_if;
    let (key, missing) = (format!("{prefix}object"), format!("{prefix}missing"));
    let first = put(store, &key, "first").await;
    let second = put_if(store, &key, "the second", OnlyIf::Version(first.clone())).await.unwrap();
    let stale = put_if(store, &key, "number three", OnlyIf::Version(first.clone())).await;
    let nowhere = put_if(store, &missing, "nowhere", OnlyIf::Version(second.clone())).await;
    match honoured {
        true => {
            assert_kind(stale, ErrorKind::Conflict);
            assert_eq!(read(store, &key).await.unwrap(), "the second");
            assert_kind(nowhere, ErrorKind::Conflict);
            assert!(!is_there(store, &missing).await);
            put_if(store, &key, "number four", OnlyIf::Version(second)).await.unwrap();
            assert_eq!(read(store, &key).await.unwrap(), "number four");
        }
        false => {
            stale.unwrap();
            assert_eq!(read(store, &key).await.unwrap(), "number three");
            nowhere.unwrap();
            assert_eq!(read(store, &missing).await.unwrap(), "nowhere");
        }
    }
}

pub(crate) async fn one_of_many_creators_wins(store: &dyn Store, prefix: &str) {
    let honoured = store.conditions().await.unwrap().create_new;
    for round in 0..8 {
        let key = format!("{prefix}round-{round}");
        race(store, &key, &OnlyIf::Absent, honoured).await;
    }
}

pub(crate) async fn one_of_many_replacers_wins(store: &dyn Store, prefix: &str) {
    let honoured = store.conditions().await.unwrap().replace_if;
    for round in 0..8 {
        let key = format!("{prefix}round-{round}");
        let first = put(store, &key, "what all of them read").await;
        race(store, &key, &OnlyIf::Version(first), honoured).await;
    }
}

/// Many writers at one time, on threads of their own: where conditions are honoured one of them writes, elsewhere all.
async fn race(store: &dyn Store, key: &str, only_if: &OnlyIf, honoured: bool) {
    let handle = Handle::current();
    let written: Vec<Result<Written>> = thread::scope(|scope| {
        let writer = |number| {
            let handle = handle.clone();
            scope.spawn(move || {
                let options = PutOptions { only_if: only_if.clone(), ..PutOptions::default() };
                handle.block_on(store.put(key, noise(number as u64, 1000 + number), &options))
            })
        };
        let writers: Vec<_> = (0..WRITERS).map(writer).collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let winners: Vec<usize> = (0..WRITERS).filter(|number| written[*number].is_ok()).collect();
    let current = read(store, key).await.unwrap();
    assert!(winners.iter().any(|number| current == noise(*number as u64, 1000 + number)), "{winners:?}");
    match honoured {
        true => {
            assert_eq!(winners.len(), 1, "{written:?}");
            for lost in written.into_iter().filter(Result::is_err) {
                assert_kind(lost, ErrorKind::Conflict);
            }
        }
        false => assert_eq!(winners.len(), WRITERS, "{written:?}"),
    }
}

pub(crate) async fn uploads_are_conditional_when_completed(store: &dyn Store, prefix: &str) {
    let (capabilities, conditions) = (store.capabilities().await.unwrap(), store.conditions().await.unwrap());
    let (created, replaced) = (format!("{prefix}created"), format!("{prefix}replaced"));
    let first = put(store, &replaced, "first").await;
    for (key, only_if, honoured) in [
        (&created, OnlyIf::Absent, conditions.create_new),
        (&replaced, OnlyIf::Version(first), conditions.replace_if),
    ] {
        let options = PutOptions { only_if, ..PutOptions::default() };
        let upload = store.upload(key, &options).await.unwrap();
        upload.part(1, "by parts".into()).await.unwrap();
        upload.complete(1).await.unwrap();
        assert_eq!(read(store, key).await.unwrap(), "by parts");

        // The condition held when this one began; what counts is when it ends.
        let key = format!("{key}-late");
        let only_if = match options.only_if {
            OnlyIf::Version(_) => OnlyIf::Version(put(store, &key, "before").await),
            other => other,
        };
        let options = PutOptions { only_if, ..PutOptions::default() };
        let late = store.upload(&key, &options).await.unwrap();
        late.part(1, "too late".into()).await.unwrap();
        put(store, &key, "in the meantime").await;
        let completed = late.complete(1).await;
        match honoured {
            true => {
                assert_kind(completed, ErrorKind::Conflict);
                assert_eq!(read(store, &key).await.unwrap(), "in the meantime");
                late.abort().await.unwrap();
            }
            false => {
                let late = completed.unwrap().version;
                let current = store.stat(&key, None).await.unwrap().version;
                assert_eq!(read_version(store, &key, &late).await.unwrap(), "too late");
                // Where there are versions, an upload may stand where it began.
                assert!(current == late || capabilities.versions);
            }
        }
    }
}

pub(crate) async fn copies_are_conditional(store: &dyn Store, prefix: &str) {
    let conditions = store.conditions().await.unwrap();
    let (from, to) = (format!("{prefix}from"), format!("{prefix}to"));
    put(store, &from, "the source").await;
    let first = put(store, &to, "there already").await;
    put(store, &to, "there now").await;
    for (only_if, honoured) in
        [(OnlyIf::Absent, conditions.create_new), (OnlyIf::Version(first), conditions.replace_if)]
    {
        let options = PutOptions { only_if, ..PutOptions::default() };
        let copied = store.copy(&from, None, &to, &options).await;
        match honoured {
            true => {
                assert_kind(copied, ErrorKind::Conflict);
                assert_eq!(read(store, &to).await.unwrap(), "there now");
            }
            false => {
                copied.unwrap();
                assert_eq!(read(store, &to).await.unwrap(), "the source");
            }
        }
    }
    let options = PutOptions { only_if: OnlyIf::Absent, ..PutOptions::default() };
    store.copy(&from, None, &format!("{prefix}new"), &options).await.unwrap();
    assert_eq!(read(store, &format!("{prefix}new")).await.unwrap(), "the source");
}
