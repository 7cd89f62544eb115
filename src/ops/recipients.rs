//! `recipients`: for whom the envelopes of a location say that they are. (Adding and removing some is
//! [`super::rotate`]'s work, with keys that stay.)

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use futures_util::{StreamExt as _, stream};

use crate::location::argument::Target;
use crate::location::listing::{Entry, PairEntry};
use crate::location::range::Range;
use crate::ops::events::{Event, Observer};
use crate::ops::look::{self, Text};
use crate::ops::{parallel, runtime};
use crate::store::Object;
use crate::{Error, KeyId, Result};

/// How many versions of envelopes say that they are for one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Newest versions.
    pub envelopes: u64,
    /// Older ones.
    pub old_versions: u64,
}

/// For whom the envelopes of a location are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recipients {
    /// Each key that an entry names. Labels are not authenticated.
    pub keys: BTreeMap<KeyId, Share>,
    /// All envelopes, and all older versions of them.
    pub all: Share,
    /// Key files of the OpenSSL recipe, which name nobody; older versions too.
    pub recipe: u64,
    /// Versions that could not be read.
    pub failed: u64,
}

/// Counts the recipients of the envelopes at and below a target, of those in a range of stored names. The observer is told of what cannot be read.
///
/// # Errors
/// `NotFound` when nothing is there; what starting threads and the store's capabilities fail with.
pub fn recipients(
    target: &Target,
    range: &Range,
    jobs: usize,
    observer: &dyn Observer,
) -> Result<Recipients> {
    let runtime = runtime::start()?;
    let at_once = runtime.block_on(target.location.store().capabilities())?.concurrency.max(1);
    let run = Counting { target, observer, found: Mutex::default() };
    let jobs = jobs.max(1);
    let entries = stream::iter(look::share(target, true, range)).flatten();
    parallel::for_each_future(runtime.handle(), jobs, at_once.div_ceil(jobs), entries, |entry| {
        run.entry(entry)
    });
    let found = run.found.into_inner().unwrap_or_else(PoisonError::into_inner);
    match found == Recipients::default() && !target.path.is_empty() && range.is_all() {
        true => Err(look::nothing_at(target)),
        false => Ok(found),
    }
}

struct Counting<'a> {
    target: &'a Target,
    observer: &'a dyn Observer,
    found: Mutex<Recipients>,
}

impl Counting<'_> {
    async fn entry(&self, entry: Result<Entry>) {
        let pair = match entry {
            Ok(Entry::Pair(pair)) => pair,
            Ok(_) => return,
            Err(error) => return self.failed(&error),
        };
        let PairEntry { envelopes, .. } = pair;
        // One that two containers may have is counted with the one that is there.
        let mine = envelopes.into_iter().filter(|envelope| !(envelope.contested && envelope.short.is_some()));
        for object in mine.map(|envelope| envelope.object).filter(|object| !object.marker) {
            match look::text(&self.target.location, &object).await {
                Ok(text) => self.count(&object, &text),
                Err(error) => self.failed(&error),
            }
        }
    }

    fn count(&self, object: &Object, text: &Text) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let envelope = match text {
            Text::Ours(envelope) => envelope,
            Text::Recipe(_) => {
                found.recipe += 1;
                return;
            }
            Text::Container => return,
        };
        let add = |share: &mut Share| match object.latest {
            true => share.envelopes += 1,
            false => share.old_versions += 1,
        };
        add(&mut found.all);
        let mut seen: Vec<KeyId> = vec![];
        for entry in envelope.entries() {
            if !seen.contains(&entry.recipient) {
                seen.push(entry.recipient);
                add(found.keys.entry(entry.recipient).or_default());
            }
        }
    }

    fn failed(&self, error: &Error) {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).failed += 1;
        self.observer.event(Event::Failed(error));
    }
}
