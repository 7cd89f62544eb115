//! The kernel: AES-256-CBC encryption and AES-256-CMAC over several independent sections in lockstep.
//!
//! Both are serial within one chain: a block waits for the one before it, and the processor's AES units stand idle
//! for most of that wait. Sections are independent, so [`LANES`] chains are advanced together, one block each a step
//! and a round of each block at a time: eight times the speed of one chain, in safe code. Lanes may differ
//! in length; what is left when the shortest has ended goes block by block. Where both are wanted, a block is tagged
//! while the next one is encrypted. Buffers a power of two apart fight for the same cache lines: the framing between two
//! sections (docs/format.md, "Sections") keeps full ones apart.
//!
//! CBC decryption is parallel by nature: as many blocks of one chain as the cipher takes at once.
//!
//! A crate of its own, compiled as one unit (`Cargo.toml` of the workspace): the rounds of `aes` for several blocks must
//! become part of the loops here. In several units `hybrid-array`'s `try_from_fn`, through which `aes` loads them, stays a
//! call, and everything is ten to fifty times slower.

use std::{array, fmt};

use aes::cipher::array::Array;
use aes::cipher::consts::U16;
use aes::cipher::typenum::Unsigned;
use aes::cipher::{
    BlockCipherDecBackend, BlockCipherDecClosure, BlockCipherDecrypt, BlockCipherEncBackend,
    BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, KeyInit, ParBlocks,
};
use aes::{Aes256Dec, Aes256Enc};
use subtle::ConstantTimeEq;

/// The length of an AES block, in bytes.
pub const BLOCK: usize = 16;
/// How many chains are worth running in lockstep.
pub const LANES: usize = 8;

/// One AES block.
pub type Block = [u8; BLOCK];

/// AES-256-CBC (NIST SP 800-38A, section 6.2), many chains at a time. No padding: the caller has padded.
pub struct CbcEncryptor(Aes256Enc);

/// One chain to encrypt in place.
pub struct CbcLane<'a> {
    /// The initialization vector; holds the last ciphertext block afterwards.
    pub iv: Block,
    /// Plaintext before, ciphertext after.
    pub blocks: &'a mut [Block],
}

impl CbcEncryptor {
    /// An encryptor under `key`.
    pub fn new(key: &[u8; 32]) -> Self {
        Self(Aes256Enc::new(key.into()))
    }

    /// Encrypts every lane, [`LANES`] at a time.
    pub fn encrypt(&self, lanes: &mut [CbcLane<'_>]) {
        for group in lanes.chunks_mut(LANES) {
            self.0.encrypt_with_backend(CbcSteps(group));
        }
    }

    /// Encrypts every lane and leaves its tag in `state`, in one pass: each block is tagged while the next one is
    /// encrypted.
    pub fn seal(&self, mac: &Cmac, lanes: &mut [SealLane<'_>]) {
        for lanes in lanes.chunks_mut(LANES) {
            self.0.encrypt_with_backend(WithCbc { mac, lanes });
        }
    }
}

/// One chain to encrypt in place, and the CMAC of its initialization vector and its ciphertext.
pub struct SealLane<'a> {
    /// The first block of the message that is tagged; holds the tag afterwards.
    pub state: Block,
    /// The initialization vector; holds the last ciphertext block afterwards.
    pub iv: Block,
    /// Plaintext before, ciphertext after.
    pub blocks: &'a mut [Block],
}

/// AES-256-CMAC (NIST SP 800-38B, RFC 4493) of messages that are whole blocks, many at a time.
pub struct Cmac {
    key: Aes256Enc,
    k1: Block,
}

/// One message: a first block, and at least one more.
pub struct MacLane<'a> {
    /// The first block of the message; holds the tag afterwards.
    pub state: Block,
    /// The rest of the message.
    pub blocks: &'a [Block],
}

impl Cmac {
    /// A CMAC under `key`.
    pub fn new(key: &[u8; 32]) -> Self {
        let key = Aes256Enc::new(key.into());
        let mut zero = Array::default();
        key.encrypt_block(&mut zero);
        Self { key, k1: double(zero.into()) }
    }

