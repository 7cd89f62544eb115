//! A folder of this machine as a store: a disk, a stick, a mount.
//!
//! Keys are paths below the folder. A file is written under a temporary name, read back, synced, renamed, and its
//! folder synced, many files together where many are put at the same time. No symlink below the folder is followed.
//! Files are 0600 and folders 0700; a folder that became empty by a delete is removed.

mod counters;
mod examine;
mod fault;
mod folder;
mod group;
mod list;
mod stamp;
#[cfg(test)]
mod tests;
mod write;

use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

pub use counters::SyncCounts;

use self::counters::Counters;
use self::fault::failed;
use self::folder::{Folder, Folders};
use self::group::{Change, Group, Unchanged, Unwanted};
use self::write::LocalUpload;
use super::facts::Facts;
use super::{
    Body, Capabilities, Conditions, Download, GetOptions, ListOptions, Listed, Object, PutOptions, Store,
    Unfinished, Upload, VersionId, Written,
};
use crate::temporary::is_temporary_name;
use crate::{Error, ErrorKind, IoContext as _, Result};

/// A part of an upload, and of a copy.
const PART: u64 = 8 << 20;

/// A folder of this machine. Clones share what they hold open.
#[derive(Clone, Debug)]
pub struct LocalStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    folders: Folders,
    group: Group,
    counters: Counters,
    opened: AtomicU64,
    has_locks: bool,
    longest_name: usize,
}

/// A key, apart.
#[derive(Debug)]
struct Named<'k> {
    folder: &'k str,
    name: &'k str,
    path: PathBuf,
}

impl LocalStore {
    /// The store in an existing folder.
    ///
    /// # Errors
    /// `NotFound`, `Usage` when it is no folder, or what the operating system says.
    pub fn open(root: &Path) -> Result<Self> {
        let folder = Folder::root(root).map_err(|error| match error {
            Errno::NOENT => Error::not_found("there is no such folder")
                .at(root)
                .hint("make it first, or check the spelling"),
            Errno::NOTDIR => Error::usage("is not a folder").at(root),
            error => failed("cannot open the folder", error, root),
        })?;
        let has_locks = folder.has_locks();
        Ok(Self { inner: Arc::new(Inner::new(root, Folders::new(folder), has_locks)) })
    }

    /// The store in a folder that is made where it is missing, with those above it.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn create(root: &Path) -> Result<Self> {
        match rustix::fs::mkdir(root, Mode::RWXU) {
            Err(Errno::NOENT) => {
                if let Some(above) = root.parent().filter(|above| !above.as_os_str().is_empty()) {
                    Self::create(above)?;
                }
                rustix::fs::mkdir(root, Mode::RWXU)
                    .or_else(|error| if error == Errno::EXIST { Ok(()) } else { Err(error) })
                    .map_err(|error| failed("cannot make the folder", error, root))?;
                sync_above(root)?;
            }
            Ok(()) => sync_above(root)?,
            Err(Errno::EXIST) => {}
            // Where nothing can be made, what exists can be used.
            Err(error) => {
                return Self::open(root).map_err(|_| failed("cannot make the folder", error, root));
            }
        }
        Self::open(root)
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// How often the disk had to catch up since this store was opened.
    pub fn sync_counts(&self) -> SyncCounts {
        self.inner.counters.read()
    }
}

/// Makes the name of a new folder survive a power cut.
fn sync_above(folder: &Path) -> Result<()> {
    let above = folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match Folder::root(above) {
        Ok(open) => Counters::default()
            .folder(open.disk(), open.fd())
            .map_err(|error| failed("cannot write the folder to the disk", error, above)),
        Err(error) => Err(failed("cannot open the folder", error, above)),
    }
}

#[async_trait]
impl Store for LocalStore {
    fn show(&self, key: &str) -> String {
        self.inner.path(key).display().to_string()
    }

    async fn capabilities(&self) -> Result<Capabilities> {
        Ok(Capabilities {
            versions: false,
            info: false,
            info_in_list: false,
            customer_keys: false,
            parallel_parts: false,
            min_part: 1,
            max_part: 1 << 30,
            max_parts: u32::MAX,
            concurrency: 64,
            remote: false,
        })
    }

    async fn conditions(&self) -> Result<Conditions> {
        let has_locks = self.inner.has_locks;
        Ok(Conditions { create_new: true, replace_if: has_locks, delete_if: has_locks })
    }

    async fn facts(&self, prefix: &str) -> Result<Facts> {
        let _ = prefix;
        self.examine()
    }

    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<Written> {
        self.inner.write(key, &body, options).await
    }

    async fn upload(&self, key: &str, options: &PutOptions) -> Result<Box<dyn Upload>> {
        Ok(Box::new(LocalUpload::begin(&self.inner, key, options)?))
    }

