//! Changes to `config.toml` that keep what else stands in it, comments too.

use std::fs::{DirBuilder, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use sidekey::ops::atomic::{AtomicFile, Mode};
use sidekey::{Error, IoContext as _, KeyId, Result};
use toml_edit::{Array, DocumentMut, InlineTable, Item, RawString, Table, TableLike, TomlError, value};

use super::file::ConfigFile;
use super::{home, read};

/// The file while it is edited; nobody else edits it until this is dropped.
pub(crate) struct Editor {
    path: PathBuf,
    document: DocumentMut,
    _lock: Option<File>,
}

/// A remote to configure; all paths are whole.
pub(crate) struct NewRemote {
    pub(crate) name: String,
    /// As it would be typed anywhere.
    pub(crate) location: String,
    pub(crate) recipients: Vec<(PathBuf, KeyId)>,
    pub(crate) identities: Vec<PathBuf>,
}

impl Editor {
    /// Opens the file, or begins one.
    ///
    /// # Errors
    /// What the operating system says, and what is wrong with the file, by line.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        // Behind a symlink the file itself is replaced, not the link.
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .context("cannot make the folder", folder)?;
        // Where a folder cannot be locked, two edits at the same moment may lose one of them.
        let lock = File::open(folder).ok().filter(|folder| folder.lock().is_ok());
        let (text, mode) = read(&path)?.unwrap_or((String::new(), 0o600));
        ConfigFile::parse(&text, &path, mode, home().as_deref())?;
        let document = text
            .parse()
            .map_err(|error: TomlError| Error::input("cannot be edited").at(&path).because(error))?;
        Ok(Self { path, document, _lock: lock })
    }

    /// Whether there is a remote of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        let remotes = self.document.get("remote").and_then(Item::as_table_like);
        remotes.is_some_and(|remotes| remotes.contains_key(name))
    }

    /// Puts a remote in, in place of what has its name.
    ///
    /// # Errors
    /// `Input` for what cannot be written in the file.
    pub(crate) fn put(&mut self, remote: &NewRemote) -> Result<()> {
        let mut table = Table::new();
        table.insert("location", value(&remote.location));
        if !remote.recipients.is_empty() {
            let mut recipients = Array::new();
            for (file, key_id) in &remote.recipients {
                let mut recipient = InlineTable::new();
                recipient.insert("file", utf8(file)?.into());
                recipient.insert("key-id", key_id.to_string().into());
                recipients.push(recipient);
            }
            one_a_line(&mut recipients);
            table.insert("recipients", value(recipients));
        }
        if !remote.identities.is_empty() {
            let mut identities = Array::new();
            for file in &remote.identities {
                identities.push(utf8(file)?);
            }
            one_a_line(&mut identities);
            table.insert("identities", value(identities));
        }
        let mut above = "\n".to_owned();
        if self.document.is_empty() {
            // The comments of a file without anything else count as its end; they belong above what comes now.
            above.insert_str(0, &text(Some(self.document.trailing())));
            self.document.set_trailing("");
        }
        let remotes = self.remotes()?;
        match remotes.get(&remote.name).and_then(Item::as_table) {
            Some(old) => *table.decor_mut() = old.decor().clone(),
            None => table.decor_mut().set_prefix(above),
        }
        remotes.insert(&remote.name, Item::Table(table));
        Ok(())
    }

    /// Takes a remote out, and the comment right above it; says whether it was there.
    ///
    /// # Errors
    /// `Input` where the file says it in a way that cannot be edited.
    pub(crate) fn remove(&mut self, name: &str) -> Result<bool> {
        let removed = self.remotes()?.remove(name);
        if let Some(table) = removed.as_ref().and_then(Item::as_table) {
            let head = kept_above(&text(table.decor().prefix()));
            self.keep(&head, table.position().unwrap_or_default());
        }
        Ok(removed.is_some())
    }

    /// Writes the file: 0600, whole or not at all.
    ///
    /// # Errors
    /// What the operating system says; `Input` when the result could not be read, with nothing written.
    pub(crate) fn save(self) -> Result<()> {
        let text = self.document.to_string().trim_start_matches('\n').to_owned();
        ConfigFile::parse(&text, &self.path, 0o600, home().as_deref()).map_err(|error| {
            Error::input("cannot be edited here, edit it by hand").at(&self.path).because(error)
        })?;
        let mut file = AtomicFile::create(&self.path, Mode::Secret)?;
        file.write_all(text.as_bytes()).context("cannot write", &self.path)?;
        file.commit_replace()
    }

    fn remotes(&mut self) -> Result<&mut dyn TableLike> {
        let remotes = self.document.entry("remote").or_insert_with(|| {
            let mut table = Table::new();
            table.set_implicit(true);
            Item::Table(table)
        });
        remotes.as_table_like_mut().ok_or_else(|| Error::input("remote is not a table").at(&self.path))
    }

    /// Puts comments back that stood above the table at `position`: above the one that comes after it, or at the end.
    fn keep(&mut self, head: &str, position: isize) {
        if head.trim().is_empty() {
            return;
        }
        let mut after = None;
        for (_, item) in self.document.iter_mut() {
            next_table(item, position, &mut after);
        }
        match after {
            Some(table) => {
                let prefix = text(table.decor().prefix());
                table.decor_mut().set_prefix(format!("{head}{}", prefix.trim_start_matches('\n')));
            }
            None => {
                let end = text(Some(self.document.trailing()));
                self.document.set_trailing(format!("{head}{end}"));
            }
        }
    }
}

