//! Initialization vectors that come out the same again.
//!
//! A container whose upload is gone on with after a crash must be, byte for byte, the one that was begun. Its IVs are then
//! AES-256 of the section numbers under a random key of their own (NIST SP 800-38A, appendix C: a nonce, enciphered),
//! which whoever does not have that key cannot tell from random ones, nor foresee.

use std::fmt;

use aes::Aes256Enc;
use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};

use crate::Result;
use crate::random::Random;
use crate::secret::IvKey;

/// Random bytes from elsewhere; IVs by their section's number.
pub struct RepeatableIvs<'r> {
    cipher: Aes256Enc,
    other: &'r dyn Random,
}

impl<'r> RepeatableIvs<'r> {
    /// The IVs that `key` gives; everything else comes from `other`.
    pub fn new(key: &IvKey, other: &'r dyn Random) -> Self {
        Self { cipher: Aes256Enc::new(key.expose().into()), other }
    }
}

impl Random for RepeatableIvs<'_> {
    fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        self.other.fill(bytes)
    }

    fn fill_ivs(&self, first: u64, ivs: &mut [[u8; 16]]) -> Result<()> {
        for (number, iv) in (first..).zip(ivs) {
            *iv = [0; 16];
            iv[..8].copy_from_slice(&number.to_le_bytes());
            self.cipher.encrypt_block(iv.into());
        }
        Ok(())
    }
}

impl fmt::Debug for RepeatableIvs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RepeatableIvs(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DataId;
    use crate::format::section::DigestKind;
    use crate::random::OsRandom;
    use crate::seal::{SealOptions, seal};
    use crate::secret::FileKey;

    /// FIPS 197, appendix C.3, with its plaintext as the number of a section.
    #[test]
    fn an_iv_is_the_number_of_its_section_enciphered() {
        let key = IvKey::from_bytes(&std::array::from_fn(|at| at as u8));
        let ivs = RepeatableIvs::new(&key, &OsRandom);
        let mut one = [[0; 16]];
        ivs.fill_ivs(0, &mut one).unwrap();
        let mut many = [[0; 16]; 5];
        ivs.fill_ivs(0, &mut many).unwrap();
        assert_eq!(one[0], many[0]);
        // `printf` of sixteen zero bytes | openssl enc -aes-256-ecb -nopad -K 000102…1f
        assert_eq!(one[0].map(|byte| format!("{byte:02x}")).concat(), "f29000b62a499fd0a9f39a6add2e7780");
        let mut last = [[0; 16]];
        ivs.fill_ivs(4, &mut last).unwrap();
        assert_eq!(last[0], many[4]);
        assert_eq!(many.iter().collect::<std::collections::BTreeSet<_>>().len(), 5);
    }

    #[test]
    fn a_container_is_made_again_byte_for_byte_by_any_number_of_threads() {
        let (file_key, key) = (FileKey::from_bytes(&[7; 32]), IvKey::from_bytes(&[8; 32]));
        let ivs = RepeatableIvs::new(&key, &OsRandom);
        let plain: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
        let make = |threads| {
            let options = SealOptions { threads, digest: DigestKind::Sha256, ..SealOptions::default() };
            let mut container = Vec::new();
            seal(&file_key, DataId([9; 16]), None, &*plain, &mut container, &ivs, &options).unwrap();
            container
        };
        let one = make(1);
        assert!(one == make(4) && one == make(2));
    }
}
