//! Whole objects: bytes, ranges, versions, info, keys, times and copies.

use std::time::Duration;

use bytes::Bytes;
use sidekey::ErrorKind;
use sidekey::store::{GetOptions, ListOptions, Listed, PutOptions, Store};

use super::*;

pub(crate) async fn bytes_come_back(store: &dyn Store, prefix: &str) {
    for size in [0, 1, 4096, 1 << 20] {
        let (key, body) = (format!("{prefix}size-{size}"), noise(size as u64, size));
        let version = put(store, &key, body.clone()).await;
        let download = store.get(&key, &GetOptions::default()).await.unwrap();
        let object = download.object.clone();
        assert_eq!(
            (object.key.as_str(), object.size, &object.version),
            (key.as_str(), size as u64, &version)
        );
        assert!(object.latest && !object.marker);
        assert!(bytes_of(download.body).await.unwrap() == body, "{size} bytes");
        let stat = store.stat(&key, None).await.unwrap();
        assert_eq!(
            (stat.key, stat.size, stat.version, stat.latest),
            (key.clone(), size as u64, version.clone(), true)
        );
        assert!(read_version(store, &key, &version).await.unwrap() == body, "{size} bytes by version");
        assert_eq!(store.stat(&key, Some(&version)).await.unwrap().size, size as u64);
    }
}

pub(crate) async fn ranges_are_cut_at_the_end(store: &dyn Store, prefix: &str) {
    let (key, body) = (format!("{prefix}object"), noise(1, 10_000));
    let version = put(store, &key, body.clone()).await;
    for (start, end) in [
        (0, 10_000),
        (0, 1),
        (9_999, 10_000),
        (4_000, 4_096),
        (0, 0),
        (5_000, 5_000),
        (9_000, 10_001),
        (9_000, u64::MAX),
        (10_000, 10_001),
        (10_000, u64::MAX),
        (20_000, 30_000),
    ] {
        for version in [None, Some(version.clone())] {
            let options = GetOptions { version, range: Some(start..end), ..GetOptions::default() };
            let download = store.get(&key, &options).await.unwrap();
            assert_eq!(download.object.size, 10_000, "the size is that of the whole object: {options:?}");
            let expected = &body[start.min(10_000) as usize..end.min(10_000) as usize];
            assert!(bytes_of(download.body).await.unwrap() == expected, "{options:?}");
        }
    }
    let empty = format!("{prefix}empty");
    put(store, &empty, Bytes::new()).await;
    for range in [0..0, 0..1, 7..9] {
        let options = GetOptions { version: None, range: Some(range), ..GetOptions::default() };
        assert_eq!(read_as(store, &empty, options).await.unwrap(), Bytes::new());
    }
}

pub(crate) async fn another_write_is_another_version(store: &dyn Store, prefix: &str) {
    let versions_kept = store.capabilities().await.unwrap().versions;
    let key = format!("{prefix}object");
    let first = put(store, &key, "first").await;
    let second = put(store, &key, "the second").await;
    assert_ne!(first, second);
    assert_eq!(read(store, &key).await.unwrap(), "the second");
    let current = store.stat(&key, None).await.unwrap();
    assert_eq!((current.version, current.latest), (second.clone(), true));
    assert_eq!(read_version(store, &key, &second).await.unwrap(), "the second");
    let old = read_version(store, &key, &first).await;
    assert_eq!(
        old,
        versions_kept.then(|| Bytes::from("first")),
        "an old version stays exactly where there are versions"
    );
    if versions_kept {
        assert!(!store.stat(&key, Some(&first)).await.unwrap().latest);
        let third = put(store, &key, "the second").await;
        assert_ne!(third, second, "the same bytes again are another version");
    }
}

