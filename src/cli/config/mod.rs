//! The configuration: what the environment and `config.toml` say, and where each value came from. The one place that
//! reads the environment.

mod edit;
mod explain;
mod file;
mod settings;
mod vaults;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind as IoErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sidekey::location::argument::no_remote;
use sidekey::{Error, IoContext as _, Result};

pub(crate) use self::edit::{Editor, NewRemote, location_of};
pub(crate) use self::file::{Pinned, Remote};
pub(crate) use self::settings::{
    B2_ENDPOINT, CA_FILE, CONNECTIONS, ENDPOINT, IF_EXISTS, JOBS, LOG_FILE, LOG_LEVEL, PATH_STYLE, PROFILE,
    REGION, SETTINGS, SSE, SSE_C_KEY_FILE, Setting, Typed,
};

pub(crate) use self::vaults::{PinnedVault, read as read_vault};

use self::file::ConfigFile;

/// A longer file is none of ours.
const MAX_LEN: u64 = 1 << 20;

/// The value of the environment variable `name`, if it is set.
#[expect(clippy::disallowed_methods, reason = "this is the one reader of the environment")]
pub(super) fn env(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// The same, where an empty value is as good as none.
fn filled(name: &str) -> Option<OsString> {
    env(name).filter(|value| !value.is_empty())
}

/// Everything that is configured, and what was typed for it.
#[derive(Debug, Default)]
pub(crate) struct Config {
    place: Place,
    file: ConfigFile,
    /// Settings from the environment, by their key, and the variable of each.
    environment: BTreeMap<&'static str, (&'static str, String)>,
    typed: Typed,
}

/// Where the configuration file is, or would be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    /// Nothing where there is no home folder.
    pub(crate) path: Option<PathBuf>,
    pub(crate) named_by: NamedBy,
    pub(crate) found: bool,
}

/// What says where the configuration file is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum NamedBy {
    Flag,
    Environment,
    #[default]
    Default,
}

/// A value and what says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) text: String,
    pub(crate) source: Source,
}

/// Where a value came from, the stronger first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// This option of the command line.
    Flag(&'static str),
    /// This environment variable.
    Environment(&'static str),
    /// This line of the configuration file.
    File(usize),
    Default,
}

static CURRENT: OnceLock<Config> = OnceLock::new();

/// The configuration of this run.
pub(crate) fn current() -> &'static Config {
    CURRENT.get_or_init(Config::default)
}

/// Makes `config` the configuration of this run; once, before any command runs.
pub(crate) fn set(config: Config) {
    // A second one would be ignored.
    let _ = CURRENT.set(config);
}

impl Config {
    /// Reads the environment and the configuration file: the one that `--config` or `SIDEKEY_CONFIG` names, else the one
    /// of the user. The latter need not be there, nor need the former when it `may_be_missing`.
    ///
    /// # Errors
    /// What is wrong with the file, by line; `Usage` for a setting in the environment that cannot be; `NotFound`.
    pub(crate) fn load(flag: Option<&Path>, may_be_missing: bool, typed: Typed) -> Result<Self> {
        let mut place = Place::find(flag);
        let mut file = ConfigFile::default();
        if let Some(path) = &place.path {
            match read(path)? {
                Some((text, mode)) => {
                    file = ConfigFile::parse(&text, path, mode, home().as_deref())?;
                    place.found = true;
                }
                None if place.named_by != NamedBy::Default && !may_be_missing => {
                    let error = Error::not_found("there is no such configuration file").at(path);
                    return Err(match place.named_by {
                        NamedBy::Environment => {
                            error.hint("SIDEKEY_CONFIG names it; unset that, or make the file")
                        }
                        _ => error.hint("sidekey remote add makes one"),
                    });
                }
                None => {}
            }
        }
        let mut environment = BTreeMap::new();
        for setting in SETTINGS {
            let set = setting.env.iter().find_map(|variable| Some((*variable, filled(variable)?)));
            let Some((variable, value)) = set else { continue };
            let value = value.into_string().map_err(|_| "is not UTF-8".to_owned());
            let value = value.and_then(|value| setting.check(&value).map(|()| value));
            let value = value.map_err(|why| Error::usage(why).about(variable))?;
            environment.insert(setting.key, (variable, value));
        }
        Ok(Self { place, file, environment, typed })
    }

