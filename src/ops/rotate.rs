//! `rewrap` of a location: every envelope in it moved to other recipients, old versions included, and the proof.
//!
//! One listing is worked off as it comes, with many requests under way and RSA on all threads. Then everything is listed
//! again: what stands there exactly as this run (or, by its journal, an earlier one) left it is confirmed and a part of it
//! tried with the old keys; what came or changed meanwhile is done now. So what is said holds as of the second listing.

mod journal;
mod known;
mod proof;
mod recipes;
mod tally;
mod tell;
mod trial;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::SystemTime;

use futures_util::StreamExt as _;
use futures_util::stream;

use self::known::Known;
use self::proof::Sample;
use self::recipes::Counted;
use self::tally::Tally;
use self::tell::STOPPED;
use crate::location::Location;
use crate::location::argument::Target;
use crate::location::drive::{self, Headers, Listed, Recipes, Rewrapped};
use crate::location::listing::{Entry, EnvelopeObject, PairEntry};
use crate::location::range::Range;
use crate::location::vault::{MASTERS, is_master_below};
use crate::name::is_envelope_name;
use crate::ops::events::Observer;
use crate::ops::ledger::{About, Entries, Line, Run};
use crate::ops::look::{self, Text};
use crate::ops::{parallel, runtime, vault};
use crate::pair::RewrapOutcome;
use crate::recipe::Named;
use crate::rewrap::Rotation;
use crate::store::{ListOptions, Listed as StoreListed, Object, Right, VersionId};
use crate::{Error, ErrorKind, Result};

pub use self::journal::Journal;
pub(super) use self::known::State;
pub use self::tally::RotateSummary;
pub use crate::ops::ledger::Ledger;
pub use crate::ops::rewrap::{Prove, SAMPLE};

/// How to rewrap a location.
#[derive(Debug)]
pub struct RotateOptions<'a> {
    /// From whom to whom.
    pub rotation: &'a Rotation,
    /// Which stored names below the target, where others do the rest.
    pub range: &'a Range,
    /// Whether only to say what would be done.
    pub dry_run: bool,
    /// Whether older versions are deleted.
    pub purge: bool,
    /// Whether keys are compared with their containers' commitments.
    pub compare: bool,
    /// Whether key files of the OpenSSL recipe become envelopes, instead of staying what they are.
    pub adopt: bool,
    /// How files of the OpenSSL recipe were made, where the user says so.
    pub recipe: Named,
    /// How many threads work.
    pub jobs: usize,
    /// On how much the old keys are tried at the end.
    pub prove: Prove,
    /// Draws the sample: the envelopes with the smallest SHA-256(seed || key).
    pub seed: [u8; 16],
    /// The time that new entries say they were created.
    pub now: SystemTime,
    /// What earlier runs did, and where to note what this one does.
    pub journal: Option<&'a Journal>,
    /// Where to write down what is done.
    pub ledger: Option<&'a Ledger>,
}

/// Rewraps what stands at and below a target. One envelope that fails does not stop the others; the observer is told of
/// each.
///
/// # Errors
/// `NotFound` when nothing is there; `Permission` when the store says at once that it may not be done; what writing the
/// journal or the report fails with.
pub fn rotate(
    target: &Target,
    options: &RotateOptions<'_>,
    observer: &dyn Observer,
) -> Result<RotateSummary> {
    let capabilities = runtime::start()?.block_on(target.location.store().capabilities())?;
    let location = match capabilities.customer_keys {
        true => target.location.unlocked(&options.rotation.old)?,
        false => target.location.clone(),
    };
    let run = Rotating {
        target,
        location: &location,
        options,
        observer,
        tally: Tally::default(),
        known: Known::new(options.journal),
        sample: Sample::new(options.seed),
        recipes: Counted::new(options.recipe),
        found: AtomicBool::new(false),
        refusals: AtomicU32::new(0),
        refused: AtomicBool::new(false),
    };
    run.check_rights()?;
    if let Some(ledger) = options.ledger {
        ledger.begin(&begin(&target.show(), options))?;
    }
    run.pass(Pass::First)?;
    let may_be_empty = target.path.is_empty() || !options.range.is_all();
    if run.recipes.seen.load(Ordering::Relaxed) && !run.is_refused() {
        run.recipes.settle();
        run.known.sort();
        run.pass(Pass::Recipes)?;
    }
    if !run.found.load(Ordering::Relaxed) && !may_be_empty {
        return Err(look::nothing_at(target));
    }
    if !options.dry_run && !run.is_refused() {
        run.recipes.settle();
        run.known.sort();
        run.sample.draw();
        run.pass(Pass::Second)?;
        run.tally.add(|tally| tally.listed_again = !run.is_refused());
    }
    run.finish()
}

