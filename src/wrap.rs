//! A container's key and its envelope together: wrap the key for recipients, find it again with a private key.

use std::time::SystemTime;

use crate::crypto::rsa::{PrivateKey, PublicKey};
use crate::format::envelope::Block;
use crate::format::{Entry, Envelope, Header, Wrap};
use crate::open::commits_to;
use crate::secret::FileKey;
use crate::{DataId, Error, Result, rfc3339};

/// An envelope with one entry for each recipient, as RFC 3339 `created` at this time.
///
/// # Errors
/// `Usage` when there is no recipient.
pub fn wrap(
    file_key: &FileKey,
    data_id: &DataId,
    recipients: &[PublicKey],
    created: SystemTime,
) -> Result<Envelope> {
    wrap_with(file_key, data_id, recipients, created, &[])
}

/// The same with more headers in every entry.
///
/// # Errors
/// Those of [`wrap`].
pub fn wrap_with(
    file_key: &FileKey,
    data_id: &DataId,
    recipients: &[PublicKey],
    created: SystemTime,
    headers: &[(String, String)],
) -> Result<Envelope> {
    if recipients.is_empty() {
        return Err(
            Error::usage("no recipient: nobody could open this").hint("name a public key with --recipient")
        );
    }
    let blocks: Result<_> = recipients
        .iter()
        .map(|recipient| {
            let entry = new_entry(recipient, file_key.expose(), data_id, Wrap::RsaOaepSha256, created)?;
            Ok(Entry { extra: headers.to_vec(), ..entry }.into())
        })
        .collect();
    Ok(Envelope { blocks: blocks? })
}

/// One entry: `secret` for `recipient`.
pub fn new_entry(
    recipient: &PublicKey,
    secret: &[u8],
    data_id: &DataId,
    wrap: Wrap,
    created: SystemTime,
) -> Result<Entry> {
    Ok(Entry {
        data_id: *data_id,
        recipient: recipient.id(),
        wrap,
        created: Some(rfc3339(created)),
        extra: vec![],
        body: recipient.wrap(secret, data_id)?,
    })
}

/// One entry for a container of the OpenSSL recipe: `payload` is its AES key and IV, `kdf` what was settled.
pub fn adopted_entry(
    recipient: &PublicKey,
    payload: &[u8],
    data_id: &DataId,
    kdf: &str,
    created: SystemTime,
) -> Result<Block> {
    Ok(Entry {
        extra: vec![("Recipe-Kdf".into(), kdf.into())],
        ..new_entry(recipient, payload, data_id, Wrap::RecipeKey, created)?
    }
    .into())
}

/// The file key of one entry, when `identity` opens it.
pub fn open_entry(entry: &Entry, identity: &PrivateKey) -> Option<FileKey> {
    if entry.wrap != Wrap::RsaOaepSha256 {
        return None;
    }
    let secret = identity.unwrap(&entry.body, &entry.data_id)?;
    Some(FileKey::from_bytes(secret.expose().try_into().ok()?))
}

/// Finds the file key that `header` commits to among all entries of `envelopes`. Entries are tried until one matches,
/// those labelled for a key at hand first: a planted entry must not hide the real one.
///
/// # Errors
/// `Integrity` when no entry is for this container, or one for a key at hand is damaged or carries another key;
/// `Auth` when the entries are for other keys.
pub fn unwrap(header: &Header, envelopes: &[Envelope], identities: &[PrivateKey]) -> Result<FileKey> {
    let data_id = header.data_id();
    let mut entries: Vec<&Entry> =
        envelopes.iter().flat_map(Envelope::entries).filter(|entry| entry.data_id == data_id).collect();
    let ours = |entry: &Entry| identities.iter().any(|identity| identity.id() == entry.recipient);
    entries.sort_by_key(|entry| !ours(entry));
    let mut opened = false;
    for entry in &entries {
        for identity in identities {
            if let Some(file_key) = open_entry(entry, identity) {
                if commits_to(header, &file_key) {
                    return Ok(file_key);
                }
                opened = true;
            }
        }
    }
    Err(why_not(&entries, envelopes, identities, opened, &data_id))
}

/// Which of the ways in which no entry opened it is.
fn why_not(
    entries: &[&Entry],
    envelopes: &[Envelope],
    identities: &[PrivateKey],
    opened: bool,
    data_id: &DataId,
) -> Error {
    if opened {
        return Error::integrity("the header does not commit to the key in the envelope").hint(
            "the header is damaged, or the envelope was made for another container under the same data id",
        );
    }
    if let Some(entry) = entries.iter().find(|entry| identities.iter().any(|key| key.id() == entry.recipient))
    {
        return Error::integrity(format!(
            "the envelope's entry for key {} is damaged",
            entry.recipient.short()
        ))
        .hint("the private key is right; restore an older version of the .key.enc file");
    }
    let other = envelopes.iter().flat_map(Envelope::entries).next();
    match (entries, other) {
        ([], Some(other)) => Error::integrity(format!(
            "the envelope belongs to data id {}, the container is {data_id}",
            other.data_id
        ))
        .hint("find the .key.enc file that was made with this container"),
        ([], None) => Error::integrity("the envelope has no entry for this container"),
        _ => {
            let list = |ids: Vec<String>| ids.join(", ");
            let wrapped = list(entries.iter().map(|entry| entry.recipient.short()).collect());
            let given = list(identities.iter().map(|identity| identity.id().short()).collect());
            Error::auth(format!("wrapped for key {wrapped}, but the keys given are {given}"))
                .hint("give the private key of one of those recipients with --identity")
        }
    }
}
