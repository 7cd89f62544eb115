//! What of a folder of this machine is gone on the other side, and what that has the place of.

use std::collections::BTreeSet;

use super::plan::Key;

/// What is to be removed.
#[derive(Debug, Default)]
pub(super) struct Gone {
    /// A file where a folder is needed, or a folder where a file is, and what is in it.
    pub(super) in_the_way: BTreeSet<Key>,
    /// All else.
    pub(super) other: BTreeSet<Key>,
}

impl Gone {
    /// Whether something can come only when something that is in the way has gone.
    pub(super) fn blocks(&self, key: &Key) -> bool {
        let own = key.is_folder().then_some(key.0.as_slice());
        let is_file = |folder: &[u8]| {
            folder.split_last().is_some_and(|(_, file)| self.in_the_way.contains(&Key(file.to_vec())))
        };
        let folder = Key([key.0.as_slice(), &[0]].concat());
        let next = self.in_the_way.range(&folder..).next();
        next.is_some_and(|next| next.0.starts_with(&folder.0)) || key.folders().chain(own).any(is_file)
    }

    /// Whether what has this name in a folder that is in the way goes with it.
    pub(super) fn takes(&self, folder: &Key, name: &[u8]) -> bool {
        let file = [folder.0.as_slice(), name].concat();
        let below = [file.as_slice(), &[0]].concat();
        self.in_the_way.contains(&Key(file)) || self.in_the_way.contains(&Key(below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &str) -> Key {
        Key(path.replace('/', "\0").into_bytes())
    }

    #[test]
    fn what_is_in_the_way_blocks_what_has_its_place_and_nothing_else() {
        let in_the_way = ["file", "folder/", "folder/a", "folder/sub/", "folder/sub/b"].map(key).into();
        let gone = Gone { in_the_way, other: BTreeSet::from([key("other/"), key("more")]) };
        for (path, blocked) in [
            ("file/", true),
            ("file/x", true),
            ("file/x/y", true),
            ("folder", true),
            ("folder/sub", true),
            ("folder/c", false),
            ("file.x", false),
            ("files/x", false),
            ("folde", false),
            ("folder.x", false),
            ("other", false),
            ("more/x", false),
            ("/", false),
        ] {
            assert_eq!(gone.blocks(&key(path)), blocked, "{path}");
        }
        assert!(gone.takes(&key("folder/"), b"a") && gone.takes(&key("folder/"), b"sub"));
        assert!(!gone.takes(&key("folder/"), b"b") && !Gone::default().blocks(&key("file/")));
    }
}
