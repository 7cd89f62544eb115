//! `sidekey pubkey`.

use std::io::Write as _;
use std::path::PathBuf;

use serde::Serialize;
use sidekey::ops::atomic::{Mode, Output};
use sidekey::{Error, ErrorKind, IoContext as _, Result};

use super::identity;
use super::passphrase::{PassphraseArgs, Passphrases};
use super::report::Report;

/// print the public key of a private key file, or write it to a file
///
/// The public key is all that a machine needs to encrypt.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey pubkey backup.pem
  sidekey pubkey backup.pem -o backup.pub.pem")]
pub(crate) struct Args {
    /// the private key file
    #[arg(value_name = "KEY")]
    key: PathBuf,
    /// write to FILE, which must not exist yet, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        let (_, file) = identity::read_private(&self.key, report)?;
        let mut passphrases = Passphrases::new(&self.passphrase, std::slice::from_ref(&self.key));
        let key = passphrases.open(&self.key, &file, report)?;
        let pem = key.public().to_pem();
        let found = Found { key_id: key.id().to_string(), bits: key.public().bits(), pem: &pem };
        report.detail(format_args!("{}: key id {}", self.key.display(), found.key_id));
        let Some(path) = self.output else {
            report.result(&found, pem.lines());
            return Ok(());
        };
        let mut output = Output::open(&path, Mode::Data)?;
        output.write_all(pem.as_bytes()).context("cannot write", &path)?;
        output.commit_new().map_err(|error| match error.kind() {
            ErrorKind::Conflict => Error::conflict("exists already").at(&path).hint("choose another FILE"),
            _ => error,
        })?;
        report.done(&found, format_args!("wrote {}", path.display()));
        Ok(())
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "pubkey")]
struct Found<'a> {
    key_id: String,
    bits: usize,
    pem: &'a str,
}
