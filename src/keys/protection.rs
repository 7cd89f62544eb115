//! How a key file is encrypted under a passphrase: PBES2 (RFC 8018, section 6.2) with PBKDF2 or scrypt (RFC 7914),
//! and OpenSSL's traditional `DEK-Info` (RFC 1421 headers, EVP_BytesToKey with MD5).

use std::fmt;
use std::num::NonZeroU32;

use aes::{Aes128, Aes192, Aes256};
use aws_lc_rs::pbkdf2 as aws;
use cbc::{Decryptor, Encryptor};
use cipher::block_padding::{NoPadding, Pkcs7};
use cipher::{BlockCipherDecrypt, BlockModeDecrypt as _, BlockModeEncrypt as _, KeyInit, KeyIvInit as _};
use des::TdesEde3;
use md5::{Digest as _, Md5};
use pkcs8::der::asn1::{AnyRef, OctetStringRef};
use pkcs8::der::{self, Decode, Encode as _, Reader as _};
use pkcs8::pkcs5::pbes2::{self, Pbkdf2Params, Pbkdf2Prf, ScryptParams};
use pkcs8::{AlgorithmIdentifierRef, EncryptedPrivateKeyInfoRef, ObjectIdentifier};
use zeroize::Zeroizing;

use super::{Kdf, MAX_ROUNDS, MAX_SCRYPT_MEMORY, damaged};
use crate::random::Random;
use crate::secret::{Passphrase, SecretBytes};
use crate::{Error, Result};

/// Everything that stands in the file about its encryption.
pub(super) struct Protection {
    derivation: Derivation,
    cipher: Cipher,
    iv: Vec<u8>,
}

enum Derivation {
    /// EVP_BytesToKey: MD5, one round, salt = the first 8 bytes of the IV.
    Traditional,
    Pbkdf2(Pbkdf2Params, aws::Algorithm),
    Scrypt(ScryptParams),
}

impl Protection {
    /// Takes the value of the `DEK-Info` header of a traditional block.
    pub(super) fn traditional(dek_info: &str) -> Result<Self> {
        let (name, iv) = dek_info.split_once(',').unwrap_or((dek_info, ""));
        let cipher = match name.trim() {
            "AES-128-CBC" => Cipher::Aes128,
            "AES-192-CBC" => Cipher::Aes192,
            "AES-256-CBC" => Cipher::Aes256,
            "DES-EDE3-CBC" => Cipher::TripleDes,
            other => return Err(unsupported(other)),
        };
        Self::new(Derivation::Traditional, cipher, from_hex(iv.trim().as_bytes()).unwrap_or_default())
    }

