//! What `sync` is asked to do, and what it came to.

use std::path::PathBuf;
use std::time::SystemTime;

use super::plan::Compare;
use crate::location::Location;
use crate::ops::filter::Filter;
use crate::store::Right;
use crate::{Error, Result};

/// How to synchronise.
#[derive(Debug)]
pub struct SyncOptions {
    /// How changes are noticed.
    pub compare: Compare,
    /// Whether what is gone on the one side is removed from the other.
    pub delete: bool,
    /// For how many days a store with versions keeps what was removed or replaced; for ever where there is nothing here.
    pub keep_days: Option<u32>,
    /// The most that may be removed; if there is more to remove, nothing is done.
    pub max_delete: Option<u64>,
    /// Whether all may be removed because the source is empty.
    pub force: bool,
    /// What to take. What it leaves out is left alone on both sides.
    pub filter: Filter,
    /// Whether to leave out folders that are marked as caches (`CACHEDIR.TAG`).
    pub exclude_caches: bool,
    /// Whether to stay on the file system of the source.
    pub one_file_system: bool,
    /// Whether only to tell what would be done.
    pub dry_run: bool,
    /// How many threads work.
    pub jobs: usize,
    /// The folder of this machine where it is remembered what both sides have.
    pub state: PathBuf,
    /// The time when the run begins.
    pub now: SystemTime,
}

impl SyncOptions {
    /// What the run has to be allowed to do to the location that it changes.
    pub(super) fn rights(&self, keeps_versions: bool) -> &'static [Right] {
        match self {
            Self { dry_run: true, .. } => &[Right::List],
            Self { keep_days: Some(_), .. } => &[Right::List, Right::Write, Right::Delete],
            Self { delete: true, .. } if !keeps_versions => &[Right::List, Right::Write, Right::Delete],
            _ => &[Right::List, Right::Write],
        }
    }

    /// Old versions are kept for some days only where there are versions.
    pub(super) fn check_keep_days(&self, location: &Location, keeps_versions: bool) -> Result<()> {
        match self.keep_days {
            Some(_) if !keeps_versions => {
                Err(Error::usage("keeps no versions: what is removed there is gone at once")
                    .about(location.show(""))
                    .hint("leave out --keep-days, or --delete"))
            }
            _ => Ok(()),
        }
    }
}

/// What is done about one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// It is new there.
    New,
    /// Its contents are others.
    Contents,
    /// Its mode is another, or the time of a folder.
    Metadata,
    /// It was moved or renamed: the copy is made there.
    Moved,
    /// It is gone.
    Deleted,
}

/// What synchronising came to; in a dry run, what it would.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SyncSummary {
    /// What was new.
    pub new: u64,
    /// What was replaced.
    pub changed: u64,
    /// What was moved or renamed.
    pub moved: u64,
    /// What was removed.
    pub deleted: u64,
    /// What is gone and stays, since it was not to be removed.
    pub kept: u64,
    /// What is as it was.
    pub unchanged: u64,
    /// Of that, what is so by its info record, for nothing was remembered of it.
    pub learned: u64,
    /// Old versions that were removed for good.
    pub purged: u64,
    /// What was rightly left out.
    pub skipped: u64,
    /// What failed.
    pub failed: u64,
    /// Of that, what is not as its writer made it.
    pub integrity: u64,
    /// Bytes that were read and moved.
    pub bytes: u64,
}
