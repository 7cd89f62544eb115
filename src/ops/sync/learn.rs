//! What the location holds of that of which nothing is remembered, by its info records: where they are not listed, the start
//! of a container and its envelope are read.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use futures_util::stream;

use super::plan::{Differs, Key, Known, Stored, judge};
use super::state::{Act, Todo};
use super::{Run, scan};
use crate::ops::look;
use crate::ops::parallel;
use crate::store::Object;
use crate::{DataId, ErrorKind, Result};

/// What of a listing counts besides names and versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Learning {
    /// The info records.
    Records,
    /// Nothing: what is there is compared with no file.
    Nothing,
}

/// Looks at all that is to be done because nothing is known of it: what is alike is remembered, and `act` says what becomes of
/// the rest. Two small reads a name, many at a time. Outside of a vault there is nothing to read without a private key.
///
/// # Errors
/// What the state fails with. What cannot be read stays unknown.
pub(super) fn from_envelopes(
    run: &Run<'_>,
    path: &(dyn Fn(&Key) -> PathBuf + Sync),
    act: fn(Differs) -> Act,
) -> Result<()> {
    if run.location.vault().is_none() || run.state.count(Act::Unknown)?.0 == 0 {
        return Ok(());
    }
    let capabilities = run.handle.block_on(run.location.store().capabilities())?;
    let each = (capabilities.concurrency / run.options.jobs.max(1)).max(1);
    let refused = AtomicBool::new(false);
    let todo = run.state.todo(&[Act::Unknown]).take_while(|_| !refused.load(Ordering::Relaxed));
    parallel::for_each_future(
        run.handle,
        run.options.jobs,
        each,
        Box::pin(stream::iter(todo)),
        |todo| async {
            let learned = async {
                let todo = todo?;
                let Some((stored, envelopes)) = run.state.listed(&todo.key)? else { return Ok(()) };
                match record(run, &todo, &stored, &envelopes).await {
                    Ok(Some(known)) => settle(run, &todo, (&stored, known), &path(&todo.key), act),
                    // Who may only write cannot look, and need not try for every name.
                    Err(error) if error.kind() == ErrorKind::Permission => {
                        refused.store(true, Ordering::Relaxed);
                        Ok(())
                    }
                    Ok(None) | Err(_) => Ok(()),
                }
            };
            run.note(learned.await);
        },
    );
    run.stop_at_fault()
}

/// What the info record of one container says.
async fn record(run: &Run<'_>, todo: &Todo, stored: &Stored, envelopes: &str) -> Result<Option<Known>> {
    let object = Object {
        key: run.location.container_key(&run.name(&todo.key)?),
        version: stored.version.clone(),
        latest: true,
        marker: false,
        size: stored.size,
        modified: SystemTime::UNIX_EPOCH,
        info: None,
    };
    let listed = |data_id: &DataId| envelopes.split(' ').any(|short| short == data_id.short());
    let found = look::info(run.location, &object, listed).await?;
    Ok(found.and_then(|(data_id, info)| Known::learned(data_id, &info)))
}

fn settle(
    run: &Run<'_>,
    todo: &Todo,
    (stored, known): (&Stored, Known),
    path: &Path,
    act: fn(Differs) -> Act,
) -> Result<()> {
    let Some(facts) = path.symlink_metadata().ok().as_ref().and_then(scan::facts) else { return Ok(()) };
    match judge(&facts, Some(&known), run.options.compare) {
        None | Some(Differs::Learned) => {
            run.adopt(&todo.key, stored, &known, path)?;
            run.state.leave(&todo.key)
        }
        Some(differs) => {
            run.state.record(&todo.key, stored, &known)?;
            run.state.set_act(&todo.key, act(differs))
        }
    }
}
