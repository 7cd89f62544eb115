//! Making the disk catch up: what a file system needs until what was written survives a power cut.

use std::os::fd::AsFd;

use rustix::io::Errno;

/// From so many files of one file system on, one sync of all of it is cheaper than one each.
const MANY: usize = 4;

/// How the file system of a folder is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    /// It keeps nothing on a disk.
    Memory,
    /// One call syncs all files of the file system, and says when that failed.
    Whole,
    /// Each file by itself.
    Files,
    /// One that fails, for tests.
    #[cfg(test)]
    Broken(Broken),
}

/// What fails.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Every sync of contents.
    Data,
    /// Syncs of the whole file system, not of single files.
    Whole,
    /// Every sync of a folder.
    Folders,
}

impl Disk {
    /// Syncs one file, its mode and times too.
    pub(crate) fn sync_file(self, file: impl AsFd) -> Result<(), Errno> {
        match self {
            Self::Memory => Ok(()),
            #[cfg(test)]
            Self::Broken(Broken::Data) => Err(Errno::IO),
            _ => rustix::fs::fsync(file),
        }
    }

    /// Syncs the contents of all files of the file system that `file` is in. `file` must have been open before any of
    /// those whose errors it is to report were written.
    pub(crate) fn sync_all_files(self, file: impl AsFd) -> Result<(), Errno> {
        match self {
            Self::Memory => Ok(()),
            #[cfg(test)]
            Self::Broken(Broken::Data | Broken::Whole) => Err(Errno::IO),
            _ => sync_file_system(file),
        }
    }

    /// Whether so many files are synced by [`Self::sync_all_files`] rather than one by one.
    pub(crate) fn is_for_all(self, files: usize) -> bool {
        files >= MANY && self != Self::Files
    }

    /// Syncs the names in a folder. Odd file systems cannot, and need not.
    pub(crate) fn sync_folder(self, folder: impl AsFd) -> Result<(), Errno> {
        match self {
            Self::Memory => return Ok(()),
            #[cfg(test)]
            Self::Broken(Broken::Folders) => return Err(Errno::IO),
            _ => {}
        }
        match rustix::fs::fsync(folder) {
            Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS) => Ok(()),
            // A folder that may be written but not read is open without the right to sync it.
            Err(Errno::BADF) => {
                rustix::fs::sync();
                Ok(())
            }
            done => done,
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::os::fd::AsFd;
    use std::sync::OnceLock;

    use rustix::io::Errno;

    use super::Disk;

    const TMPFS: u32 = 0x0102_1994;
    const RAMFS: u32 = 0x8584_58f6;
    /// Those known to flush the disk's own cache in one `syncfs`: ext2 to 4, xfs, btrfs, f2fs.
    const WHOLE: [u32; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010];

    impl Disk {
        pub(crate) fn of(file: impl AsFd) -> Self {
            // Magic numbers are 32 bits; the field is signed and wider on some machines.
            match rustix::fs::fstatfs(file).map(|found| found.f_type as u32) {
                Ok(TMPFS | RAMFS) => Self::Memory,
                Ok(magic) if WHOLE.contains(&magic) && syncfs_reports_errors() => Self::Whole,
                _ => Self::Files,
            }
        }
    }

    pub(super) fn sync_file_system(file: impl AsFd) -> Result<(), Errno> {
        rustix::fs::syncfs(file)
    }

    /// Linux 5.8 was the first whose `syncfs` says that something could not be written.
    fn syncfs_reports_errors() -> bool {
        static KNOWN: OnceLock<bool> = OnceLock::new();
        *KNOWN.get_or_init(|| reports_errors(rustix::system::uname().release().to_str().unwrap_or_default()))
    }

    fn reports_errors(release: &str) -> bool {
        let mut numbers =
            release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
        let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        version >= (5, 8)
    }

    #[cfg(test)]
    #[test]
    fn kernels_are_told_apart() {
        for (release, expected) in [
            ("5.8.0", true),
            ("5.10.0-8-amd64", true),
            ("6.18.44-fc-v657", true),
            ("5.7.19", false),
            ("4.19.0", false),
            ("", false),
            ("strange", false),
        ] {
            assert_eq!(reports_errors(release), expected, "{release}");
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Disk {
    pub(crate) fn of(_: impl AsFd) -> Self {
        Self::Files
    }
}

#[cfg(target_os = "linux")]
use linux::sync_file_system;

#[cfg(not(target_os = "linux"))]
use rustix::fs::fsync as sync_file_system;
