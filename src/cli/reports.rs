//! `sidekey report`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sidekey::location::range::Range;
use sidekey::ops::reports::{Merged, Plan, PlanOptions, RunReport, merge, plan_shards, read, write_merged};
use sidekey::{Error, Result};

use super::location::Place;
use super::report::Report;

/// share one rotation among many workers, and put their reports together
///
/// A worker does the stored names from one on up to another: rewrap --from NAME --until NAME --report FILE. Workers need
/// not talk to each other. The reports tell afterwards what was done and whether anything was left out.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey report plan-shards 100 b2://bucket/photos > shards
  sidekey report merge report-*.jsonl -o all.jsonl
  sidekey report show all.jsonl
  sidekey report verify all.jsonl --head 5f0c…64 hex digits…")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// find ranges of names that hold about as many each
    ///
    /// Up to 50,000 names are listed and divided exactly. Of more, a sample is listed: 8 requests a range and about 200.
    /// Each line is the options of one worker, quoted for the shell and for xargs.
    #[command(after_help = "\
examples:
  sidekey report plan-shards 8 nas:photos | parallel -j 8 eval sidekey rewrap nas:photos -i old.pem \\
      --to new.pub.pem --report report-{#}.jsonl {}
  sidekey report plan-shards 1000 --json b2://bucket")]
    PlanShards {
        /// how many ranges
        #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
        shards: u32,
        /// a location, or a folder in one
        #[arg(value_name = "LOCATION")]
        location: OsString,
    },
    /// put the reports of workers together, and find what nobody did
    ///
    /// Runs of one location from and to the same keys are one rotation. A run that was done again later does not count.
    /// What more than one worker did is told and does no harm.
    #[command(after_help = "\
examples:
  sidekey report merge report-*.jsonl
  sidekey report merge report-*.jsonl -o all.jsonl

exit codes: 3 when a line of a report was lost or changed; 4 when something is left for the old key, or names are missing")]
    Merge {
        /// reports
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        /// write all of it into this report too
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// replace the file of --output
        #[arg(long, requires = "output")]
        force: bool,
    },
    /// show the runs of a report and what is not done
    #[command(
        after_help = "examples:\n  sidekey report show rotation.jsonl\n  sidekey report show --all rotation.jsonl"
    )]
    Show {
        /// a report
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// show what was done too
        #[arg(long)]
        all: bool,
    },
    /// check that no line of a report was lost or changed
    #[command(after_help = "\
examples:
  sidekey report verify rotation.jsonl
  sidekey report verify rotation.jsonl --head 5f0c…64 hex digits…

It is no signature: who can write the file can write all of it anew, with another head. Keep heads apart from it.")]
    Verify {
        /// a report
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// the hash that the last run printed at its end
        #[arg(long, value_name = "HASH")]
        head: Option<String>,
    },
}

#[derive(Serialize)]
struct ShardRow<'a> {
    r#type: &'static str,
    number: usize,
    from: Option<&'a str>,
    until: Option<&'a str>,
    names: u64,
}

#[derive(Serialize)]
struct PlanTotals {
    r#type: &'static str,
    shards: usize,
    names: u64,
    exact: bool,
    requests: u64,
}

#[derive(Serialize)]
struct Borders<'a> {
    from: Option<&'a str>,
    until: Option<&'a str>,
}

#[derive(Serialize)]
struct MergedRow<'a> {
    r#type: &'static str,
    command: &'a str,
    location: &'a str,
    old: &'a [String],
    new: &'a [String],
    drop: &'a [String],
    runs: u64,
    superseded: u64,
    whole: bool,
    counts: &'a BTreeMap<String, u64>,
    unfinished: Vec<Borders<'a>>,
    gaps: Vec<Borders<'a>>,
    overlaps: Vec<Borders<'a>>,
    head: Option<&'a str>,
}

#[derive(Serialize)]
struct RunRow<'a> {
    r#type: &'static str,
    location: &'a str,
    from: Option<&'a str>,
    until: Option<&'a str>,
    time: &'a str,
    dry_run: bool,
    old: &'a [String],
    new: &'a [String],
    finished: bool,
    envelopes: u64,
    counts: Option<&'a BTreeMap<String, u64>>,
    head: &'a str,
}

