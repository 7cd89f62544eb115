//! `--explain-config`: every setting, its value, and what says so.

use serde::Serialize;

use super::{Config, NamedBy, SETTINGS, Source};
use crate::cli::report::Report;

/// One line of the explanation.
#[derive(Serialize)]
struct Line<'a> {
    r#type: &'a str,
    name: String,
    value: String,
    source: &'a str,
    /// The option, the variable, or the line of the file.
    by: String,
}

impl Config {
    /// Prints what holds, and why.
    pub(crate) fn explain(&self, report: &Report) {
        let path = self.place().path.as_ref().map(|path| path.display().to_string());
        let by = match self.place().named_by {
            NamedBy::Flag => "--config",
            NamedBy::Environment => "SIDEKEY_CONFIG",
            NamedBy::Default => "",
        };
        let missing = if self.place().found { "" } else { "there is no such file" };
        let source = match self.place().named_by {
            NamedBy::Flag => "flag",
            NamedBy::Environment => "environment",
            NamedBy::Default => "default",
        };
        let by = [by, missing].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(", ");
        tell(report, "config", path.unwrap_or_default(), source, by);
        for setting in SETTINGS {
            let value = self.value(setting, None);
            self.tell_value(report, setting.key, value.text, &value.source);
        }
        for remote in self.remotes() {
            let line = Source::File(remote.line);
            let name = |key: &str| format!("remote.{}.{key}", remote.name);
            self.tell_value(report, &name("location"), remote.location.display().to_string(), &line);
            for pinned in &remote.recipients {
                self.tell_value(report, &name("recipients"), pinned.to_string(), &line);
            }
            for identity in &remote.identities {
                self.tell_value(report, &name("identities"), identity.display().to_string(), &line);
            }
            for (key, given) in &remote.settings {
                self.tell_value(report, &name(key), given.text.clone(), &Source::File(given.line));
            }
        }
    }

    fn tell_value(&self, report: &Report, name: &str, value: String, source: &Source) {
        let (source, by) = match source {
            Source::Flag(flag) => ("flag", (*flag).to_owned()),
            Source::Environment(variable) => ("environment", (*variable).to_owned()),
            Source::File(line) => ("file", format!("line {line}")),
            Source::Default => ("default", String::new()),
        };
        tell(report, name, value, source, by);
    }
}

fn tell(report: &Report, name: &str, value: String, source: &str, by: String) {
    let why = match by.is_empty() {
        true => source.to_owned(),
        false => format!("{source}: {by}"),
    };
    let text = format!("{name} = {value} ({why})");
    report.result(&Line { r#type: "setting", name: name.to_owned(), value, source, by }, [text]);
}
