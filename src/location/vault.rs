//! What of a vault stands in its location: the settings, the master envelopes, the records of long names, and the info
//! record of each object.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::{Location, RESERVED, read};
use crate::format::envelope::MAX_BYTES;
use crate::format::{Envelope, Header};
use crate::name::ObjectName;
use crate::store::{Download, GetOptions, ListOptions, Listed, Object, OnlyIf, PutOptions, VersionId};
use crate::vault::info::INFO_INFO;
use crate::vault::names::{LongName, is_long};
use crate::vault::{Info, settings};
use crate::{DataId, Error, ErrorKind, Result};

/// The most bytes of the record of a long name.
pub(super) const MOST_NAME: u64 = 1024;
/// From so many unknown long names on all of them are read at a time.
const FEW: usize = 8;
/// How many of them are read at a time.
const AT_ONCE: usize = 32;

/// The stored name of the settings of a vault.
pub fn settings_name() -> String {
    format!("{RESERVED}/vault.json")
}

/// What the stored names of the envelopes of master keys begin with.
pub const MASTERS: &str = ".sidekey/master.";

/// Whether a stored name is that of the envelope of a master key of a vault below the location. It belongs to that vault,
/// has no container, and is neither moved nor deleted from here.
pub(crate) fn is_master_below(stored: &str) -> bool {
    let Some((folder, rest)) = stored.rsplit_once(MASTERS) else { return false };
    let generation = rest.strip_suffix(".key.enc").unwrap_or_default();
    folder.ends_with('/') && generation.parse::<u8>().is_ok()
}

/// The stored name of the envelope of the master key of this generation.
pub fn master_name(generation: u8) -> String {
    format!("{MASTERS}{generation}.key.enc")
}

/// The stored name of the private key that is kept in the vault, encrypted with a passphrase.
pub fn escrow_name() -> String {
    format!("{RESERVED}/escrow.pem")
}

/// The stored name of the record of a long name.
pub(super) fn long_name(segment: &str) -> String {
    format!("{RESERVED}/names/{segment}")
}

/// Where it stands when nothing seemed to need it: readers find it there, writers do not.
pub(super) fn unused_name(segment: &str) -> String {
    format!("{RESERVED}/unused/{segment}")
}

/// The settings that a location has, where it is the root of a vault.
///
/// # Errors
/// What reading fails with.
pub async fn settings(location: &Location) -> Result<Option<Bytes>> {
    own(location, &settings_name(), settings::MAX_BYTES).await
}

/// A small file of sidekey's own, and which version it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Kept {
    /// What it holds.
    pub bytes: Bytes,
    pub(crate) version: VersionId,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("version", &self.version).finish_non_exhaustive()
    }
}

/// A small file of sidekey's own; nothing where there is none.
///
/// # Errors
/// What reading fails with; `Integrity` when it is longer than `most`.
pub async fn own(location: &Location, stored: &str, most: u64) -> Result<Option<Bytes>> {
    Ok(kept(location, stored, most).await?.map(|kept| kept.bytes))
}

/// The same, and which version it is.
///
/// # Errors
/// Those of [`own`].
pub async fn kept(location: &Location, stored: &str, most: u64) -> Result<Option<Kept>> {
    let (store, key) = (location.store(), location.key(stored));
    let options = GetOptions { range: Some(0..most.saturating_add(1)), ..GetOptions::default() };
    let read = async {
        let Download { object, body } = store.get(&key, &options).await?;
        let bytes = read::collect_at_most(body, most.saturating_add(1)).await?;
        Ok::<_, Error>(Kept { bytes, version: object.version })
    };
    match read.await {
        Ok(kept) if kept.bytes.len() as u64 > most => {
            Err(Error::integrity(format!("is longer than the {most} bytes that it can have"))
                .about(store.show(&key)))
        }
        Ok(kept) => Ok(Some(kept)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.about(store.show(&key))),
    }
}

/// The envelope of the master key of this generation.
///
/// # Errors
/// `Integrity` when there is none, or it is no envelope; what reading fails with.
pub async fn master_envelope(location: &Location, generation: u8) -> Result<Envelope> {
    let stored = master_name(generation);
    let shown = location.store().show(&location.key(&stored));
    let bytes = own(location, &stored, MAX_BYTES as u64).await?;
    let bytes = bytes.ok_or_else(|| {
        Error::integrity("there is no envelope of the vault's master key").about(&*shown).hint(
            "look for it among the older versions, or in a copy; an exported configuration holds the key too",
        )
    })?;
    Envelope::parse(&bytes).map_err(|error| error.about(shown))
}

/// Whether the settings that the store has are those of the location's vault.
///
/// # Errors
/// `Integrity` when they are missing or those of another vault; what reading fails with.
pub async fn check_settings(location: &Location) -> Result<()> {
    let Some(vault) = location.vault() else { return Ok(()) };
    let shown = location.store().show(&location.key(&settings_name()));
    let read = match settings(location).await {
        // Who may only write cannot look, and knows the vault from the configuration alone.
        Err(error) if error.kind() == ErrorKind::Permission => return Ok(()),
        read => read?,
    };
    match read {
        Some(bytes) => vault.check_settings(&bytes).map_err(|error| error.about(shown)),
        None => Err(Error::integrity(format!("vault {} is pinned, and there are no settings", vault.id()))
            .about(shown)
            .hint("somebody removed them, or this is another place; nothing was read or written")),
    }
}

/// The long names in a stored name that are not known yet: folder and segment.
pub(crate) fn unknown(location: &Location, stored: &str) -> Vec<(String, String)> {
    let Some(vault) = location.vault() else { return vec![] };
    let unknown = vault.unknown(stored).into_iter();
    unknown.map(|(folder, segment)| (folder.to_owned(), segment.to_owned())).collect()
}

