//! Where passphrases come from: files, descriptors, commands, the environment, and last the terminal. Never argv, which
//! every user of the machine can read.

use std::ffi::OsString;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use sidekey::keys::{KeyFile, PrivateKey};
use sidekey::secret::Passphrase;
use sidekey::{Error, ErrorKind, IoContext as _, Result};
use zeroize::Zeroizing;

use super::config;
use super::report::{Report, shown};

// Not doc comments: clap would make them the description of the command that takes these options.
// Where the passphrases of existing key files come from.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct PassphraseArgs {
    /// take the passphrase from the first line of FILE; with KEY=, that of the key file KEY alone (repeatable)
    #[arg(long, value_name = "[KEY=]FILE", help_heading = "Passphrase")]
    passphrase_file: Vec<OsString>,
    /// take the passphrase from the first line of the open file descriptor N
    #[arg(long, value_name = "N", help_heading = "Passphrase")]
    passphrase_fd: Option<u32>,
    /// take the passphrase from the first line that COMMAND, run by sh, prints
    #[arg(long, value_name = "COMMAND", help_heading = "Passphrase")]
    passphrase_command: Option<OsString>,
}

// Where the passphrase of a new key file comes from.
#[derive(clap::Args, Debug, Default)]
#[group(multiple = false)]
pub(crate) struct NewPassphraseArgs {
    /// take the new passphrase from the first line of FILE
    #[arg(long, value_name = "FILE", help_heading = "New passphrase")]
    new_passphrase_file: Option<PathBuf>,
    /// take the new passphrase from the first line of the open file descriptor N (0, standard input, may be used for
    /// both: the second line then)
    #[arg(long, value_name = "N", help_heading = "New passphrase")]
    new_passphrase_fd: Option<u32>,
    /// take the new passphrase from the first line that COMMAND, run by sh, prints
    #[arg(long, value_name = "COMMAND", help_heading = "New passphrase")]
    new_passphrase_command: Option<OsString>,
    /// leave the key file without a passphrase: whoever reads it can decrypt everything
    #[arg(long, help_heading = "New passphrase")]
    no_passphrase: bool,
}

impl NewPassphraseArgs {
    /// The new passphrase for the key file `path`; nothing when it is to have none. Typed ones are asked for twice.
    ///
    /// # Errors
    /// `Auth` when there is no source, or an empty passphrase; what reading the source says.
    pub(crate) fn read(&self, path: &Path) -> Result<Option<Passphrase>> {
        let (file, fd, command) =
            (&self.new_passphrase_file, self.new_passphrase_fd, &self.new_passphrase_command);
        let source = match (file, fd, command) {
            _ if self.no_passphrase => return Ok(None),
            (Some(file), ..) => Some(Source::File(file.clone())),
            (_, Some(fd), _) => Some(Source::Fd(fd)),
            (.., Some(command)) => Some(Source::Command(command.clone())),
            _ => Source::env("SIDEKEY_NEW_PASSPHRASE"),
        };
        match source {
            Some(source) => {
                let passphrase = source.read()?;
                if passphrase.is_empty() {
                    return Err(empty().about(source.to_string()));
                }
                Ok(Some(passphrase))
            }
            None => ask_twice(path).map(Some),
        }
    }
}

/// Refuses one descriptor for both passphrases: opened twice, a file would give the same line twice. Standard input is
/// read on instead.
///
/// # Errors
/// `Usage`.
pub(crate) fn check_descriptors(old: &PassphraseArgs, new: &NewPassphraseArgs) -> Result<()> {
    match (old.passphrase_fd, new.new_passphrase_fd) {
        (Some(old), Some(new)) if old == new && old != 0 => {
            Err(Error::usage(format!("file descriptor {old} cannot give both passphrases"))
                .hint("use two descriptors, or 0 for both: its first two lines"))
        }
        _ => Ok(()),
    }
}

/// Opens key files, asking for as few passphrases as possible: one that opened one file is tried on the next.
pub(crate) struct Passphrases {
    /// Sources for one key file alone.
    keyed: Vec<(PathBuf, Source)>,
    /// Sources for every key file that were not read yet, the next one last.
    unread: Vec<Source>,
    /// The names of all those, for the error.
    named: Vec<String>,
    known: Vec<Passphrase>,
}

