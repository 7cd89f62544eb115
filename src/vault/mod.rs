//! A vault: a location whose names and info records only the holder of its master key can read or make
//! (docs/format.md, "Vaults"). Bytes in, bytes out: what stands where is [`crate::location`]'s.

pub mod info;
pub mod names;
pub mod settings;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::RwLock;

use aes_siv::KeyInit as _;
use aes_siv::siv::Aes256Siv;
use aws_lc_rs::hmac;
use hkdf::Hkdf;
use sha2::Sha256;

pub use self::info::Info;
pub use crate::id::VaultId;
pub use crate::secret::MasterKey;

use crate::secret::{HmacKey, SivKey};
use crate::{DataId, Error, Result, hex};

/// How the names of a vault are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NamesMode {
    /// Each segment is encrypted.
    Encrypted,
    /// The store reads them.
    Plain,
}

impl NamesMode {
    /// The word for it in settings and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Encrypted => "encrypted",
            Self::Plain => "plain",
        }
    }
}

impl fmt::Display for NamesMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl std::str::FromStr for NamesMode {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "encrypted" => Ok(Self::Encrypted),
            "plain" => Ok(Self::Plain),
            _ => {
                Err(Error::input(format!("{word} is no way to keep names"))
                    .hint("names are encrypted or plain"))
            }
        }
    }
}

/// An open vault: what its master key makes, and what was learned of its long names.
pub struct Vault {
    id: VaultId,
    generation: u8,
    names: NamesMode,
    names_key: SivKey,
    info_key: SivKey,
    settings_key: HmacKey,
    long_key: HmacKey,
    fingerprint: [u8; 16],
    /// The names behind the `h` segments that were met, by the segment.
    long: RwLock<HashMap<String, Vec<u8>>>,
    /// Records of such names that were read ahead, and the segments whose records are known to stand in the store.
    ahead: RwLock<HashMap<String, Vec<u8>>>,
    kept: RwLock<HashSet<String>>,
    /// The stored name of a folder and its plain path: listings give what is in it one after the other. Then a plain path and
    /// its stored name, which was made here and not read.
    last_folder: RwLock<(String, Vec<Vec<u8>>)>,
    last_stored: RwLock<(Vec<Vec<u8>>, String)>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, generation, names, .. } = self;
        f.debug_struct("Vault")
            .field("id", id)
            .field("generation", generation)
            .field("names", names)
            .finish_non_exhaustive()
    }
}

impl Vault {
    /// The vault that this master key opens.
    pub fn new(master: &MasterKey, id: VaultId, generation: u8, names: NamesMode) -> Self {
        let derivation = Hkdf::<Sha256>::new(Some(&id.0), master.expose());
        let expand = |info: &[u8], out: &mut [u8]| -> Result<(), std::convert::Infallible> {
            if derivation.expand(info, out).is_err() {
                unreachable!("HKDF-SHA-256 gives up to 8160 bytes");
            }
            Ok(())
        };
        let Ok(names_key) = SivKey::from_fill(|key| expand(b"sidekey/1 names", key));
        let Ok(info_key) = SivKey::from_fill(|key| expand(b"sidekey/1 info", key));
        let Ok(settings_key) = HmacKey::from_fill(|key| expand(b"sidekey/1 vault", key));
        let Ok(long_key) = HmacKey::from_fill(|key| expand(b"sidekey/1 long names", key));
        let mut fingerprint = [0; 16];
        let Ok(()) = expand(b"sidekey/1 fingerprint", &mut fingerprint);
        Self {
            id,
            generation,
            names,
            names_key,
            info_key,
            settings_key,
            long_key,
            fingerprint,
            long: RwLock::default(),
            ahead: RwLock::default(),
            kept: RwLock::default(),
            last_folder: RwLock::default(),
            last_stored: RwLock::default(),
        }
    }

    /// Its id.
    pub fn id(&self) -> VaultId {
        self.id
    }

    /// Which master key of the vault it is, from 1.
    pub fn generation(&self) -> u8 {
        self.generation
    }

    /// How its names are kept.
    pub fn names(&self) -> NamesMode {
        self.names
    }

