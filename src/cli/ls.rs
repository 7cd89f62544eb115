//! `sidekey ls`.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal as _;
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;
use sidekey::ops::ls::{Kind, Line, LsOptions, LsSummary, Problem, ls};
use sidekey::ops::twins::Twins;
use sidekey::store::Object;
use sidekey::{Error, ErrorKind, Result, rfc3339};

use super::location::Place;
use super::report::{Report, shown};
use super::work::SuffixArgs;

/// list what stands in locations
///
/// Prints the names of the files and folders, one a line, and opens nothing. With -l also sizes, times and whom the
/// envelopes are for: that reads 128 bytes of each container, and its envelope. A size with ~ before it is up to 15 bytes
/// less: only the key tells. What is wrong is said, and is for verify to judge.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey ls vault/
  sidekey ls -lR vault/photos
  sidekey ls --versions --json vault/letter.odt

columns of -l: size in bytes, when it was stored (in a vault: when the file was changed), key ids of
the recipients, version with --versions, name")]
pub(crate) struct Args {
    /// folders, remotes and what is in them
    #[arg(value_name = "LOCATION", required = true)]
    locations: Vec<OsString>,
    /// list sizes, times and recipients too, and what is no pair
    #[arg(short, long)]
    long: bool,
    /// list what is in folders, not only the folders
    #[arg(short = 'R', long)]
    recursive: bool,
    /// list older versions and delete markers too, where the store keeps them
    #[arg(long)]
    versions: bool,
    #[command(flatten)]
    suffix: SuffixArgs,
}

#[derive(Serialize)]
struct Row<'a> {
    r#type: &'static str,
    kind: &'static str,
    name: String,
    object: Option<&'a str>,
    version: Option<&'a str>,
    latest: Option<bool>,
    deleted: Option<bool>,
    stored_size: Option<u64>,
    size_min: Option<u64>,
    size_max: Option<u64>,
    modified: Option<String>,
    mtime: Option<String>,
    recipients: Vec<String>,
    recipe: bool,
    problem: Option<String>,
}

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        let options = LsOptions { recursive: self.recursive, versions: self.versions, long: self.long };
        for typed in &self.locations {
            let twins = Twins::default();
            let listed = Place::open(typed).and_then(|place| {
                let target = place.target.with_recipe_suffix(self.suffix.suffix());
                ls(&target, options, &mut |line| match line {
                    Ok(line) => {
                        self.show(typed, &line, report);
                        warn_of_twins(&twins, &line, report);
                    }
                    Err(error) => report.failure(&error),
                })
            });
            match listed {
                Ok(summary) => self.remark(&summary, report),
                Err(error) => report.failure(&error),
            }
        }
        Ok(())
    }

    fn show(&self, typed: &OsStr, line: &Line, report: &Report) {
        let mut name = if self.locations.len() > 1 { front(typed, line.from_parent) } else { vec![] };
        name.extend(line.path.join(&b'/'));
        if line.kind == Kind::Folder {
            name.push(b'/');
        }
        if report.is_json() {
            return report.result(&row(line, &name), [""]);
        }
        let object = line.object.as_ref();
        if !self.long {
            if let Some(warning) = line.problem.as_ref().and_then(|problem| warning(problem, &name)) {
                report.warning(&warning);
            }
            if matches!(line.kind, Kind::Envelope | Kind::Foreign) {
                return;
            }
        }
        let mut text = String::new();
        if self.long {
            let recipients: Vec<String> = line.recipients.iter().map(|recipient| recipient.short()).collect();
            let recipients = if recipients.is_empty() { "-".into() } else { recipients.join(",") };
            let time = changed(line).unwrap_or_else(|| object.map_or("-".into(), time));
            text = format!("{:>14}  {time:<20}  {recipients:<16}  ", size(line));
        }
        if self.versions {
            text.push_str(&format!("{}  ", object.map_or("-", |object| &object.version)));
        }
        let mut bytes = text.into_bytes();
        bytes.extend(name);
        if self.long {
            if line.is_recipe {
                bytes.extend(b"  (OpenSSL recipe)");
            }
            bytes.extend(line.problem.iter().flat_map(|problem| format!("  ({problem})").into_bytes()));
        } else if object.is_some_and(|object| object.marker) {
            bytes.extend(b"  (deleted)");
        }
        print(bytes, report);
    }

    /// What a plain listing leaves out.
    fn remark(&self, summary: &LsSummary, report: &Report) {
        let counts = [
            (summary.no_container, "envelopes without a container", "-l"),
            (summary.foreign, "foreign objects", "-l"),
            (summary.hidden, "names without a current container", "--versions"),
        ];
        for (count, what, option) in counts {
            if count > 0 && (!self.long || option != "-l") {
                report.note(format_args!("left out, listed with {option}: {what} ({count})"));
            }
        }
    }
}

