//! The store of S3, on LocalStack's: what is special about it. What a service does wrong is in `s3_faults.rs`.
#![expect(clippy::disallowed_methods, reason = "object locks end by the clock")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::types::{BucketVersioningStatus, ObjectLockMode};
use aws_smithy_types::DateTime;
use bytes::Bytes;
use sidekey::store::retry::{Policy, Retry};
use sidekey::store::{
    Conditions, CustomerKey, DefaultEncryption, Encryption, GetOptions, ListOptions, Listed, OnlyIf,
    PutOptions, Store, Unfinished,
};
use sidekey::{Error, ErrorKind};

use crate::s3_server::{self, Versions, admin, set_versioning};
use crate::store_suite::{
    assert_kind, block_on, bytes_of, info, list, noise, put, put_if, read, read_version, unfinished, versions,
};

fn retrying(versions: Versions) -> (Retry<dyn Store>, ()) {
    let bucket = block_on(s3_server::bucket(versions));
    (Retry::new(s3_server::store(&bucket), Policy::default()), ())
}

store_suite!(unversioned, retrying(Versions::Off));
store_suite!(versioned, retrying(Versions::On));

const PART: usize = 5 << 20;

/// A bucket and its store.
async fn place(versions: Versions) -> (String, Arc<dyn Store>) {
    let bucket = s3_server::bucket(versions).await;
    let store = s3_server::store(&bucket);
    (bucket, store)
}

fn customer_key(byte: u8) -> CustomerKey {
    CustomerKey::new(&[byte; 32], None)
}

/// Every way to have the service encrypt.
fn encryptions() -> Vec<Option<Encryption>> {
    let mut all = vec![None, Some(Encryption::Customer(customer_key(1)))];
    // Another server than LocalStack has no keys of its own here.
    if !s3_server::is_another() {
        all.extend([Some(Encryption::Service), Some(Encryption::Kms(None))]);
    }
    all
}

fn key_of(encryption: Option<&Encryption>) -> Option<CustomerKey> {
    match encryption {
        Some(Encryption::Customer(key)) => Some(key.clone()),
        _ => None,
    }
}

fn encrypted(encryption: Option<&Encryption>) -> PutOptions {
    PutOptions { encryption: encryption.cloned(), ..PutOptions::default() }
}

fn with_key(customer_key: Option<CustomerKey>) -> GetOptions {
    GetOptions { customer_key, ..GetOptions::default() }
}

async fn read_with(store: &dyn Store, key: &str, customer_key: Option<CustomerKey>) -> Bytes {
    bytes_of(store.get(key, &with_key(customer_key)).await.unwrap().body).await.unwrap()
}

/// How the service says that it keeps an object.
async fn kept_as(bucket: &str, key: &str, customer_key: bool) -> String {
    let mut request = admin().head_object().bucket(bucket).key(key);
    if customer_key {
        // Thirty-two times 1, and its MD5.
        request = request
            .sse_customer_algorithm("AES256")
            .sse_customer_key("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=")
            .sse_customer_key_md5("4Funlf7OsLF0HL+vKU+fkg==");
    }
    let head = request.send().await.unwrap();
    match (head.sse_customer_algorithm(), head.server_side_encryption()) {
        (Some(_), _) => "customer".into(),
        (None, Some(algorithm)) => algorithm.as_str().into(),
        (None, None) => "nothing".into(),
    }
}

/// Nothing asked for is what AWS calls SSE-S3 since 2023.
fn expected(encryption: Option<&Encryption>) -> &'static str {
    match encryption {
        None if s3_server::is_another() => "nothing",
        None | Some(Encryption::Service) => "AES256",
        Some(Encryption::Kms(_)) => "aws:kms",
        Some(Encryption::Customer(_)) => "customer",
    }
}

#[track_caller]
fn names_the_key(result: Result<impl std::fmt::Debug, Error>, which: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth, "{error:?}");
    assert!(error.line().contains(which), "{error:?}");
    assert!(error.remedy().is_some(), "{error:?}");
}

