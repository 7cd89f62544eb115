//! What becomes of results that are there already.

use clap::ValueEnum;
use sidekey::pair::IfExists;

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum IfExistsName {
    /// put the new one in its place
    Replace,
    /// leave it, and go on
    Skip,
    /// leave it, and fail for that file
    Fail,
}

/// For results on this machine.
#[derive(clap::Args, Debug)]
pub(crate) struct ExistsArgs {
    /// what to do where a result exists already; skip goes on where a run was interrupted
    #[arg(long, value_enum, value_name = "WHAT", default_value = "fail", conflicts_with = "force")]
    if_exists: IfExistsName,
    /// the same as --if-exists replace
    #[arg(long)]
    force: bool,
}

/// What to do after an interrupt.
pub(crate) const RESUME: &str = "run the same again with --if-exists skip to go on where it stopped";

impl IfExistsName {
    pub(crate) fn value(self) -> IfExists {
        match self {
            Self::Replace => IfExists::Replace,
            Self::Skip => IfExists::Skip,
            Self::Fail => IfExists::Fail,
        }
    }
}

impl ExistsArgs {
    pub(crate) fn value(&self) -> IfExists {
        if self.force { IfExists::Replace } else { self.if_exists.value() }
    }
}