#[derive(Serialize)]
struct EnvelopeRow<'a> {
    r#type: &'static str,
    run: usize,
    name: &'a str,
    result: &'a str,
    why: Vec<&'a str>,
}

#[derive(Serialize)]
struct Verified<'a> {
    r#type: &'static str,
    file: String,
    runs: usize,
    unfinished: usize,
    head: &'a str,
}

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        match self.action {
            Action::PlanShards { shards, location } => {
                let place = Place::open(&location)?;
                let plan = plan_shards(&place.target, &PlanOptions::new(shards as usize))?;
                show_plan(report, shards as usize, &plan);
                Ok(())
            }
            Action::Merge { files, output, force } => merged(report, &files, output.as_deref(), force),
            Action::Show { file, all } => show(report, &file, all),
            Action::Verify { file, head } => verify(report, &file, head.as_deref()),
        }
    }
}

fn show_plan(report: &Report, wanted: usize, plan: &Plan) {
    for (number, shard) in plan.shards.iter().enumerate() {
        let Range { from, until } = &shard.range;
        let (from, until) = (from.as_deref(), until.as_deref());
        let row = ShardRow { r#type: "shard", number, from, until, names: shard.names };
        let text = format!("--from {} --until {}", quoted(from.unwrap_or("")), quoted(until.unwrap_or("")));
        report.result(&row, [text]);
    }
    let (shards, names) = (plan.shards.len(), plan.shards.iter().map(|shard| shard.names).sum());
    let totals = PlanTotals { r#type: "summary", shards, names, exact: plan.exact, requests: plan.pages };
    let about = if plan.exact { "" } else { "about " };
    report.done(
        &totals,
        format_args!("{shards} ranges of {about}{names} objects, {} listed pages", plan.pages),
    );
    if shards < wanted {
        report.note(format_args!("there are too few names for {wanted} ranges"));
    }
}

/// For the shell, and for xargs.
fn quoted(name: &str) -> String {
    format!("'{}'", name.replace('\'', "'\\''"))
}

fn merged(report: &Report, files: &[PathBuf], output: Option<&Path>, force: bool) -> Result<()> {
    let rotations = merge(files)?;
    let heads = match output {
        None => vec![],
        Some(output) if files.iter().any(|file| file == output) => {
            return Err(Error::usage("is one of the reports to merge").at(output).hint("write another one"));
        }
        Some(output) => write_merged(&rotations, files, output, force)?,
    };
    for (at, merged) in rotations.iter().enumerate() {
        let borders = |ranges: &'_ [Range]| -> Vec<String> { ranges.iter().map(shown).collect() };
        let Merged {
            command,
            location,
            old,
            new,
            drop,
            runs,
            superseded,
            counts,
            unfinished,
            gaps,
            overlaps,
            ..
        } = merged;
        let head = heads.get(at).map(String::as_str);
        let row = MergedRow {
            r#type: "rotation",
            command: command.as_deref().unwrap_or("rewrap"),
            location,
            old,
            new,
            drop,
            runs: *runs,
            superseded: *superseded,
            whole: merged.is_whole(),
            counts,
            unfinished: rows(unfinished),
            gaps: rows(gaps),
            overlaps: rows(overlaps),
            head,
        };
        let done = |name: &str| merged.count(name);
        let of = command.as_ref().map(|command| format!("{command} of ")).unwrap_or_default();
        let mut lines = vec![format!(
            "{of}{location}: {runs} runs, {superseded} done again later: rewrapped {}, reencrypted {}, done already {}, not for \
             the old key {}, residue {}, failed {}, opened by the old key {}",
            done("rewrapped"),
            done("reencrypted"),
            done("already") + done("resumed"),
            done("not_ours"),
            done("residue"),
            done("failed"),
            done("opened"),
        )];
        lines.extend(
            borders(unfinished)
                .into_iter()
                .map(|range| format!("{location}: a run did not come to its end: {range}")),
        );
        lines.extend(borders(gaps).into_iter().map(|range| format!("{location}: nobody did {range}")));
        lines.extend(
            borders(overlaps)
                .into_iter()
                .map(|range| format!("{location}: done twice, which does no harm: {range}")),
        );
        lines.extend(
            head.map(|head| format!("{location}: the merged report's last line has the hash {head}")),
        );
        report.result(&row, lines);
        if !merged.is_whole() {
            report.remains();
        }
    }
    Ok(())
}

fn rows(ranges: &[Range]) -> Vec<Borders<'_>> {
    ranges
        .iter()
        .map(|Range { from, until }| Borders { from: from.as_deref(), until: until.as_deref() })
        .collect()
}

/// A range as the options that make a worker do it.
fn shown(range: &Range) -> String {
    let border = |name: &str, border: &Option<String>| {
        border.as_ref().map(|border| format!("{name} {}", quoted(border)))
    };
    let borders = [border("--from", &range.from), border("--until", &range.until)];
    let borders: Vec<String> = borders.into_iter().flatten().collect();
    if borders.is_empty() { "all names".to_owned() } else { borders.join(" ") }
}

fn show(report: &Report, file: &Path, all: bool) -> Result<()> {
    let each = |line: sidekey::ops::reports::Line| {
        if line.kind != "envelope" {
            return Ok(());
        }
        let text = |name: &str| line.value.get(name).and_then(|value| value.as_str()).unwrap_or_default();
        let (name, result) = (text("name"), text("result"));
        if !all && !matches!(result, "residue" | "failed") {
            return Ok(());
        }
        let why = line.value.get("why").and_then(|why| why.as_array()).map(Vec::as_slice).unwrap_or_default();
        let why: Vec<&str> = why.iter().filter_map(|why| why.as_str()).collect();
        let lines = match why.is_empty() {
            true => format!("{result}  {name}"),
            false => format!("{result}  {name}: {}", why.join("; ")),
        };
        report.result(&EnvelopeRow { r#type: "envelope", run: line.run, name, result, why }, [lines]);
        Ok(())
    };
    let runs = read(file, each)?;
    for run in &runs {
        let RunReport { location, range, time, dry_run, old, new, envelopes, counts, head, .. } = run;
        let (from, until) = (range.from.as_deref(), range.until.as_deref());
        let row = RunRow {
            r#type: "run",
            location,
            from,
            until,
            time,
            dry_run: *dry_run,
            old,
            new,
            finished: counts.is_some(),
            envelopes: *envelopes,
            counts: counts.as_ref(),
            head,
        };
        let what = match (dry_run, counts) {
            (true, _) => "a dry run",
            (false, Some(_)) => "finished",
            (false, None) => "did not come to its end",
        };
        let counts = counts.iter().flatten().filter(|(_, count)| **count > 0);
        let mut parts = vec![format!("{time}  {location}, {}: {what}, {envelopes} lines", shown(range))];
        let counts: Vec<String> = counts.map(|(name, count)| format!("{name} {count}")).collect();
        parts.extend((!counts.is_empty()).then(|| counts.join(", ")));
        parts.push(format!("head {head}"));
        report.result(&row, [parts.join("; ")]);
    }
    Ok(())
}

fn verify(report: &Report, file: &Path, wanted: Option<&str>) -> Result<()> {
    let runs = read(file, |_| Ok(()))?;
    let Some(last) = runs.last() else {
        return Err(Error::input("holds no run").at(file));
    };
    if let Some(wanted) = wanted.filter(|wanted| !wanted.eq_ignore_ascii_case(&last.head)) {
        return Err(Error::integrity(format!("its last line has the hash {}, not {wanted}", last.head))
            .at(file)
            .hint(
                "lines at its end were lost, or all of it was written anew; or the head is another run's",
            ));
    }
    let unfinished = runs.iter().filter(|run| run.counts.is_none()).count();
    let row = Verified {
        r#type: "report",
        file: file.display().to_string(),
        runs: runs.len(),
        unfinished,
        head: &last.head,
    };
    let count = match runs.len() {
        1 => "1 run".to_owned(),
        runs => format!("{runs} runs"),
    };
    let found = match unfinished {
        0 => format!("whole, {count}"),
        _ => format!("unchanged as far as it goes, {count}, {unfinished} of which did not come to the end"),
    };
    report.result(&row, [format!("{}: {found}; head {}", file.display(), last.head)]);
    Ok(())
}
