//! Runs every fuzz body on 100,000 seeded mutations of good inputs: the same ones in every run.

use std::time::Instant;

#[path = "../fuzz/bodies.rs"]
mod bodies;

use bodies::{BODIES, Body, World};

const RUNS: usize = 100_000;
const PARTS: u64 = 4;

/// How many of a hundred mutations are accepted, at least and at most.
const ACCEPTED: [(&str, usize, usize); 8] = [
    ("header", 5, 95),
    ("open", 2, 60),
    ("forged", 5, 95),
    ("envelope", 5, 95),
    ("metadata", 5, 95),
    ("names", 5, 95),
    ("recipe", 5, 95),
    ("keys", 5, 95),
];

#[test]
fn every_body_has_its_test() {
    assert!(BODIES.iter().map(|body| body.name).eq(ACCEPTED.map(|(name, ..)| name)));
}

/// A test for each, so that they run beside each other.
macro_rules! a_hundred_thousand_mutations {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            a_hundred_thousand_mutations(stringify!($name));
        }
    )*};
}

a_hundred_thousand_mutations! { header open forged envelope metadata names recipe keys }

fn a_hundred_thousand_mutations(name: &str) {
    let world = World::load(env!("CARGO_MANIFEST_DIR"));
    let body = BODIES.iter().find(|body| body.name == name).unwrap();
    let (_, least, most) = ACCEPTED.iter().find(|(of, ..)| *of == name).unwrap();
    let (started, accepted) = (Instant::now(), run(body, &world));
    println!(
        "{name}: {RUNS} mutations, {accepted} of them accepted, {:.1} s",
        started.elapsed().as_secs_f64()
    );
    assert!((least..=most).contains(&&(accepted * 100 / RUNS)), "{name}: {accepted} accepted");
}

fn run(body: &Body, world: &World) -> usize {
    let seeds = (body.seeds)(world);
    for seed in &seeds {
        (body.run)(world, seed);
    }
    let name = body.name.bytes().fold(0, |sum, byte| sum * 256 + u64::from(byte));
    // In parts that are the same on every machine.
    std::thread::scope(|scope| {
        let seeds = &seeds;
        let part = |part| scope.spawn(move || run_part(body, world, seeds, Random(name ^ part << 60)));
        let parts: Vec<_> = (0..PARTS).map(part).collect();
        parts.into_iter().map(|part| part.join().unwrap()).sum()
    })
}

fn run_part(body: &Body, world: &World, seeds: &[Vec<u8>], mut random: Random) -> usize {
    let mut accepted = 0;
    for _ in 0..RUNS / PARTS as usize {
        let mut data = random.pick(seeds).clone();
        for _ in 0..random.below(4) {
            mutate(&mut data, seeds, &mut random);
        }
        accepted += usize::from((body.run)(world, &data));
    }
    accepted
}

/// One change of the kinds that break formats: bits, bytes, lengths, order, and blocks of 16 bytes.
fn mutate(data: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let len = data.len();
    let (from, to) = (random.below(len + 1), random.below(len + 1));
    let (from, to) = (from.min(to), from.max(to).min(from.min(to) + 1 + random.below(600)));
    match random.below(12) {
        0 if len > 0 => data[from.min(len - 1)] ^= 1 << random.below(8),
        1 if len > 0 => {
            data[from.min(len - 1)] = *random.pick(b"\0\x01\x0f\x10\x11\x7f\x80\xff\n\r -=:~/.%\"\\{}[]0AZ");
        }
        2 => data.truncate(from),
        3 => data.truncate(len / 16 * 16 - 16 * random.below(len / 16 + 1)),
        4 => drop(data.drain(from..to)),
        5 => data.insert(from, random.below(256) as u8),
        6 => {
            let part = data[from..to].to_vec();
            data.splice(from..from, part);
        }
        7 => data[from..to].fill(random.below(256) as u8),
        8 => data[from..to].reverse(),
        9 => data.extend(vec![0; random.below(100)]),
        10 => {
            let other = random.pick(seeds);
            let at = from.min(other.len());
            data.splice(from..to, other[at..other.len().min(at + to - from)].iter().copied());
        }
        _ if len > 8 => {
            let at = random.below(len - 8);
            let number = *random.pick(&[0, 1, u64::MAX, 1 << 63, 1 << 32, 1 << 48, (1 << 48) + 1, 304, 4096]);
            data[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        _ => data.push(0),
    }
}

/// Splitmix64: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// With `SIDEKEY_FUZZ_SEEDS=FOLDER` writes every body's seeds below it, as `scripts/fuzz` asks; otherwise looks whether
/// there are any.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a test may read its environment, and these files are no results"
)]
fn seeds_for_cargo_fuzz() {
    let world = World::load(env!("CARGO_MANIFEST_DIR"));
    let folder = std::env::var_os("SIDEKEY_FUZZ_SEEDS");
    for body in &BODIES {
        let seeds = (body.seeds)(&world);
        assert!(seeds.len() >= 8, "{}: {} seeds", body.name, seeds.len());
        let Some(folder) = &folder else { continue };
        let folder = std::path::Path::new(folder).join(body.name);
        std::fs::create_dir_all(&folder).unwrap();
        for (number, seed) in seeds.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number}")), seed).unwrap();
        }
    }
}