pub(crate) async fn what_is_missing_is_not_found(store: &dyn Store, prefix: &str) {
    let options = PutOptions::default();
    let (missing, below) = (format!("{prefix}missing"), format!("{prefix}folder/below/missing"));
    let there = format!("{prefix}there");
    let version = put(store, &there, "gone soon").await;
    store.delete(&there, &version).await.unwrap();
    for key in [&missing, &below, &there] {
        for version in [None, Some(&version)] {
            let get = GetOptions { version: version.cloned(), range: None, ..GetOptions::default() };
            assert_kind(store.get(key, &get).await, ErrorKind::NotFound);
            assert_kind(store.stat(key, version).await, ErrorKind::NotFound);
            assert_kind(
                store.copy(key, version, &format!("{prefix}copy"), &options).await,
                ErrorKind::NotFound,
            );
        }
        let get = GetOptions { version: None, range: Some(0..0), ..GetOptions::default() };
        assert_kind(store.get(key, &get).await, ErrorKind::NotFound);
    }
    put(store, &format!("{prefix}folder/object"), "x").await;
    assert_kind(store.stat(&format!("{prefix}folder"), None).await, ErrorKind::NotFound);
    assert!(!is_there(store, &format!("{prefix}copy")).await);
}

pub(crate) async fn info_comes_back(store: &dyn Store, prefix: &str) {
    let capabilities = store.capabilities().await.unwrap();
    let kept = info(&[("sidekey-id", "00112233445566778899aabbccddeeff"), ("other", "a+b c/%=&")]);
    let (with, without) = (format!("{prefix}with"), format!("{prefix}nothing"));
    let options = PutOptions { info: kept.clone(), ..PutOptions::default() };
    store.put(&with, "body".into(), &options).await.unwrap();
    put(store, &without, "body").await;
    let found = store.stat(&with, None).await.unwrap().info.unwrap_or_default();
    let download = store.get(&with, &GetOptions::default()).await.unwrap();
    let nothing = store.stat(&without, None).await.unwrap().info.unwrap_or_default();
    assert!(nothing.is_empty(), "{nothing:?}");
    match capabilities.info {
        true => {
            assert_eq!(found, kept);
            assert_eq!(download.object.info, Some(kept.clone()));
        }
        false => assert!(found.is_empty(), "{found:?}"),
    }
    let listed = list(store, ListOptions { prefix: with.clone(), ..ListOptions::default() }).await;
    let [Listed::Object(listed)] = &listed[..] else { panic!("{listed:?}") };
    match capabilities.info && capabilities.info_in_list {
        true => assert_eq!(listed.info, Some(kept)),
        false => assert_eq!(listed.info.clone().unwrap_or_default(), Info::new()),
    }
    put(store, &with, "another body").await;
    let replaced = store.stat(&with, None).await.unwrap().info.unwrap_or_default();
    assert!(replaced.is_empty(), "info belongs to what it was written with: {replaced:?}");
}

pub(crate) async fn unusual_keys_are_kept(store: &dyn Store, prefix: &str) {
    let segment = "0123456789".repeat(19);
    let long = format!("{segment}/{segment}/{segment}/{segment}/{segment}/{}", &segment[..40]);
    let long = &long[..(1000 - prefix.len()).min(long.len())];
    let mut keys: Vec<String> = [
        "with space",
        " space at both ends ",
        "plus+and%25percent%",
        "%2e%2e",
        "question?and#hash&equals=;",
        "quotes'\"`",
        "back\\slash",
        "<angle>[square]{curly}",
        "star*bang!dollar$at@caret^tilde~pipe|",
        "comma,colon:semi;",
        "-rf",
        "...",
        ".hidden",
        "umlaut ä",
        "日本語/キー",
        "emoji 🗝️",
        "é/deep/à/path/x.enc",
        "x.0123456789abcdef.key.enc",
        "con",
        "trailing.",
    ]
    .map(|name| format!("{prefix}{name}"))
    .into();
    keys.push(format!("{prefix}{long}"));
    for (seed, key) in keys.iter().enumerate() {
        put(store, key, noise(seed as u64, 100)).await;
    }
    for (seed, key) in keys.iter().enumerate() {
        assert_eq!(read(store, key).await.unwrap_or_default(), noise(seed as u64, 100), "{key}");
        assert_eq!(store.stat(key, None).await.unwrap().key, *key);
        let listed = names(store, ListOptions { prefix: key.clone(), ..ListOptions::default() }).await;
        assert_eq!(listed.first(), Some(key));
    }
    keys.sort();
    let listed = names(store, ListOptions { prefix: prefix.to_owned(), ..ListOptions::default() }).await;
    assert_eq!(listed, keys);
    for key in &keys {
        let version = store.stat(key, None).await.unwrap().version;
        store.delete(key, &version).await.unwrap();
        assert!(!is_there(store, key).await, "{key}");
    }
}

