//! Key files: bytes in, keys out, and back. Which file they come from, and the passphrase, is the caller's business.
//!
//! Read: PKCS#8 (RFC 5958), plain or encrypted with PBES2; PKCS#1 (RFC 8017, appendix A.1), plain or in OpenSSL's
//! traditional encryption; public keys as SPKI (RFC 5280, section 4.1) or PKCS#1. Written: PKCS#8 and SPKI, as
//! `openssl genrsa -aes256` and `openssl rsa -pubout` write them (docs/format.md, "Key files").

mod pem;
mod protection;

use std::fmt;

use pkcs1::{RsaPrivateKeyRef, RsaPublicKeyRef};
use pkcs8::der::asn1::{BitStringRef, OctetStringRef};
use pkcs8::der::{Decode as _, Encode as _};
use pkcs8::{ObjectIdentifier, PrivateKeyInfoRef, SubjectPublicKeyInfoRef};
use zeroize::Zeroizing;

use self::pem::Block;
use self::protection::Protection;
use crate::crypto::rsa::{MAX_BITS, MIN_BITS};
pub use crate::crypto::rsa::{PrivateKey, PublicKey};
use crate::random::Random;
use crate::secret::{Passphrase, SecretBytes};
use crate::{Error, Result};

/// The rounds of PBKDF2 in key files that this crate writes.
pub const DEFAULT_ROUNDS: u32 = 600_000;
/// The most rounds of PBKDF2 that a key file may ask for: some seconds.
pub const MAX_ROUNDS: u32 = 10_000_000;
/// The most memory that a key file may ask scrypt to fill, in bytes.
pub const MAX_SCRYPT_MEMORY: u64 = 1 << 30;
/// The longest key file that is read, in bytes.
pub const MAX_FILE_LEN: usize = 1 << 20;

impl PublicKey {
    /// Reads the one public key of a PEM file; text around the block is skipped.
    ///
    /// # Errors
    /// `Input` when there is none, several, or another kind of key; `Integrity` when the block is damaged.
    pub fn from_pem(file: &[u8]) -> Result<Self> {
        let blocks = read(file)?;
        let public: Vec<_> = blocks.iter().filter(|block| block.label.ends_with("PUBLIC KEY")).collect();
        let block = match public.as_slice() {
            [one] => one,
            [] if blocks.iter().any(|block| block.label.ends_with("PRIVATE KEY")) => {
                return Err(Error::input("is a private key; a public one is needed")
                    .hint("sidekey pubkey KEY writes its public half"));
            }
            [] => return Err(no_key(&blocks, "public")),
            several => {
                return Err(Error::input(format!("holds {} public keys; one is needed", several.len())));
            }
        };
        let spki = match block.label.as_str() {
            "RSA PUBLIC KEY" => spki_from_pkcs1(block.der.expose())?,
            "PUBLIC KEY" => block.der.expose().to_vec(),
            other => return Err(not_rsa(other)),
        };
        let info = SubjectPublicKeyInfoRef::from_der(&spki).map_err(|error| damaged().because(error))?;
        check_algorithm(info.algorithm.oid)?;
        let key = RsaPublicKeyRef::from_der(info.subject_public_key.raw_bytes())
            .map_err(|error| damaged().because(error))?;
        check_bits(key.modulus.as_bytes())?;
        Self::from_spki_der(&spki).map_err(|_| damaged().because("its numbers are not those of an RSA key"))
    }

    /// The key as SPKI in PEM, as `openssl rsa -pubout` writes it.
    pub fn to_pem(&self) -> String {
        pem::encode("PUBLIC KEY", self.spki_der()).to_string()
    }
}

/// How a passphrase becomes the key of a key file that this crate writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kdf {
    /// PBKDF2-HMAC-SHA-256 (RFC 8018, section 5.2) with so many rounds, 1 to [`MAX_ROUNDS`].
    Pbkdf2 {
        /// The rounds.
        rounds: u32,
    },
    /// scrypt (RFC 7914). It fills 128 * N * r bytes of memory, at most [`MAX_SCRYPT_MEMORY`], p times. OpenSSL reads
    /// key files that ask for less than 32 MiB, and no others.
    Scrypt {
        /// The cost N, as its logarithm to base 2.
        log_n: u8,
        /// The block size.
        r: u16,
        /// The parallelization.
        p: u16,
    },
}

impl Kdf {
    /// PBKDF2 with [`DEFAULT_ROUNDS`].
    pub const PBKDF2: Self = Self::Pbkdf2 { rounds: DEFAULT_ROUNDS };
    /// scrypt over 128 MiB: N=2^17, r=8, p=1.
    pub const SCRYPT: Self = Self::Scrypt { log_n: 17, r: 8, p: 1 };

