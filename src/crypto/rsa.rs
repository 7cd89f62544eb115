//! RSA keys and the two operations on them: wrap with a public key, unwrap with a private key.
//!
//! Envelopes use RSAES-OAEP with SHA-256, MGF1-SHA-256 and a label (RFC 8017, section 7.1; docs/format.md, "Envelope").
//! PKCS#1 v1.5 (RFC 8017, section 7.2) exists only for the key files of the OpenSSL recipe. The operations are
//! aws-lc-rs's, which are constant-time; reading and writing key files is [`crate::keys`].

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey,
    Pkcs1PrivateDecryptingKey, Pkcs1PublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey,
};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::secret::SecretBytes;
use crate::{DataId, Error, ErrorKind, KeyId, Result};

/// The smallest RSA modulus accepted, in bits.
pub const MIN_BITS: usize = 2048;
/// The largest RSA modulus accepted, in bits.
pub const MAX_BITS: usize = 8192;

/// The OAEP label of an envelope entry: `sidekey/1 ` and the 16 raw bytes of the data id.
pub fn oaep_label(data_id: &DataId) -> [u8; 26] {
    let mut label = *b"sidekey/1 ................";
    if let Some(tail) = label.get_mut(10..) {
        tail.copy_from_slice(&data_id.0);
    }
    label
}

/// An RSA public key, a recipient.
pub struct PublicKey {
    id: KeyId,
    spki: Vec<u8>,
    bits: usize,
    oaep: OaepPublicEncryptingKey,
    pkcs1: Pkcs1PublicEncryptingKey,
}

impl PublicKey {
    /// Takes the DER of a SubjectPublicKeyInfo (RFC 5280, section 4.1).
    ///
    /// # Errors
    /// `Input` when it is not an RSA key of 2048 to 8192 bits.
    pub fn from_spki_der(der: &[u8]) -> Result<Self> {
        let key = PublicEncryptingKey::from_der(der)
            .map_err(|_| Error::input("not an RSA public key of 2048 to 8192 bits"))?;
        Self::new(key)
    }

    fn new(key: PublicEncryptingKey) -> Result<Self> {
        let spki: PublicKeyX509Der<'_> = key.as_der().map_err(|_| library("encode a public key"))?;
        let spki = spki.as_ref().to_vec();
        let bits = key.key_size_bits();
        if !(MIN_BITS..=MAX_BITS).contains(&bits) {
            return Err(Error::input(format!("RSA keys of {bits} bits are not accepted; 2048 to 8192 are")));
        }
        Ok(Self {
            id: KeyId(Sha256::digest(&spki).into()),
            spki,
            bits,
            oaep: OaepPublicEncryptingKey::new(key.clone()).map_err(|_| library("prepare a public key"))?,
            pkcs1: Pkcs1PublicEncryptingKey::new(key).map_err(|_| library("prepare a public key"))?,
        })
    }

    /// SHA-256 of the SubjectPublicKeyInfo DER.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The DER of the SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// The length of the modulus in bits.
    pub fn bits(&self) -> usize {
        self.bits
    }

    /// The length of what it wraps to, in bytes.
    pub fn wrapped_len(&self) -> usize {
        self.bits.div_ceil(8)
    }

    /// RSAES-OAEP of `secret` under the label of `data_id`.
    pub fn wrap(&self, secret: &[u8], data_id: &DataId) -> Result<Vec<u8>> {
        let mut wrapped = vec![0; self.oaep.ciphertext_size()];
        let len = self
            .oaep
            .encrypt(&OAEP_SHA256_MGF1SHA256, secret, &mut wrapped, Some(&oaep_label(data_id)))
            .map_err(|_| library("wrap a key"))?
            .len();
        wrapped.truncate(len);
        Ok(wrapped)
    }

    /// RSAES-PKCS1-v1_5 of `secret`, for the OpenSSL recipe's own key files only.
    ///
    /// # Errors
    /// `Input` when `secret` is longer than the modulus less 11 bytes.
    pub fn wrap_pkcs1(&self, secret: &[u8]) -> Result<Vec<u8>> {
        if secret.len() > self.pkcs1.max_plaintext_size() {
            return Err(Error::input(format!(
                "a secret of {} bytes does not fit an RSA key of {} bits with PKCS#1 v1.5",
                secret.len(),
                self.bits
            )));
        }
        let mut wrapped = vec![0; self.pkcs1.ciphertext_size()];
        let len = self.pkcs1.encrypt(secret, &mut wrapped).map_err(|_| library("wrap a key"))?.len();
        wrapped.truncate(len);
        Ok(wrapped)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({}, {} bits)", self.id, self.bits)
    }
}

/// An RSA private key, an identity.
pub struct PrivateKey {
    public: PublicKey,
    key: PrivateDecryptingKey,
    oaep: OaepPrivateDecryptingKey,
    pkcs1: Pkcs1PrivateDecryptingKey,
}

