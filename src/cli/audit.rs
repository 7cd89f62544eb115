//! `sidekey audit`.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use serde::Serialize;
use sidekey::ops::audit::{AuditSummary, Audited, Subject, Verdict, audit};
use sidekey::ops::events::{Event, Observer};
use sidekey::{KeyId, Result};

use super::guard;
use super::identity::load_identities;
use super::location::Place;
use super::passphrase::PassphraseArgs;
use super::report::Report;
use super::work;

/// find what a key can still open, old versions included
///
/// With the private key, it is tried on every entry of every version of every envelope and key file: labels are not
/// trusted. With a key id alone, labels are all there is to go by. Copies under other names are found too; only what is
/// called like a container and has an envelope of its name beside it is taken for one without being read.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey audit vault/ -i old.pem
  sidekey audit vault/ --key-id 9ab1c0ffee123456

exit code 4: the key still opens something, or something cannot be judged; each is listed")]
pub(crate) struct Args {
    /// folders, remotes and what is in them
    #[arg(value_name = "LOCATION", required = true)]
    locations: Vec<OsString>,
    /// the private key to try (repeatable)
    #[arg(short, long, value_name = "FILE", required_unless_present = "key_id")]
    identity: Vec<PathBuf>,
    /// the key id to look for in labels: all of it, or its first 16 hex digits or more
    #[arg(long, value_name = "ID", value_parser = parse_key_id, conflicts_with = "identity")]
    key_id: Option<String>,
    /// how many threads work; by default one a processor, 16 at most
    #[arg(long, value_name = "N", value_parser = work::parse_jobs)]
    jobs: Option<usize>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

#[derive(Serialize)]
struct Row<'a> {
    r#type: &'static str,
    object: &'a str,
    version: &'a str,
    latest: bool,
    result: &'static str,
    keys: Vec<String>,
    detail: Option<&'a str>,
}

#[derive(Serialize)]
struct Totals {
    r#type: &'static str,
    location: String,
    tried: bool,
    audited: u64,
    old_versions: u64,
    opened: u64,
    unknown: u64,
    failed: u64,
    others: u64,
}

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        guard::say_when_interrupted(report, "nothing was changed");
        let subject = match &self.key_id {
            Some(label) => Subject::Label(label.clone()),
            None => Subject::Keys(load_identities(&self.identity, &self.passphrase, report)?),
        };
        let (mut remains, mut failed) = (false, false);
        for typed in &self.locations {
            let audited = Place::open(typed)
                .and_then(|place| audit(&place.target, &subject, place.jobs(self.jobs), &Watcher { report }));
            match audited {
                Ok(summary) => {
                    remains |= summary.opened + summary.unknown > 0;
                    failed |= summary.failed > 0;
                    tell(report, typed.to_string_lossy().into_owned(), &subject, &summary);
                }
                Err(error) => {
                    failed = true;
                    report.failure(&error);
                }
            }
        }
        if remains {
            report.remains();
        } else if !failed {
            report.note(
                "that holds as of now: uploads that began before, and hosts that still use the old public key, show in \
                 a second audit, at least 7 days from now; keep the old private key until then",
            );
        }
        if matches!(subject, Subject::Label(_)) {
            report.note("labels can be wrong: only the private key, with --identity, proves what it opens");
        }
        Ok(())
    }
}

/// Audits one location, and tells what it came to; whether nothing is left that a key opens.
pub(super) fn check(
    place: &Place,
    typed: &OsStr,
    subject: &Subject,
    jobs: Option<usize>,
    report: &Report,
) -> bool {
    match audit(&place.target, subject, place.jobs(jobs), &Watcher { report }) {
        Ok(summary) => {
            let remains = summary.opened + summary.unknown > 0;
            if remains {
                report.remains();
            }
            tell(report, typed.to_string_lossy().into_owned(), subject, &summary);
            !remains && summary.failed == 0
        }
        Err(error) => {
            report.failure(&error);
            false
        }
    }
}

struct Watcher<'a> {
    report: &'a Report,
}

impl Observer for Watcher<'_> {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Failed(error) => self.report.failure(error),
            Event::Audited(audited) => show(audited, self.report),
            _ => {}
        }
    }
}

fn show(audited: &Audited, report: &Report) {
    let Audited { object, version, latest, verdict } = audited;
    let (result, keys, detail) = match verdict {
        Verdict::Opens(keys) => ("opens", keys.as_slice(), None),
        Verdict::Labelled(keys) => ("labelled", keys.as_slice(), None),
        Verdict::Unknown(why) => ("unknown", &[][..], Some(why.as_str())),
    };
    let short: Vec<String> = keys.iter().map(KeyId::short).collect();
    let text = match verdict {
        Verdict::Opens(_) => format!("opens with {}", short.join(", ")),
        Verdict::Labelled(_) => format!("is labelled for {}", short.join(", ")),
        Verdict::Unknown(why) => why.clone(),
    };
    let age = if *latest { "" } else { "old " };
    let keys = keys.iter().map(ToString::to_string).collect();
    let row = Row { r#type: "audit", object, version, latest: *latest, result, keys, detail };
    report.result(&row, [format!("{object}  {age}version {version}  {text}")]);
}

fn tell(report: &Report, location: String, subject: &Subject, summary: &AuditSummary) {
    let tried = matches!(subject, Subject::Keys(_));
    let (verb, found) = match tried {
        true => ("tried on", "are still opened"),
        false => ("looked for the label of", "have it"),
    };
    let mut text = format!(
        "{location}: {verb} {} versions of envelopes, {} of them old: {} {found}",
        summary.audited, summary.old_versions, summary.opened
    );
    for (count, what) in [
        (summary.unknown, "cannot be judged"),
        (summary.failed, "failed"),
        (summary.others, "other objects are no envelopes"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    let totals = Totals {
        r#type: "summary",
        location,
        tried,
        audited: summary.audited,
        old_versions: summary.old_versions,
        opened: summary.opened,
        unknown: summary.unknown,
        failed: summary.failed,
        others: summary.others,
    };
    report.done(&totals, text);
}

/// Lower case, and long enough to mean one key.
fn parse_key_id(text: &str) -> Result<String, String> {
    let id = text.to_ascii_lowercase();
    let is_hex = id.bytes().all(|byte| byte.is_ascii_hexdigit());
    match is_hex && (16..=64).contains(&id.len()) {
        true => Ok(id),
        false => Err("is not 16 to 64 hex digits".into()),
    }
}
