//! A writer of containers that can also make what no sound writer would. It lays sections out by itself and takes
//! only the section cryptography from the library.

use sha2::{Digest as _, Sha256};
use sidekey::DataId;
use sidekey::crypto::derive::Derivation;
use sidekey::crypto::sections::{SectionSealer, Slot};
use sidekey::format::section::Kind;
use sidekey::secret::FileKey;

/// The section size of most vectors.
pub(crate) const S: usize = 4096;

/// Plaintext of this length.
pub(crate) fn text(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251) as u8).collect()
}

/// What a sound writer is given.
#[derive(Clone)]
pub(crate) struct Shape {
    pub(crate) log2: u8,
    pub(crate) metadata: Option<Vec<u8>>,
    pub(crate) digest: bool,
    pub(crate) plain: Vec<u8>,
}

impl Shape {
    /// Plaintext of `len` bytes in small sections, no metadata, no digest.
    pub(crate) fn of(len: usize) -> Self {
        Self { log2: 12, metadata: None, digest: false, plain: text(len) }
    }

    pub(crate) fn log2(self, log2: u8) -> Self {
        Self { log2, ..self }
    }

    pub(crate) fn metadata(self, json: impl Into<Vec<u8>>) -> Self {
        Self { metadata: Some(json.into()), ..self }
    }

    pub(crate) fn digest(self) -> Self {
        Self { digest: true, ..self }
    }

    /// Lays the sections out, in the clear.
    pub(crate) fn draft(&self, name: &str) -> Draft {
        let mut sections = Vec::new();
        let metadata = self.metadata.clone().map(|mut json| {
            json.resize(json.len().next_multiple_of(256), b' ');
            json
        });
        let metadata_len = metadata.as_ref().map_or(0, |json| json.len() as u32 + 48);
        sections.extend(metadata.map(|json| (Kind::Metadata, json)));
        sections.extend(self.plain.chunks(1 << self.log2).map(|piece| (Kind::Data, piece.to_vec())));
        let digest: Option<[u8; 32]> = self.digest.then(|| Sha256::digest(&self.plain).into());
        sections.push((
            Kind::End,
            end(self.plain.len() as u64, u8::from(self.digest), digest.unwrap_or_default()),
        ));

        let mut head = *b"SIDEKEY\0\x01\x01\0\0\0\0\0\0";
        head[10] = self.log2;
        head[12..].copy_from_slice(&metadata_len.to_le_bytes());
        Draft {
            name: name.into(),
            head,
            data_id: data_id(name),
            file_key: hash("file key", name),
            sections: (0..)
                .zip(sections)
                .map(|(index, (kind, plain))| Plain { index, kind, padded: pkcs7(plain) })
                .collect(),
        }
    }
}

/// A container before it is encrypted.
pub(crate) struct Draft {
    name: String,
    /// Magic to metadata length.
    pub(crate) head: [u8; 16],
    pub(crate) data_id: DataId,
    pub(crate) file_key: [u8; 32],
    pub(crate) sections: Vec<Plain>,
}

/// A section before it is encrypted.
pub(crate) struct Plain {
    pub(crate) index: u64,
    pub(crate) kind: Kind,
    /// With its padding.
    pub(crate) padded: Vec<u8>,
}

impl Draft {
    /// Encrypts and tags whatever there is.
    pub(crate) fn seal(&self) -> Parts {
        let mut salt = [0; 32];
        salt[..16].copy_from_slice(&self.head);
        salt[16..].copy_from_slice(&self.data_id.0);
        let derivation = Derivation::new(&FileKey::from_bytes(&self.file_key), &salt);
        let sealer = SectionSealer::new(&derivation);
        let sections = self.sections.iter().enumerate().map(|(at, plain)| {
            let iv = hash(&format!("iv {at}"), &self.name);
            let mut bytes = [&iv[..16], &plain.padded, &[0; 16]].concat();
            sealer.seal(&mut [Slot { index: plain.index, kind: plain.kind, bytes: &mut bytes }]);
            bytes
        });
        Parts {
            name: self.name.clone(),
            header: [salt, derivation.commitment()].concat(),
            sections: sections.collect(),
        }
    }
}

/// A container in its parts.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) name: String,
    pub(crate) header: Vec<u8>,
    pub(crate) sections: Vec<Vec<u8>>,
}

impl Parts {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        [self.header.clone(), self.sections.concat()].concat()
    }
}

/// Bytes that follow from a name.
pub(crate) fn hash(what: &str, name: &str) -> [u8; 32] {
    Sha256::new()
        .chain_update("sidekey vector, ")
        .chain_update(what)
        .chain_update(": ")
        .chain_update(name)
        .finalize()
        .into()
}

/// Hex digits as raw bytes: an independent implementation of OAEP takes its label as text.
pub(crate) fn data_id(name: &str) -> DataId {
    let digits: Vec<u8> =
        hash("data id", name)[..8].iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect();
    DataId(digits.try_into().unwrap())
}

/// The plaintext of an end section.
pub(crate) fn end(total: u64, algorithm: u8, digest: [u8; 32]) -> Vec<u8> {
    [&total.to_le_bytes()[..], &[algorithm, 0, 0, 0, 0, 0, 0, 0], &digest].concat()
}

/// RFC 5652, section 6.3.
pub(crate) fn pkcs7(mut plain: Vec<u8>) -> Vec<u8> {
    let pad = 16 - plain.len() % 16;
    plain.resize(plain.len() + pad, pad as u8);
    plain
}
