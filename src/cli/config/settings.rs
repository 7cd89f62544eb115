//! The settings that can be typed, set in the environment, and configured for all remotes or one.

use std::collections::BTreeMap;

use crate::cli::work;

/// One setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Its name in the configuration file.
    pub(crate) key: &'static str,
    /// Its option, as it is typed.
    pub(crate) flag: &'static str,
    /// Its environment variable.
    pub(crate) env: &'static str,
    /// What holds otherwise, for people.
    pub(crate) default: &'static str,
    check: fn(&str) -> Result<(), String>,
}

/// What was typed for settings, by their keys.
pub(crate) type Typed = BTreeMap<&'static str, String>;

/// How many threads work.
pub(crate) static JOBS: Setting = Setting {
    key: "jobs",
    flag: "--jobs",
    env: "SIDEKEY_JOBS",
    default: "one a processor, 16 at most",
    check: |text| work::parse_jobs(text).map(drop),
};

/// What `put` does with a name that is taken.
pub(crate) static IF_EXISTS: Setting = Setting {
    key: "if-exists",
    flag: "--if-exists",
    env: "SIDEKEY_IF_EXISTS",
    default: "replace",
    check: |text| one_of(text, &["replace", "skip", "fail"]),
};

/// All of them.
pub(crate) static SETTINGS: [&Setting; 2] = [&JOBS, &IF_EXISTS];

impl Setting {
    /// The setting of this name in the configuration file.
    pub(crate) fn named(key: &str) -> Option<&'static Self> {
        SETTINGS.into_iter().find(|setting| setting.key == key)
    }

    /// Whether it can have this value; if not, why.
    pub(crate) fn check(&self, text: &str) -> Result<(), String> {
        (self.check)(text)
    }
}

fn one_of(text: &str, values: &[&str]) -> Result<(), String> {
    match values.contains(&text) {
        true => Ok(()),
        false => Err(format!("{text:?} is not one of {}", values.join(", "))),
    }
}
