//! `sidekey verify`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::ValueEnum;
use serde::Serialize;
use sidekey::ops::events::{Event, Observer};
use sidekey::ops::verify::{Checked, Level, Outcome, Sample, VerifyOptions, VerifySummary, verify};
use sidekey::random::{OsRandom, Random as _};
use sidekey::{Error, Result, hex};

use super::guard;
use super::identity::load_identities;
use super::location::Place;
use super::passphrase::PassphraseArgs;
use super::report::{Progress, Report};
use super::work::{self, RecipeArgs, SuffixArgs};

/// check that what stands in locations is whole
///
/// Without a key: that of every pair both halves are there and belong together. With a private key every byte is
/// decrypted: tags, lengths and digests. What no container needs, such as the envelope of a file that was overwritten, is
/// counted, and is for clean to remove.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey verify vault/
  sidekey verify vault/ -i backup.pem --sample 5%
  sidekey verify vault/photos -i backup.pem --against ~/photos

exit codes:
  1 something could not be read, is for another key, or differs from the files here
  3 something is damaged, or a container has no envelope
  4 all is whole, but there are envelopes without a container")]
pub(crate) struct Args {
    /// folders, remotes and what is in them
    #[arg(value_name = "LOCATION", required = true)]
    locations: Vec<OsString>,
    /// a private key to decrypt with (repeatable)
    #[arg(short, long, value_name = "FILE")]
    identity: Vec<PathBuf>,
    /// how deep to look; without a key pairs, with one full
    #[arg(long, value_enum)]
    level: Option<Depth>,
    /// look deeper than pairs at a random part of the containers only, at one at least
    #[arg(long, value_name = "N%", value_parser = parse_percent)]
    sample: Option<u32>,
    /// draw the sample as an earlier run did, which said its seed: 32 hex digits
    #[arg(long, value_name = "HEX", value_parser = parse_seed, requires = "sample")]
    seed: Option<[u8; 16]>,
    /// verify older versions too, where the store keeps them
    #[arg(long)]
    versions: bool,
    /// compare contents with this file or folder, and name what only one side has
    #[arg(long, value_name = "PATH")]
    against: Option<PathBuf>,
    /// take a file that was encrypted under another name for damaged, instead of warning
    #[arg(long)]
    strict: bool,
    /// how many threads work; by default one a processor, 16 at most
    #[arg(long, value_name = "N", value_parser = work::parse_jobs)]
    jobs: Option<usize>,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    suffix: SuffixArgs,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Depth {
    /// both halves of every pair are there and belong together
    Pairs,
    /// also, every byte can be read, and is compared with a checksum where the store holds one
    Read,
    /// also, every byte is decrypted and authenticated
    Full,
}

#[derive(Serialize)]
struct Row<'a> {
    r#type: &'static str,
    object: &'a str,
    version: Option<&'a str>,
    level: String,
    result: String,
    detail: Option<String>,
}

#[derive(Serialize)]
struct Totals {
    r#type: &'static str,
    location: String,
    level: String,
    ok: u64,
    deep: u64,
    damaged: u64,
    no_envelope: u64,
    no_container: u64,
    foreign: u64,
    unchecked: u64,
    recipe: u64,
    differs: u64,
    missing: u64,
    extra: u64,
    failed: u64,
    bytes: u64,
    seed: Option<String>,
}

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        guard::say_when_interrupted(report, "nothing was changed");
        let level = match self.level {
            Some(Depth::Pairs) => Level::Pairs,
            Some(Depth::Read) => Level::Read,
            Some(Depth::Full) => Level::Full,
            None if self.identity.is_empty() => Level::Pairs,
            None => Level::Full,
        };
        if level == Level::Pairs && self.sample.is_some() {
            return Err(Error::usage("--sample is for the levels read and full: pairs are checked all")
                .hint("give --level read, or the private key with --identity"));
        }
        if self.against.is_some() && self.locations.len() > 1 {
            return Err(Error::usage("--against goes with one location"));
        }
        let mut seed = self.seed.unwrap_or_default();
        if self.seed.is_none() {
            OsRandom.fill(&mut seed)?;
        }
        let sample = self.sample.map(|per_million| Sample { per_million, seed });
        for typed in &self.locations {
            let location = typed.to_string_lossy().into_owned();
            match Place::open(typed).and_then(|place| self.verify(&place, level, sample, report)) {
                Ok(summary) => tell(report, location, level, sample, &summary),
                Err(error) => report.failure(&error),
            }
        }
        Ok(())
    }

    fn verify(
        &self,
        place: &Place,
        level: Level,
        sample: Option<Sample>,
        report: &Report,
    ) -> Result<VerifySummary> {
        let identities = match level {
            Level::Full => load_identities(place.identities(&self.identity), &self.passphrase, report)?,
            Level::Pairs | Level::Read => vec![],
        };
        let options = VerifyOptions {
            level,
            sample,
            versions: self.versions,
            identities,
            against: self.against.clone(),
            strict: self.strict,
            recipe: self.recipe.named(),
            jobs: place.jobs(self.jobs),
        };
        if place.target.path.is_empty() {
            place.vault_faults()?.iter().for_each(|fault| report.failure(fault));
        }
        let watcher = Watcher { report, progress: report.progress(None) };
        let target = place.target.clone().with_recipe_suffix(self.suffix.suffix());
        verify(&target, &options, &watcher)
    }
}

