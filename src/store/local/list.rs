//! Walking the folders of the store in the order of whole keys, in which a folder counts as its name with a `/`.
//!
//! The names of a folder are read at once and looked up one by one, when they are asked for.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, OFlags};
use rustix::io::Errno;

use super::fault::{self, failed};
use super::folder::open_folder;
use super::{Inner, stamp};
use crate::store::{ListOptions, Listed, Unfinished};
use crate::temporary::is_temporary_name;
use crate::{Error, ErrorKind, Result};

/// What a walk looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Objects,
    /// What was not finished.
    Temporary,
}

/// A walk on its way.
#[derive(Debug)]
struct Walk {
    store: Arc<Inner>,
    options: ListOptions,
    wanted: Wanted,
    /// The folders that are open, each in the one before.
    levels: Vec<Level>,
    /// What went wrong before the first folder.
    fault: Option<Error>,
}

/// An open folder, and what is still to be looked at in it.
#[derive(Debug)]
struct Level {
    fd: OwnedFd,
    /// What the keys in it begin with: nothing, or its own key and a `/`.
    prefix: String,
    names: Names,
}

/// Sorted names, one behind the other: a hundred thousand of them take a few megabytes.
#[derive(Debug, Default)]
pub(super) struct Names {
    bytes: Vec<u8>,
    /// Where each begins and ends, the last one first.
    spans: Vec<(u32, u32)>,
}

/// Lists objects and folders.
pub(super) fn objects(
    store: Arc<Inner>,
    options: ListOptions,
) -> impl Iterator<Item = Result<Listed>> + Send {
    let mut walk = Walk::new(store, options, Wanted::Objects);
    std::iter::from_fn(move || walk.next_object())
}

/// Lists temporary files.
pub(super) fn unfinished(
    store: Arc<Inner>,
    prefix: &str,
) -> impl Iterator<Item = Result<Unfinished>> + Send + use<> {
    let options = ListOptions { prefix: prefix.to_owned(), ..ListOptions::default() };
    let mut walk = Walk::new(store, options, Wanted::Temporary);
    std::iter::from_fn(move || walk.next_unfinished())
}

impl Walk {
    fn new(store: Arc<Inner>, options: ListOptions, wanted: Wanted) -> Self {
        let mut walk = Self { store, options, wanted, levels: Vec::new(), fault: None };
        walk.fault = walk.enter_prefix().err();
        walk
    }

