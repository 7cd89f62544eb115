//! The settings that can be typed, set in the environment, and configured for all remotes or one.

use std::collections::BTreeMap;

use crate::cli::{log, sse, work};

/// One setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Its name in the configuration file.
    pub(crate) key: &'static str,
    /// Its option, as it is typed.
    pub(crate) flag: &'static str,
    /// Its environment variables; the first that is set counts.
    pub(crate) env: &'static [&'static str],
    /// What holds otherwise, for people.
    pub(crate) default: &'static str,
    /// What its option is called and says in the help of the commands on locations; nothing where commands have one of
    /// their own.
    pub(crate) of_stores: Option<Help>,
    /// Whether it is the name of a file.
    pub(crate) is_file: bool,
    check: fn(&str) -> Result<(), String>,
}

/// How an option is explained.
#[derive(Debug)]
pub(crate) struct Help {
    pub(crate) value: &'static str,
    pub(crate) text: &'static str,
}

/// What was typed for settings, by their keys.
pub(crate) type Typed = BTreeMap<&'static str, String>;

/// How many threads work.
pub(crate) static JOBS: Setting = Setting {
    key: "jobs",
    flag: "--jobs",
    env: &["SIDEKEY_JOBS"],
    default: "one a processor, 16 at most",
    of_stores: None,
    is_file: false,
    check: |text| work::parse_jobs(text).map(drop),
};

/// Where the log goes.
pub(crate) static LOG_FILE: Setting = Setting {
    key: "log-file",
    flag: "--log-file",
    env: &["SIDEKEY_LOG_FILE"],
    default: "none",
    of_stores: None,
    is_file: true,
    check: is_filled,
};

/// How much of what happens is logged.
pub(crate) static LOG_LEVEL: Setting = Setting {
    key: "log-level",
    flag: "--log-level",
    env: &["SIDEKEY_LOG_LEVEL"],
    default: "info",
    of_stores: None,
    is_file: false,
    check: |text| one_of(text, &log::LEVELS),
};

/// What `put` does with a name that is taken.
pub(crate) static IF_EXISTS: Setting = Setting {
    key: "if-exists",
    flag: "--if-exists",
    env: &["SIDEKEY_IF_EXISTS"],
    default: "replace",
    of_stores: None,
    is_file: false,
    check: |text| one_of(text, &["replace", "skip", "fail"]),
};

/// Where `b2://` is.
pub(crate) static B2_ENDPOINT: Setting = Setting {
    key: "b2-endpoint",
    flag: "--b2-endpoint",
    env: &["SIDEKEY_B2_ENDPOINT", "B2_ENDPOINT"],
    default: "that of Backblaze",
    of_stores: Some(Help { value: "URL", text: "where b2:// is; by default with Backblaze" }),
    is_file: false,
    check: is_url,
};

/// Where `s3://` is.
pub(crate) static ENDPOINT: Setting = Setting {
    key: "endpoint",
    flag: "--endpoint",
    env: &["SIDEKEY_ENDPOINT"],
    default: "AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, else that of AWS",
    of_stores: Some(Help { value: "URL", text: "where s3:// is; by default with AWS" }),
    is_file: false,
    check: is_url,
};

/// The region of `s3://`.
pub(crate) static REGION: Setting = Setting {
    key: "region",
    flag: "--region",
    env: &["SIDEKEY_REGION"],
    default: "as the aws tool finds it",
    of_stores: Some(Help { value: "NAME", text: "the region of s3://; by default as the aws tool finds it" }),
    is_file: false,
    check: is_filled,
};

/// The profile for `s3://`.
pub(crate) static PROFILE: Setting = Setting {
    key: "profile",
    flag: "--profile",
    env: &["SIDEKEY_PROFILE"],
    default: "as the aws tool finds it",
    of_stores: Some(Help { value: "NAME", text: "the profile of the AWS configuration to use for s3://" }),
    is_file: false,
    check: is_filled,
};

/// How buckets of `s3://` are addressed.
pub(crate) static PATH_STYLE: Setting = Setting {
    key: "path-style",
    flag: "--path-style",
    env: &["SIDEKEY_PATH_STYLE"],
    default: "true where an endpoint is named",
    of_stores: Some(Help {
        value: "true|false",
        text: "whether s3:// names buckets in the path of a URL, not in its host; by default with an endpoint",
    }),
    is_file: false,
    check: |text| one_of(text, &["true", "false"]),
};

