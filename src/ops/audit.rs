//! `audit`: what a key can still open in a location, old versions included.
//!
//! With the private key at hand it is tried on every entry of every version: labels are not authenticated. With a key id
//! alone there are only labels to go by. Names are not trusted either: only what has an envelope beside it, or is larger
//! than one, is taken for the container that it is called like.

mod beside;

use std::sync::{Mutex, PoisonError};

use futures_util::{StreamExt as _, stream};

use self::beside::{Beside, Seen, is_container};
use crate::crypto::rsa::PrivateKey;
use crate::format::envelope::{self, Block, Content};
use crate::format::{Envelope, header};
use crate::location::argument::Target;
use crate::name::{ObjectName, containers_of, is_envelope_name};
use crate::ops::events::{Event, Observer};
use crate::ops::look::{self, Text};
use crate::ops::{parallel, recipe_files, rights, runtime};
use crate::recipe::{self, DETECT_LEN, KeyFile};
use crate::rewrap::{is_unknown, opens};
use crate::store::{ListOptions, Object, Right};
use crate::{ErrorKind, KeyId, Result};

/// Whose key it is about.
#[derive(Debug)]
pub enum Subject {
    /// The private keys themselves, which are tried.
    Keys(Vec<PrivateKey>),
    /// The beginning of a key id, in lower-case hex digits: labels that begin so are believed.
    Label(String),
}

/// What is known of one version of an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// These keys open it.
    Opens(Vec<KeyId>),
    /// It says that it is for these keys.
    Labelled(Vec<KeyId>),
    /// Whether they do cannot be told, for this reason.
    Unknown(String),
}

/// A version of an envelope that is not known to be free of the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// The object as people write it.
    pub object: String,
    /// Which version of it.
    pub version: String,
    /// Whether that is the newest one.
    pub latest: bool,
    /// What is known of it.
    pub verdict: Verdict,
}

/// What an audit came to. Everything is a number of versions of objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditSummary {
    /// Envelopes and key files looked at.
    pub audited: u64,
    /// Of those, not the newest version.
    pub old_versions: u64,
    /// That a key opens, or that are labelled for it.
    pub opened: u64,
    /// That cannot be judged.
    pub unknown: u64,
    /// That could not be listed or read, or are damaged.
    pub failed: u64,
    /// Other objects, which are no envelopes.
    pub others: u64,
}

/// Audits what stands at and below a target; all of the location with what is sidekey's own in it. The observer is told
/// of each version that is not free of the keys ([`Event::Audited`]).
///
/// # Errors
/// `NotFound` when nothing is there; what starting threads and the store's capabilities fail with.
pub fn audit(
    target: &Target,
    subject: &Subject,
    jobs: usize,
    observer: &dyn Observer,
) -> Result<AuditSummary> {
    let runtime = runtime::start()?;
    runtime.block_on(rights::require(target, &[Right::List, Right::Read]))?;
    let store = target.location.store();
    let at_once = runtime.block_on(store.capabilities())?.concurrency.max(1);
    let run = Auditing { target, subject, observer, summary: Mutex::default() };
    let mut beside = Beside::default();
    let listed = stream::iter(run.listings()).flat_map(|options| store.list(options));
    let objects = listed
        .map(Some)
        .chain(stream::iter([None]))
        .flat_map(move |listed| stream::iter(beside.next(listed)));
    let jobs = jobs.max(1);
    parallel::for_each_future(runtime.handle(), jobs, at_once.div_ceil(jobs), objects, |seen| run.seen(seen));
    let summary = run.summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    match summary == AuditSummary::default() && !target.path.is_empty() {
        true => Err(look::nothing_at(target)),
        false => Ok(summary),
    }
}

struct Auditing<'a> {
    target: &'a Target,
    subject: &'a Subject,
    observer: &'a dyn Observer,
    summary: Mutex<AuditSummary>,
}

