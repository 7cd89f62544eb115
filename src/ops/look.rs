//! What stands under one name of a location, looked at as far as no key is needed: starts of containers, envelopes, and
//! which of them belong together.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;

use crate::format::{Envelope, Header, envelope, header, section};
use crate::location::Location;
use crate::location::argument::Target;
use crate::location::cleartext::Cleartext;
use crate::location::listing::{self, Entry, Listing, PairEntry, Scope};
use crate::location::range::Range;
use crate::location::{read, vault};
use crate::name::{ObjectName, containers_of, envelope_name};
use crate::recipe::{self, ContainerEncoding, DETECT_LEN, KeyFile};
use crate::store::{DATA_ID_INFO, GetOptions, Object};
use crate::vault::Info;
use crate::{DataId, Error, ErrorKind, KeyId, Result};

/// What a container is by its first bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Front {
    /// One of ours.
    Ours(Header),
    /// A file of the OpenSSL recipe, written down so.
    Recipe(ContainerEncoding),
    /// The service alone encrypts it, and a key at hand opens it.
    Cleartext(Arc<Cleartext>),
    /// The service keeps it under a key that is not at hand (SSE-C). The data id is what is said beside it.
    Locked(Option<DataId>),
}

/// What an envelope is by its text.
#[derive(Clone, Debug)]
pub(crate) enum Text {
    /// One of ours.
    Ours(Envelope),
    /// A key file of the OpenSSL recipe.
    Recipe(KeyFile),
    /// No envelope at all: a container that is called like one, as scripts make them of files called `x.key`.
    Container,
}

/// Reads the start of one version of a container.
///
/// # Errors
/// `Integrity` when it is none, is not as long as any container can be, or the store holds another data id beside it;
/// what reading fails with.
pub(crate) async fn front(location: &Location, object: &Object) -> Result<Front> {
    let about = |error: Error| error.about(location.show_key(&object.key));
    let bytes = match start(location, object, DETECT_LEN as u64).await {
        Err(error) if error.kind() == ErrorKind::Auth => {
            return Ok(Front::Locked(hint_of(location, object).await));
        }
        read => read?,
    };
    if let Some(cleartext) = location.cleartext(object) {
        cleartext.check_size(object.size).map_err(about)?;
        return Ok(Front::Cleartext(cleartext));
    }
    if let Some(encoding) = recipe::detect_container(&bytes) {
        return Ok(Front::Recipe(encoding));
    }
    let header = crate::open::read_header(&mut &bytes[..]).map_err(about)?;
    section::plain_len(object.size, &header).map_err(about)?;
    let hint = object.info.as_ref().and_then(|info| info.get(DATA_ID_INFO));
    match hint.filter(|hint| **hint != header.data_id().to_string()) {
        Some(hint) => Err(about(
            Error::integrity(format!(
                "the store says that its data id is {hint}, but its header says {}",
                header.data_id()
            ))
            .hint("it was changed or replaced without sidekey; its envelope decides whether it opens"),
        )),
        None => Ok(Front::Ours(header)),
    }
}

/// The info record of one version of a container, without a key: its start and the one envelope of its data id are read, if
/// that is listed. Nothing where it is none of ours or has no such envelope.
///
/// # Errors
/// Those of [`front`] and [`vault::check`]; what reading fails with.
#[cfg_attr(not(feature = "sync"), allow(dead_code, reason = "for sync"))]
pub(crate) async fn info(
    location: &Location,
    container: &Object,
    is_listed: impl Fn(&DataId) -> bool,
) -> Result<Option<(DataId, Info)>> {
    let Front::Ours(header) = front(location, container).await? else { return Ok(None) };
    let data_id = header.data_id();
    let envelope = envelope_name(&container.key, Some(&data_id)).filter(|_| is_listed(&data_id));
    let Some(envelope) = envelope else { return Ok(None) };
    let (_, bytes) = read::small(location.store(), &envelope, None).await?;
    let envelope = Envelope::parse(&bytes).map_err(|error| error.about(location.show_key(&envelope)))?;
    let info = vault::check(location, &container.key, &header, [&envelope])?;
    Ok(info.map(|info| (data_id, info)))
}

/// The data id that is said beside a container: a hint.
async fn hint_of(location: &Location, object: &Object) -> Option<DataId> {
    let info = match &object.info {
        Some(info) => info.clone(),
        None => location.store().stat(&object.key, Some(&object.version)).await.ok()?.info?,
    };
    info.get(DATA_ID_INFO)?.parse().ok()
}

/// Reads one version of an object that is called like an envelope.
///
/// # Errors
/// `Integrity` when it is none; what reading fails with.
pub(crate) async fn text(location: &Location, object: &Object) -> Result<Text> {
    let bytes = start(location, object, envelope::MAX_BYTES as u64 + 1).await?;
    if recipe::detect_container(&bytes).is_some() || bytes.starts_with(header::MAGIC) {
        return Ok(Text::Container);
    }
    match recipe::detect_key_file(&bytes) {
        Some(key_file) => Ok(Text::Recipe(key_file)),
        None => Envelope::parse(&bytes)
            .map(Text::Ours)
            .map_err(|error| error.about(location.show_key(&object.key))),
    }
}

