//! Sections sealed and opened, several at once (docs/format.md, "Sections").
//!
//! Decryption takes an [`Authentic`] section, and only [`SectionOpener::check`] makes one: nothing is decrypted before
//! its tag was good.

use std::fmt;

use crate::crypto::derive::Derivation;
use crate::crypto::lanes::{BLOCK, Block, CbcDecryptor, CbcEncryptor, Cmac, MacLane, SealLane, same};
use crate::format::section::{Kind, tag_prefix, unpadded_len};

/// One section in its stored form: `IV || ciphertext || tag`, whole blocks, at least three.
pub struct Slot<'a> {
    /// The number of sections before it in the container.
    pub index: u64,
    /// What it holds.
    pub kind: Kind,
    /// The stored bytes.
    pub bytes: &'a mut [u8],
}

impl fmt::Debug for Slot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("index", &self.index).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// The three parts of a stored section: IV, ciphertext, tag.
fn parts(bytes: &mut [u8]) -> Option<(&mut Block, &mut [Block], &mut Block)> {
    let (blocks, rest) = bytes.as_chunks_mut::<BLOCK>();
    let (iv, blocks) = blocks.split_first_mut()?;
    let (tag, ciphertext) = blocks.split_last_mut()?;
    (rest.is_empty() && !ciphertext.is_empty()).then_some((iv, ciphertext, tag))
}

/// In bytes.
fn ciphertext_len(blocks: &[Block]) -> u32 {
    u32::try_from(blocks.len().saturating_mul(BLOCK)).unwrap_or(u32::MAX)
}

/// The tags that the sections should have.
fn tags(mac: &Cmac, slots: &[Slot<'_>]) -> Vec<Block> {
    let mut lanes: Vec<_> = slots
        .iter()
        .map(|slot| {
            let (blocks, _) = slot.bytes.as_chunks::<BLOCK>();
            let blocks = blocks.split_last().map_or(&[][..], |(_, covered)| covered);
            let len = ciphertext_len(blocks.get(1..).unwrap_or_default());
            MacLane { state: tag_prefix(slot.index, slot.kind, len), blocks }
        })
        .collect();
    mac.tag(&mut lanes);
    lanes.into_iter().map(|lane| lane.state).collect()
}

/// Encrypts and tags.
#[derive(Debug)]
pub struct SectionSealer {
    cbc: CbcEncryptor,
    mac: Cmac,
}

impl SectionSealer {
    /// With the keys of `derivation`.
    pub fn new(derivation: &Derivation) -> Self {
        Self {
            cbc: CbcEncryptor::new(derivation.enc_key().expose()),
            mac: Cmac::new(derivation.mac_key().expose()),
        }
    }

    /// Turns `IV || padded plaintext || room for a tag` into a stored section, in place.
    pub fn seal(&self, slots: &mut [Slot<'_>]) {
        let (mut lanes, rooms): (Vec<_>, Vec<_>) = slots
            .iter_mut()
            .filter_map(|slot| {
                let (iv, blocks, room) = parts(slot.bytes)?;
                let state = tag_prefix(slot.index, slot.kind, ciphertext_len(blocks));
                Some((SealLane { state, iv: *iv, blocks }, room))
            })
            .unzip();
        self.cbc.seal(&self.mac, &mut lanes);
        for (lane, room) in lanes.iter().zip(rooms) {
            *room = lane.state;
        }
    }
}

/// Checks tags, then decrypts.
#[derive(Debug)]
pub struct SectionOpener {
    cbc: CbcDecryptor,
    mac: Cmac,
}

/// A section whose tag was good.
pub struct Authentic<'a>(&'a mut [u8]);

impl fmt::Debug for Authentic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authentic(..)")
    }
}

impl SectionOpener {
    /// With the keys of `derivation`.
    pub fn new(derivation: &Derivation) -> Self {
        Self {
            cbc: CbcDecryptor::new(derivation.enc_key().expose()),
            mac: Cmac::new(derivation.mac_key().expose()),
        }
    }

    /// For each section, in order: the section when its tag is good.
    pub fn check<'a>(&self, mut slots: Vec<Slot<'a>>) -> Vec<Option<Authentic<'a>>> {
        let tags = tags(&self.mac, &slots);
        let good: Vec<bool> = slots
            .iter_mut()
            .zip(tags)
            .map(|(slot, tag)| parts(slot.bytes).is_some_and(|(_, _, stored)| same(stored, &tag)))
            .collect();
        slots.into_iter().zip(good).map(|(slot, good)| good.then_some(Authentic(slot.bytes))).collect()
    }

    #[expect(clippy::needless_pass_by_value, reason = "a section is decrypted in place, once")]
    /// Decrypts in place; the plaintext without its padding, or nothing when the padding is not well formed.
    pub fn decrypt<'a>(&self, section: Authentic<'a>) -> Option<&'a mut [u8]> {
        let (iv, ciphertext, _) = parts(section.0)?;
        self.cbc.decrypt(iv, ciphertext);
        let plaintext = ciphertext.as_flattened_mut();
        let len = unpadded_len(plaintext)?;
        plaintext.get_mut(..len)
    }
}
