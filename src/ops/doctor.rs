//! What a location can do, what the credentials may do there, and what about it endangers pairs.
//!
//! What services do not say is tried with a small object below the location's `.sidekey/`, which is removed again. It is
//! only written where it can be removed.

mod folder;
mod lifecycle;
mod settings;
mod tried;

use std::fmt;
use std::time::SystemTime;

use self::tried::Tried;
use crate::Result;
use crate::location::RESERVED;
use crate::location::argument::Target;
use crate::ops::runtime;
use crate::store::Right;
use crate::store::facts::{Told, Versions};

/// How to examine.
pub struct DoctorOptions<'a> {
    /// Writes nothing: what would have to be tried stays unknown.
    pub no_write: bool,
    /// The clock of this machine.
    pub clock: &'a dyn Fn() -> SystemTime,
}

impl fmt::Debug for DoctorOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DoctorOptions").field("no_write", &self.no_write).finish_non_exhaustive()
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// One for each thing that was looked at.
    pub findings: Vec<Finding>,
    /// What the credentials allow, command by command.
    pub commands: Vec<Allowed>,
}

/// How something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at: one word or two, the same in every version.
    pub check: &'static str,
    /// Whether it is well.
    pub state: State,
    /// How it is.
    pub value: String,
    /// What to do about it.
    pub hint: Option<&'static str>,
}

/// Whether something is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is.
    Fine,
    /// It endangers pairs, or a command cannot do all of its work.
    Attention,
    /// It could not be found out.
    Unknown,
}

/// Whether a command may do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The command.
    pub command: &'static str,
    /// Nothing where it is not known.
    pub allowed: Option<bool>,
    /// The rights that are missing, or not known.
    pub rights: Vec<Right>,
}

impl Finding {
    fn new(check: &'static str, state: State, value: impl Into<String>) -> Self {
        Self { check, state, value: value.into(), hint: None }
    }

    fn fine(check: &'static str, value: impl Into<String>) -> Self {
        Self::new(check, State::Fine, value)
    }

    fn attention(check: &'static str, value: impl Into<String>, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..Self::new(check, State::Attention, value) }
    }

    fn unknown(check: &'static str, value: impl Into<String>) -> Self {
        Self::new(check, State::Unknown, value)
    }
}

/// Examines a location. It leaves nothing behind, or says what.
///
/// # Errors
/// `Usage` when a file is named; what the store says when it cannot be reached at all.
pub fn doctor(target: &Target, options: &DoctorOptions<'_>) -> Result<Diagnosis> {
    runtime::start()?.block_on(examine(target, &target.location.key(&target.stored_prefix()), options))
}

async fn examine(target: &Target, prefix: &str, options: &DoctorOptions<'_>) -> Result<Diagnosis> {
    let store = target.location.store();
    let capabilities = store.capabilities().await?;
    let facts = store.facts(prefix).await?;
    let now = (options.clock)();

    let mut findings = settings::all(store, &capabilities, &facts, now).await;
    if let Told::Is(rules) = &facts.lifecycle {
        findings.extend(lifecycle::judged(rules, prefix));
    }
    if let Some(folder) = &facts.folder {
        findings.extend(folder::judged(folder));
    }
    let probe = format!("{prefix}{RESERVED}/doctor-");
    let tried = Tried::new(store, prefix, probe, &facts, options.no_write).await?;
    findings.extend(tried.findings.iter().cloned());
    let keeps_versions = matches!(facts.versions, Told::Is(Versions::On | Versions::Suspended));
    Ok(Diagnosis { findings, commands: commands(&tried, keeps_versions) })
}

/// What people and programs call a right.
pub fn word(right: Right) -> &'static str {
    match right {
        Right::List => "list",
        Right::Read => "read",
        Right::Write => "write",
        Right::Delete => "delete",
    }
}

/// What each command needs, as in docs/services.md.
fn commands(tried: &Tried, keeps_versions: bool) -> Vec<Allowed> {
    use Right::{Delete, List, Read, Write};
    let remove = if keeps_versions { Write } else { Delete };
    let mut needs: Vec<(&str, Vec<Right>)> = vec![
        ("put", vec![Write]),
        ("get, cat", vec![List, Read]),
        ("ls", vec![List]),
        ("verify, audit", vec![List, Read]),
        ("rm", vec![List, remove]),
        ("clean", vec![List, Read, Write, Delete]),
        ("rewrap", vec![List, Read, Write, Delete]),
    ];
    if keeps_versions {
        needs.insert(5, ("rm --versions", vec![List, Delete]));
    }
    let allowed = |(command, rights): (&'static str, Vec<Right>)| {
        let with = |wanted| rights.iter().copied().filter(|right| tried.may(*right) == wanted).collect();
        let (missing, unknown): (Vec<Right>, Vec<Right>) = (with(Some(false)), with(None));
        match (missing.is_empty(), unknown.is_empty()) {
            (false, _) => Allowed { command, allowed: Some(false), rights: missing },
            (true, false) => Allowed { command, allowed: None, rights: unknown },
            (true, true) => Allowed { command, allowed: Some(true), rights: vec![] },
        }
    };
    needs.into_iter().map(allowed).collect()
}