/// The first line of the report.
fn begin<'a>(location: &'a str, options: &RotateOptions<'a>) -> Run<'a> {
    let (rotation, range) = (options.rotation, options.range);
    let RotateOptions { now, dry_run, .. } = *options;
    let about = About { location, range, now, dry_run, old: &rotation.old, new: &rotation.new };
    let run = Run::new(&about).dropping(rotation.dropped(), &options.seed);
    if rotation.keys_stay() { run.of_command("recipients") } else { run }
}

/// After how many envelopes in a row that the store refused the rest is not tried.
const REFUSALS: u32 = 8;

/// What is worked off: everything, and then what is not as it was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    First,
    /// Key files of the OpenSSL recipe, once all have been counted: how they were made shows then.
    Recipes,
    Second,
}

struct Rotating<'a> {
    target: &'a Target,
    location: &'a Location,
    options: &'a RotateOptions<'a>,
    observer: &'a dyn Observer,
    tally: Tally,
    known: Known<'a>,
    sample: Sample,
    recipes: Counted,
    /// Whether anything at all is there.
    found: AtomicBool,
    /// How many envelopes in a row the store refused.
    refusals: AtomicU32,
    /// Whether the store will do no more: a cap is reached, or nobody paid.
    refused: AtomicBool,
}

/// One envelope as a listing showed it: its versions, newest first.
struct Envelope<'p> {
    stored: &'p str,
    versions: Vec<Object>,
    headers: Option<&'p Headers>,
    /// Whether key files of the OpenSSL recipe are called so.
    may_be_recipe: bool,
}

