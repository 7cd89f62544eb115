//! What is done when no answer came: again where that is harmless, a look where a look can tell, and never blindly.

use sidekey::ErrorKind;
use sidekey::store::faulty::{Fault, Operation};
use sidekey::store::memory::Features;
use sidekey::store::{OnlyIf, PutOptions, Store};

use crate::store_suite::faults::{ALL_FEATURES, Layers, layers};
use crate::store_suite::{assert_kind, block_on, put, put_if, read, read_version, unfinished, versions};

const PLAIN: Features = Features { versions: false, conditions: false };
const VERSIONS: Features = Features { versions: true, conditions: false };
const ALL: Features = Features { versions: true, conditions: true };

const LOST: Fault = Fault::After(ErrorKind::Unsure);
const NEVER_SENT: Fault = Fault::Before(ErrorKind::Unsure);

/// Fails the first call of an operation.
fn fail_first(layers: &Layers, operation: Operation, fault: Fault) {
    let mut first = true;
    layers
        .faulty
        .plan(move |call| (call.operation == operation && std::mem::take(&mut first)).then_some(fault));
}

/// The operations that were called since the layers were made or restarted.
fn called(layers: &Layers) -> Vec<Operation> {
    layers.faulty.log().iter().map(|call| call.operation).collect()
}

#[test]
fn an_unconditional_write_is_sent_again() {
    block_on(async {
        for features in ALL_FEATURES {
            for fault in [LOST, NEVER_SENT] {
                let layers = layers(features, 3);
                let old = put(&layers.memory, "a", "old").await;
                fail_first(&layers, Operation::Put, fault);
                let version = put(&layers.retry, "a", "new").await;
                assert_eq!(called(&layers), [Operation::Put, Operation::Put]);
                assert_eq!(read(&layers.memory, "a").await.unwrap(), "new");
                let kept = versions(&layers.memory, "a").await;
                assert_eq!(kept[0].version, version, "the answer is about the newest");
                // What it may cost where there are versions: the same bytes once more.
                assert_eq!(kept.len(), if features.versions { 2 + usize::from(fault == LOST) } else { 1 });
                if features.versions {
                    assert_eq!(read_version(&layers.memory, "a", &old).await.unwrap(), "old");
                    for copy in &kept[..kept.len() - 1] {
                        assert_eq!(read_version(&layers.memory, "a", &copy.version).await.unwrap(), "new");
                    }
                }
            }
        }
    });
}

/// Each features: creating and replacing, by the answer that was lost or never came.
#[test]
fn a_conditional_write_is_looked_for_before_it_is_sent_again() {
    block_on(async {
        for features in ALL_FEATURES {
            for replacing in [false, true] {
                for fault in [LOST, NEVER_SENT] {
                    let layers = layers(features, 3);
                    let only_if = match replacing {
                        true => OnlyIf::Version(put(&layers.memory, "a", "old").await),
                        false => OnlyIf::Absent,
                    };
                    fail_first(&layers, Operation::Put, fault);
                    let version = put_if(&layers.retry, "a", "new", only_if).await.unwrap();
                    let expected = match fault {
                        LOST => &[Operation::Put, Operation::Get][..],
                        _ => &[Operation::Put, Operation::Get, Operation::Put],
                    };
                    assert_eq!(called(&layers), expected, "{features:?} {replacing} {fault:?}");
                    let kept = versions(&layers.memory, "a").await;
                    assert_eq!(kept[0].version, version);
                    assert_eq!(
                        kept.len(),
                        1 + usize::from(replacing && features.versions),
                        "it is written once"
                    );
                    assert_eq!(read(&layers.memory, "a").await.unwrap(), "new");
                }
            }
        }
    });
}

#[test]
fn a_conditional_write_does_not_replace_what_somebody_else_wrote_meanwhile() {
    block_on(async {
        for features in ALL_FEATURES {
            for replacing in [false, true] {
                for theirs in ["ne", "newer", "two", "", "something else"] {
                    let layers = layers(features, 3);
                    let only_if = match replacing {
                        true => OnlyIf::Version(put(&layers.memory, "a", "old").await),
                        false => OnlyIf::Absent,
                    };
                    let memory = layers.memory.clone();
                    layers.faulty.plan(move |call| {
                        (call.number == 1).then(|| {
                            memory
                                .state()
                                .put("a", theirs.into(), &OnlyIf::Always, &Default::default())
                                .unwrap();
                            NEVER_SENT
                        })
                    });
                    let error = put_if(&layers.retry, "a", "new", only_if).await.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Conflict);
                    assert_eq!(
                        error.line(),
                        "memory:a: changed in the meantime, and an earlier try got no answer"
                    );
                    assert_eq!(read(&layers.memory, "a").await.unwrap(), theirs);
                }
            }
        }
    });
}