#[test]
fn objects_are_encrypted_as_asked_and_read_with_their_key() {
    block_on(async {
        let (bucket, store) = place(Versions::Off).await;
        for (number, encryption) in encryptions().into_iter().enumerate() {
            let encryption = encryption.as_ref();
            let (key, body) = (format!("object-{number}"), noise(number as u64, 10_000));
            let written = store.put(&key, body.clone(), &encrypted(encryption)).await.unwrap();
            let secret = key_of(encryption);
            assert_eq!(kept_as(&bucket, &key, secret.is_some()).await, expected(encryption));
            assert_eq!(read_with(&*store, &key, secret.clone()).await, body);
            for (range, len) in [(100..300, 200), (9_999..20_000, 1), (10_000..10_001, 0), (5..5, 0)] {
                let options = GetOptions {
                    range: Some(range.clone()),
                    customer_key: secret.clone(),
                    version: Some(written.version.clone()),
                };
                let download = store.get(&key, &options).await.unwrap();
                assert_eq!(download.object.size, 10_000);
                let start = range.start as usize;
                assert_eq!(bytes_of(download.body).await.unwrap(), body[start..start + len], "{range:?}");
            }
            let stat = store.stat(&key, None).await.unwrap();
            assert_eq!((stat.size, &stat.version), (10_000, &written.version), "it needs no key");
            assert_eq!(store.stat(&key, Some(&written.version)).await.unwrap().size, 10_000);
            store.delete(&key, &written.version).await.unwrap();
            assert_kind(store.stat(&key, None).await, ErrorKind::NotFound);
        }
    });
}

#[test]
fn a_missing_and_a_wrong_key_are_told_apart() {
    for kept in [Versions::Off, Versions::On] {
        block_on(async {
            let (_, store) = place(kept).await;
            let customer = Encryption::Customer(customer_key(1));
            let written = store.put("object", "secret".into(), &encrypted(Some(&customer))).await.unwrap();
            for range in [None, Some(0..3), Some(0..0), Some(50..60)] {
                let missing = GetOptions { range: range.clone(), ..GetOptions::default() };
                names_the_key(store.get("object", &missing).await, "none was given");
                let wrong = GetOptions { range, ..with_key(Some(customer_key(2))) };
                names_the_key(store.get("object", &wrong).await, "another customer's key");
            }
            for source_key in [None, Some(customer_key(2))] {
                let which = if source_key.is_some() { "another customer's key" } else { "none was given" };
                let options = PutOptions { source_key, ..PutOptions::default() };
                names_the_key(store.copy("object", Some(&written.version), "copy", &options).await, which);
            }
            let stat = store.stat("object", None).await.unwrap();
            assert_eq!((stat.version, stat.latest, stat.size), (written.version, true, 6));
        });
    }
}

#[test]
fn copies_go_from_each_encryption_to_each() {
    block_on(async {
        let (bucket, store) = place(Versions::On).await;
        for (from, source) in encryptions().iter().enumerate() {
            let body = noise(from as u64, 1_000);
            let written = store.put("from", body.clone(), &encrypted(source.as_ref())).await.unwrap();
            for (to, target) in encryptions().iter().enumerate() {
                // Another key than that of the source, so that none is mistaken for the other.
                let target = target.as_ref();
                let key = format!("from-{from}-to-{to}");
                for only_if in [OnlyIf::Always, OnlyIf::Absent] {
                    let options = PutOptions {
                        only_if: only_if.clone(),
                        source_key: key_of(source.as_ref()),
                        ..encrypted(target)
                    };
                    let name = format!("{key}-{only_if:?}");
                    store.copy("from", Some(&written.version), &name, &options).await.unwrap();
                    assert_eq!(read_with(&*store, &name, key_of(target)).await, body, "{name}");
                    assert_eq!(
                        kept_as(&bucket, &name, key_of(target).is_some()).await,
                        expected(target),
                        "{name}"
                    );
                }
            }
        }
        let other = Encryption::Customer(customer_key(2));
        let options = PutOptions { source_key: Some(customer_key(1)), ..encrypted(Some(&other)) };
        store.copy("from", None, "other", &options).await.unwrap();
        names_the_key(store.get("other", &with_key(Some(customer_key(1)))).await, "another customer's key");
        assert_eq!(read_with(&*store, "other", Some(customer_key(2))).await.len(), 1_000);
    });
}

#[test]
fn parts_are_encrypted_as_asked_and_gone_on_with() {
    block_on(async {
        let (bucket, store) = place(Versions::On).await;
        for (number, encryption) in encryptions().into_iter().enumerate() {
            let (key, body) = (format!("object-{number}"), noise(number as u64, PART + 1_000));
            let options = encrypted(encryption.as_ref());
            let upload = store.upload(&key, &options).await.unwrap();
            upload.part(1, body.slice(..PART)).await.unwrap();
            let id = upload.id().unwrap().to_owned();
            drop(upload);

            let [left] = &unfinished(&*store, &key).await[..] else { panic!("one upload is unfinished") };
            assert_eq!((&left.key, &left.id), (&key, &id));
            let resumed = store.resume(left, &options).await.unwrap();
            let parts: Vec<_> = resumed.parts.iter().map(|part| (part.number, part.size)).collect();
            assert_eq!(parts, [(1, PART as u64)]);
            resumed.upload.part(2, body.slice(PART..)).await.unwrap();
            let written = resumed.upload.complete(2).await.unwrap();
            let secret = key_of(encryption.as_ref());
            assert!(read_with(&*store, &key, secret.clone()).await == body);
            assert_eq!(kept_as(&bucket, &key, secret.is_some()).await, expected(encryption.as_ref()));
            assert_eq!(store.stat(&key, None).await.unwrap().version, written.version);
            assert_kind(store.resume(left, &options).await, ErrorKind::NotFound);
        }
        let gone = Unfinished { key: "x".into(), id: "none".into(), started: SystemTime::now() };
        assert_kind(store.resume(&gone, &PutOptions::default()).await, ErrorKind::NotFound);
        store.abort(&gone).await.unwrap();
    });
}

