//! One function over many items on a few threads, the items made as they are wanted.

use std::sync::{Mutex, PoisonError};

/// Calls `work` for every item, with `jobs` threads, this one included.
pub(crate) fn for_each<I>(jobs: usize, items: I, work: impl Fn(I::Item) + Sync)
where
    I: Iterator + Send,
    I::Item: Send,
{
    let items = Mutex::new(items);
    let worker = || {
        loop {
            let item = items.lock().unwrap_or_else(PoisonError::into_inner).next();
            match item {
                Some(item) => work(item),
                None => break,
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs {
            scope.spawn(worker);
        }
        worker();
    });
}
