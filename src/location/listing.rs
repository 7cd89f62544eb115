//! What stands in a location, pair by pair: a store's listing grouped as it comes, in bounded memory.
//!
//! The objects of a name stand apart in the order of bytes: between `x.0123456789abcdef.key.enc`, `x.enc` and
//! `x.key.enc` may stand all of `x.a`. A pair is complete once the listing has passed `x.key.enc`, and is given then. As
//! every pair that is open has a name that the current key begins with, few are.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{BoxStream, Stream, StreamExt as _};

use crate::location::Location;
use crate::location::range::Range;
use crate::location::vault::{self, LongNames};
use crate::name::{ObjectName, RecipeSuffix, containers_of, envelope_name, is_envelope_name};
use crate::store::{ListOptions, Listed, Object};
use crate::{Error, Result};

/// The most objects of one name that are kept: a listing that goes on for ever must not fill the memory.
pub const MOST_OBJECTS: usize = 1 << 16;

const CONTAINER: &str = ".enc";
const ENVELOPE: &str = ".key.enc";

/// Which part of a location to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Only stored names that begin with it: nothing, a folder with a `/` at its end, or a name with a dot.
    stored: String,
    /// Only the pair of this name.
    only: Option<ObjectName>,
    /// Whether folders are listed as themselves, and not what is in them.
    pub one_level: bool,
    /// Whether older versions and delete markers are listed too.
    pub versions: bool,
    /// Only stored names of this range, which are relative to the location. Only what is below a folder has one.
    range: Range,
}

impl Scope {
    /// All that is below the folder with this plain path; the whole location for the empty path.
    pub fn below<S: AsRef<[u8]>>(location: &Location, folder: &[S]) -> Self {
        Self { stored: location.stored_folder(folder), ..Self::default() }
    }

    /// The pair of one name.
    pub fn pair(location: &Location, name: &ObjectName) -> Self {
        let container = location.stored(name);
        let stored = container.strip_suffix("enc").unwrap_or(&container).to_owned();
        Self { stored, only: Some(name.clone()), one_level: true, ..Self::default() }
    }

    /// The part of it whose names, as they are stored below it, are in this range.
    #[must_use]
    pub fn within(self, range: &Range) -> Self {
        Self { range: range.below(&self.stored), ..self }
    }

    /// The same with folders as themselves, or with what is in them.
    #[must_use]
    pub fn with_one_level(self, one_level: bool) -> Self {
        Self { one_level, ..self }
    }

    /// The same with older versions and delete markers, or without.
    #[must_use]
    pub fn with_versions(self, versions: bool) -> Self {
        Self { versions, ..self }
    }
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// What belongs to one name.
    Pair(PairEntry),
    /// A folder, by its stored name with the `/` at its end.
    Folder(String),
    /// An object, or a version of one, with a name that nothing of ours has.
    Foreign(Object),
}

/// All that is there of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairEntry {
    /// The name.
    pub name: ObjectName,
    /// The versions of its container, the newest first; none when there are only envelopes.
    pub containers: Vec<Object>,
    /// The objects, or versions of them, that are called like its envelopes, in the order of their names.
    pub envelopes: Vec<EnvelopeObject>,
    /// Whether something was not listed where one of its objects may stand, for the store failed or a range ends there:
    /// what is not here may be there.
    pub incomplete: bool,
}

/// An object that is called like an envelope. Whose it is says the `Data-Id` inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvelopeObject {
    /// The first 16 hex digits of a data id, where the name has them and is read so; nothing in `NAME.key.enc`.
    pub short: Option<String>,
    /// Whether it is called like an envelope of another container too, which is there.
    pub contested: bool,
    /// The object.
    pub object: Object,
}

impl PairEntry {
    /// The container that readers find: the newest version, unless it is a delete marker.
    pub fn current(&self) -> Option<&Object> {
        self.containers.iter().find(|object| object.latest && !object.marker)
    }
}

