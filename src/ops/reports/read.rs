//! Reads a report, and checks that each line follows on the one before.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Chain;
use crate::location::range::Range;
use crate::{Error, IoContext as _, Result};

/// The longest line that a report can have.
const LONGEST: u64 = 16 << 20;

/// What one run reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunReport {
    /// What was worked on, as people write it.
    pub location: String,
    /// Which stored names of it.
    pub range: Range,
    /// When it began.
    pub time: String,
    /// Whether it only told what it would do.
    pub dry_run: bool,
    /// Which command it was; `rewrap` where nothing stands there.
    pub command: Option<String>,
    /// The key ids that were left.
    pub old: Vec<String>,
    /// Those that were moved to.
    pub new: Vec<String>,
    /// Others that were dropped.
    pub drop: Vec<String>,
    /// How many envelopes have a line.
    pub envelopes: u64,
    /// The counts of its summary; nothing when it did not come to its end.
    pub counts: Option<BTreeMap<String, u64>>,
    /// The hash of its last line.
    pub head: String,
}

impl RunReport {
    /// One of the counts of its summary; 0 where it has none.
    pub fn count(&self, name: &str) -> u64 {
        self.counts.as_ref().and_then(|counts| counts.get(name)).copied().unwrap_or(0)
    }
}

/// A line of a report.
#[derive(Debug)]
#[non_exhaustive]
pub struct Line {
    /// To which run of the file it belongs, counted from 0.
    pub run: usize,
    /// Its `type`.
    pub kind: String,
    /// What stands in it, but for the hash of the line before.
    pub value: Map<String, Value>,
}

#[derive(Deserialize)]
struct Begin {
    command: Option<String>,
    location: String,
    from: Option<String>,
    until: Option<String>,
    time: String,
    dry_run: bool,
    old: Vec<String>,
    new: Vec<String>,
    #[serde(default)]
    drop: Vec<String>,
}

/// Reads a report line by line, and what its runs came to. A last line that is torn is what a crash leaves: its run did
/// not come to its end.
///
/// # Errors
/// `Integrity` when a line was lost or changed, saying where; `Input` when it is no report; what reading fails with, and
/// what `each` does.
pub fn read(path: &Path, mut each: impl FnMut(Line) -> Result<()>) -> Result<Vec<RunReport>> {
    let file = File::open(path).context("cannot open the report", path)?;
    let mut reader = BufReader::new(file);
    let (mut runs, mut chain, mut torn) = (vec![], Chain::default(), None);
    let (mut bytes, mut number) = (Vec::new(), 0_u64);
    loop {
        bytes.clear();
        let read = (&mut reader).take(LONGEST).read_until(b'\n', &mut bytes);
        if read.context("cannot read the report", path)? == 0 {
            return Ok(runs);
        }
        number += 1;
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let Some((kind, mut value)) = parse(line) else {
            if let Some(torn) = torn.replace(number) {
                return Err(no_report(torn).at(path));
            }
            continue;
        };
        if kind == "run" {
            runs.push(begin(&value).ok_or_else(|| no_report(number).at(path))?);
            chain = Chain::default();
        } else if let Some(torn) = torn {
            return Err(no_report(torn).at(path));
        }
        torn = None;
        let claimed = value.remove("previous");
        if claimed.as_ref().and_then(Value::as_str) != Some(&chain.head()) {
            return Err(broken(number).at(path));
        }
        chain.follow(line);
        let Some(at) = runs.len().checked_sub(1) else { return Err(no_report(number).at(path)) };
        if let Some(run) = runs.last_mut() {
            if run.counts.is_some() {
                return Err(broken(number).at(path));
            }
            run.head = chain.head();
            run.envelopes += u64::from(kind == "envelope");
            run.counts = (kind == "summary").then(|| counts(&value));
        }
        each(Line { run: at, kind, value })?;
    }
}

fn parse(line: &[u8]) -> Option<(String, Map<String, Value>)> {
    let value: Map<String, Value> = serde_json::from_slice(line).ok()?;
    let kind = value.get("type")?.as_str()?.to_owned();
    Some((kind, value))
}

fn begin(value: &Map<String, Value>) -> Option<RunReport> {
    let Begin { command, location, from, until, time, dry_run, old, new, drop } =
        serde_json::from_value(Value::Object(value.clone())).ok()?;
    let range = Range { from, until };
    Some(RunReport { command, location, range, time, dry_run, old, new, drop, ..RunReport::default() })
}

fn counts(value: &Map<String, Value>) -> BTreeMap<String, u64> {
    value.iter().filter_map(|(name, value)| Some((name.clone(), value.as_u64()?))).collect()
}

fn broken(number: u64) -> Error {
    Error::integrity(format!(
        "line {number} does not hold the hash of the line before it: a line was lost or changed there"
    ))
    .hint("what is in the store is not touched by that; sidekey audit says what the old key still opens")
}

fn no_report(number: u64) -> Error {
    Error::input(format!("line {number} is not a line of a report"))
        .hint("sidekey rewrap and reencrypt write reports, with --report FILE")
}