/// Says once of each name that another one looks the same.
fn warn_of_twins(twins: &Twins, line: &Line, report: &Report) {
    if matches!(line.kind, Kind::File | Kind::Folder) {
        for twin in twins.note(&line.path) {
            let name = line.path.join(&b'/');
            report.warning(&Error::input(twin.to_string()).about(String::from_utf8_lossy(&name)));
        }
    }
}

/// One line on standard output: as it is for programs, escaped on a terminal.
fn print(mut line: Vec<u8>, report: &Report) {
    if std::io::stdout().is_terminal() {
        line = shown(&String::from_utf8_lossy(&line), true).into_owned().into_bytes();
    }
    line.push(b'\n');
    report.data(&line);
}

/// What was typed, as the front of the names in it.
fn front(typed: &OsStr, from_parent: bool) -> Vec<u8> {
    let bytes = typed.as_bytes();
    let end = bytes.iter().rposition(|byte| *byte != b'/').map_or(bytes.len().min(1), |last| last + 1);
    let mut front = bytes[..end].to_vec();
    if from_parent {
        let keep = front.iter().rposition(|byte| matches!(byte, b'/' | b':')).map_or(0, |at| at + 1);
        front.truncate(keep);
    } else if !matches!(front.last(), Some(b':' | b'/') | None) {
        front.push(b'/');
    }
    front
}

/// What a plain listing says of a file that it names.
fn warning(problem: &Problem, name: &[u8]) -> Option<Error> {
    let error = match problem {
        Problem::NoEnvelope => Error::integrity("has no envelope: nobody can open it")
            .hint("sidekey verify tells more; look for its .key.enc file in other copies"),
        Problem::Unlisted => Error::new(ErrorKind::Io, problem.to_string()),
        Problem::Unreadable(error) => Error::new(error.kind(), error.line()),
        Problem::NoContainer | Problem::Foreign => return None,
    };
    Some(error.about(String::from_utf8_lossy(name)))
}

fn size(line: &Line) -> String {
    match line.size {
        _ if line.object.as_ref().is_some_and(|object| object.marker) => "deleted".into(),
        Some((min, max)) if min == max => max.to_string(),
        Some((_, max)) => format!("~{max}"),
        None => "-".into(),
    }
}

fn time(object: &Object) -> String {
    rfc3339(object.modified)
}

/// When the file was changed, as the info record of a vault says.
fn changed(line: &Line) -> Option<String> {
    let mtime = u64::try_from(line.info.as_ref()?.mtime? / 1_000_000_000).ok()?;
    // What has no four digits for its year is not written so.
    let time = UNIX_EPOCH + Duration::from_secs(Some(mtime).filter(|mtime| *mtime <= LATEST)?);
    Some(rfc3339(time))
}

/// The last second of the year 9999, since 1970.
const LATEST: u64 = 253_402_300_799;

fn row<'a>(line: &'a Line, name: &[u8]) -> Row<'a> {
    let object = line.object.as_ref();
    let (min, max) = line.size.unzip();
    Row {
        r#type: "ls",
        kind: match line.kind {
            Kind::File => "file",
            Kind::Folder => "folder",
            Kind::Envelope => "envelope",
            Kind::Foreign => "foreign",
        },
        name: String::from_utf8_lossy(name).into_owned(),
        object: object.map(|object| object.key.as_str()),
        version: object.map(|object| object.version.as_str()),
        latest: object.map(|object| object.latest),
        deleted: object.map(|object| object.marker),
        stored_size: object.map(|object| object.size),
        size_min: min,
        size_max: max,
        modified: object.map(time),
        mtime: changed(line),
        recipients: line.recipients.iter().map(ToString::to_string).collect(),
        recipe: line.is_recipe,
        problem: line.problem.as_ref().map(ToString::to_string),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_is_the_front_of_the_names() {
        for (typed, from_parent, expected) in [
            ("vault", false, "vault/"),
            ("vault//", false, "vault/"),
            ("/", false, "/"),
            ("home:", false, "home:"),
            ("home:a/", false, "home:a/"),
            ("vault/x", true, "vault/"),
            ("home:x", true, "home:"),
            ("x", true, ""),
        ] {
            let found = front(OsStr::new(typed), from_parent);
            assert_eq!(String::from_utf8(found).unwrap(), expected, "{typed}");
        }
    }
}
