//! Puts the reports of many workers together: what was done, and which names nobody did.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::read::{RunReport, read};
use super::{Chain, Line};
use crate::location::range::Range;
use crate::ops::atomic::{AtomicFile, Mode};
use crate::{Error, IoContext as _, Result};

/// One rotation, as its reports tell it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Merged {
    /// Which command's runs these are; `rewrap`'s where nothing stands there.
    pub command: Option<String>,
    /// What was worked on.
    pub location: String,
    /// The key ids that were left, those that were moved to, and others that were dropped.
    pub old: Vec<String>,
    /// See [`Self::old`].
    pub new: Vec<String>,
    /// See [`Self::old`].
    pub drop: Vec<String>,
    /// How many runs it is made of.
    pub runs: u64,
    /// How many more a later run did again.
    pub superseded: u64,
    /// What the summaries of its runs add up to.
    pub counts: BTreeMap<String, u64>,
    /// Where a run began and did not come to its end, and none did later.
    pub unfinished: Vec<Range>,
    /// Names that no finished run was for.
    pub gaps: Vec<Range>,
    /// Names that more than one was for, which does no harm.
    pub overlaps: Vec<Range>,
    /// Of each of its runs, superseded ones too, in which file it stands, and where there.
    parts: Vec<(usize, usize)>,
}

impl Merged {
    /// How much of one kind there is.
    pub fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// Whether every name was done and nothing is left for the old keys.
    pub fn is_whole(&self) -> bool {
        let left = ["residue", "failed", "opened"].iter().map(|name| self.count(name)).sum::<u64>();
        self.gaps.is_empty() && self.unfinished.is_empty() && left == 0
    }

    fn is_of(&self, run: &RunReport) -> bool {
        (&self.command, &self.location, &self.old, &self.new, &self.drop)
            == (&run.command, &run.location, &run.old, &run.new, &run.drop)
    }
}

/// A run, and where it stands: in which file, and as which there.
type Placed = (usize, usize, RunReport);

/// Reads reports and puts the runs of each rotation together: those of one location, from and to the same keys. Runs that
/// only told what they would do are left out.
///
/// # Errors
/// Those of [`read`]; `Input` when there is no run in them.
pub fn merge(paths: &[PathBuf]) -> Result<Vec<Merged>> {
    let mut runs: Vec<Placed> = vec![];
    for (file, path) in paths.iter().enumerate() {
        let found = read(path, |_| Ok(()))?;
        runs.extend(found.into_iter().enumerate().map(|(at, run)| (file, at, run)));
    }
    runs.retain(|(.., run)| !run.dry_run);
    // What was done later comes later; in one file that is its order.
    runs.sort_by(|one, other| one.2.time.cmp(&other.2.time));
    let mut rotations: Vec<(Merged, Vec<Placed>)> = vec![];
    for (file, at, run) in runs {
        match rotations.iter_mut().find(|(merged, _)| merged.is_of(&run)) {
            Some((_, runs)) => runs.push((file, at, run)),
            None => {
                let RunReport { command, location, old, new, drop, .. } = run.clone();
                let merged = Merged { command, location, old, new, drop, ..Merged::default() };
                rotations.push((merged, vec![(file, at, run)]));
            }
        }
    }
    if rotations.is_empty() {
        return Err(Error::input("no run that did something stands in these reports")
            .hint("sidekey rewrap and reencrypt write reports, with --report FILE"));
    }
    Ok(rotations.into_iter().map(|(merged, runs)| put_together(merged, &runs)).collect())
}

fn put_together(mut merged: Merged, runs: &[Placed]) -> Merged {
    let mut done: Vec<&Range> = vec![];
    for (number, (file, at, run)) in runs.iter().enumerate() {
        merged.parts.push((*file, *at));
        let later = runs.iter().skip(number + 1).filter(|(.., later)| later.counts.is_some());
        if later.map(|(.., later)| &later.range).any(|later| contains(later, &run.range)) {
            merged.superseded += 1;
            continue;
        }
        let Some(counts) = &run.counts else {
            merged.unfinished.push(run.range.clone());
            continue;
        };
        merged.runs += 1;
        done.push(&run.range);
        for (name, count) in counts {
            *merged.counts.entry(name.clone()).or_default() += count;
        }
    }
    done.sort();
    (merged.gaps, merged.overlaps) = compare(&done);
    // A later run that was stopped does not undo what is done.
    merged.unfinished.retain(|range| merged.gaps.iter().any(|gap| meet(gap, range)));
    merged
}

fn contains(outer: &Range, inner: &Range) -> bool {
    let before = outer.from.is_none() || (inner.from.is_some() && outer.from <= inner.from);
    let behind = outer.until.is_none() || (inner.until.is_some() && outer.until >= inner.until);
    before && behind
}

fn meet(one: &Range, other: &Range) -> bool {
    let starts_before_end = |start: &Range, end: &Range| match (&start.from, &end.until) {
        (Some(from), Some(until)) => from < until,
        _ => true,
    };
    starts_before_end(one, other) && starts_before_end(other, one)
}

