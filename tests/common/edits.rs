//! Random edits of a tree, for the models of `sync`.
#![allow(clippy::disallowed_methods, reason = "tests write files of their own")]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::common::noise;

/// Numbers that look random, the same ones for the same seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides
    }
}

const NAMES: [&[u8]; 12] = [
    b"a",
    b"b",
    b"a.enc",
    b"x.key",
    b".folder",
    b"%b64~",
    b"\xff\xfe",
    b"two words\n",
    "\u{e9}".as_bytes(),
    b"c~",
    b"e\xcc\x81",
    b"-f",
];

/// One random edit of a tree.
pub(crate) fn edit(root: &Path, dice: &mut Dice) {
    let mut path = root.to_owned();
    for _ in 0..=dice.roll(3) {
        path.push(OsStr::from_bytes(NAMES[dice.roll(NAMES.len())]));
    }
    // In an order of their own, so that a seed means the same edits on each file system.
    let all: Vec<PathBuf> = walkdir::WalkDir::new(root)
        .min_depth(1)
        .sort_by_file_name()
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .collect();
    let old = if all.is_empty() { root.join("nothing") } else { all[dice.roll(all.len())].clone() };
    let _ = match dice.roll(12) {
        0..=3 => {
            let _ = std::fs::create_dir_all(path.parent().unwrap());
            std::fs::write(&path, noise(dice.roll(3000), dice.0))
        }
        4 => std::fs::read(&old).and_then(|bytes| std::fs::write(&old, [&bytes[..], b"more"].concat())),
        5 => std::fs::read(&old).and_then(|bytes| std::fs::write(&old, &bytes[..bytes.len() / 2])),
        6 => {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(dice.roll(1 << 30) as u64);
            std::fs::File::open(&old).and_then(|file| file.set_modified(time))
        }
        7 => {
            let _ = std::fs::create_dir_all(path.parent().unwrap());
            std::fs::rename(&old, &path)
        }
        8 if !old.is_symlink() => {
            std::fs::set_permissions(&old, PermissionsExt::from_mode(0o700 | dice.roll(0o100) as u32))
        }
        9 => {
            let _ = std::fs::create_dir_all(path.parent().unwrap());
            symlink(OsStr::from_bytes(NAMES[dice.roll(NAMES.len())]), &path)
        }
        10 if old.is_dir() && !old.is_symlink() => std::fs::remove_dir_all(&old),
        10 => std::fs::remove_file(&old),
        // Another type under the same name.
        11 if old.is_dir() && !old.is_symlink() => {
            std::fs::remove_dir_all(&old).and_then(|()| std::fs::write(&old, "was a folder"))
        }
        11 => std::fs::remove_file(&old).and_then(|()| std::fs::create_dir(&old)),
        _ => std::fs::create_dir_all(&path),
    };
}
