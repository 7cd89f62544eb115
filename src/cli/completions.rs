//! `sidekey completions`.

use sidekey::Result;

use super::args;
use super::report::Report;

/// print a completion script for a shell
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey completions bash > ~/.local/share/bash-completion/completions/sidekey
  sidekey completions fish > ~/.config/fish/completions/sidekey.fish")]
pub(crate) struct Args {
    /// the shell
    #[arg(value_name = "SHELL")]
    shell: clap_complete::Shell,
}

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut args::command(), "sidekey", &mut script);
        report.data(&script);
        Ok(())
    }
}