/// By the store's clock, which may tick in seconds and be somewhat off ours.
pub(crate) async fn times_go_forward(store: &dyn Store, prefix: &str) {
    let mut before = None;
    for number in 0..5 {
        let key = format!("{prefix}object");
        put(store, &key, format!("number {number}")).await;
        let stat = store.stat(&key, None).await.unwrap();
        let modified = stat.modified;
        assert!(before.is_none_or(|before| modified >= before), "{modified:?} is before {before:?}");
        before = Some(modified);
        let download = store.get(&key, &GetOptions::default()).await.unwrap();
        let listed = versions(store, &key).await;
        for (how, other) in [("get", download.object.modified), ("list", listed[0].modified)] {
            let apart = other.duration_since(modified).unwrap_or_else(|error| error.duration());
            assert!(apart < Duration::from_secs(1), "stat and {how} are {apart:?} apart");
        }
    }
}

pub(crate) async fn copies_are_equal(store: &dyn Store, prefix: &str) {
    let capabilities = store.capabilities().await.unwrap();
    let (from, to) = (format!("{prefix}from"), format!("{prefix}folder/to"));
    let body = noise(3, 70_000);
    let old = PutOptions { info: info(&[("name", "of the source")]), ..PutOptions::default() };
    store.put(&from, body.clone(), &old).await.unwrap();
    let given = PutOptions { info: info(&[("name", "of the copy")]), ..PutOptions::default() };
    let copied = store.copy(&from, None, &to, &given).await.unwrap();
    let stat = store.stat(&to, None).await.unwrap();
    assert_eq!((stat.key, stat.version, stat.size), (to.clone(), copied.version, 70_000));
    if capabilities.info {
        assert_eq!(stat.info, Some(given.info), "a copy has the info that it is given");
    }
    assert!(read(store, &to).await.unwrap() == body);
    assert!(read(store, &from).await.unwrap() == body);

    put(store, &from, "another").await;
    let again = store.copy(&from, None, &to, &PutOptions::default()).await.unwrap();
    assert_eq!(read(store, &to).await.unwrap(), "another");
    assert_eq!(store.stat(&to, None).await.unwrap().version, again.version);
}

pub(crate) async fn copies_are_of_one_version(store: &dyn Store, prefix: &str) {
    let options = PutOptions::default();
    let (from, to) = (format!("{prefix}from"), format!("{prefix}to"));
    let first = put(store, &from, "first").await;
    store.copy(&from, Some(&first), &to, &options).await.unwrap();
    assert_eq!(read(store, &to).await.unwrap(), "first");
    let second = put(store, &from, "the second").await;
    match store.capabilities().await.unwrap().versions {
        true => {
            store.copy(&from, Some(&second), &to, &options).await.unwrap();
            store.copy(&from, Some(&first), &to, &options).await.unwrap();
        }
        false => {
            let stale = store.copy(&from, Some(&first), &to, &options).await;
            assert_kind(stale, ErrorKind::NotFound);
        }
    }
    assert_eq!(read(store, &to).await.unwrap(), "first");
    if store.capabilities().await.unwrap().versions {
        // The way back to an old version.
        store.copy(&from, Some(&first), &from, &options).await.unwrap();
        assert_eq!(read(store, &from).await.unwrap(), "first");
        assert_eq!(read_version(store, &from, &second).await.unwrap(), "the second");
    }
}

pub(crate) async fn what_is_written_is_shown(store: &dyn Store, prefix: &str) {
    let capabilities = store.capabilities().await.unwrap();
    assert_eq!(capabilities, store.capabilities().await.unwrap(), "the answer is remembered");
    let conditions = store.conditions().await.unwrap();
    assert_eq!(conditions, store.conditions().await.unwrap(), "the answer is remembered");
    assert!((1..=capabilities.max_part).contains(&capabilities.min_part), "{capabilities:?}");
    assert!(capabilities.max_parts > 1 && capabilities.concurrency > 0, "{capabilities:?}");
    let key = format!("{prefix}folder/object");
    let shown = store.show(&key);
    assert!(shown.ends_with(&key), "{shown}");
    assert_ne!(shown, store.show(prefix));
}
