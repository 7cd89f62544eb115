//! What has to be done so that one side becomes the other: a pure function over two streams in the order of their keys.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::iter::Peekable;

use crate::format::FileType;
use crate::vault::Info;
use crate::{DataId, Result};

/// A plain path below the root of what is synchronised. Its order is that of a walk: `a`, what is in `a/`, then `a.b`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key(pub(super) Vec<u8>);

impl Key {
    /// Of a file or link, or of what is kept of a folder itself. Segments are divided by what no name holds; a folder
    /// ends in it, so that a file and a folder of one name have two keys.
    pub(super) fn new(segments: &[Vec<u8>], is_folder: bool) -> Self {
        let mut key = segments.join(&0);
        if is_folder {
            key.push(0);
        }
        Self(key)
    }

    pub(super) fn is_folder(&self) -> bool {
        self.0.last() == Some(&0)
    }

    pub(super) fn segments(&self) -> Vec<Vec<u8>> {
        let path = self.0.strip_suffix(&[0]).unwrap_or(&self.0);
        match path.is_empty() {
            true => vec![],
            false => path.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect(),
        }
    }

    /// The path as people write it.
    pub(super) fn show(&self) -> String {
        let mut shown = String::from_utf8_lossy(&self.segments().join(&b'/')).into_owned();
        if self.is_folder() {
            shown.push('/');
        }
        shown
    }

    /// The keys of the folders that it is in, the outermost first.
    pub(super) fn folders(&self) -> impl Iterator<Item = &[u8]> {
        let own = self.0.strip_suffix(&[0]).unwrap_or(&self.0);
        own.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(at, _)| &self.0[..=at])
    }
}

/// What a file, link or folder was when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) kind: FileType,
    pub(super) size: u64,
    /// Nanoseconds since 1970.
    pub(super) mtime: i64,
    pub(super) inode: u64,
    pub(super) mode: u32,
    /// The version of what is no file of this machine.
    pub(super) tag: String,
}

/// The inode of what was never seen on this machine: file systems count from 1.
const NO_INODE: u64 = 0;

/// A version of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) version: String,
    pub(super) size: u64,
}

/// What is remembered of something that both sides had alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) facts: Facts,
    pub(super) digest: Option<[u8; 32]>,
    pub(super) data_id: Option<DataId>,
    /// Whether it was changed so shortly before it was read that a later change may not show in its time.
    pub(super) racy: bool,
}

impl Known {
    /// What an info record says, which knows nothing of this machine; nothing where it does not say enough to compare.
    pub(super) fn learned(data_id: DataId, info: &Info) -> Option<Self> {
        let (size, mode) = match info.kind {
            FileType::File => (info.size?, info.mode?),
            FileType::Dir => (0, info.mode?),
            FileType::Symlink => (info.size?, 0),
        };
        let mtime = i64::try_from(info.mtime?).ok()?;
        let facts = Facts { kind: info.kind, size, mtime, inode: NO_INODE, mode, tag: String::new() };
        Some(Self { facts, digest: info.digest, data_id: Some(data_id), racy: false })
    }

    /// Whether it is what an info record says.
    pub(super) fn is_learned(&self) -> bool {
        self.facts.inode == NO_INODE && self.facts.tag.is_empty()
    }
}

/// Something on the side that is looked at file by file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Here {
    pub(super) key: Key,
    pub(super) facts: Facts,
}

/// Something in the location that is listed, with what is known of exactly this version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct There {
    pub(super) key: Key,
    pub(super) stored: Stored,
    pub(super) known: Option<Known>,
}

/// How changes are noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compare {
    /// By size and time.
    #[default]
    SizeMtime,
    /// By the digest of the contents; other times alone are no change.
    Digest,
}

/// How something differs from what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Differs {
    /// Nothing is known of what is there.
    Unknown,
    /// Another type, size or time.
    Contents,
    /// The contents have to be read to know.
    Perhaps,
    /// The mode, or of a folder its time.
    Metadata,
    /// In nothing that its info record says: which file of this machine it is has to be remembered.
    Learned,
}

/// One finding; what is alike on both sides gives none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    OnlyHere(Here),
    OnlyThere(There),
    Differs(Here, There, Differs),
}

/// Compares two streams, each in the order of its keys, in one pass.
pub(super) fn compare<H, T>(here: H, there: T, how: Compare) -> Comparing<H, T>
where
    H: Iterator<Item = Here>,
    T: Iterator<Item = Result<There>>,
{
    Comparing { here: here.peekable(), there: there.peekable(), how, same: 0 }
}

