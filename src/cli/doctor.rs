//! `sidekey doctor`.

use std::ffi::OsString;
use std::path::Path;

use serde::Serialize;
use sidekey::ops::doctor::{Allowed, Diagnosis, DoctorOptions, Finding, State, doctor, word};
use sidekey::{Error, Result};

use super::location::Place;
use super::report::Report;
use super::work;

/// tell what a location can do, what you may do there, and what endangers it
///
/// It asks for the settings of the bucket, or of the disk, and compares the clocks. What services do not tell is tried with
/// a small object below .sidekey/ in the location, which is removed again; it is only written where it can be removed.
/// Exit code 4 when something needs attention.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey doctor b2://photos
  sidekey doctor s3://photos/2024/ --no-write
  sidekey --json doctor vault

What each command needs is in docs/services.md. A right that is missing is no fault: a host that makes backups
should not be able to delete them.")]
pub(crate) struct Args {
    /// the location
    #[arg(value_name = "LOCATION")]
    location: OsString,
    /// write nothing at all: what has to be tried stays unknown
    #[arg(long)]
    no_write: bool,
}

#[derive(Serialize)]
struct Check<'a> {
    r#type: &'a str,
    check: &'a str,
    state: &'a str,
    value: &'a str,
    hint: Option<&'a str>,
}

#[derive(Serialize)]
struct Command<'a> {
    r#type: &'a str,
    command: &'a str,
    allowed: Option<bool>,
    rights: Vec<&'a str>,
}

#[derive(Serialize)]
struct Totals<'a> {
    r#type: &'a str,
    location: &'a str,
    fine: usize,
    attention: usize,
    unknown: usize,
}

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        let place = Place::open(&self.location)?;
        let is_there = place
            .folder
            .as_ref()
            .filter(|_| place.vault.is_none())
            .is_none_or(|root| root.join(place.target.stored_prefix()).is_dir());
        if !is_there {
            return Err(Error::not_found("is no folder")
                .at(Path::new(&self.location))
                .hint("put makes it; doctor looks at what is there"));
        }
        let options = DoctorOptions { no_write: self.no_write, clock: &work::now };
        let Diagnosis { mut findings, commands } = doctor(&place.target, &options)?;
        findings.extend(place.vault_faults()?.iter().map(|fault| Finding {
            check: "vault keys",
            state: State::Attention,
            value: fault.line(),
            hint: Some("a new machine needs them: put back an older version or another copy"),
        }));
        findings.iter().for_each(|finding| show(finding, report));
        commands.iter().for_each(|command| show_command(command, report));
        summary(&place.target.show(), &findings, report);
        Ok(())
    }
}

fn show(finding: &Finding, report: &Report) {
    let Finding { check, state, value, hint } = finding;
    let state = match state {
        State::Fine => "fine",
        State::Attention => "attention",
        State::Unknown => "unknown",
    };
    let lines = [format!("{state:<10} {check:<12} {value}")];
    let hint_line = hint.map(|hint| format!("{:<23} {hint}", ""));
    let json = Check { r#type: "check", check, state, value, hint: *hint };
    report.result(&json, lines.into_iter().chain(hint_line));
}

fn show_command(Allowed { command, allowed, rights }: &Allowed, report: &Report) {
    let rights: Vec<&str> = rights.iter().map(|right| word(*right)).collect();
    let listed = rights.join(", ");
    let line = match allowed {
        Some(true) => format!("{:<10} {command}", "allowed"),
        Some(false) => format!("{:<10} {command:<12} lacks the right to {listed}", "missing"),
        None => format!("{:<10} {command:<12} depends on the right to {listed}", "unknown"),
    };
    report.result(&Command { r#type: "command", command, allowed: *allowed, rights }, [line]);
}

fn summary(location: &str, findings: &[Finding], report: &Report) {
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let (fine, attention, unknown) = (count(State::Fine), count(State::Attention), count(State::Unknown));
    let text = match attention {
        0 => format!("{location}: nothing needs attention"),
        _ => format!("{location}: {attention} of {} checks need attention", findings.len()),
    };
    report.done(&Totals { r#type: "summary", location, fine, attention, unknown }, text);
    if attention > 0 {
        report.remains();
    }
}
