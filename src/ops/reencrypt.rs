//! `reencrypt`: new file keys and new ciphertext, for when envelopes themselves were copied.
//!
//! Each container that a key opens is read, authenticated, encrypted anew and put over itself by the rules of every put:
//! the new envelope first, then the container. What was written is read back whole and compared before anything of the old
//! pair goes. Contents pass through bounded memory and touch no disk of this machine.

mod cleartext;
mod one;
mod tell;

use std::path::Path;
use std::sync::Mutex;
use std::time::SystemTime;

use tokio::runtime::Handle;

pub use self::tell::ReencryptSummary;

use self::tell::Tally;
use crate::crypto::rsa::{PrivateKey, PublicKey};
use crate::location::Location;
use crate::location::argument::Target;
use crate::location::customer::PairEncryption;
use crate::location::drive;
use crate::location::listing::{Entry, PairEntry};
use crate::location::range::Range;
use crate::ops::events::{Event, Observer};
use crate::ops::ledger::Line;
use crate::ops::look;
use crate::ops::rotate::{Journal, Ledger, State};
use crate::ops::{parallel, runtime};
use crate::store::{Object, Right, VersionId};
use crate::{Error, ErrorKind, KeyId, Result};

/// How to reencrypt.
#[derive(Debug)]
pub struct ReencryptOptions<'a> {
    /// The private keys that open what is there.
    pub identities: &'a [PrivateKey],
    /// Who can open the new pairs, and nobody else.
    pub recipients: &'a [PublicKey],
    /// How the service is asked to encrypt them, on top.
    pub encryption: PairEncryption,
    /// Which stored names below the target, where others do the rest.
    pub range: &'a Range,
    /// Whether only to say what would be done.
    pub dry_run: bool,
    /// Whether the version that a new one stands for is deleted, and its envelope.
    pub purge: bool,
    /// Whether older versions, which hold other contents, are deleted too.
    pub purge_versions: bool,
    /// How many threads work.
    pub jobs: usize,
    /// The time that new envelopes say they were created.
    pub now: SystemTime,
    /// What earlier runs did, and where to note what this one does.
    pub journal: Option<&'a Journal>,
    /// Where to write down what is done.
    pub ledger: Option<&'a Ledger>,
}

impl ReencryptOptions<'_> {
    fn check(&self) -> Result<()> {
        if self.identities.is_empty() {
            return Err(
                Error::usage("no private key that opens what is there").hint("name it with --identity")
            );
        }
        if self.recipients.is_empty() {
            return Err(Error::usage("no recipient: nobody could open the result")
                .hint("name a public key with --to"));
        }
        Ok(())
    }
}

/// The journal of reencrypting what is in a store for these recipients, in `folder`.
///
/// # Errors
/// What the operating system fails with.
pub fn journal(
    folder: &Path,
    location: &Location,
    identities: &[PrivateKey],
    recipients: &[PublicKey],
) -> Result<Journal> {
    let sorted = |mut ids: Vec<KeyId>| {
        ids.sort_unstable();
        ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    let subject = [
        "sidekey reencrypt 1".to_owned(),
        location.store().show(""),
        sorted(identities.iter().map(PrivateKey::id).collect()),
        sorted(recipients.iter().map(PublicKey::id).collect()),
    ];
    Journal::named(folder, &format!("reencrypt-{:032x}", State::of("", &subject).number()))
}

/// Reencrypts every container at and below a target that a key opens. One that fails does not stop the others; the
/// observer is told of each.
///
/// # Errors
/// `NotFound` when nothing is there; `Permission` when the store says at once that it may not be done; `Usage` without
/// keys; what writing the journal or the report fails with.
pub fn reencrypt(
    target: &Target,
    options: &ReencryptOptions<'_>,
    observer: &dyn Observer,
) -> Result<ReencryptSummary> {
    options.check()?;
    let runtime = runtime::start()?;
    let capabilities = runtime.block_on(target.location.store().capabilities())?;
    if options.encryption.is_customers() && !capabilities.customer_keys {
        return Err(Error::usage("takes no keys of the customer's (SSE-C)").about(target.show()));
    }
    let location = match capabilities.customer_keys {
        true => target.location.unlocked(options.identities)?,
        false => target.location.clone(),
    };
    let rights: &[Right] = match (options.dry_run, options.purge) {
        (true, _) => &[Right::List, Right::Read],
        (false, false) => &[Right::List, Right::Read, Right::Write],
        (false, true) => &[Right::List, Right::Read, Right::Write, Right::Delete],
    };
    runtime.block_on(location.store().require(&location.key(&target.stored_prefix()), rights))?;
    let now = match options.dry_run || !options.purge {
        true => options.now,
        false => runtime.block_on(drive::store_time(&location, options.now))?,
    };
    let run = Reencrypting {
        handle: runtime.handle(),
        location: &location,
        options,
        observer,
        now,
        versions: capabilities.versions,
        large: Mutex::default(),
        tally: Tally::default(),
    };
    if let Some(ledger) = options.ledger {
        ledger.begin(&tell::begin(&target.show(), options))?;
    }
    let listed = look::share(target, capabilities.versions, options.range);
    let entries = futures_util::StreamExt::flatten(futures_util::stream::iter(listed));
    let entries = parallel::waiting(runtime.handle(), Box::pin(entries));
    parallel::for_each(options.jobs.max(1), entries, |entry| run.entry(entry));
    if !run.tally.has_any() && !target.path.is_empty() && options.range.is_all() {
        return Err(look::nothing_at(target));
    }
    run.finish()
}

struct Reencrypting<'a> {
    handle: &'a Handle,
    location: &'a Location,
    options: &'a ReencryptOptions<'a>,
    observer: &'a dyn Observer,
    /// By the store's clock.
    now: SystemTime,
    versions: bool,
    /// Held while a large container is on its way, so that memory stays bounded.
    large: Mutex<()>,
    tally: Tally,
}

