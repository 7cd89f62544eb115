//! Downloads and lists that break give what they would have given, once.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use sidekey::ErrorKind;
use sidekey::store::faulty::{Fault, Faulty, Operation};
use sidekey::store::memory::{Features, MemoryStore};
use sidekey::store::retry::{Policy, Retry};
use sidekey::store::{GetOptions, ListOptions, Listed, OnlyIf, PutOptions, Store};

use super::spotted::Spotted;
use crate::store_suite::faults::{ALL_FEATURES, Layers, TestClock, layers, layers_by};
use crate::store_suite::{assert_kind, block_on, bytes_of, list, noise, put, unfinished, versions};

const VERSIONS: Features = Features { versions: true, conditions: true };

const BREAKS: [Fault; 5] = [
    Fault::Before(ErrorKind::Transient),
    Fault::HalfWay(ErrorKind::Transient),
    Fault::HalfWay(ErrorKind::Unsure),
    Fault::After(ErrorKind::Unsure),
    Fault::Busy(Duration::from_secs(3)),
];

#[test]
fn a_download_goes_on_at_the_byte_where_it_broke() {
    block_on(async {
        for fault in [Fault::HalfWay(ErrorKind::Transient), Fault::HalfWay(ErrorKind::Unsure), Fault::Short] {
            for range in
                [None, Some(0..100_000), Some(1..2), Some(700..99_999), Some(50_000..u64::MAX), Some(9..9)]
            {
                let Layers { memory, faulty, retry, .. } = layers(VERSIONS, 3);
                let body = noise(5, 100_000);
                let version = put(&memory, "a", body.clone()).await;
                faulty.plan(move |call| (call.number <= 9).then_some(fault));
                let options = GetOptions { version: None, range: range.clone(), ..GetOptions::default() };
                let download = retry.get("a", &options).await.unwrap();
                assert_eq!((download.object.size, &download.object.version), (100_000, &version));
                let range = range.unwrap_or(0..100_000);
                let expected = &body[range.start as usize..range.end.min(100_000) as usize];
                assert!(bytes_of(download.body).await.unwrap() == expected, "{fault:?}");
            }
        }
    });
}

/// The breaks happen while others write: what comes is one version from the first byte to the last, or an error.
#[test]
fn a_download_is_of_one_version() {
    block_on(async {
        for features in ALL_FEATURES {
            for delete in [false, true] {
                let Layers { memory, faulty, retry, .. } = layers(features, 3);
                let body = noise(6, 1000);
                let version = put(&memory, "a", body.clone()).await;
                let others = memory.clone();
                faulty.plan(move |call| match (call.number, delete) {
                    (1, _) => Some(Fault::HalfWay(ErrorKind::Transient)),
                    (2, true) => {
                        others.state().delete("a", &version);
                        None
                    }
                    (2, false) => {
                        let theirs = noise(7, 1000);
                        others.state().put("a", theirs, &OnlyIf::Always, &Default::default()).unwrap();
                        None
                    }
                    _ => None,
                });
                let download = retry.get("a", &GetOptions::default()).await.unwrap();
                match bytes_of(download.body).await {
                    Ok(bytes) => assert!(features.versions && !delete && bytes == body),
                    Err(error) => {
                        assert!(delete || !features.versions, "{error:?}");
                        assert_eq!(error.kind(), ErrorKind::Conflict);
                        let line = error.line();
                        assert!(
                            line.starts_with("memory:a: was replaced or deleted while it was read: "),
                            "{line}"
                        );
                        assert_eq!(error.remedy(), Some("read it again"));
                    }
                }
            }
        }
    });
}

/// Some services answer with whatever is there.
#[test]
fn another_version_than_was_asked_for_is_not_taken() {
    block_on(async {
        let memory = Arc::new(MemoryStore::new(VERSIONS));
        for (theirs, size) in [(10, 1000), (11, 2000)] {
            put(&*memory, "a?", noise(9, 1000)).await;
            let faulty = Faulty::new(Arc::new(Spotted(memory.clone())));
            let others = memory.clone();
            faulty.plan(move |call| match call.number {
                1 => Some(Fault::HalfWay(ErrorKind::Transient)),
                _ => {
                    let body = noise(theirs, size);
                    others.state().put("a?", body, &OnlyIf::Always, &Default::default()).unwrap();
                    None
                }
            });
            let retry =
                Retry::new(Arc::new(faulty), Policy::default()).by_clock(Arc::new(TestClock::default()));
            let download = retry.get("a?", &GetOptions::default()).await.unwrap();
            assert_kind(bytes_of(download.body).await, ErrorKind::Conflict);
        }
    });
}

