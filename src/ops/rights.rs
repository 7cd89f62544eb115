//! What the credentials at hand must allow, asked before a command begins: a run that fails at its last step costs more.

use crate::Result;
use crate::location::Location;
use crate::location::argument::Target;
use crate::ops::place::Source;
use crate::store::Right;

/// Whether this may be done to what stands at and below a target.
///
/// # Errors
/// `Permission`, naming what is missing; what the store says when it cannot be asked.
pub(super) async fn require(target: &Target, rights: &[Right]) -> Result<()> {
    require_below(&target.location, &target.path, target.folder, rights).await
}

/// The same for each of several places.
pub(super) async fn require_all(sources: &[Source], rights: &[Right]) -> Result<()> {
    for source in sources {
        require(source.object.as_ref().unwrap_or(&source.folder), rights).await?;
    }
    Ok(())
}

/// The same for a plain path. One that is not only a `folder` may be a name too, and what its pair is called begins so.
pub(super) async fn require_below(
    location: &Location,
    path: &[Vec<u8>],
    folder: bool,
    rights: &[Right],
) -> Result<()> {
    let below = location.stored_folder(path);
    let below = if folder { &*below } else { below.trim_end_matches('/') };
    location.store().require(&location.key(below), rights).await
}
