//! One function over many items on a few threads, the items made as they are wanted.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use futures_util::stream::{self, Stream};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::runtime::Handle;

/// Calls `work` for every item, with `jobs` threads, this one included.
pub(crate) fn for_each<I>(jobs: usize, items: I, work: impl Fn(I::Item) + Sync)
where
    I: Iterator + Send,
    I::Item: Send,
{
    for_each_with(jobs, items, || (), |(), item| work(item), |()| ());
}

/// The same with something that each thread makes at the begin, works with, and gives away at the end.
pub(crate) fn for_each_with<I, W>(
    jobs: usize,
    items: I,
    begin: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, I::Item) + Sync,
    end: impl Fn(W) + Sync,
) where
    I: Iterator + Send,
    I::Item: Send,
{
    let items = Mutex::new(items);
    let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
    let worker = || {
        let mut with = begin();
        while let Some(item) = next() {
            work(&mut with, item);
        }
        end(with);
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs {
            scope.spawn(worker);
        }
        worker();
    });
}

/// How many items are taken at a time, where they come without waiting: to take turns at each costs more than many of them.
const AHEAD: usize = 32;

/// Calls `work` for every item of a stream, with `jobs` threads, this one included, which each wait for up to `each` of
/// its futures at a time. What these do between waiting may block their thread. A few items are made before they are wanted.
pub(crate) fn for_each_future<S, F>(
    handle: &Handle,
    jobs: usize,
    each: usize,
    items: S,
    work: impl Fn(S::Item) -> F + Sync,
) where
    S: Stream + Send + Unpin,
    S::Item: Send,
    F: Future<Output = ()>,
{
    let items = tokio::sync::Mutex::new(items.fuse());
    let ready = Mutex::new(VecDeque::with_capacity(AHEAD));
    let take = || ready.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let next = |()| async {
        if let Some(item) = take() {
            return Some((item, ()));
        }
        let mut items = items.lock().await;
        // Another thread may have had its turn meanwhile.
        if let Some(item) = take() {
            return Some((item, ()));
        }
        let item = items.next().await?;
        let more = std::iter::from_fn(|| items.next().now_or_never().flatten()).take(AHEAD);
        let more: Vec<_> = more.collect();
        ready.lock().unwrap_or_else(PoisonError::into_inner).extend(more);
        Some((item, ()))
    };
    let worker = || handle.block_on(stream::unfold((), next).for_each_concurrent(each, &work));
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
