//! Plans what is left over in a location, and deletes it.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::fetch;
use crate::location::vault::is_master_below;
use crate::location::{Location, RESERVED};
use crate::name::{containers_of, is_envelope_name};
use crate::pair::{
    Clean, CleanReply as Reply, CleanStep as Step, ContainerVersion, EnvelopeId, LATEST, ORPHANED, Serves,
};
use crate::store::{ListOptions, Listed, Object, PutOptions, Unfinished, VersionId};
use crate::{DataId, Error, ErrorKind, Result};

/// What counts as left over.
#[derive(Clone, Copy, Debug)]
pub struct CleanOptions {
    /// How old an unfinished upload is that may go.
    pub uploads_older_than: Duration,
    /// The time.
    pub now: SystemTime,
}

impl CleanOptions {
    /// At this time; uploads are left until none may be resumed any more.
    pub fn new(now: SystemTime) -> Self {
        Self { uploads_older_than: LATEST, now }
    }
}

/// What would be deleted, and what could not be judged.
#[derive(Debug, Default)]
pub struct CleanPlan {
    /// In the order of their names.
    envelopes: Vec<Planned>,
    uploads: Vec<Unfinished>,
    older_than: Duration,
    /// What could not be listed or read. Nothing is deleted because of it.
    pub failures: Vec<Error>,
}

/// The machine of one name, waiting in [`Step::Plan`].
#[derive(Debug)]
struct Planned {
    stored: String,
    machine: Clean,
    objects: Vec<Object>,
}

/// One deletion of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// What goes.
    pub what: Leftover,
    /// When it was written or begun, by the store's clock.
    pub since: SystemTime,
}

/// Something that nothing needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// An envelope older than 30 days without a container: every version of its container was read.
    Envelope {
        /// Which one.
        id: EnvelopeId,
        /// The data ids that no container has.
        data: Vec<DataId>,
    },
    /// An upload that was neither completed nor aborted.
    Upload(Unfinished),
}

/// What cleaning came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Versions of envelopes that were deleted.
    pub envelopes: u64,
    /// Uploads that were thrown away.
    pub uploads: u64,
    /// What was planned, and then found to be needed, or gone, or too young by the store's clock.
    pub kept: u64,
    /// What was to go and is still there, or may be.
    pub failed: u64,
}

impl CleanPlan {
    /// All that would be deleted.
    pub fn deletions(&self) -> impl Iterator<Item = Deletion> {
        let envelopes = self.envelopes.iter().flat_map(Planned::deletions);
        let uploads = self
            .uploads
            .iter()
            .map(|upload| Deletion { what: Leftover::Upload(upload.clone()), since: upload.started });
        envelopes.chain(uploads)
    }
}

impl Planned {
    fn deletions(&self) -> impl Iterator<Item = Deletion> {
        self.machine.candidates().iter().map(|envelope| {
            let data = match &envelope.serves {
                Serves::Data(ids) => ids.clone(),
                _ => vec![],
            };
            Deletion {
                what: Leftover::Envelope { id: envelope.id.clone(), data },
                since: self.modified(&envelope.id.version).unwrap_or(SystemTime::UNIX_EPOCH),
            }
        })
    }

    fn modified(&self, version: &VersionId) -> Option<SystemTime> {
        self.objects.iter().find(|object| object.version == *version).map(|object| object.modified)
    }
}

/// Finds what is left over below a location. Nothing is changed. What is sidekey's own folder is left alone.
///
/// # Errors
/// `Usage` never; what the store says when it cannot be asked at all. What cannot be listed or read is in the plan.
pub async fn plan_clean(location: &Location, options: &CleanOptions) -> Result<CleanPlan> {
    let capabilities = location.store().capabilities().await?;
    let mut plan = CleanPlan { older_than: options.uploads_older_than, ..CleanPlan::default() };
    let names = old_envelopes(location, capabilities.versions, options.now, &mut plan.failures).await;
    let mut planned = stream::iter(names)
        .map(|stored| plan_one(location, stored, options.now))
        .buffered(capabilities.concurrency.max(1));
    while let Some(one) = planned.next().await {
        match one {
            Ok(one) => plan.envelopes.extend(one),
            Err(error) => plan.failures.push(error),
        }
    }
    let mut unfinished = location.store().unfinished(location.prefix());
    while let Some(upload) = unfinished.next().await {
        match upload {
            Ok(upload) if is_stale(&upload, options.uploads_older_than, options.now) => {
                plan.uploads.push(upload);
            }
            Ok(_) => {}
            Err(error) => plan.failures.push(error),
        }
    }
    Ok(plan)
}

/// Deletes what was planned, after another look at each, and tells how it went: whether it was deleted, or kept after all.
///
/// # Errors
/// What the store says when its clock cannot be asked; nothing was deleted then.
pub async fn clean(
    location: &Location,
    plan: CleanPlan,
    now: SystemTime,
    told: &mut (dyn FnMut(&Deletion, Result<bool>) + Send),
) -> Result<Cleaned> {
    let mut cleaned = Cleaned::default();
    if plan.envelopes.is_empty() && plan.uploads.is_empty() {
        return Ok(cleaned);
    }
    let now = store_time(location, now).await?;
    let mut tell = |deletion: &Deletion, done: Result<bool>| {
        *match (&done, &deletion.what) {
            (Ok(true), Leftover::Envelope { .. }) => &mut cleaned.envelopes,
            (Ok(true), Leftover::Upload(_)) => &mut cleaned.uploads,
            (Ok(false), _) => &mut cleaned.kept,
            (Err(_), _) => &mut cleaned.failed,
        } += 1;
        told(deletion, done);
    };
    for mut planned in plan.envelopes {
        perform(location, &mut planned, now, &mut tell).await;
    }
    for upload in plan.uploads {
        let done = match is_stale(&upload, plan.older_than, now) {
            true => location.store().abort(&upload).await.map(|()| true),
            false => Ok(false),
        };
        tell(&Deletion { since: upload.started, what: Leftover::Upload(upload) }, done);
    }
    Ok(cleaned)
}

