//! One error type: what, where, why, and what to do about it.
//!
//! `Display` prints the subject and the message, never the source; the command line joins the chain with ": ", so
//! that each cause is printed once. The remedy is apart, in [`Error::hint`].

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, io};

/// The result of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it is, chosen by what the caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A passphrase or key is wrong or missing; another one may work.
    Auth,
    /// Something is there already, or changed under us; look before trying again.
    Conflict,
    /// What a listing found is no object of the store, and is left alone: a symlink, a pipe.
    Foreign,
    /// The input is not of the form that the operation takes.
    Input,
    /// The bytes are not what their writer made, or one half of a pair is missing.
    Integrity,
    /// The user asked to stop.
    Interrupted,
    /// The operating system failed to read or write.
    Io,
    /// There is nothing under that name.
    NotFound,
    /// The operating system or the store refused: other rights may do.
    Permission,
    /// The store will not do it, however often it is asked: a cap is reached, nobody paid, the bucket is gone.
    Refused,
    /// It was not done, and the same again may well work: the store is busy, or the request never reached it.
    Transient,
    /// No answer came: it may have been done, or may still be.
    Unsure,
    /// The call itself makes no sense.
    Usage,
}

/// A failure: its kind, its subject, one sentence, an optional remedy and an optional cause.
pub struct Error {
    kind: ErrorKind,
    subject: Option<String>,
    message: String,
    hint: Option<String>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` that says `message` (lower case, no full stop).
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, subject: None, message: message.into(), hint: None, retry_after: None, source: None }
    }

    /// [`ErrorKind::Auth`].
    pub fn auth(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Auth, message)
    }

    /// [`ErrorKind::Conflict`].
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// [`ErrorKind::Input`].
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Input, message)
    }

    /// [`ErrorKind::Integrity`].
    pub fn integrity(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Integrity, message)
    }

    /// [`ErrorKind::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// [`ErrorKind::Usage`].
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// An operating-system failure while doing `message` ("cannot write"), its kind taken from `source`. An error of ours
    /// that came through a reader or writer is itself again.
    pub fn io(message: impl Into<String>, source: io::Error) -> Self {
        let source = match source.downcast::<Self>() {
            Ok(ours) => return ours,
            Err(source) => source,
        };
        let kind = match source.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::PermissionDenied => ErrorKind::Permission,
            io::ErrorKind::AlreadyExists => ErrorKind::Conflict,
            _ => ErrorKind::Io,
        };
        Self::new(kind, message).because(source)
    }

    /// The same error about `path`, unless it already names its subject.
    #[must_use]
    pub fn at(self, path: impl AsRef<Path>) -> Self {
        self.about(path.as_ref().display().to_string())
    }

    /// The same error about `subject`, unless it already names its subject.
    #[must_use]
    pub fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject.get_or_insert(subject.into());
        self
    }

    /// The same error with a remedy.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error with its cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error with the time that the store asked to be left alone for.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The same error with `note` in brackets behind its message.
    #[must_use]
    pub(crate) fn noted(mut self, note: impl fmt::Display) -> Self {
        self.message = format!("{} ({note})", self.message);
        self
    }

    /// The same error as one of another kind.
    #[must_use]
    pub(crate) fn of_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The file, object or argument it is about.
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// What the user can do about it.
    pub fn remedy(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// How long the store asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Subject, message and causes on one line.
    pub fn line(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            line.push_str(": ");
            line.push_str(&error.to_string());
            cause = error.source();
        }
        line
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Some(subject) => write!(f, "{subject}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.line())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Names the path in an I/O failure.
pub trait IoContext<T> {
    /// Turns an I/O failure into an [`Error`] that says `doing` ("cannot read") about `path`.
    fn context(self, doing: &str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, doing: &str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| Error::io(doing, source).at(path))
    }
}

/// A path that an error is about, kept for batches.
pub type Failure = (PathBuf, Error);