/// Lists a part of a location. Pairs come in the order of the names that their second-form envelopes have, all else in
/// its place.
///
/// Items are what the store fails with, in its place; `Integrity` when the store does not keep to its own order, which
/// ends the list, or when a name has more than [`MOST_OBJECTS`] objects.
pub fn list<'a>(location: &'a Location, scope: &Scope) -> Listing<'a> {
    let options = ListOptions {
        prefix: location.key(&scope.stored),
        delimiter: scope.one_level,
        versions: scope.versions,
        after: scope.range.before().map(|before| location.key(&before)),
    };
    Listing {
        location,
        only: scope.only.clone(),
        listed: Some(location.store().list(options)),
        groups: Groups {
            range: scope.range.clone(),
            suffix: location.recipe_suffix().cloned(),
            ..Groups::default()
        },
        ready: VecDeque::new(),
        learning: None,
        names: LongNames::default(),
    }
}

/// The reading of long names: what is known then, and what failed.
type Learning<'a> = BoxFuture<'a, (LongNames, Vec<Error>)>;

/// A part of a location, entry by entry.
#[must_use = "streams do nothing unless polled"]
pub struct Listing<'a> {
    location: &'a Location,
    only: Option<ObjectName>,
    listed: Option<BoxStream<'a, Result<Listed>>>,
    groups: Groups,
    ready: VecDeque<Result<Entry>>,
    /// A line of the listing that waits for the long names in it.
    learning: Option<(Listed, Learning<'a>)>,
    names: LongNames,
}

impl std::fmt::Debug for Listing<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listing").field("location", &self.location).finish_non_exhaustive()
    }
}

impl Stream for Listing<'_> {
    type Item = Result<Entry>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            while let Some(entry) = self.ready.pop_front() {
                if self.is_wanted(&entry) {
                    return Poll::Ready(Some(entry));
                }
            }
            if let Some((_, learning)) = &mut self.learning {
                let Poll::Ready((names, faults)) = learning.poll_unpin(context) else { return Poll::Pending };
                self.names = names;
                self.ready.extend(faults.into_iter().map(Err));
                if let Some((listed, _)) = self.learning.take() {
                    self.accept(Some(Ok(listed)));
                }
                continue;
            }
            let Some(listed) = &mut self.listed else { return Poll::Ready(None) };
            let Poll::Ready(listed) = listed.poll_next_unpin(context) else { return Poll::Pending };
            match listed {
                Some(Ok(listed)) => self.learn(listed),
                listed => self.accept(listed),
            }
        }
    }
}

impl Listing<'_> {
    fn is_wanted(&self, entry: &Result<Entry>) -> bool {
        match (&self.only, entry) {
            (None, _) | (_, Err(_)) => true,
            (Some(only), Ok(Entry::Pair(pair))) => pair.name == *only,
            (Some(_), Ok(_)) => false,
        }
    }

    /// Reads the long names in a line, where it has some that are not known yet, before it is taken.
    fn learn(&mut self, listed: Listed) {
        let location = self.location;
        let key = match &listed {
            Listed::Object(object) => &object.key,
            Listed::Folder(key) => key,
        };
        let unknown =
            location.relative(key).map(|stored| vault::unknown(location, stored)).unwrap_or_default();
        if unknown.is_empty() || self.names.are_missing(&unknown) {
            return self.accept(Some(Ok(listed)));
        }
        let names = std::mem::take(&mut self.names);
        self.learning = Some((listed, names.learn(location, unknown).boxed()));
    }

    /// What the store's listing says next.
    fn accept(&mut self, listed: Option<Result<Listed>>) {
        let key = match &listed {
            None => {
                self.listed = None;
                return self.groups.close_before(None, &mut self.ready);
            }
            Some(Err(_)) => None,
            Some(Ok(Listed::Object(object))) => Some(&object.key),
            Some(Ok(Listed::Folder(key))) => Some(key),
        };
        let stored = key.and_then(|key| self.location.relative(key)).map(ToOwned::to_owned);
        match (listed, stored) {
            (Some(Err(error)), _) => {
                self.groups.fault_is_next = true;
                self.ready.push_back(Err(error));
            }
            (Some(Ok(_)), Some(stored)) if self.groups.range.is_behind(&stored) => {
                self.listed = None;
                self.groups.close_before(None, &mut self.ready);
            }
            (Some(Ok(_)), Some(stored)) if !self.groups.range.has(&stored) => {}
            (Some(Ok(listed)), Some(stored)) => {
                if let Err(error) = self.groups.take(self.location, &stored, listed, &mut self.ready) {
                    self.listed = None;
                    self.ready.push_back(Err(error.about(self.location.show(&stored))));
                }
            }
            // Sidekey's own.
            (Some(Ok(_)), None) | (None, _) => {}
        }
    }
}