/// The findings, in the order of their keys.
pub(super) struct Comparing<H: Iterator<Item = Here>, T: Iterator<Item = Result<There>>> {
    here: Peekable<H>,
    there: Peekable<T>,
    how: Compare,
    /// How many were alike so far.
    pub(super) same: u64,
}

impl<H: Iterator<Item = Here>, T: Iterator<Item = Result<There>>> Iterator for Comparing<H, T> {
    type Item = Result<Finding>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let order = match (self.here.peek(), self.there.peek()) {
                (_, Some(Err(_))) | (None, Some(_)) => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
                (Some(here), Some(Ok(there))) => here.key.cmp(&there.key),
                (None, None) => return None,
            };
            match order {
                Ordering::Less => return self.here.next().map(|here| Ok(Finding::OnlyHere(here))),
                Ordering::Greater => return self.there.next().map(|there| there.map(Finding::OnlyThere)),
                Ordering::Equal => {}
            }
            let (here, there) = (self.here.next()?, self.there.next()?);
            let differs = match &there {
                Ok(there) => judge(&here.facts, there.known.as_ref(), self.how),
                Err(_) => None,
            };
            match (there, differs) {
                (Ok(there), Some(differs)) => return Some(Ok(Finding::Differs(here, there, differs))),
                (Ok(_), None) => self.same += 1,
                (Err(error), _) => return Some(Err(error)),
            }
        }
    }
}

/// How what is here differs from what is known; nothing when it does not.
pub(super) fn judge(here: &Facts, known: Option<&Known>, how: Compare) -> Option<Differs> {
    let Some(known) = known else { return Some(Differs::Unknown) };
    let Known { facts: was, racy, .. } = known;
    let learned = known.is_learned();
    if here.kind != was.kind || here.tag != was.tag {
        return Some(Differs::Contents);
    }
    let other_time = here.mtime != was.mtime;
    let other_file = here.inode != was.inode && !learned;
    let differs = match here.kind {
        FileType::Dir => (other_time || here.mode != was.mode).then_some(Differs::Metadata),
        // Another target makes another link, which no record knows.
        FileType::Symlink if learned && how == Compare::Digest => Some(Differs::Contents),
        FileType::Symlink => {
            (here.size != was.size || other_time || other_file || *racy).then_some(Differs::Contents)
        }
        FileType::File if here.size != was.size => Some(Differs::Contents),
        FileType::File if how == Compare::Digest => Some(Differs::Perhaps),
        FileType::File if other_time => Some(Differs::Contents),
        FileType::File if other_file || *racy => Some(Differs::Perhaps),
        FileType::File => (here.mode != was.mode).then_some(Differs::Metadata),
    };
    differs.or(learned.then_some(Differs::Learned))
}

/// The files that are gone here, as sources of what is new: to move is not to upload.
#[derive(Default)]
pub(super) struct Moves {
    by_file: HashMap<(u64, u64, i64), Vec<Gone>>,
}

/// A file that is gone here, and what is there of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) key: Key,
    pub(super) stored: Stored,
    pub(super) known: Known,
}

/// So many gone files are remembered as sources; what was moved beyond them is uploaded.
const MOST_MOVES: usize = 200_000;

