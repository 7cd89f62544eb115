//! Copies a pair to another name of its location: the bytes stay with the store, the envelope keeps its entries.

use bytes::Bytes;

use super::fetch;
use super::put::{Content, Copied, PutRequest, Stored, put};
use crate::format::envelope::{Block, Content as BlockContent, MAX_BYTES};
use crate::format::{Envelope, HEADER_LEN, Header};
use crate::location::customer::PairEncryption;
use crate::location::{Location, vault};
use crate::name::envelope_name;
use crate::pair::IfExists;
use crate::store::VersionId;
use crate::vault::Vault;
use crate::{DataId, Error, ErrorKind, Result};

/// A pair to copy.
#[derive(Clone, Copy, Debug)]
pub struct CopyRequest<'a> {
    /// The stored name of its container.
    pub from: &'a str,
    /// Which version of it; the current one where there is nothing here.
    pub version: Option<&'a VersionId>,
    /// The stored name that the copy gets.
    pub to: &'a str,
    /// How the service is asked to encrypt both.
    pub encryption: &'a PairEncryption,
    /// What becomes of a container that has the name already.
    pub if_exists: IfExists,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedPair {
    /// As of any pair.
    pub stored: Stored,
    /// The data id, which both have.
    pub data_id: DataId,
    /// The length of the container, in bytes.
    pub size: u64,
}

/// Copies a pair by the rules of [`put`]: the envelope first, the container when that is confirmed. What was copied stays.
///
/// # Errors
/// `NotFound` when there is no such container; `Integrity` when it is none of ours, or has no envelope; `Refused` when the
/// service keeps it under a key of its own (SSE-C), which cannot be copied without opening it; those of [`put`].
pub async fn copy(location: &Location, request: CopyRequest<'_>) -> Result<CopiedPair> {
    let (store, key) = (location.store(), location.key(request.from));
    let about = |error: Error| error.about(location.show(request.from));
    if request.encryption.is_customers() {
        return Err(about(under_a_key()));
    }
    let (object, head) = match fetch::start(store, &key, request.version, HEADER_LEN).await {
        Err(error) if error.kind() == ErrorKind::Auth => return Err(about(under_a_key())),
        read => read.map_err(about)?,
    };
    if location.cleartext(&object).is_some() {
        return Err(about(under_a_key()));
    }
    let header = match head.first_chunk::<HEADER_LEN>().map(Header::parse) {
        Some(header) => header.map_err(about)?,
        None => return Err(about(Error::integrity("is too short for a container"))),
    };
    let data_id = header.data_id();
    if let Some(name) = location.parse(request.to) {
        vault::keep_names(location, &name).await?;
    }
    let envelope = envelope(location, &request, &header).await?;
    let copied = Copied { key, version: object.version, head, size: object.size, source_key: None };
    let put_request = PutRequest {
        stored: request.to,
        data_id,
        envelope,
        content: Content::Copy(copied),
        envelope_encryption: request.encryption.of_envelope(),
        container_encryption: request.encryption.of_envelope(),
        if_exists: request.if_exists,
        memory: None,
    };
    Ok(CopiedPair { stored: put(location, put_request).await?, data_id, size: object.size })
}

/// The text of the envelope of a container: under the name of its own, else beside it. In a vault it gets a record for the new
/// name.
async fn envelope(location: &Location, request: &CopyRequest<'_>, header: &Header) -> Result<Bytes> {
    let (store, container, data_id) = (location.store(), request.from, &header.data_id());
    for name in [envelope_name(container, Some(data_id)), envelope_name(container, None)] {
        let Some(name) = name else { continue };
        match fetch::start(store, &location.key(&name), None, MAX_BYTES + 1).await {
            Ok((_, bytes)) => {
                let serves = |envelope: &Envelope| envelope.entries().any(|entry| entry.data_id == *data_id);
                if let Some(envelope) = Envelope::parse(&bytes).ok().filter(serves) {
                    return match location.vault() {
                        None => Ok(bytes),
                        Some(vault) => renamed(location, vault, request, header, envelope),
                    };
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::integrity("has no envelope, so nothing opens it; it was not copied")
        .about(location.show(container))
        .hint("sidekey verify shows what is missing"))
}

/// The envelope with a record of the vault for the new name, made of the valid one for the old name.
fn renamed(
    location: &Location,
    vault: &Vault,
    request: &CopyRequest<'_>,
    header: &Header,
    mut envelope: Envelope,
) -> Result<Bytes> {
    let key = location.key(request.from);
    let Some(mut info) = vault::check(location, &key, header, [&envelope])? else {
        return Err(Error::integrity("has no info record of this vault").about(location.show(request.from)));
    };
    let long = vault.ends_long(request.to).then(|| vault.parse(request.to)).flatten();
    info.name = long.filter(|name| !name.is_folder()).and_then(|name| name.segments().last().cloned());
    let record = vault.seal_info(request.to, &header.data_id(), &info);
    envelope.blocks.retain(|block| !matches!(block.content, BlockContent::Info(_)));
    envelope.blocks.push(Block::info(record));
    Ok(envelope.to_text()?.into())
}

fn under_a_key() -> Error {
    Error::new(
        ErrorKind::Refused,
        "is kept by the service under a key of its own (SSE-C), and cannot be copied by it",
    )
    .hint("get it, and put it under the new name")
}
