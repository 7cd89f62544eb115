//! The records of long names that nothing is called by any more.
//!
//! A record serves whatever has its name in its folder, and a writer that finds it does not write it again; its container
//! may come 28 days later. So no age of the record says that nobody is about to need it, and it goes in two steps: first to a
//! place of its own, where readers still find it and writers do not; from there for good, when it stood there for
//! [`ORPHANED`] and still nothing has the name. Whatever was on its way has come by then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use futures_util::TryStreamExt as _;

use super::{fetch, store_time};
use crate::location::Location;
use crate::location::vault::{MOST_NAME, long_name, own, unused_name};
use crate::pair::ORPHANED;
use crate::store::{ListOptions, Listed, Object, PutOptions};
use crate::vault::names::is_long;
use crate::{Error, Result};

/// A record that nothing needs, and what is next for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnusedName {
    segment: String,
    /// Whether it was set aside before, and goes for good.
    pub for_good: bool,
    /// Its versions.
    objects: Vec<Object>,
}

impl UnusedName {
    /// Where it stands.
    pub fn stored(&self) -> String {
        if self.for_good { unused_name(&self.segment) } else { long_name(&self.segment) }
    }

    /// When it came there, by the store's clock.
    pub fn since(&self) -> SystemTime {
        self.objects.iter().map(|object| object.modified).max().unwrap_or(SystemTime::UNIX_EPOCH)
    }

    fn is_old(&self, now: SystemTime) -> bool {
        self.objects.iter().all(|object| fetch::is_older(object, ORPHANED, now))
    }
}

/// Finds the records that nothing needs. Nothing is changed. Only the root of a vault has any.
///
/// # Errors
/// What listing fails with: what was not listed whole may need any of them.
pub async fn plan_names(location: &Location, now: SystemTime) -> Result<Vec<UnusedName>> {
    if location.vault().is_none() {
        return Ok(vec![]);
    }
    let mut unused = records(location, false).await?;
    unused.extend(records(location, true).await?);
    unused.retain(|record| record.is_old(now));
    if !unused.is_empty() {
        let used = used(location).await?;
        unused.retain(|record| !used.contains(&record.segment));
    }
    Ok(unused)
}

/// Takes them their step further after another look, and tells of each whether that was done.
///
/// # Errors
/// What the store's clock and listing fail with; nothing was done then.
pub async fn clean_names(
    location: &Location,
    planned: Vec<UnusedName>,
    now: SystemTime,
    told: &mut (dyn FnMut(&UnusedName, Result<bool>) + Send),
) -> Result<()> {
    if planned.is_empty() {
        return Ok(());
    }
    let now = store_time(location, now).await?;
    let used = used(location).await?;
    for record in planned {
        let done = match record.is_old(now) && !used.contains(&record.segment) {
            true => step(location, &record).await.map(|()| true),
            false => Ok(false),
        };
        told(&record, done);
    }
    Ok(())
}

async fn step(location: &Location, record: &UnusedName) -> Result<()> {
    let (store, stored) = (location.store(), record.stored());
    if !record.for_good {
        set_aside(location, &record.segment).await?;
    }
    for object in &record.objects {
        fetch::delete(store, &location.key(&stored), &object.version).await?;
    }
    Ok(())
}

/// Where readers look for it next; it is there when this returns.
async fn set_aside(location: &Location, segment: &str) -> Result<()> {
    let (store, to) = (location.store(), unused_name(segment));
    let shown = || store.show(&location.key(&to));
    let gone = || Error::conflict("is gone meanwhile").about(store.show(&location.key(&long_name(segment))));
    let record = own(location, &long_name(segment), MOST_NAME).await?.ok_or_else(gone)?;
    let options = PutOptions { size: Some(record.len() as u64), ..PutOptions::default() };
    store.put(&location.key(&to), record.clone(), &options).await.map_err(|error| error.about(shown()))?;
    match own(location, &to, MOST_NAME).await? == Some(record) {
        true => Ok(()),
        false => Err(Error::integrity("is not what was written; nothing was deleted").about(shown())),
    }
}

/// The records of one of the two places, with all their versions.
async fn records(location: &Location, for_good: bool) -> Result<Vec<UnusedName>> {
    let prefix = location.key(&if for_good { unused_name("") } else { long_name("") });
    let versions = location.store().capabilities().await?.versions;
    let options = ListOptions { prefix: prefix.clone(), versions, ..ListOptions::default() };
    let mut listed = location.store().list(options);
    let mut found: BTreeMap<String, Vec<Object>> = BTreeMap::new();
    while let Some(line) = listed.try_next().await? {
        let Listed::Object(object) = line else { continue };
        match object.key.strip_prefix(&prefix).filter(|segment| is_long(segment)) {
            Some(segment) if !object.marker => found.entry(segment.to_owned()).or_default().push(object),
            _ => {}
        }
    }
    let records = found.into_iter();
    Ok(records.map(|(segment, objects)| UnusedName { segment, for_good, objects }).collect())
}

/// The long names that anything has: folders, containers and envelopes, in any version.
async fn used(location: &Location) -> Result<BTreeSet<String>> {
    let versions = location.store().capabilities().await?.versions;
    let options = ListOptions { prefix: location.prefix().into(), versions, ..ListOptions::default() };
    let mut listed = location.store().list(options);
    let mut used = BTreeSet::new();
    while let Some(line) = listed.try_next().await? {
        let (Listed::Object(Object { key, .. }) | Listed::Folder(key)) = line;
        let segments = location.relative(&key).unwrap_or_default().split('/');
        let long = segments.filter_map(|segment| segment.split('.').next()).filter(|bare| is_long(bare));
        used.extend(long.map(ToOwned::to_owned));
    }
    Ok(used)
}