    /// Takes the DER of an EncryptedPrivateKeyInfo (RFC 5958, section 3); also returns its ciphertext.
    pub(super) fn pkcs8(der: &[u8]) -> Result<(Self, SecretBytes)> {
        let (scheme, data) = AnyRef::from_der(der)
            .and_then(two::<AlgorithmIdentifierRef<'_>, &OctetStringRef>)
            .map_err(|error| damaged().because(error))?;
        if scheme.oid != pbes2::PBES2_OID {
            return Err(unsupported(scheme.oid));
        }
        let (kdf, cipher) = parameters(&scheme)
            .and_then(two::<AlgorithmIdentifierRef<'_>, AlgorithmIdentifierRef<'_>>)
            .map_err(|error| damaged().because(error))?;
        let iv = parameters(&cipher).and_then(AnyRef::decode_as::<&OctetStringRef>);
        let iv = iv.map(|iv| iv.as_bytes().to_vec()).unwrap_or_default();
        let protection = Self::new(Derivation::from_der(&kdf)?, Cipher::from_oid(cipher.oid)?, iv)?;
        Ok((protection, SecretBytes::new(data.as_bytes().to_vec())))
    }

    fn new(derivation: Derivation, cipher: Cipher, iv: Vec<u8>) -> Result<Self> {
        if iv.len() != cipher.block_len() {
            return Err(damaged().because(format!("its IV is not of {} bytes", cipher.block_len())));
        }
        Ok(Self { derivation, cipher, iv })
    }

    /// The rounds of the key derivation, where that is how its cost is counted.
    pub(super) fn rounds(&self) -> Option<u32> {
        match &self.derivation {
            Derivation::Traditional => Some(1),
            Derivation::Pbkdf2(params, _) => Some(params.iteration_count),
            Derivation::Scrypt(_) => None,
        }
    }

    /// How a file with the same costs is written; the hash of PBKDF2 is always SHA-256 then.
    pub(super) fn kdf(&self) -> Option<Kdf> {
        match &self.derivation {
            Derivation::Traditional => None,
            Derivation::Pbkdf2(params, _) => Some(Kdf::Pbkdf2 { rounds: params.iteration_count }),
            Derivation::Scrypt(params) => Some(scrypt(params)),
        }
    }

    /// The DER that `ciphertext` holds.
    ///
    /// CBC has no tag, but a DER structure says in its first block how long it is: a wrong passphrase gives a length
    /// that fits once in 2^28, far more telling than padding, which fits once in 256. So the first block decides about the
    /// passphrase, and what is wrong behind it is damage.
    pub(super) fn open(&self, passphrase: &Passphrase, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let block_len = self.cipher.block_len();
        if ciphertext.is_empty() || !ciphertext.len().is_multiple_of(block_len) {
            return Err(
                damaged().because(format!("its {} encrypted bytes are not whole blocks", ciphertext.len()))
            );
        }
        let key = self.derive(passphrase)?;
        let mut plain = Zeroizing::new(ciphertext.to_vec());
        self.cipher.decrypt(&key, &self.iv, &mut plain).ok_or_else(damaged)?;
        let len = der_len(&plain).filter(|len| (1..=block_len).contains(&plain.len().wrapping_sub(*len)));
        let len = len.ok_or_else(|| Error::auth("wrong passphrase"))?;
        let padding = plain.get(len..).unwrap_or_default();
        if padding.iter().any(|byte| usize::from(*byte) != padding.len()) {
            return Err(damaged().because("its last encrypted block does not end as it should"));
        }
        plain.truncate(len);
        Ok(plain)
    }

    fn derive(&self, passphrase: &Passphrase) -> Result<Zeroizing<Vec<u8>>> {
        let mut key = Zeroizing::new(vec![0; self.cipher.key_len()]);
        match &self.derivation {
            Derivation::Traditional => {
                bytes_to_key(passphrase.expose(), self.iv.get(..8).unwrap_or_default(), &mut key);
            }
            Derivation::Pbkdf2(params, algorithm) => {
                fits(params.key_length, &key)?;
                let rounds = NonZeroU32::new(params.iteration_count).ok_or_else(damaged)?;
                aws::derive(*algorithm, rounds, params.salt.as_ref(), passphrase.expose(), &mut key);
            }
            Derivation::Scrypt(params) => {
                fits(params.key_length, &key)?;
                let costs = scrypt_costs(params)?;
                scrypt::scrypt(passphrase.expose(), params.salt.as_ref(), &costs, &mut key)
                    .map_err(|error| damaged().because(error))?;
            }
        }
        Ok(key)
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.derivation {
            Derivation::Traditional => f.write_str("MD5 with 1 round"),
            Derivation::Pbkdf2(params, _) => {
                let hash = match params.prf {
                    Pbkdf2Prf::HmacWithSha1 => "SHA-1",
                    Pbkdf2Prf::HmacWithSha384 => "SHA-384",
                    Pbkdf2Prf::HmacWithSha512 => "SHA-512",
                    _ => "SHA-256",
                };
                write!(f, "PBKDF2-HMAC-{hash} with {} rounds", params.iteration_count)
            }
            Derivation::Scrypt(params) => write!(f, "{}", scrypt(params)),
        }
    }
}

impl Derivation {
    fn from_der(kdf: &AlgorithmIdentifierRef<'_>) -> Result<Self> {
        match pbes2::Kdf::try_from(*kdf) {
            Ok(pbes2::Kdf::Pbkdf2(params)) => {
                let algorithm = match params.prf {
                    Pbkdf2Prf::HmacWithSha1 => aws::PBKDF2_HMAC_SHA1,
                    Pbkdf2Prf::HmacWithSha256 => aws::PBKDF2_HMAC_SHA256,
                    Pbkdf2Prf::HmacWithSha384 => aws::PBKDF2_HMAC_SHA384,
                    Pbkdf2Prf::HmacWithSha512 => aws::PBKDF2_HMAC_SHA512,
                    other => return Err(unsupported(format!("PBKDF2 with {}", other.oid()))),
                };
                if params.iteration_count > MAX_ROUNDS {
                    return Err(Error::input(format!(
                        "asks for {} rounds of PBKDF2; at most {MAX_ROUNDS} are accepted",
                        params.iteration_count
                    )));
                }
                Ok(Self::Pbkdf2(params, algorithm))
            }
            Ok(pbes2::Kdf::Scrypt(params)) => scrypt_costs(&params).map(|_| Self::Scrypt(params)),
            Ok(_) => Err(unsupported(kdf.oid)),
            Err(error) => match error.kind() {
                der::ErrorKind::OidUnknown { oid } => Err(unsupported(oid)),
                _ => Err(damaged().because(error)),
            },
        }
    }
}

/// The costs of scrypt, once they are known to be bearable. Time is `p` times that of filling the memory.
fn scrypt_costs(params: &ScryptParams) -> Result<scrypt::Params> {
    let memory = u128::from(params.cost_parameter) * u128::from(params.block_size) * 128;
    if memory > u128::from(MAX_SCRYPT_MEMORY) {
        return Err(Error::input(format!(
            "asks for {memory} bytes of memory for scrypt; at most {MAX_SCRYPT_MEMORY} are accepted"
        )));
    }
    if memory * u128::from(params.parallelization) > 16 * u128::from(MAX_SCRYPT_MEMORY) {
        return Err(Error::input(format!(
            "asks for scrypt over {memory} bytes {} times; that is not accepted",
            params.parallelization
        )));
    }
    Some(params.cost_parameter)
        .filter(|n| n.is_power_of_two() && *n > 1)
        .and_then(|n| {
            scrypt::Params::new(log_n(n), params.block_size.into(), params.parallelization.into()).ok()
        })
        .ok_or_else(|| damaged().because("its scrypt parameters make no sense"))
}

fn scrypt(params: &ScryptParams) -> Kdf {
    Kdf::Scrypt { log_n: log_n(params.cost_parameter), r: params.block_size, p: params.parallelization }
}

fn log_n(power_of_two: u64) -> u8 {
    u8::try_from(power_of_two.trailing_zeros()).unwrap_or(u8::MAX)
}

impl Kdf {
    /// The parameters with this salt, as they stand in the file: what is not read is not written either.
    fn parameters(self, salt: &[u8]) -> Result<Derivation> {
        let salt = pbes2::Salt::new(salt)
            .map_err(|error| Error::input("the key file cannot be encoded").because(error))?;
        match self {
            Self::Pbkdf2 { rounds } if (1..=MAX_ROUNDS).contains(&rounds) => {
                let params = Pbkdf2Params {
                    salt,
                    iteration_count: rounds,
                    key_length: None,
                    prf: Pbkdf2Prf::HmacWithSha256,
                };
                Ok(Derivation::Pbkdf2(params, aws::PBKDF2_HMAC_SHA256))
            }
            Self::Pbkdf2 { .. } => Err(Error::usage(format!("the rounds of PBKDF2 are 1 to {MAX_ROUNDS}"))),
            Self::Scrypt { log_n, r, p } => {
                let params = ScryptParams {
                    salt,
                    cost_parameter: 1u64.checked_shl(log_n.into()).unwrap_or_default(),
                    block_size: r,
                    parallelization: p,
                    key_length: None,
                };
                match scrypt_costs(&params) {
                    Ok(_) => Ok(Derivation::Scrypt(params)),
                    Err(error) => Err(Error::usage(format!("{self} is not possible")).because(error)),
                }
            }
        }
    }
}

/// Encrypts the DER of a PrivateKeyInfo to that of an EncryptedPrivateKeyInfo: PBES2, AES-256-CBC.
pub(super) fn seal_pkcs8(
    plain: &[u8],
    passphrase: &Passphrase,
    kdf: Kdf,
    random: &dyn Random,
) -> Result<Vec<u8>> {
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    random.fill(&mut salt)?;
    random.fill(&mut iv)?;
    let protection = Protection::new(kdf.parameters(&salt)?, Cipher::Aes256, iv.to_vec())?;
    let key = protection.derive(passphrase)?;
    // Encrypted in place: no second copy of the plain key.
    let mut buffer = Zeroizing::new(vec![0; plain.len() / 16 * 16 + 16]);
    if let Some(start) = buffer.get_mut(..plain.len()) {
        start.copy_from_slice(plain);
    }
    let ciphertext = Encryptor::<Aes256>::new_from_slices(&key, &iv)
        .map_err(|_| Error::input("the key does not fit its cipher"))?
        .encrypt_padded::<Pkcs7>(&mut buffer, plain.len())
        .map_err(|_| Error::input("the key does not fit its buffer"))?;
    let encode = || -> der::Result<Vec<u8>> {
        EncryptedPrivateKeyInfoRef {
            encryption_algorithm: pbes2::Parameters {
                kdf: match protection.derivation {
                    Derivation::Pbkdf2(params, _) => params.into(),
                    Derivation::Scrypt(params) => params.into(),
                    Derivation::Traditional => return Err(der::Tag::Sequence.value_error().into()),
                },
                encryption: pbes2::EncryptionScheme::Aes256Cbc { iv },
            }
            .into(),
            encrypted_data: OctetStringRef::new(ciphertext)?,
        }
        .to_der()
    };
    encode().map_err(|error| Error::input("the key file cannot be encoded").because(error))
}

/// The ciphers that key files use, all in CBC mode.
#[derive(Clone, Copy)]
enum Cipher {
    Aes128,
    Aes192,
    Aes256,
    TripleDes,
}

impl Cipher {
    fn from_oid(oid: ObjectIdentifier) -> Result<Self> {
        match oid {
            pbes2::AES_128_CBC_OID => Ok(Self::Aes128),
            pbes2::AES_192_CBC_OID => Ok(Self::Aes192),
            pbes2::AES_256_CBC_OID => Ok(Self::Aes256),
            DES_EDE3_CBC_OID => Ok(Self::TripleDes),
            other => Err(unsupported(other)),
        }
    }