/// Finds the table that is printed first of those behind `position`.
fn next_table<'i>(item: &'i mut Item, position: isize, found: &mut Option<&'i mut Table>) {
    let Some(table) = item.as_table_mut() else { return };
    let place = |table: &Table| table.position().filter(|_| !table.is_implicit());
    match place(table) {
        Some(at) if at > position && found.as_deref().and_then(place).is_none_or(|best| at < best) => {
            *found = Some(table);
        }
        _ => table.iter_mut().for_each(|(_, item)| next_table(item, position, found)),
    }
}

/// Of the lines above a table those that an empty line divides from it.
fn kept_above(prefix: &str) -> String {
    match prefix.rfind("\n\n") {
        Some(at) => prefix[..at + 2].to_owned(),
        None => String::new(),
    }
}

fn text(raw: Option<&RawString>) -> String {
    raw.and_then(RawString::as_str).unwrap_or_default().to_owned()
}

fn one_a_line(array: &mut Array) {
    if array.len() > 1 {
        array.iter_mut().for_each(|value| value.decor_mut().set_prefix("\n    "));
        array.set_trailing("\n");
        array.set_trailing_comma(true);
    }
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        Error::input("has a name that is not UTF-8, which the configuration cannot hold")
            .at(path)
            .hint("rename it")
    })
}

/// A local path as a location in the file: itself, or a URL where it is not UTF-8 or could be taken for something else.
pub(crate) fn location_of(path: &Path) -> String {
    match path.to_str() {
        Some(text) => text.to_owned(),
        None => {
            let escaped = path.as_os_str().as_bytes().iter().map(|byte| match byte {
                b'/' | b'-' | b'.' | b'_' | b'~' => char::from(*byte).to_string(),
                byte if byte.is_ascii_alphanumeric() => char::from(*byte).to_string(),
                byte => format!("%{byte:02X}"),
            });
            format!("file://{}", escaped.collect::<String>())
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests write their own files")]
mod tests {
    use super::*;

    const KEY_ID: &str = "3977e480fb685034b325b79d06ca4814eff3385e0e7893587ef7a20923b71e0e";

    fn remote(name: &str, recipients: usize) -> NewRemote {
        let key = (PathBuf::from("/k.pub.pem"), KEY_ID.parse().unwrap());
        NewRemote {
            name: name.into(),
            location: format!("/srv/{name}"),
            recipients: vec![key; recipients],
            identities: vec![],
        }
    }

    /// The text of a file after an edit.
    fn edited(before: &str, edit: impl FnOnce(&mut Editor)) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, before).unwrap();
        let mut editor = Editor::open(&path).unwrap();
        edit(&mut editor);
        editor.save().unwrap();
        std::fs::read_to_string(&path).unwrap()
    }

    #[test]
    fn a_remote_is_added_behind_what_is_there() {
        for (before, after) in [
            ("", "[remote.a]\nlocation = \"/srv/a\"\n"),
            ("# mine\n", "# mine\n\n[remote.a]\nlocation = \"/srv/a\"\n"),
            (
                "# mine\n[remote.b] # far\nlocation = \"x\" # there\n\n# end\n",
                "# mine\n[remote.b] # far\nlocation = \"x\" # there\n\n[remote.a]\nlocation = \"/srv/a\"\n\n# end\n",
            ),
            (
                "remote.b.location = \"x\"\n\n[defaults]\njobs = 1\n",
                "remote.b.location = \"x\"\n\n[remote.a]\nlocation = \"/srv/a\"\n\n[defaults]\njobs = 1\n",
            ),
        ] {
            assert_eq!(edited(before, |editor| editor.put(&remote("a", 0)).unwrap()), after);
        }
    }

    #[test]
    fn a_remote_is_replaced_where_it_stands_and_keeps_what_is_said_above_it() {
        let before = "# old\n[remote.a]\nlocation = \"x\"\njobs = 2\n\n[remote.b]\nlocation = \"y\"\n";
        let after = format!(
            "# old\n[remote.a]\nlocation = \"/srv/a\"\nrecipients = [\n    {{ file = \"/k.pub.pem\", key-id = \"{KEY_ID}\" }},\n    \
             {{ file = \"/k.pub.pem\", key-id = \"{KEY_ID}\" }},\n]\n\n[remote.b]\nlocation = \"y\"\n"
        );
        assert_eq!(edited(before, |editor| editor.put(&remote("a", 2)).unwrap()), after);
    }

    #[test]
    fn a_removed_remote_takes_only_its_own_comment_along() {
        for (before, after) in [
            (
                "# mine\n\n# a is near\n[remote.a]\nlocation = \"x\" # there\n\n# b is far\n[remote.b]\nlocation = \"y\"\n",
                "# mine\n\n# b is far\n[remote.b]\nlocation = \"y\"\n",
            ),
            (
                "[defaults]\njobs = 1\n\n# remotes\n\n[remote.a]\nlocation = \"x\"\n# end\n",
                "[defaults]\njobs = 1\n\n# remotes\n\n# end\n",
            ),
            ("[remote.a]\nlocation = \"x\"\n\n[defaults]\njobs = 1\n", "[defaults]\njobs = 1\n"),
            ("remote.a.location = \"x\"\n[defaults]\njobs = 1\n", "[defaults]\njobs = 1\n"),
            ("[remote]\na = { location = \"x\" }\n", "[remote]\n"),
        ] {
            assert_eq!(edited(before, |editor| assert!(editor.remove("a").unwrap())), after);
        }
        assert_eq!(edited("# mine\n", |editor| assert!(!editor.remove("a").unwrap())), "# mine\n");
    }

    #[test]
    fn a_path_that_is_not_utf8_becomes_a_url() {
        let path = Path::new(std::ffi::OsStr::from_bytes(b"/a b/\xff%"));
        assert_eq!(location_of(path), "file:///a%20b/%FF%25");
        assert_eq!(location_of(Path::new("/a b/%")), "/a b/%");
    }
}
