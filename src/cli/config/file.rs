//! `config.toml`: what may stand in it, and what is wrong with it, by line.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use sidekey::location::argument::is_remote_name;
use sidekey::{Error, ErrorKind, KeyId, Result};
use toml_edit::{Document, Item, TableLike, Value};

use super::settings::{SETTINGS, Setting};

const SECTIONS: [&str; 2] = ["defaults", "remote"];
const OF_A_REMOTE: [&str; 3] = ["location", "recipients", "identities"];
const OF_A_RECIPIENT: [&str; 2] = ["file", "key-id"];

/// Names under which people would write a secret. None is read from here: what takes one does so from the environment,
/// a file or a command.
const SECRETS: [&str; 5] = ["passphrase", "password", "secret", "application-key", "secret-access-key"];

/// What the file says.
#[derive(Debug, Default)]
pub(crate) struct ConfigFile {
    pub(crate) defaults: BTreeMap<&'static str, Given>,
    pub(crate) remotes: BTreeMap<String, Remote>,
}

/// The value of a setting and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// `[remote.NAME]`. Paths are whole: relative ones were meant from the folder of the file.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub(crate) name: String,
    pub(crate) line: usize,
    /// The location, as it would be typed.
    pub(crate) location: PathBuf,
    pub(crate) recipients: Vec<Pinned>,
    /// Private key files.
    pub(crate) identities: Vec<PathBuf>,
    pub(crate) settings: BTreeMap<&'static str, Given>,
}

/// A recipient: the file of its public key, its key id, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pinned {
    pub(crate) file: Option<PathBuf>,
    pub(crate) key_id: Option<KeyId>,
}

impl ConfigFile {
    /// Reads the text of the file `path`, which has these permission bits.
    ///
    /// # Errors
    /// `Input`, with the line; `Permission` when there is a secret in it that others can read.
    pub(crate) fn parse(text: &str, path: &Path, mode: u32, home: Option<&Path>) -> Result<Self> {
        let reader = Reader { text, path, mode, home };
        let document = Document::parse(text).map_err(|error| {
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            reader.fault(error.span(), message)
        })?;
        let root = document.as_table();
        reader.known(root, "the file", &SECTIONS)?;
        let mut file = Self::default();
        if let Some(defaults) = root.get("defaults") {
            let keys: Vec<_> = SETTINGS.map(|setting| setting.key).to_vec();
            let table = reader.table(defaults, "defaults")?;
            reader.known(table, "[defaults]", &keys)?;
            file.defaults = reader.settings(table)?;
        }
        if let Some(remotes) = root.get("remote") {
            for (name, item) in reader.table(remotes, "remote")?.iter() {
                file.remotes.insert(name.to_owned(), reader.remote(name, item)?);
            }
        }
        Ok(file)
    }
}

/// A file being read.
struct Reader<'t> {
    text: &'t str,
    path: &'t Path,
    mode: u32,
    home: Option<&'t Path>,
}