    async fn get(&self, key: &str, options: &GetOptions) -> Result<Download> {
        let (file, object) = self.inner.open(key, options.version.as_ref())?;
        let range = options.range.clone().unwrap_or(0..object.size);
        let Range { start, end } = range.start.min(object.size)..range.end.min(object.size);
        let mut file = File::from(file);
        if start > 0 {
            file.seek(SeekFrom::Start(start)).context("cannot read", self.inner.path(key))?;
        }
        Ok(Download { object, body: Body::File(file, end.saturating_sub(start)) })
    }

    async fn stat(&self, key: &str, version: Option<&VersionId>) -> Result<Object> {
        self.inner.stat(key, version)
    }

    fn list(&self, options: ListOptions) -> BoxStream<'_, Result<Listed>> {
        stream::iter(list::objects(Arc::clone(&self.inner), options)).boxed()
    }

    async fn delete(&self, key: &str, version: &VersionId) -> Result<()> {
        self.inner.remove(key, version).await
    }

    async fn hide(&self, key: &str) -> Result<VersionId> {
        Err(Error::new(ErrorKind::Refused, "a folder keeps no versions, so nothing can be hidden")
            .at(self.inner.path(key)))
    }

    async fn copy(
        &self,
        from: &str,
        version: Option<&VersionId>,
        to: &str,
        options: &PutOptions,
    ) -> Result<Written> {
        let (file, object) = self.inner.open(from, version)?;
        let read = |at: u64| {
            read_part(&file, at, object.size)
                .map_err(|error| failed("cannot read", error, &self.inner.path(from)))
        };
        if object.size <= PART {
            return self.inner.write(to, &read(0)?, options).await;
        }
        let upload = LocalUpload::begin(&self.inner, to, options)?;
        let mut number = 0;
        for at in (0..object.size).step_by(PART as usize) {
            number += 1;
            upload.part(number, read(at)?.into()).await?;
        }
        upload.complete(number).await
    }

    fn check_key(&self, key: &str) -> Result<()> {
        self.inner.named(key).map(drop)
    }

    fn unfinished(&self, prefix: &str) -> BoxStream<'_, Result<Unfinished>> {
        stream::iter(list::unfinished(Arc::clone(&self.inner), prefix)).boxed()
    }

    async fn abort(&self, unfinished: &Unfinished) -> Result<()> {
        self.inner.remove_temporary(&unfinished.key)
    }
}

impl Inner {
    fn new(root: &Path, folders: Folders, has_locks: bool) -> Self {
        let longest_name =
            rustix::fs::fstatvfs(folders.root().fd()).map_or(0, |found| found.f_namemax as usize);
        Self {
            root: root.to_owned(),
            has_locks,
            folders,
            group: Group::default(),
            counters: Counters::default(),
            opened: AtomicU64::new(0),
            longest_name: if longest_name == 0 { 255 } else { longest_name },
        }
    }

    fn path(&self, key: &str) -> PathBuf {
        if key.is_empty() { self.root.clone() } else { self.root.join(key.trim_start_matches('/')) }
    }

