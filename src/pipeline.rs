//! Take in order, work in parallel, give in order, in bounded memory.
//!
//! Every thread has one job's buffer. It takes the next job while it holds the source, works on it alone, and gives
//! the result when its turn comes. The processor that read the bytes also works on them, and nothing is queued.

use std::panic::resume_unwind;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::Result;

struct Taking<F> {
    take: F,
    next: u64,
    done: bool,
}

struct Giving<F> {
    give: F,
    result: Result<()>,
}

/// Runs all jobs with `threads` threads, this one included; what failed first in the order of the jobs is the result,
/// and everything before it has been given.
///
/// `job` makes an empty buffer; `take` fills it with the next job, or says false when there is none; `work` runs beside
/// other threads' work; `give` sees the jobs in the order in which they were taken.
pub(crate) fn run<J>(
    threads: usize,
    job: impl Fn() -> J + Sync,
    take: impl FnMut(&mut J) -> Result<bool> + Send,
    work: impl Fn(&mut J) -> Result<()> + Sync,
    give: impl FnMut(&mut J) -> Result<()> + Send,
) -> Result<()> {
    let taking = Mutex::new(Taking { take, next: 0, done: false });
    let giving = InOrder::new(Giving { give, result: Ok(()) });
    let worker = || {
        let _watch = giving.watch();
        let mut job = job();
        loop {
            // A source that panicked has no next job.
            let Ok(mut source) = taking.lock() else { break };
            if source.done {
                break;
            }
            let taken = (source.take)(&mut job);
            if !matches!(taken, Ok(true)) {
                source.done = true;
                if matches!(taken, Ok(false)) {
                    break;
                }
            }
            let number = source.next;
            source.next += 1;
            drop(source);

            let worked = taken.and_then(|_| work(&mut job));

            let failed = giving.turn(number, number + 1, |sink| {
                if sink.result.is_ok() {
                    sink.result = worked.and_then(|()| (sink.give)(&mut job));
                }
                sink.result.is_err()
            });
            if failed {
                lock(&taking).done = true;
                break;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(worker);
        }
        worker();
    });
    giving.into_inner().result
}

/// What threads use one after the other, in the order of what they work on.
pub(crate) struct InOrder<T> {
    state: Mutex<Turns<T>>,
    changed: Condvar,
}

struct Turns<T> {
    /// Whose turn it is.
    number: u64,
    /// How many wait for theirs.
    waiting: usize,
    /// Whether a turn will never be taken, because its thread panicked.
    abandoned: bool,
    value: T,
}

impl<T> InOrder<T> {
    /// For work from number 0 on.
    pub(crate) fn new(value: T) -> Self {
        let state = Turns { number: 0, waiting: 0, abandoned: false, value };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Waits for the turn of `number`; after it comes that of `next`. Whoever was given a number has to take its turn, and
    /// keeps what [`watch`](Self::watch) returns until then.
    pub(crate) fn turn<R>(&self, number: u64, next: u64, work: impl FnOnce(&mut T) -> R) -> R {
        let mut state = lock(&self.state);
        while state.number != number {
            if state.abandoned {
                drop(state);
                // The panic itself was told of by the thread that it happened in.
                resume_unwind(Box::new("another thread panicked"));
            }
            state.waiting += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        let done = work(&mut state.value);
        state.number = next;
        let waiting = state.waiting;
        drop(state);
        if waiting > 0 {
            self.changed.notify_all();
        }
        done
    }

    /// Ends the waiting of all others when this thread panics.
    pub(crate) fn watch(&self) -> Watch<'_, T> {
        Watch(self)
    }

    pub(crate) fn into_inner(self) -> T {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).value
    }
}

pub(crate) struct Watch<'a, T>(&'a InOrder<T>);

impl<T> Drop for Watch<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            lock(&self.0.state).abandoned = true;
            self.0.changed.notify_all();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn order_is_kept_and_the_first_failure_ends_it() {
        for threads in [1, 2, 5] {
            for fail in [("none", 0), ("take", 40), ("work", 40), ("give", 40), ("work", 0)] {
                let check = |stage: &'static str, number: u64| match fail == (stage, number) {
                    true => Err(Error::input(format!("{stage} {number}"))),
                    false => Ok(()),
                };
                let (mut numbers, mut given) = (0..100, vec![]);
                let result = run(
                    threads,
                    || 0,
                    |job| {
                        let Some(number) = numbers.next() else { return Ok(false) };
                        *job = number;
                        check("take", number).map(|()| true)
                    },
                    |job| {
                        std::thread::sleep(std::time::Duration::from_micros((*job * 7919) % 200));
                        check("work", *job)
                    },
                    |job| {
                        check("give", *job)?;
                        given.push(*job);
                        Ok(())
                    },
                );
                let expected = if fail.0 == "none" { 100 } else { fail.1 };
                assert_eq!(given, (0..expected).collect::<Vec<_>>(), "{fail:?}");
                let says = result.err().map(|error| error.to_string());
                assert_eq!(says, (fail.0 != "none").then(|| format!("{} {}", fail.0, fail.1)));
            }
        }
    }

    #[test]
    fn a_panic_ends_it_for_all() {
        for (threads, stage) in [(2, "take"), (2, "work"), (3, "give"), (3, "digest")] {
            let check =
                |now: &str, number: u64| assert!((now, number) != (stage, 20), "this panic is the test");
            let digest = InOrder::new(());
            let mut numbers = 0..1000;
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                run(
                    threads,
                    || 0,
                    |job| {
                        let Some(number) = numbers.next() else { return Ok(false) };
                        *job = number;
                        check("take", number);
                        Ok(true)
                    },
                    |job| {
                        let _watch = digest.watch();
                        check("work", *job);
                        digest.turn(*job, *job + 1, |()| check("digest", *job));
                        Ok(())
                    },
                    |job| {
                        check("give", *job);
                        Ok(())
                    },
                )
            }));
            assert!(ended.is_err(), "{stage}");
        }
    }
}
