//! Take in order, work in parallel, give in order, in bounded memory.
//!
//! Every thread has one job's buffer. It takes the next job while it holds the source, works on it alone, and gives
//! the result when its turn comes. The processor that read the bytes also works on them, and nothing is queued.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::Result;

struct Taking<F> {
    take: F,
    next: u64,
    done: bool,
}

struct Giving<F> {
    give: F,
    turn: u64,
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
    let giving = Mutex::new(Giving { give, turn: 0, result: Ok(()) });
    let turn = Condvar::new();
    let worker = || {
        let mut job = job();
        loop {
            let mut source = lock(&taking);
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

            let mut sink = lock(&giving);
            while sink.turn != number {
                sink = turn.wait(sink).unwrap_or_else(PoisonError::into_inner);
            }
            if sink.result.is_ok() {
                sink.result = worked.and_then(|()| (sink.give)(&mut job));
            }
            let failed = sink.result.is_err();
            sink.turn += 1;
            drop(sink);
            turn.notify_all();
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
    giving.into_inner().unwrap_or_else(PoisonError::into_inner).result
}

/// What threads use one after the other, in the order of what they work on.
pub(crate) struct InOrder<T> {
    next: Mutex<(u64, T)>,
    turn: Condvar,
}

impl<T> InOrder<T> {
    /// For work from number 0 on.
    pub(crate) fn new(value: T) -> Self {
        Self { next: Mutex::new((0, value)), turn: Condvar::new() }
    }

    /// Waits for the turn of `number`; the next one is `next`. Whoever was given a number has to come.
    pub(crate) fn turn(&self, number: u64, next: u64, work: impl FnOnce(&mut T)) {
        let mut state = lock(&self.next);
        while state.0 != number {
            state = self.turn.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        work(&mut state.1);
        state.0 = next;
        drop(state);
        self.turn.notify_all();
    }

    pub(crate) fn into_inner(self) -> T {
        self.next.into_inner().unwrap_or_else(PoisonError::into_inner).1
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
}
