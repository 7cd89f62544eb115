//! `sidekey man`.

use std::io::Write as _;
use std::path::PathBuf;

use sidekey::ops::atomic::{AtomicFile, Mode};
use sidekey::{Error, ErrorKind, IoContext as _, Result};

use super::args;
use super::report::Report;

/// print the manual page, or write the pages of all commands into a folder
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey man | man -l -
  sidekey man -o ~/.local/share/man/man1")]
pub(crate) struct Args {
    /// write sidekey.1 and a page for each command into DIR, replacing older ones
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        let mut root = args::command();
        root.build();
        let Some(dir) = self.output else {
            report.data(&page(root)?);
            return Ok(());
        };
        std::fs::create_dir_all(&dir).context("cannot make the folder", &dir)?;
        let mut commands = vec![root];
        while let Some(command) = commands.pop() {
            commands.extend(command.get_subcommands().cloned());
            let name = command.get_display_name().unwrap_or_else(|| command.get_name());
            let path = dir.join(format!("{name}.1"));
            let mut file = AtomicFile::create(&path, Mode::Data)?;
            file.write_all(&page(command)?).context("cannot write", &path)?;
            file.commit_replace()?;
            report.detail(format_args!("wrote {}", path.display()));
        }
        Ok(())
    }
}

fn page(command: clap::Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .source(concat!("sidekey ", env!("CARGO_PKG_VERSION")))
        .manual("sidekey")
        .render(&mut page)
        .map_err(|error| Error::new(ErrorKind::Io, "cannot make a manual page").because(error))?;
    Ok(page)
}