/// What one listing knows of the long names that it met.
#[derive(Debug, Default)]
pub(crate) struct LongNames {
    missing: BTreeSet<String>,
    asked: usize,
}

impl LongNames {
    /// Whether all of these were asked for already, in vain.
    pub(crate) fn are_missing(&self, unknown: &[(String, String)]) -> bool {
        unknown.iter().all(|(_, segment)| self.missing.contains(segment))
    }

    /// Reads these names; if there are many, all there are of the vault.
    pub(crate) async fn learn(
        mut self,
        location: &Location,
        unknown: Vec<(String, String)>,
    ) -> (Self, Vec<Error>) {
        let mut faults = vec![];
        let bulk = if self.asked == FEW { records(location).await } else { vec![] };
        self.asked = self.asked.saturating_add(1);
        stream::iter(bulk.into_iter().map(|segment| async move {
            let record = own(location, &long_name(&segment), MOST_NAME).await;
            if let (Some(vault), Ok(Some(record))) = (location.vault(), record) {
                vault.hold(&segment, record.into());
            }
        }))
        .buffer_unordered(AT_ONCE)
        .for_each(|()| std::future::ready(()))
        .await;
        for (folder, segment) in unknown {
            if !self.missing.contains(&segment)
                && let Err(error) = learn(location, &folder, &segment).await
            {
                faults.push(error);
                self.missing.insert(segment);
            }
        }
        (self, faults)
    }
}

/// The segments of all long names whose records there are; none where they cannot be listed.
async fn records(location: &Location) -> Vec<String> {
    let prefix = location.key(&long_name(""));
    let options = ListOptions { prefix: prefix.clone(), ..ListOptions::default() };
    let listed = location.store().list(options).filter_map(|listed| {
        let segment = match &listed {
            Ok(Listed::Object(object)) => object.key.strip_prefix(&prefix),
            _ => None,
        };
        std::future::ready(segment.filter(|segment| is_long(segment)).map(ToOwned::to_owned))
    });
    listed.collect().await
}

async fn learn(location: &Location, folder: &str, segment: &str) -> Result<()> {
    let Some(vault) = location.vault() else { return Ok(()) };
    let stored = long_name(segment);
    let shown = || location.store().show(&location.key(&stored));
    let record = match vault.held(segment) {
        Some(record) => Some(record.into()),
        None => match own(location, &stored, MOST_NAME).await? {
            None => own(location, &unused_name(segment), MOST_NAME).await?,
            there => there,
        },
    };
    match record {
        Some(record) => vault.learn(folder, segment, &record).map_err(|error| error.about(shown())),
        None => Err(Error::integrity("the record of a long name is missing")
            .about(shown())
            .hint("get and restore still find the object if its name is typed; put of the same file writes the record again")),
    }
}

/// Keeps the long names in the path of what is about to be stored, so that listings can show them.
///
/// # Errors
/// What writing fails with.
pub async fn keep_names(location: &Location, name: &ObjectName) -> Result<()> {
    let Some(vault) = location.vault() else { return Ok(()) };
    for LongName { segment, record } in vault.long_names(name) {
        if vault.is_kept(&segment) {
            continue;
        }
        let (store, key) = (location.store(), location.key(&long_name(&segment)));
        let is_there = match store.conditions().await?.create_new {
            true => false,
            false => match store.stat(&key, None).await {
                Ok(_) => true,
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Permission) => false,
                Err(error) => return Err(error),
            },
        };
        let size = Some(record.len() as u64);
        let options = PutOptions { only_if: OnlyIf::Absent, size, ..PutOptions::default() };
        if !is_there {
            match store.put(&key, record.into(), &options).await {
                Err(error) if error.kind() != ErrorKind::Conflict => {
                    return Err(error.about(store.show(&key)));
                }
                _ => {}
            }
        }
        vault.keep(&segment);
    }
    Ok(())
}

/// What a vault's records say of a container: one of these envelopes must hold a valid one for its name, data id and
/// commitment. Nothing outside of a vault.
///
/// # Errors
/// `Integrity` when none does.
pub fn check<'e>(
    location: &Location,
    container: &str,
    header: &Header,
    envelopes: impl IntoIterator<Item = &'e Envelope>,
) -> Result<Option<Info>> {
    let (Some(vault), Some(stored)) = (location.vault(), location.relative(container)) else {
        return Ok(None);
    };
    let mut why = None;
    for record in envelopes.into_iter().filter_map(Envelope::info) {
        match vault.open_info(stored, &header.data_id(), record) {
            Ok(info) if info.commitment == header.commitment => return Ok(Some(info)),
            Ok(_) => why = Some(Error::integrity("its info record is of a container with another key")),
            Err(error) => why = Some(error),
        }
    }
    let error = why.unwrap_or_else(|| {
        Error::integrity("has no info record of this vault")
            .hint("somebody without the vault's master key put it there; sidekey put writes a record")
    });
    Err(error.about(location.show(stored)))
}

/// The record beside an object as a listing returned it, if it is valid for its name: data id and what it says.
pub fn listed(location: &Location, object: &Object) -> Option<(DataId, Info)> {
    let (vault, stored) = (location.vault()?, location.relative(&object.key)?);
    let info = object.info.as_ref()?;
    let data_id = info.get(crate::store::DATA_ID_INFO)?.parse().ok()?;
    let record = URL_SAFE_NO_PAD.decode(info.get(INFO_INFO)?).ok()?;
    Some((data_id, vault.open_info(stored, &data_id, &record).ok()?))
}

/// A record as it is kept beside an object.
pub(crate) fn record_text(record: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(record)
}
