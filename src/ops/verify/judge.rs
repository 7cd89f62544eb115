//! Whether the halves of a pair are there and belong together: no key is needed.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::format::{Envelope, Header};
use crate::location::cleartext::Cleartext;
use crate::location::listing::{EnvelopeObject, PairEntry};
use crate::location::{Location, vault};
use crate::name::containers_of;
use crate::ops::look::{self, Front, Text};
use crate::ops::verify::Outcome;
use crate::store::Object;
use crate::vault::Info;
use crate::{DataId, Error, ErrorKind, Result};

/// What was found about one object.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) object: Object,
    pub(super) outcome: Outcome,
    /// What is wrong, or why it could not be checked.
    pub(super) error: Option<Error>,
    /// Of a container whose pair is sound.
    pub(super) header: Option<Header>,
    /// What a sound one must be that has no header, because the service alone encrypts it.
    pub(super) cleartext: Option<Arc<Cleartext>>,
    /// Whether it is a container of the OpenSSL recipe, with something that may open it.
    pub(super) is_recipe: bool,
}

impl Found {
    pub(super) fn new(object: &Object, outcome: Outcome, error: Option<Error>) -> Self {
        Self { object: object.clone(), outcome, error, header: None, cleartext: None, is_recipe: false }
    }

    /// Whether its pair is sound, so that a deeper look tells more.
    pub(super) fn is_sound(&self) -> bool {
        self.header.is_some() || self.cleartext.is_some()
    }

    /// Damage, or something that only could not be read.
    pub(super) fn fault(object: &Object, error: Error) -> Self {
        let outcome = match error.kind() {
            ErrorKind::Integrity => Outcome::Damaged,
            _ => Outcome::Unchecked,
        };
        Self::new(object, outcome, Some(error))
    }

    /// Whether another look may say something else: another writer may have been at work in between.
    fn may_change(&self) -> bool {
        match self.outcome {
            Outcome::Ok | Outcome::Foreign => false,
            Outcome::Unchecked => self.error.is_some(),
            _ => true,
        }
    }
}

/// What an object that is called like an envelope turned out to be.
struct Seen<'p> {
    listed: &'p EnvelopeObject,
    what: Result<What>,
}

enum What {
    /// An envelope for these.
    Ours(BTreeSet<DataId>, Envelope),
    /// A key file of the OpenSSL recipe.
    Recipe,
    /// Something else that is called like an envelope.
    Foreign,
}

impl Seen<'_> {
    fn is_for(&self, data_id: &DataId) -> bool {
        matches!(&self.what, Ok(What::Ours(ids, _)) if ids.contains(data_id))
    }
}

/// Judges the pairs of one location.
pub(super) struct Judge<'a> {
    pub(super) location: &'a Location,
    /// Whether the store keeps older versions.
    pub(super) keeps_versions: bool,
    /// Whether these are judged too.
    pub(super) old_versions: bool,
}

