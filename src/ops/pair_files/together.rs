//! Several pairs that get their names together, so that a disk is waited for a few times and not for each of them.

use super::{Publishing, folder_of};
use crate::ops::atomic::AtomicFile;
use crate::ops::folders::Folders;
use crate::pair::{Form, Put, PutOutcome, PutStep};
use crate::{Error, ErrorKind, Result, temporary};

/// Performs all steps of several pairs: their contents are synced together; then, with all their folders locked, each folder
/// once after each step.
///
/// Of each is returned what [`Publishing::run`] returns of one.
pub fn run_together(pairs: Vec<(Publishing, Put)>) -> Vec<Result<PutOutcome>> {
    run_in(Folders::default(), pairs)
}

fn run_in(mut folders: Folders, pairs: Vec<(Publishing, Put)>) -> Vec<Result<PutOutcome>> {
    let mut members: Vec<Member> = pairs.into_iter().map(Member::new).collect();
    // What takes time is done before the locks.
    attempt(&mut members, |member| member.stage(&mut folders));
    let synced = folders.sync_contents(members.iter_mut().map(Member::files).collect());
    for (member, synced) in members.iter_mut().zip(synced) {
        member.failed = member.failed.take().or(synced.err());
    }
    let locks = folders.lock_all();
    attempt(&mut members, |member| member.refuse_unlocked(locks[member.container].is_some()));
    // A signal between two steps would leave envelopes without their containers.
    if temporary::together(|| step_by_step(&folders, &mut members)).is_err() {
        attempt(&mut members, |_| Err(Error::new(ErrorKind::Interrupted, "interrupted")));
    }
    members.into_iter().map(Member::finish).collect()
}

fn step_by_step(folders: &Folders, members: &mut [Member]) {
    while members.iter().any(Member::has_a_step) {
        let mut changed = Vec::with_capacity(members.len());
        for member in members.iter_mut().filter(|member| member.has_a_step()) {
            let done = member.publishing.change(member.put.step());
            changed.push((member, done));
        }
        folders.begin_step();
        for (member, done) in changed {
            let synced = if done.is_ok() { folders.sync(member.changes()) } else { Ok(()) };
            member.put.reply(member.publishing.reply(done, synced));
        }
    }
}

/// A pair on its way.
struct Member {
    publishing: Publishing,
    put: Put,
    /// In which of the folders each half is to stand.
    container: usize,
    envelope: usize,
    /// Why it does not get as far as its first step.
    failed: Option<Error>,
}

/// Does something for each before its first step, unless something failed already.
fn attempt(members: &mut [Member], mut what: impl FnMut(&mut Member) -> Result<()>) {
    for member in members.iter_mut().filter(|member| member.failed.is_none()) {
        member.failed = what(member).err();
    }
}

impl Member {
    fn new((publishing, put): (Publishing, Put)) -> Self {
        Self { publishing, put, container: 0, envelope: 0, failed: None }
    }

    /// Writes the envelope where it lacks only its name, and opens the folders of both.
    fn stage(&mut self, folders: &mut Folders) -> Result<()> {
        if let PutStep::CreateEnvelope(form) = self.put.step() {
            self.publishing.stage(form)?;
        }
        let paths = &self.publishing.paths;
        self.container = folders.open(folder_of(&paths.container))?;
        self.envelope = folders.open(folder_of(&paths.beside))?;
        Ok(())
    }

    /// With their folders.
    fn files(&mut self) -> Vec<(usize, &mut AtomicFile)> {
        let Publishing { container, staged, .. } = &mut self.publishing;
        match self.failed {
            None => container
                .iter_mut()
                .map(|file| (self.container, file))
                .chain(staged.iter_mut().map(|file| (self.envelope, file)))
                .collect(),
            Some(_) => vec![],
        }
    }

    fn refuse_unlocked(&self, locked: bool) -> Result<()> {
        match self.put.step() {
            PutStep::CreateEnvelope(Form::Located) if !locked => Err(Error::conflict(
                "its folder cannot be locked, so replacing a pair there could lose a key",
            )
            .at(&self.publishing.paths.container)
            .hint("remove the old pair first, or write elsewhere with --output")),
            _ => Ok(()),
        }
    }

    fn has_a_step(&self) -> bool {
        self.failed.is_none() && !matches!(self.put.step(), PutStep::Finished(_))
    }

    /// The folder in which a step changes a name.
    fn changes(&self) -> usize {
        match self.put.step() {
            PutStep::CreateContainer | PutStep::ReplaceContainer => self.container,
            _ => self.envelope,
        }
    }

    fn finish(self) -> Result<PutOutcome> {
        match (self.failed, self.put.step()) {
            (None, PutStep::Finished(outcome)) => self.publishing.finish(outcome),
            (error, _) => Err(error.unwrap_or_else(|| Error::conflict("was not stored"))),
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make their own files")]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::path::Path;

    use super::super::PairPaths;
    use super::*;
    use crate::DataId;
    use crate::disk::{Broken, Disk};
    use crate::ops::atomic::Mode;
    use crate::random::OsRandom;

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
        let folders = Folders::on(dir.path(), Disk::Broken(broken));
        let pairs = (0..count).map(|number| pair(&dir.path().join(format!("{number}.enc")), "new", false));
        let outcomes = run_in(folders, pairs.collect());
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
