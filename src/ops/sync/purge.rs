//! Old versions that were kept long enough.

use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;

use super::{Run, add};
use crate::location::drive;
use crate::location::listing::{Entry, PairEntry, Scope, list};
use crate::ops::sync::plan::Key;
use crate::{ErrorKind, Result};

/// Removes for good, of all that is synchronised, what was hidden or replaced more than so many days ago. The envelopes are
/// left to `clean`, as everywhere.
///
/// # Errors
/// What listing fails with.
pub(super) fn older_than(run: &Run<'_>, days: u32) -> Result<()> {
    let now = run.handle.block_on(store_time(run))?;
    let Some(before) = now.checked_sub(Duration::from_secs(u64::from(days) * 86_400)) else { return Ok(()) };
    let scope = Scope::below(run.location, run.below).with_versions(true);
    let mut listed = list(run.location, &scope);
    while let Some(entry) = run.handle.block_on(listed.next()).transpose()? {
        let Entry::Pair(pair) = entry else { continue };
        let segments = pair.name.segments().get(run.below.len()..).unwrap_or_default();
        if pair.incomplete || run.is_filtered(&Key::new(segments, pair.name.is_folder())) {
            continue;
        }
        if let Err(error) = run.handle.block_on(purge(run, &pair, before)) {
            run.fail(&error);
        }
    }
    Ok(())
}

/// Only versions that were listed, so that one that comes meanwhile stays.
async fn purge(run: &Run<'_>, pair: &PairEntry, before: SystemTime) -> Result<()> {
    let store = run.location.store();
    // What was replaced is as old as what replaced it.
    for (newer, old) in pair.containers.iter().zip(pair.containers.iter().skip(1)) {
        if newer.modified < before {
            store.delete(&old.key, &old.version).await?;
            add(&run.counts.purged, u64::from(!old.marker));
        }
    }
    // What it hid would be there again without it, so it goes last.
    match pair.containers.first() {
        Some(newest) if newest.marker && newest.modified < before => {
            store.delete(&newest.key, &newest.version).await
        }
        _ => Ok(()),
    }
}

/// The time by the store's clock. Where it cannot be asked nothing counts as old, so that envelopes stay.
pub(super) async fn store_time(run: &Run<'_>) -> Result<SystemTime> {
    match drive::store_time(run.location, run.options.now).await {
        Err(error) if error.kind() == ErrorKind::Permission => Ok(SystemTime::UNIX_EPOCH),
        time => time,
    }
}
