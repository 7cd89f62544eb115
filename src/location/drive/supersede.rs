//! Takes away what a new pair with the same contents stands for.
//!
//! Only what the caller read and has replaced by something proven goes, by its version id; its envelope goes by the rules
//! of every removal: when every version that is left was read and none needs it, and none can come late any more.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::fetch;
use crate::location::Location;
use crate::name::envelope_name;
use crate::pair::{Needs, SETTLED, Serves};
use crate::store::{Object, VersionId};
use crate::{DataId, Result};

/// What became of a container that was replaced, and of its envelope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Superseded {
    /// The versions of the container that were deleted.
    pub containers: Vec<VersionId>,
    /// How many versions of envelopes were deleted.
    pub envelopes: u64,
    /// What is left of it, and why.
    pub left: Vec<String>,
}

/// Whether `written` took the place of `over` and of nothing else. Where something came between, it was hidden by what was
/// written: the caller takes that away again.
///
/// # Errors
/// What listing fails with.
pub async fn stands_over(
    location: &Location,
    stored: &str,
    over: &Object,
    written: &VersionId,
) -> Result<bool> {
    let store = location.store();
    if !store.capabilities().await?.versions || store.conditions().await?.replace_if {
        return Ok(true);
    }
    let versions = fetch::versions(store, &location.key(stored)).await?;
    let below = versions.iter().skip_while(|version| version.version != *written).skip(1);
    let mut between = below.take_while(|version| version.version != over.version);
    Ok(!between.any(|version| version.modified >= over.modified))
}

/// Deletes one version of a container that a proven pair replaces, where the store keeps it, then the envelopes with its
/// data id. `now` is the time by the store's clock. What fails is left, and said.
///
/// # Errors
/// What listing fails with.
pub async fn supersede(
    location: &Location,
    stored: &str,
    over: &Object,
    data_id: &DataId,
    now: SystemTime,
) -> Result<Superseded> {
    let mut done = Superseded::default();
    let store = location.store();
    if store.capabilities().await?.versions {
        if let Err(error) = fetch::delete(store, &over.key, &over.version).await {
            let version = &over.version;
            done.left.push(format!("its older version {version} could not be deleted: {}", error.line()));
            return Ok(done);
        }
        done.containers.push(over.version.clone());
    }
    if !fetch::is_older(over, SETTLED, now) {
        done.left.push(
            "its old envelope was kept: the old container is younger than a week and could still arrive a second time; \
             sidekey clean takes it later"
                .into(),
        );
        return Ok(done);
    }
    let remaining = fetch::containers(location, stored, now).await?;
    let needed = |needs: &Needs| match needs {
        Needs::Key(id) => id == data_id,
        Needs::Unknown => true,
        Needs::Nothing => false,
    };
    if remaining.iter().any(|version| needed(&version.needs)) {
        done.left.push("its old envelope was kept: another version of it needs it, or may".into());
        return Ok(done);
    }
    let names: BTreeSet<String> =
        [Some(data_id), None].into_iter().filter_map(|id| envelope_name(stored, id)).collect();
    for name in names {
        for (object, envelope) in fetch::envelopes(location, &name, SETTLED, now).await? {
            if envelope.serves != Serves::Data(vec![*data_id]) {
                continue;
            }
            match fetch::delete(store, &object.key, &object.version).await {
                Ok(()) => done.envelopes += 1,
                Err(error) => {
                    done.left.push(format!("its old envelope could not be deleted: {}", error.line()));
                }
            }
        }
    }
    Ok(done)
}