/// A download counts its tries anew with every byte that comes: a long one may break often.
#[test]
fn a_download_may_break_more_often_than_one_call() {
    block_on(async {
        let policy = Policy { tries: 3, ..Policy::default() };
        let Layers { memory, faulty, retry, .. } = layers_by(VERSIONS, 3, policy);
        let body = noise(4, 1 << 20);
        put(&memory, "a", body.clone()).await;
        faulty.plan(|call| (call.number <= 15).then_some(Fault::HalfWay(ErrorKind::Transient)));
        let download = retry.get("a", &GetOptions::default()).await.unwrap();
        assert!(bytes_of(download.body).await.unwrap() == body);
        assert_eq!(faulty.calls(), 16);
    });
}

#[test]
fn a_download_that_never_goes_on_is_given_up_with_what_came() {
    block_on(async {
        let Layers { memory, faulty, retry, clock } = layers(VERSIONS, 3);
        put(&memory, "a", noise(8, 1000)).await;
        faulty.plan(|call| {
            Some(match call.number {
                1 => Fault::HalfWay(ErrorKind::Transient),
                _ => Fault::Before(ErrorKind::Transient),
            })
        });
        let download = retry.get("a", &GetOptions::default()).await.unwrap();
        let sidekey::store::Body::Stream(chunks) = download.body else { panic!("a file") };
        let chunks: Vec<_> = chunks.collect().await;
        let (last, first) = chunks.split_last().unwrap();
        let bytes: Vec<u8> = first.iter().flat_map(|chunk| chunk.as_ref().unwrap().to_vec()).collect();
        assert_eq!(bytes, noise(8, 1000)[..500]);
        let error = last.as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient);
        assert!(error.line().contains("(reading failed "), "{error:?}");
        assert!(clock.waits().iter().sum::<Duration>() <= Policy::default().total);
        assert!(faulty.calls() > 10);
    });
}

/// Keys with one to three versions, markers among them, in folders and out of them.
async fn fill(store: &MemoryStore) {
    let kept = store.capabilities().await.unwrap().versions;
    for key in ["a", "b", "b-", "b/1", "b/2", "b/c/3", "b0", "c/1", "d", "e", "f/g/h"] {
        for size in 0..1 + key.len() {
            put(store, key, noise(size as u64, size)).await;
        }
        if kept && matches!(key, "b" | "b/2" | "d" | "f/g/h") {
            store.hide(key).await.unwrap();
        }
    }
}

fn all_options() -> Vec<ListOptions> {
    let mut all = Vec::new();
    for prefix in ["", "b", "b/", "f"] {
        for after in [None, Some("b"), Some("b/1"), Some("c")] {
            for (delimiter, versions) in [(false, false), (false, true), (true, false), (true, true)] {
                let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
                all.push(ListOptions { prefix, delimiter, versions, after });
            }
        }
    }
    all
}

#[test]
fn a_list_that_breaks_anywhere_is_the_same_list() {
    block_on(async {
        let mut breaks = 0;
        for features in ALL_FEATURES {
            for page in [1, 2, 5] {
                let Layers { memory, faulty, retry, .. } = layers(features, page);
                fill(&memory).await;
                for options in all_options() {
                    let expected = list(&memory, options.clone()).await;
                    faulty.restart();
                    assert_eq!(list(&retry, options.clone()).await, expected, "{options:?}");
                    for number in 1..=faulty.calls() {
                        for fault in BREAKS {
                            faulty.restart();
                            faulty.fail_at(number, fault);
                            assert_eq!(
                                list(&retry, options.clone()).await,
                                expected,
                                "{options:?} {number} {fault:?}"
                            );
                            breaks += 1;
                        }
                    }
                    // Every other call fails. What comes again after a break has to fit into a page: the versions
                    // of one key, and the folder that was last.
                    let fits = !options.versions && (page > 1 || !options.delimiter);
                    for fault in BREAKS.into_iter().filter(|_| fits) {
                        faulty.restart();
                        faulty.plan(move |call| (call.number % 2 == 1).then_some(fault));
                        assert_eq!(list(&retry, options.clone()).await, expected, "{options:?} {fault:?}");
                    }
                }
            }
        }
        println!("{breaks} lists broke");
        assert!(breaks > 5_000);
    });
}