/// What ranges in the order of their starts leave out, and what they have twice.
fn compare(ranges: &[&Range]) -> (Vec<Range>, Vec<Range>) {
    let (mut gaps, mut overlaps) = (vec![], vec![]);
    // Up to where all is done; nothing before the first range, and everything behind one without an end.
    let mut reached = Some(None);
    for (number, range) in ranges.iter().enumerate() {
        let is_first = number == 0;
        match &reached {
            Some(at) if range.from > *at => {
                gaps.push(Range { from: at.clone(), until: range.from.clone() });
            }
            Some(at) if !is_first && range.from < *at => overlaps.push(Range {
                from: range.from.clone(),
                until: match &range.until {
                    Some(until) => Some(until.clone().min(at.clone().unwrap_or_default())),
                    None => at.clone(),
                },
            }),
            Some(_) => {}
            None => overlaps.push((*range).clone()),
        }
        reached = match (reached, &range.until) {
            (None, _) | (_, None) => None,
            (Some(at), Some(until)) => Some(at.max(Some(until.clone()))),
        };
    }
    if let Some(at) = reached {
        gaps.push(Range { from: at, until: None });
    }
    (gaps, overlaps)
}

#[derive(Serialize)]
struct Run<'a> {
    r#type: &'static str,
    location: &'a str,
    from: Option<&'a str>,
    until: Option<&'a str>,
    time: &'a str,
    dry_run: bool,
    old: &'a [String],
    new: &'a [String],
    drop: &'a [String],
    merged: &'a [String],
}

#[derive(Serialize)]
struct Summary<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    counts: &'a BTreeMap<String, u64>,
}

/// Writes rotations that [`merge`] made of these reports into one report, with a chain for each, and says what their heads
/// are. `replace` overwrites a file that is there.
///
/// # Errors
/// Those of [`read`]; `Conflict` when the file is there; what writing fails with. Nothing is there then.
pub fn write_merged(
    rotations: &[Merged],
    paths: &[PathBuf],
    to: &Path,
    replace: bool,
) -> Result<Vec<String>> {
    let mut out = AtomicFile::create(to, Mode::Secret)?;
    let mut heads = vec![];
    for merged in rotations {
        let mut chain = Chain::default();
        let mut write = |text: String| out.write_all(text.as_bytes()).context("cannot write the report", to);
        let runs = parts_of(merged, paths)?;
        let time = runs.iter().map(|run| &*run.time).max().unwrap_or_default();
        let parts: Vec<String> = runs.iter().map(|run| run.head.clone()).collect();
        // What is done without a gap is said to be, and nothing else.
        let reach = match (&merged.gaps[..], &merged.unfinished[..]) {
            ([], []) => Range::default(),
            _ => runs.first().map(|run| run.range.clone()).unwrap_or_default(),
        };
        write(chain.next(&Run {
            r#type: "run",
            location: &merged.location,
            from: reach.from.as_deref(),
            until: reach.until.as_deref(),
            time,
            dry_run: false,
            old: &merged.old,
            new: &merged.new,
            drop: &merged.drop,
            merged: &parts,
        })?)?;
        for (file, path) in paths.iter().enumerate() {
            read(path, |Line { run, kind, value }| match kind.as_str() {
                "envelope" if merged.parts.contains(&(file, run)) => {
                    write(chain.next(&Value::Object(value))?)
                }
                _ => Ok(()),
            })?;
        }
        // Without every name it is no end.
        if merged.gaps.is_empty() && merged.unfinished.is_empty() {
            write(chain.next(&Summary { r#type: "summary", counts: &merged.counts })?)?;
        }
        heads.push(chain.head());
    }
    match replace {
        true => out.commit_replace()?,
        false => out.commit_new()?,
    }
    Ok(heads)
}

fn parts_of(merged: &Merged, paths: &[PathBuf]) -> Result<Vec<RunReport>> {
    let mut runs = vec![];
    for (file, path) in paths.iter().enumerate() {
        let found = read(path, |_| Ok(()))?;
        runs.extend(found.into_iter().enumerate().filter(|(at, _)| merged.parts.contains(&(file, *at))));
    }
    Ok(runs.into_iter().map(|(_, run)| run).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        let (from, until) = text.split_once('-').unwrap();
        let border = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        Range { from: border(from), until: border(until) }
    }

    #[test]
    fn what_nobody_did_and_what_two_did_is_found() {
        let cases = [
            ("-", "", ""),
            ("-b b-", "", ""),
            ("-b c-", "b-c", ""),
            ("b-c", "-b c-", ""),
            ("-c b-", "", "b-c"),
            ("-b", "b-", ""),
            ("- b-c", "", "b-c"),
            ("-d b-c d-", "", "b-c"),
            ("-d b-c e-", "d-e", "b-c"),
            ("-b -c c-", "", "-b"),
            ("", "-", ""),
        ];
        for (ranges, gaps, overlaps) in cases {
            let parse = |text: &str| text.split_whitespace().map(range).collect::<Vec<_>>();
            let mut given = parse(ranges);
            given.sort();
            let found = compare(&given.iter().collect::<Vec<_>>());
            assert_eq!(found, (parse(gaps), parse(overlaps)), "{ranges}");
        }
    }

    #[test]
    fn a_range_contains_and_meets() {
        assert!(contains(&range("-"), &range("b-c")) && contains(&range("b-c"), &range("b-c")));
        assert!(!contains(&range("b-c"), &range("-")) && !contains(&range("b-c"), &range("a-c")));
        assert!(meet(&range("a-c"), &range("b-")) && !meet(&range("a-b"), &range("b-c")));
    }
}