    /// Where the file is, or would be.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The path of the file, to write.
    ///
    /// # Errors
    /// `Usage` where there is no home folder.
    pub(crate) fn path(&self) -> Result<&Path> {
        self.place.path.as_deref().ok_or_else(|| {
            Error::usage("there is no place for a configuration: HOME is not set")
                .hint("name a file with --config")
        })
    }

    /// The configured remotes, by name.
    pub(crate) fn remotes(&self) -> impl Iterator<Item = &Remote> {
        self.file.remotes.values()
    }

    /// The remote of this name.
    ///
    /// # Errors
    /// `Usage` when none is configured.
    pub(crate) fn remote(&self, name: &str) -> Result<&Remote> {
        self.file.remotes.get(name).ok_or_else(|| no_remote(name))
    }

    /// What holds for a setting: what was typed, else the environment, else the remote's part of the file, else the file,
    /// else the default.
    pub(crate) fn value(&self, setting: &Setting, remote: Option<&Remote>) -> Value {
        let value = |text: &str, source| Value { text: text.to_owned(), source };
        if let Some(text) = self.typed.get(setting.key) {
            return value(text, Source::Flag(setting.flag));
        }
        if let Some((variable, text)) = self.environment.get(setting.key) {
            return value(text, Source::Environment(variable));
        }
        let of_remote = remote.and_then(|remote| remote.settings.get(setting.key));
        match of_remote.or_else(|| self.file.defaults.get(setting.key)) {
            Some(given) => value(&given.text, Source::File(given.line)),
            None => value(setting.default, Source::Default),
        }
    }

    /// What holds for a setting whose values are of type `T`, where anything but the default does.
    pub(crate) fn get<T: std::str::FromStr>(&self, setting: &Setting, remote: Option<&Remote>) -> Option<T> {
        let value = self.value(setting, remote);
        (value.source != Source::Default).then(|| value.text.parse().ok()).flatten()
    }
}

impl Place {
    fn find(flag: Option<&Path>) -> Self {
        let place = |path, named_by| Self { path, named_by, found: false };
        if let Some(path) = flag {
            return place(Some(path.to_owned()), NamedBy::Flag);
        }
        if let Some(path) = filled("SIDEKEY_CONFIG") {
            return place(Some(path.into()), NamedBy::Environment);
        }
        // The XDG Base Directory Specification: what is not absolute counts as not set.
        let folder = filled("XDG_CONFIG_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
        let folder = folder.or_else(|| Some(home()?.join(".config")));
        place(folder.map(|folder| folder.join("sidekey/config.toml")), NamedBy::Default)
    }
}

/// The folder for what runs remember of each other, which need not be there; nothing where there is no home.
pub(crate) fn state_folder() -> Option<PathBuf> {
    let folder = filled("XDG_STATE_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let folder = folder.or_else(|| Some(home()?.join(".local/state")));
    folder.map(|folder| folder.join("sidekey"))
}

fn home() -> Option<PathBuf> {
    filled("HOME").map(PathBuf::from)
}

/// The text of the file and its permission bits; nothing when it is not there.
fn read(path: &Path) -> Result<Option<(String, u32)>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(None),
        opened => opened.context("cannot read the configuration", path)?,
    };
    let mode = file.metadata().context("cannot read the configuration", path)?.mode();
    let mut text = String::new();
    let read = file.take(MAX_LEN + 1).read_to_string(&mut text);
    match read.context("cannot read the configuration", path)? {
        len if len as u64 > MAX_LEN => Err(Error::input("is longer than a configuration can be").at(path)),
        _ => Ok(Some((text, mode & 0o777))),
    }
}