/// The names that are open, each under the last name that an object of its can have and that of its container.
#[derive(Debug, Default)]
struct Groups {
    /// What is wanted: of the pairs at its borders some objects are not listed.
    range: Range,
    open: BTreeMap<(String, String), Group>,
    /// How a script called pairs of the OpenSSL recipe.
    suffix: Option<RecipeSuffix>,
    last: String,
    /// The first name behind the last fault of the store, and whether there was one since the last name.
    fault: Option<String>,
    fault_is_next: bool,
}

#[derive(Debug)]
struct Group {
    name: ObjectName,
    containers: Vec<Object>,
    envelopes: Vec<EnvelopeObject>,
    /// Whether something of it was left out.
    cut: bool,
}

impl Group {
    fn len(&self) -> usize {
        self.containers.len() + self.envelopes.len()
    }

    fn has_container(&self) -> bool {
        self.containers.iter().any(|object| !object.marker)
    }
}

impl Groups {
    /// Puts one line of the listing where it belongs; what is complete by it is ready before it.
    fn take(
        &mut self,
        location: &Location,
        stored: &str,
        listed: Listed,
        ready: &mut VecDeque<Result<Entry>>,
    ) -> Result<()> {
        if *stored < *self.last {
            return Err(Error::integrity(
                "is listed behind a name that it comes before: the list is not whole",
            )
            .hint("the store does not keep its own order; nothing that is missing in its list is proven"));
        }
        stored.clone_into(&mut self.last);
        if std::mem::take(&mut self.fault_is_next) {
            self.close_faulty(stored, ready);
        }
        self.close_before(Some(stored), ready);
        match listed {
            Listed::Folder(_) => ready.push_back(Ok(Entry::Folder(stored.to_owned()))),
            Listed::Object(object) if self.is_key_file(stored) => {
                self.key_file(location, stored, object, ready);
            }
            Listed::Object(object) if is_envelope_name(stored) => {
                self.envelope(location, stored, object, ready);
            }
            Listed::Object(object) => match self.name_of(location, stored) {
                Some(name) => self.container(stored, name, object, ready),
                None => ready.push_back(Ok(Entry::Foreign(object))),
            },
        }
        Ok(())
    }

    /// Notes that the store failed somewhere before `stored`, for what is open and what opens later.
    fn close_faulty(&mut self, stored: &str, ready: &mut VecDeque<Result<Entry>>) {
        self.fault_is_next = true;
        self.close_before(Some(stored), ready);
        self.fault_is_next = false;
        self.fault = Some(stored.to_owned());
    }

    /// Whether it is called like a key file of a script's, and the container is there or nothing else has such a name.
    fn is_key_file(&self, stored: &str) -> bool {
        let container = self.suffix.as_ref().and_then(|suffix| suffix.container_of(stored));
        container.is_some_and(|container| {
            !is_envelope_name(stored) || self.group(&container).is_some_and(Group::has_container)
        })
    }