    /// Leaves in each lane's `state` the tag of its message, [`LANES`] at a time.
    pub fn tag(&self, lanes: &mut [MacLane<'_>]) {
        for group in lanes.chunks_mut(LANES) {
            self.key.encrypt_with_backend(MacSteps { lanes: group, k1: self.k1 });
        }
    }
}

/// Whether two tags or commitments are equal, in constant time.
pub fn same(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

/// AES-256-CBC decryption in place. No unpadding; the caller has checked the tag.
pub struct CbcDecryptor(Aes256Dec);

impl CbcDecryptor {
    /// A decryptor under `key`.
    pub fn new(key: &[u8; 32]) -> Self {
        Self(Aes256Dec::new(key.into()))
    }

    /// Decrypts one chain in place.
    pub fn decrypt(&self, iv: &Block, blocks: &mut [Block]) {
        self.0.decrypt_with_backend(CbcBack { iv: *iv, blocks });
    }
}

struct CbcSteps<'l, 'd>(&'l mut [CbcLane<'d>]);

impl BlockSizeUser for CbcSteps<'_, '_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for CbcSteps<'_, '_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        let mut together = 0;
        if let Ok(lanes) = <&mut [CbcLane<'_>; LANES]>::try_from(&mut *self.0) {
            together = lanes.iter().map(|lane| lane.blocks.len()).min().unwrap_or(0);
            let mut states = lanes.each_ref().map(|lane| lane.iv);
            for step in 0..together {
                // All looked up before any is written: a check between two would keep their rounds apart.
                let blocks = lanes.each_mut().map(|lane| &mut lane.blocks[step]);
                for (state, block) in states.iter_mut().zip(&blocks) {
                    *state = xor(*state, **block);
                }
                encrypt_each(backend, &mut states);
                for (state, block) in states.iter().zip(blocks) {
                    *block = *state;
                }
            }
            for (lane, state) in lanes.iter_mut().zip(states) {
                lane.iv = state;
            }
        }
        let longest = self.0.iter().map(|lane| lane.blocks.len()).max().unwrap_or(0);
        for step in together..longest {
            for lane in self.0.iter_mut() {
                if let Some(block) = lane.blocks.get_mut(step) {
                    lane.iv = encrypt(backend, xor(lane.iv, *block));
                    *block = lane.iv;
                }
            }
        }
    }
}

struct CbcBack<'d> {
    iv: Block,
    blocks: &'d mut [Block],
}

impl BlockSizeUser for CbcBack<'_> {
    type BlockSize = U16;
}

impl BlockCipherDecClosure for CbcBack<'_> {
    #[inline(always)]
    fn call<B: BlockCipherDecBackend<BlockSize = U16>>(self, backend: &B) {
        let mut before = self.iv;
        let mut together = self.blocks.chunks_exact_mut(B::ParBlocksSize::USIZE);
        for blocks in &mut together {
            let mut plain = ParBlocks::<B>::from_fn(|at| blocks[at].into());
            backend.decrypt_par_blocks((&mut plain).into());
            for (block, plain) in blocks.iter_mut().zip(plain) {
                (before, *block) = (*block, xor(before, plain.into()));
            }
        }
        for block in together.into_remainder() {
            let mut plain = Array::from(*block);
            backend.decrypt_block((&mut plain).into());
            (before, *block) = (*block, xor(before, plain.into()));
        }
    }
}

struct MacSteps<'l, 'd> {
    lanes: &'l mut [MacLane<'d>],
    k1: Block,
}

impl BlockSizeUser for MacSteps<'_, '_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for MacSteps<'_, '_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        for lane in self.lanes.iter_mut() {
            lane.state = encrypt(backend, lane.state);
        }
        let mut together = 0;
        if let Ok(lanes) = <&mut [MacLane<'_>; LANES]>::try_from(&mut *self.lanes) {
            // Each lane's last block is not like the others.
            together = lanes.iter().map(|lane| lane.blocks.len().saturating_sub(1)).min().unwrap_or(0);
            let mut states = lanes.each_ref().map(|lane| lane.state);
            for step in 0..together {
                let blocks = lanes.each_ref().map(|lane| lane.blocks[step]);
                for (state, block) in states.iter_mut().zip(blocks) {
                    *state = xor(*state, block);
                }
                encrypt_each(backend, &mut states);
            }
            for (lane, state) in lanes.iter_mut().zip(states) {
                lane.state = state;
            }
        }
        let longest = self.lanes.iter().map(|lane| lane.blocks.len()).max().unwrap_or(0);
        for step in together..longest {
            for lane in self.lanes.iter_mut() {
                if let Some(block) = lane.blocks.get(step) {
                    let mut input = xor(lane.state, *block);
                    if step + 1 == lane.blocks.len() {
                        input = xor(input, self.k1);
                    }
                    lane.state = encrypt(backend, input);
                }
            }
        }
    }
}

/// The first of two ciphers is at hand.
struct WithCbc<'m, 'l, 'd> {
    mac: &'m Cmac,
    lanes: &'l mut [SealLane<'d>],
}