impl Rotating<'_> {
    /// What a store refuses later costs a residue; what it says at once costs nothing.
    fn check_rights(&self) -> Result<()> {
        let rights: &[Right] = match self.options.dry_run {
            true => &[Right::List, Right::Read],
            false => &[Right::List, Right::Read, Right::Write],
        };
        let prefix = self.location.key(&self.target.stored_prefix());
        runtime::start()?.block_on(self.location.store().require(&prefix, rights))
    }

    fn pass(&self, pass: Pass) -> Result<()> {
        let runtime = runtime::start()?;
        let capabilities = runtime.block_on(self.location.store().capabilities())?;
        // Of a service twice as many as it has connections, so that none stands still while keys are opened, and what
        // is to be deleted can wait for others.
        let at_once = capabilities.concurrency.max(1) * if capabilities.remote { 2 } else { 1 };
        let jobs = self.options.jobs.max(1);
        let entries = stream::iter(look::share(self.target, true, self.options.range)).flatten();
        let entries = entries.take_while(|_| std::future::ready(!self.is_refused())).boxed();
        parallel::for_each_future(runtime.handle(), jobs, at_once.div_ceil(jobs), entries, |entry| {
            self.entry(entry, pass)
        });
        let has_masters = self.target.path.is_empty() && self.options.range.has(MASTERS);
        if has_masters && pass != Pass::Recipes && !self.is_refused() {
            runtime.block_on(self.masters(pass));
        }
        Ok(())
    }

    /// The envelopes of a vault's master keys, which listings of a location leave out.
    async fn masters(&self, pass: Pass) {
        let prefix = self.location.key(MASTERS);
        let options = ListOptions { prefix, versions: true, ..ListOptions::default() };
        let mut found: Vec<Object> = vec![];
        let mut listed = self.location.store().list(options);
        while let Some(next) = listed.next().await {
            match next {
                Ok(StoreListed::Object(object)) if !object.marker => found.push(object),
                Ok(_) => {}
                Err(error) => return self.failed(&error),
            }
        }
        for versions in found.chunk_by(|one, other| one.key == other.key) {
            let Some(stored) =
                versions.first().and_then(|object| object.key.strip_prefix(self.location.prefix()))
            else {
                continue;
            };
            self.found.store(true, Ordering::Relaxed);
            match self.check_master(stored, versions).await {
                Ok(()) => {
                    let versions = versions.to_vec();
                    let may_be_recipe = false;
                    self.envelope(Envelope { stored, versions, headers: None, may_be_recipe }, pass).await;
                }
                Err(_) if pass == Pass::Second && self.tally.has_failures() => {}
                Err(error) => self.failed(&error),
            }
        }
    }

    /// No container commits to a master key: the settings of the vault do.
    async fn check_master(&self, stored: &str, versions: &[Object]) -> Result<()> {
        for object in versions {
            if let Text::Ours(envelope) = look::text(self.location, object).await? {
                vault::check_master(self.location, stored, &envelope, &self.options.rotation.old).await?;
            }
        }
        Ok(())
    }

    /// One object may be archived. After some in a row, every other one would be refused, too.
    fn is_the_last_refusal(&self) -> bool {
        let refusals = self.refusals.fetch_add(1, Ordering::Relaxed) + 1;
        refusals >= REFUSALS && !self.refused.swap(true, Ordering::Relaxed)
    }

    fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    async fn entry(&self, entry: Result<Entry>, pass: Pass) {
        if self.is_refused() {
            return;
        }
        self.found.store(true, Ordering::Relaxed);
        match entry {
            Ok(Entry::Pair(pair)) => self.pair(pair, pass).await,
            _ if pass == Pass::Recipes => {}
            Ok(Entry::Foreign(object)) if !object.marker => self.foreign(&object, pass).await,
            Ok(_) => {}
            // What is no file of the store, such as a symlink, matters where it is called like an envelope.
            Err(error) if error.kind() == ErrorKind::Foreign && !is_about_an_envelope(&error) => {}
            // What cannot be listed is told once.
            Err(_) if pass == Pass::Second && self.tally.has_failures() => {}
            Err(error) => self.failed(&error),
        }
    }

    /// All envelopes of one name, one after the other: two of them may hold the same key.
    async fn pair(&self, pair: PairEntry, pass: Pass) {
        let PairEntry { containers, envelopes, incomplete, .. } = pair;
        let headers = Headers::of(containers);
        for versions in envelopes.chunk_by(|one, other| one.object.key == other.object.key) {
            let Some(EnvelopeObject { contested, short, object }) = versions.first() else { continue };
            // Of two names that may have it, the other one gives it.
            if *contested && short.is_some() {
                continue;
            }
            let Some(stored) = self.location.relative(&object.key) else { continue };
            let versions = versions.iter().map(|version| &version.object);
            let versions: Vec<Object> = versions.filter(|object| !object.marker).cloned().collect();
            if versions.is_empty() {
                continue;
            }
            // What was not listed with it is looked up.
            let headers = Some(&headers).filter(|_| !contested && !incomplete);
            let may_be_recipe = short.is_none() || *contested;
            self.envelope(Envelope { stored, versions, headers, may_be_recipe }, pass).await;
        }
    }

    async fn envelope(&self, envelope: Envelope<'_>, pass: Pass) {
        if is_master_below(envelope.stored) {
            return self.below(envelope.stored, pass);
        }
        if pass == Pass::Recipes && !envelope.may_be_recipe {
            return;
        }
        let state = State::of(envelope.stored, envelope.versions.iter().map(|version| &version.version));
        if pass == Pass::First && self.known.is_done(&state) {
            self.tally.add(|tally| tally.resumed += 1);
            if !self.known.is_proven(&state) {
                self.sample.offer(envelope.stored);
            }
            return;
        }
        if pass != Pass::First && self.known.is_settled(&state) {
            return;
        }
        if pass == Pass::Recipes && self.known.is_done(&state) {
            return;
        }
        if pass == Pass::Second && self.known.is_done(&state) {
            let chosen = self.options.prove == Prove::All || self.sample.is_drawn(envelope.stored);
            if let (true, Some(newest)) = (chosen, envelope.versions.first())
                && self.try_on(envelope.stored, newest).await
            {
                self.known.undo(state);
            }
            return;
        }
        self.rewrap(envelope, state, pass).await;
    }

    /// A vault's settings judge its master key, so it is moved with its vault alone.
    fn below(&self, stored: &str, pass: Pass) {
        if pass != Pass::First {
            return;
        }
        let error = Error::conflict(
            "is the master key of a vault that stands below this location; it was left as it is",
        )
        .about(self.location.show(stored))
        .hint("give that vault's folder as the location, too: its other envelopes are moved by either");
        self.write_down(&Line { entries: Some(Entries::default()), ..Line::failed(stored, &[], &error) });
        self.failed(&error);
    }

    async fn rewrap(&self, envelope: Envelope<'_>, state: State, pass: Pass) {
        let Envelope { stored, versions, headers, .. } = envelope;
        let Some(newest) = versions.first().cloned() else { return };
        let ids: Vec<VersionId> = versions.iter().map(|version| version.version.clone()).collect();
        let listed = headers.map(|headers| Listed { versions, headers });
        let options = self.drive_options(pass, false);
        let done = match drive::rewrap_listed(self.location, stored, listed, &options).await {
            Ok(done) => done,
            // Somebody removed it meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) => {
                self.known.settle(state);
                self.write_down(&Line {
                    entries: Some(Entries::default()),
                    ..Line::failed(stored, &ids, &error)
                });
                let stops = error.kind() == ErrorKind::Refused && self.is_the_last_refusal();
                return self.failed(&match stops {
                    true => Error::new(ErrorKind::Refused, STOPPED).because(error),
                    false => error,
                });
            }
        };
        self.refusals.store(0, Ordering::Relaxed);
        if done.is_empty() {
            // A key file of the OpenSSL recipe that was counted.
            self.recipes.seen.store(true, Ordering::Relaxed);
            return;
        }
        let (good, states) = (done.iter().all(is_good), states_of(stored, &done));
        for (name, left) in &states {
            let state = State::of(name, left);
            let kept = done.iter().any(|done| done.outcome == RewrapOutcome::NotOurs);
            // Done by a text that stands there alone.
            let text = done.iter().find_map(|done| {
                let text = done.facts.remembered.filter(|_| done.stored == *name && left.len() == 1)?;
                Some(State::of_text(name, &text))
            });
            match (good, text) {
                (true, Some(text)) if !self.options.dry_run => self.known.written(state, text),
                (true, _) => self.known.done(state, kept, self.options.dry_run),
                (false, _) => self.known.settle(state),
            }
        }
        for done in &done {
            self.tell(done, &newest, pass);
            if !matches!(done.outcome, RewrapOutcome::Rewrapped | RewrapOutcome::AlreadyDone) {
                continue;
            }
            match (pass, done.facts.left.first()) {
                (Pass::First | Pass::Recipes, _) => self.sample.offer(&done.stored),
                (Pass::Second, Some(version)) => {
                    let key = self.location.key(&done.stored);
                    let object = Object { key, version: version.clone(), ..newest.clone() };
                    if self.try_on(&done.stored, &object).await {
                        self.known.undo(State::of(&done.stored, &done.facts.left));
                    }
                }
                (Pass::Second, None) => {}
            }
        }
    }

    fn drive_options(&self, pass: Pass, all: bool) -> drive::RewrapOptions<'_> {
        drive::RewrapOptions {
            all,
            dry_run: self.options.dry_run,
            purge: self.options.purge,
            compare: self.options.compare,
            // The first pass is followed by a listing of everything.
            list_again: pass == Pass::Second,
            recipes: Some(match pass {
                Pass::First => Recipes::Count(&self.recipes.counted),
                _ if self.options.adopt => Recipes::Adopt(self.recipes.settle()),
                _ => Recipes::Keep(self.recipes.settle()),
            }),
            memory: Some(&self.known),
            ..drive::RewrapOptions::new(self.options.rotation, self.options.now)
        }
    }

    fn finish(self) -> Result<RotateSummary> {
        let mut summary = self.tally.into_summary();
        if let Some(journal) = self.options.journal.filter(|_| !self.options.dry_run) {
            journal.finish(summary.is_proven())?;
        }
        if let Some(ledger) = self.options.ledger {
            summary.head = Some(ledger.finish(&summary)?);
        }
        Ok(summary)
    }
}