impl Reader<'_> {
    fn remote(&self, name: &str, item: &Item) -> Result<Remote> {
        let section = format!("[remote.{name}]");
        if !is_remote_name(name) {
            return Err(self
                .fault(item.span(), format!("{name:?} is not a name for a remote"))
                .hint("letters, digits, - and _ make a name"));
        }
        let table = self.table(item, &format!("remote.{name}"))?;
        // The log begins before it is known which remote is meant.
        let of_one = SETTINGS.into_iter().filter(|setting| !setting.key.starts_with("log-"));
        let keys: Vec<_> = OF_A_REMOTE.into_iter().chain(of_one.map(|setting| setting.key)).collect();
        self.known(table, &section, &keys)?;
        let location = table
            .get("location")
            .ok_or_else(|| self.fault(item.span(), format!("{section} has no location")))?;
        let mut recipients = Vec::new();
        for value in self.list(table, "recipients")? {
            recipients.push(self.recipient(value)?);
        }
        let mut identities = Vec::new();
        for value in self.list(table, "identities")? {
            identities.push(self.file(self.string(Some(value), value.span(), "identities")?));
        }
        Ok(Remote {
            name: name.to_owned(),
            line: self.line(item.span()),
            location: self.location(self.string(location.as_value(), location.span(), "location")?),
            recipients,
            identities,
            settings: self.settings(table)?,
        })
    }

    /// `"FILE"`, `"KEY ID"` or `{ file = "FILE", key-id = "KEY ID" }`.
    fn recipient(&self, value: &Value) -> Result<Pinned> {
        if let Some(table) = value.as_inline_table() {
            self.known(table, "a recipient", &OF_A_RECIPIENT)?;
            let text = |key| {
                let value = table.get(key);
                value.map(|value| self.string(Some(value), value.span(), key)).transpose()
            };
            let key_id = text("key-id")?.map(str::parse).transpose();
            let key_id = key_id.map_err(|error: Error| self.fault(value.span(), error.line()))?;
            let file = text("file")?.map(|file| self.file(file));
            return match (&file, &key_id) {
                (None, None) => Err(self.fault(value.span(), "a recipient needs file, key-id or both")),
                _ => Ok(Pinned { file, key_id }),
            };
        }
        let text = self.string(Some(value), value.span(), "recipients")?;
        Ok(match text.parse() {
            Ok(key_id) => Pinned { file: None, key_id: Some(key_id) },
            Err(_) => Pinned { file: Some(self.file(text)), key_id: None },
        })
    }

    fn settings(&self, table: &dyn TableLike) -> Result<BTreeMap<&'static str, Given>> {
        let mut found = BTreeMap::new();
        for (key, item) in table.iter() {
            let Some(setting) = Setting::named(key) else { continue };
            let text = match item.as_value() {
                Some(Value::String(text)) => text.value().clone(),
                Some(Value::Integer(number)) => number.value().to_string(),
                Some(Value::Boolean(yes)) => yes.value().to_string(),
                _ => return Err(self.fault(item.span(), format!("{key} is neither text nor a number"))),
            };
            setting.check(&text).map_err(|why| self.fault(item.span(), format!("{key}: {why}")))?;
            let text = if setting.is_file { self.file(&text).display().to_string() } else { text };
            found.insert(setting.key, Given { text, line: self.line(item.span()) });
        }
        Ok(found)
    }

    fn table<'i>(&self, item: &'i Item, name: &str) -> Result<&'i dyn TableLike> {
        item.as_table_like().ok_or_else(|| {
            self.fault(item.span(), format!("{name} is not a table"))
                .hint(format!("write [{name}] on a line"))
        })
    }

    fn list<'i>(&self, table: &'i dyn TableLike, key: &str) -> Result<Vec<&'i Value>> {
        let Some(item) = table.get(key) else { return Ok(vec![]) };
        let array = item.as_array().ok_or_else(|| {
            self.fault(item.span(), format!("{key} is not a list")).hint(format!("write {key} = [\"…\"]"))
        })?;
        Ok(array.iter().collect())
    }

    fn string<'v>(&self, value: Option<&'v Value>, span: Option<Range<usize>>, key: &str) -> Result<&'v str> {
        let text = value.and_then(Value::as_str).filter(|text| !text.is_empty());
        text.ok_or_else(|| self.fault(span, format!("{key} is not a text in quotes, or an empty one")))
    }

    /// A file's name in the file, as a path.
    fn file(&self, text: &str) -> PathBuf {
        if let (Some(rest), Some(home)) = (text.strip_prefix("~/"), self.home) {
            return home.join(rest);
        }
        self.path.parent().unwrap_or(Path::new("")).join(text)
    }

    /// A location in the file, as it would be typed: paths become whole, URLs stay.
    fn location(&self, text: &str) -> PathBuf {
        let elsewhere = text.split_once('/').map_or(text, |(front, _)| front).contains(':');
        if elsewhere { PathBuf::from(text) } else { self.file(text) }
    }

    /// Refuses keys that are not known.
    fn known(&self, table: &dyn TableLike, section: &str, known: &[&str]) -> Result<()> {
        for (name, item) in table.iter() {
            if known.contains(&name) {
                continue;
            }
            let span = table.key(name).and_then(toml_edit::Key::span).or_else(|| item.span());
            if SECRETS.iter().any(|secret| simple(secret) == simple(name)) {
                return Err(self.secret(span, name));
            }
            let near = known.iter().find(|known| simple(known) == simple(name));
            let hint = match near {
                Some(near) => format!("did you mean {near}?"),
                None => format!("{section} may have {}", known.join(", ")),
            };
            return Err(self.fault(span, format!("{section} has no key {name}")).hint(hint));
        }
        Ok(())
    }

    /// No secret is read from the file; one that others can read is the greater fault.
    fn secret(&self, span: Option<Range<usize>>, key: &str) -> Error {
        if self.mode & 0o077 != 0 {
            let what = format!("{key} is a secret, and others can read this file (mode {:04o})", self.mode);
            let error = Error::new(ErrorKind::Permission, format!("line {}: {what}", self.line(span)));
            return error.at(self.path).hint(format!(
                "take it out and change it, it is not read from here; then chmod 600 {}",
                self.path.display()
            ));
        }
        self.fault(span, format!("{key}: secrets are not read from this file")).hint(
            "take it out; passphrases come from --passphrase-file, --passphrase-command or SIDEKEY_PASSPHRASE",
        )
    }

    fn fault(&self, span: Option<Range<usize>>, what: impl Into<String>) -> Error {
        Error::input(format!("line {}: {}", self.line(span), what.into())).at(self.path)
    }

    fn line(&self, span: Option<Range<usize>>) -> usize {
        let before = span.and_then(|span| self.text.as_bytes().get(..span.start)).unwrap_or_default();
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }
}

