//! Several pairs that get their names together, so that a disk is waited for a few times and not for each of them.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::{Publishing, folder_of};
use crate::disk::Disk;
use crate::ops::atomic;
use crate::pair::{Form, Put, PutOutcome, PutStep};
use crate::{Error, IoContext as _, Result};

/// Performs all steps of several pairs: their contents are synced together; then, with all their folders locked, each folder
/// once after each step. The containers must stand in the order in which they were opened.
///
/// Of each is returned what [`Publishing::run`] returns of one.
pub fn run_together(pairs: Vec<(Publishing, Put)>) -> Vec<Result<PutOutcome>> {
    run_in(Folders::default(), pairs)
}

fn run_in(mut folders: Folders, pairs: Vec<(Publishing, Put)>) -> Vec<Result<PutOutcome>> {
    let mut members: Vec<Member> = pairs.into_iter().map(Member::new).collect();
    // What takes time is done before the locks.
    attempt(&mut members, Member::stage);
    attempt(&mut members, |member| folders.open(member));
    folders.sync_contents(&mut members);
    folders.lock();
    attempt(&mut members, |member| folders.refuse_unlocked(member));
    while members.iter().any(Member::has_a_step) {
        let mut changed = Vec::with_capacity(members.len());
        for member in members.iter_mut().filter(|member| member.has_a_step()) {
            let done = member.publishing.change(member.put.step());
            changed.push((member, done));
        }
        folders.begin_step();
        for (member, done) in changed {
            let synced = match member.publishing.changes(member.put.step()) {
                Some(path) if done.is_ok() => folders.sync(member.folder, path),
                _ => Ok(()),
            };
            member.put.reply(member.publishing.reply(done, synced));
        }
    }
    members.into_iter().map(Member::finish).collect()
}

/// A pair on its way.
struct Member {
    publishing: Publishing,
    put: Put,
    /// Which of the open folders its container is to stand in.
    folder: usize,
    /// Why it does not get as far as its first step.
    failed: Option<Error>,
}

/// Does something for each before its first step, unless something failed already.
fn attempt<'m>(
    members: impl IntoIterator<Item = &'m mut Member>,
    mut what: impl FnMut(&mut Member) -> Result<()>,
) {
    for member in members.into_iter().filter(|member| member.failed.is_none()) {
        member.failed = what(member).err();
    }
}

impl Member {
    fn new((publishing, put): (Publishing, Put)) -> Self {
        Self { publishing, put, folder: 0, failed: None }
    }

    fn stage(&mut self) -> Result<()> {
        match self.put.step() {
            PutStep::CreateEnvelope(form) => self.publishing.stage(form),
            _ => Ok(()),
        }
    }

    fn has_a_step(&self) -> bool {
        self.failed.is_none() && !matches!(self.put.step(), PutStep::Finished(_))
    }

    fn finish(self) -> Result<PutOutcome> {
        match (self.failed, self.put.step()) {
            (None, PutStep::Finished(outcome)) => self.publishing.finish(outcome),
            (error, _) => Err(error.unwrap_or_else(|| Error::conflict("was not stored"))),
        }
    }
}

/// The folders of the containers.
#[derive(Default)]
struct Folders {
    open: Vec<Folder>,
}

struct Folder {
    path: PathBuf,
    /// Nothing where it may not be read, and so neither synced nor locked.
    file: Option<File>,
    /// Device and inode.
    identity: (u64, u64),
    disk: Disk,
    locked: bool,
    /// How the sync of this step went, once it was done.
    synced: Option<Result<(), Errno>>,
}

impl Folders {
    fn open(&mut self, member: &mut Member) -> Result<()> {
        let path = folder_of(&member.publishing.paths.container);
        let known = self.open.iter().rposition(|folder| folder.path == path);
        member.folder = match known {
            Some(known) => known,
            None => self.add(Folder::open(path).context("cannot open the folder", path)?),
        };
        Ok(())
    }

