//! Where randomness comes from: the operating system. It is a parameter, so that vectors can be made again.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use rand::TryRng as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::{Error, ErrorKind, Result};

/// A source of random bytes that several threads may use.
pub trait Random: Sync {
    /// Fills all of `bytes`.
    fn fill(&self, bytes: &mut [u8]) -> Result<()>;

    /// Fills the initialization vectors of a container's sections from number `first` on. Sections are encrypted in any
    /// order; a source that makes the same container twice goes by their number.
    fn fill_ivs(&self, first: u64, ivs: &mut [[u8; 16]]) -> Result<()> {
        let _ = first;
        self.fill(ivs.as_flattened_mut())
    }
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        rand::rngs::SysRng.try_fill_bytes(bytes).map_err(|error| {
            Error::new(ErrorKind::Io, "the operating system gave no random bytes").because(error)
        })
    }
}

/// Many small draws out of few large ones: the key, ids and IVs of a small file would each be a system call. What was
/// given is wiped here at once.
pub struct Pooled<'r> {
    source: &'r dyn Random,
    pool: Mutex<Pool>,
}

struct Pool {
    bytes: Zeroizing<[u8; POOL]>,
    left: usize,
}

const POOL: usize = 1024;

impl<'r> Pooled<'r> {
    /// An empty pool before `source`.
    pub fn new(source: &'r dyn Random) -> Self {
        Self { source, pool: Mutex::new(Pool { bytes: Zeroizing::new([0; POOL]), left: 0 }) }
    }
}

impl Random for Pooled<'_> {
    fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        if bytes.len() > POOL / 2 {
            return self.source.fill(bytes);
        }
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.left < bytes.len() {
            pool.left = 0;
            self.source.fill(pool.bytes.as_mut_slice())?;
            pool.left = POOL;
        }
        let start = pool.left - bytes.len();
        let given = &mut pool.bytes[start..start + bytes.len()];
        bytes.copy_from_slice(given);
        given.zeroize();
        pool.left = start;
        Ok(())
    }
}

impl fmt::Debug for Pooled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pooled(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_gives_no_byte_twice() {
        /// Counts up, so that every byte given shows where it comes from.
        struct Counter(Mutex<u32>);
        impl Random for Counter {
            fn fill(&self, bytes: &mut [u8]) -> Result<()> {
                let mut next = self.0.lock().unwrap();
                for four in bytes.chunks_mut(4) {
                    four.copy_from_slice(&next.to_le_bytes()[..four.len()]);
                    *next += 1;
                }
                Ok(())
            }
        }
        let counter = Counter(Mutex::new(0));
        let pooled = Pooled::new(&counter);
        let mut seen = std::collections::BTreeSet::new();
        for len in [16, 32, 16, POOL / 2, 384, 800, 16, 4, POOL / 2, POOL / 2, 8] {
            let mut bytes = vec![0; len];
            pooled.fill(&mut bytes).unwrap();
            for four in bytes.chunks(4) {
                assert!(seen.insert(four.to_vec()), "{four:?} was given twice");
            }
        }
    }
}