    /// Opens the folder in which everything that begins with the prefix is.
    fn enter_prefix(&mut self) -> Result<()> {
        let folder = self.options.prefix.rfind('/').map_or("", |end| &self.options.prefix[..end]).to_owned();
        if !folder.is_empty() {
            super::check_key(&folder).map_err(|error| error.at(self.store.path(&folder)))?;
        } else if self.options.prefix.starts_with('/') {
            return Err(Error::input("begins with a slash, which no key does").about(&*self.options.prefix));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        match self.store.folders.open(&folder, flags) {
            Ok(fd) => self.enter(fd, if folder.is_empty() { folder } else { folder + "/" }),
            Err(Errno::NOENT | Errno::NOTDIR) => match self.store.leads_through_symlink(&folder) {
                true => Err(fault::symlink(&self.store.path(&folder))),
                false => Ok(()),
            },
            Err(error) => Err(failed("cannot open the folder", error, &self.store.path(&folder))),
        }
    }

    fn enter(&mut self, fd: OwnedFd, prefix: String) -> Result<()> {
        let names = self.read_names(&fd, &prefix).map_err(|error| {
            failed("cannot read the folder", error, &self.store.path(prefix.trim_end_matches('/')))
        })?;
        self.levels.push(Level { fd, prefix, names });
        Ok(())
    }

    /// The names in a folder that may lead to something that is asked for.
    fn read_names(&self, folder: &OwnedFd, prefix: &str) -> Result<Names, Errno> {
        let must_begin = self.options.prefix.as_bytes().get(prefix.len()..).unwrap_or_default();
        let after = self.options.after.as_deref().unwrap_or_default();
        // What a name in this folder must be greater than.
        let after = match after.strip_prefix(prefix) {
            Some(rest) => rest.as_bytes(),
            None if prefix > after => &[],
            None => return Ok(Names::default()),
        };
        let mut names = Names::default();
        let mut entry_name = Vec::new();
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." || !name.starts_with(must_begin) {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => {
                    match rustix::fs::statat(folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                        Ok(found) => stamp::kind(&found),
                        Err(Errno::NOENT) => continue,
                        Err(_) => FileType::Unknown,
                    }
                }
                kind => kind,
            };
            let is_folder = kind == FileType::Directory;
            if !is_folder && is_temporary(name) != (self.wanted == Wanted::Temporary) {
                continue;
            }
            entry_name.clear();
            entry_name.extend_from_slice(name);
            if is_folder {
                entry_name.push(b'/');
            }
            if *entry_name > *after || (is_folder && after.starts_with(&entry_name)) {
                names.push(&entry_name)?;
            }
        }
        names.sort();
        Ok(names)
    }

    fn next_object(&mut self) -> Option<Result<Listed>> {
        loop {
            if let Some(fault) = self.fault.take() {
                return Some(Err(fault));
            }
            let level = self.levels.last_mut()?;
            let Some(name) = level.names.next() else {
                self.levels.pop();
                continue;
            };
            let found = match name {
                Ok(name) if name.ends_with('/') => self.folder(&name),
                Ok(name) => self.object(&name),
                Err(name) => Err(self.not_utf8(&name)),
            };
            match found {
                Ok(None) => {}
                Ok(Some(listed)) => return Some(Ok(listed)),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    fn next_unfinished(&mut self) -> Option<Result<Unfinished>> {
        loop {
            if let Some(fault) = self.fault.take() {
                return Some(Err(fault));
            }
            let Some(name) = self.levels.last_mut()?.names.next() else {
                self.levels.pop();
                continue;
            };
            // Folders whose names are not UTF-8 are not of this store.
            let Ok(name) = name else { continue };
            let found = match name.ends_with('/') {
                true => self.folder(&name).map(|_| None),
                false => self.temporary(&name),
            };
            match found {
                Ok(None) => {}
                Ok(Some(unfinished)) => return Some(Ok(unfinished)),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Goes into a folder, or lists it where only folders are asked for.
    fn folder(&mut self, name: &str) -> Result<Option<Listed>> {
        let Some(level) = self.levels.last() else { return Ok(None) };
        let key = format!("{}{name}", level.prefix);
        let bare = name.trim_end_matches('/');
        let fd = match open_folder(&level.fd, bare, OFlags::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => {
                return Err(failed(
                    "cannot open the folder",
                    error,
                    &self.store.path(key.trim_end_matches('/')),
                ));
            }
        };
        if self.options.delimiter {
            return Ok(self.holds_anything(fd, key.clone())?.then_some(Listed::Folder(key)));
        }
        self.enter(fd, key)?;
        Ok(None)
    }

    /// Whether a folder holds a key that would be listed, or anything that cannot be.
    fn holds_anything(&self, fd: OwnedFd, prefix: String) -> Result<bool> {
        if self.options.after.as_ref().is_none_or(|after| *after < prefix) && holds_file(&fd) {
            return Ok(true);
        }
        let options = ListOptions { delimiter: false, ..self.options.clone() };
        let mut below = Self {
            store: Arc::clone(&self.store),
            options,
            wanted: self.wanted,
            levels: Vec::new(),
            fault: None,
        };
        below.enter(fd, prefix)?;
        Ok(below.next_object().is_some())
    }

    fn object(&self, name: &str) -> Result<Option<Listed>> {
        let Some(level) = self.levels.last() else { return Ok(None) };
        let key = format!("{}{name}", level.prefix);
        match rustix::fs::statat(&level.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => match stamp::kind(&found) {
                FileType::RegularFile => Ok(Some(Listed::Object(stamp::object(key, &found)))),
                FileType::Symlink => Err(fault::symlink(&self.store.path(&key)).of_kind(ErrorKind::Foreign)),
                _ => Err(fault::special(&self.store.path(&key)).of_kind(ErrorKind::Foreign)),
            },
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(failed("cannot read", error, &self.store.path(&key))),
        }
    }

    fn temporary(&self, name: &str) -> Result<Option<Unfinished>> {
        let Some(level) = self.levels.last() else { return Ok(None) };
        let key = format!("{}{name}", level.prefix);
        match rustix::fs::statat(&level.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => {
                let id = self.store.path(&key).display().to_string();
                Ok(Some(Unfinished { key, id, started: stamp::modified(&found) }))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(failed("cannot read", error, &self.store.path(&key))),
        }
    }

    fn not_utf8(&self, name: &[u8]) -> Error {
        let prefix = self.levels.last().map_or("", |level| level.prefix.as_str());
        let path: PathBuf = self.store.path(prefix).join(String::from_utf8_lossy(name).trim_end_matches('/'));
        Error::new(ErrorKind::Input, "its name is not UTF-8, so it is no object of this store").at(path)
    }
}

/// Whether there is a plain file, found without reading all names: most folders begin with one.
fn holds_file(folder: &OwnedFd) -> bool {
    Dir::read_from(folder).into_iter().flatten().map_while(Result::ok).any(|entry| {
        entry.file_type() == FileType::RegularFile && !is_temporary(entry.file_name().to_bytes())
    })
}

fn is_temporary(name: &[u8]) -> bool {
    use std::os::unix::ffi::OsStrExt as _;

    is_temporary_name(std::ffi::OsStr::from_bytes(name))
}

impl Names {
    pub(super) fn push(&mut self, name: &[u8]) -> Result<(), Errno> {
        let begin = u32::try_from(self.bytes.len()).map_err(|_| Errno::OVERFLOW)?;
        self.bytes.extend_from_slice(name);
        let end = u32::try_from(self.bytes.len()).map_err(|_| Errno::OVERFLOW)?;
        self.spans.push((begin, end));
        Ok(())
    }

    pub(super) fn sort(&mut self) {
        let bytes = &self.bytes;
        self.spans.sort_unstable_by(|a, b| slice(bytes, *b).cmp(slice(bytes, *a)));
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.capacity() + self.spans.capacity() * size_of::<(u32, u32)>()
    }

    /// The next name; its bytes where they are not UTF-8.
    pub(super) fn next(&mut self) -> Option<Result<String, Vec<u8>>> {
        let name = slice(&self.bytes, self.spans.pop()?).to_vec();
        Some(String::from_utf8(name).map_err(|error| error.into_bytes()))
    }
}

fn slice(bytes: &[u8], (begin, end): (u32, u32)) -> &[u8] {
    bytes.get(begin as usize..end as usize).unwrap_or_default()
}
