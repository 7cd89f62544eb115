//! The block-cipher kernel on one core: CBC, CMAC and both in eight lanes beside one, over sections of 64 KiB.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sidekey::crypto::derive::Derivation;
use sidekey::crypto::lanes::{
    BLOCK, Block, CbcDecryptor, CbcEncryptor, CbcLane, Cmac, LANES, MacLane, SealLane,
};
use sidekey::secret::FileKey;

const SECTION: usize = 65_536 / BLOCK;
const STRIDE: usize = SECTION + 3;

fn kernel(bench: &mut Criterion) {
    let derivation = Derivation::new(&FileKey::from_bytes(&[7; 32]), &[0; 32]);
    let encryptor = CbcEncryptor::new(derivation.enc_key().expose());
    let decryptor = CbcDecryptor::new(derivation.enc_key().expose());
    let mac = Cmac::new(derivation.mac_key().expose());
    let mut blocks: Vec<Block> = vec![[0x5a; BLOCK]; LANES * STRIDE];

    let mut group = bench.benchmark_group("kernel");
    group.sample_size(20);
    for lanes in [1, LANES] {
        group.throughput(Throughput::Bytes((lanes * SECTION * BLOCK) as u64));
        group.bench_function(format!("cbc encrypt, {lanes} lanes"), |run| {
            run.iter(|| {
                let mut lanes: Vec<_> = blocks
                    .chunks_exact_mut(STRIDE)
                    .take(lanes)
                    .map(|section| CbcLane { iv: [9; BLOCK], blocks: &mut section[..SECTION] })
                    .collect();
                encryptor.encrypt(&mut lanes);
            });
        });
        group.bench_function(format!("cmac, {lanes} lanes"), |run| {
            run.iter(|| {
                let mut lanes: Vec<_> = blocks
                    .chunks_exact(STRIDE)
                    .take(lanes)
                    .map(|section| MacLane { state: [0; BLOCK], blocks: &section[..SECTION] })
                    .collect();
                mac.tag(&mut lanes);
                lanes.iter().fold(0, |sum, lane| sum ^ lane.state[0])
            });
        });
        group.bench_function(format!("both in one pass, {lanes} lanes"), |run| {
            run.iter(|| {
                let mut lanes: Vec<_> = blocks
                    .chunks_exact_mut(STRIDE)
                    .take(lanes)
                    .map(|section| SealLane {
                        state: [0; BLOCK],
                        iv: [9; BLOCK],
                        blocks: &mut section[..SECTION],
                    })
                    .collect();
                encryptor.seal(&mac, &mut lanes);
                lanes.iter().fold(0, |sum, lane| sum ^ lane.state[0])
            });
        });
    }
    group.throughput(Throughput::Bytes((SECTION * BLOCK) as u64));
    group.bench_function("cbc decrypt", |run| {
        run.iter(|| decryptor.decrypt(&[9; BLOCK], &mut blocks[..SECTION]));
    });
    group.finish();
}

criterion_group!(benches, kernel);
criterion_main!(benches);