fn is_about_an_envelope(error: &Error) -> bool {
    error.subject().is_some_and(is_envelope_name)
}

/// Whether nothing more is to be done about it.
fn is_good(done: &Rewrapped) -> bool {
    let outcomes = [RewrapOutcome::Rewrapped, RewrapOutcome::AlreadyDone, RewrapOutcome::NotOurs];
    done.residue.is_empty() && outcomes.contains(&done.outcome)
}

/// The names that rewrapping `stored` concerned, each with the versions that it was left with.
fn states_of(stored: &str, done: &[Rewrapped]) -> Vec<(String, Vec<VersionId>)> {
    let mut states: Vec<(String, Vec<VersionId>)> = vec![(stored.to_owned(), vec![])];
    for done in done {
        let moved = done.stored != stored;
        if moved {
            states.retain(|(name, _)| *name != done.stored);
            states.push((done.stored.clone(), done.facts.left.clone()));
        }
        let stays = done.facts.seen.iter().filter(|version| !done.facts.purged.contains(version));
        let here: Vec<VersionId> = if moved { stays.cloned().collect() } else { done.facts.left.clone() };
        if let Some((_, left)) = states.first_mut() {
            left.extend(here);
        }
    }
    states.retain(|(_, left)| !left.is_empty());
    states
}
