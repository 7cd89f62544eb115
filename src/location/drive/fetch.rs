//! Small reads that the drivers share.

use std::io::Read as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::format::envelope::MAX_BYTES;
use crate::format::header::MAGIC;
use crate::format::{Entry, Envelope, HEADER_LEN, Header};
use crate::location::Location;
use crate::location::cleartext::Cleartext;
use crate::location::customer::{envelopes_of, is_customers};
use crate::name::{containers_of, envelope_name};
use crate::pair::{ContainerVersion, EnvelopeId, EnvelopeVersion, Needs, SETTLED, Serves};
use crate::recipe::{DETECT_LEN, detect_container, detect_key_file};
use crate::store::{
    Body, CustomerKey, DATA_ID_INFO, GetOptions, ListOptions, Listed, Object, Store, VersionId,
};
use crate::{DataId, Error, ErrorKind, Result};

/// The first `len` bytes of a version, or of the current one.
pub(super) async fn start(
    store: &dyn Store,
    key: &str,
    version: Option<&VersionId>,
    len: usize,
) -> Result<(Object, Bytes)> {
    start_with(store, key, version, len, None).await
}

/// The same of one that the service keeps under this key.
pub(super) async fn start_with(
    store: &dyn Store,
    key: &str,
    version: Option<&VersionId>,
    len: usize,
    customer_key: Option<CustomerKey>,
) -> Result<(Object, Bytes)> {
    let options = GetOptions { version: version.cloned(), range: Some(0..len as u64), customer_key };
    let download = store.get(key, &options).await?;
    let bytes = match download.body {
        Body::File(file, left) => {
            let mut bytes = Vec::with_capacity(len.min(usize::try_from(left).unwrap_or(len)));
            file.take(left.min(len as u64))
                .read_to_end(&mut bytes)
                .map_err(|source| Error::io("cannot read", source).about(store.show(key)))?;
            bytes.into()
        }
        Body::Stream(mut stream) => {
            let mut bytes = BytesMut::new();
            while let Some(more) = stream.try_next().await? {
                bytes.extend_from_slice(&more[..more.len().min(len - bytes.len())]);
                if bytes.len() == len {
                    break;
                }
            }
            bytes.freeze()
        }
    };
    if (bytes.len() as u64) < download.object.size.min(len as u64) {
        return Err(Error::new(ErrorKind::Transient, "ended early while it was read").about(store.show(key)));
    }
    Ok((download.object, bytes))
}

/// As much of a container as tells whether it is one.
pub(super) const TELLING: usize = DETECT_LEN;

/// Whether an object that begins so is a container, of ours or of the OpenSSL recipe.
pub(super) fn is_container(start: &[u8]) -> bool {
    start.starts_with(MAGIC) || detect_container(start).is_some()
}