/// How often the time is asked for where other processes ask at the same moment.
const CLOCK_TRIES: u32 = 8;

/// The time by the store's clock, and never later than `now`: what is old by one clock alone is not old. It writes,
/// looks at and deletes an object of a few bytes in sidekey's own folder.
///
/// # Errors
/// What the store fails with.
pub async fn store_time(location: &Location, now: SystemTime) -> Result<SystemTime> {
    let (store, key) = (location.store(), location.key(&format!("{RESERVED}/clock")));
    let mut tries = CLOCK_TRIES;
    loop {
        let written = store.put(&key, Bytes::from_static(b"clock\n"), &PutOptions::default()).await?;
        let object = store.stat(&key, None).await;
        // One that stays is overwritten by the next.
        let _ = store.delete(&key, &written.version).await;
        tries -= 1;
        match object {
            // Another process that asks for the time took it away.
            Err(error) if error.kind() == ErrorKind::NotFound && tries > 0 => {}
            object => return Ok(now.min(object?.modified)),
        }
    }
}

/// The stored names of envelopes of which some version is old enough to go.
async fn old_envelopes(
    location: &Location,
    versions: bool,
    now: SystemTime,
    failures: &mut Vec<Error>,
) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let options = ListOptions { prefix: location.prefix().into(), versions, ..ListOptions::default() };
    let mut listed = location.store().list(options);
    while let Some(line) = listed.next().await {
        match line {
            Ok(Listed::Object(object)) if fetch::is_older(&object, ORPHANED, now) => {
                let is_ours = |stored: &&str| is_envelope_name(stored) && !is_master_below(stored);
                let stored = location.relative(&object.key).filter(is_ours);
                if let Some(stored) = stored.filter(|stored| names.last().is_none_or(|last| last != stored)) {
                    names.push(stored.into());
                }
            }
            Ok(_) => {}
            Err(error) => failures.push(error),
        }
    }
    names
}

/// Takes one name's machine up to its plan; nothing when there is nothing to delete.
async fn plan_one(location: &Location, stored: String, now: SystemTime) -> Result<Option<Planned>> {
    let mut planned = Planned { stored, machine: Clean::new(), objects: vec![] };
    loop {
        let reply = match planned.machine.step() {
            Step::ReadEnvelope => {
                let found = fetch::envelopes(location, &planned.stored, ORPHANED, now).await?;
                let (objects, envelopes) = found.into_iter().unzip();
                planned.objects = objects;
                Reply::Envelopes(envelopes)
            }
            Step::ReadContainers => Reply::Containers(containers(location, &planned.stored, now).await?),
            Step::Plan(_) => return Ok(Some(planned)),
            _ => return Ok(None),
        };
        planned.machine.reply(reply);
    }
}

/// Takes one name's machine from its plan to the end, and tells of each version how it went.
async fn perform(
    location: &Location,
    planned: &mut Planned,
    now: SystemTime,
    tell: &mut (dyn FnMut(&Deletion, Result<bool>) + Send),
) {
    // Both take the last first.
    let mut open: Vec<Deletion> = planned.deletions().collect();
    let all_old = planned.objects.iter().all(|object| {
        let planned = open
            .iter()
            .any(|one| matches!(&one.what, Leftover::Envelope { id, .. } if id.version == object.version));
        !planned || fetch::is_older(object, ORPHANED, now)
    });
    loop {
        let step = planned.machine.step().clone();
        let reply = match &step {
            Step::Plan(_) if all_old => Ok(Reply::Done),
            Step::ReadAgain(_) => containers(location, &planned.stored, now).await.map(Reply::Containers),
            Step::Delete(version) => {
                let key = location.key(&planned.stored);
                let deleted = fetch::delete(location.store(), &key, version).await;
                deleted.map(|()| Reply::Done)
            }
            Step::Finished(_) => break,
            _ => Ok(Reply::Failed),
        };
        let (reply, failure) = match reply {
            Ok(reply) => (reply, None),
            Err(error) => (Reply::Failed, Some(error)),
        };
        planned.machine.reply(reply);
        let deleted = matches!(step, Step::Delete(_));
        let kept = matches!(step, Step::ReadAgain(_)) && !matches!(planned.machine.step(), Step::Delete(_));
        if let (true, Some(deletion)) = (deleted || kept, open.last()) {
            tell(deletion, failure.map_or(Ok(deleted), Err));
            open.pop();
        }
    }
    open.iter().for_each(|deletion| tell(deletion, Ok(false)));
}

/// The versions of every container that an envelope of this name may belong to.
async fn containers(location: &Location, envelope: &str, now: SystemTime) -> Result<Vec<ContainerVersion>> {
    let mut found = Vec::new();
    for name in containers_of(envelope) {
        found.extend(fetch::containers(location, &name, now).await?);
    }
    Ok(found)
}

fn is_stale(upload: &Unfinished, age: Duration, now: SystemTime) -> bool {
    now.duration_since(upload.started).is_ok_and(|have| have > age)
}