    fn key_len(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Aes192 | Self::TripleDes => 24,
            Self::Aes256 => 32,
        }
    }

    fn block_len(self) -> usize {
        match self {
            Self::TripleDes => 8,
            Self::Aes128 | Self::Aes192 | Self::Aes256 => 16,
        }
    }

    /// Decrypts `data` in place and leaves the padding; nothing when a length does not fit.
    fn decrypt(self, key: &[u8], iv: &[u8], data: &mut [u8]) -> Option<()> {
        fn cbc<C: BlockCipherDecrypt + KeyInit>(key: &[u8], iv: &[u8], data: &mut [u8]) -> Option<()> {
            Decryptor::<C>::new_from_slices(key, iv).ok()?.decrypt_padded::<NoPadding>(data).ok().map(drop)
        }
        match self {
            Self::Aes128 => cbc::<Aes128>(key, iv, data),
            Self::Aes192 => cbc::<Aes192>(key, iv, data),
            Self::Aes256 => cbc::<Aes256>(key, iv, data),
            Self::TripleDes => cbc::<TdesEde3>(key, iv, data),
        }
    }
}

/// OpenSSL's EVP_BytesToKey with MD5 and one round: each hash is over the one before, the passphrase and the salt.
fn bytes_to_key(passphrase: &[u8], salt: &[u8], key: &mut [u8]) {
    let mut hash = Zeroizing::new([0; 16]);
    for (index, part) in key.chunks_mut(16).enumerate() {
        let mut md5 = Md5::new();
        if index > 0 {
            md5.update(hash.as_slice());
        }
        md5.update(passphrase);
        md5.update(salt);
        *hash = md5.finalize().into();
        part.copy_from_slice(hash.get(..part.len()).unwrap_or_default());
    }
}