impl Judge<'_> {
    /// Judges one pair. What is not sound is listed and judged once more: writers may be at work, and a container that is
    /// replaced between two looks has lost nothing.
    pub(super) async fn judge(&self, pair: &PairEntry) -> Vec<Found> {
        let found = self.look(pair).await;
        if !found.iter().any(Found::may_change) {
            return found;
        }
        match look::again(self.location, &pair.name, self.keeps_versions).await {
            Ok(None) => vec![],
            Ok(Some(again)) => self.look(&again).await,
            // What was found stands, if it can be said at all.
            Err(_) => found,
        }
    }

    async fn look(&self, pair: &PairEntry) -> Vec<Found> {
        let mut seen = Vec::with_capacity(pair.envelopes.len());
        for listed in pair.envelopes.iter().filter(|listed| !listed.object.marker) {
            let what = look::text(self.location, &listed.object).await.map(|text| match text {
                Text::Ours(envelope) => {
                    What::Ours(envelope.entries().map(|entry| entry.data_id).collect(), envelope)
                }
                Text::Recipe(_) => What::Recipe,
                Text::Container => What::Foreign,
            });
            seen.push(Seen { listed, what });
        }
        let mut fronts = Fronts::default();
        let mut found = Vec::new();
        for container in pair.containers.iter().filter(|container| self.is_judged(container)) {
            let front = look::front(self.location, container).await;
            fronts.add(&front);
            found.push(self.container(pair, container, front, &seen));
        }
        let is_spare = |seen: &&Seen<'_>| seen.what.as_ref().is_ok_and(|what| !fronts.need(what));
        if seen.iter().any(|seen| is_spare(&seen)) {
            // Old containers need theirs, judged or not.
            for container in pair.containers.iter().filter(|container| !container.marker) {
                if !self.is_judged(container) {
                    fronts.add(&look::front(self.location, container).await);
                }
            }
        }
        for seen in &seen {
            found.extend(self.envelope(pair, seen, &fronts).await);
        }
        found
    }

    fn is_judged(&self, container: &Object) -> bool {
        !container.marker && (container.latest || self.old_versions)
    }

    fn container(
        &self,
        pair: &PairEntry,
        container: &Object,
        front: Result<Front>,
        seen: &[Seen<'_>],
    ) -> Found {
        let shown = || self.location.show_key(&container.key);
        let missing = |why: String| {
            let mut unread = seen.iter().filter_map(|seen| seen.what.as_ref().err());
            match unread.find(|error| error.kind() != ErrorKind::Integrity) {
                Some(error) => {
                    let error =
                        Error::new(error.kind(), format!("its envelope could not be read: {}", error.line()));
                    Found::new(container, Outcome::Unchecked, Some(error.about(shown())))
                }
                None if pair.incomplete => {
                    let error =
                        Error::new(ErrorKind::Io, "no envelope was listed, but the list is not whole");
                    Found::new(container, Outcome::Unchecked, Some(error.about(shown())))
                }
                None => {
                    let error = Error::integrity(why).about(shown()).hint(
                        "without its envelope nobody can open it: look for one in other copies and put it back under \
                         the name that it has there",
                    );
                    Found::new(container, Outcome::NoEnvelope, Some(error))
                }
            }
        };
        match front {
            Err(error) => Found::fault(container, error),
            Ok(Front::Recipe(_))
                if seen.iter().any(|seen| matches!(seen.what, Ok(What::Ours(..) | What::Recipe))) =>
            {
                Found { is_recipe: true, ..Found::new(container, Outcome::Unchecked, None) }
            }
            Ok(Front::Recipe(_)) => missing("has no key file".into()),
            Ok(Front::Cleartext(cleartext)) if seen.iter().any(|seen| seen.is_for(&cleartext.data_id)) => {
                Found { cleartext: Some(cleartext), ..Found::new(container, Outcome::Ok, None) }
            }
            Ok(Front::Cleartext(cleartext)) => {
                missing(format!("has no envelope for its data id {}", cleartext.data_id))
            }
            Ok(Front::Locked(Some(data_id))) if !seen.iter().any(|seen| seen.is_for(&data_id)) => {
                missing(format!("has no envelope for its data id {data_id}"))
            }
            Ok(Front::Locked(_)) => {
                let error =
                    Error::auth("the service keeps it under a key of its own (SSE-C), which is not at hand");
                Found::fault(container, error.about(shown()).hint(
                    "name the private key of one of its recipients with --identity, or the key with --sse-c-key-file",
                ))
            }
            Ok(Front::Ours(header)) if seen.iter().any(|seen| seen.is_for(&header.data_id())) => {
                match self.record(container, &header, seen) {
                    Ok(_) => Found { header: Some(header), ..Found::new(container, Outcome::Ok, None) },
                    Err(error) => Found::fault(container, error),
                }
            }
            Ok(Front::Ours(header)) => {
                let others =
                    if seen.is_empty() { "" } else { "; those of its name belong to other containers" };
                missing(format!("has no envelope for its data id {}{others}", header.data_id()))
            }
        }
    }

    /// What its info record says, in a vault.
    fn record(&self, container: &Object, header: &Header, seen: &[Seen<'_>]) -> Result<Option<Info>> {
        let envelopes = seen.iter().filter_map(|seen| match &seen.what {
            Ok(What::Ours(_, envelope)) => Some(envelope),
            _ => None,
        });
        vault::check(self.location, &container.key, header, envelopes)
    }

    /// What is wrong with an envelope, if anything is.
    async fn envelope(&self, pair: &PairEntry, seen: &Seen<'_>, fronts: &Fronts) -> Option<Found> {
        let object = &seen.listed.object;
        let what = match &seen.what {
            Ok(What::Foreign) => return Some(Found::new(object, Outcome::Foreign, None)),
            Ok(what) if fronts.need(what) => return None,
            Ok(what) => what,
            // It was removed since it was listed.
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                let copy = Error::new(error.kind(), error.line());
                return Some(Found::fault(object, copy));
            }
        };
        if seen.listed.contested {
            match self.other_needs(seen, what).await {
                // It is judged where it is called like an envelope of the first form.
                _ if seen.listed.short.is_none() => return None,
                Ok(true) => return None,
                Ok(false) => {}
                Err(error) => return Some(Found::fault(object, error)),
            }
        }
        if !fronts.all_read {
            // What is wrong with the container is told already, and the envelope may be its own.
            return None;
        }
        if pair.incomplete {
            let error =
                Error::new(ErrorKind::Io, "no container was listed for it, but the list is not whole");
            return Some(Found::new(object, Outcome::Unchecked, Some(error.about(self.show(object)))));
        }
        let error = match what {
            What::Recipe | What::Foreign => {
                Error::integrity("is a key file of the OpenSSL recipe without its container")
            }
            What::Ours(ids, _) => {
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                Error::integrity(format!("is an envelope without its container (data id {})", ids.join(", ")))
            }
        };
        Some(Found::new(object, Outcome::NoContainer, Some(error.about(self.show(object)))))
    }

    /// Whether the container that the envelope's name may also mean needs it.
    async fn other_needs(&self, seen: &Seen<'_>, what: &What) -> Result<bool> {
        let stored = self.location.relative(&seen.listed.object.key).unwrap_or_default();
        let Some(name) = containers_of(stored).get(1).and_then(|container| self.location.parse(container))
        else {
            return Ok(false);
        };
        let mut fronts = Fronts::default();
        if let Some(pair) = look::again(self.location, &name, self.keeps_versions).await? {
            for container in pair.containers.iter().filter(|container| !container.marker) {
                fronts.add(&Ok(look::front(self.location, container).await?));
            }
        }
        Ok(fronts.need(what))
    }

    fn show(&self, object: &Object) -> String {
        self.location.show_key(&object.key)
    }
}

/// What the containers of one name need.
struct Fronts {
    ids: BTreeSet<DataId>,
    recipe: bool,
    /// Whether none of them was unreadable.
    all_read: bool,
}

impl Default for Fronts {
    fn default() -> Self {
        Self { ids: BTreeSet::new(), recipe: false, all_read: true }
    }
}

impl Fronts {
    fn add(&mut self, front: &Result<Front>) {
        match front {
            Ok(Front::Ours(header)) => {
                self.ids.insert(header.data_id());
            }
            Ok(Front::Cleartext(cleartext)) => {
                self.ids.insert(cleartext.data_id);
            }
            Ok(Front::Recipe(_)) => self.recipe = true,
            Ok(Front::Locked(hint)) => {
                self.ids.extend(hint);
                self.all_read = false;
            }
            Err(_) => self.all_read = false,
        }
    }

    /// A file of the recipe may have been adopted: any envelope of its name may be its own.
    fn need(&self, what: &What) -> bool {
        match what {
            What::Ours(ids, _) => self.recipe || !self.ids.is_disjoint(ids),
            What::Recipe => self.recipe,
            What::Foreign => false,
        }
    }
}