    /// A key file of a script's. Where the recipe calls one so too, and that container is there, it may be either's.
    fn key_file(
        &mut self,
        location: &Location,
        stored: &str,
        object: Object,
        ready: &mut VecDeque<Result<Entry>>,
    ) {
        let Some(container) = self.suffix.as_ref().and_then(|suffix| suffix.container_of(stored)) else {
            return;
        };
        let usual = containers_of(stored).pop().filter(|usual| *usual != container);
        let contested = usual.is_some_and(|usual| self.group(&usual).is_some_and(Group::has_container));
        if contested {
            self.envelope(location, stored, object.clone(), ready);
        }
        let Some(name) = self.name_of(location, &container) else {
            return ready.push_back(Ok(Entry::Foreign(object)));
        };
        if let Some(group) = self.room(&container, name, ready) {
            group.envelopes.push(EnvelopeObject { short: None, contested, object });
        }
    }

    /// The plain name of a container.
    fn name_of(&self, location: &Location, container: &str) -> Option<ObjectName> {
        let plain = self.suffix.as_ref().and_then(|suffix| suffix.plain(container));
        match plain {
            Some(plain) => location.parse(&format!("{plain}{CONTAINER}")),
            None => location.parse(container),
        }
    }

    fn group(&self, container: &str) -> Option<&Group> {
        self.open.get(&(self.last_of(container), container.to_owned()))
    }

    /// The last of the names that the objects of a container's name have.
    fn last_of(&self, container: &str) -> String {
        let usual = last_of(container);
        match self.suffix.as_ref().and_then(|suffix| Some((suffix, suffix.key_prefix(container)?))) {
            Some((suffix, key)) if suffix.has_name() => usual.max(key + LAST).max(container.to_owned()),
            Some((_, key)) => usual.max(key).max(container.to_owned()),
            None => usual,
        }
    }

    fn container(
        &mut self,
        stored: &str,
        name: ObjectName,
        object: Object,
        ready: &mut VecDeque<Result<Entry>>,
    ) {
        if let Some(group) = self.room(stored, name, ready) {
            group.containers.push(object);
        }
    }

    /// The likelier reading comes first: that of a location. The other one counts where its container is there, which
    /// by its name was listed before.
    fn envelope(
        &mut self,
        location: &Location,
        stored: &str,
        object: Object,
        ready: &mut VecDeque<Result<Entry>>,
    ) {
        let readings: Vec<(String, ObjectName)> = containers_of(stored)
            .into_iter()
            .filter_map(|container| self.name_of(location, &container).map(|name| (container, name)))
            .collect();
        let mut contested = false;
        if let [_, (container, name)] = readings.as_slice()
            && self.group(container).is_some_and(Group::has_container)
            && let Some(group) = self.room(container, name.clone(), ready)
        {
            contested = true;
            group.envelopes.push(EnvelopeObject { short: None, contested, object: object.clone() });
        }
        let Some((container, name)) = readings.into_iter().next() else {
            ready.push_back(Ok(Entry::Foreign(object)));
            return;
        };
        let short =
            if envelope_name(&container, None).as_deref() == Some(stored) { None } else { short_of(stored) };
        if let Some(group) = self.room(&container, name, ready) {
            group.envelopes.push(EnvelopeObject { short, contested, object });
        }
    }

    /// The open group of a container's name, if it can hold one object more.
    fn room(
        &mut self,
        container: &str,
        name: ObjectName,
        ready: &mut VecDeque<Result<Entry>>,
    ) -> Option<&mut Group> {
        let new = || Group { name, containers: vec![], envelopes: vec![], cut: false };
        let group = self.open.entry((self.last_of(container), container.to_owned())).or_insert_with(new);
        if group.len() == MOST_OBJECTS && !std::mem::replace(&mut group.cut, true) {
            let error =
                Error::integrity(format!("more than {MOST_OBJECTS} versions and envelopes of one name"))
                    .about(container)
                    .hint("the rest of them is left out");
            ready.push_back(Err(error));
        }
        (group.len() < MOST_OBJECTS).then_some(group)
    }

