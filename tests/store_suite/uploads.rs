//! Objects that come in parts.

use futures_util::future;
use sidekey::store::{Info, PutOptions, Store, Upload};

use super::*;

/// A body, and the length of its parts: full ones and a short last one.
async fn in_parts(store: &dyn Store, parts: usize) -> (Bytes, usize) {
    let capabilities = store.capabilities().await.unwrap();
    let len = capabilities.min_part.clamp(4096.min(capabilities.max_part), capabilities.max_part) as usize;
    (noise(parts as u64, len * (parts - 1) + 77), len)
}

fn part(body: &Bytes, len: usize, number: u32) -> Bytes {
    let start = (number as usize - 1) * len;
    body.slice(start..(start + len).min(body.len()))
}

async fn begin(store: &dyn Store, key: &str) -> Box<dyn Upload> {
    store.upload(key, &PutOptions::default()).await.unwrap()
}

pub(crate) async fn one_part_is_an_upload(store: &dyn Store, prefix: &str) {
    let key = format!("{prefix}folder/object");
    let upload = begin(store, &key).await;
    upload.part(1, "all of it".into()).await.unwrap();
    assert!(!is_there(store, &key).await, "an object appears when it is complete");
    let written = upload.complete(1).await.unwrap();
    assert_eq!(read(store, &key).await.unwrap(), "all of it");
    let stat = store.stat(&key, None).await.unwrap();
    assert_eq!((stat.version, stat.size, stat.latest), (written.version, 9, true));
    assert_eq!(unfinished(store, prefix).await, []);
    assert_eq!(versions(store, prefix).await.len(), 1);
}

pub(crate) async fn many_parts_are_joined(store: &dyn Store, prefix: &str) {
    let (body, len) = in_parts(store, 5).await;
    for size in [None, Some(body.len() as u64)] {
        let key = format!("{prefix}object-{size:?}");
        let options = PutOptions { size, ..PutOptions::default() };
        let upload = store.upload(&key, &options).await.unwrap();
        for number in 1..=5 {
            upload.part(number, part(&body, len, number)).await.unwrap();
        }
        upload.complete(5).await.unwrap();
        assert!(read(store, &key).await.unwrap() == body);
        let range = GetOptions { range: Some(len as u64 - 3..len as u64 + 3), ..GetOptions::default() };
        assert_eq!(read_as(store, &key, range).await.unwrap(), body[len - 3..len + 3]);
    }
    // A last part of full length.
    let key = format!("{prefix}even");
    let upload = begin(store, &key).await;
    upload.part(1, part(&body, len, 1)).await.unwrap();
    upload.part(2, part(&body, len, 2)).await.unwrap();
    upload.complete(2).await.unwrap();
    assert!(read(store, &key).await.unwrap() == body[..2 * len]);
}

pub(crate) async fn parts_come_in_any_order(store: &dyn Store, prefix: &str) {
    if !store.capabilities().await.unwrap().parallel_parts {
        return;
    }
    let (body, len) = in_parts(store, 7).await;
    let key = format!("{prefix}backwards");
    let upload = begin(store, &key).await;
    for number in (1..=7).rev() {
        upload.part(number, part(&body, len, number)).await.unwrap();
    }
    upload.complete(7).await.unwrap();
    assert!(read(store, &key).await.unwrap() == body);

    let key = format!("{prefix}together");
    let upload = begin(store, &key).await;
    let sent = [3, 1, 7, 2, 6, 4, 5].map(|number| upload.part(number, part(&body, len, number)));
    future::try_join_all(sent).await.unwrap();
    upload.complete(7).await.unwrap();
    assert!(read(store, &key).await.unwrap() == body);
}

pub(crate) async fn a_part_may_be_sent_again(store: &dyn Store, prefix: &str) {
    let parallel = store.capabilities().await.unwrap().parallel_parts;
    let (body, len) = in_parts(store, 3).await;
    let key = format!("{prefix}object");
    let upload = begin(store, &key).await;
    for number in 1..=3 {
        for _ in 0..3 {
            upload.part(number, part(&body, len, number)).await.unwrap();
        }
    }
    if parallel {
        upload.part(1, part(&body, len, 1)).await.unwrap();
    }
    upload.complete(3).await.unwrap();
    assert!(read(store, &key).await.unwrap() == body);
}

pub(crate) async fn an_aborted_upload_is_gone(store: &dyn Store, prefix: &str) {
    let (body, len) = in_parts(store, 2).await;
    let key = format!("{prefix}object");
    let upload = begin(store, &key).await;
    upload.part(1, part(&body, len, 1)).await.unwrap();
    upload.abort().await.unwrap();
    upload.abort().await.unwrap();
    assert!(upload.complete(1).await.is_err(), "nothing is completed after an abort");
    assert!(!is_there(store, &key).await);
    drop(upload);
    assert!(!is_there(store, &key).await);

    let unused = begin(store, &key).await;
    unused.abort().await.unwrap();
    assert!(!is_there(store, &key).await);
}

