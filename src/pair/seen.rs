//! What was seen of containers and envelopes, and whether one needs the other.

use super::VersionId;
use crate::DataId;

/// Which key a version of a container needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Needs {
    /// None: it is a delete marker.
    Nothing,
    /// That of this data id, which stands in its header.
    Key(DataId),
    /// It could not be read, or has no data id. Unknown is never absent.
    Unknown,
}

/// Whom a version of an envelope serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Serves {
    /// The containers of these data ids, which stand in its entries.
    Data(Vec<DataId>),
    /// A container of the OpenSSL recipe: it is one of its key files.
    Recipe,
    /// It could not be read, or is nothing of ours.
    Unknown,
}

/// A version of a container, as it was listed and its header read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContainerVersion {
    /// Which one.
    pub version: VersionId,
    /// Which key it needs.
    pub needs: Needs,
    /// Whether it is older than [`SETTLED`](super::SETTLED), by the store's clock.
    pub settled: bool,
    /// Whether it is somebody else's, and no container.
    pub foreign: bool,
}

/// Names a version of an envelope, which may have several names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnvelopeId {
    /// The stored name.
    pub stored: String,
    /// Which version.
    pub version: VersionId,
}

/// A version of an envelope, as it was listed and read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EnvelopeVersion {
    /// Which one.
    pub id: EnvelopeId,
    /// Whom it serves.
    pub serves: Serves,
    /// Whether it is old enough to go: older than [`SETTLED`](super::SETTLED) for a removal, than
    /// [`ORPHANED`](super::ORPHANED) for cleaning, by the store's clock.
    pub old: bool,
}

impl Serves {
    /// Whether one of these containers needs it, or may.
    pub fn needed(&self, containers: &[ContainerVersion]) -> bool {
        containers.iter().any(|container| match (self, container.needs) {
            (_, Needs::Nothing) => false,
            (Self::Data(ids), Needs::Key(id)) => ids.contains(&id),
            _ => true,
        })
    }
}
