//! Lists that go on behind what was listed, and give nothing twice.
//!
//! A list can begin behind a key and nowhere else: after a break the versions of one key come again from the newest.
//! Those that were given are left out, and what was written since stays out as it would have without the break.

use std::collections::{HashSet, VecDeque};

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};

use super::{Retry, Tries};
use crate::store::{ListOptions, Listed, Object, Store, Unfinished, VersionId};
use crate::{Error, ErrorKind, Result};

impl<S: Store + ?Sized + 'static> Retry<S> {
    /// [`Store::list`], begun again behind the last key when it breaks.
    pub(super) fn listing(&self, options: ListOptions) -> BoxStream<'_, Result<Listed>> {
        let tries = self.stream("listing", &options.prefix);
        let place = Place::new(&options);
        let listing = Listing { retry: self, options, place, items: None, tries, ended: false };
        stream::unfold(listing, |mut listing| async { listing.next().await.map(|item| (item, listing)) })
            .boxed()
    }

    /// [`Store::unfinished`], begun again when it breaks.
    pub(super) fn all_unfinished(&self, prefix: &str) -> BoxStream<'_, Result<Unfinished>> {
        let (prefix, tries) = (prefix.to_owned(), self.stream("listing unfinished uploads", prefix));
        let listing = UnfinishedListing {
            retry: self,
            prefix,
            items: None,
            tries,
            seen: HashSet::new(),
            errors: Errors::default(),
        };
        stream::unfold(listing, |mut listing| async { listing.next().await.map(|item| (item, listing)) })
            .boxed()
    }
}

struct Listing<'a, S: ?Sized> {
    retry: &'a Retry<S>,
    options: ListOptions,
    place: Place,
    /// Nothing before the first item and after a break.
    items: Option<BoxStream<'a, Result<Listed>>>,
    tries: Tries,
    ended: bool,
}

impl<S: Store + ?Sized + 'static> Listing<'_, S> {
    async fn next(&mut self) -> Option<Result<Listed>> {
        loop {
            if let Some(listed) = self.place.ready.pop_front() {
                return Some(Ok(listed));
            }
            if self.ended {
                return None;
            }
            let (retry, place, options) = (self.retry, &self.place, &self.options);
            let items = self.items.get_or_insert_with(|| retry.inner.list(place.rest(options)));
            match items.next().await {
                Some(Ok(listed)) => {
                    if self.place.accept(listed) {
                        self.tries.progress();
                    }
                }
                Some(Err(error)) if is_passing(&error) => match self.tries.failed(error, true).await {
                    Ok(()) => {
                        self.items = None;
                        self.place.restart();
                    }
                    // The list itself may know how to go on behind it.
                    Err(error) => return Some(Err(error)),
                },
                Some(Err(error)) => {
                    if self.place.errors.is_new(&error) {
                        return Some(Err(error));
                    }
                }
                None => {
                    self.place.release();
                    self.ended = true;
                }
            }
        }
    }
}

fn is_passing(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Transient | ErrorKind::Unsure)
}

/// How far a list has come.
struct Place {
    versions: bool,
    /// All up to this key was given, and nothing behind it but what follows.
    after: Option<String>,
    /// The last folder: a list that begins behind its name may begin with it again.
    folder: Option<String>,
    /// With versions: the key whose versions are coming, and those of them that were given.
    key: Option<String>,
    given: HashSet<VersionId>,
    /// Whether the versions of `key` come again and none that was given has come yet.
    replaying: bool,
    /// Those that come before any that was given: written since the list began, unless all that was given is gone.
    held: Vec<Object>,
    errors: Errors,
    /// What comes next.
    ready: VecDeque<Listed>,
}

impl Place {
    fn new(options: &ListOptions) -> Self {
        Self {
            versions: options.versions,
            after: options.after.clone(),
            folder: None,
            key: None,
            given: HashSet::new(),
            replaying: false,
            held: Vec::new(),
            errors: Errors::default(),
            ready: VecDeque::new(),
        }
    }

    /// What to list from here.
    fn rest(&self, options: &ListOptions) -> ListOptions {
        ListOptions { after: self.after.clone(), ..options.clone() }
    }

