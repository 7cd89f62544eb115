//! `clean`: finds what is left over in a location, as a plan first, and deletes it. What nothing needs is decided in
//! [`crate::pair`]; the part files of `get` are found here.

use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;

use crate::location::Location;
use crate::location::argument::Target;
use crate::location::drive::{self, CleanPlan, Deletion, Leftover, UnusedName};
use crate::ops::events::{Event, Observer};
use crate::ops::part::is_part_name;
use crate::ops::{rights, runtime};
use crate::store::{ListOptions, Listed, Object, Right};
use crate::{Error, ErrorKind, Result};

/// What counts as left over.
#[derive(Clone, Copy, Debug)]
pub struct CleanOptions {
    /// How old an unfinished upload or part file is that may go. Envelopes have an age of their own.
    pub age: Duration,
    /// The time.
    pub now: SystemTime,
}

/// What would be deleted.
#[derive(Debug)]
pub struct Plan {
    location: Location,
    options: CleanOptions,
    plan: CleanPlan,
    parts: Vec<Object>,
    /// The root of the vault, and its records.
    names: (Location, Vec<UnusedName>),
}

/// What kind of leftover it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftoverKind {
    /// An envelope that no container needs.
    Envelope,
    /// An upload, or a file of this machine, that was never finished.
    Upload,
    /// What an interrupted `get` left to go on with.
    Part,
    /// The record of a long name that nothing has, in a vault. It is set aside first, and goes for good 30 days later.
    Name,
}

/// One thing that would be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// What it is.
    pub kind: LeftoverKind,
    /// As the store shows it.
    pub object: String,
    /// When it was written or begun, by the store's clock.
    pub since: SystemTime,
}

/// What cleaning came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CleanSummary {
    /// Versions of envelopes that were deleted.
    pub envelopes: u64,
    /// Unfinished uploads that were thrown away.
    pub uploads: u64,
    /// Part files that were deleted.
    pub parts: u64,
    /// Records of long names that were set aside or deleted.
    pub names: u64,
    /// What was planned, and then found to be needed, gone or too young.
    pub kept: u64,
    /// What was to go and is still there, or may be.
    pub failed: u64,
}

impl CleanSummary {
    /// How much is gone.
    pub fn deleted(&self) -> u64 {
        self.envelopes + self.uploads + self.parts + self.names
    }
}

/// Finds what is left over at and below a folder. Nothing is changed. What could not be read is told, and is no leftover.
///
/// # Errors
/// `NotFound` when there is no such folder; what the store says when it cannot be asked at all.
pub fn plan(target: &Target, options: CleanOptions, observer: &dyn Observer) -> Result<Plan> {
    let prefix = format!("{}{}", target.location.prefix(), target.stored_prefix());
    let location = target.location.elsewhere(&prefix)?;
    runtime::start()?.block_on(async {
        rights::require(target, &[Right::List, Right::Read]).await?;
        let drive_options = drive::CleanOptions { uploads_older_than: options.age, now: options.now };
        let mut plan = drive::plan_clean(&location, &drive_options).await?;
        for failure in plan.failures.drain(..) {
            tell(observer, &failure);
        }
        let (parts, is_empty) = parts(&location, options).await;
        if is_empty && !target.path.is_empty() && plan.deletions().next().is_none() {
            return Err(Error::not_found("there is no such folder")
                .about(location.show(""))
                .hint("sidekey ls shows what is there"));
        }
        // A record may serve a name anywhere in the vault.
        let names = match target.path.is_empty() {
            true => drive::plan_names(&target.location, options.now).await,
            false => Ok(vec![]),
        };
        let names = names.unwrap_or_else(|error| {
            tell(observer, &error);
            vec![]
        });
        let names = (target.location.clone(), names);
        Ok(Plan { location: location.clone(), options, plan, parts, names })
    })
}

/// The part files that are old enough, and whether nothing at all is listed. What cannot be listed was told already.
async fn parts(location: &Location, options: CleanOptions) -> (Vec<Object>, bool) {
    let (mut parts, mut is_empty) = (vec![], true);
    let all = ListOptions { prefix: location.prefix().into(), ..ListOptions::default() };
    let mut listed = location.store().list(all);
    while let Some(line) = listed.next().await {
        is_empty = false;
        let Ok(Listed::Object(object)) = line else { continue };
        let last = object.key.rsplit('/').next().unwrap_or_default();
        if is_part_name(OsStr::new(last)) && is_older(&object, options.age, options.now) {
            parts.push(object);
        }
    }
    (parts, is_empty)
}