impl Auditing<'_> {
    /// What to list: all that is below the folder of the target's name, and what is called like its own pair.
    fn listings(&self) -> Vec<ListOptions> {
        let prefix = self.target.location.key(&self.target.stored_prefix());
        let below = ListOptions { prefix, versions: true, ..ListOptions::default() };
        let pairs = look::names(self.target).into_iter().map(|name| {
            let container = self.target.location.container_key(&name);
            let prefix = container.strip_suffix("enc").unwrap_or(&container).to_owned();
            ListOptions { prefix, delimiter: true, versions: true, after: None }
        });
        pairs.chain([below]).collect()
    }

    async fn seen(&self, seen: Seen) {
        let audited = match seen {
            Seen::Container(object) if self.is_meant(&object.key) => {
                self.count(|summary| summary.others += 1);
                Ok(())
            }
            Seen::Other(object) if self.is_meant(&object.key) => self.object(&object).await,
            Seen::Container(_) | Seen::Other(_) => Ok(()),
            Seen::Failed(error) => Err(error),
        };
        if let Err(error) = audited {
            self.count(|summary| summary.failed += 1);
            self.observer.event(Event::Failed(&error));
        }
    }

    /// Beside the pair of a single file others are listed that begin alike.
    fn is_meant(&self, key: &str) -> bool {
        let is_of = |name: ObjectName| {
            let container = self.target.location.container_key(&name);
            key == container || containers_of(key).contains(&container)
        };
        key.starts_with(&self.target.location.key(&self.target.stored_prefix()))
            || look::names(self.target).into_iter().any(is_of)
    }

    async fn object(&self, object: &Object) -> Result<()> {
        let named = is_envelope_name(&object.key);
        // What is called otherwise may still be a copy of an envelope, if it is not too large to be one.
        let is_other = !named && object.size > envelope::MAX_BYTES as u64;
        if is_other || (is_container(&object.key) && self.begins_like_container(object).await?) {
            self.count(|summary| summary.others += 1);
            return Ok(());
        }
        let verdict = match look::text(&self.target.location, object).await {
            // A private key, a certificate: PEM, and no envelope.
            Ok(Text::Ours(envelope)) if !named && !is_ours(&envelope) => {
                self.count(|summary| summary.others += 1);
                return Ok(());
            }
            Ok(Text::Ours(envelope)) => self.judge(&envelope),
            Ok(Text::Recipe(key_file)) => self.judge_key_file(&key_file),
            Err(error) if named || error.kind() != ErrorKind::Integrity => return Err(error),
            Ok(Text::Container) | Err(_) => {
                self.count(|summary| summary.others += 1);
                return Ok(());
            }
        };
        self.count(|summary| {
            summary.audited += 1;
            summary.old_versions += u64::from(!object.latest);
            match &verdict {
                Some(Verdict::Unknown(_)) => summary.unknown += 1,
                Some(_) => summary.opened += 1,
                None => {}
            }
        });
        if let Some(verdict) = verdict {
            self.observer.event(Event::Audited(&Audited {
                object: self.target.location.show_key(&object.key),
                version: object.version.clone(),
                latest: object.latest,
                verdict,
            }));
        }
        Ok(())
    }

    /// Whether what is called like a container, and has no envelope beside it, is one by its first bytes.
    async fn begins_like_container(&self, object: &Object) -> Result<bool> {
        match look::start(&self.target.location, object, DETECT_LEN as u64).await {
            Ok(first) => Ok(first.starts_with(header::MAGIC) || recipe::detect_container(&first).is_some()),
            // No envelope is kept under a customer's key.
            Err(error) if error.kind() == ErrorKind::Auth => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn judge(&self, envelope: &Envelope) -> Option<Verdict> {
        let found = match self.subject {
            Subject::Keys(keys) => {
                let opening = keys.iter().filter(|key| opens(key, envelope)).map(PrivateKey::id);
                Verdict::Opens(opening.collect())
            }
            Subject::Label(label) => {
                let mut labelled: Vec<KeyId> = envelope.entries().map(|entry| entry.recipient).collect();
                labelled.retain(|recipient| recipient.to_string().starts_with(label));
                labelled.dedup();
                Verdict::Labelled(labelled)
            }
        };
        if matches!(&found, Verdict::Opens(keys) | Verdict::Labelled(keys) if !keys.is_empty()) {
            return Some(found);
        }
        let unknown = envelope.blocks.iter().filter(|block| is_unknown(&block.content)).count();
        (unknown > 0).then(|| {
            Verdict::Unknown(format!("{unknown} of its blocks are of a kind that this version cannot judge"))
        })
    }

    fn judge_key_file(&self, key_file: &KeyFile) -> Option<Verdict> {
        let Subject::Keys(keys) = self.subject else {
            let why =
                "is a key file of the OpenSSL recipe, which has no label: only the private key can tell";
            return Some(Verdict::Unknown(why.into()));
        };
        let opening: Vec<KeyId> = keys
            .iter()
            .filter(|key| recipe_files::opens_to_text(key_file, [*key]))
            .map(PrivateKey::id)
            .collect();
        match (opening.is_empty(), key_file.open(keys)) {
            (false, _) => Some(Verdict::Opens(opening)),
            (true, Ok(_)) => Some(Verdict::Unknown(
                "is a key file of the OpenSSL recipe that opens to bytes which are no text, as a wrong key makes them now \
                 and then"
                    .into(),
            )),
            (true, Err(_)) => None,
        }
    }

    fn count(&self, count: impl FnOnce(&mut AuditSummary)) {
        count(&mut self.summary.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Whether any block has a label of ours, of whichever version.
fn is_ours(envelope: &Envelope) -> bool {
    let foreign =
        |block: &Block| matches!(&block.content, Content::Unknown(label) if !label.starts_with("SIDEKEY"));
    !envelope.blocks.iter().all(foreign)
}
