//! The local folder store.

use std::path::Path;

use bytes::Bytes;
use futures_util::StreamExt as _;
use sidekey::store::local::LocalStore;
use sidekey::store::{
    GetOptions, ListOptions, Listed, Object, OnlyIf, PutOptions, Store, Unfinished, Written,
};
use sidekey::{ErrorKind, Result};

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn put(store: &LocalStore, key: &str, body: &str, only_if: OnlyIf) -> Result<Written> {
    let options = PutOptions { only_if, ..PutOptions::default() };
    run(store.put(key, Bytes::copy_from_slice(body.as_bytes()), &options))
}

fn keys(store: &LocalStore, options: ListOptions) -> Vec<String> {
    run(store.list(options).collect::<Vec<_>>())
        .into_iter()
        .map(|listed| match listed {
            Ok(Listed::Object(object)) => object.key,
            Ok(Listed::Folder(folder)) => folder,
            Err(error) => format!("error {}", error.line()),
        })
        .collect()
}

#[test]
fn smoke() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store = LocalStore::open(dir.path()).unwrap();
    let one = put(&store, "a/b/x.enc", "one", OnlyIf::Absent).unwrap();
    assert_eq!(put(&store, "a/b/x.enc", "two", OnlyIf::Absent).unwrap_err().kind(), ErrorKind::Conflict);
    let two = put(&store, "a/b/x.enc", "two", OnlyIf::Version(one.version.clone())).unwrap();
    assert_eq!(
        put(&store, "a/b/x.enc", "3", OnlyIf::Version(one.version.clone())).unwrap_err().kind(),
        ErrorKind::Conflict
    );
    assert_eq!(run(store.stat("a/b/x.enc", None)).unwrap().version, two.version);
    assert_eq!(std::fs::read(dir.path().join("a/b/x.enc")).unwrap(), b"two");
    put(&store, "a.b", "", OnlyIf::Always).unwrap();
    assert_eq!(keys(&store, ListOptions::default()), ["a.b", "a/b/x.enc"]);
    run(store.delete("a/b/x.enc", &two.version)).unwrap();
    assert_eq!(keys(&store, ListOptions::default()), ["a.b"]);
    assert!(!dir.path().join("a").exists());
    println!("{:?}", store.sync_counts());
}
