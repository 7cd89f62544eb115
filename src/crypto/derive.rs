//! What is derived from a container's file key (docs/format.md, "Derived keys").

use hkdf::Hkdf;
use sha2::Sha256;

use crate::DataId;
use crate::secret::{EncKey, FileKey, MacKey, SivKey, SseKey};

/// HKDF-SHA-256 (RFC 5869) of a file key under the first 32 bytes of its container's header.
pub struct Derivation(Hkdf<Sha256>);

impl Derivation {
    /// Extracts from `file_key` with `salt` = `header[0..32]`.
    pub fn new(file_key: &FileKey, salt: &[u8; 32]) -> Self {
        Self(Hkdf::new(Some(salt), file_key.expose()))
    }

    /// The same without a header, by the data id alone: of what cannot be read before its key is known, or has none.
    pub fn by_data_id(file_key: &FileKey, data_id: &DataId) -> Self {
        Self(Hkdf::new(Some(&data_id.0), file_key.expose()))
    }

    /// The AES-256-CBC key of the sections.
    pub fn enc_key(&self) -> EncKey {
        let Ok(key) = EncKey::from_fill(|key| self.expand(b"sidekey/1 encrypt", key));
        key
    }

    /// The AES-256-CMAC key of the sections.
    pub fn mac_key(&self) -> MacKey {
        let Ok(key) = MacKey::from_fill(|key| self.expand(b"sidekey/1 mac", key));
        key
    }

    /// The public commitment: one header, one file key.
    pub fn commitment(&self) -> [u8; 32] {
        let mut commitment = [0; 32];
        let Ok(()) = self.expand(b"sidekey/1 commit", &mut commitment);
        commitment
    }

    /// The key under which a service keeps the container (SSE-C). Its salt is the data id: the header cannot be read before.
    pub fn sse_key(file_key: &FileKey, data_id: &DataId) -> SseKey {
        let derivation = Self::by_data_id(file_key, data_id);
        let Ok(key) = SseKey::from_fill(|key| derivation.expand(b"sidekey/1 sse-c", key));
        key
    }

    /// The AES-256-SIV key of the record of a file that the service alone encrypts.
    pub fn record_key(&self) -> SivKey {
        let Ok(key) = SivKey::from_fill(|key| self.expand(b"sidekey/1 cleartext", key));
        key
    }

    fn expand(&self, info: &[u8], out: &mut [u8]) -> Result<(), std::convert::Infallible> {
        if self.0.expand(info, out).is_err() {
            unreachable!("HKDF-SHA-256 gives up to 8160 bytes");
        }
        Ok(())
    }
}

impl std::fmt::Debug for Derivation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Derivation(..)")
    }
}