    /// The data id of the envelope that holds the master key.
    pub fn data_id(&self) -> DataId {
        self.id.data_id(self.generation)
    }

    /// What people compare to know that two machines have the same master key: eight groups of four hex digits. It tells
    /// nothing about the key.
    pub fn fingerprint(&self) -> String {
        let groups: Vec<String> = self.fingerprint.chunks_exact(2).map(hex).collect();
        groups.join("-")
    }
}

/// AES-256-SIV of `plain` under these associated data, in their order.
pub(crate) fn siv_seal(key: &SivKey, data: &[&[u8]], plain: &[u8]) -> Vec<u8> {
    let mut siv = Aes256Siv::new(&(*key.expose()).into());
    let Ok(sealed) = siv.encrypt(data, plain) else {
        unreachable!("up to 126 associated data and any length of plaintext are possible");
    };
    sealed
}

/// The reverse of [`siv_seal`]; nothing for what it did not make. The tag is compared in constant time.
pub(crate) fn siv_open(key: &SivKey, data: &[&[u8]], sealed: &[u8]) -> Option<Vec<u8>> {
    let mut siv = Aes256Siv::new(&(*key.expose()).into());
    siv.decrypt(data, sealed).ok()
}

/// HMAC-SHA-256 of the parts, one behind the other.
fn hmac_of(key: &HmacKey, parts: &[&[u8]]) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
    let mut context = hmac::Context::with_key(&key);
    parts.iter().for_each(|part| context.update(part));
    let mut tag = [0; 32];
    for (byte, made) in tag.iter_mut().zip(context.sign().as_ref()) {
        *byte = *made;
    }
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5297, appendix A.1 and A.2, are of AES-128; the structure is the same, so the crate is tried on them, and
    /// our use of it on a vector of AES-256 that `cryptography` made (tests/python).
    #[test]
    fn the_crate_is_rfc_5297() {
        use aes_siv::siv::Aes128Siv;
        let hex = |text: &str| -> Vec<u8> {
            let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
            digits
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect()
        };
        let key: [u8; 32] = hex("fffefdfc fbfaf9f8 f7f6f5f4 f3f2f1f0 f0f1f2f3 f4f5f6f7 f8f9fafb fcfdfeff")
            .try_into()
            .unwrap();
        let data = hex("10111213 14151617 18191a1b 1c1d1e1f 20212223 24252627");
        let sealed =
            Aes128Siv::new(&key.into()).encrypt([&data], &hex("11223344 55667788 99aabbcc ddee")).unwrap();
        assert_eq!(sealed, hex("85632d07 c6e8f37f 950acd32 0a2ecc93 40c02b96 90c4dc04 daef7f6a fe5c"));
        let key: [u8; 32] = hex("7f7e7d7c 7b7a7978 77767574 73727170 40414243 44454647 48494a4b 4c4d4e4f")
            .try_into()
            .unwrap();
        let data = [
            hex("00112233 44556677 8899aabb ccddeeff deaddada deaddada ffeeddcc bbaa9988 77665544 33221100"),
            hex("10203040 50607080 90a0"),
            hex("09f91102 9d74e35b d84156c5 635688c0"),
        ];
        let plain = hex("74686973 20697320 736f6d65 20706c61 696e7465 78742074 6f20656e 63727970 \
                         74207573 696e6720 5349562d 414553");
        let sealed = Aes128Siv::new(&key.into()).encrypt(&data, &plain).unwrap();
        let expected = hex("7bdb6e3b 432667eb 06f4d14b ff2fbd0f cb900f2f ddbe4043 26601965 c889bf17 \
                            dba77ceb 094fa663 b7a3f748 ba8af829 ea64ad54 4a272e9c 485b62a3 fd5c0d");
        assert_eq!(sealed, expected);
    }

    /// The vectors of docs/format.md, made with Python's `cryptography` and not with this code.
    #[test]
    fn another_implementation_makes_the_same() {
        use base64::Engine as _;
        use sha2::Digest as _;

        use crate::format::FileType;
        use crate::name::ObjectName;

        let text = include_str!("../../docs/format.md");
        let master: [u8; 32] = std::array::from_fn(|at| at as u8);
        let id: VaultId = "a0a1a2a3a4a5a6a7a8a9aaabacadae00".parse().unwrap();
        let vault = Vault::new(&MasterKey::from_bytes(&master), id, 1, NamesMode::Encrypted);
        let file = |path: &str| ObjectName::file(&path.split('/').collect::<Vec<_>>()).unwrap();
        let long = "l".repeat(153);
        let named = [
            (file("x"), "sOJId58IOTAXhh1cVWuOjpSs.enc"),
            (file("d/x"), "s6Ze6h9KqElPBRuDt_TMOp_A/sxBQCW-jltaLp7WgwjX0cigY.enc"),
            (
                ObjectName::folder(&["d"]).unwrap(),
                "s6Ze6h9KqElPBRuDt_TMOp_A/sdUUoqpxT60Q7wBlIeAmaRmXYEvKvsAE.enc",
            ),
            (file("d/.folder"), "s6Ze6h9KqElPBRuDt_TMOp_A/shRN5vIJ3XKPNI-Yl5FxBQKdnoy1v78t5.enc"),
            (file("caf\u{e9}"), "sXsEbSzV_y1kIYncevKbIGe47aJAd.enc"),
            (file(&long), "hqEIZmd-kfHK9DFy5Yo2KAwdwK-apFQ8oswWjfoUvmw4.enc"),
        ];
        for (name, stored) in named {
            assert_eq!(vault.stored(&name), stored);
            assert!(text.contains(stored.trim_end_matches(".enc")), "{stored} is not in the document");
        }
        let record = vault.long_names(&file(&long)).remove(0).record;
        let digest = hex(&Sha256::digest(record));
        assert_eq!(digest, "1d5779661280fbb992ad570578452b5c66a9ba5b072839d60240233da60173d0");
        assert_eq!(vault.fingerprint(), "dff0-80c7-9a02-01e9-4c5f-885f-c992-2432");
        let settings = String::from_utf8(vault.settings_file()).unwrap();
        let hmac = "55b3e1ecf0312abc343f8c0256083c82ccd6a390c6af121cf58970c01fee7784";
        assert!(
            settings.ends_with(&format!("\"names\":\"encrypted\",\"hmac\":\"{hmac}\"}}\n")),
            "{settings}"
        );
        let info = Info {
            size: Some(12),
            mtime: Some(1_700_000_000_123_456_789),
            mode: Some(0o644),
            kind: FileType::File,
            digest: Some([2; 32]),
            name: None,
            commitment: [3; 32],
        };
        let sealed = vault.seal_info(&vault.stored(&file("d/x")), &DataId([5; 16]), &info);
        let sealed = base64::engine::general_purpose::STANDARD.encode(sealed);
        assert_eq!(sealed.len(), 196);
        assert!(
            sealed.starts_with("AV1aeQgyA+QUzVNEMUObkaNP/NUhE1XkIe5VQoubOPq4RA6W")
                && sealed.ends_with("sk4kDtCmYcB/9oJ/irOG15Z/0pIWWhJbB5LEqwIsi9MAAQ=="),
            "{sealed}"
        );
        for value in [hmac, &digest, &vault.fingerprint(), &sealed[..48], &sealed[148..]] {
            assert!(text.contains(value), "{value} is not in the document");
        }
    }

    #[test]
    fn a_vault_shows_no_key() {
        let master = MasterKey::from_bytes(&[0xab; 32]);
        let vault = Vault::new(&master, VaultId([7; 16]), 1, NamesMode::Encrypted);
        let shown = format!("{vault:?}");
        assert!(shown.starts_with("Vault { id: VaultId(0707"), "{shown}");
        assert!(!shown.contains("ab") && !shown.contains("171"), "{shown}");
        let other = Vault::new(&master, VaultId([8; 16]), 1, NamesMode::Encrypted);
        assert_ne!(vault.fingerprint(), other.fingerprint());
        assert_eq!(vault.fingerprint().len(), 39);
    }
}