impl Passphrases {
    /// The passphrases for the key files `paths`.
    pub(crate) fn new(args: &PassphraseArgs, paths: &[PathBuf]) -> Self {
        let (mut keyed, mut sources) = (Vec::new(), Vec::new());
        for typed in &args.passphrase_file {
            let of_key = |path: &&PathBuf| {
                let key = path.as_os_str().as_bytes();
                typed.as_bytes().strip_prefix(key).is_some_and(|rest| rest.starts_with(b"="))
            };
            // Paths may hold "=", so the longest key that fits is the one that was meant.
            match paths.iter().filter(of_key).max_by_key(|path| path.as_os_str().len()) {
                Some(path) => {
                    let file = typed.as_bytes().get(path.as_os_str().len() + 1..).unwrap_or_default();
                    let file = PathBuf::from(OsString::from_vec(file.to_vec()));
                    keyed.push((path.clone(), Source::File(file)));
                }
                None => sources.push(Source::File(typed.into())),
            }
        }
        sources.extend(args.passphrase_fd.map(Source::Fd));
        sources.extend(args.passphrase_command.clone().map(Source::Command));
        sources.extend(Source::env("SIDEKEY_PASSPHRASE"));
        let named = sources.iter().map(Source::to_string).collect();
        sources.reverse();
        Self { keyed, unread: sources, named, known: Vec::new() }
    }

    /// Opens the key `file`, which was read from `path`.
    ///
    /// # Errors
    /// `Auth` when no passphrase opens it or there is none; what [`KeyFile::open`] says.
    pub(crate) fn open(&mut self, path: &Path, file: &KeyFile, report: &Report) -> Result<PrivateKey> {
        if !file.is_encrypted() {
            return file.open(None).map_err(|error| error.at(path));
        }
        if let Some((_, source)) = self.keyed.iter().find(|(key, _)| key == path) {
            let passphrase = source.read()?;
            return file
                .open(Some(&passphrase))
                .map_err(|error| error.at(path))
                .map_err(|error| tried(error, &source.to_string()));
        }
        for passphrase in &self.known {
            if let Some(key) = attempt(path, file, passphrase)? {
                return Ok(key);
            }
        }
        while let Some(source) = self.unread.pop() {
            let passphrase = source.read()?;
            let opened = attempt(path, file, &passphrase)?;
            self.known.push(passphrase);
            if let Some(key) = opened {
                return Ok(key);
            }
        }
        if !self.named.is_empty() {
            return Err(tried(Error::auth("wrong passphrase").at(path), &self.named.join(", ")));
        }
        self.ask(path, file, report)
    }

    fn ask(&mut self, path: &Path, file: &KeyFile, report: &Report) -> Result<PrivateKey> {
        for left in (0..3).rev() {
            let Some(passphrase) = prompt("passphrase of", path)? else {
                return Err(Error::auth("is encrypted, and there is no terminal to ask for its passphrase")
                    .at(path)
                    .hint("give it by --passphrase-file, --passphrase-fd, --passphrase-command or the variable SIDEKEY_PASSPHRASE"));
            };
            if let Some(key) = attempt(path, file, &passphrase)? {
                self.known.push(passphrase);
                return Ok(key);
            }
            if left > 0 {
                report.note("wrong passphrase, try again");
            }
        }
        Err(Error::auth("wrong passphrase").at(path))
    }
}

/// The key, or nothing when the passphrase is wrong.
fn attempt(path: &Path, file: &KeyFile, passphrase: &Passphrase) -> Result<Option<PrivateKey>> {
    match file.open(Some(passphrase)) {
        Ok(key) => Ok(Some(key)),
        Err(error) if error.kind() == ErrorKind::Auth => Ok(None),
        Err(error) => Err(error.at(path)),
    }
}

fn tried(error: Error, sources: &str) -> Error {
    match error.kind() {
        ErrorKind::Auth => error.hint(format!("tried {sources}")),
        _ => error,
    }
}

/// Where one passphrase comes from.
enum Source {
    File(PathBuf),
    Fd(u32),
    Command(OsString),
    Env(&'static str, Zeroizing<Vec<u8>>),
}

impl Source {
    fn env(name: &'static str) -> Option<Self> {
        config::env(name).map(|value| Self::Env(name, Zeroizing::new(value.into_vec())))
    }

    fn read(&self) -> Result<Passphrase> {
        match self {
            Self::File(path) => first_line(File::open(path).context("cannot read", path)?),
            // A descriptor is opened again by its name, which needs no unsafe code. Standard input is duplicated
            // instead, so that what follows the line is still there for its next reader.
            Self::Fd(0) => io::stdin()
                .as_fd()
                .try_clone_to_owned()
                .context("cannot read", "standard input")
                .and_then(|stdin| first_line(File::from(stdin))),
            Self::Fd(fd) => {
                first_line(File::open(format!("/dev/fd/{fd}")).context("cannot read", self.to_string())?)
            }
            Self::Command(command) => run(command),
            Self::Env(_, value) => Ok(Passphrase::new(value.to_vec())),
        }
        .map_err(|error| error.about(self.to_string()))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Fd(fd) => write!(f, "file descriptor {fd}"),
            Self::Command(_) => f.write_str("the passphrase command"),
            Self::Env(name, _) => f.write_str(name),
        }
    }
}