/// How one container ended.
#[derive(Debug, Default)]
struct Done {
    /// Whether a new pair was written and proven, or with a dry run: would be.
    reencrypted: bool,
    /// Whether no key opens it.
    not_ours: bool,
    /// Whether an earlier run did it.
    resumed: bool,
    versions: Vec<VersionId>,
    written: Option<VersionId>,
    purged: Vec<VersionId>,
    bytes: u64,
    left: Vec<String>,
}

impl Reencrypting<'_> {
    fn entry(&self, entry: Result<Entry>) {
        if self.tally.is_refused() {
            return;
        }
        match entry {
            Ok(Entry::Pair(pair)) => self.pair(&pair),
            Ok(_) => self.tally.add(|_| {}),
            Err(error) if error.kind() == ErrorKind::Foreign => {}
            Err(error) => self.failed(&error),
        }
    }

    fn pair(&self, pair: &PairEntry) {
        let stored = pair.name.container();
        let containers: Vec<&Object> = pair.containers.iter().filter(|object| !object.marker).collect();
        if containers.is_empty() {
            return self.tally.add(|_| {});
        }
        let key = self.location.container_key(&pair.name);
        let stored = self.location.relative(&key).unwrap_or(&stored).to_owned();
        let done = self.container(&stored, &containers);
        let (shown, versions) = (self.location.show(&stored), ids(&containers));
        let path = Path::new(&shown);
        match done {
            Ok(done) => {
                self.tally.count(&done, self.options.dry_run);
                self.write_down(&tell::line_of(&stored, &done, self.options.dry_run));
                for message in &done.left {
                    self.observer.event(Event::Warning { path, message });
                }
                self.observer.event(match &done {
                    Done { reencrypted: true, .. } => Event::Done { input: path, output: path },
                    Done { resumed: true, .. } => {
                        Event::Skipped { path, why: "an earlier run reencrypted it" }
                    }
                    _ => Event::Skipped { path, why: "is not opened by the keys given" },
                });
            }
            Err(error) => {
                let error = if error.subject().is_some() { error } else { error.about(&*shown) };
                self.write_down(&Line::failed(&stored, &versions, &error));
                if error.kind() == ErrorKind::Refused {
                    self.tally.refuse();
                }
                self.failed(&error);
            }
        }
    }

    /// The current version anew, then what is left of the older ones.
    fn container(&self, stored: &str, listed: &[&Object]) -> Result<Done> {
        let mut done = Done { versions: ids(listed), ..Done::default() };
        let current = listed.iter().find(|object| object.latest);
        if let Some(current) = current {
            let state = State::of(stored, [&current.version]);
            if self.options.journal.is_some_and(|journal| journal.has(&state)) {
                done.resumed = true;
            } else {
                self.current(stored, current, &mut done)?;
            }
        }
        let older = listed.iter().filter(|object| Some(&object.version) != current.map(|now| &now.version));
        for object in older {
            self.older(stored, object, &mut done)?;
        }
        Ok(done)
    }

    /// An older version: its contents stand nowhere else, unless this command replaced it.
    fn older(&self, stored: &str, object: &Object, done: &mut Done) -> Result<()> {
        if done.purged.contains(&object.version) {
            return Ok(());
        }
        let superseded = State::of(stored, [&SUPERSEDED.to_owned(), &object.version]);
        let replaced = self.options.journal.is_some_and(|journal| journal.has(&superseded));
        let Some((data_id, opens)) = self.judge(object)? else {
            done.left.push(format!("its version {} cannot be judged", object.version));
            return Ok(());
        };
        if !opens && !replaced {
            return Ok(());
        }
        let goes = self.options.purge && (replaced || self.options.purge_versions);
        if !goes || self.options.dry_run {
            let message = match (goes, replaced) {
                (true, _) => return Ok(()),
                (false, true) => format!("its older version {} was not to be deleted", object.version),
                (false, false) => format!(
                    "its older version {} has a file key that these keys open, and other contents; it was kept \
                     (--purge-versions deletes such versions)",
                    object.version
                ),
            };
            done.left.push(message);
            return Ok(());
        }
        self.supersede(stored, object, &data_id, done)
    }

    fn supersede(&self, stored: &str, over: &Object, data_id: &crate::DataId, done: &mut Done) -> Result<()> {
        let gone = self.handle.block_on(drive::supersede(self.location, stored, over, data_id, self.now))?;
        done.purged.extend(gone.containers);
        done.left.extend(gone.left);
        self.tally.add(|summary| summary.envelopes += gone.envelopes);
        Ok(())
    }

    fn write_down(&self, line: &Line<'_>) {
        if let Some(ledger) = self.options.ledger {
            ledger.write(line);
        }
    }

    fn failed(&self, error: &Error) {
        self.tally.add(|summary| summary.failed += 1);
        self.observer.event(Event::Failed(error));
    }

    fn finish(self) -> Result<ReencryptSummary> {
        let mut summary = self.tally.into_summary();
        if let Some(journal) = self.options.journal.filter(|_| !self.options.dry_run) {
            journal.finish(false)?;
        }
        if let Some(ledger) = self.options.ledger {
            summary.head = Some(ledger.finish(&summary)?);
        }
        Ok(summary)
    }
}

/// Marks a version in the journal of which a proven new one holds the contents.
const SUPERSEDED: &str = "superseded";

fn ids(objects: &[&Object]) -> Vec<VersionId> {
    objects.iter().map(|object| object.version.clone()).collect()
}