fn is_older(object: &Object, age: Duration, now: SystemTime) -> bool {
    now.duration_since(object.modified).is_ok_and(|have| have > age)
}

/// What is no file of the store, such as a symlink, is nobody's leftover and no failure.
fn tell(observer: &dyn Observer, failure: &Error) {
    match (failure.kind(), failure.subject()) {
        (ErrorKind::Foreign, Some(subject)) => {
            let why = format!("{}, and is left alone", message(failure));
            observer.event(Event::Skipped { path: Path::new(subject), why: &why });
        }
        _ => observer.event(Event::Failed(failure)),
    }
}

/// An error's sentence without its subject.
fn message(error: &Error) -> String {
    let line = error.line();
    let subject = error.subject().map(|subject| format!("{subject}: ")).unwrap_or_default();
    line.strip_prefix(&subject).unwrap_or(&line).to_owned()
}

impl Plan {
    /// All that would be deleted.
    pub fn deletions(&self) -> impl Iterator<Item = Planned> {
        let parts = self.parts.iter().map(|object| Planned {
            kind: LeftoverKind::Part,
            object: self.location.show_key(&object.key),
            since: object.modified,
        });
        let (root, names) = &self.names;
        let names = names.iter().map(|name| planned_name(root, name));
        self.plan.deletions().map(|deletion| planned(&self.location, &deletion)).chain(parts).chain(names)
    }

    /// Deletes what was planned, after another look at each; `told` gets each with whether it is gone, or was kept after
    /// all.
    ///
    /// # Errors
    /// What the store says when its clock cannot be asked; nothing was deleted then.
    pub fn clean(self, told: &mut (dyn FnMut(&Planned, Result<bool>) + Send)) -> Result<CleanSummary> {
        let Self { location, options, plan, parts, names: (root, names) } = self;
        runtime::start()?.block_on(async {
            location.store().require(location.prefix(), &[Right::Write, Right::Delete]).await?;
            let tell_drive = &mut |deletion: &Deletion, done| told(&planned(&location, deletion), done);
            let cleaned = drive::clean(&location, plan, options.now, tell_drive).await?;
            let mut summary = CleanSummary {
                envelopes: cleaned.envelopes,
                uploads: cleaned.uploads,
                kept: cleaned.kept,
                failed: cleaned.failed,
                ..CleanSummary::default()
            };
            for object in parts {
                let part = Planned {
                    kind: LeftoverKind::Part,
                    object: location.show_key(&object.key),
                    since: object.modified,
                };
                let done = delete(&location, &object).await;
                *match &done {
                    Ok(true) => &mut summary.parts,
                    Ok(false) => &mut summary.kept,
                    Err(_) => &mut summary.failed,
                } += 1;
                told(&part, done);
            }
            let tell_name = &mut |name: &UnusedName, done: Result<bool>| {
                *match &done {
                    Ok(true) => &mut summary.names,
                    Ok(false) => &mut summary.kept,
                    Err(_) => &mut summary.failed,
                } += 1;
                told(&planned_name(&root, name), done);
            };
            drive::clean_names(&root, names, options.now, tell_name).await?;
            Ok(summary)
        })
    }
}

fn planned_name(root: &Location, name: &UnusedName) -> Planned {
    let object = root.store().show(&root.key(&name.stored()));
    Planned { kind: LeftoverKind::Name, object, since: name.since() }
}

/// Deletes a part file, unless somebody has gone on with it.
async fn delete(location: &Location, object: &Object) -> Result<bool> {
    match location.store().stat(&object.key, None).await {
        Ok(now) if now.version == object.version => {}
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    location.store().delete(&object.key, &object.version).await.map(|()| true)
}

fn planned(location: &Location, deletion: &Deletion) -> Planned {
    let (kind, object) = match &deletion.what {
        Leftover::Envelope { id, .. } => (LeftoverKind::Envelope, location.show(&id.stored)),
        Leftover::Upload(upload) => (LeftoverKind::Upload, location.show_key(&upload.key)),
    };
    Planned { kind, object, since: deletion.since }
}
