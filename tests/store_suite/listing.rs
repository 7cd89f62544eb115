//! Lists of current objects.

use std::collections::BTreeSet;

use sidekey::store::{ListOptions, Store};

use super::*;

fn below(prefix: impl Into<String>) -> ListOptions {
    ListOptions { prefix: prefix.into(), ..ListOptions::default() }
}

async fn put_all(store: &dyn Store, keys: impl IntoIterator<Item = String>) {
    let width = concurrency(store).await;
    let puts = keys.into_iter().map(|key| async move { put_if(store, &key, "x", OnlyIf::Always).await });
    let done: Vec<Result<VersionId>> = stream::iter(puts).buffer_unordered(width).collect().await;
    done.into_iter().collect::<Result<Vec<_>>>().unwrap();
}

pub(crate) async fn keys_come_in_the_order_of_their_bytes(store: &dyn Store, prefix: &str) {
    // `-` and `.` are less than `/`, `0` is greater; U+E000 is greater than U+10000 in UTF-16 and less in UTF-8.
    let mut keys: Vec<String> = [
        "a!b",
        "a-b",
        "a.b",
        "a/b",
        "a/b-c",
        "a0b",
        "a-/x",
        "a./x",
        "a0/x",
        "aa",
        "a b",
        "a\u{7f}b",
        "b/a",
        "b.a/z",
        "b.a-z",
        "b-a/z",
        "Z",
        "_",
        "é",
        "\u{ffff}x",
        "\u{e000}",
        "\u{10000}",
        "\u{1f511}/x",
        "\u{10ffff}",
        "z",
        "n/1/x",
        "n/1.x",
        "n/1-x",
        "n/10",
        "n/2",
    ]
    .map(|name| format!("{prefix}{name}"))
    .into();
    keys.retain(|key| !key.contains('\u{7f}'));
    put_all(store, keys.iter().rev().cloned()).await;
    keys.sort();
    assert_eq!(names(store, below(prefix)).await, keys);
    let all: Vec<String> = versions(store, prefix).await.into_iter().map(|object| object.key).collect();
    assert_eq!(all, keys);
    for pair in keys.windows(2) {
        let after = ListOptions { after: Some(pair[0].clone()), ..below(prefix) };
        assert_eq!(names(store, after).await.first(), Some(&pair[1]), "after {:?}", pair[0]);
    }
}

pub(crate) async fn a_prefix_is_plain_text(store: &dyn Store, prefix: &str) {
    let keys = ["a/x", "ab", "ab/x", "abc", "abd", "b"];
    put_all(store, keys.iter().filter(|key| **key != "ab").map(|key| format!("{prefix}{key}"))).await;
    for (text, expected) in [
        ("", &["a/x", "ab/x", "abc", "abd", "b"][..]),
        ("a", &["a/x", "ab/x", "abc", "abd"]),
        ("ab", &["ab/x", "abc", "abd"]),
        ("ab/", &["ab/x"]),
        ("abc", &["abc"]),
        ("abc/", &[]),
        ("a/x", &["a/x"]),
        ("a/x/", &[]),
        ("c", &[]),
        ("nowhere/at/all", &[]),
    ] {
        let expected: Vec<String> = expected.iter().map(|key| format!("{prefix}{key}")).collect();
        assert_eq!(names(store, below(format!("{prefix}{text}"))).await, expected, "{text:?}");
    }
}

pub(crate) async fn folders_stand_for_what_is_in_them(store: &dyn Store, prefix: &str) {
    let keys = ["a-x", "a.x", "a/1", "a/2", "a/deep/er/3", "a0", "b/1", "c.enc", "d/e/f/g"];
    put_all(store, keys.map(|key| format!("{prefix}{key}"))).await;
    for (text, expected) in [
        ("", &["a-x", "a.x", "a/", "a0", "b/", "c.enc", "d/"][..]),
        ("a", &["a-x", "a.x", "a/", "a0"]),
        ("a/", &["a/1", "a/2", "a/deep/"]),
        ("a/d", &["a/deep/"]),
        ("d/e/", &["d/e/f/"]),
        ("d/e/f", &["d/e/f/"]),
        ("d/e/f/g", &["d/e/f/g"]),
        ("x", &[]),
    ] {
        let expected: Vec<String> = expected.iter().map(|key| format!("{prefix}{key}")).collect();
        for versions in [false, true] {
            let options = ListOptions { delimiter: true, versions, ..below(format!("{prefix}{text}")) };
            assert_eq!(names(store, options).await, expected, "{text:?}");
        }
    }
    for (after, expected) in [
        ("a-x", &["a.x", "a/", "a0", "b/", "c.enc", "d/"][..]),
        ("a.", &["a.x", "a/", "a0", "b/", "c.enc", "d/"]),
        ("a0", &["b/", "c.enc", "d/"]),
        ("c", &["c.enc", "d/"]),
        ("z", &[]),
    ] {
        let after = Some(format!("{prefix}{after}"));
        let expected: Vec<String> = expected.iter().map(|key| format!("{prefix}{key}")).collect();
        let options = ListOptions { delimiter: true, after: after.clone(), ..below(prefix) };
        assert_eq!(names(store, options).await, expected, "after {after:?}");
    }
    // Behind a folder's own name a store may name it again, as keys in it are greater, or go on with the next.
    let after = Some(format!("{prefix}a/"));
    let mut rest = names(store, ListOptions { delimiter: true, after: after.clone(), ..below(prefix) }).await;
    if rest.first() == after.as_ref() {
        rest.remove(0);
    }
    assert_eq!(rest, ["a0", "b/", "c.enc", "d/"].map(|key| format!("{prefix}{key}")));

    let gone = format!("{prefix}b/1");
    for object in versions(store, &gone).await {
        store.delete(&gone, &object.version).await.unwrap();
    }
    let left = names(store, ListOptions { delimiter: true, ..below(prefix) }).await;
    assert!(!left.contains(&format!("{prefix}b/")), "an empty folder is none: {left:?}");
}

