//! `verify`: whether what stands in a location is whole, as far as the asked level goes.
//!
//! [`Level::Pairs`] needs no key: both halves of every pair are there and belong together. [`Level::Read`] also reads
//! every byte. [`Level::Full`] decrypts: every tag, every length and every digest.

mod against;
mod content;
mod judge;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use futures_util::{StreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;

use self::against::Local;
use self::judge::{Found, Judge};
use crate::crypto::rsa::PrivateKey;
use crate::location::argument::Target;
use crate::location::listing::Entry;
use crate::name::ObjectName;
use crate::ops::events::{Event, Observer};
use crate::ops::recipe_objects::Recipes;
use crate::ops::{look, parallel, rights, runtime};
use crate::recipe::Named;
use crate::store::Right;
use crate::{Error, ErrorKind, Result};

/// How deep to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Both halves of every pair are there and belong together.
    Pairs,
    /// Also, every byte can be read, and is compared with a checksum where the store holds one.
    Read,
    /// Also, every byte is decrypted and authenticated.
    Full,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pairs => "pairs",
            Self::Read => "read",
            Self::Full => "full",
        })
    }
}

/// What became of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// All that was asked for holds.
    Ok,
    /// Its bytes are not what their writer made.
    Damaged,
    /// A container that nothing opens.
    NoEnvelope,
    /// An envelope that opens nothing that is there.
    NoContainer,
    /// An object that is not ours.
    Foreign,
    /// It could not be checked as deep as was asked for.
    Unchecked,
    /// The file of this machine has other contents.
    Differs,
    /// There is no such file on this machine.
    Missing,
    /// A file of this machine that is not in the location.
    Extra,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Damaged => "damaged",
            Self::NoEnvelope => "no-envelope",
            Self::NoContainer => "no-container",
            Self::Foreign => "foreign",
            Self::Unchecked => "unchecked",
            Self::Differs => "differs",
            Self::Missing => "missing",
            Self::Extra => "extra",
        })
    }
}

/// One object, checked.
#[derive(Debug)]
pub struct Checked {
    /// The object as people write it; for [`Outcome::Extra`] the file.
    pub object: String,
    /// Which version of it.
    pub version: Option<String>,
    /// How deep it was looked at.
    pub level: Level,
    /// What became of it.
    pub outcome: Outcome,
    /// What is wrong with it, or why it was not checked.
    pub error: Option<Error>,
    /// What else the user should know.
    pub note: Option<String>,
}

/// A part of the containers, drawn by a seed: those whose SHA-256(seed || stored name) is small enough, one at least.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// How many of a million.
    pub per_million: u32,
    /// Draws them; the same one draws the same.
    pub seed: [u8; 16],
}

/// What to verify, and how.
#[derive(Debug)]
pub struct VerifyOptions {
    /// How deep.
    pub level: Level,
    /// Which containers are looked at deeper than pairs; all where there is nothing here.
    pub sample: Option<Sample>,
    /// Whether older versions are verified too.
    pub versions: bool,
    /// The private keys to decrypt with.
    pub identities: Vec<PrivateKey>,
    /// The file or folder of this machine to compare with.
    pub against: Option<PathBuf>,
    /// Whether a name in the metadata that differs from the object's is an error.
    pub strict: bool,
    /// How files of the OpenSSL recipe were made, where the user says so.
    pub recipe: Named,
    /// How many threads work.
    pub jobs: usize,
}

/// What a verification came to. Everything is a number of objects but the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifySummary {
    /// Containers that are whole, as deep as was looked.
    pub ok: u64,
    /// Of those, how many were looked at deeper than pairs.
    pub deep: u64,
    /// [`Outcome::Damaged`].
    pub damaged: u64,
    /// [`Outcome::NoEnvelope`].
    pub no_envelope: u64,
    /// [`Outcome::NoContainer`].
    pub no_container: u64,
    /// [`Outcome::Foreign`].
    pub foreign: u64,
    /// [`Outcome::Unchecked`].
    pub unchecked: u64,
    /// Of those, files of the OpenSSL recipe, which nothing authenticates.
    pub recipe: u64,
    /// [`Outcome::Differs`].
    pub differs: u64,
    /// [`Outcome::Missing`].
    pub missing: u64,
    /// [`Outcome::Extra`].
    pub extra: u64,
    /// What could not be listed.
    pub failed: u64,
    /// Bytes of containers read.
    pub bytes: u64,
}