/// The first bytes of one version of an object.
pub(crate) async fn start(location: &Location, object: &Object, len: u64) -> Result<Bytes> {
    let options =
        GetOptions { version: Some(object.version.clone()), range: Some(0..len), ..GetOptions::default() };
    let read = async {
        let download = location.store().get(&object.key, &options).await?;
        read::collect_at_most(download.body, len).await
    };
    read.await.map_err(|error| error.about(location.show_key(&object.key)))
}

/// Whom the entries for this data id say they are for, each once. Labels are not authenticated.
pub(crate) fn recipients(envelope: &Envelope, data_id: &DataId) -> Vec<KeyId> {
    let mut recipients: Vec<KeyId> = vec![];
    for entry in envelope.entries().filter(|entry| entry.data_id == *data_id) {
        if !recipients.contains(&entry.recipient) {
            recipients.push(entry.recipient);
        }
    }
    recipients
}

/// Whom the envelopes of a container say they are for, all their versions where there are some; nothing when there is no
/// envelope. Unless one is in the way, faults of single envelopes are left to those who look at these.
///
/// # Errors
/// What reading fails with when it leaves no envelope.
pub(crate) async fn recipients_of(
    location: &Location,
    container: &Object,
    data_id: &DataId,
) -> Result<Option<Vec<KeyId>>> {
    let mut found = read::envelopes(location.store(), &container.key, data_id).await?;
    let has_entry = |envelope: &Envelope| envelope.entries().any(|entry| entry.data_id == *data_id);
    let ours: Vec<&Envelope> =
        found.found.iter().map(|found| &found.envelope).filter(|envelope| has_entry(envelope)).collect();
    if ours.is_empty() {
        let unread = found.faults.iter().position(|fault| fault.kind() != ErrorKind::Integrity);
        return unread.map_or(Ok(None), |at| Err(found.faults.swap_remove(at)));
    }
    let mut all: Vec<KeyId> = vec![];
    for recipient in ours.into_iter().flat_map(|envelope| recipients(envelope, data_id)) {
        if !all.contains(&recipient) {
            all.push(recipient);
        }
    }
    Ok(Some(all))
}

/// What a pair is now; nothing when nothing is left of it.
///
/// # Errors
/// What listing fails with.
pub(crate) async fn again(
    location: &Location,
    name: &ObjectName,
    versions: bool,
) -> Result<Option<PairEntry>> {
    let mut listed = listing::list(location, &Scope::pair(location, name).with_versions(versions));
    let mut found = None;
    while let Some(entry) = listed.next().await {
        if let Entry::Pair(pair) = entry? {
            found = Some(pair);
        }
    }
    Ok(found)
}

/// The names whose pair a target may mean, the likelier first: as a file is called, and as its container or envelope is,
/// which is what the shell completes.
pub(crate) fn names(target: &Target) -> Vec<ObjectName> {
    let Some(name) = target.file() else { return vec![] };
    let stored = target.path.split_last().and_then(|(last, folders)| {
        let folders = target.location.stored_folder(folders);
        Some(folders + std::str::from_utf8(last).ok()?)
    });
    let stored = stored.unwrap_or_default();
    let containers = [stored.clone()].into_iter().chain(containers_of(&stored));
    let parsed = containers.filter_map(|container| target.location.parse(&container));
    [name].into_iter().chain(parsed).collect()
}

/// The listings that make up a target: the object of that name and what is below the folder of that name.
pub(crate) fn everything<'a>(target: &'a Target, versions: bool) -> impl Iterator<Item = Listing<'a>> {
    let pairs = names(target).into_iter().map(|name| Scope::pair(&target.location, &name));
    let scopes = pairs.chain([Scope::below(&target.location, &target.path)]);
    scopes.map(move |scope| listing::list(&target.location, &scope.with_versions(versions)))
}

/// The listing of the part of a target whose stored names are in a range; all of the target where that is everything.
pub(crate) fn share<'a>(target: &'a Target, versions: bool, range: &Range) -> Vec<Listing<'a>> {
    if range.is_all() {
        return everything(target, versions).collect();
    }
    let scope = Scope::below(&target.location, &target.path).with_versions(versions).within(range);
    vec![listing::list(&target.location, &scope)]
}

/// The error about a target that is not there.
pub(crate) fn nothing_at(target: &Target) -> Error {
    Error::not_found("there is nothing under that name")
        .about(target.show())
        .hint("sidekey ls shows what is there")
}

/// The plain path of a name below a target; empty for the target itself.
pub(crate) fn below<'n>(target: &Target, name: &'n ObjectName) -> &'n [Vec<u8>] {
    name.segments().get(target.path.len()..).unwrap_or_default()
}
