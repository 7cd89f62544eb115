//! The rules by which a container and its envelope are stored together, as step machines without I/O.
//!
//! A machine asks for one step at a time (`step`) and is told how it went (`reply`). Whoever performs the steps
//! (`ops::pair_files` for a folder of this machine, [`crate::location::drive`] for a location) decides nothing. The
//! machines hold no secrets and no bytes, are `Clone + Hash`, and so can be explored state by state.
//!
//! The rules (docs/design.md, "Storing a pair"):
//! - the envelope is confirmed before the container gets its name, so that no container is ever without a key
//!   ([`Put`], [`LocatedPut`]);
//! - an upload never overwrites or deletes an envelope that another container may need;
//! - a rewrap writes, reads back byte for byte, only then deletes the versions that it read, and lists again
//!   ([`Rewrap`], [`Relocate`]);
//! - a removal hides, or deletes the container first; its envelope goes when a listing shows that nothing needs it, and
//!   nothing can still come that does ([`Remove`]);
//! - cleaning takes an envelope that is old and that no container needs, when every one of them was read; what is
//!   unknown is never absent ([`Clean`]).

use std::time::Duration;

mod clean;
mod located;
mod put;
mod relocate;
mod remove;
mod rewrap;
mod seen;

pub use clean::{Clean, CleanOutcome, CleanReply, CleanStep};
pub use located::{IfExists, LocatedPut, LocatedPutOutcome, LocatedPutReply, LocatedPutStep};
pub use put::{Put, PutOutcome, PutReply, PutStep};
pub use relocate::{Relocate, RelocateOutcome, RelocateReply, RelocateStep};
pub use remove::{Remove, RemoveOutcome, RemoveReply, RemoveStep};
pub use rewrap::{Finding, Rewrap, RewrapOutcome, RewrapReply, RewrapStep};
pub use seen::{ContainerVersion, EnvelopeId, EnvelopeVersion, Needs, Serves};

/// How long after its envelope an upload may still give its container its name; then it starts anew, with a new file
/// key. Its late deliveries may come for [`SETTLED`] more, and all of that is less than [`ORPHANED`].
pub const LATEST: Duration = Duration::from_secs(21 * DAY);
/// How old a container is of which no late delivery can come any more.
pub const SETTLED: Duration = Duration::from_secs(7 * DAY);
/// How old an envelope is that may go when it has no container.
pub const ORPHANED: Duration = Duration::from_secs(30 * DAY);

const DAY: u64 = 24 * 60 * 60;

/// Where an envelope stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// `NAME.<16 hex of the data id>.key.enc`: a name that no other upload ever has.
    Located,
    /// `NAME.key.enc`: beside its container on this machine.
    Beside,
}

/// Names one version of an envelope in its store.
pub type VersionId = String;