#[test]
fn replacing_what_was_deleted_meanwhile_is_a_conflict() {
    block_on(async {
        for features in ALL_FEATURES {
            let layers = layers(features, 3);
            let old = put(&layers.memory, "a", "old").await;
            let (memory, gone) = (layers.memory.clone(), old.clone());
            layers.faulty.plan(move |call| {
                (call.number == 1).then(|| {
                    memory.state().delete("a", &gone);
                    NEVER_SENT
                })
            });
            let replaced = put_if(&layers.retry, "a", "new", OnlyIf::Version(old)).await;
            assert_kind(replaced, ErrorKind::Conflict);
            assert_eq!(read(&layers.memory, "a").await, None);
        }
    });
}

/// The first try arrives between the look and the second try.
#[test]
fn a_write_that_arrives_late_is_known_as_ours() {
    block_on(async {
        for replacing in [false, true] {
            let layers = layers(ALL, 3);
            let only_if = match replacing {
                true => OnlyIf::Version(put(&layers.memory, "a", "old").await),
                false => OnlyIf::Absent,
            };
            let memory = layers.memory.clone();
            layers.faulty.plan(move |call| match (call.number, call.operation) {
                (1, _) => Some(NEVER_SENT),
                (3, Operation::Put) => {
                    memory.state().put("a", "new".into(), &OnlyIf::Always, &Default::default()).unwrap();
                    None
                }
                _ => None,
            });
            let version = put_if(&layers.retry, "a", "new", only_if).await.unwrap();
            assert_eq!(called(&layers), [Operation::Put, Operation::Get, Operation::Put, Operation::Get]);
            let kept = versions(&layers.memory, "a").await;
            assert_eq!((&kept[0].version, kept.len()), (&version, 1 + usize::from(replacing)));
        }
    });
}

#[test]
fn a_look_that_fails_is_tried_again_too() {
    block_on(async {
        for fault in [Fault::Before(ErrorKind::Transient), Fault::HalfWay(ErrorKind::Transient), NEVER_SENT] {
            let layers = layers(ALL, 3);
            layers.faulty.plan(move |call| match call.number {
                1 => Some(LOST),
                2 | 3 => Some(fault),
                _ => None,
            });
            put_if(&layers.retry, "a", "new", OnlyIf::Absent).await.unwrap();
            assert_eq!(called(&layers), [Operation::Put, Operation::Get, Operation::Get, Operation::Get]);
        }
        let layers = layers(ALL, 3);
        layers.faulty.plan(|call| match call.number {
            1 => Some(LOST),
            _ => Some(Fault::Before(ErrorKind::Permission)),
        });
        let error = put_if(&layers.retry, "a", "new", OnlyIf::Absent).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsure, "nobody may look, so nobody knows");
        assert!(error.line().contains("and one of them got no answer"), "{error:?}");
        assert_eq!(error.remedy(), Some("look what is there before it is done again"));
    });
}

#[test]
fn a_write_that_is_refused_after_a_lost_answer_may_have_been_done() {
    block_on(async {
        let layers = layers(PLAIN, 3);
        layers.faulty.plan(|call| match call.number {
            1 => Some(LOST),
            _ => Some(Fault::Before(ErrorKind::Refused)),
        });
        assert_kind(put_if(&layers.retry, "a", "x", OnlyIf::Always).await, ErrorKind::Unsure);
        assert_eq!(read(&layers.memory, "a").await.unwrap(), "x");
        // One that is given up likewise, whatever its last error is.
        layers.faulty.restart();
        layers.faulty.plan(|call| match call.number {
            1 => Some(LOST),
            _ => Some(Fault::Before(ErrorKind::Transient)),
        });
        assert_kind(put_if(&layers.retry, "a", "x", OnlyIf::Always).await, ErrorKind::Unsure);
    });
}