/// Verifies what stands at and below a target. What is wrong with one object does not stop the others; the observer is
/// told of each ([`Event::Verified`]).
///
/// # Errors
/// `Usage` for options that do not go together; `NotFound` when nothing is there; what starting threads and the store's
/// capabilities fail with.
pub fn verify(target: &Target, options: &VerifyOptions, observer: &dyn Observer) -> Result<VerifySummary> {
    if options.level == Level::Full && options.identities.is_empty() {
        return Err(Error::usage("no private key to decrypt with").hint("name it with --identity"));
    }
    if options.against.is_some() && options.level != Level::Full {
        return Err(Error::usage("comparing with files needs their contents")
            .hint("give --level full and the private key with --identity"));
    }
    let target = &target.unlocked(&options.identities)?;
    let runtime = runtime::start()?;
    runtime.block_on(rights::require(target, &[Right::List, Right::Read]))?;
    let capabilities = runtime.block_on(target.location.store().capabilities())?;
    let run = Verifying {
        target,
        options,
        observer,
        handle: runtime.handle(),
        judge: Judge {
            location: &target.location,
            keeps_versions: capabilities.versions,
            old_versions: options.versions,
        },
        local: options.against.as_deref().map(|root| Local::new(root, target)).transpose()?,
        large: Mutex::new(()),
        smallest: Mutex::default(),
        recipes: Recipes::new(runtime.handle(), &options.identities, options.recipe, observer),
        unsettled: Mutex::default(),
        summary: Mutex::default(),
    };
    match options.level {
        Level::Pairs => run.pairs(capabilities.concurrency.max(1)),
        Level::Read | Level::Full => run.contents(),
    }
    run.extra();
    let seen_any = run.count(|summary| *summary != VerifySummary::default());
    match seen_any || target.path.is_empty() {
        true => Ok(run.summary.into_inner().unwrap_or_else(PoisonError::into_inner)),
        false => Err(look::nothing_at(target)),
    }
}

struct Verifying<'a> {
    target: &'a Target,
    options: &'a VerifyOptions,
    observer: &'a dyn Observer,
    handle: &'a Handle,
    judge: Judge<'a>,
    local: Option<Local<'a>>,
    /// Held while a large container is decrypted by all threads.
    large: Mutex<()>,
    /// The sound container with the smallest hash that the sample left out, until it has one.
    smallest: Mutex<Smallest>,
    recipes: Recipes<'a>,
    /// Containers of the OpenSSL recipe of which others have to tell how they were made.
    unsettled: Mutex<Vec<Found>>,
    summary: Mutex<VerifySummary>,
}

/// What is said of a pair of the OpenSSL recipe that is not read.
const RECIPE_PAIR: &str =
    "is a file of the OpenSSL recipe, which nothing authenticates; its key file is there";

/// So that a sample of a small location is not empty.
#[derive(Default)]
struct Smallest {
    drawn_any: bool,
    left_out: Option<([u8; 32], ObjectName, Found)>,
}