    /// One folder by two paths is one, which can be locked only once.
    fn add(&mut self, folder: Folder) -> usize {
        let known = self.open.iter().position(|known| known.identity == folder.identity);
        known.unwrap_or_else(|| {
            self.open.push(folder);
            self.open.len() - 1
        })
    }

    fn of(&self, member: &Member) -> &Folder {
        &self.open[member.folder]
    }

    /// Gets the contents of all files on the disk.
    fn sync_contents(&self, members: &mut [Member]) {
        let device = |member: &Member| self.of(member).identity.0;
        let mut waiting: Vec<_> = members.iter_mut().filter(|member| member.failed.is_none()).collect();
        waiting.sort_by_key(|member| device(member));
        for of_one in waiting.chunk_by_mut(|a, b| device(a) == device(b)) {
            let disk = of_one.first().map_or(Disk::Files, |member| self.of(member).disk);
            // The one that was opened first saw whatever went wrong with any of them.
            let first = of_one.first().and_then(|member| member.publishing.container.as_ref());
            let together = disk.is_for_all(2 * of_one.len())
                && first.is_some_and(|first| disk.sync_all_files(first.file()).is_ok());
            // Where that failed, perhaps for none of ours, each is asked by itself.
            let left = if together { Disk::Memory } else { disk };
            attempt(of_one.iter_mut().map(|member| &mut **member), |member| member.publishing.sync(left));
        }
    }

    /// Locks all of them, in an order that is the same for whoever locks several.
    fn lock(&mut self) {
        let mut folders: Vec<&mut Folder> = self.open.iter_mut().collect();
        folders.sort_by_key(|folder| folder.identity);
        for folder in folders {
            folder.locked = folder.file.as_ref().is_some_and(|file| file.lock().is_ok());
        }
    }

    fn refuse_unlocked(&self, member: &Member) -> Result<()> {
        match member.put.step() {
            PutStep::CreateEnvelope(Form::Located) if !self.of(member).locked => Err(Error::conflict(
                "its folder cannot be locked, so replacing a pair there could lose a key",
            )
            .at(&member.publishing.paths.container)
            .hint("remove the old pair first, or write elsewhere with --output")),
            _ => Ok(()),
        }
    }

    fn begin_step(&mut self) {
        self.open.iter_mut().for_each(|folder| folder.synced = None);
    }

    /// Makes what changed in the folder of `path` in this step survive a power cut.
    fn sync(&mut self, container_folder: usize, path: &Path) -> Result<()> {
        let folder = &mut self.open[container_folder];
        if folder_of(path) != folder.path {
            return atomic::sync(folder_of(path));
        }
        let Some(file) = &folder.file else { return Ok(()) };
        let synced = *folder.synced.get_or_insert_with(|| folder.disk.sync_folder(file));
        synced.map_err(io::Error::from).context("cannot write the folder to the disk", path)
    }
}