/// Whom to trust besides.
pub(crate) static CA_FILE: Setting = Setting {
    key: "ca-file",
    flag: "--ca-file",
    env: &["SIDEKEY_CA_FILE"],
    default: "none",
    of_stores: Some(Help {
        value: "FILE",
        text: "trust the certificates (PEM) in FILE too, for s3:// with a service of one's own",
    }),
    is_file: true,
    check: is_filled,
};

/// How many requests are under way.
pub(crate) static CONNECTIONS: Setting = Setting {
    key: "connections",
    flag: "--connections",
    env: &["SIDEKEY_CONNECTIONS"],
    default: "32",
    of_stores: Some(Help {
        value: "N",
        text: "how many requests are under way with a service at the most; by default 32",
    }),
    is_file: false,
    check: |text| {
        let number = text.parse().ok().filter(|number: &usize| (1..=256).contains(number));
        number.map(drop).ok_or_else(|| "is not a number from 1 to 256".into())
    },
};

/// How the service encrypts what is put.
pub(crate) static SSE: Setting = Setting {
    key: "sse",
    flag: "--sse",
    env: &["SIDEKEY_SSE"],
    default: "none: as the bucket says",
    of_stores: Some(Help {
        value: "HOW",
        text: "have the service encrypt too what is written: b2 or s3 (a key of the service), kms or kms:ID, c (a key that it \
               does not keep, another one for each file), none (as the bucket says; the default)",
    }),
    is_file: false,
    check: |text| text.parse::<sse::Sse>().map(drop),
};

/// The one key for all files that are encrypted with `--sse c`.
pub(crate) static SSE_C_KEY_FILE: Setting = Setting {
    key: "sse-c-key-file",
    flag: "--sse-c-key-file",
    env: &["SIDEKEY_SSE_C_KEY_FILE"],
    default: "none: each file has a key of its own",
    of_stores: Some(Help {
        value: "FILE",
        text: "the one key of --sse c for all files, to write and to read: 32 bytes, or these in hex or base64",
    }),
    is_file: true,
    check: is_filled,
};

/// All of them.
pub(crate) static SETTINGS: [&Setting; 13] = [
    &LOG_FILE,
    &LOG_LEVEL,
    &JOBS,
    &IF_EXISTS,
    &B2_ENDPOINT,
    &ENDPOINT,
    &REGION,
    &PROFILE,
    &PATH_STYLE,
    &CA_FILE,
    &CONNECTIONS,
    &SSE,
    &SSE_C_KEY_FILE,
];

impl Setting {
    /// The setting of this name in the configuration file.
    pub(crate) fn named(key: &str) -> Option<&'static Self> {
        SETTINGS.into_iter().find(|setting| setting.key == key)
    }

    /// Whether it can have this value; if not, why.
    pub(crate) fn check(&self, text: &str) -> Result<(), String> {
        (self.check)(text)
    }

    /// The id of its option: where a command has one of its own, that is the name of a field.
    pub(crate) fn id(&self) -> String {
        match self.of_stores {
            Some(_) => self.key.to_owned(),
            None => self.key.replace('-', "_"),
        }
    }

    /// Its option for the commands on locations; nothing where commands have one of their own.
    pub(crate) fn option(&'static self) -> Option<clap::Arg> {
        let help = self.of_stores.as_ref()?;
        let parse = |text: &str| self.check(text).map(|()| text.to_owned());
        let option = clap::Arg::new(self.key)
            .long(self.key)
            .value_name(help.value)
            .help(help.text)
            .help_heading("Stores")
            .global(true)
            .value_parser(parse);
        Some(match self.key == PATH_STYLE.key {
            true => option.num_args(0..=1).require_equals(true).default_missing_value("true"),
            false => option,
        })
    }
}

fn one_of(text: &str, values: &[&str]) -> Result<(), String> {
    match values.contains(&text) {
        true => Ok(()),
        false => Err(format!("{text:?} is not one of {}", values.join(", "))),
    }
}

fn is_url(text: &str) -> Result<(), String> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or_default();
    match host.is_empty() {
        true => Err("is no address: it begins with https:// or http://".into()),
        false => Ok(()),
    }
}

fn is_filled(text: &str) -> Result<(), String> {
    if text.is_empty() { Err("is empty".into()) } else { Ok(()) }
}
