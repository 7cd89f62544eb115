//! `sidekey cp`.

use sidekey::Result;

use super::report::Report;
use super::transfer::TransferArgs;

/// copy objects and folders within a location
///
/// The store copies the containers itself: nothing is downloaded or decrypted, and no key is needed. A copy has the same file
/// key and the same envelope entries as what was copied.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey cp nas:letters/2025.odt nas:letters/2026.odt
  sidekey cp -r b2://bucket/photos/2025 b2://bucket/archive/
  sidekey cp -r vault/photos vault/copy --dry-run

Only a / at its end makes DST a folder to put SRC into. Inside of a container stands the name under
which it was put: outside of vaults get says so where the copy has another one.")]
pub(crate) struct Args {
    #[command(flatten)]
    transfer: TransferArgs,
    /// copy folders with all that is in them
    #[arg(short, long)]
    recursive: bool,
}

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        self.transfer.run(report, false, self.recursive)
    }
}
