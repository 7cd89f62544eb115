//! RSA by the `rsa` crate, with padding bytes that follow from a name: envelopes that are the same in every run.

use rsa::pkcs8::{DecodePrivateKey as _, EncodePublicKey as _};
use rsa::rand_core::{CryptoRng, Error, RngCore};
use rsa::{Oaep, Pkcs1v15Encrypt, RsaPrivateKey, RsaPublicKey};
use sha2::{Digest as _, Sha256};
use sidekey::{DataId, KeyId};

use super::writer::hash;

/// A key of `fixtures/keys`.
pub(crate) struct Key {
    public: RsaPublicKey,
    pub(crate) id: KeyId,
}

impl Key {
    pub(crate) fn load(file: &str) -> Self {
        let path = format!("{}/fixtures/keys/{file}", env!("CARGO_MANIFEST_DIR"));
        let private = RsaPrivateKey::read_pkcs8_pem_file(path).expect("a PKCS#8 key of the fixtures");
        let public = private.to_public_key();
        let spki = public.to_public_key_der().unwrap();
        Self { id: KeyId(Sha256::digest(spki.as_bytes()).into()), public }
    }

    /// RSAES-OAEP under the label of `data_id`, whose bytes are ASCII.
    pub(crate) fn oaep(&self, secret: &[u8], data_id: &DataId) -> Vec<u8> {
        let label = format!("sidekey/1 {}", std::str::from_utf8(&data_id.0).unwrap());
        let padding = Oaep::new_with_label::<rsa::sha2::Sha256, _>(label);
        self.public.encrypt(&mut Named::new(secret), padding, secret).unwrap()
    }

    pub(crate) fn pkcs1(&self, secret: &[u8]) -> Vec<u8> {
        self.public.encrypt(&mut Named::new(secret), Pkcs1v15Encrypt, secret).unwrap()
    }
}

/// Bytes from SHA-256 of a counter: for tests only.
struct Named {
    seed: [u8; 32],
    count: u64,
}

impl Named {
    fn new(secret: &[u8]) -> Self {
        Self { seed: Sha256::digest(secret).into(), count: 0 }
    }
}

impl RngCore for Named {
    fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(32) {
            let name: String = self.seed.iter().map(|byte| format!("{byte:02x}")).collect();
            let block = hash(&format!("padding {}", self.count), &name);
            self.count += 1;
            part.copy_from_slice(&block[..part.len()]);
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for Named {}