struct Watcher<'a> {
    report: &'a Report,
    progress: Progress,
}

impl Observer for Watcher<'_> {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Bytes(bytes) => self.progress.add(bytes),
            Event::Failed(error) => self.report.failure(error),
            Event::Verified(checked) => show(checked, self.report),
            _ => {}
        }
    }
}

fn show(checked: &Checked, report: &Report) {
    let Checked { object, version, level, outcome, error, note } = checked;
    let detail = error.as_ref().map(Error::line).or_else(|| note.clone());
    let row = Row {
        r#type: "verify",
        object,
        version: version.as_deref(),
        level: level.to_string(),
        result: outcome.to_string(),
        detail,
    };
    let remark = note.iter().map(|note| format!(": {note}")).collect::<String>();
    report.each(&row, format_args!("{object}: {outcome}{remark}"));
    let noted = |error: Error| error.about(object);
    match (outcome, error, note) {
        (Outcome::NoContainer, Some(error), _) => {
            let hint =
                "if it was removed or overwritten, sidekey clean takes it away 30 days after it was written";
            report.warning(&Error::integrity(error.line()).hint(hint));
            report.remains();
        }
        (_, Some(error), _) => report.failure(error),
        (Outcome::Differs | Outcome::Missing | Outcome::Extra, _, Some(note)) => {
            report.failure(&noted(Error::conflict(note)));
        }
        (Outcome::Ok, _, Some(note)) => report.warning(&noted(Error::integrity(note))),
        _ => {}
    }
}

fn tell(report: &Report, location: String, level: Level, sample: Option<Sample>, summary: &VerifySummary) {
    let seed = sample.map(|sample| hex(&sample.seed));
    let mut text = format!("{location}: {} whole", counted(summary.ok, "container", "containers"));
    if level == Level::Full {
        text.push_str(&format!(", {} of them decrypted to the last byte", summary.deep));
    }
    let unchecked = if level == Level::Full { "not checked" } else { "not checkable without a key" };
    for (count, one, many) in [
        (summary.damaged, "damaged", "damaged"),
        (summary.no_envelope, "without an envelope", "without an envelope"),
        (summary.no_container, "envelope without a container", "envelopes without a container"),
        (summary.unchecked, unchecked, unchecked),
        (summary.differs, "different here", "different here"),
        (summary.missing, "missing here", "missing here"),
        (summary.extra, "only here", "only here"),
        (summary.foreign, "foreign object", "foreign objects"),
        (summary.failed, "not listed or read", "not listed or read"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {}", counted(count, one, many)));
        }
    }
    if summary.recipe > 0 {
        text.push_str(&format!(
            "; {} of the OpenSSL recipe, which nothing authenticates",
            counted(summary.recipe, "file is", "files are")
        ));
    }
    if let Some(seed) = &seed {
        text.push_str(&format!(" (sample seed {seed})"));
    }
    let totals = Totals {
        r#type: "summary",
        location,
        level: level.to_string(),
        ok: summary.ok,
        deep: summary.deep,
        damaged: summary.damaged,
        no_envelope: summary.no_envelope,
        no_container: summary.no_container,
        foreign: summary.foreign,
        unchecked: summary.unchecked,
        recipe: summary.recipe,
        differs: summary.differs,
        missing: summary.missing,
        extra: summary.extra,
        failed: summary.failed,
        bytes: summary.bytes,
        seed,
    };
    report.done(&totals, text);
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// `5%`, `0.1%` or `5`, as parts of a million.
fn parse_percent(text: &str) -> Result<u32, String> {
    let number: Option<f64> = text.strip_suffix('%').unwrap_or(text).parse().ok();
    let percent = number.filter(|percent| (0.0001..=100.0).contains(percent));
    percent
        .map(|percent| (percent * 10_000.0).round() as u32)
        .ok_or_else(|| "is not a percentage from 0.0001% to 100%".into())
}

fn parse_seed(text: &str) -> Result<[u8; 16], String> {
    let seed: sidekey::DataId = text.parse().map_err(|_| "is not 32 lower-case hex digits".to_owned())?;
    Ok(seed.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_parts_of_a_million() {
        for (text, expected) in [("5%", 50_000), ("100", 1_000_000), ("0.1%", 1_000), ("0.0001%", 1)] {
            assert_eq!(parse_percent(text), Ok(expected), "{text}");
        }
        for text in ["", "%", "0", "-1", "101%", "NaN", "5 %"] {
            assert!(parse_percent(text).is_err(), "{text}");
        }
    }
}