pub(crate) async fn completing_again_gives_the_same(store: &dyn Store, prefix: &str) {
    let (body, len) = in_parts(store, 2).await;
    let key = format!("{prefix}object");
    let upload = begin(store, &key).await;
    upload.part(1, part(&body, len, 1)).await.unwrap();
    upload.part(2, part(&body, len, 2)).await.unwrap();
    let first = upload.complete(2).await.unwrap();
    let again = upload.complete(2).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(versions(store, &key).await.len(), 1, "it is written once");
    assert!(read(store, &key).await.unwrap() == body);

    // Who asks again is told about his own upload, not about what replaced it, and does not replace that.
    put(store, &key, "of somebody else").await;
    assert_eq!(upload.complete(2).await.unwrap(), first);
    upload.abort().await.unwrap();
    assert_eq!(read(store, &key).await.unwrap(), "of somebody else");
}

pub(crate) async fn a_missing_part_is_no_object(store: &dyn Store, prefix: &str) {
    let (body, len) = in_parts(store, 3).await;
    let key = format!("{prefix}object");
    let upload = begin(store, &key).await;
    upload.part(1, part(&body, len, 1)).await.unwrap();
    if store.capabilities().await.unwrap().parallel_parts {
        upload.part(3, part(&body, len, 3)).await.unwrap();
    }
    assert!(upload.complete(3).await.is_err());
    assert!(!is_there(store, &key).await);
    upload.abort().await.unwrap();
}

pub(crate) async fn unfinished_uploads_are_listed_and_aborted(store: &dyn Store, prefix: &str) {
    let (body, len) = in_parts(store, 2).await;
    let key = format!("{prefix}in/object");
    let others = begin(store, &format!("{prefix}out/object")).await;
    others.part(1, part(&body, len, 1)).await.unwrap();
    let upload = begin(store, &key).await;
    upload.part(1, part(&body, len, 1)).await.unwrap();

    let inside = format!("{prefix}in/");
    let found = unfinished(store, &inside).await;
    assert!(!found.is_empty());
    assert!(found.iter().all(|unfinished| unfinished.key.starts_with(&inside)), "{found:?}");
    assert!(unfinished(store, prefix).await.len() > found.len());
    assert_eq!(versions(store, prefix).await, [], "what is unfinished is not listed as an object");
    for unfinished in &found {
        store.abort(unfinished).await.unwrap();
        store.abort(unfinished).await.unwrap();
    }
    assert_eq!(unfinished(store, &inside).await, []);
    assert!(upload.complete(1).await.is_err());
    assert!(!is_there(store, &key).await);

    others.complete(1).await.unwrap();
    assert!(is_there(store, &format!("{prefix}out/object")).await, "other uploads are left alone");
}

/// It is listed as unfinished, or its parts are gone with it.
pub(crate) async fn a_dropped_upload_is_no_object(store: &dyn Store, prefix: &str) {
    let (body, len) = in_parts(store, 2).await;
    let key = format!("{prefix}object");
    put(store, &key, "what was there").await;
    for _ in 0..2 {
        let upload = begin(store, &key).await;
        upload.part(1, part(&body, len, 1)).await.unwrap();
        drop(upload);
    }
    assert_eq!(read(store, &key).await.unwrap(), "what was there");
    for unfinished in unfinished(store, prefix).await {
        store.abort(&unfinished).await.unwrap();
    }
    assert_eq!(unfinished(store, prefix).await, []);
    assert_eq!(read(store, &key).await.unwrap(), "what was there");
    assert_eq!(versions(store, prefix).await.len(), 1);
}

pub(crate) async fn what_was_there_stays_until_completion(store: &dyn Store, prefix: &str) {
    let versions_kept = store.capabilities().await.unwrap().versions;
    let (body, len) = in_parts(store, 2).await;
    let key = format!("{prefix}object");
    let old = put(store, &key, "what was there").await;
    let upload = begin(store, &key).await;
    for number in 1..=2 {
        upload.part(number, part(&body, len, number)).await.unwrap();
        assert_eq!(read(store, &key).await.unwrap(), "what was there");
    }
    let new = upload.complete(2).await.unwrap().version;
    assert_ne!(new, old);
    assert!(read(store, &key).await.unwrap() == body);
    assert_eq!(read_version(store, &key, &old).await.is_some(), versions_kept);
}

pub(crate) async fn an_upload_keeps_info(store: &dyn Store, prefix: &str) {
    let key = format!("{prefix}object");
    let kept = info(&[("sidekey-id", "00112233445566778899aabbccddeeff")]);
    let options = PutOptions { info: kept.clone(), ..PutOptions::default() };
    let upload = store.upload(&key, &options).await.unwrap();
    upload.part(1, "body".into()).await.unwrap();
    upload.complete(1).await.unwrap();
    let found = store.stat(&key, None).await.unwrap().info.unwrap_or_default();
    let expected = if store.capabilities().await.unwrap().info { kept } else { Info::new() };
    assert_eq!(found, expected);
}