impl BlockSizeUser for WithCbc<'_, '_, '_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for WithCbc<'_, '_, '_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, cbc: &B) {
        self.mac.key.encrypt_with_backend(SealSteps { cbc, lanes: self.lanes, k1: self.mac.k1 });
    }
}

struct SealSteps<'c, 'l, 'd, C> {
    cbc: &'c C,
    lanes: &'l mut [SealLane<'d>],
    k1: Block,
}

impl<C> BlockSizeUser for SealSteps<'_, '_, '_, C> {
    type BlockSize = U16;
}

impl<C: BlockCipherEncBackend<BlockSize = U16>> BlockCipherEncClosure for SealSteps<'_, '_, '_, C> {
    /// The ciphertext block of a step is tagged in the next one, so that neither chain waits for the other.
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, mac: &B) {
        let Self { cbc, lanes, k1 } = self;
        for lane in lanes.iter_mut() {
            lane.state = encrypt(mac, lane.state);
        }
        let mut together = 0;
        if let Ok(lanes) = <&mut [SealLane<'_>; LANES]>::try_from(&mut *lanes) {
            together = lanes.iter().map(|lane| lane.blocks.len()).min().unwrap_or(0);
            let mut ivs = lanes.each_ref().map(|lane| lane.iv);
            let mut states = lanes.each_ref().map(|lane| lane.state);
            for step in 0..together {
                let blocks = lanes.each_mut().map(|lane| &mut lane.blocks[step]);
                for ((state, iv), block) in states.iter_mut().zip(&mut ivs).zip(&blocks) {
                    *state = xor(*state, *iv);
                    *iv = xor(*iv, **block);
                }
                encrypt_each(cbc, &mut ivs);
                encrypt_each(mac, &mut states);
                for (iv, block) in ivs.iter().zip(blocks) {
                    *block = *iv;
                }
            }
            for ((lane, iv), state) in lanes.iter_mut().zip(ivs).zip(states) {
                (lane.iv, lane.state) = (iv, state);
            }
        }
        let longest = lanes.iter().map(|lane| lane.blocks.len()).max().unwrap_or(0);
        for step in together..longest {
            for lane in lanes.iter_mut() {
                if let Some(block) = lane.blocks.get_mut(step) {
                    lane.state = encrypt(mac, xor(lane.state, lane.iv));
                    lane.iv = encrypt(cbc, xor(lane.iv, *block));
                    *block = lane.iv;
                }
            }
        }
        for lane in lanes {
            lane.state = encrypt(mac, xor(xor(lane.state, lane.iv), k1));
        }
    }
}

/// Encrypts the block of each lane, round by round where the cipher takes at least as many blocks at once as there are
/// lanes. What it takes beyond them is nobody's: once inlined, the compiler leaves it out, as long as each lane is copied
/// by itself and all others are constant.
#[inline(always)]
fn encrypt_each<B: BlockCipherEncBackend<BlockSize = U16>>(backend: &B, blocks: &mut [Block; LANES]) {
    if B::ParBlocksSize::USIZE >= LANES {
        let mut all = ParBlocks::<B>::default();
        for (into, block) in all.iter_mut().zip(blocks.iter()) {
            *into = (*block).into();
        }
        backend.encrypt_par_blocks((&mut all).into());
        for (block, from) in blocks.iter_mut().zip(all) {
            *block = from.into();
        }
    } else {
        for block in blocks {
            *block = encrypt(backend, *block);
        }
    }
}

#[inline(always)]
fn encrypt<B: BlockCipherEncBackend<BlockSize = U16>>(backend: &B, block: Block) -> Block {
    let mut block = Array::from(block);
    backend.encrypt_block((&mut block).into());
    block.into()
}

#[inline(always)]
fn xor(one: Block, other: Block) -> Block {
    array::from_fn(|at| one[at] ^ other[at])
}

/// Doubling in GF(2^128), without a branch on the secret (NIST SP 800-38B, section 5.3).
fn double(block: Block) -> Block {
    let value = u128::from_be_bytes(block);
    ((value << 1) ^ ((value >> 127) * 0x87)).to_be_bytes()
}

macro_rules! opaque_debug {
    ($($name:ty => $shown:literal),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($shown)
            }
        }
    )*};
}
// Lanes hold plaintext, and tags that would make it good.
opaque_debug!(
    CbcEncryptor => "CbcEncryptor(..)",
    CbcDecryptor => "CbcDecryptor(..)",
    Cmac => "Cmac(..)",
    CbcLane<'_> => "CbcLane(..)",
    SealLane<'_> => "SealLane(..)",
    MacLane<'_> => "MacLane(..)"
);