#[test]
fn deletes_are_done_again_where_they_spare_what_came_after() {
    block_on(async {
        for features in ALL_FEATURES {
            for fault in [LOST, NEVER_SENT] {
                let layers = layers(features, 3);
                let version = put(&layers.memory, "a", "old").await;
                let memory = layers.memory.clone();
                layers.faulty.plan(move |call| match call.number {
                    1 => Some(fault),
                    2 => {
                        memory
                            .state()
                            .put("a", "theirs".into(), &OnlyIf::Always, &Default::default())
                            .unwrap();
                        None
                    }
                    _ => None,
                });
                layers.retry.delete("a", &version).await.unwrap();
                assert_eq!(read(&layers.memory, "a").await.unwrap(), "theirs", "{features:?} {fault:?}");
                assert_eq!(read_version(&layers.memory, "a", &version).await, None);
                let deletes = called(&layers).iter().filter(|call| **call == Operation::Delete).count();
                assert_eq!(deletes, if features == PLAIN { 1 } else { 2 });
            }
        }
        // What is still there is deleted, and what is gone is done.
        for fault in [LOST, NEVER_SENT] {
            let layers = layers(PLAIN, 3);
            let version = put(&layers.memory, "a", "old").await;
            fail_first(&layers, Operation::Delete, fault);
            layers.retry.delete("a", &version).await.unwrap();
            assert_eq!(read(&layers.memory, "a").await, None);
        }
    });
}

#[test]
fn an_object_is_hidden_once() {
    block_on(async {
        for fault in [LOST, NEVER_SENT] {
            let layers = layers(VERSIONS, 3);
            put(&layers.memory, "a", "x").await;
            put(&layers.memory, "ab", "a neighbour").await;
            fail_first(&layers, Operation::Hide, fault);
            let marker = layers.retry.hide("a").await.unwrap();
            let kept = versions(&layers.memory, "a").await;
            let kept: Vec<_> = kept.iter().filter(|object| object.key == "a").collect();
            assert_eq!((kept.len(), &kept[0].version, kept[0].marker), (2, &marker, true));
        }
    });
}

#[test]
fn copies_are_made_again_of_one_version_alone() {
    block_on(async {
        let options = PutOptions::default();
        for fault in [LOST, NEVER_SENT] {
            let layers = layers(ALL, 3);
            let version = put(&layers.memory, "a", "x").await;
            fail_first(&layers, Operation::Copy, fault);
            layers.retry.copy("a", Some(&version), "b", &options).await.unwrap();
            assert_eq!(read(&layers.memory, "b").await.unwrap(), "x");

            layers.faulty.restart();
            fail_first(&layers, Operation::Copy, fault);
            assert_kind(layers.retry.copy("a", None, "c", &options).await, ErrorKind::Unsure);
            let absent = PutOptions { only_if: OnlyIf::Absent, ..PutOptions::default() };
            layers.faulty.restart();
            fail_first(&layers, Operation::Copy, fault);
            assert_kind(layers.retry.copy("a", Some(&version), "d", &absent).await, ErrorKind::Unsure);
            assert_eq!(layers.faulty.calls(), 1);
        }
    });
}

#[test]
fn uploads_get_over_every_lost_answer() {
    block_on(async {
        for features in ALL_FEATURES {
            for operation in [Operation::Upload, Operation::Part, Operation::Complete] {
                for fault in [LOST, NEVER_SENT] {
                    let layers = layers(features, 3);
                    fail_first(&layers, operation, fault);
                    let options = PutOptions { only_if: OnlyIf::Absent, ..PutOptions::default() };
                    let upload = layers.retry.upload("a", &options).await.unwrap();
                    upload.part(1, "one ".into()).await.unwrap();
                    upload.part(2, "two".into()).await.unwrap();
                    upload.complete(2).await.unwrap();
                    assert_eq!(read(&layers.memory, "a").await.unwrap(), "one two");
                    assert_eq!(versions(&layers.memory, "a").await.len(), 1);
                    // A second upload is begun when nobody knows of a first one: it stays, for `clean`.
                    let left = unfinished(&layers.memory, "").await.len();
                    assert_eq!(left, usize::from(operation == Operation::Upload && fault == LOST));
                }
            }
        }
        let layers = layers(ALL, 3);
        let upload = layers.retry.upload("a", &PutOptions::default()).await.unwrap();
        upload.part(1, "x".into()).await.unwrap();
        fail_first(&layers, Operation::AbortUpload, LOST);
        upload.abort().await.unwrap();
        assert_eq!(unfinished(&layers.memory, "").await, []);
    });
}
