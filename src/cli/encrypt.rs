//! `sidekey encrypt`.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use sidekey::format::section::DigestKind;
use sidekey::ops::encrypt::{EncryptOptions, Format, encrypt, encrypt_stream};
use sidekey::ops::walk::Destination;
use sidekey::recipe::ContainerEncoding;
use sidekey::{Error, Result};

use super::exists::{self, ExistsArgs};
use super::guard;
use super::identity::load_recipients;
use super::report::Report;
use super::work::{self, Watcher};

/// encrypt files, folders or a pipe for one or more public keys
///
/// Every file becomes NAME.enc with its contents and NAME.key.enc with its key, beside it or below --output; the
/// originals are not touched. A folder is entered; the results keep its shape. Times, modes, symlinks and empty folders
/// are kept in the container. Only public keys are needed here.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey encrypt -r backup.pub.pem photos/ -o encrypted
  sidekey encrypt -r backup.pub.pem -r escrow.pub.pem letter.odt
  pg_dump shop | sidekey encrypt -r backup.pub.pem - -o shop.sql.enc

DIR keeps its own name below --output, DIR/ puts its contents there. Results that exist already
are not touched, and fail, without --if-exists or --force.")]
pub(crate) struct Args {
    /// files and folders; - is standard input
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// a public key that the results are encrypted for (repeatable)
    #[arg(short, long, value_name = "FILE")]
    recipient: Vec<PathBuf>,
    /// write below this folder, or a single result to this file; - is standard output
    #[arg(short, long, value_name = "DIR|FILE")]
    output: Option<PathBuf>,
    /// write the envelope of a single result to this file
    #[arg(long, value_name = "FILE")]
    envelope: Option<PathBuf>,
    #[command(flatten)]
    exists: ExistsArgs,
    /// encrypt what symlinks lead to instead of the links
    #[arg(long)]
    follow: bool,
    /// keep the times and modes of all folders, not only of empty ones
    #[arg(long)]
    folder_metadata: bool,
    /// what to write: openssl and openssl-raw (without base64) make files that two commands of OpenSSL 1.1.1 or later
    /// decrypt, for one recipient; they are not authenticated and keep neither times, modes, links nor empty folders
    #[arg(long, value_enum, default_value = "sidekey")]
    format: FormatName,
    /// the digest of the contents to keep inside the container
    #[arg(long, value_enum, default_value = "none")]
    digest: Digest,
    /// how many threads work; by default one a processor, 16 at most
    #[arg(long, value_name = "N", value_parser = work::parse_jobs)]
    jobs: Option<usize>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatName {
    /// authenticated containers and envelopes
    Sidekey,
    /// openssl enc -a
    Openssl,
    /// openssl enc
    OpensslRaw,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Digest {
    /// SHA-256
    Sha256,
    /// none: every section is authenticated anyway
    None,
}

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        let stdin = work::is_stdin(&self.paths)?;
        if self.recipient.is_empty() {
            return Err(Error::usage("no recipient: nobody could open the result")
                .hint("name a public key with --recipient; sidekey keygen makes a pair"));
        }
        let to_stdout = self.output.as_deref() == Some(Path::new("-"));
        if to_stdout && io::stdout().is_terminal() {
            return Err(Error::usage("a container is not text; standard output is a terminal")
                .hint("redirect it, or write --output FILE"));
        }
        if to_stdout {
            report.stdout_is_data();
        }
        let options = EncryptOptions {
            recipients: load_recipients(&self.recipient)?,
            destination: match &self.output {
                Some(file) if stdin => Destination::File(file.clone()),
                output => Destination::from_argument(output.as_deref(), &self.paths),
            },
            envelope: self.envelope,
            if_exists: self.exists.value(),
            follow: self.follow,
            folder_metadata: self.folder_metadata,
            format: match self.format {
                FormatName::Sidekey => Format::Sidekey,
                FormatName::Openssl => Format::OpenSsl(ContainerEncoding::Base64Wrapped),
                FormatName::OpensslRaw => Format::OpenSsl(ContainerEncoding::Raw),
            },
            digest: match self.digest {
                Digest::Sha256 => DigestKind::Sha256,
                Digest::None => DigestKind::None,
            },
            jobs: work::jobs(self.jobs),
            now: work::now(),
        };
        guard::say_when_interrupted(report, exists::RESUME);
        let watcher = Watcher::of_files(report, &self.paths, "encrypted");
        let summary = match stdin {
            true => encrypt_stream(io::stdin(), &options, &watcher)?,
            false => encrypt(&self.paths, &options, &watcher)?,
        };
        watcher.finish(&summary);
        Ok(())
    }
}
