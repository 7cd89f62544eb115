//! What the tests of the recipe share: a deterministic writer of files in every variant, and reading one back.

use std::io::{self, Cursor, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use sidekey::Result;
use sidekey::crypto::recipe::{Kdf, RecipeKey, derive};
use sidekey::crypto::rsa::PrivateKey;
use sidekey::random::Random;
use sidekey::recipe::{
    ContainerEncoding, Decision, KeyFile, KeyFileForm, PasswordBlock, PasswordReading, Reader, Sample,
    Settler, detect_key_file, encrypt,
};

pub(crate) const MD5: Kdf = Kdf::EvpMd5;
pub(crate) const SHA256: Kdf = Kdf::EvpSha256;
pub(crate) const PBKDF2: Kdf = Kdf::Pbkdf2 { rounds: 10_000 };
pub(crate) const KDFS: [Kdf; 3] = [MD5, SHA256, PBKDF2];
pub(crate) const ENCODINGS: [ContainerEncoding; 3] =
    [ContainerEncoding::Raw, ContainerEncoding::Base64Wrapped, ContainerEncoding::Base64OneLine];
pub(crate) const FORMS: [KeyFileForm; 3] =
    [KeyFileForm::Raw, KeyFileForm::Base64OneLine, KeyFileForm::Base64Wrapped];

/// Random bytes that are the same in every run.
pub(crate) struct Seeded {
    seed: &'static str,
    count: AtomicU64,
}

impl Seeded {
    pub(crate) fn new(seed: &'static str) -> Self {
        Self { seed, count: AtomicU64::new(0) }
    }

    pub(crate) fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes).unwrap();
        bytes
    }

    pub(crate) fn below(&self, limit: u64) -> u64 {
        u64::from_le_bytes(self.bytes()) % limit
    }
}

impl Random for Seeded {
    fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        for part in bytes.chunks_mut(32) {
            let count = self.count.fetch_add(1, Ordering::Relaxed).to_le_bytes();
            let digest = Sha256::new().chain_update(self.seed).chain_update(count).finalize();
            part.copy_from_slice(&digest[..part.len()]);
        }
        Ok(())
    }
}

/// How the script echoed the password to `openssl enc` and to `openssl rsautl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Echo {
    /// Without quotation marks both times.
    Joined,
    /// With quotation marks both times.
    Newlines,
    /// Without for enc, with for rsautl.
    Mixed,
}

pub(crate) const ECHOES: [Echo; 3] = [Echo::Joined, Echo::Newlines, Echo::Mixed];

impl Echo {
    pub(crate) fn reading(self) -> Option<PasswordReading> {
        match self {
            Self::Joined => None,
            Self::Newlines => Some(PasswordReading::FirstLine),
            Self::Mixed => Some(PasswordReading::Joined),
        }
    }
}

/// A pair as it lies in a bucket, and what is in it.
pub(crate) struct Pair {
    pub(crate) container: Vec<u8>,
    pub(crate) key_file: Vec<u8>,
    pub(crate) plaintext: Vec<u8>,
}

/// Makes a pair as the recipe's script does, with a password of `openssl rand -base64 180`.
pub(crate) fn make_pair(random: &Seeded, identity: &PrivateKey, kdf: Kdf, echo: Echo, len: usize) -> Pair {
    let text = STANDARD.encode(random.bytes::<180>());
    let lines: Vec<&str> = (0..4).map(|line| &text[line * 64..(line * 64 + 64).min(240)]).collect();
    let (joined, newlines) = (lines.join(" "), lines.join("\n"));
    let (password, echoed) = match echo {
        Echo::Joined => (joined.as_str(), &joined),
        Echo::Newlines => (lines[0], &newlines),
        Echo::Mixed => (joined.as_str(), &newlines),
    };
    let salt = random.bytes();
    let plaintext: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
    let encoding = ENCODINGS[random.below(3) as usize];
    let container = container(&plaintext, &derive(kdf, password.as_bytes(), &salt), &salt, encoding);
    let block = PasswordBlock::from_bytes(format!("{echoed}\n").into());
    let form = FORMS[random.below(3) as usize];
    let key_file = KeyFile::wrap(&block, identity.public(), form).unwrap().encode();
    Pair { container, key_file, plaintext }
}

pub(crate) fn container(
    plaintext: &[u8],
    key: &RecipeKey,
    salt: &[u8; 8],
    encoding: ContainerEncoding,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert_eq!(encrypt(plaintext, key, salt, encoding, &mut bytes).unwrap(), plaintext.len() as u64);
    bytes
}

/// What the private key and the two ends of the container say about a pair.
pub(crate) fn look(pair: &Pair, identity: &PrivateKey) -> (Vec<PasswordBlock>, Sample) {
    let blocks = detect_key_file(&pair.key_file).expect("a key file").open([identity]).unwrap();
    (blocks, Sample::read(&mut Cursor::new(&pair.container)).unwrap())
}

pub(crate) fn decide(settler: &Settler, pair: &Pair, identity: &PrivateKey) -> Result<Decision> {
    let (blocks, sample) = look(pair, identity);
    settler.decide(&blocks, &sample)
}

pub(crate) fn settle<'a>(pairs: impl IntoIterator<Item = &'a Pair>, identity: &PrivateKey) -> Settler {
    let mut settler = Settler::default();
    for pair in pairs {
        let (blocks, sample) = look(pair, identity);
        settler.add(&blocks, &sample);
    }
    settler
}

pub(crate) fn decrypt(container: &[u8], key: &RecipeKey) -> Result<Vec<u8>> {
    let mut plaintext = Vec::new();
    let len = Reader::new(container)?.decrypt(key, &mut plaintext)?;
    assert_eq!(len, plaintext.len() as u64);
    Ok(plaintext)
}

/// Gives its bytes a few at a time.
pub(crate) struct Trickle<'a>(pub(crate) &'a [u8], pub(crate) usize);

impl Read for Trickle<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = self.1.min(out.len()).min(self.0.len());
        let (now, later) = self.0.split_at(len);
        out[..len].copy_from_slice(now);
        self.0 = later;
        Ok(len)
    }
}