    /// Gives what the listing has passed, or at its end all.
    fn close_before(&mut self, stored: Option<&str>, ready: &mut VecDeque<Result<Entry>>) {
        while let Some(first) = self.open.first_entry() {
            if stored.is_some_and(|stored| *first.key().0 >= *stored) {
                break;
            }
            let ((last, container), mut group) = first.remove_entry();
            if !group.has_container() {
                // The container that is there has them.
                group.envelopes.retain(|envelope| !envelope.contested);
            }
            let first = container.strip_suffix("enc").unwrap_or(&container);
            let first = match self.suffix.as_ref().and_then(|suffix| suffix.plain(&container)) {
                Some(plain) => plain,
                None => first,
            };
            let faulty = self.fault_is_next || self.fault.as_deref().is_some_and(|fault| first <= fault);
            if group.len() > 0 {
                let Group { name, containers, envelopes, cut } = group;
                let incomplete = faulty || cut || self.range.cuts(first, &last);
                ready.push_back(Ok(Entry::Pair(PairEntry { name, containers, envelopes, incomplete })));
            }
        }
    }
}

/// Comes behind all text.
const LAST: &str = "\u{10ffff}";

/// The last of the names that the objects of a container's name have where nothing else is said.
fn last_of(container: &str) -> String {
    container.strip_suffix(CONTAINER).unwrap_or(container).to_owned() + ENVELOPE
}