/// A key without what people mix up: case, `-`, `_` and an `s` at the end.
fn simple(key: &str) -> String {
    let key: String = key.chars().filter(|c| !matches!(c, '-' | '_')).collect();
    key.trim_end_matches('s').to_ascii_lowercase()
}

impl std::fmt::Display for Pinned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.file, &self.key_id) {
            (Some(file), Some(key_id)) => write!(f, "{} with key id {}", file.display(), key_id.short()),
            (Some(file), None) => write!(f, "{}", file.display()),
            (None, Some(key_id)) => write!(f, "key id {key_id}"),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/etc/u/config.toml";
    const KEY_ID: &str = "3977e480fb685034b325b79d06ca4814eff3385e0e7893587ef7a20923b71e0e";

    fn parse(text: &str) -> Result<ConfigFile> {
        ConfigFile::parse(text, Path::new(PATH), 0o644, Some(Path::new("/home/u")))
    }

    #[test]
    fn remotes_recipients_and_settings_are_read() {
        let file = parse(&format!(
            "# mine\n[defaults]\njobs = 3\nif-exists = \"skip\"\n\n[remote.home]\nlocation = \"vault\"\njobs = 8\n\
             path-style = true\nsse = \"kms:k\"\nsse-c-key-file = \"c.key\"\n\
             recipients = [\"a.pub.pem\", \"~/b.pub.pem\", \"{KEY_ID}\", {{ file = \"/c\", key-id = \"{KEY_ID}\" }}]\n\
             identities = [\"a.pem\"]\n[remote]\nfar.location = \"file:///x\"\nnear = {{ location = \"~/x\" }}\n"
        ))
        .unwrap();
        let given = |text: &str, line| Given { text: text.into(), line };
        assert_eq!(file.defaults["jobs"], given("3", 3));
        assert_eq!(file.defaults["if-exists"], given("skip", 4));
        let home = &file.remotes["home"];
        assert_eq!((home.name.as_str(), home.line), ("home", 6));
        assert_eq!(home.location, Path::new("/etc/u/vault"));
        assert_eq!(home.identities, [Path::new("/etc/u/a.pem")]);
        assert_eq!(home.settings["jobs"], given("8", 8));
        assert_eq!(home.settings["path-style"], given("true", 9));
        assert_eq!(home.settings["sse"], given("kms:k", 10));
        assert_eq!(home.settings["sse-c-key-file"], given("/etc/u/c.key", 11));
        let key_id = Some(KEY_ID.parse().unwrap());
        let pinned = |file: Option<&str>, key_id| Pinned { file: file.map(PathBuf::from), key_id };
        assert_eq!(
            home.recipients,
            [
                pinned(Some("/etc/u/a.pub.pem"), None),
                pinned(Some("/home/u/b.pub.pem"), None),
                pinned(None, key_id),
                pinned(Some("/c"), key_id),
            ]
        );
        assert_eq!(file.remotes["far"].location, Path::new("file:///x"));
        assert_eq!(file.remotes["near"].location, Path::new("/home/u/x"));
    }