    fn restart(&mut self) {
        self.replaying = self.key.is_some();
        self.held.clear();
        self.errors.restart();
    }

    /// Takes an item, and says whether it brings the list on.
    fn accept(&mut self, listed: Listed) -> bool {
        let (Listed::Object(Object { key: name, .. }) | Listed::Folder(name)) = &listed;
        if self.key.as_ref().is_some_and(|key| name < key) {
            return false; // Written since, where the list has been already.
        }
        match &listed {
            Listed::Folder(folder) => {
                self.release();
                if self.folder.as_ref() == Some(folder) {
                    return false;
                }
                self.folder = Some(folder.clone());
                self.stand_behind(folder.clone());
            }
            Listed::Object(object) if !self.versions => self.stand_behind(object.key.clone()),
            Listed::Object(object) if self.key.as_ref() == Some(&object.key) => {
                if self.given.contains(&object.version) {
                    self.held.clear();
                    self.replaying = false;
                    return false;
                }
                if self.replaying {
                    self.held.push(object.clone());
                    return false;
                }
                self.given.insert(object.version.clone());
                self.errors.within_key();
            }
            Listed::Object(object) => {
                self.release();
                if let Some(done) = self.key.replace(object.key.clone()) {
                    self.after = Some(done);
                }
                self.given = HashSet::from([object.version.clone()]);
                self.errors.next_key();
            }
        }
        self.ready.push_back(listed);
        true
    }

    /// Nothing of this key, or below this folder, is to come again.
    fn stand_behind(&mut self, key: String) {
        self.after = Some(key);
        self.key = None;
        self.given.clear();
        self.errors.behind();
    }

    /// The versions of the key are over: what was held back is all that is left of it.
    fn release(&mut self) {
        self.replaying = false;
        self.ready.extend(self.held.drain(..).map(Listed::Object));
    }
}

/// The errors that stand in their places in a list, which come again when it is begun again.
#[derive(Default)]
struct Errors {
    /// Those since the place where it would be begun again.
    since_place: Vec<String>,
    /// Those since the last item.
    since_item: Vec<String>,
    /// Those that are to come again.
    awaited: Vec<String>,
}

impl Errors {
    fn is_new(&mut self, error: &Error) -> bool {
        let line = error.line();
        if let Some(at) = self.awaited.iter().position(|awaited| *awaited == line) {
            self.awaited.swap_remove(at);
            return false;
        }
        self.since_place.push(line.clone());
        self.since_item.push(line);
        true
    }

    fn restart(&mut self) {
        self.awaited.clone_from(&self.since_place);
    }

    fn within_key(&mut self) {
        self.since_item.clear();
        self.awaited.clear();
    }

    fn next_key(&mut self) {
        self.since_place = std::mem::take(&mut self.since_item);
        self.awaited.clear();
    }

    fn behind(&mut self) {
        *self = Self::default();
    }
}

struct UnfinishedListing<'a, S: ?Sized> {
    retry: &'a Retry<S>,
    prefix: String,
    items: Option<BoxStream<'a, Result<Unfinished>>>,
    tries: Tries,
    seen: HashSet<(String, String)>,
    errors: Errors,
}

impl<S: Store + ?Sized + 'static> UnfinishedListing<'_, S> {
    async fn next(&mut self) -> Option<Result<Unfinished>> {
        loop {
            let retry = self.retry;
            let items = self.items.get_or_insert_with(|| retry.inner.unfinished(&self.prefix));
            match items.next().await? {
                Ok(found) => {
                    if self.seen.insert((found.key.clone(), found.id.clone())) {
                        self.tries.progress();
                        return Some(Ok(found));
                    }
                }
                Err(error) if is_passing(&error) => {
                    if let Err(error) = self.tries.failed(error, true).await {
                        return Some(Err(error));
                    }
                    self.items = None;
                    self.errors.restart();
                }
                Err(error) => {
                    if self.errors.is_new(&error) {
                        return Some(Err(error));
                    }
                }
            }
        }
    }
}
