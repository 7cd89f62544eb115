//! One function over many items on a few threads, the items made as they are wanted.

use std::sync::{Mutex, PoisonError};

use futures_util::StreamExt as _;
use futures_util::stream::{self, Stream};
use tokio::runtime::Handle;

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

/// Calls `work` for every item of a stream, with `jobs` threads, this one included, which each wait for up to `each` of
/// its futures at a time. What these do between waiting may block their thread.
pub(crate) fn for_each_future<S, F>(
    handle: &Handle,
    jobs: usize,
    each: usize,
    items: S,
    work: impl Fn(S::Item) -> F + Sync,
) where
    S: Stream + Send + Unpin,
    F: Future<Output = ()>,
{
    let items = tokio::sync::Mutex::new(items);
    let worker = || {
        let next = |()| async {
            let item = items.lock().await.next().await?;
            Some((item, ()))
        };
        handle.block_on(stream::unfold((), next).for_each_concurrent(each, &work));
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs {
            scope.spawn(worker);
        }
        worker();
    });
}

/// The items of a stream, waited for on the thread that asks for them.
pub(crate) fn waiting<S: Stream + Unpin>(handle: &Handle, mut items: S) -> impl Iterator<Item = S::Item> {
    std::iter::from_fn(move || handle.block_on(items.next()))
}