/// Whether what the service keeps under a key of its own (SSE-C) was stored as a container, as far as can be told without
/// that key: it says so beside the bytes, or has an envelope that says so. Others may have been left there by puts that
/// were refused because of it.
pub(super) async fn is_locked_container(store: &dyn Store, key: &str) -> Result<bool> {
    let stat = store.stat(key, None).await;
    if stat.is_ok_and(|object| object.info.is_some_and(|info| info.contains_key(DATA_ID_INFO))) {
        return Ok(true);
    }
    let mut listed = envelopes_of(store, key, true).take(MOST_READ);
    while let Some(object) = listed.next().await.transpose()? {
        if object.marker {
            continue;
        }
        let text = match start(store, &object.key, Some(&object.version), MAX_BYTES + 1).await {
            Ok((_, text)) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let named =
            |entry: &Entry| envelope_name(key, Some(&entry.data_id)).is_some_and(|name| name == object.key);
        let says = |envelope: Envelope| envelope.entries().any(|entry| is_customers(entry) && named(entry));
        if Envelope::parse(&text).is_ok_and(says) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The most envelopes that are read for one container: anybody can put more there.
const MOST_READ: usize = 64;

/// The versions of exactly this key, newest first, delete markers too.
pub(super) async fn versions(store: &dyn Store, key: &str) -> Result<Vec<Object>> {
    if !store.capabilities().await?.versions {
        return match store.stat(key, None).await {
            Ok(object) => Ok(vec![object]),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(vec![]),
            Err(error) => Err(error),
        };
    }
    let mut found = Vec::new();
    let options = ListOptions { prefix: key.into(), versions: true, ..ListOptions::default() };
    let mut listed = store.list(options);
    while let Some(line) = listed.try_next().await? {
        match line {
            Listed::Object(object) if object.key == key => found.push(object),
            // The key itself is the first of all that begin with it.
            _ => break,
        }
    }
    Ok(found)
}

/// Deletes one version. Where the store would delete whatever has the name by then, it looks once more right before.
pub(super) async fn delete(store: &dyn Store, key: &str, version: &VersionId) -> Result<()> {
    if !store.capabilities().await?.versions && !store.conditions().await?.delete_if {
        match store.stat(key, None).await {
            Ok(object) if object.version == *version => {}
            Ok(_) => {
                return Err(
                    Error::conflict("changed in the meantime; it was not deleted").about(store.show(key))
                );
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    store.delete(key, version).await
}

/// All versions of the containers that an envelope of this name may belong to.
pub(super) async fn containers_beside(location: &Location, envelope: &str) -> Result<Vec<Object>> {
    let store = location.store();
    let mut containers = Vec::new();
    for name in containers_of(envelope) {
        containers.extend(versions(store, &location.key(&name)).await?);
    }
    Ok(containers)
}

/// What tells the keys of containers: headers, and what opened those that have none.
#[derive(Clone, Debug, Default)]
pub(super) struct Heads {
    pub(super) headers: Vec<Header>,
    pub(super) cleartext: Vec<Arc<Cleartext>>,
    /// Whether one could not be read: it may be the one that an entry is for.
    pub(super) unread: bool,
}

/// The heads of these versions of containers, as far as they can be read.
pub(super) async fn heads_of(location: &Location, containers: &[Object]) -> Heads {
    let mut heads = Heads::default();
    for object in containers.iter().filter(|object| !object.marker) {
        let read = start(location.store(), &object.key, Some(&object.version), HEADER_LEN).await;
        let (read, start) = match read {
            Ok(read) => read,
            Err(error) => {
                heads.unread |= error.kind() != ErrorKind::NotFound;
                continue;
            }
        };
        match location.cleartext(&read) {
            Some(cleartext) => heads.cleartext.push(cleartext),
            None => {
                let header = start.first_chunk::<HEADER_LEN>().and_then(|header| Header::parse(header).ok());
                heads.unread |= header.is_none();
                heads.headers.extend(header);
            }
        }
    }
    heads
}

/// All versions of a container, newest first, with the key that each needs. What cannot be read is unknown.
pub(super) async fn containers(
    location: &Location,
    stored: &str,
    now: SystemTime,
) -> Result<Vec<ContainerVersion>> {
    let mut found = Vec::new();
    for object in versions(location.store(), &location.key(stored)).await? {
        let (needs, foreign) = match object.marker {
            true => (Needs::Nothing, false),
            false => needs(location, &object).await,
        };
        let settled = is_older(&object, SETTLED, now);
        found.push(ContainerVersion { version: object.version, needs, settled, foreign });
    }
    Ok(found)
}

/// Which key a container needs, and whether it is none of ours.
async fn needs(location: &Location, object: &Object) -> (Needs, bool) {
    let read = start(location.store(), &object.key, Some(&object.version), TELLING).await;
    let Ok((read, start)) = read else { return (Needs::Unknown, false) };
    if let Some(cleartext) = location.cleartext(&read) {
        return (Needs::Key(cleartext.data_id), false);
    }
    let header = start.first_chunk::<HEADER_LEN>().and_then(|header| Header::parse(header).ok());
    match header {
        Some(header) => (Needs::Key(header.data_id()), false),
        None => (Needs::Unknown, !is_container(&start)),
    }
}

/// All versions that have the name of an envelope, newest first, with whom each serves and whether it is older than `age`.
pub(super) async fn envelopes(
    location: &Location,
    stored: &str,
    age: Duration,
    now: SystemTime,
) -> Result<Vec<(Object, EnvelopeVersion)>> {
    let store = location.store();
    let mut found = Vec::new();
    for object in versions(store, &location.key(stored)).await? {
        if !object.marker {
            let read = start(store, &object.key, Some(&object.version), MAX_BYTES + 1).await;
            let serves = read.map_or(Serves::Unknown, |(_, bytes)| serves(&bytes));
            let id = EnvelopeId { stored: stored.into(), version: object.version.clone() };
            let old = is_older(&object, age, now);
            found.push((object, EnvelopeVersion { id, serves, old }));
        }
    }
    Ok(found)
}

/// Whom the bytes of an envelope serve.
fn serves(bytes: &[u8]) -> Serves {
    let Ok(envelope) = Envelope::parse(bytes) else {
        return if detect_key_file(bytes).is_some() { Serves::Recipe } else { Serves::Unknown };
    };
    let mut ids: Vec<DataId> = envelope.entries().map(|entry| entry.data_id).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() { Serves::Unknown } else { Serves::Data(ids) }
}

/// Whether it was written longer than `age` before `now`. What was written later than that is not.
pub(super) fn is_older(object: &Object, age: Duration, now: SystemTime) -> bool {
    now.duration_since(object.modified).is_ok_and(|have| have > age)
}