    /// The one of both that costs more, where they are of one kind; else this one.
    #[must_use]
    pub fn at_least(self, least: Self) -> Self {
        let work = |log_n: u8, r: u16, p: u16| {
            (u128::from(r) * u128::from(p)).checked_shl(log_n.into()).unwrap_or(u128::MAX)
        };
        match (self, least) {
            (Self::Pbkdf2 { rounds }, Self::Pbkdf2 { rounds: least }) => {
                Self::Pbkdf2 { rounds: rounds.max(least) }
            }
            (Self::Scrypt { log_n, r, p }, Self::Scrypt { log_n: least_n, r: least_r, p: least_p })
                if work(log_n, r, p) < work(least_n, least_r, least_p) =>
            {
                least
            }
            _ => self,
        }
    }
}

/// As people write it: `PBKDF2-HMAC-SHA-256 with 600000 rounds`, `scrypt with N=131072 r=8 p=1`.
impl fmt::Display for Kdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pbkdf2 { rounds } => write!(f, "PBKDF2-HMAC-SHA-256 with {rounds} rounds"),
            Self::Scrypt { log_n, r, p } => {
                let n = 1u128.checked_shl((*log_n).into()).unwrap_or_default();
                write!(f, "scrypt with N={n} r={r} p={p}")
            }
        }
    }
}

/// A private key file that was recognised, but not opened yet.
pub struct KeyFile {
    form: Form,
    der: SecretBytes,
    protection: Option<Protection>,
}

/// What the DER is, once decrypted.
#[derive(Clone, Copy)]
enum Form {
    Pkcs1,
    Pkcs8,
}

impl KeyFile {
    /// Recognises the one private key of a PEM file; text around the block is skipped.
    ///
    /// # Errors
    /// `Input` when there is none, several, another kind of key, or an encryption that is not read or asks for too much;
    /// `Integrity` when the block is damaged.
    pub fn parse(file: &[u8]) -> Result<Self> {
        let mut blocks = read(file)?;
        let private = |block: &Block| block.label.ends_with("PRIVATE KEY");
        let block = match blocks.iter().filter(|block| private(block)).count() {
            1 => blocks.swap_remove(blocks.iter().position(private).unwrap_or_default()),
            0 if blocks.iter().any(|block| block.label.ends_with("PUBLIC KEY")) => {
                return Err(Error::input("is a public key; a private one is needed"));
            }
            0 => return Err(no_key(&blocks, "private")),
            count => return Err(Error::input(format!("holds {count} private keys; one is needed"))),
        };
        let (form, protection, der) = match block.label.as_str() {
            "PRIVATE KEY" => (Form::Pkcs8, None, block.der),
            "ENCRYPTED PRIVATE KEY" => {
                let (protection, ciphertext) = Protection::pkcs8(block.der.expose())?;
                (Form::Pkcs8, Some(protection), ciphertext)
            }
            "RSA PRIVATE KEY"
                if block.header("Proc-Type").is_some_and(|kind| kind.ends_with("ENCRYPTED")) =>
            {
                let protection = Protection::traditional(block.header("DEK-Info").unwrap_or_default())?;
                (Form::Pkcs1, Some(protection), block.der)
            }
            "RSA PRIVATE KEY" => (Form::Pkcs1, None, block.der),
            "OPENSSH PRIVATE KEY" => {
                return Err(Error::input("is a key file of OpenSSH; PKCS#8 or PKCS#1 is needed")
                    .hint("convert a copy: ssh-keygen -p -m PKCS8 -f COPY"));
            }
            other => return Err(not_rsa(other)),
        };
        Ok(Self { form, der, protection })
    }

    /// Whether a passphrase is needed.
    pub fn is_encrypted(&self) -> bool {
        self.protection.is_some()
    }

    /// The rounds of PBKDF2, or 1 for the traditional encryption; nothing for scrypt and for a file in plain.
    pub fn rounds(&self) -> Option<u32> {
        self.protection.as_ref()?.rounds()
    }

    /// The derivation by which this crate could write the file again at no less cost; nothing for the traditional
    /// encryption and for a file in plain.
    pub fn derivation(&self) -> Option<Kdf> {
        self.protection.as_ref()?.kdf()
    }

    /// How the passphrase becomes a key, for people: `PBKDF2-HMAC-SHA-256 with 2048 rounds`.
    pub fn kdf(&self) -> Option<String> {
        self.protection.as_ref().map(Protection::to_string)
    }

    /// The key; the passphrase is not looked at when the file is in plain. Takes as long as the file asks for.
    ///
    /// # Errors
    /// `Auth` when the passphrase is missing or wrong, `Input` for a key that is not RSA of 2048 to 8192 bits, `Integrity`
    /// for a damaged file.
    pub fn open(&self, passphrase: Option<&Passphrase>) -> Result<PrivateKey> {
        let opened;
        let der = match (&self.protection, passphrase) {
            (None, _) => self.der.expose(),
            (Some(_), None) => return Err(Error::auth("is encrypted; its passphrase is needed")),
            (Some(protection), Some(passphrase)) => {
                opened = protection.open(passphrase, self.der.expose())?;
                &opened
            }
        };
        match self.form {
            Form::Pkcs8 => private_from_pkcs8(der),
            Form::Pkcs1 => {
                let wrapped = OctetStringRef::new(der)
                    .and_then(|key| PrivateKeyInfoRef::new(pkcs1::ALGORITHM_ID, key).to_der())
                    .map_err(|error| damaged().because(error))?;
                private_from_pkcs8(&Zeroizing::new(wrapped))
            }
        }
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyFile({})", self.kdf().as_deref().unwrap_or("in plain"))
    }
}