    #[test]
    fn every_fault_has_its_line_and_a_remedy() {
        for (text, says, hint) in [
            ("[defaults]\njobs = 0", "line 2: jobs: is not a number from 1 to 256", ""),
            ("[defaults]\njobs = 1.5", "line 2: jobs is neither text nor a number", ""),
            ("[defaults]\nsse = \"d\"", "line 2: sse: \"d\" is not one of b2, s3, kms, kms:ID, c, none", ""),
            (
                "[defaults]\nendpoint = \"s3.example\"",
                "line 2: endpoint: is no address: it begins with https:// or http://",
                "",
            ),
            (
                "[defaults]\nif-exists = \"ask\"",
                "line 2: if-exists: \"ask\" is not one of replace, skip, fail",
                "",
            ),
            (
                "[defaults]\nif_exists = \"skip\"",
                "line 2: [defaults] has no key if_exists",
                "did you mean if-exists?",
            ),
            ("[default]", "line 1: the file has no key default", "did you mean defaults?"),
            (
                "[remote.a]\nlocation = \"x\"\nrecipient = []",
                "line 3: [remote.a] has no key recipient",
                "did you mean recipients?",
            ),
            (
                "[remote.a]\nlocation = \"x\"\ncolour = 1",
                "line 3: [remote.a] has no key colour",
                "[remote.a] may have location, recipients, identities, jobs, if-exists, b2-endpoint, endpoint, region, \
                 profile, path-style, ca-file, connections, sse, sse-c-key-file",
            ),
            ("\n[remote.a]", "line 2: [remote.a] has no location", ""),
            ("[remote.a]\nlocation = 1", "line 2: location is not a text in quotes, or an empty one", ""),
            ("[remote.a]\nlocation = \"\"", "line 2: location is not a text in quotes, or an empty one", ""),
            (
                "[remote.\"a b\"]\nlocation = \"x\"",
                "line 1: \"a b\" is not a name for a remote",
                "letters, digits, - and _ make a name",
            ),
            (
                "[remote.a]\nlocation = \"x\"\nrecipients = \"k\"",
                "line 3: recipients is not a list",
                "write recipients = [\"…\"]",
            ),
            (
                "[remote.a]\nlocation = \"x\"\nrecipients = [\n1]",
                "line 4: recipients is not a text in quotes, or an empty one",
                "",
            ),
            (
                "[remote.a]\nlocation = \"x\"\nrecipients = [{}]",
                "line 3: a recipient needs file, key-id or both",
                "",
            ),
            (
                "[remote.a]\nlocation = \"x\"\nrecipients = [{ key-id = \"12\" }]",
                "line 3: key id is not 64 lower-case hex digits",
                "",
            ),
            (
                "[remote.a]\nlocation = \"x\"\nrecipients = [{ keyid = \"12\" }]",
                "line 3: a recipient has no key keyid",
                "did you mean key-id?",
            ),
            ("remote = 1", "line 1: remote is not a table", "write [remote] on a line"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.line(), format!("{PATH}: {says}"), "{text}");
            assert_eq!(error.remedy().unwrap_or_default(), hint, "{text}");
            assert_eq!(error.kind(), ErrorKind::Input, "{text}");
        }
        let error = parse("[defaults]\njobs = \n").unwrap_err();
        assert!(error.line().starts_with("/etc/u/config.toml: line 2: "), "{error:?}");
    }

    #[test]
    fn secrets_are_refused_and_first_where_others_can_read_them() {
        let text = "[remote.a]\nlocation = \"x\"\napplication_key = \"K001\"";
        let error = parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permission);
        assert!(
            error
                .line()
                .ends_with("line 3: application_key is a secret, and others can read this file (mode 0644)"),
            "{error:?}"
        );
        assert!(!error.line().contains("K001"));
        let error = ConfigFile::parse(text, Path::new(PATH), 0o600, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input);
        assert!(
            error.line().ends_with("line 3: application_key: secrets are not read from this file"),
            "{error:?}"
        );
    }
}
