//! `sidekey remote`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sidekey::location::argument::{Argument, is_remote_name, no_remote};
use sidekey::{Error, IoContext as _, Result};

use super::config::{self, Editor, NewRemote, Pinned, Remote, location_of};
use super::identity::{self, load_recipients};
use super::report::Report;

/// give locations names, with the recipients that belong to them
///
/// A remote is a name for a location in the configuration: NAME:PATH then stands for PATH in that location, and its
/// recipients are those of every upload to it. A recipient is pinned with its key id: a key file with another key in it
/// is refused.
#[derive(clap::Args, Debug)]
#[command(
    disable_help_subcommand = true,
    after_help = "\
examples:
  sidekey remote add home /srv/vault -r backup.pub.pem
  sidekey put photos/ home:
  sidekey remote ls"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    Add(Add),
    Ls(Ls),
    Rm(Rm),
}

/// configure a remote
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey remote add home /srv/vault -r backup.pub.pem
  sidekey remote add home /mnt/vault -r backup.pub.pem -r escrow.pub.pem --force")]
struct Add {
    /// the name of the remote: letters, digits, - and _
    #[arg(value_name = "NAME")]
    name: String,
    /// a folder, or the URL of a location
    #[arg(value_name = "LOCATION")]
    location: OsString,
    /// a public key that everything put there is encrypted for (repeatable)
    #[arg(short, long, value_name = "FILE")]
    recipient: Vec<PathBuf>,
    /// a private key that opens what is there; the file's name is kept, never the key (repeatable)
    #[arg(short, long, value_name = "FILE")]
    identity: Vec<PathBuf>,
    /// replace a remote of that name
    #[arg(long)]
    force: bool,
}

/// list the configured remotes
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey remote ls
  sidekey remote ls --json")]
struct Ls {}

/// take a remote out of the configuration; nothing at its location is touched
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey remote rm home")]
struct Rm {
    /// the name of the remote
    #[arg(value_name = "NAME")]
    name: String,
}

#[derive(Serialize)]
struct Shown {
    r#type: &'static str,
    name: String,
    location: String,
    recipients: Vec<ShownRecipient>,
    identities: Vec<String>,
}

#[derive(Serialize)]
struct ShownRecipient {
    file: Option<String>,
    key_id: Option<String>,
}

#[derive(Serialize)]
struct Changed<'a> {
    r#type: &'a str,
    name: &'a str,
    config: String,
}

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        match self.what {
            What::Add(add) => add.run(report),
            What::Ls(ls) => ls.run(report),
            What::Rm(rm) => rm.run(report),
        }
    }
}

impl Add {
    fn run(self, report: &Report) -> Result<()> {
        if !is_remote_name(&self.name) {
            return Err(Error::usage("is not a name for a remote")
                .about(&self.name)
                .hint("letters, digits, - and _ make a name"));
        }
        let path = config::current().path()?;
        let mut recipients = Vec::new();
        for file in &self.recipient {
            for key in load_recipients(std::slice::from_ref(file))? {
                if recipients.iter().all(|(_, known)| *known != key.id()) {
                    recipients.push((whole(file)?, key.id()));
                }
            }
        }
        for file in &self.identity {
            identity::read_private(file, report)?;
        }
        let identities = self.identity.iter().map(|file| whole(file)).collect::<Result<_>>()?;
        let location = location_text(&self.location)?;
        let remote = NewRemote { name: self.name, location, recipients, identities };
        let mut editor = Editor::open(path)?;
        if editor.has(&remote.name) && !self.force {
            return Err(Error::conflict("is a remote already")
                .about(&remote.name)
                .hint("--force replaces it; sidekey remote ls shows it"));
        }
        editor.put(&remote)?;
        editor.save()?;
        let done = Changed { r#type: "added", name: &remote.name, config: path.display().to_string() };
        report.done(&done, format_args!("{} is {} now ({})", remote.name, remote.location, path.display()));
        if remote.recipients.is_empty() {
            report.note("it has no recipients: put will ask for --recipient each time");
        }
        Ok(())
    }
}

impl Ls {
    fn run(self, report: &Report) -> Result<()> {
        let mut none = true;
        for remote in config::current().remotes() {
            none = false;
            report.result(&Shown::of(remote), lines(remote));
        }
        if none {
            report.note("no remotes are configured; sidekey remote add NAME LOCATION configures one");
        }
        Ok(())
    }
}

impl Rm {
    fn run(self, report: &Report) -> Result<()> {
        let path = config::current().path()?;
        config::current().remote(&self.name)?;
        let mut editor = Editor::open(path)?;
        if !editor.remove(&self.name)? {
            return Err(no_remote(&self.name));
        }
        editor.save()?;
        let done = Changed { r#type: "removed", name: &self.name, config: path.display().to_string() };
        report.done(&done, format_args!("{} is no remote any more; its location was not touched", self.name));
        Ok(())
    }
}

impl Shown {
    fn of(remote: &Remote) -> Self {
        let recipient = |pinned: &Pinned| ShownRecipient {
            file: pinned.file.as_ref().map(|file| file.display().to_string()),
            key_id: pinned.key_id.map(|key_id| key_id.to_string()),
        };
        Self {
            r#type: "remote",
            name: remote.name.clone(),
            location: remote.location.display().to_string(),
            recipients: remote.recipients.iter().map(recipient).collect(),
            identities: remote.identities.iter().map(|file| file.display().to_string()).collect(),
        }
    }
}

/// `NAME: LOCATION`, and below it whose keys.
fn lines(remote: &Remote) -> Vec<String> {
    let mut lines = vec![format!("{}: {}", remote.name, remote.location.display())];
    lines.extend(remote.recipients.iter().map(|pinned| format!("    recipient {pinned}")));
    lines.extend(remote.identities.iter().map(|file| format!("    identity {}", file.display())));
    lines
}

/// What was typed for a location, in the form that means the same wherever it is read.
pub(crate) fn location_text(typed: &OsString) -> Result<String> {
    let path = match Argument::parse(typed)? {
        Argument::Local(path) => whole(&path)?,
        Argument::Service(service, bucket, prefix) => {
            let prefix = String::from_utf8(prefix).map_err(|_| {
                Error::usage("a prefix that is not UTF-8 cannot be configured").about(typed.to_string_lossy())
            })?;
            return Ok(format!("{}://{bucket}/{prefix}", service.scheme()));
        }
        Argument::Remote(..) => {
            return Err(Error::usage("a remote's location cannot be a path of another remote")
                .about(typed.to_string_lossy())
                .hint("write a folder or a URL; for a folder with a colon write ./NAME"));
        }
    };
    if path.exists() && !path.is_dir() {
        return Err(Error::usage("is a file; a location is a folder").at(&path));
    }
    Ok(location_of(&path))
}

fn whole(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).context("cannot find the folder it is in", path)
}
