//! Versions: deleting, hiding and listing them.

use sidekey::ErrorKind;
use sidekey::store::{GetOptions, ListOptions, Listed, PutOptions, Store};

use super::*;

pub(crate) async fn a_version_is_deleted_alone(store: &dyn Store, prefix: &str) {
    let key = format!("{prefix}object");
    let neighbour = format!("{prefix}object.more");
    put(store, &neighbour, "not asked for").await;
    if store.capabilities().await.unwrap().versions {
        let [first, second, third] =
            [put(store, &key, "1").await, put(store, &key, "22").await, put(store, &key, "333").await];
        store.delete(&key, &second).await.unwrap();
        assert_eq!(read_version(store, &key, &second).await, None);
        assert_eq!(read_version(store, &key, &first).await.unwrap(), "1");
        assert_eq!(read(store, &key).await.unwrap(), "333");
        store.delete(&key, &third).await.unwrap();
        assert_eq!(read(store, &key).await.unwrap(), "1", "the version before is the current one again");
        assert!(store.stat(&key, None).await.unwrap().latest);
        store.delete(&key, &first).await.unwrap();
    } else {
        let version = put(store, &key, "1").await;
        store.delete(&key, &version).await.unwrap();
    }
    assert!(!is_there(store, &key).await);
    assert_eq!(read(store, &neighbour).await.unwrap(), "not asked for");
    assert_eq!(versions(store, prefix).await.len(), 1);
}

pub(crate) async fn what_is_gone_may_be_deleted(store: &dyn Store, prefix: &str) {
    let (key, never) = (format!("{prefix}folder/object"), format!("{prefix}never/there"));
    let version = put(store, &key, "gone soon").await;
    for _ in 0..2 {
        store.delete(&key, &version).await.unwrap();
        assert!(!is_there(store, &key).await);
    }
    store.delete(&never, &version).await.unwrap();
    put(store, &key, "there again").await;
    assert_eq!(read(store, &key).await.unwrap(), "there again");
}

pub(crate) async fn a_stale_delete_spares_what_came_after(store: &dyn Store, prefix: &str) {
    let capabilities = store.capabilities().await.unwrap();
    let key = format!("{prefix}object");
    let stale = put(store, &key, "first").await;
    let current = put(store, &key, "the second").await;
    store.delete(&key, &stale).await.unwrap();
    let spared = capabilities.versions || store.conditions().await.unwrap().delete_if;
    assert_eq!(is_there(store, &key).await, spared, "{capabilities:?}");
    if spared {
        assert_eq!(store.stat(&key, None).await.unwrap().version, current);
        store.delete(&key, &stale).await.unwrap();
        assert_eq!(read(store, &key).await.unwrap(), "the second");
    }
}

pub(crate) async fn hiding_keeps_the_versions(store: &dyn Store, prefix: &str) {
    let key = format!("{prefix}object");
    let first = put(store, &key, "first").await;
    let second = put(store, &key, "the second").await;
    if !store.capabilities().await.unwrap().versions {
        assert_kind(store.hide(&key).await, ErrorKind::Refused);
        assert_eq!(read(store, &key).await.unwrap(), "the second");
        return;
    }
    let marker = store.hide(&key).await.unwrap();
    assert_kind(store.stat(&key, None).await, ErrorKind::NotFound);
    assert_kind(store.get(&key, &GetOptions::default()).await, ErrorKind::NotFound);
    assert_kind(store.stat(&key, Some(&marker)).await, ErrorKind::NotFound);
    let copy = store.copy(&key, None, &format!("{prefix}copy"), &PutOptions::default()).await;
    assert_kind(copy, ErrorKind::NotFound);
    assert_eq!(read_version(store, &key, &first).await.unwrap(), "first");
    assert_eq!(read_version(store, &key, &second).await.unwrap(), "the second");
    let listed = versions(store, &key).await;
    let seen: Vec<_> = listed.iter().map(|object| (&object.version, object.marker, object.latest)).collect();
    assert_eq!(seen, [(&marker, true, true), (&second, false, false), (&first, false, false)]);
    assert_eq!(listed[0].size, 0);

    let third = put(store, &key, "number three").await;
    assert_eq!(read(store, &key).await.unwrap(), "number three");
    assert_eq!(versions(store, &key).await.len(), 4);
    assert_eq!(store.stat(&key, None).await.unwrap().version, third);
}

pub(crate) async fn a_marker_deleted_brings_the_object_back(store: &dyn Store, prefix: &str) {
    if !store.capabilities().await.unwrap().versions {
        return;
    }
    let key = format!("{prefix}object");
    let version = put(store, &key, "back again").await;
    let marker = store.hide(&key).await.unwrap();
    assert!(!is_there(store, &key).await);
    store.delete(&key, &marker).await.unwrap();
    assert_eq!(read(store, &key).await.unwrap(), "back again");
    assert_eq!(store.stat(&key, None).await.unwrap().version, version);

    // A marker that is left alone hides nothing.
    let marker = store.hide(&key).await.unwrap();
    store.delete(&key, &version).await.unwrap();
    assert!(!is_there(store, &key).await);
    store.delete(&key, &marker).await.unwrap();
    assert_eq!(versions(store, prefix).await, []);
}

pub(crate) async fn versions_are_listed_newest_first(store: &dyn Store, prefix: &str) {
    let kept = store.capabilities().await.unwrap().versions;
    let keys = ["a", "a-b", "a.b", "b"].map(|name| format!("{prefix}{name}"));
    let mut written: Vec<(String, VersionId, usize)> = Vec::new();
    for size in 1..=4 {
        for key in &keys {
            let version = put(store, key, noise(size as u64, size)).await;
            written.push((key.clone(), version, size));
        }
    }
    let mut expected = written.clone();
    if !kept {
        expected.retain(|(_, _, size)| *size == 4);
    }
    expected.sort_by(|a, b| a.0.cmp(&b.0).then(b.2.cmp(&a.2)));
    let listed = versions(store, prefix).await;
    let found: Vec<_> = listed
        .iter()
        .map(|object| (object.key.clone(), object.version.clone(), object.size as usize))
        .collect();
    assert_eq!(found, expected);
    for object in &listed {
        assert_eq!(object.latest, object.size == 4, "{object:?}");
        let body = read_version(store, &object.key, &object.version).await.unwrap();
        assert_eq!(body, noise(object.size, object.size as usize));
    }
    assert!(listed.is_sorted_by(|a, b| a.key != b.key || a.modified >= b.modified), "{listed:?}");

    let after = ListOptions {
        prefix: prefix.to_owned(),
        versions: true,
        after: Some(keys[1].clone()),
        ..ListOptions::default()
    };
    let rest = list(store, after).await;
    let expected: Vec<Listed> =
        listed.into_iter().filter(|object| object.key > keys[1]).map(Listed::Object).collect();
    assert_eq!(rest, expected, "all versions of a key are behind the key before");
}
