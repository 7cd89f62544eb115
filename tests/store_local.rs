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

/// Puts pairs of small objects from this many threads, each with this many on their way.
fn put_pairs(store: &LocalStore, pairs: usize, threads: usize, at_once: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let body = Bytes::from(vec![7; 4096 + 1_000]);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (body, runtime) = (&body, &runtime);
            scope.spawn(move || {
                let one = |number: usize| async move {
                    let name = format!("folder-{:02}/{number:06}", number / 1_000);
                    let new = PutOptions { only_if: OnlyIf::Absent, ..PutOptions::default() };
                    let envelope = format!("{name}.0123456789abcdef.key.enc");
                    store.put(&envelope, body.slice(..1_000), &new).await.unwrap();
                    store.put(&format!("{name}.enc"), body.clone(), &PutOptions::default()).await.unwrap();
                };
                let mine = (0..pairs).filter(|number| number % threads == thread);
                let all = futures_util::stream::iter(mine.map(one)).buffer_unordered(at_once);
                runtime.block_on(all.collect::<Vec<()>>());
            });
        }
    });
}

#[test]
#[ignore = "a measurement, on whatever disk the build is on"]
fn measure_group_commit() {
    for (threads, at_once) in [(2, 32)] {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let store = LocalStore::open(dir.path()).unwrap();
        let start = std::time::Instant::now();
        put_pairs(&store, 10_000, threads, at_once);
        println!("{threads} x {at_once}: {:?} in {:?}", store.sync_counts(), start.elapsed());
    }
}
