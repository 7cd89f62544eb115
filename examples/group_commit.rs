//! Puts 2,000 pairs of small objects into a local folder, one by one and many at a time, and prints how often the disk was
//! made to catch up and how long it took. usage: group_commit FOLDER, on the disk to measure

#![allow(clippy::print_stdout, reason = "it prints figures")]

use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt as _;
use sidekey::store::local::LocalStore;
use sidekey::store::{OnlyIf, PutOptions, Store as _};

const PAIRS: usize = 2_000;

fn main() -> sidekey::Result<()> {
    let folder = std::env::args_os().nth(1).ok_or_else(|| sidekey::Error::usage("FOLDER is missing"))?;
    for (threads, at_once) in [(1, 1), (2, 8), (2, 32)] {
        let store = LocalStore::create(&Path::new(&folder).join(format!("{threads}x{at_once}")))?;
        let start = Instant::now();
        put_pairs(&store, threads, at_once)?;
        println!(
            "{threads} threads with {at_once} on their way: {:?} in {:?}",
            store.sync_counts(),
            start.elapsed()
        );
    }
    Ok(())
}

fn put_pairs(store: &LocalStore, threads: usize, at_once: usize) -> sidekey::Result<()> {
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    let mine = (thread..PAIRS).step_by(threads).map(|number| put_pair(store, number));
                    let all = futures_util::stream::iter(mine).buffer_unordered(at_once).collect::<Vec<_>>();
                    let runtime = tokio::runtime::Builder::new_current_thread().build();
                    let runtime =
                        runtime.map_err(|error| sidekey::Error::io("cannot start a runtime", error))?;
                    runtime.block_on(all).into_iter().collect::<sidekey::Result<()>>()
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_| Err(sidekey::Error::usage("a thread failed")))
        })
    })
}

async fn put_pair(store: &LocalStore, number: usize) -> sidekey::Result<()> {
    let name = format!("folder-{:02}/{number:06}", number / 1_000);
    let new = PutOptions { only_if: OnlyIf::Absent, ..PutOptions::default() };
    let envelope = format!("{name}.0123456789abcdef.key.enc");
    store.put(&envelope, Bytes::from(vec![7; 1_000]), &new).await?;
    store.put(&format!("{name}.enc"), Bytes::from(vec![7; 5_096]), &PutOptions::default()).await?;
    Ok(())
}
