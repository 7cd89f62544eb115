//! Moves the key files of the OpenSSL recipe to new recipients: in their own format, or as envelopes.
//!
//! A script writes every upload's key file under the same name, so each version may be the only key of some version of
//! the container. Which of which is found out by trial: a version goes only when what it opens is known to open without
//! it, and what fits nothing is left and told.

use super::examine::ReadVersion;
use super::fetch;
use super::key_versions::Writing;
use super::relocate;
use super::rewrap::{Facts, Headers, RewrapOptions, Rewrapped};
use crate::crypto::lanes::same;
use crate::format::Envelope;
use crate::location::Location;
use crate::location::recipe::{choose, distance, sample};
use crate::name::{containers_of, envelope_name};
use crate::pair::RewrapOutcome;
use crate::recipe::{Decision, KeyFile, PasswordBlock, Sample, Settler, detect_key_file};
use crate::store::{Object, VersionId};
use crate::wrap::adopted_entry;
use crate::{Error, ErrorKind, Result};

/// What becomes of key files of the OpenSSL recipe.
#[derive(Clone, Copy, Debug)]
pub enum Recipes<'a> {
    /// Nothing yet: their pairs are counted, so that it is known how they were made when they are worked on.
    Count(&'a std::sync::Mutex<Settler>),
    /// They stay what they are, each for one new recipient.
    Keep(&'a Settler),
    /// They become envelopes.
    Adopt(&'a Settler),
}

/// Whether some version is a key file of the recipe.
pub(super) fn has_key_file(versions: &[ReadVersion]) -> bool {
    versions.iter().any(|version| detect_key_file(&version.bytes).is_some())
}

/// One version of a key file.
struct KeyVersion {
    version: ReadVersion,
    key_file: KeyFile,
    /// What the old keys make of it; none when they do not open it.
    blocks: Vec<PasswordBlock>,
    serves: Serves,
}

/// Which versions of the container a key file is for.
#[derive(Debug)]
enum Serves {
    /// This one, and no other that has another data id.
    One { container: usize, decision: Decision },
    /// None that could be read, though one may be there that could not.
    Nothing(String),
    /// Nobody tried, or nothing tells.
    Unknown,
}

/// A version of the container.
struct Container {
    object: Object,
    what: What,
}

enum What {
    Recipe(Sample),
    /// Something that no key file of the recipe opens.
    Other,
    Unreadable(Error),
}

/// Takes all versions of a key file through what is to become of them.
pub(super) async fn rewrap(
    location: &Location,
    stored: &str,
    versions: Vec<ReadVersion>,
    known: Option<&Headers>,
    options: &RewrapOptions<'_>,
) -> Result<Vec<Rewrapped>> {
    let (mut keys, mut others) = (Vec::new(), Vec::new());
    for version in versions {
        match detect_key_file(&version.bytes) {
            Some(key_file) => {
                let mut blocks = key_file.open(&options.rotation.old).unwrap_or_default();
                blocks.retain(PasswordBlock::is_text);
                keys.push(KeyVersion { version, key_file, blocks, serves: Serves::Unknown });
            }
            None => others.push(version),
        }
    }
    let alone = Settler::default();
    let (settler, adopt) = match options.recipes {
        Some(Recipes::Count(settler)) => {
            count(location, stored, &keys, known, settler).await;
            return Ok(vec![]);
        }
        Some(Recipes::Keep(settler)) => (settler, false),
        Some(Recipes::Adopt(settler)) => (settler, true),
        None => (&alone, false),
    };
    let opened = keys.iter().filter(|key| !key.blocks.is_empty()).count();
    let mut containers = vec![];
    if opened > 0 && (adopt || options.compare || keys.len() > 1) {
        containers = read_containers(location, stored, known).await?;
        match_up(&mut keys, &containers, settler, adopt);
    }
    let mut done = match adopt && opened > 0 && !options.rotation.keys_stay() {
        true => adopt_all(location, stored, keys, &containers, options).await?,
        false => vec![keep_all(location, stored, keys, &containers, options).await?],
    };
    if !others.is_empty() {
        done.extend(relocate::beside(location, stored, others, None, options).await?);
    }
    Ok(done)
}

/// Counts how the current pair was made.
async fn count(
    location: &Location,
    stored: &str,
    keys: &[KeyVersion],
    known: Option<&Headers>,
    settler: &std::sync::Mutex<Settler>,
) {
    let lock = || settler.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(newest) = keys.first().filter(|key| !key.blocks.is_empty()) else { return };
    let Ok(containers) = read_containers(location, stored, known).await else { return };
    if let Some(Container { what: What::Recipe(sample), .. }) = containers.iter().find(|it| it.object.latest)
    {
        let tried = lock().clone();
        let ballot = tried.examine(&newest.blocks, sample);
        lock().count(&ballot);
    }
}

/// All versions of the container that key files of this name may belong to, the newest first.
async fn read_containers(
    location: &Location,
    stored: &str,
    known: Option<&Headers>,
) -> Result<Vec<Container>> {
    let store = location.store();
    let objects: Vec<Object> = match known {
        Some(known) => known.objects().to_vec(),
        None => {
            let suffix = location.recipe_suffix().and_then(|suffix| suffix.container_of(stored));
            let mut objects = vec![];
            // A script names key files in the second form alone.
            for name in suffix.into_iter().chain(containers_of(stored).pop()) {
                objects.extend(fetch::versions(store, &location.key(&name)).await?);
            }
            objects
        }
    };
    let mut containers: Vec<Container> = vec![];
    for object in objects.into_iter().filter(|object| !object.marker) {
        let known =
            |other: &Container| other.object.key == object.key && other.object.version == object.version;
        if containers.iter().any(known) {
            continue;
        }
        let start = fetch::start(store, &object.key, Some(&object.version), fetch::TELLING).await;
        let what = match start {
            Ok((read, start))
                if crate::recipe::detect_container(&start).is_some()
                    && location.cleartext(&read).is_none() =>
            {
                sample(location, &object).await.map_or_else(What::Unreadable, What::Recipe)
            }
            Ok(_) => What::Other,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => What::Unreadable(error),
        };
        containers.push(Container { object, what });
    }
    Ok(containers)
}

/// Finds out which version of the key file serves which version of the container.
fn match_up(keys: &mut [KeyVersion], containers: &[Container], settler: &Settler, adopt: bool) {
    let mut fits: Vec<(usize, usize, Decision)> = vec![];
    let (mut doubts, mut why) = (false, None);
    for (at, container) in containers.iter().enumerate() {
        let What::Recipe(sample) = &container.what else { continue };
        let mut order: Vec<usize> = (0..keys.len()).filter(|nth| !keys[*nth].blocks.is_empty()).collect();
        order.sort_by_key(|nth| distance(&keys[*nth].version.object, &container.object));
        match choose(settler, order.iter().map(|nth| keys[*nth].blocks.as_slice()), sample) {
            Ok((chosen, decision)) => {
                let chosen = order[chosen];
                fits.push((chosen, at, decision));
                // The same password, uploaded again.
                for other in order.into_iter().filter(|nth| *nth != chosen) {
                    if has_same(&keys[other], &keys[chosen])
                        && let Ok(decision) = settler.decide(&keys[other].blocks, sample)
                    {
                        fits.push((other, at, decision));
                    }
                }
            }
            Err(error) if error.kind() == ErrorKind::Integrity => why = Some(error.line()),
            Err(_) => doubts = true,
        }
    }
    for (nth, key) in keys.iter_mut().enumerate().filter(|(_, key)| !key.blocks.is_empty()) {
        let mine: Vec<(usize, Decision)> = fits
            .extract_if(.., |(other, ..)| *other == nth)
            .map(|(_, container, decision)| (container, decision))
            .collect();
        let id = |container: usize| match &containers[container].what {
            What::Recipe(sample) => Some(sample.data_id()),
            _ => None,
        };
        let first = mine.first().map(|(container, _)| id(*container));
        // A key file that stays one keeps its whole password, whatever else that fits by chance.
        let alone = !adopt || mine.iter().all(|(container, _)| Some(id(*container)) == first);
        key.serves = match mine.into_iter().next() {
            Some((container, decision)) if alone => Serves::One { container, decision },
            None if !doubts && !containers.is_empty() => {
                let why = why.clone().unwrap_or_else(|| "each that is there has another one".into());
                Serves::Nothing(why)
            }
            _ => Serves::Unknown,
        };
    }
}

/// Whether two key files hold the same password.
fn has_same(one: &KeyVersion, other: &KeyVersion) -> bool {
    let mut blocks = one.blocks.iter();
    blocks.any(|block| other.blocks.iter().any(|known| same(block.expose(), known.expose())))
}

/// What a version that cannot be read says of the key files that stay.
fn unreadable(containers: &[Container]) -> Option<String> {
    containers.iter().find_map(|container| match &container.what {
        What::Unreadable(error) => {
            Some(format!("a version of its container cannot be read: {}", error.line()))
        }
        _ => None,
    })
}

/// Every version that serves a container becomes an envelope with a name of its own, and goes then.
async fn adopt_all(
    location: &Location,
    stored: &str,
    keys: Vec<KeyVersion>,
    containers: &[Container],
    options: &RewrapOptions<'_>,
) -> Result<Vec<Rewrapped>> {
    let unreadable = unreadable(containers);
    let mut done = vec![];
    for key in keys {
        let seen = key.version.object.version.clone();
        let (container, decision) = match key.serves {
            _ if key.blocks.is_empty() => {
                done.push(Rewrapped::stays(stored, &seen, RewrapOutcome::NotOurs));
                continue;
            }
            Serves::One { container, decision } => (&containers[container], decision),
            Serves::Nothing(why) => {
                let why = format!(
                    "the old key opens it, but no version of its container that is there fits: {why}; it was kept"
                );
                done.push(Rewrapped::stays(stored, &seen, RewrapOutcome::Unproven).with(why));
                continue;
            }
            Serves::Unknown => {
                let why = match containers.is_empty() {
                    true => {
                        "the old key opens it, but without its container it cannot be adopted; it was kept"
                    }
                    false => {
                        "the old key opens it, but nothing tells which version of its container it is for; it was kept"
                    }
                };
                done.push(Rewrapped::stays(stored, &seen, RewrapOutcome::Unproven).with(why.into()));
                continue;
            }
        };
        let (What::Recipe(sample), Some(name)) = (&container.what, location.relative(&container.object.key))
        else {
            continue;
        };
        let id = sample.data_id();
        let Some(name) = envelope_name(name, Some(&id)) else { continue };
        let kdf = decision.parameters().kdf.to_string();
        let payload = decision.key().payload();
        let make = |recipient| adopted_entry(recipient, payload.expose(), &id, &kdf, options.created);
        let envelope = Envelope { blocks: options.rotation.new.iter().map(make).collect::<Result<_>>()? };
        let careful = RewrapOptions { purge: options.purge && unreadable.is_none(), ..*options };
        let moved = relocate::relocate(location, (stored, key.version), (&name, &envelope), &careful).await?;
        let mut residue = moved.residue;
        if let Some(why) = unreadable.as_ref().filter(|_| options.purge && !options.dry_run) {
            residue.push(format!("the key file was kept, for it may serve that too: {why}"));
        }
        done.push(Rewrapped {
            stored: moved.stored,
            outcome: moved.outcome,
            residue,
            notes: decision.warning().map(ToOwned::to_owned).into_iter().collect(),
            checked: 1,
            unchecked: 0,
            facts: Facts { seen: vec![seen], ..moved.facts },
        });
    }
    Ok(done)
}

/// The key files stay key files. What the current container needs is written last, so that it stays the newest.
async fn keep_all(
    location: &Location,
    stored: &str,
    keys: Vec<KeyVersion>,
    containers: &[Container],
    options: &RewrapOptions<'_>,
) -> Result<Rewrapped> {
    let ids: Vec<VersionId> = keys.iter().map(|key| key.version.object.version.clone()).collect();
    let mut done = Rewrapped::stays(stored, "", RewrapOutcome::NotOurs);
    done.facts = Facts { seen: ids.clone(), left: ids.clone(), ..Facts::default() };
    let opened: Vec<usize> = (0..keys.len()).filter(|nth| !keys[*nth].blocks.is_empty()).collect();
    if opened.is_empty() {
        return Ok(done);
    }
    done.outcome = RewrapOutcome::Unproven;
    if options.rotation.keys_stay() {
        return Ok(done.with("is a key file of the OpenSSL recipe, which holds one recipient".into()));
    }
    let [recipient] = options.rotation.new.as_slice() else {
        let why =
            "is a key file of the OpenSSL recipe, which holds one recipient; --adopt makes an envelope of it";
        return Ok(done.with(why.into()));
    };
    let mut plan = plan(&keys, containers);
    done.residue.append(&mut plan.residue);
    (done.checked, done.unchecked) = (plan.checked, plan.unchecked);
    let Some(top) = plan.write.last().copied() else { return Ok(done) };
    done.outcome = RewrapOutcome::Rewrapped;
    if options.dry_run {
        return Ok(done);
    }
    let mut write = Writing::new(location, stored, options, ids).await?;
    for nth in plan.write {
        let key = &keys[nth];
        let password = match &key.serves {
            Serves::One { decision, .. } => key.blocks.get(decision.block()),
            _ => key.blocks.first(),
        };
        let password = password.ok_or_else(|| Error::auth("no old key opens it"))?;
        write.replaced.push(key.version.object.version.clone());
        let text = KeyFile::wrap(password, recipient, key.key_file.form())?.encode().into();
        write.version(text, nth == top).await?;
    }
    let (residue, facts) = write.finish().await?;
    done.residue.extend(residue);
    done.facts = facts;
    if !done.residue.is_empty() {
        done.outcome = RewrapOutcome::Residue;
    }
    Ok(done)
}

/// Which versions are written anew, in this order.
#[derive(Debug, Default)]
struct Plan {
    write: Vec<usize>,
    residue: Vec<String>,
    checked: u64,
    unchecked: u64,
}

fn plan(keys: &[KeyVersion], containers: &[Container]) -> Plan {
    let mut plan = Plan::default();
    let is_of_current = |key: &KeyVersion| matches!(&key.serves, Serves::One { container, .. } if containers[*container].object.latest);
    let top = keys.iter().position(is_of_current);
    // Nothing that is not ours may end up below what is written, unless that is what the current container needs.
    let newest_is_ours = keys.first().is_some_and(|key| !key.blocks.is_empty());
    for (nth, key) in keys.iter().enumerate().rev().filter(|(_, key)| !key.blocks.is_empty()) {
        let older = if nth == 0 { "" } else { "an older version: " };
        match &key.serves {
            Serves::One { .. } if top.is_some() || (newest_is_ours && nth == 0) => {
                plan.checked += 1;
                plan.write.push(nth);
            }
            Serves::Unknown if nth == 0 => {
                plan.unchecked += 1;
                plan.write.push(nth);
            }
            Serves::Nothing(why) => plan.residue.push(format!(
                "{older}the old key opens it, but no version of its container that is there fits: {why}; it was kept"
            )),
            Serves::One { .. } => plan.residue.push(format!(
                "{older}it is for an older version of its container, and cannot be written anew without hiding the newest \
                 one; it was kept, and --adopt gives it a name of its own"
            )),
            Serves::Unknown => plan.residue.push(format!(
                "{older}the old key opens it, but nothing tells which version of its container it is for; it was kept"
            )),
        }
    }
    if let Some(top) = top.filter(|top| plan.write.contains(top)) {
        plan.write.retain(|nth| *nth != top);
        plan.write.push(top);
    }
    plan
}