impl PrivateKey {
    /// The key as encrypted PKCS#8 in PEM: PBES2 with this derivation and AES-256-CBC (RFC 8018), the structure that
    /// `openssl genrsa -aes256` and `openssl pkcs8 -topk8 -scrypt` write.
    ///
    /// # Errors
    /// `Usage` when the costs are none, or more than are read; what `random` says.
    pub fn to_encrypted_pem(&self, passphrase: &Passphrase, kdf: Kdf, random: &dyn Random) -> Result<String> {
        let der = protection::seal_pkcs8(self.to_pkcs8_der()?.expose(), passphrase, kdf, random)?;
        Ok(pem::encode("ENCRYPTED PRIVATE KEY", &der).to_string())
    }

    /// The key as PKCS#8 in PEM, in plain.
    ///
    /// # Errors
    /// None that the caller can cause.
    pub fn to_plain_pem(&self) -> Result<Zeroizing<String>> {
        Ok(pem::encode("PRIVATE KEY", self.to_pkcs8_der()?.expose()))
    }
}

fn read(file: &[u8]) -> Result<Vec<Block>> {
    if file.len() > MAX_FILE_LEN {
        return Err(Error::input(format!("is longer than a key file can be ({MAX_FILE_LEN} bytes)")));
    }
    let blocks = pem::blocks(file)?;
    if !blocks.is_empty() {
        return Ok(blocks);
    }
    let error = Error::input("is not a key file: no -----BEGIN line in it");
    Err(match file.first() {
        Some(0x30) => error.hint("if it is DER, convert it: openssl pkey -inform DER -in KEY -out KEY.pem"),
        _ => error,
    })
}

fn private_from_pkcs8(der: &[u8]) -> Result<PrivateKey> {
    let info = PrivateKeyInfoRef::from_der(der).map_err(|error| damaged().because(error))?;
    check_algorithm(info.algorithm.oid)?;
    let key =
        RsaPrivateKeyRef::from_der(info.private_key.as_bytes()).map_err(|error| damaged().because(error))?;
    check_bits(key.modulus.as_bytes())?;
    PrivateKey::from_pkcs8_der(der).map_err(|_| damaged().because("its numbers do not make an RSA key"))
}

fn spki_from_pkcs1(der: &[u8]) -> Result<Vec<u8>> {
    BitStringRef::from_bytes(der)
        .and_then(|key| {
            SubjectPublicKeyInfoRef { algorithm: pkcs1::ALGORITHM_ID, subject_public_key: key }.to_der()
        })
        .map_err(|error| damaged().because(error))
}

fn check_algorithm(oid: ObjectIdentifier) -> Result<()> {
    if oid == pkcs1::ALGORITHM_OID {
        return Ok(());
    }
    Err(not_rsa(match oid.to_string().as_str() {
        "1.2.840.10045.2.1" => "EC",
        "1.2.840.113549.1.1.10" => "RSA-PSS (signatures only)",
        "1.2.840.10040.4.1" => "DSA",
        "1.3.101.110" => "X25519",
        "1.3.101.112" => "Ed25519",
        other => other,
    }))
}

/// `modulus` without leading zero bytes.
fn check_bits(modulus: &[u8]) -> Result<()> {
    let zeros = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    let bits = modulus.len() * 8 - zeros;
    if (MIN_BITS..=MAX_BITS).contains(&bits) {
        return Ok(());
    }
    Err(Error::input(format!("is an RSA key of {bits} bits; {MIN_BITS} to {MAX_BITS} are accepted"))
        .hint("sidekey keygen -o NAME makes a key pair of 3072 bits"))
}

fn no_key(blocks: &[Block], which: &str) -> Error {
    let found = blocks.first().map_or("", |block| block.label.as_str());
    let error = Error::input(format!("holds no {which} key, only {found}"));
    match found {
        "CERTIFICATE" => error.hint("openssl x509 -in CERTIFICATE -noout -pubkey writes its public key"),
        _ => error,
    }
}

fn not_rsa(kind: &str) -> Error {
    let kind = kind.trim_end_matches(" PRIVATE KEY").trim_end_matches(" PUBLIC KEY");
    Error::input(format!("is a key of another kind ({kind}); sidekey uses RSA"))
        .hint("sidekey keygen -o NAME makes an RSA key pair")
}

fn damaged() -> Error {
    Error::integrity("is damaged")
}