    /// Takes a key apart that something is to be written to.
    fn named<'k>(&self, key: &'k str) -> Result<Named<'k>> {
        let path = self.path(key);
        check_key(key).map_err(|error| error.at(&path))?;
        let (folder, name) = key.rsplit_once('/').unwrap_or(("", key));
        if is_temporary_name(name.as_ref()) {
            return Err(Error::input("has a name that only unfinished files have").at(path));
        }
        if let Some(long) = key.split('/').find(|segment| segment.len() > self.longest_name) {
            return Err(Error::input(format!(
                "a name of {} bytes is too long: {} are possible there",
                long.len(),
                self.longest_name
            ))
            .at(path)
            .hint(
                "shorten the name; .enc and .<16 hex digits>.key.enc are added to it, so that 230 bytes of its own fit \
                 into 255",
            ));
        }
        Ok(Named { folder, name, path })
    }

    fn next_order(&self) -> u64 {
        self.opened.fetch_add(1, Ordering::SeqCst)
    }

    fn stat(&self, key: &str, version: Option<&VersionId>) -> Result<Object> {
        #[cfg(target_os = "linux")]
        let flags = OFlags::PATH;
        #[cfg(not(target_os = "linux"))]
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        self.look(key, version, flags).map(|(_, object)| object)
    }

    fn open(&self, key: &str, version: Option<&VersionId>) -> Result<(OwnedFd, Object)> {
        self.look(key, version, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
    }

    fn look(&self, key: &str, version: Option<&VersionId>, flags: OFlags) -> Result<(OwnedFd, Object)> {
        let path = self.path(key);
        check_key(key).map_err(|error| error.at(&path))?;
        let (_, name) = key.rsplit_once('/').unwrap_or(("", key));
        if is_temporary_name(name.as_ref()) {
            return Err(fault::nothing(&path));
        }
        let file = self.folders.open(key, flags).map_err(|error| match error {
            Errno::NOTDIR if self.leads_through_symlink(key) => fault::symlink(&path),
            Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG => fault::nothing(&path),
            error => failed("cannot open the file", error, &path),
        })?;
        let found = rustix::fs::fstat(&file).map_err(|error| failed("cannot read", error, &path))?;
        match stamp::kind(&found) {
            FileType::RegularFile => {}
            FileType::Directory => return Err(fault::nothing(&path)),
            FileType::Symlink => return Err(fault::symlink(&path)),
            _ => return Err(fault::special(&path)),
        }
        let object = stamp::object(key.to_owned(), &found);
        match version {
            Some(version) if *version != object.version => {
                Err(Error::not_found("there is no such version of it").at(&path))
            }
            _ => Ok((file, object)),
        }
    }

    /// Whether any segment on the way to `key` is a symlink now: for messages.
    fn leads_through_symlink(&self, key: &str) -> bool {
        let is_symlink = |found: Stat| stamp::kind(&found) == FileType::Symlink;
        let ends = key.match_indices('/').map(|(end, _)| end).chain([key.len()]);
        let mut ways = ends
            .map(|end| rustix::fs::statat(self.folders.root().fd(), &key[..end], AtFlags::SYMLINK_NOFOLLOW));
        ways.any(|way| way.is_ok_and(is_symlink))
    }

    /// Deletes a file if it is still this one.
    async fn remove(&self, key: &str, version: &VersionId) -> Result<()> {
        let named = self.named(key)?;
        for _ in 0..3 {
            let Some(folder) = self.folder_there(&named)? else { return Ok(()) };
            let unwanted = Unwanted {
                folder: Arc::clone(&folder),
                name: named.name.to_owned(),
                path: named.path.clone(),
                version: version.clone(),
            };
            match self.group.change(Change::Remove(unwanted), &self.counters).await {
                Err(Unchanged::Moved) => self.folders.forget(),
                removed => {
                    removed?;
                    self.remove_empty(&folder);
                    return Ok(());
                }
            }
        }
        Err(fault::moved().at(&named.path))
    }

    /// The folder of a key, if there is one now.
    fn folder_there(&self, named: &Named<'_>) -> Result<Option<Arc<Folder>>> {
        let mut found = self.folders.folder(named.folder, false);
        if found.is_err() {
            // What is held open may not be what is there now.
            self.folders.forget();
            found = self.folders.folder(named.folder, false);
        }
        match found {
            Ok(folder) => Ok(Some(folder)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(Errno::LOOP) => Err(fault::symlink_above(&named.path)),
            Err(error) => Err(failed("cannot open its folder", error, &named.path)),
        }
    }

    /// Removes a folder that is empty, and then those above it, as far as that goes. Never the root.
    fn remove_empty(&self, folder: &Arc<Folder>) {
        let mut folder = folder;
        while let Some((parent, name)) = folder.parent() {
            if rustix::fs::unlinkat(parent.fd(), name, AtFlags::REMOVEDIR).is_err() {
                return;
            }
            self.folders.forget();
            folder = parent;
        }
    }

    fn remove_temporary(&self, key: &str) -> Result<()> {
        let path = self.path(key);
        check_key(key).map_err(|error| error.at(&path))?;
        let (folder, name) = key.rsplit_once('/').unwrap_or(("", key));
        if !is_temporary_name(name.as_ref()) {
            return Err(Error::input("is not the name of an unfinished file").at(path));
        }
        let folder = match self.folders.open(folder, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(folder) => folder,
            Err(Errno::NOTDIR) if self.leads_through_symlink(folder) => {
                return Err(fault::symlink_above(&path));
            }
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(error) => return Err(failed("cannot open its folder", error, &path)),
        };
        match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failed("cannot remove the file", error, &path)),
        }
    }
}

/// Whether a key is one: segments that lead nowhere else, with `/` between.
fn check_key(key: &str) -> Result<()> {
    let wrong = |why: &str| Err(Error::input(format!("is not the name of an object: {why}")));
    if key.contains('\0') {
        return wrong("it holds a NUL");
    }
    for segment in key.split('/') {
        match segment {
            "" => return wrong("a segment is empty"),
            "." | ".." => return wrong("a segment leads elsewhere"),
            _ => {}
        }
    }
    Ok(())
}

/// The bytes of a part that begins at `at`.
fn read_part(file: &OwnedFd, at: u64, size: u64) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; PART.min(size - at) as usize];
    match write::read_exact(file, at, &mut bytes)? {
        true => Ok(bytes),
        false => Err(Errno::IO),
    }
}