#[test]
fn what_was_written_before_versions_is_known_by_its_etag() {
    block_on(async {
        let (bucket, store) = place(Versions::Off).await;
        let old = put(&*store, "object", "before").await;
        assert!(old.starts_with("etag:"), "{old}");
        set_versioning(&bucket, BucketVersioningStatus::Enabled).await;
        let store = s3_server::store(&bucket);
        assert_eq!(store.stat("object", None).await.unwrap().version, old);
        let new = put(&*store, "object", "since then").await;
        assert!(!new.starts_with("etag:"), "{new}");
        let listed: Vec<_> =
            versions(&*store, "object").await.into_iter().map(|found| found.version).collect();
        assert_eq!(listed, [new.clone(), old.clone()]);
        assert_eq!(read_version(&*store, "object", &old).await.unwrap(), "before");
        assert!(!store.stat("object", Some(&old)).await.unwrap().latest);
        store.copy("object", Some(&old), "copy", &PutOptions::default()).await.unwrap();
        assert_eq!(read(&*store, "copy").await.unwrap(), "before");
        let other = "etag:0123456789abcdef0123456789abcdef".to_owned();
        assert_eq!(read_version(&*store, "object", &other).await, None);
        store.delete("object", &other).await.unwrap();
        assert_eq!(versions(&*store, "object").await.len(), 2, "another ETag is another version");
        store.delete("object", &old).await.unwrap();
        assert_eq!(read_version(&*store, "object", &old).await, None);
        assert_eq!(read(&*store, "object").await.unwrap(), "since then");
    });
}

#[test]
fn suspended_versions_are_kept_listed_and_deleted_by_id() {
    block_on(async {
        let (bucket, store) = place(Versions::On).await;
        let kept = put(&*store, "object", "kept").await;
        set_versioning(&bucket, BucketVersioningStatus::Suspended).await;
        let store = s3_server::store(&bucket);
        assert!(store.capabilities().await.unwrap().versions, "older versions are there");
        let first = put(&*store, "object", "the first since").await;
        let second = put(&*store, "object", "the second since").await;
        let listed: Vec<_> =
            versions(&*store, "object").await.into_iter().map(|found| found.version).collect();
        assert_eq!(listed, [second.clone(), kept.clone()], "nothing is kept any more");
        assert_kind(store.hide("object").await, ErrorKind::Refused);
        assert_eq!(read(&*store, "object").await.unwrap(), "the second since");
        store.delete("object", &first).await.unwrap();
        assert_eq!(read(&*store, "object").await.unwrap(), "the second since", "a stale id deletes nothing");
        store.delete("object", &second).await.unwrap();
        assert_eq!(read(&*store, "object").await.unwrap(), "kept");
        store.delete("object", &kept).await.unwrap();
        assert_eq!(versions(&*store, "").await, []);
    });
}

#[test]
fn what_was_tried_to_know_the_bucket_is_removed() {
    for kept in [Versions::Off, Versions::On, Versions::Suspended] {
        block_on(async {
            let (_, store) = place(kept).await;
            assert_eq!(store.capabilities().await.unwrap().versions, kept != Versions::Off, "{kept:?}");
            let expected = Conditions { create_new: true, replace_if: true, delete_if: false };
            assert_eq!(store.conditions().await.unwrap(), expected, "{kept:?}");
            assert_eq!(versions(&*store, "").await, [], "{kept:?}");
        });
    }
}

#[test]
fn a_locked_version_says_until_when() {
    block_on(async {
        let (bucket, store) = place(Versions::Locked).await;
        let until = SystemTime::now() + Duration::from_secs(3 * 24 * 3600);
        let request = admin()
            .put_object()
            .bucket(&bucket)
            .key("object")
            .object_lock_mode(ObjectLockMode::Compliance)
            .object_lock_retain_until_date(DateTime::from(until));
        let version = request.send().await.unwrap().version_id().unwrap().to_owned();
        let error = store.delete("object", &version).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permission, "{error:?}");
        let date = humantime::format_rfc3339_seconds(until).to_string();
        assert!(error.line().contains(&format!("is locked until {date}")), "{error:?}");
        assert!(error.line().contains("compliance"), "{error:?}");
        assert_eq!(versions(&*store, "object").await.len(), 1);
        store.hide("object").await.unwrap();
    });
}

