//! What `sidekey rewrap` is measured against: threads that do nothing but the RSA private-key operation.
//!
//! `cargo run --release --example rsa_baseline -- [THREADS] [SECONDS] [BITS]` prints operations per second of all
//! threads together.

use std::time::{Duration, Instant};
use std::{env, thread};

use sidekey::crypto::rsa::PrivateKey;
use sidekey::{DataId, Error, Result};

fn main() -> Result<()> {
    let mut numbers = env::args().skip(1).map(|word| word.parse::<usize>());
    let mut next = |default: usize| {
        numbers.next().unwrap_or(Ok(default)).map_err(|_| {
            Error::usage("not a whole number").hint("usage: rsa_baseline [THREADS] [SECONDS] [BITS]")
        })
    };
    let (threads, seconds, bits) = (next(2)?, next(3)?, next(3072)?);

    let key = PrivateKey::generate(bits)?;
    let data_id = DataId([7; 16]);
    let wrapped = key.public().wrap(&[42; 32], &data_id)?;
    let limit = Duration::from_secs(seconds as u64);
    let started = Instant::now();
    let operations: u64 = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| unwrap_until(&key, &wrapped, &data_id, started, limit)))
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or(0)).sum()
    });
    println!("{:.0}", operations as f64 / started.elapsed().as_secs_f64());
    Ok(())
}

fn unwrap_until(
    key: &PrivateKey,
    wrapped: &[u8],
    data_id: &DataId,
    started: Instant,
    limit: Duration,
) -> u64 {
    let mut done = 0;
    while started.elapsed() < limit {
        assert!(key.unwrap(wrapped, data_id).is_some(), "the key does not open what it wrapped");
        done += 1;
    }
    done
}