pub(crate) async fn lists_begin_after_a_key(store: &dyn Store, prefix: &str) {
    let keys: Vec<String> =
        ["a/1", "a/2", "a/3", "b", "c/1/x", "c/2", "d"].iter().map(|key| format!("{prefix}{key}")).collect();
    put_all(store, keys.iter().cloned()).await;
    for after in [
        "", "a", "a/", "a/1", "a/10", "a/2", "a/3", "a/9", "aa", "b", "b/", "c/1", "c/1/x", "c/1/x/y", "d",
        "e",
    ] {
        let after = format!("{prefix}{after}");
        let expected: Vec<String> = keys.iter().filter(|key| **key > after).cloned().collect();
        let options = ListOptions { after: Some(after.clone()), ..below(prefix) };
        assert_eq!(names(store, options).await, expected, "after {after:?}");
        let inside = format!("{prefix}c/");
        let expected: Vec<String> = expected.into_iter().filter(|key| key.starts_with(&inside)).collect();
        let options = ListOptions { after: Some(after.clone()), ..below(inside) };
        assert_eq!(names(store, options).await, expected, "below c/ after {after:?}");
    }
}

pub(crate) async fn many_keys_come_in_pages(store: &dyn Store, prefix: &str) {
    let keys: BTreeSet<String> = (0..1_400)
        .map(|number| match number % 4 {
            0 => format!("{prefix}folder-{:02}/{number:05}.enc", number % 40),
            _ => format!("{prefix}{number:05}.enc"),
        })
        .collect();
    put_all(store, keys.iter().cloned()).await;
    let keys: Vec<String> = keys.into_iter().collect();
    assert!(names(store, below(prefix)).await == keys);
    let all: Vec<String> = versions(store, prefix).await.into_iter().map(|object| object.key).collect();
    assert!(all == keys);
    let after = Some(keys[300].clone());
    assert!(names(store, ListOptions { after, ..below(prefix) }).await == keys[301..]);
    let listed = names(store, ListOptions { delimiter: true, ..below(prefix) }).await;
    let folders = listed.iter().filter(|name| name.ends_with('/')).count();
    assert_eq!((folders, listed.len()), (10, 1_060));
    // A list that is not read to its end costs nothing more.
    let first: Vec<Result<Listed>> = store.list(below(prefix)).take(3).collect().await;
    assert_eq!(first.len(), 3);
}

pub(crate) async fn nothing_there_lists_nothing(store: &dyn Store, prefix: &str) {
    for options in [
        below(prefix),
        below(format!("{prefix}not/there/")),
        ListOptions { versions: true, ..below(prefix) },
        ListOptions { delimiter: true, ..below(prefix) },
        ListOptions { after: Some(format!("{prefix}x")), ..below(prefix) },
    ] {
        assert_eq!(list(store, options).await, []);
    }
    assert_eq!(unfinished(store, prefix).await, []);
}

pub(crate) async fn hidden_keys_are_not_listed(store: &dyn Store, prefix: &str) {
    if !store.capabilities().await.unwrap().versions {
        return;
    }
    put_all(store, ["a", "b", "c/1", "d/1", "d/2"].map(|key| format!("{prefix}{key}"))).await;
    for key in ["b", "c/1", "d/1"] {
        store.hide(&format!("{prefix}{key}")).await.unwrap();
    }
    assert_eq!(names(store, below(prefix)).await, ["a", "d/2"].map(|key| format!("{prefix}{key}")));
    let folders = names(store, ListOptions { delimiter: true, ..below(prefix) }).await;
    assert_eq!(folders, ["a", "d/"].map(|key| format!("{prefix}{key}")));
    assert_eq!(versions(store, prefix).await.len(), 8);
}