impl Moves {
    /// Takes what is there of a file that is gone here, if something could have been moved from it.
    pub(super) fn gone(&mut self, there: There) {
        let There { key, stored, known } = there;
        let Some(known) = known else { return };
        let facts = &known.facts;
        let is_sure = !known.racy && !known.is_learned();
        if facts.kind == FileType::File && facts.size > 0 && is_sure && self.by_file.len() < MOST_MOVES {
            let id = (facts.inode, facts.size, facts.mtime);
            self.by_file.entry(id).or_default().push(Gone { key, stored, known });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_file.is_empty()
    }

    /// The source of a new file: the same inode, size, time and mode, under another name that may be copied. Each serves
    /// once.
    pub(super) fn source(&mut self, new: &Facts, may: impl Fn(&Key) -> bool) -> Option<Gone> {
        if new.kind != FileType::File {
            return None;
        }
        let id = (new.inode, new.size, new.mtime);
        let gone = self.by_file.get_mut(&id)?;
        let at = gone.iter().position(|gone| gone.known.facts.mode == new.mode && may(&gone.key))?;
        let found = gone.swap_remove(at);
        if gone.is_empty() {
            self.by_file.remove(&id);
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn facts(kind: FileType, size: u64, mtime: i64, inode: u64, mode: u32) -> Facts {
        Facts { kind, size, mtime, inode, mode, tag: String::new() }
    }

    fn known(facts: Facts) -> Known {
        Known { facts, digest: None, data_id: None, racy: false }
    }

    fn any_facts() -> impl Strategy<Value = Facts> {
        let kind = prop_oneof![Just(FileType::File), Just(FileType::Dir), Just(FileType::Symlink)];
        (kind, 0u64..3, 0i64..3, 1u64..4, 0u32..2)
            .prop_map(|(kind, size, mtime, inode, mode)| facts(kind, size, mtime, inode, mode))
    }

    fn any_key() -> impl Strategy<Value = Key> {
        (prop::collection::vec(prop::collection::vec(1u8..4, 1..3), 1..4), any::<bool>())
            .prop_map(|(segments, folder)| Key::new(&segments, folder))
    }

    #[test]
    fn keys_are_in_the_order_of_a_walk() {
        let key = |path: &str| {
            let folder = path.ends_with('/');
            let segments: Vec<Vec<u8>> =
                path.trim_end_matches('/').split('/').map(|part| part.as_bytes().to_vec()).collect();
            Key::new(&segments, folder)
        };
        let order = ["a", "a/", "a/\u{1}", "a/b", "a/b/", "a/b/c", "a/c", "a\u{1}", "a.b", "a.b/c", "b"];
        let keys: Vec<Key> = order.iter().map(|path| key(path)).collect();
        assert!(keys.is_sorted(), "{keys:?}");
        assert_eq!(keys.iter().map(Key::show).collect::<Vec<_>>(), order);
        let above = |path: &str| key(path).folders().map(|key| Key(key.to_vec()).show()).collect::<Vec<_>>();
        assert_eq!(above("a/b/c"), ["a/", "a/b/"]);
        assert_eq!(above("a/b/"), ["a/"]);
        assert_eq!(above("a"), Vec::<String>::new());
        assert_eq!(Key::new(&[], true).segments(), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn what_is_a_change_and_what_is_not() {
        use Differs::{Contents, Metadata, Perhaps};
        let was = facts(FileType::File, 5, 100, 7, 0o644);
        let judged = |change: fn(&mut Facts), how| {
            let mut here = was.clone();
            change(&mut here);
            judge(&here, Some(&known(was.clone())), how)
        };
        let by_time = |change| judged(change, Compare::SizeMtime);
        assert_eq!(by_time(|_| {}), None);
        assert_eq!(by_time(|here| here.size = 6), Some(Contents));
        assert_eq!(by_time(|here| here.mtime = 101), Some(Contents));
        assert_eq!(by_time(|here| here.inode = 8), Some(Perhaps));
        assert_eq!(by_time(|here| here.mode = 0o600), Some(Metadata));
        assert_eq!(by_time(|here| here.kind = FileType::Symlink), Some(Contents));
        assert_eq!(by_time(|here| here.tag = "2".into()), Some(Contents));
        assert_eq!(judged(|_| {}, Compare::Digest), Some(Perhaps));
        assert_eq!(judged(|here| here.size = 6, Compare::Digest), Some(Contents));
        assert_eq!(judge(&was, None, Compare::SizeMtime), Some(Differs::Unknown));
        let racy = Known { racy: true, ..known(was.clone()) };
        assert_eq!(judge(&was, Some(&racy), Compare::SizeMtime), Some(Perhaps));
    }

    #[test]
    fn what_an_info_record_says_is_compared_without_the_inode() {
        let info = Info {
            size: Some(5),
            mtime: Some(100),
            mode: Some(0o644),
            kind: FileType::File,
            digest: None,
            name: None,
            commitment: [0; 32],
        };
        let learn = |info: &Info| Known::learned(DataId([1; 16]), info);
        let judged = |here: &Facts, info: &Info, how| judge(here, learn(info).as_ref(), how);
        let here = facts(FileType::File, 5, 100, 7, 0o644);
        assert_eq!(judged(&here, &info, Compare::SizeMtime), Some(Differs::Learned));
        assert_eq!(judged(&here, &info, Compare::Digest), Some(Differs::Perhaps));
        let other = Facts { mtime: 101, ..here.clone() };
        assert_eq!(judged(&other, &info, Compare::SizeMtime), Some(Differs::Contents));
        let other = Facts { mode: 0o600, ..here };
        assert_eq!(judged(&other, &info, Compare::SizeMtime), Some(Differs::Metadata));
        // Of a pipe the size was not known before it was stored.
        assert_eq!(learn(&Info { size: None, ..info.clone() }), None);
        assert_eq!(learn(&Info { mtime: Some(i128::MAX), ..info.clone() }), None);
        let link = Info { kind: FileType::Symlink, mode: None, ..info };
        let here = facts(FileType::Symlink, 5, 100, 7, 0o777);
        assert_eq!(judged(&here, &link, Compare::SizeMtime), Some(Differs::Learned));
        assert_eq!(judged(&here, &link, Compare::Digest), Some(Differs::Contents));
    }

    #[test]
    fn a_moved_file_has_one_source_and_each_source_serves_once() {
        let was = facts(FileType::File, 5, 100, 7, 0o644);
        let gone = |name: &str, facts: Facts| There {
            key: Key(name.into()),
            stored: Stored { version: name.into(), size: 1 },
            known: Some(known(facts)),
        };
        let mut moves = Moves::default();
        moves.gone(gone("a", was.clone()));
        moves.gone(gone("empty", Facts { size: 0, ..was.clone() }));
        moves.gone(There { known: None, ..gone("unknown", was.clone()) });
        let source = |moves: &mut Moves, facts: &Facts| moves.source(facts, |_| true);
        assert_eq!(source(&mut moves, &Facts { mtime: 101, ..was.clone() }), None);
        assert_eq!(source(&mut moves, &Facts { mode: 0o600, ..was.clone() }), None);
        assert_eq!(source(&mut moves, &Facts { size: 0, ..was.clone() }), None);
        assert_eq!(moves.source(&was, |_| false), None);
        assert_eq!(source(&mut moves, &was).unwrap().key, Key(b"a".to_vec()));
        assert_eq!(source(&mut moves, &was), None);
        assert!(moves.is_empty());
    }

    proptest! {
        /// The one pass finds what looking every key up would find, in order, and counts the rest.
        #[test]
        fn one_pass_is_as_good_as_looking_up(
            here in prop::collection::btree_map(any_key(), any_facts(), 0..12),
            there in prop::collection::btree_map(any_key(), prop::option::of(any_facts()), 0..12),
            digest in any::<bool>(),
        ) {
            let how = if digest { Compare::Digest } else { Compare::SizeMtime };
            let stored = || Stored { version: "1".into(), size: 1 };
            let of_there = |key: &Key, facts: &Option<Facts>| There {
                key: key.clone(), stored: stored(), known: facts.clone().map(known),
            };
            let mut run = compare(
                here.iter().map(|(key, facts)| Here { key: key.clone(), facts: facts.clone() }),
                there.iter().map(|(key, facts)| Ok(of_there(key, facts))),
                how,
            );
            let mut found = BTreeMap::new();
            let mut last = None;
            for finding in run.by_ref() {
                let finding = finding.unwrap();
                let key = match &finding {
                    Finding::OnlyHere(here) | Finding::Differs(here, ..) => here.key.clone(),
                    Finding::OnlyThere(there) => there.key.clone(),
                };
                prop_assert!(last.as_ref() < Some(&key));
                last = Some(key.clone());
                found.insert(key, finding);
            }
            let mut same = 0;
            for key in here.keys().chain(there.keys()) {
                match (here.get(key), there.get(key)) {
                    (Some(_), None) => prop_assert!(matches!(found[key], Finding::OnlyHere(_))),
                    (None, Some(_)) => prop_assert!(matches!(found[key], Finding::OnlyThere(_))),
                    (Some(facts), Some(other)) => match judge(facts, other.clone().map(known).as_ref(), how) {
                        None => { same += 1; prop_assert!(!found.contains_key(key)); }
                        Some(expected) => match &found[key] {
                            Finding::Differs(_, _, differs) => prop_assert_eq!(*differs, expected),
                            other => prop_assert!(false, "{other:?}"),
                        },
                    },
                    (None, None) => {}
                }
            }
            prop_assert_eq!(run.same * 2, same);
        }

        /// What is exactly as it was gives nothing to do.
        #[test]
        fn what_is_unchanged_gives_nothing(all in prop::collection::btree_map(any_key(), any_facts(), 0..12)) {
            let here = all.iter().map(|(key, facts)| Here { key: key.clone(), facts: facts.clone() });
            let there = all.iter().map(|(key, facts)| Ok(There {
                key: key.clone(),
                stored: Stored { version: "1".into(), size: 1 },
                known: Some(known(facts.clone())),
            }));
            prop_assert_eq!(compare(here, there, Compare::SizeMtime).count(), 0);
        }
    }
}