impl Verifying<'_> {
    /// Requests of a store take time and no work: each thread waits for many.
    fn pairs(&self, at_once: usize) {
        let jobs = self.options.jobs.min(at_once);
        let each = at_once.div_ceil(jobs.max(1));
        let listings: Vec<_> = look::everything(self.target, self.judge.keeps_versions).collect();
        let entries = stream::iter(listings).flatten();
        parallel::for_each_future(self.handle, jobs, each, entries, |entry| async {
            if let Some((_, found)) = self.first_look(entry).await {
                found.into_iter().for_each(|found| self.tell_pair(found));
            }
        });
    }

    /// Pair by pair, then what is in the containers of the sound ones.
    fn contents(&self) {
        for listing in look::everything(self.target, self.judge.keeps_versions) {
            parallel::for_each(self.options.jobs, parallel::waiting(self.handle, listing), |entry| {
                let Some((name, found)) = self.handle.block_on(self.first_look(entry)) else { return };
                for found in found {
                    match () {
                        () if found.is_sound() && self.draws(&name, &found) => self.content(&name, found),
                        () if found.is_recipe && self.draws(&name, &found) => self.recipe(found, false),
                        () => self.tell_pair(found),
                    }
                }
            });
        }
        let unsettled = std::mem::take(&mut *self.unsettled.lock().unwrap_or_else(PoisonError::into_inner));
        parallel::for_each(self.options.jobs, unsettled.into_iter(), |found| self.recipe(found, true));
        let smallest = std::mem::take(&mut *self.smallest.lock().unwrap_or_else(PoisonError::into_inner));
        if let (false, Some((_, name, found))) = (smallest.drawn_any, smallest.left_out) {
            // It was counted as a pair when it was left out.
            match found.is_recipe {
                true => {
                    self.count(|summary| {
                        summary.unchecked -= 1;
                        summary.recipe -= 1;
                    });
                    self.recipe(found, true);
                }
                false => {
                    self.count(|summary| summary.ok -= 1);
                    self.content(&name, found);
                }
            }
        }
    }

    /// What no key is needed for; other things than pairs are told at once.
    async fn first_look(&self, entry: Result<Entry>) -> Option<(ObjectName, Vec<Found>)> {
        match entry {
            Ok(Entry::Pair(pair)) => {
                let found = self.judge.judge(&pair).await;
                Some((pair.name, found))
            }
            Ok(Entry::Foreign(object)) if !object.marker => {
                self.tell(Found::new(&object, Outcome::Foreign, None), Level::Pairs, None);
                None
            }
            Ok(Entry::Foreign(_) | Entry::Folder(_)) => None,
            Err(error) => {
                self.count(|summary| summary.failed += 1);
                self.observer.event(Event::Failed(&error));
                None
            }
        }
    }

    /// Whether the sample has this container.
    fn draws(&self, name: &ObjectName, found: &Found) -> bool {
        let Some(sample) = self.options.sample else { return true };
        let hash: [u8; 32] =
            Sha256::new().chain_update(sample.seed).chain_update(name.container()).finalize().into();
        let [a, b, c, d, ..] = hash;
        let place = u64::from(u32::from_be_bytes([a, b, c, d]));
        let drawn = place < (u64::from(sample.per_million) << 32) / 1_000_000;
        let mut smallest = self.smallest.lock().unwrap_or_else(PoisonError::into_inner);
        smallest.drawn_any |= drawn;
        if smallest.drawn_any {
            smallest.left_out = None;
        } else if smallest.left_out.as_ref().is_none_or(|(least, ..)| hash < *least) {
            let copy = Found {
                header: found.header.clone(),
                cleartext: found.cleartext.clone(),
                is_recipe: found.is_recipe,
                ..Found::new(&found.object, found.outcome, None)
            };
            smallest.left_out = Some((hash, name.clone(), copy));
        }
        drawn
    }

    /// Reads one container of a sound pair.
    fn content(&self, name: &ObjectName, found: Found) {
        let level = self.options.level;
        let checked = match (&found.cleartext, &found.header) {
            (Some(cleartext), _) => self.compare_digest(name, &found.object, cleartext),
            (None, Some(header)) if level == Level::Full => self.decrypt(name, &found.object, header),
            _ => self.read(&found.object),
        };
        let (found, note) = match checked {
            Ok((outcome, note)) => (Found { outcome, ..found }, note),
            Err(error) => {
                let error = error.about(self.target.location.show_key(&found.object.key));
                (Found::fault(&found.object, error), None)
            }
        };
        self.count(|summary| summary.deep += u64::from(found.outcome == Outcome::Ok));
        self.tell(found, level, note);
    }

    /// Reads one container of the OpenSSL recipe, unless that has to wait until all others have been seen. It is never
    /// more than unchecked: nothing authenticates it.
    fn recipe(&self, found: Found, last: bool) {
        let level = self.options.level;
        let checked = match level {
            Level::Full => self.decrypt_recipe(&found.object, last),
            _ => self.read(&found.object).map(Some),
        };
        match checked {
            Ok(None) => self.unsettled.lock().unwrap_or_else(PoisonError::into_inner).push(found),
            Ok(Some((outcome, note))) => {
                self.count(|summary| summary.recipe += 1);
                self.tell(Found { outcome, ..found }, level, note);
            }
            Err(error) => {
                let error = error.about(self.target.location.show_key(&found.object.key));
                self.tell(Found::fault(&found.object, error), level, None);
            }
        }
    }

    /// A pair that was looked at no deeper.
    fn tell_pair(&self, found: Found) {
        let note = found.is_recipe.then(|| RECIPE_PAIR.to_owned());
        self.count(|summary| summary.recipe += u64::from(found.is_recipe));
        self.tell(found, Level::Pairs, note);
    }

    /// Files of this machine that the location does not have.
    fn extra(&self) {
        let Some(local) = &self.local else { return };
        parallel::for_each(self.options.jobs, local.files(), |file| match file {
            Ok((path, name)) => {
                let key = self.target.location.container_key(&name);
                match self.handle.block_on(self.target.location.store().stat(&key, None)) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        self.told(&Checked {
                            object: path.display().to_string(),
                            version: None,
                            level: Level::Full,
                            outcome: Outcome::Extra,
                            error: None,
                            note: Some("is not in the location".into()),
                        });
                    }
                    Err(error) => self.failed(&error),
                }
            }
            Err(error) => self.failed(&error),
        });
    }

    fn failed(&self, error: &Error) {
        self.count(|summary| summary.failed += 1);
        self.observer.event(Event::Failed(error));
    }

    fn tell(&self, found: Found, level: Level, note: Option<String>) {
        self.told(&Checked {
            object: self.target.location.show_key(&found.object.key),
            version: Some(found.object.version),
            level,
            outcome: found.outcome,
            error: found.error,
            note,
        });
    }

    fn told(&self, checked: &Checked) {
        self.count(|summary| {
            *match checked.outcome {
                Outcome::Ok => &mut summary.ok,
                Outcome::Damaged => &mut summary.damaged,
                Outcome::NoEnvelope => &mut summary.no_envelope,
                Outcome::NoContainer => &mut summary.no_container,
                Outcome::Foreign => &mut summary.foreign,
                Outcome::Unchecked => &mut summary.unchecked,
                Outcome::Differs => &mut summary.differs,
                Outcome::Missing => &mut summary.missing,
                Outcome::Extra => &mut summary.extra,
            } += 1;
        });
        self.observer.event(Event::Verified(checked));
    }

    fn count<T>(&self, count: impl FnOnce(&mut VerifySummary) -> T) -> T {
        count(&mut self.summary.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
