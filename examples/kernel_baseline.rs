//! The eight-lane kernel beside one chain of the `cbc` crate: AES-256-CBC encryption alone, on one core.
//!
//! `cargo run --release --example kernel_baseline` prints both speeds in GB/s, one chain first.

use std::time::Instant;

use cbc::cipher::array::Array;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};
use sidekey::crypto::derive::Derivation;
use sidekey::crypto::lanes::{BLOCK, Block, CbcEncryptor, CbcLane, LANES};
use sidekey::secret::FileKey;

/// Blocks of a section of 64 KiB.
const SECTION: usize = 65_536 / BLOCK;
/// Blocks between the starts of two sections: a section, its padding block, IV and tag.
const STRIDE: usize = SECTION + 3;
const PASSES: usize = 1024;

fn main() {
    let mut blocks: Vec<Block> = vec![[0x5a; BLOCK]; LANES * STRIDE];
    let bytes = (PASSES * LANES * SECTION * BLOCK) as f64;
    one_chain(&mut blocks, 1);
    eight_chains(&mut blocks, 1);
    let started = Instant::now();
    one_chain(&mut blocks, PASSES);
    let chain = bytes / started.elapsed().as_secs_f64() / 1e9;
    let started = Instant::now();
    eight_chains(&mut blocks, PASSES);
    let lanes = bytes / started.elapsed().as_secs_f64() / 1e9;
    println!("{chain:.3} {lanes:.3}");
}

fn one_chain(blocks: &mut [Block], passes: usize) {
    for _ in 0..passes {
        for section in blocks.chunks_exact_mut(STRIDE) {
            let mut chain = cbc::Encryptor::<aes::Aes256>::new(&[7; 32].into(), &[9; BLOCK].into());
            chain.encrypt_blocks(Array::cast_slice_from_core_mut(&mut section[..SECTION]));
        }
    }
}

fn eight_chains(blocks: &mut [Block], passes: usize) {
    let derivation = Derivation::new(&FileKey::from_bytes(&[7; 32]), &[0; 32]);
    let encryptor = CbcEncryptor::new(derivation.enc_key().expose());
    for _ in 0..passes {
        let mut lanes: Vec<_> = blocks
            .chunks_exact_mut(STRIDE)
            .map(|section| CbcLane { iv: [9; BLOCK], blocks: &mut section[..SECTION] })
            .collect();
        encryptor.encrypt(&mut lanes);
    }
}