/// Runs `command` by the shell, without input: that may be the data itself.
fn run(command: &OsString) -> Result<Passphrase> {
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Error::io("cannot run sh", error))?;
    let line = child.stdout.take().map(first_line);
    let status = child.wait().map_err(|error| Error::io("cannot run sh", error))?;
    if !status.success() {
        return Err(Error::auth(format!("ended with {status}")));
    }
    line.unwrap_or_else(|| Err(Error::auth("printed nothing")))
}

/// One line, read byte by byte: nothing behind it is consumed, and a writer that stays open is not waited for.
fn first_line(mut reader: impl Read) -> Result<Passphrase> {
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_LEN));
    let mut byte = [0];
    loop {
        match reader.read(&mut byte) {
            Ok(0) if line.is_empty() => return Err(Error::auth("holds no passphrase")),
            Ok(0) => break,
            Ok(_) if line.len() == MAX_LEN => {
                return Err(Error::input(format!("its first line is longer than {MAX_LEN} bytes")));
            }
            Ok(_) => line.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::io("cannot read", error)),
        }
        if byte == *b"\n" {
            break;
        }
    }
    Ok(Passphrase::first_line(std::mem::take(&mut *line)))
}

/// A new passphrase, typed twice alike.
fn ask_twice(path: &Path) -> Result<Passphrase> {
    let mut what = "new passphrase of";
    for _ in 0..3 {
        let Some(first) = prompt(what, path)? else {
            return Err(Error::auth("there is no terminal to ask for a new passphrase").at(path).hint(
                "give it by --new-passphrase-file, --new-passphrase-fd, --new-passphrase-command or the variable \
                 SIDEKEY_NEW_PASSPHRASE, or say --no-passphrase",
            ));
        };
        if first.is_empty() {
            return Err(empty().at(path));
        }
        let again = prompt("the same again for", path)?;
        if again.is_some_and(|again| again.expose() == first.expose()) {
            return Ok(first);
        }
        what = "the two differ; new passphrase of";
    }
    Err(Error::auth("the two passphrases differ").at(path))
}

fn empty() -> Error {
    Error::auth("an empty passphrase protects nothing").hint("if that is what you want, say --no-passphrase")
}

/// Asks on the terminal without echo; nothing when there is no terminal.
fn prompt(what: &str, path: &Path) -> Result<Option<Passphrase>> {
    let Ok(terminal) = OpenOptions::new().read(true).write(true).open("/dev/tty") else {
        return Ok(None);
    };
    let settings =
        tcgetattr(&terminal).map_err(|error| Error::io("cannot use", error.into()).at("/dev/tty"))?;
    *echoing() = Some((terminal, settings));
    let typed = rpassword::prompt_password(format!("{what} {}: ", shown(&path.to_string_lossy(), true)));
    *echoing() = None;
    match typed {
        Ok(typed) => Ok(Some(Passphrase::new(typed.into_bytes()))),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            Err(Error::new(ErrorKind::Interrupted, "interrupted"))
        }
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(Error::auth("no passphrase was typed").at(path))
        }
        Err(error) => Err(Error::io("cannot read from the terminal", error)),
    }
}

/// Gives the terminal its echo back when a signal ends the process during a prompt.
pub(super) fn restore_terminal() {
    if let Some((terminal, settings)) = &*echoing() {
        let _ = tcsetattr(terminal, OptionalActions::Now, settings);
    }
}

/// The terminal of the current prompt, and its settings before.
static ECHOING: Mutex<Option<(File, Termios)>> = Mutex::new(None);

fn echoing() -> std::sync::MutexGuard<'static, Option<(File, Termios)>> {
    ECHOING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The longest passphrase, in bytes.
const MAX_LEN: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_read_and_nothing_behind_it() {
        let mut input: &[u8] = b"secret\r\nrest";
        assert_eq!(first_line(&mut input).unwrap().expose(), b"secret");
        assert_eq!(input, b"rest");
        assert_eq!(first_line(&b"\n"[..]).unwrap().expose(), b"");
        assert_eq!(first_line(&b"no end"[..]).unwrap().expose(), b"no end");
        let error = first_line(&b""[..]).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Auth, "holds no passphrase"));
        let error = first_line(&[b'x'; MAX_LEN + 1][..]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input);
    }

    #[test]
    fn a_file_belongs_to_a_key_only_when_that_key_is_given() {
        let args = PassphraseArgs {
            passphrase_file: vec!["a.pem=x".into(), "b.pem=y".into(), "a=b.pem=z".into()],
            ..Default::default()
        };
        let keys = ["a.pem".into(), "a".into(), "a=b.pem".into()];
        let passphrases = Passphrases::new(&args, &keys);
        let keyed: Vec<_> =
            passphrases.keyed.iter().map(|(key, file)| (key.to_str().unwrap(), file.to_string())).collect();
        assert_eq!(keyed, [("a.pem", "x".to_owned()), ("a=b.pem", "z".to_owned())]);
        assert_eq!(passphrases.named, ["b.pem=y"]);
    }
}