/// The data id's digits in the name of an envelope of the first form.
fn short_of(stored: &str) -> Option<String> {
    let (_, short) = stored.strip_suffix(ENVELOPE)?.rsplit_once('.')?;
    Some(short.to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::ErrorKind;
    use crate::store::memory::{Features, MemoryStore};
    use crate::store::{Info, OnlyIf};

    const SHORT: &str = "0123456789abcdef";

    fn store(keys: &[&str]) -> MemoryStore {
        let store = MemoryStore::new(Features { versions: true, conditions: true });
        for key in keys {
            store.state().put(key, Bytes::from_static(b"x"), &OnlyIf::Always, &Info::new()).unwrap();
        }
        store
    }

    fn entries(store: &MemoryStore, prefix: &str, scope: &Scope) -> Vec<Result<Entry>> {
        let location = Location::new(Arc::new(store.clone()), prefix).unwrap();
        futures_util::FutureExt::now_or_never(list(&location, scope).collect()).unwrap()
    }

    /// `x: containers | envelopes`, a `?` behind what is contested, an `!` where the pair is incomplete.
    fn shown(entries: &[Result<Entry>]) -> Vec<String> {
        let show = |entry: &Result<Entry>| match entry {
            Err(error) => format!("error: {:?}", error.kind()),
            Ok(Entry::Folder(stored)) => format!("folder {stored}"),
            Ok(Entry::Foreign(object)) => format!("foreign {}", object.key),
            Ok(Entry::Pair(pair)) => {
                let envelope = |envelope: &EnvelopeObject| {
                    let form = if envelope.short.is_some() { "1" } else { "2" };
                    format!(" {form}{}", if envelope.contested { "?" } else { "" })
                };
                let envelopes: String = pair.envelopes.iter().map(envelope).collect();
                let incomplete = if pair.incomplete { " !" } else { "" };
                format!("{}: {} |{envelopes}{incomplete}", pair.name.container(), pair.containers.len())
            }
        };
        entries.iter().map(show).collect()
    }

    #[test]
    fn what_a_script_called_otherwise_is_one_pair_too() {
        let show = |suffix: &str, keys: &[&str]| {
            let location = Location::new(Arc::new(store(keys)), "").unwrap();
            let location = location.with_recipe_suffix(Some(suffix.parse().unwrap()));
            let listed = list(&location, &Scope::default()).collect::<Vec<_>>();
            let listed = futures_util::FutureExt::now_or_never(listed).unwrap();
            let envelopes = |pair: &PairEntry| {
                let keys = pair.envelopes.iter().map(|envelope| envelope.object.key.as_str());
                keys.collect::<Vec<_>>().join(" ")
            };
            let lines = listed.iter().map(|entry| match entry {
                Ok(Entry::Pair(pair)) => {
                    let container = pair.containers.first().map_or("-", |object| &object.key);
                    format!("{}: {container} | {}", pair.name.container(), envelopes(pair))
                }
                other => format!("{other:?}"),
            });
            lines.collect::<Vec<_>>().join("; ")
        };
        let data = ".data.enc,.key.enc";
        assert_eq!(show(data, &["d/x.data.enc", "d/x.key.enc"]), "d/x.enc: d/x.data.enc | d/x.key.enc");
        assert_eq!(
            show(data, &["x.data.enc", "x.f.enc", "x.key.enc"]),
            "x.f.enc: x.f.enc | ; x.enc: x.data.enc | x.key.enc"
        );
        assert_eq!(show(data, &["x.enc", "x.key.enc"]), "x.enc: x.enc | x.key.enc");
        let both = "x.enc: x.data.enc | x.key.enc; x.enc: x.enc | x.key.enc";
        assert_eq!(show(data, &["x.data.enc", "x.enc", "x.key.enc"]), both);
        let adopted = format!("x.data.{SHORT}.key.enc");
        assert_eq!(show(data, &[&adopted, "x.data.enc"]), format!("x.enc: x.data.enc | {adopted}"));
        let named = ".enc,.key-{name}.enc";
        let keys = ["x.enc", "x.key-a.enc", "x.key-b.enc", "x.key.enc"];
        assert_eq!(show(named, &keys), "x.enc: x.enc | x.key-a.enc x.key-b.enc x.key.enc");
    }

    #[test]
    fn interleaved_names_come_pair_by_pair() {
        let first = |name: &str| format!("{name}.{SHORT}.key.enc");
        let (x, x_a, late) = (first("x"), first("x.a"), "x.ffffffffffffffff.key.enc");
        let keys = ["x.enc", &x, "x.a.enc", &x_a, "x.key.enc", late, "x.key~.enc", "x.txt.enc", "y.enc"];
        let entries = entries(&store(&keys), "", &Scope::default());
        let expected =
            ["x.a.enc: 1 | 1", "x.enc: 1 | 1 1 2", "x.key~.enc: 1 |", "x.txt.enc: 1 |", "y.enc: 1 |"];
        assert_eq!(shown(&entries), expected);
    }

    #[test]
    fn an_envelope_with_two_readings_belongs_to_the_container_that_is_there() {
        let (both, beside) = (format!("x.{SHORT}.key.enc"), format!("x.{SHORT}.enc"));
        let show = |keys: &[&str]| shown(&entries(&store(keys), "", &Scope::default())).join("; ");
        assert_eq!(show(&[&both]), "x.enc: 0 | 1");
        assert_eq!(show(&[&both, "x.enc"]), "x.enc: 1 | 1");
        assert_eq!(show(&[&both, &beside]), format!("{beside}: 1 | 2?"));
        assert_eq!(show(&[&both, &beside, "x.enc"]), format!("{beside}: 1 | 2?; x.enc: 1 | 1?"));
        // Of the first reading no file can have the name.
        assert_eq!(show(&[&format!(".{SHORT}.key.enc")]), format!(".{SHORT}.enc: 0 | 2"));
    }

    #[test]
    fn what_is_not_ours_is_foreign_and_what_is_sidekeys_own_is_left_out() {
        let keys = [".sidekey/vault.json", "a.key.key.enc", "b.txt", "../x.enc", "d/.folder.enc", ".key.enc"];
        let entries = entries(&store(&keys), "", &Scope::default());
        let expected = [
            "foreign ../x.enc",
            "foreign .key.enc",
            "foreign a.key.key.enc",
            "foreign b.txt",
            "d/.folder.enc: 1 |",
        ];
        assert_eq!(shown(&entries), expected);
    }

    #[test]
    fn every_object_is_in_one_of_adjoining_ranges_and_pairs_at_borders_say_so() {
        let first = |name: &str| format!("p/{name}.{SHORT}.key.enc");
        let (x, x_a, x_b) = (first("x"), first("x.a"), first("x-b"));
        let keys = ["p/a.enc", &x, "p/x.enc", &x_a, "p/x.a.enc", "p/x.key.enc", &x_b, "p/z.txt", "q.enc"];
        let store = store(&keys);
        let listed = |from: Option<&str>, until: Option<&str>| {
            let range = Range { from: from.map(ToOwned::to_owned), until: until.map(ToOwned::to_owned) };
            entries(&store, "", &Scope::below(&["p"]).within(&range))
        };
        let objects = |entries: &[Result<Entry>]| -> Vec<String> {
            let of = |entry: &Result<Entry>| match entry.as_ref().unwrap() {
                Entry::Pair(pair) => {
                    let envelopes = pair.envelopes.iter().map(|envelope| &envelope.object);
                    pair.containers.iter().chain(envelopes).map(|object| object.key.clone()).collect()
                }
                Entry::Foreign(object) => vec![object.key.clone()],
                Entry::Folder(_) => vec![],
            };
            entries.iter().flat_map(of).collect()
        };
        let mut whole = objects(&listed(None, None));
        whole.sort();
        let borders =
            ["", "a.enc", "x", "x.", "x.0123", "x.a.", "x.enc", "x.f", "x.key.enc", "x.key.enc0", "y", "zz"];
        for one in borders {
            for other in borders.iter().filter(|other| **other >= one) {
                let shares = [(None, Some(one)), (Some(one), Some(*other)), (Some(*other), None)];
                let mut all: Vec<String> =
                    shares.iter().flat_map(|(from, until)| objects(&listed(*from, *until))).collect();
                all.sort();
                assert_eq!(all, whole, "{one} {other}");
            }
        }
        let shows = |from, until| shown(&listed(from, until)).join("; ");
        assert_eq!(shows(Some("x.enc"), Some("x.f")), "p/x.enc: 1 | !");
        assert_eq!(shows(Some("b"), Some("x.b")), "p/x-b.enc: 0 | 1; p/x.a.enc: 1 | 1; p/x.enc: 0 | 1 !");
    }

    #[test]
    fn one_level_one_folder_and_one_pair() {
        let keys = ["p/a.enc", "p/b/c.enc", "p/b.enc", "p/b.key.enc", "p/b.x.enc", "p/.sidekey/x", "q.enc"];
        let show = |scope: &Scope| shown(&entries(&store(&keys), "p", scope));
        let location = Location::new(Arc::new(store(&keys)), "p").unwrap();
        let top = Scope { one_level: true, ..Scope::default() };
        assert_eq!(show(&top), ["a.enc: 1 |", "b.enc: 1 | 2", "b.x.enc: 1 |", "folder b/"]);
        assert_eq!(show(&Scope::below(&location, &["b"])), ["b/c.enc: 1 |"]);
        let name = ObjectName::file(&["b"]).unwrap();
        assert_eq!(show(&Scope::pair(&location, &name)), ["b.enc: 1 | 2"]);
    }

    #[test]
    fn versions_are_of_one_pair_and_the_newest_is_current() {
        let store = store(&["x.enc", "x.enc", "x.key.enc", "y.enc"]);
        store.state().hide("y.enc").unwrap();
        let scope = Scope { versions: true, ..Scope::default() };
        let entries = entries(&store, "", &scope);
        assert_eq!(shown(&entries), ["x.enc: 2 | 2", "y.enc: 2 |"]);
        let pair = |at: usize| match &entries[at] {
            Ok(Entry::Pair(pair)) => pair.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(pair(0).current().unwrap().version, "2");
        assert_eq!(pair(1).current(), None);
    }

    #[test]
    fn a_fault_makes_the_pairs_around_it_incomplete_and_disorder_ends_the_list() {
        let object = |key: &str| {
            Listed::Object(Object {
                key: key.to_owned(),
                version: "1".into(),
                latest: true,
                marker: false,
                size: 1,
                modified: std::time::UNIX_EPOCH,
                info: None,
            })
        };
        let store = store(&[]);
        let location = Location::new(Arc::new(store), "").unwrap();
        let listed = |lines: Vec<Result<Listed>>| {
            let listing = Listing {
                listed: Some(futures_util::stream::iter(lines).boxed()),
                ..list(&location, &Scope::default())
            };
            shown(&futures_util::FutureExt::now_or_never(listing.collect::<Vec<_>>()).unwrap())
        };
        let fault = || Err(Error::new(ErrorKind::Permission, "cannot be read"));
        let lines = vec![
            Ok(object("a.enc")),
            Ok(object("b.enc")),
            fault(),
            Ok(object("c.key.enc")),
            Ok(object("d.enc")),
            fault(),
        ];
        let expected = [
            "a.enc: 1 |",
            "error: Permission",
            "b.enc: 1 | !",
            "c.enc: 0 | 2 !",
            "error: Permission",
            "d.enc: 1 | !",
        ];
        assert_eq!(listed(lines), expected);
        let lines = vec![Ok(object("b.enc")), Ok(object("a.enc")), Ok(object("c.enc"))];
        assert_eq!(listed(lines), ["error: Integrity"]);
    }

    proptest! {
        /// Whatever names there are, each pair is whole and no object is given to nobody.
        #[test]
        fn every_object_is_in_the_pair_of_its_name(
            names in prop::collection::btree_set("[a.]{1,3}(\\.(0123456789abcdef|f{16}|k|key))?", 1..8),
            forms in prop::collection::vec(0u8..8, 8),
        ) {
            let store = store(&[]);
            let mut keys = std::collections::BTreeSet::new();
            let mut stored = Vec::new();
            for (name, form) in names.iter().zip(forms) {
                let Ok(name) = ObjectName::file(&[name]) else { continue };
                let container = name.container();
                let bare = container.strip_suffix(".enc").unwrap();
                let of_name = [
                    container.clone(),
                    format!("{bare}.key.enc"),
                    format!("{bare}.{SHORT}.key.enc"),
                ];
                keys.extend(of_name.iter().enumerate().filter(|(at, _)| form >> at & 1 == 1).map(|(_, key)| key.clone()));
                stored.push(of_name);
            }
            for key in &keys {
                store.state().put(key, Bytes::new(), &OnlyIf::Always, &Info::new()).unwrap();
            }
            let mut pairs = BTreeMap::new();
            for entry in entries(&store, "", &Scope::default()) {
                if let Ok(Entry::Pair(pair)) = entry {
                    let objects = pair.containers.iter().chain(pair.envelopes.iter().map(|envelope| &envelope.object));
                    let objects: Vec<String> = objects.map(|object| object.key.clone()).collect();
                    prop_assert!(pairs.insert(pair.name.container(), objects).is_none(), "{} twice", pair.name.container());
                }
            }
            for of_name in stored {
                if keys.contains(&of_name[0]) {
                    let expected: Vec<&String> = of_name.iter().filter(|key| keys.contains(*key)).collect();
                    for key in expected {
                        prop_assert!(pairs[&of_name[0]].contains(key), "{key} in {pairs:?}");
                    }
                }
            }
            let given: std::collections::BTreeSet<String> = pairs.into_values().flatten().collect();
            prop_assert_eq!(given, keys);
        }
    }
}
