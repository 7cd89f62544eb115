//! How much stands in a location, and what a rotation of it takes: calls by class, money, time. Nothing is read but
//! listings.

use std::time::Duration;

use futures_util::StreamExt as _;

use crate::Result;
use crate::location::argument::{Service, Target};
use crate::location::listing::Entry;
use crate::ops::{look, rights, runtime};
use crate::store::Right;

/// What a service asks for calls, in US dollars. The one place where prices stand; they change, so look them up before
/// you decide by them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// When they were published so.
    pub as_of: &'static str,
    /// For 10,000 calls that write.
    pub writes: f64,
    /// For 10,000 calls that read.
    pub reads: f64,
    /// For 10,000 calls that list.
    pub lists: f64,
}

/// Backblaze B2: uploads and deletions are class A, downloads class B, listings class C.
const B2: Prices = Prices { as_of: "2026-11-21", writes: 0.0, reads: 0.004, lists: 0.04 };
/// Amazon S3 Standard in us-east-1; deletions are free.
const S3: Prices = Prices { as_of: "2025", writes: 0.05, reads: 0.004, lists: 0.05 };

impl Prices {
    /// Those of a service.
    pub fn of(service: Service) -> Self {
        match service {
            Service::B2 => B2,
            Service::S3 => S3,
        }
    }
}

/// What stands there. Everything is a number of versions unless it says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inventory {
    /// Names that have a container or an envelope.
    pub names: u64,
    /// Containers, older versions too.
    pub containers: u64,
    /// Of these, not the current ones.
    pub old_containers: u64,
    /// Bytes of the current containers.
    pub bytes: u64,
    /// Envelopes, older versions left out.
    pub envelopes: u64,
    /// Older versions of envelopes.
    pub old_envelopes: u64,
    /// Other objects.
    pub others: u64,
    /// What could not be listed.
    pub failed: u64,
}

/// Counts what stands at and below a target.
///
/// # Errors
/// What the store says when it cannot be asked; `NotFound` when nothing is there.
pub fn inventory(target: &Target) -> Result<Inventory> {
    let runtime = runtime::start()?;
    runtime.block_on(rights::require(target, &[Right::List]))?;
    let mut found = Inventory::default();
    runtime.block_on(async {
        for mut listing in look::everything(target, true) {
            while let Some(entry) = listing.next().await {
                found.add(entry);
            }
        }
    });
    match found == Inventory::default() && !target.path.is_empty() {
        true => Err(look::nothing_at(target)),
        false => Ok(found),
    }
}

impl Inventory {
    fn add(&mut self, entry: Result<Entry>) {
        let pair = match entry {
            Ok(Entry::Pair(pair)) => pair,
            Ok(Entry::Foreign(object)) => {
                self.others += u64::from(!object.marker);
                return;
            }
            Ok(Entry::Folder(_)) => return,
            Err(_) => {
                self.failed += 1;
                return;
            }
        };
        self.names += 1;
        for object in pair.containers.iter().filter(|object| !object.marker) {
            self.containers += 1;
            match object.latest {
                true => self.bytes += object.size,
                false => self.old_containers += 1,
            }
        }
        let mine = pair.envelopes.iter().filter(|envelope| !(envelope.contested && envelope.short.is_some()));
        for object in mine.map(|envelope| &envelope.object).filter(|object| !object.marker) {
            match object.latest {
                true => self.envelopes += 1,
                false => self.old_envelopes += 1,
            }
        }
    }

    /// All objects and versions.
    fn objects(&self) -> u64 {
        self.containers + self.envelopes + self.old_envelopes + self.others
    }
}

/// What one thing costs to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Calls {
    /// That write.
    pub writes: u64,
    /// That read.
    pub reads: u64,
    /// That delete.
    pub deletes: u64,
    /// That list.
    pub lists: u64,
    /// Bytes that come down and go up.
    pub bytes: u64,
}

/// About as many bytes as an envelope has.
const ENVELOPE: u64 = 1_500;
/// A private-key operation with 3072 bits, measured on one core: docs/design.md.
const RSA: Duration = Duration::from_micros(1_000);
/// What a call to a service is taken to last.
const CALL: Duration = Duration::from_millis(100);

impl Calls {
    /// Of `rewrap`: of each envelope its versions and the container's first bytes are read, one version is written, read
    /// back, and the older ones are deleted; everything is listed twice, and once more by the audit, which reads all.
    pub fn of_rewrap(found: &Inventory, compare: bool) -> Self {
        let envelopes = found.envelopes;
        let versions = envelopes + found.old_envelopes;
        let headers = if compare { found.containers } else { 0 };
        Self {
            writes: envelopes,
            reads: versions + headers + envelopes + envelopes,
            deletes: versions,
            lists: 3 * found.objects().div_ceil(1_000).max(1),
            bytes: (versions + 3 * envelopes) * ENVELOPE,
        }
    }

    /// Of `reencrypt`: each current container comes down twice, to be encrypted and to be compared, and goes up once.
    pub fn of_reencrypt(found: &Inventory) -> Self {
        let current = found.containers - found.old_containers;
        Self {
            writes: 2 * current,
            reads: 6 * current,
            deletes: 2 * current,
            lists: found.objects().div_ceil(1_000).max(1) + 4 * current,
            bytes: 3 * found.bytes + 2 * current * ENVELOPE,
        }
    }

    /// What a service asks for them, in US dollars; what it asks for bytes that leave it comes on top.
    pub fn dollars(&self, prices: &Prices) -> f64 {
        let cost = |calls: u64, price: f64| calls as f64 / 10_000.0 * price;
        cost(self.writes, prices.writes) + cost(self.reads, prices.reads) + cost(self.lists, prices.lists)
    }

    /// How long they last with so many at a time, where each takes a tenth of a second, or the private-key operations of
    /// one for each write on these cores, whichever is longer. A guess to decide by.
    pub fn duration(&self, at_once: usize, cores: usize, service: bool) -> Duration {
        let network = match service {
            true => CALL.mul_f64(
                (self.writes + self.reads + self.deletes + self.lists) as f64 / at_once.max(1) as f64,
            ),
            false => Duration::ZERO,
        };
        network.max(RSA.mul_f64(self.writes as f64 / cores.max(1) as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_envelopes_cost_what_the_arithmetic_says() {
        let found = Inventory {
            names: 1_000_000,
            containers: 1_000_000,
            envelopes: 1_000_000,
            bytes: 1 << 40,
            ..Inventory::default()
        };
        let calls = Calls::of_rewrap(&found, true);
        assert_eq!(
            (calls.writes, calls.reads, calls.deletes, calls.lists),
            (1_000_000, 4_000_000, 1_000_000, 6_000)
        );
        let dollars = |service| calls.dollars(&Prices::of(service));
        assert!((dollars(Service::B2) - 1.624).abs() < 1e-9, "{}", dollars(Service::B2));
        assert!((dollars(Service::S3) - 6.63).abs() < 1e-9, "{}", dollars(Service::S3));
        assert_eq!(calls.duration(100, 2, true), Duration::from_secs(6006));
        assert_eq!(calls.duration(100, 2, false), Duration::from_secs(500));
        assert_eq!(Calls::of_rewrap(&found, false).reads, 3_000_000);
        assert_eq!(Calls::of_reencrypt(&found).bytes, 3 * (1 << 40) + 3_000_000_000);
    }
}
