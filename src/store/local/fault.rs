//! What the operating system refuses, in the words of this store.

use std::path::Path;

use rustix::io::Errno;

use crate::{Error, ErrorKind};

/// `doing` ("cannot write") failed with `errno` at `path`.
pub(super) fn failed(doing: &str, errno: Errno, path: &Path) -> Error {
    let io = || Error::io(doing, errno.into());
    let error = match errno {
        Errno::LOOP => return symlink(path),
        Errno::ACCESS | Errno::PERM => {
            io().hint("the folder and its files must be yours to read and write; see who owns them")
        }
        Errno::ROFS => Error::new(ErrorKind::Permission, doing)
            .because(std::io::Error::from(errno))
            .hint("the file system is mounted read-only; mount it to be written, or choose another location"),
        Errno::NOSPC | Errno::DQUOT => io().hint("free some space there, or choose another location"),
        Errno::MFILE | Errno::NFILE => io().hint("raise the limit of open files (ulimit -n)"),
        Errno::NAMETOOLONG => {
            Error::input("its name is too long for the file system").hint("shorten the name")
        }
        Errno::ISDIR | Errno::NOTDIR => Error::conflict(doing).because(std::io::Error::from(errno)),
        Errno::STALE | Errno::BUSY | Errno::TIMEDOUT => {
            Error::new(ErrorKind::Transient, doing).because(std::io::Error::from(errno))
        }
        _ => io(),
    };
    error.at(path)
}

pub(super) fn symlink(path: &Path) -> Error {
    Error::new(ErrorKind::Refused, "is a symlink, which is not followed")
        .at(path)
        .hint("give the folder that it leads to as the location, or move the file here")
}

pub(super) fn nothing(path: &Path) -> Error {
    Error::not_found("there is nothing under that name").at(path)
}

/// Nothing was stored: a name given there would not be found where the user looks for it.
pub(super) fn moved() -> Error {
    Error::new(ErrorKind::Transient, "its folder was moved, replaced or removed in the meantime")
}

pub(super) fn symlink_above(path: &Path) -> Error {
    Error::new(ErrorKind::Refused, "a symlink leads to it, which is not followed")
        .at(path)
        .hint("give the folder that the symlink leads to as the location")
}

pub(super) fn special(path: &Path) -> Error {
    Error::new(ErrorKind::Refused, "is not a regular file").at(path)
}