/// The whole length of the DER SEQUENCE that `bytes` begins with (X.690, section 8.1.3).
fn der_len(bytes: &[u8]) -> Option<usize> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (len, head) = match first {
        0..=0x7f => (usize::from(*first), 2),
        0x81..=0x83 => {
            let size = usize::from(first - 0x80);
            (rest.get(..size)?.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), 2 + size)
        }
        _ => return None,
    };
    (*tag == 0x30).then_some(head + len)
}

fn parameters<'a>(algorithm: &AlgorithmIdentifierRef<'a>) -> der::Result<AnyRef<'a>> {
    algorithm.parameters.ok_or_else(|| der::Tag::Sequence.value_error().into())
}

/// A SEQUENCE of exactly two.
fn two<'a, A, B>(any: AnyRef<'a>) -> der::Result<(A, B)>
where
    A: Decode<'a, Error = der::Error>,
    B: Decode<'a, Error = der::Error>,
{
    any.sequence(|reader| Ok((reader.decode()?, reader.decode()?)))
}

/// A key length in the file must be the one that its cipher takes.
fn fits(stated: Option<u16>, key: &[u8]) -> Result<()> {
    match stated {
        Some(len) if usize::from(len) != key.len() => {
            Err(damaged().because(format!("it states a key of {len} bytes for one of {}", key.len())))
        }
        _ => Ok(()),
    }
}

fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: &u8| (*byte as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    });
    pairs.collect()
}

fn unsupported(what: impl fmt::Display) -> Error {
    Error::input(format!("is encrypted in a way that sidekey does not read ({what})"))
        .hint("convert a copy: openssl pkcs8 -topk8 -v2 aes-256-cbc -in KEY -out NEW")
}

const DES_EDE3_CBC_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.3.7");