#[test]
fn the_default_encryption_of_a_bucket_is_read_set_and_cleared() {
    block_on(async {
        let (_, store) = place(Versions::Off).await;
        let bucket = store.bucket().unwrap();
        let is = async || bucket.default_encryption().await.unwrap();
        assert_eq!(is().await, DefaultEncryption::On(Encryption::Service));
        let key = Encryption::Kms(Some("arn:aws:kms:us-east-1:000000000000:key/none".into()));
        bucket.set_default_encryption(Some(&key)).await.unwrap();
        assert_eq!(is().await, DefaultEncryption::On(key));
        bucket.set_default_encryption(Some(&Encryption::Service)).await.unwrap();
        assert_eq!(is().await, DefaultEncryption::On(Encryption::Service));
        bucket.set_default_encryption(None).await.unwrap();
        // AWS goes back to its own keys, LocalStack to nothing.
        let cleared = is().await;
        let service = DefaultEncryption::On(Encryption::Service);
        assert!([DefaultEncryption::Off, service].contains(&cleared), "{cleared:?}");
        let customer = Encryption::Customer(customer_key(1));
        assert_kind(bucket.set_default_encryption(Some(&customer)).await, ErrorKind::Refused);
    });
}

#[test]
fn a_bucket_that_is_not_there_is_named() {
    block_on(async {
        let store = s3_server::store("no-such-bucket");
        for error in [
            store.capabilities().await.unwrap_err(),
            store.put("object", Bytes::new(), &PutOptions::default()).await.unwrap_err(),
            store.get("object", &GetOptions::default()).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Refused, "{error:?}");
            assert!(error.line().contains("there is no such bucket"), "{error:?}");
            assert!(error.line().starts_with("s3://no-such-bucket"), "{error:?}");
        }
    });
}

#[test]
fn a_version_is_replaced_only_while_it_is_the_current_one() {
    block_on(async {
        let (_, store) = place(Versions::On).await;
        let first = put(&*store, "object", "first").await;
        store.hide("object").await.unwrap();
        let hidden = put_if(&*store, "object", "over a marker", OnlyIf::Version(first.clone())).await;
        assert_kind(hidden, ErrorKind::Conflict);
        let customer = Encryption::Customer(customer_key(1));
        let second = store.put("object", "second".into(), &encrypted(Some(&customer))).await.unwrap();
        assert_kind(put_if(&*store, "object", "stale", OnlyIf::Version(first)).await, ErrorKind::Conflict);
        put_if(&*store, "object", "third", OnlyIf::Version(second.version)).await.unwrap();
        assert_eq!(read(&*store, "object").await.unwrap(), "third");
    });
}

#[test]
fn info_comes_with_a_copy_by_parts() {
    block_on(async {
        let (_, store) = place(Versions::Off).await;
        for body in [Bytes::new(), noise(1, 3_000)] {
            let key = format!("from-{}", body.len());
            put(&*store, &key, body.clone()).await;
            let kept = info(&[("sidekey-id", "00112233445566778899aabbccddeeff")]);
            let options = PutOptions { only_if: OnlyIf::Absent, info: kept.clone(), ..PutOptions::default() };
            let to = format!("to-{}", body.len());
            let written = store.copy(&key, None, &to, &options).await.unwrap();
            let stat = store.stat(&to, None).await.unwrap();
            assert_eq!((stat.info, stat.version), (Some(kept), written.version));
            assert_eq!(read(&*store, &to).await.unwrap(), body);
            assert_kind(store.copy(&key, None, &to, &options).await, ErrorKind::Conflict);
            assert_eq!(unfinished(&*store, "").await, [], "a copy that was not done leaves nothing");
        }
    });
}

#[test]
fn folders_and_ids_come_from_one_list() {
    block_on(async {
        let (_, store) = place(Versions::On).await;
        for key in ["a/1", "b", "c/1", "c/2", "d"] {
            put(&*store, key, "old").await;
            put(&*store, key, "new").await;
        }
        for key in ["a/1", "c/1", "d"] {
            store.hide(key).await.unwrap();
        }
        let current = list(&*store, ListOptions { delimiter: true, ..ListOptions::default() }).await;
        let [Listed::Object(b), Listed::Folder(c)] = &current[..] else { panic!("{current:?}") };
        assert_eq!((&*b.key, &**c), ("b", "c/"));
        assert_eq!(b.version, store.stat("b", None).await.unwrap().version);
        let options = ListOptions { delimiter: true, versions: true, ..ListOptions::default() };
        assert_eq!(
            list(&*store, options).await.len(),
            7,
            "two folders, two versions of b, two and a marker of d"
        );
    });
}