impl PrivateKey {
    /// A new key pair; `bits` is one of 2048, 3072, 4096 and 8192.
    ///
    /// # Errors
    /// `Usage` for another size.
    pub fn generate(bits: usize) -> Result<Self> {
        let size = match bits {
            2048 => KeySize::Rsa2048,
            3072 => KeySize::Rsa3072,
            4096 => KeySize::Rsa4096,
            8192 => KeySize::Rsa8192,
            _ => {
                return Err(Error::usage(format!("cannot make an RSA key of {bits} bits"))
                    .hint("choose 2048, 3072, 4096 or 8192"));
            }
        };
        Self::new(PrivateDecryptingKey::generate(size).map_err(|_| library("generate a key pair"))?)
    }

    /// Takes the DER of an unencrypted PKCS#8 PrivateKeyInfo (RFC 5958); the key's consistency is checked.
    ///
    /// # Errors
    /// `Input` when it is not a consistent RSA key of 2048 to 8192 bits.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self> {
        let key = PrivateDecryptingKey::from_pkcs8(der).map_err(|reason| {
            Error::input("not a sound RSA private key of 2048 to 8192 bits").because(reason.to_string())
        })?;
        Self::new(key)
    }

    fn new(key: PrivateDecryptingKey) -> Result<Self> {
        Ok(Self {
            public: PublicKey::new(key.public_key())?,
            oaep: OaepPrivateDecryptingKey::new(key.clone()).map_err(|_| library("prepare a private key"))?,
            pkcs1: Pkcs1PrivateDecryptingKey::new(key.clone())
                .map_err(|_| library("prepare a private key"))?,
            key,
        })
    }

    /// The same key for another owner; its secret is not copied.
    ///
    /// # Errors
    /// What the library refuses.
    pub fn share(&self) -> Result<Self> {
        Self::new(self.key.clone())
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The key id of the pair.
    pub fn id(&self) -> KeyId {
        self.public.id
    }

    /// The DER of the unencrypted PKCS#8 PrivateKeyInfo.
    pub fn to_pkcs8_der(&self) -> Result<SecretBytes> {
        let der: Pkcs8V1Der<'_> = self.key.as_der().map_err(|_| library("encode a private key"))?;
        Ok(SecretBytes::new(der.as_ref().to_vec()))
    }

    /// What was wrapped for this key under the label of `data_id`, or nothing when this is not the key or not the id.
    pub fn unwrap(&self, wrapped: &[u8], data_id: &DataId) -> Option<SecretBytes> {
        if wrapped.len() != self.public.wrapped_len() {
            return None;
        }
        let mut secret = Zeroizing::new(vec![0; self.oaep.min_output_size()]);
        let len = self
            .oaep
            .decrypt(&OAEP_SHA256_MGF1SHA256, wrapped, &mut secret, Some(&oaep_label(data_id)))
            .ok()?
            .len();
        Some(shortened(secret, len))
    }

    /// What was wrapped for this key with PKCS#1 v1.5, or nothing. A wrong key can give random bytes here; only what
    /// the bytes open says whether they are right.
    pub fn unwrap_pkcs1(&self, wrapped: &[u8]) -> Option<SecretBytes> {
        if wrapped.len() != self.public.wrapped_len() {
            return None;
        }
        let mut secret = Zeroizing::new(vec![0; self.pkcs1.min_output_size()]);
        let len = self.pkcs1.decrypt(wrapped, &mut secret).ok()?.len();
        Some(shortened(secret, len))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({}, {} bits)", self.public.id, self.public.bits)
    }
}

/// Wipes what stands behind `len` and drops it.
fn shortened(mut secret: Zeroizing<Vec<u8>>, len: usize) -> SecretBytes {
    if let Some(rest) = secret.get_mut(len..) {
        rest.zeroize();
    }
    secret.truncate(len);
    SecretBytes::from(secret)
}

/// The cryptographic library refused something it should not have.
fn library(doing: &str) -> Error {
    Error::new(ErrorKind::Io, format!("the cryptographic library cannot {doing}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrapped_opens_with_its_key_and_its_data_id_alone() {
        let (one, two) = (PrivateKey::generate(2048).unwrap(), PrivateKey::generate(2048).unwrap());
        let (id, other) = (DataId([1; 16]), DataId([2; 16]));
        let wrapped = one.public().wrap(&[7; 32], &id).unwrap();
        assert_eq!(one.unwrap(&wrapped, &id).unwrap().expose(), [7; 32]);
        assert!(one.unwrap(&wrapped, &other).is_none());
        assert!(two.unwrap(&wrapped, &id).is_none());
        assert!(one.unwrap(&wrapped[1..], &id).is_none());
    }

    #[test]
    fn pkcs1_carries_the_recipe_password() {
        let key = PrivateKey::generate(2048).unwrap();
        let wrapped = key.public().wrap_pkcs1(&[b'x'; 244]).unwrap();
        assert_eq!(key.unwrap_pkcs1(&wrapped).unwrap().expose(), [b'x'; 244]);
        assert_eq!(key.public().wrap_pkcs1(&[b'x'; 246]).unwrap_err().kind(), ErrorKind::Input);
    }

    #[test]
    fn a_private_key_survives_pkcs8() {
        let key = PrivateKey::generate(2048).unwrap();
        let again = PrivateKey::from_pkcs8_der(key.to_pkcs8_der().unwrap().expose()).unwrap();
        assert_eq!(again.id(), key.id());
        assert_eq!(PublicKey::from_spki_der(key.public().spki_der()).unwrap().id(), key.id());
        assert!(!format!("{key:?}").contains("d:"));
    }
}
