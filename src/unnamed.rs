//! Files that have no name at all until they are whole (`O_TMPFILE`): the system removes them when the process ends, by
//! `kill -9` too.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

/// Opens one on the disk of a folder. Nothing where that has none, or when anything else is in the way: who makes a file with a
/// name then learns what it is.
#[cfg(target_os = "linux")]
pub(crate) fn open(folder: &Path, mode: u32) -> Option<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, folder, flags, Mode::from_raw_mode(mode)).ok().map(File::from)
}

/// Gives it its name, unless something has that.
#[cfg(target_os = "linux")]
pub(crate) fn link(file: &File, to: &Path) -> Result<(), Errno> {
    // Until Linux 6.10 only a privileged process may name a descriptor itself.
    static BY_DESCRIPTOR: AtomicBool = AtomicBool::new(true);
    if BY_DESCRIPTOR.load(Ordering::Relaxed) {
        match rustix::fs::linkat(file.as_fd(), "", CWD, to, AtFlags::EMPTY_PATH) {
            Err(Errno::NOENT) => {}
            done => return done,
        }
    }
    link_by_path(file, to)?;
    BY_DESCRIPTOR.store(false, Ordering::Relaxed);
    Ok(())
}

#[cfg(target_os = "linux")]
fn link_by_path(file: &File, to: &Path) -> Result<(), Errno> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, path, CWD, to, AtFlags::SYMLINK_FOLLOW)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn open(_folder: &Path, _mode: u32) -> Option<File> {
    None
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn link(_file: &File, _to: &Path) -> Result<(), Errno> {
    Err(Errno::NOSYS)
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn both_ways_give_a_name_that_nothing_has() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["one", "two"] {
            let way = if name == "one" { link } else { link_by_path };
            let Some(mut file) = open(dir.path(), 0o600) else {
                println!("no files without names in {}", dir.path().display());
                return;
            };
            file.write_all(b"whole").unwrap();
            assert!(dir.path().read_dir().unwrap().all(|entry| entry.unwrap().file_name() == "one"));
            let path = dir.path().join(name);
            way(&file, &path).unwrap();
            assert_eq!(way(&file, &path), Err(Errno::EXIST));
            assert_eq!(way(&file, &dir.path().join("none/x")), Err(Errno::NOENT));
            assert_eq!(std::fs::read(&path).unwrap(), b"whole");
            assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
        }
    }
}
