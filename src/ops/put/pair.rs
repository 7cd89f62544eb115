//! What a container gets before its first byte is made: nothing of it serves another one.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::PutOptions;
use crate::format::Metadata;
use crate::format::envelope::Block;
use crate::random::Random;
use crate::seal::{SealOptions, sealed_header};
use crate::secret::FileKey;
use crate::store::Encryption;
use crate::vault::Info;
use crate::wrap::wrap_with;
use crate::{DataId, Result};

/// A file key, and what of it is stored.
pub(super) struct NewPair {
    pub(super) file_key: FileKey,
    pub(super) half: FirstHalf,
}

/// What is known of a pair before its container is made.
pub(super) struct FirstHalf {
    pub(super) data_id: DataId,
    pub(super) envelope: Bytes,
    pub(super) envelope_encryption: Option<Encryption>,
    pub(super) container_encryption: Option<Encryption>,
}

/// What the info record of a vault says of the source.
pub(super) struct Described<'a> {
    /// The stored name of the container.
    pub(super) stored: &'a str,
    pub(super) metadata: &'a Metadata,
    pub(super) size: Option<u64>,
    pub(super) digest: Option<[u8; 32]>,
    /// How the container is made: its header is in the record.
    pub(super) seal: &'a SealOptions,
}

impl FirstHalf {
    pub(super) fn new(options: &PutOptions, data_id: DataId, file_key: &FileKey, envelope: Bytes) -> Self {
        Self {
            data_id,
            envelope,
            envelope_encryption: options.encryption.of_envelope(),
            container_encryption: options.encryption.of_container(file_key, &data_id),
        }
    }
}

impl NewPair {
    /// A pair with new randomness.
    pub(super) fn generate(
        options: &PutOptions,
        described: &Described<'_>,
        random: &dyn Random,
    ) -> Result<Self> {
        Self::of(options, described, DataId::generate(random)?, FileKey::generate(random)?)
    }

    /// The pair of this file key.
    pub(super) fn of(
        options: &PutOptions,
        described: &Described<'_>,
        data_id: DataId,
        file_key: FileKey,
    ) -> Result<Self> {
        let headers = options.encryption.headers();
        let mut envelope = wrap_with(&file_key, &data_id, &options.recipients, options.now, &headers)?;
        envelope.blocks.extend(described.record(options, &data_id, &file_key)?.map(Block::info));
        let half = FirstHalf::new(options, data_id, &file_key, envelope.to_text()?.into());
        Ok(Self { file_key, half })
    }
}

impl Described<'_> {
    /// The info record, in a vault.
    fn record(&self, options: &PutOptions, data_id: &DataId, file_key: &FileKey) -> Result<Option<Vec<u8>>> {
        let Some(vault) = options.location.vault() else { return Ok(None) };
        let Self { stored, metadata, mut size, mut digest, seal } = *self;
        if let Some(target) = &metadata.target {
            (size, digest) = (Some(target.len() as u64), Some(Sha256::digest(target).into()));
        }
        let header = sealed_header(file_key, *data_id, Some(metadata), seal)?;
        let long = vault.ends_long(stored).then(|| vault.parse(stored)).flatten();
        let info = Info {
            size,
            mtime: metadata.mtime,
            mode: metadata.mode,
            kind: metadata.file_type,
            digest,
            name: long.filter(|name| !name.is_folder()).and_then(|name| name.segments().last().cloned()),
            commitment: header.commitment,
        };
        Ok(Some(vault.seal_info(stored, data_id, &info)))
    }
}