/// What is written while a list is broken may be in it or not; what was there before is, in order and once.
#[test]
fn a_list_that_breaks_while_others_write_loses_and_repeats_nothing() {
    block_on(async {
        for page in [1, 2, 3] {
            for options in all_options() {
                for number in 1.. {
                    let Layers { memory, faulty, retry, .. } = layers(VERSIONS, page);
                    fill(&memory).await;
                    let before = list(&memory, options.clone()).await;
                    let others = memory.clone();
                    faulty.plan(move |call| {
                        (call.number == number).then(|| {
                            let keys =
                                ["a", "a0", "b", "b/1", "b/1x", "b/c/3", "b0", "c/0", "d", "e", "f/g/h", "z"];
                            for key in keys {
                                let body = noise(9, 9);
                                others.state().put(key, body, &OnlyIf::Always, &Default::default()).unwrap();
                            }
                            Fault::HalfWay(ErrorKind::Transient)
                        })
                    });
                    let found = list(&retry, options.clone()).await;
                    if faulty.log().iter().all(|call| call.fault.is_none()) {
                        break;
                    }
                    let name = |listed: &Listed| match listed {
                        Listed::Object(object) => (object.key.clone(), object.version.clone()),
                        Listed::Folder(folder) => (folder.clone(), String::new()),
                    };
                    let (found, mut before): (Vec<_>, Vec<_>) =
                        (found.iter().map(name).collect(), before.iter().map(name).collect());
                    if !options.versions {
                        // What was replaced meanwhile comes as what it is now.
                        before.iter_mut().for_each(|(_, version)| version.clear());
                    }
                    let mut left = before.iter().peekable();
                    for (key, version) in &found {
                        let seen =
                            (key.clone(), if options.versions { version.clone() } else { String::new() });
                        left.next_if(|next| **next == seen);
                    }
                    assert_eq!(left.next(), None, "{options:?} broke in call {number}: {found:?}");
                    assert!(found.iter().map(|(key, _)| key).is_sorted(), "{found:?}");
                    if options.versions {
                        let newest_first = |a: &(String, String), b: &(String, String)| {
                            a.0 != b.0 || a.1.parse::<u64>().unwrap() > b.1.parse::<u64>().unwrap()
                        };
                        let objects = found.iter().filter(|(_, version)| !version.is_empty());
                        assert!(objects.is_sorted_by(|a, b| newest_first(a, b)), "{options:?}: {found:?}");
                    }
                    let mut unique = found.clone();
                    unique.sort();
                    unique.dedup();
                    assert_eq!(unique.len(), found.len(), "{options:?} broke in call {number}: {found:?}");
                }
            }
        }
    });
}

/// All versions that were given are deleted before the list goes on: what is left of the key still comes.
#[test]
fn versions_deleted_while_a_list_is_broken_hide_no_others() {
    block_on(async {
        for next in [None, Some("b"), Some("c/d")] {
            let Layers { memory, faulty, retry, .. } = layers(VERSIONS, 2);
            for number in 0..5 {
                put(&memory, "a", format!("{number}")).await;
            }
            if let Some(next) = next {
                put(&memory, next, "next").await;
            }
            let all = versions(&memory, "").await;
            let (others, given) = (memory.clone(), all[..2].to_vec());
            faulty.plan(move |call| {
                (call.number == 2).then(|| {
                    for object in &given {
                        others.state().delete(&object.key, &object.version);
                    }
                    Fault::Before(ErrorKind::Transient)
                })
            });
            let found: Vec<_> = versions(&retry, "").await.into_iter().map(|object| object.version).collect();
            assert_eq!(found, all.into_iter().map(|object| object.version).collect::<Vec<_>>());
        }
    });
}

