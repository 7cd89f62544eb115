//! `sidekey mv`.

use sidekey::Result;

use super::report::Report;
use super::transfer::TransferArgs;

/// move or rename objects and folders within a location
///
/// The store copies the containers itself: nothing is downloaded or decrypted, and no key is needed. The old name goes when
/// the new pair is complete: it is hidden where the store keeps versions, else removed as by rm.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey mv nas:letters/draft.odt nas:letters/final.odt
  sidekey mv b2://bucket/photos/2025 b2://bucket/archive/
  sidekey mv vault/photos vault/pictures --dry-run

Only a / at its end makes DST a folder to put SRC into. Inside of a container stands the name under
which it was put: outside of vaults get says so where it has another one now.")]
pub(crate) struct Args {
    #[command(flatten)]
    transfer: TransferArgs,
}

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        self.transfer.run(report, true, true)
    }
}