impl Folder {
    fn open(path: &Path) -> io::Result<Self> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
            opened => Some(opened?),
        };
        let metadata: Metadata = file.as_ref().map_or_else(|| path.metadata(), File::metadata)?;
        let disk = file.as_ref().map_or(Disk::Files, Disk::of);
        let identity = (metadata.dev(), metadata.ino());
        Ok(Self { path: path.into(), file, identity, disk, locked: false, synced: None })
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make their own files")]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::super::PairPaths;
    use super::*;
    use crate::disk::Broken;
    use crate::ops::atomic::{AtomicFile, Mode};
    use crate::random::OsRandom;
    use crate::{DataId, ErrorKind};

    /// `NAME.enc`, whole in its temporary file; both halves say `text`.
    fn pair(target: &Path, text: &str, replace: bool) -> (Publishing, Put) {
        let mut file = AtomicFile::create(target, Mode::Data).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let paths = PairPaths::of(target, &DataId::generate(&OsRandom).unwrap()).unwrap();
        (Publishing::new(paths, file, text), Put::new(Form::Beside, replace))
    }

    /// All names below a folder and what stands there, without the folder's own path.
    fn tree(root: &Path) -> Vec<(String, String)> {
        let mut found: Vec<_> = walkdir::WalkDir::new(root)
            .into_iter()
            .map(|entry| entry.unwrap().into_path())
            .filter(|path| path.is_file())
            .map(|path| {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                (name, fs::read_to_string(path).unwrap())
            })
            .collect();
        found.sort();
        found
    }

    fn texts(found: &[(&str, &str)]) -> Vec<(String, String)> {
        found.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn each_gets_its_names_or_leaves_nothing_whatever_becomes_of_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for folder in ["a", "b"] {
            fs::create_dir(path(folder)).unwrap();
        }
        std::os::unix::fs::symlink("a", path("same")).unwrap();
        fs::write(path("a/taken.enc"), "old").unwrap();
        fs::write(path("b/half.key.enc"), "old").unwrap();
        let pairs = [
            ("a/1.enc", "1"),
            ("b/1.enc", "2"),
            ("a/taken.enc", "3"),
            ("same/2.enc", "4"),
            ("b/half.enc", "5"),
            ("a/1.enc", "6"),
        ];
        let pairs = pairs.iter().map(|(name, text)| pair(&path(name), text, false)).collect();
        let outcomes = run_together(pairs);
        let said: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().err().map(Error::kind)).collect();
        let refused = Some(ErrorKind::Conflict);
        assert_eq!(said, [None, None, refused, None, refused, refused]);
        let expected = texts(&[
            ("a/1.enc", "1"),
            ("a/1.key.enc", "1"),
            ("a/2.enc", "4"),
            ("a/2.key.enc", "4"),
            ("a/taken.enc", "old"),
            ("b/1.enc", "2"),
            ("b/1.key.enc", "2"),
            ("b/half.key.enc", "old"),
        ]);
        assert_eq!(tree(dir.path()), expected);

        let pairs = ["a/1.enc", "a/2.enc", "b/1.enc", "a/1.enc"].map(|name| pair(&path(name), "new", true));
        assert!(run_together(pairs.into()).iter().all(Result::is_ok));
        let replaced = expected.into_iter().map(|(name, text)| match text.as_str() {
            "old" => (name, text),
            _ => (name, "new".to_owned()),
        });
        assert_eq!(tree(dir.path()), replaced.collect::<Vec<_>>());
    }

    /// Publishes new pairs on a disk that fails; returns what is said of each, and what is there then.
    fn on_broken(broken: Broken, count: usize) -> (Vec<Option<String>>, usize) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder { disk: Disk::Broken(broken), ..Folder::open(dir.path()).unwrap() };
        let pairs = (0..count).map(|number| pair(&dir.path().join(format!("{number}.enc")), "new", false));
        let outcomes = run_in(Folders { open: vec![folder] }, pairs.collect());
        let said = outcomes.iter().map(|outcome| outcome.as_ref().err().map(Error::to_string)).collect();
        (said, tree(dir.path()).len())
    }

    #[test]
    fn where_the_disk_fails_nothing_is_called_stored() {
        // Of all files at once it failed, of none of ours by itself.
        assert_eq!(on_broken(Broken::Whole, 3), (vec![None; 3], 6));
        for count in [1, 3] {
            let (said, left) = on_broken(Broken::Data, count);
            assert!(said.iter().flatten().all(|said| said.ends_with("cannot write to the disk")), "{said:?}");
            assert_eq!((said.iter().flatten().count(), left), (count, 0));
            // The envelopes have their names, and perhaps keep them; no container gets one.
            let (said, left) = on_broken(Broken::Folders, count);
            assert!(
                said.iter().flatten().all(|said| said.ends_with("cannot write the folder to the disk")),
                "{said:?}"
            );
            assert_eq!((said.iter().flatten().count(), left), (count, count));
        }
    }
}