#[test]
fn a_list_that_never_goes_on_ends_with_the_error() {
    block_on(async {
        let Layers { memory, faulty, retry, .. } = layers(VERSIONS, 2);
        for key in ["a", "b", "c", "d"] {
            put(&memory, key, "x").await;
        }
        faulty.plan(|call| (call.number > 1).then_some(Fault::Before(ErrorKind::Transient)));
        let found: Vec<_> = retry.list(ListOptions::default()).collect().await;
        assert_eq!(found.len(), 3);
        assert!(found[..2].iter().all(Result::is_ok));
        let error = found[2].as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient);
        assert!(error.line().starts_with("memory:: an injected fault"), "{error:?}");
        assert!(error.line().contains("(listing failed "), "{error:?}");
    });
}

/// A list counts its tries anew with every item that comes: a long one may break often.
#[test]
fn a_list_may_break_more_often_than_one_call() {
    block_on(async {
        let Layers { memory, faulty, retry, .. } = layers(VERSIONS, 1);
        for number in 0..200 {
            put(&memory, &format!("{number:03}"), "x").await;
        }
        faulty.plan(|call| (call.number % 2 == 1).then_some(Fault::Before(ErrorKind::Transient)));
        assert_eq!(list(&retry, ListOptions::default()).await.len(), 200);
        assert!(faulty.calls() > 2 * u64::from(Policy::default().tries));
    });
}

#[test]
fn errors_in_their_place_come_once_and_the_list_goes_on() {
    block_on(async {
        let keys = ["a!", "b", "c!", "d", "d/1", "d/2!", "e!", "e2!", "f", "g!"];
        for page in [1, 2, 3] {
            let memory = Arc::new(MemoryStore::new(VERSIONS));
            for key in keys {
                put(&*memory, key, "1").await;
                put(&*memory, key, "2").await;
                let upload = memory.upload(key, &PutOptions::default()).await.unwrap();
                upload.part(1, "x".into()).await.unwrap();
            }
            let faulty = Faulty::new(Arc::new(Spotted(memory.clone()))).pages_of(page);
            let clock = Arc::new(TestClock::default());
            let retry = Retry::new(Arc::new(faulty.clone()), Policy::default()).by_clock(clock);
            for versions in [false, true] {
                let options = ListOptions { versions, ..ListOptions::default() };
                let line = |listed: sidekey::Result<Listed>| format!("{listed:?}");
                // Two versions of one key are the same error twice.
                let expected: Vec<String> =
                    Spotted(memory.clone()).list(options.clone()).map(line).collect().await;
                faulty.restart();
                let whole: Vec<String> = retry.list(options.clone()).map(line).collect().await;
                assert_eq!(whole, expected);
                for number in 1..=faulty.calls() {
                    for fault in BREAKS {
                        faulty.restart();
                        faulty.fail_at(number, fault);
                        let found: Vec<String> = retry.list(options.clone()).map(line).collect().await;
                        assert_eq!(found, expected, "{options:?} {number} {fault:?}");
                    }
                }
            }
            faulty.restart();
            let line = |found: sidekey::Result<sidekey::store::Unfinished>| format!("{found:?}");
            let whole: Vec<String> = retry.unfinished("").map(line).collect().await;
            assert_eq!(whole.len(), keys.len());
            for number in 1..=faulty.calls() {
                for fault in BREAKS {
                    faulty.restart();
                    faulty.fail_at(number, fault);
                    let found: Vec<String> = retry.unfinished("").map(line).collect().await;
                    assert_eq!(found, whole, "{number} {fault:?}");
                }
            }
        }
    });
}

#[test]
fn unfinished_uploads_are_listed_once() {
    block_on(async {
        let Layers { memory, faulty, retry, .. } = layers(VERSIONS, 2);
        for key in ["a", "b", "b", "c", "d"] {
            let upload = memory.upload(key, &PutOptions::default()).await.unwrap();
            upload.part(1, "x".into()).await.unwrap();
        }
        let expected = unfinished(&memory, "").await;
        assert_eq!(expected.len(), 5);
        for number in 1..=3 {
            for fault in BREAKS {
                faulty.restart();
                faulty.plan(move |call| {
                    (call.operation == Operation::Unfinished && call.number == number).then_some(fault)
                });
                assert_eq!(unfinished(&retry, "").await, expected, "{number} {fault:?}");
            }
        }
    });
}
